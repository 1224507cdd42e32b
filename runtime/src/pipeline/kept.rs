//! What internal topics hold of partitions: read before a partition runs, asked by shards, added to by the committer once it
//! is committed. Seen ids ([`super::ids`]), state ([`super::state`]) and parked messages ([`super::parked`]) are kept alike.

use super::ids::{self, Ids, Known};
use super::link::{to_broker, to_engine};
use super::parked::{self, Lanes, Parkeds};
use super::process::{needed, needed_to_park};
use super::restore::{self, Fill, Restorer, Source};
use super::state::{self as handlers, Held, States};
use super::{Parts, Shared, Trouble, clock};
use crate::admin::metrics::PipelineMetrics;
use crate::record::TopicPartition;
use keyrail_engine::dedup::Past;
use keyrail_engine::message::{Epoch, MessageId, Now, Partition};
use keyrail_engine::order::Router;
use keyrail_engine::state::{self, Entry};
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

/// What is kept of one partition, of each kind that its pipeline has.
#[derive(Debug, Clone, Default)]
pub(super) struct Kept {
    pub(super) ids: Option<Arc<Known>>,
    pub(super) state: Option<Arc<Held>>,
    pub(super) parked: Option<Arc<Lanes>>,
}

impl Kept {
    /// All below this end of its topic is in.
    pub(super) fn reach(&self, kind: Kind, end: i64) -> Result<(), Trouble> {
        Ok(self.fill(kind).map_or(Ok(()), |fill| fill.reach(end))?)
    }

    fn fill(&self, kind: Kind) -> Option<Arc<dyn Fill>> {
        match kind {
            Kind::Ids => self.ids.clone().map(|known| known as Arc<dyn Fill>),
            Kind::State => self.state.clone().map(|held| held as Arc<dyn Fill>),
            Kind::Parked => self.parked.clone().map(|lanes| lanes as Arc<dyn Fill>),
        }
    }

    fn broken(&self) -> Option<&String> {
        let ids = self.ids.as_ref().and_then(|known| known.broken());
        let state = || self.state.as_ref().and_then(|held| held.broken());
        ids.or_else(state).or_else(|| self.parked.as_ref().and_then(|lanes| lanes.broken()))
    }
}

/// Of which topic it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Ids,
    State,
    Parked,
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

    pub(super) fn state(&self, partition: Partition) -> Option<&Held> {
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

/// The restorer's topics: those of the first kind for each input, then of the next.
struct Topics {
    kinds: Vec<Kind>,
    /// Input topics.
    inputs: u32,
}

impl Topics {
    fn at(&self, kind: Kind, partition: Partition) -> TopicPartition {
        let at = to_broker(partition);
        let before = self.kinds.iter().take_while(|known| **known != kind).count();
        TopicPartition { topic: at.topic + self.inputs * u32::try_from(before).unwrap_or(0), ..at }
    }

    fn of(&self, at: TopicPartition) -> Option<(Kind, Partition)> {
        let inputs = self.inputs.max(1);
        let kind = self.kinds.get((at.topic / inputs) as usize)?;
        Some((*kind, to_engine(TopicPartition { topic: at.topic % inputs, ..at })))
    }
}

/// All that is kept of the partitions that the consumer thread has.
pub(super) struct Keeper {
    restorer: Restorer,
    pub(super) ids: Option<Ids>,
    pub(super) state: Option<States>,
    pub(super) parked: Option<Parkeds>,
    topics: Topics,
}

impl Keeper {
    /// What reads and holds what internal topics hold, if it has any. `seed` is that of its lanes.
    pub(super) fn for_parts(
        parts: &Parts,
        shared: &Shared,
        metrics: &Arc<PipelineMetrics>,
        seed: u64,
    ) -> Result<Option<Self>, Trouble> {
        let manifest = &parts.manifest;
        let (group, inputs) = (&manifest.group, manifest.owners());
        let mut topics = Vec::new();
        let ids = match &manifest.seen {
            None => None,
            Some(seen) => {
                topics.extend(seen.topics.iter().cloned());
                let place = ids::Place {
                    disk: shared.naming.seen_ids()?,
                    group: group.clone(),
                    inputs: inputs.to_vec(),
                    topics: seen.topics.clone(),
                    window_ms: clock::millis(seen.window),
                };
                Some(Ids::new(place, metrics.clone()))
            }
        };
        let state = match &manifest.state {
            None => None,
            Some(own) => {
                topics.extend(own.topics.iter().cloned());
                let (store, topics) = (shared.naming.state()?, own.topics.clone());
                let timers = handlers::Makings::new(&manifest.policy.order, seed, parts.budget.clone());
                let (group, inputs) = (group.clone(), inputs.to_vec());
                let (schemas, found) = (manifest.schemas.clone(), parts.serving.schemas().clone());
                let place = handlers::Place { store, group, inputs, topics, timers, schemas, found };
                Some(States::new(place, metrics.clone()))
            }
        };
        let parked = match &manifest.parked {
            None => None,
            Some(own) => {
                topics.extend(own.topics.iter().cloned());
                let (group, inputs, topics) = (group.clone(), inputs.to_vec(), own.topics.clone());
                let (store, router) = (shared.naming.state()?, Router::new(manifest.policy.clone(), seed));
                let place = parked::Place { store, group, inputs, topics, router, seed, budget: parts.budget.clone() };
                Some(Parkeds::new(place, metrics.clone(), shared.alerts.clone()))
            }
        };
        if topics.is_empty() {
            return Ok(None);
        }
        let source = restore::Source {
            broker: parts.broker.clone(),
            topics,
            needed: needed(manifest).into_iter().chain(needed_to_park(manifest)).collect(),
            metrics: metrics.clone(),
            pipeline: manifest.name.clone(),
        };
        Ok(Some(Self::new(source, inputs.len(), ids, state, parked)?))
    }

    /// `source` names the topics of the ids, if there are any, then those of the state, then those of what is parked, each in
    /// the order of the `inputs`.
    pub(super) fn new(
        source: Source,
        inputs: usize,
        ids: Option<Ids>,
        state: Option<States>,
        parked: Option<Parkeds>,
    ) -> Result<Self, Trouble> {
        let inputs = u32::try_from(inputs).unwrap_or(u32::MAX);
        let all = [(Kind::Ids, ids.is_some()), (Kind::State, state.is_some()), (Kind::Parked, parked.is_some())];
        let kinds = all.into_iter().filter(|(_, there)| *there).map(|(kind, _)| kind).collect();
        Ok(Self { restorer: Restorer::start(source)?, ids, state, parked, topics: Topics { kinds, inputs } })
    }

    /// Reads what is missing of a partition; [`Keeper::done`] tells the numbers when all is there. Its committed offset was
    /// asked before.
    pub(super) fn want(&mut self, partition: Partition) -> (Vec<u64>, Kept) {
        let kept = Kept {
            ids: self.ids.as_mut().map(|ids| ids.take(partition)),
            state: self.state.as_mut().map(|state| state.take(partition)),
            parked: self.parked.as_mut().map(|parked| parked.take(partition)),
        };
        let mut numbers = Vec::new();
        for kind in self.topics.kinds.clone() {
            let at = self.topics.at(kind, partition);
            self.restorer.watch(at, false);
            numbers.extend(kept.fill(kind).map(|fill| self.restorer.want(at, fill)));
        }
        (numbers, kept)
    }

    pub(super) fn forget(&mut self, partition: Partition) {
        for kind in self.topics.kinds.clone() {
            let at = self.topics.at(kind, partition);
            self.restorer.forget(at);
            self.restorer.watch(at, false);
        }
        if let Some(ids) = &mut self.ids {
            ids.shelf.give_up(partition);
        }
        if let Some(state) = &mut self.state {
            state.shelf.give_up(partition);
        }
        if let Some(parked) = &mut self.parked {
            parked.shelf.give_up(partition);
        }
    }

    /// It runs: from now on the committer adds to it, and [`Keeper::ends`] tells where its topics end.
    pub(super) fn runs(&mut self, partition: Partition) {
        for kind in self.topics.kinds.clone() {
            let at = self.topics.at(kind, partition);
            self.restorer.watch(at, true);
        }
    }

    /// Where the topics of those that run ended not long ago, now and then.
    pub(super) fn ends(&mut self) -> Vec<(Kind, Partition, i64)> {
        let ends = self.restorer.ends();
        let told = |(at, end)| {
            let (kind, partition) = self.topics.of(at)?;
            Some((kind, partition, end))
        };
        ends.into_iter().filter_map(told).collect()
    }

    pub(super) fn done(&mut self) -> Result<Vec<u64>, Trouble> {
        self.restorer.done().map_err(Trouble::from)
    }

    pub(super) fn told(&self) -> String {
        self.restorer.told()
    }

    pub(super) fn show(&mut self) {
        if let Some(ids) = &self.ids {
            ids.show();
        }
        if let Some(state) = &mut self.state {
            state.show();
        }
        if let Some(parked) = &mut self.parked {
            parked.show();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_of_the_restorer_is_of_one_kind_and_input() {
        let partition = Partition { topic: 1, number: 4 };
        for kinds in [vec![Kind::Parked], vec![Kind::Ids, Kind::Parked], vec![Kind::Ids, Kind::State, Kind::Parked]] {
            let topics = Topics { kinds: kinds.clone(), inputs: 2 };
            for (place, kind) in (0..).zip(kinds) {
                let at = topics.at(kind, partition);
                assert_eq!(at, TopicPartition { topic: place * 2 + 1, partition: 4 });
                assert_eq!(topics.of(at), Some((kind, partition)));
            }
            assert_eq!(topics.of(TopicPartition { topic: 6, partition: 0 }), None);
        }
    }
}
