//! What a transaction changes of what is parked: messages that are written to the retry topic as they settle, and tombstones
//! of those that came from there, written with the marks.

use super::outbox::Token;
use super::{Action, Pipeline};
use crate::parking::{self, Change};
use crate::planted::Bug;
use crate::shard::Settled;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// About what a tombstone is.
const TOMBSTONE_BYTES: u64 = 64;

impl<M> Pipeline<M> {
    /// A message is published: if it came from the retry topic, it leaves it with the present transaction.
    pub(super) fn unpark(&mut self, settled: &Settled<M>) {
        let ticket = &settled.ticket;
        if ticket.parked == 0 || parking::written(&settled.fate).is_some() {
            return;
        }
        self.staged(TOMBSTONE_BYTES);
        if let Some(task) = self.tasks.get_mut(&ticket.partition) {
            task.resolved.push(ticket.offset);
            task.parkings.push(Change {
                lane: ticket.lane,
                offset: ticket.offset,
                number: ticket.parked,
                written: None,
            });
        }
    }

    /// The record of a message is acknowledged: if it is that of a parked one, that is parked once the transaction is committed.
    pub(super) fn note_parked(&mut self, token: Token, settled: &Settled<M>, actions: &mut Vec<Action>) {
        let (ticket, Some(waiting)) = (settled.ticket, parking::written(&settled.fate)) else { return };
        let early = self.policy.has(Bug::ParkedBeforeCommit);
        let Some(task) = self.tasks.get_mut(&ticket.partition).filter(|task| task.epoch == ticket.epoch) else {
            return;
        };
        let change = Change { lane: ticket.lane, offset: ticket.offset, number: waiting.number, written: Some(token) };
        if !self.policy.has(Bug::SayParkedLate) {
            // Committed with it, or not at all.
            task.kept.parked = true;
        }
        if early {
            let (partition, epoch, changes) = (ticket.partition, ticket.epoch, Arc::new([change]));
            return actions.push(Action::Parked { partition, epoch, changes });
        }
        task.parkings.push(change);
    }

    /// The present transaction is committed, and what it changes of what is parked with it. What is known of messages that are
    /// no more there is forgotten.
    pub(super) fn parkings_committed(&mut self, actions: &mut Vec<Action>) {
        for (partition, task) in &mut self.tasks {
            let changes = core::mem::take(&mut task.parkings);
            if changes.is_empty() {
                continue;
            }
            if let Some(transactions) = &mut self.transactions {
                for change in &changes {
                    transactions.note_parked((*partition, change.offset), change.written.is_some());
                }
            }
            task.kept.parked |= changes.iter().any(|change| change.written.is_some());
            actions.push(Action::Parked { partition: *partition, epoch: task.epoch, changes: Arc::from(changes) });
        }
    }
}
