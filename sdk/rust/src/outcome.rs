//! What becomes of a message.

use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use crate::contract;
use crate::error::Error;
use crate::http;
use crate::millis;

/// What a handler returns for one message.
///
/// What it staged (sends, state, timers) takes effect with `Ok` only, together with the commit of the message's offset.
pub type Outcome = Result<Verdict, Problem>;

/// The message is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Handled.
    Done,
    /// As [`Done`](Verdict::Done), counted apart: filtered out on purpose.
    Skip,
}

/// The message is not settled: run it again later, or give it up to the dead-letter topic.
///
/// Made by [`retry`] and [`dead_letter`], by [`OrFail`], or by `?`:
///
/// | `?` on | becomes |
/// |---|---|
/// | this crate's [`Error`] | a dead letter with the [code](Error::code) named there |
/// | ... but [`Error::Other`] | a retry with the code `host` |
/// | an [`http::Error`] | as its [code](http::Error::code) says there: a dead letter or a retry |
/// | any other [`std::error::Error`] | a retry with the code `error`; the detail is the error and its sources |
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    fate: Fate,
    code: Cow<'static, str>,
    detail: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Fate {
    Retry { delay: Option<Duration>, outage: bool },
    DeadLetter,
}

/// Run the message again, when the manifest's retry policy says; once its attempts are spent, `retry.then` decides.
///
/// `code` is short and stable, for it becomes a header, a metric label and a group in lists; what varies goes into
/// `detail`.
pub fn retry(code: impl Into<Cow<'static, str>>, detail: impl fmt::Display) -> Problem {
    Problem { fate: Fate::Retry { delay: None, outage: false }, code: code.into(), detail: detail.to_string() }
}

/// Give the message up to the dead-letter topic now: no other run can succeed. `code` is as in [`retry`].
pub fn dead_letter(code: impl Into<Cow<'static, str>>, detail: impl fmt::Display) -> Problem {
    Problem { fate: Fate::DeadLetter, code: code.into(), detail: detail.to_string() }
}

impl Problem {
    /// Retry after this long instead of the policy's back-off. A dead letter stays as it is.
    #[must_use]
    pub fn after(mut self, wait: Duration) -> Self {
        if let Fate::Retry { delay, .. } = &mut self.fate {
            *delay = Some(wait);
        }
        self
    }

    /// The cause lies outside the message (a service is down): the retry costs no attempt. A dead letter
    /// stays as it is.
    #[must_use]
    pub fn outage(mut self) -> Self {
        if let Fate::Retry { outage, .. } = &mut self.fate {
            *outage = true;
        }
        self
    }

    /// Short and stable: what kind of failure this is.
    pub fn code(&self) -> &str {
        &self.code
    }

    /// What happened, for people.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// Whether the message goes to the dead letters rather than being run again.
    pub fn is_dead_letter(&self) -> bool {
        self.fate == Fate::DeadLetter
    }

    /// Whether the retry was marked with [`outage`](Problem::outage).
    pub fn is_outage(&self) -> bool {
        matches!(self.fate, Fate::Retry { outage: true, .. })
    }

    /// The wait that [`after`](Problem::after) asked for.
    pub fn delay(&self) -> Option<Duration> {
        match self.fate {
            Fate::Retry { delay, .. } => delay,
            Fate::DeadLetter => None,
        }
    }
}

// This conversion is why `Problem` is no `std::error::Error` itself: the two would overlap.
impl<E: std::error::Error + 'static> From<E> for Problem {
    fn from(error: E) -> Self {
        let any: &dyn Any = &error;
        if let Some(unanswered) = any.downcast_ref::<http::Error>() {
            return unanswered.problem();
        }
        match any.downcast_ref::<Error>() {
            Some(refused @ Error::Other(_)) => retry(refused.code(), refused),
            Some(refused) => dead_letter(refused.code(), refused),
            None => retry("error", chain(&error)),
        }
    }
}

/// An error and its sources, outermost first.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

/// Says what an error means for the message, where `?` alone would retry it.
pub trait OrFail<T> {
    /// An error dead-letters the message.
    fn or_dead_letter(self, code: impl Into<Cow<'static, str>>) -> Result<T, Problem>;
    /// An error runs the message again, at the cost of an attempt.
    fn or_retry(self, code: impl Into<Cow<'static, str>>) -> Result<T, Problem>;
    /// An error means that something outside is down: see [`Problem::outage`].
    fn or_outage(self, code: impl Into<Cow<'static, str>>) -> Result<T, Problem>;
}

impl<T, E: fmt::Display> OrFail<T> for Result<T, E> {
    fn or_dead_letter(self, code: impl Into<Cow<'static, str>>) -> Result<T, Problem> {
        self.map_err(|error| dead_letter(code, error))
    }

    fn or_retry(self, code: impl Into<Cow<'static, str>>) -> Result<T, Problem> {
        self.map_err(|error| retry(code, error))
    }

    fn or_outage(self, code: impl Into<Cow<'static, str>>) -> Result<T, Problem> {
        self.map_err(|error| retry(code, error).outage())
    }
}

impl From<Outcome> for contract::Outcome {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Ok(Verdict::Done) => contract::Outcome::Done,
            Ok(Verdict::Skip) => contract::Outcome::Skip,
            Err(Problem { fate, code, detail }) => {
                let failure = contract::Failure { code: code.into_owned(), detail };
                match fate {
                    Fate::DeadLetter => contract::Outcome::DeadLetter(failure),
                    Fate::Retry { delay, outage } => {
                        contract::Outcome::Retry(contract::Retry { failure, delay_ms: delay.map(millis), outage })
                    }
                }
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests;
