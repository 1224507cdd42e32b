//! Workers that kill themselves at named points, over and over, in one group.

use crate::client::{bounds, committed};
use crate::feed::{Chance, Feed, Plan, plan};
use crate::kills::DEDUP;
use crate::stage::{Setup, Stage, broker, own_broker};
use crate::worker::Worker;
use keyrail::fail::{Point, VARIABLE};
use keyrail_kafka_tests::{Kafka, Options};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

const SIGKILL: i32 = 9;
/// For a start, what brings the worker to its point, and its end there.
const LIMIT: Duration = Duration::from_secs(40);

/// What brings a worker to a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Messages that come in.
    Handling,
    /// Messages that are settled.
    Settling,
    /// Another member that joins.
    Revoke,
    /// SIGTERM.
    Stop,
    /// A broker that does not answer.
    Rewind,
    /// A start with exactly-once.
    Renewal,
    /// Nothing: it is the embedded broker's.
    None,
}

/// How a point is come by, and at the how many-th pass at most the worker dies.
fn way(point: Point) -> (Way, u64) {
    match point {
        Point::AfterFetch | Point::AfterProduce => (Way::Handling, 1500),
        Point::BeforeCall | Point::AfterCall => (Way::Handling, 200),
        Point::AfterAck => (Way::Settling, 1500),
        Point::AfterLetter => (Way::Settling, 2),
        Point::BeforeCommit | Point::CommitAnswered => (Way::Settling, 15),
        Point::CommitSent => (Way::Settling, 5),
        Point::BeforeLastCommit | Point::AfterLastCommit => (Way::Revoke, 1),
        Point::BeforeRewind | Point::AfterRewind => (Way::Rewind, 3),
        Point::BeforeStop | Point::AfterStop => (Way::Stop, 1),
        Point::BeforeRenewal | Point::AfterRenewal => (Way::Renewal, 1),
        Point::WriteBegun | Point::WriteDone => (Way::None, 1),
    }
}

/// Starts a worker that is to die at the point, brings it there, and tells how many messages were uncommitted then.
fn die(stage: &Stage<'_>, point: Point, pass: u64) -> usize {
    let mut victim = Worker::start_armed(stage, 0, &format!("{}@{pass}", point.name()));
    victim.wait_log(&format!("{VARIABLE}={}", point.name()), LIMIT);
    match way(point).0 {
        Way::Handling | Way::Settling | Way::Renewal | Way::None => expect_end(&mut victim, point),
        Way::Revoke => {
            victim.wait_ready();
            victim.wait_metric("keyrail_partitions_assigned", &[], |n| n == 6.0);
            // A transaction that ends while the group changes is given up: then there is no last commit, and the next
            // change must bring it.
            until_it_dies(&mut victim, point, |victim| {
                let mut other = Worker::start(stage, 1);
                let change = Instant::now() + Duration::from_secs(5);
                let mut status = None;
                while status.is_none() && Instant::now() < change {
                    std::thread::sleep(Duration::from_millis(20));
                    status = victim.ended();
                }
                other.stop(Duration::from_secs(20));
                status
            });
        }
        Way::Stop => {
            victim.wait_ready();
            victim.wait_metric("keyrail_messages_settled_total", &[], |n| n > 100.0);
            victim.signal("TERM");
            expect_end(&mut victim, point);
        }
        Way::Rewind => {
            victim.wait_ready();
            victim.wait_metric("keyrail_messages_settled_total", &[], |n| n > 100.0);
            if stage.exactly_once {
                // Its partitions start anew once the broker is there again to say from where.
                until_it_dies(&mut victim, point, |victim| {
                    stage.kafka.freeze(1).unwrap();
                    std::thread::sleep(Duration::from_millis(1500));
                    stage.kafka.thaw(1).unwrap();
                    std::thread::sleep(Duration::from_millis(500));
                    victim.ended()
                });
            } else {
                stage.kafka.freeze(1).unwrap();
                expect_end(&mut victim, point);
                stage.kafka.thaw(1).unwrap();
            }
        }
    }
    uncommitted(stage)
}

/// Does again what brings the worker to its point, until it dies there.
fn until_it_dies(victim: &mut Worker, point: Point, mut bring: impl FnMut(&mut Worker) -> Option<ExitStatus>) {
    let until = Instant::now() + LIMIT;
    loop {
        assert!(Instant::now() < until, "{point:?}: the worker lives\n{}", victim.tail());
        if let Some(status) = bring(victim) {
            return judge_end(victim, point, status);
        }
    }
}

fn expect_end(victim: &mut Worker, point: Point) {
    let status = victim.wait(LIMIT);
    judge_end(victim, point, status);
}

fn judge_end(victim: &Worker, point: Point, status: ExitStatus) {
    assert_eq!(status.signal(), Some(SIGKILL), "{point:?}: {status}\n{}", victim.tail());
    let said = format!("fail point {}: the process kills itself", point.name());
    assert!(victim.log().contains(&said), "killed, and not at its point\n{}", victim.tail());
}

/// What the group has not committed: all that another start may repeat.
fn uncommitted(stage: &Stage<'_>) -> usize {
    let until = Instant::now() + LIMIT;
    let have = loop {
        match committed(stage.kafka, &stage.group, &stage.input) {
            Ok(have) => break have,
            // The group's first coordinator may still be about to begin.
            Err(error) => assert!(Instant::now() < until, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    let ends = bounds(stage.kafka, &stage.input);
    let left: i64 = ends.iter().zip(have).map(|((start, end), have)| end - have.max(*start)).sum();
    usize::try_from(left).unwrap()
}

/// Under what messages workers die.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load<'a> {
    pub(crate) guest: &'a str,
    pub(crate) guarantee: &'a str,
    /// The pipeline's `[retry]`.
    pub(crate) retry: &'a str,
    pub(crate) plan: Plan,
}

const RETRY: &str = "[retry]\nbackoff = { first = \"50ms\", factor = 2.0, max = \"1s\", jitter = 0.1 }";

fn load(guarantee: &str) -> Load<'_> {
    // With exactly-once nothing comes of what is sent twice, whatever dies in between.
    let twice = if guarantee == "exactly-once" { 200 } else { 0 };
    Load { guest: "scripted", guarantee, retry: RETRY, plan: Plan { twice, ..plan(100, 300, 0) } }
}

/// All points of a way, in one group, under messages that keep coming.
fn all_points_of(wanted: Way, test: &'static str, kafka: &Kafka, lines: &str, load: Load<'_>, rounds: usize) {
    let Load { guest, guarantee, retry, plan } = load;
    // A transaction that ends just when the group changes is given up, and then there is no last commit to die at. Far apart,
    // they seldom do.
    let interval = if wanted == Way::Revoke { "\n[commit]\ninterval = \"1s\"" } else { "" };
    let dedup = if plan.twice > 0 { DEDUP } else { "" };
    let tables = &format!("{retry}{interval}\n{dedup}");
    let setup = Setup { guest, tables, kafka: lines, guarantee, ..Setup::default() };
    let stage = Stage::new(test, kafka, &setup);
    if retry.contains("in-place") {
        // Else the first message to be parked ends a worker's threads, and one that is to stop just then has no point to die at.
        let topic = format!("{}.{}.retry", stage.group, stage.input);
        let settings = [("cleanup.policy", "compact"), ("delete.retention.ms", "604800000")];
        kafka.create_topic(&topic, setup.partitions, &settings).unwrap();
    }
    let mut chance = Chance::new(test);
    let feed = Feed::start(kafka, &stage.input, plan, chance.clone());
    let points: Vec<Point> = Point::ALL.into_iter().filter(|p| way(*p).0 == wanted).collect();
    let (mut deaths, mut window) = (0, 0);
    for _ in 0..rounds {
        for point in &points {
            // A restart is one for all partitions.
            let most = if wanted == Way::Rewind && guarantee == "exactly-once" { 1 } else { way(*point).1 };
            let pass = 1 + chance.below(most);
            let left = die(&stage, *point, pass);
            stage.say(&format!("died at {}@{pass}, {left} messages uncommitted", point.name()));
            (deaths, window) = (deaths + 1, window + left);
        }
    }
    let account = feed.finish();
    let mut last = Worker::start(&stage, 0);
    stage.wait_settled(&[&last], 0, LIMIT);
    last.stop(Duration::from_secs(20));
    assert_eq!(deaths, points.len() * rounds);
    stage.say(&format!("{wanted:?}: {deaths} deaths, {} messages, at most {window} repeats", account.messages));
    let (outputs, letters) = account.judge(&stage);
    outputs.must_hold_strictly(window);
    letters.must_hold_strictly(window);
}

/// All points but those that need a broker which does not answer.
pub(crate) fn all_points_under(test: &'static str, load: Load<'_>, rounds: usize) {
    all_points(test, &[Way::Handling, Way::Settling, Way::Revoke, Way::Stop, Way::Renewal], load, rounds);
}

fn all_points(test: &'static str, ways: &[Way], load: Load<'_>, rounds: usize) {
    let Some(kafka) = broker(test) else { return };
    let lines = "\"session.timeout.ms\" = \"2000\"\n\"heartbeat.interval.ms\" = \"300\"";
    // Side by side: most of the time each waits for a dead member's session to end.
    std::thread::scope(|all| {
        for way in ways {
            all.spawn(move || all_points_of(*way, test, kafka, lines, load, rounds));
        }
    });
}

#[test]
fn a_worker_killed_at_any_named_point_loses_and_repeats_nothing_and_keeps_order() {
    let test = "a_worker_killed_at_any_named_point_loses_and_repeats_nothing_and_keeps_order";
    all_points_under(test, load("exactly-once"), 3);
}

#[test]
fn with_at_least_once_a_worker_killed_at_any_named_point_loses_nothing_and_keeps_order() {
    let test = "with_at_least_once_a_worker_killed_at_any_named_point_loses_nothing_and_keeps_order";
    all_points(test, &[Way::Handling, Way::Settling, Way::Revoke, Way::Stop], load("at-least-once"), 1);
}

#[test]
fn a_worker_killed_while_it_rewinds_loses_nothing_and_keeps_order() {
    let test = "a_worker_killed_while_it_rewinds_loses_nothing_and_keeps_order";
    let Some(kafka) = own_broker(test, &Options::default()) else { return };
    // What the frozen broker does not acknowledge is refused before the session is over.
    let lines =
        "\"session.timeout.ms\" = \"6000\"\n\"heartbeat.interval.ms\" = \"300\"\n\"message.timeout.ms\" = \"1000\"";
    all_points_of(Way::Rewind, test, &kafka, lines, load("exactly-once"), 3);
}
