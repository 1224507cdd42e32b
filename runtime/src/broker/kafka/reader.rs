//! Reads partitions without a group, through librdkafka's calls for that: they need no group's rights and no coordinator.

use super::Kafka;
use super::client::c_topic;
use super::consumer::copy;
use super::errors::{Place, Repeats, is_verdict};
use super::log;
use super::native::{ClientKind, Code, Failure, Message, Queue, Topic};
use crate::broker::client::Reader;
use crate::broker::{BrokerError, BrokerErrorKind};
use crate::record::{Record, RecordBuilder, TopicPartition};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often the client's own errors are looked at while nothing comes.
const LOOK: Duration = Duration::from_millis(100);

/// See [`super::client::KafkaClient`].
pub(super) struct KafkaReader {
    positions: BTreeMap<TopicPartition, Position>,
    topics: Vec<Topic>,
    names: Vec<String>,
    fetched: Arc<Queue>,
    main: Queue,
    place: Place,
    repeats: Repeats,
    builder: RecordBuilder,
    /// Index of the topic of the last record: most often the next one's too.
    last_topic: usize,
}

#[derive(Debug, Clone, Copy)]
struct Position {
    /// The offset to be read next.
    next: i64,
    /// It stands at the end of what can be read now.
    at_end: bool,
}

/// What one look brought.
struct Taken<'a> {
    records: &'a mut Vec<Record>,
    failure: Option<(Failure, String)>,
}

impl KafkaReader {
    pub(super) fn new(kafka: &Kafka, names: &[String], starts: &[(TopicPartition, i64)]) -> Result<Self, BrokerError> {
        let place = kafka.settings.place.clone();
        let client = kafka.client(ClientKind::Consumer, &kafka.settings.reader())?;
        let (main, fetched) = (Queue::main(&client), Arc::new(Queue::new(&client)));
        let mut topics = Vec::with_capacity(names.len());
        for name in names {
            c_topic(name)?;
            let topic = Topic::new(&client, name);
            topics.push(topic.map_err(|f| place.explain(&format!("reading topic {name:?}"), &f))?);
        }
        let mut reader = Self {
            positions: BTreeMap::new(),
            topics,
            names: names.to_vec(),
            fetched,
            main,
            place,
            repeats: Repeats::default(),
            builder: RecordBuilder::default(),
            last_topic: 0,
        };
        for (at, offset) in starts {
            let none = || Failure::new(Code::UnknownTopic, format!("topic index {} is none of the list", at.topic));
            let topic = reader.topics.get(at.topic as usize).ok_or_else(none);
            topic.and_then(|topic| topic.start(at.partition, *offset, &reader.fetched)).map_err(|f| {
                let name = names.get(at.topic as usize).map_or("?", String::as_str);
                reader.place.explain(&format!("reading {name} [{}]", at.partition), &f)
            })?;
            reader.positions.insert(*at, Position { next: *offset, at_end: false });
        }
        Ok(reader)
    }

    fn on_message(&mut self, message: &Message<'_>, taken: &mut Taken<'_>) {
        let name = message.topic();
        if self.names.get(self.last_topic).is_none_or(|t| t.as_bytes() != name) {
            let Some(index) = self.names.iter().position(|t| t.as_bytes() == name) else { return };
            self.last_topic = index;
        }
        let Ok(topic) = u32::try_from(self.last_topic) else { return };
        let at = TopicPartition { topic, partition: message.partition() };
        let position = self.positions.entry(at).or_insert(Position { next: 0, at_end: false });
        match message.code() {
            Code::NoError => {
                *position = Position { next: message.offset() + 1, at_end: false };
                taken.records.push(copy(message, at, &mut self.builder));
            }
            Code::PartitionEOF => *position = Position { next: message.offset().max(position.next), at_end: true },
            _ => {
                let doing = format!("reading {} [{}]", self.names[self.last_topic], at.partition);
                taken.failure.get_or_insert((message.failure(), doing));
            }
        }
    }

    /// The client's own errors and log lines. Gives what has to be told.
    fn look(&mut self) -> Option<BrokerError> {
        let mut told = None;
        while let Some(event) = self.main.poll(Duration::ZERO) {
            let Some(failure) = log::failure(&event) else { continue };
            let error = self.place.explain("reading", &failure);
            let is_new = self.repeats.is_new(failure.code, error.kind, Instant::now());
            if is_new || is_verdict(failure.code) {
                // The first stays, unless a later one is for a person to act on.
                if told.is_none() || error.kind == BrokerErrorKind::Operator {
                    told = Some(error);
                }
            }
        }
        told
    }
}

impl Reader for KafkaReader {
    fn next(&mut self, wait: Duration, records: &mut Vec<Record>) -> Result<(), BrokerError> {
        let (until, before) = (Instant::now() + wait, records.len());
        loop {
            let trouble = self.look();
            let mut taken = Taken { records: &mut *records, failure: None };
            let left = until.saturating_duration_since(Instant::now()).min(LOOK);
            let queue = Arc::clone(&self.fetched);
            queue.take(if trouble.is_some() { Duration::ZERO } else { left }, |m| self.on_message(m, &mut taken));
            let failure = taken.failure;
            if let Some((failure, doing)) = failure {
                return Err(self.place.explain(&doing, &failure));
            }
            match trouble {
                _ if records.len() > before => return Ok(()),
                Some(error) => return Err(error),
                None if Instant::now() >= until => return Ok(()),
                None => {}
            }
        }
    }

    fn has_passed(&self, at: TopicPartition, end: i64) -> bool {
        self.positions.get(&at).is_some_and(|position| position.next >= end || position.at_end)
    }

    fn position(&self, at: TopicPartition) -> Option<i64> {
        self.positions.get(&at).map(|position| position.next)
    }
}

impl Drop for KafkaReader {
    fn drop(&mut self) {
        for at in self.positions.keys() {
            let stopped = self.topics.get(at.topic as usize).map(|topic| topic.stop(at.partition));
            if let Some(Err(failure)) = stopped {
                tracing::debug!(partition = at.partition, why = failure.reason, "a partition's reading did not stop");
            }
        }
    }
}
