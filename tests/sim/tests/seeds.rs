//! A thousand seeds hold, and every action met every fault in them.
#![allow(clippy::panic, reason = "a test says what went wrong by panicking")]

use keyrail_sim::many::run_seeds;

const SEEDS: u64 = 1_000;

#[test]
fn a_thousand_seeds_hold_and_every_action_meets_every_fault() {
    let sum = run_seeds(0..SEEDS, None);
    if let Some(failure) = sum.failure {
        panic!("{failure}");
    }
    assert_eq!(sum.seeds, SEEDS);
    let (messages, faults) = sum.least.unwrap_or_default();
    assert!(messages >= 2_000, "a seed had only {messages} messages");
    assert!(faults >= 20, "a seed had only {faults} faults");
    let (calls, overruled) = sum.trials;
    assert!(calls > 10_000 && overruled > 1_000, "versions on trial ran {calls} calls and {overruled} were overruled");
    let missing = sum.coverage.missing();
    assert!(missing.is_empty(), "these pairs never met: {missing:?}\n{}", sum.coverage.table());
}
