//! Transactions: what becomes visible together, what never does, and who may write.

use crate::support::*;
use keyrail::broker::kafka::Kafka;
use keyrail::broker::{
    BrokerError, BrokerErrorKind, Committed, Consumer, Finished, OffsetCommit, Produce, Refusal, Transactions,
};
use keyrail_kafka_tests::{Kafka as Rig, Security, shared, unique};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseProducer, Producer as _};
use rdkafka::{Offset, TopicPartitionList};
use std::time::{Duration, Instant};

/// An input with records, an output, and a member of a group that was given all of the input.
pub(crate) struct Scene {
    pub(crate) output: String,
    pub(crate) consumer: Box<dyn Consumer>,
}

impl Scene {
    pub(crate) fn new(rig: &Rig, kafka: &Kafka) -> Self {
        let (input, output) = (unique("txn-in"), unique("txn-out"));
        rig.create_topic(&input, 2, &[]).unwrap();
        rig.create_topic(&output, 1, &[]).unwrap();
        let mut consumer = join(kafka, &unique("txn"), &input);
        assert_eq!(take_assignment(consumer.as_mut(), 0).len(), 2);
        Self { output, consumer }
    }

    pub(crate) fn transactions(&self, id: &str) -> Box<dyn Transactions> {
        self.consumer.transactions(id, &[&self.output]).unwrap()
    }

    /// Writes these values in the transaction.
    pub(crate) fn write(&self, transactions: &mut dyn Transactions, values: &[&str]) {
        let records: Vec<Produce<'_>> = values.iter().map(|v| produce(&self.output, v.as_bytes())).collect();
        for (result, value) in send_all(transactions, &records).into_iter().zip(values) {
            assert_eq!(result, Ok(()), "{value}");
        }
    }

    /// What the group has committed for partition 0.
    pub(crate) fn committed(&mut self) -> Option<i64> {
        self.consumer.committed(&[at(0)], ANSWER).unwrap()[0].offset
    }
}

pub(crate) fn offset(partition: i32, offset: i64, metadata: &str) -> OffsetCommit {
    OffsetCommit { at: at(partition), offset, metadata: metadata.to_owned() }
}

pub(crate) fn end(transactions: &mut dyn Transactions) -> Result<Finished, BrokerError> {
    let (until, mut reports) = (Instant::now() + LIMIT, Vec::new());
    loop {
        if let Some(end) = transactions.finished() {
            assert_eq!(transactions.finished(), None, "told once");
            return end;
        }
        assert!(Instant::now() < until, "no end");
        transactions.poll(Duration::from_millis(100), &mut reports);
        assert_eq!(reports, [], "all records were reported before");
    }
}

pub(crate) fn renew(transactions: &mut dyn Transactions) {
    transactions.renew();
    assert_eq!(end(transactions), Ok(Finished::Renewed));
}

pub(crate) fn commit(transactions: &mut dyn Transactions, offsets: &[OffsetCommit]) {
    transactions.commit(offsets.to_vec());
    assert_eq!(end(transactions), Ok(Finished::Committed { resent: false }));
}

/// The values that a reader at this isolation sees now.
pub(crate) fn values(rig: &Rig, topic: &str, isolation: &str) -> Vec<String> {
    let mut config = ClientConfig::new();
    config.extend(rig.properties(Security::Plain));
    config.set("group.id", "values").set("enable.auto.commit", "false").set("isolation.level", isolation);
    config.set("enable.partition.eof", "true");
    let reader: BaseConsumer = config.create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Beginning).unwrap();
    reader.assign(&list).unwrap();
    let (until, mut values) = (Instant::now() + LIMIT, Vec::new());
    loop {
        assert!(Instant::now() < until, "{topic} has no end");
        match reader.poll(Duration::from_millis(100)) {
            Some(Ok(m)) => values.push(String::from_utf8_lossy(m.payload().unwrap_or_default()).into_owned()),
            Some(Err(KafkaError::PartitionEOF(_))) => return values,
            Some(Err(e)) => panic!("{e}"),
            None => {}
        }
    }
}

/// What a transaction wrote is visible once its marker is written, a moment after its commit.
pub(crate) fn until_seen(rig: &Rig, topic: &str, count: usize) -> Vec<String> {
    let until = Instant::now() + LIMIT;
    loop {
        let seen = values(rig, topic, "read_committed");
        if seen.len() >= count {
            return seen;
        }
        assert!(Instant::now() < until, "{} of {count} seen", seen.len());
    }
}

#[test]
fn records_and_offsets_become_visible_together() {
    let Some(rig) = shared("records_and_offsets_become_visible_together") else { return };
    let kafka = plain(rig);
    let mut scene = Scene::new(rig, &kafka);
    let mut transactions = scene.transactions(&unique("id"));
    renew(transactions.as_mut());
    for turn in 1..=3 {
        let value = format!("v{turn}");
        scene.write(transactions.as_mut(), &[&value, &value]);
        assert_eq!(values(rig, &scene.output, "read_uncommitted").len(), turn * 2);
        assert_eq!(values(rig, &scene.output, "read_committed").len(), (turn - 1) * 2);
        let (offset0, metadata) = (turn as i64 * 10, format!("map {turn} \u{e9}"));
        commit(transactions.as_mut(), &[offset(0, offset0, &metadata), offset(1, 0, "")]);
        let found = scene.consumer.committed(&[at(0), at(1)], ANSWER).unwrap();
        assert_eq!(found[0], Committed { offset: Some(offset0), metadata });
        assert_eq!(found[1], Committed { offset: Some(0), metadata: String::new() });
        let seen = until_seen(rig, &scene.output, turn * 2);
        assert_eq!(seen.len(), turn * 2);
    }
    // Offsets alone are a transaction, too.
    commit(transactions.as_mut(), &[offset(0, 99, &"m".repeat(4096))]);
    assert_eq!(scene.committed(), Some(99));
}

#[test]
fn a_member_by_the_new_protocol_commits_in_transactions_as_well() {
    let Some(rig) = shared("a_member_by_the_new_protocol_commits_in_transactions_as_well") else { return };
    let kafka = connect(&rig.properties(Security::Plain), &[("group.protocol", "consumer")]);
    let mut scene = Scene::new(rig, &kafka);
    let mut transactions = scene.transactions(&unique("id"));
    renew(transactions.as_mut());
    scene.write(transactions.as_mut(), &["v"]);
    commit(transactions.as_mut(), &[offset(0, 3, "m")]);
    assert_eq!(until_seen(rig, &scene.output, 1), ["v"]);
    assert_eq!(scene.committed(), Some(3));
}

#[test]
fn what_is_left_open_is_aborted_when_the_id_is_taken_over() {
    let Some(rig) = shared("what_is_left_open_is_aborted_when_the_id_is_taken_over") else { return };
    let kafka = plain(rig);
    let mut scene = Scene::new(rig, &kafka);
    let id = unique("id");
    let mut first = scene.transactions(&id);
    let unready = first.send(&produce(&scene.output, b"v"), 1);
    assert!(matches!(&unready, Err(Refusal::Blocked(why)) if why.contains("renewed")), "{unready:?}");
    renew(first.as_mut());
    scene.write(first.as_mut(), &["dropped"]);
    drop(first);
    let mut second = scene.transactions(&id);
    renew(second.as_mut());
    scene.write(second.as_mut(), &["given up"]);
    // Not reported when the producer is renewed: its report never comes.
    assert_eq!(second.send(&produce(&scene.output, b"given up"), 7), Ok(true));
    renew(second.as_mut());
    assert_eq!(second.in_flight(), 0);
    scene.write(second.as_mut(), &["kept"]);
    commit(second.as_mut(), &[offset(0, 1, "")]);
    scene.write(second.as_mut(), &["open"]);
    assert_eq!(until_seen(rig, &scene.output, 1), ["kept"]);
    assert!(values(rig, &scene.output, "read_uncommitted").len() >= 4);
    assert_eq!(scene.committed(), Some(1));
}

#[test]
fn who_takes_the_id_over_fences_the_other() {
    let Some(rig) = shared("who_takes_the_id_over_fences_the_other") else { return };
    let kafka = plain(rig);
    let mut scene = Scene::new(rig, &kafka);
    let id = unique("id");
    let (mut old, mut new) = (scene.transactions(&id), scene.transactions(&id));
    renew(old.as_mut());
    scene.write(old.as_mut(), &["old"]);
    renew(new.as_mut());
    old.commit(vec![offset(0, 5, "")]);
    let fenced = end(old.as_mut()).unwrap_err();
    assert_eq!(fenced.kind, BrokerErrorKind::Fatal, "{fenced}");
    assert!(fenced.message.contains(&id), "{fenced}");
    assert_eq!(old.trouble(), None, "told once");
    scene.write(new.as_mut(), &["new"]);
    commit(new.as_mut(), &[offset(0, 6, "")]);
    assert_eq!(until_seen(rig, &scene.output, 1), ["new"]);
    assert_eq!(scene.committed(), Some(6));
    // It may take it back; the other learns of it by a record as well.
    renew(old.as_mut());
    commit(old.as_mut(), &[offset(0, 7, "")]);
    assert_eq!(scene.committed(), Some(7));
    let refused = send_all(new.as_mut(), &[produce(&scene.output, b"late")]);
    assert!(matches!(&refused[0], Err(Refusal::Fenced(why)) if why.contains(&id)), "{refused:?}");
    new.commit(vec![offset(0, 8, "")]);
    assert_eq!(end(new.as_mut()).unwrap_err().kind, BrokerErrorKind::Fatal);
    assert_eq!(scene.committed(), Some(7));
}

#[test]
fn a_commit_without_a_member_or_an_offset_is_refused() {
    let Some(rig) = shared("a_commit_without_a_member_or_an_offset_is_refused") else { return };
    let kafka = plain(rig);
    let scene = Scene::new(rig, &kafka);
    let mut transactions = scene.transactions(&unique("id"));
    renew(transactions.as_mut());
    transactions.commit(Vec::new());
    assert_eq!(end(transactions.as_mut()).unwrap_err().kind, BrokerErrorKind::Operator);
    transactions.commit(vec![offset(0, 1, "")]);
    assert!(end(transactions.as_mut()).unwrap_err().message.contains("renewed"), "after every failure");
    renew(transactions.as_mut());
    scene.write(transactions.as_mut(), &["v"]);
    let Scene { consumer, output } = scene;
    drop(consumer);
    transactions.commit(vec![offset(0, 1, "")]);
    let closed = end(transactions.as_mut()).unwrap_err();
    assert_eq!(closed.kind, BrokerErrorKind::Superseded, "{closed}");
    assert_eq!(values(rig, &output, "read_committed"), [""; 0]);
}

#[test]
fn a_record_that_is_refused_poisons_its_transaction_and_no_other() {
    let Some(rig) = shared("a_record_that_is_refused_poisons_its_transaction_and_no_other") else { return };
    let kafka = plain(rig);
    let mut scene = Scene::new(rig, &kafka);
    scene.output = unique("txn-small");
    rig.create_topic(&scene.output, 1, &[("max.message.bytes", "1000")]).unwrap();
    // Its limit is not asked for, so that a batch can be larger.
    let mut transactions = scene.consumer.transactions(&unique("id"), &[]).unwrap();
    let large = vec![b'x'; 2000];
    let records = |values: &[&'static [u8]]| -> Vec<Produce<'static>> {
        let topic: &'static str = scene.output.clone().leak();
        values.iter().map(|v| produce(topic, v)).collect()
    };
    let large: &'static [u8] = large.leak();
    renew(transactions.as_mut());
    let batch = send_all(transactions.as_mut(), &records(&[b"a", large, b"b"]));
    assert!(batch.iter().all(|r| matches!(r, Err(Refusal::Blocked(_)))), "none of them is condemned: {batch:?}");
    transactions.commit(vec![offset(0, 1, "")]);
    let failed = end(transactions.as_mut()).unwrap_err();
    assert_eq!(failed.kind, BrokerErrorKind::Retry, "{failed}");
    // Now each goes alone.
    renew(transactions.as_mut());
    let alone = send_all(transactions.as_mut(), &records(&[b"a", large]));
    assert_eq!(alone[0], Ok(()));
    assert!(matches!(alone[1], Err(Refusal::Undeliverable(_))), "{alone:?}");
    renew(transactions.as_mut());
    scene.write(transactions.as_mut(), &["a", "b"]);
    commit(transactions.as_mut(), &[offset(0, 1, "")]);
    assert_eq!(until_seen(rig, &scene.output, 2), ["a", "b"]);
}

#[test]
fn an_offset_is_not_told_while_its_transaction_is_undecided() {
    let Some(rig) = shared("an_offset_is_not_told_while_its_transaction_is_undecided") else { return };
    let kafka = plain(rig);
    let (input, group) = (unique("txn-in"), unique("txn"));
    rig.create_topic(&input, 1, &[]).unwrap();
    let mut config = ClientConfig::new();
    config.extend(rig.properties(Security::Plain));
    config.set("group.id", &group);
    let outsider: BaseConsumer = config.create().unwrap();
    let list = |at: i64| {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&input, 0, Offset::Offset(at)).unwrap();
        list
    };
    outsider.commit(&list(5), rdkafka::consumer::CommitMode::Sync).unwrap();
    let other: BaseProducer = config.clone().set("transactional.id", unique("id")).create().unwrap();
    other.init_transactions(LIMIT).unwrap();
    let mut consumer = join(&kafka, &group, &input);
    assert_eq!(consumer.committed(&[at(0)], ANSWER).unwrap()[0].offset, Some(5));
    for (decided, commit) in [(6, true), (7, false)] {
        other.begin_transaction().unwrap();
        // As one that is no member: a group without members takes it. Ours was not polled yet and has not joined.
        other.send_offsets_to_transaction(&list(decided), &outsider.group_metadata().unwrap(), LIMIT).unwrap();
        let began = Instant::now();
        let undecided = consumer.committed(&[at(0)], Duration::from_secs(1));
        assert!(undecided.is_err(), "{undecided:?} while a transaction is open");
        assert_eq!(undecided.unwrap_err().kind, BrokerErrorKind::Retry);
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
        if commit { other.commit_transaction(LIMIT) } else { other.abort_transaction(LIMIT) }.unwrap();
        assert_eq!(consumer.committed(&[at(0)], ANSWER).unwrap()[0].offset, Some(6));
    }
}
