//! When a pipeline that ended by itself starts anew, and when it does no more: the pure part.

use std::time::Duration;

/// The first wait; it doubles.
const FIRST: Duration = Duration::from_secs(1);
/// The longest.
const LONGEST: Duration = Duration::from_secs(30);
/// A pipeline that ran this long starts its waits anew.
const RAN_WELL: Duration = Duration::from_secs(60);
/// So often in a row it may break without a message that settles meanwhile: some nine minutes.
const IN_VAIN: u32 = 20;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    /// How long it took.
    pub(super) took: Duration,
    /// Messages settled in it.
    pub(super) settled: bool,
    /// It broke: one of its threads did not end in good order. A broker that is away is no such end, however long it is.
    pub(super) broke: bool,
}

/// What is next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// It starts anew after this time.
    Wait(Duration),
    /// It broke so often in a row that it is no use.
    GiveUp(u32),
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Again {
    /// `None`: it starts with the first.
    wait: Option<Duration>,
    in_vain: u32,
}

impl Again {
    pub(super) fn after(&mut self, run: Run) -> Next {
        // What is not its own fault says nothing: neither does it count, nor is it forgotten what did.
        match run {
            Run { settled: true, .. } => self.in_vain = 0,
            Run { broke: true, .. } => self.in_vain += 1,
            _ => {}
        }
        if self.in_vain >= IN_VAIN {
            return Next::GiveUp(self.in_vain);
        }
        let wait = self.wait.filter(|_| run.took <= RAN_WELL).unwrap_or(FIRST);
        self.wait = Some((wait * 2).min(LONGEST));
        Next::Wait(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(seconds: u64, settled: bool, broke: bool) -> Run {
        Run { took: Duration::from_secs(seconds), settled, broke }
    }

    #[test]
    fn waits_double_up_to_a_bound_and_begin_anew_after_a_good_run() {
        let mut again = Again::default();
        let mut waits = |seconds: u64| match again.after(run(seconds, true, true)) {
            Next::Wait(wait) => wait.as_secs(),
            Next::GiveUp(_) => 0,
        };
        let waited: Vec<u64> = (0..7).map(|_| waits(1)).collect();
        assert_eq!(waited, [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!([waits(60), waits(61), waits(1)], [30, 1, 2]);
    }

    #[test]
    fn only_what_breaks_in_a_row_without_a_settled_message_is_given_up() {
        let mut again = Again::default();
        let gives_up = |again: &mut Again, run: Run| matches!(again.after(run), Next::GiveUp(_));
        assert!((0..1000).all(|_| !gives_up(&mut again, run(1, false, false))), "a broker that is away for hours");
        assert!((1..IN_VAIN).all(|_| !gives_up(&mut again, run(1, false, true))));
        assert!(!gives_up(&mut again, run(1, true, true)), "one message settled");
        assert!((1..IN_VAIN).all(|_| !gives_up(&mut again, run(1, false, true))));
        assert!(!gives_up(&mut again, run(500, false, false)), "what it is not to blame for changes nothing");
        assert!(gives_up(&mut again, run(1, false, true)));
        assert!(gives_up(&mut again, run(1, false, true)), "and it stays so");
    }
}
