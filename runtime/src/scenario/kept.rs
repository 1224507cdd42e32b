//! What a scenario's messages have left: state, timers and delayed sends, in memory.

use crate::pipeline::state::{timer_lane, timer_record};
use crate::record::{Record, TopicPartition};
use crate::replay::{Sent, postponed};
use crate::wasm::Fired;
use keyrail_engine::dedup::Past;
use keyrail_engine::delays::is_delayed;
use keyrail_engine::message::{MessageId, Now, Partition};
use keyrail_engine::order::LaneHash;
use keyrail_engine::policy::{Order, OrderBy};
use keyrail_engine::state::{Change, Entry, Kept, Key};
use keyrail_engine::timers::{Due, Loaded, Timer, Timers, is_timer, number};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A message as the engine hands it on.
#[derive(Debug, Clone)]
pub(super) struct Payload {
    pub(super) record: Record,
    /// It is a timer's.
    pub(super) timer: Option<Arc<Fired>>,
}

/// A record's place: its task and its key there.
type At = (Partition, Arc<[u8]>);

#[derive(Debug, Default)]
struct Held {
    entries: BTreeMap<At, Entry>,
    /// When each timer is due.
    timers: BTreeSet<(Partition, Due)>,
    /// The tasks of `timers`, and of some that were.
    tasks: BTreeSet<Partition>,
    /// When each id was seen.
    ids: BTreeMap<(Partition, MessageId), i64>,
    /// The same in the order of time.
    seen: VecDeque<(i64, Partition, MessageId)>,
    /// Of keys and values of `entries`.
    bytes: u64,
}

/// What an entry or an id takes beside its own bytes, about.
const ENTRY_BYTES: u64 = 128;

impl Held {
    /// When the next timer of a task is due, later than this.
    fn next_timer_ms(&self, task: Partition, after_ms: i64) -> Option<i64> {
        let from = (task, (after_ms.checked_add(1)?, Arc::from(&b""[..])));
        let (of, (at_ms, _)) = self.timers.range(from..).next()?;
        (*of == task).then_some(*at_ms)
    }
}

/// See the module. A lock, since an instance may run on any thread; nobody waits for it.
#[derive(Debug)]
pub(super) struct Store {
    held: Mutex<Held>,
    hash: LaneHash,
    /// The header that has the order key.
    header: Option<String>,
    /// So long an id is remembered.
    window_ms: u64,
}

/// A timer that is set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    /// The order key that it was set for; `None`: the whole task's.
    pub key: Option<Vec<u8>>,
    /// What the handler calls it.
    pub name: String,
    /// When it is due, milliseconds since the Unix epoch.
    pub at_ms: i64,
}

impl Store {
    /// Of nothing. `seed` is that of the lanes, `window_ms` that of `[dedup]`.
    pub(super) fn new(order: &Order, seed: u64, window_ms: u64) -> Self {
        let header = if let OrderBy::Header(name) = &order.by { Some(name.clone()) } else { None };
        Self { held: Mutex::default(), hash: LaneHash::new(seed), header, window_ms }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // Each change is whole before the lock goes.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A message is settled, and with it what it changes. What it sends later comes back, with the delay, and is not kept.
    pub(super) fn apply(&self, task: Partition, changes: &[Change]) -> Vec<(u64, Sent)> {
        let mut held = self.held();
        let mut later = Vec::new();
        for Change { key, entry, .. } in changes {
            if is_delayed(key) {
                later.extend(entry.as_ref().and_then(|entry| postponed(&entry.value)));
                continue;
            }
            let at = (task, key.clone());
            let size = |entry: &Entry| ENTRY_BYTES + (key.len() + entry.value.len()) as u64;
            let before = match entry {
                Some(entry) => held.entries.insert(at, entry.clone()),
                None => held.entries.remove(&at),
            };
            let (added, gone) = (entry.as_ref().map_or(0, size), before.as_ref().map_or(0, size));
            held.bytes = (held.bytes + added).saturating_sub(gone);
            if is_timer(key) {
                held.tasks.insert(task);
                let due = |entry: &Entry| Some((task, (Timer::due_ms(&entry.value)?, key.clone())));
                if let Some(due) = before.as_ref().and_then(due) {
                    held.timers.remove(&due);
                }
                held.timers.extend(entry.as_ref().and_then(due));
            }
        }
        later
    }

    /// When the next timer is due, later than this.
    pub(super) fn next_timer_ms(&self, after_ms: i64) -> Option<i64> {
        let held = self.held();
        held.tasks.iter().filter_map(|task| held.next_timer_ms(*task, after_ms)).min()
    }

    /// An id is seen. Those that are too old to count are forgotten.
    pub(super) fn see(&self, task: Partition, id: MessageId, wall_ms: i64) {
        let mut held = self.held();
        held.ids.insert((task, id), wall_ms);
        held.seen.push_back((wall_ms, task, id));
        let oldest_ms = wall_ms.saturating_sub_unsigned(self.window_ms);
        while let Some((seen_ms, task, id)) = held.seen.pop_front_if(|(seen_ms, ..)| *seen_ms < oldest_ms) {
            if held.ids.get(&(task, id)) == Some(&seen_ms) {
                held.ids.remove(&(task, id));
            }
        }
    }

    /// What it holds in memory, about.
    pub(super) fn bytes(&self) -> u64 {
        let held = self.held();
        held.bytes + ENTRY_BYTES * held.seen.len() as u64
    }

    /// All timers, the next one first.
    pub(super) fn alarms(&self) -> Vec<Alarm> {
        let held = self.held();
        let alarm = |(at_ms, key): &Due| {
            let Key { owner, name, .. } = Key::decode(key).ok()?;
            Some(Alarm { key: owner.map(<[u8]>::to_vec), name: name.to_owned(), at_ms: *at_ms })
        };
        let mut all: Vec<Alarm> = held.timers.iter().filter_map(|(_, due)| alarm(due)).collect();
        all.sort_by(|one, other| (one.at_ms, &one.key, &one.name).cmp(&(other.at_ms, &other.key, &other.name)));
        all
    }
}

impl Past for Store {
    fn contains(&self, task: Partition, id: MessageId, now: Now) -> bool {
        let oldest_ms = now.wall_ms.saturating_sub_unsigned(self.window_ms);
        self.held().ids.get(&(task, id)).is_some_and(|seen_ms| *seen_ms >= oldest_ms)
    }
}

impl Kept for Store {
    fn get(&self, task: Partition, key: &[u8]) -> Option<Entry> {
        self.held().entries.get(&(task, Arc::from(key))).cloned()
    }

    fn scan(&self, task: Partition, prefix: &[u8], after: &[u8], limit: usize, now_ms: i64) -> Vec<(Arc<[u8]>, Entry)> {
        let from = if after >= prefix {
            Bound::Excluded((task, Arc::from(after)))
        } else {
            Bound::Included((task, Arc::from(prefix)))
        };
        let held = self.held();
        let found = held.entries.range((from, Bound::Unbounded));
        let found = found.take_while(|((of, key), _)| *of == task && key.starts_with(prefix));
        let living = found.filter(|(_, entry)| entry.lives(now_ms));
        living.take(limit).map(|((_, key), entry)| (key.clone(), entry.clone())).collect()
    }
}

impl Timers<Payload> for Store {
    fn due(&self, task: Partition, after: Option<&Due>, until_ms: i64, most: usize) -> Vec<Due> {
        let from = after.map_or_else(
            || Bound::Included((task, (i64::MIN, Arc::from(&b""[..])))),
            |after| Bound::Excluded((task, after.clone())),
        );
        let held = self.held();
        let found = held.timers.range((from, Bound::Unbounded));
        found
            .take_while(|(of, (at_ms, _))| *of == task && *at_ms <= until_ms)
            .take(most)
            .map(|(_, due)| due.clone())
            .collect()
    }

    fn next_due(&self, task: Partition, after_ms: i64) -> Option<i64> {
        self.held().next_timer_ms(task, after_ms)
    }

    fn lane(&self, task: Partition, key: &[u8]) -> u64 {
        timer_lane(&self.hash, task, key)
    }

    fn load(&self, task: Partition, key: &[u8]) -> Option<Loaded<Payload>> {
        let value = self.get(task, key)?.value;
        let read = Key::decode(key).ok()?;
        let timer = Timer::decode(&value).ok()?;
        let at = TopicPartition { topic: task.topic, partition: task.number };
        let record = timer_record(&timer, read.owner, self.header.as_deref(), at);
        Some(Loaded {
            number: number(key, &value),
            lane: self.lane(task, key),
            size: u32::try_from(record.size()).unwrap_or(u32::MAX),
            at_ms: timer.at_ms,
            message: Payload { record, timer: Some(Arc::new(Fired { name: read.name.to_owned(), hops: timer.hops })) },
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use keyrail_engine::order::OrderKey;
    use keyrail_engine::state::Owner;

    const TASK: Partition = Partition { topic: 0, number: 3 };

    #[test]
    fn ids_that_are_too_old_take_no_room() {
        let store = Store::new(&Order::default(), 0, 1_000);
        let id = |n: u8| MessageId([n; 16]);
        let now = |wall_ms: i64| Now { steady_ms: 0, wall_ms };
        store.see(TASK, id(1), 0);
        store.see(TASK, id(2), 500);
        store.see(TASK, id(1), 900);
        let bytes = store.bytes();
        store.see(TASK, id(3), 1_500);
        assert_eq!(store.bytes(), bytes, "the first one is forgotten");
        let seen = |n: u8, wall_ms: i64| store.contains(TASK, id(n), now(wall_ms));
        assert!(seen(1, 1_500) && seen(2, 1_500) && seen(3, 1_500));
        store.see(TASK, id(4), 1_501);
        assert!(!seen(2, 1_501) && seen(1, 1_501));
    }

    #[test]
    fn what_is_kept_is_counted_and_the_next_timer_is_that_of_any_task() {
        let store = Store::new(&Order::default(), 0, 0);
        let owner = Owner::of(OrderKey::Key(b"k")).unwrap();
        let change = |value: Option<&[u8]>| Change {
            key: Arc::from(owner.key("n")),
            entry: value.map(|value| Entry { value: Arc::from(value), expires_ms: None }),
            number: 0,
        };
        store.apply(TASK, &[change(Some(b"four"))]);
        let bytes = store.bytes();
        store.apply(TASK, &[change(Some(b"fourteen"))]);
        assert_eq!(store.bytes(), bytes + 4);
        store.apply(TASK, &[change(None)]);
        assert_eq!((store.bytes(), store.next_timer_ms(0)), (0, None));
        let other = Partition { topic: 1, ..TASK };
        {
            let mut held = store.held();
            let due = |at_ms: i64| (at_ms, Arc::from(&b"t"[..]));
            held.tasks.extend([TASK, other]);
            held.timers.extend([(TASK, due(9)), (TASK, due(5)), (other, due(7))]);
        }
        let next = |after_ms: i64| store.next_timer_ms(after_ms);
        assert_eq!([next(0), next(5), next(6), next(7), next(9)], [Some(5), Some(7), Some(7), Some(9), None]);
        assert_eq!(
            [store.next_due(other, 0), store.next_due(other, 7), store.next_due(TASK, 5)],
            [Some(7), None, Some(9)]
        );
    }
}
