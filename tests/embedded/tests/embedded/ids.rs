//! Messages that are sent twice, with an end of the process in between.

use crate::play::{Play, mixed};
use crate::run::beside;
use std::process::Child;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(60);
const MESSAGES: usize = 3_000;
const KEYS: usize = 100;

/// Sends what was sent before. Nothing may come of it.
fn send_again(play: &mut Play, child: &Child, from: usize, to: usize) {
    let expected = play.expected();
    let mut client = beside(&play.folder, child);
    play.send(client.as_mut(), &mixed(from, to, KEYS));
    play.expect(expected);
}

fn kill(play: &Play, mut child: Child, at_most: usize) {
    let until = Instant::now() + LIMIT;
    let mut client = beside(&play.folder, &child);
    while play.uncommitted(client.as_mut()) > at_most {
        assert!(Instant::now() < until);
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

fn play(test: &str, guarantee: &str) -> Option<Play> {
    // Tables stand behind it.
    let tables = format!("guarantee = \"{guarantee}\"\n[dedup]\nid = \"digest\"\n[retry.backoff]\nfirst = \"1ms\"\n");
    Play::new(test, &tables)
}

#[test]
fn what_is_sent_again_after_any_end_of_the_process_has_no_effect() {
    let test = "what_is_sent_again_after_any_end_of_the_process_has_no_effect";
    let Some(mut play) = play(test, "exactly-once") else { return };
    let child = play.start();
    let mut client = beside(&play.folder, &child);
    play.send(client.as_mut(), &mixed(0, MESSAGES, KEYS));
    drop(client);
    // Killed in the midst of it.
    kill(&play, child, MESSAGES / 2);
    let child = play.start();
    send_again(&mut play, &child, 0, MESSAGES);
    // Killed in the midst of the repeats.
    kill(&play, child, MESSAGES / 2);
    let child = play.start();
    play.settle(child);
    // Stopped in good order.
    let child = play.start();
    send_again(&mut play, &child, 0, MESSAGES);
    play.settle(child);
    // What is not in the broker is gone.
    let store = play.folder.path().join("state");
    assert!(store.is_dir(), "the folder has another name");
    std::fs::remove_dir_all(store).unwrap();
    let child = play.start();
    send_again(&mut play, &child, MESSAGES / 2, MESSAGES);
    let mut client = beside(&play.folder, &child);
    play.send(client.as_mut(), &mixed(MESSAGES, MESSAGES + 500, KEYS));
    drop(client);
    play.settle(child);
    assert_eq!(play.judge(play.client().as_mut()), (0, 0), "what was sent twice had its effects twice");
}

#[test]
fn with_at_least_once_ids_are_in_memory_alone() {
    let Some(mut play) = play("with_at_least_once_ids_are_in_memory_alone", "at-least-once") else { return };
    let child = play.start();
    let mut client = beside(&play.folder, &child);
    play.send(client.as_mut(), &mixed(0, 500, KEYS));
    drop(client);
    send_again(&mut play, &child, 0, 500);
    play.settle(child);
    assert_eq!(play.judge(play.client().as_mut()), (0, 0));
    let topics = play.client().topics().unwrap();
    assert!(!topics.iter().any(|topic| topic.name.ends_with(".seen")), "a topic that nobody writes to: {topics:?}");
}
