//! Messages to run.

use super::Timer;
use crate::message::{Header, Message, Source};
use crate::send::Payload;

/// A message to run: a value, and what else the test wants to say. Text and bytes turn into one by themselves.
#[derive(Clone, Debug)]
pub struct Input {
    source: Source,
    partition: u32,
    pub(super) offset: Option<u64>,
    timestamp_ms: Option<i64>,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    attempt: u32,
    pub(super) headers: Vec<Header>,
    pub(super) follows_dead_letter: bool,
}

impl Input {
    /// A message with this value, without a key, on its first attempt, at the next offset of partition 0 of the first
    /// topic.
    pub fn new<'a>(value: impl Payload<'a>) -> Self {
        Input {
            source: Source::Topic(0),
            partition: 0,
            offset: None,
            timestamp_ms: None,
            key: None,
            value: value.into_payload().map(Into::into),
            attempt: 1,
            headers: Vec::new(),
            follows_dead_letter: false,
        }
    }

    /// Sets the key.
    #[must_use]
    pub fn key<'a>(mut self, key: impl Payload<'a>) -> Self {
        self.key = key.into_payload().map(Into::into);
        self
    }

    /// Adds a header.
    #[must_use]
    pub fn header<'a>(mut self, name: &str, value: impl Payload<'a>) -> Self {
        self.headers.push(Header { name: name.to_owned(), value: value.into_payload().map(Into::into) });
        self
    }

    /// Chooses the topic, by its index in [`Host::topics`](super::Host::topics).
    #[must_use]
    pub fn topic(mut self, index: u32) -> Self {
        self.source = Source::Topic(index);
        self
    }

    /// Sets where the message was read.
    #[must_use]
    pub fn position(mut self, partition: u32, offset: u64) -> Self {
        (self.partition, self.offset) = (partition, Some(offset));
        self
    }

    /// Sets the timestamp; it is the host's time otherwise.
    #[must_use]
    pub fn timestamp_ms(mut self, timestamp_ms: i64) -> Self {
        self.timestamp_ms = Some(timestamp_ms);
        self
    }

    /// Sets which run of the message this is.
    #[must_use]
    pub fn attempt(mut self, attempt: u32) -> Self {
        self.attempt = attempt;
        self
    }

    /// Says that an earlier message of this key was dead-lettered.
    #[must_use]
    pub fn follows_dead_letter(mut self) -> Self {
        self.follows_dead_letter = true;
        self
    }

    pub(super) fn message(&self, offset: u64, now_ms: i64) -> Message {
        Message {
            source: self.source.clone(),
            partition: self.partition,
            offset,
            timestamp_ms: self.timestamp_ms.unwrap_or(now_ms),
            key: self.key.clone(),
            value: self.value.clone(),
            attempt: self.attempt,
        }
    }
}

impl<'a, P: Payload<'a>> From<P> for Input {
    fn from(value: P) -> Self {
        Input::new(value)
    }
}

impl From<&Timer> for Input {
    fn from(timer: &Timer) -> Self {
        Input {
            source: Source::Timer(timer.name.clone()),
            partition: timer.partition,
            offset: Some(timer.offset),
            timestamp_ms: Some(timer.at_ms),
            key: Some(timer.key.clone()),
            ..Input::new(&timer.payload)
        }
    }
}
