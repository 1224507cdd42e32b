//! What the threads of a pipeline tell each other.
//!
//! Each thread has one bounded inbox. The consumer and the committer never block on somebody else's: what finds no room
//! waits in their own [`Line`], which the byte budget bounds. Only shards wait, for the committer. So no circle of
//! threads can wait for each other. Messages of one sender keep their order. What waits for what is decided in
//! [`keyrail_engine::handover`].

use super::budget::Charge;
use super::kept::{Kept, Kind};
use super::recording::Recording;
use crate::record::{Record, TopicPartition};
use crate::wasm::{Effects, Fired};
use crossbeam_channel::{Sender, TrySendError};
use keyrail_engine::breaker;
use keyrail_engine::handover::{self, Inbox, Refused};
use keyrail_engine::inbox::{self, CommandId};
use keyrail_engine::intake::Opened;
use keyrail_engine::message::{self, EachHeader, Epoch, MessageId, Partition, Ticket};
use keyrail_engine::parking;
use keyrail_engine::ranges::Ranges;
use keyrail_engine::shard::{Order, Settled};
use keyrail_engine::state::Change;
use keyrail_engine::tracker::Progress;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::vec::IntoIter;

/// What a message costs beside its record while it is in flight, in bytes: its lane, its place in a queue and in the
/// ledger. Counted into the budget, since with small records it is more than they are.
pub(super) const MESSAGE_BYTES: usize = 512;

/// A record with its share of the byte budget.
#[derive(Debug)]
pub(super) struct Payload {
    pub(super) record: Record,
    /// It is a timer's: the record is made of that.
    pub(super) timer: Option<Arc<Fired>>,
    /// What the last run of it read that failed, if dead letters are to keep that.
    pub(super) recording: Option<Recording>,
    /// It is a delayed send: the record is what goes out, but for its place, which is that of the message that sent it.
    pub(super) delayed: Option<Arc<Postponed>>,
    pub(super) _charge: Charge,
}

/// Where a delayed send goes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Postponed {
    /// The output's name in the manifest.
    pub(super) output: String,
    /// Which of the manifest's outputs it is; `None`: there is none of that name any more.
    pub(super) index: Option<usize>,
}

/// To a shard.
#[derive(Debug)]
pub(super) enum ToShard {
    /// A partition starts, before its first record.
    Open {
        partition: Partition,
        epoch: Epoch,
        seen_below: i64,
        settled: Arc<Ranges>,
        /// What internal topics hold of its task.
        kept: Kept,
        /// See [`keyrail_engine::shard::Shard::condemn`].
        condemned: Arc<[i64]>,
    },
    /// Messages of its lanes.
    Messages(Vec<(Ticket, Payload)>),
    /// A partition goes; to be answered by [`ToCommitter::Drained`].
    Close { partition: Partition, epoch: Epoch },
    /// Ids are committed and known.
    Marked { task: Partition, ids: Arc<[MessageId]> },
    /// State is committed and kept.
    Kept { task: Partition, changes: Arc<[Change]> },
    /// This is committed of what is parked, and known.
    Parked { partition: Partition, epoch: Epoch, changes: Arc<[parking::Change]> },
    /// So much of a partition is covered by the group's commit; see [`keyrail_engine::shard::Shard::covered`].
    Covered { partition: Partition, epoch: Epoch, progress: Arc<Option<Progress>> },
    /// A command from outside; to be answered by [`ToCommitter::Obeyed`], if the partition is still there.
    Order(Command, Box<Order<Payload>>),
    /// The breaker orders something.
    Breaker(breaker::Order),
    /// A dead letter is written.
    LetterAcknowledged { partition: Partition, epoch: Epoch, offset: i64 },
}

/// A command from outside that is under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Command {
    pub(super) partition: Partition,
    pub(super) epoch: Epoch,
    /// Where it stands in the inbox.
    pub(super) at: i64,
    pub(super) id: CommandId,
    /// Somebody waits for the answer in any case.
    pub(super) answer: bool,
}

/// What became of it.
pub(super) type Obeyed = Result<Settled<Payload>, inbox::Refused>;

/// Messages whose fate is decided, in order, with what their call staged; those are left that the ledger has not heard of.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) settled: IntoIter<Settled<Payload>>,
    pub(super) effects: Effects,
    pub(super) _charge: Option<Charge>,
}

/// Offsets `first..=last` of a partition, received one after the other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    pub(super) partition: Partition,
    pub(super) epoch: Epoch,
    pub(super) first: i64,
    pub(super) last: i64,
}

/// To the committer.
#[derive(Debug)]
pub(super) enum ToCommitter {
    /// Partitions start, or start anew: all that are of one task at once.
    Opened(Vec<(Partition, Opened)>),
    /// What internal topics hold of a task is known, and which schemas of its state are to be marked; told before its first records.
    Known { task: Partition, epoch: Epoch, kept: Kept, schemas: Vec<u16> },
    /// Records came; told before they go to the shards.
    Received(Vec<Run>),
    /// From a shard: fates, in order.
    Settled(Work),
    /// From a shard: it has obeyed a command, or not.
    Obeyed(Command, Box<Obeyed>),
    /// From a shard: it has closed the partition.
    Drained { partition: Partition, epoch: Epoch },
    /// The group takes these partitions; to be answered by [`ToConsumer::Released`].
    Revoke(Vec<Partition>),
    /// These partitions are somebody else's; to be answered by [`ToConsumer::Released`].
    Lost(Vec<Partition>),
    /// Fetching is paused or resumed by the byte budget.
    Gate(bool),
    /// Where internal topics ended not long ago.
    Ends(Vec<(Kind, Partition, i64)>),
    /// Where logs end now.
    Watermarks(Vec<(Partition, i64)>),
    /// From the shard of this number, to the breaker.
    Breaker(usize, breaker::News),
}

/// To the consumer.
#[derive(Debug)]
pub(super) enum ToConsumer {
    /// Stop fetching this partition.
    Pause(Partition),
    /// Go on fetching it.
    Resume(Partition),
    /// Start these, all partitions of a task, anew from here, with what is settled above.
    Rewind(Vec<(Partition, i64, Ranges)>),
    /// Messages of it at these offsets must not run when they come again; comes before `Restart`.
    Condemn { partition: Partition, offsets: Vec<i64> },
    /// Start these anew from what is committed now, or else from the offset beside them.
    Restart(Vec<(Partition, i64)>),
    /// It has lag and delivers nothing.
    Stalled { partition: Partition, position: i64 },
    /// What was revoked is committed and given up; what was lost is given up.
    Released {
        /// Why it was not in good order: not all that ran is finished, or the commit failed.
        unfinished: Option<String>,
    },
}

impl ToConsumer {
    /// What is left of it when these partitions are given up.
    pub(super) fn without(self, gone: &[Partition]) -> Option<Self> {
        match self {
            Self::Pause(partition)
            | Self::Resume(partition)
            | Self::Condemn { partition, .. }
            | Self::Stalled { partition, .. }
                if gone.contains(&partition) =>
            {
                None
            }
            Self::Rewind(mut all) => {
                all.retain(|(partition, ..)| !gone.contains(partition));
                (!all.is_empty()).then_some(Self::Rewind(all))
            }
            Self::Restart(mut all) => {
                all.retain(|(partition, _)| !gone.contains(partition));
                (!all.is_empty()).then_some(Self::Restart(all))
            }
            other => Some(other),
        }
    }
}

/// Raised when the consumer thread ends, however it ends: the committer must not wait for the shards then, which wait for
/// it.
#[derive(Debug, Clone, Default)]
pub(super) struct Over(Arc<AtomicBool>);

impl Over {
    /// Whether the consumer thread has ended.
    pub(super) fn is_raised(&self) -> bool {
        self.0.load(Acquire)
    }
}

/// Raises an [`Over`] when it is dropped.
#[derive(Debug)]
pub(super) struct RaiseOver(pub(super) Over);

impl Drop for RaiseOver {
    fn drop(&mut self) {
        self.0.0.store(true, Release);
    }
}

/// How many partitions were told to start or to go, and how many orders the breaker gave, that a shard has not heard of. Meanwhile it takes in whatever comes: what
/// stands before that in its inbox may be of no concern any more.
#[derive(Debug, Clone, Default)]
pub(super) struct Attention(Arc<AtomicUsize>);

impl Attention {
    /// One more is told, or about to be.
    pub(super) fn ask(&self) {
        self.0.fetch_add(1, Release);
    }

    /// One is heard.
    pub(super) fn heard(&self) {
        self.0.fetch_sub(1, Release);
    }

    /// Whether there are some.
    pub(super) fn is_asked(&self) -> bool {
        self.0.load(Acquire) > 0
    }
}

/// The writing end of another thread's inbox.
#[derive(Debug, Clone)]
pub(super) struct Outlet<T>(pub(super) Sender<T>);

impl<T> Inbox for Outlet<T> {
    type Message = T;

    fn offer(&self, message: T) -> Result<(), Refused<T>> {
        self.0.try_send(message).map_err(|refused| match refused {
            TrySendError::Full(message) => Refused::Full(message),
            TrySendError::Disconnected(_) => Refused::Gone,
        })
    }
}

/// A writer that never blocks.
pub(super) type Line<T> = handover::Line<Outlet<T>>;

/// The consumer's lines to ledger and shards.
pub(super) type Handover = handover::Handover<Outlet<ToCommitter>, Outlet<ToShard>>;

/// The engine's name of a partition.
pub(super) fn to_engine(at: TopicPartition) -> Partition {
    Partition { topic: at.topic, number: at.partition }
}

/// The broker's name of a partition.
pub(super) fn to_broker(partition: Partition) -> TopicPartition {
    TopicPartition { topic: partition.topic, partition: partition.number }
}

impl message::Message for Record {
    fn key(&self) -> Option<&[u8]> {
        Self::key(self)
    }

    fn value(&self) -> Option<&[u8]> {
        Self::value(self)
    }

    fn header(&self, name: &[u8]) -> Option<Option<&[u8]>> {
        Self::header(self, name)
    }

    fn for_each_header(&self, each: EachHeader<'_>) {
        for (name, value) in self.headers() {
            each(name, value);
        }
    }

    fn timestamp_ms(&self) -> i64 {
        self.timestamp_ms
    }

    fn size(&self) -> usize {
        Self::size(self)
    }
}
