//! What dead letters keep of the run that they died of (`dead-letter.record`): noted with a message each time it fails, written
//! if it becomes a letter.

use super::budget::{Budget, Charge};
use crate::replay::{self, Recorded, Verdict};
use crate::wasm::{Answer, CallFailure, Delivery, Handler, Limits, MOST_READ_BYTES, Outcome, Reads, Setup};
use keyrail_engine::message::Reason;
use std::fmt;

/// With what was read a letter is no larger than this, so that Kafka's default limit of 1 MiB takes it: what is left out says
/// so, where a letter that is refused would cost its transaction.
const LETTER_BYTES: usize = 960_000;

/// A run of a message, noted with it.
pub(super) struct Recording {
    run: Box<[u8]>,
    _charge: Charge,
}

impl Recording {
    pub(super) fn new(run: Vec<u8>, budget: &Budget) -> Self {
        let _charge = budget.lot().charge(run.len());
        Self { run: run.into(), _charge }
    }

    /// As [`Recorded::encode`] gives it.
    pub(super) fn run(&self) -> &[u8] {
        &self.run
    }
}

impl fmt::Debug for Recording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recording").field("bytes", &self.run.len()).finish()
    }
}

/// Whether a message that is given up for this has died of its last run. The others did not run, or ran well.
pub(super) const fn tells(reason: Reason) -> bool {
    reason.is_of_retries() || matches!(reason, Reason::Rejected)
}

/// The slots of a call that failed, and how. Of a call that failed as a whole only one of a single message condemns it.
pub(super) fn failed(result: &Result<Answer, CallFailure>, messages: usize) -> Vec<(usize, Verdict)> {
    match result {
        Ok(answer) => {
            let all = answer.outcomes.iter().take(messages).enumerate();
            let failed = all.filter(|(_, outcome)| !matches!(outcome, Outcome::Done | Outcome::Skip));
            failed.map(|(slot, outcome)| (slot, Verdict::of(outcome))).collect()
        }
        Err(failure) if messages == 1 => vec![(0, Verdict::of_failure(failure))],
        Err(_) => Vec::new(),
    }
}

/// What all slots of a call share.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub(super) setup: &'a Setup,
    pub(super) handler: &'a Handler,
    pub(super) now_ms: i64,
    pub(super) deadline_ms: u64,
}

/// What all calls of a shard share.
#[derive(Debug)]
pub(super) struct Recorder {
    /// What instances are opened with.
    setup: u64,
}

impl Recorder {
    pub(super) fn new(setup: &Setup, limits: &Limits) -> Self {
        Self { setup: if setup.record { replay::digest(setup, limits) } else { 0 } }
    }

    /// A slot's run, to be noted with its message.
    pub(super) fn run(&self, call: &Call<'_>, delivery: &Delivery, verdict: Verdict, reads: Option<Reads>) -> Vec<u8> {
        let record = &delivery.record;
        let room = LETTER_BYTES.saturating_sub(record.content_bytes()).min(MOST_READ_BYTES);
        let recorded = Recorded {
            handler: call.handler.digest_bytes(),
            setup: self.setup,
            pipeline: call.setup.handler.clone(),
            topic: call.setup.topics.get(record.at.topic as usize).cloned().unwrap_or_default(),
            partition: record.at.partition,
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
            timer: delivery.timer.as_deref().cloned(),
            attempt: delivery.attempt,
            follows_dead_letter: delivery.follows_dead_letter,
            now_ms: call.now_ms,
            deadline_ms: call.deadline_ms,
            verdict,
            reads: reads.unwrap_or_default().within(room),
        };
        recorded.encode()
    }
}
