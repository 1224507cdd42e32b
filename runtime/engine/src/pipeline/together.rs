//! What the partitions of a task do together. Where a task spans several inputs its keys, seen ids and state are those of all of
//! them: what one partition's messages left may have been read by those of the others. So they have a part in a transaction
//! together, wait together, and start anew together.

use super::task::Phase;
use super::{Action, Pipeline};
use crate::message::{Now, Partition, Ticket};
use crate::planted::Bug;
use crate::policy::Scope;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

impl<M> Pipeline<M> {
    /// The task of this partition has a part in the present transaction, whichever of its partitions move.
    pub(super) fn touch(&mut self, partition: Partition) {
        let order = &self.policy.order;
        let Some(task) = self.tasks.get_mut(&partition) else { return };
        let touched = core::mem::replace(&mut task.touched, true);
        if touched || order.scope == Scope::Topic || self.policy.has(Bug::RestartOneInput) {
            return;
        }
        let of_task = |other: &Partition| order.task(*other) == order.task(partition);
        self.tasks.iter_mut().filter(|(other, _)| of_task(other)).for_each(|(_, task)| task.touched = true);
    }

    /// Partitions whose task has a part in the present transaction.
    pub(super) fn touched(&self) -> BTreeSet<Partition> {
        let order = &self.policy.order;
        let own = |(partition, _): (&Partition, _)| *partition;
        let touched: BTreeSet<Partition> = self.tasks.iter().filter(|(_, task)| task.touched).map(own).collect();
        if order.scope == Scope::Topic || self.policy.has(Bug::RestartOneInput) {
            return touched;
        }
        let tasks: BTreeSet<Partition> = touched.iter().map(|partition| order.task(*partition)).collect();
        self.tasks.keys().copied().filter(|partition| tasks.contains(&order.task(*partition))).collect()
    }

    /// The partition is held back until then: the others of its task are, too.
    pub(super) fn hold_back_others(&mut self, partition: Partition, due_ms: u64, actions: &mut Vec<Action>) {
        let order = &self.policy.order;
        if order.scope == Scope::Topic {
            return;
        }
        for (other, task) in &mut self.tasks {
            if order.task(*other) == order.task(partition) && task.phase == Phase::Active {
                let was_paused = task.is_paused();
                // Nothing of it is refused: all that is settled stays so.
                task.phase = Phase::Refused { offset: i64::MAX, due_ms };
                task.tell_pause(was_paused, *other, actions);
            }
        }
    }

    /// Settles a message, and duplicates of it that wait for that. `false`: it was never received, or has settled before.
    pub(super) fn settle(&mut self, partition: Partition, offset: i64, now: Now) -> bool {
        let Some(task) = self.tasks.get_mut(&partition) else { return false };
        let known = task.settle(offset, now);
        let twins = task.take_twins(offset);
        self.settle_twins(twins, now);
        known
    }

    /// What these duplicates waited for is settled.
    pub(super) fn settle_twins(&mut self, twins: Vec<(Partition, i64)>, now: Now) {
        for (partition, twin) in twins {
            if let Some(task) = self.tasks.get_mut(&partition) {
                task.settle_twin(twin, now);
            }
        }
    }

    /// Settles a duplicate, at the latest with the message that it repeats: were that to come to nothing, and be gone from
    /// the log when it is looked for again, this one must take its place. The answer is as of [`Pipeline::settle`].
    pub(super) fn settle_duplicate(&mut self, ticket: &Ticket, of: Option<(Partition, i64)>, now: Now) -> bool {
        let Some((first, of)) = self.still_unsettled(of) else {
            return self.settle(ticket.partition, ticket.offset, now);
        };
        let known = self.tasks.get(&ticket.partition).is_some_and(|task| task.tracker.is_unsettled(ticket.offset));
        if let Some(task) = self.tasks.get_mut(&first).filter(|_| known) {
            task.add_twin(of, (ticket.partition, ticket.offset));
        }
        known
    }

    fn still_unsettled(&self, at: Option<(Partition, i64)>) -> Option<(Partition, i64)> {
        let unsettled = |partition, offset| self.tasks.get(&partition).is_some_and(|t| t.tracker.is_unsettled(offset));
        at.filter(|(partition, offset)| unsettled(*partition, *offset))
    }

    /// With exactly-once: whether this message may have its effects now. What is visible must be told by the commit, or it
    /// would run again after a restart; where the map is full it is turned away, with all above it in its partition and all
    /// behind it in its lane, which may have read what it left.
    pub(super) fn admits(
        &mut self,
        ticket: &Ticket,
        duplicate_of: Option<(Partition, i64)>,
        actions: &mut Vec<Action>,
    ) -> bool {
        let waits = self.still_unsettled(duplicate_of).is_some();
        let spans = self.policy.order.scope == Scope::Inputs;
        let behind =
            spans && self.tasks.get(&ticket.task()).is_some_and(|task| task.lanes_turned_away.contains(&ticket.lane));
        let Some(task) = self.tasks.get_mut(&ticket.partition) else { return false };
        let was_paused = task.is_paused();
        if !behind && task.admits(ticket.offset, waits) {
            return true;
        }
        task.turn_away(ticket.offset);
        task.tell_pause(was_paused, ticket.partition, actions);
        if let Some(task) = self.tasks.get_mut(&ticket.task()).filter(|_| spans) {
            task.lanes_turned_away.insert(ticket.lane);
        }
        false
    }

    /// Tasks whose records were refused for now have waited long enough; others have room again for what was turned away.
    /// What has a part in the present transaction waits until that has ended, and takes no further part.
    pub(super) fn restart_refused(&mut self, now: Now, actions: &mut Vec<Action>) {
        let order = &self.policy.order;
        let mut due: BTreeMap<Partition, bool> = BTreeMap::new();
        for (partition, task) in &self.tasks {
            let waited = matches!(task.phase, Phase::Refused { due_ms, .. } if now.steady_ms >= due_ms);
            let returns = task.may_return();
            if let Some(returns) = if waited { Some(true) } else { returns } {
                *due.entry(order.task(*partition)).or_insert(true) &= returns;
            }
        }
        for own in due.into_iter().filter(|(_, due)| *due).map(|(own, _)| own) {
            let of_task = |partition: &Partition| order.task(*partition) == own;
            let free = self.tasks.iter().filter(|(p, _)| of_task(p)).all(|(_, task)| !task.touched);
            for (partition, task) in self.tasks.iter_mut().filter(|(partition, _)| of_task(partition)) {
                let was_paused = task.is_paused();
                match task.phase {
                    Phase::Active | Phase::Refused { .. } if free => task.phase = Phase::Restarting { told: false },
                    Phase::Active if order.scope == Scope::Inputs => task.turn_away(i64::MIN),
                    _ => {}
                }
                task.tell_pause(was_paused, *partition, actions);
            }
        }
        self.restart_told(actions);
    }
}
