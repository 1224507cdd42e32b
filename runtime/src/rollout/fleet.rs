//! All pipelines of a process, kept to what the folder holds.

use super::folder::{Candidate, Content, Folder, Look, told};
use super::setup::Setup;
use super::watch::Watch;
use super::{Known, Present, Step, Version, rival, steps};
use crate::admin::health::State;
use crate::admin::metrics::Rollout;
use crate::admin::stop::Stop;
use crate::config;
use crate::pipeline::{Budget, Failure, Parts, Pool, Serving, Shared, ensure_topics, short, supervise};
use crate::wasm::Handler;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Two looks this far apart must be equal before a file is read: whoever writes it is through then, or will be seen.
const SETTLE: Duration = Duration::from_millis(250);
/// After an event, for those that come with it.
const GATHER: Duration = Duration::from_millis(20);
/// One question to the broker about a new pipeline's topics.
const ASK: Duration = Duration::from_secs(3);
/// So many looks at the folder for one question which topics there are, where a manifest has patterns.
const LOOKS_FOR_TOPICS: u32 = 2;

/// What wakes the fleet.
enum Event {
    /// The folder may have changed, or a stop was asked for.
    Look,
    Ended(String, Result<(), Failure>),
}

/// A pipeline that is about to run.
pub struct Ready {
    /// Its manifest.
    pub manifest: config::Pipeline,
    /// Its handler.
    pub handler: Handler,
    /// Inputs, by index, that came to be while it ran: where nothing of them is committed, they start at their beginning.
    pub fresh: BTreeSet<u32>,
}

struct Entry {
    manifest: config::Pipeline,
    digest: String,
    serving: Arc<Serving>,
    budget: Budget,
    stop: Stop,
    thread: Option<JoinHandle<()>>,
    /// Why it ended; a person must act.
    failed: bool,
    /// It was removed, and is on its way out.
    leaving: bool,
    /// What takes its place once it has ended.
    next: Option<Ready>,
}

/// See the module.
pub struct Fleet {
    setup: Setup,
    pool: Arc<Pool>,
    entries: BTreeMap<String, Entry>,
    folder: Folder,
    watch: Watch,
    events: Receiver<Event>,
    wake: Sender<Event>,
    /// The look that what runs was read at.
    accepted: Option<Look>,
    /// A look that differs from it: if the next one is the same, the folder is read.
    settling: Option<Look>,
    next_look: Instant,
    /// What was last told of pipelines that are not fit.
    refused: BTreeMap<String, String>,
    /// The topics there are, while a manifest has patterns of them.
    topics: Option<BTreeSet<String>>,
    next_topics: Instant,
}

impl Fleet {
    /// A fleet without pipelines, which follows its folder from now on.
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        let (wake, events) = bounded(64);
        let hint = wake.clone();
        // Where the queue is full, the fleet is about to look anyway.
        let watch = Watch::new(&setup.dir, move || drop(hint.try_send(Event::Look)));
        Self {
            pool: Pool::new(setup.records_bytes),
            entries: BTreeMap::new(),
            folder: Folder::new(&setup.dir, setup.variables),
            watch,
            events,
            wake,
            accepted: None,
            settling: None,
            next_look: Instant::now(),
            refused: BTreeMap::new(),
            topics: None,
            next_topics: Instant::now(),
            setup,
        }
    }

    /// Starts a pipeline whose topics are there.
    pub fn start(&mut self, ready: Ready) {
        let budget = self.pool.join();
        self.launch(ready, budget);
    }

    /// Runs until a stop is asked for and all pipelines are drained, or until none can go on. `true`: all ended in good
    /// order.
    pub fn run(mut self) -> bool {
        let wake = self.wake.clone();
        let _woken = self.setup.stop.child(move || drop(wake.try_send(Event::Look)));
        let mut good = true;
        loop {
            let stopping = self.setup.stop.requested();
            let running = self.entries.values().any(|entry| entry.thread.is_some());
            let failed = self.entries.values().any(|entry| entry.failed);
            if !running && (stopping || (failed && !self.setup.patient)) {
                return good && !failed;
            }
            let until = if stopping { Instant::now() + Duration::from_secs(1) } else { self.next_look };
            match self.events.recv_deadline(until) {
                Ok(Event::Ended(name, result)) => good &= self.ended(&name, result) || !stopping,
                Ok(Event::Look) => self.hinted(),
                Err(RecvTimeoutError::Timeout) if !stopping => self.look(),
                // This end holds a sender itself: it is never the last.
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
        }
    }

    fn hinted(&mut self) {
        if self.settling.is_none() {
            self.next_look = self.next_look.min(Instant::now() + GATHER);
        }
    }

    fn look(&mut self) {
        let look = self.folder.look();
        if self.accepted.as_ref().is_some_and(|before| look.moved(before)) {
            self.watch.renew();
        }
        let now = Instant::now();
        if self.settling.as_ref() == Some(&look) {
            self.settling = None;
            self.accepted = Some(look);
            self.next_look = now + self.setup.poll;
            self.follow();
        } else if self.accepted.as_ref() == Some(&look) && self.refused.is_empty() {
            self.settling = None;
            self.next_look = now + self.setup.poll;
            if self.topics.is_some() && self.ask_for_topics() {
                self.follow();
            }
        } else {
            self.settling = Some(look);
            self.next_look = now + SETTLE;
        }
    }

    /// Reads the folder and does what its change asks for.
    fn follow(&mut self) {
        let mut content = match self.folder.read() {
            Ok(content) => content,
            Err(faults) => {
                // Most likely it is replaced this moment, or its disk is away: nothing is drained for that.
                return self.refuse("", "the folder of the pipelines can't be read", &faults.to_string());
            }
        };
        self.refused.remove("");
        self.expand(&mut content);
        self.forget(&content);
        for (name, why) in &content.unfit {
            self.refuse(name, "a pipeline is not fit to run", why);
        }
        let planned: Vec<(String, Step)> = {
            let fit = content.fit.iter().map(|(name, candidate)| (name.as_str(), Present::Fit(version(candidate))));
            let present = fit.chain(content.unfit.keys().map(|name| (name.as_str(), Present::Unfit))).collect();
            steps(&self.known(), &present).into_iter().map(|(name, step)| (name.to_owned(), step)).collect()
        };
        for name in content.fit.keys().filter(|name| planned.iter().all(|(planned, _)| planned != *name)) {
            if self.refused.remove(name).is_some() {
                tracing::info!(pipeline = name, "the folder holds what runs again");
            }
        }
        for (name, step) in planned {
            match (step, content.fit.remove(&name)) {
                (Step::Drain, _) => self.drain(&name),
                (Step::Swap, Some(candidate)) => self.swap(&name, candidate),
                (Step::Start | Step::Restart, Some(candidate)) => self.place(&name, candidate, step),
                (_, None) => {}
            }
        }
    }

    /// Gives pipelines with patterns the topics that these stand for now.
    fn expand(&mut self, content: &mut Content) {
        if content.fit.values().all(|candidate| candidate.manifest.patterns.is_empty()) {
            self.topics = None;
            return;
        }
        self.ask_for_topics();
        let there = self.topics.get_or_insert_default();
        let mut nothing = Vec::new();
        for (name, candidate) in content.fit.iter_mut().filter(|(_, c)| !c.manifest.patterns.is_empty()) {
            match candidate.manifest.with_topics(there) {
                Some(manifest) => candidate.manifest = manifest,
                None => nothing.push(name.clone()),
            }
        }
        for name in nothing {
            let Some(candidate) = content.fit.remove(&name) else { continue };
            let patterns: Vec<&str> = candidate.manifest.patterns.iter().map(config::Pattern::text).collect();
            let why = format!("no topic matches {}; it starts when there is one", patterns.join(" or "));
            if !self.entries.contains_key(&name) {
                self.setup.health.pipeline(&name).set(State::NotReady(why.clone()));
            }
            content.unfit.insert(name, why);
        }
    }

    /// Whether other topics are there than before. While the broker does not answer, those of before are.
    fn ask_for_topics(&mut self) -> bool {
        if self.topics.is_some() && Instant::now() < self.next_topics {
            return false;
        }
        self.next_topics = Instant::now() + self.setup.poll.saturating_mul(LOOKS_FOR_TOPICS);
        match self.setup.broker.topic_names(ASK) {
            Ok(found) => {
                let new = self.topics.as_ref() != Some(&found);
                self.topics = Some(found);
                new
            }
            Err(error) => {
                tracing::warn!(%error, "the topics can't be told, so patterns stand for those of before");
                false
            }
        }
    }

    /// What was told of files that are gone is not remembered.
    fn forget(&mut self, content: &Content) {
        let entries = &self.entries;
        let there = |name: &String| content.fit.contains_key(name) || content.unfit.contains_key(name);
        for name in self.refused.keys().filter(|name| !there(name) && !entries.contains_key(*name)) {
            self.setup.metrics.remove(name);
            self.setup.health.remove(name);
        }
        self.refused.retain(|name, _| there(name));
    }

    fn known(&self) -> BTreeMap<&str, Known<'_>> {
        let staying = self.entries.iter().filter(|(_, entry)| !entry.leaving);
        let known = staying.map(|(name, entry)| {
            let version = Version { manifest: &entry.manifest, digest: &entry.digest };
            (name.as_str(), Known { version, failed: entry.failed })
        });
        known.collect()
    }

    fn refuse(&mut self, name: &str, what: &str, why: &str) {
        let why = why.split('\n').map(str::trim).collect::<Vec<_>>().join("; ");
        if self.refused.get(name) == Some(&why) {
            return;
        }
        let runs = self.entries.get(name).is_some_and(|entry| entry.thread.is_some());
        let so = if runs || name.is_empty() { "what ran before goes on" } else { "nothing of it runs" };
        tracing::warn!(pipeline = name, why, "{what}, and {so}");
        if !name.is_empty() {
            self.setup.metrics.pipeline(name).rollouts.add(Rollout::Refused, 1);
        }
        self.refused.insert(name.to_owned(), why);
    }

    fn swap(&mut self, name: &str, candidate: Candidate) {
        let began = Instant::now();
        let (digest, manifest) = (candidate.code.digest().to_owned(), candidate.manifest.clone());
        let Some(ready) = self.load(name, candidate) else { return };
        let Some(entry) = self.entries.get_mut(name) else { return };
        if let Some(next) = &mut entry.next {
            next.handler = ready.handler;
        } else {
            let metrics = self.setup.metrics.pipeline(name);
            metrics.set_handler(ready.handler.metrics().clone());
            metrics.rollouts.add(Rollout::Swapped, 1);
            entry.serving.swap(ready.handler);
        }
        let (from, to, took_ms) = (&entry.digest, &digest, began.elapsed().as_millis() as u64);
        tracing::info!(pipeline = name, from = short(from), to = short(to), took_ms, "the handler is swapped");
        (entry.digest, entry.manifest) = (digest, manifest);
        self.refused.remove(name);
    }

    /// Starts a pipeline, or lets it take the place of the one that runs under its name.
    fn place(&mut self, name: &str, candidate: Candidate, step: Step) {
        if let Some(other) = rival(name, &candidate.manifest, &self.known()) {
            let group = &candidate.manifest.group;
            let why = format!("{other} runs with the group {group:?} on the same input; give each a group of its own");
            return self.refuse(name, "a pipeline is not fit to run", &why);
        }
        let Some(ready) = self.load(name, candidate) else { return };
        if let Err(why) = ensure_topics(self.setup.broker.as_ref(), &ready.manifest, ASK) {
            return self.refuse(name, "a pipeline's topics are not fit", &why);
        }
        self.refused.remove(name);
        for warning in &ready.manifest.warnings {
            tracing::warn!(pipeline = name, "{warning}");
        }
        let digest = short(ready.handler.digest());
        let rollouts = &self.setup.metrics.pipeline(name).rollouts;
        if step == Step::Restart {
            rollouts.add(Rollout::Restarted, 1);
            tracing::info!(pipeline = name, digest, "the manifest changed: the pipeline drains and starts anew");
        } else {
            rollouts.add(Rollout::Started, 1);
            tracing::info!(pipeline = name, digest, "the pipeline starts");
        }
        match self.entries.get_mut(name) {
            Some(entry) if entry.thread.is_some() => {
                (entry.manifest, entry.digest) = (ready.manifest.clone(), ready.handler.digest().to_owned());
                (entry.next, entry.leaving) = (Some(ready), false);
                entry.stop.request();
            }
            Some(entry) => {
                let budget = entry.budget.clone();
                self.launch(ready, budget);
            }
            None => self.start(ready),
        }
    }

    fn load(&mut self, name: &str, candidate: Candidate) -> Option<Ready> {
        let Candidate { manifest, code } = candidate;
        match code.load(&self.setup.engine, &manifest) {
            Ok(handler) => {
                let fresh = self.fresh(&manifest);
                Some(Ready { manifest, handler, fresh })
            }
            Err(why) => {
                let why = told(&manifest.handler, &why);
                self.refuse(name, "a handler is not fit to run", &why);
                None
            }
        }
    }

    /// Topics that a pattern of the pipeline, as it runs, has not matched before.
    fn fresh(&self, manifest: &config::Pipeline) -> BTreeSet<u32> {
        let Some(entry) = self.entries.get(&manifest.name) else { return BTreeSet::new() };
        let inputs = (0..).zip(&manifest.input);
        let new = inputs.filter(|(_, input)| !entry.manifest.input.contains(input));
        new.filter(|(_, input)| entry.manifest.patterns.iter().any(|p| p.matches(input))).map(|(n, _)| n).collect()
    }

    fn drain(&mut self, name: &str) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        (entry.leaving, entry.next) = (true, None);
        if entry.thread.is_some() {
            tracing::info!(pipeline = name, "the manifest is gone: the pipeline drains");
            self.setup.metrics.pipeline(name).rollouts.add(Rollout::Drained, 1);
            entry.stop.request();
        } else {
            self.remove(name);
        }
    }

    fn remove(&mut self, name: &str) {
        self.entries.remove(name);
        self.setup.health.remove(name);
        self.setup.metrics.remove(name);
        self.pool.tidy();
    }

    fn launch(&mut self, ready: Ready, budget: Budget) {
        let Ready { manifest, handler, fresh } = ready;
        let (name, digest) = (manifest.name.clone(), handler.digest().to_owned());
        let serving = Serving::new(handler);
        let stop = self.setup.stop.child(|| {});
        let parts = Parts {
            manifest: manifest.clone(),
            serving: serving.clone(),
            broker: self.setup.broker.clone(),
            budget: budget.clone(),
            fresh,
        };
        let shared = Shared {
            grace: self.setup.grace,
            shards: self.setup.shards,
            health: self.setup.health.clone(),
            metrics: self.setup.metrics.clone(),
            stop: stop.clone(),
            witness: self.setup.witness.clone(),
        };
        self.setup.health.pipeline(&name).set(State::NotReady("starting".to_owned()));
        let last = Last { name: name.clone(), to: self.wake.clone(), result: None };
        let run = move || {
            // All of it moves in here, so that its end is told from this thread.
            let mut last = last;
            last.result = Some(supervise(&parts, &shared));
        };
        let spawned = std::thread::Builder::new().name(name.clone()).spawn(run);
        let failed = spawned.is_err();
        if let Err(error) = &spawned {
            tracing::error!(pipeline = name, %error, "no thread for the pipeline");
            self.setup.health.pipeline(&name).set(State::NotReady(format!("no thread for it: {error}")));
        }
        let thread = spawned.ok();
        let (leaving, next) = (false, None);
        let entry = Entry { manifest, digest, serving, budget, stop, thread, failed, leaving, next };
        self.entries.insert(name, entry);
    }

    /// A pipeline's thread is through. `false`: not in good order.
    fn ended(&mut self, name: &str, result: Result<(), Failure>) -> bool {
        let Some(entry) = self.entries.get_mut(name) else { return true };
        if let Some(thread) = entry.thread.take()
            && thread.join().is_err()
        {
            tracing::error!(pipeline = name, "the pipeline's supervisor panicked");
        }
        let good = result.is_ok();
        match result {
            Ok(()) => {}
            Err(Failure::Person(why)) => {
                tracing::error!(pipeline = name, why, "the pipeline has stopped: a person must act");
            }
            Err(Failure::Stop(why)) => {
                let told = "the pipeline did not stop in good order: what is not committed runs again";
                tracing::error!(pipeline = name, why, "{told}");
            }
        }
        if self.setup.stop.requested() {
            return good;
        }
        if let Some(next) = entry.next.take() {
            let budget = entry.budget.clone();
            self.launch(next, budget);
        } else if entry.leaving {
            tracing::info!(pipeline = name, "the pipeline is drained");
            self.remove(name);
        } else {
            entry.failed = true;
        }
        good
    }
}

/// Tells the fleet that a thread is through, however it ends.
struct Last {
    name: String,
    to: Sender<Event>,
    result: Option<Result<(), Failure>>,
}

impl Drop for Last {
    fn drop(&mut self) {
        let panicked = || Err(Failure::Person("it panicked; the log says where".to_owned()));
        let result = self.result.take().unwrap_or_else(panicked);
        // Nobody listens only when the process is over.
        drop(self.to.send(Event::Ended(std::mem::take(&mut self.name), result)));
    }
}

fn version(candidate: &Candidate) -> Version<'_> {
    Version { manifest: &candidate.manifest, digest: candidate.code.digest() }
}
