//! libFuzzer on the runtime's targets.
#![no_main]

#[path = "../../choice.rs"]
mod choice;

libfuzzer_sys::fuzz_target!(init: choice::make(keyrail::fuzz::TARGETS), |input: &[u8]| choice::check(input));
