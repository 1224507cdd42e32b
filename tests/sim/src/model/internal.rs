//! Logs of what Keyrail keeps for itself, seen ids and state: records of transactions, for readers of committed ones, or
//! without transactions.

use super::transactions::TransactionId;
use std::collections::HashSet;
use std::hash::Hash;

#[derive(Debug)]
struct Entry {
    transaction: Option<TransactionId>,
    record: usize,
    /// Whether it is committed, once its marker is written.
    fate: Option<bool>,
    /// Compaction has taken it.
    gone: bool,
}

/// One partition of such a topic. Positions count its records.
#[derive(Debug, Default)]
pub struct InternalLog {
    entries: Vec<Entry>,
    /// All below have a fate.
    stable: usize,
}

impl InternalLog {
    /// A record stands at the end.
    pub fn append(&mut self, transaction: TransactionId, record: usize) {
        self.entries.push(Entry { transaction: Some(transaction), record, fate: None, gone: false });
    }

    /// A record of no transaction stands at the end.
    pub fn append_alone(&mut self, record: usize) {
        self.stable += usize::from(self.stable == self.entries.len());
        self.entries.push(Entry { transaction: None, record, fate: Some(true), gone: false });
    }

    /// A record of somebody else's transaction, which is done, and then its marker.
    pub fn append_done(&mut self, record: usize, commits: bool) {
        let transaction = None;
        for (record, gone) in [(record, false), (usize::MAX, true)] {
            self.stable += usize::from(self.stable == self.entries.len());
            self.entries.push(Entry { transaction, record, fate: Some(commits), gone });
        }
    }

    /// An offset without a record, as a transaction marker takes.
    pub fn append_marker(&mut self) {
        self.stable += usize::from(self.stable == self.entries.len());
        self.entries.push(Entry { transaction: None, record: usize::MAX, fate: Some(true), gone: true });
    }

    /// Where it ends, open transactions included.
    #[must_use]
    pub const fn end(&self) -> usize {
        self.entries.len()
    }

    /// Where it ends for who reads committed records: before the first whose transaction has no marker here.
    #[must_use]
    pub const fn stable_end(&self) -> usize {
        self.stable
    }

    /// The marker of a transaction is written.
    pub fn mark(&mut self, transaction: TransactionId, commits: bool) {
        for entry in self.entries[self.stable..].iter_mut().filter(|e| e.transaction == Some(transaction)) {
            entry.fate = Some(commits);
        }
        let still_open = |e: &Entry| e.fate.is_none();
        let stable = self.entries[self.stable..].iter().position(still_open);
        self.stable = stable.map_or(self.entries.len(), |at| self.stable + at);
    }

    /// The committed records from `from` up to `to`; or all, for who does not care.
    pub fn read(&self, from: usize, to: usize, uncommitted: bool) -> impl Iterator<Item = usize> {
        let to = to.min(self.entries.len());
        let entries = &self.entries[from.min(to)..to];
        entries.iter().filter(move |e| !e.gone && (uncommitted || e.fate == Some(true))).map(|e| e.record)
    }

    /// The committed records from `from` on that readers of them see by now, each with its position.
    pub fn read_on(&self, from: usize, uncommitted: bool) -> impl Iterator<Item = (usize, usize)> {
        let entries = self.entries[..self.stable].iter().enumerate().skip(from);
        entries.filter(move |(_, e)| !e.gone && (uncommitted || e.fate == Some(true))).map(|(at, e)| (at, e.record))
    }

    /// Compaction: of the committed records below the stable end the last one of each key stays, and nothing of what was
    /// not committed.
    pub fn compact<K: Eq + Hash>(&mut self, key_of: impl Fn(usize) -> K) {
        let mut newer = HashSet::new();
        for entry in self.entries[..self.stable].iter_mut().rev() {
            entry.gone |= entry.fate != Some(true) || !newer.insert(key_of(entry.record));
        }
    }

    /// Records whose transaction is not done.
    #[must_use]
    pub fn unresolved(&self) -> usize {
        self.entries.iter().filter(|e| e.fate.is_none()).count()
    }
}
