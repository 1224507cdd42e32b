//! Partitions are given up.

use super::{Worker, broker_offsets};
use crate::broker::BrokerErrorKind;
use crate::fail::{Point, pass};
use crate::pipeline::Trouble;
use crate::pipeline::link::ToConsumer;
use keyrail_engine::pipeline::CommitOffset;

impl Worker {
    pub(super) fn release(&mut self, offsets: &[CommitOffset]) -> Result<(), Trouble> {
        pass(Point::BeforeLastCommit);
        let bounds = self.ledger.bounds;
        let late = self.revoked.elapsed() >= bounds.drain;
        let mut unfinished = late.then(|| format!("messages or their records were under way for {:?}", bounds.drain));
        let wait = bounds.left_for_commit(self.revoked);
        let result = self.ledger.sink.commit_now(&broker_offsets(offsets), wait);
        if !offsets.is_empty() {
            self.note_commit(&result, true);
            // What the group has given to others is not this process's to commit.
            if let Err(error) = result
                && error.kind != BrokerErrorKind::Superseded
            {
                unfinished = Some(format!("the last commit failed: {error}"));
            }
        }
        self.released(unfinished)
    }

    pub(super) fn released(&mut self, unfinished: Option<String>) -> Result<(), Trouble> {
        pass(Point::AfterLastCommit);
        self.revoking = false;
        self.ledger.sink.disown();
        self.ledger.engine.released();
        self.tell_consumer(ToConsumer::Released { unfinished })
    }
}
