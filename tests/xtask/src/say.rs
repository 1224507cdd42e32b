//! What xtask is doing, with the seconds since it began. Goes to stderr, so that stdout carries results alone.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

static BEGAN: OnceLock<Instant> = OnceLock::new();

/// Starts the clock; the first call counts.
pub(crate) fn begin() {
    BEGAN.get_or_init(Instant::now);
}

pub(crate) fn elapsed() -> Duration {
    BEGAN.get_or_init(Instant::now).elapsed()
}

/// One line of progress.
pub(crate) fn say(text: &str) {
    eprintln!("[{:7.1} s] {text}", elapsed().as_secs_f64());
}
