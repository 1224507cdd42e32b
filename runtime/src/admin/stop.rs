//! The request to stop, as every thread of the process sees it.

use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
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
    children: Mutex<Vec<Weak<Inner>>>,
    then: Then,
}

/// What is done when the flag goes up.
#[derive(Default)]
struct Then(Option<Box<dyn Fn() + Send + Sync>>);

impl std::fmt::Debug for Then {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "Then" } else { "None" })
    }
}

impl Stop {
    /// A flag that is down.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A flag that goes up with this one, or alone. `then` runs whenever it is asked to go up, on the thread that asks.
    #[must_use]
    pub fn child(&self, then: impl Fn() + Send + Sync + 'static) -> Self {
        let child = Self(Arc::new(Inner { then: Then(Some(Box::new(then))), ..Inner::default() }));
        {
            let mut children = self.0.children.lock().unwrap_or_else(PoisonError::into_inner);
            children.retain(|child| child.strong_count() > 0);
            children.push(Arc::downgrade(&child.0));
        }
        // Asked first, the list was walked before the child was in it.
        if self.requested() {
            child.request();
        }
        child
    }

    /// Asks everybody to stop. Asking again changes nothing.
    pub fn request(&self) {
        {
            // A thread that panicked while it held this lock left a plain `bool`, which is always sound.
            let mut raised = self.0.raised.lock().unwrap_or_else(PoisonError::into_inner);
            *raised = true;
            self.0.seen.store(true, std::sync::atomic::Ordering::Release);
            self.0.changed.notify_all();
        }
        let children = self.0.children.lock().unwrap_or_else(PoisonError::into_inner).clone();
        children.iter().filter_map(Weak::upgrade).for_each(|child| Self(child).request());
        if let Some(then) = &self.0.then.0 {
            then();
        }
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

    #[test]
    fn a_child_goes_up_with_its_parent_or_alone() {
        let asked = Arc::new(std::sync::atomic::AtomicU32::new(0));
        let count = {
            let asked = asked.clone();
            move || {
                asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
        };
        let parent = Stop::new();
        let (alone, with) = (parent.child(|| {}), parent.child(count));
        alone.request();
        assert!(alone.requested() && !parent.requested() && !with.requested());
        parent.request();
        assert!(with.requested());
        assert_eq!(asked.load(std::sync::atomic::Ordering::Relaxed), 1);
        assert!(parent.child(|| {}).requested(), "born late");
        drop((alone, with));
        let _one = parent.child(|| {});
        assert_eq!(
            parent.0.children.lock().unwrap_or_else(PoisonError::into_inner).len(),
            1,
            "those gone are forgotten"
        );
    }
}
