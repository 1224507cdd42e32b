//! What came of all messages of a back-test, in as much memory as is told.

use keyrail::backtest::{Compared, Difference, Seen};
use keyrail::scenario::Told;
use std::collections::hash_map::{DefaultHasher, HashMap};
use std::collections::{BTreeMap, HashSet};
use std::hash::{Hash as _, Hasher as _};

/// So many kinds of differences are told apart: codes are the handler's own, and may be as many as messages.
const MOST_KINDS: usize = 500;
/// So many keys are counted beyond those that are shown.
const MOST_KEYS: usize = 1_000_000;

/// A key that differs, with the first of its messages that does.
#[derive(Debug)]
pub(super) struct OfKey<E> {
    /// `None` is null.
    pub(super) key: Option<Vec<u8>>,
    /// Messages and timers that differ.
    pub(super) differing: u64,
    pub(super) first: E,
}

/// How many compared how.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) all: u64,
    pub(super) differing: u64,
    pub(super) not_comparable: u64,
}

impl Count {
    fn add(&mut self, compared: &Compared) {
        self.all += 1;
        self.differing += u64::from(matches!(compared, Compared::Differs(_)));
        self.not_comparable += u64::from(*compared == Compared::NotComparable);
    }

    /// As many as can be told to be the same.
    pub(super) fn same(&self) -> u64 {
        self.all - self.differing - self.not_comparable
    }
}

/// See the module. `E`: what is kept of a key's first message that differs.
#[derive(Debug)]
pub(super) struct Tally<E> {
    pub(super) messages: Count,
    /// Runs of timers.
    pub(super) timers: Count,
    pub(super) kinds: BTreeMap<Difference, u64>,
    /// Of kinds beyond [`MOST_KINDS`].
    pub(super) other_kinds: u64,
    /// Those that are shown, in the order in which they differed first.
    pub(super) keys: Vec<OfKey<E>>,
    places: HashMap<Option<Vec<u8>>, usize>,
    most_keys: usize,
    /// Hashes of further keys.
    further: HashSet<u64>,
}

impl<E> Tally<E> {
    /// `most_keys` are shown.
    pub(super) fn new(most_keys: usize) -> Self {
        Self {
            messages: Count::default(),
            timers: Count::default(),
            kinds: BTreeMap::new(),
            other_kinds: 0,
            keys: Vec::new(),
            places: HashMap::new(),
            most_keys,
            further: HashSet::new(),
        }
    }

    /// One more message or timer.
    pub(super) fn add(&mut self, seen: &Seen<'_>, example: impl FnOnce() -> E) {
        let Some(told) = seen.old.or(seen.new) else { return };
        if told.timer.is_some() { &mut self.timers } else { &mut self.messages }.add(&seen.compared);
        let Compared::Differs(difference) = &seen.compared else { return };
        if let Some(count) = self.kinds.get_mut(difference) {
            *count += 1;
        } else if self.kinds.len() < MOST_KINDS {
            self.kinds.insert(difference.clone(), 1);
        } else {
            self.other_kinds += 1;
        }
        self.add_key(told, example);
    }

    fn add_key(&mut self, told: &Told, example: impl FnOnce() -> E) {
        if let Some(of_key) = self.places.get(&told.key).and_then(|place| self.keys.get_mut(*place)) {
            of_key.differing += 1;
        } else if self.keys.len() < self.most_keys {
            self.places.insert(told.key.clone(), self.keys.len());
            self.keys.push(OfKey { key: told.key.clone(), differing: 1, first: example() });
        } else if self.further.len() < MOST_KEYS {
            let mut hasher = DefaultHasher::new();
            told.key.hash(&mut hasher);
            self.further.insert(hasher.finish());
        }
    }

    /// How many keys differ, and whether there may be more.
    pub(super) fn differing_keys(&self) -> (u64, bool) {
        ((self.keys.len() + self.further.len()) as u64, self.further.len() >= MOST_KEYS)
    }

    /// Messages and timers that differ.
    pub(super) fn differing(&self) -> u64 {
        self.messages.differing + self.timers.differing
    }

    /// Messages that were compared.
    pub(super) fn compared(&self) -> u64 {
        self.messages.all - self.messages.not_comparable
    }

    /// The kinds of differences, the most frequent first.
    pub(super) fn by_frequency(&self) -> Vec<(&Difference, u64)> {
        let mut all: Vec<_> = self.kinds.iter().map(|(kind, count)| (kind, *count)).collect();
        all.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        all
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use keyrail::backtest::ending;
    use keyrail::scenario::{End, Place};

    fn told(key: &str, timer: bool) -> Told {
        Told {
            place: Place { topic: 0, partition: 0, offset: 0 },
            timer: timer.then(|| "t".to_owned()),
            key: Some(key.as_bytes().to_vec()),
            attempt: 1,
            requests: Vec::new(),
            said: None,
            end: End::Duplicate,
        }
    }

    fn add(tally: &mut Tally<u64>, key: &str, timer: bool, kind: Option<&str>) {
        let told = told(key, timer);
        let mut new = ending(None);
        new.outcome = kind.unwrap_or_default().to_owned();
        let difference = Difference { timer, old: ending(Some(&told)), new, parts: Vec::new() };
        let compared = kind.map_or(Compared::Same, |_| Compared::Differs(difference));
        let number = tally.messages.all;
        tally.add(&Seen { old: Some(&told), new: None, compared }, || number);
    }

    #[test]
    fn keys_and_kinds_are_counted_and_only_so_many_shown() {
        let mut tally = Tally::new(2);
        for (key, kind) in [("a", None), ("b", Some("x")), ("c", Some("y")), ("b", Some("y")), ("d", Some("y"))] {
            add(&mut tally, key, false, kind);
        }
        add(&mut tally, "c", true, Some("x"));
        add(&mut tally, "d", false, Some("z"));
        let timer = tally.timers;
        assert_eq!((timer.all, timer.differing, timer.same()), (1, 1, 0));
        assert_eq!((tally.messages.all, tally.messages.same(), tally.differing()), (6, 1, 6));
        assert_eq!(tally.differing_keys(), (3, false));
        let keys: Vec<_> = tally.keys.iter().map(|k| (k.key.clone().unwrap(), k.differing, k.first)).collect();
        assert_eq!(keys, [(b"b".to_vec(), 2, 1), (b"c".to_vec(), 2, 2)]);
        let kinds: Vec<_> = tally.by_frequency().iter().map(|(kind, n)| format!("{kind} {n}")).collect();
        assert_eq!(kinds, ["duplicate -> y 3", "duplicate -> x 1", "duplicate -> z 1", "timer: duplicate -> x 1"]);
    }

    #[test]
    fn codes_without_number_take_no_more_memory_than_is_told() {
        let mut tally = Tally::new(0);
        for n in 0..2 * MOST_KINDS {
            add(&mut tally, "k", false, Some(&n.to_string()));
        }
        assert_eq!((tally.kinds.len(), tally.other_kinds), (MOST_KINDS, MOST_KINDS as u64));
        assert_eq!((tally.differing(), tally.differing_keys()), (2 * MOST_KINDS as u64, (1, false)));
        assert!(tally.keys.is_empty());
    }
}
