//! The topics that dead letters are in, and reading them.

use super::letter::Letter;
use super::position::{Position, Unreadable, group_of};
use crate::cli::quiet::Quiet;
use crate::cli::terminal::{Progress, counted, say};
use crate::cli::{Config, WrongUse, broker, lag};
use anyhow::Context as _;
use clap::Args;
use keyrail::broker::client::{Client, Topic};
use keyrail::broker::{BrokerErrorKind, LogBounds};
use keyrail::config::{BrokerKind, Found, Pipeline, find_manifests};
use keyrail::record::{Record, TopicPartition};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long one look for records takes at most.
pub(super) const LOOK: Duration = Duration::from_millis(100);

/// Which letters are looked at.
#[derive(Debug, Args)]
pub(in crate::cli) struct Place {
    /// The pipeline whose dead letters are meant
    #[arg(required_unless_present = "topic")]
    pub(in crate::cli) pipeline: Option<String>,
    /// Dead letters in this topic, also those of other tools; may be repeated
    #[arg(long, value_name = "TOPIC")]
    pub(in crate::cli) topic: Vec<String>,
    #[command(flatten)]
    pub(in crate::cli) config: Config,
    /// Print JSON for programs
    #[arg(long)]
    pub(in crate::cli) json: bool,
}

/// See the module.
pub(in crate::cli) struct Source {
    pub(in crate::cli) client: Box<dyn Client>,
    /// After an outage a reader goes on by itself.
    pub(super) comes_back: bool,
    /// The one that was named.
    pub(in crate::cli) pipeline: Option<Pipeline>,
    /// All that are known here.
    pub(in crate::cli) known: Vec<Pipeline>,
    /// All topics that are there.
    pub(in crate::cli) all: Vec<Topic>,
    /// Those of dead letters.
    pub(in crate::cli) topics: Vec<Topic>,
}

/// A part of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) struct Span {
    pub(in crate::cli) partition: i32,
    pub(in crate::cli) from: i64,
    pub(in crate::cli) to: i64,
}

impl Source {
    pub(in crate::cli) fn open(place: &Place) -> anyhow::Result<Self> {
        let host = broker::host(&place.config)?;
        let found = match (find_manifests(&host.plugins_dir, &crate::cli::variable), &place.pipeline) {
            (Ok(found), _) => found,
            (Err(faults), Some(_)) => return Err(crate::cli::faulty("the configuration has faults", &faults)),
            // Letters of others need no pipelines here; but who sends them back should know what else is not known.
            (Err(faults), None) => {
                say(&format!("keyrail: no pipelines are known here:\n{faults}"));
                Found { fit: Vec::new(), unfit: BTreeMap::new() }
            }
        };
        let Found { fit, unfit } = found;
        if let Some(name) = &place.pipeline {
            if let Some(faults) = unfit.get(name) {
                anyhow::bail!("the manifest of {name} has faults\n{faults}");
            }
            // Wrong use is told before anybody is asked.
            lag::choose(&fit, Some(name), &unfit)?;
        }
        let mut client = broker::open(&host, false)?;
        let at = client.place();
        let all = client.topics().with_context(|| format!("can't ask {at} for its topics"))?;
        let known = broker::with_topics(fit, &all);
        let pipeline = match &place.pipeline {
            Some(name) => lag::choose(&known, Some(name), &unfit)?.pop().cloned(),
            None => None,
        };
        let comes_back = host.broker == BrokerKind::Kafka;
        let mut source = Self { client, comes_back, pipeline, known, all, topics: Vec::new() };
        source.topics = source.choose(&place.topic, &at)?;
        Ok(source)
    }

    fn choose(&self, named: &[String], at: &str) -> anyhow::Result<Vec<Topic>> {
        let find = |name: &String| self.all.iter().find(|topic| topic.name == *name).cloned();
        let mut chosen: Vec<Topic> = Vec::new();
        if !named.is_empty() {
            for name in named {
                let missing = || WrongUse(broker::missing(name, at, &self.all));
                chosen.push(find(name).ok_or_else(missing)?);
            }
        } else if let Some(pipeline) = &self.pipeline {
            for name in &pipeline.dead_letter.topics {
                match find(name) {
                    Some(topic) => chosen.push(topic),
                    None => say(&format!("keyrail: there is no topic {name:?} at {at} yet, and no dead letter in it")),
                }
            }
        }
        chosen.sort();
        chosen.dedup();
        Ok(chosen)
    }

    /// The input whose dead letters alone go to this topic.
    pub(in crate::cli) fn input_of(&self, topic: &str) -> Option<&str> {
        let both = self.known.iter().flat_map(|pipeline| pipeline.input.iter().zip(&pipeline.dead_letter.topics));
        let mut inputs: Vec<&str> = both.filter(|(_, letters)| *letters == topic).map(|(i, _)| i.as_str()).collect();
        inputs.sort_unstable();
        inputs.dedup();
        if let [only] = inputs.as_slice() { Some(only) } else { None }
    }

    pub(in crate::cli) fn bounds(&mut self, topic: &Topic) -> anyhow::Result<Vec<LogBounds>> {
        let numbers: Vec<i32> = (0..topic.partitions).collect();
        Ok(self.client.bounds(&topic.name, &numbers)?)
    }

    /// What was sent back of a topic, by partition.
    ///
    /// # Errors
    /// The broker does not tell, or what stands there is somebody else's.
    pub(super) fn positions(&mut self, topic: &Topic, bounds: &[LogBounds]) -> anyhow::Result<Vec<Position>> {
        let group = group_of(&topic.name);
        let places: Vec<TopicPartition> =
            (0..topic.partitions).map(|partition| TopicPartition { topic: 0, partition }).collect();
        let log = self.client.log_of(&topic.name)?;
        let committed = self.client.committed(&group, std::slice::from_ref(&topic.name), &places)?;
        let read = |(committed, bounds): (_, &LogBounds)| {
            Position::read(committed, log, bounds.start).map_err(|Unreadable| {
                anyhow::anyhow!(
                    "what is committed by the group {group:?} is not Keyrail's, or a later version's: what was sent back \
                     of {:?} can't be told; use that version, or delete the group to begin anew",
                    topic.name
                )
            })
        };
        committed.iter().zip(bounds).map(read).collect()
    }

    /// The same, for who only looks: where it can't be told, that is said, and nothing counts as sent back.
    pub(super) fn known_positions(&mut self, topic: &Topic, bounds: &[LogBounds]) -> anyhow::Result<Vec<Position>> {
        match self.positions(topic, bounds) {
            Ok(positions) => Ok(positions),
            Err(error) => {
                let retry = error
                    .downcast_ref::<keyrail::broker::BrokerError>()
                    .is_some_and(|error| error.kind != BrokerErrorKind::Operator);
                if retry {
                    return Err(error);
                }
                say(&format!("keyrail: {error:#}; letters that were sent back are shown as the others"));
                Ok(bounds.iter().map(|bounds| Position::at(bounds.start)).collect())
            }
        }
    }

    /// Reads parts of a topic; `each` says whether it goes on. Of a partition they come in their order.
    pub(in crate::cli) fn scan(
        &mut self,
        topic: &Topic,
        spans: &[Span],
        each: &mut dyn FnMut(&Record, &Letter) -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let spans: Vec<Span> = spans.iter().filter(|span| span.from < span.to).copied().collect();
        if spans.is_empty() {
            return Ok(());
        }
        let at = |span: &Span| TopicPartition { topic: 0, partition: span.partition };
        let starts: Vec<_> = spans.iter().map(|span| (at(span), span.from)).collect();
        let ends: BTreeMap<TopicPartition, i64> = spans.iter().map(|span| (at(span), span.to)).collect();
        let mut reader = self.client.read(std::slice::from_ref(&topic.name), &starts)?;
        let (mut records, mut count) = (Vec::new(), 0);
        let (mut quiet, mut progress) = (Quiet::new(false, self.comes_back), Progress::new());
        while !ends.iter().all(|(at, end)| reader.has_passed(*at, *end)) {
            records.clear();
            let read = reader.next(LOOK, &mut records);
            quiet.after(read, records.is_empty())?;
            for record in records.iter().filter(|record| ends.get(&record.at).is_some_and(|end| record.offset < *end)) {
                count += 1;
                if !each(record, &Letter::of(record))? {
                    return Ok(());
                }
            }
            progress.show(|| format!("{} read", counted(count, "letter")));
        }
        Ok(())
    }
}
