//! All pipelines of a process, on its broker.

use super::{Budget, Failure, Parts, Shared, load, supervise};
use crate::admin::health::{Health, State};
use crate::admin::metrics::Metrics;
use crate::admin::stop::Stop;
use crate::broker::embedded::{self, Embedded};
use crate::broker::topics::{NeededTopic, TopicProblem, TopicRole};
use crate::broker::{Broker, BrokerErrorKind};
use crate::config::{self, BrokerKind};
use crate::wasm::{self, HostOptions};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// One question to the broker.
const ASK: Duration = Duration::from_secs(10);
/// Between two attempts to reach a broker that does not answer.
const RETRY: Duration = Duration::from_secs(2);

/// How the pipelines ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// All of them drained and committed, as they were asked to.
    Stopped,
    /// At least one could not go on, or did not stop in good order; the log says why.
    Failed,
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

/// Runs all pipelines until a stop is asked for and all are drained, or until none can go on.
///
/// # Errors
/// A handler, a property or a topic is not fit; nothing was consumed then. A broker that does not answer is waited for.
pub fn run(
    host: &config::Host,
    pipelines: Vec<config::Pipeline>,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    stop: Stop,
) -> Result<Ended, StartError> {
    let broker = broker(host)?;
    let parts = prepare(host, &broker, pipelines)?;
    if !topics_are_there(broker.as_ref(), &parts, &health, &stop)? {
        return Ok(Ended::Stopped);
    }
    let shared = Shared {
        grace: host.shutdown_grace,
        shards: std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1)),
        health,
        metrics,
        stop,
    };
    let ends = std::thread::scope(|scope| {
        let threads: Vec<_> = parts
            .iter()
            .map(|parts| (parts.manifest.name.as_str(), scope.spawn(|| supervise(parts, &shared))))
            .collect();
        threads.into_iter().map(|(name, thread)| (name, thread.join())).map(ended).collect::<Vec<_>>()
    });
    Ok(if ends.into_iter().all(|ok| ok) { Ended::Stopped } else { Ended::Failed })
}

/// The broker that the host names.
///
/// # Errors
/// Its properties are not fit, this build lacks it, or its folder can't be opened.
pub fn broker(host: &config::Host) -> Result<Arc<dyn Broker>, StartError> {
    match host.broker {
        BrokerKind::Kafka => kafka(host),
        BrokerKind::Embedded => {
            let opened = Embedded::open(&embedded_options(host)).map_err(|e| StartError(vec![e.message]))?;
            Ok(Arc::new(opened))
        }
    }
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

fn ended((name, end): (&str, std::thread::Result<Result<(), Failure>>)) -> bool {
    match end {
        Ok(Ok(())) => return true,
        Ok(Err(Failure::Person(why))) => {
            tracing::error!(pipeline = name, why, "the pipeline has stopped: a person must act");
        }
        Ok(Err(Failure::Stop(why))) => {
            let told = "the pipeline did not stop in good order: what is not committed runs again";
            tracing::error!(pipeline = name, why, "{told}");
        }
        Err(_) => tracing::error!(pipeline = name, "the pipeline's supervisor panicked"),
    }
    false
}

/// Loads every handler; all that are unfit are told at once.
fn prepare(
    host: &config::Host,
    broker: &Arc<dyn Broker>,
    pipelines: Vec<config::Pipeline>,
) -> Result<Vec<Parts>, StartError> {
    let options = HostOptions { cache_dir: Some(host.store_dir.join("code")) };
    let engine = wasm::Host::new(options).map_err(|e| StartError(vec![e.to_string()]))?;
    let (mut parts, mut unfit) = (Vec::new(), Vec::new());
    let budgets = Budget::of_pipelines(host.records_bytes, pipelines.len());
    for (manifest, budget) in pipelines.into_iter().zip(budgets) {
        let started = Instant::now();
        match load(&engine, &manifest) {
            Ok(handler) => {
                let took_ms = started.elapsed().as_millis() as u64;
                tracing::info!(pipeline = manifest.name, digest = handler.digest(), took_ms, "the handler is loaded");
                parts.push(Parts { manifest, handler, broker: broker.clone(), budget });
            }
            Err(why) => unfit.push(format!("{}: {why}", manifest.handler.display())),
        }
    }
    if unfit.is_empty() { Ok(parts) } else { Err(StartError(unfit)) }
}

/// Looks for every topic, and makes missing dead-letter topics. `false`: a stop was asked for while no broker answered.
fn topics_are_there(broker: &dyn Broker, parts: &[Parts], health: &Health, stop: &Stop) -> Result<bool, StartError> {
    let needed: Vec<NeededTopic> = parts.iter().flat_map(|p| needed(&p.manifest)).collect();
    loop {
        match broker.ensure(&needed, ASK) {
            Ok(problems) if problems.is_empty() => return Ok(true),
            Ok(problems) => return Err(StartError(problems.into_iter().map(told).collect())),
            Err(error) if error.kind == BrokerErrorKind::Operator => return Err(StartError(vec![error.message])),
            Err(error) => {
                for part in parts {
                    health.pipeline(&part.manifest.name).set(State::NotReady(error.message.clone()));
                }
                tracing::warn!(%error, "waiting for the broker");
                if stop.wait(RETRY) {
                    return Ok(false);
                }
            }
        }
    }
}

fn needed(manifest: &config::Pipeline) -> Vec<NeededTopic> {
    let topic = |name: &String, role| NeededTopic { name: name.clone(), role };
    let inputs = manifest.input.iter().map(|name| topic(name, TopicRole::Input));
    let outputs = manifest.outputs.iter().map(|(_, name)| topic(name, TopicRole::Output));
    let letters = manifest.dead_letter.topics.iter().zip(&manifest.input);
    let letters = letters.map(|(name, input)| topic(name, TopicRole::DeadLetter { input: input.clone() }));
    let mut all: Vec<NeededTopic> = Vec::new();
    for topic in inputs.chain(outputs).chain(letters) {
        if !all.contains(&topic) {
            all.push(topic);
        }
    }
    all
}

fn told(problem: TopicProblem) -> String {
    match problem.command {
        Some(command) => format!("{}\n    {command}", problem.message),
        None => problem.message,
    }
}
