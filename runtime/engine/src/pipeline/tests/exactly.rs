//! Transactions: when they end, and what becomes of them when they don't end well.

use super::*;

/// Ready, with partitions 0 and 1 open from 10, five records of each received.
pub(super) const READY: &str = "
    exactly-once
    tick => renew
    open 0 1 10
    open 1 1 10
    recv 0 1 10 14
    recv 1 1 10 14
    takes => false
    renewed ok
    takes => true
";

#[track_caller]
pub(super) fn check_ready(script: &str) -> Rig {
    check(&format!("{READY}{script}"))
}

#[test]
fn nothing_is_published_before_the_producer_is_made() {
    check(
        "exactly-once
        open 0 1 10
        recv 0 1 10 10
        pub 10 1 => - stray 0:10
        tick => renew
        tick
        renewed failed => blocked 0 by output: no transaction can be begun: away
        tick
        at 10
        tick => renew
        renewed fenced => blocked 0 by output: no transaction can be begun: taken
        at 30
        tick => renew
        renewed ok => unblocked 0
        pub 10 1 => t1",
    );
}

#[test]
fn a_renewal_without_an_answer_is_tried_again() {
    check(
        "exactly-once
        open 0 1 10
        tick => renew
        at 200
        tick
        at 201
        tick => blocked 0 by output: no transaction can be begun: no answer within 200 ms
        at 211
        tick => renew
        renewed ok => unblocked 0
        renewed ok
        takes => true",
    );
}

#[test]
fn a_transaction_ends_with_the_offsets_of_all_that_it_holds() {
    check_ready(
        "pub 10 2 => t1
        pub 11 0 => -
        pub 12 1 p=1 => t2
        at 100
        tick
        takes => false
        ack t1
        ack t2
        ack t1 => commit 1: 0@12 s1 1@10[12..13] s1
        takes => false
        done 1
        takes => true
        status 0 => @1 point 12 committed 12 next 15 unsettled 3
        tick
        at 200
        tick
        pub 12 0 => -
        tick => commit 2: 0@13 s2
        done 2",
    );
}

#[test]
fn a_full_transaction_ends_before_its_time() {
    check_ready(
        "tick => commit 1: 0@10 s1 1@10 s1
        done 1
        pub 10 1 => t1
        ack t1
        tick
        staged 16777215
        tick
        staged 1
        tick => commit 2: 0@11 s2
        done 2
        pub 11 0 => -
        tick",
    );
}

#[test]
fn a_transaction_ends_before_the_broker_ends_it_however_far_apart_commits_are() {
    let mut rig = check_ready(
        "tick => commit 1: 0@10 s1 1@10 s1
        done 1",
    );
    rig.pipeline.next_commit_ms = 60_000;
    assert_eq!((rig.obey("at 50"), rig.obey("pub 10 0")), (String::new(), "-".into()));
    assert_eq!((rig.obey("at 149"), rig.obey("tick"), rig.obey("at 150")), Default::default());
    assert_eq!(rig.obey("tick"), "commit 2: 0@11 s2");
}

#[test]
fn a_partition_that_has_a_part_has_an_offset_though_it_did_not_move() {
    let mut rig = check_ready(
        "tick => commit 1: 0@10 s1 1@10 s1
        done 1",
    );
    rig.pipeline.tasks.get_mut(&P1).unwrap().touched = true;
    rig.now.steady_ms = 100;
    assert_eq!(rig.obey("tick"), "commit 2: 1@10 s2");
}

#[test]
fn a_doubtful_end_gives_all_of_the_transaction_up() {
    check_ready(
        "pub 10 1 => t1
        ack t1
        tick => commit 1: 0@11 s1 1@10 s1
        doubt 1 => given up: doubt, pause 0, pause 1
        takes => false
        done 1
        ack t1
        tick => renew
        renewed ok => restart 0 or 10 1 or 10
        takes => true
        pub 11 1 => -
        open 0 2 11 s=1 => resume 0
        open 1 2 10 s=1 => resume 1
        recv 0 2 11 14
        pub 11 1 e=2 => t2
        ack t2
        at 100
        tick => commit 2: 0@12 s2
        done 2",
    );
}

#[test]
fn an_end_without_an_answer_is_a_doubtful_one() {
    check_ready(
        "pub 10 0 => -
        at 100
        tick => commit 1: 0@11 s1 1@10 s1
        at 300
        tick
        at 301
        tick => given up: its end was not answered within 200 ms, pause 0, pause 1
        done 1
        tick => renew",
    );
}

#[test]
fn records_without_an_answer_end_a_transaction() {
    check_ready(
        "at 90
        tick => commit 1: 0@10 s1 1@10 s1
        done 1
        pub 10 1 => t1
        at 190
        tick
        at 390
        tick
        at 391
        tick => given up: records were not acknowledged within 200 ms, pause 0
        count => 0
        tick => renew
        renewed ok => restart 0 or 10
        pub 10 1 p=1 => t2",
    );
}

#[test]
fn what_has_no_part_in_a_transaction_goes_on_when_it_is_given_up() {
    check_ready(
        "tick => commit 1: 0@10 s1 1@10 s1
        done 1
        pub 10 1 => t1
        busy t1 full => given up: full, pause 0, blocked 0 by output: full
        status 0 => @1 point 10 committed 10 next 15 unsettled 5 paused blocked: full
        tick => renew
        renewed ok
        pub 10 1 p=1 => t2
        at 9
        tick
        at 10
        tick => restart 0 or 10
        open 0 2 10 s=1 => resume 0
        recv 0 2 10 14
        pub 10 1 e=2 => t3
        ack t3 => unblocked 0",
    );
}

#[test]
fn renewals_after_failures_in_a_row_wait_longer_and_longer() {
    check_ready(
        "pub 10 0 => -
        tick => commit 1: 0@11 s1 1@10 s1
        doubt 1 => given up: doubt, pause 0, pause 1
        tick => renew
        renewed ok => restart 0 or 10 1 or 10
        open 0 2 10 => resume 0
        recv 0 2 10 10
        tick => commit 2: 0@10 s1
        doubt 2 => given up: doubt, pause 0
        at 9
        tick
        at 10
        tick => renew
        renewed ok => restart 0 or 10
        open 0 3 10 => resume 0
        recv 0 3 10 10
        tick => commit 3: 0@10 s1
        doubt 3 => given up: doubt, pause 0
        at 29
        tick
        at 30
        tick => renew",
    );
}

#[test]
fn a_request_that_was_sent_again_costs_a_new_producer_and_nothing_else() {
    check_ready(
        "pub 10 0 => -
        tick => commit 1: 0@11 s1 1@10 s1
        done 1 resent
        takes => false
        tick => renew
        renewed ok
        takes => true
        status 0 => @1 point 11 committed 11 next 15 unsettled 4",
    );
}

#[test]
fn who_is_fenced_ends_unless_the_broker_ended_what_was_open_for_too_long() {
    check_ready(
        "pub 10 0 => -
        tick => commit 1: 0@11 s1 1@10 s1
        fenced 1 => end: taken",
    );
    check_ready(
        "at 50
        pub 10 1 => t1
        at 100
        tick
        ack t1 => commit 1: 0@11 s1 1@10 s1
        at 250
        fenced 1 => given up: taken, pause 0, pause 1
        tick => renew",
    );
}

#[test]
fn a_renewal_that_comes_late_fences_its_successor_and_is_no_stranger() {
    // Found as seed 1: the first renewal arrived seconds after it had been given up.
    check(
        "exactly-once
        open 0 1 10
        recv 0 1 10 14
        tick => renew
        at 201
        tick => blocked 0 by output: no transaction can be begun: no answer within 200 ms
        at 211
        tick => renew
        renewed ok => unblocked 0
        pub 10 0 => -
        tick => commit 1: 0@11 s1
        fenced 1 => given up: taken, pause 0
        at 221
        tick => renew
        renewed ok => restart 0 or 10
        open 0 2 10 => resume 0
        recv 0 2 10 14
        pub 10 0 e=2 => -
        tick => commit 2: 0@11 s1
        fenced 2 => end: taken",
    );
}

#[test]
fn a_revoke_ends_the_transaction_before_it_lets_go() {
    check_ready(
        "pub 10 1 => t1
        revoke 0 => close 0@1
        drained 0 1
        drained 0 1
        takes => false
        ack t1 => commit 1: 0@11 s1 1@10 s1
        done 1 => release 0
        released
        status 0 => none
        takes => true",
    );
}

#[test]
fn a_revoke_in_the_middle_of_an_end_waits_for_the_next_one() {
    check_ready(
        "pub 10 0 => -
        tick => commit 1: 0@11 s1 1@10 s1
        revoke 0 => close 0@1
        done 1
        takes => true
        pub 11 0 => -
        drained 0 1
        drained 0 1 => commit 2: 0@12 s2
        done 2 => release 0",
    );
}

#[test]
fn a_revoke_does_not_wait_for_ever() {
    // For what runs: what is settled is committed.
    check_ready(
        "pub 10 0 => -
        revoke 0 => close 0@1
        at 1000
        tick => commit 1: 0@11 s1 1@10 s1
        done 1 => release 0, unfinished: messages were under way for too long",
    );
    // For records: nothing is committed.
    check_ready(
        "pub 10 1 => t1
        revoke 0 => close 0@1
        drained 0 1
        drained 0 1
        at 201
        tick => given up: records were not acknowledged within 200 ms, release 0, unfinished: the last commit failed: records were not acknowledged within 200 ms",
    );
    // For a producer.
    check(
        "exactly-once
        tick => renew
        open 0 1 10
        revoke 0 => close 0@1
        drained 0 1
        drained 0 1
        at 1000
        tick => blocked 0 by output: no transaction can be begun: no answer within 200 ms, release 0, unfinished: no transaction could be begun in time",
    );
}

#[test]
fn what_is_given_up_while_it_is_revoked_is_let_go_at_once() {
    check_ready(
        "pub 10 1 => t1
        pub 10 1 p=1 => t2
        revoke 0 => close 0@1
        busy t1 full => given up: full, blocked 0 by output: full, pause 1, release 0, unfinished: the last commit failed: full
        released
        tick => renew
        renewed ok => restart 1 or 10",
    );
}

#[test]
fn what_waits_for_its_new_start_is_let_go_at_once() {
    check_ready(
        "pub 10 0 => -
        tick => commit 1: 0@11 s1 1@10 s1
        doubt 1 => given up: doubt, pause 0, pause 1
        revoke 0 => close 0@1, release 0
        released
        tick => renew
        renewed ok => restart 1 or 10
        revoke 1 => close 1@1, release 1
        open 1 2 10 => close 1@2",
    );
}

#[test]
fn partitions_that_are_lost_take_their_transaction_along() {
    check_ready(
        "pub 10 1 => t1
        pub 10 1 p=1 => t2
        lost 0 => close 0@1, given up: partitions that have a part in it were lost, pause 1
        status 0 => none
        tick => renew
        renewed ok => restart 1 or 10",
    );
    check_ready(
        "tick => commit 1: 0@10 s1 1@10 s1
        done 1
        pub 10 1 p=1 => t1
        lost 0 => close 0@1
        ack t1
        at 100
        tick => commit 2: 1@11 s2",
    );
}

#[test]
fn partitions_that_are_lost_while_a_transaction_ends_leave_the_verdict_to_the_group() {
    check_ready(
        "pub 10 0 => -
        tick => commit 1: 0@11 s1 1@10 s1
        lost 0 => close 0@1
        doubt 1 => given up: doubt, pause 1
        tick => renew
        renewed ok => restart 1 or 10",
    );
}

#[test]
fn what_the_group_has_taken_meanwhile_is_given_up_in_good_order() {
    check_ready(
        "pub 10 0 => -
        tick => commit 1: 0@11 s1 1@10 s1
        revoke 0 => close 0@1
        old 1 => given up: old, pause 1, release 0
        released
        tick => renew
        renewed ok => restart 1 or 10",
    );
}

#[test]
fn a_stranger_is_one_that_fences_again_after_another_ledger_of_this_process() {
    check_ready(
        "another
        pub 10 0 => -
        tick => commit 1: 0@11 s1 1@10 s1
        fenced 1 => given up: taken, pause 0, pause 1
        tick => renew
        renewed ok => restart 0 or 10 1 or 10
        open 0 2 10 => resume 0
        recv 0 2 10 10
        tick => commit 2: 0@10 s1
        fenced 2 => end: taken",
    );
}

#[test]
fn a_machine_that_slept_is_fenced_by_nobody() {
    let mut rig = check_ready(
        "pub 10 0 => -
        tick => commit 1: 0@11 s1 1@10 s1",
    );
    // The steady clock stood still meanwhile.
    rig.now.wall_ms += 200;
    assert_eq!(rig.obey("fenced 1"), "given up: taken, pause 0, pause 1");
}

#[test]
fn a_revoke_ends_its_transaction_within_its_bound() {
    check_ready(
        "pub 10 1 => t1
        revoke 0 => close 0@1
        at 1000
        tick
        at 1049
        tick
        at 1050
        tick => given up: it did not end while the group waited, release 0, unfinished: the last commit failed: it did not end while the group waited",
    );
}
