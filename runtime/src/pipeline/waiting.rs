//! Partitions that are owned, and wait until it is known what internal topics hold of them: which of their messages were seen
//! before, and the state of their keys.
//!
//! They belong to the group, to the intake and to the ledger, which commits what their start changes; and they are paused.
//! Shards learn of them when all is read. Meanwhile the others go on.

use super::Trouble;
use super::consumer::Worker;
use super::kept::Kept;
use super::link::{ToCommitter, ToShard, to_broker, to_engine};
use crate::admin::health::State;
use crate::record::TopicPartition;
use keyrail_engine::intake::Opened;
use keyrail_engine::message::{Epoch, Partition};
use keyrail_engine::ranges::Ranges;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What is read within this time is no reason to call a pipeline unready that was ready.
const SHORT: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// By task.
    all: BTreeMap<Partition, Start>,
    since: Option<Instant>,
    /// Told to the outside.
    unready: bool,
}

/// What is told of a task when it is known.
#[derive(Debug)]
struct Start {
    /// What of it is not read yet.
    numbers: Vec<u64>,
    epoch: Epoch,
    /// Its partitions, each with what is seen below and settled above.
    parts: Vec<(Partition, i64, Arc<Ranges>)>,
    kept: Kept,
}

impl Waiting {
    pub(super) fn has(&self, partition: Partition) -> bool {
        self.all.values().any(|start| start.parts.iter().any(|(own, ..)| *own == partition))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}

impl Worker {
    /// Partitions start, each with what was seen below: at once, or when it is known what internal topics hold of their tasks. All
    /// of a task are among them, and their committed offsets were asked before.
    pub(super) fn begin(&mut self, all: Vec<(Partition, Opened, i64)>) -> Result<(), Trouble> {
        for (partition, opened, seen_below) in &all {
            let (epoch, settled) = (opened.epoch, Arc::new(opened.settled.clone()));
            let task = self.feed.order.task(*partition);
            let Some(keeper) = &mut self.feed.keeper else {
                self.tell_shards(*partition, epoch, (*seen_below, &settled), &Kept::default());
                continue;
            };
            let part = (*partition, *seen_below, settled);
            match self.waiting.all.get_mut(&task) {
                Some(start) if start.epoch == epoch => start.parts.push(part),
                _ => {
                    let (numbers, kept) = keeper.want(task);
                    self.waiting.all.insert(task, Start { numbers, epoch, parts: vec![part], kept });
                    self.waiting.since.get_or_insert_with(Instant::now);
                }
            }
        }
        self.tell_ledger(all.into_iter().map(|(partition, opened, _)| (partition, opened)).collect())
    }

    /// Tells the shards, before the first record; for `seen_below` see [`keyrail_engine::shard::Shard::open`].
    fn tell_shards(
        &mut self,
        partition: Partition,
        epoch: Epoch,
        (seen_below, settled): (i64, &Arc<Ranges>),
        kept: &Kept,
    ) {
        let condemned = self.condemned.get(&partition).cloned().unwrap_or_else(|| Arc::from([]));
        for shard in 0..self.feed.out.shards() {
            let (settled, kept, condemned) = (settled.clone(), kept.clone(), condemned.clone());
            if let Some(attention) = self.feed.attention.get(shard) {
                attention.ask();
            }
            self.feed.out.give(shard, ToShard::Open { partition, epoch, seen_below, settled, kept, condemned });
        }
    }

    /// It is given up.
    pub(super) fn begin_no_more(&mut self, partition: Partition) {
        // The others of its task are given up with it.
        let task = self.feed.order.task(partition);
        self.waiting.all.remove(&task);
        if let Some(keeper) = &mut self.feed.keeper {
            keeper.forget(task);
        }
        self.note_waiting();
    }

    /// Nothing waits any more, if so.
    fn note_waiting(&mut self) {
        if self.waiting.is_empty() {
            self.waiting.since = None;
            if std::mem::take(&mut self.waiting.unready) {
                self.feed.health.set(State::Ready);
            }
        }
    }

    /// A pipeline that begins is not ready before all is known.
    pub(super) fn show_waiting(&mut self) {
        if let (Some(keeper), false) = (&self.feed.keeper, self.waiting.is_empty()) {
            let told = keeper.told();
            let told = if told.is_empty() { "reads what its internal topics hold".to_owned() } else { told };
            self.feed.health.set(State::NotReady(told));
            self.waiting.unready = true;
        }
    }

    /// Once in a while.
    pub(super) fn look_at_kept(&mut self) -> Result<(), Trouble> {
        if self.waiting.unready || self.waiting.since.is_some_and(|since| since.elapsed() > SHORT) {
            self.show_waiting();
        }
        let Some(keeper) = &mut self.feed.keeper else { return Ok(()) };
        keeper.show();
        let ends = keeper.ends();
        if !ends.is_empty() {
            self.feed.out.tell(ToCommitter::Ends(ends))?;
        }
        Ok(())
    }

    /// Those of which all is known by now start.
    pub(super) fn restored(&mut self) -> Result<(), Trouble> {
        let Some(keeper) = self.feed.keeper.as_mut().filter(|_| !self.waiting.is_empty()) else { return Ok(()) };
        let done = keeper.done()?;
        if done.is_empty() {
            return Ok(());
        }
        let all_read = |start: &mut Start| {
            start.numbers.retain(|number| !done.contains(number));
            start.numbers.is_empty()
        };
        let ready: Vec<(Partition, Start)> = self.waiting.all.extract_if(.., |_, start| all_read(start)).collect();
        let mut resumed = Vec::with_capacity(ready.len());
        for (task, Start { epoch, parts, kept, .. }) in ready {
            // Before anything of it runs: by a version that can't read it nothing may.
            let schemas = kept.state.as_ref().map_or(Ok(Vec::new()), |held| held.schemas(task))?;
            for (partition, seen_below, settled) in &parts {
                self.tell_shards(*partition, epoch, (*seen_below, settled), &kept);
            }
            // IMPORTANT: before the first of its messages can settle.
            self.feed.out.tell(ToCommitter::Known { task, epoch, kept, schemas })?;
            self.feed.out.flush()?;
            if let Some(keeper) = &mut self.feed.keeper {
                keeper.runs(task);
            }
            let parts = parts.into_iter().map(|(partition, ..)| partition);
            resumed.extend(parts.filter(|partition| !self.held.contains(partition)).map(to_broker));
        }
        if !self.feed.gate.is_closed() {
            let result = self.feed.consumer.resume(&resumed);
            self.tell(result);
        }
        self.note_waiting();
        Ok(())
    }

    /// Those of them that wait give no records until they may start.
    pub(super) fn pause_waiting(&mut self, partitions: &[TopicPartition]) -> Result<(), Trouble> {
        let waiting: Vec<TopicPartition> =
            partitions.iter().copied().filter(|at| self.waiting.has(to_engine(*at))).collect();
        if waiting.is_empty() {
            return Ok(());
        }
        let result = self.feed.consumer.pause(&waiting);
        result.map_err(|error| Trouble::Again(format!("partitions that must wait can't be paused: {error}")))
    }
}
