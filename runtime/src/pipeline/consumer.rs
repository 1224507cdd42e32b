//! The consumer thread: polls, routes records to shards, and answers the group.
//!
//! It never waits for long and never stops polling, except while partitions are given up, and that is bounded: losing a
//! last commit repeats messages, staying away loses the membership.

use super::budget::{Budget, Lot};
use super::grace::Bounds;
use super::identity::Internals;
use super::kept::Keeper;
use super::link::{
    Attention, Handover, MESSAGE_BYTES, Payload, RaiseOver, Run, ToCommitter, ToConsumer, ToShard, to_broker, to_engine,
};
use super::pace::Pace;
use super::parking::RetryTopics;
use super::standing::Standing;
use super::waiting::Waiting;
use super::{Stopped, Trouble};
use crate::admin::health::{Heartbeat, PipelineHealth, State};
use crate::admin::metrics::{PauseReason, PipelineMetrics, Rebalance};
use crate::admin::stop::Stop;
use crate::alerts::Alerts;
use crate::broker::{BrokerErrorKind, Consumer, Polled};
use crate::config::OnLoss;
use crate::fail::{Point, pass};
use crate::record::{Record, TopicPartition};
use crossbeam_channel::{Receiver, RecvTimeoutError};
use keyrail_engine::budget::{Gate, Turn};
use keyrail_engine::handover::Gone;
use keyrail_engine::intake::{From, Intake, Opened, Take};
use keyrail_engine::message::{Partition, Ticket};
use keyrail_engine::policy::Order;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Records routed before the shards get them.
const HAND_OVER: usize = 1024;
/// And their bytes: the budget is looked at in between.
const HAND_OVER_BYTES: u64 = 1 << 20;
/// Records that come within this time of fetching anew were there before.
const KICKED: Duration = Duration::from_secs(5);
/// Between two looks at the logs' ends.
const LOOK: Duration = Duration::from_secs(1);
/// While no broker answers one is asked for so long in each of those; there is nothing else to do.
const SIGN_OF_LIFE: Duration = Duration::from_millis(100);

/// What the consumer thread works with.
pub(super) struct Feed {
    /// Dropped first: while the consumer leaves its group, the other threads end.
    #[allow(dead_code, reason = "dropping it is its work")]
    pub(super) over: RaiseOver,
    pub(super) consumer: Box<dyn Consumer>,
    pub(super) intake: Intake,
    pub(super) gate: Gate,
    pub(super) budget: Budget,
    pub(super) topics: Vec<String>,
    /// Which partitions are one task.
    pub(super) order: Order,
    pub(super) from: From,
    /// Inputs that were found to be made anew: where nothing is committed, they start at their beginning.
    pub(super) anew: Arc<Mutex<BTreeSet<u32>>>,
    pub(super) on_loss: OnLoss,
    /// What internal topics hold of partitions: none runs before it is known.
    pub(super) keeper: Option<Keeper>,
    /// Where nothing was parked when the pipeline started: looked at before partitions start.
    pub(super) not_parking: Option<RetryTopics>,
    /// Held against what was committed before partitions start.
    pub(super) internals: Option<Internals>,
    pub(super) out: Handover,
    /// Of each shard.
    pub(super) attention: Vec<Attention>,
    pub(super) inbox: Receiver<ToConsumer>,
    pub(super) metrics: Arc<PipelineMetrics>,
    pub(super) alerts: Alerts,
    pub(super) health: Arc<PipelineHealth>,
    pub(super) heartbeat: Heartbeat,
    pub(super) stop: Stop,
    pub(super) bounds: Bounds,
    pub(super) pipeline: String,
}

pub(super) struct Worker {
    pub(super) feed: Feed,
    /// Paused by the ledger.
    pub(super) held: BTreeSet<Partition>,
    /// Paused until they may start.
    pub(super) waiting: Waiting,
    /// What was condemned last of each partition: shards learn of it when it starts anew.
    pub(super) condemned: BTreeMap<Partition, Arc<[i64]>>,
    routed: Vec<Vec<(Ticket, Payload)>>,
    received: Vec<Run>,
    lot: Arc<Lot>,
    records: u64,
    bytes: u64,
    released: bool,
    /// Why what was given up last is not committed as it should be.
    unfinished: Option<String>,
    /// Partitions that were silent in spite of lag, and when they were fetched anew.
    kicked: BTreeMap<Partition, Instant>,
    standing: Standing,
    /// Commands that came while a revoke was waited for.
    deferred: VecDeque<ToConsumer>,
    next_look: Instant,
    pace: Pace,
}

impl std::convert::From<Gone> for Trouble {
    fn from(_: Gone) -> Self {
        Self::Again("another thread of the pipeline has ended".to_owned())
    }
}

/// Runs until a stop is requested and everything is given up, or until something fails.
pub(super) fn run(feed: Feed) -> Result<Stopped, Trouble> {
    let mut worker = Worker::new(feed);
    worker.feed.health.set(State::NotReady("waits for its first assignment".to_owned()));
    loop {
        if worker.feed.stop.requested() {
            return worker.leave();
        }
        worker.turn()?;
    }
}

impl Worker {
    fn new(feed: Feed) -> Self {
        let routed = (0..feed.out.shards()).map(|_| Vec::new()).collect();
        let standing = Standing::new(feed.health.clone());
        Self {
            lot: feed.budget.lot(),
            feed,
            held: BTreeSet::new(),
            waiting: Waiting::default(),
            condemned: BTreeMap::new(),
            routed,
            received: Vec::new(),
            records: 0,
            bytes: 0,
            released: false,
            unfinished: None,
            kicked: BTreeMap::new(),
            standing,
            deferred: VecDeque::new(),
            next_look: Instant::now(),
            pace: Pace::default(),
        }
    }

    fn turn(&mut self) -> Result<(), Trouble> {
        self.feed.heartbeat.beat();
        self.obey()?;
        self.restored()?;
        self.feed.out.flush()?;
        self.turn_gate()?;
        self.look()?;
        let Some(mut wait) = self.pace.poll(&self.feed.out, Instant::now()) else { return self.rest() };
        let mut polled = 0;
        while polled < HAND_OVER && self.bytes < HAND_OVER_BYTES {
            match self.feed.consumer.poll(wait) {
                Polled::Record(record) => {
                    if self.waiting.has(to_engine(record.at)) {
                        // Routed, it would be passed over for good.
                        return Err(Trouble::Again("a partition that was paused gave a record".to_owned()));
                    }
                    polled += 1;
                    wait = Duration::ZERO;
                    self.route(record);
                }
                Polled::Idle => break,
                other => {
                    self.hand_over()?;
                    self.answer(other)?;
                    break;
                }
            }
        }
        self.hand_over()
    }

    /// Gives the other threads a moment to make room.
    fn rest(&mut self) -> Result<(), Trouble> {
        match self.feed.inbox.recv_timeout(Duration::from_millis(1)) {
            Ok(command) => self.deferred.push_back(command),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err(Gone.into()),
        }
        Ok(())
    }

    fn route(&mut self, record: Record) {
        pass(Point::AfterFetch);
        let partition = to_engine(record.at);
        let offset = record.offset;
        let take = self.feed.intake.take(partition, offset, &record);
        let epoch = match take {
            Take::Stale => return,
            Take::Settled => self.feed.intake.epoch(partition),
            Take::Route { ticket, .. } => Some(ticket.epoch),
        };
        let Some(epoch) = epoch else { return };
        if !self.kicked.is_empty() {
            self.note_stall(partition);
        }
        match self.received.last_mut() {
            Some(run) if run.partition == partition && run.epoch == epoch && run.last + 1 == offset => {
                run.last = offset
            }
            _ => self.received.push(Run { partition, epoch, first: offset, last: offset }),
        }
        self.records += 1;
        self.bytes += record.content_bytes() as u64;
        if let Take::Route { shard, ticket } = take {
            let size = record.size();
            let payload = Payload {
                record,
                timer: None,
                delayed: None,
                recording: None,
                _charge: self.lot.charge(size + MESSAGE_BYTES),
            };
            self.routed[shard as usize].push((ticket, payload));
        }
    }

    /// Hands over what was routed. The ledger learns of it first: see [`keyrail_engine::handover`].
    fn hand_over(&mut self) -> Result<(), Trouble> {
        if self.received.is_empty() {
            return Ok(());
        }
        self.lot = self.feed.budget.lot();
        self.feed.metrics.received.add(std::mem::take(&mut self.records));
        self.feed.metrics.received_bytes.add(std::mem::take(&mut self.bytes));
        self.feed.out.tell(ToCommitter::Received(std::mem::take(&mut self.received)))?;
        for (shard, messages) in self.routed.iter_mut().enumerate() {
            if !messages.is_empty() {
                let capacity = messages.len();
                let messages = std::mem::replace(messages, Vec::with_capacity(capacity));
                self.feed.out.give(shard, ToShard::Messages(messages));
            }
        }
        self.feed.out.flush()?;
        Ok(())
    }

    fn turn_gate(&mut self) -> Result<(), Trouble> {
        if let Some(share) = self.feed.budget.refresh() {
            self.feed.gate.share(share);
        }
        let held = self.feed.budget.held();
        self.feed.metrics.budget_used_bytes.set(held.own);
        let Some(turn) = self.feed.gate.check(&held) else { return Ok(()) };
        let open: Vec<TopicPartition> = self
            .feed
            .intake
            .open_partitions()
            .into_iter()
            .filter(|(p, _)| !self.held.contains(p) && !self.waiting.has(*p))
            .map(|(p, _)| to_broker(p))
            .collect();
        let result = match turn {
            Turn::Close => self.feed.consumer.pause(&open),
            Turn::Open => self.feed.consumer.resume(&open),
        };
        self.tell(result);
        let reason = (turn == Turn::Close).then_some(PauseReason::Budget);
        self.feed.metrics.partitions(|table| open.iter().for_each(|at| table.update(*at, |row| row.paused = reason)));
        self.feed.out.tell(ToCommitter::Gate(turn == Turn::Close))?;
        Ok(())
    }

    fn look(&mut self) -> Result<(), Trouble> {
        if Instant::now() < self.next_look {
            return Ok(());
        }
        self.next_look = Instant::now() + LOOK;
        if self.standing.is_away() && self.feed.consumer.partition_count(0, SIGN_OF_LIFE).is_ok() {
            self.standing.answered();
        }
        self.standing.look();
        self.look_at_kept()?;
        let ends: Vec<_> = self.feed.consumer.watermarks().into_iter().map(|(at, end)| (to_engine(at), end)).collect();
        self.feed.out.tell(ToCommitter::Watermarks(ends))?;
        self.check_logs()
    }

    /// Does what the ledger asks for.
    fn obey(&mut self) -> Result<(), Trouble> {
        while let Some(command) = self.deferred.pop_front().or_else(|| self.feed.inbox.try_recv().ok()) {
            match command {
                ToConsumer::Pause(partition) => self.hold(partition, true),
                ToConsumer::Resume(partition) => self.hold(partition, false),
                ToConsumer::Rewind(all) => self.rewind(all)?,
                ToConsumer::Condemn { partition, offsets } => {
                    self.condemned.insert(partition, Arc::from(offsets.as_slice()));
                    self.feed.intake.condemn(partition, offsets);
                }
                ToConsumer::Restart(partitions) => self.restart(partitions)?,
                ToConsumer::Stalled { partition, position } => {
                    if self.feed.intake.position(partition) == Some(position) && !self.waiting.has(partition) {
                        // It may also be that only markers are left to read: what comes of it tells.
                        self.kicked.insert(partition, Instant::now());
                        let result = self.feed.consumer.seek(to_broker(partition), position);
                        self.tell(result);
                    }
                }
                ToConsumer::Released { unfinished } => self.note_release(unfinished),
            }
        }
        Ok(())
    }

    /// Records of a partition that was fetched anew: where they come at once, it had stood still.
    fn note_stall(&mut self, partition: Partition) {
        if self.kicked.remove(&partition).is_some_and(|since| since.elapsed() < KICKED) {
            self.feed.metrics.stalls.add(1);
            let (topic, number) = (self.topic(partition), partition.number);
            tracing::warn!(
                pipeline = self.feed.pipeline,
                topic,
                partition = number,
                "the partition had lag and delivered nothing, until it was fetched anew"
            );
        }
    }

    fn hold(&mut self, partition: Partition, hold: bool) {
        let changed = if hold { self.held.insert(partition) } else { self.held.remove(&partition) };
        let stays = self.feed.gate.is_closed() || self.waiting.has(partition);
        if !changed || stays || self.feed.intake.epoch(partition).is_none() {
            return;
        }
        let at = [to_broker(partition)];
        let result = if hold { self.feed.consumer.pause(&at) } else { self.feed.consumer.resume(&at) };
        self.tell(result);
    }

    /// Tells the ledger that partitions start: what their start changes is committed, whatever they wait for.
    pub(super) fn tell_ledger(&mut self, all: Vec<(Partition, Opened)>) -> Result<(), Trouble> {
        if let Some((_, opened)) = all.last() {
            self.feed.metrics.assignment_epoch.set(opened.epoch.0);
        }
        self.feed.out.tell(ToCommitter::Opened(all))?;
        self.feed.out.flush()?;
        Ok(())
    }

    fn answer(&mut self, polled: Polled) -> Result<(), Trouble> {
        match polled {
            Polled::Assigned(partitions) => self.assigned(&partitions),
            Polled::Revoked(partitions) => self.revoked(&partitions),
            Polled::Lost(partitions) => self.lost(&partitions),
            Polled::OutOfRange(at) => self.out_of_range(at),
            Polled::Trouble(error) if error.kind == BrokerErrorKind::Fatal => Err(Trouble::Again(error.message)),
            Polled::Trouble(error) => {
                if error.kind == BrokerErrorKind::Operator {
                    self.standing.trouble(&error, false);
                }
                self.tell(Err(error));
                Ok(())
            }
            Polled::Away(error) => {
                self.standing.trouble(&error, true);
                self.tell(Err(error));
                Ok(())
            }
            Polled::Joined => {
                if self.waiting.is_empty() {
                    self.feed.health.set(State::Ready);
                }
                Ok(())
            }
            Polled::Record(_) | Polled::Idle => Ok(()),
        }
    }

    fn revoked(&mut self, partitions: &[TopicPartition]) -> Result<(), Trouble> {
        self.feed.metrics.rebalances.add(Rebalance::Revoked, 1);
        tracing::info!(pipeline = self.feed.pipeline, partitions = partitions.len(), "partitions are revoked");
        let gone = self.close(partitions);
        self.until_released(&gone, ToCommitter::Revoke(gone.clone()))?;
        let result = self.feed.consumer.unassign(partitions);
        self.tell(result);
        Ok(())
    }

    fn lost(&mut self, partitions: &[TopicPartition]) -> Result<(), Trouble> {
        self.feed.metrics.rebalances.add(Rebalance::Lost, 1);
        tracing::warn!(
            pipeline = self.feed.pipeline,
            partitions = partitions.len(),
            "partitions are lost: the group went on without this process; what was not committed runs again elsewhere"
        );
        let gone = self.close(partitions);
        // IMPORTANT: before unassign, which lets this member into the next generation: a commit planned before the ledger
        // knows would be taken there, and set back what the new owner has committed.
        self.until_released(&gone, ToCommitter::Lost(gone.clone()))?;
        let result = self.feed.consumer.unassign(partitions);
        self.tell(result);
        Ok(())
    }

    fn note_release(&mut self, unfinished: Option<String>) {
        self.released = true;
        self.unfinished = unfinished;
    }

    /// Tells the ledger, and waits until it has given the partitions up.
    fn until_released(&mut self, gone: &[Partition], told: ToCommitter) -> Result<(), Trouble> {
        self.released = false;
        self.feed.out.tell(told)?;
        let deadline = Instant::now() + self.feed.bounds.answer;
        while !self.released {
            self.feed.heartbeat.beat();
            self.feed.out.flush()?;
            if Instant::now() >= deadline {
                let pipeline = &self.feed.pipeline;
                tracing::warn!(pipeline, "giving up partitions took too long: what is under way runs again elsewhere");
                // Its threads may still act on what is somebody else's now: all of it ends, and starts anew.
                return Err(Trouble::Again("a revoke was not answered in time".to_owned()));
            }
            match self.feed.inbox.recv_timeout(Duration::from_millis(1)) {
                Ok(ToConsumer::Released { unfinished }) => self.note_release(unfinished),
                Ok(other) => self.deferred.push_back(other),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(Gone.into()),
            }
        }
        // What the ledger asked for before it let go must not meet a later assignment of the same partition.
        let deferred = std::mem::take(&mut self.deferred);
        self.deferred = deferred.into_iter().filter_map(|command| command.without(gone)).collect();
        Ok(())
    }

    fn close(&mut self, partitions: &[TopicPartition]) -> Vec<Partition> {
        let gone: Vec<Partition> = partitions.iter().map(|at| to_engine(*at)).collect();
        for partition in &gone {
            self.feed.intake.close(*partition);
            self.held.remove(partition);
            self.condemned.remove(partition);
            self.begin_no_more(*partition);
        }
        self.show_assigned();
        gone
    }

    pub(super) fn show_assigned(&self) {
        let open = self.feed.intake.open_partitions();
        self.feed.metrics.partitions_assigned.set(open.len() as u64);
        self.feed.metrics.partitions(|table| {
            let old: Vec<TopicPartition> = table.iter().map(|(at, _)| at).collect();
            for at in old {
                if !open.iter().any(|(p, _)| to_broker(*p) == at) {
                    table.remove(at);
                }
            }
            for (partition, _) in &open {
                table.row(to_broker(*partition));
            }
        });
    }

    /// Leaves the group in good order: finishes what runs, commits, gives everything up.
    ///
    /// The ledger lets go first, and only then the consumer is dropped, which leaves: a rebalance that is under way in this
    /// moment may want an answer first, and what it would give or take is of no interest any more.
    fn leave(mut self) -> Result<Stopped, Trouble> {
        pass(Point::BeforeStop);
        self.feed.health.set(State::NotReady("stopping".to_owned()));
        let open: Vec<TopicPartition> =
            self.feed.intake.open_partitions().into_iter().map(|(partition, _)| to_broker(partition)).collect();
        if !open.is_empty() {
            tracing::info!(pipeline = self.feed.pipeline, partitions = open.len(), "giving up all partitions");
            let gone = self.close(&open);
            self.until_released(&gone, ToCommitter::Revoke(gone.clone()))?;
            if let Some(why) = self.unfinished.take() {
                tracing::warn!(pipeline = self.feed.pipeline, why, "all partitions are given up, not in good order");
                return Err(Trouble::Again(why));
            }
        }
        pass(Point::AfterStop);
        Ok(Stopped)
    }

    pub(super) fn topic(&self, partition: Partition) -> &str {
        self.feed.topics.get(partition.topic as usize).map_or("?", String::as_str)
    }

    pub(super) fn tell(&self, result: Result<(), crate::broker::BrokerError>) {
        if let Err(error) = result {
            tracing::warn!(pipeline = self.feed.pipeline, %error, "the consumer has trouble");
        }
    }
}

#[cfg(test)]
mod tests;
