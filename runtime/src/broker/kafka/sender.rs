//! What every producer does: records out, reports in.

use super::errors::{Place, Repeats, is_fenced};
use super::native::{Code, Event, EventKind, Failure, Fields, Message};
use super::pace::Pace;
use super::session::Session;
use super::{Kafka, log};
use crate::broker::{BrokerError, BrokerErrorKind, Produce, Refusal};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How many reports one [`crate::broker::Producer::poll`] collects at least before it returns, if they are there.
const REPORTS_AT_ONCE: usize = 10_000;

pub(super) type Reports = Vec<(u64, Result<(), Refusal>)>;

/// See the module. Without a session it takes nothing and has nothing to say.
#[derive(Debug)]
pub(super) struct Sender {
    pub(super) kafka: Kafka,
    pub(super) session: Option<Session>,
    pub(super) pace: Pace,
    repeats: Repeats,
    trouble: Option<BrokerError>,
    /// Why a transaction can't be committed any more, in librdkafka's words. All its records are purged then, and their
    /// reports say no more than that.
    failed: Option<String>,
    /// Of a producer that writes in transactions. What ends its session is told where they end; a new session mends all
    /// but the loss of the id.
    transactional_id: Option<Arc<str>>,
}

impl Sender {
    /// `limit` is the smallest `max.message.bytes` of the topics that are written, where known.
    pub(super) fn new(kafka: Kafka, limit: Option<u64>) -> Self {
        let own = kafka.settings.batch_bytes();
        let pace = Pace::new(limit.map_or(own, |limit| own.min(limit)));
        Self {
            kafka,
            session: None,
            pace,
            repeats: Repeats::default(),
            trouble: None,
            failed: None,
            transactional_id: None,
        }
    }

    pub(super) fn transactional(self, id: Arc<str>) -> Self {
        Self { transactional_id: Some(id), ..self }
    }

    pub(super) fn place(&self) -> &Place {
        &self.kafka.settings.place
    }

    /// Goes on with another session, or none. What the old one had to say is not told any more.
    pub(super) fn turn_to(&mut self, session: Option<Session>) -> Option<Session> {
        self.failed = None;
        std::mem::replace(&mut self.session, session)
    }

    pub(super) fn send(&mut self, record: &Produce<'_>, token: u64) -> Result<bool, Refusal> {
        let fields = Fields {
            partition: record.partition,
            key: record.key,
            value: record.value,
            headers: record.headers,
            timestamp_ms: record.timestamp_ms,
            token,
        };
        let closed = || Refusal::Fenced(format!("producing to {:?}: the producer is closed", record.topic));
        match self.session.as_mut().ok_or_else(closed)?.send(record.topic, &fields) {
            Ok(()) => Ok(true),
            Err(failure) if failure.code == Code::QueueFull => Ok(false),
            Err(failure) => Err(self.refusal(record.topic, failure)),
        }
    }

    pub(super) fn poll(&mut self, wait: Duration, reports: &mut Reports) {
        let Some(main) = self.session.as_mut().and_then(Session::take_main) else {
            std::thread::sleep(wait);
            return;
        };
        let before = reports.len();
        let until = Instant::now() + wait;
        let mut left = wait;
        while reports.len() - before < REPORTS_AT_ONCE {
            let Some(event) = main.poll(left) else { break };
            self.collect(event, reports);
            // Waits for the first report only; what else is there is taken without waiting.
            let got = reports.len() > before;
            left = if got { Duration::ZERO } else { until.saturating_duration_since(Instant::now()) };
        }
        if let Some(session) = &mut self.session {
            session.put_main(main);
        }
    }

    pub(super) fn in_flight(&self) -> usize {
        self.session.as_ref().map_or(0, |s| s.in_flight)
    }

    pub(super) fn trouble(&mut self) -> Option<BrokerError> {
        self.trouble.take()
    }

    fn collect(&mut self, mut event: Event<'_>, reports: &mut Reports) {
        match event.kind() {
            EventKind::Delivery => {
                let shared_batch = event.message_count() > 1;
                while let Some(message) = event.next_message() {
                    if let Some(session) = &mut self.session {
                        session.in_flight = session.in_flight.saturating_sub(1);
                    }
                    if message.code() == Code::NoError {
                        reports.push((message.token(), Ok(())));
                    } else {
                        self.failed(&message, shared_batch, reports);
                    }
                }
            }
            EventKind::Error => {
                if let Err(failure) = event.result() {
                    self.on_error(failure);
                }
            }
            EventKind::Log => {
                if let Some(why) = log::transaction_failed(&event) {
                    self.failed = Some(why);
                }
                if let Some(failure) = log::forward(&event) {
                    self.on_error(failure);
                }
            }
            EventKind::Fetch | EventKind::Rebalance | EventKind::Other => {}
        }
    }

    /// The broker refuses a whole batch for one record, and counts its size against the topic's limit for one record;
    /// librdkafka, unlike Java's client, does not split it. Which record was meant is not known: none of them may be
    /// condemned, and none may be sent again behind what followed it. All are blocked, so that their partitions start
    /// anew, and then each goes alone.
    fn failed(&mut self, message: &Message<'_>, shared_batch: bool, reports: &mut Reports) {
        let failure = message.failure();
        let topic = String::from_utf8_lossy(message.topic());
        let mut refusal = self.refusal(&topic, failure.clone());
        let of_the_batch = failure.code == Code::InvalidDifferentRecord;
        if matches!(refusal, Refusal::Undeliverable(_)) || of_the_batch {
            let too_large = matches!(failure.code, Code::MessageSizeTooLarge | Code::MessageBatchTooLarge);
            self.pace.refused(shared_batch || of_the_batch, too_large, Instant::now());
            if shared_batch {
                let why =
                    format!("{topic:?} refused a whole batch ({}); its records are sent one by one", failure.reason);
                refusal = Refusal::Blocked(why);
            }
        }
        reports.push((message.token(), Err(refusal)));
    }

    fn refusal(&self, topic: &str, failure: Failure) -> Refusal {
        let client = self.session.as_ref().and_then(Session::client);
        // A fatal error's own code only says that it is fatal; and what is purged only that it is.
        let purged = matches!(failure.code, Code::PurgeQueue | Code::PurgeInflight | Code::State);
        let fatal = client.filter(|_| failure.code == Code::Fatal || purged).and_then(|c| c.fatal());
        let doing = format!("producing to {topic:?}");
        if let Some(why) = self.failed.as_ref().filter(|_| purged && fatal.is_none()) {
            // Another record's failure, maybe: whatever it was, this one may pass.
            let failure = Failure::new(log::code_in(why).unwrap_or(failure.code), why);
            return Refusal::Blocked(self.place().explain(&doing, &failure).message);
        }
        let failure = fatal.unwrap_or(failure);
        match &self.transactional_id {
            Some(id) if is_fenced(failure.code) => {
                Refusal::Fenced(self.place().explain_transaction(&doing, id, &failure).message)
            }
            Some(_) => match self.place().refusal(topic, &failure) {
                Refusal::Fenced(why) => Refusal::Blocked(why),
                refusal => refusal,
            },
            None if failure.fatal => Refusal::Fenced(self.place().explain(&doing, &failure).message),
            None => self.place().refusal(topic, &failure),
        }
    }

    fn on_error(&mut self, failure: Failure) {
        if failure.fatal && self.transactional_id.is_some() {
            return;
        }
        let error = self.place().explain("producing", &failure);
        // What a person must act on is not hidden by the outage that follows from it; nor is its cause by "all are down".
        let follows = failure.code == Code::AllBrokersDown;
        let worse = self.trouble.as_ref().is_none_or(|t| t.kind == BrokerErrorKind::Retry && !follows);
        if self.repeats.is_new(failure.code, error.kind, Instant::now()) && worse {
            self.trouble = Some(error);
        }
    }
}
