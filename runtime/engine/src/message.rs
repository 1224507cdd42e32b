//! What the engine knows of a message: where it came from, whom it waits for, and how it ended.

use crate::parking::Waiting;
use alloc::boxed::Box;
use alloc::string::String;

/// A partition of an input topic; `topic` is the index into the pipeline's list of inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition {
    /// Index of the topic.
    pub topic: u32,
    /// Number of the partition in it.
    pub number: i32,
}

/// One assignment of a task to this process: of a partition, or of all that share its keys. Epochs grow and are never used twice
/// within a process, so what belongs to an earlier assignment of the same task is recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

/// The time, from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// Milliseconds that never go back: for back-off, intervals and stalls.
    pub steady_ms: u64,
    /// Milliseconds since the Unix epoch: for message age and the dedup window.
    pub wall_ms: i64,
}

/// 128 bits of a SHA-256 over order key and id: two messages with equal ids are the same message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(pub [u8; 16]);

/// Takes the name and value of a header.
pub type EachHeader<'a> = &'a mut dyn FnMut(&[u8], Option<&[u8]>);

/// What the engine reads of a record when it routes it.
pub trait Message {
    /// The record's key; `None` is null.
    fn key(&self) -> Option<&[u8]>;
    /// The record's value; `None` is a tombstone.
    fn value(&self) -> Option<&[u8]>;
    /// The last header of that name; the inner `None` is a header whose value is null.
    fn header(&self, name: &[u8]) -> Option<Option<&[u8]>>;
    /// Calls `each` with name and value of every header in order.
    fn for_each_header(&self, each: EachHeader<'_>);
    /// Milliseconds since the Unix epoch; negative where the broker has none.
    fn timestamp_ms(&self) -> i64;
    /// Bytes it holds in memory.
    fn size(&self) -> usize;
}

/// A routed message's papers, made by [`crate::intake::Intake::take`]. The payload travels beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    /// Where it was read.
    pub partition: Partition,
    /// Its offset there; of a timer what stands for one.
    pub offset: i64,
    /// The assignment it belongs to.
    pub epoch: Epoch,
    /// Messages with equal lanes in one task wait for each other. It is a hash: a collision makes two keys wait
    /// for each other and does no other harm.
    pub lane: u64,
    /// Its id, with dedup on.
    pub id: Option<MessageId>,
    /// Set when it must not run at all.
    pub refused: Option<Reason>,
    /// Its task is named by a partition of the first input, and not by its own; see [`Ticket::task`].
    pub shared: bool,
    /// It may have been running when a process died: it shares its call with nobody.
    pub alone: bool,
    /// It comes from the retry topic, where this is its place in its lane; 0: from the input.
    pub parked: u64,
    /// Bytes it holds in memory.
    pub size: u32,
    /// Milliseconds since the Unix epoch; negative where the broker has none.
    pub timestamp_ms: i64,
}

impl Ticket {
    /// It is a timer's: its offset is a [`number`](crate::timers::number).
    #[must_use]
    pub const fn is_timer(&self) -> bool {
        crate::timers::is_number(self.offset)
    }

    /// It is a timer that stands in state until it is settled: none that is parked.
    #[must_use]
    pub const fn is_set(&self) -> bool {
        self.is_timer() && self.parked == 0
    }

    /// Whether no offset of the input waits for it: it was settled when it was parked, or a timer was set.
    #[must_use]
    pub const fn is_detached(&self) -> bool {
        self.parked > 0 || self.is_timer()
    }

    /// The task whose lanes, seen ids and state it shares; see [`Order::task`](crate::policy::Order::task).
    #[must_use]
    pub const fn task(&self) -> Partition {
        if self.shared { Partition { topic: 0, number: self.partition.number } } else { self.partition }
    }
}

/// Why a message could not be done: the `keyrail-reason` of its dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// It has run as often as `retry.attempts` allows.
    Attempts,
    /// It first failed longer ago than `retry.max-age`.
    Age,
    /// The handler answered `dead-letter`, or the id that `dedup.absent = "dead-letter"` asks for is missing.
    Rejected,
    /// It was older than `expires-after` when it would have run.
    Expired,
    /// The handler trapped on it, alone.
    Trap,
    /// The handler exceeded its time on it, alone.
    Timeout,
    /// It, or what the handler sends for it, is larger than a limit.
    Oversized,
    /// It was parked, and its record can't be read any more: what was there is the letter's value.
    Undecodable,
    /// The broker will never take what it sends.
    Undeliverable,
    /// An earlier message of its order key was given up, and it with that one: it did not run.
    Follows,
    /// Somebody dropped it by hand.
    Dropped,
}

impl Reason {
    /// Whether `retry.then` says what becomes of the message.
    #[must_use]
    pub const fn is_of_retries(self) -> bool {
        matches!(self, Self::Attempts | Self::Age | Self::Trap | Self::Timeout | Self::Oversized)
    }

    /// The text that stands in headers and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Attempts => "attempts",
            Self::Age => "age",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::Trap => "trap",
            Self::Timeout => "timeout",
            Self::Oversized => "oversized",
            Self::Undecodable => "undecodable",
            Self::Undeliverable => "undeliverable",
            Self::Follows => "follows",
            Self::Dropped => "dropped",
        }
    }
}

/// The handler's or the host's own words on a failure.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Failure {
    /// Short and stable.
    pub code: String,
    /// For people.
    pub detail: String,
}

/// Everything a dead letter tells beside the message itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Epitaph {
    /// Why.
    pub reason: Reason,
    /// The last failure's words.
    pub failure: Failure,
    /// How often it ran.
    pub attempts: u32,
    /// When it first failed, milliseconds since the Unix epoch.
    pub first_failed_ms: i64,
    /// The handler's version that failed it, as [`Shard::serve`](crate::shard::Shard::serve) was told; `None` where no
    /// version is to blame.
    pub version: Option<u32>,
    /// Whom it is given up with.
    pub company: Company,
}

/// Whom a message is given up with: `retry.then = "dead-letter-key"`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Company {
    /// With nobody.
    #[default]
    Alone,
    /// With what is parked behind it: with its dead letter its record in the retry topic is written anew, as their mark.
    Leads(Box<Waiting>),
    /// With the message of this offset of the same partition.
    Follows(i64),
}

/// How a message ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// Its effects stand.
    Done,
    /// Its effects stand; the handler filtered it out.
    Skipped,
    /// Its id was seen before; it did not run.
    Duplicate {
        /// Where its id was seen, if that is not committed yet: it settles when that message does, not before.
        of: Option<(Partition, i64)>,
    },
    /// It goes to the dead-letter topic.
    DeadLetter(Box<Epitaph>),
    /// `retry.then = "discard"`: logged, counted, dropped.
    Discarded(Box<Epitaph>),
    /// It goes to the retry topic, or is written there anew.
    Parked(Box<Waiting>),
    /// It is in the retry topic already; it did not run.
    ParkedBefore,
    /// It was a dead letter before, and so is all by now that was given up with it: its mark leaves the retry topic.
    Buried,
}
