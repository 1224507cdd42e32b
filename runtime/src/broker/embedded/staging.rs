//! Packs records into blocks, one for each partition, until they are handed to the writer together.

use super::block::{Packed, Packer, Parts};
use super::errors::refusal;
use super::store::{Store, TopicState, now_ms};
use super::writer::Append;
use crate::broker::partitioner::partition_of;
use crate::broker::{Produce, Refusal};
use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

/// Records that wait to be written. Who uses it bounds them.
#[derive(Debug)]
pub(super) struct Staging {
    store: Arc<Store>,
    topics: BTreeMap<String, Arc<TopicState>>,
    /// The catalog that `topics` comes from.
    version: u64,
    /// By topic and partition: full blocks and the one that is being packed.
    staged: BTreeMap<(i64, i32), Staged>,
    bytes: usize,
    /// Records without a key go to one partition for each batch.
    turn: u32,
}

#[derive(Debug)]
struct Staged {
    topic: Arc<TopicState>,
    full: Vec<Packed>,
    packer: Packer,
}

impl Staging {
    pub(super) fn new(store: Arc<Store>) -> Self {
        let turn = RandomState::new().hash_one(0) as u32;
        Self { store, topics: BTreeMap::new(), version: 0, staged: BTreeMap::new(), bytes: 0, turn }
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    /// Bytes of all that is staged, packed.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Packs a record, and says how many bytes it took; or why it is not taken.
    pub(super) fn stage(&mut self, record: &Produce<'_>) -> Result<usize, Refusal> {
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
        self.bytes += bytes;
        Ok(bytes)
    }

    /// All that is staged, for one write. Nothing is staged then.
    pub(super) fn take(&mut self) -> Vec<Append> {
        let mut appends = Vec::new();
        for ((_, partition), staged) in std::mem::take(&mut self.staged) {
            let mut blocks = staged.full;
            if staged.packer.records() > 0 {
                blocks.push(staged.packer.finish());
            }
            let topic = staged.topic;
            appends.extend(blocks.into_iter().map(|block| Append { topic: topic.clone(), partition, block }));
        }
        self.bytes = 0;
        self.turn = self.turn.wrapping_add(1);
        appends
    }

    /// Forgets all that is staged.
    pub(super) fn clear(&mut self) {
        self.staged.clear();
        self.bytes = 0;
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
}
