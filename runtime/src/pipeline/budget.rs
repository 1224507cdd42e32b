//! The byte budget of `[memory] records`: what pipelines hold of records and effects.

use keyrail_engine::budget::{Held, Share};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Bytes taken and given back. Two counters on cache lines of their own, since different threads write them.
#[derive(Debug, Default)]
struct Account {
    taken: Line,
    returned: Line,
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct Line(AtomicU64);

impl Account {
    fn held_bytes(&self) -> u64 {
        // What is returned is read first: read the other way round, bytes taken and returned in between would be missed.
        let returned = self.returned.0.load(Relaxed);
        self.taken.0.load(Relaxed).saturating_sub(returned)
    }
}

/// One pipeline's part in the budget that all of the process share.
#[derive(Debug, Clone)]
pub struct Budget {
    share: Share,
    own: Arc<Account>,
    all: Arc<[Arc<Account>]>,
}

impl Budget {
    /// The parts of so many pipelines in a budget of `limit_bytes`, of which nothing is taken.
    #[must_use]
    pub fn of_pipelines(limit_bytes: u64, pipelines: usize) -> Vec<Self> {
        let share = Share::new(limit_bytes, pipelines as u64);
        let all: Arc<[Arc<Account>]> = (0..pipelines).map(|_| Arc::default()).collect();
        all.iter().map(|own| Self { share, own: own.clone(), all: all.clone() }).collect()
    }

    /// How the limit is shared.
    #[must_use]
    pub fn share(&self) -> Share {
        self.share
    }

    /// Bytes held now.
    #[must_use]
    pub fn held(&self) -> Held {
        let mut held = Held { own: self.own.held_bytes(), ..Held::default() };
        for account in self.all.iter() {
            let bytes = account.held_bytes();
            held.all += bytes;
            held.beyond += self.share.beyond(bytes);
        }
        held
    }

    /// A lot of charges; see [`Lot`].
    #[must_use]
    pub fn lot(&self) -> Arc<Lot> {
        Arc::new(Lot { account: self.own.clone() })
    }
}

/// Charges that are taken by one thread and given back by another, most of them at about the same time: they count
/// themselves here, and not all that there are in one place, which both threads would write to for every message.
#[derive(Debug)]
pub struct Lot {
    account: Arc<Account>,
}

impl Lot {
    /// Takes bytes until the charge is dropped.
    #[must_use]
    pub fn charge(self: &Arc<Self>, bytes: usize) -> Charge {
        self.account.taken.0.fetch_add(bytes as u64, Relaxed);
        Charge { lot: self.clone(), bytes: bytes as u64 }
    }
}

/// Bytes that are held. Dropping it gives them back, whatever way the message went.
#[derive(Debug)]
pub struct Charge {
    lot: Arc<Lot>,
    bytes: u64,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.lot.account.returned.0.fetch_add(self.bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_charged_comes_back_when_it_is_dropped() {
        let both = Budget::of_pipelines(400, 2);
        let (one, other) = (both[0].lot(), both[1].lot());
        let (a, b, c) = (one.charge(110), one.charge(20), other.charge(101));
        assert_eq!(both[0].held(), Held { own: 130, all: 231, beyond: 31 });
        assert_eq!(both[1].held(), Held { own: 101, all: 231, beyond: 31 });
        drop((a, c));
        assert_eq!(both[1].held(), Held { own: 0, all: 20, beyond: 0 });
        drop(b);
        assert_eq!(both[0].held(), Held::default());
    }
}
