//! Whether records share batches: after a refused batch each is sent alone for a while.

use std::time::{Duration, Instant};

/// How long records go one by one after the last refusal.
const ALONE: Duration = Duration::from_secs(30);
/// A batch refused for its size says that batches must be smaller: by this factor, since the limit is not told.
const SHRINK: u64 = 4;

/// See the module. Time comes in as arguments.
#[derive(Debug)]
pub(super) struct Pace {
    batch_bytes: u64,
    alone_until: Option<Instant>,
    shrunk: bool,
}

impl Pace {
    /// Batches of at most `batch_bytes`.
    pub(super) fn new(batch_bytes: u64) -> Self {
        Self { batch_bytes: batch_bytes.max(1), alone_until: None, shrunk: false }
    }

    /// A record was refused for good, alone or with its whole batch.
    pub(super) fn refused(&mut self, shared_batch: bool, too_large: bool, now: Instant) {
        if shared_batch {
            // One refusal is told for each record of the batch, and for each batch that was on its way.
            if too_large && !self.shrunk {
                self.batch_bytes = (self.batch_bytes / SHRINK).max(1);
                self.shrunk = true;
            }
            self.alone_until = Some(now + ALONE);
        } else if self.alone_until.is_some() {
            // Together with others it would have taken them along.
            self.alone_until = Some(now + ALONE);
        }
    }

    /// Time goes on.
    pub(super) fn tick(&mut self, now: Instant) {
        if self.alone_until.is_some_and(|until| now >= until) {
            self.alone_until = None;
            self.shrunk = false;
        }
    }

    /// Whether something may have to change, for a client that sends `alone` or not: asked for each record.
    pub(super) fn is_turning(&self, alone: bool) -> bool {
        alone || self.alone_until.is_some()
    }

    /// Each record is to be a batch of its own.
    pub(super) fn is_alone(&self) -> bool {
        self.alone_until.is_some()
    }

    /// Says how records go from now on.
    pub(super) fn tell(&self) {
        if self.is_alone() {
            tracing::warn!(
                "a topic refused a whole batch: for a while each record is sent by itself, so that the broker judges it \
                 alone"
            );
        } else {
            tracing::info!(batch_bytes = self.batch_bytes, "records are sent in batches again");
        }
    }

    /// The largest batch.
    pub(super) fn batch_bytes(&self) -> u64 {
        self.batch_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_batch_sends_records_alone_until_no_more_is_refused() {
        let start = Instant::now();
        let mut pace = Pace::new(1000);
        pace.refused(false, true, start);
        assert!(!pace.is_alone(), "a record refused alone took nothing along");
        for _ in 0..50 {
            pace.refused(true, true, start);
        }
        assert!(pace.is_alone() && pace.is_turning(false));
        assert_eq!(pace.batch_bytes(), 250, "once for all records of the batch");
        pace.tick(start + ALONE / 2);
        pace.refused(false, false, start + ALONE / 2);
        pace.tick(start + ALONE);
        assert!(pace.is_alone(), "one more was refused meanwhile");
        pace.tick(start + ALONE + ALONE / 2);
        assert!(!pace.is_alone() && pace.is_turning(true) && !pace.is_turning(false));
        pace.refused(true, false, start + ALONE * 2);
        assert_eq!(pace.batch_bytes(), 250, "not refused for its size");
    }

    #[test]
    fn batches_never_shrink_to_nothing() {
        let mut now = Instant::now();
        let mut pace = Pace::new(0);
        for _ in 0..5 {
            pace.refused(true, true, now);
            now += ALONE;
            pace.tick(now);
            assert_eq!(pace.batch_bytes(), 1);
        }
    }
}
