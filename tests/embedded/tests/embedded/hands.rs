//! Hands from outside: what is parked, or held, is retried or dropped while the pipeline runs, and by its owner alone.

use crate::commands::run;
use crate::parked::{of_key, parked};
use crate::play::Play;
use crate::run::{PARTITIONS, beside, guests};
use crate::state::Counting;
use crate::support::{all, text, until};
use keyrail::broker::client::Client;
use std::time::Duration;

const HOLD: &str = "commit.interval = \"20ms\"\nbreaker = { failures = 0 }\n\
     retry = { attempts = 2, in-place = \"0s\", then = \"hold\", backoff = { first = \"20ms\", max = \"20ms\" } }\n";

/// Where the message of this value was first read, as the command takes it.
fn place(client: &mut dyn Client, value: &str) -> String {
    let found = all(client, "in", PARTITIONS).into_iter().find(|r| text(r.value()) == value).unwrap();
    format!("{}:{}", found.at.partition, found.offset)
}

fn messages(all: &[(&str, &str)]) -> Vec<(String, String)> {
    all.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// Runs a command until what it is about is no more under way.
fn act(play: &Play, deed: &str, place: &str) -> (i32, String, String) {
    let mut last = (0, String::new(), String::new());
    until("an answer", || {
        last = run(&play.folder, &["parked", deed, "p", place], "");
        !last.1.contains("try again")
    });
    last
}

#[test]
fn what_is_held_is_retried_by_hand_once_the_handler_is_mended_and_what_is_dropped_never_runs() {
    let test = "what_is_held_is_retried_by_hand_once_the_handler_is_mended_and_what_is_dropped_never_runs";
    let Some(mended) = guests(test) else { return };
    let Some(mut counting) = Counting::new_with(test, HOLD) else { return };
    let play = &mut counting.play;
    let mut child = play.start();
    let mut client = beside(&play.folder, &child);
    let sent = [("bad", "fail 9 a"), ("bad", "b"), ("worse", "fail 9 c"), ("good", "x"), ("worse", "d"), ("bad", "e")];
    play.send_plain(client.as_mut(), &messages(&sent));
    until("all is read", || play.uncommitted(client.as_mut()) == 0);
    // Two attempts are over long ago.
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(parked(client.as_mut()), 5);
    assert_eq!(of_key(client.as_mut(), "good"), ["1 x"]);
    let (a, b, c) =
        (place(client.as_mut(), "fail 9 a"), place(client.as_mut(), "b"), place(client.as_mut(), "fail 9 c"));
    // What is dropped makes room for what is behind it.
    let (code, out, err) = act(play, "drop", &c);
    assert!(code == 0 && out.contains("done"), "{out}{err}");
    until("what is behind it", || of_key(client.as_mut(), "worse") == ["1 d"]);
    // A follower has to wait, and what is not there is not there.
    let (code, out, _) = act(play, "retry", &b);
    assert!(code == 1 && out.contains("waits before it"), "{out}");
    let (code, out, _) = act(play, "drop", &c);
    assert!(code == 1 && out.contains("not parked"), "{out}");
    // It fails again as before, and is held again: all its attempts are anew.
    let (code, out, err) = act(play, "retry", &a);
    assert!(code == 0 && out.contains("done"), "{out}{err}");
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!((parked(client.as_mut()), of_key(client.as_mut(), "bad").len()), (3, 0));
    std::fs::copy(mended.join("identity.wasm"), play.folder.path().join("plugins/p.wasm")).unwrap();
    until("the mended handler does it", || {
        let _answer = act(play, "retry", &a);
        parked(client.as_mut()) == 0
    });
    assert_eq!(of_key(client.as_mut(), "bad"), ["fail 9 a", "b", "e"]);
    drop(client);
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}

#[test]
fn commands_outlive_the_process_that_read_them_and_are_obeyed_once() {
    let test = "commands_outlive_the_process_that_read_them_and_are_obeyed_once";
    let Some(mut counting) = Counting::new_with(test, HOLD) else { return };
    let play = &mut counting.play;
    let mut child = play.start();
    let mut client = beside(&play.folder, &child);
    let keys: Vec<String> = (0..40).map(|n| format!("k{n}")).collect();
    let sent: Vec<(String, String)> = keys
        .iter()
        .flat_map(|key| [(key.clone(), format!("fail 9 {key}")), (key.clone(), format!("after {key}"))])
        .collect();
    play.send_plain(client.as_mut(), &sent);
    until("all is parked", || play.uncommitted(client.as_mut()) == 0 && parked(client.as_mut()) == 80);
    let mut places: Vec<String> = keys.iter().map(|key| place(client.as_mut(), &format!("fail 9 {key}"))).collect();
    let mut dropped = 0;
    while !places.is_empty() {
        let some = places.split_off(places.len().saturating_sub(8));
        let mut command = crate::commands::command(&play.folder, &["parked", "drop", "p"]);
        command.args(&some).args(["--wait", "1"]);
        let command = command.spawn().unwrap();
        // At any moment, with what is obeyed and not committed.
        std::thread::sleep(Duration::from_millis(dropped as u64 * 13 % 120));
        drop(client);
        child.kill().unwrap();
        child.wait().unwrap();
        // The command may have found nobody to write to; then it is given again.
        let _answered = command.wait_with_output().unwrap();
        child = play.start();
        client = beside(&play.folder, &child);
        let mut args = vec!["parked", "drop", "p"];
        args.extend(some.iter().map(String::as_str));
        let (_, out, err) = run(&play.folder, &args, "");
        assert_eq!(
            out.lines().filter(|line| line.contains("done") || line.contains("not parked")).count(),
            8,
            "{out}{err}"
        );
        dropped += 8;
        until("what was behind them", || parked(client.as_mut()) == 80 - 2 * dropped);
    }
    for key in &keys {
        assert_eq!(of_key(client.as_mut(), key), [format!("1 after {key}")]);
    }
    drop(client);
    play.settle(child);
}

#[test]
fn wrong_places_and_pipelines_that_park_nothing_are_told() {
    let test = "wrong_places_and_pipelines_that_park_nothing_are_told";
    let Some(counting) = Counting::new_with(test, "guarantee = \"at-least-once\"\n") else { return };
    let (code, _, err) = run(&counting.play.folder, &["parked", "drop", "p", "0:1"], "");
    assert!(code == 2 && err.contains("parks nothing"), "{err}");
    let Some(counting) = Counting::new_with(test, HOLD) else { return };
    let folder = &counting.play.folder;
    for (place, why) in
        [("0", "is no place"), ("0:x", "has no offset"), ("x:1", "has no partition"), ("no:0:1", "is no input")]
    {
        let (code, _, err) = run(folder, &["parked", "drop", "p", place], "");
        assert!(code == 2 && err.contains(why), "{place}: {err}");
    }
    let (code, _, err) = run(folder, &["parked", "drop", "q", "0:1"], "");
    assert!(code == 2 && err.contains("there is no pipeline"), "{err}");
    // Nobody runs it: the command waits in the inbox.
    let (code, out, err) = run(folder, &["parked", "drop", "p", "0:1", "--wait", "0"], "");
    assert!(code == 1 && out.contains("unanswered") && err.contains("is p running?"), "{out}{err}");
}

/// As the messages that they were: not as duplicates of themselves.
#[test]
fn dead_letters_go_back_to_their_lanes_and_run_again_once() {
    let test = "dead_letters_go_back_to_their_lanes_and_run_again_once";
    let tables = "commit.interval = \"20ms\"\ndedup = { id = \"key\", window = \"1h\" }\n\
         retry = { attempts = 2, in-place = \"0s\", backoff = { first = \"20ms\", max = \"20ms\" } }\n";
    let Some(mended) = guests(test) else { return };
    let Some(mut counting) = Counting::new_with(test, tables) else { return };
    let play = &mut counting.play;
    let mut child = play.start();
    let mut client = beside(&play.folder, &child);
    let sent: Vec<(String, String)> = (0..30).map(|n| (format!("k{n}"), format!("fail 9 {n}"))).collect();
    play.send_plain(client.as_mut(), &sent);
    until("all are dead letters", || play.letters(client.as_mut()).len() == 30);
    let (code, _, err) = run(&play.folder, &["dlq", "redrive", "p", "--yes"], "");
    assert!(code == 1 && err.contains("--lane"), "{err}");
    std::fs::copy(mended.join("identity.wasm"), play.folder.path().join("plugins/p.wasm")).unwrap();
    // Until the mended one serves, what comes back dies again.
    until("all are done", || {
        let (_, out, err) =
            run(&play.folder, &["dlq", "redrive", "p", "--lane", "--yes", "--max-redrives", "1000"], "");
        assert!(err.contains("letters back to their lanes") || err.contains("no such letter"), "{out}{err}");
        all(client.as_mut(), "out", PARTITIONS).len() >= 30 && parked(client.as_mut()) == 0
    });
    for (key, value) in &sent {
        assert_eq!(of_key(client.as_mut(), key), [value.as_str()], "once");
    }
    let (code, _, err) = run(&play.folder, &["dlq", "redrive", "p", "--lane", "--yes"], "");
    assert!(code == 0 && err.contains("no such letter"), "{err}");
    drop(client);
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}

#[test]
fn keys_are_chosen_by_what_is_known_of_them_and_counted_before_anything_is_done() {
    let test = "keys_are_chosen_by_what_is_known_of_them_and_counted_before_anything_is_done";
    let Some(mut counting) = Counting::new_with(test, HOLD) else { return };
    let play = &mut counting.play;
    let mut child = play.start();
    let mut client = beside(&play.folder, &child);
    let keys: Vec<String> = (0..30).map(|n| format!("k{n}")).collect();
    let each = |key: &String| ["fail 9 ", "b ", "c "].map(|what| (key.clone(), format!("{what}{key}")));
    play.send_plain(client.as_mut(), &keys.iter().flat_map(each).collect::<Vec<_>>());
    let held = |play: &Play| {
        let (_, out, _) = run(&play.folder, &["parked", "list", "p", "--held", "--json"], "");
        out.matches("\"held\":true").count()
    };
    until("all are held", || held(play) == 30);
    for (args, words) in [
        (&["--held"][..], "--yes"),
        (&[][..], "MESSAGE"),
        (&["0:1", "--held"][..], "cannot be used with"),
        (&["--code", "scripted", "--topic", "nowhere", "--yes"][..], "is no input of p"),
    ] {
        let (code, _, err) = run(&play.folder, &[&["parked", "retry", "p"][..], args].concat(), "");
        assert!(code == 2 && err.contains(words), "{args:?}: {code} {err}");
    }
    let (code, out, err) = run(&play.folder, &["parked", "retry", "p", "--older", "0s", "--dry-run"], "");
    assert!(
        code == 0 && out.contains("30") && out.contains("90") && err.contains("it would be 30 messages"),
        "{out}{err}"
    );
    let (code, _, err) = run(&play.folder, &["parked", "retry", "p", "--code", "none", "--yes"], "");
    assert!(code == 0 && err.contains("nothing that waits is chosen"), "{err}");
    assert_eq!(parked(client.as_mut()), 90);
    let both = ["--key", "k1", "--key", "k2"];
    let args = [&["parked", "drop", "p"][..], &both, &["--followers", "--yes", "--json"]].concat();
    let (code, out, err) = run(&play.folder, &args, "");
    assert!(code == 0 && out.contains("\"messages\":6,\"done\":6,\"gone\":0"), "{out}{err}");
    assert!(err.contains("audit: {\"action\":\"drop\""), "{err}");
    assert_eq!(parked(client.as_mut()), 84);
    // What was dropped with all behind it has left nothing; the others' followers run.
    let (code, _, err) = run(&play.folder, &["parked", "drop", "p", "--all", "--yes", "--rate", "100"], "");
    assert!(code == 0 && err.contains("dropped: 28 messages, 0 gone before, 0 refused"), "{err}");
    until("what was behind them", || parked(client.as_mut()) == 0);
    for key in &keys {
        let wanted = if ["k1", "k2"].contains(&key.as_str()) {
            Vec::new()
        } else {
            vec![format!("1 b {key}"), format!("2 c {key}")]
        };
        assert_eq!(of_key(client.as_mut(), key), wanted, "{key}");
    }
    drop(client);
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}
