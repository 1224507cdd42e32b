//! The embedded broker: what it promises, under kills, full disks, damage and second processes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop at what it did not expect")]

mod alerts;
mod bad;
mod breaker;
mod burial;
mod cases;
mod commands;
mod delays;
mod folder;
mod groups;
mod hands;
mod ids;
mod joined;
mod kills;
mod letters;
mod log;
mod parked;
mod play;
mod points;
mod receivers;
mod replay;
mod rewind;
mod run;
mod shown;
mod socket;
mod state;
mod support;
mod swap;
mod terminal;
mod tidy;
mod timers;
mod transactions;
mod waiting;
