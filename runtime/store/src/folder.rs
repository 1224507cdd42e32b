//! A task's folder: who may use it, and what lies in it.

use crate::error::Error;
use crate::manifest;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

const LOCK: &str = "lock";

/// A folder is this process's, until it is dropped.
pub(crate) struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // By name, since a process that is being forked has the file too for a moment. If it fails, closing does it.
        drop(self.0.unlock());
    }
}

/// Makes the folder if need be and locks it.
pub(crate) fn lock(folder: &Path) -> Result<Lock, Error> {
    let said = |e: io::Error| unusable(folder, &e);
    std::fs::create_dir_all(folder).map_err(said)?;
    let place = folder.join(LOCK);
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(&place).map_err(said)?;
    match file.try_lock() {
        Ok(()) => Ok(Lock(file)),
        Err(TryLockError::WouldBlock) => Err(Error::Unusable {
            place,
            cause: "the folder is in use".to_owned(),
            cure: "end the process that has it, or give each a folder of its own",
        }),
        Err(TryLockError::Error(e)) => Err(said(e)),
    }
}

/// For a folder that goes, by whoever has locked it. Who waits to open it locks a file that is gone, and makes it anew the
/// next time.
pub(crate) fn remove_lock(folder: &Path) -> io::Result<()> {
    remove(&folder.join(LOCK))
}

/// What stops a folder from being used.
pub(crate) fn unusable(folder: &Path, e: &io::Error) -> Error {
    let cure = match e.kind() {
        io::ErrorKind::PermissionDenied => "let the user that runs this read and write it",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "make room on the disk",
        io::ErrorKind::ReadOnlyFilesystem => "mount it for writing, or name another folder",
        _ => "mend the disk, or name another folder",
    };
    Error::Unusable { place: folder.to_owned(), cause: e.to_string(), cure }
}

/// Deletes the manifest first, so that nothing counts any more, and then every file of ours. Other files stay.
pub(crate) fn wipe(folder: &Path) -> io::Result<()> {
    forget(folder)?;
    sweep(folder, &[])
}

/// Deletes the manifest: the next one to open the folder finds nothing.
pub(crate) fn forget(folder: &Path) -> io::Result<()> {
    remove(&folder.join(manifest::NAME))?;
    File::open(folder)?.sync_all()
}

/// Deletes files of ours that are not among `keep`: what a process left behind when it ended.
pub(crate) fn sweep(folder: &Path, keep: &[PathBuf]) -> io::Result<()> {
    for found in std::fs::read_dir(folder)? {
        let path = found?.path();
        if is_ours(&path) && !keep.contains(&path) {
            remove(&path)?;
        }
    }
    Ok(())
}

fn is_ours(path: &Path) -> bool {
    let Some(name) = path.file_name().and_then(|n| n.to_str()) else { return false };
    let number = name.strip_suffix(".seen").is_some_and(|n| n.len() >= 12 && n.bytes().all(|b| b.is_ascii_digit()));
    number || name == manifest::NEW
}

/// Deletes a file that may be gone already.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}
