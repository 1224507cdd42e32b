//! `keyrail parked` and `keyrail lag`: what waits in retry topics, beside the process and at rest.

use crate::commands::run;
use crate::run::{PARTITIONS, beside};
use crate::state::Counting;
use crate::support::{Folder, all};
use keyrail::broker::Produce;
use keyrail::broker::partitioner::partition_of;
use std::time::{Duration, Instant};

const TOPIC: &str = "p.in.retry";
const LONG: &str = "commit.interval = \"20ms\"\n\
     retry = { attempts = 3, in-place = \"10ms\", backoff = { first = \"1h\", factor = 1.0, max = \"1h\", jitter = 0.0 } }\n";
const LIMIT: Duration = Duration::from_secs(30);

fn json(out: &str) -> serde_json::Value {
    serde_json::from_str(out).unwrap_or_else(|why| panic!("{why}: {out}"))
}

/// One key with three messages, and one with one.
fn looks(folder: &Folder) {
    let (code, out, err) = run(folder, &["parked", "list", "p", "--json"], "");
    let listed = json(&out);
    assert_eq!((code, listed["waiting"].as_u64(), listed["more"].as_bool()), (0, Some(4), Some(false)), "{out}{err}");
    let keys = listed["keys"].as_array().unwrap();
    let bad = keys.iter().find(|lane| lane["key"] == "bad").unwrap();
    assert_eq!((keys.len(), bad["waiting"].as_u64(), bad["attempts"].as_u64()), (2, Some(3), Some(1)), "{out}");
    // Where its first message was read, as `parked retry` takes it.
    assert_eq!((bad["topic"].as_str(), bad["offset"].as_i64()), (Some("in"), Some(0)), "{out}");
    assert_eq!(bad["partition"].as_i64(), Some(partition_of(b"bad", PARTITIONS).into()));
    let code_of = bad["code"].as_str().unwrap().to_owned();
    assert!(bad["due_ms"].as_i64() > bad["since_ms"].as_i64() && !code_of.is_empty(), "{out}");
    let (code, out, err) = run(folder, &["parked", "list", "p"], "");
    assert!(code == 0 && out.lines().count() == 3 && err == "keyrail: 4 messages of 2 keys wait\n", "{out}{err}");
    for (args, lines) in [
        (["--key", "bad"], 2),
        (["--code", code_of.as_str()], 3),
        (["--code", "another"], 1),
        (["--older", "1h"], 1),
        (["--limit", "1"], 2),
    ] {
        let (_, out, err) = run(folder, &[&["parked", "list", "p"], &args[..]].concat(), "");
        assert_eq!(out.lines().count(), lines, "{args:?} {out}{err}");
    }
    let (code, out, err) = run(folder, &["parked", "show", "p", "bad", "--json"], "");
    let values: Vec<String> = out.lines().map(|line| json(line)["value"].as_str().unwrap().to_owned()).collect();
    assert_eq!((code, values), (0, vec!["fail 2 a".to_owned(), "b".to_owned(), "c".to_owned()]), "{err}");
    let (_, out, err) = run(folder, &["parked", "show", "p", "bad", "--limit", "1", "--decode", "hex"], "");
    assert!(out.contains("  value     00000000  66 61 69 6c") && err.contains("2 messages more wait"), "{out}{err}");
    let (code, _, err) = run(folder, &["parked", "show", "p", "good"], "");
    assert_eq!((code, err.as_str()), (1, "keyrail: nothing waits there\n"));
    let (code, out, err) = run(folder, &["lag", "--json"], "");
    let lag = json(&out);
    assert_eq!((code, lag["pipelines"][0]["parked"].as_u64()), (0, Some(4)), "{out}{err}");
    let of = |partition: i32| &lag["pipelines"][0]["partitions"][partition as usize];
    assert!(of(partition_of(b"bad", PARTITIONS))["parked"].as_u64() >= Some(3), "{out}");
    assert!(lag["pipelines"][0]["parked_seconds"].as_f64().is_some_and(|age| age < 60.0), "{out}");
}

#[test]
fn what_waits_is_listed_and_shown_beside_the_process_and_at_rest() {
    let test = "what_waits_is_listed_and_shown_beside_the_process_and_at_rest";
    let Some(mut counting) = Counting::new_with(test, LONG) else { return };
    let (code, out, err) = run(&counting.play.folder, &["parked", "list", "p", "--json"], "");
    assert!(code == 0 && out.contains("\"waiting\":0,"), "nothing was ever parked: {out}{err}");
    let mut child = counting.play.start();
    let mut client = beside(&counting.play.folder, &child);
    let pairs = [("bad", "fail 2 a"), ("bad", "b"), ("good", "x"), ("bad", "c"), ("other", "fail 1 y")];
    let pairs = pairs.map(|(key, value)| (key.to_owned(), value.to_owned()));
    counting.send(client.as_mut(), &pairs);
    let until = Instant::now() + LIMIT;
    let there = |client: &mut dyn keyrail::broker::client::Client| {
        client.topics().unwrap().iter().any(|topic| topic.name == TOPIC) && all(client, TOPIC, PARTITIONS).len() >= 4
    };
    while !there(client.as_mut()) || counting.play.uncommitted(client.as_mut()) > 0 {
        assert!(Instant::now() < until, "it is not parked");
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(client);
    looks(&counting.play.folder);
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    looks(&counting.play.folder);

    // What somebody else wrote there is told, and what can't be read any more as well.
    let folder = &counting.play.folder;
    let mut client = counting.play.client();
    let waiting = all(client.as_mut(), TOPIC, PARTITIONS).into_iter().find(|r| r.value().is_some()).unwrap();
    let (partition, key) = (Some(waiting.at.partition), waiting.key());
    let record =
        |key, value| Produce { topic: TOPIC, partition, key, value: Some(value), headers: &[], timestamp_ms: None };
    crate::support::send(client.as_mut(), &[record(Some(b"mine"), b"x"), record(key, &waiting.value().unwrap()[..20])]);
    drop(client);
    let (code, out, err) = run(folder, &["parked", "list", "p", "--json"], "");
    let listed = json(&out);
    assert_eq!((code, listed["waiting"].as_u64(), listed["unreadable"].as_u64()), (1, Some(3), Some(1)), "{out}{err}");
    assert!(err.contains("it is none of this pipeline's messages: passed over"), "{err}");
    assert!(err.contains("can't be read: its length is wrong"), "{err}");
}
