//! From a decided fate to a settled offset: outputs and dead letters on their way to the broker.

use super::outbox::{Publication, Token};
use super::task::Phase;
use super::{Action, Pipeline};
use crate::message::{Company, Epitaph, Epoch, Failure, Fate, Now, Partition, Reason, Ticket};
use crate::parking;
use crate::planted::Bug;
use crate::shard::Settled;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Why the broker did not take a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// It will never take it: too large, or invalid for its topic.
    Undeliverable(String),
    /// It does not take it now: missing topic, missing rights, no broker in time.
    Blocked(String),
}

impl<M> Pipeline<M> {
    /// A shard decided a message's fate. `records` is how many records its effects are; each is to be produced under
    /// the token that is returned, and reported by [`Pipeline::acknowledged`] or [`Pipeline::refused`]. `None`: there
    /// is nothing to produce, or the message is of an earlier assignment, or will run again, and its effects must be
    /// thrown away.
    ///
    /// Only while [`Pipeline::takes_settled`].
    pub fn publish(
        &mut self,
        mut settled: Settled<M>,
        records: u32,
        now: Now,
        actions: &mut Vec<Action>,
    ) -> Option<Token> {
        let ticket = settled.ticket;
        if !self.tasks.get(&ticket.partition).is_some_and(|t| t.counts(ticket.epoch, &self.policy)) {
            return None;
        }
        if !self.takes_settled() {
            // It would be in no transaction.
            actions.push(Action::Stray { partition: ticket.partition, offset: ticket.offset });
            return None;
        }
        let short = self.apply_verdict(&mut settled, records, now);
        let duplicate_of = if let Fate::Duplicate { of } = settled.fate { of } else { None };
        // One that was parked has settled in the input, and a timer was never there.
        let admitted =
            self.transactions.is_none() || ticket.is_detached() || self.admits(&ticket, duplicate_of, actions);
        if !admitted {
            return None;
        }
        if let Some(transactions) = &mut self.transactions {
            transactions.begin(now);
            transactions.note_fired(&ticket);
            self.touch(ticket.partition);
            self.mark(&settled, now);
            self.keep(&mut settled, now);
            self.unpark(&settled);
        }
        // What was parked leaves the retry topic in its turn, a duplicate too.
        let in_line =
            self.rounds.is_some() && (!matches!(settled.fate, Fate::Duplicate { .. }) || ticket.is_detached());
        if in_line {
            self.line_up(&mut settled, now);
        }
        let letter = matches!(settled.fate, Fate::DeadLetter(_));
        // A dead letter that others go with is both: their mark is written with it.
        let parks = parking::written(&settled.fate).is_some();
        let remaining = if letter || parks { u32::from(letter) + u32::from(parks) } else { records };
        if remaining == 0 {
            let known = match settled.fate {
                _ if in_line => self.settle_in_line(&ticket, now, actions),
                _ if ticket.is_detached() => true,
                Fate::Duplicate { of } => self.settle_duplicate(&ticket, of, now),
                _ => self.settle(ticket.partition, ticket.offset, now),
            };
            if !known {
                actions.push(Action::Stray { partition: ticket.partition, offset: ticket.offset });
            }
            let task = self.tasks.get_mut(&ticket.partition)?;
            if task.take_blocked().is_some() {
                actions.push(Action::Unblocked(ticket.partition));
            }
            return None;
        }
        self.tasks.get_mut(&ticket.partition)?.publications += 1;
        let token = self.outbox.insert(settled, remaining, letter, short);
        if letter {
            actions.push(Action::DeadLetter { token, short });
        }
        if parks {
            self.write_parked(token, &ticket, actions);
            if self.policy.has(Bug::ParkUnacknowledged) {
                self.settle_in_line(&ticket, now, actions);
            }
        }
        (!letter && !parks).then_some(token)
    }

    /// The message of a publication, for building its dead letter.
    #[must_use]
    pub fn publication(&self, token: Token) -> Option<&Settled<M>> {
        self.outbox.get(token).map(|p| &p.settled)
    }

    /// One record of this publication is written. Tells whether it was a dead letter; of one that is written with a mark, at
    /// the last of both.
    pub fn acknowledged(&mut self, token: Token, now: Now, actions: &mut Vec<Action>) -> bool {
        if token.is_mark() {
            self.mark_acknowledged(token, now, actions);
            return false;
        }
        let Some(publication) = self.outbox.get_mut(token) else { return false };
        publication.remaining = publication.remaining.saturating_sub(1);
        let letter = publication.letter && publication.remaining == 0;
        if publication.remaining == 0 || self.policy.has(Bug::SettleAtFirstAck) {
            self.reported(token, now, actions);
        }
        letter
    }

    /// All records of a publication have their reports.
    fn reported(&mut self, token: Token, now: Now, actions: &mut Vec<Action>) {
        let Some(publication) = self.outbox.get_mut(token) else { return };
        if publication.refused {
            self.drop_publication(token);
            return self.check_revoke(now, actions);
        }
        if let Some(detail) = publication.undeliverable.take() {
            return self.bury(token, detail.into_string(), now, actions);
        }
        let (letter, ticket, was_refused) = (publication.letter, publication.settled.ticket, publication.refusals > 0);
        if let Some(Publication { settled, .. }) = self.outbox.remove(token) {
            if self.rounds.is_some() {
                self.line_parked(token, &settled);
            } else {
                self.note_parked(token, &settled, actions);
            }
        }
        self.finish(&ticket, letter, was_refused, now, actions);
        self.end_transaction(now, actions);
        self.check_revoke(now, actions);
    }

    /// Settles a message whose records are all written, if its assignment still counts.
    fn finish(&mut self, ticket: &Ticket, letter: bool, was_refused: bool, now: Now, actions: &mut Vec<Action>) {
        let Some(task) = self.tasks.get_mut(&ticket.partition) else { return };
        if task.epoch == ticket.epoch {
            task.publications -= 1;
            if was_refused {
                let was_paused = task.is_paused();
                task.count_stuck_letter(false);
                task.tell_pause(was_paused, ticket.partition, actions);
            }
        }
        if !task.counts(ticket.epoch, &self.policy) {
            return;
        }
        let known = if self.rounds.is_some() {
            self.settle_in_line(ticket, now, actions) || self.policy.has(Bug::ParkUnacknowledged)
        } else {
            ticket.is_detached() || self.settle(ticket.partition, ticket.offset, now)
        };
        if !known {
            actions.push(Action::Stray { partition: ticket.partition, offset: ticket.offset });
        }
        if ticket.is_detached()
            && let Some(task) = self.tasks.get_mut(&ticket.partition)
        {
            task.accept_at_last(ticket.offset);
        }
        if self.tasks.get_mut(&ticket.partition).is_some_and(|task| task.take_blocked().is_some()) {
            actions.push(Action::Unblocked(ticket.partition));
        }
        if letter {
            let Ticket { partition, epoch, offset, lane, .. } = *ticket;
            actions.push(Action::LetterAcknowledged { partition, epoch, offset, lane });
        }
    }

    /// The broker did not take a record of this publication.
    pub fn refused(&mut self, token: Token, refusal: Refusal, now: Now, actions: &mut Vec<Action>) {
        if token.is_mark() {
            return self.mark_refused(token, refusal, now, actions);
        }
        let Some(publication) = self.outbox.get_mut(token) else { return };
        if self.policy.has(Bug::SettleRefused) && !publication.letter {
            self.acknowledged(token, now, actions);
            return;
        }
        if self.transactions.is_some() {
            return self.refused_in_transaction(token, refusal, now, actions);
        }
        if publication.letter {
            return self.letter_refused(token, refusal, now, actions);
        }
        publication.remaining = publication.remaining.saturating_sub(1);
        let all_reported = publication.remaining == 0;
        match refusal {
            Refusal::Undeliverable(detail) => {
                publication.undeliverable.get_or_insert_with(|| detail.into_boxed_str());
                if all_reported {
                    self.reported(token, now, actions);
                }
            }
            Refusal::Blocked(why) => {
                publication.refused = !self.policy.has(Bug::SettleHalfRefused);
                let Ticket { partition, epoch, offset, .. } = publication.settled.ticket;
                self.hold_back((partition, epoch, offset), false, why, now, actions);
                if all_reported {
                    self.reported(token, now, actions);
                }
            }
        }
    }

    pub(super) fn drop_publication(&mut self, token: Token) {
        let Some(publication) = self.outbox.remove(token) else { return };
        let ticket = publication.settled.ticket;
        if let Some(task) = self.tasks.get_mut(&ticket.partition)
            && task.epoch == ticket.epoch
        {
            task.publications -= 1;
        }
    }

    /// A partition whose output is refused stops settling, and its task with it; after a while it starts anew from its lowest
    /// unsettled offset, so that nothing is passed over and each key stays in order.
    pub(super) fn hold_back(
        &mut self,
        (partition, epoch, offset): (Partition, Epoch, i64),
        letter: bool,
        why: String,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        let Some(task) = self.tasks.get_mut(&partition) else { return };
        if task.epoch != epoch {
            return;
        }
        task.refuse(offset);
        match &mut task.phase {
            Phase::Active => {
                let wait_ms = wait_ms(self.timing.refusal_first_ms, self.timing.refusal_max_ms, task.refusals);
                task.refusals = task.refusals.saturating_add(1);
                if !task.is_paused() {
                    actions.push(Action::Pause(partition));
                }
                let due_ms = now.steady_ms.saturating_add(wait_ms);
                task.phase = Phase::Refused { offset, due_ms };
                task.dirty = true;
                self.hold_back_others(partition, due_ms, actions);
            }
            Phase::Refused { offset: lowest, .. } => *lowest = offset.min(*lowest),
            Phase::Draining { .. } if self.policy.has(Bug::DrainIgnoresRefusal) => {}
            Phase::Draining { refused, .. } => *refused = Some(refused.map_or(offset, |lowest| offset.min(lowest))),
            // It starts below anyway, or is given up.
            Phase::Rewinding(_) | Phase::Restarting { .. } | Phase::GivenUp => {}
        }
        self.block(partition, letter, why, actions);
    }

    /// A message whose output the broker will never take becomes a dead letter itself.
    fn bury(&mut self, token: Token, detail: String, now: Now, actions: &mut Vec<Action>) {
        let Some(publication) = self.outbox.get_mut(token) else { return };
        let ticket = publication.settled.ticket;
        if !self.tasks.get(&ticket.partition).is_some_and(|t| t.counts(ticket.epoch, &self.policy)) {
            return self.drop_publication(token);
        }
        let given = parking::written(&publication.settled.fate).map(|waiting| waiting.number);
        publication.settled.fate = undeliverable(detail, publication.settled.attempts, now);
        publication.letter = true;
        publication.remaining = 1;
        self.line_letter(&ticket, given);
        actions.push(Action::DeadLetter { token, short: false });
    }

    /// A dead letter is never given up: first it goes with fewer headers, then it is sent again and again, while its
    /// lane waits and its offset stays uncommitted.
    fn letter_refused(&mut self, token: Token, refusal: Refusal, now: Now, actions: &mut Vec<Action>) {
        let Some(publication) = self.outbox.get_mut(token) else { return };
        let ticket = publication.settled.ticket;
        let why = match refusal {
            Refusal::Undeliverable(_) if !publication.short => {
                publication.short = true;
                actions.push(Action::DeadLetter { token, short: true });
                return;
            }
            Refusal::Undeliverable(why) => format!("its dead letter of offset {}: {why}", ticket.offset),
            // The same for all letters of the partition: with the offset it would be told once for each of them.
            Refusal::Blocked(why) => format!("its dead letters: {why}"),
        };
        let wait_ms = wait_ms(self.timing.refusal_first_ms, self.timing.refusal_max_ms, publication.refusals);
        let first = publication.refusals == 0;
        publication.refusals = publication.refusals.saturating_add(1);
        let present = self.tasks.get_mut(&ticket.partition).filter(|t| t.epoch == ticket.epoch);
        let Some(task) = present else {
            self.outbox.remove(token);
            return;
        };
        task.letters_refused += 1;
        if first {
            let was_paused = task.is_paused();
            task.count_stuck_letter(true);
            task.tell_pause(was_paused, ticket.partition, actions);
        }
        self.letters_due.insert((now.steady_ms.saturating_add(wait_ms), token), ());
        self.block(ticket.partition, true, why, actions);
        self.check_revoke(now, actions);
    }

    pub(super) fn resend_letters(&mut self, now: Now, actions: &mut Vec<Action>) {
        while let Some((&(due_ms, token), ())) = self.letters_due.first_key_value() {
            if due_ms > now.steady_ms {
                break;
            }
            self.letters_due.pop_first();
            let Some(publication) = self.outbox.get(token) else { continue };
            let (ticket, short) = (publication.settled.ticket, publication.short);
            match self.tasks.get_mut(&ticket.partition).filter(|t| t.epoch == ticket.epoch) {
                Some(task) => {
                    task.letters_refused -= 1;
                    actions.push(Action::DeadLetter { token, short });
                }
                None => {
                    self.outbox.remove(token);
                }
            }
        }
    }

    pub(super) fn block(&mut self, partition: Partition, letter: bool, why: String, actions: &mut Vec<Action>) {
        let Some(task) = self.tasks.get_mut(&partition) else { return };
        if task.blocked.as_ref() != Some(&why) {
            task.blocked = Some(why.clone());
            actions.push(Action::Blocked { partition, letter, why });
        }
    }
}

/// Doubles with each refusal in a row.
pub(super) fn wait_ms(first_ms: u64, max_ms: u64, refusals: u32) -> u64 {
    first_ms.saturating_mul(1u64.checked_shl(refusals.min(20)).unwrap_or(u64::MAX)).min(max_ms)
}

/// The fate of a message whose records the broker will never take.
pub(super) fn undeliverable(detail: String, attempts: u32, now: Now) -> Fate {
    let failure = Failure { code: "undeliverable".into(), detail };
    let first_failed_ms = now.wall_ms;
    Fate::DeadLetter(Box::new(Epitaph {
        reason: Reason::Undeliverable,
        failure,
        attempts,
        first_failed_ms,
        version: None,
        company: Company::Alone,
    }))
}
