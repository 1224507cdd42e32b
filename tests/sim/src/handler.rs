//! The model's handler: what it does with a message stands in the message, what goes wrong around it in the faults.

use crate::env::Env;
use crate::record::{Plan as Script, Rec};
use crate::touch::{Running, Touch};
use crate::worker::{Mail, Store};
use keyrail_engine::message::{Failure, Ticket};
use keyrail_engine::shard::{Outcome, Plan};
use keyrail_engine::state;
use std::collections::BTreeSet;
use std::rc::Rc;

/// A call under way.
#[derive(Debug)]
pub(crate) struct Call {
    /// When it ends.
    pub(crate) ends_ms: u64,
    /// How long it took, in microseconds.
    pub(crate) took_us: u64,
    /// What comes of it.
    pub(crate) answer: Answer,
    /// It is a breaker's probe.
    pub(crate) probes: bool,
    /// It is of the version on trial.
    pub(crate) on_trial: bool,
    slots: Vec<(Ticket, Rc<Rec>)>,
    /// Its state, where handlers have any.
    state: Option<Running>,
    /// What each slot did with it, once the call has ended.
    touches: Vec<Option<Rc<Touch>>>,
}

impl Call {
    /// What it holds.
    pub(crate) fn slots(&self) -> &[(Ticket, Rc<Rec>)] {
        &self.slots
    }

    /// State is lent: some of its slots run at once, the others only when it ends.
    pub(crate) fn begin(&mut self, lent: state::Call, kept: &Rc<Store>, env: &mut Env) {
        let mut running = Running::begin(lent, &self.slots, &env.settings.policy.order);
        let until = env.rng.index(self.slots.len() + 1);
        running.run(until, &self.slots, env.now().wall_ms, &**kept);
        self.state = Some(running);
    }

    /// All of its slots have run. Gives state back, with what the outputs of each slot tell of it.
    pub(crate) fn end(&mut self, kept: &Rc<Store>, env: &Env) -> Option<(state::Call, Vec<u64>)> {
        let (lent, touches) = self.state.take()?.end(&self.slots, env.now().wall_ms, &**kept);
        let said = touches.iter().map(|touch| touch.as_ref().map_or(0, |touch| touch.told())).collect();
        self.touches = touches;
        Some((lent, said))
    }
}

/// What comes of a call.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The handler returned, perhaps with a wrong number of outcomes.
    Outcomes(Vec<Outcome>),
    /// It did not.
    Failed {
        /// It was stopped at its deadline.
        timeout: bool,
    },
}

/// A failure that says this.
pub(crate) fn words(code: &str) -> Failure {
    Failure { code: code.to_string(), detail: String::new() }
}

/// Decides how long the call takes and what comes of it.
pub(crate) fn call(
    slots: Vec<(Ticket, Rc<Rec>, u32)>,
    calls_before: &[u32],
    plan: Plan,
    worker: u8,
    on_trial: bool,
    env: &mut Env,
) -> Call {
    let now_ms = env.now_ms;
    let slow = env.afflictions[usize::from(worker)].slow_call_ms.take();
    let ills = env.afflictions[usize::from(worker)].clone();
    let mut lasts_ms = slow.unwrap_or_else(|| env.rng.below(3));
    let mut trap = ills.trapping_until_ms > now_ms;
    let (mut hangs, mut miscounts) = (false, false);
    let mut outcomes = Vec::with_capacity(slots.len() + 1);
    for ((_, rec, attempt), calls) in slots.iter().zip(calls_before) {
        match rec.plan {
            Script::Trap(times) => trap |= *calls < times,
            Script::Hangs => hangs = true,
            Script::WrongCount(times) => miscounts |= *calls < times,
            Script::Slow(ms) => lasts_ms += ms,
            _ => {}
        }
        let outcome = if ills.failing_until_ms > now_ms {
            Outcome::Retry { failure: words("failing"), delay_ms: None, outage: false }
        } else if ills.outage_until_ms > now_ms {
            Outcome::Retry { failure: words("down"), delay_ms: None, outage: true }
        } else {
            outcome(rec, *attempt, *calls)
        };
        outcomes.push(outcome);
    }
    if on_trial {
        trap |= go_wrong(&mut outcomes, env);
    }
    // Where a call can't be interrupted it runs past its deadline.
    let stopped = lasts_ms > plan.deadline_ms && env.rng.percent(70);
    let answer = if trap {
        Answer::Failed { timeout: false }
    } else if hangs || stopped {
        lasts_ms = plan.deadline_ms;
        Answer::Failed { timeout: true }
    } else {
        if miscounts {
            outcomes.push(Outcome::Done);
        }
        Answer::Outcomes(outcomes)
    };
    let took_us = lasts_ms * 1_000 + env.rng.within(20, 900);
    let slots = slots.into_iter().map(|(ticket, rec, _)| (ticket, rec)).collect();
    Call {
        ends_ms: now_ms + lasts_ms,
        took_us,
        answer,
        probes: false,
        on_trial,
        slots,
        state: None,
        touches: Vec::new(),
    }
}

/// A version on trial that is not as good as the other. `true`: it traps.
fn go_wrong(outcomes: &mut [Outcome], env: &mut Env) -> bool {
    let phase = env.settings.trials.iter().rfind(|phase| phase.at_ms <= env.now_ms);
    let bad_percent = phase.map_or(0, |phase| phase.bad_percent);
    let mut trap = false;
    for outcome in outcomes {
        if !env.rng.percent(bad_percent) {
            continue;
        }
        *outcome = match env.rng.below(5) {
            0 => Outcome::DeadLetter(words("new and wrong")),
            1 => Outcome::Oversized(words("new and big")),
            2 => Outcome::Retry { failure: words("new and down"), delay_ms: None, outage: true },
            _ => Outcome::Retry { failure: words("new and late"), delay_ms: Some(50), outage: false },
        };
        trap |= env.rng.percent(10);
    }
    trap
}

fn outcome(rec: &Rec, attempt: u32, calls: u32) -> Outcome {
    match rec.plan {
        Script::Skip => Outcome::Skip,
        Script::Retry { times, delay_ms } if attempt <= times => {
            Outcome::Retry { failure: words("again"), delay_ms, outage: false }
        }
        Script::Outage(times) if calls < times => {
            Outcome::Retry { failure: words("down"), delay_ms: None, outage: true }
        }
        Script::Fails => Outcome::Retry { failure: words("never"), delay_ms: None, outage: false },
        Script::DeadLetter => Outcome::DeadLetter(words("no")),
        Script::Oversized => Outcome::Oversized(words("big")),
        _ => Outcome::Done,
    }
}

/// Tells the oracle what the handler answered. What stands behind a failed message of its lane counts for nothing.
pub(crate) fn tell_oracle(call: &Call, mail: &Mail, env: &mut Env) {
    let now = env.now();
    match &call.answer {
        Answer::Outcomes(outcomes) if outcomes.len() == call.slots.len() => {
            let mut broken = BTreeSet::new();
            for (slot, ((ticket, rec), outcome)) in call.slots.iter().zip(outcomes).enumerate() {
                let lane = (ticket.task(), ticket.lane);
                if broken.contains(&lane) {
                    continue;
                }
                if !matches!(outcome, Outcome::Done | Outcome::Skip) {
                    broken.insert(lane);
                }
                let run = mail.run(ticket.partition, ticket.epoch);
                let believed = !call.on_trial || matches!(outcome, Outcome::Done | Outcome::Skip);
                if believed {
                    env.oracle.answered(run, rec, outcome, call.probes, now);
                }
                if believed && !call.probes && matches!(outcome, Outcome::Retry { .. }) {
                    env.oracle.lane_failed(mail.process, ticket, now);
                }
                if let Some(touch) = call.touches.get(slot).and_then(Option::as_ref) {
                    let (stands, latest_wall_ms) =
                        (matches!(outcome, Outcome::Done | Outcome::Skip), env.latest_wall());
                    env.oracle.touched(run, (rec.partition, rec.offset), touch, (stands, latest_wall_ms));
                }
            }
        }
        Answer::Outcomes(_) | Answer::Failed { .. } if call.on_trial => {}
        Answer::Outcomes(_) | Answer::Failed { .. } => {
            let timeout = matches!(call.answer, Answer::Failed { timeout: true });
            if let [(ticket, rec)] = &call.slots[..] {
                env.oracle.failed_alone(mail.run(ticket.partition, ticket.epoch), rec, timeout, call.probes, now);
                if !call.probes {
                    env.oracle.lane_failed(mail.process, ticket, now);
                }
            }
        }
    }
}
