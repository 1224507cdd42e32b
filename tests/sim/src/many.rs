//! Many seeds on all cores.

use crate::coverage::Coverage;
use crate::settings::Settings;
use crate::{Failure, run_seed};
use keyrail_engine::planted::Bug;
use keyrail_engine::policy::Guarantee;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// What many seeds came to.
#[derive(Debug, Default)]
pub struct Sum {
    /// Seeds that ran to their end.
    pub seeds: u64,
    /// Steps of all of them.
    pub steps: u64,
    /// Messages of all of them.
    pub messages: u64,
    /// Fewest messages, and fewest faults, of one seed.
    pub least: Option<(u32, u32)>,
    /// Which action met which fault.
    pub coverage: Coverage,
    /// Calls of versions on trial, and messages that failed on them alone.
    pub trials: (u64, u64),
    /// The failure of the lowest seed among those seen.
    pub failure: Option<Box<Failure>>,
}

impl Sum {
    fn add(&mut self, result: Result<crate::world::Summary, Box<Failure>>) {
        match result {
            Ok(summary) => {
                self.seeds += 1;
                self.steps += summary.steps;
                self.messages += u64::from(summary.messages);
                self.trials.0 += summary.trial_calls;
                self.trials.1 += summary.overruled;
                let (messages, faults) = (summary.messages, summary.coverage.faults());
                let least = self.least.get_or_insert((messages, faults));
                *least = (least.0.min(messages), least.1.min(faults));
                self.coverage.merge(&summary.coverage);
            }
            Err(failure) => {
                if self.failure.as_ref().is_none_or(|f| f.seed > failure.seed) {
                    self.failure = Some(failure);
                }
            }
        }
    }
}

/// Runs these seeds on all cores, up to the first failure.
#[must_use]
pub fn run_seeds(seeds: Range<u64>, planted: Option<Bug>) -> Sum {
    run_some(seeds, planted, |_| true)
}

/// Runs those of the seeds that have this guarantee.
#[must_use]
pub fn run_seeds_of(guarantee: Guarantee, seeds: Range<u64>, planted: Option<Bug>) -> Sum {
    run_some(seeds, planted, |seed| Settings::guarantee_of(seed) == guarantee)
}

fn run_some(seeds: Range<u64>, planted: Option<Bug>, wanted: impl Fn(u64) -> bool + Sync) -> Sum {
    let next = AtomicU64::new(seeds.start);
    let sum = Mutex::new(Sum::default());
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    if !wanted(seed) {
                        continue;
                    }
                    let result = run_seed(seed, planted);
                    if result.is_err() {
                        next.store(seeds.end, Ordering::Relaxed);
                    }
                    sum.lock().unwrap_or_else(std::sync::PoisonError::into_inner).add(result);
                }
            });
        }
    });
    sum.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
}
