//! How the time that a stop may take is shared out: to finish what runs, to commit, to leave the group.

use std::time::{Duration, Instant};

/// What runs is waited for at most this long: the group waits, too.
const DRAIN_MAX: Duration = Duration::from_secs(20);
/// The broker's answer to the last commit.
const COMMIT_MAX: Duration = Duration::from_secs(10);
/// Kept for the last commit where what runs takes all the time it is given.
const COMMIT_KEPT: Duration = Duration::from_secs(5);
/// To leave the group; the clients give up a little sooner.
const LEAVE_MAX: Duration = Duration::from_secs(4);
/// How long questions at an assignment may take: nobody is heard of meanwhile.
const QUESTIONS: Duration = Duration::from_secs(65);

/// Bounds on giving partitions up, from its begin on. For a stop and for a revoke by the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    /// What runs must be finished.
    pub(super) drain: Duration,
    /// The last commit must be answered.
    pub(super) commit: Duration,
    /// The ledger must have said so.
    pub(super) answer: Duration,
}

impl Bounds {
    /// All of it within `grace`.
    pub(super) fn within(grace: Duration) -> Self {
        let leave = LEAVE_MAX.min(grace / 4);
        let commit = grace.saturating_sub(leave).min(DRAIN_MAX + COMMIT_MAX);
        let drain = commit.saturating_sub(COMMIT_KEPT.min(commit / 3)).min(DRAIN_MAX);
        Self { drain, commit, answer: commit + leave / 2 }
    }

    /// What is left for the last commit of partitions that have been given up `since`.
    pub(super) fn left_for_commit(&self, since: Instant) -> Duration {
        self.commit.saturating_sub(since.elapsed()).clamp(Duration::from_millis(100), COMMIT_MAX)
    }

    /// How long the consumer thread may be silent before it counts as dead.
    pub(super) fn silence(&self) -> Duration {
        self.answer + QUESTIONS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drain_commit_and_leaving_end_within_the_grace() {
        let seconds = Duration::from_secs;
        for (grace, drain, commit) in [(25, 16, 21), (20, 11, 16), (60, 20, 30), (3600, 20, 30)] {
            let bounds = Bounds::within(seconds(grace));
            assert_eq!((bounds.drain, bounds.commit), (seconds(drain), seconds(commit)), "{grace} s");
            assert!(bounds.commit < bounds.answer && bounds.answer < seconds(grace), "{grace} s: {bounds:?}");
        }
        for ms in 1..40_000 {
            let grace = Duration::from_millis(ms);
            let Bounds { drain, commit, answer } = Bounds::within(grace);
            let kept = commit - drain;
            assert!(kept * 4 >= grace.min(seconds(20)), "{ms} ms: {kept:?} for the commit");
            assert!(answer >= commit && answer + (grace / 8).min(seconds(1)) <= grace, "{ms} ms");
        }
    }

    #[test]
    fn what_the_drain_did_not_use_is_the_commits() {
        let bounds = Bounds::within(Duration::from_secs(25));
        assert_eq!(bounds.left_for_commit(Instant::now()), COMMIT_MAX);
        let Some(since) = Instant::now().checked_sub(bounds.drain) else { return };
        let left = bounds.left_for_commit(since);
        assert!(left > Duration::from_secs(4) && left <= COMMIT_KEPT, "{left:?}");
    }
}
