//! The steps of writing and reading at which tests let a process die, or let the disk fail.

use std::io;
use std::sync::Arc;

/// A step that is about to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// A segment's file is made.
    Create,
    /// Blocks of a segment are written.
    Write,
    /// A segment is whole and is synced.
    SyncSegment,
    /// A new manifest is written beside the old one.
    WriteManifest,
    /// It is synced.
    SyncManifest,
    /// It takes the old one's place.
    Rename,
    /// That is made durable.
    SyncFolder,
    /// A file that nothing needs any more is deleted.
    Remove,
    /// A merge begins.
    Merge,
    /// A block is read for a merge.
    ReadMerge,
    /// A block is read for a look-up.
    ReadBlock,
}

impl Step {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Create,
        Self::Write,
        Self::SyncSegment,
        Self::WriteManifest,
        Self::SyncManifest,
        Self::Rename,
        Self::SyncFolder,
        Self::Remove,
        Self::Merge,
        Self::ReadMerge,
        Self::ReadBlock,
    ];
}

/// Is told of each step before it is taken; what it returns as an error is taken for the step's own.
pub type Watcher = Arc<dyn Fn(Step) -> io::Result<()> + Send + Sync>;

#[derive(Clone, Default)]
pub(crate) struct Steps(pub(crate) Option<Watcher>);

impl Steps {
    #[inline]
    pub(crate) fn pass(&self, step: Step) -> io::Result<()> {
        self.0.as_ref().map_or(Ok(()), |watcher| watcher(step))
    }
}
