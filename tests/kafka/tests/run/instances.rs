//! Who writes under which name: processes that share a folder, and processes that wrongly share a name.

use crate::client::{Rec, send_all};
use crate::stage::{Setup, Stage, broker};
use crate::worker::{Worker, binary};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(60);
const KEYS: usize = 50;

fn messages(from: usize, to: usize) -> Vec<Rec> {
    let one = |n: usize| Rec { partition: (n % 6) as i32, ..Rec::script(&format!("k{}", n % KEYS), "done", &id(n)) };
    (from..to).map(one).collect()
}

fn id(n: usize) -> String {
    format!("m{n:0>6}")
}

fn setup() -> Setup<'static> {
    Setup { kafka: "\"session.timeout.ms\" = \"6000\"\n\"heartbeat.interval.ms\" = \"500\"", ..Setup::default() }
}

/// How often each id is in the output, as who reads only what is committed sees it.
fn committed_ids(stage: &Stage<'_>) -> BTreeMap<String, usize> {
    let mut tail = Command::new(binary());
    tail.args(["tail", &stage.output, "--from", "earliest", "--raw", "-c"]).arg(stage.dir.join("keyrail.toml"));
    let output = tail.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut ids = BTreeMap::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        *ids.entry(line.to_owned()).or_default() += 1;
    }
    ids
}

fn each_once(count: usize) -> BTreeMap<String, usize> {
    (0..count).map(|n| (id(n), 1)).collect()
}

fn names(stage: &Stage<'_>, state: &str) -> Vec<PathBuf> {
    let all = fs::read_dir(stage.dir.join(state).join("instances")).unwrap();
    let mut all: Vec<PathBuf> = all.map(|entry| entry.unwrap().path()).filter(|path| !path.ends_with("lock")).collect();
    all.sort();
    all
}

#[test]
fn processes_that_share_a_folder_have_a_name_each_and_keep_it() {
    let test = "processes_that_share_a_folder_have_a_name_each_and_keep_it";
    let Some(kafka) = broker(test) else { return };
    let stage = Stage::new(test, kafka, &setup());
    let shared = format!("store.dir=\"{}\"", stage.dir.join("shared").display());
    let start = |number| Worker::start_with(&stage, number, &[&shared]);
    let content =
        || -> Vec<String> { names(&stage, "shared").iter().map(|path| fs::read_to_string(path).unwrap()).collect() };
    let mut before = Vec::new();
    for round in 0..2 {
        let mut workers = [start(0), start(1)];
        workers.iter().for_each(|worker| worker.wait_metric("keyrail_partitions_assigned", &[], |n| n == 3.0));
        send_all(kafka, &stage.input, &messages(round * 600, (round + 1) * 600));
        stage.wait_settled(&workers.iter().collect::<Vec<_>>(), 0, LIMIT);
        for worker in &mut workers {
            worker.stop(Duration::from_secs(20));
        }
        let found = content();
        assert_eq!(found.len(), 2);
        assert_ne!(found[0], found[1]);
        if round > 0 {
            assert_eq!(found, before, "a restart finds the names again");
        }
        before = found;
    }
    assert_eq!(committed_ids(&stage), each_once(1200));
}

/// Somebody copies the folder to another machine. Two processes under one name would take turns at each other's
/// transactions: the older one ends instead.
#[test]
fn a_process_whose_name_was_taken_over_ends_with_3_and_nothing_is_lost_or_twice() {
    let test = "a_process_whose_name_was_taken_over_ends_with_3_and_nothing_is_lost_or_twice";
    let Some(kafka) = broker(test) else { return };
    let stage = Stage::new(test, kafka, &setup());
    let mut old = Worker::start(&stage, 0);
    old.wait_metric("keyrail_partitions_assigned", &[], |n| n == 6.0);
    send_all(kafka, &stage.input, &messages(0, 600));
    stage.wait_settled(&[&old], 0, LIMIT);
    let copy = stage.dir.join("state-1").join("instances");
    fs::create_dir_all(&copy).unwrap();
    fs::copy(&names(&stage, "state-0")[0], copy.join("0")).unwrap();
    let mut new = Worker::start(&stage, 1);
    let (mut sent, until) = (600, Instant::now() + LIMIT);
    let status = loop {
        if let Some(status) = old.ended() {
            break status;
        }
        assert!(Instant::now() < until, "it runs on\n{}\n{}", old.tail(), new.tail());
        send_all(kafka, &stage.input, &messages(sent, sent + 30));
        sent += 30;
        std::thread::sleep(Duration::from_millis(50));
    };
    assert_eq!(status.code(), Some(3), "{}", old.tail());
    assert!(old.log().contains("a newer instance has taken over"), "{}", old.tail());
    send_all(kafka, &stage.input, &messages(sent, sent + 300));
    sent += 300;
    stage.wait_settled(&[&new], 0, LIMIT);
    new.stop(Duration::from_secs(20));
    assert_eq!(committed_ids(&stage), each_once(sent));
    stage.say(&format!("{sent} messages, each once"));
}
