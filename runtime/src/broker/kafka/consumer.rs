//! A member of a consumer group.
//!
//! librdkafka hands out a rebalance as an event and then waits (`WAIT_ASSIGN_CALL`, `WAIT_UNASSIGN_CALL`) until one of
//! the assign calls answers it; its own thread keeps up the heartbeats, and [`Consumer::poll`] goes on keeping up
//! `max.poll.interval.ms`. So a rebalance is passed on as a value and answered when the pipeline is ready. There is at
//! most one unanswered at a time. Meanwhile librdkafka delivers nothing.

use super::commits::KafkaCommits;
use super::errors::{Place, Repeats};
use super::native::{Client, Code, Event, EventKind, Failure, Item, Message, OffsetEdge, PartitionList, Queue};
use super::transactions::{KafkaTransactions, Whose};
use super::watch::Watch;
use super::{Kafka, LIMITS, leaving, log};
use crate::broker::{BrokerError, BrokerErrorKind, Commits, Committed, Consumer, LogBounds, Polled, Transactions};
use crate::record::{Record, RecordBuilder, TopicPartition};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CStr, CString};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long an offset whose transaction is not decided is left alone before it is asked for again.
const UNSTABLE: Duration = Duration::from_millis(20);
/// How long librdkafka may take to start a seek: it asks no broker for it.
const SEEK_WAIT: Duration = Duration::from_secs(5);

/// What the consumer and its commit handles share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) events: Queue,
    pub(super) client: Arc<Client>,
    topics: Vec<CString>,
    pub(super) place: Place,
}

impl Shared {
    pub(super) fn name(&self, topic: u32) -> Result<&CStr, BrokerError> {
        self.topics.get(topic as usize).map(CString::as_c_str).ok_or_else(|| BrokerError {
            kind: BrokerErrorKind::Fatal,
            message: format!("topic index {topic} is none of this consumer's {} topics", self.topics.len()),
        })
    }

    fn find(&self, item: &Item<'_>) -> Option<TopicPartition> {
        let topic = self.topics.iter().position(|t| t.to_bytes() == item.topic)?;
        Some(TopicPartition { topic: u32::try_from(topic).ok()?, partition: item.partition })
    }

    /// The first entry that librdkafka marked with an error.
    pub(super) fn check_items<'a>(
        &self,
        doing: &str,
        mut items: impl Iterator<Item = Item<'a>>,
    ) -> Result<(), BrokerError> {
        items.find(|i| i.code != Code::NoError).map_or(Ok(()), |i| Err(self.item_error(doing, &i)))
    }

    fn item_error(&self, doing: &str, item: &Item<'_>) -> BrokerError {
        let at = format!("{doing}, {} [{}]", String::from_utf8_lossy(item.topic), item.partition);
        self.place.explain(&at, &Failure::new(item.code, item.code.to_string()))
    }
}

/// A rebalance that the pipeline has not answered yet.
#[derive(Debug)]
enum Pending {
    Assign,
    Revoke(Vec<TopicPartition>),
}

/// What an event that is no record tells.
enum Told {
    Failure(Failure, Option<TopicPartition>),
    Rebalance(Code, Vec<TopicPartition>),
}

/// See [`super::Kafka::consumer`].
#[derive(Debug)]
pub(super) struct KafkaConsumer {
    kafka: Kafka,
    shared: Arc<Shared>,
    pending: Option<Pending>,
    /// What is assigned, with the offset it was last told to start from.
    assigned: BTreeMap<TopicPartition, i64>,
    paused: BTreeSet<TopicPartition>,
    /// Index of the topic of the last record: most often the next one's too.
    last_topic: usize,
    builder: RecordBuilder,
    repeats: Repeats,
    /// `leave` was called with nothing assigned: librdkafka will tell of no revocation.
    left_empty: bool,
    watch: Watch,
}

impl KafkaConsumer {
    pub(super) fn new(kafka: Kafka, client: Arc<Client>, topics: &[String], place: Place) -> Result<Self, BrokerError> {
        let operator = |message: String| BrokerError { kind: BrokerErrorKind::Operator, message };
        let events = Queue::consumer(&client).ok_or_else(|| operator("the consumer has no group".to_owned()))?;
        let topics = topics
            .iter()
            .map(|t| CString::new(t.as_str()).map_err(|_| operator(format!("the topic name {t:?} holds a NUL byte"))))
            .collect::<Result<Vec<_>, _>>()?;
        let mut list = PartitionList::with_capacity(topics.len());
        for topic in &topics {
            list.push(topic, -1, -1001);
        }
        client.subscribe(&list).map_err(|f| place.explain("subscribing", &f))?;
        let shared = Arc::new(Shared { events, client, topics, place });
        Ok(Self {
            kafka,
            shared,
            pending: None,
            assigned: BTreeMap::new(),
            paused: BTreeSet::new(),
            last_topic: 0,
            builder: RecordBuilder::default(),
            repeats: Repeats::default(),
            left_empty: false,
            watch: Watch::default(),
        })
    }

    fn list(&self, partitions: impl Iterator<Item = (TopicPartition, i64)>) -> Result<PartitionList, BrokerError> {
        let mut list = PartitionList::with_capacity(partitions.size_hint().0);
        for (at, offset) in partitions {
            list.push(self.shared.name(at.topic)?, at.partition, offset);
        }
        Ok(list)
    }

    fn on_rebalance(&mut self, code: Code, partitions: Vec<TopicPartition>) -> Polled {
        let assign = code == Code::AssignPartitions;
        let lost = !assign && self.shared.client.assignment_lost();
        self.pending = Some(if assign { Pending::Assign } else { Pending::Revoke(partitions.clone()) });
        // librdkafka waits for an answer to an empty change too; the pipeline has nothing to decide then, but a member
        // without partitions is told that it is one.
        if partitions.is_empty() {
            let answer = if assign { self.assign(&[]) } else { self.unassign(&[]) };
            let told = if assign { Polled::Joined } else { Polled::Idle };
            return answer.map_or_else(Polled::Trouble, |()| told);
        }
        match (assign, lost) {
            (true, _) => Polled::Assigned(partitions),
            (false, false) => Polled::Revoked(partitions),
            (false, true) => Polled::Lost(partitions),
        }
    }

    fn on_error(&mut self, failure: &Failure, at: Option<TopicPartition>) -> Polled {
        if let (Code::AutoOffsetReset | Code::OffsetOutOfRange, Some(at)) = (failure.code, at) {
            return Polled::OutOfRange(at);
        }
        // A fatal error's own code only says that it is fatal.
        let fatal = if failure.fatal { self.shared.client.fatal() } else { None };
        if failure.code == Code::AllBrokersDown {
            self.watch.rest();
        }
        let error = self.shared.place.explain("reading", fatal.as_ref().unwrap_or(failure));
        let new = self.repeats.is_new(failure.code, error.kind, Instant::now());
        match failure.code {
            _ if !new && !failure.fatal => Polled::Idle,
            Code::AllBrokersDown => Polled::Away(error),
            _ => Polled::Trouble(error),
        }
    }

    /// Takes a partition away from librdkafka and gives it back at another offset.
    ///
    /// After an offset out of range its fetcher has stopped and refuses to seek. If a rebalance is on its way in this
    /// very moment, librdkafka may take the call for its answer; it then rebalances once more.
    fn reassign(&mut self, at: TopicPartition, offset: i64) -> Result<(), Failure> {
        let client = Arc::clone(&self.shared.client);
        let failed = |e: BrokerError| Failure::new(Code::InvalidArgument, e.message);
        if client.is_cooperative() {
            let list = self.list([(at, offset)].into_iter()).map_err(failed)?;
            client.incremental_unassign(&list)?;
            return client.incremental_assign(&list);
        }
        let all = self.list(self.assigned.iter().map(|(at, start)| (*at, *start))).map_err(failed)?;
        client.position(&all)?;
        let shared = &self.shared;
        let positions: BTreeMap<_, _> =
            all.items().filter(|i| i.offset >= 0).filter_map(|i| Some((shared.find(&i)?, i.offset))).collect();
        let places = self
            .assigned
            .iter()
            .map(|(p, start)| (*p, if *p == at { offset } else { positions.get(p).copied().unwrap_or(*start) }));
        client.assign(Some(&self.list(places).map_err(failed)?))
    }

    fn ask(
        &self,
        doing: &str,
        wait: Duration,
        send: impl FnOnce(&Client, &Queue) -> Result<(), Failure>,
        read: impl FnOnce(&Event<'_>) -> Result<i64, Failure>,
    ) -> Result<i64, BrokerError> {
        let until = Instant::now() + wait;
        let client = &self.shared.client;
        let answers = Queue::new(client);
        client
            .reach(wait)
            .and_then(|()| send(client, &answers))
            .and_then(|()| {
                let late = || Failure::new(Code::OperationTimedOut, format!("no answer within {wait:?}"));
                let left = until.saturating_duration_since(Instant::now());
                answers.poll(left).ok_or_else(late).and_then(|event| read(&event))
            })
            .map_err(|f| self.shared.place.explain(doing, &f))
    }
}

fn first_offset(event: &Event<'_>) -> Result<i64, Failure> {
    // An edge of a log always has an offset.
    let first = event.offsets()?.into_iter().next().filter(|(_, _, offset)| !matches!(offset, Ok(-1)));
    first.map_or_else(|| Err(Failure::new(Code::Underflow, "an answer without partitions")), |(_, _, offset)| offset)
}

/// Makes a record of a fetched message. `None` for what is no record (a control message).
fn record(
    event: &mut Event<'_>,
    topics: &[CString],
    last_topic: &mut usize,
    builder: &mut RecordBuilder,
) -> Option<Result<Record, Failure>> {
    let message = event.next_message()?;
    if message.code() != Code::NoError {
        return Some(Err(message.failure()));
    }
    let name = message.topic();
    if topics.get(*last_topic).is_none_or(|t| t.to_bytes() != name) {
        *last_topic = topics.iter().position(|t| t.to_bytes() == name)?;
    }
    let at = TopicPartition { topic: u32::try_from(*last_topic).ok()?, partition: message.partition() };
    Some(Ok(copy(&message, at, builder)))
}

/// Copies a message out of librdkafka.
pub(super) fn copy(message: &Message<'_>, at: TopicPartition, builder: &mut RecordBuilder) -> Record {
    builder.restart(message.key(), message.value());
    for (name, value) in message.headers() {
        builder.header(name, value);
    }
    builder.build(at, message.offset(), message.timestamp_ms())
}

impl Consumer for KafkaConsumer {
    fn poll(&mut self, wait: Duration) -> Polled {
        if std::mem::take(&mut self.left_empty) {
            return Polled::Revoked(Vec::new());
        }
        let Self { shared, last_topic, builder, .. } = self;
        let Some(mut event) = shared.events.poll(wait) else { return Polled::Idle };
        let told = match event.kind() {
            EventKind::Fetch => match record(&mut event, &shared.topics, last_topic, builder) {
                Some(Ok(record)) => return Polled::Record(record),
                Some(Err(failure)) => Told::Failure(failure, None),
                None => return Polled::Idle,
            },
            EventKind::Rebalance => {
                Told::Rebalance(event.code(), event.partitions().filter_map(|i| shared.find(&i)).collect())
            }
            EventKind::Error => {
                let Err(failure) = event.result() else { return Polled::Idle };
                let at = event.partition().and_then(|(topic, partition)| {
                    let index = shared.topics.iter().position(|t| t.to_bytes() == topic)?;
                    Some(TopicPartition { topic: u32::try_from(index).ok()?, partition })
                });
                Told::Failure(failure, at)
            }
            EventKind::Log => match log::forward(&event) {
                Some(failure) => Told::Failure(failure, None),
                None => return Polled::Idle,
            },
            EventKind::Delivery | EventKind::Other => return Polled::Idle,
        };
        drop(event);
        match told {
            Told::Failure(failure, at) => self.on_error(&failure, at),
            Told::Rebalance(code, partitions) => self.on_rebalance(code, partitions),
        }
    }

    fn assign(&mut self, starts: &[(TopicPartition, i64)]) -> Result<(), BrokerError> {
        if !matches!(self.pending, Some(Pending::Assign)) {
            return Err(no_rebalance("assign"));
        }
        let list = self.list(starts.iter().copied())?;
        let client = &self.shared.client;
        let answer =
            if client.is_cooperative() { client.incremental_assign(&list) } else { client.assign(Some(&list)) };
        answer.map_err(|f| self.shared.place.explain("taking assigned partitions", &f))?;
        self.pending = None;
        self.assigned.extend(starts.iter().copied());
        // librdkafka remembers a pause from an earlier assignment of the same partition.
        let stale: Vec<_> = starts.iter().map(|(at, _)| *at).filter(|at| self.paused.contains(at)).collect();
        if stale.is_empty() { Ok(()) } else { self.resume(&stale) }
    }

    fn unassign(&mut self, _partitions: &[TopicPartition]) -> Result<(), BrokerError> {
        // The group's list counts, not the caller's: a partition left out would keep librdkafka waiting for ever.
        let Some(Pending::Revoke(revoked)) = &self.pending else {
            return Err(no_rebalance("unassign"));
        };
        let client = &self.shared.client;
        let answer = if client.is_cooperative() {
            client.incremental_unassign(&self.list(revoked.iter().map(|at| (*at, -1001)))?)
        } else {
            client.assign(None)
        };
        answer.map_err(|f| self.shared.place.explain("giving up revoked partitions", &f))?;
        if let Some(Pending::Revoke(revoked)) = self.pending.take() {
            self.assigned.retain(|at, _| !revoked.contains(at));
        }
        Ok(())
    }

    fn pause(&mut self, partitions: &[TopicPartition]) -> Result<(), BrokerError> {
        if partitions.is_empty() {
            return Ok(());
        }
        let list = self.list(partitions.iter().map(|at| (*at, -1001)))?;
        self.shared.client.pause(&list).map_err(|f| self.shared.place.explain("pausing", &f))?;
        self.paused.extend(partitions);
        self.shared.check_items("pausing", list.items())
    }

    fn resume(&mut self, partitions: &[TopicPartition]) -> Result<(), BrokerError> {
        if partitions.is_empty() {
            return Ok(());
        }
        let list = self.list(partitions.iter().map(|at| (*at, -1001)))?;
        self.shared.client.resume(&list).map_err(|f| self.shared.place.explain("resuming", &f))?;
        self.paused.retain(|at| !partitions.contains(at));
        self.shared.check_items("resuming", list.items())
    }

    fn seek(&mut self, at: TopicPartition, offset: i64) -> Result<(), BrokerError> {
        if !self.assigned.contains_key(&at) {
            return Err(BrokerError {
                kind: BrokerErrorKind::Superseded,
                message: format!("seeking: partition {} of topic {} is not assigned here", at.partition, at.topic),
            });
        }
        let list = self.list([(at, offset)].into_iter())?;
        self.shared.client.seek(&list, SEEK_WAIT).map_err(|f| self.shared.place.explain("seeking", &f))?;
        let code = list.items().next().map_or(Code::NoError, |i| i.code);
        match code {
            Code::NoError => {}
            Code::State if self.pending.is_none() => {
                self.reassign(at, offset).map_err(|f| self.shared.place.explain("seeking", &f))?;
            }
            _ => return self.shared.check_items("seeking", list.items()),
        }
        self.assigned.insert(at, offset);
        Ok(())
    }

    fn committed(&mut self, partitions: &[TopicPartition], wait: Duration) -> Result<Vec<Committed>, BrokerError> {
        const DOING: &str = "asking for committed offsets";
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let list = self.list(partitions.iter().map(|at| (*at, -1001)))?;
        let until = Instant::now() + wait;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            self.shared.client.committed(&list, left).map_err(|f| self.shared.place.explain(DOING, &f))?;
            // IMPORTANT: as its reader is read_committed, librdkafka asks for stable offsets (KIP-447). While a
            // transaction with offsets is undecided the broker tells none, and not the old one.
            if list.items().all(|i| i.code != Code::UnstableOffsetCommit) || Instant::now() + UNSTABLE >= until {
                break;
            }
            std::thread::sleep(UNSTABLE);
        }
        self.shared.check_items(DOING, list.items())?;
        let found: BTreeMap<_, _> = list
            .items()
            .filter_map(|i| {
                let metadata = String::from_utf8_lossy(i.metadata).into_owned();
                Some((self.shared.find(&i)?, Committed { offset: (i.offset >= 0).then_some(i.offset), metadata }))
            })
            .collect();
        let none = Committed { offset: None, metadata: String::new() };
        Ok(partitions.iter().map(|at| found.get(at).unwrap_or(&none).clone()).collect())
    }

    fn bounds(&mut self, at: TopicPartition, wait: Duration) -> Result<LogBounds, BrokerError> {
        let name = self.shared.name(at.topic)?;
        let doing = format!("asking for the bounds of {} [{}]", name.to_string_lossy(), at.partition);
        let until = Instant::now() + wait;
        let ask = |edge| {
            let left = until.saturating_duration_since(Instant::now());
            self.ask(&doing, left, |c, q| c.list_offsets(&[(name, at.partition)], edge, q, left), first_offset)
        };
        Ok(LogBounds { start: ask(OffsetEdge::Start)?, end: ask(OffsetEdge::End)? })
    }

    fn partition_count(&mut self, topic: u32, wait: Duration) -> Result<i32, BrokerError> {
        let name = self.shared.name(topic)?.to_string_lossy();
        let mut found = None;
        let count = self.ask(
            &format!("asking for the partitions of {name:?}"),
            wait,
            |c, q| c.describe_topics(&[&name], q, wait),
            |event| {
                let none = || Failure::new(Code::Underflow, "an answer without topics");
                found.insert(event.described()?.pop().ok_or_else(none)?).partitions.clone().map(i64::from)
            },
        );
        found.iter().for_each(|topic| self.watch.note(topic));
        count.map(|n| i32::try_from(n).unwrap_or(i32::MAX))
    }

    fn commits(&self) -> Box<dyn Commits> {
        Box::new(KafkaCommits::new(Arc::downgrade(&self.shared)))
    }

    fn watermarks(&mut self) -> Vec<(TopicPartition, i64)> {
        let names: Vec<_> = self.shared.topics.iter().map(|name| name.to_string_lossy()).collect();
        let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
        self.watch.turn(&self.shared.client, &names);
        let known = |at: &TopicPartition| {
            Some((*at, self.shared.client.cached_end(self.shared.name(at.topic).ok()?, at.partition)?))
        };
        self.assigned.keys().filter_map(known).collect()
    }

    fn log_of(&self, topic: u32) -> u64 {
        self.shared.name(topic).map_or(0, |name| self.watch.short_id(&name.to_string_lossy()))
    }

    fn made_anew(&mut self) -> Vec<u32> {
        let anew = self.watch.take();
        let index = |name: &String| self.shared.topics.iter().position(|t| t.to_bytes() == name.as_bytes());
        anew.iter().filter_map(|name| u32::try_from(index(name)?).ok()).collect()
    }

    fn transactions(&self, id: &str, topics: &[&str]) -> Result<Box<dyn Transactions>, BrokerError> {
        if let Some(refused) = self.kafka.settings.no_transactions() {
            return Err(refused);
        }
        let limit = self.kafka.smallest_limit(topics, LIMITS)?;
        let group = Whose::Member(Arc::downgrade(&self.shared));
        Ok(Box::new(KafkaTransactions::new(self.kafka.clone(), group, self.shared.place.clone(), id, limit)))
    }

    fn leave(&mut self) {
        if let Err(failure) = self.shared.client.unsubscribe() {
            tracing::warn!("{}", self.shared.place.explain("leaving the group", &failure));
        }
        // With nothing assigned librdkafka leaves without asking.
        self.left_empty = self.assigned.is_empty() && self.pending.is_none();
    }
}

fn no_rebalance(call: &str) -> BrokerError {
    BrokerError {
        kind: BrokerErrorKind::Superseded,
        message: format!("{call}: no rebalance of that kind waits for an answer"),
    }
}

impl Drop for KafkaConsumer {
    fn drop(&mut self) {
        leaving::leave(Arc::clone(&self.shared), self.pending.is_some());
    }
}
