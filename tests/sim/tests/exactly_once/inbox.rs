//! Commands from outside: to what is parked, to dead letters, to what is held. That each is obeyed once, in the transaction that
//! says so, that its answer tells what came of it, and that order holds is checked by the oracle.

use super::parked::{done, fails, parking, runs, write_three};
use super::{alone, slow_commits, two_workers};
use crate::stage::{Stage, with_dedup};
use keyrail_engine::inbox::Deed;
use keyrail_engine::policy::{Absent, Spent};
use keyrail_sim::coverage::Fault;
use keyrail_sim::env::CommitLot;
use keyrail_sim::record::{Plan, Rec};
use keyrail_sim::settings::Settings;

const OBEYED: &str = "";
const IS_PARKED: &str = "it is parked already";
const NOT_PARKED: &str = "it is not parked (any more)";

/// The first message of partition 0 failed once, and is a dead letter; now the handler is well again.
fn with_letter(settings: Settings) -> Stage {
    let mut settings = parking(settings);
    settings.policy.retry.attempts = 1;
    let mut stage = Stage::new(settings);
    stage.run_ms(500);
    stage.handlers_fail(300);
    stage.write(done());
    stage.until("letter visible", 0);
    stage.run_ms(400);
    stage
}

#[test]
fn a_dead_letter_that_is_sent_back_while_its_partition_moves_runs_once() {
    for seed in 0..20 {
        let mut stage = with_letter(Settings { seed, ..slow_commits(two_workers()) });
        let owner = stage.owner(0);
        let command = stage.redrive(0, 0);
        stage.run_ms(seed * 11);
        stage.revoke(owner, 0);
        stage.finish();
        assert_ne!(stage.owner(0), owner);
        assert_eq!(
            (stage.visible(0, 1), stage.answers(0, command)),
            (vec![1], vec![OBEYED.to_string()]),
            "seed {seed}"
        );
    }
}

#[test]
fn a_dead_letter_that_is_sent_back_twice_runs_once_for_each_time_that_it_is_taken_back() {
    let mut stage = with_letter(slow_commits(alone()));
    let (first, second) = (stage.redrive(0, 0), stage.redrive(0, 0));
    stage.until("output visible", 0);
    stage.run_ms(3_000);
    assert_eq!((stage.answers(0, first), stage.answers(0, second)), (vec![OBEYED.into()], vec![IS_PARKED.into()]));
    assert_eq!(stage.visible(0, 1), [1]);
    let third = stage.redrive(0, 0);
    stage.finish();
    assert_eq!((stage.visible(0, 1), stage.answers(0, third)), (vec![2], vec![OBEYED.into()]));
}

#[test]
fn a_dead_letter_that_is_sent_back_while_its_key_is_parked_runs_behind_that() {
    for fault in [None, Some(Fault::Crash), Some(Fault::Lost)] {
        let mut stage = Stage::new(parking(two_workers()));
        stage.run_ms(500);
        stage.write(done().with_plan(Plan::DeadLetter));
        stage.until("letter visible", 0);
        stage.write(fails(1, 9_000));
        stage.write(done());
        stage.until("retry topic kept", 0);
        stage.redrive(0, 0);
        stage.until("retry topic kept", 0);
        // And this one is parked behind it.
        stage.write(done());
        stage.run_ms(300);
        if let Some(fault) = fault {
            let owner = stage.owner(0);
            stage.strike(owner, fault);
        }
        stage.finish();
        let last = |offset| stage.times_at("called", 0, offset).last().copied().unwrap_or_default();
        assert!(last(1) <= last(2) && last(2) <= last(0) && last(0) <= last(3), "{fault:?}");
        assert_eq!((stage.count("letter visible", 0), stage.visible(0, 4)), (2, vec![0, 1, 1, 1]));
    }
}

#[test]
fn what_fails_while_one_of_its_key_is_sent_back_is_parked_behind_that() {
    // Found as seed 67.
    for seed in 0..10 {
        let mut stage = Stage::new(Settings { seed, inbox_during_call: true, ..parking(alone()) });
        stage.run_ms(500);
        stage.write(done().with_plan(Plan::DeadLetter));
        stage.until("letter visible", 0);
        stage.next_call_takes(0, 2_000);
        stage.write(fails(1, 3_000));
        stage.write(done());
        stage.until("called", 0);
        stage.redrive(0, 0);
        stage.until("retry topic kept", 0);
        assert_eq!(stage.count_at("parked", 0, 1), 0, "it is known to be parked before the call ends");
        stage.finish();
        assert_eq!((stage.count("letter visible", 0), stage.visible(0, 3)), (2, vec![0, 1, 1]));
    }
}

#[test]
fn a_drop_whose_transaction_is_in_doubt_is_done_once() {
    for (lot, obeyed) in [(CommitLot::Doubtful, 1), (CommitLot::Failed, 2), (CommitLot::Late(20_000), 1)] {
        for seed in 0..5 {
            let mut stage = Stage::new(Settings { seed, ..parking(slow_commits(alone())) });
            stage.run_ms(500);
            write_three(&mut stage, 1, 60_000);
            stage.until("retry topic kept", 0);
            stage.run_ms(2_000);
            stage.next_commit(0, lot);
            let command = stage.command(0, 0, Deed::Drop);
            stage.until_any("given up");
            stage.finish();
            assert_eq!(stage.visible(0, 3), [0, 1, 1], "{lot:?}");
            assert_eq!((runs(&stage)[0], stage.count_at("obeyed", 0, 0)), (1, obeyed), "{lot:?}");
            assert_eq!(stage.answers(0, command), [OBEYED], "{lot:?}");
        }
    }
}

#[test]
fn a_process_that_dies_between_a_command_and_the_end_of_its_transaction_has_done_nothing() {
    for seed in 0..10 {
        let mut stage = Stage::new(Settings { seed, ..parking(slow_commits(two_workers())) });
        stage.run_ms(500);
        write_three(&mut stage, 1, 60_000);
        stage.until("retry topic kept", 0);
        let commands = [stage.command(0, 0, Deed::Drop), stage.command(0, 1, Deed::Drop)];
        stage.until("obeyed", 0);
        stage.run_ms(seed * 13);
        let owner = stage.owner(0);
        stage.strike(owner, Fault::Crash);
        stage.finish();
        assert_eq!((stage.visible(0, 3), runs(&stage)[0]), (vec![0, 0, 1], 1));
        for command in commands {
            assert_eq!(stage.answers(0, command), [OBEYED]);
        }
    }
}

#[test]
fn a_command_that_was_obeyed_before_a_slow_one_is_not_obeyed_again_after_a_crash() {
    let mut stage = Stage::new(parking(alone()));
    stage.run_ms(500);
    for key in 0..8 {
        stage.write(Rec::new(0, Some(key), key).with_plan(Plan::Retry { times: 1, delay_ms: Some(90_000) }));
    }
    stage.until("retry topic kept", 0);
    stage.run_ms(2_000);
    // One of the two shards is busy.
    stage.write(Rec::new(0, Some(100), 100).with_plan(Plan::Slow(4_000)));
    stage.until("called", 0);
    let commands: Vec<_> = (0..8).map(|offset| stage.command(0, offset, Deed::Drop)).collect();
    stage.run_ms(2_000);
    let before: Vec<usize> = (0..8).map(|offset| stage.count_at("obeyed", 0, offset)).collect();
    let first_open = before.iter().position(|count| *count == 0).unwrap_or(8);
    assert!(before[first_open..].contains(&1), "one is obeyed before another that stands before it: {before:?}");
    stage.strike(0, Fault::Crash);
    stage.finish();
    assert_eq!(stage.count("obeyed", 0), 8, "what was committed is not obeyed again");
    assert_eq!(stage.visible(0, 8), [0; 8]);
    for command in commands {
        assert_eq!(stage.answers(0, command), [OBEYED]);
    }
}

#[test]
fn what_is_held_waits_for_somebody_however_long_and_has_all_its_attempts_anew() {
    let mut settings = parking(two_workers());
    (settings.policy.retry.then, settings.policy.retry.attempts) = (Spent::Hold, 2);
    let mut stage = Stage::new(settings);
    stage.run_ms(500);
    stage.write(Rec::new(0, Some(1), 1).with_plan(Plan::Fails));
    stage.write(done());
    stage.run_ms(10_000);
    let owner = stage.owner(0);
    stage.strike(owner, Fault::Crash);
    stage.run_ms(20_000);
    assert_eq!((stage.visible(0, 2), stage.count_at("called", 0, 0)), (vec![0, 0], 2), "both wait");
    let behind = stage.command(0, 1, Deed::Retry);
    let release = stage.command(0, 0, Deed::Retry);
    stage.run_ms(8_000);
    assert_eq!(stage.count_at("called", 0, 0), 4, "two attempts more");
    let drop = stage.command(0, 0, Deed::Drop);
    let again = stage.command(0, 0, Deed::Drop);
    stage.finish();
    assert_eq!((stage.visible(0, 2), stage.count_at("called", 0, 0)), (vec![0, 1], 4));
    assert!(stage.answers(0, behind)[0].contains("offset 0"), "{:?}", stage.answers(0, behind));
    for (command, answer) in [(release, OBEYED), (drop, OBEYED), (again, NOT_PARKED)] {
        assert_eq!(stage.answers(0, command), [answer]);
    }
}

#[test]
fn more_commands_than_may_be_under_way_are_all_dealt_with() {
    let mut stage = Stage::new(parking(slow_commits(two_workers())));
    stage.run_ms(500);
    write_three(&mut stage, 1, 60_000);
    stage.until("retry topic kept", 0);
    let mut commands: Vec<_> = (0..200).map(|n| stage.command(0, 1_000 + n, Deed::Drop)).collect();
    stage.run_ms(500);
    let owner = stage.owner(0);
    stage.strike(owner, Fault::Crash);
    commands.push(stage.command(0, 0, Deed::Drop));
    stage.finish();
    let last = commands.pop();
    for command in commands {
        assert_eq!(stage.answers(0, command), [NOT_PARKED]);
    }
    assert_eq!(last.map(|command| stage.answers(0, command)), Some(vec![OBEYED.to_string()]));
    assert_eq!(stage.visible(0, 3), [0, 1, 1]);
}

#[test]
fn what_can_never_be_written_is_a_dead_letter_again_when_it_is_sent_back_and_no_duplicate_of_itself() {
    // Found as seed 9.
    let mut stage = Stage::new(with_dedup(parking(alone()), Absent::Process));
    stage.run_ms(500);
    stage.write(Rec { too_large: true, ..done() }.with_id(7));
    stage.until("letter visible", 0);
    let command = stage.redrive(0, 0);
    stage.until("letter visible", 0);
    stage.write(done().with_id(7));
    stage.finish();
    assert_eq!((stage.count("letter visible", 0), stage.answers(0, command)), (2, vec![OBEYED.to_string()]));
    assert_eq!((stage.visible(0, 2), stage.count("duplicate", 0)), (vec![0, 0], 1), "its duplicate is one");
}

#[test]
fn a_duplicate_that_waits_behind_another_is_one_though_somebody_lets_it_run() {
    // Found as seed 1003.
    let mut stage = Stage::new(with_dedup(parking(slow_commits(alone())), Absent::Process));
    stage.run_ms(500);
    stage.write(fails(1, 60_000).with_id(7));
    stage.write(done().with_id(7));
    stage.until("retry topic kept", 0);
    stage.command(0, 0, Deed::Drop);
    stage.until("retry topic kept", 0);
    stage.command(0, 1, Deed::Retry);
    stage.finish();
    assert_eq!((stage.visible(0, 2), stage.count_at("duplicate", 0, 1)), (vec![0, 0], 1));
}
