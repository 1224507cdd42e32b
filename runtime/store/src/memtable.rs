//! What was inserted and is not on disk yet: ids of one bucket of time, exact, in stripes with a lock each.
//!
//! Within a stripe ids lie where their leading bits say, or a few places behind it.

use crate::Id;
use crate::filter::{head, share};
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering::Relaxed};
use std::sync::{PoisonError, RwLock};

const STRIPES: usize = 64;
const FIRST_PLACES: usize = 16;

/// An id, and how long after its bucket's start it was inserted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) id: Id,
    pub(crate) after_ms: u32,
}

/// The longest that [`Entry::after_ms`] can tell; one more marks a place that is free.
pub(crate) const AFTER_MOST_MS: u32 = u32::MAX - 1;
const FREE: u32 = u32::MAX;

#[derive(Debug)]
pub(crate) struct Memtable {
    pub(crate) bucket_ms: i64,
    stripes: Box<[RwLock<Stripe>]>,
    ids: AtomicUsize,
    bytes: AtomicUsize,
    /// The time of the newest id. The task's writer alone sets it.
    latest_ms: AtomicI64,
}

#[derive(Debug)]
struct Stripe {
    places: Vec<Entry>,
    used: usize,
    /// How many places there will be first.
    first: usize,
}

impl Memtable {
    pub(crate) fn new(bucket_ms: i64) -> Self {
        // Not all alike, so that they do not all grow at once.
        let first = |n| FIRST_PLACES + FIRST_PLACES * n / (2 * STRIPES);
        let stripe = |n| RwLock::new(Stripe { places: Vec::new(), used: 0, first: first(n) });
        let stripes: Box<[_]> = (0..STRIPES).map(stripe).collect();
        let bytes = size_of_val(&*stripes);
        Self {
            bucket_ms,
            stripes,
            ids: AtomicUsize::new(0),
            bytes: AtomicUsize::new(bytes),
            latest_ms: AtomicI64::new(bucket_ms),
        }
    }

    /// Takes in one id and says by how many bytes that made it larger. For one thread at a time.
    pub(crate) fn insert(&self, id: &Id, after_ms: u32) -> usize {
        let Some(stripe) = self.stripes.get(stripe_of(id)) else { return 0 };
        let mut stripe = stripe.write().unwrap_or_else(PoisonError::into_inner);
        let before = stripe.places.capacity();
        if stripe.insert(Entry { id: *id, after_ms: after_ms.min(AFTER_MOST_MS) }) {
            self.ids.fetch_add(1, Relaxed);
        }
        let grown = stripe.places.capacity().saturating_sub(before) * size_of::<Entry>();
        if grown > 0 {
            self.bytes.fetch_add(grown, Relaxed);
        }
        let latest_ms = self.bucket_ms.saturating_add(i64::from(after_ms));
        self.latest_ms.fetch_max(latest_ms, Relaxed);
        grown
    }

    /// When the id was inserted.
    pub(crate) fn find(&self, id: &Id) -> Option<i64> {
        let stripe = self.stripes.get(stripe_of(id))?;
        let stripe = stripe.read().unwrap_or_else(PoisonError::into_inner);
        let entry = stripe.places.get(stripe.place(id)?).filter(|e| e.after_ms != FREE)?;
        Some(self.bucket_ms.saturating_add(i64::from(entry.after_ms)))
    }

    /// All entries in order, a stripe at a time. For one that nothing is inserted into any more.
    pub(crate) fn sorted(&self) -> impl Iterator<Item = Entry> + '_ {
        self.stripes.iter().flat_map(|stripe| {
            let stripe = stripe.read().unwrap_or_else(PoisonError::into_inner);
            let mut entries: Vec<Entry> = stripe.places.iter().filter(|e| e.after_ms != FREE).copied().collect();
            entries.sort_unstable_by_key(|e| u128::from_be_bytes(e.id));
            entries
        })
    }

    pub(crate) fn ids(&self) -> usize {
        self.ids.load(Relaxed)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Relaxed)
    }

    pub(crate) fn latest_ms(&self) -> i64 {
        self.latest_ms.load(Relaxed)
    }
}

fn stripe_of(id: &Id) -> usize {
    usize::from(id[0]) * STRIPES / 256
}

impl Stripe {
    /// Where the id is, or the free place where it belongs. `None` without places.
    fn place(&self, id: &Id) -> Option<usize> {
        // What the stripe was chosen by is the same for all of it.
        let spread = head(id).wrapping_mul(STRIPES as u64);
        let mut at = share(spread, self.places.len() as u64).0 as usize;
        for _ in 0..self.places.len() {
            let entry = self.places.get(at)?;
            if entry.after_ms == FREE || entry.id == *id {
                return Some(at);
            }
            at = if at + 1 == self.places.len() { 0 } else { at + 1 };
        }
        None
    }

    /// Whether the id is new.
    fn insert(&mut self, entry: Entry) -> bool {
        if self.used * 5 >= self.places.len() * 4 {
            self.grow();
        }
        let Some(place) = self.place(&entry.id).and_then(|at| self.places.get_mut(at)) else { return false };
        if place.after_ms == FREE {
            *place = entry;
            self.used += 1;
            return true;
        }
        place.after_ms = place.after_ms.max(entry.after_ms);
        false
    }

    fn grow(&mut self) {
        let room = (self.places.len() * 3 / 2).max(self.first);
        let mut places = Vec::with_capacity(room);
        places.resize(room, Entry { id: [0; 16], after_ms: FREE });
        for entry in std::mem::replace(&mut self.places, places) {
            if entry.after_ms != FREE
                && let Some(place) = self.place(&entry.id).and_then(|at| self.places.get_mut(at))
            {
                *place = entry;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chance::Chance;
    use std::collections::BTreeMap;

    #[test]
    fn it_holds_what_a_map_holds_and_gives_it_in_order() {
        let mut chance = Chance::new(3);
        let (memtable, mut model) = (Memtable::new(1_000), BTreeMap::new());
        let mut bytes = memtable.bytes();
        for n in 0..30_000u32 {
            // Every fourth comes again, and some share all leading bits.
            let mut id = if n % 4 == 0 { [chance.below(200) as u8; 16] } else { chance.id() };
            if n % 7 == 0 {
                id[..12].fill(0xff);
            }
            bytes += memtable.insert(&id, n);
            model.insert(id, n);
        }
        assert_eq!((memtable.ids(), memtable.bytes()), (model.len(), bytes));
        assert_eq!(memtable.latest_ms(), 1_000 + 29_999);
        for (id, after_ms) in &model {
            assert_eq!(memtable.find(id), Some(1_000 + i64::from(*after_ms)));
        }
        assert!((0..10_000).all(|_| memtable.find(&chance.id()).is_none()));
        let sorted: Vec<_> = memtable.sorted().map(|e| (e.id, e.after_ms)).collect();
        assert_eq!(sorted, model.into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn an_id_keeps_its_latest_time() {
        let memtable = Memtable::new(0);
        assert_eq!(memtable.find(&[1; 16]), None);
        memtable.insert(&[1; 16], 9);
        memtable.insert(&[1; 16], 4);
        assert_eq!((memtable.find(&[1; 16]), memtable.ids()), (Some(9), 1));
    }
}
