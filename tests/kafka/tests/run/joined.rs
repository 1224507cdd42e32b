//! Two inputs that share keys and state: the handler of `examples/joined` joins orders with their payments. Whoever owns a
//! partition of one owns that number of the other; an order that is missing in the end was lost, and one that is there twice was
//! joined by state that stood though its offsets did not.

use crate::client::{Rec, read_all, send_all};
use crate::feed::Chance;
use crate::kills::{SHORT, kills};
use crate::stage::{Setup, Stage, broker, own_broker};
use crate::state::is_mark;
use crate::worker::Worker;
use keyrail_kafka_tests::{Kafka, Options};
use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(60);
/// Orders sent before each kill.
const BATCH: usize = 400;

fn stage<'k>(test: &'static str, kafka: &'k Kafka, kafka_lines: &str, [orders, payments]: [&str; 2]) -> Stage<'k> {
    let stage = Stage::new(test, kafka, &Setup { guest: "joined", kafka: kafka_lines, ..Setup::default() });
    let manifest = format!(
        "handler = \"joined.wasm\"\ninput = [\"{orders}\", \"{payments}\"]\ngroup = \"{}\"\norder.scope = \"inputs\"\n[output]\n\
         paid = \"{}\"\n",
        stage.group, stage.output
    );
    fs::write(stage.dir.join("plugins/p.toml"), manifest).unwrap();
    stage
}

/// Each with its own number as its value.
fn write(kafka: &Kafka, topic: &str, numbers: impl Iterator<Item = usize>) {
    let records: Vec<Rec> = numbers.map(|n| Rec::new(&format!("o{n}"), n.to_string())).collect();
    send_all(kafka, topic, &records);
}

/// How often each order was joined, each with its own payment.
fn joined(stage: &Stage<'_>) -> BTreeMap<String, u32> {
    let mut counts = BTreeMap::new();
    for record in read_all(stage.kafka, &stage.output) {
        let key = String::from_utf8(record.key.clone().unwrap()).unwrap();
        let number = &key[1..];
        assert_eq!(record.text(), format!("{{\"order\":{number},\"payment\":{number}}}"));
        *counts.entry(key).or_default() += 1;
    }
    counts
}

#[test]
fn two_workers_killed_at_random_join_each_order_with_its_payment_once() {
    let test = "two_workers_killed_at_random_join_each_order_with_its_payment_once";
    // The handler knows its topics by their names, which are nobody else's on a broker of its own.
    let Some(kafka) = own_broker(test, &Options::default()) else { return };
    let mut chance = Chance::new(test);
    let stage = stage(test, &kafka, SHORT, ["orders", "payments"]);
    for topic in ["orders", "payments"] {
        kafka.create_topic(topic, 6, &[]).unwrap();
    }
    let mut all: Vec<Worker> = (0..2).map(|n| Worker::start(&stage, n)).collect();
    all.iter().for_each(Worker::wait_ready);
    let rounds = kills(8) as usize;
    let own = |round: usize, third: usize| (round * BATCH..(round + 1) * BATCH).filter(move |n| n % 3 == third);
    for round in 0..rounds {
        // A third of the payments comes before the orders, a third behind them, the rest after the kill.
        write(&kafka, "payments", own(round, 0));
        write(&kafka, "orders", round * BATCH..(round + 1) * BATCH);
        write(&kafka, "payments", own(round, 1));
        std::thread::sleep(Duration::from_millis(chance.below(2500)));
        let number = chance.below(2) as usize;
        let why = all[number].ended();
        assert!(why.is_none(), "worker {number} ended by itself: {why:?}\n{}", all[number].tail());
        all[number].kill();
        all[number] = Worker::start(&stage, number);
        write(&kafka, "payments", own(round, 2));
    }
    let (began, wanted) = (Instant::now(), rounds * BATCH);
    while joined(&stage).len() < wanted {
        let logs: Vec<String> = all.iter().map(Worker::tail).collect();
        assert!(began.elapsed() < LIMIT, "{} of {wanted} are joined\n{}", joined(&stage).len(), logs.join("\n"));
        std::thread::sleep(Duration::from_millis(200));
    }
    for worker in &mut all {
        worker.stop(Duration::from_secs(20));
    }
    let counts = joined(&stage);
    let twice: Vec<_> = counts.iter().filter(|(_, count)| **count != 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    stage.say(&format!("{rounds} kills, {wanted} orders, each joined once"));
    let mut waiting = BTreeMap::new();
    for record in read_all(&kafka, &format!("{}.orders.state", stage.group)) {
        // The marks of schemas stay.
        if !record.key.as_deref().is_some_and(is_mark) {
            waiting.insert(record.key, record.value);
        }
    }
    waiting.retain(|_, value| value.is_some());
    assert!(waiting.is_empty(), "{} keys wait for what has come", waiting.len());
}

#[test]
fn inputs_that_can_not_share_their_keys_are_refused_with_the_cure() {
    let test = "inputs_that_can_not_share_their_keys_are_refused_with_the_cure";
    let Some(kafka) = broker(test) else { return };
    let refused = |kafka_lines: &str, partitions: i32, words: &str| {
        let names = [keyrail_kafka_tests::unique("orders"), keyrail_kafka_tests::unique("payments")];
        let stage = stage(test, kafka, kafka_lines, [&names[0], &names[1]]);
        kafka.create_topic(&names[0], 6, &[]).unwrap();
        kafka.create_topic(&names[1], partitions, &[]).unwrap();
        let mut worker = Worker::start(&stage, 0);
        assert_ne!(worker.wait(LIMIT).code(), Some(0), "{}", worker.tail());
        let log = worker.log().split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(log.contains(words), "nothing of {words:?}\n{}", worker.tail());
    };
    refused("", 5, "needs inputs with equally many partitions");
    refused("\"partition.assignment.strategy\" = \"roundrobin\"", 6, "which needs the range assignor");
    refused("\"group.protocol\" = \"consumer\"", 6, "partitions move one by one");
}
