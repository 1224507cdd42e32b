//! The retry topics of a pipeline: looked for at each start and assignment, made when the first message is to be parked. With
//! at-least-once they are made at the start: to start anew for them would repeat what had settled and was not committed.
//!
//! A pipeline that never parked anything has none, and needs none. One that runs without knowing them starts anew as soon as
//! they are there: what is parked must be known before a partition runs.

use super::process::{needed, needed_to_park, told};
use super::{Parts, Trouble, trouble};
use crate::broker::topics::{NeededTopic, TopicRole};
use crate::broker::{Broker, BrokerError};
use keyrail_engine::policy::Guarantee;
use std::sync::Arc;
use std::time::Duration;

/// One question to the broker.
const ASK: Duration = Duration::from_secs(10);

/// Those of one pipeline.
pub(super) struct RetryTopics {
    broker: Arc<dyn Broker>,
    needed: Vec<NeededTopic>,
    inboxes: Vec<String>,
    /// Their inputs, which tell the number of partitions.
    inputs: Vec<NeededTopic>,
}

impl RetryTopics {
    pub(super) fn of(parts: &Parts) -> Self {
        let inputs = needed(&parts.manifest).into_iter().filter(|topic| topic.role == TopicRole::Input).collect();
        let inboxes = parts.manifest.parked.as_ref().map(|parked| parked.inboxes.clone()).unwrap_or_default();
        Self { broker: parts.broker.clone(), needed: needed_to_park(&parts.manifest), inboxes, inputs }
    }

    /// Whether there is one of them: then something is parked, or was. Or an inbox: what a command sends back is parked.
    pub(super) fn are_there(&self) -> Result<bool, BrokerError> {
        let names = self.broker.topic_names(ASK)?;
        let own = self.needed.iter().map(|topic| &topic.name).chain(&self.inboxes);
        Ok(own.into_iter().any(|name| names.contains(name)))
    }

    /// Makes those that are missing, and looks whether the others fit.
    pub(super) fn make(&self) -> Result<(), Trouble> {
        let all: Vec<NeededTopic> = self.inputs.iter().chain(&self.needed).cloned().collect();
        let problems = self.broker.ensure(&all, ASK).map_err(trouble)?;
        if problems.is_empty() {
            return Ok(());
        }
        let all: Vec<String> = problems.into_iter().map(told).collect();
        Err(Trouble::Operator(all.join("\n")))
    }
}

/// The pipeline as it starts now: where nothing was ever parked, it knows of no retry topics. `made`: they were just made.
pub(super) fn with_topics_there(parts: &Parts, made: bool) -> Result<Parts, Trouble> {
    let mut manifest = parts.manifest.clone();
    if manifest.parked.is_some() {
        let topics = RetryTopics::of(parts);
        let repeats = manifest.policy.guarantee == Guarantee::AtLeastOnce;
        if made || repeats || topics.are_there().map_err(trouble)? {
            topics.make()?;
        } else {
            manifest.parked = None;
        }
    }
    Ok(Parts {
        manifest,
        serving: parts.serving.clone(),
        broker: parts.broker.clone(),
        budget: parts.budget.clone(),
        fresh: parts.fresh.clone(),
    })
}
