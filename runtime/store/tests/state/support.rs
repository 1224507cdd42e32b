//! Chance from a seed, a folder that goes away, and what must be answered.

use keyrail_store::{Change, DiskState, Entry, StateIdentity, StateIndex, StateOptions, StateStore};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// SplitMix64.
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// One of some hundred keys, with prefixes in common, empty and with the highest bytes.
    pub(crate) fn key(&mut self) -> Vec<u8> {
        match self.below(20) {
            0 => vec![],
            1 => vec![u8::MAX; self.below(4) as usize],
            2 => vec![self.below(3) as u8; 1_500 + self.below(2) as usize * 3_000],
            n => format!("{}/{}", n % 3, self.below(200)).into_bytes(),
        }
    }

    pub(crate) fn change(&mut self) -> Change {
        let key = self.key();
        self.change_of(&key)
    }

    pub(crate) fn change_of(&mut self, key: &[u8]) -> Change {
        let bytes = match self.below(40) {
            0 => 20_000,
            1 => 0,
            n => n * 5,
        };
        let expires_ms = (self.below(2) == 0).then(|| self.below(1_000) as i64 - 100);
        let entry = Entry { value: vec![self.next() as u8; bytes as usize].into(), expires_ms };
        Change { key: key.into(), entry: (self.below(4) > 0).then_some(entry) }
    }
}

pub(crate) fn identity() -> StateIdentity {
    StateIdentity { group: "orders".into(), topic: "in".into(), partition: 3, log: 77 }
}

pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let unique = format!("keyrail-state-{name}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        Self(std::env::temp_dir().join(unique))
    }

    /// The database's files and those beside it.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let files = std::fs::read_dir(&self.0).unwrap().map(|f| f.unwrap().path());
        let mut files: Vec<_> = files.filter(|f| !f.ends_with("lock")).collect();
        files.sort();
        files
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// The smallest budget, so that little is enough to be written.
pub(crate) fn options() -> StateOptions {
    StateOptions { budget_bytes: 0, page_cache_bytes: 1 << 20, patience: Duration::from_secs(20), ..Default::default() }
}

pub(crate) fn start(folder: &Path) -> StateStore {
    StateStore::start(options(), folder).unwrap()
}

/// At the time 0, with nothing thrown away.
pub(crate) fn open(store: &StateStore) -> DiskState {
    let opened = store.open(&identity(), 0).unwrap();
    assert_eq!(opened.rebuilt, None);
    opened.index
}

pub(crate) fn wait_until(what: &str, done: impl Fn() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < Duration::from_secs(60), "waited too long: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// What an index must answer.
#[derive(Clone, Default)]
pub(crate) struct Model {
    pub(crate) entries: BTreeMap<Arc<[u8]>, Entry>,
    pub(crate) position: Option<i64>,
}

impl Model {
    pub(crate) fn apply(&mut self, changes: &[Change], position: Option<i64>) {
        for change in changes {
            match &change.entry {
                Some(entry) => drop(self.entries.insert(Arc::clone(&change.key), entry.clone())),
                None => drop(self.entries.remove(&change.key)),
            }
        }
        self.position = self.position.max(position);
    }

    pub(crate) fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Vec<(Arc<[u8]>, Entry)> {
        let found = self.entries.iter().filter(|(key, _)| key.starts_with(prefix) && after.is_none_or(|a| &***key > a));
        found.take(limit).map(|(key, entry)| (Arc::clone(key), entry.clone())).collect()
    }

    pub(crate) fn expired(&self, before_ms: i64, limit: usize) -> Vec<Arc<[u8]>> {
        let mut found: Vec<_> = self.entries.iter().filter_map(|(key, e)| Some((e.expires_ms?, key))).collect();
        found.retain(|(at, _)| *at <= before_ms);
        found.sort();
        found.into_iter().take(limit).map(|(_, key)| Arc::clone(key)).collect()
    }

    /// Every key, all of them in order, and all that expire.
    pub(crate) fn check(&self, index: &dyn StateIndex, why: &str) {
        let all = index.scan(b"", None, usize::MAX).unwrap();
        assert_eq!(all.len(), self.entries.len(), "{why}");
        assert_eq!(all, self.scan(b"", None, usize::MAX), "{why}");
        for (key, entry) in &self.entries {
            assert_eq!(index.get(key).unwrap().as_ref(), Some(entry), "{why}: {key:?}");
            let next: Vec<u8> = key.iter().copied().chain([0]).collect();
            assert_eq!(index.get(&next).unwrap().as_ref(), self.entries.get(&*next), "{why}: {next:?}");
        }
        let ends = index.expiring(None, i64::MAX, usize::MAX).unwrap();
        let keys: Vec<_> = ends.iter().map(|(_, key)| Arc::clone(key)).collect();
        assert_eq!(keys, self.expired(i64::MAX, usize::MAX), "{why}");
        for (n, (at, key)) in ends.iter().enumerate() {
            let next = index.expiring(Some((*at, key)), i64::MAX, 2).unwrap();
            assert_eq!(next, ends[n + 1..ends.len().min(n + 3)], "{why}: behind {at} {key:?}");
        }
    }
}
