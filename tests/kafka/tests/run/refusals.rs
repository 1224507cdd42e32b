//! Starts that can't be: the message names what is wrong, and the cure.

use crate::client::{Rec, read_all, send_all};
use crate::stage::{Setup, Stage, broker, own_broker};
use crate::worker::Worker;
use keyrail_kafka_tests::{Kafka, Options, Security};
use std::collections::BTreeMap;
use std::fs;
use std::sync::LazyLock;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

fn secured(test: &str) -> Option<&'static Kafka> {
    static SECURED: LazyLock<Option<Kafka>> = LazyLock::new(|| {
        let users = ["reader", "poor"].map(|user| (user.to_owned(), format!("{user}-secret"))).to_vec();
        own_broker("the secured broker", &Options { secured: true, users, ..Options::default() })
    });
    if SECURED.is_none() {
        keyrail_kafka_tests::skip(test, "KEYRAIL_KAFKA_HOME is not set; cargo xtask test sets it");
    }
    SECURED.as_ref()
}

fn log_in(stage: &Stage<'_>, user: &str, password: &str) {
    let properties: BTreeMap<String, String> = stage.kafka.login("SCRAM-SHA-256", user, password);
    let bootstrap = properties["bootstrap.servers"].clone();
    let rest = properties.iter().filter(|(name, _)| *name != "bootstrap.servers");
    let lines: Vec<String> = rest.map(|(name, value)| format!("{name:?} = {value:?}")).collect();
    stage.write_host(&bootstrap, &lines.join("\n"));
}

/// It ends with 1, and its message holds all of these words.
fn refused(stage: &Stage<'_>, words: &[&str]) {
    let mut worker = Worker::start(stage, 0);
    let status = worker.wait(LIMIT);
    assert_eq!(status.code(), Some(1), "{}", worker.tail());
    let log = worker.log();
    for word in words {
        assert!(log.contains(word), "nothing of {word:?}\n{}", worker.tail());
    }
}

#[test]
fn no_broker_is_told_with_address_and_cure_and_waited_for() {
    let test = "no_broker_is_told_with_address_and_cure_and_waited_for";
    let Some(kafka) = broker(test) else { return };
    let stage = Stage::new(test, kafka, &Setup::default());
    stage.write_host("127.0.0.1:9", "");
    let mut worker = Worker::start(&stage, 0);
    worker.wait_log("is a broker running at 127.0.0.1:9?", LIMIT);
    worker.wait_log("bootstrap.servers", LIMIT);
    assert!(!worker.is_ready());
    assert_eq!(worker.get("/livez").map(|p| p.status), Some(200));
    let took = worker.stop(Duration::from_secs(20));
    assert!(took < Duration::from_secs(12), "SIGTERM without a broker took {took:?}");
}

#[test]
fn missing_topics_are_named_with_the_command_that_makes_them() {
    let test = "missing_topics_are_named_with_the_command_that_makes_them";
    let Some(kafka) = broker(test) else { return };
    let mut stage = Stage::new(test, kafka, &Setup::default());
    let there = std::mem::replace(&mut stage.input, "no-such-input".to_owned());
    stage.write_manifest(&Setup::default());
    let bootstrap = kafka.bootstrap(Security::Plain);
    let command = format!("kafka-topics.sh --bootstrap-server {bootstrap} --create --topic");
    refused(&stage, &["input topic", "no-such-input", "does not exist", &format!("{command} no-such-input")]);
    stage.input = there;
    stage.output = "no-such-output".to_owned();
    stage.write_manifest(&Setup::default());
    refused(&stage, &["output topic", "no-such-output", "does not exist", &format!("{command} no-such-output")]);
}

#[test]
fn a_dead_letter_topic_that_is_an_input_is_refused() {
    let test = "a_dead_letter_topic_that_is_an_input_is_refused";
    let Some(kafka) = broker(test) else { return };
    let stage = Stage::new(test, kafka, &Setup::default());
    let tables = format!("[dead-letter]\ntopic = \"{}\"", stage.input);
    stage.write_manifest(&Setup { tables: &tables, ..Setup::default() });
    refused(&stage, &["p.toml", "dead-letter.topic", &stage.input, "input"]);
}

#[test]
fn a_missing_dead_letter_topic_is_made() {
    let test = "a_missing_dead_letter_topic_is_made";
    let Some(kafka) = broker(test) else { return };
    let mut stage = Stage::new(test, kafka, &Setup { partitions: 3, ..Setup::default() });
    stage.letters = format!("{}-mine", stage.letters);
    let tables = format!("[dead-letter]\ntopic = \"{}\"", stage.letters);
    stage.write_manifest(&Setup { tables: &tables, ..Setup::default() });
    let mut worker = Worker::start(&stage, 0);
    worker.wait_ready();
    assert_eq!(crate::client::bounds(kafka, &stage.letters), [(0, 0); 3], "as many partitions as the input has");
    worker.stop(Duration::from_secs(10));
}

#[test]
fn a_wrong_password_is_told_with_the_user() {
    let test = "a_wrong_password_is_told_with_the_user";
    let Some(kafka) = secured(test) else { return };
    let stage = Stage::new(test, kafka, &Setup::default());
    log_in(&stage, "reader", "wrong");
    refused(&stage, &["reader", "sasl.password", "refuses the login"]);
    assert!(!fs::read_to_string(stage.dir.join("worker-0.log")).unwrap().contains("wrong"), "no password in a log");
}

#[test]
fn missing_rights_are_named_with_user_resource_and_right() {
    let test = "missing_rights_are_named_with_user_resource_and_right";
    let Some(kafka) = secured(test) else { return };
    let stage = Stage::new(test, kafka, &Setup::default());
    log_in(&stage, "poor", "poor-secret");
    refused(&stage, &["poor", "lacks rights", &stage.input]);
    for topic in [&stage.input, &stage.output, &stage.letters] {
        kafka.allow("poor", "Read", "topic", topic).unwrap();
    }
    kafka.allow("poor", "Write", "transactional-ids", &stage.group).unwrap();
    // It may see the topics, and neither join the group nor write: that may be given while it waits.
    let mut worker = Worker::start(&stage, 0);
    worker.wait_log("lacks rights on the group", LIMIT);
    for word in ["poor", &stage.group, "--operation Read"] {
        assert!(worker.log().contains(word), "nothing of {word:?}\n{}", worker.tail());
    }
    let ready = worker.get("/readyz").expect("an answer");
    assert!(ready.status == 503 && ready.body.contains(&stage.group), "{}", ready.body);
    kafka.allow("poor", "Read", "group", &stage.group).unwrap();
    kafka.allow("poor", "Write", "topic", &stage.output).unwrap();
    send_all(kafka, &stage.input, &[Rec::script("k", "done", "m")]);
    stage.wait_settled(&[&worker], 0, LIMIT);
    worker.wait_ready();
    worker.stop(Duration::from_secs(15));
}

#[test]
fn a_forbidden_dead_letter_topic_blocks_the_partition_until_it_is_allowed() {
    let test = "a_forbidden_dead_letter_topic_blocks_the_partition_until_it_is_allowed";
    forbidden_letters(test, "at-least-once");
}

#[test]
fn a_forbidden_dead_letter_topic_holds_its_transaction_back_until_it_is_allowed() {
    let test = "a_forbidden_dead_letter_topic_holds_its_transaction_back_until_it_is_allowed";
    forbidden_letters(test, "exactly-once");
}

fn forbidden_letters(test: &'static str, guarantee: &str) {
    let Some(kafka) = secured(test) else { return };
    let stage = Stage::new(test, kafka, &Setup { partitions: 1, guarantee, ..Setup::default() });
    log_in(&stage, "reader", "reader-secret");
    kafka.allow("reader", "Read", "group", &stage.group).unwrap();
    kafka.allow("reader", "Write", "transactional-ids", &stage.group).unwrap();
    kafka.allow("reader", "Read", "topic", &stage.input).unwrap();
    kafka.allow("reader", "Write", "topic", &stage.output).unwrap();
    kafka.allow("reader", "Describe", "topic", &stage.letters).unwrap();
    send_all(kafka, &stage.input, &[Rec::script("a", "dead-letter", "bad"), Rec::script("b", "done", "good")]);
    let mut worker = Worker::start(&stage, 0);
    worker.wait_ready();
    if stage.exactly_once {
        // The broker refuses all topics of the transaction for one, and its client does not say which.
        worker.wait_metric("keyrail_partition_blocked", &[], |n| n == 1.0);
    } else {
        worker.wait_metric("keyrail_partition_blocked", &["reason=\"dead_letter\""], |n| n == 1.0);
        worker.wait_log(&stage.letters, LIMIT);
    }
    worker.wait_log("lacks rights on the topic", LIMIT);
    kafka.allow("reader", "Write", "topic", &stage.letters).unwrap();
    stage.wait_settled(&[&worker], 0, LIMIT);
    assert_eq!(read_all(kafka, &stage.letters).len(), 1);
    assert_eq!(read_all(kafka, &stage.output).len(), 1);
    worker.stop(Duration::from_secs(15));
}

/// The broker's list lacks what a user may not see.
#[test]
fn a_retry_topic_that_may_not_be_seen_is_not_taken_for_none() {
    let test = "a_retry_topic_that_may_not_be_seen_is_not_taken_for_none";
    let Some(kafka) = secured(test) else { return };
    let tables = "[retry]\nin-place = \"0s\"\nbackoff = { first = \"20s\", jitter = 0.0 }";
    let stage = Stage::new(test, kafka, &Setup { partitions: 1, tables, ..Setup::default() });
    send_all(kafka, &stage.input, &[Rec::script("k", "fail-times:1", "first")]);
    let mut worker = Worker::start(&stage, 0);
    worker.wait_metric("keyrail_parked_messages", &[], |n| n == 1.0);
    worker.stop(Duration::from_secs(15));
    log_in(&stage, "reader", "reader-secret");
    kafka.allow("reader", "Read", "group", &stage.group).unwrap();
    kafka.allow("reader", "Write", "transactional-ids", &stage.group).unwrap();
    kafka.allow("reader", "Read", "topic", &stage.input).unwrap();
    kafka.allow("reader", "Write", "topic", &stage.output).unwrap();
    kafka.allow("reader", "Write", "topic", &stage.letters).unwrap();
    send_all(kafka, &stage.input, &[Rec::script("k", "done", "second")]);
    let topic = format!("{}.{}.retry", stage.group, stage.input);
    let rule = format!("--operation Read --operation Write --topic {topic}");
    refused(&stage, &["must be read before it goes on", "lacks rights on the topic", "kafka-acls.sh", &rule]);
    assert_eq!(read_all(kafka, &stage.output).len(), 0, "it was overtaken");
    kafka.allow("reader", "Read", "topic", &topic).unwrap();
    kafka.allow("reader", "Write", "topic", &topic).unwrap();
    let mut worker = Worker::start(&stage, 0);
    stage.wait_settled(&[&worker], 0, LIMIT);
    worker.stop(Duration::from_secs(15));
    let came: Vec<String> = read_all(kafka, &stage.output).iter().map(Rec::text).collect();
    assert_eq!(came, ["first", "second"]);
}

#[test]
fn dead_letters_carry_a_panics_words_and_name_what_was_too_much() {
    let test = "dead_letters_carry_a_panics_words_and_name_what_was_too_much";
    let Some(kafka) = broker(test) else { return };
    let tables = "[retry]\nattempts = 2\nbackoff = { first = \"50ms\" }";
    let stage = Stage::new(test, kafka, &Setup { partitions: 1, tables, ..Setup::default() });
    let records = [
        Rec::script("a", "trap", "fuse"),
        Rec::script("b", "sends:2000", "many"),
        Rec::script("c", "dead-letter", "no"),
    ];
    send_all(kafka, &stage.input, &records);
    let mut worker = Worker::start(&stage, 0);
    stage.wait_settled(&[&worker], 0, Duration::from_secs(60));
    let mut letters = read_all(kafka, &stage.letters);
    letters.sort_by_key(|l| l.key.clone());
    let told: Vec<_> = letters.iter().map(|l| (l.told("keyrail-reason"), l.told("keyrail-code"))).collect();
    let told: Vec<_> = told.iter().map(|(reason, code)| (reason.as_str(), code.as_str())).collect();
    assert_eq!(told, [("trap", "trap"), ("oversized", "over-quota"), ("rejected", "scripted")]);
    let detail = letters[0].told("keyrail-detail");
    assert!(detail.contains("panic: scripted: fuse"), "{detail}");
    worker.stop(Duration::from_secs(15));
}
