//! What can go wrong, named by what the caller does next.

use std::fmt;
use std::path::PathBuf;

/// A failure of the store: place, cause and cure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The task's files can't be read as they were written. Nothing that the index answers counts any more: drop it, open
    /// it again (which finds nothing) and restore the task from its topic.
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
    /// A key or a value is larger than any index takes. Nothing was taken, and offering it again does not help.
    TooLarge {
        /// Which of the two.
        what: &'static str,
        /// How large it is.
        bytes: usize,
        /// How large it may be.
        limit: usize,
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
                "{}: {cause}; what is kept here is built anew from its topic. If this comes again, look at the disk",
                place.display()
            ),
            Self::Full { place, cause } => write!(
                f,
                "{}: nothing can be written: {cause}; no records are taken until it can. Make room on the disk, or mend it",
                place.display()
            ),
            Self::TooLarge { what, bytes, limit } => {
                write!(
                    f,
                    "state: a {what} of {bytes} bytes, more than {limit}; let the handler store less in one {what}"
                )
            }
            Self::Unusable { place, cause, cure } => write!(f, "{}: {cause}; {cure}", place.display()),
        }
    }
}

impl std::error::Error for Error {}
