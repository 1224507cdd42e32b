//! What all clients of an open folder share: its topics, how far their logs reach, who holds which group, and the way to
//! the writer.

use super::errors::{fatal, no_partition, no_topic, retry};
use super::settings::Settings;
use super::writer::{Answer, Request, Write};
use crate::broker::{BrokerError, LogBounds};
use crossbeam_channel::{Sender, bounded};
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long somebody waits for the writer: a slow disk is waited for, one that hangs is told.
pub(crate) const WRITE_WAIT: Duration = Duration::from_secs(30);

/// How far a partition's log reaches, as committed.
#[derive(Debug)]
pub(crate) struct PartitionState {
    pub(crate) start: AtomicI64,
    pub(crate) end: AtomicI64,
}

impl PartitionState {
    pub(crate) fn new(start: i64, end: i64) -> Arc<Self> {
        Arc::new(Self { start: AtomicI64::new(start), end: AtomicI64::new(end) })
    }

    pub(crate) fn bounds(&self) -> LogBounds {
        // The start first: read the other way round, it could be past the end.
        let start = self.start.load(Ordering::Acquire);
        LogBounds { start, end: self.end.load(Ordering::Acquire) }
    }
}

/// A topic. When partitions are added it is made anew, and shares the old ones.
#[derive(Debug)]
pub(crate) struct TopicState {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) settings: Settings,
    pub(crate) partitions: Vec<Arc<PartitionState>>,
}

impl TopicState {
    pub(crate) fn count(&self) -> i32 {
        i32::try_from(self.partitions.len()).unwrap_or(i32::MAX)
    }

    pub(crate) fn partition(&self, number: i32) -> Result<&Arc<PartitionState>, BrokerError> {
        let found = usize::try_from(number).ok().and_then(|n| self.partitions.get(n));
        found.ok_or_else(|| no_partition(&self.name, number, self.partitions.len()))
    }
}

pub(crate) type Catalog = BTreeMap<String, Arc<TopicState>>;

/// Somebody's hold of a transactional id, until somebody else claims it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) id: Arc<str>,
    number: u64,
}

/// Wakes whoever waits for something new.
#[derive(Debug, Default)]
struct Signal {
    count: Mutex<u64>,
    changed: Condvar,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Store {
    dir: PathBuf,
    requests: Sender<Request>,
    catalog: RwLock<Arc<Catalog>>,
    catalog_version: AtomicU64,
    signal: Signal,
    /// Members of each group in the order they joined; the first holds all partitions.
    groups: Mutex<BTreeMap<String, VecDeque<u64>>>,
    /// Numbers for members and claims; none is used twice.
    numbers: AtomicU64,
    /// Transactional ids, and the newest claim on each.
    claims: Mutex<BTreeMap<String, u64>>,
    broken: OnceLock<BrokerError>,
}

impl Store {
    pub(crate) fn new(dir: &Path, requests: Sender<Request>, catalog: Catalog) -> Self {
        Self {
            dir: dir.to_owned(),
            requests,
            catalog: RwLock::new(Arc::new(catalog)),
            catalog_version: AtomicU64::new(1),
            signal: Signal::default(),
            groups: Mutex::default(),
            numbers: AtomicU64::new(1),
            claims: Mutex::default(),
            broken: OnceLock::new(),
        }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn catalog(&self) -> Arc<Catalog> {
        self.catalog.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes with every change of a topic.
    pub(crate) fn catalog_version(&self) -> u64 {
        self.catalog_version.load(Ordering::Acquire)
    }

    pub(crate) fn topic(&self, name: &str) -> Result<Arc<TopicState>, BrokerError> {
        self.catalog().get(name).cloned().ok_or_else(|| no_topic(name))
    }

    /// Puts a new or changed topic in. Only the writer does.
    pub(crate) fn put_topic(&self, topic: Arc<TopicState>) {
        let mut held = self.catalog.write().unwrap_or_else(PoisonError::into_inner);
        let mut catalog = Catalog::clone(&held);
        catalog.insert(topic.name.clone(), topic);
        *held = Arc::new(catalog);
        self.catalog_version.fetch_add(1, Ordering::Release);
    }

    /// Tells everyone who waits to look again.
    pub(crate) fn wake(&self) {
        *lock(&self.signal.count) += 1;
        self.signal.changed.notify_all();
    }

    /// To be taken before looking, and given to [`Store::wait`] when nothing was found: what comes in between is not missed.
    pub(crate) fn seen(&self) -> u64 {
        *lock(&self.signal.count)
    }

    /// Waits until something happened after `seen`, at most until `until`. `false`: nothing did.
    pub(crate) fn wait(&self, seen: u64, until: Instant) -> bool {
        let mut count = lock(&self.signal.count);
        while *count == seen {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            count = self.signal.changed.wait_timeout(count, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// A new member of the group, behind those that are there.
    pub(crate) fn join(&self, group: &str) -> u64 {
        let member = self.numbers.fetch_add(1, Ordering::Relaxed);
        lock(&self.groups).entry(group.to_owned()).or_default().push_back(member);
        member
    }

    pub(crate) fn leave(&self, group: &str, member: u64) {
        let mut groups = lock(&self.groups);
        if let Some(members) = groups.get_mut(group) {
            members.retain(|m| *m != member);
            if members.is_empty() {
                groups.remove(group);
            }
        }
        drop(groups);
        self.wake();
    }

    /// Whether the group has any member.
    pub(crate) fn has_members(&self, group: &str) -> bool {
        lock(&self.groups).get(group).is_some_and(|members| !members.is_empty())
    }

    /// Whether this member holds the group's partitions.
    pub(crate) fn holds(&self, group: &str, member: u64) -> bool {
        lock(&self.groups).get(group).and_then(VecDeque::front) == Some(&member)
    }

    /// Groups that have members.
    pub(crate) fn groups(&self) -> Vec<String> {
        lock(&self.groups).keys().cloned().collect()
    }

    /// Takes a transactional id: earlier claims on it count no more.
    pub(crate) fn claim(&self, id: &Arc<str>) -> Claim {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        lock(&self.claims).insert(id.to_string(), number);
        Claim { id: id.clone(), number }
    }

    /// Whether nobody claimed the id since.
    pub(crate) fn stands(&self, claim: &Claim) -> bool {
        lock(&self.claims).get(&*claim.id) == Some(&claim.number)
    }

    /// Gives the id back, if it is still this claim's.
    pub(crate) fn give_back(&self, claim: &Claim) {
        let mut claims = lock(&self.claims);
        if claims.get(&*claim.id) == Some(&claim.number) {
            claims.remove(&*claim.id);
        }
    }

    /// Nothing more is written or read: the folder is damaged.
    pub(crate) fn set_broken(&self, error: &BrokerError) {
        if self.broken.set(error.clone()).is_ok() {
            tracing::error!(%error, "the embedded broker stops");
        }
        self.wake();
    }

    pub(crate) fn check(&self) -> Result<(), BrokerError> {
        self.broken.get().map_or(Ok(()), |error| Err(error.clone()))
    }

    /// Hands a request to the writer; waits while its queue is full.
    pub(crate) fn submit(&self, request: Request) -> Result<(), BrokerError> {
        self.check()?;
        self.requests.send_timeout(request, WRITE_WAIT).map_err(|e| {
            if e.is_timeout() {
                retry(format!("{}: the disk takes nothing: no write ended within {WRITE_WAIT:?}", self.dir.display()))
            } else {
                fatal(format!("{}: the broker is closed", self.dir.display()))
            }
        })
    }

    /// Hands over a request and waits for its answer.
    pub(crate) fn ask<T: Send + 'static>(&self, request: impl FnOnce(Answer<T>) -> Request) -> Result<T, BrokerError> {
        self.ask_within(WRITE_WAIT, request)
    }

    fn ask_within<T: Send + 'static>(
        &self,
        wait: Duration,
        request: impl FnOnce(Answer<T>) -> Request,
    ) -> Result<T, BrokerError> {
        let (told, heard) = bounded(1);
        // Nobody hears it when the wait below is over; then the outcome is told as unknown already.
        self.submit(request(Box::new(move |result| drop(told.try_send(result)))))?;
        heard.recv_timeout(wait).unwrap_or_else(|e| {
            let dir = self.dir.display();
            Err(if e.is_timeout() {
                retry(format!("{dir}: the disk did not answer within {wait:?}; whether it was done is not known"))
            } else {
                self.check().err().unwrap_or_else(|| fatal(format!("{dir}: the broker was closed meanwhile")))
            })
        })
    }

    /// Waits until all that was handed over before is decided: written for good, or refused.
    pub(crate) fn settle(&self, wait: Duration) -> Result<(), BrokerError> {
        self.ask_within(wait, Request::Barrier)
    }

    /// Writes atomically and waits until it is durable.
    pub(crate) fn write(&self, write: Write, wait: Duration) -> Result<(), BrokerError> {
        self.ask_within(wait, |answer| Request::Write(write, answer))
    }
}

/// A lock whose holder panicked guards nothing that could be half done here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
