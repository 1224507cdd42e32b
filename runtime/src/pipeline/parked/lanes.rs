//! What memory holds of the lanes of one partition that have parked messages: about 100 bytes each.

use super::index::{Stand, is_timed};
use super::old::{self, Oldest};
use keyrail_engine::parking::Due;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

/// The first message of a lane, and the highest number that is known of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) number: u64,
    pub(super) offset: i64,
    pub(super) due_ms: i64,
    pub(super) since_ms: i64,
    pub(super) last: u64,
    /// All up to this number goes with the first; 0: nothing does.
    pub(super) until: u64,
}

/// All lanes.
#[derive(Debug, Default)]
pub(super) struct Summary {
    pub(super) messages: u64,
    /// A tree: a table would be half empty at worst, and there are two while it grows.
    lanes: BTreeMap<u64, Line>,
    due: BTreeSet<Due>,
}

impl Summary {
    pub(super) fn line(&self, lane: u64) -> Option<&Line> {
        self.lanes.get(&lane)
    }

    pub(super) fn lanes(&self) -> u64 {
        self.lanes.len() as u64
    }

    /// One that was not there before.
    pub(super) fn add(&mut self, offset: i64, stand: &Stand) {
        let Stand { lane, number, due_ms, since_ms, given_up } = *stand;
        self.messages += 1;
        match self.lanes.get_mut(&lane) {
            Some(line) if line.number < number => line.last = line.last.max(number),
            known => {
                let last = known.map_or(number, |line| line.last);
                let until = given_up.unwrap_or(0);
                self.set(lane, Some(Line { number, offset, due_ms, since_ms, last, until }));
            }
        }
    }

    /// The first message of a lane is this one now, or there is none any more.
    pub(super) fn set(&mut self, lane: u64, line: Option<Line>) {
        let old = match line {
            Some(line) => self.lanes.insert(lane, line),
            None => self.lanes.remove(&lane),
        };
        if let Some(old) = old {
            self.due.remove(&(old.due_ms, lane));
        }
        if let Some(line) = line.filter(|line| is_timed(line.due_ms)) {
            self.due.insert((line.due_ms, lane));
        }
    }

    pub(super) fn due(&self, after: Option<Due>, until_ms: i64, most: usize) -> Vec<Due> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let due = self.due.range((from, Bound::Unbounded)).copied();
        due.take_while(|(due_ms, _)| *due_ms <= until_ms).take(most).collect()
    }

    pub(super) fn next_due(&self, after_ms: i64) -> Option<i64> {
        let later = (Bound::Excluded((after_ms, u64::MAX)), Bound::Unbounded);
        self.due.range(later).next().map(|(due_ms, _)| *due_ms)
    }

    /// Lanes whose first message failed before this time, and lanes that are held. Looks at all of them.
    pub(super) fn oldest(&self, before_ms: i64) -> (Oldest, Oldest) {
        old::of(&self.lanes, before_ms)
    }

    /// When the first message of a lane failed that failed longest ago. Looks at all of them.
    pub(super) fn oldest_ms(&self) -> Option<i64> {
        self.lanes.values().map(|line| line.since_ms).min().filter(|since| *since != i64::MAX)
    }
}
