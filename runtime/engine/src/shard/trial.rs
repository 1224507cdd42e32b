//! A version on trial: a part of the lanes runs on it, and it is not believed when it fails.
//!
//! What fails there costs its message nothing: it goes back to the front of its lane and runs at once on the version that serves,
//! whose word counts. So nothing is retried, parked or given up for what a version on trial says, and each of its failures is
//! compared with how the other did on the same message. All that stands on it is done as if it had served.
//!
//! The lane decides which version a message is for, so a key sees one of them. A call is of one version.

use super::complete::smoothed;
use super::{Shard, Slot};
use crate::message::{Failure, Partition, Reason, Ticket};
use crate::planted::Bug;
use crate::retry::split_mix;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;

/// Its first call holds no more: nobody knows yet what a message costs there.
const FIRST_MESSAGES: usize = 8;

/// A version of the handler that a part of the lanes runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trial {
    version: u32,
    /// Lanes whose place in `0..=u64::MAX` lies below are chosen.
    below: u64,
    salt: u64,
}

impl Trial {
    /// `share` of the lanes, from 0 to 1. Shards whose lanes are hashed with one seed choose the same keys for the same `salt`.
    #[must_use]
    pub fn new(version: u32, share: f64, salt: u64) -> Self {
        // Saturates: nothing for what is below 0 or no number, all for 1 and more.
        let below = (share * 18_446_744_073_709_551_616.0) as u64;
        Self { version, below, salt }
    }

    /// Which version it is.
    #[must_use]
    pub const fn version(&self) -> u32 {
        self.version
    }

    fn chooses(&self, lane: u64) -> bool {
        // Some bits of a lane, the same for all of a shard, chose the shard.
        split_mix(&mut (lane ^ self.salt)) < self.below || self.below == u64::MAX
    }
}

/// How a version did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Runs {
    /// Messages of calls that answered.
    pub messages: u64,
    /// What these calls took together, in microseconds, but for waits that cost nothing here.
    pub micros: u64,
}

/// A message that failed on the version on trial and stood on the one that serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overruled {
    /// Its papers.
    pub ticket: Ticket,
    /// What would have been said of it.
    pub reason: Reason,
    /// The version's words.
    pub failure: Failure,
}

/// What a trial brought since this was last taken.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Evidence {
    /// Which version is on trial.
    pub version: u32,
    /// How it did.
    pub trial: Runs,
    /// How the one that serves did meanwhile.
    pub serving: Runs,
    /// Calls of it that failed as a whole.
    pub failed_calls: u64,
    /// Messages that failed on it alone.
    pub overruled: u64,
    /// Messages that failed on both.
    pub upheld: u64,
    /// The last that failed on it alone.
    pub example: Option<Box<Overruled>>,
}

impl Evidence {
    /// Whether there is nothing to tell.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self { version: self.version, ..Self::default() }
    }
}

/// What was said of a message that the other version now runs.
#[derive(Debug)]
struct Dispute {
    reason: Reason,
    failure: Failure,
}

#[derive(Debug)]
pub(super) struct Trying {
    trial: Trial,
    /// Messages that failed there, and have not run on the other version.
    disputes: BTreeMap<(Partition, i64), Dispute>,
    evidence: Evidence,
    /// Smoothed cost of one message, in microseconds; 0 until measured.
    cost_us: u64,
    /// Whose the batch is; `None` while it is empty.
    batch: Option<bool>,
    /// The breaker is open: its probes are the serving version's.
    suspended: bool,
}

impl<M> Shard<M> {
    /// From the next batch on this version is on trial beside the one that serves; `None`: none is. What failed on one that is no
    /// longer on trial runs as any other. While a call is under way nothing may change.
    pub fn try_out(&mut self, trial: Option<Trial>) {
        if self.trying.as_ref().map(|trying| trying.trial) == trial {
            return;
        }
        self.trying = trial.map(|trial| {
            let evidence = Evidence { version: trial.version, ..Evidence::default() };
            Box::new(Trying { trial, disputes: BTreeMap::new(), evidence, cost_us: 0, batch: None, suspended: false })
        });
    }

    /// What the trial has brought since this was last asked, if anything.
    pub fn evidence(&mut self) -> Option<Evidence> {
        let trying = self.trying.as_mut().filter(|trying| !trying.evidence.is_empty())?;
        let next = Evidence { version: trying.trial.version, ..Evidence::default() };
        Some(core::mem::replace(&mut trying.evidence, next))
    }

    /// A batch is about to be filled. `all`: the breaker lets everything run.
    pub(super) fn begin_batch(&mut self, all: bool) {
        if let Some(trying) = &mut self.trying {
            (trying.batch, trying.suspended) = (None, !all);
        }
    }

    /// The version that the batch is for.
    pub(super) fn version_of_batch(&self) -> u32 {
        match &self.trying {
            Some(trying) if trying.batch == Some(true) => trying.trial.version,
            _ => self.version,
        }
    }

    pub(super) fn is_on_trial(&self) -> bool {
        self.trying.as_ref().is_some_and(|trying| trying.batch == Some(true))
    }

    /// Whether a message that may run is for the version on trial.
    fn is_for_trial(&self, ticket: &Ticket) -> bool {
        let Some(trying) = &self.trying else { return false };
        let by_message = if self.policy.has(Bug::TrialSplitsLane) { ticket.offset.cast_unsigned() } else { 0 };
        !trying.suspended
            && trying.trial.chooses(ticket.lane ^ by_message)
            && (trying.disputes.is_empty() || !trying.disputes.contains_key(&(ticket.partition, ticket.offset)))
    }

    /// Whether a message may run in this batch, by its version.
    pub(super) fn joins(&self, ticket: &Ticket) -> bool {
        let decided = self.trying.as_ref().and_then(|trying| trying.batch);
        decided.is_none_or(|trial| trial == self.is_for_trial(ticket))
    }

    /// The first message of a batch decides whose it is.
    pub(super) fn decide_version(&mut self, ticket: &Ticket) {
        let trial = self.is_for_trial(ticket);
        if let Some(trying) = &mut self.trying {
            trying.batch.get_or_insert(trial);
        }
    }

    /// So many messages may a batch of the version on trial hold, where it is that.
    pub(super) fn most_on_trial(&self, call_target_us: u64) -> usize {
        match &self.trying {
            Some(trying) if trying.batch == Some(true) => call_target_us
                .checked_div(trying.cost_us)
                .map_or(FIRST_MESSAGES, |fit| usize::try_from(fit).unwrap_or(usize::MAX).max(1)),
            _ => usize::MAX,
        }
    }

    /// A call answered. `true`: it was the trial's, which says nothing of what the other version costs.
    pub(super) fn learn_on_trial(&mut self, messages: u64, took_us: u64) -> bool {
        let Some(trying) = &mut self.trying else { return false };
        let on_trial = trying.batch == Some(true);
        let runs = if on_trial { &mut trying.evidence.trial } else { &mut trying.evidence.serving };
        runs.messages += messages;
        runs.micros = runs.micros.saturating_add(took_us);
        if let Some(each) = took_us.checked_div(messages).filter(|_| on_trial) {
            trying.cost_us = smoothed(trying.cost_us, each);
        }
        on_trial
    }

    /// A call of the version on trial failed as a whole.
    pub(super) fn failed_on_trial(&mut self) {
        if let Some(trying) = &mut self.trying {
            trying.evidence.failed_calls += 1;
        }
    }

    /// A message failed on the version on trial: the other one has the word.
    pub(super) fn dispute(&mut self, slot: Slot<M>, reason: Reason, failure: Failure) -> Slot<M> {
        let ticket = &slot.item.ticket;
        // Of an assignment that is over somebody else has the word.
        let present = self.epochs.get(&ticket.task()) == Some(&ticket.epoch);
        if let Some(trying) = self.trying.as_mut().filter(|_| present) {
            trying.disputes.insert((ticket.partition, ticket.offset), Dispute { reason, failure });
        }
        slot
    }

    /// A message came to an end on the version that serves, or on the one on trial where nothing was said of it before.
    pub(super) fn ruled(&mut self, ticket: &Ticket, stands: bool) {
        let Some(trying) = self.trying.as_mut().filter(|trying| !trying.disputes.is_empty()) else { return };
        let Some(dispute) = trying.disputes.remove(&(ticket.partition, ticket.offset)) else { return };
        if stands {
            trying.evidence.overruled += 1;
            let Dispute { reason, failure } = dispute;
            trying.evidence.example = Some(Box::new(Overruled { ticket: *ticket, reason, failure }));
        } else {
            trying.evidence.upheld += 1;
        }
    }

    /// What was said of messages of a task counts for nothing more.
    pub(super) fn drop_disputes(&mut self, task: Partition) {
        let order = &self.policy.order;
        if let Some(trying) = &mut self.trying {
            trying.disputes.retain(|(partition, _), _| order.task(*partition) != task);
        }
    }
}
