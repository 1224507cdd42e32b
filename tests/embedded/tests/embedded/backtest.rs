//! A version of a handler runs over what the inputs still hold, side by side with another, and leaves no trace.
//!
//! `tally` and `tally-c` do the same but for two words: on `crash` the one in C traps, and on `briefly` only the other one lets its
//! state end.

use crate::commands::{binary, run as command};
use crate::play::{Play, now_ms};
use crate::run::{PARTITIONS, beside, guests, options, written};
use crate::support::{Folder, at, produce, send, topic};
use keyrail::broker::Produce;
use keyrail::broker::client::Client;
use keyrail::broker::embedded::Embedded;
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(60);
/// By both differently: `b`, `d` and, as to its state, `e`.
const MIXED: [(&str, &str); 9] = [
    ("a", "x"),
    ("b", "x"),
    ("a", "fail 1 y"),
    ("b", "crash"),
    ("c", "fail 9 z"),
    ("b", "y"),
    ("d", "crash"),
    ("e", "briefly"),
    ("a", "forget"),
];

fn backtest(folder: &Folder, args: &[&str]) -> (i32, String, String) {
    command(folder, &[&["backtest"], args].concat(), "")
}

/// The file of a handler.
fn file(guest: &str) -> String {
    let guests = PathBuf::from(std::env::var_os("KEYRAIL_GUESTS").unwrap());
    guests.join(format!("{guest}.wasm")).display().to_string()
}

fn messages(all: &[(&str, &str)]) -> Vec<(String, String)> {
    all.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// All that a run of anything would change.
#[derive(Debug, PartialEq)]
struct Trace {
    ends: Vec<(String, u64)>,
    groups: Vec<String>,
    committed: Vec<Option<i64>>,
}

fn trace(client: &mut dyn Client) -> Trace {
    let names: Vec<String> = client.topics().unwrap().into_iter().map(|topic| topic.name).collect();
    let ends = names.iter().map(|name| (name.clone(), written(client, name))).collect();
    let places: Vec<_> = (0..PARTITIONS).map(|n| at(0, n)).collect();
    let committed = client.committed("p", &["in".to_owned()], &places).unwrap();
    Trace { ends, groups: client.groups().unwrap(), committed: committed.iter().map(|c| c.offset).collect() }
}

fn json_of(out: &str) -> Value {
    serde_json::from_str(out).unwrap_or_else(|why| panic!("{why}: {out}"))
}

/// `WHAT TIMES` of each difference in the table.
fn table(out: &str) -> Vec<String> {
    let mut lines = out.lines().skip_while(|line| !line.starts_with("WHAT DIFFERS")).skip(1);
    let row = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut rows: Vec<String> = lines.by_ref().take_while(|line| !line.is_empty()).map(row).collect();
    rows.sort();
    rows
}

#[test]
fn the_same_version_differs_in_nothing_and_leaves_no_trace() {
    let test = "the_same_version_differs_in_nothing_and_leaves_no_trace";
    let retry = "retry = { attempts = 2, backoff = { first = \"5ms\", max = \"5ms\" } }\n";
    let Some(mut play) = Play::of(test, "fickle", retry) else { return };
    let kinds = ["done", "retry", "dead", "panic", "lucky", "wait", "outage", "skip"];
    let all: Vec<_> = (0..400).map(|n| (format!("k{}", n % 23), format!("{} {n}", kinds[n % kinds.len()]))).collect();
    let child = play.start();
    let mut client = beside(&play.folder, &child);
    // An outage would be retried for ever.
    let handled: Vec<_> = all.iter().filter(|(_, value)| !value.starts_with("outage")).cloned().collect();
    play.send_plain(client.as_mut(), &handled);
    let until = Instant::now() + LIMIT;
    while play.uncommitted(client.as_mut()) > 0 {
        assert!(Instant::now() < until, "{} messages are not committed", play.uncommitted(client.as_mut()));
        std::thread::sleep(Duration::from_millis(10));
    }
    let before = trace(client.as_mut());
    let fickle = file("fickle");
    let (code, out, err) = backtest(&play.folder, &[&fickle, "--compare-state"]);
    assert_eq!(code, 0, "{out}{err}");
    assert!(err.starts_with("keyrail: 350 messages: nothing differs; both are the same file, "), "{err}");
    assert!(out.contains("\n  the same      350\n  different     0\n"), "{out}");
    assert!(out.contains("\n  note          state began empty; each message ran once"), "{out}");
    assert_eq!(trace(client.as_mut()), before, "nothing is sent, and nothing is committed");
    drop(client);
    play.settle(child);
    // At rest as well, with what nobody has run yet.
    play.send_plain(play.client().as_mut(), &all);
    let before = trace(play.client().as_mut());
    let (code, out, err) = backtest(&play.folder, &[&fickle, "--compare-state", "--json"]);
    assert_eq!(code, 0, "{out}{err}");
    let told = json_of(&out);
    assert_eq!(told["messages"], json!({"ran": 750, "same": 750, "differing": 0, "not_comparable": 0}));
    assert_eq!((told["complete"].as_bool(), told["differences"].as_array().map(Vec::len)), (Some(true), Some(0)));
    assert!(told["old"]["call_us"].as_f64() > Some(0.0) && told["old"]["sha256"] == told["new"]["sha256"]);
    assert_eq!(trace(play.client().as_mut()), before);
}

#[test]
fn what_another_version_does_otherwise_is_told_by_key() {
    let test = "what_another_version_does_otherwise_is_told_by_key";
    let Some(mut play) = Play::of(test, "tally", "") else { return };
    play.send_plain(play.client().as_mut(), &messages(&MIXED));
    let new = file("tally-c");
    let (code, out, err) = backtest(&play.folder, &[&new]);
    assert_eq!((code, err.as_str()), (1, "keyrail: 9 messages: 3 differ\n"), "{out}");
    assert!(out.contains("\n  messages      9, 20") && out.contains("\n  the same      6\n"), "{out}");
    assert!(out.contains("\n  different     3 of 2 keys\n"), "{out}");
    assert_eq!(table(&out), ["done -> trap 2", "done, other sends 1"]);
    let (b, d) = (out.find("\nb  2 differ, first in/").unwrap(), out.find("\nd  1 differs, in/").unwrap());
    let block = out.get(b..).unwrap();
    assert!(block.contains("\n  - done\n  - send out key b value 2 crash\n  - state count = 2\n  + trap: "), "{out}");
    assert!(out.get(d..).unwrap().contains("\n  - send out key d value 1 crash\n"), "{out}");
    // What does not differ is not shown.
    assert!(!out.contains("\na  ") && !out.contains("\nc  ") && !out.contains("\ne  "), "{out}");
    let (code, out, _) = backtest(&play.folder, &[&new, "--compare-state", "--limit-keys", "1"]);
    assert_eq!(code, 1);
    assert_eq!(table(&out), ["done -> trap 2", "done, other sends and state 1", "done, other state 1"]);
    assert!(out.contains("\nand 2 keys more: --limit-keys shows them\n"), "{out}");
    // For programs, the other way round, and only some of it.
    let old = file("tally");
    let args = [old.as_str(), "--against", &new, "--json", "--key", "b"];
    let (code, out, err) = backtest(&play.folder, &args);
    assert_eq!((code, err.as_str()), (1, "keyrail: 3 messages: 2 differ\n"));
    let told = json_of(&out);
    let trap = json!({
        "timer": false, "old": {"outcome": "trap", "code": ""}, "new": {"outcome": "done", "code": ""}, "parts": [], "count": 1,
    });
    let differences = told["differences"].as_array().unwrap();
    assert!(differences.len() == 2 && differences.contains(&trap), "{out}");
    let key = &told["keys"][0];
    assert_eq!((key["key"].as_str(), key["differing"].as_u64()), (Some("b"), Some(2)));
    assert_eq!(key["first"]["new"]["sends"][0], json!({"to": "out", "key": "b", "value": "2 crash"}));
    assert_eq!(key["first"]["old"]["outcome"], "trap");
    assert_eq!((told["pipeline"].as_str(), told["new"]["file"].as_str()), (Some("p"), Some(old.as_str())));
}

#[test]
fn only_what_is_asked_for_runs_and_each_key_in_its_order() {
    let test = "only_what_is_asked_for_runs_and_each_key_in_its_order";
    let Some(play) = Play::of(test, "tally", "") else { return };
    let (now, hour) = (now_ms(), 3_600_000);
    let at =
        |value: &'static str, ago_ms: i64| Produce { timestamp_ms: Some(now - ago_ms), ..produce("in", "k", value) };
    let all = [at("one", 30 * hour), at("two", 10 * hour), at("crash", 5 * hour), at("three", hour)];
    send(play.client().as_mut(), &all);
    let new = file("tally-c");
    let told = |args: &[&str]| backtest(&play.folder, &[&[new.as_str()], args].concat());
    let (code, out, err) = told(&[]);
    assert_eq!((code, err.as_str()), (1, "keyrail: 3 messages: 2 differ\n"), "a day, unless it is said: {out}");
    assert!(out.contains("  - send out key k value 2 crash\n"), "state begins empty: {out}");
    assert_eq!(told(&["--since", "earliest"]).2, "keyrail: 4 messages: 2 differ\n");
    let (code, _, err) = told(&["--since", "earliest", "--until", "6h"]);
    assert_eq!((code, err.as_str()), (0, "keyrail: 2 messages: nothing differs\n"));
    assert_eq!(told(&["--since", "-3", "--limit", "1"]).2, "keyrail: 1 message: nothing differs\n");
    assert_eq!(told(&["--since", "2h"]).2, "keyrail: 1 message: nothing differs\n");
    // A handler sees the time of the message.
    std::fs::copy(file("fickle"), play.folder.path().join("plugins/p.wasm")).unwrap();
    let (_, out, _) = backtest(&play.folder, &[&file("identity"), "--since", "2h", "--json"]);
    let first = &json_of(&out)["keys"][0]["first"];
    let sent = first["old"]["sends"][0]["value"].as_str().unwrap();
    assert!(sent.contains(&format!(" {} ", now - hour)), "{sent}");
}

#[test]
fn both_begin_with_the_state_of_now_where_that_is_asked_for() {
    let test = "both_begin_with_the_state_of_now_where_that_is_asked_for";
    let Some(mut play) = Play::of(test, "tally", "") else { return };
    let child = play.start();
    play.send_plain(beside(&play.folder, &child).as_mut(), &messages(&[("a", "x"), ("a", "y"), ("b", "x")]));
    play.settle(child);
    play.send_plain(play.client().as_mut(), &messages(&[("a", "crash"), ("b", "crash")]));
    let new = file("tally-c");
    let (code, out, err) = backtest(&play.folder, &[&new, "--state"]);
    assert_eq!((code, err.as_str()), (1, "keyrail: 5 messages: 2 differ\n"), "{out}");
    assert!(out.contains("  - send out key a value 5 crash\n"), "{out}");
    assert!(out.contains("  - send out key b value 3 crash\n"), "{out}");
    assert!(out.contains("\n  note          state began as it is now, and its changes are not compared;"), "{out}");
    let (_, out, _) = backtest(&play.folder, &[&new]);
    assert!(out.contains("  - send out key a value 3 crash\n"), "{out}");
    let (code, _, err) = backtest(&play.folder, &[&file("identity"), "--against", &file("identity"), "--state"]);
    assert!(code == 2 && err.contains("--state: neither version of p keeps state"), "{err}");
}

#[test]
fn timers_run_when_the_messages_times_have_passed_them() {
    let test = "timers_run_when_the_messages_times_have_passed_them";
    let Some(play) = Play::of(test, "alarm", "") else { return };
    let base = now_ms() - 3_600_000;
    let at = |key: &'static str, value: &str, ms: i64| (key, value.to_owned(), base + ms);
    let all = [
        at("k", &format!("set t {} word", base + 1_000), 0),
        at("k", "again u 100 20", 10),
        at("k", &format!("set late {} word", base + 900_000), 20),
        at("k", "last", 1_500),
    ];
    let record = |(key, value, ms)| Produce { timestamp_ms: Some(ms), ..produce("in", key, value) };
    send(play.client().as_mut(), &all.iter().map(|(key, value, ms)| record((key, value, *ms))).collect::<Vec<_>>());
    let alarm = file("alarm");
    let (code, out, err) = backtest(&play.folder, &[&alarm]);
    assert_eq!(code, 0, "{out}{err}");
    // One at 1,000 ms, and from 110 to 1,410 ms one every 100 ms; nobody has reached the late one.
    assert!(out.contains("\n  timers        15 ran, 0 different\n"), "{out}");
    // A version that sets none has none.
    let (code, out, err) = backtest(&play.folder, &[&file("identity"), "--json"]);
    assert_eq!((code, err.as_str()), (1, "keyrail: 4 messages: 19 runs differ\n"), "{out}");
    let told = json_of(&out);
    assert_eq!(told["timers"], json!({"ran": 15, "same": 0, "differing": 15, "not_comparable": 0}));
    let gone = json!({
        "timer": true, "old": {"outcome": "done", "code": ""}, "new": {"outcome": "none", "code": ""}, "parts": [], "count": 15,
    });
    assert!(told["differences"].as_array().unwrap().contains(&gone), "{out}");
}

#[test]
fn requests_are_not_sent_and_what_makes_them_is_not_compared() {
    let test = "requests_are_not_sent_and_what_makes_them_is_not_compared";
    let Some(_) = guests(test) else { return };
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    server.set_nonblocking(true).unwrap();
    let address = server.local_addr().unwrap();
    let grant = format!("\n[capabilities]\nhttp = [\"{address}\"]\n");
    let Some(mut play) = Play::of(test, "caller", &grant) else { return };
    play.send_plain(play.client().as_mut(), &[("k".to_owned(), format!("GET http://{address}/x"))]);
    let caller = file("caller");
    let (code, out, err) = backtest(&play.folder, &[&caller]);
    assert_eq!(code, 1, "{out}{err}");
    assert!(err.starts_with("keyrail: 1 message: nothing was compared"), "{err}");
    assert!(out.contains("\n  not compared  1: they make HTTP requests, which are not sent\n"), "{out}");
    assert!(server.accept().is_err(), "a request was sent");
    // Beside others that make none, those count.
    play.send_plain(play.client().as_mut(), &messages(&[("l", "")]));
    let (code, out, err) = backtest(&play.folder, &[&caller]);
    assert!(code == 0 && out.contains("\n  the same      1\n") && err.contains("nothing differs"), "{out}{err}");
}

#[test]
fn what_can_not_be_run_is_told_with_its_cure() {
    let test = "what_can_not_be_run_is_told_with_its_cure";
    let Some(play) = Play::of(test, "tally", "") else { return };
    let (folder, tally) = (&play.folder, file("tally"));
    let told = |args: &[&str], code: i32, parts: &[&str]| {
        let (came, out, err) = backtest(folder, args);
        assert!(came == code && parts.iter().all(|part| err.contains(part)), "{args:?}: {came} {out}{err}");
    };
    told(&["new.wasm"], 2, &["new.wasm is not there: name the file of a handler"]);
    told(&["plugins"], 2, &["plugins is a folder, and no handler"]);
    told(&[&tally, "--against", "old.wasm"], 2, &["old.wasm is not there"]);
    std::fs::write(folder.path().join("text.wasm"), "no module").unwrap();
    told(&["text.wasm"], 1, &["text.wasm: ", "is no WebAssembly"]);
    told(&[&tally, "--pipeline", "other"], 2, &["there is no pipeline \"other\"; there is p"]);
    told(&[&tally, "--since", "2999-01-01"], 2, &["--since 2999-01-01T00:00:00Z is still to come"]);
    told(&[&tally, "--since", "1h", "--until", "2h"], 2, &["is not later than --since"]);
    told(&[&tally, "--since", "latest"], 2, &["leaves nothing to run"]);
    told(&[&tally, "--since", "soon"], 2, &["how long ago as 15m"]);
    told(&[&tally, "--limit", "0"], 2, &["--limit"]);
    told(&[&tally], 1, &["in: there is no message in that time, so nothing was compared"]);
    told(&[&tally, "--key", "x"], 1, &["there is no message with the key \"x\" in that time"]);
    // A version that does not open by this manifest.
    told(&[&file("route")], 1, &["route.wasm: ", "the handler refuses to open: [config] by is missing"]);
    let plugins = folder.path().join("plugins");
    std::fs::rename(plugins.join("p.wasm"), plugins.join("gone.wasm")).unwrap();
    told(&[&tally], 1, &["p.wasm: can't be read", "--against FILE compares with another handler"]);
    std::fs::rename(plugins.join("gone.wasm"), plugins.join("p.wasm")).unwrap();
    std::fs::copy(plugins.join("p.toml"), plugins.join("q.toml")).unwrap();
    told(&[&tally], 2, &["there are several pipelines here (p, q): say which, as --pipeline p"]);
    std::fs::remove_file(plugins.join("q.toml")).unwrap();
    std::fs::write(plugins.join("p.toml"), "handler = \"p.wasm\"\ninput = [\"inn\"]\noutput.out = \"out\"\n").unwrap();
    told(&[&tally], 1, &["there is no topic \"inn\" at ", "did you mean \"in\"?"]);
    std::fs::write(plugins.join("p.toml"), "handler = \"p.wasm\"\ninput = [\"^x.*\"]\noutput.out = \"out\"\n").unwrap();
    told(&[&tally], 2, &["no topic at ", " matches the inputs of p"]);
}

#[test]
fn who_ends_it_early_is_told_how_far_it_came() {
    let test = "who_ends_it_early_is_told_how_far_it_came";
    let Some(mut play) = Play::of(test, "fickle", "limits.timeout = \"200ms\"\n") else { return };
    let all: Vec<_> = (0..500).map(|n| (format!("k{n}"), "loop".to_owned())).collect();
    play.send_plain(play.client().as_mut(), &all);
    let mut command = Command::new(binary());
    command.args(["backtest", &file("fickle"), "--json"]).current_dir(play.folder.path());
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // It is busy for minutes, whenever that comes.
    std::thread::sleep(Duration::from_secs(3));
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let done = child.wait_with_output().unwrap();
    let (out, err) = (String::from_utf8(done.stdout).unwrap(), String::from_utf8(done.stderr).unwrap());
    assert_eq!(done.status.code(), Some(1), "{out}{err}");
    assert!(err.contains(", and it was ended before all was through"), "{err}");
    let told = json_of(&out);
    // Each takes both versions 200 ms and more.
    assert!(told["complete"] == false && told["messages"]["ran"].as_u64() < Some(100), "{out}");
}

#[test]
fn inputs_that_share_their_keys_are_run_in_the_order_of_time() {
    let test = "inputs_that_share_their_keys_are_run_in_the_order_of_time";
    let Some(guests) = guests(test) else { return };
    let folder = Folder::new();
    let plugins = folder.path().join("plugins");
    std::fs::create_dir(&plugins).unwrap();
    std::fs::copy(guests.join("tally.wasm"), plugins.join("p.wasm")).unwrap();
    std::fs::write(folder.path().join("keyrail.toml"), "broker = \"embedded\"\nembedded.partitions = 4\n").unwrap();
    let manifest = "handler = \"p.wasm\"\ninput = [\"one\", \"two\"]\noutput.out = \"out\"\norder.scope = \"inputs\"\n";
    std::fs::write(plugins.join("p.toml"), manifest).unwrap();
    let mut client = Embedded::open(&options(&folder)).unwrap().client().unwrap();
    for name in ["one", "two", "out"] {
        topic(client.as_mut(), name, PARTITIONS, &[]);
    }
    let base = now_ms() - 60_000;
    let all =
        [("one", "first", 0), ("one", "third", 20), ("two", "second", 10), ("two", "crash", 30), ("one", "last", 40)];
    let record = |(name, value, ms): &(&'static str, &'static str, i64)| Produce {
        timestamp_ms: Some(base + ms),
        ..produce(name, "k", value)
    };
    send(client.as_mut(), &all.iter().map(record).collect::<Vec<_>>());
    drop(client);
    let (code, out, err) = backtest(&folder, &[&file("tally-c"), "--limit-keys", "9"]);
    assert_eq!((code, err.as_str()), (1, "keyrail: 5 messages: 2 differ\n"), "{out}");
    assert!(out.contains("\nk  2 differ, first two/") && out.contains("  - send out key k value 4 crash\n"), "{out}");
}

/// `keyrail backtest --follow`, beside the pipeline that runs; ended by a signal.
#[test]
fn what_comes_is_compared_in_the_shadow_of_what_runs_and_told_at_once() {
    let test = "what_comes_is_compared_in_the_shadow_of_what_runs_and_told_at_once";
    let Some(mut play) =
        Play::of(test, "tally", "retry = { attempts = 2, backoff = { first = \"5ms\", max = \"5ms\" } }\n")
    else {
        return;
    };
    let child = play.start();
    let mut client = beside(&play.folder, &child);
    // What is there before is none of its business.
    play.send_plain(client.as_mut(), &messages(&[("old", "crash")]));
    let mut command = Command::new(binary());
    command.args(["backtest", &file("tally-c"), "--follow", "--json"]).current_dir(play.folder.path());
    let mut shadow = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut told = BufReader::new(shadow.stderr.take().unwrap()).lines().map(Result::unwrap);
    let first = told.next().unwrap();
    assert!(first.starts_with("keyrail: follows in: Ctrl-C ends it"), "{first}");
    play.send_plain(client.as_mut(), &messages(&MIXED));
    let mut differ: Vec<String> = told.by_ref().take(2).collect();
    differ.sort();
    for (line, key) in differ.iter().zip(["b", "d"]) {
        let start = format!("keyrail: differs: key {key}, in/");
        assert!(line.starts_with(&start) && line.contains(": done -> "), "{line}");
    }
    // A message of its own, so that all before it are through.
    play.send_plain(client.as_mut(), &messages(&[("z", "crash")]));
    let last = told.next().unwrap();
    assert!(last.starts_with("keyrail: differs: key z, "), "{last}");
    let pid = shadow.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let rest: Vec<String> = told.collect();
    let done = shadow.wait_with_output().unwrap();
    let report = json_of(std::str::from_utf8(&done.stdout).unwrap());
    assert_eq!((done.status.code(), &report["complete"]), (Some(1), &json!(true)), "{rest:?}");
    assert_eq!(report["differing_keys"], 3, "{report}");
    let ran = report["messages"]["ran"].as_u64().unwrap();
    assert!(ran > 7 && ran <= MIXED.len() as u64 + 1, "{report}");
    drop(client);
    // The pipeline has done its own work, and knows nothing of that.
    play.settle(child);
    // It ends by itself, too.
    let (code, out, err) = backtest(&play.folder, &["--follow", "--for", "1s", &file("tally")]);
    assert_eq!(code, 1, "nothing was compared: {out}{err}");
    assert!(err.contains("0 messages: nothing was compared"), "{err}");
    let (code, _, err) = backtest(&play.folder, &["--for", "1s", &file("tally")]);
    assert!(code == 2 && err.contains("--follow"), "{err}");
}
