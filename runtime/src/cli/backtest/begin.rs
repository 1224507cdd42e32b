//! The state that both versions begin with: what the pipeline keeps now.

use super::feed::{Part, Span};
use crate::cli::WrongUse;
use crate::cli::broker::{self, One};
use anyhow::Context as _;
use keyrail::admin::stop::Stop;
use keyrail::backtest::Pair;
use keyrail::config::Pipeline;
use keyrail::record::{Record, TopicPartition};
use keyrail_engine::message::Partition;
use keyrail_engine::state::{self, Change, Key, Kind};
use std::sync::Arc;

/// Where the state of a task is.
pub(super) struct Origin {
    topics: Vec<String>,
}

impl Origin {
    /// By the manifest of one of both versions, as its handler completes it.
    pub(super) fn of(one: &One, manifests: [&Pipeline; 2]) -> anyhow::Result<Self> {
        let name = &one.pipeline.name;
        let state = manifests.iter().find_map(|manifest| manifest.state.as_ref());
        let none = || WrongUse(format!("--state: neither version of {name} keeps state"));
        let topics = state.ok_or_else(none)?.topics.clone();
        let place = one.client.place();
        match topics.iter().find(|topic| !one.all.iter().any(|there| there.name == **topic)) {
            Some(missing) => Err(anyhow::anyhow!("--state: {}", broker::missing(missing, &place, &one.all))),
            None => Ok(Self { topics }),
        }
    }

    /// Gives both versions what is kept of a task. Timers and delayed sends are the running pipeline's own. `false`: it was told to
    /// stop.
    pub(super) fn give(&self, one: &mut One, task: Partition, pair: &mut Pair, stop: &Stop) -> anyhow::Result<bool> {
        let Some(topic) = self.topics.get(task.topic as usize) else { return Ok(true) };
        let [bounds] = one.client.bounds(topic, &[task.number])?[..] else {
            anyhow::bail!("the broker does not tell the bounds of {topic}/{}", task.number);
        };
        let at = TopicPartition { topic: 0, partition: task.number };
        let span = Span { at, from: bounds.start, to: bounds.end };
        if span.len() == 0 {
            return Ok(true);
        }
        let mut part = Part::open(one, std::slice::from_ref(topic), span)?;
        let mut records = Vec::new();
        while part.fill(&mut records, stop)? {
            if part.ready.is_empty() {
                return Ok(true);
            }
            for record in part.ready.drain(..) {
                let change = change(&record).with_context(|| format!("{topic}/{}@{}", task.number, record.offset))?;
                if let Some(change) = change {
                    pair.begin(task, &[change]).map_err(|why| super::told(&why))?;
                }
            }
        }
        Ok(false)
    }
}

/// `None`: it is no state.
fn change(record: &Record) -> anyhow::Result<Option<Change>> {
    let bytes = record.key().unwrap_or_default();
    let unread = |why: state::Unusable| anyhow::anyhow!("it can't be read as state: {why}");
    if Key::decode(bytes).map_err(unread)?.kind != Kind::State {
        return Ok(None);
    }
    let entry = record.value().map(state::decode).transpose().map_err(unread)?;
    Ok(Some(Change { key: Arc::from(bytes), entry, number: 0 }))
}
