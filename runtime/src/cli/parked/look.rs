//! `keyrail parked list` and `show`: messages that wait in retry topics, from these alone.

use super::lanes::{Key, Lane, Lanes};
use super::live::{Found, Live};
use super::show::{Messages, Odd, Shown};
use crate::cli::broker::{self, One};
use crate::cli::decode::Decode;
use crate::cli::terminal::{self, counted, say};
use crate::cli::{Config, Exit, line, place};
use clap::Args;
use keyrail::broker::client::{Client, Topic};
use keyrail::config::Pipeline;
use keyrail::record::TopicPartition;
use keyrail_engine::parking::{Envelope, HELD};
use serde::Serialize;

/// Where parked messages are looked for.
#[derive(Debug, Args)]
pub(super) struct Place {
    /// Only messages of this input topic; may be repeated
    #[arg(long, value_name = "TOPIC")]
    pub(super) topic: Vec<String>,
    /// Only this partition; may be repeated
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    pub(super) partition: Vec<i32>,
    /// Keys are given as base64
    #[arg(long)]
    base64: bool,
    #[command(flatten)]
    pub(super) config: Config,
    /// Print JSON for programs
    #[arg(long)]
    pub(super) json: bool,
}

/// Options that choose keys. Of one kind any may hold, of different kinds all must.
#[derive(Debug, Args, Serialize)]
pub(super) struct Choice {
    /// Only this order key; may be repeated
    #[arg(long)]
    key: Vec<String>,
    /// Only keys whose first message failed with this code; may be repeated
    #[arg(long)]
    code: Vec<String>,
    /// Only keys of which something has waited for so long, as 15m (units: s, m, h, d)
    #[arg(long, value_name = "AGE", value_parser = age)]
    older: Option<i64>,
    /// Only keys whose first message is held (retry.then = "hold")
    #[arg(long)]
    held: bool,
}

impl Choice {
    /// The key's first message, and its age, are as wanted.
    pub(super) fn wants(&self, lane: &Lane) -> bool {
        (self.code.is_empty() || self.code.contains(&lane.code))
            && self.older.is_none_or(|at| lane.since_ms <= at)
            && (!self.held || lane.due_ms == HELD)
    }
}

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// The pipeline
    pipeline: String,
    #[command(flatten)]
    choice: Choice,
    /// So many keys at most
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    limit: usize,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// The pipeline
    pipeline: String,
    /// The order key: the messages' key, or their header that order.by names
    #[arg(required_unless_present_any = ["whole_partition", "offset"])]
    key: Option<String>,
    /// Instead of a key: what waits for its whole partition, as with order.by = "partition"
    #[arg(long, conflicts_with = "key")]
    whole_partition: bool,
    /// Instead of a key: the message that was read at this offset, as of those without a key
    #[arg(long, value_name = "N", conflicts_with_all = ["key", "whole_partition"])]
    offset: Option<i64>,
    /// How keys and values are shown
    #[arg(long, value_name = "HOW", default_value = "auto")]
    decode: Decode,
    /// So many messages at most
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,
    #[command(flatten)]
    place: Place,
}

/// The time before which something must have waited.
fn age(written: &str) -> Result<i64, String> {
    match place::parse(written) {
        Ok(place::Place::Time(ms)) => Ok(ms),
        _ => Err("write how long as 15m (units: s, m, h, d), or a time as 2026-01-31T12:00:00Z".to_owned()),
    }
}

/// The retry topics of a pipeline.
pub(super) struct Kept {
    pub(super) pipeline: Pipeline,
    pub(super) client: Box<dyn Client>,
    pub(super) comes_back: bool,
    /// All topics that are there.
    pub(super) all: Vec<Topic>,
    /// Inputs that are looked at, by their index, and their retry topics.
    topics: Vec<(u32, String, Topic)>,
}

impl Kept {
    pub(super) fn open(name: &str, place: &Place) -> anyhow::Result<Self> {
        let one = One::open(&place.config, name, |_| Ok(()))?;
        let comes_back = one.comes_back();
        let One { pipeline, client, all, .. } = one;
        broker::check_inputs(&pipeline, &place.topic)?;
        let topics = retry_topics(&pipeline, &all, &place.topic);
        Ok(Self { pipeline, client, comes_back, all, topics })
    }

    /// Hands over all that waits: where, and what.
    fn each(
        &mut self,
        partitions: &[i32],
        each: &mut dyn FnMut(&str, TopicPartition, &keyrail::record::Record, Found<'_>),
    ) -> anyhow::Result<()> {
        for (index, input, topic) in &self.topics {
            let wanted = |partition: &i32| partitions.is_empty() || partitions.contains(partition);
            for partition in (0..topic.partitions).filter(wanted) {
                let at = TopicPartition { topic: *index, partition };
                let mut live = Live::new(self.client.as_mut(), &topic.name, input, partition, self.comes_back);
                live.each(&mut |record, found| each(&topic.name, at, record, found))?;
            }
        }
        Ok(())
    }

    /// What waits, by key: of all keys, or of those that are chosen by name.
    pub(super) fn lanes(&mut self, choice: &Choice, place: &Place, odd: &mut Odd) -> anyhow::Result<Lanes> {
        let keys = choice.key.iter().map(|key| line::argument(key, place.base64)).collect::<Result<Vec<_>, _>>()?;
        let mut lanes = Lanes::default();
        let order = self.pipeline.policy.order.clone();
        self.each(&place.partition, &mut |topic, at, record, found| match found {
            Found::Message(offset, Ok(envelope)) => {
                let key = Key::of(&order, &envelope, offset);
                if keys.is_empty() || matches!(&key, Key::Of(key) if keys.contains(key)) {
                    lanes.take(key, at, offset, &envelope, record.timestamp_ms);
                }
            }
            other => odd.take(topic, record, &other),
        })?;
        Ok(lanes)
    }

    /// Hands over all messages that can be read: where each was read first, and what is kept of it.
    pub(super) fn each_message(
        &mut self,
        partitions: &[i32],
        each: &mut dyn FnMut(TopicPartition, i64, &Envelope<'_>),
    ) -> anyhow::Result<()> {
        self.each(partitions, &mut |_, at, _, found| {
            if let Found::Message(offset, Ok(envelope)) = found {
                each(at, offset, &envelope);
            }
        })
    }
}

/// The retry topics that are there, with their inputs and these by their index; with `inputs`, of these alone.
pub(in crate::cli) fn retry_topics(pipeline: &Pipeline, all: &[Topic], inputs: &[String]) -> Vec<(u32, String, Topic)> {
    let own = pipeline.parked.iter().flat_map(|parked| &parked.topics);
    let both = (0..).zip(pipeline.input.iter().zip(own));
    let wanted = both.filter(|(_, (input, _))| inputs.is_empty() || inputs.contains(input));
    let there = |(index, (input, own)): (u32, (&String, &String))| {
        let topic = all.iter().find(|topic| topic.name == *own)?;
        Some((index, input.clone(), topic.clone()))
    };
    wanted.filter_map(there).collect()
}

pub(super) fn list(args: &ListArgs) -> anyhow::Result<Exit> {
    let (mut kept, mut odd) = (Kept::open(&args.pipeline, &args.place)?, Odd::default());
    let lanes = kept.lanes(&args.choice, &args.place, &mut odd)?;
    let mut all = lanes.by_due(&|lane| args.choice.wants(lane));
    let found = all.len();
    all.truncate(args.limit);
    let more = found > all.len() || lanes.is_cut();
    let shown = Shown { pipeline: &kept.pipeline, odd: &odd };
    let text = if args.place.json { shown.json(&all, &lanes, more) } else { shown.table(&all) };
    terminal::print(&text, "what is parked")?;
    if !args.place.json {
        say(&format!(
            "keyrail: {} of {} wait",
            counted(lanes.waiting, "message"),
            if lanes.is_cut() { "many keys".to_owned() } else { counted(lanes.len() as u64, "key") }
        ));
    }
    if lanes.is_cut() {
        say("keyrail: more keys wait than are held in memory here: --key, --topic and --partition choose");
    } else if more {
        say("keyrail: there are more keys than these: --limit shows more, --key, --code and --older choose");
    }
    odd.tell();
    Ok(Exit::of(odd.is_empty()))
}

pub(super) fn show(args: &ShowArgs) -> anyhow::Result<Exit> {
    let wanted = match (&args.key, args.offset) {
        (Some(key), _) => Key::Of(line::argument(key, args.place.base64)?),
        (None, Some(offset)) => Key::Alone(offset),
        (None, None) => Key::Partition,
    };
    let mut kept = Kept::open(&args.pipeline, &args.place)?;
    let order = kept.pipeline.policy.order.clone();
    let (mut messages, mut odd) = (Messages::new(args.limit), Odd::default());
    kept.each(&args.place.partition, &mut |topic, at, record, found| match found {
        Found::Message(offset, Ok(envelope)) => {
            let is = match &wanted {
                Key::Alone(wanted) => offset == *wanted,
                wanted => Key::of(&order, &envelope, offset) == *wanted,
            };
            if is {
                messages.take(at, offset, record);
            }
        }
        other => odd.take(topic, record, &other),
    })?;
    let shown = Shown { pipeline: &kept.pipeline, odd: &odd };
    let text = if args.place.json { shown.messages_json(&messages) } else { shown.messages(&messages, args.decode) };
    terminal::print(&text, "what is parked")?;
    if messages.count == 0 {
        say("keyrail: nothing waits there");
    } else if messages.count > args.limit {
        say(&format!(
            "keyrail: {} more wait: --limit shows more",
            counted((messages.count - args.limit) as u64, "message")
        ));
    }
    odd.tell();
    Ok(Exit::of(odd.is_empty() && messages.count > 0))
}
