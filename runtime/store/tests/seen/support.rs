//! Chance from a seed, a folder that goes away, and what must be answered.

use keyrail_store::{DiskSeen, Error, Id, Identity, Options, SeenIndex, Store, Watcher};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

pub(crate) const WINDOW_MS: u64 = 80_000;

/// SplitMix64.
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

pub(crate) fn mix(n: u64) -> u64 {
    let z = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

pub(crate) fn id(n: u64) -> Id {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&mix(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_le_bytes());
    id[8..].copy_from_slice(&n.to_le_bytes());
    id
}

pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let unique = format!("keyrail-store-{name}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        Self(std::env::temp_dir().join(unique))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

pub(crate) fn identity() -> Identity {
    Identity { group: "orders".into(), topic: "in".into(), partition: 3, log: 77, window_ms: WINDOW_MS }
}

/// The smallest budget, so that little is enough to be written.
pub(crate) fn options(watcher: Option<Watcher>) -> Options {
    Options { budget_bytes: 0, patience: Duration::from_secs(20), watcher }
}

pub(crate) fn store() -> Store {
    Store::start(options(None)).unwrap()
}

pub(crate) fn open(store: &Store, folder: &Path, now_ms: i64) -> DiskSeen {
    let opened = store.open(folder, &identity(), now_ms).unwrap();
    assert_eq!(opened.rebuilt, None);
    opened.index
}

/// Offers a record until there is room.
pub(crate) fn insert(index: &dyn SeenIndex, record: &Record) {
    let started = Instant::now();
    loop {
        match index.insert(&record.ids, record.time_ms, record.position) {
            Ok(()) => return,
            Err(Error::Full { .. }) if started.elapsed() < Duration::from_secs(60) => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(e) => panic!("{e}"),
        }
    }
}

pub(crate) fn wait_until(what: &str, done: impl Fn() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < Duration::from_secs(60), "waited too long: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A record of the seen topic.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) ids: Vec<Id>,
    pub(crate) time_ms: i64,
    /// What follows it.
    pub(crate) position: i64,
}

/// The topic, and what an index that has read all of it must answer.
#[derive(Default)]
pub(crate) struct Topic {
    pub(crate) records: Vec<Record>,
    pub(crate) times: HashMap<Id, i64>,
    pub(crate) latest_ms: i64,
}

impl Topic {
    pub(crate) fn add(&mut self, ids: Vec<Id>, time_ms: i64) -> Record {
        if !ids.is_empty() {
            self.latest_ms = self.latest_ms.max(time_ms);
        }
        for id in &ids {
            self.times.insert(*id, self.latest_ms);
        }
        let position = self.records.last().map_or(0, |r| r.position) + 1;
        self.records.push(Record { ids, time_ms, position });
        self.records.last().unwrap().clone()
    }

    /// The same topic as far as `position`.
    pub(crate) fn until(&self, position: i64) -> Self {
        let mut topic = Self::default();
        for record in self.records.iter().take_while(|r| r.position <= position) {
            topic.add(record.ids.clone(), record.time_ms);
        }
        topic
    }

    pub(crate) fn oldest_ms(&self) -> i64 {
        self.latest_ms - WINDOW_MS as i64
    }

    pub(crate) fn expects(&self, id: &Id, oldest_ms: i64) -> bool {
        self.times.get(id).is_some_and(|time_ms| *time_ms >= oldest_ms)
    }

    /// Asks for every id there is, at its time and around it, and for as many that there are not.
    pub(crate) fn check(&self, index: &dyn SeenIndex, why: &str) {
        self.check_since(index, self.oldest_ms(), why);
    }

    /// As `check`, of an index that may have let go of what is older than `oldest_ms`.
    pub(crate) fn check_since(&self, index: &dyn SeenIndex, oldest_ms: i64, why: &str) {
        for (n, (id, time_ms)) in self.times.iter().enumerate() {
            assert_eq!(index.contains(id, oldest_ms).unwrap(), *time_ms >= oldest_ms, "{why}: {id:?} at {time_ms}");
            if *time_ms >= oldest_ms {
                assert!(index.contains(id, *time_ms).unwrap(), "{why}: {id:?} at its time {time_ms}");
                assert!(!index.contains(id, *time_ms + 1).unwrap(), "{why}: {id:?} after its time {time_ms}");
            }
            assert!(!index.contains(&self::id(u64::MAX - n as u64), i64::MIN).unwrap(), "{why}: never inserted");
        }
    }
}
