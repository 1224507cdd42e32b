//! A run of one message by itself, of which nothing stands.

use super::{Lost, Recorded, Remembered, Unreadable, Verdict};
use crate::http::{Error, Fetch, Fetched, Request, Scope, shown};
use crate::record::{Record, RecordBuilder, TopicPartition};
use crate::wasm::{Delivery, Fired, Handler, Limits, OpenError, Reads, Send, Setup, State};
use crossbeam_channel::Sender;
use keyrail_engine::delays::{Delayed, is_delayed};
use keyrail_engine::state::{Call, Entry, Key, Kind};
use keyrail_engine::timers::Timer;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// No manifest gives a call more; whatever a header says, a run ends.
const LONGEST: Duration = Duration::from_hours(1);

/// A message, and all that a run of it follows from beside the handler.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Case {
    /// The topic that it was read from.
    pub topic: String,
    /// Its place there, as the handler sees it.
    pub partition: i32,
    /// See `partition`.
    pub offset: i64,
    /// Milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// `None` is null.
    pub key: Option<Vec<u8>>,
    /// `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Names and values, in order.
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// It is a timer.
    pub timer: Option<Fired>,
    /// 1 on the first run.
    pub attempt: u32,
    /// See [`Delivery`].
    pub follows_dead_letter: bool,
    /// What the handler is told as the time.
    pub now_ms: i64,
    /// How long it may take.
    pub deadline_ms: u64,
    /// What is there of state.
    pub reads: Reads,
}

/// A record that would be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// The output's name.
    pub to: String,
    /// `None` is null.
    pub key: Option<Vec<u8>>,
    /// `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Those that the handler gave.
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// It takes the message's own headers along.
    pub forward_headers: bool,
    /// `None`: the message's own.
    pub timestamp_ms: Option<i64>,
}

/// A change that would be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Of state: its value, and when that ends. `None`: it is deleted.
    State(String, Option<(Vec<u8>, Option<i64>)>),
    /// Of a timer: when it is due, and its payload. `None`: it is cancelled.
    Timer(String, Option<(i64, Vec<u8>)>),
}

/// What came of a run. Of one that failed, `sent` and `changes` are what it staged before, and would not stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Played {
    /// How it ended.
    pub verdict: Verdict,
    /// What it sends, in order. Empty where the call failed.
    pub sent: Vec<Sent>,
    /// What it changes, state first, by name.
    pub changes: Vec<Change>,
    /// What it read that the record does not hold: it was answered as if nothing were there.
    pub missing: Vec<String>,
}

impl Case {
    /// Of a dead letter.
    ///
    /// # Errors
    /// Its record and its headers don't fit together.
    pub fn of(letter: &Record, recorded: &Recorded, own: usize, lost: &[Lost]) -> Result<Self, Unreadable> {
        let owned = |(name, value): (&[u8], Option<&[u8]>)| (name.to_vec(), value.map(<[u8]>::to_vec));
        if own > letter.header_count() {
            return Err(Unreadable::Damaged);
        }
        let mut headers: Vec<_> = letter.headers().take(own).map(owned).collect();
        for (place, name, value) in lost {
            if *place > headers.len() {
                return Err(Unreadable::Damaged);
            }
            headers.insert(*place, (name.clone(), value.clone()));
        }
        Ok(Self {
            topic: recorded.topic.clone(),
            partition: recorded.partition,
            offset: recorded.offset,
            timestamp_ms: recorded.timestamp_ms,
            key: letter.key().map(<[u8]>::to_vec),
            value: letter.value().map(<[u8]>::to_vec),
            headers,
            timer: recorded.timer.clone(),
            attempt: recorded.attempt,
            follows_dead_letter: recorded.follows_dead_letter,
            now_ms: recorded.now_ms,
            deadline_ms: recorded.deadline_ms,
            reads: recorded.reads.clone(),
        })
    }

    fn delivery(&self, setup: &mut Setup) -> Delivery {
        let known = setup.topics.iter().position(|topic| *topic == self.topic);
        let topic = known.unwrap_or_else(|| {
            setup.topics.push(self.topic.clone());
            setup.topics.len() - 1
        });
        let at = TopicPartition { topic: u32::try_from(topic).unwrap_or(u32::MAX), partition: self.partition };
        let mut builder = RecordBuilder::new(self.key.as_deref(), self.value.as_deref());
        self.headers.iter().for_each(|(name, value)| builder.header(name, value.as_deref()));
        Delivery {
            record: builder.build(at, self.offset, self.timestamp_ms),
            timer: self.timer.clone().map(Arc::new),
            attempt: self.attempt,
            follows_dead_letter: self.follows_dead_letter,
        }
    }
}

/// Runs a message in an instance of its own. `keeps_state`: the pipeline's handlers have state.
///
/// # Errors
/// The handler does not open.
pub fn run(
    handler: &Handler,
    setup: &Setup,
    limits: &Limits,
    keeps_state: bool,
    case: &Case,
) -> Result<Played, OpenError> {
    let mut setup = Setup { record: false, ..setup.clone() };
    let mut batch = vec![case.delivery(&mut setup)];
    let mut instance = handler.open(&setup, limits)?;
    let asked = Arc::<Unanswered>::default();
    instance.reach(asked.clone());
    let kept = Arc::new(Remembered::new(case.reads.clone()));
    let mut state = keeps_state.then(|| State { call: Call::alone(), kept: kept.clone() });
    let deadline = Duration::from_millis(case.deadline_ms).min(LONGEST);
    let result = instance.process_with(&mut batch, &mut state, case.now_ms, deadline);
    let staged = state.map(|state| state.call.staged(0)).unwrap_or_default();
    let changes = staged.iter().filter_map(|(key, entry)| change(key, entry.as_ref())).collect();
    let (verdict, mut sent) = match &result {
        Ok(answer) => {
            // One message has one outcome, or the call failed.
            let verdict = answer.outcomes.first().map_or_else(Verdict::none, Verdict::of);
            (verdict, answer.effects.of(0).map(|send| sent(&send, &setup)).collect())
        }
        Err(failure) => (Verdict::of_failure(failure), Vec::new()),
    };
    if result.is_ok() {
        sent.extend(staged.iter().filter_map(|(key, entry)| sent_later(key, entry.as_ref())));
    }
    let missing = kept.missing().into_iter().chain(asked.all()).collect();
    Ok(Played { verdict, sent, changes, missing })
}

/// What a run asked servers for: their answers are in no record, and nobody is asked again.
#[derive(Default)]
struct Unanswered(Mutex<Vec<String>>);

impl Unanswered {
    /// In words.
    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Fetch for Unanswered {
    fn start(&self, number: u32, request: Request, _: &Arc<Scope>, done: &Sender<(u32, Fetched)>) {
        let Request { method, url, .. } = request;
        let what = format!("the answer to {method} {}", shown(&url));
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(what.clone());
        let denied = Error::Denied(format!("{what} is not recorded, and a run that is repeated makes no requests"));
        // Who asks has room for it, and waits.
        drop(done.try_send((number, Err(denied))));
    }
}

pub(crate) fn sent(send: &Send<'_>, setup: &Setup) -> Sent {
    let owned = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
    Sent {
        to: setup.outputs.get(send.output as usize).cloned().unwrap_or_default(),
        key: owned(send.key),
        value: owned(send.value),
        headers: send.headers.clone().map(|(name, value)| (name.to_vec(), owned(value))).collect(),
        forward_headers: send.forward_headers,
        timestamp_ms: send.timestamp_ms,
    }
}

/// What is sent with a delay is staged as state; it has all its headers.
fn sent_later(key: &[u8], entry: Option<&Entry>) -> Option<Sent> {
    postponed(&entry.filter(|_| is_delayed(key))?.value).map(|(_, sent)| sent)
}

/// A delayed send as it is kept: the delay, in milliseconds, until its message is settled; and what is sent.
pub(crate) fn postponed(value: &[u8]) -> Option<(u64, Sent)> {
    let delayed = Delayed::decode(value).ok()?;
    let owned = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
    let sent = Sent {
        to: delayed.output.to_owned(),
        key: owned(delayed.key),
        value: owned(delayed.value),
        headers: delayed.headers.iter().map(|(name, value)| (name.to_vec(), owned(*value))).collect(),
        forward_headers: false,
        timestamp_ms: delayed.timestamp_ms,
    };
    Some((delayed.at_ms.cast_unsigned(), sent))
}

/// What the host staged under a key that it made itself; another there is none.
pub(crate) fn change(key: &[u8], entry: Option<&Entry>) -> Option<Change> {
    let key = Key::decode(key).ok()?;
    let name = key.name.to_owned();
    Some(match (key.kind, entry) {
        (Kind::Delayed | Kind::Schema, _) => return None,
        (Kind::State, entry) => Change::State(name, entry.map(|entry| (entry.value.to_vec(), entry.expires_ms))),
        (Kind::Timer, None) => Change::Timer(name, None),
        (Kind::Timer, Some(entry)) => {
            let timer = Timer::decode(&entry.value).ok()?;
            Change::Timer(name, Some((timer.at_ms, timer.payload.to_vec())))
        }
    })
}
