//! Partitions that deliver nothing though they should, and how long a commit point stands.

use super::*;

#[test]
fn a_stall_that_lasts_is_told_again_later_and_later() {
    check(
        "open 0 1 10 =>
         end 0 12 =>
         at 500
         tick =>
         at 501
         tick => stalled 0 at 10 of 12
         at 1000
         tick =>
         at 1001
         tick => stalled 0 at 10 of 12
         at 2000
         tick =>
         at 2001
         tick => stalled 0 at 10 of 12
         recv 0 1 10 10 =>
         at 2500
         tick => commit 1: 0@10 s1
         commit 1 ok =>
         at 2502
         tick => stalled 0 at 11 of 12
         at 3001
         tick =>
         at 3002
         tick => stalled 0 at 11 of 12",
    );
}

#[test]
fn what_had_to_wait_is_not_stalled_before_it_may_run_and_may_be_after() {
    check(
        "open 0 1 10 =>
         end 0 12 =>
         at 501
         tick => stalled 0 at 10 of 12
         at 1000
         awaited 0 2
         tick =>
         awaited 0 1
         at 1500
         tick =>
         at 1501
         tick => stalled 0 at 10 of 12",
    );
}

#[test]
fn the_end_only_grows() {
    check("open 0 1 10 =>\n end 0 12 =>\n end 0 11 =>\n tick =>\n at 501\n tick => stalled 0 at 10 of 12");
}

#[test]
fn a_partition_without_lag_is_not_stalled() {
    check("open 0 1 10 =>\n end 0 10 =>\n at 5000\n tick =>");
    check(
        "open 0 1 10 =>
         end 0 11 =>
         recv 0 1 10 10 =>
         tick => commit 1: 0@10 s1
         commit 1 ok =>
         at 5000
         tick =>",
    );
}

#[test]
fn a_closed_gate_is_no_stall_and_time_counts_from_its_opening() {
    check(
        "open 0 1 10 =>
         end 0 12 =>
         tick =>
         gate on =>
         at 5000
         tick =>
         gate off =>
         at 5500
         tick =>
         at 5501
         tick => stalled 0 at 10 of 12",
    );
}

#[test]
fn a_held_back_partition_is_not_stalled() {
    check(
        "open 0 1 10 =>
         end 0 12 =>
         recv 0 1 10 10 =>
         pub 10 1 => t1
         busy t1 no => pause 0, blocked 0 by output: no
         at 10
         tick => rewind 0 to 10, commit 1: 0@10 s1
         commit 1 ok =>
         at 5000
         tick =>
         open 0 2 10 => resume 0
         at 5500
         tick =>
         at 5501
         tick => stalled 0 at 10 of 12",
    );
    check("open 0 1 10 =>\n end 0 12 =>\n revoke 0 => close 0@1\n at 900\n tick =>");
}

/// A partition idle for an hour was called stalled as soon as its log's end was heard of before its record.
#[test]
fn regression_silence_counts_from_when_something_is_expected() {
    check(
        "open 0 1 10 =>
         tick =>
         at 5000
         tick =>
         end 0 11 =>
         tick =>
         at 5500
         tick =>
         at 5501
         tick => stalled 0 at 10 of 11",
    );
}

#[test]
fn the_time_of_the_point_is_when_it_last_moved() {
    let mut rig = check("open 0 1 10 =>\n at 5\n recv 0 1 10 12 =>");
    let since = |rig: &Rig| rig.pipeline.status().next().map(|(_, s)| s.point_since_ms);
    assert_eq!(since(&rig), Some(0));
    for (at, command, expected) in [(10, "pub 11 0", 0), (20, "pub 10 0", 20), (30, "pub 12 0", 30)] {
        rig.obey(&format!("at {at}"));
        rig.obey(command);
        assert_eq!(since(&rig), Some(expected), "{command}");
    }
    // With nothing unsettled it stands since the last record.
    rig.obey("at 40");
    rig.obey("recv 0 1 13 13");
    assert_eq!(since(&rig), Some(30));
}

#[test]
fn times_have_the_documented_defaults() {
    let expected = Timing {
        revoke_ms: 20_000,
        release_ms: 30_000,
        stall_ms: 30_000,
        commit_ms: 30_000,
        refusal_first_ms: 500,
        refusal_max_ms: 30_000,
        transaction_ms: 10_000,
    };
    assert_eq!(Timing::default(), expected);
}
