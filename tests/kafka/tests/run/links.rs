//! Connections that are slow, silent in one direction or in both, or that break.

use crate::feed::{Chance, Feed, plan};
use crate::stage::{Setup, Stage, own_broker};
use crate::worker::Worker;
use keyrail_kafka_tests::{Direction, Kafka, Options, Security};
use std::time::{Duration, Instant};

/// What gets no answer is given up in seconds instead of a minute.
const QUICK: &str = "\"session.timeout.ms\" = \"3000\"\n\"heartbeat.interval.ms\" = \"300\"\n\
                     \"socket.timeout.ms\" = \"3000\"\n\"request.timeout.ms\" = \"3000\"";
const RETRY: &str = "[retry]\nbackoff = { first = \"50ms\", factor = 2.0, max = \"1s\", jitter = 0.1 }";
/// Session timeout + 10 s, as promised, and as much again for a machine that runs other tests beside.
const PROGRESS: Duration = Duration::from_secs(30);
/// What one fault may repeat.
const REPEATS: usize = 500;

fn cluster(test: &str) -> Option<Kafka> {
    own_broker(test, &Options { proxied: true, ..Options::default() })
}

/// A worker that reaches the broker by the proxy.
fn start(stage: &Stage<'_>, number: usize) -> Worker {
    let servers = format!("kafka.\"bootstrap.servers\"=\"{}\"", stage.kafka.bootstrap(Security::Proxied));
    Worker::start_with(stage, number, &[&servers])
}

fn wait_assigned(worker: &Worker, partitions: f64) {
    worker.wait_metric("keyrail_partitions_assigned", &[], |n| n == partitions);
}

#[test]
fn a_slow_line_repeats_nothing_and_keeps_order() {
    let test = "a_slow_line_repeats_nothing_and_keeps_order";
    let Some(kafka) = cluster(test) else { return };
    let stage = Stage::new(test, &kafka, &Setup { tables: RETRY, ..Setup::default() });
    let proxy = kafka.proxy(1).unwrap();
    proxy.delay(Duration::from_millis(50));
    let mut all: Vec<Worker> = (0..2).map(|n| start(&stage, n)).collect();
    all.iter().for_each(Worker::wait_ready);
    let feed = Feed::start(&kafka, &stage.input, plan(200, 500, 5_000), Chance::new(test));
    for milliseconds in [50, 200, 5, 150] {
        proxy.delay(Duration::from_millis(milliseconds));
        std::thread::sleep(Duration::from_secs(3));
    }
    let (outputs, letters) = feed.settle(&stage, &mut all, PROGRESS);
    outputs.must_hold_strictly(0);
    letters.must_hold_strictly(0);
}

#[test]
fn a_line_that_passes_nothing_or_one_way_only_costs_its_worker_the_partitions_and_no_message() {
    let test = "a_line_that_passes_nothing_or_one_way_only_costs_its_worker_the_partitions_and_no_message";
    let Some(kafka) = cluster(test) else { return };
    let stage = Stage::new(test, &kafka, &Setup { tables: RETRY, kafka: QUICK, ..Setup::default() });
    let proxy = kafka.proxy(1).unwrap();
    let mut all = [start(&stage, 0), Worker::start(&stage, 1)];
    all.iter().for_each(|worker| wait_assigned(worker, 3.0));
    let feed = Feed::start(&kafka, &stage.input, plan(200, 500, 10_000), Chance::new(test));
    use Direction::{ToBroker, ToClients};
    let faults: [&[Direction]; 3] = [&[ToClients], &[ToBroker], &[ToBroker, ToClients]];
    for silent in faults {
        std::thread::sleep(Duration::from_secs(2));
        silent.iter().for_each(|direction| proxy.stall(*direction, true));
        wait_assigned(&all[1], 6.0);
        std::thread::sleep(Duration::from_secs(4));
        // What was held goes on its way; where both were silent it is lost with its connection.
        if silent.len() == 2 {
            proxy.cut();
        }
        silent.iter().for_each(|direction| proxy.stall(*direction, false));
        let ended = Instant::now();
        all.iter().for_each(|worker| wait_assigned(worker, 3.0));
        stage.say(&format!("{silent:?}: both work again {:.1} s after it ended", ended.elapsed().as_secs_f64()));
    }
    const CUTS: usize = 5;
    for _ in 0..CUTS {
        std::thread::sleep(Duration::from_millis(800));
        proxy.cut();
    }
    // The line to a worker was silent, so two may have written at once.
    let (outputs, letters) = feed.settle(&stage, &mut all, PROGRESS);
    outputs.must_hold((faults.len() + CUTS) * REPEATS);
    letters.must_hold((faults.len() + CUTS) * REPEATS / 100);
}
