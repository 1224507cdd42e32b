//! At least once: what is parked of a partition, and when that counts.
//!
//! 1. A commit says that the partition parks, before its first record goes to the retry topic: whoever has it next must look there.
//! 2. The record is written: its message settles, in its [line](super::rounds), and its offset is of the next round.
//! 3. That offset is committed: now it [is parked](Action::Parked), and may run when it is due. So what has left the retry topic is
//!    never read again from the input.
//! 4. It runs, and its effects are written; its tombstone is of the next round, behind state and ids.
//!
//! A process that dies between 2 and 3 leaves a message that is in the retry topic and comes from the input once more. Whoever reads
//! both runs neither before the input has come to it, and a commit covers it ([`Action::Covered`]): what is before it in its lane
//! comes once more, too, and goes first.
//!
//! A record that was not taken may be in the topic all the same. When its message settles in another way, it leaves the topic with
//! that round.

use super::outbox::Token;
use super::task::Task;
use super::{Action, Pipeline};
use crate::intake::Opened;
use crate::message::{Fate, Partition, Ticket};
use crate::parking::{self, Change};
use crate::planted::Bug;
use crate::policy::Policy;
use crate::shard::Settled;
use crate::tracker::Progress;
use alloc::collections::{BTreeSet, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// So many bytes of messages that are parked, and not covered by a commit, may be held: then the partition fetches no more.
const FULL_BYTES: u64 = 8 << 20;

/// What is parked of a partition, beside what is known to be.
#[derive(Debug, Default)]
pub(super) struct Waits {
    /// Written, and not covered by a commit that is known; with the bytes that are held of each.
    untold: VecDeque<(Change, u64)>,
    bytes: u64,
    /// Messages that may have a record in the retry topic, and did not settle by it.
    doubtful: BTreeSet<i64>,
    /// Publications that wait until it is committed that the partition parks.
    unsaid: Vec<Token>,
    /// Where the log ended when the partition started: what is parked below, and not covered yet, comes from the input once more.
    /// `None`: there is nothing of that.
    uncovered_below: Option<i64>,
    /// A commit that was not looked at yet.
    news: Option<Progress>,
}

/// What a message that is published has to do with the retry topic.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Parking {
    lane: u64,
    size: u32,
    /// Its place there, if it came from there; otherwise 0.
    pub(super) number: u64,
    /// It is there, though it came from the input.
    known: bool,
    /// It is written there, in this place.
    written: Option<(Token, u64)>,
    /// It was to be written there, in this place, and can't be.
    unwritten: Option<u64>,
}

impl Parking {
    pub(super) fn of<M>(settled: &Settled<M>) -> Self {
        let Ticket { lane, size, parked: number, .. } = settled.ticket;
        let known = matches!(settled.fate, Fate::ParkedBefore);
        Self { lane, size, number, known, written: None, unwritten: None }
    }
}

impl Waits {
    pub(super) fn new(opened: &Opened) -> Self {
        let comes_again = opened.kept.parked && opened.log_end > opened.start;
        Self { uncovered_below: comes_again.then_some(opened.log_end), ..Self::default() }
    }

    /// Below which offset messages may be parked that come again.
    pub(super) const fn comes_again(&self) -> Option<i64> {
        self.uncovered_below
    }

    /// Takes over what outlives a rewind.
    pub(super) fn continue_after(&mut self, old: &mut Self, comes_again: Option<i64>) {
        self.uncovered_below = comes_again;
        self.doubtful = core::mem::take(&mut old.doubtful);
    }

    /// This is committed.
    pub(super) fn cover(&mut self, progress: &Progress) {
        if self.uncovered_below.is_some() || !self.untold.is_empty() || !self.unsaid.is_empty() {
            self.news = Some(progress.clone());
        }
    }

    /// So much is held that no more is to be fetched.
    pub(super) const fn is_full(&self) -> bool {
        self.bytes >= FULL_BYTES
    }

    /// The retry topic may hold what nobody is told of.
    pub(super) fn is_unsure(&self) -> bool {
        !self.doubtful.is_empty() || !self.untold.is_empty()
    }
}

impl Task {
    /// It starts: tells what may run of what is parked.
    pub(super) fn begin_covered(&self, partition: Partition, actions: &mut Vec<Action>) {
        let progress = self.waits.uncovered_below.map(|_| self.tracker.progress());
        actions.push(Action::Covered { partition, epoch: self.epoch, progress });
    }

    /// A message settles. Returns what is to be told at once.
    pub(super) fn pass_parked(&mut self, offset: i64, parking: &Parking, policy: &Policy) -> Option<Change> {
        let Parking { lane, size, number, known, written, unwritten } = *parking;
        let change = |number, written| Change { lane, offset, number, written };
        if let Some((token, place)) = written {
            self.waits.doubtful.remove(&offset);
            let change = change(place, Some(token));
            if number > 0 || policy.has(Bug::ParkedBeforeCommit) {
                return Some(change);
            }
            self.waits.bytes += u64::from(size);
            self.waits.untold.push_back((change, u64::from(size)));
            return None;
        }
        if number > 0 {
            self.waits.doubtful.remove(&offset);
            if !policy.has(Bug::ResolveUnacknowledged) {
                self.resolve(offset, change(number, None));
            }
            return None;
        }
        if !known && self.waits.doubtful.remove(&offset) {
            self.resolved.push(offset);
        }
        unwritten.map(|place| change(place, None))
    }

    /// It leaves the retry topic with the next round.
    pub(super) fn resolve(&mut self, offset: i64, change: Change) {
        self.resolved.push(offset);
        self.parkings.push(change);
    }

    /// What came from the retry topic has settled: no offset waits for it.
    pub(super) fn settle_detached(&mut self, offset: i64) -> bool {
        self.dirty = true;
        if !self.marks_stuck && self.refused_at == Some(offset) {
            self.refused_at = None;
            self.refusals = 0;
        }
        true
    }

    /// Whether it may start anew from what has settled. Nothing of that comes again, so the index must know what is parked of it,
    /// and the commit that it is. And what is under way is to be found in the retry topic, or not, by who reads that again.
    pub(super) fn may_rewind(&self, policy: &Policy) -> bool {
        let parks = self.kept.parked && policy.parks();
        let reported = self.publications <= self.letters_refused;
        let committed = || self.committed.as_ref() == Some(&self.progress(policy)) && self.waits.untold.is_empty();
        self.is_written() && (!parks || reported && committed())
    }

    /// The log gives nothing more, and all that it gave has settled: what is parked and did not come again is gone from it.
    pub(super) fn find_uncovered(&mut self, partition: Partition, actions: &mut Vec<Action>) {
        if self.tracker.unsettled() == 0 && self.waits.uncovered_below.take().is_some() {
            actions.push(Action::Covered { partition, epoch: self.epoch, progress: None });
        }
    }

    fn tell_covered(&mut self, partition: Partition, covered: Progress, actions: &mut Vec<Action>) {
        let was_paused = self.is_paused();
        let is_covered = |offset: i64| offset < covered.point || covered.settled.contains(offset);
        let mut changes = Vec::new();
        while let Some((change, bytes)) = self.waits.untold.pop_front_if(|(change, _)| is_covered(change.offset)) {
            self.waits.bytes = self.waits.bytes.saturating_sub(bytes);
            changes.push(change);
        }
        let epoch = self.epoch;
        // First: what is parked in another place than before does not run from that.
        if !changes.is_empty() {
            actions.push(Action::Parked { partition, epoch, changes: Arc::from(changes) });
        }
        if let Some(end) = self.waits.uncovered_below {
            let all = covered.point >= end;
            self.waits.uncovered_below = (!all).then_some(end);
            actions.push(Action::Covered { partition, epoch, progress: (!all).then_some(covered) });
        }
        self.tell_pause(was_paused, partition, actions);
    }
}

impl<M> Pipeline<M> {
    /// A message is to be parked: its record goes out, once it is committed that the partition parks.
    pub(super) fn write_parked(&mut self, token: Token, ticket: &Ticket, actions: &mut Vec<Action>) {
        let early = self.policy.has(Bug::SayParkedLate);
        if self.rounds.is_some()
            && let Some(task) = self.tasks.get_mut(&ticket.partition)
        {
            if !task.said_parked && !early {
                (task.kept.parked, task.dirty) = (true, true);
                return task.waits.unsaid.push(token);
            }
            task.waits.doubtful.insert(ticket.offset);
        }
        actions.push(Action::Park { token });
    }

    /// The record of a message is written: if it is that of a parked one, it settles as that.
    pub(super) fn line_parked(&mut self, token: Token, settled: &Settled<M>) {
        let (ticket, Some(waiting)) = (settled.ticket, parking::written(&settled.fate)) else { return };
        let Some(task) = self.tasks.get_mut(&ticket.partition).filter(|task| task.epoch == ticket.epoch) else {
            return;
        };
        task.kept.parked = true;
        if let Some(held) = task.round.lines.find(ticket.lane, ticket.offset) {
            held.parking.written = Some((token, waiting.number));
        }
    }

    /// A message becomes a dead letter, since what was to be written of it can't be; `unwritten`: it was to be parked, in this
    /// place.
    pub(super) fn line_letter(&mut self, ticket: &Ticket, unwritten: Option<u64>) {
        let keeps_ids = self.policy.keeps_ids();
        let Some(task) = self.tasks.get_mut(&ticket.partition).filter(|task| task.epoch == ticket.epoch) else {
            return;
        };
        if let Some(held) = task.round.lines.find(ticket.lane, ticket.offset) {
            held.id = ticket.id.filter(|_| keeps_ids);
            held.parking.unwritten = unwritten;
        }
    }

    /// Looks at what was committed lately: of what it covers, what is parked is so from now on.
    pub(super) fn tell_covered(&mut self, actions: &mut Vec<Action>) {
        for (partition, task) in &mut self.tasks {
            let Some(covered) = task.waits.news.take() else { continue };
            task.tell_covered(*partition, covered, actions);
            if !task.said_parked {
                continue;
            }
            for token in core::mem::take(&mut task.waits.unsaid) {
                if let Some(publication) = self.outbox.get(token) {
                    task.waits.doubtful.insert(publication.settled.ticket.offset);
                    actions.push(Action::Park { token });
                }
            }
        }
    }

    /// The partition starts anew, or goes: what waits to be written is of the past.
    pub(super) fn drop_unsaid(&mut self, partition: Partition) {
        let unsaid = self.tasks.get_mut(&partition).map(|task| core::mem::take(&mut task.waits.unsaid));
        for token in unsaid.unwrap_or_default() {
            self.outbox.remove(token);
        }
    }
}
