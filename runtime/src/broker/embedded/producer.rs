//! Packs records into blocks, one for each partition and batch, and hands them to the writer.
//!
//! While a batch is on its way, what comes in is packed into the next: the slower the disk, the larger the batches.

use super::block::{Packed, Packer, Parts};
use super::errors::{fatal, refusal};
use super::store::{Store, TopicState, now_ms};
use super::writer::{Append, Request, Write};
use crate::broker::partitioner::partition_of;
use crate::broker::{BrokerError, Produce, Producer, Refusal};
use crossbeam_channel::{Receiver, Sender, bounded};
use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

/// Batches handed over and not answered yet.
const BATCHES: usize = 4;
/// A batch of this size does not wait for the one before it.
const BATCH_BYTES: usize = 1 << 20;
/// Bytes packed and not answered yet; beyond it [`Producer::send`] takes nothing.
const BYTES: usize = 32 << 20;
/// Records packed and not answered yet, for the same.
const RECORDS: usize = 200_000;

type Reports = Vec<(u64, Result<(), Refusal>)>;

/// A batch's number, and what became of it.
type Report = (u64, Result<(), BrokerError>);

/// A batch that was handed over.
#[derive(Debug)]
struct Batch {
    number: u64,
    tokens: Vec<u64>,
    bytes: usize,
}

/// Tells what became of a batch, also when the writer ends before it says so.
struct Told {
    to: Sender<Report>,
    number: u64,
    told: bool,
}

impl Told {
    fn tell(&mut self, result: Result<(), BrokerError>) {
        if !std::mem::replace(&mut self.told, true) {
            // There is room for the report of each batch; without a producer nobody wants it.
            drop(self.to.try_send((self.number, result)));
        }
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        self.tell(Err(fatal("the broker was closed; whether the record was written is not known")));
    }
}

/// See [`super::Embedded::producer`].
#[derive(Debug)]
pub(super) struct EmbeddedProducer {
    store: Arc<Store>,
    topics: BTreeMap<String, Arc<TopicState>>,
    /// The catalog that `topics` comes from.
    version: u64,
    /// By topic and partition: full blocks and the one that is being packed.
    staged: BTreeMap<(i64, i32), Staged>,
    tokens: Vec<u64>,
    staged_bytes: usize,
    batches: VecDeque<Batch>,
    number: u64,
    in_flight: usize,
    in_flight_bytes: usize,
    told: Sender<Report>,
    heard: Receiver<Report>,
    /// Records without a key go to one partition for each batch.
    turn: u32,
    /// Reports of what was never handed over.
    failed: Reports,
}

#[derive(Debug)]
struct Staged {
    topic: Arc<TopicState>,
    full: Vec<Packed>,
    packer: Packer,
}

impl EmbeddedProducer {
    pub(super) fn new(store: Arc<Store>) -> Self {
        // A batch that could not be handed over may report as well.
        let (told, heard) = bounded(2 * BATCHES);
        Self {
            version: 0,
            topics: BTreeMap::new(),
            store,
            staged: BTreeMap::new(),
            tokens: Vec::new(),
            staged_bytes: 0,
            batches: VecDeque::new(),
            number: 0,
            in_flight: 0,
            in_flight_bytes: 0,
            told,
            heard,
            turn: RandomState::new().hash_one(0) as u32,
            failed: Vec::new(),
        }
    }

    fn topic(&mut self, name: &str) -> Result<Arc<TopicState>, Refusal> {
        let version = self.store.catalog_version();
        if version != self.version {
            self.topics.clear();
            self.version = version;
        }
        if let Some(topic) = self.topics.get(name) {
            return Ok(topic.clone());
        }
        let topic = self.store.topic(name).map_err(|e| refusal(&e))?;
        self.topics.insert(name.to_owned(), topic.clone());
        Ok(topic)
    }

    /// Where the record goes, or why it never can.
    fn place(&self, topic: &TopicState, record: &Produce<'_>) -> Result<i32, Refusal> {
        let undeliverable = |why: String| Err(Refusal::Undeliverable(why));
        let name = &topic.name;
        let headers: usize = record.headers.iter().map(|(n, v)| n.len() + v.map_or(0, <[u8]>::len)).sum();
        let bytes = record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len) + headers;
        if bytes as u64 > topic.settings.max_message_bytes.unsigned_abs() {
            let limit = topic.settings.max_message_bytes;
            return undeliverable(format!("{bytes} bytes, and max.message.bytes of topic {name:?} is {limit}"));
        }
        if topic.settings.compact && record.key.is_none() {
            return undeliverable(format!("it has no key, and topic {name:?} is compacted"));
        }
        let count = topic.count();
        match (record.partition, record.key) {
            (Some(partition), _) if !(0..count).contains(&partition) => {
                undeliverable(format!("topic {name:?} has {count} partitions, and no partition {partition}"))
            }
            (Some(partition), _) => Ok(partition),
            (None, Some(key)) => Ok(partition_of(key, count)),
            (None, None) => Ok((self.turn % count.max(1).unsigned_abs()).cast_signed()),
        }
    }

    /// Hands over what is staged.
    fn ship(&mut self) {
        let mut write = Write::default();
        for ((_, partition), staged) in std::mem::take(&mut self.staged) {
            let mut blocks = staged.full;
            if staged.packer.records() > 0 {
                blocks.push(staged.packer.finish());
            }
            let topic = staged.topic;
            write.appends.extend(blocks.into_iter().map(|block| Append { topic: topic.clone(), partition, block }));
        }
        let (tokens, bytes) = (std::mem::take(&mut self.tokens), std::mem::take(&mut self.staged_bytes));
        self.turn = self.turn.wrapping_add(1);
        self.number += 1;
        let mut told = Told { to: self.told.clone(), number: self.number, told: false };
        match self.store.submit(Request::Write(write, Box::new(move |result| told.tell(result)))) {
            Ok(()) => self.batches.push_back(Batch { number: self.number, tokens, bytes }),
            Err(error) => {
                let refusal = refusal(&error);
                self.failed.extend(tokens.into_iter().map(|token| (token, Err(refusal.clone()))));
                self.in_flight_bytes -= bytes;
            }
        }
    }

    fn ship_if_due(&mut self) {
        let due = self.batches.is_empty() || self.staged_bytes >= BATCH_BYTES && self.batches.len() < BATCHES;
        if !self.tokens.is_empty() && due {
            self.ship();
        }
    }

    fn take(&mut self, (number, result): Report, reports: &mut Reports) {
        // One that is not known could not be handed over, and was reported then.
        let Some(place) = self.batches.iter().position(|b| b.number == number) else { return };
        let Some(batch) = self.batches.remove(place) else { return };
        self.in_flight -= batch.tokens.len();
        self.in_flight_bytes -= batch.bytes;
        let result = result.map_err(|e| refusal(&e));
        reports.extend(batch.tokens.into_iter().map(|token| (token, result.clone())));
    }
}

impl Producer for EmbeddedProducer {
    fn send(&mut self, record: &Produce<'_>, token: u64) -> Result<bool, Refusal> {
        if self.in_flight_bytes >= BYTES || self.in_flight >= RECORDS {
            return Ok(false);
        }
        let topic = self.topic(record.topic)?;
        let partition = self.place(&topic, record)?;
        let staged = self.staged.entry((topic.id, partition)).or_insert_with(|| Staged {
            topic,
            full: Vec::new(),
            packer: Packer::new(),
        });
        let before = staged.packer.len();
        let timestamp_ms = record.timestamp_ms.unwrap_or_else(now_ms);
        let parts = Parts { timestamp_ms, key: record.key, value: record.value };
        staged.packer.push(0, &parts, record.headers.iter().copied());
        let bytes = staged.packer.len() - before;
        if staged.packer.is_full() {
            let full = std::mem::replace(&mut staged.packer, Packer::new());
            staged.full.push(full.finish());
        }
        self.tokens.push(token);
        self.staged_bytes += bytes;
        self.in_flight += 1;
        self.in_flight_bytes += bytes;
        if self.staged_bytes >= BATCH_BYTES {
            self.ship_if_due();
        }
        Ok(true)
    }

    fn poll(&mut self, wait: Duration, reports: &mut Reports) {
        self.ship_if_due();
        self.in_flight -= self.failed.len();
        let before = reports.len();
        reports.append(&mut self.failed);
        if reports.len() == before
            && !self.batches.is_empty()
            && !wait.is_zero()
            && let Ok(report) = self.heard.recv_timeout(wait)
        {
            self.take(report, reports);
        }
        while let Ok(report) = self.heard.try_recv() {
            self.take(report, reports);
        }
        self.ship_if_due();
    }

    fn in_flight(&self) -> usize {
        self.in_flight
    }
}
