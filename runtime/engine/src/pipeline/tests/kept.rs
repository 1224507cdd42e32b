//! State: written with the transaction that it is of, a record for each key, and kept once that is committed.

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
fn a_commit_holds_the_last_value_of_each_key_and_waits_for_every_record() {
    check_ready(
        "pub 10 0 $a=1 $b=1 => -
        pub 11 1 $a=2 $b- #x => t1
        pub 10 0 p=1 $a=9 => -
        at 100
        ack t1
        tick => keep t2 of 0 a=2 b-, mark t3 of 0 x, keep t4 of 1 a=9
        ack t2
        ack t3
        ack t4
        takes => false
        ack t2 => commit 1: 0@12 s1 1@11 s1
        done 1 => marked 0 x, kept 0 a=2 b-, kept 1 a=9
        pub 12 0 $a=3 => -
        at 200
        tick => keep t5 of 0 a=3
        ack t5 => commit 2: 0@13 s2
        done 2 => kept 0 a=3",
    );
}

#[test]
fn state_of_a_transaction_that_is_given_up_is_kept_by_nobody() {
    check_ready(
        "pub 10 0 $a=1 => -
        at 100
        tick => keep t1 of 0 a=1
        ack t1 => commit 1: 0@11 s1 1@10 s1
        doubt 1 => given up: doubt, pause 0, pause 1
        pub 11 0 $a=2 => -
        tick => renew
        renewed ok => restart 0 or 10 1 or 10
        ack t1
        open 0 2 10 => resume 0
        recv 0 2 10 14
        pub 10 0 e=2 $b=1 => -
        at 200
        tick => keep t2 of 0 b=1
        ack t2 => commit 2: 0@11 s1
        done 2 => kept 0 b=1",
    );
}

#[test]
fn state_that_is_not_taken_holds_its_partition_back_until_a_commit_has_it() {
    check_ready(
        "pub 10 0 $a=1 => -
        pub 10 0 p=1 $b=1 => -
        at 100
        tick => keep t1 of 0 a=1, keep t2 of 1 b=1
        never t1 large => given up: its state: large, pause 0, blocked 0 by output: its state: large, pause 1
        tick => renew
        renewed ok => restart 1 or 10
        open 1 2 10 => resume 1
        recv 1 2 10 14
        pub 10 0 p=1 e=2 $b=1 => -
        at 110
        tick => restart 0 or 10, keep t3 of 1 b=1
        open 0 2 10 => resume 0
        recv 0 2 10 14
        ack t3 => commit 1: 0@10 s1 1@11 s1
        done 1 => kept 1 b=1
        pub 10 0 e=2 $a=1 => -
        at 210
        tick => keep t4 of 0 a=1
        ack t4 => commit 2: 0@11 s2
        done 2 => kept 0 a=1, unblocked 0",
    );
}

#[test]
fn a_message_that_can_not_be_written_does_not_run_again_and_changes_nothing() {
    check_ready(
        "pub 10 1 $a=1 => t1
        pub 11 0 $a=2 => -
        never t1 large
        at 100
        tick => given up: the message at offset 10 can't be written, pause 0
        tick => renew
        renewed ok => condemn 0 10, restart 0 or 10
        open 0 2 10 => resume 0
        recv 0 2 10 14
        dead 10 e=2 $a=1 => letter t2
        pub 11 0 e=2 $a=1 => -
        at 200
        ack t2 => free 0@2:10
        tick => keep t3 of 0 a=1
        ack t3 => commit 1: 0@12 s1 1@10 s1
        done 1 => kept 0 a=1",
    );
}

#[test]
fn what_has_ended_is_deleted_unless_the_transaction_changes_it_anyway() {
    check_ready(
        "pub 10 0 $a=1 => -
        expired 0 a b => true
        expired 1 c => true
        pub 10 0 p=1 $c=1 => -
        at 100
        tick => keep t1 of 0 a=1 b-, keep t2 of 1 c=1
        expired 0 d => false
        ack t1
        ack t1
        ack t2 => commit 1: 0@11 s1 1@11 s1
        expired 0 d => false
        done 1 => kept 0 a=1 b-, kept 1 c=1
        expired 0 d => true
        at 200
        tick => keep t3 of 0 d-
        ack t3 => commit 2: 0@11 s2
        done 2 => kept 0 d-
        revoke 0 => close 0@1
        expired 0 e => false",
    );
}

#[test]
fn of_each_key_only_the_first_message_that_can_not_be_written_is_condemned_at_a_time() {
    // Those behind it ran on what it left, and that never was.
    check_ready(
        "pub 10 1 l=7 $a=1 => t1
        pub 11 1 l=7 $a=2 => t2
        pub 12 1 l=8 $b=1 => t3
        never t2 large
        never t1 large
        never t3 large
        at 100
        tick => given up: the message at offset 11 can't be written, pause 0
        tick => renew
        renewed ok => condemn 0 10 12, restart 0 or 10",
    );
}

#[test]
fn state_of_an_assignment_that_is_over_is_kept_by_nobody_when_it_is_known_to_be_committed() {
    check_ready(
        "pub 10 0 $a=1 => -
        pub 10 0 p=1 $b=1 => -
        at 100
        tick => keep t1 of 0 a=1, keep t2 of 1 b=1
        ack t1
        ack t2 => commit 1: 0@11 s1 1@11 s1
        lost 0 => close 0@1
        open 0 2 12
        done 1 => kept 1 b=1",
    );
}
