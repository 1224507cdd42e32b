//! The model's local store of state: what a process knows to be committed, and what of it is on the worker's disk.

use keyrail_engine::message::Partition;
use keyrail_engine::state::{Change, Entry, Kept};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

/// What is known of one partition.
#[derive(Debug, Clone, Default)]
struct Task {
    values: BTreeMap<Arc<[u8]>, Entry>,
    /// All of the log below this is in. More may be: what a commit adds has no position.
    position: usize,
}

/// What outlives a process. It lags behind, and may be deleted: then all is read from the log again.
#[derive(Debug, Clone, Default)]
pub struct Disk(BTreeMap<Partition, Task>);

/// The state that a process knows to be committed; its threads share it.
#[derive(Debug)]
pub(crate) struct Store(RefCell<BTreeMap<Partition, Task>>);

impl Store {
    /// As the disk has it.
    pub(crate) fn open(disk: &Disk) -> Self {
        Self(RefCell::new(disk.0.clone()))
    }

    fn with<T>(&self, partition: Partition, act: impl FnOnce(&mut Task) -> T) -> T {
        act(self.0.borrow_mut().entry(partition).or_default())
    }

    /// From where the log is to be read.
    pub(crate) fn position(&self, partition: Partition) -> usize {
        self.with(partition, |task| task.position)
    }

    /// All of the log below this is in.
    pub(crate) fn reach(&self, partition: Partition, position: usize) {
        self.with(partition, |task| task.position = task.position.max(position));
    }

    /// A change is committed.
    pub(crate) fn take(&self, partition: Partition, change: &Change) {
        self.with(partition, |task| match &change.entry {
            Some(entry) => {
                task.values.insert(Arc::clone(&change.key), entry.clone());
            }
            None => {
                task.values.remove(&change.key);
            }
        });
    }

    /// The partition as the disk has it, as one that was closed is opened again.
    pub(crate) fn reopen(&self, partition: Partition, disk: &Disk) {
        self.with(partition, |task| *task = disk.0.get(&partition).cloned().unwrap_or_default());
    }

    /// A checkpoint: the disk has the partition as it is now.
    pub(crate) fn save(&self, partition: Partition, disk: &mut Disk) {
        let saved = self.with(partition, |task| task.clone());
        disk.0.insert(partition, saved);
    }

    /// Keys of what has ended, at most so many.
    pub(crate) fn ended(&self, partition: Partition, now_ms: i64, most: usize) -> Vec<Arc<[u8]>> {
        self.with(partition, |task| {
            let ended = task.values.iter().filter(|(_, entry)| !entry.lives(now_ms));
            ended.map(|(key, _)| Arc::clone(key)).take(most).collect()
        })
    }

    /// All that is known of a partition.
    pub(crate) fn all(&self, partition: Partition) -> BTreeMap<Arc<[u8]>, Entry> {
        self.with(partition, |task| task.values.clone())
    }
}

impl Kept for Store {
    fn get(&self, partition: Partition, key: &[u8]) -> Option<Entry> {
        self.0.borrow().get(&partition)?.values.get(key).cloned()
    }

    fn scan(
        &self,
        partition: Partition,
        prefix: &[u8],
        after: &[u8],
        limit: usize,
        now_ms: i64,
    ) -> Vec<(Arc<[u8]>, Entry)> {
        let tasks = self.0.borrow();
        let Some(task) = tasks.get(&partition) else { return Vec::new() };
        let from = if after < prefix { Bound::Included(prefix) } else { Bound::Excluded(after) };
        let found = task.values.range::<[u8], _>((from, Bound::Unbounded));
        let found = found.take_while(|(key, _)| key.starts_with(prefix)).filter(|(_, entry)| entry.lives(now_ms));
        found.take(limit).map(|(key, entry)| (Arc::clone(key), entry.clone())).collect()
    }
}
