#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use super::*;
use crate::admin::metrics::{Fate, Metrics};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

fn found(stands: Stands) -> Found {
    let (manifest, handler, digest, runs, refused, pause, trial, rolled_back) = Default::default();
    Found { stands, manifest, handler, digest, runs, refused, pause, trial, rolled_back }
}

/// A board with these pipelines, none of which runs, and somebody who answers.
pub(crate) fn board(names: &[&str], answers: fn(&str, Action) -> Answer) -> Board {
    let board = Board::default();
    board.show(names.iter().map(|name| ((*name).to_owned(), found(Stands::Runs))).collect());
    let asked = board.clone();
    board.attend(move || {
        let asked = asked.clone();
        // Whoever asks holds the lock meanwhile.
        drop(std::thread::spawn(move || {
            while let Some(Asked { pipeline, action, answer }) = asked.asked() {
                answer(answers(&pipeline, action));
            }
        }));
    });
    board
}

fn shown(board: &Board, health: &Health, found: Found) -> Entry {
    board.show(BTreeMap::from([("p".to_owned(), found)]));
    board.entry("p", health).unwrap()
}

fn refused(why: &str) -> Option<String> {
    Some(why.to_owned())
}

#[test]
fn how_it_stands_is_told_with_the_reason_that_whoever_probes_hears() {
    let (board, health) = (Board::default(), Health::new());
    let told = |board: &Board, found: Found| {
        let entry = shown(board, &health, found);
        (entry.state, entry.detail)
    };
    assert_eq!(told(&board, found(Stands::Runs)), (State::Active, None));
    health.pipeline("p").set(Stand::NotReady("no broker answers".to_owned()));
    let why = Some("no broker answers".to_owned());
    assert_eq!(told(&board, found(Stands::Runs)), (State::Waiting, why.clone()));
    assert_eq!(told(&board, found(Stands::Failed)), (State::Failed, why));
    assert_eq!(told(&board, found(Stands::Drains)), (State::Draining, None));
    let rejected = Found { refused: refused("no handler"), ..found(Stands::Rejected) };
    assert_eq!(told(&board, rejected), (State::Rejected, Some("no handler".to_owned())));
    let paused = Found { pause: Some(Pause::by_policy(5, "it broke")), ..found(Stands::Rests) };
    assert_eq!(told(&board, paused), (State::Paused, Some("it broke".to_owned())));
    let manifest = crate::config::for_tests("p", "handler = \"h.wasm\"\ninput = [\"in\"]\n");
    board.starts([manifest].iter());
    assert_eq!(board.entry("p", &health).map(|entry| entry.state), Some(State::Waiting), "before there is a fleet");
    board.show(BTreeMap::new());
    assert_eq!(board.entries(&health), []);
    board.loads("new", "abc");
    assert_eq!(board.entry("new", &health).map(|entry| entry.state), Some(State::Loading));
    let words = [
        State::Loading,
        State::Active,
        State::Waiting,
        State::Draining,
        State::Paused,
        State::Failed,
        State::Rejected,
        State::Gone,
    ];
    assert!(words.iter().all(|word| serde_json::json!(word) == word.as_str()));
}

#[test]
fn a_refused_version_is_told_beside_the_one_that_serves_with_the_digest_that_was_tried() {
    let (board, health) = (Board::default(), Health::new());
    let with = |why: &str| Found { refused: refused(why), digest: Some("old".to_owned()), ..found(Stands::Runs) };
    board.loads("p", "bad");
    let loading = shown(&board, &health, with("no probe"));
    let told = loading.refused.clone().unwrap();
    assert_eq!((told.digest.as_deref(), told.why.as_str()), (Some("bad"), "no probe"));
    assert_eq!((loading.digest.as_deref(), loading.state, loading.loading), (Some("old"), State::Active, None));
    assert_eq!(shown(&board, &health, with("no probe")).refused, Some(told), "nothing new: as it was");
    board.loads("p", "worse");
    assert_eq!(shown(&board, &health, with("no probe")).refused.unwrap().digest.as_deref(), Some("worse"));
    let unsigned = shown(&board, &health, with("not signed")).refused.unwrap();
    assert_eq!(unsigned.digest, None, "nobody has looked into it");
    assert_eq!(shown(&board, &health, found(Stands::Runs)).refused, None);
    let alone = Found { refused: refused("no probe"), ..found(Stands::Rejected) };
    board.loads("p", "bad");
    let alone = shown(&board, &health, alone);
    assert_eq!((alone.refused, alone.digest.as_deref()), (None, Some("bad")), "it is all that there is");
}

#[test]
fn each_version_has_its_own_numbers() {
    let (board, health, metrics) = (Board::default(), Health::new(), Metrics::new());
    let metrics = metrics.pipeline("p");
    let (first, second) = (Arc::new(1), Arc::new(2));
    let runs = |start: &Arc<i32>, number| {
        let runs = Runs { start: start.clone(), number, metrics: metrics.clone() };
        Found { runs: Some(runs), ..found(Stands::Runs) }
    };
    metrics.settled.add(Fate::Done, 5);
    assert_eq!(shown(&board, &health, runs(&first, 0)).messages.unwrap().settled, 0);
    metrics.settled.add(Fate::Done, 2);
    metrics.attempts_failed.add(Failure::Trap, 3);
    metrics.dead_letters.add(DeadLetterReason::Trap, 1);
    let told = shown(&board, &health, runs(&first, 0)).messages.unwrap();
    assert_eq!(told, Counts { settled: 2, failed_runs: 3, dead_letters: 1 });
    assert_eq!(shown(&board, &health, runs(&first, 1)).messages, Some(Counts::default()), "swapped");
    metrics.settled.add(Fate::Done, 1);
    assert_eq!(shown(&board, &health, runs(&second, 1)).messages, Some(Counts::default()), "restarted");
}

#[test]
fn only_so_much_is_asked_at_once_and_nobody_waits_for_one_that_is_gone() {
    let board = Board::default();
    assert!(board.ask("p", Action::Pause, |_| {}).is_err(), "nobody is there yet");
    board.attend(|| {});
    let (heard, hears) = sync_channel::<Answer>(1);
    board.ask("p", Action::Pause, move |answer| heard.send(answer).unwrap()).unwrap();
    assert!((1..ASKED).all(|_| board.ask("p", Action::Pause, |_| {}).is_ok()));
    assert!(board.ask("p", Action::Pause, |_| {}).unwrap_err().contains("too much"));
    (board.asked().unwrap().answer)(Answer::Done);
    assert_eq!(hears.recv_timeout(Duration::from_secs(9)), Ok(Answer::Done));
    let (heard, hears) = sync_channel::<Answer>(1);
    board.ask("p", Action::Pause, move |answer| heard.send(answer).unwrap()).unwrap();
    board.leave();
    assert!(hears.recv().is_err(), "it hears that there is no answer");
    assert!(board.ask("p", Action::Pause, |_| {}).is_err());
}
