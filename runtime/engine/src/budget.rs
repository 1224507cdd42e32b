//! Back-pressure by bytes: how pipelines share a limit, and when one of them stops fetching. With hysteresis: pausing a
//! Kafka consumer throws away what it has fetched, so it must not flutter.

/// How pipelines share a limit: half of it is guaranteed, in equal parts, and half is whoever's comes first. So one
/// that is slow, or whose dead letters are refused, can't stop the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    limit_bytes: u64,
    guaranteed_bytes: u64,
    common_bytes: u64,
}

impl Share {
    /// The share of one of `pipelines` (at least one).
    #[must_use]
    pub fn new(limit_bytes: u64, pipelines: u64) -> Self {
        let pipelines = pipelines.max(1);
        let guaranteed_bytes = limit_bytes / 2 / pipelines;
        Self { limit_bytes, guaranteed_bytes, common_bytes: limit_bytes - guaranteed_bytes * pipelines }
    }

    /// What a pipeline that holds this much takes of the common part.
    #[must_use]
    pub const fn beyond(&self, held_bytes: u64) -> u64 {
        held_bytes.saturating_sub(self.guaranteed_bytes)
    }
}

/// Bytes held now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Held {
    /// By this pipeline.
    pub own: u64,
    /// By all pipelines.
    pub all: u64,
    /// By all pipelines, each beyond what is guaranteed to it; see [`Share::beyond`].
    pub beyond: u64,
}

/// Decides when a pipeline's fetching pauses and goes on.
#[derive(Debug, Clone)]
pub struct Gate {
    share: Share,
    closed: bool,
}

/// What a [`Gate`] asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Stop fetching.
    Close,
    /// Go on fetching.
    Open,
}

impl Gate {
    /// An open gate. It closes when a pipeline has used up what is guaranteed to it and the common part is taken; it
    /// opens again when half of the whole limit is free, or half of what is guaranteed.
    #[must_use]
    pub const fn new(share: Share) -> Self {
        Self { share, closed: false }
    }

    /// The limit is shared otherwise from now on: pipelines came or went.
    pub fn share(&mut self, share: Share) {
        self.share = share;
    }

    /// Tells what changes now that this much is held. One record larger than the limit still passes an open gate:
    /// nothing may be too large to be fetched. Checked before each record, all pipelines together never hold more than
    /// the limit and one record each.
    pub fn check(&mut self, held: &Held) -> Option<Turn> {
        let Share { limit_bytes, guaranteed_bytes, common_bytes } = self.share;
        if !self.closed && held.own >= guaranteed_bytes && held.beyond >= common_bytes {
            self.closed = true;
            Some(Turn::Close)
        } else if self.closed && (held.all <= limit_bytes / 2 || held.own <= guaranteed_bytes / 2) {
            self.closed = false;
            Some(Turn::Open)
        } else {
            None
        }
    }

    /// Whether fetching is paused.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        self.closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retry::split_mix;
    use alloc::vec;

    /// What each of these pipelines sees.
    fn held(share: &Share, all: &[u64], which: usize) -> Held {
        Held { own: all[which], all: all.iter().sum(), beyond: all.iter().map(|h| share.beyond(*h)).sum() }
    }

    #[test]
    fn one_pipeline_has_the_whole_limit_and_goes_on_at_half_of_it() {
        let share = Share::new(100, 1);
        let mut gate = Gate::new(share);
        let mut check = |bytes| (gate.check(&held(&share, &[bytes], 0)), gate.is_closed());
        assert_eq!(check(99), (None, false));
        assert_eq!(check(100), (Some(Turn::Close), true));
        assert_eq!(check(200), (None, true));
        assert_eq!(check(51), (None, true));
        assert_eq!(check(50), (Some(Turn::Open), false));
        assert_eq!(check(99), (None, false));
    }

    #[test]
    fn a_pipeline_that_holds_all_it_can_leaves_the_others_their_part() {
        let share = Share::new(1000, 4);
        let mut gates = vec![Gate::new(share); 2];
        // 125 are guaranteed to each, 500 are common.
        assert_eq!(gates[0].check(&held(&share, &[624, 0], 0)), None);
        assert_eq!(gates[0].check(&held(&share, &[625, 0], 0)), Some(Turn::Close));
        assert_eq!(gates[1].check(&held(&share, &[625, 124], 1)), None, "its own part is free");
        assert_eq!(gates[1].check(&held(&share, &[625, 125], 1)), Some(Turn::Close));
        assert_eq!(gates[1].check(&held(&share, &[625, 63], 1)), None);
        assert_eq!(gates[1].check(&held(&share, &[625, 62], 1)), Some(Turn::Open), "whatever the other does");
        assert_eq!(gates[0].check(&held(&share, &[400, 62], 0)), Some(Turn::Open), "half of all is free");
        assert_eq!(gates[1].check(&held(&share, &[600, 130], 1)), None, "and the common part has room");
    }

    #[test]
    fn a_limit_that_can_not_be_divided_is_used_to_the_last_byte() {
        let share = Share::new(11, 3);
        assert_eq!((share.beyond(1), share.beyond(9)), (0, 8));
        assert_eq!(Gate::new(share).check(&held(&share, &[8, 1, 1], 0)), None);
        assert_eq!(Gate::new(share).check(&held(&share, &[9, 1, 1], 0)), Some(Turn::Close));
        assert_eq!(Share::new(100, 0), Share::new(100, 1));
    }

    #[test]
    fn all_together_never_hold_more_than_the_limit_and_one_record_each() {
        let mut random = 7;
        for round in 0..200 {
            let pipelines = 1 + round % 7;
            let limit = 1000 + split_mix(&mut random) % 1000;
            let share = Share::new(limit, pipelines as u64);
            let mut gates = vec![Gate::new(share); pipelines];
            let mut all = vec![0; pipelines];
            for _ in 0..2000 {
                let which = split_mix(&mut random) as usize % pipelines;
                let bytes = 1 + split_mix(&mut random) % 100;
                gates[which].check(&held(&share, &all, which));
                if split_mix(&mut random).is_multiple_of(3) {
                    all[which] -= bytes.min(all[which]);
                } else if !gates[which].is_closed() {
                    all[which] += bytes;
                }
                let sum: u64 = all.iter().sum();
                assert!(sum <= limit + 100 * pipelines as u64, "{all:?} of {limit}");
            }
        }
    }
}
