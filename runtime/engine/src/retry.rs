//! When a failed message runs again, and when it is spent.

use crate::message::{Now, Reason};
use crate::policy::Retry;

/// What a message carries between its runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct History {
    /// Runs that counted as attempts.
    pub attempts: u32,
    /// Failures in a row, outages included: the back-off grows with them.
    pub failures: u32,
    /// Wall clock of the first failure.
    pub first_failed_ms: Option<i64>,
}

/// What follows a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Run again when the steady clock shows this.
    At(u64),
    /// No more runs, for this reason.
    Spent(Reason),
}

/// Decides what follows a failure. `history` already counts it; `spent` is the reason to give when attempts run out;
/// `chance` is any number, used for the jitter.
#[must_use]
pub fn next(policy: &Retry, history: &History, delay_ms: Option<u64>, spent: Reason, now: Now, chance: u64) -> Next {
    if history.attempts >= policy.attempts {
        return Next::Spent(spent);
    }
    let wait_ms = delay_ms.unwrap_or_else(|| jittered(backoff_ms(policy, history.failures), policy.jitter, chance));
    let first = history.first_failed_ms.unwrap_or(now.wall_ms);
    let age_ms = u64::try_from(now.wall_ms.saturating_sub(first)).unwrap_or(0);
    // The age it would have at its next run counts: a message must not wait for a run that can't be allowed.
    if age_ms.saturating_add(wait_ms) > policy.max_age_ms {
        return Next::Spent(Reason::Age);
    }
    Next::At(now.steady_ms.saturating_add(wait_ms))
}

/// The wait after the given number of failures in a row, without jitter.
#[must_use]
pub fn backoff_ms(policy: &Retry, failures: u32) -> u64 {
    let exponent = failures.saturating_sub(1);
    let wait = policy.first_ms as f64 * libm::pow(policy.factor, f64::from(exponent));
    if wait >= policy.max_ms as f64 { policy.max_ms } else { wait as u64 }
}

fn jittered(wait_ms: u64, jitter: f64, chance: u64) -> u64 {
    let unit = (chance >> 11) as f64 / (1u64 << 53) as f64;
    let factor = 1.0 + jitter * (2.0 * unit - 1.0);
    (wait_ms as f64 * factor) as u64
}

/// The next number of the SplitMix64 sequence (Steele, Lea, Flood 2014): small, and good enough to spread retries.
pub fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Policy;

    fn history(attempts: u32, failures: u32, first: i64) -> History {
        History { attempts, failures, first_failed_ms: Some(first) }
    }

    const NOW: Now = Now { steady_ms: 1_000, wall_ms: 50_000 };

    #[test]
    fn backoff_grows_by_the_factor_up_to_its_cap() {
        let retry = Retry { first_ms: 100, factor: 2.0, max_ms: 1_000, ..Policy::default().retry };
        let waits: alloc::vec::Vec<u64> = (1..7).map(|n| backoff_ms(&retry, n)).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1_000, 1_000]);
        assert_eq!(backoff_ms(&retry, 0), 100);
        assert_eq!(backoff_ms(&retry, u32::MAX), 1_000);
    }

    #[test]
    fn defaults_spread_sixteen_attempts_over_about_half_an_hour() {
        let retry = Policy::default().retry;
        let total: u64 = (1..16).map(|n| backoff_ms(&retry, n)).sum();
        assert!((30 * 60_000..40 * 60_000).contains(&total), "{total}");
    }

    #[test]
    fn jitter_stays_within_its_share() {
        let retry = Retry { first_ms: 1_000, jitter: 0.1, ..Policy::default().retry };
        let mut seed = 7;
        let (mut low, mut high) = (u64::MAX, 0);
        for _ in 0..1_000 {
            match next(&retry, &history(1, 1, 50_000), None, Reason::Attempts, NOW, split_mix(&mut seed)) {
                Next::At(due) => {
                    low = low.min(due);
                    high = high.max(due);
                }
                Next::Spent(reason) => unreachable!("{reason:?}"),
            }
        }
        assert!((1_900..1_950).contains(&low) && (2_050..=2_100).contains(&high), "{low} {high}");
        assert_eq!(jittered(1_000, 0.1, u64::MAX), 1_100);
        assert_eq!(jittered(1_000, 0.1, 0), 900);
        assert_eq!(jittered(1_000, 0.0, u64::MAX), 1_000);
    }

    #[test]
    fn the_last_attempt_is_the_last() {
        let retry = Retry { attempts: 3, jitter: 0.0, first_ms: 10, ..Policy::default().retry };
        assert_eq!(next(&retry, &history(2, 1, 50_000), None, Reason::Trap, NOW, 0), Next::At(1_010));
        assert_eq!(next(&retry, &history(3, 1, 50_000), None, Reason::Trap, NOW, 0), Next::Spent(Reason::Trap));
    }

    #[test]
    fn age_counts_at_the_next_run() {
        let retry = Retry { jitter: 0.0, first_ms: 10, max_age_ms: 100, ..Policy::default().retry };
        assert_eq!(next(&retry, &history(1, 1, 49_910), None, Reason::Attempts, NOW, 0), Next::At(1_010));
        assert_eq!(next(&retry, &history(1, 1, 49_909), None, Reason::Attempts, NOW, 0), Next::Spent(Reason::Age));
        let own_delay = next(&retry, &history(1, 1, 50_000), Some(101), Reason::Attempts, NOW, 0);
        assert_eq!(own_delay, Next::Spent(Reason::Age));
        // A clock that jumped back makes nothing older.
        assert_eq!(next(&retry, &history(1, 1, 60_000), Some(5), Reason::Attempts, NOW, 0), Next::At(1_005));
    }

    #[test]
    fn the_sequence_is_the_published_one() {
        let mut state = 1_234_567;
        let first: [u64; 3] = core::array::from_fn(|_| split_mix(&mut state));
        assert_eq!(first, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }
}
