//! The table of open lanes.
//!
//! Lanes lie in a slab. Whoever queues or runs a lane holds its [`Place`], so that a message costs one search in the
//! table when it comes and one when its lane closes, and none in between.

use crate::message::{Failure, Partition, Ticket};
use crate::parking::GivenUp;
use crate::retry::History;
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use hashbrown::HashTable;

/// Queues of closed lanes that are kept for the next ones; more are given back to the allocator.
const SPARE_QUEUES: usize = 1024;
/// A spare queue keeps no more room than this.
const SPARE_QUEUE_LEN: usize = 16;
/// So many places are kept in any case.
const SPARE_PLACES: usize = 4096;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct LaneId {
    pub(super) task: Partition,
    pub(super) hash: u64,
}

impl LaneId {
    /// Where the table looks for it. The lane is a keyed hash already; tasks are only to be told apart, and the
    /// bits that chose the shard, the same in all of this table, to be spread.
    fn place(self) -> u64 {
        let task = u64::from(self.task.topic) << 32 | u64::from(self.task.number.cast_unsigned());
        let wide = u128::from(self.hash ^ task.rotate_left(20)) * 0x9e37_79b9_7f4a_7c15;
        (wide >> 64) as u64 ^ wide as u64
    }
}

/// Where an open lane lies. Once it is closed, nothing is found there, whatever lies there by then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    index: u32,
    generation: u32,
}

/// What a lane's head does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Just opened.
    Idle,
    /// May run.
    Ready,
    /// Runs.
    Running,
    /// Failed, and is due at this steady time.
    Waiting(u64),
    /// The same, and so much waits behind it that all of it is to be parked.
    Crowded(u64),
    /// Failed for good, and its dead letter is on its way.
    Letter,
}

/// What a message carries once it has failed.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    pub(super) history: History,
    /// The last failure's words.
    pub(super) failure: Failure,
    /// It is given up with what is behind it.
    pub(super) given_up: Option<GivenUp>,
    /// It is so since its last run, and nothing is written of it.
    pub(super) spent: bool,
}

#[derive(Debug)]
pub(super) struct Item<M> {
    pub(super) ticket: Ticket,
    pub(super) message: M,
    /// Apart, since few messages ever have it.
    pub(super) trouble: Option<Box<Trouble>>,
    /// Runs alone, since a batch with it made the handler fail.
    pub(super) alone: bool,
    /// It is not to be parked.
    pub(super) stays: bool,
}

impl<M> Item<M> {
    pub(super) fn history(&self) -> History {
        self.trouble.as_ref().map_or_else(History::default, |t| t.history)
    }
}

#[derive(Debug)]
pub(super) struct Lane<M> {
    id: LaneId,
    generation: u32,
    open: bool,
    pub(super) follows_dead_letter: bool,
    pub(super) phase: Phase,
    /// Parked messages up to this number are loaded, and run, or did: those that are parked behind them are next.
    pub(super) drained: Option<u64>,
    pub(super) queue: VecDeque<Item<M>>,
}

impl<M> Lane<M> {
    pub(super) const fn id(&self) -> LaneId {
        self.id
    }
}

#[derive(Debug)]
pub(super) struct Lanes<M> {
    table: HashTable<u32>,
    lanes: Vec<Lane<M>>,
    free: Vec<u32>,
    spare: Vec<VecDeque<Item<M>>>,
    /// Of open lanes, few of which have one: the mark of a message that was given up with what is behind it.
    marks: BTreeMap<u32, Item<M>>,
    /// Counts lanes that were opened: no two in one place are taken for each other.
    opened: u32,
}

impl<M> Lanes<M> {
    pub(super) fn new() -> Self {
        Self {
            table: HashTable::new(),
            lanes: Vec::new(),
            free: Vec::new(),
            spare: Vec::new(),
            marks: BTreeMap::new(),
            opened: 0,
        }
    }

    /// The lane, opened if need be.
    pub(super) fn open(&mut self, id: LaneId) -> (Place, &mut Lane<M>) {
        let hash = id.place();
        let Self { table, lanes, .. } = self;
        let index = match table.find(hash, |at| lanes[*at as usize].id == id) {
            Some(index) => *index,
            None => self.insert(id, hash),
        };
        let lane = &mut self.lanes[index as usize];
        (Place { index, generation: lane.generation }, lane)
    }

    /// The lane, if it is open.
    pub(super) fn find(&self, id: LaneId) -> Option<Place> {
        let index = self.table.find(id.place(), |at| self.lanes[*at as usize].id == id)?;
        Some(Place { index: *index, generation: self.lanes[*index as usize].generation })
    }

    fn insert(&mut self, id: LaneId, hash: u64) -> u32 {
        self.opened = self.opened.wrapping_add(1);
        let lane = Lane {
            id,
            generation: self.opened,
            open: true,
            follows_dead_letter: false,
            phase: Phase::Idle,
            drained: None,
            // Most lanes hold one message at a time; left to itself, a queue begins with room for four.
            queue: self.spare.pop().unwrap_or_else(|| VecDeque::with_capacity(1)),
        };
        let index = match self.free.pop() {
            Some(index) => {
                self.lanes[index as usize] = lane;
                index
            }
            None => {
                self.lanes.push(lane);
                self.lanes.len() as u32 - 1
            }
        };
        let Self { table, lanes, .. } = self;
        table.insert_unique(hash, index, |at| lanes[*at as usize].id.place());
        index
    }

    pub(super) fn get(&mut self, place: Place) -> Option<&mut Lane<M>> {
        self.lanes.get_mut(place.index as usize).filter(|lane| lane.open && lane.generation == place.generation)
    }

    /// The mark of an open lane.
    pub(super) fn mark(&self, place: Place) -> Option<&Item<M>> {
        let open = |lane: &&Lane<M>| lane.open && lane.generation == place.generation;
        let mark = if self.marks.is_empty() { None } else { self.marks.get(&place.index) };
        mark.filter(|_| self.lanes.get(place.index as usize).is_some_and(|lane| open(&lane)))
    }

    /// The first message of a lane is its mark from now on.
    pub(super) fn set_mark(&mut self, place: Place) {
        if let Some(item) = self.get(place).and_then(|lane| lane.queue.pop_front()) {
            self.marks.insert(place.index, item);
        }
    }

    pub(super) fn take_mark(&mut self, place: Place) -> Option<Item<M>> {
        self.mark(place)?;
        self.marks.remove(&place.index)
    }

    /// How many messages wait in a lane.
    pub(super) fn waiting(&self, place: Place) -> usize {
        let lane = self.lanes.get(place.index as usize).filter(|lane| lane.open && lane.generation == place.generation);
        lane.map_or(0, |lane| lane.queue.len())
    }

    pub(super) fn is_of(&mut self, place: Place, task: Partition) -> bool {
        self.get(place).is_some_and(|lane| lane.id.task == task)
    }

    pub(super) fn close(&mut self, place: Place) {
        let Some(lane) = self.get(place) else { return };
        let id = lane.id;
        lane.open = false;
        let mut queue = core::mem::take(&mut lane.queue);
        if self.spare.len() < SPARE_QUEUES && queue.capacity() <= SPARE_QUEUE_LEN {
            queue.clear();
            self.spare.push(queue);
        }
        if let Ok(entry) = self.table.find_entry(id.place(), |at| *at == place.index) {
            entry.remove();
        }
        self.marks.remove(&place.index);
        self.free.push(place.index);
        self.give_back();
    }

    pub(super) fn remove_task(&mut self, task: Partition) {
        let of_it = |lane: &Lane<M>| lane.open && lane.id.task == task;
        let all = self.lanes.iter().enumerate().filter(|(_, lane)| of_it(lane));
        let gone: Vec<Place> =
            all.map(|(index, lane)| Place { index: index as u32, generation: lane.generation }).collect();
        gone.into_iter().for_each(|place| self.close(place));
    }

    /// Gives memory back once a burst is over: the table never stays above eight times its need, and of the slab what
    /// lies behind the last open lane goes.
    fn give_back(&mut self) {
        let Self { table, lanes, free, .. } = self;
        if table.capacity() > SPARE_PLACES && table.len() < table.capacity() / 8 {
            table.shrink_to(table.len() * 2, |at| lanes[*at as usize].id.place());
        }
        let few = lanes.len() > SPARE_PLACES && table.len() < lanes.len() / 8;
        if few && lanes.last().is_some_and(|lane| !lane.open) {
            let behind = lanes.iter().rposition(|lane| lane.open).map_or(0, |last| last + 1);
            lanes.truncate(behind);
            lanes.shrink_to(behind * 2);
            free.retain(|index| (*index as usize) < behind);
            free.shrink_to(behind * 2);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    #[cfg(test)]
    pub(super) fn table_bytes(&self) -> usize {
        self.table.allocation_size()
    }

    #[cfg(test)]
    pub(super) fn places(&self) -> usize {
        self.lanes.capacity().max(self.free.capacity())
    }
}
