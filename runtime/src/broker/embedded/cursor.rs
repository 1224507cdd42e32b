//! Reads several partitions side by side, in turns of some blocks each.

use super::block::{Damaged, Unpacker};
use super::errors::operator;
use super::sqlite::{Reading, Stored};
use super::store::{PartitionState, Store, TopicState};
use crate::broker::{BrokerError, LogBounds};
use crate::record::{Record, RecordBuilder, TopicPartition};
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Read at once from one partition, unless one block is larger.
pub(super) const TURN_BYTES: usize = 1 << 20;
/// A partition that can't be read is tried again, and its trouble told again, after this time.
const REST: Duration = Duration::from_secs(30);

/// What a look for the next record found.
#[derive(Debug)]
pub(super) enum Step {
    Record(Record),
    /// The position lies outside the log; nothing more comes from there until [`Cursors::seek`].
    OutOfRange(TopicPartition),
    Trouble(BrokerError),
    /// All has been read.
    Nothing,
}

#[derive(Debug)]
struct Cursor {
    topic: Arc<TopicState>,
    state: Arc<PartitionState>,
    next: i64,
    paused: bool,
    out: bool,
    rests_until: Option<Instant>,
}

/// Blocks of one partition that are being delivered.
#[derive(Debug)]
struct Turn {
    at: TopicPartition,
    blocks: VecDeque<Stored>,
    open: Option<(Unpacker<Vec<u8>>, i64)>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Cursors {
    store: Arc<Store>,
    reading: Reading,
    all: BTreeMap<TopicPartition, Cursor>,
    turn: Option<Turn>,
    last: Option<TopicPartition>,
    builder: RecordBuilder,
}

impl Cursors {
    pub(super) fn new(store: Arc<Store>) -> Result<Self, BrokerError> {
        let reading = Reading::open(store.dir())?;
        Ok(Self { store, reading, all: BTreeMap::new(), turn: None, last: None, builder: RecordBuilder::default() })
    }

    pub(super) fn reading(&self) -> &Reading {
        &self.reading
    }

    pub(super) fn store(&self) -> &Arc<Store> {
        &self.store
    }

    pub(super) fn add(&mut self, at: TopicPartition, topic: &str, next: i64) -> Result<(), BrokerError> {
        let topic = self.store.topic(topic)?;
        let state = topic.partition(at.partition)?.clone();
        self.drop_turn(at);
        self.all.insert(at, Cursor { topic, state, next, paused: false, out: false, rests_until: None });
        Ok(())
    }

    pub(super) fn remove(&mut self, at: TopicPartition) {
        self.drop_turn(at);
        self.all.remove(&at);
    }

    pub(super) fn partitions(&self) -> Vec<TopicPartition> {
        self.all.keys().copied().collect()
    }

    pub(super) fn contains(&self, at: TopicPartition) -> bool {
        self.all.contains_key(&at)
    }

    pub(super) fn pause(&mut self, at: TopicPartition, paused: bool) {
        self.drop_turn(at);
        if let Some(cursor) = self.all.get_mut(&at) {
            cursor.paused = paused;
        }
    }

    /// Moves the position; `false` when the partition is not read here.
    pub(super) fn seek(&mut self, at: TopicPartition, next: i64) -> bool {
        self.drop_turn(at);
        let Some(cursor) = self.all.get_mut(&at) else { return false };
        (cursor.next, cursor.out, cursor.rests_until) = (next, false, None);
        true
    }

    /// The offset that is looked for next.
    pub(super) fn position(&self, at: TopicPartition) -> Option<i64> {
        self.all.get(&at).map(|cursor| cursor.next)
    }

    pub(super) fn bounds(&self, at: TopicPartition) -> Option<LogBounds> {
        self.all.get(&at).map(|cursor| cursor.state.bounds())
    }

    fn drop_turn(&mut self, at: TopicPartition) {
        if self.turn.as_ref().is_some_and(|turn| turn.at == at) {
            self.turn = None;
        }
    }

    /// The next record, or why there is none.
    pub(super) fn step(&mut self) -> Step {
        loop {
            if let Some(turn) = &mut self.turn {
                let at = turn.at;
                let Some(cursor) = self.all.get_mut(&at) else {
                    self.turn = None;
                    continue;
                };
                match turn.next(&mut cursor.next, &mut self.builder) {
                    Ok(Some(record)) => return Step::Record(record),
                    Ok(None) => self.turn = None,
                    Err(damaged) => {
                        self.turn = None;
                        cursor.rests_until = Some(Instant::now() + REST);
                        return Step::Trouble(unreadable(&self.store, cursor, at, damaged));
                    }
                }
                continue;
            }
            match self.begin_turn() {
                Ok(true) => {}
                Ok(false) => return Step::Nothing,
                Err(step) => return step,
            }
        }
    }

    /// Fetches from the next partition that has something, in a circle. `false`: none has.
    fn begin_turn(&mut self) -> Result<bool, Step> {
        let after = self.last.map_or(Unbounded, Excluded);
        let order: Vec<TopicPartition> =
            self.all.range((after, Unbounded)).chain(self.all.iter()).map(|(at, _)| *at).collect();
        for at in order.into_iter().take(self.all.len()) {
            let Some(cursor) = self.all.get_mut(&at) else { continue };
            let rests = cursor.rests_until.is_some_and(|until| until > Instant::now());
            if cursor.paused || cursor.out || rests {
                continue;
            }
            let bounds = cursor.state.bounds();
            if cursor.next == bounds.end {
                continue;
            }
            self.last = Some(at);
            if cursor.next < bounds.start || cursor.next > bounds.end {
                cursor.out = true;
                return Err(Step::OutOfRange(at));
            }
            let found = self.reading.blocks((cursor.topic.id, at.partition), cursor.next, TURN_BYTES);
            let mut blocks: VecDeque<Stored> = found
                .map_err(|error| {
                    cursor.rests_until = Some(Instant::now() + REST);
                    Step::Trouble(error)
                })?
                .into();
            // The writer's transaction may be in the database a moment before its end is told. Read now, the position
            // would lie past the end that all others know of.
            let told = blocks.partition_point(|block| block.last < bounds.end);
            let early = told < blocks.len();
            blocks.truncate(told);
            if blocks.is_empty() {
                // Compaction took all that was left, unless it was retention, which the next look sees.
                if !early && cursor.state.bounds().start <= cursor.next {
                    cursor.next = bounds.end;
                }
                continue;
            }
            self.turn = Some(Turn { at, blocks, open: None });
            return Ok(true);
        }
        Ok(false)
    }
}

impl Turn {
    /// The next record at `next` or later; `next` moves on with it.
    fn next(&mut self, next: &mut i64, builder: &mut RecordBuilder) -> Result<Option<Record>, Damaged> {
        loop {
            if self.open.is_none() {
                let Some(block) = self.blocks.pop_front() else { return Ok(None) };
                self.open = Some((Unpacker::new(block.data, block.base)?, block.last));
            }
            let Some((unpacker, last)) = &mut self.open else { return Ok(None) };
            while let Some(entry) = unpacker.next()? {
                if entry.offset >= *next {
                    *next = entry.offset + 1;
                    return Ok(Some(entry.record(self.at, builder)));
                }
            }
            *next = (*next).max(*last + 1);
            self.open = None;
        }
    }
}

fn unreadable(store: &Store, cursor: &Cursor, at: TopicPartition, damaged: Damaged) -> BrokerError {
    let (dir, topic) = (store.dir().display(), &cursor.topic.name);
    operator(format!(
        "{dir}: topic {topic:?}, partition {}: the block with offset {} is damaged: {damaged}. Put a copy of the folder \
         back, or move the group past it",
        at.partition, cursor.next
    ))
}
