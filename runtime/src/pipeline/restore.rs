//! Reads what internal topics hold of partitions, before the first record of those partitions runs.
//!
//! On a thread of its own: the group, other partitions' messages and their commits go on meanwhile. A partition is read
//! up to where its log ended when that was asked, which is the high watermark and not the last stable offset: a commit may
//! be decided whose marker is not written yet, and a dead process's transaction may still be open. What is read is what
//! is committed, so a transaction that is open is waited for; the broker ends it some 20 s after its process died.
//!
//! IMPORTANT: whoever wants a partition asks for the group's committed offsets first. What is committed then has its
//! records below an end that is asked later.

mod progress;
mod shared;

use crate::admin::metrics::PipelineMetrics;
use crate::broker::client::Client;
use crate::broker::topics::NeededTopic;
use crate::broker::{Broker, BrokerError, BrokerErrorKind};
use crate::record::{Record, TopicPartition};
use progress::Progress;
use shared::{Next, Shared, Span, Wanted};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// One look for records; how soon a change of what is wanted is seen.
const LOOK: Duration = Duration::from_millis(100);
/// Between two attempts when the broker did not answer.
const PAUSE: Duration = Duration::from_millis(500);
/// A topic that is there and yet not known may be new to the broker that was asked.
const UNKNOWN: Duration = Duration::from_secs(60);
/// Between two looks whether the topics are there and fit, while the broker does not answer.
const LOOK_AT_TOPICS: Duration = Duration::from_secs(5);
/// What gives nothing for so long is asked again where it ends: it may be another log by now.
const SILENT: Duration = Duration::from_secs(5);
/// One such look.
const ASK: Duration = Duration::from_secs(10);
/// The thread is waited for so long when its pipeline ends; a question to a broker that does not answer takes longer.
const END: Duration = Duration::from_secs(2);

/// Why a partition can't be restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failed {
    /// It may pass: begin anew, with nothing.
    Again(String),
    /// A person must act.
    Operator(String),
}

/// Takes what is read of one partition.
pub trait Fill: Send + Sync {
    /// All below this offset is in; `None`: nothing is. Told are the log's id ([`Client::log_of`]) and its end. `end` is where the log ends: what says to be further is of another
    /// log, and counts for nothing.
    ///
    /// # Errors
    /// That can't be known.
    fn position(&self, log: u64, end: i64) -> Result<Option<i64>, Failed>;

    /// Takes a record, and gives how many entries it held. Records come in the order of their offsets; after a failure of
    /// the broker some come again.
    ///
    /// # Errors
    /// It is none, or there is no room for it.
    fn take(&self, record: &Record) -> Result<u64, Failed>;

    /// All below this offset is in.
    ///
    /// # Errors
    /// That can't be noted.
    fn reach(&self, position: i64) -> Result<(), Failed>;
}

/// What the thread works with.
pub struct Source {
    /// Where the topics are.
    pub broker: Arc<dyn Broker>,
    /// Names of the topics, by [`TopicPartition::topic`].
    pub topics: Vec<String>,
    /// What must hold for them: looked at when one of them can't be read.
    pub needed: Vec<NeededTopic>,
    /// Where rates and totals are shown.
    pub metrics: Arc<PipelineMetrics>,
    /// For the log.
    pub pipeline: String,
}

/// Reads partitions when they are wanted, on a thread of its own, which ends with this.
pub struct Restorer {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
    numbers: u64,
}

impl Restorer {
    /// Starts the thread, which waits until something is wanted.
    ///
    /// # Errors
    /// There is no thread for it.
    pub fn start(source: Source) -> Result<Self, Failed> {
        let shared = Arc::<Shared>::default();
        let its = shared.clone();
        let thread = std::thread::Builder::new().name(format!("{}-restore", source.pipeline)).spawn(move || {
            let progress = Progress::new(source.metrics.clone(), source.pipeline.clone());
            Restoring { source, shared: its, client: None, progress, unknown: None, looked: None }.run();
        });
        let thread = thread.map_err(|e| Failed::Again(format!("no thread for a restore: {e}")))?;
        Ok(Self { shared, thread, numbers: 0 })
    }

    /// This partition is to be read from where `fill` is on. Gives the number by which [`Restorer::done`] tells that it
    /// is; an earlier wish for the same partition counts no more.
    pub fn want(&mut self, at: TopicPartition, fill: Arc<dyn Fill>) -> u64 {
        self.numbers += 1;
        self.shared.change(|state| {
            state.wanted.insert(at, Wanted { number: self.numbers, fill, span: None });
        });
        self.numbers
    }

    /// It is not wanted any more.
    pub fn forget(&mut self, at: TopicPartition) {
        self.shared.change(|state| {
            state.wanted.remove(&at);
        });
    }

    /// From now on [`Restorer::ends`] tells where this partition's log ends, or no more.
    pub fn watch(&mut self, at: TopicPartition, watch: bool) {
        // What is read meanwhile is not disturbed.
        let mut state = self.shared.lock();
        state.ends.remove(&at);
        if watch {
            state.watched.insert(at);
        } else {
            state.watched.remove(&at);
        }
    }

    /// Where logs of what is watched ended not long ago, if that was asked since this was called last. Never blocks.
    pub fn ends(&mut self) -> BTreeMap<TopicPartition, i64> {
        std::mem::take(&mut self.shared.lock().ends)
    }

    /// Numbers of what is read since this was asked last. Never blocks.
    ///
    /// # Errors
    /// It can't go on.
    pub fn done(&mut self) -> Result<Vec<u64>, Failed> {
        let mut state = self.shared.lock();
        if let Some(failed) = &state.failed {
            return Err(failed.clone());
        }
        if self.thread.is_finished() {
            return Err(Failed::Again("the thread that restores panicked; the log says where".to_owned()));
        }
        Ok(std::mem::take(&mut state.done))
    }

    /// What it is at, for people.
    #[must_use]
    pub fn told(&self) -> String {
        self.shared.lock().told.clone()
    }
}

impl Drop for Restorer {
    fn drop(&mut self) {
        self.shared.change(|state| state.over = true);
        let until = Instant::now() + END;
        while !self.thread.is_finished() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Why a round ended before all was read.
enum Broken {
    Failed(Failed),
    Broker(BrokerError),
}

impl From<BrokerError> for Broken {
    fn from(error: BrokerError) -> Self {
        Self::Broker(error)
    }
}

impl From<Failed> for Broken {
    fn from(failed: Failed) -> Self {
        Self::Failed(failed)
    }
}

struct Restoring {
    source: Source,
    shared: Arc<Shared>,
    client: Option<Box<dyn Client>>,
    progress: Progress,
    /// Since when the broker does not know a topic that is there.
    unknown: Option<Instant>,
    /// When it was last looked whether the topics are there and fit.
    looked: Option<Instant>,
}

impl Restoring {
    fn run(mut self) {
        while let Some(next) = self.shared.next() {
            let (version, mut wanted) = match next {
                Next::Read(version, wanted) => (version, wanted),
                Next::Look(watched) => {
                    self.look(&watched);
                    continue;
                }
            };
            let result = self.round(version, &mut wanted);
            let broken = result.err().map(|broken| self.judge(broken));
            let mut state = self.shared.lock();
            // What was read counts, also when another round must follow.
            for (at, read) in wanted {
                if let Some(own) = state.wanted.get_mut(&at).filter(|own| own.number == read.number) {
                    own.span = read.span;
                }
            }
            if state.wanted.is_empty() {
                state.told = String::new();
                self.progress.idle();
            }
            match broken {
                None => {}
                Some(Ok(why)) => {
                    self.client = None;
                    state.told = why;
                    drop(state);
                    self.shared.rest(version, PAUSE);
                }
                Some(Err(failed)) => {
                    state.failed = Some(failed);
                    return;
                }
            }
        }
        self.progress.idle();
    }

    /// Asks where the logs of what is watched end. What can't be answered is asked again later: nothing waits for it.
    fn look(&mut self, watched: &[TopicPartition]) {
        let mut by_topic: BTreeMap<u32, Vec<i32>> = BTreeMap::new();
        watched.iter().for_each(|at| by_topic.entry(at.topic).or_default().push(at.partition));
        for (topic, partitions) in by_topic {
            let asked = self.client().and_then(|mut client| {
                let name = self.source.topics.get(topic as usize).map_or("", String::as_str);
                let all = client.bounds(name, &partitions);
                self.client = Some(client);
                all
            });
            match asked {
                Ok(all) => {
                    let mut state = self.shared.lock();
                    for (partition, bounds) in partitions.into_iter().zip(all) {
                        let at = TopicPartition { topic, partition };
                        if state.watched.contains(&at) {
                            state.ends.insert(at, bounds.end);
                        }
                    }
                }
                Err(error) => {
                    self.client = None;
                    tracing::debug!(pipeline = self.source.pipeline, %error, "the ends of internal topics are not known");
                }
            }
        }
    }

    fn client(&mut self) -> Result<Box<dyn Client>, BrokerError> {
        self.client.take().map_or_else(|| self.source.broker.client(), Ok)
    }

    /// What a failure comes to: `Ok`: to try again, for this reason.
    fn judge(&mut self, broken: Broken) -> Result<String, Failed> {
        let error = match broken {
            Broken::Failed(failed) => return Err(failed),
            Broken::Broker(error) => error,
        };
        // What is wrong with a topic has a better name, and a cure; and a partition that is not there looks as if its broker
        // were away.
        if error.kind == BrokerErrorKind::Operator || self.looked.is_none_or(|at| at.elapsed() > LOOK_AT_TOPICS) {
            self.looked = Some(Instant::now());
            match self.source.broker.ensure(&self.source.needed, ASK) {
                Ok(problems) if problems.is_empty() && error.kind != BrokerErrorKind::Operator => {}
                Ok(problems) if problems.is_empty() => {
                    if self.unknown.get_or_insert_with(Instant::now).elapsed() > UNKNOWN {
                        return Err(Failed::Operator(error.message));
                    }
                }
                Ok(problems) => {
                    let all: Vec<String> = problems.into_iter().map(super::process::told).collect();
                    return Err(Failed::Operator(all.join("\n")));
                }
                Err(other) if other.kind == BrokerErrorKind::Operator => return Err(Failed::Operator(other.message)),
                Err(_) => {}
            }
        }
        self.progress.trouble(&error);
        Ok(error.message)
    }

    /// Reads until all is in, or something else is wanted.
    fn round(&mut self, version: u64, wanted: &mut BTreeMap<TopicPartition, Wanted>) -> Result<(), Broken> {
        let began = Instant::now();
        let mut client = self.client()?;
        let result = self.with(client.as_mut(), version, wanted);
        self.client = Some(client);
        self.progress.took(began.elapsed());
        result
    }

    fn with(
        &mut self,
        client: &mut dyn Client,
        version: u64,
        wanted: &mut BTreeMap<TopicPartition, Wanted>,
    ) -> Result<(), Broken> {
        self.ask_ends(client, wanted)?;
        self.unknown = None;
        self.finish(wanted)?;
        let open = |w: &Wanted| w.span.filter(|span| span.next < span.end);
        let starts: Vec<(TopicPartition, i64)> =
            wanted.iter().filter_map(|(at, w)| open(w).map(|span| (*at, span.next))).collect();
        if starts.is_empty() {
            return Ok(());
        }
        let mut reader = client.read(&self.source.topics, &starts)?;
        let mut records = Vec::new();
        let mut heard = Instant::now();
        self.progress.begin();
        loop {
            let broken = reader.next(LOOK, &mut records).err();
            let count = records.len();
            for record in records.drain(..) {
                self.take(&record, wanted)?;
            }
            for (at, w) in wanted.iter_mut() {
                if let (Some(span), Some(position)) = (&mut w.span, reader.position(*at)) {
                    span.next = span.next.max(position);
                }
            }
            self.finish(wanted)?;
            self.tell(wanted, count);
            if let Some(error) = broken {
                return Err(error.into());
            }
            if count > 0 {
                heard = Instant::now();
            } else if heard.elapsed() > SILENT {
                heard = Instant::now();
                self.check_ends(client, wanted)?;
            }
            if wanted.values().all(|w| open(w).is_none()) || self.shared.lock().version != version {
                return Ok(());
            }
        }
    }

    /// Asks where the logs of those end that were not asked yet, and so what of them is to be read.
    fn ask_ends(&self, client: &mut dyn Client, wanted: &mut BTreeMap<TopicPartition, Wanted>) -> Result<(), Broken> {
        let mut by_topic: BTreeMap<u32, Vec<i32>> = BTreeMap::new();
        for (at, _) in wanted.iter().filter(|(_, w)| w.span.is_none()) {
            by_topic.entry(at.topic).or_default().push(at.partition);
        }
        for (topic, partitions) in by_topic {
            let name = self.name(topic)?;
            // IMPORTANT: before the ends, which must not be of a later log.
            let log = client.log_of(name)?;
            let all = client.bounds(name, &partitions)?;
            for (partition, bounds) in partitions.into_iter().zip(all) {
                let Some(one) = wanted.get_mut(&TopicPartition { topic, partition }) else { continue };
                let from = one.fill.position(log, bounds.end)?.unwrap_or(bounds.start).max(bounds.start);
                one.span = Some(Span { from, next: from, end: bounds.end });
            }
        }
        Ok(())
    }

    /// A log that ends before where it was to be read to was cut, or made anew: that end never comes.
    fn check_ends(&self, client: &mut dyn Client, wanted: &BTreeMap<TopicPartition, Wanted>) -> Result<(), Broken> {
        let mut by_topic: BTreeMap<u32, Vec<(i32, i64)>> = BTreeMap::new();
        for (at, one) in wanted {
            let Some(span) = one.span else { continue };
            by_topic.entry(at.topic).or_default().push((at.partition, span.end));
        }
        for (topic, ends) in by_topic {
            let name = self.name(topic)?;
            let partitions: Vec<i32> = ends.iter().map(|(partition, _)| *partition).collect();
            for ((partition, was), bounds) in ends.into_iter().zip(client.bounds(name, &partitions)?) {
                let is = bounds.end;
                if is < was {
                    let why =
                        format!("{name}/{partition} ended at {was} and ends at {is} now: it was cut, or made anew");
                    return Err(Failed::Again(why).into());
                }
            }
        }
        Ok(())
    }

    fn name(&self, topic: u32) -> Result<&String, Failed> {
        let none = || Failed::Again(format!("there is no internal topic of input {topic}"));
        self.source.topics.get(topic as usize).ok_or_else(none)
    }

    fn take(&mut self, record: &Record, wanted: &mut BTreeMap<TopicPartition, Wanted>) -> Result<(), Failed> {
        let Some(one) = wanted.get_mut(&record.at) else { return Ok(()) };
        let entries = one.fill.take(record)?;
        self.progress.read(record, entries);
        if let Some(span) = &mut one.span {
            span.next = span.next.max(record.offset + 1);
        }
        Ok(())
    }

    /// Those that are read to their end are done.
    fn finish(&self, wanted: &mut BTreeMap<TopicPartition, Wanted>) -> Result<(), Failed> {
        let is_read = |w: &Wanted| w.span.is_some_and(|span| span.next >= span.end);
        for (at, one) in wanted.extract_if(.., |_, w| is_read(w)) {
            if let Some(span) = one.span {
                one.fill.reach(span.next)?;
            }
            let mut state = self.shared.lock();
            if state.wanted.get(&at).is_some_and(|own| own.number == one.number) {
                state.wanted.remove(&at);
                state.done.push(one.number);
            }
        }
        Ok(())
    }

    fn tell(&mut self, wanted: &BTreeMap<TopicPartition, Wanted>, came: usize) {
        let open = wanted.iter().filter_map(|(at, w)| Some((*at, w.span?)));
        let told = self.progress.tell(open, &self.source.topics, came);
        self.shared.lock().told = told;
    }
}

impl std::fmt::Debug for Restorer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Restorer").field("told", &self.told()).finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(super) mod tests;
