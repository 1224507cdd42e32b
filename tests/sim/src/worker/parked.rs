//! The model's index of what is parked and known to be committed.

use crate::env::ParkRecord;
use crate::record::{Payload, Rec};
use keyrail_engine::message::Partition;
use keyrail_engine::order::{Papers, Router};
use keyrail_engine::parking::{Due, First, Loaded, Parked, Waiting};
use keyrail_engine::policy::Policy;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

#[derive(Debug, Clone)]
struct Entry {
    papers: Papers,
    rec: Rc<Rec>,
    waiting: Waiting,
}

/// What is parked of one partition.
#[derive(Debug, Default)]
struct Task {
    /// By lane and number.
    lanes: BTreeMap<(u64, u64), Entry>,
    /// Where each message of it is.
    offsets: BTreeMap<i64, (u64, u64)>,
}

impl Task {
    fn remove(&mut self, offset: i64) {
        if let Some(place) = self.offsets.remove(&offset) {
            self.lanes.remove(&place);
        }
    }

    fn lane(&self, lane: u64, from: u64) -> impl DoubleEndedIterator<Item = &Entry> {
        self.lanes.range((lane, from)..=(lane, u64::MAX)).map(|(_, entry)| entry)
    }

    fn firsts(&self) -> BTreeSet<Due> {
        let mut firsts = BTreeMap::new();
        for ((lane, _), entry) in self.lanes.iter().rev() {
            firsts.insert(*lane, entry.waiting.due_ms);
        }
        firsts.into_iter().map(|(lane, due_ms)| (due_ms, lane)).collect()
    }
}

/// What a process knows to be parked; its threads share it.
#[derive(Debug)]
pub(crate) struct ParkStore {
    tasks: RefCell<BTreeMap<Partition, Task>>,
    router: Router,
    /// What is loaded has bounds of its own, which are the engine's.
    held: Rc<Cell<u64>>,
}

impl ParkStore {
    /// Knows nothing. The seed is the intake's.
    pub(crate) fn new(policy: &Policy, seed: u64) -> Self {
        Self { tasks: RefCell::default(), router: Router::new(policy.clone(), seed), held: Rc::default() }
    }

    /// All is to be read of this partition.
    pub(crate) fn forget(&self, partition: Partition) {
        self.tasks.borrow_mut().remove(&partition);
    }

    /// A record is committed.
    pub(crate) fn take(&self, partition: Partition, record: &ParkRecord) {
        let ParkRecord { rec, waiting, .. } = record;
        let mut tasks = self.tasks.borrow_mut();
        let task = tasks.entry(partition).or_default();
        task.remove(rec.offset);
        if let Some(waiting) = waiting {
            let papers = self.router.papers(partition, rec.offset, &**rec);
            // Of a timer only the lane counts.
            let timer = Papers { id: None, refused: None, ..papers };
            let papers = if rec.fired.is_some() { timer } else { papers };
            let place = (papers.lane, waiting.number);
            task.offsets.insert(rec.offset, place);
            task.lanes.insert(place, Entry { papers, rec: Rc::clone(rec), waiting: waiting.clone() });
        }
    }

    /// A message is no more parked.
    pub(crate) fn remove(&self, partition: Partition, offset: i64) {
        if let Some(task) = self.tasks.borrow_mut().get_mut(&partition) {
            task.remove(offset);
        }
    }

    /// The papers of a message that is to run again.
    pub(crate) fn papers(&self, partition: Partition, rec: &Rec) -> Papers {
        self.router.papers(partition, rec.offset, rec)
    }

    /// The message, in memory.
    pub(crate) fn load(&self, rec: &Rc<Rec>) -> Payload {
        Payload::new(Rc::clone(rec), &self.held)
    }

    /// How many messages of a partition are parked.
    pub(crate) fn count(&self, partition: Partition) -> usize {
        self.tasks.borrow().get(&partition).map_or(0, |task| task.lanes.len())
    }

    /// Bytes of messages that are loaded.
    pub(crate) fn loaded_bytes(&self) -> u64 {
        self.held.get()
    }

    fn with<T>(&self, partition: Partition, ask: impl FnOnce(&Task) -> T) -> Option<T> {
        self.tasks.borrow().get(&partition).map(ask)
    }
}

impl Parked<Payload> for ParkStore {
    fn first(&self, partition: Partition, lane: u64, from: u64) -> Option<First> {
        self.with(partition, |task| {
            let entry = task.lane(lane, from).next()?;
            let Waiting { number, due_ms, given_up, .. } = entry.waiting;
            let until = given_up.map_or(0, |given_up| given_up.until);
            Some(First { number, offset: entry.rec.offset, due_ms, until })
        })?
    }

    fn last(&self, partition: Partition, lane: u64) -> Option<u64> {
        self.with(partition, |task| task.lane(lane, 0).next_back().map(|entry| entry.waiting.number))?
    }

    fn stands(&self, partition: Partition, offset: i64) -> Option<(u64, u64)> {
        self.with(partition, |task| task.offsets.get(&offset).copied())?
    }

    fn due(&self, partition: Partition, after: Option<Due>, until_ms: i64, most: usize) -> Vec<Due> {
        let due = |due: &Due| due.0 <= until_ms && after.is_none_or(|after| *due > after);
        self.with(partition, |task| task.firsts().into_iter().filter(due).take(most).collect()).unwrap_or_default()
    }

    fn next_due(&self, partition: Partition, after_ms: i64) -> Option<i64> {
        self.with(partition, |task| task.firsts().into_iter().map(|due| due.0).find(|due_ms| *due_ms > after_ms))?
    }

    fn read(&self, partition: Partition, lane: u64, from: u64, most: usize, _: u64) -> Vec<Loaded<Payload>> {
        let load = |entry: &Entry| Loaded {
            offset: entry.rec.offset,
            id: entry.papers.id,
            refused: entry.papers.refused,
            size: entry.rec.size,
            timestamp_ms: entry.rec.timestamp_ms,
            waiting: entry.waiting.clone(),
            message: Payload::new(Rc::clone(&entry.rec), &self.held),
        };
        // Fewer than the engine asks for, so that lanes are loaded in parts.
        self.with(partition, |task| task.lane(lane, from).take(most.min(4)).map(load).collect()).unwrap_or_default()
    }
}
