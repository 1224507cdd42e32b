//! Parked messages on their way to their logs, and what is read of these.

use super::Env;
use crate::invariants::RunId;
use crate::model::outputs::{Effect, Report, Sender, parked_place};
use crate::record::Rec;
use crate::trace::Who;
use keyrail_engine::parking::Waiting;
use std::rc::Rc;

/// A record of a retry topic.
#[derive(Debug, Clone)]
pub struct ParkRecord {
    /// The assignment that wrote it.
    pub run: RunId,
    /// The message: its place is the record's key.
    pub rec: Rc<Rec>,
    /// What is known of it; `None`: a tombstone.
    pub waiting: Option<Waiting>,
}

impl Env {
    /// The broker's list of topics lacks retry topics for a while.
    pub fn hide_retry_topics(&mut self, hidden_ms: u64) {
        self.hidden_until_ms = self.hidden_until_ms.max(self.now_ms + hidden_ms);
    }

    /// Whether the broker lists retry topics: they are made with the first message that is parked.
    #[must_use]
    pub const fn lists_retry_topics(&self) -> bool {
        self.now_ms >= self.hidden_until_ms && !self.parks.is_empty()
    }

    /// As [`Env::produce`], for a record of a retry topic. Tells also which it is.
    pub fn produce_parked(&mut self, sender: Sender, token: u64, record: ParkRecord) -> (usize, Option<Report>) {
        let (partition, number) = (record.rec.partition, self.parks.len());
        let effect = Effect::parked(partition, number, record.run.0);
        self.parks.push(record);
        (number, self.send(sender, parked_place(partition), token, effect, false))
    }

    /// Where the log of what is parked of a partition ends, for who asks for all of it, or for what is decided.
    pub fn parked_end(&mut self, partition: u16, stable: bool) -> usize {
        let log = self.coordinator.internal_log(parked_place(partition));
        if stable { log.stable_end() } else { log.end() }
    }

    /// Records that stand below an end of it; see [`InternalLog::read`].
    ///
    /// [`InternalLog::read`]: crate::model::internal::InternalLog::read
    pub fn read_parked(&mut self, partition: u16, to: usize, uncommitted: bool) -> Vec<ParkRecord> {
        let log = self.coordinator.internal_log(parked_place(partition));
        log.read(0, to, uncommitted).map(|record| self.parks[record].clone()).collect()
    }

    /// Compaction runs over it.
    pub fn compact_parked(&mut self, partition: u16) {
        self.note(Who::Broker, "retry topic compacted", Some((partition, -1)), 0);
        let parks = &self.parks;
        self.coordinator.internal_log(parked_place(partition)).compact(|record| parks[record].rec.offset);
    }
}
