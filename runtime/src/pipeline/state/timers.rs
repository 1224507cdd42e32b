//! Timers as the store holds them: entries of state that are found by when they are due.

use super::{Failed, Held, failed};
use crate::pipeline::budget::Budget;
use crate::pipeline::kept::Memory;
use crate::pipeline::link::{MESSAGE_BYTES, Payload, to_engine};
use crate::record::{Record, RecordBuilder, TopicPartition};
use crate::wasm::Fired;
use keyrail_engine::delays::{Delayed, is_delayed};
use keyrail_engine::message::Partition;
use keyrail_engine::order::{LaneHash, OrderKey};
use keyrail_engine::policy::{Order, OrderBy};
use keyrail_engine::state::Key;
use keyrail_engine::timers::{Due, Loaded, Timer, Timers, is_timer, number};
use keyrail_store::StateIndex;
use std::sync::Arc;

/// In the store a timer ends so long after it is due, by which it is found, and never taken for state that has ended.
const AFTER_ALL_STATE_MS: i64 = 1 << 61;
/// And a delayed send so long, never taken for a timer.
const AFTER_ALL_TIMERS_MS: i64 = 5 << 60;
/// Sooner, or later, is this.
const FARTHEST_MS: i64 = 1 << 60;

/// What a timer is made into a message with.
#[derive(Debug)]
pub(in crate::pipeline) struct Makings {
    hash: LaneHash,
    /// The header that has the order key.
    header: Option<String>,
    pub(super) budget: Budget,
}

impl Makings {
    /// `seed` is that of the pipeline's lanes.
    pub(in crate::pipeline) fn new(order: &Order, seed: u64, budget: Budget) -> Self {
        let header = if let OrderBy::Header(name) = &order.by { Some(name.clone()) } else { None };
        Self { hash: LaneHash::new(seed), header, budget }
    }
}

/// What is found in the store by when it is due.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Timer,
    Delayed,
}

impl Kind {
    const fn after_ms(self) -> i64 {
        match self {
            Self::Timer => AFTER_ALL_STATE_MS,
            Self::Delayed => AFTER_ALL_TIMERS_MS,
        }
    }

    fn in_store(self, at_ms: i64) -> i64 {
        at_ms.clamp(-FARTHEST_MS, FARTHEST_MS) + self.after_ms()
    }
}

/// When an entry ends in the store, if it is found by when it is due.
pub(super) fn expires_ms(key: &[u8], value: &[u8]) -> Option<i64> {
    if is_timer(key) {
        return Timer::decode(value).ok().map(|timer| Kind::Timer.in_store(timer.at_ms));
    }
    if is_delayed(key) {
        return Delayed::due_ms(value).map(|at_ms| Kind::Delayed.in_store(at_ms));
    }
    None
}

/// Whether it stands where a timer should, or a delayed send, and is none.
pub(super) fn is_unreadable(key: &[u8], value: &[u8]) -> bool {
    is_timer(key) && Timer::decode(value).is_err() || is_delayed(key) && Delayed::decode(value).is_err()
}

impl Held {
    /// What is due, in order, behind `after`.
    pub(super) fn due(
        &self,
        kind: Kind,
        after: Option<(i64, &[u8])>,
        until_ms: i64,
        most: usize,
    ) -> Result<Vec<Due>, Failed> {
        // Keys are never empty: this is before all of its kind.
        let after = after.map_or((kind.in_store(i64::MIN) - 1, &b""[..]), |(at_ms, key)| (kind.in_store(at_ms), key));
        let found = self.index()?.expiring(Some(after), kind.in_store(until_ms), most).map_err(failed)?;
        Ok(found.into_iter().map(|(at_ms, key)| (at_ms - kind.after_ms(), key)).collect())
    }

    fn timers(&self, after: Option<(i64, &[u8])>, until_ms: i64, most: usize) -> Vec<Due> {
        self.sound(self.due(Kind::Timer, after, until_ms, most)).unwrap_or_default()
    }

    fn lane_of_timer(&self, key: &[u8]) -> u64 {
        timer_lane(&self.place.timers.hash, to_engine(self.at), key)
    }

    fn load_timer(&self, key: &[u8]) -> Option<Loaded<Payload>> {
        let value = self.get(key)?.value;
        let made = self.make_timer(key, &value);
        if made.is_none() {
            // What is committed was read as a timer before it came here.
            let _told: Option<()> = self.sound(Err(Failed::Again("a timer can't be read any more".to_owned())));
        }
        made
    }

    fn make_timer(&self, key: &[u8], value: &[u8]) -> Option<Loaded<Payload>> {
        let read = Key::decode(key).ok()?;
        let timer = Timer::decode(value).ok()?;
        let record = timer_record(&timer, read.owner, self.place.timers.header.as_deref(), self.at);
        let (at_ms, hops) = (timer.at_ms, timer.hops);
        let size = record.size() + MESSAGE_BYTES;
        let charge = self.place.timers.budget.lot().charge(size);
        let timer = Some(Arc::new(Fired { name: read.name.to_owned(), hops }));
        Some(Loaded {
            number: number(key, value),
            lane: self.lane_of_timer(key),
            size: u32::try_from(record.size()).unwrap_or(u32::MAX),
            at_ms,
            message: Payload { record, timer, delayed: None, recording: None, _charge: charge },
        })
    }
}

/// The message that a timer is, of this order key; `header` is where messages have theirs, if it is no record's key.
pub(crate) fn timer_record(
    timer: &Timer<'_>,
    owner: Option<&[u8]>,
    header: Option<&str>,
    at: TopicPartition,
) -> Record {
    let mut builder = RecordBuilder::new(timer.key, Some(timer.payload));
    timer.headers.iter().for_each(|(name, value)| builder.header(name, *value));
    if let (Some(header), Some(owner)) = (header, owner) {
        // Who asks for its order key finds it where a message has it.
        builder.header(header.as_bytes(), Some(owner));
    }
    builder.build(at, timer.offset, timer.at_ms)
}

/// The lane of the timer with this record's key.
pub(crate) fn timer_lane(hash: &LaneHash, task: Partition, key: &[u8]) -> u64 {
    let owner = Key::decode(key).ok().and_then(|key| key.owner);
    hash.lane(owner.map_or(OrderKey::Partition, OrderKey::Key), None, task, (task, 0))
}

impl Timers<Payload> for Memory {
    fn due(&self, task: Partition, after: Option<&Due>, until_ms: i64, most: usize) -> Vec<Due> {
        let after = after.map(|(at_ms, key)| (*at_ms, &**key));
        self.state(task).map(|held| held.timers(after, until_ms, most)).unwrap_or_default()
    }

    fn next_due(&self, task: Partition, after_ms: i64) -> Option<i64> {
        let after = (after_ms.saturating_add(1), &b""[..]);
        Some(self.state(task)?.timers(Some(after), i64::MAX, 1).first()?.0)
    }

    fn lane(&self, task: Partition, key: &[u8]) -> u64 {
        self.state(task).map_or(0, |held| held.lane_of_timer(key))
    }

    fn load(&self, task: Partition, key: &[u8]) -> Option<Loaded<Payload>> {
        self.state(task)?.load_timer(key)
    }
}
