//! One task's state on disk: what is applied and read.

use super::block::{Block, Row};
use super::database::Database;
use super::flush::Job;
use super::layer::{Layer, hint_of, size};
use super::record::Record;
use super::sqlite::{Failure, Reader, disk_bytes};
use super::store::{Running, Shared};
use super::{Change, Ending, Entry, Pair, StateIdentity, StateIndex, StateStats, fits};
use crate::Error;
use crate::task::locked;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

/// One task's state, on disk. Dropping it lets go of it; what waits in memory is dropped with it and must be read from the topic
/// again, unless [`StateIndex::flush`] went before.
pub struct DiskState {
    pub(super) task: Arc<Task>,
    /// The store's thread runs while any index is open.
    _running: Arc<Running>,
}

pub(super) struct Task {
    shared: Arc<Shared>,
    pub(super) database: Arc<Database>,
    pub(super) id: i64,
    pub(super) identity: StateIdentity,
    memory: RwLock<Memory>,
    /// On disk.
    pub(super) entries: AtomicU64,
    closed: AtomicBool,
    reads: AtomicU64,
    read_from_disk: AtomicU64,
    longest_wait_us: AtomicU64,
    longest_flush_us: AtomicU64,
}

/// What look-ups ask first. The upper layer hides the lower one, and that hides what is on disk.
struct Memory {
    upper: Layer,
    lower: Option<Lower>,
    position: Option<i64>,
    reached_ms: i64,
    /// Since when anything is not on disk, beside the lower layer.
    since: Option<Instant>,
    /// As it is on disk.
    checkpoint: Record,
}

/// Changes no more.
struct Lower {
    layer: Arc<Layer>,
    /// What holds when it is written.
    record: Record,
    /// It is kept to be read.
    written: bool,
}

/// Sees a row, and says whether it wants the next.
type Each<'e> = &'e mut dyn FnMut(&Row<'_>) -> bool;

/// The tree of a task's entries.
pub(super) fn entries_of(id: i64) -> i64 {
    id * 2
}

/// The tree of when its entries expire.
pub(super) fn expiry_of(id: i64) -> i64 {
    id * 2 + 1
}

/// In the order of time, and then of keys.
pub(super) fn expiry_key(at_ms: i64, key: &[u8]) -> Vec<u8> {
    let mut bytes = (at_ms ^ i64::MIN).to_be_bytes().to_vec();
    bytes.extend_from_slice(key);
    bytes
}

impl Task {
    pub(super) fn new(
        shared: &Arc<Shared>,
        database: &Arc<Database>,
        id: i64,
        checkpoint: Record,
        entries: u64,
    ) -> Arc<Self> {
        let (position, reached_ms) = (checkpoint.position, checkpoint.reached_ms);
        Arc::new(Self {
            shared: Arc::clone(shared),
            database: Arc::clone(database),
            id,
            identity: checkpoint.identity.clone(),
            memory: RwLock::new(Memory {
                upper: Layer::default(),
                lower: None,
                position,
                reached_ms,
                since: None,
                checkpoint,
            }),
            entries: AtomicU64::new(entries),
            closed: AtomicBool::new(false),
            reads: AtomicU64::new(0),
            read_from_disk: AtomicU64::new(0),
            longest_wait_us: AtomicU64::new(0),
            longest_flush_us: AtomicU64::new(0),
        })
    }

    fn memory(&self) -> RwLockReadGuard<'_, Memory> {
        self.memory.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn memory_mut(&self) -> RwLockWriteGuard<'_, Memory> {
        self.memory.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Relaxed)
    }

    pub(super) fn waiting_bytes(&self) -> usize {
        self.memory().waiting_bytes()
    }

    pub(super) fn kept_bytes(&self) -> usize {
        self.memory().lower.as_ref().filter(|lower| lower.written).map_or(0, |lower| lower.layer.bytes())
    }

    /// Whether anything is not on disk.
    pub(super) fn is_waiting(&self) -> bool {
        let memory = self.memory();
        memory.waiting_bytes() > 0 || memory.record(&self.identity) != memory.checkpoint
    }

    /// Whether anything waits for so long, or could not be written before.
    pub(super) fn is_due(&self, age: Duration) -> bool {
        let memory = self.memory();
        let since = memory.since.is_some_and(|since| since.elapsed() >= age);
        since || memory.lower.as_ref().is_some_and(|lower| !lower.written)
    }

    /// What is to be written now: what could not be written before, or all that waits.
    pub(super) fn freeze(self: &Arc<Self>) -> Option<Job> {
        let mut memory = self.memory_mut();
        let record = memory.record(&self.identity);
        let since = memory.since.take();
        let job = |layer, record| Some(Job { task: Arc::clone(self), layer, record });
        if let Some(lower) = memory.lower.as_ref().filter(|lower| !lower.written) {
            let again = (Arc::clone(&lower.layer), lower.record.clone());
            memory.since = since;
            return job(Some(again.0), again.1);
        }
        if memory.upper.is_empty() {
            return (record != memory.checkpoint).then(|| job(None, record)).flatten();
        }
        let layer = Arc::new(std::mem::take(&mut memory.upper));
        let lower = Lower { layer: Arc::clone(&layer), record: record.clone(), written: false };
        let old = memory.lower.replace(lower);
        drop(memory);
        if let Some(old) = old {
            self.shared.let_go(old.layer.bytes());
        }
        job(Some(layer), record)
    }

    /// It is on disk. It took so long.
    pub(super) fn written(&self, job: &Job, took: Duration) {
        self.longest_flush_us.fetch_max(took.as_micros() as u64, Relaxed);
        let mut memory = self.memory_mut();
        memory.checkpoint = job.record.clone();
        let lower = memory.lower.as_mut().zip(job.layer.as_ref()).filter(|(l, layer)| Arc::ptr_eq(&l.layer, layer));
        if let Some((lower, layer)) = lower {
            lower.written = true;
            self.shared.keep(layer.bytes());
            self.shared.give_room(layer.bytes());
        }
    }

    /// Lets go of what is kept to be read.
    pub(super) fn let_go(&self) -> Option<Arc<Layer>> {
        let mut memory = self.memory_mut();
        let old = memory.lower.take_if(|lower| lower.written)?;
        self.shared.let_go(old.layer.bytes());
        Some(old.layer)
    }

    /// Lets go of all that it holds in memory.
    pub(super) fn give_up(&self) {
        let mut memory = self.memory_mut();
        let (upper, lower) = (std::mem::take(&mut memory.upper), memory.lower.take());
        drop(memory);
        self.shared.give_room(upper.bytes());
        match &lower {
            Some(lower) if lower.written => self.shared.let_go(lower.layer.bytes()),
            Some(lower) => self.shared.give_room(lower.layer.bytes()),
            None => {}
        }
    }

    fn close(&self) {
        self.closed.store(true, Relaxed);
        // IMPORTANT: whoever writes for this task has ended before it may be opened again.
        drop(locked(&self.database.writer));
        self.give_up();
    }

    /// Lets `each` see the entries of a tree from a key on, until it has enough. All of one moment.
    fn walk(&self, tree: i64, from: Vec<u8>, each: Each<'_>) -> Result<(), Error> {
        self.database.read(|reader| reader.at_once(|reader| walk(reader, tree, from, each)))
    }

    fn read(&self, key: &[u8]) -> Result<Option<Entry>, Error> {
        self.read_from_disk.fetch_add(1, Relaxed);
        let tree = entries_of(self.id);
        self.database.read(|reader| {
            reader.block(tree, key, |bytes| {
                let row = Block::open(bytes, tree, key)?.find(key)?;
                Ok(row.map(|row| Entry { value: row.value.into(), expires_ms: row.expires_ms }))
            })
        })
    }
}

fn walk(reader: &Reader, tree: i64, from: Vec<u8>, each: Each<'_>) -> Result<(), Failure> {
    let mut next = Some((from, false));
    while let Some((at, is_low)) = next.take() {
        next = reader.block(tree, &at, |bytes| {
            let block = Block::open(bytes, tree, &at)?;
            if is_low && block.low != at.as_slice() {
                return Err("blocks overlap".to_owned());
            }
            let mut rows = block.rows();
            while let Some((row, _)) = rows.next()? {
                if row.key >= at.as_slice() && !each(&row) {
                    return Ok(None);
                }
            }
            Ok(block.high.map(|high| (high.to_vec(), true)))
        })?;
    }
    Ok(())
}

impl Memory {
    fn record(&self, identity: &StateIdentity) -> Record {
        Record { identity: identity.clone(), position: self.position, reached_ms: self.reached_ms }
    }

    fn waiting_bytes(&self) -> usize {
        let lower = self.lower.as_ref().filter(|lower| !lower.written);
        self.upper.bytes() + lower.map_or(0, |lower| lower.layer.bytes())
    }

    fn get(&self, key: &[u8]) -> Option<Option<Entry>> {
        let hint = hint_of(key);
        let lower = || self.lower.as_ref().and_then(|lower| lower.layer.get(key, hint));
        self.upper.get(key, hint).or_else(lower).map(|entry| entry.cloned())
    }

    fn has(&self, key: &[u8]) -> bool {
        let hint = hint_of(key);
        self.upper.has(key, hint) || self.lower.as_ref().is_some_and(|lower| lower.layer.has(key, hint))
    }

    /// What the layers say of keys with that prefix, in order, until so many are there.
    fn changes(&self, prefix: &[u8], from: Bound<&[u8]>, limit: usize) -> BTreeMap<Arc<[u8]>, Option<Entry>> {
        let mut upper = self.upper.from(from).peekable();
        let mut lower = self.lower.iter().flat_map(|lower| lower.layer.from(from)).peekable();
        let (mut found, mut there) = (BTreeMap::new(), 0);
        while there < limit {
            let (first, second) = (upper.peek().map(|(key, _)| *key), lower.peek().map(|(key, _)| *key));
            let next = match (first, second) {
                (Some(a), Some(b)) if a > b => lower.next(),
                (Some(a), Some(b)) if a == b => {
                    lower.next();
                    upper.next()
                }
                (None, _) => lower.next(),
                _ => upper.next(),
            };
            let Some((key, entry)) = next.filter(|(key, _)| key.starts_with(prefix)) else { break };
            there += usize::from(entry.is_some());
            found.insert(Arc::clone(key), entry.clone());
        }
        found
    }
}

impl DiskState {
    pub(super) fn new(task: Arc<Task>, running: &Arc<Running>) -> Self {
        Self { task, _running: Arc::clone(running) }
    }

    /// The position up to which all is on disk: where reading goes on if the process ends now.
    #[must_use]
    pub fn checkpoint(&self) -> Option<i64> {
        self.task.memory().checkpoint.position
    }
}

impl StateIndex for DiskState {
    fn identity(&self) -> &StateIdentity {
        &self.task.identity
    }

    fn position(&self) -> Option<i64> {
        self.task.memory().position
    }

    fn get(&self, key: &[u8]) -> Result<Option<Entry>, Error> {
        self.task.database.undamaged()?;
        self.task.reads.fetch_add(1, Relaxed);
        let known = self.task.memory().get(key);
        known.map_or_else(|| self.task.read(key), Ok)
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Pair>, Error> {
        self.task.database.undamaged()?;
        let after = after.filter(|after| *after >= prefix);
        let mut found =
            self.task.memory().changes(prefix, after.map_or(Bound::Included(prefix), Bound::Excluded), limit);
        // After the last of them there may be more in memory than was looked at.
        let there = found.values().flatten().count();
        let last = if there == limit { found.keys().next_back().cloned() } else { None };
        let (mut left, mut rows) = (limit, Vec::new());
        self.task.walk(entries_of(self.task.id), after.unwrap_or(prefix).to_vec(), &mut |row| {
            let key = row.key;
            if !key.starts_with(prefix) || last.as_deref().is_some_and(|last| key > last) || left == 0 {
                return false;
            }
            if after != Some(key) && !found.contains_key(key) {
                left -= 1;
                rows.push((Arc::from(key), Some(Entry { value: row.value.into(), expires_ms: row.expires_ms })));
            }
            true
        })?;
        found.extend(rows);
        Ok(found.into_iter().filter_map(|(key, entry)| Some((key, entry?))).take(limit).collect())
    }

    fn apply(&self, changes: &[Change], position: Option<i64>) -> Result<(), Error> {
        let task = &self.task;
        task.database.undamaged()?;
        fits(changes)?;
        let taken = changes.iter().map(size).sum();
        if taken > 0 {
            let waited = task.shared.take_room(taken)?;
            task.longest_wait_us.fetch_max(waited.as_micros() as u64, Relaxed);
        }
        let mut memory = task.memory_mut();
        let before = memory.upper.bytes();
        changes.iter().for_each(|change| memory.upper.put(change));
        memory.since.get_or_insert_with(Instant::now);
        memory.position = memory.position.max(position);
        let grown = memory.upper.bytes() as i64 - before as i64;
        drop(memory);
        // What took the place of something larger is less than nothing more.
        let spare = taken as i64 - grown;
        task.shared.give_room(usize::try_from(spare).unwrap_or(0));
        Ok(())
    }

    fn reach(&self, position: i64, now_ms: i64) -> Result<(), Error> {
        self.task.database.undamaged()?;
        let mut memory = self.task.memory_mut();
        memory.position = memory.position.max(Some(position));
        memory.reached_ms = now_ms;
        memory.since.get_or_insert_with(Instant::now);
        Ok(())
    }

    fn expiring(&self, after: Option<(i64, &[u8])>, until_ms: i64, limit: usize) -> Result<Vec<Ending>, Error> {
        let task = &self.task;
        task.database.undamaged()?;
        let mut found: BTreeSet<(i64, Arc<[u8]>)> = BTreeSet::new();
        {
            let memory = task.memory();
            found.extend(memory.upper.expiring(after, until_ms).take(limit).cloned());
            let lower = memory.lower.iter().flat_map(|lower| lower.layer.expiring(after, until_ms));
            found.extend(lower.filter(|(_, key)| !memory.upper.has(key, hint_of(key))).take(limit).cloned());
        }
        let (mut left, mut wrong) = (limit, false);
        let from = after.map(|(at, key)| expiry_key(at, key)).unwrap_or_default();
        task.walk(expiry_of(task.id), from.clone(), &mut |row| {
            let Some((at, key)) = row.key.split_first_chunk::<8>() else {
                wrong = true;
                return false;
            };
            let at = i64::from_be_bytes(*at) ^ i64::MIN;
            if at > until_ms || left == 0 {
                return false;
            }
            if row.key != from && !task.memory().has(key) {
                left -= 1;
                found.insert((at, key.into()));
            }
            true
        })?;
        if wrong {
            return Err(task.database.damaged("an expiry without a time".to_owned()));
        }
        // One that was changed meanwhile may be there twice.
        let mut keys = HashSet::new();
        let first = found.into_iter().filter(|(_, key)| keys.insert(Arc::clone(key)));
        Ok(first.take(limit).collect())
    }

    fn flush(&self) -> Result<(), Error> {
        self.task.database.undamaged()?;
        self.task.shared.write_all(&self.task)?;
        self.task.database.undamaged()
    }

    fn stats(&self) -> StateStats {
        let task = &self.task;
        let memory = task.memory();
        let lower = memory.lower.as_ref().map_or(0, |lower| lower.layer.bytes());
        StateStats {
            entries: task.entries.load(Relaxed),
            memory_bytes: (memory.upper.bytes() + lower) as u64,
            waiting_bytes: memory.waiting_bytes() as u64,
            disk_bytes: disk_bytes(&task.database.file),
            reads: task.reads.load(Relaxed),
            read_from_disk: task.read_from_disk.load(Relaxed),
            longest_wait_us: task.longest_wait_us.load(Relaxed),
            longest_flush_us: task.longest_flush_us.load(Relaxed),
            failing: task.shared.failing(),
        }
    }
}

impl Drop for DiskState {
    fn drop(&mut self) {
        self.task.close();
    }
}

impl std::fmt::Debug for DiskState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DiskState").field("identity", &self.task.identity).finish_non_exhaustive()
    }
}
