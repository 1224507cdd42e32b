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

/// Gives how many messages were uncommitted when it died.
fn kill(play: &Play, mut child: Child, at_most: usize) -> usize {
    let until = Instant::now() + LIMIT;
    let mut client = beside(&play.folder, &child);
    while play.uncommitted(client.as_mut()) > at_most {
        assert!(Instant::now() < until);
        std::thread::sleep(Duration::from_millis(1));
    }
    drop(client);
    child.kill().unwrap();
    child.wait().unwrap();
    play.uncommitted(play.client().as_mut())
}

fn play(test: &str, guarantee: &str) -> Option<Play> {
    // Tables stand behind it.
    let tables = format!("guarantee = \"{guarantee}\"\n[dedup]\nid = \"digest\"\n[retry.backoff]\nfirst = \"1ms\"\n");
    Play::new(test, &tables)
}

/// Ends of every kind, and what was sent before is sent again after each. Gives how many messages were uncommitted at its
/// deaths, and what of the outputs and of the letters had come twice before the end in good order.
fn ends_of_every_kind(play: &mut Play) -> (usize, (usize, usize)) {
    let child = play.start();
    let mut client = beside(&play.folder, &child);
    play.send(client.as_mut(), &mixed(0, MESSAGES, KEYS));
    drop(client);
    // Killed in the midst of it.
    let first = kill(play, child, MESSAGES / 2);
    let child = play.start();
    send_again(play, &child, 0, MESSAGES);
    // Killed in the midst of the repeats.
    let second = kill(play, child, MESSAGES / 2);
    let child = play.start();
    play.settle(child);
    let before = play.judge(play.client().as_mut());
    // Stopped in good order.
    let child = play.start();
    send_again(play, &child, 0, MESSAGES);
    play.settle(child);
    // What is not in the broker is gone.
    let store = play.folder.path().join("state");
    assert!(store.is_dir(), "the folder has another name");
    std::fs::remove_dir_all(store).unwrap();
    let child = play.start();
    send_again(play, &child, MESSAGES / 2, MESSAGES);
    let mut client = beside(&play.folder, &child);
    play.send(client.as_mut(), &mixed(MESSAGES, MESSAGES + 500, KEYS));
    drop(client);
    play.settle(child);
    (first + second, before)
}

#[test]
fn what_is_sent_again_after_any_end_of_the_process_has_no_effect() {
    let test = "what_is_sent_again_after_any_end_of_the_process_has_no_effect";
    let Some(mut play) = play(test, "exactly-once") else { return };
    ends_of_every_kind(&mut play);
    assert_eq!(play.judge(play.client().as_mut()), (0, 0), "what was sent twice had its effects twice");
}

#[test]
fn with_at_least_once_what_was_committed_before_any_end_of_the_process_has_no_effect_again() {
    let test = "with_at_least_once_what_was_committed_before_any_end_of_the_process_has_no_effect_again";
    let Some(mut play) = play(test, "at-least-once") else { return };
    let (uncommitted, before) = ends_of_every_kind(&mut play);
    assert!(before.0 + before.1 <= uncommitted, "{before:?} repeats, and {uncommitted} messages were uncommitted");
    assert_eq!(play.judge(play.client().as_mut()), before, "what was committed and sent again had its effects again");
}
