//! A record as it travels through the process: one allocation, immutable, byte for byte what the broker gave.

/// Where a record was read. `topic` is the index into the pipeline's list of input topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// Index into the pipeline's resolved list of input topics.
    pub topic: u32,
    /// Partition number in that topic.
    pub partition: i32,
}

/// One record of an input topic.
///
/// Key, value and headers share one buffer, so that a record costs one allocation however many headers it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Topic and partition it was read from.
    pub at: TopicPartition,
    /// Offset in that partition.
    pub offset: i64,
    /// Milliseconds since the Unix epoch, as the broker gave it; -1 where the topic has none.
    pub timestamp_ms: i64,
    buffer: Box<[u8]>,
    key: Option<u32>,
    value: Option<u32>,
    headers: u32,
}

/// Collects the parts of a [`Record`] into its one buffer.
#[derive(Debug, Default)]
pub struct RecordBuilder {
    buffer: Vec<u8>,
    key: Option<u32>,
    value: Option<u32>,
    headers: u32,
}

const NULL: u32 = u32::MAX;

impl RecordBuilder {
    /// Starts a record from its key and value; `None` is Kafka's null. Room is made for `header_bytes` more.
    ///
    /// Kafka's own limit on a record (2 GiB) keeps every length below `u32::MAX`.
    #[must_use]
    pub fn new(key: Option<&[u8]>, value: Option<&[u8]>, header_bytes: usize) -> Self {
        let (k, v) = (key.unwrap_or_default(), value.unwrap_or_default());
        let mut buffer = Vec::with_capacity(k.len() + v.len() + header_bytes);
        buffer.extend_from_slice(k);
        buffer.extend_from_slice(v);
        Self { buffer, key: key.map(|k| k.len() as u32), value: value.map(|v| v.len() as u32), headers: 0 }
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
    pub fn build(self, at: TopicPartition, offset: i64, timestamp_ms: i64) -> Record {
        Record {
            at,
            offset,
            timestamp_ms,
            buffer: self.buffer.into_boxed_slice(),
            key: self.key,
            value: self.value,
            headers: self.headers,
        }
    }
}

impl Record {
    /// The key; `None` is null, which differs from an empty key.
    #[must_use]
    pub fn key(&self) -> Option<&[u8]> {
        self.key.map(|n| &self.buffer[..n as usize])
    }

    /// The value; `None` is a tombstone.
    #[must_use]
    pub fn value(&self) -> Option<&[u8]> {
        let start = self.key.unwrap_or(0) as usize;
        self.value.map(|n| &self.buffer[start..start + n as usize])
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
        Headers { rest: &self.buffer[start..] }
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
        self.buffer.len().saturating_sub(self.header_count() * 2 * size_of::<u32>())
    }

    /// Bytes this record holds in memory, its fixed part included: what the budget of `[memory] records` counts.
    #[must_use]
    pub fn size(&self) -> usize {
        self.buffer.len() + size_of::<Self>()
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
        let mut b = RecordBuilder::new(Some(b""), None, 0);
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
