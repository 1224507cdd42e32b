//! Assignments: which process worked on which partition, from where, and how it ended.

use super::facts::End;
use super::{Oracle, Scope, name};
use crate::record::{Rec, index_of};
use keyrail_engine::message::{Company, Epitaph, Fate, Now, Reason, Ticket};
use keyrail_engine::policy::Spent;
use keyrail_engine::ranges::Ranges;
use keyrail_engine::shard::Outcome;
use std::collections::BTreeSet;

/// An assignment, unique in the whole run of the simulator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct RunId(pub u32);

/// Where a message comes from that runs, or is settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whence {
    /// From its input.
    Input,
    /// It was parked.
    Parked,
    /// It was, and a process runs it whose partition is somebody else's by now: what that one knows may be long past, and
    /// nothing comes of it.
    Stale,
}

/// One assignment of a partition to a process.
#[derive(Debug, Clone)]
pub struct Run {
    /// The process.
    pub(super) process: u16,
    /// So many records of ids its partition had when it began.
    pub(super) marks_before: u32,
    /// First offset to read.
    pub start: i64,
    /// Settled above it.
    pub settled: Ranges,
    /// It ended in good order, as far as is known: nothing it did may be done again.
    clean: bool,
    /// A new group skips what lies below.
    skips_below: Option<i64>,
    /// Of which partition.
    partition: u16,
    /// The first of the runs of one assignment of a task.
    pub(super) shared: RunId,
}

impl Run {
    pub(super) const fn none() -> Self {
        Self {
            process: 0,
            marks_before: 0,
            start: 0,
            settled: Ranges::new(),
            clean: false,
            skips_below: None,
            partition: 0,
            shared: RunId(0),
        }
    }
}

impl Run {
    pub(super) const fn partition(&self) -> u16 {
        self.partition
    }
}

impl Oracle {
    /// A process starts a partition, or starts it anew. `skips_below`: a new group that starts at the end. `with`: another run of
    /// the same assignment of its task.
    pub fn opened(
        &mut self,
        process: u16,
        partition: u16,
        start: i64,
        settled: &Ranges,
        skips_below: Option<i64>,
        with: Option<RunId>,
    ) -> RunId {
        let id = RunId(self.runs.len() as u32);
        let marks_before = self.rounds.marks_written(partition);
        let (settled_now, shared) = (settled.clone(), with.map_or(id, |with| self.run(with).shared));
        self.runs.push(Run {
            process,
            marks_before,
            start,
            settled: settled_now,
            clean: true,
            skips_below,
            partition,
            shared,
        });
        self.present.insert((process, partition), id);
        self.latest.insert(partition, id);
        // What a stored map covers can't be called back for the sake of order.
        for (from, to) in settled.iter() {
            for offset in from..to.min(self.facts[usize::from(partition)].len() as i64) {
                if let Some(fact) = self.fact(partition, offset) {
                    fact.needed_again_ms = None;
                }
            }
        }
        id
    }

    /// The present run of a process.
    #[must_use]
    pub fn run_of(&self, process: u16, partition: u16) -> RunId {
        self.present.get(&(process, partition)).copied().unwrap_or_default()
    }

    /// Whether nobody has opened the partition since.
    #[must_use]
    pub fn is_latest(&self, run: RunId, partition: u16) -> bool {
        self.latest.get(&partition) == Some(&run)
    }

    pub(super) fn run(&self, id: RunId) -> &Run {
        &self.runs[id.0 as usize]
    }

    /// The run of another partition in the same assignment of a task.
    pub(super) fn beside(&self, id: RunId, partition: u16) -> RunId {
        let shared = self.run(id).shared;
        let own = self.runs.iter().rposition(|run| run.shared == shared && run.partition == partition);
        own.map_or(id, |at| RunId(at as u32))
    }

    /// What this run did may lawfully be done again, and what others of its task did.
    pub fn unclean(&mut self, id: RunId) {
        let shared = self.run(id).shared;
        let first = shared.0 as usize;
        self.runs.iter_mut().skip(first).filter(|run| run.shared == shared).for_each(|run| run.clean = false);
    }

    /// All present runs of a process ended badly.
    pub fn all_unclean(&mut self, process: u16) {
        for ((owner, _), run) in &self.present {
            if *owner == process {
                self.runs[run.0 as usize].clean = false;
            }
        }
    }

    /// Somebody moved the group, or its metadata is of no use: what was done in this partition may be done again.
    pub fn partition_unclean(&mut self, partition: u16) {
        let committed = self.committed.get(&partition).copied().unwrap_or(0);
        self.uncover(partition, committed);
        let present = self.present.iter().filter(|((_, number), _)| *number == partition).map(|(_, run)| *run);
        let before = self.facts[usize::from(partition)].iter().flatten().map(|fact| fact.effect_run);
        let runs: BTreeSet<RunId> = present.chain(before).collect();
        runs.into_iter().for_each(|run| self.unclean(run));
    }

    pub(super) fn is_clean(&self, id: RunId) -> bool {
        self.run(id).clean
    }

    /// Below which offset the present run of a process skips everything, as a new group that starts at the end does.
    #[must_use]
    pub fn skipped_by(&self, process: u16, partition: u16) -> Option<i64> {
        self.skips_below(self.run_of(process, partition))
    }

    pub(super) fn skips_below(&self, id: RunId) -> Option<i64> {
        self.run(id).skips_below
    }

    /// The handler gets a message, from its input or as one that was parked. Returns how often it was called before in this run.
    pub fn called(&mut self, run: RunId, rec: &Rec, whence: Whence, attempt: u32, now: Now) -> u32 {
        let at = (rec.partition, rec.offset);
        if whence != Whence::Input && self.released(run, at, whence, Some(now)) {
            // It was due by the wall clock.
            self.local(run, at.1).not_before_ms = 0;
        }
        if whence == Whence::Parked {
            self.runs_marked(at);
        }
        let info = self.run(run);
        if whence == Whence::Input && rec.offset >= 0 && (rec.offset < info.start || info.settled.contains(rec.offset))
        {
            self.violated(name::TWICE, Some(at), "runs again though its settling was committed".into());
        }
        let scope = self.look(at.0, at.1).map_or(Scope::FREE, |f| f.scope);
        let local = self.local(run, rec.offset);
        if whence != Whence::Input && local.end == Some(End::Known) {
            // It was parked already when it was read; now it comes from there.
            (local.settled, local.end) = (false, None);
        }
        let (before, due, settled) = (local.calls, local.not_before_ms, local.settled);
        let expected = local.attempts + 1;
        local.calls += 1;
        // Where somebody else has the partition by now, it may have been loaded as one that is parked meanwhile, and run twice.
        let over = self.policy.parks() && !self.is_latest(run, at.0) || self.is_stray(at);
        // What is read for the next assignment may be as it was before, or further than the lanes of this one.
        let stale = whence == Whence::Stale || over || rec.offset < -1 && !self.is_latest(run, at.0);
        if settled && !stale {
            self.violated(name::FATE, Some(at), "runs after it was settled".into());
        }
        if now.steady_ms < due && !stale {
            self.violated(name::FATE, Some(at), format!("runs {} ms before its retry is due", due - now.steady_ms));
        }
        if attempt != expected && !stale {
            self.violated(name::FATE, Some(at), format!("is told attempt {attempt}, and it is {expected}"));
        }
        if scope.is_ordered() && self.letters.contains(&(self.run(run).shared, scope)) {
            self.violated(name::ORDER, Some(at), "runs before the dead letter of its lane is acknowledged".into());
        }
        before
    }

    /// The handler answered for a message, in a batch that stands as a whole.
    pub fn answered(&mut self, run: RunId, rec: &Rec, outcome: &Outcome, probe: bool, now: Now) {
        let local = self.local(run, rec.offset);
        match outcome {
            Outcome::Done => local.done = true,
            Outcome::Skip => local.skipped = true,
            Outcome::Retry { delay_ms, outage, .. } => {
                local.attempts += u32::from(!outage && !probe);
                local.first_failed_ms.get_or_insert(now.wall_ms);
                local.not_before_ms = now.steady_ms + delay_ms.unwrap_or(0);
            }
            Outcome::DeadLetter(_) => local.rejected = true,
            Outcome::Oversized(_) => local.oversized = true,
        }
        if let Some(fact) = self.fact(rec.partition, rec.offset) {
            fact.done |= *outcome == Outcome::Done;
            fact.skipped |= *outcome == Outcome::Skip;
        }
    }

    /// A call of one message failed as a whole.
    pub fn failed_alone(&mut self, run: RunId, rec: &Rec, timeout: bool, probe: bool, now: Now) {
        let local = self.local(run, rec.offset);
        local.attempts += u32::from(!probe);
        local.first_failed_ms.get_or_insert(now.wall_ms);
        if timeout {
            local.timed_out_alone = true;
        } else {
            local.trapped_alone = true;
        }
    }

    /// A shard decided a timer's fate.
    fn timer_settled(&mut self, run: RunId, at: (u16, i64), fate: &Fate) {
        self.decided += 1;
        let order = self.decided;
        let local = self.local(run, at.1);
        let twice = core::mem::replace(&mut local.settled, true);
        local.order = order;
        local.end = Some(end_of(fate));
        let undone = *fate == Fate::Done && !local.done;
        // What is read for the next assignment may be as it was before, and nothing of this one counts any more.
        let over = !self.is_latest(run, at.0);
        if (twice && !over) || undone {
            let what = format!("is settled twice, or never was done: {}", fate_name(fate));
            self.violated(name::TIMERS, Some(at), what);
        }
    }

    /// A shard decided a message's fate.
    pub fn settled(&mut self, run: RunId, ticket: &Ticket, whence: Whence, fate: &Fate, now: Now) {
        let at = (index_of(ticket.partition), ticket.offset);
        if ticket.is_timer() {
            if whence != Whence::Input {
                self.released(run, at, whence, None);
            }
            return self.timer_settled(run, at, fate);
        }
        let waits = matches!(fate, Fate::Parked(_) | Fate::ParkedBefore | Fate::Buried);
        if whence != Whence::Input {
            self.released(run, at, whence, None);
        }
        let Some(fact) = self.fact(at.0, at.1) else { return };
        fact.settled |= !waits;
        fact.settled_itself |= !waits && !matches!(fate, Fate::Duplicate { .. });
        let scope = fact.scope;
        if *fate != Fate::Done {
            // It has another fate now than its output.
            fact.needed_again_ms = None;
        }
        self.decided += 1;
        let order = self.decided;
        let local = self.local(run, at.1);
        local.settled &= local.end != Some(End::Known);
        let (twice, done, skipped) = (local.settled, local.done, local.skipped);
        local.settled = true;
        local.order = order;
        local.id = ticket.id;
        local.marks = !waits && !matches!(fate, Fate::Duplicate { .. });
        local.end = Some(end_of(fate));
        local.undeliverable = matches!(fate, Fate::DeadLetter(epitaph) if epitaph.reason == Reason::Undeliverable);
        let marks = !waits && !matches!(fate, Fate::Duplicate { .. });
        self.settled_in_round(run, at, ticket.id.filter(|_| marks));
        if matches!(fate, Fate::Parked(_)) {
            // Where that can't be written it becomes a dead letter.
            self.may_mark(run, at, ticket.id);
        }
        let over = self.policy.parks() && !self.is_latest(run, at.0) || self.is_stray(at);
        if twice && whence != Whence::Stale && !over {
            self.violated(name::FATE, Some(at), format!("is settled again, as {}", fate_name(fate)));
        }
        match fate {
            Fate::Done if !done => self.violated(name::FATE, Some(at), "is settled as done, and never was".into()),
            Fate::Skipped if !skipped => self.violated(name::FATE, Some(at), "is skipped by nobody".into()),
            Fate::Done | Fate::Skipped | Fate::Parked(_) | Fate::ParkedBefore | Fate::Buried => {}
            Fate::Duplicate { .. } => {
                if whence == Whence::Parked
                    && !(self.parks_alone() && self.is_marked(at, run))
                    && self.parks.of(at).is_some_and(|(_, waiting)| waiting.history.first_failed_ms.is_some())
                {
                    self.violated(name::DEDUP, Some(at), "has failed, and is taken for a duplicate".into());
                }
                self.suppressed(run, at);
            }
            Fate::DeadLetter(epitaph) => {
                self.judge_epitaph(run, at, epitaph, (ticket, whence), now);
                if scope.is_ordered() {
                    self.letters.insert((self.run(run).shared, scope));
                }
            }
            Fate::Discarded(epitaph) => {
                self.judge_epitaph(run, at, epitaph, (ticket, whence), now);
                if self.policy.retry.then != Spent::Discard {
                    self.violated(name::LOST, Some(at), "is discarded, and the policy keeps dead letters".into());
                }
                if let Some(fact) = self.fact(at.0, at.1) {
                    fact.discarded = true;
                }
            }
        }
    }

    /// A shard was told that a dead letter is acknowledged: its lane may go on.
    pub fn lane_goes_on(&mut self, run: RunId, scope: Scope) {
        self.letters.remove(&(self.run(run).shared, scope));
    }

    fn suppressed(&mut self, run: RunId, at: (u16, i64)) {
        if !self.has_settled_twin(at) && !self.is_marked(at, run) {
            self.violated(name::DEDUP, Some(at), "is suppressed, and no message like it was settled".into());
        }
        if let Some(fact) = self.fact(at.0, at.1) {
            fact.suppressed = true;
        }
    }

    fn has_settled_twin(&self, at: (u16, i64)) -> bool {
        let Some(twin) = self.look(at.0, at.1).and_then(|f| f.twin) else { return false };
        let others = self.twins[twin as usize].iter().filter(|other| **other != at);
        others.filter_map(|other| self.look(other.0, other.1)).any(|f| f.settled_itself || f.has_fate())
    }

    fn judge_epitaph(
        &mut self,
        run: RunId,
        at: (u16, i64),
        epitaph: &Epitaph,
        (ticket, whence): (&Ticket, Whence),
        now: Now,
    ) {
        if whence == Whence::Stale || self.is_stray(at) {
            return;
        }
        let undeliverable = self.look(at.0, at.1).is_some_and(|f| f.undeliverable);
        let fact = *self.local(run, at.1);
        let (retry, age) = (&self.policy.retry, now.wall_ms - ticket.timestamp_ms);
        let failing_for = fact.first_failed_ms.map_or(0, |first| now.wall_ms - first);
        let lawful = match epitaph.reason {
            Reason::Attempts => fact.attempts >= retry.attempts,
            // At its next run it would be too old; the longest wait is the policy's, or the handler's own.
            Reason::Age => failing_for + 2_000 > retry.max_age_ms as i64,
            Reason::Rejected => fact.rejected || ticket.refused.is_some(),
            Reason::Expired => self.policy.expires_after_ms.is_some_and(|limit| age > limit as i64),
            Reason::Trap => fact.trapped_alone && fact.attempts >= retry.attempts,
            Reason::Timeout => fact.timed_out_alone && fact.attempts >= retry.attempts,
            Reason::Oversized => fact.oversized,
            Reason::Undeliverable => undeliverable,
            Reason::Follows => matches!(epitaph.company, Company::Follows(head) if self.goes_with(at, head)),
            Reason::Undecodable | Reason::Dropped => false,
        };
        // Another assignment may have written that it is.
        let lawful = lawful || self.is_written_as(at, epitaph.reason);
        // A final answer is an attempt as well.
        let finally = u32::from(fact.rejected || fact.oversized);
        self.judge_company(at, epitaph, whence);
        let counted = epitaph.attempts == fact.attempts + finally;
        if !lawful || !counted {
            let what = format!(
                "is given up for {}, after {} attempts by its dead letter and {} in truth",
                epitaph.reason.as_str(),
                epitaph.attempts,
                fact.attempts + finally
            );
            self.violated(name::FATE, Some(at), what);
        }
    }
}

const fn end_of(fate: &Fate) -> End {
    match fate {
        Fate::Done => End::Done,
        Fate::Skipped => End::Skipped,
        Fate::Duplicate { .. } => End::Duplicate,
        Fate::DeadLetter(_) => End::Letter,
        Fate::Discarded(_) => End::Discarded,
        Fate::Parked(_) => End::Parked,
        Fate::ParkedBefore => End::Known,
        Fate::Buried => End::Buried,
    }
}

const fn fate_name(fate: &Fate) -> &'static str {
    match fate {
        Fate::Done => "done",
        Fate::Skipped => "skipped",
        Fate::Duplicate { .. } => "duplicate",
        Fate::DeadLetter(_) => "dead letter",
        Fate::Discarded(_) => "discarded",
        Fate::Parked(_) => "parked",
        Fate::ParkedBefore => "parked before",
        Fate::Buried => "buried",
    }
}
