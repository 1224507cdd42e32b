//! Timers: each runs at its time, behind what its key has there, and once, through stops and kills; what fails sets none.
//!
//! The handler `alarm` sets and cancels what messages and payloads say, and sends what it ran.

use crate::commands::run;
use crate::play::{Play, now_ms, of, out, say, wait};
use crate::run::{PARTITIONS, beside, by_key, start_with};
use crate::support::text;
use std::collections::BTreeMap;
use std::process::Child;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(60);
const RETRY: &str = "retry = { attempts = 3, backoff = { first = \"50ms\", max = \"50ms\" } }\n";

#[test]
fn a_timer_comes_at_its_time_and_tells_who_set_it() {
    let test = "a_timer_comes_at_its_time_and_tells_who_set_it";
    let Some(mut play) = Play::of(test, "alarm", RETRY) else { return };
    let child = play.start();
    let at_ms = now_ms() + 1_000;
    let set =
        [format!("set b {at_ms} word"), format!("set a {} first; set a {at_ms} last; set c {at_ms} no", at_ms - 900)];
    say(&mut play, &child, &[("k", "x"), ("k", &set[0]), ("k", &set[1]), ("k", "cancel c")]);
    wait(&play, &child, 4);
    assert!(now_ms() < at_ms, "the machine is too slow for this test");
    say(&mut play, &child, &[("k", "y")]);
    wait(&play, &child, 7);
    assert!(now_ms() >= at_ms);
    // Nothing more comes.
    std::thread::sleep(Duration::from_millis(300));
    play.settle(child);
    let (set_b, set_a) = (format!("message {}", set[0]), format!("message {}", set[1]));
    let expected = ["message x", &set_b, &set_a, "message cancel c", "message y", "timer a 2 last", "timer b 1 word"];
    assert_eq!(out(&play), of("k", expected));
}

#[test]
fn timers_outlive_a_stop_and_those_that_fell_due_meanwhile_come_at_the_start() {
    let test = "timers_outlive_a_stop_and_those_that_fell_due_meanwhile_come_at_the_start";
    let Some(mut play) = Play::of(test, "alarm", RETRY) else { return };
    let child = play.start();
    let soon = now_ms() + 600;
    let set = format!("set soon {soon} x; set late {} y; set never {} z", soon + 2_500, soon + 31_536_000_000);
    say(&mut play, &child, &[("k", &set)]);
    play.settle(child);
    std::thread::sleep(Duration::from_millis(u64::try_from(soon + 100 - now_ms()).unwrap_or(0)));
    assert_eq!(out(&play)["k"].len(), 1);
    // Without what this machine has, all is read from the topic.
    std::fs::remove_dir_all(play.folder.path().join("state")).unwrap();
    let child = play.start();
    wait(&play, &child, 2);
    play.settle(child);
    let child = play.start();
    wait(&play, &child, 3);
    play.settle(child);
    let said = format!("message {set}");
    assert_eq!(out(&play), of("k", [said.as_str(), "timer soon 0 x", "timer late 0 y"]));
}

#[test]
fn what_is_to_come_is_listed_as_it_is_due_beside_the_process_and_at_rest() {
    let test = "what_is_to_come_is_listed_as_it_is_due_beside_the_process_and_at_rest";
    let Some(mut play) = Play::of(test, "alarm", RETRY) else { return };
    let child = play.start();
    let soon = now_ms() + 3_600_000;
    let [one, two] = [format!("set b {} later; set a {soon} x", soon + 60_000), format!("set a {} y", soon + 30_000)];
    say(&mut play, &child, &[("k", &one), ("l", &two), ("m", "set gone 9999999999999 x"), ("m", "cancel gone")]);
    wait(&play, &child, 4);
    // What is committed is shown: so is the fourth, once it is.
    let until = Instant::now() + LIMIT;
    let list = |more: &[&str]| run(&play.folder, &[&["timers", "list", "p", "--json"], more].concat(), "");
    while list(&[]).1.matches("due_ms").count() != 3 {
        assert!(Instant::now() < until, "{:?}", list(&[]));
    }
    let read = |more: &[&str]| {
        let (code, out, err) = list(more);
        assert_eq!(code, 0, "{err}");
        let read: serde_json::Value = serde_json::from_str(&out).unwrap();
        let of = |timer: &serde_json::Value| {
            let word = |name: &str| timer[name].as_str().unwrap_or_default().to_owned();
            (word("key"), word("name"), timer["due_ms"].as_i64().unwrap() - soon, word("value"))
        };
        let timers: Vec<_> = read["timers"].as_array().unwrap().iter().map(of).collect();
        (timers, read["more"].as_bool().unwrap())
    };
    let told = |key: &str, name: &str, at_ms: i64, value: &str| (key.into(), name.into(), at_ms, value.into());
    let all = vec![told("k", "a", 0, "x"), told("l", "a", 30_000, "y"), told("k", "b", 60_000, "later")];
    assert_eq!(read(&[]), (all.clone(), false));
    play.settle(child);
    assert_eq!(read(&[]), (all.clone(), false));
    assert_eq!(read(&["--limit", "1"]), (all[..1].to_vec(), true));
    assert_eq!(read(&["--key", "l"]), (all[1..2].to_vec(), false));
    assert_eq!(read(&["--delayed"]), (vec![], false));
    let (code, out, _) = run(&play.folder, &["timers", "list", "p"], "");
    let lines: Vec<&str> = out.lines().collect();
    assert!(code == 0 && lines.len() == 4 && lines[1].contains(" a ") && lines[1].ends_with("@0"), "{out}");
}

#[test]
fn what_fails_sets_nothing_and_a_timer_that_fails_keeps_its_key_waiting() {
    let test = "what_fails_sets_nothing_and_a_timer_that_fails_keeps_its_key_waiting";
    let Some(mut play) = Play::of(test, "alarm", RETRY) else { return };
    let child = play.start();
    // In one batch with what is behind them.
    let now = now_ms();
    let (wrong, good) = (format!("set t {now} wrong; dead"), format!("set t {now} fail 2; set u {now} dead"));
    let last = "set t 0 again t 10 3";
    say(&mut play, &child, &[("k", &wrong), ("k", "fail 1; cancel t"), ("k", &good)]);
    wait(&play, &child, 3);
    say(&mut play, &child, &[("k", last)]);
    wait(&play, &child, 8);
    play.settle(child);
    let all = out(&play);
    let mut expected =
        vec!["message fail 1; cancel t".to_owned(), format!("message {good}"), "timer t 2 fail 2".to_owned()];
    expected.extend([format!("message {last}"), "timer t 3 again t 10 3".to_owned()]);
    expected.extend((0..3).rev().map(|left| format!("timer t 3 again t 10 {left}")));
    let mut came = all["k"].clone();
    // The message may come before both timers, between them or behind.
    let of_last = |value: &String| *value == format!("message {last}") || value.starts_with("timer t 3");
    came.sort_by_key(|value| of_last(value));
    assert_eq!(came, expected);
    let letters = play.letters(play.client().as_mut());
    let told: Vec<_> = letters
        .iter()
        .map(|letter| {
            let header = |name: &str| text(letter.header(name.as_bytes()).flatten()).to_owned();
            let timer = letter.header(b"keyrail-timer").map_or("", text).to_owned();
            (text(letter.value()).to_owned(), timer, header("keyrail-offset"), header("keyrail-reason"))
        })
        .collect();
    let rejected = |value: &str, timer: &str, offset: &str| {
        (value.to_owned(), timer.to_owned(), offset.to_owned(), "rejected".to_owned())
    };
    assert_eq!(told, [rejected(&wrong, "", "0"), rejected("dead", "u", "2")]);
}

#[test]
fn a_timer_that_fails_for_long_is_parked_through_a_kill_and_its_key_waits_behind_it() {
    let test = "a_timer_that_fails_for_long_is_parked_through_a_kill_and_its_key_waits_behind_it";
    let retry =
        "retry = { attempts = 3, in-place = \"0s\", backoff = { first = \"2s\", factor = 1.0, max = \"2s\" } }\n";
    let Some(mut play) = Play::of(test, "alarm", retry) else { return };
    let mut child = play.start();
    let now = now_ms();
    let (set, other) = (format!("set t {now} fail 2, set u 0 x"), format!("set t {now} fail 9"));
    say(&mut play, &child, &[("k", &set), ("l", &other)]);
    // The first that is parked makes the retry topic.
    let until = Instant::now() + LIMIT;
    while parked(&play, &child) < 2 {
        assert!(Instant::now() < until, "{:?}", by_key(beside(&play.folder, &child).as_mut(), "out"));
        std::thread::sleep(Duration::from_millis(20));
    }
    say(&mut play, &child, &[("k", "y"), ("l", "z"), ("m", "free")]);
    wait(&play, &child, 3);
    child.kill().unwrap();
    child.wait().unwrap();
    // Without what this machine has, all is read from the topics.
    std::fs::remove_dir_all(play.folder.path().join("state")).unwrap();
    child = start_with(&play.folder, |_| {});
    wait(&play, &child, 7);
    let until = Instant::now() + LIMIT;
    while parked(&play, &child) > 0 {
        assert!(Instant::now() < until, "the retry topic is not empty");
        std::thread::sleep(Duration::from_millis(20));
    }
    play.settle(child);
    let [k, l] = ["k", "l"].map(|key| offset_of(&play, key));
    let timer = format!("timer t {k} fail 2; set u 0 x");
    let all = out(&play);
    let of_k: Vec<_> = all["k"].iter().filter(|value| !value.starts_with("timer u")).cloned().collect();
    assert_eq!(of_k, [format!("message {set}"), timer, "message y".to_owned()]);
    assert_eq!(all["k"].len(), 4, "what the timer set came once: {all:?}");
    assert_eq!(all["l"], [format!("message {other}"), "message z".to_owned()]);
    let letters = play.letters(play.client().as_mut());
    let header = |name: &str| letters[0].header(name.as_bytes()).map(text).map(str::to_owned);
    assert_eq!(letters.len(), 1);
    assert_eq!(
        ["keyrail-timer", "keyrail-offset", "keyrail-attempts", "keyrail-reason"].map(header),
        ["t", &l.to_string(), "3", "attempts"].map(|value| Some(value.to_owned()))
    );
}

/// How many timers are parked.
fn parked(play: &Play, child: &Child) -> usize {
    let mut client = beside(&play.folder, child);
    if client.topics().unwrap().iter().all(|topic| topic.name != "p.in.retry") {
        return 0;
    }
    let mut last = BTreeMap::new();
    for record in crate::support::all(client.as_mut(), "p.in.retry", PARTITIONS) {
        last.insert(record.key().unwrap().to_vec(), record.value().map(<[u8]>::to_vec));
    }
    // The first byte says that it is a timer.
    last.into_values().flatten().filter(|value| value[0] == 3).count()
}

fn offset_of(play: &Play, key: &str) -> i64 {
    let all = crate::support::all(play.client().as_mut(), "in", PARTITIONS);
    all.iter().find(|record| text(record.key()) == key).unwrap().offset
}

#[test]
fn timers_that_fail_hold_up_none_of_other_keys() {
    const FAILING: usize = 1_500;
    let test = "timers_that_fail_hold_up_none_of_other_keys";
    let retry = "[breaker]\nfailures = 0\n[retry]\nbackoff = { first = \"60s\", max = \"60s\" }\n";
    let Some(mut play) = Play::of(test, "alarm", retry) else { return };
    let child = play.start();
    let now = now_ms();
    let set = format!("set t {now} fail 1");
    let failing: Vec<_> = (0..FAILING).map(|n| (format!("k{n}"), set.clone())).collect();
    play.send_plain(beside(&play.folder, &child).as_mut(), &failing);
    wait(&play, &child, FAILING as u64);
    let (healthy, begin) = (format!("set t {} x", now_ms() + 300), Instant::now());
    say(&mut play, &child, &[("healthy", &healthy)]);
    wait(&play, &child, FAILING as u64 + 2);
    // Those that fail come again after a minute.
    assert!(begin.elapsed() < Duration::from_secs(40), "{:?}", begin.elapsed());
    play.settle(child);
    let offset = offset_of(&play, "healthy");
    assert_eq!(out(&play)["healthy"][1], format!("timer t {offset} x"));
}

#[test]
fn through_kills_each_timer_comes_once() {
    const KEYS: i64 = 400;
    let Some(mut play) = Play::of("through_kills_each_timer_comes_once", "alarm", RETRY) else { return };
    let mut child = play.start();
    let begin = now_ms() + 500;
    let set = |n: i64| format!("set once {} word; set often {} again often 40 5", begin + n * 10, begin + n * 7);
    let messages: Vec<_> = (0..KEYS).map(|n| (format!("k{n}"), set(n))).collect();
    play.send_plain(beside(&play.folder, &child).as_mut(), &messages);
    for n in 0..12 {
        std::thread::sleep(Duration::from_millis(250 + n * 13));
        child.kill().unwrap();
        child.wait().unwrap();
        child = start_with(&play.folder, |_| {});
    }
    // A message, a timer, and a chain of six.
    wait(&play, &child, u64::try_from(KEYS * 8).unwrap());
    std::thread::sleep(Duration::from_millis(300));
    play.settle(child);
    let partition_of = |key: &str| -> i64 {
        let all = crate::support::all(play.client().as_mut(), "in", PARTITIONS);
        all.iter().find(|record| text(record.key()) == key).unwrap().offset
    };
    let all = out(&play);
    assert_eq!(all.len(), usize::try_from(KEYS).unwrap());
    for n in (0..KEYS).step_by(37) {
        let key = format!("k{n}");
        let offset = partition_of(&key);
        let chain: Vec<String> =
            (0..6).rev().map(|left| format!("timer often {offset} again often 40 {left}")).collect();
        let came = &all[&key];
        assert_eq!(came[0], format!("message {}", set(n)));
        assert_eq!(came.iter().filter(|value| value.starts_with("timer often")).cloned().collect::<Vec<_>>(), chain);
    }
    for (key, came) in &all {
        assert_eq!(came.len(), 8, "{key}: {came:?}");
        assert_eq!(came.iter().filter(|value| value.starts_with("timer once")).count(), 1, "{key}: {came:?}");
    }
}

#[test]
fn where_there_can_be_no_timers_a_call_says_why() {
    let test = "where_there_can_be_no_timers_a_call_says_why";
    let Some(mut play) = Play::of(test, "alarm", &format!("guarantee = \"at-least-once\"\n{RETRY}")) else { return };
    let child = play.start();
    say(&mut play, &child, &[("k", "set t 5 x"), ("k", "word")]);
    wait(&play, &child, 1);
    play.settle(child);
    assert_eq!(out(&play), of("k", ["message word"]));
    let letters = play.letters(play.client().as_mut());
    let why = text(letters[0].header(b"keyrail-detail").flatten()).to_owned();
    assert!(why.contains("timers") && why.contains("guarantee = \"exactly-once\""), "{why}");
}
