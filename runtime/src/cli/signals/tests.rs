#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "the child's exit code is what is tested")]

//! Signals end a process, so each test runs this file's [`child`] in a process of its own.

use super::*;
use keyrail::admin::logging::{self, LogFormat};
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Instant;

const ROLE: &str = "KEYRAIL_TEST_SIGNALS";

/// Not a test of its own: what the others start. Without the variable it does nothing.
#[test]
fn child() {
    let Ok(role) = std::env::var(ROLE) else { return };
    logging::init(&"info".parse().unwrap(), LogFormat::Text).unwrap();
    let (stop, health) = (Stop::new(), Arc::new(Health::new()));
    let grace = if role == "slow" { Duration::ZERO } else { Duration::from_secs(60) };
    listen(stop.clone(), health.clone(), grace).unwrap();
    println!("\nlistening");
    assert!(stop.wait(Duration::from_secs(60)));
    assert_eq!(health.unready()[0], "stopping");
    println!("\ndraining");
    if role == "drains" {
        std::process::exit(0);
    }
    std::thread::sleep(Duration::from_secs(60));
}

struct Run {
    child: Child,
    out: BufReader<ChildStdout>,
}

fn start(role: &str) -> Run {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["cli::signals::tests::child", "--exact", "--nocapture"])
        .env(ROLE, role)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    let mut run = Run { child, out };
    run.until("listening");
    run
}

impl Run {
    fn until(&mut self, wanted: &str) {
        let found = self.out.by_ref().lines().map(Result::unwrap).any(|line| line == wanted);
        assert!(found, "the child ended before it said {wanted}");
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// What it wrote to its log.
    fn said(&mut self) -> String {
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        said
    }

    fn code(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

#[test]
fn the_first_signal_lets_the_pipelines_drain() {
    for name in ["TERM", "INT"] {
        let mut run = start("drains");
        run.signal(name);
        run.until("draining");
        assert_eq!(run.code(), Some(0), "{name}");
    }
}

#[test]
fn the_second_signal_ends_at_once_also_when_it_is_the_other_one() {
    let mut run = start("stuck");
    let begun = Instant::now();
    run.signal("TERM");
    run.until("draining");
    run.signal("INT");
    assert_eq!(run.code(), Some(1));
    assert!(begun.elapsed() < Duration::from_secs(20));
}

/// Ctrl-C twice: the second one ends the process at once, and it says what that means. Two that come together are one.
#[test]
fn ctrl_c_twice_ends_at_once_and_says_what_runs_again() {
    let mut run = start("stuck");
    let begun = Instant::now();
    run.signal("INT");
    run.signal("INT");
    run.until("draining");
    std::thread::sleep(SAME * 2);
    assert_eq!(run.child.try_wait().unwrap(), None, "two signals that came together were taken for two requests");
    run.signal("INT");
    assert_eq!(run.code(), Some(1));
    assert!(begun.elapsed() < Duration::from_secs(20));
    let said = run.said();
    assert!(said.contains("SIGINT: draining for at most 60 s; once more ends at once"), "{said}");
    assert!(said.contains("SIGINT again: ending at once; what was not committed runs again"), "{said}");
}

#[test]
fn a_drain_longer_than_the_grace_is_cut_short() {
    let mut run = start("slow");
    let begun = Instant::now();
    run.signal("TERM");
    assert_eq!(run.code(), Some(1));
    let took = begun.elapsed();
    assert!(took >= MARGIN && took < MARGIN + Duration::from_secs(20), "{took:?}");
}
