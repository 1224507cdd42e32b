//! What must hold, checked as it happens. The oracle sees everything: every log, every call, every commit.
//!
//! | | what is checked | when |
//! |---|---|---|
//! | I1 | a commit, or its map of settled offsets, covers a message only when its fate is visible: every output in its partition, or its dead letter, or a lawful skip, discard or duplicate; input lost to retention lies in a reported interval | when the broker stores a commit |
//! | I2 | a message runs only in an assignment whose start did not cover it; an output appears once in an assignment, and again only when the assignment before ended uncleanly (crash, loss, refusal, late revoke, failed commit) | at each call and each append |
//! | I3 | with exactly-once: a transaction that is decided to be committed holds all outputs, or the one dead letter, of every message that its offsets and maps newly cover, and of no other; so nothing is visible twice, by halves, or without its offset, and nothing is covered without its effect. Only an operator's hands make a message come again, and then once. Nothing that was covered is covered no more | at each decision |
//! | I4 | within an assignment, the outputs of a key in a partition come in input order; a message's first output never comes after one of a later message of its key, unless it was refused, dead-lettered, discarded or suppressed before; after a refusal all later ones come again behind it; a lane waits for its dead letter; at the end no message has all its outputs before the first of an earlier one; with exactly-once readers of committed records see the outputs of a key in a partition in input order; where calls act outside none holds two messages of a lane | at each append, call and commit, each time something becomes visible, and at the end |
//! | I5 | committed offsets never go back, unless an operator moved the group; nothing commits for a lost partition, nor for one that is another member's; metadata stays within 4096 bytes; no commit is taken for stored that is not; offsets go into a transaction only from the owner | when the broker stores a commit, and when the ledger hears of one |
//! | I6 | a suppressed message has a twin of its own key whose fate is visible; a twin within the window and the process does not run; where ids are kept a transaction marks the ids of what it newly covers and no others, and within the window none that was committed before | at each settling, call and commit |
//! | I7 | one fate in an assignment, and only for what the ledger has heard of; no dead letter without its reason; dead letters are equal to their messages | at each settling and letter |
//! | I8 | once faults are over each partition moves within session timeout + 10 s + its own waits; no worker has messages in flight for 30 s with no lane open, nothing on its way and no reason told; nobody ends as fenced whose id nobody took; at the end no transaction is open and no record is behind one | as time goes on, and at the end |
//! | I9 | held bytes stay below the budget and a fetch; at the end nothing is held | at each fetch, and at the end |
//! | I10 | what a committed message read of its key's state is the fold of those of its key that were committed before it, what has ended apart; its outputs tell what it read and left; a transaction holds, for each name that its messages change, the last value and nothing else but deletions of what has ended; what failed, was undone, is a duplicate or became a dead letter leaves nothing, and what the broker would not take of those that had read it counts for nothing; what is read before a partition runs, what a worker knows at the end, and the committed content of the logs are the fold; at the end nothing stands that has ended | at each decision, at each start, and at the end |
//! | I6, I10 | without transactions, where ids or state are kept: an id is written only when all outputs of its message are, or its dead letter, and its state; a commit covers a message only when its state and its id are written; of an assignment the state of a key is written in the order in which its messages left it, and nothing else but deletions of what has ended; in an assignment a message reads what the one before it left, and the first one what the log held; a message does not run within the window of an id that was written before its assignment began. What one wrote that had lost the partition is put aside, with its key | at each append, call and commit |
//! | I12 | a commit says that a command is dealt with when a process has obeyed or refused it in that assignment, once; what it changes of what is parked, and its answer, are in the same transaction, and of no other command; what was dealt with stays so; commands of transactions that were not committed are none. What somebody lets run, or sends back, has all its attempts anew; what comes back is parked behind all that was parked of its key, and has one fate more for each time, with its id marked before; what is dropped has no effects, and leaves its id; what is spent is held where the policy says so, until a command; of a key what was parked first leaves first, but for what is dropped | at each command, decision and settling, and at the end |
//! | I1, I4, I7 | once the dead letter of a message is committed with its mark, each that is parked of its key up to the mark's number becomes a dead letter, or is a duplicate, in their order; none of them runs, and nothing above goes with them; none that was parked before it is left out; the mark leaves last, and what was parked and spent is given up alone only where nothing is parked behind it | at each call, settling and command, and at each decision |
//! | I11 | a record, or offsets, of an earlier transaction or of a producer that was replaced are in no later one | at each decision |
//! | I13 | while a shard knows that its breaker is open it runs nothing but probes, of one message each, one at a time in a process; none costs an attempt (I7). A breaker opens only for as many lanes as its policy says that failed within its window and since it closed last; once faults are over it closes | at each call, as it opens, as time goes on, and at the end |
//! | I15 | a delayed send is committed with its message, and by nothing else; it goes out once, with its deletion, at its time or later; those of a key that are due at the same time go out in the order in which they were sent; at the end none is due | at each commit, when one goes out, and at the end |
//! | I14 | a timer is set and cancelled by what its transaction covers, and by nothing else (I10); what it does is committed once, with its deletion, when it is there and as it was set last; it runs at its time or later, never while a message of its key that ran before it is unsettled, and not after it was settled (I7); at the end none is due | at each call and decision, and at the end |
//! | I16 | while a version is on trial a key runs on one of the two, in all processes, but for what failed on trial: that runs once on the version that serves, whose word alone costs attempts and decides fates (I7). Breakers probe by the version that serves | at each call |
//! | I17 | who starts a task knows every schema of which there are values in its state, whatever died before | when its state is read |
//!
//! I1 and I2 are checked as they stand without transactions; with them I3 says more. Two remarks. Outputs of different partitions have no order among each other, as in Kafka. And a lane is a hash, so
//! the order of a key is checked, never that of a lane.

mod breaker;
mod burial;
mod commits;
mod delays;
pub use commits::Stored;
mod effects;
mod ending;
mod exactly;
pub use exactly::Beside;
mod alone;
mod facts;
mod inbox;
mod parked;
mod rounds;
mod runs;
mod state;
mod trial;

pub use facts::{Fact, Scope};
pub use runs::{Run, RunId, Whence};

use crate::record::{INPUTS, Rec, SLOTS_PER_TOPIC, index_of, partition_of};
use keyrail_engine::message::MessageId;
use keyrail_engine::order::{IdBytes, OrderKey, id_bytes, order_key};
use keyrail_engine::policy::Policy;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::rc::Rc;

/// Room for the partitions of all inputs.
pub(crate) const PARTITIONS: usize = INPUTS * SLOTS_PER_TOPIC as usize;

/// Something that must hold did not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which invariant, with its name.
    pub invariant: &'static str,
    /// Dense number of the partition, where one is meant.
    pub partition: Option<u16>,
    /// Offset of the message, where one is meant.
    pub offset: Option<i64>,
    /// What happened.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.what)?;
        if let Some(partition) = self.partition {
            write!(f, ", partition {partition}")?;
        }
        if let Some(offset) = self.offset {
            write!(f, ", offset {offset}")?;
        }
        Ok(())
    }
}

/// Names of the invariants.
pub mod name {
    /// I1.
    pub const LOST: &str = "I1 nothing lost";
    /// I2.
    pub const TWICE: &str = "I2 at-least-once";
    /// I3.
    pub const EXACTLY: &str = "I3 exactly-once";
    /// I4.
    pub const ORDER: &str = "I4 order";
    /// I5.
    pub const OFFSETS: &str = "I5 offsets";
    /// I6.
    pub const DEDUP: &str = "I6 dedup";
    /// I7.
    pub const FATE: &str = "I7 one fate";
    /// I8.
    pub const PROGRESS: &str = "I8 progress";
    /// I9.
    pub const BOUNDS: &str = "I9 bounds";
    /// I10.
    pub const STATE: &str = "I10 state";
    /// I11.
    pub const ZOMBIES: &str = "I11 zombies";
    /// I14.
    pub const TIMERS: &str = "I14 timers";
    /// I15.
    pub const DELAYS: &str = "I15 delayed sends";
    /// I13.
    pub const BREAKER: &str = "I13 breaker";
    /// I16.
    pub const TRIAL: &str = "I16 trial";
    /// I17.
    pub const SCHEMA: &str = "I17 schema";
}

/// How far the outputs of one key in one output partition have come.
#[derive(Debug, Clone, Copy, Default)]
struct Line {
    run: RunId,
    last: (i64, u8),
    furthest: Option<i64>,
}

/// Knows all and checks it.
#[derive(Debug)]
pub struct Oracle {
    policy: Policy,
    /// Facts of each partition by offset.
    facts: Vec<Vec<Option<Fact>>>,
    /// What is known within an assignment, by its run and the offset.
    locals: HashMap<(RunId, i64), facts::Local>,
    runs: Vec<Run>,
    /// The present run of each process and partition.
    present: HashMap<(u16, u16), RunId>,
    /// The run that was opened last of each partition.
    latest: HashMap<u16, RunId>,
    lines: HashMap<(u16, Scope, u8), Line>,
    /// Keys as small numbers.
    scopes: HashMap<[u8; 5], Scope>,
    /// Messages that are the same one: (task, order key, id).
    twins: Vec<Vec<(u16, i64)>>,
    twin_index: HashMap<(u16, Scope, Vec<u8>), u32>,
    /// Lanes that wait for a dead letter.
    letters: BTreeSet<(RunId, Scope)>,
    /// What the group was told it lost: partition, from, to.
    reported_losses: Vec<(u16, i64, i64)>,
    /// Committed offset as the oracle knows it.
    committed: BTreeMap<u16, i64>,
    /// Messages of each partition whose fate is not committed yet.
    open: Vec<u32>,
    /// Those of them that were reported lost.
    lost: Vec<u32>,
    /// Those whose fate is, and what nobody needs.
    closed: Vec<u32>,
    /// Everything below is checked.
    checked_below: Vec<i64>,
    /// With exactly-once: everything below is covered by a commit.
    covered_below: Vec<i64>,
    /// How often the order of a partition was forgotten, since it runs again.
    orders: Vec<u32>,
    appended: u32,
    /// How many fates shards have decided.
    decided: u32,
    /// Ids that are committed, by task, and when they were marked: wall time.
    marked: HashMap<(u16, MessageId), i64>,
    /// Those of which the last message was dropped by hand, or had been taken back.
    loose: BTreeSet<(u16, MessageId)>,
    /// State of handlers.
    states: state::States,
    postponed: delays::Postponed,
    /// What is parked.
    parks: parked::Parks,
    /// What was wanted of that, and of dead letters.
    commands: inbox::Commands,
    /// Messages whose dead letters are committed.
    lettered: Vec<(u16, i64)>,
    /// What is written of it, and of ids, without transactions.
    rounds: rounds::Rounds,
    /// By process.
    breakers: HashMap<u16, breaker::Known>,
    sides: trial::Sides,
    violation: Option<Violation>,
}

impl Oracle {
    /// An oracle for runs under this policy.
    #[must_use]
    pub fn new(policy: &Policy) -> Self {
        Self {
            policy: policy.clone(),
            facts: (0..PARTITIONS).map(|_| Vec::new()).collect(),
            locals: HashMap::new(),
            // Run 0 is no run.
            runs: vec![Run::none()],
            present: HashMap::new(),
            latest: HashMap::new(),
            lines: HashMap::new(),
            scopes: HashMap::new(),
            twins: Vec::new(),
            twin_index: HashMap::new(),
            letters: BTreeSet::new(),
            reported_losses: Vec::new(),
            committed: BTreeMap::new(),
            open: vec![0; PARTITIONS],
            lost: vec![0; PARTITIONS],
            closed: vec![0; PARTITIONS],
            checked_below: vec![0; PARTITIONS],
            covered_below: vec![0; PARTITIONS],
            orders: vec![0; PARTITIONS],
            appended: 0,
            decided: 0,
            marked: HashMap::new(),
            loose: BTreeSet::new(),
            states: state::States::default(),
            postponed: delays::Postponed::default(),
            parks: parked::Parks::default(),
            commands: inbox::Commands::default(),
            lettered: Vec::new(),
            rounds: rounds::Rounds::default(),
            breakers: HashMap::new(),
            sides: trial::Sides::new(),
            violation: None,
        }
    }

    /// Takes the first violation.
    pub fn take_violation(&mut self) -> Option<Violation> {
        self.violation.take()
    }

    /// Whether something did not hold.
    #[must_use]
    pub const fn is_violated(&self) -> bool {
        self.violation.is_some()
    }

    /// The task that a partition is of: by it keys, ids and state are told apart.
    fn task(&self, partition: u16) -> u16 {
        index_of(self.policy.order.task(partition_of(partition)))
    }

    /// Something did not hold. The first one counts.
    pub fn violated(&mut self, invariant: &'static str, at: Option<(u16, i64)>, what: String) {
        self.violation.get_or_insert(Violation {
            invariant,
            partition: at.map(|a| a.0),
            offset: at.map(|a| a.1),
            what,
        });
    }

    /// A record stands in an input partition.
    pub fn appended(&mut self, rec: &Rc<Rec>) {
        let scope = self.scope_of(rec);
        let twin = self.twin_of(rec, scope);
        let log = &mut self.facts[usize::from(rec.partition)];
        log.resize(rec.offset as usize, None);
        log.push(Some(Fact::new(Rc::clone(rec), scope, twin)));
        self.open[usize::from(rec.partition)] += 1;
    }

    fn scope_of(&mut self, rec: &Rec) -> Scope {
        let mut name = [0; 5];
        match order_key(&self.policy.order, rec) {
            OrderKey::Free => return Scope::FREE,
            OrderKey::Partition => {}
            OrderKey::Key(key) => {
                name[0] = 1;
                name[1..].copy_from_slice(key);
            }
        }
        let next = Scope(self.scopes.len() as i32);
        *self.scopes.entry(name).or_insert(next)
    }

    fn twin_of(&mut self, rec: &Rec, scope: Scope) -> Option<u32> {
        let dedup = self.policy.dedup.as_ref()?;
        let IdBytes::Is(id) = id_bytes(&dedup.id, dedup.absent, rec) else { return None };
        let next = self.twins.len() as u32;
        let index = *self.twin_index.entry((self.task(rec.partition), scope, id)).or_insert(next);
        if index == next {
            self.twins.push(Vec::new());
        }
        self.twins[index as usize].push((rec.partition, rec.offset));
        Some(index)
    }

    fn fact(&mut self, partition: u16, offset: i64) -> Option<&mut Fact> {
        let at = usize::try_from(offset).ok()?;
        self.facts.get_mut(usize::from(partition))?.get_mut(at)?.as_mut()
    }

    fn local(&mut self, run: RunId, offset: i64) -> &mut facts::Local {
        self.locals.entry((run, offset)).or_default()
    }

    /// The facts of a message.
    #[must_use]
    pub fn look(&self, partition: u16, offset: i64) -> Option<&Fact> {
        self.facts.get(usize::from(partition))?.get(usize::try_from(offset).ok()?)?.as_ref()
    }

    /// Messages of a partition whose fate is not committed.
    #[must_use]
    pub fn open_messages(&self, partition: u16) -> u32 {
        // Nobody has to commit what is lost: where nothing came behind it, nobody can.
        self.open[usize::from(partition)] - self.lost[usize::from(partition)]
    }

    /// Messages of a partition whose fate is committed: how far it has come.
    #[must_use]
    pub fn closed_messages(&self, partition: u16) -> u32 {
        self.closed[usize::from(partition)]
    }

    /// The oracle's number for all messages that are this one.
    #[must_use]
    pub fn twin(&self, at: (u16, i64)) -> Option<u32> {
        self.look(at.0, at.1)?.twin
    }

    /// Compaction took the record: nobody needs its effect.
    pub fn compacted(&mut self, partition: u16, offset: i64) {
        if let Some(fact) = self.fact(partition, offset) {
            fact.excused = true;
        }
        self.close_if_checked(partition, offset);
    }

    /// Retention took everything below `start`.
    pub fn retained(&mut self, partition: u16, from: i64, start: i64) {
        for offset in from..start {
            if let Some(fact) = self.fact(partition, offset) {
                fact.removed = true;
            }
        }
    }

    /// A worker reported a loss.
    pub fn loss_reported(&mut self, partition: u16, from: i64, to: i64) {
        self.reported_losses.push((partition, from, to));
        for offset in from..to {
            if let Some(fact) = self.fact(partition, offset)
                && fact.removed
                && !fact.checked
                && !std::mem::replace(&mut fact.lost, true)
            {
                self.lost[usize::from(partition)] += 1;
            }
        }
    }

    /// What nobody can read any more and was reported lost does not have to be committed one by one.
    fn close_if_checked(&mut self, partition: u16, offset: i64) {
        let index = usize::from(partition);
        if let Some(fact) = self.fact(partition, offset)
            && !fact.checked
        {
            fact.checked = true;
            let was_lost = std::mem::take(&mut fact.lost);
            self.lost[index] -= u32::from(was_lost);
            self.open[index] -= 1;
            self.closed[index] += 1;
        }
    }
}
