//! The commands' end of the socket.

use super::message::{Answer, Ask, At, BlockHead, NOW, error, refusal};
use super::transactions::SocketTransactions;
use super::{PROTOCOL, frame, path_of};
use crate::broker::client::{ANSWER_WAIT, Client, NewTopic, Reader, Topic};
use crate::broker::embedded::block::{FULL_BYTES, Packer, Parts, RECORDS, Unpacker};
use crate::broker::embedded::errors::{operator, retry};
use crate::broker::embedded::settings::LARGEST_MESSAGE;
use crate::broker::embedded::store::WRITE_WAIT;
use crate::broker::{BrokerError, Committed, LogBounds, OffsetCommit, Produce, Refusal, Transactions};
use crate::record::{Record, RecordBuilder, TopicPartition};
use std::collections::BTreeMap;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A connection that has said hello.
#[derive(Debug)]
pub(super) struct Connection {
    stream: UnixStream,
    dir: PathBuf,
}

impl Connection {
    fn open(dir: &Path) -> Result<Self, BrokerError> {
        let path = path_of(dir)?;
        let failed =
            |e: io::Error| retry(format!("{}: the process that holds the folder does not answer: {e}", path.display()));
        let stream = UnixStream::connect(&path).map_err(failed)?;
        stream.set_write_timeout(Some(WRITE_WAIT)).map_err(failed)?;
        let mut connection = Self { stream, dir: dir.to_owned() };
        match connection.ask(&Ask::Hello { protocol: PROTOCOL }, &[], ANSWER_WAIT)? {
            (Answer::Hello { .. }, _) => Ok(connection),
            (other, _) => Err(connection.strange(&other)),
        }
    }

    /// Connects once more; the other end forgets what it knew of this one.
    pub(super) fn anew(&mut self) -> Result<(), BrokerError> {
        *self = Self::open(&self.dir)?;
        Ok(())
    }

    pub(super) fn ask(&mut self, ask: &Ask, body: &[u8], wait: Duration) -> Result<(Answer, Vec<u8>), BrokerError> {
        let place = self.dir.display().to_string();
        let failed = |e: io::Error| match e.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                retry(format!("{place}: the process that holds the folder did not answer within {wait:?}"))
            }
            _ => retry(format!("{place}: the connection to the process that holds the folder broke: {e}")),
        };
        self.stream.set_read_timeout(Some(wait)).map_err(failed)?;
        let heard = match frame::write(&mut self.stream, ask, body) {
            Ok(()) => frame::read(&mut self.stream),
            // The other end has hung up: what it said last tells why.
            Err(e) => match frame::read(&mut self.stream) {
                Ok(Some(told @ (Answer::Failed { .. }, _))) => Ok(Some(told)),
                _ => Err(e),
            },
        };
        match heard.map_err(failed)? {
            Some((Answer::Failed { kind, message }, _)) => Err(error(kind, message)),
            Some(answer) => Ok(answer),
            None => Err(retry(format!("{place}: the process that holds the folder has closed the connection"))),
        }
    }

    pub(super) fn strange(&self, answer: &Answer) -> BrokerError {
        let place = self.dir.display();
        operator(format!(
            "{place}: an answer to another question ({answer:?}): use the same version of keyrail for both"
        ))
    }
}

/// Speaks with the process that holds the folder.
#[derive(Debug)]
pub(in super::super) struct SocketClient {
    connection: Connection,
}

impl SocketClient {
    pub(in super::super) fn open(dir: &Path) -> Result<Self, BrokerError> {
        Ok(Self { connection: Connection::open(dir)? })
    }

    fn ask<T>(&mut self, ask: &Ask, pick: impl FnOnce(Answer) -> Result<T, Answer>) -> Result<T, BrokerError> {
        // A question may wait for the disk.
        let (answer, _) = self.connection.ask(ask, &[], WRITE_WAIT + ANSWER_WAIT)?;
        pick(answer).map_err(|other| self.connection.strange(&other))
    }

    fn produce_some(&mut self, records: &[Produce<'_>]) -> Result<Vec<Result<(), Refusal>>, BrokerError> {
        let mut topics: Vec<String> = Vec::new();
        let mut to = Vec::with_capacity(records.len());
        let mut packer = Packer::new();
        for record in records {
            let known = topics.iter().rposition(|t| t == record.topic);
            let topic = known.unwrap_or_else(|| {
                topics.push(record.topic.to_owned());
                topics.len() - 1
            });
            to.push((topic as u32, record.partition));
            let timestamp_ms = record.timestamp_ms.unwrap_or(NOW);
            let parts = Parts { timestamp_ms, key: record.key, value: record.value };
            packer.push(0, &parts, record.headers.iter().copied());
        }
        let body = packer.finish().bytes;
        let (answer, _) = self.connection.ask(&Ask::Produce { topics, to }, &body, WRITE_WAIT + ANSWER_WAIT)?;
        let Answer::Produced { refused } = answer else { return Err(self.connection.strange(&answer)) };
        let mut results = vec![Ok(()); records.len()];
        for (number, verdict, why) in refused {
            if let Some(result) = results.get_mut(number) {
                *result = Err(refusal(verdict, why));
            }
        }
        Ok(results)
    }
}

/// What a record needs on the way, about.
pub(super) fn bytes_of(record: &Produce<'_>) -> usize {
    let headers: usize = record.headers.iter().map(|(n, v)| 20 + n.len() + v.map_or(0, <[u8]>::len)).sum();
    32 + record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len) + headers
}

impl Client for SocketClient {
    fn place(&self) -> String {
        self.connection.dir.display().to_string()
    }

    fn topics(&mut self) -> Result<Vec<Topic>, BrokerError> {
        self.ask(&Ask::Topics, |answer| match answer {
            Answer::Topics { topics } => {
                Ok(topics.into_iter().map(|(name, partitions)| Topic { name, partitions }).collect())
            }
            other => Err(other),
        })
    }

    fn settings(&mut self, topic: &str) -> Result<Vec<(String, String)>, BrokerError> {
        self.ask(&Ask::Settings { topic: topic.to_owned() }, |answer| match answer {
            Answer::Settings { settings } => Ok(settings),
            other => Err(other),
        })
    }

    fn log_of(&mut self, topic: &str) -> Result<u64, BrokerError> {
        self.ask(&Ask::LogOf { topic: topic.to_owned() }, |answer| match answer {
            Answer::Log { log } => Ok(log),
            other => Err(other),
        })
    }

    fn create_topic(&mut self, topic: &NewTopic) -> Result<bool, BrokerError> {
        let NewTopic { name, partitions, settings } = topic.clone();
        self.ask(&Ask::Create { topic: name, partitions, settings }, |answer| match answer {
            Answer::Created { new } => Ok(new),
            other => Err(other),
        })
    }

    fn bounds(&mut self, topic: &str, partitions: &[i32]) -> Result<Vec<LogBounds>, BrokerError> {
        let ask = Ask::Bounds { topic: topic.to_owned(), partitions: partitions.to_vec() };
        self.ask(&ask, |answer| match answer {
            Answer::Bounds { bounds } if bounds.len() == partitions.len() => {
                Ok(bounds.into_iter().map(|(start, end)| LogBounds { start, end }).collect())
            }
            other => Err(other),
        })
    }

    fn offsets_at(&mut self, topic: &str, partitions: &[i32], time_ms: i64) -> Result<Vec<i64>, BrokerError> {
        let ask = Ask::OffsetsAt { topic: topic.to_owned(), partitions: partitions.to_vec(), time_ms };
        self.ask(&ask, |answer| match answer {
            Answer::Offsets { offsets } if offsets.len() == partitions.len() => Ok(offsets),
            other => Err(other),
        })
    }

    fn read(&mut self, topics: &[String], starts: &[(TopicPartition, i64)]) -> Result<Box<dyn Reader>, BrokerError> {
        let connection = Connection::open(&self.connection.dir)?;
        let next = starts.iter().map(|(at, offset)| ((at.topic, at.partition), *offset)).collect();
        Ok(Box::new(SocketReader {
            connection,
            topics: topics.to_vec(),
            next,
            last: None,
            builder: RecordBuilder::default(),
        }))
    }

    fn produce(&mut self, records: &[Produce<'_>]) -> Result<Vec<Result<(), Refusal>>, BrokerError> {
        let mut results = Vec::with_capacity(records.len());
        let mut rest = records;
        while let Some(first) = rest.first() {
            if bytes_of(first) as u64 > 2 * LARGEST_MESSAGE.unsigned_abs() {
                let why = format!("more than {LARGEST_MESSAGE} bytes, which is what the embedded broker takes at most");
                results.push(Err(Refusal::Undeliverable(why)));
                rest = &rest[1..];
                continue;
            }
            let mut bytes = 0;
            let some = rest.iter().take(RECORDS as usize).take_while(|record| {
                let fits = bytes == 0 || bytes + bytes_of(record) <= 4 * FULL_BYTES;
                bytes += bytes_of(record);
                fits
            });
            let (now, later) = rest.split_at(some.count());
            results.extend(self.produce_some(now)?);
            rest = later;
        }
        Ok(results)
    }

    fn groups(&mut self) -> Result<Vec<String>, BrokerError> {
        self.ask(&Ask::Groups, |answer| match answer {
            Answer::Groups { groups } => Ok(groups),
            other => Err(other),
        })
    }

    fn committed(
        &mut self,
        group: &str,
        topics: &[String],
        partitions: &[TopicPartition],
    ) -> Result<Vec<Committed>, BrokerError> {
        let of = partitions.iter().map(|at| (at.topic, at.partition)).collect();
        let ask = Ask::Committed { group: group.to_owned(), topics: topics.to_vec(), of };
        self.ask(&ask, |answer| match answer {
            Answer::Committed { committed } if committed.len() == partitions.len() => {
                Ok(committed.into_iter().map(|(offset, metadata)| Committed { offset, metadata }).collect())
            }
            other => Err(other),
        })
    }

    fn commit(&mut self, group: &str, topics: &[String], offsets: &[OffsetCommit]) -> Result<(), BrokerError> {
        let offsets = offsets.iter().map(|c| ((c.at.topic, c.at.partition), c.offset, c.metadata.clone())).collect();
        let ask = Ask::Commit { group: group.to_owned(), topics: topics.to_vec(), offsets };
        self.ask(&ask, |answer| if answer == Answer::Done { Ok(()) } else { Err(answer) })
    }

    fn transactions(
        &mut self,
        id: &str,
        group: &str,
        topics: &[String],
        _: &[&str],
    ) -> Result<Box<dyn Transactions>, BrokerError> {
        let connection = Connection::open(&self.connection.dir)?;
        Ok(Box::new(SocketTransactions::new(connection, id, group, topics)))
    }
}

/// Asks for blocks and unpacks them here.
#[derive(Debug)]
struct SocketReader {
    connection: Connection,
    topics: Vec<String>,
    next: BTreeMap<At, i64>,
    /// Partitions take turns: the one after this is asked for first.
    last: Option<At>,
    builder: RecordBuilder,
}

impl Reader for SocketReader {
    fn next(&mut self, wait: Duration, records: &mut Vec<Record>) -> Result<(), BrokerError> {
        use std::ops::Bound::{Excluded, Included, Unbounded};
        let (after, upto) = self.last.map_or((Unbounded, None), |last| (Excluded(last), Some(Included(last))));
        let mut from: Vec<(At, i64)> = self.next.range((after, Unbounded)).map(|(at, next)| (*at, *next)).collect();
        from.extend(
            upto.into_iter().flat_map(|upto| self.next.range((Unbounded, upto))).map(|(at, next)| (*at, *next)),
        );
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let ask = Ask::Fetch { topics: self.topics.clone(), from, wait_ms };
        let (answer, body) = self.connection.ask(&ask, &[], wait.saturating_add(ANSWER_WAIT))?;
        let Answer::Blocks { blocks, moved } = answer else { return Err(self.connection.strange(&answer)) };
        for (at, next) in moved {
            self.next.insert(at, next);
        }
        let mut rest = body.as_slice();
        for head in blocks {
            let Some((data, later)) = rest.split_at_checked(head.bytes) else {
                return Err(self.damaged(&head, "the answer ends in the middle of it"));
            };
            rest = later;
            self.unpack(&head, data, records)?;
        }
        Ok(())
    }

    fn has_passed(&self, at: TopicPartition, end: i64) -> bool {
        self.next.get(&(at.topic, at.partition)).is_none_or(|next| *next >= end)
    }

    fn position(&self, at: TopicPartition) -> Option<i64> {
        self.next.get(&(at.topic, at.partition)).copied()
    }
}

impl SocketReader {
    fn unpack(&mut self, head: &BlockHead, data: &[u8], records: &mut Vec<Record>) -> Result<(), BrokerError> {
        let next = self.next.get(&head.at).copied().unwrap_or(head.base);
        let (topic, partition) = head.at;
        let at = TopicPartition { topic, partition };
        let mut unpacker = Unpacker::new(data, head.base).map_err(|d| self.damaged(head, &d.to_string()))?;
        while let Some(entry) = unpacker.next().map_err(|d| self.damaged(head, &d.to_string()))? {
            if entry.offset >= next {
                records.push(entry.record(at, &mut self.builder));
            }
        }
        self.next.insert(head.at, next.max(head.last.saturating_add(1)));
        self.last = Some(head.at);
        Ok(())
    }

    fn damaged(&self, head: &BlockHead, why: &str) -> BrokerError {
        let topic = self.topics.get(head.at.0 as usize).map_or("?", String::as_str);
        let (place, partition, base) = (self.connection.dir.display(), head.at.1, head.base);
        operator(format!(
            "{place}: topic {topic:?}, partition {partition}: the block at offset {base} is damaged: {why}"
        ))
    }
}
