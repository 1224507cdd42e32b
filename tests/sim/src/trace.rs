//! What happened, as a hash always and as text when asked for.

use std::fmt;

/// One thing that happened.
#[derive(Debug, Clone, Copy)]
pub struct Event {
    /// Virtual steady time in milliseconds.
    pub at_ms: u64,
    /// Which worker, or the broker.
    pub who: Who,
    /// What.
    pub what: &'static str,
    /// Which input partition, where one is meant.
    pub partition: Option<u16>,
    /// Which offset of it.
    pub offset: Option<i64>,
    /// More, by kind.
    pub info: i64,
    /// More, in words.
    pub detail: &'static str,
}

/// Whose event it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// The broker, the group, a producer outside.
    Broker,
    /// A worker of this number.
    Worker(u8),
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>8} ms  ", self.at_ms)?;
        match self.who {
            Who::Broker => write!(f, "broker    ")?,
            Who::Worker(number) => write!(f, "worker {number}  ")?,
        }
        write!(f, "{:<24}", self.what)?;
        if let Some(partition) = self.partition {
            write!(f, " partition {partition}")?;
        }
        if let Some(offset) = self.offset {
            write!(f, " offset {offset}")?;
        }
        if self.info != 0 {
            write!(f, "  ({})", self.info)?;
        }
        if !self.detail.is_empty() {
            write!(f, "  {}", self.detail)?;
        }
        Ok(())
    }
}

/// The run's record. Hashing is always on: two runs of a seed must agree in it.
#[derive(Debug, Default)]
pub struct Trace {
    hash: u64,
    kept: Option<Vec<Event>>,
}

impl Trace {
    /// A trace that also keeps its events, when `keep` says so.
    #[must_use]
    pub fn new(keep: bool) -> Self {
        Self { hash: 0, kept: keep.then(Vec::new) }
    }

    /// Notes an event.
    pub fn note(&mut self, event: Event) {
        let who = match event.who {
            Who::Broker => 255,
            Who::Worker(number) => u64::from(number),
        };
        let name = name_hash(event.what);
        for part in [
            event.at_ms,
            who ^ name ^ name_hash(event.detail).rotate_left(17),
            event.partition.map_or(u64::MAX, u64::from),
            event.offset.unwrap_or(-1) as u64,
            event.info as u64,
        ] {
            self.hash = (self.hash.rotate_left(5) ^ part).wrapping_mul(0x517c_c1b7_2722_0a95);
        }
        if let Some(kept) = &mut self.kept {
            kept.push(event);
        }
    }

    /// The hash of all that happened.
    #[must_use]
    pub const fn hash(&self) -> u64 {
        self.hash
    }

    /// All events, when they were kept.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        self.kept.as_deref().unwrap_or_default()
    }

    /// The last `most` events that touch a message: its own, and those of its partition as a whole.
    #[must_use]
    pub fn about(&self, partition: Option<u16>, offset: Option<i64>, most: usize) -> Vec<Event> {
        let touches = |e: &&Event| {
            let fault = !e.detail.is_empty();
            let same = partition.is_none() || e.partition == partition;
            fault || same && (offset.is_none() || e.offset.is_none() || e.offset == offset)
        };
        let mut found: Vec<Event> = self.events().iter().filter(touches).copied().collect();
        found.split_off(found.len().saturating_sub(most))
    }
}

/// Hash of the text itself: where it lies in memory must not matter. Names differ in length and in these bytes.
fn name_hash(name: &str) -> u64 {
    let bytes = name.as_bytes();
    let end = bytes.len().saturating_sub(1);
    let at = |i: usize| u64::from(bytes.get(i).copied().unwrap_or(0));
    (bytes.len() as u64) << 32 | at(0) << 24 | at(end) << 16 | at(end / 2) << 8 | at(end / 3)
}
