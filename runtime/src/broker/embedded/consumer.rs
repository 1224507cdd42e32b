//! A member of a group. The first member of a group holds all its partitions; another one in the same process stands by
//! and gets them when the first has left.

use super::cursor::{Cursors, Step};
use super::errors::superseded;
use super::store::Store;
use super::transactions::{EmbeddedTransactions, Whose};
use super::writer::{OffsetWrite, Request, Write};
use crate::broker::{
    BrokerError, BrokerErrorKind, Commits, Committed, Consumer, LogBounds, OffsetCommit, Polled, Transactions,
};
use crate::record::TopicPartition;
use crossbeam_channel::{Receiver, TryRecvError, bounded};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A rebalance that the pipeline has not answered yet.
#[derive(Debug, PartialEq, Eq)]
enum Pending {
    Assign(Vec<TopicPartition>),
    Revoke,
}

/// What the consumer and its commit handle share.
#[derive(Debug)]
pub(super) struct Membership {
    store: Arc<Store>,
    group: String,
    topics: Vec<String>,
    member: u64,
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.store.leave(&self.group, self.member);
    }
}

/// See [`super::Embedded::consumer`].
#[derive(Debug)]
pub(super) struct EmbeddedConsumer {
    membership: Arc<Membership>,
    cursors: Cursors,
    pending: Option<Pending>,
    told_joined: bool,
    /// Of the catalog, when new partitions were looked for last.
    looked_at: u64,
    leaving: bool,
}

impl EmbeddedConsumer {
    pub(super) fn new(store: &Arc<Store>, group: &str, topics: &[String]) -> Result<Self, BrokerError> {
        let cursors = Cursors::new(store.clone())?;
        let (group, topics, member) = (group.to_owned(), topics.to_vec(), store.join(group));
        let membership = Arc::new(Membership { store: store.clone(), group, topics, member });
        Ok(Self { membership, cursors, pending: None, told_joined: false, looked_at: 0, leaving: false })
    }

    fn name(&self, topic: u32) -> Result<&str, BrokerError> {
        self.membership.name(topic)
    }

    /// What the group has to tell, if anything.
    fn rebalance(&mut self) -> Option<Polled> {
        if self.pending.is_some() {
            return None;
        }
        if std::mem::take(&mut self.leaving) {
            self.pending = Some(Pending::Revoke);
            return Some(Polled::Revoked(self.cursors.partitions()));
        }
        let store = self.cursors.store();
        let version = store.catalog_version();
        if version != self.looked_at && store.holds(&self.membership.group, self.membership.member) {
            let new = self.new_partitions();
            self.looked_at = version;
            if !new.is_empty() {
                self.told_joined = true;
                self.pending = Some(Pending::Assign(new.clone()));
                return Some(Polled::Assigned(new));
            }
        }
        (!std::mem::replace(&mut self.told_joined, true)).then_some(Polled::Joined)
    }

    fn new_partitions(&self) -> Vec<TopicPartition> {
        let catalog = self.cursors.store().catalog();
        let mut new = Vec::new();
        for (topic, name) in (0..).zip(&self.membership.topics) {
            let count = catalog.get(name).map_or(0, |t| t.count());
            new.extend((0..count).map(|partition| TopicPartition { topic, partition }));
        }
        new.retain(|at| !self.cursors.contains(*at));
        new
    }

    fn step(&mut self) -> Polled {
        match self.cursors.step() {
            Step::Record(record) => Polled::Record(record),
            Step::OutOfRange(at) => Polled::OutOfRange(at),
            Step::Trouble(error) => Polled::Trouble(error),
            Step::Nothing => Polled::Idle,
        }
    }
}

impl Consumer for EmbeddedConsumer {
    fn poll(&mut self, wait: Duration) -> Polled {
        let until = Instant::now() + wait;
        loop {
            let seen = self.cursors.store().seen();
            if let Err(error) = self.cursors.store().check() {
                return Polled::Trouble(error);
            }
            if let Some(told) = self.rebalance() {
                return told;
            }
            if self.pending.is_none() {
                match self.step() {
                    Polled::Idle => {}
                    other => return other,
                }
            }
            if wait.is_zero() || !self.cursors.store().wait(seen, until) {
                return Polled::Idle;
            }
        }
    }

    fn assign(&mut self, starts: &[(TopicPartition, i64)]) -> Result<(), BrokerError> {
        let Some(Pending::Assign(_)) = &self.pending else { return Err(no_rebalance("assign")) };
        for (at, start) in starts {
            let name = self.name(at.topic)?.to_owned();
            self.cursors.add(*at, &name, *start)?;
        }
        self.pending = None;
        Ok(())
    }

    fn unassign(&mut self, _partitions: &[TopicPartition]) -> Result<(), BrokerError> {
        if self.pending != Some(Pending::Revoke) {
            return Err(no_rebalance("unassign"));
        }
        self.pending = None;
        for at in self.cursors.partitions() {
            self.cursors.remove(at);
        }
        let membership = &self.membership;
        membership.store.leave(&membership.group, membership.member);
        Ok(())
    }

    fn pause(&mut self, partitions: &[TopicPartition]) -> Result<(), BrokerError> {
        partitions.iter().for_each(|at| self.cursors.pause(*at, true));
        Ok(())
    }

    fn resume(&mut self, partitions: &[TopicPartition]) -> Result<(), BrokerError> {
        partitions.iter().for_each(|at| self.cursors.pause(*at, false));
        Ok(())
    }

    fn seek(&mut self, at: TopicPartition, offset: i64) -> Result<(), BrokerError> {
        if self.cursors.seek(at, offset) {
            return Ok(());
        }
        let name = self.name(at.topic)?;
        Err(superseded(format!("seeking: partition {} of topic {name:?} is not assigned here", at.partition)))
    }

    fn committed(&mut self, partitions: &[TopicPartition], wait: Duration) -> Result<Vec<Committed>, BrokerError> {
        // What a member that is gone had under way is the writer's already, and counts; later it would be refused.
        self.membership.store.settle(wait)?;
        let committed = |at: &TopicPartition| {
            let topic = self.membership.store.topic(self.name(at.topic)?)?;
            self.cursors.reading().committed(&self.membership.group, (topic.id, at.partition))
        };
        partitions.iter().map(committed).collect()
    }

    fn bounds(&mut self, at: TopicPartition, _: Duration) -> Result<LogBounds, BrokerError> {
        let topic = self.membership.store.topic(self.name(at.topic)?)?;
        Ok(topic.partition(at.partition)?.bounds())
    }

    fn partition_count(&mut self, topic: u32, _: Duration) -> Result<i32, BrokerError> {
        Ok(self.membership.store.topic(self.name(topic)?)?.count())
    }

    fn commits(&self) -> Box<dyn Commits> {
        Box::new(EmbeddedCommits { membership: Arc::downgrade(&self.membership), pending: None })
    }

    fn watermarks(&mut self) -> Vec<(TopicPartition, i64)> {
        let end = |at: TopicPartition| self.cursors.bounds(at).map(|bounds| (at, bounds.end));
        self.cursors.partitions().into_iter().filter_map(end).collect()
    }

    fn log_of(&self, topic: u32) -> u64 {
        let found = self.name(topic).and_then(|name| self.membership.store.topic(name));
        found.map_or(0, |topic| topic.id.unsigned_abs())
    }

    fn transactions(&self, id: &str, _: &[&str]) -> Result<Box<dyn Transactions>, BrokerError> {
        let (store, whose) = (self.membership.store.clone(), Whose::Member(Arc::downgrade(&self.membership)));
        Ok(Box::new(EmbeddedTransactions::new(store, whose, id)))
    }

    fn leave(&mut self) {
        self.leaving = true;
        self.pending = None;
        self.membership.store.wake();
    }
}

impl Membership {
    fn name(&self, topic: u32) -> Result<&str, BrokerError> {
        self.topics.get(topic as usize).map(String::as_str).ok_or_else(|| BrokerError {
            kind: BrokerErrorKind::Fatal,
            message: format!("topic index {topic} is none of this consumer's {} topics", self.topics.len()),
        })
    }

    /// The group's new offsets; refused when it has another member by then.
    pub(super) fn write(&self, offsets: &[OffsetCommit]) -> Result<Write, BrokerError> {
        let offset = |commit: &OffsetCommit| {
            let topic = self.store.topic(self.name(commit.at.topic)?)?;
            let (partition, offset, metadata) = (commit.at.partition, commit.offset, commit.metadata.clone());
            Ok(OffsetWrite { topic, partition, offset, metadata })
        };
        let offsets = offsets.iter().map(offset).collect::<Result<Vec<_>, BrokerError>>()?;
        Ok(Write { group: self.group.clone(), member: Some(self.member), offsets, ..Write::default() })
    }
}

fn no_rebalance(call: &str) -> BrokerError {
    superseded(format!("{call}: no rebalance of that kind waits for an answer"))
}

/// Why offsets of a dropped consumer are not committed.
pub(super) fn closed() -> BrokerError {
    superseded("committing offsets: the consumer is closed")
}

/// Weak, so that a commit never keeps a dropped consumer in its group.
#[derive(Debug)]
struct EmbeddedCommits {
    membership: std::sync::Weak<Membership>,
    /// Where the answer to the commit started last will be.
    pending: Option<Receiver<Result<(), BrokerError>>>,
}

impl EmbeddedCommits {
    fn membership(&self) -> Result<Arc<Membership>, BrokerError> {
        self.membership.upgrade().ok_or_else(closed)
    }
}

impl Commits for EmbeddedCommits {
    fn start(&mut self, offsets: &[OffsetCommit]) -> Result<(), BrokerError> {
        self.pending = None;
        let membership = self.membership()?;
        let (told, heard) = bounded(1);
        // Nobody hears it when the next commit was started meanwhile; a commit without an answer counts for nothing.
        let answer = Box::new(move |result| drop(told.try_send(result)));
        if offsets.is_empty() {
            answer(Ok(()));
        } else {
            membership.store.submit(Request::Write(membership.write(offsets)?, answer))?;
        }
        self.pending = Some(heard);
        Ok(())
    }

    fn finished(&mut self) -> Option<Result<(), BrokerError>> {
        let result = match self.pending.as_ref()?.try_recv() {
            Ok(result) => result,
            Err(TryRecvError::Empty) => return None,
            Err(TryRecvError::Disconnected) => Err(superseded("committing offsets: the broker was closed")),
        };
        self.pending = None;
        Some(result)
    }

    fn now(&mut self, offsets: &[OffsetCommit], wait: Duration) -> Result<(), BrokerError> {
        if offsets.is_empty() {
            return Ok(());
        }
        let membership = self.membership()?;
        membership.store.write(membership.write(offsets)?, wait)
    }
}
