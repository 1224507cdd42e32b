//! Where letters go, and whether they may.

use super::plan::Plan;
use crate::cli::dlq::letter::{DELAYED, Header, Letter, TIMER};
use crate::cli::dlq::source::Source;
use crate::cli::hands::{MessageAt, new_id};
use crate::cli::terminal::counted;
use crate::cli::{broker, place};
use keyrail::broker::client::Topic;
use keyrail::config::{Pipeline, is_internal};
use keyrail::record::{Record, RecordBuilder, TopicPartition};
use keyrail_engine::inbox::{self, Deed};
use keyrail_engine::message::Failure;
use keyrail_engine::parking::Origin;
use keyrail_engine::policy::{Dedup, IdFrom};
use std::collections::BTreeMap;

/// So many topics are written at once, at most.
const MOST: usize = 256;

/// As it was asked for.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum To {
    /// Back to where each died, or was first read.
    Origin,
    Topic(String),
    /// Through the inboxes of this pipeline, behind what waits of each key.
    Lane(Box<Pipeline>),
}

/// See the module.
pub(super) struct Targets {
    to: To,
    by_key: bool,
    place: String,
    /// All topics that are there, with their partitions.
    all: Vec<Topic>,
    letters: Vec<String>,
    known: Vec<Pipeline>,
    /// What is written, and how many partitions it has; `None`: it is not there.
    found: BTreeMap<String, Option<i32>>,
    /// There are more than can be written.
    too_many: bool,
    /// Letters that don't say where they come from.
    homeless: u64,
    /// Letters that were timers or delayed sends, where they would come back as messages.
    unread: u64,
    /// By pipeline: letters that it would take for duplicates.
    duplicates: BTreeMap<String, u64>,
    now_ms: i64,
}

impl Targets {
    /// Refuses a topic that nothing may be sent back to.
    pub(super) fn new(source: &Source, to: To, by_key: bool) -> anyhow::Result<Self> {
        let letters = source.topics.iter().map(|topic| topic.name.clone());
        let own = source.known.iter().flat_map(|pipeline| pipeline.dead_letter.topics.clone());
        let targets = Self {
            to,
            by_key,
            place: source.client.place(),
            all: source.all.clone(),
            letters: letters.chain(own).collect(),
            known: source.known.clone(),
            found: BTreeMap::new(),
            too_many: false,
            homeless: 0,
            unread: 0,
            duplicates: BTreeMap::new(),
            now_ms: place::now_ms(),
        };
        if let To::Topic(name) = &targets.to {
            targets.may_take(name)?;
        }
        Ok(targets)
    }

    /// The topic that a letter goes to; `None`: it does not say where it comes from. `input`: whose letters alone are here.
    pub(super) fn of(&self, letter: &Letter, input: Option<&str>) -> Option<String> {
        match &self.to {
            To::Topic(name) => return Some(name.clone()),
            To::Lane(pipeline) => return lane_of(pipeline, letter).map(|(inbox, _)| inbox),
            To::Origin => {}
        }
        // The first origin is kept for ever, so it may be of another pipeline: the letter died in the input whose letters
        // these are.
        input.or_else(|| letter.origin.as_ref().map(|origin| origin.topic.as_str())).map(str::to_owned)
    }

    /// The partition for a letter; `None`: the key decides. A message goes where it was read, since there its key's other
    /// messages, state and ids are, wherever its producer put the key.
    pub(super) fn partition(&self, letter: &Letter, target: &str) -> Option<i32> {
        if let To::Lane(pipeline) = &self.to {
            return lane_of(pipeline, letter).map(|(_, at)| at.partition);
        }
        let count = self.found.get(target).copied().flatten()?;
        let origin = letter.origin.as_ref().filter(|origin| origin.topic == target && !self.by_key)?;
        origin.partition.filter(|partition| *partition < count)
    }

    /// The command that sends a letter back to its lane, as a record's key and value; `None`: it goes to a topic.
    pub(super) fn command(
        &self,
        record: &Record,
        letter: &Letter,
        headers: &[Header<'_>],
    ) -> Option<(Vec<u8>, Vec<u8>)> {
        let To::Lane(pipeline) = &self.to else { return None };
        let (_, MessageAt { topic, partition, offset }) = lane_of(pipeline, letter)?;
        let mut builder = RecordBuilder::new(record.key(), record.value());
        headers.iter().for_each(|(name, value)| builder.header(name, *value));
        let timestamp_ms = letter.origin.as_ref().and_then(|origin| origin.timestamp).unwrap_or(record.timestamp_ms);
        let message = builder.build(TopicPartition { topic: 0, partition }, offset, timestamp_ms);
        let detail = letter.cause.as_ref().and_then(|cause| cause.detail.clone()).unwrap_or_default();
        let failure = Failure { code: letter.code().to_owned(), detail };
        let origin = Origin { topic: &topic, partition, offset };
        // There are as many as there are letters: nobody waits for the answers; what is refused is answered and logged.
        let value = inbox::encode(false, &origin, &Deed::Redrive((&failure, &message)));
        Some((inbox::key(inbox::COMMAND, new_id()).to_vec(), value))
    }

    /// Takes note of what a letter needs.
    pub(super) fn look(&mut self, record: &Record, letter: &Letter, target: Option<&str>, letters: &str) {
        let Some(target) = target else {
            self.homeless += 1;
            return;
        };
        let never_read = [TIMER, DELAYED].iter().any(|name| record.header(name.as_bytes()).is_some());
        self.unread += u64::from(never_read && !matches!(self.to, To::Topic(_)));
        if matches!(self.to, To::Lane(_)) {
            // It was made, with as many partitions as its input has.
            self.found.insert(target.to_owned(), None);
            return;
        }
        if !self.found.contains_key(target) {
            if self.found.len() >= MOST {
                self.too_many = true;
                return;
            }
            let topic = self.all.iter().find(|topic| topic.name == target);
            self.found.insert(target.to_owned(), topic.map(|topic| topic.partitions));
        }
        let now_ms = self.now_ms;
        let takes = self.known.iter().filter(|pipeline| pipeline.input.iter().any(|input| input == target));
        for pipeline in takes {
            let wrote = match letter.cause.as_ref().and_then(|cause| cause.group.as_ref()) {
                Some(group) => *group == pipeline.group,
                None => pipeline.dead_letter.topics.iter().any(|topic| topic == letters),
            };
            let seen = pipeline.policy.dedup.as_ref().is_some_and(|dedup| is_seen(dedup, record, now_ms));
            if wrote && seen {
                *self.duplicates.entry(pipeline.name.clone()).or_default() += 1;
            }
        }
    }

    /// Refuses, once all letters were looked at.
    pub(super) fn check(&self, plan: &Plan) -> anyhow::Result<()> {
        if plan.letters == 0 {
            return Ok(());
        }
        if self.unread > 0 {
            anyhow::bail!(
                "{} were timers, or delayed sends: sent back, they would come as messages of the input. Send them elsewhere with --to TOPIC, or \
                 choose others",
                counted(self.unread, "letter")
            );
        }
        if let (To::Lane(pipeline), 1..) = (&self.to, self.homeless) {
            anyhow::bail!(
                "{} don't say where in an input of {} they were first read, so they have no lane there: without --lane they go to a \
                 topic, or leave them out with --origin TOPIC",
                counted(self.homeless, "letter"),
                pipeline.name
            );
        }
        if matches!(self.to, To::Lane(_)) {
            return Ok(());
        }
        if self.homeless > 0 {
            anyhow::bail!(
                "{} don't say which topic they come from: name one with --to TOPIC, or leave them out with --origin TOPIC",
                counted(self.homeless, "letter")
            );
        }
        if self.too_many {
            anyhow::bail!("the letters come from more than {MOST} topics: choose some with --origin TOPIC");
        }
        for name in self.found.keys() {
            self.may_take(name)?;
        }
        if let Some((name, count)) = self.duplicates.iter().next() {
            let window = self.known.iter().find(|p| p.name == *name).and_then(|p| p.policy.dedup.as_ref());
            let window = window.map_or(0, |dedup| dedup.window_ms / 60_000);
            anyhow::bail!(
                "{name} has seen the ids of {}, so it would take them for duplicates and drop them: [dedup] remembers each for \
                 {window} minutes after it became a dead letter. Send them back with --lane, which is no duplicate to it, \
                 older ones with --until, or to another topic with --to",
                counted(*count, "letter")
            );
        }
        Ok(())
    }

    fn may_take(&self, name: &str) -> anyhow::Result<()> {
        if self.letters.iter().any(|letters| letters == name) {
            anyhow::bail!(
                "{name:?} is a topic of dead letters itself: what is sent there would be sent back again and again"
            );
        }
        if is_internal(name) {
            anyhow::bail!("{name:?} is internal to Kafka or to a pipeline: nothing may be sent there");
        }
        if !self.all.iter().any(|topic| topic.name == name) {
            anyhow::bail!(broker::missing(name, &self.place, &self.all));
        }
        Ok(())
    }

    /// The topics that are written.
    pub(super) fn written(&self) -> Vec<&str> {
        self.found.keys().map(String::as_str).collect()
    }
}

/// The inbox through which a letter comes back to its lane, and where it was first read.
fn lane_of(pipeline: &Pipeline, letter: &Letter) -> Option<(String, MessageAt)> {
    let origin = letter.origin.as_ref()?;
    let inboxes = pipeline.parked.iter().flat_map(|parked| &parked.inboxes);
    let (_, inbox) = pipeline.input.iter().zip(inboxes).find(|(input, _)| **input == origin.topic)?;
    let (partition, offset) = (origin.partition?, origin.offset?);
    let at = MessageAt { topic: origin.topic.clone(), partition, offset };
    (partition >= 0 && offset >= 0).then(|| (inbox.clone(), at))
}

/// Whether a letter's id was seen, and still is. A digest is of another message: what is sent back has other headers.
fn is_seen(dedup: &Dedup, record: &Record, now_ms: i64) -> bool {
    let has_id = match &dedup.id {
        IdFrom::Header(name) => record.header(name.as_bytes()).flatten().is_some(),
        IdFrom::Key => record.key().is_some(),
        IdFrom::Digest => false,
    };
    let age_ms = now_ms.saturating_sub(record.timestamp_ms);
    has_id && (record.timestamp_ms < 0 || age_ms < i64::try_from(dedup.window_ms).unwrap_or(i64::MAX))
}
