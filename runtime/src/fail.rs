//! Points at which a process can be made to kill itself, so that tests kill it there and not somewhere.
//!
//! With the feature `fail-points`, which only tests switch on and no optimised build takes, the environment variable
//! `KEYRAIL_FAIL_POINT=before-commit@17` kills the process (SIGKILL: nothing is flushed, nobody is told) when it passes
//! `before-commit` for the 17th time; without `@`, for the first. Without the feature a point is nothing at all.

#[cfg(all(feature = "fail-points", not(debug_assertions)))]
compile_error!("the feature `fail-points` lets a variable kill the process: it is for tests, not for what is shipped");

/// Names the point, and the pass that kills.
pub const VARIABLE: &str = "KEYRAIL_FAIL_POINT";

/// Whether this build has fail points.
pub const ENABLED: bool = cfg!(feature = "fail-points");

/// A place in the work of a pipeline, in the order of a message's way, and then in that of the embedded broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// A record was fetched; neither the ledger nor a shard knows of it.
    AfterFetch,
    /// A batch is about to be handed to the handler.
    BeforeCall,
    /// The handler has answered; nothing was done with the answer.
    AfterCall,
    /// An output was given to the producer, which has it in a buffer or on its way.
    AfterProduce,
    /// As `AfterProduce`, for a dead letter.
    AfterLetter,
    /// The broker has acknowledged an output or a dead letter; the ledger does not know.
    AfterAck,
    /// A commit was decided, and not started.
    BeforeCommit,
    /// A commit is on its way, and unanswered. In a transaction: its offsets or its end are.
    CommitSent,
    /// A commit was answered; the ledger does not know.
    CommitAnswered,
    /// Partitions are given up and drained; their last commit was not made.
    BeforeLastCommit,
    /// The last commit is made; the partitions are still this member's.
    AfterLastCommit,
    /// A transaction came to no good end; the producer is to be made anew.
    BeforeRenewal,
    /// The producer is made anew; the ledger does not know.
    AfterRenewal,
    /// A partition is to be read again from its commit point; nothing was done for it.
    BeforeRewind,
    /// The partition was set back, and nobody but the consumer knows.
    AfterRewind,
    /// A stop was asked for; nothing was given up.
    BeforeStop,
    /// All is given up; the group was not left.
    AfterStop,
    /// The embedded broker has written records and offsets; the write is not ended, so nothing of it counts.
    WriteBegun,
    /// What the embedded broker wrote is durable; nobody was told.
    WriteDone,
}

impl Point {
    /// All of them.
    pub const ALL: [Self; 19] = [
        Self::AfterFetch,
        Self::BeforeCall,
        Self::AfterCall,
        Self::AfterProduce,
        Self::AfterLetter,
        Self::AfterAck,
        Self::BeforeCommit,
        Self::CommitSent,
        Self::CommitAnswered,
        Self::BeforeLastCommit,
        Self::AfterLastCommit,
        Self::BeforeRenewal,
        Self::AfterRenewal,
        Self::BeforeRewind,
        Self::AfterRewind,
        Self::BeforeStop,
        Self::AfterStop,
        Self::WriteBegun,
        Self::WriteDone,
    ];

    /// As [`VARIABLE`] names it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AfterFetch => "after-fetch",
            Self::BeforeCall => "before-call",
            Self::AfterCall => "after-call",
            Self::AfterProduce => "after-produce",
            Self::AfterLetter => "after-letter",
            Self::AfterAck => "after-ack",
            Self::BeforeCommit => "before-commit",
            Self::CommitSent => "commit-sent",
            Self::CommitAnswered => "commit-answered",
            Self::BeforeLastCommit => "before-last-commit",
            Self::AfterLastCommit => "after-last-commit",
            Self::BeforeRenewal => "before-renewal",
            Self::AfterRenewal => "after-renewal",
            Self::BeforeRewind => "before-rewind",
            Self::AfterRewind => "after-rewind",
            Self::BeforeStop => "before-stop",
            Self::AfterStop => "after-stop",
            Self::WriteBegun => "write-begun",
            Self::WriteDone => "write-done",
        }
    }
}

#[cfg(not(feature = "fail-points"))]
mod switch {
    /// Nothing: this build has no fail points.
    #[inline(always)]
    pub(crate) fn pass(_point: super::Point) {}

    /// Nothing: this build has no fail points.
    ///
    /// # Errors
    /// None.
    #[inline(always)]
    pub fn arm() -> Result<(), String> {
        Ok(())
    }
}

#[cfg(feature = "fail-points")]
mod switch {
    use super::{Point, VARIABLE};
    use std::io::Write;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    /// The point, and how many passes are left.
    static ARMED: OnceLock<(Point, AtomicU64)> = OnceLock::new();

    /// Reads [`VARIABLE`]. Until then no point kills.
    ///
    /// # Errors
    /// A value that names no point or no number.
    pub fn arm() -> Result<(), String> {
        let Some(value) = std::env::var_os(VARIABLE) else { return Ok(()) };
        let value = value.to_string_lossy();
        let (point, pass) = parse(&value)?;
        tracing::warn!("{VARIABLE}={value}: this process kills itself there");
        ARMED.get_or_init(|| (point, AtomicU64::new(pass)));
        Ok(())
    }

    pub(super) fn parse(value: &str) -> Result<(Point, u64), String> {
        let (name, pass) = value.split_once('@').unwrap_or((value, "1"));
        let point = Point::ALL.into_iter().find(|p| p.name() == name).ok_or_else(|| {
            let names: Vec<_> = Point::ALL.iter().map(|p| p.name()).collect();
            format!("{VARIABLE}={value}: no fail point {name:?}; known: {}", names.join(", "))
        })?;
        match pass.parse() {
            Ok(pass) if pass > 0 => Ok((point, pass)),
            _ => Err(format!("{VARIABLE}={value}: {pass:?} is no count of passes: say {name}@1 for the first")),
        }
    }

    pub(crate) fn pass(point: Point) {
        // Below zero it would kill again, but then the process is no more.
        if let Some((armed, left)) = ARMED.get()
            && *armed == point
            && left.fetch_sub(1, Relaxed) == 1
        {
            die(point);
        }
    }

    #[allow(unsafe_code, reason = "the standard library can't send a signal")]
    fn die(point: Point) {
        // The log's lines may be on their way still; without this one the test fails.
        drop(writeln!(std::io::stderr(), "fail point {}: the process kills itself", point.name()));
        // SAFETY: both take and return plain numbers. The thread does not come back from the second.
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
        // On the way to the end no other step may be taken.
        loop {
            std::thread::park();
        }
    }
}

pub use switch::arm;
pub(crate) use switch::pass;

#[cfg(all(test, feature = "fail-points"))]
mod tests {
    use super::switch::parse;
    use super::*;

    #[test]
    fn each_point_is_found_by_its_name_and_no_other() {
        for point in Point::ALL {
            assert_eq!(parse(point.name()), Ok((point, 1)));
            assert_eq!(parse(&format!("{}@17", point.name())), Ok((point, 17)));
        }
        for wrong in ["", "nowhere", "after-ack@", "after-ack@0", "after-ack@-1", "after-ack@x", "@3"] {
            assert!(parse(wrong).is_err_and(|told| told.contains(VARIABLE)), "{wrong}");
        }
    }
}
