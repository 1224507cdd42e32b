//! One task's index: what is inserted and looked up. What its background work does is in `work`.

use crate::error::Error;
use crate::filter::{Sought, fetch, head};
use crate::folder::Lock;
use crate::manifest::Manifest;
use crate::memtable::{AFTER_MOST_MS, Memtable};
use crate::seen::{BUCKETS, Id, Identity, SeenIndex, Stats};
use crate::segment::Segment;
use crate::steps::{Step, Steps};
use crate::store::{Running, Shared};
use crate::view::{Retired, View, Views};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// Filters that are asked at once.
const AT_ONCE: usize = 16;

/// One task's index, on disk. Dropping it lets go of the folder; what waits in memory is dropped with it and must be read
/// from the seen topic again, unless [`SeenIndex::flush`] went before.
pub struct DiskSeen {
    pub(crate) task: Arc<Task>,
    /// The store's threads run while any index is open.
    pub(crate) _running: Arc<Running>,
}

/// Lock order: `flushing` or `merging`, then `disk`; `writing` under `flushing` alone; `shape` last.
pub(crate) struct Task {
    pub(crate) shared: Arc<Shared>,
    pub(crate) folder: PathBuf,
    pub(crate) steps: Steps,
    window_ms: u64,
    width_ms: u64,
    pub(crate) writing: Mutex<Writing>,
    shape: Mutex<View>,
    pub(crate) views: Views,
    retired: Mutex<Retired>,
    pub(crate) disk: Mutex<Disk>,
    /// Held by whoever flushes or expires; by whoever merges.
    pub(crate) flushing: Mutex<()>,
    pub(crate) merging: Mutex<()>,
    pub(crate) closed: AtomicBool,
    pub(crate) damage: OnceLock<Error>,
    pub(crate) failing: Mutex<[Option<String>; 3]>,
    /// What is older counts no more.
    pub(crate) oldest_ms: AtomicI64,
    false_positives: AtomicU64,
    lock: Mutex<Option<Lock>>,
}

/// The side of the one that inserts.
pub(crate) struct Writing {
    active: Option<Arc<Memtable>>,
    /// Full, or of an older bucket: to be written, from old to new, each with the position after it.
    pub(crate) sealed: VecDeque<(Arc<Memtable>, i64)>,
    bucket_ms: Option<i64>,
    latest_ms: Option<i64>,
    pub(crate) position: Option<i64>,
}

/// The side of the folder. Held while a manifest is replaced.
pub(crate) struct Disk {
    pub(crate) manifest: Manifest,
    /// Files that nothing needs once the manifest of now is known to be durable.
    pub(crate) garbage: Vec<PathBuf>,
}

impl Task {
    /// `segments` are those of the manifest, `garbage` what it no longer needs.
    pub(crate) fn new(
        shared: Arc<Shared>,
        folder: PathBuf,
        lock: Lock,
        manifest: Manifest,
        segments: Vec<Arc<Segment>>,
        garbage: Vec<PathBuf>,
    ) -> Self {
        let window_ms = manifest.identity.window_ms;
        let view = View { memtables: Vec::new(), segments };
        let writing = Writing {
            active: None,
            sealed: VecDeque::new(),
            bucket_ms: view.newest_bucket(),
            latest_ms: manifest.latest_ms,
            position: manifest.position,
        };
        Self {
            steps: shared.steps.clone(),
            shared,
            folder,
            window_ms,
            width_ms: (window_ms / BUCKETS).clamp(1, u64::from(AFTER_MOST_MS)),
            writing: Mutex::new(writing),
            views: Views::new(&view),
            shape: Mutex::new(view),
            retired: Mutex::default(),
            disk: Mutex::new(Disk { manifest, garbage }),
            flushing: Mutex::new(()),
            merging: Mutex::new(()),
            closed: AtomicBool::new(false),
            damage: OnceLock::new(),
            failing: Mutex::default(),
            oldest_ms: AtomicI64::new(i64::MIN),
            false_positives: AtomicU64::new(0),
            lock: Mutex::new(Some(lock)),
        }
    }

    /// Changes what look-ups read.
    pub(crate) fn reshape(&self, change: impl FnOnce(&mut View)) {
        let mut shape = locked(&self.shape);
        let old = shape.clone();
        change(&mut shape);
        self.views.publish(&shape);
        locked(&self.retired).add(old, &shape);
    }

    /// Frees what look-ups need no more. For background threads.
    pub(crate) fn free_unused(&self) {
        let unused = locked(&self.retired).unused();
        drop(unused);
    }

    pub(crate) fn undamaged(&self) -> Result<(), Error> {
        self.damage.get().map_or(Ok(()), |damage| Err(damage.clone()))
    }

    /// From now on every call answers so, and the files do not count.
    pub(crate) fn damaged(&self, cause: String) -> Error {
        let damage = self.damage.get_or_init(|| Error::Damaged { place: self.folder.clone(), cause }).clone();
        self.shared.flush_bell.ring();
        damage
    }

    /// Bytes that wait to be written.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.views.get().memtables.iter().map(|m| m.bytes()).sum()
    }

    /// The oldest memtable to be written and the position after it; with `all` also the one being filled.
    pub(crate) fn to_write(&self, all: bool) -> Option<(Arc<Memtable>, i64)> {
        let mut writing = locked(&self.writing);
        if writing.sealed.is_empty() && all {
            writing.seal();
        }
        writing.sealed.front().cloned()
    }

    fn find(&self, id: &Id, oldest_ms: i64) -> Result<bool, Error> {
        let view = self.views.look();
        for memtable in view.memtables.iter().rev() {
            if memtable.find(id).is_some_and(|time_ms| time_ms >= oldest_ms) {
                return Ok(true);
            }
        }
        let head = head(id);
        for some in view.segments.chunks(AT_ONCE) {
            let (mut rows, mut touched) = ([(0, 0); AT_ONCE], 0);
            for (row, segment) in rows.iter_mut().zip(some) {
                let (at, byte) = segment.filter.row(head);
                *row = at;
                touched ^= byte;
            }
            fetch(touched);
            let mut sought = [Sought::default(); AT_ONCE];
            let mut touched = 0;
            for ((sought, row), segment) in sought.iter_mut().zip(rows).zip(some) {
                let (at, byte) = segment.filter.seek(row);
                *sought = at;
                touched ^= byte;
            }
            fetch(touched);
            let mut perhaps = 0u32;
            for (n, (sought, segment)) in sought.iter().zip(some).enumerate() {
                perhaps |= u32::from(segment.filter.holds(*sought)) << n;
            }
            if perhaps != 0 && self.ask_some(some, perhaps, id, oldest_ms)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Asks those segments whose bit is set.
    #[cold]
    fn ask_some(&self, some: &[Arc<Segment>], perhaps: u32, id: &Id, oldest_ms: i64) -> Result<bool, Error> {
        for (n, segment) in some.iter().enumerate() {
            if perhaps & (1 << n) != 0 && segment.meta.latest_ms >= oldest_ms && self.ask(segment, id, oldest_ms)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn ask(&self, segment: &Segment, id: &Id, oldest_ms: i64) -> Result<bool, Error> {
        let passed = self.steps.pass(Step::ReadBlock).map_err(|e| format!("{}: {e}", segment.path.display()));
        match passed.and_then(|()| segment.find(id)) {
            Ok(Some(time_ms)) => Ok(time_ms >= oldest_ms),
            Ok(None) => {
                self.false_positives.fetch_add(1, Relaxed);
                Ok(false)
            }
            Err(cause) => Err(self.damaged(cause)),
        }
    }

    fn take_in(&self, ids: &[Id], time_ms: i64, position: i64) {
        let mut writing = locked(&self.writing);
        let moved = Some(writing.position.map_or(position, |p| p.max(position)));
        if ids.is_empty() {
            writing.position = moved;
            return;
        }
        let time_ms = writing.latest_ms.map_or(time_ms, |latest| latest.max(time_ms));
        writing.latest_ms = Some(time_ms);
        let oldest_ms = time_ms.saturating_sub_unsigned(self.window_ms);
        let ends = |start: i64| start.saturating_add_unsigned(self.width_ms);
        let bucket_ms = match writing.bucket_ms {
            Some(start) if time_ms < ends(start) => start,
            _ => {
                // IMPORTANT: before the position moves, since this record is not in what is sealed.
                writing.seal();
                writing.bucket_ms = Some(time_ms);
                // Older buckets may have ended, or have become whole.
                self.oldest_ms.fetch_max(oldest_ms, Relaxed);
                self.shared.flush_bell.ring();
                self.shared.merge_bell.ring();
                time_ms
            }
        };
        let memtable = writing.active.get_or_insert_with(|| {
            let memtable = Arc::new(Memtable::new(bucket_ms));
            self.shared.use_more(memtable.bytes());
            self.reshape(|view| view.memtables.push(Arc::clone(&memtable)));
            memtable
        });
        let after_ms = u32::try_from(time_ms.saturating_sub(bucket_ms)).unwrap_or(AFTER_MOST_MS);
        let grown = ids.iter().map(|id| memtable.insert(id, after_ms)).sum();
        self.shared.use_more(grown);
        writing.position = moved;
    }

    /// Ends all work on the folder and lets go of it.
    fn close(&self) {
        self.closed.store(true, Relaxed);
        // IMPORTANT: whoever works on the folder has ended before the lock goes.
        let (_flushing, _merging) = (locked(&self.flushing), locked(&self.merging));
        if self.damage.get().is_some() {
            // If this fails, the next to open it comes upon the damage again.
            drop(crate::folder::forget(&self.folder));
        }
        self.shared.use_less(self.waiting_bytes());
        self.reshape(|view| *view = View::default());
        drop(locked(&self.lock).take());
    }
}

impl Writing {
    /// Whether nothing waits to be written.
    pub(crate) fn is_empty(&self) -> bool {
        self.active.is_none() && self.sealed.is_empty()
    }

    pub(crate) fn seal(&mut self) {
        if let Some(memtable) = self.active.take() {
            self.sealed.push_back((memtable, self.position.unwrap_or_default()));
        }
    }

    /// Lets go of all memtables.
    pub(crate) fn forget(&mut self, position: i64) -> Vec<Arc<Memtable>> {
        self.position = Some(self.position.map_or(position, |p| p.max(position)));
        self.sealed.drain(..).map(|(memtable, _)| memtable).chain(self.active.take()).collect()
    }

    /// Lets go of memtables whose newest id is too old.
    pub(crate) fn expire(&mut self, oldest_ms: i64) -> Vec<Arc<Memtable>> {
        if self.active.as_ref().is_some_and(|m| m.latest_ms() < oldest_ms) {
            self.seal();
        }
        let mut gone = Vec::new();
        while self.sealed.front().is_some_and(|(m, _)| m.latest_ms() < oldest_ms) {
            gone.extend(self.sealed.pop_front().map(|(m, _)| m));
        }
        gone
    }
}

impl DiskSeen {
    /// What the index is of.
    #[must_use]
    pub fn identity(&self) -> Identity {
        locked(&self.task.disk).manifest.identity.clone()
    }

    /// The position up to which all is on disk: where reading goes on if the process ends now.
    #[must_use]
    pub fn checkpoint(&self) -> Option<i64> {
        locked(&self.task.disk).manifest.position
    }
}

impl SeenIndex for DiskSeen {
    fn contains(&self, id: &Id, oldest_ms: i64) -> Result<bool, Error> {
        self.task.undamaged()?;
        self.task.find(id, oldest_ms)
    }

    fn insert(&self, ids: &[Id], time_ms: i64, position: i64) -> Result<(), Error> {
        self.task.undamaged()?;
        self.task.shared.wait_for_room(ids.len())?;
        self.task.take_in(ids, time_ms, position);
        Ok(())
    }

    fn position(&self) -> Option<i64> {
        locked(&self.task.writing).position
    }

    fn expire(&self, oldest_ms: i64) {
        if self.task.oldest_ms.fetch_max(oldest_ms, Relaxed) < oldest_ms {
            self.task.shared.flush_bell.ring();
        }
    }

    fn forget(&self, position: i64) -> Result<(), Error> {
        self.task.undamaged()?;
        let failed = |e: std::io::Error| Error::Full { place: self.task.folder.clone(), cause: e.to_string() };
        self.task.forget_all(position).map_err(failed)
    }

    fn flush(&self) -> Result<(), Error> {
        self.task.undamaged()?;
        self.task.write_all().map_err(|e| Error::Full { place: self.task.folder.clone(), cause: e.to_string() })?;
        self.task.undamaged()
    }

    fn stats(&self) -> Stats {
        let view = self.task.views.get();
        let waiting: u64 = view.memtables.iter().map(|m| m.bytes() as u64).sum();
        let sum = |of: fn(&Segment) -> u64| view.segments.iter().map(|s| of(s)).sum::<u64>();
        Stats {
            ids: sum(|s| s.meta.ids) + view.memtables.iter().map(|m| m.ids() as u64).sum::<u64>(),
            memory_bytes: sum(Segment::bytes) + waiting,
            waiting_bytes: waiting,
            disk_bytes: sum(|s| s.meta.bytes()),
            segments: view.segments.len() as u64,
            lookups: self.task.views.lookups(),
            false_positives: self.task.false_positives.load(Relaxed),
            failing: locked(&self.task.failing).iter().flatten().next().cloned(),
        }
    }
}

impl Drop for DiskSeen {
    fn drop(&mut self) {
        self.task.close();
    }
}

impl std::fmt::Debug for DiskSeen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DiskSeen").field("folder", &self.task.folder).finish_non_exhaustive()
    }
}

/// A thread that panicked under a lock left what it holds whole: each change is made in one step.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
