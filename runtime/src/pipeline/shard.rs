//! A shard's thread: takes messages in, calls the handler, hands on what is settled.

mod versions;

use super::budget::Budget;
use super::clock::Clock;
use super::kept::Memory;
use super::link::{Attention, Command, Payload, ToCommitter, ToShard, Work, to_broker};
use super::recording::{self, Recorder, Recording};
use super::serving::Serving;
use super::witness::{Told, Witness};
use crate::admin::health::Heartbeat;
use crate::admin::metrics::{ClosedReason, Failure as FailureKind, PipelineMetrics};
use crate::fail::{Point, pass};
use crate::http::Fetch;
use crate::record::Record;
use crate::wasm::{self, Answer, CallFailure, Delivery, Effects, Instance, Limits, LongCall, Setup, State};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use keyrail_engine::message::{self, Fate};
use keyrail_engine::shard::{self, Next, Order, Outcome, Plan, Settled, Shard};
use keyrail_engine::state::Change;
use std::sync::Arc;
use std::time::{Duration, Instant};
use versions::Versions;

/// An idle shard wakes this often to show that it lives.
const IDLE: Duration = Duration::from_secs(1);
/// No more is taken in while so many messages may run. What a key has here runs in turns of eight, so the more is here, the further
/// are those that are done ahead of those that are not; a commit can tell of some 1,400 gaps.
const AHEAD: usize = 512;
/// Between two attempts to open an instance, when the handler's `open` fails after it has succeeded before.
const REOPEN: Duration = Duration::from_secs(1);

/// What a shard calls, and where its results go.
pub(super) struct Shift {
    /// Counted from 0.
    pub(super) number: usize,
    pub(super) engine: Shard<Payload>,
    pub(super) inbox: Receiver<ToShard>,
    pub(super) attention: Attention,
    pub(super) committer: Sender<ToCommitter>,
    pub(super) serving: Arc<Serving>,
    pub(super) witness: Option<Arc<dyn Witness>>,
    pub(super) setup: Setup,
    pub(super) limits: Limits,
    /// Where its requests go, if it may make any.
    pub(super) outside: Option<Arc<dyn Fetch>>,
    pub(super) clock: Clock,
    pub(super) budget: Budget,
    pub(super) metrics: Arc<PipelineMetrics>,
    pub(super) heartbeat: Heartbeat,
    /// Its call, while that takes long.
    pub(super) long: LongCall,
}

/// The other threads are gone: the pipeline ends.
struct Ended;

struct Worker {
    shift: Shift,
    versions: Versions,
    deliveries: Vec<Delivery>,
    settled: Vec<Settled<Payload>>,
    memory: Arc<Memory>,
    /// Commands that came in before their assignment was opened here; no more than may be under way.
    early: Vec<(Command, Order<Payload>)>,
    shares: Shares,
    recorder: Recorder,
}

/// What this shard last told of the gauges that all shards share.
#[derive(Default)]
struct Shares {
    lanes: u64,
    waiting: u64,
    ids: u64,
    forgotten: u64,
}

/// Runs until the pipeline's other threads have dropped their ends of the channels.
pub(super) fn run(shift: Shift) {
    let versions = Versions::of(&shift.serving);
    let recorder = Recorder::new(&shift.setup, &shift.limits);
    let mut worker = Worker {
        shift,
        recorder,
        versions,
        deliveries: Vec::new(),
        settled: Vec::new(),
        memory: Arc::default(),
        early: Vec::new(),
        shares: Shares::default(),
    };
    if worker.shift.witness.is_some() {
        worker.shift.engine.tell_retries();
    }
    while worker.turn().is_ok() {}
    // The next thread in its place counts from nothing.
    worker.show(&shard::Load {
        ids_forgotten_early: worker.shift.engine.load().ids_forgotten_early,
        ..Default::default()
    });
}

impl Worker {
    fn turn(&mut self) -> Result<(), Ended> {
        self.shift.heartbeat.beat();
        // IMPORTANT: before the batch is chosen, since that is of one version.
        self.follow();
        let memory = self.memory.as_ref();
        let now = self.shift.clock.now();
        self.shift.engine.wake_timers(now, memory, memory);
        let next = self.shift.engine.next(now, memory, memory, &mut self.settled);
        self.sound()?;
        self.hand_on(Effects::default())?;
        self.tell_breaker()?;
        match next {
            Next::Run(plan) => {
                self.call(plan)?;
                self.tell_breaker()?;
                self.refill()?;
                self.show_load();
            }
            Next::Wait(until_ms) => self.wait(until_ms)?,
        }
        Ok(())
    }

    /// What the breaker is to hear.
    fn tell_breaker(&mut self) -> Result<(), Ended> {
        while let Some(news) = self.shift.engine.news(self.shift.clock.now()) {
            self.shift.committer.send(ToCommitter::Breaker(self.shift.number, news)).map_err(|_| Ended)?;
        }
        Ok(())
    }

    /// Where what internal topics hold can't be looked up, nothing that was decided leaves this thread; the pipeline starts
    /// anew from its commits.
    fn sound(&self) -> Result<(), Ended> {
        let Some(why) = self.memory.broken() else { return Ok(()) };
        tracing::error!(pipeline = self.shift.setup.handler, why, "what is kept of a partition can't be looked up");
        Err(Ended)
    }

    /// Takes in what there is room for; more would only wait here instead of there.
    fn refill(&mut self) -> Result<(), Ended> {
        let most = AHEAD.max(self.shift.setup.max_batch as usize);
        while self.shift.attention.is_asked() || !self.shift.engine.has_work(most) {
            let Ok(message) = self.shift.inbox.try_recv() else { break };
            self.take(message)?;
        }
        Ok(())
    }

    fn wait(&mut self, until_ms: Option<u64>) -> Result<(), Ended> {
        let now_ms = self.shift.clock.now().steady_ms;
        let wait = until_ms.map_or(IDLE, |until| Duration::from_millis(until.saturating_sub(now_ms)).min(IDLE));
        match self.shift.inbox.recv_timeout(wait) {
            Ok(message) => self.take(message)?,
            Err(RecvTimeoutError::Timeout) => self.show_load(),
            Err(RecvTimeoutError::Disconnected) => return Err(Ended),
        }
        self.refill()
    }

    fn take(&mut self, message: ToShard) -> Result<(), Ended> {
        let engine = &mut self.shift.engine;
        match message {
            ToShard::Open { partition, epoch, seen_below, settled, kept, condemned } => {
                if !condemned.is_empty() {
                    engine.condemn(partition, condemned.to_vec());
                }
                engine.open(partition, epoch, seen_below, &settled);
                Arc::make_mut(&mut self.memory).open(self.shift.setup.order.task(partition), epoch, kept);
                self.shift.attention.heard();
                for (command, order) in std::mem::take(&mut self.early) {
                    self.obey(command, order)?;
                }
            }
            ToShard::Kept { task, changes } => engine.kept(task, &changes),
            ToShard::Parked { partition, epoch, changes } => engine.parked(partition, epoch, &changes),
            ToShard::Covered { partition, epoch, progress } => {
                engine.covered(partition, epoch, Option::clone(&progress));
            }
            ToShard::Marked { task, ids } => engine.marked(task, &ids),
            ToShard::Order(command, order) => return self.obey(command, *order),
            ToShard::Breaker(order) => {
                engine.heed(order);
                self.shift.attention.heard();
            }
            ToShard::Messages(messages) => {
                let now = self.shift.clock.now();
                for (ticket, payload) in messages {
                    // A message of an assignment that is over is dropped here: its next owner reads it again.
                    let _taken = engine.accept(ticket, payload, now);
                }
            }
            ToShard::LetterAcknowledged { partition, epoch, offset } => {
                engine.letter_acknowledged(partition, epoch, offset);
            }
            ToShard::Close { partition, epoch } => {
                engine.close(partition, epoch);
                self.shift.attention.heard();
                Arc::make_mut(&mut self.memory).close(self.shift.setup.order.task(partition), epoch);
                let answer = ToCommitter::Drained { partition, epoch };
                self.shift.committer.send(answer).map_err(|_| Ended)?;
            }
        }
        Ok(())
    }

    fn obey(&mut self, command: Command, order: Order<Payload>) -> Result<(), Ended> {
        if self.shift.engine.awaits(order.partition, order.epoch) {
            // The committer's word has overtaken the consumer's.
            self.early.push((command, order));
            return Ok(());
        }
        let obeyed = self.shift.engine.obey(order, self.shift.clock.now(), self.memory.as_ref());
        self.sound()?;
        // Of an assignment that is over: whoever has the partition reads it.
        let Some(result) = obeyed else { return Ok(()) };
        self.shift.committer.send(ToCommitter::Obeyed(command, Box::new(result))).map_err(|_| Ended)
    }

    fn call(&mut self, plan: Plan) -> Result<(), Ended> {
        let mut instance = match self.versions.begin(plan.version).map_or_else(|| self.open(), Ok) {
            Ok(instance) => instance,
            Err(why) if self.versions.is_on_trial() => {
                self.trial_unopened(&why);
                return Ok(());
            }
            Err(_) => return self.no_instance(),
        };
        self.deliveries.clear();
        self.deliveries.extend(self.shift.engine.batch().map(|d| Delivery {
            record: d.message.record.clone(),
            timer: d.message.timer.clone(),
            attempt: d.attempt,
            follows_dead_letter: d.follows_dead_letter,
        }));
        let retries = self.deliveries.iter().filter(|d| d.attempt > 1).count();
        pass(Point::BeforeCall);
        let started = Instant::now();
        let now = self.shift.clock.now();
        let lent = self.shift.engine.lend_state();
        let mut state = lent.map(|call| State { call, kept: self.memory.clone() });
        let deadline = Duration::from_millis(plan.deadline_ms);
        let result = instance.process_with(&mut self.deliveries, &mut state, now.wall_ms, deadline);
        if let Some(State { call, .. }) = state {
            self.shift.engine.return_state(call);
        }
        self.sound()?;
        let took = started.elapsed();
        pass(Point::AfterCall);
        self.record(&mut instance, &result, now.wall_ms, plan.deadline_ms);
        let records: Vec<Record> = match &self.shift.witness {
            Some(_) => self.deliveries.iter().map(|delivery| delivery.record.clone()).collect(),
            None => Vec::new(),
        };
        self.deliveries.clear();
        self.shift.metrics.batch_messages.observe(u64::from(plan.messages));
        self.shift.metrics.call_micros.observe_time(took);
        self.shift.metrics.retries.add(retries as u64);
        match result {
            Ok(answer) => {
                // A call is long enough by what it costs here: while it waits, others run.
                let worked = took.saturating_sub(instance.waited());
                self.keep_or_recycle(instance);
                self.complete(answer, worked, &records)
            }
            Err(failure) => {
                self.shift.metrics.instances_closed.add(ClosedReason::from(&failure), 1);
                drop(instance);
                self.fail(&failure, plan.messages, &records)
            }
        }
    }

    /// Where dead letters are to keep it: notes with each message that failed what its run read.
    fn record(&mut self, instance: &mut Instance, result: &Result<Answer, CallFailure>, now_ms: i64, deadline_ms: u64) {
        // What fails on a version on trial is not believed.
        if !self.shift.setup.record || self.versions.is_on_trial() {
            return;
        }
        let (setup, handler) = (&self.shift.setup, self.versions.handler());
        let call = recording::Call { setup, handler, now_ms, deadline_ms };
        for (slot, verdict) in recording::failed(result, self.deliveries.len()) {
            let run = self.recorder.run(&call, &self.deliveries[slot], verdict, instance.take_reads(slot));
            if let Some(payload) = self.shift.engine.message_mut(slot) {
                payload.recording = Some(Recording::new(run, &self.shift.budget));
            }
        }
    }

    fn keep_or_recycle(&mut self, instance: Instance) {
        if instance.worn() {
            self.shift.metrics.instances_closed.add(ClosedReason::Recycled, 1);
        } else {
            self.versions.keep(instance);
        }
    }

    fn open(&mut self) -> Result<Instance, String> {
        match self.versions.handler().open(&self.shift.setup, &self.shift.limits) {
            Ok(mut instance) => {
                instance.show_long(self.shift.long.clone());
                if let Some(outside) = &self.shift.outside {
                    instance.reach(outside.clone());
                }
                self.shift.metrics.instances_opened.add(1);
                Ok(instance)
            }
            Err(error) => {
                tracing::error!(pipeline = self.shift.setup.handler, %error, "no instance: its messages wait");
                Err(error.to_string())
            }
        }
    }

    /// The handler opened when the pipeline started and does not now (out of memory, most likely): nothing is lost, the
    /// batch is tried again.
    fn no_instance(&mut self) -> Result<(), Ended> {
        let deadline = Instant::now() + REOPEN;
        loop {
            match self.shift.inbox.recv_deadline(deadline) {
                Ok(message) => self.take(message)?,
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => return Err(Ended),
            }
        }
        self.shift.engine.put_off();
        Ok(())
    }

    fn complete(&mut self, answer: Answer, worked: Duration, records: &[Record]) -> Result<(), Ended> {
        let Answer { outcomes, effects } = answer;
        if !self.versions.is_on_trial() {
            outcomes.iter().for_each(|outcome| self.count_failure(outcome));
        }
        let outcomes = outcomes.into_iter().map(engine_outcome).collect();
        let took_us = u64::try_from(worked.as_micros()).unwrap_or(u64::MAX);
        self.shift.engine.complete(outcomes, took_us, self.shift.clock.now(), &mut self.settled);
        self.tell_evidence();
        self.tell_retries(records);
        self.hand_on(effects)
    }

    fn count_failure(&self, outcome: &wasm::Outcome) {
        let kind = match outcome {
            wasm::Outcome::Done | wasm::Outcome::Skip => return,
            wasm::Outcome::Retry { outage: true, .. } => FailureKind::Outage,
            wasm::Outcome::Retry { .. } => FailureKind::Error,
            wasm::Outcome::DeadLetter(_) | wasm::Outcome::Oversized(_) => FailureKind::Rejected,
        };
        self.shift.metrics.attempts_failed.add(kind, 1);
    }

    fn fail(&mut self, failure: &CallFailure, messages: u32, records: &[Record]) -> Result<(), Ended> {
        let pipeline = &self.shift.setup.handler;
        if self.versions.is_on_trial() {
            tracing::warn!(pipeline, %failure, messages, "a call of the version on trial failed");
        } else if messages > 1 {
            self.shift.metrics.attempts_failed.add(FailureKind::from(failure), 1);
            tracing::warn!(pipeline, %failure, messages, "a call failed; its messages run again one by one");
        } else {
            self.shift.metrics.attempts_failed.add(FailureKind::from(failure), 1);
            tracing::warn!(pipeline, %failure, "the handler failed on a message");
        }
        let call =
            shard::CallFailure { timeout: matches!(failure, CallFailure::Timeout), failure: engine_failure(failure) };
        self.shift.engine.fail(call, self.shift.clock.now(), &mut self.settled);
        self.tell_evidence();
        self.tell_retries(records);
        self.hand_on(Effects::default())
    }

    /// Tells the witness, if there is one, what of the batch that `records` held runs again.
    fn tell_retries(&mut self, records: &[Record]) {
        let Some(witness) = &self.shift.witness else { return };
        let now_ms = self.shift.clock.now().steady_ms;
        for retried in self.shift.engine.retried() {
            // The committer tells of what is parked.
            if self.settled.iter().any(|settled| settled.ticket == retried.ticket) {
                continue;
            }
            let (at, offset) = (to_broker(retried.ticket.partition), retried.ticket.offset);
            let is_it = |record: &&Record| record.at == at && record.offset == offset;
            if let Some(record) = records.iter().find(is_it) {
                witness.tell(&Told::retried(&self.shift.setup, record, &retried, now_ms));
            }
        }
    }

    /// Sends what is settled to the committer, with what the call staged.
    fn hand_on(&mut self, effects: Effects) -> Result<(), Ended> {
        if self.settled.is_empty() {
            return Ok(());
        }
        let room = self.settled.len();
        let settled = std::mem::replace(&mut self.settled, Vec::with_capacity(room));
        settled.iter().for_each(|settled| log_discarded(&self.shift.setup.handler, settled));
        let changes: u64 = settled.iter().flat_map(|settled| &settled.changes).map(Change::size).sum();
        let bytes = effects.size() + changes as usize;
        let charge = (!effects.is_empty() || changes > 0).then(|| self.shift.budget.lot().charge(bytes));
        let work = Work { settled: settled.into_iter(), effects, _charge: charge };
        self.shift.committer.send(ToCommitter::Settled(work)).map_err(|_| Ended)
    }

    fn show_load(&mut self) {
        self.show(&self.shift.engine.load());
    }

    fn show(&mut self, load: &shard::Load) {
        let (metrics, shares) = (&self.shift.metrics, &mut self.shares);
        metrics.lanes_open.set_share(&mut shares.lanes, load.lanes as u64);
        metrics.lanes_waiting.set_share(&mut shares.waiting, load.waiting as u64);
        metrics.dedup_ids.set_share(&mut shares.ids, load.ids as u64);
        let forgotten = load.ids_forgotten_early;
        metrics.dedup_forgotten.add(crate::admin::metrics::ForgottenReason::Capacity, forgotten - shares.forgotten);
        shares.forgotten = forgotten;
    }
}

/// A handler's answer as the engine takes it.
pub(crate) fn engine_outcome(outcome: wasm::Outcome) -> Outcome {
    let failure = |f: wasm::Failure| message::Failure { code: f.code, detail: f.detail };
    match outcome {
        wasm::Outcome::Done => Outcome::Done,
        wasm::Outcome::Skip => Outcome::Skip,
        wasm::Outcome::Retry { failure: f, delay_ms, outage } => {
            Outcome::Retry { failure: failure(f), delay_ms, outage }
        }
        wasm::Outcome::DeadLetter(f) => Outcome::DeadLetter(failure(f)),
        wasm::Outcome::Oversized(f) => Outcome::Oversized(failure(f)),
    }
}

/// A failed call in the words of a dead letter.
pub(crate) fn engine_failure(failure: &CallFailure) -> message::Failure {
    message::Failure { code: failure.code().to_owned(), detail: failure.words() }
}

/// `then = "discard"` is logged by its promise.
fn log_discarded(pipeline: &str, settled: &Settled<Payload>) {
    if let Fate::Discarded(epitaph) = &settled.fate {
        let message::Epitaph { reason, failure, attempts, .. } = &**epitaph;
        let (at, offset) = (settled.ticket.partition, settled.message.record.offset);
        tracing::warn!(
            pipeline,
            topic = at.topic,
            partition = at.number,
            offset,
            reason = reason.as_str(),
            code = failure.code,
            detail = failure.detail,
            attempts,
            "a message is discarded"
        );
    }
}

/// How long a shard may be silent before it counts as dead.
pub(super) fn heartbeat_limit(max_time_ms: u64) -> Duration {
    Duration::from_millis(max_time_ms).max(IDLE) * 2 + Duration::from_secs(10)
}
