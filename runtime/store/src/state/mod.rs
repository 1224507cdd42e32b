//! What handlers remember: a map of keys and values for each task, durable in a compacted topic, kept here to be read.

mod memory;

mod options;
mod store;
mod task;

mod layer;

mod block;
mod flush;
mod tree;

mod database;
mod record;
mod sqlite;

pub use memory::MemoryState;
pub use options::{StateOptions, StateStep, StateWatcher};
pub use store::{OpenedState, STALE_AFTER_MS, StateStore};
pub use task::DiskState;

use crate::Error;
use std::sync::Arc;

/// A value and how long it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What the handler stored.
    pub value: Arc<[u8]>,
    /// From when on it does not count, in wall-clock milliseconds since 1970. `None`: it is kept until it is deleted. The
    /// index does not judge it: whoever reads does, by the message's time.
    pub expires_ms: Option<i64>,
}

/// What becomes of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The key, at most [`MOST_KEY_BYTES`].
    pub key: Arc<[u8]>,
    /// What it has from now on. `None`: it is deleted.
    pub entry: Option<Entry>,
}

/// When a key expires, and which.
pub type Ending = (i64, Arc<[u8]>);

/// A key and what it has.
pub type Pair = (Arc<[u8]>, Entry);

/// The longest key. Longer ones are refused by [`StateIndex::apply`].
pub const MOST_KEY_BYTES: usize = 64 << 10;
/// The largest value. Larger ones are refused by [`StateIndex::apply`].
pub const MOST_VALUE_BYTES: usize = 64 << 20;

/// What an index is of. What is found of another log is wiped.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StateIdentity {
    /// The consumer group.
    pub group: String,
    /// The input topic.
    pub topic: String,
    /// The partition of the input, and of the state topic.
    pub partition: i32,
    /// Which log the state topic's partition is, since a topic can be deleted and made anew; 0 if that is not known.
    pub log: u64,
}

/// The state of one task: a cache of a compacted topic, with a checkpoint.
///
/// [`StateIndex::position`] says up to which offset of the topic all is in here; whoever takes the task reads on from there.
/// Taking in changes again, in the topic's order, gives the same state. So what is held may be ahead of the position, and is
/// never behind it.
pub trait StateIndex: Send + Sync {
    /// What it is of.
    fn identity(&self) -> &StateIdentity;

    /// Where reading the topic must go on: all below is in here. `None` while it was never told.
    fn position(&self) -> Option<i64>;

    /// What a key has, also when it has expired. For several threads at once; none waits for what is being written to
    /// disk.
    ///
    /// # Errors
    /// [`Error::Damaged`]; every later call then answers the same.
    fn get(&self, key: &[u8]) -> Result<Option<Entry>, Error>;

    /// Keys that begin with `prefix` and are greater than `after`, in the order of their bytes, at most `limit`. What is
    /// applied meanwhile may be in it or not, each key for itself.
    ///
    /// # Errors
    /// As of [`StateIndex::get`].
    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Pair>, Error>;

    /// Takes in changes: all of them or, with an error, none. The next call sees them, in any thread. Of one key the last
    /// counts. `position` moves on to what is given, never back. Syncs nothing to disk; waits, within bounds, while the budget
    /// is used up.
    ///
    /// # Errors
    /// [`Error::Full`]: offer the same again later. [`Error::Damaged`]. [`Error::TooLarge`]: a key or value is too large.
    fn apply(&self, changes: &[Change], position: Option<i64>) -> Result<(), Error>;

    /// All below `position` is in here, as the topic was at `now_ms`.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    fn reach(&self, position: i64, now_ms: i64) -> Result<(), Error>;

    /// Keys that expire at `until_ms` or earlier, with their times, the oldest first and then in the order of their bytes, those
    /// behind `after`, at most `limit`. What is applied meanwhile may be in it or not.
    ///
    /// # Errors
    /// As of [`StateIndex::get`].
    fn expiring(&self, after: Option<(i64, &[u8])>, until_ms: i64, limit: usize) -> Result<Vec<Ending>, Error>;

    /// The same from the first on, without the times.
    ///
    /// # Errors
    /// As of [`StateIndex::get`].
    fn expired(&self, until_ms: i64, limit: usize) -> Result<Vec<Arc<[u8]>>, Error> {
        Ok(self.expiring(None, until_ms, limit)?.into_iter().map(|(_, key)| key).collect())
    }

    /// Brings all that was applied, and the position, to disk. May take seconds.
    ///
    /// # Errors
    /// [`Error::Full`] if it can't be written, [`Error::Damaged`].
    fn flush(&self) -> Result<(), Error>;

    /// Figures for metrics.
    fn stats(&self) -> StateStats;
}

/// Figures of an index.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StateStats {
    /// Keys held; of an index on disk those that are written.
    pub entries: u64,
    /// Bytes in memory.
    pub memory_bytes: u64,
    /// Of these, what waits to be written.
    pub waiting_bytes: u64,
    /// Bytes on disk, of all tasks of the store.
    pub disk_bytes: u64,
    /// Calls of [`StateIndex::get`].
    pub reads: u64,
    /// How many of them were not answered from memory.
    pub read_from_disk: u64,
    /// The longest that [`StateIndex::apply`] waited for room, in microseconds.
    pub longest_wait_us: u64,
    /// The longest that bringing what waited to disk took, in microseconds. Nobody waits for it while there is room.
    pub longest_flush_us: u64,
    /// Why nothing could be written when it was tried last; `None` if all is well.
    pub failing: Option<String>,
}

/// Refuses what no index takes.
fn fits(changes: &[Change]) -> Result<(), Error> {
    for change in changes {
        let (key, value) = (change.key.len(), change.entry.as_ref().map_or(0, |e| e.value.len()));
        for (what, bytes, limit) in [("key", key, MOST_KEY_BYTES), ("value", value, MOST_VALUE_BYTES)] {
            if bytes > limit {
                return Err(Error::TooLarge { what, bytes, limit });
            }
        }
    }
    Ok(())
}
