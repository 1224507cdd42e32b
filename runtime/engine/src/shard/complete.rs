//! What a call's end means for each of its messages.

use super::lanes::{Lane, Phase, Place};
use super::parked::Parking;
use super::timers::Timing;
use super::watch::{self, Ran};
use super::{Shard, Slot};
use crate::breaker::Probed;
use crate::message::{Failure, Fate, Now, Reason, Ticket};
use crate::parking::{GivenUp, HELD};
use crate::planted::Bug;
use crate::policy::Spent;
use crate::retry::{self, split_mix};
use crate::state::{Change, Staged};
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

/// The handler's answer for one slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Its effects stand.
    Done,
    /// As done, counted apart.
    Skip,
    /// To be run again.
    Retry {
        /// The handler's words.
        failure: Failure,
        /// `None`: the back-off of the policy.
        delay_ms: Option<u64>,
        /// A service is down: costs no attempt.
        outage: bool,
    },
    /// Not to be run again.
    DeadLetter(Failure),
    /// What the handler staged for it is more than a limit allows; the host says so.
    Oversized(Failure),
}

/// Why a whole call failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallFailure {
    /// `true` when it ran out of time; everything else is a trap.
    pub timeout: bool,
    /// The host's words.
    pub failure: Failure,
}

/// A message whose fate is decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled<M> {
    /// Its papers.
    pub ticket: Ticket,
    /// The payload.
    pub message: M,
    /// How it ended.
    pub fate: Fate,
    /// The slot whose effects stand, for those done or skipped.
    pub slot: Option<u32>,
    /// Runs that counted as attempts, the last one included; 0 when it did not run.
    pub attempts: u32,
    /// What it changes of its key's state.
    pub changes: Vec<Change>,
}

impl<M> Settled<M> {
    /// One that leaves nothing.
    pub(super) const fn bare(ticket: Ticket, message: M, fate: Fate, attempts: u32) -> Self {
        Self { ticket, message, fate, slot: None, attempts, changes: Vec::new() }
    }
}

/// A message that failed and will run again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retried {
    /// Its papers.
    pub ticket: Ticket,
    /// What it failed with.
    pub failure: Failure,
    /// Runs that failed so far.
    pub failures: u32,
    /// When it is due, in milliseconds of the steady clock.
    pub due_ms: u64,
}

/// What a call's end brought, beside what is settled: for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Report {
    /// Messages that will run again.
    pub retried: u32,
    /// Messages undone because an earlier one of their lane did not succeed.
    pub undone: u32,
    /// Messages that will be replayed one by one.
    pub replayed: u32,
}

/// What is decided for one slot before anything is moved.
enum Verdict {
    Stands(Fate),
    Fails {
        reason: Reason,
        failure: Failure,
        delay_ms: Option<u64>,
        outage: bool,
        finally: bool,
        alone: bool,
    },
    Undone,
    /// It failed on the version on trial.
    Disputed(Reason, Failure),
}

impl<M> Shard<M> {
    /// The call answered. `took_us` is how long it took, but for waits that cost nothing here. A wrong number of outcomes counts as a failed call.
    pub fn complete(
        &mut self,
        outcomes: Vec<Outcome>,
        took_us: u64,
        now: Now,
        settled: &mut Vec<Settled<M>>,
    ) -> Report {
        if outcomes.len() != self.running.len() {
            let detail = alloc::format!("{} outcomes for {} messages", outcomes.len(), self.running.len());
            let failure = Failure { code: "wrong-count".into(), detail };
            return self.fail(CallFailure { timeout: false, failure }, now, settled);
        }
        let spared = self.end_probe(watch::probed(&outcomes));
        if !self.learn_on_trial(self.running.len() as u64, took_us) {
            self.learn_cost(took_us);
        }
        self.parking.as_mut().map(Parking::look_if_full);
        self.timing.as_mut().map(Timing::look_if_full);
        if outcomes.iter().all(|outcome| matches!(outcome, Outcome::Done | Outcome::Skip)) {
            self.all_stand(outcomes, now, settled);
            return Report::default();
        }
        let slots = core::mem::take(&mut self.running);
        let verdicts = self.judge(&slots, outcomes);
        self.carry_out(slots, verdicts, spared, now, settled)
    }

    /// The call failed as a whole. With several messages each is replayed alone, first of all; a single one is the
    /// culprit.
    pub fn fail(&mut self, call: CallFailure, now: Now, settled: &mut Vec<Settled<M>>) -> Report {
        let spared = self.end_probe(Probed::Failed);
        self.staged = Staged::default();
        self.parking.as_mut().map(Parking::look_if_full);
        self.timing.as_mut().map(Timing::look_if_full);
        let slots = core::mem::take(&mut self.running);
        let on_trial = self.is_on_trial();
        if on_trial {
            self.failed_on_trial();
        }
        if slots.len() > 1 && !self.policy.has(Bug::CondemnBatch) {
            if !on_trial {
                (self.proven, self.careful) = (slots.len() as u32 / 4, true);
            }
            return self.replay_alone(slots);
        }
        let reason = if call.timeout { Reason::Timeout } else { Reason::Trap };
        if on_trial && !self.policy.has(Bug::TrialBelieved) {
            let verdicts = slots.iter().map(|_| Verdict::Disputed(reason, call.failure.clone())).collect();
            return self.carry_out(slots, verdicts, spared, now, settled);
        }
        let mut verdicts: Vec<Verdict> = Vec::new();
        verdicts.resize_with(slots.len(), || Verdict::Fails {
            reason,
            failure: call.failure.clone(),
            delay_ms: None,
            outage: false,
            finally: self.policy.has(Bug::CondemnBatch),
            alone: true,
        });
        self.carry_out(slots, verdicts, spared, now, settled)
    }

    /// The batch could not be called at all: it goes back as it was.
    pub fn put_off(&mut self) {
        self.end_probe(Probed::Nothing);
        self.staged = Staged::default();
        let slots = core::mem::take(&mut self.running);
        self.back_to_lanes(slots);
    }

    /// Slots behind a failed one of their lane are undone; slots of other lanes stand.
    fn judge(&self, slots: &[Slot<M>], outcomes: Vec<Outcome>) -> Vec<Verdict> {
        let mut broken: BTreeSet<Place> = BTreeSet::new();
        let believed = !self.is_on_trial() || self.policy.has(Bug::TrialBelieved);
        let mut verdicts = Vec::with_capacity(slots.len());
        for (slot, outcome) in slots.iter().zip(outcomes) {
            if !broken.is_empty() && broken.contains(&slot.lane) && !self.policy.has(Bug::KeepSlotsBehindFailure) {
                verdicts.push(Verdict::Undone);
                continue;
            }
            let verdict = match outcome {
                Outcome::Done => Verdict::Stands(Fate::Done),
                Outcome::Skip => Verdict::Stands(Fate::Skipped),
                Outcome::Retry { failure, delay_ms, outage } => {
                    Verdict::Fails { reason: Reason::Attempts, failure, delay_ms, outage, finally: false, alone: false }
                }
                Outcome::DeadLetter(failure) => finally(Reason::Rejected, failure),
                Outcome::Oversized(failure) => finally(Reason::Oversized, failure),
            };
            verdicts.push(match verdict {
                Verdict::Fails { reason, failure, .. } if !believed => {
                    broken.insert(slot.lane);
                    Verdict::Disputed(reason, failure)
                }
                Verdict::Fails { .. } => {
                    broken.insert(slot.lane);
                    verdict
                }
                stands => stands,
            });
        }
        verdicts
    }

    /// Most calls end so.
    fn all_stand(&mut self, outcomes: Vec<Outcome>, now: Now, settled: &mut Vec<Settled<M>>) {
        let (mut slots, mut touched) = (core::mem::take(&mut self.running), core::mem::take(&mut self.touched));
        settled.reserve(slots.len());
        for (index, (slot, outcome)) in slots.drain(..).zip(outcomes).enumerate() {
            touched.push(slot.lane);
            let fate = if matches!(outcome, Outcome::Skip) { Fate::Skipped } else { Fate::Done };
            settled.push(self.stand(slot, fate, index, now));
        }
        self.let_go(&touched);
        touched.clear();
        (self.running, self.touched) = (slots, touched);
        self.staged = Staged::default();
    }

    fn stand(&mut self, slot: Slot<M>, fate: Fate, index: usize, now: Now) -> Settled<M> {
        self.note_run(&slot.item.ticket, Ran::Well, now);
        self.ruled(&slot.item.ticket, true);
        // Of an assignment that is over nothing will be published: it is not done.
        if self.seen.is_some() && self.lane_of(&slot).is_some() {
            self.mark_seen(&slot.item.ticket, now);
        }
        let item = slot.item;
        let attempts = item.history().attempts.saturating_add(1);
        let mut changes = self.changes(&item.ticket, index as u32);
        self.timers_changed(&item.ticket, slot.timer.as_ref(), &mut changes);
        self.resolve(&item.ticket);
        Settled { ticket: item.ticket, message: item.message, fate, slot: Some(index as u32), attempts, changes }
    }

    /// What is behind a message that ran may run, unless the message waits.
    fn let_go(&mut self, touched: &[Place]) {
        for place in touched {
            if self.lanes.get(*place).is_some_and(|l| l.phase == Phase::Running) {
                self.go_on(*place);
            }
        }
    }

    fn carry_out(
        &mut self,
        slots: Vec<Slot<M>>,
        verdicts: Vec<Verdict>,
        spared: bool,
        now: Now,
        settled: &mut Vec<Settled<M>>,
    ) -> Report {
        let mut report = Report::default();
        let mut undone = Vec::new();
        let mut touched = Vec::new();
        for (index, (slot, verdict)) in slots.into_iter().zip(verdicts).enumerate() {
            touched.push(slot.lane);
            match verdict {
                Verdict::Stands(fate) => settled.push(self.stand(slot, fate, index, now)),
                Verdict::Undone => {
                    report.undone += 1;
                    if self.policy.has(Bug::KeepUndoneState) {
                        let _kept = self.changes(&slot.item.ticket, index as u32);
                    }
                    undone.push(slot);
                }
                Verdict::Disputed(reason, failure) => undone.push(self.dispute(slot, reason, failure)),
                Verdict::Fails { reason, failure, delay_ms, outage, finally, alone } => {
                    let mut slot = slot;
                    self.ruled(&slot.item.ticket, false);
                    self.note_failed_run(&slot.item.ticket, ran(reason, finally), &failure, now);
                    slot.item.trouble.get_or_insert_default().failure = failure;
                    slot.item.alone = alone;
                    let cost = Cost::of(outage, spared && !finally);
                    let due = self.note_failure(&mut slot, reason, delay_ms, cost, finally, now);
                    match due {
                        retry::Next::At(due) if !slot.item.stays && self.is_parked_until(due, now) => {
                            report.retried += 1;
                            self.note_retry(&slot, due);
                            // A partition that is gone by now: unsettled, the next owner runs it.
                            if self.lane_of(&slot).is_some() {
                                settled.push(self.park_failed(slot.lane, slot.item, due, now));
                            }
                        }
                        retry::Next::At(due) => {
                            report.retried += 1;
                            self.note_retry(&slot, due);
                            let due = if self.policy.has(Bug::RetryAtOnce) { now.steady_ms } else { due };
                            self.wait(slot, due, &mut undone);
                        }
                        retry::Next::Spent(reason) if self.holds(reason) => {
                            report.retried += 1;
                            if slot.item.stays {
                                // There is no place for it before what is parked.
                                let due = now.steady_ms.saturating_add(self.policy.retry.max_ms);
                                self.note_retry(&slot, due);
                                self.wait(slot, due, &mut undone);
                            } else if self.lane_of(&slot).is_some() {
                                let due_ms = if self.policy.has(Bug::RunHeld) { now.wall_ms } else { HELD };
                                settled.push(self.park(slot.lane, slot.item, due_ms));
                            }
                        }
                        retry::Next::Spent(reason) if self.takes_key_along(reason) => {
                            // What becomes of it is decided in its lane's turn.
                            let trouble = slot.item.trouble.get_or_insert_default();
                            trouble.spent = true;
                            trouble.given_up = Some(GivenUp { reason, until: 0 });
                            undone.push(slot);
                        }
                        retry::Next::Spent(reason) => {
                            // A partition that is gone by now: unsettled, the next owner runs it.
                            if self.lane_of(&slot).is_some() {
                                let buried = self.bury(slot.lane, slot.item, reason, now);
                                settled.push(buried);
                            }
                        }
                    }
                }
            }
        }
        self.put_back(undone);
        self.let_go(&touched);
        self.staged = Staged::default();
        report
    }

    /// Whether what is spent waits until somebody acts.
    fn holds(&self, reason: Reason) -> bool {
        self.policy.retry.then == Spent::Hold && self.policy.takes_commands() && reason.is_of_retries()
    }

    /// Whether it is due too late to wait in memory.
    fn is_parked_until(&self, due_ms: u64, now: Now) -> bool {
        let in_place_ms = self.policy.retry.in_place_ms.filter(|_| self.parking.is_some());
        in_place_ms.is_some_and(|in_place_ms| due_ms.saturating_sub(now.steady_ms) > in_place_ms)
    }

    fn note_retry(&mut self, slot: &Slot<M>, due_ms: u64) {
        let (Some(told), Some(trouble)) = (&mut self.retried, &slot.item.trouble) else { return };
        let (ticket, failure, failures) = (slot.item.ticket, trouble.failure.clone(), trouble.history.failures);
        told.push(Retried { ticket, failure, failures, due_ms });
    }

    fn note_failure(
        &mut self,
        slot: &mut Slot<M>,
        reason: Reason,
        delay_ms: Option<u64>,
        cost: Cost,
        finally: bool,
        now: Now,
    ) -> retry::Next {
        let history = &mut slot.item.trouble.get_or_insert_default().history;
        let costs = cost == Cost::Attempt || cost == Cost::Nothing && self.policy.has(Bug::OutageCosts);
        history.attempts += u32::from(costs);
        history.failures = match cost {
            // The breaker's pause is its wait: the next one must not grow by how long the outage lasts.
            Cost::Probe => history.failures.max(1),
            Cost::Attempt | Cost::Nothing => history.failures.saturating_add(1),
        };
        history.first_failed_ms.get_or_insert(now.wall_ms);
        if finally {
            return retry::Next::Spent(reason);
        }
        let chance = split_mix(&mut self.random);
        retry::next(&self.policy.retry, history, delay_ms, reason, now, chance)
    }

    /// The head waits for its retry; it goes back to the front of its lane with what was undone behind it.
    fn wait(&mut self, slot: Slot<M>, due: u64, undone: &mut Vec<Slot<M>>) {
        let early = self.policy.has(Bug::ReleaseLaneEarly);
        if let Some(lane) = self.lane_of(&slot) {
            lane.phase = Phase::Waiting(due);
            if early && !lane.queue.is_empty() {
                lane.phase = Phase::Ready;
                lane.queue.push_back(slot.item);
                self.ready.push_back(slot.lane);
                return;
            }
            self.due.insert((due, slot.lane));
        }
        undone.push(slot);
    }

    /// Puts slots back to the front of their lanes, in their order. Those of a lane that is gone are dropped: their
    /// partition was taken away, and its next owner runs them.
    fn put_back(&mut self, mut slots: Vec<Slot<M>>) {
        if self.policy.has(Bug::UndoReversed) {
            slots.reverse();
        }
        for slot in slots.into_iter().rev() {
            let keeps = self.policy.has(Bug::KeepLoaded);
            if let Some(lane) = self.lane_of(&slot) {
                // Where the first of its lane is parked anew, what was loaded is still parked.
                if slot.item.ticket.parked == 0 || lane.drained.is_some() || keeps {
                    lane.queue.push_front(slot.item);
                }
            }
        }
    }

    fn replay_alone(&mut self, mut slots: Vec<Slot<M>>) -> Report {
        let report = Report { replayed: slots.len() as u32, ..Report::default() };
        for slot in &mut slots {
            slot.item.alone = true;
        }
        self.back_to_lanes(slots);
        report
    }

    /// Puts a batch back: its lanes are ready again, before all others, in their order.
    fn back_to_lanes(&mut self, slots: Vec<Slot<M>>) {
        let mut order: Vec<Place> = Vec::new();
        for slot in &slots {
            if let Some(lane) = self.lane_of(slot)
                && lane.phase == Phase::Running
            {
                lane.phase = Phase::Ready;
                order.push(slot.lane);
            }
        }
        if self.policy.has(Bug::ReplayBehindNewer) {
            for slot in slots {
                if let Some(lane) = self.lane_of(&slot) {
                    lane.queue.push_back(slot.item);
                }
            }
        } else {
            self.put_back(slots);
        }
        for id in order.into_iter().rev() {
            self.ready.push_front(id);
        }
        self.ready_since_ms = Some(0);
    }

    /// The lane a slot came from, unless its assignment is over.
    fn lane_of(&mut self, slot: &Slot<M>) -> Option<&mut Lane<M>> {
        self.lanes.get(slot.lane)
    }

    fn learn_cost(&mut self, took_us: u64) {
        let Some(each) = took_us.checked_div(self.running.len() as u64) else { return };
        self.proven = self.proven.max(self.running.len() as u32);
        self.cost_us = smoothed(self.cost_us, each);
    }
}

/// What one message costs, after a call whose messages took `each` microseconds: a single odd call weighs a quarter. 0: not known yet.
pub(super) const fn smoothed(before: u64, each: u64) -> u64 {
    if before == 0 { each } else { (before * 3 + each) / 4 }
}

/// What a failure costs its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cost {
    Attempt,
    /// The handler said that a service is down.
    Nothing,
    /// It was a breaker's probe.
    Probe,
}

impl Cost {
    const fn of(outage: bool, spared: bool) -> Self {
        match (outage, spared) {
            (_, true) => Self::Probe,
            (true, false) => Self::Nothing,
            (false, false) => Self::Attempt,
        }
    }
}

/// What it says of a service. What the handler rejects it has understood.
const fn ran(reason: Reason, finally: bool) -> Ran {
    match reason {
        _ if finally => Ran::Well,
        Reason::Timeout => Ran::TimedOut,
        _ => Ran::Failed,
    }
}

fn finally(reason: Reason, failure: Failure) -> Verdict {
    Verdict::Fails { reason, failure, delay_ms: None, outage: false, finally: true, alone: false }
}
