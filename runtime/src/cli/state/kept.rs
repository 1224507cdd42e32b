//! The topics that a pipeline's state is in, and what they hold.

use super::found::{Found, Id, Last};
use crate::cli::broker::{self, One};
use crate::cli::quiet::Quiet;
use crate::cli::terminal::{Progress, counted, say};
use crate::cli::{Config, WrongUse};
use keyrail::broker::client::{Client, Topic};
use keyrail::broker::partitioner::partition_of;
use keyrail::config::Pipeline;
use keyrail::pipeline::Code;
use keyrail::record::TopicPartition;
use keyrail::signature::Trust;
use std::time::Duration;

/// How long one look for records takes at most.
const LOOK: Duration = Duration::from_millis(100);

/// See the module.
pub(in crate::cli) struct Kept {
    pub(in crate::cli) pipeline: Pipeline,
    client: Box<dyn Client>,
    /// After an outage a reader goes on by itself.
    comes_back: bool,
    /// Inputs whose state is looked at, and the topics that it is in.
    topics: Vec<(String, Topic)>,
    names: Vec<String>,
}

impl Kept {
    /// Where the state of a pipeline is; with `inputs`, of these alone.
    pub(in crate::cli) fn open(config: &Config, name: &str, inputs: &[String]) -> anyhow::Result<Self> {
        let one = One::open(config, name, |pipeline| stateful(pipeline).map(drop))?;
        let (pipeline, comes_back, place) = (stateful(&one.pipeline)?, one.comes_back(), one.client.place());
        let One { client, all, .. } = one;
        broker::check_inputs(&pipeline, inputs)?;
        let own = pipeline.state.iter().flat_map(|state| &state.topics);
        // Where all inputs share their keys their state is one.
        let all_of_it = inputs.is_empty() || pipeline.owners().len() < pipeline.input.len();
        let wanted = pipeline.input.iter().zip(own).filter(|(input, _)| all_of_it || inputs.contains(input));
        let (mut topics, mut missing) = (Vec::new(), Vec::new());
        for (input, own) in wanted {
            match all.iter().find(|topic| topic.name == *own) {
                Some(topic) => topics.push((input.clone(), topic.clone())),
                None => missing.push(own.clone()),
            }
        }
        if topics.is_empty() {
            anyhow::bail!(nothing_yet(&pipeline, &missing, &place));
        }
        for topic in missing {
            say(&format!("keyrail: there is no topic {topic:?} at {place} yet, so nothing of its input is shown"));
        }
        let names = topics.iter().map(|(_, topic)| topic.name.clone()).collect();
        Ok(Self { pipeline, client, comes_back, topics, names })
    }

    /// All partitions, or those that are wanted.
    pub(in crate::cli) fn partitions(&self, wanted: &[i32]) -> Result<Vec<TopicPartition>, WrongUse> {
        let most = self.topics.iter().map(|(_, topic)| topic).max_by_key(|topic| topic.partitions);
        if let Some(topic) = most
            && let Some(number) = wanted.iter().find(|number| **number >= topic.partitions)
        {
            return Err(broker::no_partition(*number, &topic.name, topic.partitions));
        }
        let mut all = self.all();
        all.retain(|at| wanted.is_empty() || wanted.contains(&at.partition));
        Ok(all)
    }

    /// The partitions that the partitioner gives to a key, and the others.
    pub(in crate::cli) fn partitions_of(&self, key: &[u8]) -> (Vec<TopicPartition>, Vec<TopicPartition>) {
        let count = |at: &TopicPartition| self.topics.get(at.topic as usize).map_or(1, |(_, topic)| topic.partitions);
        self.all().into_iter().partition(|at| partition_of(key, count(at)) == at.partition)
    }

    fn all(&self) -> Vec<TopicPartition> {
        let of = |(topic, (_, own)): (u32, &(String, Topic))| {
            (0..own.partitions).map(move |partition| TopicPartition { topic, partition })
        };
        (0..).zip(&self.topics).flat_map(of).collect()
    }

    /// Reads partitions from their start to what is their end now.
    pub(in crate::cli) fn read(&mut self, places: &[TopicPartition], found: &mut Found) -> anyhow::Result<()> {
        let mut spans = Vec::new();
        for (index, name) in (0_u32..).zip(&self.names) {
            let of_topic = places.iter().filter(|at| at.topic == index);
            let numbers: Vec<i32> = of_topic.clone().map(|at| at.partition).collect();
            if !numbers.is_empty() {
                spans.extend(of_topic.copied().zip(self.client.bounds(name, &numbers)?));
            }
        }
        spans.retain(|(_, bounds)| bounds.start < bounds.end);
        if spans.is_empty() {
            return Ok(());
        }
        let starts: Vec<_> = spans.iter().map(|(at, bounds)| (*at, bounds.start)).collect();
        let mut reader = self.client.read(&self.names, &starts)?;
        let (mut records, mut count) = (Vec::new(), 0);
        let (mut quiet, mut progress) = (Quiet::new(false, self.comes_back), Progress::new());
        while !spans.iter().all(|(at, bounds)| reader.has_passed(*at, bounds.end)) {
            records.clear();
            let read = reader.next(LOOK, &mut records);
            quiet.after(read, records.is_empty())?;
            records.iter().for_each(|record| found.take(record));
            count += records.len() as u64;
            progress.show(|| format!("{} read", counted(count, "record")));
        }
        Ok(())
    }

    /// The input that state belongs to, and the partition, as messages are told of.
    pub(in crate::cli) fn at(&self, at: TopicPartition) -> String {
        format!("{}/{}", self.input(at), at.partition)
    }

    pub(in crate::cli) fn input(&self, at: TopicPartition) -> &str {
        self.topics.get(at.topic as usize).map_or("?", |(input, _)| input)
    }

    /// Tells of values that can't be read. `true`: there is none.
    pub(in crate::cli) fn tell_unreadable(&self, all: &[(&Id, &Last)]) -> bool {
        let mut sound = true;
        for (id, last) in all {
            let Err(why) = &last.entry else { continue };
            let topic = self.names.get(id.at.topic as usize).map_or("?", String::as_str);
            say(&format!(
                "keyrail: {topic}/{} holds at offset {} what Keyrail did not write ({why}): what {:?} is can't be told",
                id.at.partition, last.offset, id.name
            ));
            sound = false;
        }
        sound
    }

    pub(in crate::cli) fn tell_strangers(&self, found: &Found) {
        if found.strangers > 0 {
            let count = counted(found.strangers, "record");
            let names = self.names.join(", ");
            say(&format!("keyrail: {count} of {names} passed over: Keyrail did not write them"));
        }
    }
}

/// The pipeline with the topics that its state would be in, whatever its handler asks for now.
fn stateful(pipeline: &Pipeline) -> anyhow::Result<Pipeline> {
    let name = &pipeline.name;
    let found = pipeline.clone().with_state().map_err(|why| anyhow::anyhow!("{name}: {why}"))?;
    if found.state.is_some() {
        return Ok(found);
    }
    let why = "state belongs to an order key, and with order.by = \"none\" messages have none";
    Err(WrongUse(format!("{name} keeps no state: {why}")).into())
}

/// Why there is no topic of state.
fn nothing_yet(pipeline: &Pipeline, missing: &[String], place: &str) -> String {
    let name = &pipeline.name;
    let Some(topic) = missing.first() else {
        return format!("{name} has no input yet: there is no topic at {place} that its patterns match");
    };
    let plain = Pipeline { state: None, ..pipeline.clone() };
    match Code::bare(pipeline, &Trust::default()).and_then(|code| code.complete(plain)) {
        Ok(completed) if completed.state.is_none() => {
            format!(
                "{name} keeps no state: its handler does not ask for any, and there is no topic {topic:?} at {place}"
            )
        }
        Ok(_) => format!(
            "there is no topic {topic:?} at {place} yet: the pipeline's start makes it, or `keyrail topics --create`"
        ),
        Err(why) => format!("there is no topic {topic:?} at {place}, and its handler {why}"),
    }
}
