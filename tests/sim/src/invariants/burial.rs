//! What is given up with all that is parked behind it: once the first one's dead letter is committed with its mark, each that is
//! parked up to the mark's number becomes a dead letter, in their order, and none of them runs; nothing above goes with them; the
//! mark leaves last.

use super::facts::End;
use super::{Oracle, RunId, Whence, name};
use crate::model::outputs::Effect;
use keyrail_engine::message::{Company, Epitaph, Reason};
use keyrail_engine::parking::Waiting;
use keyrail_engine::policy::Spent;
use std::collections::BTreeMap;

impl Oracle {
    /// Up to which number a message's mark reaches; 0: it has none.
    pub(super) fn until_of(&self, at: (u16, i64)) -> u64 {
        let given_up = self.parks.of(at).and_then(|(_, waiting)| waiting.given_up);
        given_up.map_or(0, |given_up| given_up.until)
    }

    /// The place of the mark that a parked message goes with.
    pub(super) fn mark_of(&self, at: (u16, i64)) -> Option<i64> {
        let number = self.parks.of(at)?.1.number;
        let mark = |(offset, other): &(i64, u64)| *other < number && number <= self.until_of((at.0, *offset));
        self.places_of(at).find(mark).map(|(offset, _)| offset)
    }

    /// It runs, or is about to.
    pub(super) fn runs_marked(&mut self, at: (u16, i64)) {
        if self.until_of(at) > 0 || self.mark_of(at).is_some() {
            self.violated(name::FATE, Some(at), "runs, and was given up".into());
        }
    }

    /// It is written that it is given up for this reason.
    pub(super) fn is_written_as(&self, at: (u16, i64), reason: Reason) -> bool {
        let written = self.parks.of(at).and_then(|(_, waiting)| waiting.given_up);
        written.is_some_and(|given_up| given_up.reason == reason && given_up.until == 0)
    }

    /// Whether a command to it is refused with reason, since it goes with this one.
    pub(super) fn is_given_up(&self, at: (u16, i64), head: (u16, i64)) -> bool {
        let number = self.parks.of(at).map(|(_, waiting)| waiting.number);
        // One whose dead letter is committed by now is no more parked; so may the mark be.
        number.is_none_or(|number| number <= self.until_of(head))
    }

    /// Whether a message was given up with the one at this offset.
    pub(super) fn goes_with(&self, at: (u16, i64), head: i64) -> bool {
        if self.scope_at(at).is_some() {
            return self.mark_of(at) == Some(head);
        }
        // Without order a lane is that of an id: only a message that is the same is parked behind another.
        self.twin(at).is_some() && self.twin(at) == self.twin((at.0, head))
    }

    /// What is spent and was parked goes with what is parked behind it.
    pub(super) fn judge_company(&mut self, at: (u16, i64), epitaph: &Epitaph, whence: Whence) {
        if self.policy.retry.then != Spent::DeadLetterKey || whence != Whence::Parked {
            return;
        }
        let Some(number) = self.parks.of(at).map(|(_, waiting)| waiting.number) else { return };
        let alone = epitaph.company == Company::Alone && epitaph.reason.is_of_retries();
        if alone && self.places_of(at).any(|(_, other)| other > number) {
            let what = "is given up alone, and others of its key are parked behind it".into();
            self.violated(name::FATE, Some(at), what);
        }
        if let Company::Follows(head) = epitaph.company
            && !self.goes_with(at, head)
        {
            self.violated(name::FATE, Some(at), format!("goes with offset {head}, and was not given up with it"));
        }
    }

    /// Dead letters of what goes with one mark stand in the order in which they were parked.
    pub(super) fn judge_letters(&mut self, records: &[(u8, Effect, u32)]) {
        let mut last: BTreeMap<(u16, i64), u64> = BTreeMap::new();
        for (_, effect, _) in records.iter().filter(|(_, effect, _)| effect.letter) {
            let at = (effect.partition, effect.offset);
            let Some(mark) = self.mark_of(at) else { continue };
            let number = self.parks.of(at).map_or(0, |(_, waiting)| waiting.number);
            if last.insert((at.0, mark), number).is_some_and(|before| before >= number) {
                let what = "has its dead letter behind that of a later one that was given up with it".into();
                self.violated(name::ORDER, Some(at), what);
            }
        }
    }

    /// Something becomes of a message that goes with a mark, unless somebody has dropped it before.
    pub(super) fn judge_follower(&mut self, at: (u16, i64), run: RunId) {
        let local = *self.local(run, at.1);
        let lawful = matches!(local.end, Some(End::Letter | End::Duplicate)) || local.dropped;
        if !lawful && self.mark_of(at).is_some() {
            self.violated(name::FATE, Some(at), format!("was given up with another, and ends as {:?}", local.end));
        }
    }

    /// The dead letter of a message is committed, with the mark of those that go with it.
    pub(super) fn judge_mark(&mut self, at: (u16, i64), run: RunId, waiting: &Waiting) {
        let local = *self.local(run, at.1);
        let lawful = local.end == Some(End::Letter) && self.until_of(at) == 0;
        let stood = self.parks.put(at, run, waiting.clone());
        if !lawful || stood.is_none_or(|stood| stood.number != waiting.number) {
            self.violated(name::FATE, Some(at), format!("has a mark, and ended as {:?}", local.end));
        }
        let attempts = local.attempts + u32::from(local.oversized);
        if waiting.history.attempts != attempts {
            let what = format!("has a mark with {} attempts, and had {attempts}", waiting.history.attempts);
            self.violated(name::FATE, Some(at), what);
        }
        self.judge_held(at, waiting, local.oversized);
        let local = self.local(run, at.1);
        (local.settled, local.released) = (false, false);
    }

    /// A mark has left its retry topic.
    pub(super) fn judge_unmarked(&mut self, at: (u16, i64), run: RunId, waiting: &Waiting) {
        let until = waiting.given_up.map_or(0, |given_up| given_up.until);
        let end = self.local(run, at.1).end;
        if end != Some(End::Buried) {
            self.violated(name::FATE, Some(at), format!("had a mark, which leaves as {end:?}"));
        }
        if self.places_of(at).any(|(_, other)| other <= until) {
            let what = "leaves a retry topic before all that was given up with it".into();
            self.violated(name::LOST, Some(at), what);
        }
    }
}
