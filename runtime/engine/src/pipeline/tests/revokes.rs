//! Giving partitions up.

use super::*;
use alloc::vec;

#[test]
fn a_revoke_waits_for_every_shard_then_commits_and_releases() {
    check(
        "open 0 1 10 =>
         open 1 2 20 fresh =>
         recv 0 1 10 12 =>
         pub 10 0 => -
         revoke 0 => close 0@1
         drained 0 1 =>
         pub 11 0 => -
         drained 0 2 =>
         drained 1 2 =>
         drained 0 1 => release 0: 0@12 s1
         drained 0 1 =>
         at 5000
         released =>
         status 0 => none
         pub 12 0 => -
         tick => commit 1: 1@20 s1",
    );
}

#[test]
fn a_revoke_waits_for_acknowledgements() {
    check(
        "open 0 1 10 =>
         recv 0 1 10 12 =>
         pub 10 1 => t1
         dead 11 => letter t2
         revoke 0 => close 0@1
         drained 0 1 =>
         drained 0 1 =>
         ack t1 =>
         ack t2 => free 0@1:11, release 0: 0@12 s1",
    );
}

#[test]
fn a_revoke_does_not_wait_for_refused_letters() {
    check(
        "open 0 1 10 =>
         recv 0 1 10 11 =>
         dead 10 => letter t1
         dead 11 => letter t2
         busy t1 no => blocked 0 by letter: its dead letters: no
         revoke 0 => close 0@1
         drained 0 1 =>
         drained 0 1 =>
         ack t2 => free 0@1:11, release 0: 0@10[11..12] s1
         released =>
         at 10
         tick =>
         count => 0",
    );
    check(
        "open 0 1 10 =>
         recv 0 1 10 10 =>
         dead 10 => letter t1
         revoke 0 => close 0@1
         drained 0 1 =>
         drained 0 1 =>
         busy t1 no => blocked 0 by letter: its dead letters: no, release 0: 0@10 s1",
    );
    // One that was sent again is waited for again.
    check(
        "open 0 1 10 =>
         recv 0 1 10 10 =>
         dead 10 => letter t1
         busy t1 no => blocked 0 by letter: its dead letters: no
         at 10
         revoke 0 => close 0@1
         tick => letter t1, commit 1: 0@10 s1
         drained 0 1 =>
         drained 0 1 =>
         ack t1 => unblocked 0, free 0@1:10, release 0: 0@11 s1",
    );
}

#[test]
fn a_revoke_ends_at_its_deadline_whatever_is_missing() {
    check(
        "open 0 1 10 =>
         recv 0 1 10 12 =>
         pub 11 0 => -
         pub 10 1 => t1
         at 100
         revoke 0 => close 0@1
         tick => commit 1: 0@10[11..12] s1
         drained 0 1 =>
         at 1099
         tick => commit 2: 0@10[11..12] s1
         at 1100
         tick => release 0: 0@10[11..12] s1
         at 1300
         tick =>
         released =>
         ack t1 =>
         count => 0",
    );
}

#[test]
fn a_revoke_of_several_waits_for_all_and_releases_them_together() {
    check(
        "open 0 1 10 =>
         open 1 2 20 =>
         recv 0 1 10 10 =>
         recv 1 2 20 20 =>
         revoke 0 1 => close 0@1, close 1@2
         drained 0 1 =>
         drained 0 1 =>
         drained 1 2 =>
         drained 1 2 => release 0 1: 0@10 s1 1@20 s1
         released =>
         status 0 => none
         status 1 => none",
    );
}

#[test]
fn a_revoke_of_nothing_known_releases_at_once() {
    check("revoke 0 => release 0:\n released =>\n revoke => release :");
}

#[test]
fn a_commit_in_flight_is_made_again_by_the_release() {
    check(
        "open 0 1 10 fresh =>
         open 1 2 20 fresh =>
         tick => commit 1: 0@10 s1 1@20 s1
         revoke 0 => close 0@1
         drained 0 1 =>
         drained 0 1 => release 0: 0@10 s1
         commit 1 ok =>
         released =>
         at 100
         tick => commit 2: 1@20 s1",
    );
}

#[test]
fn the_release_commits_once_more_that_nothing_runs() {
    check(
        "open 0 1 10 fresh =>
         tick => commit 1: 0@10 s1
         commit 1 ok =>
         recv 0 1 10 10 =>
         revoke 0 => close 0@1
         drained 0 1 =>
         drained 0 1 => release 0: 0@10 s2",
    );
}

/// What the commits among these actions say of who holds partition 0.
fn held(actions: &[Action]) -> Vec<Option<u32>> {
    let commits = actions.iter().filter_map(|action| match action {
        Action::Commit { offsets, .. } | Action::CommitAndRelease { offsets, .. } => offsets.first(),
        _ => None,
    });
    commits.map(|c| Metadata::decode(&c.metadata, c.offset, i64::MAX).unwrap().held).collect()
}

fn now(steady_ms: u64) -> Now {
    Now { steady_ms, wall_ms: 1_000_000 }
}

#[test]
fn commits_say_that_the_partition_is_held_until_it_is_given_up_in_good_order() {
    let mut pipeline: Pipeline<i64> = Pipeline::new(at_least_once(), 2, TIMING);
    let mut actions = Vec::new();
    let careful = Careful { messages: 1_000, below: 12 };
    pipeline.opened(P0, &Opened { careful, unmarked: true, ..opened(1, 10, &[]) }, now(0), &mut actions);
    pipeline.tick(now(0), &mut actions);
    assert_eq!(held(&actions), [Some(1_000)], "before anything runs");
    pipeline.commit_finished(1, true);
    actions.clear();
    pipeline.received(P0, Epoch(1), 10, 13, now(10));
    for offset in [10, 11] {
        pipeline.publish(settled(&format!("{offset}"), &[], Fate::Done), 0, now(10), &mut actions);
    }
    pipeline.tick(now(200), &mut actions);
    assert_eq!(held(&actions), [Some(0)], "what had to run alone has run");
    pipeline.commit_finished(2, true);
    actions.clear();
    pipeline.revoke(vec![P0], now(200), &mut actions);
    pipeline.drained(P0, Epoch(1), now(200), &mut actions);
    pipeline.drained(P0, Epoch(1), now(200), &mut actions);
    assert_eq!(held(&actions), [None], "nothing of it runs");
}

#[test]
fn a_release_that_did_not_wait_for_what_runs_says_so() {
    let mut pipeline: Pipeline<i64> = Pipeline::new(at_least_once(), 2, TIMING);
    let mut actions = Vec::new();
    pipeline.opened(P0, &opened(1, 10, &["fresh"]), now(0), &mut actions);
    pipeline.received(P0, Epoch(1), 10, 13, now(0));
    pipeline.revoke(vec![P0], now(0), &mut actions);
    pipeline.drained(P0, Epoch(1), now(0), &mut actions);
    pipeline.tick(now(TIMING.revoke_ms), &mut actions);
    assert_eq!(held(&actions).last(), Some(&Some(0)), "one shard never answered");
}

#[test]
fn a_refused_partition_is_released_as_far_as_it_came() {
    check(
        "open 0 1 10 =>
         recv 0 1 10 13 =>
         pub 10 0 => -
         pub 12 0 => -
         pub 13 1 => t1
         pub 11 1 => t2
         busy t2 no => pause 0, blocked 0 by output: no
         revoke 0 => close 0@1, release 0: 0@11 s1",
    );
}

#[test]
fn lost_partitions_are_closed_and_not_committed() {
    check(
        "open 0 1 10 =>
         open 1 2 20 =>
         recv 0 1 10 10 =>
         recv 1 2 20 20 =>
         pub 10 0 => -
         pub 20 0 p=1 e=2 => -
         lost 0 => close 0@1
         status 0 => none
         tick => commit 1: 1@21 s1
         lost 0 1 => close 1@2
         at 1000
         tick =>",
    );
}

/// One record of a message was refused during a revoke, the others were acknowledged: it settled, and its offset was
/// committed, with an output missing.
#[test]
fn regression_a_message_with_a_refused_record_does_not_settle_during_a_revoke() {
    check(
        "open 0 1 10 =>
         recv 0 1 10 10 =>
         pub 10 2 => t1
         revoke 0 => close 0@1
         drained 0 1 =>
         drained 0 1 =>
         busy t1 no => blocked 0 by output: no
         ack t1 => release 0: 0@10 s1
         count => 0",
    );
}

/// What settled above a refused output during a revoke stayed in the map: the next owner ran the refused message after
/// its follower of the same key.
#[test]
fn regression_what_settles_above_a_refused_output_during_a_revoke_runs_again() {
    check(
        "open 0 1 10 =>
         recv 0 1 10 16 =>
         pub 11 0 => -
         pub 12 1 => t1
         pub 13 1 => t2
         pub 14 1 => t3
         revoke 0 => close 0@1
         drained 0 1 =>
         drained 0 1 =>
         busy t2 no => blocked 0 by output: no
         busy t1 no =>
         ack t3 => release 0: 0@10[11..12] s1",
    );
    check(
        "open 0 1 10 =>
         recv 0 1 10 16 =>
         pub 11 0 => -
         pub 12 1 => t1
         pub 13 1 => t2
         pub 14 1 => t3
         revoke 0 => close 0@1
         drained 0 1 =>
         drained 0 1 =>
         busy t1 no => blocked 0 by output: no
         busy t2 no =>
         ack t3 => release 0: 0@10[11..12] s1",
    );
}

/// A refused partition came due while it was being revoked: it was opened anew, and its lanes stayed in the shards.
#[test]
fn regression_a_partition_that_is_being_revoked_does_not_start_anew() {
    check(
        "open 0 1 10 =>
         open 1 2 20 =>
         recv 0 1 10 10 =>
         recv 1 2 20 20 =>
         pub 10 1 => t1
         pub 20 1 p=1 e=2 => t2
         busy t1 no => pause 0, blocked 0 by output: no
         revoke 0 1 => close 0@1, close 1@2
         at 10
         tick => commit 1: 0@10 s1 1@20 s1
         drained 1 2 =>
         drained 1 2 =>
         ack t2 => release 0 1: 0@10 s1 1@21 s1",
    );
    // Others start anew meanwhile.
    check(
        "open 0 1 10 =>
         open 1 2 20 =>
         recv 0 1 10 10 =>
         pub 10 1 => t1
         busy t1 no => pause 0, blocked 0 by output: no
         revoke 1 => close 1@2
         at 10
         tick => rewind 0 to 10, commit 1: 0@10 s1
         open 0 3 10 => resume 0",
    );
    // The rewind was under way when the group took it.
    check(
        "open 0 1 10 =>
         open 1 2 20 =>
         recv 0 1 10 10 =>
         pub 10 1 => t1
         busy t1 no => pause 0, blocked 0 by output: no
         at 10
         tick => rewind 0 to 10, commit 1: 0@10 s1
         revoke 0 1 => close 0@1, close 1@2
         open 0 3 10 => close 0@3
         drained 1 2 =>
         drained 1 2 => release 0 1: 0@10 s1 1@20 s1
         released =>
         open 0 4 10 =>
         status 0 => @4 point 10 next 10 unsettled 0",
    );
}

#[test]
fn commits_tell_which_log_they_are_of_also_after_a_rewind() {
    let mut pipeline: Pipeline<i64> = Pipeline::new(at_least_once(), 2, TIMING);
    let mut actions = Vec::new();
    pipeline.opened(P0, &opened(1, 10, &["fresh"]), now(0), &mut actions);
    pipeline.opened(P0, &Opened { log: 0, ..opened(2, 10, &["fresh"]) }, now(0), &mut actions);
    pipeline.revoke(vec![P0], now(0), &mut actions);
    pipeline.tick(now(TIMING.revoke_ms), &mut actions);
    let Some(Action::CommitAndRelease { offsets, .. }) = actions.last() else { panic!("{actions:?}") };
    let metadata = Metadata::decode(&offsets[0].metadata, offsets[0].offset, i64::MAX).unwrap();
    assert_eq!(metadata.log, 200);
}
