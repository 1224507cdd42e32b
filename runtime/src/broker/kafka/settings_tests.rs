#![allow(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

use super::*;

fn settings(pairs: &[(&str, &str)]) -> Result<Settings, Vec<BrokerError>> {
    Settings::new(&pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect())
}

fn last<'a>(all: &'a [(String, String)], name: &str) -> Option<&'a str> {
    all.iter().rev().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
}

#[test]
fn every_fault_is_told_at_once_with_its_cure() {
    let faults = settings(&[("acks", "1"), ("lingr.ms", "5"), ("fetch.min.bytes", "many")]).unwrap_err();
    let told: Vec<_> = faults.iter().map(|f| f.message.as_str()).collect();
    assert_eq!(told.len(), 4, "{told:?}");
    assert!(told[0].contains("\"acks\" can't be set here") && told[0].contains("in-sync"), "{}", told[0]);
    assert!(told[1].contains("fetch.min.bytes"), "{}", told[1]);
    assert!(told[2].contains("did you mean \"linger.ms\""), "{}", told[2]);
    assert!(told[3].contains("bootstrap.servers"), "{}", told[3]);
}

#[test]
fn defaults_and_owned_properties_are_known_to_librdkafka() {
    let all = [DEFAULTS, CONSUMER_DEFAULTS, CONSUMER_OWNED, PRODUCER_DEFAULTS, PRODUCER_OWNED].concat();
    for (name, value) in all {
        assert_eq!(native::try_property(name, value), Ok(()), "{name}");
    }
}

#[test]
fn the_user_wins_over_defaults_but_not_over_what_is_owned() {
    let s = settings(&[("bootstrap.servers", "b:1"), ("linger.ms", "50"), ("fetch.wait.max.ms", "7")]).unwrap();
    let producer = s.producer(&[]);
    assert_eq!(last(&producer, "linger.ms"), Some("50"));
    assert_eq!(last(&producer, "enable.idempotence"), Some("true"));
    assert_eq!(last(&producer, "fetch.wait.max.ms"), None, "would only make the producer warn");
    let consumer = s.consumer("g", Assignor::Range);
    assert_eq!(last(&consumer, "linger.ms"), None);
    assert_eq!(last(&consumer, "group.id"), Some("g"));
    assert_eq!(last(&consumer, "partition.assignment.strategy"), Some("range"));
    assert_eq!(last(&consumer, "isolation.level"), Some("read_committed"));
}

#[test]
fn a_queue_is_never_smaller_than_the_largest_record_allowed() {
    let s = settings(&[("bootstrap.servers", "b:1"), ("message.max.bytes", "200000000")]).unwrap();
    assert_eq!(last(&s.producer(&[]), "queue.buffering.max.kbytes"), Some("390626"));
}

#[test]
fn the_new_group_protocol_gets_no_assignor() {
    let s = settings(&[("bootstrap.servers", "b:1"), ("group.protocol", "consumer")]).unwrap();
    assert_eq!(last(&s.consumer("g", Assignor::CooperativeSticky), "partition.assignment.strategy"), None);
}

#[test]
fn the_largest_batch_is_the_users_or_the_default() {
    let of = |pairs: &[(&str, &str)]| settings(pairs).unwrap().batch_bytes();
    assert_eq!(of(&[("bootstrap.servers", "b:1")]), 262_144);
    assert_eq!(of(&[("bootstrap.servers", "b:1"), ("batch.size", "5000")]), 5000);
}

#[test]
fn a_transactional_producer_waits_for_nothing_longer_than_its_transaction() {
    let of = |pairs: &[(&str, &str)]| {
        let pairs = [&[("bootstrap.servers", "b:1")], pairs].concat();
        let all = settings(&pairs).unwrap().transactional("the-id", &[("batch.size", "9")]);
        let names = [
            "message.timeout.ms",
            "socket.timeout.ms",
            "retry.backoff.ms",
            "transactional.id",
            "transaction.timeout.ms",
        ];
        assert_eq!((last(&all, "batch.size"), last(&all, "acks")), (Some("9"), Some("all")));
        names.map(|n| last(&all, n).unwrap_or("none").to_owned())
    };
    let last_two = ["the-id", "10000"];
    assert_eq!(of(&[]), ["10000", "10000", "20", last_two[0], last_two[1]]);
    let long = [("message.timeout.ms", "60000"), ("socket.timeout.ms", "60000"), ("retry.backoff.ms", "7")];
    assert_eq!(of(&long), ["10000", "10000", "7", last_two[0], last_two[1]], "the user's own comes before and wins");
    let short = [("delivery.timeout.ms", "4000"), ("socket.timeout.ms", "3000")];
    assert_eq!(of(&short), ["4000", "3000", "20", last_two[0], last_two[1]]);
    let member = settings(&[("bootstrap.servers", "b:1"), ("group.instance.id", "one")]).unwrap();
    assert!(member.no_transactions().is_some_and(|e| e.message.contains("guarantee = \"at-least-once\"")));
    assert!(settings(&[("bootstrap.servers", "b:1")]).unwrap().no_transactions().is_none());
    let refused = settings(&[("bootstrap.servers", "b:1"), ("transaction.timeout.ms", "60000")]).unwrap_err();
    assert!(refused[0].message.contains("\"transaction.timeout.ms\" can't be set here"), "{}", refused[0]);
}
