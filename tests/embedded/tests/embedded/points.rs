//! A process that kills itself at every named point of a message's way, over and over, on the embedded broker.

use crate::play::{Play, mixed};
use crate::run::{beside, start_with};
use keyrail::fail::{Point, VARIABLE};
use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

const ROUNDS: u64 = 2;
const LIMIT: Duration = Duration::from_secs(40);
const SIGKILL: i32 = 9;
/// Messages that each life finds.
const EACH: usize = 3_000;

/// At the how many-th pass at most it dies; 0: at a stop. `None`: nothing brings this broker there, since it never takes a
/// partition back nor answers late.
fn passes(point: Point) -> Option<u64> {
    match point {
        Point::AfterFetch | Point::AfterProduce | Point::AfterAck => Some(1_000),
        Point::BeforeCall | Point::AfterCall => Some(6),
        Point::AfterLetter => Some(2),
        Point::BeforeCommit | Point::CommitSent | Point::CommitAnswered => Some(2),
        Point::BeforeLastCommit | Point::AfterLastCommit | Point::BeforeStop | Point::AfterStop => Some(0),
        Point::BeforeRewind | Point::AfterRewind => None,
    }
}

fn die(play: &Play, point: Point, pass: u64) {
    let mut child = start_with(&play.folder, |command| {
        command.env(VARIABLE, format!("{}@{}", point.name(), pass.max(1))).stderr(Stdio::null());
    });
    if pass == 0 {
        // It is asked to stop in the midst of its work.
        let mut client = beside(&play.folder, &child);
        let until = Instant::now() + LIMIT;
        let before = play.uncommitted(client.as_mut());
        while play.uncommitted(client.as_mut()) == before {
            assert!(Instant::now() < until, "{point:?}: it does nothing");
        }
        drop(child.stdin.take());
    }
    let until = Instant::now() + LIMIT;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        assert!(Instant::now() < until, "{point:?}@{pass}: it lives");
        std::thread::sleep(Duration::from_millis(5));
    };
    assert_eq!(status.signal(), Some(SIGKILL), "{point:?}@{pass}: {status}");
}

#[test]
fn a_process_killed_at_any_named_point_loses_nothing_and_keeps_order() {
    let test = "a_process_killed_at_any_named_point_loses_nothing_and_keeps_order";
    if !keyrail::fail::ENABLED {
        return crate::support::skip(test, "built without --features keyrail/fail-points; cargo xtask test sets it");
    }
    let tables = "commit.interval = \"20ms\"\nretry.backoff = { first = \"20ms\", max = \"20ms\" }\n";
    let Some(mut play) = Play::new(test, tables) else { return };
    let (mut next, mut deaths, mut window) = (0, 0, 0);
    for round in 0..ROUNDS {
        for (n, point) in (0_u64..).zip(Point::ALL) {
            let Some(most) = passes(point) else { continue };
            // Any pass up to the most, and the same ones in every run.
            let pass = if most == 0 { 0 } else { 1 + (round * 7919 + n * 104_729) % most };
            play.send(play.client().as_mut(), &mixed(next, next + EACH, 100));
            next += EACH;
            die(&play, point, pass);
            deaths += 1;
            window += play.uncommitted(play.client().as_mut());
        }
    }
    play.settle(play.start());
    let mut client = play.client();
    let (outputs, letters) = play.judge(client.as_mut());
    assert_eq!(deaths, 13 * ROUNDS);
    assert!(outputs > 0, "no death repeated anything: nothing was tested");
    assert!(outputs + letters <= window, "{outputs} and {letters} repeats, at most {window} were uncommitted");
}
