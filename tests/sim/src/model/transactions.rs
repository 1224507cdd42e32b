//! The transaction coordinator, and the output partitions as readers of committed records see them.
//!
//! As with librdkafka's clients on brokers since 3.6: a transaction belongs to an id and an epoch, not to a request. What
//! arrives late within the epoch takes part in whatever transaction of that epoch is open; a record that arrives when
//! none is open is refused. Ends are decided first; markers are written later, to each partition in its own time. A
//! reader sees a partition up to the first record whose transaction has no marker there.

use super::internal::InternalLog;
use super::outputs::{ALL_PLACES, Effect, INBOX_PLACE, MARK_PLACE, Sender};
use crate::invariants::RunId;
use crate::record::index_of;
use keyrail_engine::pipeline::CommitOffset;
use std::collections::VecDeque;

/// The place of the group's offsets among those that get markers.
pub const OFFSETS_PLACE: u8 = ALL_PLACES;

/// Names one transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransactionId(u32);

/// One transaction.
#[derive(Debug)]
pub struct Transaction {
    /// The transactional id.
    pub owner: u8,
    /// Records in it: where, what, and in which of its client's transactions each was sent.
    pub records: Vec<(u8, Effect, u32)>,
    /// Offsets in it, with the assignment that each is for.
    pub offsets: Vec<(CommitOffset, RunId)>,
    /// Which of its client's transactions these were sent in.
    pub offsets_of: Option<u32>,
    /// Places without a marker, as bits.
    unmarked: u128,
    /// How it ends, once that is decided.
    commits: Option<bool>,
    /// For the order of what becomes visible; see [`Coordinator::forget_order`].
    orders: Vec<u32>,
}

/// What holds a transactional id.
#[derive(Debug, Default, Clone, Copy)]
struct Producer {
    epoch: u32,
    present: Option<TransactionId>,
    /// The epoch that somebody else made for itself.
    stranger: u32,
    /// The last transaction of this epoch was committed.
    committed: bool,
}

#[derive(Debug)]
struct Entry {
    transaction: TransactionId,
    effect: Effect,
    /// Whether it is visible, once its marker is written.
    fate: Option<bool>,
}

/// The answer to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It took part in the open transaction.
    Yes,
    /// It began one.
    Began(TransactionId),
    /// The one before is not done yet: to be sent again.
    Busy,
    /// There is a newer epoch.
    Fenced,
    /// There is no open transaction to take part in.
    No,
}

/// The answer to the request that ends a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It is decided.
    Decided(TransactionId),
    /// It was decided so before.
    Again,
    /// There is a newer epoch.
    Fenced,
    /// There is nothing to end.
    Nothing,
}

/// The answer to a producer that takes an id over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Init {
    /// It has this epoch.
    Ready(u32),
    /// What was open is aborted first: ask again.
    Aborts(TransactionId),
    /// What was decided is not done yet: ask again.
    Wait,
}

/// What a marker brought.
#[derive(Debug, Default)]
pub struct Marked {
    /// Records that can be seen from now on, with the count of [`Coordinator::forget_order`] when they were decided.
    pub visible: Vec<(Effect, u32)>,
    /// Offsets that stand from now on.
    pub stored: Vec<CommitOffset>,
}

/// All transactional ids, one for each worker, and the partitions they write to.
#[derive(Debug, Default)]
pub struct Coordinator {
    producers: [Producer; 8],
    transactions: Vec<Transaction>,
    places: [VecDeque<Entry>; MARK_PLACE as usize],
    /// How many transactions hold offsets of each input partition that are not decided for all to see.
    pending: Vec<u16>,
    /// See [`Coordinator::forget_order`].
    orders: Vec<u32>,
    /// Seen ids, state, what is parked, and inboxes, by place.
    internal: Vec<InternalLog>,
}

impl Coordinator {
    fn producer(&mut self, id: u8) -> &mut Producer {
        &mut self.producers[usize::from(id)]
    }

    fn at(&mut self, id: TransactionId) -> &mut Transaction {
        &mut self.transactions[id.0 as usize]
    }

    /// A transaction.
    #[must_use]
    pub fn transaction(&self, id: TransactionId) -> &Transaction {
        &self.transactions[id.0 as usize]
    }

    /// Finds, or begins, the open transaction of a producer.
    fn open(&mut self, sender: &Sender, may_begin: bool) -> (Taken, Option<TransactionId>) {
        let producer = *self.producer(sender.worker);
        if sender.epoch != producer.epoch {
            return (Taken::Fenced, None);
        }
        match producer.present {
            Some(id) if self.transaction(id).commits.is_some() => (Taken::Busy, None),
            Some(id) => (Taken::Yes, Some(id)),
            None if !may_begin => (Taken::No, None),
            None => {
                let id = TransactionId(self.transactions.len() as u32);
                self.transactions.push(Transaction {
                    owner: sender.worker,
                    records: Vec::new(),
                    offsets: Vec::new(),
                    offsets_of: None,
                    unmarked: 0,
                    commits: None,
                    orders: Vec::new(),
                });
                self.producer(sender.worker).present = Some(id);
                (Taken::Began(id), Some(id))
            }
        }
    }

    /// A record arrives. One that is `late` asks for no transaction.
    pub fn append(&mut self, sender: &Sender, place: u8, effect: Effect, late: bool) -> Taken {
        let (taken, id) = self.open(sender, !late);
        if let Some(id) = id {
            let transaction = self.at(id);
            transaction.records.push((place, effect, sender.attempt));
            transaction.unmarked |= 1 << place;
            let internal = effect.marks_record().or(effect.state_record()).or(effect.parked_record());
            match internal.or(effect.answer_record()) {
                Some(record) => self.internal_log(place).append(id, record),
                None => self.places[usize::from(place)].push_back(Entry { transaction: id, effect, fate: None }),
            }
        }
        taken
    }

    /// The log at a place of seen ids or of state.
    pub fn internal_log(&mut self, place: u8) -> &mut InternalLog {
        if self.internal.is_empty() {
            self.internal.resize_with(usize::from(ALL_PLACES - MARK_PLACE), InternalLog::default);
        }
        &mut self.internal[usize::from(place - MARK_PLACE)]
    }

    /// Offsets arrive; the group has let them pass.
    pub fn add_offsets(&mut self, sender: &Sender, offsets: &[(CommitOffset, RunId)], late: bool) -> Taken {
        let (taken, id) = self.open(sender, !late);
        let Some(id) = id else { return taken };
        for (offset, run) in offsets {
            let partition = usize::from(index_of(offset.partition));
            let transaction = self.at(id);
            transaction.unmarked |= 1 << OFFSETS_PLACE;
            transaction.offsets_of = Some(sender.attempt);
            match transaction.offsets.iter_mut().find(|(o, _)| o.partition == offset.partition) {
                Some(present) => *present = (offset.clone(), *run),
                None => {
                    transaction.offsets.push((offset.clone(), *run));
                    self.pending.resize(self.pending.len().max(partition + 1), 0);
                    self.pending[partition] += 1;
                }
            }
        }
        taken
    }

    /// The request that commits arrives.
    pub fn end(&mut self, sender: &Sender) -> End {
        let producer = *self.producer(sender.worker);
        if sender.epoch != producer.epoch {
            return End::Fenced;
        }
        match producer.present {
            None if producer.committed => End::Again,
            None => End::Nothing,
            Some(id) => match self.transaction(id).commits {
                None => {
                    self.producer(sender.worker).committed = true;
                    self.decide(id, true);
                    End::Decided(id)
                }
                Some(true) => End::Again,
                Some(false) => End::Nothing,
            },
        }
    }

    fn decide(&mut self, id: TransactionId, commits: bool) {
        let orders = self.orders.clone();
        let transaction = self.at(id);
        transaction.commits = Some(commits);
        transaction.orders = orders;
        if transaction.unmarked == 0 {
            let owner = transaction.owner;
            self.producer(owner).present = None;
        }
    }

    /// A producer takes the id over: whoever had it is fenced.
    pub fn init(&mut self, id: u8) -> Init {
        let present = self.producer(id).present;
        match present {
            None => {
                let producer = self.producer(id);
                producer.epoch += 1;
                producer.committed = false;
                Init::Ready(producer.epoch)
            }
            Some(open) if self.transaction(open).commits.is_none() => {
                self.abort(open);
                Init::Aborts(open)
            }
            Some(_) => Init::Wait,
        }
    }

    fn abort(&mut self, id: TransactionId) {
        let owner = self.transaction(id).owner;
        let producer = self.producer(owner);
        producer.epoch += 1;
        producer.committed = false;
        self.decide(id, false);
    }

    /// Another process takes the id over, as that of a copied folder would.
    pub fn steal(&mut self, id: u8) -> Option<TransactionId> {
        let aborted = match self.init(id) {
            Init::Aborts(open) => Some(open),
            Init::Wait => {
                // What is decided stands.
                self.producer(id).epoch += 1;
                None
            }
            Init::Ready(_) => None,
        };
        let producer = self.producer(id);
        producer.stranger = producer.epoch;
        aborted
    }

    /// Whether somebody else took the id from whoever had it in this epoch.
    #[must_use]
    pub fn is_stolen(&self, id: u8, epoch: u32) -> bool {
        self.producers[usize::from(id)].stranger > epoch
    }

    /// A transaction has been open for too long. `true`: it is aborted for it.
    pub fn time_out(&mut self, id: TransactionId) -> bool {
        let open = self.transaction(id).commits.is_none();
        if open {
            self.abort(id);
        }
        open
    }

    /// Where markers of a decided transaction are still to be written.
    pub fn unmarked(&self, id: TransactionId) -> impl Iterator<Item = u8> + use<> {
        let bits = self.transaction(id).unmarked;
        (0..=OFFSETS_PLACE).filter(move |place| bits & 1 << place != 0)
    }

    /// A marker is written.
    pub fn mark(&mut self, id: TransactionId, place: u8) -> Marked {
        let mut marked = Marked::default();
        let transaction = self.at(id);
        let commits = transaction.commits == Some(true);
        transaction.unmarked &= !(1 << place);
        let (owner, done) = (transaction.owner, transaction.unmarked == 0);
        if place == OFFSETS_PLACE {
            for (offset, _) in std::mem::take(&mut transaction.offsets) {
                self.pending[usize::from(index_of(offset.partition))] -= 1;
                if commits {
                    marked.stored.push(offset);
                }
            }
        } else {
            self.resolve(id, place, commits, &mut marked);
        }
        if done {
            self.producer(owner).present = None;
            self.at(id).records = Vec::new();
        }
        marked
    }

    fn resolve(&mut self, id: TransactionId, place: u8, commits: bool, marked: &mut Marked) {
        if place >= MARK_PLACE {
            let log = self.internal_log(place);
            log.mark(id, commits);
            if place >= INBOX_PLACE {
                // The offset of a marker counts there.
                log.append_marker();
            }
            return;
        }
        let entries = &mut self.places[usize::from(place)];
        for entry in entries.iter_mut().filter(|e| e.transaction == id) {
            entry.fate = Some(commits);
        }
        while let Some(visible) = entries.front().and_then(|e| e.fate) {
            let Some(entry) = entries.pop_front().filter(|_| visible) else { continue };
            let orders = &self.transactions[entry.transaction.0 as usize].orders;
            let order = orders.get(usize::from(entry.effect.partition)).copied().unwrap_or(0);
            marked.visible.push((entry.effect, order));
        }
    }

    /// Whether offsets of an input partition are under way: what stands is not stable.
    #[must_use]
    pub fn is_pending(&self, partition: u16) -> bool {
        self.pending.get(usize::from(partition)).is_some_and(|n| *n > 0)
    }

    /// What is decided from now on for an input partition has no order with what was decided before: it runs again.
    pub fn forget_order(&mut self, partition: u16) {
        let partition = usize::from(partition);
        self.orders.resize(self.orders.len().max(partition + 1), 0);
        self.orders[partition] += 1;
    }

    /// Records that no reader gets past, and transactions that are not done.
    #[must_use]
    pub fn unresolved(&self) -> (usize, usize) {
        let internal: usize = self.internal.iter().map(InternalLog::unresolved).sum();
        let records = internal + self.places.iter().map(VecDeque::len).sum::<usize>();
        (records, self.producers.iter().filter(|p| p.present.is_some()).count())
    }
}
