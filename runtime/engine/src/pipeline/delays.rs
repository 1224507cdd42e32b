//! Delayed sends that are due: the ledger sends them itself, each in the transaction that deletes its entry. They wait for no
//! lane, since their messages are settled, and have no offset; their transaction names that of their partition like any other.

use super::transaction::Phase;
use super::{Pipeline, task};
use crate::delays::{Delayed, Delays, Loaded, is_delayed};
use crate::message::{Epoch, Fate, Now, Partition, Ticket};
use crate::planted::Bug;
use crate::shard::Settled;
use crate::state::Change;
use crate::timers::Due;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// What is due is asked for in pages.
const PAGE: usize = 256;
/// What is due is looked for at least this often: the wall clock may jump.
const LOOK_MS: u64 = 500;

/// How far a partition's delayed sends have been looked through.
#[derive(Debug)]
struct Look {
    epoch: Epoch,
    /// The last that was taken: the present transaction holds it, and those before it.
    after: Option<Due>,
    /// The next ones.
    page: VecDeque<Due>,
    /// No more is due than what is on the page.
    ended: bool,
}

/// Of all partitions.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    looks: BTreeMap<Partition, Look>,
    /// Steady time of the next look.
    look_ms: u64,
    /// Whose turn was the last.
    turn: Option<Partition>,
}

impl Outgoing {
    /// All of it is looked through anew.
    pub(super) fn reset(&mut self) {
        self.looks.clear();
        self.look_ms = 0;
    }

    /// This partition is known: it is looked through anew.
    pub(super) fn look_again(&mut self, partition: Partition) {
        self.looks.remove(&partition);
        self.look_ms = 0;
    }

    /// These changes of a partition are committed. What was sent and is deleted is behind the look; what is new may be anywhere.
    pub(super) fn kept(&mut self, partition: Partition, changes: &[Change]) {
        let new = changes.iter().filter(|change| is_delayed(&change.key)).filter_map(|change| change.entry.as_ref());
        let Some(first_ms) = new.filter_map(|entry| Delayed::due_ms(&entry.value)).min() else { return };
        self.look_ms = 0;
        if let Some(look) = self.looks.get_mut(&partition) {
            // No key is empty: this is before all that is due then.
            let before = (first_ms, Arc::from(&[][..]));
            look.after = look.after.take().map(|after| after.min(before));
            look.page.clear();
            look.ended = false;
        }
    }
}

impl<M> Pipeline<M> {
    /// Whether there may be any.
    #[must_use]
    pub const fn has_delays(&self) -> bool {
        self.policy.has_delays()
    }

    /// A delayed send that is due, to be published at once, with one record ([`Pipeline::publish`]). `None`: there is none now.
    /// All that the ledger has told is committed must be known to `delays`.
    pub fn next_delayed(&mut self, now: Now, delays: &dyn Delays<M>) -> Option<Settled<M>> {
        let open = |p: &Self| p.transactions.as_ref().is_some_and(|t| t.phase() == Phase::Open && !t.is_full());
        if !self.policy.has_delays() || now.steady_ms < self.outgoing.look_ms || !open(self) {
            return None;
        }
        let is_active = |task: &task::Task| task.phase == task::Phase::Active;
        // A partition's turn is a page.
        let turn = self.outgoing.turn.and_then(|partition| self.tasks.get_key_value(&partition));
        if let Some((partition, task)) = turn.filter(|(_, task)| is_active(task))
            && self.outgoing.looks.get(partition).is_some_and(|look| !look.page.is_empty())
        {
            let (partition, epoch) = (*partition, task.epoch);
            if let Some(settled) = self.next_delayed_of(partition, epoch, now, delays) {
                return Some(settled);
            }
        }
        let active = self.tasks.iter().filter(|(_, task)| is_active(task));
        let mut active: Vec<(Partition, Epoch)> = active.map(|(partition, task)| (*partition, task.epoch)).collect();
        let before = active.iter().filter(|(partition, _)| Some(*partition) <= self.outgoing.turn).count();
        active.rotate_left(before);
        for (partition, epoch) in &active {
            if let Some(settled) = self.next_delayed_of(*partition, *epoch, now, delays) {
                self.outgoing.turn = Some(*partition);
                return Some(settled);
            }
        }
        let mut look_ms = now.steady_ms.saturating_add(LOOK_MS);
        for (partition, _) in &active {
            if let Some(look) = self.outgoing.looks.get_mut(partition) {
                look.ended = false;
            }
            if let Some(due_ms) = delays.next_due(*partition, now.wall_ms) {
                let wait_ms = u64::try_from(due_ms.saturating_sub(now.wall_ms)).unwrap_or(0);
                look_ms = look_ms.min(now.steady_ms.saturating_add(wait_ms));
            }
        }
        self.outgoing.look_ms = look_ms;
        None
    }

    /// A partition starts, or is known: what is delayed is looked through from the first on.
    pub(super) fn look_again(&mut self, partition: Partition) {
        if !self.policy.has(Bug::LookOn) {
            self.outgoing.look_again(partition);
        }
    }

    fn next_delayed_of(
        &mut self,
        partition: Partition,
        epoch: Epoch,
        now: Now,
        delays: &dyn Delays<M>,
    ) -> Option<Settled<M>> {
        let early_ms = if self.policy.has(Bug::SendEarly) { 1_000 } else { 0 };
        let until_ms = now.wall_ms.saturating_add(early_ms);
        let new = || Look { epoch, after: None, page: VecDeque::new(), ended: false };
        let look = self.outgoing.looks.entry(partition).or_insert_with(new);
        if look.epoch != epoch && !self.policy.has(Bug::LookOn) {
            *look = new();
        }
        loop {
            if look.page.is_empty() && !look.ended {
                let after = look.after.as_ref().filter(|_| !self.policy.has(Bug::SendAgain));
                look.page = delays.due(partition, after, until_ms, PAGE).into();
                look.ended = look.page.len() < PAGE;
                if self.policy.has(Bug::SendBackwards) {
                    look.page.make_contiguous().reverse();
                }
            }
            let due = look.page.pop_front()?;
            let loaded = delays.load(partition, &due.1);
            let key = due.1.clone();
            look.after = look.after.take().max(Some(due));
            // It may have been replaced, by a message that ran again after the group was moved.
            let Some(Loaded { number, size, at_ms, message, refused }) = loaded.filter(|l| l.at_ms <= until_ms) else {
                continue;
            };
            let ticket = Ticket {
                partition,
                shared: false,
                offset: number,
                epoch,
                // Of no lane that a message has: what is learnt of one says nothing of another.
                lane: number.cast_unsigned(),
                id: None,
                refused: None,
                alone: false,
                parked: 0,
                size,
                timestamp_ms: at_ms,
            };
            let fate = refused.map_or(Fate::Done, |why| super::publish::undeliverable(why, 0, now));
            let mut changes = Vec::new();
            if !self.policy.has(Bug::KeepSent) {
                changes.push(Change { key, entry: None, number: 0 });
            }
            return Some(Settled { ticket, message, fate, slot: None, attempts: 0, changes });
        }
    }
}
