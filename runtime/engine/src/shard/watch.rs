//! A shard's part in the breaker: counts lanes that run and fail, and stands still while it is open.
//!
//! Lanes are counted in a table of fixed size, by their hash: a place knows how the last run of any of its lanes ended and until
//! when that counts. So a message that runs costs one write there, and there is nothing to bound. Where there are more lanes
//! than places, the table is a sample of them.

use super::lanes::Phase;
use super::{Outcome, Shard};
use crate::breaker::{News, Order, Probed, RECENT, Tally, tally_ms};
use crate::message::{Failure, Now, Ticket};
use crate::planted::Bug;
use crate::policy::Policy;
use crate::retry::split_mix;
use alloc::boxed::Box;
use alloc::vec;

/// Places in the table, a power of two.
const PLACES: usize = 512;

/// How a message of a lane did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ran {
    /// It succeeded, or came to an end that no service is to blame for.
    Well,
    /// It failed.
    Failed,
    /// It failed by running out of time.
    TimedOut,
}

/// What a shard may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leave {
    /// Run what is ready.
    All,
    /// Run one message, perhaps only one that has not failed before.
    One { fresh: bool },
    /// Run nothing.
    None,
}

#[derive(Debug)]
pub(super) struct Watch {
    /// Until when it counts, in milliseconds of the steady clock, twice; and 1 if it failed. 0: nothing.
    places: Box<[u64]>,
    window_ms: u64,
    /// So long does a time-out count: as many lanes as it needs must be able to run into theirs, one after the other.
    slow_ms: u64,
    interval_ms: u64,
    /// Runs, and those that failed, between the last tallies; the present place is the first.
    runs: [(u64, u64); RECENT],
    /// When the next tally is due, if there is anything to tell.
    next_ms: u64,
    /// Something ran, or the last tally was not empty.
    live: bool,
    /// The last order that closed it.
    since: u64,
    open: bool,
    /// The probe that may begin.
    granted: Option<(u64, bool)>,
    /// The one that runs.
    probing: Option<u64>,
    answer: Option<(u64, Probed)>,
    failure: Option<Failure>,
}

impl Watch {
    pub(super) fn new(policy: &Policy) -> Option<Self> {
        let breaker = policy.breaker.as_ref()?;
        let slow_ms = policy.timeout_ms.saturating_mul(u64::from(breaker.least_lanes));
        Some(Self {
            places: vec![0; PLACES].into_boxed_slice(),
            window_ms: breaker.window_ms,
            slow_ms: slow_ms.max(breaker.window_ms),
            interval_ms: tally_ms(breaker),
            runs: [(0, 0); RECENT],
            next_ms: 0,
            live: false,
            since: 0,
            open: false,
            granted: None,
            probing: None,
            answer: None,
            failure: None,
        })
    }

    /// A message ran. While it is open only probes run, and they are told one by one.
    fn note(&mut self, ticket: &Ticket, ran: Ran, now: Now) {
        if self.open {
            return;
        }
        let (counts_ms, failed) = match ran {
            Ran::Well => (self.window_ms, 0),
            Ran::Failed => (self.window_ms, 1),
            Ran::TimedOut => (self.slow_ms, 1),
        };
        let [(runs, failed_runs), ..] = &mut self.runs;
        (*runs, *failed_runs) = (*runs + 1, *failed_runs + failed);
        let task = ticket.task();
        let number = u64::from(task.topic) << 32 | u64::from(task.number.cast_unsigned());
        // The lane is a keyed hash; some of its bits, the same for all, chose the shard.
        let spread = (ticket.lane ^ number.rotate_left(20)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let place = (spread >> 32) as usize & (PLACES - 1);
        if let Some(place) = self.places.get_mut(place) {
            *place = now.steady_ms.saturating_add(counts_ms) << 1 | failed;
        }
        self.live = true;
    }

    fn tally(&mut self, now: Now) -> Tally {
        let mut tally = Tally { since: self.since, failure: self.failure.take(), ..Tally::default() };
        for place in &mut self.places {
            if *place >> 1 > now.steady_ms {
                tally.tried += 1;
                tally.failed += (*place & 1) as u32;
            } else {
                *place = 0;
            }
        }
        for (runs, failed) in &self.runs {
            (tally.runs, tally.failed_runs) = (tally.runs + runs, tally.failed_runs + failed);
        }
        self.runs.rotate_right(1);
        self.runs[0] = (0, 0);
        tally
    }

    fn turn(&mut self, open: bool) {
        self.open = open;
        (self.granted, self.failure, self.live) = (None, None, false);
        self.places.fill(0);
        self.runs = [(0, 0); RECENT];
    }
}

impl<M> Shard<M> {
    /// The breaker orders something.
    pub fn heed(&mut self, order: Order) {
        let Some(watch) = &mut self.watch else { return };
        match order {
            Order::Close { number } => {
                watch.turn(false);
                watch.since = number;
            }
            Order::Open => watch.turn(true),
            Order::Probe { number, fresh } => watch.granted = Some((number, fresh)),
        }
    }

    /// What the breaker is to hear, each once. To be asked after [`Shard::next`], and again until there is nothing.
    pub fn news(&mut self, now: Now) -> Option<News> {
        let lanes = u32::try_from(self.lanes.len()).unwrap_or(u32::MAX);
        let watch = self.watch.as_mut()?;
        if let Some((number, probed)) = watch.answer.take() {
            return Some(News::Probed { number, probed, lanes });
        }
        if watch.open || !watch.live || now.steady_ms < watch.next_ms {
            return None;
        }
        watch.next_ms = now.steady_ms.saturating_add(watch.interval_ms);
        let tally = watch.tally(now);
        watch.live = tally.tried > 0;
        Some(News::Tally(tally))
    }

    /// When the next tally is due.
    pub(super) fn next_tally_ms(&self) -> Option<u64> {
        self.watch.as_ref().filter(|watch| watch.live && !watch.open).map(|watch| watch.next_ms)
    }

    /// What may run.
    pub(super) fn leave(&self, now: Now) -> Leave {
        let Some(watch) = self.watch.as_ref().filter(|watch| watch.open) else { return Leave::All };
        let is_due = || self.due.first().is_some_and(|(due_ms, _)| *due_ms <= now.steady_ms);
        match watch.granted {
            Some((_, fresh)) => Leave::One { fresh },
            None if self.policy.has(Bug::RunDueWhileOpen) && is_due() => Leave::All,
            None => Leave::None,
        }
    }

    /// A probe begins with what runs now, or there is nothing.
    pub(super) fn begin_probe(&mut self) {
        let runs = !self.running.is_empty();
        let Some(watch) = &mut self.watch else { return };
        let Some((number, _)) = watch.granted.take() else { return };
        if runs {
            watch.probing = Some(number);
        } else {
            watch.answer = Some((number, Probed::Nothing));
        }
    }

    /// The probe under way has ended, if there is one. To be told before its message is moved.
    pub(super) fn end_probe(&mut self, probed: Probed) -> bool {
        let gone = self.policy.has(Bug::ForgetProbeOfRevoked)
            && self
                .running
                .iter()
                .any(|slot| self.epochs.get(&slot.item.ticket.task()) != Some(&slot.item.ticket.epoch));
        let Some(watch) = &mut self.watch else { return false };
        let Some(number) = watch.probing.take() else { return false };
        watch.answer = Some((number, probed)).filter(|_| !gone);
        !self.policy.has(Bug::ProbeCosts)
    }

    /// A lane whose first message has not failed comes first.
    pub(super) fn prefer_fresh(&mut self) -> bool {
        let lanes = &mut self.lanes;
        let fresh = |lane: &mut super::lanes::Lane<M>| {
            lane.phase == Phase::Ready
                && lane.drained.is_none()
                && lane.queue.front().is_some_and(|head| head.trouble.is_none())
        };
        let Some(at) = self.ready.iter().position(|place| lanes.get(*place).is_some_and(fresh)) else { return false };
        if let Some(place) = self.ready.remove(at) {
            self.ready.push_front(place);
        }
        true
    }

    pub(super) fn note_run(&mut self, ticket: &Ticket, ran: Ran, now: Now) {
        if let Some(watch) = &mut self.watch {
            if ran != Ran::Well && self.policy.has(Bug::CountRuns) {
                let lane = split_mix(&mut self.random);
                return watch.note(&Ticket { lane, ..*ticket }, ran, now);
            }
            watch.note(ticket, ran, now);
        }
    }

    pub(super) fn note_failed_run(&mut self, ticket: &Ticket, ran: Ran, failure: &Failure, now: Now) {
        self.note_run(ticket, ran, now);
        let words = self.watch.as_mut().filter(|watch| ran != Ran::Well && watch.failure.is_none() && !watch.open);
        if let Some(watch) = words {
            watch.failure = Some(failure.clone());
        }
    }
}

/// What an answer for the one slot of a probe means.
pub(super) fn probed(outcomes: &[Outcome]) -> Probed {
    let failed = outcomes.iter().any(|outcome| matches!(outcome, Outcome::Retry { .. }));
    if failed { Probed::Failed } else { Probed::Stood }
}
