//! Workers that are killed, stopped, frozen, and come back.

use crate::feed::{Chance, Feed, Plan, plan};
use crate::stage::{Setup, Stage, broker};
use crate::worker::Worker;
use std::time::{Duration, Instant};

/// Sessions as short as they can be kept on a loaded machine: a killed member's partitions wait for its session to end.
pub(crate) const SHORT: &str = "\"session.timeout.ms\" = \"2000\"\n\"heartbeat.interval.ms\" = \"300\"";
const RETRY: &str = "[retry]\nbackoff = { first = \"50ms\", factor = 2.0, max = \"1s\", jitter = 0.1 }";
/// Each message has an id of its own in a header.
pub(crate) const DEDUP: &str = "[dedup]\nid = \"header:trace\"\nabsent = \"dead-letter\"";
/// Session timeout + 10 s, as promised, and as much again for a machine that runs other tests beside.
const PROGRESS: Duration = Duration::from_secs(30);
/// What one fault may repeat: what was handled and not yet committed, with the backlog of a session's time in one go.
const REPEATS: usize = 500;
/// Messages a second under a worker that is frozen.
const RATE: u64 = 1000;

/// The broker decides on sessions then; the rig's says 3 s.
const NEW_PROTOCOL: &str = "\"group.protocol\" = \"consumer\"";

fn setup() -> Setup<'static> {
    Setup { tables: RETRY, kafka: SHORT, ..Setup::default() }
}

/// `KEYRAIL_KILLS=500 cargo xtask test kill` for a longer run.
pub(crate) fn kills(default: u64) -> u64 {
    std::env::var("KEYRAIL_KILLS").ok().map_or(default, |n| n.parse().expect("KEYRAIL_KILLS is a number"))
}

fn kill_at_random(test: &'static str, setup: &Setup<'_>, workers: usize, kills: u64, least: u64) {
    kill_at_random_with(test, setup, workers, kills, plan(500, 900, least));
}

pub(crate) fn kill_at_random_with(test: &'static str, setup: &Setup<'_>, workers: usize, kills: u64, plan: Plan) {
    let Some(kafka) = broker(test) else { return };
    let mut chance = Chance::new(test);
    let stage = Stage::new(test, kafka, setup);
    let mut all: Vec<Worker> = (0..workers).map(|n| Worker::start(&stage, n)).collect();
    let feed = Feed::start(kafka, &stage.input, plan, chance.clone());
    let mut uncommitted = 0;
    for kill in 1..=kills {
        std::thread::sleep(Duration::from_millis(200 + chance.below(3400)));
        let number = chance.below(workers as u64) as usize;
        let why = all[number].ended();
        assert!(why.is_none(), "worker {number} ended by itself: {why:?}\n{}", all[number].tail());
        all[number].kill();
        uncommitted += stage.uncommitted();
        all[number] = Worker::start(&stage, number);
        if kill % 10 == 0 {
            stage.say(&format!("{kill} of {kills} kills, {} messages sent", feed.sent()));
        }
    }
    let account = feed.finish();
    let ended = Instant::now();
    stage.wait_settled(&all.iter().collect::<Vec<_>>(), 0, PROGRESS + Duration::from_secs(plan.least / 1000));
    let settled = ended.elapsed().as_secs_f64();
    let repeats = account.repeats;
    stage.say(&format!(
        "{kills} kills, {} messages, {repeats} sent again; settled {settled:.1} s after the last",
        account.messages
    ));
    for worker in &mut all {
        worker.stop(Duration::from_secs(20));
    }
    let (outputs, letters) = account.judge(&stage);
    if plan.twice > 0 {
        // Nothing that was committed came again: what is sent twice is many times as much.
        stage.say(&format!("{} repeats, {uncommitted} were uncommitted at the kills", outputs.duplicates));
        let most = uncommitted.min(usize::try_from(repeats / 2).unwrap());
        let losses = stage.losses();
        if setup.guarantee == "at-least-once" && losses > 0 {
            // The machine stood still for longer than a session: then two workers may have written at once, and nothing fences them.
            stage.say(&format!("{losses} times a worker was taken for dead"));
            outputs.must_hold(most);
            return letters.must_hold(most);
        }
        outputs.must_hold_strictly(most);
        return letters.must_hold_strictly(most);
    }
    // What was handled and not committed when a worker was killed comes again: that is of what the group had not committed, as much as
    // its backlog held; and what came before it was found to be dead.
    let most = uncommitted + kills as usize * REPEATS;
    stage.say(&format!("{} repeats, {uncommitted} were uncommitted at the kills", outputs.duplicates));
    outputs.must_hold_strictly(most);
    letters.must_hold_strictly(most / 100);
}

#[test]
fn three_workers_killed_at_random_lose_nothing_and_keep_order() {
    let kills = kills(50);
    let test = "three_workers_killed_at_random_lose_nothing_and_keep_order";
    kill_at_random(test, &setup(), 3, kills, 100_000.max(kills * 2000));
}

#[test]
fn two_workers_killed_at_random_lose_nothing_and_keep_order() {
    let kills = kills(15);
    kill_at_random("two_workers_killed_at_random_lose_nothing_and_keep_order", &setup(), 2, kills, 30_000);
}

#[test]
fn two_workers_killed_at_random_suppress_what_is_sent_twice() {
    let test = "two_workers_killed_at_random_suppress_what_is_sent_twice";
    let tables = &format!("{RETRY}\n{DEDUP}");
    let plan = Plan { twice: 200, ..plan(500, 900, 20_000) };
    kill_at_random_with(test, &Setup { tables, ..setup() }, 2, 10, plan);
}

#[test]
fn with_at_least_once_two_workers_killed_at_random_let_nothing_through_twice_that_was_committed() {
    let test = "with_at_least_once_two_workers_killed_at_random_let_nothing_through_twice_that_was_committed";
    let tables = &format!("{RETRY}\n{DEDUP}");
    let plan = Plan { twice: 200, ..plan(500, 900, 20_000) };
    kill_at_random_with(test, &Setup { guarantee: "at-least-once", tables, ..setup() }, 2, 10, plan);
}

#[test]
fn two_workers_by_the_new_protocol_killed_at_random_lose_nothing_and_keep_order() {
    let test = "two_workers_by_the_new_protocol_killed_at_random_lose_nothing_and_keep_order";
    kill_at_random(test, &Setup { kafka: NEW_PROTOCOL, ..setup() }, 2, 10, 20_000);
}

#[test]
fn a_frozen_worker_that_wakes_repeats_and_loses_nothing() {
    freeze("a_frozen_worker_that_wakes_repeats_and_loses_nothing", &setup(), plan(200, RATE, 10_000), REPEATS);
}

#[test]
fn a_frozen_worker_by_the_new_protocol_that_wakes_repeats_and_loses_nothing() {
    let test = "a_frozen_worker_by_the_new_protocol_that_wakes_repeats_and_loses_nothing";
    // Only an answer to its next heartbeat tells a woken worker that it is out. Until then it reads on, and what came in
    // the five seconds is there at once.
    let repeats = REPEATS + 5 * RATE as usize / 2;
    freeze(test, &Setup { kafka: NEW_PROTOCOL, ..setup() }, plan(200, RATE, 10_000), repeats);
}

pub(crate) fn freeze(test: &'static str, setup: &Setup<'_>, plan: Plan, repeats: usize) {
    let Some(kafka) = broker(test) else { return };
    let stage = Stage::new(test, kafka, setup);
    let mut all: Vec<Worker> = (0..2).map(|n| Worker::start(&stage, n)).collect();
    all.iter().for_each(Worker::wait_ready);
    let feed = Feed::start(kafka, &stage.input, plan, Chance::new(test));
    std::thread::sleep(Duration::from_secs(2));
    const FREEZES: usize = 2;
    for (number, frozen) in all.iter().take(FREEZES).enumerate() {
        frozen.signal("STOP");
        std::thread::sleep(Duration::from_secs(5));
        frozen.signal("CONT");
        std::thread::sleep(Duration::from_secs(4));
        // Two workers, six partitions.
        let until = Instant::now() + PROGRESS;
        while frozen.metric("keyrail_partitions_assigned", &[]) != 3.0 {
            assert!(Instant::now() < until, "the woken worker does not work again\n{}", frozen.tail());
            std::thread::sleep(Duration::from_millis(100));
        }
        stage.say(&format!("worker {number} was frozen and works again"));
    }
    let (outputs, letters) = feed.settle(&stage, &mut all, PROGRESS);
    outputs.must_hold(FREEZES * repeats);
    letters.must_hold(FREEZES * repeats / 100);
}

#[test]
fn a_worker_told_to_stop_drains_and_repeats_nothing() {
    let test = "a_worker_told_to_stop_drains_and_repeats_nothing";
    let Some(kafka) = broker(test) else { return };
    let stage = Stage::new(test, kafka, &setup());
    let mut all: Vec<Worker> = (0..2).map(|n| Worker::start(&stage, n)).collect();
    all.iter().for_each(Worker::wait_ready);
    // Some batches take a while, so that the signal comes in the middle of one.
    let plan = Plan { slow: 3, ..plan(200, 2000, 20_000) };
    let feed = Feed::start(kafka, &stage.input, plan, Chance::new(test));
    for round in 0..3 {
        std::thread::sleep(Duration::from_millis(1500));
        let took = all[round % 2].stop(Duration::from_secs(20));
        stage.say(&format!("SIGTERM: ended after {:.2} s", took.as_secs_f64()));
        assert!(took < Duration::from_secs(10), "a drain of nearly nothing took {took:?}");
        all[round % 2] = Worker::start(&stage, round % 2);
    }
    let (outputs, letters) = feed.settle(&stage, &mut all, PROGRESS);
    outputs.must_hold_strictly(0);
    letters.must_hold_strictly(0);
}
