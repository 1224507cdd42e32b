//! One process of the group: a consumer, its shards and a committer, which talk through bounded inboxes, as the threads
//! of the real one do. What finds no room waits with its writer, by the engine's own rules.

mod committer;
mod consumer;
mod inbox;
mod parked;
mod shard;
mod store;
mod timers;
mod trial;

use crate::env::{CommitName, Env, Marks, Told};
use crate::invariants::RunId;
use crate::model::group::MemberId;
use crate::model::outputs::Report;
use crate::record::Payload;
use committer::Committer;
use consumer::Consumer;
use inbox::Inbox;
use keyrail_engine::breaker::{self, News};
use keyrail_engine::dedup::Past;
use keyrail_engine::inbox::{CommandId, Refused};
use keyrail_engine::intake::Opened;
use keyrail_engine::message::{Epoch, MessageId, Now, Partition, Ticket};
use keyrail_engine::parking;
use keyrail_engine::ranges::Ranges;
use keyrail_engine::shard::Settled;
use keyrail_engine::state::{Change, Entry};
use keyrail_engine::tracker::Progress;
pub(crate) use parked::ParkStore;
use shard::ShardActor;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
pub use store::Disk;
pub(crate) use store::Store;
use timers::Alarms;

/// What the consumer is told.
#[derive(Debug)]
pub(crate) enum ToConsumer {
    /// See [`keyrail_engine::pipeline::Action`].
    Rewind(Vec<(Partition, i64, Ranges)>),
    /// These messages don't run when they come again.
    Condemn(Partition, Vec<i64>),
    /// Each with where it starts if nothing is committed.
    Restart(Vec<(Partition, i64)>),
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
    Open {
        partition: Partition,
        epoch: Epoch,
        seen_below: i64,
        settled: Ranges,
        condemned: Vec<i64>,
    },
    Close {
        partition: Partition,
        epoch: Epoch,
    },
    Messages(Vec<(Ticket, Payload)>),
    LetterAcknowledged {
        partition: Partition,
        epoch: Epoch,
        offset: i64,
    },
    /// These ids are committed.
    Marked(Partition, Rc<[MessageId]>),
    /// These changes of state are.
    Kept(Partition, Arc<[Change]>),
    /// And these of what is parked.
    Parked(Partition, Epoch, Arc<[parking::Change]>),
    /// So much of a partition is covered by the group's commit.
    Covered(Partition, Epoch, Option<Progress>),
    /// Somebody wants something of a message.
    Order(Box<Order>),
    /// The breaker orders something.
    Breaker(breaker::Order),
}

/// The ids that a process knows to be committed.
#[derive(Debug, Default)]
pub(crate) struct KnownIds {
    window_ms: u64,
    ids: RefCell<HashMap<(Partition, MessageId), i64>>,
}

impl KnownIds {
    pub(crate) fn insert(&self, partition: Partition, marks: &Marks) {
        self.ids.borrow_mut().extend(marks.ids.iter().map(|id| ((partition, *id), marks.time_ms)));
    }
}

impl KnownIds {
    /// When the id was marked.
    pub(crate) fn time_of(&self, partition: Partition, id: MessageId) -> Option<i64> {
        self.ids.borrow().get(&(partition, id)).copied()
    }
}

impl Past for KnownIds {
    fn contains(&self, partition: Partition, id: MessageId, now: Now) -> bool {
        let oldest_ms = now.wall_ms.saturating_sub_unsigned(self.window_ms);
        self.ids.borrow().get(&(partition, id)).is_some_and(|time_ms| *time_ms > oldest_ms)
    }
}

/// What the committer is told.
#[derive(Debug)]
pub(crate) enum ToCommitter {
    /// All partitions of a task.
    Opened(Vec<(Partition, Opened)>),
    Received {
        partition: Partition,
        epoch: Epoch,
        runs: Vec<(i64, i64)>,
    },
    Watermarks(Vec<(Partition, i64)>),
    Gate(bool),
    Revoke(Vec<Partition>),
    Lost(Vec<Partition>),
    Settled(Work),
    Drained(Partition, Epoch),
    /// All state of this assignment of a task is read.
    StateRead(Partition, Epoch),
    /// All that is parked of this assignment of a partition is read.
    ParkedRead(Partition, Epoch),
    /// A command was dealt with.
    Obeyed(Box<Obeyed>),
    /// Where the logs of tasks' state end.
    StateEnds(Vec<(Partition, usize)>),
    /// From a shard, to the breaker, and when that was so.
    Breaker(usize, News, u64),
}

/// A command on its way to the shard of its message.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) order: keyrail_engine::shard::Order<Payload>,
    /// Where it stands in the inbox.
    pub(crate) at: i64,
    /// Its name, and whether it is answered in any case.
    pub(crate) named: (CommandId, bool),
}

/// What became of it.
#[derive(Debug)]
pub(crate) struct Obeyed {
    pub(crate) partition: Partition,
    pub(crate) epoch: Epoch,
    pub(crate) at: i64,
    pub(crate) named: (CommandId, bool),
    pub(crate) result: Result<Settled<Payload>, Refused>,
}

/// Messages whose fates are decided.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) settled: VecDeque<Settled<Payload>>,
    /// What the outputs of each slot tell of the state that its message read and left.
    pub(crate) said: Vec<u64>,
}

impl Work {
    fn said_of(&self, slot: Option<u32>) -> u64 {
        slot.and_then(|slot| self.said.get(slot as usize)).copied().unwrap_or(0)
    }
}

/// The inboxes of the actors, and what they share.
#[derive(Debug)]
pub(crate) struct Mail {
    pub(crate) worker: u8,
    pub(crate) process: u16,
    pub(crate) member: MemberId,
    pub(crate) consumer: Inbox<ToConsumer>,
    pub(crate) shards: Vec<Inbox<ToShard>>,
    pub(crate) committer: Inbox<ToCommitter>,
    /// The producer's own queue of delivery reports.
    pub(crate) reports: VecDeque<(u64, Report)>,
    /// Answers to the transactional producer.
    pub(crate) told: VecDeque<Told>,
    /// Answers to commits, each in the place that its commit has for itself.
    pub(crate) answers: BTreeMap<u64, bool>,
    /// Bytes held by records.
    pub(crate) held: Rc<Cell<u64>>,
    /// Shared by its threads.
    pub(crate) past: Rc<KnownIds>,
    /// So is this.
    pub(crate) state: Rc<Store>,
    /// And this.
    pub(crate) parked: Rc<ParkStore>,
    /// Timers that are known to be committed.
    pub(crate) timers: Alarms,
    /// Runs by epoch.
    runs: BTreeMap<(Epoch, Partition), RunId>,
}

impl Mail {
    pub(crate) fn run(&self, partition: Partition, epoch: Epoch) -> RunId {
        self.runs.get(&(epoch, partition)).copied().unwrap_or_default()
    }

    /// Some run of an epoch.
    fn run_with(&self, epoch: Epoch) -> Option<RunId> {
        let first = Partition { topic: 0, number: i32::MIN };
        self.runs.range((epoch, first)..).next().filter(|((of, _), _)| *of == epoch).map(|(_, run)| *run)
    }

    fn note_run(&mut self, partition: Partition, epoch: Epoch, run: RunId) {
        self.runs.insert((epoch, partition), run);
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

/// What became of an actor's step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It goes on.
    GoesOn,
    /// The process has left the group in good order.
    Left,
    /// Giving partitions up took too long: the process ends, and starts anew.
    GaveUp,
    /// Another process has its transactional id: it ends.
    Fenced,
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
        // Where versions are on trial, all processes are to choose the same keys.
        let (drawn, trials) = (env.rng.bits(), !env.settings.trials.is_empty());
        let seed = if trials { env.settings.seed } else { drawn };
        let rooms = env.settings.inboxes;
        let window_ms = env.settings.policy.dedup.as_ref().map_or(0, |d| d.window_ms);
        let held = Rc::new(Cell::new(0));
        let state = Rc::new(Store::open(&env.disks[usize::from(number)]));
        let mail = Mail {
            worker: number,
            process,
            member,
            consumer: Inbox::new(rooms.consumer),
            shards: (0..shards).map(|_| Inbox::new(rooms.shard)).collect(),
            committer: Inbox::new(rooms.committer),
            reports: VecDeque::new(),
            told: VecDeque::new(),
            answers: BTreeMap::new(),
            past: Rc::new(KnownIds { window_ms, ids: RefCell::default() }),
            timers: Alarms::new(Rc::clone(&state), &env.settings.policy, seed),
            state,
            parked: Rc::new(ParkStore::new(&env.settings.policy, seed)),
            held,
            runs: BTreeMap::new(),
        };
        Self {
            state: State::Up,
            consumer: Consumer::new(&env.settings, seed, &mail),
            shards: (0..shards).map(|n| ShardActor::new(&env.settings, n, seed, &mail)).collect(),
            committer: Committer::new(&env.settings, &mail),
            mail,
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
        let shards = self.shards.iter().filter_map(|s| s.next_wake_ms(&self.mail)).min();
        [Some(self.consumer.next_wake_ms()), shards, self.committer.next_wake_ms()].into_iter().flatten().min()
    }

    /// One step of one actor.
    pub fn step(&mut self, actor: Actor, env: &mut Env) -> Step {
        match actor {
            Actor::Consumer => return self.consumer.step(&mut self.mail, env),
            Actor::Shard(n) => self.shards[n].step(&mut self.mail, env),
            Actor::Committer => self.committer.step(&mut self.mail, env),
        }
        if self.committer.is_fenced() { Step::Fenced } else { Step::GoesOn }
    }

    /// A delivery report of one of its producers arrives.
    pub fn reported(&mut self, instance: u32, token: u64, report: Report) {
        if instance == self.committer.instance() {
            self.mail.reports.push_back((token, report));
        }
    }

    /// One of its producers has an answer.
    pub fn told(&mut self, told: Told) {
        if told.instance == self.committer.instance() {
            self.mail.told.push_back(told);
        }
    }

    /// A commit's answer arrives.
    pub fn commit_answered(&mut self, name: CommitName, ok: bool) {
        match name {
            CommitName::Regular(number) => {
                self.mail.answers.insert(number, ok);
            }
            CommitName::Release(count) => self.committer.release_answered(count, ok),
        }
    }

    /// The process is asked to stop.
    pub const fn ask_to_stop(&mut self) {
        self.consumer.ask_to_stop();
    }

    /// Whether it was asked to stop.
    #[must_use]
    pub const fn is_stopping(&self) -> bool {
        self.consumer.is_leaving()
    }

    /// Whether the group has offered or taken something, and waits for the answer.
    #[must_use]
    pub fn is_offered(&self, env: &Env) -> bool {
        env.group.has_event(self.mail.member) || self.consumer.is_opening()
    }

    /// Bytes that its records hold.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.mail.held.get()
    }

    /// A partition with messages in flight that nobody works on: no lane is open, nothing is on its way or waits, and the
    /// partition has no reason to. It would stay so.
    #[must_use]
    pub fn idles(&self) -> Option<Partition> {
        let mail = &self.mail;
        let quiet = mail.consumer.is_empty() && mail.committer.is_empty() && mail.shards.iter().all(Inbox::is_empty);
        let idle = self.state == State::Up
            && quiet
            && mail.reports.is_empty()
            && mail.told.is_empty()
            && !self.consumer.is_handing_over()
            && self.shards.iter().all(ShardActor::is_idle);
        if idle { self.committer.idles() } else { None }
    }

    /// Since when its breaker is open, and how many dead letters there were before.
    #[must_use]
    pub const fn breaker_opened(&self) -> Option<(u64, u64)> {
        self.committer.opened()
    }

    /// What is left in it although all work is done.
    #[must_use]
    pub fn leftovers(&self) -> Option<String> {
        let lanes: usize = self.shards.iter().map(ShardActor::lanes).sum();
        let publications = self.committer.publications();
        let held = self.held_bytes();
        let changes: usize = self.shards.iter().map(ShardActor::changes).sum();
        let held = held + self.mail.parked.loaded_bytes() + self.mail.timers.loaded_bytes();
        (lanes > 0 || publications > 0 || held > 0 || changes > 0).then(|| {
            format!(
                "{lanes} lanes, {publications} publications, {held} bytes and {changes} changes are left at the end"
            )
        })
    }

    /// What it knows to be committed of a task's state.
    #[must_use]
    pub fn state(&self, partition: Partition) -> BTreeMap<Arc<[u8]>, Entry> {
        self.mail.state.all(partition)
    }
}
