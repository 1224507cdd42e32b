//! Delayed sends on a real Kafka: each goes out once, at its time or later, when workers are killed and partitions move.

use crate::client::{Rec, read_all, send_all};
use crate::kills::SHORT;
use crate::stage::{Setup, Stage, broker};
use crate::worker::Worker;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn delayed_sends_go_out_once_though_workers_die_and_partitions_move() {
    const KEYS: i64 = 300;
    let test = "delayed_sends_go_out_once_though_workers_die_and_partitions_move";
    let Some(kafka) = broker(test) else { return };
    let tables = "limits.delay = \"1h\"\n";
    let stage = Stage::new(test, kafka, &Setup { guest: "later", kafka: SHORT, top: tables, ..Setup::default() });
    let mut workers = [Worker::start(&stage, 0), Worker::start(&stage, 1)];
    workers.iter().for_each(Worker::wait_ready);
    let due = |n: i64, nth: i64| 100 + n * 15 + nth * 1_500;
    let value = |n: i64| (0..3).map(|nth| format!("in {0} {0}", due(n, nth))).collect::<Vec<_>>().join("; ");
    let messages: Vec<Rec> = (0..KEYS).map(|n| Rec::new(&format!("k{n}"), value(n))).collect();
    let begun = Instant::now();
    send_all(kafka, &stage.input, &messages);
    for n in [0, 1, 0] {
        std::thread::sleep(Duration::from_millis(1_700));
        workers[n].kill();
        workers[n] = Worker::start(&stage, n);
    }
    let all = || read_all(kafka, &stage.output);
    while all().len() < messages.len() * 3 {
        assert!(begun.elapsed() < LIMIT, "{} records came\n{}", all().len(), workers[0].tail());
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!(begun.elapsed() >= Duration::from_millis(due(KEYS - 1, 2).unsigned_abs()));
    for worker in &mut workers {
        worker.stop(Duration::from_secs(20));
    }
    let mut came: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for record in all() {
        came.entry(String::from_utf8(record.key.clone().unwrap()).unwrap()).or_default().push(record.text());
    }
    let expected: BTreeMap<_, _> =
        (0..KEYS).map(|n| (format!("k{n}"), (0..3).map(|nth| due(n, nth).to_string()).collect::<Vec<_>>())).collect();
    assert_eq!(came, expected);
}
