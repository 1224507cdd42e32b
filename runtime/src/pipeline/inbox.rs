//! Reads what comes into the inboxes of the partitions that run: commands from outside ([`keyrail_engine::inbox`]).
//!
//! On a thread of its own, which looks for the inboxes until they are there: they are made by the first command. What is read
//! is what is committed, since commands may be written in transactions. The committer says from where each partition is read,
//! and takes what comes in turns.

use super::budget::Budget;
use super::link::{MESSAGE_BYTES, Payload, to_broker, to_engine};
use crate::admin::metrics::{CommandResult, PipelineMetrics};
use crate::broker::client::{Client, Reader};
use crate::broker::{Broker, BrokerError};
use crate::record::{Record, RecordBuilder, TopicPartition};
use crossbeam_channel::{Receiver, SendTimeoutError, Sender, bounded};
use keyrail_engine::identity::mark;
use keyrail_engine::inbox::{self, CommandId, Deed, Returned};
use keyrail_engine::message::{Epoch, Failure, Partition};
use keyrail_engine::order::Router;
use keyrail_engine::parking::Unusable;
use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Between two looks for inboxes that are not there.
const LOOK: Duration = Duration::from_secs(2);
/// One look for records; how soon a change of what is wanted is seen.
const WAIT: Duration = Duration::from_millis(100);
/// Between two attempts when the broker did not answer.
const PAUSE: Duration = Duration::from_secs(1);
/// Commands read ahead of the committer.
const AHEAD: usize = 256;
/// The thread is waited for so long when its pipeline ends.
const END: Duration = Duration::from_secs(2);

/// What a record of an inbox is.
#[derive(Debug)]
pub(super) enum What {
    /// A command to the message that was first read at this offset.
    Command { id: CommandId, answer: bool, offset: i64, deed: Deed<Returned<Payload>> },
    /// An answer, or none of Keyrail's.
    Other,
}

/// A record of an inbox.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) partition: Partition,
    pub(super) epoch: Epoch,
    /// Where it stands in the inbox.
    pub(super) at: i64,
    pub(super) what: What,
}

/// What the thread works with.
pub(super) struct Source {
    pub(super) broker: Arc<dyn Broker>,
    /// The input topics.
    pub(super) inputs: Vec<String>,
    /// The inbox of each.
    pub(super) inboxes: Vec<String>,
    /// Agrees with the intake's.
    pub(super) router: Router,
    pub(super) budget: Budget,
    /// For the log.
    pub(super) pipeline: String,
    pub(super) metrics: Arc<PipelineMetrics>,
}

#[derive(Default)]
struct State {
    /// Where partitions are read on from.
    wanted: BTreeMap<Partition, (Epoch, i64)>,
    /// What tells the logs of the inboxes that are there: by input.
    logs: BTreeMap<u32, u32>,
    /// Grows whenever something else is wanted.
    version: u64,
    over: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Each holder only replaces values.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        state.version += 1;
        self.changed.notify_all();
    }

    /// Sleeps, unless something else is wanted. `false`: it is over.
    fn rest(&self, version: u64, pause: Duration) -> bool {
        let state = self.lock();
        if state.over || state.version != version {
            return !state.over;
        }
        let (state, _) = self.changed.wait_timeout(state, pause).unwrap_or_else(PoisonError::into_inner);
        !state.over
    }
}

/// The committer's end. The thread ends with it.
pub(super) struct Inboxes {
    shared: Arc<Shared>,
    read: Receiver<Read>,
    thread: JoinHandle<()>,
}

impl Inboxes {
    /// Starts the thread.
    pub(super) fn start(source: Source) -> std::io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let (out, read) = bounded(AHEAD);
        let its = shared.clone();
        let name = format!("{}-inbox", source.pipeline);
        let thread =
            std::thread::Builder::new().name(name).spawn(move || Reading { source, shared: its, out }.run())?;
        Ok(Self { shared, read, thread })
    }

    /// Which log the inbox of an input is; `None`: it is not there.
    pub(super) fn log(&self, input: u32) -> Option<u32> {
        self.shared.lock().logs.get(&input).copied()
    }

    /// Whether there is any.
    pub(super) fn is_there(&self) -> bool {
        !self.shared.lock().logs.is_empty()
    }

    /// This partition is to be read from this offset on.
    pub(super) fn want(&self, partition: Partition, epoch: Epoch, from: i64) {
        self.shared.change(|state| {
            state.wanted.insert(partition, (epoch, from));
        });
    }

    /// It is not wanted any more.
    pub(super) fn forget(&self, partition: Partition) {
        self.shared.change(|state| {
            state.wanted.remove(&partition);
        });
    }

    /// What came next, if anything did. Never blocks.
    pub(super) fn next(&self) -> Option<Read> {
        self.read.try_recv().ok()
    }

    /// Whether the thread has ended by itself, which it does not but by a panic.
    pub(super) fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }
}

impl Drop for Inboxes {
    fn drop(&mut self) {
        self.shared.change(|state| state.over = true);
        // It may wait for room.
        let until = Instant::now() + END;
        while !self.thread.is_finished() && Instant::now() < until {
            while self.read.try_recv().is_ok() {}
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

struct Reading {
    source: Source,
    shared: Arc<Shared>,
    out: Sender<Read>,
}

impl Reading {
    fn run(self) {
        let mut client: Option<Box<dyn Client>> = None;
        let mut told = None;
        loop {
            let version = self.shared.lock().version;
            let result = client.take().map_or_else(|| self.source.broker.client(), Ok).and_then(|mut own| {
                self.round(own.as_mut(), version)?;
                client = Some(own);
                Ok(())
            });
            let pause = match result {
                Ok(()) => {
                    told = None;
                    LOOK
                }
                Err(error) => {
                    // The same again and again: nothing waits for it but who sent a command.
                    if told.as_ref() != Some(&error.message) {
                        tracing::warn!(pipeline = self.source.pipeline, %error, "commands can't be read");
                        told = Some(error.message);
                    }
                    PAUSE
                }
            };
            if !self.shared.rest(version, pause) {
                return;
            }
        }
    }

    /// Looks for inboxes, and reads what is wanted of them until something else is wanted.
    fn round(&self, client: &mut dyn Client, version: u64) -> Result<(), BrokerError> {
        self.look(client)?;
        let wanted = self.shared.lock().wanted.clone();
        if wanted.is_empty() {
            return Ok(());
        }
        let starts: Vec<(TopicPartition, i64)> =
            wanted.iter().map(|(partition, (_, from))| (to_broker(*partition), *from)).collect();
        let mut reader = client.read(&self.source.inboxes, &starts)?;
        let mut all_there = Instant::now();
        loop {
            if !self.pass_on(reader.as_mut(), &wanted)? || self.shared.lock().version != version {
                return Ok(());
            }
            // Those of other inputs may have come to be, and these may have been made anew.
            if all_there.elapsed() > LOOK * 5 {
                self.look(client)?;
                all_there = Instant::now();
            }
        }
    }

    /// Which inboxes are there.
    fn look(&self, client: &mut dyn Client) -> Result<(), BrokerError> {
        let there = client.topics()?;
        let mut logs = BTreeMap::new();
        for (input, name) in (0..).zip(&self.source.inboxes) {
            if there.iter().any(|topic| topic.name == *name) {
                logs.insert(input, mark(client.log_of(name)?));
            }
        }
        let mut state = self.shared.lock();
        state.logs = logs;
        Ok(())
    }

    /// Hands on what comes. `false`: it is over.
    fn pass_on(
        &self,
        reader: &mut dyn Reader,
        wanted: &BTreeMap<Partition, (Epoch, i64)>,
    ) -> Result<bool, BrokerError> {
        let mut records = Vec::new();
        let broken = reader.next(WAIT, &mut records).err();
        for record in records {
            let partition = to_engine(record.at);
            let Some((epoch, _)) = wanted.get(&partition).copied() else { continue };
            let (at, what) = (record.offset, self.what(&record));
            let mut read = Read { partition, epoch, at, what };
            loop {
                match self.out.send_timeout(read, WAIT) {
                    Ok(()) => break,
                    Err(SendTimeoutError::Timeout(back)) if !self.shared.lock().over => read = back,
                    Err(_) => return Ok(false),
                }
            }
            let mut state = self.shared.lock();
            if let Some((_, from)) = state.wanted.get_mut(&partition).filter(|(own, _)| *own == epoch) {
                *from = at + 1;
            }
        }
        broken.map_or(Ok(true), Err)
    }

    fn what(&self, record: &Record) -> What {
        let entry = inbox::decode(record.key().unwrap_or_default(), record.value().unwrap_or_default());
        let command = match entry {
            Ok(inbox::Entry::Command(command)) => command,
            Ok(inbox::Entry::Answer(..)) => return What::Other,
            Err(why) => return self.foreign(record, why),
        };
        let input = self.source.inputs.get(record.at.topic as usize).map_or("", String::as_str);
        if command.origin.topic != input || command.origin.partition != record.at.partition {
            return self.foreign(record, Unusable::Foreign);
        }
        let (id, answer, offset) = (command.id, command.answer, command.origin.offset);
        let deed = match command.deed {
            Deed::Retry => Deed::Retry,
            Deed::Drop => Deed::Drop,
            Deed::Redrive(envelope) => {
                let mut builder = RecordBuilder::new(envelope.key, envelope.value);
                envelope.headers.iter().for_each(|(name, value)| builder.header(name, *value));
                let message = builder.build(record.at, offset, envelope.timestamp_ms);
                Deed::Redrive(self.returned(message, envelope.waiting.failure))
            }
        };
        What::Command { id, answer, offset, deed }
    }

    fn returned(&self, record: Record, failure: Failure) -> Returned<Payload> {
        let papers = self.source.router.papers(to_engine(record.at), record.offset, &record);
        let size = record.size();
        Returned {
            papers,
            size: u32::try_from(size).unwrap_or(u32::MAX),
            timestamp_ms: record.timestamp_ms,
            failure,
            message: Payload {
                record,
                timer: None,
                recording: None,
                delayed: None,
                _charge: self.source.budget.lot().charge(size + MESSAGE_BYTES),
            },
        }
    }

    fn foreign(&self, record: &Record, why: Unusable) -> What {
        let topic = self.source.inboxes.get(record.at.topic as usize).map_or("?", String::as_str);
        let (partition, offset) = (record.at.partition, record.offset);
        self.source.metrics.commands.add(CommandResult::Foreign, 1);
        tracing::warn!(topic, partition, offset, %why, "a record that is no command of Keyrail's is passed over");
        What::Other
    }
}
