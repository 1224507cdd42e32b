//! What the requests of one call share: its end, and the room for their answers.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

type Stop = Box<dyn FnOnce() + Send>;

/// A call's requests. When it is dropped none of them goes on, so that none reaches a server behind what comes after the call.
pub struct Scope {
    until: Instant,
    /// Bytes that are left for bodies.
    room: AtomicUsize,
    full: AtomicBool,
    stops: Mutex<Vec<Stop>>,
}

impl Scope {
    /// Of a call whose requests are over by then, and whose answers may hold so many bytes together.
    #[must_use]
    pub fn new(until: Instant, room: usize) -> Self {
        Self { until, room: AtomicUsize::new(room), full: AtomicBool::new(false), stops: Mutex::default() }
    }

    /// When its requests are over.
    #[must_use]
    pub fn until(&self) -> Instant {
        self.until
    }

    /// Takes room for a part of an answer. `false`: there is none left.
    #[must_use]
    pub fn take(&self, bytes: usize) -> bool {
        let took = self.room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |room| room.checked_sub(bytes));
        if took.is_err() {
            self.full.store(true, Ordering::Relaxed);
        }
        took.is_ok()
    }

    /// An answer found no room.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    /// What ends a request that goes on when this is over.
    pub fn stops(&self, stop: impl FnOnce() + Send + 'static) {
        self.stops.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(stop));
    }

    /// Ends what goes on.
    pub fn end(&self) {
        std::mem::take(&mut *self.stops.lock().unwrap_or_else(PoisonError::into_inner))
            .into_iter()
            .for_each(|stop| stop());
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        self.end();
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope").field("until", &self.until).field("room", &self.room).finish_non_exhaustive()
    }
}
