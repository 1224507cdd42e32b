//! What is committed, and when.

use super::{Action, Pipeline};
use crate::message::{Epoch, Now, Partition};
use crate::metadata::{MAX_TEXT_BYTES, Metadata};
use crate::planted::Bug;
use crate::tracker::Progress;
use alloc::string::String;
use alloc::vec::Vec;

/// New records of a partition are held back when its map takes this share of the limit.
const MAP_FULL_BYTES: usize = MAX_TEXT_BYTES / 4 * 3;
/// And let in again below this.
const MAP_FREE_BYTES: usize = MAX_TEXT_BYTES / 2;

/// One partition's share of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitOffset {
    /// Which partition.
    pub partition: Partition,
    /// The next offset to read.
    pub offset: i64,
    /// See [`Metadata`].
    pub metadata: String,
}

#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) number: u64,
    pub(super) started_ms: u64,
    pub(super) states: Vec<(Partition, Epoch, Progress)>,
}

impl<M> Pipeline<M> {
    pub(super) fn commit_if_due(&mut self, now: Now, actions: &mut Vec<Action>) {
        self.fail_late_commit(now);
        if self.in_flight.is_some() || now.steady_ms < self.next_commit_ms {
            return;
        }
        // What is being released has had its last commit: one more would reach the broker after it is given up.
        let due = |p: &Partition| !self.is_releasing(*p);
        let partitions: Vec<(Partition, bool)> =
            self.tasks.iter().filter(|(p, t)| t.dirty && due(p)).map(|(p, _)| (*p, false)).collect();
        let (offsets, states) = self.plan(&partitions, actions);
        self.next_commit_ms = now.steady_ms.saturating_add(self.policy.commit.interval_ms);
        if offsets.is_empty() {
            return;
        }
        self.send_commit(offsets, states, now, actions);
    }

    /// A commit that has no answer for too long counts as failed.
    pub(super) fn fail_late_commit(&mut self, now: Now) {
        let bound_ms = self.timing.commit_ms;
        if let Some(late) = self.in_flight.take_if(|c| now.steady_ms.saturating_sub(c.started_ms) > bound_ms) {
            self.failed(&late);
        }
    }

    /// The next commit is under way.
    pub(super) fn send_commit(
        &mut self,
        offsets: Vec<CommitOffset>,
        states: Vec<(Partition, Epoch, Progress)>,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        self.commits += 1;
        let number = self.commits;
        self.in_flight = Some(InFlight { number, started_ms: now.steady_ms, states });
        actions.push(Action::Commit { number, offsets });
    }

    /// What these partitions have to commit; those without news are left out, unless they have a part in the
    /// transaction. With each stands whether it is given up with this commit.
    pub(super) fn plan(
        &mut self,
        partitions: &[(Partition, bool)],
        actions: &mut Vec<Action>,
    ) -> (Vec<CommitOffset>, Vec<(Partition, Epoch, Progress)>) {
        let mut offsets = Vec::new();
        let mut states = Vec::new();
        for (partition, last) in partitions {
            let Some(task) = self.tasks.get_mut(partition) else { continue };
            let (progress, written) = if self.rounds.is_some() {
                let Some(durable) = task.durable(*last, &self.policy) else { continue };
                (durable, task.is_written())
            } else {
                task.dirty = false;
                (task.progress(&self.policy), true)
            };
            let in_good_order = *last && task.is_drained() && written;
            let omitted =
                self.policy.has(Bug::OmitUnmoved) && task.committed.as_ref().is_some_and(|c| c.point == progress.point);
            let unmoved = task.committed.as_ref() == Some(&progress) && !task.touched && task.has_told_all();
            if (unmoved || omitted) && !in_good_order {
                continue;
            }
            let held = if in_good_order { None } else { task.held(&progress) };
            let (sequence, known, log) = (task.sequence.saturating_add(1), task.partitions, task.log);
            let mut kept = task.kept;
            // Whoever is given it next begins with one that is closed.
            kept.breaker &= !in_good_order;
            (task.saying, task.saying_parked) = (kept.breaker, kept.parked);
            if self.policy.has(Bug::OmitInbox) {
                (kept.inbox_at, kept.inbox_done) = (0, 0);
            }
            let metadata = Metadata { sequence, partitions: known, held, log, kept, settled: progress.settled.clone() }
                .encode(progress.point);
            let was_paused = task.is_paused();
            task.map_bytes = metadata.len() as u32;
            let limit = if task.map_full { MAP_FREE_BYTES } else { MAP_FULL_BYTES };
            // After a restart what is to be read next may lie below the map's end, and only reading it makes the map smaller.
            let is_read = progress.settled.iter().last().is_none_or(|(_, end)| end <= task.tracker.next());
            task.map_full = is_read && metadata.len() > limit;
            task.tell_pause(was_paused, *partition, actions);
            offsets.push(CommitOffset { partition: *partition, offset: progress.point, metadata });
            states.push((*partition, task.epoch, progress));
        }
        (offsets, states)
    }

    /// The commit of this number ended; `ok`: the broker has it. One that is not the present one is ignored.
    pub fn commit_finished(&mut self, number: u64, ok: bool) {
        let Some(ended) = self.in_flight.take_if(|c| c.number == number) else { return };
        if !ok && !self.policy.has(Bug::FailedCommitCounts) {
            return self.failed(&ended);
        }
        self.note_committed(ended.states);
    }

    pub(super) fn note_committed(&mut self, states: Vec<(Partition, Epoch, Progress)>) {
        for (partition, epoch, progress) in states {
            if let Some(task) = self.tasks.get_mut(&partition)
                && task.epoch == epoch
            {
                task.waits.cover(&progress);
                task.committed = Some(progress);
                task.sequence = task.sequence.saturating_add(1);
                task.touched = false;
                (task.said, task.said_parked) = (task.saying, task.saying_parked);
                // It may have closed meanwhile.
                task.dirty |= !task.has_told_all();
                task.unstarted = None;
            }
        }
    }

    /// A failed commit is never taken for a successful one: its partitions stay due.
    fn failed(&mut self, ended: &InFlight) {
        for (partition, epoch, _) in &ended.states {
            if let Some(task) = self.tasks.get_mut(partition)
                && task.epoch == *epoch
            {
                // It may have reached the broker all the same, so nothing is known of what stands there.
                task.committed = None;
                task.dirty = true;
            }
        }
    }

    pub(super) fn forget_commit_in_flight(&mut self) {
        if let Some(dropped) = self.in_flight.take() {
            self.failed(&dropped);
        }
    }
}
