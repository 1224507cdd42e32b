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
use crate::timers::{self, Due, Loaded, Timers};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// So many timers are in lanes at the same time, at most.
const LOADED: usize = 256;
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

/// How far a task's timers have been looked through.
#[derive(Debug, Default)]
struct Look {
    /// The last that was seen; `None`: from the first on.
    after: Option<Due>,
    /// Lanes that could not take an earlier one: none overtakes it.
    shut: BTreeSet<u64>,
}

/// Of the lanes of a shard.
#[derive(Debug, Default)]
pub(super) struct Timing {
    /// Timers in lanes or running, with their numbers, while what is committed of them is what was loaded.
    loaded: BTreeMap<(Partition, Arc<[u8]>), i64>,
    /// The same the other way round.
    keys: BTreeMap<(Partition, i64), Arc<[u8]>>,
    looks: BTreeMap<Partition, Look>,
    /// Steady time of the next look.
    look_ms: u64,
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

    pub(super) fn purge(&mut self, task: Partition) {
        self.loaded.retain(|(of, _), _| *of != task);
        self.keys.retain(|(of, _), _| *of != task);
        self.looks.remove(&task);
        self.look_ms = 0;
    }

    /// These changes are committed.
    pub(super) fn kept(&mut self, changes: &[Change]) {
        if changes.iter().any(|change| timers::is_timer(&change.key)) {
            self.look_ms = 0;
        }
    }

    /// These changes stand: what is loaded of the same timers does not any more.
    pub(super) fn changed(&mut self, task: Partition, changes: &[Change]) {
        for change in changes.iter().filter(|change| timers::is_timer(&change.key)) {
            self.forget(task, &change.key);
        }
    }

    fn load(&mut self, task: Partition, key: &Arc<[u8]>, number: i64) {
        self.loaded.insert((task, key.clone()), number);
        self.keys.insert((task, number), key.clone());
    }

    fn forget(&mut self, task: Partition, key: &Arc<[u8]>) {
        if let Some(number) = self.loaded.remove(&(task, key.clone())) {
            self.keys.remove(&(task, number));
        }
    }
}

impl<M> Shard<M> {
    /// Timers that are due join their lanes. Before [`Shard::next`], each time.
    pub fn wake_timers(&mut self, now: Now, timers: &dyn Timers<M>, parked: &dyn Parked<M>) {
        let due = |timing: &&mut Timing| now.steady_ms >= timing.look_ms;
        if !self.running.is_empty() || self.timing.as_mut().filter(due).is_none() {
            return;
        }
        let tasks: Vec<(Partition, Epoch)> = self.epochs.iter().map(|(task, epoch)| (*task, *epoch)).collect();
        let mut look_ms = now.steady_ms.saturating_add(LOOK_MS);
        for (task, epoch) in tasks {
            if !self.look_for_timers((task, epoch), now, timers, parked) {
                look_ms = look_ms.min(now.steady_ms.saturating_add(LOOK_AGAIN_MS));
            }
            if let Some(due_ms) = timers.next_due(task, now.wall_ms) {
                let wait_ms = u64::try_from(due_ms.saturating_sub(now.wall_ms)).unwrap_or(0);
                look_ms = look_ms.min(now.steady_ms.saturating_add(wait_ms));
            }
        }
        if let Some(timing) = &mut self.timing {
            timing.look_ms = look_ms;
        }
    }

    /// `false`: some that are due are not in their lanes yet.
    fn look_for_timers(
        &mut self,
        (task, epoch): (Partition, Epoch),
        now: Now,
        timers: &dyn Timers<M>,
        parked: &dyn Parked<M>,
    ) -> bool {
        let Some(timing) = &mut self.timing else { return true };
        let mut look = timing.looks.remove(&task).unwrap_or_default();
        let until_ms = self.timers_until_ms(now);
        let mut ended = false;
        'look: for _ in 0..PAGES {
            let page = timers.due(task, look.after.as_ref(), until_ms, PAGE);
            let whole = page.len() < PAGE;
            for due in page {
                let lane = timers.lane(task, &due.1);
                if self.timing.as_ref().is_none_or(|timing| timing.loaded.len() >= LOADED) {
                    break 'look;
                }
                if !look.shut.contains(&lane) && !self.wake_timer((task, epoch), lane, &due.1, now, (timers, parked)) {
                    look.shut.insert(lane);
                }
                look.after = Some(due);
            }
            ended = whole;
            if whole || look.shut.len() >= SHUT {
                break;
            }
        }
        let all = ended && look.shut.is_empty();
        if (ended || look.shut.len() >= SHUT) && !self.policy.has(Bug::LookOnce) {
            look = Look::default();
        }
        if let Some(timing) = &mut self.timing {
            timing.looks.insert(task, look);
        }
        all
    }

    /// `false`: it can't join its lane now.
    fn wake_timer(
        &mut self,
        (task, epoch): (Partition, Epoch),
        lane: u64,
        key: &Arc<[u8]>,
        now: Now,
        (timers, parked): (&dyn Timers<M>, &dyn Parked<M>),
    ) -> bool {
        let Some(timing) = &self.timing else { return true };
        let (number, shards) = timing.place;
        if shard_of(lane, shards) != number || timing.loaded.contains_key(&(task, key.clone())) {
            return true;
        }
        let id = LaneId { task, hash: lane };
        if self.is_superseded(task, key) || self.has_parked(id, parked) {
            return false;
        }
        let Some(Loaded { number, lane: _, size, at_ms, message }) = timers.load(task, key) else { return true };
        if at_ms > self.timers_until_ms(now) {
            // It has been replaced meanwhile.
            return true;
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
            timing.load(task, key, number);
        }
        let (place, lane) = self.lanes.open(id);
        let item = Item { ticket, message, trouble: None, alone: false, stays: true };
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
        true
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
            timing.look_ms = 0;
        }
        false
    }

    /// The key of a timer's record, if what was loaded of it is what is committed.
    pub(super) fn timer_key(&self, ticket: &Ticket) -> Option<Arc<[u8]>> {
        if !ticket.is_timer() {
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

    /// A timer became a dead letter, or was discarded: it is gone, and has done nothing.
    pub(super) fn bury_timer(&mut self, settled: &mut Settled<M>) {
        let ticket = settled.ticket;
        let Some(key) = self.timer_key(&ticket) else { return };
        self.timers_changed(&ticket, Some(&key), &mut []);
        if let Some(state) = &mut self.state {
            settled.changes.extend(state.delete(ticket.partition, &key));
        }
    }
}
