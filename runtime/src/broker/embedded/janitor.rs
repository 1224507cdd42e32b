//! Housekeeping: retention and compaction. Reads and computes on a thread of its own; the writer does what comes of it in
//! small steps, between what producers bring.

use super::block::{Damaged, Entry, FULL_BYTES, Packer, Unpacker};
use super::cursor::TURN_BYTES;
use super::errors::operator;
use super::settings::Settings;
use super::sqlite::{NewBlock, Reading, Rewritten, Stored, TRIM_BLOCKS};
use super::store::{Store, TopicState, now_ms};
use super::writer::Request;
use crate::broker::BrokerError;
use crossbeam_channel::{Receiver, RecvTimeoutError};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Between two rounds.
const ROUND: Duration = Duration::from_secs(10);
/// Keys that one compaction remembers, which bounds its memory to some 50 MB; what comes after them is compacted next time.
const KEYS: usize = 1 << 20;

/// Does a round now and then, until the other end of `stop` is dropped.
pub(super) fn run(store: &Arc<Store>, stop: &Receiver<()>) {
    while stop.recv_timeout(ROUND) == Err(RecvTimeoutError::Timeout) {
        if store.check().is_err() {
            return;
        }
        if let Err(error) = round(store) {
            tracing::warn!(%error, "the embedded broker could not tidy up; it tries again");
        }
    }
}

/// Looks at every partition once.
pub(super) fn round(store: &Store) -> Result<(), BrokerError> {
    let reading = Reading::open(store.dir())?;
    for topic in store.catalog().values() {
        for partition in 0..topic.count() {
            let of = Of { store, reading: &reading, topic, partition };
            if topic.settings.delete {
                of.retain()?;
            }
            if topic.settings.compact {
                of.compact()?;
            }
        }
    }
    Ok(())
}

/// Housekeeping of one partition.
struct Of<'a> {
    store: &'a Store,
    reading: &'a Reading,
    topic: &'a Arc<TopicState>,
    partition: i32,
}

impl Of<'_> {
    fn at(&self) -> (i64, i32) {
        (self.topic.id, self.partition)
    }

    /// Deletes blocks from the start of the log that are too old, or too many.
    fn retain(&self) -> Result<(), BrokerError> {
        let Settings { retention_ms, retention_bytes, .. } = self.topic.settings;
        if retention_ms.is_none() && retention_bytes.is_none() {
            return Ok(());
        }
        let (mut bytes, _) = self.reading.bytes(self.at(), 0)?;
        loop {
            let now = now_ms();
            let rows = self.reading.rows(self.at(), TRIM_BLOCKS)?;
            let gone = rows.iter().take_while(|row| {
                let old = retention_ms.is_some_and(|keep| now.saturating_sub(row.newest_ms) > keep);
                // As Kafka counts: what stays is at least what is asked for.
                let beyond = retention_bytes.is_some_and(|keep| bytes - row.bytes >= keep);
                bytes -= if old || beyond { row.bytes } else { 0 };
                old || beyond
            });
            let Some(last) = gone.last().map(|row| row.last) else { return Ok(()) };
            self.store.ask(|answer| Request::Trim(self.topic.clone(), self.partition, last, answer))?;
        }
    }

    /// Keeps the last record of each key, and tombstones until everyone had time to see them.
    fn compact(&self) -> Result<(), BrokerError> {
        let (clean_to, horizon) = self.reading.compacted(self.at())?;
        let (all, dirty) = self.reading.bytes(self.at(), clean_to)?;
        let due = dirty > 0 && dirty as f64 >= self.topic.settings.dirty_ratio * all as f64;
        let now = now_ms();
        if !due && horizon.is_none_or(|at| at > now) {
            return Ok(());
        }
        let (latest, to) = self.latest(clean_to)?;
        let mut pass = Pass::new(&latest, now, self.topic.settings.delete_retention_ms);
        let mut next = 0;
        while next < to {
            let mut blocks = self.reading.blocks(self.at(), next, TURN_BYTES)?;
            blocks.retain(|block| block.last < to);
            let Some(last) = blocks.last().map(|block| block.last) else { break };
            next = last + 1;
            for block in &blocks {
                pass.take(block).map_err(|damaged| self.unreadable(block, &damaged))?;
            }
            if pass.is_enough() {
                self.rewrite(pass.finish(clean_to))?;
            }
        }
        self.rewrite(pass.finish(to.max(clean_to)))
    }

    fn rewrite(&self, rewritten: Rewritten) -> Result<(), BrokerError> {
        self.store.ask(|answer| Request::Rewrite(self.topic.clone(), self.partition, rewritten, answer))
    }

    /// The last offset of each key from `from` on, as far as memory allows, and up to where (exclusive) that is.
    fn latest(&self, from: i64) -> Result<(HashMap<[u8; 16], i64>, i64), BrokerError> {
        let mut latest = HashMap::new();
        let mut to = from;
        loop {
            let blocks = self.reading.blocks(self.at(), to, TURN_BYTES)?;
            if blocks.is_empty() || latest.len() >= KEYS {
                return Ok((latest, to));
            }
            for block in &blocks {
                let unreadable = |damaged| self.unreadable(block, &damaged);
                let mut unpacker = Unpacker::new(&block.data, block.base).map_err(unreadable)?;
                while let Some(entry) = unpacker.next().map_err(unreadable)? {
                    if let Some(key) = entry.parts.key {
                        latest.insert(digest(key), entry.offset);
                    }
                }
                to = block.last + 1;
            }
        }
    }

    fn unreadable(&self, block: &Stored, damaged: &Damaged) -> BrokerError {
        let (dir, topic) = (self.store.dir().display(), &self.topic.name);
        let (partition, base) = (self.partition, block.base);
        operator(format!(
            "{dir}: topic {topic:?}, partition {partition}: the block at offset {base} is damaged: {damaged}"
        ))
    }
}

/// No two keys share it, so none is taken for another's.
fn digest(key: &[u8]) -> [u8; 16] {
    Sha256::digest(key).first_chunk().copied().unwrap_or_default()
}

/// Goes once through a partition and packs what stays.
struct Pass<'a> {
    latest: &'a HashMap<[u8; 16], i64>,
    now: i64,
    keep_ms: i64,
    remove: Vec<i64>,
    insert: Vec<NewBlock>,
    packing: Option<Packing>,
}

/// A block that several are packed into.
struct Packing {
    base: i64,
    last: i64,
    next: i64,
    horizon_ms: Option<i64>,
    packer: Packer,
}

impl<'a> Pass<'a> {
    fn new(latest: &'a HashMap<[u8; 16], i64>, now: i64, keep_ms: i64) -> Self {
        Self { latest, now, keep_ms, remove: Vec::new(), insert: Vec::new(), packing: None }
    }

    fn stays(&self, entry: &Entry<'_>, spent: bool) -> bool {
        if entry.parts.value.is_none() && spent {
            return false;
        }
        let Some(key) = entry.parts.key else { return true };
        self.latest.get(&digest(key)).is_none_or(|latest| *latest <= entry.offset)
    }

    /// What stays of a block goes to what is packed; a block of which all stays, and which is large enough, stays as it is.
    fn take(&mut self, block: &Stored) -> Result<(), Damaged> {
        let spent = block.horizon_ms.is_some_and(|at| at <= self.now);
        let (mut all, mut staying, mut tombstones) = (0, 0, false);
        let mut unpacker = Unpacker::new(&block.data, block.base)?;
        while let Some(entry) = unpacker.next()? {
            all += 1;
            if self.stays(&entry, spent) {
                staying += 1;
                tombstones |= entry.parts.value.is_none();
            }
        }
        let due = self.now.saturating_add(self.keep_ms);
        let horizon_ms = tombstones.then(|| block.horizon_ms.unwrap_or(due));
        if all == staying && horizon_ms == block.horizon_ms && block.data.len() * 2 >= FULL_BYTES {
            self.flush();
            return Ok(());
        }
        self.remove.push(block.last);
        if staying > 0 {
            self.pack(block, spent, horizon_ms)?;
        }
        Ok(())
    }

    fn pack(&mut self, block: &Stored, spent: bool, horizon_ms: Option<i64>) -> Result<(), Damaged> {
        let (base, packer) = (block.base, Packer::new());
        let mut packing =
            self.packing.take().unwrap_or(Packing { base, last: base, next: base, horizon_ms: None, packer });
        let mut unpacker = Unpacker::new(&block.data, block.base)?;
        while let Some(entry) = unpacker.next()? {
            if self.stays(&entry, spent) {
                // Offsets only grow, so nothing is lost here.
                let gap = u64::try_from(entry.offset - packing.next).unwrap_or(0);
                packing.packer.push_entry(gap, &entry);
                packing.next = entry.offset + 1;
            }
        }
        packing.last = block.last;
        // The later of two: a tombstone may stay too long, and must not go too early.
        packing.horizon_ms = packing.horizon_ms.max(horizon_ms);
        let full = packing.packer.is_full();
        self.packing = Some(packing);
        if full {
            self.flush();
        }
        Ok(())
    }

    fn flush(&mut self) {
        if let Some(Packing { base, last, horizon_ms, packer, .. }) = self.packing.take() {
            self.insert.push(NewBlock { base, last, horizon_ms, block: packer.finish() });
        }
    }

    /// Whether one transaction should not get more.
    fn is_enough(&self) -> bool {
        self.insert.len() >= 4 || self.remove.len() >= TRIM_BLOCKS
    }

    /// What is done so far; the pass goes on after it.
    fn finish(&mut self, clean_to: i64) -> Rewritten {
        self.flush();
        Rewritten { remove: std::mem::take(&mut self.remove), insert: std::mem::take(&mut self.insert), clean_to }
    }
}
