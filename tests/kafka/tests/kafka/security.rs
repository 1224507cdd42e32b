//! Logins, certificates and rights: what works, and what a person is told when it does not.

use crate::support::*;
use crate::topics::{WAIT, dead_letter, needed};
use crate::transactions::{commit, end, offset, renew};
use keyrail::broker::kafka::{Kafka, TopicRole};
use keyrail::broker::{BrokerError, BrokerErrorKind, Polled, Refusal};
use keyrail_kafka_tests::{Kafka as Rig, Options, Security, skip, start, unique};
use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

static SECURED: LazyLock<Option<Rig>> = LazyLock::new(|| {
    let users = [("alice", "alice-secret"), ("bob", "bob-secret")].map(|(n, p)| (n.to_owned(), p.to_owned()));
    start("the secured broker", &Options { secured: true, users: users.to_vec(), ..Options::default() })
});

fn secured(test: &str) -> Option<&'static Rig> {
    if SECURED.is_none() {
        skip(test, "KEYRAIL_KAFKA_HOME is not set; cargo xtask test sets it");
    }
    SECURED.as_ref()
}

fn there_and_back(kafka: &Kafka, topic: &str) {
    send_ok(kafka, &[produce(topic, b"v")]);
    let mut consumer = join(kafka, &unique("g"), topic);
    take_assignment(consumer.as_mut(), 0);
    assert_eq!(read(consumer.as_mut(), 1)[0].value(), Some(&b"v"[..]));
    let topics = kafka.topics().unwrap();
    assert_eq!(topics.describe(&[topic], WAIT).unwrap()[0].partitions, Some(1));
}

fn oauth(rig: &Rig) -> BTreeMap<String, String> {
    let mut all = rig.properties(Security::SaslTls);
    for (name, value) in [
        ("sasl.mechanism", "OAUTHBEARER"),
        ("enable.sasl.oauthbearer.unsecure.jwt", "true"),
        ("sasl.oauthbearer.config", "principal=admin"),
    ] {
        all.insert(name.to_owned(), value.to_owned());
    }
    all
}

#[test]
fn tls_scram_and_oauthbearer_work() {
    let Some(rig) = secured("tls_scram_and_oauthbearer_work") else { return };
    let ways = [
        ("TLS", rig.properties(Security::Tls)),
        ("SCRAM-SHA-256", rig.login("SCRAM-SHA-256", "admin", "admin-secret")),
        ("SCRAM-SHA-512", rig.login("SCRAM-SHA-512", "admin", "admin-secret")),
        ("OAUTHBEARER", oauth(rig)),
    ];
    for (name, properties) in ways {
        let topic = unique("secured");
        rig.create_topic(&topic, 1, &[]).unwrap();
        // With access rules on, a client without login may do as its name: nobody, who is the admin here.
        println!("{name}");
        there_and_back(&connect(&properties, &[]), &topic);
    }
}

/// What is certain must be told when it is known: the test would not end if it were waited for.
const FINAL: Duration = Duration::from_secs(3600);
/// A guess is told when the time is over.
const GUESSED: Duration = Duration::from_secs(3);

/// What an operator must act on, or a guess of it: a connection also breaks early when a broker stops.
fn tells(e: &BrokerError) -> bool {
    e.kind == BrokerErrorKind::Operator || e.message.contains("speaks another protocol")
}

/// What every kind of client says to a cluster that it can't enter.
fn complaints(kafka: &Kafka, wait: Duration) -> Vec<BrokerError> {
    let mut consumer = join(kafka, &unique("g"), "t");
    let from_consumer = poll_until(consumer.as_mut(), "a complaint", |_, p| match p {
        Polled::Trouble(e) if tells(&e) => Some(e),
        _ => None,
    });
    let mut producer = kafka.producer(&[], LIMIT).unwrap();
    let until = Instant::now() + LIMIT;
    let from_producer = loop {
        producer.poll(Duration::from_millis(50), &mut Vec::new());
        match producer.trouble() {
            Some(e) if tells(&e) => break e,
            _ => assert!(Instant::now() < until, "the producer says nothing"),
        }
    };
    let from_topics = kafka.topics().unwrap().describe(&["t"], wait).unwrap_err();
    vec![from_consumer, from_producer, from_topics]
}

fn assert_told(properties: &BTreeMap<String, String>, wait: Duration, words: &[&str]) {
    for told in complaints(&connect(properties, &[]), wait) {
        assert!(tells(&told), "{told}");
        for word in words {
            assert!(told.message.contains(word), "{word:?} is missing in: {told}");
        }
    }
}

#[test]
fn a_wrong_password_is_told_with_the_properties_to_check() {
    let Some(rig) = secured("a_wrong_password_is_told_with_the_properties_to_check") else { return };
    let wrong = rig.login("SCRAM-SHA-256", "alice", "guess");
    assert_told(
        &wrong,
        FINAL,
        &["refuses the login of user \"alice\"", "sasl.password", rig.bootstrap(Security::SaslTls)],
    );
    let unknown = rig.login("PLAIN", "alice", "alice-secret");
    assert_told(&unknown, FINAL, &["sasl.mechanism"]);
}

#[test]
fn a_certificate_that_is_not_trusted_is_told_with_the_property_to_set() {
    let Some(rig) = secured("a_certificate_that_is_not_trusted_is_told_with_the_property_to_set") else { return };
    let mut distrust = rig.properties(Security::Tls);
    distrust.remove("ssl.ca.location");
    assert_told(&distrust, FINAL, &["certificate", "ssl.ca.location"]);
}

#[test]
fn tls_against_plaintext_and_the_reverse_are_told() {
    let Some(rig) = secured("tls_against_plaintext_and_the_reverse_are_told") else { return };
    let mut to_plain = rig.properties(Security::Tls);
    to_plain.insert("bootstrap.servers".to_owned(), rig.bootstrap(Security::Plain).to_owned());
    assert_told(&to_plain, GUESSED, &["speaks no TLS", "security.protocol", rig.bootstrap(Security::Plain)]);
    let mut to_tls = rig.properties(Security::Plain);
    to_tls.insert("bootstrap.servers".to_owned(), rig.bootstrap(Security::Tls).to_owned());
    assert_told(&to_tls, GUESSED, &["security.protocol", rig.bootstrap(Security::Tls)]);
}

#[test]
fn missing_rights_are_told_and_work_once_given() {
    let Some(rig) = secured("missing_rights_are_told_and_work_once_given") else { return };
    let (topic, group) = (unique("rights"), unique("g"));
    rig.create_topic(&topic, 1, &[]).unwrap();
    let kafka = connect(&rig.login("SCRAM-SHA-512", "bob", "bob-secret"), &[]);
    let topics = kafka.topics().unwrap();
    let blocked = |kafka: &Kafka| {
        let results = send_all(kafka.producer(&[], LIMIT).unwrap().as_mut(), &[produce(&topic, b"v")]);
        let Err(Refusal::Blocked(why)) = &results[0] else { panic!("{:?}", results[0]) };
        why.clone()
    };
    let why = blocked(&kafka);
    assert!(why.contains("user \"bob\" lacks rights on the topic") && why.contains(&topic), "{why}");
    let problems = topics.ensure(&[needed(&topic, TopicRole::Input)], WAIT).unwrap();
    assert!(problems[0].message.contains("lacks rights") && problems[0].topic == topic, "{problems:?}");
    let mut consumer = join(&kafka, &group, &topic);
    let complaint = |c: &mut dyn keyrail::broker::Consumer, word: &str| {
        poll_until(c, word, |_, p| match p {
            Polled::Trouble(e) if e.message.contains(word) => Some(e),
            _ => None,
        })
    };
    let told = complaint(consumer.as_mut(), "lacks rights on the group");
    assert_eq!(told.kind, BrokerErrorKind::Operator);
    assert!(told.message.contains(&group), "{told}");

    for (operation, kind, name) in [("Read", "group", &group), ("Read", "topic", &topic), ("Write", "topic", &topic)] {
        rig.allow("bob", operation, kind, name).unwrap();
    }
    send_ok(&kafka, &[produce(&topic, b"v")]);
    take_assignment(consumer.as_mut(), 0);
    assert_eq!(read(consumer.as_mut(), 1)[0].value(), Some(&b"v"[..]));

    let dlq = format!("{group}.{topic}.dlq");
    rig.allow("bob", "Describe", "topic", &dlq).unwrap();
    let all = [needed(&topic, TopicRole::Input), needed(&dlq, dead_letter(&topic))];
    let until = Instant::now() + LIMIT;
    let problems = loop {
        let problems = topics.ensure(&all, WAIT).unwrap();
        // The rule takes a moment to reach the broker.
        if problems.iter().all(|p| p.command.is_some()) || Instant::now() > until {
            break problems;
        }
    };
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].message.contains("can't be created") && problems[0].message.contains("CREATE"), "{problems:?}");
    let command = format!(
        "kafka-topics.sh --bootstrap-server {} --command-config client.properties --create --topic {dlq} --partitions 1 --config cleanup.policy=delete",
        rig.bootstrap(Security::SaslTls)
    );
    assert_eq!(problems[0].command.as_deref(), Some(command.as_str()));
}

#[test]
fn missing_rights_on_a_transaction_are_told_with_what_to_allow() {
    let test = "missing_rights_on_a_transaction_are_told_with_what_to_allow";
    let Some(rig) = secured(test) else { return };
    let (topic, output, group, id) = (unique("rights"), unique("rights"), unique("rights"), unique("rights"));
    rig.create_topic(&topic, 1, &[]).unwrap();
    rig.create_topic(&output, 1, &[]).unwrap();
    for (operation, kind, name) in [("Read", "group", &group), ("Read", "topic", &topic)] {
        rig.allow("bob", operation, kind, name).unwrap();
    }
    let kafka = connect(&rig.login("SCRAM-SHA-512", "bob", "bob-secret"), &[]);
    let mut consumer = join(&kafka, &group, &topic);
    take_assignment(consumer.as_mut(), 0);
    let mut transactions = consumer.transactions(&id, &[&output]).unwrap();
    transactions.renew();
    let told = end(transactions.as_mut()).unwrap_err();
    assert_eq!(told.kind, BrokerErrorKind::Operator, "{told}");
    assert!(
        told.message.contains("user \"bob\"") && told.message.contains(&format!("--transactional-id {id}")),
        "{told}"
    );
    for operation in ["Write", "Describe"] {
        rig.allow("bob", operation, "transactional-id", &id).unwrap();
    }
    let until = Instant::now() + LIMIT;
    loop {
        transactions.renew();
        // The rule takes a moment to reach the broker.
        match end(transactions.as_mut()) {
            Ok(_) => break,
            Err(e) => assert!(Instant::now() < until, "{e}"),
        }
    }
    let refused = send_all(transactions.as_mut(), &[produce(&output, b"v")]);
    assert!(
        matches!(&refused[0], Err(Refusal::Blocked(why)) if why.contains("lacks rights on the topic") && why.contains(&output)),
        "{refused:?}"
    );
    renew(transactions.as_mut());
    commit(transactions.as_mut(), &[offset(0, 1, "")]);
    assert_eq!(consumer.committed(&[at(0)], ANSWER).unwrap()[0].offset, Some(1));
}
