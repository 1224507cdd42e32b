//! How many timers and delayed sends are pending: counted from the store, some at a time, since there may be millions.

use super::timers::Kind;
use super::{Held, States};
use crate::admin::metrics::PipelineMetrics;
use keyrail_engine::message::Partition;
use keyrail_engine::timers::Due;
use std::sync::Arc;

/// So many are counted at once, which takes some milliseconds.
const STEP: usize = 20_000;

/// How far they are counted.
#[derive(Debug, Default)]
pub(super) struct Census {
    /// What is counted now, and up to where.
    at: Option<(usize, Partition, Option<Due>)>,
    /// Of each kind, in this round.
    counts: [u64; 2],
}

const KINDS: [Kind; 2] = [Kind::Timer, Kind::Delayed];

impl Census {
    /// Counts on, and tells of a round that is over.
    pub(super) fn step(&mut self, held: &[(Partition, Arc<Held>)], metrics: &PipelineMetrics) {
        let mut room = STEP;
        while room > 0 {
            let (kind, partition, after) = match self.at.take() {
                Some(at) => at,
                // The first of all.
                None => (0, Partition { topic: 0, number: 0 }, None),
            };
            let Some((partition, its)) = held.iter().find(|(its, _)| *its >= partition) else {
                if kind + 1 < KINDS.len() {
                    self.at = Some((kind + 1, Partition { topic: 0, number: 0 }, None));
                    continue;
                }
                let [timers, delayed] = std::mem::take(&mut self.counts);
                metrics.timers_pending.set(timers);
                metrics.delayed_pending.set(delayed);
                return;
            };
            // Who acts upon it notices a failure.
            let page = its.due(KINDS[kind], after.as_ref().map(|(at_ms, key)| (*at_ms, &**key)), i64::MAX, room);
            let mut page = page.unwrap_or_default();
            self.counts[kind] += page.len() as u64;
            let whole = page.len() < room;
            room -= page.len();
            let next = Partition { number: partition.number.saturating_add(1), ..*partition };
            self.at = Some(if whole { (kind, next, None) } else { (kind, *partition, page.pop()) });
        }
    }
}

impl States {
    /// Counts on what is pending of all partitions. Once a second.
    pub(super) fn count(&mut self) {
        let held: Vec<(Partition, Arc<Held>)> = self.shelf.all().map(|(at, held)| (at, held.clone())).collect();
        self.census.step(&held, &self.metrics);
    }

    /// Nothing is pending here any more.
    pub(super) fn count_none(&self) {
        self.metrics.timers_pending.set(0);
        self.metrics.delayed_pending.set(0);
    }
}
