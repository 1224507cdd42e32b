//! Ordered retry: what failed waits in the retry topic with what is behind it, and comes back in order, whatever happened in
//! between. That order holds, that nothing is lost or visible twice, and that nothing runs before it is due is checked by the
//! oracle.

use super::{alone, slow_commits, two_workers};
use crate::stage::{Stage, with_dedup};
use keyrail_engine::policy::Absent;
use keyrail_sim::coverage::Fault;
use keyrail_sim::env::CommitLot;
use keyrail_sim::model::outputs::PARK_TOPICS;
use keyrail_sim::record::{Plan, Rec};
use keyrail_sim::settings::Settings;

/// Nothing waits in memory.
pub(super) fn parking(mut settings: Settings) -> Settings {
    settings.policy.retry.in_place_ms = Some(0);
    settings.policy.retry.attempts = 5;
    settings
}

/// Of the first key; it fails so often, and waits so long each time.
pub(super) fn fails(times: u32, delay_ms: u64) -> Rec {
    Rec::new(0, Some(1), 1).with_plan(Plan::Retry { times, delay_ms: Some(delay_ms) })
}

pub(super) fn done() -> Rec {
    Rec::new(0, Some(1), 2)
}

/// A message that fails, and two behind it.
pub(super) fn write_three(stage: &mut Stage, times: u32, delay_ms: u64) {
    stage.write(fails(times, delay_ms));
    stage.write(done());
    stage.write(done());
}

/// How often each of the first three messages of partition 0 ran.
pub(super) fn runs(stage: &Stage) -> [usize; 3] {
    [0, 1, 2].map(|offset| stage.count_at("called", 0, offset))
}

#[test]
fn what_waits_holds_up_no_other_key_and_not_the_offset() {
    let mut stage = Stage::new(parking(alone()));
    stage.run_ms(500);
    write_three(&mut stage, 1, 20_000);
    stage.write(Rec::new(0, Some(2), 4));
    stage.run_ms(3_000);
    assert_eq!((stage.committed(0), stage.visible(0, 4)), (Some(4), vec![0, 0, 0, 1]), "all but one key is through");
    stage.finish();
    assert_eq!(stage.visible(0, 4), vec![1; 4]);
}

#[test]
fn attempts_and_order_outlive_any_number_of_processes() {
    for (seed, fault) in [Fault::Crash, Fault::Stop, Fault::Lost, Fault::Zombie].into_iter().enumerate() {
        let mut stage = Stage::new(Settings { seed: seed as u64, ..parking(two_workers()) });
        stage.run_ms(500);
        write_three(&mut stage, 3, 9_000);
        for _ in 0..3 {
            stage.until("retry topic kept", 0);
            stage.run_ms(1_000);
            let owner = stage.owner(0);
            stage.strike(owner, fault);
            stage.until("called", 0);
        }
        stage.finish();
        assert_eq!(stage.visible(0, 3), [1, 1, 1], "{fault:?}");
        assert!(runs(&stage)[0] >= 4, "{fault:?}: three failed runs and one that stands");
    }
}

#[test]
fn a_head_that_was_written_anew_is_still_the_first_of_its_lane() {
    // It stands behind its followers in the topic then, and compaction takes its first record.
    let mut stage = Stage::new(parking(alone()));
    stage.run_ms(500);
    write_three(&mut stage, 3, 4_000);
    for _ in 0..3 {
        stage.until("retry topic kept", 0);
        stage.run_ms(300);
        stage.compact_parked(0);
        stage.strike(0, Fault::Crash);
        stage.until("opened", 0);
    }
    stage.finish();
    assert_eq!((stage.visible(0, 3), runs(&stage)), (vec![1; 3], [4, 2, 2]));
}

#[test]
fn a_release_whose_end_is_in_doubt_is_known_before_anything_runs_again() {
    for (lot, again) in [(CommitLot::Doubtful, 0), (CommitLot::Failed, 1)] {
        for seed in 0..5 {
            let mut stage = Stage::new(Settings { seed, ..parking(slow_commits(alone())) });
            stage.run_ms(500);
            write_three(&mut stage, 1, 5_000);
            stage.until("retry topic kept", 0);
            stage.run_ms(2_000);
            // The next commit moves no offset: it only releases.
            stage.next_commit(0, lot);
            stage.until_any("given up");
            stage.finish();
            assert_eq!((stage.visible(0, 3), runs(&stage)), (vec![1; 3], [2 + again; 3]), "{lot:?}");
        }
    }
}

#[test]
fn a_parking_that_was_decided_and_is_not_marked_yet_is_read_by_the_next_owner() {
    for seed in 0..5 {
        let mut stage = Stage::new(Settings { seed, ..parking(slow_commits(two_workers())) });
        stage.run_ms(500);
        write_three(&mut stage, 1, 8_000);
        stage.until("retry record staged", 0);
        stage.next_markers_take(5_000);
        stage.until("commit decided", 0);
        let owner = stage.owner(0);
        stage.strike(owner, Fault::Crash);
        stage.finish();
        assert_eq!((stage.visible(0, 3), stage.committed(0)), (vec![1; 3], Some(3)));
    }
}

#[test]
fn a_zombie_that_wakes_and_runs_a_due_head_changes_nothing() {
    for seed in 0..10 {
        let mut stage = Stage::new(Settings { seed, ..parking(two_workers()) });
        stage.run_ms(500);
        write_three(&mut stage, 1, 7_000);
        stage.until("retry topic kept", 0);
        let sleeper = stage.owner(0);
        stage.strike(sleeper, Fault::Zombie);
        stage.until("called", 0);
        stage.finish();
        assert_eq!(stage.visible(0, 3), [1, 1, 1]);
    }
}

#[test]
fn a_message_that_is_spent_becomes_a_dead_letter_and_those_behind_it_go_on() {
    let mut stage = Stage::new(parking(alone()));
    stage.run_ms(500);
    stage.write(Rec::new(0, Some(1), 1).with_plan(Plan::Fails));
    stage.write(done());
    stage.write(done());
    stage.finish();
    assert_eq!((stage.visible(0, 3), stage.count("letter visible", 0)), (vec![0, 1, 1], 1));
    assert_eq!(runs(&stage), [5, 2, 2], "what is behind it ran with it at first, and then for good");
}

#[test]
fn a_duplicate_of_what_is_parked_waits_behind_it_and_is_suppressed() {
    let mut stage = Stage::new(with_dedup(parking(alone()), Absent::Process));
    stage.run_ms(500);
    stage.write(fails(1, 3_000).with_id(7));
    stage.until("retry topic kept", 0);
    stage.write(done().with_id(7));
    stage.write(done().with_id(8));
    stage.finish();
    assert_eq!(stage.visible(0, 3), [1, 0, 1]);
    assert_eq!((stage.count_at("duplicate", 0, 1), stage.count_at("called", 0, 1)), (1, 0));
}

#[test]
fn a_retry_topic_that_takes_nothing_loses_nothing() {
    let mut stage = Stage::new(parking(alone()));
    stage.run_ms(500);
    stage.block_output_topic(PARK_TOPICS[0], 4_000);
    write_three(&mut stage, 1, 2_000);
    stage.until("blocked", 0);
    stage.finish();
    assert_eq!(stage.visible(0, 3), [1, 1, 1]);
}

#[test]
fn what_can_never_be_written_becomes_a_dead_letter_though_its_offset_is_long_committed() {
    for seed in 0..5 {
        let mut stage = Stage::new(Settings { seed, ..parking(alone()) });
        stage.run_ms(500);
        let mut too_large = fails(1, 2_000);
        too_large.too_large = true;
        stage.write(too_large);
        stage.write(done());
        for n in 0..60 {
            // So that commits go on between what the broker refused and its next run.
            stage.write(Rec::new(0, Some(2 + n), 10 + n));
            stage.run_ms(100);
        }
        stage.finish();
        assert_eq!((stage.count("letter visible", 0), stage.count_at("called", 0, 0)), (1, 2), "it does not run again");
        assert_eq!(stage.visible(0, 2), [0, 1]);
    }
}

#[test]
fn a_hundred_messages_behind_one_are_released_in_order_a_few_at_a_time() {
    let mut stage = Stage::new(parking(two_workers()));
    stage.run_ms(500);
    stage.write(fails(1, 3_000));
    for _ in 0..100 {
        stage.write(done());
    }
    stage.until("called", 0);
    stage.run_ms(3_100);
    let owner = stage.owner(0);
    stage.strike(owner, Fault::Crash);
    stage.finish();
    assert_eq!(stage.visible(0, 101), vec![1; 101]);
}
