//! The one thread that writes. It takes all that waits (produced records, commits) into one transaction, makes it durable
//! with one sync, and only then answers.

use super::block::Packed;
use super::errors::{fatal, operator, superseded};
use super::settings::{Settings, check_name, check_partitions};
use super::sqlite::{Database, Rewritten};
use super::store::{Claim, PartitionState, Store, TopicState};
use crate::broker::client::NewTopic;
use crate::broker::{BrokerError, BrokerErrorKind, has_members};
use crate::fail::{Point, pass};
use crossbeam_channel::Receiver;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Requests that wait for the writer, at most; who brings more waits.
pub(super) const QUEUE: usize = 1024;
/// One transaction takes this many requests and this many bytes, or a little more.
const REQUESTS: usize = 512;
const BYTES: usize = 16 << 20;
/// Kafka's own limit on the metadata of a commit.
const METADATA_BYTES: usize = 4096;

/// Called once with the outcome, from the writer's thread; must not block.
pub(crate) type Answer<T> = Box<dyn FnOnce(Result<T, BrokerError>) + Send>;

/// Records for one partition.
#[derive(Debug)]
pub(crate) struct Append {
    pub(crate) topic: Arc<TopicState>,
    pub(crate) partition: i32,
    pub(crate) block: Packed,
}

/// A group's offset in one partition.
#[derive(Debug)]
pub(crate) struct OffsetWrite {
    pub(crate) topic: Arc<TopicState>,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) metadata: String,
}

/// Done as a whole or not at all. Records and offsets in one are a transaction.
#[derive(Debug, Default)]
pub(crate) struct Write {
    pub(crate) appends: Vec<Append>,
    pub(crate) group: String,
    /// Refused when the group is not this member's. `None`: offsets are refused while the group has any.
    pub(crate) member: Option<u64>,
    /// Refused when somebody else has claimed the id since.
    pub(crate) claim: Option<Claim>,
    pub(crate) offsets: Vec<OffsetWrite>,
}

impl Write {
    fn bytes(&self) -> usize {
        self.appends.iter().map(|a| a.block.bytes.len()).sum()
    }
}

pub(crate) enum Request {
    Write(Write, Answer<()>),
    /// `false`: it was there.
    Create(NewTopic, i32, Answer<bool>),
    /// Gives a topic more partitions.
    Widen(String, i32, Answer<()>),
    /// Deletes the blocks of a partition up to the one that ends with this offset.
    Trim(Arc<TopicState>, i32, i64, Answer<()>),
    /// Puts compacted blocks in the place of others.
    Rewrite(Arc<TopicState>, i32, Rewritten, Answer<()>),
    /// Answered when all that was asked for before is decided.
    Barrier(Answer<()>),
    Stop(Answer<()>),
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Write(..) => "Write",
            Self::Create(..) => "Create",
            Self::Widen(..) => "Widen",
            Self::Trim(..) => "Trim",
            Self::Rewrite(..) => "Rewrite",
            Self::Barrier(_) => "Barrier",
            Self::Stop(_) => "Stop",
        })
    }
}

/// Runs until it is told to stop, or all who could ask are gone.
pub(super) fn run(mut database: Database, store: &Store, requests: &Receiver<Request>) {
    let mut next = None;
    while let Some(request) = next.take().or_else(|| requests.recv().ok()) {
        if let Err(broken) = store.check() {
            let stop = matches!(request, Request::Stop(_));
            refuse(request, &broken);
            if stop {
                return;
            }
            continue;
        }
        match request {
            Request::Write(write, answer) => {
                let mut bytes = write.bytes();
                let mut all = vec![(write, answer)];
                while all.len() < REQUESTS && bytes < BYTES {
                    match requests.try_recv() {
                        Ok(Request::Write(write, answer)) => {
                            bytes += write.bytes();
                            all.push((write, answer));
                        }
                        Ok(other) => {
                            next = Some(other);
                            break;
                        }
                        Err(_) => break,
                    }
                }
                write_all(&mut database, store, all);
            }
            Request::Stop(answer) => {
                answer(database.close());
                return;
            }
            other => administer(&mut database, store, other),
        }
    }
}

/// All in one transaction: what can't be written takes the others with it, and each is told so.
fn write_all(database: &mut Database, store: &Store, all: Vec<(Write, Answer<()>)>) {
    let mut good = Vec::with_capacity(all.len());
    for (write, answer) in all {
        match check(store, &write) {
            Ok(()) => good.push((write, answer)),
            Err(error) => answer(Err(error)),
        }
    }
    if good.is_empty() {
        return;
    }
    let mut ends: BTreeMap<(i64, i32), (Arc<PartitionState>, i64)> = BTreeMap::new();
    let result = database.transaction(|database| {
        for (write, _) in &good {
            for append in &write.appends {
                let state = append.topic.partition(append.partition)?;
                let entry = ends
                    .entry((append.topic.id, append.partition))
                    .or_insert_with(|| (state.clone(), state.end.load(Ordering::Acquire)));
                let last = entry.1 + i64::from(append.block.records) - 1;
                database.append((append.topic.id, append.partition), entry.1, last, &append.block)?;
                entry.1 = last + 1;
            }
            for offset in &write.offsets {
                let at = (offset.topic.id, offset.partition);
                database.commit_offset(&write.group, at, offset.offset, &offset.metadata)?;
            }
        }
        let ended = ends.iter().try_for_each(|(at, (_, end))| database.set_end(*at, *end));
        pass(Point::WriteBegun);
        ended
    });
    pass(Point::WriteDone);
    if result.is_ok() {
        for (state, end) in ends.values() {
            state.end.store(*end, Ordering::Release);
        }
    }
    note(store, &result);
    for (_, answer) in good {
        answer(result.clone());
    }
    store.wake();
}

fn check(store: &Store, write: &Write) -> Result<(), BrokerError> {
    if let Some(member) = write.member
        && !store.holds(&write.group, member)
    {
        return Err(superseded(format!("the group {:?} has another member now: nothing was committed", write.group)));
    }
    if write.member.is_none() && !write.offsets.is_empty() && store.has_members(&write.group) {
        return Err(superseded(has_members(&write.group)));
    }
    if let Some(claim) = &write.claim
        && !store.stands(claim)
    {
        return Err(fatal(format!(
            "the transactional id {:?} was taken over by a newer producer: nothing was committed",
            claim.id
        )));
    }
    for offset in &write.offsets {
        offset.topic.partition(offset.partition)?;
        if offset.metadata.len() > METADATA_BYTES || offset.offset < 0 {
            return Err(operator(format!(
                "a commit of offset {} with {} bytes of metadata: an offset is 0 or more, and metadata has at most \
                 {METADATA_BYTES} bytes",
                offset.offset,
                offset.metadata.len()
            )));
        }
    }
    Ok(())
}

fn administer(database: &mut Database, store: &Store, request: Request) {
    match request {
        Request::Create(topic, default, answer) => answer(create(database, store, &topic, default)),
        Request::Widen(name, count, answer) => answer(widen(database, store, &name, count)),
        Request::Trim(topic, partition, last, answer) => answer(trim(database, store, &topic, partition, last)),
        Request::Rewrite(topic, partition, rewritten, answer) => {
            let result = database.transaction(|database| database.rewrite((topic.id, partition), &rewritten));
            note(store, &result);
            answer(result);
        }
        Request::Barrier(answer) => answer(Ok(())),
        Request::Write(..) | Request::Stop(_) => {}
    }
}

fn create(database: &mut Database, store: &Store, new: &NewTopic, default: i32) -> Result<bool, BrokerError> {
    check_name(&new.name)?;
    let count = new.partitions.unwrap_or(default);
    check_partitions(count)?;
    let settings = Settings::parse(&new.settings)?;
    if store.catalog().contains_key(&new.name) {
        return Ok(false);
    }
    let result = database.transaction(|database| database.create_topic(&new.name, count, &settings.all()));
    note(store, &result);
    let partitions = (0..count).map(|_| PartitionState::new(0, 0)).collect();
    store.put_topic(Arc::new(TopicState { id: result?, name: new.name.clone(), settings, partitions }));
    store.wake();
    Ok(true)
}

fn widen(database: &mut Database, store: &Store, name: &str, count: i32) -> Result<(), BrokerError> {
    check_partitions(count)?;
    let topic = store.topic(name)?;
    let has = topic.count();
    if count <= has {
        return Err(operator(format!("topic {name:?} has {has} partitions already: they can only grow in number")));
    }
    let result = database.transaction(|database| database.add_partitions(topic.id, has..count));
    note(store, &result);
    result?;
    let mut partitions = topic.partitions.clone();
    partitions.extend((has..count).map(|_| PartitionState::new(0, 0)));
    let settings = topic.settings.clone();
    store.put_topic(Arc::new(TopicState { id: topic.id, name: name.to_owned(), settings, partitions }));
    store.wake();
    Ok(())
}

fn trim(
    database: &mut Database,
    store: &Store,
    topic: &TopicState,
    partition: i32,
    last: i64,
) -> Result<(), BrokerError> {
    let state = topic.partition(partition)?;
    let result = database.transaction(|database| database.trim((topic.id, partition), last));
    note(store, &result);
    result?;
    state.start.fetch_max(last + 1, Ordering::AcqRel);
    store.wake();
    Ok(())
}

/// A damaged folder is written to no more.
fn note<T>(store: &Store, result: &Result<T, BrokerError>) {
    if let Err(error) = result
        && error.kind == BrokerErrorKind::Fatal
    {
        store.set_broken(error);
    }
}

fn refuse(request: Request, error: &BrokerError) {
    let error = error.clone();
    match request {
        Request::Write(_, answer)
        | Request::Widen(_, _, answer)
        | Request::Trim(_, _, _, answer)
        | Request::Rewrite(_, _, _, answer)
        | Request::Barrier(answer)
        | Request::Stop(answer) => answer(Err(error)),
        Request::Create(_, _, answer) => answer(Err(error)),
    }
}
