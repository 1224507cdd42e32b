//! What is parked: what stands in the retry topics is what was committed there, message by message; it runs when it is due and
//! not before, with the attempts that it had, and leaves when its fate is committed.

use super::facts::End;
use super::inbox::Want;
use super::{Oracle, RunId, Scope, Stored, Whence, name};
use crate::env::ParkRecord;
use keyrail_engine::inbox::CommandId;
use keyrail_engine::message::Now;
use keyrail_engine::metadata::Metadata;
use keyrail_engine::parking::{HELD, Waiting};
use keyrail_engine::policy::Spent;
use std::collections::{BTreeMap, BTreeSet};

/// What is committed.
#[derive(Debug, Default)]
pub(super) struct Parks {
    now: BTreeMap<(u16, i64), (RunId, Waiting)>,
    /// Partitions that ever parked anything.
    ever: BTreeSet<u16>,
    /// What had failed and was resolved, and by which assignment.
    resolved: BTreeMap<(u16, i64), RunId>,
    /// Without transactions: messages of which one wrote that had lost their partition.
    pub(super) strays: BTreeSet<(u16, i64)>,
    /// The first run of each assignment, by process and partition.
    pub(super) assigned: BTreeMap<(u16, u16), RunId>,
    /// Whose lane each timer is in that was ever parked.
    timers: BTreeMap<(u16, i64), Scope>,
    /// Timers that the present transaction parks, and those that leave a retry topic with it.
    pub(super) timers_come: Vec<(u16, i64)>,
    pub(super) timers_go: BTreeMap<(u16, i64), RunId>,
}

impl Parks {
    /// A message that is parked, and by which assignment.
    pub(super) fn of(&self, at: (u16, i64)) -> Option<&(RunId, Waiting)> {
        self.now.get(&at)
    }

    /// It is parked no more.
    pub(super) fn take(&mut self, at: (u16, i64)) -> Option<(RunId, Waiting)> {
        self.now.remove(&at)
    }

    /// Its partition has parked something.
    pub(super) fn note(&mut self, partition: u16) {
        self.ever.insert(partition);
    }

    /// It is parked so from now on.
    pub(super) fn put(&mut self, at: (u16, i64), run: RunId, waiting: Waiting) -> Option<Waiting> {
        self.now.insert(at, (run, waiting)).map(|(_, stood)| stood)
    }
}

/// Messages with a fate, and the commands that change what is parked, each with its message.
type Judged = (Vec<((u16, i64), RunId)>, BTreeMap<CommandId, (u16, i64)>);

impl Oracle {
    /// A transaction is committed: of what it covers, and of what it changes in retry topics, these messages have a fate, in the
    /// order of their offsets.
    pub(super) fn judge_parked(&mut self, covered: Vec<((u16, i64), RunId)>, records: &[&ParkRecord]) -> Judged {
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
        let (mut changed, mut gone, mut unmarked) = (BTreeMap::new(), Vec::new(), Vec::new());
        self.note_timers(&written);
        before.extend(self.parks.timers_come.iter().copied());
        self.judge_places(&written);
        let ends: Vec<((u16, i64), RunId)> = written.iter().map(|(at, record)| (*at, record.run)).collect();
        ends.into_iter().for_each(|(at, run)| self.judge_follower(at, run));
        for (at, record) in written {
            let command = self.take_command(record.run, at);
            changed.extend(command.map(|(id, _)| (id, at)));
            let want = command.map(|(_, want)| want);
            match &record.waiting {
                Some(waiting) if waiting.given_up.is_some_and(|given_up| given_up.until > 0) => {
                    self.judge_mark(at, record.run, waiting);
                    fates.push((at, record.run));
                }
                Some(waiting) => self.judge_waiting(at, record.run, waiting, (before.contains(&at), want)),
                None => match self.parks.now.remove(&at) {
                    Some((_, waiting)) if waiting.given_up.is_some_and(|given_up| given_up.until > 0) => {
                        self.parks.resolved.insert(at, record.run);
                        unmarked.push((at, record.run, waiting));
                    }
                    Some((_, waiting)) => {
                        if waiting.history.first_failed_ms.is_some() {
                            self.parks.resolved.insert(at, record.run);
                        }
                        if at.1 < -1 {
                            self.parks.timers_go.insert(at, record.run);
                        } else {
                            fates.push((at, record.run));
                        }
                        gone.extend(want.is_none().then_some((at, waiting.number)));
                    }
                    None => self.violated(name::FATE, Some(at), "leaves a retry topic that it is not in".into()),
                },
            }
        }
        for (at, number) in gone {
            let marks = |other: i64| self.until_of((at.0, other)) >= number;
            if self.places_of(at).any(|(offset, other)| other < number && !marks(offset)) {
                let what = "leaves a retry topic before one of its key that was parked before it".into();
                self.violated(name::ORDER, Some(at), what);
            }
        }
        unmarked.into_iter().for_each(|(at, run, waiting)| self.judge_unmarked(at, run, &waiting));
        fates.sort_unstable_by_key(|(at, _)| *at);
        (fates, changed)
    }

    /// Timers that are parked: whose they are, and which are so newly.
    fn note_timers(&mut self, written: &BTreeMap<(u16, i64), &ParkRecord>) {
        for (at, record) in written.iter().filter(|(at, record)| at.1 < -1 && record.waiting.is_some()) {
            let scope = self.scope_of(&record.rec);
            self.parks.timers.insert(*at, scope);
            if !self.parks.now.contains_key(at) {
                self.parks.timers_come.push(*at);
            }
        }
    }

    /// What is parked of a message's key: where, and in which places.
    pub(super) fn places_of(&self, at: (u16, i64)) -> impl Iterator<Item = (i64, u64)> {
        let scope = self.scope_at(at);
        let all = self.parks.now.range((at.0, i64::MIN)..=(at.0, i64::MAX));
        let own = move |at: (u16, i64)| scope.is_some() && self.scope_at(at) == scope;
        all.filter(move |(at, _)| own(**at)).map(|(at, (_, waiting))| (at.1, waiting.number))
    }

    /// Whose key a message or a parked timer has, if that has an order.
    pub(super) fn scope_at(&self, at: (u16, i64)) -> Option<Scope> {
        let scope = self.look(at.0, at.1).map(|fact| fact.scope).or_else(|| self.parks.timers.get(&at).copied());
        scope.filter(|scope| scope.is_ordered())
    }

    /// What is committed newly, other than by leaving a retry topic, overtakes no timer of its key that was parked before it was
    /// decided.
    pub(super) fn judge_behind_timers(&mut self, covered: &[((u16, i64), RunId)]) {
        let waits: Vec<_> =
            self.parks.now.range(..).filter(|(at, _)| at.1 < -1).map(|(at, (run, _))| (*at, *run)).collect();
        for (at, run) in covered {
            let local = self.locals.get(&(*run, at.1)).copied().unwrap_or_default();
            let done = matches!(local.end, Some(End::Done | End::Skipped | End::Letter));
            let Some(scope) = self.scope_at(*at).filter(|_| done) else { continue };
            let before = |timer: &&((u16, i64), RunId)| {
                let (timer, by) = **timer;
                let order = self.locals.get(&(by, timer.1)).map_or(0, |local| local.order);
                timer.0 == at.0 && self.parks.timers.get(&timer) == Some(&scope) && order < local.order
            };
            if waits.iter().any(|timer| before(&timer)) {
                self.violated(name::ORDER, Some(*at), "overtakes a timer of its key that is parked".into());
            }
        }
    }

    /// What is parked newly stands behind all that was parked of its key, in the order in which it was decided.
    fn judge_places(&mut self, written: &BTreeMap<(u16, i64), &ParkRecord>) {
        let mut news: Vec<(u32, (u16, i64), u64)> = Vec::new();
        for (at, record) in written {
            let order = self.locals.get(&(record.run, at.1)).map_or(0, |local| local.order);
            let mark =
                record.waiting.as_ref().and_then(|waiting| waiting.given_up).map_or(0, |given_up| given_up.until);
            if mark > 0 || self.parks.of(*at).is_none() {
                let number = |waiting: &Waiting| if mark > 0 { mark } else { waiting.number };
                news.extend(record.waiting.as_ref().map(|waiting| (order, *at, number(waiting))));
            }
        }
        news.sort_unstable();
        let mut last: BTreeMap<(u16, Scope), u64> = BTreeMap::new();
        for (_, at, number) in news {
            let Some(scope) = self.scope_at(at) else { continue };
            let stood = self.places_of(at).map(|(offset, other)| other.max(self.until_of((at.0, offset)))).max();
            let before = last.insert((at.0, scope), number).max(stood);
            if self.parks.of(at).is_some() {
                if before > Some(number) {
                    let what = format!("is given up with all up to number {number}, and there is number {before:?}");
                    self.violated(name::LOST, Some(at), what);
                }
                continue;
            }
            if before.is_some_and(|before| before >= number) {
                let what =
                    format!("is parked as number {number} of its key, and there is number {}", before.unwrap_or(0));
                self.violated(name::ORDER, Some(at), what);
            }
        }
    }

    /// All that is parked: of which message, whether it is held, and whether it is the first of its key.
    pub fn parked(&self) -> impl Iterator<Item = ((u16, i64), bool, bool)> {
        self.parks.now.iter().map(|(at, (_, waiting))| {
            let first = !self.places_of(*at).any(|(_, other)| other < waiting.number);
            (*at, waiting.due_ms == HELD, first)
        })
    }

    /// Whether a message is parked and has failed before, as this assignment may know it: to one that has lost the partition it is
    /// parked though another one has resolved it.
    #[must_use]
    pub fn has_failed(&self, at: (u16, i64), run: RunId) -> bool {
        self.parks.of(at).is_some_and(|(_, waiting)| waiting.history.first_failed_ms.is_some())
            || self.parks.resolved.get(&at).is_some_and(|by| *by != run)
    }

    /// Messages whose dead letters are committed, once for each.
    #[must_use]
    pub fn lettered(&self) -> &[(u16, i64)] {
        &self.lettered
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
    fn judge_waiting(&mut self, at: (u16, i64), run: RunId, waiting: &Waiting, (first, want): (bool, Option<Want>)) {
        let local = *self.local(run, at.1);
        if local.end != Some(End::Parked) {
            self.violated(name::FATE, Some(at), format!("is parked, and ended as {:?}", local.end));
        }
        // A final answer is an attempt as well.
        let attempts = local.attempts + u32::from(local.oversized);
        if waiting.history.attempts != attempts {
            let what = format!("is parked with {} attempts, and had {attempts}", waiting.history.attempts);
            self.violated(name::FATE, Some(at), what);
        }
        self.parks.ever.insert(at.0);
        self.judge_held(at, waiting, local.oversized);
        let stood = self.parks.now.insert(at, (run, waiting.clone())).map(|(_, stood)| stood);
        match stood {
            None if want == Some(Want::Redrive) => self.taken_back(at),
            Some(_) if first => self.violated(name::FATE, Some(at), "is parked, and was parked already".into()),
            None if !first => self.violated(name::FATE, Some(at), "is parked anew, and was not parked".into()),
            Some(stood) if stood.number != waiting.number => {
                self.violated(name::ORDER, Some(at), "is parked anew in another place".into());
            }
            _ => {}
        }
        let local = self.local(run, at.1);
        (local.settled, local.released) = (false, false);
        if want.is_some() {
            local.end = None;
        }
    }

    /// What is spent waits until somebody acts, and nothing else does.
    pub(super) fn judge_held(&mut self, at: (u16, i64), waiting: &Waiting, oversized: bool) {
        let (retry, held) = (&self.policy.retry, waiting.due_ms == HELD);
        let spent = waiting.history.attempts >= retry.attempts || oversized;
        let lawful = match retry.then {
            Spent::Hold if spent => held,
            // Its age may have been too high.
            Spent::Hold => !held || waiting.history.failures > 0,
            Spent::DeadLetterKey => !held && (waiting.given_up.is_some() || !spent),
            Spent::DeadLetter | Spent::Discard => !held,
        };
        let lawful = lawful && (waiting.given_up.is_none() || retry.then == Spent::DeadLetterKey);
        if !lawful {
            let what = format!("is parked until {} after {} attempts", waiting.due_ms, waiting.history.attempts);
            self.violated(name::FATE, Some(at), what);
        }
    }

    /// A dead letter is to run again: it has one fate more.
    fn taken_back(&mut self, at: (u16, i64)) {
        let Some(fact) = self.fact(at.0, at.1) else { return };
        fact.redriven += 1;
        let (letters, was_closed) = (fact.ended, std::mem::take(&mut fact.checked));
        if was_closed {
            self.open[usize::from(at.0)] += 1;
            self.closed[usize::from(at.0)] -= 1;
        }
        if letters.is_none() {
            self.violated(name::FATE, Some(at), "is taken back, and had no fate".into());
        }
    }

    /// A parked message runs, or gets its fate without a run: what is known of it is what was committed. Tells whether it is the
    /// first time since it was parked.
    pub(super) fn released(&mut self, run: RunId, at: (u16, i64), whence: Whence, now: Option<Now>) -> bool {
        let Some((_, waiting)) = self.parks.now.get(&at).cloned() else {
            if whence == Whence::Parked && !self.is_stray(at) {
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
        let judged = whence == Whence::Parked && !self.is_stray(at);
        if let Some(now) = now.filter(|now| !released && judged && now.wall_ms < waiting.due_ms) {
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
        let left = self.parks.now.keys().copied().find(|at| !self.is_stray(*at));
        if let Some(at) = left {
            self.violated(name::PROGRESS, Some(at), "is parked for ever".into());
        }
    }
}
