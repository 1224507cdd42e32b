//! Values that end by themselves, messages that have no state, and what a partition's state is.

use super::{Counting, RETRY, kept, values};
use crate::play::Play;
use crate::run::{PARTITIONS, beside, by_key};
use crate::support::{WAIT, all, text};
use keyrail::record::Record;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// What has ended is deleted when every call is over that may have begun before: soon, then.
const SHORT_CALLS: &str = "limits.timeout = \"500ms\"\nbatch.max-time = \"500ms\"\n";

#[test]
fn a_value_that_has_ended_is_deleted_from_the_topic_though_nobody_asks_for_it() {
    let test = "a_value_that_has_ended_is_deleted_from_the_topic_though_nobody_asks_for_it";
    let Some(mut counting) = Counting::new(test, SHORT_CALLS) else { return };
    let child = counting.play.start();
    let mut client = beside(&counting.play.folder, &child);
    let keys: Vec<String> = (0..20).map(|n| format!("k{n}")).collect();
    let brief: Vec<_> = keys.iter().map(|key| (key.clone(), "briefly a".to_owned())).collect();
    counting.send(client.as_mut(), &brief);
    counting.say(&child, "stays", &["a"]);
    let until = Instant::now() + WAIT;
    // Each is there until then, and gone.
    while keys.iter().any(|key| kept(client.as_mut()).get(key) != Some(&None)) {
        assert!(Instant::now() < until, "not deleted: {:?}", kept(client.as_mut()));
        std::thread::sleep(Duration::from_millis(50));
    }
    // A value and a tombstone of each, and one that stays; compaction may have taken the values already.
    let records = values(client.as_mut()).len();
    assert!((keys.len() + 1..=2 * keys.len() + 1).contains(&records), "{records} records");
    counting.counts.retain(|key, _| !keys.contains(key));
    counting.send(client.as_mut(), &keys.iter().map(|key| (key.clone(), "b".to_owned())).collect::<Vec<_>>());
    drop(client);
    counting.play.settle(child);
    counting.judge();
}

/// What ends while no process runs ends all the same.
#[test]
fn a_value_that_ends_while_nobody_runs_is_not_there_at_the_next_start() {
    let test = "a_value_that_ends_while_nobody_runs_is_not_there_at_the_next_start";
    let Some(mut counting) = Counting::new(test, SHORT_CALLS) else { return };
    let child = counting.play.start();
    counting.say(&child, "k", &["a", "briefly b"]);
    counting.say(&child, "gone", &["briefly a"]);
    counting.play.settle(child);
    std::thread::sleep(Duration::from_millis(500));
    counting.counts.clear();
    counting.send(counting.play.client().as_mut(), &[("k".to_owned(), "c".to_owned())]);
    let child = counting.play.start();
    let mut client = beside(&counting.play.folder, &child);
    let until = Instant::now() + WAIT;
    while kept(client.as_mut()).get("gone") != Some(&None) {
        assert!(Instant::now() < until, "not deleted: {:?}", kept(client.as_mut()));
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(client);
    counting.play.settle(child);
    counting.judge();
}

/// A value is replaced just when the one before it is to be deleted: what is deleted is never the new one.
#[test]
fn what_follows_a_value_that_has_ended_stays() {
    const SPAN: Duration = Duration::from_secs(6);
    const STEPS: [(Duration, &str); 3] =
        [(Duration::ZERO, "briefly"), (Duration::from_millis(1_050), "stays"), (Duration::from_secs(3), "proof")];
    let tables = format!("{RETRY}{SHORT_CALLS}commit.interval = \"1ms\"\n");
    let Some(mut play) = Play::of("what_follows_a_value_that_has_ended_stays", "tally", &tables) else { return };
    let child = play.start();
    let mut client = beside(&play.folder, &child);
    // Each wave has keys of its own: a value that ends, one that stays when that has ended, and long after it the proof.
    let (began, mut waves, mut said) = (Instant::now(), Vec::new(), [0; 3]);
    while began.elapsed() < SPAN {
        waves.push(Instant::now());
        let mut messages = Vec::new();
        for ((after, what), said) in STEPS.into_iter().zip(&mut said) {
            let due = waves.iter().take_while(|sent: &&Instant| sent.elapsed() >= after).count();
            let new = (*said..due).flat_map(|wave| (0..20).map(move |n| (format!("{wave}-{n}"), what.to_owned())));
            messages.extend(new);
            *said = due;
        }
        play.send_plain(client.as_mut(), &messages);
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(client);
    play.settle(child);
    let mut proofs = 0;
    for (key, counts) in by_key(play.client().as_mut(), "out") {
        let count = |what: &str| {
            let told = counts.iter().find_map(|told| told.strip_suffix(what))?;
            Some(told.trim().parse::<u64>().unwrap())
        };
        let (Some(stays), Some(proof)) = (count("stays"), count("proof")) else { continue };
        assert_eq!(proof, stays + 1, "{key}: {counts:?}");
        proofs += 1;
    }
    assert!(proofs > 500, "{proofs} keys: nothing was tested");
}

#[test]
fn a_message_without_a_key_has_no_state() {
    let Some(mut counting) = Counting::new("a_message_without_a_key_has_no_state", "") else { return };
    let child = counting.play.start();
    let mut client = beside(&counting.play.folder, &child);
    counting.play.send_keyless(client.as_mut(), &["a", "b"]);
    drop(client);
    counting.say(&child, "k", &["a", "b"]);
    counting.play.settle(child);
    let mut client = counting.play.client();
    let letters = counting.play.letters(client.as_mut());
    let told: Vec<_> = letters.iter().map(|l| (l.key(), header(l, "reason"), header(l, "code"))).collect();
    assert_eq!(told, vec![(None, "rejected", "no-key"); 2]);
    assert_eq!(by_key(client.as_mut(), "out").get("k").unwrap(), &["1 a", "2 b"]);
    assert_eq!(
        kept(client.as_mut()),
        BTreeMap::from([("k".to_owned(), Some("2".to_owned()))]),
        "state that is nobody's"
    );
}

fn header<'a>(letter: &'a Record, name: &str) -> &'a str {
    text(letter.header(format!("keyrail-{name}").as_bytes()).flatten())
}

/// Whatever their keys.
#[test]
fn with_order_by_partition_a_partition_has_one_state() {
    let test = "with_order_by_partition_a_partition_has_one_state";
    let Some(mut play) = Play::of(test, "tally", &format!("{RETRY}order.by = \"partition\"\n")) else { return };
    let mut expected: BTreeMap<i32, Vec<String>> = BTreeMap::new();
    for round in 0..3 {
        let child = play.start();
        let mut client = beside(&play.folder, &child);
        let all: Vec<_> = (0..400).map(|n| (format!("k{}", n % 40), format!("{round}-{n:0>3}"))).collect();
        play.send_plain(client.as_mut(), &all);
        drop(client);
        play.settle(child);
    }
    let mut client = play.client();
    for record in all(client.as_mut(), "in", PARTITIONS) {
        let values = expected.entry(record.at.partition).or_default();
        values.push(format!("{} {}", values.len() + 1, text(record.value())));
    }
    let mut came: BTreeMap<i32, Vec<String>> = BTreeMap::new();
    for record in all(client.as_mut(), "out", PARTITIONS) {
        came.entry(record.at.partition).or_default().push(text(record.value()).to_owned());
    }
    assert_eq!(came, expected);
    let mut kept = BTreeMap::new();
    for record in values(client.as_mut()) {
        assert_eq!(record.key(), Some(&b"\x02count"[..]));
        kept.insert(record.at.partition, text(record.value()).to_owned());
    }
    let counts = expected.into_iter().map(|(partition, all)| (partition, format!("\x01{}", all.len())));
    assert_eq!(kept, counts.collect::<BTreeMap<_, _>>());
}
