//! Which ids a transaction marks as seen: they are written with it, one record for each partition, and count once it is
//! committed.

use super::outbox::Token;
use super::transaction::Transactions;
use super::{Action, Pipeline, Refusal};
use crate::message::{Epoch, Fate, MessageId, Now, Partition};
use crate::planted::Bug;
use crate::seen::MAX_IDS;
use crate::shard::Settled;
use crate::tracker::Progress;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// The highest bit tells a record of marks from a message's publication.
const MARK: u64 = 1 << 63;

impl Token {
    /// Whether it names a record of seen ids.
    #[must_use]
    pub const fn is_mark(self) -> bool {
        self.0 & MARK != 0
    }
}

/// The marks of one partition, or a part of them.
#[derive(Debug)]
struct Record {
    partition: Partition,
    epoch: Epoch,
    ids: Arc<[MessageId]>,
    time_ms: i64,
    acknowledged: bool,
}

/// Records of marks of the present transaction.
#[derive(Debug)]
pub(super) struct Marks {
    records: BTreeMap<Token, Record>,
    tokens: u64,
    /// How many ids go into one record: fewer where their topic does not take as many.
    most: usize,
    /// The latest wall time of a mark: an id does not live shorter because a clock went back.
    latest_ms: i64,
}

impl Marks {
    pub(super) const fn new() -> Self {
        Self { records: BTreeMap::new(), tokens: 0, most: MAX_IDS, latest_ms: i64::MIN }
    }

    pub(super) fn all_acknowledged(&self) -> bool {
        self.records.values().all(|r| r.acknowledged)
    }

    pub(super) fn clear(&mut self) {
        self.records.clear();
    }
}

/// Whether this fate says that the message is dealt with for good.
fn marks(fate: &Fate) -> bool {
    !matches!(fate, Fate::Duplicate { .. })
}

impl<M> Pipeline<M> {
    /// A message is published: if it has an id, that is marked with the present transaction.
    pub(super) fn mark(&mut self, settled: &Settled<M>, now: Now) {
        if !self.policy.keeps_ids() || !marks(&settled.fate) {
            return;
        }
        if let (Some(id), Some(task)) = (settled.ticket.id, self.tasks.get_mut(&settled.ticket.partition)) {
            task.marks.push(id);
            self.staged(size_of::<MessageId>() as u64);
        }
        if let Some(Transactions { marks, .. }) = &mut self.transactions {
            marks.latest_ms = marks.latest_ms.max(now.wall_ms);
        }
    }

    /// The transaction holds all that it will: its marks are written.
    pub(super) fn write_marks(&mut self, actions: &mut Vec<Action>) {
        let Some(Transactions { marks, .. }) = &mut self.transactions else { return };
        let time_ms = marks.latest_ms;
        for (partition, task) in &mut self.tasks {
            let all = core::mem::take(&mut task.marks);
            if self.policy.has(Bug::OmitMarks) {
                continue;
            }
            for part in all.chunks(marks.most) {
                marks.tokens += 1;
                let (token, ids) = (Token(MARK | marks.tokens), Arc::<[MessageId]>::from(part));
                let (partition, epoch) = (*partition, task.epoch);
                let record = Record { partition, epoch, ids: ids.clone(), time_ms, acknowledged: false };
                marks.records.insert(token, record);
                actions.push(Action::Mark { token, partition, ids, time_ms });
            }
        }
    }

    pub(super) fn mark_acknowledged(&mut self, token: Token, now: Now, actions: &mut Vec<Action>) {
        let early = self.policy.has(Bug::MarkedBeforeCommit);
        let Some(transactions) = &mut self.transactions else { return };
        let Some(record) = transactions.marks.records.get_mut(&token) else { return };
        record.acknowledged = true;
        if early {
            let (partition, ids, time_ms) = (record.partition, record.ids.clone(), record.time_ms);
            actions.push(Action::Marked { partition, ids, time_ms });
        }
        self.end_transaction(now, actions);
        self.check_revoke(now, actions);
    }

    /// A record of marks was refused: without it the transaction must not be committed.
    pub(super) fn mark_refused(&mut self, token: Token, refusal: Refusal, now: Now, actions: &mut Vec<Action>) {
        let Some(transactions) = &mut self.transactions else { return };
        let Some(record) = transactions.marks.records.get(&token) else { return };
        let (partition, epoch, count) = (record.partition, record.epoch, record.ids.len());
        let why = match refusal {
            Refusal::Undeliverable(why) if count > 1 => {
                transactions.marks.most = count.div_ceil(2);
                let why = format!("{count} seen ids are too much for one record: {why}");
                return self.transaction_failed(why, now, actions);
            }
            Refusal::Undeliverable(why) | Refusal::Blocked(why) => format!("its seen ids: {why}"),
        };
        if let Some(poisoned) = transactions.poisoned.take() {
            return self.end_poisoned(poisoned, now, actions);
        }
        self.refused_for_now(&why, actions);
        if let Some(task) = self.tasks.get_mut(&partition).filter(|t| t.epoch == epoch) {
            task.marks_stuck = true;
            // What it marks is settled already, and runs again.
            let lowest = task.committed.as_ref().map_or(task.start, |c| c.point);
            self.hold_back((partition, epoch, lowest), false, why, now, actions);
        }
        self.give_up(now, actions);
    }

    /// The present transaction is committed, and its marks with it.
    pub(super) fn marks_committed(&mut self, states: &[(Partition, Epoch, Progress)], actions: &mut Vec<Action>) {
        let Some(transactions) = &mut self.transactions else { return };
        for (_, Record { partition, ids, time_ms, .. }) in core::mem::take(&mut transactions.marks.records) {
            actions.push(Action::Marked { partition, ids, time_ms });
        }
        for (partition, epoch, progress) in states {
            let task = self.tasks.get_mut(partition).filter(|t| t.epoch == *epoch);
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
