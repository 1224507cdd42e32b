#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "the child's exit code is what is tested")]

//! Signals end a process, so each test runs this file's [`child`] in a process of its own.

use super::*;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Instant;

const ROLE: &str = "KEYRAIL_TEST_SIGNALS";

/// Not a test of its own: what the others start. Without the variable it does nothing.
#[test]
fn child() {
    let Ok(role) = std::env::var(ROLE) else { return };
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
        .stderr(Stdio::null())
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

#[test]
fn a_drain_longer_than_the_grace_is_cut_short() {
    let mut run = start("slow");
    let begun = Instant::now();
    run.signal("TERM");
    assert_eq!(run.code(), Some(1));
    let took = begun.elapsed();
    assert!(took >= MARGIN && took < MARGIN + Duration::from_secs(20), "{took:?}");
}
