//! Timers on a real Kafka: each comes once, at its time or later, when workers are killed and partitions move.

use crate::client::{Rec, read_all, send_all};
use crate::kills::SHORT;
use crate::stage::{Setup, Stage, broker};
use crate::worker::Worker;
use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn timers_come_once_though_workers_die_and_partitions_move() {
    const KEYS: i64 = 300;
    let test = "timers_come_once_though_workers_die_and_partitions_move";
    let Some(kafka) = broker(test) else { return };
    let stage = Stage::new(test, kafka, &Setup { guest: "alarm", kafka: SHORT, ..Setup::default() });
    let mut workers = [Worker::start(&stage, 0), Worker::start(&stage, 1)];
    workers.iter().for_each(Worker::wait_ready);
    let now_ms = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap();
    let set = |n: i64| format!("set once {} x; set often {} again often 200 3", now_ms + n * 30, now_ms + n * 20);
    let messages: Vec<Rec> = (0..KEYS).map(|n| Rec::new(&format!("k{n}"), set(n))).collect();
    send_all(kafka, &stage.input, &messages);
    for n in [0, 1, 0] {
        std::thread::sleep(Duration::from_millis(1_700));
        workers[n].kill();
        workers[n] = Worker::start(&stage, n);
    }
    // A message, a timer, and a chain of four.
    let until = Instant::now() + LIMIT;
    let all = loop {
        let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for record in read_all(kafka, &stage.output) {
            let key = String::from_utf8(record.key.clone().unwrap()).unwrap();
            all.entry(key).or_default().push(record.text());
        }
        let count: usize = all.values().map(Vec::len).sum();
        if count >= usize::try_from(KEYS * 6).unwrap() {
            break all;
        }
        assert!(Instant::now() < until, "{count} records came\n{}", workers[0].tail());
        std::thread::sleep(Duration::from_millis(200));
    };
    for (key, came) in &all {
        let with = |begin: &str| came.iter().filter(|text| text.starts_with(begin)).count();
        assert_eq!([with("message "), with("timer once "), with("timer often ")], [1, 1, 4], "{key}: {came:?}");
        assert_eq!(came.len(), 6, "{key}: {came:?}");
    }
    for worker in &mut workers {
        worker.stop(Duration::from_secs(20));
    }
    assert_eq!(read_all(kafka, &stage.output).len(), usize::try_from(KEYS * 6).unwrap());
}
