//! Changes in memory: what waits to be written, or was just written and is kept to be read.

use super::{Change, Entry};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hasher as _};
use std::ops::Bound;
use std::sync::Arc;

/// What a change takes beside its key and value: two allocations that are counted, the map's place and its slack.
const EACH_BYTES: usize = 160;
const EXPIRING_BYTES: usize = 64;

/// Most keys that are asked for are on disk: with so many bits for each that is here, all but a few of them are known not to be
/// here without a search.
const HINT_BITS: usize = 8;

#[derive(Debug, Default)]
pub(super) struct Layer {
    entries: BTreeMap<Arc<[u8]>, Option<Entry>>,
    hints: Hints,
    expiring: BTreeSet<(i64, Arc<[u8]>)>,
    bytes: usize,
}

/// What a change takes in memory.
pub(super) fn size(change: &Change) -> usize {
    size_of(&change.key, change.entry.as_ref())
}

fn size_of(key: &[u8], entry: Option<&Entry>) -> usize {
    let of_entry = entry.map_or(0, |e| e.value.len() + e.expires_ms.map_or(0, |_| EXPIRING_BYTES));
    key.len() + of_entry + EACH_BYTES
}

impl Layer {
    pub(super) fn put(&mut self, change: &Change) {
        self.bytes += size(change);
        if let Some(at) = change.entry.as_ref().and_then(|e| e.expires_ms) {
            self.expiring.insert((at, Arc::clone(&change.key)));
        }
        if let Some(old) = self.insert(change) {
            self.bytes -= size_of(&change.key, old.as_ref());
            let expires_ms = |entry: &Option<Entry>| entry.as_ref().and_then(|e| e.expires_ms);
            if let Some(at) = expires_ms(&old).filter(|_| expires_ms(&old) != expires_ms(&change.entry)) {
                self.expiring.remove(&(at, Arc::clone(&change.key)));
            }
        }
    }

    /// Gives what was there of that key.
    fn insert(&mut self, change: &Change) -> Option<Option<Entry>> {
        let old = self.entries.insert(Arc::clone(&change.key), change.entry.clone());
        if old.is_none() && !self.hints.add(hint_of(&change.key), self.entries.len()) {
            self.hints = Hints::with_room(self.entries.len() * 2);
            self.entries.keys().for_each(|key| self.hints.set(hint_of(key)));
        }
        old
    }

    /// `None`: it says nothing of the key. `Some(None)`: the key is deleted. `hint` is the key's.
    pub(super) fn get(&self, key: &[u8], hint: u64) -> Option<Option<&Entry>> {
        if self.hints.deny(hint) { None } else { self.entries.get(key).map(Option::as_ref) }
    }

    pub(super) fn has(&self, key: &[u8], hint: u64) -> bool {
        !self.hints.deny(hint) && self.entries.contains_key(key)
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// From a key on, in order.
    pub(super) fn from(&self, from: Bound<&[u8]>) -> impl Iterator<Item = (&Arc<[u8]>, &Option<Entry>)> {
        self.entries.range::<[u8], _>((from, Bound::Unbounded))
    }

    /// What expires by then, behind `after`, the oldest first.
    pub(super) fn expiring(
        &self,
        after: Option<(i64, &[u8])>,
        until_ms: i64,
    ) -> impl Iterator<Item = &(i64, Arc<[u8]>)> + use<'_> {
        let from = after.map_or(Bound::Unbounded, |(at, key)| Bound::Excluded((at, Arc::from(key))));
        self.expiring.range((from, Bound::Unbounded)).take_while(move |(at, _)| *at <= until_ms)
    }
}

/// Of a key, for [`Layer::get`] and [`Layer::has`].
pub(super) fn hint_of(key: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(key);
    hasher.finish()
}

/// Two bits for each key, both in one word.
#[derive(Debug, Default)]
struct Hints {
    /// None, or a power of two.
    words: Vec<u64>,
}

impl Hints {
    fn with_room(keys: usize) -> Self {
        Self { words: vec![0; (keys * HINT_BITS / 64).next_power_of_two().max(8)] }
    }

    /// Whether there is room for one more when there are so many keys with it.
    fn add(&mut self, hint: u64, keys: usize) -> bool {
        let fits = keys * HINT_BITS <= self.words.len() * 64;
        if fits {
            self.set(hint);
        }
        fits
    }

    fn set(&mut self, hint: u64) {
        let (word, bits) = self.place(hint);
        if let Some(word) = self.words.get_mut(word) {
            *word |= bits;
        }
    }

    /// Whether no key with this hint is here.
    fn deny(&self, hint: u64) -> bool {
        let (word, bits) = self.place(hint);
        self.words.get(word).is_none_or(|word| word & bits != bits)
    }

    fn place(&self, hint: u64) -> (usize, u64) {
        let word = hint as usize & self.words.len().wrapping_sub(1);
        (word, 1 << (hint >> 58) | 1 << (hint >> 52 & 63))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(n: u32) -> Change {
        let entry = (!n.is_multiple_of(3)).then(|| Entry { value: Arc::from(n.to_le_bytes()), expires_ms: None });
        Change { key: Arc::from(n.to_be_bytes()), entry }
    }

    #[test]
    fn every_key_that_was_put_is_found_however_many_there_are_and_few_others_are_searched_for() {
        let mut layer = Layer::default();
        let asked = |layer: &Layer, n: u32| layer.has(&n.to_be_bytes(), hint_of(&n.to_be_bytes()));
        assert!(!asked(&layer, 0));
        for n in 0..20_000 {
            assert!(!asked(&layer, n));
            layer.put(&change(n));
            layer.put(&change(n));
            assert!(asked(&layer, n) && asked(&layer, n / 2));
        }
        assert!(
            (0..20_000u32)
                .all(|n| { layer.get(&n.to_be_bytes(), hint_of(&n.to_be_bytes())) == Some(change(n).entry.as_ref()) })
        );
        let searched = (20_000..60_000u32).filter(|n| !layer.hints.deny(hint_of(&n.to_be_bytes()))).count();
        assert!(searched < 40_000 / 10, "{searched}");
        assert!(layer.hints.words.len() * 64 <= 20_000 * HINT_BITS * 2 + 512);
    }
}
