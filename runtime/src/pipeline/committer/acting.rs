//! What the ledger asks for is done in its order, where there is room for records or not.

use super::Worker;
use crate::pipeline::Trouble;
use keyrail_engine::pipeline::Action;
use keyrail_engine::seen;

impl Worker {
    /// The transaction is given up: what it was to hold is of no use to the next.
    pub(super) fn forget_asked(&mut self) {
        let of_it = |action: &Action| {
            let marks = matches!(action, Action::Mark { .. } | Action::Keep { .. });
            marks || matches!(action, Action::Unpark { .. } | Action::Answer { .. })
        };
        self.actions.retain(|action| !of_it(action));
        self.produced.clear();
    }

    pub(super) fn act(&mut self) -> Result<(), Trouble> {
        // Producing may bring more to do.
        while !self.actions.is_empty() {
            let mut all = std::mem::take(&mut self.actions).into_iter();
            while let Some(action) = all.next() {
                match action {
                    action if produces(&action) => {
                        // Whatever comes of it comes behind what was decided before.
                        let newer = std::mem::replace(&mut self.actions, all.collect());
                        self.actions.extend(newer);
                        match action {
                            Action::Mark { token, partition, ids, time_ms } => {
                                self.produce_mark(token, partition, &seen::encode(time_ms, &ids))?
                            }
                            Action::Keep { token, partition, changes } => {
                                self.produce_state(token, partition, &changes)?
                            }
                            Action::DeadLetter { token, short } => self.produce_letter(token, short)?,
                            Action::Park { token } => self.produce_parked(token)?,
                            Action::Unpark { token, partition, offsets } => {
                                self.produce_tombstones(token, partition, &offsets)?
                            }
                            Action::Answer { token, partition, answers } => {
                                self.produce_answers(token, partition, &answers)?
                            }
                            _ => {}
                        }
                        break;
                    }
                    other => self.perform(other)?,
                }
            }
        }
        Ok(())
    }

    /// As [`Worker::act`], when the producer has no room: what is to be produced waits.
    pub(super) fn act_without_producing(&mut self) -> Result<(), Trouble> {
        for action in std::mem::take(&mut self.actions) {
            if produces(&action) {
                self.actions.push(action);
            } else {
                self.perform(action)?;
            }
        }
        Ok(())
    }
}

/// Whether it asks for records.
const fn produces(action: &Action) -> bool {
    matches!(
        action,
        Action::DeadLetter { .. }
            | Action::Mark { .. }
            | Action::Keep { .. }
            | Action::Park { .. }
            | Action::Unpark { .. }
            | Action::Answer { .. }
    )
}
