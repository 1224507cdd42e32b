//! A pipeline's ledger: which message of which assignment is settled, what may be committed, what a refusal means.
//!
//! A message is settled when all it sends is acknowledged; a dead letter when its record in the dead-letter topic is.
//! The commit of a partition names the lowest unsettled offset, with what is settled above it.

mod commit;
mod covered;
mod delays;
mod inbox;
mod marks;
mod outbox;
mod parkings;
mod publish;
mod revoke;
mod rounds;
mod task;
mod together;
mod transaction;
mod verdicts;

pub use commit::CommitOffset;
pub use inbox::{Received, WINDOW};
pub use outbox::Token;
pub use publish::Refusal;
pub use task::TaskStatus;
pub use transaction::Trouble;

use crate::inbox::{Answer, CommandId};
use crate::intake::Opened;
use crate::message::{Epoch, MessageId, Now, Partition};
use crate::parking;
use crate::planted::Bug;
use crate::policy::{Policy, Scope};
use crate::ranges::Ranges;
use crate::state::Change;
use crate::tracker::Progress;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use commit::InFlight;
use covered::Waits;
use delays::Outgoing;
use inbox::Inboxes;
use outbox::Outbox;
use revoke::Revoke;
use rounds::Rounds;
use task::{Phase, Task};
use transaction::Transactions;

/// Times of the ledger that no manifest names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// How long a revoke may wait for what runs, in milliseconds.
    pub revoke_ms: u64,
    /// How long it may take with its last transaction, in milliseconds. With at-least-once the shell bounds the last commit.
    pub release_ms: u64,
    /// A partition with lag that delivers nothing for this long is stalled, in milliseconds.
    pub stall_ms: u64,
    /// After this many milliseconds without an answer a commit counts as failed.
    pub commit_ms: u64,
    /// First wait after a refusal, in milliseconds; it doubles up to `refusal_max_ms`.
    pub refusal_first_ms: u64,
    /// Longest wait after a refusal, in milliseconds.
    pub refusal_max_ms: u64,
    /// The broker itself ends a transaction that is open for longer, in milliseconds. No step of one is waited for
    /// longer, either.
    pub transaction_ms: u64,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            revoke_ms: 20_000,
            release_ms: 30_000,
            stall_ms: 30_000,
            commit_ms: 30_000,
            refusal_first_ms: 500,
            refusal_max_ms: 30_000,
            transaction_ms: 10_000,
        }
    }
}

/// What the shell must do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Produce the dead letter of this publication; its report comes back under the same token.
    DeadLetter {
        /// The publication.
        token: Token,
        /// Only the headers that tell the origin and the reason: the full set was too large.
        short: bool,
    },
    /// Write these ids to the partition's topic of seen ids ([`crate::seen::encode`]), with exactly-once into the present
    /// transaction; its report comes back under this token. Not, if the ledger [does not wait](Pipeline::awaits) for it any more.
    Mark {
        /// The record.
        token: Token,
        /// The input partition; its ids have the same number.
        partition: Partition,
        /// At most [`crate::seen::MAX_IDS`].
        ids: Arc<[MessageId]>,
        /// When they were marked, milliseconds since the Unix epoch.
        time_ms: i64,
    },
    /// These ids are committed, or with at-least-once written: from now on [`Past`](crate::dedup::Past) must answer for them.
    /// Then tell every shard, by [`Shard::marked`](crate::shard::Shard::marked).
    Marked {
        /// The input partition.
        partition: Partition,
        /// As written.
        ids: Arc<[MessageId]>,
        /// As written.
        time_ms: i64,
    },
    /// Write these changes to the partition's topic of state ([`crate::state::encode`]), a record each, with exactly-once into
    /// the present transaction; the reports of all of them come back under this token. Not those that are left, if the ledger
    /// [does not wait](Pipeline::awaits) for them any more.
    Keep {
        /// The records.
        token: Token,
        /// The input partition; its state has the same number.
        partition: Partition,
        /// Each key once.
        changes: Arc<[Change]>,
    },
    /// These changes are committed, or with at-least-once written: from now on [`Kept`](crate::state::Kept) must answer for
    /// them. Then tell every shard, by [`Shard::kept`](crate::shard::Shard::kept).
    Kept {
        /// The input partition.
        partition: Partition,
        /// As written.
        changes: Arc<[Change]>,
    },
    /// Write the message of this publication to the partition's retry topic ([`crate::parking::encode`]), with exactly-once into
    /// the present transaction; its report comes back under this token. Its fate says what is known of it. What was written is
    /// to be held until [`Action::Parked`], or until the publication is over.
    Park {
        /// The publication.
        token: Token,
    },
    /// Write a tombstone to the partition's retry topic for each of these, in this order, with exactly-once into the present
    /// transaction; the reports of all of them come back under this token.
    Unpark {
        /// The records.
        token: Token,
        /// The input partition; its retry topic has the same number.
        partition: Partition,
        /// Where the messages were read.
        offsets: Arc<[i64]>,
    },
    /// Write these answers to the partition's inbox ([`crate::inbox::encode_answer`]), into the present transaction; the reports
    /// of all of them come back under this token.
    Answer {
        /// The records.
        token: Token,
        /// The input partition; its inbox has the same number.
        partition: Partition,
        /// To which commands.
        answers: Arc<[(CommandId, Answer)]>,
    },
    /// This is committed, or with at-least-once written, and the offsets too of what is parked newly: from now on
    /// [`Parked`](crate::parking::Parked) must answer for it. Then tell every shard, by
    /// [`Shard::parked`](crate::shard::Shard::parked).
    Parked {
        /// The input partition.
        partition: Partition,
        /// Of which assignment.
        epoch: Epoch,
        /// In the order in which it came about.
        changes: Arc<[parking::Change]>,
    },
    /// With at-least-once: tell every shard, by [`Shard::covered`](crate::shard::Shard::covered).
    Covered {
        /// The input partition.
        partition: Partition,
        /// Of which assignment.
        epoch: Epoch,
        /// What the group's commit covers; `None`: all of which messages may be parked.
        progress: Option<Progress>,
    },
    /// Tell [`Intake::condemn`](crate::intake::Intake::condemn) and every shard, by
    /// [`Shard::condemn`](crate::shard::Shard::condemn); comes before the partition's `Restart`.
    Condemn {
        /// Which.
        partition: Partition,
        /// Of these messages.
        offsets: Vec<i64>,
    },
    /// Start a commit; report its end by [`Pipeline::commit_finished`]. With exactly-once it ends the transaction: report
    /// by [`Pipeline::committed`] or [`Pipeline::commit_failed`].
    Commit {
        /// Its number.
        number: u64,
        /// What to commit.
        offsets: Vec<CommitOffset>,
    },
    /// Commit and wait, then call [`Pipeline::released`].
    CommitAndRelease {
        /// What to commit; may be empty.
        offsets: Vec<CommitOffset>,
        /// Given up after the commit, whatever its end.
        partitions: Vec<Partition>,
    },
    /// With exactly-once: the last commit of these partitions is made, or can't be made. Then call [`Pipeline::released`].
    Release {
        /// Given up.
        partitions: Vec<Partition>,
        /// Why it was not in good order, where it was not.
        unfinished: Option<String>,
    },
    /// Make the producer anew under its transactional id; what it has under way is given up. Report by
    /// [`Pipeline::renewed`].
    Renew,
    /// A transaction is given up; its partitions will start anew. For people.
    GivenUp {
        /// Why.
        why: String,
    },
    /// Start these partitions anew from what is committed for the group now (their seen ids and state too: read what came since), or else from the offset beside them (see
    /// [`crate::intake::Intake::reopen`]), then call [`Pipeline::opened`].
    Restart(Vec<(Partition, i64)>),
    /// Another process has taken the transactional id over: this one must end.
    Fenced(String),
    /// Tell every shard to close this partition and to answer with [`Pipeline::drained`].
    Close {
        /// Which.
        partition: Partition,
        /// Of which assignment.
        epoch: Epoch,
    },
    /// Tell the shard of this lane that the dead letter is acknowledged.
    LetterAcknowledged {
        /// Which partition.
        partition: Partition,
        /// Of which assignment.
        epoch: Epoch,
        /// The letter's offset.
        offset: i64,
        /// The lane, which tells the shard.
        lane: u64,
    },
    /// Stop fetching this partition.
    Pause(Partition),
    /// Go on fetching it.
    Resume(Partition),
    /// Start these partitions, all of one task, anew from these offsets, with what is settled above (see
    /// [`crate::intake::Intake::rewind`]), then call [`Pipeline::opened`].
    Rewind(Vec<(Partition, i64, Ranges)>),
    /// The partition waits for a reason that a person should know. Told once for each new reason.
    Blocked {
        /// Which.
        partition: Partition,
        /// The dead-letter topic refuses; otherwise an output does.
        letter: bool,
        /// Why.
        why: String,
    },
    /// It goes on.
    Unblocked(Partition),
    /// A message of a present assignment settled that the ledger never heard of, or twice. That can't be: whoever told it
    /// told the ledger too late, and it would never count as settled. What is not committed must be read anew.
    Stray {
        /// Which partition.
        partition: Partition,
        /// The message's offset.
        offset: i64,
    },
    /// The partition has lag and delivers nothing: seek to its position, and tell.
    Stalled {
        /// Which.
        partition: Partition,
        /// Next expected offset.
        position: i64,
        /// Where the log ended when it was last heard of.
        end: i64,
    },
}

/// The ledger of one pipeline. `M` is the payload, which the engine only hands on.
#[derive(Debug)]
pub struct Pipeline<M> {
    policy: Policy,
    shards: u32,
    timing: Timing,
    tasks: BTreeMap<Partition, Task>,
    outbox: Outbox<M>,
    /// Dead letters to be produced again, by time.
    letters_due: BTreeMap<(u64, Token), ()>,
    in_flight: Option<InFlight>,
    next_commit_ms: u64,
    commits: u64,
    revoke: Option<Revoke>,
    /// With exactly-once.
    transactions: Option<Transactions>,
    /// With at-least-once, where ids or state are kept, or messages are parked.
    rounds: Option<Rounds>,
    inboxes: Inboxes,
    /// Delayed sends that are due.
    outgoing: Outgoing,
    /// Fetching is paused by the byte budget: silence is no stall.
    gated: bool,
    /// The breaker is open.
    breaker: bool,
}

impl<M> Pipeline<M> {
    /// A ledger without partitions, for a pipeline with this many shards.
    #[must_use]
    pub fn new(policy: Policy, shards: u32, timing: Timing) -> Self {
        Self {
            transactions: Transactions::of(policy.guarantee),
            rounds: Rounds::of(&policy),
            inboxes: Inboxes::default(),
            outgoing: Outgoing::default(),
            policy,
            shards,
            timing,
            tasks: BTreeMap::new(),
            outbox: Outbox::new(),
            letters_due: BTreeMap::new(),
            in_flight: None,
            next_commit_ms: 0,
            commits: 0,
            revoke: None,
            gated: false,
            breaker: false,
        }
    }

    /// The breaker has opened, or closed: the next commit of each partition says so, whatever else it has to say.
    pub fn breaker(&mut self, open: bool) {
        self.breaker = open;
        for task in self.tasks.values_mut() {
            task.set_breaker(open);
        }
    }

    /// A partition started, or started anew after a rewind. Must come before anything else of its epoch; where tasks span inputs
    /// all partitions of a task come one after the other, with nothing in between.
    pub fn opened(&mut self, partition: Partition, opened: &Opened, now: Now, actions: &mut Vec<Action>) {
        if self.is_revoking(partition) {
            // Its rewind was under way when the group took it: nothing may start any more.
            return actions.push(Action::Close { partition, epoch: opened.epoch });
        }
        if let Some(transactions) = self.transactions.as_mut().filter(|_| opened.anew) {
            // What is known of offsets is of another log.
            transactions.forget(partition);
        }
        if let Some(rounds) = &mut self.rounds {
            rounds.forget(partition);
        }
        let mut task = Task::new(opened, now);
        self.drop_unsaid(partition);
        if let Some(old) = self.tasks.remove(&partition) {
            if old.is_paused() && !self.policy.has(Bug::StayPaused) {
                actions.push(Action::Resume(partition));
            }
            if self.transactions.is_some() {
                if self.policy.order.scope == Scope::Inputs {
                    task.bound_fetch(&opened.settled);
                }
                task.restart_after(old);
            } else {
                task.continue_after(old);
            }
        }
        task.set_breaker(self.breaker);
        if self.rounds.is_some() && self.policy.parks() {
            task.begin_covered(partition, actions);
        } else {
            task.waits = Waits::default();
        }
        self.tasks.insert(partition, task);
        self.look_again(partition);
    }

    /// Before its first change of state the partition marks these schemas; see [`Schemas::to_mark`](crate::state::schema::Schemas::to_mark).
    /// To be told each time that it starts, before its first message settles.
    pub fn must_mark(&mut self, partition: Partition, epoch: Epoch, schemas: Vec<u16>) {
        if let Some(task) = self.tasks.get_mut(&partition).filter(|task| task.epoch == epoch) {
            task.unmarked_schemas = if self.policy.has(Bug::SchemaUnmarked) { Vec::new() } else { schemas };
        }
    }

    /// What the partition waited for is there: records are to be expected from now on, and not before.
    pub fn awaited(&mut self, partition: Partition, epoch: Epoch, now: Now) {
        if let Some(task) = self.tasks.get_mut(&partition).filter(|task| task.epoch == epoch) {
            task.hear(now);
            self.look_again(partition);
        }
    }

    /// Offsets `first..=last` were received and routed, or skipped as settled before.
    pub fn received(&mut self, partition: Partition, epoch: Epoch, first: i64, last: i64, now: Now) {
        if let Some(task) = self.tasks.get_mut(&partition)
            && task.epoch == epoch
        {
            task.receive(first, last, now);
        }
    }

    /// Where a partition's log ends now.
    pub fn watermark(&mut self, partition: Partition, end: i64) {
        if let Some(task) = self.tasks.get_mut(&partition) {
            task.end = task.end.max(end);
        }
    }

    /// Fetching was paused or resumed for all partitions by the byte budget.
    pub fn gate(&mut self, closed: bool, now: Now) {
        self.gated = closed;
        for task in self.tasks.values_mut() {
            task.heard_ms = now.steady_ms;
        }
    }

    /// Does what time asks for: commits, repeated dead letters, rewinds, stalls, revokes that took too long.
    pub fn tick(&mut self, now: Now, actions: &mut Vec<Action>) {
        if self.transactions.is_some() {
            self.tasks.iter_mut().for_each(|(partition, task)| task.look_beyond(*partition, actions));
            self.tick_transaction(now, actions);
        } else {
            self.resend_letters(now, actions);
            self.rewind_due(now, actions);
            if self.rounds.is_some() {
                self.commit_in_rounds(now, actions);
            } else {
                self.commit_if_due(now, actions);
            }
        }
        self.find_stalls(now, actions);
        self.check_revoke(now, actions);
    }

    fn rewind_due(&mut self, now: Now, actions: &mut Vec<Action>) {
        let revoke = self.revoke.as_ref();
        let mut due: BTreeMap<Partition, Vec<(Partition, i64, Ranges)>> = BTreeMap::new();
        for (partition, task) in &mut self.tasks {
            if let Phase::Refused { due_ms, .. } = task.phase
                && now.steady_ms >= due_ms
                && !revoke.is_some_and(|r| r.takes(*partition))
                // What has settled does not run again: who runs next must find what it left.
                && (self.rounds.is_none() || task.may_rewind(&self.policy) || self.policy.has(Bug::RewindUnwritten))
            {
                let progress = task.progress(&self.policy);
                task.phase = Phase::Rewinding(progress.clone());
                let own = due.entry(self.policy.order.task(*partition)).or_default();
                own.push((*partition, progress.point, progress.settled));
            }
        }
        actions.extend(due.into_values().map(Action::Rewind));
    }

    fn find_stalls(&mut self, now: Now, actions: &mut Vec<Action>) {
        if self.gated {
            return;
        }
        for (partition, task) in &mut self.tasks {
            if let Some((position, end)) = task.stalled(now, self.timing.stall_ms) {
                if task.has_stalled_again(self.timing.stall_ms) {
                    task.find_uncovered(*partition, actions);
                }
                actions.push(Action::Stalled { partition: *partition, position, end });
            }
        }
    }

    /// How each partition stands.
    pub fn status(&self) -> impl Iterator<Item = (Partition, TaskStatus<'_>)> {
        self.tasks.iter().map(|(p, t)| (*p, t.status()))
    }

    /// How many messages wait for the broker's acknowledgement of what they send.
    #[must_use]
    pub fn publications(&self) -> usize {
        self.outbox.len()
    }
}

#[cfg(test)]
mod tests;
