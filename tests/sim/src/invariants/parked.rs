//! What is parked: what stands in the retry topics is what was committed there, message by message; it runs when it is due and
//! not before, with the attempts that it had, and leaves when its fate is committed.

use super::facts::End;
use super::{Oracle, RunId, Stored, Whence, name};
use crate::env::ParkRecord;
use keyrail_engine::message::Now;
use keyrail_engine::metadata::Metadata;
use keyrail_engine::parking::Waiting;
use std::collections::{BTreeMap, BTreeSet};

/// What is committed.
#[derive(Debug, Default)]
pub(super) struct Parks {
    now: BTreeMap<(u16, i64), Waiting>,
    /// Partitions that ever parked anything.
    ever: BTreeSet<u16>,
}

impl Oracle {
    /// A transaction is committed: of what it covers, and of what it changes in retry topics, these messages have a fate, in the
    /// order of their offsets.
    pub(super) fn judge_parked(
        &mut self,
        covered: Vec<((u16, i64), RunId)>,
        records: &[&ParkRecord],
    ) -> Vec<((u16, i64), RunId)> {
        let mut written: BTreeMap<(u16, i64), &ParkRecord> = BTreeMap::new();
        for record in records {
            let at = (record.rec.partition, record.rec.offset);
            if written.insert(at, record).is_some() {
                self.violated(name::FATE, Some(at), "has two records of a retry topic in one transaction".into());
            }
        }
        let (mut fates, mut before) = (Vec::new(), BTreeSet::new());
        for (at, run) in covered {
            match self.locals.get(&(run, at.1)).and_then(|local| local.end) {
                Some(End::Known) if !self.parks.now.contains_key(&at) => {
                    self.violated(name::LOST, Some(at), "is passed over as parked, and is not".into());
                }
                Some(End::Known) => {}
                Some(End::Parked) => {
                    before.insert(at);
                    if !written.contains_key(&at) {
                        let what = "is committed as parked, and is not in its retry topic".into();
                        self.violated(name::LOST, Some(at), what);
                    }
                }
                _ => fates.push((at, run)),
            }
        }
        for (at, record) in written {
            match &record.waiting {
                Some(waiting) => self.judge_waiting(at, record.run, waiting, before.contains(&at)),
                None if self.parks.now.remove(&at).is_some() => fates.push((at, record.run)),
                None => self.violated(name::FATE, Some(at), "leaves a retry topic that it is not in".into()),
            }
        }
        fates.sort_unstable_by_key(|(at, _)| *at);
        fates
    }

    /// Whoever starts a partition after this commit must know from it whether anything was parked: what the broker lists then may
    /// be old.
    pub(super) fn judge_said(&mut self, commit: &Stored<'_>) {
        let said = Metadata::decode(commit.metadata, commit.offset, i64::MAX).is_ok_and(|said| said.kept.parked);
        if self.parks.ever.contains(&commit.partition) && !said {
            let at = Some((commit.partition, commit.offset));
            self.violated(name::LOST, at, "the commit does not say that messages are parked".into());
        }
    }

    /// A message is parked, or parked anew.
    fn judge_waiting(&mut self, at: (u16, i64), run: RunId, waiting: &Waiting, first: bool) {
        let local = *self.local(run, at.1);
        if local.end != Some(End::Parked) {
            self.violated(name::FATE, Some(at), format!("is parked, and ended as {:?}", local.end));
        }
        if waiting.history.attempts != local.attempts {
            let what = format!("is parked with {} attempts, and had {}", waiting.history.attempts, local.attempts);
            self.violated(name::FATE, Some(at), what);
        }
        self.parks.ever.insert(at.0);
        let stood = self.parks.now.insert(at, waiting.clone());
        match stood {
            Some(_) if first => self.violated(name::FATE, Some(at), "is parked, and was parked already".into()),
            None if !first => self.violated(name::FATE, Some(at), "is parked anew, and was not parked".into()),
            Some(stood) if stood.number != waiting.number => {
                self.violated(name::ORDER, Some(at), "is parked anew in another place".into());
            }
            _ => {}
        }
        let local = self.local(run, at.1);
        (local.settled, local.released) = (false, false);
    }

    /// A parked message runs, or gets its fate without a run: what is known of it is what was committed. Tells whether it is the
    /// first time since it was parked.
    pub(super) fn released(&mut self, run: RunId, at: (u16, i64), whence: Whence, now: Option<Now>) -> bool {
        let Some(waiting) = self.parks.now.get(&at).cloned() else {
            if whence == Whence::Parked {
                self.violated(name::FATE, Some(at), "comes from a retry topic, and is not parked".into());
            }
            return true;
        };
        let local = self.local(run, at.1);
        if local.calls == 0 {
            local.attempts = waiting.history.attempts;
            local.first_failed_ms = waiting.history.first_failed_ms;
        }
        let released = std::mem::replace(&mut local.released, true);
        if let Some(now) = now.filter(|now| !released && whence == Whence::Parked && now.wall_ms < waiting.due_ms) {
            let early_ms = waiting.due_ms - now.wall_ms;
            self.violated(name::FATE, Some(at), format!("runs {early_ms} ms before it is due"));
        }
        !released
    }

    /// What somebody has read of a retry topic.
    pub fn judge_parked_count(&mut self, partition: u16, count: usize) {
        let own = self.parks.now.range((partition, i64::MIN)..=(partition, i64::MAX)).count();
        if own != count {
            let what = format!("{count} messages are read as parked before it starts, and {own} are");
            self.violated(name::LOST, Some((partition, -1)), what);
        }
    }

    /// All work is done: nothing is parked.
    pub fn parked_at_the_end(&mut self) {
        if let Some((at, _)) = self.parks.now.first_key_value() {
            let at = *at;
            self.violated(name::PROGRESS, Some(at), "is parked for ever".into());
        }
    }
}
