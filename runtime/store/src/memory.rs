//! The index in memory alone: lost when the process ends.

use crate::{BUCKETS, Error, Id, SeenIndex, Stats};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Seen ids in memory, exact to the millisecond, without a bound on how many there are.
#[derive(Debug)]
pub struct MemorySeen {
    window_ms: u64,
    held: RwLock<Held>,
    lookups: AtomicU64,
}

#[derive(Debug, Default)]
struct Held {
    /// From old to new.
    buckets: VecDeque<Bucket>,
    latest_ms: Option<i64>,
    position: Option<i64>,
}

#[derive(Debug)]
struct Bucket {
    start_ms: i64,
    latest_ms: i64,
    ids: HashMap<Id, i64>,
}

impl MemorySeen {
    /// Remembers ids for `window_ms`.
    #[must_use]
    pub fn new(window_ms: u64) -> Self {
        Self { window_ms, held: RwLock::default(), lookups: AtomicU64::new(0) }
    }

    fn read(&self) -> RwLockReadGuard<'_, Held> {
        self.held.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Held> {
        self.held.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SeenIndex for MemorySeen {
    fn contains(&self, id: &Id, oldest_ms: i64) -> Result<bool, Error> {
        self.lookups.fetch_add(1, Relaxed);
        let held = self.read();
        let mut buckets = held.buckets.iter().rev().take_while(|b| b.latest_ms >= oldest_ms);
        Ok(buckets.any(|b| b.ids.get(id).is_some_and(|time_ms| *time_ms >= oldest_ms)))
    }

    fn insert(&self, ids: &[Id], time_ms: i64, position: i64) -> Result<(), Error> {
        let mut held = self.write();
        held.position = Some(held.position.map_or(position, |p| p.max(position)));
        if ids.is_empty() {
            return Ok(());
        }
        let time_ms = held.latest_ms.map_or(time_ms, |latest| latest.max(time_ms));
        held.latest_ms = Some(time_ms);
        held.expire(time_ms.saturating_sub_unsigned(self.window_ms));
        let width = (self.window_ms / BUCKETS).max(1);
        if held.buckets.back().is_none_or(|b| time_ms >= b.start_ms.saturating_add_unsigned(width)) {
            held.buckets.push_back(Bucket { start_ms: time_ms, latest_ms: time_ms, ids: HashMap::new() });
        }
        if let Some(bucket) = held.buckets.back_mut() {
            bucket.latest_ms = time_ms;
            bucket.ids.extend(ids.iter().map(|id| (*id, time_ms)));
        }
        Ok(())
    }

    fn position(&self) -> Option<i64> {
        self.read().position
    }

    fn expire(&self, oldest_ms: i64) {
        self.write().expire(oldest_ms);
    }

    fn forget(&self, position: i64) -> Result<(), Error> {
        let mut held = self.write();
        held.buckets.clear();
        held.position = Some(held.position.map_or(position, |p| p.max(position)));
        Ok(())
    }

    fn flush(&self) -> Result<(), Error> {
        Ok(())
    }

    fn stats(&self) -> Stats {
        let held = self.read();
        let ids: usize = held.buckets.iter().map(|b| b.ids.len()).sum();
        let room: usize = held.buckets.iter().map(|b| b.ids.capacity()).sum();
        // An entry and its byte of control.
        let memory_bytes = (room * (size_of::<(Id, i64)>() + 1)) as u64;
        Stats { ids: ids as u64, memory_bytes, lookups: self.lookups.load(Relaxed), ..Stats::default() }
    }
}

impl Held {
    fn expire(&mut self, oldest_ms: i64) {
        while self.buckets.front().is_some_and(|b| b.latest_ms < oldest_ms) {
            self.buckets.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]
    use super::*;

    fn id(n: u8) -> Id {
        [n; 16]
    }

    #[test]
    fn an_id_counts_from_its_time_and_only_so_long() {
        let seen = MemorySeen::new(800);
        assert_eq!(seen.position(), None);
        seen.insert(&[id(1), id(2)], 1_000, 7).unwrap();
        assert!(seen.contains(&id(1), 1_000).unwrap());
        assert!(!seen.contains(&id(1), 1_001).unwrap());
        assert!(!seen.contains(&id(3), 0).unwrap());
        assert_eq!(seen.position(), Some(7));
        // Dropped whole, once the newest of the bucket is too old.
        seen.insert(&[id(3)], 1_801, 8).unwrap();
        assert!(!seen.contains(&id(1), 0).unwrap());
        assert_eq!(seen.stats().ids, 1);
    }

    #[test]
    fn a_clock_that_goes_back_makes_ids_live_longer() {
        let seen = MemorySeen::new(800);
        seen.insert(&[id(1)], 5_000, 1).unwrap();
        seen.insert(&[id(2)], 1_000, 2).unwrap();
        assert!(seen.contains(&id(2), 5_000).unwrap());
        seen.insert(&[], 9_000_000, 3).unwrap();
        assert!(seen.contains(&id(2), 5_000).unwrap(), "a record without ids tells no time");
        assert_eq!(seen.position(), Some(3));
    }

    #[test]
    fn an_id_that_comes_again_counts_from_then() {
        let seen = MemorySeen::new(800);
        for time_ms in [1_000, 1_050, 1_500] {
            seen.insert(&[id(1)], time_ms, time_ms).unwrap();
            assert!(seen.contains(&id(1), time_ms).unwrap());
        }
        seen.expire(1_501);
        assert!(!seen.contains(&id(1), 0).unwrap());
    }
}
