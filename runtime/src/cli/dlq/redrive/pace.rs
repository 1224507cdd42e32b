//! How far it is, and how fast it may go on.

use crate::cli::terminal::{Progress, counted, grouped};
use std::time::{Duration, Instant};

/// What was sent back so far, and when the next letter may go.
pub(super) struct Carried {
    total: u64,
    done: u64,
    /// Of these and of those under way: what `rate` counts.
    sent: u64,
    rate: Option<u32>,
    began: Instant,
    progress: Progress,
}

impl Carried {
    pub(super) fn new(total: u64, rate: Option<u32>) -> Self {
        Self { total, done: 0, sent: 0, rate, began: Instant::now(), progress: Progress::new() }
    }

    /// Committed.
    pub(super) fn done(&self) -> u64 {
        self.done
    }

    /// How long the next letter has to wait.
    pub(super) fn wait(&self, now: Instant) -> Duration {
        let Some(rate) = self.rate else { return Duration::ZERO };
        let due = self.began + Duration::from_secs_f64(self.sent as f64 / f64::from(rate));
        due.saturating_duration_since(now)
    }

    pub(super) fn send(&mut self) {
        self.sent += 1;
    }

    pub(super) fn commit(&mut self, letters: u64) {
        self.done += letters;
        let (done, total) = (self.done, self.total);
        let a_second = done as f64 / self.began.elapsed().as_secs_f64().max(0.001);
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
        let at = |ms: u64| carried_began(&carried) + Duration::from_millis(ms);
        let (start, later) = (at(0), at(250));
        assert_eq!(carried.wait(start), Duration::ZERO);
        (0..3).for_each(|_| carried.send());
        assert_eq!(carried.wait(start), Duration::from_millis(300));
        assert_eq!(carried.wait(later), Duration::from_millis(50));
        assert_eq!(Carried::new(1, None).wait(start), Duration::ZERO);
    }

    fn carried_began(carried: &Carried) -> Instant {
        carried.began
    }
}
