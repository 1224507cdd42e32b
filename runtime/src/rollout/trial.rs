//! What a trial of a new version has shown, and what follows from it.
//!
//! The engine runs what failed on the version on trial on the one that serves, at once. So each failure comes with its counterpart:
//! *overruled*, where the other version did the same message, which speaks against the one on trial; or *upheld*, where the other
//! failed as well, which speaks against the message, or against a service that is down, and not against the version.

use keyrail_engine::shard::{Evidence, Overruled};
use std::fmt;
use std::time::Duration;

/// Fewer failures than these are no reason to roll a version back: a process may be short of memory for a moment.
const LEAST_FAILURES: u64 = 3;
/// As many calls that fail for no message's sake: of those that did a moment ago nobody knows yet which message is to blame.
const LEAST_UNEXPLAINED: u64 = 10;
/// Costs are compared once each version has run so many messages, and the one on trial in so many calls: any one of them may have
/// stood still for reasons of the machine's.
const LEAST_COMPARED: u64 = 100;
const LEAST_CALLS: u64 = 10;
/// Added to what a message may cost: calls of a small part of the keys hold fewer messages, which share what a call costs.
const SPARED_MICROS: f64 = 1_000.0;

/// `[rollout]`: how a new version is tried.
#[derive(Debug, Clone, PartialEq)]
pub struct Terms {
    /// The part of the keys that it is tried on.
    pub share: f64,
    /// For how long.
    pub lasts: Duration,
    /// It is not promoted before it has done so many messages.
    pub least_messages: u64,
    /// So great a part of its messages may fail on it alone.
    pub failures: f64,
    /// A message may cost so many times what it costs on the version that serves.
    pub slower: f64,
}

/// All that a trial has shown so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Account {
    /// Messages of its calls that answered, and their microseconds.
    messages: u64,
    micros: u64,
    /// The same of the version that serves.
    serving_messages: u64,
    serving_micros: u64,
    /// Calls of it that were compared, their messages, and those of calls that cost too much.
    compared_calls: u64,
    compared: u64,
    slow: u64,
    failed_calls: u64,
    overruled: u64,
    upheld: u64,
    example: Option<Example>,
}

/// The last message that failed on the version on trial alone.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Example {
    /// TOPIC/PARTITION@OFFSET, and its key.
    message: String,
    /// What the version answered.
    answer: String,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    GoesOn,
    /// The version has proven itself.
    Promote,
    /// It has not, for this reason.
    RollBack(String),
}

impl Account {
    /// Adds what a call has shown. `named`: what to call the message of its example.
    pub fn add(&mut self, evidence: Evidence, terms: &Terms, named: impl FnOnce(&Overruled) -> String) {
        self.compare(&evidence, terms);
        self.messages += evidence.trial.messages;
        self.micros = self.micros.saturating_add(evidence.trial.micros);
        self.serving_messages += evidence.serving.messages;
        self.serving_micros = self.serving_micros.saturating_add(evidence.serving.micros);
        self.failed_calls += evidence.failed_calls;
        self.overruled += evidence.overruled;
        self.upheld += evidence.upheld;
        if let Some(overruled) = evidence.example {
            let message = named(&overruled);
            let Overruled { reason, failure, .. } = *overruled;
            let detail = if failure.detail.is_empty() { String::new() } else { format!(", {}", failure.detail) };
            self.example = Some(Example { message, answer: format!("{} ({}{detail})", reason.as_str(), failure.code) });
        }
    }

    /// Whether a call of the version on trial costs too much, by what the other has cost so far.
    fn compare(&mut self, evidence: &Evidence, terms: &Terms) {
        let messages = evidence.trial.messages;
        if messages == 0 || self.serving_messages < LEAST_COMPARED {
            return;
        }
        let (_, other) = self.costs();
        let most = other * terms.slower + SPARED_MICROS;
        (self.compared_calls, self.compared) = (self.compared_calls + 1, self.compared + messages);
        if evidence.trial.micros as f64 > most * messages as f64 {
            self.slow += messages;
        }
    }

    /// Calls that failed as a whole for no message's sake.
    fn unexplained(&self) -> u64 {
        // A message that makes its call fail does so twice: among others, and alone.
        self.failed_calls.saturating_sub(2 * (self.overruled + self.upheld))
    }

    /// Messages that the version on trial has run.
    #[must_use]
    pub const fn tried(&self) -> u64 {
        self.messages
    }

    /// Of them, those that failed on it alone.
    #[must_use]
    pub const fn overruled(&self) -> u64 {
        self.overruled
    }

    /// And those that failed on both versions.
    #[must_use]
    pub const fn upheld(&self) -> u64 {
        self.upheld
    }

    /// What follows, when the trial has lasted so long.
    #[must_use]
    pub fn judge(&self, terms: &Terms, elapsed: Duration) -> Verdict {
        let most = terms.failures * self.messages as f64;
        if self.overruled >= LEAST_FAILURES && self.overruled as f64 > most {
            return Verdict::RollBack(format!("too many of its messages fail on it alone: {self}"));
        }
        if self.unexplained() >= LEAST_UNEXPLAINED && self.unexplained() as f64 > most {
            return Verdict::RollBack(format!("too many of its calls fail: {self}"));
        }
        let comparable = self.compared >= LEAST_COMPARED && self.compared_calls >= LEAST_CALLS;
        if comparable && self.slow > self.compared / 2 {
            return Verdict::RollBack(format!("it is too slow: {self}"));
        }
        if elapsed >= terms.lasts && self.messages >= terms.least_messages {
            return Verdict::Promote;
        }
        Verdict::GoesOn
    }

    /// Microseconds that a message takes on either version.
    fn costs(&self) -> (f64, f64) {
        let each = |micros: u64, messages: u64| micros as f64 / messages.max(1) as f64;
        (each(self.micros, self.messages), each(self.serving_micros, self.serving_messages))
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { messages, serving_messages, overruled, upheld, failed_calls, .. } = self;
        let (own, other) = self.costs();
        write!(
            f,
            "{messages} messages, {overruled} failed on it alone, {upheld} on both, {failed_calls} calls failed; {own:.0} us a message, \
             {other:.0} us on the version that serves ({serving_messages} messages)"
        )?;
        match &self.example {
            Some(Example { message, answer }) => write!(f, "; the last that failed on it alone: {message}, {answer}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
