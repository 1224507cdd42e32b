//! What a pipeline's manifest decides, as values. All times are milliseconds, all sizes bytes.

use crate::message::Partition;
use alloc::string::String;

/// Everything the engine needs to know of one pipeline.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// What a message's effects and its offset have to do with each other.
    pub guarantee: Guarantee,
    /// Which messages wait for each other.
    pub order: Order,
    /// How batches are filled.
    pub batch: Batch,
    /// What happens to a message that failed.
    pub retry: Retry,
    /// When failures are taken for an outage; `None` is off.
    pub breaker: Option<Breaker>,
    /// Suppression of repeated ids; `None` is off.
    pub dedup: Option<Dedup>,
    /// The handler has state.
    pub state: bool,
    /// The handler may set timers.
    pub timers: bool,
    /// The handler may delay what it sends.
    pub delays: bool,
    /// Messages older than this when they would run go to the dead letters unrun.
    pub expires_after_ms: Option<u64>,
    /// How offsets are committed.
    pub commit: Commit,
    /// One message's run, at most.
    pub timeout_ms: u64,
    /// The bug that the simulator must find in this run.
    #[cfg(feature = "planted")]
    pub planted: Option<crate::planted::Bug>,
}

impl Policy {
    /// Whether seen ids outlive the process: they are committed with, or behind, the effects that they stand for.
    #[must_use]
    pub const fn keeps_ids(&self) -> bool {
        matches!(&self.dedup, Some(Dedup { kept: true, .. })) && self.keeps()
    }

    /// Whether handlers have state: it is committed with the effects and the offsets of the messages that it follows from, or
    /// before these offsets.
    #[must_use]
    pub const fn keeps_state(&self) -> bool {
        self.state && self.keeps()
    }

    /// Rounds are a partition's: what several inputs share is kept by transactions alone.
    const fn keeps(&self) -> bool {
        matches!(self.guarantee, Guarantee::ExactlyOnce) || matches!(self.order.scope, Scope::Topic)
    }

    /// Whether what is kept is written for itself, each step before the next: state, ids, offsets.
    pub(crate) const fn commits_in_rounds(&self) -> bool {
        matches!(self.guarantee, Guarantee::AtLeastOnce) && (self.keeps_ids() || self.keeps_state() || self.parks())
    }

    /// Whether messages are parked: they are written to the retry topic in the transaction that moves their offset, or before
    /// that is committed. Not where inputs share their lanes.
    #[must_use]
    pub const fn parks(&self) -> bool {
        self.retry.in_place_ms.is_some() && matches!(self.order.scope, Scope::Topic)
    }

    /// Whether somebody may act on what is parked: commands are obeyed in the transaction that moves their place in the inbox. What
    /// is spent can be held, or take its key along, only where they are.
    #[must_use]
    pub const fn takes_commands(&self) -> bool {
        self.parks() && matches!(self.guarantee, Guarantee::ExactlyOnce)
    }

    /// Whether handlers have timers: they are state that is committed with what set them, and lanes are of one input.
    #[must_use]
    pub const fn has_timers(&self) -> bool {
        self.timers && self.keeps_state() && self.commits_lanes_apart()
    }

    /// Whether handlers may delay what they send: it is state that is committed with its message, of one input.
    #[must_use]
    pub const fn has_delays(&self) -> bool {
        self.delays && self.keeps_state() && self.commits_lanes_apart()
    }

    /// Whether lanes are of one input, and what changes of them is committed with its offset.
    const fn commits_lanes_apart(&self) -> bool {
        matches!(self.order.scope, Scope::Topic) && matches!(self.guarantee, Guarantee::ExactlyOnce)
    }

    /// Whether this run carries the planted bug; always `false` outside the simulator's own tests.
    #[cfg(feature = "planted")]
    pub(crate) fn has(&self, bug: crate::planted::Bug) -> bool {
        self.planted == Some(bug)
    }

    #[cfg(not(feature = "planted"))]
    pub(crate) const fn has(&self, _: crate::planted::Bug) -> bool {
        false
    }
}

/// `guarantee`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guarantee {
    /// Effects and offsets become visible together.
    ExactlyOnce,
    /// Effects are written before their offset is committed.
    AtLeastOnce,
}

/// `[order]`: which messages wait for each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// What a message's order key is.
    pub by: OrderBy,
    /// What holds for a message that has no order key.
    pub null_key: NullKey,
    /// Over what keys, seen ids and state reach.
    pub scope: Scope,
}

impl Order {
    /// The task that a partition is of. A task is named by a partition of its own: where it spans all inputs, by that of the
    /// first.
    #[must_use]
    pub const fn task(&self, partition: Partition) -> Partition {
        match self.scope {
            Scope::Topic => partition,
            Scope::Inputs => Partition { topic: 0, number: partition.number },
        }
    }
}

/// `order.scope`: what a task is. Its lanes, seen ids and state are its own; its partitions start, start anew and go together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scope {
    /// One partition of one input.
    #[default]
    Topic,
    /// The same partition number of all inputs.
    Inputs,
}

impl Scope {
    /// How many of so many inputs, the first ones, name what tasks keep.
    #[must_use]
    pub const fn owners(self, inputs: usize) -> usize {
        match self {
            Self::Inputs if inputs > 1 => 1,
            Self::Topic | Self::Inputs => inputs,
        }
    }
}

impl Default for Order {
    fn default() -> Self {
        Self { by: OrderBy::Key, null_key: NullKey::None, scope: Scope::Topic }
    }
}

/// `order.by`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrderBy {
    /// The record's key.
    Key,
    /// The last header of this name.
    Header(String),
    /// One lane for the whole task.
    Partition,
    /// No order.
    None,
}

/// `order.null-key`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NullKey {
    /// Such messages wait for nothing.
    None,
    /// Such messages of one task wait for each other.
    Partition,
}

/// `[batch]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Slots of one call, at most; at least 1.
    pub max_messages: u32,
    /// Sum of the messages' sizes in one call, at most (a larger message runs alone).
    pub max_bytes: u64,
    /// How long a message may wait for others to share its call.
    pub max_wait_ms: u64,
    /// One call's deadline, at most.
    pub max_time_ms: u64,
    /// No two messages of one lane share a call: what a handler does outside at once would not come in their order, nor be
    /// undone with an earlier one that fails.
    pub apart: bool,
}

/// `[retry]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Retry {
    /// Runs in all, the first included; at least 1.
    pub attempts: u32,
    /// Wait before the second run.
    pub first_ms: u64,
    /// Each further wait is this much longer; at least 1.
    pub factor: f64,
    /// No wait is longer.
    pub max_ms: u64,
    /// Share of the wait that chance adds or takes; 0 to 1.
    pub jitter: f64,
    /// A message that first failed longer ago than this is spent.
    pub max_age_ms: u64,
    /// What becomes of a spent message.
    pub then: Spent,
    /// What is due later than this is parked, in milliseconds; `None`: all wait in memory.
    pub in_place_ms: Option<u64>,
    /// So many messages of a lane wait in memory behind one that does; when there are more, all are parked.
    pub in_place_most: usize,
}

/// `retry.then`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spent {
    /// To the dead-letter topic; its followers go on.
    DeadLetter,
    /// To the dead-letter topic, and its followers behind it, unrun. Only where it [takes commands](Policy::takes_commands).
    DeadLetterKey,
    /// Parked, with its followers behind it, until somebody acts. Only where it [takes commands](Policy::takes_commands).
    Hold,
    /// Logged, counted, dropped; its followers go on.
    Discard,
}

/// `[breaker]`: see [`crate::breaker`].
#[derive(Debug, Clone, PartialEq)]
pub struct Breaker {
    /// It opens when so great a share of the lanes that ran lately failed when they ran last; above 0, up to 1.
    pub failures: f64,
    /// What is lately; at least 1.
    pub window_ms: u64,
    /// How long it is open before a message is tried.
    pub pause_ms: u64,
    /// It opens for so many lanes that failed, at least; at least 1.
    pub least_lanes: u32,
}

/// `[dedup]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dedup {
    /// Where the id comes from.
    pub id: IdFrom,
    /// How long an id is remembered.
    pub window_ms: u64,
    /// What happens to a message without an id.
    pub absent: Absent,
    /// Ids are written with, or behind, what they stand for, and outlive the process ([`Policy::keeps_ids`]).
    pub kept: bool,
    /// Of ids that are not kept, how many one shard remembers at most; older ones are forgotten first.
    pub capacity: usize,
}

/// `dedup.id`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdFrom {
    /// The last header of this name.
    Header(String),
    /// The record's key.
    Key,
    /// A digest of key, value and headers.
    Digest,
}

/// `dedup.absent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absent {
    /// The message is run as if dedup were off.
    Process,
    /// Its id is the digest.
    Digest,
    /// It goes to the dead letters unrun.
    DeadLetter,
}

/// `[commit]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Least time between two commits.
    pub interval_ms: u64,
}

impl Default for Policy {
    /// The defaults of a manifest that names nothing.
    fn default() -> Self {
        Self {
            guarantee: Guarantee::ExactlyOnce,
            order: Order::default(),
            batch: Batch { max_messages: 256, max_bytes: 1 << 20, max_wait_ms: 2, max_time_ms: 30_000, apart: false },
            retry: Retry {
                attempts: 16,
                first_ms: 1_000,
                factor: 1.618,
                max_ms: 600_000,
                jitter: 0.1,
                max_age_ms: 7 * 24 * 3_600_000,
                then: Spent::DeadLetter,
                in_place_ms: None,
                in_place_most: 1_000,
            },
            breaker: None,
            dedup: None,
            state: false,
            timers: false,
            delays: false,
            expires_after_ms: None,
            commit: Commit { interval_ms: 100 },
            timeout_ms: 5_000,
            #[cfg(feature = "planted")]
            planted: None,
        }
    }
}
