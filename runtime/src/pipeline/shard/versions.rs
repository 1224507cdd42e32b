//! The versions of the handler that a shard calls: the one that serves, and the one on trial beside it.

use super::Worker;
use crate::admin::metrics::{ClosedReason, TrialResult};
use crate::pipeline::serving::{LineUp, Numbered, Serving};
use crate::pipeline::show::readable;
use crate::wasm::{Handler, Instance};

/// A version that is called here.
struct Called {
    version: Numbered,
    /// Between its calls.
    instance: Option<Instance>,
}

/// See the module.
pub(super) struct Versions {
    /// What was last followed; `None`: nothing yet.
    edition: Option<u32>,
    serving: Called,
    trial: Option<Called>,
    /// The version that the batch under way is of.
    present: u32,
}

impl Versions {
    pub(super) fn of(serving: &Serving) -> Self {
        let LineUp { serving, .. } = serving.line_up();
        let present = serving.number;
        Self { edition: None, serving: Called { version: serving, instance: None }, trial: None, present }
    }

    /// The one that the batch under way is of.
    fn present(&mut self) -> &mut Called {
        match &mut self.trial {
            Some(trial) if trial.version.number == self.present => trial,
            _ => &mut self.serving,
        }
    }

    pub(super) fn is_on_trial(&self) -> bool {
        self.trial.as_ref().is_some_and(|trial| trial.version.number == self.present)
    }

    pub(super) fn handler(&mut self) -> &Handler {
        &self.present().version.handler
    }

    /// The batch that begins is of this version. Gives its instance, if there is one.
    pub(super) fn begin(&mut self, number: u32) -> Option<Instance> {
        self.present = number;
        self.present().instance.take()
    }

    pub(super) fn keep(&mut self, instance: Instance) {
        self.present().instance = Some(instance);
    }

    /// Takes another line-up on. Instances of what stays in it are kept; gives how many are closed.
    fn take_on(&mut self, line_up: LineUp) -> u64 {
        let LineUp { edition, serving, trial } = line_up;
        let before = self.trial.iter_mut().chain([&mut self.serving]);
        let mut known: Vec<(u32, Instance)> =
            before.filter_map(|called| Some((called.version.number, called.instance.take()?))).collect();
        let mut called = |version: Numbered| {
            let at = known.iter().position(|(number, _)| *number == version.number);
            let instance = at.map(|at| known.swap_remove(at).1);
            Called { version, instance }
        };
        self.serving = called(serving);
        self.trial = trial.map(|(_, version)| called(version));
        self.edition = Some(edition);
        known.len() as u64
    }
}

impl Worker {
    /// Between two batches a new version takes over, or begins or ends its trial.
    pub(super) fn follow(&mut self) {
        if Some(self.shift.serving.edition()) == self.versions.edition {
            return;
        }
        let line_up = self.shift.serving.line_up();
        self.shift.engine.serve(line_up.serving.number);
        self.shift.engine.try_out(line_up.trial.as_ref().map(|(trial, _)| *trial));
        let closed = self.versions.take_on(line_up);
        self.shift.metrics.instances_closed.add(ClosedReason::Swapped, closed);
    }

    /// Tells what the last call has shown of a version on trial, before what it has settled leaves this thread.
    pub(super) fn tell_evidence(&mut self) {
        let Some(evidence) = self.shift.engine.evidence() else { return };
        let counts = &self.shift.metrics.trial_messages;
        counts.add(TrialResult::Ran, evidence.trial.messages);
        counts.add(TrialResult::Overruled, evidence.overruled);
        counts.add(TrialResult::Upheld, evidence.upheld);
        let (settled, topics) = (&self.settled, &self.shift.setup.topics);
        self.shift.serving.tell(evidence, |overruled| {
            let (at, offset) = (overruled.ticket.partition, overruled.ticket.offset);
            let topic = topics.get(at.topic as usize).map_or("", String::as_str);
            let key = settled.iter().find(|settled| settled.ticket == overruled.ticket);
            let key = key.and_then(|settled| settled.message.record.key());
            let place = format!("{topic}:{}:{offset}", at.number);
            if key.is_some() { format!("{place}, key {:?}", readable(key)) } else { place }
        });
    }

    /// The version on trial can't be opened: it is rolled back, and its messages run on the one that serves.
    pub(super) fn trial_unopened(&mut self, why: &str) {
        self.shift.engine.put_off();
        self.shift.serving.unopened(self.versions.present, why);
    }
}
