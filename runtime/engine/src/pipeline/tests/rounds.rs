//! At least once with ids and state: state first, then ids, then offsets, each when all before is written.

use super::*;

const READY: &str = "
    rounds
    open 0 1 10
    open 1 1 10
    recv 0 1 10 14
    recv 1 1 10 14
";

#[track_caller]
fn check_ready(script: &str) -> Rig {
    check(&format!("{READY}{script}"))
}

#[test]
fn each_step_waits_for_all_of_the_one_before() {
    check_ready(
        "pub 10 1 #a $k=1 => t1
        pub 11 0 #b $k=2 $m- => -
        at 100
        tick => keep t2 of 0 k=2 m-
        ack t1
        ack t2
        ack t2 => kept 0 k=2 m-, mark t3 of 0 b
        ack t3 => marked 0 b, commit 1: 0@10[11..12] s1 1@10 s1
        commit 1 ok
        at 200
        tick => keep t4 of 0 k=1
        ack t4 => kept 0 k=1, mark t5 of 0 a
        ack t5 => marked 0 a, commit 2: 0@12 s2",
    );
}

#[test]
fn what_settles_while_a_round_is_under_way_is_of_the_next_one() {
    check_ready(
        "pub 10 0 #a $k=1 => -
        at 100
        tick => keep t1 of 0 k=1
        pub 11 0 #b $k=2 => -
        ack t1 => kept 0 k=1, mark t2 of 0 a
        pub 12 0 #c => -
        ack t2 => marked 0 a, commit 1: 0@11 s1 1@10 s1
        at 200
        tick => keep t3 of 0 k=2
        ack t3 => kept 0 k=2, mark t4 of 0 b c
        ack t4 => marked 0 b c
        commit 1 ok
        tick => commit 2: 0@13 s2",
    );
}

#[test]
fn a_message_settles_behind_those_of_its_key_though_its_records_are_written() {
    check_ready(
        "pub 10 1 l=5 #a $k=1 => t1
        pub 11 1 l=5 #b $k=2 => t2
        pub 12 0 l=5 #c $k=3 => -
        pub 13 0 l=6 #d => -
        ack t2
        status 0 => @1 point 10 next 15 unsettled 4
        at 100
        tick => mark t3 of 0 d
        ack t1
        status 0 => @1 point 14 next 15 unsettled 1
        ack t3 => marked 0 d, commit 1: 0@10[13..14] s1 1@10 s1
        commit 1 ok
        at 200
        tick => keep t4 of 0 k=3
        ack t4 => kept 0 k=3, mark t5 of 0 a b c
        ack t5 => marked 0 a b c, commit 2: 0@14 s2",
    );
}

#[test]
fn a_round_that_is_not_taken_goes_back_under_what_changed_since() {
    check_ready(
        "pub 10 0 #a $k=1 $m=1 => -
        at 100
        tick => keep t1 of 0 k=1 m=1
        pub 11 0 #b $k=2 => -
        ack t1
        writing 0 => true
        busy t1 away => pause 0, blocked 0 by output: its state: away
        awaits t1 => false
        writing 0 => true
        ack t1
        pub 12 0 $n- => -
        at 105
        tick => commit 1: 1@10 s1
        commit 1 ok
        at 200
        tick => keep t2 of 0 k=2 m=1 n-
        busy t2 away
        at 215
        tick
        at 300
        tick => keep t3 of 0 k=2 m=1 n-
        ack t3
        ack t3
        ack t3 => kept 0 k=2 m=1 n-, mark t4 of 0 a b
        busy t4 full => blocked 0 by output: its seen ids: full
        at 400
        tick => mark t5 of 0 a b
        ack t5 => marked 0 a b, unblocked 0, resume 0, commit 2: 0@13 s1
        writing 0 => false",
    );
}

#[test]
fn ids_that_are_too_many_for_one_record_go_in_smaller_ones_at_once() {
    check_ready(
        "pub 10 0 #a => -
        pub 11 0 #b => -
        pub 12 0 #c => -
        at 100
        tick => mark t1 of 0 a b c
        never t1 large => mark t2 of 0 a b, mark t3 of 0 c
        ack t3 => marked 0 c
        ack t2 => marked 0 a b, commit 1: 0@13 s1 1@10 s1",
    );
}

#[test]
fn a_partition_is_rewound_when_what_has_settled_is_written_and_forgets_nothing_of_it() {
    check_ready(
        "pub 10 1 l=5 $k=1 => t1
        pub 11 0 l=5 $k=2 => -
        pub 12 0 l=6 #c $m=1 => -
        busy t1 away => pause 0, blocked 0 by output: away
        pub 13 0 l=7 $n=1 => -
        at 100
        tick => keep t2 of 0 m=1
        ack t2 => kept 0 m=1, mark t3 of 0 c
        tick
        ack t3 => marked 0 c, commit 1: 0@10[12..13] s1 1@10 s1
        tick => rewind 0 to 10[12..13]
        commit 1 ok
        open 0 2 10 12..13 => resume 0
        recv 0 2 10 14
        pub 10 1 e=2 l=5 $k=1 => t4
        ack t4 => unblocked 0",
    );
}

#[test]
fn the_last_commit_covers_all_that_has_settled_and_waits_until_it_is_written() {
    check_ready(
        "pub 10 1 #a $k=1 => t1
        revoke 0 => close 0@1
        drained 0 1
        drained 0 1
        ack t1 => keep t2 of 0 k=1
        tick
        ack t2 => kept 0 k=1, mark t3 of 0 a
        ack t3 => marked 0 a, release 0: 0@11 s1, commit 1: 1@10 s1
        released",
    );
}

#[test]
fn a_revoke_that_takes_too_long_commits_what_is_written_and_no_more() {
    check_ready(
        "pub 10 0 #a => -
        at 100
        tick => mark t1 of 0 a
        ack t1 => marked 0 a, commit 1: 0@11 s1 1@10 s1
        commit 1 ok
        pub 11 0 #b $k=1 => -
        revoke 0 => close 0@1
        drained 0 1
        drained 0 1 => keep t2 of 0 k=1
        busy t2 away => pause 0, blocked 0 by output: its state: away
        at 200
        tick => keep t3 of 0 k=1
        at 1100
        tick => release 0:
        released
        ack t3",
    );
}

#[test]
fn a_partition_that_is_lost_writes_nothing_more() {
    check_ready(
        "pub 10 0 #a $k=1 => -
        pub 10 0 p=1 $m=1 => -
        at 100
        tick => keep t1 of 0 k=1, keep t2 of 1 m=1
        lost 0 => close 0@1
        awaits t1 => false
        ack t1
        ack t2 => kept 1 m=1, commit 1: 1@11 s1",
    );
}

#[test]
fn what_has_ended_is_deleted_with_the_next_round_but_for_what_is_being_written() {
    check_ready(
        "expired 0 k m => true
        pub 10 0 $k=2 => -
        at 100
        tick => keep t1 of 0 k=2 m-
        expired 0 k => false
        ack t1
        ack t1 => kept 0 k=2 m-, commit 1: 0@11 s1 1@10 s1
        commit 1 ok
        pub 11 0 $n=1 => -
        expired 0 n o => true
        at 200
        tick => keep t2 of 0 n=1 o-",
    );
}

#[test]
fn a_commit_that_failed_is_made_again() {
    check_ready(
        "pub 10 0 #a => -
        at 100
        tick => mark t1 of 0 a
        ack t1 => marked 0 a, commit 1: 0@11 s1 1@10 s1
        commit 1 failed
        at 200
        tick => commit 2: 0@11 s1 1@10 s1",
    );
}

#[test]
fn nothing_is_kept_before_the_start_is_committed() {
    check(
        "rounds
        open 0 1 10 fresh
        recv 0 1 10 14
        pub 10 0 #a $k=1 => -
        tick => commit 1: 0@10 s1
        commit 1 failed
        at 100
        tick => commit 2: 0@10 s1
        at 200
        tick
        commit 2 ok
        at 300
        tick => keep t1 of 0 k=1
        ack t1 => kept 0 k=1, mark t2 of 0 a
        ack t2 => marked 0 a, commit 3: 0@11 s2",
    );
}

#[test]
fn a_revoke_before_the_start_is_committed_waits_for_it_and_then_writes_the_rest() {
    check(
        "rounds
        open 0 1 10 fresh
        recv 0 1 10 14
        pub 10 0 #a => -
        tick => commit 1: 0@10 s1
        revoke 0 => close 0@1
        drained 0 1
        drained 0 1
        commit 1 ok
        at 100
        tick => mark t1 of 0 a
        ack t1 => marked 0 a, release 0: 0@11 s2",
    );
}
