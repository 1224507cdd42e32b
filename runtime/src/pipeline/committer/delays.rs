//! Delayed sends that are due go out.

use super::Worker;
use super::writing::Handed;
use crate::fail::Point;
use crate::pipeline::Trouble;
use crate::pipeline::link::Payload;
use crate::pipeline::records;
use crate::pipeline::state::Outgoing;
use crate::pipeline::witness::Told;
use crate::wasm::Effects;
use keyrail_engine::message::Fate;
use keyrail_engine::pipeline::Token;
use keyrail_engine::shard::Settled;
use std::time::Duration;

/// So many go out before others have their turn.
const TURN: usize = 256;

impl Worker {
    pub(super) fn send_delayed(&mut self) -> Result<(), Trouble> {
        if !self.ledger.engine.has_delays() {
            return Ok(());
        }
        for _ in 0..TURN {
            // IMPORTANT: first, each time. What a commit that was just heard of has deleted would be found here until its
            // action is done, and while there was no room for the last one a commit may have ended.
            self.act()?;
            let now = self.ledger.clock.now();
            let outgoing = Outgoing { memory: &self.memory, outputs: &self.ledger.names.output_names };
            let next = self.ledger.engine.next_delayed(now, &outgoing);
            if let Some(why) = self.memory.broken() {
                return Err(Trouble::Again(why.clone()));
            }
            let Some(settled) = next else { break };
            self.publish_delayed(settled)?;
        }
        Ok(())
    }

    fn publish_delayed(&mut self, settled: Settled<Payload>) -> Result<(), Trouble> {
        let now = self.ledger.clock.now();
        if let Fate::DeadLetter(_) = &settled.fate {
            self.count_fate(&settled.fate);
            self.letters.note(&self.ledger.names, &self.ledger.alerts, &settled, now.steady_ms);
        }
        let late_ms = u64::try_from(now.wall_ms.saturating_sub(settled.ticket.timestamp_ms)).unwrap_or(0);
        self.ledger.metrics.delayed_late_micros.observe_time(Duration::from_millis(late_ms));
        if let Some(witness) = &self.ledger.witness {
            witness.tell(&Told::settled(&self.ledger.names, &settled, &Effects::default()));
        }
        let (was_letter, before) = (matches!(settled.fate, Fate::DeadLetter(_)), self.actions.len());
        let token = self.ledger.engine.publish(settled, 1, now, &mut self.actions);
        self.note_undeliverable(was_letter, before, token, now);
        match token {
            Some(token) => self.produce_delayed(token),
            None => Ok(()),
        }
    }

    fn produce_delayed(&mut self, token: Token) -> Result<(), Trouble> {
        let Some(Settled { message, .. }) = self.ledger.engine.publication(token) else { return Ok(()) };
        self.ledger.engine.staged(message.record.size() as u64);
        // Its transaction may be given up before it is handed over.
        while let Some(Settled { message: Payload { record, delayed, .. }, .. }) = self.ledger.engine.publication(token)
        {
            let output = delayed.as_ref().and_then(|delayed| delayed.index);
            let topic = output.and_then(|output| self.ledger.names.outputs.get(output)).map_or("", String::as_str);
            let headers: Vec<_> = record.headers().collect();
            let sent = self.ledger.sink.producer().send(&records::delayed(topic, record, &headers), token.0);
            if self.handed_over(token, sent, Point::AfterProduce)? != Handed::Later {
                return Ok(());
            }
        }
        Ok(())
    }
}
