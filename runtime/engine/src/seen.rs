//! The records of a topic of seen ids: what a commit marks in one partition, packed.
//!
//! A record's value is [`MAGIC`], the time of the marks (milliseconds since the Unix epoch, little-endian) and then the
//! ids, 16 bytes each; or [`FORGET`] and a time: what stands before it in its partition counts no more. Its key is null; a
//! record of another form is somebody else's. The formats are frozen: another one gets another magic.

use crate::message::MessageId;
use alloc::vec::Vec;
use core::fmt;

/// What every value begins with.
pub const MAGIC: [u8; 4] = *b"KRS1";
/// What an order to forget begins with.
pub const FORGET: [u8; 4] = *b"KRF1";
const HEAD: usize = MAGIC.len() + 8;
const ID: usize = 16;

/// At most so many ids go into one record: 512 KiB.
pub const MAX_IDS: usize = (512 << 10) / ID;

/// Why a record's value is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unusable {
    /// It begins otherwise, or there is no value: somebody else has written it, or a later version.
    Foreign,
    /// It ends within an id.
    Torn,
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Foreign => "it is no record of seen ids",
            Self::Torn => "it ends within an id",
        })
    }
}

/// A record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry<'a> {
    /// These are marked.
    Seen(Seen<'a>),
    /// All that stands before it in its partition is forgotten: an operator said so, at this time.
    Forget {
        /// Milliseconds since the Unix epoch.
        time_ms: i64,
    },
}

impl<'a> Entry<'a> {
    /// Reads a record's value.
    ///
    /// # Errors
    /// When it is none. Nothing of it may be used then.
    pub fn decode(value: &'a [u8]) -> Result<Self, Unusable> {
        match value.strip_prefix(&FORGET) {
            None => Seen::decode(value).map(Self::Seen),
            Some(time) => {
                let time = time.try_into().map_err(|_| Unusable::Torn)?;
                Ok(Self::Forget { time_ms: i64::from_le_bytes(time) })
            }
        }
    }
}

/// The value of an order to forget.
#[must_use]
pub fn forget(time_ms: i64) -> Vec<u8> {
    let mut value = FORGET.to_vec();
    value.extend_from_slice(&time_ms.to_le_bytes());
    value
}

/// Ids and when they were marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen<'a> {
    /// Milliseconds since the Unix epoch.
    pub time_ms: i64,
    ids: &'a [u8],
}

impl<'a> Seen<'a> {
    /// Reads a record's value.
    ///
    /// # Errors
    /// When it is none. Nothing of it may be used then.
    pub fn decode(value: &'a [u8]) -> Result<Self, Unusable> {
        let (magic, rest) = value.split_first_chunk::<4>().ok_or(Unusable::Foreign)?;
        if *magic != MAGIC {
            return Err(Unusable::Foreign);
        }
        let (time, ids) = rest.split_first_chunk::<8>().ok_or(Unusable::Torn)?;
        if !ids.len().is_multiple_of(ID) {
            return Err(Unusable::Torn);
        }
        Ok(Self { time_ms: i64::from_le_bytes(*time), ids })
    }

    /// The ids, in the order in which they were marked.
    pub fn ids(&self) -> impl ExactSizeIterator<Item = MessageId> + use<'a> {
        self.ids.as_chunks::<ID>().0.iter().map(|id| MessageId(*id))
    }
}

/// A record's value.
#[must_use]
pub fn encode(time_ms: i64, ids: &[MessageId]) -> Vec<u8> {
    let mut value = Vec::with_capacity(HEAD + ids.len() * ID);
    value.extend_from_slice(&MAGIC);
    value.extend_from_slice(&time_ms.to_le_bytes());
    ids.iter().for_each(|id| value.extend_from_slice(&id.0));
    value
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail by panic")]

    use super::*;

    fn ids(count: u8) -> Vec<MessageId> {
        (0..count).map(|n| MessageId([n; 16])).collect()
    }

    #[test]
    fn what_is_written_is_read() {
        for count in [0, 1, 2, 200] {
            let value = encode(-5, &ids(count));
            let seen = Seen::decode(&value).unwrap();
            assert_eq!((seen.time_ms, seen.ids().collect::<Vec<_>>()), (-5, ids(count)));
            assert_eq!(value.len(), 12 + 16 * usize::from(count));
        }
    }

    #[test]
    fn an_order_to_forget_is_told_from_ids() {
        assert_eq!(forget(258), b"KRF1\x02\x01\0\0\0\0\0\0");
        assert_eq!(Entry::decode(&forget(-1)), Ok(Entry::Forget { time_ms: -1 }));
        let marks = encode(7, &ids(2));
        assert_eq!(Entry::decode(&marks), Seen::decode(&marks).map(Entry::Seen));
        assert_eq!(Entry::decode(&forget(7)[..11]), Err(Unusable::Torn));
        assert_eq!(Entry::decode(b"KRX1"), Err(Unusable::Foreign));
    }

    #[test]
    fn the_format_is_frozen() {
        let value = encode(258, &[MessageId(*b"0123456789abcdef")]);
        assert_eq!(value, b"KRS1\x02\x01\0\0\0\0\0\x000123456789abcdef");
    }

    #[test]
    fn what_is_cut_anywhere_is_refused_or_ends_between_two_ids() {
        let value = encode(7, &ids(3));
        for end in 0..value.len() {
            match Seen::decode(&value[..end]) {
                Err(Unusable::Foreign) => assert!(end < 4),
                Err(Unusable::Torn) => assert!(end < HEAD || !(end - HEAD).is_multiple_of(ID)),
                Ok(seen) => assert_eq!(seen.ids().len() * ID, end - HEAD),
            }
        }
        assert_eq!(Seen::decode(b"KRS2aaaaaaaa"), Err(Unusable::Foreign));
    }
}
