//! The folder: made for one user, held by one process at a time.

use super::errors::operator;
use crate::broker::BrokerError;
use crate::durable;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

const LOCK_FILE: &str = "keyrail.lock";

/// Holds the folder; the operating system gives it free when the process ends, however it ends.
#[derive(Debug)]
pub(super) struct Held {
    lock: File,
}

impl Drop for Held {
    fn drop(&mut self) {
        // The lock alone counts; what the file says is for people, and is stale after a kill as well.
        drop(self.lock.set_len(0));
    }
}

/// What the folder is taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To run pipelines: the folder is made if it is not there.
    Serve,
    /// For a command, most often for a moment only.
    Command,
}

impl Purpose {
    fn word(self) -> &'static str {
        match self {
            Self::Serve => "serves",
            Self::Command => "command",
        }
    }
}

/// Who holds the folder, as the lock file says.
#[derive(Debug)]
pub(super) struct Holder {
    pid: Option<u32>,
    /// A command holds it, and will be done soon.
    pub(super) soon_done: bool,
}

/// Why the folder is not ours.
#[derive(Debug)]
pub(super) enum NotHeld {
    /// Another process holds it.
    By(Holder),
    Failed(BrokerError),
}

impl NotHeld {
    pub(super) fn told(self, dir: &Path) -> BrokerError {
        match self {
            Self::By(holder) => {
                let who = holder.pid.map_or("another process".to_owned(), |pid| format!("keyrail, process {pid},"));
                operator(format!(
                    "{}: {who} holds this folder, and only one process can: stop it, or choose another folder in \
                     [embedded] dir",
                    dir.display()
                ))
            }
            Self::Failed(error) => error,
        }
    }
}

/// Takes the folder.
pub(super) fn hold(dir: &Path, purpose: Purpose) -> Result<Held, NotHeld> {
    let failed = |what: &str, e: std::io::Error| NotHeld::Failed(operator(format!("{}: {what}: {e}", dir.display())));
    if purpose == Purpose::Serve {
        durable::folder(dir).map_err(|e| failed("the folder can't be made", e))?;
    } else if !dir.join(super::sqlite::DB_FILE).exists() {
        return Err(NotHeld::Failed(operator(format!(
            "{}: no embedded broker has been here: start `keyrail run`, or choose another folder in [embedded] dir",
            dir.display()
        ))));
    }
    let path = dir.join(LOCK_FILE);
    let mut options = OpenOptions::new();
    let open = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    let mut lock = open.map_err(|e| failed("the lock file can't be opened", e))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(NotHeld::By(holder(&mut lock))),
        Err(TryLockError::Error(e)) => return Err(failed("the folder can't be locked (is it on a network disk?)", e)),
    }
    let written = lock.set_len(0).and_then(|()| writeln!(lock, "{} {}", std::process::id(), purpose.word()));
    written.map_err(|e| failed("the lock file can't be written", e))?;
    Ok(Held { lock })
}

/// Who wrote the lock file last.
fn holder(lock: &mut File) -> Holder {
    let mut text = String::new();
    let read = lock.rewind().and_then(|()| lock.take(64).read_to_string(&mut text));
    let mut words = text.split_whitespace();
    let pid = words.next().and_then(|word| word.parse().ok()).filter(|_| read.is_ok());
    // Nothing in it yet: its holder has just taken it, and is about to write.
    Holder { pid, soon_done: words.next() != Some(Purpose::Serve.word()) }
}

/// Removes a file that may not be there.
pub(super) fn remove(path: &Path) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}
