//! What commands ask of Kafka.

use super::Kafka;
use super::errors::Place;
use super::native::{Code, Failure, OffsetEdge, PartitionList};
use super::reader::KafkaReader;
use super::topics::Topics;
use super::transactions::{KafkaTransactions, Outside, Whose};
use crate::broker::client::{ANSWER_WAIT, Client, NewTopic, Reader, Topic, name_of};
use crate::broker::{
    BrokerError, BrokerErrorKind, Committed, LogBounds, OffsetCommit, Produce, Producer, Refusal, Transactions,
    has_members, operator,
};
use crate::record::TopicPartition;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long delivery reports are waited for at once.
const POLL: Duration = Duration::from_millis(50);

type Writer = (BTreeSet<String>, Box<dyn Producer>);

/// See [`Kafka::commands`].
pub(super) struct KafkaClient {
    kafka: Kafka,
    topics: Topics,
    /// Made for the topics that were written so far.
    producer: Option<Writer>,
}

pub(super) fn c_topic(name: &str) -> Result<CString, BrokerError> {
    CString::new(name).map_err(|_| operator(format!("the topic name {name:?} holds a NUL byte")))
}

impl KafkaClient {
    pub(super) fn new(kafka: Kafka) -> Result<Self, BrokerError> {
        let topics = kafka.topics()?;
        Ok(Self { kafka, topics, producer: None })
    }

    fn place_of(&self, group: Option<&str>) -> Place {
        Place { group: group.map(str::to_owned), ..self.kafka.settings.place.clone() }
    }

    /// One offset of each partition, in the order asked.
    fn offsets(&self, topic: &str, partitions: &[i32], edge: OffsetEdge) -> Result<Vec<i64>, BrokerError> {
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let name = c_topic(topic)?;
        let asked: Vec<_> = partitions.iter().map(|p| (name.as_c_str(), *p)).collect();
        let doing = format!("asking for offsets of {topic:?}");
        let send = |c: &super::native::Client, q: &super::native::Queue| c.list_offsets(&asked, edge, q, ANSWER_WAIT);
        let told = self.topics.ask(&doing, ANSWER_WAIT, send, |event| event.offsets())?;
        let mut found = BTreeMap::new();
        for (_, partition, offset) in told {
            let at = format!("asking for offsets of {topic:?}, partition {partition}");
            found.insert(partition, offset.map_err(|f| self.place_of(None).explain(&at, &f))?);
        }
        let missing = |p: &i32| operator(format!("asking for offsets of {topic:?}: nothing is told of partition {p}"));
        partitions.iter().map(|p| found.get(p).copied().ok_or_else(|| missing(p))).collect()
    }

    /// A producer whose batches fit all topics written. One more topic asks for a new producer; nothing is in flight
    /// between two calls.
    fn producer_for(&mut self, records: &[Produce<'_>]) -> Result<Writer, BrokerError> {
        let (mut names, old) = self.producer.take().map_or_else(Default::default, |(n, p)| (n, Some(p)));
        let before = names.len();
        for record in records {
            if !names.contains(record.topic) {
                names.insert(record.topic.to_owned());
            }
        }
        let fits = names.len() == before;
        let producer = match old.filter(|_| fits) {
            Some(producer) => producer,
            None => {
                let topics: Vec<&str> = names.iter().map(String::as_str).collect();
                self.kafka.producer(&topics, ANSWER_WAIT)?
            }
        };
        Ok((names, producer))
    }
}

/// Waits until each record is acknowledged or refused.
fn deliver(
    producer: &mut dyn Producer,
    records: &[Produce<'_>],
    place: &str,
) -> Result<Vec<Result<(), Refusal>>, BrokerError> {
    let mut results = vec![Ok(()); records.len()];
    let mut reports = Vec::new();
    let (mut next, mut open) = (0, 0_usize);
    let mut until = Instant::now() + ANSWER_WAIT;
    let mut cause = None;
    while next < records.len() || open > 0 {
        while let Some(record) = records.get(next) {
            if record.timestamp_ms == Some(0) {
                // librdkafka takes 0 for "now", and a record would be written that nobody sent.
                results[next] =
                    Err(Refusal::Undeliverable("the timestamp 0 can't be written to Kafka from here".to_owned()));
                next += 1;
                continue;
            }
            match producer.send(record, next as u64) {
                Ok(true) => open += 1,
                Ok(false) => break,
                Err(refusal) => results[next] = Err(refusal),
            }
            next += 1;
        }
        producer.poll(POLL, &mut reports);
        cause = producer.trouble().or(cause);
        if !reports.is_empty() {
            until = Instant::now() + ANSWER_WAIT;
        }
        for (token, result) in reports.drain(..) {
            open = open.saturating_sub(1);
            if let Some(place) = usize::try_from(token).ok().and_then(|token| results.get_mut(token)) {
                *place = result;
            }
        }
        if Instant::now() >= until {
            let left = records.len() - next + open;
            let message = format!("{place}: no acknowledgement within {ANSWER_WAIT:?} for {left} records");
            return Err(cause
                .map_or(BrokerError { kind: BrokerErrorKind::Retry, message: message.clone() }, |cause| {
                    BrokerError { kind: cause.kind, message: format!("{message}: {}", cause.message) }
                }));
        }
    }
    Ok(results)
}

impl Client for KafkaClient {
    fn place(&self) -> String {
        self.kafka.bootstrap().to_owned()
    }

    fn topics(&mut self) -> Result<Vec<Topic>, BrokerError> {
        let all = self.topics.all(ANSWER_WAIT)?;
        let mut all: Vec<_> = all.into_iter().map(|(name, partitions)| Topic { name, partitions }).collect();
        all.sort();
        Ok(all)
    }

    fn partitions_of(&mut self, topic: &str) -> Result<Option<i32>, BrokerError> {
        Ok(self.topics.describe(&[topic], ANSWER_WAIT)?.first().and_then(|info| info.partitions))
    }

    fn log_of(&mut self, topic: &str) -> Result<u64, BrokerError> {
        self.topics.log_of(topic, ANSWER_WAIT)
    }

    fn settings(&mut self, topic: &str) -> Result<Vec<(String, String)>, BrokerError> {
        let mut all = self.topics.settings(topic, ANSWER_WAIT)?;
        all.sort();
        Ok(all)
    }

    fn create_topic(&mut self, topic: &NewTopic) -> Result<bool, BrokerError> {
        self.topics.make(&topic.name, topic.partitions, &topic.settings, ANSWER_WAIT)
    }

    fn bounds(&mut self, topic: &str, partitions: &[i32]) -> Result<Vec<LogBounds>, BrokerError> {
        let starts = self.offsets(topic, partitions, OffsetEdge::Start)?;
        let ends = self.offsets(topic, partitions, OffsetEdge::End)?;
        Ok(starts.into_iter().zip(ends).map(|(start, end)| LogBounds { start, end }).collect())
    }

    fn offsets_at(&mut self, topic: &str, partitions: &[i32], time_ms: i64) -> Result<Vec<i64>, BrokerError> {
        // IMPORTANT: the ends first, so that a record that comes in between is not passed over.
        let ends = self.offsets(topic, partitions, OffsetEdge::End)?;
        let found = self.offsets(topic, partitions, OffsetEdge::Time(time_ms))?;
        Ok(found.into_iter().zip(ends).map(|(found, end)| if found < 0 { end } else { found }).collect())
    }

    fn read(&mut self, topics: &[String], starts: &[(TopicPartition, i64)]) -> Result<Box<dyn Reader>, BrokerError> {
        Ok(Box::new(KafkaReader::new(&self.kafka, topics, starts)?))
    }

    fn produce(&mut self, records: &[Produce<'_>]) -> Result<Vec<Result<(), Refusal>>, BrokerError> {
        let (names, mut producer) = self.producer_for(records)?;
        // After an error the producer goes, and with it what it would still have sent.
        let results = deliver(producer.as_mut(), records, self.kafka.bootstrap())?;
        if !results.iter().any(|r| matches!(r, Err(Refusal::Fenced(_)))) {
            self.producer = Some((names, producer));
        }
        Ok(results)
    }

    fn groups(&mut self) -> Result<Vec<String>, BrokerError> {
        let mut groups =
            self.topics.ask("listing groups", ANSWER_WAIT, |c, q| c.list_groups(q, ANSWER_WAIT), |e| e.groups())?;
        groups.sort();
        Ok(groups)
    }

    fn committed(
        &mut self,
        group: &str,
        topics: &[String],
        partitions: &[TopicPartition],
    ) -> Result<Vec<Committed>, BrokerError> {
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let mut list = PartitionList::with_capacity(partitions.len());
        for at in partitions {
            list.push(&c_topic(name_of(topics, *at)?)?, at.partition, -1001);
        }
        let doing = format!("asking what the group {group:?} has committed");
        let send = |c: &super::native::Client, q: &super::native::Queue| c.group_offsets(group, &list, q, ANSWER_WAIT);
        let until = Instant::now() + ANSWER_WAIT;
        let told = loop {
            let excused = |f: Failure| match f.code {
                // Brokers of other makes say so of a group that nobody knows.
                Code::GroupIdNotFound => Ok(Some(Vec::new())),
                // A broker that has just started reads its groups first.
                Code::CoordinatorLoadInProgress | Code::CoordinatorNotAvailable | Code::NotCoordinator
                    if Instant::now() < until =>
                {
                    Ok(None)
                }
                _ => Err(f),
            };
            let read = |event: &super::native::Event<'_>| event.group_offsets().map(Some).or_else(excused);
            match self.topics.ask(&doing, ANSWER_WAIT, send, read)? {
                Some(told) => break told,
                None => std::thread::sleep(POLL),
            }
        };
        let of = |at: &TopicPartition| {
            let name = name_of(topics, *at)?;
            let found = told.iter().find(|g| g.partition == at.partition && g.topic == name.as_bytes());
            Ok(found.map_or(Committed { offset: None, metadata: String::new() }, |g| Committed {
                offset: g.offset,
                metadata: g.metadata.clone(),
            }))
        };
        partitions.iter().map(of).collect()
    }

    fn commit(&mut self, group: &str, topics: &[String], offsets: &[OffsetCommit]) -> Result<(), BrokerError> {
        if offsets.is_empty() {
            return Ok(());
        }
        let mut list = PartitionList::with_capacity(offsets.len());
        for commit in offsets {
            let topic = c_topic(name_of(topics, commit.at)?)?;
            list.push_with_metadata(&topic, commit.at.partition, commit.offset, commit.metadata.as_bytes());
        }
        let doing = format!("putting offsets of the group {group:?} down");
        let send =
            |c: &super::native::Client, q: &super::native::Queue| c.alter_group_offsets(group, &list, q, ANSWER_WAIT);
        let result = self.topics.ask(&doing, ANSWER_WAIT, send, |event| event.altered_offsets());
        result.map_err(|error| match error.kind {
            // Of a group with members only its members may.
            BrokerErrorKind::Superseded => BrokerError { message: has_members(group), ..error },
            _ => error,
        })
    }

    fn transactions(
        &mut self,
        id: &str,
        group: &str,
        topics: &[String],
        written: &[&str],
    ) -> Result<Box<dyn Transactions>, BrokerError> {
        let name = CString::new(group).map_err(|_| operator(format!("{group:?} holds a NUL byte")))?;
        let topics = topics.iter().map(|name| c_topic(name)).collect::<Result<_, _>>()?;
        let whose = Whose::Outside(Arc::new(Outside { group: name, topics }));
        let limit = self.kafka.smallest_limit(written, ANSWER_WAIT)?;
        let place = self.place_of(Some(group));
        Ok(Box::new(KafkaTransactions::new(self.kafka.clone(), whose, place, id, limit)))
    }
}
