//! Scenarios of `keyrail test`: what comes of messages by a manifest, with a clock of their own.
//!
//! Most run the conformance handler, which does what each message's header `do` says.

use crate::commands::run as command;
use crate::play::Play;
use crate::run::{beside, by_key};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;

const FAST: &str = "retry = { attempts = 2, backoff = { first = \"1s\", max = \"1s\" } }\n";

/// A message for the conformance handler.
fn message(key: &str, commands: &str) -> Value {
    json!({ "key": key, "value": "v", "headers": { "do": commands } })
}

fn file(lines: &[Value]) -> String {
    lines.iter().fold(String::new(), |mut file, line| {
        writeln!(file, "{line}").unwrap();
        file
    })
}

/// What comes of these lines; it comes again, to the letter.
fn played(play: &Play, lines: &[Value]) -> Vec<Value> {
    let folder = play.folder.path().join("fixtures");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("s.jsonl"), file(lines)).unwrap();
    let (code, out, err) = command(&play.folder, &["test", "--update"], "");
    assert_eq!(code, 0, "{out}{err}");
    let (code, out, err) = command(&play.folder, &["test"], "");
    assert_eq!((code, err.as_str()), (0, "keyrail: 1 fixture, all as expected\n"), "{out}");
    let came = std::fs::read_to_string(folder.join("s.expected.jsonl")).unwrap();
    came.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Message or timer, and what became of it.
fn fates(came: &[Value]) -> Vec<String> {
    let one = |line: &Value| {
        let of = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
        let at = line["at"].as_u64().map_or_else(String::new, |at| format!("{at}: "));
        let what = if line["pending"].is_null() { of("outcome") } else { format!("pending {}", of("pending")) };
        let timer = line["timer"].as_str().map_or_else(String::new, |name| format!(" {name}"));
        let reason = line["reason"].as_str().map_or_else(String::new, |reason| format!(" {reason}"));
        format!("{at}{}{timer} {what}{reason}", of("message")).trim_start().to_owned()
    };
    came.iter().map(one).collect()
}

#[test]
fn a_key_waits_for_what_is_held_and_is_given_up_with_what_takes_it_along() {
    let test = "a_key_waits_for_what_is_held_and_is_given_up_with_what_takes_it_along";
    let lines = [
        message("a", "retry no again"),
        message("a", "send out behind"),
        message("b", "send out healthy"),
        json!({ "advance": "1m" }),
        message("a", "send out later"),
    ];
    let tables = FAST.replace("retry = {", "retry = { then = \"hold\",");
    let Some(play) = Play::of(test, "conform-rust", &tables) else { return };
    assert_eq!(
        fates(&played(&play, &lines)),
        [
            "in/0@0 retry",
            "in/0@2 done",
            "1000: in/0@0 held attempts",
            "in/0@0 pending message",
            "in/0@1 pending message",
            "in/0@3 pending message"
        ]
    );
    let tables = FAST.replace("retry = {", "retry = { then = \"dead-letter-key\",");
    let Some(play) = Play::of(test, "conform-rust", &tables) else { return };
    let came = played(&play, &lines);
    assert_eq!(
        fates(&came),
        [
            "in/0@0 retry",
            "in/0@2 done",
            "1000: in/0@0 dead-letter attempts",
            "1000: in/0@1 dead-letter follows",
            "60000: in/0@3 done"
        ]
    );
    assert_eq!(came[3]["with"], "in/0@0");
}

#[test]
fn what_takes_its_key_along_leaves_other_partitions_alone_and_later_messages_and_timers_run() {
    let test = "what_takes_its_key_along_leaves_other_partitions_alone_and_later_messages_and_timers_run";
    let tables = format!("dedup = {{ id = \"header:id\", window = \"1h\" }}\n{FAST}");
    let tables = tables.replace("retry = {", "retry = { then = \"dead-letter-key\",");
    let Some(play) = Play::of(test, "conform-rust", &tables) else { return };
    let on = |partition: i32, id: &str, commands: &str| json!({ "partition": partition, "key": "a", "value": "v", "headers": { "do": commands, "id": id } });
    let lines = [
        on(0, "1", "timer t 5000 later"),
        on(0, "2", "retry no again"),
        on(0, "1", "send out twice"),
        on(0, "3", "send out behind"),
        on(1, "4", "after 60000 wait a minute"),
        on(1, "5", "send out other"),
        json!({ "advance": "10s" }),
        on(0, "3", "send out its id is taken"),
        on(0, "6", "send out goes on"),
        json!({ "advance": "61m" }),
        on(0, "3", "send out its id is free"),
    ];
    let came = played(&play, &lines);
    assert_eq!(
        fates(&came),
        [
            "in/0@0 done",
            "in/0@1 retry",
            "in/1@0 retry",
            "1000: in/0@1 dead-letter attempts",
            "1000: in/0@2 duplicate",
            "1000: in/0@3 dead-letter follows",
            "5000: in/0@0 t done",
            "10000: in/0@4 duplicate",
            "10000: in/0@5 done",
            "60000: in/1@0 dead-letter attempts",
            "60000: in/1@1 dead-letter follows",
            "3670000: in/0@6 done",
        ]
    );
    assert_eq!((&came[5]["with"], &came[10]["with"]), (&json!("in/0@1"), &json!("in/1@0")));
}

#[test]
fn timers_come_at_their_time_whatever_else_waits() {
    let test = "timers_come_at_their_time_whatever_else_waits";
    let Some(play) = Play::of(test, "conform-rust", FAST) else { return };
    let lines = [
        message("a", "timer t 2000 stuck"),
        message("a", "after 10000 wait longer"),
        message("c", "timer t 2100 on time"),
        message("b", "after 2150 wait again"),
        json!({ "advance": "2120ms" }),
        message("c", "send out behind its timer"),
        json!({ "advance": "1m" }),
    ];
    assert_eq!(
        fates(&played(&play, &lines)),
        [
            "in/0@0 done",
            "in/0@1 retry",
            "in/0@2 done",
            "in/0@3 retry",
            "2100: in/0@2 t done",
            "2120: in/0@4 done",
            "2150: in/0@3 dead-letter attempts",
            "10000: in/0@1 dead-letter attempts",
            "10000: in/0@0 t done",
        ]
    );
}

#[test]
fn what_the_manifest_says_of_age_ids_and_spent_messages_holds_by_the_scenario_s_clock() {
    let test = "what_the_manifest_says_of_age_ids_and_spent_messages_holds_by_the_scenario_s_clock";
    let tables = format!("expires-after = \"1h\"\ndedup = {{ id = \"header:id\", window = \"1h\" }}\n{FAST}");
    let tables = tables.replace("retry = {", "retry = { then = \"discard\",");
    let Some(play) = Play::of(test, "conform-rust", &tables) else { return };
    let with_id = |key: &str| json!({ "key": key, "value": "v", "headers": { "do": "send out x", "id": "1" } });
    let lines = [
        with_id("a"),
        with_id("a"),
        with_id("b"),
        message("c", "retry no again"),
        message("c", "send out behind"),
        json!({ "key": "d", "value": "v", "timestamp": 1_699_996_399_999_u64 }),
        json!({ "advance": "30m" }),
        with_id("a"),
        json!({ "advance": "2h" }),
        with_id("a"),
    ];
    assert_eq!(
        fates(&played(&play, &lines)),
        [
            "in/0@5 dead-letter expired",
            "in/0@0 done",
            "in/0@2 done",
            "in/0@3 retry",
            "in/0@1 duplicate",
            "1000: in/0@3 discarded attempts",
            "1000: in/0@4 done",
            "1800000: in/0@6 duplicate",
            "9000000: in/0@7 done",
        ]
    );
}

#[test]
fn inputs_share_keys_where_the_manifest_says_so() {
    let test = "inputs_share_keys_where_the_manifest_says_so";
    let Some(play) = Play::of(test, "conform-rust", FAST) else { return };
    let manifest = play.folder.path().join("plugins/p.toml");
    let before = std::fs::read_to_string(&manifest).unwrap();
    let two = before.replace("[\"in\"]", "[\"orders\", \"payments\"]");
    let on = |topic: &str, commands: &str| json!({ "topic": topic, "key": "k", "value": "v", "headers": { "do": commands } });
    let lines = [on("orders", "put a 1"), on("payments", "get a\nput a 2"), on("orders", "get a")];
    let found = |came: &[Value]| -> Vec<String> {
        let mut all: Vec<_> =
            came.iter().flat_map(|line| line["sends"].as_array().cloned().unwrap_or_default()).collect();
        all.drain(..).map(|send| send["value"].as_str().unwrap().to_owned()).collect()
    };
    std::fs::write(&manifest, format!("{two}order.scope = \"inputs\"\n")).unwrap();
    assert_eq!(found(&played(&play, &lines)), ["get a 1", "get a 2"]);
    std::fs::write(&manifest, two).unwrap();
    let mut apart = found(&played(&play, &lines));
    apart.sort();
    assert_eq!(apart, ["get a 1", "get a null"]);
}

#[test]
fn one_message_of_a_call_traps_and_the_others_are_done() {
    let test = "one_message_of_a_call_traps_and_the_others_are_done";
    let Some(play) = Play::of(test, "fickle", FAST) else { return };
    let said = |key: &str, value: &str| json!({ "key": key, "value": value });
    let lines =
        [said("a", "done"), said("b", "panic no such cup"), said("b", "done"), said("c", "flood"), said("d", "done")];
    let came = played(&play, &lines);
    assert_eq!(
        fates(&came),
        [
            "in/0@0 done",
            "in/0@1 retry",
            "in/0@3 dead-letter oversized",
            "in/0@4 done",
            "1000: in/0@1 dead-letter trap",
            "1000: in/0@2 done"
        ]
    );
    assert!(came[1]["detail"].as_str().unwrap().contains("panic no such cup"), "{}", came[1]);
    assert_eq!((&came[1]["code"], &came[1]["again"]), (&json!("trap"), &json!(1000)));
}

#[test]
fn a_timer_that_sets_itself_comes_as_often_as_time_goes_on_for_it() {
    let test = "a_timer_that_sets_itself_comes_as_often_as_time_goes_on_for_it";
    let Some(play) = Play::of(test, "alarm", FAST) else { return };
    let lines = [
        json!({ "key": "k", "value": "again tick 1000 1000000" }),
        json!({ "key": "slow", "value": "set once 1700000002500 fail 9" }),
        json!({ "advance": "4s" }),
    ];
    let came = fates(&played(&play, &lines));
    let ticks: Vec<_> = came.iter().filter(|line| line.contains(" tick done")).collect();
    assert_eq!(ticks.len(), 4, "{came:?}");
    assert!(came.contains(&"2500: in/0@1 once retry".to_owned()), "{came:?}");
    assert!(came.contains(&"3500: in/0@1 once dead-letter attempts".to_owned()), "{came:?}");
    assert_eq!(came.last().unwrap(), "5000:  tick pending timer");
    assert_eq!(came.len(), 2 + 4 + 2 + 1, "{came:?}");
}

#[test]
fn what_differs_is_shown_and_what_is_wrong_is_named_with_its_place() {
    let test = "what_differs_is_shown_and_what_is_wrong_is_named_with_its_place";
    let Some(play) = Play::of(test, "conform-rust", FAST) else { return };
    let came = played(&play, &[message("k", "send out x")]);
    let folder = play.folder.path().join("fixtures");
    let tried = |args: &[&str]| command(&play.folder, &[&["test"], args].concat(), "");
    let expected = folder.join("s.expected.jsonl");
    std::fs::write(&expected, came[0].to_string().replace("\"x\"", "\"y\"")).unwrap();
    let (code, out, err) = tried(&[]);
    assert_eq!((code, err.as_str()), (1, "keyrail: 1 fixture, 1 failed\n"));
    assert!(out.starts_with("FAILED  fixtures/s.jsonl\n        from line 1: expected -, came +\n        - {"), "{out}");
    let (code, out, _) = tried(&["--json"]);
    let told: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &told["ok"], told["wrong"].as_array().unwrap().len()), (1, &json!(false), 3));
    std::fs::write(&expected, came[0].to_string().replace("\"x\"", "{\"contains\":\"\"}")).unwrap();
    assert_eq!(tried(&[]).0, 0);
    std::fs::remove_file(&expected).unwrap();
    let (code, out, _) = tried(&[]);
    assert!(code == 1 && out.contains("s.expected.jsonl: run with --update, and read what it wrote"), "{out}");
    for (line, told) in [
        ("{\"key\":\"k\"}", "s.jsonl:2: \"value\" is missing: a message has"),
        ("{\"key\":\"k\",\"value\":\"v\"", "s.jsonl:2:22: EOF while parsing an object\n"),
        ("{\"topic\":\"inn\",\"value\":\"v\"}", "s.jsonl:2: \"inn\" is no input of the pipeline, which reads in"),
        ("{\"advance\":\"soon\"}", "s.jsonl:2: \"soon\" is not a duration"),
    ] {
        std::fs::write(folder.join("s.jsonl"), format!("{{\"pipeline\":\"p\",\"start\":0}}\n{line}\n")).unwrap();
        let (code, out, _) = tried(&["fixtures/s.jsonl", "--update"]);
        assert!(code == 1 && out.contains(told) && !expected.exists(), "{out}");
    }
    std::fs::write(folder.join("s.jsonl"), "{\"pipeline\":\"q\"}\n").unwrap();
    let (code, out, _) = tried(&[]);
    assert!(code == 1 && out.contains("there is no pipeline \"q\" here"), "{out}");
}

#[test]
fn a_timer_that_never_lets_time_go_on_ends_in_words() {
    let test = "a_timer_that_never_lets_time_go_on_ends_in_words";
    let Some(play) = Play::of(test, "alarm", FAST) else { return };
    let folder = play.folder.path().join("fixtures");
    std::fs::create_dir_all(&folder).unwrap();
    let lines = [json!({ "key": "k", "value": "again tick 0 100000000" }), json!({ "advance": "1s" })];
    std::fs::write(folder.join("s.jsonl"), file(&lines)).unwrap();
    let (code, out, _) = command(&play.folder, &["test", "--update"], "");
    assert!(code == 1 && out.contains("more than 250000 runs and sends came of it: does a timer set itself"), "{out}");
    assert!(!folder.join("s.expected.jsonl").exists());
}

#[test]
fn retries_are_played_for_an_hour_and_what_then_waits_is_left() {
    let test = "retries_are_played_for_an_hour_and_what_then_waits_is_left";
    let Some(play) = Play::of(test, "conform-rust", FAST) else { return };
    let came =
        fates(&played(&play, &[message("k", "outage down the shop is closed"), message("k", "send out behind")]));
    assert_eq!(came.first().unwrap(), "in/0@0 retry");
    assert_eq!(came[came.len() - 3..], ["3600000: in/0@0 retry", "in/0@0 pending message", "in/0@1 pending message"]);
    assert_eq!(came.len(), 3601 + 2);
    let end = [message("k", "outage down closed"), json!({ "advance": "2h" })];
    assert_eq!(fates(&played(&play, &end)).last().unwrap(), "in/0@0 pending message");
}

/// Chance that is the same each time.
fn draw(seed: &mut u64, below: u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*seed >> 33) % below
}

#[test]
fn a_scenario_comes_to_what_a_running_pipeline_comes_to() {
    const COUNT: usize = 1_000;
    let test = "a_scenario_comes_to_what_a_running_pipeline_comes_to";
    let tables = "retry = { attempts = 3, backoff = { first = \"5ms\", max = \"5ms\" } }\n";
    let Some(mut play) = Play::of(test, "tally", tables) else { return };
    let mut seed = 7;
    let messages: Vec<(String, String)> = (0..COUNT)
        .map(|n| {
            let says = ["plain", "fail 1", "fail 2", "fail 9", "forget"][draw(&mut seed, 5) as usize];
            (format!("k{}", draw(&mut seed, 40)), format!("{says} {n}"))
        })
        .collect();
    let lines: Vec<Value> = messages.iter().map(|(key, value)| json!({ "key": key, "value": value })).collect();
    let (mut outputs, mut letters) = (BTreeMap::<_, Vec<_>>::new(), BTreeMap::<_, Vec<_>>::new());
    let values: Vec<&String> = messages.iter().map(|(_, value)| value).collect();
    for line in played(&play, &lines) {
        let key = line["key"].as_str().unwrap().to_owned();
        for send in line["sends"].as_array().into_iter().flatten() {
            outputs.entry(key.clone()).or_default().push(send["value"].as_str().unwrap().to_owned());
        }
        if line["outcome"] == "dead-letter" {
            let offset: usize = line["message"].as_str().unwrap().rsplit('@').next().unwrap().parse().unwrap();
            letters.entry(key).or_default().push(values[offset].clone());
        }
    }
    let child = play.start();
    play.send_plain(beside(&play.folder, &child).as_mut(), &messages);
    play.settle(child);
    let mut client = play.client();
    assert_eq!(by_key(client.as_mut(), "out"), outputs);
    assert_eq!(by_key(client.as_mut(), "p.in.dlq"), letters);
    assert!(outputs.len() == 40 && letters.values().map(Vec::len).sum::<usize>() > 100);
}
