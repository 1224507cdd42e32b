//! Brokers that die and come back, or are not there yet.

use crate::client::{Rec, read_all, send_all};
use crate::feed::{Chance, Feed, plan};
use crate::stage::{Setup, Stage, own_broker};
use crate::worker::Worker;
use keyrail_kafka_tests::Options;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn a_broker_killed_and_restarted_loses_nothing() {
    let test = "a_broker_killed_and_restarted_loses_nothing";
    let Some(kafka) = own_broker(test, &Options::default()) else { return };
    let tables = "[retry]\nbackoff = { first = \"50ms\" }";
    let stage = Stage::new(test, &kafka, &Setup { tables, ..Setup::default() });
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
