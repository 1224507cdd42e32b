//! What appears in output and dead-letter partitions.

use super::{Oracle, RunId, name};
use crate::model::outputs::Effect;
use crate::record::{Payload, Rec, index_of};
use keyrail_engine::message::{Fate, Reason};
use keyrail_engine::shard::Settled;

impl Oracle {
    /// A record was written to an output or a dead-letter partition.
    pub fn written(&mut self, place: u8, effect: &Effect) {
        self.appended += 1;
        if effect.letter {
            return self.letter_written(effect);
        }
        let (at, run, bit) = ((effect.partition, effect.offset), RunId(effect.run), 1u8 << effect.index);
        let seq = self.appended;
        let local = self.local(run, at.1);
        let (again, letter_too) = (local.seen & bit != 0, local.letter);
        local.seen |= bit;
        let seen_in_run = local.seen;
        let Some(fact) = self.fact(at.0, at.1) else { return };
        let before = (fact.seen & bit != 0 && !fact.may_repeat).then_some(fact.effect_run);
        fact.effect_run = run;
        fact.seen |= bit;
        let index = usize::from(effect.index);
        let is_first = fact.first[index] == 0;
        if is_first {
            fact.first[index] = seq;
        }
        fact.last[index] = seq;
        fact.needed_again_ms = None;
        let complete = seen_in_run == fact.all_outputs();
        if again {
            self.violated(name::TWICE, Some(at), "has an output twice in one assignment".into());
        } else if let Some(old) = before
            && old != run
            && self.is_clean(old)
            && self.is_clean(run)
            && !self.is_stray(at)
        {
            self.violated(name::TWICE, Some(at), "has an output again though its assignment ended well".into());
        }
        if letter_too && complete {
            self.violated(name::FATE, Some(at), "has all outputs and a dead letter in one assignment".into());
        }
        self.in_line(place, effect, is_first);
    }

    fn in_line(&mut self, place: u8, effect: &Effect, is_first: bool) {
        let at = (effect.partition, effect.offset);
        let Some(fact) = self.look(at.0, at.1) else { return };
        if !fact.scope.is_ordered() {
            return;
        }
        if self.is_stray(at) {
            return;
        }
        let (scope, late) = (fact.scope, fact.may_come_late() || fact.blocked);
        let line = self.lines.entry((at.0, scope, place)).or_default();
        let mine = (effect.offset, effect.index);
        let back = line.run == RunId(effect.run) && mine <= line.last;
        let last = line.last.0;
        let overtaken = is_first && !late && line.furthest.is_some_and(|f| f > effect.offset);
        (line.run, line.last) = (RunId(effect.run), mine);
        line.furthest = line.furthest.max(Some(effect.offset));
        if back {
            let what = format!("has its output after a later one of its key, {last}, in one assignment");
            self.violated(name::ORDER, Some(at), what);
        }
        if overtaken {
            self.violated(name::ORDER, Some(at), "has its first output after one of a later message of its key".into());
        }
    }

    fn letter_written(&mut self, effect: &Effect) {
        let (at, run) = ((effect.partition, effect.offset), RunId(effect.run));
        let local = self.local(run, at.1);
        local.letter = true;
        let seen = local.seen;
        let Some(fact) = self.fact(at.0, at.1) else { return };
        let complete = seen != 0 && seen == fact.all_outputs();
        fact.letters += 1;
        fact.needed_again_ms = None;
        if complete {
            self.violated(name::FATE, Some(at), "has a dead letter and all outputs in one assignment".into());
        }
    }

    /// A dead letter is made from this publication.
    pub fn letter_made(&mut self, settled: &Settled<Payload>, log: Option<&Rec>) {
        let at = (index_of(settled.ticket.partition), settled.ticket.offset);
        let copy: &Rec = &settled.message.rec;
        let differs = log.is_some_and(|original| original != copy) || (copy.partition, copy.offset) != at;
        if differs {
            self.violated(name::FATE, Some(at), "has a dead letter that is not its own record".into());
        }
        let Some(fact) = self.look(at.0, at.1) else { return };
        match &settled.fate {
            Fate::DeadLetter(e) if e.reason == Reason::Undeliverable && !fact.undeliverable => {
                self.violated(name::FATE, Some(at), "is undeliverable by nobody's word".into());
            }
            Fate::DeadLetter(_) => {}
            _ => self.violated(name::FATE, Some(at), "gets a dead letter, and has another fate".into()),
        }
    }

    /// The broker did not take an output or a dead letter.
    pub fn refused(&mut self, effect: &Effect, for_good: bool) {
        let at = (effect.partition, effect.offset);
        let Some(fact) = self.fact(at.0, at.1) else { return };
        if for_good {
            fact.undeliverable = true;
            if !effect.letter {
                fact.refused_in = RunId(effect.run);
            }
            return;
        }
        fact.blocked = true;
        self.unclean(RunId(effect.run));
    }

    /// A worker hears that an output was not taken. Everything of its key behind it that had its effect already must
    /// come again, after it.
    pub fn refusal_heard(&mut self, run: RunId, at: (u16, i64), now_ms: u64) {
        let Some(scope) = self.look(at.0, at.1).map(|f| f.scope) else { return };
        let log = &mut self.facts[usize::from(at.0)];
        for later in log.iter_mut().skip(at.1 as usize + 1).flatten() {
            later.may_repeat = true;
            let has_effect = later.seen != 0 && later.effect_run == run;
            if scope.is_ordered() && later.scope == scope && has_effect && !later.checked {
                later.needed_again_ms = Some(now_ms);
            }
        }
    }
}
