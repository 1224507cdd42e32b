//! What the restoring thread and whoever wants something of it share.

use super::{Failed, Fill};
use crate::record::TopicPartition;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Between two looks at the ends of what is watched.
const WATCH: Duration = Duration::from_secs(30);

#[derive(Default)]
pub(super) struct Shared {
    pub(super) state: Mutex<State>,
    pub(super) changed: Condvar,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) wanted: BTreeMap<TopicPartition, Wanted>,
    pub(super) watched: BTreeSet<TopicPartition>,
    pub(super) ends: BTreeMap<TopicPartition, i64>,
    /// Grows whenever something else is wanted.
    pub(super) version: u64,
    pub(super) done: Vec<u64>,
    pub(super) failed: Option<Failed>,
    pub(super) told: String,
    pub(super) over: bool,
}

#[derive(Clone)]
pub(super) struct Wanted {
    pub(super) number: u64,
    pub(super) fill: Arc<dyn Fill>,
    /// `None`: not asked yet.
    pub(super) span: Option<Span>,
}

/// What is to be read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub(super) from: i64,
    pub(super) next: i64,
    pub(super) end: i64,
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // Each holder only replaces values.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        state.version += 1;
        self.changed.notify_all();
    }

    /// Waits until there is something to do; `None`: it is over.
    pub(super) fn next(&self) -> Option<Next> {
        let mut look = Instant::now() + WATCH;
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            if state.over {
                return None;
            } else if !state.wanted.is_empty() {
                return Some(Next::Read(state.version, state.wanted.clone()));
            } else if now >= look && !state.watched.is_empty() {
                return Some(Next::Look(state.watched.iter().copied().collect()));
            } else if now >= look {
                look = now + WATCH;
            }
            let waited = self.changed.wait_timeout(state, look.saturating_duration_since(now));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Sleeps, unless something changes.
    pub(super) fn rest(&self, version: u64, pause: Duration) {
        let state = self.lock();
        if state.version == version && !state.over {
            drop(self.changed.wait_timeout(state, pause));
        }
    }
}

/// What is to be done.
pub(super) enum Next {
    /// To read these, as of this version.
    Read(u64, BTreeMap<TopicPartition, Wanted>),
    /// To ask where these end.
    Look(Vec<TopicPartition>),
}
