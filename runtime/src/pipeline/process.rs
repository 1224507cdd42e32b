//! All pipelines of a process, on its broker.

use super::witness::Witness;
use super::{Failure, Naming, Shared, load};
use crate::admin::health::{Health, State};
use crate::admin::metrics::Metrics;
use crate::admin::stop::Stop;
use crate::alerts::Alerts;
use crate::broker::embedded::{self, Embedded};
use crate::broker::topics::{NeededTopic, TopicProblem, TopicRole};
use crate::broker::{Broker, BrokerError, BrokerErrorKind};
use crate::config::{self, BrokerKind};
use crate::http::Clients;
use crate::rollout::{self, Board, Fleet, Pauses, Ready};
use crate::signature::Trust;
use crate::wasm::{self, HostOptions};
use keyrail_engine::policy::Scope;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// One question to the broker.
const ASK: Duration = Duration::from_secs(10);
/// Between two attempts to reach a broker that does not answer.
const RETRY: Duration = Duration::from_secs(2);

/// How the pipelines ended, the worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ended {
    /// All of them drained and committed, as they were asked to.
    Stopped,
    /// At least one could not go on, or did not stop in good order; the log says why.
    Failed,
    /// A newer instance of this process has taken over.
    Fenced,
}

impl Ended {
    /// What the end of one pipeline makes of the process's.
    pub(crate) fn of(result: &Result<(), Failure>) -> Self {
        match result {
            Ok(()) => Self::Stopped,
            Err(Failure::Person(_) | Failure::Loop(_) | Failure::Stop(_)) => Self::Failed,
            Err(Failure::Fenced(_)) => Self::Fenced,
        }
    }
}

/// Nothing was started, for these reasons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartError(Vec<String>);

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nothing was started:")?;
        self.0.iter().try_for_each(|why| write!(f, "\n  {why}"))
    }
}

impl std::error::Error for StartError {}

/// What [`run`] is given beside the configuration.
pub struct Surroundings {
    /// For the admin server.
    pub health: Arc<Health>,
    /// For the admin server.
    pub metrics: Arc<Metrics>,
    /// Raised when the process is to stop.
    pub stop: Stop,
    /// The environment, for `${NAME}` in manifests that come later.
    pub variables: fn(&str) -> Option<String>,
    /// Is told of every message's fate, if anybody. Who watches also waits for the folder to be mended where `run` would
    /// end.
    pub witness: Option<Arc<dyn Witness>>,
    /// Where a person is told of what matters, if anywhere.
    pub alerts: Alerts,
    /// The embedded broker's folder, if it is taken already.
    pub claim: Option<embedded::Claim>,
    /// Where `keyrail plugins` sees what runs, and asks for something else.
    pub board: Board,
}

/// Runs these pipelines, and follows their folder, until a stop is asked for and all are drained, or until none can go on.
///
/// # Errors
/// A handler, a property or a topic is not fit; nothing was consumed then. A broker that does not answer is waited for.
pub fn run(
    host: &config::Host,
    pipelines: Vec<config::Pipeline>,
    surroundings: Surroundings,
) -> Result<Ended, StartError> {
    let Surroundings { health, metrics, stop, variables, witness, alerts, claim, board } = surroundings;
    board.starts(pipelines.iter());
    let broker = match claim {
        Some(claim) => opened(claim.open())?,
        None => broker(host)?,
    };
    let options = HostOptions { cache_dir: Some(host.store_dir.join("code")) };
    let pauses = Pauses::read(&host.store_dir).map_err(|why| StartError(vec![why]))?;
    let (held, pipelines): (Vec<_>, Vec<_>) = pipelines.into_iter().partition(|one| pauses.holds(&one.name));
    let engine = wasm::Host::new(options).map_err(|e| StartError(vec![e.to_string()]))?;
    let mut all = prepare(&engine, pipelines, &host.trust)?;
    // Those with patterns have inputs once the broker has told its topics: the fleet starts them.
    let later: Vec<Ready> = all.extract_if(.., |ready| !ready.manifest.patterns.is_empty()).collect();
    for ready in &later {
        health.pipeline(&ready.manifest.name).set(State::NotReady("waits to be told the topics".to_owned()));
    }
    if !topics_are_there(broker.as_ref(), &all, &health, &stop)? {
        return Ok(Ended::Stopped);
    }
    let shared = Shared {
        grace: host.shutdown_grace,
        shards: std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1)),
        health,
        metrics,
        stop,
        witness,
        alerts,
        naming: Naming::new(&host.store_dir),
        clients: Clients::default(),
    };
    let mut fleet = Fleet::new(rollout::Setup {
        dir: host.plugins_dir.clone(),
        store_dir: host.store_dir.clone(),
        poll: host.plugins_poll,
        trust: host.trust.clone(),
        variables,
        records_bytes: host.records_bytes,
        patient: shared.witness.is_some(),
        broker,
        engine,
        shared,
        pauses,
        board,
    });
    held.iter().for_each(|manifest| fleet.hold(manifest));
    for ready in all {
        fleet.start(ready);
    }
    Ok(fleet.run())
}

/// The broker that the host names.
///
/// # Errors
/// Its properties are not fit, this build lacks it, or its folder can't be opened.
pub fn broker(host: &config::Host) -> Result<Arc<dyn Broker>, StartError> {
    match host.broker {
        BrokerKind::Kafka => kafka(host),
        BrokerKind::Embedded => opened(Embedded::open(&embedded_options(host))),
    }
}

fn opened(folder: Result<Embedded, BrokerError>) -> Result<Arc<dyn Broker>, StartError> {
    Ok(Arc::new(folder.map_err(|e| StartError(vec![e.message]))?))
}

/// `[embedded]` as the broker takes it.
#[must_use]
pub fn embedded_options(host: &config::Host) -> embedded::Options {
    embedded::Options {
        dir: host.embedded.dir.clone(),
        partitions: i32::try_from(host.embedded.partitions).unwrap_or(i32::MAX),
        durable: host.embedded.sync_full,
    }
}

#[cfg(feature = "kafka")]
fn kafka(host: &config::Host) -> Result<Arc<dyn Broker>, StartError> {
    let kafka = crate::broker::kafka::Kafka::new(&host.kafka);
    Ok(Arc::new(kafka.map_err(|all| StartError(all.into_iter().map(|e| e.message).collect()))?))
}

#[cfg(not(feature = "kafka"))]
fn kafka(_: &config::Host) -> Result<Arc<dyn Broker>, StartError> {
    let cure = "build it with the cargo feature \"kafka\", or set broker = \"embedded\"";
    Err(StartError(vec![format!("this build does not know Kafka: {cure}")]))
}

/// Loads every handler; all that are unfit are told at once.
fn prepare(
    engine: &Arc<wasm::Host>,
    pipelines: Vec<config::Pipeline>,
    trust: &Trust,
) -> Result<Vec<Ready>, StartError> {
    let (mut all, mut unfit) = (Vec::new(), Vec::new());
    for manifest in pipelines {
        let started = Instant::now();
        let file = manifest.handler.display().to_string();
        match load(engine, manifest, trust) {
            Ok((manifest, handler)) => {
                let took_ms = started.elapsed().as_millis() as u64;
                tracing::info!(pipeline = manifest.name, digest = handler.digest(), took_ms, "the handler is loaded");
                all.push(Ready { manifest, handler, fresh: BTreeSet::new(), probed: None });
            }
            Err(why) => unfit.push(format!("{file}: {why}")),
        }
    }
    if unfit.is_empty() { Ok(all) } else { Err(StartError(unfit)) }
}

/// Looks for every topic, and makes those of the pipelines' own that are missing. `false`: a stop was asked for while no broker answered.
fn topics_are_there(broker: &dyn Broker, all: &[Ready], health: &Health, stop: &Stop) -> Result<bool, StartError> {
    let needed: Vec<NeededTopic> = all.iter().flat_map(|ready| needed(&ready.manifest)).collect();
    loop {
        match broker.ensure(&needed, ASK) {
            Ok(problems) if problems.is_empty() => {
                let mut unequal = Vec::new();
                for ready in all {
                    match unequal_inputs(broker, &ready.manifest) {
                        Ok(found) => unequal.extend(found),
                        // A broker that went away meanwhile is waited for.
                        Err(error) => tracing::warn!(%error, "the partitions of inputs could not be counted"),
                    }
                }
                return if unequal.is_empty() { Ok(true) } else { Err(StartError(unequal)) };
            }
            Ok(problems) => return Err(StartError(problems.into_iter().map(told).collect())),
            Err(error) if error.kind == BrokerErrorKind::Operator => return Err(StartError(vec![error.message])),
            Err(error) => {
                for ready in all {
                    health.pipeline(&ready.manifest.name).set(State::NotReady(error.message.clone()));
                }
                tracing::warn!(%error, "waiting for the broker");
                if stop.wait(RETRY) {
                    return Ok(false);
                }
            }
        }
    }
}

/// Looks for the topics of one pipeline, and makes those that it may.
///
/// Gives what a person must put right.
///
/// # Errors
/// The broker could not be asked.
pub(crate) fn ensure_topics(
    broker: &dyn Broker,
    manifest: &config::Pipeline,
    wait: Duration,
) -> Result<Vec<String>, BrokerError> {
    let mut problems: Vec<String> = broker.ensure(&needed(manifest), wait)?.into_iter().map(told).collect();
    if problems.is_empty() {
        problems.extend(unequal_inputs(broker, manifest)?);
    }
    Ok(problems)
}

/// Whether inputs that share their keys can: each must have as many partitions as the others. Gives what a person must put right.
fn unequal_inputs(broker: &dyn Broker, manifest: &config::Pipeline) -> Result<Option<String>, BrokerError> {
    if manifest.policy.order.scope == Scope::Topic || manifest.input.len() < 2 {
        return Ok(None);
    }
    let all = broker.client()?.topics()?;
    let there = all.into_iter().filter(|topic| manifest.input.contains(&topic.name));
    let counts: Vec<(String, i32)> = there.map(|topic| (topic.name, topic.partitions)).collect();
    Ok(unequal(&counts).map(|why| format!("{}: {why}", manifest.name)))
}

/// Why topics with so many partitions can't share their keys, with the cure, if they can't.
#[must_use]
pub fn unequal(counts: &[(String, i32)]) -> Option<String> {
    let most = counts.iter().map(|(_, count)| *count).max()?;
    let (fewer, count) = counts.iter().find(|(_, count)| *count != most)?;
    let (more, _) = counts.iter().find(|(_, count)| *count == most)?;
    Some(format!(
        "order.scope = \"inputs\" needs inputs with equally many partitions: {fewer} has {count} and {more} has {most}. Give \
         {fewer} {most} before any message is in them (a key's partition changes with the count), or make the smaller one anew"
    ))
}

/// The topics that a pipeline needs, each once for each use. Without those that its patterns stand for, unless
/// [`config::Pipeline::with_topics`] has filled them in; and without its retry topics ([`needed_to_park`]).
#[must_use]
pub fn needed(manifest: &config::Pipeline) -> Vec<NeededTopic> {
    let topic = |name: &String, role| NeededTopic { name: name.clone(), role };
    let inputs = manifest.input.iter().map(|name| topic(name, TopicRole::Input));
    let outputs = manifest.outputs.iter().map(|(_, name)| topic(name, TopicRole::Output));
    let letters = manifest.dead_letter.topics.iter().zip(&manifest.input);
    let letters = letters.map(|(name, input)| topic(name, TopicRole::DeadLetter { input: input.clone() }));
    let seen = manifest.seen.iter().flat_map(|seen| {
        let role = |input: &String| TopicRole::Seen { input: input.clone(), window: seen.window };
        seen.topics.iter().zip(&manifest.input).map(move |(name, input)| topic(name, role(input)))
    });
    let state = manifest.state.iter().flat_map(|state| {
        let role = |input: &String| TopicRole::State { input: input.clone() };
        state.topics.iter().zip(&manifest.input).map(move |(name, input)| topic(name, role(input)))
    });
    let audit = manifest.audit.iter().map(|name| topic(name, TopicRole::Output));
    let mut all: Vec<NeededTopic> = Vec::new();
    for topic in inputs.chain(outputs).chain(audit).chain(letters).chain(seen).chain(state) {
        if !all.contains(&topic) {
            all.push(topic);
        }
    }
    all
}

/// The retry topics of a pipeline, which are made when the first message is parked.
#[must_use]
pub fn needed_to_park(manifest: &config::Pipeline) -> Vec<NeededTopic> {
    let all = manifest.parked.iter().flat_map(|parked| parked.topics.iter().zip(&manifest.input));
    let needed = |(name, input): (&String, &String)| NeededTopic {
        name: name.clone(),
        role: TopicRole::Parked { input: input.clone() },
    };
    all.map(needed).collect()
}

pub(super) fn told(problem: TopicProblem) -> String {
    match problem.command {
        Some(command) => format!("{}\n    {command}", problem.message),
        None => problem.message,
    }
}
