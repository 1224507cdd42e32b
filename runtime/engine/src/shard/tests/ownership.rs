//! Partitions that come, go, and come back.

use super::*;

#[test]
fn messages_of_no_present_assignment_are_dropped() {
    check(
        policy(),
        "put a1~2 a1~0 => a1 a1
         close 0 1 =>
         put a1 A1 => a1
         next => run A1 in 1000",
    );
}

#[test]
fn close_drops_what_has_not_started_and_lets_what_runs_finish() {
    check(
        policy(),
        "put a1 A2 =>
         next => run a1 A2 in 2000
         put a3 b4 A5 =>
         close 0 1 =>
         load => lanes 1 waiting 0 letters 0 ids 0
         end done done => a1 done/0 A2 done/1
         next => run A5 in 1000
         end done => A5 done/0
         load => lanes 0 waiting 0 letters 0 ids 0",
    );
}

#[test]
fn a_close_of_an_earlier_epoch_is_ignored() {
    check(policy(), "put a1 =>\n close 0 0 =>\n next => run a1 in 1000");
}

#[test]
fn an_assignment_that_was_closed_before_it_came_in_never_opens() {
    // Its opening waited in the consumer's line while the committer's close had room.
    check(
        policy(),
        "put a1 =>
         close 0 2 =>
         load => lanes 0 waiting 0 letters 0 ids 0
         open 0 2 1 =>
         put a1~2 => a1
         open 0 3 1 =>
         put a1~3 =>
         next => run a1 in 1000",
    );
}

#[test]
fn close_forgets_heads_that_wait_and_letters_of_that_partition_only() {
    check(
        policy(),
        "put a1 b2 A3 B4 =>
         next => run a1 b2 A3 B4 in 4000
         end retry dead retry dead => b2 dead:rejected B4 dead:rejected retried 2
         load => lanes 4 waiting 2 letters 2 ids 0
         close 0 1 =>
         load => lanes 2 waiting 1 letters 1 ids 0
         ack b2 =>
         ack B4 =>
         load => lanes 1 waiting 1 letters 0 ids 0
         at 100
         next => run A3x2 in 1000",
    );
}

#[test]
fn what_fails_after_its_partition_was_closed_is_left_to_the_next_owner() {
    check(
        policy(),
        "put a1 a2 b3 c4 c5 =>
         next => run a1 a2 b3 c4 c5 in 5000
         close 0 1 =>
         end retry done dead done done => c4 done/3 c5 done/4 retried 1 undone 1
         load => lanes 0 waiting 0 letters 0 ids 0
         at 100
         next => wait",
    );
    check(
        policy(),
        "put a1 b2 A3 =>
         next => run a1 b2 A3 in 3000
         close 0 1 =>
         trap => replayed 3
         next => run A3 in 1000
         end done => A3 done/0
         next => wait
         load => lanes 0 waiting 0 letters 0 ids 0",
    );
}

#[test]
fn an_old_completion_does_not_touch_the_new_epoch() {
    // The partition comes back to this worker while the call runs.
    check(
        policy(),
        "put a1 a2 =>
         next => run a1 a2 in 2000
         close 0 1 =>
         open 0 2 1 =>
         put a1~2 =>
         end retry done => retried 1 undone 1
         load => lanes 1 waiting 0 letters 0 ids 0
         put a2~2 =>
         next => run a1 a2 in 2000
         end done done => a1 done/0 a2 done/1
         load => lanes 0 waiting 0 letters 0 ids 0",
    );
    check(
        policy(),
        "put a1 =>
         next => run a1 in 1000
         open 0 2 1 =>
         put a1~2 =>
         end dead =>
         ack a1 =>
         load => lanes 1 waiting 0 letters 0 ids 0
         next => run a1 in 1000",
    );
    check(
        policy(),
        "put a1 b2 =>
         next => run a1 b2 in 2000
         open 0 2 1 =>
         put a1~2 =>
         trap => replayed 2
         next => run a1 in 1000
         end done => a1 done/0
         next => wait",
    );
}

#[test]
fn an_old_completion_in_a_new_epoch_does_not_release_its_lane_early() {
    check(
        policy(),
        "put a1 =>
         next => run a1 in 1000
         open 0 2 1 =>
         put a1~2 a2~2 =>
         end done => a1 done/0
         next => run a1 a2 in 2000
         put a3~2 =>
         end retry done => retried 1 undone 1
         next => wait 100",
    );
}

#[test]
fn a_partition_that_starts_anew_forgets_its_lanes() {
    check(
        policy(),
        "put a1 b2 A3 =>
         next => run a1 b2 A3 in 3000
         put a4 =>
         end retry dead done => b2 dead:rejected A3 done/2 retried 1
         open 0 2 1 =>
         load => lanes 0 waiting 0 letters 0 ids 0
         put a1 a1~2 => a1
         next => run a1 in 1000
         at 100
         end done => a1 done/0
         next => wait",
    );
}

#[test]
fn an_acknowledgement_of_an_earlier_epoch_opens_nothing() {
    check(
        policy(),
        "put a1 =>
         next => run a1 in 1000
         end dead => a1 dead:rejected
         open 0 2 1 =>
         put a1~2 a2~2 =>
         next => run a1 a2 in 2000
         end dead done => a1 dead:rejected undone 1
         ack a1 =>
         next => wait
         ack a1~2 =>
         next => run a2+ in 1000",
    );
}

#[test]
fn a_head_due_in_an_earlier_epoch_wakes_nobody() {
    check(
        policy(),
        "put a1 =>
         next => run a1 in 1000
         end retry50 => retried 1
         open 0 2 1 =>
         put a1~2 =>
         next => run a1 in 1000
         end retry => retried 1
         at 50
         next => wait 100
         at 100
         next => run a1x2 in 1000",
    );
}

#[test]
fn close_leaves_other_partitions_in_turn() {
    check(
        policy(),
        "put a1 A2 B3 =>
         close 0 1 =>
         next => run A2 B3 in 2000",
    );
    check(policy(), "put a1 A2 =>\n open 0 2 5 =>\n put b5~2 =>\n next => run A2 b5 in 2000");
}
