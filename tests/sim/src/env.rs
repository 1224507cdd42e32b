//! All that a worker's actors see of the world: time, chance, the broker, the oracle.

mod inbox;
mod parked;
mod produce;
mod state;
mod transactions;

pub use inbox::{Command, InboxRecord, Way, deed_name};
pub use parked::ParkRecord;
pub use transactions::{Answer, EndRequest, No, OffsetsRequest, Renewal, Told};

use crate::coverage::{Action, Coverage, Fault};
use crate::invariants::{Oracle, RunId, name};
use crate::model::group::{Committed, Group, MemberId};
use crate::model::log::Log;
use crate::model::outputs::{Lot, Outputs, Pending, Report};
use crate::model::transactions::{Coordinator, TransactionId};
use crate::record::{INPUTS, Rec, SLOTS_PER_TOPIC, index_of, partition_of};
use crate::rng::Rng;
use crate::settings::Settings;
use crate::trace::{Event, Trace, Who};
use crate::worker::Disk;
use keyrail_engine::message::{MessageId, Now, Partition};
use keyrail_engine::pipeline::CommitOffset;
use keyrail_engine::state::Change;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::rc::Rc;

/// Something that will happen at a time.
#[derive(Debug)]
pub enum Due {
    /// A producer's queue has something for the broker.
    Pump(u16, u8),
    /// A delivery report arrives at a process and its producer.
    Reported(u16, u32, u64, Report),
    /// A record that its producer has given up arrives.
    LateRecord(u8, Box<Pending>),
    /// A producer takes its id over.
    Renewal(Renewal),
    /// A request that ends a transaction reaches the broker.
    End(Box<EndRequest>),
    /// An answer to a producer arrives: the worker, the process, the answer.
    Told(u8, u16, Told),
    /// A marker of a decided transaction is written.
    Marker(TransactionId, u8),
    /// The broker looks whether a transaction has been open for too long.
    TransactionTimeout(TransactionId),
    /// A commit reaches the broker.
    Commit(Box<CommitRequest>),
    /// Its answer arrives: the process, the commit, success.
    CommitAnswer(u16, CommitName, bool),
    /// A process starts again.
    Restart(u8),
    /// A paused process goes on.
    Wake(u8, u16),
    /// The group throws a member out unless its process lives.
    Expire(MemberId),
    /// A bystander of the group comes (`None`) or goes.
    Bystander(Option<MemberId>),
    /// An operator says that the group is right where it is, with what is kept.
    Rewound(u16),
    /// The producers outside write.
    Arrive,
    /// Somebody gives a command, or several.
    Operate,
    /// This fault waits for its action from now on.
    Arm(Armed),
}

/// A commit on its way to the broker.
#[derive(Debug)]
pub struct CommitRequest {
    /// The process.
    pub process: u16,
    /// Its membership when it was sent.
    pub member: MemberId,
    /// The generation it named.
    pub generation: u32,
    /// Which commit of the process.
    pub name: CommitName,
    /// What to store, and the run it is for.
    pub offsets: Vec<(CommitOffset, RunId)>,
    /// When it was decided.
    pub planned_ms: u64,
    /// What will come of it.
    pub lot: CommitLot,
}

/// Which commit of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitName {
    /// By the ledger's number.
    Regular(u64),
    /// The last one of revoked partitions, by count.
    Release(u64),
}

/// What will come of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitLot {
    /// Stored and answered.
    Stored,
    /// Not stored, and answered so.
    Failed,
    /// Stored, and answered as failed.
    Doubtful,
    /// Stored, and answered after this many milliseconds.
    Late(u64),
    /// With transactions: it takes this many milliseconds to arrive.
    Slow(u64),
    /// With transactions: it is sent twice, and the first one takes so many milliseconds to arrive.
    Twice(u64),
}

/// What strikes a process; carried out by the world once the present step is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Strike {
    /// Which fault.
    pub fault: Fault,
    /// Number of the worker.
    pub worker: u8,
}

/// A fault that waits for its action.
#[derive(Debug, Clone, Copy)]
pub struct Armed {
    /// Where it is to strike.
    pub action: Action,
    /// Which fault.
    pub fault: Fault,
    /// From then on any action will do.
    pub patience_ms: u64,
}

/// One-time faults and windows of one process.
#[derive(Debug, Clone, Default)]
pub struct Afflictions {
    /// The next record has this lot.
    pub produce: Option<Lot>,
    /// The next commit has this lot.
    pub commit: Option<CommitLot>,
    /// The group's coordinator does not take the next offsets of a transaction.
    pub refused_offsets: bool,
    /// The next renewal of the producer fails (`None`), or its request takes so many milliseconds.
    pub renewal: Option<Option<u64>>,
    /// The next call lasts this long.
    pub slow_call_ms: Option<u64>,
    /// Until when calls fail, report an outage, trap, answers are late, the budget is small.
    pub failing_until_ms: u64,
    /// As above.
    pub outage_until_ms: u64,
    /// As above.
    pub trapping_until_ms: u64,
    /// As above.
    pub late_acks_until_ms: u64,
    /// As above.
    pub small_budget_until_ms: u64,
    /// The next fetch of some partition is the last before a seek.
    pub stall_next: bool,
}

/// A record of seen ids.
#[derive(Debug, Clone)]
pub struct Marks {
    /// Wall time.
    pub time_ms: i64,
    /// Which.
    pub ids: Rc<[MessageId]>,
}

/// The world but for its workers.
#[derive(Debug)]
pub struct Env {
    /// What the run is made of.
    pub settings: Settings,
    /// Steady time in milliseconds.
    pub now_ms: u64,
    /// What the wall clock adds to it.
    pub wall_ms: i64,
    /// The source of chance.
    pub rng: Rng,
    /// Input partitions by dense number.
    pub logs: Vec<Log>,
    /// The producers' side.
    pub outputs: Outputs,
    /// The transactions.
    pub coordinator: Coordinator,
    /// All records of seen ids that were sent.
    pub marks: Vec<Marks>,
    /// All changes of state that were sent, each with the schema of who sent it.
    pub states: Vec<(Change, u16)>,
    /// All records of retry topics that were sent.
    pub parks: Vec<ParkRecord>,
    /// Partitions whose commit is somebody's hands, and nobody has said what is to become of their ids and state.
    pub moved: BTreeSet<u16>,
    /// Until when the broker lists no retry topics.
    hidden_until_ms: u64,
    /// All records of inboxes that were sent.
    pub inbox: Vec<InboxRecord>,
    /// The local store of each worker, as its disk has it.
    pub(crate) disks: Vec<Disk>,
    /// The markers of the next decision take up to so many milliseconds.
    pub marker_ms: Option<u64>,
    /// The present process and producer of each transactional id.
    clients: Vec<Option<(u16, u32)>>,
    /// The group.
    pub group: Group,
    /// Which process a member is.
    pub members: BTreeMap<MemberId, u16>,
    /// Until when the broker does nothing.
    pub down_until_ms: u64,
    /// Dead letters that were decided.
    pub letters: u64,
    /// Calls of versions on trial.
    pub trial_calls: u64,
    /// Messages that failed on them alone.
    pub overruled: u64,
    /// Knows all.
    pub oracle: Oracle,
    /// What happened.
    pub trace: Trace,
    /// Pairs of action and fault.
    pub coverage: Coverage,
    /// Faults of each process, by worker.
    pub afflictions: Vec<Afflictions>,
    /// Faults that wait for their action.
    pub armed: Vec<Armed>,
    /// What has struck and is not carried out.
    pub strikes: Vec<Strike>,
    /// The latest that the wall clock ever showed.
    pub latest_wall_ms: i64,
    /// When the last fault's harm is over.
    pub harm_until_ms: u64,
    /// When the last delivery report of each process arrives.
    last_report_ms: BTreeMap<u16, u64>,
    /// Commits that the broker has stored, by process and number.
    stored: BTreeSet<(u16, u64)>,
    due: BinaryHeap<Reverse<Timed>>,
    sequence: u64,
}

#[derive(Debug)]
struct Timed {
    at_ms: u64,
    sequence: u64,
    due: Due,
}

impl PartialEq for Timed {
    fn eq(&self, other: &Self) -> bool {
        self.sequence == other.sequence
    }
}

impl Eq for Timed {}

impl PartialOrd for Timed {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Timed {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at_ms, self.sequence).cmp(&(other.at_ms, other.sequence))
    }
}

impl Env {
    /// An empty world.
    #[must_use]
    pub fn new(settings: Settings, keep_trace: bool) -> Self {
        let oracle = Oracle::new(&settings.policy);
        let afflictions = vec![Afflictions::default(); usize::from(settings.workers)];
        let mut env = Self {
            rng: Rng::new(settings.seed),
            now_ms: 1_000,
            wall_ms: 1_700_000_000_000,
            logs: (0..INPUTS * usize::from(SLOTS_PER_TOPIC)).map(|_| Log::default()).collect(),
            outputs: Outputs::default(),
            coordinator: Coordinator::default(),
            marks: Vec::new(),
            states: Vec::new(),
            parks: Vec::new(),
            moved: BTreeSet::new(),
            hidden_until_ms: 0,
            inbox: Vec::new(),
            disks: vec![Disk::default(); usize::from(settings.workers)],
            marker_ms: None,
            clients: vec![None; usize::from(settings.workers)],
            group: Group::of(settings.policy.order.scope),
            members: BTreeMap::new(),
            down_until_ms: 0,
            letters: 0,
            trial_calls: 0,
            overruled: 0,
            oracle,
            trace: Trace::new(keep_trace),
            coverage: Coverage::default(),
            afflictions,
            armed: Vec::new(),
            strikes: Vec::new(),
            latest_wall_ms: 0,
            harm_until_ms: 0,
            last_report_ms: BTreeMap::new(),
            stored: BTreeSet::new(),
            due: BinaryHeap::new(),
            sequence: 0,
            settings,
        };
        for (topic, count) in env.settings.partitions.clone().into_iter().enumerate() {
            for number in 0..count {
                env.group.add_partition(topic as u16 * SLOTS_PER_TOPIC + number);
            }
        }
        env
    }

    /// A process joins the group.
    pub fn join(&mut self, process: u16) -> MemberId {
        let member = self.group.join(false, &mut self.rng);
        self.members.insert(member, process);
        member
    }

    /// The group throws a member out.
    pub fn throw_out(&mut self, member: MemberId) {
        if let Some(process) = self.members.get(&member) {
            self.oracle.all_unclean(*process);
        }
        self.group.leave(member, &mut self.rng);
    }

    /// The engine's time.
    #[must_use]
    pub const fn now(&self) -> Now {
        Now { steady_ms: self.now_ms, wall_ms: self.wall_ms + self.now_ms as i64 }
    }

    /// The latest that the wall clock ever showed, this moment included.
    #[must_use]
    pub fn latest_wall(&self) -> i64 {
        self.latest_wall_ms.max(self.now().wall_ms)
    }

    /// Plans something.
    pub fn after(&mut self, wait_ms: u64, due: Due) {
        self.sequence += 1;
        self.due.push(Reverse(Timed { at_ms: self.now_ms + wait_ms, sequence: self.sequence, due }));
    }

    /// What is due by now.
    pub fn pop_due(&mut self) -> Option<Due> {
        if self.due.peek().is_none_or(|Reverse(t)| t.at_ms > self.now_ms) {
            return None;
        }
        self.due.pop().map(|Reverse(t)| t.due)
    }

    /// When the next thing is due.
    #[must_use]
    pub fn next_due_ms(&self) -> Option<u64> {
        self.due.peek().map(|Reverse(t)| t.at_ms)
    }

    /// Notes what happened.
    pub fn note(&mut self, who: Who, what: &'static str, at: Option<(u16, i64)>, info: i64) {
        let (partition, offset) = (at.map(|a| a.0), at.map(|a| a.1).filter(|o| *o >= 0));
        self.trace.note(Event { at_ms: self.now_ms, who, what, partition, offset, info, detail: "" });
    }

    /// A worker comes to this action: a fault that waits for it strikes now. `true`: the process does not live to do
    /// it.
    pub fn reach(&mut self, worker: u8, action: Action) -> bool {
        self.coverage.action(action);
        let now_ms = self.now_ms;
        let strikes = |a: &Armed| a.action == action || a.patience_ms < now_ms;
        let Some(at) = self.armed.iter().position(strikes) else { return false };
        let fault = self.armed.swap_remove(at).fault;
        self.strike(worker, action, fault);
        // Half of the crashes come before the action, half right after it.
        matches!(fault, Fault::Crash) && self.rng.percent(50)
    }

    /// A fault strikes at this action.
    pub fn strike(&mut self, worker: u8, action: Action, fault: Fault) {
        self.coverage.pair(action, fault);
        let (at_ms, who) = (self.now_ms, Who::Worker(worker));
        let event =
            Event { at_ms, who, what: fault.name(), partition: None, offset: None, info: 0, detail: action.name() };
        self.trace.note(event);
        self.strikes.push(Strike { fault, worker });
    }

    /// A commit arrives at the broker.
    pub fn commit_arrives(&mut self, request: &CommitRequest) {
        let down = self.down_until_ms > self.now_ms;
        let allowed = !down && self.group.may_commit(request.member, request.generation);
        let stored = allowed && request.lot != CommitLot::Failed;
        for (offset, run) in &request.offsets {
            let at = (index_of(offset.partition), offset.offset);
            self.note(Who::Broker, if stored { "commit stored" } else { "commit refused" }, Some((at.0, -1)), at.1);
            if stored {
                // It is Keyrail's again.
                self.moved.remove(&at.0);
            }
            if stored {
                if self.group.owner(at.0).is_some_and(|owner| owner != request.member) {
                    self.oracle.violated(name::OFFSETS, Some(at), "is committed by one that does not own it".into());
                }
                self.store(offset, *run, request.planned_ms);
            }
            let answered_well = stored && request.lot != CommitLot::Doubtful;
            if matches!(request.name, CommitName::Release(_)) && !answered_well {
                self.oracle.unclean(*run);
            }
        }
        if let (true, CommitName::Regular(number)) = (stored, request.name) {
            self.stored.insert((request.process, number));
        }
        let ok = stored && request.lot != CommitLot::Doubtful;
        let wait_ms = if let CommitLot::Late(ms) = request.lot { ms } else { self.rng.below(4) };
        self.after(wait_ms, Due::CommitAnswer(request.process, request.name, ok));
    }

    /// Whether the broker has stored this commit.
    #[must_use]
    pub fn is_stored(&self, process: u16, number: u64) -> bool {
        self.stored.contains(&(process, number))
    }

    fn store(&mut self, commit: &CommitOffset, run: RunId, planned_ms: u64) {
        let partition = index_of(commit.partition);
        let metadata: Rc<str> = Rc::from(commit.metadata.as_str());
        self.group.store(partition, Committed { offset: commit.offset, metadata: Rc::clone(&metadata) });
        let log_end = self.logs[usize::from(partition)].end();
        self.oracle.stored(&crate::invariants::Stored {
            partition,
            run,
            offset: commit.offset,
            metadata: &metadata,
            planned_ms,
            log_end,
        });
    }

    /// Writes a record to its input partition.
    pub fn append(&mut self, mut rec: Rec) -> i64 {
        if rec.timestamp_ms == 0 {
            rec.timestamp_ms = self.now().wall_ms;
        }
        let rec = self.logs[usize::from(rec.partition)].append(rec);
        self.oracle.appended(&rec);
        self.note(Who::Broker, "appended", Some((rec.partition, rec.offset)), i64::from(rec.timestamp_ms < 0));
        rec.offset
    }

    /// How many partitions the topic had when the group first started, as its commits tell.
    #[must_use]
    pub fn known_partitions(&self, partition: Partition) -> Option<u32> {
        let topic = index_of(partition) / SLOTS_PER_TOPIC;
        let mut known = None;
        for number in self.group.partitions().filter(|p| p / SLOTS_PER_TOPIC == topic) {
            let Some(committed) = self.group.committed(number) else { continue };
            let end = self.logs[usize::from(number)].end();
            let metadata = keyrail_engine::metadata::Metadata::decode(&committed.metadata, committed.offset, end);
            known = known.max(metadata.ok().map(|m| m.partitions).filter(|n| *n > 0));
        }
        known
    }

    /// The record at this place, as the log has it.
    #[must_use]
    pub fn original(&self, partition: Partition, offset: i64) -> Option<Rc<Rec>> {
        self.logs[usize::from(index_of(partition))].get(offset).cloned()
    }

    /// Something is out of bounds.
    pub fn out_of_bounds(&mut self, what: String) {
        self.oracle.violated(name::BOUNDS, None, what);
    }

    /// The dense number of the task that a partition is of.
    #[must_use]
    pub fn task_of(&self, partition: u16) -> u16 {
        index_of(self.settings.policy.order.task(partition_of(partition)))
    }

    /// The engine's names of all partitions.
    #[must_use]
    pub fn all_partitions(&self) -> Vec<Partition> {
        self.group.partitions().map(partition_of).collect()
    }
}
