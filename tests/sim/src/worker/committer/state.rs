//! The committer's share of state: writes it, gives what is committed to the local store and then tells the shards, deletes
//! what has ended, and knows how much of its log is in.

use super::Committer;
use crate::coverage::Action as Point;
use crate::env::Env;
use crate::invariants::RunId;
use crate::model::outputs::Report;
use crate::record::index_of;
use crate::trace::Who;
use crate::worker::{Mail, ToShard};
use keyrail_engine::message::{Epoch, Partition};
use keyrail_engine::pipeline::{Action, Token};
use keyrail_engine::planted::Bug;
use keyrail_engine::state::Change;
use keyrail_engine::timers;
use std::collections::BTreeMap;
use std::sync::Arc;

/// So many names that have ended are deleted at a time.
const MOST_ENDED: usize = 8;

/// What is known of state.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Partitions of which all is known that is committed.
    partitions: BTreeMap<Partition, Epoch>,
    /// Where logs ended when that was asked. Once a transaction that ends later is committed, all below is in.
    ends: BTreeMap<Partition, usize>,
    /// The same, asked before the end of this transaction was sent.
    ends_before: Option<(u64, BTreeMap<Partition, usize>)>,
    /// With a bug: what the store does not have yet.
    late: Vec<(Partition, Arc<[Change]>)>,
}

impl Known {
    pub(super) const fn partitions(&self) -> &BTreeMap<Partition, Epoch> {
        &self.partitions
    }

    /// All is read of a partition.
    pub(super) fn read(&mut self, partition: Partition, epoch: Epoch) {
        self.partitions.insert(partition, epoch);
    }

    /// It starts anew: until then nothing is known of it.
    pub(super) fn suspend(&mut self, partition: Partition) {
        self.partitions.remove(&partition);
    }

    pub(super) fn close(&mut self, partition: Partition, epoch: Epoch) {
        if self.partitions.get(&partition).is_some_and(|open| *open <= epoch) {
            self.partitions.remove(&partition);
        }
    }

    /// The present transaction is given up. What became of it is not known, though its answer may still come.
    pub(super) fn given_up(&mut self) {
        self.ends.clear();
        self.ends_before = None;
    }

    /// The end of this transaction is about to be sent.
    pub(super) fn ends_sent(&mut self, number: u64, is_writing: impl Fn(Partition) -> bool) {
        let ends: BTreeMap<_, _> = self.ends.extract_if(.., |partition, _| !is_writing(*partition)).collect();
        if !ends.is_empty() {
            self.ends_before = Some((number, ends));
        }
    }
}

impl Committer {
    /// A partition and its present assignment.
    pub(super) fn at(&self, partition: Partition, mail: &Mail) -> (u16, RunId) {
        let run = self.present.get(&partition).map_or_else(RunId::default, |epoch| mail.run(partition, *epoch));
        (index_of(partition), run)
    }

    /// `false`: the process died of it.
    pub(super) fn keep(
        &mut self,
        (token, partition, changes): (Token, Partition, &[Change]),
        more: &mut Vec<Action>,
        mail: &mut Mail,
        env: &mut Env,
    ) -> bool {
        for change in changes {
            if env.reach(mail.worker, Point::Publish) {
                return false;
            }
            let at = self.at(partition, mail);
            let report = env.produce_state(self.client.sender(mail), token.0, at, change);
            if let Some(report) = report {
                self.reported(token, report, more, mail, env);
                if report != Report::Ok {
                    break;
                }
            }
        }
        true
    }

    /// Changes are committed: the store has them first, then no shard needs to remember them.
    pub(super) fn kept(&mut self, partition: Partition, changes: &Arc<[Change]>, mail: &Mail, env: &mut Env) {
        // Given up meanwhile: its next owner reads them.
        if !self.known.partitions.contains_key(&partition) {
            return;
        }
        env.note(Who::Worker(mail.worker), "state kept", Some((index_of(partition), -1)), changes.len() as i64);
        if self.planted == Some(Bug::ShardsForgetFirst) {
            self.known.late.push((partition, Arc::clone(changes)));
        } else {
            changes.iter().for_each(|change| mail.state.take(partition, change));
        }
        // What shards are told is told as the real shell does.
        let bare: Arc<[Change]> = changes.iter().map(timers::bare).collect();
        for shard in 0..self.shards.len() {
            self.tell_shard(shard, ToShard::Kept(partition, Arc::clone(&bare)));
        }
    }

    /// The consumer has asked where logs end. What was under way then, or is refused and may be there, is not known yet.
    pub(super) fn hear_ends(&mut self, ends: Vec<(Partition, usize)>, mail: &Mail) {
        if self.planted == Some(Bug::StateEndUnproven) {
            return ends.into_iter().for_each(|(partition, end)| mail.state.reach(partition, end));
        }
        self.known.ends.extend(ends);
    }

    /// The transaction of this number is committed, and its changes are in the store.
    pub(super) fn reach_ends(&mut self, number: u64, mail: &Mail) {
        let Some((_, ends)) = self.known.ends_before.take_if(|(of, _)| *of == number) else { return };
        for (partition, end) in ends.into_iter().filter(|(partition, _)| self.known.partitions.contains_key(partition))
        {
            mail.state.reach(partition, end);
        }
    }

    /// Once in a while: the disk catches up, and what has ended is to be deleted.
    pub(super) fn tend_state(&mut self, mail: &Mail, env: &mut Env) {
        for (partition, changes) in std::mem::take(&mut self.known.late) {
            changes.iter().for_each(|change| mail.state.take(partition, change));
        }
        let turn = env.rng.index(self.known.partitions.len().max(1));
        let Some(partition) = self.known.partitions.keys().nth(turn).copied() else { return };
        if env.rng.percent(3) {
            mail.state.save(partition, &mut env.disks[usize::from(mail.worker)]);
        }
        if env.rng.percent(8) {
            let ended = mail.state.ended(partition, env.now().wall_ms, MOST_ENDED);
            if !ended.is_empty() && self.ledger.expired(partition, &ended, env.now()) {
                let at = Some((index_of(partition), -1));
                env.note(Who::Worker(mail.worker), "state ended", at, ended.len() as i64);
            }
        }
    }
}
