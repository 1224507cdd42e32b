//! Seen ids: written with the transaction that they are of, and counted once it is committed.

use super::*;

const READY: &str = "
    dedup
    tick => renew
    open 0 1 10
    open 1 1 10
    recv 0 1 10 14
    recv 1 1 10 14
    renewed ok
";

#[track_caller]
fn check_ready(script: &str) -> Rig {
    check(&format!("{READY}{script}"))
}

#[test]
fn a_commit_holds_the_ids_of_what_it_covers_and_waits_for_them() {
    check_ready(
        "pub 10 1 #a => t1
        pub 11 0 #b => -
        pub 10 1 p=1 #c => t2
        ack t1
        at 100
        tick => mark t3 of 0 a b, mark t4 of 1 c
        ack t3
        ack t2
        takes => false
        ack t4 => commit 1: 0@12 s1 1@11 s1
        ack t4
        done 1 => marked 0 a b, marked 1 c
        pub 12 0 #d => -
        at 200
        tick => mark t5 of 0 d
        ack t5 => commit 2: 0@13 s2
        done 2 => marked 0 d",
    );
}

#[test]
fn a_message_without_id_and_a_duplicate_mark_nothing() {
    check_ready(
        "pub 10 0 => -
        pub 11 0 #a => -
        twin 12 11 #a
        twin 13 - #b
        dead 14 #c => letter t1
        at 100
        ack t1 => free 0@1:14
        tick => mark t2 of 0 a c
        ack t2 => commit 1: 0@15 s1 1@10 s1
        done 1 => marked 0 a c",
    );
}

#[test]
fn ids_of_a_transaction_that_is_given_up_are_marked_by_nobody() {
    check_ready(
        "pub 10 0 #a => -
        at 100
        tick => mark t1 of 0 a
        ack t1 => commit 1: 0@11 s1 1@10 s1
        doubt 1 => given up: doubt, pause 0, pause 1
        tick => renew
        renewed ok => restart 0 or 10 1 or 10
        ack t1
        open 0 2 10 => resume 0
        recv 0 2 10 14
        pub 11 0 e=2 #b => -
        at 200
        tick => mark t2 of 0 b
        ack t2 => commit 2: 0@10[11..12] s1
        done 2 => marked 0 b",
    );
}

#[test]
fn marks_that_are_not_taken_now_hold_their_partition_back_until_a_commit_has_them() {
    check_ready(
        "pub 10 0 #a => -
        pub 10 0 p=1 #b => -
        at 100
        tick => mark t1 of 0 a, mark t2 of 1 b
        ack t2
        busy t1 gone => given up: its seen ids: gone, pause 0, blocked 0 by output: its seen ids: gone, pause 1
        tick => renew
        renewed ok => restart 1 or 10
        open 1 2 10 => resume 1
        recv 1 2 10 14
        pub 10 0 p=1 e=2 #b => -
        at 110
        tick => restart 0 or 10, mark t3 of 1 b
        open 0 2 10 => resume 0
        recv 0 2 10 14
        ack t3 => commit 1: 0@10 s1 1@11 s1
        done 1 => marked 1 b
        pub 10 0 e=2 #a => -
        at 210
        tick => mark t4 of 0 a
        ack t4 => commit 2: 0@11 s2
        done 2 => marked 0 a, unblocked 0",
    );
}

#[test]
fn ids_that_are_too_many_for_one_record_go_into_several() {
    let rig = check_ready(
        "pub 10 0 #a => -
        pub 11 0 #b => -
        pub 12 0 #c => -
        at 100
        tick => mark t1 of 0 a b c
        never t1 large => given up: 3 seen ids are too much for one record: large, pause 0
        tick => renew
        renewed ok => restart 0 or 10
        open 0 2 10 => resume 0
        recv 0 2 10 14
        pub 10 0 e=2 #a => -
        pub 11 0 e=2 #b => -
        pub 12 0 e=2 #c => -
        at 200
        tick => mark t2 of 0 a b, mark t3 of 0 c
        ack t2
        ack t3 => commit 1: 0@13 s1 1@10 s1
        done 1 => marked 0 a b, marked 0 c",
    );
    assert_eq!(rig.pipeline.publications(), 0);
}

#[test]
fn a_partition_is_given_up_with_its_ids() {
    check_ready(
        "pub 10 0 #a => -
        revoke 0 => close 0@1
        drained 0 1
        drained 0 1 => mark t1 of 0 a
        ack t1 => commit 1: 0@11 s1 1@10 s1
        done 1 => marked 0 a, release 0
        released",
    );
}

#[test]
fn no_marks_are_written_into_a_transaction_that_can_not_be_committed() {
    check_ready(
        "pub 10 1 #a => t1
        pub 11 1 #b => t2
        never t1 large
        at 100
        tick
        ack t2 => given up: the message at offset 10 can't be written, pause 0
        tick => renew",
    );
}
