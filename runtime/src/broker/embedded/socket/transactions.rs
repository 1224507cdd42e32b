//! Transactions of a command: the process that holds the folder keeps their records until the end, and then writes all of them
//! with the offsets at once.

use super::client::{Connection, bytes_of};
use super::message::{Answer, Ask, NOW, refusal};
use crate::broker::client::ANSWER_WAIT;
use crate::broker::embedded::block::{FULL_BYTES, Packer, Parts, RECORDS};
use crate::broker::embedded::settings::LARGEST_MESSAGE;
use crate::broker::embedded::store::WRITE_WAIT;
use crate::broker::{BrokerError, Finished, OffsetCommit, Produce, Producer, Refusal, Transactions};
use std::time::Duration;

/// Sent at once, about.
const SOME_BYTES: usize = 4 * FULL_BYTES;

/// See the module. Its calls wait for the answer.
pub(super) struct SocketTransactions {
    connection: Connection,
    id: String,
    group: String,
    /// Those of the offsets.
    topics: Vec<String>,
    batch: Batch,
    reports: Vec<(u64, Result<(), Refusal>)>,
    ended: Option<Result<Finished, BrokerError>>,
}

/// Records that are not sent yet.
struct Batch {
    topics: Vec<String>,
    to: Vec<(u32, Option<i32>)>,
    tokens: Vec<u64>,
    packer: Packer,
}

impl Default for Batch {
    fn default() -> Self {
        Self { topics: Vec::new(), to: Vec::new(), tokens: Vec::new(), packer: Packer::new() }
    }
}

impl SocketTransactions {
    pub(super) fn new(connection: Connection, id: &str, group: &str, topics: &[String]) -> Self {
        Self {
            connection,
            id: id.to_owned(),
            group: group.to_owned(),
            topics: topics.to_vec(),
            batch: Batch::default(),
            reports: Vec::new(),
            ended: None,
        }
    }

    fn ask(&mut self, ask: &Ask, body: &[u8]) -> Result<Answer, BrokerError> {
        self.connection.ask(ask, body, WRITE_WAIT + ANSWER_WAIT).map(|(answer, _)| answer)
    }

    fn done(&mut self, ask: &Ask) -> Result<(), BrokerError> {
        match self.ask(ask, &[])? {
            Answer::Done => Ok(()),
            other => Err(self.connection.strange(&other)),
        }
    }

    /// Sends the batch; each of its records is reported then.
    fn flush(&mut self) -> Result<(), BrokerError> {
        if self.batch.to.is_empty() {
            return Ok(());
        }
        let Batch { topics, to, tokens, packer } = std::mem::take(&mut self.batch);
        let answer = self.ask(&Ask::Stage { topics, to }, &packer.finish().bytes)?;
        let Answer::Produced { refused } = answer else { return Err(self.connection.strange(&answer)) };
        let before = self.reports.len();
        self.reports.extend(tokens.into_iter().map(|token| (token, Ok(()))));
        for (number, verdict, why) in refused {
            if let Some((_, result)) = self.reports.get_mut(before + number) {
                *result = Err(refusal(verdict, why));
            }
        }
        Ok(())
    }

    fn forget(&mut self) {
        (self.batch, self.reports) = (Batch::default(), Vec::new());
    }
}

impl Producer for SocketTransactions {
    fn send(&mut self, record: &Produce<'_>, token: u64) -> Result<bool, Refusal> {
        if bytes_of(record) as u64 > 2 * LARGEST_MESSAGE.unsigned_abs() {
            let why = format!("more than {LARGEST_MESSAGE} bytes, which is what the embedded broker takes at most");
            return Err(Refusal::Undeliverable(why));
        }
        let full = self.batch.packer.len() + bytes_of(record) > SOME_BYTES || self.batch.to.len() >= RECORDS as usize;
        if full {
            self.flush().map_err(|error| Refusal::Blocked(error.message))?;
        }
        let batch = &mut self.batch;
        let topic = batch.topics.iter().rposition(|topic| topic == record.topic).unwrap_or_else(|| {
            batch.topics.push(record.topic.to_owned());
            batch.topics.len() - 1
        });
        batch.to.push((topic as u32, record.partition));
        batch.tokens.push(token);
        let timestamp_ms = record.timestamp_ms.unwrap_or(NOW);
        let parts = Parts { timestamp_ms, key: record.key, value: record.value };
        batch.packer.push(0, &parts, record.headers.iter().copied());
        Ok(true)
    }

    fn poll(&mut self, _: Duration, reports: &mut Vec<(u64, Result<(), Refusal>)>) {
        let tokens = self.batch.tokens.clone();
        if let Err(error) = self.flush() {
            // Nothing is known of them, and the transaction can't be committed.
            self.reports.extend(tokens.into_iter().map(|token| (token, Err(Refusal::Blocked(error.message.clone())))));
        }
        reports.append(&mut self.reports);
    }

    fn in_flight(&self) -> usize {
        self.batch.to.len() + self.reports.len()
    }
}

impl Transactions for SocketTransactions {
    fn renew(&mut self) {
        self.forget();
        let (id, group, topics) = (self.id.clone(), self.group.clone(), self.topics.clone());
        // A process that was started anew answers at a new socket.
        let end = self.connection.anew().and_then(|()| self.done(&Ask::Claim { id, group, topics }));
        self.ended = Some(end.map(|()| Finished::Renewed));
    }

    fn commit(&mut self, offsets: Vec<OffsetCommit>) {
        let offsets = offsets.into_iter().map(|c| ((c.at.topic, c.at.partition), c.offset, c.metadata)).collect();
        let end = self.flush().and_then(|()| self.done(&Ask::End { offsets }));
        self.ended = Some(end.map(|()| Finished::Committed { resent: false }));
    }

    fn disown(&mut self) {
        // Nobody takes partitions away from a group without members.
    }

    fn finished(&mut self) -> Option<Result<Finished, BrokerError>> {
        self.ended.take()
    }
}
