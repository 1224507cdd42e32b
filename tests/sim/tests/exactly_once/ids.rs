//! Seen ids that outlive the process: a message that was sent twice has its effects once, whatever happened in between.

use super::{alone, slow_commits, two_workers};
use crate::stage::{Stage, with_dedup};
use keyrail_engine::policy::Absent;
use keyrail_sim::coverage::Fault;
use keyrail_sim::env::CommitLot;
use keyrail_sim::model::outputs::MARK_TOPICS;
use keyrail_sim::record::{Plan, Rec};
use keyrail_sim::settings::Settings;

fn keeping(settings: Settings) -> Settings {
    with_dedup(settings, Absent::Process)
}

fn twin() -> Rec {
    Rec::new(0, Some(1), 1).with_id(7)
}

/// Until the group has committed so many messages.
fn until_committed(stage: &mut Stage, messages: i64) {
    for _ in 0..5_000 {
        if stage.committed(0) >= Some(messages) {
            return;
        }
        stage.run_ms(2);
    }
    panic!("{messages} messages were never committed");
}

#[test]
fn a_duplicate_is_recognised_by_the_next_owner() {
    for fault in [Fault::Crash, Fault::Revoke, Fault::Lost, Fault::Stop] {
        let mut stage = Stage::new(keeping(two_workers()));
        stage.write(twin());
        until_committed(&mut stage, 1);
        let owner = stage.owner(0);
        stage.strike(owner, fault);
        stage.until("opened", 0);
        stage.write(twin());
        stage.finish();
        assert_eq!(stage.visible(0, 2), [1, 0], "{fault:?}");
        assert_eq!(stage.count_at("duplicate", 0, 1), 1, "{fault:?}");
    }
}

#[test]
fn a_dead_letter_and_a_skipped_message_are_seen_too() {
    for plan in [Plan::DeadLetter, Plan::Skip] {
        let mut stage = Stage::new(keeping(alone()));
        stage.write(twin().with_plan(plan));
        until_committed(&mut stage, 1);
        stage.strike(0, Fault::Crash);
        stage.until("opened", 0);
        stage.write(twin().with_plan(plan));
        stage.finish();
        assert_eq!(stage.count_at("called", 0, 1), 0, "{plan:?}");
    }
}

#[test]
fn ids_of_a_transaction_in_doubt_are_read_before_its_partitions_start_anew() {
    // Committed, and the worker does not know: the duplicate comes in the meantime.
    let mut stage = Stage::new(keeping(alone()));
    stage.run_ms(500);
    stage.next_commit(0, CommitLot::Doubtful);
    stage.write(twin());
    stage.until_any("given up");
    stage.write(twin());
    stage.finish();
    assert_eq!((stage.visible(0, 2), stage.count_at("duplicate", 0, 1)), (vec![1, 0], 1));
    // Not committed: the first one runs again, and the second is its duplicate then.
    let mut stage = Stage::new(keeping(alone()));
    stage.run_ms(500);
    stage.next_commit(0, CommitLot::Failed);
    stage.write(twin());
    stage.until_any("given up");
    stage.write(twin());
    stage.finish();
    assert_eq!((stage.visible(0, 2), stage.count_at("called", 0, 0)), (vec![1, 0], 2));
}

#[test]
fn ids_whose_marker_is_late_are_waited_for() {
    let mut stage = Stage::new(keeping(two_workers()));
    stage.run_ms(500);
    stage.next_markers_take(5_000);
    stage.write(twin());
    stage.until("commit decided", 0);
    let owner = stage.owner(0);
    stage.strike(owner, Fault::Crash);
    stage.write(twin());
    stage.finish();
    assert_eq!((stage.visible(0, 2), stage.count_at("called", 0, 1)), (vec![1, 0], 0));
}

#[test]
fn ids_of_a_transaction_that_a_dead_worker_left_open_count_for_nothing() {
    let mut stage = Stage::new(keeping(slow_commits(two_workers())));
    stage.run_ms(500);
    stage.next_commit(stage.owner(0), CommitLot::Slow(60_000));
    stage.write(twin());
    stage.until("output staged", 0);
    stage.run_ms(1_500);
    let owner = stage.owner(0);
    stage.strike(owner, Fault::Crash);
    stage.write(twin());
    stage.finish();
    assert_eq!(stage.visible(0, 2).iter().sum::<usize>(), 1);
    assert_eq!(stage.count_at("called", 0, 0), 2, "the first runs again");
}

#[test]
fn a_group_that_is_moved_back_does_nothing_twice() {
    let mut stage = Stage::new(keeping(alone()));
    for n in 0..20 {
        stage.write(Rec::new(0, Some(n % 3), n).with_id(n));
    }
    until_committed(&mut stage, 20);
    stage.reset(0, 5);
    stage.finish();
    assert_eq!((stage.visible(0, 20), stage.committed(0)), (vec![1; 20], Some(20)));
    assert_eq!(stage.count("duplicate", 0), 15);
}

#[test]
fn a_topic_of_seen_ids_that_takes_nothing_keeps_its_partitions_waiting_and_no_others() {
    let mut settings = keeping(alone());
    settings.partitions = vec![1, 1];
    settings.timing.transaction_ms = 10_000;
    let mut stage = Stage::new(settings);
    stage.run_ms(500);
    stage.block_output_topic(MARK_TOPICS[0], 20_000);
    stage.write(twin());
    stage.until("blocked", 0);
    for n in 0..10 {
        stage.write(Rec::new(8, Some(n), n).with_id(n));
    }
    stage.run_ms(12_000);
    assert_eq!((stage.committed(8), stage.visible(0, 1)), (Some(10), vec![0]), "the other topic's go on");
    stage.write(twin());
    stage.finish();
    assert_eq!((stage.visible(0, 2), stage.count("unblocked", 0)), (vec![1, 0], stage.count("blocked", 0)));
}

#[test]
fn ids_that_are_too_many_for_one_record_are_committed_in_several() {
    let mut stage = Stage::new(Settings { marks_max: 10, ..keeping(slow_commits(alone())) });
    stage.run_ms(500);
    for n in 0..100 {
        stage.write(Rec::new(0, Some(n), n).with_id(n));
    }
    until_committed(&mut stage, 100);
    stage.strike(0, Fault::Crash);
    stage.until("opened", 0);
    for n in 0..100 {
        stage.write(Rec::new(0, Some(n), n).with_id(n));
    }
    stage.finish();
    assert_eq!((stage.visible(0, 100), stage.count("duplicate", 0)), (vec![1; 100], 100));
}

#[test]
fn an_id_is_forgotten_when_its_window_is_over() {
    let mut settings = keeping(alone());
    if let Some(dedup) = &mut settings.policy.dedup {
        dedup.window_ms = 20_000;
    }
    let mut stage = Stage::new(settings);
    stage.write(twin());
    until_committed(&mut stage, 1);
    stage.strike(0, Fault::Crash);
    stage.run_ms(2_000);
    stage.write(twin());
    stage.run_ms(25_000);
    stage.write(twin());
    stage.finish();
    assert_eq!(stage.visible(0, 3), [1, 0, 1]);
}
