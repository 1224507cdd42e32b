//! The process's store: the threads that write and merge, and the budget of what waits to be written.

use crate::error::Error;
use crate::folder;
use crate::manifest::Manifest;
use crate::memtable::Entry;
use crate::merge::Stopped;
use crate::seen::{Identity, SeenIndex};
use crate::segment::{Meta, Segment};
use crate::steps::{Steps, Watcher};
use crate::task::{DiskSeen, Task, locked};
use crate::work::{EXPIRING, MERGING, WRITING, garbage};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What did not work is tried again after so long.
const AGAIN: Duration = Duration::from_secs(1);
/// Who waits for room looks again after so long.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// No budget is smaller: a record of the seen topic has up to 512 KiB.
const LEAST_BUDGET_BYTES: usize = 2 << 20;
/// Threads that read filters when a folder is opened.
const READERS: usize = 4;

/// How a store works.
#[derive(Clone)]
pub struct Options {
    /// Bytes of ids that may wait in memory to be written, for all tasks together. Writing begins at half of it. At least 2 MiB;
    /// 16 MiB are some 500,000 ids.
    pub budget_bytes: usize,
    /// How long inserting waits for room while the budget is used up, before it says that there is none.
    pub patience: Duration,
    /// For tests: is told of each step of writing and reading, and may make it fail.
    pub watcher: Option<Watcher>,
}

impl Default for Options {
    fn default() -> Self {
        Self { budget_bytes: 16 << 20, patience: Duration::from_secs(5), watcher: None }
    }
}

/// A process's store of seen ids, for all its tasks.
#[derive(Debug)]
pub struct Store {
    running: Arc<Running>,
}

/// A task's index, as it was found.
#[derive(Debug)]
pub struct Opened {
    /// The index. Where reading the seen topic goes on is its [`SeenIndex::position`]: `None` means from the start.
    pub index: DiskSeen,
    /// Why files were there and do not count.
    pub rebuilt: Option<String>,
}

impl Store {
    /// Starts the threads.
    ///
    /// # Errors
    /// The system gives no threads.
    pub fn start(options: Options) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            budget: options.budget_bytes.max(LEAST_BUDGET_BYTES),
            patience: options.patience,
            used: AtomicUsize::new(0),
            steps: Steps(options.watcher),
            flush_bell: Bell::default(),
            merge_bell: Bell::default(),
            room_bell: Bell::default(),
            failing: Mutex::new(None),
            stopped: AtomicBool::new(false),
            tasks: Mutex::new(Vec::new()),
        });
        let running = Running { shared: Arc::clone(&shared), threads: Mutex::new(Vec::new()) };
        for (name, work) in [("seen-write", Shared::keep_writing as fn(&Shared)), ("seen-merge", Shared::keep_merging)]
        {
            let shared = Arc::clone(&shared);
            let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || work(&shared))?;
            locked(&running.threads).push(thread);
        }
        Ok(Self { running: Arc::new(running) })
    }

    /// Opens a task's folder, making it if need be. What is in it and can't be used, or is of something else, is wiped: the
    /// index then has no position. `now_ms` is the wall clock.
    ///
    /// # Errors
    /// [`Error::Unusable`]: the folder can't be made, read or written, or somebody has it open.
    pub fn open(&self, folder: &Path, identity: &Identity, now_ms: i64) -> Result<Opened, Error> {
        let lock = folder::lock(folder)?;
        let said = |e: io::Error| folder::unusable(folder, &e);
        let (manifest, segments, expired, rebuilt) = match found(folder, identity, now_ms).map_err(said)? {
            Found::Usable { manifest, segments, expired } => (manifest, segments, expired, None),
            Found::Nothing => (Manifest::new(identity.clone()), Vec::new(), Vec::new(), None),
            Found::Useless(why) => {
                folder::wipe(folder).map_err(said)?;
                (Manifest::new(identity.clone()), Vec::new(), Vec::new(), Some(why))
            }
        };
        let keep: Vec<_> = segments.iter().map(|s| s.path.clone()).chain(garbage(folder, &expired)).collect();
        folder::sweep(folder, &keep).map_err(said)?;
        let shared = Arc::clone(&self.running.shared);
        let expired = garbage(folder, &expired);
        let task = Arc::new(Task::new(Arc::clone(&shared), folder.to_owned(), lock, manifest, segments, expired));
        {
            let mut tasks = locked(&shared.tasks);
            tasks.retain(|t| t.strong_count() > 0);
            tasks.push(Arc::downgrade(&task));
        }
        shared.merge_bell.ring();
        Ok(Opened { index: DiskSeen { task, _running: Arc::clone(&self.running) }, rebuilt })
    }

    /// Deletes folders below `root`, at most `depth` deep, whose ids are all older than their window: of partitions, groups
    /// and topics that never came back. One that is open, or holds what is not understood, is left alone. Gives how many
    /// went.
    ///
    /// # Errors
    /// One that can't be read or deleted; the others are deleted all the same.
    pub fn sweep(&self, root: &Path, depth: usize, now_ms: i64) -> io::Result<usize> {
        let (mut gone, mut trouble) = (0, Ok(()));
        let all = match std::fs::read_dir(root) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(0),
            all => all?,
        };
        for found in all {
            let found = found?;
            if !found.file_type()?.is_dir() {
                continue;
            }
            let path = found.path();
            let swept = if depth > 1 { self.sweep(&path, depth - 1, now_ms) } else { Ok(0) };
            match swept.and_then(|below| Ok(below + usize::from(is_over(&path, now_ms)?))) {
                Ok(count) => gone += count,
                Err(e) => trouble = Err(e),
            }
        }
        trouble.map(|()| gone)
    }

    /// Deletes what a folder holds, for one whose position can't be right: one that is past the topic's end.
    ///
    /// # Errors
    /// [`Error::Unusable`]: it can't be deleted, or somebody has it open.
    pub fn wipe(&self, folder: &Path) -> Result<(), Error> {
        let _lock = folder::lock(folder)?;
        folder::wipe(folder).map_err(|e| folder::unusable(folder, &e))
    }
}

/// Deletes a folder whose ids are all too old. `false`: it is not one, or not over.
fn is_over(folder: &Path, now_ms: i64) -> io::Result<bool> {
    let over = |manifest: &Manifest| {
        let end = manifest.latest_ms.map(|at| at.saturating_add_unsigned(manifest.identity.window_ms));
        end.is_some_and(|end| end < now_ms)
    };
    if !matches!(Manifest::read(folder)?, Some(Ok(manifest)) if over(&manifest)) {
        return Ok(false);
    }
    let Ok(lock) = folder::lock(folder) else { return Ok(false) };
    folder::wipe(folder)?;
    folder::remove_lock(folder)?;
    drop(lock);
    match std::fs::remove_dir(folder) {
        // Somebody keeps something else in it.
        Err(e) if e.kind() != io::ErrorKind::DirectoryNotEmpty => Err(e),
        _ => Ok(true),
    }
}

enum Found {
    Nothing,
    Usable {
        manifest: Manifest,
        segments: Vec<Arc<Segment>>,
        expired: Vec<Meta>,
    },
    /// And why.
    Useless(String),
}

/// Reads what a folder holds. Only what stops the folder from being used at all is an error.
fn found(folder: &Path, identity: &Identity, now_ms: i64) -> io::Result<Found> {
    let mut manifest = match Manifest::read(folder) {
        Ok(None) => return Ok(Found::Nothing),
        Ok(Some(Ok(manifest))) => manifest,
        Ok(Some(Err(why))) => return Ok(Found::Useless(why)),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => return Err(e),
        Err(e) => return Ok(Found::Useless(format!("the manifest can't be read: {e}"))),
    };
    if manifest.identity != *identity {
        return Ok(Found::Useless(format!("it is of {:?}, not of {identity:?}", manifest.identity)));
    }
    let now_ms = manifest.latest_ms.map_or(now_ms, |latest| latest.max(now_ms));
    let oldest_ms = now_ms.saturating_sub_unsigned(identity.window_ms);
    let expired = manifest.segments.extract_if(.., |meta| meta.latest_ms < oldest_ms).collect();
    match open_all(folder, &manifest.segments) {
        Ok(segments) => Ok(Found::Usable { manifest, segments, expired }),
        Err(why) => Ok(Found::Useless(why)),
    }
}

/// Opens segments, some at a time.
fn open_all(folder: &Path, metas: &[Meta]) -> Result<Vec<Arc<Segment>>, String> {
    let next = AtomicUsize::new(0);
    let opened: Mutex<Vec<Result<Arc<Segment>, String>>> = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        let work = || {
            while let Some(meta) = metas.get(next.fetch_add(1, Relaxed)) {
                let segment = Segment::open(folder, meta).map(Arc::new);
                locked(&opened).push(segment);
            }
        };
        for _ in 1..READERS.min(metas.len()) {
            scope.spawn(work);
        }
        work();
    });
    let opened = opened.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut segments = opened.into_iter().collect::<Result<Vec<_>, _>>()?;
    segments.sort_by_key(|s| std::cmp::Reverse((s.meta.bucket_ms, s.meta.number)));
    Ok(segments)
}

/// Ends the threads with the last who has it: the store or one of its indexes.
#[derive(Debug)]
pub(crate) struct Running {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Relaxed);
        self.shared.flush_bell.ring();
        self.shared.merge_bell.ring();
        for thread in locked(&self.threads).drain(..) {
            // One that panicked has told so itself.
            drop(thread.join());
        }
    }
}

/// What tasks and threads share.
pub(crate) struct Shared {
    budget: usize,
    patience: Duration,
    /// Bytes that wait to be written.
    used: AtomicUsize,
    pub(crate) steps: Steps,
    pub(crate) flush_bell: Bell,
    pub(crate) merge_bell: Bell,
    room_bell: Bell,
    /// Where and why writing failed when it was tried last.
    failing: Mutex<Option<(PathBuf, String)>>,
    stopped: AtomicBool,
    tasks: Mutex<Vec<Weak<Task>>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("budget", &self.budget).field("used", &self.used).finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn use_more(&self, bytes: usize) {
        if bytes > 0 && self.used.fetch_add(bytes, Relaxed) + bytes > self.budget / 2 {
            self.flush_bell.ring();
        }
    }

    pub(crate) fn use_less(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Relaxed);
        self.room_bell.ring();
    }

    /// Waits, within the patience, until so many ids find room.
    pub(crate) fn wait_for_room(&self, ids: usize) -> Result<(), Error> {
        // What one more id makes a memtable grow by, at most, when it has many.
        let bytes = ids.saturating_mul(2 * size_of::<Entry>());
        let mut until = None;
        loop {
            let used = self.used.load(Relaxed);
            // A record larger than all of it gets in when most else is gone.
            if used.saturating_add(bytes) <= self.budget || used < self.budget / 8 {
                return Ok(());
            }
            self.flush_bell.ring();
            if let Some((place, cause)) = locked(&self.failing).clone() {
                return Err(Error::Full { place, cause });
            }
            let now = Instant::now();
            let until = *until.get_or_insert(now + self.patience);
            if now >= until {
                let place = self.largest().first().map(|t| t.folder.clone()).unwrap_or_default();
                let cause = format!("the disk did not keep up for {} ms", self.patience.as_millis());
                return Err(Error::Full { place, cause });
            }
            // Another may have been woken in this one's place.
            self.room_bell.wait((until - now).min(LOOK_AGAIN));
        }
    }

    /// Tasks, first the one with the most to be written.
    fn largest(&self) -> Vec<Arc<Task>> {
        let mut tasks: Vec<_> = locked(&self.tasks).iter().filter_map(Weak::upgrade).collect();
        tasks.sort_by_cached_key(|task| std::cmp::Reverse(task.waiting_bytes()));
        tasks
    }

    /// The thread that writes memtables and lets go of what is too old.
    fn keep_writing(&self) {
        while !self.stopped.load(Relaxed) {
            let mut failed = false;
            for task in self.largest() {
                failed |= task.told(EXPIRING, task.expire_now()).is_err();
                task.free_unused();
                if task.damage.get().is_some() {
                    failed |= folder::forget(&task.folder).is_err();
                }
            }
            let written = self.write_until_half();
            failed |= written.is_err();
            *locked(&self.failing) = written.err();
            self.flush_bell.wait(if failed { AGAIN } else { AGAIN * 60 });
        }
    }

    /// The error says where and why nothing can be written.
    fn write_until_half(&self) -> Result<(), (PathBuf, String)> {
        while self.used.load(Relaxed) > self.budget / 2 && !self.stopped.load(Relaxed) {
            let (mut any, mut failed) = (false, None);
            for task in self.largest() {
                task.free_unused();
                match task.told(WRITING, task.write_one(true)) {
                    Ok(done) => any |= done,
                    Err(e) => failed = Some((task.folder.clone(), e.to_string())),
                }
                if any {
                    break;
                }
            }
            match failed {
                Some(failed) if !any => return Err(failed),
                _ if !any => break,
                _ => {}
            }
        }
        Ok(())
    }

    /// The thread that merges.
    fn keep_merging(&self) {
        while !self.stopped.load(Relaxed) {
            let mut failed = false;
            for task in self.largest() {
                let done = loop {
                    task.free_unused();
                    match task.merge_one() {
                        Ok(true) if !self.stopped.load(Relaxed) => {}
                        Ok(_) | Err(Stopped::Closed) => break Ok(()),
                        Err(Stopped::Disk(e)) => break Err(e),
                        Err(Stopped::Damaged(cause)) => {
                            drop(task.damaged(cause));
                            break Ok(());
                        }
                    }
                };
                failed |= task.told(MERGING, done).is_err();
            }
            self.merge_bell.wait(if failed { AGAIN } else { AGAIN * 60 });
        }
    }
}

/// Wakes who waits, also one who comes to wait a moment later.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    rung: Mutex<bool>,
    ringing: Condvar,
}

impl Bell {
    pub(crate) fn ring(&self) {
        *locked(&self.rung) = true;
        self.ringing.notify_all();
    }

    pub(crate) fn wait(&self, at_most: Duration) {
        let waited = self.ringing.wait_timeout_while(locked(&self.rung), at_most, |rung| !*rung);
        let (mut rung, _) = waited.unwrap_or_else(PoisonError::into_inner);
        *rung = false;
    }
}

impl Opened {
    /// Where reading the seen topic goes on.
    #[must_use]
    pub fn position(&self) -> Option<i64> {
        self.index.position()
    }
}
