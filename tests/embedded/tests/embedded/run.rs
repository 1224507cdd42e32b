//! Pipelines with a real handler on the embedded broker, killed and stopped.

use crate::support::{Folder, WAIT, all, produce, send, skip, text, topic};
use keyrail::broker::client::Client;
use keyrail::broker::embedded::{self, Embedded, Options};
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const RECORDS: usize = 30_000;
const KEYS: usize = 300;
pub(crate) const PARTITIONS: i32 = 4;

/// Where the handlers for tests are, if they are built.
pub(crate) fn guests(test: &str) -> Option<PathBuf> {
    let guests = std::env::var_os("KEYRAIL_GUESTS").map(PathBuf::from);
    if guests.is_none() {
        skip(test, "KEYRAIL_GUESTS is not set; cargo xtask test sets it");
    }
    guests
}

/// A folder with keyrail.toml and the copying handler. `None`: the guests are not built.
pub(crate) fn stage(test: &str) -> Option<Folder> {
    let guests = guests(test)?;
    let folder = Folder::new();
    let plugins = folder.path().join("plugins");
    std::fs::create_dir(&plugins).unwrap();
    std::fs::copy(guests.join("identity.wasm"), plugins.join("copy.wasm")).unwrap();
    let manifest = "handler = \"copy.wasm\"\ninput = [\"in\"]\n[output]\nout = \"out\"\n";
    std::fs::write(plugins.join("copy.toml"), manifest).unwrap();
    let host = "broker = \"embedded\"\n[admin]\nlisten = \"127.0.0.1:0\"\n[embedded]\npartitions = 4\n";
    std::fs::write(folder.path().join("keyrail.toml"), host).unwrap();
    Some(folder)
}

pub(crate) fn options(folder: &Folder) -> Options {
    Options { partitions: PARTITIONS, ..folder.options() }
}

pub(crate) fn start(folder: &Folder) -> Child {
    start_with(folder, |_| {})
}

/// A process with something special about it.
pub(crate) fn start_with(folder: &Folder, special: impl FnOnce(&mut Command)) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_embedded-rig"));
    command.arg("run").arg(folder.path().join("keyrail.toml")).stdin(Stdio::piped()).stdout(Stdio::piped());
    special(&mut command);
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "started\n");
    child
}

fn fill(folder: &Folder) {
    let mut client = Embedded::open(&options(folder)).unwrap().client().unwrap();
    topic(client.as_mut(), "in", PARTITIONS, &[]);
    let texts: Vec<_> = (0..RECORDS).map(|n| (format!("k{}", n % KEYS), format!("{n:0>8}"))).collect();
    let records: Vec<_> = texts.iter().map(|(key, value)| produce("in", key, value)).collect();
    send(client.as_mut(), &records);
}

pub(crate) fn written(client: &mut dyn Client, name: &str) -> u64 {
    let bounds = client.bounds(name, &(0..PARTITIONS).collect::<Vec<_>>());
    bounds.map_or(0, |all| all.iter().map(|b| b.end.unsigned_abs()).sum())
}

/// Connects beside the process, once that holds the folder: this one must not take it.
pub(crate) fn beside(folder: &Folder, child: &Child) -> Box<dyn Client> {
    let (lock, holds) = (folder.data().join("keyrail.lock"), format!("{} serves\n", child.id()));
    let until = Instant::now() + WAIT;
    while std::fs::read_to_string(&lock).unwrap_or_default() != holds {
        assert!(Instant::now() < until, "the process did not come up");
        std::thread::sleep(Duration::from_millis(5));
    }
    embedded::client(&options(folder)).unwrap()
}

fn wait_for(folder: &Folder, child: &Child, at_least: u64) {
    let until = Instant::now() + Duration::from_secs(120);
    let mut client = beside(folder, child);
    while written(client.as_mut(), "out") < at_least {
        assert!(Instant::now() < until, "{} records came out", written(client.as_mut(), "out"));
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// By key, the values in the order of the log.
pub(crate) fn by_key(client: &mut dyn Client, name: &str) -> BTreeMap<String, Vec<String>> {
    let mut keys: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for record in all(client, name, PARTITIONS) {
        keys.entry(text(record.key()).to_owned()).or_default().push(text(record.value()).to_owned());
    }
    keys
}

#[test]
fn a_pipeline_copies_everything_once_and_stops_in_good_order() {
    let Some(folder) = stage("a_pipeline_copies_everything_once_and_stops_in_good_order") else { return };
    fill(&folder);
    let mut child = start(&folder);
    wait_for(&folder, &child, RECORDS as u64);
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    let mut client = embedded::client(&options(&folder)).unwrap();
    assert_eq!(by_key(client.as_mut(), "out"), by_key(client.as_mut(), "in"));
    let partitions: Vec<_> = (0..PARTITIONS).map(|n| crate::support::at(0, n)).collect();
    let committed = client.committed("copy", &["in".to_owned()], &partitions).unwrap();
    let ends = client.bounds("in", &(0..PARTITIONS).collect::<Vec<_>>()).unwrap();
    assert!(committed.iter().zip(&ends).all(|(c, e)| c.offset == Some(e.end)), "{committed:?} {ends:?}");
}

#[test]
fn a_pipeline_that_is_killed_loses_nothing_and_keeps_each_key_in_order() {
    let Some(folder) = stage("a_pipeline_that_is_killed_loses_nothing_and_keeps_each_key_in_order") else { return };
    fill(&folder);
    for share in [1_u64, 2, 3] {
        let mut child = start(&folder);
        wait_for(&folder, &child, RECORDS as u64 * share / 5);
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let mut child = start(&folder);
    let deadline = Instant::now() + Duration::from_secs(120);
    let mut client = beside(&folder, &child);
    let partitions: Vec<_> = (0..PARTITIONS).map(|n| crate::support::at(0, n)).collect();
    loop {
        let committed = client.committed("copy", &["in".to_owned()], &partitions).unwrap();
        if committed.iter().filter_map(|c| c.offset).sum::<i64>() == RECORDS as i64 {
            break;
        }
        assert!(Instant::now() < deadline, "it does not end: {committed:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    drop(client);
    let mut client = embedded::client(&options(&folder)).unwrap();
    let sent = by_key(client.as_mut(), "in");
    for (key, values) in by_key(client.as_mut(), "out") {
        // What a kill repeats comes again in a row; without the repeats it is what was sent, in order.
        let mut firsts: Vec<String> = Vec::new();
        for value in values {
            if firsts.last().is_none_or(|last| *last < value) {
                firsts.push(value);
            }
        }
        assert_eq!(Some(&firsts), sent.get(&key), "key {key}");
    }
    // Each of the four starts writes a record once at most.
    assert!(written(client.as_mut(), "out") <= 4 * RECORDS as u64);
}
