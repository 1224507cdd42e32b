//! Topics that refuse: the partition waits and says why, nothing is lost, and it goes on when they are mended.

use crate::client::{Rec, Writer, delete_topic, read_all, send_all, set_topic};
use crate::stage::{Setup, Stage, broker};
use crate::worker::Worker;
use std::collections::BTreeMap;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);
const BLOCKED: &str = "keyrail_partition_blocked";
/// A topic that is gone is believed to be gone soon.
const QUICK: &str =
    "\"topic.metadata.propagation.max.ms\" = \"1000\"\n\"topic.metadata.refresh.interval.ms\" = \"1000\"";

fn messages(command: &str, from: usize, count: usize) -> Vec<Rec> {
    let ids = (from..from + count).map(|n| format!("m{n}"));
    ids.map(|id| Rec::script(&format!("k{}", id.len()), command, &id).header("trace", id)).collect()
}

fn traces(letters: &[Rec]) -> Vec<String> {
    letters.iter().map(|l| l.told("trace")).collect()
}

fn ids(from: usize, count: usize) -> Vec<String> {
    (from..from + count).map(|n| format!("m{n}")).collect()
}

#[test]
fn a_deleted_dead_letter_topic_blocks_the_partition_until_it_is_back() {
    let test = "a_deleted_dead_letter_topic_blocks_the_partition_until_it_is_back";
    let Some(kafka) = broker(test) else { return };
    let setup = Setup { partitions: 1, kafka: QUICK, ..Setup::default() };
    let stage = Stage::new(test, kafka, &setup);
    let mut worker = Worker::start(&stage, 0);
    send_all(kafka, &stage.input, &messages("dead-letter", 10, 5));
    stage.wait_settled(&[&worker], 0, LIMIT);
    assert_eq!(traces(&read_all(kafka, &stage.letters)), ids(10, 5));
    delete_topic(kafka, &stage.letters);
    send_all(kafka, &stage.input, &messages("dead-letter", 20, 5));
    worker.wait_metric(BLOCKED, &["reason=\"dead_letter\""], |n| n == 1.0);
    stage.say("the partition is blocked");
    worker.wait_log("the partition waits", LIMIT);
    worker.wait_log(&stage.letters, LIMIT);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(worker.metric("keyrail_partition_committed_offset", &[]), 5.0, "{}", worker.tail());
    kafka.create_topic(&stage.letters, 1, &[]).unwrap();
    stage.wait_settled(&[&worker], 0, LIMIT);
    assert_eq!(traces(&read_all(kafka, &stage.letters)), ids(20, 5));
    worker.wait_metric(BLOCKED, &["reason=\"dead_letter\""], |n| n == 0.0);
    send_all(kafka, &stage.input, &messages("done", 30, 5));
    stage.wait_settled(&[&worker], 0, LIMIT);
    assert_eq!(read_all(kafka, &stage.output).len(), 5);
    worker.stop(Duration::from_secs(15));
}

#[test]
fn a_dead_letter_too_large_for_its_topic_blocks_the_partition_until_it_fits() {
    let test = "a_dead_letter_too_large_for_its_topic_blocks_the_partition_until_it_fits";
    let Some(kafka) = broker(test) else { return };
    let stage = Stage::new(test, kafka, &Setup { partitions: 1, ..Setup::default() });
    set_topic(kafka, &stage.letters, &[("max.message.bytes", "1000")]);
    let mut worker = Worker::start(&stage, 0);
    let large = Rec::new("k", vec![b'x'; 4000]).header("trace", "large");
    let followers = messages("done", 10, 10);
    send_all(kafka, &stage.input, &[vec![large.clone()], followers].concat());
    worker.wait_metric(BLOCKED, &["reason=\"dead_letter\""], |n| n == 1.0);
    worker.wait_log(&stage.letters, LIMIT);
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(worker.metric("keyrail_partition_committed_offset", &[]), 0.0, "{}", worker.tail());
    set_topic(kafka, &stage.letters, &[("max.message.bytes", "100000")]);
    stage.wait_settled(&[&worker], 0, LIMIT);
    let letters = read_all(kafka, &stage.letters);
    assert_eq!(letters.len(), 1);
    assert_eq!((&letters[0].key, &letters[0].value), (&large.key, &large.value));
    assert_eq!(read_all(kafka, &stage.output).len(), 10);
    worker.stop(Duration::from_secs(15));
}

#[test]
fn a_deleted_output_topic_blocks_its_partitions_until_it_is_back() {
    let test = "a_deleted_output_topic_blocks_its_partitions_until_it_is_back";
    let Some(kafka) = broker(test) else { return };
    let stage = Stage::new(test, kafka, &Setup { partitions: 2, kafka: QUICK, ..Setup::default() });
    let mut worker = Worker::start(&stage, 0);
    let keyed = |from| -> Vec<Rec> {
        (from..from + 100).map(|n| Rec::script(&format!("k{}", n % 7), "done", &format!("m{n}"))).collect()
    };
    send_all(kafka, &stage.input, &keyed(1000));
    stage.wait_settled(&[&worker], 0, LIMIT);
    assert_eq!(read_all(kafka, &stage.output).len(), 100);
    delete_topic(kafka, &stage.output);
    send_all(kafka, &stage.input, &keyed(2000));
    worker.wait_metric(BLOCKED, &["reason=\"output\""], |n| n >= 1.0);
    worker.wait_log(&stage.output, LIMIT);
    stage.say("blocked");
    std::thread::sleep(Duration::from_secs(2));
    kafka.create_topic(&stage.output, 2, &[]).unwrap();
    stage.wait_settled(&[&worker], 0, LIMIT);
    worker.wait_metric(BLOCKED, &[], |n| n == 0.0);
    let mut expected = crate::judge::Expected::new();
    for n in 2000..2100 {
        expected.entry(format!("k{}", n % 7).into_bytes()).or_default().push(format!("m{n}"));
    }
    let verdict = crate::judge::judge(&expected, &read_all(kafka, &stage.output), Rec::text);
    stage.say(&verdict.line());
    verdict.must_hold(100);
    worker.stop(Duration::from_secs(15));
}

#[test]
fn an_output_too_large_for_its_topic_is_a_dead_letter() {
    let test = "an_output_too_large_for_its_topic_is_a_dead_letter";
    let Some(kafka) = broker(test) else { return };
    let stage = Stage::new(test, kafka, &Setup { partitions: 1, ..Setup::default() });
    set_topic(kafka, &stage.output, &[("max.message.bytes", "10000")]);
    let mut records = messages("done", 10, 50);
    records.insert(25, Rec::script("big", "bytes:50000", "big").header("trace", "big"));
    send_all(kafka, &stage.input, &records);
    let mut worker = Worker::start(&stage, 0);
    stage.wait_settled(&[&worker], 0, LIMIT);
    let done = read_all(kafka, &stage.output);
    assert_eq!(done.iter().filter(|r| r.text().starts_with('m')).count(), 50, "no other is taken along");
    let letters = read_all(kafka, &stage.letters);
    assert_eq!(traces(&letters), ["big"]);
    assert_eq!(letters[0].told("keyrail-reason"), "undeliverable");
    assert_eq!(letters[0].value, records[25].value);
    assert_eq!(worker.metric("keyrail_dead_letters_total", &["reason=\"undeliverable\""]), 1.0);
    worker.stop(Duration::from_secs(15));
}

/// What a reader of the output ends up with: each id of a key once, where it came last.
fn last_places(records: &[Rec]) -> BTreeMap<Vec<u8>, Vec<String>> {
    let mut keys: BTreeMap<Vec<u8>, Vec<String>> = BTreeMap::new();
    for record in records {
        let ids = keys.entry(record.key.clone().unwrap_or_default()).or_default();
        let id = record.text();
        ids.retain(|other| *other != id);
        ids.push(id);
    }
    keys
}

#[test]
fn a_batch_refused_for_its_size_does_not_move_its_records_behind_what_follows() {
    let test = "a_batch_refused_for_its_size_does_not_move_its_records_behind_what_follows";
    let Some(kafka) = broker(test) else { return };
    let setup = Setup { partitions: 1, kafka: "\"linger.ms\" = \"20\"", ..Setup::default() };
    let stage = Stage::new(test, kafka, &setup);
    let mut worker = Worker::start(&stage, 0);
    send_all(kafka, &stage.input, &messages("done", 10, 5));
    stage.wait_settled(&[&worker], 0, LIMIT);
    // Lowered after the start, so that the worker does not know.
    set_topic(kafka, &stage.output, &[("max.message.bytes", "1000")]);
    let mut expected: BTreeMap<Vec<u8>, Vec<String>> = BTreeMap::new();
    let mut writer = Writer::new(kafka);
    let mut sent = 0;
    let mut send = |count: usize| {
        for _ in 0..count {
            let (key, id) = (format!("k{}", sent % 11), format!("m{sent}"));
            writer.send(&stage.input, &Rec::script(&key, "done", &id));
            expected.entry(key.into_bytes()).or_default().push(id);
            sent += 1;
        }
    };
    // Bursts make batches that are refused, and what comes one by one after them is taken.
    for _ in 0..10 {
        send(100);
        for _ in 0..20 {
            send(1);
            std::thread::sleep(Duration::from_millis(25));
        }
    }
    writer.finish();
    stage.wait_settled(&[&worker], 0, LIMIT);
    assert_eq!(read_all(kafka, &stage.letters).len(), 0, "no record is too large by itself");
    let came: Vec<Rec> = read_all(kafka, &stage.output).into_iter().skip(5).collect();
    stage.say(&format!("{} records for {sent} messages", came.len()));
    assert_eq!(last_places(&came), expected, "each key ends in order");
    assert!(worker.metric("keyrail_produce_refused_total", &[]) >= 1.0, "no batch was refused");
    worker.wait_log("each record is sent by itself", LIMIT);
    worker.stop(Duration::from_secs(15));
}
