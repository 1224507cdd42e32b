//! The idempotent producer.

use super::errors::{Place, Repeats};
use super::native::{Client, ClientKind, Code, Event, EventKind, Failure, Fields, Message, Queue, Topic};
use super::pace::Pace;
use super::{Kafka, log};
use crate::broker::{BrokerError, BrokerErrorKind, Produce, Producer, Refusal};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// How many reports one [`Producer::poll`] collects at least before it returns, if they are there.
const REPORTS_AT_ONCE: usize = 10_000;
/// How long a dropped producer may take to stop before it is abandoned to its own thread.
const CLOSE_WAIT: Duration = Duration::from_secs(3);

type Reports = Vec<(u64, Result<(), Refusal>)>;

/// One librdkafka client with its topics.
#[derive(Debug)]
struct Session {
    /// Dropped before `main`, which holds the client.
    topics: Vec<(String, Topic)>,
    last_topic: usize,
    main: Option<Queue>,
    client: Option<Arc<Client>>,
    in_flight: usize,
    /// Every record is a batch of its own.
    alone: bool,
}

impl Session {
    fn new(kafka: &Kafka, pace: &Pace) -> Result<Self, BrokerError> {
        let alone = pace.is_alone();
        let size = pace.batch_bytes().to_string();
        let extra = if alone { ("batch.num.messages", "1") } else { ("batch.size", size.as_str()) };
        let client = kafka.client(ClientKind::Producer, &kafka.settings.producer(&[extra]))?;
        let main = Some(Queue::main(&client));
        Ok(Self { topics: Vec::new(), last_topic: 0, main, client: Some(client), in_flight: 0, alone })
    }

    fn topic(&mut self, name: &str) -> Result<&Topic, Failure> {
        if self.topics.get(self.last_topic).is_none_or(|(n, _)| n != name) {
            self.last_topic = match self.topics.iter().position(|(n, _)| n == name) {
                Some(index) => index,
                None => {
                    let closed = || Failure::new(Code::BrokerDestroy, "the producer is closed");
                    let topic = Topic::new(self.client.as_ref().ok_or_else(closed)?, name)?;
                    self.topics.push((name.to_owned(), topic));
                    self.topics.len() - 1
                }
            };
        }
        Ok(&self.topics[self.last_topic].1)
    }
}

/// See [`Kafka::producer`].
#[derive(Debug)]
pub(super) struct KafkaProducer {
    kafka: Kafka,
    session: Session,
    pace: Pace,
    repeats: Repeats,
    trouble: Option<BrokerError>,
}

impl KafkaProducer {
    /// `limit` is the smallest `max.message.bytes` of the topics that are written, where known.
    pub(super) fn new(kafka: Kafka, limit: Option<u64>) -> Result<Self, BrokerError> {
        let own = kafka.settings.batch_bytes();
        let pace = Pace::new(limit.map_or(own, |limit| own.min(limit)));
        let session = Session::new(&kafka, &pace)?;
        Ok(Self { kafka, session, pace, repeats: Repeats::default(), trouble: None })
    }

    fn place(&self) -> &Place {
        &self.kafka.settings.place
    }

    /// Goes over from batches to single records, or back. Only once nothing is in flight: what the new client sends
    /// would overtake it. `false`: not yet.
    fn turned(&mut self) -> Result<bool, Refusal> {
        self.pace.tick(Instant::now());
        if self.session.alone == self.pace.is_alone() {
            return Ok(true);
        }
        if self.session.in_flight > 0 {
            return Ok(false);
        }
        match Session::new(&self.kafka, &self.pace) {
            Ok(session) => {
                self.session = session;
                let batch_bytes = self.pace.batch_bytes();
                if self.pace.is_alone() {
                    tracing::warn!(
                        "a topic refused a whole batch: for a while each record is sent by itself, so that the broker \
                         judges it alone"
                    );
                } else {
                    tracing::info!(batch_bytes, "records are sent in batches again");
                }
                Ok(true)
            }
            Err(error) => Err(Refusal::Blocked(format!("no new producer: {error}"))),
        }
    }

    fn collect(&mut self, mut event: Event<'_>, reports: &mut Reports) {
        match event.kind() {
            EventKind::Delivery => {
                let shared_batch = event.message_count() > 1;
                while let Some(message) = event.next_message() {
                    self.session.in_flight = self.session.in_flight.saturating_sub(1);
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
        // A fatal error's own code only says that it is fatal.
        let fatal = self.session.client.as_ref().filter(|_| failure.code == Code::Fatal).and_then(|c| c.fatal());
        match fatal {
            Some(fatal) => Refusal::Fenced(self.place().explain(&format!("producing to {topic:?}"), &fatal).message),
            None => self.place().refusal(topic, &failure),
        }
    }

    fn on_error(&mut self, failure: Failure) {
        let error = self.place().explain("producing", &failure);
        // What a person must act on is not hidden by the outage that follows from it; nor is its cause by "all are down".
        let follows = failure.code == Code::AllBrokersDown;
        let worse = self.trouble.as_ref().is_none_or(|t| t.kind == BrokerErrorKind::Retry && !follows);
        if self.repeats.is_new(failure.code, error.kind, Instant::now()) && worse {
            self.trouble = Some(error);
        }
    }
}

impl Producer for KafkaProducer {
    fn send(&mut self, record: &Produce<'_>, token: u64) -> Result<bool, Refusal> {
        let fields = Fields {
            partition: record.partition,
            key: record.key,
            value: record.value,
            headers: record.headers,
            timestamp_ms: record.timestamp_ms,
            token,
        };
        if self.pace.is_turning(self.session.alone) && !self.turned()? {
            return Ok(false);
        }
        match self.session.topic(record.topic).and_then(|topic| topic.send(&fields)) {
            Ok(()) => {
                self.session.in_flight += 1;
                Ok(true)
            }
            Err(failure) if failure.code == Code::QueueFull => Ok(false),
            Err(failure) => Err(self.refusal(record.topic, failure)),
        }
    }

    fn poll(&mut self, wait: Duration, reports: &mut Reports) {
        let Some(main) = self.session.main.take() else { return };
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
        self.session.main = Some(main);
    }

    fn in_flight(&self) -> usize {
        self.session.in_flight
    }

    fn trouble(&mut self) -> Option<BrokerError> {
        self.trouble.take()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let (Some(main), Some(client)) = (self.main.take(), self.client.take()) else { return };
        let topics = std::mem::take(&mut self.topics);
        let (done, closed) = mpsc::sync_channel::<()>(1);
        // Stopping joins librdkafka's threads, which may stand in a connection attempt.
        let spawned = std::thread::Builder::new().name("kafka-close".to_owned()).spawn(move || {
            // What was not delivered is settled by nobody, so it comes again; only its memory is to be freed here.
            if let Err(failure) = client.purge() {
                tracing::debug!("purging the producer: {}", failure.reason);
            }
            while let Some(event) = main.poll(Duration::ZERO) {
                drop(event);
            }
            drop((topics, main, client));
            drop(done);
        });
        match spawned {
            // Nothing is ever sent: the channel closes when the thread is done.
            Ok(_) => {
                if closed.recv_timeout(CLOSE_WAIT) == Err(mpsc::RecvTimeoutError::Timeout) {
                    tracing::warn!("the Kafka producer did not stop in time and is abandoned");
                }
            }
            Err(e) => tracing::warn!("no thread to close the Kafka producer: {e}"),
        }
    }
}
