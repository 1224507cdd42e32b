//! Hands from outside while partitions move: what is held is dropped or retried by whoever owns it just then, once, and each
//! key goes on in its order.

use crate::client::{read_all, send_all};
use crate::commands::{command, run};
use crate::kills::SHORT;
use crate::parked::{heads_and_followers, waiting};
use crate::stage::{Setup, Stage, broker};
use crate::worker::Worker;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(120);
const HOLD: &str = "[retry]\nattempts = 2\nin-place = \"0s\"\nthen = \"hold\"\n\
     backoff = { first = \"50ms\", factor = 1.0, max = \"50ms\" }\n[breaker]\nfailures = 0";
const KEYS: usize = 60;
const FOLLOWERS: usize = 4;

fn until(stage: &Stage<'_>, what: &str, mut is: impl FnMut() -> bool) {
    let until = Instant::now() + LIMIT;
    while !is() {
        assert!(Instant::now() < until, "{what}: not within {LIMIT:?}, {} are parked", waiting(stage));
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Values of the output, by key and in order.
fn outputs(stage: &Stage<'_>) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for record in read_all(stage.kafka, &stage.output) {
        let key = String::from_utf8(record.key.clone().unwrap()).unwrap();
        found.entry(key).or_default().push(record.text());
    }
    found
}

/// Where the message of this value was first read.
fn places(stage: &Stage<'_>) -> BTreeMap<String, String> {
    let all = read_all(stage.kafka, &stage.input);
    all.iter().map(|r| (r.text(), format!("{}:{}:{}", stage.input, r.partition, r.offset))).collect()
}

/// Gives the command for these messages, kills a worker meanwhile, and gives it again until nothing of it is left to do.
fn act_and_kill(stage: &Stage<'_>, workers: &mut [Worker], deed: &str, messages: &[String], round: usize) {
    let mut args = vec!["parked", deed, "p", "--wait", "15"];
    args.extend(messages.iter().map(String::as_str));
    let child = command(stage, &args).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(round as u64 * 190 % 1_300));
    let number = round % workers.len();
    workers[number].kill();
    workers[number] = Worker::start(stage, number);
    let _answers = child.wait_with_output().unwrap();
    until(stage, "the commands are obeyed", || {
        let done = run(stage, &args);
        // Done now, or in a transaction of before; what runs again is none of theirs any more.
        let over = |line: &&str| line.contains("done") || line.contains("not parked");
        done.out.lines().filter(over).count() == messages.len()
    });
}

#[test]
fn what_is_held_is_dropped_and_retried_by_hand_while_its_owners_are_killed() {
    let test = "what_is_held_is_dropped_and_retried_by_hand_while_its_owners_are_killed";
    let Some(kafka) = broker(test) else { return };
    let stage = Stage::new(test, kafka, &Setup { guest: "tally", tables: HOLD, kafka: SHORT, ..Setup::default() });
    let mut workers: Vec<Worker> = (0..3).map(|number| Worker::start(&stage, number)).collect();
    send_all(kafka, &stage.input, &heads_and_followers(KEYS, FOLLOWERS));
    let bad = KEYS - KEYS / 3;
    until(&stage, "all is read", || stage.uncommitted() == 0 && waiting(&stage) == bad * (FOLLOWERS + 1));
    let place = places(&stage);
    let head = |key: usize| place[&format!("fail 9 k{key}")].clone();
    // A third of the keys: their heads are dropped.
    let dropped: Vec<usize> = (0..KEYS).filter(|key| key % 3 == 0).collect();
    for (round, keys) in dropped.chunks(5).enumerate() {
        act_and_kill(&stage, &mut workers, "drop", &keys.iter().map(|key| head(*key)).collect::<Vec<_>>(), round);
    }
    until(&stage, "what was behind them", || waiting(&stage) == KEYS / 3 * (FOLLOWERS + 1));
    // Another third: the handler is mended, and then they are retried.
    let handlers = std::env::var_os("KEYRAIL_GUESTS")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/guests"), PathBuf::from);
    fs::copy(handlers.join("identity.wasm"), stage.dir.join("plugins/tally.wasm")).unwrap();
    until(&stage, "the mended handler serves everywhere", || {
        // It has no state, so it is not only swapped.
        workers.iter().all(|worker| worker.log().contains("the manifest changed"))
    });
    let retried: Vec<usize> = (0..KEYS).filter(|key| key % 3 == 1).collect();
    for (round, keys) in retried.chunks(5).enumerate() {
        act_and_kill(&stage, &mut workers, "retry", &keys.iter().map(|key| head(*key)).collect::<Vec<_>>(), round);
    }
    until(&stage, "nothing is parked", || waiting(&stage) == 0);
    let found = outputs(&stage);
    for key in 0..KEYS {
        let name = format!("k{key}");
        let values = (1..=FOLLOWERS).map(|n| format!("{name}-{n}"));
        let counted = |from: usize, values: Vec<String>| -> Vec<String> {
            values.into_iter().enumerate().map(|(n, value)| format!("{} {value}", n + from)).collect()
        };
        let expected = match key % 3 {
            0 => counted(1, values.collect()),
            1 => std::iter::once(format!("fail 9 {name}")).chain(values).collect(),
            _ => counted(1, (0..=FOLLOWERS).map(|n| format!("{name}-{n}")).collect()),
        };
        assert_eq!(found.get(&name), Some(&expected), "{name}");
    }
    assert!(read_all(kafka, &stage.letters).is_empty());
    for worker in &mut workers {
        worker.stop(Duration::from_secs(30));
    }
}
