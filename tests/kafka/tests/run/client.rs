//! The tests' own client: straight on librdkafka, so that what Keyrail misunderstands does not stand on both sides.

use keyrail_kafka_tests::{Kafka, Security};
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewPartitions, ResourceSpecifier};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::{Offset, Timestamp, TopicPartitionList};
use std::collections::BTreeSet;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// One question to the broker.
const ASK: Duration = Duration::from_secs(20);

type Bytes = Option<Vec<u8>>;

/// A record, in or out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Rec {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) key: Bytes,
    pub(crate) value: Bytes,
    pub(crate) headers: Vec<(String, Bytes)>,
    pub(crate) timestamp_ms: i64,
}

impl Rec {
    pub(crate) fn new(key: &str, value: impl Into<Vec<u8>>) -> Self {
        Self { key: Some(key.into()), value: Some(value.into()), partition: -1, ..Self::default() }
    }

    /// A message for the scripted handler.
    pub(crate) fn script(key: &str, command: &str, id: &str) -> Self {
        Self::new(key, script(command, id))
    }

    pub(crate) fn header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.to_owned(), Some(value.into())));
        self
    }

    /// The last header of that name, as text.
    pub(crate) fn told(&self, name: &str) -> String {
        let value = self.headers.iter().rev().find(|(n, _)| n == name).and_then(|(_, v)| v.as_deref());
        String::from_utf8_lossy(value.unwrap_or(b"(none)")).into_owned()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(self.value.as_deref().unwrap_or_default()).into_owned()
    }
}

pub(crate) fn script(command: &str, id: &str) -> String {
    format!(r#"{{"do":"{command}","id":"{id}"}}"#)
}

fn config(kafka: &Kafka) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.extend(kafka.properties(Security::Plain));
    config.set("reconnect.backoff.max.ms", "1000").set("message.max.bytes", "40000000");
    config
}

/// Counts what the broker took and what it did not.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    taken: AtomicU64,
    refused: AtomicU64,
}

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if result.is_ok() { &self.taken } else { &self.refused }.fetch_add(1, SeqCst);
    }
}

/// Writes in order, exactly once.
pub(crate) struct Writer {
    producer: BaseProducer<Reports>,
    sent: u64,
}

impl Writer {
    pub(crate) fn new(kafka: &Kafka) -> Self {
        Self::with(kafka, &[])
    }

    pub(crate) fn transactional(kafka: &Kafka, id: &str) -> Self {
        let writer = Self::with(kafka, &[("transactional.id", id)]);
        writer.producer.init_transactions(ASK).unwrap();
        writer
    }

    fn with(kafka: &Kafka, more: &[(&str, &str)]) -> Self {
        let mut config = config(kafka);
        config.set("enable.idempotence", "true").set("partitioner", "murmur2_random").set("linger.ms", "5");
        config.extend(more.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())));
        Self { producer: config.create_with_context(Reports::default()).unwrap(), sent: 0 }
    }

    pub(crate) fn send(&mut self, topic: &str, rec: &Rec) {
        loop {
            let mut record = BaseRecord::<[u8], [u8]>::to(topic);
            record.key = rec.key.as_deref();
            record.payload = rec.value.as_deref();
            record.partition = (rec.partition >= 0).then_some(rec.partition);
            record.timestamp = (rec.timestamp_ms > 0).then_some(rec.timestamp_ms);
            if !rec.headers.is_empty() {
                let with = |all: OwnedHeaders, (key, value): &(String, Bytes)| {
                    all.insert(Header { key, value: value.as_deref() })
                };
                record.headers = Some(rec.headers.iter().fold(OwnedHeaders::new(), with));
            }
            match self.producer.send(record) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                    self.producer.poll(Duration::from_millis(20));
                }
                Err((e, _)) => panic!("producing to {topic}: {e}"),
            }
        }
        self.sent += 1;
        self.producer.poll(Duration::ZERO);
    }

    pub(crate) fn finish(&self) {
        self.producer.flush(Duration::from_secs(60)).unwrap();
        let reports = self.producer.context();
        assert_eq!((reports.taken.load(SeqCst), reports.refused.load(SeqCst)), (self.sent, 0), "taken, refused");
    }

    pub(crate) fn begin(&self) {
        self.producer.begin_transaction().unwrap();
    }

    pub(crate) fn commit(&self) {
        self.producer.commit_transaction(ASK).unwrap();
    }

    pub(crate) fn abort(&self) {
        self.producer.flush(ASK).unwrap();
        self.producer.abort_transaction(ASK).unwrap();
    }
}

pub(crate) fn send_all(kafka: &Kafka, topic: &str, records: &[Rec]) {
    let mut writer = Writer::new(kafka);
    records.iter().for_each(|rec| writer.send(topic, rec));
    writer.finish();
}

const ALL: &str = "read_uncommitted";
const COMMITTED: &str = "read_committed";

/// Sees what is committed; or, for those who ask what a group has, all: they do not wait for a transaction to be decided.
fn reader(kafka: &Kafka, group: &str, isolation: &str) -> BaseConsumer {
    let mut config = config(kafka);
    config.set("group.id", group).set("enable.auto.commit", "false").set("isolation.level", isolation);
    config.set("auto.offset.reset", "error").set("enable.partition.eof", "true").set("fetch.queue.backoff.ms", "10");
    config.set("fetch.message.max.bytes", "20000000");
    config.create().unwrap()
}

/// A broker that just came back is not the leader of its partitions for a moment.
fn patient<T>(ask: impl Fn() -> Result<T, KafkaError>) -> T {
    let until = Instant::now() + ASK;
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(e) => assert!(Instant::now() < until, "the broker answers {e}"),
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn partitions(reader: &BaseConsumer, topic: &str) -> i32 {
    let metadata = patient(|| reader.fetch_metadata(Some(topic), ASK));
    i32::try_from(metadata.topics()[0].partitions().len()).unwrap()
}

/// Whether there is such a topic. Asked by its name, a broker might make it.
pub(crate) fn is_there(kafka: &Kafka, topic: &str) -> bool {
    let metadata = patient(|| reader(kafka, "topics", ALL).fetch_metadata(None, ASK));
    metadata.topics().iter().any(|there| there.name() == topic)
}

/// The broker that leads a partition; -1 while none does.
pub(crate) fn leader(kafka: &Kafka, topic: &str, partition: i32) -> i32 {
    let metadata = patient(|| reader(kafka, "leader", ALL).fetch_metadata(Some(topic), ASK));
    let partitions = metadata.topics()[0].partitions();
    partitions.iter().find(|p| p.id() == partition).map_or(-1, |p| p.leader())
}

/// First offset and end of each partition.
pub(crate) fn bounds(kafka: &Kafka, topic: &str) -> Vec<(i64, i64)> {
    bounds_by(&reader(kafka, "bounds", ALL), topic)
}

fn bounds_by(reader: &BaseConsumer, topic: &str) -> Vec<(i64, i64)> {
    (0..partitions(reader, topic)).map(|p| patient(|| reader.fetch_watermarks(topic, p, ASK))).collect()
}

/// Waits until no transaction is open in a topic that nobody writes to any more: what is committed in each is seen from then on.
pub(crate) fn wait_decided(kafka: &Kafka, topic: &str) {
    let (until, committed) = (Instant::now() + Duration::from_secs(60), reader(kafka, "decided", COMMITTED));
    loop {
        let (stable, all) = (bounds_by(&committed, topic), bounds(kafka, topic));
        if stable == all {
            return;
        }
        assert!(Instant::now() < until, "{topic}: transactions stay open: {stable:?} of {all:?} are decided");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Everything that stands in a topic now, partition by partition, each in its order.
pub(crate) fn read_all(kafka: &Kafka, topic: &str) -> Vec<Rec> {
    let reader = reader(kafka, "read-all", COMMITTED);
    let mut open = TopicPartitionList::new();
    for (partition, (start, end)) in (0..).zip(bounds(kafka, topic)) {
        if start < end {
            open.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
        }
    }
    reader.assign(&open).unwrap();
    // By partition: where a transaction ends meanwhile, one ends twice.
    let (mut all, mut ended) = (Vec::new(), BTreeSet::new());
    let until = Instant::now() + Duration::from_secs(60);
    while ended.len() < open.count() {
        assert!(Instant::now() < until, "{topic} can't be read to its end");
        match reader.poll(Duration::from_millis(200)) {
            Some(Ok(message)) => all.push(rec(&message)),
            Some(Err(KafkaError::PartitionEOF(partition))) => drop(ended.insert(partition)),
            Some(Err(e)) => panic!("reading {topic}: {e}"),
            None => {}
        }
    }
    all.sort_by_key(|r| (r.partition, r.offset));
    all
}

fn rec(message: &rdkafka::message::BorrowedMessage<'_>) -> Rec {
    let headers =
        message.headers().map(|all| all.iter().map(|h| (h.key.to_owned(), h.value.map(<[u8]>::to_vec))).collect());
    Rec {
        partition: message.partition(),
        offset: message.offset(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers: headers.unwrap_or_default(),
        timestamp_ms: match message.timestamp() {
            Timestamp::CreateTime(ms) | Timestamp::LogAppendTime(ms) => ms,
            Timestamp::NotAvailable => -1,
        },
    }
}

/// What a group has committed for each partition; -1 where nothing.
pub(crate) fn committed(kafka: &Kafka, group: &str, topic: &str) -> Result<Vec<i64>, KafkaError> {
    let reader = reader(kafka, group, ALL);
    let mut list = TopicPartitionList::new();
    list.add_partition_range(topic, 0, partitions(&reader, topic) - 1);
    let found = reader.committed_offsets(list, ASK)?;
    let offset = |p| found.find_partition(topic, p).and_then(|e| e.offset().to_raw()).filter(|o| *o >= 0);
    Ok((0..).take(found.count()).map(|p| offset(p).unwrap_or(-1)).collect())
}

/// Commits for a group that has no members, as an operator does.
pub(crate) fn reset(kafka: &Kafka, group: &str, topic: &str, offsets: &[(i32, i64)], metadata: &str) {
    let reader = reader(kafka, group, ALL);
    let mut list = TopicPartitionList::new();
    for (partition, offset) in offsets {
        let mut entry = list.add_partition(topic, *partition);
        entry.set_offset(Offset::Offset(*offset)).unwrap();
        entry.set_metadata(metadata);
    }
    reader.commit(&list, rdkafka::consumer::CommitMode::Sync).unwrap();
}

fn admin(kafka: &Kafka) -> AdminClient<DefaultClientContext> {
    config(kafka).create().unwrap()
}

fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(ASK)).request_timeout(Some(ASK))
}

pub(crate) fn delete_topic(kafka: &Kafka, topic: &str) {
    let results = wait_for(admin(kafka).delete_topics(&[topic], &options())).unwrap();
    assert!(results.iter().all(Result::is_ok), "{results:?}");
}

/// The group forgets where it was; it has no members.
pub(crate) fn delete_offsets(kafka: &Kafka, group: &str) {
    let results = wait_for(admin(kafka).delete_groups(&[group], &options())).unwrap();
    assert!(results.iter().all(Result::is_ok), "{results:?}");
}

/// Gives a topic more partitions, so that it has `count`.
pub(crate) fn add_partitions(kafka: &Kafka, topic: &str, count: usize) {
    let results = wait_for(admin(kafka).create_partitions(&[NewPartitions::new(topic, count)], &options())).unwrap();
    assert!(results.iter().all(Result::is_ok), "{results:?}");
}

/// Deletes what stands before these offsets, as retention does.
pub(crate) fn delete_records(kafka: &Kafka, topic: &str, before: &[(i32, i64)]) {
    let mut list = TopicPartitionList::new();
    for (partition, offset) in before {
        list.add_partition_offset(topic, *partition, Offset::Offset(*offset)).unwrap();
    }
    wait_for(admin(kafka).delete_records(&list, &options())).unwrap();
}

/// Sets these settings of a topic; all others go back to the broker's defaults.
pub(crate) fn set_topic(kafka: &Kafka, topic: &str, settings: &[(&str, &str)]) {
    let mut config = AlterConfig::new(ResourceSpecifier::Topic(topic));
    for (name, value) in settings {
        config = config.set(name, value);
    }
    let results = wait_for(admin(kafka).alter_configs(&[config], &options())).unwrap();
    assert!(results.iter().all(Result::is_ok), "{results:?}");
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future on this thread.
fn wait_for<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(done) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return done;
        }
        std::thread::park_timeout(Duration::from_millis(100));
    }
}
