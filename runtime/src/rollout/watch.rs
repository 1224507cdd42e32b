//! Hints that a folder changed, from the file system's events. They may be missing (network folders, limits of the
//! system), come late or tell of nothing: whoever gets one looks, and looks from time to time without one.

use super::folder::matters;
use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::SeqCst};

/// Bits of what was seen since it was last asked: a file took its place whole, and one was written in its place.
const RENAMED: u8 = 1;
const WRITTEN: u8 = 2;

/// Calls back on the watcher's own thread when something in the folder may have changed, until it is dropped.
pub(super) struct Watch {
    dir: PathBuf,
    seen: Arc<AtomicU8>,
    watcher: Option<RecommendedWatcher>,
    /// The folder is watched now; it may be away for a moment.
    watching: bool,
    warned: bool,
}

impl Watch {
    /// Watches the folder, not its files: a file that is replaced takes its watch along. Where that can't be had it warns,
    /// and the looks from time to time are all there is.
    pub(super) fn new(dir: &Path, hint: impl Fn() + Send + 'static) -> Self {
        // What changed does not matter, nor what an error says: a look tells.
        let seen = Arc::<AtomicU8>::default();
        let note = seen.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            if event.as_ref().map_or(true, changes) {
                note.fetch_or(event.as_ref().map_or(WRITTEN, sign), SeqCst);
                hint();
            }
        });
        let mut watch = Self { dir: dir.to_owned(), seen, watcher: None, watching: false, warned: false };
        match watcher {
            Ok(watcher) => watch.watcher = Some(watcher),
            Err(error) => watch.warn(&error),
        }
        watch.renew();
        watch
    }

    /// Watches the folder that the path names now, where that may be another than before. `moved`: it is.
    pub(super) fn keep(&mut self, moved: bool) {
        if moved || !self.watching {
            self.renew();
        }
    }

    /// Whether all that is known to have changed since this was last asked took its place by a rename: then it is whole. Of what
    /// the system says nothing of, as on network folders, nothing is known.
    pub(super) fn all_renamed(&self) -> bool {
        self.seen.swap(0, SeqCst) == RENAMED
    }

    /// Whether the system tells of changes now.
    pub(super) const fn watches(&self) -> bool {
        self.watching
    }

    fn renew(&mut self) {
        let Some(watcher) = &mut self.watcher else { return };
        // Nothing is watched there any more when the old folder is gone; then there is nothing to undo.
        drop(watcher.unwatch(&self.dir));
        let result = watcher.watch(&self.dir, RecursiveMode::NonRecursive);
        self.watching = result.is_ok();
        match result {
            Ok(()) => self.warned = false,
            Err(error) => self.warn(&error),
        }
    }

    fn warn(&mut self, error: &notify::Error) {
        if std::mem::replace(&mut self.warned, true) {
            return;
        }
        let dir = self.dir.display();
        tracing::warn!("{dir} is only looked at every plugins.poll for now, since the system gives no events: {error}");
    }
}

/// Whether something may be other than before. IMPORTANT: a look at the folder opens it, and being told of that would be
/// the reason for the next look.
fn changes(event: &Event) -> bool {
    match event.kind {
        EventKind::Access(kind) => kind == AccessKind::Close(AccessMode::Write),
        _ => true,
    }
}

/// What it says of files that matter. A temporary file beside them, which is renamed later, does not.
fn sign(event: &Event) -> u8 {
    match event.kind {
        EventKind::Modify(ModifyKind::Name(_)) => RENAMED,
        EventKind::Remove(_) => 0,
        _ => {
            let names = event.paths.iter().filter_map(|path| path.file_name());
            if names.into_iter().any(|name| matters(&name.to_string_lossy())) { WRITTEN } else { 0 }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test's failure is a panic")]
    use super::*;
    use std::fs;
    use std::sync::atomic::AtomicU32;
    use std::time::{Duration, Instant};

    #[test]
    fn changes_are_told_and_looks_are_not_also_after_the_folder_was_away() {
        let dir = std::env::temp_dir().join(format!("keyrail-watch-{}", std::process::id()));
        if dir.exists() {
            fs::remove_dir_all(&dir).unwrap();
        }
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("p.toml"), "a").unwrap();
        let told: Arc<AtomicU32> = Arc::default();
        let count = told.clone();
        let mut watch = Watch::new(&dir, move || drop(count.fetch_add(1, SeqCst).to_string()));
        if watch.watcher.is_none() {
            // The system is out of watches; then the looks from time to time are all there is.
            return fs::remove_dir_all(&dir).unwrap();
        }
        for _ in 0..5 {
            assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
            assert_eq!(fs::read(dir.join("p.toml")).unwrap(), b"a");
        }
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(told.load(SeqCst), 0, "a look is no change");
        let hear = |what: &str| {
            let before = told.load(SeqCst);
            let until = Instant::now() + Duration::from_secs(20);
            fs::write(dir.join("p.toml"), what).unwrap();
            while told.load(SeqCst) == before {
                assert!(Instant::now() < until, "{what}: not told");
                std::thread::sleep(Duration::from_millis(5));
            }
        };
        assert!(!watch.all_renamed(), "nothing has changed");
        hear("b");
        // All of its events.
        std::thread::sleep(Duration::from_millis(200));
        assert!(!watch.all_renamed(), "it was written in its place");
        // As tools replace files: what is written is another one. Events of before may come late.
        let replaced = (0..20).any(|number| {
            fs::write(dir.join("p.part"), number.to_string()).unwrap();
            let before = told.load(SeqCst);
            fs::rename(dir.join("p.part"), dir.join("p.toml")).unwrap();
            let until = Instant::now() + Duration::from_secs(20);
            while told.load(SeqCst) == before {
                assert!(Instant::now() < until, "the rename is not told");
                std::thread::sleep(Duration::from_millis(5));
            }
            std::thread::sleep(Duration::from_millis(100));
            watch.all_renamed()
        });
        assert!(replaced, "it took its place whole");
        assert!(!watch.all_renamed(), "once");
        fs::remove_dir_all(&dir).unwrap();
        watch.keep(true);
        assert!(!watch.watching);
        fs::create_dir_all(&dir).unwrap();
        watch.keep(false);
        assert!(watch.watching);
        hear("c");
        fs::remove_dir_all(&dir).unwrap();
    }
}
