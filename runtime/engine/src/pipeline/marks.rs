//! Which ids a transaction marks as seen and which state it changes: both are written with it, and count once it is committed.
//! Of ids there is one record for each partition, of state one for each key that changes. Without transactions: [`super::rounds`].

use super::outbox::Token;
use super::task::{self, Task};
use super::transaction::{Phase, Transactions};
use super::{Action, Pipeline, Refusal};
use crate::delays;
use crate::inbox::{Answer, CommandId};
use crate::message::{Epoch, Fate, MessageId, Now, Partition, Ticket};
use crate::planted::Bug;
use crate::policy::{Policy, Scope};
use crate::seen::MAX_IDS;
use crate::shard::Settled;
use crate::state::{Change, schema};
use crate::tracker::Progress;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// The highest bit tells a record of marks or state from a message's publication.
const MARK: u64 = 1 << 63;
/// And this one state from marks.
const STATE: u64 = 1 << 62;

/// And this one tombstones of parked messages.
const PARKED: u64 = 1 << 61;

/// And this one answers to commands.
const ANSWERS: u64 = 1 << 60;

impl Token {
    /// Whether it names records of seen ids or of state, tombstones, or answers.
    #[must_use]
    pub const fn is_mark(self) -> bool {
        self.0 & MARK != 0
    }

    /// Whether it names records of state.
    #[must_use]
    pub const fn is_state(self) -> bool {
        self.is_mark() && self.0 & STATE != 0
    }

    /// Whether it names tombstones of parked messages.
    #[must_use]
    pub const fn is_unparked(self) -> bool {
        self.is_mark() && self.0 & PARKED != 0
    }

    /// Whether it names answers to commands.
    #[must_use]
    pub const fn is_answer(self) -> bool {
        self.is_mark() && self.0 & ANSWERS != 0
    }
}

/// What a partition writes with the transaction, or a part of it.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) partition: Partition,
    pub(super) epoch: Epoch,
    pub(super) what: What,
    /// Records without a report.
    pub(super) open: usize,
}

#[derive(Debug, Clone)]
pub(super) enum What {
    Seen {
        ids: Arc<[MessageId]>,
        time_ms: i64,
    },
    State(Arc<[Change]>),
    /// Tombstones.
    Unparked(Arc<[i64]>),
    Answered(Arc<[(CommandId, Answer)]>),
}

impl What {
    /// Why its partition waits, for people.
    pub(super) fn refused(&self, why: &str) -> String {
        match self {
            Self::Seen { .. } => format!("its seen ids: {why}"),
            Self::State(_) => format!("its state: {why}"),
            Self::Unparked(_) => format!("its parked messages: {why}"),
            Self::Answered(_) => format!("answers to commands: {why}"),
        }
    }
}

impl Written {
    /// It is committed.
    pub(super) fn passed(&self) -> Option<Action> {
        let partition = self.partition;
        match self.what.clone() {
            What::Seen { ids, time_ms } => Some(Action::Marked { partition, ids, time_ms }),
            What::State(changes) => Some(Action::Kept { partition, changes }),
            What::Unparked(_) | What::Answered(_) => None,
        }
    }
}

/// Records of marks, and of state, of the present transaction.
#[derive(Debug)]
pub(super) struct Marks {
    pub(super) records: BTreeMap<Token, Written>,
    tokens: u64,
    /// How many ids go into one record: fewer where their topic does not take as many.
    pub(super) most: usize,
    /// The latest wall time of a mark: an id does not live shorter because a clock went back.
    pub(super) latest_ms: i64,
}

impl Marks {
    pub(super) const fn new() -> Self {
        Self { records: BTreeMap::new(), tokens: 0, most: MAX_IDS, latest_ms: i64::MIN }
    }

    pub(super) fn all_acknowledged(&self) -> bool {
        self.records.values().all(|written| written.open == 0)
    }

    pub(super) fn clear(&mut self) {
        self.records.clear();
    }

    pub(super) fn write(&mut self, partition: Partition, epoch: Epoch, what: What) -> Token {
        self.tokens += 1;
        let (kind, open) = match &what {
            What::State(changes) => (STATE, changes.len()),
            What::Unparked(offsets) => (PARKED, offsets.len()),
            What::Answered(answers) => (ANSWERS, answers.len()),
            What::Seen { .. } => (0, 1),
        };
        let token = Token(MARK | kind | self.tokens);
        self.records.insert(token, Written { partition, epoch, what, open });
        token
    }

    /// These changes of state are to be written.
    pub(super) fn write_state(
        &mut self,
        (partition, epoch): (Partition, Epoch),
        changes: Arc<[Change]>,
        actions: &mut Vec<Action>,
    ) {
        let token = self.write(partition, epoch, What::State(changes.clone()));
        actions.push(Action::Keep { token, partition, changes });
    }

    /// These ids are, in as many records as it takes.
    pub(super) fn write_seen(
        &mut self,
        (partition, epoch): (Partition, Epoch),
        ids: &[MessageId],
        actions: &mut Vec<Action>,
    ) {
        let time_ms = self.latest_ms;
        for part in ids.chunks(self.most) {
            let ids = Arc::<[MessageId]>::from(part);
            let token = self.write(partition, epoch, What::Seen { ids: ids.clone(), time_ms });
            actions.push(Action::Mark { token, partition, ids, time_ms });
        }
    }
}

/// Whether this fate says that the message is dealt with for good.
pub(super) const fn marks(fate: &Fate) -> bool {
    !matches!(fate, Fate::Duplicate { .. } | Fate::Parked(_) | Fate::ParkedBefore | Fate::Buried)
}

impl<M> Pipeline<M> {
    /// A message is published: if it has an id, that is marked with the present transaction.
    pub(super) fn mark(&mut self, settled: &Settled<M>, now: Now) {
        if !self.policy.keeps_ids() || !marks(&settled.fate) {
            return;
        }
        let owner = self.owner(&settled.ticket);
        if let (Some(id), Some(task)) = (settled.ticket.id, self.tasks.get_mut(&owner)) {
            task.marks.push(id);
            self.staged(size_of::<MessageId>() as u64);
        }
        if let Some(Transactions { marks, .. }) = &mut self.transactions {
            marks.latest_ms = marks.latest_ms.max(now.wall_ms);
        }
    }

    /// To whose topics it goes what a message commits.
    fn owner(&self, ticket: &Ticket) -> Partition {
        if self.policy.has(Bug::MarksOfInput) { ticket.partition } else { ticket.task() }
    }

    /// A message is published: what it changes of its key's state is committed with it.
    pub(super) fn keep(&mut self, settled: &mut Settled<M>, now: Now) {
        let mut changes = core::mem::take(&mut settled.changes);
        let mut stands = matches!(settled.fate, Fate::Done | Fate::Skipped) || self.policy.has(Bug::KeepStateOfVerdict);
        if !stands && settled.ticket.is_timer() {
            // Nothing of what it did, but it is gone: that is its first change.
            changes.truncate(1);
            changes.iter_mut().for_each(|change| change.entry = None);
            stands = true;
        }
        if changes.is_empty() || !stands {
            return;
        }
        changes.iter_mut().for_each(|change| delays::publish(change, now.wall_ms));
        self.staged(changes.iter().map(Change::size).sum());
        let owner = self.owner(&settled.ticket);
        if let Some(task) = self.tasks.get_mut(&owner) {
            task.changes.extend(changes.into_iter().map(|change| (change.key.clone(), change)));
        }
    }

    /// What stands under these keys, by what is kept, has ended: they are deleted with the present transaction, or the next
    /// round, unless it changes them anyway. Whoever finds them must know all that is committed. `false`: not now.
    pub fn expired(&mut self, partition: Partition, keys: &[Arc<[u8]>], now: Now) -> bool {
        if self.rounds.is_some() {
            return self.expired_in_rounds(partition, keys);
        }
        let Some(transactions) = self.transactions.as_mut().filter(|t| t.phase() == Phase::Open) else { return false };
        let Some(task) = self.tasks.get_mut(&partition).filter(|t| t.phase == task::Phase::Active) else {
            return false;
        };
        if task.expire(keys, &self.policy) {
            transactions.begin(now);
            self.touch(partition);
        }
        true
    }

    /// The transaction holds all that it will: its marks are written, and its state.
    pub(super) fn write_marks(&mut self, actions: &mut Vec<Action>) {
        let Some(Transactions { marks, .. }) = &mut self.transactions else { return };
        for (partition, task) in &mut self.tasks {
            let (partition, epoch) = (*partition, task.epoch);
            let ids = core::mem::take(&mut task.marks);
            if let Some(changes) = task.take_marked_changes(&self.policy) {
                marks.write_state((partition, epoch), changes, actions);
            }
            let resolved = core::mem::take(&mut task.resolved);
            if !resolved.is_empty() && !self.policy.has(Bug::OmitTombstones) {
                let offsets = Arc::<[i64]>::from(resolved);
                let token = marks.write(partition, epoch, What::Unparked(offsets.clone()));
                actions.push(Action::Unpark { token, partition, offsets });
            }
            if !self.policy.has(Bug::OmitMarks) {
                marks.write_seen((partition, epoch), &ids, actions);
            }
        }
        self.write_answers(actions);
    }

    /// Whether the report of this record of marks, or of these of state, is waited for: what was given up need not be written.
    #[must_use]
    pub fn awaits(&self, token: Token) -> bool {
        let own = self.rounds.as_ref().map(|rounds| &rounds.marks);
        let marks = own.or_else(|| self.transactions.as_ref().map(|transactions| &transactions.marks));
        marks.is_some_and(|marks| marks.records.contains_key(&token))
    }

    pub(super) fn mark_acknowledged(&mut self, token: Token, now: Now, actions: &mut Vec<Action>) {
        if self.rounds.is_some() {
            return self.round_acknowledged(token, now, actions);
        }
        let early = [self.policy.has(Bug::MarkedBeforeCommit), self.policy.has(Bug::KeptBeforeCommit)];
        let Some(transactions) = &mut self.transactions else { return };
        let Some(written) = transactions.marks.records.get_mut(&token) else { return };
        written.open = written.open.saturating_sub(1);
        if early[usize::from(matches!(written.what, What::State(_)))] {
            actions.extend(written.passed());
        }
        self.end_transaction(now, actions);
        self.check_revoke(now, actions);
    }

    /// A record of marks, or of state, was refused: without it the transaction must not be committed.
    pub(super) fn mark_refused(&mut self, token: Token, refusal: Refusal, now: Now, actions: &mut Vec<Action>) {
        if self.rounds.is_some() {
            return self.round_refused(token, refusal, now, actions);
        }
        let Some(transactions) = &mut self.transactions else { return };
        let Some(written) = transactions.marks.records.get(&token) else { return };
        let (partition, epoch) = (written.partition, written.epoch);
        let why = match (&written.what, refusal) {
            (What::Seen { ids, .. }, Refusal::Undeliverable(why)) if ids.len() > 1 => {
                let count = ids.len();
                transactions.marks.most = count.div_ceil(2);
                let why = format!("{count} seen ids are too much for one record: {why}");
                return self.transaction_failed(why, now, actions);
            }
            (what, Refusal::Undeliverable(why) | Refusal::Blocked(why)) => what.refused(&why),
        };
        if let Some(poisoned) = transactions.poisoned.take() {
            return self.end_poisoned(poisoned, now, actions);
        }
        if token.is_answer() {
            // Nothing but the answer is lost.
            self.inboxes.silence(partition);
            return self.transaction_failed(why, now, actions);
        }
        self.refused_for_now(&why, actions);
        if let Some(task) = self.tasks.get_mut(&partition).filter(|t| t.epoch == epoch) {
            task.marks_stuck = true;
            // What it marks is settled already, and runs again.
            let lowest = match self.policy.order.scope {
                Scope::Topic => task.committed.as_ref().map_or(task.start, |c| c.point),
                // It may be of any of its inputs.
                Scope::Inputs => i64::MIN,
            };
            self.hold_back((partition, epoch, lowest), false, why, now, actions);
        }
        self.give_up(now, actions);
    }

    /// The present transaction is committed, and its marks with it.
    pub(super) fn marks_committed(&mut self, states: &[(Partition, Epoch, Progress)], actions: &mut Vec<Action>) {
        let Some(transactions) = &mut self.transactions else { return };
        // State of an assignment that is over is older than what its partition's next owner may have committed since: whoever
        // has it now has read it.
        let stands = |written: &&Written| {
            let present = self.tasks.get(&written.partition).is_some_and(|task| task.epoch == written.epoch);
            present || matches!(written.what, What::Seen { .. })
        };
        let records = core::mem::take(&mut transactions.marks.records);
        for written in records.values() {
            if let What::State(changes) = &written.what {
                self.outgoing.kept(written.partition, changes);
            }
        }
        actions.extend(records.values().filter(stands).filter_map(Written::passed));
        self.parkings_committed(actions);
        for (partition, epoch, progress) in states {
            let task = self.tasks.get_mut(partition).filter(|t| t.epoch == *epoch);
            let holds = |written: &Written| written.partition == *partition;
            let task = task.filter(|_| self.policy.order.scope == Scope::Topic || records.values().any(holds));
            if task.is_some_and(|t| t.marks_pass(progress)) {
                actions.push(Action::Unblocked(*partition));
            }
        }
    }

    /// What a person and the end of a revoke are told when something is not taken now.
    pub(super) fn refused_for_now(&mut self, why: &str, actions: &mut Vec<Action>) {
        if let Some(revoke) = &mut self.revoke {
            revoke.failed.get_or_insert_with(|| format!("the last commit failed: {why}"));
        }
        actions.push(Action::GivenUp { why: String::from(why) });
    }
}

impl Task {
    /// The same with the marks of schemas that it needs: all of them count at once.
    fn take_marked_changes(&mut self, policy: &Policy) -> Option<Arc<[Change]>> {
        if !self.changes.is_empty() {
            let marks = core::mem::take(&mut self.unmarked_schemas).into_iter().map(schema::mark);
            self.changes.extend(marks.map(|mark| (mark.key.clone(), mark)));
        }
        self.take_changes(policy)
    }

    /// What it changes of state, to be written.
    pub(super) fn take_changes(&mut self, policy: &Policy) -> Option<Arc<[Change]>> {
        let changes = core::mem::take(&mut self.changes).into_values();
        let omitted = |change: &Change| change.entry.is_none() && policy.has(Bug::OmitDeletions);
        let changes: Arc<[Change]> = changes.filter(|change| !omitted(change)).collect();
        (!changes.is_empty() && !policy.has(Bug::OmitState)).then_some(changes)
    }

    /// What stands under these keys has ended: it is to be deleted, unless it is changed anyway. `true`: some of it is.
    pub(super) fn expire(&mut self, keys: &[Arc<[u8]>], policy: &Policy) -> bool {
        let mut some = false;
        for key in keys {
            if !self.changes.contains_key(key) || policy.has(Bug::ExpireChanged) {
                self.changes.insert(key.clone(), Change { key: key.clone(), entry: None, number: 0 });
                some = true;
            }
        }
        some
    }
}
