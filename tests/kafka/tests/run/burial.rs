//! `retry.then = "dead-letter-key"` while workers are killed: what is given up takes all that waits behind it along, in order.

use crate::client::{Rec, read_all, send_all};
use crate::kills::SHORT;
use crate::parked::{heads_and_followers, waiting};
use crate::stage::{Setup, Stage, broker};
use crate::worker::Worker;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(180);
const RETRY: &str = "[retry]\nattempts = 2\nin-place = \"0s\"\nthen = \"dead-letter-key\"\n\
     backoff = { first = \"15s\", factor = 1.0, max = \"15s\", jitter = 0.0 }\n[breaker]\nfailures = 0";
const KEYS: usize = 6;
const FOLLOWERS: usize = 1_500;
const KILLS: usize = 6;

fn until(stage: &Stage<'_>, what: &str, mut is: impl FnMut() -> bool) {
    let until = Instant::now() + LIMIT;
    while !is() {
        assert!(Instant::now() < until, "{what}: not within {LIMIT:?}, {} are parked", waiting(stage));
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Values of a topic, by key and in order.
fn values(records: &[Rec]) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for record in records {
        let key = String::from_utf8(record.key.clone().unwrap()).unwrap();
        found.entry(key).or_default().push(record.text());
    }
    found
}

#[test]
fn what_waits_behind_a_message_that_is_given_up_goes_with_it_while_its_owners_are_killed() {
    let test = "what_waits_behind_a_message_that_is_given_up_goes_with_it_while_its_owners_are_killed";
    let Some(kafka) = broker(test) else { return };
    let stage = Stage::new(test, kafka, &Setup { guest: "tally", tables: RETRY, kafka: SHORT, ..Setup::default() });
    let mut workers: Vec<Worker> = (0..2).map(|number| Worker::start(&stage, number)).collect();
    send_all(kafka, &stage.input, &heads_and_followers(KEYS, FOLLOWERS));
    // Who is given up takes along what was read by then, so all has to be before that.
    until(&stage, "all is read", || stage.uncommitted() == 0);
    assert!(read_all(kafka, &stage.letters).is_empty(), "given up before all was read");
    let mut newer = 0;
    for kill in 0..KILLS {
        // While dead letters are written, or before.
        let some = kill * FOLLOWERS / 2;
        until(&stage, "dead letters", || read_all(kafka, &stage.letters).len() >= some);
        newer += 1;
        let all: Vec<Rec> =
            (0..KEYS).map(|key| Rec::new(&format!("k{key}"), format!("k{key}-newer-{newer}"))).collect();
        send_all(kafka, &stage.input, &all);
        let number = kill % workers.len();
        workers[number].kill();
        workers[number] = Worker::start(&stage, number);
    }
    until(&stage, "nothing is parked", || stage.uncommitted() == 0 && waiting(&stage) == 0);
    let letters = read_all(kafka, &stage.letters);
    let (found, out) = (values(&letters), values(&read_all(kafka, &stage.output)));
    for key in 0..KEYS {
        let (name, bad) = (format!("k{key}"), key % 3 != 2);
        let mut sent: Vec<String> = (0..=FOLLOWERS).map(|n| format!("{name}-{n}")).collect();
        sent.extend((1..=newer).map(|n| format!("{name}-newer-{n}")));
        if bad {
            sent[0] = format!("fail 9 {name}");
        }
        let gone = found.get(&name).map_or(0, Vec::len);
        assert_eq!((gone > FOLLOWERS, gone > 0), (bad, bad), "{name}: {gone} dead letters");
        assert_eq!(found.get(&name).cloned().unwrap_or_default(), sent[..gone], "{name}");
        let done: Vec<String> =
            sent[gone..].iter().enumerate().map(|(n, value)| format!("{} {value}", n + 1)).collect();
        assert_eq!(out.get(&name).cloned().unwrap_or_default(), done, "{name}");
    }
    let reason = |record: &&Rec| (record.told("keyrail-reason"), record.told("keyrail-follows") != "(none)");
    let heads = letters.iter().filter(|letter| reason(letter) == ("attempts".to_owned(), false)).count();
    let followers = letters.iter().filter(|letter| reason(letter) == ("follows".to_owned(), true)).count();
    assert_eq!((heads, heads + followers), (KEYS - KEYS / 3, letters.len()));
    for worker in &mut workers {
        worker.stop(Duration::from_secs(30));
    }
}
