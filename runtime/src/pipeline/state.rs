//! The state of partitions: read before a partition runs, read by handlers, changed by the committer once a change is
//! committed.

mod census;
mod delays;
mod schemas;
mod timers;

use super::Trouble;
use super::clock::wall_ms;
use super::ids::{LETTING_GO, PAUSE};
use super::kept::Shelf;
use super::link::to_broker;
use super::restore::{Failed, Fill};
use super::serving::FoundSchemas;
use crate::admin::metrics::PipelineMetrics;
use crate::record::{Record, TopicPartition};
pub(super) use delays::Outgoing;
use keyrail_engine::message::Partition;
use keyrail_engine::state::schema::Schemas;
use keyrail_engine::state::{self, Change, Entry, Key, MAX_NAME, MAX_OWNER, Unusable};
use keyrail_store::{self as store, DiskState, Error, OpenedState, StateIdentity, StateIndex, StateStats, StateStore};
pub(crate) use schemas::unreadable;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;
pub(super) use timers::Makings;
pub(crate) use timers::{timer_lane, timer_record};

/// No key of a record is longer.
const LONGEST: usize = 3 + MAX_OWNER + MAX_NAME;
/// Fewer are not worth a look at the disk.
const LEAST_PAGE: usize = 256;

/// Where the state of a pipeline's partitions lies.
pub(super) struct Place {
    pub(super) store: StateStore,
    pub(super) group: String,
    /// The input topics.
    pub(super) inputs: Vec<String>,
    /// The topic of state of each.
    pub(super) topics: Vec<String>,
    /// What timers need.
    pub(super) timers: timers::Makings,
    /// What the handler reads and writes.
    pub(super) schemas: Schemas,
    /// Where what was found is noted.
    pub(super) found: Arc<FoundSchemas>,
}

impl Place {
    fn topic(&self, at: TopicPartition) -> &str {
        self.topics.get(at.topic as usize).map_or("?", String::as_str)
    }

    fn identity(&self, at: TopicPartition, log: u64) -> StateIdentity {
        let topic = self.inputs.get(at.topic as usize).cloned().unwrap_or_default();
        StateIdentity { group: self.group.clone(), topic, partition: at.partition, log }
    }
}

/// The state of one partition. One thread at a time changes it: whoever restores it, and then the committer.
pub(super) struct Held {
    place: Arc<Place>,
    at: TopicPartition,
    /// Opened by who restores it: it takes a while.
    index: OnceLock<DiskState>,
    /// Why nothing may be concluded from it any more.
    broken: OnceLock<String>,
    /// Keys whose last record so far can't be read, and why.
    unreadable: Mutex<BTreeMap<Vec<u8>, String>>,
    /// What was last told of it.
    shown: Mutex<StateStats>,
    /// By the handler that runs.
    changed: AtomicBool,
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held").field("at", &self.at).finish_non_exhaustive()
    }
}

impl Held {
    fn new(place: Arc<Place>, at: TopicPartition) -> Self {
        let (index, broken) = (OnceLock::new(), OnceLock::new());
        let (unreadable, shown, changed) = (Mutex::default(), Mutex::default(), AtomicBool::new(false));
        Self { place, at, index, broken, unreadable, shown, changed }
    }

    /// Changes are committed now.
    pub(super) fn add(&self, changes: &[Change]) -> Result<(), Trouble> {
        if !self.changed.swap(true, Relaxed) {
            self.place.found.add(&[self.place.schemas.own()].into());
        }
        let all: Vec<store::Change> = changes.iter().map(to_store).collect();
        // Where they stand in the topic is not known here; what is said of the position stays true.
        Ok(self.index()?.apply(&all, None).map_err(failed)?)
    }

    /// Keys whose values have ended, by everything that is committed.
    pub(super) fn expired(&self, now_ms: i64, limit: usize) -> Result<Vec<Arc<[u8]>>, Trouble> {
        Ok(self.index()?.expired(now_ms, limit).map_err(failed)?)
    }

    fn index(&self) -> Result<&DiskState, Failed> {
        let index = self.index.get().ok_or_else(|| Failed::Again("the state is not open".to_owned()))?;
        Ok(index)
    }

    /// Why nothing may be concluded from it any more.
    pub(super) fn broken(&self) -> Option<&String> {
        self.broken.get()
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<Entry> {
        let found = self.index().and_then(|index| index.get(key).map_err(failed));
        self.sound(found).flatten().map(to_engine)
    }

    pub(super) fn scan(&self, prefix: &[u8], after: &[u8], limit: usize, now_ms: i64) -> Vec<(Arc<[u8]>, Entry)> {
        let mut living = Vec::new();
        let mut after = Some(after.to_vec()).filter(|after| !after.is_empty());
        while living.len() < limit {
            let most = (limit - living.len()).max(LEAST_PAGE);
            let page = self.index().and_then(|index| index.scan(prefix, after.as_deref(), most).map_err(failed));
            let Some(page) = self.sound(page) else { break };
            let whole = page.len() < most;
            after = page.last().map(|(key, _)| key.to_vec());
            let page = page.into_iter().map(|(key, entry)| (key, to_engine(entry)));
            living.extend(page.filter(|(_, entry)| entry.lives(now_ms)));
            if whole {
                break;
            }
        }
        living.truncate(limit);
        living
    }

    /// What was found. Of what follows from a failure nothing is acted upon.
    fn sound<T>(&self, found: Result<T, Failed>) -> Option<T> {
        found
            .inspect_err(|error| {
                let (Failed::Again(why) | Failed::Operator(why)) = error;
                let _told = self.broken.set(why.clone());
            })
            .ok()
    }

    /// Opens what is on disk. One of before may be about to let go of it.
    fn opened(&self, identity: &StateIdentity) -> Result<OpenedState, Failed> {
        let until = Instant::now() + LETTING_GO;
        loop {
            match self.place.store.open(identity, wall_ms()) {
                Err(Error::Unusable { .. }) if Instant::now() < until => std::thread::sleep(PAUSE),
                other => return other.map_err(failed),
            }
        }
    }

    /// Opens the index, which is empty where `end` says that it is of another log.
    fn open(&self, log: u64, end: i64) -> Result<DiskState, Failed> {
        let identity = self.place.identity(self.at, log);
        let OpenedState { index, rebuilt } = self.opened(&identity)?;
        let (topic, partition) = (self.place.topic(self.at), identity.partition);
        if let Some(why) = rebuilt {
            tracing::warn!(topic, partition, why, "local state can't be used, and is read anew from its topic");
        }
        match index.position() {
            Some(position) if position > end => {
                tracing::warn!(topic, partition, position, end, "the topic of state is another one: all of it is read");
                drop(index);
                self.place.store.wipe(&identity).map_err(failed)?;
                Ok(self.opened(&identity)?.index)
            }
            _ => Ok(index),
        }
    }

    /// Tells of itself anew.
    fn show(&self, metrics: &PipelineMetrics, all: &mut StateStats) {
        let Some(index) = self.index.get() else { return };
        let now = index.stats();
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        metrics.state_reads.add(now.reads.saturating_sub(shown.reads));
        metrics.state_disk_reads.add(now.read_from_disk.saturating_sub(shown.read_from_disk));
        all.memory_bytes += now.memory_bytes;
        all.disk_bytes = all.disk_bytes.max(now.disk_bytes);
        all.longest_wait_us = all.longest_wait_us.max(now.longest_wait_us);
        if let (Some(why), None) = (&now.failing, &shown.failing) {
            tracing::warn!(why, "state can't be written to the disk of this machine; it is in memory for now");
        }
        *shown = now;
    }

    /// Where reading goes on once the record at this offset is in: never behind one that can't be read, which must be seen
    /// again after a restart.
    fn passed(&self, offset: i64) -> Option<i64> {
        let mut readable = true;
        self.unreadable(|all| readable = all.is_empty());
        readable.then_some(offset + 1)
    }

    fn unreadable(&self, change: impl FnOnce(&mut BTreeMap<Vec<u8>, String>)) {
        change(&mut self.unreadable.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

fn to_store(change: &Change) -> store::Change {
    let entry = change.entry.clone().map(|Entry { value, expires_ms }| {
        let expires_ms = timers::expires_ms(&change.key, &value).or(expires_ms);
        store::Entry { value, expires_ms }
    });
    store::Change { key: change.key.clone(), entry }
}

fn to_engine(entry: store::Entry) -> Entry {
    Entry { value: entry.value, expires_ms: entry.expires_ms }
}

/// What an index's failure comes to.
fn failed(error: Error) -> Failed {
    // A disk that is full, was read wrong, or gives no rights may be mended: it is tried again until it is.
    Failed::Again(format!("state: {error}"))
}

impl Fill for Held {
    fn position(&self, log: u64, end: i64) -> Result<Option<i64>, Failed> {
        if self.index.get().is_none() {
            // Nobody else opens it.
            let _ours = self.index.set(self.open(log, end)?);
        }
        // Where a broker can't tell, it says nothing against what is known.
        let known = self.index()?.identity().log;
        if known != log && known != 0 && log != 0 {
            return Err(Failed::Operator(format!(
                "{}, a topic of state, was deleted and made anew while it was used: its state is gone. To compute it \
                 again, `keyrail rewind` the pipeline to its start; its next start names the command to go on without",
                self.place.topic(self.at)
            )));
        }
        match self.index()?.position() {
            Some(position) if position > end => {
                let (topic, partition) = (self.place.topic(self.at), self.at.partition);
                Err(Failed::Again(format!(
                    "{topic}/{partition} ends at {end}, before what was read of it ({position})"
                )))
            }
            position => Ok(position),
        }
    }

    fn take(&self, record: &Record) -> Result<u64, Failed> {
        let (topic, partition, offset) = (self.place.topic(self.at), record.at.partition, record.offset);
        let key = record.key().unwrap_or_default();
        let ours = if key.len() > LONGEST { Err(Unusable::Foreign) } else { Key::decode(key) };
        if let Err(why) = ours {
            // Under such a key there is no state: what is there is nobody's.
            tracing::warn!(topic, partition, offset, %why, "a record that Keyrail did not write is passed over");
            self.index()?.apply(&[], self.passed(offset)).map_err(failed)?;
            return Ok(0);
        }
        let entry = match record.value().map(state::decode).transpose() {
            Ok(Some(entry)) if timers::is_unreadable(key, &entry.value) => Err(Unusable::Foreign),
            other => other,
        };
        let entry = match entry {
            Ok(entry) => entry,
            Err(why) => {
                let why = format!("{topic}/{partition} holds at offset {offset} what Keyrail did not write ({why})");
                self.unreadable(|all| drop(all.insert(key.to_vec(), why)));
                return Ok(0);
            }
        };
        self.unreadable(|all| drop(all.remove(key)));
        let change = to_store(&Change { key: Arc::from(key), entry, number: 0 });
        self.index()?.apply(&[change], self.passed(offset)).map_err(failed)?;
        Ok(1)
    }

    fn reach(&self, position: i64) -> Result<(), Failed> {
        let mut first = None;
        self.unreadable(|all| first = all.values().next().cloned());
        if let Some(why) = first {
            return Err(Failed::Operator(format!(
                "{why}: what its key's state was can't be told. Write that key anew, or a tombstone to delete it; nobody else \
                 may write to the topic"
            )));
        }
        self.index()?.reach(position, wall_ms()).map_err(failed)
    }
}

/// The state of all partitions that the consumer thread has.
pub(super) struct States {
    place: Arc<Place>,
    pub(super) shelf: Shelf<Held>,
    metrics: Arc<PipelineMetrics>,
    census: census::Census,
}

impl States {
    pub(super) fn new(place: Place, metrics: Arc<PipelineMetrics>) -> Self {
        Self { place: Arc::new(place), shelf: Shelf::new(), metrics, census: census::Census::default() }
    }

    pub(super) fn take(&mut self, partition: Partition) -> Arc<Held> {
        self.shelf.take(partition, || Held::new(self.place.clone(), to_broker(partition)))
    }

    pub(super) fn show(&mut self) {
        self.count();
        self.show_stats();
    }

    fn show_stats(&self) {
        let mut all = StateStats::default();
        self.shelf.all().for_each(|(_, held)| held.show(&self.metrics, &mut all));
        self.metrics.state_memory_bytes.set(all.memory_bytes);
        self.metrics.state_disk_bytes.set(all.disk_bytes);
        self.metrics.state_longest_wait_micros.set(all.longest_wait_us);
    }
}

impl Drop for States {
    fn drop(&mut self) {
        // What is on disk need not be read again at the next start.
        for (partition, held) in self.shelf.all() {
            let Some(index) = held.index.get() else { continue };
            if let Err(error) = index.flush() {
                tracing::warn!(topic = partition.topic, partition = partition.number, %error, "state is not on disk");
            }
        }
        self.show_stats();
        self.count_none();
    }
}

#[cfg(test)]
mod tests;
