//! What goes into a scenario, and what comes of it.

use super::Alarm;
use crate::http::{Fetched, Request};
use crate::replay::{Change, Sent, Verdict};
use keyrail_engine::message::{Epitaph, Failure};
use keyrail_engine::policy::Spent;

/// A message to be given.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Input {
    /// The index of the input topic.
    pub topic: u32,
    /// In which partition of it.
    pub partition: i32,
    /// `None` is null.
    pub key: Option<Vec<u8>>,
    /// `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Names and values, in order.
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// Milliseconds since the Unix epoch; `None`: now.
    pub timestamp_ms: Option<i64>,
}

/// What a request is answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// Of the request: `GET`.
    pub method: String,
    /// Of the request, to the letter.
    pub url: String,
    /// The answer.
    pub fetched: Fetched,
}

/// Where a message stands; of a timer, that of the message that set it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The index of the input topic.
    pub topic: u32,
    /// Of that topic.
    pub partition: i32,
    /// In that partition.
    pub offset: i64,
}

/// Something that came of a scenario.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When, in milliseconds from the scenario's start.
    pub at_ms: u64,
    /// What.
    pub what: What,
}

/// See [`Event`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A message ran, or was settled without.
    Message(Told),
    /// A delayed send goes out.
    Goes(Sent),
}

/// What came of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Which.
    pub place: Place,
    /// It is this timer.
    pub timer: Option<String>,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Runs that counted, this one included; 0: it did not run.
    pub attempt: u32,
    /// The HTTP requests of its run, in order, as they would be sent.
    pub requests: Vec<Request>,
    /// What its run came to in the handler's own words; `None`: it did not run.
    pub said: Option<Verdict>,
    /// What.
    pub end: End,
}

/// See [`Told`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// Done, or skipped.
    Stands {
        /// Filtered out on purpose.
        skipped: bool,
        /// What is sent, with all its headers.
        sends: Vec<Sent>,
        /// The same later: after so many milliseconds.
        later: Vec<(u64, Sent)>,
        /// State first, by name.
        changes: Vec<Change>,
    },
    /// It runs again.
    Retry {
        /// Why it failed.
        failure: Failure,
        /// After so many milliseconds.
        wait_ms: u64,
    },
    /// It is given up: dead-lettered, held (`retry.then = "hold"`) or discarded.
    GivenUp(Spent, Box<Epitaph>),
    /// It is dead-lettered unrun, with the one before it (`retry.then = "dead-letter-key"`).
    Follows(Place),
    /// Its id was seen before.
    Duplicate,
}

/// What a scenario has left undone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pending {
    /// A timer that is set, due so many milliseconds after the scenario's start.
    Timer(Alarm, i64),
    /// A delayed send, the same.
    Later(u64, Sent),
    /// A message that is held, or waits behind one.
    Message {
        /// Which; of a timer the message that set it.
        place: Place,
        /// It is this timer.
        timer: Option<String>,
        /// Its key.
        key: Option<Vec<u8>>,
    },
}
