//! Which ids were seen.
//!
//! An id counts for the task it was seen in. Where ids are kept ([`Policy::keeps_ids`](crate::policy::Policy::keeps_ids)) a commit writes the ids of what it covers to a topic
//! (see [`crate::seen`]), and whoever looks after that answers for them ([`Past`]); [`Seen`] holds those of which no
//! commit is known yet. Otherwise [`Seen`] is all there is: in memory, bounded, and lost when the process ends.
//!
//! Each entry of it remembers the offset that it came from: when a partition starts anew, what was never committed is
//! forgotten, so that a message is never taken for its own duplicate.

use crate::message::{MessageId, Now, Partition};
use crate::ranges::Ranges;
use alloc::collections::VecDeque;
use foldhash::fast::FixedState;
use hashbrown::HashMap;

const BUCKETS: u64 = 8;

/// Ids whose marks are committed, by this process or by whoever had the partition before.
pub trait Past {
    /// Whether the id was committed within the window that ends now.
    fn contains(&self, task: Partition, id: MessageId, now: Now) -> bool;
}

/// Nothing was committed: where ids are not kept.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoPast;

impl Past for NoPast {
    fn contains(&self, _task: Partition, _id: MessageId, _now: Now) -> bool {
        false
    }
}

/// Ids seen within the window, in buckets of time that are dropped whole.
#[derive(Debug)]
pub struct Seen {
    window_ms: u64,
    capacity: usize,
    seed: u64,
    buckets: VecDeque<Bucket>,
    count: usize,
    forgotten_early: u64,
}

#[derive(Debug)]
struct Bucket {
    start_ms: i64,
    /// By task and id: where it was seen.
    ids: HashMap<(Partition, MessageId), (Partition, i64), FixedState>,
}

impl Seen {
    /// Remembers ids until they are passed on.
    #[must_use]
    pub const fn until_passed_on(seed: u64) -> Self {
        Self::new(u64::MAX, usize::MAX, seed)
    }

    /// Remembers ids for `window_ms`, at most `capacity` of them.
    #[must_use]
    pub const fn new(window_ms: u64, capacity: usize, seed: u64) -> Self {
        Self { window_ms, capacity, seed, buckets: VecDeque::new(), count: 0, forgotten_early: 0 }
    }

    /// Another place than this one at which the id was seen in the task, within the window.
    #[must_use]
    pub fn other(
        &self,
        task: Partition,
        id: MessageId,
        at: (Partition, i64),
        wall_ms: i64,
    ) -> Option<(Partition, i64)> {
        let oldest = wall_ms.saturating_sub_unsigned(self.window_ms);
        let width = self.width_ms();
        self.buckets
            .iter()
            .filter(|b| b.start_ms.saturating_add_unsigned(width) > oldest)
            .find_map(|b| b.ids.get(&(task, id)).copied().filter(|seen| *seen != at))
    }

    /// Marks the id as seen in the task, at this offset of this partition.
    pub fn mark(&mut self, task: Partition, id: MessageId, at: (Partition, i64), wall_ms: i64) {
        self.expire(wall_ms);
        let width = self.width_ms();
        let share = (self.capacity / BUCKETS as usize).max(1);
        // A clock that went back keeps filling the newest bucket: its ids live longer, never shorter.
        let fits = |b: &Bucket| wall_ms < b.start_ms.saturating_add_unsigned(width) && b.ids.len() < share;
        if !self.buckets.back().is_some_and(fits) {
            let start_ms = self.buckets.back().map_or(wall_ms, |b| b.start_ms.max(wall_ms));
            self.buckets.push_back(Bucket { start_ms, ids: HashMap::with_hasher(FixedState::with_seed(self.seed)) });
        }
        if self.count >= self.capacity
            && let Some(oldest) = self.buckets.pop_front()
        {
            self.count -= oldest.ids.len();
            self.forgotten_early += oldest.ids.len() as u64;
        }
        if let Some(bucket) = self.buckets.back_mut()
            && bucket.ids.insert((task, id), at).is_none()
        {
            self.count += 1;
        }
    }

    fn expire(&mut self, wall_ms: i64) {
        let oldest = wall_ms.saturating_sub_unsigned(self.window_ms);
        let width = self.width_ms();
        while self.buckets.front().is_some_and(|b| b.start_ms.saturating_add_unsigned(width) <= oldest) {
            if let Some(gone) = self.buckets.pop_front() {
                self.count -= gone.ids.len();
            }
        }
    }

    /// A partition starts at `start` with `settled` above it: ids of messages that will come again are forgotten.
    pub fn restart(&mut self, partition: Partition, start: i64, settled: &Ranges) {
        self.retain(|_, (at, offset)| *at != partition || *offset < start || settled.contains(*offset));
    }

    /// Nothing of this task is remembered any more.
    pub fn forget(&mut self, task: Partition) {
        self.retain(|of, _| *of != task);
    }

    fn retain(&mut self, stays: impl Fn(&Partition, &(Partition, i64)) -> bool) {
        let mut count = 0;
        for bucket in &mut self.buckets {
            bucket.ids.retain(|(task, _), at| stays(task, at));
            count += bucket.ids.len();
        }
        self.count = count;
    }

    /// These ids are [`Past`] now.
    pub fn pass_on(&mut self, task: Partition, ids: &[MessageId]) {
        for id in ids {
            let gone = self.buckets.iter_mut().any(|bucket| bucket.ids.remove(&(task, *id)).is_some());
            self.count -= usize::from(gone);
        }
    }

    fn width_ms(&self) -> u64 {
        (self.window_ms / BUCKETS).max(1)
    }

    /// How many ids are remembered.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether no id is remembered.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many ids were forgotten before their time, for want of room.
    #[must_use]
    pub const fn forgotten_early(&self) -> u64 {
        self.forgotten_early
    }
}

#[cfg(test)]
mod tests;
