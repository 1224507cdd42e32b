//! Restores from the embedded broker, and from one that fails.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail by panicking")]

use super::*;
use crate::admin::metrics::Metrics;
use crate::broker::client::NewTopic;
use crate::broker::embedded::{Embedded, Options};
use crate::broker::topics::{TopicProblem, TopicRole};
use crate::broker::{Consumer, Produce, Producer};
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

const LIMIT: Duration = Duration::from_secs(30);

/// Remembers offsets, and says where it was.
#[derive(Default)]
struct Offsets {
    taken: Mutex<Vec<i64>>,
    position: Mutex<Option<i64>>,
}

impl Fill for Offsets {
    fn position(&self, _: u64, end: i64) -> Result<Option<i64>, Failed> {
        Ok(self.at().filter(|at| *at <= end))
    }
    fn take(&self, record: &Record) -> Result<u64, Failed> {
        if record.value() == Some(b"bad") {
            return Err(Failed::Operator("it is none".to_owned()));
        }
        self.taken.lock().unwrap().push(record.offset);
        Ok(2)
    }
    fn reach(&self, position: i64) -> Result<(), Failed> {
        *self.position.lock().unwrap() = Some(position);
        Ok(())
    }
}

impl Offsets {
    fn at(&self) -> Option<i64> {
        *self.position.lock().unwrap()
    }
}

/// An embedded broker with the topic "ids" of two partitions, some of whose clients fail.
pub(in crate::pipeline) struct Flaky {
    broker: Embedded,
    /// So many clients more can't be had.
    pub(in crate::pipeline) fails: AtomicUsize,
    clients: AtomicUsize,
}

impl Broker for Flaky {
    fn place(&self) -> String {
        self.broker.place()
    }
    fn consumer(&self, group: &str, topics: &[String]) -> Result<Box<dyn Consumer>, BrokerError> {
        self.broker.consumer(group, topics)
    }
    fn producer(&self, topics: &[&str]) -> Result<Box<dyn Producer>, BrokerError> {
        self.broker.producer(topics)
    }
    fn client(&self) -> Result<Box<dyn Client>, BrokerError> {
        self.clients.fetch_add(1, SeqCst);
        if self.fails.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok() {
            return Err(BrokerError { kind: BrokerErrorKind::Retry, message: "nobody answers".to_owned() });
        }
        self.broker.client()
    }
    fn topic_names(&self, wait: Duration) -> Result<BTreeSet<String>, BrokerError> {
        self.broker.topic_names(wait)
    }
    fn ensure(&self, needed: &[NeededTopic], wait: Duration) -> Result<Vec<TopicProblem>, BrokerError> {
        self.broker.ensure(needed, wait)
    }
}

pub(in crate::pipeline) struct Scene {
    folder: std::path::PathBuf,
    pub(in crate::pipeline) broker: Arc<Flaky>,
    metrics: Arc<PipelineMetrics>,
}

impl Scene {
    pub(in crate::pipeline) fn new(name: &str) -> Self {
        Self::with(name, 2)
    }

    /// An input with so many partitions.
    fn with(name: &str, partitions: i32) -> Self {
        let folder = std::env::temp_dir().join(format!("keyrail-restore-{}-{name}", std::process::id()));
        let options = Options { dir: folder.clone(), partitions: 2, durable: false };
        let broker = Embedded::open(&options).unwrap();
        for (name, partitions) in [("in", partitions), ("ids", 2)] {
            let new = NewTopic { name: name.to_owned(), partitions: Some(partitions), settings: Vec::new() };
            assert!(broker.client().unwrap().create_topic(&new).unwrap());
        }
        let broker = Flaky { broker, fails: AtomicUsize::new(0), clients: AtomicUsize::new(0) };
        Self { folder, broker: Arc::new(broker), metrics: Metrics::new().pipeline("p") }
    }

    pub(in crate::pipeline) fn write(&self, partition: i32, values: &[&[u8]]) {
        let records: Vec<Produce<'_>> = values
            .iter()
            .map(|value| Produce {
                topic: "ids",
                partition: Some(partition),
                key: None,
                value: Some(value),
                headers: &[],
                timestamp_ms: None,
            })
            .collect();
        assert!(self.broker.broker.client().unwrap().produce(&records).unwrap().iter().all(Result::is_ok));
    }

    pub(in crate::pipeline) fn source(&self) -> Source {
        let role = TopicRole::Seen { input: "in".to_owned(), window: Duration::from_secs(60) };
        Source {
            broker: self.broker.clone(),
            topics: vec!["ids".to_owned()],
            needed: vec![NeededTopic { name: "ids".to_owned(), role }],
            metrics: self.metrics.clone(),
            pipeline: "p".to_owned(),
        }
    }

    fn restorer(&self) -> Restorer {
        Restorer::start(self.source()).unwrap()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

fn at(partition: i32) -> TopicPartition {
    TopicPartition { topic: 0, partition }
}

/// Waits until these are done, in any order.
fn until(restorer: &mut Restorer, mut numbers: Vec<u64>) -> Result<(), Failed> {
    let deadline = Instant::now() + LIMIT;
    while !numbers.is_empty() {
        for number in restorer.done()? {
            assert!(numbers.contains(&number), "{number} was not waited for");
            numbers.retain(|other| *other != number);
        }
        assert!(Instant::now() < deadline, "{numbers:?} are missing: {}", restorer.told());
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

#[test]
fn partitions_are_read_to_their_ends_and_later_from_where_they_were() {
    let scene = Scene::new("ends");
    scene.write(0, &[b"a", b"b", b"c"]);
    let mut restorer = scene.restorer();
    let (first, empty) = (Arc::new(Offsets::default()), Arc::new(Offsets::default()));
    let numbers = vec![restorer.want(at(0), first.clone()), restorer.want(at(1), empty.clone())];
    until(&mut restorer, numbers).unwrap();
    assert_eq!(*first.taken.lock().unwrap(), [0, 1, 2]);
    assert_eq!((first.at(), empty.at()), (Some(3), Some(0)));
    scene.write(0, &[b"d"]);
    let number = restorer.want(at(0), first.clone());
    until(&mut restorer, vec![number]).unwrap();
    assert_eq!(*first.taken.lock().unwrap(), [0, 1, 2, 3]);
    assert_eq!(scene.metrics.restore_records.get(), 4);
    assert_eq!(scene.metrics.restore_entries.get(), 8);
    assert_eq!(scene.metrics.restore_remaining.get(), 0);
}

#[test]
fn what_is_not_wanted_any_more_is_not_told() {
    let scene = Scene::new("unwanted");
    scene.write(0, &[b"a"]);
    scene.broker.fails.store(3, SeqCst);
    let mut restorer = scene.restorer();
    let (old, new) = (Arc::new(Offsets::default()), Arc::new(Offsets::default()));
    restorer.want(at(0), old.clone());
    restorer.want(at(1), old.clone());
    restorer.forget(at(1));
    let number = restorer.want(at(0), new.clone());
    until(&mut restorer, vec![number]).unwrap();
    assert_eq!(*new.taken.lock().unwrap(), [0]);
    assert!(old.taken.lock().unwrap().is_empty());
    assert_eq!(restorer.done(), Ok(Vec::new()));
}

#[test]
fn a_broker_that_does_not_answer_is_waited_for() {
    let scene = Scene::new("away");
    scene.write(0, &[b"a"]);
    scene.broker.fails.store(2, SeqCst);
    let mut restorer = scene.restorer();
    let fill = Arc::new(Offsets::default());
    let number = restorer.want(at(0), fill.clone());
    until(&mut restorer, vec![number]).unwrap();
    assert_eq!(*fill.taken.lock().unwrap(), [0]);
    assert_eq!(scene.broker.clients.load(SeqCst), 3);
}

#[test]
fn a_log_that_ends_before_what_was_read_is_another_one() {
    let scene = Scene::new("other");
    scene.write(0, &[b"a", b"b"]);
    let mut restorer = scene.restorer();
    let fill = Arc::new(Offsets::default());
    *fill.position.lock().unwrap() = Some(9);
    let number = restorer.want(at(0), fill.clone());
    until(&mut restorer, vec![number]).unwrap();
    assert_eq!(*fill.taken.lock().unwrap(), [0, 1]);
    assert_eq!(fill.at(), Some(2));
}

#[test]
fn a_partition_that_the_topic_lacks_is_refused_with_the_cure() {
    let scene = Scene::with("lacks", 3);
    let mut restorer = scene.restorer();
    let number = restorer.want(at(2), Arc::new(Offsets::default()));
    let Err(Failed::Operator(why)) = until(&mut restorer, vec![number]) else { panic!("it is there") };
    assert!(why.contains("has 2 partitions, its input 3"), "{why}");
}

#[test]
fn a_record_that_is_none_ends_it() {
    let scene = Scene::new("none");
    scene.write(0, &[b"a", b"bad"]);
    let mut restorer = scene.restorer();
    let number = restorer.want(at(0), Arc::new(Offsets::default()));
    assert_eq!(until(&mut restorer, vec![number]), Err(Failed::Operator("it is none".to_owned())));
}
