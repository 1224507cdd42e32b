//! Commands to whoever owns a partition, and the answers: through the inbox, so they work from anywhere, while the pipeline
//! runs and while its partitions move.

use super::topics::largest;
use super::{WrongUse, broker, place, quiet::Quiet, variable};
use anyhow::Context as _;
use keyrail::broker::Produce;
use keyrail::broker::client::{Client, NewTopic, Reader, Topic};
use keyrail::broker::topics::Kept;
use keyrail::config::Pipeline;
use keyrail::record::{Record, TopicPartition};
use keyrail_engine::inbox::{self, Answer, COMMAND, CommandId, Deed, Entry};
use keyrail_engine::message::Failure;
use keyrail_engine::parking::Origin;
use keyrail_engine::timers;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

/// How long one look for answers takes at most.
const LOOK: Duration = Duration::from_millis(100);

/// Where a message was first read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct MessageAt {
    /// The input.
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) offset: i64,
}

impl std::fmt::Display for MessageAt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.topic, self.partition, self.offset)
    }
}

/// Reads `[TOPIC:]PARTITION:OFFSET`; the topic may be left out where there is one input.
pub(super) fn message_at(written: &str, pipeline: &Pipeline) -> Result<MessageAt, WrongUse> {
    let wrong =
        |why: &str| WrongUse(format!("{written:?} {why}: write TOPIC:PARTITION:OFFSET, as `parked list` shows it"));
    let (place, offset) = written.rsplit_once(':').ok_or_else(|| wrong("is no place of a message"))?;
    let (topic, partition) = match (place.rsplit_once(':'), pipeline.input.as_slice()) {
        (Some((topic, partition)), _) => (topic.to_owned(), partition),
        (None, [only]) => (only.clone(), place),
        (None, _) => return Err(wrong("names no topic, and there are several inputs")),
    };
    broker::check_inputs(pipeline, std::slice::from_ref(&topic))?;
    let partition = partition.parse::<i32>().ok().filter(|number| *number >= 0);
    let partition = partition.ok_or_else(|| wrong("has no partition"))?;
    // Below stand timers.
    let offset = offset.parse::<i64>().ok().filter(|offset| *offset >= 0 || timers::is_number(*offset));
    let offset = offset.ok_or_else(|| wrong("has no offset"))?;
    Ok(MessageAt { topic, partition, offset })
}

/// What became of a command: `None`: nobody has answered.
pub(super) type Answered = (MessageAt, Option<Answer>);

/// The inboxes of one pipeline.
pub(super) struct Hands<'a> {
    client: &'a mut dyn Client,
    pipeline: &'a Pipeline,
    comes_back: bool,
}

impl<'a> Hands<'a> {
    /// Refuses a pipeline in which nothing is ever parked.
    pub(super) fn of(client: &'a mut dyn Client, comes_back: bool, pipeline: &'a Pipeline) -> Result<Self, WrongUse> {
        if !pipeline.policy.takes_commands() {
            return Err(WrongUse(format!("{}: {}", pipeline.name, inbox::Refused::NoParking)));
        }
        Ok(Self { client, pipeline, comes_back })
    }

    fn inbox(&self, input: &str) -> anyhow::Result<(u32, String)> {
        let inboxes = self.pipeline.parked.iter().flat_map(|parked| &parked.inboxes);
        let found = (0_u32..).zip(self.pipeline.input.iter().zip(inboxes)).find(|(_, (own, _))| *own == input);
        let (index, (_, inbox)) = found.with_context(|| format!("{input:?} is no input of {}", self.pipeline.name))?;
        Ok((index, inbox.clone()))
    }

    /// Makes the inboxes that are missing, of these inputs, with as many partitions as the inputs have.
    /// `there`: all topics that are.
    pub(super) fn make_inboxes(&mut self, inputs: &BTreeSet<&str>, there: &[Topic]) -> anyhow::Result<()> {
        let place = self.client.place();
        for input in inputs {
            let (_, name) = self.inbox(input)?;
            let of = |wanted: &str| there.iter().find(|topic| topic.name == wanted).map(|topic| topic.partitions);
            let partitions = of(input).with_context(|| format!("the input {input:?} is not there at {place}"))?;
            match of(&name) {
                Some(has) if has == partitions => {}
                Some(has) => anyhow::bail!(
                    "{name}, an inbox, has {has} partitions and {input} has {partitions}: delete it once nothing in it is \
                     wanted, and this command makes it anew"
                ),
                None => {
                    let limit = largest(self.client, input)?;
                    let settings = Kept::Commands.settings(self.comes_back, limit);
                    let new = NewTopic { name: name.clone(), partitions: Some(partitions), settings };
                    self.client.create_topic(&new).with_context(|| format!("{name}, the inbox, can't be made"))?;
                }
            }
        }
        Ok(())
    }

    /// Writes these commands, and waits until all are answered, or for so long. The inboxes are there: see [`Hands::make_inboxes`].
    pub(super) fn order(
        &mut self,
        deed: &Deed<(&Failure, &Record)>,
        messages: &[MessageAt],
        wait: Duration,
    ) -> anyhow::Result<Vec<Answered>> {
        let mut reader = self.answers(messages)?;
        let mut waiting = BTreeMap::new();
        let mut records = Vec::with_capacity(messages.len());
        for at in messages {
            let (_, topic) = self.inbox(&at.topic)?;
            let id = new_id();
            let origin = Origin { topic: &at.topic, partition: at.partition, offset: at.offset };
            records.push((topic, at.partition, inbox::key(COMMAND, id), inbox::encode(true, &origin, deed)));
            waiting.insert(id, at.clone());
        }
        let produce: Vec<Produce<'_>> = records
            .iter()
            .map(|(topic, partition, key, value)| Produce {
                topic,
                partition: Some(*partition),
                key: Some(key),
                value: Some(value),
                headers: &[],
                timestamp_ms: Some(place::now_ms()),
            })
            .collect();
        for result in self.client.produce(&produce)? {
            result.map_err(|refusal| anyhow::anyhow!("a command is not taken: {refusal:?}"))?;
        }
        let mut answered = Vec::with_capacity(messages.len());
        let (until, mut quiet) = (Instant::now() + wait, Quiet::new(true, self.comes_back));
        let mut records = Vec::new();
        while !waiting.is_empty() && Instant::now() < until {
            records.clear();
            let read = reader.next(LOOK, &mut records);
            quiet.after(read, records.is_empty())?;
            for record in &records {
                let entry = inbox::decode(record.key().unwrap_or_default(), record.value().unwrap_or_default());
                if let Ok(Entry::Answer(id, answer)) = entry
                    && let Some(at) = waiting.remove(&id)
                {
                    answered.push((at, Some(answer)));
                }
            }
        }
        answered.extend(waiting.into_values().map(|at| (at, None)));
        answered.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(answered)
    }

    /// Reads the inboxes of these messages from their present ends on.
    fn answers(&mut self, messages: &[MessageAt]) -> anyhow::Result<Box<dyn Reader>> {
        let mut wanted: BTreeMap<u32, BTreeSet<i32>> = BTreeMap::new();
        for at in messages {
            wanted.entry(self.inbox(&at.topic)?.0).or_default().insert(at.partition);
        }
        let names: Vec<String> =
            self.pipeline.parked.iter().flat_map(|parked| parked.inboxes.iter().cloned()).collect();
        let mut starts = Vec::new();
        for (topic, partitions) in wanted {
            let numbers: Vec<i32> = partitions.into_iter().collect();
            let name = names.get(topic as usize).map_or("", String::as_str);
            let bounds = self.client.bounds(name, &numbers)?;
            let of = |(partition, end)| (TopicPartition { topic, partition }, end);
            starts.extend(numbers.iter().copied().zip(bounds.iter().map(|b| b.end)).map(of));
        }
        Ok(self.client.read(&names, &starts)?)
    }
}

/// Chance from the operating system, as the standard library gets it for its hash tables.
pub(super) fn new_id() -> CommandId {
    let half = || RandomState::new().hash_one(0).to_be_bytes();
    let mut id = [0; 16];
    id[..8].copy_from_slice(&half());
    id[8..].copy_from_slice(&half());
    CommandId(id)
}

/// Who does it, as the machine knows: the user's name, and the host's.
pub(super) fn who() -> String {
    let cut = |text: String| text.trim().chars().filter(|c| !c.is_control()).take(48).collect::<String>();
    let user = variable("USER").or_else(|| variable("LOGNAME")).unwrap_or_else(|| "?".to_owned());
    // What is not told is not known; nothing depends on it.
    let host = std::fs::read_to_string("/etc/hostname").ok().or_else(|| variable("HOSTNAME"));
    format!("{}@{}", cut(user), cut(host.unwrap_or_else(|| "?".to_owned())))
}
