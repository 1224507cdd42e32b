//! The idempotent producer.

use super::errors::{Place, Repeats};
use super::native::{Client, ClientKind, Code, Event, EventKind, Failure, Fields, Message, Queue, Topic};
use super::{Kafka, log};
use crate::broker::{BrokerError, BrokerErrorKind, Produce, Producer, Refusal};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// How many reports one [`Producer::poll`] collects at least before it returns, if they are there.
const REPORTS_AT_ONCE: usize = 10_000;
/// How long a dropped producer may take to stop before it is abandoned to its own thread.
const CLOSE_WAIT: Duration = Duration::from_secs(5);

type Reports = Vec<(u64, Result<(), Refusal>)>;

/// See [`Kafka::producer`].
#[derive(Debug)]
pub(super) struct KafkaProducer {
    kafka: Kafka,
    /// Dropped before `main`, which holds the client.
    topics: Vec<(String, Topic)>,
    last_topic: usize,
    main: Option<Queue>,
    client: Option<Arc<Client>>,
    in_flight: usize,
    repeats: Repeats,
    trouble: Option<BrokerError>,
    /// Sends one record per batch; see [`KafkaProducer::send_alone`].
    alone: Option<Box<KafkaProducer>>,
}

impl KafkaProducer {
    pub(super) fn new(kafka: Kafka, extra: &[(&str, &str)]) -> Result<Self, BrokerError> {
        let client = kafka.client(ClientKind::Producer, &kafka.settings.producer(extra))?;
        Ok(Self {
            main: Some(Queue::main(&client)),
            client: Some(client),
            kafka,
            topics: Vec::new(),
            last_topic: 0,
            in_flight: 0,
            repeats: Repeats::default(),
            trouble: None,
            alone: None,
        })
    }

    fn place(&self) -> &Place {
        &self.kafka.settings.place
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

    fn collect(&mut self, mut event: Event<'_>, reports: &mut Reports) {
        match event.kind() {
            EventKind::Delivery => {
                let shared_batch = event.message_count() > 1;
                while let Some(message) = event.next_message() {
                    self.in_flight = self.in_flight.saturating_sub(1);
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

    fn failed(&mut self, message: &Message<'_>, shared_batch: bool, reports: &mut Reports) {
        let failure = message.failure();
        let refusal = self.refusal(&String::from_utf8_lossy(message.topic()), failure);
        let of_the_batch = shared_batch && matches!(refusal, Refusal::Undeliverable(_));
        if of_the_batch {
            if self.send_alone(message) {
                return;
            }
            // The verdict was the batch's, not its own.
            let why = "its batch was refused, and it can't be sent alone for now".to_owned();
            reports.push((message.token(), Err(Refusal::Blocked(why))));
            return;
        }
        reports.push((message.token(), Err(refusal)));
    }

    /// Sends a record of a refused batch by itself, to the same partition, so that its own verdict is known.
    ///
    /// The broker refuses a whole batch for one record, and counts its size against the topic's limit for one record.
    /// librdkafka, unlike Java's client, does not split it. The good ones among them are written after what followed
    /// them: better late than dead-lettered. `false` when it is not possible.
    fn send_alone(&mut self, message: &Message<'_>) -> bool {
        if self.alone.is_none() {
            self.alone = Self::new(self.kafka.clone(), &[("batch.num.messages", "1")]).ok().map(Box::new);
        }
        let (Some(alone), Ok(topic)) = (&mut self.alone, std::str::from_utf8(message.topic())) else { return false };
        let headers: Vec<_> = message.headers().collect();
        let timestamp_ms = Some(message.timestamp_ms()).filter(|t| *t > 0);
        let partition = Some(message.partition());
        let record =
            Produce { topic, partition, key: message.key(), value: message.value(), headers: &headers, timestamp_ms };
        matches!(alone.send(&record, message.token()), Ok(true))
    }

    fn refusal(&self, topic: &str, failure: Failure) -> Refusal {
        // A fatal error's own code only says that it is fatal.
        let fatal = self.client.as_ref().filter(|_| failure.code == Code::Fatal).and_then(|c| c.fatal());
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
        match self.topic(record.topic).and_then(|topic| topic.send(&fields)) {
            Ok(()) => {
                self.in_flight += 1;
                Ok(true)
            }
            Err(failure) if failure.code == Code::QueueFull => Ok(false),
            Err(failure) => Err(self.refusal(record.topic, failure)),
        }
    }

    fn poll(&mut self, wait: Duration, reports: &mut Reports) {
        let Some(main) = self.main.take() else { return };
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
        self.main = Some(main);
        if let Some(alone) = &mut self.alone {
            alone.poll(Duration::ZERO, reports);
        }
    }

    fn in_flight(&self) -> usize {
        self.in_flight + self.alone.as_ref().map_or(0, |a| a.in_flight)
    }

    fn trouble(&mut self) -> Option<BrokerError> {
        self.trouble.take()
    }
}

impl Drop for KafkaProducer {
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
