//! How far it is, and how fast it may go on.

use crate::cli::terminal::{Progress, counted, grouped};
use std::time::{Duration, Instant};

/// What a pause of the process or of the broker may be made up for.
const CATCH_UP: Duration = Duration::from_millis(100);

/// What was sent back so far, and when the next letter may go.
pub(super) struct Carried {
    total: u64,
    done: u64,
    /// Between two letters, and when the next may go.
    gap: Option<Duration>,
    next: Instant,
    began: Instant,
    progress: Progress,
}

impl Carried {
    pub(super) fn new(total: u64, rate: Option<u32>) -> Self {
        let gap = rate.map(|rate| Duration::from_secs(1) / rate);
        let now = Instant::now();
        Self { total, done: 0, gap, next: now, began: now, progress: Progress::new() }
    }

    /// Committed.
    pub(super) fn done(&self) -> u64 {
        self.done
    }

    /// How long the next letter has to wait.
    pub(super) fn wait(&self, now: Instant) -> Duration {
        if self.gap.is_some() { self.next.saturating_duration_since(now) } else { Duration::ZERO }
    }

    /// A letter goes. What was not used of the time before is lost, but for a moment's worth: a broker that was away gets no flood.
    pub(super) fn send(&mut self, now: Instant) {
        if let Some(gap) = self.gap {
            self.next = self.next.max(now.checked_sub(CATCH_UP).unwrap_or(now)) + gap;
        }
    }

    pub(super) fn seconds(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    pub(super) fn commit(&mut self, letters: u64) {
        self.done += letters;
        let (done, total) = (self.done, self.total);
        let a_second = done as f64 / self.seconds().max(0.001);
        self.progress.show(|| {
            let total = counted(total, "letter");
            let done = grouped(i64::try_from(done).unwrap_or(i64::MAX));
            format!("{done} of {total} sent back, {} a second", grouped(a_second as i64))
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_go_no_faster_than_they_may() {
        let mut carried = Carried::new(100, Some(10));
        let start = carried.next;
        let at = |ms: u64| start + Duration::from_millis(ms);
        assert_eq!(carried.wait(start), Duration::ZERO);
        carried.send(start);
        assert_eq!(
            (carried.wait(start), carried.wait(at(60))),
            (Duration::from_millis(100), Duration::from_millis(40))
        );
        // A second was lost: one letter goes at once, the rest in its time.
        carried.send(at(1_100));
        assert_eq!(carried.wait(at(1_100)), Duration::ZERO);
        carried.send(at(1_100));
        assert_eq!(carried.wait(at(1_100)), Duration::from_millis(100));
        let mut free = Carried::new(1, None);
        free.send(start);
        assert_eq!(free.wait(start), Duration::ZERO);
    }
}
