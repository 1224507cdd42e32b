//! The process's store of state: its budget, its database, and the thread that writes.

use super::database::Database;
use super::flush::{Job, write_jobs};
use super::layer::Layer;
use super::record::{self, Record};
use super::sqlite::{Failure, TaskRow};
use super::task::{DiskState, Task};
use super::{StateIdentity, StateIndex, StateOptions, StateStep};
use crate::Error;
use crate::folder::{self, Lock};
use crate::store::Bell;
use crate::task::locked;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Half of the time that the topic keeps deletions for: what was not read on for longer may lack some.
pub const STALE_AFTER_MS: u64 = 7 * 86_400_000 / 2;
/// No budget is smaller.
const LEAST_BUDGET_BYTES: usize = 1 << 20;
/// What is due is looked for so often.
const LOOK: Duration = Duration::from_secs(1);
/// Who waits for room looks again after so long.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// So many blocks of tasks that are no more are deleted at once.
const COLLECTED: usize = 500;

/// A process's store of state, for all its tasks: one database below one folder. Cheap to clone.
#[derive(Debug, Clone)]
pub struct StateStore {
    running: Arc<Running>,
}

/// A task's state, as it was found.
#[derive(Debug)]
pub struct OpenedState {
    /// The index. Where reading the topic goes on is its [`StateIndex::position`]: `None` means from the start.
    pub index: DiskState,
    /// Why what was there does not count.
    pub rebuilt: Option<String>,
}

impl OpenedState {
    /// Where reading the topic goes on.
    #[must_use]
    pub fn position(&self) -> Option<i64> {
        self.index.position()
    }
}

impl StateStore {
    /// Opens the folder, making it if need be, and starts the thread that writes. A database that can't be used is deleted;
    /// each task then says so when it is opened.
    ///
    /// # Errors
    /// [`Error::Unusable`]: the folder can't be made, read or written, somebody has it open, or the system gives no thread.
    pub fn start(options: StateOptions, dir: &Path) -> Result<Self, Error> {
        let lock = folder::lock(dir)?;
        let database = Database::open(dir, &options)?;
        let shared = Arc::new(Shared {
            budget: options.budget_bytes.max(LEAST_BUDGET_BYTES),
            options,
            dir: dir.to_owned(),
            waiting: AtomicUsize::new(0),
            kept: AtomicUsize::new(0),
            database: Mutex::new(Arc::new(database)),
            tasks: Mutex::default(),
            passing: Mutex::new(()),
            failing: Mutex::new(None),
            bell: Bell::default(),
            room_bell: Bell::default(),
            stopped: AtomicBool::new(false),
            garbage: AtomicBool::new(true),
            wanted: AtomicBool::new(false),
        });
        let work = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("state-write".to_owned()).spawn(move || work.keep_writing());
        let thread = thread.map_err(|e| folder::unusable(dir, &e))?;
        Ok(Self { running: Arc::new(Running { shared, thread: Mutex::new(Some(thread)), _lock: lock }) })
    }

    /// Opens a task's state. What can't be used, is of another log or was not read on for [`STALE_AFTER_MS`] is wiped: the
    /// index then has no position. `now_ms` is the wall clock.
    ///
    /// # Errors
    /// [`Error::Unusable`]: the database can't be read or written, or the task is open already.
    pub fn open(&self, identity: &StateIdentity, now_ms: i64) -> Result<OpenedState, Error> {
        let shared = &self.running.shared;
        let mut current = locked(&shared.database);
        if current.undamaged().is_err() {
            *current = Arc::new(current.next(&shared.dir, &shared.options)?);
        }
        let found = match shared.find(&current, identity, now_ms) {
            Err(Failure::Damaged(cause)) => {
                current.damaged(cause);
                *current = Arc::new(current.next(&shared.dir, &shared.options)?);
                shared.find(&current, identity, now_ms)
            }
            found => found,
        };
        let found = found.map_err(|failure| shared.unusable(failure))?;
        let index = DiskState::new(Task::new(shared, &current, found.id, found.record, found.entries), &self.running);
        locked(&shared.tasks).push(Arc::downgrade(&index.task));
        Ok(OpenedState { index, rebuilt: found.rebuilt })
    }

    /// Deletes what is kept of a task, for one whose position can't be right: one that is past the topic's end.
    ///
    /// # Errors
    /// [`Error::Unusable`]: it can't be deleted, or it is open.
    pub fn wipe(&self, identity: &StateIdentity) -> Result<(), Error> {
        let shared = &self.running.shared;
        let current = locked(&shared.database);
        let name = record::name(identity);
        let wiped = shared.unused(&current, identity).and_then(|()| {
            let mut writer = locked(&current.writer);
            let old: Vec<_> = writer.tasks()?.into_iter().filter(|row| row.name == name).collect();
            writer.write(StateStep::Task, |to| old.iter().try_for_each(|row| to.remove_task(row.id)))
        });
        shared.collect_soon();
        match wiped {
            Err(Failure::Damaged(cause)) => {
                current.damaged(cause);
                Ok(())
            }
            wiped => wiped.map_err(|failure| shared.unusable(failure)),
        }
    }
}

/// Ends the thread with the last who has it: the store or one of its indexes.
pub(super) struct Running {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Let go of last.
    _lock: Lock,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Relaxed);
        self.shared.bell.ring();
        if let Some(thread) = locked(&self.thread).take() {
            // One that panicked has told so itself.
            drop(thread.join());
        }
    }
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").field("dir", &self.shared.dir).finish_non_exhaustive()
    }
}

/// What tasks and the thread share. Lock order: `database`, `tasks`; `passing`, then the database's writer, then a task's
/// memory.
pub(super) struct Shared {
    budget: usize,
    options: StateOptions,
    dir: PathBuf,
    /// Bytes that wait to be written; bytes that were written and are kept to be read.
    waiting: AtomicUsize,
    kept: AtomicUsize,
    database: Mutex<Arc<Database>>,
    tasks: Mutex<Vec<Weak<Task>>>,
    /// Held by whoever writes what waits.
    passing: Mutex<()>,
    /// Where and why writing failed when it was tried last.
    failing: Mutex<Option<(PathBuf, String)>>,
    bell: Bell,
    room_bell: Bell,
    stopped: AtomicBool,
    /// There may be blocks of tasks that are no more.
    garbage: AtomicBool,
    /// Somebody waits for room.
    wanted: AtomicBool,
}

struct Found {
    id: i64,
    record: Record,
    entries: u64,
    rebuilt: Option<String>,
}

impl Shared {
    /// Finds a task, or begins it anew.
    fn find(&self, database: &Arc<Database>, identity: &StateIdentity, now_ms: i64) -> Result<Found, Failure> {
        self.unused(database, identity)?;
        let open: Vec<i64> = self.tasks().iter().filter(|t| Arc::ptr_eq(&t.database, database)).map(|t| t.id).collect();
        let mut writer = locked(&database.writer);
        let name = record::name(identity);
        let (mut known, mut useless, mut rebuilt) = (None, Vec::new(), None);
        for row in writer.tasks()? {
            if row.name == name {
                match usable(&row, identity, now_ms) {
                    Ok(record) if known.is_none() => known = Some((row.id, record, row.entries)),
                    Ok(_) => return Err(Failure::Damaged("a task is there twice".to_owned())),
                    Err(why) => {
                        rebuilt = Some(why);
                        useless.push(row.id);
                    }
                }
            } else if !open.contains(&row.id) && Record::decode(&row.data, row.id).is_none_or(|r| is_stale(&r, now_ms))
            {
                // Of a partition that did not come back.
                useless.push(row.id);
            }
        }
        let id = match &known {
            Some((id, ..)) => *id,
            None => writer.free_id()?,
        };
        let fresh = Record { identity: identity.clone(), position: None, reached_ms: now_ms };
        if known.is_none() || !useless.is_empty() {
            writer.write(StateStep::Task, |to| {
                useless.iter().try_for_each(|id| to.remove_task(*id))?;
                if known.is_some() {
                    return Ok(());
                }
                to.add_task(id, &name, &fresh.encode(id))?;
                // What is there always: a block for all keys.
                [super::task::entries_of(id), super::task::expiry_of(id)].into_iter().try_for_each(|tree| {
                    let blocks = super::block::Written::default().blocks(tree, &[], None);
                    blocks.iter().try_for_each(|(low, bytes)| to.insert(tree, low, bytes))
                })
            })?;
        }
        drop(writer);
        if !useless.is_empty() {
            self.collect_soon();
        }
        Ok(match known {
            Some((id, record, entries)) => Found { id, record, entries, rebuilt },
            None => {
                let rebuilt = rebuilt.or_else(|| database.rebuilt.clone());
                Found { id, record: fresh, entries: 0, rebuilt }
            }
        })
    }

    fn unused(&self, database: &Arc<Database>, identity: &StateIdentity) -> Result<(), Failure> {
        let name = record::name(identity);
        let is_open = |t: &Arc<Task>| Arc::ptr_eq(&t.database, database) && record::name(&t.identity) == name;
        if self.tasks().iter().any(is_open) {
            return Err(Failure::Failing(format!("{identity:?} is open already; close it first")));
        }
        Ok(())
    }

    fn unusable(&self, failure: Failure) -> Error {
        let (Failure::Damaged(cause) | Failure::Failing(cause)) = failure;
        Error::Unusable { place: self.dir.clone(), cause, cure: "end who has it, mend the disk or make room" }
    }

    /// Those that are open.
    fn tasks(&self) -> Vec<Arc<Task>> {
        let mut tasks = locked(&self.tasks);
        tasks.retain(|task| task.upgrade().is_some_and(|task| !task.is_closed()));
        tasks.iter().filter_map(Weak::upgrade).collect()
    }

    fn collect_soon(&self) {
        self.garbage.store(true, Relaxed);
        self.bell.ring();
    }

    pub(super) fn failing(&self) -> Option<String> {
        locked(&self.failing).as_ref().map(|(place, cause)| format!("{}: {cause}", place.display()))
    }

    /// Takes room of the budget, waiting within the patience; gives how long it waited.
    pub(super) fn take_room(&self, bytes: usize) -> Result<Duration, Error> {
        let from = Instant::now();
        loop {
            let fits = |used: usize| {
                // What is larger than all of it gets in when most else is gone.
                (used + bytes <= self.budget || used < self.budget / 8).then_some(used + bytes)
            };
            if let Ok(before) = self.waiting.fetch_update(Relaxed, Relaxed, fits) {
                if before + bytes > self.budget / 2 {
                    self.bell.ring();
                }
                self.keep_less(self.budget.saturating_sub(before + bytes));
                return Ok(from.elapsed());
            }
            self.wanted.store(true, Relaxed);
            self.bell.ring();
            let waited = from.elapsed();
            if waited >= self.options.patience {
                let slow = || (self.dir.clone(), format!("the disk did not keep up for {} ms", waited.as_millis()));
                let (place, cause) = locked(&self.failing).clone().unwrap_or_else(slow);
                return Err(Error::Full { place, cause });
            }
            // Another may have been woken in this one's place.
            self.room_bell.wait((self.options.patience - waited).min(LOOK_AGAIN));
        }
    }

    /// What was taken and is not needed, or waits no more.
    pub(super) fn give_room(&self, bytes: usize) {
        if bytes > 0 {
            self.waiting.fetch_sub(bytes, Relaxed);
            self.room_bell.ring();
        }
    }

    pub(super) fn keep(&self, bytes: usize) {
        self.kept.fetch_add(bytes, Relaxed);
    }

    pub(super) fn let_go(&self, bytes: usize) {
        self.kept.fetch_sub(bytes, Relaxed);
    }

    /// Lets go of what is kept to be read, until it is at most so much.
    fn keep_less(&self, most: usize) {
        if self.kept.load(Relaxed) <= most {
            return;
        }
        let mut tasks = self.tasks();
        tasks.sort_by_cached_key(|task| std::cmp::Reverse(task.kept_bytes()));
        for task in tasks {
            if self.kept.load(Relaxed) <= most {
                return;
            }
            drop::<Option<Arc<Layer>>>(task.let_go());
        }
    }

    /// The thread that writes.
    fn keep_writing(&self) {
        while !self.stopped.load(Relaxed) {
            let failed = self.write_due().is_err();
            self.keep_less(self.budget / 4);
            let more = !failed && self.collect();
            match failed {
                // Whoever waits for room rings all the time.
                true => self.pause(),
                false => self.bell.wait(if more { Duration::from_millis(5) } else { LOOK }),
            }
        }
    }

    fn pause(&self) {
        let until = Instant::now() + LOOK;
        while Instant::now() < until && !self.stopped.load(Relaxed) {
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// Writes what is due by its age or because the budget asks for it.
    fn write_due(&self) -> Result<(), Error> {
        loop {
            let _passing = locked(&self.passing);
            let crowded = self.wanted.swap(false, Relaxed) || self.waiting.load(Relaxed) > self.budget / 2;
            let mut tasks = self.tasks();
            // One after the other: the more changes there are of a task, the more of them share a block.
            let most = tasks.iter().map(|task| task.waiting_bytes()).max().unwrap_or(0);
            let large = |task: &Task| crowded && task.waiting_bytes() >= most.max(1);
            tasks.retain(|task| large(task) || task.is_due(self.options.age));
            if tasks.is_empty() || self.stopped.load(Relaxed) {
                // What failed may be of a task that is gone.
                if !crowded && self.waiting.load(Relaxed) == 0 {
                    *locked(&self.failing) = None;
                }
                return Ok(());
            }
            self.write_some(&tasks)?;
        }
    }

    /// Writes all that a task has.
    pub(super) fn write_all(&self, task: &Arc<Task>) -> Result<(), Error> {
        let _passing = locked(&self.passing);
        // What could not be written before, what waits, and what came meanwhile.
        for _ in 0..3 {
            if !task.is_waiting() {
                break;
            }
            self.write_some(std::slice::from_ref(task))?;
        }
        Ok(())
    }

    /// Writes what these have. `passing` is held.
    fn write_some(&self, tasks: &[Arc<Task>]) -> Result<(), Error> {
        let mut trouble = Ok(());
        let mut jobs: Vec<Job> = tasks.iter().filter_map(Task::freeze).collect();
        while let Some(first) = jobs.first() {
            let database = Arc::clone(&first.task.database);
            let (some, others) = jobs.into_iter().partition(|job| Arc::ptr_eq(&job.task.database, &database));
            jobs = others;
            if database.undamaged().is_err() {
                // They all answer so, and will be opened again.
                some.iter().for_each(|job: &Job| job.task.give_up());
                continue;
            }
            let written = write_jobs(&database, some, &self.stopped);
            *locked(&self.failing) = match &written {
                Err(Failure::Failing(cause)) => Some((database.file.clone(), cause.clone())),
                _ => None,
            };
            match written {
                Ok(()) => {}
                Err(Failure::Damaged(cause)) => trouble = Err(database.damaged(cause)),
                Err(Failure::Failing(cause)) => {
                    trouble = Err(Error::Full { place: database.file.clone(), cause });
                }
            }
        }
        trouble
    }

    /// Deletes some of what tasks left that are no more. Whether there is more.
    fn collect(&self) -> bool {
        if !self.garbage.load(Relaxed) {
            return false;
        }
        let database = Arc::clone(&locked(&self.database));
        if database.undamaged().is_err() {
            return false;
        }
        let mut writer = locked(&database.writer);
        self.garbage.store(false, Relaxed);
        let collected = writer.checkpoint().and_then(|()| writer.write(StateStep::Collect, |to| to.collect(COLLECTED)));
        drop(writer);
        let more = match collected {
            Ok(more) => more,
            Err(Failure::Damaged(cause)) => {
                database.damaged(cause);
                false
            }
            // Tried again with the next that is wiped, or at the next start.
            Err(Failure::Failing(_)) => false,
        };
        if more {
            self.garbage.store(true, Relaxed);
        }
        more
    }
}

/// What was written down of a task, if it counts.
fn usable(row: &TaskRow, identity: &StateIdentity, now_ms: i64) -> Result<Record, String> {
    let record = Record::decode(&row.data, row.id).ok_or("what was written down of it is damaged")?;
    if record.identity != *identity {
        return Err(format!("it is of {:?}, not of {identity:?}", record.identity));
    }
    if is_stale(&record, now_ms) {
        let days = record.reached_ms.abs_diff(now_ms) / 86_400_000;
        return Err(format!("it was read on {days} days away from now: the topic may have forgotten deletions since"));
    }
    Ok(record)
}

/// Also if it is of the future: then nothing is known of its age.
fn is_stale(record: &Record, now_ms: i64) -> bool {
    record.reached_ms.abs_diff(now_ms) > STALE_AFTER_MS
}
