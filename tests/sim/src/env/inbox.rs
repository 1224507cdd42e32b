//! Commands from outside on their way to whoever owns a partition, and answers on their way back.

use super::Env;
use crate::invariants::RunId;
use crate::model::outputs::{Effect, Report, Sender, inbox_place};
use crate::record::Rec;
use crate::trace::Who;
use keyrail_engine::inbox::{Answer, CommandId, Deed};
use std::rc::Rc;

/// A record of an inbox.
#[derive(Debug, Clone)]
pub enum InboxRecord {
    /// A command.
    Command(Command),
    /// What became of one, by the word of this assignment.
    Answer(RunId, CommandId, Answer),
    /// Nothing that anybody knows.
    Foreign,
}

/// A command, read.
#[derive(Debug, Clone)]
pub struct Command {
    /// Its name.
    pub id: CommandId,
    /// Somebody waits for the answer also where it is obeyed.
    pub wanted: bool,
    /// The partition and the offset of the message.
    pub at: (u16, i64),
    /// What is to be done.
    pub deed: Deed<Rc<Rec>>,
}

/// How a record gets into an inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// By itself.
    Alone,
    /// In a transaction.
    Committed,
    /// In one that was not committed.
    Aborted,
}

/// What a deed is called in traces.
#[must_use]
pub const fn deed_name<T>(deed: &Deed<T>) -> &'static str {
    match deed {
        Deed::Retry => "retry sent",
        Deed::Drop => "drop sent",
        Deed::Redrive(_) => "redrive sent",
    }
}

impl Env {
    /// Somebody writes a command to the inbox of the message's partition. Gives its name.
    pub fn send_command(&mut self, at: (u16, i64), deed: Deed<Rc<Rec>>, wanted: bool, way: Way) -> CommandId {
        let id = CommandId((self.inbox.len() as u128).to_be_bytes());
        self.note(Who::Broker, deed_name(&deed), Some(at), i64::from(way != Way::Aborted));
        let command = Command { id, wanted, at, deed };
        let position = self.append_to_inbox(at.0, InboxRecord::Command(command.clone()), way);
        self.oracle.command_written(&command, position, way != Way::Aborted);
        id
    }

    /// Somebody writes something to an inbox.
    pub fn append_to_inbox(&mut self, partition: u16, record: InboxRecord, way: Way) -> i64 {
        let number = self.inbox.len();
        if let InboxRecord::Answer(_, id, _) = record {
            self.oracle.answered_alone(id);
        }
        self.inbox.push(record);
        let log = self.coordinator.internal_log(inbox_place(partition));
        let position = log.end() as i64;
        match way {
            Way::Alone => log.append_alone(number),
            Way::Committed | Way::Aborted => log.append_done(number, way == Way::Committed),
        }
        position
    }

    /// As [`Env::produce`], for an answer.
    pub fn produce_answer(
        &mut self,
        sender: Sender,
        token: u64,
        (partition, run): (u16, RunId),
        (id, answer): (CommandId, Answer),
    ) -> Option<Report> {
        let effect = Effect::answer(partition, self.inbox.len(), run.0);
        self.inbox.push(InboxRecord::Answer(run, id, answer));
        self.send(sender, inbox_place(partition), token, effect, false)
    }

    /// What stands in an inbox from there on, for readers of committed records, each with its position.
    pub fn read_inbox(&mut self, partition: u16, from: i64, most: usize, uncommitted: bool) -> Vec<(i64, InboxRecord)> {
        let log = self.coordinator.internal_log(inbox_place(partition));
        let all = log.read_on(usize::try_from(from).unwrap_or(0), uncommitted).take(most);
        all.map(|(at, record)| (at as i64, self.inbox[record].clone())).collect()
    }

    /// Where an inbox ends for readers of committed records.
    pub fn inbox_end(&mut self, partition: u16) -> i64 {
        self.coordinator.internal_log(inbox_place(partition)).stable_end() as i64
    }

    /// What was answered to a command, as far as that is committed.
    pub fn answers_to(&mut self, partition: u16, id: CommandId) -> Vec<Answer> {
        let all = self.read_inbox(partition, 0, usize::MAX, false).into_iter();
        let own = all.filter_map(|(_, record)| match record {
            InboxRecord::Answer(_, to, answer) if to == id => Some(answer),
            _ => None,
        });
        own.collect()
    }
}
