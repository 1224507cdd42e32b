//! The byte budget of `[memory] records`: what all pipelines together hold of records and effects.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Bytes taken and given back. Two counters on cache lines of their own, since different threads write them.
#[derive(Debug, Default)]
pub struct Budget {
    taken: Line,
    returned: Line,
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct Line(AtomicU64);

impl Budget {
    /// A budget of which nothing is taken.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Bytes held now.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        // What is returned is read first: read the other way round, bytes taken and returned in between would be missed.
        let returned = self.returned.0.load(Relaxed);
        self.taken.0.load(Relaxed).saturating_sub(returned)
    }

    /// Takes bytes until the charge is dropped.
    #[must_use]
    pub fn charge(self: &Arc<Self>, bytes: usize) -> Charge {
        self.taken.0.fetch_add(bytes as u64, Relaxed);
        Charge { budget: self.clone(), bytes: bytes as u64 }
    }
}

/// Bytes that are held. Dropping it gives them back, whatever way the message went.
#[derive(Debug)]
pub struct Charge {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.returned.0.fetch_add(self.bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_charged_comes_back_when_it_is_dropped() {
        let budget = Budget::new();
        let (a, b) = (budget.charge(100), budget.charge(20));
        assert_eq!(budget.used_bytes(), 120);
        drop(a);
        assert_eq!(budget.used_bytes(), 20);
        drop(b);
        assert_eq!(budget.used_bytes(), 0);
    }
}
