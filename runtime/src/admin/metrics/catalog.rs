//! Every metric of Keyrail: its one stable name, its kind and what it means. `METRICS.md` says more; a test keeps both
//! together.

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by bucket.
    Histogram,
}

impl Kind {
    /// The word of the exposition format.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A metric's fixed part.
#[derive(Debug)]
pub struct Family {
    /// The name, with `_total` where it is a counter.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// One sentence without a full stop.
    pub help: &'static str,
}

macro_rules! catalog {
    ($($id:ident $kind:ident $name:literal $help:literal;)+) => {
        /// Names a metric in the code.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Id { $(#[doc = $help] $id,)+ }

        /// Every metric, in the order of [`Id`] and of the page.
        pub const FAMILIES: &[Family] = &[$(Family { name: $name, kind: Kind::$kind, help: $help },)+];
    };
}

catalog! {
    BuildInfo Gauge "keyrail_build_info" "Always 1; the label is the running version";
    Received Counter "keyrail_records_received_total" "Records polled from the input topics";
    ReceivedBytes Counter "keyrail_received_bytes_total" "Key, value and header bytes of the records received";
    Settled Counter "keyrail_messages_settled_total" "Messages whose fate is decided, by fate";
    DeadLetters Counter "keyrail_dead_letters_total" "Messages dead-lettered, by reason";
    Retries Counter "keyrail_retries_total" "Runs of a message after its first";
    AttemptsFailed Counter "keyrail_attempts_failed_total" "Runs of a message that failed, by kind";
    BatchMessages Histogram "keyrail_batch_messages" "Messages handed to the handler in one call";
    CallDuration Histogram "keyrail_call_duration_seconds" "Duration of one call of the handler";
    Latency Histogram "keyrail_settle_latency_seconds" "Time from a record's timestamp until its message settled";
    TimerLate Histogram "keyrail_timer_lateness_seconds" "Time from when a timer was due until it settled";
    DelayedLate Histogram "keyrail_delayed_lateness_seconds" "Time from when a delayed send was due until it was handed to the broker";
    InFlight Gauge "keyrail_messages_in_flight" "Messages received and not yet settled";
    LanesOpen Gauge "keyrail_lanes_open" "Order keys that have a message in flight";
    LanesWaiting Gauge "keyrail_lanes_waiting" "Order keys whose head failed and waits for its next run";
    BudgetUsed Gauge "keyrail_budget_used_bytes" "Bytes of records and effects that the pipeline holds";
    BudgetLimit Gauge "keyrail_budget_limit_bytes" "The limit of all pipelines together, [memory] records";
    Assigned Gauge "keyrail_partitions_assigned" "Partitions that this process owns";
    Paused Gauge "keyrail_partitions_paused" "Partitions not fetched for now, by reason";
    Rebalances Counter "keyrail_rebalances_total" "Changes of the assignment, by kind";
    Epoch Gauge "keyrail_assignment_epoch" "Number of the current assignment; grows with each";
    Commits Counter "keyrail_commits_total" "Offset commits, by result";
    GivenUp Counter "keyrail_transactions_given_up_total" "Transactions that were given up; what they held ran again";
    CommitAge Gauge "keyrail_commit_age_seconds" "Time since the last successful commit";
    Committed Gauge "keyrail_partition_committed_offset" "Next offset to read, as the group has it";
    ReceivedOffset Gauge "keyrail_partition_received_offset" "One past the last offset received";
    Lag Gauge "keyrail_partition_lag_records" "Log end minus committed offset";
    Unsettled Gauge "keyrail_partition_unsettled_messages" "Messages received from the partition and not yet settled";
    OldestUnsettled Gauge "keyrail_partition_oldest_unsettled_age_seconds" "How long the oldest unsettled message is here";
    SlowMessage Gauge "keyrail_partition_slow_message_age_seconds" "How long a message that runs has held up what its partition commits";
    MetadataBytes Gauge "keyrail_partition_commit_metadata_bytes" "Size of the last commit's metadata; the broker allows 4096";
    Blocked Gauge "keyrail_partition_blocked" "1 while the partition can't go on, with the reason";
    Produced Counter "keyrail_records_produced_total" "Records that the broker acknowledged, by what they are";
    Refused Counter "keyrail_produce_refused_total" "Records that the broker refused, by reason";
    Stalls Counter "keyrail_stalls_total" "Times that a partition with lag delivered nothing until it was fetched anew";
    LossIntervals Counter "keyrail_loss_intervals_total" "Ranges of input lost to retention or truncation";
    RecordsLost Counter "keyrail_records_lost_total" "Offsets in those ranges";
    DedupIds Gauge "keyrail_dedup_ids_remembered" "Message ids remembered";
    DedupForgotten Counter "keyrail_dedup_ids_forgotten_total" "Message ids forgotten, by reason";
    SeenIds Gauge "keyrail_seen_ids" "Message ids that are committed as seen, of the partitions owned";
    SeenMemory Gauge "keyrail_seen_memory_bytes" "Memory that they take";
    SeenDisk Gauge "keyrail_seen_disk_bytes" "Room on disk that they take";
    SeenLookups Counter "keyrail_seen_lookups_total" "Messages whose id was looked up among them";
    SeenFalsePositives Counter "keyrail_seen_filter_false_positives_total" "Look-ups that a filter in memory could not answer and the disk did with no";
    StateMemory Gauge "keyrail_state_memory_bytes" "Memory that handlers' state takes, of the partitions owned";
    StateDisk Gauge "keyrail_state_disk_bytes" "Room on disk that it takes, of all pipelines of the process";
    StateReads Counter "keyrail_state_reads_total" "Values of committed state that were asked for";
    StateDiskReads Counter "keyrail_state_disk_reads_total" "Those that the disk was asked for";
    StateLongestWait Gauge "keyrail_state_longest_wait_seconds" "Longest that a commit's state waited for room in memory";
    TimersPending Gauge "keyrail_timers_pending" "Timers that are set and have not run, of the partitions owned";
    DelayedPending Gauge "keyrail_delayed_pending" "Records that are to be sent later, of the partitions owned";
    ParkedMessages Gauge "keyrail_parked_messages" "Messages that wait in the retry topic, of the partitions owned";
    ParkedLanes Gauge "keyrail_parked_lanes" "Order keys that have some there";
    ParkedOldest Gauge "keyrail_parked_oldest_age_seconds" "Time since the first failure of the message that failed longest ago of those that wait there";
    Parked Counter "keyrail_parked_total" "Messages parked, or parked anew after another run";
    Unparked Counter "keyrail_unparked_total" "Parked messages resolved: done, or given up";
    Commands Counter "keyrail_commands_total" "Records in the inboxes: commands to what is parked, by result";
    RestoreRemaining Gauge "keyrail_restore_remaining_records" "Offsets of internal topics still to be read before partitions begin";
    RestoreRecords Counter "keyrail_restore_records_total" "Records read from internal topics before partitions began";
    RestoreBytes Counter "keyrail_restore_bytes_total" "Their bytes";
    RestoreEntries Counter "keyrail_restore_entries_total" "Message ids, changes of state and parked messages in them";
    RestoreSeconds Counter "keyrail_restore_seconds_total" "Time spent reading them";
    BreakerState Gauge "keyrail_breaker_state" "How the breaker stands: 0 closed, 1 trying single messages, 2 open";
    BreakerOpened Counter "keyrail_breaker_opened_total" "Times that the breaker opened";
    BreakerProbes Counter "keyrail_breaker_probes_total" "Messages tried while it was open, by result";
    Rollouts Counter "keyrail_rollouts_total" "Changes of a pipeline's files, by what became of them";
    TrialShare Gauge "keyrail_trial_share" "Part of the keys that run on a version on trial; 0 while there is none";
    TrialMessages Counter "keyrail_trial_messages_total" "Messages of versions on trial, by how they did";
    Restarts Counter "keyrail_pipeline_restarts_total" "Times that the pipeline started anew by itself";
    PipelinePaused Gauge "keyrail_pipeline_paused" "Whether the pipeline is paused: 0 no, 1 by hand, 2 by policy";
    InstancesOpened Counter "keyrail_handler_instances_opened_total" "Instances of the handler opened";
    InstancesClosed Counter "keyrail_handler_instances_closed_total" "Instances of the handler closed, by reason";
    Http Counter "keyrail_http_requests_total" "HTTP requests of the handler, by what came of them";
    HttpDuration Histogram "keyrail_http_request_duration_seconds" "Time from an HTTP request's start until its answer was read";
    HttpInFlight Gauge "keyrail_http_requests_in_flight" "HTTP requests under way, and those that wait for their turn";
    HandlerSeriesDropped Gauge "keyrail_handler_series_dropped" "Series of handlers' own metrics left out of this page";
    AlertMessages Counter "keyrail_alert_messages_total" "Messages to receivers of alerts, by what became of them";
    PluginsWatched Gauge "keyrail_plugins_watched" "1 while the system tells of changes of plugins.dir; 0 while it is only looked at, every plugins.poll";
    AlertsPending Gauge "keyrail_alerts_pending" "Alerts that have something that a receiver is not told yet";
    AlertEventsDropped Counter "keyrail_alert_events_dropped_total" "Events that found no room before a receiver's thread heard of them";
    ProcessStart Gauge "process_start_time_seconds" "Start time of the process since the Unix epoch";
    ProcessMemory Gauge "process_resident_memory_bytes" "Resident memory of the process";
    ProcessCpu Counter "process_cpu_seconds_total" "User and system CPU time spent";
}
