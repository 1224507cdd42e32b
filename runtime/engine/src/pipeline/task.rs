//! One partition within one assignment. What is its task's stands with the partition that names the task.

use super::Action;
use super::covered::Waits;
use super::rounds::Round;
use crate::intake::{Careful, Opened};
use crate::message::{Epoch, MessageId, Now, Partition};
use crate::metadata::Kept;
use crate::parking;
use crate::planted::Bug;
use crate::policy::Policy;
use crate::ranges::Ranges;
use crate::state::Change;
use crate::tracker::{Progress, Tracker};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// A partition with so many dead letters that its topic refuses fetches no more: they would fill the budget.
const LETTERS_FULL: u32 = 64;
/// And goes on below this.
const LETTERS_FREE: u32 = 32;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Phase {
    /// Runs.
    Active,
    /// The broker refused what the message at this offset sends: nothing settles until the partition is rewound.
    Refused { offset: i64, due_ms: u64 },
    /// The shell was told to rewind; nothing settles until the new epoch.
    Rewinding(Progress),
    /// Revoked: what runs is finished, in this many shards still.
    Draining {
        shards_left: u32,
        /// Lowest offset whose output the broker refused meanwhile: it and what comes after is the next owner's.
        refused: Option<i64>,
    },
    /// With exactly-once: its part in the present transaction came to nothing. It starts anew once the producer is made
    /// anew; `told`: the shell was told so.
    Restarting { told: bool },
    /// The same while it was revoked: it has nothing to commit.
    GivenUp,
}

/// A stall that lasts is told again after so many times its limit at most.
const STALL_WAITS: u64 = 16;

/// A stall that was reported.
#[derive(Debug)]
struct Stall {
    position: i64,
    /// It is told again then, if it lasts.
    again_ms: u64,
    /// After so long.
    wait_ms: u64,
}

#[derive(Debug)]
pub(super) struct Task {
    pub(super) epoch: Epoch,
    pub(super) phase: Phase,
    pub(super) tracker: Tracker,
    /// Duplicates, of any partition of the task, that settle with the message at the offset first named.
    twins: BTreeMap<i64, Vec<(Partition, i64)>>,
    /// What was last committed in this assignment.
    pub(super) committed: Option<Progress>,
    pub(super) sequence: u64,
    pub(super) partitions: u32,
    pub(super) log: u64,
    pub(super) kept: Kept,
    /// What is committed says of the breaker, and what is about to be.
    pub(super) said: bool,
    pub(super) saying: bool,
    /// And whether anything is parked.
    pub(super) said_parked: bool,
    pub(super) saying_parked: bool,
    /// What runs alone first, since the partition was not given up in good order.
    careful: Careful,
    /// Something changed since the last commit was planned.
    pub(super) dirty: bool,
    /// It has a part in the present transaction.
    pub(super) touched: bool,
    /// Ids that the present transaction marks for the task, or the next round.
    pub(super) marks: Vec<MessageId>,
    /// State of the task that it changes.
    pub(super) changes: BTreeMap<Arc<[u8]>, Change>,
    /// Schemas whose marks must stand before the first of these.
    pub(super) unmarked_schemas: Vec<u16>,
    /// What the present transaction changes of what is parked.
    pub(super) parkings: Vec<parking::Change>,
    /// Parked messages whose tombstones are to be written with it.
    pub(super) resolved: Vec<i64>,
    /// The topic of seen ids, or of state, does not take what is its: told until a commit holds it.
    pub(super) marks_stuck: bool,
    pub(super) round: Round,
    /// Without transactions: what is parked.
    pub(super) waits: Waits,
    /// With exactly-once: from this offset on nothing is published, since the commit's map has no room to tell that it is.
    /// It runs again once there is.
    turned_away: Option<i64>,
    /// Lanes of the task of which a message was turned away, where it spans inputs: offsets don't tell what is behind it.
    pub(super) lanes_turned_away: BTreeSet<u64>,
    /// Where it started after something was turned away: from here on nothing is fetched while the map has little room. What
    /// came from beyond would be turned away, and the lanes of several inputs with it.
    fetch_below: Option<i64>,
    /// It has come so far.
    beyond: bool,
    /// Where it started.
    pub(super) start: i64,
    /// How it started, while no commit of ours tells of it. Without transactions nothing is kept before one does: whoever starts it
    /// next would find what a group leaves that was moved from outside.
    pub(super) unstarted: Option<Progress>,
    /// Publications without a report.
    pub(super) publications: u32,
    /// Of those, dead letters that the broker refused, waiting to be sent again.
    pub(super) letters_refused: u32,
    /// Dead letters that were refused at least once and are not written yet.
    pub(super) letters_stuck: u32,
    /// So many that no more records are fetched until some are written.
    letters_full: bool,
    /// The map of settled offsets is close to its limit.
    pub(super) map_full: bool,
    pub(super) map_bytes: u32,
    pub(super) blocked: Option<String>,
    /// Refusals in a row.
    pub(super) refusals: u32,
    /// Lowest offset whose output was refused and that has not settled since: only when it has does the broker take
    /// what it refused, whatever becomes of others.
    pub(super) refused_at: Option<i64>,
    pub(super) end: i64,
    pub(super) heard_ms: u64,
    /// The last stall that was reported.
    stall: Option<Stall>,
    /// Since when the commit point stands.
    pub(super) point_since_ms: u64,
    point: i64,
}

/// How a partition stands: for people and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskStatus<'a> {
    /// The assignment.
    pub epoch: Epoch,
    /// Lowest unsettled offset.
    pub point: i64,
    /// What was last committed in this assignment.
    pub committed: Option<i64>,
    /// Next offset expected.
    pub next: i64,
    /// Where the log ended when it was last heard of.
    pub end: i64,
    /// Messages received and not settled.
    pub unsettled: usize,
    /// Bytes of the last commit's metadata.
    pub map_bytes: u32,
    /// Steady time since when `point` stands, in milliseconds.
    pub point_since_ms: u64,
    /// No new records are fetched.
    pub paused: bool,
    /// Why it waits.
    pub blocked: Option<&'a str>,
}

impl Task {
    pub(super) fn new(opened: &Opened, now: Now) -> Self {
        let tracker = Tracker::new(opened.start, opened.settled.clone());
        let begun = tracker.progress();
        Self {
            epoch: opened.epoch,
            phase: Phase::Active,
            tracker,
            twins: BTreeMap::new(),
            committed: None,
            sequence: opened.sequence,
            partitions: opened.partitions,
            log: opened.log,
            kept: opened.kept,
            said: opened.kept.breaker,
            saying: opened.kept.breaker,
            said_parked: opened.kept.parked,
            saying_parked: opened.kept.parked,
            careful: opened.careful,
            dirty: opened.fresh || opened.unmarked,
            touched: false,
            marks: Vec::new(),
            changes: BTreeMap::new(),
            unmarked_schemas: Vec::new(),
            parkings: Vec::new(),
            resolved: Vec::new(),
            marks_stuck: false,
            round: Round::default(),
            waits: Waits::new(opened),
            turned_away: None,
            lanes_turned_away: BTreeSet::new(),
            fetch_below: None,
            beyond: false,
            start: opened.start,
            unstarted: (opened.fresh || opened.unmarked && opened.sequence == 0).then_some(begun),
            publications: 0,
            letters_refused: 0,
            letters_stuck: 0,
            letters_full: false,
            map_full: false,
            map_bytes: 0,
            blocked: None,
            refusals: 0,
            refused_at: None,
            end: opened.start,
            heard_ms: now.steady_ms,
            stall: None,
            point_since_ms: now.steady_ms,
            point: opened.start,
        }
    }

    /// Takes over what outlives a rewind.
    pub(super) fn continue_after(&mut self, mut old: Self) {
        self.committed = old.committed.take();
        self.sequence = old.sequence;
        self.partitions = old.partitions;
        self.log = old.log;
        self.kept = old.kept;
        (self.said_parked, self.saying_parked) = (old.said_parked, old.saying_parked);
        // What was received may be parked, too, and comes again.
        let again = self.kept.parked.then_some(old.tracker.next()).max(old.waits.comes_again());
        self.waits.continue_after(&mut old.waits, again);
        self.unstarted = old.unstarted.take().map(|_| self.tracker.progress());
        self.dirty |= old.dirty || old.has_news();
        self.end = old.end;
        self.restart_after(old);
    }

    /// Takes over what outlives a restart from what is committed.
    pub(super) fn restart_after(&mut self, old: Self) {
        self.careful = old.careful;
        self.refusals = old.refusals;
        self.refused_at = old.refused_at;
        self.marks_stuck = old.marks_stuck;
        self.blocked = old.blocked;
        self.end = self.end.max(old.end);
    }

    /// The breaker stands like this. Others are to know.
    pub(super) const fn set_breaker(&mut self, open: bool) {
        self.kept.breaker = open;
        self.dirty |= !self.has_told_all();
    }

    /// What is committed says how the breaker stands, and whether anything is parked.
    pub(super) const fn has_told_all(&self) -> bool {
        self.kept.breaker == self.said && self.kept.parked == self.said_parked
    }

    /// Its silence counts from now on.
    pub(super) const fn hear(&mut self, now: Now) {
        self.heard_ms = now.steady_ms;
        self.stall = None;
    }

    pub(super) fn receive(&mut self, first: i64, last: i64, now: Now) {
        self.hear(now);
        self.dirty = true;
        self.tracker.receive(first, last);
        self.note_point(now);
    }

    /// `false`: the offset was never received, or has settled before.
    pub(super) fn settle(&mut self, offset: i64, now: Now) -> bool {
        let known = self.tracker.settle(offset);
        self.dirty |= known;
        self.note_point(now);
        // It may be gone from the log by now, and then never settles.
        if !self.marks_stuck && self.refused_at.is_some_and(|at| offset == at || self.point > at) {
            self.refused_at = None;
            self.refusals = 0;
        }
        known
    }

    /// What has no offset that could settle is written, and was refused before.
    pub(super) fn accept_at_last(&mut self, number: i64) {
        if !self.marks_stuck && self.refused_at == Some(number) {
            self.refused_at = None;
            self.refusals = 0;
        }
    }

    /// This is committed, with its marks. `true`: it waited for that.
    pub(super) fn marks_pass(&mut self, committed: &Progress) -> bool {
        let stays = |at: i64| at >= committed.point && !committed.settled.contains(at);
        if !self.marks_stuck || self.refused_at.is_some_and(stays) {
            return false;
        }
        self.marks_stuck = false;
        self.refused_at = None;
        self.refusals = 0;
        self.take_blocked().is_some()
    }

    /// A duplicate waits until the message at this offset is settled.
    pub(super) fn add_twin(&mut self, of: i64, twin: (Partition, i64)) {
        self.twins.entry(of).or_default().push(twin);
    }

    /// What waited for that.
    pub(super) fn take_twins(&mut self, of: i64) -> Vec<(Partition, i64)> {
        if self.twins.is_empty() { Vec::new() } else { self.twins.remove(&of).unwrap_or_default() }
    }

    /// A duplicate has waited.
    pub(super) fn settle_twin(&mut self, offset: i64, now: Now) {
        self.tracker.release();
        self.settle(offset, now);
    }

    /// Whether the commit's map has room for this offset; `waits`: it settles by the next commit, or later.
    pub(super) fn admits(&mut self, offset: i64, waits: bool) -> bool {
        if self.turned_away.is_some_and(|from| offset >= from) {
            return false;
        }
        if waits { self.tracker.reserve(offset) } else { self.tracker.claim(offset) }
    }

    /// From this offset on nothing is published any more, until it starts anew.
    pub(super) fn turn_away(&mut self, offset: i64) {
        self.turned_away = Some(self.turned_away.map_or(offset, |from| from.min(offset)));
    }

    /// Whether what was turned away may come again, since the map has room; `None`: nothing was.
    pub(super) fn may_return(&self) -> Option<bool> {
        let from = self.turned_away.filter(|_| self.phase == Phase::Active)?;
        Some(self.tracker.point() >= from || self.tracker.has_much_room())
    }

    /// Notes that an output of the message at this offset was refused.
    pub(super) fn refuse(&mut self, offset: i64) {
        self.refused_at = Some(self.refused_at.map_or(offset, |lowest| offset.min(lowest)));
    }

    /// After a restart for want of room: what it may fetch before there is some.
    pub(super) fn bound_fetch(&mut self, settled: &Ranges) {
        let end = settled.iter().last().map(|(_, end)| end);
        self.fetch_below = end.filter(|_| !self.tracker.has_much_room());
    }

    /// Whether it may fetch on.
    pub(super) fn look_beyond(&mut self, partition: Partition, actions: &mut Vec<Action>) {
        if self.fetch_below.is_none() {
            return;
        }
        let was_paused = self.is_paused();
        self.fetch_below = self.fetch_below.filter(|_| !self.tracker.has_much_room());
        self.beyond = self.fetch_below.is_some_and(|end| self.tracker.next() >= end);
        self.tell_pause(was_paused, partition, actions);
    }

    /// Why it waited, once nothing of it is refused any more.
    pub(super) fn take_blocked(&mut self) -> Option<String> {
        let stays = self.refused_at.is_some() || self.letters_stuck > 0 || self.marks_stuck;
        if stays { None } else { self.blocked.take() }
    }

    fn note_point(&mut self, now: Now) {
        let point = self.tracker.point();
        if point != self.point || self.tracker.unsettled() == 0 {
            self.point = point;
            self.point_since_ms = now.steady_ms;
        }
    }

    /// Whether settlements of this epoch count.
    pub(super) fn counts(&self, epoch: Epoch, policy: &Policy) -> bool {
        (self.epoch == epoch || policy.has(Bug::IgnoreEpochAtSettle))
            && matches!(self.phase, Phase::Active | Phase::Draining { .. })
    }

    /// What may be committed. What was settled above a refused output is not: it must run again, after it.
    pub(super) fn progress(&self, policy: &Policy) -> Progress {
        if let Phase::Rewinding(progress) = &self.phase {
            return progress.clone();
        }
        let mut progress = self.tracker.progress();
        if let Phase::Refused { offset, .. } | Phase::Draining { refused: Some(offset), .. } = self.phase
            && !policy.has(Bug::RewindKeepsLater)
            // Those of its lane have not settled.
            && !policy.commits_in_rounds()
        {
            progress.settled.truncate(offset);
        }
        if policy.has(Bug::CommitHighest) {
            progress = Progress { point: self.tracker.next(), settled: crate::ranges::Ranges::new() };
        }
        progress
    }

    /// What a commit of this progress says of who holds the partition; see [`crate::metadata::Metadata::held`].
    pub(super) const fn held(&self, progress: &Progress) -> Option<u32> {
        Some(if progress.point < self.careful.below { self.careful.messages } else { 0 })
    }

    /// Nothing of it runs any more, in any shard.
    pub(super) fn is_drained(&self) -> bool {
        matches!(self.phase, Phase::Draining { shards_left: 0, .. })
    }

    pub(super) const fn is_paused(&self) -> bool {
        let waits = matches!(self.phase, Phase::Refused { .. } | Phase::Rewinding(_) | Phase::Restarting { .. });
        self.map_full
            || self.letters_full
            || self.round.is_stuck()
            || self.round.is_full()
            || self.waits.is_full()
            || self.turned_away.is_some()
            || self.beyond
            || waits
    }

    /// With exactly-once: whether it has a place in transactions.
    pub(super) const fn commits(&self) -> bool {
        matches!(self.phase, Phase::Active | Phase::Draining { .. })
    }

    /// Whether the last commit covers this offset.
    pub(super) fn has_committed(&self, offset: i64) -> bool {
        self.committed.as_ref().is_some_and(|p| offset < p.point || p.settled.contains(offset))
    }

    /// One more dead letter waits for its topic to take it, or one less.
    pub(super) fn count_stuck_letter(&mut self, more: bool) {
        self.letters_stuck = if more { self.letters_stuck + 1 } else { self.letters_stuck.saturating_sub(1) };
        self.letters_full = self.letters_stuck >= if self.letters_full { LETTERS_FREE } else { LETTERS_FULL };
    }

    /// Says that fetching is to be paused or resumed, if it was otherwise before.
    pub(super) fn tell_pause(&self, was_paused: bool, partition: Partition, actions: &mut Vec<Action>) {
        match (was_paused, self.is_paused()) {
            (false, true) => actions.push(Action::Pause(partition)),
            (true, false) if self.phase == Phase::Active => actions.push(Action::Resume(partition)),
            _ => {}
        }
    }

    /// Position and log end, when the partition delivers nothing though it should. Told again while that lasts, later and later:
    /// to fetch anew may be of no use, too, and where there are only markers left to read it never is.
    pub(super) fn stalled(&mut self, now: Now, stall_ms: u64) -> Option<(i64, i64)> {
        let next = self.tracker.next();
        if self.end <= next || self.is_paused() || self.phase != Phase::Active {
            // Nothing is expected: silence counts from when something is.
            self.heard_ms = now.steady_ms;
            return None;
        }
        let silent = now.steady_ms.saturating_sub(self.heard_ms) > stall_ms;
        let before = self.stall.as_ref().filter(|stall| stall.position == next);
        if !silent || before.is_some_and(|stall| now.steady_ms < stall.again_ms) {
            return None;
        }
        let wait_ms =
            before.map_or(stall_ms, |stall| stall.wait_ms.saturating_mul(2).min(stall_ms.saturating_mul(STALL_WAITS)));
        self.stall = Some(Stall { position: next, again_ms: now.steady_ms.saturating_add(wait_ms), wait_ms });
        Some((next, self.end))
    }

    /// The last stall was told before, and to fetch anew was of no use.
    pub(super) fn has_stalled_again(&self, stall_ms: u64) -> bool {
        self.stall.as_ref().is_some_and(|stall| stall.wait_ms > stall_ms)
    }

    pub(super) fn status(&self) -> TaskStatus<'_> {
        TaskStatus {
            epoch: self.epoch,
            point: self.tracker.point(),
            committed: self.committed.as_ref().map(|p| p.point),
            next: self.tracker.next(),
            end: self.end,
            unsettled: self.tracker.unsettled(),
            map_bytes: self.map_bytes,
            point_since_ms: self.point_since_ms,
            paused: self.is_paused(),
            blocked: self.blocked.as_deref(),
        }
    }
}
