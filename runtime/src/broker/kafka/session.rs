//! One librdkafka producer with its topics, and its end.

use super::Kafka;
use super::native::{Client, ClientKind, Code, Failure, Fields, Queue, Requests, Topic};
use super::pace::Pace;
use crate::broker::BrokerError;
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// How long a dropped producer may take to stop before it is abandoned to its own thread.
const CLOSE_WAIT: Duration = Duration::from_secs(3);

/// What a session is made for.
#[derive(Debug)]
pub(super) enum Kind<'a> {
    /// Records become visible one by one.
    Idempotent,
    /// Records become visible in transactions under this id; its requests are watched.
    Transactional(&'a str, &'a Arc<Requests>),
}

/// See the module. Dropping it waits a little for its end, [`Session::abandon`] does not.
#[derive(Debug)]
pub(super) struct Session {
    /// Dropped before `main`, which holds the client.
    topics: Vec<(String, Topic)>,
    last_topic: usize,
    main: Option<Queue>,
    client: Option<Arc<Client>>,
    pub(super) in_flight: usize,
    /// Every record is a batch of its own.
    pub(super) alone: bool,
    close_wait: Duration,
}

impl Session {
    pub(super) fn new(kafka: &Kafka, pace: &Pace, kind: &Kind<'_>) -> Result<Self, BrokerError> {
        let alone = pace.is_alone();
        let size = pace.batch_bytes().to_string();
        let extra = if alone { ("batch.num.messages", "1") } else { ("batch.size", size.as_str()) };
        let client = match kind {
            Kind::Idempotent => kafka.client(ClientKind::Producer, &kafka.settings.producer(&[extra])),
            Kind::Transactional(id, requests) => {
                kafka.watched_client(&kafka.settings.transactional(id, &[extra]), requests)
            }
        }?;
        let main = Some(Queue::main(&client));
        let close_wait = CLOSE_WAIT;
        Ok(Self { topics: Vec::new(), last_topic: 0, main, client: Some(client), in_flight: 0, alone, close_wait })
    }

    pub(super) fn client(&self) -> Option<&Arc<Client>> {
        self.client.as_ref()
    }

    pub(super) fn send(&mut self, topic: &str, fields: &Fields<'_>) -> Result<(), Failure> {
        self.topic(topic)?.send(fields)?;
        self.in_flight += 1;
        Ok(())
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

    /// Lends the main queue out, so that its events can be worked on together with the session.
    pub(super) fn take_main(&mut self) -> Option<Queue> {
        self.main.take()
    }

    pub(super) fn put_main(&mut self, main: Queue) {
        self.main = Some(main);
    }

    /// Stops it on a thread of its own, and returns at once.
    pub(super) fn abandon(mut self) {
        self.close_wait = Duration::ZERO;
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
            Ok(_) if self.close_wait.is_zero() => {}
            // Nothing is ever sent: the channel closes when the thread is done.
            Ok(_) => {
                if closed.recv_timeout(self.close_wait) == Err(mpsc::RecvTimeoutError::Timeout) {
                    tracing::warn!("the Kafka producer did not stop in time and is abandoned");
                }
            }
            Err(e) => tracing::warn!("no thread to close the Kafka producer: {e}"),
        }
    }
}
