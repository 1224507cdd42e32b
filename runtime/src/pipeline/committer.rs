//! The committer thread: keeps the ledger, produces effects, commits.

mod acting;
mod breaking;
mod commands;
mod delays;
mod holding;
mod keeping;
mod releasing;
mod writing;

use super::clock::Clock;
use super::grace::Bounds;
use super::kept::{Kind, Memory};
use super::letters::Letters;
use super::link::{Attention, Line, Obeyed, Over, Payload, ToCommitter, ToConsumer, ToShard, Work, to_broker};
use super::parked::Produced;
use super::records;
use super::sink::{Ended, Sink};
use super::witness::{Told, Witness};
use super::{Serving, Trouble, show};
use crate::admin::health::Heartbeat;
use crate::admin::metrics::{CommitResult, DeadLetterReason, LocalHistogram, PipelineMetrics};
use crate::alerts::Alerts;
use crate::broker::{BrokerError, OffsetCommit, Refusal};
use crate::config::HeaderStyle;
use crate::fail::{Point, pass};
use crate::wasm::{Effects, LongCall};
use breaking::Outage;
pub(super) use commands::Commands;
use crossbeam_channel::{Receiver, RecvTimeoutError};
use keyrail_engine::breaker::Breaker;
use keyrail_engine::guard::Guard;
use keyrail_engine::handover::Gone;
use keyrail_engine::message::{Fate, Now, Partition};
use keyrail_engine::order::shard_of;
use keyrail_engine::pipeline::{Action, CommitOffset, Pipeline, Token};
use keyrail_engine::policy::Order;
use keyrail_engine::shard::Settled;
use std::collections::{BTreeMap, VecDeque};
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
    pub(super) breaker: Option<Breaker>,
    /// Which partitions are one task.
    pub(super) order: Order,
    pub(super) sink: Sink,
    pub(super) inbox: Receiver<ToCommitter>,
    pub(super) shards: Vec<Line<ToShard>>,
    /// Of each.
    pub(super) attention: Vec<Attention>,
    pub(super) consumer: Line<ToConsumer>,
    pub(super) over: Over,
    pub(super) bounds: Bounds,
    /// How long a call may take, in milliseconds.
    pub(super) call_ms: u64,
    pub(super) names: Names,
    pub(super) clock: Clock,
    pub(super) metrics: Arc<PipelineMetrics>,
    pub(super) heartbeat: Heartbeat,
    pub(super) witness: Option<Arc<dyn Witness>>,
    pub(super) alerts: Alerts,
    /// Commands from outside, where messages may be parked.
    pub(super) commands: Option<Commands>,
    /// The call of each shard, while it takes long.
    pub(super) long: Vec<LongCall>,
}

/// Names that records and logs carry.
#[derive(Debug, Clone)]
pub(super) struct Names {
    pub(super) pipeline: String,
    pub(super) group: String,
    pub(super) serving: Arc<Serving>,
    pub(super) inputs: Vec<String>,
    /// Topics of the outputs, and their names in the manifest.
    pub(super) outputs: Vec<String>,
    pub(super) output_names: Vec<String>,
    /// One dead-letter topic for each input.
    pub(super) letters: Vec<String>,
    /// One topic of seen ids for each input, or for all, where they are kept.
    pub(super) seen: Vec<String>,
    /// One topic of state for each input, or for all, where handlers have some.
    pub(super) state: Vec<String>,
    /// One retry topic for each input, where messages are parked.
    pub(super) parked: Vec<String>,
    /// The inbox of each input, the same.
    pub(super) inboxes: Vec<String>,
    pub(super) style: HeaderStyle,
}

type Ends = BTreeMap<(Kind, Partition), i64>;

struct Worker {
    ledger: Ledger,
    actions: Vec<Action>,
    reports: Vec<(u64, Result<(), Refusal>)>,
    latency: LocalHistogram,
    /// What shards told and the ledger may not hear yet, in order: while a transaction ends, what settles belongs to the
    /// next one. The byte budget bounds it.
    hold: VecDeque<ToCommitter>,
    /// When the last revoke began.
    revoked: Instant,
    /// It is not over.
    revoking: bool,
    next_show: Instant,
    /// Set by [`Worker::wait_for_room`]: the time read before is over.
    waited: bool,
    /// What internal topics hold of the partitions.
    memory: Memory,
    /// Where internal topics ended when that was asked. Once a commit that is sent later stands, all below is known: what was
    /// under way then has ended, and the partition was this process's still.
    ends: Ends,
    /// Those that were asked before the commit of this number was sent.
    ends_before: Option<(u64, Ends)>,
    letters: Letters,
    outage: Outage,
    /// When state that has ended is looked for again.
    next_sweep: Instant,
    /// What is parked with the present transaction.
    produced: Produced,
    guard: Guard,
}

/// Runs until the other threads have dropped their ends of the channels, or something fails.
pub(super) fn run(ledger: Ledger) -> Result<(), Trouble> {
    let latency = ledger.metrics.latency_micros.local();
    let mut worker = Worker {
        ledger,
        actions: Vec::new(),
        reports: Vec::new(),
        latency,
        hold: VecDeque::new(),
        revoked: Instant::now(),
        revoking: false,
        next_show: Instant::now(),
        waited: false,
        memory: Memory::default(),
        ends: BTreeMap::new(),
        ends_before: None,
        letters: Letters::default(),
        outage: Outage::default(),
        next_sweep: Instant::now(),
        produced: Produced::default(),
        guard: Guard::new(),
    };
    let ended = loop {
        match worker.turn() {
            Ok(true) => {}
            // The consumer ends first; what it says of the end is told by itself.
            Ok(false) | Err(Trouble::Ended) => break Ok(()),
            Err(other) => break Err(other),
        }
    };
    worker.letters.end(&worker.ledger.names, &worker.ledger.alerts);
    // Whoever starts anew starts closed.
    worker.ledger.metrics.breaker_state.set(0);
    worker.outage.end(&worker.ledger);
    ended
}

impl Worker {
    fn turn(&mut self) -> Result<bool, Trouble> {
        self.ledger.heartbeat.beat();
        if self.ledger.over.is_raised() {
            return Ok(false);
        }
        let waiting = self.ledger.consumer.is_waiting() || self.ledger.shards.iter().any(Line::is_waiting);
        let busy = waiting || self.ledger.sink.is_busy();
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
        self.collect_end()?;
        self.sweep()?;
        self.send_delayed()?;
        self.take_commands()?;
        self.ledger.engine.tick(self.ledger.clock.now(), &mut self.actions);
        self.tick_breaker()?;
        self.act()?;
        self.take_held()?;
        self.ledger.consumer.flush().map_err(ended)?;
        for line in &mut self.ledger.shards {
            line.flush().map_err(ended)?;
        }
        self.show();
        Ok(true)
    }

    fn take(&mut self, event: ToCommitter) -> Result<(), Trouble> {
        let of_a_shard =
            matches!(event, ToCommitter::Settled(_) | ToCommitter::Obeyed(..) | ToCommitter::Drained { .. });
        if of_a_shard && !(self.hold.is_empty() && self.ledger.engine.takes_settled()) {
            self.hold.push_back(event);
            return Ok(());
        }
        self.tell(event)
    }

    /// Tells the ledger what it may hear now.
    fn take_held(&mut self) -> Result<(), Trouble> {
        while self.ledger.engine.takes_settled()
            && let Some(event) = self.hold.pop_front()
        {
            self.tell(event)?;
        }
        Ok(())
    }

    fn tell(&mut self, event: ToCommitter) -> Result<(), Trouble> {
        let now = self.ledger.clock.now();
        let engine = &mut self.ledger.engine;
        match event {
            ToCommitter::Opened(all) => {
                all.iter().for_each(|(partition, opened)| engine.opened(*partition, opened, now, &mut self.actions));
            }
            ToCommitter::Known { task, epoch, kept, schemas } => self.known((task, epoch), kept, schemas),
            ToCommitter::Received(runs) => {
                for run in runs {
                    engine.received(run.partition, run.epoch, run.first, run.last, now);
                }
            }
            ToCommitter::Settled(work) => self.publish(work, now)?,
            ToCommitter::Obeyed(command, result) => self.obeyed(command, *result, now),
            ToCommitter::Drained { partition, epoch } => engine.drained(partition, epoch, now, &mut self.actions),
            ToCommitter::Revoke(partitions) => {
                (self.revoked, self.revoking) = (Instant::now(), true);
                engine.revoke(partitions, now, &mut self.actions);
            }
            ToCommitter::Lost(partitions) => {
                engine.lost(&partitions, now, &mut self.actions);
                self.ledger.sink.disown();
                self.tell_consumer(ToConsumer::Released { unfinished: None })?;
            }
            ToCommitter::Gate(closed) => engine.gate(closed, now),
            ToCommitter::Ends(ends) => {
                self.ends.extend(ends.into_iter().map(|(kind, partition, end)| ((kind, partition), end)));
            }
            ToCommitter::Watermarks(ends) => ends.into_iter().for_each(|(at, end)| engine.watermark(at, end)),
            ToCommitter::Breaker(shard, news) => self.hear_shard(shard, news, now)?,
        }
        self.act()
    }

    /// Fates are decided: what stands of their effects goes to the broker.
    fn publish(&mut self, mut work: Work, mut now: Now) -> Result<(), Trouble> {
        let mut done = 0;
        while self.ledger.engine.takes_settled()
            && let Some(message) = work.settled.next()
        {
            match &message.fate {
                Fate::Done => done += 1,
                // It was counted with its dead letter.
                Fate::Buried => {}
                fate => {
                    self.count_fate(fate);
                    self.letters.note(&self.ledger.names, &self.ledger.alerts, &message, now.steady_ms);
                }
            }
            let timestamp_ms = message.ticket.timestamp_ms;
            // One that is parked is not dealt with.
            if timestamp_ms >= 0 && !matches!(message.fate, Fate::Parked(_) | Fate::ParkedBefore | Fate::Buried) {
                let age_ms = u64::try_from(now.wall_ms.saturating_sub(timestamp_ms)).unwrap_or(0);
                self.latency.observe(age_ms.saturating_mul(1000));
                if message.ticket.is_timer() {
                    self.ledger.metrics.timer_late_micros.observe(age_ms.saturating_mul(1000));
                }
            }
            self.publish_one(message, &work.effects, now)?;
            if std::mem::take(&mut self.waited) {
                now = self.ledger.clock.now();
            }
        }
        self.ledger.metrics.settled.add((&Fate::Done).into(), done);
        // Something went wrong in the middle of it: the rest is of the next transaction.
        if work.settled.len() > 0 {
            self.hold.push_front(ToCommitter::Settled(work));
        }
        Ok(())
    }

    fn count_fate(&self, fate: &Fate) {
        self.ledger.metrics.settled.add(fate.into(), 1);
        if let Fate::DeadLetter(epitaph) = fate
            && let Some(reason) = DeadLetterReason::of(epitaph.reason)
        {
            self.ledger.metrics.dead_letters.add(reason, 1);
        }
    }

    fn publish_one(&mut self, message: Settled<Payload>, effects: &Effects, now: Now) -> Result<(), Trouble> {
        let slot = message.slot;
        if let Some(witness) = &self.ledger.witness {
            witness.tell(&Told::settled(&self.ledger.names, &message, effects));
        }
        self.check_retry_topic(&message)?;
        let records = slot.map_or(0, |slot| effects.count(slot));
        let source = records::Source::of(&message.message.record);
        let (was_letter, before) = (matches!(message.fate, Fate::DeadLetter(_)), self.actions.len());
        let token = self.ledger.engine.publish(message, records, now, &mut self.actions);
        self.note_undeliverable(was_letter, before, token, now);
        if let (Some(token), Some(slot)) = (token, slot) {
            self.ledger.engine.staged(effects.staged_bytes(slot));
            for send in effects.of(slot) {
                self.produce_output(&send, &source, token)?;
            }
        }
        Ok(())
    }

    /// An earlier transaction has shown that what it sends is never taken, if publishing it asks for its dead letter.
    fn note_undeliverable(&mut self, was_letter: bool, before: usize, token: Option<Token>, now: Now) {
        let letter = |action: &Action| matches!(action, Action::DeadLetter { .. });
        if !was_letter && self.actions.iter().skip(before).any(letter) {
            self.undeliverable(token, now);
        }
    }

    fn collect_end(&mut self) -> Result<(), Trouble> {
        let ended = self.ledger.sink.ended();
        ended.map_or(Ok(()), |ended| self.note_end(ended))
    }

    fn note_end(&mut self, ended: Ended) -> Result<(), Trouble> {
        let now = self.ledger.clock.now();
        match ended {
            Ended::Commit(number, result) => {
                self.note_commit(&result, false);
                self.ledger.engine.commit_finished(number, result.is_ok());
                if result.is_ok() {
                    self.reach_ends(number)?;
                }
            }
            Ended::Transaction(number, result) => {
                self.count_commit(result.is_ok());
                match self.ledger.sink.judge(result)? {
                    Ok(resent) => {
                        self.produced.committed();
                        self.ledger.engine.committed(number, resent, now, &mut self.actions);
                        self.reach_ends(number)?;
                    }
                    Err(trouble) => self.ledger.engine.commit_failed(number, trouble, now, &mut self.actions),
                }
            }
            Ended::Renewal(result) => {
                let result = self.ledger.sink.judge(result)?;
                self.ledger.engine.renewed(result, now, &mut self.actions);
            }
        }
        Ok(())
    }

    fn count_commit(&self, ok: bool) {
        self.ledger.metrics.committed(if ok { CommitResult::Ok } else { CommitResult::Failed });
    }

    fn note_commit(&self, result: &Result<(), BrokerError>, last: bool) {
        self.count_commit(result.is_ok());
        if let Err(error) = result {
            show::commit_failed(&self.ledger.names, error, last);
        }
    }

    fn perform(&mut self, action: Action) -> Result<(), Trouble> {
        match action {
            Action::DeadLetter { .. } | Action::Mark { .. } | Action::Keep { .. } => Ok(()),
            Action::Park { .. } | Action::Unpark { .. } | Action::Answer { .. } => Ok(()),
            Action::Parked { partition, epoch, changes } => self.parked(partition, epoch, &changes),
            Action::Covered { partition, epoch, progress } => self.covered(partition, epoch, progress),
            Action::Kept { partition: task, changes } => self.kept(task, &changes),
            Action::Condemn { partition, offsets } => self.tell_consumer(ToConsumer::Condemn { partition, offsets }),
            Action::Marked { partition: task, ids, time_ms } => self.marked(task, &ids, time_ms),
            Action::Commit { number, offsets } => {
                if self.revoking {
                    pass(Point::BeforeLastCommit);
                }
                self.note_ends(number);
                let ended = self.ledger.sink.commit(number, broker_offsets(&offsets));
                ended.map_or(Ok(()), |ended| self.note_end(ended))
            }
            Action::CommitAndRelease { offsets, .. } => self.release(&offsets),
            Action::Release { unfinished, .. } => self.released(unfinished),
            Action::Renew => {
                self.ends.clear();
                self.forget_asked();
                self.ledger.sink.renew();
                Ok(())
            }
            Action::GivenUp { why } => {
                // Its answer may still come. What it says is not added any more, so it proves nothing.
                self.ends_before = None;
                show::given_up(&self.ledger.metrics, &self.ledger.names, &why);
                Ok(())
            }
            Action::Restart(partitions) => {
                tracing::debug!(?partitions, "partitions start anew");
                for (partition, _) in &partitions {
                    self.memory.suspend(self.ledger.order.task(*partition));
                    self.rests(*partition);
                }
                self.tell_consumer(ToConsumer::Restart(partitions))
            }
            Action::Fenced(why) => Err(Trouble::Fenced(why)),
            Action::Close { partition, epoch } => {
                self.memory.close(self.ledger.order.task(partition), epoch);
                self.forget_produced(partition);
                self.rests(partition);
                self.ledger.attention.iter().for_each(Attention::ask);
                self.tell_shards(|| ToShard::Close { partition, epoch })
            }
            Action::LetterAcknowledged { partition, epoch, offset, lane } => {
                let shard = shard_of(lane, self.ledger.shards.len() as u32) as usize;
                let told = ToShard::LetterAcknowledged { partition, epoch, offset };
                self.ledger.shards[shard].push(told).map_err(ended)
            }
            Action::Pause(partition) => self.tell_consumer(ToConsumer::Pause(partition)),
            Action::Resume(partition) => self.tell_consumer(ToConsumer::Resume(partition)),
            Action::Rewind(all) => self.rewind(all),
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

    fn rests(&mut self, partition: Partition) {
        if let Some(commands) = &mut self.ledger.commands {
            commands.rests(partition);
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

    fn show(&mut self) {
        self.letters.tell(&self.ledger.names, &self.ledger.alerts, self.ledger.clock.now().steady_ms);
        self.latency.publish(&self.ledger.metrics.latency_micros);
        if Instant::now() < self.next_show {
            return;
        }
        self.next_show = Instant::now() + SHOW;
        show::partitions(&self.ledger.metrics, &self.ledger.engine, self.ledger.clock.now());
        let now = self.ledger.clock.now();
        holding::look(&mut self.guard, &self.ledger, now);
        self.outage.tell(&self.ledger);
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
