//! Lanes that have messages in the retry topic.
//!
//! What is committed of them is asked for ([`Parked`]); what is decided and not known to be committed is here. While the first
//! message of such a lane waits, the lane is closed, and what arrives for it is parked behind it. When it is due the lane
//! *drains*: its parked messages are loaded in their order, a few at a time, before all that arrived since. None of them is
//! loaded twice, since numbers grow; and one that is written anew only runs again once that is committed.

use super::lanes::{Item, LaneId, Phase, Place, Trouble};
use super::{Settled, Shard};
use crate::message::{Epoch, Failure, Fate, Now, Partition, Reason, Ticket};
use crate::order::shard_of;
use crate::parking::{AT_ONCE, Change, Due, First, HELD, Loaded, Parked, Waiting};
use crate::planted::Bug;
use crate::retry::History;
use crate::tracker::Progress;
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use foldhash::fast::FixedState;
use hashbrown::HashMap;

/// So many lanes drain at the same time, at most. With the next two this bounds what is loaded.
const DRAINS: usize = 64;
/// So many messages of one are loaded at a time.
const CHUNK: usize = 64;
/// And so many bytes.
const CHUNK_BYTES: u64 = 32 << 10;
/// Lanes that are due are asked for in pages.
const PAGE: usize = 64;
/// What is due is looked for at least this often: the wall clock may jump.
const LOOK_MS: u64 = 500;
/// And this often while lanes that are due can't drain.
const LOOK_AGAIN_MS: u64 = 20;

/// What of a lane is decided and not known to be committed.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pending {
    /// Numbers up to this one are resolved.
    pub(super) resolved: u64,
    /// The highest number that was given; 0: none.
    pub(super) last: u64,
    /// From this number on nothing is known to be committed; 0: all is. Another thread may have made it known to [`Parked`]
    /// already.
    unknown: u64,
    /// Its first message has this number, and is written anew: what is committed of the lane is not to be run.
    pub(super) stale: u64,
    /// Changes without word of their commit.
    pub(super) open: u32,
}

impl Pending {
    /// Whether what has this number is known to be committed.
    pub(super) const fn knows(&self, number: u64) -> bool {
        self.unknown == 0 || number < self.unknown
    }

    /// The next number is given.
    pub(super) const fn give(&mut self, number: u64) {
        self.last = number;
        if self.unknown == 0 {
            self.unknown = number;
        }
    }
}

/// Of the lanes of a shard.
#[derive(Debug)]
pub(super) struct Parking {
    lanes: HashMap<LaneId, Pending, FixedState>,
    /// Lanes that drain, or did.
    drains: BTreeSet<Place>,
    /// Steady time of the next look for what is due.
    look_ms: u64,
    /// More lanes are due than may drain at the same time.
    full: bool,
    /// The partition that was looked at last.
    turn: Option<Partition>,
    /// The shard's number, and how many there are.
    place: (u32, u32),
    /// Messages that are dropped by hand, without word of the commit.
    pub(super) dropped: BTreeSet<(LaneId, u64)>,
    /// Lanes that were open when somebody sent a message of theirs back, and its number: what runs in one, and is parked then,
    /// stands behind that, though it is long committed.
    pub(super) behind: BTreeMap<Place, u64>,
    /// Dead letters that are to run again, the same.
    pub(super) returned: BTreeSet<(Partition, i64)>,
    /// Without transactions: what of each partition the group's commit covers, as far as that matters.
    covered: Option<BTreeMap<Partition, Covered>>,
}

/// What the group's commit covers of a partition. `None`: all that may be parked.
type Covered = (Epoch, Option<Progress>);

impl Parking {
    pub(super) fn new(seed: u64, transactions: bool) -> Self {
        Self {
            covered: (!transactions).then(BTreeMap::new),
            lanes: HashMap::with_hasher(FixedState::with_seed(seed)),
            drains: BTreeSet::new(),
            look_ms: 0,
            full: false,
            turn: None,
            place: (0, 1),
            dropped: BTreeSet::new(),
            behind: BTreeMap::new(),
            returned: BTreeSet::new(),
        }
    }

    pub(super) fn change(&mut self, id: LaneId) -> &mut Pending {
        self.lanes.entry(id).or_default()
    }

    pub(super) fn pending(&self, id: LaneId) -> Pending {
        self.lanes.get(&id).copied().unwrap_or_default()
    }

    pub(super) const fn next_look_ms(&self) -> u64 {
        self.look_ms
    }

    /// A call has ended: there may be room for more lanes.
    pub(super) const fn look_if_full(&mut self) {
        if self.full {
            self.look_ms = 0;
        }
    }

    /// Whether a commit covers this message. Where none does it comes from the input once more: until then it must not run.
    fn is_covered(&self, task: Partition, epoch: Epoch, offset: i64) -> bool {
        let Some(covered) = &self.covered else { return true };
        let known = covered.get(&task).filter(|(of, _)| *of == epoch);
        let within = |progress: &Progress| offset < progress.point || progress.settled.contains(offset);
        known.is_some_and(|(_, progress)| progress.as_ref().is_none_or(within))
    }

    /// The number of a message that is parked, at least. Without transactions it follows from its offset: whoever parks it gives it
    /// the same place, also where others of its lane are parked that come from the input once more behind it.
    fn least_number(&self, offset: i64) -> u64 {
        let own = u64::try_from(offset.saturating_add(1)).unwrap_or(1);
        if self.covered.is_some() { own.max(1) } else { 1 }
    }

    pub(super) fn purge(&mut self, task: Partition) {
        self.lanes.retain(|id, _| id.task != task);
        self.dropped.retain(|(id, _)| id.task != task);
        self.returned.retain(|(partition, _)| *partition != task);
    }
}

/// What becomes of a message that was read, by what is parked of its lane.
pub(super) enum Arrival {
    /// Nothing of its lane is parked.
    Runs,
    /// What is parked of its lane comes behind it, since the group was moved back. If it fails it waits in memory: there is
    /// no place for it before what is parked.
    Precedes,
    /// It waits behind others, with this number.
    Follows(u64),
    /// It is parked itself.
    Known,
}

/// The papers of a parked message.
pub(super) fn ticket<M>(id: LaneId, epoch: Epoch, loaded: &Loaded<M>) -> Ticket {
    Ticket {
        partition: id.task,
        shared: false,
        offset: loaded.offset,
        epoch,
        lane: id.hash,
        id: loaded.id,
        refused: loaded.refused,
        alone: false,
        parked: loaded.waiting.number,
        size: loaded.size,
        timestamp_ms: loaded.timestamp_ms,
    }
}

impl<M> Shard<M> {
    /// Of how many shards this is which, counted from 0. Before its first message.
    pub fn stands_at(&mut self, number: u32, shards: u32) {
        if let Some(parking) = &mut self.parking {
            parking.place = (number, shards.max(1));
        }
        if let Some(timing) = &mut self.timing {
            timing.place = (number, shards.max(1));
        }
    }

    /// What the messages of these offsets send will never be taken: if they are parked, or timers, they don't run, as
    /// [`Intake::condemn`](crate::intake::Intake::condemn) has it for those that are read. In ascending order; replaces what
    /// was condemned before. Comes before [`Shard::open`].
    pub fn condemn(&mut self, partition: Partition, offsets: Vec<i64>) {
        if self.parking.is_some() || self.timing.is_some() {
            self.condemned.insert(partition, offsets);
        }
    }

    /// Without transactions: the group's commit covers so much of this assignment; `None`: all of which messages may be parked.
    /// Nothing that is parked runs before this was told. It may come before [`Shard::open`].
    pub fn covered(&mut self, partition: Partition, epoch: Epoch, progress: Option<Progress>) {
        let Some(parking) = &mut self.parking else { return };
        let Some(covered) = &mut parking.covered else { return };
        if covered.get(&partition).is_none_or(|(of, _)| *of <= epoch) {
            covered.insert(partition, (epoch, progress));
            parking.look_ms = 0;
        }
    }

    /// This is committed, and [`Parked`] answers for it from now on. Of another assignment than the present one it is nothing.
    pub fn parked(&mut self, partition: Partition, epoch: Epoch, changes: &[Change]) {
        let present = self.epochs.get(&partition) == Some(&epoch);
        let Some(parking) = self.parking.as_mut().filter(|_| present) else { return };
        for change in changes {
            let id = LaneId { task: partition, hash: change.lane };
            match change.written {
                Some(_) => parking.returned.remove(&(partition, change.offset)),
                None => parking.dropped.remove(&(id, change.number)),
            };
            let Some(pending) = parking.lanes.get_mut(&id) else { continue };
            pending.open = pending.open.saturating_sub(1);
            match change.written {
                Some(_) if change.number == pending.stale => pending.stale = 0,
                Some(_) if change.number < pending.last => pending.unknown = change.number + 1,
                Some(_) => pending.unknown = 0,
                // What was to be written anew can't be, and is resolved.
                None if change.number == pending.stale => pending.stale = 0,
                None => {}
            }
            if pending.open == 0 {
                parking.lanes.remove(&id);
            }
        }
        parking.look_ms = 0;
    }

    /// Lanes whose first parked message is due begin to drain.
    pub(super) fn wake_parked(&mut self, now: Now, parked: &dyn Parked<M>) {
        let Some(parking) = self.parking.as_mut().filter(|parking| now.steady_ms >= parking.look_ms) else { return };
        let Self { lanes, epochs, .. } = self;
        parking.drains.retain(|place| lanes.get(*place).is_some_and(|lane| lane.drained.is_some()));
        parking.behind.retain(|place, _| lanes.get(*place).is_some());
        let turn = parking.turn;
        parking.full = false;
        let later = epochs.keys().copied().filter(|p| turn.is_some_and(|turn| *p > turn));
        let partitions: Vec<Partition> =
            later.chain(epochs.keys().copied().filter(|p| turn.is_none_or(|t| *p <= t))).collect();
        let mut look_ms = now.steady_ms.saturating_add(LOOK_MS);
        for partition in partitions {
            let all = self.wake_partition(partition, now, parked);
            if !all {
                look_ms = look_ms.min(now.steady_ms.saturating_add(LOOK_AGAIN_MS));
            }
            if let Some(due_ms) = parked.next_due(partition, now.wall_ms) {
                let wait_ms = u64::try_from(due_ms.saturating_sub(now.wall_ms)).unwrap_or(0);
                look_ms = look_ms.min(now.steady_ms.saturating_add(wait_ms));
            }
        }
        if let Some(parking) = &mut self.parking {
            parking.look_ms = look_ms;
        }
    }

    /// `false`: some that are due can't drain now.
    fn wake_partition(&mut self, partition: Partition, now: Now, parked: &dyn Parked<M>) -> bool {
        let (mut after, mut all): (Option<Due>, bool) = (None, true);
        loop {
            let early_ms = if self.policy.has(Bug::DrainEarly) { 1_000 } else { 0 };
            let page = parked.due(partition, after, now.wall_ms.saturating_add(early_ms), PAGE);
            for (_, lane) in &page {
                let Some(parking) = &mut self.parking else { return true };
                if parking.drains.len() >= DRAINS {
                    (parking.turn, parking.full) = (Some(partition), true);
                    return false;
                }
                all &= self.wake_lane(LaneId { task: partition, hash: *lane }, now, parked);
            }
            if page.len() < PAGE {
                return all;
            }
            after = page.last().copied();
        }
    }

    /// `false`: it can't drain now.
    fn wake_lane(&mut self, id: LaneId, now: Now, parked: &dyn Parked<M>) -> bool {
        let Some(parking) = &mut self.parking else { return true };
        let (number, shards) = parking.place;
        let Some(epoch) = self.epochs.get(&id.task).copied().filter(|_| shard_of(id.hash, shards) == number) else {
            return true;
        };
        let pending = parking.pending(id);
        if pending.stale > 0 && !self.policy.has(Bug::DrainStale) {
            return true;
        }
        if let Some(place) = self.lanes.find(id) {
            return self.lanes.get(place).is_some_and(|lane| lane.drained.is_some());
        }
        let resolved = if self.policy.has(Bug::DrainResolved) { 0 } else { pending.resolved };
        let first = parked.first(id.task, id.hash, resolved + 1);
        let (early, uncovered) = (self.policy.has(Bug::DrainEarly), self.policy.has(Bug::DrainUncovered));
        let runs = |first: &First| {
            let covered = uncovered || parking.is_covered(id.task, epoch, first.offset);
            covered && pending.knows(first.number) && (first.due_ms <= now.wall_ms || early)
        };
        let Some(first) = first.filter(runs) else { return true };
        let (place, lane) = self.lanes.open(id);
        lane.drained = Some(first.number - 1);
        lane.phase = Phase::Ready;
        parking.drains.insert(place);
        self.ready.push_back(place);
        // It has waited long enough.
        self.ready_since_ms = Some(0);
        true
    }

    /// Loads what comes next of a lane that drains and is due, before all else that is in it.
    pub(super) fn load_parked(&mut self, place: Place, now: Now, parked: &dyn Parked<M>) {
        let Some(lane) = self.lanes.get(place) else { return };
        let (id, Some(taken)) = (lane.id(), lane.drained) else { return };
        let Some(epoch) = self.epochs.get(&id.task).copied() else { return };
        let loaded = parked.read(id.task, id.hash, taken + 1, CHUNK, CHUNK_BYTES);
        let (early, uncovered) = (self.policy.has(Bug::DrainEarly), self.policy.has(Bug::DrainUncovered));
        let Some(parking) = &self.parking else { return };
        let pending = parking.pending(id);
        // By command the next one may be written anew while its lane drains.
        let stale = pending.stale > 0 && !self.policy.has(Bug::DrainStale);
        let due = |message: &Loaded<M>| {
            let Waiting { number, due_ms, .. } = message.waiting;
            let covered = uncovered || parking.is_covered(id.task, epoch, message.offset);
            covered && pending.knows(number) && (due_ms <= now.wall_ms || early) && !(stale && number >= pending.stale)
        };
        let due: Vec<Loaded<M>> = loaded.into_iter().take_while(due).collect();
        let Some(last) = due.last().map(|message| message.waiting.number) else { return };
        lane.drained = Some(last);
        let (condemned, runs_dropped) = (self.condemned.get(&id.task), self.policy.has(Bug::RunDropped));
        for loaded in due.into_iter().rev() {
            let mut ticket = ticket(id, epoch, &loaded);
            let is_dropped = |parking: &Parking| parking.dropped.contains(&(id, ticket.parked));
            if self.parking.as_ref().is_some_and(is_dropped) && !runs_dropped {
                continue;
            }
            if condemned.is_some_and(|all| all.binary_search(&ticket.offset).is_ok()) {
                ticket.refused = Some(Reason::Undeliverable);
            }
            let Loaded { waiting: Waiting { history, failure, given_up, .. }, message, .. } = loaded;
            let forgets = self.policy.has(Bug::ForgetAttempts);
            let trouble = (history.first_failed_ms.is_some() && !forgets)
                .then(|| Box::new(Trouble { history, failure, given_up, spent: false }));
            lane.queue.push_front(Item { ticket, message, trouble, alone: false, stays: false });
        }
    }

    /// What becomes of a message that was read, and is the next of its lane.
    pub(super) fn arrival(&mut self, place: Place, ticket: &Ticket, parked: &dyn Parked<M>) -> Arrival {
        let Some(parking) = &self.parking else { return Arrival::Runs };
        let id = LaneId { task: ticket.task(), hash: ticket.lane };
        let pending = parking.pending(id);
        let drained = self.lanes.get(place).and_then(|lane| lane.drained).unwrap_or(0);
        let taken = drained.max(pending.resolved);
        let first = parked.first(id.task, id.hash, taken + 1);
        let uncommitted = pending.last > taken && !self.policy.has(Bug::OvertakeUncommitted);
        if first.is_none() && !uncommitted || self.policy.has(Bug::OvertakeParked) {
            return Arrival::Runs;
        }
        if parked.stands(ticket.partition, ticket.offset).is_some() {
            return Arrival::Known;
        }
        // What comes once more may be parked between those that are.
        let behind = uncommitted && self.parking.as_ref().is_some_and(|parking| parking.covered.is_some());
        if first.is_some_and(|first| ticket.offset < first.offset) && !behind {
            return Arrival::Precedes;
        }
        Arrival::Follows(self.number_of(id, ticket.offset, parked))
    }

    /// The number of a message that is parked behind others of its lane.
    fn number_of(&mut self, id: LaneId, offset: i64, parked: &dyn Parked<M>) -> u64 {
        let Some(parking) = &self.parking else { return 1 };
        let (least, pending) = (parking.least_number(offset), parking.pending(id));
        let last = parked.last(id.task, id.hash).filter(|last| *last >= least);
        // Under another guarantee numbers were counted: then what comes later has a higher one all the same.
        let by_offset = |last: &u64| {
            let loaded = parked.read(id.task, id.hash, *last, 1, 0);
            loaded.first().is_some_and(|loaded| parking.least_number(loaded.offset) == *last)
        };
        if least > 1 && last.as_ref().is_none_or(by_offset) {
            return least.max(pending.last + 1);
        }
        self.next_number(id, parked).max(least)
    }

    /// The number of what is parked next behind all that is parked of a lane.
    pub(super) fn next_number(&mut self, id: LaneId, parked: &dyn Parked<M>) -> u64 {
        let Some(parking) = &self.parking else { return 1 };
        let pending = parking.pending(id);
        let taken = self.drained(id).unwrap_or(0).max(pending.resolved);
        // What is given up with the first one may be gone already, and its number must not come again while that one is there.
        let first = parked.first(id.task, id.hash, 0).filter(|_| !self.policy.has(Bug::NumberOfGivenUp));
        let taken = taken.max(first.map_or(0, |first| first.until));
        parked.last(id.task, id.hash).unwrap_or(0).max(pending.last).max(taken) + 1
    }

    /// Up to which number the messages of a lane are loaded, if it drains.
    pub(super) fn drained(&mut self, id: LaneId) -> Option<u64> {
        let place = self.lanes.find(id)?;
        self.lanes.get(place)?.drained
    }

    /// Parks the message that failed and was the first of its lane. Its lane goes on with what arrived, once nothing of it
    /// runs: what was loaded is still parked.
    pub(super) fn park_failed(&mut self, place: Place, item: Item<M>, due_ms: u64, now: Now) -> Settled<M> {
        let wait_ms = i64::try_from(due_ms.saturating_sub(now.steady_ms)).unwrap_or(i64::MAX);
        self.park(place, item, now.wall_ms.saturating_add(wait_ms).min(HELD - 1))
    }

    /// The same, until this time by the wall clock, or [`HELD`].
    pub(super) fn park(&mut self, place: Place, item: Item<M>, due_ms: i64) -> Settled<M> {
        let Item { ticket, message, trouble, .. } = item;
        let Trouble { history, failure, given_up, .. } = trouble.map(|t| *t).unwrap_or_default();
        let id = LaneId { task: ticket.task(), hash: ticket.lane };
        let mut taken = 0;
        if let Some(lane) = self.lanes.get(place) {
            taken = lane.drained.take().unwrap_or(0);
            lane.queue.retain(|item| item.ticket.parked == 0);
        }
        if let Some(behind) = self.parking.as_ref().and_then(|parking| parking.behind.get(&place)) {
            taken = taken.max(*behind);
        }
        let mut given = ticket.parked;
        if let Some(parking) = &mut self.parking {
            let least = parking.least_number(ticket.offset);
            let pending = parking.lanes.entry(id).or_default();
            if given == 0 {
                given = (pending.last.max(pending.resolved).max(taken) + 1).max(least);
                pending.give(given);
            } else {
                pending.stale = given;
            }
            pending.open += 1;
        }
        let attempts = history.attempts;
        let waiting = Waiting { number: given, due_ms, history, failure, given_up };
        let fate = Fate::Parked(Box::new(waiting));
        self.set_no_more(Settled::bare(ticket, message, fate, attempts))
    }

    /// Another message waits behind the first of a lane, which waits in memory until then. When they are too many, all are
    /// parked, unless there is no place for it.
    pub(super) fn crowd(&mut self, place: Place, due_ms: u64) {
        if self.parking.is_none() {
            return;
        }
        let most = self.policy.retry.in_place_most;
        let marked = self.lanes.mark(place).is_some();
        let Some(lane) = self.lanes.get(place) else { return };
        if lane.queue.len() > most && !marked && !lane.queue.front().is_some_and(|head| head.stays) {
            lane.phase = Phase::Crowded(due_ms);
            self.due.remove(&(due_ms, place));
            self.ready.push_back(place);
            self.ready_since_ms = Some(0);
        }
    }

    /// Parks the first message of a lane that is crowded.
    pub(super) fn park_crowded(&mut self, place: Place, due_ms: u64, now: Now, settled: &mut Vec<Settled<M>>) {
        let Some(lane) = self.lanes.get(place) else { return };
        lane.phase = Phase::Ready;
        if let Some(item) = lane.queue.pop_front() {
            settled.push(self.park_failed(place, item, due_ms, now));
        }
    }

    /// Parks the first message of a lane behind those that are parked of it.
    pub(super) fn park_follower(&mut self, place: Place, number: u64, settled: &mut Vec<Settled<M>>) {
        let Some(item) = self.lanes.get(place).and_then(|lane| lane.queue.pop_front()) else { return };
        let Item { ticket, message, .. } = item;
        if let Some(parking) = &mut self.parking {
            let pending = parking.lanes.entry(LaneId { task: ticket.task(), hash: ticket.lane }).or_default();
            pending.give(number);
            pending.open += 1;
        }
        let (history, failure) = (History::default(), Failure::default());
        let waiting = Waiting { number, due_ms: AT_ONCE, history, failure, given_up: None };
        let fate = Fate::Parked(Box::new(waiting));
        settled.push(Settled::bare(ticket, message, fate, 0));
    }

    /// Its fate is decided: if it was parked, it is resolved.
    pub(super) fn resolve(&mut self, ticket: &Ticket) {
        let present = ticket.parked > 0 && self.epochs.get(&ticket.partition) == Some(&ticket.epoch);
        let Some(parking) = self.parking.as_mut().filter(|_| present) else { return };
        let id = LaneId { task: ticket.task(), hash: ticket.lane };
        let pending = parking.lanes.entry(id).or_default();
        pending.resolved = pending.resolved.max(ticket.parked);
        pending.open += 1;
    }
}
