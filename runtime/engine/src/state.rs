//! State of handlers: what it is kept under, how it is written, and what a call sees of it.
//!
//! State belongs to an order key within its task ([`Owner`]), and there to a name. What is committed lies in a compacted
//! topic and in a local store ([`Kept`]); what is settled and of which no commit is known yet, in the shard ([`Overlay`]);
//! what a call stages, in the call ([`Call`]), until it is known which of its messages stand.
//!
//! # Records
//! A record's key is [`OF_KEY`], the order key's length (two bytes, big-endian), the order key and the name; or
//! [`OF_TASK`] and the name, for what belongs to a whole task. So all names of one owner stand together, in byte order.
//! Its value is [`PLAIN`] and the value; or [`EXPIRES`], when it is over (milliseconds since the Unix epoch,
//! little-endian) and the value. A tombstone deletes. The formats are frozen: another one gets another first byte.

mod call;
mod overlay;
pub mod schema;

pub(crate) use call::Staged;
pub use call::{Call, Page, Refused, Write};
pub use overlay::Overlay;

use crate::delays;
use crate::message::Partition;
use crate::order::OrderKey;
use crate::timers;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

/// First byte of a record's key: an order key's state.
pub const OF_KEY: u8 = 1;
/// First byte of a record's key: a task's state.
pub const OF_TASK: u8 = 2;
/// First byte of a record's value: it stays until it is changed.
pub const PLAIN: u8 = 1;
/// First byte of a record's value: it ends by itself.
pub const EXPIRES: u8 = 2;

/// A name has at most so many bytes.
pub const MAX_NAME: usize = 1 << 10;
/// An order key that has state, so many.
pub const MAX_OWNER: usize = 32 << 10;
/// A value, so many.
pub const MAX_VALUE: usize = 512 << 10;
/// So many values come from one scan, at most.
pub const MAX_SCAN: u32 = 1_000;
/// And so many bytes of names and values.
pub const MAX_SCAN_BYTES: usize = 4 << 20;

/// A value, and when it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The value.
    pub value: Arc<[u8]>,
    /// From then on it is not there: milliseconds since the Unix epoch.
    pub expires_ms: Option<i64>,
}

impl Entry {
    /// Whether it is still there.
    #[must_use]
    pub fn lives(&self, now_ms: i64) -> bool {
        self.expires_ms.is_none_or(|end| end > now_ms)
    }
}

/// One change of a task's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// A record's key.
    pub key: Arc<[u8]>,
    /// `None`: it is deleted.
    pub entry: Option<Entry>,
    /// Which of a shard's changes: later ones of a key have higher numbers. 0: nobody's.
    pub number: u64,
}

impl Change {
    /// What it holds in memory, and about what it is as a record.
    #[must_use]
    pub fn size(&self) -> u64 {
        let value = self.entry.as_ref().map_or(0, |e| e.value.len());
        (self.key.len() + value + size_of::<Self>()) as u64
    }
}

/// What is committed, by this process or by whoever had the task before.
pub trait Kept: fmt::Debug {
    /// What stands under a record's key, though it may have ended.
    fn get(&self, task: Partition, key: &[u8]) -> Option<Entry>;

    /// What stands under keys that begin with `prefix` and are greater than `after`, in byte order; none that has ended.
    fn scan(&self, task: Partition, prefix: &[u8], after: &[u8], limit: usize, now_ms: i64) -> Vec<(Arc<[u8]>, Entry)>;
}

/// Nothing is kept.
#[derive(Debug, Clone, Copy, Default)]
pub struct NothingKept;

impl Kept for NothingKept {
    fn get(&self, _: Partition, _: &[u8]) -> Option<Entry> {
        None
    }

    fn scan(&self, _: Partition, _: &[u8], _: &[u8], _: usize, _: i64) -> Vec<(Arc<[u8]>, Entry)> {
        Vec::new()
    }
}

/// Whose state it is: what a record's key begins with.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner(Vec<u8>);

impl Owner {
    /// Whose state a message with this order key may touch.
    ///
    /// # Errors
    /// When it has none, or one that is longer than [`MAX_OWNER`].
    pub fn of(key: OrderKey<'_>) -> Result<Self, Refused> {
        match key {
            OrderKey::Free => Err(Refused::NoKey),
            OrderKey::Partition => Ok(Self([OF_TASK].to_vec())),
            OrderKey::Key(key) if key.len() > MAX_OWNER => Err(Refused::TooLarge),
            OrderKey::Key(key) => {
                let mut prefix = Vec::with_capacity(3 + key.len());
                prefix.push(OF_KEY);
                prefix.extend_from_slice(&(key.len() as u16).to_be_bytes());
                prefix.extend_from_slice(key);
                Ok(Self(prefix))
            }
        }
    }

    /// What a task's delayed sends stand under.
    pub(crate) fn of_delayed() -> Self {
        Self([delays::DELAYED].to_vec())
    }

    /// What all keys of its records begin with.
    #[must_use]
    pub fn prefix(&self) -> &[u8] {
        &self.0
    }

    /// The same owner's records of another kind, by the first byte of their keys.
    pub(crate) fn with_kind(&self, kind: impl FnOnce(u8) -> u8) -> Self {
        let mut prefix = self.0.clone();
        if let Some(first) = prefix.first_mut() {
            *first = kind(*first);
        }
        Self(prefix)
    }

    /// The owner in a record's key, and the name behind it.
    pub(crate) fn split(key: &[u8]) -> Option<(Self, &str)> {
        let (owner, name) = overlay::split(key)?;
        Some((Self(owner.to_vec()), core::str::from_utf8(name).ok()?))
    }

    /// The key of the record with this name.
    #[must_use]
    pub fn key(&self, name: &str) -> Vec<u8> {
        [self.prefix(), name.as_bytes()].concat()
    }
}

/// Why a record is no state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unusable {
    /// Its key, or its value, begins otherwise: somebody else has written it, or a later version.
    Foreign,
    /// It ends too early.
    Torn,
    /// The name is not UTF-8.
    Name,
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Foreign => "it is no record of state",
            Self::Torn => "it ends too early",
            Self::Name => "the name in its key is not UTF-8",
        })
    }
}

/// Of what kind a record is, by the first byte of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// What a handler keeps.
    State,
    /// See [`timers`](crate::timers).
    Timer,
    /// See [`delays`](crate::delays).
    Delayed,
    /// See [`schema`].
    Schema,
}

/// A record's key, read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key<'a> {
    /// The order key; `None`: it is the whole task's.
    pub owner: Option<&'a [u8]>,
    /// The name.
    pub name: &'a str,
    /// What is there.
    pub kind: Kind,
}

impl<'a> Key<'a> {
    /// Reads a record's key.
    ///
    /// # Errors
    /// When it is none.
    pub fn decode(key: &'a [u8]) -> Result<Self, Unusable> {
        let (kind, rest) = key.split_first().ok_or(Unusable::Foreign)?;
        let (owner, name) = match *kind {
            OF_TASK | timers::OF_TASK | delays::DELAYED | schema::SCHEMA => (None, rest),
            OF_KEY | timers::OF_KEY => {
                let (length, rest) = rest.split_first_chunk::<2>().ok_or(Unusable::Torn)?;
                let at = usize::from(u16::from_be_bytes(*length));
                let (owner, name) = rest.split_at_checked(at).ok_or(Unusable::Torn)?;
                (Some(owner), name)
            }
            _ => return Err(Unusable::Foreign),
        };
        let name = core::str::from_utf8(name).map_err(|_| Unusable::Name)?;
        let kind = match *kind {
            schema::SCHEMA => Kind::Schema,
            delays::DELAYED => Kind::Delayed,
            timers::OF_KEY | timers::OF_TASK => Kind::Timer,
            _ => Kind::State,
        };
        Ok(Self { owner, name, kind })
    }
}

/// A record's value.
#[must_use]
pub fn encode(entry: &Entry) -> Vec<u8> {
    let mut value = Vec::with_capacity(9 + entry.value.len());
    match entry.expires_ms {
        None => value.push(PLAIN),
        Some(end) => {
            value.push(EXPIRES);
            value.extend_from_slice(&end.to_le_bytes());
        }
    }
    value.extend_from_slice(&entry.value);
    value
}

/// Reads a record's value.
///
/// # Errors
/// When it is none. Nothing of it may be used then.
pub fn decode(value: &[u8]) -> Result<Entry, Unusable> {
    let (kind, rest) = value.split_first().ok_or(Unusable::Foreign)?;
    match *kind {
        PLAIN => Ok(Entry { value: Arc::from(rest), expires_ms: None }),
        EXPIRES => {
            let (end, value) = rest.split_first_chunk::<8>().ok_or(Unusable::Torn)?;
            Ok(Entry { value: Arc::from(value), expires_ms: Some(i64::from_le_bytes(*end)) })
        }
        _ => Err(Unusable::Foreign),
    }
}

#[cfg(test)]
mod tests;
