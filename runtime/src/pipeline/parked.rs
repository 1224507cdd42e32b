//! Messages of partitions that are parked: read before a partition runs, asked by shards, changed by the committer once a
//! change is committed.

mod index;
mod lanes;
mod old;

use super::Trouble;
use super::budget::Budget;
use super::clock::wall_ms;
use super::ids::{LETTING_GO, PAUSE};
use super::kept::{Memory, Shelf};
use super::link::{MESSAGE_BYTES, Payload, to_broker};
use super::restore::{Failed, Fill};
use crate::admin::metrics::PipelineMetrics;
use crate::alerts::Alerts;
use crate::record::{Record, RecordBuilder, TopicPartition};
use crate::wasm;
use index::{Index, Item, Read, Stand};
use keyrail_engine::message::{Failure, Partition, Reason};
use keyrail_engine::order::{LaneHash, OrderKey, Papers, Router};
use keyrail_engine::parking::{self, AT_ONCE, Change, Due, Envelope, Fired, First, Loaded, Origin, Parked, Waiting};
use keyrail_engine::pipeline::Token;
use keyrail_engine::retry::History;
use keyrail_store::{DiskState, Error, OpenedState, StateIdentity, StateIndex, StateStore};
use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// First bytes of envelopes that later versions may write.
const LATER: RangeInclusive<u8> = 4..=15;
/// Room for so many is kept.
const SPARE: usize = 1024;
/// Between two looks for the oldest, which goes through all lanes.
const LOOK: Duration = Duration::from_secs(10);

/// Where what is parked of a pipeline's partitions lies.
pub(super) struct Place {
    pub(super) store: StateStore,
    pub(super) group: String,
    /// The input topics.
    pub(super) inputs: Vec<String>,
    /// The retry topic of each.
    pub(super) topics: Vec<String>,
    /// Agrees with the intake's.
    pub(super) router: Router,
    /// What the router was made with.
    pub(super) seed: u64,
    /// Messages that are loaded count.
    pub(super) budget: Budget,
}

impl Place {
    fn topic(&self, at: TopicPartition) -> &str {
        self.topics.get(at.topic as usize).map_or("?", String::as_str)
    }

    fn input(&self, at: TopicPartition) -> &str {
        self.inputs.get(at.topic as usize).map_or("?", String::as_str)
    }

    fn identity(&self, at: TopicPartition, log: u64) -> StateIdentity {
        // No topic's name holds a `/`: it is never that of an input's state.
        let topic = format!("parked/{}", self.input(at));
        StateIdentity { group: self.group.clone(), topic, partition: at.partition, log }
    }
}

/// Records of parked messages that are produced and not known to be committed. A transaction's bound on bytes bounds them; without
/// transactions the ledger fetches no more where they are too many.
#[derive(Debug, Default)]
pub(super) struct Produced {
    /// By the publication; with the number of their transaction.
    all: HashMap<Token, (u64, TopicPartition, Stand, Vec<u8>)>,
    transaction: u64,
}

impl Produced {
    /// Gives the record's value, and remembers it.
    pub(super) fn add(&mut self, token: Token, lane: u64, waiting: &Waiting, message: &Payload) -> Vec<u8> {
        let Payload { record, timer, .. } = message;
        let timer = timer.as_ref().map(|timer| Fired { name: &timer.name, hops: timer.hops, offset: record.offset });
        let envelope = parking::encode(waiting, timer, record);
        self.all.insert(token, (self.transaction, record.at, stand(lane, waiting), envelope.clone()));
        envelope
    }

    /// Nobody will be told that this one is written.
    pub(super) fn drop_one(&mut self, token: Token) {
        self.all.remove(&token);
    }

    /// The same of all of a partition.
    pub(super) fn forget(&mut self, partition: TopicPartition) {
        self.all.retain(|_, (_, at, ..)| *at != partition);
    }

    /// Their transaction is given up.
    pub(super) fn clear(&mut self) {
        self.all = HashMap::new();
    }

    /// Their transaction is committed: they are about to be taken. What of the one before was not is of partitions that were given
    /// up meanwhile.
    pub(super) fn committed(&mut self) {
        let ended = self.transaction;
        self.all.retain(|_, (transaction, ..)| *transaction == ended);
        self.all.shrink_to(SPARE);
        self.transaction += 1;
    }
}

fn stand(lane: u64, waiting: &Waiting) -> Stand {
    let since_ms = waiting.history.first_failed_ms.unwrap_or(i64::MAX);
    let given_up = waiting.given_up.map(|given_up| given_up.until);
    Stand { lane, number: waiting.number, due_ms: waiting.due_ms, since_ms, given_up }
}

/// What is parked of one partition. One thread at a time changes it: whoever restores it, and then the committer.
pub(super) struct Lanes {
    place: Arc<Place>,
    at: TopicPartition,
    /// Opened by who restores it: it takes a while.
    index: OnceLock<Index<DiskState>>,
    /// Why nothing may be concluded from it any more.
    broken: OnceLock<String>,
}

impl std::fmt::Debug for Lanes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lanes").field("at", &self.at).finish_non_exhaustive()
    }
}

impl Lanes {
    fn new(place: Arc<Place>, at: TopicPartition) -> Self {
        Self { place, at, index: OnceLock::new(), broken: OnceLock::new() }
    }

    /// This is committed now.
    pub(super) fn add(&self, changes: &[Change], produced: &mut Produced) -> Result<(), Trouble> {
        let mut items = Vec::with_capacity(changes.len());
        for change in changes {
            let offset = change.offset;
            items.push(match change.written {
                None => Item::Gone { offset },
                Some(token) => {
                    let Some((_, _, stand, envelope)) = produced.all.remove(&token) else {
                        let why = "a parked message is committed that was not produced here: this is a bug of Keyrail";
                        return Err(Trouble::Again(format!("{why} ({}, offset {offset})", self.place.topic(self.at))));
                    };
                    Item::Put { offset, stand, envelope }
                }
            });
        }
        // Where they stand in the topic is not known here; what is said of the position stays true.
        Ok(self.index()?.apply(items, None).map_err(failed)?)
    }

    fn index(&self) -> Result<&Index<DiskState>, Failed> {
        self.index.get().ok_or_else(|| Failed::Again("the index of parked messages is not open".to_owned()))
    }

    /// Why nothing may be concluded from it any more.
    pub(super) fn broken(&self) -> Option<&String> {
        self.broken.get()
    }

    fn ask<T: Default>(&self, ask: impl FnOnce(&Index<DiskState>) -> Result<T, Error>) -> T {
        let found = self.index().and_then(|index| ask(index).map_err(failed));
        found.unwrap_or_else(|error| {
            // Of what follows from it nothing is acted upon.
            let (Failed::Again(why) | Failed::Operator(why)) = error;
            let _told = self.broken.set(why);
            T::default()
        })
    }

    fn load(&self, read: &Read) -> Loaded<Payload> {
        let (offset, place) = (read.offset, &self.place);
        let (record, timer, waiting, papers) = match message(self.at, offset, read.envelope()) {
            Ok((record, timer, waiting)) => {
                let papers = self.papers(offset, &record, timer.is_some());
                (record, timer, waiting, papers)
            }
            // It is to become a dead letter, as it is.
            Err(_) => self.unreadable(read),
        };
        let (Papers { id, refused, .. }, size) = (papers, record.size());
        Loaded {
            offset,
            id,
            refused,
            size: u32::try_from(size).unwrap_or(u32::MAX),
            timestamp_ms: record.timestamp_ms,
            waiting: Waiting { number: read.number, ..waiting },
            message: Payload {
                record,
                timer: timer.map(Arc::new),
                recording: None,
                delayed: None,
                _charge: place.budget.lot().charge(size + MESSAGE_BYTES),
            },
        }
    }

    /// Of a timer only the lane counts: it is no duplicate of anything, and has no id that it could lack.
    fn papers(&self, offset: i64, record: &Record, is_timer: bool) -> Papers {
        let papers = self.place.router.papers(super::link::to_engine(self.at), offset, record);
        if is_timer { Papers { id: None, refused: None, ..papers } } else { papers }
    }

    /// What somebody else has written where a parked message was: alone in its lane, and never to run.
    fn unreadable(&self, read: &Read) -> (Record, Option<wasm::Fired>, Waiting, Papers) {
        let record = RecordBuilder::new(None, Some(read.envelope())).build(self.at, read.offset, wall_ms());
        let (history, failure) = (History::default(), Failure::default());
        let waiting = Waiting { number: read.number, due_ms: AT_ONCE, history, failure, given_up: None };
        let papers =
            Papers { lane: self.lane_of_unreadable(read.offset), id: None, refused: Some(Reason::Undecodable) };
        (record, None, waiting, papers)
    }

    fn lane_of_unreadable(&self, offset: i64) -> u64 {
        let partition = super::link::to_engine(self.at);
        LaneHash::new(self.place.seed).lane(OrderKey::Free, None, partition, (partition, offset))
    }

    fn read(&self, lane: u64, from: u64, most: usize, most_bytes: u64) -> Vec<Loaded<Payload>> {
        let found = self.ask(|index| index.read(lane, from, most, most_bytes));
        found.iter().map(|read| self.load(read)).collect()
    }

    /// Opens what is on disk. One of before may be about to let go of it.
    fn opened(&self, identity: &StateIdentity) -> Result<OpenedState, Failed> {
        let until = Instant::now() + LETTING_GO;
        loop {
            match self.place.store.open(identity, wall_ms()) {
                Err(Error::Unusable { .. }) if Instant::now() < until => std::thread::sleep(PAUSE),
                other => return other.map_err(failed),
            }
        }
    }

    /// Opens the index, which is empty where what is there is of no use: of another log, which `end` tells, or of another
    /// seed.
    fn open(&self, log: u64, end: i64) -> Result<Index<DiskState>, Failed> {
        let identity = self.place.identity(self.at, log);
        let OpenedState { index, rebuilt } = self.opened(&identity)?;
        let (topic, partition) = (self.place.topic(self.at), identity.partition);
        if let Some(why) = rebuilt {
            tracing::warn!(
                topic,
                partition,
                why,
                "what is parked can't be told from this machine's disk: its topic is read"
            );
        }
        match index.position() {
            Some(position) if position > end => {
                tracing::warn!(topic, partition, position, end, "the retry topic is another one: all of it is read");
                drop(index);
            }
            _ => {
                if let Some(index) = Index::open(index, self.place.seed).map_err(failed)? {
                    return Ok(index);
                }
                tracing::info!(topic, partition, "lanes are hashed anew: all of the retry topic is read");
            }
        }
        self.place.store.wipe(&identity).map_err(failed)?;
        let emptied = Index::open(self.opened(&identity)?.index, self.place.seed).map_err(failed)?;
        emptied.ok_or_else(|| Failed::Again(format!("{topic}/{partition}: its index can't be emptied")))
    }
}

/// A message, the timer that it is, and what is known of it.
type Message = (Record, Option<wasm::Fired>, Waiting);

/// The message in a record's value, as it was read from the input; or the timer, as it was loaded from state.
fn message(at: TopicPartition, offset: i64, value: &[u8]) -> Result<Message, parking::Unusable> {
    let Envelope { waiting, timer, timestamp_ms, key, value, headers } = parking::decode(value)?;
    let mut builder = RecordBuilder::new(key, value);
    headers.iter().for_each(|(name, value)| builder.header(name, *value));
    let offset = timer.map_or(offset, |timer| timer.offset);
    let timer = timer.map(|Fired { name, hops, .. }| wasm::Fired { name: name.to_owned(), hops });
    Ok((builder.build(at, offset, timestamp_ms), timer, waiting))
}

/// What an index's failure comes to.
fn failed(error: Error) -> Failed {
    // A disk that is full, was read wrong, or gives no rights may be mended: it is tried again until it is.
    Failed::Again(format!("parked messages: {error}"))
}

/// Why a record of the retry topic is passed over.
enum Foreign {
    /// It is none of ours, or of another input or partition.
    Key(&'static str),
    /// It stands where one of ours should be, and is of a later version.
    Later,
}

impl Lanes {
    /// What a record says, if it is one of this partition's.
    fn item(&self, record: &Record) -> Result<Item, Foreign> {
        let origin = Origin::decode(record.key().unwrap_or_default());
        let origin = origin.map_err(|_| Foreign::Key("its key is none of Keyrail's"))?;
        if origin.topic != self.place.input(self.at) || origin.partition != self.at.partition {
            return Err(Foreign::Key("it is of another input or partition"));
        }
        let offset = origin.offset;
        let Some(value) = record.value() else { return Ok(Item::Gone { offset }) };
        let (record, timer, waiting) = match message(self.at, offset, value) {
            Ok(read) => read,
            Err(_) if value.first().is_some_and(|version| LATER.contains(version)) => return Err(Foreign::Later),
            Err(why) => {
                let (topic, partition) = (self.place.topic(self.at), self.at.partition);
                tracing::error!(topic, partition, offset, %why, "a parked message can't be read: somebody else has written over it. It becomes a dead letter");
                let (lane, number, due_ms) = (self.lane_of_unreadable(offset), 1, AT_ONCE);
                let stand = Stand { lane, number, due_ms, since_ms: wall_ms(), given_up: None };
                return Ok(Item::Put { offset, stand, envelope: value.to_vec() });
            }
        };
        let papers = self.papers(offset, &record, timer.is_some());
        Ok(Item::Put { offset, stand: stand(papers.lane, &waiting), envelope: value.to_vec() })
    }
}

impl Fill for Lanes {
    fn position(&self, log: u64, end: i64) -> Result<Option<i64>, Failed> {
        if self.index.get().is_none() {
            // Nobody else opens it.
            let _ours = self.index.set(self.open(log, end)?);
        }
        let (topic, partition) = (self.place.topic(self.at), self.at.partition);
        let store = self.index()?.store();
        // Where a broker can't tell, it says nothing against what is known.
        let known = store.identity().log;
        if known != log && known != 0 && log != 0 {
            return Err(Failed::Operator(format!(
                "{topic}, a retry topic, was deleted and made anew while it was used: the messages parked in it are gone. To run \
                 them again, `keyrail rewind` the pipeline to before them; its next start names the command to go on without them"
            )));
        }
        match store.position() {
            Some(position) if position > end => Err(Failed::Again(format!(
                "{topic}/{partition} ends at {end}, before what was read of it ({position})"
            ))),
            position => Ok(position),
        }
    }

    fn take(&self, record: &Record) -> Result<u64, Failed> {
        let (topic, partition, offset) = (self.place.topic(self.at), record.at.partition, record.offset);
        let items = match self.item(record) {
            Ok(item) => vec![item],
            Err(Foreign::Key(why)) => {
                tracing::warn!(topic, partition, offset, why, "a record that Keyrail did not write is passed over");
                Vec::new()
            }
            Err(Foreign::Later) => {
                return Err(Failed::Operator(format!(
                    "{topic}/{partition}: the parked message at offset {offset} was written by a later version of Keyrail: run \
                     that version, until nothing is parked"
                )));
            }
        };
        let entries = items.len() as u64;
        self.index()?.apply(items, Some(offset + 1)).map_err(failed)?;
        Ok(entries)
    }

    fn reach(&self, position: i64) -> Result<(), Failed> {
        self.index()?.store().reach(position, wall_ms()).map_err(failed)
    }
}

impl Memory {
    fn lanes(&self, partition: Partition) -> Option<&Lanes> {
        self.get(partition).and_then(|kept| kept.parked.as_deref())
    }
}

impl Parked<Payload> for Memory {
    fn first(&self, partition: Partition, lane: u64, from: u64) -> Option<First> {
        self.lanes(partition)?.ask(|index| index.first(lane, from))
    }

    fn last(&self, partition: Partition, lane: u64) -> Option<u64> {
        self.lanes(partition)?.ask(|index| Ok(index.last(lane)))
    }

    fn stands(&self, partition: Partition, offset: i64) -> Option<(u64, u64)> {
        self.lanes(partition)?.ask(|index| index.stands(offset))
    }

    fn due(&self, partition: Partition, after: Option<Due>, until_ms: i64, most: usize) -> Vec<Due> {
        let due = self.lanes(partition).map(|lanes| lanes.ask(|index| Ok(index.due(after, until_ms, most))));
        due.unwrap_or_default()
    }

    fn next_due(&self, partition: Partition, after_ms: i64) -> Option<i64> {
        self.lanes(partition)?.ask(|index| Ok(index.next_due(after_ms)))
    }

    fn read(&self, partition: Partition, lane: u64, from: u64, most: usize, most_bytes: u64) -> Vec<Loaded<Payload>> {
        self.lanes(partition).map(|lanes| lanes.read(lane, from, most, most_bytes)).unwrap_or_default()
    }
}

/// What is parked of all partitions that the consumer thread has.
pub(super) struct Parkeds {
    place: Arc<Place>,
    pub(super) shelf: Shelf<Lanes>,
    metrics: Arc<PipelineMetrics>,
    alerts: Alerts,
    next_look: Instant,
}

impl Parkeds {
    pub(super) fn new(place: Place, metrics: Arc<PipelineMetrics>, alerts: Alerts) -> Self {
        Self { place: Arc::new(place), shelf: Shelf::new(), metrics, alerts, next_look: Instant::now() }
    }

    pub(super) fn take(&mut self, partition: Partition) -> Arc<Lanes> {
        self.shelf.take(partition, || Lanes::new(self.place.clone(), to_broker(partition)))
    }

    pub(super) fn show(&mut self) {
        let (mut messages, mut lanes) = (0, 0);
        let indexes = || self.shelf.all().filter_map(|(_, lanes)| lanes.index.get());
        for index in indexes() {
            let (its, of) = index.figures();
            messages += its;
            lanes += of;
        }
        self.metrics.parked_messages.set(messages);
        self.metrics.parked_lanes.set(lanes);
        if Instant::now() >= self.next_look || messages == 0 {
            let oldest = indexes().filter_map(Index::oldest_ms).min().unwrap_or(0);
            self.metrics.parked_oldest_ms.set(u64::try_from(oldest).unwrap_or(0));
            self.alert(&self.alerts);
            self.next_look = Instant::now() + LOOK;
        }
    }
}

impl Drop for Parkeds {
    fn drop(&mut self) {
        // What is on disk need not be read again at the next start.
        for (partition, lanes) in self.shelf.all() {
            let Some(index) = lanes.index.get() else { continue };
            if let Err(error) = index.store().flush() {
                let (topic, partition) = (partition.topic, partition.number);
                tracing::warn!(topic, partition, %error, "what is parked is not on disk");
            }
        }
        self.show();
    }
}

#[cfg(test)]
mod tests;
