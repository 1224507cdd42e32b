//! What arrives.

/// What made this delivery happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A record of the input topic with this index in [`Setup::topics`](crate::Setup::topics).
    Topic(u32),
    /// A timer that the handler set earlier, by its name.
    Timer(String),
}

/// One delivery: a record of an input topic, or a timer that fell due.
///
/// Headers are not part of it: most handlers read none, so they are fetched when asked for, with
/// [`Context::header`](crate::Context::header).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    // The generated bindings build this type, so its fields are the contract's record, name by name.
    pub(crate) source: Source,
    pub(crate) partition: u32,
    pub(crate) offset: u64,
    pub(crate) timestamp_ms: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) attempt: u32,
}

impl Message {
    /// What made this delivery happen.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// The timer's name if a timer made this delivery happen.
    pub fn timer(&self) -> Option<&str> {
        match &self.source {
            Source::Timer(name) => Some(name),
            Source::Topic(_) => None,
        }
    }

    /// The partition where the record was first read, also after parking and redrive; a timer's is that of the message
    /// that set it.
    pub fn partition(&self) -> u32 {
        self.partition
    }

    /// The offset where the record was first read, also after parking and redrive; a timer's is that of the message
    /// that set it.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The record's timestamp in milliseconds since the Unix epoch; a timer's is the time it was set for.
    pub fn timestamp_ms(&self) -> i64 {
        self.timestamp_ms
    }

    /// The record's key; `None` is Kafka's null, which differs from an empty key.
    pub fn key(&self) -> Option<&[u8]> {
        self.key.as_deref()
    }

    /// The record's value, a timer's payload; `None` is a tombstone.
    pub fn value(&self) -> Option<&[u8]> {
        self.value.as_deref()
    }

    /// Which run of this message this is: 1 on the first.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }
}

/// A record's header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its name; names may repeat.
    pub name: String,
    /// Its value; `None` is Kafka's null, which differs from an empty value.
    pub value: Option<Vec<u8>>,
}
