//! Which version of a handler serves a pipeline. It changes while the pipeline runs: each shard takes the new one before
//! its next batch, so what is under way ends on the version that began it.

use crate::wasm::Handler;
use std::sync::atomic::{
    AtomicU32,
    Ordering::{Acquire, Release},
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The handler that serves a pipeline, shared by its threads and by whoever swaps it.
#[derive(Debug)]
pub struct Serving {
    /// The last of `versions`, to be read without the lock.
    number: AtomicU32,
    versions: Mutex<Versions>,
}

#[derive(Debug)]
struct Versions {
    present: Handler,
    /// Digests of all versions so far, shortened; a version's number is its index.
    digests: Vec<Arc<str>>,
}

impl Serving {
    /// The first version.
    #[must_use]
    pub fn new(handler: Handler) -> Arc<Self> {
        let digests = vec![short(handler.digest()).into()];
        Arc::new(Self { number: AtomicU32::new(0), versions: Mutex::new(Versions { present: handler, digests }) })
    }

    /// From each shard's next batch on this handler serves.
    pub fn swap(&self, handler: Handler) {
        let mut versions = self.versions();
        versions.digests.push(short(handler.digest()).into());
        versions.present = handler;
        let number = u32::try_from(versions.digests.len() - 1).unwrap_or(u32::MAX);
        self.number.store(number, Release);
    }

    /// The number of the version that serves. Takes no lock: for every batch.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number.load(Acquire)
    }

    /// The version that serves: its number and the handler.
    #[must_use]
    pub fn present(&self) -> (u32, Handler) {
        let versions = self.versions();
        (self.number(), versions.present.clone())
    }

    /// The first twelve digits of a version's digest; of the one that serves where the number is `None` or not known.
    #[must_use]
    pub fn digest(&self, number: Option<u32>) -> Arc<str> {
        let versions = self.versions();
        let found = versions.digests.get(number.unwrap_or(self.number()) as usize).or(versions.digests.last());
        found.cloned().unwrap_or_default()
    }

    fn versions(&self) -> MutexGuard<'_, Versions> {
        // A swap that panicked on its way has pushed a digest or not, and serves the old handler still.
        self.versions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As much of a digest as logs and dead letters show.
pub(crate) fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}
