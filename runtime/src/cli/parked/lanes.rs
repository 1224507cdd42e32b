//! What waits, by order key, in bounded memory.

use keyrail::record::TopicPartition;
use keyrail_engine::parking::{Envelope, HELD};
use keyrail_engine::policy::{NullKey, Order, OrderBy};
use std::collections::BTreeMap;

/// So much is held of what was found, at most.
const HELD_BYTES: usize = 64 << 20;

/// Whose lane a message waits in. Ordered by key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    /// All of its partition.
    Partition,
    /// This order key's.
    Of(Vec<u8>),
    /// Its own: it was read there.
    Alone(i64),
}

impl Key {
    /// As the engine's `order_key` decides it.
    pub(super) fn of(order: &Order, envelope: &Envelope<'_>, offset: i64) -> Self {
        let key = match &order.by {
            OrderBy::Key => envelope.key,
            OrderBy::Header(name) => {
                let named = envelope.headers.iter().rev().find(|(n, _)| *n == name.as_bytes());
                named.and_then(|(_, value)| *value)
            }
            OrderBy::Partition => return Self::Partition,
            OrderBy::None => return Self::Alone(offset),
        };
        match (key, order.null_key) {
            (Some(key), _) => Self::Of(key.to_vec()),
            (None, NullKey::Partition) => Self::Partition,
            (None, NullKey::None) => Self::Alone(offset),
        }
    }
}

/// What waits under one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lane {
    /// Of its first message: its place in the lane, when it is due, and what is known of its failures.
    number: u64,
    /// Where it was first read.
    pub(super) offset: i64,
    pub(super) due_ms: i64,
    /// It is given up, and what waits behind it becomes dead letters with it.
    pub(super) given_up: bool,
    pub(super) attempts: u32,
    pub(super) code: String,
    /// Of all its messages: when the first failed or was parked, -1 if it is not known.
    pub(super) since_ms: i64,
    /// How many wait, the first included.
    pub(super) waiting: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    held: BTreeMap<(Key, TopicPartition), Lane>,
    bytes: usize,
    /// From there on nothing is held: there was no room.
    ceiling: Option<(Key, TopicPartition)>,
    /// All that waits, held or not.
    pub(super) waiting: u64,
    most_bytes: Option<usize>,
}

impl Lanes {
    /// Another message, first read at `offset`; they come in any order.
    pub(super) fn take(&mut self, key: Key, at: TopicPartition, offset: i64, envelope: &Envelope<'_>, written_ms: i64) {
        self.waiting += 1;
        let waiting = &envelope.waiting;
        let since_ms = waiting.history.first_failed_ms.unwrap_or(written_ms);
        let place = (key, at);
        if self.ceiling.as_ref().is_some_and(|ceiling| place >= *ceiling) {
            return;
        }
        let (due_ms, attempts) = (waiting.due_ms, waiting.history.attempts);
        let code = || waiting.failure.code.clone();
        if let Some(lane) = self.held.get_mut(&place) {
            lane.waiting += 1;
            lane.since_ms = lane.since_ms.min(since_ms);
            if waiting.number < lane.number {
                self.bytes = self.bytes + waiting.failure.code.len() - lane.code.len();
                (lane.number, lane.offset, lane.due_ms) = (waiting.number, offset, due_ms);
                lane.given_up = waiting.given_up.is_some();
                (lane.attempts, lane.code) = (attempts, code());
            }
        } else {
            let (number, code) = (waiting.number, code());
            let given_up = waiting.given_up.is_some();
            let lane = Lane { number, offset, due_ms, given_up, attempts, code, since_ms, waiting: 1 };
            self.bytes += size(&place, &lane);
            self.held.insert(place, lane);
        }
        // IMPORTANT: what is above the ceiling is not looked at again, so all that is held below it is whole.
        while self.bytes > self.most_bytes.unwrap_or(HELD_BYTES)
            && let Some((place, lane)) = self.held.pop_last()
        {
            self.bytes -= size(&place, &lane);
            self.ceiling = Some(place);
        }
    }

    /// There is more than is held.
    pub(super) fn is_cut(&self) -> bool {
        self.ceiling.is_some()
    }

    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    /// Those that are held and wanted, as they are due: what is held until somebody acts comes last.
    pub(super) fn by_due(&self, wanted: &dyn Fn(&Lane) -> bool) -> Vec<(&Key, TopicPartition, &Lane)> {
        let mut all: Vec<_> = self.held.iter().filter(|(_, lane)| wanted(lane)).collect();
        all.sort_by_key(|(place, lane)| (lane.due_ms == HELD, lane.due_ms, *place));
        all.into_iter().map(|((key, at), lane)| (key, *at, lane)).collect()
    }
}

fn size((key, _): &(Key, TopicPartition), lane: &Lane) -> usize {
    let key = if let Key::Of(key) = key { key.len() } else { 0 };
    key + lane.code.len() + size_of::<(Key, TopicPartition, Lane)>() + 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyrail_engine::message::Failure;
    use keyrail_engine::parking::{AT_ONCE, Waiting};
    use keyrail_engine::retry::History;

    const AT: TopicPartition = TopicPartition { topic: 0, partition: 0 };

    fn envelope(number: u64, due_ms: i64, key: Option<&'static [u8]>) -> Envelope<'static> {
        let history = History { attempts: 3, failures: 1, first_failed_ms: (number == 1).then_some(7) };
        let failure = Failure { code: format!("code {number}"), detail: String::new() };
        let waiting = Waiting { number, due_ms, history, failure, given_up: None };
        let headers = vec![(&b"h"[..], Some(&b"a"[..])), (b"h", None)];
        Envelope { waiting, timer: None, timestamp_ms: 1, key, value: None, headers }
    }

    #[test]
    fn the_first_of_a_lane_is_that_of_the_lowest_number_in_whatever_order_they_come() {
        let mut lanes = Lanes::default();
        for (number, due) in [(3, AT_ONCE), (1, 500), (2, AT_ONCE)] {
            lanes.take(Key::Of(b"a".to_vec()), AT, 10 + number as i64, &envelope(number, due, None), 900);
        }
        lanes.take(Key::Of(b"b".to_vec()), AT, 1, &envelope(1, HELD, None), 900);
        lanes.take(Key::Of(b"c".to_vec()), AT, 1, &envelope(1, 400, None), 900);
        let all = lanes.by_due(&|_| true);
        let told: Vec<_> = all.iter().map(|(key, _, lane)| ((*key).clone(), lane.due_ms, lane.waiting)).collect();
        let key = |key: &str| Key::Of(key.as_bytes().to_vec());
        assert_eq!(told, [(key("c"), 400, 1), (key("a"), 500, 3), (key("b"), HELD, 1)]);
        assert_eq!((all[1].2.code.as_str(), all[1].2.since_ms, all[1].2.offset, lanes.waiting), ("code 1", 7, 11, 5));
        assert_eq!(lanes.by_due(&|lane| lane.waiting > 1).len(), 1);
    }

    #[test]
    fn memory_is_bounded_and_what_is_held_is_whole() {
        let mut lanes = Lanes { most_bytes: Some(10_000), ..Lanes::default() };
        for round in 0..3_u64 {
            for n in (0..1_000).rev() {
                lanes.take(Key::Of(format!("{n:04}").into_bytes()), AT, 1, &envelope(round + 1, 5, None), 0);
                assert!(lanes.bytes <= 10_000);
            }
        }
        let all = lanes.by_due(&|_| true);
        assert!(lanes.is_cut() && (20..200).contains(&all.len()), "{}", all.len());
        assert!(all.iter().all(|(_, _, lane)| lane.waiting == 3) && lanes.waiting == 3_000);
    }

    #[test]
    fn keys_are_those_of_the_engine() {
        let of = |by: OrderBy, null_key, key| {
            let order = Order { by, null_key, ..Order::default() };
            Key::of(&order, &envelope(1, 0, key), 9)
        };
        let (partition, none) = (NullKey::Partition, NullKey::None);
        assert_eq!(of(OrderBy::Key, none, Some(b"k")), Key::Of(b"k".to_vec()));
        assert_eq!((of(OrderBy::Key, none, None), of(OrderBy::Key, partition, None)), (Key::Alone(9), Key::Partition));
        // The last header of that name counts, and it is null.
        assert_eq!(of(OrderBy::Header("h".into()), partition, Some(b"k")), Key::Partition);
        assert_eq!(
            (of(OrderBy::Partition, none, None), of(OrderBy::None, none, Some(b"k"))),
            (Key::Partition, Key::Alone(9))
        );
    }
}
