//! When the consumer thread reads on, while the other threads have not yet taken what it read before.
//!
//! A shard that is merely behind is waited for: what is read early leaves the processor's cache before its turn comes, and
//! the shards drift apart. One that stands still (a call of many seconds) is not: the others' messages are behind it in the
//! same logs. What waits for it is bounded by the byte budget.

use keyrail_engine::handover::{Handover, Inbox};
use std::time::{Duration, Instant};

/// Waits at most this long for a record when nothing waits to be taken, so that commands are seen.
const POLL: Duration = Duration::from_millis(20);
/// And so long while something does.
const BUSY_POLL: Duration = Duration::from_millis(1);
/// A thread that has taken nothing for this long stands still.
const PATIENCE: Duration = Duration::from_millis(100);
/// When no thread takes anything, records are still read once in this time: a rebalance comes behind them.
const TRICKLE: Duration = Duration::from_millis(10);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Pace {
    ledger: Behind,
    shards: Vec<Behind>,
    /// The next reading when nobody takes anything.
    trickle: Option<Instant>,
}

/// What is known of a thread for which something waits.
#[derive(Debug, Default, Clone, Copy)]
struct Behind {
    /// When it last took something; at first, when something began to wait for it.
    since: Option<Instant>,
    sent: u64,
}

impl Behind {
    /// Whether it is to be waited for.
    fn look(&mut self, waiting: bool, sent: u64, now: Instant) -> bool {
        if !waiting {
            self.since = None;
        } else if self.since.is_none() || self.sent != sent {
            self.since = Some(now);
        }
        self.sent = sent;
        self.since.is_some_and(|since| now.duration_since(since) < PATIENCE)
    }
}

impl Pace {
    /// How long to wait for the next record, after a flush; `None`: none is to be read now.
    pub(super) fn poll<L: Inbox, S: Inbox>(&mut self, out: &Handover<L, S>, now: Instant) -> Option<Duration> {
        self.shards.resize(out.shards(), Behind::default());
        let ledger_waits = out.waits_for_ledger();
        let mut wait_for_it = self.ledger.look(ledger_waits, 0, now);
        let mut waiting = 0;
        for (shard, behind) in self.shards.iter_mut().enumerate() {
            let waits = out.waits_for_shard(shard);
            waiting += usize::from(waits);
            wait_for_it |= behind.look(waits, out.sent_to_shard(shard), now) && !ledger_waits;
        }
        if wait_for_it {
            return None;
        }
        // The shards get nothing while the ledger has not taken its part.
        if ledger_waits || waiting == self.shards.len() {
            if self.trickle.is_some_and(|next| now < next) {
                return None;
            }
            self.trickle = Some(now + TRICKLE);
            return Some(Duration::ZERO);
        }
        self.trickle = None;
        Some(if waiting > 0 { BUSY_POLL } else { POLL })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyrail_engine::handover::Refused;
    use std::cell::Cell;
    use std::rc::Rc;

    /// Room that the test gives.
    #[derive(Clone, Default)]
    struct Room(Rc<Cell<u32>>);

    impl Inbox for Room {
        type Message = ();

        fn offer(&self, message: ()) -> Result<(), Refused<()>> {
            let left = self.0.get().checked_sub(1).ok_or(Refused::Full(message))?;
            self.0.set(left);
            Ok(())
        }
    }

    struct Bench {
        ledger: Room,
        shards: [Room; 2],
        out: Handover<Room, Room>,
        pace: Pace,
        start: Instant,
    }

    fn bench() -> Bench {
        let (ledger, shards) = (Room::default(), [Room::default(), Room::default()]);
        let out = Handover::new(ledger.clone(), shards.clone());
        Bench { ledger, shards, out, pace: Pace::default(), start: Instant::now() }
    }

    impl Bench {
        fn at(&mut self, ms: u64) -> Option<u128> {
            assert!(self.out.flush().is_ok());
            self.pace.poll(&self.out, self.start + Duration::from_millis(ms)).map(|wait| wait.as_millis())
        }
    }

    #[test]
    fn a_shard_that_is_behind_is_waited_for_and_one_that_stands_still_is_not() {
        let mut bench = bench();
        assert_eq!(bench.at(0), Some(20));
        (0..3).for_each(|_| bench.out.give(0, ()));
        assert_eq!([bench.at(10), bench.at(109)], [None, None]);
        assert_eq!(bench.at(110), Some(1));
        // What the other one takes meanwhile changes nothing.
        for ms in 111..200 {
            bench.shards[1].0.set(1);
            bench.out.give(1, ());
            assert_eq!(bench.at(ms), Some(1), "after {ms} ms");
        }
        bench.shards[0].0.set(1);
        assert_eq!([bench.at(200), bench.at(299)], [None, None], "it lives");
        assert_eq!(bench.at(300), Some(1));
        bench.shards[0].0.set(9);
        assert_eq!(bench.at(301), Some(20));
    }

    #[test]
    fn a_little_is_read_when_nobody_takes_anything() {
        let mut bench = bench();
        bench.out.give(0, ());
        bench.out.give(1, ());
        assert_eq!([bench.at(0), bench.at(99)], [None, None]);
        assert_eq!([bench.at(100), bench.at(101), bench.at(109), bench.at(110)], [Some(0), None, None, Some(0)]);
        // As long as the ledger has not taken its part, it says nothing of a shard that it takes nothing.
        assert!(bench.out.tell(()).is_ok());
        assert_eq!([bench.at(111), bench.at(210), bench.at(211)], [None, None, Some(0)]);
        bench.ledger.0.set(9);
        bench.shards[1].0.set(9);
        assert_eq!(bench.at(212), Some(1));
    }
}
