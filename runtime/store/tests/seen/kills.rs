//! A process that is killed while it writes: what the checkpoint says is there, and the rest can be read again.

use crate::support::*;
use keyrail_store::{SeenIndex, Step, Store};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const FOLDER: &str = "KEYRAIL_STORE_KILLED_IN";
const STEP: &str = "KEYRAIL_STORE_KILLED_AT";
const RECORDS: i64 = 1_500;

/// The topic that children read: the same in each of them.
fn topic() -> Topic {
    let (mut topic, mut chance) = (Topic::default(), Chance(4));
    for n in 0..RECORDS as u64 {
        let ids = (0..200).map(|i| id(if chance.below(10) == 0 { chance.below(n * 200 + 1) } else { n * 200 + i }));
        let ids = ids.collect();
        topic.add(ids, 1_000_000 + n as i64 * 100);
    }
    topic
}

/// What a child does until it is killed: reads on from its checkpoint, slowly enough to be caught at it.
fn child(folder: &Path) {
    let armed = std::env::var(STEP).ok();
    let watcher = armed.map(|armed| {
        let (name, pass) = armed.split_once('@').unwrap();
        let (name, left) = (name.to_owned(), AtomicU64::new(pass.parse().unwrap()));
        let watcher = move |step: Step| {
            if format!("{step:?}") == name && left.fetch_sub(1, Ordering::Relaxed) == 1 {
                // Like a kill: nothing is unwound or written.
                std::process::abort();
            }
            Ok(())
        };
        Arc::new(watcher) as keyrail_store::Watcher
    });
    let index = open(&Store::start(options(watcher)).unwrap(), folder, 0);
    println!("opened");
    let position = index.position().unwrap_or(0);
    for record in topic().records.iter().filter(|r| r.position > position) {
        insert(&index, record);
        // Some three segments to a bucket, to be merged.
        if record.position % 30 == 0 {
            index.flush().unwrap();
            println!("at {}", record.position);
        }
    }
    if std::env::var_os(STEP).is_some() {
        // A merge may still be under way.
        std::thread::sleep(Duration::from_secs(20));
    }
}

/// Runs the test of this name again, as the child of itself.
fn start(test: &str, folder: &Path, step: Option<String>) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--nocapture"]).env(FOLDER, folder).stdout(Stdio::piped()).stderr(Stdio::null());
    command.envs(step.map(|step| (STEP, step)));
    command.spawn().unwrap()
}

/// Opens what a killed child left and holds it against the topic. The checkpoint.
fn judge(folder: &Path, topic: &Topic, why: &str) -> i64 {
    let store = store();
    let index = open(&store, folder, 0);
    let position = index.position().unwrap_or(0);
    // The child was ahead of its checkpoint, by less than half a window, and let go of what was too old by then.
    let since = |topic: &Topic| topic.oldest_ms() + WINDOW_MS as i64 / 2;
    let known = topic.until(position);
    known.check_since(&index, since(&known), &format!("{why}, at the checkpoint {position}"));
    for record in topic.records.iter().filter(|r| r.position > position).take(150) {
        insert(&index, record);
    }
    let read = index.position().unwrap_or(0);
    let known = topic.until(read);
    known.check_since(&index, since(&known), &format!("{why}, read on from {position} to {read}"));
    position
}

#[test]
fn a_kill_at_any_step_loses_nothing_below_the_checkpoint() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        return child(Path::new(&folder));
    }
    let topic = topic();
    for step in Step::ALL.into_iter().filter(|step| *step != Step::ReadBlock) {
        let mut folder = Folder::new("step");
        let mut farthest = 0;
        for pass in [1, 2, 5] {
            let armed = format!("{step:?}@{pass}");
            let name = "kills::a_kill_at_any_step_loses_nothing_below_the_checkpoint";
            let ended = start(name, &folder.0, Some(armed.clone())).wait().unwrap();
            assert!(!ended.success(), "{armed}: the child did not come by");
            let position = judge(&folder.0, &topic, &armed);
            farthest = farthest.max(position);
            if position > RECORDS / 2 {
                // Little is left to be killed at.
                folder = Folder::new("step");
            }
        }
        assert!(farthest > 0 || step == Step::Create, "{step:?}: nothing was ever kept");
    }
}

#[test]
fn a_kill_at_any_moment_loses_nothing_below_the_checkpoint() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        return child(Path::new(&folder));
    }
    let (topic, mut chance) = (topic(), Chance(11));
    let mut folder = Folder::new("moment");
    let mut kept = 0;
    for round in 0..25 {
        let name = "kills::a_kill_at_any_moment_loses_nothing_below_the_checkpoint";
        let mut child = start(name, &folder.0, None);
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut lines = lines.map(|line| line.unwrap()).skip_while(|line| !line.contains("opened"));
        assert!(lines.next().is_some(), "round {round}: the child did not start");
        let seen = lines.take(chance.below(12) as usize).count();
        std::thread::sleep(Duration::from_micros(chance.below(20_000) * (seen as u64 % 3)));
        child.kill().unwrap();
        child.wait().unwrap();
        let position = judge(&folder.0, &topic, &format!("round {round}"));
        kept += i64::from(position > 0);
        if position == RECORDS {
            folder = Folder::new("moment");
        }
    }
    assert!(kept > 5, "of 25 kills only {kept} left anything");
}
