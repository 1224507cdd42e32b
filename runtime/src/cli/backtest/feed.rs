//! The messages of a back-test: task by task, each in the order of its partition.

use crate::cli::broker::One;
use crate::cli::place::{self, Place};
use crate::cli::quiet::Quiet;
use keyrail::admin::stop::Stop;
use keyrail::broker::client::{Client, Reader, Topic};
use keyrail::record::{Record, TopicPartition};
use keyrail_engine::message::Partition;
use keyrail_engine::policy::Order;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// How often an idle command looks whether it should end.
pub(super) const LOOK: Duration = Duration::from_millis(100);

/// What of a partition is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    /// The topic is the index into the pipeline's inputs.
    pub(super) at: TopicPartition,
    pub(super) from: i64,
    pub(super) to: i64,
}

impl Span {
    /// Records at most: markers of transactions and what is compacted away are among them.
    pub(super) fn len(&self) -> u64 {
        self.to.saturating_sub(self.from).max(0).cast_unsigned()
    }
}

/// What of a topic lies between both places, by partition.
pub(super) fn spans(
    client: &mut dyn Client,
    (index, topic): (u32, &Topic),
    since: Place,
    until: Option<Place>,
) -> anyhow::Result<Vec<Span>> {
    let partitions: Vec<i32> = (0..topic.partitions).collect();
    let bounds = client.bounds(&topic.name, &partitions)?;
    let mut offsets = |place: Place| place::offsets(place, client, &topic.name, &partitions, &bounds);
    let from = offsets(since)?;
    let to = until.map(offsets).transpose()?;
    let span = |n: usize| {
        let end = to.as_ref().map_or(bounds[n].end, |to| to[n].min(bounds[n].end));
        let at = TopicPartition { topic: index, partition: partitions[n] };
        Span { at, from: from[n].max(bounds[n].start), to: end }
    };
    Ok((0..partitions.len()).map(span).collect())
}

/// Spans by the task that they are of.
pub(super) fn tasks(order: &Order, spans: &[Span]) -> Vec<Vec<Span>> {
    let mut tasks: BTreeMap<Partition, Vec<Span>> = BTreeMap::new();
    for span in spans {
        let partition = Partition { topic: span.at.topic, number: span.at.partition };
        tasks.entry(order.task(partition)).or_default().push(*span);
    }
    tasks.into_values().collect()
}

/// A partition that is read.
pub(super) struct Part {
    span: Span,
    reader: Box<dyn Reader>,
    /// After an outage the reader goes on by itself.
    comes_back: bool,
    pub(super) ready: VecDeque<Record>,
    ended: bool,
}

impl Part {
    /// The span's topic is the index into `topics`.
    pub(super) fn open(one: &mut One, topics: &[String], span: Span) -> anyhow::Result<Self> {
        let reader = one.client.read(topics, &[(span.at, span.from)])?;
        Ok(Self { span, reader, comes_back: one.comes_back(), ready: VecDeque::new(), ended: false })
    }

    /// Reads on until there is a record, or the end is reached. `false`: it was told to stop.
    pub(super) fn fill(&mut self, records: &mut Vec<Record>, stop: &Stop) -> anyhow::Result<bool> {
        // How long the messages before took is no silence of the broker's.
        let mut quiet = Quiet::new(false, self.comes_back);
        while self.ready.is_empty() && !self.ended {
            if stop.requested() {
                return Ok(false);
            }
            records.clear();
            let read = self.reader.next(LOOK, records);
            self.ended = self.reader.has_passed(self.span.at, self.span.to);
            quiet.after(read, records.is_empty() && !self.ended)?;
            self.ready.extend(records.drain(..).filter(|record| record.offset < self.span.to));
        }
        Ok(true)
    }
}

/// The messages of a task. Those of several topics come in the order of their times, as far as each partition's own order lets them.
pub(super) struct Feed {
    parts: Vec<Part>,
    records: Vec<Record>,
}

impl Feed {
    pub(super) fn open(one: &mut One, spans: &[Span]) -> anyhow::Result<Self> {
        let topics = one.pipeline.input.clone();
        // A reader each, so that one topic can wait for another.
        let parts = spans.iter().map(|span| Part::open(one, &topics, *span));
        let parts = parts.collect::<anyhow::Result<Vec<_>>>()?;
        Ok(Self { parts, records: Vec::new() })
    }

    /// The next one. `None`: there is none, or it was told to stop.
    pub(super) fn next(&mut self, stop: &Stop) -> anyhow::Result<Option<Record>> {
        // What is read already may be work for minutes.
        if stop.requested() {
            return Ok(None);
        }
        for part in &mut self.parts {
            if !part.fill(&mut self.records, stop)? {
                return Ok(None);
            }
        }
        let heads = self.parts.iter().enumerate().filter_map(|(n, part)| Some((part.ready.front()?.timestamp_ms, n)));
        let first = heads.min().map(|(_, n)| n);
        Ok(first.and_then(|n| self.parts.get_mut(n)?.ready.pop_front()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyrail_engine::policy::Scope;

    #[test]
    fn partitions_that_share_their_keys_are_one_task() {
        let span = |topic, partition| Span { at: TopicPartition { topic, partition }, from: 0, to: 5 };
        let all = [span(0, 0), span(0, 1), span(1, 0), span(1, 1), span(1, 2)];
        assert_eq!(tasks(&Order::default(), &all).len(), 5);
        let shared = Order { scope: Scope::Inputs, ..Order::default() };
        assert_eq!(
            tasks(&shared, &all),
            [vec![span(0, 0), span(1, 0)], vec![span(0, 1), span(1, 1)], vec![span(1, 2)]]
        );
    }
}
