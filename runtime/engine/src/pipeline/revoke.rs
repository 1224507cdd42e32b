//! Giving partitions up: what runs is finished, what is on its way is awaited, the last commit is made, within a bound.

use super::task::Phase;
use super::{Action, Pipeline};
use crate::message::{Epoch, Now, Partition};
use crate::planted::Bug;
use crate::tracker::Progress;
use alloc::vec::Vec;

#[derive(Debug)]
pub(super) struct Revoke {
    partitions: Vec<Partition>,
    deadline_ms: u64,
    /// The shell commits and releases.
    releasing: bool,
}

impl Revoke {
    pub(super) fn takes(&self, partition: Partition) -> bool {
        self.partitions.contains(&partition)
    }
}

impl<M> Pipeline<M> {
    pub(super) fn is_revoking(&self, partition: Partition) -> bool {
        self.revoke.as_ref().is_some_and(|r| r.takes(partition))
    }

    /// The group takes these partitions. Ends with [`Action::CommitAndRelease`], at the latest when
    /// [`Timing::revoke_ms`](super::Timing::revoke_ms) is over. One revoke is under way at a time: the group waits.
    pub fn revoke(&mut self, partitions: Vec<Partition>, now: Now, actions: &mut Vec<Action>) {
        for partition in &partitions {
            if let Some(task) = self.tasks.get_mut(partition) {
                // One that was to be rewound settles nothing more; its commit point is below the refused message.
                if task.phase == Phase::Active {
                    task.phase = Phase::Draining { shards_left: self.shards, refused: None };
                }
                actions.push(Action::Close { partition: *partition, epoch: task.epoch });
            }
        }
        let deadline_ms = now.steady_ms.saturating_add(self.timing.revoke_ms);
        self.revoke = Some(Revoke { partitions, deadline_ms, releasing: false });
        self.check_revoke(now, actions);
    }

    /// A shard has closed this partition; all that it settled came before.
    pub fn drained(&mut self, partition: Partition, epoch: Epoch, now: Now, actions: &mut Vec<Action>) {
        if let Some(task) = self.tasks.get_mut(&partition)
            && task.epoch == epoch
            && let Phase::Draining { shards_left, .. } = &mut task.phase
        {
            *shards_left = shards_left.saturating_sub(1);
        }
        self.check_revoke(now, actions);
    }

    pub(super) fn check_revoke(&mut self, now: Now, actions: &mut Vec<Action>) {
        let Some(revoke) = &mut self.revoke else { return };
        if revoke.releasing {
            return;
        }
        let hasty = self.policy.has(Bug::ReleaseUnacknowledged);
        let busy = revoke.partitions.iter().filter_map(|p| self.tasks.get(p)).any(|task| match task.phase {
            Phase::Draining { shards_left, .. } => {
                // Dead letters that the broker refuses are not waited for: they stay unsettled.
                shards_left > 0 || (task.publications > task.letters_refused && !hasty)
            }
            _ => false,
        });
        if busy && now.steady_ms < revoke.deadline_ms {
            return;
        }
        revoke.releasing = true;
        let partitions = revoke.partitions.clone();
        if hasty {
            for partition in &partitions {
                if let Some(task) = self.tasks.get_mut(partition) {
                    let point = task.tracker.next() - task.tracker.unsettled() as i64 + task.publications as i64;
                    task.phase = Phase::Rewinding(Progress { point, settled: crate::ranges::Ranges::new() });
                }
            }
        }
        self.forget_commit_in_flight();
        let (offsets, _) = self.plan(&partitions, true, &mut Vec::new());
        actions.push(Action::CommitAndRelease { offsets, partitions });
    }

    /// Whether the shell commits this partition for the last time.
    pub(super) fn is_releasing(&self, partition: Partition) -> bool {
        self.revoke.as_ref().is_some_and(|r| r.releasing && r.partitions.contains(&partition))
    }

    /// The partitions of the last [`Action::CommitAndRelease`] are given up.
    pub fn released(&mut self) {
        for partition in self.revoke.take().map(|r| r.partitions).unwrap_or_default() {
            self.tasks.remove(&partition);
        }
    }

    /// These partitions are somebody else's already: nothing of them may be committed.
    pub fn lost(&mut self, partitions: &[Partition], actions: &mut Vec<Action>) {
        if self.policy.has(Bug::CommitLost) {
            let (offsets, _) = self.plan(partitions, false, &mut Vec::new());
            actions.push(Action::CommitAndRelease { offsets, partitions: partitions.to_vec() });
        }
        for partition in partitions {
            if let Some(task) = self.tasks.remove(partition) {
                actions.push(Action::Close { partition: *partition, epoch: task.epoch });
            }
        }
    }
}
