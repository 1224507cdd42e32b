//! At least once, where seen ids or state are kept, or messages are parked: what stands between a settled message and its offset.
//!
//! Each partition commits in rounds, of all that had settled when the round began: first the state that this changed is
//! written, a record for each key; then its ids; then tombstones of what was parked ([`super::covered`]); then its offsets and
//! their map may be committed. Each step begins when the broker has acknowledged all of the one before. What settles meanwhile
//! is of the next round, and a partition has one round at a time, so nothing of an earlier one comes behind a later one.
//!
//! A round whose records are not taken is undone: what it was to write goes back, under what changed since, and is of a later
//! one. Nothing settled is forgotten for it: the partition fetches no more, and its offsets stay where they are.
//!
//! A message counts as settled only when those before it in its [line](Lines) are, though its own records are written:
//! what it leaves of its key's state follows from what they left, and when they run again it must, behind them.

mod state;

use super::covered::Parking;
use super::marks::{Marks, What, marks};
use super::outbox::Token;
use super::publish::wait_ms;
use super::task::{self, Task};
use super::{Action, Pipeline, Refusal};
use crate::message::{Fate, MessageId, Now, Partition, Ticket};
use crate::parking;
use crate::planted::Bug;
use crate::policy::Policy;
use crate::shard::Settled;
use crate::state::Change;
use crate::tracker::Progress;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry as Slot;

/// A partition whose settled messages left so much begins its round before its time, and fetches no more until it has.
const FULL_BYTES: u64 = 8 << 20;

/// The rounds of a ledger.
#[derive(Debug)]
pub(super) struct Rounds {
    /// Records on their way.
    pub(super) marks: Marks,
    /// Offsets of the present rounds are to be committed.
    due: bool,
}

/// What a partition's round waits for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Step {
    /// There is none.
    #[default]
    None,
    /// The marks that its state needs are written.
    Marks,
    /// Its state is.
    State,
    /// Its ids are.
    Ids,
    /// What was parked leaves the retry topic.
    Tombstones,
}

/// What a message leaves beside its records.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) offset: i64,
    /// Its own records are.
    acknowledged: bool,
    pub(super) id: Option<MessageId>,
    changes: Vec<Change>,
    pub(super) parking: Parking,
}

#[derive(Debug)]
struct Line {
    first: Held,
    behind: VecDeque<Held>,
}

/// Published messages of each lane that are not settled, in order.
#[derive(Debug)]
pub(super) struct Lines(HashMap<u64, Line, FixedState>);

impl Default for Lines {
    fn default() -> Self {
        // Its keys are keyed hashes already.
        Self(HashMap::with_hasher(FixedState::with_seed(0)))
    }
}

impl Lines {
    fn push(&mut self, lane: u64, held: Held) {
        match self.0.entry(lane) {
            Slot::Occupied(mut line) => line.get_mut().behind.push_back(held),
            Slot::Vacant(place) => drop(place.insert(Line { first: held, behind: VecDeque::new() })),
        }
    }

    /// A message's records are written: it settles, and so do those behind it whose records are, unless one before it waits.
    /// `None`: it is not there.
    fn acknowledge(&mut self, lane: u64, offset: i64, each: &mut dyn FnMut(Held)) -> Option<()> {
        let Slot::Occupied(mut entry) = self.0.entry(lane) else { return None };
        let line = entry.get_mut();
        if line.first.offset != offset {
            let own = line.behind.iter_mut().find(|held| held.offset == offset)?;
            return (!core::mem::replace(&mut own.acknowledged, true)).then_some(());
        }
        while let Some(next) = line.behind.pop_front() {
            let waits = !next.acknowledged;
            each(core::mem::replace(&mut line.first, next));
            if waits {
                return Some(());
            }
        }
        each(entry.remove().first);
        Some(())
    }

    /// A message that is not settled.
    pub(super) fn find(&mut self, lane: u64, offset: i64) -> Option<&mut Held> {
        let line = self.0.get_mut(&lane)?;
        core::iter::once(&mut line.first).chain(&mut line.behind).find(|held| held.offset == offset)
    }

    /// Takes a message out, wherever it stands.
    fn take(&mut self, lane: u64, offset: i64) -> Option<Held> {
        let Slot::Occupied(mut entry) = self.0.entry(lane) else { return None };
        let line = entry.get_mut();
        if let Some(at) = line.behind.iter().position(|held| held.offset == offset) {
            return line.behind.remove(at);
        }
        match line.behind.pop_front().filter(|_| line.first.offset == offset) {
            Some(next) => Some(core::mem::replace(&mut line.first, next)),
            None => (line.first.offset == offset).then(|| entry.remove().first),
        }
    }
}

/// A partition's present round.
#[derive(Debug, Default)]
pub(super) struct Round {
    step: Step,
    /// What it covers.
    covers: Option<Progress>,
    /// Its ids.
    ids: Vec<MessageId>,
    /// Messages that leave the retry topic with it, and what it changes thereby of what is parked.
    resolved: Vec<i64>,
    gone: Vec<parking::Change>,
    /// Its state, until that is written.
    changes: Option<Arc<[Change]>>,
    /// All effects of this are written: offsets may be committed so far.
    durable: Option<Progress>,
    /// Since the last round that was not taken.
    retry_ms: u64,
    /// Rounds in a row that were not taken.
    refusals: u32,
    /// What settled since the round began left so many bytes of state.
    bytes: u64,
    pub(super) lines: Lines,
}

impl Round {
    pub(super) const fn is_full(&self) -> bool {
        self.bytes >= FULL_BYTES
    }

    /// Its records are not taken.
    pub(super) const fn is_stuck(&self) -> bool {
        self.refusals > 0
    }
}

impl Task {
    /// All effects of what has settled are written.
    pub(super) fn is_written(&self) -> bool {
        self.round.step == Step::None && self.marks.is_empty() && self.changes.is_empty() && self.resolved.is_empty()
    }

    fn may_begin_round(&self, now: Now) -> bool {
        let news = self.dirty || !self.is_written();
        self.round.step == Step::None && news && now.steady_ms >= self.round.retry_ms
    }

    /// All effects of something are written, and its offset is not known to be committed; or the commit is to say something else.
    pub(super) fn has_news(&self) -> bool {
        self.round.durable.is_some() && (self.round.durable != self.committed || !self.has_told_all())
    }

    /// `false`: it was never received, or has settled before. What counts at once of what is parked is added to `told`.
    fn pass(&mut self, held: Held, now: Now, told: &mut Vec<parking::Change>, policy: &Policy) -> bool {
        self.marks.extend(held.id);
        self.round.bytes += held.changes.iter().map(Change::size).sum::<u64>();
        told.extend(self.pass_parked(held.offset, &held.parking, policy));
        self.changes.extend(held.changes.into_iter().map(|change| (change.key.clone(), change)));
        if held.parking.number > 0 { self.settle_detached(held.offset) } else { self.settle(held.offset, now) }
    }

    /// What the next commit may say of it; `None`: nothing yet.
    pub(super) fn durable(&self, last: bool, policy: &Policy) -> Option<Progress> {
        let hasty = last && policy.has(Bug::ReleaseUnwritten);
        if hasty { Some(self.progress(policy)) } else { self.round.durable.clone() }
    }
}

impl Rounds {
    pub(super) fn of(policy: &Policy) -> Option<Self> {
        policy.commits_in_rounds().then(|| Self { marks: Marks::new(), due: false })
    }

    /// Nobody waits for records of this partition any more.
    pub(super) fn forget(&mut self, partition: Partition) {
        self.marks.records.retain(|_, written| written.partition != partition);
    }
}

impl<M> Pipeline<M> {
    /// What a message leaves is to count once it is settled.
    pub(super) fn line_up(&mut self, settled: &mut Settled<M>, now: Now) {
        let Some(rounds) = &mut self.rounds else { return };
        rounds.marks.latest_ms = rounds.marks.latest_ms.max(now.wall_ms);
        let Ticket { partition, offset, lane, .. } = settled.ticket;
        let changes = core::mem::take(&mut settled.changes);
        let stands = matches!(settled.fate, Fate::Done | Fate::Skipped);
        let id = settled.ticket.id.filter(|_| self.policy.keeps_ids() && marks(&settled.fate));
        let parking = Parking::of(settled);
        let Some(task) = self.tasks.get_mut(&partition) else { return };
        if self.policy.has(Bug::MarkUnacknowledged) {
            task.marks.extend(id);
        }
        let changes = if stands { changes } else { Vec::new() };
        if parking.number > 0 && self.policy.has(Bug::ResolveUnacknowledged) {
            task.resolve(offset, parking::Change { lane, offset, number: parking.number, written: None });
        }
        task.round.lines.push(lane, Held { offset, acknowledged: false, id, changes, parking });
    }

    /// All records of a message are written. `false`: it was never published, or is settled already.
    pub(super) fn settle_in_line(&mut self, ticket: &Ticket, now: Now, actions: &mut Vec<Action>) -> bool {
        let partition = ticket.partition;
        let Some(task) = self.tasks.get_mut(&partition) else { return false };
        let was_paused = task.is_paused();
        let mut passed = Vec::new();
        let found = if self.policy.has(Bug::SettleOutOfLine) {
            task.round.lines.take(ticket.lane, ticket.offset).map(|held| passed.push(held))
        } else {
            task.round.lines.acknowledge(ticket.lane, ticket.offset, &mut |held| passed.push(held))
        };
        let mut known = found.is_some();
        let (mut twins, mut told) = (Vec::new(), Vec::new());
        for held in passed {
            let offset = held.offset;
            known &= task.pass(held, now, &mut told, &self.policy);
            twins.extend(task.take_twins(offset));
        }
        if !told.is_empty() {
            actions.push(Action::Parked { partition, epoch: task.epoch, changes: Arc::from(told) });
        }
        self.settle_twins(twins, now);
        if let Some(task) = self.tasks.get(&partition) {
            task.tell_pause(was_paused, partition, actions);
        }
        known
    }

    /// Begins the rounds that are due, and commits the offsets of those that are through.
    pub(super) fn commit_in_rounds(&mut self, now: Now, actions: &mut Vec<Action>) {
        self.fail_late_commit(now);
        let full = self.tasks.values().any(|task| task.round.is_full() && task.may_begin_round(now));
        if now.steady_ms >= self.next_commit_ms || full {
            self.next_commit_ms = now.steady_ms.saturating_add(self.policy.commit.interval_ms);
            // Those that are through don't wait for others any longer.
            self.commit_written(now, actions);
            let begin = |(p, t): (&Partition, &Task)| (!self.is_releasing(*p) && t.may_begin_round(now)).then_some(*p);
            let partitions: Vec<Partition> = self.tasks.iter().filter_map(begin).collect();
            partitions.into_iter().for_each(|partition| self.begin_round(partition, actions));
            if let Some(rounds) = &mut self.rounds {
                rounds.due = true;
            }
        }
        let hasty = self.policy.has(Bug::OffsetsBeforeIds);
        let through = |task: &Task| task.round.step == Step::None || hasty && task.round.step == Step::Ids;
        self.tell_covered(actions);
        if self.tasks.values().all(through) {
            self.commit_written(now, actions);
        }
    }

    fn commit_written(&mut self, now: Now, actions: &mut Vec<Action>) {
        if self.in_flight.is_some() || !self.rounds.as_ref().is_some_and(|rounds| rounds.due) {
            return;
        }
        // What is being released has its last commit apart.
        let due = |(p, t): &(&Partition, &Task)| !self.is_releasing(**p) && t.has_news();
        let partitions: Vec<(Partition, bool)> = self.tasks.iter().filter(due).map(|(p, _)| (*p, false)).collect();
        let (offsets, states) = self.plan(&partitions, actions);
        if let Some(rounds) = &mut self.rounds {
            rounds.due = false;
        }
        if offsets.is_empty() {
            return;
        }
        self.send_commit(offsets, states, now, actions);
    }

    /// What has settled by now is the partition's present round.
    fn begin_round(&mut self, partition: Partition, actions: &mut Vec<Action>) {
        let Some(task) = self.tasks.get_mut(&partition) else { return };
        let waits = !task.is_written() && !self.policy.has(Bug::WriteBeforeStart);
        if let Some(begun) = task.unstarted.as_ref().filter(|_| waits) {
            // First its start is committed.
            task.round.durable.get_or_insert_with(|| begun.clone());
            return;
        }
        let was_paused = task.is_paused();
        task.dirty = false;
        task.round.bytes = 0;
        task.round.covers = Some(task.progress(&self.policy));
        task.round.ids = core::mem::take(&mut task.marks);
        task.round.resolved = core::mem::take(&mut task.resolved);
        task.round.gone = core::mem::take(&mut task.parkings);
        match task.take_changes(&self.policy) {
            None => self.write_ids(partition, actions),
            Some(changes) => {
                task.round.changes = Some(changes);
                self.write_state(partition, actions);
            }
        }
        if let Some(task) = self.tasks.get(&partition) {
            task.tell_pause(was_paused, partition, actions);
        }
    }

    /// The state of a partition's round is written.
    fn write_ids(&mut self, partition: Partition, actions: &mut Vec<Action>) {
        let (Some(rounds), Some(task)) = (&mut self.rounds, self.tasks.get_mut(&partition)) else { return };
        task.round.changes = None;
        if self.policy.has(Bug::OmitMarks) {
            task.round.ids.clear();
        }
        rounds.marks.write_seen((partition, task.epoch), &task.round.ids, actions);
        let written = task.round.ids.is_empty();
        task.round.step = Step::Ids;
        if self.policy.has(Bug::OffsetsBeforeIds) {
            task.round.durable.clone_from(&task.round.covers);
        }
        if written {
            self.write_tombstones(partition, actions);
        }
    }

    /// The ids of a partition's round are written, too: what was parked and is resolved may leave the retry topic. So may what
    /// may be there without anybody's knowledge, before an offset says that its message is settled.
    fn write_tombstones(&mut self, partition: Partition, actions: &mut Vec<Action>) {
        let (Some(rounds), Some(task)) = (&mut self.rounds, self.tasks.get_mut(&partition)) else { return };
        let offsets = Arc::<[i64]>::from(task.round.resolved.as_slice());
        if offsets.is_empty() || self.policy.has(Bug::OmitTombstones) {
            return self.round_is_through(partition, actions);
        }
        task.round.step = Step::Tombstones;
        let token = rounds.marks.write(partition, task.epoch, What::Unparked(offsets.clone()));
        actions.push(Action::Unpark { token, partition, offsets });
    }

    /// All that a partition's round writes is written.
    fn round_is_through(&mut self, partition: Partition, actions: &mut Vec<Action>) {
        let Some(task) = self.tasks.get_mut(&partition) else { return };
        let was_paused = task.is_paused();
        task.round.step = Step::None;
        task.round.ids.clear();
        task.round.resolved.clear();
        let gone = core::mem::take(&mut task.round.gone);
        if !gone.is_empty() {
            actions.push(Action::Parked { partition, epoch: task.epoch, changes: Arc::from(gone) });
        }
        task.round.refusals = 0;
        task.marks_stuck = false;
        task.round.durable = task.round.covers.take();
        if task.take_blocked().is_some() {
            actions.push(Action::Unblocked(partition));
        }
        task.tell_pause(was_paused, partition, actions);
    }

    /// A record of a round is written.
    pub(super) fn round_acknowledged(&mut self, token: Token, now: Now, actions: &mut Vec<Action>) {
        let Some(rounds) = &mut self.rounds else { return };
        let Some(written) = rounds.marks.records.get_mut(&token) else { return };
        written.open = written.open.saturating_sub(1);
        if written.open > 0 {
            return;
        }
        let Some(written) = rounds.marks.records.remove(&token) else { return };
        let partition = written.partition;
        actions.extend(written.passed());
        if rounds.marks.records.values().any(|other| other.partition == partition) {
            return;
        }
        match self.tasks.get(&partition).filter(|task| task.epoch == written.epoch).map(|task| task.round.step) {
            Some(Step::Marks) => self.marks_written(partition, actions),
            Some(Step::State) => self.write_ids(partition, actions),
            Some(Step::Ids) => self.write_tombstones(partition, actions),
            Some(Step::Tombstones) => self.round_is_through(partition, actions),
            Some(Step::None) | None => {}
        }
        // First: what is given up has its last commit apart.
        self.check_revoke(now, actions);
        self.commit_in_rounds(now, actions);
    }

    /// A record of a round was not taken: all of it is of a later one.
    pub(super) fn round_refused(&mut self, token: Token, refusal: Refusal, now: Now, actions: &mut Vec<Action>) {
        let Some(rounds) = &mut self.rounds else { return };
        let Some(written) = rounds.marks.records.get(&token) else { return };
        let (partition, what) = (written.partition, written.what.clone());
        rounds.forget(partition);
        let Some(task) = self.tasks.get_mut(&partition) else { return };
        let was_paused = task.is_paused();
        task.put_back(&self.policy);
        let why = match (what, refusal) {
            (What::Seen { ids, .. }, Refusal::Undeliverable(_)) if ids.len() > 1 => {
                rounds.marks.most = ids.len().div_ceil(2);
                self.begin_round(partition, actions);
                return;
            }
            (what, Refusal::Undeliverable(why) | Refusal::Blocked(why)) => what.refused(&why),
        };
        let (first_ms, max_ms) = (self.timing.refusal_first_ms, self.timing.refusal_max_ms);
        task.round.retry_ms = now.steady_ms.saturating_add(wait_ms(first_ms, max_ms, task.round.refusals));
        task.round.refusals = task.round.refusals.saturating_add(1);
        task.marks_stuck = true;
        task.tell_pause(was_paused, partition, actions);
        self.block(partition, false, why, actions);
    }

    /// Writes what is left of these partitions, so that their last commit covers all that has settled. `true`: it is written.
    pub(super) fn write_the_rest(&mut self, partitions: &[Partition], now: Now, actions: &mut Vec<Action>) -> bool {
        for partition in partitions {
            let rest =
                |task: &Task| !task.is_written() || task.round.durable.as_ref() != Some(&task.progress(&self.policy));
            if self.tasks.get(partition).is_some_and(|task| rest(task) && task.may_begin_round_again(now)) {
                self.begin_round(*partition, actions);
            }
        }
        partitions.iter().filter_map(|p| self.tasks.get(p)).all(Task::is_written)
    }

    /// As [`Pipeline::expired`], without transactions.
    pub(super) fn expired_in_rounds(&mut self, partition: Partition, keys: &[Arc<[u8]>]) -> bool {
        let Some(task) = self.tasks.get_mut(&partition).filter(|task| task.phase == task::Phase::Active) else {
            return false;
        };
        // The round may give one of them a new value, which nobody has looked at.
        if matches!(task.round.step, Step::Marks | Step::State) && !self.policy.has(Bug::ExpireWritten) {
            return false;
        }
        task.expire(keys, &self.policy);
        true
    }

    /// With at-least-once: whether records of a partition's ids or state, or of what is parked, are on their way, or may be written
    /// though they were refused. Otherwise all that was written of them before is known, by [`Action::Marked`],
    /// [`Action::Kept`] and [`Action::Parked`].
    #[must_use]
    pub fn is_writing(&self, partition: Partition) -> bool {
        let unsure = |task: &Task| task.round.step != Step::None || task.round.is_stuck() || task.waits.is_unsure();
        self.tasks.get(&partition).is_some_and(unsure)
    }
}

impl Task {
    fn may_begin_round_again(&self, now: Now) -> bool {
        self.round.step == Step::None && now.steady_ms >= self.round.retry_ms
    }

    /// What the present round was to write is to be written by a later one.
    fn put_back(&mut self, policy: &Policy) {
        self.round.step = Step::None;
        self.round.covers = None;
        self.dirty = true;
        let mut ids = core::mem::take(&mut self.round.ids);
        ids.append(&mut self.marks);
        self.marks = ids;
        let mut resolved = core::mem::take(&mut self.round.resolved);
        resolved.append(&mut self.resolved);
        self.resolved = resolved;
        let mut gone = core::mem::take(&mut self.round.gone);
        gone.append(&mut self.parkings);
        self.parkings = gone;
        if policy.has(Bug::ForgetRefusedRound) {
            self.round.changes = None;
        }
        for change in self.round.changes.take().iter().flat_map(|changes| changes.iter()) {
            if !self.changes.contains_key(&change.key) || policy.has(Bug::PutBackOverNewer) {
                self.changes.insert(change.key.clone(), change.clone());
            }
        }
    }
}
