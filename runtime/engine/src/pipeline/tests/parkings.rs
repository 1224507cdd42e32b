//! Parked messages: written, and taken back, in the transaction that moves their offset or holds their effects.

use super::*;

const READY: &str = "
    state
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
fn a_parked_message_settles_when_its_record_is_acknowledged_and_is_parked_once_that_is_committed() {
    check_ready(
        "park 10 1 #a => park t1
        pub 11 0 => -
        at 100
        tick
        takes => false
        ack t1 => commit 1: 0@12 s1 1@10 s1
        done 1 => parked 0@1 10:1",
    );
}

#[test]
fn a_parked_message_that_is_done_leaves_a_tombstone_and_moves_no_offset() {
    check_ready(
        "pub 4 1 q=7 #a => t1
        ack t1
        at 100
        tick => unpark t2 of 0 4, mark t3 of 0 a
        ack t2
        ack t3 => commit 1: 0@10 s1 1@10 s1
        done 1 => marked 0 a, parked 0@1 4:7-",
    );
}

#[test]
fn every_end_but_another_parking_leaves_a_tombstone() {
    check_ready(
        "pub 4 0 q=1 => -
        twin 5 - q=2
        dead 6 q=3 => letter t1
        park 7 4 q=4 => park t2
        ack t1 => free 0@1:6
        ack t2
        at 100
        tick => unpark t3 of 0 4 5 6
        ack t3
        ack t3
        takes => false
        ack t3 => commit 1: 0@10 s1 1@10 s1
        done 1 => parked 0@1 4:1- 5:2- 6:3- 7:4",
    );
}

#[test]
fn what_is_known_to_be_parked_settles_and_marks_nothing() {
    check_ready(
        "known 10 #a
        at 100
        tick => commit 1: 0@11 s1 1@10 s1
        done 1",
    );
}

#[test]
fn nothing_is_parked_by_a_transaction_that_is_given_up() {
    check_ready(
        "park 10 1 => park t1
        pub 4 0 q=7 => -
        ack t1
        at 100
        tick => unpark t2 of 0 4
        ack t2 => commit 1: 0@11 s1 1@10 s1
        doubt 1 => given up: doubt, pause 0, pause 1
        tick => renew
        renewed ok => restart 0 or 10 1 or 10
        open 0 2 10 => resume 0
        open 1 2 10 => resume 1
        recv 0 2 10 10
        pub 10 0 e=2 => -
        at 200
        tick => commit 2: 0@11 s1
        done 2",
    );
}

#[test]
fn a_retry_topic_that_takes_nothing_holds_its_partition_back() {
    check_ready(
        "park 10 1 => park t1
        busy t1 missing => given up: missing, pause 0, blocked 0 by output: missing
        tick => renew
        renewed ok
        pub 10 0 p=1 => -
        at 100
        tick => restart 0 or 10, commit 1: 1@11 s1",
    );
}

#[test]
fn tombstones_that_are_not_taken_hold_their_partition_back() {
    check_ready(
        "pub 4 0 q=7 => -
        at 100
        tick => unpark t1 of 0 4
        busy t1 forbidden => given up: its parked messages: forbidden, pause 0, blocked 0 by output: its parked messages: forbidden
        tick => renew
        renewed ok",
    );
}

#[test]
fn a_verdict_on_a_parked_message_outlives_the_commit_of_its_offset() {
    check_ready(
        "pub 4 1 q=7 => t1
        never t1 large
        at 100
        tick => given up: the message at offset 4 can't be written, pause 0
        tick => renew
        renewed ok => condemn 0 4, restart 0 or 10
        open 0 2 10 => resume 0
        recv 0 2 10 14
        pub 10 0 e=2 => -
        at 200
        tick => commit 1: 0@11 s1 1@10 s1
        done 1
        dead 4 e=2 q=7 => letter t2
        ack t2 => free 0@2:4
        at 300
        tick => unpark t3 of 0 4
        ack t3 => commit 2: 0@11 s2
        done 2 => parked 0@2 4:7-
        pub 11 0 e=2 => -
        takes => true",
    );
}

#[test]
fn a_commit_says_that_its_partition_parks_from_the_first_parked_message_on() {
    let rig = check_ready(
        "park 10 1 => park t1
        pub 10 0 p=1 => -
        at 100
        tick
        ack t1 => commit 1: 0@11 s1 1@11 s1
        done 1 => parked 0@1 10:1
        pub 11 0 => -
        pub 11 0 p=1 => -
        at 200
        tick => commit 2: 0@12 s2 1@12 s2
        done 2",
    );
    assert_eq!(rig.say_parked, [[true, false], [true, false]]);
}

#[test]
fn a_dead_letter_and_its_mark_are_in_one_transaction_and_the_mark_leaves_without_effects() {
    check_ready(
        "lead 4 1 3 #a => letter t1, park t1
        ack t1
        at 100
        tick => mark t2 of 0 a
        ack t2
        ack t1 => free 0@1:4, commit 1: 0@10 s1 1@10 s1
        done 1 => marked 0 a, parked 0@1 4:1
        dead 5 q=2 => letter t3
        buried 4 q=1 #a
        ack t3 => free 0@1:5
        at 200
        tick => unpark t4 of 0 5 4
        ack t4
        ack t4 => commit 2: 0@10 s2
        done 2 => parked 0@1 5:2- 4:1-",
    );
}

#[test]
fn a_letter_with_a_mark_that_is_too_large_goes_short_and_then_alone() {
    check_ready(
        "lead 4 1 3 => letter t1, park t1
        never t1 large
        at 100
        tick => given up: the message at offset 4 can't be written, pause 0
        tick => renew
        renewed ok => restart 0 or 10
        open 0 2 10 => resume 0
        recv 0 2 10 14
        lead 4 1 3 e=2 => short letter t2, park t2
        never t2 large
        at 200
        tick => given up: the message at offset 4 can't be written, pause 0
        tick => renew
        renewed ok => condemn 0 4, restart 0 or 10",
    );
}
