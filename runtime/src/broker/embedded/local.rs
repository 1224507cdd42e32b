//! What commands ask, in the process that holds the folder.

use super::Inner;
use super::block::Unpacker;
use super::cursor::{Cursors, Step};
use super::errors::{operator, retry};
use super::producer::EmbeddedProducer;
use super::sqlite::Reading;
use super::store::{Store, WRITE_WAIT};
use super::transactions::{EmbeddedTransactions, Whose};
use super::writer::{OffsetWrite, Request, Write};
use crate::broker::client::{Client, NewTopic, Reader, Topic, name_of};
use crate::broker::{BrokerError, Committed, LogBounds, OffsetCommit, Produce, Producer as _, Refusal, Transactions};
use crate::record::{Record, TopicPartition};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Records that one call of a reader gives.
const AT_ONCE: usize = 4096;

/// See [`super::Embedded::client`].
#[derive(Debug)]
pub(super) struct LocalClient {
    store: Arc<Store>,
    default_partitions: i32,
    /// Keeps the folder open.
    inner: Option<Arc<Inner>>,
    reading: Reading,
}

impl LocalClient {
    /// The connections to the socket use it too; they end before the folder is closed, and do not keep it open.
    pub(super) fn new(
        store: Arc<Store>,
        default_partitions: i32,
        inner: Option<Arc<Inner>>,
    ) -> Result<Self, BrokerError> {
        let reading = Reading::open(store.dir())?;
        Ok(Self { store, default_partitions, inner, reading })
    }

    fn store(&self) -> &Arc<Store> {
        &self.store
    }
}

impl Client for LocalClient {
    fn place(&self) -> String {
        self.store().dir().display().to_string()
    }

    fn topics(&mut self) -> Result<Vec<Topic>, BrokerError> {
        let topic = |(name, topic): (&String, &Arc<super::store::TopicState>)| Topic {
            name: name.clone(),
            partitions: topic.count(),
        };
        Ok(self.store().catalog().iter().map(topic).collect())
    }

    fn settings(&mut self, topic: &str) -> Result<Vec<(String, String)>, BrokerError> {
        Ok(self.store().topic(topic)?.settings.all())
    }

    fn log_of(&mut self, topic: &str) -> Result<u64, BrokerError> {
        let Ok(topic) = self.store().topic(topic) else { return Ok(0) };
        // Of another folder, or of one that was emptied, it was made at another time.
        Ok(self.reading.created_ms(topic.id)?.unsigned_abs() << 16 | topic.id.unsigned_abs() & 0xffff)
    }

    fn create_topic(&mut self, topic: &NewTopic) -> Result<bool, BrokerError> {
        let default = self.default_partitions;
        self.store().ask(|answer| Request::Create(topic.clone(), default, answer))
    }

    fn bounds(&mut self, topic: &str, partitions: &[i32]) -> Result<Vec<LogBounds>, BrokerError> {
        let topic = self.store().topic(topic)?;
        partitions.iter().map(|number| Ok(topic.partition(*number)?.bounds())).collect()
    }

    fn offsets_at(&mut self, topic: &str, partitions: &[i32], time_ms: i64) -> Result<Vec<i64>, BrokerError> {
        let topic = self.store().topic(topic)?;
        let offset = |number: &i32| {
            let bounds = topic.partition(*number)?.bounds();
            let found = self.reading.block_at_time((topic.id, *number), bounds.start, time_ms)?;
            let Some(stored) = found else { return Ok(bounds.end) };
            let damaged = |d| operator(format!("topic {:?}, partition {number}: a block is damaged: {d}", topic.name));
            let mut unpacker = Unpacker::new(stored.data, stored.base).map_err(damaged)?;
            while let Some(entry) = unpacker.next().map_err(damaged)? {
                if entry.parts.timestamp_ms >= time_ms {
                    return Ok(entry.offset);
                }
            }
            Ok(bounds.end)
        };
        partitions.iter().map(offset).collect()
    }

    fn read(&mut self, topics: &[String], starts: &[(TopicPartition, i64)]) -> Result<Box<dyn Reader>, BrokerError> {
        let mut cursors = Cursors::new(self.store().clone())?;
        for (at, start) in starts {
            cursors.add(*at, name_of(topics, *at)?, *start)?;
        }
        Ok(Box::new(LocalReader { cursors, _inner: self.inner.clone() }))
    }

    fn produce(&mut self, records: &[Produce<'_>]) -> Result<Vec<Result<(), Refusal>>, BrokerError> {
        let mut producer = EmbeddedProducer::new(self.store().clone());
        let mut results = vec![Ok(()); records.len()];
        let mut reports = Vec::new();
        let until = Instant::now() + WRITE_WAIT;
        let mut next = 0;
        while next < records.len() || producer.in_flight() > 0 {
            while let Some(record) = records.get(next) {
                match producer.send(record, next as u64) {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(refusal) => results[next] = Err(refusal),
                }
                next += 1;
            }
            producer.poll(Duration::from_millis(100), &mut reports);
            for (token, result) in reports.drain(..) {
                results[token as usize] = result;
            }
            if Instant::now() >= until {
                let dir = self.store().dir().display();
                return Err(retry(format!("{dir}: the disk did not answer within {WRITE_WAIT:?}")));
            }
        }
        Ok(results)
    }

    fn groups(&mut self) -> Result<Vec<String>, BrokerError> {
        let mut groups = self.reading.groups()?;
        groups.extend(self.store().groups());
        groups.sort_unstable();
        groups.dedup();
        Ok(groups)
    }

    fn committed(
        &mut self,
        group: &str,
        topics: &[String],
        partitions: &[TopicPartition],
    ) -> Result<Vec<Committed>, BrokerError> {
        let committed = |at: &TopicPartition| {
            let topic = self.store().topic(name_of(topics, *at)?)?;
            self.reading.committed(group, (topic.id, at.partition))
        };
        partitions.iter().map(committed).collect()
    }

    fn commit(&mut self, group: &str, topics: &[String], offsets: &[OffsetCommit]) -> Result<(), BrokerError> {
        let write = |commit: &OffsetCommit| {
            let topic = self.store().topic(name_of(topics, commit.at)?)?;
            let OffsetCommit { at, offset, metadata } = commit.clone();
            Ok(OffsetWrite { topic, partition: at.partition, offset, metadata })
        };
        let offsets = offsets.iter().map(write).collect::<Result<Vec<_>, BrokerError>>()?;
        if offsets.is_empty() {
            return Ok(());
        }
        let write = Write { group: group.to_owned(), offsets, ..Write::default() };
        self.store().ask(|answer| Request::Write(write, answer))
    }

    fn transactions(
        &mut self,
        id: &str,
        group: &str,
        topics: &[String],
        _: &[&str],
    ) -> Result<Box<dyn Transactions>, BrokerError> {
        Ok(Box::new(self.outside(id, group, topics)))
    }
}

impl LocalClient {
    pub(super) fn outside(&self, id: &str, group: &str, topics: &[String]) -> EmbeddedTransactions {
        EmbeddedTransactions::new(self.store.clone(), Whose::Outside(group.to_owned(), topics.to_vec()), id)
    }
}

struct LocalReader {
    cursors: Cursors,
    /// Keeps the folder open.
    _inner: Option<Arc<Inner>>,
}

impl Reader for LocalReader {
    fn next(&mut self, wait: Duration, records: &mut Vec<Record>) -> Result<(), BrokerError> {
        let until = Instant::now() + wait;
        let before = records.len();
        while records.len() - before < AT_ONCE {
            let seen = self.cursors.store().seen();
            self.cursors.store().check()?;
            match self.cursors.step() {
                Step::Record(record) => records.push(record),
                Step::OutOfRange(at) => {
                    let Some(bounds) = self.cursors.bounds(at) else { continue };
                    // Past the end there was never anything; before the start there is nothing any more.
                    self.cursors.seek(at, bounds.start);
                }
                Step::Trouble(error) => return Err(error),
                Step::Nothing if records.len() > before || !self.cursors.store().wait(seen, until) => break,
                Step::Nothing => {}
            }
        }
        Ok(())
    }

    fn has_passed(&self, at: TopicPartition, end: i64) -> bool {
        self.cursors.position(at).is_none_or(|next| next >= end)
    }

    fn position(&self, at: TopicPartition) -> Option<i64> {
        self.cursors.position(at)
    }
}
