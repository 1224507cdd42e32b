//! The breaker: stops a pipeline's messages while a service that its handler needs is down, and tries it with single ones.
//!
//! Each shard counts for itself, in [`Shard`](crate::shard::Shard), how many lanes ran lately and how many of them failed when they
//! ran last, and tells it now and then as a [`Tally`]. The decision is one for the pipeline, and is made here.
//!
//! What counts is lanes and not runs: a message that fails again and again is one lane. But where there is a backlog each lane runs
//! until a message of it fails, and then waits: so of the last runs as large a share must have failed, too.

use crate::message::{Failure, Now};
use crate::planted::Bug;
use crate::policy::{self, Policy};
use alloc::vec;
use alloc::vec::Vec;

/// So many parts of the window lie between two tallies of a shard.
const TALLIES: u64 = 15;
/// Runs are counted for so many of them: what ran well before a service went down must not hide that for a whole window.
pub(crate) const RECENT: usize = 5;
/// The share must hold for this part of the window: what passes by itself before most messages run again is no outage.
const HOLDS: u64 = 10;
/// So many probes that stand close it, if fewer have failed meanwhile.
const PROBES: u32 = 3;

/// How the lanes of a shard did lately.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tally {
    /// It is about the time since this order; see [`Order::Close`].
    pub since: u64,
    /// Lanes that ran.
    pub tried: u32,
    /// Those that failed when they ran last.
    pub failed: u32,
    /// Runs of the last third of the window.
    pub runs: u64,
    /// Those of them that failed.
    pub failed_runs: u64,
    /// One of the failures, if there is a new one.
    pub failure: Option<Failure>,
}

/// What a shard is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Messages run. They are counted from here on.
    Close {
        /// The order's number.
        number: u64,
    },
    /// No message runs.
    Open,
    /// One message may run, to be answered with this number.
    Probe {
        /// The order's number.
        number: u64,
        /// It must be one that has not failed before.
        fresh: bool,
    },
}

/// What came of a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probed {
    /// The message succeeded, or the handler said that it never will.
    Stood,
    /// It failed, and waits again.
    Failed,
    /// There was none to run.
    Nothing,
}

/// What a shard has to tell of it; see [`Shard::news`](crate::shard::Shard::news).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// Its counts.
    Tally(Tally),
    /// The answer to [`Order::Probe`].
    Probed {
        /// The order's number.
        number: u64,
        /// What came of it.
        probed: Probed,
        /// Lanes that hold a message in this shard, whether it may run or waits.
        lanes: u32,
    },
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// A shard is to be told.
    Tell(usize, Order),
    /// It has opened.
    Opened {
        /// Lanes that ran lately.
        tried: u32,
        /// Those that failed when they ran last.
        failed: u32,
        /// One of the failures.
        failure: Failure,
    },
    /// It has closed.
    Closed {
        /// How long it was not, in milliseconds.
        open_ms: u64,
        /// How many messages were tried.
        probes: u32,
        /// Too few lanes were left that it could have opened for.
        few: bool,
    },
}

/// How it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Messages run.
    Closed,
    /// Single messages run.
    Probing,
    /// None runs.
    Open,
}

/// A look at whether the service is back.
#[derive(Debug, Default)]
struct Trial {
    /// The probe that is under way.
    awaited: Option<u64>,
    /// Whether messages that failed before are taken, too: once no shard has another one.
    any: bool,
    /// So many shards in a row had none.
    without: usize,
    /// So many probes stood.
    stood: u32,
    /// So many failed. One that fails where more have stood is its own message's trouble: where one key of three never succeeds,
    /// no three would stand in a row.
    failed: u32,
    /// When shards are asked again.
    again_ms: u64,
}

#[derive(Debug)]
enum State {
    Closed { suspected_since_ms: Option<u64> },
    Open { until_ms: u64 },
    Probing(Trial),
}

/// Decides for one pipeline.
#[derive(Debug)]
pub struct Breaker {
    policy: Policy,
    breaker: policy::Breaker,
    state: State,
    /// The last one of each shard.
    tallies: Vec<Tally>,
    /// One of the last failures.
    failure: Failure,
    /// The number of the last order.
    number: u64,
    /// That of the last [`Order::Close`]; 0: it never opened.
    closed: u64,
    /// The shard that is asked next.
    turn: usize,
    opened_ms: u64,
    probes: u32,
    /// Lanes of each shard that hold a message, by its last answer since it opened.
    lanes: Vec<Option<u32>>,
    /// Since when they are fewer in all than it opens for.
    few_since_ms: Option<u64>,
}

impl Breaker {
    /// One that is closed; `None`: the policy has none.
    #[must_use]
    pub fn new(policy: &Policy, shards: u32) -> Option<Self> {
        let breaker = policy.breaker.clone()?;
        let mut tallies = Vec::new();
        tallies.resize_with(shards.max(1) as usize, Tally::default);
        Some(Self {
            policy: policy.clone(),
            breaker,
            state: State::Closed { suspected_since_ms: None },
            tallies,
            failure: Failure::default(),
            number: 0,
            closed: 0,
            turn: 0,
            opened_ms: 0,
            probes: 0,
            lanes: vec![None; shards.max(1) as usize],
            few_since_ms: None,
        })
    }

    /// How it stands.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        match self.state {
            State::Closed { .. } => Phase::Closed,
            State::Open { .. } => Phase::Open,
            State::Probing(_) => Phase::Probing,
        }
    }

    /// How long it is open before a message is tried, in milliseconds.
    #[must_use]
    pub const fn pause_ms(&self) -> u64 {
        self.breaker.pause_ms
    }

    /// A shard tells something.
    pub fn hear(&mut self, shard: usize, news: News, now: Now, acts: &mut Vec<Act>) {
        match news {
            News::Tally(tally) => self.tallied(shard, tally, now, acts),
            News::Probed { number, probed, lanes } => self.probed(number, &probed, (shard, lanes), now, acts),
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Now, acts: &mut Vec<Act>) {
        match &self.state {
            State::Open { until_ms } if now.steady_ms >= *until_ms => {
                self.state = State::Probing(Trial::default());
                self.ask(acts);
            }
            State::Probing(trial)
                if (trial.awaited.is_none() || self.policy.has(Bug::ProbeTogether))
                    && now.steady_ms >= trial.again_ms =>
            {
                self.ask(acts);
            }
            State::Closed { .. } | State::Open { .. } | State::Probing(_) => {}
        }
    }

    fn tallied(&mut self, shard: usize, mut tally: Tally, now: Now, acts: &mut Vec<Act>) {
        let State::Closed { suspected_since_ms } = &mut self.state else { return };
        // What it counted before it heard of the last closing says nothing of the time since.
        if tally.since != self.closed {
            return;
        }
        if let Some(failure) = tally.failure.take() {
            self.failure = failure;
        }
        let Some(own) = self.tallies.get_mut(shard) else { return };
        *own = tally;
        let tried: u32 = self.tallies.iter().map(|t| t.tried).sum();
        let failed: u32 = self.tallies.iter().map(|t| t.failed).sum();
        let [runs, failed_runs] =
            [|t: &Tally| t.runs, |t: &Tally| t.failed_runs].map(|of| self.tallies.iter().map(of).sum::<u64>());
        let fails = |failed: f64, all: f64| failed >= self.breaker.failures * all;
        let by_runs = fails(failed_runs as f64, runs as f64);
        let share = fails(f64::from(failed), f64::from(tried)) && by_runs;
        if failed < self.breaker.least_lanes || !share {
            *suspected_since_ms = None;
            return;
        }
        let since_ms = *suspected_since_ms.get_or_insert(now.steady_ms);
        if now.steady_ms.saturating_sub(since_ms) < self.breaker.window_ms / HOLDS {
            return;
        }
        (self.opened_ms, self.probes) = (now.steady_ms, 0);
        (self.few_since_ms, self.lanes) = (None, vec![None; self.lanes.len()]);
        self.state = State::Open { until_ms: now.steady_ms.saturating_add(self.breaker.pause_ms) };
        acts.push(Act::Opened { tried, failed, failure: self.failure.clone() });
        acts.extend((0..self.tallies.len()).map(|shard| Act::Tell(shard, Order::Open)));
    }

    fn probed(&mut self, number: u64, probed: &Probed, (shard, lanes): (usize, u32), now: Now, acts: &mut Vec<Act>) {
        let shards = self.tallies.len();
        let State::Probing(trial) = &mut self.state else { return };
        if trial.awaited.take_if(|awaited| *awaited == number).is_none() {
            return;
        }
        self.turn = (self.turn + 1) % shards;
        if *probed == Probed::Nothing {
            trial.without += 1;
            if trial.without == shards {
                (trial.without, trial.any) = (0, !trial.any);
            }
            // All were asked for any.
            if trial.without == 0 && !trial.any {
                trial.again_ms = now.steady_ms.saturating_add(tally_ms(&self.breaker));
            }
        } else {
            self.probes += 1;
            let stood = trial.stood + u32::from(*probed == Probed::Stood);
            let failed = trial.failed + u32::from(*probed == Probed::Failed);
            *trial = Trial { stood, failed, ..Trial::default() };
        }
        let (stood, failed, waits) = (trial.stood, trial.failed, trial.again_ms > now.steady_ms);
        if stood >= PROBES && failed <= stood {
            self.close(false, now, acts);
        } else if self.has_long_been_few(shard, lanes, now) {
            self.close(true, now, acts);
        } else if failed > stood {
            self.state = State::Open { until_ms: now.steady_ms.saturating_add(self.breaker.pause_ms) };
        } else if !waits {
            self.ask(acts);
        }
    }

    /// Whether for a window there were fewer lanes with anything to run than it opens for.
    fn has_long_been_few(&mut self, shard: usize, lanes: u32, now: Now) -> bool {
        if let Some(own) = self.lanes.get_mut(shard) {
            *own = Some(lanes);
        }
        let all: Option<u32> = self.lanes.iter().copied().sum();
        if all.is_none_or(|all| all >= self.breaker.least_lanes) || self.policy.has(Bug::ProbeForEver) {
            self.few_since_ms = None;
            return false;
        }
        now.steady_ms.saturating_sub(*self.few_since_ms.get_or_insert(now.steady_ms)) >= self.breaker.window_ms
    }

    /// The next shard may run a message.
    fn ask(&mut self, acts: &mut Vec<Act>) {
        let State::Probing(trial) = &mut self.state else { return };
        self.number += 1;
        if self.policy.has(Bug::ProbeTogether) {
            self.turn = (self.turn + 1) % self.tallies.len();
        }
        trial.awaited = Some(self.number);
        acts.push(Act::Tell(self.turn, Order::Probe { number: self.number, fresh: !trial.any }));
    }

    fn close(&mut self, few: bool, now: Now, acts: &mut Vec<Act>) {
        self.number += 1;
        self.closed = self.number;
        self.state = State::Closed { suspected_since_ms: None };
        self.tallies.fill(Tally::default());
        let open_ms = now.steady_ms.saturating_sub(self.opened_ms);
        acts.push(Act::Closed { open_ms, probes: self.probes, few });
        let number = self.number;
        acts.extend((0..self.tallies.len()).map(|shard| Act::Tell(shard, Order::Close { number })));
    }
}

/// How long lies between two tallies of a shard.
pub(crate) const fn tally_ms(breaker: &policy::Breaker) -> u64 {
    if breaker.window_ms < TALLIES { 1 } else { breaker.window_ms / TALLIES }
}

#[cfg(test)]
mod tests;
