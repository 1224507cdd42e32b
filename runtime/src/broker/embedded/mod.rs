//! The embedded broker: topics, groups and their offsets in one folder, for one process at a time.
//!
//! A record counts as written, and a commit as made, only when the transaction they are in is durable. The process that
//! holds the folder serves a socket in it, over which commands reach it ([`client`]).

mod block;
mod consumer;
mod cursor;
mod errors;
mod folder;
mod janitor;
mod local;
mod producer;
mod settings;
mod socket;
mod sqlite;
mod staging;
mod store;
mod transactions;
mod writer;

#[cfg(any(test, feature = "fuzz"))]
pub(crate) use block::fuzz as block_fuzz;

use super::client::{Client, NewTopic};
use super::topics::{Kept, NeededTopic, TopicProblem, TopicRole, dead_letter_settings};
use super::{Broker, BrokerError, BrokerErrorKind, Consumer, Producer};
use crossbeam_channel::Sender;
use errors::operator;
use folder::{NotHeld, Purpose};
use settings::Settings;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use store::{Catalog, PartitionState, Store, TopicState};
use writer::Request;

/// How long a process that holds a folder for a moment, or does not answer yet, is waited for.
const HOLDER_WAIT: Duration = Duration::from_secs(3);
/// The same for one that serves it: killed a moment ago, it may hold its files still.
const DYING_WAIT: Duration = Duration::from_secs(1);
const HOLDER_PAUSE: Duration = Duration::from_millis(50);

/// `[embedded]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The folder.
    pub dir: PathBuf,
    /// Partitions of a topic that is made without saying how many.
    pub partitions: i32,
    /// Whether what is acknowledged survives a loss of power, and not only the end of the process.
    pub durable: bool,
}

/// A folder that is taken and not open yet; dropped, it is given back.
#[derive(Debug)]
pub struct Claim {
    held: folder::Held,
    options: Options,
}

impl Claim {
    /// Takes the folder, and makes it if it is not there.
    ///
    /// # Errors
    /// Another process holds it, or the disk refuses.
    pub fn take(options: &Options) -> Result<Self, BrokerError> {
        let began = Instant::now();
        loop {
            match folder::hold(&options.dir, Purpose::Serve) {
                Ok(held) => return Ok(Self { held, options: options.clone() }),
                Err(NotHeld::By(holder))
                    if began.elapsed() < if holder.soon_done { HOLDER_WAIT } else { DYING_WAIT } =>
                {
                    std::thread::sleep(HOLDER_PAUSE);
                }
                Err(not) => return Err(not.told(&options.dir)),
            }
        }
    }

    /// Opens it.
    ///
    /// # Errors
    /// It is of another version or damaged, or the disk refuses.
    pub fn open(self) -> Result<Embedded, BrokerError> {
        Embedded::of(self.held, &self.options)
    }
}

/// An open folder. The last one dropped closes it.
#[derive(Debug, Clone)]
pub struct Embedded {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Arc<Store>,
    options: Options,
    threads: Mutex<Option<Threads>>,
    /// Dropped last.
    _held: folder::Held,
}

#[derive(Debug)]
struct Threads {
    server: socket::Server,
    /// Dropping it ends the janitor.
    stop_janitor: Sender<()>,
    janitor: JoinHandle<()>,
    writer: JoinHandle<()>,
}

impl Embedded {
    /// [`Claim::take`] and [`Claim::open`] in one.
    ///
    /// # Errors
    /// Those of both.
    pub fn open(options: &Options) -> Result<Self, BrokerError> {
        Claim::take(options)?.open()
    }

    fn of(held: folder::Held, options: &Options) -> Result<Self, BrokerError> {
        let database = sqlite::open(&options.dir, options.durable)?;
        let mut catalog = Catalog::new();
        for topic in database.topics()? {
            let settings = Settings::parse(&topic.settings)?;
            let partitions = topic.bounds.iter().map(|(start, end)| PartitionState::new(*start, *end)).collect();
            let (id, name) = (topic.id, topic.name);
            catalog.insert(name.clone(), Arc::new(TopicState { id, name, settings, partitions }));
        }
        let (requests, inbox) = crossbeam_channel::bounded(writer::QUEUE);
        let store = Arc::new(Store::new(&options.dir, requests, catalog));
        // Before the threads: what fails here leaves nothing behind.
        let server = socket::Server::start(store.clone(), options.partitions)?;
        let its = store.clone();
        let writer = spawn("embedded-write", move || writer::run(database, &its, &inbox))?;
        let (stop_janitor, stopped) = crossbeam_channel::bounded(0);
        let its = store.clone();
        let janitor = spawn("embedded-tidy", move || janitor::run(&its, &stopped))?;
        let threads = Mutex::new(Some(Threads { server, stop_janitor, janitor, writer }));
        Ok(Self { inner: Arc::new(Inner { store, options: options.clone(), threads, _held: held }) })
    }

    /// Does the housekeeping that is due (retention, compaction) now; a thread does it every ten seconds.
    pub fn tidy(&self) -> Result<(), BrokerError> {
        janitor::round(&self.inner.store)
    }

    /// For commands and questions.
    pub fn client(&self) -> Result<Box<dyn Client>, BrokerError> {
        let Inner { store, options, .. } = self.inner.as_ref();
        Ok(Box::new(local::LocalClient::new(store.clone(), options.partitions, Some(self.inner.clone()))?))
    }

    /// Gives a topic more partitions. Keys move, as they do on Kafka.
    pub fn add_partitions(&self, topic: &str, partitions: i32) -> Result<(), BrokerError> {
        self.inner.store.ask(|answer| Request::Widen(topic.to_owned(), partitions, answer))
    }

    /// Makes a topic that is missing; `false` when it was there.
    fn make(&self, name: &str, partitions: Option<i32>, settings: Vec<(String, String)>) -> Result<bool, BrokerError> {
        let topic = NewTopic { name: name.to_owned(), partitions, settings };
        let default = self.inner.options.partitions;
        self.inner.store.ask(|answer| Request::Create(topic, default, answer))
    }

    fn make_dead_letter(&self, name: &str, input: &str) -> Result<Option<TopicProblem>, BrokerError> {
        let store = &self.inner.store;
        let input = store.topic(input)?;
        if let Ok(letters) = store.topic(name) {
            return Ok(unfit(&letters, &input));
        }
        let settings = dead_letter_settings(Some(input.settings.max_message_bytes));
        self.make(name, Some(input.count()), settings)?;
        Ok(None)
    }

    fn make_kept(&self, name: &str, input: &str, kept: Kept) -> Result<Vec<TopicProblem>, BrokerError> {
        let store = &self.inner.store;
        let input = store.topic(input)?;
        if let Ok(topic) = store.topic(name) {
            return Ok(unfit_kept(&topic, &input, kept));
        }
        let limit = input.settings.max_message_bytes;
        self.make(name, Some(input.count()), kept.settings(false, Some(limit)))?;
        Ok(Vec::new())
    }
}

/// What is wrong with an input's topic of ids, of state or of what is parked. No command changes a topic here.
fn unfit_kept(topic: &TopicState, input: &TopicState, kept: Kept) -> Vec<TopicProblem> {
    let (name, has, needs) = (&topic.name, topic.count(), input.count());
    let mut unfit: Vec<String> = Vec::new();
    if has != needs {
        unfit.push(format!("has {has} partitions, its input {needs}, and what is kept keeps its partition"));
    }
    let settings = kept.unfit(&topic.settings.all()).into_iter();
    unfit.extend(settings.map(|u| format!("has {}={}, and needs {}: {}", u.setting, u.has, u.needs, u.why)));
    let told = |why| TopicProblem {
        topic: name.clone(),
        message: format!("{} {name:?} {why}. Give the pipeline another group, which has its own", kept.topic()),
        command: None,
    };
    unfit.into_iter().map(told).collect()
}

/// What is wrong with an input's dead-letter topic.
fn unfit(letters: &TopicState, input: &TopicState) -> Option<TopicProblem> {
    let (name, has, needs) = (&letters.name, letters.count(), input.count());
    let message = if letters.settings.compact {
        "is compacted: it would keep one dead letter per key and refuse those without. Name another one".to_owned()
    } else if has < needs {
        format!("has {has} partitions, its input {needs}, and dead letters keep their partition: name another one")
    } else {
        return None;
    };
    Some(TopicProblem { topic: name.clone(), message: format!("dead-letter topic {name:?} {message}"), command: None })
}

impl Broker for Embedded {
    fn place(&self) -> String {
        self.inner.options.dir.display().to_string()
    }

    fn consumer(&self, group: &str, topics: &[String]) -> Result<Box<dyn Consumer>, BrokerError> {
        // A pipeline that starts anew on a damaged folder would only tell the same again.
        self.inner.store.check().map_err(|e| operator(e.message))?;
        Ok(Box::new(consumer::EmbeddedConsumer::new(&self.inner.store, group, topics)?))
    }

    fn producer(&self, _: &[&str]) -> Result<Box<dyn Producer>, BrokerError> {
        Ok(Box::new(producer::EmbeddedProducer::new(self.inner.store.clone())))
    }

    fn client(&self) -> Result<Box<dyn Client>, BrokerError> {
        self.client()
    }

    fn topic_names(&self, _: Duration) -> Result<BTreeSet<String>, BrokerError> {
        Ok(self.inner.store.catalog().keys().cloned().collect())
    }

    fn ensure(&self, needed: &[NeededTopic], _: Duration) -> Result<Vec<TopicProblem>, BrokerError> {
        for topic in needed.iter().filter(|t| matches!(t.role, TopicRole::Input | TopicRole::Output)) {
            if self.make(&topic.name, None, Vec::new())? {
                let partitions = self.inner.options.partitions;
                tracing::info!(topic = topic.name, partitions, "a topic was missing and is created");
            }
        }
        let mut problems = Vec::new();
        for topic in needed {
            match &topic.role {
                TopicRole::DeadLetter { input } => problems.extend(self.make_dead_letter(&topic.name, input)?),
                role => {
                    if let Some((kept, input)) = role.kept() {
                        problems.extend(self.make_kept(&topic.name, input, kept)?);
                    }
                }
            }
        }
        Ok(problems)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Threads { server, stop_janitor, janitor, writer }) = threads else { return };
        // IMPORTANT: the writer last, since the others wait for its answers.
        drop(server);
        drop(stop_janitor);
        let mut panicked = janitor.join().is_err();
        if let Err(error) = self.store.ask(Request::Stop) {
            tracing::warn!(%error, "the embedded broker was not closed in good order; what was acknowledged is safe");
        }
        panicked |= writer.join().is_err();
        if panicked {
            tracing::error!("a thread of the embedded broker panicked; what was acknowledged is safe");
        }
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, BrokerError> {
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(run);
    thread.map_err(|e| operator(format!("no thread for the embedded broker: {e}")))
}

/// Whether an embedded broker has been in the folder.
#[must_use]
pub fn exists(options: &Options) -> bool {
    options.dir.join(sqlite::DB_FILE).exists()
}

/// A client of the embedded broker in a folder that is there: through the process that holds the folder, or by taking the
/// folder itself for as long as the client lives.
///
/// # Errors
/// There is no such folder, or the process that holds it does not answer.
pub fn client(options: &Options) -> Result<Box<dyn Client>, BrokerError> {
    let until = Instant::now() + HOLDER_WAIT;
    loop {
        let who = match folder::hold(&options.dir, Purpose::Command) {
            Ok(held) => return Embedded::of(held, options)?.client(),
            Err(NotHeld::Failed(error)) => return Err(error),
            Err(not @ NotHeld::By(_)) => not,
        };
        match socket::SocketClient::open(&options.dir) {
            Ok(client) => return Ok(Box::new(client)),
            // It may be about to start or to end.
            Err(error) if error.kind == BrokerErrorKind::Retry && Instant::now() < until => {
                std::thread::sleep(HOLDER_PAUSE);
            }
            Err(error) => {
                let message = format!("{} ({})", error.message, who.told(&options.dir));
                return Err(BrokerError { kind: error.kind, message });
            }
        }
    }
}
