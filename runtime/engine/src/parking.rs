//! Messages that wait in the retry topic: what is written of them, and what is known of those that are committed.
//!
//! A message that failed and is due later than it may wait in memory is *parked*: written to the partition's retry topic with
//! all that it is, and thereby settled. What comes behind it with its order key is parked behind it. When the first of a lane
//! is due it runs again, then those behind it, in order; each leaves the topic, by a tombstone, in the transaction that holds
//! its effects.
//!
//! # Records
//! A record's key says where the message was first read, never its own key: compaction would take all but the last of a key.
//! [`ORIGIN`], the topic's length (two bytes, big-endian), the topic, partition and offset (big-endian). Its value
//! ([`encode`]) begins with [`ENVELOPE`], and is never null: the message itself may be a tombstone. That of a message that is
//! given up with what is behind it ([`GivenUp`]) begins with [`GIVEN_UP`], why (a byte), and the number up to which. That of a
//! timer ([`Fired`]) begins with [`TIMER`], why it is given up (a byte, 0: it is not), the number up to which, the offset of the
//! message that set it, how many timers fired since, and its name; its place in the record's key is its
//! [`number`](crate::timers::number). All other numbers are little-endian. The formats are frozen: another one gets another first
//! byte.

use crate::bytes::{Bytes, Header, Torn, put};
use crate::message::{Company, Failure, Fate, Message, MessageId, Partition, Reason};
use crate::retry::History;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// First byte of a record's key.
pub const ORIGIN: u8 = 1;
/// First byte of a record's value.
pub const ENVELOPE: u8 = 1;
/// First byte of a record's value, where the message is given up with what is behind it.
pub const GIVEN_UP: u8 = 2;
/// First byte of a record's value, where it is a timer that waits.
pub const TIMER: u8 = 3;
/// [`Waiting::due_ms`] of what waits until somebody acts.
pub const HELD: i64 = i64::MAX;
/// [`Waiting::due_ms`] of what may run as soon as nothing of its lane is before it.
pub const AT_ONCE: i64 = i64::MIN;
/// So many bytes of a failure's code are kept.
const MAX_CODE: usize = 256;
/// And so many of its words.
const MAX_DETAIL: usize = 4 << 10;

/// What is known of a parked message beside the message itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Its place in its lane: what comes later has a higher number, which is never 0.
    pub number: u64,
    /// When it may run, once nothing of its lane is before it: milliseconds since the Unix epoch; or [`AT_ONCE`], or
    /// [`HELD`].
    pub due_ms: i64,
    /// How often it failed; nothing of it for one that waits behind another.
    pub history: History,
    /// What it failed with last.
    pub failure: Failure,
    /// It is given up, and what is behind it with it.
    pub given_up: Option<GivenUp>,
}

/// The first message of a lane is given up, and what is parked behind it with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GivenUp {
    /// Why; a reason [of retries](Reason::is_of_retries).
    pub reason: Reason,
    /// Its dead letter is written, and all of its lane up to this number goes with it, and nothing above. 0: neither is
    /// so yet.
    pub until: u64,
}

/// The first of the messages of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct First {
    /// Its place.
    pub number: u64,
    /// Its offset.
    pub offset: i64,
    /// See [`Waiting::due_ms`].
    pub due_ms: i64,
    /// See [`GivenUp::until`]; 0 where it is not given up.
    pub until: u64,
}

/// A parked message, read back.
#[derive(Debug, Clone)]
pub struct Loaded<M> {
    /// Where it was read.
    pub offset: i64,
    /// As [`order::Papers`](crate::order::Papers) has it.
    pub id: Option<MessageId>,
    /// The same.
    pub refused: Option<Reason>,
    /// Bytes it holds in memory.
    pub size: u32,
    /// Milliseconds since the Unix epoch; negative where the broker has none.
    pub timestamp_ms: i64,
    /// What is known of it.
    pub waiting: Waiting,
    /// The payload.
    pub message: M,
}

/// A lane that is due: when, and which. Ordered as they are to run.
pub type Due = (i64, u64);

/// What is parked and committed, by this process or by whoever had the partition before.
///
/// Lanes are those of [`order::Router`](crate::order::Router).
pub trait Parked<M>: fmt::Debug {
    /// The first message of a lane whose number is `from` or higher.
    fn first(&self, partition: Partition, lane: u64, from: u64) -> Option<First>;

    /// The highest number in a lane.
    fn last(&self, partition: Partition, lane: u64) -> Option<u64>;

    /// Lane and number of the message that was read at this offset, if it is parked.
    fn stands(&self, partition: Partition, offset: i64) -> Option<(u64, u64)>;

    /// Lanes whose first message is due at `until_ms` or before, in order, behind `after`; at most `most`.
    fn due(&self, partition: Partition, after: Option<Due>, until_ms: i64, most: usize) -> Vec<Due>;

    /// When the next lane is due, later than `after_ms`; those that are held are never.
    fn next_due(&self, partition: Partition, after_ms: i64) -> Option<i64>;

    /// Messages of a lane from this number on, in order: at most `most`, and, from the second on, no more than fit into
    /// `most_bytes`.
    fn read(&self, partition: Partition, lane: u64, from: u64, most: usize, most_bytes: u64) -> Vec<Loaded<M>>;
}

/// Nothing is parked.
#[derive(Debug, Clone, Copy, Default)]
pub struct NothingParked;

impl<M> Parked<M> for NothingParked {
    fn first(&self, _: Partition, _: u64, _: u64) -> Option<First> {
        None
    }

    fn last(&self, _: Partition, _: u64) -> Option<u64> {
        None
    }

    fn stands(&self, _: Partition, _: i64) -> Option<(u64, u64)> {
        None
    }

    fn due(&self, _: Partition, _: Option<Due>, _: i64, _: usize) -> Vec<Due> {
        Vec::new()
    }

    fn next_due(&self, _: Partition, _: i64) -> Option<i64> {
        None
    }

    fn read(&self, _: Partition, _: u64, _: u64, _: usize, _: u64) -> Vec<Loaded<M>> {
        Vec::new()
    }
}

/// What is written to the retry topic of a message that comes to this.
#[must_use]
pub fn written(fate: &Fate) -> Option<&Waiting> {
    match fate {
        Fate::Parked(waiting) => Some(waiting),
        Fate::DeadLetter(epitaph) => match &epitaph.company {
            Company::Leads(mark) => Some(mark),
            Company::Alone | Company::Follows(_) => None,
        },
        _ => None,
    }
}

/// One thing that a transaction changes of what is parked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// Of which lane.
    pub lane: u64,
    /// Where the message was read.
    pub offset: i64,
    /// Its place in the lane.
    pub number: u64,
    /// The publication under which it was written; `None`: it is resolved, and no more there.
    pub written: Option<crate::pipeline::Token>,
}

/// Where a parked message was first read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
}

impl<'a> Origin<'a> {
    /// A record's key.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut key = Vec::with_capacity(15 + self.topic.len());
        key.push(ORIGIN);
        // Kafka allows 249 bytes.
        let length = u16::try_from(self.topic.len()).unwrap_or(u16::MAX);
        key.extend_from_slice(&length.to_be_bytes());
        key.extend_from_slice(&self.topic.as_bytes()[..usize::from(length)]);
        key.extend_from_slice(&self.partition.to_be_bytes());
        key.extend_from_slice(&self.offset.to_be_bytes());
        key
    }

    /// Reads a record's key.
    ///
    /// # Errors
    /// When it is none.
    pub fn decode(key: &'a [u8]) -> Result<Self, Unusable> {
        let mut rest = Bytes(key);
        if rest.take(1)? != [ORIGIN] {
            return Err(Unusable::Foreign);
        }
        let length = u16::from_be_bytes(rest.array()?);
        let topic = core::str::from_utf8(rest.take(usize::from(length))?).map_err(|_| Unusable::Foreign)?;
        let partition = i32::from_be_bytes(rest.array()?);
        let offset = i64::from_be_bytes(rest.array()?);
        end(&rest, Self { topic, partition, offset })
    }
}

/// Why a record is none of a parked message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unusable {
    /// It begins otherwise: somebody else has written it, or a later version.
    Foreign,
    /// It ends too early, or too late.
    Torn,
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Foreign => "it is no parked message",
            Self::Torn => "its length is wrong",
        })
    }
}

/// What a parked timer is, beside a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fired<'a> {
    /// Its name.
    pub name: &'a str,
    /// How many timers fired since the message that set the first of its chain.
    pub hops: u32,
    /// The offset of that message.
    pub offset: i64,
}

/// A record's value, read: a parked message with all that is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// What is known of it.
    pub waiting: Waiting,
    /// It is a timer.
    pub timer: Option<Fired<'a>>,
    /// The message's timestamp.
    pub timestamp_ms: i64,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value.
    pub value: Option<&'a [u8]>,
    /// Its headers, in order.
    pub headers: Vec<Header<'a>>,
}

/// A record's value: this message, or timer, with what is known of it.
#[must_use]
pub fn encode<M: Message>(waiting: &Waiting, timer: Option<Fired<'_>>, message: &M) -> Vec<u8> {
    let Waiting { number, due_ms, history, failure, given_up } = waiting;
    let mut out = Vec::with_capacity(message.size() + 80 + failure.code.len() + failure.detail.len().min(MAX_DETAIL));
    match (timer, given_up) {
        (None, None) => out.push(ENVELOPE),
        (None, Some(GivenUp { reason, until })) => {
            out.extend_from_slice(&[GIVEN_UP, code_of(*reason)]);
            out.extend_from_slice(&until.to_le_bytes());
        }
        (Some(Fired { name, hops, offset }), given_up) => {
            out.extend_from_slice(&[TIMER, given_up.map_or(0, |given_up| code_of(given_up.reason))]);
            out.extend_from_slice(&given_up.map_or(0, |given_up| given_up.until).to_le_bytes());
            out.extend_from_slice(&offset.to_le_bytes());
            out.extend_from_slice(&hops.to_le_bytes());
            put(&mut out, Some(name.as_bytes()));
        }
    }
    out.extend_from_slice(&number.to_le_bytes());
    out.extend_from_slice(&due_ms.to_le_bytes());
    out.extend_from_slice(&history.attempts.to_le_bytes());
    out.extend_from_slice(&history.failures.to_le_bytes());
    out.extend_from_slice(&history.first_failed_ms.unwrap_or(i64::MIN).to_le_bytes());
    put(&mut out, Some(cut(&failure.code, MAX_CODE)));
    put(&mut out, Some(cut(&failure.detail, MAX_DETAIL)));
    out.extend_from_slice(&message.timestamp_ms().to_le_bytes());
    put(&mut out, message.key());
    put(&mut out, message.value());
    let mut headers = 0u32;
    let at = out.len();
    out.extend_from_slice(&headers.to_le_bytes());
    message.for_each_header(&mut |name, value| {
        headers += 1;
        put(&mut out, Some(name));
        put(&mut out, value);
    });
    out[at..at + 4].copy_from_slice(&headers.to_le_bytes());
    out
}

/// Reads a record's value.
///
/// # Errors
/// When it is none. Nothing of it may be used then.
pub fn decode(value: &[u8]) -> Result<Envelope<'_>, Unusable> {
    let mut rest = Bytes(value);
    let (timer, given_up) = match rest.take(1).map_err(|_| Unusable::Foreign)? {
        [ENVELOPE] => (None, None),
        [GIVEN_UP] => (None, Some(given_up(&mut rest)?.ok_or(Unusable::Torn)?)),
        [TIMER] => {
            let given_up = given_up(&mut rest)?;
            let offset = i64::from_le_bytes(rest.array()?);
            let hops = u32::from_le_bytes(rest.array()?);
            let name = core::str::from_utf8(rest.field()?.ok_or(Unusable::Torn)?).map_err(|_| Unusable::Torn)?;
            (Some(Fired { name, hops, offset }), given_up)
        }
        _ => return Err(Unusable::Foreign),
    };
    let number = u64::from_le_bytes(rest.array()?);
    let due_ms = i64::from_le_bytes(rest.array()?);
    let attempts = u32::from_le_bytes(rest.array()?);
    let failures = u32::from_le_bytes(rest.array()?);
    let first = i64::from_le_bytes(rest.array()?);
    let code = text(&mut rest)?;
    let detail = text(&mut rest)?;
    let timestamp_ms = i64::from_le_bytes(rest.array()?);
    let key = rest.field()?;
    let message_value = rest.field()?;
    let headers = rest.headers()?;
    let history = History { attempts, failures, first_failed_ms: (first != i64::MIN).then_some(first) };
    let waiting = Waiting { number, due_ms, history, failure: Failure { code, detail }, given_up };
    if waiting.number == 0 {
        return Err(Unusable::Torn);
    }
    end(&rest, Envelope { waiting, timer, timestamp_ms, key, value: message_value, headers })
}

/// Why it is given up, and up to which number; `None`: it is not.
fn given_up(rest: &mut Bytes<'_>) -> Result<Option<GivenUp>, Unusable> {
    let ([code], until) = (rest.array()?, u64::from_le_bytes(rest.array()?));
    match (code, until) {
        (0, 0) => Ok(None),
        _ => Ok(Some(GivenUp { reason: reason_of(code).ok_or(Unusable::Torn)?, until })),
    }
}

/// The byte that stands for why a message is given up. A further one would need another first byte of the envelope.
const fn code_of(reason: Reason) -> u8 {
    match reason {
        Reason::Age => 2,
        Reason::Trap => 3,
        Reason::Timeout => 4,
        Reason::Oversized => 5,
        _ => 1,
    }
}

const fn reason_of(code: u8) -> Option<Reason> {
    match code {
        1 => Some(Reason::Attempts),
        2 => Some(Reason::Age),
        3 => Some(Reason::Trap),
        4 => Some(Reason::Timeout),
        5 => Some(Reason::Oversized),
        _ => None,
    }
}

/// Its first bytes, whole characters only.
fn cut(text: &str, most: usize) -> &[u8] {
    let end = (0..=most.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    &text.as_bytes()[..end]
}

impl From<Torn> for Unusable {
    fn from(_: Torn) -> Self {
        Self::Torn
    }
}

fn text(rest: &mut Bytes<'_>) -> Result<String, Unusable> {
    let bytes = rest.field()?.ok_or(Unusable::Torn)?;
    core::str::from_utf8(bytes).map(String::from).map_err(|_| Unusable::Torn)
}

fn end<T>(rest: &Bytes<'_>, read: T) -> Result<T, Unusable> {
    if rest.0.is_empty() { Ok(read) } else { Err(Unusable::Torn) }
}

#[cfg(test)]
mod tests;
