//! Delayed sends: each goes out at its time, once, through stops and kills; what fails sends nothing, now or later.
//!
//! The handler `later` sends what messages say, and has no state of its own.

use crate::commands::run;
use crate::play::{Play, now_ms, of, out, say, wait};
use crate::run::{PARTITIONS, beside, start_with};
use crate::support::{all, text};
use std::collections::BTreeMap;
use std::time::Duration;

const DELAY: &str =
    "retry = { attempts = 3, backoff = { first = \"50ms\", max = \"50ms\" } }\nlimits.delay = \"30d\"\n";

/// A dead letter: its value, the output that it was delayed for, reason and detail.
fn letters(play: &Play) -> Vec<(String, String, String, String)> {
    let told = |letter: &keyrail::record::Record| {
        let header = |name: &str| letter.header(name.as_bytes()).map_or("", text).to_owned();
        let value = text(letter.value()).to_owned();
        (value, header("keyrail-delayed"), header("keyrail-reason"), header("keyrail-detail"))
    };
    play.letters(play.client().as_mut()).iter().map(told).collect()
}

#[test]
fn what_is_delayed_goes_out_at_its_time_whatever_its_key_does_meanwhile() {
    let test = "what_is_delayed_goes_out_at_its_time_whatever_its_key_does_meanwhile";
    let Some(mut play) = Play::of(test, "later", &DELAY.replace("50ms", "5s")) else { return };
    let child = play.start();
    let begin = now_ms();
    say(&mut play, &child, &[("k", "in 1500 c; in 0 now; in 1000 a; in 1000 b; in 500 early")]);
    wait(&play, &child, 2);
    assert!(now_ms() - begin >= 500);
    // From now on its key waits.
    say(&mut play, &child, &[("k", "fail 1; in 0 last")]);
    wait(&play, &child, 5);
    assert!(now_ms() - begin >= 1_500);
    wait(&play, &child, 6);
    play.settle(child);
    assert_eq!(out(&play), of("k", ["now", "early", "a", "b", "c", "last"]));
}

#[test]
fn what_is_sent_later_is_listed_with_its_output() {
    let Some(mut play) = Play::of("what_is_sent_later_is_listed_with_its_output", "later", DELAY) else { return };
    let child = play.start();
    say(&mut play, &child, &[("k", "in 3600000 first; in 7200000 second; in 0 now")]);
    wait(&play, &child, 1);
    play.settle(child);
    let (code, out, err) = run(&play.folder, &["timers", "list", "p", "--delayed", "--json"], "");
    let read: serde_json::Value = serde_json::from_str(&out).unwrap();
    let of = |sent: &serde_json::Value| ["key", "output", "value"].map(|name| sent[name].as_str().unwrap().to_owned());
    let all: Vec<_> = read["timers"].as_array().unwrap().iter().map(of).collect();
    assert_eq!(all, [["k", "out", "first"], ["k", "out", "second"]].map(|all| all.map(str::to_owned)));
    assert_eq!((code, read["more"].as_bool()), (0, Some(false)), "{err}");
}

#[test]
fn what_fails_delays_nothing_and_what_is_refused_says_so_at_once() {
    let test = "what_fails_delays_nothing_and_what_is_refused_says_so_at_once";
    let Some(mut play) = Play::of(test, "later", DELAY) else { return };
    let child = play.start();
    let messages = [
        ("k", "in 200 no; dead"),
        ("k", "in 200 once; fail 2"),
        ("k", "to nowhere 200 x"),
        ("k", "in 2592000001 x"),
        ("k", "big 200 524300"),
    ];
    say(&mut play, &child, &messages);
    wait(&play, &child, 1);
    std::thread::sleep(Duration::from_millis(500));
    play.settle(child);
    assert_eq!(out(&play), of("k", ["once"]));
    let told = letters(&play);
    let all: Vec<_> = told.iter().map(|(value, delayed, _, _)| (value.as_str(), delayed.as_str())).collect();
    let expected: Vec<_> = [0, 2, 3, 4].map(|at| (messages[at].1, "")).into();
    assert_eq!(all, expected);
    assert!(told[2].3.contains("2592000000 ms are the most, that is limits.delay"), "{:?}", told[2]);
}

#[test]
fn a_record_is_kept_as_it_was_sent_with_or_without_an_order_key() {
    let test = "a_record_is_kept_as_it_was_sent_with_or_without_an_order_key";
    for order in ["key", "none"] {
        let Some(mut play) = Play::of(test, "later", &format!("{DELAY}order.by = \"{order}\"\n")) else { return };
        let child = play.start();
        play.send_keyless(beside(&play.folder, &child).as_mut(), &["all 300 v", "in 300 w"]);
        wait(&play, &child, 2);
        play.settle(child);
        let mut records = all(play.client().as_mut(), "out", PARTITIONS);
        records.sort_by_key(|record| text(record.value()).to_owned());
        let headers: Vec<_> = records[0].headers().map(|(name, value)| (text(Some(name)), text(value))).collect();
        assert_eq!(headers, [("own", "1")]);
        assert_eq!((records[0].key(), records[0].timestamp_ms), (None, 7));
        assert_eq!((records[1].key(), text(records[1].value())), (None, "w"));
    }
}

#[test]
fn one_whose_output_is_gone_becomes_a_dead_letter() {
    let Some(mut play) = Play::of("one_whose_output_is_gone_becomes_a_dead_letter", "later", DELAY) else { return };
    let manifest = play.folder.path().join("plugins/p.toml");
    let with = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, format!("output.gone = \"elsewhere\"\n{with}")).unwrap();
    let child = play.start();
    say(&mut play, &child, &[("k", "to gone 1500 lost; in 1500 kept")]);
    play.settle(child);
    std::fs::write(&manifest, with).unwrap();
    let child = play.start();
    wait(&play, &child, 1);
    play.settle(child);
    assert_eq!(out(&play), of("k", ["kept"]));
    let [(value, delayed, reason, detail)] = &letters(&play)[..] else { panic!("{:?}", letters(&play)) };
    assert_eq!((value.as_str(), delayed.as_str(), reason.as_str()), ("lost", "gone", "undeliverable"));
    assert!(detail.contains("names no output like that"), "{detail}");
}

#[test]
fn through_kills_each_delayed_send_goes_out_once() {
    const KEYS: i64 = 400;
    let Some(mut play) = Play::of("through_kills_each_delayed_send_goes_out_once", "later", DELAY) else { return };
    let mut child = play.start();
    let begin = now_ms();
    let due = |n: i64, nth: i64| 500 + n * 8 + nth * 700;
    let value = |n: i64| (0..3).map(|nth| format!("in {0} {0}", due(n, nth))).collect::<Vec<_>>().join("; ");
    let messages: Vec<_> = (0..KEYS).map(|n| (format!("k{n}"), value(n))).collect();
    play.send_plain(beside(&play.folder, &child).as_mut(), &messages);
    for n in 0..12 {
        std::thread::sleep(Duration::from_millis(250 + n * 13));
        child.kill().unwrap();
        child.wait().unwrap();
        if n % 4 == 3 {
            // Without what this machine has, all is read from the topic.
            std::fs::remove_dir_all(play.folder.path().join("state")).unwrap();
        }
        child = start_with(&play.folder, |_| {});
    }
    wait(&play, &child, u64::try_from(KEYS * 3).unwrap());
    assert!(now_ms() - begin >= due(KEYS - 1, 2));
    std::thread::sleep(Duration::from_millis(300));
    play.settle(child);
    let expected: BTreeMap<_, _> =
        (0..KEYS).map(|n| (format!("k{n}"), (0..3).map(|nth| due(n, nth).to_string()).collect::<Vec<_>>())).collect();
    assert_eq!(out(&play), expected);
}

#[test]
fn where_there_can_be_none_a_send_with_a_delay_says_what_to_set() {
    let test = "where_there_can_be_none_a_send_with_a_delay_says_what_to_set";
    let Some(mut play) = Play::of(test, "later", "") else { return };
    let child = play.start();
    say(&mut play, &child, &[("k", "in 5 x"), ("k", "in 0 now")]);
    wait(&play, &child, 1);
    play.settle(child);
    assert_eq!(out(&play), of("k", ["now"]));
    let why = &letters(&play)[0].3;
    assert!(why.contains("limits.delay") && why.contains("guarantee = \"exactly-once\""), "{why}");
    let topics = play.client().topics().unwrap();
    assert!(topics.iter().all(|topic| topic.name != "p.in.state"), "it is made only when it is used");
}
