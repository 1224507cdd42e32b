//! Restores up to the high watermark, whatever transactions left there.

use crate::support::*;
use keyrail::admin::metrics::Metrics;
use keyrail::pipeline::restore::{Failed, Fill, Restorer, Source};
use keyrail::record::Record;
use keyrail_kafka_tests::{Kafka as Rig, Security, shared, unique};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{Offset, TopicPartitionList};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Remembers values, and where it was.
#[derive(Default)]
struct Values {
    taken: Mutex<Vec<String>>,
    position: Mutex<Option<i64>>,
}

impl Values {
    fn taken(&self) -> Vec<String> {
        self.taken.lock().unwrap().clone()
    }

    fn at(&self) -> Option<i64> {
        *self.position.lock().unwrap()
    }
}

impl Fill for Values {
    fn position(&self, _: u64, _: i64) -> Result<Option<i64>, Failed> {
        Ok(self.at())
    }
    fn take(&self, record: &Record) -> Result<u64, Failed> {
        let value = record.value().map(|value| String::from_utf8_lossy(value).into_owned());
        self.taken.lock().unwrap().extend(value);
        Ok(1)
    }
    fn reach(&self, position: i64) -> Result<(), Failed> {
        *self.position.lock().unwrap() = Some(position);
        Ok(())
    }
}

struct Scene {
    rig: &'static Rig,
    topic: String,
    restorer: Restorer,
}

impl Scene {
    fn new(test: &str) -> Option<Self> {
        let rig = shared(test)?;
        let topic = unique("seen");
        rig.create_topic(&topic, 2, &[]).unwrap();
        let source = Source {
            broker: Arc::new(plain(rig)),
            topics: vec![topic.clone()],
            needed: Vec::new(),
            metrics: Metrics::new().pipeline("p"),
            pipeline: "p".to_owned(),
        };
        let restorer = Restorer::start(source).unwrap();
        Some(Self { rig, topic, restorer })
    }

    fn producer(&self, timeout: &str) -> BaseProducer {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", self.rig.bootstrap(Security::Plain))
            .set("transactional.id", unique("txn"))
            .set("transaction.timeout.ms", timeout)
            .create()
            .unwrap();
        producer.init_transactions(LIMIT).unwrap();
        producer
    }

    fn send(&self, producer: &BaseProducer, value: &str) {
        producer.send(BaseRecord::<(), str>::to(&self.topic).partition(0).payload(value)).unwrap();
        producer.flush(LIMIT).unwrap();
    }

    /// One transaction of these values.
    fn transact(&self, producer: &BaseProducer, values: &[&str], commit: bool) {
        producer.begin_transaction().unwrap();
        values.iter().for_each(|value| self.send(producer, value));
        let before = self.end();
        if commit { producer.commit_transaction(LIMIT) } else { producer.abort_transaction(LIMIT) }.unwrap();
        // The marker may be written a moment after the end is decided.
        let until = Instant::now() + LIMIT;
        while self.end() == before {
            assert!(Instant::now() < until, "no marker");
        }
    }

    fn end(&self) -> i64 {
        plain(self.rig).commands().unwrap().bounds(&self.topic, &[0]).unwrap()[0].end
    }

    /// Reads a partition to its end.
    fn read(&mut self, partition: i32, values: &Arc<Values>) {
        let number = self.restorer.want(at(partition), values.clone());
        assert!(self.is_done(number, LIMIT), "{}", self.restorer.told());
    }

    fn is_done(&mut self, number: u64, within: Duration) -> bool {
        let until = Instant::now() + within;
        loop {
            if self.restorer.done().unwrap() == [number] {
                return true;
            }
            if Instant::now() >= until {
                return false;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Takes what stands before this offset, as retention does.
    fn delete_before(&self, offset: i64) {
        let mut config = ClientConfig::new();
        let admin: AdminClient<DefaultClientContext> =
            config.set("bootstrap.servers", self.rig.bootstrap(Security::Plain)).create().unwrap();
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.topic, 0, Offset::Offset(offset)).unwrap();
        let mut asked = std::pin::pin!(admin.delete_records(&list, &AdminOptions::new()));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let until = Instant::now() + LIMIT;
        while asked.as_mut().poll(&mut context).is_pending() {
            assert!(Instant::now() < until);
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[test]
fn markers_aborted_records_and_an_empty_log_are_passed() {
    let Some(mut scene) = Scene::new("markers_aborted_records_and_an_empty_log_are_passed") else { return };
    let (values, empty) = (Arc::new(Values::default()), Arc::new(Values::default()));
    scene.read(1, &empty);
    assert_eq!((empty.taken().len(), empty.at()), (0, Some(0)));
    let producer = scene.producer("60000");
    scene.transact(&producer, &["a", "b"], true);
    scene.read(0, &values);
    assert_eq!((values.taken(), values.at()), (vec!["a".to_owned(), "b".to_owned()], Some(3)), "a marker is the end");
    scene.transact(&producer, &["gone", "gone"], false);
    scene.read(0, &values);
    assert_eq!((values.taken().len(), values.at()), (2, Some(6)), "nothing but what was taken back");
    scene.transact(&producer, &["c"], true);
    scene.transact(&producer, &["gone"], false);
    scene.read(0, &values);
    assert_eq!((values.taken().concat(), values.at()), ("abc".to_owned(), Some(10)));
}

#[test]
fn an_open_transaction_is_waited_for_and_its_end_decides() {
    let Some(mut scene) = Scene::new("an_open_transaction_is_waited_for_and_its_end_decides") else { return };
    let producer = scene.producer("60000");
    scene.transact(&producer, &["a"], true);
    for (commit, expected) in [(true, "ab"), (false, "ab")] {
        producer.begin_transaction().unwrap();
        scene.send(&producer, "b");
        let values = Arc::new(Values::default());
        let number = scene.restorer.want(at(0), values.clone());
        assert!(!scene.is_done(number, Duration::from_secs(4)), "it is still open");
        assert!(scene.restorer.told().contains("waits for a transaction"), "{}", scene.restorer.told());
        if commit { producer.commit_transaction(LIMIT) } else { producer.abort_transaction(LIMIT) }.unwrap();
        assert!(scene.is_done(number, LIMIT), "{}", scene.restorer.told());
        assert_eq!(values.taken().concat(), expected, "commit: {commit}");
    }
}

#[test]
fn what_a_dead_process_left_open_is_waited_for_until_the_broker_ends_it() {
    let test = "what_a_dead_process_left_open_is_waited_for_until_the_broker_ends_it";
    let Some(mut scene) = Scene::new(test) else { return };
    let producer = scene.producer("1500");
    scene.transact(&producer, &["a"], true);
    producer.begin_transaction().unwrap();
    scene.send(&producer, "b");
    let (began, values) = (Instant::now(), Arc::new(Values::default()));
    scene.read(0, &values);
    assert_eq!((values.taken().concat(), values.at()), ("a".to_owned(), Some(4)));
    assert!(began.elapsed() > Duration::from_secs(1), "{:?}", began.elapsed());
}

#[test]
fn what_retention_took_is_passed_over() {
    let Some(mut scene) = Scene::new("what_retention_took_is_passed_over") else { return };
    let producer = scene.producer("60000");
    ["a", "b", "c"].iter().for_each(|value| scene.transact(&producer, &[value], true));
    scene.delete_before(3);
    // One that has nothing, and one that was further behind than the log reaches.
    for position in [None, Some(1)] {
        let values = Arc::new(Values::default());
        *values.position.lock().unwrap() = position;
        scene.read(0, &values);
        assert_eq!((values.taken().concat(), values.at()), ("c".to_owned(), Some(6)));
    }
    scene.delete_before(6);
    let values = Arc::new(Values::default());
    scene.read(0, &values);
    assert_eq!((values.taken().len(), values.at()), (0, Some(6)), "all of it is gone");
}
