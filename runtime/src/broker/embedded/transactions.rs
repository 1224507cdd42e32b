//! Transactions: one write of the store each. Until its commit a transaction's records are packed in memory, and nobody
//! else knows of them.
//!
//! The process is alone in the folder, so an id matters only between producers of this process: who claimed it last may
//! write.

use super::consumer::{Membership, closed};
use super::errors::{fatal, retry};
use super::staging::Staging;
use super::store::{Claim, Store};
use super::writer::{Answer, OffsetWrite, Request, Write};
use crate::broker::client::name_of;
use crate::broker::{
    BrokerError, BrokerErrorKind, Finished, OffsetCommit, Produce, Producer, Refusal, Transactions, operator,
};
use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// See [`crate::broker::Consumer::transactions`].
#[derive(Debug)]
pub(super) struct EmbeddedTransactions {
    id: Arc<str>,
    whose: Whose,
    staging: Staging,
    /// Packed, and not reported yet.
    packed: Vec<u64>,
    claim: Option<Claim>,
    /// It was renewed, and nothing failed since.
    ready: bool,
    begun: Option<Begun>,
    /// What was begun last has ended so, and nobody asked yet.
    ended: Option<Result<Finished, BrokerError>>,
}

/// Whose offsets are written.
#[derive(Debug)]
pub(super) enum Whose {
    /// Those of a consumer. Weak, so that it never keeps a dropped one in its group.
    Member(Weak<Membership>),
    /// Those of a group without members, with the names of its topics.
    Outside(String, Vec<String>),
}

impl Whose {
    fn write(&self, store: &Store, offsets: &[OffsetCommit]) -> Result<Write, BrokerError> {
        match self {
            Self::Member(membership) => membership.upgrade().ok_or_else(closed)?.write(offsets),
            Self::Outside(group, topics) => {
                let write = |commit: &OffsetCommit| {
                    let topic = store.topic(name_of(topics, commit.at)?)?;
                    let OffsetCommit { at, offset, metadata } = commit.clone();
                    Ok(OffsetWrite { topic, partition: at.partition, offset, metadata })
                };
                let offsets = offsets.iter().map(write).collect::<Result<_, BrokerError>>()?;
                Ok(Write { group: group.clone(), offsets, ..Write::default() })
            }
        }
    }
}

#[derive(Debug)]
struct Begun {
    what: Finished,
    heard: Receiver<Result<(), BrokerError>>,
}

impl EmbeddedTransactions {
    pub(super) fn new(store: Arc<Store>, whose: Whose, id: &str) -> Self {
        Self {
            id: Arc::from(id),
            whose,
            staging: Staging::new(store),
            packed: Vec::new(),
            claim: None,
            ready: false,
            begun: None,
            ended: None,
        }
    }

    /// Bytes of what is staged, packed.
    pub(super) fn staged_bytes(&self) -> usize {
        self.staging.bytes()
    }

    /// Hands a request to the writer; its answer is the end of `what`.
    fn begin(&mut self, what: Finished, request: impl FnOnce(Answer<()>) -> Request) {
        self.ended = None;
        let (told, heard) = bounded(1);
        // Nobody hears it when something else was begun meanwhile.
        let answer = Box::new(move |result| drop(told.try_send(result)));
        match self.staging.store().submit(request(answer)) {
            Ok(()) => self.begun = Some(Begun { what, heard }),
            Err(error) => self.end(Err(error)),
        }
    }

    fn end(&mut self, result: Result<Finished, BrokerError>) {
        self.begun = None;
        self.ready = result.is_ok();
        if self.ready {
            self.ended = Some(result);
            return;
        }
        self.forget();
        // To the caller `Fatal` means that the id is another's. Where that is not so, the folder is of no use any more.
        let ours = self.claim.as_ref().is_none_or(|claim| self.staging.store().stands(claim));
        self.ended = Some(result.map_err(|error| match error.kind {
            BrokerErrorKind::Fatal if ours => operator(error.message),
            _ => error,
        }));
    }

    /// Drops what is staged, and what would be reported of it.
    fn forget(&mut self) {
        self.staging.clear();
        self.packed.clear();
    }

    /// Waits at most `wait` for the writer's answer.
    fn listen(&mut self, wait: Duration) {
        let Some(Begun { what, heard }) = &self.begun else { return };
        let result = match heard.recv_timeout(wait) {
            Ok(result) => result.map(|()| *what),
            Err(RecvTimeoutError::Timeout) => return,
            Err(RecvTimeoutError::Disconnected) => {
                Err(fatal("the broker was closed; whether the transaction was written is not known"))
            }
        };
        self.end(result);
    }

    fn write(&mut self, offsets: &[OffsetCommit]) -> Result<Write, BrokerError> {
        if !self.ready {
            return Err(retry(format!("the transactional id {:?} is not renewed: nothing can be committed", self.id)));
        }
        if offsets.is_empty() {
            return Err(operator("a transaction without an offset: nobody could tell whether its group is still ours"));
        }
        let mut write = self.whose.write(self.staging.store(), offsets)?;
        write.appends = self.staging.take();
        write.claim.clone_from(&self.claim);
        Ok(write)
    }
}

impl Producer for EmbeddedTransactions {
    fn send(&mut self, record: &Produce<'_>, token: u64) -> Result<bool, Refusal> {
        if !self.ready {
            return Err(Refusal::Blocked(format!("the transactional id {:?} is not renewed", self.id)));
        }
        self.staging.stage(record)?;
        self.packed.push(token);
        Ok(true)
    }

    fn poll(&mut self, wait: Duration, reports: &mut Vec<(u64, Result<(), Refusal>)>) {
        if self.packed.is_empty() && !wait.is_zero() {
            self.listen(wait);
        }
        reports.extend(self.packed.drain(..).map(|token| (token, Ok(()))));
    }

    fn in_flight(&self) -> usize {
        self.packed.len()
    }
}

impl Transactions for EmbeddedTransactions {
    fn renew(&mut self) {
        self.ready = false;
        self.forget();
        self.claim = Some(self.staging.store().claim(&self.id));
        // IMPORTANT: after the claim, since what the writer gets in between is refused only by it.
        self.begin(Finished::Renewed, Request::Barrier);
    }

    fn commit(&mut self, offsets: Vec<OffsetCommit>) {
        match self.write(&offsets) {
            Ok(write) => self.begin(Finished::Committed { resent: false }, |answer| Request::Write(write, answer)),
            Err(error) => self.end(Err(error)),
        }
    }

    fn disown(&mut self) {
        // The writer looks whether the group is still this member's, which never comes back to it.
    }

    fn finished(&mut self) -> Option<Result<Finished, BrokerError>> {
        self.listen(Duration::ZERO);
        self.ended.take()
    }
}

impl Drop for EmbeddedTransactions {
    fn drop(&mut self) {
        if let Some(claim) = &self.claim {
            self.staging.store().give_back(claim);
        }
    }
}
