//! Commands from outside to whoever owns a partition: what is written of them, and what they come to.
//!
//! Only the owner of a partition may change what waits in it. Who wants a message to be run now, dropped, or run again after it
//! was dead-lettered writes a *command* to the input's inbox, to the partition where the message was first read. The owner reads
//! it, obeys it in the transaction that moves its place in the inbox ([`Kept::inbox_at`](crate::metadata::Kept::inbox_at)), and
//! so exactly once, and writes an answer to the same partition.
//!
//! # Records
//! A command's key is [`COMMAND`] and its id; its value [`VERSION`], what is to be done, whether an answer is wanted, where the
//! message was first read ([`Origin`]), and for one that is to run again its envelope ([`parking::encode`]). An answer's key is
//! [`ANSWER`] and the command's id; its value [`VERSION`], what became of it, and for people why. The formats are frozen:
//! another one gets another first byte.

use crate::message::{Failure, Message};
use crate::order::Papers;
use crate::parking::{self, AT_ONCE, Envelope, Origin, Unusable, Waiting};
use crate::retry::History;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// First byte of a command's key.
pub const COMMAND: u8 = 1;
/// First byte of an answer's key.
pub const ANSWER: u8 = 2;
/// First byte of a value.
pub const VERSION: u8 = 1;

const RETRY: u8 = 1;
const DROP: u8 = 2;
const REDRIVE: u8 = 3;

const OBEYED: u8 = 0;
const REFUSED: u8 = 1;

/// Names one command: whoever writes it chooses 128 bits by chance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandId(pub [u8; 16]);

/// What is to be done with a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed<T> {
    /// It waits, or is held: it may run now, with all its attempts anew.
    Retry,
    /// It waits, or is held: it is discarded, and what is behind it goes on.
    Drop,
    /// It was dead-lettered: it is to run again, behind all that is parked of its key.
    Redrive(T),
}

/// A command, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command<'a> {
    /// Its name.
    pub id: CommandId,
    /// Whether somebody waits for the answer also where it is obeyed. What is refused is always answered.
    pub answer: bool,
    /// Where the message was first read.
    pub origin: Origin<'a>,
    /// What is to be done.
    pub deed: Deed<Envelope<'a>>,
}

/// What stands in an inbox.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "it is read, and used at once")]
pub enum Entry<'a> {
    /// A command.
    Command(Command<'a>),
    /// What became of one.
    Answer(CommandId, Answer),
}

/// What became of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It is done, and committed.
    Obeyed,
    /// It is not done, for this reason.
    Refused(String),
}

/// Why a command is not obeyed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// No message that was read there is parked.
    NotParked,
    /// It is parked already.
    IsParked,
    /// It runs, or is about to.
    Runs,
    /// Another message of its key waits before it, which was first read at this offset.
    Behind(i64),
    /// It is given up with the message of its key that was first read at this offset, or is that one.
    GivenUp(i64),
    /// What waits is not parked in this pipeline, or cannot be acted on.
    NoParking,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotParked => f.write_str("it is not parked (any more)"),
            Self::IsParked => f.write_str("it is parked already"),
            Self::Runs => f.write_str("it runs just now, or what is before it of its key: try again"),
            Self::Behind(offset) => {
                write!(
                    f,
                    "the message of offset {offset} of the same key waits before it: retry or drop that one first"
                )
            }
            Self::GivenUp(offset) => {
                write!(
                    f,
                    "it goes to the dead letters, with the message of offset {offset} of the same key, which is spent"
                )
            }
            Self::NoParking => f.write_str(
                "this pipeline parks nothing, or nothing that anybody may act on: that needs guarantee = \"exactly-once\" and \
                 order.scope = \"topic\"",
            ),
        }
    }
}

/// A message that is to run again, with what follows from it alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Returned<M> {
    /// As the router has them.
    pub papers: Papers,
    /// Bytes it holds in memory.
    pub size: u32,
    /// Milliseconds since the Unix epoch; negative where the broker has none.
    pub timestamp_ms: i64,
    /// What it was dead-lettered with.
    pub failure: Failure,
    /// The payload.
    pub message: M,
}

/// A command's key.
#[must_use]
pub fn key(kind: u8, id: CommandId) -> [u8; 17] {
    let mut key = [kind; 17];
    key[1..].copy_from_slice(&id.0);
    key
}

/// What is known of a message that is to run again: its attempts, its back-off and its age count anew, from this wall time on.
#[must_use]
pub fn returned(number: u64, failure: Failure, now_ms: i64) -> Waiting {
    // IMPORTANT: it has failed, so it is no duplicate of itself, and not too old.
    let history = History { attempts: 0, failures: 0, first_failed_ms: Some(now_ms) };
    Waiting { number, due_ms: AT_ONCE, history, failure, given_up: None }
}

/// A command's value. `deed` holds the message that is to run again, with what it was dead-lettered with.
#[must_use]
pub fn encode<M: Message>(answer: bool, origin: &Origin<'_>, deed: &Deed<(&Failure, &M)>) -> Vec<u8> {
    let kind = match deed {
        Deed::Retry => RETRY,
        Deed::Drop => DROP,
        Deed::Redrive(_) => REDRIVE,
    };
    let mut out = Vec::from([VERSION, kind, u8::from(answer)]);
    let origin = origin.encode();
    // A topic's name has 249 bytes at most.
    out.extend_from_slice(&u16::try_from(origin.len()).unwrap_or(u16::MAX).to_le_bytes());
    out.extend_from_slice(&origin);
    if let Deed::Redrive((failure, message)) = deed {
        out.extend_from_slice(&parking::encode(&returned(1, Failure::clone(failure), 0), None, *message));
    }
    out
}

/// An answer's value.
#[must_use]
pub fn encode_answer(answer: &Answer) -> Vec<u8> {
    match answer {
        Answer::Obeyed => Vec::from([VERSION, OBEYED]),
        Answer::Refused(why) => [&[VERSION, REFUSED], why.as_bytes()].concat(),
    }
}

/// Reads a record of an inbox.
///
/// # Errors
/// When it is none of ours. Nothing of it may be used then.
pub fn decode<'a>(key: &[u8], value: &'a [u8]) -> Result<Entry<'a>, Unusable> {
    let (kind, id) = key.split_first().ok_or(Unusable::Foreign)?;
    let id = CommandId(id.try_into().map_err(|_| Unusable::Foreign)?);
    let (version, rest) = value.split_first().ok_or(Unusable::Foreign)?;
    match (*kind, *version) {
        (COMMAND, VERSION) => command(id, rest).map(Entry::Command),
        (ANSWER, VERSION) => answer(rest).map(|answer| Entry::Answer(id, answer)),
        _ => Err(Unusable::Foreign),
    }
}

fn command(id: CommandId, rest: &[u8]) -> Result<Command<'_>, Unusable> {
    let ([kind, answer, low, high], rest) = rest.split_first_chunk::<4>().ok_or(Unusable::Torn)?;
    let length = usize::from(u16::from_le_bytes([*low, *high]));
    let (origin, rest) = rest.split_at_checked(length).ok_or(Unusable::Torn)?;
    let origin = Origin::decode(origin)?;
    let deed = match (*kind, rest.is_empty()) {
        (RETRY, true) => Deed::Retry,
        (DROP, true) => Deed::Drop,
        (REDRIVE, _) => {
            let envelope = parking::decode(rest)?;
            // A timer that is a dead letter does not come back as one.
            Deed::Redrive(if envelope.timer.is_none() { envelope } else { return Err(Unusable::Torn) })
        }
        (RETRY | DROP, false) => return Err(Unusable::Torn),
        _ => return Err(Unusable::Foreign),
    };
    Ok(Command { id, answer: *answer != 0, origin, deed })
}

fn answer(rest: &[u8]) -> Result<Answer, Unusable> {
    let (kind, why) = rest.split_first().ok_or(Unusable::Torn)?;
    match *kind {
        OBEYED if why.is_empty() => Ok(Answer::Obeyed),
        REFUSED => core::str::from_utf8(why).map(|why| Answer::Refused(why.into())).map_err(|_| Unusable::Torn),
        _ => Err(Unusable::Torn),
    }
}

#[cfg(test)]
mod tests;
