//! `retry.then = "dead-letter-key"`: what is given up takes all that waits behind it along, in order, whatever ends the process
//! meanwhile.
//!
//! The handler `tally` sends `COUNT VALUE`, so a message that runs, and then is a dead letter, shows in the counts behind it.

use crate::parked::parked;
use crate::play::Play;
use crate::points::{armed, die_everywhere};
use crate::run::{PARTITIONS, beside, written};
use crate::state::mixed;
use crate::support::{all, text};
use keyrail::broker::client::Client;
use keyrail::record::Record;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

const LETTERS: &str = "p.in.dlq";
const LIMIT: Duration = Duration::from_secs(60);
/// Behind each message that is given up: more than a transaction holds.
const FOLLOWERS: usize = 4_000;
/// So many dead letters are written in one life.
const A_LIFE: u64 = 700;
const SLOW: &str = "commit.interval = \"20ms\"\nbreaker.failures = 0.0\n\
     retry = { attempts = 2, in-place = \"0s\", then = \"dead-letter-key\", \
     backoff = { first = \"2s\", factor = 1.0, max = \"2s\", jitter = 0.0 } }\n";
const SOON: &str = "commit.interval = \"20ms\"\nbreaker.failures = 0.0\n\
     retry = { attempts = 3, in-place = \"0s\", then = \"dead-letter-key\", \
     backoff = { first = \"150ms\", factor = 1.0, max = \"150ms\" } }\n";

fn header(record: &Record, name: &str) -> String {
    let found = record.headers().filter(|(n, _)| *n == name.as_bytes()).last();
    found.map_or_else(String::new, |(_, value)| text(value).to_owned())
}

fn until_nothing_is_parked(play: &Play) {
    let child = play.start();
    let mut client = beside(&play.folder, &child);
    let until = Instant::now() + LIMIT;
    while play.uncommitted(client.as_mut()) > 0 || parked(client.as_mut()) > 0 {
        assert!(Instant::now() < until, "{} messages are parked still", parked(client.as_mut()));
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(client);
    play.settle(child);
}

/// Values of a topic by key, in order, without the count of an output.
fn values(client: &mut dyn Client, topic: &str) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for record in all(client, topic, PARTITIONS) {
        let value = text(record.value());
        let value = if topic == LETTERS { value } else { value.split_once(' ').unwrap().1 };
        found.entry(text(record.key()).to_owned()).or_default().push(value.to_owned());
    }
    found
}

/// Each message is done or a dead letter, once, both in the order of its key; and what goes with another one goes with one that
/// was given up before it. Gives the dead letters by key.
fn judge(client: &mut dyn Client) -> BTreeMap<String, Vec<String>> {
    let mut sent: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut place = BTreeMap::new();
    for record in all(client, "in", PARTITIONS) {
        let key = text(record.key()).to_owned();
        let of_key = sent.entry(key).or_default();
        place.insert(format!("in:{}:{}", record.at.partition, record.offset), of_key.len());
        of_key.push(text(record.value()).to_owned());
    }
    let (done, letters) = (values(client, "out"), values(client, LETTERS));
    for (key, sent) in &sent {
        let number: BTreeMap<&str, usize> = sent.iter().enumerate().map(|(n, value)| (value.as_str(), n)).collect();
        let mut found = BTreeSet::new();
        for (what, values) in [("done", done.get(key)), ("dead letter", letters.get(key))] {
            let mut last = None;
            for value in values.into_iter().flatten() {
                let at = number[value.as_str()];
                assert!(last < Some(at), "{what}: {key} {value} comes after number {last:?} of its key");
                assert!(found.insert(at), "{what}: {key} {value} is there already");
                last = Some(at);
            }
        }
        assert_eq!(found.len(), sent.len(), "{key}: something is lost");
    }
    let (mut given_up, mut followers) = (BTreeSet::new(), 0);
    for letter in all(client, LETTERS, PARTITIONS) {
        let own = |name| header(&letter, name);
        let at = format!("in:{}:{}", own("keyrail-partition"), own("keyrail-offset"));
        if own("keyrail-reason") == "follows" {
            let head = own("keyrail-follows");
            assert!(place[&head] < place[&at] && given_up.contains(&head), "{at} goes with {head}");
            assert_eq!(own("keyrail-attempts"), "0");
            followers += 1;
        } else {
            assert_eq!((own("keyrail-reason").as_str(), own("keyrail-follows").as_str()), ("attempts", ""));
            given_up.insert(at);
        }
    }
    assert!(followers > 0, "nothing was given up with another");
    letters
}

#[test]
fn what_waits_behind_a_message_that_is_given_up_goes_with_it_however_often_the_process_is_killed() {
    let test = "what_waits_behind_a_message_that_is_given_up_goes_with_it_however_often_the_process_is_killed";
    let Some(mut play) = Play::of(test, "tally", SLOW) else { return };
    let keys = ["a", "b"];
    let mut child = play.start();
    let mut client = beside(&play.folder, &child);
    for n in 0..=FOLLOWERS {
        let value = |key: &str| if n == 0 { format!("fail 9 {key}") } else { format!("{key} {n}") };
        let all: Vec<_> = keys.iter().map(|key| ((*key).to_owned(), value(key))).collect();
        if n == 0 || n % 1_000 == 1 {
            let from = n;
            let to = if n == 0 { 1 } else { (n + 1_000).min(FOLLOWERS + 1) };
            let many = (from..to).flat_map(|n| keys.iter().map(move |key| (key, n)));
            let many: Vec<_> = many.map(|(key, n)| ((*key).to_owned(), format!("{key} {n}"))).collect();
            play.send_plain(client.as_mut(), if n == 0 { &all } else { &many });
        }
    }
    let until = Instant::now() + LIMIT;
    while play.uncommitted(client.as_mut()) > 0 {
        assert!(Instant::now() < until, "it does not get on");
    }
    let (mut lives, mut before, mut killed_within) = (0, 0, 0);
    let whole = (keys.len() * (FOLLOWERS + 1)) as u64;
    while before < whole {
        lives += 1;
        assert!(lives < 60, "{before} dead letters are written");
        // What comes once it is decided runs.
        let newer: Vec<_> = keys.iter().map(|key| ((*key).to_owned(), format!("{key} newer {lives}"))).collect();
        play.send_plain(client.as_mut(), &newer);
        let until = Instant::now() + LIMIT;
        while written(client.as_mut(), LETTERS) < whole.min(before + A_LIFE) {
            assert!(Instant::now() < until, "{} dead letters are written", written(client.as_mut(), LETTERS));
        }
        drop(client);
        child.kill().unwrap();
        child.wait().unwrap();
        let mut alone = play.client();
        before = written(alone.as_mut(), LETTERS);
        killed_within += usize::from(before < whole);
        drop(alone);
        if lives % 3 == 0 {
            std::fs::remove_dir_all(play.folder.path().join("state")).unwrap();
        }
        child = play.start();
        client = beside(&play.folder, &child);
    }
    drop(client);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(killed_within >= 3, "{killed_within} kills: nothing was tested");
    until_nothing_is_parked(&play);
    let mut client = play.client();
    let letters = judge(client.as_mut());
    let done = values(client.as_mut(), "out");
    for key in keys {
        let letters = &letters[key];
        assert_eq!(letters[0], format!("fail 9 {key}"));
        assert!(letters.len() > FOLLOWERS, "{key}: only {} went with it", letters.len());
        let done = &done[key];
        assert!(!done.is_empty() && done.iter().all(|value| value.starts_with(&format!("{key} newer"))), "{done:?}");
    }
}

#[test]
fn a_process_killed_at_any_named_point_loses_nothing_given_up_and_writes_nothing_twice() {
    let test = "a_process_killed_at_any_named_point_loses_nothing_given_up_and_writes_nothing_twice";
    if !armed(test) {
        return;
    }
    let Some(mut play) = Play::of(test, "tally", SOON) else { return };
    let window = die_everywhere(&mut play, true, &mut |play, life| {
        let mut client = play.client();
        let all = mixed(life * 1_000, (life + 1) * 1_000, 60);
        // What it forgets would make values of one key equal.
        play.send_plain(client.as_mut(), &all);
    });
    assert!(window > 0, "no death left anything uncommitted: nothing was tested");
    until_nothing_is_parked(&play);
    judge(play.client().as_mut());
}
