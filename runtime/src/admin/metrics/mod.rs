//! The process's metrics. Each name exists once, in [`catalog`]; `METRICS.md` explains them.
//!
//! How they are written: one `Arc<PipelineMetrics>` per pipeline, whose numbers are plain atomics. A thread sums up a
//! batch in variables of its own and publishes the sums once per batch; no lock, no label look-up, no allocation. What
//! holds per partition changes once per commit and lies in one table behind a mutex.

mod alerts;
pub mod catalog;

mod extra;
mod from;
mod labels;
mod page;
mod partitions;
mod process;
mod value;

pub use alerts::{AlertMetrics, ReceiverMetrics};
pub use extra::{ExtraMetrics, Sample, SampleValue};
pub use labels::{
    BlockReason, ClosedReason, CommandResult, CommitResult, CounterBy, DeadLetterReason, Failure, Fate,
    ForgottenReason, HttpResult, Label, PauseReason, Probe, Produced, Rebalance, RefusedReason, Rollout, TrialResult,
};
pub use page::Format;
pub use partitions::{PartitionTable, PartitionValues};
pub use value::{Counter, Gauge, Histogram, LocalHistogram, Scale};

use catalog::Id;
use page::{Labels, Page};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use value::{BATCH_MESSAGES, CALL_MICROS, LATENCY_MICROS};

/// All metrics of the process.
#[derive(Debug)]
pub struct Metrics {
    /// The limit of `[memory] records`, in bytes.
    pub budget_limit_bytes: Gauge,
    /// 1 while the system tells of changes of the pipelines' folder.
    pub plugins_watched: Gauge,
    /// Of the receivers of alerts.
    pub alerts: AlertMetrics,
    started_s: f64,
    pipelines: Mutex<Vec<Arc<PipelineMetrics>>>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Metrics of a process that starts now.
    #[must_use]
    pub fn new() -> Self {
        Self {
            budget_limit_bytes: Gauge::default(),
            plugins_watched: Gauge::default(),
            alerts: AlertMetrics::default(),
            started_s: now_ms() as f64 / 1e3,
            pipelines: Mutex::new(Vec::new()),
        }
    }

    /// The metrics of this pipeline, made on the first call.
    #[must_use]
    pub fn pipeline(&self, name: &str) -> Arc<PipelineMetrics> {
        let mut all = self.pipelines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = all.iter().find(|p| p.name == name) {
            return found.clone();
        }
        let new = Arc::new(PipelineMetrics::new(name));
        all.push(new.clone());
        new
    }

    /// This pipeline is shown no more.
    pub fn remove(&self, name: &str) {
        self.pipelines.lock().unwrap_or_else(PoisonError::into_inner).retain(|pipeline| pipeline.name != name);
    }

    /// The whole page.
    #[must_use]
    pub fn render(&self, format: Format) -> String {
        let pipelines = self.pipelines.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let now_ms = now_ms();
        let mut page = Page::new(format);
        let mut extra = extra::Extra::default();
        page.put(Id::BuildInfo, &[("version", env!("CARGO_PKG_VERSION"))], 1);
        page.put(Id::BudgetLimit, &[], self.budget_limit_bytes.get());
        page.put(Id::PluginsWatched, &[], self.plugins_watched.get());
        for pipeline in &pipelines {
            pipeline.render(&mut page, now_ms);
            extra.collect(&pipeline.name, pipeline.handler().as_ref());
        }
        page.put(Id::HandlerSeriesDropped, &[], extra.dropped());
        self.alerts.render(&mut page);
        page.put_real(Id::ProcessStart, &[], self.started_s);
        if let Some(bytes) = process::resident_bytes() {
            page.put(Id::ProcessMemory, &[], bytes);
        }
        if let Some(seconds) = process::cpu_seconds() {
            page.put_real(Id::ProcessCpu, &[], seconds);
        }
        page.finish(&extra.finish(format))
    }
}

/// The numbers of one pipeline. Every field may be written from any thread; a gauge says who owns it.
#[derive(Debug)]
pub struct PipelineMetrics {
    name: String,
    /// Records polled.
    pub received: Counter,
    /// Their key, value and header bytes.
    pub received_bytes: Counter,
    /// Messages by fate; dead letters are counted here and in `dead_letters`.
    pub settled: CounterBy<Fate>,
    /// Dead letters by reason.
    pub dead_letters: CounterBy<DeadLetterReason>,
    /// Runs after the first.
    pub retries: Counter,
    /// Failed runs by kind.
    pub attempts_failed: CounterBy<Failure>,
    /// Messages per call; its count is the number of batches.
    pub batch_messages: Histogram,
    /// Duration of a call in microseconds.
    pub call_micros: Histogram,
    /// Record timestamp to settled in microseconds; below 0 (clocks apart) counts as 0, no timestamp is not counted.
    pub latency_micros: Histogram,
    /// Time from when a timer was due until it settled, in microseconds.
    pub timer_late_micros: Histogram,
    /// The same of a delayed send, until it was handed to the broker.
    pub delayed_late_micros: Histogram,
    /// Messages received and not settled; shards share it.
    pub in_flight: Gauge,
    /// Order keys with a message in flight; shards share it.
    pub lanes_open: Gauge,
    /// Order keys whose head waits for its next run; shards share it.
    pub lanes_waiting: Gauge,
    /// Bytes held of the budget; the consumer thread owns it.
    pub budget_used_bytes: Gauge,
    /// Partitions owned; the consumer thread owns it.
    pub partitions_assigned: Gauge,
    /// Number of the current assignment; the consumer thread owns it.
    pub assignment_epoch: Gauge,
    /// Changes of the assignment.
    pub rebalances: CounterBy<Rebalance>,
    /// Commits by result; tell [`PipelineMetrics::committed`] instead of adding here.
    pub commits: CounterBy<CommitResult>,
    /// Transactions that came to no good end.
    pub transactions_given_up: Counter,
    /// Records acknowledged.
    pub produced: CounterBy<Produced>,
    /// Records refused.
    pub refused: CounterBy<RefusedReason>,
    /// Stalls detected.
    pub stalls: Counter,
    /// Ranges of input lost.
    pub loss_intervals: Counter,
    /// Offsets in those ranges.
    pub records_lost: Counter,
    /// Changes of the pipeline's files by what became of them; the fleet owns it.
    pub rollouts: CounterBy<Rollout>,
    /// Part of the keys that run on a version on trial, in millionths.
    pub trial_share_millionths: Gauge,
    /// Messages of versions on trial: those of calls that answered, and of them those that failed.
    pub trial_messages: CounterBy<TrialResult>,
    /// Times that it started anew by itself; its supervisor owns it.
    pub restarts: Counter,
    /// Whether it is paused: 0 no, 1 by hand, 2 by policy; the fleet owns it.
    pub paused: Gauge,
    /// Ids remembered; shards share it.
    pub dedup_ids: Gauge,
    /// Ids forgotten by reason.
    pub dedup_forgotten: CounterBy<ForgottenReason>,
    /// Ids that are committed as seen; the consumer thread owns it, and the next two.
    pub seen_ids: Gauge,
    /// Memory that they take.
    pub seen_memory_bytes: Gauge,
    /// Room on disk that they take.
    pub seen_disk_bytes: Gauge,
    /// Look-ups among them.
    pub seen_lookups: Counter,
    /// Those that a filter could not answer, and the disk did with no.
    pub seen_false_positives: Counter,
    /// Memory that state takes; the consumer thread owns it, and the next four.
    pub state_memory_bytes: Gauge,
    /// Room on disk that it takes, of all pipelines of the process.
    pub state_disk_bytes: Gauge,
    /// Look-ups of committed state.
    pub state_reads: Counter,
    /// Those that the disk answered.
    pub state_disk_reads: Counter,
    /// Longest wait of a commit's state for room, in microseconds.
    pub state_longest_wait_micros: Gauge,
    /// Timers that are set and have not run, of the partitions owned; the consumer thread owns it, and the next one.
    pub timers_pending: Gauge,
    /// Records that are to be sent later, the same.
    pub delayed_pending: Gauge,
    /// Messages that wait in the retry topic, of the partitions owned; the consumer thread owns it, and the next two.
    pub parked_messages: Gauge,
    /// Order keys that have some.
    pub parked_lanes: Gauge,
    /// When the first message of a key failed that failed longest ago, in milliseconds since the Unix epoch; 0: none has.
    pub parked_oldest_ms: Gauge,
    /// Messages parked, or parked anew after another run, once that is committed.
    pub parked: Counter,
    /// Parked messages resolved, the same.
    pub unparked: Counter,
    /// Commands from outside.
    pub commands: CounterBy<CommandResult>,
    /// How the breaker stands: 0 closed, 1 trying, 2 open; the committer thread owns it.
    pub breaker_state: Gauge,
    /// Times that it opened.
    pub breaker_opened: Counter,
    /// Messages tried while it was.
    pub breaker_probes: CounterBy<Probe>,
    /// Offsets of internal topics still to be read; the restoring thread owns it.
    pub restore_remaining: Gauge,
    /// Records read from internal topics.
    pub restore_records: Counter,
    /// Their bytes.
    pub restore_bytes: Counter,
    /// Ids and changes of state in them.
    pub restore_entries: Counter,
    /// Time spent reading them, in milliseconds.
    pub restore_millis: Counter,
    /// Handler instances opened.
    pub instances_opened: Counter,
    /// Handler instances closed by reason.
    pub instances_closed: CounterBy<ClosedReason>,
    /// HTTP requests of handlers by what came of them.
    pub http: CounterBy<HttpResult>,
    /// Time from a request's start until its answer's last byte, in microseconds. Of those that were sent.
    pub http_micros: Histogram,
    /// Requests under way, and those that wait for their turn.
    pub http_in_flight: Gauge,
    last_commit_ms: Gauge,
    table: Mutex<PartitionTable>,
    handler: Mutex<Option<Arc<dyn ExtraMetrics>>>,
}

impl PipelineMetrics {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            received: Counter::default(),
            received_bytes: Counter::default(),
            settled: CounterBy::default(),
            dead_letters: CounterBy::default(),
            retries: Counter::default(),
            attempts_failed: CounterBy::default(),
            batch_messages: Histogram::new(&BATCH_MESSAGES),
            call_micros: Histogram::new(&CALL_MICROS),
            latency_micros: Histogram::new(&LATENCY_MICROS),
            timer_late_micros: Histogram::new(&LATENCY_MICROS),
            delayed_late_micros: Histogram::new(&LATENCY_MICROS),
            in_flight: Gauge::default(),
            lanes_open: Gauge::default(),
            lanes_waiting: Gauge::default(),
            budget_used_bytes: Gauge::default(),
            partitions_assigned: Gauge::default(),
            assignment_epoch: Gauge::default(),
            rebalances: CounterBy::default(),
            commits: CounterBy::default(),
            transactions_given_up: Counter::default(),
            produced: CounterBy::default(),
            refused: CounterBy::default(),
            stalls: Counter::default(),
            loss_intervals: Counter::default(),
            records_lost: Counter::default(),
            rollouts: CounterBy::default(),
            trial_share_millionths: Gauge::default(),
            trial_messages: CounterBy::default(),
            restarts: Counter::default(),
            paused: Gauge::default(),
            dedup_ids: Gauge::default(),
            dedup_forgotten: CounterBy::default(),
            seen_ids: Gauge::default(),
            seen_memory_bytes: Gauge::default(),
            seen_disk_bytes: Gauge::default(),
            seen_lookups: Counter::default(),
            seen_false_positives: Counter::default(),
            state_memory_bytes: Gauge::default(),
            state_disk_bytes: Gauge::default(),
            state_reads: Counter::default(),
            state_disk_reads: Counter::default(),
            state_longest_wait_micros: Gauge::default(),
            timers_pending: Gauge::default(),
            delayed_pending: Gauge::default(),
            parked_messages: Gauge::default(),
            parked_lanes: Gauge::default(),
            parked_oldest_ms: Gauge::default(),
            parked: Counter::default(),
            unparked: Counter::default(),
            commands: CounterBy::default(),
            breaker_state: Gauge::default(),
            breaker_opened: Counter::default(),
            breaker_probes: CounterBy::default(),
            restore_remaining: Gauge::default(),
            restore_records: Counter::default(),
            restore_bytes: Counter::default(),
            restore_entries: Counter::default(),
            restore_millis: Counter::default(),
            instances_opened: Counter::default(),
            instances_closed: CounterBy::default(),
            http: CounterBy::default(),
            http_micros: Histogram::new(&CALL_MICROS),
            http_in_flight: Gauge::default(),
            last_commit_ms: Gauge::default(),
            table: Mutex::default(),
            handler: Mutex::default(),
        }
    }

    /// The pipeline's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Messages whose fate is decided, whatever it is.
    #[must_use]
    pub fn settled_in_all(&self) -> u64 {
        Fate::ALL.iter().map(|fate| self.settled.get(*fate)).sum()
    }

    /// Counts a commit, and remembers when the last good one was.
    pub fn committed(&self, result: CommitResult) {
        self.commits.add(result, 1);
        if result == CommitResult::Ok {
            self.last_commit_ms.set(now_ms());
        }
    }

    /// Changes what is shown per partition. Takes a lock: at most once per commit or second, and keep `change` short.
    pub fn partitions<R>(&self, change: impl FnOnce(&mut PartitionTable) -> R) -> R {
        change(&mut self.table.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Shows the metrics that the handler keeps itself on this pipeline's page. Those of an earlier version go: counters
    /// start at 0, as after a restart.
    pub fn set_handler(&self, own: Arc<dyn ExtraMetrics>) {
        *self.handler.lock().unwrap_or_else(PoisonError::into_inner) = Some(own);
    }

    fn handler(&self) -> Option<Arc<dyn ExtraMetrics>> {
        self.handler.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn render(&self, page: &mut Page, now_ms: u64) {
        let own: Labels<'_> = &[("pipeline", &self.name)];
        let singles = [
            (Id::Received, self.received.get()),
            (Id::ReceivedBytes, self.received_bytes.get()),
            (Id::Retries, self.retries.get()),
            (Id::InFlight, self.in_flight.get()),
            (Id::LanesOpen, self.lanes_open.get()),
            (Id::LanesWaiting, self.lanes_waiting.get()),
            (Id::BudgetUsed, self.budget_used_bytes.get()),
            (Id::Assigned, self.partitions_assigned.get()),
            (Id::Epoch, self.assignment_epoch.get()),
            (Id::GivenUp, self.transactions_given_up.get()),
            (Id::Stalls, self.stalls.get()),
            (Id::LossIntervals, self.loss_intervals.get()),
            (Id::RecordsLost, self.records_lost.get()),
            (Id::DedupIds, self.dedup_ids.get()),
            (Id::SeenIds, self.seen_ids.get()),
            (Id::SeenMemory, self.seen_memory_bytes.get()),
            (Id::SeenDisk, self.seen_disk_bytes.get()),
            (Id::SeenLookups, self.seen_lookups.get()),
            (Id::SeenFalsePositives, self.seen_false_positives.get()),
            (Id::StateMemory, self.state_memory_bytes.get()),
            (Id::StateDisk, self.state_disk_bytes.get()),
            (Id::StateReads, self.state_reads.get()),
            (Id::StateDiskReads, self.state_disk_reads.get()),
            (Id::TimersPending, self.timers_pending.get()),
            (Id::DelayedPending, self.delayed_pending.get()),
            (Id::ParkedMessages, self.parked_messages.get()),
            (Id::ParkedLanes, self.parked_lanes.get()),
            (Id::Parked, self.parked.get()),
            (Id::Unparked, self.unparked.get()),
            (Id::BreakerState, self.breaker_state.get()),
            (Id::BreakerOpened, self.breaker_opened.get()),
            (Id::RestoreRemaining, self.restore_remaining.get()),
            (Id::RestoreRecords, self.restore_records.get()),
            (Id::RestoreBytes, self.restore_bytes.get()),
            (Id::RestoreEntries, self.restore_entries.get()),
            (Id::InstancesOpened, self.instances_opened.get()),
            (Id::HttpInFlight, self.http_in_flight.get()),
        ];
        for (id, value) in singles {
            page.put(id, own, value);
        }
        page.put_real(Id::StateLongestWait, own, self.state_longest_wait_micros.get() as f64 / 1e6);
        page.put_real(Id::RestoreSeconds, own, self.restore_millis.get() as f64 / 1e3);
        page.put_histogram(Id::BatchMessages, own, &self.batch_messages);
        page.put_histogram(Id::CallDuration, own, &self.call_micros);
        page.put_histogram(Id::Latency, own, &self.latency_micros);
        page.put_histogram(Id::TimerLate, own, &self.timer_late_micros);
        page.put_histogram(Id::DelayedLate, own, &self.delayed_late_micros);
        self.put_by(page, Id::Settled, "fate", &self.settled);
        self.put_by(page, Id::DeadLetters, "reason", &self.dead_letters);
        self.put_by(page, Id::AttemptsFailed, "kind", &self.attempts_failed);
        self.put_by(page, Id::Rebalances, "kind", &self.rebalances);
        self.put_by(page, Id::Commits, "result", &self.commits);
        self.put_by(page, Id::Produced, "kind", &self.produced);
        self.put_by(page, Id::Refused, "reason", &self.refused);
        self.put_by(page, Id::BreakerProbes, "result", &self.breaker_probes);
        self.put_by(page, Id::DedupForgotten, "reason", &self.dedup_forgotten);
        self.render_handler(page, own);
        self.put_by(page, Id::Commands, "result", &self.commands);
        let oldest_ms = self.parked_oldest_ms.get();
        let parked_ms = if oldest_ms > 0 { now_ms.saturating_sub(oldest_ms) } else { 0 };
        page.put_real(Id::ParkedOldest, own, parked_ms as f64 / 1e3);
        let committed_ms = self.last_commit_ms.get();
        if committed_ms > 0 {
            page.put_real(Id::CommitAge, own, now_ms.saturating_sub(committed_ms) as f64 / 1e3);
        }
        self.partitions(|table| table.render(&self.name, page, now_ms));
    }

    fn render_handler(&self, page: &mut Page, own: Labels<'_>) {
        self.put_by(page, Id::Rollouts, "result", &self.rollouts);
        page.put_real(Id::TrialShare, own, self.trial_share_millionths.get() as f64 / 1e6);
        self.put_by(page, Id::TrialMessages, "result", &self.trial_messages);
        page.put(Id::Restarts, own, self.restarts.get());
        page.put(Id::PipelinePaused, own, self.paused.get());
        self.put_by(page, Id::InstancesClosed, "reason", &self.instances_closed);
        self.put_by(page, Id::Http, "result", &self.http);
        page.put_histogram(Id::HttpDuration, own, &self.http_micros);
    }

    /// Every label value, those at 0 too: a series that appears only with the first failure can't be alerted on.
    fn put_by<L: Label>(&self, page: &mut Page, id: Id, label: &str, counters: &CounterBy<L>) {
        for value in L::ALL {
            page.put(id, &[("pipeline", &self.name), (label, value.text())], counters.get(*value));
        }
    }
}

/// Milliseconds since the Unix epoch.
fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
