//! The committer's share of commands from outside: reads them, hands them to the shards of their messages, writes the answers.

use super::Committer;
use crate::coverage::Action as Point;
use crate::env::{Command, Env, InboxRecord};
use crate::model::outputs::Report;
use crate::record::index_of;
use crate::trace::Who;
use crate::worker::{Mail, Obeyed, Order, ToCommitter, ToShard};
use keyrail_engine::inbox::{Answer, CommandId, Deed, Refused, Returned};
use keyrail_engine::message::{Epoch, Failure, Partition};
use keyrail_engine::order::shard_of;
use keyrail_engine::parking::Parked;
use keyrail_engine::pipeline::{Action, Received, Token};
use keyrail_engine::planted::Bug;
use keyrail_engine::shard;
use std::collections::BTreeMap;

/// Tells the log of an inbox from another one of that name.
const LOG: u32 = 7;
/// So many records of an inbox are read at a time, at most.
const CHUNK: u64 = 16;

/// How far the inbox of each partition that runs is read.
#[derive(Debug, Default)]
pub(super) struct Inboxes(BTreeMap<Partition, (Epoch, i64)>);

impl Committer {
    /// What is parked of a partition is known: its commands are read from here on.
    pub(super) fn open_inbox(&mut self, partition: Partition, epoch: Epoch, env: &mut Env) {
        let Some(mut at) = self.ledger.inbox(partition, epoch, LOG) else { return };
        match self.planted {
            Some(Bug::InboxFromEnd) => at = env.inbox_end(index_of(partition)),
            Some(Bug::InboxOnceOnly) => at = self.inboxes.0.get(&partition).map_or(at, |(_, read)| *read),
            _ => {}
        }
        self.inboxes.0.insert(partition, (epoch, at));
    }

    /// Reads what has come since.
    pub(super) fn read_inboxes(&mut self, mail: &mut Mail, env: &mut Env) {
        if env.down_until_ms > env.now_ms {
            return;
        }
        for (partition, (epoch, from)) in self.inboxes.0.clone() {
            let most = env.rng.within(0, CHUNK) as usize;
            let uncommitted = self.planted == Some(Bug::InboxUncommitted);
            for (at, record) in env.read_inbox(index_of(partition), from, most, uncommitted) {
                let command = if let InboxRecord::Command(command) = record { Some(command) } else { None };
                match (self.ledger.command(partition, epoch, at, command.is_some()), command) {
                    (Received::Obey, Some(command)) => self.order((partition, epoch, at), command, mail, env),
                    (Received::Obey, None) | (Received::Known, _) => {}
                    (Received::Later, _) => {
                        env.note(Who::Worker(mail.worker), "command waits", Some((index_of(partition), -1)), at);
                        break;
                    }
                    (Received::Gone, _) => {
                        self.inboxes.0.remove(&partition);
                        break;
                    }
                }
                if let Some(reading) = self.inboxes.0.get_mut(&partition) {
                    reading.1 = at + 1;
                }
            }
        }
    }

    /// To the shard of the message's lane. What is not parked has none.
    fn order(&mut self, place: (Partition, Epoch, i64), command: Command, mail: &Mail, env: &mut Env) {
        let (partition, epoch, at) = place;
        let Command { id, wanted, at: (_, offset), deed } = command;
        let (lane, deed) = match deed {
            Deed::Retry => (mail.parked.stands(partition, offset).map(|(lane, _)| lane), Deed::Retry),
            Deed::Drop => (mail.parked.stands(partition, offset).map(|(lane, _)| lane), Deed::Drop),
            Deed::Redrive(rec) => {
                let papers = mail.parked.papers(partition, &rec);
                let (size, timestamp_ms, lane) = (rec.size, rec.timestamp_ms, papers.lane);
                let (failure, message) = (Failure::default(), mail.parked.load(&rec));
                (Some(lane), Deed::Redrive(Returned { papers, size, timestamp_ms, failure, message }))
            }
        };
        let named = (id, wanted);
        let Some(lane) = lane else {
            let result = Err(Refused::NotParked);
            let (message, run) = ((index_of(partition), offset), mail.run(partition, epoch));
            let owned = env.group.owner(message.0) == Some(mail.member);
            env.oracle.obeyed(run, (id, message), result, (owned, env.now()));
            let obeyed = Obeyed { partition, epoch, at, named, result: Err(Refused::NotParked) };
            // The ledger takes it when it takes what shards have settled, in order.
            return self.hold.push_back(ToCommitter::Obeyed(Box::new(obeyed)));
        };
        let order = Order { order: shard::Order { partition, epoch, offset, deed }, at, named };
        let shard = shard_of(lane, self.shards.len() as u32) as usize;
        self.tell_shard(shard, ToShard::Order(Box::new(order)));
    }

    /// A shard, or this thread itself, has dealt with a command.
    pub(super) fn obeyed(&mut self, obeyed: Obeyed, actions: &mut Vec<Action>, mail: &Mail, env: &mut Env) {
        let Obeyed { partition, epoch, at, named, result } = obeyed;
        if self.planted == Some(Bug::AnswerAtOnce) && named.1 && result.is_ok() {
            let answer = InboxRecord::Answer(mail.run(partition, epoch), named.0, Answer::Obeyed);
            env.append_to_inbox(index_of(partition), answer, crate::env::Way::Alone);
        }
        self.ledger.obeyed((partition, epoch, at), named, result, env.now(), actions);
    }

    /// `false`: the process died of it.
    pub(super) fn answer(
        &mut self,
        (token, partition, answers): (Token, Partition, &[(CommandId, Answer)]),
        more: &mut Vec<Action>,
        mail: &mut Mail,
        env: &mut Env,
    ) -> bool {
        for answer in answers {
            if env.reach(mail.worker, Point::Answer) {
                return false;
            }
            let at = self.at(partition, mail);
            let report = env.produce_answer(self.client.sender(mail), token.0, at, answer.clone());
            if let Some(report) = report {
                self.reported(token, report, more, mail, env);
                if report != Report::Ok {
                    break;
                }
            }
        }
        true
    }
}
