//! A new version is tried on a part of the keys: promoted when it is good, rolled back when it fails alone, and nothing is lost,
//! repeated, out of order or dead-lettered for its sake.

use crate::run::{PARTITIONS, beside, by_key, guests, options, start, written};
use crate::support::{Folder, all, produce, send, stopped, topic, until, version};
use keyrail::broker::client::Client;
use keyrail::broker::embedded::Embedded;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

const KEYS: usize = 60;
/// One of so many messages fails on the new version. Prime, so that all keys have some.
const BAD: usize = 37;

/// Gets a record for each thing that becomes of a version.
const AUDIT: &str = "deployments";

struct Stage {
    folder: Folder,
    next: usize,
}

impl Stage {
    /// The copying handler serves; `rollout` is what stands in that section.
    fn new(test: &str, rollout: &str) -> Option<Self> {
        let guests = guests(test)?;
        let folder = Folder::new();
        fs::create_dir(folder.path().join("plugins")).unwrap();
        let host =
            "broker = \"embedded\"\nadmin.listen = \"127.0.0.1:0\"\nembedded.partitions = 4\nplugins.poll = \"1s\"\n";
        fs::write(folder.path().join("keyrail.toml"), host).unwrap();
        let mut client = Embedded::open(&options(&folder)).unwrap().client().unwrap();
        for name in ["in", "out", "p.in.dlq", AUDIT] {
            topic(client.as_mut(), name, PARTITIONS, &[]);
        }
        drop(client);
        let stage = Self { folder, next: 0 };
        fs::copy(guests.join("identity.wasm"), stage.handler()).unwrap();
        let manifest = format!(
            "handler = \"p.wasm\"\ninput = [\"in\"]\noutput.out = \"out\"\n[rollout]\naudit = \"{AUDIT}\"\n{rollout}\n"
        );
        fs::write(stage.handler().with_extension("toml"), manifest).unwrap();
        Some(stage)
    }

    /// What is remembered of its versions.
    fn kept(&self) -> std::path::PathBuf {
        self.folder.path().join("state/rollouts/p")
    }

    fn handler(&self) -> std::path::PathBuf {
        self.folder.path().join("plugins/p.wasm")
    }

    /// The scripted handler takes its place: it writes an id where the copying one writes the script.
    fn ship(&self, test: &str, mark: u8) {
        self.ship_guest(test, "scripted.wasm", mark);
    }

    fn ship_guest(&self, test: &str, guest: &str, mark: u8) {
        let bytes = version(&fs::read(guests(test).unwrap().join(guest)).unwrap(), mark);
        let part = self.handler().with_extension("part");
        fs::write(&part, bytes).unwrap();
        fs::rename(part, self.handler()).unwrap();
    }

    fn send(&mut self, client: &mut dyn Client, count: usize, bad: &str) {
        let all: Vec<_> = (self.next..self.next + count)
            .map(|n| {
                let what = if n % BAD == 0 { bad } else { "done" };
                (format!("k{}", n % KEYS), format!("{{\"do\":\"{what}\",\"id\":\"{n:0>8}\"}}"))
            })
            .collect();
        self.next += count;
        std::thread::sleep(Duration::from_millis(20));
        let records: Vec<_> = all.iter().map(|(key, value)| produce("in", key, value)).collect();
        send(client, &records);
    }

    /// All is out, once and in order, and nothing became a dead letter.
    fn settle(&self, client: &mut dyn Client) {
        until("everything comes out", || written(client, "out") >= self.next as u64);
        let mut expected: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for n in 0..self.next {
            expected.entry(format!("k{}", n % KEYS)).or_default().push(format!("{n:0>8}"));
        }
        let ids = |values: Vec<String>| values.iter().map(|value| id(value)).collect();
        let found: BTreeMap<String, Vec<String>> =
            by_key(client, "out").into_iter().map(|(key, values)| (key, ids(values))).collect();
        assert_eq!(found, expected, "each once, each key in order");
        assert_eq!(all(client, "p.in.dlq", PARTITIONS).len(), 0, "nothing is given up for a version on trial");
    }
}

/// What the audit topic must say: EVENT by WHOM, and in the last record's reason.
fn audited_as(client: &mut dyn Client, events: [&str; 2], reason: &str) {
    until("all is in the audit topic", || written(client, AUDIT) >= events.len() as u64);
    let told = all(client, AUDIT, PARTITIONS).into_iter().map(|record| {
        assert_eq!(record.key(), Some(&b"p"[..]));
        let value: Value = serde_json::from_slice(record.value().unwrap()).unwrap();
        assert!(value["pipeline"] == "p" && value["version"].as_str().unwrap().len() == 64, "{value}");
        assert!(value["at"].as_str().unwrap().ends_with('Z') && value["process"].is_string(), "{value}");
        let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
        (format!("{} by {}", text("event"), text("by")), text("why") + &text("shown"))
    });
    let told: Vec<(String, String)> = told.collect();
    assert_eq!(told.iter().map(|(event, _)| event.as_str()).collect::<Vec<_>>(), events, "{told:?}");
    assert!(told[1].1.contains(reason), "{told:?}");
}

/// What a record stands for, whichever version wrote it.
fn id(value: &str) -> String {
    value.strip_suffix("\"}").and_then(|start| start.rsplit('"').next()).unwrap_or(value).to_owned()
}

/// For each key which of its messages, by number, the new version ran.
fn by_the_new(client: &mut dyn Client, from: usize) -> BTreeMap<String, Vec<bool>> {
    let sides = |values: Vec<String>| {
        let late = values.into_iter().filter(|value| id(value).parse::<usize>().unwrap() >= from);
        late.map(|value| !value.starts_with('{')).collect()
    };
    by_key(client, "out").into_iter().map(|(key, values)| (key, sides(values))).collect()
}

/// Keys that the new version runs.
fn tried(client: &mut dyn Client, from: usize) -> BTreeSet<String> {
    let all = by_the_new(client, from);
    all.into_iter().filter(|(_, sides)| sides.contains(&true)).map(|(key, _)| key).collect()
}

#[test]
fn a_good_version_is_tried_on_a_part_of_the_keys_and_then_serves_all() {
    let test = "a_good_version_is_tried_on_a_part_of_the_keys_and_then_serves_all";
    let Some(mut stage) = Stage::new(test, "share = 0.3\nfor = \"1s\"\nleast-messages = 4000") else { return };
    let child = start(&stage.folder);
    let mut client = beside(&stage.folder, &child);
    stage.send(client.as_mut(), 600, "done");
    until("the first version serves", || written(client.as_mut(), "out") >= 600);
    assert_eq!(tried(client.as_mut(), 0).len(), 0, "with nothing before it, it serves at once");
    stage.ship(test, 1);
    until("the new one is tried", || {
        stage.send(client.as_mut(), 300, "done");
        !tried(client.as_mut(), 0).is_empty()
    });
    stage.send(client.as_mut(), 600, "done");
    let count = stage.next as u64;
    until("these are through", || written(client.as_mut(), "out") >= count);
    let first = tried(client.as_mut(), 0).len();
    assert!((5..=35).contains(&first), "{first} of {KEYS} keys are tried at a share of 0.3");
    let mut from = 0;
    until("it is promoted", || {
        from = stage.next;
        stage.send(client.as_mut(), 2_000, "done");
        let count = stage.next as u64;
        until("these are through", || written(client.as_mut(), "out") >= count);
        tried(client.as_mut(), from).len() == KEYS
    });
    stage.settle(client.as_mut());
    for (key, sides) in by_the_new(client.as_mut(), 0) {
        let first = sides.iter().position(|new| *new).unwrap();
        assert!(sides[first..].iter().all(|new| *new), "{key} saw the old version again: {sides:?}");
    }
    audited_as(client.as_mut(), ["tried by folder", "promoted by evidence"], " messages, 0 failed on it alone, ");
    // What was promoted serves at once at the next start.
    stopped(child);
    let (child, from) = (start(&stage.folder), stage.next);
    let mut client = beside(&stage.folder, &child);
    stage.send(client.as_mut(), 300, "done");
    stage.settle(client.as_mut());
    assert_eq!(tried(client.as_mut(), from).len(), KEYS);
    stopped(child);
    // One that is shipped while the process is down is tried, too, and what it is tried beside is what was promoted last.
    let mut keys_of_scripted = 0;
    for (guest, mark) in [("identity.wasm", 2), ("scripted.wasm", 3)] {
        stage.ship_guest(test, guest, mark);
        let (child, from) = (start(&stage.folder), stage.next);
        let mut client = beside(&stage.folder, &child);
        stage.send(client.as_mut(), 300, "done");
        stage.settle(client.as_mut());
        keys_of_scripted = tried(client.as_mut(), from).len();
        let tried_now = if mark == 3 { keys_of_scripted } else { KEYS - keys_of_scripted };
        assert!((5..=35).contains(&tried_now), "{tried_now} of {KEYS} keys are tried at a share of 0.3");
        until("it is promoted", || {
            let from = stage.next;
            stage.send(client.as_mut(), 2_000, "done");
            let count = stage.next as u64;
            until("these are through", || written(client.as_mut(), "out") >= count);
            keys_of_scripted = tried(client.as_mut(), from).len();
            keys_of_scripted == if mark == 3 { KEYS } else { 0 }
        });
        stage.settle(client.as_mut());
        stopped(child);
    }
    // Without [rollout] nothing is remembered.
    let manifest = stage.handler().with_extension("toml");
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, text.split("[rollout]").next().unwrap()).unwrap();
    stage.ship_guest(test, "identity.wasm", 4);
    let (child, from) = (start(&stage.folder), stage.next);
    let mut client = beside(&stage.folder, &child);
    stage.send(client.as_mut(), 300, "done");
    stage.settle(client.as_mut());
    assert_eq!((keys_of_scripted, tried(client.as_mut(), from).len()), (KEYS, 0));
    assert!(!stage.kept().exists(), "what was remembered is forgotten");
    stopped(child);
}

#[test]
fn a_version_that_fails_alone_is_rolled_back_and_stays_so() {
    let test = "a_version_that_fails_alone_is_rolled_back_and_stays_so";
    for (mark, bad) in ["dead-letter", "trap", "retry", "outage"].into_iter().enumerate() {
        let Some(mut stage) = Stage::new(test, "share = 0.5\nfor = \"1h\"") else { return };
        let child = start(&stage.folder);
        let mut client = beside(&stage.folder, &child);
        stage.send(client.as_mut(), 600, bad);
        until("the first version serves", || written(client.as_mut(), "out") >= 600);
        stage.ship(test, mark as u8);
        until("the new one is tried", || {
            stage.send(client.as_mut(), 300, bad);
            !tried(client.as_mut(), 0).is_empty()
        });
        until("it is rolled back", || {
            let from = stage.next;
            stage.send(client.as_mut(), 300, bad);
            let count = stage.next as u64;
            until("these are through", || written(client.as_mut(), "out") >= count);
            tried(client.as_mut(), from).is_empty()
        });
        stage.settle(client.as_mut());
        stopped(child);
        let (child, from) = (start(&stage.folder), stage.next);
        let mut client = beside(&stage.folder, &child);
        stage.send(client.as_mut(), 600, bad);
        stage.settle(client.as_mut());
        assert_eq!(tried(client.as_mut(), from).len(), 0, "a restart does not bring it back");
        audited_as(client.as_mut(), ["tried by folder", "rolled-back by evidence"], "failed on it alone");
        // A mended one is tried again.
        stage.ship(test, 100 + mark as u8);
        until("the mended one is tried", || {
            stage.send(client.as_mut(), 300, "done");
            !tried(client.as_mut(), from).is_empty()
        });
        stage.settle(client.as_mut());
        stopped(child);
    }
}

#[test]
fn a_restart_in_the_middle_of_a_trial_goes_on_with_it_on_the_same_keys() {
    let test = "a_restart_in_the_middle_of_a_trial_goes_on_with_it_on_the_same_keys";
    let Some(mut stage) = Stage::new(test, "share = 0.3\nfor = \"1h\"") else { return };
    let child = start(&stage.folder);
    let mut client = beside(&stage.folder, &child);
    stage.send(client.as_mut(), 600, "done");
    until("the first version serves", || written(client.as_mut(), "out") >= 600);
    stage.ship(test, 1);
    until("the new one is tried", || {
        stage.send(client.as_mut(), 300, "done");
        !tried(client.as_mut(), 0).is_empty()
    });
    stage.send(client.as_mut(), 600, "done");
    stage.settle(client.as_mut());
    let before = tried(client.as_mut(), 0);
    let mut running = child;
    for kills in [false, true, false] {
        drop(client);
        if kills {
            running.kill().unwrap();
            running.wait().unwrap();
        } else {
            stopped(running);
        }
        running = start(&stage.folder);
        client = beside(&stage.folder, &running);
        let from = stage.next;
        stage.send(client.as_mut(), 900, "done");
        stage.settle(client.as_mut());
        assert_eq!(tried(client.as_mut(), from), before, "a key sees one version");
    }
    stopped(running);
}
