//! Input topics that change under a running worker: partitions added, a topic made anew.

use crate::client::{Rec, add_partitions, delete_topic, read_all, send_all};
use crate::stage::{Setup, Stage, broker};
use crate::worker::Worker;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(60);
/// A change of topics is seen soon.
const QUICK: &str =
    "\"topic.metadata.propagation.max.ms\" = \"1000\"\n\"topic.metadata.refresh.interval.ms\" = \"1000\"";

fn numbered(from: usize, count: usize, partition: i32) -> Vec<Rec> {
    let record = |n| Rec { partition, ..Rec::script(&format!("k{}", n % 5), "done", &format!("m{n:04}")) };
    (from..from + count).map(record).collect()
}

/// How often each id came.
fn counts(stage: &Stage<'_>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    read_all(stage.kafka, &stage.output).iter().for_each(|r| *counts.entry(r.text()).or_default() += 1);
    counts
}

fn expected(count: usize) -> BTreeMap<String, usize> {
    (0..count).map(|n| (format!("m{n:04}"), 1)).collect()
}

fn added(test: &'static str, top: &str) {
    let Some(kafka) = broker(test) else { return };
    let stage = Stage::new(test, kafka, &Setup { partitions: 2, top, kafka: QUICK, ..Setup::default() });
    let mut all: Vec<Worker> = (0..2).map(|n| Worker::start(&stage, n)).collect();
    all.iter().for_each(|w| w.wait_metric("keyrail_partitions_assigned", &[], |n| n == 1.0));
    (0..2).for_each(|partition| send_all(kafka, &stage.input, &numbered(100 * partition as usize, 100, partition)));
    stage.wait_settled(&all.iter().collect::<Vec<_>>(), 0, LIMIT);
    add_partitions(kafka, &stage.input, 5);
    // Before a worker can know of them.
    (2..5).for_each(|partition| send_all(kafka, &stage.input, &numbered(100 * partition as usize, 100, partition)));
    let of_all = |all: &[Worker]| all.iter().map(|w| w.metric("keyrail_partitions_assigned", &[])).sum::<f64>();
    stage.wait_settled(&all.iter().collect::<Vec<_>>(), 0, LIMIT);
    assert_eq!(of_all(&all), 5.0);
    for worker in &mut all {
        assert_eq!(worker.metric("keyrail_records_lost_total", &[]), 0.0);
        worker.stop(Duration::from_secs(15));
    }
    assert_eq!(counts(&stage), expected(500));
}

#[test]
fn partitions_added_to_a_running_group_are_read_from_their_start() {
    added("partitions_added_to_a_running_group_are_read_from_their_start", "");
}

#[test]
fn partitions_added_to_a_running_group_from_latest_are_read_from_their_start() {
    added("partitions_added_to_a_running_group_from_latest_are_read_from_their_start", "from = \"latest\"");
}

/// After 100 messages the topic is made anew, and gets 50. The group's offsets went with the old. A worker that saw it gone
/// says so; one that was frozen meanwhile finds the log shorter than what it has read.
fn made_anew(test: &'static str, frozen: bool) {
    let Some(kafka) = broker(test) else { return };
    let top = "on-loss = \"continue\"";
    let setup = Setup { partitions: 1, top, kafka: if frozen { "" } else { QUICK }, ..Setup::default() };
    let stage = Stage::new(test, kafka, &setup);
    send_all(kafka, &stage.input, &numbered(0, 100, 0));
    let mut worker = Worker::start(&stage, 0);
    stage.wait_settled(&[&worker], 0, LIMIT);
    if frozen {
        worker.signal("STOP");
    }
    delete_topic(kafka, &stage.input);
    if !frozen {
        worker.wait_log("no such topic at", LIMIT);
    }
    kafka.create_topic(&stage.input, 1, &[]).unwrap();
    send_all(kafka, &stage.input, &numbered(100, 50, 0));
    if frozen {
        worker.signal("CONT");
    }
    if frozen {
        worker.wait_log("input was lost", LIMIT);
    }
    stage.wait_settled(&[&worker], 0, LIMIT);
    let until = Instant::now() + LIMIT;
    // The old offset stands for a moment where nobody saw the topic gone: it is past the new log's end.
    while counts(&stage) != expected(150) {
        assert!(Instant::now() < until, "{:?}\n{}", counts(&stage), worker.tail());
        std::thread::sleep(Duration::from_millis(200));
    }
    worker.stop(Duration::from_secs(15));
}

#[test]
fn a_topic_that_was_seen_gone_is_read_from_its_new_start() {
    made_anew("a_topic_that_was_seen_gone_is_read_from_its_new_start", false);
}

#[test]
fn a_topic_made_anew_unseen_is_told_and_read_from_its_new_start() {
    made_anew("a_topic_made_anew_unseen_is_told_and_read_from_its_new_start", true);
}
