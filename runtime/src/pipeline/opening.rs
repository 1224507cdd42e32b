//! How partitions start: where the group left off, what was lost meanwhile.

use super::Trouble;
use super::alerting::lost;
use super::consumer::Worker;
use super::link::{to_broker, to_engine};
use crate::admin::health::State;
use crate::admin::metrics::Rebalance;
use crate::alerts::Kind as AlertKind;
use crate::broker::{BrokerError, BrokerErrorKind, Committed, LogBounds};
use crate::config::OnLoss;
use crate::fail::{Point, pass};
use crate::record::TopicPartition;
use keyrail_engine::intake::{Found, From, Opened};
use keyrail_engine::message::Partition;
use keyrail_engine::metadata::Metadata;
use keyrail_engine::policy::Scope;
use keyrail_engine::ranges::Ranges;
use keyrail_engine::shard::NOTHING_SEEN;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// One question to the broker.
const ASK: Duration = Duration::from_secs(10);
/// All questions of one assignment; shorter than `max.poll.interval.ms`, since nobody polls meanwhile.
const OPEN: Duration = Duration::from_secs(60);

impl Worker {
    pub(super) fn assigned(&mut self, partitions: &[TopicPartition]) -> Result<(), Trouble> {
        self.feed.metrics.rebalances.add(Rebalance::Assigned, 1);
        self.check_whole(partitions)?;
        let opened = self.opened(partitions, &|_| None)?;
        let starts: Vec<_> = partitions.iter().zip(&opened).map(|(at, opened)| (*at, opened.start)).collect();
        let all = partitions.iter().zip(opened).map(|(at, opened)| (to_engine(*at), opened, NOTHING_SEEN));
        self.begin(all.collect())?;
        self.feed.consumer.assign(&starts).map_err(|e| trouble("taking partitions over", &e))?;
        self.pause_waiting(partitions)?;
        if self.feed.gate.is_closed() {
            let result = self.feed.consumer.pause(partitions);
            self.tell(result);
        }
        self.show_assigned();
        if self.waiting.is_empty() {
            self.feed.health.set(State::Ready);
        } else {
            self.show_waiting();
        }
        tracing::info!(pipeline = self.feed.pipeline, partitions = partitions.len(), "partitions are assigned");
        Ok(())
    }

    /// Where inputs share their keys, whoever has a partition of one has that number of all.
    fn check_whole(&mut self, partitions: &[TopicPartition]) -> Result<(), Trouble> {
        if self.feed.order.scope == Scope::Topic {
            return Ok(());
        }
        let inputs = self.feed.topics.len() as u32;
        let has = |topic, partition| partitions.contains(&TopicPartition { topic, partition });
        let lacks =
            |at: &TopicPartition| (0..inputs).find(|topic| !has(*topic, at.partition)).map(|topic| (*at, topic));
        let Some((at, missing)) = partitions.iter().find_map(lacks) else { return Ok(()) };
        let deadline = Instant::now() + OPEN;
        let mut counts = Vec::with_capacity(inputs as usize);
        for topic in 0..inputs {
            let count = self.until(deadline, |w| w.feed.consumer.partition_count(topic, ASK))?;
            counts.push((self.topic(Partition { topic, number: 0 }).to_owned(), count));
        }
        if let Some(why) = super::process::unequal(&counts) {
            return Err(Trouble::Operator(why));
        }
        let name = |topic| self.topic(Partition { topic, number: 0 });
        Err(Trouble::Again(format!(
            "the group gave partition {} of {} and not of {}, though order.scope = \"inputs\": all members of the group must use \
             the range assignor and read the same topics",
            at.partition,
            name(at.topic),
            name(missing)
        )))
    }

    /// Partitions of a transaction that was given up start anew: from what is committed, since only the broker knows what
    /// became of it, or else from where they started.
    pub(super) fn restart(&mut self, mut partitions: Vec<(Partition, i64)>) -> Result<(), Trouble> {
        // Some may have been taken away meanwhile.
        partitions.retain(|(partition, _)| self.feed.intake.epoch(*partition).is_some());
        if partitions.is_empty() {
            return Ok(());
        }
        pass(Point::BeforeRewind);
        let all: Vec<TopicPartition> = partitions.iter().map(|(partition, _)| to_broker(*partition)).collect();
        let firsts: BTreeMap<Partition, i64> = partitions.into_iter().collect();
        let opened = self.opened(&all, &|partition| firsts.get(&partition).copied())?;
        let mut begun = Vec::with_capacity(all.len());
        for (at, opened) in all.iter().zip(opened) {
            let (partition, seen_below) = (to_engine(*at), opened.seen_below());
            self.seek_back(partition, opened.start)?;
            begun.push((partition, opened, seen_below));
        }
        self.begin(begun)?;
        self.pause_waiting(&all)?;
        pass(Point::AfterRewind);
        Ok(())
    }

    /// Partitions of a task start anew from here.
    pub(super) fn rewind(&mut self, mut all: Vec<(Partition, i64, Ranges)>) -> Result<(), Trouble> {
        // Some may have been taken away meanwhile.
        all.retain(|(partition, ..)| self.feed.intake.epoch(*partition).is_some());
        if all.is_empty() {
            return Ok(());
        }
        pass(Point::BeforeRewind);
        let places: Vec<TopicPartition> = all.iter().map(|(partition, ..)| to_broker(*partition)).collect();
        let mut begun = Vec::with_capacity(all.len());
        for (partition, start, settled) in all {
            self.seek_back(partition, start)?;
            begun.push((partition, self.feed.intake.rewind(partition, start, settled), start));
        }
        self.begin(begun)?;
        self.pause_waiting(&places)?;
        pass(Point::AfterRewind);
        Ok(())
    }

    fn seek_back(&mut self, partition: Partition, start: i64) -> Result<(), Trouble> {
        self.feed.consumer.seek(to_broker(partition), start).map_err(|error| {
            Trouble::Again(format!("{}/{} can't be read again: {error}", self.topic(partition), partition.number))
        })
    }

    /// Asks the broker where partitions stand, and decides where they start. `first`: where one started that is open.
    fn opened(
        &mut self,
        partitions: &[TopicPartition],
        first: &dyn Fn(Partition) -> Option<i64>,
    ) -> Result<Vec<Opened>, Trouble> {
        let deadline = Instant::now() + OPEN;
        self.check_parking(deadline)?;
        // IMPORTANT: before anything is read of what else is kept of them; see `restore`.
        let committed = self.until(deadline, |w| w.feed.consumer.committed(partitions, ASK))?;
        let known = self.known_partitions(partitions, &committed, deadline)?;
        self.check_logs()?;
        let mut opened = Vec::with_capacity(partitions.len());
        for (at, committed) in partitions.iter().zip(&committed) {
            let bounds = self.until(deadline, |w| w.feed.consumer.bounds(*at, ASK))?;
            let known = known.get(&at.topic).copied().unwrap_or((None, 0));
            let partition = to_engine(*at);
            opened.push(self.open(partition, committed, bounds, known, first(partition))?);
        }
        self.identify(partitions, &mut opened, &|partition| first(partition).is_some())?;
        Ok(opened)
    }

    /// Whoever had these partitions before may have parked messages of them, after this process looked whether there are any.
    fn check_parking(&mut self, deadline: Instant) -> Result<(), Trouble> {
        let Some(topics) = self.feed.not_parking.take() else { return Ok(()) };
        let parks = self.until(deadline, |_| topics.are_there())?;
        self.feed.not_parking = Some(topics);
        if parks {
            return Err(Trouble::Anew(
                "another process of the group has parked messages, which must be known first".to_owned(),
            ));
        }
        Ok(())
    }

    /// For each topic: how many partitions it had when the group first started, where a commit tells, and has now.
    fn known_partitions(
        &mut self,
        partitions: &[TopicPartition],
        committed: &[Committed],
        deadline: Instant,
    ) -> Result<BTreeMap<u32, (Option<u32>, u32)>, Trouble> {
        let mut known: BTreeMap<u32, (Option<u32>, u32)> = BTreeMap::new();
        for (at, committed) in partitions.iter().zip(committed) {
            let entry = known.entry(at.topic).or_default();
            entry.0 = entry.0.or_else(|| told(committed));
        }
        for (topic, (first, count)) in &mut known {
            let topic = *topic;
            let now = self.until(deadline, |w| w.feed.consumer.partition_count(topic, ASK))?;
            *count = u32::try_from(now).unwrap_or(0);
            let some_start_anew =
                partitions.iter().zip(committed).any(|(at, c)| at.topic == topic && c.offset.is_none());
            if first.is_none() && some_start_anew && self.feed.from == From::Latest {
                // Another member may hold those partitions that tell.
                let all: Vec<TopicPartition> = (0..now).map(|partition| TopicPartition { topic, partition }).collect();
                let others = self.until(deadline, |w| w.feed.consumer.committed(&all, ASK))?;
                *first = others.iter().find_map(told);
            }
        }
        Ok(known)
    }

    /// `again`: it is open, and started there.
    fn open(
        &mut self,
        partition: Partition,
        committed: &Committed,
        bounds: LogBounds,
        (known_partitions, partitions): (Option<u32>, u32),
        again: Option<i64>,
    ) -> Result<Opened, Trouble> {
        let found = Found {
            committed: committed.offset,
            metadata: &committed.metadata,
            log_start: bounds.start,
            log_end: bounds.end,
            known_partitions,
            partitions,
            log: self.feed.consumer.log_of(partition.topic),
        };
        let from = if self.anew().contains(&partition.topic) { From::Earliest } else { self.feed.from };
        let opened = match again {
            Some(first) => self.feed.intake.reopen(partition, &found, first),
            None => self.feed.intake.open(partition, &found, from),
        };
        let (topic, number) = (self.topic(partition), partition.number);
        if let Some(why) = opened.unusable {
            tracing::warn!(
                pipeline = self.feed.pipeline,
                topic,
                partition = number,
                ?why,
                "the commit's metadata can't be used: what was settled above the committed offset may run again"
            );
        }
        if opened.careful.messages > 0 {
            tracing::info!(
                pipeline = self.feed.pipeline,
                topic,
                partition = number,
                below_offset = opened.careful.below,
                "the partition was not given up in good order: what may have been running then runs one by one first"
            );
        }
        if let Some(loss) = opened.loss {
            self.report_loss(partition, loss)?;
        }
        if opened.anew {
            self.report_anew(partition.topic)?;
        }
        Ok(opened)
    }

    /// Whatever was read of a topic that was made anew, and is committed, is of another log: nothing of it may go on.
    pub(super) fn check_logs(&mut self) -> Result<(), Trouble> {
        let topics = self.feed.consumer.made_anew();
        let Some(first) = topics.first().copied() else { return Ok(()) };
        self.anew().extend(&topics);
        topics.iter().try_for_each(|topic| self.report_anew(*topic))?;
        let name = self.topic(Partition { topic: first, number: 0 });
        Err(Trouble::Again(format!("{name} was deleted and made anew")))
    }

    pub(super) fn anew(&self) -> MutexGuard<'_, BTreeSet<u32>> {
        // A set of numbers is sound whatever happened to who held the lock.
        self.feed.anew.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report_anew(&self, topic: u32) -> Result<(), Trouble> {
        let topic = self.topic(Partition { topic, number: 0 });
        self.feed.metrics.loss_intervals.add(1);
        self.feed.alerts.tell(&self.feed.pipeline, AlertKind::Loss, lost(topic, None, None));
        tracing::error!(
            pipeline = self.feed.pipeline,
            topic,
            "input was lost: the topic was deleted and made anew, and what had not been read of the old one is gone; the new \
             one is read from its start"
        );
        match self.feed.on_loss {
            OnLoss::Continue => Ok(()),
            OnLoss::Stop => Err(Trouble::Operator(format!(
                "{topic} was deleted and made anew; on-loss = \"stop\" stops the pipeline: set on-loss = \"continue\" to read \
                 the new one from its start, or say where to go on by `keyrail rewind {} --to PLACE`",
                self.feed.pipeline
            ))),
        }
    }

    /// Input is gone that the group had not read, or the log was made anew. Never silent.
    fn report_loss(&mut self, partition: Partition, (from, to): (i64, i64)) -> Result<(), Trouble> {
        let (topic, number) = (self.topic(partition).to_owned(), partition.number);
        self.feed.metrics.loss_intervals.add(1);
        self.feed.metrics.records_lost.add(to.saturating_sub(from).unsigned_abs());
        let what = lost(&topic, Some(number), Some((from, to)));
        self.feed.alerts.tell(&self.feed.pipeline, AlertKind::Loss, what);
        let told = format!(
            "{topic}/{number}: offsets {from} to {} are not in the log any more (retention, truncation, or the topic was \
             made anew)",
            to - 1
        );
        tracing::error!(pipeline = self.feed.pipeline, topic, partition = number, from, to, "input was lost");
        match self.feed.on_loss {
            OnLoss::Continue => Ok(()),
            OnLoss::Stop => Err(Trouble::Operator(format!(
                "{told}; on-loss = \"stop\" stops the pipeline: set on-loss = \"continue\" to go on with what is there, or \
                 say where to go on by `keyrail rewind {} --to PLACE`",
                self.feed.pipeline
            ))),
        }
    }

    /// The position fell out of the log while the partition was read.
    pub(super) fn out_of_range(&mut self, at: TopicPartition) -> Result<(), Trouble> {
        let partition = to_engine(at);
        let Some(position) = self.feed.intake.position(partition) else { return Ok(()) };
        let deadline = Instant::now() + OPEN;
        // It may be another topic's log by now.
        self.until(deadline, |w| w.feed.consumer.partition_count(at.topic, ASK))?;
        self.check_logs()?;
        let bounds = self.until(deadline, |w| w.feed.consumer.bounds(at, ASK))?;
        if (bounds.start..=bounds.end).contains(&position) {
            // It was so for a moment only (a follower that lags behind): go on where it stands.
            return self.feed.consumer.seek(at, position).map_err(|e| trouble("reading on", &e));
        }
        let loss = if position < bounds.start { (position, bounds.start) } else { (bounds.end, position) };
        self.report_loss(partition, loss)?;
        if position > bounds.end {
            // The log was cut, or made anew: how to go on is what a fresh start decides.
            return Err(Trouble::Again("the log of a partition ends before what was read of it".to_owned()));
        }
        // Only the position moves: what was received before stays in flight and settles.
        self.feed.consumer.seek(at, bounds.start).map_err(|e| trouble("reading on", &e))
    }

    /// Asks until there is an answer, within the bound.
    pub(super) fn until<T>(
        &mut self,
        deadline: Instant,
        mut ask: impl FnMut(&mut Self) -> Result<T, BrokerError>,
    ) -> Result<T, Trouble> {
        loop {
            self.feed.heartbeat.beat();
            match ask(self) {
                Ok(answer) => return Ok(answer),
                Err(error) if error.kind == BrokerErrorKind::Operator => return Err(Trouble::Operator(error.message)),
                Err(error) if Instant::now() >= deadline || self.feed.stop.requested() => {
                    return Err(trouble("starting partitions", &error));
                }
                Err(error) => {
                    self.tell(Err(error));
                    let _raised = self.feed.stop.wait(Duration::from_millis(500));
                }
            }
        }
    }
}

fn told(committed: &Committed) -> Option<u32> {
    let offset = committed.offset?;
    let metadata = Metadata::decode(&committed.metadata, offset, i64::MAX).ok()?;
    Some(metadata.partitions).filter(|n| *n > 0)
}

fn trouble(doing: &str, error: &BrokerError) -> Trouble {
    let told = format!("{doing}: {error}");
    if error.kind == BrokerErrorKind::Operator { Trouble::Operator(told) } else { Trouble::Again(told) }
}
