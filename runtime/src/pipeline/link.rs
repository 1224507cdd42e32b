//! What the threads of a pipeline tell each other.
//!
//! Each thread has one bounded inbox. The consumer and the committer never block on somebody else's: what finds no room
//! waits in their own [`Line`], which the byte budget bounds. Only shards wait, for the committer. So no circle of
//! threads can wait for each other. Messages of one sender keep their order.

use super::budget::Charge;
use crate::record::{Record, TopicPartition};
use crate::wasm::Send;
use crossbeam_channel::{Sender, TrySendError};
use keyrail_engine::intake::Opened;
use keyrail_engine::message::{self, EachHeader, Epoch, Partition, Ticket};
use keyrail_engine::ranges::Ranges;
use keyrail_engine::shard::Settled;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};

/// What a message costs beside its record while it is in flight, in bytes: its lane, its place in a queue and in the
/// ledger. Counted into the budget, since with small records it is more than they are.
pub(super) const MESSAGE_BYTES: usize = 512;

/// A record with its share of the byte budget.
#[derive(Debug)]
pub(super) struct Payload {
    pub(super) record: Arc<Record>,
    pub(super) _charge: Charge,
}

/// To a shard.
#[derive(Debug)]
pub(super) enum ToShard {
    /// A partition starts, before its first record.
    Open { partition: Partition, epoch: Epoch, seen_below: i64, settled: Arc<Ranges> },
    /// Messages of its lanes.
    Messages(Vec<(Ticket, Payload)>),
    /// A partition goes; to be answered by [`ToCommitter::Drained`].
    Close { partition: Partition, epoch: Epoch },
    /// A dead letter is written.
    LetterAcknowledged { partition: Partition, epoch: Epoch, offset: i64 },
}

/// A message whose fate is decided, with the effects that stand.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) settled: Settled<Payload>,
    pub(super) sends: Vec<Send>,
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
    /// A partition starts, or starts anew.
    Opened { partition: Partition, opened: Opened },
    /// Records came; told before they go to the shards.
    Received(Vec<Run>),
    /// From a shard: fates, in order.
    Settled(Vec<Work>),
    /// From a shard: it has closed the partition.
    Drained { partition: Partition, epoch: Epoch },
    /// The group takes these partitions; to be answered by [`ToConsumer::Released`].
    Revoke(Vec<Partition>),
    /// These partitions are somebody else's; to be answered by [`ToConsumer::Released`].
    Lost(Vec<Partition>),
    /// Fetching is paused or resumed by the byte budget.
    Gate(bool),
    /// Where logs end now.
    Watermarks(Vec<(Partition, i64)>),
}

/// To the consumer.
#[derive(Debug)]
pub(super) enum ToConsumer {
    /// Stop fetching this partition.
    Pause(Partition),
    /// Go on fetching it.
    Resume(Partition),
    /// Start it anew from here.
    Rewind { partition: Partition, start: i64, settled: Ranges },
    /// It has lag and delivers nothing.
    Stalled { partition: Partition, position: i64 },
    /// What was revoked is committed and given up; what was lost is given up.
    Released,
}

impl ToConsumer {
    /// The partition it is about.
    pub(super) fn partition(&self) -> Option<Partition> {
        match self {
            Self::Pause(partition)
            | Self::Resume(partition)
            | Self::Rewind { partition, .. }
            | Self::Stalled { partition, .. } => Some(*partition),
            Self::Released => None,
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

/// A sender that never blocks. What finds no room waits here, in order.
#[derive(Debug)]
pub(super) struct Line<T> {
    sender: Sender<T>,
    waiting: VecDeque<T>,
}

/// The other thread is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gone;

impl<T> Line<T> {
    pub(super) fn new(sender: Sender<T>) -> Self {
        Self { sender, waiting: VecDeque::new() }
    }

    /// Sends, now or later.
    pub(super) fn push(&mut self, message: T) -> Result<(), Gone> {
        self.put(message);
        self.flush().map(|_moved| ())
    }

    /// Puts a message in line, to be sent by the next [`Line::flush`].
    pub(super) fn put(&mut self, message: T) {
        self.waiting.push_back(message);
    }

    /// Sends what waits, as far as there is room; tells whether anything was sent.
    pub(super) fn flush(&mut self) -> Result<bool, Gone> {
        let mut moved = false;
        while let Some(message) = self.waiting.pop_front() {
            match self.sender.try_send(message) {
                Ok(()) => moved = true,
                Err(TrySendError::Full(message)) => {
                    self.waiting.push_front(message);
                    break;
                }
                Err(TrySendError::Disconnected(_)) => return Err(Gone),
            }
        }
        Ok(moved)
    }

    /// Whether something waits.
    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_inbox_keeps_what_waits_in_order() {
        let (sender, receiver) = crossbeam_channel::bounded(2);
        let mut line = Line::new(sender);
        for n in 0..5 {
            assert_eq!(line.push(n), Ok(()));
        }
        assert!(line.is_waiting());
        let mut got: Vec<i32> = receiver.try_iter().collect();
        while line.is_waiting() {
            assert_eq!(line.flush(), Ok(true));
            got.extend(receiver.try_iter());
        }
        assert_eq!(got, [0, 1, 2, 3, 4]);
        line.put(5);
        assert!(receiver.is_empty(), "what is put is not sent before the next flush");
        assert_eq!((line.flush(), line.flush()), (Ok(true), Ok(false)));
        assert_eq!(receiver.try_recv(), Ok(5));
        drop(receiver);
        assert_eq!(line.push(6), Err(Gone));
    }
}
