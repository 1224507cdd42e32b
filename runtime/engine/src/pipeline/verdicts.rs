//! What the broker will never take, remembered until its message is committed as what it then becomes: a dead letter.

use super::Pipeline;
use super::publish::undeliverable;
use super::transaction::Transactions;
use crate::message::{Fate, Now, Partition, Reason, Ticket};
use crate::shard::Settled;
use alloc::string::String;
use alloc::vec::Vec;

/// What the broker will never take of a message, learnt in a transaction that was given up for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Why its outputs are refused, if they are.
    pub(super) outputs: Option<String>,
    /// Its dead letter is too large with all its headers.
    short: bool,
    /// How often it had run.
    attempts: u32,
    /// It is of a parked message, or of a timer: that its offset is committed says nothing.
    parked: bool,
}

impl Transactions {
    /// Learns that the broker will never take a record of this publication, by its number. `false`: that was known.
    pub(super) fn learn(&mut self, ticket: &Ticket, number: u64, letter: bool, attempts: u32, why: String) -> bool {
        let (at, parked) = ((ticket.partition, ticket.offset), ticket.is_detached());
        let new = || Verdict { outputs: None, short: false, attempts, parked };
        let verdict = self.verdicts.entry(at).or_insert_with(new);
        let known = if letter { verdict.short } else { verdict.outputs.is_some() };
        if letter {
            verdict.short = true;
        } else {
            verdict.outputs.get_or_insert(why);
            if !known {
                self.learnt.entry((ticket.task(), ticket.lane)).or_default().push((number, at));
            }
        }
        !known
    }

    /// The present transaction is given up. With state, what a message sends may follow from what those of its key before it
    /// left: of each lane only the first verdict counts, since those behind it saw a message that never was.
    pub(super) fn unlearn(&mut self, state: bool) {
        for (_, mut all) in core::mem::take(&mut self.learnt) {
            all.sort_unstable();
            for (_, at) in all.into_iter().skip(1).filter(|_| state) {
                if let Some(verdict) = self.verdicts.get_mut(&at) {
                    verdict.outputs = None;
                }
            }
        }
        self.verdicts.retain(|_, verdict| verdict.outputs.is_some() || verdict.short);
    }

    /// Messages of which something will never be taken, but for their dead letters.
    pub(super) fn condemned(&self, partition: Partition) -> Vec<i64> {
        let own = self.verdicts.range((partition, i64::MIN)..=(partition, i64::MAX));
        own.filter(|(_, verdict)| verdict.outputs.is_some()).map(|((_, offset), _)| *offset).collect()
    }

    /// This message is parked now, or no more: it is committed as such.
    pub(super) fn note_parked(&mut self, at: (Partition, i64), parked: bool) {
        if parked {
            if let Some(verdict) = self.verdicts.get_mut(&at) {
                verdict.parked = true;
            }
        } else {
            self.verdicts.remove(&at);
        }
    }

    /// Nothing is known any more of what this message sends.
    pub(super) fn pardon(&mut self, at: (Partition, i64)) {
        self.verdicts.remove(&at);
    }

    /// A timer is published: once that is committed its verdict is not needed any more.
    pub(super) fn note_fired(&mut self, ticket: &Ticket) {
        let at = (ticket.partition, ticket.offset);
        if ticket.is_timer() && self.verdicts.contains_key(&at) {
            self.fired.push(at);
        }
    }

    /// What the present transaction holds is committed.
    pub(super) fn forget_fired(&mut self) {
        for at in core::mem::take(&mut self.fired) {
            self.verdicts.remove(&at);
        }
    }

    /// Verdicts of messages that `is_committed` is told of are not needed any more, unless those are parked.
    pub(super) fn forget_committed(&mut self, is_committed: impl Fn(Partition, i64) -> bool) {
        self.verdicts.retain(|(p, offset), verdict| verdict.parked || !is_committed(*p, *offset));
    }

    pub(super) fn forget(&mut self, partition: Partition) {
        self.verdicts.retain(|(p, _), _| *p != partition);
    }
}

impl<M> Pipeline<M> {
    /// What an earlier, given up transaction taught of this message. Tells whether its dead letter goes short.
    pub(super) fn apply_verdict(&mut self, settled: &mut Settled<M>, records: u32, now: Now) -> bool {
        let at = (settled.ticket.partition, settled.ticket.offset);
        let Some(verdict) = self.transactions.as_ref().and_then(|t| t.verdicts.get(&at)) else { return false };
        if let Some(why) = &verdict.outputs {
            match &mut settled.fate {
                // It did not run again.
                Fate::DeadLetter(epitaph) if epitaph.reason == Reason::Undeliverable => {
                    epitaph.failure.detail.clone_from(why);
                    epitaph.attempts = verdict.attempts;
                    settled.attempts = verdict.attempts;
                }
                Fate::DeadLetter(_) => {}
                _ if records > 0 => {
                    settled.fate = undeliverable(why.clone(), settled.attempts, now);
                    settled.slot = None;
                }
                _ => {}
            }
        }
        verdict.short
    }
}
