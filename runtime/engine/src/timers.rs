//! Timers: what is written of them, and what is known of those that are committed.
//!
//! A timer is a message to the key that set it, later, in that key's order. It is a change of state under a key of its own
//! kind, so it is staged, committed, undone and restored as state is: it takes effect with the message that set it, or not at
//! all. When it is due by the wall clock of its partition's owner it joins its lane, behind all that is there, and what it does
//! is committed together with its deletion.
//!
//! # Records
//! A record's key is that of state (see [`state`](crate::state)) with another first byte: [`OF_KEY`], the order key's length, the
//! order key and the timer's name; or [`OF_TASK`] and the name. Its value is that of state; in it stands [`VERSION`], when it is
//! due, the offset of the message that set it, how many timers of its chain fired before it, that message's key, its headers of
//! tracing and the payload; all numbers little-endian. The format is frozen: another one gets another first byte.

pub use crate::bytes::Header;
use crate::bytes::{self, Bytes, Torn};
use crate::message::Partition;
use crate::state::{Change, Entry, Owner};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::hash::BuildHasher;
use foldhash::fast::FixedState;

/// First byte of a record's key: a timer of an order key.
pub const OF_KEY: u8 = 3;
/// First byte of a record's key: a timer of a task.
pub const OF_TASK: u8 = 4;
/// First byte of a value.
pub const VERSION: u8 = 1;
/// So many bytes a timer holds beside key, name, payload and headers.
pub const FIXED_BYTES: usize = 64;

/// A timer as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timer<'a> {
    /// When it is due: milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// The offset of the message that set it, or that set the first of its chain.
    pub offset: i64,
    /// How many timers fired since that message, each of which set the next.
    pub hops: u32,
    /// That message's key.
    pub key: Option<&'a [u8]>,
    /// Headers that it takes along.
    pub headers: Vec<Header<'a>>,
    /// What is delivered.
    pub payload: &'a [u8],
}

/// It is no timer that this version can read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unreadable;

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it is no timer, or one of a later version")
    }
}

impl From<Torn> for Unreadable {
    fn from(_: Torn) -> Self {
        Self
    }
}

impl<'a> Timer<'a> {
    /// As the value of state under its key.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(FIXED_BYTES + self.key.map_or(0, <[u8]>::len) + self.payload.len());
        out.push(VERSION);
        out.extend_from_slice(&self.at_ms.to_le_bytes());
        out.extend_from_slice(&self.offset.to_le_bytes());
        out.extend_from_slice(&self.hops.to_le_bytes());
        bytes::put(&mut out, self.key);
        bytes::put_headers(&mut out, &self.headers);
        out.extend_from_slice(self.payload);
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
        let hops = u32::from_le_bytes(rest.array()?);
        let key = rest.field()?;
        let headers = rest.headers()?;
        Ok(Self { at_ms, offset, hops, key, headers, payload: rest.0 })
    }

    /// When this value is due, where nothing else of it matters.
    #[must_use]
    pub fn due_ms(value: &[u8]) -> Option<i64> {
        let (version, rest) = value.split_first()?;
        (*version == VERSION).then(|| Some(i64::from_le_bytes(*rest.first_chunk()?)))?
    }
}

/// A change that is committed, for a shard: it needs no values, but of timers when they are due.
#[must_use]
pub fn bare(change: &Change) -> Change {
    let due = |entry: &Entry| Entry { value: Arc::from(&entry.value[..entry.value.len().min(9)]), expires_ms: None };
    let entry = change.entry.as_ref().filter(|_| is_timer(&change.key)).map(due);
    Change { key: change.key.clone(), entry, number: change.number }
}

/// Whether a record of state with this key is a timer.
#[must_use]
pub fn is_timer(key: &[u8]) -> bool {
    matches!(key.first(), Some(&(OF_KEY | OF_TASK)))
}

/// Whose timers are those of this owner of state.
#[must_use]
pub fn owner(of: &Owner) -> Owner {
    of.with_kind(|kind| if kind == crate::state::OF_TASK { OF_TASK } else { OF_KEY })
}

/// What stands for a timer where a message has an offset ([`Ticket::offset`](crate::message::Ticket::offset)): below -1, and
/// another one for each key and value, but for chance.
#[must_use]
pub fn number(key: &[u8], value: &[u8]) -> i64 {
    let hash = FixedState::with_seed(0).hash_one((key, value));
    -2 - (hash >> 2).cast_signed()
}

/// Whether this is a [`number`].
#[must_use]
pub const fn is_number(offset: i64) -> bool {
    offset < -1
}

/// A timer that is due: when, and its record's key. Ordered as they are to join their lanes.
pub type Due = (i64, Arc<[u8]>);

/// A timer, read to be run.
#[derive(Debug)]
pub struct Loaded<M> {
    /// See [`number`].
    pub number: i64,
    /// The lane of its order key.
    pub lane: u64,
    /// Bytes it holds in memory.
    pub size: u32,
    /// When it is due.
    pub at_ms: i64,
    /// What is delivered.
    pub message: M,
}

/// Timers that are committed, by this process or by whoever had the task before.
pub trait Timers<M>: fmt::Debug {
    /// Those that are due at `until_ms` or before, in order, behind `after`; at most `most`.
    fn due(&self, task: Partition, after: Option<&Due>, until_ms: i64, most: usize) -> Vec<Due>;

    /// When the next one is due, later than `after_ms`.
    fn next_due(&self, task: Partition, after_ms: i64) -> Option<i64>;

    /// The lane of the timer with this record's key.
    fn lane(&self, task: Partition, key: &[u8]) -> u64;

    /// The timer under this record's key, if it is still there.
    fn load(&self, task: Partition, key: &[u8]) -> Option<Loaded<M>>;
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::order::OrderKey;

    #[test]
    fn what_is_written_is_read_and_what_is_cut_is_not() {
        let headers = alloc::vec![(&b"traceparent"[..], Some(&b"00"[..])), (b"x", None)];
        for key in [None, Some(&b"k"[..])] {
            let timer = Timer { at_ms: -5, offset: 7, hops: 3, key, headers: headers.clone(), payload: b"value" };
            let written = timer.encode();
            assert_eq!(Timer::decode(&written), Ok(timer));
            let fixed = written.len() - 5;
            assert!((0..fixed).all(|end| Timer::decode(&written[..end]) == Err(Unreadable)));
            assert_eq!(Timer::decode(&[&[VERSION + 1], &written[1..]].concat()), Err(Unreadable));
            assert_eq!(Timer::due_ms(&written), Some(-5));
            assert!((0..9).all(|end| Timer::due_ms(&written[..end]).is_none()));
        }
    }

    #[test]
    fn a_shard_learns_of_a_committed_timer_when_it_is_due_and_of_state_that_it_changed() {
        let (key, headers) = (None, Vec::new());
        let value: Arc<[u8]> = Timer { at_ms: 7, offset: 1, hops: 0, key, headers, payload: b"long" }.encode().into();
        let entry = Some(Entry { value, expires_ms: Some(3) });
        let change = |kind: u8, entry| Change { key: Arc::from([kind, b'n']), entry, number: 5 };
        let told = bare(&change(OF_TASK, entry.clone()));
        assert_eq!(told.entry.as_ref().and_then(|entry| Timer::due_ms(&entry.value)), Some(7));
        assert_eq!((told.number, told.entry.map(|entry| entry.value.len())), (5, Some(9)));
        for (kind, entry) in [(OF_TASK, None), (crate::state::OF_TASK, entry)] {
            assert_eq!(bare(&change(kind, entry)), change(kind, None));
        }
    }

    #[test]
    fn timers_stand_apart_from_state_and_have_numbers_below_all_offsets() {
        for key in [OrderKey::Key(b"k"), OrderKey::Partition] {
            let state = Owner::of(key).unwrap();
            let timers = owner(&state);
            assert!(is_timer(&timers.key("n")) && !is_timer(&state.key("n")));
            assert_eq!(timers.prefix()[1..], state.prefix()[1..]);
        }
        let number = |key: &str, value: &str| super::number(key.as_bytes(), value.as_bytes());
        assert!((0..1_000).all(|n| number("k", &alloc::format!("{n}")) < -1));
        assert_eq!(number("k", "v"), number("k", "v"));
        assert_ne!(number("k", "v"), number("k", "w"));
    }
}
