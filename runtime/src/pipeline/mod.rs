//! The spine: builds a pipeline's parts and joins them, and keeps pipelines running.
//!
//! A pipeline is a consumer thread, a committer thread and one shard thread for each core. When one of them ends, the
//! channels close and all end; the supervisor starts the pipeline anew, unless a person must act first.

mod again;
mod alerting;
mod budget;
pub(crate) mod clock;
mod committer;
mod consumer;
mod grace;
mod guest;
mod identity;
mod ids;
mod inbox;
mod instance;
mod kept;
mod letters;
mod link;
mod load;
mod opening;
mod pace;
mod parked;
mod parking;
mod probe;
mod process;
mod recording;
mod records;
pub mod restore;
mod seed;
mod serving;
mod shard;
mod show;
mod sink;
mod standing;
pub(crate) mod state;
mod waiting;
pub mod witness;

pub(crate) use alerting::supervised;
pub use budget::{Budget, Pool};
pub(crate) use clock::wall_ms;
pub use guest::{limits, setup};
pub use instance::{Instance, Naming, NoInstance, SeenIds};
pub use load::{Code, Unfit, complete, completed, load, load_bare};
pub use probe::{Probe, probe_file};
pub(crate) use process::ensure_topics;
pub use process::{Ended, StartError, Surroundings, broker, embedded_options, needed, needed_to_park, run, unequal};
pub(crate) use records::{Source, output_headers};
pub(crate) use serving::short;
pub use serving::{Ended as TrialEnd, FoundSchemas, Serving, Standing as TrialStanding};
pub(crate) use shard::{engine_failure, engine_outcome};
pub(crate) use state::unreadable;

use crate::admin::health::{Health, PipelineHealth, State};
use crate::admin::metrics::{Metrics, PipelineMetrics};
use crate::admin::stop::Stop;
use crate::alerts::Alerts;
use crate::broker::{Broker, BrokerError, BrokerErrorKind, Consumer};
use crate::config;
use crate::http::{Clients, Fetch};
use crate::wasm::LongCall;
use again::{Again, Next, Run};
use clock::Clock;
use committer::Commands;
use crossbeam_channel::bounded;
use grace::Bounds;
use identity::Internals;
use kept::Keeper;
use keyrail_engine::breaker::Breaker;
use keyrail_engine::intake::{From, Intake};
use keyrail_engine::order::Router;
use keyrail_engine::pipeline::{Pipeline, Timing};
use keyrail_engine::policy::{Guarantee, Policy, Scope};
use keyrail_engine::shard::Shard;
use link::{Attention, Handover, Line, Outlet, Over, Payload, RaiseOver};
use parking::RetryTopics;
use seed::seed;
use sink::Sink;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use witness::Witness;

/// Places in an inbox of the consumer.
const CONSUMER_INBOX: usize = 256;
/// Places in an inbox of a shard or of the committer, each for a batch. Few: what waits there long has left the
/// processor's cache when its turn comes, and the further one shard is ahead of another, the larger is the map of what is
/// settled above the commit point, until the partition is held back for it.
const INBOX: usize = 4;

/// Everything that one pipeline is made of.
pub struct Parts {
    /// Its manifest.
    pub manifest: config::Pipeline,
    /// Its handler, which may be swapped while it runs.
    pub serving: Arc<Serving>,
    /// Makes its clients.
    pub broker: Arc<dyn Broker>,
    /// Its part in the byte budget.
    pub budget: Budget,
    /// Inputs, by index, that came to be a moment ago: where nothing of them is committed, they start at their beginning.
    pub fresh: BTreeSet<u32>,
}

/// What all pipelines of the process share.
#[derive(Clone)]
pub struct Shared {
    /// How long a stop may take.
    pub grace: Duration,
    /// Threads that call the handler, for each pipeline.
    pub shards: u32,
    /// For the admin server.
    pub health: Arc<Health>,
    /// For the admin server.
    pub metrics: Arc<Metrics>,
    /// Raised when the process is to stop.
    pub stop: Stop,
    /// Is told of every message's fate, if anybody.
    pub witness: Option<Arc<dyn Witness>>,
    /// Where a person is told of what matters.
    pub alerts: Alerts,
    /// The process's name, for who writes in transactions.
    pub naming: Naming,
    /// What sends handlers' requests.
    pub clients: Clients,
}

impl Shared {
    /// The process's name, which is taken now if nobody asked for it before.
    ///
    /// # Errors
    /// See [`Instance::take`].
    pub fn instance(&self) -> Result<Arc<Instance>, NoInstance> {
        self.naming.instance()
    }
}

/// A pipeline ended because it was asked to.
#[derive(Debug)]
pub(crate) struct Stopped;

/// Why a pipeline ended.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// It may pass: start anew.
    Again(String),
    /// A person must act.
    Operator(String),
    /// Another process has taken its transactional id.
    Fenced(String),
    /// Nothing failed: it starts anew to know what others have done meanwhile.
    Anew(String),
    /// The first message is to be parked, and there is no topic for it.
    NoRetryTopic,
    /// One of its threads panicked.
    Broke,
    /// Another of its threads ended first.
    Ended,
}

/// Why a pipeline does not run any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// It can't go on before a person acts.
    Person(String),
    /// It broke again and again, and starts no more before a person acts.
    Loop(String),
    /// It was asked to stop and did not in good order: what is not committed runs again.
    Stop(String),
    /// A newer instance of this process has taken over, and writes under its name.
    Fenced(String),
}

/// Keeps a pipeline running until a stop is asked for or a person must act, and says what to do then.
///
/// # Errors
/// The reason why it can't go on, or why it did not stop in good order.
pub fn supervise(parts: &Parts, shared: &Shared) -> Result<(), Failure> {
    let name = &parts.manifest.name;
    let health = shared.health.pipeline(name);
    let metrics = shared.metrics.pipeline(name);
    metrics.partitions(|table| table.set_topics(&parts.manifest.input));
    metrics.set_handler(parts.serving.present().metrics().clone());
    let mut restarts = Again::default();
    let (mut again, mut parks) = (false, false);
    let anew = Arc::new(Mutex::new(parts.fresh.clone()));
    loop {
        let (started, settled) = (Instant::now(), metrics.settled_in_all());
        let trouble = match once(parts, shared, &health, &metrics, &anew, (again, parks)) {
            Ok(Stopped) => return Ok(()),
            Err(Trouble::NoRetryTopic) => match RetryTopics::of(parts).make() {
                // What was to be parked runs again.
                Ok(()) if !shared.stop.requested() => {
                    tracing::info!(
                        pipeline = name,
                        "a message is to be parked for the first time: starts anew with a topic for it"
                    );
                    (again, parks) = (true, true);
                    continue;
                }
                Ok(()) => Trouble::Anew("it was about to park a message for the first time".to_owned()),
                Err(trouble) => trouble,
            },
            Err(trouble) => trouble,
        };
        let broke = matches!(trouble, Trouble::Broke);
        let why = match trouble {
            Trouble::Anew(why) if shared.stop.requested() => {
                tracing::info!(
                    pipeline = name,
                    why,
                    "stops instead of starting anew: what is not committed runs again"
                );
                return Ok(());
            }
            Trouble::Operator(why) => {
                health.set(State::NotReady(why.clone()));
                return Err(Failure::Person(why));
            }
            Trouble::Fenced(why) => {
                health.set(State::NotReady(why.clone()));
                return Err(Failure::Fenced(why));
            }
            Trouble::Again(why) | Trouble::Anew(why) => why,
            Trouble::Broke => "one of its threads panicked; the log says where".to_owned(),
            Trouble::Ended | Trouble::NoRetryTopic => "one of its threads ended".to_owned(),
        };
        if shared.stop.requested() {
            return Err(Failure::Stop(why));
        }
        again = true;
        let run = Run { took: started.elapsed(), settled: metrics.settled_in_all() > settled, broke };
        let wait = match restarts.after(run) {
            Next::Wait(wait) => wait,
            Next::GiveUp(times) => {
                return Err(Failure::Loop(format!("{times} times in a row, nothing settled: {why}")));
            }
        };
        health.set(State::NotReady(format!("starts anew: {why}")));
        tracing::warn!(pipeline = name, why, "the pipeline starts anew in {} s", wait.as_secs());
        metrics.restarts.add(1);
        if shared.stop.wait(wait) {
            return Ok(());
        }
    }
}

/// Runs the pipeline's threads until they end.
fn once(
    parts: &Parts,
    shared: &Shared,
    health: &Arc<PipelineHealth>,
    metrics: &Arc<PipelineMetrics>,
    anew: &Arc<Mutex<BTreeSet<u32>>>,
    (again, parks): (bool, bool),
) -> Result<Stopped, Trouble> {
    let commanded = parts.manifest.parked.as_ref().filter(|_| parts.manifest.policy.takes_commands());
    let inboxes = commanded.map(|parked| parked.inboxes.clone());
    let (parts, retry) = (&parking::with_topics_there(parts, parks)?, RetryTopics::of(parts));
    let manifest = &parts.manifest;
    let consumer = match manifest.policy.order.scope {
        Scope::Topic => parts.broker.consumer(&manifest.group, &manifest.input),
        Scope::Inputs => parts.broker.consumer_of_all(&manifest.group, &manifest.input),
    };
    let consumer = consumer.map_err(trouble)?;
    let sink = sink(parts, shared, consumer.as_ref())?;
    let lanes = seed::of_lanes(manifest, &shared.naming)?;
    let outside = guest::outside(manifest, &shared.clients, metrics)?;
    let mut built = build(parts, shared, (health, metrics), consumer, (sink, outside, lanes));
    built.feed.anew = anew.clone();
    built.feed.keeper = Keeper::for_parts(parts, shared, metrics, lanes)?;
    built.feed.internals = Some(Internals::of(parts));
    built.feed.not_parking = Some(retry).filter(|_| manifest.policy.parks() && manifest.parked.is_none());
    built.ledger.commands = inboxes.map(|inboxes| commands(parts, inboxes, lanes, metrics)).transpose()?;
    if again {
        built.ledger.engine.follows_another();
    }
    let name = &parts.manifest.name;
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    for (number, shift) in built.shifts.into_iter().enumerate() {
        threads.push(spawn(&format!("{name}-shard-{number}"), move || shard::run(shift))?);
    }
    let (told, heard) = bounded(1);
    let ledger = built.ledger;
    threads.push(spawn(&format!("{name}-commit"), move || {
        if let Err(trouble) = committer::run(ledger) {
            // The consumer may have ended by itself; then nobody listens, and its word counts.
            let _full = told.try_send(trouble);
        }
    })?);
    let feed = built.feed;
    let end = spawn(&format!("{name}-consume"), move || consumer::run(feed))?.join();
    let mut panicked = false;
    for thread in threads {
        panicked |= thread.join().is_err();
    }
    // The committer's word comes first: when it fails, the consumer only sees that it is gone.
    if let Ok(trouble) = heard.try_recv() {
        return Err(trouble);
    }
    match end {
        Ok(result) if !panicked => result,
        _ => Err(Trouble::Broke),
    }
}

/// What reads commands from outside.
fn commands(
    parts: &Parts,
    inboxes: Vec<String>,
    lanes: u64,
    metrics: &Arc<PipelineMetrics>,
) -> Result<Commands, Trouble> {
    let manifest = &parts.manifest;
    let source = inbox::Source {
        broker: parts.broker.clone(),
        inputs: manifest.input.clone(),
        inboxes,
        router: Router::new(manifest.policy.clone(), lanes),
        budget: parts.budget.clone(),
        pipeline: manifest.name.clone(),
        metrics: metrics.clone(),
    };
    let started = inbox::Inboxes::start(source);
    started.map(Commands::new).map_err(|e| Trouble::Again(format!("no thread for commands: {e}")))
}

/// What writes for it, by its guarantee.
fn sink(parts: &Parts, shared: &Shared, consumer: &dyn Consumer) -> Result<Sink, Trouble> {
    let manifest = &parts.manifest;
    let topics = written(manifest);
    match manifest.policy.guarantee {
        Guarantee::AtLeastOnce => {
            let producer = parts.broker.producer(&topics).map_err(trouble)?;
            Ok(Sink::apart(producer, consumer.commits()))
        }
        Guarantee::ExactlyOnce => {
            let id = shared.instance()?.transactional_id(&manifest.group, &manifest.name);
            Ok(Sink::together(consumer.transactions(&id, &topics).map_err(trouble)?))
        }
    }
}

/// All topics that the pipeline produces to.
fn written(manifest: &config::Pipeline) -> Vec<&str> {
    let outputs = manifest.outputs.iter().map(|(_, topic)| topic.as_str());
    let seen = manifest.seen.iter().flat_map(|seen| &seen.topics);
    let state = manifest.state.iter().flat_map(|state| &state.topics);
    let parked = manifest.parked.iter().flat_map(|parked| &parked.topics);
    let own = manifest.dead_letter.topics.iter().chain(seen).chain(state).chain(parked);
    let mut all: Vec<&str> = outputs.chain(own.map(String::as_str)).collect();
    all.sort_unstable();
    all.dedup();
    all
}

struct Built {
    shifts: Vec<shard::Shift>,
    ledger: committer::Ledger,
    feed: consumer::Feed,
}

fn build(
    parts: &Parts,
    shared: &Shared,
    (health, metrics): (&Arc<PipelineHealth>, &Arc<PipelineMetrics>),
    consumer: Box<dyn Consumer>,
    (sink, outside, lanes): (Sink, Option<Arc<dyn Fetch>>, u64),
) -> Built {
    let (manifest, policy) = (&parts.manifest, &parts.manifest.policy);
    let (clock, over, shards) = (Clock::new(), Over::default(), guest::shards(manifest, shared.shards));
    let ((to_committer, committer_inbox), (to_consumer, consumer_inbox)) = (bounded(INBOX), bounded(CONSUMER_INBOX));
    let (to_shards, shard_inboxes): (Vec<_>, Vec<_>) = (0..shards).map(|_| bounded(INBOX)).unzip();
    let shift = |(number, inbox)| shard::Shift {
        number,
        engine: shard_engine(policy.clone(), number, shards),
        inbox,
        attention: Attention::default(),
        committer: to_committer.clone(),
        serving: parts.serving.clone(),
        witness: shared.witness.clone(),
        setup: setup(manifest),
        limits: limits(manifest),
        outside: outside.clone(),
        clock,
        budget: parts.budget.clone(),
        metrics: metrics.clone(),
        heartbeat: health.heartbeat(&format!("shard {number}"), shard::heartbeat_limit(policy.batch.max_time_ms)),
        long: LongCall::default(),
    };
    let shifts: Vec<shard::Shift> = (0..).zip(shard_inboxes).map(shift).collect();
    let (bounds, outlets) = (Bounds::within(shared.grace), || to_shards.iter().cloned().map(Outlet));
    let ledger = committer::Ledger {
        engine: Pipeline::new(policy.clone(), shards, timing(bounds)),
        breaker: Breaker::new(policy, shards),
        order: policy.order.clone(),
        sink,
        inbox: committer_inbox,
        shards: outlets().map(Line::new).collect(),
        attention: shifts.iter().map(|shift| shift.attention.clone()).collect(),
        consumer: Line::new(Outlet(to_consumer)),
        over: over.clone(),
        bounds,
        call_ms: policy.batch.max_time_ms,
        names: names(manifest, parts.serving.clone()),
        witness: shared.witness.clone(),
        alerts: shared.alerts.clone(),
        commands: None,
        clock,
        metrics: metrics.clone(),
        heartbeat: health.heartbeat("committer", Duration::from_secs(120)),
        long: shifts.iter().map(|shift| shift.long.clone()).collect(),
    };
    let feed = consumer::Feed {
        consumer,
        intake: Intake::new(policy.clone(), shards, lanes),
        gate: keyrail_engine::budget::Gate::new(parts.budget.share()),
        budget: parts.budget.clone(),
        topics: manifest.input.clone(),
        order: policy.order.clone(),
        from: from(manifest),
        anew: Arc::default(),
        on_loss: manifest.on_loss,
        keeper: None,
        not_parking: None,
        internals: None,
        out: Handover::new(Outlet(to_committer), outlets()),
        attention: shifts.iter().map(|shift| shift.attention.clone()).collect(),
        over: RaiseOver(over),
        inbox: consumer_inbox,
        metrics: metrics.clone(),
        alerts: shared.alerts.clone(),
        health: health.clone(),
        heartbeat: health.heartbeat("consumer", bounds.silence()),
        stop: shared.stop.clone(),
        bounds,
        pipeline: manifest.name.clone(),
    };
    Built { shifts, ledger, feed }
}

fn timing(bounds: Bounds) -> Timing {
    let (revoke_ms, release_ms) = (clock::millis(bounds.drain), clock::millis(bounds.commit));
    Timing { revoke_ms, release_ms, ..Timing::default() }
}

fn shard_engine(mut policy: Policy, number: usize, shards: u32) -> Shard<Payload> {
    if let Some(dedup) = &mut policy.dedup {
        dedup.capacity = (dedup.capacity / shards as usize).max(1);
    }
    let mut engine = Shard::new(policy, seed());
    engine.stands_at(u32::try_from(number).unwrap_or(0), shards);
    engine
}

fn from(manifest: &config::Pipeline) -> From {
    match manifest.from {
        config::From::Earliest => From::Earliest,
        config::From::Latest => From::Latest,
    }
}

fn names(manifest: &config::Pipeline, serving: Arc<Serving>) -> committer::Names {
    committer::Names {
        pipeline: manifest.name.clone(),
        group: manifest.group.clone(),
        serving,
        inputs: manifest.input.clone(),
        outputs: manifest.outputs.iter().map(|(_, topic)| topic.clone()).collect(),
        output_names: manifest.outputs.iter().map(|(name, _)| name.clone()).collect(),
        letters: manifest.dead_letter.topics.clone(),
        seen: manifest.seen.as_ref().map(|seen| seen.topics.clone()).unwrap_or_default(),
        state: manifest.state.as_ref().map(|state| state.topics.clone()).unwrap_or_default(),
        parked: manifest.parked.as_ref().map(|parked| parked.topics.clone()).unwrap_or_default(),
        inboxes: manifest.parked.as_ref().map(|parked| parked.inboxes.clone()).unwrap_or_default(),
        style: manifest.dead_letter.headers,
    }
}

fn trouble(error: BrokerError) -> Trouble {
    if error.kind == BrokerErrorKind::Operator {
        Trouble::Operator(error.message)
    } else {
        Trouble::Again(error.message)
    }
}

fn spawn<T: Send + 'static>(name: &str, run: impl FnOnce() -> T + Send + 'static) -> Result<JoinHandle<T>, Trouble> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(run)
        .map_err(|e| Trouble::Again(format!("no thread for {name}: {e}")))
}
