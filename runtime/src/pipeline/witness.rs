//! Who is told what becomes of each message: `keyrail dev` shows it. Nobody listens in `keyrail run`.

use super::committer::Names;
use super::link::Payload;
use crate::record::Record;
use crate::wasm::{Effects, Setup};
use keyrail_engine::message::{Epitaph, Fate};
use keyrail_engine::parking;
use keyrail_engine::shard::{Retried, Settled};

/// Is told of every message. Called on the threads that handle messages: it must not wait.
pub trait Witness: Send + Sync + std::fmt::Debug {
    /// What became of a message, or of one run of it.
    fn tell(&self, told: &Told<'_>);
}

/// A message and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told<'a> {
    /// The pipeline's name.
    pub pipeline: &'a str,
    /// The input that the message came from.
    pub topic: &'a str,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// What became of it.
    pub event: Event<'a>,
}

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event<'a> {
    /// It is done, and sent records to these topics, in this order.
    Done(Vec<&'a str>),
    /// What it sent with a delay goes out to this topic; the key is that of what goes out.
    SentLater(&'a str),
    /// The handler passed over it, and sent records to these topics.
    Skipped(Vec<&'a str>),
    /// Its id was seen before: at this offset of its partition, if that is not committed yet, and was there.
    Duplicate(Option<i64>),
    /// It failed, and will run again.
    Retry {
        /// The handler's word, or the host's.
        code: &'a str,
        /// The handler's words, or the host's.
        detail: &'a str,
        /// Runs that failed so far.
        failures: u32,
        /// When it runs again.
        in_ms: u64,
    },
    /// It failed, and waits in the retry topic; what comes behind it with its order key waits there too.
    Parked {
        /// The handler's word, or the host's.
        code: &'a str,
        /// The handler's words, or the host's.
        detail: &'a str,
        /// Runs that failed so far.
        failures: u32,
        /// When it runs again, in milliseconds since the Unix epoch; `None`: when somebody lets it.
        due_ms: Option<i64>,
    },
    /// Somebody lets it run, with its attempts anew.
    LetRun,
    /// It is given up, and what waits behind it with it: it is parked until all of that is.
    GivenUp,
    /// All that was given up with it is a dead letter.
    Buried,
    /// It waits in the retry topic, behind another one of its order key.
    ParkedBehind,
    /// It is in the retry topic already: it was read again.
    ParkedBefore,
    /// It goes to the dead-letter topic.
    DeadLetter {
        /// Why, and after how many runs.
        epitaph: &'a Epitaph,
        /// Where it goes.
        topic: &'a str,
    },
    /// It failed for good and is dropped: `retry.then = "discard"`.
    Discarded(&'a Epitaph),
}

impl<'a> Told<'a> {
    pub(super) fn settled(names: &'a Names, message: &'a Settled<Payload>, effects: &'a Effects) -> Self {
        let record = &message.message.record;
        let input = record.at.topic as usize;
        let sent = || -> Vec<&'a str> {
            let of = message.slot.into_iter().flat_map(|slot| effects.of(slot));
            of.map(|send| text(&names.outputs, send.output as usize)).collect()
        };
        let delayed = message.message.delayed.as_ref().and_then(|delayed| delayed.index);
        let event = match &message.fate {
            Fate::Done => delayed.map_or_else(|| Event::Done(sent()), |to| Event::SentLater(text(&names.outputs, to))),
            Fate::Skipped => Event::Skipped(sent()),
            Fate::Duplicate { of } => {
                let own = |(partition, _): &(_, i64)| *partition == message.ticket.partition;
                Event::Duplicate((*of).filter(own).map(|(_, offset)| offset))
            }
            Fate::DeadLetter(epitaph) => Event::DeadLetter { epitaph, topic: text(&names.letters, input) },
            Fate::Discarded(epitaph) => Event::Discarded(epitaph),
            Fate::Parked(waiting) if waiting.history.first_failed_ms.is_none() => Event::ParkedBehind,
            Fate::Parked(waiting) if waiting.given_up.is_some() => Event::GivenUp,
            Fate::Parked(waiting) if waiting.due_ms == parking::AT_ONCE => Event::LetRun,
            Fate::Parked(waiting) => Event::Parked {
                code: &waiting.failure.code,
                detail: &waiting.failure.detail,
                failures: waiting.history.failures,
                due_ms: (waiting.due_ms != parking::HELD).then_some(waiting.due_ms),
            },
            Fate::ParkedBefore => Event::ParkedBefore,
            Fate::Buried => Event::Buried,
        };
        Self::of(&names.pipeline, text(&names.inputs, input), record, event)
    }

    pub(super) fn retried(setup: &'a Setup, record: &'a Record, retried: &'a Retried, now_ms: u64) -> Self {
        let event = Event::Retry {
            code: &retried.failure.code,
            detail: &retried.failure.detail,
            failures: retried.failures,
            in_ms: retried.due_ms.saturating_sub(now_ms),
        };
        Self::of(&setup.handler, text(&setup.topics, record.at.topic as usize), record, event)
    }

    fn of(pipeline: &'a str, topic: &'a str, record: &'a Record, event: Event<'a>) -> Self {
        Self { pipeline, topic, partition: record.at.partition, offset: record.offset, key: record.key(), event }
    }
}

fn text(names: &[String], index: usize) -> &str {
    names.get(index).map_or("?", String::as_str)
}
