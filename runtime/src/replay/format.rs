//! The header of a dead letter that keeps the run of which its message died.
//!
//! Numbers are unsigned LEB128, signed ones zigzag first; a *text* is its length and UTF-8, *bytes* the same without UTF-8, and
//! where there may be none of them, one is added to the length and 0 is none.
//!
//! | part | is |
//! |---|---|
//! | one byte | [`VERSION`] |
//! | number | how many of the letter's headers, from the first on, are the message's own |
//! | list | headers of the message that the letter has not: the place among the message's own, name (bytes), value (bytes or none) |
//! | one byte | 1: what was read is not all there; 2: an earlier message of the key was a dead letter; 4: it was a timer |
//! | 32 bytes | SHA-256 of the handler's file |
//! | number | what the handler was opened with: [`digest`](super::digest) |
//! | text, text | the pipeline, and the topic that the message was read from |
//! | signed, signed, signed | partition, offset and timestamp of the message |
//! | text, number | of a timer: its name, and how many fired before it |
//! | number, signed, number | the attempt, `now-ms`, and the call's time in milliseconds |
//! | one byte | how the run ended: an index into [`Kind::ALL`] |
//! | text, text, number or none | the failure's code and words, and the wait that the handler asked for (one is added to it) |
//! | list | names that were read, and what was there: text, bytes or none |
//! | list | parts of the names of which all is told: prefix (text), after (text or none), up to (text or none) |
//!
//! A list is a number and so many of these. The format is frozen: another one gets another first byte.

use super::{Kind, Verdict};
use crate::wasm::{Failure, Fired, Reads, Span};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// The header's name.
pub const HEADER: &str = "keyrail-record";
/// Its value's first byte.
pub const VERSION: u8 = 1;

const CUT: u8 = 1;
const FOLLOWS: u8 = 2;
const TIMER: u8 = 4;
const ALL_FLAGS: u8 = CUT | FOLLOWS | TIMER;

/// A header of the message that its letter has not, since a header of the letter's own has its name: its place, name and value.
pub type Lost = (usize, Vec<u8>, Option<Vec<u8>>);

/// A run, as a dead letter keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// SHA-256 of the handler's file.
    pub handler: [u8; 32],
    /// See [`digest`](super::digest).
    pub setup: u64,
    /// The pipeline's name.
    pub pipeline: String,
    /// The topic that the message was read from.
    pub topic: String,
    /// Its place there, as the handler saw it.
    pub partition: i32,
    /// See `partition`.
    pub offset: i64,
    /// Milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// It was a timer.
    pub timer: Option<Fired>,
    /// 1 on the first run.
    pub attempt: u32,
    /// See [`crate::wasm::Delivery`].
    pub follows_dead_letter: bool,
    /// What the handler was told as the time.
    pub now_ms: i64,
    /// How long the call might take.
    pub deadline_ms: u64,
    /// How it ended.
    pub verdict: Verdict,
    /// What was read of state.
    pub reads: Reads,
}

/// It is no record of a run that this version can read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreadable {
    /// Another version wrote it.
    Version(u8),
    /// It is cut off, or somebody else has written it.
    Damaged,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => write!(f, "its record has the version {version}: use the Keyrail that wrote it"),
            Self::Damaged => f.write_str("its record is damaged, or not Keyrail's"),
        }
    }
}

impl std::error::Error for Unreadable {}

/// The header's value: a run as [`Recorded::encode`] gives it, and what became of the message's own headers.
#[must_use]
pub fn seal(run: &[u8], own_headers: usize, lost: &[Lost]) -> Vec<u8> {
    let mut out = vec![VERSION];
    number(&mut out, own_headers as u64);
    number(&mut out, lost.len() as u64);
    for (place, name, value) in lost {
        number(&mut out, *place as u64);
        bytes(&mut out, name);
        bytes_if(&mut out, value.as_deref());
    }
    out.extend_from_slice(run);
    out
}

impl Recorded {
    /// All of it but what becomes of the message's headers, which shows when the letter is written.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        let flag = |on: bool, flag: u8| if on { flag } else { 0 };
        out.push(
            flag(self.reads.cut, CUT) | flag(self.follows_dead_letter, FOLLOWS) | flag(self.timer.is_some(), TIMER),
        );
        out.extend_from_slice(&self.handler);
        number(&mut out, self.setup);
        bytes(&mut out, self.pipeline.as_bytes());
        bytes(&mut out, self.topic.as_bytes());
        signed(&mut out, self.partition.into());
        signed(&mut out, self.offset);
        signed(&mut out, self.timestamp_ms);
        if let Some(timer) = &self.timer {
            bytes(&mut out, timer.name.as_bytes());
            number(&mut out, timer.hops.into());
        }
        number(&mut out, self.attempt.into());
        signed(&mut out, self.now_ms);
        number(&mut out, self.deadline_ms);
        let Verdict { kind, failure, delay_ms } = &self.verdict;
        out.push(*kind as u8);
        bytes(&mut out, failure.code.as_bytes());
        bytes(&mut out, failure.detail.as_bytes());
        number(&mut out, delay_ms.map_or(0, |ms| ms.saturating_add(1)));
        number(&mut out, self.reads.names.len() as u64);
        for (name, value) in &self.reads.names {
            bytes(&mut out, name.as_bytes());
            bytes_if(&mut out, value.as_deref());
        }
        number(&mut out, self.reads.spans.len() as u64);
        for Span { prefix, after, until } in &self.reads.spans {
            bytes(&mut out, prefix.as_bytes());
            bytes_if(&mut out, after.as_ref().map(String::as_bytes));
            bytes_if(&mut out, until.as_ref().map(String::as_bytes));
        }
        out
    }

    /// Reads a header's value: the run, how many headers of the letter are the message's own, and those that it has not.
    ///
    /// # Errors
    /// When it is none. Nothing of it may be used then.
    pub fn decode(value: &[u8]) -> Result<(Self, usize, Vec<Lost>), Unreadable> {
        match value.split_first() {
            Some((&VERSION, rest)) => read(&mut Rest(rest)).ok_or(Unreadable::Damaged),
            Some((version, _)) => Err(Unreadable::Version(*version)),
            None => Err(Unreadable::Damaged),
        }
    }
}

fn read(rest: &mut Rest<'_>) -> Option<(Recorded, usize, Vec<Lost>)> {
    let own = usize::try_from(rest.number()?).ok()?;
    let mut lost = Vec::new();
    for _ in 0..rest.number()? {
        let place = usize::try_from(rest.number()?).ok()?;
        lost.push((place, rest.bytes()?.to_vec(), rest.bytes_if()?.map(<[u8]>::to_vec)));
    }
    let flags = rest.byte().filter(|flags| flags & !ALL_FLAGS == 0)?;
    let handler = *rest.take(32)?.first_chunk::<32>()?;
    let (setup, pipeline, topic) = (rest.number()?, rest.text()?, rest.text()?);
    let partition = i32::try_from(rest.signed()?).ok()?;
    let (offset, timestamp_ms) = (rest.signed()?, rest.signed()?);
    let timer = match flags & TIMER {
        0 => None,
        _ => Some(Fired { name: rest.text()?, hops: u32::try_from(rest.number()?).ok()? }),
    };
    let attempt = u32::try_from(rest.number()?).ok()?;
    let (now_ms, deadline_ms) = (rest.signed()?, rest.number()?);
    let kind = *Kind::ALL.get(usize::from(rest.byte()?))?;
    let failure = Failure { code: rest.text()?, detail: rest.text()? };
    let verdict = Verdict { kind, failure, delay_ms: rest.number()?.checked_sub(1) };
    let mut names = BTreeMap::new();
    for _ in 0..rest.number()? {
        names.insert(rest.text()?, rest.bytes_if()?.map(Arc::from));
    }
    let mut spans = Vec::new();
    for _ in 0..rest.number()? {
        spans.push(Span { prefix: rest.text()?, after: rest.text_if()?, until: rest.text_if()? });
    }
    let follows_dead_letter = flags & FOLLOWS != 0;
    let reads = Reads::of(names, spans, flags & CUT != 0);
    let recorded = Recorded {
        handler,
        setup,
        pipeline,
        topic,
        partition,
        offset,
        timestamp_ms,
        timer,
        attempt,
        follows_dead_letter,
        now_ms,
        deadline_ms,
        verdict,
        reads,
    };
    rest.0.is_empty().then_some((recorded, own, lost))
}

fn number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn signed(out: &mut Vec<u8>, signed: i64) {
    number(out, (signed << 1 ^ signed >> 63).cast_unsigned());
}

fn bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn bytes_if(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    number(out, bytes.map_or(0, |bytes| bytes.len() as u64 + 1));
    out.extend_from_slice(bytes.unwrap_or_default());
}

/// What is left to read.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn take(&mut self, length: u64) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(usize::try_from(length).ok()?)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7f);
            // Ten bytes have six bits more than a number.
            if part << shift >> shift != part {
                return None;
            }
            number |= part << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn signed(&mut self) -> Option<i64> {
        let number = self.number()?;
        Some((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        self.take(length)
    }

    fn bytes_if(&mut self) -> Option<Option<&'a [u8]>> {
        match self.number()?.checked_sub(1) {
            None => Some(None),
            Some(length) => self.take(length).map(Some),
        }
    }

    fn text(&mut self) -> Option<String> {
        self.bytes().and_then(text)
    }

    fn text_if(&mut self) -> Option<Option<String>> {
        match self.bytes_if()? {
            None => Some(None),
            Some(bytes) => text(bytes).map(Some),
        }
    }
}

fn text(bytes: &[u8]) -> Option<String> {
    str::from_utf8(bytes).ok().map(str::to_owned)
}
