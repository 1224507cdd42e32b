//! Transactions: records and a group's offsets, visible together or not at all.
//!
//! librdkafka's calls that talk to a coordinator block, one of them without limit, so each session has a thread that
//! makes them. Nothing waits for it: what takes too long is given up, and renewing leaves session and thread to
//! themselves. What they still send is refused by the broker, since the new session's epoch is higher, or is part of a
//! transaction that taking the id over has aborted.

use super::Kafka;
use super::consumer::Shared;
use super::errors::Place;
use super::native::{Client, Code, Failure, GroupMetadata, PartitionList, Queue, Requests};
use super::sender::{Reports, Sender};
use super::session::{Kind, Session};
use super::settings::TRANSACTION_MS;
use crate::broker::{
    BrokerError, BrokerErrorKind, Finished, OffsetCommit, Produce, Producer, Refusal, Transactions, operator,
};
use std::ffi::{CStr, CString};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// For each step: taking over, or offsets and end together. Less than a transaction may be open.
const STEP: Duration = Duration::from_millis(TRANSACTION_MS * 9 / 10);
/// How much longer the thread may take to say so itself, with the reason.
const SLACK: Duration = Duration::from_millis(500);
/// Sessions given up that may stand in a call which has no end. Each has threads and connections of its own.
const MOST_GIVEN_UP: usize = 8;
/// TxnOffsetCommit since this version (KIP-447, Kafka 2.5) names member and generation.
const FENCED_OFFSETS: i16 = 3;

type End = Result<Finished, BrokerError>;

/// See [`crate::broker::Consumer::transactions`].
#[derive(Debug)]
pub(super) struct KafkaTransactions {
    sender: Sender,
    id: Arc<str>,
    group: Whose,
    place: Place,
    state: State,
    worker: Option<Worker>,
    /// How the last session sent records.
    alone: bool,
    given_up: Vec<Weak<Client>>,
    /// An end that no thread has to tell.
    end: Option<BrokerError>,
}

/// Whose offsets are committed.
#[derive(Debug, Clone)]
pub(super) enum Whose {
    /// Those of a consumer, which is a member of its group: nobody else's generation is checked for it.
    Member(Weak<Shared>),
    /// Those of a group without members. Only the transactional id tells who may.
    Outside(Arc<Outside>),
}

/// A group that nobody is a member of.
#[derive(Debug)]
pub(super) struct Outside {
    pub(super) group: CString,
    pub(super) topics: Vec<CString>,
}

impl Outside {
    fn name(&self, topic: u32) -> Result<&CStr, BrokerError> {
        let none = || operator(format!("topic index {topic} is none of the list of {}", self.topics.len()));
        self.topics.get(topic as usize).map(CString::as_c_str).ok_or_else(none)
    }
}

impl Whose {
    /// The offsets as librdkafka takes them, and in whose name they are sent.
    fn offsets(&self, offsets: &[OffsetCommit]) -> Result<(PartitionList, GroupMetadata), BrokerError> {
        let mut list = PartitionList::with_capacity(offsets.len());
        let mut push = |o: &OffsetCommit, name: &CStr| {
            list.push_with_metadata(name, o.at.partition, o.offset, o.metadata.as_bytes());
        };
        match self {
            Self::Member(group) => {
                // Held no longer than this: a commit must not keep a dropped consumer in its group.
                let group = group.upgrade().ok_or_else(|| superseded("the consumer is closed"))?;
                for o in offsets {
                    push(o, group.name(o.at.topic)?);
                }
                let member = group.client.group_metadata().filter(GroupMetadata::is_member);
                Ok((list, member.ok_or_else(|| superseded("the consumer is no member of its group"))?))
            }
            Self::Outside(outside) => {
                for o in offsets {
                    push(o, outside.name(o.at.topic)?);
                }
                let none = || operator(format!("{:?} is no group", outside.group));
                Ok((list, GroupMetadata::of_nobody(&outside.group).ok_or_else(none)?))
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Must be renewed.
    Closed,
    /// The thread is at work, and given up then.
    Busy(Doing, Instant),
    /// No transaction is open.
    Ready,
    Open,
}

/// What the thread does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doing {
    TakeOver,
    Begin,
    SendOffsets,
    Commit,
}

impl std::fmt::Display for Doing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::TakeOver => "taking the transactional id over",
            Self::Begin => "beginning a transaction",
            Self::SendOffsets => "sending offsets in a transaction",
            Self::Commit => "committing a transaction",
        })
    }
}

/// What the thread is asked to do.
enum Order {
    Renew,
    Commit { begin: bool, offsets: Vec<OffsetCommit> },
}

#[derive(Debug)]
struct Worker {
    orders: SyncSender<Order>,
    ends: Receiver<End>,
    given_up: Arc<AtomicBool>,
}

impl KafkaTransactions {
    /// `limit` is the smallest `max.message.bytes` of the topics that are written, where known.
    pub(super) fn new(kafka: Kafka, group: Whose, place: Place, id: &str, limit: Option<u64>) -> Self {
        let id: Arc<str> = id.into();
        Self {
            sender: Sender::new(kafka, limit).transactional(Arc::clone(&id)),
            id,
            group,
            place,
            state: State::Closed,
            worker: None,
            alone: false,
            given_up: Vec::new(),
            end: None,
        }
    }

    fn open(&mut self) -> Result<(), BrokerError> {
        self.given_up.retain(|client| client.strong_count() > 0);
        if self.given_up.len() >= MOST_GIVEN_UP {
            return Err(BrokerError {
                kind: BrokerErrorKind::Retry,
                message: format!(
                    "{}: {MOST_GIVEN_UP} earlier producers of {:?} still wait for the coordinator of their group; is a \
                     broker of the cluster down?",
                    Doing::TakeOver,
                    self.id
                ),
            });
        }
        let requests = Arc::new(Requests::default());
        let kind = Kind::Transactional(&self.id, &requests);
        let session = Session::new(&self.sender.kafka, &self.sender.pace, &kind)?;
        let client = session.client().map(Arc::clone);
        self.sender.turn_to(Some(session));
        let Some(client) = client else { return Err(operator("the producer is closed")) };
        self.worker = Some(Worker::start(client, requests, &self.id, &self.place, self.group.clone())?);
        Ok(())
    }

    fn close(&mut self) {
        self.state = State::Closed;
        self.end = None;
        if let Some(worker) = self.worker.take() {
            worker.given_up.store(true, SeqCst);
        }
        if let Some(session) = self.sender.turn_to(None) {
            self.given_up.extend(session.client().map(Arc::downgrade));
            session.abandon();
        }
    }

    fn order(&mut self, order: Order) {
        let doing = if matches!(order, Order::Renew) { Doing::TakeOver } else { Doing::Commit };
        // There is room: the thread is asked for one thing at a time.
        let sent = self.worker.as_ref().is_some_and(|w| w.orders.try_send(order).is_ok());
        if sent {
            self.state = State::Busy(doing, Instant::now() + STEP + SLACK);
        } else {
            self.fail(gone(&self.id));
        }
    }

    fn fail(&mut self, error: BrokerError) {
        self.close();
        self.end = Some(error);
    }

    /// A session that sends record by record goes back to batches when it is made anew; asking for that costs little.
    fn is_over_the_refusals(&mut self) -> bool {
        self.sender.pace.tick(Instant::now());
        self.alone && !self.sender.pace.is_alone()
    }
}

fn gone(id: &str) -> BrokerError {
    BrokerError {
        kind: BrokerErrorKind::Retry,
        message: format!("the producer of the transactional id {id:?} must be renewed first"),
    }
}

impl Transactions for KafkaTransactions {
    fn renew(&mut self) {
        self.close();
        self.sender.pace.tick(Instant::now());
        match self.open() {
            Ok(()) => self.order(Order::Renew),
            Err(error) => self.fail(error),
        }
        if self.alone != self.sender.pace.is_alone() {
            self.alone = self.sender.pace.is_alone();
            self.sender.pace.tell();
        }
    }

    fn commit(&mut self, offsets: Vec<OffsetCommit>) {
        let begin = match self.state {
            State::Ready => true,
            State::Open => false,
            State::Closed | State::Busy(..) => return self.fail(gone(&self.id)),
        };
        if offsets.is_empty() {
            let why = "without an offset nobody checks whether this member still owns what it writes for";
            return self.fail(operator(format!("{}: {why}", Doing::SendOffsets)));
        }
        self.order(Order::Commit { begin, offsets });
    }

    fn disown(&mut self) {
        if let (State::Busy(Doing::Commit, _), Some(worker)) = (self.state, &self.worker) {
            worker.given_up.store(true, SeqCst);
        }
    }

    fn finished(&mut self) -> Option<End> {
        if let Some(error) = self.end.take() {
            return Some(Err(error));
        }
        let State::Busy(doing, until) = self.state else { return None };
        let late = Instant::now() >= until;
        let worker = self.worker.as_ref()?;
        let mut end = match worker.ends.try_recv() {
            Ok(end) => end,
            Err(TryRecvError::Empty) if !late => return None,
            Err(TryRecvError::Empty) => {
                let late = Failure::new(Code::OperationTimedOut, format!("no answer within {STEP:?}"));
                Err(self.place.explain_transaction(doing, &self.id, &late))
            }
            Err(TryRecvError::Disconnected) => Err(gone(&self.id)),
        };
        if end.is_ok() {
            self.state = State::Ready;
        } else {
            // At once: one that goes on trying to take the id over could do so after the next, and fence it.
            self.close();
        }
        if let Ok(Finished::Committed { resent }) = &mut end {
            *resent |= self.is_over_the_refusals();
        }
        Some(end)
    }
}

impl Producer for KafkaTransactions {
    fn send(&mut self, record: &Produce<'_>, token: u64) -> Result<bool, Refusal> {
        match self.state {
            State::Open => {}
            State::Ready => {
                let client = self.sender.session.as_ref().and_then(Session::client);
                let begun = client.map_or_else(
                    || Err(Failure::new(Code::BrokerDestroy, "the producer is closed")),
                    |client| client.begin_transaction(),
                );
                if let Err(failure) = begun {
                    let error = self.place.explain_transaction(Doing::Begin, &self.id, &failure);
                    return Err(match error.kind {
                        BrokerErrorKind::Fatal => Refusal::Fenced(error.message),
                        _ => Refusal::Blocked(error.message),
                    });
                }
                self.state = State::Open;
            }
            State::Closed => return Err(Refusal::Blocked(gone(&self.id).message)),
            State::Busy(..) => return Err(Refusal::Blocked("the transaction under way has not ended yet".to_owned())),
        }
        self.sender.send(record, token)
    }

    fn poll(&mut self, wait: Duration, reports: &mut Reports) {
        self.sender.poll(wait, reports);
    }

    fn in_flight(&self) -> usize {
        self.sender.in_flight()
    }

    fn trouble(&mut self) -> Option<BrokerError> {
        self.sender.trouble()
    }
}

impl Drop for KafkaTransactions {
    fn drop(&mut self) {
        if let Some(worker) = self.worker.take() {
            worker.given_up.store(true, SeqCst);
        }
    }
}

impl Worker {
    fn start(
        client: Arc<Client>,
        requests: Arc<Requests>,
        id: &Arc<str>,
        place: &Place,
        group: Whose,
    ) -> Result<Self, BrokerError> {
        let (orders, given) = sync_channel(1);
        let (told, ends) = sync_channel(1);
        let given_up = Arc::new(AtomicBool::new(false));
        let hands = Hands {
            client,
            requests,
            id: Arc::clone(id),
            place: place.clone(),
            group,
            given_up: Arc::clone(&given_up),
        };
        std::thread::Builder::new()
            .name("kafka-transactions".to_owned())
            .spawn(move || hands.work(&given, &told))
            .map_err(|e| BrokerError {
                kind: BrokerErrorKind::Retry,
                message: format!("no thread for transactions: {e}"),
            })?;
        Ok(Self { orders, ends, given_up })
    }
}

/// What the thread works with.
struct Hands {
    client: Arc<Client>,
    requests: Arc<Requests>,
    id: Arc<str>,
    place: Place,
    group: Whose,
    given_up: Arc<AtomicBool>,
}

impl Hands {
    /// Ends when nobody has orders any more.
    fn work(self, orders: &Receiver<Order>, ends: &SyncSender<End>) {
        let main = Queue::main(&self.client);
        while let Ok(order) = orders.recv() {
            let end = match order {
                Order::Renew => self.renew(),
                Order::Commit { begin, offsets } => self.commit(begin, &offsets),
            };
            if ends.send(end).is_err() {
                return;
            }
            // Who waits for reports is told of the end as well.
            main.wake();
        }
    }

    fn renew(&self) -> End {
        let until = Instant::now() + STEP;
        // Without a connection librdkafka would look for the coordinator again only after half a second.
        let reached = self.client.reach(STEP);
        let left = until.saturating_duration_since(Instant::now());
        // Taking it over now would fence whoever came after.
        if self.given_up.load(SeqCst) {
            return Err(gone(&self.id));
        }
        let taken = reached.and_then(|()| self.client.init_transactions(left));
        taken.map_err(|f| self.explain(Doing::TakeOver, &f))?;
        Ok(Finished::Renewed)
    }

    fn commit(&self, begin: bool, offsets: &[OffsetCommit]) -> End {
        let until = Instant::now() + STEP;
        let left = || until.saturating_duration_since(Instant::now());
        let explain = |doing| move |failure| self.explain(doing, &failure);
        if begin {
            self.client.begin_transaction().map_err(explain(Doing::Begin))?;
        }
        let (list, member) = self.group.offsets(offsets)?;
        // Only now: whoever lets go of partitions says so before the group gives a new generation, so the one that was read
        // is that of their owner, or this is seen.
        if self.given_up.load(SeqCst) {
            return Err(superseded("partitions of it were taken away meanwhile"));
        }
        self.client.send_offsets(&list, &member, left()).map_err(explain(Doing::SendOffsets))?;
        self.check_offsets()?;
        self.client.commit_transaction(left()).map_err(explain(Doing::Commit))?;
        Ok(Finished::Committed { resent: self.requests.resent() })
    }

    fn explain(&self, doing: Doing, failure: &Failure) -> BrokerError {
        self.place.explain_transaction(doing, &self.id, failure)
    }

    /// Whether the offsets just sent were checked, and somebody still waits for their commit.
    fn check_offsets(&self) -> Result<(), BrokerError> {
        if self.given_up.load(SeqCst) {
            return Err(gone(&self.id));
        }
        match self.requests.offsets_version() {
            Some(FENCED_OFFSETS..) => Ok(()),
            Some(old) => Err(operator(format!(
                "{}: the broker at {} takes them in version {old} only, which does not \
                 check whether a member still owns its partitions: update it to Kafka 2.5 or later, or set \
                 `guarantee = \"at-least-once\"`",
                Doing::SendOffsets,
                self.place.bootstrap
            ))),
            None => Err(operator(format!("{}: none were sent", Doing::SendOffsets))),
        }
    }
}

fn superseded(why: &str) -> BrokerError {
    BrokerError { kind: BrokerErrorKind::Superseded, message: format!("{}: {why}", Doing::SendOffsets) }
}
