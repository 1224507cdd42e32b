//! How long breakers may be open, and what is said of them.

use super::World;
use crate::invariants::name;
use keyrail_engine::metadata::Metadata;

/// A breaker is open for so long at most when nothing harms the group, and for so many pauses more, and one and a call for each
/// message that becomes a dead letter meanwhile: where all that is left never succeeds, each waits for a probe when it is too old.
const OPEN_MS: u64 = 10_000;
const OPEN_PAUSES: u64 = 100;
/// And so many times longer where an operator retries what is spent.
const OPEN_BY_HAND: u64 = 6;

impl World {
    /// A breaker does not stay open when nothing harms the group.
    pub(super) fn watch_breakers(&mut self) {
        let breaker = self.env.settings.policy.breaker.as_ref();
        let (Some(calm_ms), Some(breaker)) = (self.calm_since_ms(), breaker) else { return };
        // Who lets run by hand what never succeeds gives it all its attempts anew, and a time-out each.
        let by_hand = if self.env.settings.operator_ms.is_some() { OPEN_BY_HAND } else { 1 };
        let most_ms = OPEN_MS + OPEN_PAUSES * breaker.pause_ms;
        for worker in &self.workers {
            let Some((since_ms, letters)) = worker.breaker_opened() else { continue };
            let each_ms = breaker.pause_ms + self.env.settings.policy.timeout_ms;
            let most_ms = (most_ms + (self.env.letters - letters) * each_ms) * by_hand;
            let open_ms = self.env.now_ms.saturating_sub(since_ms.max(calm_ms));
            if open_ms > most_ms {
                let what = format!("it has been open for {open_ms} ms without a fault");
                self.env.oracle.violated(name::BREAKER, None, what);
            }
        }
    }

    /// Whoever asks is told that no breaker is open.
    pub(super) fn breaker_at_the_end(&mut self) {
        for partition in self.env.group.partitions().collect::<Vec<_>>() {
            let Some(stored) = self.env.group.committed(partition) else { continue };
            if Metadata::decode(&stored.metadata, stored.offset, i64::MAX).is_ok_and(|said| said.kept.breaker) {
                let what = "its commit says at the end that the breaker is open".to_owned();
                self.env.oracle.violated(name::BREAKER, Some((partition, -1)), what);
            }
        }
    }
}
