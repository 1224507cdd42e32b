//! The committer's share of offsets: commits of them alone, and what is given up with the last one.

use super::{Committer, Releasing};
use crate::coverage::Action as Point;
use crate::env::{CommitLot, CommitName, CommitRequest, Due, Env};
use crate::invariants::{RunId, name as invariant};
use crate::record::index_of;
use crate::trace::Who;
use crate::worker::{Mail, ToConsumer};
use keyrail_engine::message::Partition;
use keyrail_engine::pipeline::CommitOffset;

impl Committer {
    /// Beside each offset the assignment that it is for.
    pub(super) fn with_runs(
        &self,
        offsets: Vec<CommitOffset>,
        mail: &Mail,
        env: &mut Env,
    ) -> Vec<(CommitOffset, RunId)> {
        let mut with_runs = Vec::with_capacity(offsets.len());
        for offset in offsets {
            let at = offset.partition;
            match self.present.get(&at) {
                Some(epoch) => with_runs.push((offset, mail.run(at, *epoch))),
                None => {
                    let at = (index_of(offset.partition), offset.offset);
                    env.oracle.violated(invariant::OFFSETS, Some(at), "a partition that was lost is committed".into());
                }
            }
        }
        with_runs
    }

    pub(super) fn send_commit(&mut self, name: CommitName, offsets: Vec<CommitOffset>, mail: &Mail, env: &mut Env) {
        let with_runs = self.with_runs(offsets, mail, env);
        let lot = env.afflictions[usize::from(mail.worker)].commit.take().unwrap_or(CommitLot::Stored);
        let arrival_ms = self.last_arrival_ms.max(env.now_ms + env.rng.below(6));
        self.last_arrival_ms = arrival_ms;
        let request = CommitRequest {
            process: mail.process,
            member: mail.member,
            generation: env.group.known_generation(mail.member),
            name,
            offsets: with_runs,
            planned_ms: env.now_ms,
            lot,
        };
        env.after(arrival_ms - env.now_ms, Due::Commit(Box::new(request)));
    }

    pub(super) fn release(
        &mut self,
        offsets: Vec<CommitOffset>,
        partitions: Vec<Partition>,
        mail: &mut Mail,
        env: &mut Env,
    ) -> bool {
        if env.reach(mail.worker, Point::Release) {
            return false;
        }
        let hasty = env.now_ms >= self.revoke_since_ms + self.revoke_ms;
        for partition in &partitions {
            env.note(Who::Worker(mail.worker), "release", Some((index_of(*partition), -1)), i64::from(hasty));
            if let Some(epoch) = self.present.get(partition).filter(|_| hasty) {
                env.oracle.unclean(mail.run(*partition, *epoch));
            }
        }
        self.answers.forget();
        self.releases += 1;
        let answered = offsets.is_empty().then_some(true);
        if answered.is_none() {
            self.send_commit(CommitName::Release(self.releases), offsets, mail, env);
        }
        let count = self.releases;
        self.releasing = Some(Releasing { count, partitions, answered, give_up_ms: env.now_ms + self.commit_ms });
        true
    }

    /// The last commit is answered, or waited for long enough.
    pub(super) fn end_release(&mut self, mail: &mut Mail, env: &mut Env) {
        let Some(release) = self.releasing.take() else { return };
        for partition in &release.partitions {
            if let Some(epoch) = self.present.remove(partition)
                && release.answered != Some(true)
            {
                env.oracle.unclean(mail.run(*partition, epoch));
            }
        }
        self.ledger.released();
        self.tell_consumer(ToConsumer::Unassign(release.partitions));
    }
}
