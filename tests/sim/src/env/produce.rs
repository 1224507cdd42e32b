//! Records on their way to their partitions.

use super::{Due, Env, Marks};
use crate::invariants::RunId;
use crate::model::outputs::{Effect, LETTER_PLACE, Lot, Pending, Pumped, Report, Sender, marks_place, topic_of};
use crate::record::SLOTS_PER_TOPIC;
use crate::trace::Who;
use keyrail_engine::policy::Guarantee;

impl Env {
    /// Hands a record to a producer. What it answers at once, if anything.
    pub fn produce(&mut self, sender: Sender, place: u8, token: u64, effect: Effect) -> Option<Report> {
        let too_large = self.is_too_large(&effect);
        self.send(sender, place, token, effect, too_large)
    }

    /// As [`Env::produce`], for a dead letter; a short one is never too large.
    pub fn produce_letter(&mut self, sender: Sender, token: u64, effect: Effect, short: bool) -> Option<Report> {
        let too_large = self.is_too_large(&effect);
        let place = LETTER_PLACE + (effect.partition / SLOTS_PER_TOPIC) as u8;
        self.send(sender, place, token, effect, too_large && !short)
    }

    /// Of timers some are, by their numbers.
    fn is_too_large(&self, effect: &Effect) -> bool {
        let of_message = self.oracle.look(effect.partition, effect.offset).is_some_and(|f| f.rec.too_large);
        of_message || effect.offset < -1 && effect.offset % 97 == 0
    }

    /// As [`Env::produce`], for seen ids of an input partition.
    pub fn produce_marks(
        &mut self,
        sender: Sender,
        token: u64,
        (partition, run): (u16, RunId),
        marks: Marks,
    ) -> Option<Report> {
        let effect = Effect { run: run.0, ..Effect::marks(partition, self.marks.len()) };
        let too_large = marks.ids.len() > self.settings.marks_max;
        self.marks.push(marks);
        self.send(sender, marks_place(partition), token, effect, too_large)
    }

    pub(super) fn send(
        &mut self,
        sender: Sender,
        place: u8,
        token: u64,
        effect: Effect,
        too_large: bool,
    ) -> Option<Report> {
        let taken = self.afflictions[usize::from(sender.worker)].produce.take();
        let lot = if too_large { Lot::Undeliverable } else { taken.unwrap_or(Lot::Written) };
        // A client knows what is too large for it, and says so at once.
        if self.has_transactions() && lot == Lot::Undeliverable && self.rng.percent(50) {
            self.note(Who::Broker, "produce refused", Some((effect.partition, effect.offset)), 1);
            self.tell_refused(&effect, true);
            return Some(Report::Undeliverable);
        }
        let ready_ms = self.now_ms + self.rng.below(4);
        let pending = Pending { ready_ms, sent_ms: self.now_ms, sender, token, effect, lot };
        if self.outputs.send(sender.process, place, pending) {
            self.after(ready_ms - self.now_ms, Due::Pump(sender.process, place));
        }
        None
    }

    /// Whether outputs and offsets are written in transactions.
    #[must_use]
    pub fn has_transactions(&self) -> bool {
        self.settings.policy.guarantee == Guarantee::ExactlyOnce
    }

    /// Moves a producer's queue on. `worker` is whose process it is.
    pub fn pump(&mut self, worker: u8, process: u16, place: u8) {
        if self.down_until_ms > self.now_ms {
            let topic = topic_of(place);
            self.outputs.block(topic, self.down_until_ms);
        }
        loop {
            match self.outputs.pump(process, place, self.now_ms, self.settings.delivery_ms) {
                Pumped::Empty => return,
                Pumped::Later(at_ms) => {
                    return self.after(at_ms.saturating_sub(self.now_ms), Due::Pump(process, place));
                }
                Pumped::Out { pending, written, mut reported } => {
                    if written && self.has_transactions() {
                        let Some((_, answer)) = self.append_to_transaction(place, &pending) else {
                            self.outputs.put_back(process, place, pending);
                            return self.after(5, Due::Pump(process, place));
                        };
                        reported = if answer == Report::Ok { reported } else { answer };
                    }
                    self.sent(worker, place, &pending, written, reported);
                }
            }
        }
    }

    /// Seen ids and state are no message's.
    fn tell_refused(&mut self, effect: &Effect, for_good: bool) {
        if effect.answer_record().is_some() {
            self.oracle.answer_refused(RunId(effect.run));
        }
        if !effect.is_internal() {
            self.oracle.refused(effect, for_good);
        }
        // A message that can't be parked has what it sends refused.
        let parked = effect.parked_record().map(|record| &self.parks[record]).filter(|park| park.waiting.is_some());
        if let Some(park) = parked {
            let effect = Effect { run: park.run.0, offset: park.rec.offset, index: 0, ..*effect };
            self.oracle.refused(&effect, for_good);
        }
    }

    /// Without transactions: seen ids, or state, stand in their log.
    fn written_alone(&mut self, place: u8, pending: &Pending) {
        let Pending { effect, sender, .. } = *pending;
        let (partition, run) = (effect.partition, RunId(effect.run));
        if let Some(record) = effect.marks_record() {
            self.note(Who::Broker, "ids written", Some((partition, -1)), record as i64);
            self.coordinator.internal_log(place).append_alone(record);
            self.oracle.ids_written(run, partition, &self.marks[record]);
        } else if let Some(record) = effect.state_record() {
            self.note(Who::Broker, "state written", Some((partition, -1)), record as i64);
            self.coordinator.internal_log(place).append_alone(record);
            let owner = self.group.owner(partition).and_then(|member| self.members.get(&member));
            let owns = owner == Some(&sender.process) && self.oracle.run_of(sender.process, partition) == run;
            self.oracle.state_written(run, partition, &self.states[record].0, (owns, self.latest_wall()));
        } else if let Some(record) = effect.parked_record() {
            let park = &self.parks[record];
            let what = if park.waiting.is_some() { "retry record written" } else { "tombstone written" };
            self.note(Who::Broker, what, Some((partition, park.rec.offset)), i64::from(park.run.0));
            self.coordinator.internal_log(place).append_alone(record);
            let owner = self.group.owner(partition).and_then(|member| self.members.get(&member));
            let stray = owner.is_some_and(|owner| *owner != sender.process)
                || self.oracle.is_over(sender.process, run, partition);
            let park = self.parks[record].clone();
            self.oracle.park_written(&park, stray);
        }
    }

    /// A record is decided: the producer hears of it.
    fn sent(&mut self, worker: u8, place: u8, pending: &Pending, written: bool, reported: Report) {
        let (effect, process) = (pending.effect, pending.sender.process);
        let at = Some((effect.partition, effect.offset));
        if written && !self.has_transactions() && effect.is_internal() {
            self.written_alone(place, pending);
        } else if written && !self.has_transactions() {
            let what = if effect.letter { "letter written" } else { "output written" };
            self.note(Who::Broker, what, at, i64::from(effect.run));
            self.oracle.written(place, &effect);
        }
        if let Lot::Late(wait_ms) = pending.lot {
            self.after(wait_ms, Due::LateRecord(place, Box::new(*pending)));
        }
        if reported != Report::Ok {
            self.note(Who::Broker, "produce refused", at, reported as i64);
            self.tell_refused(&effect, reported == Report::Undeliverable);
        }
        let late = self.afflictions[usize::from(worker)].late_acks_until_ms > self.now_ms;
        let wait_ms = if late { self.rng.within(100, 1_000) } else { self.rng.below(3) };
        // A client has one queue for its reports: they come out in the order in which they went in.
        let last_ms = self.last_report_ms.entry(process).or_default();
        *last_ms = (*last_ms).max(self.now_ms + wait_ms);
        let wait_ms = *last_ms - self.now_ms;
        self.after(wait_ms, Due::Reported(process, pending.sender.instance, pending.token, reported));
    }
}
