//! Giving partitions up: what runs is finished, what is on its way is awaited, the last commit is made, within a bound.

use super::task::{Phase, Task};
use super::{Action, Pipeline, transaction};
use crate::message::{Epoch, Now, Partition};
use crate::planted::Bug;
use crate::tracker::Progress;
use alloc::string::String;
use alloc::vec::Vec;

#[derive(Debug)]
pub(super) struct Revoke {
    partitions: Vec<Partition>,
    deadline_ms: u64,
    /// With exactly-once: until then its last transaction must have ended.
    end_ms: u64,
    /// The shell commits and releases.
    releasing: bool,
    /// With exactly-once: the transaction that ends now, or next, is their last.
    pub(super) closing: bool,
    /// It is committed.
    pub(super) committed: bool,
    /// Why it is not.
    pub(super) failed: Option<String>,
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
                match task.phase {
                    Phase::Active => task.phase = Phase::Draining { shards_left: self.shards, refused: None },
                    // What it had is given up, and what it is to start from anew is the next owner's.
                    Phase::Restarting { .. } => task.phase = Phase::GivenUp,
                    _ => {}
                }
                actions.push(Action::Close { partition: *partition, epoch: task.epoch });
            }
        }
        let deadline_ms = now.steady_ms.saturating_add(self.timing.revoke_ms);
        let end_ms = now.steady_ms.saturating_add(self.timing.release_ms);
        self.revoke = Some(Revoke {
            partitions,
            deadline_ms,
            end_ms,
            releasing: false,
            closing: false,
            committed: false,
            failed: None,
        });
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
        if self.transactions.is_some() {
            return self.check_revoke_in_transaction(now, actions);
        }
        let hasty = self.policy.has(Bug::ReleaseUnacknowledged);
        let busy = revoke.partitions.iter().filter_map(|p| self.tasks.get(p)).any(|task| match task.phase {
            Phase::Draining { shards_left, .. } => {
                // Dead letters that the broker refuses are not waited for: they stay unsettled.
                shards_left > 0 || (task.publications > task.letters_refused && !hasty)
            }
            _ => false,
        });
        let in_time = now.steady_ms < revoke.deadline_ms;
        if busy && in_time {
            return;
        }
        let partitions = revoke.partitions.clone();
        if in_time
            && self.rounds.is_some()
            && !self.policy.has(Bug::ReleaseUnwritten)
            && !self.write_the_rest(&partitions, now, actions)
        {
            return;
        }
        if let Some(revoke) = &mut self.revoke {
            revoke.releasing = true;
        }
        if hasty {
            for partition in &partitions {
                if let Some(task) = self.tasks.get_mut(partition) {
                    let point = task.tracker.next() - task.tracker.unsettled() as i64 + task.publications as i64;
                    task.phase = Phase::Rewinding(Progress { point, settled: crate::ranges::Ranges::new() });
                }
            }
        }
        self.forget_commit_in_flight();
        let last: Vec<(Partition, bool)> = partitions.iter().map(|p| (*p, true)).collect();
        let (offsets, _) = self.plan(&last, &mut Vec::new());
        actions.push(Action::CommitAndRelease { offsets, partitions });
    }

    /// With exactly-once the last commit is the end of the transaction in which the partitions have a part.
    fn check_revoke_in_transaction(&mut self, now: Now, actions: &mut Vec<Action>) {
        let (Some(revoke), Some(transactions)) = (&mut self.revoke, &self.transactions) else { return };
        let late = now.steady_ms >= revoke.deadline_ms;
        let tasks = revoke.partitions.iter().filter_map(|p| self.tasks.get(p));
        let busy = tasks.clone().any(|t| matches!(t.phase, Phase::Draining { shards_left: 1.., .. }));
        let nothing = !tasks.clone().any(Task::commits);
        let done = revoke.committed || nothing || self.policy.has(Bug::ReleaseBeforeEnd) && !busy;
        if !done {
            match transactions.phase() {
                // Nothing can be committed before the producer is made anew.
                transaction::Phase::Renewing { .. } if !late => return,
                transaction::Phase::Renewing { .. } => {
                    revoke.failed.get_or_insert_with(|| "no transaction could be begun in time".into());
                }
                transaction::Phase::Open if busy && !late => return,
                transaction::Phase::Open => {
                    if busy {
                        revoke.failed.get_or_insert_with(|| "messages were under way for too long".into());
                    }
                    revoke.closing = true;
                    return self.close_transaction(now, actions);
                }
                transaction::Phase::Closing { .. } | transaction::Phase::Ending => {
                    if now.steady_ms >= revoke.end_ms {
                        let why = "it did not end while the group waited".into();
                        self.transaction_failed(why, now, actions);
                    }
                    return;
                }
            }
        }
        revoke.releasing = true;
        let (partitions, unfinished) = (revoke.partitions.clone(), revoke.failed.take());
        actions.push(Action::Release { partitions, unfinished });
    }

    /// Whether the shell commits this partition for the last time.
    pub(super) fn is_releasing(&self, partition: Partition) -> bool {
        self.revoke.as_ref().is_some_and(|r| r.releasing && r.partitions.contains(&partition))
    }

    /// The partitions of the last [`Action::CommitAndRelease`] are given up.
    pub fn released(&mut self) {
        for partition in self.revoke.take().map(|r| r.partitions).unwrap_or_default() {
            self.drop_unsaid(partition);
            self.tasks.remove(&partition);
            self.inboxes.forget(partition);
            if let Some(transactions) = &mut self.transactions {
                transactions.forget(partition);
            }
            if let Some(rounds) = &mut self.rounds {
                rounds.forget(partition);
            }
        }
    }

    /// These partitions are somebody else's already: nothing of them may be committed.
    pub fn lost(&mut self, partitions: &[Partition], now: Now, actions: &mut Vec<Action>) {
        if self.transactions.is_some() {
            return self.lost_in_transaction(partitions, now, actions);
        }
        if self.policy.has(Bug::CommitLost) {
            let all: Vec<(Partition, bool)> = partitions.iter().map(|p| (*p, false)).collect();
            let (offsets, _) = self.plan(&all, &mut Vec::new());
            actions.push(Action::CommitAndRelease { offsets, partitions: partitions.to_vec() });
        }
        for partition in partitions {
            self.drop_unsaid(*partition);
            if let Some(task) = self.tasks.remove(partition) {
                actions.push(Action::Close { partition: *partition, epoch: task.epoch });
            }
            if let Some(rounds) = &mut self.rounds {
                rounds.forget(*partition);
            }
        }
    }

    /// What they have in the present transaction must not be committed. One that ends already is judged by the group:
    /// its offsets carry the generation in which they were this member's.
    fn lost_in_transaction(&mut self, partitions: &[Partition], now: Now, actions: &mut Vec<Action>) {
        let mut touched = false;
        for partition in partitions {
            if let Some(task) = self.tasks.remove(partition) {
                touched |= task.touched;
                actions.push(Action::Close { partition: *partition, epoch: task.epoch });
            }
            self.inboxes.forget(*partition);
            if let Some(transactions) = &mut self.transactions {
                transactions.forget(*partition);
            }
        }
        let ending = self.transactions.as_ref().is_some_and(|t| t.phase() == transaction::Phase::Ending);
        if touched && !ending && !self.policy.has(Bug::CommitLost) {
            actions.push(Action::GivenUp { why: "partitions that have a part in it were lost".into() });
            self.give_up(now, actions);
        }
    }
}
