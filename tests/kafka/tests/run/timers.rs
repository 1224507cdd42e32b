//! Timers on a real Kafka: each comes once, at its time or later, when workers are killed and partitions move.

use crate::client::{Rec, read_all, send_all};
use crate::kills::SHORT;
use crate::parked::waiting;
use crate::stage::{Setup, Stage, broker};
use crate::worker::Worker;
use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const LIMIT: Duration = Duration::from_secs(60);

fn now_ms() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// So many outputs, by key and in order.
fn wait_for(stage: &Stage<'_>, count: usize, worker: &Worker) -> BTreeMap<String, Vec<String>> {
    let until = Instant::now() + LIMIT;
    loop {
        let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for record in read_all(stage.kafka, &stage.output) {
            let key = String::from_utf8(record.key.clone().unwrap()).unwrap();
            all.entry(key).or_default().push(record.text());
        }
        let came: usize = all.values().map(Vec::len).sum();
        if came >= count {
            return all;
        }
        assert!(Instant::now() < until, "{came} records came\n{}", worker.tail());
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn timers_come_once_though_workers_die_and_partitions_move() {
    const KEYS: i64 = 300;
    let test = "timers_come_once_though_workers_die_and_partitions_move";
    let Some(kafka) = broker(test) else { return };
    let stage = Stage::new(test, kafka, &Setup { guest: "alarm", kafka: SHORT, ..Setup::default() });
    let mut workers = [Worker::start(&stage, 0), Worker::start(&stage, 1)];
    workers.iter().for_each(Worker::wait_ready);
    let now_ms = now_ms();
    let set = |n: i64| format!("set once {} x; set often {} again often 200 3", now_ms + n * 30, now_ms + n * 20);
    let messages: Vec<Rec> = (0..KEYS).map(|n| Rec::new(&format!("k{n}"), set(n))).collect();
    send_all(kafka, &stage.input, &messages);
    for n in [0, 1, 0] {
        std::thread::sleep(Duration::from_millis(1_700));
        workers[n].kill();
        workers[n] = Worker::start(&stage, n);
    }
    // A message, a timer, and a chain of four.
    let all = wait_for(&stage, usize::try_from(KEYS * 6).unwrap(), &workers[0]);
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

#[test]
fn timers_that_fail_are_parked_with_their_keys_though_workers_die_and_partitions_move() {
    const KEYS: usize = 120;
    let test = "timers_that_fail_are_parked_with_their_keys_though_workers_die_and_partitions_move";
    let Some(kafka) = broker(test) else { return };
    let tables = "[breaker]\nfailures = 0\n[retry]\nattempts = 3\nin-place = \"0s\"\n\
         backoff = { first = \"8s\", factor = 1.0, max = \"8s\", jitter = 0.0 }";
    let stage = Stage::new(test, kafka, &Setup { guest: "alarm", tables, kafka: SHORT, ..Setup::default() });
    let mut workers = [Worker::start(&stage, 0), Worker::start(&stage, 1)];
    workers.iter().for_each(Worker::wait_ready);
    // Of three timers one fails for good, one twice, and one not at all.
    let fails = |n: usize| [9, 2, 0][n % 3];
    let now = now_ms();
    let set = |n: usize| format!("set t {} fail {}", now + 10 * n as i64, fails(n));
    let of_all = |value: &dyn Fn(usize) -> String| -> Vec<Rec> {
        (0..KEYS).map(|n| Rec::new(&format!("k{n}"), value(n))).collect()
    };
    send_all(kafka, &stage.input, &of_all(&set));
    let until = Instant::now() + LIMIT;
    while waiting(&stage) < KEYS / 3 * 2 {
        assert!(Instant::now() < until, "{} are parked\n{}", waiting(&stage), workers[0].tail());
        std::thread::sleep(Duration::from_millis(100));
    }
    send_all(kafka, &stage.input, &of_all(&|_| "after".to_owned()));
    for n in [0, 1, 0] {
        workers[n].kill();
        workers[n] = Worker::start(&stage, n);
        std::thread::sleep(Duration::from_secs(4));
    }
    let all = wait_for(&stage, KEYS * 2 + KEYS / 3 * 2, &workers[0]);
    for n in 0..KEYS {
        let (came, name) = (&all[&format!("k{n}")], format!("k{n}"));
        let timer = came.iter().find(|text| text.starts_with("timer t "));
        let ran = timer.is_some_and(|text| text.ends_with(&format!(" fail {}", fails(n))));
        assert_eq!((timer.is_some(), ran), (fails(n) < 9, fails(n) < 9), "{name}: {came:?}");
        let expected = [Some(format!("message {}", set(n))), timer.cloned(), Some("message after".to_owned())];
        assert_eq!(*came, expected.into_iter().flatten().collect::<Vec<_>>(), "{name}");
    }
    let letters = read_all(kafka, &stage.letters);
    for letter in &letters {
        let told = ["keyrail-timer", "keyrail-reason", "keyrail-attempts"].map(|name| letter.told(name));
        assert_eq!(told, ["t", "attempts", "3"]);
    }
    assert_eq!((letters.len(), waiting(&stage)), (KEYS / 3, 0));
    for worker in &mut workers {
        worker.stop(Duration::from_secs(20));
    }
    assert_eq!(read_all(kafka, &stage.output).len(), KEYS * 2 + KEYS / 3 * 2);
}
