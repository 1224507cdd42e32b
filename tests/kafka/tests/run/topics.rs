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

/// Waits until each id came.
fn wait_for_all(stage: &Stage<'_>, worker: &Worker, count: usize) {
    let until = Instant::now() + LIMIT;
    loop {
        let came = counts(stage);
        if expected(count).keys().all(|id| came.contains_key(id)) {
            return;
        }
        assert!(Instant::now() < until, "{} of {count} ids came\n{}", came.len(), worker.tail());
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// How a worker may meet a topic that was made anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Anew {
    /// It saw it gone: the group's offsets went with the old one.
    Seen,
    /// It was frozen meanwhile, and finds a log shorter than what it has read.
    Shorter,
    /// It was frozen meanwhile, and finds a log that goes on where it was.
    Longer,
}

/// After 100 messages the topic is made anew, and gets more.
fn made_anew(test: &'static str, from: &str, anew: Anew) {
    let Some(kafka) = broker(test) else { return };
    let top = format!("from = \"{from}\"\non-loss = \"continue\"");
    let lines = if anew == Anew::Seen { QUICK } else { "" };
    let stage = Stage::new(test, kafka, &Setup { partitions: 1, top: &top, kafka: lines, ..Setup::default() });
    let mut worker = Worker::start(&stage, 0);
    worker.wait_metric("keyrail_partitions_assigned", &[], |n| n == 1.0);
    send_all(kafka, &stage.input, &numbered(0, 100, 0));
    stage.wait_settled(&[&worker], 0, LIMIT);
    if anew != Anew::Seen {
        worker.signal("STOP");
    }
    delete_topic(kafka, &stage.input);
    if anew == Anew::Seen {
        worker.wait_log("no such topic at", LIMIT);
    }
    kafka.create_topic(&stage.input, 1, &[]).unwrap();
    let count = if anew == Anew::Longer { 300 } else { 50 };
    send_all(kafka, &stage.input, &numbered(100, count, 0));
    if anew != Anew::Seen {
        worker.signal("CONT");
    }
    let all = expected(100 + count);
    wait_for_all(&stage, &worker, all.len());
    stage.wait_settled(&[&worker], 0, LIMIT);
    worker.wait_log("input was lost", LIMIT);
    assert!(worker.metric("keyrail_loss_intervals_total", &[]) >= 1.0, "{}", worker.tail());
    let came: usize = counts(&stage).values().sum();
    stage.say(&format!("{from}, {anew:?}: {} ids, {came} records", all.len()));
    // What of the new log was read before its change was noticed comes again.
    assert!(came <= all.len() + if anew == Anew::Longer { 200 } else { 0 }, "{came} records\n{}", worker.tail());
    worker.stop(Duration::from_secs(15));
}

#[test]
fn a_topic_that_was_seen_gone_is_read_from_its_new_start() {
    for from in ["earliest", "latest"] {
        made_anew("a_topic_that_was_seen_gone_is_read_from_its_new_start", from, Anew::Seen);
    }
}

#[test]
fn a_topic_made_anew_unseen_is_told_and_read_from_its_new_start() {
    for (from, anew) in [("earliest", Anew::Shorter), ("earliest", Anew::Longer), ("latest", Anew::Longer)] {
        made_anew("a_topic_made_anew_unseen_is_told_and_read_from_its_new_start", from, anew);
    }
}

#[test]
fn a_topic_made_anew_stops_a_pipeline_that_is_to_stop_at_a_loss() {
    let test = "a_topic_made_anew_stops_a_pipeline_that_is_to_stop_at_a_loss";
    let Some(kafka) = broker(test) else { return };
    let stage = Stage::new(test, kafka, &Setup { partitions: 1, ..Setup::default() });
    send_all(kafka, &stage.input, &numbered(0, 100, 0));
    let mut worker = Worker::start(&stage, 0);
    stage.wait_settled(&[&worker], 0, LIMIT);
    worker.signal("STOP");
    delete_topic(kafka, &stage.input);
    kafka.create_topic(&stage.input, 1, &[]).unwrap();
    send_all(kafka, &stage.input, &numbered(100, 300, 0));
    worker.signal("CONT");
    assert_eq!(worker.wait(LIMIT).code(), Some(1), "{}", worker.tail());
    for word in ["made anew", "on-loss", stage.input.as_str()] {
        assert!(worker.log().contains(word), "nothing of {word:?}\n{}", worker.tail());
    }
    // As it is told to, it reads all of the new one.
    stage.write_manifest(&Setup { partitions: 1, top: "on-loss = \"continue\"", ..Setup::default() });
    let mut worker = Worker::start(&stage, 0);
    wait_for_all(&stage, &worker, 400);
    worker.stop(Duration::from_secs(15));
}

#[test]
fn a_topic_that_a_pattern_matches_later_is_read_from_its_start_by_the_whole_group() {
    let test = "a_topic_that_a_pattern_matches_later_is_read_from_its_start_by_the_whole_group";
    let Some(kafka) = broker(test) else { return };
    let setup = Setup { partitions: 2, top: "from = \"latest\"", ..Setup::default() };
    let stage = Stage::new(test, kafka, &setup);
    // The same manifest with a pattern that the input matches, and its dead letters and output do not.
    let manifest = stage.dir.join("plugins/p.toml");
    let text = std::fs::read_to_string(&manifest).unwrap();
    let pattern = format!("[\"^{}\"]", stage.input);
    std::fs::write(&manifest, text.replace(&format!("[\"{}\"]", stage.input), &pattern)).unwrap();
    let poll = ["plugins.poll=500ms"];
    let mut all: Vec<Worker> = (0..2).map(|n| Worker::start_with(&stage, n, &poll)).collect();
    all.iter().for_each(|w| w.wait_metric("keyrail_partitions_assigned", &[], |n| n == 1.0));
    (0..2).for_each(|partition| send_all(kafka, &stage.input, &numbered(100 * partition as usize, 100, partition)));
    let later = format!("{}-later", stage.input);
    kafka.create_topic(&later, 2, &[]).unwrap();
    (0..2).for_each(|partition| send_all(kafka, &later, &numbered(200 + 100 * partition as usize, 100, partition)));
    let began = Instant::now();
    while counts(&stage).len() < 400 {
        assert!(began.elapsed() < LIMIT, "{} ids came\n{}", counts(&stage).len(), all[0].tail());
        std::thread::sleep(Duration::from_millis(200));
    }
    stage.say(&format!("the later topic was read {:.1} s after it was filled", began.elapsed().as_secs_f64()));
    all.iter().for_each(|w| w.wait_metric("keyrail_partitions_assigned", &[], |n| n == 2.0));
    for worker in &mut all {
        worker.stop(Duration::from_secs(20));
    }
    assert_eq!(counts(&stage), expected(400), "each once");
}

#[test]
fn partitions_added_stop_a_pipeline_that_keeps_ids_until_that_is_accepted() {
    let test = "partitions_added_stop_a_pipeline_that_keeps_ids_until_that_is_accepted";
    let Some(kafka) = broker(test) else { return };
    let tables = "[dedup]\nid = \"digest\"";
    let stage = Stage::new(test, kafka, &Setup { partitions: 2, tables, kafka: QUICK, ..Setup::default() });
    let seen = format!("{}.{}.seen", stage.group, stage.input);
    let mut worker = Worker::start(&stage, 0);
    worker.wait_metric("keyrail_partitions_assigned", &[], |n| n == 2.0);
    (0..2).for_each(|partition| send_all(kafka, &stage.input, &numbered(100 * partition as usize, 100, partition)));
    stage.wait_settled(&[&worker], 0, LIMIT);
    add_partitions(kafka, &stage.input, 3);
    send_all(kafka, &stage.input, &numbered(200, 100, 2));
    assert_eq!(worker.wait(LIMIT).code(), Some(1), "{}", worker.tail());
    let command = format!("--alter --topic {seen} --partitions 3");
    for word in ["has 2 partitions, its input 3", "keys have moved", command.as_str()] {
        assert!(worker.log().contains(word), "nothing of {word:?}\n{}", worker.tail());
    }
    // Nor does it start, until somebody has run the command.
    let mut worker = Worker::start(&stage, 0);
    assert_eq!(worker.wait(LIMIT).code(), Some(1), "{}", worker.tail());
    add_partitions(kafka, &seen, 3);
    add_partitions(kafka, &stage.letters, 3);
    let mut worker = Worker::start(&stage, 0);
    (0..3).for_each(|partition| send_all(kafka, &stage.input, &numbered(100 * partition as usize, 100, partition)));
    stage.wait_settled(&[&worker], 0, LIMIT);
    assert_eq!(worker.metric("keyrail_messages_settled_total", &["fate=\"duplicate\""]), 300.0);
    worker.stop(Duration::from_secs(15));
    assert_eq!(counts(&stage), expected(300), "each once");
}
