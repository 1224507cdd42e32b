//! Running a message again as it ran when it failed, by what its dead letter keeps of that run (`dead-letter.record = true`).
//!
//! A run follows from the handler, from what it is opened with, from the message, and from what it asks the host: state, time
//! and chance. Key, value and headers stand in the dead letter, chance follows from the message's place and its attempt, and the
//! rest is the *record*, a header of the letter ([`format`]). [`run`] plays it: with the instance's own code and nothing behind
//! it, so nothing is sent and nothing is changed. What the handler had in its own memory is not part of it: it opens anew.

mod format;
#[cfg(any(test, feature = "fuzz"))]
mod fuzz;
mod remembered;
mod run;
#[cfg(test)]
mod tests;

pub use format::{HEADER, Lost, Recorded, Unreadable, VERSION, seal};
#[cfg(any(test, feature = "fuzz"))]
pub(crate) use fuzz::{record, record_seeds};
pub use remembered::Remembered;
pub use run::{Case, Change, Played, Sent, run};
pub(crate) use run::{change, postponed, sent};

use crate::wasm::{CallFailure, Failure, Limits, Outcome, Setup};
use sha2::{Digest as _, Sha256};

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// In one word.
    pub kind: Kind,
    /// What the handler, or the host, said of a failure; empty otherwise.
    pub failure: Failure,
    /// The wait that the handler asked for.
    pub delay_ms: Option<u64>,
}

/// A run's end in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Handled.
    Done,
    /// Filtered out.
    Skip,
    /// To be tried again.
    Retry,
    /// The same, since a service is down.
    Outage,
    /// Not to be tried again.
    DeadLetter,
    /// It sends more than the limits allow.
    Oversized,
    /// The call failed: the code says how (`trap`, `timeout`, `memory`, `wrong-count`, `host-calls`).
    Failed,
}

impl Kind {
    /// All of them; the index is what stands in a record.
    pub const ALL: [Self; 7] =
        [Self::Done, Self::Skip, Self::Retry, Self::Outage, Self::DeadLetter, Self::Oversized, Self::Failed];

    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Skip => "skip",
            Self::Retry => "retry",
            Self::Outage => "outage",
            Self::DeadLetter => "dead-letter",
            Self::Oversized => "oversized",
            Self::Failed => "failed",
        }
    }

    /// Whether what the handler staged would have stood.
    #[must_use]
    pub const fn stands(self) -> bool {
        matches!(self, Self::Done | Self::Skip)
    }
}

impl Verdict {
    /// Of a message's outcome.
    #[must_use]
    pub fn of(outcome: &Outcome) -> Self {
        let none = || Failure { code: String::new(), detail: String::new() };
        let (kind, failure, delay_ms) = match outcome {
            Outcome::Done => (Kind::Done, none(), None),
            Outcome::Skip => (Kind::Skip, none(), None),
            Outcome::Retry { failure, delay_ms, outage: false } => (Kind::Retry, failure.clone(), *delay_ms),
            Outcome::Retry { failure, delay_ms, outage: true } => (Kind::Outage, failure.clone(), *delay_ms),
            Outcome::DeadLetter(failure) => (Kind::DeadLetter, failure.clone(), None),
            Outcome::Oversized(failure) => (Kind::Oversized, failure.clone(), None),
        };
        Self { kind, failure, delay_ms }
    }

    /// Of a call that gave no outcome.
    fn none() -> Self {
        let failure = Failure { code: "wrong-count".to_owned(), detail: String::new() };
        Self { kind: Kind::Failed, failure, delay_ms: None }
    }

    /// Of a message whose call failed.
    #[must_use]
    pub fn of_failure(failure: &CallFailure) -> Self {
        let failure = Failure { code: failure.code().to_owned(), detail: failure.words() };
        Self { kind: Kind::Failed, failure, delay_ms: None }
    }
}

/// Stands for all that an instance is opened with and may use, in a record. Values of `[config]` can't be told from it.
#[must_use]
pub fn digest(setup: &Setup, limits: &Limits) -> u64 {
    let Setup { handler, topics, group, outputs, config, max_batch, order, timers, longest_delay_ms, record: _ } =
        setup;
    let opened = format!("{:?}", (handler, topics, group, outputs, config, max_batch, order, timers, longest_delay_ms));
    let digest = Sha256::new().chain_update(opened).chain_update(format!("{limits:?}")).finalize();
    digest.first_chunk().map_or(0, |first| u64::from_le_bytes(*first))
}
