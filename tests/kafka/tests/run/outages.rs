//! Brokers that die and come back, or are not there yet.

use crate::client::{Rec, committed, leader, read_all, send_all};
use crate::feed::{Chance, Feed, plan};
use crate::stage::{Setup, Stage, broker, own_broker};
use crate::worker::Worker;
use keyrail_kafka_tests::{Kafka, Options};
use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const LIMIT: Duration = Duration::from_secs(60);
/// A member of the group that is silent for so long has left it: Kafka's default.
const SESSION: Duration = Duration::from_secs(45);
const RETRY: &str = "[retry]\nbackoff = { first = \"50ms\" }";

#[test]
fn a_broker_killed_and_restarted_loses_nothing() {
    let test = "a_broker_killed_and_restarted_loses_nothing";
    let Some(kafka) = own_broker(test, &Options::default()) else { return };
    let stage = Stage::new(test, &kafka, &Setup { tables: RETRY, ..Setup::default() });
    let mut all: Vec<Worker> = (0..2).map(|n| Worker::start(&stage, n)).collect();
    all.iter().for_each(Worker::wait_ready);
    let feed = Feed::start(&kafka, &stage.input, plan(200, 800, 10_000), Chance::new(test));
    const KILLS: usize = 2;
    for kill in 1..=KILLS {
        std::thread::sleep(Duration::from_secs(3));
        kafka.kill(1).unwrap();
        std::thread::sleep(Duration::from_secs(2));
        kafka.restart(1).unwrap();
        stage.say(&format!("broker killed and restarted, {kill} of {KILLS}; {} messages sent", feed.sent()));
    }
    std::thread::sleep(Duration::from_secs(2));
    let account = feed.finish();
    let ended = Instant::now();
    stage.wait_settled(&all.iter().collect::<Vec<_>>(), 0, LIMIT);
    stage.say(&format!("settled {:.1} s after the last message", ended.elapsed().as_secs_f64()));
    for worker in &mut all {
        assert_eq!(worker.get("/livez").map(|p| p.status), Some(200), "an outage is no death\n{}", worker.tail());
        worker.stop(Duration::from_secs(20));
    }
    let (outputs, letters) = account.judge(&stage);
    outputs.must_hold(KILLS * 2000);
    letters.must_hold(KILLS * 20);
}

#[test]
fn a_broker_away_at_the_start_is_waited_for() {
    let test = "a_broker_away_at_the_start_is_waited_for";
    let Some(kafka) = own_broker(test, &Options::default()) else { return };
    let stage = Stage::new(test, &kafka, &Setup::default());
    let records: Vec<Rec> = (0..100).map(|n| Rec::script(&format!("k{n}"), "done", &format!("m{n}"))).collect();
    send_all(&kafka, &stage.input, &records);
    kafka.stop(1).unwrap();
    let mut worker = Worker::start(&stage, 0);
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_secs(4));
        let ended = worker.ended();
        assert!(ended.is_none(), "it must wait: {ended:?}\n{}", worker.tail());
        assert_eq!(worker.get("/livez").map(|p| p.status), Some(200), "{}", worker.tail());
        let ready = worker.get("/readyz").expect("an answer");
        assert_eq!(ready.status, 503);
    }
    let ready = worker.get("/readyz").expect("an answer");
    assert!(ready.body.contains("bootstrap.servers"), "the reason with its cure: {}", ready.body);
    kafka.restart(1).unwrap();
    let back = Instant::now();
    stage.wait_settled(&[&worker], 0, LIMIT);
    stage.say(&format!("works {:.1} s after the broker came", back.elapsed().as_secs_f64()));
    worker.wait_ready();
    assert_eq!(read_all(&kafka, &stage.output).len(), 100);
    worker.stop(Duration::from_secs(15));
}

#[test]
fn brokers_that_are_away_for_a_minute_are_told_and_waited_for() {
    let test = "brokers_that_are_away_for_a_minute_are_told_and_waited_for";
    let Some(kafka) = own_broker(test, &Options::default()) else { return };
    let stage = Stage::new(test, &kafka, &Setup { tables: RETRY, ..Setup::default() });
    let mut all: Vec<Worker> = (0..3).map(|n| Worker::start(&stage, n)).collect();
    all.iter().for_each(|w| w.wait_metric("keyrail_partitions_assigned", &[], |n| n == 2.0));
    let feed = Feed::start(&kafka, &stage.input, plan(200, 300, 10_000), Chance::new(test));
    std::thread::sleep(Duration::from_secs(3));
    kafka.kill(1).unwrap();
    let gone = Instant::now();
    while gone.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_secs(3));
        for worker in &mut all {
            let ended = worker.ended();
            assert!(ended.is_none(), "it must wait: {ended:?}\n{}", worker.tail());
            assert_eq!(worker.get("/livez").map(|p| p.status), Some(200), "{}", worker.tail());
            let ready = worker.get("/readyz").expect("an answer");
            let told = ready.status == 503 && ready.body.contains("bootstrap.servers");
            assert!(told || gone.elapsed() < Duration::from_secs(10), "not told: {ready:?}\n{}", worker.tail());
        }
    }
    all.iter().for_each(|w| w.wait_metric("keyrail_commit_age_seconds", &[], |age| age > 50.0));
    kafka.restart(1).unwrap();
    let back = Instant::now();
    all.iter().for_each(Worker::wait_ready);
    stage.say(&format!("all ready {:.1} s after the broker was back", back.elapsed().as_secs_f64()));
    let account = feed.finish();
    // The group's coordinator keeps the places of those it knew before it went for a session timeout (45 s): that much of the wait is
    // no work. The second is room for a machine that is full: there, one was once not enough, and why was not seen.
    stage.wait_settled(&all.iter().collect::<Vec<_>>(), 0, 2 * SESSION + LIMIT);
    stage.say(&format!("settled {:.1} s after the broker was back", back.elapsed().as_secs_f64()));
    for worker in &mut all {
        worker.stop(Duration::from_secs(20));
    }
    let (outputs, letters) = account.judge(&stage);
    outputs.must_hold(2000);
    letters.must_hold(20);
}

#[test]
fn a_service_that_is_down_costs_no_attempts_and_the_breaker_closes_by_itself() {
    let test = "a_service_that_is_down_costs_no_attempts_and_the_breaker_closes_by_itself";
    let Some(kafka) = broker(test) else { return };
    let tables = "[retry]\nattempts = 4\nbackoff = { first = \"300ms\", factor = 1.5, jitter = 0.0 }\n\
                  [breaker]\nwindow = \"1s\"\npause = \"2s\"";
    let stage = Stage::new(test, kafka, &Setup { tables, ..Setup::default() });
    let mut all: Vec<Worker> = (0..2).map(|n| Worker::start(&stage, n)).collect();
    all.iter().for_each(|w| w.wait_metric("keyrail_partitions_assigned", &[], |n| n == 3.0));
    let back_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() + 15_000;
    let command = format!("retry-until:{back_ms}");
    let records: Vec<Rec> =
        (0..2_000).map(|n| Rec::script(&format!("k{}", n % 1_000), &command, &format!("k{}-{n}", n % 1_000))).collect();
    send_all(kafka, &stage.input, &records);
    for worker in &all {
        worker.wait_metric("keyrail_breaker_state", &[], |state| state > 0.0);
        assert!(worker.log().contains("the breaker is open"), "{}", worker.tail());
        // No other process would do better.
        worker.wait_ready();
    }
    stage.say("both breakers are open");
    stage.wait_settled(&all.iter().collect::<Vec<_>>(), 1, LIMIT);
    for worker in &mut all {
        worker.wait_metric("keyrail_breaker_state", &[], |state| state == 0.0);
        worker.wait_metric("keyrail_breaker_opened_total", &[], |opened| opened == 1.0);
        worker.wait_metric("keyrail_breaker_probes_total", &["result=\"stood\""], |stood| stood == 3.0);
        assert!(worker.log().contains("the breaker is closed"), "{}", worker.tail());
        worker.stop(Duration::from_secs(20));
    }
    assert_eq!(read_all(kafka, &stage.letters).len(), 0);
    let outputs = read_all(kafka, &stage.output);
    assert_eq!(outputs.len(), 2_000, "each once");
    let mut last = BTreeMap::new();
    for output in &outputs {
        let number: u32 = output.text().rsplit('-').next().unwrap().parse().unwrap();
        assert!(last.insert(output.key.clone(), number) < Some(number), "{output:?} came too early");
        assert!(output.told("attempt").parse::<u32>().unwrap() <= 3, "{output:?}");
    }
}

#[test]
fn a_slow_message_that_holds_its_partition_is_named() {
    let test = "a_slow_message_that_holds_its_partition_is_named";
    let Some(kafka) = broker(test) else { return };
    let tables = "[limits]\ntimeout = \"17s\"\n[batch]\nmax-time = \"17s\"\n[retry]\nattempts = 1";
    let stage = Stage::new(test, kafka, &Setup { tables, partitions: 1, ..Setup::default() });
    send_all(kafka, &stage.input, &[Rec::script("snail", "loop", "slow"), Rec::script("k", "done", "m")]);
    let mut worker = Worker::start(&stage, 0);
    let labels = ["offset=\"0\"", "key=\"snail\"", "partition=\"0\""];
    worker.wait_metric("keyrail_partition_slow_message_age_seconds", &labels, |age| age >= 10.0);
    let log = worker.log();
    let line = log.lines().find(|line| line.contains("a slow message holds up"));
    assert!(line.is_some_and(|line| line.contains("snail") && line.contains("\"offset\":0")), "{}", worker.tail());
    stage.wait_settled(&[&worker], 1, LIMIT);
    let until = Instant::now() + LIMIT;
    while !worker.log().contains("does not hold its partition up any more") {
        assert!(Instant::now() < until, "{}", worker.tail());
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(worker.log().matches("a slow message holds up").count(), 1, "told once");
    worker.stop(Duration::from_secs(20));
}

/// The broker that coordinates a group, of a cluster with four partitions of groups' offsets.
fn coordinator(kafka: &Kafka, group: &str) -> i32 {
    let hash = group.bytes().fold(0_i32, |hash, byte| hash.wrapping_mul(31).wrapping_add(i32::from(byte)));
    leader(kafka, "__consumer_offsets", (hash & i32::MAX) % 4)
}

#[test]
fn a_group_whose_coordinator_moves_loses_nothing() {
    let test = "a_group_whose_coordinator_moves_loses_nothing";
    // A dead broker's partitions move when the controller has missed it for so long.
    let properties = vec![
        ("broker.session.timeout.ms".to_owned(), "3000".to_owned()),
        ("broker.heartbeat.interval.ms".to_owned(), "500".to_owned()),
    ];
    let Some(kafka) = own_broker(test, &Options { brokers: 3, properties, ..Options::default() }) else { return };
    let setup = Setup { tables: RETRY, ..Setup::default() };
    let mut stage = Stage::new(test, &kafka, &setup);
    // The first group makes Kafka's topic of offsets.
    let until = Instant::now() + LIMIT;
    while committed(&kafka, &stage.group, &stage.input).is_err() {
        assert!(Instant::now() < until, "the offsets of groups are nowhere\n{}", kafka.story(1).unwrap());
    }
    // Broker 1 is the controller too, and must stay.
    let groups = (0..100).map(|n| format!("{}-{n}", stage.group));
    stage.group = groups.into_iter().find(|g| coordinator(&kafka, g) != 1).expect("a group of another broker's");
    stage.write_manifest(&setup);
    stage.letters = format!("{}.{}.dlq", stage.group, stage.input);
    let mut all: Vec<Worker> = (0..2).map(|n| Worker::start(&stage, n)).collect();
    all.iter().for_each(|w| w.wait_metric("keyrail_partitions_assigned", &[], |n| n == 3.0));
    let feed = Feed::start(&kafka, &stage.input, plan(200, 500, 10_000), Chance::new(test));
    const MOVES: usize = 2;
    for _ in 0..MOVES {
        std::thread::sleep(Duration::from_secs(3));
        let old = coordinator(&kafka, &stage.group);
        assert!(old > 1, "broker {old} coordinates");
        let id = u32::try_from(old).unwrap();
        kafka.kill(id).unwrap();
        let gone = Instant::now();
        while coordinator(&kafka, &stage.group) == old {
            assert!(gone.elapsed() < LIMIT, "no other broker coordinates\n{}", kafka.story(1).unwrap());
            std::thread::sleep(Duration::from_millis(200));
        }
        let moved = Instant::now();
        let commits = |w: &Worker| w.metric("keyrail_commits_total", &["result=\"ok\""]);
        let before: Vec<f64> = all.iter().map(commits).collect();
        for (worker, before) in all.iter().zip(before) {
            worker.wait_metric("keyrail_commits_total", &["result=\"ok\""], |n| n > before + 5.0);
        }
        let new = coordinator(&kafka, &stage.group);
        stage.say(&format!(
            "broker {old} killed, broker {new} coordinates after {:.1} s, commits go on {:.1} s later",
            (moved - gone).as_secs_f64(),
            moved.elapsed().as_secs_f64()
        ));
        kafka.restart(id).unwrap();
        if new == 1 {
            break;
        }
    }
    let (outputs, letters) = feed.settle(&stage, &mut all, LIMIT);
    outputs.must_hold(MOVES * 1000);
    letters.must_hold(MOVES * 10);
}
