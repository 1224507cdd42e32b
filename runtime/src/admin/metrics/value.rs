//! The numbers behind the metrics: atomics that the pipeline's threads write and a scrape reads.
//!
//! Nothing here locks. All operations are `Relaxed`: a scrape needs each number to be right, not all of the same instant.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Meant to be called once per batch with the batch's sum.
    pub fn add(&self, n: u64) {
        if n > 0 {
            self.0.fetch_add(n, Relaxed);
        }
    }

    /// The value now.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that goes up and down, never below 0.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Sets the value. For a gauge that one thread owns.
    pub fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    /// One more of what it counts.
    pub fn raise(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    /// One less; each follows a [`Gauge::raise`].
    pub fn lower(&self) {
        self.0.fetch_sub(1, Relaxed);
    }

    /// Replaces one thread's share of the sum. For a gauge that several threads own together: each keeps in `share` what
    /// it told last.
    pub fn set_share(&self, share: &mut u64, value: u64) {
        if *share != value {
            // Wraps on purpose: adding the two's complement takes away.
            self.0.fetch_add(value.wrapping_sub(*share), Relaxed);
            *share = value;
        }
    }

    /// The value now.
    #[must_use]
    pub fn get(&self) -> u64 {
        let value = self.0.load(Relaxed);
        // Each share is added before it is taken away, so below 0 means a caller's mistake; it must not read as 2^64.
        if value > u64::MAX / 2 { 0 } else { value }
    }
}

/// The most buckets that a histogram has, the last one for what lies above every bound.
pub(super) const MAX_BUCKETS: usize = 24;

/// What a histogram counts, and its fixed bounds.
#[derive(Debug)]
pub struct Scale {
    /// Upper bounds, ascending, in the unit that is observed; fewer than [`MAX_BUCKETS`].
    pub bounds: &'static [u64],
    /// How many observed units make one exported unit: 1,000,000 where microseconds are shown as seconds.
    pub per_unit: f64,
}

/// Messages of one batch.
pub(super) const BATCH_MESSAGES: Scale =
    Scale { bounds: &[1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, 4_096, 16_384], per_unit: 1.0 };

/// One call of the handler: observed in microseconds, shown in seconds.
pub(super) const CALL_MICROS: Scale = Scale {
    bounds: &[
        100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
        5_000_000, 10_000_000, 30_000_000,
    ],
    per_unit: 1e6,
};

/// From append to settled: observed in microseconds, shown in seconds.
pub(super) const LATENCY_MICROS: Scale = Scale {
    bounds: &[
        1_000,
        2_500,
        5_000,
        10_000,
        15_000,
        25_000,
        50_000,
        100_000,
        250_000,
        500_000,
        1_000_000,
        2_500_000,
        5_000_000,
        10_000_000,
        30_000_000,
        60_000_000,
        300_000_000,
        1_800_000_000,
        3_600_000_000,
        86_400_000_000,
    ],
    per_unit: 1e6,
};

/// A histogram as a scrape sees it. Threads collect in a [`LocalHistogram`] and publish.
#[derive(Debug)]
pub struct Histogram {
    pub(super) scale: &'static Scale,
    pub(super) buckets: [AtomicU64; MAX_BUCKETS],
    pub(super) sum: AtomicU64,
}

impl Histogram {
    /// An empty histogram over these bounds.
    #[must_use]
    pub fn new(scale: &'static Scale) -> Self {
        Self { scale, buckets: Default::default(), sum: AtomicU64::new(0) }
    }

    /// Counts one observation: once per batch, not per message.
    pub fn observe(&self, value: u64) {
        self.buckets[bucket(self.scale, value)].fetch_add(1, Relaxed);
        self.sum.fetch_add(value, Relaxed);
    }

    /// [`Histogram::observe`] of a time in microseconds.
    pub fn observe_time(&self, time: Duration) {
        self.observe(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }

    /// A thread's own part, to be filled per message and published per batch.
    #[must_use]
    pub fn local(&self) -> LocalHistogram {
        LocalHistogram { scale: self.scale, buckets: [0; MAX_BUCKETS], sum: 0, dirty: false }
    }
}

/// A histogram that one thread fills without atomics.
#[derive(Debug, Clone)]
pub struct LocalHistogram {
    scale: &'static Scale,
    buckets: [u64; MAX_BUCKETS],
    sum: u64,
    dirty: bool,
}

impl LocalHistogram {
    /// Counts one observation.
    pub fn observe(&mut self, value: u64) {
        self.buckets[bucket(self.scale, value)] += 1;
        self.sum = self.sum.wrapping_add(value);
        self.dirty = true;
    }

    /// Adds what was collected to the shared histogram and starts anew.
    pub fn publish(&mut self, to: &Histogram) {
        if !self.dirty {
            return;
        }
        for (mine, shared) in self.buckets.iter_mut().zip(&to.buckets) {
            if *mine > 0 {
                shared.fetch_add(std::mem::take(mine), Relaxed);
            }
        }
        to.sum.fetch_add(std::mem::take(&mut self.sum), Relaxed);
        self.dirty = false;
    }
}

/// The bucket of a value; the one after the last bound takes what lies above.
fn bucket(scale: &Scale, value: u64) -> usize {
    scale.bounds.partition_point(|bound| *bound < value).min(MAX_BUCKETS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_ascend_and_leave_room_for_what_lies_above() {
        for scale in [&BATCH_MESSAGES, &CALL_MICROS, &LATENCY_MICROS] {
            assert!(scale.bounds.len() < MAX_BUCKETS);
            assert!(scale.bounds.is_sorted_by(|a, b| a < b));
        }
    }

    #[test]
    fn a_bound_belongs_to_its_own_bucket() {
        assert_eq!(bucket(&BATCH_MESSAGES, 0), 0);
        assert_eq!(bucket(&BATCH_MESSAGES, 1), 0);
        assert_eq!(bucket(&BATCH_MESSAGES, 2), 1);
        assert_eq!(bucket(&BATCH_MESSAGES, 3), 2);
        assert_eq!(bucket(&BATCH_MESSAGES, u64::MAX), BATCH_MESSAGES.bounds.len());
    }

    #[test]
    fn shares_of_several_threads_add_up_and_never_read_below_zero() {
        let gauge = Gauge::default();
        let (mut a, mut b) = (0, 0);
        gauge.set_share(&mut a, 10);
        gauge.set_share(&mut b, 5);
        gauge.set_share(&mut a, 3);
        assert_eq!(gauge.get(), 8);
        gauge.set_share(&mut a, 0);
        gauge.set_share(&mut b, 0);
        assert_eq!(gauge.get(), 0);
        gauge.set_share(&mut 1, 0);
        assert_eq!(gauge.get(), 0, "a caller's mistake must not read as 2^64");
    }

    #[test]
    fn a_local_histogram_publishes_once_and_starts_anew() {
        let shared = Histogram::new(&CALL_MICROS);
        let mut local = shared.local();
        local.observe(100);
        local.observe(40_000_000);
        local.publish(&shared);
        local.publish(&shared);
        shared.observe_time(Duration::from_micros(101));
        let counts: Vec<u64> = shared.buckets.iter().map(|b| b.load(Relaxed)).collect();
        assert_eq!((counts[0], counts[1], counts[CALL_MICROS.bounds.len()]), (1, 1, 1));
        assert_eq!(counts.iter().sum::<u64>(), 3);
        assert_eq!(shared.sum.load(Relaxed), 40_000_201);
    }
}
