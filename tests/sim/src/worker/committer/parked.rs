//! The committer's share of what is parked: writes it, gives what is committed to the index and then tells the shards.

use super::Committer;
use crate::coverage::Action as Point;
use crate::env::{Env, ParkRecord};
use crate::model::outputs::Report;
use crate::record::{Rec, index_of};
use crate::trace::Who;
use crate::worker::{Mail, ToShard};
use keyrail_engine::message::{Epoch, Partition};
use keyrail_engine::parking::{self, Change};
use keyrail_engine::pipeline::{Action, Token};
use std::rc::Rc;
use std::sync::Arc;

impl Committer {
    /// `false`: the process died of it.
    pub(super) fn act_on_parked(
        &mut self,
        action: Action,
        more: &mut Vec<Action>,
        mail: &mut Mail,
        env: &mut Env,
    ) -> bool {
        match action {
            Action::Park { token } => return self.park(token, more, mail, env),
            Action::Unpark { token, partition, offsets } => {
                return self.unpark((token, partition, &offsets), more, mail, env);
            }
            Action::Parked { partition, epoch, changes } => self.parked((partition, epoch), &changes, mail, env),
            Action::Covered { partition, epoch, progress } => {
                for shard in 0..self.shards.len() {
                    self.tell_shard(shard, ToShard::Covered(partition, epoch, progress.clone()));
                }
            }
            Action::Answer { token, partition, answers } => {
                return self.answer((token, partition, &answers), more, mail, env);
            }
            _ => {}
        }
        true
    }

    fn park(&mut self, token: Token, more: &mut Vec<Action>, mail: &mut Mail, env: &mut Env) -> bool {
        let Some(settled) = self.ledger.publication(token) else { return true };
        let Some(waiting) = parking::written(&settled.fate) else { return true };
        let (ticket, rec) = (settled.ticket, Rc::clone(&settled.message.rec));
        let record = ParkRecord { run: mail.run(ticket.partition, ticket.epoch), rec, waiting: Some(waiting.clone()) };
        if env.reach(mail.worker, Point::Park) {
            return false;
        }
        self.ledger.staged(u64::from(record.rec.size));
        let (number, report) = env.produce_parked(self.client.sender(mail), token.0, record);
        self.parking.insert(token.0, number);
        if let Some(report) = report {
            self.reported(token, report, more, mail, env);
        }
        true
    }

    /// `false`: the process died of it.
    fn unpark(
        &mut self,
        (token, partition, offsets): (Token, Partition, &[i64]),
        more: &mut Vec<Action>,
        mail: &mut Mail,
        env: &mut Env,
    ) -> bool {
        let run = self.present.get(&partition).map(|epoch| mail.run(partition, *epoch)).unwrap_or_default();
        for offset in offsets {
            if env.reach(mail.worker, Point::Unpark) {
                return false;
            }
            let rec = env.oracle.look(index_of(partition), *offset).map(|fact| Rc::clone(&fact.rec));
            // Of a timer only its place is needed.
            let timer = || Rc::new(Rec { offset: *offset, ..Rec::new(index_of(partition), None, 0) });
            let Some(rec) = rec.or_else(|| (*offset < -1).then(timer)) else { continue };
            let record = ParkRecord { run, rec, waiting: None };
            let (_, report) = env.produce_parked(self.client.sender(mail), token.0, record);
            if let Some(report) = report {
                self.reported(token, report, more, mail, env);
                if report != Report::Ok {
                    break;
                }
            }
        }
        true
    }

    /// This is committed.
    fn parked(&mut self, (partition, epoch): (Partition, Epoch), changes: &Arc<[Change]>, mail: &Mail, env: &mut Env) {
        if self.present.get(&partition) != Some(&epoch) {
            return;
        }
        env.note(Who::Worker(mail.worker), "retry topic kept", Some((index_of(partition), -1)), changes.len() as i64);
        for change in changes.iter() {
            match change.written {
                Some(token) => {
                    if let Some(record) = self.parking.remove(&token.0) {
                        mail.parked.take(partition, &env.parks[record]);
                    }
                }
                None => mail.parked.remove(partition, change.offset),
            }
        }
        for shard in 0..self.shards.len() {
            self.tell_shard(shard, ToShard::Parked(partition, epoch, Arc::clone(changes)));
        }
    }
}
