//! Hints that a folder changed, from the file system's events. They may be missing (network folders, limits of the
//! system), come late or tell of nothing: whoever gets one looks, and looks from time to time without one.

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use std::path::{Path, PathBuf};

/// Calls back on the watcher's own thread when something in the folder may have changed, until it is dropped.
pub(super) struct Watch {
    dir: PathBuf,
    watcher: Option<RecommendedWatcher>,
}

impl Watch {
    /// Watches the folder, not its files: a file that is replaced takes its watch along. Where that can't be had it warns,
    /// and the looks from time to time are all there is.
    pub(super) fn new(dir: &Path, hint: impl Fn() + Send + 'static) -> Self {
        // What happened does not matter, nor whether the event is an error: a look tells.
        let watcher = notify::recommended_watcher(move |_| hint());
        let mut watch = Self { dir: dir.to_owned(), watcher: None };
        match watcher {
            Ok(watcher) => watch.watcher = Some(watcher),
            Err(error) => watch.warn(&error),
        }
        watch.renew();
        watch
    }

    /// Watches the folder that the path names now: it may have been replaced as a whole.
    pub(super) fn renew(&mut self) {
        let Some(watcher) = &mut self.watcher else { return };
        // Nothing is watched there any more when the old folder is gone; then there is nothing to undo.
        drop(watcher.unwatch(&self.dir));
        if let Err(error) = watcher.watch(&self.dir, RecursiveMode::NonRecursive) {
            self.warn(&error);
            self.watcher = None;
        }
    }

    fn warn(&self, error: &notify::Error) {
        let dir = self.dir.display();
        tracing::warn!("{dir} is only looked at every plugins.poll, since the system gives no events: {error}");
    }
}
