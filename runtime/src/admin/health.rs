//! Whether the process is alive and ready, as its threads report it.
//!
//! *Live* asks whether a restart would help: a thread died, or gave no sign of life for longer than anything it does may
//! take. *Ready* asks whether every pipeline does its work. A broker that is away makes a process unready, never dead.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The health of the process.
#[derive(Debug)]
pub struct Health {
    base: Instant,
    stopping: AtomicBool,
    pipelines: Mutex<Vec<Arc<PipelineHealth>>>,
}

impl Default for Health {
    fn default() -> Self {
        Self::new()
    }
}

impl Health {
    /// A process without pipelines: alive, and not ready.
    #[must_use]
    pub fn new() -> Self {
        Self { base: Instant::now(), stopping: AtomicBool::new(false), pipelines: Mutex::default() }
    }

    /// The health of this pipeline, made on the first call; until [`PipelineHealth::set`] it is starting.
    #[must_use]
    pub fn pipeline(&self, name: &str) -> Arc<PipelineHealth> {
        let mut all = lock(&self.pipelines);
        if let Some(found) = all.iter().find(|p| p.name == name) {
            return found.clone();
        }
        let new = Arc::new(PipelineHealth {
            name: name.to_owned(),
            base: self.base,
            state: Mutex::new(State::NotReady("starting".to_owned())),
            threads: Mutex::default(),
        });
        all.push(new.clone());
        new
    }

    /// This pipeline is gone, and counts no more.
    pub fn remove(&self, name: &str) {
        self.retain(|other| other != name);
    }

    /// Only these pipelines are left.
    pub fn retain(&self, stays: impl Fn(&str) -> bool) {
        lock(&self.pipelines).retain(|pipeline| stays(&pipeline.name));
    }

    /// Whether this pipeline counts.
    #[must_use]
    pub fn knows(&self, name: &str) -> bool {
        lock(&self.pipelines).iter().any(|pipeline| pipeline.name == name)
    }

    /// How this pipeline stands, if it counts.
    #[must_use]
    pub fn state(&self, name: &str) -> Option<State> {
        lock(&self.pipelines).iter().find(|pipeline| pipeline.name == name).map(|pipeline| pipeline.state())
    }

    /// The process was told to stop: from now on it is not ready.
    pub fn stopping(&self) {
        self.stopping.store(true, Relaxed);
    }

    /// What is dead, one line each; empty means alive.
    #[must_use]
    pub fn dead(&self) -> Vec<String> {
        lock(&self.pipelines).iter().flat_map(|p| p.dead()).collect()
    }

    /// Pipelines that somebody paused, one line each. They do not count against being ready.
    #[must_use]
    pub fn paused(&self) -> Vec<String> {
        let pipelines = lock(&self.pipelines).clone();
        let paused = pipelines.iter().filter(|pipeline| pipeline.state() == State::Paused);
        paused.map(|pipeline| format!("pipeline {}: paused", pipeline.name)).collect()
    }

    /// Why the process is not ready, one line each; empty means ready.
    #[must_use]
    pub fn unready(&self) -> Vec<String> {
        let mut why = Vec::new();
        if self.stopping.load(Relaxed) {
            why.push("stopping".to_owned());
        }
        let pipelines = lock(&self.pipelines).clone();
        if pipelines.is_empty() {
            why.push("starting: no pipeline yet".to_owned());
        }
        for pipeline in pipelines {
            if let State::NotReady(reason) = &*lock(&pipeline.state) {
                why.push(format!("pipeline {}: {reason}", pipeline.name));
            }
            why.extend(pipeline.dead());
        }
        why
    }
}

/// How a pipeline stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It is a member of its group and handles what it is given, which may be nothing.
    Ready,
    /// It does not work, for this reason ("waits for its first assignment", "no broker answers: ...").
    NotReady(String),
    /// Somebody paused it: it does not work, and is not meant to.
    Paused,
}

/// The health of one pipeline.
#[derive(Debug)]
pub struct PipelineHealth {
    name: String,
    base: Instant,
    state: Mutex<State>,
    threads: Mutex<Vec<Arc<Thread>>>,
}

#[derive(Debug)]
struct Thread {
    name: String,
    limit: Duration,
    /// Milliseconds after `Health::base`.
    last_ms: AtomicU64,
    panicked: AtomicBool,
}

impl PipelineHealth {
    /// Tells how the pipeline stands. Not for every message: it takes a lock. One that is paused stays so, whatever its threads
    /// say while they drain, until [`PipelineHealth::resumes`].
    pub fn set(&self, state: State) {
        let mut now = lock(&self.state);
        if *now != State::Paused {
            *now = state;
        }
    }

    /// It is to work again.
    pub fn resumes(&self) {
        *lock(&self.state) = State::NotReady("starting".to_owned());
    }

    /// How it stands.
    #[must_use]
    pub fn state(&self) -> State {
        lock(&self.state).clone()
    }

    /// Registers the calling thread. It counts as dead when it panics, or gives no beat for `limit`, which must be longer
    /// than its longest call (a shard's: `batch.max-time`). Dropping the heartbeat signs the thread off.
    #[must_use]
    pub fn heartbeat(&self, thread: &str, limit: Duration) -> Heartbeat {
        let thread = Arc::new(Thread {
            name: thread.to_owned(),
            limit,
            last_ms: AtomicU64::new(millis(self.base.elapsed())),
            panicked: AtomicBool::new(false),
        });
        let mut all = lock(&self.threads);
        // A thread that panicked counts until another took its place.
        all.retain(|t| Arc::strong_count(t) > 1 || (t.panicked.load(Relaxed) && t.name != thread.name));
        all.push(thread.clone());
        Heartbeat { base: self.base, thread }
    }

    fn dead(&self) -> Vec<String> {
        let mut dead = Vec::new();
        for thread in lock(&self.threads).iter() {
            let silent_ms = millis(self.base.elapsed()).saturating_sub(thread.last_ms.load(Relaxed));
            let Thread { name, limit, .. } = &**thread;
            if thread.panicked.load(Relaxed) {
                dead.push(format!("pipeline {}: thread {name} panicked, the log says where", self.name));
            } else if Arc::strong_count(thread) > 1 && silent_ms > millis(*limit) {
                let silent_s = silent_ms / 1000;
                dead.push(format!(
                    "pipeline {}: thread {name} gave no sign of life for {silent_s} s (limit {} s)",
                    self.name,
                    limit.as_secs()
                ));
            }
        }
        dead
    }
}

/// A thread's sign of life. The thread owns it and drops it when it ends.
#[derive(Debug)]
pub struct Heartbeat {
    base: Instant,
    thread: Arc<Thread>,
}

impl Heartbeat {
    /// The thread lives. Costs a clock reading and a store: fit for every turn of a loop, not for every message.
    pub fn beat(&self) {
        self.thread.last_ms.store(millis(self.base.elapsed()), Relaxed);
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.thread.panicked.store(true, Relaxed);
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// What these locks guard is sound after any panic: each holder only replaces or appends one value.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(600);

    #[test]
    fn ready_only_when_every_pipeline_is() {
        let health = Health::new();
        assert_eq!(health.unready(), ["starting: no pipeline yet"]);
        let (a, b) = (health.pipeline("a"), health.pipeline("b"));
        a.set(State::Ready);
        assert_eq!(health.unready(), ["pipeline b: starting"]);
        b.set(State::NotReady("no broker answers".to_owned()));
        assert_eq!(health.unready(), ["pipeline b: no broker answers"]);
        health.pipeline("b").set(State::Ready);
        assert_eq!(health.unready(), Vec::<String>::new());
        a.set(State::Paused);
        a.set(State::NotReady("stopping".to_owned()));
        assert_eq!(
            (health.unready(), health.paused()),
            (Vec::new(), vec!["pipeline a: paused".to_owned()]),
            "it drains"
        );
        a.resumes();
        assert_eq!((health.unready(), health.paused()), (vec!["pipeline a: starting".to_owned()], Vec::new()));
        a.set(State::Ready);
        health.stopping();
        assert_eq!(health.unready(), ["stopping"]);
        assert_eq!(health.dead(), Vec::<String>::new());
    }

    #[test]
    fn a_silent_thread_is_dead_until_it_beats_again() {
        let health = Health::new();
        let beat = health.pipeline("a").heartbeat("shard 3", Duration::from_millis(20));
        let _other = health.pipeline("a").heartbeat("shard 4", LONG);
        assert_eq!(health.dead(), Vec::<String>::new());
        std::thread::sleep(Duration::from_millis(40));
        assert_eq!(health.dead(), ["pipeline a: thread shard 3 gave no sign of life for 0 s (limit 0 s)"]);
        beat.beat();
        assert_eq!(health.dead(), Vec::<String>::new());
    }

    #[test]
    fn a_thread_that_ended_is_not_dead_and_one_that_panicked_is() {
        let health = Health::new();
        let pipeline = health.pipeline("a");
        pipeline.set(State::Ready);
        drop(pipeline.heartbeat("committer", Duration::ZERO));
        std::thread::sleep(Duration::from_millis(5));
        assert_eq!(health.dead(), Vec::<String>::new());
        let beat = pipeline.heartbeat("consumer", LONG);
        let thread = std::thread::spawn(move || {
            beat.beat();
            std::panic::resume_unwind(Box::new("for the test"));
        });
        assert!(thread.join().is_err());
        let _other = pipeline.heartbeat("committer", LONG);
        let told = ["pipeline a: thread consumer panicked, the log says where"];
        assert_eq!(health.dead(), told);
        assert_eq!(health.unready(), told);
        let _next = pipeline.heartbeat("consumer", LONG);
        assert_eq!(health.dead(), Vec::<String>::new(), "the pipeline started anew");
    }
}
