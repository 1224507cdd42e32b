//! The head-of-line guard: names the one message that holds back what its partition commits.
//!
//! Failing messages are no concern of it: they wait, or are parked, and their failures are told elsewhere. Who asks says of a
//! message whether it runs, since a call that is under way says nothing by itself.

use crate::message::{Now, Partition};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// A commit point that a running message holds for so long is told of.
pub const HELD_MS: u64 = 10_000;

/// How far a partition can be committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    /// Its partition.
    pub partition: Partition,
    /// The lowest unsettled offset.
    pub offset: i64,
    /// Since when that is so, in milliseconds of the steady clock.
    pub since_ms: u64,
}

/// What is to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// This message runs, and has held its partition's commits for so many milliseconds.
    Holds(Point, u64),
    /// It does not any more: it held them for so many milliseconds.
    Held(Point, u64),
}

/// Knows what was told. Each message is told of once, and once more when that is over.
#[derive(Debug, Default)]
pub struct Guard {
    told: BTreeMap<Partition, Point>,
}

impl Guard {
    /// One that has told nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { told: BTreeMap::new() }
    }

    /// Looks at the points of all partitions that have unsettled messages. `runs`: whether this message is in a call, for the first
    /// time.
    pub fn look(&mut self, points: &[Point], runs: impl Fn(&Point) -> bool, now: Now) -> Vec<Told> {
        let age_ms = |point: &Point| now.steady_ms.saturating_sub(point.since_ms);
        let mut all = Vec::new();
        self.told.retain(|_, told| {
            let stays = points.contains(told);
            if !stays {
                all.push(Told::Held(*told, age_ms(told)));
            }
            stays
        });
        for point in points.iter().filter(|point| age_ms(point) >= HELD_MS) {
            if !self.told.contains_key(&point.partition) && runs(point) {
                self.told.insert(point.partition, *point);
                all.push(Told::Holds(*point, age_ms(point)));
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{P0, P1};

    fn at(ms: u64) -> Now {
        Now { steady_ms: ms, wall_ms: 0 }
    }

    const fn point(partition: Partition, offset: i64, since_ms: u64) -> Point {
        Point { partition, offset, since_ms }
    }

    #[test]
    fn a_message_that_runs_for_long_is_told_of_once_and_once_more_when_it_is_over() {
        let mut guard = Guard::new();
        let (slow, other) = (point(P0, 7, 1_000), point(P1, 3, 5_000));
        assert_eq!(guard.look(&[slow, other], |_| true, at(10_999)), []);
        assert_eq!(guard.look(&[slow, other], |_| true, at(11_000)), [Told::Holds(slow, 10_000)]);
        assert_eq!(guard.look(&[slow, other], |_| true, at(14_999)), []);
        assert_eq!(guard.look(&[slow, other], |_| true, at(15_000)), [Told::Holds(other, 10_000)]);
        // It has run, and waits for its records to be written.
        assert_eq!(guard.look(&[slow, other], |_| false, at(16_000)), []);
        assert_eq!(guard.look(&[point(P0, 8, 17_000), other], |_| true, at(17_000)), [Told::Held(slow, 16_000)]);
        assert_eq!(guard.look(&[], |_| true, at(18_000)), [Told::Held(other, 13_000)]);
        assert_eq!(guard.look(&[], |_| true, at(19_000)), []);
    }

    #[test]
    fn a_message_that_waits_is_none_of_its_concern() {
        let mut guard = Guard::new();
        let waits = point(P0, 7, 0);
        assert_eq!(guard.look(&[waits], |_| false, at(100_000)), []);
        assert_eq!(guard.look(&[waits], |point| point.offset == 7, at(101_000)), [Told::Holds(waits, 101_000)]);
    }
}
