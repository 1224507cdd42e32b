//! Messages of topics, played one by one and each once: what a back-test does with two versions of a handler.

use super::{Event, Halted, Payload, Player};
use crate::config::Pipeline;
use crate::pipeline::setup;
use crate::record::Record;
use crate::wasm::{Handler, Setup};
use keyrail_engine::message::Partition;
use keyrail_engine::policy::Spent;
use keyrail_engine::shard::Outcome;
use keyrail_engine::state::Change;
use std::time::Duration;

/// How long calls of a handler took, by the real clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Took {
    /// How many there were.
    pub calls: u64,
    /// All of them together.
    pub time: Duration,
}

impl Took {
    /// One more.
    pub(super) fn add(&mut self, time: Duration) {
        self.and(Self { calls: 1, time });
    }

    /// With those of another player.
    pub fn and(&mut self, other: Self) {
        self.calls += other.calls;
        self.time = self.time.saturating_add(other.time);
    }
}

/// An outage costs no attempt, and would be retried for ever.
pub(super) fn counted(outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Retry { failure, delay_ms, outage: _ } => Outcome::Retry { failure, delay_ms, outage: false },
        other => other,
    }
}

impl Player {
    /// One that runs each message by itself and once. What fails is given up at once, whatever the manifest says of retries.
    /// Requests are refused. Delayed sends are told with their message, and don't go out later.
    #[must_use]
    pub fn once(handler: Handler, manifest: &Pipeline, start_ms: i64) -> Self {
        let mut alone = manifest.clone();
        (alone.policy.retry.attempts, alone.policy.retry.then) = (1, Spent::DeadLetter);
        alone.policy.batch.max_messages = 1;
        let mut player = Self::new(handler, &alone, start_ms);
        // What a handler is opened with is what a pipeline opens it with.
        player.setup = Setup { record: false, ..setup(manifest) };
        player.once = true;
        if let Some(servers) = &player.servers {
            servers.refuse("requests are not sent in a back-test");
        }
        player
    }

    /// Changes state, as if messages before had.
    pub fn begin(&mut self, task: Partition, changes: &[Change]) {
        self.store.apply(task, changes);
    }

    /// Where its clock stands, milliseconds since the Unix epoch.
    #[must_use]
    pub fn wall_ms(&self) -> i64 {
        self.now().wall_ms
    }

    /// When the next timer is due that is not due yet.
    #[must_use]
    pub fn next_timer_ms(&self) -> Option<i64> {
        self.store.next_timer_ms(self.wall_ms())
    }

    /// Moves the clock to this time, over all that is due meanwhile; never back. What came of timers.
    ///
    /// # Errors
    /// See [`Halted`].
    pub fn advance_to(&mut self, wall_ms: i64) -> Result<Vec<Event>, Halted> {
        self.told = 0;
        self.advance(wall_ms.saturating_sub(self.wall_ms()).max(0).cast_unsigned())?;
        Ok(self.events())
    }

    /// Runs a record of an input: what came of it, and of timers that are due at once. Offsets of a partition must ascend.
    ///
    /// # Errors
    /// See [`Halted`].
    pub fn run(&mut self, record: &Record) -> Result<Vec<Event>, Halted> {
        self.told = 0;
        let partition = Partition { topic: record.at.topic, number: record.at.partition };
        self.open(partition);
        self.accept(partition, Payload { record: record.clone(), timer: None });
        self.play()?;
        Ok(self.events())
    }

    /// How long its calls took.
    #[must_use]
    pub fn took(&self) -> Took {
        self.took
    }

    /// Bytes of state, timers and seen ids, about.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.store.bytes()
    }
}
