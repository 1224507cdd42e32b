//! Tests on a real Kafka.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop at what it did not expect")]

mod doubtful;
mod groups;
mod offsets;
mod outage;
mod records;
mod restore;
mod security;
mod support;
mod topics;
mod transactions;
