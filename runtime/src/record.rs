//! A record as it travels through the process: one allocation, immutable, byte for byte what the broker gave.

use std::ops::Deref;
use triomphe::ThinArc;

/// Where a record was read. `topic` is the index into the pipeline's list of input topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// Index into the pipeline's resolved list of input topics.
    pub topic: u32,
    /// Partition number in that topic.
    pub partition: i32,
}

/// One record of an input topic, shared by whoever holds it: a clone is the same record.
///
/// All of it is one allocation, however many headers it has.
#[derive(Clone, PartialEq, Eq)]
pub struct Record(ThinArc<Head, u8>);

/// The fixed part of a [`Record`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Topic and partition it was read from.
    pub at: TopicPartition,
    /// Offset in that partition.
    pub offset: i64,
    /// Milliseconds since the Unix epoch, as the broker gave it; -1 where the topic has none.
    pub timestamp_ms: i64,
    key: Option<u32>,
    value: Option<u32>,
    headers: u32,
}

/// Collects the parts of [`Record`]s, one after the other, in a buffer that it keeps.
#[derive(Debug, Default)]
pub struct RecordBuilder {
    buffer: Vec<u8>,
    key: Option<u32>,
    value: Option<u32>,
    headers: u32,
}

const NULL: u32 = u32::MAX;
/// A larger buffer is not kept for the next record.
const SPARE_BYTES: usize = 64 * 1024;

impl RecordBuilder {
    /// Starts a record from its key and value; `None` is Kafka's null.
    #[must_use]
    pub fn new(key: Option<&[u8]>, value: Option<&[u8]>) -> Self {
        let mut builder = Self::default();
        builder.restart(key, value);
        builder
    }

    /// Starts the next record.
    ///
    /// Kafka's own limit on a record (2 GiB) keeps every length below `u32::MAX`.
    pub fn restart(&mut self, key: Option<&[u8]>, value: Option<&[u8]>) {
        self.buffer.clear();
        self.buffer.shrink_to(SPARE_BYTES);
        self.buffer.extend_from_slice(key.unwrap_or_default());
        self.buffer.extend_from_slice(value.unwrap_or_default());
        self.key = key.map(|k| k.len() as u32);
        self.value = value.map(|v| v.len() as u32);
        self.headers = 0;
    }

    /// Appends one header; names are bytes, since a foreign producer may have written any.
    pub fn header(&mut self, name: &[u8], value: Option<&[u8]>) {
        self.buffer.extend_from_slice(&(name.len() as u32).to_le_bytes());
        self.buffer.extend_from_slice(&value.map_or(NULL, |v| v.len() as u32).to_le_bytes());
        self.buffer.extend_from_slice(name);
        self.buffer.extend_from_slice(value.unwrap_or_default());
        self.headers += 1;
    }

    /// The finished record.
    #[must_use]
    pub fn build(&self, at: TopicPartition, offset: i64, timestamp_ms: i64) -> Record {
        let head = Head { at, offset, timestamp_ms, key: self.key, value: self.value, headers: self.headers };
        Record(ThinArc::from_header_and_slice(head, &self.buffer))
    }
}

impl Deref for Record {
    type Target = Head;

    fn deref(&self) -> &Head {
        &self.0.header.header
    }
}

impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bytes = self.bytes().len();
        f.debug_struct("Record").field("head", &**self).field("bytes", &bytes).finish_non_exhaustive()
    }
}

impl Record {
    fn bytes(&self) -> &[u8] {
        &self.0.slice
    }

    /// How many hold it.
    #[cfg(test)]
    pub(crate) fn holders(&self) -> usize {
        ThinArc::strong_count(&self.0)
    }

    /// The key; `None` is null, which differs from an empty key.
    #[must_use]
    pub fn key(&self) -> Option<&[u8]> {
        self.key.map(|n| &self.bytes()[..n as usize])
    }

    /// The value; `None` is a tombstone.
    #[must_use]
    pub fn value(&self) -> Option<&[u8]> {
        let start = self.key.unwrap_or(0) as usize;
        self.value.map(|n| &self.bytes()[start..start + n as usize])
    }

    /// How many headers there are.
    #[must_use]
    pub fn header_count(&self) -> usize {
        self.headers as usize
    }

    /// All headers in the record's order, repeated names included.
    #[must_use]
    pub fn headers(&self) -> Headers<'_> {
        let start = (self.key.unwrap_or(0) + self.value.unwrap_or(0)) as usize;
        Headers { rest: &self.bytes()[start..] }
    }

    /// Bytes that a walk over all headers passes.
    #[must_use]
    pub fn header_bytes(&self) -> usize {
        self.headers().rest.len()
    }

    /// The last header of that name; the inner `None` is a header whose value is null.
    #[must_use]
    pub fn header(&self, name: &[u8]) -> Option<Option<&[u8]>> {
        self.headers().filter(|(n, _)| *n == name).last().map(|(_, v)| v)
    }

    /// Bytes of key, value and headers.
    #[must_use]
    pub fn content_bytes(&self) -> usize {
        // Each header has two lengths before it.
        self.bytes().len().saturating_sub(self.header_count() * 2 * size_of::<u32>())
    }

    /// Bytes this record holds in memory, its fixed part included: what the budget of `[memory] records` counts.
    #[must_use]
    pub fn size(&self) -> usize {
        // Beside the head: the length, and the count of those who hold it.
        self.bytes().len() + size_of::<Head>() + 2 * size_of::<usize>()
    }
}

/// Iterator over a record's headers: name and value, a null value being `None`.
#[derive(Debug, Clone)]
pub struct Headers<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        let (name_len, rest) = self.rest.split_first_chunk::<4>()?;
        let (value_len, rest) = rest.split_first_chunk::<4>()?;
        let (name, rest) = rest.split_at_checked(u32::from_le_bytes(*name_len) as usize)?;
        let value_len = u32::from_le_bytes(*value_len);
        let (value, rest) = if value_len == NULL {
            (None, rest)
        } else {
            rest.split_at_checked(value_len as usize).map(|(v, r)| (Some(v), r))?
        };
        self.rest = rest;
        Some((name, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_and_empty_stay_apart_and_headers_keep_order() {
        let at = TopicPartition { topic: 0, partition: 3 };
        let mut b = RecordBuilder::new(Some(b""), None);
        b.header(b"a", Some(b"1"));
        b.header(b"\xff", None);
        b.header(b"a", Some(b""));
        let r = b.build(at, 7, -1);
        assert_eq!((r.key(), r.value()), (Some(&b""[..]), None));
        let all: Vec<_> = r.headers().collect();
        assert_eq!(all, [(&b"a"[..], Some(&b"1"[..])), (&b"\xff"[..], None), (&b"a"[..], Some(&b""[..]))]);
        assert_eq!(r.header(b"a"), Some(Some(&b""[..])));
        assert_eq!(r.header(b"\xff"), Some(None));
        assert_eq!(r.header(b"b"), None);
        assert_eq!(r.header_count(), 3);
    }
}
