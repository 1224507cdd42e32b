//! Commits of offsets. Answers come out of a queue of their own, so the committer waits for no other thread.

use super::consumer::Shared;
use super::native::{Code, Event, Failure, PartitionList, Queue};
use crate::broker::{BrokerError, BrokerErrorKind, Commits, OffsetCommit};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// How long [`Commits::now`] waits for the broker's answer.
const ANSWER_WAIT: Duration = Duration::from_secs(10);
const DOING: &str = "committing offsets";

/// See [`crate::broker::Consumer::commits`]. Weak, so that a commit never keeps a dropped consumer in its group.
#[derive(Debug)]
pub(super) struct KafkaCommits {
    shared: Weak<Shared>,
    /// Where the answer to the commit started last will be; each has a queue of its own, so that an answer that comes
    /// late is never taken for another commit's.
    pending: Option<Queue>,
    /// The commit started last had nothing to say.
    empty: bool,
}

impl KafkaCommits {
    pub(super) fn new(shared: Weak<Shared>) -> Self {
        Self { shared, pending: None, empty: false }
    }

    fn shared(&self) -> Result<Arc<Shared>, BrokerError> {
        self.shared.upgrade().ok_or_else(|| BrokerError {
            kind: BrokerErrorKind::Superseded,
            message: format!("{DOING}: the consumer is closed"),
        })
    }
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
        self.pending = None;
        self.empty = offsets.is_empty();
        if self.empty {
            return Ok(());
        }
        let shared = self.shared()?;
        let answers = Queue::new(&shared.client);
        shared.client.commit(&list(&shared, offsets)?, &answers).map_err(|f| shared.place.explain(DOING, &f))?;
        self.pending = Some(answers);
        Ok(())
    }

    fn finished(&mut self) -> Option<Result<(), BrokerError>> {
        if std::mem::take(&mut self.empty) {
            return Some(Ok(()));
        }
        let answers = self.pending.as_ref()?;
        let result = match self.shared() {
            Ok(shared) => answer(&shared, &answers.poll(Duration::ZERO)?),
            Err(closed) => Err(closed),
        };
        self.pending = None;
        Some(result)
    }

    fn now(&mut self, offsets: &[OffsetCommit]) -> Result<(), BrokerError> {
        if offsets.is_empty() {
            return Ok(());
        }
        let shared = self.shared()?;
        let answers = Queue::new(&shared.client);
        shared.client.commit(&list(&shared, offsets)?, &answers).map_err(|f| shared.place.explain(DOING, &f))?;
        match answers.poll(ANSWER_WAIT) {
            Some(event) => answer(&shared, &event),
            None => {
                let late = Failure::new(Code::OperationTimedOut, format!("no answer within {ANSWER_WAIT:?}"));
                Err(shared.place.explain(DOING, &late))
            }
        }
    }
}
