//! The decisions of Keyrail as pure state machines. No clock, no randomness, no thread, no I/O: what happens comes in
//! as calls with the time, what must be done goes out as values.
//!
//! In the order of a message's way: [`intake`] routes it, [`handover`] says who hears of it first, [`shard`] runs it in
//! its lane, [`pipeline`] settles it and plans commits; [`breaker`] says when nothing is to run.
#![no_std]
extern crate alloc;

pub mod policy;

mod bytes;

pub mod message;
pub mod ranges;

pub mod budget;
pub mod handover;
pub mod identity;
pub mod intake;
pub mod order;

pub mod dedup;
pub mod delays;
pub mod inbox;
pub mod parking;
pub mod retry;
pub mod seen;
pub mod shard;
pub mod state;
pub mod timers;

pub mod answers;
pub mod breaker;
pub mod guard;
pub mod metadata;
pub mod pipeline;
pub mod tracker;

pub mod planted;

#[cfg(any(test, feature = "fuzz"))]
#[doc(hidden)]
pub mod fuzz;

#[cfg(test)]
mod testing;
