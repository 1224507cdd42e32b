//! What can go wrong, named by what the caller does next.

use std::fmt;
use std::path::PathBuf;

/// A failure of the store: place, cause and cure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The task's files can't be read as they were written. Nothing that the index answers counts any more: drop it, open
    /// it again (which finds nothing) and restore the task from its seen topic.
    Damaged {
        /// The file.
        place: PathBuf,
        /// What was found.
        cause: String,
    },
    /// What waits in memory has reached the budget, since it can't be written, or not as fast as it comes. Nothing of the
    /// record was taken: take no further records, and offer the same one again after a while.
    Full {
        /// The folder that can't be written to.
        place: PathBuf,
        /// Why it can't.
        cause: String,
    },
    /// The folder can't be used at all.
    Unusable {
        /// The folder, or a file in it.
        place: PathBuf,
        /// Why it can't.
        cause: String,
        /// What mends it.
        cure: &'static str,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged { place, cause } => write!(
                f,
                "{}: {cause}; the task's seen ids are built anew from its seen topic. If this comes again, look at the disk",
                place.display()
            ),
            Self::Full { place, cause } => write!(
                f,
                "{}: seen ids can't be written: {cause}; no records are taken until they can. Make room on the disk, or mend it",
                place.display()
            ),
            Self::Unusable { place, cause, cure } => write!(f, "{}: {cause}; {cure}", place.display()),
        }
    }
}

impl std::error::Error for Error {}
