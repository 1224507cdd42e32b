//! How two runs of the same message compare.

use crate::replay::{Change, Kind, Sent};
use crate::scenario::{End, Told};
use keyrail_engine::message::Reason;

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ending {
    /// `done`, `skip`, `retry`, `outage`, `dead-letter`, `oversized`, and how a call failed: `trap`, `timeout`, ... What did not
    /// run is `duplicate` or `expired`; a timer that one version does not have is `none`.
    pub outcome: String,
    /// The failure's code; empty where there is none.
    pub code: String,
}

/// What differs where the outcome is the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The wait that a retry asks for.
    Delay,
    /// Records that are sent, at once or later.
    Sends,
    /// Timers that are set or cancelled.
    Timers,
    /// State.
    State,
}

/// What differs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    /// It is a timer's run.
    pub timer: bool,
    /// With the old version.
    pub old: Ending,
    /// With the new version.
    pub new: Ending,
    /// None where the endings differ.
    pub parts: Vec<Part>,
}

/// How two runs compare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compared {
    /// Nothing of what counts differs.
    Same,
    /// Something does.
    Differs(Difference),
    /// One of them asked a server for something, and was refused.
    NotComparable,
}

impl std::fmt::Display for Ending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.outcome)?;
        if self.code.is_empty() { Ok(()) } else { write!(f, " {}", self.code) }
    }
}

impl Part {
    /// In a word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delay => "delay",
            Self::Sends => "sends",
            Self::Timers => "timers",
            Self::State => "state",
        }
    }
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.timer {
            f.write_str("timer: ")?;
        }
        if self.parts.is_empty() {
            return write!(f, "{} -> {}", self.old, self.new);
        }
        let parts: Vec<&str> = self.parts.iter().map(|part| part.as_str()).collect();
        write!(f, "{}, other {}", self.old, parts.join(" and "))
    }
}

/// How it ended, in the handler's words where it ran.
#[must_use]
pub fn ending(told: Option<&Told>) -> Ending {
    let of = |outcome: &str, code: &str| Ending { outcome: outcome.to_owned(), code: code.to_owned() };
    let Some(told) = told else { return of("none", "") };
    if let Some(said) = &told.said {
        return match said.kind {
            // The code says how.
            Kind::Failed => of(&said.failure.code, ""),
            kind => of(kind.as_str(), &said.failure.code),
        };
    }
    match &told.end {
        End::Stands { skipped: false, .. } => of("done", ""),
        End::Stands { skipped: true, .. } => of("skip", ""),
        End::Retry { failure, .. } => of("retry", &failure.code),
        End::GivenUp(_, epitaph) if epitaph.reason == Reason::Rejected => of("dead-letter", &epitaph.failure.code),
        End::GivenUp(_, epitaph) => of(epitaph.reason.as_str(), &epitaph.failure.code),
        End::Follows(_) => of(Reason::Follows.as_str(), ""),
        End::Duplicate => of("duplicate", ""),
    }
}

/// Compares outcome, the code of a failure and the wait that it asks for, sends, delayed sends and timers; with `state` also what
/// they change of that. Not the words of a failure, which are for people.
#[must_use]
pub fn compare(old: Option<&Told>, new: Option<&Told>, state: bool) -> Compared {
    let either = [old, new].into_iter().flatten();
    if either.clone().any(|told| !told.requests.is_empty()) {
        return Compared::NotComparable;
    }
    let timer = either.clone().any(|told| told.timer.is_some());
    let differs = |parts: Vec<Part>| Compared::Differs(Difference { timer, old: ending(old), new: ending(new), parts });
    let (Some(one), Some(other)) = (old, new) else { return differs(Vec::new()) };
    if ending(old) != ending(new) {
        return differs(Vec::new());
    }
    let delay = |told: &Told| told.said.as_ref().and_then(|said| said.delay_ms);
    let mut parts = Vec::new();
    let mut part = |part: Part, is_other: bool| parts.extend(is_other.then_some(part));
    part(Part::Delay, delay(one) != delay(other));
    let (one, other) = (Left::of(&one.end), Left::of(&other.end));
    part(Part::Sends, (one.sends, one.later) != (other.sends, other.later));
    let timers = |change: &&Change| matches!(change, Change::Timer(..));
    let changed = |left: &Left<'_>, of_timers: bool| -> Vec<Change> {
        left.changes.iter().filter(|change| timers(change) == of_timers).cloned().collect()
    };
    part(Part::Timers, changed(&one, true) != changed(&other, true));
    part(Part::State, state && changed(&one, false) != changed(&other, false));
    if parts.is_empty() { Compared::Same } else { differs(parts) }
}

/// What a run leaves. One that failed leaves nothing.
#[derive(Default)]
struct Left<'a> {
    sends: &'a [Sent],
    later: &'a [(u64, Sent)],
    changes: &'a [Change],
}

impl<'a> Left<'a> {
    fn of(end: &'a End) -> Self {
        match end {
            End::Stands { sends, later, changes, .. } => Self { sends, later, changes },
            _ => Self::default(),
        }
    }
}
