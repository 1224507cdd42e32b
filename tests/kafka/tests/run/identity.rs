//! Internal topics that are gone or made anew, another order, a group that was moved: each is refused before the first record, with
//! the command that mends it, and that command does.

use crate::client::{Rec, bounds, delete_offsets, delete_topic, is_there, read_all, reset, send_all};
use crate::commands::run;
use crate::parked::waiting;
use crate::stage::{Setup, Stage, broker};
use crate::worker::Worker;
use keyrail_kafka_tests::Kafka;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(60);
/// What fails once waits longer than a test takes.
const FOR_LONG: &str = "[retry]\nattempts = 3\nin-place = \"0s\"\n\
     backoff = { first = \"10m\", factor = 1.0, max = \"10m\", jitter = 0.0 }";
const DEDUP: &str = "[dedup]\nid = \"header:trace\"";

fn internal(stage: &Stage<'_>, end: &str) -> String {
    format!("{}.{}.{end}", stage.group, stage.input)
}

/// So many messages of five keys, each with an id.
fn numbered(from: usize, count: usize) -> Vec<Rec> {
    let record = |n| Rec::new(&format!("k{}", n % 5), format!("m{n:04}")).header("trace", format!("m{n:04}"));
    (from..from + count).map(record).collect()
}

/// The last count that the handler `tally` told of each key.
fn counts(stage: &Stage<'_>) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for record in read_all(stage.kafka, &stage.output) {
        let (text, key) = (record.text(), String::from_utf8(record.key.clone().unwrap_or_default()).unwrap());
        counts.insert(key, text.split(' ').next().unwrap().parse().unwrap());
    }
    counts
}

fn all_counted(count: u64) -> BTreeMap<String, u64> {
    (0..5).map(|n| (format!("k{n}"), count)).collect()
}

/// It ends with 1, and its message holds all of these words.
fn refused(stage: &Stage<'_>, words: &[&str]) {
    let mut worker = Worker::start(stage, 0);
    assert_eq!(worker.wait(LIMIT).code(), Some(1), "{}", worker.tail());
    for word in words {
        assert!(worker.log().contains(word), "nothing of {word:?}\n{}", worker.tail());
    }
}

/// Runs it until all is settled but what is parked.
fn settled(stage: &Stage<'_>, parked: usize) {
    let mut worker = Worker::start(stage, 0);
    let until = Instant::now() + LIMIT;
    while stage.uncommitted() > 0 || waiting(stage) != parked {
        assert!(Instant::now() < until, "{} and {}\n{}", stage.uncommitted(), waiting(stage), worker.tail());
        std::thread::sleep(Duration::from_millis(100));
    }
    worker.stop(Duration::from_secs(20));
}

/// The command as it is told.
fn told(stage: &Stage<'_>, command: &str) {
    let args: Vec<&str> = command.strip_prefix("keyrail ").unwrap().split(' ').collect();
    let done = run(stage, &args);
    assert_eq!(done.code, 0, "{command}: {}{}", done.out, done.err);
    assert!(done.out.contains("it goes on from there at its next start"), "{}", done.out);
}

/// A pipeline at rest of which one message is parked, and whose retry topic was deleted then; and that topic.
fn robbed<'k>(test: &'static str, kafka: &'k Kafka) -> (Stage<'k>, String) {
    let stage = Stage::new(test, kafka, &Setup { guest: "tally", tables: FOR_LONG, ..Setup::default() });
    send_all(kafka, &stage.input, &[Rec::new("k", "fail 1 a"), Rec::new("l", "a")]);
    settled(&stage, 1);
    let topic = internal(&stage, "retry");
    delete_topic(kafka, &topic);
    (stage, topic)
}

#[test]
fn a_key_with_parked_messages_does_not_run_without_its_retry_topic() {
    let test = "a_key_with_parked_messages_does_not_run_without_its_retry_topic";
    let Some(kafka) = broker(test) else { return };
    let (stage, topic) = robbed(test, kafka);
    send_all(kafka, &stage.input, &[Rec::new("k", "b"), Rec::new("l", "b")]);
    let cure = "keyrail rewind p --to here --state keep";
    refused(&stage, &[&topic, "there is none of that name", "would overtake them", cure]);
    assert!(!is_there(kafka, &topic), "it was made anew, and what was parked is forgotten without a word");
    assert_eq!(counts(&stage), BTreeMap::from([("l".to_owned(), 1)]), "something was overtaken");
    told(&stage, cure);
    settled(&stage, 0);
    assert_eq!(counts(&stage), BTreeMap::from([("k".to_owned(), 1), ("l".to_owned(), 2)]));
}

#[test]
fn a_retry_topic_that_was_made_anew_is_told_and_not_taken_for_the_old_one() {
    let test = "a_retry_topic_that_was_made_anew_is_told_and_not_taken_for_the_old_one";
    let Some(kafka) = broker(test) else { return };
    let (stage, topic) = robbed(test, kafka);
    kafka.create_topic(&topic, 6, &[("cleanup.policy", "compact"), ("delete.retention.ms", "604800000")]).unwrap();
    send_all(kafka, &stage.input, &[Rec::new("k", "b")]);
    let cure = "keyrail rewind p --to here --state keep";
    refused(&stage, &[&topic, "was deleted and made anew", "the messages parked in it are gone", cure]);
    told(&stage, cure);
    settled(&stage, 0);
    assert_eq!(counts(&stage), BTreeMap::from([("k".to_owned(), 1), ("l".to_owned(), 1)]));
}

#[test]
fn topics_of_ids_and_state_that_were_deleted_before_a_start_are_told() {
    let test = "topics_of_ids_and_state_that_were_deleted_before_a_start_are_told";
    let Some(kafka) = broker(test) else { return };
    let stage = Stage::new(test, kafka, &Setup { guest: "tally", tables: DEDUP, ..Setup::default() });
    send_all(kafka, &stage.input, &numbered(0, 10));
    settled(&stage, 0);
    assert_eq!(counts(&stage), all_counted(2));
    let cure = "keyrail rewind p --to here --seen keep --state keep";
    let (seen, state) = (internal(&stage, "seen"), internal(&stage, "state"));
    delete_topic(kafka, &seen);
    refused(&stage, &[&seen, "was deleted and made anew", "the ids in it are gone", cure]);
    // It stays so, however often it is started.
    refused(&stage, &[&seen, cure]);
    told(&stage, cure);
    send_all(kafka, &stage.input, &numbered(0, 5));
    settled(&stage, 0);
    assert_eq!(counts(&stage), all_counted(3), "what was seen before is forgotten, and the state is not");
    delete_topic(kafka, &state);
    refused(&stage, &[&state, "was deleted and made anew", "the state in it is gone", cure]);
    told(&stage, cure);
    send_all(kafka, &stage.input, &numbered(0, 5));
    send_all(kafka, &stage.input, &numbered(10, 5));
    settled(&stage, 0);
    assert_eq!(counts(&stage), all_counted(1), "ids are kept, and state begins with none");
}

/// The group's offsets are put down, or deleted, by another tool than Keyrail's.
fn moved(test: &'static str, guarantee: &str) {
    let Some(kafka) = broker(test) else { return };
    let stage = Stage::new(test, kafka, &Setup { guest: "tally", tables: DEDUP, guarantee, ..Setup::default() });
    send_all(kafka, &stage.input, &numbered(0, 10));
    settled(&stage, 0);
    let cure = "keyrail rewind p --to here --seen keep --state keep";
    let words =
        [stage.group.as_str(), "was put down by another tool", &internal(&stage, "seen"), cure].map(str::to_owned);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let starts: Vec<(i32, i64)> = (0..6).map(|partition| (partition, 0)).collect();
    reset(kafka, &stage.group, &stage.input, &starts, "");
    refused(&stage, &words);
    refused(&stage, &words);
    told(&stage, cure);
    send_all(kafka, &stage.input, &numbered(10, 5));
    settled(&stage, 0);
    assert_eq!(counts(&stage), all_counted(3), "what came again was done again");
    delete_offsets(kafka, &stage.group);
    refused(&stage, &words);
    told(&stage, cure);
    send_all(kafka, &stage.input, &numbered(15, 5));
    settled(&stage, 0);
    assert_eq!(counts(&stage), all_counted(4), "what came again was done again");
    // To forget is another way out.
    reset(kafka, &stage.group, &stage.input, &starts, "by hand");
    refused(&stage, &words);
    told(&stage, "keyrail rewind p --to here --seen forget --state forget");
    settled(&stage, 0);
    assert_eq!(counts(&stage), all_counted(4), "each is counted once, from none on");
    let records = bounds(kafka, &stage.output).iter().map(|(start, end)| end - start).sum::<i64>();
    assert!(records >= 40, "{records}: it did not run again");
}

#[test]
fn a_group_that_was_moved_from_outside_waits_for_somebody_to_say_what_becomes_of_its_state() {
    moved("a_group_that_was_moved_from_outside_waits_for_somebody_to_say_what_becomes_of_its_state", "exactly-once");
}

#[test]
fn a_group_that_was_moved_from_outside_waits_with_at_least_once_too() {
    moved("a_group_that_was_moved_from_outside_waits_with_at_least_once_too", "at-least-once");
}

#[test]
fn another_order_is_refused_while_something_of_the_former_is_kept() {
    let test = "another_order_is_refused_while_something_of_the_former_is_kept";
    let Some(kafka) = broker(test) else { return };
    let setup = Setup { guest: "tally", ..Setup::default() };
    let by_header = Setup { tables: "[order]\nby = \"header:trace\"", ..setup.clone() };
    let stage = Stage::new(test, kafka, &setup);
    send_all(kafka, &stage.input, &numbered(0, 10));
    settled(&stage, 0);
    stage.write_manifest(&by_header);
    send_all(kafka, &stage.input, &numbered(10, 5));
    let cure = "keyrail rewind p --to here --state forget";
    refused(&stage, &[&internal(&stage, "state"), "order.by", "is of other keys", cure]);
    stage.write_manifest(&setup);
    settled(&stage, 0);
    assert_eq!(counts(&stage), all_counted(3), "as it was before");
    stage.write_manifest(&by_header);
    refused(&stage, &[cure]);
    told(&stage, cure);
    send_all(kafka, &stage.input, &numbered(10, 5));
    settled(&stage, 0);
    assert_eq!(counts(&stage), all_counted(1), "each trace is a key of its own");
}

#[test]
fn what_is_parked_keeps_its_order_and_its_guarantee() {
    let test = "what_is_parked_keeps_its_order_and_its_guarantee";
    let Some(kafka) = broker(test) else { return };
    // Long enough to be found waiting three times.
    let parking = FOR_LONG.replace("10m", "30s");
    let setup = Setup { tables: &parking, ..Setup::default() };
    let by_header = format!("[order]\nby = \"header:trace\"\n{parking}");
    let stage = Stage::new(test, kafka, &setup);
    send_all(kafka, &stage.input, &[Rec::script("k", "fail-times:1", "a"), Rec::script("l", "done", "a")]);
    settled(&stage, 1);
    let topic = internal(&stage, "retry");
    stage.write_manifest(&Setup { tables: &by_header, ..setup.clone() });
    refused(&stage, &[&topic, "in the order that [order] said before", "Put it back until none waits"]);
    let denied = run(&stage, &["rewind", "p", "--to", "here"]);
    assert_eq!(denied.code, 1, "{}", denied.out);
    assert!(denied.err.contains(&format!("1 messages wait in {topic}")), "{}", denied.err);
    stage.write_manifest(&Setup { guarantee: "at-least-once", tables: "", ..setup.clone() });
    refused(&stage, &[&topic, "with this manifest nobody reads it", "would overtake them"]);
    // Put back, it runs; then nothing stands in the way.
    stage.write_manifest(&setup);
    settled(&stage, 0);
    stage.write_manifest(&Setup { tables: &by_header, ..setup.clone() });
    send_all(kafka, &stage.input, &[Rec::script("k", "done", "b")]);
    settled(&stage, 0);
    assert_eq!(read_all(kafka, &stage.output).len(), 3);
}
