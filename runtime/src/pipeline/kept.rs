//! What internal topics hold of partitions: read before a partition runs, asked by shards, added to by the committer once it
//! is committed. Seen ids ([`super::ids`]) and state ([`super::state`]) are kept alike.

use super::Trouble;
use super::ids::{Ids, Known};
use super::link::{to_broker, to_engine};
use super::restore::{Fill, Restorer, Source};
use super::state::{Held, States};
use crate::record::TopicPartition;
use keyrail_engine::dedup::Past;
use keyrail_engine::message::{Epoch, MessageId, Now, Partition};
use keyrail_engine::state::{self, Entry};
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

/// What is kept of one partition, of each kind that its pipeline has.
#[derive(Debug, Clone, Default)]
pub(super) struct Kept {
    pub(super) ids: Option<Arc<Known>>,
    pub(super) state: Option<Arc<Held>>,
}

impl Kept {
    /// All below this end of its topic is in.
    pub(super) fn reach(&self, kind: Kind, end: i64) -> Result<(), Trouble> {
        let fill: Option<&dyn Fill> = match kind {
            Kind::Ids => self.ids.as_deref().map(|known| known as &dyn Fill),
            Kind::State => self.state.as_deref().map(|held| held as &dyn Fill),
        };
        Ok(fill.map_or(Ok(()), |fill| fill.reach(end))?)
    }

    fn broken(&self) -> Option<&String> {
        let ids = self.ids.as_ref().and_then(|known| known.broken());
        ids.or_else(|| self.state.as_ref().and_then(|held| held.broken()))
    }
}

/// Of which topic it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Ids,
    State,
}

/// What a shard asks, and whom the committer tells.
#[derive(Debug, Clone, Default)]
pub(super) struct Memory {
    open: BTreeMap<Partition, (Epoch, Kept)>,
    /// The last epoch of each partition that was closed: `Close` may overtake `Open`, and be of an earlier one.
    closed: BTreeMap<Partition, Epoch>,
}

impl Memory {
    pub(super) fn open(&mut self, partition: Partition, epoch: Epoch, kept: Kept) {
        if self.closed.get(&partition).is_none_or(|closed| *closed < epoch) {
            self.open.insert(partition, (epoch, kept));
        }
    }

    /// It starts anew: until then nothing is known of it.
    pub(super) fn suspend(&mut self, partition: Partition) {
        self.open.remove(&partition);
    }

    pub(super) fn close(&mut self, partition: Partition, epoch: Epoch) {
        if self.open.get(&partition).is_some_and(|(open, _)| *open <= epoch) {
            self.open.remove(&partition);
        }
        let closed = self.closed.entry(partition).or_insert(epoch);
        *closed = epoch.max(*closed);
    }

    pub(super) fn get(&self, partition: Partition) -> Option<&Kept> {
        self.open.get(&partition).map(|(_, kept)| kept)
    }

    pub(super) fn partitions(&self) -> impl Iterator<Item = (Partition, &Kept)> {
        self.open.iter().map(|(partition, (_, kept))| (*partition, kept))
    }

    /// Why what was concluded last must not be acted upon.
    pub(super) fn broken(&self) -> Option<&String> {
        self.open.values().find_map(|(_, kept)| kept.broken())
    }

    fn state(&self, partition: Partition) -> Option<&Held> {
        self.get(partition).and_then(|kept| kept.state.as_deref())
    }
}

impl Past for Memory {
    fn contains(&self, partition: Partition, id: MessageId, now: Now) -> bool {
        let known = self.get(partition).and_then(|kept| kept.ids.as_ref());
        known.is_some_and(|known| known.contains(id, now))
    }
}

impl state::Kept for Memory {
    fn get(&self, partition: Partition, key: &[u8]) -> Option<Entry> {
        self.state(partition)?.get(key)
    }

    fn scan(
        &self,
        partition: Partition,
        prefix: &[u8],
        after: &[u8],
        limit: usize,
        now_ms: i64,
    ) -> Vec<(Arc<[u8]>, Entry)> {
        self.state(partition).map(|held| held.scan(prefix, after, limit, now_ms)).unwrap_or_default()
    }
}

/// What is kept of the partitions that the consumer thread has, of one kind.
pub(super) struct Shelf<K> {
    held: BTreeMap<Partition, Arc<K>>,
    /// Given up, and maybe not yet let go of by a shard in a long call: when the partition comes back, it is the same one.
    gone: BTreeMap<Partition, Weak<K>>,
}

impl<K> Shelf<K> {
    pub(super) const fn new() -> Self {
        Self { held: BTreeMap::new(), gone: BTreeMap::new() }
    }

    pub(super) fn take(&mut self, partition: Partition, new: impl FnOnce() -> K) -> Arc<K> {
        let before = self.gone.remove(&partition).and_then(|gone| gone.upgrade());
        self.held.entry(partition).or_insert_with(|| before.unwrap_or_else(|| Arc::new(new()))).clone()
    }

    fn give_up(&mut self, partition: Partition) {
        if let Some(kept) = self.held.remove(&partition) {
            self.gone.insert(partition, Arc::downgrade(&kept));
        }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (Partition, &Arc<K>)> {
        self.held.iter().map(|(partition, kept)| (*partition, kept))
    }
}

/// All that is kept of the partitions that the consumer thread has.
pub(super) struct Keeper {
    restorer: Restorer,
    pub(super) ids: Option<Ids>,
    pub(super) state: Option<States>,
    /// Input topics: the restorer's topics are the ids' of each, if there are ids, and then the state's.
    inputs: u32,
}

impl Keeper {
    /// `source` names the topics of the ids, if there are any, then those of the state, each in the order of the `inputs`.
    pub(super) fn new(source: Source, inputs: usize, ids: Option<Ids>, state: Option<States>) -> Result<Self, Trouble> {
        let inputs = u32::try_from(inputs).unwrap_or(u32::MAX);
        Ok(Self { restorer: Restorer::start(source)?, ids, state, inputs })
    }

    fn at(&self, kind: Kind, partition: Partition) -> TopicPartition {
        let at = to_broker(partition);
        match kind {
            Kind::State if self.ids.is_some() => TopicPartition { topic: at.topic + self.inputs, ..at },
            Kind::Ids | Kind::State => at,
        }
    }

    fn of(&self, at: TopicPartition) -> (Kind, Partition) {
        let kind = if self.ids.is_some() && at.topic < self.inputs { Kind::Ids } else { Kind::State };
        (kind, to_engine(TopicPartition { topic: at.topic % self.inputs.max(1), ..at }))
    }

    fn kinds(&self) -> impl Iterator<Item = Kind> + use<> {
        let ids = self.ids.is_some().then_some(Kind::Ids);
        ids.into_iter().chain(self.state.is_some().then_some(Kind::State))
    }

    /// Reads what is missing of a partition; [`Keeper::done`] tells the numbers when all is there. Its committed offset was
    /// asked before.
    pub(super) fn want(&mut self, partition: Partition) -> (Vec<u64>, Kept) {
        let kept = Kept {
            ids: self.ids.as_mut().map(|ids| ids.take(partition)),
            state: self.state.as_mut().map(|state| state.take(partition)),
        };
        let mut numbers = Vec::new();
        for kind in self.kinds() {
            let at = self.at(kind, partition);
            self.restorer.watch(at, false);
            let fill: Option<Arc<dyn Fill>> = match kind {
                Kind::Ids => kept.ids.clone().map(|known| known as Arc<dyn Fill>),
                Kind::State => kept.state.clone().map(|held| held as Arc<dyn Fill>),
            };
            numbers.extend(fill.map(|fill| self.restorer.want(at, fill)));
        }
        (numbers, kept)
    }

    pub(super) fn forget(&mut self, partition: Partition) {
        for kind in self.kinds() {
            let at = self.at(kind, partition);
            self.restorer.forget(at);
            self.restorer.watch(at, false);
        }
        if let Some(ids) = &mut self.ids {
            ids.shelf.give_up(partition);
        }
        if let Some(state) = &mut self.state {
            state.shelf.give_up(partition);
        }
    }

    /// It runs: from now on the committer adds to it, and [`Keeper::ends`] tells where its topics end.
    pub(super) fn runs(&mut self, partition: Partition) {
        for kind in self.kinds() {
            let at = self.at(kind, partition);
            self.restorer.watch(at, true);
        }
    }

    /// Where the topics of those that run ended not long ago, now and then.
    pub(super) fn ends(&mut self) -> Vec<(Kind, Partition, i64)> {
        let ends = self.restorer.ends();
        let told = |(at, end)| {
            let (kind, partition) = self.of(at);
            (kind, partition, end)
        };
        ends.into_iter().map(told).collect()
    }

    pub(super) fn done(&mut self) -> Result<Vec<u64>, Trouble> {
        self.restorer.done().map_err(Trouble::from)
    }

    pub(super) fn told(&self) -> String {
        self.restorer.told()
    }

    pub(super) fn show(&self) {
        if let Some(ids) = &self.ids {
            ids.show();
        }
        if let Some(state) = &self.state {
            state.show();
        }
    }
}
