//! All pipelines of a process, kept to what the folder holds.

mod hands;
mod shown;
mod swap;

use super::audit::Audit;
use super::canary::Beginning;
use super::entry::{Entry, Event, Last, Ready};
use super::folder::{Candidate, Content, Folder, Look, told};
use super::setup::Setup;
use super::topics::{ASK, Topics};
use super::watch::Watch;
use super::{Known, Present, Runner, Step, Version, rival, steps};
use crate::admin::health::State;
use crate::admin::logging::Lines;
use crate::admin::metrics::Rollout;
use crate::alerts::{Kind, What};
use crate::config;
use crate::pipeline::{Budget, Ended, Failure, Parts, Pool, Serving, Shared, ensure_topics, short, supervised};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Two looks this far apart must be equal before a file is read: whoever writes it is through then, or will be seen.
const SETTLE: Duration = Duration::from_millis(250);
/// The same where all that changed was renamed into its place: it is whole, and others may be renamed with it.
const SETTLE_RENAMED: Duration = Duration::from_millis(60);
/// After an event, for those that come with it.
const GATHER: Duration = Duration::from_millis(20);
/// A handler that could not be loaded is tried again after this time: it may have been for want of memory.
const LOAD_AGAIN: Duration = Duration::from_secs(60);
/// So many looks at the folder for one question which topics there are, where a manifest has patterns.
const LOOKS_FOR_TOPICS: u32 = 2;

/// See the module.
pub struct Fleet {
    pub(super) setup: Setup,
    pool: Arc<Pool>,
    pub(super) entries: BTreeMap<String, Entry>,
    folder: Folder,
    watch: Watch,
    events: Receiver<Event>,
    pub(super) wake: Sender<Event>,
    pub(super) audit: Audit,
    /// The look that what runs was read at.
    accepted: Option<Look>,
    /// A look that differs from it: if the next one is the same, the folder is read.
    settling: Option<Look>,
    next_look: Instant,
    /// What was last told of pipelines that are not fit.
    refused: BTreeMap<String, String>,
    /// Handlers that could not be loaded, with their manifests, and when that was.
    unloadable: BTreeMap<String, (config::Pipeline, String, Instant)>,
    /// Pipelines that will start by themselves: once a topic is there, a broker answers, or another has drained.
    waiting: BTreeSet<String>,
    /// Why the broker did not answer in this round.
    silent: Option<String>,
    /// What the folder holds of pipelines that are paused, or were until a moment ago.
    aside: BTreeMap<String, hands::Aside>,
    topics: Topics,
    /// The worst end of those that count.
    worst: Ended,
}

impl Fleet {
    /// A fleet without pipelines, which follows its folder from now on.
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        let (wake, events) = bounded(64);
        let (hint, asked) = (wake.clone(), wake.clone());
        setup.board.attend(move || drop(asked.try_send(Event::Look)));
        // Where the queue is full, the fleet is about to look anyway.
        let watch = Watch::new(&setup.dir, move || drop(hint.try_send(Event::Look)));
        Self {
            pool: Pool::new(setup.records_bytes),
            entries: BTreeMap::new(),
            folder: Folder::new(&setup.dir, setup.variables, setup.trust.clone()),
            watch,
            events,
            wake,
            accepted: None,
            settling: None,
            audit: Audit::new(setup.broker.clone()),
            next_look: Instant::now(),
            refused: BTreeMap::new(),
            unloadable: BTreeMap::new(),
            waiting: BTreeSet::new(),
            silent: None,
            aside: BTreeMap::new(),
            topics: Topics::new(setup.poll.saturating_mul(LOOKS_FOR_TOPICS)),
            worst: Ended::Stopped,
            setup,
        }
    }

    /// Starts a pipeline whose topics are there.
    pub fn start(&mut self, ready: Ready) {
        let budget = self.pool.join();
        self.launch(ready, budget);
    }

    /// Runs until a stop is asked for and all pipelines are drained, or until none can go on, or until one is fenced: then
    /// the others drain, since they write under the same name.
    #[must_use]
    pub fn run(mut self) -> Ended {
        let wake = self.wake.clone();
        let _woken = self.setup.shared.stop.child(move || drop(wake.try_send(Event::Look)));
        loop {
            self.obey();
            self.show();
            let stopping = self.setup.shared.stop.requested();
            let running = self.entries.values().any(Entry::runs);
            let failed = self.entries.values().any(|entry| entry.failed);
            // Before the first look nobody knows what else the folder holds.
            let settled = self.waiting.is_empty() && self.aside.is_empty() && self.accepted.is_some();
            let hopeless = failed && !self.setup.patient && settled;
            if !running && (stopping || hopeless) {
                self.setup.board.leave();
                return if failed { self.worst.max(Ended::Failed) } else { self.worst };
            }
            let until = if stopping { Instant::now() + Duration::from_secs(1) } else { self.next_look };
            match self.events.recv_deadline(until) {
                Ok(Event::Ended(name, result)) => self.ended(&name, result),
                Ok(Event::Look) => self.hinted(),
                Err(RecvTimeoutError::Timeout) if !stopping => self.look(),
                // This end holds a sender itself: it is never the last.
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
            self.judge_trials();
        }
    }

    fn hinted(&mut self) {
        if self.settling.is_none() {
            self.next_look = self.next_look.min(Instant::now() + GATHER);
        }
    }

    fn look(&mut self) {
        let look = self.folder.look();
        self.watch.keep(self.accepted.as_ref().is_some_and(|before| look.moved(before)));
        self.setup.shared.metrics.plugins_watched.set(self.watch.watches().into());
        let now = Instant::now();
        if self.settling.as_ref() == Some(&look) {
            self.settling = None;
            self.accepted = Some(look);
            self.next_look = now + self.setup.poll;
            self.follow();
        } else if self.accepted.as_ref() == Some(&look) && self.refused.is_empty() {
            self.settling = None;
            self.next_look = now + self.setup.poll;
            if self.topics.changed(self.setup.broker.as_ref()) {
                self.follow();
            }
        } else {
            self.settling = Some(look);
            self.next_look = now + if self.watch.all_renamed() { SETTLE_RENAMED } else { SETTLE };
        }
    }

    /// Reads the folder and does what its change asks for.
    fn follow(&mut self) {
        let mut content = match self.folder.read() {
            Ok(content) => content,
            Err(faults) => {
                // Most likely it is replaced this moment, or its disk is away: nothing is drained for that.
                return self.refuse("", "the folder of the pipelines can't be read", &format!("{faults:#}"));
            }
        };
        self.refused.remove("");
        self.silent = None;
        self.set_aside(&mut content);
        let patterned = self.entries.values().any(|entry| !entry.manifest.patterns.is_empty());
        let waiting = self.topics.expand(&mut content, self.setup.broker.as_ref(), patterned);
        self.waiting = waiting.keys().cloned().collect();
        content.unfit.extend(waiting);
        self.forget(&content);
        for (name, why) in &content.unfit {
            self.refuse(name, "a pipeline is not fit to run", why);
        }
        let planned: Vec<(String, Step)> = {
            let fit = content.fit.iter().map(|(name, candidate)| (name.as_str(), Present::Fit(version(candidate))));
            let present = fit.chain(content.unfit.keys().map(|name| (name.as_str(), Present::Unfit))).collect();
            steps(&self.known(), &present).into_iter().map(|(name, step)| (name.to_owned(), step)).collect()
        };
        for (name, candidate) in content.fit.iter().filter(|(name, _)| planned.iter().all(|(other, _)| other != *name))
        {
            let passes = self.entries.get_mut(name).map_or(Ok(()), |entry| entry.passes(candidate));
            if let Err(why) = passes {
                self.refuse(name, "what runs would be refused at its next start", &why);
                continue;
            }
            if self.refused.remove(name).is_some() {
                tracing::info!(pipeline = name, "the folder holds what runs again");
            }
        }
        let files = content.fit.iter().map(|(name, candidate)| (name.clone(), candidate.manifest.clone())).collect();
        for (name, step) in planned {
            self.take_ends();
            if self.setup.shared.stop.requested() {
                return;
            }
            match (step, content.fit.remove(&name)) {
                (Step::Drain, _) => self.drain(&name, "the manifest is gone"),
                (Step::Swap, Some(candidate)) if self.runs(&name) => self.swap(&name, candidate),
                // It ended a moment ago.
                (Step::Swap, Some(candidate)) => self.place(&name, candidate, Step::Start, &files),
                (Step::Start | Step::Restart, Some(candidate)) => self.place(&name, candidate, step, &files),
                (_, None) => {}
            }
        }
    }

    /// Pipelines that ended meanwhile have their turn between two steps: what takes their place must not wait for others.
    fn take_ends(&mut self) {
        while let Ok(event) = self.events.try_recv() {
            match event {
                Event::Ended(name, result) => self.ended(&name, result),
                Event::Look => self.hinted(),
            }
        }
    }

    /// What was told of files that are gone is not remembered.
    fn forget(&mut self, content: &Content) {
        let (entries, aside) = (&self.entries, &self.aside);
        let there =
            |name: &str| content.fit.contains_key(name) || content.unfit.contains_key(name) || aside.contains_key(name);
        for name in self.refused.keys().filter(|name| !there(name) && !entries.contains_key(*name)) {
            self.setup.shared.metrics.remove(name);
            self.setup.shared.alerts.tell(name, Kind::Stopped, What::Over);
        }
        self.setup.shared.health.retain(|name| there(name) || entries.contains_key(name));
        self.refused.retain(|name, _| there(name));
        self.unloadable.retain(|name, _| there(name));
    }

    fn known(&self) -> BTreeMap<&str, Known<'_>> {
        let staying = self.entries.iter().filter(|(_, entry)| !entry.leaving);
        let known = staying.map(|(name, entry)| {
            let version = Version { manifest: &entry.manifest, digest: &entry.digest };
            (name.as_str(), Known { version, failed: entry.failed })
        });
        known.collect()
    }

    /// `why`: one thing that is wrong a line.
    fn refuse(&mut self, name: &str, what: &str, why: &str) {
        let lines = Lines(why.lines().map(|line| line.trim().to_owned()).collect());
        let why = format!("{lines:?}");
        let runs = self.entries.get(name).is_some_and(|entry| entry.runs() && !entry.leaving);
        if !runs && (self.waiting.contains(name) || self.setup.shared.health.knows(name)) {
            self.setup.shared.health.pipeline(name).set(State::NotReady(why.clone()));
        }
        if self.refused.get(name) == Some(&why) {
            return;
        }
        let so = if runs || name.is_empty() { "what ran before goes on" } else { "nothing of it runs" };
        tracing::warn!(pipeline = name, why = ?lines, "{what}, and {so}");
        if !name.is_empty() {
            self.setup.shared.metrics.pipeline(name).rollouts.add(Rollout::Refused, 1);
        }
        self.refused.insert(name.to_owned(), why);
    }

    fn runs(&self, name: &str) -> bool {
        self.entries.get(name).is_some_and(Entry::runs)
    }

    /// Starts a pipeline, or lets it take the place of the one that runs under its name. `files`: what is fit.
    fn place(&mut self, name: &str, candidate: Candidate, step: Step, files: &BTreeMap<String, config::Pipeline>) {
        if let Some((other, leaving)) = rival(name, &candidate.manifest, &self.runners(files)) {
            let group = &candidate.manifest.group;
            let why = if leaving {
                format!("it waits until {other} has drained, which reads the same input with the group {group:?}")
            } else {
                format!("{other} runs with the group {group:?} on the same input; give each a group of its own")
            };
            if leaving {
                self.waiting.insert(name.to_owned());
            }
            return self.refuse(name, "a pipeline is not fit to run", &why);
        }
        let identity = candidate.code.identity();
        let Some(ready) = self.load(name, candidate) else { return };
        if let Err(why) = self.reads_state(name, &ready) {
            // Not compiled and probed again at each look.
            self.unloadable.insert(name.to_owned(), (ready.manifest, identity, Instant::now()));
            return self.refuse(name, "a pipeline is not fit to run", &why);
        }
        if let Err(why) = self.ensure(&ready.manifest) {
            self.waiting.insert(name.to_owned());
            return self.refuse(name, "a pipeline's topics are not fit", &why);
        }
        self.refused.remove(name);
        let digest = short(ready.handler.digest());
        let rollouts = &self.setup.shared.metrics.pipeline(name).rollouts;
        if step == Step::Restart {
            rollouts.add(Rollout::Restarted, 1);
            tracing::info!(pipeline = name, digest, "the manifest changed: the pipeline drains and starts anew");
        } else {
            rollouts.add(Rollout::Started, 1);
            tracing::info!(pipeline = name, digest, "the pipeline starts");
        }
        match self.entries.get_mut(name) {
            Some(entry) if entry.runs() => {
                (entry.manifest, entry.digest) = (ready.manifest.clone(), ready.handler.digest().to_owned());
                entry.fresh.clone_from(&ready.fresh);
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

    /// A broker that did not answer once is not asked again in this round: each question takes its time.
    fn ensure(&mut self, manifest: &config::Pipeline) -> Result<(), String> {
        if let Some(why) = &self.silent {
            return Err(why.clone());
        }
        let problems = ensure_topics(self.setup.broker.as_ref(), manifest, ASK).map_err(|error| error.message);
        let problems = problems.inspect_err(|why| self.silent = Some(why.clone()))?;
        if problems.is_empty() { Ok(()) } else { Err(problems.join("\n")) }
    }

    /// What runs, for [`rival`].
    fn runners<'a>(&'a self, files: &'a BTreeMap<String, config::Pipeline>) -> BTreeMap<&'a str, Runner<'a>> {
        let running = self.entries.iter().filter(|(_, entry)| entry.runs());
        let runner = |(name, entry): (&'a String, &'a Entry)| {
            (name.as_str(), Runner { manifest: &entry.manifest, leaving: entry.leaving, file: files.get(name) })
        };
        running.map(runner).collect()
    }

    fn load(&mut self, name: &str, candidate: Candidate) -> Option<Ready> {
        let Candidate { manifest, code } = candidate;
        let digest = code.identity();
        let known = self.unloadable.get(name).filter(|(_, _, when)| when.elapsed() < LOAD_AGAIN);
        if known.is_some_and(|(before, bytes, _)| *before == manifest && *bytes == digest) {
            return None;
        }
        self.unloadable.remove(name);
        self.setup.board.loads(name, code.digest());
        match code.load(&self.setup.engine, &manifest) {
            Ok(handler) => {
                let fresh = self.fresh(&manifest);
                Some(Ready { manifest, handler, fresh, probed: Some(digest) })
            }
            Err(why) => {
                let why = told(&manifest.handler, &why);
                self.refuse(name, "a handler is not fit to run", &why);
                self.unloadable.insert(name.to_owned(), (manifest, digest, Instant::now()));
                None
            }
        }
    }

    /// Topics that a pattern of the pipeline, as it runs, has not matched before, and those that were such already.
    fn fresh(&self, manifest: &config::Pipeline) -> BTreeSet<String> {
        let Some(entry) = self.entries.get(&manifest.name) else { return BTreeSet::new() };
        let is_new = |input: &&String| {
            !entry.manifest.input.contains(input) && entry.manifest.patterns.iter().any(|p| p.matches(input))
        };
        entry.fresh.iter().chain(manifest.input.iter().filter(is_new)).cloned().collect()
    }

    fn drain(&mut self, name: &str, why: &str) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        (entry.leaving, entry.next) = (true, None);
        if entry.runs() {
            tracing::info!(pipeline = name, "{why}: the pipeline drains");
            self.setup.shared.metrics.pipeline(name).rollouts.add(Rollout::Drained, 1);
            entry.stop.request();
        } else {
            self.remove(name);
        }
    }

    fn remove(&mut self, name: &str) {
        self.entries.remove(name);
        self.setup.shared.health.remove(name);
        self.setup.shared.metrics.remove(name);
        self.pool.tidy();
        // Another may have waited for it.
        self.accepted = None;
        self.next_look = Instant::now();
    }

    fn launch(&mut self, ready: Ready, budget: Budget) {
        let Ready { manifest, handler, fresh, probed } = ready;
        let (name, digest) = (manifest.name.clone(), handler.digest().to_owned());
        let Beginning { serving, trial, rolled_back } = self.line_up(&manifest, handler);
        let serving = Serving::new(serving);
        if let Some((handler, terms)) = trial {
            self.begin_trial(&manifest, &serving, (handler, &terms));
        }
        let stop = self.setup.shared.stop.child(|| {});
        let parts = Parts {
            manifest: manifest.clone(),
            serving: serving.clone(),
            broker: self.setup.broker.clone(),
            budget: budget.clone(),
            fresh: (0..).zip(&manifest.input).filter(|(_, input)| fresh.contains(*input)).map(|(n, _)| n).collect(),
        };
        let shared = Shared { stop: stop.clone(), ..self.setup.shared.clone() };
        self.setup.shared.health.pipeline(&name).set(State::NotReady("starting".to_owned()));
        let last = Last { name: name.clone(), to: self.wake.clone(), result: None };
        let run = move || {
            // All of it moves in here, so that its end is told from this thread.
            let mut last = last;
            last.result = Some(supervised(&parts, &shared));
        };
        let spawned = std::thread::Builder::new().name(name.clone()).spawn(run);
        let failed = spawned.is_err();
        if let Err(error) = &spawned {
            tracing::error!(pipeline = name, %error, "no thread for the pipeline");
            self.setup.shared.health.pipeline(&name).set(State::NotReady(format!("no thread for it: {error}")));
        }
        let thread = spawned.ok();
        let (leaving, next, probed) = (false, None, probed.map(|identity| (identity, Ok(()))));
        let metrics = self.setup.shared.metrics.pipeline(&name);
        let entry = Entry {
            manifest,
            digest,
            serving,
            budget,
            metrics,
            stop,
            thread,
            failed,
            leaving,
            next,
            fresh,
            rolled_back,
            probed,
        };
        self.entries.insert(name, entry);
    }

    /// A pipeline's thread is through.
    fn ended(&mut self, name: &str, result: Result<(), Failure>) {
        let end = Ended::of(&result);
        let Some(entry) = self.entries.get_mut(name) else { return };
        if let Some(thread) = entry.thread.take()
            && thread.join().is_err()
        {
            tracing::error!(pipeline = name, "the pipeline's supervisor panicked");
        }
        let broke = matches!(&result, Err(Failure::Loop(_))) && entry.next.is_none();
        match result {
            Ok(()) => {}
            Err(Failure::Loop(why)) if broke => hands::give_up(&mut self.setup, name, &why),
            Err(Failure::Person(why) | Failure::Loop(why)) => {
                tracing::error!(pipeline = name, why, "the pipeline has stopped: a person must act");
            }
            Err(Failure::Stop(why)) => {
                let told = "the pipeline did not stop in good order: what is not committed runs again";
                tracing::error!(pipeline = name, why, "{told}");
            }
            Err(Failure::Fenced(why)) => {
                let told = "a newer instance has taken over, and this process ends. Each needs a store.dir of its own: was \
                            the folder copied?";
                tracing::error!(pipeline = name, why, "{told}");
                self.setup.shared.stop.request();
            }
        }
        if self.setup.shared.stop.requested() {
            self.worst = self.worst.max(end);
            return;
        }
        if let Some(next) = entry.next.take() {
            let budget = entry.budget.clone();
            self.launch(next, budget);
        } else if entry.leaving || broke {
            if !broke {
                tracing::info!(pipeline = name, "the pipeline is drained");
            }
            self.remove(name);
        } else {
            entry.failed = true;
        }
    }
}

fn version(candidate: &Candidate) -> Version<'_> {
    Version { manifest: &candidate.manifest, digest: candidate.code.digest() }
}
