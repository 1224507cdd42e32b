//! What the bench itself writes to and reads from topics.

use anyhow::{Context as _, Result, bail, ensure};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{Offset, TopicPartitionList};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Partitions of every topic of the bench.
pub(crate) const PARTITIONS: i32 = 8;
/// Different keys.
pub(crate) const KEYS: u64 = 100_000;
/// Bytes of a value.
pub(crate) const VALUE_BYTES: usize = 100;
const WAIT: Duration = Duration::from_secs(30);

/// A value of the usual size whose first 8 bytes are its number.
pub(crate) fn value(number: u64) -> Vec<u8> {
    let mut value = vec![b'v'; VALUE_BYTES];
    value[..8].copy_from_slice(&number.to_le_bytes());
    value
}

/// Chance that is the same in every run (splitmix64).
pub(crate) fn chance(number: u64) -> u64 {
    let z = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x1234_5678_9abc_def1);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The key of a message: drawn from [`KEYS`].
pub(crate) fn key(number: u64) -> String {
    format!("key-{:06}", chance(number) % KEYS)
}

/// A producer that lays keys where Keyrail's does.
pub(crate) fn producer(bootstrap: &str, linger_ms: &str) -> Result<BaseProducer> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("partitioner", "murmur2_random").set("acks", "all");
    config.set("linger.ms", linger_ms).set("queue.buffering.max.messages", "200000");
    Ok(config.create()?)
}

/// Sends one record, waiting for room.
pub(crate) fn send(producer: &BaseProducer, topic: &str, key: &str, value: &[u8]) -> Result<()> {
    let mut record = BaseRecord::to(topic).key(key).payload(value);
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                record = back;
                producer.poll(Duration::from_millis(10));
            }
            Err((e, _)) => return Err(e).context("filling a topic"),
        }
    }
}

/// Fills a topic with `count` records.
pub(crate) fn fill(
    bootstrap: &str,
    topic: &str,
    count: u64,
    mut record: impl FnMut(u64) -> (String, Vec<u8>),
) -> Result<()> {
    let watch = Watch::new(bootstrap, topic)?;
    let before = watch.count()?;
    let producer = producer(bootstrap, "20")?;
    for number in 0..count {
        let (key, value) = record(number);
        send(&producer, topic, &key, &value)?;
        if number % 10_000 == 0 {
            producer.poll(Duration::ZERO);
        }
    }
    producer.flush(Duration::from_secs(120)).context("filling a topic")?;
    let got = watch.count()?;
    ensure!(got == before + count, "{topic} holds {got} records after {count} were written to {before}");
    Ok(())
}

/// Counts the records of a topic by the ends of its partitions: one request, whatever their number.
pub(crate) struct Watch {
    consumer: BaseConsumer,
    ends: TopicPartitionList,
}

impl Watch {
    pub(crate) fn new(bootstrap: &str, topic: &str) -> Result<Self> {
        let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", bootstrap).create()?;
        let mut ends = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            ends.add_partition_offset(topic, partition, Offset::End)?;
        }
        Ok(Self { consumer, ends })
    }

    /// Records written so far.
    pub(crate) fn count(&self) -> Result<u64> {
        // A topic just made may not have its leaders yet.
        let until = Instant::now() + WAIT;
        let found = loop {
            match self.consumer.offsets_for_times(self.ends.clone(), WAIT) {
                Err(_) if Instant::now() < until => std::thread::sleep(Duration::from_millis(50)),
                answer => break answer.context("asking for the ends")?,
            }
        };
        sum(&found)
    }
}

/// Counts the messages that a group has committed.
pub(crate) struct Committed {
    consumer: BaseConsumer,
    all: TopicPartitionList,
}

impl Committed {
    pub(crate) fn new(bootstrap: &str, group: &str, topic: &str) -> Result<Self> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", bootstrap).set("group.id", group);
        // What is committed, though a transaction is open that will commit more: else the answer waits for its end.
        let consumer: BaseConsumer = config.set("isolation.level", "read_uncommitted").create()?;
        let mut all = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            all.add_partition(topic, partition);
        }
        Ok(Self { consumer, all })
    }

    /// Messages before the group's offsets. The topic has never lost one, nor holds anything else.
    pub(crate) fn count(&self) -> Result<u64> {
        // The group of a broker that has just started may not have its coordinator yet.
        let until = Instant::now() + WAIT;
        let found = loop {
            match self.consumer.committed_offsets(self.all.clone(), WAIT) {
                Err(_) if Instant::now() < until => std::thread::sleep(Duration::from_millis(50)),
                answer => break answer.context("asking for a group's offsets")?,
            }
        };
        sum(&found)
    }
}

/// Of offsets that the broker gave; none counts as 0.
#[expect(clippy::disallowed_methods, reason = "the list is never empty: it is asked before")]
fn sum(found: &TopicPartitionList) -> Result<u64> {
    ensure!(found.count() > 0, "no answer on offsets");
    let mut sum = 0;
    for element in found.elements() {
        element.error()?;
        match element.offset() {
            Offset::Offset(n) => sum += u64::try_from(n)?,
            Offset::Invalid => {}
            other => bail!("the offset of partition {} is {other:?}", element.partition()),
        }
    }
    Ok(sum)
}

/// Reads a whole topic of `count` records: each one's number (see [`value`]) and timestamp.
pub(crate) fn timestamps(bootstrap: &str, topic: &str, count: usize) -> Result<Vec<(u64, i64)>> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("group.id", "keyrail-bench-reads");
    config.set("enable.auto.commit", "false");
    let consumer: BaseConsumer = config.create()?;
    let mut all = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        all.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&all)?;
    let mut found = Vec::with_capacity(count);
    let mut until = Instant::now() + WAIT;
    while found.len() < count {
        match consumer.poll(Duration::from_millis(100)) {
            Some(message) => {
                let message = message?;
                let number = message.payload().and_then(|v| v.first_chunk::<8>()).context("a short value")?;
                let at = message.timestamp().to_millis().context("a record without timestamp")?;
                found.push((u64::from_le_bytes(*number), at));
                until = Instant::now() + WAIT;
            }
            None => ensure!(Instant::now() < until, "{topic}: {} of {count} records can be read", found.len()),
        }
    }
    Ok(found)
}

/// Reads all that is committed in a topic, each partition in its order.
pub(crate) fn read_all(
    bootstrap: &str,
    topic: &str,
    mut each: impl FnMut(&BorrowedMessage<'_>) -> Result<()>,
) -> Result<()> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("group.id", "keyrail-bench-reads");
    config.set("enable.auto.commit", "false").set("enable.partition.eof", "true");
    let consumer: BaseConsumer = config.create()?;
    let mut all = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        all.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&all)?;
    let mut ended = BTreeSet::new();
    let mut until = Instant::now() + WAIT;
    while ended.len() < PARTITIONS as usize {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => each(&message)?,
            Some(Err(KafkaError::PartitionEOF(partition))) => drop(ended.insert(partition)),
            Some(Err(error)) => return Err(error).context("reading a topic"),
            None => {
                ensure!(Instant::now() < until, "{topic} gives nothing, and its end is not reached");
                continue;
            }
        }
        until = Instant::now() + WAIT;
    }
    Ok(())
}
