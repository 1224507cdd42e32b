//! The committer's share of exactly-once: the producer of the present moment, and the end of its transactions.

use super::Committer;
use crate::coverage::Action as Point;
use crate::env::{Answer, CommitLot, Due, EndRequest, Env, Marks, No, OffsetsRequest, Renewal};
use crate::invariants::name as invariant;
use crate::model::outputs::Sender;
use crate::record::index_of;
use crate::trace::Who;
use crate::worker::{Mail, ToConsumer, ToShard};
use keyrail_engine::message::MessageId;
use keyrail_engine::pipeline::{Action, CommitOffset, Trouble};
use keyrail_engine::planted::Bug;
use std::rc::Rc;

/// The transactional producer of a process, or the one of a process without transactions.
#[derive(Debug, Default)]
pub(super) struct Client {
    instance: u32,
    epoch: u32,
    /// The first that the process had.
    first_epoch: Option<u32>,
    /// Which of the ledger's transactions the present one is.
    attempt: u32,
    /// And which one ends: the client goes on with it until it is replaced, though the ledger may have given it up.
    ending: u32,
    /// A request of the present one was sent twice.
    resent: bool,
    /// What is to come of the request that ends it.
    end: Option<CommitLot>,
}

impl Client {
    pub(super) const fn sender(&self, mail: &Mail) -> Sender {
        Sender {
            worker: mail.worker,
            process: mail.process,
            instance: self.instance,
            epoch: self.epoch,
            attempt: self.attempt,
        }
    }

    const fn next_transaction(&mut self) {
        self.attempt += 1;
        self.resent = false;
        self.end = None;
    }
}

impl Committer {
    /// `false`: the process died of it.
    pub(super) fn act_in_transaction(
        &mut self,
        action: Action,
        more: &mut Vec<Action>,
        mail: &mut Mail,
        env: &mut Env,
    ) -> bool {
        match action {
            Action::Mark { token, partition, ids, time_ms } => {
                if env.reach(mail.worker, Point::Publish) {
                    return false;
                }
                let (sender, marks) = (self.client.sender(mail), Marks { time_ms, ids: Rc::from(&*ids) });
                if let Some(report) = env.produce_marks(sender, token.0, self.at(partition, mail), marks) {
                    self.reported(token, report, more, mail, env);
                }
            }
            Action::Marked { partition, ids, time_ms } => {
                let ids: Rc<[MessageId]> = Rc::from(&*ids);
                mail.past.insert(partition, &Marks { time_ms, ids: Rc::clone(&ids) });
                for shard in 0..self.shards.len() {
                    self.tell_shard(shard, ToShard::Marked(partition, Rc::clone(&ids)));
                }
            }
            Action::Keep { token, partition, changes } => {
                return self.keep((token, partition, &changes), more, mail, env);
            }
            Action::Kept { partition, changes } => self.kept(partition, &changes, mail, env),
            Action::Renew => {
                if env.reach(mail.worker, Point::Renew) {
                    return false;
                }
                self.renew(mail, env);
            }
            Action::GivenUp { .. } => {
                env.note(Who::Worker(mail.worker), "given up", None, i64::from(self.client.attempt));
                self.client.next_transaction();
                self.known.given_up();
                self.parking.clear();
                if self.planted == Some(Bug::DropHeld) {
                    self.hold.clear();
                }
                return !env.reach(mail.worker, Point::GiveUp);
            }
            Action::Condemn { partition, offsets } => self.tell_consumer(ToConsumer::Condemn(partition, offsets)),
            Action::Restart(partitions) => {
                partitions.iter().for_each(|(p, _)| self.known.suspend(env.settings.policy.order.task(*p)));
                self.tell_consumer(ToConsumer::Restart(partitions));
            }
            Action::Release { partitions, unfinished } => {
                if env.reach(mail.worker, Point::Release) {
                    return false;
                }
                for partition in &partitions {
                    let at = Some((index_of(*partition), -1));
                    env.note(Who::Worker(mail.worker), "release", at, i64::from(unfinished.is_some()));
                    if let Some(epoch) = self.present.remove(partition).filter(|_| unfinished.is_some()) {
                        env.oracle.unclean(mail.run(*partition, epoch));
                    }
                }
                self.ledger.released();
                self.tell_consumer(ToConsumer::Unassign(partitions));
            }
            Action::Fenced(_) => {
                env.note(Who::Worker(mail.worker), "fenced", None, i64::from(self.client.epoch));
                // Where a renewal that came late and a stranger both fenced it, it can't tell which was which.
                let first_epoch = self.client.first_epoch.unwrap_or(self.client.epoch);
                if !env.coordinator.is_stolen(mail.worker, first_epoch) {
                    let what = "a worker ends since it is fenced, and nobody took its id";
                    env.oracle.violated(invariant::PROGRESS, None, what.into());
                }
                self.fenced = true;
            }
            _ => {}
        }
        true
    }

    fn renew(&mut self, mail: &mut Mail, env: &mut Env) {
        self.client.instance += 1;
        // What the one before has under way is nobody's any more.
        mail.reports.clear();
        mail.told.clear();
        let lot = env.afflictions[usize::from(mail.worker)].renewal.take();
        let (worker, process, instance) = (mail.worker, mail.process, self.client.instance);
        let renewal = Renewal { worker, process, instance, fails: lot == Some(None), heard: false };
        env.renew(renewal);
        let wait_ms = lot.flatten().unwrap_or_else(|| env.rng.below(6));
        env.note(Who::Worker(worker), "renews", None, wait_ms as i64);
        env.after(wait_ms, Due::Renewal(renewal));
    }

    /// The producer that reports and answers are for.
    pub(in crate::worker) const fn instance(&self) -> u32 {
        self.client.instance
    }

    /// Puts offsets into the transaction. The group's generation is read here, on the thread on which the ledger lets go
    /// of partitions: a generation never stands for one that is not this member's.
    pub(super) fn send_offsets(&mut self, number: u64, offsets: Vec<CommitOffset>, mail: &Mail, env: &mut Env) {
        let offsets = self.with_runs(offsets, mail, env);
        let ills = &mut env.afflictions[usize::from(mail.worker)];
        let refused = std::mem::take(&mut ills.refused_offsets);
        let mut lot = ills.commit.take().unwrap_or(CommitLot::Stored);
        let is_of_offsets = matches!(lot, CommitLot::Slow(_) | CommitLot::Twice(_)) && env.rng.percent(50);
        if !is_of_offsets {
            self.client.end = Some(std::mem::replace(&mut lot, CommitLot::Stored));
        }
        self.client.ending = self.client.attempt;
        let (member, generation) = (mail.member, env.group.known_generation(mail.member));
        if offsets.is_empty() {
            // A client sends nothing for an empty list, and calls that success.
            let (worker, process, instance) = (mail.worker, mail.process, self.client.instance);
            let what = Answer::Offsets(number, Ok(()));
            return env.after(1, Due::Told(worker, process, crate::env::Told { instance, what }));
        }
        let offsets = Some(OffsetsRequest { member, generation, offsets, refused });
        self.send_end(number, offsets, lot, mail, env);
    }

    fn send_end(&mut self, number: u64, offsets: Option<OffsetsRequest>, lot: CommitLot, mail: &Mail, env: &mut Env) {
        let sender = Sender { attempt: self.client.ending, ..self.client.sender(mail) };
        let request = EndRequest { sender, number, offsets, lot, is_copy: false };
        let mut wait_ms = env.rng.below(6);
        match lot {
            CommitLot::Slow(ms) => wait_ms = ms,
            CommitLot::Twice(ms) => {
                self.client.resent = true;
                let first = EndRequest { is_copy: true, ..request.clone() };
                env.after(ms, Due::End(Box::new(first)));
            }
            _ => {}
        }
        env.after(wait_ms, Due::End(Box::new(request)));
    }

    /// The producer has an answer.
    pub(super) fn take_told(&mut self, actions: &mut Vec<Action>, mail: &mut Mail, env: &mut Env) -> bool {
        let Some(told) = mail.told.pop_front() else { return false };
        let now = env.now();
        match told.what {
            Answer::Renewed(result) => {
                if env.reach(mail.worker, Point::Renewed) {
                    return true;
                }
                if let Ok(epoch) = result {
                    self.client.epoch = epoch;
                    self.client.first_epoch.get_or_insert(epoch);
                    self.client.next_transaction();
                }
                self.ledger.renewed(result.map(|_| ()).map_err(trouble), now, actions);
            }
            Answer::Offsets(number, result) => {
                if env.reach(mail.worker, Point::EndTransaction) {
                    return true;
                }
                match result {
                    Ok(()) => {
                        let lot = self.client.end.take().unwrap_or(CommitLot::Stored);
                        self.send_end(number, None, lot, mail, env);
                    }
                    Err(no) => self.ledger.commit_failed(number, trouble(no), now, actions),
                }
            }
            Answer::Ended(number, result) => {
                if env.reach(mail.worker, Point::CommitAnswer) {
                    return true;
                }
                self.ended(number, result, actions, mail, env);
                if result.is_ok() {
                    self.act_all(std::mem::take(actions), mail, env);
                    self.reach_ends(number, mail);
                }
            }
        }
        true
    }

    fn ended(&mut self, number: u64, result: Result<(), No>, actions: &mut Vec<Action>, mail: &Mail, env: &mut Env) {
        env.note(Who::Worker(mail.worker), "commit answered", None, i64::from(result.is_ok()));
        let now = env.now();
        match result {
            Ok(()) => {
                if !env.is_stored(mail.process, number) {
                    let what = format!("commit {number} is taken for stored, and the broker has not stored it");
                    env.oracle.violated(invariant::OFFSETS, None, what);
                }
                let resent = self.client.resent;
                self.client.next_transaction();
                self.ledger.committed(number, resent, now, actions);
            }
            Err(no) => self.ledger.commit_failed(number, trouble(no), now, actions),
        }
    }
}

fn trouble(no: No) -> Trouble {
    match no {
        No::Fenced => Trouble::Fenced("the id is another producer's".into()),
        No::Superseded => Trouble::Superseded("the group has moved on".into()),
        No::Failed => Trouble::Failed("refused, or nobody knows".into()),
    }
}
