//! Records packed in a block, which is what the folder stores and the socket carries.
//!
//! ```text
//! version u8 = 1 | 0 u8 | records u32 | crc32 u32 of all but itself | record*
//! record: flags u8 (1 key, 2 value) | timestamp i64 | gap | [key] | [value] | headers | (name, value)*
//! key, value, name: length, bytes      a header's value: length + 1, or 0 for null, then bytes
//! ```
//! Fixed numbers are little-endian, the others LEB128. A record's offset is that of the record before it plus 1 plus
//! `gap`, which is 0 but where compaction took something; the first counts from the block's base, which is not stored
//! here: so a block is packed before its place in the log is known.

use crate::record::{Record, RecordBuilder, TopicPartition};
use std::fmt;

const VERSION: u8 = 1;
const HEADER: usize = 10;
const CRC: std::ops::Range<usize> = 6..10;
const KEY: u8 = 1;
const VALUE: u8 = 2;
/// Records of one block, at most.
pub(crate) const RECORDS: u32 = 4096;
/// A block that holds this many bytes takes no more records.
pub(crate) const FULL_BYTES: usize = 256 << 10;

/// Bytes that are no block, or not the block that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Damaged(&'static str);

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// A record's parts, borrowed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parts<'a> {
    pub(crate) timestamp_ms: i64,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
}

/// Packs records.
#[derive(Debug, Clone)]
pub(crate) struct Packer {
    bytes: Vec<u8>,
    records: u32,
    newest_ms: i64,
}

/// A block ready to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Packed {
    pub(crate) bytes: Vec<u8>,
    pub(crate) records: u32,
    /// The highest timestamp in it.
    pub(crate) newest_ms: i64,
}

impl Packer {
    pub(crate) fn new() -> Self {
        Self { bytes: vec![0; HEADER], records: 0, newest_ms: i64::MIN }
    }

    /// Appends a record that stands `gap` offsets further than the next.
    pub(crate) fn push<'a>(
        &mut self,
        gap: u64,
        parts: &Parts<'_>,
        headers: impl ExactSizeIterator<Item = (&'a [u8], Option<&'a [u8]>)>,
    ) {
        self.begin(gap, parts);
        number(&mut self.bytes, headers.len() as u64);
        for (name, value) in headers {
            number(&mut self.bytes, name.len() as u64);
            self.bytes.extend_from_slice(name);
            number(&mut self.bytes, value.map_or(0, |v| v.len() as u64 + 1));
            self.bytes.extend_from_slice(value.unwrap_or_default());
        }
    }

    /// As [`Packer::push`], the headers as they stood in another block.
    pub(crate) fn push_entry(&mut self, gap: u64, entry: &Entry<'_>) {
        self.begin(gap, &entry.parts);
        self.bytes.extend_from_slice(entry.headers);
    }

    fn begin(&mut self, gap: u64, parts: &Parts<'_>) {
        let out = &mut self.bytes;
        out.push(if parts.key.is_some() { KEY } else { 0 } | if parts.value.is_some() { VALUE } else { 0 });
        out.extend_from_slice(&parts.timestamp_ms.to_le_bytes());
        number(out, gap);
        for bytes in [parts.key, parts.value].into_iter().flatten() {
            number(out, bytes.len() as u64);
            out.extend_from_slice(bytes);
        }
        self.records += 1;
        self.newest_ms = self.newest_ms.max(parts.timestamp_ms);
    }

    pub(crate) fn records(&self) -> u32 {
        self.records
    }

    /// Bytes so far.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.records >= RECORDS || self.bytes.len() >= FULL_BYTES
    }

    pub(crate) fn finish(mut self) -> Packed {
        self.bytes[0] = VERSION;
        self.bytes[2..6].copy_from_slice(&self.records.to_le_bytes());
        let crc = checksum(&self.bytes);
        self.bytes[CRC].copy_from_slice(&crc.to_le_bytes());
        Packed { bytes: self.bytes, records: self.records, newest_ms: self.newest_ms }
    }
}

fn checksum(bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..CRC.start]);
    hasher.update(&bytes[CRC.end..]);
    hasher.finalize()
}

/// A record of a block.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry<'a> {
    pub(crate) offset: i64,
    pub(crate) parts: Parts<'a>,
    /// Number of headers and headers, as packed.
    headers: &'a [u8],
}

/// Goes through a block.
#[derive(Debug, Clone)]
pub(crate) struct Unpacker<B> {
    bytes: B,
    at: usize,
    left: u32,
    next: i64,
}

impl<B: AsRef<[u8]>> Unpacker<B> {
    /// Checks the whole block against its checksum. `base` is the offset that its first record counts from.
    pub(crate) fn new(bytes: B, base: i64) -> Result<Self, Damaged> {
        let all = bytes.as_ref();
        let header = all.first_chunk::<HEADER>().ok_or(Damaged("it is too short"))?;
        if header[0] != VERSION {
            return Err(Damaged("its format is another"));
        }
        let [.., a, b, c, d] = *header;
        if u32::from_le_bytes([a, b, c, d]) != checksum(all) {
            return Err(Damaged("its checksum does not match"));
        }
        let left = u32::from_le_bytes([header[2], header[3], header[4], header[5]]);
        Ok(Self { bytes, at: HEADER, left, next: base })
    }

    /// The next record; `None` after the last.
    pub(crate) fn next(&mut self) -> Result<Option<Entry<'_>>, Damaged> {
        step(self.bytes.as_ref(), &mut self.at, &mut self.left, &mut self.next)
    }
}

impl<'a> Unpacker<&'a [u8]> {
    /// As [`Unpacker::next`]; what comes may be kept as long as the bytes.
    pub(crate) fn next_kept(&mut self) -> Result<Option<Entry<'a>>, Damaged> {
        step(self.bytes, &mut self.at, &mut self.left, &mut self.next)
    }
}

fn step<'a>(bytes: &'a [u8], at: &mut usize, left: &mut u32, next: &mut i64) -> Result<Option<Entry<'a>>, Damaged> {
    let mut rest = Rest(bytes.get(*at..).unwrap_or_default());
    if *left == 0 {
        return if rest.0.is_empty() { Ok(None) } else { Err(Damaged("bytes follow its last record")) };
    }
    let before = rest.0.len();
    let entry = rest.entry(*next)?;
    *at += before - rest.0.len();
    *left -= 1;
    // An offset that can't be followed by another ends the log anyway.
    *next = entry.offset.checked_add(1).ok_or(Damaged("an offset in it is too large"))?;
    Ok(Some(entry))
}

struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn entry(&mut self, next: i64) -> Result<Entry<'a>, Damaged> {
        let flags = self.take(1)?[0];
        if flags & !(KEY | VALUE) != 0 {
            return Err(Damaged("a record in it has unknown flags"));
        }
        let timestamp_ms = self.take(8)?.first_chunk().map_or(0, |b| i64::from_le_bytes(*b));
        let gap = i64::try_from(self.number()?).map_err(|_| Damaged("a gap in it is too large"))?;
        let offset = next.checked_add(gap).ok_or(Damaged("an offset in it is too large"))?;
        let key = if flags & KEY != 0 { Some(self.bytes()?) } else { None };
        let value = if flags & VALUE != 0 { Some(self.bytes()?) } else { None };
        let all = self.0;
        for _ in 0..self.number()? {
            self.bytes()?;
            match self.number()? {
                0 => {}
                n => drop(self.take_long(n - 1)?),
            }
        }
        let headers = all.get(..all.len() - self.0.len()).unwrap_or_default();
        Ok(Entry { offset, parts: Parts { timestamp_ms, key, value }, headers })
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8], Damaged> {
        let (taken, rest) = self.0.split_at_checked(n).ok_or(Damaged("it ends in the middle of a record"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn take_long(&mut self, n: u64) -> Result<&'a [u8], Damaged> {
        self.take(usize::try_from(n).map_err(|_| Damaged("a length in it is too large"))?)
    }

    fn bytes(&mut self) -> Result<&'a [u8], Damaged> {
        let n = self.number()?;
        self.take_long(n)
    }

    fn number(&mut self) -> Result<u64, Damaged> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                break;
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Damaged("a number in it is too large"))
    }
}

fn number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// What stands in a record beside key and value.
pub(crate) struct EntryHeaders<'a> {
    rest: Rest<'a>,
    left: u64,
}

impl<'a> Iterator for EntryHeaders<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let name = self.rest.bytes().ok()?;
        let value = match self.rest.number().ok()? {
            0 => None,
            n => Some(self.rest.take_long(n - 1).ok()?),
        };
        Some((name, value))
    }
}

impl<'a> Entry<'a> {
    /// Names and values in order. They were checked when the entry was read.
    pub(crate) fn headers(&self) -> EntryHeaders<'a> {
        let mut rest = Rest(self.headers);
        let left = rest.number().unwrap_or(0);
        EntryHeaders { rest, left }
    }

    pub(crate) fn record(&self, at: TopicPartition, builder: &mut RecordBuilder) -> Record {
        builder.restart(self.parts.key, self.parts.value);
        for (name, value) in self.headers() {
            builder.header(name, value);
        }
        builder.build(at, self.offset, self.parts.timestamp_ms)
    }
}

#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
#[cfg(test)]
mod tests;
