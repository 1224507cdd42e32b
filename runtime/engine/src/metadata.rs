//! What stands in the metadata of a committed offset: which offsets above it are settled already.
//!
//! The text is `kr4.` and URL-safe base64 of: sequence number, known partitions, who holds it, which log it is of, what its
//! internal topics are ([`Kept`]: a number whose bits say which of its numbers follow), then the lengths of alternating runs,
//! unsettled first, counted from the committed offset, all as LEB128. Where that is longer than a bit for each offset, a 0
//! comes instead, and then these bits, the committed offset's first, the lowest of a byte first: threads that work on one
//! partition side by side leave short runs. The first four bytes of the SHA-256 of all come last,
//! so that foreign or damaged text is told apart. Brokers limit metadata to 4096 bytes (`offset.metadata.max.bytes`). `kr3.`
//! is the same without what is kept, and is still read.

use crate::ranges::Ranges;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

/// Longest text that [`Metadata::encode`] makes: the broker's default limit.
pub const MAX_TEXT_BYTES: usize = 4096;
const PREFIX: &str = "kr4.";
/// As versions before 0.2 wrote it.
const BEFORE: &str = "kr3.";
const CHECK_BYTES: usize = 4;
const MAX_DATA_BYTES: usize = (MAX_TEXT_BYTES - PREFIX.len()) / 4 * 3 - CHECK_BYTES;
/// What stands before the map at most: two numbers of 64 bits, one of 32, one of 33, and what is kept: its bits, two numbers of 64
/// bits, and marks of 32.
const MAX_HEAD_BYTES: usize = 10 + 5 + 5 + 10 + (2 + 10 + 10 + 5 * MARKS);
/// How many marks [`Kept`] has.
const MARKS: usize = 5;
/// Bits before what is kept: see [`Kept`]. Those of the marks follow, in their order.
const PARKED: u64 = 1;
const INBOX: u64 = 1 << 1;
const INBOX_DONE: u64 = 1 << 2;
const FIRST_MARK: u32 = 3;
/// And behind them.
const BREAKER: u64 = 1 << (FIRST_MARK + MARKS as u32);

/// Whether a map of so many runs within so many offsets above the commit fits into the metadata for sure.
pub(crate) fn fits(runs: usize, span: u64) -> bool {
    // Two numbers a run, none of them larger than the span, and in sum no larger either: few of them can be long.
    let numbers = runs.saturating_mul(2);
    let widest = (1..10).take_while(|bytes| span >> (7 * bytes) > 0).count() + 1;
    let longer = (1..10).map(|bytes| (span >> (7 * bytes)) as usize).fold(0, usize::saturating_add);
    let as_runs = numbers.saturating_mul(widest).min(numbers.saturating_add(longer));
    let as_bits = usize::try_from(span.div_ceil(8)).map_or(usize::MAX, |bytes| bytes.saturating_add(1));
    as_runs.min(as_bits) <= MAX_DATA_BYTES - MAX_HEAD_BYTES
}

/// What a commit says beside the offset.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Metadata {
    /// Counts the commits of this partition by Keyrail.
    pub sequence: u64,
    /// How many partitions the topic had when the group first started, so that later ones are known as such; 0 when
    /// unknown.
    pub partitions: u32,
    /// `None`: the partition was given up in good order, and nothing of it ran. Otherwise a process holds it, and this
    /// many messages were still to run alone; see [`Careful`](crate::intake::Careful).
    pub held: Option<u32>,
    /// Tells the topic's log from that of an earlier or later topic of the same name; 0 when unknown.
    pub log: u64,
    /// What the partition's internal topics are.
    pub kept: Kept,
    /// Offsets above the committed one that are settled.
    pub settled: Ranges,
}

/// What a commit says of its partition's internal topics. A mark is 32 bits of a topic's id, so that one that was deleted and
/// made anew is told; 0 is none, or unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Kept {
    /// Messages of the partition were parked, if the retry topic of that mark is the present one: it does not start without that
    /// topic.
    pub parked: bool,
    /// The breaker was not closed. Nothing depends on it: it is for people.
    pub breaker: bool,
    /// Of the topic of seen ids.
    pub seen: u32,
    /// Of the topic of state.
    pub state: u32,
    /// Of the retry topic.
    pub retry: u32,
    /// Of what decides to which lane a message belongs, and to which task.
    pub order: u32,
    /// Of the inbox.
    pub inbox: u32,
    /// The first command in the inbox that is not obeyed.
    pub inbox_at: i64,
    /// Which of those behind it are: the lowest bit is that of the next offset.
    pub inbox_done: u64,
}

impl Kept {
    const fn marks(&self) -> [u32; MARKS] {
        [self.seen, self.state, self.retry, self.order, self.inbox]
    }

    fn encode(&self, data: &mut Vec<u8>) {
        let marks = self.marks();
        let mut bits = u64::from(self.parked) * PARKED + u64::from(self.inbox_at > 0) * INBOX;
        bits |= u64::from(self.inbox_done > 0) * INBOX_DONE + u64::from(self.breaker) * BREAKER;
        for (index, mark) in (FIRST_MARK..).zip(marks) {
            bits |= u64::from(mark != 0) << index;
        }
        put(data, bits);
        if self.inbox_at > 0 {
            put(data, self.inbox_at.unsigned_abs());
        }
        if self.inbox_done > 0 {
            put(data, self.inbox_done);
        }
        marks.into_iter().filter(|mark| *mark != 0).for_each(|mark| put(data, u64::from(mark)));
    }

    fn decode(data: &mut &[u8]) -> Option<Self> {
        let bits = take(data).filter(|bits| *bits < BREAKER << 1)?;
        let inbox_at = if bits & INBOX == 0 { 0 } else { i64::try_from(take(data)?).ok()? };
        let inbox_done = if bits & INBOX_DONE == 0 { 0 } else { take(data)? };
        let mut marks = [0; MARKS];
        for (index, mark) in (FIRST_MARK..).zip(&mut marks) {
            if bits & 1 << index != 0 {
                *mark = u32::try_from(take(data)?).ok()?;
            }
        }
        let [seen, state, retry, order, inbox] = marks;
        let (parked, breaker) = (bits & PARKED != 0, bits & BREAKER != 0);
        Some(Self { parked, breaker, seen, state, retry, order, inbox, inbox_at, inbox_done })
    }
}

/// Text that is not ours, damaged, or says more than the log holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unusable {
    /// Not written by Keyrail.
    Foreign,
    /// Written by Keyrail, but damaged.
    Damaged,
    /// Claims offsets past the end of the log.
    PastEnd,
}

impl Metadata {
    /// The text for a commit of `offset`, and its share of the limit in bytes. Where the map does not fit, its lower
    /// part is written: what is left out may run again after a crash, but nothing is lost.
    #[must_use]
    pub fn encode(&self, offset: i64) -> String {
        let mut data = Vec::new();
        put(&mut data, self.sequence);
        put(&mut data, u64::from(self.partitions));
        put(&mut data, self.held.map_or(0, |messages| u64::from(messages) + 1));
        put(&mut data, self.log);
        self.kept.encode(&mut data);
        let head = data.len();
        let mut is_whole = true;
        let mut at = offset;
        for (start, end) in self.settled.iter() {
            let mark = data.len();
            put(&mut data, start.abs_diff(at));
            put(&mut data, end.abs_diff(start));
            if data.len() > MAX_DATA_BYTES {
                data.truncate(mark);
                is_whole = false;
                break;
            }
            at = end;
        }
        let room = if is_whole { data.len() - head } else { MAX_DATA_BYTES - head + 1 };
        if let Some(bits) = self.bits(offset, room.saturating_sub(1)) {
            data.truncate(head);
            put(&mut data, 0);
            data.extend_from_slice(&bits);
        }
        seal(data)
    }

    /// A bit for each offset from this one on, if that is shorter than so many bytes.
    fn bits(&self, offset: i64, below: usize) -> Option<Vec<u8>> {
        let (_, end) = self.settled.iter().last()?;
        let bytes = usize::try_from(end.abs_diff(offset).div_ceil(8)).ok().filter(|bytes| *bytes < below)?;
        let mut bits = vec![0_u8; bytes];
        for (start, end) in self.settled.iter() {
            for place in start.abs_diff(offset)..end.abs_diff(offset) {
                if let Some(byte) = usize::try_from(place / 8).ok().and_then(|at| bits.get_mut(at)) {
                    *byte |= 1 << (place % 8);
                }
            }
        }
        Some(bits)
    }

    /// Reads the metadata of a commit of `offset` in a log that ends before `log_end`. Empty text is empty metadata.
    ///
    /// # Errors
    /// When the text can't be believed; the caller goes on with an empty map, which repeats but never loses.
    pub fn decode(text: &str, offset: i64, log_end: i64) -> Result<Self, Unusable> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let (coded, keeps) = match text.strip_prefix(PREFIX) {
            Some(coded) => (coded, true),
            None => (text.strip_prefix(BEFORE).ok_or(Unusable::Foreign)?, false),
        };
        let bytes = URL_SAFE_NO_PAD.decode(coded).map_err(|_| Unusable::Damaged)?;
        let (data, check) = bytes.split_last_chunk::<CHECK_BYTES>().ok_or(Unusable::Damaged)?;
        if Sha256::digest(data)[..CHECK_BYTES] != check[..] {
            return Err(Unusable::Damaged);
        }
        let mut data = data;
        let sequence = take(&mut data).ok_or(Unusable::Damaged)?;
        let partitions = take(&mut data).and_then(|n| u32::try_from(n).ok()).ok_or(Unusable::Damaged)?;
        let held = take(&mut data).ok_or(Unusable::Damaged)?;
        let held = held.checked_sub(1).map(u32::try_from).transpose().map_err(|_| Unusable::Damaged)?;
        let log = take(&mut data).ok_or(Unusable::Damaged)?;
        let kept = if keeps { Kept::decode(&mut data).ok_or(Unusable::Damaged)? } else { Kept::default() };
        let mut settled = Ranges::new();
        let mut at = offset;
        if let [0, bits @ ..] = data {
            settled = of_bits(bits, offset)?;
            data = &[];
            if settled.iter().last().is_some_and(|(_, end)| end > log_end) {
                return Err(Unusable::PastEnd);
            }
        }
        while !data.is_empty() {
            let start = step(&mut data, at)?;
            let end = step(&mut data, start)?;
            if end > log_end {
                return Err(Unusable::PastEnd);
            }
            settled.push(start, end);
            at = end;
        }
        Ok(Self { sequence, partitions, held, log, kept, settled })
    }
}

/// The text that holds these bytes, whatever they are.
pub(crate) fn seal(mut data: Vec<u8>) -> String {
    let check = Sha256::digest(&data);
    data.extend_from_slice(&check[..CHECK_BYTES]);
    format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(data))
}

/// The runs of set bits, which are counted from this offset. There is no byte too many, and the offset itself is not settled.
fn of_bits(bits: &[u8], offset: i64) -> Result<Ranges, Unusable> {
    if bits.last().is_none_or(|last| *last == 0) || bits.first().is_some_and(|first| first & 1 != 0) {
        return Err(Unusable::Damaged);
    }
    let mut settled = Ranges::new();
    let mut at = offset;
    for byte in bits {
        for place in 0..8 {
            if byte >> place & 1 != 0 {
                settled.push(at, at.checked_add(1).ok_or(Unusable::PastEnd)?);
            }
            at = at.saturating_add(1);
        }
    }
    Ok(settled)
}

fn step(data: &mut &[u8], from: i64) -> Result<i64, Unusable> {
    let run = take(data).and_then(|n| i64::try_from(n).ok()).filter(|n| *n > 0).ok_or(Unusable::Damaged)?;
    from.checked_add(run).ok_or(Unusable::PastEnd)
}

fn put(data: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        data.push(number as u8 | 0x80);
        number >>= 7;
    }
    data.push(number as u8);
}

fn take(data: &mut &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = data.split_first()?;
        *data = rest;
        let bits = u64::from(byte & 0x7f);
        number |= bits.checked_shl(shift).filter(|n| n >> shift == bits)?;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests;
