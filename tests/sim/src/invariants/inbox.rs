//! Commands from outside: each is obeyed or refused once, what it changes is committed with its place in the inbox, and its
//! answer is what became of it.

use super::facts::{End, Local};
use super::{Oracle, RunId, Stored, name};
use crate::env::Command;
use crate::record::{Payload, index_of};
use keyrail_engine::inbox::{Answer, CommandId, Deed, Refused};
use keyrail_engine::message::{Fate, Now, Reason};
use keyrail_engine::metadata::{Kept, Metadata};
use keyrail_engine::parking::AT_ONCE;
use keyrail_engine::pipeline::WINDOW;
use keyrail_engine::shard::Settled;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// What of an inbox is dealt with, by what a commit says.
fn is_done(kept: &Kept, at: i64) -> bool {
    let behind = at - kept.inbox_at;
    behind < 0 || (1..=WINDOW).contains(&behind) && kept.inbox_done >> (behind - 1) & 1 == 1
}

/// What somebody wants of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    Retry,
    Drop,
    Redrive,
}

/// A command that stands in an inbox.
#[derive(Debug, Clone, Copy)]
struct Sent {
    id: CommandId,
    at: (u16, i64),
    want: Want,
    /// It is answered in any case.
    wanted: bool,
    /// A commit says that it is dealt with.
    done: bool,
}

/// All that was sent, and what came of it.
#[derive(Debug, Default)]
pub(super) struct Commands {
    /// By the partition and the place in its inbox.
    sent: BTreeMap<(u16, i64), Sent>,
    wants: BTreeMap<CommandId, Want>,
    /// Those whose transaction was not committed.
    aborted: BTreeSet<CommandId>,
    /// What a shard made of them, or the committer, in an assignment. Nothing: it was obeyed.
    results: HashMap<(RunId, CommandId), Option<Refused>>,
    /// Processes and partitions of which the broker has not taken an answer.
    silent: BTreeSet<(u16, u16)>,
    /// How many of each kind were committed as obeyed, and how many of all were refused.
    counts: [u32; 4],
}

impl Oracle {
    /// A command stands in an inbox; `committed`: for readers of committed records.
    pub fn command_written(&mut self, command: &Command, position: i64, committed: bool) {
        let want = match command.deed {
            Deed::Retry => Want::Retry,
            Deed::Drop => Want::Drop,
            Deed::Redrive(_) => Want::Redrive,
        };
        let Command { id, wanted, at, .. } = *command;
        self.commands.wants.insert(id, want);
        if committed {
            self.commands.sent.insert((at.0, position), Sent { id, at, want, wanted, done: false });
            self.open[usize::from(at.0)] += 1;
        } else {
            self.commands.aborted.insert(id);
        }
    }

    /// Whether a command to this message is not dealt with.
    #[must_use]
    pub fn is_commanded(&self, at: (u16, i64)) -> bool {
        let own = self.commands.sent.range((at.0, 0)..=(at.0, i64::MAX));
        own.into_iter().any(|(_, sent)| sent.at == at && !sent.done)
    }

    /// How many retries, drops and redrives were committed as obeyed, and how many commands as refused.
    #[must_use]
    pub const fn commands_done(&self) -> [u32; 4] {
        self.commands.counts
    }

    /// The broker did not take an answer.
    pub fn answer_refused(&mut self, run: RunId) {
        let run = self.run(run);
        let whose = (run.process, run.partition());
        self.commands.silent.insert(whose);
    }

    /// An answer stands in an inbox, and in no transaction.
    pub fn answered_alone(&mut self, id: CommandId) {
        let own = self.commands.sent.values().find(|sent| sent.id == id);
        if let Some(sent) = own.filter(|sent| !sent.done) {
            let what = "a command to it is answered, and what came of it is not committed".into();
            self.violated(name::EXACTLY, Some(sent.at), what);
        }
    }

    /// A worker has obeyed a command, or not; `owned`: it has the partition still.
    pub fn obeyed(
        &mut self,
        run: RunId,
        (id, at): (CommandId, (u16, i64)),
        result: Result<&Settled<Payload>, Refused>,
        (owned, now): (bool, Now),
    ) {
        if self.commands.aborted.contains(&id) {
            let what = "a command is obeyed, or refused, whose transaction was not committed".into();
            self.violated(name::EXACTLY, Some(at), what);
        }
        if self.commands.results.insert((run, id), result.err()).is_some() {
            self.violated(name::FATE, Some(at), "a command is obeyed twice in one assignment".into());
        }
        match result {
            Err(refused) if owned => self.judge_refusal(run, at, refused),
            Err(_) => {}
            Ok(settled) => self.judge_obedience(run, id, settled, (owned, now)),
        }
    }

    /// What a message is parked anew with, or dropped for, is what was asked.
    fn judge_obedience(&mut self, run: RunId, id: CommandId, settled: &Settled<Payload>, (owned, now): (bool, Now)) {
        let at = (index_of(settled.ticket.partition), settled.ticket.offset);
        let want = self.commands.wants.get(&id).copied();
        let lawful = match (&settled.fate, want) {
            (Fate::Discarded(epitaph), Some(Want::Drop)) => epitaph.reason == Reason::Dropped,
            (Fate::Parked(waiting), Some(Want::Retry | Want::Redrive)) => {
                let anew = (waiting.history.attempts, waiting.history.failures) == (0, 0);
                let stood = self.parks.of(at).map(|(_, stood)| stood.history.first_failed_ms);
                let has_failed = stood.is_none_or(|first| first.is_some());
                let since = waiting.history.first_failed_ms == has_failed.then_some(now.wall_ms);
                // Who has lost the partition knows of its own time.
                anew && (since || !owned || !self.is_latest(run, at.0)) && waiting.due_ms == AT_ONCE
            }
            _ => false,
        };
        if !lawful {
            let what = format!("is commanded ({want:?}), and comes to {:?}", settled.fate);
            self.violated(name::FATE, Some(at), what);
        }
        let end = if want == Some(Want::Drop) { End::Discarded } else { End::Parked };
        self.decided += 1;
        let local = Local {
            id: settled.ticket.id,
            settled: true,
            order: self.decided,
            end: Some(end),
            command: Some(id),
            dropped: end == End::Discarded,
            ..Local::default()
        };
        if let Some(fact) = self.fact(at.0, at.1).filter(|_| end == End::Discarded) {
            (fact.settled, fact.settled_itself, fact.discarded) = (true, true, true);
        }
        *self.local(run, at.1) = local;
    }

    /// Of what a process must know by now, whoever reads it.
    fn judge_refusal(&mut self, run: RunId, at: (u16, i64), refused: Refused) {
        if !self.is_latest(run, at.0) {
            return;
        }
        let local = self.locals.get(&(run, at.1)).copied().unwrap_or_default();
        // It was parked before this assignment began, and nothing has become of it.
        let stands = self.parks.of(at).is_some_and(|(parked_in, _)| *parked_in != run) && local.end.is_none();
        let lawful = match refused {
            Refused::NotParked => !stands || local.calls > 0,
            Refused::IsParked => self.parks.of(at).is_some() || self.locals.contains_key(&(run, at.1)),
            Refused::Behind(offset) => self.is_behind(at, offset),
            Refused::GivenUp(offset) => self.is_given_up(at, (at.0, offset)),
            Refused::Runs => true,
            Refused::NoParking => false,
        };
        if !lawful {
            self.violated(name::FATE, Some(at), format!("a command to it is refused: {refused}"));
        }
    }

    fn is_behind(&self, at: (u16, i64), before: i64) -> bool {
        let scope = |at: (u16, i64)| self.look(at.0, at.1).map(|fact| fact.scope).or_else(|| self.scope_at(at));
        let number = |at: (u16, i64)| self.parks.of(at).map(|(_, waiting)| waiting.number);
        let first = (at.0, before);
        scope(first) == scope(at) && (number(first) < number(at) || number(first).is_none() || number(at).is_none())
    }

    /// A transaction is committed, and says so much of inboxes. What it changes of parked messages by command is `changed`.
    pub(super) fn judge_inboxes(
        &mut self,
        offsets: &[Stored<'_>],
        mut changed: BTreeMap<CommandId, (u16, i64)>,
        answers: &[(RunId, CommandId, &Answer)],
    ) {
        let mut answered: BTreeMap<CommandId, &Answer> = BTreeMap::new();
        for (_, id, answer) in answers {
            if answered.insert(*id, answer).is_some() {
                self.violated(name::TWICE, None, "a command is answered twice in one transaction".into());
            }
        }
        for commit in offsets {
            let read = Metadata::decode(commit.metadata, commit.offset, commit.log_end);
            let Ok(Metadata { kept, .. }) = read else { continue };
            for sent in self.newly_done(commit.partition, &kept) {
                let written = changed.remove(&sent.id).is_some();
                self.judge_command(commit.run, sent, written, answered.remove(&sent.id));
            }
        }
        if let Some((_, at)) = changed.first_key_value() {
            let what = "what a command changes is committed, and the place of the command is not".into();
            self.violated(name::EXACTLY, Some(*at), what);
        }
        if !answered.is_empty() {
            let what = "an answer is committed, and the place of its command is not".into();
            self.violated(name::EXACTLY, None, what);
        }
    }

    fn newly_done(&mut self, partition: u16, kept: &Kept) -> Vec<Sent> {
        let mut news = Vec::new();
        let mut undone = None;
        for ((_, at), sent) in self.commands.sent.range_mut((partition, 0)..=(partition, i64::MAX)) {
            let done = is_done(kept, *at);
            if done && !sent.done {
                sent.done = true;
                news.push(*sent);
            } else if sent.done && !done {
                undone.get_or_insert(sent.at);
            }
        }
        if let Some(at) = undone {
            let what = "a command to it was dealt with by an earlier commit, and is not by this one".into();
            self.violated(name::OFFSETS, Some(at), what);
        }
        news
    }

    /// A commit says for the first time that a command is dealt with.
    fn judge_command(&mut self, run: RunId, sent: Sent, written: bool, answer: Option<&Answer>) {
        let index = usize::from(sent.at.0);
        self.open[index] -= 1;
        self.closed[index] += 1;
        let Some(result) = self.commands.results.get(&(run, sent.id)).copied() else {
            let what = "a command to it is passed by a commit, and nobody has dealt with it".into();
            return self.violated(name::LOST, Some(sent.at), what);
        };
        let kind = if result.is_some() { 3 } else { sent.want as usize };
        self.commands.counts[kind] += 1;
        if result.is_none() != written {
            let what = "what a command changes of it is not committed with the command's place".into();
            return self.violated(name::EXACTLY, Some(sent.at), what);
        }
        let silent = self.commands.silent.contains(&(self.run(run).process, sent.at.0));
        let lawful = match (result, answer) {
            (None, Some(Answer::Obeyed)) => sent.wanted,
            (None, None) => !sent.wanted || silent,
            (Some(refused), Some(Answer::Refused(why))) => *why == refused.to_string(),
            (Some(_), None) => silent,
            (None, Some(Answer::Refused(_))) | (Some(_), Some(Answer::Obeyed)) => false,
        };
        if !lawful {
            let what = format!("a command to it came to {result:?}, and is answered by {answer:?}");
            self.violated(name::FATE, Some(sent.at), what);
        }
    }

    /// The command by which this assignment has changed what is parked of a message, if it was one; from now on it is none.
    pub(super) fn take_command(&mut self, run: RunId, at: (u16, i64)) -> Option<(CommandId, Want)> {
        let id = self.local(run, at.1).command.take()?;
        self.commands.wants.get(&id).map(|want| (id, *want))
    }
}
