//! libFuzzer on the engine's targets.
#![no_main]

#[path = "../../choice.rs"]
mod choice;

libfuzzer_sys::fuzz_target!(init: choice::make(&keyrail_engine::fuzz::TARGETS), |input: &[u8]| choice::check(input));
