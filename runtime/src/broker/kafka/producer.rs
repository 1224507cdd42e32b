//! The idempotent producer.

use super::Kafka;
use super::sender::{Reports, Sender};
use super::session::{Kind, Session};
use crate::broker::{BrokerError, Produce, Producer, Refusal};
use std::time::{Duration, Instant};

/// See [`Kafka::producer`].
#[derive(Debug)]
pub(super) struct KafkaProducer {
    sender: Sender,
}

impl KafkaProducer {
    /// `limit` is the smallest `max.message.bytes` of the topics that are written, where known.
    pub(super) fn new(kafka: Kafka, limit: Option<u64>) -> Result<Self, BrokerError> {
        let mut sender = Sender::new(kafka, limit);
        sender.session = Some(Session::new(&sender.kafka, &sender.pace, &Kind::Idempotent)?);
        Ok(Self { sender })
    }

    /// Goes over from batches to single records, or back. Only once nothing is in flight: what the new client sends
    /// would overtake it. `false`: not yet.
    fn turned(&mut self) -> Result<bool, Refusal> {
        let Sender { session, pace, kafka, .. } = &mut self.sender;
        pace.tick(Instant::now());
        if session.as_ref().is_some_and(|s| s.alone == pace.is_alone()) {
            return Ok(true);
        }
        if session.as_ref().is_some_and(|s| s.in_flight > 0) {
            return Ok(false);
        }
        match Session::new(kafka, pace, &Kind::Idempotent) {
            Ok(new) => {
                pace.tell();
                drop(self.sender.turn_to(Some(new)));
                Ok(true)
            }
            Err(error) => Err(Refusal::Blocked(format!("no new producer: {error}"))),
        }
    }
}

impl Producer for KafkaProducer {
    fn send(&mut self, record: &Produce<'_>, token: u64) -> Result<bool, Refusal> {
        let alone = self.sender.session.as_ref().is_some_and(|s| s.alone);
        if self.sender.pace.is_turning(alone) && !self.turned()? {
            return Ok(false);
        }
        self.sender.send(record, token)
    }

    fn poll(&mut self, wait: Duration, reports: &mut Reports) {
        self.sender.poll(wait, reports);
    }

    fn in_flight(&self) -> usize {
        self.sender.in_flight()
    }

    fn trouble(&mut self) -> Option<BrokerError> {
        self.sender.trouble()
    }
}
