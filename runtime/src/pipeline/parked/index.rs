//! What is parked of one partition: messages on this machine's disk, a line of each lane in memory.
//!
//! Entries of the store, numbers big-endian, so that they stand in order:
//!
//! | key | value |
//! |---|---|
//! | `L`, lane, number | the message: its offset, then the record's value as it is in the retry topic |
//! | `O`, offset | lane, number, due, first failure; where it is given up, up to which number |
//! | `S` | the seed that lanes are of |
//!
//! What was read of a message tells its offset alone; `O` tells where it stands here. When an index is opened, `O` is enough
//! to know the lanes again.

use super::lanes::{Line, Summary};
use super::old::Oldest;
use keyrail_engine::parking::{Due, First, HELD};
use keyrail_store::{Change, Entry, Error, StateIndex};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

const LANE: u8 = b'L';
const ORIGIN: u8 = b'O';
const SEED: u8 = b'S';
/// Entries looked through at once when an index is opened.
const PAGE: usize = 4096;
/// Messages that are read at once first; then twice as many each time.
const FIRST_READ: usize = 8;

/// Where a message stands, and when it may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stand {
    pub(super) lane: u64,
    pub(super) number: u64,
    pub(super) due_ms: i64,
    /// When it failed first; [`i64::MAX`] for one that waits behind another.
    pub(super) since_ms: i64,
    /// See [`GivenUp::until`](keyrail_engine::parking::GivenUp::until); `None`: it is not given up.
    pub(super) given_up: Option<u64>,
}

/// What becomes of a message.
#[derive(Debug, Clone)]
pub(super) enum Item {
    /// It is parked, or parked anew.
    Put { offset: i64, stand: Stand, envelope: Vec<u8> },
    /// It is resolved.
    Gone { offset: i64 },
}

/// A message as it is parked.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) number: u64,
    pub(super) offset: i64,
    entry: Arc<[u8]>,
}

impl Read {
    /// The record's value, as it is in the retry topic.
    pub(super) fn envelope(&self) -> &[u8] {
        self.entry.get(8..).unwrap_or_default()
    }
}

/// See the module. One thread at a time changes it; any may read.
pub(super) struct Index<I> {
    store: I,
    summary: RwLock<Summary>,
    /// Of messages: read without the lock.
    count: AtomicU64,
}

impl<I: StateIndex> Index<I> {
    /// Takes what is there, if it is of this seed; an empty store becomes so. `None`: it is of another, or damaged, and of no
    /// use.
    pub(super) fn open(store: I, seed: u64) -> Result<Option<Self>, Error> {
        let key: Arc<[u8]> = Arc::from([SEED].as_slice());
        let expected = seed.to_be_bytes();
        match store.get(&key)? {
            Some(found) if *found.value == expected => {}
            Some(_) => return Ok(None),
            None if !store.scan(&[], None, 1)?.is_empty() => return Ok(None),
            None => {
                let entry = Entry { value: Arc::from(expected.as_slice()), expires_ms: None };
                store.apply(&[Change { key, entry: Some(entry) }], None)?;
            }
        }
        let mut summary = Summary::default();
        let mut after: Option<Arc<[u8]>> = None;
        loop {
            let page = store.scan(&[ORIGIN], after.as_deref(), PAGE)?;
            for (key, entry) in &page {
                let Some((offset, stand)) = offset_of(key).zip(decode_stand(&entry.value)) else { return Ok(None) };
                summary.add(offset, &stand);
            }
            if page.len() < PAGE {
                break;
            }
            after = page.last().map(|(key, _)| Arc::clone(key));
        }
        let count = AtomicU64::new(summary.messages);
        Ok(Some(Self { store, summary: RwLock::new(summary), count }))
    }

    #[cfg(test)]
    pub(super) fn into_store(self) -> I {
        self.store
    }

    pub(super) const fn store(&self) -> &I {
        &self.store
    }

    fn summary(&self) -> RwLockReadGuard<'_, Summary> {
        // It is replaced in parts of which each is whole.
        self.summary.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes these in, in order, all of them or, with an error, none.
    pub(super) fn apply(&self, items: Vec<Item>, position: Option<i64>) -> Result<(), Error> {
        let mut work = Work { index: self, known: BTreeMap::new(), changes: Vec::new() };
        let mut steps = Vec::with_capacity(items.len());
        for item in items {
            let step = match item {
                Item::Put { offset, stand, envelope } => work.put(offset, stand, &envelope)?,
                Item::Gone { offset } => work.gone(offset)?,
            };
            steps.push(step);
        }
        self.store.apply(&work.changes, position)?;
        self.follow(&steps)
    }

    /// Brings what is in memory to where the store is.
    fn follow(&self, steps: &[Step]) -> Result<(), Error> {
        let mut messages = 0_i64;
        let mut touched: BTreeMap<u64, Touched> = BTreeMap::new();
        {
            let summary = self.summary();
            for Step { offset, old, new } in steps {
                messages += i64::from(new.is_some()) - i64::from(old.is_some());
                for stand in [old, new].into_iter().flatten() {
                    touched.entry(stand.lane).or_insert_with(|| Touched::new(summary.line(stand.lane).copied()));
                }
                let stays = old.zip(*new).is_some_and(|(old, new)| (old.lane, old.number) == (new.lane, new.number));
                if let Some(old) = old.filter(|_| !stays)
                    && let Some(lane) = touched.get_mut(&old.lane)
                {
                    lane.goes(old.number);
                }
                if let Some(new) = new
                    && let Some(lane) = touched.get_mut(&new.lane)
                {
                    lane.comes(*offset, new);
                }
            }
        }
        for (lane, touched) in touched.iter_mut().filter(|(_, touched)| touched.look) {
            let last = touched.line.map_or(0, |line| line.last);
            // Numbers below were not there, and are not now.
            let found = self.look(*lane, touched.least.saturating_sub(1))?;
            touched.line = found.map(|line| Line { last: line.last.max(last), ..line });
        }
        let mut summary = self.summary.write().unwrap_or_else(PoisonError::into_inner);
        touched.into_iter().for_each(|(lane, touched)| summary.set(lane, touched.line));
        summary.messages = summary.messages.saturating_add_signed(messages);
        self.count.store(summary.messages, Relaxed);
        Ok(())
    }

    /// The first message of a lane behind this number, as the store has it.
    fn look(&self, lane: u64, behind: u64) -> Result<Option<Line>, Error> {
        let found = self.store.scan(&lane_key(lane), Some(&message_key(lane, behind)), 1)?;
        let Some((key, entry)) = found.first() else { return Ok(None) };
        let offset = offset_in(&entry.value).ok_or_else(|| damaged(key))?;
        let stand = self.stand(offset)?.ok_or_else(|| damaged(key))?;
        Ok(Some(Line {
            offset,
            number: stand.number,
            due_ms: stand.due_ms,
            since_ms: stand.since_ms,
            last: stand.number,
            until: stand.given_up.unwrap_or(0),
        }))
    }

    fn stand(&self, offset: i64) -> Result<Option<Stand>, Error> {
        let key = origin_key(offset);
        let Some(found) = self.store.get(&key)? else { return Ok(None) };
        decode_stand(&found.value).map(Some).ok_or_else(|| damaged(&key))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count.load(Relaxed) == 0
    }

    pub(super) fn first(&self, lane: u64, from: u64) -> Result<Option<First>, Error> {
        if self.is_empty() {
            return Ok(None);
        }
        let Some(line) = self.summary().line(lane).copied() else { return Ok(None) };
        let line = match line.number >= from {
            true => Some(line),
            false if line.last < from => None,
            false => self.look(lane, from - 1)?,
        };
        Ok(line.map(|line| First { number: line.number, offset: line.offset, due_ms: line.due_ms, until: line.until }))
    }

    pub(super) fn last(&self, lane: u64) -> Option<u64> {
        if self.is_empty() { None } else { self.summary().line(lane).map(|line| line.last) }
    }

    /// Lane and number of a message.
    pub(super) fn stands(&self, offset: i64) -> Result<Option<(u64, u64)>, Error> {
        let found = if self.is_empty() { None } else { self.stand(offset)? };
        Ok(found.map(|stand| (stand.lane, stand.number)))
    }

    pub(super) fn due(&self, after: Option<Due>, until_ms: i64, most: usize) -> Vec<Due> {
        if self.is_empty() { Vec::new() } else { self.summary().due(after, until_ms, most) }
    }

    pub(super) fn next_due(&self, after_ms: i64) -> Option<i64> {
        if self.is_empty() { None } else { self.summary().next_due(after_ms) }
    }

    /// Messages of a lane from this number on: at most `most`, and, from the second on, no more than fit into `most_bytes`.
    pub(super) fn read(&self, lane: u64, from: u64, most: usize, most_bytes: u64) -> Result<Vec<Read>, Error> {
        let (mut all, mut bytes, mut page) = (Vec::new(), 0_u64, FIRST_READ.min(most));
        let mut after = from.saturating_sub(1);
        while all.len() < most && !self.is_empty() {
            let found =
                self.store.scan(&lane_key(lane), Some(&message_key(lane, after)), page.min(most - all.len()))?;
            let whole = found.len() < page.min(most - all.len());
            for (key, entry) in found {
                bytes += entry.value.len() as u64;
                if !all.is_empty() && bytes > most_bytes {
                    return Ok(all);
                }
                let (number, offset) = number_of(&key).zip(offset_in(&entry.value)).ok_or_else(|| damaged(&key))?;
                after = number;
                all.push(Read { number, offset, entry: entry.value });
            }
            if whole {
                break;
            }
            page *= 2;
        }
        Ok(all)
    }

    /// Messages, and lanes.
    pub(super) fn figures(&self) -> (u64, u64) {
        if self.is_empty() {
            return (0, 0);
        }
        let summary = self.summary();
        (summary.messages, summary.lanes())
    }

    /// Lanes whose first message failed before this time, and lanes that are held. Looks at all lanes.
    pub(super) fn oldest(&self, before_ms: i64) -> (Oldest, Oldest) {
        if self.is_empty() { Default::default() } else { self.summary().oldest(before_ms) }
    }

    /// When the first message of a lane failed that failed longest ago. Looks at all lanes.
    pub(super) fn oldest_ms(&self) -> Option<i64> {
        if self.is_empty() { None } else { self.summary().oldest_ms() }
    }
}

/// What changed of one message.
struct Step {
    offset: i64,
    old: Option<Stand>,
    new: Option<Stand>,
}

/// A lane of which something changes.
struct Touched {
    /// Its first message.
    line: Option<Line>,
    /// No number below was there, or comes.
    least: u64,
    /// The first one is gone: the store tells the next.
    look: bool,
}

impl Touched {
    fn new(line: Option<Line>) -> Self {
        Self { line, least: line.map_or(u64::MAX, |line| line.number), look: false }
    }

    fn goes(&mut self, number: u64) {
        self.look |= self.line.is_some_and(|line| line.number == number);
    }

    fn comes(&mut self, offset: i64, stand: &Stand) {
        let Stand { number, due_ms, since_ms, given_up, .. } = *stand;
        let until = given_up.unwrap_or(0);
        self.least = self.least.min(number);
        let last = self.line.map_or(number, |line| line.last.max(number));
        match &mut self.line {
            Some(line) if line.number < number => line.last = last,
            line => *line = Some(Line { number, offset, due_ms, since_ms, last, until }),
        }
    }
}

/// What is about to be applied.
struct Work<'i, I> {
    index: &'i Index<I>,
    /// Where messages stand by what was taken in before.
    known: BTreeMap<i64, Option<Stand>>,
    changes: Vec<Change>,
}

impl<I: StateIndex> Work<'_, I> {
    fn old(&self, offset: i64) -> Result<Option<Stand>, Error> {
        match self.known.get(&offset) {
            Some(known) => Ok(*known),
            None if self.index.is_empty() => Ok(None),
            None => self.index.stand(offset),
        }
    }

    fn put(&mut self, offset: i64, stand: Stand, envelope: &[u8]) -> Result<Step, Error> {
        let old = self.old(offset)?;
        if let Some(old) = old.filter(|old| (old.lane, old.number) != (stand.lane, stand.number)) {
            self.changes.push(Change { key: Arc::from(message_key(old.lane, old.number)), entry: None });
        }
        let mut value = Vec::with_capacity(8 + envelope.len());
        value.extend_from_slice(&ordered(offset));
        value.extend_from_slice(envelope);
        self.set(&message_key(stand.lane, stand.number), Arc::from(value));
        self.set(&origin_key(offset), Arc::from(encode_stand(&stand)));
        self.known.insert(offset, Some(stand));
        Ok(Step { offset, old, new: Some(stand) })
    }

    fn gone(&mut self, offset: i64) -> Result<Step, Error> {
        let old = self.old(offset)?;
        if let Some(old) = old {
            self.changes.push(Change { key: Arc::from(message_key(old.lane, old.number)), entry: None });
            self.changes.push(Change { key: Arc::from(origin_key(offset)), entry: None });
            self.known.insert(offset, None);
        }
        Ok(Step { offset, old, new: None })
    }

    fn set(&mut self, key: &[u8], value: Arc<[u8]>) {
        self.changes.push(Change { key: Arc::from(key), entry: Some(Entry { value, expires_ms: None }) });
    }
}

/// What was written here by this program and has a checksum: it can only be a fault of the program.
fn damaged(key: &[u8]) -> Error {
    let key: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    Error::Unusable {
        place: std::path::PathBuf::from("the index of parked messages"),
        cause: format!("the entry {key} does not fit the others"),
        cure: "delete the folder `state` in store.dir: it is read anew from the retry topic",
    }
}

/// So that negative numbers come first.
fn ordered(number: i64) -> [u8; 8] {
    (number ^ i64::MIN).to_be_bytes()
}

fn unordered(bytes: [u8; 8]) -> i64 {
    i64::from_be_bytes(bytes) ^ i64::MIN
}

fn lane_key(lane: u64) -> [u8; 9] {
    let mut key = [LANE; 9];
    key[1..].copy_from_slice(&lane.to_be_bytes());
    key
}

fn message_key(lane: u64, number: u64) -> [u8; 17] {
    let mut key = [0; 17];
    key[..9].copy_from_slice(&lane_key(lane));
    key[9..].copy_from_slice(&number.to_be_bytes());
    key
}

fn origin_key(offset: i64) -> [u8; 9] {
    let mut key = [ORIGIN; 9];
    key[1..].copy_from_slice(&ordered(offset));
    key
}

fn number_of(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(*key.get(9..)?.first_chunk()?))
}

fn offset_of(key: &[u8]) -> Option<i64> {
    Some(unordered(*key.get(1..)?.first_chunk()?))
}

fn offset_in(value: &[u8]) -> Option<i64> {
    Some(unordered(*value.first_chunk()?))
}

/// What is given up has a field more: a version that can't read its envelope reads the topic again, and stops there.
fn encode_stand(stand: &Stand) -> Vec<u8> {
    let fields = [
        stand.lane.to_be_bytes(),
        stand.number.to_be_bytes(),
        stand.due_ms.to_be_bytes(),
        stand.since_ms.to_be_bytes(),
    ];
    let mut bytes = fields.concat();
    bytes.extend(stand.given_up.into_iter().flat_map(u64::to_be_bytes));
    bytes
}

fn decode_stand(bytes: &[u8]) -> Option<Stand> {
    let (chunks, []) = bytes.as_chunks::<8>() else { return None };
    let ([lane, number, due, since], given_up) = chunks.split_first_chunk::<4>()?;
    let stand = Stand {
        lane: u64::from_be_bytes(*lane),
        number: u64::from_be_bytes(*number),
        due_ms: i64::from_be_bytes(*due),
        since_ms: i64::from_be_bytes(*since),
        given_up: given_up.first().map(|until| u64::from_be_bytes(*until)),
    };
    (given_up.len() <= 1).then_some(stand)
}

/// Whether it is due by itself, some time.
pub(super) const fn is_timed(due_ms: i64) -> bool {
    due_ms != HELD
}
