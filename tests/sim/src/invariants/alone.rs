//! Without transactions: what is parked, record by record. It is in its retry topic before a commit covers it; it leaves that when all
//! it did is written, in the order of its key; and it is as it was decided.

use super::facts::End;
use super::{Oracle, RunId, name};
use crate::env::ParkRecord;
use keyrail_engine::parking::Waiting;
use keyrail_engine::policy::Guarantee;

impl Oracle {
    pub(super) fn parks_alone(&self) -> bool {
        self.policy.guarantee == Guarantee::AtLeastOnce && self.policy.parks()
    }

    /// Somebody who had lost its partition wrote a record of this message, and nobody who has it may know: it may run once more, at
    /// any time, or be taken for resolved.
    pub(super) fn is_stray(&self, at: (u16, i64)) -> bool {
        self.parks.strays.contains(&at)
    }

    /// Something is parked that its owner knows of.
    #[must_use]
    pub fn waits(&self) -> bool {
        self.parks_alone() && self.parked().any(|(at, ..)| !self.is_stray(at))
    }

    /// A process is assigned a partition.
    pub fn assigned(&mut self, process: u16, partition: u16, run: RunId) {
        self.parks.assigned.insert((process, partition), run);
    }

    /// Whether an assignment of this process is over: it was given another one since, or somebody else has started the partition.
    #[must_use]
    pub fn is_over(&self, process: u16, run: RunId, partition: u16) -> bool {
        let latest = self.latest.get(&partition).map(|latest| self.run(*latest).process);
        let again = self.parks.assigned.get(&(process, partition)).is_some_and(|first| run < *first);
        again || latest.is_some_and(|latest| latest != process)
    }

    /// A record stands in a retry topic. `stray`: another process has the partition.
    pub fn park_written(&mut self, record: &ParkRecord, stray: bool) {
        let (at, run) = ((record.rec.partition, record.rec.offset), record.run);
        if stray {
            self.parks.strays.insert(at);
        }
        match &record.waiting {
            Some(waiting) => self.waits_alone(at, run, waiting),
            None => self.resolved_alone(at, run),
        }
    }

    fn waits_alone(&mut self, at: (u16, i64), run: RunId, waiting: &Waiting) {
        let local = *self.local(run, at.1);
        if local.end != Some(End::Parked) {
            self.violated(name::FATE, Some(at), format!("is parked, and ended as {:?}", local.end));
        }
        // One that came again is written as it was.
        let stood = self.parks.of(at).map(|(_, waiting)| waiting.clone());
        let before = stood.as_ref().filter(|_| local.calls == 0).map(|waiting| waiting.history.attempts);
        let attempts = before.unwrap_or(local.attempts + u32::from(local.oversized));
        let stray = self.is_stray(at);
        if waiting.history.attempts != attempts && !stray {
            let what = format!("is parked with {} attempts, and had {attempts}", waiting.history.attempts);
            self.violated(name::FATE, Some(at), what);
        }
        if !stray {
            self.parks.note(at.0);
        }
        self.judge_held(at, waiting, local.oversized);
        if !stray && stood.is_none_or(|stood| stood.number != waiting.number) {
            self.judge_place(at, run, waiting.number);
        }
        self.parks.put(at, run, waiting.clone());
        let local = self.local(run, at.1);
        (local.settled, local.released) = (false, false);
    }

    /// What is parked newly stands behind all of its key that this assignment has parked before it.
    fn judge_place(&mut self, at: (u16, i64), run: RunId, number: u64) {
        let order = self.local(run, at.1).order;
        let before = self.places_of(at).filter(|(offset, other)| {
            let by = |(of, _): &(RunId, Waiting)| *of == run;
            let own = self.parks.of((at.0, *offset)).is_some_and(by);
            let earlier = self.locals.get(&(run, *offset)).is_some_and(|local| local.order < order);
            *offset != at.1 && *other >= number && own && earlier
        });
        if let Some((offset, other)) = before.max() {
            let what = format!("is parked as number {number} of its key, and offset {offset} has number {other}");
            self.violated(name::ORDER, Some(at), what);
        }
    }

    fn resolved_alone(&mut self, at: (u16, i64), run: RunId) {
        let local = *self.local(run, at.1);
        let Some(fact) = self.look(at.0, at.1) else { return };
        let (all, covered) = (fact.all_outputs(), fact.covered);
        let written = match local.end {
            Some(End::Done) => local.seen == all && (all != 0 || local.done) || local.letter && fact.undeliverable,
            Some(End::Letter) => local.letter,
            Some(End::Skipped | End::Discarded) => true,
            Some(End::Duplicate) => fact.suppressed,
            Some(End::Parked) => local.letter && fact.undeliverable,
            Some(End::Known | End::Buried) | None => false,
        };
        if !written {
            let what = format!("leaves its retry topic as {:?} before all of its effects are written", local.end);
            self.violated(name::LOST, Some(at), what);
        }
        self.judge_resolved(at, run);
        let Some((_, stood)) = self.parks.take(at) else { return };
        // What can't be written can't wait for those before it either.
        let waits = !matches!(local.end, Some(End::Parked));
        let unresolved = self.places_of(at).find(|(offset, number)| {
            let other = self.locals.get(&(run, *offset));
            let resolved =
                other.is_some_and(|other| other.order < local.order && !matches!(other.end, Some(End::Parked) | None));
            // Of one that does not come again yet this assignment knows nothing.
            let covered = self.look(at.0, *offset).is_some_and(|fact| fact.covered);
            *number < stood.number && covered && !resolved && !self.is_stray((at.0, *offset))
        });
        if let Some((offset, _)) = unresolved.filter(|_| waits && !self.is_stray(at)) {
            let what = format!("leaves its retry topic, and offset {offset} is parked before it");
            self.violated(name::ORDER, Some(at), what);
        }
        if covered {
            self.close_if_checked(at.0, at.1);
        }
    }

    /// A commit covers a message that is parked: its fate is another one's business. `false`: it is not.
    pub(super) fn covers_parked(&mut self, at: (u16, i64), run: RunId) -> bool {
        if !self.parks_alone() || self.parks.of(at).is_none() {
            return false;
        }
        if self.is_stray(at) {
            let passed = self.may_be_passed(at, run);
            if let Some(fact) = self.fact(at.0, at.1) {
                fact.covered = true;
            }
            return !passed;
        }
        let end = self.locals.get(&(run, at.1)).and_then(|local| local.end);
        let first = self.fact(at.0, at.1).is_some_and(|fact| !std::mem::replace(&mut fact.covered, true));
        let info = self.run(run);
        let read = at.1 >= info.start && !info.settled.contains(at.1);
        if first && read && !matches!(end, Some(End::Parked | End::Known) | None) {
            let what = format!("is committed as {end:?}, and is still in its retry topic");
            self.violated(name::TWICE, Some(at), what);
        }
        true
    }
}
