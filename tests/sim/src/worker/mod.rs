//! One process of the group: a consumer, its shards and a committer, which talk through queues in causal order, as the
//! threads of the real one do.

mod committer;
mod consumer;
mod shard;

use crate::env::{CommitName, Env};
use crate::invariants::RunId;
use crate::model::group::MemberId;
use crate::model::outputs::Report;
use crate::record::Payload;
use committer::Committer;
use consumer::Consumer;
use keyrail_engine::intake::Opened;
use keyrail_engine::message::{Epoch, Partition, Ticket};
use keyrail_engine::ranges::Ranges;
use keyrail_engine::shard::Settled;
use shard::ShardActor;
use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

/// What the consumer is told.
#[derive(Debug)]
pub(crate) enum ToConsumer {
    /// See [`keyrail_engine::pipeline::Action`].
    Rewind(Partition, i64, Ranges),
    Pause(Partition),
    Resume(Partition),
    Stalled(Partition),
    /// What was lost is forgotten.
    Forgotten,
    /// Partitions are committed and may go.
    Unassign(Vec<Partition>),
}

/// What a shard is told.
#[derive(Debug)]
pub(crate) enum ToShard {
    Open { partition: Partition, epoch: Epoch, seen_below: i64, settled: Ranges },
    Close { partition: Partition, epoch: Epoch },
    Record(Ticket, Payload),
    LetterAcknowledged { partition: Partition, epoch: Epoch, offset: i64 },
}

/// What the committer is told.
#[derive(Debug)]
pub(crate) enum ToCommitter {
    Opened(Partition, Opened),
    Received { partition: Partition, epoch: Epoch, first: i64, last: i64 },
    Watermark(Partition, i64),
    Gate(bool),
    Revoke(Vec<Partition>),
    Lost(Vec<Partition>),
    Settled(Settled<Payload>),
    Drained(Partition, Epoch),
    Reported(u64, Report),
    CommitAnswer(u64, bool),
}

/// The queues between the actors, and what they share.
#[derive(Debug)]
pub(crate) struct Mail {
    pub(crate) worker: u8,
    pub(crate) process: u16,
    pub(crate) member: MemberId,
    pub(crate) consumer: VecDeque<ToConsumer>,
    pub(crate) shards: Vec<VecDeque<ToShard>>,
    pub(crate) committer: VecDeque<ToCommitter>,
    /// Bytes held by records.
    pub(crate) held: Rc<Cell<u64>>,
    /// Runs by epoch: epochs of a process count from 1.
    runs: Vec<RunId>,
}

impl Mail {
    pub(crate) fn run(&self, epoch: Epoch) -> RunId {
        let index = (epoch.0 as usize).wrapping_sub(1);
        self.runs.get(index).copied().unwrap_or_default()
    }

    fn note_run(&mut self, epoch: Epoch, run: RunId) {
        self.runs.resize(epoch.0 as usize, run);
    }
}

/// What a worker is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It works.
    Up,
    /// It stands still.
    Paused,
    /// There is no process.
    Down,
}

/// Which actor has its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actor {
    /// The consumer.
    Consumer,
    /// A shard.
    Shard(usize),
    /// The committer.
    Committer,
}

/// A process, or the place of one.
#[derive(Debug)]
pub struct Worker {
    /// What it is doing.
    pub state: State,
    pub(crate) mail: Mail,
    consumer: Consumer,
    shards: Vec<ShardActor>,
    committer: Committer,
}

impl Worker {
    /// A process starts and joins the group.
    #[must_use]
    pub fn start(number: u8, process: u16, env: &mut Env) -> Self {
        let member = env.join(process);
        let shards = env.settings.shards;
        let seed = env.rng.bits();
        Self {
            state: State::Up,
            mail: Mail {
                worker: number,
                process,
                member,
                consumer: VecDeque::new(),
                shards: (0..shards).map(|_| VecDeque::new()).collect(),
                committer: VecDeque::new(),
                held: Rc::new(Cell::new(0)),
                runs: Vec::new(),
            },
            consumer: Consumer::new(&env.settings, seed),
            shards: (0..shards).map(|n| ShardActor::new(&env.settings, n, seed)).collect(),
            committer: Committer::new(&env.settings),
        }
    }

    /// Number of the process, never used twice.
    #[must_use]
    pub const fn process(&self) -> u16 {
        self.mail.process
    }

    /// Its membership.
    #[must_use]
    pub const fn member(&self) -> MemberId {
        self.mail.member
    }

    /// Whether an actor has something to do now.
    #[must_use]
    pub fn is_runnable(&self, actor: Actor, env: &Env) -> bool {
        self.state == State::Up
            && match actor {
                Actor::Consumer => self.consumer.is_runnable(&self.mail, env),
                Actor::Shard(n) => self.shards[n].is_runnable(&self.mail, env),
                Actor::Committer => self.committer.is_runnable(&self.mail, env),
            }
    }

    /// When the next of its actors has something to do, as far as time alone decides.
    #[must_use]
    pub fn next_wake_ms(&self) -> Option<u64> {
        if self.state != State::Up {
            return None;
        }
        let shards = self.shards.iter().filter_map(ShardActor::next_wake_ms).min();
        [Some(self.consumer.next_wake_ms()), shards, self.committer.next_wake_ms()].into_iter().flatten().min()
    }

    /// One step of one actor. `false`: the process has left in good order.
    pub fn step(&mut self, actor: Actor, env: &mut Env) -> bool {
        match actor {
            Actor::Consumer => return self.consumer.step(&mut self.mail, env),
            Actor::Shard(n) => self.shards[n].step(&mut self.mail, env),
            Actor::Committer => self.committer.step(&mut self.mail, env),
        }
        true
    }

    /// A delivery report arrives.
    pub fn reported(&mut self, token: u64, report: Report) {
        self.mail.committer.push_back(ToCommitter::Reported(token, report));
    }

    /// A commit's answer arrives.
    pub fn commit_answered(&mut self, name: CommitName, ok: bool) {
        match name {
            CommitName::Regular(number) => self.mail.committer.push_back(ToCommitter::CommitAnswer(number, ok)),
            CommitName::Release(count) => self.committer.release_answered(count, ok),
        }
    }

    /// The process is asked to stop.
    pub fn ask_to_stop(&mut self, env: &mut Env) {
        self.consumer.ask_to_stop(&self.mail, env);
    }

    /// Whether it was asked to stop.
    #[must_use]
    pub const fn is_stopping(&self) -> bool {
        self.consumer.is_leaving()
    }

    /// Bytes that its records hold.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.mail.held.get()
    }

    /// What is left in it although all work is done.
    #[must_use]
    pub fn leftovers(&self) -> Option<String> {
        let lanes: usize = self.shards.iter().map(ShardActor::lanes).sum();
        let publications = self.committer.publications();
        let held = self.held_bytes();
        (lanes > 0 || publications > 0 || held > 0)
            .then(|| format!("{lanes} lanes, {publications} publications and {held} bytes are left at the end"))
    }
}
