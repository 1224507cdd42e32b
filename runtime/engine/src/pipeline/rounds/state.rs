//! The state of a partition's round, behind the marks of its schemas: a broker may refuse the first records of a row and take
//! others behind them, so those are on their way only when the marks stand.

use super::Step;
use crate::message::Partition;
use crate::pipeline::{Action, Pipeline};
use crate::planted::Bug;
use crate::state::schema;
use alloc::vec::Vec;

impl<M> Pipeline<M> {
    pub(super) fn write_state(&mut self, partition: Partition, actions: &mut Vec<Action>) {
        let (Some(rounds), Some(task)) = (&mut self.rounds, self.tasks.get_mut(&partition)) else { return };
        let at = (partition, task.epoch);
        if !task.unmarked_schemas.is_empty() {
            task.round.step = Step::Marks;
            let marks = task.unmarked_schemas.iter().map(|schema| schema::mark(*schema)).collect();
            rounds.marks.write_state(at, marks, actions);
            return;
        }
        let Some(changes) = task.round.changes.clone() else { return };
        task.round.step = Step::State;
        rounds.marks.write_state(at, changes, actions);
        if self.policy.has(Bug::IdsWithState) {
            self.write_ids(partition, actions);
        }
    }

    /// They stand: now the state.
    pub(super) fn marks_written(&mut self, partition: Partition, actions: &mut Vec<Action>) {
        if let Some(task) = self.tasks.get_mut(&partition) {
            task.unmarked_schemas.clear();
        }
        self.write_state(partition, actions);
    }
}
