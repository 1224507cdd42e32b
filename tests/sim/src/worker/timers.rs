//! The model's timers: what a process knows to be committed of them stands in its store of state.

use super::Store;
use crate::record::{Outputs, Payload, Plan, Rec, Wish, index_of};
use crate::rng::Rng;
use crate::touch::{Act, TIMERS, Use};
use keyrail_engine::message::Partition;
use keyrail_engine::order::{LaneHash, OrderKey};
use keyrail_engine::policy::{Policy, Spent};
use keyrail_engine::state::{Entry, Key};
use keyrail_engine::timers::{Due, Loaded, Timer, Timers, is_timer, number};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

/// See the module.
#[derive(Debug)]
pub(crate) struct Alarms {
    store: Rc<Store>,
    hash: LaneHash,
    held: Rc<Cell<u64>>,
    /// A timer that always fails comes to an end.
    ends: bool,
}

impl Alarms {
    pub(crate) fn new(store: Rc<Store>, policy: &Policy, seed: u64) -> Self {
        Self { store, hash: LaneHash::new(seed), held: Rc::default(), ends: policy.retry.then != Spent::Hold }
    }

    /// Bytes of what is loaded.
    pub(crate) fn loaded_bytes(&self) -> u64 {
        self.held.get()
    }

    fn all(&self, task: Partition) -> Vec<Due> {
        let timers = self.store.all(task).into_iter().filter(|(key, _)| is_timer(key));
        let due = |(key, entry): (Arc<[u8]>, Entry)| Some((decode(&entry.value)?.at_ms, key));
        let mut all: Vec<Due> = timers.filter_map(due).collect();
        all.sort();
        all
    }

    /// The message that a timer is; what its handler does follows from its number.
    fn rec(&self, task: Partition, key: &[u8], value: &[u8]) -> Option<Rec> {
        let (read, timer) = (Key::decode(key).ok()?, decode(value)?);
        let number = number(key, value);
        let mut rng = Rng::new(number.cast_unsigned());
        let bytes = |bytes: Option<&[u8]>| bytes.and_then(|bytes| bytes.first_chunk::<4>().copied());
        let order = timer.headers.first().and_then(|(_, value)| *value);
        let plan = match rng.below(24) {
            0 => Plan::Retry { times: 1, delay_ms: None },
            1 => Plan::Retry { times: 1, delay_ms: Some(rng.within(0, 900)) },
            2 => Plan::DeadLetter,
            3 => Plan::Trap(1),
            4 if self.ends => Plan::Fails,
            _ => Plan::Done,
        };
        let state = Use { name: rng.index(3) as u8, act: Act::Count, scan: None, late: false };
        Some(Rec {
            partition: index_of(task),
            offset: number,
            key: bytes(timer.key),
            id: None,
            order: bytes(order),
            content: [0; 4],
            timestamp_ms: timer.at_ms,
            size: 60,
            plan,
            outputs: Outputs::to(&[rng.below(2) as u8]),
            too_large: false,
            state,
            timer: rng.percent(30).then(|| Wish::draw(&mut rng)),
            later: None,
            fired: TIMERS.iter().position(|name| *name == read.name).map(|name| name as u8),
        })
    }
}

fn decode(value: &[u8]) -> Option<Timer<'_>> {
    Timer::decode(value).ok()
}

impl Timers<Payload> for Alarms {
    fn due(&self, task: Partition, after: Option<&Due>, until_ms: i64, most: usize) -> Vec<Due> {
        let wanted = |due: &Due| due.0 <= until_ms && after.is_none_or(|after| due > after);
        self.all(task).into_iter().filter(wanted).take(most).collect()
    }

    fn next_due(&self, task: Partition, after_ms: i64) -> Option<i64> {
        self.all(task).into_iter().map(|due| due.0).find(|at_ms| *at_ms > after_ms)
    }

    fn lane(&self, task: Partition, key: &[u8]) -> u64 {
        let owner = Key::decode(key).ok().and_then(|key| key.owner);
        self.hash.lane(owner.map_or(OrderKey::Partition, OrderKey::Key), None, task, (task, 0))
    }

    fn load(&self, task: Partition, key: &[u8]) -> Option<Loaded<Payload>> {
        let value = self.store.all(task).remove(key)?.value;
        let rec = Rc::new(self.rec(task, key, &value)?);
        let (number, lane) = (rec.offset, self.lane(task, key));
        let (size, at_ms) = (rec.size, rec.timestamp_ms);
        Some(Loaded { number, lane, size, at_ms, message: Payload::new(rec, &self.held) })
    }
}
