//! The time, for the engine.

use keyrail_engine::message::Now;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Reads both clocks. Copies agree on the steady one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    start: Instant,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self { start: Instant::now() }
    }

    /// The time now.
    pub(super) fn now(&self) -> Now {
        Now { steady_ms: millis(self.start.elapsed()), wall_ms: wall_ms() }
    }
}

/// Milliseconds since the Unix epoch; 0 before it.
pub(super) fn wall_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
