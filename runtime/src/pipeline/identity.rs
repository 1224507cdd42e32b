//! Before partitions start: whether their internal topics, their order and their group are still those of the last commit. What is
//! not is refused, with the command that mends it. The engine decides ([`keyrail_engine::identity`]); here the broker is asked.

use super::consumer::Worker;
use super::link::to_engine;
use super::{Parts, Trouble, trouble};
use crate::broker::client::Client;
use crate::broker::standing::{Ask, standing};
use crate::broker::{Broker, BrokerError, BrokerErrorKind};
use crate::config;
use crate::record::TopicPartition;
use keyrail_engine::identity::{Change, Changes, Present, mark, order_mark};
use keyrail_engine::intake::Opened;
use keyrail_engine::message::Partition;
use keyrail_engine::policy::Policy;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A broker that was just told of a topic, or has just started, knows it within this time.
const LISTED: Duration = Duration::from_secs(10);
/// All questions of one assignment; shorter than `max.poll.interval.ms`, since nobody polls meanwhile.
const LIMIT: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(500);

/// The internal topics of one pipeline, as they are named.
pub(super) struct Internals {
    broker: Arc<dyn Broker>,
    client: Option<Box<dyn Client>>,
    pipeline: String,
    group: String,
    policy: Policy,
    order: u32,
    /// Each by the inputs that name them.
    inputs: Vec<String>,
    seen: Option<Vec<String>>,
    state: Option<Vec<String>>,
    /// Also where there is none yet, or no more use for them.
    retry: Vec<String>,
    reads_parked: bool,
    /// Asked at each assignment: a topic may be made anew while nothing of it is read here.
    known: BTreeMap<u32, Present>,
}

/// What must not start, and why.
type Doubt = (Partition, Changes);

impl Internals {
    pub(super) fn of(parts: &Parts) -> Self {
        let manifest = &parts.manifest;
        let names: Vec<&str> = manifest.input.iter().map(String::as_str).collect();
        Self {
            broker: parts.broker.clone(),
            client: None,
            pipeline: manifest.name.clone(),
            group: manifest.group.clone(),
            policy: manifest.policy.clone(),
            order: order_mark(&manifest.policy.order, &names),
            inputs: manifest.input.clone(),
            seen: manifest.seen.as_ref().map(|seen| seen.topics.clone()),
            state: manifest.state.as_ref().map(|state| state.topics.clone()),
            retry: config::retry_topics(manifest),
            reads_parked: manifest.parked.is_some(),
            known: BTreeMap::new(),
        }
    }

    fn client(&mut self) -> Result<&mut Box<dyn Client>, BrokerError> {
        let client = match self.client.take() {
            Some(client) => client,
            None => self.broker.client()?,
        };
        Ok(self.client.insert(client))
    }

    /// The topics of tasks that this input names.
    fn present(&mut self, input: u32) -> Result<Present, BrokerError> {
        if let Some(known) = self.known.get(&input) {
            return Ok(*known);
        }
        let of = |topics: &Option<Vec<String>>| topics.as_ref().and_then(|all| all.get(input as usize)).cloned();
        let retry = if self.reads_parked { self.retry.get(input as usize).cloned() } else { None };
        let names = [of(&self.seen), of(&self.state), retry];
        let mut marks = [None; 3];
        for (name, found) in names.iter().zip(&mut marks) {
            if let Some(name) = name {
                *found = Some(mark(self.client()?.log_of(name)?));
            }
        }
        let [seen, state, retry] = marks;
        let present = Present { seen, state, retry, order: self.order };
        self.known.insert(input, present);
        Ok(present)
    }

    fn input(&self, partition: Partition) -> String {
        let name = self.inputs.get(partition.topic as usize).map_or("?", String::as_str);
        format!("{name}/{}", partition.number)
    }

    /// What names the topics of the partition's task.
    fn task(&self, partition: Partition) -> Partition {
        self.policy.order.task(partition)
    }

    fn topic(&self, of: Option<&Vec<String>>, partition: Partition) -> Option<String> {
        of?.get(self.task(partition).topic as usize).cloned()
    }

    /// The command that goes on where the group is, with what is kept or without.
    fn rewind(&self, what: &str) -> String {
        let seen = if self.seen.is_some() { format!(" --seen {what}") } else { String::new() };
        let state = if self.state.is_some() { format!(" --state {what}") } else { String::new() };
        format!("keyrail rewind {} --to here{seen}{state}", self.pipeline)
    }

    /// Why the partition does not start, for what needs no look into its topics.
    fn refused(&self, partition: Partition, change: Change) -> Option<String> {
        let input = self.input(partition);
        let (topics, what, gone) = match change {
            Change::Seen => {
                (self.seen.as_ref(), "topic of seen ids", "the ids in it are gone, and what comes twice may run twice")
            }
            Change::State => (self.state.as_ref(), "topic of state", "the state in it is gone"),
            Change::Retry => (Some(&self.retry), "retry topic", "the messages parked in it are gone"),
            _ => return None,
        };
        let topic = self.topic(topics, partition)?;
        Some(format!(
            "{topic}, a {what}, was deleted and made anew since {input} was committed last: {gone}. To go on without them:\n    {}",
            self.rewind("keep")
        ))
    }

    /// The same, where something of it stands in this topic.
    fn refused_for(&self, topic: &str, waits: bool, partition: Partition, change: Change) -> String {
        let (input, group) = (self.input(partition), &self.group);
        match change {
            Change::ParksNoMore => format!(
                "messages of {input} wait in {topic}, and with this manifest nobody reads it: what comes now would overtake them. \
                 Put order.scope = \"topic\" back, and with guarantee = \"at-least-once\" retry.in-place, until none waits"
            ),
            Change::Order if waits => format!(
                "messages of {input} wait in {topic} in the order that [order] said before: order.by, order.null-key, order.scope \
                 or the inputs that share keys have changed since. Put it back until none waits"
            ),
            Change::Order => format!(
                "{topic} was filled under another [order]: order.by, order.null-key, order.scope or the inputs that share keys \
                 have changed since, and what it holds for {input} is of other keys. Put it back, or begin without what is \
                 there:\n    {}",
                self.rewind("forget")
            ),
            _ => format!(
                "nothing that Keyrail committed tells where the group {group:?} is in {input}: its offset expired, was deleted, or \
                 was put down by another tool. {topic} holds what earlier messages left, and what comes again would be applied to it \
                 a second time. To go on where the group is now, with what is kept:\n    {}",
                self.rewind("keep")
            ),
        }
    }
}

impl Worker {
    /// Holds what was committed of partitions against what is there; see [`Opened::identify`]. `again`: whether one is open.
    pub(super) fn identify(
        &mut self,
        partitions: &[TopicPartition],
        all: &mut [Opened],
        again: &dyn Fn(Partition) -> bool,
    ) -> Result<(), Trouble> {
        let Some(mut internals) = self.feed.internals.take() else { return Ok(()) };
        let deadline = Instant::now() + LIMIT;
        let mut doubts = Vec::new();
        if partitions.iter().any(|at| !again(to_engine(*at))) {
            internals.known.clear();
        }
        // Nothing is committed of an input that was seen to be made anew, and that is known.
        let anew = self.anew().clone();
        let known = |partition: Partition| again(partition) || anew.contains(&partition.topic);
        for (at, opened) in partitions.iter().zip(all) {
            let partition = to_engine(*at);
            let input = internals.task(partition).topic;
            let present = self.until(deadline, |_| internals.present(input))?;
            let changes = opened.identify(&internals.policy, &present, known(partition));
            if changes.iter().next().is_some() {
                doubts.push((partition, changes));
            }
        }
        let result = self.judge(&mut internals, &doubts, deadline);
        // A connection that is used once in a while.
        internals.client = None;
        self.feed.internals = Some(internals);
        result
    }

    fn judge(&mut self, internals: &mut Internals, doubts: &[Doubt], deadline: Instant) -> Result<(), Trouble> {
        for (partition, changes) in doubts {
            if let Some(why) = changes.iter().find_map(|change| internals.refused(*partition, change)) {
                return Err(Trouble::Operator(why));
            }
            if changes.has(Change::NoRetryTopic) {
                return Err(self.no_retry_topic(internals, *partition));
            }
        }
        for change in [Change::ParksNoMore, Change::Order, Change::Moved] {
            let own: Vec<Partition> = doubts.iter().filter(|(_, c)| c.has(change)).map(|(p, _)| *p).collect();
            if let Some(why) = self.filled(internals, &own, change, deadline)? {
                return Err(Trouble::Operator(why));
            }
        }
        Ok(())
    }

    /// Messages are parked, and the broker lists no topic for them. It may know it by now, or soon.
    fn no_retry_topic(&self, internals: &mut Internals, partition: Partition) -> Trouble {
        let topic = internals.topic(Some(&internals.retry), partition).unwrap_or_default();
        let (place, input) = (internals.broker.place(), internals.input(partition));
        let until = Instant::now() + LISTED;
        loop {
            self.feed.heartbeat.beat();
            match internals.client().and_then(|client| client.partitions_of(&topic)) {
                Ok(Some(_)) => {
                    return Trouble::Again(format!(
                        "messages of {input} wait in {topic}, which the broker did not list at once"
                    ));
                }
                Err(error) if error.kind == BrokerErrorKind::Operator => {
                    return Trouble::Operator(format!(
                        "messages of {input} wait in {topic}, a retry topic, which must be read before it goes on: {error}. To allow \
                         that:\n    kafka-acls.sh --bootstrap-server {place} --add --allow-principal User:NAME --operation Read \
                         --operation Write --topic {topic}"
                    ));
                }
                Err(error) if Instant::now() >= until => return trouble(error),
                Ok(None) if Instant::now() >= until => {
                    return Trouble::Operator(format!(
                        "messages of {input} wait in {topic}, a retry topic, and there is none of that name at {place}: it was \
                         deleted, or the broker's own list of topics is old (then start the pipeline again). What comes now would \
                         overtake them, so it does not start. To go on without them:\n    {}",
                        internals.rewind("keep")
                    ));
                }
                Ok(None) | Err(_) => {}
            }
            if self.feed.stop.wait(PAUSE) {
                return Trouble::Again(format!("it was asked to stop while it looked for {topic}"));
            }
        }
    }

    /// Why these partitions do not start, where one of their internal topics holds something.
    fn filled(
        &mut self,
        internals: &mut Internals,
        partitions: &[Partition],
        change: Change,
        deadline: Instant,
    ) -> Result<Option<String>, Trouble> {
        let mut tasks: BTreeMap<u32, BTreeMap<i32, Partition>> = BTreeMap::new();
        for partition in partitions {
            let task = internals.task(*partition);
            tasks.entry(task.topic).or_default().insert(task.number, *partition);
        }
        for (input, own) in tasks {
            let name = |all: &Vec<String>| all.get(input as usize).cloned();
            // Of what waits only that counts which still does: a retry topic holds what it held for long. Where none was made this
            // user may lack the right to ask for it.
            let asked = internals.reads_parked || change == Change::ParksNoMore;
            let retry = name(&internals.retry).filter(|_| asked).map(|topic| (topic, Ask::Keys));
            let kept = [internals.seen.as_ref(), internals.state.as_ref()];
            let kept = kept.into_iter().flatten().filter_map(name).map(|topic| (topic, Ask::Some));
            let kept: Vec<_> = kept.filter(|_| change != Change::ParksNoMore).collect();
            for (topic, ask) in retry.into_iter().chain(kept) {
                let numbers: Vec<i32> = own.keys().copied().collect();
                let found = self.until(deadline, |worker| {
                    let feed = &worker.feed;
                    let mut goes_on = || {
                        feed.heartbeat.beat();
                        Instant::now() < deadline && !feed.stop.requested()
                    };
                    standing(internals.client()?.as_mut(), &topic, &numbers, ask, &mut goes_on)
                })?;
                let first = found.iter().find(|(_, count)| **count > 0).and_then(|(number, _)| own.get(number));
                if let Some(partition) = first {
                    return Ok(Some(internals.refused_for(&topic, ask == Ask::Keys, *partition, change)));
                }
            }
        }
        Ok(None)
    }
}
