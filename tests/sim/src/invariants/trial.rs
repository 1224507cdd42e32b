//! Which version a key sees while one is on trial.

use super::{Oracle, Scope, name};
use keyrail_engine::message::{Partition, Ticket};
use std::collections::HashMap;

/// By trial, task and key: whether it is for the version on trial.
pub(super) type Sides = HashMap<(u32, Partition, Scope), bool>;

impl Oracle {
    /// A message runs that has not failed on the version on trial, in whatever process.
    pub fn sided(&mut self, version: u32, ticket: &Ticket, at: (u16, i64), on_trial: bool) {
        let Some(scope) = self.look(at.0, at.1).map(|fact| fact.scope).filter(|scope| scope.is_ordered()) else {
            return;
        };
        let side = *self.sides.entry((version, ticket.task(), scope)).or_insert(on_trial);
        if side != on_trial {
            let (here, before) = if on_trial { ("the trial's", "the serving") } else { ("the serving", "the trial's") };
            self.violated(name::TRIAL, Some(at), format!("runs on {here} version, and its key ran on {before} before"));
        }
    }
}
