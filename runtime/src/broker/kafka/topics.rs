//! Topics that a pipeline needs: looked up, compared, created, or the command to create them.

use super::errors::is_verdict;
use super::native::{Client, Code, Event, Failure, NewTopic, Queue, TopicDescription};
use super::{Place, log};
use crate::broker::topics::{Kept, NeededTopic, TopicProblem, TopicRole, dead_letter_settings, nearest};
use crate::broker::{BrokerError, BrokerErrorKind};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What the broker says of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicInfo {
    /// Its name.
    pub name: String,
    /// How many partitions it has; `None` when it does not exist.
    pub partitions: Option<i32>,
    /// How many brokers have that of its partitions that has fewest copies; `None` when it does not exist.
    pub replicas: Option<i32>,
}

/// A topic's id in 64 bits, never 0.
pub(super) fn short((a, b): (i64, i64)) -> u64 {
    // Random bits, both of them.
    (a ^ b).cast_unsigned().max(1)
}

/// A client for questions about topics. Every call blocks up to the time given.
#[derive(Debug)]
pub struct Topics {
    main: Queue,
    client: Arc<Client>,
    place: Place,
}

/// A broker is waited for in parts of this length, with the client's errors in view between them.
const SLICE: Duration = Duration::from_millis(500);

impl Topics {
    pub(super) fn new(client: Arc<Client>, place: Place) -> Self {
        Self { main: Queue::main(&client), client, place }
    }

    /// Looks topics up, in the order asked. Creates none.
    pub fn describe(&self, names: &[&str], wait: Duration) -> Result<Vec<TopicInfo>, BrokerError> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let found = self.ask("looking up topics", wait, |c, q| c.describe_topics(names, q, wait), |e| e.described())?;
        names.iter().map(|name| self.info(name, &found)).collect()
    }

    fn info(&self, name: &str, found: &[TopicDescription]) -> Result<TopicInfo, BrokerError> {
        let (partitions, replicas) = match found.iter().find(|t| t.name == name).map(|t| (&t.partitions, t.replicas)) {
            Some((Ok(n), replicas)) => (Some(*n), Some(replicas)),
            Some((Err(f), _)) if f.code == Code::UnknownTopicOrPartition => (None, None),
            Some((Err(f), _)) => return Err(self.place.explain(&format!("looking up topic {name:?}"), f)),
            None => (None, None),
        };
        Ok(TopicInfo { name: name.to_owned(), partitions, replicas })
    }

    /// A topic's id, short; 0 where it has none, or there is no such topic.
    pub(super) fn log_of(&self, name: &str, wait: Duration) -> Result<u64, BrokerError> {
        let names = [name];
        let found =
            self.ask("looking up topics", wait, |c, q| c.describe_topics(&names, q, wait), |e| e.described())?;
        let Some(topic) = found.into_iter().find(|topic| topic.name == name) else { return Ok(0) };
        match topic.partitions {
            Err(f) if f.code != Code::UnknownTopicOrPartition => {
                Err(self.place.explain(&format!("looking up topic {name:?}"), &f))
            }
            _ => Ok(topic.id.map_or(0, short)),
        }
    }

    /// The names of all topics that this user may see.
    pub fn names(&self, wait: Duration) -> Result<Vec<String>, BrokerError> {
        Ok(self.all(wait)?.into_iter().map(|(name, _)| name).collect())
    }

    /// The same, each with how many partitions it has.
    pub(super) fn all(&self, wait: Duration) -> Result<Vec<(String, i32)>, BrokerError> {
        self.client.all_topics(wait).map_err(|f| self.told("listing topics", f))
    }

    /// A topic's settings by name, such as `cleanup.policy` and `max.message.bytes`.
    pub fn settings(&self, topic: &str, wait: Duration) -> Result<Vec<(String, String)>, BrokerError> {
        let doing = format!("asking for the settings of {topic:?}");
        let one = |e: &Event<'_>| e.settings()?.into_iter().next().map_or_else(|| Ok(Vec::new()), |(_, all)| all);
        self.ask(&doing, wait, |c, q| c.describe_settings(&[topic], q, wait), one)
    }

    /// The smallest `max.message.bytes` of these topics, of those that tell: the right to ask may be missing.
    pub(super) fn smallest_limit(&self, topics: &[&str], wait: Duration) -> Option<u64> {
        if topics.is_empty() {
            return None;
        }
        let doing = "asking how large a batch may be";
        let all = match self.ask(doing, wait, |c, q| c.describe_settings(topics, q, wait), |e| e.settings()) {
            Ok(all) => all,
            Err(error) => {
                tracing::info!(%error, "the topics' limits are not known; a batch that is refused goes again one by one");
                return None;
            }
        };
        let limit = |(topic, settings): (String, Result<Vec<(String, String)>, Failure>)| match settings {
            Ok(all) => all.iter().find(|(n, _)| n == "max.message.bytes").and_then(|(_, v)| v.parse::<u64>().ok()),
            Err(failure) => {
                let why = failure.reason;
                tracing::info!(
                    topic,
                    why,
                    "the topic's limit is not known; a batch that is refused goes again one by one"
                );
                None
            }
        };
        all.into_iter().filter_map(limit).min()
    }

    /// Makes a topic, with the broker's own replication factor, and waits until it is known. One that exists already is
    /// no error.
    pub fn create(
        &self,
        name: &str,
        partitions: i32,
        settings: &[(String, String)],
        wait: Duration,
    ) -> Result<(), BrokerError> {
        self.make(name, Some(partitions), settings, wait).map(drop)
    }

    /// The same; `None` takes the broker's own number of partitions. `false`: it existed already.
    pub(super) fn make(
        &self,
        name: &str,
        partitions: Option<i32>,
        settings: &[(String, String)],
        wait: Duration,
    ) -> Result<bool, BrokerError> {
        let new = NewTopic { name, partitions: partitions.unwrap_or(-1), replication: -1, settings };
        let until = Instant::now() + wait;
        let made = self.ask(
            &format!("creating topic {name:?}"),
            wait,
            |c, q| c.create_topic(&new, q, wait),
            |event| match event.created() {
                Ok(()) => Ok(true),
                Err(f) if f.code == Code::TopicAlreadyExists => Ok(false),
                Err(f) => Err(f),
            },
        )?;
        // The controller has it; the broker asked next may not know it yet.
        while self.describe(&[name], wait)?.iter().all(|i| i.partitions.is_none()) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(made)
    }

    /// The command that creates a topic, for who may.
    #[must_use]
    pub fn create_command(&self, name: &str, partitions: i32, settings: &[(String, String)]) -> String {
        self.place.create_command(name, Some(partitions), settings)
    }

    /// Looks for every topic needed and makes missing topics for dead letters and seen ids. Gives what a person must put right; an
    /// error means that the question itself could not be answered.
    pub fn ensure(&self, needed: &[NeededTopic], wait: Duration) -> Result<Vec<TopicProblem>, BrokerError> {
        let mut names: Vec<&str> = Vec::new();
        for topic in needed {
            if !names.contains(&topic.name.as_str()) {
                names.push(&topic.name);
            }
        }
        if names.is_empty() {
            return Ok(Vec::new());
        }
        // One question for all: a refused login is told once and then suppressed, and must not be taken for a topic's.
        let all = self.ask("looking up topics", wait, |c, q| c.describe_topics(&names, q, wait), |e| e.described())?;
        let mut found = Vec::new();
        let mut problems = Vec::new();
        for name in &names {
            match self.info(name, &all) {
                Ok(info) => found.push(info),
                Err(e) if e.kind == BrokerErrorKind::Operator => {
                    problems.push(TopicProblem { topic: (*name).to_owned(), message: e.message, command: None });
                }
                Err(e) => return Err(e),
            }
        }
        let count = |name: &str| found.iter().find(|i| i.name == name).and_then(|i| i.partitions);
        for info in &found {
            let roles = needed.iter().filter(|n| n.name == info.name).map(|n| &n.role);
            for role in roles {
                match (role, info.partitions) {
                    (TopicRole::Input | TopicRole::Output, Some(_)) => {}
                    (TopicRole::Input | TopicRole::Output, None) => {
                        problems.push(self.missing(&info.name, role, wait));
                    }
                    (TopicRole::DeadLetter { input }, None) => {
                        problems.extend(count(input).and_then(|n| self.make_dead_letter(&info.name, input, n, wait)))
                    }
                    (TopicRole::DeadLetter { input }, Some(has)) => {
                        problems.extend(self.check_dead_letter(&info.name, has, count(input).unwrap_or(0), wait));
                    }
                    (_, has) => {
                        problems.extend(self.make_or_check_kept(&info.name, role, has, &count, wait));
                    }
                }
            }
        }
        Ok(problems)
    }

    fn missing(&self, name: &str, role: &TopicRole, wait: Duration) -> TopicProblem {
        let what = if *role == TopicRole::Input { "input" } else { "output" };
        let all = self.names(wait).unwrap_or_default();
        let near = nearest(name, all.iter().map(String::as_str).filter(|n| !n.starts_with("__")));
        let cure = near.map_or_else(|| "create it".to_owned(), |n| format!("did you mean {n:?}? If not, create it"));
        TopicProblem {
            topic: name.to_owned(),
            message: format!("{what} topic {name:?} does not exist at {}: {cure}", self.place.bootstrap),
            command: Some(self.create_command(name, 1, &[])),
        }
    }

    fn make_dead_letter(&self, name: &str, input: &str, partitions: i32, wait: Duration) -> Option<TopicProblem> {
        let settings = self.dead_letter_settings(input, wait);
        self.make_own("dead-letter topic", name, (input, partitions), &settings, wait)
    }

    /// A topic of what is kept of an input. `count` tells how many partitions a topic has.
    fn make_or_check_kept(
        &self,
        name: &str,
        role: &TopicRole,
        has: Option<i32>,
        count: &dyn Fn(&str) -> Option<i32>,
        wait: Duration,
    ) -> Vec<TopicProblem> {
        let Some((kept, input)) = role.kept() else { return Vec::new() };
        match (has, count(input)) {
            (Some(has), needs) => self.check_kept(name, has, needs, kept, wait),
            (None, Some(needs)) => {
                let settings = kept.settings(true, self.limit(input, wait));
                self.make_own(kept.topic(), name, (input, needs), &settings, wait).into_iter().collect()
            }
            (None, None) => Vec::new(),
        }
    }

    /// Makes a topic of the pipeline's own, or says how somebody else does.
    fn make_own(
        &self,
        what: &str,
        name: &str,
        (input, partitions): (&str, i32),
        settings: &[(String, String)],
        wait: Duration,
    ) -> Option<TopicProblem> {
        match self.create(name, partitions, settings, wait) {
            Ok(()) => {
                tracing::info!("created {what} {name:?} with {partitions} partitions, as many as {input:?} has");
                None
            }
            Err(e) => Some(TopicProblem {
                topic: name.to_owned(),
                message: format!("{what} {name:?} does not exist and can't be created: {e}"),
                command: Some(self.create_command(name, partitions, settings)),
            }),
        }
    }

    /// `needs`: partitions of the input, where they are known.
    fn check_kept(&self, name: &str, has: i32, needs: Option<i32>, kept: Kept, wait: Duration) -> Vec<TopicProblem> {
        let problem = |message: String, command: String| TopicProblem {
            topic: name.to_owned(),
            message: format!("{} {name:?} {message}", kept.topic()),
            command: Some(command),
        };
        match needs {
            Some(needs) if has < needs => {
                let behind = kept.left_behind();
                let message =
                    format!("has {has} partitions, its input {needs}: {behind}. Add partitions to accept that");
                return vec![problem(message, self.place.add_partitions_command(name, &needs.to_string()))];
            }
            Some(needs) if has > needs => {
                let message = format!(
                    "has {has} partitions, its input {needs}: it is of another input. Delete it to forget what it holds, and it \
                     is made anew"
                );
                return vec![problem(message, self.place.delete_command(name))];
            }
            _ => {}
        }
        // Without the right to ask, what is not known is not called wrong.
        let settings = self.settings(name, wait).unwrap_or_default();
        let unfit = kept.unfit(&settings).into_iter().map(|unfit| {
            let command = self.place.set_command(name, unfit.setting, &unfit.needs);
            problem(format!("has {}={}: {}", unfit.setting, unfit.has, unfit.why), command)
        });
        unfit.collect()
    }

    fn dead_letter_settings(&self, input: &str, wait: Duration) -> Vec<(String, String)> {
        // Without the right to ask, the broker's default limit stands, as it does for the input most often.
        dead_letter_settings(self.limit(input, wait))
    }

    /// A topic's `max.message.bytes`, where that may be asked.
    pub fn limit(&self, topic: &str, wait: Duration) -> Option<i64> {
        let all = self.settings(topic, wait).ok()?;
        all.iter().find(|(n, _)| n == "max.message.bytes").and_then(|(_, v)| v.parse::<i64>().ok())
    }

    fn check_dead_letter(&self, name: &str, has: i32, needs: i32, wait: Duration) -> Option<TopicProblem> {
        let problem = |message: String, command: Option<String>| {
            Some(TopicProblem {
                topic: name.to_owned(),
                message: format!("dead-letter topic {name:?} {message}"),
                command,
            })
        };
        if has < needs {
            return problem(
                format!("has {has} partitions, its input {needs}: add some, since dead letters keep their partition"),
                Some(self.place.add_partitions_command(name, &needs.to_string())),
            );
        }
        let policy = self.settings(name, wait).ok()?.into_iter().find(|(n, _)| n == "cleanup.policy")?.1;
        if policy.contains("compact") {
            return problem(
                "is compacted: it would keep one dead letter per key and refuse those without. Set cleanup.policy=delete"
                    .to_owned(),
                None,
            );
        }
        None
    }

    /// Sends a request and waits for its answer, with the client's errors in view: a refused login is told at once
    /// rather than as a time-out.
    pub(super) fn ask<T>(
        &self,
        doing: &str,
        wait: Duration,
        send: impl FnOnce(&Client, &Queue) -> Result<(), Failure>,
        read: impl FnOnce(&Event<'_>) -> Result<T, Failure>,
    ) -> Result<T, BrokerError> {
        let answers = Queue::new(&self.client);
        let until = Instant::now() + wait;
        let (mut cause, mut sending) = (None, Some(send));
        loop {
            // The main queue also does the token refresh of OAUTHBEARER.
            if self.drain(doing, &mut cause) {
                break;
            }
            let left = until.saturating_duration_since(Instant::now());
            if sending.is_some() && self.client.reach(left.min(SLICE)).is_ok() {
                let send = sending.take().map(|send| send(&self.client, &answers));
                send.unwrap_or(Ok(())).map_err(|f| self.place.explain(doing, &f))?;
            } else if sending.is_none()
                && let Some(event) = answers.poll(Duration::from_millis(20))
            {
                return read(&event).map_err(|f| {
                    let timed_out = matches!(f.code, Code::OperationTimedOut | Code::TimedOutQueue);
                    cause.filter(|_| timed_out).unwrap_or_else(|| self.place.explain(doing, &f))
                });
            }
            if Instant::now() >= until {
                break;
            }
        }
        Err(cause.unwrap_or_else(|| {
            self.place.explain(doing, &Failure::new(Code::OperationTimedOut, format!("no answer within {wait:?}")))
        }))
    }

    /// The error to tell for a failed call that does not look at the client's errors itself.
    fn told(&self, doing: &str, failure: Failure) -> BrokerError {
        let mut cause = None;
        self.drain(doing, &mut cause);
        cause.unwrap_or_else(|| self.place.explain(doing, &failure))
    }

    /// Takes the client's errors into `cause`. `true` when one of them is final.
    fn drain(&self, doing: &str, cause: &mut Option<BrokerError>) -> bool {
        let mut is_final = false;
        while let Some(event) = self.main.poll(Duration::ZERO) {
            let Some(failure) = log::failure(&event) else { continue };
            is_final |= is_verdict(failure.code);
            let error = self.place.explain(doing, &failure);
            // The first cause stays, unless a later one is for a person to act on.
            if cause.is_none() || error.kind == BrokerErrorKind::Operator {
                *cause = Some(error);
            }
        }
        is_final
    }
}
