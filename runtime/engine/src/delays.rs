//! Delayed sends: what is written of them until they go out, and what is known of those that are committed.
//!
//! A delayed send is an effect of a message that is settled: a record for an output, later. Until then it is a change of state
//! under a key of its own kind, so it is staged, committed, undone and restored as state is: it takes effect with its message, or
//! not at all. It is of no lane: when it is due the ledger itself sends it, in a transaction that deletes its entry
//! ([`Pipeline::next_delayed`](crate::pipeline::Pipeline::next_delayed)).
//!
//! # Records
//! A record's key is [`DELAYED`] and the [`name`]. Its value is that of [state](crate::state); in it stands [`VERSION`], when it is
//! due, the offset of the message that sent it, whether it has a timestamp and that, the output's name, key and value, and the
//! headers; all numbers little-endian. The format is frozen: another one gets another first byte.

use crate::bytes::{self, Bytes, Torn};
use crate::message::Partition;
use crate::state::{Change, Entry, Owner};
use crate::timers::{Due, Header};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

/// First byte of a record's key.
pub const DELAYED: u8 = 5;
/// First byte of a value.
pub const VERSION: u8 = 1;
/// So long is a delay at most: a leap year, in milliseconds.
pub const MAX_DELAY_MS: u64 = 366 * 24 * 3_600_000;
/// So many bytes of a value are no part of output, key, value or headers. Each of these has [`FIELD_BYTES`] more.
pub const FIXED_BYTES: usize = 30;
/// The length of a field, which is written before it.
pub const FIELD_BYTES: usize = 4;

/// A delayed send as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delayed<'a> {
    /// When it is due, milliseconds since the Unix epoch; until its message is published the delay.
    pub at_ms: i64,
    /// The offset of the message that sent it; of a timer's run that of the message that set the timer.
    pub offset: i64,
    /// The output's name in the manifest.
    pub output: &'a str,
    /// `None` is null.
    pub key: Option<&'a [u8]>,
    /// `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// All that it takes along.
    pub headers: Vec<Header<'a>>,
    /// Milliseconds since the Unix epoch; `None`: the broker's time.
    pub timestamp_ms: Option<i64>,
}

/// It is no delayed send that this version can read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unreadable;

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it is no delayed send, or one of a later version")
    }
}

impl From<Torn> for Unreadable {
    fn from(_: Torn) -> Self {
        Self
    }
}

impl<'a> Delayed<'a> {
    /// As the value of state under its key.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let length = |field: Option<&[u8]>| FIELD_BYTES + field.map_or(0, <[u8]>::len);
        let headers: usize = self.headers.iter().map(|(name, value)| length(Some(name)) + length(*value)).sum();
        let fields = length(Some(self.output.as_bytes())) + length(self.key) + length(self.value);
        let mut out = Vec::with_capacity(FIXED_BYTES + fields + headers);
        out.push(VERSION);
        out.extend_from_slice(&self.at_ms.to_le_bytes());
        out.extend_from_slice(&self.offset.to_le_bytes());
        out.push(u8::from(self.timestamp_ms.is_some()));
        out.extend_from_slice(&self.timestamp_ms.unwrap_or(0).to_le_bytes());
        bytes::put(&mut out, Some(self.output.as_bytes()));
        bytes::put(&mut out, self.key);
        bytes::put(&mut out, self.value);
        bytes::put_headers(&mut out, &self.headers);
        out
    }

    /// Reads such a value.
    ///
    /// # Errors
    /// When it is none. Nothing of it may be used then.
    pub fn decode(value: &'a [u8]) -> Result<Self, Unreadable> {
        let mut rest = Bytes(value);
        if rest.take(1)? != [VERSION] {
            return Err(Unreadable);
        }
        let at_ms = i64::from_le_bytes(rest.array()?);
        let offset = i64::from_le_bytes(rest.array()?);
        let timestamp_ms = match (rest.take(1)?, i64::from_le_bytes(rest.array()?)) {
            ([0], 0) => None,
            ([1], timestamp_ms) => Some(timestamp_ms),
            _ => return Err(Unreadable),
        };
        let output = rest.field()?.and_then(|name| core::str::from_utf8(name).ok()).ok_or(Unreadable)?;
        let (key, value) = (rest.field()?, rest.field()?);
        let headers = rest.headers()?;
        let whole = rest.0.is_empty();
        whole.then_some(Self { at_ms, offset, output, key, value, headers, timestamp_ms }).ok_or(Unreadable)
    }

    /// When this value is due, where nothing else of it matters.
    #[must_use]
    pub fn due_ms(value: &[u8]) -> Option<i64> {
        let (version, rest) = value.split_first()?;
        (*version == VERSION).then(|| Some(i64::from_le_bytes(*rest.first_chunk()?)))?
    }
}

/// Whether a record of state with this key is a delayed send.
#[must_use]
pub fn is_delayed(key: &[u8]) -> bool {
    key.first() == Some(&DELAYED)
}

/// What a task's delayed sends stand under, whatever their messages' order keys, if they have any.
#[must_use]
pub fn owner() -> Owner {
    Owner::of_delayed()
}

/// The name of a delayed send. Of those that are due at the same time the one with the lower rank goes first
/// ([`Call::next_rank`](crate::state::Call::next_rank)); `id` tells apart what has the same rank in several shards, and
/// follows from the message and the place among what it sends.
#[must_use]
pub fn name(rank: u64, id: u64) -> String {
    format!("{rank:016x}-{id:016x}")
}

/// Its message is published at this time: from now on its delay counts.
pub(crate) fn publish(change: &mut Change, now_ms: i64) {
    let Some(Entry { value, .. }) = change.entry.as_mut().filter(|_| is_delayed(&change.key)) else { return };
    let Some(delay_ms) = Delayed::due_ms(value) else { return };
    let at_ms = now_ms.saturating_add(delay_ms);
    let mut stamped = value.to_vec();
    stamped[1..9].copy_from_slice(&at_ms.to_le_bytes());
    *value = Arc::from(stamped);
}

/// A delayed send, read to be sent.
#[derive(Debug)]
pub struct Loaded<M> {
    /// What stands for it where a message has an offset; see [`number`](crate::timers::number).
    pub number: i64,
    /// Bytes it holds in memory.
    pub size: u32,
    /// When it is due.
    pub at_ms: i64,
    /// What is sent.
    pub message: M,
    /// Why it can't be sent any more: it becomes a dead letter.
    pub refused: Option<String>,
}

/// Delayed sends that are committed, by this process or by whoever had the task before.
pub trait Delays<M>: fmt::Debug {
    /// Those that are due at `until_ms` or before, in order, behind `after`; at most `most`.
    fn due(&self, task: Partition, after: Option<&Due>, until_ms: i64, most: usize) -> Vec<Due>;

    /// When the next one is due, later than `after_ms`.
    fn next_due(&self, task: Partition, after_ms: i64) -> Option<i64>;

    /// The one under this record's key, if it is still there.
    fn load(&self, task: Partition, key: &[u8]) -> Option<Loaded<M>>;
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::state::{Key, Kind};

    fn delayed<'a>(key: Option<&'a [u8]>, value: Option<&'a [u8]>, timestamp_ms: Option<i64>) -> Delayed<'a> {
        let headers = alloc::vec![(&b"traceparent"[..], Some(&b"00"[..])), (b"x", None)];
        Delayed { at_ms: 5, offset: 7, output: "out", key, value, headers, timestamp_ms }
    }

    #[test]
    fn what_is_written_is_read_and_what_is_cut_or_goes_on_is_not() {
        for (key, value, timestamp_ms) in [(None, None, None), (Some(&b"k"[..]), Some(&b""[..]), Some(-9))] {
            let written = delayed(key, value, timestamp_ms).encode();
            assert_eq!(Delayed::decode(&written), Ok(delayed(key, value, timestamp_ms)));
            assert_eq!(Delayed::due_ms(&written), Some(5));
            assert!((0..written.len()).all(|end| Delayed::decode(&written[..end]) == Err(Unreadable)));
            assert_eq!(Delayed::decode(&[&written[..], &[0]].concat()), Err(Unreadable));
            assert_eq!(Delayed::decode(&[&[VERSION + 1], &written[1..]].concat()), Err(Unreadable));
        }
        let bare = Delayed { headers: Vec::new(), ..delayed(None, None, None) }.encode();
        assert_eq!(bare.len(), FIXED_BYTES + 3 * FIELD_BYTES + "out".len());
    }

    #[test]
    fn they_stand_apart_from_state_in_the_order_of_their_ranks() {
        let key = |rank, id| owner().key(&name(rank, id));
        let read = Key { owner: None, name: "000000000000000a-00000000000000ff", kind: Kind::Delayed };
        assert_eq!(Key::decode(&key(10, 255)), Ok(read));
        assert!(is_delayed(&key(0, 0)) && !is_delayed(b"\x02n"));
        assert!(key(9, u64::MAX) < key(10, 0) && key(255, 0) < key(256, 0));
    }

    #[test]
    fn its_delay_counts_from_when_its_message_is_published() {
        let value = delayed(None, Some(b"v"), None).encode();
        let change = |key: Vec<u8>| Change {
            key: key.into(),
            entry: Some(Entry { value: Arc::from(&value[..]), expires_ms: None }),
            number: 1,
        };
        let (mut sent, mut state) = (change(owner().key("n")), change(b"\x02n".to_vec()));
        publish(&mut sent, 1_000);
        publish(&mut state, 1_000);
        assert_eq!(
            Delayed::decode(&sent.entry.unwrap().value),
            Ok(Delayed { at_ms: 1_005, ..delayed(None, Some(b"v"), None) })
        );
        assert_eq!(&*state.entry.unwrap().value, &value[..], "state is what it is");
    }
}
