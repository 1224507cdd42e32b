//! What is committed becomes known: ids to those who ask whether a message was seen, state to those who read it.

use super::{Ends, Worker};
use crate::pipeline::Trouble;
use crate::pipeline::kept::Kept;
use crate::pipeline::link::{Payload, ToConsumer, ToShard, to_broker};
use crate::pipeline::sink::Sink;
use keyrail_engine::message::{Epoch, MessageId, Partition};
use keyrail_engine::parking;
use keyrail_engine::ranges::Ranges;
use keyrail_engine::shard::Settled;
use keyrail_engine::state::Change;
use keyrail_engine::timers;
use keyrail_engine::tracker::Progress;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Between two looks for state that has ended.
const SWEEP: Duration = Duration::from_secs(1);
/// And after one that found as much as is deleted from a partition at once.
const SWEEP_ON: Duration = Duration::from_millis(100);
const SWEPT: usize = 10_000;

impl Worker {
    /// What internal topics hold of a task is known: from now on it may run.
    pub(super) fn known(&mut self, (task, epoch): (Partition, Epoch), kept: Kept, schemas: Vec<u16>) {
        let now = self.ledger.clock.now();
        self.memory.open(task, epoch, kept);
        self.ledger.engine.must_mark(task, epoch, schemas);
        self.ledger.engine.awaited(task, epoch, now);
        if let Some(commands) = &mut self.ledger.commands {
            commands.runs(task, epoch);
        }
    }

    /// The commit of this number is about to be sent.
    pub(super) fn note_ends(&mut self, number: u64) {
        // With at-least-once a commit does not wait for all partitions, and what is under way of one may stand below its end.
        let engine = &self.ledger.engine;
        let ends: Ends = self.ends.extract_if(.., |(_, partition), _| !engine.is_writing(*partition)).collect();
        if !ends.is_empty() {
            self.ends_before = Some((number, ends));
        }
    }

    /// The commit of this number stands. Its own ids come into memory with the actions that are due now. What was
    /// asked after its end was sent proves nothing: the partitions may have been somebody else's by then, who wrote below.
    pub(super) fn reach_ends(&mut self, number: u64) -> Result<(), Trouble> {
        let Some((_, ends)) = self.ends_before.take_if(|(of, _)| *of == number) else { return Ok(()) };
        self.act()?;
        ends.into_iter().try_for_each(|((kind, partition), end)| match self.memory.get(partition) {
            Some(kept) => kept.reach(kind, end),
            None => Ok(()),
        })
    }

    /// State is committed: whoever reads it finds it from now on, and no shard needs to remember it.
    pub(super) fn kept(&mut self, task: Partition, changes: &Arc<[Change]>) -> Result<(), Trouble> {
        // Given up meanwhile: its next owner reads it.
        let Some(held) = self.memory.get(task).and_then(|kept| kept.state.as_ref()) else { return Ok(()) };
        held.add(changes)?;
        // A shard in a long call lets these wait: without the values.
        let changes: Arc<[Change]> = changes.iter().map(timers::bare).collect();
        self.tell_shards(|| ToShard::Kept { task, changes: changes.clone() })
    }

    /// What is parked has changed: whoever asks is told so from now on.
    pub(super) fn parked(
        &mut self,
        partition: Partition,
        epoch: Epoch,
        changes: &Arc<[parking::Change]>,
    ) -> Result<(), Trouble> {
        let written = changes.iter().filter(|change| change.written.is_some()).count() as u64;
        self.ledger.metrics.parked.add(written);
        self.ledger.metrics.unparked.add(changes.len() as u64 - written);
        // Given up meanwhile: its next owner reads it.
        let Some(lanes) = self.memory.get(partition).and_then(|kept| kept.parked.as_ref()) else { return Ok(()) };
        lanes.add(changes, &mut self.produced)?;
        self.tell_shards(|| ToShard::Parked { partition, epoch, changes: changes.clone() })
    }

    /// So much is committed: what of it is parked may run.
    pub(super) fn covered(
        &mut self,
        partition: Partition,
        epoch: Epoch,
        progress: Option<Progress>,
    ) -> Result<(), Trouble> {
        let progress = Arc::new(progress);
        self.tell_shards(|| ToShard::Covered { partition, epoch, progress: progress.clone() })
    }

    /// With at-least-once: before a commit says that the partition parks, there is a topic for that.
    pub(super) fn check_retry_topic(&self, message: &Settled<Payload>) -> Result<(), Trouble> {
        let parks = || parking::written(&message.fate).is_some();
        let lacks = self.ledger.names.parked.is_empty() && matches!(self.ledger.sink, Sink::Apart { .. });
        if lacks && parks() { Err(Trouble::NoRetryTopic) } else { Ok(()) }
    }

    /// Partitions start anew: until then nothing is known of them.
    pub(super) fn rewind(&mut self, all: Vec<(Partition, i64, Ranges)>) -> Result<(), Trouble> {
        for (partition, _, _) in &all {
            self.memory.suspend(*partition);
            self.forget_produced(*partition);
        }
        self.tell_consumer(ToConsumer::Rewind(all))
    }

    /// With at-least-once: nobody will be told of what is on its way to this partition's retry topic.
    pub(super) fn forget_produced(&mut self, partition: Partition) {
        if matches!(self.ledger.sink, Sink::Apart { .. }) {
            self.produced.forget(to_broker(partition));
        }
    }

    /// State that has ended is deleted from its topic too, with the next commit. Not before every call is over
    /// that may have begun when it had not.
    pub(super) fn sweep(&mut self) -> Result<(), Trouble> {
        if self.ledger.names.state.is_empty() || Instant::now() < self.next_sweep {
            return Ok(());
        }
        self.next_sweep = Instant::now() + SWEEP;
        // IMPORTANT: first. A commit whose end was just collected may have given a key that had ended a new value, which an
        // action tells: until then the old one is found here, and the new one would be deleted.
        self.act()?;
        let now = self.ledger.clock.now();
        for (partition, kept) in self.memory.partitions() {
            let Some(held) = &kept.state else { continue };
            // All that is committed is in it, since this thread puts it there.
            let keys = held.expired(now.wall_ms.saturating_sub_unsigned(self.ledger.call_ms), SWEPT)?;
            if keys.len() == SWEPT {
                self.next_sweep = Instant::now() + SWEEP_ON;
            }
            if !keys.is_empty() {
                // Where it can't be now, they are found again.
                let _taken = self.ledger.engine.expired(partition, &keys, now);
            }
        }
        Ok(())
    }

    /// Ids are committed: whoever asks is told so from now on, and no shard needs to remember them.
    pub(super) fn marked(&mut self, task: Partition, ids: &Arc<[MessageId]>, time_ms: i64) -> Result<(), Trouble> {
        // Given up meanwhile: its next owner reads them.
        let Some(known) = self.memory.get(task).and_then(|kept| kept.ids.as_ref()) else { return Ok(()) };
        known.add(ids, time_ms)?;
        self.tell_shards(|| ToShard::Marked { task, ids: ids.clone() })
    }
}
