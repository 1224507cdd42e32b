//! Dead letters keep the run that they died of, and it is run again to the letter, offline; with another handler it is shown
//! what that does otherwise, and a fixture holds it to that.
//!
//! The handler `fickle` fails as its messages say, with words that hold all that a run follows from.

use crate::commands::run as command;
use crate::play::Play;
use crate::run::{PARTITIONS, beside, guests, written};
use crate::support::{Folder, produce, text};
use keyrail::broker::Produce;
use keyrail::record::Record;
use keyrail::replay::{HEADER, Kind, Recorded};
use serde_json::Value;
use std::collections::BTreeMap;
use std::process::Child;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(120);
const LETTERS: &str = "p.in.dlq";
const RECORD: &str = "dead-letter.record = true\n";
const RETRY: &str = "retry = { attempts = 3, backoff = { first = \"5ms\", max = \"5ms\" }, in-place = \"2ms\" }\n";

/// Until so many letters are there.
fn wait(play: &Play, child: &Child, letters: u64) {
    let until = Instant::now() + LIMIT;
    let mut client = beside(&play.folder, child);
    while written(client.as_mut(), LETTERS) < letters {
        assert!(Instant::now() < until, "{} letters", written(client.as_mut(), LETTERS));
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn replay(folder: &Folder, args: &[&str]) -> (i32, String, String) {
    command(folder, &[&["replay"], args].concat(), "")
}

fn lines(out: &str) -> Vec<Value> {
    out.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|why| panic!("{why}: {line}"))).collect()
}

fn name(letter: &Record) -> String {
    format!("dlq:{LETTERS}/{}@{}", letter.at.partition, letter.offset)
}

fn recorded(letter: &Record) -> Recorded {
    Recorded::decode(letter.header(HEADER.as_bytes()).flatten().unwrap()).unwrap().0
}

/// Runs a pipeline of `fickle` on these messages until its dead letters are there, and stops it.
fn died(test: &str, tables: &str, messages: &[(String, String)], letters: u64) -> Option<Play> {
    let mut play = Play::of(test, "fickle", &format!("{RECORD}{RETRY}{tables}"))?;
    let child = play.start();
    play.send_plain(beside(&play.folder, &child).as_mut(), messages);
    wait(&play, &child, letters);
    play.settle(child);
    Some(play)
}

fn messages(values: &[(&str, &str)]) -> Vec<(String, String)> {
    values.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn a_thousand_dead_letters_end_as_they_did() {
    const COUNT: usize = 1_000;
    let test = "a_thousand_dead_letters_end_as_they_did";
    let kinds = ["retry", "dead", "panic", "wait", "old -1000000", "flood", "lucky", "dead"];
    // Of ten messages one succeeds, and leaves state that those behind it read.
    let mut all: Vec<_> = (0..COUNT)
        .flat_map(|n| {
            let value = format!("{} {n}", kinds[n % kinds.len()]);
            let ok = (n % 9 == 0).then(|| (format!("k{}", n % 40), format!("done {n}")));
            ok.into_iter().chain([(format!("k{}", n % 40), value)])
        })
        .collect();
    all.insert(0, ("slow".to_owned(), "loop".to_owned()));
    // Chance lets some of the lucky ones through, so there are more messages than letters.
    let spare = (0..100).map(|n| (format!("k{}", n % 40), format!("dead spare {n}")));
    all.extend(spare);
    let Some(play) = died(test, "limits.timeout = \"300ms\"\nbreaker.failures = 0\n", &all, COUNT as u64) else {
        return;
    };
    let letters = play.letters(play.client().as_mut());
    let mut seen: BTreeMap<(Kind, String), u64> = BTreeMap::new();
    for letter in &letters {
        let run = recorded(letter);
        *seen.entry((run.verdict.kind, run.verdict.failure.code.clone())).or_default() += 1;
        assert!(!run.reads.cut && run.reads.names.contains_key("count"));
    }
    let found = |kind, code: &str| seen.get(&(kind, code.to_owned())).copied().unwrap_or(0);
    assert!(found(Kind::Retry, "asked") > 150 && found(Kind::DeadLetter, "asked") > 150, "{seen:?}");
    assert!(found(Kind::Failed, "trap") > 100 && found(Kind::Failed, "timeout") == 1, "{seen:?}");
    assert!(found(Kind::Retry, "unlucky") > 50 && found(Kind::DeadLetter, "old") > 100, "{seen:?}");
    assert!(seen.keys().any(|(kind, _)| *kind == Kind::Oversized), "{seen:?}");
    assert!(letters.iter().any(|letter| recorded(letter).attempt == 3), "of spent ones the last run");
    let before: Vec<_> =
        [LETTERS, "out", "in", "p.in.state"].map(|topic| written(play.client().as_mut(), topic)).into();
    let (code, out, err) = replay(&play.folder, &["dlq:p", "--json"]);
    let count = letters.len();
    assert_eq!(code, 0, "{err}\n{}", out.lines().find(|line| !line.contains("\"identical\":true")).unwrap_or_default());
    let all = lines(&out);
    assert_eq!(all.len(), count);
    assert!(
        all.iter()
            .all(|line| line["identical"] == true && line["exact"] == true && line["notes"] == serde_json::json!([]))
    );
    let told = format!(
        "keyrail: {},{:03} letters: {},{:03} identical\n",
        count / 1000,
        count % 1000,
        count / 1000,
        count % 1000
    );
    assert_eq!(err, told);
    let after: Vec<_> = [LETTERS, "out", "in", "p.in.state"].map(|topic| written(play.client().as_mut(), topic)).into();
    assert_eq!(before, after, "nothing is sent, and nothing is changed");
    // Beside the process that holds the folder as well, and for people.
    let child = play.start();
    drop(beside(&play.folder, &child));
    let (code, out, err) = replay(&play.folder, &["dlq:p", "--reason", "trap"]);
    assert_eq!((code, out.as_str()), (0, ""), "{err}");
    assert!(err.ends_with(" identical\n"), "{err}");
    play.settle(child);
}

#[test]
fn a_letter_is_shown_with_what_another_handler_does_and_becomes_a_fixture() {
    let test = "a_letter_is_shown_with_what_another_handler_does_and_becomes_a_fixture";
    let Some(play) = died(test, "", &messages(&[("k", "done"), ("k", "retry it"), ("k", "dead")]), 2) else { return };
    let (folder, fixed) = (&play.folder, guests(test).unwrap().join("identity.wasm"));
    let letters = play.letters(play.client().as_mut());
    let letter = letters.iter().find(|letter| text(letter.value()) == "retry it").unwrap();
    let (id, fixed) = (name(letter), fixed.display().to_string());
    let (code, out, err) = replay(folder, &[&id]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    for part in [
        "  message   in/",
        "@1, attempt 3\n",
        "  read      count = x\n",
        "  then      retry asked: retry it: 1 2 ",
        "  verdict   identical\n",
    ] {
        assert!(out.contains(part), "{part}: {out}");
    }
    assert!(out.contains("  staged    (undone) send out key k value retry it: 1 2 "), "{out}");
    let (code, out, err) = replay(folder, &[&id, "--with", &fixed, "--fixture", "case.json"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("\n  - retry asked: retry it: 1 2 ") && out.contains("\n  + done\n"), "{out}");
    assert!(out.contains("\n  + send out key k value retry it") && err.contains("wrote case.json"), "{out}{err}");
    // The fixture holds the run, passes with the handler that handles it, and not with the one that failed.
    let written = std::fs::read_to_string(folder.path().join("case.json")).unwrap();
    let fixture: Value = serde_json::from_str(&written).unwrap();
    assert_eq!((fixture["state"]["values"]["count"].as_str(), fixture["attempt"].as_u64()), (Some("x"), Some(3)));
    assert_eq!(fixture["now"].as_i64(), Some(recorded(letter).now_ms));
    let tried = |args: &[&str]| command(folder, &[&["test"], args].concat(), "");
    let (code, out, err) = tried(&["case.json", "--with", &fixed]);
    assert_eq!((code, out.as_str(), err.as_str()), (0, "ok      case.json\n", "keyrail: 1 fixture, all as expected\n"));
    let (code, out, err) = tried(&["case.json"]);
    assert!(code == 1 && out.starts_with("FAILED  case.json\n        expected done, came retry asked: "), "{out}{err}");
    std::fs::create_dir(folder.path().join("fixtures")).unwrap();
    assert_eq!(tried(&[]).0, 2, "none there");
    std::fs::rename(folder.path().join("case.json"), folder.path().join("fixtures/case.json")).unwrap();
    std::fs::copy(&fixed, folder.path().join("plugins/p.wasm")).unwrap();
    let (code, out, _) = tried(&["--json"]);
    assert_eq!((code, lines(&out)[0]["ok"].as_bool()), (0, Some(true)), "{out}");
    // It is not written over, and the version that failed is known by its compiled code though the file is another one.
    let (code, _, err) = replay(folder, &[&id, "--fixture", "fixtures/case.json"]);
    assert!(code == 2 && err.contains("was not overwritten"), "{err}");
    assert_eq!(std::fs::read_to_string(folder.path().join("fixtures/case.json")).unwrap(), written);
    let (code, out, err) = replay(folder, &[&id]);
    assert!(code == 0 && out.contains("  verdict   identical\n") && !out.contains("note"), "{out}{err}");
    // Without it the present one runs, and that is said.
    std::fs::remove_dir_all(folder.path().join("state")).unwrap();
    let (code, out, _) = replay(folder, &[&id]);
    assert!(
        code == 1 && out.contains("  verdict   different\n") && out.contains("is not here: the present one ("),
        "{out}"
    );
    // All of them, with one that handles them.
    let (code, out, err) = replay(folder, &["dlq:p", "--with", &fixed]);
    assert_eq!((code, out.as_str(), err.as_str()), (0, "", "keyrail: 2 letters: 2 handled\n"));
}

#[test]
fn what_the_record_does_not_hold_is_told() {
    let test = "what_the_record_does_not_hold_is_told";
    // This handler reads no state, and so its letters keep none.
    let Some(mut play) = Play::new(test, &format!("{RECORD}{RETRY}")) else { return };
    let child = play.start();
    let dead = [("k".to_owned(), "dead-letter", "a".to_owned())];
    play.send(beside(&play.folder, &child).as_mut(), &dead);
    wait(&play, &child, 1);
    play.settle(child);
    let letter = play.letters(play.client().as_mut()).remove(0);
    let other = guests(test).unwrap().join("tally.wasm").display().to_string();
    let (code, out, _) = replay(&play.folder, &[&name(&letter), "--with", &other]);
    assert!(
        code == 0 && out.contains("inexact: it reads the value of \"count\", which the record does not hold"),
        "{out}"
    );
    assert!(out.contains("  + state count = 1\n"), "{out}");
    let (code, out, _) = replay(&play.folder, &[&name(&letter), "--with", &other, "--json"]);
    assert_eq!((code, lines(&out)[0]["exact"].as_bool()), (0, Some(false)), "{out}");
    // The manifest may have changed meanwhile.
    let manifest = play.folder.path().join("plugins/p.toml");
    let before = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, before + "[config]\nmore = 1\n").unwrap();
    let (code, out, _) = replay(&play.folder, &[&name(&letter)]);
    assert!(code == 0 && out.contains("  verdict   identical\n") && out.contains("has changed since"), "{out}");
}

#[test]
fn what_is_too_large_is_cut_and_says_so() {
    let test = "what_is_too_large_is_cut_and_says_so";
    // The first leaves 60 KB for the second to read.
    let long = "x".repeat(60_000);
    let all = messages(&[("k", &format!("done {long}")), ("k", "dead")]);
    let Some(play) = died(test, "", &all, 1) else { return };
    let letter = play.letters(play.client().as_mut()).remove(0);
    let run = recorded(&letter);
    let size = letter.header(HEADER.as_bytes()).flatten().map_or(0, <[u8]>::len);
    assert!(run.reads.cut && run.reads.names.contains_key("count") && size < 10_000, "{size}");
    let (code, out, _) = replay(&play.folder, &[&name(&letter)]);
    assert!(
        out.contains("the record is cut") && out.contains("inexact: it reads names that begin with \"at/\""),
        "{out}"
    );
    assert_eq!(code, 1, "it says other words: {out}");
}

#[test]
fn a_letter_near_its_topic_s_limit_has_all_its_headers_and_little_of_the_run() {
    let test = "a_letter_near_its_topic_s_limit_has_all_its_headers_and_little_of_the_run";
    let all = messages(&[("k", "done"), ("k", &format!("dead {}", "x".repeat(1_000_000)))]);
    let Some(play) = died(test, "", &all, 1) else { return };
    let letter = play.letters(play.client().as_mut()).remove(0);
    let run = recorded(&letter);
    assert!(run.reads.cut && run.reads.names.is_empty(), "{:?}", run.reads);
    assert_eq!(text(letter.header(b"keyrail-code").flatten()), run.verdict.failure.code);
    let (_, out, _) = replay(&play.folder, &[&name(&letter)]);
    assert!(out.contains("the record is cut") && out.contains("inexact: it reads the value of \"count\""), "{out}");
}

#[test]
fn a_letter_keeps_its_message_s_headers_and_loses_the_record_on_its_way_back() {
    let test = "a_letter_keeps_its_message_s_headers_and_loses_the_record_on_its_way_back";
    let Some(mut play) = Play::of(test, "fickle", &format!("{RECORD}{RETRY}")) else { return };
    // Headers that the letter writes anew, as a message has that was a dead letter elsewhere.
    let headers: [(&[u8], Option<&[u8]>); 4] =
        [(b"a", Some(b"1")), (b"keyrail-code", Some(b"old")), (b"keyrail-record", Some(b"x")), (b"b", None)];
    let child = play.start();
    play.send_records(
        beside(&play.folder, &child).as_mut(),
        &[Produce { headers: &headers, ..produce("in", "k", "dead") }],
    );
    wait(&play, &child, 1);
    play.settle(child);
    let letter = play.letters(play.client().as_mut()).remove(0);
    let detail = text(letter.header(b"keyrail-detail").flatten());
    assert!(detail.contains("[\"a\", \"keyrail-code\", \"keyrail-record\", \"b\"]"), "{detail}");
    let (code, out, err) = replay(&play.folder, &[&name(&letter)]);
    assert!(code == 0 && out.contains("  verdict   identical\n"), "{out}{err}");
    let (_, out, _) = command(&play.folder, &["dlq", "show", "p"], "");
    assert!(out.contains("bytes, for `keyrail replay dlq:p.in.dlq/"), "{out}");
    let (code, _, err) = command(&play.folder, &["dlq", "redrive", "p", "--to", "out", "--yes"], "");
    assert_eq!(code, 0, "{err}");
    let back = crate::support::all(play.client().as_mut(), "out", PARTITIONS).remove(0);
    let names: Vec<_> = back.headers().map(|(name, _)| text(Some(name)).to_owned()).collect();
    assert!(names.contains(&"a".to_owned()) && !names.contains(&HEADER.to_owned()), "{names:?}");
}

#[test]
fn timers_are_run_again_as_timers() {
    let test = "timers_are_run_again_as_timers";
    let Some(mut play) = Play::of(test, "alarm", &format!("{RECORD}{RETRY}")) else { return };
    let child = play.start();
    let set = [("k".to_owned(), "set t 0 fail 9".to_owned())];
    play.send_plain(beside(&play.folder, &child).as_mut(), &set);
    wait(&play, &child, 1);
    play.settle(child);
    let letter = play.letters(play.client().as_mut()).remove(0);
    let run = recorded(&letter);
    assert_eq!(run.timer.as_ref().map(|timer| (timer.name.as_str(), timer.hops)), Some(("t", 0)));
    let (code, out, err) = replay(&play.folder, &[&name(&letter)]);
    assert!(code == 0 && out.contains(", timer t, attempt 3") && out.contains("  verdict   identical\n"), "{out}{err}");
    assert!(out.contains("  staged    (undone) send out key k value timer t 0 fail 9\n"), "{out}");
}

#[test]
fn a_letter_without_a_record_says_what_is_missing() {
    let test = "a_letter_without_a_record_says_what_is_missing";
    let Some(mut play) = Play::new(test, RETRY) else { return };
    let child = play.start();
    let dead = [("k".to_owned(), "dead-letter", "a".to_owned())];
    play.send(beside(&play.folder, &child).as_mut(), &dead);
    wait(&play, &child, 1);
    play.settle(child);
    let letter = play.letters(play.client().as_mut()).remove(0);
    assert!(letter.header(HEADER.as_bytes()).is_none(), "off by default");
    let id = name(&letter);
    let (code, out, _) = replay(&play.folder, &[&id]);
    assert!(code == 1 && out.contains("not run") && out.contains("[dead-letter] record = true"), "{out}");
    let (code, out, _) = replay(&play.folder, &[&id, "--without-record"]);
    assert!(
        code == 0 && out.contains("  verdict   identical\n") && out.contains("note      it keeps no record"),
        "{out}"
    );
    let (code, _, err) = replay(&play.folder, &["dlq:p"]);
    assert_eq!((code, err.as_str()), (1, "keyrail: 1 letter: 1 not run\n"));
    let (code, _, err) = replay(&play.folder, &["dlq:q"]);
    assert!(code == 2 && err.contains("there is no pipeline or topic \"q\""), "{err}");
    let (code, _, err) = replay(&play.folder, &[&format!("dlq:{LETTERS}/0@999")]);
    assert!(code == 1 && err.contains("there is no such dead letter"), "{err}");
    assert_eq!(replay(&play.folder, &[&id, "--code", "x"]).0, 2);
    assert_eq!(replay(&play.folder, &["dlq:p", "--fixture", "x.json"]).0, 2);
    // Somebody else's header is no record.
    let line = format!(
        "{{\"key\":\"k\",\"value\":\"x\",\"partition\":0,\"headers\":{{\"keyrail-reason\":\"rejected\",\"{HEADER}\":\"mine\"}}}}"
    );
    assert_eq!(command(&play.folder, &["send", LETTERS], &line).0, 0);
    let (code, out, _) = replay(&play.folder, &["dlq:p", "--json", "--partition", "0", "--code", ""]);
    assert!(code == 1, "{out}");
    assert!(out.contains("the version 109"), "{out}");
}
