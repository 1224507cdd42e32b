//! The index of seen ids against a model, under kills, damage, failing disks and many readers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop at the first surprise")]

mod support;

mod damage;
mod failing;
mod kills;
mod model;
mod readers;
mod shared;
