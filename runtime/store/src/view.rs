//! What look-ups read: memtables and segments. Whoever changes them publishes a new view; a look-up keeps the one it began
//! with.

use crate::memtable::Memtable;
use crate::segment::Segment;
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};

/// Copies of the view, so that threads that look up do not share a counter.
const SLOTS: usize = 16;

#[derive(Debug, Default, Clone)]
pub(crate) struct View {
    /// From old to new.
    pub(crate) memtables: Vec<Arc<Memtable>>,
    /// From new to old, mostly.
    pub(crate) segments: Vec<Arc<Segment>>,
}

impl View {
    /// The start of the newest bucket.
    pub(crate) fn newest_bucket(&self) -> Option<i64> {
        let segments = self.segments.iter().map(|s| s.meta.bucket_ms);
        segments.chain(self.memtables.iter().map(|m| m.bucket_ms)).max()
    }
}

/// What is in no view any more and may be in use by a look-up that began before. Kept until that is over: the last to let go
/// of a segment frees its filter and closes its file, which takes milliseconds that no look-up shall spend.
#[derive(Debug, Default)]
pub(crate) struct Retired {
    memtables: Vec<Arc<Memtable>>,
    segments: Vec<Arc<Segment>>,
}

impl Retired {
    /// Adds what `new` has no more of `old`.
    pub(crate) fn add(&mut self, old: View, new: &View) {
        let is_new = |m: &Arc<Memtable>| new.memtables.iter().any(|n| Arc::ptr_eq(m, n));
        self.memtables.extend(old.memtables.into_iter().filter(|m| !is_new(m)));
        let is_new = |s: &Arc<Segment>| new.segments.iter().any(|n| Arc::ptr_eq(s, n));
        self.segments.extend(old.segments.into_iter().filter(|s| !is_new(s)));
    }

    /// Takes out what nobody else has.
    pub(crate) fn unused(&mut self) -> Self {
        Self {
            memtables: self.memtables.extract_if(.., |m| Arc::strong_count(m) == 1).collect(),
            segments: self.segments.extract_if(.., |s| Arc::strong_count(s) == 1).collect(),
        }
    }
}

/// The view, a copy for each slot, and what threads count there.
#[derive(Debug)]
pub(crate) struct Views {
    slots: Box<[Slot]>,
}

/// A cache line of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Slot {
    view: RwLock<Arc<View>>,
    lookups: AtomicU64,
}

impl Views {
    pub(crate) fn new(view: &View) -> Self {
        let views = Self { slots: (0..SLOTS).map(|_| Slot::default()).collect() };
        views.publish(view);
        views
    }

    pub(crate) fn publish(&self, view: &View) {
        for slot in &self.slots {
            let new = Arc::new(view.clone());
            // Let go of when the lock is, since who looks up waits for it.
            let _old = std::mem::replace(&mut *slot.view.write().unwrap_or_else(PoisonError::into_inner), new);
        }
    }

    /// The view, for a look-up, which is counted.
    pub(crate) fn look(&self) -> Arc<View> {
        let mine = slot_of_thread();
        let Some(slot) = self.slots.get(mine) else { return Arc::default() };
        // Threads that share a slot may count one for two: cheaper than a locked addition, and only a figure.
        slot.lookups.store(slot.lookups.load(Relaxed).wrapping_add(1), Relaxed);
        let (before, from) = self.slots.split_at(mine);
        // While a new view is put into this slot another will do: what was inserted by now is in both the old and the new.
        // IMPORTANT: so whoever inserts must return only when all slots have the view that holds the insertion.
        let free = from.iter().chain(before).find_map(|slot| slot.view.try_read().ok().map(|view| Arc::clone(&view)));
        free.unwrap_or_else(|| slot.view.read().unwrap_or_else(PoisonError::into_inner).clone())
    }

    /// The view, uncounted.
    pub(crate) fn get(&self) -> Arc<View> {
        let first = self.slots.first();
        first.map(|slot| slot.view.read().unwrap_or_else(PoisonError::into_inner).clone()).unwrap_or_default()
    }

    pub(crate) fn lookups(&self) -> u64 {
        self.slots.iter().map(|slot| slot.lookups.load(Relaxed)).sum()
    }
}

fn slot_of_thread() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static MINE: Cell<usize> = Cell::new(NEXT.fetch_add(1, Relaxed) % SLOTS);
    }
    MINE.with(Cell::get)
}
