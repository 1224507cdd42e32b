//! What the broker stores for the group.

use super::{Oracle, RunId, name};
use keyrail_engine::metadata::{MAX_TEXT_BYTES, Metadata};
use keyrail_engine::ranges::Ranges;

/// A commit of one partition that the broker has just stored.
#[derive(Debug, Clone, Copy)]
pub struct Stored<'a> {
    /// Dense number of the partition.
    pub partition: u16,
    /// The run that it commits for.
    pub run: RunId,
    /// The next offset to read.
    pub offset: i64,
    /// What stands beside it.
    pub metadata: &'a str,
    /// When the worker decided it.
    pub planned_ms: u64,
    /// Where the log ends.
    pub log_end: i64,
}

impl Oracle {
    /// The broker stored a commit.
    pub fn stored(&mut self, commit: &Stored<'_>) {
        let settled = self.judge_offset(commit);
        self.judge_said(commit);
        let from = self.checked_below[usize::from(commit.partition)];
        for offset in from..commit.offset {
            self.cover(commit, offset);
        }
        self.checked_below[usize::from(commit.partition)] = from.max(commit.offset);
        for (start, end) in settled.iter() {
            for offset in start..end {
                self.cover(commit, offset);
            }
        }
    }

    /// What a commit says by itself. Returns its map.
    pub(super) fn judge_offset(&mut self, commit: &Stored<'_>) -> Ranges {
        let partition = commit.partition;
        let at = Some((partition, commit.offset));
        if commit.metadata.len() > MAX_TEXT_BYTES {
            self.violated(name::OFFSETS, at, format!("metadata of {} bytes", commit.metadata.len()));
        }
        let before = self.committed.insert(partition, commit.offset);
        if before.is_none()
            && let Some(start) = self.skips_below(commit.run)
        {
            self.excuse_below(partition, start);
        }
        if let Some(before) = before
            && before > commit.offset
        {
            self.violated(name::OFFSETS, at, format!("the commit goes back from {before}"));
        }
        if commit.offset > commit.log_end {
            self.violated(name::OFFSETS, at, format!("the commit is past the log's end, {}", commit.log_end));
        }
        match Metadata::decode(commit.metadata, commit.offset, commit.log_end) {
            Ok(metadata) => metadata.settled,
            Err(why) => {
                self.violated(name::OFFSETS, at, format!("unusable metadata: {why:?}"));
                Ranges::new()
            }
        }
    }

    /// A commit covers this offset: its fate must be there for all to see.
    fn cover(&mut self, commit: &Stored<'_>, offset: i64) {
        let at = (commit.partition, offset);
        let Some(fact) = self.look(at.0, offset) else { return };
        if !fact.checked && self.covers_parked(at, commit.run) {
            return;
        }
        let Some(fact) = self.look(at.0, offset) else { return };
        let reachable = !fact.removed && !fact.excused && !self.is_stray(at);
        if reachable && fact.needed_again_ms.is_some_and(|since| commit.planned_ms > since) {
            let what = "is committed before it came again behind an earlier one that was refused";
            self.violated(name::ORDER, Some(at), what.into());
            return;
        }
        if fact.checked {
            return;
        }
        if !self.may_be_passed(at, commit.run) {
            let (fact, removed) = (self.look(at.0, offset), self.look(at.0, offset).is_some_and(|f| f.removed));
            let outputs = fact.map_or((0, 0), |f| (f.seen.count_ones(), f.rec.outputs.places().len()));
            let what = if removed {
                "is gone from the log unread, and nobody said so".to_string()
            } else {
                format!(
                    "is committed (by {}) with {} of {} outputs written and no other fate",
                    commit.offset, outputs.0, outputs.1
                )
            };
            let invariant = if fact.is_some_and(|f| f.suppressed) { name::DEDUP } else { name::LOST };
            self.violated(invariant, Some(at), what);
        }
        if !self.is_stray(at) {
            self.judge_rounds(at, commit.run);
        }
        self.close_if_checked(at.0, offset);
    }

    /// Nobody needs to run this message again.
    pub(super) fn may_be_passed(&self, at: (u16, i64), run: RunId) -> bool {
        let Some(fact) = self.look(at.0, at.1) else { return true };
        fact.has_fate() || fact.suppressed && self.has_twin_with_fate(at, run) || self.lost_and_reported(at)
    }

    /// A suppressed message has its twin's fate: one that can be seen, or one that no commit covers yet.
    fn has_twin_with_fate(&self, at: (u16, i64), run: RunId) -> bool {
        let Some(twin) = self.look(at.0, at.1).and_then(|f| f.twin) else { return false };
        let others = self.twins[twin as usize].iter().filter(|other| **other != at);
        others.filter_map(|other| self.look(other.0, other.1)).any(|f| {
            // It may run anew, though an earlier map covered it that was of no use.
            let run = self.beside(run, f.rec.partition);
            let runs_anew = self.locals.get(&(run, f.rec.offset)).is_some_and(|l| l.settled && l.done);
            f.has_fate() || !f.checked && f.settled_itself || runs_anew
        })
    }

    pub(super) fn lost_and_reported(&self, at: (u16, i64)) -> bool {
        let removed = self.look(at.0, at.1).is_some_and(|f| f.removed);
        removed && self.reported_losses.iter().any(|(p, from, to)| *p == at.0 && (*from..*to).contains(&at.1))
    }

    fn excuse_below(&mut self, partition: u16, start: i64) {
        for offset in 0..start {
            if let Some(fact) = self.fact(partition, offset) {
                fact.excused = true;
            }
        }
    }

    /// A group without a commit starts at the first record there is: what was gone before is not its loss.
    pub fn started_without_commit(&mut self, partition: u16, log_start: i64) {
        for offset in 0..log_start {
            if let Some(fact) = self.fact(partition, offset).filter(|f| f.removed) {
                fact.excused = true;
            }
        }
    }

    /// A record is passed over since an earlier assignment settled it.
    pub fn passed_over(&mut self, partition: u16, offset: i64) {
        let parked = self.parks_alone() && self.parks.of((partition, offset)).is_some();
        let covered = parked || self.look(partition, offset).is_some_and(|f| f.was_covered);
        if !covered && !self.may_be_passed((partition, offset), RunId::default()) {
            self.violated(name::LOST, Some((partition, offset)), "is passed over, and has no fate".into());
        }
    }

    /// An operator put the group's offset down. What it passes over is nobody's business; what it goes back to runs
    /// again.
    pub fn reset(&mut self, partition: u16, offset: i64) {
        self.excuse_below(partition, offset);
        let index = usize::from(partition);
        for below in self.checked_below[index]..offset {
            self.close_if_checked(partition, below);
        }
        self.checked_below[index] = self.checked_below[index].max(offset);
        self.committed.insert(partition, offset);
        self.partition_unclean(partition);
    }
}
