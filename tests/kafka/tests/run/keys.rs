//! Failing messages: their keys wait, others do not; what is spent goes where the manifest says.

use crate::client::{Rec, read_all, send_all};
use crate::judge::{Expected, judge};
use crate::stage::{Setup, Stage, broker};
use crate::worker::Worker;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const LIMIT: Duration = Duration::from_secs(60);
const SETTLED: &str = "keyrail_messages_settled_total";

fn expect(expected: &mut Expected, key: &str, id: &str) {
    expected.entry(key.into()).or_default().push(id.to_owned());
}

#[test]
fn failing_keys_keep_their_order_and_hold_up_no_other() {
    let test = "failing_keys_keep_their_order_and_hold_up_no_other";
    let Some(kafka) = broker(test) else { return };
    let tables = "[retry]\nattempts = 4\nbackoff = { first = \"400ms\", factor = 1.0, max = \"400ms\", jitter = 0.0 }";
    let stage = Stage::new(test, kafka, &Setup { tables, ..Setup::default() });
    // 1000 keys with ten messages each: ten keys fail three times per message, one for good.
    let (mut records, mut healthy, mut failing, mut spent) =
        (vec![], Expected::new(), Expected::new(), Expected::new());
    for n in 0..10 {
        for k in 0..1000 {
            let (key, id) = (format!("k{k}"), format!("k{k}-{n}"));
            let (command, stream) = match k {
                0..10 => ("fail-times:3", &mut failing),
                10 => ("retry", &mut spent),
                _ => ("done", &mut healthy),
            };
            expect(stream, &key, &id);
            records.push(Rec::script(&key, command, &id).header("trace", id));
        }
    }
    send_all(kafka, &stage.input, &records);
    let mut worker = Worker::start(&stage, 0);
    let began = Instant::now();
    worker.wait_ready();
    worker.wait_metric(SETTLED, &["fate=\"done\""], |n| n >= 9890.0);
    let early = began.elapsed();
    stage.say(&format!("the healthy keys are done after {:.1} s", early.as_secs_f64()));
    stage.wait_settled(&[&worker], 0, LIMIT);
    stage.say(&format!("the failing ones after {:.1} s", began.elapsed().as_secs_f64()));
    // Three waits of each of ten messages, one after the other.
    assert!(began.elapsed() > Duration::from_secs(12), "the waits between attempts were not kept");
    let (done, letters) = (read_all(kafka, &stage.output), read_all(kafka, &stage.letters));
    healthy.append(&mut failing);
    judge(&healthy, &done, Rec::text).must_hold_strictly(0);
    judge(&spent, &letters, |l| l.told("trace")).must_hold_strictly(0);
    for record in &done {
        // k0 to k9.
        let fails = record.key.as_ref().is_some_and(|key| key.len() == 2);
        let attempt = if fails { "4" } else { "1" };
        assert_eq!(record.told("attempt"), attempt, "{record:?}: effects of failed runs are undone");
    }
    for letter in &letters {
        assert_letter(letter, &stage, "attempts", "4", "scripted");
        assert!(letter.told("keyrail-detail").contains(&letter.told("trace")), "{letter:?}");
    }
    let healthy_wait = early.as_secs_f64();
    assert!(healthy_wait < 10.0, "the healthy keys were held up: {healthy_wait} s");
    let count = |name, labels: &[&str]| worker.metric(name, labels);
    assert_eq!(count(SETTLED, &["fate=\"done\""]), 9990.0);
    assert_eq!(count("keyrail_dead_letters_total", &["reason=\"attempts\""]), 10.0);
    // A first run takes messages of its key along, which are undone when it fails; a later run is alone. So a key's ten
    // messages fail at most 55 times in first runs, and each two or three times more in later ones.
    let failed = count("keyrail_attempts_failed_total", &["kind=\"error\""]);
    stage.say(&format!("{failed} failed runs, 340 of them attempts"));
    assert!((340.0..=835.0).contains(&failed), "{failed} failed runs: followers of a failing message run for nothing");
    worker.stop(Duration::from_secs(10));
}

/// Everything that a dead letter tells beside the message itself.
fn assert_letter(letter: &Rec, stage: &Stage<'_>, reason: &str, attempts: &str, code: &str) {
    let told = |name: &str| letter.told(&format!("keyrail-{name}"));
    assert_eq!((told("reason").as_str(), told("attempts").as_str(), told("code").as_str()), (reason, attempts, code));
    assert_eq!((told("topic"), told("group")), (stage.input.clone(), stage.group.clone()));
    assert!(told("handler").starts_with("p@"), "{letter:?}");
    assert_eq!(told("partition"), letter.partition.to_string(), "a dead letter keeps its key's partition");
    for number in ["offset", "timestamp", "first-failed"] {
        assert!(told(number).parse::<i64>().is_ok_and(|n| n >= 0), "{number} of {letter:?}");
    }
}

#[test]
fn what_is_discarded_is_counted_and_told_and_goes_nowhere() {
    let test = "what_is_discarded_is_counted_and_told_and_goes_nowhere";
    let Some(kafka) = broker(test) else { return };
    let tables = "[retry]\nattempts = 2\nbackoff = { first = \"50ms\" }\nthen = \"discard\"";
    let stage = Stage::new(test, kafka, &Setup { tables, ..Setup::default() });
    let ids: Vec<String> = (0..100).map(|n| format!("m{n}")).collect();
    let command = |n: usize| if n.is_multiple_of(10) { "retry" } else { "done" };
    let records: Vec<Rec> = ids.iter().enumerate().map(|(n, id)| Rec::script(id, command(n), id)).collect();
    send_all(kafka, &stage.input, &records);
    let mut worker = Worker::start(&stage, 0);
    stage.wait_settled(&[&worker], 0, LIMIT);
    assert_eq!(read_all(kafka, &stage.output).len(), 90);
    assert_eq!(read_all(kafka, &stage.letters), []);
    assert_eq!(worker.metric(SETTLED, &["fate=\"discarded\""]), 10.0);
    assert_eq!(worker.log().matches("a message is discarded").count(), 10, "{}", worker.tail());
    worker.stop(Duration::from_secs(10));
}

#[test]
fn a_trap_costs_its_own_message_and_no_other() {
    let test = "a_trap_costs_its_own_message_and_no_other";
    let Some(kafka) = broker(test) else { return };
    let tables = "[retry]\nattempts = 2\nbackoff = { first = \"50ms\" }";
    let stage = Stage::new(test, kafka, &Setup { tables, partitions: 1, ..Setup::default() });
    let (mut records, mut good, mut bad) = (vec![], Expected::new(), Expected::new());
    for n in 0..500 {
        let (key, id) = (format!("k{}", n % 50), format!("m{n}"));
        let command = match n {
            100 | 101 | 250 => "trap",
            300 => "trap-times:1",
            _ => "done",
        };
        expect(if command == "trap" { &mut bad } else { &mut good }, &key, &id);
        records.push(Rec::script(&key, command, &id).header("trace", id));
    }
    send_all(kafka, &stage.input, &records);
    let mut worker = Worker::start(&stage, 0);
    stage.wait_settled(&[&worker], 0, LIMIT);
    let (done, letters) = (read_all(kafka, &stage.output), read_all(kafka, &stage.letters));
    judge(&good, &done, Rec::text).must_hold_strictly(0);
    judge(&bad, &letters, |l| l.told("trace")).must_hold_strictly(0);
    for record in &done {
        let attempts = if record.text() == "m300" { "2" } else { "1" };
        assert_eq!(record.told("attempt"), attempts, "{record:?}: who shared the call has lost no attempt");
    }
    for letter in &letters {
        assert_letter(letter, &stage, "trap", "2", "trap");
        assert!(letter.told("keyrail-detail").starts_with("panic: scripted: "), "{letter:?}");
        let panic = format!("panic: scripted: {}", letter.told("trace"));
        assert!(worker.log().contains(&panic), "the log tells the handler's last words\n{}", worker.tail());
    }
    worker.stop(Duration::from_secs(10));
}

#[test]
fn what_has_expired_is_dead_lettered_unrun() {
    let test = "what_has_expired_is_dead_lettered_unrun";
    let Some(kafka) = broker(test) else { return };
    let stage = Stage::new(test, kafka, &Setup { top: "expires-after = \"10m\"", ..Setup::default() });
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
    let aged = |n: usize| {
        let timestamp_ms = if n.is_multiple_of(2) { now } else { now - 3_600_000 };
        Rec { timestamp_ms, ..Rec::script(&format!("k{n}"), "done", &format!("m{n}")) }
    };
    send_all(kafka, &stage.input, &(0..40).map(aged).collect::<Vec<_>>());
    let mut worker = Worker::start(&stage, 0);
    stage.wait_settled(&[&worker], 0, LIMIT);
    assert_eq!(read_all(kafka, &stage.output).len(), 20);
    let letters = read_all(kafka, &stage.letters);
    assert_eq!(letters.len(), 20);
    for letter in &letters {
        assert_eq!((letter.told("keyrail-reason"), letter.told("keyrail-attempts")), ("expired".into(), "0".into()));
        assert_eq!(letter.told("keyrail-timestamp"), (now - 3_600_000).to_string());
        assert!(letter.timestamp_ms >= now - 60_000, "retention must not delete it at once");
    }
    worker.stop(Duration::from_secs(10));
}

#[test]
fn a_producers_duplicates_are_suppressed_within_their_key() {
    let test = "a_producers_duplicates_are_suppressed_within_their_key";
    let Some(kafka) = broker(test) else { return };
    let tables = "[dedup]\nid = \"header:message-id\"\n[retry]\nbackoff = { first = \"50ms\" }";
    let stage = Stage::new(test, kafka, &Setup { tables, ..Setup::default() });
    let (mut records, mut expected) = (vec![], Expected::new());
    for n in 0..1000 {
        let (key, id) = (format!("k{}", n % 20), format!("m{n}"));
        // Some fail at first: their duplicate comes while they are in flight.
        let command = if n % 50 == 3 { "fail-times:2" } else { "done" };
        expect(&mut expected, &key, &id);
        let record = Rec::script(&key, command, &id).header("message-id", id);
        records.extend([record.clone(), record]);
    }
    // The same id under two keys is two messages.
    for key in ["x", "y"] {
        expect(&mut expected, key, "twin");
        records.push(Rec::script(key, "done", "twin").header("message-id", "twin"));
    }
    send_all(kafka, &stage.input, &records);
    let mut worker = Worker::start(&stage, 0);
    stage.wait_settled(&[&worker], 0, LIMIT);
    // And long after.
    send_all(kafka, &stage.input, &records[..200]);
    stage.wait_settled(&[&worker], 0, LIMIT);
    judge(&expected, &read_all(kafka, &stage.output), Rec::text).must_hold_strictly(0);
    assert_eq!(worker.metric(SETTLED, &["fate=\"duplicate\""]), 1200.0);
    worker.wait_metric("keyrail_seen_ids", &[], |n| n == 1002.0);
    worker.stop(Duration::from_secs(10));
}
