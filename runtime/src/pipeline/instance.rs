//! The name of this process among those that run the same pipelines: a part of the transactional id, under which an earlier
//! run's open transactions are found again and ended.
//!
//! In `[store] dir` lies `instances`, and in it a file for each name: `0`, `1`, ... A process holds the first that nobody
//! holds, for as long as it lives, so several may share the folder, and each finds its name again after a restart.

use super::clock::wall_ms;
use super::{Trouble, seed};
use crate::durable;
use keyrail_store::{StateOptions, StateStore, Store};
use std::ffi::CString;
use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Below `[store] dir`.
const FOLDER: &str = "instances";
/// The same: a folder for each name.
const STATE: &str = "state";
/// And for seen ids.
const SEEN: &str = "seen";
/// And a file for each name: what its lanes are hashed with.
const LANES: &str = "lanes";
/// Below that a folder for the group, the topic and the partition.
const FOLDERS: usize = 3;
/// Held only while a name is looked for, so that two processes never make the same file.
const GUARD: &str = "lock";
const TEMPORARY: &str = "new";
/// Hexadecimal digits of a name.
const DIGITS: usize = 16;
/// Processes that may share a folder.
const MOST: u32 = 1024;
/// Others look for their names meanwhile, which takes a sync of the disk each.
const GUARD_WAIT: Duration = Duration::from_secs(10);
const GUARD_PAUSE: Duration = Duration::from_millis(10);

/// A name that no other process of this folder has. It is given back when this is dropped, and when the process ends,
/// however it ends.
#[derive(Debug)]
pub struct Instance {
    id: String,
    /// Holds the lock.
    _file: File,
}

impl Instance {
    /// Takes a name from the folder of `[store] dir`, and makes what is not there.
    ///
    /// # Errors
    /// The folder can't be written or locked.
    pub fn take(store_dir: &Path) -> Result<Self, NoInstance> {
        let dir = store_dir.join(FOLDER);
        let at = |path: &Path, e: &io::Error| NoInstance::of(path, e);
        durable::folder(&dir).map_err(|e| at(&dir, &e))?;
        let _guard = guard(&dir)?;
        for number in 0..MOST {
            let path = dir.join(number.to_string());
            let found = match OpenOptions::new().read(true).write(true).open(&path) {
                Ok(file) => Some(file),
                Err(e) if e.kind() == ErrorKind::NotFound => None,
                Err(e) => return Err(at(&path, &e)),
            };
            let Some(file) = found else { return make(&dir, &path).map_err(|e| at(&path, &e)) };
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => continue,
                Err(TryLockError::Error(e)) => return Err(at(&path, &e)),
            }
            return match read(&file) {
                Ok(Some(id)) => Ok(Self { id, _file: file }),
                Ok(None) => {
                    let path_shown = path.display();
                    tracing::warn!("{path_shown} is damaged: this process takes a new name in its place");
                    make(&dir, &path).map_err(|e| at(&path, &e))
                }
                Err(e) => Err(at(&path, &e)),
            };
        }
        Err(NoInstance {
            passes: false,
            message: format!(
                "{}: {MOST} processes have a name in this folder already: give this one another store.dir",
                dir.display()
            ),
        })
    }

    /// Whether a name could be taken there, as far as rights tell. Changes nothing.
    ///
    /// # Errors
    /// It could not.
    pub fn check(store_dir: &Path) -> Result<(), NoInstance> {
        let dir = store_dir.join(FOLDER);
        // Below the first that is there, all would be made.
        for path in dir.ancestors() {
            let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
            match fs::metadata(path) {
                Ok(found) if found.is_dir() => return may_write(path).map_err(|e| NoInstance::of(path, &e)),
                Ok(_) => return Err(NoInstance::of(path, &ErrorKind::NotADirectory.into())),
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                Err(e) => return Err(NoInstance::of(path, &e)),
            }
        }
        Ok(())
    }

    /// The name: 16 hexadecimal digits, drawn once.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Under which a pipeline writes its transactions: GROUP-INSTANCE, and GROUP/PIPELINE-INSTANCE where the group has a name
    /// of its own, since pipelines of one process may share a group. Neither can be the other's: names hold no `/`.
    #[must_use]
    pub fn transactional_id(&self, group: &str, pipeline: &str) -> String {
        if group == pipeline { format!("{group}-{}", self.id) } else { format!("{group}/{pipeline}-{}", self.id) }
    }
}

#[allow(unsafe_code, reason = "the standard library tells the mode, not who may write")]
fn may_write(dir: &Path) -> io::Result<()> {
    let name = CString::new(dir.as_os_str().as_bytes())?;
    let mode = libc::W_OK | libc::X_OK;
    // SAFETY: a live string that ends with a NUL; nothing else is given, and nothing kept.
    let answer = unsafe { libc::faccessat(libc::AT_FDCWD, name.as_ptr(), mode, libc::AT_EACCESS) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Nobody else looks for a name while this lives.
fn guard(dir: &Path) -> Result<File, NoInstance> {
    let path = dir.join(GUARD);
    let mut options = OpenOptions::new();
    let open = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = open.map_err(|e| NoInstance::of(&path, &e))?;
    let until = Instant::now() + GUARD_WAIT;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(e)) => return Err(NoInstance::of(&path, &e)),
            Err(TryLockError::WouldBlock) if Instant::now() < until => std::thread::sleep(GUARD_PAUSE),
            Err(TryLockError::WouldBlock) => {
                let message = format!(
                    "{}: another process has held it for {} s: is one stopped, or the disk stuck?",
                    path.display(),
                    GUARD_WAIT.as_secs()
                );
                return Err(NoInstance { passes: true, message });
            }
        }
    }
}

/// Puts a new name there, whole or not at all, also after a crash. The guard is held, and the file's own lock if there was
/// one.
fn make(dir: &Path, path: &Path) -> io::Result<Instance> {
    let id = format!("{:016x}", seed());
    let temporary = dir.join(TEMPORARY);
    let mut options = OpenOptions::new();
    let mut file = options.read(true).write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.try_lock().map_err(|e| match e {
        TryLockError::Error(e) => e,
        TryLockError::WouldBlock => ErrorKind::WouldBlock.into(),
    })?;
    writeln!(file, "{id}")?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    durable::sync(dir)?;
    Ok(Instance { id, _file: file })
}

/// The name in a file; `None` where there is something else.
fn read(file: &File) -> io::Result<Option<String>> {
    let mut bytes = Vec::new();
    file.take(DIGITS as u64 + 2).read_to_end(&mut bytes)?;
    let digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let id = bytes.strip_suffix(b"\n").filter(|id| id.len() == DIGITS && id.iter().all(digit));
    Ok(id.map(|id| String::from_utf8_lossy(id).into_owned()))
}

/// Why a process has no name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoInstance {
    /// Whether it may pass by itself.
    pub passes: bool,
    /// What happened, where, and the cure.
    pub message: String,
}

impl NoInstance {
    fn of(path: &Path, error: &io::Error) -> Self {
        let (passes, cure) = match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => (true, "make room; it goes on by itself then"),
            ErrorKind::Unsupported => {
                (false, "it can't be locked there: set store.dir to a folder on a disk of this machine")
            }
            _ => (
                false,
                "set store.dir to a folder that this user can write, which a pipeline with guarantee = \"exactly-once\" needs",
            ),
        };
        Self { passes, message: format!("{}: no name for this process: {error}: {cure}", path.display()) }
    }
}

impl fmt::Display for NoInstance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for NoInstance {}

impl From<NoInstance> for Trouble {
    fn from(none: NoInstance) -> Self {
        if none.passes { Self::Again(none.message) } else { Self::Operator(none.message) }
    }
}

/// Takes the process's name when it is first asked for, so that what needs none also runs on a disk that is read only.
/// Clones share it.
#[derive(Debug, Clone)]
pub struct Naming(Arc<Place>);

/// Where the seen ids of partitions lie, and what writes them.
#[derive(Debug, Clone)]
pub struct SeenIds {
    /// The process's.
    pub store: Arc<Store>,
    /// Of this process alone, also where several share `[store] dir`.
    pub dir: PathBuf,
}

#[derive(Debug)]
struct Place {
    store_dir: PathBuf,
    taken: Mutex<Option<Arc<Instance>>>,
    store: Mutex<Option<Arc<Store>>>,
    state: Mutex<Option<StateStore>>,
    lanes: Mutex<Option<u64>>,
}

impl Naming {
    /// Takes it from the folder of `[store] dir`, which need not be there.
    #[must_use]
    pub fn new(store_dir: &Path) -> Self {
        let store_dir = store_dir.to_owned();
        let (taken, store, state, lanes) = Default::default();
        Self(Arc::new(Place { store_dir, taken, store, state, lanes }))
    }

    /// The name, the same each time.
    ///
    /// # Errors
    /// See [`Instance::take`]; asked again, it is tried again.
    pub fn instance(&self) -> Result<Arc<Instance>, NoInstance> {
        // A thread that panicked while it held this lock left either nothing or a whole name.
        let mut taken = self.0.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(instance) = &*taken {
            return Ok(instance.clone());
        }
        let instance = Arc::new(Instance::take(&self.0.store_dir)?);
        tracing::info!(instance = instance.id(), "this process has its name for transactions");
        Ok(taken.insert(instance).clone())
    }

    /// What lanes are hashed with, drawn once: what lies in [`Naming::state`] of parked messages stands by their lanes.
    ///
    /// # Errors
    /// As [`Naming::instance`].
    pub fn lanes(&self) -> Result<u64, NoInstance> {
        let instance = self.instance()?;
        // As above.
        let mut drawn = self.0.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(seed) = *drawn {
            return Ok(seed);
        }
        let dir = self.0.store_dir.join(LANES);
        let at = |path: &Path, e: &io::Error| NoInstance::of(path, e);
        durable::folder(&dir).map_err(|e| at(&dir, &e))?;
        let _guard = guard(&dir)?;
        let path = dir.join(instance.id());
        let found = match File::open(&path) {
            Ok(file) => read(&file).map_err(|e| at(&path, &e))?,
            Err(e) if e.kind() == ErrorKind::NotFound => None,
            Err(e) => return Err(at(&path, &e)),
        };
        // A damaged one is drawn anew: what is hashed with another is read from its topic.
        let id = match found {
            Some(id) => id,
            None => make(&dir, &path).map_err(|e| at(&path, &e))?.id,
        };
        Ok(*drawn.insert(u64::from_str_radix(&id, 16).unwrap_or_default()))
    }

    /// Where state lies. What writes it starts when this is asked first.
    ///
    /// # Errors
    /// As [`Naming::instance`], or its files can't be opened.
    pub fn state(&self) -> Result<StateStore, NoInstance> {
        let dir = self.0.store_dir.join(STATE).join(self.instance()?.id());
        // As above.
        let mut started = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(store) = &*started {
            return Ok(store.clone());
        }
        let none = |error| NoInstance { passes: true, message: format!("no room for state: {error}") };
        Ok(started.insert(StateStore::start(StateOptions::default(), &dir).map_err(none)?).clone())
    }

    /// Where seen ids lie. What writes them starts when this is asked first.
    ///
    /// # Errors
    /// As [`Naming::instance`], or there are no threads.
    pub fn seen_ids(&self) -> Result<SeenIds, NoInstance> {
        let dir = self.0.store_dir.join(SEEN).join(self.instance()?.id());
        // As above.
        let mut started = self.0.store.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(store) = &*started {
            return Ok(SeenIds { store: store.clone(), dir });
        }
        let store = Store::start(keyrail_store::Options::default());
        let none = |e: io::Error| NoInstance { passes: true, message: format!("no thread for seen ids: {e}") };
        let store = started.insert(Arc::new(store.map_err(none)?)).clone();
        // Of groups, topics and partitions that never came back.
        match store.sweep(&dir, FOLDERS, wall_ms()) {
            Ok(0) => {}
            Ok(gone) => tracing::info!(gone, "seen ids whose window is over are deleted from the disk of this machine"),
            Err(error) => tracing::warn!(dir = %dir.display(), %error, "old seen ids can't be deleted"),
        }
        Ok(SeenIds { store, dir })
    }
}

#[cfg(test)]
mod tests;
