//! Rebalance storms: a member in and out every two seconds, by each way in which a group can assign its partitions.

use crate::feed::{Chance, Feed, Plan, plan};
use crate::stage::{Setup, Stage, broker};
use crate::worker::Worker;
use std::time::{Duration, Instant};

const SHORT: &str = "\"session.timeout.ms\" = \"2000\"\n\"heartbeat.interval.ms\" = \"300\"";
const RETRY: &str = "[retry]\nbackoff = { first = \"50ms\", factor = 2.0, max = \"1s\", jitter = 0.1 }";
const PROGRESS: Duration = Duration::from_secs(30);
const STORM: Duration = Duration::from_secs(40);

fn storm(test: &'static str, lines: &str) {
    let setup = Setup { tables: RETRY, kafka: lines, ..Setup::default() };
    storm_for(test, &setup, plan(200, 500, 20_000), STORM);
}

/// Everybody leaves in good order, so nothing may be repeated.
pub(crate) fn storm_for(test: &'static str, setup: &Setup<'_>, plan: Plan, span: Duration) {
    let Some(kafka) = broker(test) else { return };
    let stage = Stage::new(test, kafka, setup);
    let mut all: Vec<Worker> = (0..2).map(|n| Worker::start(&stage, n)).collect();
    all.iter().for_each(Worker::wait_ready);
    let feed = Feed::start(kafka, &stage.input, plan, Chance::new(test));
    let (began, mut rounds) = (Instant::now(), 0);
    while began.elapsed() < span {
        let mut guest = Worker::start(&stage, 2);
        std::thread::sleep(Duration::from_secs(2));
        guest.stop(Duration::from_secs(20));
        std::thread::sleep(Duration::from_secs(2));
        rounds += 1;
    }
    let revoked: f64 = all.iter().map(|w| w.metric("keyrail_rebalances_total", &["kind=\"revoked\""])).sum();
    let lost: f64 = all.iter().map(|w| w.metric("keyrail_rebalances_total", &["kind=\"lost\""])).sum();
    stage.say(&format!(
        "{rounds} rounds in {:.0} s, {revoked} revokes, {lost} losses, {} messages sent",
        began.elapsed().as_secs_f64(),
        feed.sent()
    ));
    let least = span.as_secs() / 7 + 1;
    assert!(rounds >= least, "{rounds} rounds: joining and leaving takes too long");
    assert!(revoked >= rounds as f64, "{revoked} revokes: the members were not disturbed");
    let (outputs, letters) = feed.settle(&stage, &mut all, PROGRESS);
    outputs.must_hold_strictly(0);
    letters.must_hold_strictly(0);
}

#[test]
fn a_cooperative_member_that_joins_and_leaves_every_two_seconds_repeats_nothing() {
    storm("a_cooperative_member_that_joins_and_leaves_every_two_seconds_repeats_nothing", SHORT);
}

#[test]
fn an_eager_member_that_joins_and_leaves_every_two_seconds_repeats_nothing() {
    let lines = format!("{SHORT}\n\"partition.assignment.strategy\" = \"range\"");
    storm("an_eager_member_that_joins_and_leaves_every_two_seconds_repeats_nothing", &lines);
}

#[test]
fn a_member_by_the_new_protocol_that_joins_and_leaves_every_two_seconds_repeats_nothing() {
    let test = "a_member_by_the_new_protocol_that_joins_and_leaves_every_two_seconds_repeats_nothing";
    storm(test, "\"group.protocol\" = \"consumer\"");
}
