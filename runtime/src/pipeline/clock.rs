//! The time, for what decides without a clock of its own.

use keyrail_engine::message::Now;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Reads both clocks. Copies agree on the steady one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now() }
    }

    /// The time now.
    pub(crate) fn now(&self) -> Now {
        Now { steady_ms: millis(self.start.elapsed()), wall_ms: wall_ms() }
    }
}

/// Milliseconds since the Unix epoch; 0 before it.
pub(crate) fn wall_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
