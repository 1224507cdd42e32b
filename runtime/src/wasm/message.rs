//! What goes into a call and what comes out of it.

use super::effects::Effects;
use crate::record::Record;
use keyrail_engine::policy::Order;
use keyrail_engine::state::Kept;
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
    /// Which key a message's state belongs to.
    pub order: Order,
    /// It may set timers.
    pub timers: bool,
    /// What is read of state is noted: [`super::Instance::take_reads`].
    pub record: bool,
    /// The longest that it may delay what it sends, in milliseconds; `None`: it may not.
    pub longest_delay_ms: Option<u64>,
}

/// State of handlers, lent to a call; see [`keyrail_engine::state`].
#[derive(Debug)]
pub struct State {
    /// What is not committed, and what the call stages.
    pub call: keyrail_engine::state::Call,
    /// What is committed.
    pub kept: Arc<dyn Kept + Send + Sync>,
}

/// A timer that is delivered. The delivery's record has its payload as value, and place, key and tracing of the message that
/// set it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fired {
    /// What the handler called it.
    pub name: String,
    /// How many timers fired before it since that message, each of which set the next.
    pub hops: u32,
}

/// One message of a batch. Its index in the batch is its slot.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The record, shared with whoever holds it until it is settled.
    pub record: Record,
    /// It is a timer.
    pub timer: Option<Arc<Fired>>,
    /// 1 on the first run.
    pub attempt: u32,
    /// An earlier message of this key was dead-lettered or discarded.
    pub follows_dead_letter: bool,
}

/// What came of a batch.
#[derive(Debug)]
pub struct Answer {
    /// One for each message, in order.
    pub outcomes: Vec<Outcome>,
    /// What was staged. Only what the slots of [`Outcome::Done`] and [`Outcome::Skip`] staged is meant to stand.
    pub effects: Effects,
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
