//! Changes in memory: what waits to be written, or was just written and is kept to be read.

use super::{Change, Entry};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

/// What a change takes beside its key and value: two allocations that are counted, the map's place and its slack.
const EACH_BYTES: usize = 160;
const EXPIRING_BYTES: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Layer {
    entries: BTreeMap<Arc<[u8]>, Option<Entry>>,
    expiring: BTreeSet<(i64, Arc<[u8]>)>,
    bytes: usize,
}

/// What a change takes in memory.
pub(super) fn size(change: &Change) -> usize {
    size_of(&change.key, change.entry.as_ref())
}

fn size_of(key: &[u8], entry: Option<&Entry>) -> usize {
    let of_entry = entry.map_or(0, |e| e.value.len() + e.expires_ms.map_or(0, |_| EXPIRING_BYTES));
    key.len() + of_entry + EACH_BYTES
}

impl Layer {
    pub(super) fn put(&mut self, change: &Change) {
        self.bytes += size(change);
        if let Some(at) = change.entry.as_ref().and_then(|e| e.expires_ms) {
            self.expiring.insert((at, Arc::clone(&change.key)));
        }
        if let Some(old) = self.entries.insert(Arc::clone(&change.key), change.entry.clone()) {
            self.bytes -= size_of(&change.key, old.as_ref());
            let expires_ms = |entry: &Option<Entry>| entry.as_ref().and_then(|e| e.expires_ms);
            if let Some(at) = expires_ms(&old).filter(|_| expires_ms(&old) != expires_ms(&change.entry)) {
                self.expiring.remove(&(at, Arc::clone(&change.key)));
            }
        }
    }

    /// `None`: it says nothing of the key. `Some(None)`: the key is deleted.
    pub(super) fn get(&self, key: &[u8]) -> Option<Option<&Entry>> {
        self.entries.get(key).map(Option::as_ref)
    }

    pub(super) fn has(&self, key: &[u8]) -> bool {
        self.entries.contains_key(key)
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// From a key on, in order.
    pub(super) fn from(&self, from: Bound<&[u8]>) -> impl Iterator<Item = (&Arc<[u8]>, &Option<Entry>)> {
        self.entries.range::<[u8], _>((from, Bound::Unbounded))
    }

    /// What expires by then, the oldest first.
    pub(super) fn expiring(&self, before_ms: i64) -> impl Iterator<Item = &(i64, Arc<[u8]>)> {
        self.expiring.iter().take_while(move |(at, _)| *at <= before_ms)
    }
}
