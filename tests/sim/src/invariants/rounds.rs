//! Without transactions: what is written of ids and of state, step by step.

use super::state::{Key, Values};
use super::{Oracle, RunId, name};
use crate::env::Marks;
use crate::touch::{Op, Touch};
use keyrail_engine::message::{MessageId, Ticket};
use keyrail_engine::policy::Guarantee;
use keyrail_engine::state::schema::is_mark;
use keyrail_engine::state::{Change, Entry};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    /// State as those see it that run in an assignment.
    views: HashMap<RunId, Values>,
    /// What the messages of an assignment left under a name, in order.
    left: HashMap<(RunId, Key), Left>,
    /// Where in it each message's own are.
    owes: HashMap<(RunId, i64), Vec<(Key, usize)>>,
    /// Names of which one wrote that had lost their partition.
    pub(super) tainted: BTreeSet<Key>,
    /// Messages of an assignment that settled with this id, duplicates apart.
    ids: HashMap<(RunId, MessageId), Vec<i64>>,
    /// The assignment in which a process last settled a message, and its id if that is to be written.
    settled: HashMap<(u16, u16, i64), (RunId, Option<MessageId>)>,
    /// How many records of ids each partition has.
    marks: BTreeMap<u16, u32>,
    /// Which of them hold an id, and its time.
    marked: HashMap<(u16, MessageId), Vec<(u32, i64)>>,
}

#[derive(Debug, Default)]
struct Left {
    all: Vec<Option<Entry>>,
    /// So many of them are written, or overwritten.
    written: usize,
    /// And these, unless a deletion was not that of a message, but of what had ended.
    maybe: usize,
}

impl Rounds {
    /// How many records of ids a partition has.
    pub(super) fn marks_written(&self, partition: u16) -> u32 {
        self.marks.get(&partition).copied().unwrap_or(0)
    }

    /// Whether all that a message left is written.
    fn is_kept(&self, run: RunId, offset: i64) -> bool {
        let written = |(key, at): &(Key, usize)| {
            self.tainted.contains(key) || self.left.get(&(run, key.clone())).is_some_and(|left| left.maybe > *at)
        };
        self.owes.get(&(run, offset)).is_none_or(|all| all.iter().all(written))
    }
}

impl Oracle {
    fn has_rounds(&self) -> bool {
        self.policy.guarantee == Guarantee::AtLeastOnce && (self.policy.keeps_ids() || self.policy.keeps_state())
    }

    /// What a parked message left beside its records is written, before it leaves its retry topic.
    pub(super) fn judge_resolved(&mut self, at: (u16, i64), run: RunId) {
        let id = self.locals.get(&(run, at.1)).and_then(|local| local.id.filter(|_| local.marks));
        if self.has_rounds() && !self.rounds.is_kept(run, at.1) {
            self.violated(name::STATE, Some(at), "leaves its retry topic before its state is written".into());
        }
        if id.is_some_and(|id| self.policy.keeps_ids() && !self.marked.contains_key(&(at.0, id))) {
            self.violated(name::DEDUP, Some(at), "leaves its retry topic before its id is written".into());
        }
    }

    /// All state of a partition is read: its assignment begins with what stands.
    pub fn state_read(&mut self, run: RunId, partition: u16) {
        if self.has_rounds() {
            let view = self.states.values.of(partition);
            self.rounds.views.insert(run, view);
        }
    }

    /// The handler's answer for a message stands, with what it did with its key's state.
    pub(super) fn touched_in_round(&mut self, run: RunId, at: (u16, i64), touch: &Touch, latest_wall_ms: i64) {
        // A shard that has not heard yet that the partition was lost, and is this process's again: nothing comes of it.
        let over = self.present.get(&(self.run(run).process, at.0)) != Some(&run);
        let Some(view) = self.rounds.views.get_mut(&run).filter(|_| !over) else { return };
        view.bury_ended(latest_wall_ms);
        let wrong = view.replay(at.0, touch, &mut BTreeSet::new(), &self.rounds.tainted);
        let mut own = Vec::new();
        for op in &touch.ops {
            let Op::Write(..) = op else { continue };
            let (key, entry) = op.written(at.0, &touch.owner);
            let left = self.rounds.left.entry((run, key.clone())).or_default();
            left.all.push(entry);
            own.push((key, left.all.len() - 1));
        }
        self.rounds.owes.insert((run, at.1), own);
        if let Some(what) = wrong {
            self.violated(name::STATE, Some(at), what);
        }
    }

    /// A shard decided a message's fate; `id` is to be written.
    pub(super) fn settled_in_round(&mut self, run: RunId, at: (u16, i64), id: Option<MessageId>) {
        if !self.has_rounds() {
            return;
        }
        let id = id.filter(|_| self.policy.keeps_ids());
        self.rounds.settled.insert((self.run(run).process, at.0, at.1), (run, id));
        if let Some(id) = id {
            self.rounds.ids.entry((run, id)).or_default().push(at.1);
        }
    }

    /// It may be that this id is written.
    pub(super) fn may_mark(&mut self, run: RunId, at: (u16, i64), id: Option<MessageId>) {
        if let Some(id) = id.filter(|_| self.has_rounds() && self.policy.keeps_ids()) {
            self.rounds.ids.entry((run, id)).or_default().push(at.1);
        }
    }

    /// State stands in its log. `owns`: who wrote it has the partition.
    pub fn state_written(&mut self, run: RunId, partition: u16, change: &Change, (owns, latest_wall_ms): (bool, i64)) {
        if is_mark(&change.key) {
            return;
        }
        let key: Key = (partition, Arc::clone(&change.key));
        if !owns {
            self.rounds.tainted.insert(key.clone());
        }
        if !self.rounds.tainted.contains(&key) {
            let standing = self.states.values.get(&key).cloned();
            let left = self.rounds.left.entry((run, key.clone())).or_default();
            let found = left.all.iter().rposition(|entry| *entry == change.entry);
            match found {
                Some(at) if at + 1 >= left.written => {
                    // What had ended may be deleted for that, whoever deletes the name later.
                    let ended = standing.is_some_and(|entry| !entry.lives(latest_wall_ms));
                    if change.entry.is_some() || !ended {
                        left.written = at + 1;
                    }
                    left.maybe = left.maybe.max(at + 1);
                }
                _ if change.entry.is_none() => {
                    if standing.is_some_and(|entry| entry.lives(latest_wall_ms)) {
                        let what = "a value is deleted that has not ended, and no message deletes it".into();
                        self.violated(name::STATE, Some((partition, -1)), what);
                    }
                }
                Some(_) => {
                    let what = "what a message left is written behind what a later one left".into();
                    self.violated(name::STATE, Some((partition, -1)), what);
                }
                None => {
                    let what = "state is written that no message of the assignment left".into();
                    self.violated(name::STATE, Some((partition, -1)), what);
                }
            }
        }
        self.states.values.put(key, change.entry.clone());
    }

    /// Seen ids stand in their log.
    pub fn ids_written(&mut self, run: RunId, partition: u16, marks: &Marks) {
        let number = self.rounds.marks.entry(partition).or_default();
        *number += 1;
        let number = *number;
        for id in marks.ids.iter() {
            let own = self.rounds.ids.get(&(run, *id)).cloned().unwrap_or_default();
            let done = |offset: &i64| {
                let fate = self.look(partition, *offset).is_some_and(super::Fact::has_fate);
                fate && self.rounds.is_kept(run, *offset)
            };
            if !own.iter().any(done) {
                let at = Some((partition, own.last().copied().unwrap_or(-1)));
                self.violated(name::DEDUP, at, "has its id written before all of its effects are".into());
            }
            self.marked.insert((partition, *id), marks.time_ms);
            self.rounds.marked.entry((partition, *id)).or_default().push((number, marks.time_ms));
        }
    }

    /// A commit covers a message for the first time.
    pub(super) fn judge_rounds(&mut self, at: (u16, i64), run: RunId) {
        let nobodys = self.look(at.0, at.1).is_none_or(|fact| fact.excused) || self.lost_and_reported(at);
        if !self.has_rounds() || nobodys {
            return;
        }
        let process = self.run(run).process;
        let Some((own, id)) = self.rounds.settled.get(&(process, at.0, at.1)).copied() else { return };
        if !self.rounds.is_kept(own, at.1) {
            self.violated(name::STATE, Some(at), "is committed before its state is written".into());
        }
        if id.is_some_and(|id| !self.marked.contains_key(&(at.0, id))) {
            self.violated(name::DEDUP, Some(at), "is committed before its id is written".into());
        }
    }

    /// A message runs for the first time in its assignment.
    pub fn runs_first(&mut self, run: RunId, ticket: &Ticket, latest_wall_ms: i64) {
        let Some(id) = ticket.id.filter(|_| self.has_rounds() && self.policy.keeps_ids()) else { return };
        let partition = crate::record::index_of(ticket.partition);
        let window_ms = self.policy.dedup.as_ref().map_or(0, |d| d.window_ms as i64);
        let marked = self.rounds.marked.get(&(partition, id)).map_or(&[][..], Vec::as_slice);
        let mut known = marked.iter().filter(|(number, _)| *number <= self.run(run).marks_before);
        // A later record may say an earlier time.
        if known.next_back().is_some_and(|(_, time_ms)| latest_wall_ms - time_ms < window_ms) {
            let what = "runs though its id was written before its assignment began".into();
            self.violated(name::DEDUP, Some((partition, ticket.offset)), what);
        }
    }
}

impl Oracle {
    /// The handler's answer for a message, with what it did with its key's state; `stands`: it is done.
    pub fn touched(&mut self, run: RunId, at: (u16, i64), touch: &Rc<Touch>, (stands, wall_ms): (bool, i64)) {
        if !self.has_rounds() {
            self.states.touches.insert((run, at.1), Rc::clone(touch));
        } else if stands {
            self.touched_in_round(run, at, touch, wall_ms);
        }
    }
}
