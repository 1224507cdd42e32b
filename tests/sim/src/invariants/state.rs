//! State of handlers: what each committed message read and left is the fold of the messages of its key that were committed
//! before it, and so is what stands in the logs.

use super::delays::Wanted;
use super::facts::End;
use super::{Oracle, RunId, Scope, name};
use crate::touch::{NAMES, Op, Touch, count_of, key_of};
use keyrail_engine::delays;
use keyrail_engine::message::Partition;
use keyrail_engine::order::OrderKey;
use keyrail_engine::state::schema::is_mark;
use keyrail_engine::state::{Change, Entry, Owner};
use keyrail_engine::timers::{Timer, is_timer, number};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;

/// What has ended for so long is deleted, once there is nothing else to do.
const ENDED_MS: i64 = 8_000;

pub(super) type Key = (u16, Arc<[u8]>);

/// A value that stands.
#[derive(Debug, Clone)]
pub(super) struct Value {
    entry: Entry,
    /// It had ended, and its deletion is committed. Who has not heard of that yet may see it still, by a clock that went
    /// back.
    buried: bool,
}

/// Values by name.
#[derive(Debug, Default)]
pub(super) struct Values(BTreeMap<Key, Value>);

/// State as it must be.
#[derive(Debug, Default)]
pub(super) struct States {
    /// What the last run of each message did that was answered for, by its assignment.
    pub(super) touches: HashMap<(RunId, i64), Rc<Touch>>,
    pub(super) values: Values,
    /// Which message of a key became a dead letter for what it sent in this run of its task.
    verdicts: HashMap<(RunId, Scope), (u16, i64)>,
}

/// What a committed transaction holds of state.
#[derive(Debug)]
pub(super) struct Committed<'a> {
    /// What it covers, in order, and with what sum of what they read their outputs are; `None`: they have none.
    pub covered: Vec<((u16, i64), RunId, Option<u64>)>,
    pub changes: &'a [(u16, &'a Change)],
    /// Delayed sends that it holds.
    pub sent: &'a [(u16, i64)],
    pub latest_wall_ms: i64,
}

impl Values {
    /// Those of a partition.
    pub(super) fn of(&self, partition: u16) -> Self {
        let from: Key = (partition, Arc::from(&[][..]));
        let own = self.0.range(from..).take_while(|((at, _), _)| *at == partition);
        Self(own.map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    pub(super) fn get(&self, key: &Key) -> Option<&Entry> {
        self.0.get(key).map(|value| &value.entry)
    }

    pub(super) fn put(&mut self, key: Key, entry: Option<Entry>) {
        match entry {
            Some(entry) => self.0.insert(key, Value { entry, buried: false }),
            None => self.0.remove(&key),
        };
    }

    /// What has ended may be deleted.
    pub(super) fn bury_ended(&mut self, latest_wall_ms: i64) {
        self.0.values_mut().filter(|value| !value.entry.lives(latest_wall_ms)).for_each(|value| value.buried = true);
    }

    /// What a read must have found, one way or the other.
    fn may_find(&self, key: &Key, wall_ms: i64, found: Option<&[u8]>) -> bool {
        match self.0.get(key).filter(|value| value.entry.lives(wall_ms)) {
            None => found.is_none(),
            Some(value) => found == Some(&*value.entry.value) || value.buried && found.is_none(),
        }
    }

    fn may_scan(&self, at: u16, owner: &Owner, op: ((bool, u32), i64), found: &[(String, Arc<[u8]>)]) -> bool {
        let ((after_first, limit), wall_ms) = op;
        let mut rest = found;
        let mut names = NAMES;
        names.sort_unstable();
        for text in names.into_iter().filter(|text| !after_first || *text > NAMES[0]) {
            let key: Key = (at, owner.key(text).into());
            let seen = rest.split_first().filter(|((own, _), _)| own == text);
            if seen.is_none() && found.len() - rest.len() == limit as usize {
                break;
            }
            if !self.may_find(&key, wall_ms, seen.map(|((_, value), _)| &**value)) {
                return false;
            }
            rest = seen.map_or(rest, |(_, rest)| rest);
        }
        rest.is_empty() && found.len() <= limit as usize
    }

    /// A message is committed. Tells what it did that can't be.
    pub(super) fn replay(
        &mut self,
        at: u16,
        touch: &Touch,
        changed: &mut BTreeSet<Key>,
        aside: &BTreeSet<Key>,
    ) -> Option<String> {
        let is_aside = |text: &&str| aside.contains(&(at, touch.owner.key(text).into()));
        for op in &touch.ops {
            match op {
                Op::Get(name, ..) if is_aside(&NAMES[usize::from(*name)]) => {}
                Op::Scan(..) if NAMES.iter().any(is_aside) => {}
                Op::Get(name, wall_ms, found) => {
                    let text = NAMES[usize::from(*name)];
                    let key: Key = (at, touch.owner.key(text).into());
                    if !self.may_find(&key, *wall_ms, found.as_deref()) {
                        let (is, seen) = (self.told(&key, *wall_ms), found.as_deref().map(count_of));
                        return Some(format!("read {seen:?} under {text:?}, and what was committed before left {is}"));
                    }
                }
                Op::Scan(what, wall_ms, found) => {
                    if !self.may_scan(at, &touch.owner, (*what, *wall_ms), found) {
                        let seen: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
                        return Some(format!("found {seen:?} or their values, which is not what was committed before"));
                    }
                }
                Op::Delay(..) => {}
                Op::Write(..) => {
                    let (key, entry) = op.written(at, &touch.owner);
                    changed.insert(key.clone());
                    self.put(key, entry);
                }
            }
        }
        None
    }

    fn told(&self, key: &Key, wall_ms: i64) -> String {
        match self.0.get(key) {
            None => "nothing".into(),
            Some(Value { entry, buried }) => {
                let ended = if entry.lives(wall_ms) { "" } else { ", which had ended" };
                format!("{}{ended}{}", count_of(&entry.value), if *buried { ", which was deleted" } else { "" })
            }
        }
    }

    /// What stands of a partition: what has ended and is not deleted, too.
    fn standing(&self, partition: u16) -> BTreeMap<Arc<[u8]>, Entry> {
        let from: Key = (partition, Arc::from(&[][..]));
        let own = self.0.range(from..).take_while(|((at, _), _)| *at == partition);
        own.filter(|(_, value)| !value.buried).map(|((_, key), value)| (Arc::clone(key), value.entry.clone())).collect()
    }
}

impl Touch {
    /// What a message that is committed delays.
    fn delayed(&self, at: (u16, i64), task: u16) -> Vec<Wanted> {
        let owner = Some(&self.owner).filter(|owner| **owner != delays::owner());
        let wanted = |op: &Op| match op {
            Op::Delay(key, later) => {
                let key = (task, Arc::clone(key));
                Some(Wanted { at, key, owner: owner.cloned(), later: *later })
            }
            _ => None,
        };
        self.ops.iter().filter_map(wanted).collect()
    }
}

impl Op {
    /// Where it writes, and what.
    pub(super) fn written(&self, at: u16, owner: &Owner) -> (Key, Option<Entry>) {
        match self {
            Self::Write(name, entry) => ((at, key_of(owner, *name).into()), entry.clone()),
            Self::Get(..) | Self::Scan(..) | Self::Delay(..) => ((at, Arc::from(&[][..])), None),
        }
    }
}

impl Oracle {
    /// A transaction is committed: its messages had the right state before them, and leave the right one behind them.
    pub(super) fn judge_state(&mut self, committed: &Committed<'_>) {
        let (mut changed, mut delayed) = (BTreeSet::new(), Vec::new());
        for (at, run, said) in &committed.covered {
            if at.1 < -1 && !self.judge_fired(*at, said.is_none(), &mut changed) {
                continue;
            }
            let end = self.locals.get(&(*run, at.1)).and_then(|local| local.end);
            let touch = self.states.touches.remove(&(*run, at.1));
            let Some(touch) = touch.filter(|_| matches!(end, Some(End::Done | End::Skipped))) else { continue };
            if said.is_some_and(|said| said != touch.told()) {
                self.violated(name::STATE, Some(*at), "its outputs are not of what it read and left".into());
            }
            let task = self.task(at.0);
            delayed.extend(touch.delayed(*at, task));
            if let Some(what) = self.states.values.replay(task, &touch, &mut changed, &BTreeSet::new()) {
                self.violated(name::STATE, Some(*at), what);
            }
        }
        self.judge_parked_timers(&mut changed);
        let mut written: BTreeMap<Key, &Change> = BTreeMap::new();
        for (partition, change) in committed.changes.iter().filter(|(_, change)| !is_mark(&change.key)) {
            if written.insert((*partition, Arc::clone(&change.key)), change).is_some() {
                let what = "a name has two records in one transaction".into();
                self.violated(name::STATE, Some((*partition, -1)), what);
            }
        }
        self.judge_delayed(delayed, committed.sent, &mut written);
        for key in &changed {
            let present = self.states.values.get(key);
            let record = written.remove(key);
            if record.is_none_or(|change| change.entry.as_ref() != present) {
                let what = if record.is_some() { "is committed with another value" } else { "is not committed" };
                let what = format!("what a transaction's messages leave under a name {what}");
                self.violated(name::STATE, Some((key.0, -1)), what);
            }
        }
        // What is left deletes what has ended.
        for (key, change) in written {
            let ended = |value: &&mut Value| !value.buried && !value.entry.lives(committed.latest_wall_ms);
            match self.states.values.0.get_mut(&key).filter(ended) {
                Some(value) if change.entry.is_none() => value.buried = true,
                _ => {
                    let what = "state is committed that no message of the transaction leaves".into();
                    self.violated(name::STATE, Some((key.0, -1)), what);
                }
            }
        }
    }

    /// Timers that are parked with this transaction are set no more; those that leave a retry topic have a fate in it.
    fn judge_parked_timers(&mut self, changed: &mut BTreeSet<Key>) {
        for at in std::mem::take(&mut self.parks.timers_come) {
            let is_it = |(key, value): &(&Key, &Value)| key.0 == at.0 && number(&key.1, &value.entry.value) == at.1;
            match self.states.values.0.iter().find(is_it).map(|(key, _)| key.clone()) {
                Some(key) => {
                    self.states.values.put(key.clone(), None);
                    changed.insert(key);
                }
                None => self.violated(name::TIMERS, Some(at), "is parked, and is not set".into()),
            }
        }
        for (at, run) in std::mem::take(&mut self.parks.timers_go) {
            let end = self.locals.get(&(run, at.1)).and_then(|local| local.end);
            if end != Some(End::Discarded) {
                self.violated(name::LOST, Some(at), format!("leaves a retry topic as {end:?}, and did nothing"));
            }
        }
    }

    /// A timer is committed: it was there, and is no more. `false`: it did nothing else, since it became a dead letter.
    fn judge_fired(&mut self, at: (u16, i64), died: bool, changed: &mut BTreeSet<Key>) -> bool {
        if self.parks.timers_go.remove(&at).is_some() || self.parks.of(at).is_some() {
            return !died;
        }
        let values = &self.states.values.0;
        let is_it = |(key, value): &(&Key, &Value)| key.0 == at.0 && number(&key.1, &value.entry.value) == at.1;
        let Some(key) = values.iter().find(is_it).map(|(key, _)| key.clone()) else {
            self.violated(name::TIMERS, Some(at), "is committed, and is not there, or not any more".into());
            return false;
        };
        if died {
            self.states.values.put(key.clone(), None);
            changed.insert(key);
        }
        !died
    }

    /// What a message sends may follow from what those before it left: where one of them becomes a dead letter for what it
    /// sent in a run, none behind it may for what it sent in the same.
    pub(super) fn judge_verdicts(&mut self, covered: &[((u16, i64), RunId)]) {
        for (at, run) in covered {
            let undeliverable = self.locals.get(&(*run, at.1)).is_some_and(|local| local.undeliverable);
            let fact = self.look(at.0, at.1).filter(|fact| undeliverable && fact.scope.is_ordered());
            let Some(verdict) = fact.map(|fact| (self.run(fact.refused_in).shared, fact.scope)) else { continue };
            if self.states.verdicts.insert(verdict, *at).is_some_and(|other| other != *at) {
                let what = "is given up for what it sent when it had read what another one left that is given up, too";
                self.violated(name::STATE, Some(*at), what.into());
            }
        }
    }

    /// What somebody takes for a partition's committed state.
    pub fn judge_contents(&mut self, whose: &str, partition: u16, contents: &BTreeMap<Arc<[u8]>, Entry>) {
        let standing = self.states.values.standing(partition);
        let mut contents = contents.clone();
        contents.retain(|key, _| !is_mark(key));
        if standing != contents {
            let aside = |key: &Arc<[u8]>| self.rounds.tainted.contains(&(partition, Arc::clone(key)));
            let differs = |key: &&Arc<[u8]>| standing.get(*key) != contents.get(*key) && !aside(key);
            let count = standing.keys().chain(contents.keys()).filter(differs).collect::<BTreeSet<_>>().len();
            if count == 0 {
                return;
            }
            let what = format!("{whose} differs from what was committed in {count} names");
            self.violated(name::STATE, Some((partition, -1)), what);
        }
    }

    /// All work is done, and has been for a while: what has ended is deleted.
    pub fn state_at_the_end(&mut self, wall_ms: i64) {
        let parked: BTreeSet<u16> = self.parked().map(|(at, ..)| at.0).collect();
        let overdue = |(key, value): &(&Key, &Value)| {
            let timer = Timer::decode(&value.entry.value).ok().filter(|_| is_timer(&key.1));
            timer.is_some_and(|timer| timer.at_ms < wall_ms - ENDED_MS) && !parked.contains(&key.0)
        };
        if let Some(((partition, _), _)) = self.states.values.0.iter().find(overdue) {
            let (at, what) = (Some((*partition, -1)), "a timer was due, and never came".into());
            self.violated(name::TIMERS, at, what);
        }
        self.delays_at_the_end(wall_ms);
        let late = |(_, value): &(&Key, &Value)| !value.buried && !value.entry.lives(wall_ms - ENDED_MS);
        let aside = |(key, _): &(&Key, &Value)| self.rounds.tainted.contains(*key);
        if let Some(((partition, _), _)) = self.states.values.0.iter().filter(late).find(|found| !aside(found)) {
            let (at, what) = (Some((*partition, -1)), "a value has ended and is never deleted".into());
            self.violated(name::STATE, at, what);
        }
    }

    /// How many messages the value counts that a key of a partition has under a name.
    #[must_use]
    pub fn state_of(&self, partition: Partition, key: OrderKey<'_>, name: &str) -> Option<u64> {
        let task = self.task(crate::record::index_of(partition));
        let key: Key = (task, Owner::of(key).ok()?.key(name).into());
        self.states.values.0.get(&key).filter(|value| !value.buried).map(|value| count_of(&value.entry.value))
    }
}
