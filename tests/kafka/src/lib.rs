//! A real Kafka for tests: started on loopback, stopped and cleaned up whatever happens to the test.
//!
//! `KEYRAIL_KAFKA_HOME` names a folder with Kafka's `libs`, as `cargo xtask test` makes one. Without it a test that
//! needs Kafka says so on a line that starts with `SKIP` and passes; xtask lists these lines.

#[allow(unsafe_code, reason = "access rules are made through librdkafka's C interface, which no safe crate covers")]
mod acl;
mod frames;
mod janitor;
mod node;
mod proxy;
mod rig;

pub use frames::{Fault, api};
pub use proxy::{Direction, Proxy};
pub use rig::{Kafka, Options, Security, shared, start};

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};

/// Says that a test did not run, and why, past the test harness's capture of output.
pub fn skip(test: &str, reason: &str) {
    // Nothing can be done about a closed stdout, and the summary would miss the line anyway.
    drop(writeln!(std::io::stdout(), "\nSKIP {test}: {reason}"));
}

/// A name that no other test of this process uses.
#[must_use]
pub fn unique(prefix: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{prefix}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}
