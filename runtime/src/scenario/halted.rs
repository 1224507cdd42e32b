//! Why a scenario can't go on.

use crate::wasm::OpenError;
use std::time::Duration;

/// So much may come of a scenario.
pub(super) const MOST_EVENTS: usize = 250_000;

/// Why a scenario can't go on.
#[derive(Debug)]
pub enum Halted {
    /// The handler does not open.
    Closed(OpenError),
    /// It took longer than it may.
    TooLong(Duration),
    /// More came of it than anybody will read: a timer sets itself for ever, most likely.
    TooMuch,
}

impl std::fmt::Display for Halted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Closed(error) => error.fmt(f),
            Self::TooLong(limit) => write!(f, "it is not through after {} s", limit.as_secs()),
            Self::TooMuch => write!(
                f,
                "more than {MOST_EVENTS} runs and sends came of it: does a timer set itself again and again, or the clock \
                 advance too far for one that does, or is something retried without a wait?"
            ),
        }
    }
}

impl std::error::Error for Halted {}

impl From<OpenError> for Halted {
    fn from(error: OpenError) -> Self {
        Self::Closed(error)
    }
}
