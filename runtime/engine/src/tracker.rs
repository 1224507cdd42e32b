//! Which received offsets of one partition are settled, and how far a commit may go.

use crate::metadata;
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
    /// Runs of claimed offsets above the lowest one that is not, gaps in the log included.
    runs: usize,
    /// What may become a run more each.
    reserved: usize,
    /// One past the highest offset that is claimed, or was reserved.
    claimed_end: i64,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    offset: i64,
    settled: bool,
    /// It is settled, or will be by the next commit; see [`Tracker::claim`].
    claimed: bool,
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
        Self { entries: VecDeque::new(), unsettled: 0, next: start, before, runs: 0, reserved: 0, claimed_end: start }
    }

    /// Notes the offsets `first..=last` as received, in order. What was settled before this assignment is settled at
    /// once; what is not above all received so far is ignored.
    pub fn receive(&mut self, first: i64, last: i64) {
        for offset in first.max(self.next)..=last {
            let settled = self.before.contains(offset);
            // Nothing unsettled lies below: a settled one needs no entry.
            if !(settled && self.entries.is_empty()) {
                self.push(Entry { offset, settled, claimed: settled });
                self.unsettled += usize::from(!settled);
            }
            self.next = offset + 1;
        }
        self.before.forget_below(self.next);
    }

    fn push(&mut self, entry: Entry) {
        if let Some(last) = self.entries.back().filter(|last| !last.claimed) {
            self.runs += usize::from(entry.claimed || entry.offset - last.offset > 1);
        }
        if entry.claimed {
            self.claimed_end = entry.offset + 1;
        }
        self.entries.push_back(entry);
    }

    /// Claims room in the next commit's map for an offset that is to be settled by then. `false`: there may be none, and
    /// it must not be settled. One that is unknown claims nothing.
    pub fn claim(&mut self, offset: i64) -> bool {
        let Some(at) = self.find(offset).filter(|at| !self.entries[*at].claimed) else { return true };
        let (more, fewer) = self.change(at);
        // The lowest one is no run: the commit's offset moves past it.
        let has_room = at == 0 || more <= fewer && offset < self.claimed_end || self.has_room(more, fewer, offset);
        if has_room {
            self.mark(at);
        }
        has_room
    }

    /// Claims room for an offset that may be settled by the next commit, or later.
    pub fn reserve(&mut self, offset: i64) -> bool {
        let has_room = self.has_room(1, 0, offset);
        if has_room {
            self.reserved += 1;
            // The map may come to reach so far.
            self.claimed_end = self.claimed_end.max(offset + 1);
        }
        has_room
    }

    /// What was reserved is settled, or never will be.
    pub fn release(&mut self) {
        self.reserved = self.reserved.saturating_sub(1);
    }

    /// Whether the map takes less than half of its room.
    #[must_use]
    pub fn has_much_room(&self) -> bool {
        metadata::fits(2 * (self.runs + self.reserved + self.before.len()), 2 * self.span(self.claimed_end))
    }

    fn has_room(&self, more: usize, fewer: usize, offset: i64) -> bool {
        let runs = (self.runs + self.reserved + self.before.len() + more).saturating_sub(fewer);
        // What lies beyond the last unsettled offset is a run as well.
        metadata::fits(runs + 1, self.span(self.claimed_end.max(offset + 1)))
    }

    fn span(&self, end: i64) -> u64 {
        let end = self.before.iter().last().map_or(end, |(_, last)| end.max(last));
        u64::try_from(end.saturating_sub(self.point())).unwrap_or(0)
    }

    /// How many runs there are more, and fewer, when this entry is claimed.
    fn change(&self, at: usize) -> (usize, usize) {
        let offset = self.entries[at].offset;
        let left = at.checked_sub(1).map(|left| self.entries[left]).filter(|left| !left.claimed);
        let gap = left.is_some_and(|left| offset - left.offset > 1);
        let joins = self.entries.get(at + 1).is_some_and(|right| right.claimed || right.offset - offset > 1);
        (usize::from(left.is_some()), usize::from(gap) + usize::from(joins))
    }

    fn mark(&mut self, at: usize) {
        let (more, fewer) = self.change(at);
        self.runs = (self.runs + more).saturating_sub(fewer);
        let entry = &mut self.entries[at];
        entry.claimed = true;
        self.claimed_end = self.claimed_end.max(entry.offset + 1);
    }

    /// Settles a received offset. `false` when it is unknown or settled already.
    pub fn settle(&mut self, offset: i64) -> bool {
        let Some(at) = self.find(offset) else { return false };
        if self.entries[at].settled {
            return false;
        }
        if !self.entries[at].claimed {
            self.mark(at);
        }
        self.entries[at].settled = true;
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
