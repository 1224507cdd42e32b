//! What the commands (`send`, `tail`, `lag`, `topics`, ...) ask of a broker, whichever it is.
//!
//! Synchronous, for one thread. A call that gets no answer fails with [`super::BrokerErrorKind::Retry`] after
//! [`ANSWER_WAIT`]. Topics are told by name here; only what is read in bulk uses the index into a list, as
//! [`super::Consumer`] does.

use super::{BrokerError, Committed, LogBounds, OffsetCommit, Produce, Refusal, Transactions, operator};
use crate::record::{Record, TopicPartition};
use std::time::Duration;

/// How long a call waits for the broker's answer.
pub const ANSWER_WAIT: Duration = Duration::from_secs(10);

/// A topic that exists.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// How many partitions it has, at least 1.
    pub partitions: i32,
}

/// A topic to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name: as Kafka allows it, 1 to 249 letters, digits, `.`, `_` and `-`.
    pub name: String,
    /// How many partitions; `None` takes the broker's default.
    pub partitions: Option<i32>,
    /// Settings by Kafka's names, such as `cleanup.policy` and `retention.ms`. What is not named is the broker's default.
    pub settings: Vec<(String, String)>,
}

/// Questions and orders of a command. Needs no group and joins none.
pub trait Client: Send {
    /// What it speaks to, for messages: the brokers' address or the folder.
    fn place(&self) -> String;

    /// All topics that this user may see, by name in order.
    fn topics(&mut self) -> Result<Vec<Topic>, BrokerError>;

    /// How many partitions a topic has, asked by its name: a list may be older, or lack what this user may not see. `None`: there is
    /// none of that name.
    ///
    /// # Errors
    /// Also where this user may not know: [`super::BrokerErrorKind::Operator`].
    fn partitions_of(&mut self, topic: &str) -> Result<Option<i32>, BrokerError> {
        Ok(self.topics()?.into_iter().find(|there| there.name == topic).map(|there| there.partitions))
    }

    /// Tells a topic's log from that of an earlier or later topic of the same name, and from one of another broker; 0 where
    /// that can't be told, or there is no such topic.
    fn log_of(&mut self, topic: &str) -> Result<u64, BrokerError>;

    /// A topic's settings by Kafka's names, defaults included, by name in order. A topic that is not there is an
    /// [`super::BrokerErrorKind::Operator`] error.
    fn settings(&mut self, topic: &str) -> Result<Vec<(String, String)>, BrokerError>;

    /// Creates a topic, and returns when it can be written and read. `false`: there is one of that name, which is left as
    /// it is.
    fn create_topic(&mut self, topic: &NewTopic) -> Result<bool, BrokerError>;

    /// The bounds of partitions of one topic, in the order asked.
    fn bounds(&mut self, topic: &str, partitions: &[i32]) -> Result<Vec<LogBounds>, BrokerError>;

    /// For partitions of one topic, in the order asked: the offset of the first record whose timestamp is `time_ms` or
    /// later, or the log's end where there is none.
    fn offsets_at(&mut self, topic: &str, partitions: &[i32], time_ms: i64) -> Result<Vec<i64>, BrokerError>;

    /// Reads partitions from the offsets given, without a group. [`TopicPartition::topic`] is the index into `topics`, as
    /// in the records that come out. The reader has connections of its own: it and the client may be used in turns, and
    /// either may be dropped first.
    fn read(&mut self, topics: &[String], starts: &[(TopicPartition, i64)]) -> Result<Box<dyn Reader>, BrokerError>;

    /// Writes records and waits until each is acknowledged (durable) or refused; results are in the order given. Records
    /// of one partition are written in the order given, as long as none is refused. An error means that nothing is known
    /// of what became of them: some may have been written.
    fn produce(&mut self, records: &[Produce<'_>]) -> Result<Vec<Result<(), Refusal>>, BrokerError>;

    /// The names of all consumer groups that have committed offsets or members, in order.
    fn groups(&mut self) -> Result<Vec<String>, BrokerError>;

    /// What a group has committed, in the order asked. A group that nobody knows has committed nothing, and is no error.
    fn committed(
        &mut self,
        group: &str,
        topics: &[String],
        partitions: &[TopicPartition],
    ) -> Result<Vec<Committed>, BrokerError>;

    /// Puts a group's offsets down, which must have no member: an [`super::BrokerErrorKind::Superseded`] error says that it
    /// has. All of them or, on a broker that does not know better, some.
    fn commit(&mut self, group: &str, topics: &[String], offsets: &[OffsetCommit]) -> Result<(), BrokerError>;

    /// Writes records, and offsets of a group that has no member, in transactions; see [`Transactions`]. Whoever renews `id`
    /// last may write: that, and no membership, keeps two apart. `topics` is what the offsets' [`TopicPartition::topic`] is an
    /// index into, `written` names the topics that records go to.
    fn transactions(
        &mut self,
        id: &str,
        group: &str,
        topics: &[String],
        written: &[&str],
    ) -> Result<Box<dyn Transactions>, BrokerError>;
}

/// The name of a partition's topic in such a list.
pub(super) fn name_of(topics: &[String], at: TopicPartition) -> Result<&String, BrokerError> {
    let none = || operator(format!("topic index {} is none of the list of {}", at.topic, topics.len()));
    topics.get(at.topic as usize).ok_or_else(none)
}

/// Reads partitions side by side, each in the order of its offsets.
pub trait Reader: Send {
    /// Appends records to `records`, some hundreds or thousands of them; waits at most `wait` for the first. None appended:
    /// nothing came. Where retention took what was to be read next, it goes on with what is there, so a jump of offsets is
    /// no error.
    fn next(&mut self, wait: Duration, records: &mut Vec<Record>) -> Result<(), BrokerError>;

    /// Whether all of a partition below `end` that can be read now has come out of [`Reader::next`]: the rest is gone, no
    /// record at all (markers of transactions), or of a transaction that is still open.
    fn has_passed(&self, at: TopicPartition, end: i64) -> bool;

    /// The offset that is looked for next: all below it has come out of [`Reader::next`], is gone, was taken back, or was
    /// no record at all. Unlike [`Reader::has_passed`] this waits for a transaction that is still open. `None`: the partition
    /// is not read here.
    fn position(&self, at: TopicPartition) -> Option<i64>;
}
