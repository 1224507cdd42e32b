//! What goes into a call and what comes out of it.

use crate::record::Record;
use std::sync::Arc;

/// What an instance is told when it opens, and where its sends may go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Setup {
    /// The pipeline's name; also stands in every line that the handler logs.
    pub handler: String,
    /// Input topics; [`crate::record::TopicPartition::topic`] is an index into this list.
    pub topics: Vec<String>,
    /// The consumer group.
    pub group: String,
    /// Names of the outputs; [`Send::output`] is an index into this list.
    pub outputs: Vec<String>,
    /// The manifest's `[config]`.
    pub config: Vec<(String, String)>,
    /// The most messages that a call will carry.
    pub max_batch: u32,
}

/// One message of a batch. Its index in the batch is its slot.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The record, shared with whoever holds it until it is settled.
    pub record: Arc<Record>,
    /// 1 on the first run.
    pub attempt: u32,
    /// An earlier message of this key was dead-lettered or discarded.
    pub follows_dead_letter: bool,
}

/// What a handler made of one message.
#[derive(Debug, Clone, PartialEq)]
pub struct SlotResult {
    /// What the handler decided.
    pub outcome: Outcome,
    /// What it staged, in order. Empty unless the outcome is [`Outcome::Done`] or [`Outcome::Skip`].
    pub sends: Vec<Send>,
    /// Bytes of `sends`: keys, values, header names and values.
    pub staged_bytes: usize,
}

/// A handler's decision on one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Handled.
    Done,
    /// Filtered out on purpose.
    Skip,
    /// To be tried again.
    Retry {
        /// Why it failed.
        failure: Failure,
        /// The delay that the handler asks for; `None`: the retry policy's own.
        delay_ms: Option<u64>,
        /// The cause lies outside the message: it feeds the circuit breaker and costs no attempt.
        outage: bool,
    },
    /// Never to be tried again.
    DeadLetter(Failure),
    /// The same, after a send was refused that passed `limits.outputs` or `limits.output-bytes`.
    Oversized(Failure),
}

/// Why a message failed, in the handler's words, made safe for headers, labels and logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// At most 64 bytes of printable ASCII; `unspecified` where the handler gave none.
    pub code: String,
    /// At most 4 KiB, cut at a character's boundary, without control characters (a line break becomes a space).
    pub detail: String,
}

/// A header's name and value; `None` is null.
pub type Header = (Box<str>, Option<Box<[u8]>>);

/// A record that a handler wants sent when its message settles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Send {
    /// Index into [`Setup::outputs`].
    pub output: u32,
    /// `None` is null.
    pub key: Option<Box<[u8]>>,
    /// `None` is a tombstone.
    pub value: Option<Box<[u8]>>,
    /// Names and values, in order.
    pub headers: Vec<Header>,
    /// Also copy the message's own headers.
    pub forward_headers: bool,
    /// Milliseconds since the Unix epoch; `None`: the message's own.
    pub timestamp_ms: Option<i64>,
}
