//! Commands from outside: read by a thread of their own, taken in here in turns, obeyed by the shard of the message's lane.

use super::Worker;
use crate::admin::metrics::CommandResult;
use crate::pipeline::Trouble;
use crate::pipeline::inbox::{Inboxes, Read, What};
use crate::pipeline::link::{Command, ToCommitter, ToShard};
use crate::pipeline::witness::Told;
use crate::wasm::Effects;
use keyrail_engine::inbox::{Deed, Refused};
use keyrail_engine::message::{Epoch, Now, Partition};
use keyrail_engine::order::shard_of;
use keyrail_engine::parking::Parked;
use keyrail_engine::pipeline::Received;
use keyrail_engine::shard::Order;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// So many commands are taken in at a time.
const TURN: usize = 256;
/// Commands of a partition that wait for earlier ones; more are not taken from the thread that reads.
const WAITING: usize = 256;
/// Between two looks for inboxes of partitions that have none.
const LOOK: Duration = Duration::from_millis(250);

/// What is read of inboxes.
pub(in crate::pipeline) struct Commands {
    inboxes: Inboxes,
    /// Partitions that run; `true`: their inbox is read.
    running: BTreeMap<Partition, (Epoch, bool)>,
    /// Read, and not taken in yet.
    waiting: BTreeMap<Partition, VecDeque<Read>>,
    next_look: Instant,
}

impl Commands {
    pub(in crate::pipeline) fn new(inboxes: Inboxes) -> Self {
        Self { inboxes, running: BTreeMap::new(), waiting: BTreeMap::new(), next_look: Instant::now() }
    }

    /// It runs: what is parked of it is known.
    pub(super) fn runs(&mut self, partition: Partition, epoch: Epoch) {
        self.rests(partition);
        self.running.insert(partition, (epoch, false));
        self.next_look = Instant::now();
    }

    /// It does not.
    pub(super) fn rests(&mut self, partition: Partition) {
        self.waiting.remove(&partition);
        if let Some((_, true)) = self.running.remove(&partition) {
            self.inboxes.forget(partition);
        }
    }

    fn is_full(&self) -> bool {
        self.waiting.values().any(|waiting| waiting.len() >= WAITING)
    }
}

impl Worker {
    /// Takes in what came.
    pub(super) fn take_commands(&mut self) -> Result<(), Trouble> {
        let Some(commands) = &mut self.ledger.commands else { return Ok(()) };
        if Instant::now() >= commands.next_look {
            commands.next_look = Instant::now() + LOOK;
            self.look_for_inboxes()?;
        }
        for _ in 0..TURN {
            let Some(commands) = self.ledger.commands.as_mut().filter(|commands| !commands.is_full()) else { break };
            let Some(read) = commands.inboxes.next() else { break };
            if commands.running.get(&read.partition).is_some_and(|(epoch, _)| *epoch == read.epoch) {
                commands.waiting.entry(read.partition).or_default().push_back(read);
            }
        }
        let waiting = self.ledger.commands.as_ref().map(|commands| commands.waiting.keys().copied().collect());
        let waiting: Vec<Partition> = waiting.unwrap_or_default();
        waiting.into_iter().try_for_each(|partition| self.take_waiting(partition))
    }

    fn look_for_inboxes(&mut self) -> Result<(), Trouble> {
        let Some(commands) = &mut self.ledger.commands else { return Ok(()) };
        if commands.inboxes.has_ended() {
            return Err(Trouble::Again("the thread that reads commands panicked; the log says where".to_owned()));
        }
        if self.ledger.names.parked.is_empty() && commands.inboxes.is_there() {
            // There is a command, and nothing was ever parked: both begin now.
            return Err(Trouble::NoRetryTopic);
        }
        for (partition, (epoch, reads)) in commands.running.iter_mut().filter(|(_, (_, reads))| !reads) {
            let Some(log) = commands.inboxes.log(partition.topic) else { continue };
            if let Some(from) = self.ledger.engine.inbox(*partition, *epoch, log) {
                *reads = true;
                commands.inboxes.want(*partition, *epoch, from);
            }
        }
        Ok(())
    }

    fn take_waiting(&mut self, partition: Partition) -> Result<(), Trouble> {
        loop {
            let Some(commands) = &mut self.ledger.commands else { return Ok(()) };
            let Some(waiting) = commands.waiting.get_mut(&partition) else { return Ok(()) };
            let Some(next) = waiting.front() else {
                commands.waiting.remove(&partition);
                return Ok(());
            };
            let is_command = matches!(next.what, What::Command { .. });
            let received = self.ledger.engine.command(partition, next.epoch, next.at, is_command);
            if received == Received::Later {
                return Ok(());
            }
            let next = waiting.pop_front();
            if let (Some(read), Received::Obey) = (next, received) {
                self.hand_to_shard(read)?;
            }
        }
    }

    fn hand_to_shard(&mut self, read: Read) -> Result<(), Trouble> {
        let Read { partition, epoch, at, what: What::Command { id, answer, offset, deed } } = read else {
            return Ok(());
        };
        let lane = match &deed {
            Deed::Redrive(returned) => Some(returned.papers.lane),
            Deed::Retry | Deed::Drop => self.memory.stands(partition, offset).map(|(lane, _)| lane),
        };
        if let Some(why) = self.memory.broken() {
            return Err(Trouble::Again(why.clone()));
        }
        let order = Order { partition, epoch, offset, deed };
        let command = Command { partition, epoch, at, id, answer };
        let Some(lane) = lane else {
            return self.take(ToCommitter::Obeyed(command, Box::new(Err(Refused::NotParked))));
        };
        let shard = shard_of(lane, self.ledger.shards.len() as u32) as usize;
        self.ledger.shards[shard].push(ToShard::Order(command, Box::new(order))).map_err(super::ended)
    }

    /// A shard has obeyed a command, or not.
    pub(super) fn obeyed(&mut self, command: Command, result: super::Obeyed, now: Now) {
        let Command { partition, epoch, at, id, answer } = command;
        let topic = self.ledger.names.inputs.get(partition.topic as usize).map_or("?", String::as_str);
        let (pipeline, number) = (&self.ledger.names.pipeline, partition.number);
        let id_text = format!("{:032x}", u128::from_be_bytes(id.0));
        match &result {
            Ok(settled) => {
                let (offset, fate) = (settled.ticket.offset, super::show::deed(&settled.fate));
                tracing::info!(pipeline, topic, partition = number, offset, command = id_text, "by hand: {fate}");
                self.count_fate(&settled.fate);
                if let Some(witness) = &self.ledger.witness {
                    witness.tell(&Told::settled(&self.ledger.names, settled, &Effects::default()));
                }
            }
            Err(why) => {
                tracing::info!(pipeline, topic, partition = number, command = id_text, %why, "a command is refused");
            }
        }
        let result_label = if result.is_ok() { CommandResult::Obeyed } else { CommandResult::Refused };
        self.ledger.metrics.commands.add(result_label, 1);
        let named = ((partition, epoch, at), (id, answer));
        self.ledger.engine.obeyed(named.0, named.1, result, now, &mut self.actions);
    }
}
