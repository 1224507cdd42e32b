//! Files that are there whole or not at all, also after a crash.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a temporary file's name ends with; one that a crash has left may go.
pub(crate) const TEMPORARY: &str = "tmp";

/// Puts a file of this user alone there, in place of one that was there before. Whoever reads finds the old content or the new.
/// The folder is the caller's to sync, once for several files.
///
/// # Errors
/// It could not be written; what was there before is there still.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let temporary = path.with_file_name(format!("{}-{count}.{TEMPORARY}", std::process::id()));
    let written = create(&temporary).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    });
    if written.is_err() {
        // The first error is the one to tell.
        drop(fs::remove_file(&temporary));
    }
    written
}

/// Makes what was put into a folder, or taken out of it, outlast a crash.
///
/// # Errors
/// It may not.
pub(crate) fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// A folder that only this user can read, with those above it.
///
/// # Errors
/// It can't be made.
pub(crate) fn folder(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// An empty file that only this user can read.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}
