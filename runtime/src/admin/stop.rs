//! The request to stop, as every thread of the process sees it.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A flag that goes up once and stays up. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    raised: Mutex<bool>,
    changed: Condvar,
    /// The same, to be read without the lock.
    seen: std::sync::atomic::AtomicBool,
}

impl Stop {
    /// A flag that is down.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks everybody to stop. Asking again changes nothing.
    pub fn request(&self) {
        // A thread that panicked while it held this lock left a plain `bool`, which is always sound.
        let mut raised = self.0.raised.lock().unwrap_or_else(PoisonError::into_inner);
        *raised = true;
        self.0.seen.store(true, std::sync::atomic::Ordering::Release);
        self.0.changed.notify_all();
    }

    /// Whether a stop was asked for. Takes no lock.
    #[must_use]
    pub fn requested(&self) -> bool {
        self.0.seen.load(std::sync::atomic::Ordering::Acquire)
    }

    /// Sleeps until a stop is asked for, at most `wait`; tells whether it was.
    #[must_use]
    pub fn wait(&self, wait: Duration) -> bool {
        let until = Instant::now().checked_add(wait);
        let mut raised = self.0.raised.lock().unwrap_or_else(PoisonError::into_inner);
        while !*raised {
            let left = until.map_or(Duration::from_secs(3600), |u| u.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                break;
            }
            raised = self.0.changed.wait_timeout(raised, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        *raised
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_wakes_who_waits_and_stays() {
        let stop = Stop::new();
        assert!(!stop.requested());
        assert!(!stop.wait(Duration::from_millis(1)));
        let other = stop.clone();
        let waiter = std::thread::spawn(move || other.wait(Duration::from_secs(60)));
        stop.request();
        assert_eq!(waiter.join().ok(), Some(true));
        assert!(stop.requested() && stop.wait(Duration::ZERO));
    }
}
