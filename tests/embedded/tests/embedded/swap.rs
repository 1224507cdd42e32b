//! The folder of the pipelines changes while they run: handlers are swapped, manifests come, change and go.

use crate::run::{PARTITIONS, beside, by_key, guests, options, start, written};
use crate::support::{Folder, all, at, produce, send, stopped, text, topic, until, version};
use keyrail::broker::client::Client;
use keyrail::broker::embedded::Embedded;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

const KEYS: usize = 50;

/// A folder whose pipeline runs the `scripted` handler, and that handler's bytes.
fn stage(test: &str) -> Option<(Folder, Vec<u8>)> {
    let scripted = fs::read(guests(test)?.join("scripted.wasm")).unwrap();
    let folder = Folder::new();
    fs::create_dir(folder.path().join("plugins")).unwrap();
    let host =
        "broker = \"embedded\"\nadmin.listen = \"127.0.0.1:0\"\nembedded.partitions = 4\nplugins.poll = \"1s\"\n";
    fs::write(folder.path().join("keyrail.toml"), host).unwrap();
    let mut client = Embedded::open(&options(&folder)).unwrap().client().unwrap();
    for name in ["in", "out", "more", "later", "p.in.dlq", "q.more.dlq"] {
        topic(client.as_mut(), name, PARTITIONS, &[]);
    }
    drop(client);
    write(&folder, "p.wasm", &version(&scripted, 0));
    write(&folder, "p.toml", manifest("in", "out").as_bytes());
    Some((folder, scripted))
}

fn manifest(input: &str, output: &str) -> String {
    format!(
        "handler = \"p.wasm\"\ninput = [\"{input}\"]\noutput.out = \"{output}\"\n\
         retry.backoff = {{ first = \"20ms\", max = \"20ms\" }}\n"
    )
}

fn plugins(folder: &Folder) -> std::path::PathBuf {
    folder.path().join("plugins")
}

fn write(folder: &Folder, name: &str, bytes: &[u8]) {
    fs::write(plugins(folder).join(name), bytes).unwrap();
}

/// As `cp` over a network does it: in place, with a pause.
fn write_slowly(path: &Path, bytes: &[u8]) {
    let mut file = File::create(path).unwrap();
    let (first, rest) = bytes.split_at(bytes.len() / 2);
    file.write_all(first).unwrap();
    file.sync_all().unwrap();
    std::thread::sleep(Duration::from_millis(120));
    file.write_all(rest).unwrap();
}

/// One of so many messages is dead-lettered. Prime, so that all keys have some: a dead letter holds its key up until it
/// is on the disk.
const BAD: usize = 97;

/// Sends numbered messages: some are dead-lettered and some fail once, so that some wait in every swap.
struct Feed {
    next: usize,
}

impl Feed {
    fn send(&mut self, client: &mut dyn Client, topic: &str, count: usize) {
        let all: Vec<_> = (self.next..self.next + count)
            .map(|n| {
                let what = match n % BAD {
                    0 => "dead-letter",
                    24 | 66 => "fail-times:1",
                    _ => "done",
                };
                (format!("k{}", n % KEYS), format!("{{\"do\":\"{what}\",\"id\":\"{n:0>8}\"}}"))
            })
            .collect();
        self.next += count;
        std::thread::sleep(Duration::from_millis(20));
        let records: Vec<_> = all.iter().map(|(key, value)| produce(topic, key, value)).collect();
        send(client, &records);
    }
}

/// The digests that the dead letters tell, key by key in the order of the log.
fn failed_by(client: &mut dyn Client) -> BTreeMap<String, Vec<String>> {
    let mut keys: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for letter in all(client, "p.in.dlq", PARTITIONS) {
        let handler = text(letter.header(b"keyrail-handler").flatten()).to_owned();
        keys.entry(text(letter.key()).to_owned()).or_default().push(handler);
    }
    keys
}

/// Without what is dead-lettered.
fn expected(count: usize) -> BTreeMap<String, Vec<String>> {
    let mut keys: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for n in (0..count).filter(|n| n % BAD != 0) {
        keys.entry(format!("k{}", n % KEYS)).or_default().push(format!("{n:0>8}"));
    }
    keys
}

fn letters(count: usize) -> u64 {
    count.div_ceil(BAD) as u64
}

fn wait_settled(client: &mut dyn Client, count: usize) {
    until("everything comes out", || written(client, "out") + letters(count) >= count as u64);
}

fn digest(client: &mut dyn Client) -> BTreeSet<String> {
    failed_by(client).into_values().flatten().collect()
}

#[test]
fn handlers_are_swapped_under_load_and_nothing_is_lost_repeated_or_out_of_order() {
    let test = "handlers_are_swapped_under_load_and_nothing_is_lost_repeated_or_out_of_order";
    let Some((folder, base)) = stage(test) else { return };
    let path = plugins(&folder).join("p.wasm");
    let child = start(&folder);
    let mut client = beside(&folder, &child);
    let mut feed = Feed { next: 0 };
    feed.send(client.as_mut(), "in", 500);
    until("the first version serves", || digest(client.as_mut()).len() == 1);
    for number in 1..=8_u8 {
        let bytes = version(&base, number);
        match number % 3 {
            0 => write_slowly(&path, &bytes),
            1 => fs::write(&path, &bytes).unwrap(),
            _ => {
                fs::write(path.with_extension("part"), &bytes).unwrap();
                fs::rename(path.with_extension("part"), &path).unwrap();
            }
        }
        let mut seen = 0;
        until("a swap", || {
            feed.send(client.as_mut(), "in", 400);
            seen = digest(client.as_mut()).len();
            seen == usize::from(number) + 1
        });
        // What is no handler, or only the first half of one, changes nothing.
        let bad: &[u8] = if number % 2 == 0 { b"#!/bin/sh\n" } else { &bytes[..bytes.len() / 2] };
        fs::write(&path, bad).unwrap();
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(600) {
            feed.send(client.as_mut(), "in", 200);
        }
        assert_eq!(digest(client.as_mut()).len(), seen, "the old one goes on");
    }
    fs::remove_file(&path).unwrap();
    std::thread::sleep(Duration::from_millis(600));
    feed.send(client.as_mut(), "in", 1_000);
    wait_settled(client.as_mut(), feed.next);
    assert_eq!(by_key(client.as_mut(), "out"), expected(feed.next), "each once, each key in order");
    // Versions follow each other in every key: none came back.
    let failed = failed_by(client.as_mut());
    let mut order: Vec<String> = Vec::new();
    for (key, versions) in failed {
        let mut mine: Vec<String> = Vec::new();
        for version in versions {
            if mine.last() != Some(&version) {
                assert!(!mine.contains(&version), "{key}: {version} came back");
                mine.push(version);
            }
        }
        if mine.len() > order.len() {
            order = mine;
        }
    }
    assert_eq!(order.len(), 9, "{order:?}");
    stopped(child);
}

#[test]
fn manifests_that_come_change_and_go_start_restart_and_drain_their_pipelines() {
    let test = "manifests_that_come_change_and_go_start_restart_and_drain_their_pipelines";
    let Some((folder, _)) = stage(test) else { return };
    let child = start(&folder);
    let mut client = beside(&folder, &child);
    let mut feed = Feed { next: 0 };
    feed.send(client.as_mut(), "in", 2_000);
    // One that is added runs; one that is no manifest does not disturb it.
    write(&folder, "broken.toml", b"handler = ");
    write(&folder, "q.toml", manifest("more", "later").as_bytes());
    let mut others = Feed { next: 0 };
    others.send(client.as_mut(), "more", 1_000);
    until("the added pipeline runs", || written(client.as_mut(), "later") + letters(1_000) == 1_000);
    // One that reads the same input with the same group, while the file that the other runs by is at fault.
    write(&folder, "p.toml", b"handel = \"p.wasm\"\n");
    write(&folder, "a.toml", format!("group = \"p\"\n{}", manifest("in", "later")).as_bytes());
    std::thread::sleep(Duration::from_millis(700));
    feed.send(client.as_mut(), "in", 1_000);
    wait_settled(client.as_mut(), feed.next);
    assert_eq!(written(client.as_mut(), "later") + letters(1_000), 1_000, "it was not started");
    fs::remove_file(plugins(&folder).join("a.toml")).unwrap();
    // Another manifest: what is under way is finished by the old one, the rest is the new one's.
    feed.send(client.as_mut(), "in", 3_000);
    write(&folder, "p.toml", format!("{}batch.max-messages = 3\n", manifest("in", "out")).as_bytes());
    feed.send(client.as_mut(), "in", 3_000);
    write(&folder, "p.toml", format!("{}[batch]\nmax-messages = 200\n", manifest("in", "out")).as_bytes());
    feed.send(client.as_mut(), "in", 3_000);
    wait_settled(client.as_mut(), feed.next);
    assert_eq!(by_key(client.as_mut(), "out"), expected(feed.next), "each once, each key in order");
    // Removed: what is committed is all that it had, and nothing more runs.
    fs::remove_file(plugins(&folder).join("q.toml")).unwrap();
    let held = fs::read_to_string(folder.data().join("keyrail.lock")).unwrap();
    assert_eq!(held, format!("{} serves\n", child.id()));
    std::thread::sleep(Duration::from_millis(1_500));
    others.send(client.as_mut(), "more", 100);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(written(client.as_mut(), "later") + letters(1_000), 1_000, "it is drained");
    let partitions: Vec<_> = (0..PARTITIONS).map(|n| at(0, n)).collect();
    let committed = client.committed("q", &["more".to_owned()], &partitions).unwrap();
    assert_eq!(committed.iter().filter_map(|c| c.offset).sum::<i64>(), 1_000);
    write(&folder, "q.toml", manifest("more", "later").as_bytes());
    until("it goes on when it comes back", || written(client.as_mut(), "later") + letters(1_100) == 1_100);
    // Renamed, with the group of before: the new one waits until the old one has drained.
    write(&folder, "q.toml", format!("group = \"q\"\n{}", manifest("more", "later")).as_bytes());
    fs::rename(plugins(&folder).join("q.toml"), plugins(&folder).join("r.toml")).unwrap();
    until("it goes on by another name", || {
        others.send(client.as_mut(), "more", 100);
        all(client.as_mut(), "q.more.dlq", PARTITIONS)
            .iter()
            .any(|letter| text(letter.header(b"keyrail-handler").flatten()).starts_with("r@"))
    });
    let count = others.next;
    until("all comes out", || written(client.as_mut(), "later") + letters(count) == count as u64);
    assert_eq!(by_key(client.as_mut(), "later"), expected(count), "each once, each key in order");
    stopped(child);
}

#[test]
fn a_pattern_s_topics_are_read_as_they_come_and_from_their_beginning() {
    let test = "a_pattern_s_topics_are_read_as_they_come_and_from_their_beginning";
    let Some((folder, _)) = stage(test) else { return };
    // "latest" is where the group starts; what comes to be while it runs has no records that it may pass over.
    let manifest = manifest("^eu\\\\.", "out").replace("guarantee", "from = \"latest\"\nguarantee");
    write(&folder, "p.toml", manifest.as_bytes());
    let child = start(&folder);
    let mut client = beside(&folder, &child);
    std::thread::sleep(Duration::from_millis(700));
    topic(client.as_mut(), "eu.first", PARTITIONS, &[]);
    let committed = |client: &mut dyn Client, name: &str| {
        let partitions: Vec<_> = (0..PARTITIONS).map(|n| at(0, n)).collect();
        client.committed("p", &[name.to_owned()], &partitions).unwrap().iter().all(|c| c.offset.is_some())
    };
    until("the first topic is found", || committed(client.as_mut(), "eu.first"));
    let mut feed = Feed { next: 0 };
    feed.send(client.as_mut(), "eu.first", 500);
    topic(client.as_mut(), "eu.second", PARTITIONS, &[]);
    topic(client.as_mut(), "us.other", PARTITIONS, &[]);
    feed.send(client.as_mut(), "eu.second", 500);
    feed.send(client.as_mut(), "us.other", 10);
    until("the second topic is read from its beginning", || written(client.as_mut(), "out") + letters(1_000) >= 1_000);
    let names: Vec<String> = client.topics().unwrap().into_iter().map(|topic| topic.name).collect();
    assert!(
        names.contains(&"p.eu.second.dlq".to_owned()) && !names.contains(&"p.us.other.dlq".to_owned()),
        "{names:?}"
    );
    assert_eq!(by_key(client.as_mut(), "out"), expected(1_000), "each once, each key in order");
    stopped(child);
}
