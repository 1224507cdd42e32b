//! The decisions of Keyrail as pure state machines. No clock, no randomness, no thread, no I/O: what happens comes in
//! as calls with the time, what must be done goes out as values.
#![no_std]
extern crate alloc;

pub mod policy;
