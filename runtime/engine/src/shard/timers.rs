//! Timers of a shard's lanes.
//!
//! What is committed of them is asked for ([`Timers`]); what is settled and not known to be committed stands in the state's
//! overlay. A timer that is due joins its lane as a message does, unless something of the lane is parked: then it waits until
//! nothing is. Whether it still stands is asked again when its turn comes, since what ran before it may have cancelled it. Its
//! deletion is the first thing that its call stages, so it stands or falls with the rest.

use super::lanes::{Item, LaneId, Phase, Place};
use super::{Settled, Shard};
use crate::message::{Epoch, Now, Partition, Reason, Ticket};
use crate::order::shard_of;
use crate::parking::Parked;
use crate::planted::Bug;
use crate::state::{Change, Owner};
use crate::timers::{self, Due, Loaded, Timer, Timers};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// So many timers are in lanes that may run at the same time, at most.
const LOADED: usize = 256;
/// So many in all, those that wait for a retry or a dead letter of their lane included.
const MOST: usize = 8_192;
/// And no more once those hold so much memory.
const MOST_BYTES: u64 = 32 << 20;
/// What is due is asked for in pages.
const PAGE: usize = 64;
/// So many of them at one look.
const PAGES: usize = 8;
/// So many lanes are remembered that could not take a timer; then the look begins anew.
const SHUT: usize = 65_536;
/// What is due is looked for at least this often: the wall clock may jump.
const LOOK_MS: u64 = 500;
/// And this often while some that are due can't join their lanes.
const LOOK_AGAIN_MS: u64 = 20;
/// What is due within this is found together.
const TOGETHER_MS: u64 = 10;

/// How far a task's timers have been looked through. What is behind `after` is looked at when it is due; what is before it, only
/// when something says that there is more to do there.
#[derive(Debug)]
struct Look {
    /// The last that was seen; `None`: none was.
    after: Option<Due>,
    /// Nothing that is committed is before this: where a look at all that is due begins.
    floor: Option<Due>,
    /// This is such a look, and the first that it saw.
    whole: bool,
    first: Option<Due>,
    /// All that is due was seen.
    ended: bool,
    /// There may be something to do before `after`.
    again: bool,
    /// Lanes that could not take an earlier one: none overtakes it.
    shut: BTreeSet<u64>,
    /// One of them for what is parked of it, of which nobody tells when it is gone.
    walled: bool,
}

impl Default for Look {
    fn default() -> Self {
        Self::from(None)
    }
}

impl Look {
    fn from(floor: Option<Due>) -> Self {
        let (after, first, shut) = (None, None, BTreeSet::new());
        Self { after, floor, whole: true, first, ended: false, again: false, shut, walled: false }
    }

    /// Begins anew, if it is to and was through.
    fn begin(&mut self) {
        if self.ended && self.again {
            let floor = self.floor.take();
            *self = Self { after: floor.clone(), ..Self::from(floor) };
        }
    }

    fn saw(&mut self, due: Due) {
        self.ended = false;
        if self.whole {
            self.first.get_or_insert_with(|| before(due.0));
        }
        self.after = Some(due);
    }

    /// All that is due was seen, or it can't remember more lanes.
    fn end(&mut self) {
        // What a whole look did not see is not there.
        self.floor = self.first.take().or(self.floor.take());
        (self.whole, self.ended) = (false, true);
        self.again |= self.walled;
    }

    /// One is committed that is due at this time.
    fn comes(&mut self, at_ms: i64) {
        let at = before(at_ms);
        if self.after.as_ref().is_none_or(|after| *after <= at) {
            return;
        }
        self.again = true;
        self.floor = self.floor.take().map(|floor| floor.min(at.clone()));
        if self.whole {
            // It was not seen.
            self.first = Some(self.first.take().map_or_else(|| at.clone(), |first| first.min(at.clone())));
        }
    }
}

/// Before all that is due at this time: no key is empty.
fn before(at_ms: i64) -> Due {
    (at_ms, Arc::from(&[][..]))
}

/// Why a timer does not join its lane now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shut {
    /// Something of it is decided, and not known to be committed; it is told when that is.
    Open,
    /// Something of its lane is parked.
    Walled,
}

/// How a look ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Looked {
    /// All that is due is in its lane, or waits for a commit.
    All,
    /// Some wait for what is parked.
    Walled,
    /// There is more.
    More,
    /// No more may be loaded now.
    Full,
}

/// A timer: its task, and its record's key.
type Record = (Partition, Arc<[u8]>);

/// Of one that is loaded.
#[derive(Debug, Clone, Copy)]
struct Held {
    number: i64,
    lane: u64,
    size: u32,
}

/// Of the lanes of a shard.
#[derive(Debug, Default)]
pub(super) struct Timing {
    /// Timers in lanes or running, while what is committed of them is what was loaded.
    loaded: BTreeMap<Record, Held>,
    /// What they hold.
    bytes: u64,
    /// The same the other way round.
    keys: BTreeMap<(Partition, i64), Arc<[u8]>>,
    looks: BTreeMap<Partition, Look>,
    /// Steady time of the next look.
    pub(super) look_ms: u64,
    /// There was more than may be loaded.
    full: bool,
    /// The task that was looked at last.
    turn: Option<Partition>,
    /// The shard's number, and how many there are.
    pub(super) place: (u32, u32),
}

impl Timing {
    pub(super) fn new() -> Self {
        Self { place: (0, 1), ..Self::default() }
    }

    pub(super) const fn next_look_ms(&self) -> u64 {
        self.look_ms
    }

    /// A call has ended: there may be room for more.
    pub(super) const fn look_if_full(&mut self) {
        if self.full {
            self.look_ms = 0;
        }
    }

    pub(super) fn purge(&mut self, task: Partition) {
        self.loaded.retain(|(of, _), _| *of != task);
        self.bytes = self.loaded.values().map(|held| u64::from(held.size)).sum();
        self.keys.retain(|(of, _), _| *of != task);
        self.looks.remove(&task);
        self.look_ms = 0;
    }

    /// These changes are committed.
    pub(super) fn kept(&mut self, task: Partition, changes: &[Change], planted: bool) {
        let Some(look) = self.looks.get_mut(&task).filter(|_| !planted) else { return };
        let (mut any, had) = (false, look.again);
        for change in changes.iter().filter(|change| timers::is_timer(&change.key)) {
            any = true;
            if let Some(at_ms) = change.entry.as_ref().and_then(|entry| Timer::due_ms(&entry.value)) {
                look.comes(at_ms);
                self.look_ms = 0;
            }
        }
        look.again |= any && !look.shut.is_empty();
        if look.again && !had {
            self.look_ms = 0;
        }
    }

    /// These changes stand: what is loaded of the same timers does not any more.
    pub(super) fn changed(&mut self, task: Partition, changes: &[Change]) {
        for change in changes.iter().filter(|change| timers::is_timer(&change.key)) {
            self.forget(task, &change.key);
        }
    }

    #[cfg(test)]
    pub(super) fn loaded(&self) -> usize {
        self.loaded.len()
    }

    fn load(&mut self, task: Partition, key: &Arc<[u8]>, held: Held) {
        self.forget(task, key);
        self.loaded.insert((task, key.clone()), held);
        self.bytes += u64::from(held.size);
        self.keys.insert((task, held.number), key.clone());
    }

    fn forget(&mut self, task: Partition, key: &Arc<[u8]>) {
        if let Some(Held { number, size, .. }) = self.loaded.remove(&(task, key.clone())) {
            self.bytes = self.bytes.saturating_sub(u64::from(size));
            self.keys.remove(&(task, number));
        }
    }
}

impl<M> Shard<M> {
    /// Timers that are due join their lanes. Before [`Shard::next`], each time.
    pub fn wake_timers(&mut self, now: Now, timers: &dyn Timers<M>, parked: &dyn Parked<M>) {
        if !self.running.is_empty() {
            return;
        }
        let Some(timing) = self.timing.as_mut().filter(|timing| now.steady_ms >= timing.look_ms) else { return };
        timing.full = false;
        let turn = timing.turn;
        let mut tasks: Vec<(Partition, Epoch)> = self.epochs.iter().map(|(task, epoch)| (*task, *epoch)).collect();
        let before = tasks.iter().filter(|(task, _)| Some(*task) <= turn).count();
        tasks.rotate_left(before);
        let mut room = self.room_for_timers();
        let mut look_ms = now.steady_ms.saturating_add(LOOK_MS);
        let soonest_ms = now.steady_ms.saturating_add(TOGETHER_MS);
        for (task, epoch) in tasks {
            let looked = self.look_for_timers((task, epoch), now, &mut room, timers, parked);
            let again_ms = match looked {
                Looked::All => None,
                Looked::More => Some(1),
                Looked::Walled | Looked::Full => Some(LOOK_AGAIN_MS),
            };
            look_ms = again_ms.map_or(look_ms, |wait_ms| look_ms.min(now.steady_ms.saturating_add(wait_ms)));
            if looked == Looked::Full {
                if let Some(timing) = &mut self.timing {
                    (timing.full, timing.turn) = (true, Some(task));
                }
                break;
            }
            if let Some(due_ms) = timers.next_due(task, now.wall_ms) {
                let wait_ms = u64::try_from(due_ms.saturating_sub(now.wall_ms)).unwrap_or(0);
                look_ms = look_ms.min(now.steady_ms.saturating_add(wait_ms).max(soonest_ms));
            }
        }
        if let Some(timing) = &mut self.timing {
            timing.look_ms = look_ms;
        }
    }

    /// So many more may be loaded. What waits in a lane, or behind what waits there, takes none of the room of what may run.
    fn room_for_timers(&mut self) -> usize {
        let Some(timing) = &self.timing else { return 0 };
        let room = if timing.bytes < MOST_BYTES { MOST.saturating_sub(timing.loaded.len()) } else { 0 };
        if timing.loaded.len() < LOADED {
            return room.min(LOADED - timing.loaded.len());
        }
        let lanes = &mut self.lanes;
        let mut waits = |task, hash| {
            let place = lanes.find(LaneId { task, hash });
            let phase = place.and_then(|place| lanes.get(place)).map(|lane| lane.phase);
            matches!(phase, Some(Phase::Waiting(_) | Phase::Letter))
        };
        let run = timing.loaded.iter().filter(|((task, _), held)| !waits(*task, held.lane)).count();
        room.min(LOADED.saturating_sub(run))
    }

    fn look_for_timers(
        &mut self,
        (task, epoch): (Partition, Epoch),
        now: Now,
        room: &mut usize,
        timers: &dyn Timers<M>,
        parked: &dyn Parked<M>,
    ) -> Looked {
        let Some(timing) = &mut self.timing else { return Looked::All };
        let mut look = timing.looks.remove(&task).unwrap_or_default();
        look.begin();
        let until_ms = self.timers_until_ms(now);
        let mut looked = Looked::More;
        'look: for _ in 0..PAGES {
            let page = timers.due(task, look.after.as_ref(), until_ms, PAGE);
            let whole = page.len() < PAGE;
            for due in page {
                let lane = timers.lane(task, &due.1);
                let is_shut = look.shut.contains(&lane);
                if *room == 0 && !is_shut && self.is_to_load(task, lane, &due.1) {
                    looked = Looked::Full;
                    break 'look;
                }
                if !is_shut {
                    let loaded = self.timing.as_ref().map_or(0, |timing| timing.loaded.len());
                    if let Err(shut) = self.wake_timer((task, epoch), lane, &due.1, now, (timers, parked)) {
                        look.shut.insert(lane);
                        look.walled |= shut == Shut::Walled;
                    }
                    if let Some(timing) = &self.timing {
                        let full = timing.bytes >= MOST_BYTES;
                        *room = if full { 0 } else { room.saturating_sub(timing.loaded.len().saturating_sub(loaded)) };
                    }
                }
                look.saw(due);
            }
            if whole || look.shut.len() >= SHUT {
                look.again |= !whole;
                look.walled &= !self.policy.has(Bug::ForgetWalled);
                look.end();
                looked = if look.walled || !whole { Looked::Walled } else { Looked::All };
                break;
            }
        }
        if let Some(timing) = &mut self.timing {
            timing.looks.insert(task, look);
        }
        looked
    }

    /// Whether a timer is one of this shard, and not in its lane.
    fn is_to_load(&self, task: Partition, lane: u64, key: &Arc<[u8]>) -> bool {
        self.timing.as_ref().is_some_and(|timing| {
            let (number, shards) = timing.place;
            shard_of(lane, shards) == number && !timing.loaded.contains_key(&(task, key.clone()))
        })
    }

    fn wake_timer(
        &mut self,
        (task, epoch): (Partition, Epoch),
        lane: u64,
        key: &Arc<[u8]>,
        now: Now,
        (timers, parked): (&dyn Timers<M>, &dyn Parked<M>),
    ) -> Result<(), Shut> {
        if !self.is_to_load(task, lane, key) {
            return Ok(());
        }
        let id = LaneId { task, hash: lane };
        if self.is_superseded(task, key) {
            return Err(Shut::Open);
        }
        if self.has_parked(id, parked) {
            return Err(Shut::Walled);
        }
        let Some(Loaded { number, lane: _, size, at_ms, message }) = timers.load(task, key) else { return Ok(()) };
        if at_ms > self.timers_until_ms(now) {
            // It has been replaced meanwhile.
            return Ok(());
        }
        let condemned = self.condemned.get(&task).is_some_and(|all| all.binary_search(&number).is_ok());
        let ticket = Ticket {
            partition: task,
            shared: false,
            offset: number,
            epoch,
            lane,
            id: None,
            refused: condemned.then_some(Reason::Undeliverable),
            alone: false,
            parked: 0,
            size,
            timestamp_ms: at_ms,
        };
        if let Some(timing) = &mut self.timing {
            timing.load(task, key, Held { number, lane, size });
        }
        let (place, lane) = self.lanes.open(id);
        let item = Item { ticket, message, trouble: None, alone: false, stays: false };
        if self.policy.has(Bug::TimerOvertakes) {
            lane.queue.push_front(item);
        } else {
            lane.queue.push_back(item);
        }
        if lane.phase == Phase::Idle {
            lane.phase = Phase::Ready;
            self.ready.push_back(place);
        }
        // It has waited long enough.
        self.ready_since_ms = Some(0);
        Ok(())
    }

    fn timers_until_ms(&self, now: Now) -> i64 {
        now.wall_ms.saturating_add(if self.policy.has(Bug::FireEarly) { 1_000 } else { 0 })
    }

    /// Whether something is decided of what stands under this key, and not known to be committed.
    fn is_superseded(&self, task: Partition, key: &[u8]) -> bool {
        self.state.as_ref().is_some_and(|state| state.changes(task, key)) && !self.policy.has(Bug::FireUndone)
    }

    /// Whether anything of a lane is parked.
    fn has_parked(&self, id: LaneId, parked: &dyn Parked<M>) -> bool {
        let Some(parking) = &self.parking else { return false };
        parking.pending(id).open > 0 || parked.first(id.task, id.hash, 1).is_some()
    }

    /// Whether the timer that is the next of its lane is to run; if not, it leaves the lane.
    pub(super) fn timer_stands(&mut self, place: Place, parked: &dyn Parked<M>) -> bool {
        let Some(lane) = self.lanes.get(place) else { return false };
        let id = lane.id();
        let Some(head) = lane.queue.front() else { return false };
        let (ticket, failed) = (head.ticket, head.trouble.is_some());
        let key = self.timer_key(&ticket);
        // One that has failed is before all of its key: nothing that is parked came before it.
        let stands = |key: &Arc<[u8]>| !self.is_superseded(id.task, key) && (failed || !self.has_parked(id, parked));
        if key.as_ref().is_some_and(stands) {
            return true;
        }
        if let Some(lane) = self.lanes.get(place) {
            lane.queue.pop_front();
        }
        if let Some(timing) = &mut self.timing {
            key.iter().for_each(|key| timing.forget(id.task, key));
            // Where something of its lane is parked it comes again.
            timing.looks.entry(id.task).or_default().again = true;
            timing.look_ms = 0;
        }
        false
    }

    /// The key of a timer's record, if what was loaded of it is what is committed.
    pub(super) fn timer_key(&self, ticket: &Ticket) -> Option<Arc<[u8]>> {
        if !ticket.is_set() {
            return None;
        }
        self.timing.as_ref()?.keys.get(&(ticket.partition, ticket.offset)).cloned()
    }

    /// Stages for each timer of the batch that it is gone.
    pub(super) fn stage_gone(&self, call: &mut crate::state::Call) {
        for (slot, running) in self.running.iter().enumerate() {
            let Some(key) = &running.timer else { continue };
            if let Some((owner, name)) = Owner::split(key)
                && !self.policy.has(Bug::KeepFired)
            {
                // Names in keys were checked when they were set.
                let staged =
                    call.write(slot as u32, (running.item.ticket.partition, owner), name, crate::state::Write::Delete);
                debug_assert!(staged.is_ok());
            }
        }
    }

    /// A message, or a timer with this key, is done with, and these are its changes: a timer's own comes first.
    pub(super) fn timers_changed(&mut self, ticket: &Ticket, key: Option<&Arc<[u8]>>, changes: &mut [Change]) {
        let Some(timing) = &mut self.timing else { return };
        timing.changed(ticket.partition, changes);
        let Some(key) = key else { return };
        timing.forget(ticket.partition, key);
        if let Some(own) = changes.iter().position(|change| change.key == *key) {
            changes.swap(0, own);
        }
    }

    /// What is parked stands in the retry topic from now on: a timer no more in state.
    pub(super) fn set_no_more(&mut self, mut settled: Settled<M>) -> Settled<M> {
        if !self.policy.has(Bug::KeepParkedTimer) {
            self.unset_timer(&mut settled);
        }
        settled
    }

    /// A timer is parked, or became a dead letter, or was discarded: it is set no more, and has done nothing.
    pub(super) fn unset_timer(&mut self, settled: &mut Settled<M>) {
        let ticket = settled.ticket;
        let Some(key) = self.timer_key(&ticket) else { return };
        self.timers_changed(&ticket, Some(&key), &mut []);
        if let Some(state) = &mut self.state {
            settled.changes.extend(state.delete(ticket.partition, &key));
        }
    }
}
