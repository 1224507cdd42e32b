//! The state of a task, held against a map.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop at the first surprise")]

mod damage;
mod failing;
mod kills;
mod model;
mod shared;
mod support;
