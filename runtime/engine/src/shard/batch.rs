//! What runs next.

use super::lanes::{Item, Phase, Place};
use super::parked::{Arrival, Parking};
use super::timers::Timing;
use super::watch::Leave;
use super::{Settled, Shard, Slot};
use crate::dedup::Past;
use crate::message::{Failure, Fate, MessageId, Now, Partition, Reason, Ticket};
use crate::parking::Parked;
use crate::planted::Bug;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// A lane gives at most this many messages before the next one has its turn, so that no key starves another.
const TURN_MESSAGES: u32 = 8;
/// What a call is meant to last: long enough to be cheap, short enough for rebalances, swaps and latency.
const CALL_TARGET_US: u64 = 10_000;

/// A call that acts outside may wait for each of its messages: the first holds no more, and each at most twice as many as went
/// well before, or an eighth more once a call has failed as a whole, so that one that takes too long never runs into its deadline with all that there is.
pub(super) const FIRST_MESSAGES: u32 = 8;

/// Places for lanes that may run that are kept in any case.
const SPARE_READY: usize = 4096;

/// What a shard should do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Call the handler with the messages of [`Shard::batch`].
    Run(Plan),
    /// Nothing to run before this steady time; `None`: before something arrives.
    Wait(Option<u64>),
}

/// How to make the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// How many messages.
    pub messages: u32,
    /// The version to call: the one that serves, or the one on trial.
    pub version: u32,
    /// When to stop the call, in milliseconds from its start.
    pub deadline_ms: u64,
}

/// A message of the batch as the handler gets it.
#[derive(Debug, Clone, Copy)]
pub struct Delivery<'a, M> {
    /// Its papers.
    pub ticket: &'a Ticket,
    /// The payload.
    pub message: &'a M,
    /// 1 on the first run.
    pub attempt: u32,
    /// An earlier message of its lane was dead-lettered or discarded while it waited.
    pub follows_dead_letter: bool,
}

/// Who is asked for what is committed: of seen ids, and of what is parked.
pub(super) type Ask<'a, M> = (&'a dyn Past, &'a dyn Parked<M>);

/// How a lane's turn ended.
pub(super) enum Turn {
    /// It has nothing more to give to this batch.
    Over,
    /// It has more, after the others' turns.
    More,
    /// What it has is for another version than the batch.
    Aside,
    /// The batch is full.
    Full,
}

/// What becomes of a message before it runs.
pub(super) enum Unrun {
    Run,
    Duplicate(Option<(Partition, i64)>),
    /// Behind others of its lane, with this number.
    Park(u64),
    /// It is parked already.
    Known,
    Bury(Reason, Failure),
}

impl<M> Shard<M> {
    /// Decides what to do now. Messages that are settled without running (duplicates, expired ones) are added to
    /// `settled`. While a batch is under way there is nothing to do.
    pub fn next(&mut self, now: Now, past: &dyn Past, parked: &dyn Parked<M>, settled: &mut Vec<Settled<M>>) -> Next {
        if !self.running.is_empty() {
            return Next::Wait(None);
        }
        let leave = self.leave(now);
        if leave == Leave::None {
            // Until the breaker orders something.
            return Next::Wait(None);
        }
        self.wake_due(now);
        self.wake_parked(now, parked);
        self.begin_batch(leave == Leave::All);
        match leave {
            Leave::One { fresh } => {
                if !fresh || self.prefer_fresh() {
                    self.fill(1, now, (past, parked), settled);
                }
                self.begin_probe();
            }
            Leave::All | Leave::None => {
                if !self.is_worth_a_call(now) {
                    return Next::Wait(self.next_wake());
                }
                self.fill(self.max_messages() as usize, now, (past, parked), settled);
            }
        }
        self.fresh_messages = 0;
        self.fresh_bytes = 0;
        // A burst's memory goes back once it is over.
        if self.ready.is_empty() && self.ready.capacity() > SPARE_READY {
            self.ready = VecDeque::new();
        }
        // What is left over has waited already.
        self.ready_since_ms = if self.ready.is_empty() { None } else { Some(0) };
        if self.running.is_empty() {
            return Next::Wait(if leave == Leave::All { self.next_wake() } else { None });
        }
        let messages = self.running.len() as u32;
        let deadline_ms = self.policy.timeout_ms.saturating_mul(u64::from(messages)).min(self.policy.batch.max_time_ms);
        Next::Run(Plan { messages, version: self.version_of_batch(), deadline_ms })
    }

    /// The messages of the batch under way, in slot order.
    pub fn batch(&mut self) -> impl Iterator<Item = Delivery<'_, M>> {
        let lanes = &mut self.lanes;
        self.running.iter().map(move |slot| Delivery {
            ticket: &slot.item.ticket,
            message: &slot.item.message,
            attempt: slot.item.history().attempts.saturating_add(1),
            follows_dead_letter: lanes.get(slot.lane).is_some_and(|l| l.follows_dead_letter),
        })
    }

    /// The message of a slot of the batch under way, to note something with it.
    pub fn message_mut(&mut self, slot: usize) -> Option<&mut M> {
        self.running.get_mut(slot).map(|slot| &mut slot.item.message)
    }

    fn wake_due(&mut self, now: Now) {
        while let Some(&(due, id)) = self.due.first() {
            if due > now.steady_ms {
                break;
            }
            self.due.pop_first();
            if let Some(lane) = self.lanes.get(id)
                && lane.phase == Phase::Waiting(due)
            {
                lane.phase = Phase::Ready;
                self.ready.push_back(id);
                // It has waited long enough.
                self.ready_since_ms = Some(0);
            }
        }
    }

    fn is_worth_a_call(&self, now: Now) -> bool {
        let batch = &self.policy.batch;
        self.ready_since_ms.is_some_and(|since| now.steady_ms >= since.saturating_add(batch.max_wait_ms))
            || self.fresh_messages >= self.max_messages()
            || self.fresh_bytes >= batch.max_bytes
    }

    fn next_wake(&self) -> Option<u64> {
        let linger = self.ready_since_ms.map(|since| since.saturating_add(self.policy.batch.max_wait_ms));
        let retry = self.due.first().map(|(due, _)| *due);
        let parked = self.parking.as_ref().map(Parking::next_look_ms);
        let timers = self.timing.as_ref().map(Timing::next_look_ms);
        [linger, retry, parked, timers, self.next_tally_ms()].into_iter().flatten().min()
    }

    /// As many messages as fit into the time a call is meant to last.
    fn max_messages(&self) -> u32 {
        let most = self.policy.batch.max_messages.max(1);
        let step = if self.careful { self.proven / 8 } else { self.proven };
        let next = self.proven.saturating_add(step.max(1));
        let most = if self.policy.batch.apart { most.min(next) } else { most };
        match CALL_TARGET_US.checked_div(self.cost_us) {
            None => most,
            Some(fit) => u32::try_from(fit).unwrap_or(most).clamp(1, most),
        }
    }

    fn fill(
        &mut self,
        most: usize,
        now: Now,
        (past, parked): (&dyn Past, &dyn Parked<M>),
        settled: &mut Vec<Settled<M>>,
    ) {
        let mut bytes = 0;
        let (mut again, mut aside) = (VecDeque::new(), Vec::new());
        while let Some(id) = self.ready.pop_front().or_else(|| again.pop_front()) {
            match self.take_turn(id, most, &mut bytes, now, (past, parked), settled) {
                Turn::Over => {}
                Turn::More => again.push_back(id),
                Turn::Aside => aside.push(id),
                Turn::Full => {
                    again.push_front(id);
                    break;
                }
            }
        }
        if self.policy.has(Bug::TrialForgetsAside) {
            aside.clear();
        }
        // Lanes that run come back when the batch is done; the others keep their place. Those of the other version decide whose the
        // next batch is.
        for id in again.into_iter().rev().chain(aside.into_iter().rev()) {
            if self.lanes.get(id).is_some_and(|l| matches!(l.phase, Phase::Ready | Phase::Crowded(_))) {
                self.ready.push_front(id);
            }
        }
    }

    /// Moves a turn's messages of one lane into the batch.
    fn take_turn(
        &mut self,
        id: Place,
        most: usize,
        bytes: &mut u64,
        now: Now,
        (past, parked): (&dyn Past, &dyn Parked<M>),
        settled: &mut Vec<Settled<M>>,
    ) -> Turn {
        for _ in 0..TURN_MESSAGES {
            let Some(lane) = self.lanes.get(id) else { return Turn::Over };
            if let Phase::Crowded(due_ms) = lane.phase {
                self.park_crowded(id, due_ms, now, settled);
                continue;
            }
            if lane.drained.is_some() && lane.queue.front().is_none_or(|head| head.ticket.parked == 0) {
                self.load_parked(id, now, parked);
            }
            match self.bury_key(id, now, (past, parked), settled) {
                None => {}
                Some(Turn::More) => continue,
                Some(turn) => return turn,
            }
            let Some(lane) = self.lanes.get(id) else { return Turn::Over };
            let runs = lane.phase == Phase::Running;
            let Some(head) = lane.queue.front() else {
                if !runs {
                    self.lanes.close(id);
                }
                return Turn::Over;
            };
            let (ticket, alone, failed) = (head.ticket, head.alone, head.trouble.is_some());
            if runs && self.policy.batch.apart && !self.policy.has(Bug::Together) {
                return Turn::Over;
            }
            if ticket.is_set() {
                if runs && !self.policy.has(Bug::TimerTogether) {
                    // What runs before it may cancel it.
                    return Turn::Over;
                }
                if !self.timer_stands(id, parked) {
                    continue;
                }
            }
            if let Some(turn) = self.no_place(id, &ticket, (runs, alone), most, *bytes) {
                return turn;
            }
            let unrun = if self.was_resolved(&ticket, failed, now, past) {
                Unrun::Duplicate(None)
            } else if failed && ticket.refused.is_none() {
                Unrun::Run
            } else {
                self.decide_unrun(id, &ticket, failed, now, (past, parked))
            };
            match unrun {
                Unrun::Run => {
                    *bytes += u64::from(ticket.size);
                    self.decide_version(&ticket);
                    self.start_head(id, now);
                    if alone {
                        return Turn::Full;
                    }
                    // It failed before and may fail again: what is behind it would run only to be undone.
                    if failed {
                        return Turn::Over;
                    }
                }
                // Settling now would overtake what of its lane runs in this batch.
                _ if runs => return Turn::Over,
                Unrun::Duplicate(of) => self.settle_head(id, Fate::Duplicate { of }, settled),
                Unrun::Park(number) => self.park_follower(id, number, settled),
                Unrun::Known => self.settle_head(id, Fate::ParkedBefore, settled),
                Unrun::Bury(reason, failure) => {
                    self.bury_head(id, reason, failure, now, settled);
                    return Turn::Over;
                }
            }
        }
        Turn::More
    }

    /// How the turn of a lane ends whose first message has no place in this batch.
    fn no_place(
        &self,
        lane: Place,
        ticket: &Ticket,
        (runs, alone): (bool, bool),
        most: usize,
        bytes: u64,
    ) -> Option<Turn> {
        if !self.joins(ticket) {
            return Some(if runs { Turn::Over } else { Turn::Aside });
        }
        let too_much = bytes + u64::from(ticket.size) > self.policy.batch.max_bytes;
        let most = most.min(self.most_on_trial(CALL_TARGET_US));
        // A message that may have made the handler fail shares its call with nobody.
        if self.running.len() >= most || !self.running.is_empty() && (alone || too_much) {
            return Some(Turn::Full);
        }
        (runs && self.waits_for_twin(lane, ticket.id)).then_some(Turn::Over)
    }

    /// Whether it may be a duplicate of one that runs in this batch: whether that succeeds must be known first.
    fn waits_for_twin(&self, lane: Place, id: Option<MessageId>) -> bool {
        !self.policy.has(Bug::TwinsTogether)
            && id.is_some()
            && self.running.iter().any(|s| s.lane == lane && s.item.ticket.id == id)
    }

    /// Without transactions: whether a parked message has run already, and all that it did is written but its tombstone. Its own id
    /// tells: where nobody acts by hand, none that is the same can have come before it.
    fn was_resolved(&self, ticket: &Ticket, failed: bool, now: Now, past: &dyn Past) -> bool {
        let own = ticket.parked > 0 && failed && self.policy.keeps_ids() && !self.policy.takes_commands();
        own && ticket.id.is_some_and(|id| past.contains(ticket.task(), id, now))
    }

    pub(super) fn decide_unrun(
        &mut self,
        lane: Place,
        ticket: &Ticket,
        failed: bool,
        now: Now,
        (past, parked): Ask<'_, M>,
    ) -> Unrun {
        if !ticket.is_detached() && self.parking.is_some() {
            match self.arrival(lane, ticket, parked) {
                Arrival::Runs => {}
                Arrival::Precedes => {
                    if let Some(head) = self.lanes.get(lane).and_then(|lane| lane.queue.front_mut()) {
                        head.stays = true;
                    }
                }
                Arrival::Follows(number) => return Unrun::Park(number),
                Arrival::Known => return Unrun::Known,
            }
        }
        let task = if self.policy.has(Bug::IdOfInput) { ticket.partition } else { ticket.task() };
        // What has failed was no duplicate, and what was a dead letter before is marked itself.
        if let (Some(seen), Some(id), false) = (&self.seen, ticket.id, failed) {
            if let Some(of) = seen.other(task, id, (ticket.partition, ticket.offset), now.wall_ms) {
                return Unrun::Duplicate(Some(of));
            }
            if self.policy.keeps_ids() && past.contains(task, id, now) {
                return Unrun::Duplicate(None);
            }
        }
        match self.refusal(ticket, now) {
            Some((reason, failure)) => Unrun::Bury(reason, failure),
            None => Unrun::Run,
        }
    }

    /// Settles a lane's first message, which does not run.
    pub(super) fn settle_head(&mut self, id: Place, fate: Fate, settled: &mut Vec<Settled<M>>) {
        if let Some(Item { ticket, message, .. }) = self.lanes.get(id).and_then(|l| l.queue.pop_front()) {
            self.resolve(&ticket);
            settled.push(Settled::bare(ticket, message, fate, 0));
        }
    }

    fn bury_head(&mut self, id: Place, reason: Reason, failure: Failure, now: Now, settled: &mut Vec<Settled<M>>) {
        if let Some(mut item) = self.lanes.get(id).and_then(|l| l.queue.pop_front()) {
            item.trouble.get_or_insert_default().failure = failure;
            let buried = self.bury(id, item, reason, now);
            settled.push(buried);
        }
    }

    fn start_head(&mut self, id: Place, now: Now) {
        let Some(lane) = self.lanes.get(id) else { return };
        let Some(item) = lane.queue.pop_front() else { return };
        lane.phase = Phase::Running;
        if self.policy.has(Bug::SeenBeforeSuccess) {
            self.mark_seen(&Ticket { offset: -1, ..item.ticket }, now);
        }
        let timer = self.timer_key(&item.ticket);
        self.running.push(Slot { lane: id, item, timer });
    }
}
