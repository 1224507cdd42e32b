//! Which ids of a task were seen within a window: an index that holds tens of millions, on disk, with two to three bytes
//! of memory for each.
//!
//! It is a cache with a checkpoint. What makes an id durable is the task's partition of the *seen topic*; the index says
//! up to which position of it all is in here ([`SeenIndex::position`]), and whoever takes the task reads on from there.
//! Files that are missing, torn, damaged or of something else are wiped and built anew from that topic, never trusted;
//! deleting them while no process has them open is always safe.
//!
//! [`Store`] is the process's: its threads write and merge, its budget bounds what waits in memory for all tasks.
//! [`DiskSeen`] is one task's index. [`MemorySeen`] answers the same from memory alone.
//!
//! What handlers remember is kept in the same way, below `state`: [`StateIndex`] says what it promises.
//!
//! In the order of an id's way: `memtable` takes it in, `write` brings it to a `segment` with its `filter`, `merge` makes few
//! segments of many, `manifest` says which of them count and up to which position.

mod error;
mod seen;

mod memory;
mod store;
mod task;

mod memtable;
mod view;

mod filter;
mod segment;
mod write;

mod merge;
mod work;

mod folder;
mod manifest;
mod steps;

mod state;

#[cfg(test)]
mod chance;

pub use error::Error;
pub use memory::MemorySeen;
pub use seen::{BUCKETS, Id, Identity, SeenIndex, Stats};
pub use state::{
    Change, DiskState, Ending, Entry, MOST_KEY_BYTES, MOST_VALUE_BYTES, MemoryState, OpenedState, Pair, STALE_AFTER_MS,
    StateIdentity, StateIndex, StateOptions, StateStats, StateStep, StateStore, StateWatcher,
};
pub use steps::{Step, Watcher};
pub use store::{Opened, Options, Store};
pub use task::DiskSeen;
