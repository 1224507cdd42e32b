//! What a breaker may do, and when.

use super::{Oracle, name};
use keyrail_engine::message::{Now, Partition, Ticket};
use keyrail_engine::order::shard_of;
use std::collections::BTreeSet;

/// What is known of a process's breaker.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Messages that failed and were no probes: task, lane, when.
    failed: Vec<(Partition, u64, u64)>,
    /// When it closed last.
    closed_ms: u64,
    probes: u32,
}

impl Oracle {
    /// A message failed, and was no probe.
    pub fn lane_failed(&mut self, process: u16, ticket: &Ticket, now: Now) {
        if self.policy.breaker.is_some() {
            let known = self.breakers.entry(process).or_default();
            known.failed.push((ticket.task(), ticket.lane, now.steady_ms));
        }
    }

    /// A breaker opens. `tallied`: when each shard counted last.
    pub fn breaker_opens(&mut self, process: u16, tallied: &[u64]) {
        let Some(policy) = self.policy.breaker.clone() else {
            return self.violated(name::BREAKER, None, "there is none, and it opens".into());
        };
        let least = policy.least_lanes as usize;
        // A time-out counts for longer.
        let window_ms = policy.window_ms.max(self.policy.timeout_ms * u64::from(policy.least_lanes));
        let known = self.breakers.entry(process).or_default();
        let counts = |(_, lane, ms): &&(Partition, u64, u64)| {
            let tallied_ms = tallied[shard_of(*lane, tallied.len() as u32) as usize];
            *ms >= known.closed_ms && *ms <= tallied_ms && *ms + window_ms >= tallied_ms
        };
        let lanes: BTreeSet<(Partition, u64)> =
            known.failed.iter().filter(counts).map(|(task, lane, _)| (*task, *lane)).collect();
        if lanes.len() < least {
            let what = format!("opens for {} lanes that failed, and {least} are the least", lanes.len());
            self.violated(name::BREAKER, None, what);
        }
    }

    /// A breaker closes.
    pub fn breaker_closes(&mut self, process: u16, now_ms: u64) {
        self.breakers.entry(process).or_default().closed_ms = now_ms;
    }

    /// A probe begins to run.
    pub fn probe_begins(&mut self, process: u16) {
        let known = self.breakers.entry(process).or_default();
        known.probes += 1;
        if known.probes > 1 {
            self.violated(name::BREAKER, None, "two probes run at the same time".into());
        }
    }

    /// And ends.
    pub fn probe_ends(&mut self, process: u16) {
        let known = self.breakers.entry(process).or_default();
        known.probes = known.probes.saturating_sub(1);
    }
}
