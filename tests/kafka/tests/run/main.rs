//! `keyrail run` on a real Kafka: processes that are killed, frozen and stopped, brokers that go and come back, topics
//! that refuse. What comes out is judged by unique ids, per key.
//!
//! `KEYRAIL_KILLS=500 cargo xtask test kill` kills more often than CI does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop at what it did not expect")]

mod backtest;
mod blocked;
mod burial;
mod bytes;
mod client;
mod commands;
mod delays;
mod feed;
mod hands;
mod identity;
mod instances;
mod joined;
mod judge;
mod keys;
mod kills;
mod letters;
mod links;
mod offsets;
mod outages;
mod parked;
mod points;
mod refusals;
mod replay;
mod stage;
mod state;
mod stops;
mod storms;
mod swap;
mod timers;
mod topics;
mod watched;
mod worker;
