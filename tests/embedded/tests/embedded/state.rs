//! The state of handlers: it changes with what follows from it, outlives every end of the process, and ends when it is to.
//!
//! The handler `tally` counts each key's messages in its state and sends `COUNT VALUE`: a count that is missing, or there
//! twice, is state that was lost, or kept of a run of which nothing else stands.

mod c;
mod kills;
mod limits;
mod schema;
mod swap;
mod topic;

use crate::play::Play;
use crate::run::{PARTITIONS, beside};
use crate::support::{WAIT, all, text};
use keyrail::broker::client::Client;
use keyrail::record::Record;
use std::collections::BTreeMap;
use std::process::Child;
use std::time::{Duration, Instant};

pub(crate) const TOPIC: &str = "p.in.state";
/// A message that asks to fail as often is a dead letter.
const ATTEMPTS: u32 = 3;
const AT_LEAST_ONCE: &str = "guarantee = \"at-least-once\"\n";
const RETRY: &str = "retry = { attempts = 3, backoff = { first = \"5ms\", max = \"5ms\" } }\n";

/// A pipeline that counts, and what its counts must be.
pub(crate) struct Counting {
    pub(crate) play: Play,
    pub(crate) counts: Counts,
}

/// By key; what is not there was never counted, or is deleted.
pub(crate) type Counts = BTreeMap<String, u64>;

impl Counting {
    /// `tables` stand at the end of the manifest. `None`, noted: the handlers are not built.
    pub(crate) fn new(test: &str, tables: &str) -> Option<Self> {
        Self::new_with(test, &format!("{RETRY}{tables}"))
    }

    /// The same with all tables, `retry` among them: three attempts.
    pub(crate) fn new_with(test: &str, tables: &str) -> Option<Self> {
        Self::of(test, "tally", tables)
    }

    /// The same with a handler that does what `tally` does.
    fn of(test: &str, guest: &str, tables: &str) -> Option<Self> {
        let play = Play::of(test, guest, tables)?;
        Some(Self { play, counts: Counts::new() })
    }

    /// Sends keys and values, and notes what must come of them.
    pub(crate) fn send(&mut self, client: &mut dyn Client, messages: &[(String, String)]) {
        count(&mut self.play, &mut self.counts, client, messages);
    }

    /// Sends these values of one key, and waits until all is committed.
    pub(crate) fn say(&mut self, child: &Child, key: &str, values: &[&str]) {
        let mut client = beside(&self.play.folder, child);
        let messages: Vec<_> = values.iter().map(|value| (key.to_owned(), (*value).to_owned())).collect();
        self.send(client.as_mut(), &messages);
        self.wait(client.as_mut());
    }

    /// Until all that was sent is committed.
    pub(crate) fn wait(&self, client: &mut dyn Client) {
        let until = Instant::now() + WAIT;
        while self.play.uncommitted(client) > 0 {
            assert!(Instant::now() < until, "{} messages are not committed", self.play.uncommitted(client));
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Nothing is lost and nothing twice: neither effects nor counts, and the topic holds what was counted.
    pub(crate) fn judge(&self) {
        let mut client = self.play.client();
        assert_eq!(self.play.judge(client.as_mut()), (0, 0), "something came twice");
        let kept = kept(client.as_mut());
        let kept: Counts = kept.into_iter().filter_map(|(key, last)| Some((key, last?.parse().unwrap()))).collect();
        assert_eq!(kept, self.counts, "what the topic of state holds is not what was counted");
    }
}

/// As [`Counting::send`].
pub(crate) fn count(play: &mut Play, counts: &mut Counts, client: &mut dyn Client, messages: &[(String, String)]) {
    for (key, value) in messages {
        let fails = value.strip_prefix("fail ").map_or(0, |rest| rest.split(' ').next().unwrap().parse().unwrap());
        if fails >= ATTEMPTS {
            play.expect_letter(key, value);
            continue;
        }
        let count = counts.entry(key.clone()).or_default();
        *count += 1;
        play.expect_output(key, &format!("{count} {value}"));
        if value.starts_with("forget") {
            counts.remove(key);
        }
    }
    play.send_plain(client, messages);
}

/// Messages `from..to` of so many keys: of ten, one fails once, and one of a hundred for good, or has its key forgotten.
pub(crate) fn mixed(from: usize, to: usize, keys: usize) -> Vec<(String, String)> {
    let message = |n: usize| {
        let value = match n % 97 {
            7 => format!("fail 9 {n:0>7}"),
            50 => format!("forget {n:0>7}"),
            m if m % 10 == 3 => format!("fail 1 {n:0>7}"),
            m if m % 10 == 8 => format!("fail 2 {n:0>7}"),
            _ => format!("{n:0>7}"),
        };
        (format!("k{}", n % keys), value)
    };
    (from..to).map(message).collect()
}

/// The last value of each key in the topic of state; `None`: it is deleted. Each key's stand in the partition of its
/// messages.
fn kept(client: &mut dyn Client) -> BTreeMap<String, Option<String>> {
    let of_key: BTreeMap<String, i32> =
        all(client, "in", PARTITIONS).iter().map(|r| (text(r.key()).to_owned(), r.at.partition)).collect();
    let mut last = BTreeMap::new();
    for record in values(client) {
        let (owner, name) = owner_and_name(&record);
        assert_eq!(name, "count");
        assert_eq!(of_key.get(&owner), Some(&record.at.partition), "{owner}: its state is in another partition");
        last.insert(owner, record.value().map(<[u8]>::to_vec));
    }
    let plain = |value: Vec<u8>| match value.split_first().unwrap() {
        (1, rest) => text(Some(rest)).to_owned(),
        (2, rest) => text(Some(&rest[8..])).to_owned(),
        (other, _) => panic!("a value of kind {other}"),
    };
    last.into_iter().map(|(owner, value)| (owner, value.map(plain))).collect()
}

/// What the topic of state holds but for the marks of schemas.
fn values(client: &mut dyn Client) -> Vec<Record> {
    let all = all(client, TOPIC, PARTITIONS).into_iter();
    all.filter(|record| record.key().is_none_or(|key| key.first() != Some(&0))).collect()
}

/// What its key says.
fn owner_and_name(record: &Record) -> (String, String) {
    let key = record.key().unwrap();
    assert_eq!(key[0], 1, "the state of a key");
    let (owner, name) = key[3..].split_at(usize::from(u16::from_be_bytes([key[1], key[2]])));
    (text(Some(owner)).to_owned(), text(Some(name)).to_owned())
}

#[test]
fn counts_go_on_over_stops_and_over_starts_without_anything_on_the_disk() {
    go_on(Counting::new("counts_go_on_over_stops_and_over_starts_without_anything_on_the_disk", ""));
}

#[test]
fn counts_go_on_with_at_least_once_too() {
    go_on(Counting::new("counts_go_on_with_at_least_once_too", AT_LEAST_ONCE));
}

fn go_on(counting: Option<Counting>) {
    let Some(mut counting) = counting else { return };
    for round in 0..4 {
        if round == 2 {
            // What is not in the broker is gone.
            let store = counting.play.folder.path().join("state");
            assert!(store.is_dir(), "the folder has another name");
            std::fs::remove_dir_all(store).unwrap();
        }
        let child = counting.play.start();
        let mut client = beside(&counting.play.folder, &child);
        counting.send(client.as_mut(), &mixed(round * 2_000, (round + 1) * 2_000, 100));
        drop(client);
        counting.play.settle(child);
    }
    counting.judge();
}

#[test]
fn what_fails_leaves_nothing_in_the_state() {
    let Some(mut counting) = Counting::new("what_fails_leaves_nothing_in_the_state", "") else { return };
    // Before the start, so that they share calls.
    let values = ["a", "fail 9 b", "fail 2 c", "fail 9 d", "e", "fail 9 f"];
    let messages = values.map(|value| ("k".to_owned(), value.to_owned()));
    counting.send(counting.play.client().as_mut(), &messages);
    let child = counting.play.start();
    counting.say(&child, "only", &["fail 9 b"]);
    counting.play.settle(child);
    assert_eq!(counting.counts, Counts::from([("k".to_owned(), 3)]));
    counting.judge();
    let letters = counting.play.letters(counting.play.client().as_mut());
    let code = |letter: &Record| text(letter.header(b"keyrail-code").flatten()).to_owned();
    assert_eq!(letters.iter().map(code).collect::<Vec<_>>(), ["asked"; 4]);
}

#[test]
fn what_is_forgotten_is_deleted_from_the_topic_and_counted_anew() {
    let test = "what_is_forgotten_is_deleted_from_the_topic_and_counted_anew";
    let Some(mut counting) = Counting::new(test, "") else { return };
    let child = counting.play.start();
    counting.say(&child, "k", &["a", "b", "forget c"]);
    counting.say(&child, "other", &["a"]);
    let mut client = beside(&counting.play.folder, &child);
    assert_eq!(kept(client.as_mut()).get("k"), Some(&None), "there is no tombstone");
    drop(client);
    counting.play.settle(child);
    let child = counting.play.start();
    counting.say(&child, "k", &["d", "e"]);
    counting.say(&child, "other", &["b"]);
    counting.play.settle(child);
    assert_eq!(counting.counts, Counts::from([("k".to_owned(), 2), ("other".to_owned(), 2)]));
    counting.judge();
}
