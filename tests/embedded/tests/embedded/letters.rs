//! Dead letters, listed, shown and sent back, on a folder at rest and beside the process that holds it.

use crate::commands::{command, run, stage};
use crate::support::{Folder, all, at, text};
use keyrail::broker::OffsetCommit;
use keyrail::broker::client::Client;
use keyrail::broker::embedded::{self, Embedded};
use keyrail::record::Record;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

const LETTERS: &str = "copy.orders.dlq";
const LIMIT: Duration = Duration::from_secs(60);

/// A letter of the pipeline `copy`, as `keyrail send` takes it.
fn letter(n: usize, code: &str, more: &str) -> String {
    format!(
        r#"{{"key":"k{}","value":"{n}","headers":{{"mine":["a",null],"keyrail-topic":"orders","keyrail-partition":"{}","keyrail-offset":"{n}","keyrail-timestamp":"1","keyrail-reason":"rejected","keyrail-group":"copy","keyrail-handler":"copy@0123456789abcdef","keyrail-attempts":"1","keyrail-first-failed":"2","keyrail-code":"{code}","keyrail-detail":"w\u001b"{more}}}}}"#,
        n % 7,
        n % 3,
    ) + "\n"
}

/// A folder with its topics, and these letters.
fn with(letters: &str) -> Folder {
    let folder = stage();
    let (code, _, err) = run(&folder, &["topics", "--create"], "");
    assert_eq!(code, 0, "{err}");
    send(&folder, letters);
    folder
}

fn send(folder: &Folder, letters: &str) {
    let (code, _, err) = run(folder, &["send", LETTERS], letters);
    assert_eq!(code, 0, "{err}");
}

fn client(folder: &Folder) -> Box<dyn Client> {
    embedded::client(&folder.options()).unwrap()
}

/// Values in a topic, by partition in order.
fn values(folder: &Folder, topic: &str) -> BTreeMap<i32, Vec<usize>> {
    let mut found: BTreeMap<i32, Vec<usize>> = BTreeMap::new();
    for record in all(client(folder).as_mut(), topic, 3) {
        found.entry(record.at.partition).or_default().push(text(record.value()).parse().unwrap());
    }
    found
}

fn sorted(found: &BTreeMap<i32, Vec<usize>>) -> Vec<usize> {
    let mut all: Vec<usize> = found.values().flatten().copied().collect();
    all.sort_unstable();
    all
}

fn headers(record: &Record) -> Vec<(String, Option<String>)> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    record.headers().map(|(name, value)| (text(name), value.map(text))).collect()
}

fn json(out: &str) -> serde_json::Value {
    serde_json::from_str(out).unwrap_or_else(|why| panic!("{why}: {out}"))
}

/// Lists, shows, sends back some, then the rest; `n` letters of two codes are there, none sent back yet.
fn all_of_it(folder: &Folder, n: usize) {
    let (code, out, err) = run(folder, &["dlq", "list", "copy"], "");
    assert!(code == 0 && out.contains("rejected  late  copy@0123456789ab  orders"), "{out}{err}");
    assert_eq!(err, format!("keyrail: {n} letters of 2 causes\n"));
    let (_, out, _) = run(folder, &["dlq", "list", "copy", "--json", "--code", "late"], "");
    let listed = json(&out);
    assert_eq!((listed["count"].as_u64(), listed["redriven"].as_u64()), (Some(n as u64 / 2), Some(0)), "{out}");
    let (_, out, err) = run(folder, &["dlq", "list", "copy", "--each", "--limit", "3"], "");
    assert!(out.lines().count() == 3 && err.contains("more than these 3 letters"), "{out}{err}");
    let (_, out, _) = run(folder, &["dlq", "show", "copy", "--json", "--key", "k1", "--limit", "1"], "");
    let shown = json(&out);
    assert_eq!((shown["key"].as_str(), shown["origin"]["topic"].as_str()), (Some("k1"), Some("orders")), "{out}");
    assert!(shown["cause"]["attempts"] == 1 && shown["headers"]["mine"] == serde_json::json!(["a", null]), "{out}");
    let (_, out, _) = run(folder, &["dlq", "show", "copy", "--limit", "1", "--decode", "hex"], "");
    assert!(out.contains("detail    w\\u{1b}") && out.contains("  value     00000000  "), "{out}");

    let (code, out, err) = run(folder, &["dlq", "redrive", "copy", "--code", "late"], "");
    assert!(code == 2 && out.is_empty() && err.contains("say --yes, or --dry-run"), "{err}");
    let (code, out, err) = run(folder, &["dlq", "redrive", "copy", "--code", "late", "--dry-run"], "");
    assert!(code == 0 && out.contains("late") && err.ends_with("nothing was sent back: --dry-run\n"), "{out}{err}");
    assert!(values(folder, "orders").is_empty());
    let some = ["dlq", "redrive", "copy", "--code", "late", "--yes", "--json"];
    let (code, out, err) = run(folder, &some, "");
    let done = json(&out);
    assert_eq!((code, done["redriven"].as_u64(), done["ok"].as_bool()), (0, Some(n as u64 / 2), Some(true)), "{err}");
    assert!(err.contains("keyrail: audit: {\"action\":\"redrive\",\"by\":\""), "{err}");
    assert_eq!(sorted(&values(folder, "orders")), (0..n).filter(|n| n % 2 == 0).collect::<Vec<_>>());
    let (code, _, err) = run(folder, &["dlq", "redrive", "copy", "--code", "late", "--yes"], "");
    assert_eq!((code, err.as_str()), (0, "keyrail: there is no such letter to send back\n"));
    let (_, _, err) = run(folder, &["dlq", "list", "copy"], "");
    assert_eq!(err, format!("keyrail: {} letters of 1 cause\n", n / 2));
    let (_, _, err) = run(folder, &["dlq", "list", "copy", "--all"], "");
    assert_eq!(err, format!("keyrail: {n} letters of 2 causes, {} of them sent back\n", n / 2));
    let (code, _, err) = run(folder, &["dlq", "redrive", "copy", "--yes"], "");
    assert!(code == 0 && err.contains(&format!("sent {} letters back", n / 2)), "{err}");
    let there = values(folder, "orders");
    assert_eq!(sorted(&there), (0..n).collect::<Vec<_>>());
    // Each where it was read, and of one choice in the order of the letters.
    assert!(there.iter().all(|(partition, all)| all.iter().all(|n| (n % 3) as i32 == *partition)), "{there:?}");
}

#[test]
fn letters_are_listed_shown_and_sent_back_once_at_rest_and_beside_the_process() {
    let letters: String = (0..40).map(|n| letter(n, if n % 2 == 0 { "late" } else { "bad" }, "")).collect();
    let folder = with(&letters);
    all_of_it(&folder, 40);
    let record = all(client(&folder).as_mut(), "orders", 3).remove(0);
    let kept = [
        ("mine", Some("a")),
        ("mine", None),
        ("keyrail-topic", Some("orders")),
        ("keyrail-partition", Some("0")),
        ("keyrail-offset", Some(text(record.value()))),
        ("keyrail-timestamp", Some("1")),
        ("keyrail-redrives", Some("1")),
    ];
    let kept = kept.map(|(name, value)| (name.to_owned(), value.map(str::to_owned)));
    assert_eq!(headers(&record), kept);
    assert!(record.timestamp_ms > 1_000_000_000_000, "the time of now, or retention would take it");
    let folder = with(&letters);
    let held = Embedded::open(&folder.options()).unwrap();
    all_of_it(&folder, 40);
    drop(held);
}

#[test]
fn a_redrive_that_is_killed_loses_nothing_and_sends_nothing_twice() {
    const COUNT: usize = 3_000;
    let letters: String = (0..COUNT).map(|n| letter(n, if n % 3 == 0 { "late" } else { "bad" }, "")).collect();
    for held in [false, true] {
        let folder = with(&letters);
        let holder = held.then(|| Embedded::open(&folder.options()).unwrap());
        let (mut cut_short, mut before) = (0, 0);
        let filters = [&["--code", "late"][..], &["--key", "k1"], &[]];
        for round in 0..12 {
            let mut args = vec!["dlq", "redrive", "copy", "--yes", "--rate", "4000"];
            args.extend(filters[round % 3]);
            let mut child = command(&folder, &args).spawn().unwrap();
            std::thread::sleep(Duration::from_millis(150 + 90 * round as u64 % 400));
            child.kill().unwrap();
            child.wait().unwrap();
            let sent = sorted(&values(&folder, "orders"));
            cut_short += usize::from(sent.len() > before && sent.len() < COUNT);
            before = sent.len();
        }
        assert!(cut_short > 0, "no kill came in between: nothing was tested");
        let (code, _, err) = run(&folder, &["dlq", "redrive", "copy", "--yes"], "");
        assert_eq!(code, 0, "{err}");
        let there = values(&folder, "orders");
        assert_eq!(sorted(&there), (0..COUNT).collect::<Vec<_>>(), "held: {held}");
        drop(holder);
    }
}

#[test]
fn of_two_redrives_at_once_the_later_goes_on_and_the_earlier_says_so() {
    const COUNT: usize = 2_000;
    let letters: String = (0..COUNT).map(|n| letter(n, "late", "")).collect();
    let folder = with(&letters);
    let held = Embedded::open(&folder.options()).unwrap();
    let mut slow = command(&folder, &["dlq", "redrive", "copy", "--yes", "--rate", "500"]).spawn().unwrap();
    let until = Instant::now() + LIMIT;
    while values(&folder, "orders").is_empty() {
        assert!(Instant::now() < until, "it does not begin");
        std::thread::sleep(Duration::from_millis(20));
    }
    let (code, _, err) = run(&folder, &["dlq", "redrive", "copy", "--yes"], "");
    assert_eq!(code, 0, "{err}");
    let status = crate::support::ended(&mut slow, LIMIT, &"the slow one");
    let told = slow.wait_with_output().unwrap();
    assert_eq!(status.code(), Some(3), "{}", String::from_utf8_lossy(&told.stderr));
    assert!(String::from_utf8_lossy(&told.stderr).contains("somebody else goes on with them"));
    assert_eq!(sorted(&values(&folder, "orders")), (0..COUNT).collect::<Vec<_>>());
    drop(held);
}

#[test]
fn letters_that_come_back_too_often_stay_and_their_first_origin_is_kept() {
    let often = letter(0, "late", r#","keyrail-redrives":"5""#) + &letter(1, "late", r#","keyrail-redrives":"4""#);
    let folder = with(&often);
    let (code, _, err) = run(&folder, &["dlq", "redrive", "copy", "--yes"], "");
    assert!(code == 1 && err.contains("1 letter stay: sent back 5 times or more already"), "{err}");
    assert_eq!(sorted(&values(&folder, "orders")), [1]);
    let (code, _, err) = run(&folder, &["dlq", "redrive", "copy", "--yes", "--max-redrives", "9"], "");
    assert_eq!(code, 0, "{err}");
    assert_eq!(sorted(&values(&folder, "orders")), [0, 1]);
    let all = all(client(&folder).as_mut(), "orders", 3);
    let told: Vec<_> = all.iter().map(|r| text(r.header(b"keyrail-redrives").flatten()).to_owned()).collect();
    assert_eq!(told, ["6", "5"]);
}

#[test]
fn what_may_not_be_sent_there_is_refused() {
    let folder = with(&letter(0, "late", ""));
    let refused = |args: &[&str], code: i32, why: &str| {
        let (got, _, err) = run(&folder, &[&["dlq", "redrive"], args].concat(), "");
        assert!(got == code && err.contains(why), "{args:?}: {got} {err}");
        assert!(values(&folder, "orders").is_empty());
    };
    refused(&["copy", "--yes", "--to", "ordres"], 1, "there is no topic \"ordres\" at ");
    refused(&["copy", "--yes", "--to", "ordres"], 1, "did you mean \"orders\"?");
    refused(&["copy", "--yes", "--to", LETTERS], 1, "is a topic of dead letters itself");
    refused(&["copy", "--yes", "--to", "other.orders.retry"], 1, "is internal to Kafka or to a pipeline");
    refused(&["copy", "--yes", "--to", "__consumer_offsets"], 1, "is internal to Kafka or to a pipeline");
    refused(&["copy", "--yes", "--lane", "--to", "orders"], 2, "cannot be used with");
    refused(&["--topic", LETTERS, "--yes", "--lane"], 2, "--lane is of a pipeline");
    refused(&["coppy", "--yes"], 2, "did you mean \"copy\"?");
    refused(&["--yes"], 2, "<PIPELINE>");
    refused(&["copy", "--yes", "--offset", "1"], 2, "--partition");
    // Letters that don't say where they come from, in a topic of nobody here.
    let (code, _, err) = run(&folder, &["send", "done"], "{\"key\":\"a\",\"value\":\"7\"}\n");
    assert_eq!(code, 0, "{err}");
    refused(
        &["--topic", "done", "--yes"],
        1,
        "1 letter don't say which topic they come from: name one with --to TOPIC",
    );
    // A topic of the letters' own that is not there any more.
    let gone = letter(1, "x", "").replace("\"keyrail-topic\":\"orders\"", "\"keyrail-topic\":\"order\"");
    let (code, _, err) = run(&folder, &["send", "done"], &gone);
    assert_eq!(code, 0, "{err}");
    refused(&["--topic", "done", "--origin", "order", "--yes"], 1, "did you mean \"orders\"?");
    let (code, _, err) = run(&folder, &["dlq", "redrive", "--topic", "done", "--to", "orders", "--yes"], "");
    assert!(code == 0 && err.contains("sent 2 letters back"), "{err}");
    assert_eq!(sorted(&values(&folder, "orders")), [1, 7]);
}

#[test]
fn what_the_pipeline_would_take_for_duplicates_is_not_sent_to_it() {
    let folder = with(&letter(0, "late", ""));
    let manifest = folder.path().join("plugins/copy.toml");
    let plain = fs::read_to_string(&manifest).unwrap();
    let redrive = |dedup: &str, args: &[&str]| {
        fs::write(&manifest, format!("{plain}\n[dedup]\n{dedup}\n")).unwrap();
        run(&folder, &[&["dlq", "redrive", "copy", "--yes"], args].concat(), "")
    };
    let (code, _, err) = redrive("id = \"key\"\nwindow = \"2h\"", &[]);
    assert!(
        code == 1 && err.contains("copy has seen the ids of 1 letter, so it would take them for duplicates"),
        "{err}"
    );
    assert!(err.contains("remembers each for 120 minutes") && values(&folder, "orders").is_empty(), "{err}");
    // Whoever reads another topic has not seen it.
    let (code, _, err) = redrive("id = \"key\"", &["--to", "done"]);
    assert!(code == 0 && sorted(&values(&folder, "done")) == [0], "{err}");
    // The last header of that name is null: it has no id. And a digest is of what is sent now.
    for (n, id) in [(1, "header:mine"), (3, "digest")] {
        send(&folder, &letter(n, "late", ""));
        let (code, _, err) = redrive(&format!("id = \"{id}\""), &[]);
        assert!(code == 0 && sorted(&values(&folder, "orders")).contains(&n), "{err}");
    }
}

#[test]
fn a_position_that_somebody_else_wrote_refuses_a_redrive_and_not_a_look() {
    let folder = with(&letter(0, "late", ""));
    let group = format!("{LETTERS}.redrive");
    let partition = all(client(&folder).as_mut(), LETTERS, 3).remove(0).at.partition;
    let offset = OffsetCommit { at: at(0, partition), offset: 1, metadata: "mine".to_owned() };
    client(&folder).commit(&group, &[LETTERS.to_owned()], &[offset]).unwrap();
    let (code, _, err) = run(&folder, &["dlq", "redrive", "copy", "--yes"], "");
    assert!(code == 1 && err.contains("is not Keyrail's, or a later version's"), "{err}");
    assert!(values(&folder, "orders").is_empty());
    let (code, _, err) = run(&folder, &["dlq", "list", "copy"], "");
    assert!(code == 0 && err.contains("shown as the others") && err.contains("1 letter of 1 cause"), "{err}");
    // An offset alone is somebody's word that all before it is done.
    let offset = OffsetCommit { at: at(0, partition), offset: 1, metadata: String::new() };
    client(&folder).commit(&group, &[LETTERS.to_owned()], &[offset]).unwrap();
    let (code, _, err) = run(&folder, &["dlq", "redrive", "copy", "--yes"], "");
    assert_eq!((code, err.as_str()), (0, "keyrail: there is no such letter to send back\n"));
}

#[test]
fn choices_are_remembered_as_long_as_there_is_room_and_then_refused() {
    let letters: String = (0..3).map(|n| letter(n, "late", "")).collect();
    let folder = with(&letters);
    let long = "x".repeat(3_900);
    let (code, _, err) = run(&folder, &["dlq", "redrive", "copy", "--yes", "--key", &long], "");
    assert!(code == 1 && err.contains("there is no room to remember more choices of copy.orders.dlq/"), "{err}");
    let (code, _, err) = run(&folder, &["dlq", "redrive", "copy", "--yes", "--key", "k1"], "");
    assert_eq!(code, 0, "{err}");
    assert_eq!(sorted(&values(&folder, "orders")), [1]);
}

#[test]
fn a_person_is_shown_the_count_and_asked() {
    let test = "a_person_is_shown_the_count_and_asked";
    let folder = with(&(letter(0, "late", "") + &letter(1, "bad", "")));
    let typed = |answer: &str| {
        let line = format!("{} dlq redrive copy --rate 100", crate::commands::binary().display());
        let mut script = std::process::Command::new("script");
        script.args(["-qec", &line, "/dev/null"]).current_dir(folder.path());
        let Ok(mut child) = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn() else {
            crate::support::skip(test, "no terminal without script(1)");
            return None;
        };
        child.stdin.take().unwrap().write_all(answer.as_bytes()).unwrap();
        let done = child.wait_with_output().unwrap();
        Some((done.status.code(), String::from_utf8(done.stdout).unwrap()))
    };
    for answer in ["n\n", "\n", "yesterday\n"] {
        let Some((code, shown)) = typed(answer) else { return };
        assert!(code == Some(0) && shown.contains("Send 2 letters back? [y/N] "), "{shown}");
        assert!(shown.contains("late") && shown.contains("nothing was sent back"), "{shown}");
        assert!(values(&folder, "orders").is_empty());
    }
    let Some((code, shown)) = typed("y\n") else { return };
    assert!(code == Some(0) && shown.contains("sent 2 letters back"), "{shown}");
    assert_eq!(sorted(&values(&folder, "orders")), [0, 1]);
}
