//! What an outage costs, and what is none.
#![allow(clippy::panic, reason = "a test says what went wrong by panicking")]

use keyrail_engine::policy::{Breaker, Policy, Retry};
use keyrail_sim::record::{Plan, Rec};
use keyrail_sim::settings::Settings;
use keyrail_sim::world::World;

/// Longest that a scenario may take, in virtual milliseconds.
const PATIENCE_MS: u64 = 7_200_000;

/// The breaker of the defaults, and three attempts within two seconds.
fn settings(quiet: Settings) -> Settings {
    let breaker = Breaker { failures: 0.5, window_ms: 1_000, pause_ms: 5_000, least_lanes: 5 };
    let retry = Retry { attempts: 4, first_ms: 300, max_ms: 1_000, ..quiet.policy.retry.clone() };
    Settings { workers: 1, policy: Policy { breaker: Some(breaker), retry, ..quiet.policy.clone() }, ..quiet }
}

/// Plays it to its end.
fn play(world: &mut World) {
    loop {
        world.step();
        if let Some(violation) = world.env.oracle.take_violation() {
            panic!("{violation}");
        }
        assert!(world.env.now_ms < PATIENCE_MS, "it has no end");
        if world.is_over() {
            break;
        }
    }
    world.end();
    assert_eq!(world.env.oracle.take_violation(), None);
}

fn count(world: &World, what: &str, from_ms: u64, to_ms: u64) -> usize {
    let events = world.env.trace.events().iter();
    events.filter(|event| event.what == what && (from_ms..to_ms).contains(&event.at_ms)).count()
}

fn an_hour_of(what: impl Fn(&mut World, u64), quiet: Settings) {
    const HOUR_MS: u64 = 3_600_000;
    let mut world = World::new(settings(quiet), true);
    for n in 0..120 {
        world.write(Rec::new((n % 3) as u16, Some(n % 40), n));
    }
    what(&mut world, HOUR_MS);
    world.env.harm_until_ms = HOUR_MS;
    play(&mut world);
    let letters = count(&world, "dead letter", 0, PATIENCE_MS);
    assert_eq!(letters, 0, "downstream was away for an hour, and that is no message's fault");
    assert_eq!(count(&world, "done", 0, PATIENCE_MS), 120);
    assert_eq!(count(&world, "breaker opens", 0, PATIENCE_MS), 1);
    let tried = count(&world, "called", 10_000, HOUR_MS);
    assert!((600..=720).contains(&tried), "{tried} messages were tried, and every five seconds one should be");
    // By itself, a pause after the outage at the latest.
    assert_eq!(count(&world, "breaker closes", HOUR_MS, HOUR_MS + 6_000), 1);
}

#[test]
fn an_hour_of_failures_costs_no_message_its_life() {
    let fails = |world: &mut World, until_ms| world.env.afflictions[0].failing_until_ms = until_ms;
    an_hour_of(fails, Settings::quiet());
    an_hour_of(fails, Settings::quiet_exactly_once());
}

#[test]
fn an_hour_of_traps_costs_no_message_its_life() {
    let traps = |world: &mut World, until_ms| world.env.afflictions[0].trapping_until_ms = until_ms;
    an_hour_of(traps, Settings::quiet());
    an_hour_of(traps, Settings::quiet_exactly_once());
}

#[test]
fn a_few_messages_that_never_succeed_open_nothing_and_are_given_up_as_ever() {
    for quiet in [Settings::quiet(), Settings::quiet_exactly_once()] {
        let mut world = World::new(settings(quiet), true);
        for n in 0..4 {
            world.write(Rec::new(0, Some(n), n).with_plan(Plan::Fails));
            world.write(Rec::new(0, Some(n), 100 + n).with_plan(Plan::Fails));
        }
        play(&mut world);
        assert_eq!(count(&world, "breaker opens", 0, PATIENCE_MS), 0);
        assert_eq!(count(&world, "dead letter", 0, PATIENCE_MS), 8);
    }
}
