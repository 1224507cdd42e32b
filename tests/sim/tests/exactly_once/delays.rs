//! Delayed sends: each goes out once, whatever happens to the transaction that holds it, or to its partition. That none is early,
//! and each is deleted with its sending, is checked by the oracle at each commit.

use super::{alone, slow_commits, two_workers};
use crate::stage::Stage;
use keyrail_sim::coverage::Fault;
use keyrail_sim::env::CommitLot;
use keyrail_sim::record::{Later, Plan, Rec};
use keyrail_sim::settings::Settings;

fn delaying(mut settings: Settings) -> Settings {
    (settings.policy.state, settings.policy.delays) = (true, true);
    settings
}

/// A message that sends nothing now.
fn later(in_ms: u32) -> Rec {
    Rec::new(0, Some(1), 1).with_outputs(&[]).with_later(Later { place: 1, in_ms })
}

#[test]
fn a_delayed_send_outlives_a_doubtful_end_of_its_transaction_and_goes_out_once() {
    for lot in [CommitLot::Doubtful, CommitLot::Failed, CommitLot::Late(20_000), CommitLot::Slow(20_000)] {
        for seed in 0..5 {
            let mut stage = Stage::new(Settings { seed, ..delaying(alone()) });
            stage.run_ms(500);
            stage.write(later(300));
            stage.until("commit stored", 0);
            assert_eq!(stage.count("output staged", 0), 0);
            stage.next_commit(0, lot);
            stage.until("output staged", 0);
            stage.until_any("given up");
            stage.finish();
            assert_eq!(stage.count("output visible", 0), 1, "{lot:?}");
        }
    }
}

#[test]
fn a_zombie_that_wakes_with_a_delayed_send_under_way_sends_nothing() {
    let mut stage = Stage::new(slow_commits(delaying(two_workers())));
    stage.run_ms(500);
    stage.write(later(400));
    stage.until("commit stored", 0);
    stage.until("output staged", 0);
    let sleeper = stage.owner(0);
    stage.strike(sleeper, Fault::Zombie);
    stage.until("output visible", 0);
    assert_ne!(stage.owner(0), sleeper);
    stage.finish();
    assert_eq!(stage.count("output visible", 0), 1);
}

#[test]
fn a_delayed_send_does_not_wait_for_its_key() {
    let mut settings = delaying(alone());
    settings.policy.retry.in_place_ms = None;
    let mut stage = Stage::new(settings);
    stage.run_ms(500);
    stage.write(later(200));
    stage.write(Rec::new(0, Some(1), 2).with_plan(Plan::Retry { times: 1, delay_ms: Some(3_000) }));
    stage.until("called", 0);
    let began_ms = stage.now_ms();
    stage.until("output visible", 0);
    assert!((200..600).contains(&(stage.now_ms() - began_ms)), "{} ms", stage.now_ms() - began_ms);
    stage.finish();
    assert_eq!(stage.count("output visible", 0), 2);
}

#[test]
fn what_fails_for_good_delays_nothing() {
    let mut stage = Stage::new(delaying(alone()));
    stage.run_ms(500);
    stage.write(later(100).with_plan(Plan::DeadLetter));
    stage.until("letter visible", 0);
    stage.run_ms(1_000);
    stage.finish();
    assert_eq!(stage.count("output visible", 0), 0);
}
