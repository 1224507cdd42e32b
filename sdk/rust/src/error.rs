//! Why the host refused a call.

use std::fmt;

/// Why a call that stages or reads failed.
///
/// `?` turns it into a [`Problem`](crate::Problem): another run can't mend the first four, so they dead-letter the
/// message with the code given here; [`Error::Other`] is retried with the code `host`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// State or timers were used for a message without an order key. Code `no-key`.
    NoKey,
    /// The manifest's `[output]` has no such name. Code `unknown-output`.
    UnknownOutput,
    /// One record, value, name or page of a scan is larger than the host takes. Code `too-large`.
    TooLarge,
    /// The message's sends, and what it changes of its state, together pass the manifest's `[limits]`. Code `over-quota`.
    OverQuota,
    /// Anything else, in the host's words.
    Other(String),
}

impl Error {
    /// The code under which the failure is counted and dead-lettered.
    pub fn code(&self) -> &'static str {
        match self {
            Error::NoKey => "no-key",
            Error::UnknownOutput => "unknown-output",
            Error::TooLarge => "too-large",
            Error::OverQuota => "over-quota",
            Error::Other(_) => "host",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Error::NoKey => "the message has no order key, and state and timers belong to one",
            Error::UnknownOutput => "no such output: name it under [output] in the manifest",
            Error::TooLarge => "larger than the host takes in one piece",
            Error::OverQuota => "over the message's quota: see [limits] in the manifest",
            Error::Other(why) => why,
        })
    }
}

impl std::error::Error for Error {}
