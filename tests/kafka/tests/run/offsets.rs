//! Where a group starts: new, behind retention, moved by an operator, over gaps of transactions.

use crate::client::{Rec, Writer, committed, delete_records, read_all, reset, send_all};
use crate::stage::{Setup, Stage, broker};
use crate::worker::Worker;
use std::collections::BTreeMap;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);
const STOP: Duration = Duration::from_secs(15);

fn numbered(from: usize, count: usize) -> Vec<Rec> {
    (from..from + count).map(|n| Rec::script(&format!("k{}", n % 5), "done", &format!("m{n:04}"))).collect()
}

/// How often each id came.
fn counts(stage: &Stage<'_>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    read_all(stage.kafka, &stage.output).iter().for_each(|r| *counts.entry(r.text()).or_default() += 1);
    counts
}

fn expected(range: std::ops::Range<usize>, times: usize) -> BTreeMap<String, usize> {
    range.map(|n| (format!("m{n:04}"), times)).collect()
}

#[test]
fn a_new_group_from_latest_starts_at_the_end_and_keeps_its_place() {
    let test = "a_new_group_from_latest_starts_at_the_end_and_keeps_its_place";
    let Some(kafka) = broker(test) else { return };
    let stage = Stage::new(test, kafka, &Setup { top: "from = \"latest\"", ..Setup::default() });
    send_all(kafka, &stage.input, &numbered(0, 100));
    let mut worker = Worker::start(&stage, 0);
    worker.wait_ready();
    send_all(kafka, &stage.input, &numbered(100, 100));
    stage.wait_settled(&[&worker], 0, LIMIT);
    worker.stop(STOP);
    send_all(kafka, &stage.input, &numbered(200, 100));
    let mut worker = Worker::start(&stage, 0);
    stage.wait_settled(&[&worker], 0, LIMIT);
    worker.stop(STOP);
    assert_eq!(counts(&stage), expected(100..300, 1));
}

#[test]
fn a_group_from_latest_killed_before_its_first_message_misses_none() {
    let test = "a_group_from_latest_killed_before_its_first_message_misses_none";
    let Some(kafka) = broker(test) else { return };
    let kafka_lines = "\"session.timeout.ms\" = \"2000\"\n\"heartbeat.interval.ms\" = \"300\"";
    let setup = Setup { top: "from = \"latest\"", kafka: kafka_lines, partitions: 2, ..Setup::default() };
    let stage = Stage::new(test, kafka, &setup);
    send_all(kafka, &stage.input, &numbered(0, 50));
    let mut worker = Worker::start(&stage, 0);
    worker.wait_ready();
    // The place is committed without a message, so that what comes while no worker runs is not skipped.
    let until = std::time::Instant::now() + LIMIT;
    while committed(kafka, &stage.group, &stage.input).unwrap().contains(&-1) {
        assert!(std::time::Instant::now() < until, "no first commit\n{}", worker.tail());
        std::thread::sleep(Duration::from_millis(100));
    }
    worker.kill();
    send_all(kafka, &stage.input, &numbered(50, 50));
    let mut worker = Worker::start(&stage, 0);
    stage.wait_settled(&[&worker], 0, LIMIT);
    worker.stop(STOP);
    assert_eq!(counts(&stage), expected(50..100, 1));
}

#[test]
fn input_lost_to_retention_stops_the_pipeline_or_is_counted() {
    let test = "input_lost_to_retention_stops_the_pipeline_or_is_counted";
    let Some(kafka) = broker(test) else { return };
    let setup = Setup { partitions: 1, ..Setup::default() };
    let stage = Stage::new(test, kafka, &setup);
    send_all(kafka, &stage.input, &numbered(0, 100));
    let mut worker = Worker::start(&stage, 0);
    stage.wait_settled(&[&worker], 0, LIMIT);
    worker.stop(STOP);
    // The first of these answer the fetch that waits; for the others nobody can ask.
    send_all(kafka, &stage.input, &numbered(100, 40));
    std::thread::sleep(Duration::from_millis(500));
    send_all(kafka, &stage.input, &numbered(140, 60));
    delete_records(kafka, &stage.input, &[(0, 150)]);
    let mut worker = Worker::start(&stage, 0);
    let status = worker.wait(LIMIT);
    assert_eq!(status.code(), Some(1), "{}", worker.tail());
    let log = worker.log();
    for word in ["offsets 100 to 149", "retention", "on-loss", "continue", &format!("{}/0", stage.input)] {
        assert!(log.contains(word), "nothing of {word:?}\n{}", worker.tail());
    }
    stage.write_manifest(&Setup { top: "on-loss = \"continue\"", ..setup });
    let mut worker = Worker::start(&stage, 0);
    stage.wait_settled(&[&worker], 0, LIMIT);
    assert_eq!(worker.metric("keyrail_records_lost_total", &[]), 50.0);
    assert_eq!(worker.metric("keyrail_loss_intervals_total", &[]), 1.0);
    worker.stop(STOP);
    let mut wanted = expected(0..100, 1);
    wanted.extend(expected(150..200, 1));
    assert_eq!(counts(&stage), wanted);
}

#[test]
fn retention_that_passes_a_running_worker_is_counted() {
    let test = "retention_that_passes_a_running_worker_is_counted";
    let Some(kafka) = broker(test) else { return };
    let stage = Stage::new(test, kafka, &Setup { partitions: 1, top: "on-loss = \"continue\"", ..Setup::default() });
    send_all(kafka, &stage.input, &numbered(0, 100));
    let mut worker = Worker::start(&stage, 0);
    stage.wait_settled(&[&worker], 0, LIMIT);
    // Frozen for less than its session: it stays a member, and its place falls out of the log.
    worker.signal("STOP");
    send_all(kafka, &stage.input, &numbered(100, 100));
    delete_records(kafka, &stage.input, &[(0, 150)]);
    worker.signal("CONT");
    stage.wait_settled(&[&worker], 0, LIMIT);
    let came = counts(&stage);
    assert!(came.values().all(|times| *times == 1), "{came:?}");
    assert!((150..200).chain(0..100).all(|n| came.contains_key(&format!("m{n:04}"))), "{came:?}");
    // What was on its way to the worker when it was frozen may have come; the rest is counted.
    let lost = worker.metric("keyrail_records_lost_total", &[]);
    assert_eq!(lost + came.len() as f64, 200.0);
    assert!(lost > 0.0 && worker.log().contains("input was lost"), "{}", worker.tail());
    worker.stop(STOP);
}

#[test]
fn an_operators_offset_and_foreign_metadata_are_taken_as_they_are() {
    let test = "an_operators_offset_and_foreign_metadata_are_taken_as_they_are";
    let Some(kafka) = broker(test) else { return };
    let stage = Stage::new(test, kafka, &Setup { partitions: 1, ..Setup::default() });
    send_all(kafka, &stage.input, &numbered(0, 100));
    let mut worker = Worker::start(&stage, 0);
    stage.wait_settled(&[&worker], 0, LIMIT);
    worker.stop(STOP);
    let mut wanted = expected(0..100, 1);
    let resets =
        [(60, "", false), (80, "another tool's note", true), (90, "kr4.AAAA////", true), (95, "\u{1F980}", true)];
    for (offset, metadata, told) in resets {
        reset(kafka, &stage.group, &stage.input, &[(0, offset)], metadata);
        let mut worker = Worker::start(&stage, 0);
        stage.wait_settled(&[&worker], 0, LIMIT);
        assert_eq!(worker.log().contains("metadata can't be used"), told, "{metadata:?}\n{}", worker.tail());
        worker.stop(STOP);
        (offset as usize..100).for_each(|n| *wanted.get_mut(&format!("m{n:04}")).unwrap() += 1);
        assert_eq!(counts(&stage), wanted, "after {metadata:?}");
    }
}

#[test]
fn aborted_transactions_and_their_markers_stall_nothing() {
    let test = "aborted_transactions_and_their_markers_stall_nothing";
    let Some(kafka) = broker(test) else { return };
    let stage = Stage::new(test, kafka, &Setup { partitions: 2, ..Setup::default() });
    let mut worker = Worker::start(&stage, 0);
    let mut writer = Writer::transactional(kafka, &stage.group);
    let mut wanted = BTreeMap::new();
    for (round, records) in numbered(0, 400).chunks(10).enumerate() {
        writer.begin();
        records.iter().for_each(|rec| writer.send(&stage.input, rec));
        // The last one is aborted, so that the log ends in what nobody may read.
        if round % 3 == 0 {
            writer.abort();
        } else {
            writer.commit();
            wanted.extend(expected(round * 10..round * 10 + 10, 1));
        }
    }
    // What was aborted at the log's end: ten records and a marker in each partition at most.
    stage.wait_settled(&[&worker], 12, LIMIT);
    worker.wait_metric("keyrail_messages_in_flight", &[], |n| n == 0.0);
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(counts(&stage), wanted);
    writer.begin();
    (0..2).for_each(|partition| {
        writer.send(&stage.input, &Rec { partition, ..Rec::script("last", "done", "last") });
    });
    writer.commit();
    stage.wait_settled(&[&worker], 1, LIMIT);
    assert_eq!(worker.metric("keyrail_stalls_total", &[]), 0.0, "{}", worker.tail());
    worker.stop(STOP);
}
