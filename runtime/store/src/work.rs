//! What is done to a task's folder in the background: memtables become segments, segments become fewer, what is too old goes.

use crate::folder;
use crate::merge::{Stopped, merge, plan};
use crate::segment::{self, Meta, Segment};
use crate::steps::Step;
use crate::task::{Disk, Task, locked};
use crate::view::View;
use crate::write::Writer;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// For [`Task::told`]: what was tried.
pub(crate) const WRITING: usize = 0;
pub(crate) const MERGING: usize = 1;
pub(crate) const EXPIRING: usize = 2;

/// A change of what the manifest says.
#[derive(Default)]
struct Change {
    add: Option<Segment>,
    /// Numbers of segments that go. If one is gone already, nothing is changed.
    remove: Vec<u64>,
    /// All below is in segments, or too old.
    reached: Option<Reached>,
}

struct Reached {
    position: i64,
    /// The time of the newest id before it, if that is known to be later than before.
    latest_ms: Option<i64>,
}

/// How far a change came.
struct Installed {
    /// It counts. Otherwise nothing was changed, since a segment to remove is gone.
    made: bool,
    /// Whether it is known to be durable and what it made needless is deleted. The next change tries that again.
    cleaned: io::Result<()>,
}

impl Task {
    /// Writes one memtable. `all`: also one that is not full. Whether there was anything to do.
    pub(crate) fn write_one(&self, all: bool) -> io::Result<bool> {
        let flushing = locked(&self.flushing);
        if self.is_over() {
            return Ok(false);
        }
        let Some((memtable, position)) = self.to_write(all) else { return Ok(false) };
        let number = self.next_number();
        let mut writer = Writer::new(&self.steps, &self.folder, number, memtable.bucket_ms, memtable.ids() as u64)?;
        for entry in memtable.sorted() {
            writer.push(&entry)?;
        }
        let reached = Reached { position, latest_ms: Some(memtable.latest_ms()) };
        let change = Change { add: Some(writer.finish()?), reached: Some(reached), ..Change::default() };
        let installed = self.install(change, |view| view.memtables.retain(|m| !Arc::ptr_eq(m, &memtable)))?;
        locked(&self.writing).sealed.pop_front();
        drop(flushing);
        self.shared.use_less(memtable.bytes());
        self.shared.merge_bell.ring();
        installed.cleaned.map(|()| true)
    }

    /// Writes all that was inserted, and its position.
    pub(crate) fn write_all(&self) -> io::Result<()> {
        let done = || {
            while self.write_one(true)? {}
            let _flushing = locked(&self.flushing);
            let position = {
                let writing = locked(&self.writing);
                writing.position.filter(|_| writing.is_empty())
            };
            match position {
                Some(position) if !self.is_over() && locked(&self.disk).manifest.position != Some(position) => {
                    let reached = Some(Reached { position, latest_ms: None });
                    self.install(Change { reached, ..Change::default() }, |_| ())?.cleaned
                }
                _ => Ok(()),
            }
        };
        self.told(WRITING, done())
    }

    /// Lets go of buckets that are too old, in memory and on disk.
    pub(crate) fn expire_now(&self) -> io::Result<()> {
        let oldest_ms = self.oldest_ms.load(Relaxed);
        let view = self.views.get();
        let is_old = view.segments.iter().any(|s| s.meta.latest_ms < oldest_ms)
            || view.memtables.iter().any(|m| m.latest_ms() < oldest_ms);
        if !is_old || self.is_over() {
            return Ok(());
        }
        let _flushing = locked(&self.flushing);
        let gone = locked(&self.writing).expire(oldest_ms);
        self.reshape(|view| {
            view.memtables.retain(|m| !gone.iter().any(|g| Arc::ptr_eq(m, g)));
            view.segments.retain(|s| s.meta.latest_ms >= oldest_ms);
        });
        self.shared.use_less(gone.iter().map(|m| m.bytes()).sum());
        let mut disk = locked(&self.disk);
        let old: Vec<_> = disk.manifest.segments.extract_if(.., |meta| meta.latest_ms < oldest_ms).collect();
        if old.is_empty() || self.is_over() {
            return Ok(());
        }
        let replaced = disk.manifest.replace(&self.steps, &self.folder);
        disk.garbage.extend(garbage(&self.folder, &old));
        if replaced.is_ok() {
            return self.clean(&mut disk);
        }
        // Above all now, since the disk may be full: one that opens the folder looks at no segment that is too old.
        self.remove_garbage(&mut disk)?;
        replaced
    }

    /// Lets go of everything but the position.
    pub(crate) fn forget_all(&self, position: i64) -> io::Result<()> {
        let _flushing = locked(&self.flushing);
        let gone = locked(&self.writing).forget(position);
        self.shared.use_less(gone.iter().map(|m| m.bytes()).sum());
        // IMPORTANT: before look-ups see it, or a merge puts what it made in the place of what is gone.
        let mut disk = locked(&self.disk);
        self.reshape(|view| *view = View::default());
        // Also where the manifest can't be replaced: none that is written later may name them again. The one that stands has
        // its own, earlier position, behind which the order to forget is read again.
        let old = std::mem::take(&mut disk.manifest.segments);
        disk.manifest.position = Some(disk.manifest.position.map_or(position, |p| p.max(position)));
        disk.garbage.extend(garbage(&self.folder, &old));
        disk.manifest.replace(&self.steps, &self.folder)?;
        self.clean(&mut disk)
    }

    /// Merges once, if segments are worth it. Whether they were.
    pub(crate) fn merge_one(&self) -> Result<bool, Stopped> {
        let _merging = locked(&self.merging);
        let Some(inputs) = plan(&self.views.get()).filter(|_| !self.is_over()) else { return Ok(false) };
        self.steps.pass(Step::Merge)?;
        let (number, bucket_ms) = (self.next_number(), inputs.first().map_or(0, |s| s.meta.bucket_ms));
        let ids = inputs.iter().map(|s| s.meta.ids).sum();
        let writer = Writer::new(&self.steps, &self.folder, number, bucket_ms, ids)?;
        let merged = merge(&inputs, &self.steps, writer, || self.is_over())?;
        let path = merged.path.clone();
        let remove = inputs.iter().map(|s| s.meta.number).collect();
        let installed = self.install(Change { add: Some(merged), remove, reached: None }, |_| ())?;
        if !installed.made {
            // They became too old meanwhile.
            folder::remove(&path)?;
        }
        Ok(installed.cleaned.map(|()| true)?)
    }

    /// Closed, or damaged: nothing is written any more.
    pub(crate) fn is_over(&self) -> bool {
        self.closed.load(Relaxed) || self.damage.get().is_some()
    }

    /// Remembers how it went, for metrics.
    pub(crate) fn told<T>(&self, what: usize, done: io::Result<T>) -> io::Result<T> {
        let said = done.as_ref().err().map(|e| format!("{}: {e}", self.folder.display()));
        if let Some(failing) = locked(&self.failing).get_mut(what) {
            *failing = said;
        }
        done
    }

    fn next_number(&self) -> u64 {
        let mut disk = locked(&self.disk);
        let number = disk.manifest.next;
        disk.manifest.next += 1;
        number
    }

    /// Puts a change into the manifest, then lets look-ups see it.
    fn install(&self, change: Change, also: impl FnOnce(&mut View)) -> io::Result<Installed> {
        let mut disk = locked(&self.disk);
        let mut next = disk.manifest.clone();
        let before = next.segments.len();
        next.segments.retain(|meta| !change.remove.contains(&meta.number));
        if before - next.segments.len() != change.remove.len() {
            return Ok(Installed { made: false, cleaned: Ok(()) });
        }
        let added = change.add.map(Arc::new);
        next.segments.extend(added.iter().map(|s| s.meta.clone()));
        if let Some(reached) = change.reached {
            next.position = Some(reached.position);
            next.latest_ms = next.latest_ms.max(reached.latest_ms);
        }
        if let Err(e) = next.replace(&self.steps, &self.folder) {
            // Not in place, so what was added is not named anywhere.
            added.iter().try_for_each(|s| folder::remove(&s.path))?;
            return Err(e);
        }
        disk.manifest = next;
        self.reshape(|view| {
            view.segments.retain(|s| !change.remove.contains(&s.meta.number));
            view.segments.splice(0..0, added);
            also(view);
        });
        disk.garbage.extend(change.remove.iter().map(|number| segment::path(&self.folder, *number)));
        Ok(Installed { made: true, cleaned: self.clean(&mut disk) })
    }

    /// Makes it durable that the manifest has taken its place, and deletes what only the one before it named.
    fn clean(&self, disk: &mut Disk) -> io::Result<()> {
        self.steps.pass(Step::SyncFolder)?;
        File::open(&self.folder)?.sync_all()?;
        self.remove_garbage(disk)
    }

    fn remove_garbage(&self, disk: &mut Disk) -> io::Result<()> {
        while let Some(path) = disk.garbage.last() {
            self.steps.pass(Step::Remove)?;
            folder::remove(path)?;
            disk.garbage.pop();
        }
        Ok(())
    }
}

/// Files that were left for later when the folder was opened.
pub(crate) fn garbage(folder: &Path, metas: &[Meta]) -> Vec<PathBuf> {
    metas.iter().map(|meta| meta.path(folder)).collect()
}
