//! Inputs that share keys, seen ids and state: partition 0 of the first and of the second are one task.

use super::{alone, slow_commits, two_workers};
use crate::stage::{Stage, with_dedup};
use keyrail_engine::policy::{Absent, Scope};
use keyrail_sim::coverage::Fault;
use keyrail_sim::env::CommitLot;
use keyrail_sim::record::{Plan, Rec, SLOTS_PER_TOPIC};
use keyrail_sim::settings::Settings;

/// Partition 0 of the second input.
const OTHER: u16 = SLOTS_PER_TOPIC;

fn shared(settings: Settings) -> Settings {
    let mut settings = with_dedup(settings, Absent::Process);
    settings.partitions = vec![1, 1];
    settings.policy.order.scope = Scope::Inputs;
    settings.policy.state = true;
    settings
}

/// A message of the one key, which counts itself.
fn of(partition: u16, id: u32) -> Rec {
    Rec::new(partition, Some(1), id).with_id(id)
}

/// What the key's messages of both inputs have counted so far, as far as it is committed.
fn counted(stage: &Stage) -> Option<u64> {
    stage.state(OTHER, 1, "a")
}

fn until_committed(stage: &mut Stage, partition: u16, messages: i64) {
    for _ in 0..20_000 {
        if stage.committed(partition) >= Some(messages) {
            return;
        }
        stage.run_ms(2);
    }
    panic!("{messages} messages of partition {partition} were never committed");
}

#[test]
fn messages_of_both_inputs_change_one_state() {
    let mut stage = Stage::new(shared(slow_commits(alone())));
    stage.run_ms(500);
    for n in 0..6 {
        stage.write(of(if n % 2 == 0 { 0 } else { OTHER }, n));
    }
    stage.finish();
    assert_eq!((counted(&stage), stage.visible(0, 3), stage.visible(OTHER, 3)), (Some(6), vec![1; 3], vec![1; 3]));
}

#[test]
fn a_message_that_was_sent_to_both_inputs_is_done_once() {
    for (first, second) in [(0, OTHER), (OTHER, 0)] {
        for fault in [None, Some(Fault::Crash), Some(Fault::Revoke), Some(Fault::Lost), Some(Fault::Stop)] {
            let mut stage = Stage::new(shared(two_workers()));
            stage.write(of(first, 7));
            until_committed(&mut stage, first, 1);
            if let Some(fault) = fault {
                stage.strike(stage.owner(first), fault);
                stage.until("opened", second);
            }
            stage.write(of(second, 7));
            stage.finish();
            assert_eq!((counted(&stage), stage.count_at("duplicate", second, 0)), (Some(1), 1), "{fault:?}");
        }
    }
}

#[test]
fn a_transaction_in_doubt_of_one_input_starts_the_others_anew_too() {
    for (lot, runs) in [(CommitLot::Doubtful, 1), (CommitLot::Failed, 2), (CommitLot::Slow(20_000), 2)] {
        for seed in 0..5 {
            let mut stage = Stage::new(Settings { seed, ..shared(alone()) });
            stage.run_ms(500);
            stage.write(of(OTHER, 0));
            until_committed(&mut stage, OTHER, 1);
            stage.next_commit(0, lot);
            stage.write(of(0, 1));
            stage.until_any("given up");
            stage.write(of(OTHER, 2));
            stage.finish();
            assert_eq!((counted(&stage), stage.count_at("called", 0, 0)), (Some(3), runs), "{lot:?}");
            assert!(stage.count("opened", OTHER) >= 2, "what it saw may be gone");
        }
    }
}

#[test]
fn what_is_sent_by_one_input_and_never_taken_leaves_nothing_for_the_other() {
    for seed in 0..5 {
        let mut stage = Stage::new(Settings { seed, ..shared(slow_commits(alone())) });
        stage.run_ms(500);
        let mut too_large = of(0, 1);
        too_large.too_large = true;
        stage.write(too_large);
        for n in 2..5 {
            stage.write(of(OTHER, n));
        }
        stage.finish();
        assert_eq!((counted(&stage), stage.visible(OTHER, 3)), (Some(3), vec![1; 3]));
        assert_eq!((stage.visible(0, 1), stage.count("letter visible", 0)), (vec![0], 1));
    }
}

#[test]
fn a_task_moves_with_all_its_partitions_and_what_it_keeps() {
    for seed in 0..10 {
        let mut stage = Stage::new(Settings { seed, ..shared(two_workers()) });
        stage.run_ms(500);
        let first = stage.owner(0);
        for turn in 0..4 {
            stage.write(of(0, 2 * turn));
            stage.write(of(OTHER, 2 * turn + 1));
            let owner = stage.owner(0);
            assert_eq!(stage.owner(OTHER), owner, "both are of one member");
            stage.revoke(owner, OTHER);
            stage.until("opened", 0);
        }
        stage.finish();
        assert_eq!((counted(&stage), stage.owner(0) == first), (Some(8), true), "seed {seed}");
    }
}

#[test]
fn a_key_waits_behind_its_message_of_the_other_input_that_is_retried() {
    for seed in 0..5 {
        let mut stage = Stage::new(Settings { seed, shards: 1, ..shared(slow_commits(alone())) });
        stage.run_ms(500);
        stage.write(of(0, 1).with_plan(Plan::Retry { times: 2, delay_ms: Some(300) }));
        stage.until("called", 0);
        stage.write(of(OTHER, 2));
        stage.finish();
        let (last, next) = (stage.times("done", 0)[0], stage.times("called", OTHER)[0]);
        assert!(last <= next, "it ran at {next} ms, before {last} ms");
        assert_eq!(counted(&stage), Some(2));
    }
}

#[test]
fn what_is_not_committed_of_one_input_when_the_process_dies_is_read_by_none() {
    for seed in 0..10 {
        let mut stage = Stage::new(Settings { seed, ..shared(slow_commits(two_workers())) });
        stage.run_ms(500);
        stage.write(of(0, 1));
        until_committed(&mut stage, 0, 1);
        for n in 2..6 {
            stage.write(of(OTHER, n));
        }
        stage.until("output staged", OTHER);
        stage.strike(stage.owner(0), Fault::Crash);
        stage.write(of(0, 9));
        stage.finish();
        assert_eq!((counted(&stage), stage.visible(OTHER, 4)), (Some(6), vec![1; 4]), "seed {seed}");
    }
}
