//! Which received offsets of one partition are settled, and how far a commit may go.

use crate::ranges::Ranges;
use alloc::collections::VecDeque;

/// Offsets of one partition within one assignment.
///
/// Only what was received counts: offsets that the log itself leaves out (compaction, transaction markers) are never
/// waited for. Memory is bounded by what is unsettled, not by how far the rest has run ahead.
#[derive(Debug, Clone)]
pub struct Tracker {
    entries: VecDeque<Entry>,
    unsettled: usize,
    /// One past the last received offset, or where the assignment started.
    next: i64,
    /// Settled before this assignment, from the commit's metadata.
    before: Ranges,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    offset: i64,
    settled: bool,
}

/// What the partition has come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Lowest unsettled offset, or the next to be received: what a commit may name.
    pub point: i64,
    /// Settled offsets above it.
    pub settled: Ranges,
}

impl Tracker {
    /// Starts at `start`, with what an earlier assignment had settled above it.
    #[must_use]
    pub fn new(start: i64, before: Ranges) -> Self {
        Self { entries: VecDeque::new(), unsettled: 0, next: start, before }
    }

    /// Notes the offsets `first..=last` as received, in order. What was settled before this assignment is settled at
    /// once; what is not above all received so far is ignored.
    pub fn receive(&mut self, first: i64, last: i64) {
        for offset in first.max(self.next)..=last {
            let settled = self.before.contains(offset);
            // Nothing unsettled lies below: a settled one needs no entry.
            if !(settled && self.entries.is_empty()) {
                self.entries.push_back(Entry { offset, settled });
                self.unsettled += usize::from(!settled);
            }
            self.next = offset + 1;
        }
        self.before.forget_below(self.next);
    }

    /// Settles a received offset. `false` when it is unknown or settled already.
    pub fn settle(&mut self, offset: i64) -> bool {
        let Some(at) = self.find(offset) else { return false };
        let entry = &mut self.entries[at];
        if entry.settled {
            return false;
        }
        entry.settled = true;
        self.unsettled -= 1;
        while self.entries.front().is_some_and(|e| e.settled) {
            self.entries.pop_front();
        }
        // Keeps memory in proportion to what is unsettled while one slow message holds the front: amortised, each
        // settled entry is moved at most once for each one removed.
        if self.entries.len() > 2 * self.unsettled + 1024 {
            self.entries.retain(|e| !e.settled);
        }
        if self.entries.is_empty() && self.entries.capacity() > 4096 {
            self.entries = VecDeque::new();
        }
        true
    }

    /// Whether this offset was received and is not settled.
    #[must_use]
    pub fn is_unsettled(&self, offset: i64) -> bool {
        self.find(offset).is_some_and(|at| !self.entries[at].settled)
    }

    fn find(&self, offset: i64) -> Option<usize> {
        // Most logs have no gaps, so the offset tells the place.
        let guess = usize::try_from(offset.checked_sub(self.entries.front()?.offset)?).ok()?;
        if self.entries.get(guess).is_some_and(|e| e.offset == offset) {
            return Some(guess);
        }
        self.entries.binary_search_by_key(&offset, |e| e.offset).ok()
    }

    /// How far a commit may go, and what is settled above. What was received counts only.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let point = self.point();
        let mut settled = Ranges::new();
        let mut from = point;
        for entry in self.entries.iter().filter(|e| !e.settled) {
            settled.push(from, entry.offset);
            from = entry.offset + 1;
        }
        if self.entries.front().is_some() {
            settled.push(from, self.next);
        }
        for (start, end) in self.before.iter() {
            settled.push(start.max(self.next).max(point), end);
        }
        Progress { point, settled }
    }

    /// Lowest unsettled offset, or the next to be received.
    #[must_use]
    pub fn point(&self) -> i64 {
        match self.entries.front() {
            Some(lowest) => lowest.offset,
            // What comes next may be settled from before: the point lies above it.
            None => self.before.iter().next().filter(|r| r.0 <= self.next).map_or(self.next, |r| r.1),
        }
    }

    /// One past the last received offset, or where the assignment started.
    #[must_use]
    pub const fn next(&self) -> i64 {
        self.next
    }

    /// How many received offsets are not settled.
    #[must_use]
    pub const fn unsettled(&self) -> usize {
        self.unsettled
    }

    /// How many entries are held in memory.
    #[must_use]
    pub fn held(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests;
