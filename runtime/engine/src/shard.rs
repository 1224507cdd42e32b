//! A shard: the lanes of its keys, and what runs next.
//!
//! A lane is open while it holds a message. Its head runs, waits for a retry, or waits until its dead letter is
//! acknowledged; what is behind it waits. One call of the handler is under way at a time.

mod batch;
mod burial;
mod complete;
mod inbox;
mod lanes;
mod parked;
mod timers;
mod trial;
mod watch;

pub use batch::{Delivery, Next, Plan};
pub use complete::{CallFailure, Outcome, Report, Retried, Settled};
pub use inbox::Order;
pub use trial::{Evidence, Overruled, Runs, Trial};

use crate::dedup::Seen;
use crate::message::{Company, Epitaph, Epoch, Failure, Fate, MessageId, Now, Partition, Reason, Ticket};
use crate::planted::Bug;
use crate::policy::{Guarantee, Policy, Spent};
use crate::ranges::Ranges;
use crate::state::{self, Change, Overlay, Staged};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;
use lanes::{Item, LaneId, Lanes, Phase, Place, Trouble};
use parked::Parking;
use timers::Timing;
use trial::Trying;
use watch::Watch;

/// See [`Shard::open`].
pub const NOTHING_SEEN: i64 = i64::MIN;

/// One message of the batch under way.
#[derive(Debug)]
struct Slot<M> {
    lane: Place,
    item: Item<M>,
    /// It is a timer, with this key of its record.
    timer: Option<Arc<[u8]>>,
}

/// Decides for the lanes of one shard. `M` is the payload, which the engine only hands on.
#[derive(Debug)]
pub struct Shard<M> {
    policy: Policy,
    /// By task.
    epochs: BTreeMap<Partition, Epoch>,
    /// The last epoch of a task that was closed.
    closed: BTreeMap<Partition, Epoch>,
    lanes: Lanes<M>,
    /// Lanes whose head may run, in turn.
    ready: VecDeque<Place>,
    /// When heads that wait for a retry are due.
    due: BTreeSet<(u64, Place)>,
    /// Lanes that wait until the dead letter of this offset is acknowledged.
    letters: BTreeMap<(Partition, i64), Place>,
    running: Vec<Slot<M>>,
    /// Kept for its room; empty between calls.
    touched: Vec<Place>,
    seen: Option<Seen>,
    /// What is settled and not known to be kept; lent to a call while it runs.
    state: Option<Overlay>,
    /// What the last call staged.
    staged: Staged,
    /// Tasks whose state is to be dropped when it comes back.
    over: Vec<Partition>,
    random: u64,
    /// Since when something is ready that no batch has taken.
    ready_since_ms: Option<u64>,
    fresh_messages: u32,
    fresh_bytes: u64,
    /// Smoothed cost of one message, in microseconds; 0 until measured.
    cost_us: u64,
    /// With [`Batch::apart`](crate::policy::Batch::apart): no call holds more than twice as many.
    proven: u32,
    /// A call of several failed as a whole: what a call holds grows slowly since.
    careful: bool,
    /// See [`Shard::serve`].
    version: u32,
    /// See [`Shard::tell_retries`].
    retried: Option<Vec<Retried>>,
    /// With parking.
    parking: Option<Parking>,
    /// With timers.
    timing: Option<Timing>,
    /// See [`Shard::condemn`].
    condemned: BTreeMap<Partition, Vec<i64>>,
    /// With a breaker.
    watch: Option<Watch>,
    /// While a version is on trial.
    trying: Option<Box<Trying>>,
}

/// How full a shard is: for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    /// Lanes that hold a message.
    pub lanes: usize,
    /// Lanes whose head waits for a retry.
    pub waiting: usize,
    /// Lanes that wait for the acknowledgement of a dead letter.
    pub letters: usize,
    /// Ids remembered.
    pub ids: usize,
    /// Ids forgotten before their time, for want of room, since the start.
    pub ids_forgotten_early: u64,
}

impl<M> Shard<M> {
    /// A shard without work. `seed` feeds the jitter and the tables' hashes.
    #[must_use]
    pub fn new(policy: Policy, seed: u64) -> Self {
        let keeps_ids = policy.keeps_ids();
        let seen = policy
            .dedup
            .as_ref()
            .map(|d| if keeps_ids { Seen::until_passed_on(seed) } else { Seen::new(d.window_ms, d.capacity, seed) });
        let state = policy.keeps_state().then(|| Overlay::new(seed));
        #[cfg(feature = "planted")]
        let state = state.map(|state| state.with_planted(policy.planted));
        let parking = policy.parks().then(|| Parking::new(seed, policy.guarantee == Guarantee::ExactlyOnce));
        let timing = policy.has_timers().then(Timing::new);
        let watch = Watch::new(&policy);
        Self {
            policy,
            epochs: BTreeMap::new(),
            closed: BTreeMap::new(),
            lanes: Lanes::new(),
            ready: VecDeque::new(),
            due: BTreeSet::new(),
            letters: BTreeMap::new(),
            running: Vec::new(),
            touched: Vec::new(),
            seen,
            state,
            staged: Staged::default(),
            over: Vec::new(),
            random: seed,
            ready_since_ms: None,
            fresh_messages: 0,
            fresh_bytes: 0,
            cost_us: 0,
            proven: batch::FIRST_MESSAGES / 2,
            careful: false,
            version: 0,
            retried: None,
            parking,
            timing,
            condemned: BTreeMap::new(),
            watch,
            trying: None,
        }
    }

    /// From the next batch on this version of the handler serves; dead letters name the one that failed them. Versions
    /// are whatever numbers the caller counts them by; the first is 0.
    pub fn serve(&mut self, version: u32) {
        self.version = version;
    }

    /// From now on [`Shard::retried`] tells what will run again.
    pub fn tell_retries(&mut self) {
        self.retried.get_or_insert_default();
    }

    /// What failed in the last call and will run again, once; empty unless [`Shard::tell_retries`] was called.
    pub fn retried(&mut self) -> Vec<Retried> {
        self.retried.as_mut().map(core::mem::take).unwrap_or_default()
    }

    /// A partition starts, or starts anew with `settled` above its start. Must come before the first message of its task: all
    /// partitions of a task start one after the other, in one epoch, and what was there of it goes with the first.
    ///
    /// What was seen below `seen_below` stays seen. For a rewind that is its start; where it starts anew from what is
    /// committed, [`Opened::seen_below`](crate::intake::Opened::seen_below). For a new assignment it is
    /// [`NOTHING_SEEN`]: somebody else may have had the partition meanwhile and committed past input that was lost, so
    /// that what this process once saw was never done by anybody.
    pub fn open(&mut self, partition: Partition, epoch: Epoch, seen_below: i64, settled: &Ranges) {
        // It was closed before it came in: two threads write to a shard's inbox.
        let task = self.policy.order.task(partition);
        if self.closed.get(&task).is_some_and(|closed| *closed >= epoch) && !self.policy.has(Bug::OpenAfterClose) {
            return;
        }
        if self.epochs.insert(task, epoch) != Some(epoch) {
            self.purge(task);
            if let Some(seen) = &mut self.seen
                && self.policy.keeps_ids()
                && !self.policy.has(Bug::KeepUncommittedSeen)
            {
                // What is committed is not held here.
                seen.forget(task);
            }
        }
        if let Some(seen) = &mut self.seen
            && !self.policy.keeps_ids()
            && !self.policy.has(Bug::KeepUncommittedSeen)
        {
            // Of an earlier assignment: a map may cover the gap where compaction took what this process once ran.
            let nothing = Ranges::new();
            seen.restart(partition, seen_below, if seen_below == NOTHING_SEEN { &nothing } else { settled });
        }
    }

    /// A partition is taken away, and its task with it: what has not started is dropped, unsettled. What runs is finished. A
    /// later epoch than this one is left alone; this one and earlier ones never open again.
    pub fn close(&mut self, partition: Partition, epoch: Epoch) {
        let task = self.policy.order.task(partition);
        self.closed.insert(task, epoch);
        if self.epochs.get(&task).is_some_and(|present| *present <= epoch) {
            self.purge(task);
            self.epochs.remove(&task);
            self.condemned.remove(&partition);
        }
    }

    fn purge(&mut self, task: Partition) {
        if self.policy.has(Bug::KeepLanesAtRevoke) {
            return;
        }
        let lanes = &mut self.lanes;
        self.ready.retain(|place| !lanes.is_of(*place, task));
        self.due.retain(|(_, place)| !lanes.is_of(*place, task));
        let order = &self.policy.order;
        self.letters.retain(|(partition, _), _| order.task(*partition) != task);
        lanes.remove_task(task);
        self.drop_disputes(task);
        if let Some(parking) = &mut self.parking {
            parking.purge(task);
        }
        if let Some(timing) = &mut self.timing {
            timing.purge(task);
        }
        match &mut self.state {
            _ if self.policy.has(Bug::KeepUncommittedState) => {}
            Some(state) => state.drop_task(task),
            None if self.policy.keeps_state() => self.over.push(task),
            None => {}
        }
    }

    /// Takes a message in. `false`: it belongs to no present assignment and was dropped.
    pub fn accept(&mut self, ticket: Ticket, message: M, now: Now) -> bool {
        let present = self.epochs.get(&ticket.task()) == Some(&ticket.epoch);
        if !present && !self.policy.has(Bug::KeepLanesAtRevoke) {
            return false;
        }
        let id = LaneId { task: ticket.task(), hash: ticket.lane };
        self.fresh_messages += 1;
        self.fresh_bytes += u64::from(ticket.size);
        let (place, lane) = self.lanes.open(id);
        lane.queue.push_back(Item { ticket, message, trouble: None, alone: ticket.alone, stays: false });
        if lane.phase == Phase::Idle {
            lane.phase = Phase::Ready;
            self.ready.push_back(place);
            self.ready_since_ms.get_or_insert(now.steady_ms);
        }
        if let Phase::Waiting(due_ms) = lane.phase {
            self.crowd(place, due_ms);
        }
        true
    }

    /// The next [`Shard::wake_timers`] looks, though it has looked a moment ago: for a clock that stands still between two things that
    /// are due.
    pub fn look_for_timers_again(&mut self) {
        if let Some(timing) = &mut self.timing {
            timing.look_ms = 0;
        }
    }

    /// A dead letter was acknowledged: its lane goes on. One that is unknown by now is ignored.
    pub fn letter_acknowledged(&mut self, partition: Partition, epoch: Epoch, offset: i64) {
        if self.epochs.get(&self.policy.order.task(partition)) != Some(&epoch) {
            return;
        }
        if let Some(place) = self.letters.remove(&(partition, offset)) {
            self.go_on(place);
        }
    }

    /// These ids are committed, and [`Past`](crate::dedup::Past) answers for them from now on.
    pub fn marked(&mut self, task: Partition, ids: &[MessageId]) {
        if let Some(seen) = &mut self.seen {
            seen.pass_on(task, ids);
        }
    }

    /// State as the call that is about to begin sees it; [`Shard::return_state`] takes it back, before anything is said of
    /// the call's end. `None`: handlers have none, or it is lent already.
    pub fn lend_state(&mut self) -> Option<state::Call> {
        let mut call = state::Call::new(self.state.take()?);
        self.stage_gone(&mut call);
        Some(call)
    }

    /// The call has ended: what its slots staged counts for those that stand.
    pub fn return_state(&mut self, call: state::Call) {
        let (mut overlay, staged) = call.end();
        self.over.drain(..).for_each(|task| overlay.drop_task(task));
        (self.state, self.staged) = (Some(overlay), staged);
    }

    /// These changes are committed, and [`Kept`](state::Kept) answers for them from now on. Not while state is lent.
    pub fn kept(&mut self, task: Partition, changes: &[Change]) {
        if let Some(timing) = &mut self.timing {
            timing.kept(task, changes, self.policy.has(Bug::LookOnce));
        }
        let Some(state) = &mut self.state else { return };
        if self.policy.has(Bug::PassOnNewer) {
            let newer = |change: &Change| Change { number: u64::MAX, ..change.clone() };
            return state.pass_on(task, &changes.iter().map(newer).collect::<Vec<_>>());
        }
        state.pass_on(task, changes);
    }

    /// How many names have a change that is not known to be kept; counts them all. 0 while state is lent.
    #[must_use]
    pub fn changes_held(&self) -> usize {
        self.state.as_ref().map_or(0, Overlay::len)
    }

    /// What a slot that stands has changed.
    fn changes(&mut self, ticket: &Ticket, slot: u32) -> Vec<Change> {
        let Some(state) = &mut self.state else { return Vec::new() };
        match self.epochs.get(&ticket.task()) {
            Some(present) if *present == ticket.epoch => self.staged.stand(slot, state),
            // It has started anew: nothing of before will be published.
            Some(_) => Vec::new(),
            // It was closed while the call ran. What ran is still committed, and nobody here will ask for it.
            None => {
                let changes = self.staged.stand(slot, state);
                state.drop_task(ticket.task());
                changes
            }
        }
    }

    /// Makes a lane ready again, or closes it when it is empty.
    fn go_on(&mut self, place: Place) {
        let Some(lane) = self.lanes.get(place) else { return };
        if lane.queue.is_empty() && lane.drained.is_none() {
            self.lanes.close(place);
        } else {
            lane.phase = Phase::Ready;
            self.ready.push_back(place);
            // It has waited already.
            self.ready_since_ms = Some(0);
        }
    }

    /// Marks an id, if the message has one.
    fn mark_seen(&mut self, ticket: &Ticket, now: Now) {
        if let (Some(seen), Some(id)) = (&mut self.seen, ticket.id) {
            let task = if self.policy.has(Bug::IdOfInput) { ticket.partition } else { ticket.task() };
            seen.mark(task, id, (ticket.partition, ticket.offset), now.wall_ms);
        }
    }

    /// Settles a message as failed for good: the lane stays shut until its dead letter is acknowledged.
    fn bury(&mut self, place: Place, item: Item<M>, reason: Reason, now: Now) -> Settled<M> {
        let Item { ticket, message, trouble, .. } = item;
        let trouble = trouble.map(|t| *t).unwrap_or_default();
        let attempts = trouble.history.attempts;
        let epitaph = self.epitaph(reason, trouble, now);
        self.mark_seen(&ticket, now);
        self.resolve(&ticket);
        let discard = self.policy.retry.then == Spent::Discard && reason.is_of_retries();
        if let Some(lane) = self.lanes.get(place) {
            lane.follows_dead_letter = true;
            if discard || self.policy.has(Bug::OpenBeforeLetterAck) {
                // One that runs goes on once what is undone is back in it: closed now, it would lose that.
                if lane.phase != Phase::Running || self.policy.has(Bug::LoseUndone) {
                    self.go_on(place);
                }
            } else {
                lane.phase = Phase::Letter;
                self.letters.insert((ticket.partition, ticket.offset), place);
            }
        }
        let fate = if discard { Fate::Discarded(epitaph) } else { Fate::DeadLetter(epitaph) };
        let mut settled = Settled::bare(ticket, message, fate, attempts);
        self.unset_timer(&mut settled);
        settled
    }

    /// What the dead letter of a message tells that goes alone.
    fn epitaph(&self, reason: Reason, trouble: Trouble, now: Now) -> Box<Epitaph> {
        let Trouble { history, failure, .. } = trouble;
        let first_failed_ms = history.first_failed_ms.unwrap_or(now.wall_ms);
        let (attempts, version, company) = (history.attempts, Some(self.version), Company::Alone);
        Box::new(Epitaph { reason, failure, attempts, first_failed_ms, version, company })
    }

    /// Why an unrun message must not run, if so.
    fn refusal(&self, ticket: &Ticket, now: Now) -> Option<(Reason, Failure)> {
        if ticket.refused == Some(Reason::Undeliverable) {
            // The ledger knows why.
            return Some((Reason::Undeliverable, Failure { code: "undeliverable".to_string(), ..Failure::default() }));
        }
        if ticket.refused == Some(Reason::Undecodable) {
            let detail =
                "its parked record can't be read: somebody else has written over it. It is the value here".to_string();
            return Some((Reason::Undecodable, Failure { code: "undecodable".to_string(), detail }));
        }
        if let Some(reason) = ticket.refused {
            let detail = "it has no id, and dedup.absent is \"dead-letter\"".to_string();
            return Some((reason, Failure { code: "no-id".to_string(), detail }));
        }
        // A timer is as young as it is due.
        let limit = self.policy.expires_after_ms.filter(|_| !ticket.is_timer())?;
        let age = u64::try_from(now.wall_ms.saturating_sub(ticket.timestamp_ms)).unwrap_or(0);
        (ticket.timestamp_ms >= 0 && age > limit).then(|| {
            let detail = alloc::format!("{age} ms old, and expires-after is {limit} ms");
            (Reason::Expired, Failure { code: "expired".to_string(), detail })
        })
    }

    /// Whether so many messages, or more, stand in lanes that may run.
    #[must_use]
    pub fn has_work(&self, messages: usize) -> bool {
        let mut found = 0;
        self.ready.iter().any(|place| {
            found += self.lanes.waiting(*place);
            found >= messages
        })
    }

    /// How full the shard is.
    #[must_use]
    pub fn load(&self) -> Load {
        Load {
            lanes: self.lanes.len(),
            waiting: self.due.len(),
            letters: self.letters.len(),
            ids: self.seen.as_ref().map_or(0, Seen::len),
            ids_forgotten_early: self.seen.as_ref().map_or(0, Seen::forgotten_early),
        }
    }
}

#[cfg(test)]
mod tests;
