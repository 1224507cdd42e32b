//! Back-pressure by bytes, with hysteresis: pausing a Kafka consumer throws away what it has fetched, so it must not
//! flutter.

/// Decides when fetching pauses and goes on.
#[derive(Debug, Clone)]
pub struct Gate {
    limit_bytes: u64,
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
    /// A gate that closes at `limit_bytes` held and opens again at half of it.
    #[must_use]
    pub const fn new(limit_bytes: u64) -> Self {
        Self { limit_bytes, closed: false }
    }

    /// Tells what changes now that `held_bytes` are held. One record larger than the limit still passes an open gate:
    /// nothing may be too large to be fetched.
    pub fn check(&mut self, held_bytes: u64) -> Option<Turn> {
        if !self.closed && held_bytes >= self.limit_bytes {
            self.closed = true;
            Some(Turn::Close)
        } else if self.closed && held_bytes <= self.limit_bytes / 2 {
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

    #[test]
    fn closes_at_the_limit_and_opens_at_half() {
        let mut gate = Gate::new(100);
        assert_eq!(gate.check(99), None);
        assert_eq!(gate.check(100), Some(Turn::Close));
        assert!(gate.is_closed());
        assert_eq!(gate.check(200), None);
        assert_eq!(gate.check(51), None);
        assert_eq!(gate.check(50), Some(Turn::Open));
        assert!(!gate.is_closed());
        assert_eq!(gate.check(99), None);
    }
}
