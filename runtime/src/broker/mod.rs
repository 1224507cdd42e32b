//! The broker as the pipeline sees it, and as the commands do ([`client`]). `kafka` alone knows librdkafka.
//!
//! A consumer is owned by the pipeline's consumer thread, a producer by its committer thread. Rebalances come out of
//! [`Consumer::poll`] as values: the group waits until the pipeline answers with [`Consumer::assign`] or
//! [`Consumer::unassign`], so draining and the last commit happen in between, outside any callback.

pub mod client;
pub mod embedded;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod partitioner;
pub mod standing;
pub mod topics;

use crate::record::{Record, TopicPartition};
use std::collections::BTreeSet;
use std::time::Duration;
use topics::{NeededTopic, TopicProblem};

/// A broker as a process has it: it makes the clients of pipelines. Shared by all their threads.
pub trait Broker: Send + Sync {
    /// What it is, for messages: the brokers' address or the folder.
    fn place(&self) -> String;
    /// A member of `group`, subscribed to `topics`; [`TopicPartition::topic`] is the index into them.
    fn consumer(&self, group: &str, topics: &[String]) -> Result<Box<dyn Consumer>, BrokerError>;
    /// The same, where the group gives the same partition number of all topics to one member, in one assignment.
    ///
    /// # Errors
    /// It can't be made sure that it does.
    fn consumer_of_all(&self, group: &str, topics: &[String]) -> Result<Box<dyn Consumer>, BrokerError> {
        self.consumer(group, topics)
    }
    /// A producer for these topics; to others it may write more slowly, or not at all.
    fn producer(&self, topics: &[&str]) -> Result<Box<dyn Producer>, BrokerError>;
    /// Questions beside those of a group's member, and readers of partitions that belong to no group.
    fn client(&self) -> Result<Box<dyn client::Client>, BrokerError>;
    /// The names of all topics that this user may see. Blocks up to `wait`, or as long as a connection takes.
    fn topic_names(&self, wait: Duration) -> Result<BTreeSet<String>, BrokerError>;
    /// Looks for every topic needed and makes those that it may. Gives what a person must put right; an error means that
    /// the question itself could not be answered within `wait`.
    fn ensure(&self, needed: &[NeededTopic], wait: Duration) -> Result<Vec<TopicProblem>, BrokerError>;
}

/// What one call of [`Consumer::poll`] brought.
#[derive(Debug)]
pub enum Polled {
    /// A record of an assigned partition.
    Record(Record),
    /// The group gives these partitions; they deliver nothing until [`Consumer::assign`].
    Assigned(Vec<TopicPartition>),
    /// This is a member of its group, and was given nothing (more).
    Joined,
    /// The group takes these partitions in good order; they must be given up by [`Consumer::unassign`].
    Revoked(Vec<TopicPartition>),
    /// These partitions are somebody else's already: no commit may follow, only [`Consumer::unassign`].
    Lost(Vec<TopicPartition>),
    /// This partition's position lies outside its log (retention or truncation, see [`Consumer::bounds`]). It delivers
    /// nothing until [`Consumer::seek`].
    OutOfRange(TopicPartition),
    /// Something a person should know; the consumer goes on by itself.
    Trouble(BrokerError),
    /// No broker answers at all; the consumer goes on by itself when one does. Told again while it lasts, at least once
    /// in 35 s.
    Away(BrokerError),
    /// Nothing within the time given.
    Idle,
}

/// A group's committed offset with the metadata stored beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The next offset to read; `None` when the group never committed this partition (which is not offset 0).
    pub offset: Option<i64>,
    /// The metadata string, empty when there is none.
    pub metadata: String,
}

/// First offset still there, and the offset the next record will get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogBounds {
    /// First offset that can still be read.
    pub start: i64,
    /// One past the last offset (high watermark).
    pub end: i64,
}

/// An offset to commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetCommit {
    /// Which partition.
    pub at: TopicPartition,
    /// The next offset to read.
    pub offset: i64,
    /// At most 4096 bytes.
    pub metadata: String,
}

/// Reads a group's input. One thread owns it.
pub trait Consumer: Send {
    /// Waits at most `wait` for something to happen. Must be called often: it is what keeps the membership.
    fn poll(&mut self, wait: Duration) -> Polled;
    /// Accepts assigned partitions, each from the given offset.
    fn assign(&mut self, starts: &[(TopicPartition, i64)]) -> Result<(), BrokerError>;
    /// Gives up partitions after `Revoked` or `Lost`.
    fn unassign(&mut self, partitions: &[TopicPartition]) -> Result<(), BrokerError>;
    /// Stops fetching from partitions. What was fetched and not polled yet is dropped and fetched again later.
    fn pause(&mut self, partitions: &[TopicPartition]) -> Result<(), BrokerError>;
    /// Goes on fetching.
    fn resume(&mut self, partitions: &[TopicPartition]) -> Result<(), BrokerError>;
    /// Moves the position; no record from before the call is delivered after it.
    fn seek(&mut self, at: TopicPartition, offset: i64) -> Result<(), BrokerError>;
    /// What the group has committed, in the order asked. Blocks up to `wait`.
    fn committed(&mut self, partitions: &[TopicPartition], wait: Duration) -> Result<Vec<Committed>, BrokerError>;
    /// The log's bounds. Blocks up to `wait`.
    fn bounds(&mut self, at: TopicPartition, wait: Duration) -> Result<LogBounds, BrokerError>;
    /// How many partitions the topic has now. Blocks up to `wait`.
    fn partition_count(&mut self, topic: u32, wait: Duration) -> Result<i32, BrokerError>;
    /// A handle for commits, for the committer thread.
    fn commits(&self) -> Box<dyn Commits>;
    /// High watermarks that the broker last told of, where known: for lag and stall detection. Never blocks.
    fn watermarks(&mut self) -> Vec<(TopicPartition, i64)>;
    /// Tells the topic's log from that of an earlier or later topic of the same name, as far as [`Consumer::partition_count`]
    /// was told; 0 when unknown.
    fn log_of(&self, _topic: u32) -> u64 {
        0
    }
    /// Subscribed topics that were found to be deleted and made anew since this was asked last: what was read of them, and
    /// what is committed, is of another log. Fed by [`Consumer::watermarks`] and [`Consumer::partition_count`]. Never blocks.
    fn made_anew(&mut self) -> Vec<u32> {
        Vec::new()
    }
    /// Writes records and this consumer's offsets in transactions, under `id`; see [`Transactions`]. `topics` are those it
    /// writes to.
    fn transactions(&self, id: &str, topics: &[&str]) -> Result<Box<dyn Transactions>, BrokerError>;
    /// Asks to leave the group; `Revoked` follows from `poll`, and after its `unassign` the consumer may be dropped.
    fn leave(&mut self);
}

/// Commits offsets for the consumer it came from.
pub trait Commits: Send {
    /// Sends a commit and returns. Its result comes out of [`Commits::finished`] once; the consumer must be polled meanwhile.
    fn start(&mut self, offsets: &[OffsetCommit]) -> Result<(), BrokerError>;
    /// The result of the commit started last, once it is there.
    fn finished(&mut self) -> Option<Result<(), BrokerError>>;
    /// Commits and waits for the answer, at most `wait`: for revoke and shutdown, when nobody polls.
    fn now(&mut self, offsets: &[OffsetCommit], wait: Duration) -> Result<(), BrokerError>;
}

/// A record to produce, borrowed from whoever stages it.
#[derive(Debug, Clone, Copy)]
pub struct Produce<'a> {
    /// Topic name.
    pub topic: &'a str,
    /// `None`: the partitioner decides by the key.
    pub partition: Option<i32>,
    /// `None` is null.
    pub key: Option<&'a [u8]>,
    /// `None` is null.
    pub value: Option<&'a [u8]>,
    /// Names and values, in order.
    pub headers: &'a [(&'a [u8], Option<&'a [u8]>)],
    /// `None`: now.
    pub timestamp_ms: Option<i64>,
}

/// Why a record was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// This record will never be taken here (too large, invalid for the topic): the message's own failure.
    Undeliverable(String),
    /// The topic or the broker refuses or can't be reached: to be tried again.
    Blocked(String),
    /// This producer is of no use any more (fenced by a newer one, or a fatal error): make a new one.
    Fenced(String),
}

/// Writes records. One thread owns it.
pub trait Producer: Send {
    /// Queues a record. `token` comes back with its delivery report. `false`: the queue is full, call [`Producer::poll`]
    /// and try again.
    fn send(&mut self, record: &Produce<'_>, token: u64) -> Result<bool, Refusal>;
    /// Collects delivery reports into `reports`: token and result. Waits at most `wait` for the first.
    fn poll(&mut self, wait: Duration, reports: &mut Vec<(u64, Result<(), Refusal>)>);
    /// How many records are queued or in flight.
    fn in_flight(&self) -> usize;
    /// What stands in the way of delivery, told once: an outage is waited for, not reported record by record.
    fn trouble(&mut self) -> Option<BrokerError> {
        None
    }
}

/// Writes records and the offsets of a consumer's group in transactions, one after the other: what one holds becomes
/// visible together, or not at all. One thread owns it; no call blocks for long, ends come out of
/// [`Transactions::finished`].
///
/// Before the first record, and after every failure, it must be renewed. A transaction begins with its first record or
/// with its commit. A record is reported as with any producer: that it is written, not that it is visible.
pub trait Transactions: Producer {
    /// Takes the id over with a new producer: whoever wrote under it before is fenced, what was left open is aborted, and
    /// what is said of the group's offsets afterwards is decided. What this producer has under way is given up: neither
    /// its reports nor the end of its commit come any more.
    fn renew(&mut self);
    /// Commits all records since the last commit, together with these offsets; there must be one at least, since without
    /// an offset nobody looks whether this member still owns what it acts for. Only when all records are reported.
    fn commit(&mut self, offsets: Vec<OffsetCommit>);
    /// Partitions of the commit under way are this member's no more: its offsets must not be sent any more in the name of a
    /// generation that came later. What is sent already is judged by the group.
    fn disown(&mut self);
    /// The end of what was begun last, once it is there. An error says that nothing is known of what was begun
    /// ([`BrokerErrorKind::Fatal`]: the id is somebody else's; [`BrokerErrorKind::Superseded`]: the group has moved on).
    fn finished(&mut self) -> Option<Result<Finished, BrokerError>>;
}

/// What [`Transactions`] came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finished {
    /// It may write.
    Renewed,
    /// The transaction is committed.
    Committed {
        /// A request of it was sent more than once. The first one may still be under way, and a broker that does not tell
        /// transactions of one producer apart may take it for one of the next: renew first.
        resent: bool,
    },
}

/// An error of the broker or of the connection to it, told so that a person can act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerError {
    /// What should happen next.
    pub kind: BrokerErrorKind,
    /// What happened, where, and the cure where one is known.
    pub message: String,
}

/// Error kinds, named by what the caller does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BrokerErrorKind {
    /// Try again; it may pass (no broker, time-out).
    Retry,
    /// The group moved on without this member, or is about to: the operation must not be repeated as it was.
    Superseded,
    /// A person must act (wrong password, missing rights, missing topic).
    Operator,
    /// This client is of no use any more and must be made anew.
    Fatal,
}

/// Why a group's offsets can't be put down from outside.
pub(crate) fn has_members(group: &str) -> String {
    format!(
        "the group {group:?} has members: stop every process that runs it first (one that was killed counts until its session \
         is over)"
    )
}

/// An error that a person must act on.
pub(crate) fn operator(message: impl Into<String>) -> BrokerError {
    BrokerError { kind: BrokerErrorKind::Operator, message: message.into() }
}

impl std::fmt::Display for BrokerError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for BrokerError {}
