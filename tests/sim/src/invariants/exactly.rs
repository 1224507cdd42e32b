//! Exactly once: what a transaction holds is what its offsets cover, no more, no less, and never again.

use super::facts::{End, Fact};
use super::state::Committed;
use super::{Oracle, RunId, Scope, Stored, name};
use crate::env::{Marks, ParkRecord};
use crate::model::outputs::Effect;
use keyrail_engine::inbox::{Answer, CommandId};
use keyrail_engine::message::MessageId;
use keyrail_engine::policy::{Guarantee, Scope as Scoped};
use keyrail_engine::state::Change;
use std::collections::BTreeMap;

/// What a transaction holds of one message.
#[derive(Debug, Clone, Copy, Default)]
struct Piece {
    run: RunId,
    outputs: u8,
    letters: u8,
    /// What its outputs tell of state.
    said: Option<u64>,
}

/// What a transaction holds beside outputs, dead letters and offsets.
#[derive(Debug, Clone, Copy)]
pub struct Beside<'a> {
    /// Seen ids, by task.
    pub marks: &'a [(u16, &'a Marks)],
    /// Changes of state, by task.
    pub states: &'a [(u16, &'a Change)],
    /// Records of retry topics, in order.
    pub parks: &'a [&'a ParkRecord],
    /// Answers to commands, and by whose word.
    pub answers: &'a [(RunId, CommandId, &'a Answer)],
    /// The latest that the wall clock ever showed.
    pub latest_wall_ms: i64,
}

impl Oracle {
    /// A transaction is decided to be committed: from now on its records will become visible and its offsets will stand,
    /// whatever happens.
    pub fn transaction_committed(
        &mut self,
        records: &[(u8, Effect, u32)],
        offsets: &[Stored<'_>],
        beside: &Beside<'_>,
    ) {
        let mut pieces = self.pieces(records);
        self.judge_letters(records);
        let mut covered = Vec::new();
        for commit in offsets {
            self.newly_covered(commit, &mut covered);
        }
        let news = covered.clone();
        let (mut covered, changed) = self.judge_parked(covered, beside.parks);
        self.judge_behind_timers(&news);
        offsets.iter().for_each(|commit| self.judge_said(commit));
        self.judge_inboxes(offsets, changed, beside.answers);
        let sent = self.judge_sent(records);
        self.judge_pieces_sent(&mut pieces);
        let fired = self.fired(&mut pieces);
        if self.policy.order.scope == Scoped::Inputs || self.policy.parks() || self.policy.has_timers() {
            // Messages of several inputs have no other order than that in which they settled; nor have those that were taken back.
            covered.sort_by_key(|(at, run)| self.locals.get(&(*run, at.1)).map_or(0, |local| local.order));
        }
        if self.policy.keeps_state() {
            self.judge_verdicts(&covered);
            // What became a dead letter leaves nothing, though it ran.
            let runs = covered.iter().map(|(at, run)| (*at, *run, pieces.get(at)));
            let runs = runs.filter(|(_, _, piece)| piece.is_none_or(|p| p.letters == 0));
            let runs = runs.map(|(at, run, piece)| (at, run, piece.and_then(|p| p.said)));
            let mut covered: Vec<_> = runs.chain(fired).collect();
            if self.policy.has_timers() {
                covered.sort_by_key(|(at, run, _)| self.locals.get(&(*run, at.1)).map_or(0, |local| local.order));
            }
            let Beside { states: changes, latest_wall_ms, .. } = *beside;
            self.judge_state(&Committed { covered, changes, sent: &sent, latest_wall_ms });
        }
        // A duplicate's fate is that of its twin, which may be covered by the same commit.
        for last in [false, true] {
            for (at, run) in &covered {
                let end = self.locals.get(&(*run, at.1)).and_then(|l| l.end);
                if (end == Some(End::Duplicate)) == last {
                    let piece = pieces.remove(at).unwrap_or_default();
                    self.judge_end(*at, *run, end, piece);
                    self.close_if_checked(at.0, at.1);
                }
            }
        }
        if self.policy.keeps_ids() {
            self.judge_marks(&covered, beside.marks, beside.latest_wall_ms);
        }
        if let Some((at, _)) = pieces.first_key_value() {
            let again = self.look(at.0, at.1).is_some_and(|f| f.covered);
            let what = if again { "is visible twice" } else { "is visible, and its offset is not committed with it" };
            self.violated(name::EXACTLY, Some(*at), what.into());
        }
    }

    /// Takes what it holds of delayed sends.
    fn judge_pieces_sent(&mut self, pieces: &mut BTreeMap<(u16, i64), Piece>) {
        let sent: Vec<_> = pieces.extract_if(.., |at, _| self.knows_delayed(*at)).collect();
        for (at, piece) in sent.iter().filter(|(_, piece)| piece.outputs + piece.letters != 1) {
            let what = format!("is sent as {} outputs and {} dead letters", piece.outputs, piece.letters);
            self.violated(name::DELAYS, Some(*at), what);
        }
    }

    /// Takes what it holds of timers: which ran, and with what sum of what they read; `None`: it became a dead letter.
    fn fired(&mut self, pieces: &mut BTreeMap<(u16, i64), Piece>) -> Vec<((u16, i64), RunId, Option<u64>)> {
        let all: Vec<_> = pieces.extract_if(.., |at, _| at.1 < -1).collect();
        for (at, piece) in all.iter().filter(|(_, piece)| piece.outputs + piece.letters != 1) {
            let what = format!("is committed with {} outputs and {} dead letters", piece.outputs, piece.letters);
            self.violated(name::TIMERS, Some(*at), what);
        }
        all.into_iter().map(|(at, piece)| (at, piece.run, piece.said)).collect()
    }

    fn pieces(&mut self, records: &[(u8, Effect, u32)]) -> BTreeMap<(u16, i64), Piece> {
        let mut pieces: BTreeMap<(u16, i64), Piece> = BTreeMap::new();
        for (_, effect, _) in records.iter().filter(|(_, effect, _)| !effect.is_internal()) {
            let (at, run, bit) = ((effect.partition, effect.offset), RunId(effect.run), 1u8 << effect.index);
            let piece = pieces.entry(at).or_insert_with(|| Piece { run, ..Piece::default() });
            let mut differs = false;
            let again = !effect.letter && piece.outputs & bit != 0;
            if effect.letter {
                piece.letters = piece.letters.saturating_add(1);
            } else {
                piece.outputs |= bit;
                differs = piece.said.replace(effect.said).is_some_and(|said| said != effect.said);
            }
            if again || piece.run != run {
                self.violated(name::EXACTLY, Some(at), "has an output twice in one transaction".into());
            }
            if differs {
                self.violated(name::STATE, Some(at), "has outputs of two runs in one transaction".into());
            }
        }
        pieces
    }

    /// A transaction marks the ids of what it newly covers, and no others; and it covers no message whose id was committed
    /// before, within the window, but as a duplicate.
    fn judge_marks(&mut self, covered: &[((u16, i64), RunId)], marks: &[(u16, &Marks)], latest_wall_ms: i64) {
        let window_ms = self.policy.dedup.as_ref().map_or(0, |d| d.window_ms as i64);
        let mut marked: BTreeMap<(u16, MessageId), i64> = BTreeMap::new();
        for (partition, marks) in marks {
            marked.extend(marks.ids.iter().map(|id| ((*partition, *id), marks.time_ms)));
        }
        let mut used = BTreeMap::new();
        for (at, run) in covered {
            let Some(local) = self.locals.get(&(*run, at.1)).copied() else { continue };
            let (Some(id), Some(end)) = (local.id, local.end) else { continue };
            if end == End::Duplicate {
                continue;
            }
            let id = (self.task(at.0), id);
            // What was taken back is no duplicate of itself, and what is dropped has no effects; nor is what had failed before one
            // of either.
            let loose = local.dropped || self.look(at.0, at.1).is_some_and(|fact| fact.redriven > 0);
            let before_loose = if loose { !self.loose.insert(id) } else { self.loose.remove(&id) };
            let excused = loose || before_loose && local.first_failed_ms.is_some();
            let again = used.get(&id).copied().filter(|_| excused);
            let Some(time_ms) = marked.remove(&id).or(again) else {
                self.violated(name::DEDUP, Some(*at), "is committed, and its id is not".into());
                continue;
            };
            used.insert(id, time_ms);
            let before = self.marked.insert(id, time_ms).filter(|_| !excused);
            if before.is_some_and(|before| latest_wall_ms - before < window_ms) {
                self.violated(name::DEDUP, Some(*at), "has its effects though its id was committed before".into());
            }
        }
        if let Some(((partition, _), _)) = marked.first_key_value() {
            let what = "an id is committed of a message that is not".into();
            self.violated(name::DEDUP, Some((*partition, -1)), what);
        }
    }

    /// What a commit covers that was not covered before.
    fn newly_covered(&mut self, commit: &Stored<'_>, covered: &mut Vec<((u16, i64), RunId)>) {
        let settled = self.judge_offset(commit);
        let partition = commit.partition;
        let from = self.covered_below[usize::from(partition)];
        self.covered_below[usize::from(partition)] = from.max(commit.offset);
        let above = settled.iter().flat_map(|(start, end)| start..end.min(commit.log_end));
        for offset in (from..commit.offset).chain(above) {
            if let Some(fact) = self.fact(partition, offset).filter(|f| !f.covered) {
                (fact.covered, fact.was_covered) = (true, true);
                covered.push(((partition, offset), commit.run));
            }
        }
        // What is covered no more would run again, and be visible twice.
        let log = &self.facts[usize::from(partition)];
        let is_left_out = |f: &&Fact| f.covered && !settled.contains(f.rec.offset);
        let left_out = log.iter().skip(commit.offset as usize).flatten().find(is_left_out).map(|f| f.rec.offset);
        if let Some(offset) = left_out {
            let what = format!("was covered by an earlier commit, and is not by that of {}", commit.offset);
            self.violated(name::OFFSETS, Some((partition, offset)), what);
        }
    }

    /// A message is covered for the first time: its fate must stand in the same transaction, whole and alone.
    fn judge_end(&mut self, at: (u16, i64), run: RunId, end: Option<End>, piece: Piece) {
        let Some(fact) = self.look(at.0, at.1) else { return };
        let (all, nothing) = (fact.all_outputs(), piece.outputs == 0 && piece.letters == 0);
        let whole = piece.letters == 0 && piece.outputs == all;
        let letter = piece.letters == 1 && piece.outputs == 0;
        let (excused, undeliverable) = (fact.excused, fact.undeliverable);
        let lawful = match end {
            None => nothing && (excused || self.lost_and_reported(at)),
            Some(End::Done) => whole || letter && undeliverable,
            Some(End::Letter) => letter,
            Some(End::Skipped | End::Discarded) => nothing,
            Some(End::Parked | End::Known | End::Buried) => false,
            Some(End::Duplicate) => nothing && (excused || self.has_ended_twin(at) || self.is_marked(at, run)),
        };
        if !lawful {
            let invariant = if nothing && end == Some(End::Duplicate) {
                name::DEDUP
            } else if nothing {
                name::LOST
            } else {
                name::EXACTLY
            };
            let what = format!(
                "is committed as {end:?} with {} of {} outputs and {} dead letters in its transaction",
                piece.outputs.count_ones(),
                all.count_ones(),
                piece.letters
            );
            self.violated(invariant, Some(at), what);
        }
        if !nothing && piece.run != run {
            self.violated(
                name::ZOMBIES,
                Some(at),
                "is committed by another assignment than the one that ran it".into(),
            );
        }
        if letter {
            self.lettered.push(at);
        }
        if let Some(fact) = self.fact(at.0, at.1) {
            fact.ended = end;
        }
    }

    /// Its id was committed before: in the past of its own, if the group was moved.
    pub(super) fn is_marked(&self, at: (u16, i64), run: RunId) -> bool {
        let id = self.locals.get(&(run, at.1)).and_then(|l| l.id);
        id.is_some_and(|id| self.marked.contains_key(&(self.task(at.0), id)))
    }

    fn has_ended_twin(&self, at: (u16, i64)) -> bool {
        let Some(twin) = self.look(at.0, at.1).and_then(|f| f.twin) else { return false };
        let others = self.twins[twin as usize].iter().filter(|other| **other != at);
        others.filter_map(|other| self.look(other.0, other.1)).any(|f| f.ended.is_some_and(|end| end != End::Duplicate))
    }

    /// Who reads committed records sees this one now. `order` tells what it has an order with.
    pub fn visible(&mut self, place: u8, effect: &Effect, order: u32) {
        let at = (effect.partition, effect.offset);
        let fact = self.look(at.0, at.1).filter(|f| f.scope.is_ordered() && f.redriven == 0);
        let Some(scope) = fact.map(|f| f.scope) else { return };
        if effect.letter || order != self.orders[usize::from(at.0)] {
            return;
        }
        let line = self.lines.entry((at.0, scope, place)).or_default();
        let mine = (effect.offset, effect.index);
        let back = line.furthest.is_some() && mine <= line.last;
        (line.last, line.furthest) = (mine, Some(effect.offset));
        if back {
            self.violated(name::ORDER, Some(at), "is visible after a later one of its key".into());
        }
    }

    /// Somebody moved the group back to here, or took its map: what is above runs again, once.
    pub(super) fn uncover(&mut self, partition: u16, from: i64) {
        if self.policy.guarantee != Guarantee::ExactlyOnce {
            return;
        }
        let index = usize::from(partition);
        self.covered_below[index] = self.covered_below[index].min(from);
        for fact in self.facts[index].iter_mut().flatten().filter(|f| f.rec.offset >= from) {
            fact.covered = false;
            fact.ended = None;
        }
        self.orders[index] += 1;
        self.lines.retain(|(p, _, _): &(u16, Scope, u8), _| *p != partition);
    }
}
