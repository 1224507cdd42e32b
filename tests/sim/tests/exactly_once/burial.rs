//! What is given up takes all that waits behind it along, whatever happens in between. That each has one dead letter, in order,
//! that none of them runs, and that nothing else goes with them is checked by the oracle.

use super::parked::{done, parking};
use super::{alone, slow_commits, two_workers};
use crate::stage::Stage;
use keyrail_engine::inbox::Deed;
use keyrail_engine::policy::Spent;
use keyrail_sim::coverage::Fault;
use keyrail_sim::env::CommitLot;
use keyrail_sim::record::{Plan, Rec};
use keyrail_sim::settings::Settings;

/// More than are loaded at a time.
const FOLLOWERS: i64 = 10;

/// The first message of partition 0 failed once of two times, and so many wait behind it.
fn with_followers(settings: Settings) -> Stage {
    let mut settings = parking(settings);
    (settings.policy.retry.then, settings.policy.retry.attempts) = (Spent::DeadLetterKey, 2);
    let mut stage = Stage::new(settings);
    stage.run_ms(500);
    stage.write(Rec::new(0, Some(1), 1).with_plan(Plan::Retry { times: 2, delay_ms: Some(3_000) }));
    stage.until("retry topic kept", 0);
    (0..FOLLOWERS).for_each(|_| stage.write(done()));
    stage.run_ms(1_500);
    stage
}

/// All of these have their dead letter, once, and did not run; the first one ran twice.
fn judge(stage: &Stage, what: &dyn std::fmt::Debug) {
    let letters = (0..=FOLLOWERS).map(|offset| stage.count_at("letter visible", 0, offset));
    assert_eq!(letters.collect::<Vec<_>>(), [1; FOLLOWERS as usize + 1], "{what:?}");
    let ran = (1..=FOLLOWERS).map(|offset| stage.count_at("called", 0, offset)).sum::<usize>();
    assert_eq!(ran, 0, "{what:?}");
}

#[test]
fn a_key_is_given_up_once_whatever_ends_its_process_at_any_moment_of_it() {
    let (mut later_ran, mut later_went) = (0, 0);
    for fault in [Fault::Crash, Fault::Stop, Fault::Lost, Fault::Zombie] {
        for seed in 0..20 {
            let mut stage = with_followers(Settings { seed, ..slow_commits(two_workers()) });
            stage.until("dead letter", 0);
            // Between the decision, its dead letters and the end of the mark.
            stage.run_ms(seed * 23);
            stage.write(done());
            let owner = stage.owner(0);
            stage.strike(owner, fault);
            stage.finish();
            judge(&stage, &(fault, seed));
            let ran = stage.visible(0, FOLLOWERS + 2).pop().unwrap_or_default();
            // It goes along where the decision that it came behind was lost.
            let went = stage.count_at("letter visible", 0, FOLLOWERS + 1);
            assert_eq!(ran + went, 1, "{fault:?} {seed}");
            (later_ran, later_went) = (later_ran + ran, later_went + went);
        }
    }
    assert!(later_ran > 10 && later_went > 0, "{later_ran} ran, and {later_went} went along");
}

#[test]
fn a_key_is_given_up_once_though_its_transactions_are_in_doubt() {
    for lot in [CommitLot::Doubtful, CommitLot::Failed, CommitLot::Late(20_000)] {
        for seed in 0..10 {
            let mut stage = with_followers(Settings { seed, ..slow_commits(alone()) });
            stage.until("dead letter", 0);
            stage.run_ms(seed * 31);
            stage.next_commit(0, lot);
            stage.until_any("given up");
            stage.write(done());
            stage.finish();
            judge(&stage, &(lot, seed));
        }
    }
}

#[test]
fn what_is_given_up_with_another_is_neither_retried_nor_dropped_and_runs_when_it_is_sent_back() {
    let mut stage = with_followers(slow_commits(alone()));
    stage.until("dead letter", 0);
    // The mark is known to be committed from here on.
    stage.until("retry topic kept", 0);
    let drop = stage.command(0, 5, Deed::Drop);
    stage.run_ms(20_000);
    let answer = stage.answers(0, drop);
    assert!(answer[0].contains("offset 0") || answer[0].contains("not parked"), "{answer:?}");
    judge(&stage, &"as it is");
    stage.redrive(0, 3);
    stage.redrive(0, 4);
    stage.finish();
    assert_eq!(stage.visible(0, 5), [0, 0, 0, 1, 1]);
}
