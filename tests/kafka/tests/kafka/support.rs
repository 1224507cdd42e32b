//! What the tests share.

use keyrail::broker::kafka::{ConsumerOptions, Kafka};
use keyrail::broker::{Consumer, Polled, Produce, Producer, Refusal};
use keyrail::record::{Record, TopicPartition};
use keyrail_kafka_tests::Security;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Nothing on one machine takes longer than this, unless it is broken.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);
/// For one answer of a broker.
pub(crate) const ANSWER: Duration = Duration::from_secs(10);

pub(crate) fn plain(rig: &keyrail_kafka_tests::Kafka) -> Kafka {
    connect(&rig.properties(Security::Plain), &[])
}

pub(crate) fn connect(properties: &BTreeMap<String, String>, more: &[(&str, &str)]) -> Kafka {
    let mut all = properties.clone();
    all.extend(more.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())));
    Kafka::new(&all).unwrap()
}

pub(crate) fn at(partition: i32) -> TopicPartition {
    TopicPartition { topic: 0, partition }
}

/// A record of nothing but a value.
pub(crate) fn produce<'a>(topic: &'a str, value: &'a [u8]) -> Produce<'a> {
    Produce { topic, partition: Some(0), key: None, value: Some(value), headers: &[], timestamp_ms: None }
}

/// Sends all and waits for every report, in the order of the records.
pub(crate) fn send_all(producer: &mut dyn Producer, records: &[Produce<'_>]) -> Vec<Result<(), Refusal>> {
    let until = Instant::now() + LIMIT;
    let mut results = vec![None; records.len()];
    let mut reports = Vec::new();
    for (token, record) in records.iter().enumerate() {
        loop {
            match producer.send(record, token as u64) {
                Ok(true) => break,
                Ok(false) => producer.poll(Duration::from_millis(5), &mut reports),
                Err(refusal) => {
                    results[token] = Some(Err(refusal));
                    break;
                }
            }
        }
    }
    while producer.in_flight() > 0 {
        producer.poll(Duration::from_millis(50), &mut reports);
        assert!(Instant::now() < until, "records still in flight: {}, {:?}", producer.in_flight(), producer.trouble());
    }
    for (token, result) in reports {
        let slot = &mut results[token as usize];
        assert!(slot.is_none(), "two reports for record {token}");
        *slot = Some(result);
    }
    results.into_iter().map(|r| r.expect("a record without report")).collect()
}

pub(crate) fn send_ok(kafka: &Kafka, records: &[Produce<'_>]) {
    let mut producer = kafka.producer(&[], LIMIT).unwrap();
    for result in send_all(producer.as_mut(), records) {
        assert_eq!(result, Ok(()));
    }
}

pub(crate) fn join(kafka: &Kafka, group: &str, topic: &str) -> Box<dyn Consumer> {
    kafka.consumer(group, &[topic.to_owned()], ConsumerOptions::default()).unwrap()
}

/// Polls until `pick` takes something.
pub(crate) fn poll_until<T>(
    consumer: &mut dyn Consumer,
    what: &str,
    mut pick: impl FnMut(&mut dyn Consumer, Polled) -> Option<T>,
) -> T {
    let until = Instant::now() + LIMIT;
    loop {
        let polled = consumer.poll(Duration::from_millis(50));
        if let Some(found) = pick(consumer, polled) {
            return found;
        }
        assert!(Instant::now() < until, "{what} did not come within {LIMIT:?}");
    }
}

/// Waits for an assignment and answers it with these starts for all partitions.
pub(crate) fn take_assignment(consumer: &mut dyn Consumer, start: i64) -> Vec<TopicPartition> {
    let given = poll_until(consumer, "an assignment", |_, p| match p {
        Polled::Assigned(given) => Some(given),
        Polled::Idle | Polled::Joined | Polled::Trouble(_) => None,
        other => panic!("{other:?} before the assignment"),
    });
    let starts: Vec<_> = given.iter().map(|at| (*at, start)).collect();
    consumer.assign(&starts).unwrap();
    given
}

/// The next `count` records.
pub(crate) fn read(consumer: &mut dyn Consumer, count: usize) -> Vec<Record> {
    let mut records = Vec::new();
    while records.len() < count {
        records.push(poll_until(consumer, "a record", |_, p| match p {
            Polled::Record(r) => Some(r),
            Polled::Idle | Polled::Joined => None,
            other => panic!("{other:?} instead of a record"),
        }));
    }
    records
}
