//! Commits of offsets. Answers come out of a queue of their own, so the committer waits for no other thread.

use super::consumer::Shared;
use super::native::{Code, Event, Failure, PartitionList, Queue};
use crate::broker::{BrokerError, BrokerErrorKind, Commits, OffsetCommit};
use keyrail_engine::answers::Answers;
use std::sync::{Arc, Weak};
use std::time::Duration;

const DOING: &str = "committing offsets";

/// See [`crate::broker::Consumer::commits`]. Weak, so that a commit never keeps a dropped consumer in its group.
#[derive(Debug)]
pub(super) struct KafkaCommits {
    shared: Weak<Shared>,
    /// Each commit has a queue of its own for its answer; one that had nothing to say has none.
    answers: Answers<Option<Queue>>,
    started: u64,
}

impl KafkaCommits {
    pub(super) fn new(shared: Weak<Shared>) -> Self {
        Self { shared, answers: Answers::new(), started: 0 }
    }

    fn shared(&self) -> Result<Arc<Shared>, BrokerError> {
        upgrade(&self.shared)
    }
}

fn upgrade(shared: &Weak<Shared>) -> Result<Arc<Shared>, BrokerError> {
    shared.upgrade().ok_or_else(|| BrokerError {
        kind: BrokerErrorKind::Superseded,
        message: format!("{DOING}: the consumer is closed"),
    })
}

fn list(shared: &Shared, offsets: &[OffsetCommit]) -> Result<PartitionList, BrokerError> {
    let mut list = PartitionList::with_capacity(offsets.len());
    for o in offsets {
        list.push_with_metadata(shared.name(o.at.topic)?, o.at.partition, o.offset, o.metadata.as_bytes());
    }
    Ok(list)
}

/// The broker answers per partition: a commit counts only when each has no error.
fn answer(shared: &Shared, event: &Event<'_>) -> Result<(), BrokerError> {
    let overall = event.result();
    shared.check_items(DOING, event.partitions())?;
    overall.map_err(|f| shared.place.explain(DOING, &f))
}

impl Commits for KafkaCommits {
    fn start(&mut self, offsets: &[OffsetCommit]) -> Result<(), BrokerError> {
        self.answers.forget();
        self.started += 1;
        if offsets.is_empty() {
            self.answers.sent(self.started, None);
            return Ok(());
        }
        let shared = self.shared()?;
        let queue = Queue::new(&shared.client);
        shared.client.commit(&list(&shared, offsets)?, &queue).map_err(|f| shared.place.explain(DOING, &f))?;
        self.answers.sent(self.started, Some(queue));
        Ok(())
    }

    fn finished(&mut self) -> Option<Result<(), BrokerError>> {
        let shared = &self.shared;
        let found = self.answers.take(|place| {
            let Some(queue) = place else { return Some(Ok(())) };
            match upgrade(shared) {
                Ok(shared) => Some(answer(&shared, &queue.poll(Duration::ZERO)?)),
                Err(closed) => Some(Err(closed)),
            }
        });
        found.map(|(_, result)| result)
    }

    fn now(&mut self, offsets: &[OffsetCommit], wait: Duration) -> Result<(), BrokerError> {
        if offsets.is_empty() {
            return Ok(());
        }
        let shared = self.shared()?;
        let answers = Queue::new(&shared.client);
        shared.client.commit(&list(&shared, offsets)?, &answers).map_err(|f| shared.place.explain(DOING, &f))?;
        match answers.poll(wait) {
            Some(event) => answer(&shared, &event),
            None => {
                let late = Failure::new(Code::OperationTimedOut, format!("no answer within {wait:?}"));
                Err(shared.place.explain(DOING, &late))
            }
        }
    }
}

#[cfg(test)]
#[path = "commits_tests.rs"]
mod tests;
