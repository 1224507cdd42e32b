//! Exactly once: what is in a transaction, when it ends, and what happens when it does not end well.
//!
//! A transaction holds everything that was published since the last one ended. It ends with the offsets of every
//! partition that had a part in it. When anything goes wrong it is given up as a whole: the producer is made anew, and
//! each partition that had a part starts anew from what the broker says is committed then.

use super::marks::Marks;
use super::outbox::Token;
use super::publish::wait_ms;
use super::task::{self, Task};
use super::verdicts::Verdict;
use super::{Action, Pipeline, Refusal};
use crate::message::{Now, Partition};
use crate::parking;
use crate::planted::Bug;
use crate::policy::Guarantee;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// A transaction that has staged so many bytes ends before its time: they lie in somebody's memory until then.
const MAX_BYTES: u64 = 16 << 20;

/// So many renewals may come late, at most: each may fence one producer.
const STRAGGLERS: u32 = 2;

/// Where the present transaction is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The producer is to be made anew from `due_ms` on; the shell was told at `told_ms`.
    Renewing { due_ms: u64, told_ms: Option<u64> },
    /// What settles is published.
    Open,
    /// Nothing more is published; its records are waited for, since then.
    Closing { since_ms: u64 },
    /// Its offsets and its end are sent.
    Ending,
}

/// Why a transaction came to no good end, or a producer could not be made anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// Another producer has the transactional id.
    Fenced(String),
    /// The group has moved on: what is to be committed is, or was, of an earlier generation of it. While partitions are given
    /// up this is no failure: what is not committed is the next owner's.
    Superseded(String),
    /// Anything else, doubtful answers included.
    Failed(String),
}

/// A message of which something was learnt, behind its place among those that were published.
pub(super) type Learnt = (u64, (Partition, i64));

/// The transactions of a ledger, one after the other.
#[derive(Debug)]
pub(super) struct Transactions {
    phase: Phase,
    /// When the present one began.
    since: Option<Now>,
    bytes: u64,
    /// Given up in a row.
    failures: u32,
    /// Renewals that came to no good end. The request of each may still be on its way, and fence the producer that is made
    /// after it.
    stragglers: u32,
    /// Told to all partitions as the reason why they wait.
    blocked: bool,
    pub(super) verdicts: BTreeMap<(Partition, i64), Verdict>,
    /// Timers with a verdict that the present one holds.
    pub(super) fired: Vec<(Partition, i64)>,
    /// Why the present one can't be committed: a record of it will never be taken. It goes on until its time all the
    /// same, so that each of its records gets its verdict, not only the first.
    pub(super) poisoned: Option<String>,
    /// What the present one taught of outputs: messages by task and lane, with the numbers of their publications. See
    /// [`Transactions::unlearn`].
    pub(super) learnt: BTreeMap<(Partition, u64), Vec<Learnt>>,
    /// What it marks as seen.
    pub(super) marks: Marks,
}

impl Transactions {
    pub(super) fn of(guarantee: Guarantee) -> Option<Self> {
        (guarantee == Guarantee::ExactlyOnce).then(|| Self {
            phase: Phase::Renewing { due_ms: 0, told_ms: None },
            since: None,
            bytes: 0,
            failures: 0,
            stragglers: 0,
            blocked: false,
            verdicts: BTreeMap::new(),
            fired: Vec::new(),
            poisoned: None,
            learnt: BTreeMap::new(),
            marks: Marks::new(),
        })
    }

    pub(super) const fn phase(&self) -> Phase {
        self.phase
    }

    /// It ends before its time, for what it has staged.
    pub(super) const fn is_full(&self) -> bool {
        self.bytes >= MAX_BYTES
    }

    /// Something is published or settled: the transaction holds it.
    pub(super) fn begin(&mut self, now: Now) {
        self.since.get_or_insert(now);
    }

    /// How long the present one is open. A machine that sleeps stops the steady clock, and the broker's goes on.
    fn open_ms(&self, now: Now) -> u64 {
        let Some(since) = self.since else { return 0 };
        let awake = now.steady_ms.saturating_sub(since.steady_ms);
        awake.max(u64::try_from(now.wall_ms.saturating_sub(since.wall_ms)).unwrap_or(0))
    }

    /// Another failure in a row: the producer is to be made anew after this wait.
    fn renew_in(&mut self, wait_ms: u64, now: Now) {
        self.failures = self.failures.saturating_add(1);
        self.phase = Phase::Renewing { due_ms: now.steady_ms.saturating_add(wait_ms), told_ms: None };
    }
}

impl<M> Pipeline<M> {
    /// Whether what shards have settled, or drained, may be told now. While a transaction ends, or is made good for one
    /// that did not, it waits, in order, with whom it was told. With at-least-once it never waits.
    #[must_use]
    pub fn takes_settled(&self) -> bool {
        self.transactions.as_ref().is_none_or(|t| {
            t.phase == Phase::Open || t.phase == Phase::Ending && self.policy.has(Bug::PublishWhileEnding)
        })
    }

    /// Another ledger of this process used the transactional id before: what it asked for may still come, and fence once.
    pub fn follows_another(&mut self) {
        if let Some(transactions) = &mut self.transactions {
            transactions.stragglers = 1;
        }
    }

    /// Bytes of records were handed to the producer.
    pub fn staged(&mut self, bytes: u64) {
        if let Some(transactions) = &mut self.transactions {
            transactions.bytes = transactions.bytes.saturating_add(bytes);
        }
    }

    /// What `tick` does in addition to what it does without transactions.
    pub(super) fn tick_transaction(&mut self, now: Now, actions: &mut Vec<Action>) {
        let Some(transactions) = &mut self.transactions else { return };
        let bound_ms = self.timing.transaction_ms;
        match transactions.phase {
            Phase::Renewing { due_ms, told_ms: None } if now.steady_ms >= due_ms => {
                transactions.phase = Phase::Renewing { due_ms, told_ms: Some(now.steady_ms) };
                actions.push(Action::Renew);
            }
            Phase::Renewing { told_ms: Some(told_ms), .. } if now.steady_ms.saturating_sub(told_ms) > bound_ms => {
                let why = format!("no answer within {bound_ms} ms");
                self.renewed(Err(Trouble::Failed(why)), now, actions);
            }
            Phase::Renewing { .. } => {}
            Phase::Open => {
                // However far apart commits are to be: the broker ends a transaction that is open for too long.
                let open_ms = transactions.open_ms(now);
                let full = transactions.is_full() || open_ms >= bound_ms / 2;
                let due = now.steady_ms >= self.next_commit_ms || full;
                // First: once the transaction is given up nothing starts anew before the producer is.
                self.restart_refused(now, actions);
                if due && self.tasks.values().any(|t| t.commits() && (t.dirty || t.touched)) {
                    self.close_transaction(now, actions);
                }
            }
            Phase::Closing { since_ms } if now.steady_ms.saturating_sub(since_ms) > bound_ms => {
                let why = format!("records were not acknowledged within {bound_ms} ms");
                self.transaction_failed(why, now, actions);
            }
            Phase::Closing { .. } => self.end_transaction(now, actions),
            Phase::Ending => {
                if self.in_flight.as_ref().is_some_and(|c| now.steady_ms.saturating_sub(c.started_ms) > bound_ms) {
                    let why = format!("its end was not answered within {bound_ms} ms");
                    self.transaction_failed(why, now, actions);
                }
            }
        }
    }

    pub(super) fn close_transaction(&mut self, now: Now, actions: &mut Vec<Action>) {
        if let Some(transactions) = &mut self.transactions {
            transactions.phase = Phase::Closing { since_ms: now.steady_ms };
            // One that can't be committed needs none.
            if transactions.poisoned.is_none() {
                self.write_marks(actions);
            }
            self.end_transaction(now, actions);
        }
    }

    /// Sends the offsets and the end, once every record is acknowledged.
    pub(super) fn end_transaction(&mut self, now: Now, actions: &mut Vec<Action>) {
        let closing = |t: &Transactions| matches!(t.phase, Phase::Closing { .. });
        let marked = self.transactions.as_ref().is_none_or(|t| t.marks.all_acknowledged());
        let acknowledged = self.outbox.len() == 0 && marked || self.policy.has(Bug::EndUnacknowledged);
        if !self.transactions.as_ref().is_some_and(closing) || !acknowledged {
            return;
        }
        if let Some(why) = self.transactions.as_mut().and_then(|t| t.poisoned.take()) {
            return self.end_poisoned(why, now, actions);
        }
        let last = |p: &Partition| self.revoke.as_ref().is_some_and(|r| r.closing && r.takes(*p));
        let part = |p: &Partition, t: &Task| t.commits() && (t.dirty || t.touched || last(p));
        let partitions: Vec<(Partition, bool)> =
            self.tasks.iter().filter(|(p, t)| part(p, t)).map(|(p, _)| (*p, last(p))).collect();
        let (offsets, states) = self.plan(&partitions, actions);
        let Some(transactions) = &mut self.transactions else { return };
        if offsets.is_empty() {
            // There is nothing to tell, so there is no transaction either: what is published has moved something.
            transactions.phase = Phase::Open;
            transactions.since = None;
            self.ended_well(now);
            return self.check_revoke(now, actions);
        }
        transactions.phase = Phase::Ending;
        transactions.begin(now);
        let offsets = if self.policy.has(Bug::EmptyOffsets) { Vec::new() } else { offsets };
        self.send_commit(offsets, states, now, actions);
    }

    /// What its records could teach is learnt. Each time that is something new, so nothing is gained by waiting.
    pub(super) fn end_poisoned(&mut self, why: String, now: Now, actions: &mut Vec<Action>) {
        let failures = self.transactions.as_ref().map_or(0, |t| t.failures);
        if let Some(transactions) = &mut self.transactions {
            transactions.failures = 0;
        }
        self.transaction_failed(why, now, actions);
        if let Some(transactions) = &mut self.transactions {
            transactions.failures = failures;
        }
    }

    fn ended_well(&mut self, now: Now) {
        self.next_commit_ms = now.steady_ms.saturating_add(self.policy.commit.interval_ms);
        if let Some(revoke) = &mut self.revoke
            && revoke.closing
        {
            revoke.committed = true;
        }
    }

    /// The transaction of the commit of this number is committed. `resent`: a request of it was sent more than once, and
    /// the first one may arrive within the next transaction.
    pub fn committed(&mut self, number: u64, resent: bool, now: Now, actions: &mut Vec<Action>) {
        let Some(ended) = self.in_flight.take_if(|c| c.number == number) else { return };
        self.marks_committed(&ended.states, actions);
        self.note_committed(ended.states);
        let Some(transactions) = &mut self.transactions else { return };
        transactions.since = None;
        transactions.bytes = 0;
        transactions.failures = 0;
        transactions.phase = Phase::Open;
        if resent && !self.policy.has(Bug::KeepAfterResend) {
            transactions.phase = Phase::Renewing { due_ms: now.steady_ms, told_ms: None };
        }
        transactions.forget_fired();
        let tasks = &self.tasks;
        transactions.forget_committed(|p, offset| tasks.get(&p).is_none_or(|t| t.has_committed(offset)));
        self.ended_well(now);
        self.check_revoke(now, actions);
    }

    /// The transaction of the commit of this number came to no good end, as far as is known: it may be committed.
    pub fn commit_failed(&mut self, number: u64, trouble: Trouble, now: Now, actions: &mut Vec<Action>) {
        if self.in_flight.as_ref().is_none_or(|c| c.number != number) {
            return;
        }
        if self.policy.has(Bug::DoubtCountsAsCommitted) {
            return self.committed(number, false, now, actions);
        }
        self.producer_failed(trouble, now, actions);
    }

    /// The producer can't go on.
    pub fn producer_failed(&mut self, trouble: Trouble, now: Now, actions: &mut Vec<Action>) {
        if self.transactions.as_ref().is_none_or(|t| matches!(t.phase, Phase::Renewing { .. })) {
            return;
        }
        match trouble {
            Trouble::Failed(why) => self.transaction_failed(why, now, actions),
            Trouble::Superseded(why) => {
                actions.push(Action::GivenUp { why });
                self.give_up(now, actions);
            }
            Trouble::Fenced(why) => {
                let Some(transactions) = &mut self.transactions else { return };
                let open_ms = transactions.open_ms(now);
                let of_itself = transactions.stragglers > 0 && !self.policy.has(Bug::StragglerIsStranger);
                if open_ms >= self.timing.transaction_ms {
                    // The broker itself ended what was open for too long.
                    return self.transaction_failed(why, now, actions);
                }
                if of_itself {
                    transactions.stragglers -= 1;
                    return self.transaction_failed(why, now, actions);
                }
                actions.push(Action::Fenced(why));
            }
        }
    }

    pub(super) fn transaction_failed(&mut self, why: String, now: Now, actions: &mut Vec<Action>) {
        self.refused_for_now(&why, actions);
        self.give_up(now, actions);
    }

    /// Gives the transaction up, whatever became of it: its partitions start anew once the producer is.
    pub(super) fn give_up(&mut self, now: Now, actions: &mut Vec<Action>) {
        let in_flight = self.in_flight.take();
        let Some(transactions) = &mut self.transactions else { return };
        let (first_ms, max_ms) = (self.timing.refusal_first_ms, self.timing.refusal_max_ms);
        let wait_ms = transactions.failures.checked_sub(1).map_or(0, |again| wait_ms(first_ms, max_ms, again));
        transactions.renew_in(wait_ms, now);
        transactions.since = None;
        transactions.bytes = 0;
        transactions.poisoned = None;
        transactions.fired.clear();
        transactions.unlearn(self.policy.keeps_state() && !self.policy.has(Bug::LearnFromCondemned));
        transactions.marks.clear();
        if !self.policy.has(Bug::LookOn) {
            self.outgoing.reset();
        }
        self.outbox.clear();
        if !self.policy.has(Bug::KeepAnswersOfGivenUp) {
            self.inboxes.give_up();
        }
        for (partition, epoch, _) in in_flight.map(|c| c.states).unwrap_or_default() {
            if let Some(task) = self.tasks.get_mut(&partition)
                && task.epoch == epoch
            {
                task.touched = true;
            }
        }
        let all = self.touched();
        let mut spared = self.policy.has(Bug::SpareOnePartition);
        for (partition, task) in &mut self.tasks {
            task.publications = 0;
            task.marks.clear();
            task.changes.clear();
            if !self.policy.has(Bug::KeepParkingsOfGivenUp) {
                task.parkings.clear();
            }
            task.resolved.clear();
            task.touched = false;
            let touched = all.contains(partition);
            if touched && core::mem::take(&mut spared) {
                continue;
            }
            let was_paused = task.is_paused();
            match task.phase {
                task::Phase::Active if touched => task.phase = task::Phase::Restarting { told: false },
                task::Phase::Draining { .. } if touched => task.phase = task::Phase::GivenUp,
                _ => {}
            }
            task.tell_pause(was_paused, *partition, actions);
        }
        if self.policy.has(Bug::RestartBeforeRenewal) {
            self.restart_told(actions);
        }
        if self.policy.has(Bug::KeepProducer)
            && let Some(transactions) = &mut self.transactions
        {
            transactions.phase = Phase::Open;
            self.restart_told(actions);
        }
        self.check_revoke(now, actions);
    }

    /// The producer is made anew: what it left open is decided. Or it could not be.
    pub fn renewed(&mut self, result: Result<(), Trouble>, now: Now, actions: &mut Vec<Action>) {
        let Some(transactions) = &mut self.transactions else { return };
        if !matches!(transactions.phase, Phase::Renewing { told_ms: Some(_), .. }) {
            return;
        }
        match result {
            Ok(()) => {
                transactions.phase = Phase::Open;
                if core::mem::take(&mut transactions.blocked) {
                    for (partition, task) in &mut self.tasks {
                        if task.take_blocked().is_some() {
                            actions.push(Action::Unblocked(*partition));
                        }
                    }
                }
                self.restart_told(actions);
            }
            Err(Trouble::Failed(why) | Trouble::Superseded(why) | Trouble::Fenced(why)) => {
                let (first_ms, max_ms) = (self.timing.refusal_first_ms, self.timing.refusal_max_ms);
                let wait_ms = wait_ms(first_ms, max_ms, transactions.failures);
                transactions.renew_in(wait_ms, now);
                transactions.stragglers = (transactions.stragglers + 1).min(STRAGGLERS);
                transactions.blocked = true;
                let why = format!("no transaction can be begun: {why}");
                let partitions: Vec<Partition> = self.tasks.keys().copied().collect();
                for partition in partitions {
                    self.block(partition, false, why.clone(), actions);
                }
            }
        }
        self.check_revoke(now, actions);
    }

    /// Partitions that wait for the producer start anew.
    pub(super) fn restart_told(&mut self, actions: &mut Vec<Action>) {
        let mut restarts = Vec::new();
        for (partition, task) in &mut self.tasks {
            if task.phase == (task::Phase::Restarting { told: false }) {
                task.phase = task::Phase::Restarting { told: true };
                restarts.push((*partition, task.start));
                let condemned = self.transactions.as_ref().map(|t| t.condemned(*partition)).unwrap_or_default();
                if !condemned.is_empty() && !self.policy.has(Bug::KeepStateOfVerdict) {
                    actions.push(Action::Condemn { partition: *partition, offsets: condemned });
                }
            }
        }
        if !restarts.is_empty() {
            actions.push(Action::Restart(restarts));
        }
    }

    /// A record was refused: its transaction can't be committed any more. One that is refused for now ends it at once.
    pub(super) fn refused_in_transaction(
        &mut self,
        token: Token,
        refusal: Refusal,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        let Some(publication) = self.outbox.get(token) else { return };
        let leads = publication.letter && parking::written(&publication.settled.fate).is_some();
        let ticket = publication.settled.ticket;
        // Which of both it is nobody tells: where the letter is short already, it is taken for the mark.
        let letter = publication.letter && !(leads && publication.short);
        let short = publication.short;
        let (attempts, number) = (publication.settled.attempts, publication.number);
        let (partition, offset) = (ticket.partition, ticket.offset);
        if matches!(refusal, Refusal::Blocked(_))
            && let Some(why) = self.transactions.as_mut().and_then(|t| t.poisoned.take())
        {
            // A client takes no more records after the broker has refused one: that says nothing of this one.
            return self.end_poisoned(why, now, actions);
        }
        let why = match refusal {
            Refusal::Undeliverable(why) if letter && short => format!("its dead letter of offset {offset}: {why}"),
            Refusal::Undeliverable(why) => {
                let learns = !self.policy.has(Bug::ForgetVerdict);
                let transactions = self.transactions.as_mut().filter(|_| learns);
                let news = transactions.is_some_and(|t| t.learn(&ticket, number, letter, attempts, why));
                self.drop_publication(token);
                let why = format!("the message at offset {offset} can't be written");
                let Some(transactions) = self.transactions.as_mut().filter(|_| news) else {
                    return self.transaction_failed(why, now, actions);
                };
                transactions.poisoned.get_or_insert(why);
                return self.end_transaction(now, actions);
            }
            Refusal::Blocked(why) if letter => format!("its dead letters: {why}"),
            Refusal::Blocked(why) => why,
        };
        self.refused_for_now(&why, actions);
        self.hold_back((partition, ticket.epoch, offset), letter, why, now, actions);
        self.give_up(now, actions);
    }
}
