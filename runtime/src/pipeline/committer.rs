//! The committer thread: keeps the ledger, produces effects, commits.

use super::clock::Clock;
use super::grace::Bounds;
use super::link::{Line, Over, Payload, ToCommitter, ToConsumer, ToShard, Work, to_broker};
use super::records::{self, Origin, Source};
use super::witness::{Told, Witness};
use super::{Serving, Trouble, show};
use crate::admin::health::Heartbeat;
use crate::admin::metrics::{CommitResult, DeadLetterReason, LocalHistogram, PipelineMetrics, Produced};
use crate::broker::{BrokerError, BrokerErrorKind, Commits, OffsetCommit, Producer, Refusal};
use crate::config::HeaderStyle;
use crate::fail::{Point, pass};
use crate::wasm::{Effects, Send};
use crossbeam_channel::{Receiver, RecvTimeoutError};
use keyrail_engine::answers::Answers;
use keyrail_engine::handover::Gone;
use keyrail_engine::message::{Fate, Now};
use keyrail_engine::order::shard_of;
use keyrail_engine::pipeline::{self, Action, CommitOffset, Pipeline, Token};
use keyrail_engine::shard::Settled;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// While records are on their way, their reports are asked for this often.
const REPORTS: Duration = Duration::from_millis(1);
/// Otherwise the ledger is asked what time brings this often.
const IDLE: Duration = Duration::from_millis(20);
/// Events taken before reports and time have their turn.
const TURN: usize = 256;
/// Between two looks at the partitions for the metrics.
const SHOW: Duration = Duration::from_secs(1);

/// What the committer thread works with.
pub(super) struct Ledger {
    pub(super) engine: Pipeline<Payload>,
    pub(super) producer: Box<dyn Producer>,
    pub(super) commits: Box<dyn Commits>,
    pub(super) inbox: Receiver<ToCommitter>,
    pub(super) shards: Vec<Line<ToShard>>,
    pub(super) consumer: Line<ToConsumer>,
    pub(super) over: Over,
    pub(super) bounds: Bounds,
    pub(super) names: Names,
    pub(super) clock: Clock,
    pub(super) metrics: Arc<PipelineMetrics>,
    pub(super) heartbeat: Heartbeat,
    pub(super) witness: Option<Arc<dyn Witness>>,
}

/// Names that records and logs carry.
#[derive(Debug, Clone)]
pub(super) struct Names {
    pub(super) pipeline: String,
    pub(super) group: String,
    pub(super) serving: Arc<Serving>,
    pub(super) inputs: Vec<String>,
    /// Topics of the outputs.
    pub(super) outputs: Vec<String>,
    /// One dead-letter topic for each input.
    pub(super) letters: Vec<String>,
    pub(super) style: HeaderStyle,
}

struct Worker {
    ledger: Ledger,
    actions: Vec<Action>,
    reports: Vec<(u64, Result<(), Refusal>)>,
    latency: LocalHistogram,
    answers: Answers<()>,
    /// When the last revoke began.
    revoked: Instant,
    next_show: Instant,
    /// Set by [`Worker::wait_for_room`]: the time read before is over.
    waited: bool,
}

/// Runs until the other threads have dropped their ends of the channels, or something fails.
pub(super) fn run(ledger: Ledger) -> Result<(), Trouble> {
    let latency = ledger.metrics.latency_micros.local();
    let mut worker = Worker {
        ledger,
        actions: Vec::new(),
        reports: Vec::new(),
        latency,
        answers: Answers::new(),
        revoked: Instant::now(),
        next_show: Instant::now(),
        waited: false,
    };
    loop {
        match worker.turn() {
            Ok(true) => {}
            // The consumer ends first; what it says of the end is told by itself.
            Ok(false) | Err(Trouble::Ended) => return Ok(()),
            Err(other) => return Err(other),
        }
    }
}

impl Worker {
    fn turn(&mut self) -> Result<bool, Trouble> {
        self.ledger.heartbeat.beat();
        if self.ledger.over.is_raised() {
            return Ok(false);
        }
        let waiting = self.ledger.consumer.is_waiting() || self.ledger.shards.iter().any(Line::is_waiting);
        let busy = waiting || self.ledger.producer.in_flight() > 0;
        match self.ledger.inbox.recv_timeout(if busy { REPORTS } else { IDLE }) {
            Ok(event) => self.take(event)?,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(false),
        }
        for _ in 0..TURN {
            match self.ledger.inbox.try_recv() {
                Ok(event) => self.take(event)?,
                Err(_) => break,
            }
        }
        self.collect_reports(Duration::ZERO)?;
        self.collect_commit();
        self.ledger.engine.tick(self.ledger.clock.now(), &mut self.actions);
        self.act()?;
        self.ledger.consumer.flush().map_err(ended)?;
        for line in &mut self.ledger.shards {
            line.flush().map_err(ended)?;
        }
        self.show();
        Ok(true)
    }

    fn take(&mut self, event: ToCommitter) -> Result<(), Trouble> {
        let now = self.ledger.clock.now();
        let engine = &mut self.ledger.engine;
        match event {
            ToCommitter::Opened { partition, opened } => engine.opened(partition, &opened, now, &mut self.actions),
            ToCommitter::Received(runs) => {
                for run in runs {
                    engine.received(run.partition, run.epoch, run.first, run.last, now);
                }
            }
            ToCommitter::Settled(work) => self.publish(work, now)?,
            ToCommitter::Drained { partition, epoch } => engine.drained(partition, epoch, now, &mut self.actions),
            ToCommitter::Revoke(partitions) => {
                self.revoked = Instant::now();
                engine.revoke(partitions, now, &mut self.actions);
            }
            ToCommitter::Lost(partitions) => {
                engine.lost(&partitions, &mut self.actions);
                self.tell_consumer(ToConsumer::Released { unfinished: None })?;
            }
            ToCommitter::Gate(closed) => engine.gate(closed, now),
            ToCommitter::Watermarks(ends) => ends.into_iter().for_each(|(at, end)| engine.watermark(at, end)),
        }
        self.act()
    }

    /// Fates are decided: what stands of their effects goes to the broker.
    fn publish(&mut self, work: Work, mut now: Now) -> Result<(), Trouble> {
        let Work { settled, effects, .. } = work;
        let mut done = 0;
        for message in settled {
            match &message.fate {
                Fate::Done => done += 1,
                fate => self.count_fate(fate),
            }
            let timestamp_ms = message.ticket.timestamp_ms;
            if timestamp_ms >= 0 {
                let age_ms = u64::try_from(now.wall_ms.saturating_sub(timestamp_ms)).unwrap_or(0);
                self.latency.observe(age_ms.saturating_mul(1000));
            }
            self.publish_one(message, &effects, now)?;
            if std::mem::take(&mut self.waited) {
                now = self.ledger.clock.now();
            }
        }
        self.ledger.metrics.settled.add((&Fate::Done).into(), done);
        Ok(())
    }

    fn count_fate(&self, fate: &Fate) {
        self.ledger.metrics.settled.add(fate.into(), 1);
        if let Fate::DeadLetter(epitaph) = fate {
            self.ledger.metrics.dead_letters.add(epitaph.reason.into(), 1);
        }
    }

    fn publish_one(&mut self, message: Settled<Payload>, effects: &Effects, now: Now) -> Result<(), Trouble> {
        let slot = message.slot;
        if let Some(witness) = &self.ledger.witness {
            witness.tell(&Told::settled(&self.ledger.names, &message, effects));
        }
        let records = slot.map_or(0, |slot| effects.count(slot));
        let source = records::Source::of(&message.message.record);
        let token = self.ledger.engine.publish(message, records, now, &mut self.actions);
        if let (Some(token), Some(slot)) = (token, slot) {
            for send in effects.of(slot) {
                self.produce_output(&send, &source, token)?;
            }
        }
        Ok(())
    }

    fn produce_output(&mut self, send: &Send<'_>, source: &Source, token: Token) -> Result<(), Trouble> {
        let headers = records::output_headers(send, source);
        loop {
            let topic = self.ledger.names.outputs.get(send.output as usize).map_or("", String::as_str);
            let produce = records::output(topic, send, source, &headers);
            match self.ledger.producer.send(&produce, token.0) {
                Ok(true) => {
                    pass(Point::AfterProduce);
                    return Ok(());
                }
                Ok(false) => self.wait_for_room()?,
                Err(refusal) => return self.refused(token, refusal),
            }
        }
    }

    /// The producer's queue is full: its reports make room.
    fn wait_for_room(&mut self) -> Result<(), Trouble> {
        self.ledger.heartbeat.beat();
        if self.ledger.over.is_raised() {
            return Err(Trouble::Ended);
        }
        self.waited = true;
        self.collect_reports(Duration::from_millis(5))?;
        // Time goes on: a revoke must end, whatever the broker does.
        self.ledger.engine.tick(self.ledger.clock.now(), &mut self.actions);
        self.act_without_producing()
    }

    fn produce_letter(&mut self, token: Token, short: bool) -> Result<(), Trouble> {
        loop {
            let names = &self.ledger.names;
            let Some(Settled { message, fate: Fate::DeadLetter(epitaph), .. }) = self.ledger.engine.publication(token)
            else {
                return Ok(());
            };
            let record = &message.record;
            let (topic, letters) = (record.at.topic as usize, &names.letters);
            let handler = format!("{}@{}", names.pipeline, names.serving.digest(epitaph.version));
            let origin = Origin {
                topic: names.inputs.get(topic).map_or("", String::as_str),
                group: &names.group,
                handler: &handler,
                style: names.style,
                short,
            };
            let ours = records::letter_headers(&origin, record, epitaph);
            let headers = records::all_letter_headers(record, &ours);
            let produce = records::letter(letters.get(topic).map_or("", String::as_str), record, &headers);
            match self.ledger.producer.send(&produce, token.0) {
                Ok(true) => {
                    pass(Point::AfterLetter);
                    return Ok(());
                }
                Ok(false) => self.wait_for_room()?,
                Err(refusal) => return self.refused(token, refusal),
            }
        }
    }

    fn refused(&mut self, token: Token, refusal: Refusal) -> Result<(), Trouble> {
        self.ledger.metrics.refused.add((&refusal).into(), 1);
        let refusal = match refusal {
            Refusal::Undeliverable(why) => pipeline::Refusal::Undeliverable(why),
            Refusal::Blocked(why) => pipeline::Refusal::Blocked(why),
            Refusal::Fenced(why) => return Err(Trouble::Again(format!("the producer is of no use any more: {why}"))),
        };
        let now = self.ledger.clock.now();
        let was_letter = self.is_letter(token);
        self.ledger.engine.refused(token, refusal, now, &mut self.actions);
        if !was_letter && self.is_letter(token) {
            self.ledger.metrics.dead_letters.add(DeadLetterReason::Undeliverable, 1);
        }
        Ok(())
    }

    fn is_letter(&self, token: Token) -> bool {
        self.ledger.engine.publication(token).is_some_and(|p| matches!(p.fate, Fate::DeadLetter(_)))
    }

    fn collect_reports(&mut self, wait: Duration) -> Result<(), Trouble> {
        let mut reports = std::mem::take(&mut self.reports);
        self.ledger.producer.poll(wait, &mut reports);
        let now = self.ledger.clock.now();
        let (mut outputs, mut letters) = (0, 0);
        for (token, result) in reports.drain(..) {
            let token = Token(token);
            match result {
                Ok(()) => {
                    pass(Point::AfterAck);
                    let letter = self.ledger.engine.acknowledged(token, now, &mut self.actions);
                    *(if letter { &mut letters } else { &mut outputs }) += 1;
                }
                Err(refusal) => self.refused(token, refusal)?,
            }
        }
        self.reports = reports;
        self.ledger.metrics.produced.add(Produced::Output, outputs);
        self.ledger.metrics.produced.add(Produced::DeadLetter, letters);
        if let Some(error) = self.ledger.producer.trouble() {
            tracing::warn!(pipeline = self.ledger.names.pipeline, %error, "the producer has trouble");
        }
        Ok(())
    }

    fn collect_commit(&mut self) {
        let commits = &mut self.ledger.commits;
        let found = self.answers.take(|()| {
            let result = commits.finished();
            pass(if result.is_some() { Point::CommitAnswered } else { Point::CommitSent });
            result
        });
        let Some((number, result)) = found else { return };
        self.note_commit(&result, false);
        self.ledger.engine.commit_finished(number, result.is_ok());
    }

    fn note_commit(&self, result: &Result<(), BrokerError>, last: bool) {
        self.ledger.metrics.committed(if result.is_ok() { CommitResult::Ok } else { CommitResult::Failed });
        if let Err(error) = result {
            show::commit_failed(&self.ledger.names, error, last);
        }
    }

    fn act(&mut self) -> Result<(), Trouble> {
        // Producing may bring more to do.
        while !self.actions.is_empty() {
            for action in std::mem::take(&mut self.actions) {
                match action {
                    Action::DeadLetter { token, short } => self.produce_letter(token, short)?,
                    other => self.perform(other)?,
                }
            }
        }
        Ok(())
    }

    /// As [`Worker::act`], when the producer has no room: dead letters wait.
    fn act_without_producing(&mut self) -> Result<(), Trouble> {
        for action in std::mem::take(&mut self.actions) {
            match action {
                Action::DeadLetter { .. } => self.actions.push(action),
                other => self.perform(other)?,
            }
        }
        Ok(())
    }

    fn perform(&mut self, action: Action) -> Result<(), Trouble> {
        match action {
            Action::DeadLetter { .. } => Ok(()),
            Action::Commit { number, offsets } => {
                self.start_commit(number, &offsets);
                Ok(())
            }
            Action::CommitAndRelease { offsets, .. } => self.release(&offsets),
            Action::Close { partition, epoch } => self.tell_shards(|| ToShard::Close { partition, epoch }),
            Action::LetterAcknowledged { partition, epoch, offset, lane } => {
                let shard = shard_of(lane, self.ledger.shards.len() as u32) as usize;
                let told = ToShard::LetterAcknowledged { partition, epoch, offset };
                self.ledger.shards[shard].push(told).map_err(ended)
            }
            Action::Pause(partition) => self.tell_consumer(ToConsumer::Pause(partition)),
            Action::Resume(partition) => self.tell_consumer(ToConsumer::Resume(partition)),
            Action::Rewind { partition, start, settled } => {
                self.tell_consumer(ToConsumer::Rewind { partition, start, settled })
            }
            Action::Stalled { partition, position, .. } => {
                self.tell_consumer(ToConsumer::Stalled { partition, position })
            }
            Action::Stray { partition, offset } => Err(show::stray(&self.ledger.names, partition, offset)),
            Action::Blocked { partition, letter, why } => {
                show::blocked(&self.ledger.metrics, &self.ledger.names, partition, letter, &why);
                Ok(())
            }
            Action::Unblocked(partition) => {
                show::unblocked(&self.ledger.metrics, &self.ledger.names, partition);
                Ok(())
            }
        }
    }

    fn tell_consumer(&mut self, command: ToConsumer) -> Result<(), Trouble> {
        self.ledger.consumer.push(command).map_err(ended)
    }

    fn tell_shards(&mut self, message: impl Fn() -> ToShard) -> Result<(), Trouble> {
        for line in &mut self.ledger.shards {
            line.push(message()).map_err(ended)?;
        }
        Ok(())
    }

    fn start_commit(&mut self, number: u64, offsets: &[CommitOffset]) {
        pass(Point::BeforeCommit);
        match self.ledger.commits.start(&broker_offsets(offsets)) {
            Ok(()) => self.answers.sent(number, ()),
            Err(error) => {
                self.note_commit(&Err(error), false);
                self.ledger.engine.commit_finished(number, false);
            }
        }
    }

    fn release(&mut self, offsets: &[CommitOffset]) -> Result<(), Trouble> {
        self.answers.forget();
        pass(Point::BeforeLastCommit);
        let bounds = self.ledger.bounds;
        let late = self.revoked.elapsed() >= bounds.drain;
        let mut unfinished = late.then(|| format!("messages or their records were under way for {:?}", bounds.drain));
        if !offsets.is_empty() {
            let result = self.ledger.commits.now(&broker_offsets(offsets), bounds.left_for_commit(self.revoked));
            self.note_commit(&result, true);
            // What the group has given to others is not this process's to commit.
            if let Err(error) = result
                && error.kind != BrokerErrorKind::Superseded
            {
                unfinished = Some(format!("the last commit failed: {error}"));
            }
        }
        pass(Point::AfterLastCommit);
        self.ledger.engine.released();
        self.tell_consumer(ToConsumer::Released { unfinished })
    }

    fn show(&mut self) {
        self.latency.publish(&self.ledger.metrics.latency_micros);
        if Instant::now() < self.next_show {
            return;
        }
        self.next_show = Instant::now() + SHOW;
        show::partitions(&self.ledger.metrics, &self.ledger.engine, self.ledger.clock.now());
    }
}

fn broker_offsets(offsets: &[CommitOffset]) -> Vec<OffsetCommit> {
    offsets
        .iter()
        .map(|c| OffsetCommit { at: to_broker(c.partition), offset: c.offset, metadata: c.metadata.clone() })
        .collect()
}

fn ended(_: Gone) -> Trouble {
    Trouble::Ended
}
