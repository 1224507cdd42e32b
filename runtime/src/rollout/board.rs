//! What runs and what does not, as the fleet shows it and the admin server reads it; and what is asked of the fleet.
//!
//! One entry a pipeline, and in it one version that was refused: it grows with the folder, never with time.

mod tried;

pub use tried::{RolledBack, Trial};

use super::pauses::{By, Pause};
use crate::admin::health::{Health, State as Stand};
use crate::admin::metrics::{DeadLetterReason, Failure, Label as _, PipelineMetrics};
use crate::config;
use crate::pipeline::wall_ms;
use serde::Serialize;
use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What is asked and not answered yet, at most.
const ASKED: usize = 64;

/// What a pipeline does, in a word. They are part of the product's face: add to them, never rename.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// A version of it is compiled, opened and probed, and nothing of it runs yet.
    Loading,
    /// It runs.
    Active,
    /// It runs, and a new version is on trial on a part of its keys.
    Canary,
    /// It runs or is to, and something is not there yet: a topic, a broker, an assignment.
    Waiting,
    /// It finishes what it began, and ends.
    Draining,
    /// It was paused, and is drained.
    Paused,
    /// It can't go on.
    Failed,
    /// Its files are not fit to run, and nothing of it does.
    Rejected,
    /// It is not in the folder any more, and this is the last that is told of it.
    Gone,
}

impl State {
    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Loading => "loading",
            Self::Active => "active",
            Self::Canary => "canary",
            Self::Waiting => "waiting",
            Self::Draining => "draining",
            Self::Paused => "paused",
            Self::Failed => "failed",
            Self::Rejected => "rejected",
            Self::Gone => "gone",
        }
    }
}

/// A pipeline, as it is told.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Entry {
    /// The manifest's name.
    pub pipeline: String,
    /// What it does.
    pub state: State,
    /// Why, where that is not plain.
    pub detail: Option<String>,
    /// The manifest's file; `None` where the folder has none of that name.
    pub manifest: Option<String>,
    /// The handler's file, where the manifest could be read.
    pub handler: Option<String>,
    /// Of the handler that runs; where none does, of the one that the folder holds, if it was read.
    pub digest: Option<String>,
    /// When that version began to serve, in milliseconds since 1970.
    pub since_ms: Option<i64>,
    /// What became of messages since then.
    pub messages: Option<Counts>,
    /// How often it started anew by itself since the process runs.
    pub restarts: u64,
    /// Who paused it.
    pub paused: Option<Paused>,
    /// The version that is being compiled, opened and probed now.
    pub loading: Option<String>,
    /// The last version that was not taken, while the one above serves.
    pub refused: Option<Refused>,
    /// The version that is on trial beside it.
    pub trial: Option<Trial>,
    /// The folder's version, where that was rolled back.
    pub rolled_back: Option<RolledBack>,
}

/// Numbers of one version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Counts {
    /// Messages whose fate is decided.
    pub settled: u64,
    /// Runs that failed.
    pub failed_runs: u64,
    /// Messages that became dead letters.
    pub dead_letters: u64,
}

impl Counts {
    fn of(metrics: &PipelineMetrics) -> Self {
        Self {
            settled: metrics.settled_in_all(),
            failed_runs: Failure::ALL.iter().map(|kind| metrics.attempts_failed.get(*kind)).sum(),
            dead_letters: DeadLetterReason::ALL.iter().map(|reason| metrics.dead_letters.get(*reason)).sum(),
        }
    }

    fn since(self, before: Self) -> Self {
        Self {
            settled: self.settled.saturating_sub(before.settled),
            failed_runs: self.failed_runs.saturating_sub(before.failed_runs),
            dead_letters: self.dead_letters.saturating_sub(before.dead_letters),
        }
    }
}

/// A pause, as it is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Paused {
    /// `hand`, or `policy`: it broke again and again.
    pub by: &'static str,
    /// In milliseconds since 1970.
    pub since_ms: i64,
    /// Why, if it was not by hand.
    pub why: Option<String>,
}

/// A version that was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// Its digest, if it came so far that it was read whole and was what manifest and signature ask for.
    pub digest: Option<String>,
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// What is wrong with it.
    pub why: String,
}

/// What somebody wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It drains and leaves its group, and stays so.
    Pause,
    /// It goes on with what the folder holds.
    Resume,
    /// What is on trial serves.
    Promote,
    /// What is on trial goes.
    Rollback,
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Pause, Self::Resume, Self::Promote, Self::Rollback];

    /// The word, in commands and paths.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Promote => "promote",
            Self::Rollback => "rollback",
        }
    }
}

/// What becomes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It is so.
    Done,
    /// It is under way, and will be so by itself.
    Begun,
    /// It can't be, as things are.
    Refused(String),
    /// Something is at fault, and nothing changed.
    Failed(String),
}

/// Something that is asked of the fleet. Dropped without an answer, the asker hears that there is none.
pub(super) struct Asked {
    pub(super) pipeline: String,
    pub(super) action: Action,
    pub(super) answer: Box<dyn FnOnce(Answer) + Send>,
}

/// How a pipeline stands, as the fleet knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stands {
    Runs,
    Drains,
    Waits,
    Rests,
    Failed,
    Rejected,
}

/// What the fleet shows of a pipeline.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) stands: Stands,
    pub(super) manifest: Option<PathBuf>,
    pub(super) handler: Option<PathBuf>,
    pub(super) digest: Option<String>,
    pub(super) runs: Option<Runs>,
    pub(super) refused: Option<String>,
    pub(super) pause: Option<Pause>,
    pub(super) trial: Option<Trial>,
    pub(super) rolled_back: Option<RolledBack>,
}

/// What runs of it.
#[derive(Debug, Clone)]
pub(super) struct Runs {
    /// The same as long as it is not started anew.
    pub(super) start: Arc<dyn Any + Send + Sync>,
    /// Of its version since then.
    pub(super) number: u32,
    pub(super) metrics: Arc<PipelineMetrics>,
}

/// What is kept of a pipeline between two looks.
#[derive(Debug)]
struct Kept {
    found: Found,
    /// Of the version that runs.
    version: Option<Version>,
    refused: Option<Refused>,
}

/// A version that runs, since when, and what stood on its pipeline's counters then.
#[derive(Debug)]
struct Version {
    runs: Runs,
    since_ms: i64,
    before: Counts,
}

#[derive(Default)]
struct Asks {
    queue: VecDeque<Asked>,
    /// Wakes the fleet; `None` while there is none.
    wake: Option<Box<dyn Fn() + Send>>,
}

#[derive(Debug, Default)]
struct Shown {
    kept: BTreeMap<String, Kept>,
    /// Versions that are being loaded, by pipeline: their digests.
    loading: BTreeMap<String, String>,
}

#[derive(Default)]
struct Inner {
    shown: Mutex<Shown>,
    asks: Mutex<Asks>,
}

/// See the module. Clones share it.
#[derive(Clone, Default)]
pub struct Board(Arc<Inner>);

impl fmt::Debug for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Board").field(&*lock(&self.0.shown)).finish()
    }
}

impl Board {
    /// All pipelines, in the order of their names.
    #[must_use]
    pub fn entries(&self, health: &Health) -> Vec<Entry> {
        let shown = lock(&self.0.shown);
        let kept = shown.kept.iter().map(|(name, kept)| kept.entry(name, shown.loading.get(name).cloned(), health));
        let others = shown.loading.iter().filter(|(name, _)| !shown.kept.contains_key(*name));
        let mut all: Vec<Entry> = kept.chain(others.map(|(name, digest)| first(name, digest))).collect();
        all.sort_by(|one, other| one.pipeline.cmp(&other.pipeline));
        all
    }

    /// One of them.
    #[must_use]
    pub fn entry(&self, name: &str, health: &Health) -> Option<Entry> {
        let shown = lock(&self.0.shown);
        let loading = shown.loading.get(name);
        let kept = shown.kept.get(name).map(|kept| kept.entry(name, loading.cloned(), health));
        kept.or_else(|| loading.map(|digest| first(name, digest)))
    }

    /// Asks the fleet for something. The answer comes from its thread, in its turn.
    ///
    /// # Errors
    /// Nobody would answer: why.
    pub fn ask(
        &self,
        pipeline: &str,
        action: Action,
        answer: impl FnOnce(Answer) + Send + 'static,
    ) -> Result<(), String> {
        let mut asks = lock(&self.0.asks);
        if asks.wake.is_none() {
            return Err("the process starts or stops at the moment; try again".to_owned());
        }
        if asks.queue.len() >= ASKED {
            return Err("too much is asked at once; try again".to_owned());
        }
        asks.queue.push_back(Asked { pipeline: pipeline.to_owned(), action, answer: Box::new(answer) });
        if let Some(wake) = &asks.wake {
            wake();
        }
        Ok(())
    }

    /// These are to run, and there is no fleet yet.
    pub(crate) fn starts<'a>(&self, all: impl Iterator<Item = &'a config::Pipeline>) {
        let found = |manifest: &config::Pipeline| Found {
            stands: Stands::Waits,
            manifest: Some(manifest.manifest.clone()),
            handler: Some(manifest.handler.clone()),
            digest: None,
            runs: None,
            refused: None,
            pause: None,
            trial: None,
            rolled_back: None,
        };
        self.show(all.map(|manifest| (manifest.name.clone(), found(manifest))).collect());
    }

    /// A fleet answers from now on. `wake` must not wait.
    pub(super) fn attend(&self, wake: impl Fn() + Send + 'static) {
        lock(&self.0.asks).wake = Some(Box::new(wake));
    }

    /// Nobody answers any more.
    pub(super) fn leave(&self) {
        let left = std::mem::take(&mut *lock(&self.0.asks));
        // Outside the lock: each asker hears of it as its question is dropped.
        drop(left);
    }

    /// What is asked.
    pub(super) fn asked(&self) -> Option<Asked> {
        lock(&self.0.asks).queue.pop_front()
    }

    /// This version is about to be loaded.
    pub(super) fn loads(&self, name: &str, digest: &str) {
        lock(&self.0.shown).loading.insert(name.to_owned(), digest.to_owned());
    }

    /// How all of them stand now. Whatever was being loaded is, or is refused.
    pub(super) fn show(&self, all: BTreeMap<String, Found>) {
        let mut shown = lock(&self.0.shown);
        let (mut before, mut tried) = (std::mem::take(&mut shown.kept), std::mem::take(&mut shown.loading));
        for (name, found) in all {
            let kept = Kept::after(before.remove(&name), found, tried.remove(&name));
            shown.kept.insert(name, kept);
        }
    }
}

impl Kept {
    fn after(before: Option<Self>, found: Found, tried: Option<String>) -> Self {
        let (version, refused) = before.map_or((None, None), |before| (before.version, before.refused));
        let same = |one: &Runs, other: &Runs| Arc::ptr_eq(&one.start, &other.start) && one.number == other.number;
        let version = found.runs.as_ref().map(|runs| match version {
            Some(version) if same(&version.runs, runs) => version,
            _ => Version { runs: runs.clone(), since_ms: wall_ms(), before: Counts::of(&runs.metrics) },
        });
        let refused = found.refused.as_ref().map(|why| match refused {
            Some(refused) if refused.why == *why && tried.is_none() => refused,
            _ => Refused { digest: tried, at_ms: wall_ms(), why: why.clone() },
        });
        Self { found, version, refused }
    }

    fn entry(&self, name: &str, loading: Option<String>, health: &Health) -> Entry {
        let Found { stands, manifest, handler, digest, pause, .. } = &self.found;
        let unready = match health.state(name) {
            Some(Stand::NotReady(why)) => Some(why),
            _ => None,
        };
        let refused_why = || self.refused.as_ref().map(|refused| refused.why.clone());
        let (state, detail) = match stands {
            Stands::Runs if unready.is_some() => (State::Waiting, unready),
            Stands::Runs if self.found.trial.is_some() => (State::Canary, None),
            Stands::Runs => (State::Active, None),
            Stands::Drains => (State::Draining, None),
            Stands::Failed => (State::Failed, unready),
            Stands::Rests => (State::Paused, pause.as_ref().and_then(|pause| pause.why.clone())),
            Stands::Waits => (State::Waiting, refused_why().or(unready)),
            Stands::Rejected if loading.is_some() => (State::Loading, None),
            Stands::Rejected => (State::Rejected, refused_why()),
        };
        // Where nothing serves beside it, it is told above.
        let refused = self.refused.clone().filter(|_| !matches!(stands, Stands::Waits | Stands::Rejected));
        let shown = |path: &PathBuf| path.display().to_string();
        Entry {
            pipeline: name.to_owned(),
            state,
            detail,
            manifest: manifest.as_ref().map(shown),
            handler: handler.as_ref().map(shown),
            digest: digest.clone().or_else(|| self.refused.as_ref()?.digest.clone()),
            since_ms: self.version.as_ref().map(|version| version.since_ms),
            messages: self.version.as_ref().map(|version| Counts::of(&version.runs.metrics).since(version.before)),
            restarts: self.version.as_ref().map_or(0, |version| version.runs.metrics.restarts.get()),
            paused: pause.as_ref().map(told),
            loading,
            refused,
            trial: self.found.trial.clone(),
            rolled_back: self.found.rolled_back.clone(),
        }
    }
}

fn told(pause: &Pause) -> Paused {
    let by = match pause.by {
        By::Hand => "hand",
        By::Policy => "policy",
    };
    Paused { by, since_ms: pause.since_ms, why: pause.why.clone() }
}

/// A pipeline of which nothing was there before.
fn first(name: &str, digest: &str) -> Entry {
    Entry { loading: Some(digest.to_owned()), ..Entry::bare(name, State::Loading) }
}

impl Entry {
    /// What is left of it once it is forgotten.
    #[must_use]
    pub fn gone(name: &str) -> Self {
        Self::bare(name, State::Gone)
    }

    fn bare(name: &str, state: State) -> Self {
        Self {
            pipeline: name.to_owned(),
            state,
            detail: None,
            manifest: None,
            handler: None,
            digest: None,
            since_ms: None,
            messages: None,
            restarts: 0,
            paused: None,
            loading: None,
            refused: None,
            trial: None,
            rolled_back: None,
        }
    }
}

/// What these locks guard is sound after any panic: each holder replaces values whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
pub(crate) mod tests;
