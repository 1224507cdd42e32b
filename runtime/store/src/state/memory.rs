//! The state in memory alone: lost when the process ends.

use super::{Change, Ending, Entry, Pair, StateIdentity, StateIndex, StateStats, fits};
use crate::Error;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

/// A task's state in memory, without a bound on how much it is.
#[derive(Debug)]
pub struct MemoryState {
    identity: StateIdentity,
    held: RwLock<Held>,
    reads: AtomicU64,
}

#[derive(Debug, Default)]
struct Held {
    entries: BTreeMap<Arc<[u8]>, Entry>,
    expiring: BTreeSet<(i64, Arc<[u8]>)>,
    bytes: usize,
    position: Option<i64>,
}

impl MemoryState {
    /// Empty, and without a position.
    #[must_use]
    pub fn new(identity: StateIdentity) -> Self {
        Self { identity, held: RwLock::default(), reads: AtomicU64::new(0) }
    }

    fn read(&self) -> RwLockReadGuard<'_, Held> {
        self.held.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn take_in(&mut self, change: &Change) {
        let size = |entry: &Entry| change.key.len() + entry.value.len();
        let old = match &change.entry {
            Some(new) => {
                self.bytes += size(new);
                let expires = new.expires_ms.map(|at| (at, Arc::clone(&change.key)));
                let old = self.entries.insert(Arc::clone(&change.key), new.clone());
                self.forget_expiry(old.as_ref(), change);
                self.expiring.extend(expires);
                old
            }
            None => {
                let old = self.entries.remove(&change.key);
                self.forget_expiry(old.as_ref(), change);
                old
            }
        };
        self.bytes -= old.as_ref().map_or(0, size);
    }

    fn forget_expiry(&mut self, old: Option<&Entry>, change: &Change) {
        if let Some(at) = old.and_then(|old| old.expires_ms) {
            self.expiring.remove(&(at, Arc::clone(&change.key)));
        }
    }
}

impl StateIndex for MemoryState {
    fn identity(&self) -> &StateIdentity {
        &self.identity
    }

    fn position(&self) -> Option<i64> {
        self.read().position
    }

    fn get(&self, key: &[u8]) -> Result<Option<Entry>, Error> {
        self.reads.fetch_add(1, Relaxed);
        Ok(self.read().entries.get(key).cloned())
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Pair>, Error> {
        let held = self.read();
        let from = match after.filter(|after| *after >= prefix) {
            Some(after) => Bound::Excluded(after),
            None => Bound::Included(prefix),
        };
        let found = held.entries.range::<[u8], _>((from, Bound::Unbounded));
        let found = found.take_while(|(key, _)| key.starts_with(prefix)).take(limit);
        Ok(found.map(|(key, entry)| (Arc::clone(key), entry.clone())).collect())
    }

    fn apply(&self, changes: &[Change], position: Option<i64>) -> Result<(), Error> {
        fits(changes)?;
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        changes.iter().for_each(|change| held.take_in(change));
        held.position = held.position.max(position);
        Ok(())
    }

    fn reach(&self, position: i64, _now_ms: i64) -> Result<(), Error> {
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        held.position = held.position.max(Some(position));
        Ok(())
    }

    fn expiring(&self, after: Option<(i64, &[u8])>, until_ms: i64, limit: usize) -> Result<Vec<Ending>, Error> {
        let held = self.read();
        let from = after.map_or(Bound::Unbounded, |(at, key)| Bound::Excluded((at, Arc::from(key))));
        let found = held.expiring.range((from, Bound::Unbounded)).take_while(|(at, _)| *at <= until_ms);
        Ok(found.take(limit).cloned().collect())
    }

    fn flush(&self) -> Result<(), Error> {
        Ok(())
    }

    fn stats(&self) -> StateStats {
        let held = self.read();
        let each = size_of::<(Arc<[u8]>, Entry)>() + 4 * size_of::<usize>();
        StateStats {
            entries: held.entries.len() as u64,
            memory_bytes: (held.bytes + held.entries.len() * each) as u64,
            reads: self.reads.load(Relaxed),
            ..StateStats::default()
        }
    }
}
