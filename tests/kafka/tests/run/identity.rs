//! Internal topics that are gone or made anew, another order, a group that was moved: each is refused before the first record, with
//! the command that mends it, and that command does.

use crate::client::{Rec, delete_topic, is_there, read_all, reset, send_all};
use crate::commands::run;
use crate::parked::waiting;
use crate::stage::{Setup, Stage, broker};
use crate::worker::Worker;
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

#[test]
fn a_key_with_parked_messages_does_not_run_without_its_retry_topic() {
    let test = "a_key_with_parked_messages_does_not_run_without_its_retry_topic";
    let Some(kafka) = broker(test) else { return };
    let stage = Stage::new(test, kafka, &Setup { guest: "tally", tables: FOR_LONG, ..Setup::default() });
    send_all(kafka, &stage.input, &[Rec::new("k", "fail 1 a"), Rec::new("l", "a")]);
    settled(&stage, 1);
    let topic = internal(&stage, "retry");
    delete_topic(kafka, &topic);
    send_all(kafka, &stage.input, &[Rec::new("k", "b"), Rec::new("l", "b")]);
    let cure = "keyrail rewind p --to here --state keep";
    refused(&stage, &[&topic, "there is none of that name", "would overtake them", cure]);
    assert!(!is_there(kafka, &topic), "it was made anew, and what was parked is forgotten without a word");
    assert_eq!(counts(&stage), BTreeMap::from([("l".to_owned(), 1)]), "something was overtaken");
    told(&stage, cure);
    settled(&stage, 0);
    assert_eq!(counts(&stage), BTreeMap::from([("k".to_owned(), 1), ("l".to_owned(), 2)]));
}
