//! What a shard's shell knows of a version on trial.

use super::Mail;
use crate::env::Env;
use crate::handler::{Answer, Call};
use crate::invariants::name;
use crate::record::{Rec, index_of};
use keyrail_engine::message::{Epoch, Partition, Ticket};
use keyrail_engine::policy::Order;
use keyrail_engine::shard::{Outcome, Plan, Shard, Trial};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// One message.
type Place = (Partition, i64);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Trying {
    /// The phase that this shard follows.
    phase: usize,
    /// Of it: what is on trial.
    trial: Option<Trial>,
    /// By task.
    epochs: BTreeMap<Partition, Epoch>,
    /// Failed on it: the other version has the word.
    failed: BTreeSet<Place>,
    /// Are to stand or fail on the other.
    overruled: u64,
}

impl Trying {
    /// Each shard hears of a new version, or of the end of its trial, at a time of its own; never while it calls.
    pub(super) fn follow<M>(&mut self, shard: &mut Shard<M>, env: &mut Env) {
        let phases = &env.settings.trials;
        let phase = phases.iter().take_while(|phase| phase.at_ms <= env.now_ms).count();
        if phase == self.phase || !env.rng.percent(30) {
            return;
        }
        self.phase = phase;
        let phase = &env.settings.trials[phase - 1];
        shard.serve(phase.serving);
        self.trial = phase.share.map(|share| Trial::new(phase.version, share, u64::from(phase.version)));
        shard.try_out(self.trial);
        self.failed.clear();
    }

    /// Whether the call that begins is the trial's. A key sees one version, but for what failed.
    pub(super) fn begin(&self, plan: Plan, slots: &[(Ticket, Rc<Rec>, u32)], probes: bool, env: &mut Env) -> bool {
        let Some(trial) = self.trial else { return false };
        let on_trial = plan.version == trial.version();
        env.trial_calls += u64::from(on_trial);
        for (ticket, rec, _) in slots {
            let at = (index_of(ticket.partition), ticket.offset);
            let failed = self.failed.contains(&(ticket.partition, ticket.offset));
            if failed && on_trial {
                env.oracle.violated(name::TRIAL, Some(at), "runs again on the version that it failed on".into());
            }
            if on_trial && probes {
                env.oracle.violated(name::TRIAL, Some(at), "is a breaker's probe of a version on trial".into());
            }
            if !failed && !probes && rec.offset >= 0 {
                env.oracle.sided(trial.version(), ticket, at, on_trial);
            }
        }
        on_trial
    }

    /// A call has ended: what failed on the version on trial runs on the other one, and what has run there is decided.
    pub(super) fn end(&mut self, call: &Call) {
        let place = |ticket: &Ticket| (ticket.partition, ticket.offset);
        match &call.answer {
            _ if self.trial.is_none() => {}
            Answer::Outcomes(outcomes) if outcomes.len() == call.slots().len() => {
                let mut broken = BTreeSet::new();
                for ((ticket, _), outcome) in call.slots().iter().zip(outcomes) {
                    let stands = matches!(outcome, Outcome::Done | Outcome::Skip);
                    if broken.contains(&(ticket.task(), ticket.lane)) {
                        continue;
                    }
                    if !stands {
                        broken.insert((ticket.task(), ticket.lane));
                    }
                    if call.on_trial && !stands {
                        self.failed_here(ticket);
                    } else if !call.on_trial {
                        self.overruled += u64::from(self.failed.remove(&place(ticket)));
                    }
                }
            }
            Answer::Outcomes(_) | Answer::Failed { .. } => {
                if let [(ticket, _)] = call.slots() {
                    if call.on_trial {
                        self.failed_here(ticket);
                    } else {
                        self.overruled += u64::from(self.failed.remove(&place(ticket)));
                    }
                }
            }
        }
    }

    /// It failed on the version on trial, unless that counts for nothing any more.
    fn failed_here(&mut self, ticket: &Ticket) {
        if self.epochs.get(&ticket.task()) == Some(&ticket.epoch) {
            self.failed.insert((ticket.partition, ticket.offset));
        }
    }

    /// A partition starts: of an earlier assignment of its task nothing is known any more.
    pub(super) fn opened(&mut self, order: &Order, partition: Partition, epoch: Epoch) {
        if self.epochs.insert(order.task(partition), epoch) != Some(epoch) {
            self.forget(order, partition);
        }
    }

    /// It is taken away.
    pub(super) fn closed(&mut self, order: &Order, partition: Partition, epoch: Epoch) {
        let task = order.task(partition);
        if self.epochs.get(&task).is_some_and(|present| *present <= epoch) {
            self.epochs.remove(&task);
            self.forget(order, partition);
        }
    }

    fn forget(&mut self, order: &Order, of: Partition) {
        self.failed.retain(|(partition, _)| order.task(*partition) != order.task(of));
    }

    /// The engine's own account agrees.
    pub(super) fn check<M>(&mut self, shard: &mut Shard<M>, mail: &Mail, env: &mut Env) {
        let Some(evidence) = shard.evidence() else { return };
        let decided = std::mem::take(&mut self.overruled);
        env.overruled += evidence.overruled;
        if evidence.overruled + evidence.upheld != decided {
            let (overruled, upheld) = (evidence.overruled, evidence.upheld);
            let what =
                format!("worker {} counts {overruled} overruled and {upheld} upheld of {decided} decided", mail.worker);
            env.oracle.violated(name::TRIAL, None, what);
        }
    }
}
