//! A receiver's thread: hears events, sends what is due, and tries again. However slow the receiver is, it holds up nobody
//! but itself: events wait in a bounded channel, and what finds no room there is counted.

use super::desk::Desk;
use super::event::Event;
use super::message::{Message, Sender, message};
use crate::admin::metrics::ReceiverMetrics;
use crate::pipeline::clock::Clock;
use crossbeam_channel::{Receiver as Channel, select};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// A receiver that does not answer is named again after this.
const TOLD_AGAIN: Duration = Duration::from_secs(600);
/// Without anything due, for counts of events that found no room.
const IDLE: Duration = Duration::from_secs(10);
/// Messages that are tried when the process ends.
const LAST: usize = 3;

/// Who gets messages.
pub(super) trait Receiver: Send {
    /// Hands a message over, and says what the other side said.
    fn deliver(&mut self, message: &Message) -> Result<String, Refusal>;
}

/// A message was not delivered, as far as is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) why: String,
    /// For how long it wants to be left alone.
    pub(super) retry_after_ms: Option<u64>,
}

/// What the thread is made of.
pub(super) struct Courier {
    pub(super) name: &'static str,
    pub(super) receiver: Box<dyn Receiver>,
    pub(super) desk: Desk,
    pub(super) events: Channel<Event>,
    /// Closed when the process ends.
    pub(super) end: Channel<()>,
    pub(super) missed: Arc<AtomicU64>,
    pub(super) sender: Sender,
    pub(super) metrics: Arc<ReceiverMetrics>,
    pub(super) clock: Clock,
    pub(super) failing: Option<Failing>,
}

/// A receiver that does not take messages.
pub(super) struct Failing {
    since: Instant,
    told: Instant,
    tries: u64,
}

impl Courier {
    pub(super) fn run(mut self) {
        loop {
            let wait = match self.desk.next_ms() {
                Some(due) => Duration::from_millis(due.saturating_sub(self.clock.now().steady_ms)).min(IDLE),
                None => IDLE,
            };
            let (events, end) = (self.events.clone(), self.end.clone());
            let gone = select! {
                recv(events) -> event => event.map(|event| self.hear(event)).is_err(),
                recv(end) -> _ => true,
                default(wait) => false,
            };
            self.gather();
            if gone {
                return self.finish();
            }
            if let Some(parcel) = self.desk.take(self.clock.now()) {
                let message = message(parcel, &self.sender, self.clock.now().wall_ms);
                self.deliver(&message);
            }
            self.metrics.pending.set(self.desk.waiting());
        }
    }

    fn hear(&mut self, event: Event) {
        let now = self.clock.now();
        self.desk.hear(event, now);
    }

    /// What is there, without waiting.
    fn gather(&mut self) {
        // As many as there are now: who says more in the meantime is heard in the next round.
        for _ in 0..self.events.len() {
            let Ok(event) = self.events.try_recv() else { break };
            self.hear(event);
        }
        self.desk.miss(self.missed.swap(0, Relaxed));
    }

    fn deliver(&mut self, message: &Message) -> bool {
        match self.receiver.deliver(message) {
            Ok(said) => {
                self.metrics.delivered.add(1);
                self.desk.delivered(self.clock.now());
                tracing::debug!(receiver = self.name, said, "alerts are sent");
                if let Some(failing) = self.failing.take() {
                    let for_s = failing.since.elapsed().as_secs();
                    let tries = failing.tries;
                    tracing::info!(receiver = self.name, for_s, tries, "alerts are delivered again");
                }
                true
            }
            Err(refusal) => {
                self.metrics.failed.add(1);
                self.desk.failed(self.clock.now(), refusal.retry_after_ms);
                self.tell(&refusal.why);
                false
            }
        }
    }

    /// One line for a receiver that does not answer, and another one where that lasts.
    fn tell(&mut self, why: &str) {
        let now = Instant::now();
        let first = self.failing.is_none();
        let failing = self.failing.get_or_insert(Failing { since: now, told: now, tries: 0 });
        failing.tries += 1;
        if first || now.duration_since(failing.told) >= TOLD_AGAIN {
            failing.told = now;
            let tries = failing.tries;
            tracing::warn!(
                receiver = self.name,
                why,
                tries,
                "alerts are not delivered: they are tried again, and nothing of them is lost while the process runs"
            );
        }
    }

    /// Tells what is left, now.
    fn finish(mut self) {
        for _ in 0..LAST {
            self.gather();
            let Some(parcel) = self.desk.take_all() else { break };
            let message = message(parcel, &self.sender, self.clock.now().wall_ms);
            if !self.deliver(&message) {
                break;
            }
        }
        let left = self.desk.waiting();
        self.metrics.pending.set(left);
        if left > 0 {
            tracing::warn!(
                receiver = self.name,
                alerts = left,
                "the last alerts are not delivered, and the process ends"
            );
        }
    }
}
