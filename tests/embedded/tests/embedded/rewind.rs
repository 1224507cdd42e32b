//! `keyrail rewind`: a group is moved while nobody runs it, and what was seen is kept or forgotten.

use crate::commands::run;
use crate::play::{Play, mixed};
use crate::run::{PARTITIONS, beside, by_key};
use crate::state::Counting;
use crate::support::{WAIT, at};
use keyrail::broker::OffsetCommit;
use std::time::Instant;

const MESSAGES: usize = 400;
const KEYS: usize = 20;

/// All are handled once, and the process is gone.
fn played(test: &str, tables: &str) -> Option<Play> {
    let mut play = Play::new(test, tables)?;
    let child = play.start();
    let mut client = beside(&play.folder, &child);
    play.send(client.as_mut(), &mixed(0, MESSAGES, KEYS));
    // It has joined once it commits.
    let until = Instant::now() + WAIT;
    while play.uncommitted(client.as_mut()) == MESSAGES {
        assert!(Instant::now() < until, "nothing is committed");
    }
    let (code, _, err) = run(&play.folder, &["rewind", "p", "--to", "earliest", "--seen", "forget"], "");
    assert!(code == 1 && err.contains("the group \"p\" has members: stop every process"), "{code} {err}");
    drop(client);
    play.settle(child);
    assert_eq!(play.judge(play.client().as_mut()), (0, 0));
    Some(play)
}

/// How many outputs and dead letters came again.
fn again(play: &Play) -> (usize, usize) {
    play.settle(play.start());
    play.judge(play.client().as_mut())
}

#[test]
fn what_was_seen_is_not_done_again_unless_it_is_forgotten() {
    let tables = "[dedup]\nid = \"digest\"\n";
    let test = "what_was_seen_is_not_done_again_unless_it_is_forgotten";
    let Some(play) = played(test, tables) else { return };
    let rewind = |args: &[&str]| run(&play.folder, &[&["rewind", "p", "--to", "earliest"], args].concat(), "");
    let (code, out, err) = rewind(&[]);
    assert!(code == 2 && out.is_empty() && err.contains("say --seen keep"), "{code} {err}");
    let (code, out, err) = rewind(&["--seen", "forget", "--dry-run"]);
    assert!(code == 0 && out.ends_with("nothing was moved: --dry-run\n"), "{out}{err}");
    assert_eq!(again(&play), (0, 0), "a dry run moved it");
    let (code, out, err) = rewind(&["--seen", "keep", "--json"]);
    assert!(code == 0 && out.contains("\"moved\":true,\"forgot\":false,") && out.contains("\"to\":0"), "{out}{err}");
    assert_eq!(again(&play), (0, 0), "what was seen was done again");
    let (code, out, err) = rewind(&["--seen", "forget"]);
    assert!(code == 0 && out.contains("its seen ids are forgotten"), "{out}{err}");
    let (outputs, letters) = again(&play);
    assert_eq!(outputs + letters, MESSAGES, "each is done once more: {outputs} outputs, {letters} letters");
    // What it has seen since then, it remembers.
    let (code, ..) = rewind(&["--seen", "keep"]);
    assert_eq!((code, again(&play)), (0, (outputs, letters)));
}

#[test]
fn without_ids_what_is_moved_back_is_done_again() {
    let Some(play) = played_without_ids("without_ids_what_is_moved_back_is_done_again") else { return };
    let (code, _, err) = run(&play.folder, &["rewind", "p", "--to", "earliest", "--seen", "keep"], "");
    assert!(code == 2 && err.contains("p keeps no ids"), "{code} {err}");
    let (code, _, err) = run(&play.folder, &["rewind", "q", "--to", "earliest"], "");
    assert!(code == 2 && err.contains("there is no pipeline \"q\""), "{code} {err}");
    let (code, _, err) = run(&play.folder, &["rewind", "p", "--to", "earliest", "--topic", "im"], "");
    assert!(code == 2 && err.contains("\"im\" is no input of p"), "{code} {err}");
    let (code, out, err) = run(&play.folder, &["rewind", "p", "--to", "-1"], "");
    assert!(code == 0 && out.ends_with("moved; it goes on from there at its next start\n"), "{out}{err}");
    let (outputs, letters) = again(&play);
    assert_eq!(outputs + letters, 4, "the last one of each partition");
}

#[test]
fn state_is_kept_and_changed_once_more_or_forgotten() {
    let test = "state_is_kept_and_changed_once_more_or_forgotten";
    let Some(mut counting) = Counting::new(test, "") else { return };
    let child = counting.play.start();
    counting.say(&child, "k", &["a", "b"]);
    counting.say(&child, "l", &["a"]);
    counting.play.settle(child);
    let rewind = |counting: &Counting, args: &[&str]| {
        run(&counting.play.folder, &[&["rewind", "p", "--to", "earliest"], args].concat(), "")
    };
    let told = |counting: &Counting| by_key(counting.play.client().as_mut(), "out").remove("k").unwrap().join(" ");
    let (code, out, err) = rewind(&counting, &[]);
    assert!(code == 2 && out.is_empty() && err.contains("p has state: say --state keep"), "{code} {err}");
    let (code, out, err) = rewind(&counting, &["--state", "keep"]);
    assert!(code == 0 && out.ends_with("moved; it goes on from there at its next start\n"), "{out}{err}");
    counting.play.settle(counting.play.start());
    assert_eq!(told(&counting), "1 a 2 b 3 a 4 b");
    let (code, out, err) = rewind(&counting, &["--state", "forget"]);
    assert!(code == 0 && out.contains("moved, and its state is forgotten"), "{out}{err}");
    counting.play.settle(counting.play.start());
    assert_eq!(told(&counting), "1 a 2 b 3 a 4 b 1 a 2 b");
}

#[test]
fn a_group_that_somebody_moved_waits_for_somebody_to_say_what_becomes_of_its_state() {
    let test = "a_group_that_somebody_moved_waits_for_somebody_to_say_what_becomes_of_its_state";
    let Some(mut counting) = Counting::new(test, "") else { return };
    let child = counting.play.start();
    counting.say(&child, "k", &["a", "b"]);
    counting.play.settle(child);
    let moved = |metadata: &str| {
        let offset = |partition| OffsetCommit { at: at(0, partition), offset: 0, metadata: metadata.to_owned() };
        let offsets: Vec<OffsetCommit> = (0..PARTITIONS).map(offset).collect();
        counting.play.client().commit("p", &["in".to_owned()], &offsets).unwrap();
    };
    let told = || by_key(counting.play.client().as_mut(), "out").remove("k").unwrap().join(" ");
    for metadata in ["", "moved by hand"] {
        moved(metadata);
        let (code, out, err) = run(&counting.play.folder, &["run"], "");
        let log = format!("{out}{err}");
        assert_eq!(code, 1, "{log}");
        for word in ["was put down by another tool", "p.in.state holds", "keyrail rewind p --to here --state keep"] {
            assert!(log.contains(word), "nothing of {word:?}\n{log}");
        }
    }
    assert_eq!(told(), "1 a 2 b", "it ran");
    let rewind = |what| run(&counting.play.folder, &["rewind", "p", "--to", "here", "--state", what], "");
    let (code, out, err) = rewind("keep");
    assert!(code == 0 && out.ends_with("taken as it is; it goes on from there at its next start\n"), "{out}{err}");
    counting.play.settle(counting.play.start());
    assert_eq!(told(), "1 a 2 b 3 a 4 b");
    // Where it is already, nothing runs again.
    let (code, out, err) = rewind("forget");
    assert!(code == 0 && out.contains("taken as it is, and its state is forgotten"), "{out}{err}");
    counting.play.settle(counting.play.start());
    assert_eq!(told(), "1 a 2 b 3 a 4 b");
}

fn played_without_ids(test: &str) -> Option<Play> {
    let mut play = Play::new(test, "")?;
    let child = play.start();
    let mut client = beside(&play.folder, &child);
    play.send(client.as_mut(), &mixed(0, MESSAGES, KEYS));
    drop(client);
    play.settle(child);
    Some(play)
}
