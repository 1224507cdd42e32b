//! Commands from outside: which of them are obeyed in the present transaction, and the answers that it writes.
//!
//! A partition's inbox is read in order, and its commands are obeyed by several shards, so one may be obeyed before another that
//! stands before it. What a commit says of that is bounded: no command is taken in that is further than [`WINDOW`] ahead of the
//! first that is not obeyed.

use super::marks::What;
use super::task::Phase;
use super::transaction::Transactions;
use super::{Action, Pipeline};
use crate::inbox::{Answer, CommandId, Refused};
use crate::message::{Epoch, Now, Partition};
use crate::metadata::Kept;
use crate::planted::Bug;
use crate::policy::Policy;
use crate::shard::Settled;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// So many offsets of an inbox behind the first that is not obeyed may be under way: as many as [`Kept::inbox_done`] has bits.
pub const WINDOW: i64 = 64;
/// About what an answer is.
const ANSWER_BYTES: u64 = 128;

/// What becomes of a command that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// It is to be obeyed; report by [`Pipeline::obeyed`].
    Obey,
    /// It was obeyed before, or is about to be.
    Known,
    /// Too many are under way: offer it again.
    Later,
    /// The partition is of no present assignment, or about to start anew.
    Gone,
}

/// The inboxes of all partitions, as far as they were read.
#[derive(Debug, Default)]
pub(super) struct Inboxes {
    all: BTreeMap<Partition, Inbox>,
    /// Partitions whose answers the broker did not take: they are not written any more.
    silent: BTreeSet<Partition>,
}

#[derive(Debug)]
struct Inbox {
    epoch: Epoch,
    /// Under way.
    open: BTreeSet<i64>,
    /// Behind the last one that was read.
    next: i64,
    answers: Vec<(CommandId, Answer)>,
}

impl Inboxes {
    fn of(&mut self, partition: Partition, epoch: Epoch) -> &mut Inbox {
        let new = || Inbox { epoch, open: BTreeSet::new(), next: 0, answers: Vec::new() };
        let inbox = self.all.entry(partition).or_insert_with(new);
        if inbox.epoch != epoch {
            *inbox = new();
        }
        inbox
    }

    /// The answers that the present transaction writes.
    pub(super) fn take_answers(&mut self, partition: Partition, epoch: Epoch) -> Option<Arc<[(CommandId, Answer)]>> {
        let inbox = self.all.get_mut(&partition).filter(|inbox| inbox.epoch == epoch && !inbox.answers.is_empty())?;
        Some(Arc::from(core::mem::take(&mut inbox.answers)))
    }

    /// The present transaction is given up: what its commands came to is to be found out anew.
    pub(super) fn give_up(&mut self) {
        self.all.values_mut().for_each(|inbox| inbox.answers.clear());
    }

    /// The partition's answers are not taken.
    pub(super) fn silence(&mut self, partition: Partition) {
        self.silent.insert(partition);
    }

    /// It is given up.
    pub(super) fn forget(&mut self, partition: Partition) {
        self.all.remove(&partition);
        self.silent.remove(&partition);
    }
}

impl Inbox {
    /// This one is dealt with: `kept` says so from now on.
    fn pass(&mut self, at: i64, kept: &mut Kept, policy: &Policy) {
        self.open.remove(&at);
        if let Ok(bit) = u32::try_from(at - kept.inbox_at - 1) {
            kept.inbox_done |= 1_u64.checked_shl(bit).unwrap_or(0);
        }
        let open = self.open.first().filter(|_| !policy.has(Bug::PassUnobeyed));
        move_to(kept, open.copied().unwrap_or(self.next), policy.has(Bug::ForgetDone));
    }
}

/// All below this offset is dealt with, or was never there; and what is from there on, up to the first that is not.
fn move_to(kept: &mut Kept, mut at: i64, forgets_done: bool) {
    while at > kept.inbox_at && is_done(kept, at) && !forgets_done {
        at += 1;
    }
    let by = at.saturating_sub(kept.inbox_at).max(0);
    kept.inbox_done = u32::try_from(by).ok().and_then(|by| kept.inbox_done.checked_shr(by)).unwrap_or(0);
    kept.inbox_at = kept.inbox_at.max(at);
}

fn is_done(kept: &Kept, at: i64) -> bool {
    let bit = u32::try_from(at.saturating_sub(kept.inbox_at + 1)).ok();
    at < kept.inbox_at
        || at > kept.inbox_at && bit.is_some_and(|bit| kept.inbox_done.checked_shr(bit).unwrap_or(0) & 1 == 1)
}

impl<M> Pipeline<M> {
    /// The partition's inbox is there, and this tells its log from another one of that name (0: nothing does). Gives the offset
    /// from which it is to be read. `None`: the partition is of no present assignment.
    pub fn inbox(&mut self, partition: Partition, epoch: Epoch, log: u32) -> Option<i64> {
        let task = self.tasks.get_mut(&partition).filter(|task| task.epoch == epoch)?;
        let kept = &mut task.kept;
        if kept.inbox != log && log != 0 {
            if kept.inbox != 0 {
                (kept.inbox_at, kept.inbox_done) = (0, 0);
            }
            kept.inbox = log;
        }
        let at = kept.inbox_at;
        let inbox = self.inboxes.of(partition, epoch);
        inbox.next = inbox.next.max(at);
        Some(at)
    }

    /// A record of the partition's inbox was read, in order; `command`: it is one, and nothing else.
    pub fn command(&mut self, partition: Partition, epoch: Epoch, at: i64, command: bool) -> Received {
        let counts = |phase: &Phase| matches!(phase, Phase::Active);
        let Some(task) = self.tasks.get_mut(&partition).filter(|t| t.epoch == epoch && counts(&t.phase)) else {
            return Received::Gone;
        };
        let inbox = self.inboxes.of(partition, epoch);
        if inbox.open.is_empty() && !is_done(&task.kept, at) {
            // What is not there will never come.
            move_to(&mut task.kept, at, false);
        }
        if is_done(&task.kept, at) || inbox.open.contains(&at) {
            return Received::Known;
        }
        if at > task.kept.inbox_at.saturating_add(WINDOW) {
            return Received::Later;
        }
        inbox.next = inbox.next.max(at + 1);
        inbox.open.insert(at);
        if command {
            return Received::Obey;
        }
        inbox.pass(at, &mut task.kept, &self.policy);
        Received::Known
    }

    /// A shard has obeyed a command, or not; as [`Pipeline::publish`] has it for what settles. `answer`: somebody waits for the
    /// answer in any case.
    pub fn obeyed(
        &mut self,
        (partition, epoch, at): (Partition, Epoch, i64),
        (id, answer): (CommandId, bool),
        result: Result<Settled<M>, Refused>,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        if !self.tasks.get(&partition).is_some_and(|task| task.counts(epoch, &self.policy)) {
            return;
        }
        let answer = match result {
            Ok(settled) => {
                if let Some(transactions) = &mut self.transactions {
                    // Who sends it again has made room for what it sends: that is to be found out anew.
                    transactions.pardon((partition, settled.ticket.offset));
                }
                // Nothing of it is to be produced here.
                let _none = self.publish(settled, 0, now, actions);
                answer.then_some(Answer::Obeyed)
            }
            Err(refused) => {
                if let Some(transactions) = &mut self.transactions {
                    transactions.begin(now);
                }
                self.touch(partition);
                Some(Answer::Refused(refused.to_string()))
            }
        };
        let answer = answer.filter(|_| !self.inboxes.silent.contains(&partition));
        self.staged(answer.as_ref().map_or(0, |_| ANSWER_BYTES));
        let inbox = self.inboxes.of(partition, epoch);
        inbox.answers.extend(answer.map(|answer| (id, answer)));
        if let Some(task) = self.tasks.get_mut(&partition) {
            inbox.pass(at, &mut task.kept, &self.policy);
        }
    }

    /// The transaction holds all that it will: its answers are written.
    pub(super) fn write_answers(&mut self, actions: &mut Vec<Action>) {
        let Some(Transactions { marks, .. }) = &mut self.transactions else { return };
        for (partition, task) in &self.tasks {
            if let Some(answers) = self.inboxes.take_answers(*partition, task.epoch) {
                let token = marks.write(*partition, task.epoch, What::Answered(answers.clone()));
                actions.push(Action::Answer { token, partition: *partition, answers });
            }
        }
    }
}
