//! Requests of transactional producers on their way to the broker, and what the broker does with them.

use super::{CommitLot, Due, Env, InboxRecord};
use crate::invariants::{Beside, RunId, Stored, name};
use crate::model::group::{Committed, MemberId};
use crate::model::outputs::{Pending, Report, Sender};
use crate::model::transactions::{End, Init, Taken, TransactionId};
use crate::record::index_of;
use crate::trace::Who;
use keyrail_engine::pipeline::CommitOffset;
use keyrail_engine::planted::Bug;
use std::rc::Rc;

/// How soon a client asks again that was told to.
const AGAIN_MS: u64 = 12;
/// The broker looks for transactions that have been open for too long this often.
const LOOK_MS: u64 = 500;

/// A request that ends a transaction, on its way to the broker.
#[derive(Debug, Clone)]
pub struct EndRequest {
    /// Whose.
    pub sender: Sender,
    /// The ledger's number of the commit.
    pub number: u64,
    /// The offsets, or else the end itself.
    pub offsets: Option<OffsetsRequest>,
    /// What will come of it.
    pub lot: CommitLot,
    /// A copy that the client sent before, of which it hears nothing.
    pub is_copy: bool,
}

/// Offsets that go into a transaction.
#[derive(Debug, Clone)]
pub struct OffsetsRequest {
    /// The membership of the process when they were sent.
    pub member: MemberId,
    /// The generation they name.
    pub generation: u32,
    /// What to store, and the run it is for.
    pub offsets: Vec<(CommitOffset, RunId)>,
    /// The coordinator does not take them.
    pub refused: bool,
}

/// A producer that takes its id over.
#[derive(Debug, Clone, Copy)]
pub struct Renewal {
    /// Number of the worker, which is the id.
    pub worker: u8,
    /// The process.
    pub process: u16,
    /// Which producer of it.
    pub instance: u32,
    /// It comes to nothing.
    pub fails: bool,
    /// The broker has heard of it.
    pub heard: bool,
}

/// Why a request came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum No {
    /// The id is another producer's.
    Fenced,
    /// The group has moved on.
    Superseded,
    /// Anything else.
    Failed,
}

/// What a producer of a process is told.
#[derive(Debug, Clone, Copy)]
pub struct Told {
    /// Which one.
    pub instance: u32,
    /// What.
    pub what: Answer,
}

/// An answer to a producer.
#[derive(Debug, Clone, Copy)]
pub enum Answer {
    /// It has this epoch, or could not be made.
    Renewed(Result<u32, No>),
    /// The offsets of this commit are in the transaction, or not.
    Offsets(u64, Result<(), No>),
    /// The transaction of this commit is committed, or nobody knows.
    Ended(u64, Result<(), No>),
}

impl Env {
    /// A producer of a process is to be made anew: what the one before has under way is given up.
    pub fn renew(&mut self, renewal: Renewal) {
        let rng = &mut self.rng;
        for (place, pending) in self.outputs.replaced(renewal.process, |len| rng.index(len + 1)) {
            let wait_ms = self.rng.within(0, 2_000);
            self.after(wait_ms, Due::LateRecord(place, Box::new(pending)));
        }
        self.clients[usize::from(renewal.worker)] = Some((renewal.process, renewal.instance));
    }

    /// A process has ended: it asks for nothing again.
    pub fn hang_up(&mut self, worker: u8) {
        self.clients[usize::from(worker)] = None;
    }

    /// When a request that arrives while the broker does nothing is served.
    fn served_after_ms(&mut self) -> Option<u64> {
        let down_ms = self.down_until_ms.saturating_sub(self.now_ms);
        (down_ms > 0).then(|| down_ms + self.rng.below(5))
    }

    fn answer(&mut self, worker: u8, process: u16, instance: u32, wait_ms: u64, what: Answer) {
        self.after(wait_ms, Due::Told(worker, process, Told { instance, what }));
    }

    /// A producer asks for its id.
    pub fn renewal_arrives(&mut self, renewal: Renewal) {
        let waits = self.clients[usize::from(renewal.worker)] == Some((renewal.process, renewal.instance));
        let lives = self.clients[usize::from(renewal.worker)].is_some_and(|(process, _)| process == renewal.process);
        // Who has ended asks no more; one that was given up has asked once.
        if !lives || renewal.heard && !waits {
            return;
        }
        if let Some(wait_ms) = self.served_after_ms() {
            if waits {
                self.after(wait_ms, Due::Renewal(renewal));
            }
            return;
        }
        let Renewal { worker, process, instance, .. } = renewal;
        let wait_ms = self.rng.below(4);
        if renewal.fails {
            return self.answer(worker, process, instance, wait_ms, Answer::Renewed(Err(No::Failed)));
        }
        match self.coordinator.init(worker) {
            Init::Ready(epoch) => {
                self.note(Who::Worker(worker), "takes its id", None, i64::from(epoch));
                self.answer(worker, process, instance, wait_ms, Answer::Renewed(Ok(epoch)));
            }
            Init::Aborts(transaction) => {
                self.aborted(transaction);
                self.after(AGAIN_MS, Due::Renewal(Renewal { heard: true, ..renewal }));
            }
            Init::Wait => self.after(AGAIN_MS, Due::Renewal(Renewal { heard: true, ..renewal })),
        }
    }

    /// Another process takes a worker's id over.
    pub fn steal_id(&mut self, worker: u8) {
        if let Some(aborted) = self.coordinator.steal(worker) {
            self.aborted(aborted);
        }
    }

    fn aborted(&mut self, transaction: TransactionId) {
        let owner = self.coordinator.transaction(transaction).owner;
        self.note(Who::Worker(owner), "is aborted", None, 0);
        self.write_markers(transaction);
    }

    fn write_markers(&mut self, transaction: TransactionId) {
        let most_ms = self.marker_ms.take().unwrap_or(30);
        for place in self.coordinator.unmarked(transaction).collect::<Vec<u8>>() {
            let wait_ms = self.rng.within(0, most_ms);
            self.after(wait_ms, Due::Marker(transaction, place));
        }
    }

    /// A marker is written to a partition.
    pub fn marker_arrives(&mut self, transaction: TransactionId, place: u8) {
        if let Some(wait_ms) = self.served_after_ms() {
            return self.after(wait_ms, Due::Marker(transaction, place));
        }
        let marked = self.coordinator.mark(transaction, place);
        for (effect, order) in marked.visible {
            let what = if effect.letter { "letter visible" } else { "output visible" };
            self.note(Who::Broker, what, Some((effect.partition, effect.offset)), i64::from(effect.run));
            self.oracle.visible(place, &effect, order);
        }
        for offset in marked.stored {
            let partition = index_of(offset.partition);
            self.note(Who::Broker, "commit stored", Some((partition, -1)), offset.offset);
            self.moved.remove(&partition);
            let metadata = Rc::from(offset.metadata.as_str());
            self.group.store(partition, Committed { offset: offset.offset, metadata });
        }
    }

    /// The broker looks whether a transaction has been open for too long.
    pub fn transaction_times_out(&mut self, transaction: TransactionId) {
        if let Some(wait_ms) = self.served_after_ms() {
            return self.after(wait_ms, Due::TransactionTimeout(transaction));
        }
        if self.coordinator.time_out(transaction) {
            self.aborted(transaction);
        }
    }

    fn began(&mut self, taken: Taken) {
        if let Taken::Began(transaction) = taken {
            let wait_ms = self.settings.timing.transaction_ms + self.rng.below(LOOK_MS);
            self.after(wait_ms, Due::TransactionTimeout(transaction));
        }
    }

    /// A record arrives at its partition. `None`: to be sent again; otherwise whether it is written, and what is reported.
    pub(super) fn append_to_transaction(&mut self, place: u8, pending: &Pending) -> Option<(bool, Report)> {
        let taken = self.coordinator.append(&pending.sender, place, pending.effect, false);
        self.began(taken);
        match taken {
            Taken::Busy => None,
            Taken::Fenced | Taken::No => Some((false, Report::Fenced)),
            Taken::Yes | Taken::Began(_) => {
                let effect = pending.effect;
                let what = match effect.state_record() {
                    Some(_) => "state staged",
                    None if effect.parked_record().is_some() => "retry record staged",
                    None if effect.answer_record().is_some() => "answer staged",
                    None if effect.letter => "letter staged",
                    None => "output staged",
                };
                self.note(Who::Broker, what, Some((effect.partition, effect.offset)), i64::from(effect.run));
                Some((true, Report::Ok))
            }
        }
    }

    /// A record arrives long after its producer has given it up.
    pub fn late_record_arrives(&mut self, place: u8, pending: &Pending) {
        let taken = self.coordinator.append(&pending.sender, place, pending.effect, true);
        let at = Some((pending.effect.partition, pending.effect.offset));
        self.note(Who::Broker, "late record", at, taken_number(taken));
    }

    /// A request that ends a transaction arrives.
    pub fn end_arrives(&mut self, request: EndRequest) {
        if let Some(wait_ms) = self.served_after_ms() {
            return self.after(wait_ms, Due::End(Box::new(request)));
        }
        let (sender, number) = (request.sender, request.number);
        let what = match &request.offsets {
            Some(offsets) => match self.offsets_arrive(&request, offsets) {
                Some(result) => Answer::Offsets(number, result),
                None => return self.after(AGAIN_MS, Due::End(Box::new(request))),
            },
            None => Answer::Ended(number, self.end_of_transaction(&request)),
        };
        if request.is_copy {
            return;
        }
        let wait_ms = if let CommitLot::Late(ms) = request.lot { ms } else { self.rng.below(4) };
        self.answer(sender.worker, sender.process, sender.instance, wait_ms, what);
    }

    /// `None`: to be sent again.
    fn offsets_arrive(&mut self, request: &EndRequest, sent: &OffsetsRequest) -> Option<Result<(), No>> {
        let late_generation = self.settings.policy.planted == Some(Bug::LateGeneration);
        let (member, generation) = if late_generation {
            let member = self.members.iter().rev().find(|(_, p)| **p == request.sender.process).map(|(m, _)| *m);
            let member = member.unwrap_or(sent.member);
            (member, self.group.known_generation(member))
        } else {
            (sent.member, sent.generation)
        };
        if sent.refused || !self.group.may_commit(member, generation) {
            self.note(Who::Broker, "offsets refused", None, i64::from(generation));
            return Some(Err(No::Superseded));
        }
        let taken = self.coordinator.add_offsets(&request.sender, &sent.offsets, request.is_copy);
        self.began(taken);
        match taken {
            Taken::Busy => return None,
            Taken::Fenced => return Some(Err(No::Fenced)),
            Taken::No => return Some(Err(No::Failed)),
            Taken::Yes | Taken::Began(_) => {}
        }
        for (offset, _) in &sent.offsets {
            let at = (index_of(offset.partition), offset.offset);
            self.note(Who::Broker, "offsets taken", Some((at.0, -1)), at.1);
            if self.group.owner(at.0).is_some_and(|owner| owner != member) {
                self.oracle.violated(name::OFFSETS, Some(at), "is committed by one that does not own it".into());
            }
        }
        Some(Ok(()))
    }

    fn end_of_transaction(&mut self, request: &EndRequest) -> Result<(), No> {
        if request.lot == CommitLot::Failed {
            return Err(No::Failed);
        }
        match self.coordinator.end(&request.sender) {
            End::Decided(transaction) => {
                self.decided(transaction, request);
                self.write_markers(transaction);
            }
            End::Again => {}
            End::Fenced => return Err(No::Fenced),
            End::Nothing => return Err(No::Failed),
        }
        if request.lot == CommitLot::Doubtful { Err(No::Failed) } else { Ok(()) }
    }

    fn decided(&mut self, transaction: TransactionId, request: &EndRequest) {
        let Sender { process, attempt, .. } = request.sender;
        self.stored.insert((process, request.number));
        let transaction = self.coordinator.transaction(transaction);
        let stray =
            transaction.records.iter().find(|(_, _, of)| *of != attempt).map(|(_, e, _)| (e.partition, e.offset));
        let mut stored = Vec::with_capacity(transaction.offsets.len());
        for (offset, run) in &transaction.offsets {
            let partition = index_of(offset.partition);
            stored.push(Stored {
                partition,
                run: *run,
                offset: offset.offset,
                metadata: &offset.metadata,
                planned_ms: self.now_ms,
                log_end: self.logs[usize::from(partition)].end(),
            });
        }
        if let Some(at) = stray {
            self.oracle.violated(name::ZOMBIES, Some(at), "is in a later transaction than it was sent in".into());
        }
        if transaction.offsets_of.is_some_and(|of| of != attempt) {
            let what = "offsets of an earlier transaction are committed with a later one".into();
            self.oracle.violated(name::ZOMBIES, None, what);
        }
        let (mut marks, mut states, mut parks, mut answers) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (_, effect, _) in &transaction.records {
            if let Some(record) = effect.marks_record() {
                marks.push((effect.partition, &self.marks[record]));
            } else if let Some(record) = effect.state_record() {
                states.push((effect.partition, &self.states[record].0));
            } else if let Some(record) = effect.parked_record() {
                parks.push(&self.parks[record]);
            } else if let Some(InboxRecord::Answer(run, id, answer)) =
                effect.answer_record().map(|record| &self.inbox[record])
            {
                answers.push((*run, *id, answer));
            }
        }
        let latest_wall_ms = self.latest_wall();
        let beside = Beside { marks: &marks, states: &states, parks: &parks, answers: &answers, latest_wall_ms };
        self.oracle.transaction_committed(&transaction.records, &stored, &beside);
        let decided: Vec<(u16, i64)> = stored.iter().map(|s| (s.partition, s.offset)).collect();
        for (partition, offset) in decided {
            self.note(Who::Broker, "commit decided", Some((partition, -1)), offset);
        }
    }
}

fn taken_number(taken: Taken) -> i64 {
    i64::from(matches!(taken, Taken::Yes | Taken::Began(_)))
}
