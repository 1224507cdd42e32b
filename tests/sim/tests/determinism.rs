//! Comes first: a seed is a run, to the last event. Nothing else here means anything without it.
#![allow(clippy::expect_used, reason = "a test stops at what it did not expect")]

use keyrail_sim::run_seed;
use keyrail_sim::settings::Settings;
use keyrail_sim::world::World;

#[test]
fn a_seed_is_the_same_run_each_time() {
    for seed in 0..20 {
        let first = run_seed(seed, None).expect("the seed holds");
        let again = run_seed(seed, None).expect("the seed holds");
        assert_eq!((first.hash, first.steps, first.virtual_ms), (again.hash, again.steps, again.virtual_ms), "{seed}");
    }
}

#[test]
fn another_seed_is_another_run() {
    let hashes: std::collections::BTreeSet<u64> =
        (0..20).map(|seed| run_seed(seed, None).expect("the seed holds").hash).collect();
    assert_eq!(hashes.len(), 20);
}

#[test]
fn keeping_the_trace_changes_nothing() {
    let kept = World::new(Settings::of_seed(7, None), true).run().expect("the seed holds");
    assert_eq!(kept.hash, run_seed(7, None).expect("the seed holds").hash);
}

#[test]
fn threads_do_not_matter() {
    let here = run_seed(3, None).expect("the seed holds").hash;
    let there = std::thread::spawn(|| run_seed(3, None).expect("the seed holds").hash).join().expect("it ends");
    assert_eq!(here, there);
}
