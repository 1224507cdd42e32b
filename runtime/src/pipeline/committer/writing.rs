//! How records get to the producer, and what it says of them.

use super::{Names, Worker};
use crate::admin::metrics::{DeadLetterReason, Produced};
use crate::broker::Refusal;
use crate::fail::{Point, pass};
use crate::pipeline::Trouble;
use crate::pipeline::recording;
use crate::pipeline::records::{self, Origin, Source};
use crate::pipeline::sink::Sink;
use crate::wasm::Send;
use keyrail_engine::inbox::{self, Answer, CommandId};
use keyrail_engine::message::{Fate, Now, Partition};
use keyrail_engine::parking;
use keyrail_engine::pipeline::{self, Token};
use keyrail_engine::shard::Settled;
use keyrail_engine::state::{self, Change};
use std::time::Duration;

/// What became of a record that was offered to the producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Handed {
    /// It is on its way.
    Over,
    /// There was no room: it is to be offered again, if it is asked for still.
    Later,
    /// It was refused, and the ledger knows.
    Back,
}

impl Worker {
    pub(super) fn handed_over(
        &mut self,
        token: Token,
        sent: Result<bool, Refusal>,
        point: Point,
    ) -> Result<Handed, Trouble> {
        match sent {
            Ok(true) => {
                pass(point);
                Ok(Handed::Over)
            }
            Ok(false) => self.wait_for_room().map(|()| Handed::Later),
            Err(refusal) => self.refused(token, refusal).map(|()| Handed::Back),
        }
    }

    pub(super) fn produce_output(&mut self, send: &Send<'_>, source: &Source, token: Token) -> Result<(), Trouble> {
        let headers = records::output_headers(send, source);
        // Its transaction may be given up before its last record is handed over.
        while self.ledger.engine.publication(token).is_some() {
            let topic = self.ledger.names.outputs.get(send.output as usize).map_or("", String::as_str);
            let produce = records::output(topic, send, source, &headers);
            let sent = self.ledger.sink.producer().send(&produce, token.0);
            if self.handed_over(token, sent, Point::AfterProduce)? != Handed::Later {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The producer's queue is full: its reports make room.
    fn wait_for_room(&mut self) -> Result<(), Trouble> {
        self.ledger.heartbeat.beat();
        if self.ledger.over.is_raised() {
            return Err(Trouble::Ended);
        }
        self.waited = true;
        self.collect_reports(Duration::from_millis(5))?;
        // Time goes on: a revoke must end, whatever the broker does.
        self.ledger.engine.tick(self.ledger.clock.now(), &mut self.actions);
        self.act_without_producing()
    }

    pub(super) fn produce_letter(&mut self, token: Token, short: bool) -> Result<(), Trouble> {
        loop {
            let names = &self.ledger.names;
            let Some(Settled { message, fate: Fate::DeadLetter(epitaph), .. }) = self.ledger.engine.publication(token)
            else {
                return Ok(());
            };
            let record = &message.record;
            let (topic, letters) = (record.at.topic as usize, &names.letters);
            let handler = format!("{}@{}", names.pipeline, names.serving.digest(epitaph.version));
            let origin = Origin {
                topic: names.inputs.get(topic).map_or("", String::as_str),
                group: &names.group,
                handler: &handler,
                style: names.style,
                timer: message.timer.as_ref().map(|timer| timer.name.as_str()),
                delayed: message.delayed.as_ref().map(|delayed| delayed.output.as_str()),
                short,
            };
            let mut ours = records::letter_headers(&origin, record, epitaph);
            let run = message.recording.as_ref().filter(|_| !short && recording::tells(epitaph.reason));
            let run = run.map(|run| records::record_header(record, &ours, run.run()));
            let recorded = run.as_ref().map_or(0, |(_, value)| value.len() as u64);
            ours.extend(run);
            let headers = records::all_letter_headers(record, &ours);
            let produce = records::letter(letters.get(topic).map_or("", String::as_str), record, &headers);
            let sent = self.ledger.sink.producer().send(&produce, token.0);
            match self.handed_over(token, sent, Point::AfterLetter)? {
                Handed::Later => {}
                Handed::Over => {
                    // It may be far larger than the message, by which a transaction's size is known.
                    self.ledger.engine.staged(recorded);
                    return Ok(());
                }
                Handed::Back => return Ok(()),
            }
        }
    }

    /// A record of an internal topic that the ledger waits for under a token of marks. `false`: neither it nor those behind it
    /// are to be written any more, since one was refused, or what it is of was given up.
    fn produce_internal(
        &mut self,
        token: Token,
        topics: impl Fn(&Names) -> &[String],
        partition: Partition,
        (key, value): (Option<&[u8]>, Option<&[u8]>),
    ) -> Result<bool, Trouble> {
        // It may be given up before it is handed over: with its transaction, or its partition.
        while self.ledger.engine.awaits(token) {
            let topic = topics(&self.ledger.names).get(partition.topic as usize).map_or("", String::as_str);
            let produce = records::internal(topic, partition.number, key, value);
            let sent = self.ledger.sink.producer().send(&produce, token.0);
            match self.handed_over(token, sent, Point::AfterProduce)? {
                Handed::Over => return Ok(true),
                Handed::Later => {}
                Handed::Back => return Ok(false),
            }
        }
        Ok(false)
    }

    /// The ids that a commit marks in one partition, packed as one record.
    pub(super) fn produce_mark(&mut self, token: Token, partition: Partition, value: &[u8]) -> Result<(), Trouble> {
        self.produce_internal(token, |names| &names.seen, partition, (None, Some(value))).map(drop)
    }

    /// The state that a commit changes in one partition, a record for each key.
    pub(super) fn produce_state(
        &mut self,
        token: Token,
        partition: Partition,
        changes: &[Change],
    ) -> Result<(), Trouble> {
        for Change { key, entry, .. } in changes {
            let value = entry.as_ref().map(state::encode);
            if !self.produce_internal(token, |names| &names.state, partition, (Some(key), value.as_deref()))? {
                break;
            }
        }
        Ok(())
    }

    /// A message that is to wait in the retry topic.
    pub(super) fn produce_parked(&mut self, token: Token) -> Result<(), Trouble> {
        let publication = self.ledger.engine.publication(token);
        let Some((Settled { ticket, message, .. }, waiting)) =
            publication.and_then(|settled| Some((settled, parking::written(&settled.fate)?)))
        else {
            return Ok(());
        };
        if self.ledger.names.parked.is_empty() {
            return Err(Trouble::NoRetryTopic);
        }
        let (partition, lane) = (ticket.partition, ticket.lane);
        let (input, number) = (partition.topic as usize, partition.number);
        let key = self.origin(ticket.partition, ticket.offset);
        let value = self.produced.add(token, lane, waiting, message);
        if self.memory.get(partition).is_none() {
            // It is given up: its next owner reads it.
            self.produced.drop_one(token);
        }
        self.ledger.engine.staged((key.len() + value.len()) as u64);
        // Its transaction may be given up before it is handed over.
        while self.ledger.engine.publication(token).is_some() {
            let topic = self.ledger.names.parked.get(input).map_or("", String::as_str);
            let produce = records::internal(topic, number, Some(&key), Some(&value));
            let sent = self.ledger.sink.producer().send(&produce, token.0);
            if self.handed_over(token, sent, Point::AfterProduce)? != Handed::Later {
                return Ok(());
            }
        }
        Ok(())
    }

    fn origin(&self, partition: Partition, offset: i64) -> Vec<u8> {
        let topic = self.ledger.names.inputs.get(partition.topic as usize).map_or("", String::as_str);
        parking::Origin { topic, partition: partition.number, offset }.encode()
    }

    /// Messages of one partition that leave the retry topic.
    pub(super) fn produce_tombstones(
        &mut self,
        token: Token,
        partition: Partition,
        offsets: &[i64],
    ) -> Result<(), Trouble> {
        for offset in offsets {
            let key = self.origin(partition, *offset);
            if !self.produce_internal(token, |names| &names.parked, partition, (Some(&key), None))? {
                break;
            }
        }
        Ok(())
    }

    /// Answers to commands of one partition.
    pub(super) fn produce_answers(
        &mut self,
        token: Token,
        partition: Partition,
        answers: &[(CommandId, Answer)],
    ) -> Result<(), Trouble> {
        for (id, answer) in answers {
            let (key, value) = (inbox::key(inbox::ANSWER, *id), inbox::encode_answer(answer));
            if !self.produce_internal(token, |names| &names.inboxes, partition, (Some(&key), Some(&value)))? {
                break;
            }
        }
        Ok(())
    }

    fn refused(&mut self, token: Token, refusal: Refusal) -> Result<(), Trouble> {
        // Of a transaction that was given up nobody asks any more.
        if token.is_mark() || self.ledger.engine.publication(token).is_some() {
            self.ledger.metrics.refused.add((&refusal).into(), 1);
        }
        let refusal = match refusal {
            Refusal::Undeliverable(why) => pipeline::Refusal::Undeliverable(why),
            Refusal::Blocked(why) => pipeline::Refusal::Blocked(why),
            Refusal::Fenced(why) => return self.producer_fenced(why),
        };
        let now = self.ledger.clock.now();
        // What may be there all the same is read again, or leaves it.
        self.produced.drop_one(token);
        let was_letter = self.is_letter(token);
        self.ledger.engine.refused(token, refusal, now, &mut self.actions);
        if !was_letter && self.is_letter(token) {
            self.undeliverable(Some(token), now);
        }
        Ok(())
    }

    /// A message that was done is a dead letter now: the broker never takes what it sends.
    pub(super) fn undeliverable(&mut self, token: Option<Token>, now: Now) {
        self.ledger.metrics.dead_letters.add(DeadLetterReason::Undeliverable, 1);
        if let Some(message) = token.and_then(|token| self.ledger.engine.publication(token)) {
            self.letters.note(&self.ledger.names, &self.ledger.alerts, message, now.steady_ms);
        }
    }

    fn producer_fenced(&mut self, why: String) -> Result<(), Trouble> {
        match self.ledger.sink {
            Sink::Apart { .. } => Err(Trouble::Again(format!("the producer is of no use any more: {why}"))),
            Sink::Together { .. } => {
                let now = self.ledger.clock.now();
                self.ledger.engine.producer_failed(pipeline::Trouble::Fenced(why), now, &mut self.actions);
                Ok(())
            }
        }
    }

    fn is_letter(&self, token: Token) -> bool {
        self.ledger.engine.publication(token).is_some_and(|p| matches!(p.fate, Fate::DeadLetter(_)))
    }

    fn is_parked(&self, token: Token) -> bool {
        self.ledger.engine.publication(token).is_some_and(|p| parking::written(&p.fate).is_some())
    }

    pub(super) fn collect_reports(&mut self, wait: Duration) -> Result<(), Trouble> {
        let mut reports = std::mem::take(&mut self.reports);
        self.ledger.sink.producer().poll(wait, &mut reports);
        let now = self.ledger.clock.now();
        let (mut outputs, mut letters, mut marks, mut state, mut parked, mut answers) = (0, 0, 0, 0, 0, 0);
        for (token, result) in reports.drain(..) {
            let token = Token(token);
            match result {
                Ok(()) => {
                    pass(Point::AfterAck);
                    let parks = token.is_unparked() || self.is_parked(token);
                    let letter = self.ledger.engine.acknowledged(token, now, &mut self.actions);
                    *(if letter {
                        &mut letters
                    } else if parks {
                        &mut parked
                    } else if token.is_state() {
                        &mut state
                    } else if token.is_answer() {
                        &mut answers
                    } else if token.is_mark() {
                        &mut marks
                    } else {
                        &mut outputs
                    }) += 1;
                }
                Err(refusal) => self.refused(token, refusal)?,
            }
        }
        self.reports = reports;
        self.ledger.metrics.produced.add(Produced::Output, outputs);
        self.ledger.metrics.produced.add(Produced::DeadLetter, letters);
        self.ledger.metrics.produced.add(Produced::SeenIds, marks);
        self.ledger.metrics.produced.add(Produced::State, state);
        self.ledger.metrics.produced.add(Produced::Parked, parked);
        self.ledger.metrics.produced.add(Produced::Answer, answers);
        if let Some(error) = self.ledger.sink.producer().trouble() {
            tracing::warn!(pipeline = self.ledger.names.pipeline, %error, "the producer has trouble");
        }
        Ok(())
    }
}
