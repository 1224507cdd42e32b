//! The byte budget of `[memory] records`: what pipelines hold of records and effects.

use keyrail_engine::budget::{Held, Share};
use std::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

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

/// The budget of a process, which its pipelines share while they come and go.
#[derive(Debug)]
pub struct Pool {
    limit_bytes: u64,
    members: Mutex<Members>,
    /// Counts changes of `members`, so that nobody takes the lock without need.
    changes: AtomicU64,
}

#[derive(Debug, Default)]
struct Members {
    accounts: Vec<Weak<Account>>,
}

impl Pool {
    /// A budget of so many bytes, which nobody shares yet.
    #[must_use]
    pub fn new(limit_bytes: u64) -> Arc<Self> {
        Arc::new(Self { limit_bytes, members: Mutex::default(), changes: AtomicU64::new(0) })
    }

    /// Another pipeline's part. It shares until the last clone is dropped and all that was charged is given back.
    #[must_use]
    pub fn join(self: &Arc<Self>) -> Budget {
        let own: Arc<Account> = Arc::default();
        self.members().accounts.push(Arc::downgrade(&own));
        self.changes.fetch_add(1, Release);
        let mut budget =
            Budget { pool: self.clone(), own, share: Share::new(self.limit_bytes, 1), all: Arc::default(), seen: 0 };
        budget.refresh();
        budget
    }

    /// Members that are gone share no more. For whoever drops the last of a pipeline.
    pub fn tidy(&self) {
        let mut members = self.members();
        let before = members.accounts.len();
        members.accounts.retain(|account| account.strong_count() > 0);
        if members.accounts.len() < before {
            self.changes.fetch_add(1, Release);
        }
    }

    fn members(&self) -> MutexGuard<'_, Members> {
        // Whoever panicked with it had pushed or not: both are sound.
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One pipeline's part in the budget that all of the process share.
#[derive(Debug, Clone)]
pub struct Budget {
    pool: Arc<Pool>,
    own: Arc<Account>,
    share: Share,
    /// The accounts of all members, as of the change `seen`.
    all: Arc<[Weak<Account>]>,
    seen: u64,
}

impl Budget {
    /// How the limit is shared now; changes when a pipeline comes or goes, see [`Budget::refresh`].
    #[must_use]
    pub fn share(&self) -> Share {
        self.share
    }

    /// Looks whether pipelines came or went: the new share, if so.
    pub fn refresh(&mut self) -> Option<Share> {
        let changes = self.pool.changes.load(Acquire);
        if changes == self.seen {
            return None;
        }
        let all: Arc<[Weak<Account>]> = self.pool.members().accounts.iter().cloned().collect();
        self.seen = changes;
        self.share = Share::new(self.pool.limit_bytes, all.len() as u64);
        self.all = all;
        Some(self.share)
    }

    /// Bytes held now.
    #[must_use]
    pub fn held(&self) -> Held {
        let mut held = Held { own: self.own.held_bytes(), ..Held::default() };
        for account in self.all.iter().filter_map(Weak::upgrade) {
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
        let pool = Pool::new(400);
        let mut both = [pool.join(), pool.join()];
        assert!(both[0].refresh().is_some() && both[1].refresh().is_none(), "the second came after the first");
        let (one, other) = (both[0].lot(), both[1].lot());
        let (a, b, c) = (one.charge(110), one.charge(20), other.charge(101));
        assert_eq!(both[0].held(), Held { own: 130, all: 231, beyond: 31 });
        assert_eq!(both[1].held(), Held { own: 101, all: 231, beyond: 31 });
        drop((a, c));
        assert_eq!(both[1].held(), Held { own: 0, all: 20, beyond: 0 });
        drop(b);
        assert_eq!(both[0].held(), Held::default());
    }

    #[test]
    fn who_leaves_leaves_the_others_more_once_all_is_given_back() {
        let pool = Pool::new(400);
        let (mut stays, goes) = (pool.join(), pool.join());
        assert_eq!(stays.refresh(), Some(Share::new(400, 2)));
        let charge = goes.lot().charge(10);
        drop(goes);
        pool.tidy();
        assert_eq!((stays.refresh(), stays.held().all), (None, 10), "a charge is held still");
        drop(charge);
        pool.tidy();
        assert_eq!((stays.refresh(), stays.held().all), (Some(Share::new(400, 1)), 0));
        assert_eq!(stays.refresh(), None, "told once");
    }
}
