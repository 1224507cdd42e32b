//! The table of open lanes.

use crate::message::{Failure, Partition, Ticket};
use crate::retry::History;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use foldhash::fast::FixedState;
use hashbrown::HashMap;

/// Queues of closed lanes that are kept for the next ones; more are given back to the allocator.
const SPARE_QUEUES: usize = 1024;
/// A spare queue keeps no more room than this.
const SPARE_QUEUE_LEN: usize = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct LaneId {
    pub(super) partition: Partition,
    pub(super) hash: u64,
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
    /// Failed for good, and its dead letter is on its way.
    Letter,
}

#[derive(Debug)]
pub(super) struct Item<M> {
    pub(super) ticket: Ticket,
    pub(super) message: M,
    pub(super) history: History,
    /// Runs alone, since a batch with it made the handler fail.
    pub(super) alone: bool,
    /// The last failure's words.
    pub(super) failure: Failure,
}

#[derive(Debug)]
pub(super) struct Lane<M> {
    pub(super) queue: VecDeque<Item<M>>,
    pub(super) phase: Phase,
    pub(super) follows_dead_letter: bool,
}

#[derive(Debug)]
pub(super) struct Lanes<M> {
    open: HashMap<LaneId, Lane<M>, FixedState>,
    spare: Vec<VecDeque<Item<M>>>,
}

impl<M> Lanes<M> {
    pub(super) fn new(seed: u64) -> Self {
        Self { open: HashMap::with_hasher(FixedState::with_seed(seed)), spare: Vec::new() }
    }

    /// The lane, opened if need be.
    pub(super) fn open(&mut self, id: LaneId) -> &mut Lane<M> {
        let spare = &mut self.spare;
        self.open.entry(id).or_insert_with(|| Lane {
            // Most lanes hold one message at a time; left to itself, a queue begins with room for four.
            queue: spare.pop().unwrap_or_else(|| VecDeque::with_capacity(1)),
            phase: Phase::Idle,
            follows_dead_letter: false,
        })
    }

    pub(super) fn get(&mut self, id: LaneId) -> Option<&mut Lane<M>> {
        self.open.get_mut(&id)
    }

    pub(super) fn close(&mut self, id: LaneId) {
        let Some(lane) = self.open.remove(&id) else { return };
        if self.spare.len() < SPARE_QUEUES && lane.queue.capacity() <= SPARE_QUEUE_LEN {
            self.spare.push(lane.queue);
        }
        self.give_back();
    }

    pub(super) fn remove_partition(&mut self, partition: Partition) {
        self.open.retain(|id, _| id.partition != partition);
        self.give_back();
    }

    /// Gives memory back once a burst is over: a table never stays above eight times its need.
    fn give_back(&mut self) {
        if self.open.capacity() > 4096 && self.open.len() < self.open.capacity() / 8 {
            self.open.shrink_to(self.open.len() * 2);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    #[cfg(test)]
    pub(super) fn table_bytes(&self) -> usize {
        self.open.allocation_size()
    }
}
