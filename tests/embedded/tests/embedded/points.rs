//! A process that kills itself at every named point of a message's way, over and over, on the embedded broker.

use crate::play::{Play, mixed};
use crate::run::{beside, start_with};
use crate::support::ended;
use keyrail::fail::{Point, VARIABLE};
use std::fmt;
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Lives of which each ends at every point, at one pass or another.
const ROUNDS: u64 = 2;
const LIMIT: Duration = Duration::from_secs(40);
const SIGKILL: i32 = 9;
/// Messages that each life finds.
const EACH: usize = 3_000;

/// At the how many-th pass at most it dies; 0: at a stop. `None`: nothing brings this broker there, since it never takes a
/// partition back nor answers late.
fn passes(point: Point, exactly_once: bool) -> Option<u64> {
    match point {
        Point::BeforeRenewal | Point::AfterRenewal => exactly_once.then_some(1),
        Point::AfterFetch | Point::AfterProduce | Point::AfterAck => Some(1_000),
        Point::BeforeCall | Point::AfterCall => Some(6),
        Point::AfterLetter => Some(2),
        Point::BeforeCommit | Point::CommitSent | Point::CommitAnswered => Some(2),
        Point::BeforeLastCommit | Point::AfterLastCommit | Point::BeforeStop | Point::AfterStop => Some(0),
        Point::BeforeRewind | Point::AfterRewind => None,
        Point::WriteBegun | Point::WriteDone => Some(6),
    }
}

/// A process that is to die somewhere; shown with the end of what it wrote.
struct Life {
    point: Point,
    pass: u64,
    log: PathBuf,
}

impl fmt::Debug for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let log = fs::read_to_string(&self.log).unwrap_or_else(|e| e.to_string());
        let lines: Vec<&str> = log.lines().collect();
        write!(f, "{:?}@{}, of {} lines:", self.point, self.pass, lines.len())?;
        lines.iter().rev().take(20).rev().try_for_each(|line| write!(f, "\n{}", line.get(..300).unwrap_or(line)))
    }
}

fn die(play: &Play, point: Point, pass: u64) {
    let life = Life { point, pass, log: play.folder.path().join("life.log") };
    let log = File::create(&life.log).unwrap();
    let mut child = start_with(&play.folder, |command| {
        command.env(VARIABLE, format!("{}@{}", point.name(), pass.max(1))).stderr(log);
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
    let status = ended(&mut child, LIMIT, &life);
    assert_eq!(status.signal(), Some(SIGKILL), "{point:?}@{pass}: {status}");
}

/// Whether this build has the points; else it is noted.
pub(crate) fn armed(test: &str) -> bool {
    if !keyrail::fail::ENABLED {
        crate::support::skip(test, "built without --features keyrail/fail-points; cargo xtask test sets it");
    }
    keyrail::fail::ENABLED
}

/// A process dies at every point, [`ROUNDS`] times; `feed` sends for the life of that number. Afterwards all is settled.
/// Gives how many messages were uncommitted at the deaths.
pub(crate) fn die_everywhere(play: &mut Play, exactly_once: bool, feed: &mut dyn FnMut(&mut Play, usize)) -> usize {
    let (mut lives, mut window) = (0, 0);
    let points = Point::ALL.into_iter().filter_map(|p| Some((p, passes(p, exactly_once)?)));
    for round in 0..ROUNDS {
        for (n, (point, most)) in (0_u64..).zip(points.clone()) {
            // Any pass up to the most, and the same ones in every run.
            let pass = if most == 0 { 0 } else { 1 + (round * 7919 + n * 104_729) % most };
            feed(play, lives);
            lives += 1;
            die(play, point, pass);
            window += play.uncommitted(play.client().as_mut());
        }
    }
    play.settle(play.start());
    assert!(lives >= 15 * ROUNDS as usize, "{lives} deaths");
    window
}

/// What the deaths repeated: outputs, dead letters, and how many messages were uncommitted then.
fn repeats(test: &str, guarantee: &str) -> Option<(usize, usize, usize)> {
    if !armed(test) {
        return None;
    }
    let retry = "retry.backoff = { first = \"20ms\", max = \"20ms\" }";
    let tables = format!("guarantee = \"{guarantee}\"\ncommit.interval = \"20ms\"\n{retry}\n");
    let mut play = Play::new(test, &tables)?;
    let window = die_everywhere(&mut play, guarantee == "exactly-once", &mut |play, life| {
        play.send(play.client().as_mut(), &mixed(life * EACH, (life + 1) * EACH, 100));
    });
    let (outputs, letters) = play.judge(play.client().as_mut());
    Some((outputs, letters, window))
}

#[test]
fn a_process_killed_at_any_named_point_loses_nothing_and_keeps_order() {
    let test = "a_process_killed_at_any_named_point_loses_nothing_and_keeps_order";
    let Some((outputs, letters, window)) = repeats(test, "at-least-once") else { return };
    assert!(outputs > 0, "no death repeated anything: nothing was tested");
    assert!(outputs + letters <= window, "{outputs} and {letters} repeats, at most {window} were uncommitted");
}

#[test]
fn with_exactly_once_a_process_killed_at_any_named_point_repeats_nothing_either() {
    let test = "with_exactly_once_a_process_killed_at_any_named_point_repeats_nothing_either";
    let Some((outputs, letters, window)) = repeats(test, "exactly-once") else { return };
    assert_eq!((outputs, letters), (0, 0));
    assert!(window > 0, "no death left anything uncommitted: nothing was tested");
}
