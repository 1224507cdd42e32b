//! What a pipeline promises, on the embedded broker: the same cases as on Kafka.

use crate::commands::command;
use crate::play::{Play, mixed};
use crate::run::beside;
use crate::support::text;
use std::process::Command;
use std::time::{Duration, Instant};

type Message = (String, &'static str, String);

fn message(key: &str, command: &'static str, id: impl ToString) -> Message {
    (key.to_owned(), command, id.to_string())
}

#[test]
fn failing_keys_keep_their_order_and_hold_up_no_other() {
    let tables = "[retry]\nattempts = 4\nbackoff = { first = \"200ms\", factor = 1.0, max = \"200ms\", jitter = 0.0 }";
    let Some(mut play) = Play::new("failing_keys_keep_their_order_and_hold_up_no_other", tables) else { return };
    let mut messages = Vec::new();
    for n in 0..5 {
        for key in 0..200 {
            let command = match key {
                0..10 => "fail-times:3",
                10 => "retry",
                _ => "done",
            };
            messages.push(message(&format!("k{key}"), command, format!("k{key}-{n}")));
        }
    }
    play.send(play.client().as_mut(), &messages);
    let began = Instant::now();
    play.settle(play.start());
    // Three waits of each of five messages, one after the other.
    assert!(began.elapsed() > Duration::from_secs(3), "the waits between attempts were not kept");
    let mut client = play.client();
    assert_eq!(play.judge(client.as_mut()), (0, 0));
    for letter in play.letters(client.as_mut()) {
        let told = |name: &str| text(letter.header(format!("keyrail-{name}").as_bytes()).flatten()).to_owned();
        let ours = (told("reason"), told("attempts"), told("code"), told("topic"), told("group"));
        let expected = ("attempts", "4", "scripted", "in", "p");
        assert_eq!((ours.0.as_str(), ours.1.as_str(), ours.2.as_str(), ours.3.as_str(), ours.4.as_str()), expected);
        assert!(told("handler").starts_with("p@") && told("offset").parse::<i64>().is_ok());
    }
}

#[test]
fn traps_and_time_outs_cost_their_own_message_and_no_other() {
    let tables = "[retry]\nattempts = 2\nbackoff = { first = \"20ms\" }\n[limits]\ntimeout = \"300ms\"\n[batch]\nmax-time = \"1s\"";
    let Some(mut play) = Play::new("traps_and_time_outs_cost_their_own_message_and_no_other", tables) else { return };
    let command = |n: usize| match n {
        40 | 41 | 130 => "trap",
        160 => "trap-times:1",
        _ => "done",
    };
    let messages: Vec<_> = (0..300).map(|n| message(&format!("k{}", n % 30), command(n), format!("m{n}"))).collect();
    play.send(play.client().as_mut(), &messages);
    play.settle(play.start());
    let mut client = play.client();
    assert_eq!(play.judge(client.as_mut()), (0, 0));
    let letters = play.letters(client.as_mut());
    assert_eq!(letters.len(), 3);
    for letter in letters {
        assert_eq!(text(letter.header(b"keyrail-reason").flatten()), "trap");
        assert!(
            text(letter.header(b"keyrail-detail").flatten()).contains("panic: scripted"),
            "the handler's own words"
        );
    }
}

#[test]
fn duplicates_are_suppressed_within_their_key() {
    let tables = "[dedup]\nid = \"digest\"\n[retry]\nbackoff = { first = \"20ms\" }";
    let Some(mut play) = Play::new("duplicates_are_suppressed_within_their_key", tables) else { return };
    let command = |n: usize| if n.is_multiple_of(50) { "fail-times:2" } else { "done" };
    let messages: Vec<_> = (0..1_000).map(|n| message(&format!("k{}", n % 20), command(n), format!("m{n}"))).collect();
    let mut client = play.client();
    play.send(client.as_mut(), &messages);
    drop(client);
    let expected = play.expected();
    // The producer sends all of it again, and again: nothing more may come of it.
    let mut client = play.client();
    for _ in 0..2 {
        play.send(client.as_mut(), &messages);
    }
    drop(client);
    play.expect(expected);
    play.settle(play.start());
    assert_eq!(play.judge(play.client().as_mut()), (0, 0));
}

#[test]
fn stops_in_the_midst_of_the_work_repeat_nothing() {
    let tables = "retry.backoff = { first = \"20ms\", max = \"20ms\" }\n";
    let Some(mut play) = Play::new("stops_in_the_midst_of_the_work_repeat_nothing", tables) else { return };
    play.send(play.client().as_mut(), &mixed(0, 20_000, 100));
    for wait in [300, 500, 700] {
        let mut child = play.start();
        std::thread::sleep(Duration::from_millis(wait));
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success());
    }
    play.settle(play.start());
    assert_eq!(play.judge(play.client().as_mut()), (0, 0));
}

#[test]
fn what_no_output_takes_is_dead_lettered_and_nothing_else_is_held_up() {
    let tables = "[retry]\nattempts = 1";
    let Some(mut play) = Play::new("what_no_output_takes_is_dead_lettered_and_nothing_else_is_held_up", tables) else {
        return;
    };
    let command = |n: usize| if n == 77 { "unknown-output" } else { "done" };
    let messages: Vec<_> = (0..200).map(|n| message(&format!("k{}", n % 20), command(n), format!("m{n}"))).collect();
    play.send(play.client().as_mut(), &messages);
    play.settle(play.start());
    let mut client = play.client();
    assert_eq!(play.judge(client.as_mut()), (0, 0));
    let letters = play.letters(client.as_mut());
    assert_eq!(letters.len(), 1);
    let detail = text(letters[0].header(b"keyrail-detail").flatten()).to_owned();
    assert!(detail.ends_with("; asked for \"nowhere\", the manifest names out"), "{detail}");
}

/// One line a second at most says where they stand and why, and how many it stands for; none says what they hold.
#[test]
fn dead_letters_are_told_in_the_log_without_a_flood_and_without_what_they_hold() {
    const LETTERS: usize = 300;
    let test = "dead_letters_are_told_in_the_log_without_a_flood_and_without_what_they_hold";
    let Some(mut play) = Play::new(test, "") else { return };
    let messages: Vec<_> =
        (0..LETTERS).map(|n| message(&format!("key-{n}"), "dead-letter", format!("secret-{n}"))).collect();
    play.send(play.client().as_mut(), &messages);
    let began = Instant::now();
    let child = command(&play.folder, &["run"]).spawn().unwrap();
    let mut client = beside(&play.folder, &child);
    while play.uncommitted(client.as_mut()) > 0 {
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "{} messages are not committed",
            play.uncommitted(client.as_mut())
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(Command::new("kill").arg("-INT").arg(child.id().to_string()).status().unwrap().success());
    let done = child.wait_with_output().unwrap();
    let log = String::from_utf8(done.stderr).unwrap();
    assert_eq!(done.status.code(), Some(0), "{log}");
    let told: Vec<&str> = log.lines().filter(|line| line.contains("\"a message is a dead letter\"")).collect();
    assert!(!told.is_empty() && told.len() as u64 <= began.elapsed().as_secs() + 2, "{log}");
    let not_shown = |line: &str| {
        let number = line.split_once("\"not_shown\":").and_then(|(_, rest)| rest.split([',', '}']).next());
        number.map_or(0, |number| number.parse::<usize>().unwrap())
    };
    assert_eq!(told.iter().map(|line| 1 + not_shown(line)).sum::<usize>(), LETTERS, "{log}");
    let says = "\"level\":\"WARN\",\"message\":\"a message is a dead letter\",\"pipeline\":\"p\",\"topic\":\"in\",\"partition\":";
    let why = "\"reason\":\"rejected\",\"code\":\"scripted\",\"attempts\":1";
    assert!(told.iter().all(|line| line.contains(says) && line.contains(why) && line.contains("\"offset\":")), "{log}");
    assert!(!log.contains("secret-") && !log.contains("key-"), "{log}");
}
