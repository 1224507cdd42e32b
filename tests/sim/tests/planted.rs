//! The simulator finds every planted bug.

use keyrail_engine::planted::Bug;
use keyrail_sim::many::run_seeds;

/// A bug that lives through so many seeds is not found.
const SEEDS: u64 = 1_000;

#[test]
fn every_planted_bug_is_found() {
    let mut survivors = Vec::new();
    for bug in Bug::ALL {
        match run_seeds(0..SEEDS, Some(*bug)).failure {
            Some(failure) => println!("{bug:?}: seed {}, {}", failure.seed, failure.violation),
            None => survivors.push(*bug),
        }
    }
    assert!(Bug::ALL.len() >= 15, "only {} bugs are planted", Bug::ALL.len());
    assert!(survivors.is_empty(), "not found in {SEEDS} seeds: {survivors:?}");
}
