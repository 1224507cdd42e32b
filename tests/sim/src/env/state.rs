//! State on its way to its logs, and what is read of these.

use super::Env;
use crate::invariants::{RunId, name};
use crate::model::outputs::{Effect, Report, Sender, marks_place, state_place};
use crate::trace::Who;
use keyrail_engine::state::schema::{FIRST, Found, is_mark};
use keyrail_engine::state::{Change, Entry};
use std::collections::BTreeMap;
use std::sync::Arc;

impl Env {
    /// As [`Env::produce`], for a change of an input partition's state.
    pub fn produce_state(
        &mut self,
        sender: Sender,
        token: u64,
        (partition, run): (u16, RunId),
        change: &Change,
    ) -> Option<Report> {
        let effect = Effect { run: run.0, ..Effect::state(partition, self.states.len()) };
        self.states.push((change.clone(), self.schema_of(sender.process)));
        self.send(sender, state_place(partition), token, effect, false)
    }

    /// Where the log of a partition's state ends, for who asks for all of it, or for what is decided.
    pub fn state_end(&mut self, partition: u16, stable: bool) -> usize {
        let log = self.coordinator.internal_log(state_place(partition));
        if stable { log.stable_end() } else { log.end() }
    }

    /// Changes that stand between two positions of a partition's log; see [`InternalLog::read`].
    ///
    /// [`InternalLog::read`]: crate::model::internal::InternalLog::read
    pub fn read_state(&mut self, partition: u16, (from, to): (usize, usize), uncommitted: bool) -> Vec<Change> {
        let log = self.coordinator.internal_log(state_place(partition));
        log.read(from, to, uncommitted).map(|record| self.states[record].0.clone()).collect()
    }

    /// All that is committed of a partition's state.
    pub fn state_contents(&mut self, partition: u16) -> BTreeMap<Arc<[u8]>, Entry> {
        let mut contents = BTreeMap::new();
        for change in self.read_state(partition, (0, usize::MAX), false) {
            match change.entry {
                Some(entry) => contents.insert(change.key, entry),
                None => contents.remove(&change.key),
            };
        }
        contents
    }

    /// The schema that a process's version writes.
    #[must_use]
    pub fn schema_of(&self, process: u16) -> u16 {
        if self.settings.schemas { FIRST + (self.settings.seed as u16).wrapping_add(process) % 3 } else { FIRST }
    }

    /// Whoever has read a partition's log up to there knows of each schema that a value in it is of.
    pub fn judge_schemas(&mut self, partition: u16, end: usize, found: &Found) {
        let log = self.coordinator.internal_log(state_place(partition));
        let written = log.read(0, end, false).map(|record| &self.states[record]);
        let last: BTreeMap<&[u8], _> =
            written.map(|(change, schema)| (&*change.key, (&change.entry, *schema))).collect();
        let values = last.into_iter().filter(|(key, (entry, _))| entry.is_some() && !is_mark(key));
        let missed = values.map(|(_, (_, schema))| schema).find(|schema| !found.schemas.contains(schema));
        if let Some(schema) = missed {
            let what = format!("values of schema {schema} are there, and nothing says so: {found:?}");
            self.oracle.violated(name::SCHEMA, Some((partition, -1)), what);
        }
    }

    /// Whether anything is committed of a task's seen ids or state.
    pub fn holds_anything(&mut self, task: u16) -> bool {
        let marks = self.coordinator.internal_log(marks_place(task)).read(0, usize::MAX, false).next().is_some();
        marks || self.coordinator.internal_log(state_place(task)).read(0, usize::MAX, false).next().is_some()
    }

    /// Compaction runs over the log of a partition's state.
    pub fn compact_state(&mut self, partition: u16) {
        self.note(Who::Broker, "state compacted", Some((partition, -1)), 0);
        let states = &self.states;
        self.coordinator.internal_log(state_place(partition)).compact(|record| Arc::clone(&states[record].0.key));
    }

    /// The local store of a worker is deleted while no process has it.
    pub fn delete_store(&mut self, worker: u8) {
        self.note(Who::Worker(worker), "store deleted", None, 0);
        self.disks[usize::from(worker)] = super::Disk::default();
    }
}
