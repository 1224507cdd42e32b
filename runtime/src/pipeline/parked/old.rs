//! What alerts are told of what waits: keys that fail for long, and keys that are held.

use super::index::is_timed;
use super::lanes::Line;
use super::{Lanes, Parkeds, message};
use crate::alerts::{Alerts, Example, Kind, What};
use crate::pipeline::clock::wall_ms;
use crate::pipeline::show::readable;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Lanes of one kind: how many, and the one whose message failed first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Oldest {
    pub(super) lanes: u64,
    pub(super) first: Option<(u64, Line)>,
}

impl Oldest {
    fn count(&mut self, lane: u64, line: &Line) {
        self.lanes += 1;
        if self.first.is_none_or(|(_, first)| line.since_ms < first.since_ms) {
            self.first = Some((lane, *line));
        }
    }
}

/// Lanes whose first message failed before a time, and lanes that are held.
pub(super) fn of(lanes: &BTreeMap<u64, Line>, before_ms: i64) -> (Oldest, Oldest) {
    let (mut old, mut held) = (Oldest::default(), Oldest::default());
    for (lane, line) in lanes {
        if !is_timed(line.due_ms) {
            held.count(*lane, line);
        } else if line.since_ms <= before_ms {
            old.count(*lane, line);
        }
    }
    (old, held)
}

impl Parkeds {
    /// Says how what waits stands.
    pub(super) fn alert(&self, alerts: &Alerts) {
        if !alerts.wants(Kind::Parked) && !alerts.wants(Kind::Held) {
            return;
        }
        let age_ms = i64::try_from(alerts.parked_age().as_millis()).unwrap_or(i64::MAX);
        let before_ms = wall_ms().saturating_sub(age_ms);
        let (mut old, mut held) = (Sum::default(), Sum::default());
        for (_, lanes) in self.shelf.all() {
            let Some(index) = lanes.index.get() else { continue };
            let (its_old, its_held) = index.oldest(before_ms);
            old.add(lanes, its_old);
            held.add(lanes, its_held);
        }
        for (kind, sum) in [(Kind::Parked, old), (Kind::Held, held)] {
            alerts.tell(self.metrics.name(), kind, sum.what());
        }
    }
}

/// The same of all partitions.
#[derive(Default)]
struct Sum {
    lanes: u64,
    first: Option<(Arc<Lanes>, u64, Line)>,
}

impl Sum {
    fn add(&mut self, lanes: &Arc<Lanes>, of: Oldest) {
        self.lanes += of.lanes;
        if let Some((lane, line)) = of.first
            && self.first.as_ref().is_none_or(|(_, _, first)| line.since_ms < first.since_ms)
        {
            self.first = Some((lanes.clone(), lane, line));
        }
    }

    fn what(self) -> What {
        let Some((lanes, lane, line)) = self.first else { return What::Over };
        let since_ms = Some(line.since_ms).filter(|since| *since != i64::MAX);
        What::Stands { count: self.lanes, since_ms, example: lanes.example(lane, &line) }
    }
}

impl Lanes {
    /// The first message of a lane, as far as it can be read now.
    fn example(&self, lane: u64, line: &Line) -> Example {
        let mut example = Example {
            topic: Some(self.place.input(self.at).to_owned()),
            partition: Some(self.at.partition),
            offset: Some(line.offset),
            ..Example::default()
        };
        // What the disk does not say now is left out: whoever needs it to go on finds out by itself.
        let read = self.index.get().and_then(|index| index.read(lane, line.number, 1, u64::MAX).ok());
        let read = read.as_ref().and_then(|read| read.first()).filter(|read| read.offset == line.offset);
        if let Some((record, _, waiting)) = read.and_then(|read| message(self.at, read.offset, read.envelope()).ok()) {
            example.key = record.key().map(|key| readable(Some(key)));
            example.code = Some(waiting.failure.code).filter(|code| !code.is_empty());
            example.detail = Some(waiting.failure.detail).filter(|detail| !detail.is_empty());
        }
        example
    }
}
