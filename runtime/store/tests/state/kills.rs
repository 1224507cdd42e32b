//! A process that is killed while it writes: what the checkpoint says is there, and the rest can be read again.

use crate::support::*;
use keyrail_store::{Change, StateIndex, StateOptions, StateStep, StateStore, StateWatcher};
use std::collections::HashSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const FOLDER: &str = "KEYRAIL_STATE_KILLED_IN";
const STEP: &str = "KEYRAIL_STATE_KILLED_AT";
const RECORDS: usize = 600;

/// The topic that children read: the same in each of them.
fn topic() -> Vec<Vec<Change>> {
    let mut chance = Chance(4);
    let change = |chance: &mut Chance| {
        let key = format!("key {}", chance.below(3_000));
        chance.change_of(key.as_bytes())
    };
    (0..RECORDS).map(|_| (0..60).map(|_| change(&mut chance)).collect()).collect()
}

/// What a child does until it is killed: reads on from its checkpoint.
fn child(folder: &Path) {
    let watcher = std::env::var(STEP).ok().map(|armed| {
        let (name, pass) = armed.split_once('@').unwrap();
        let (name, left) = (name.to_owned(), AtomicU64::new(pass.parse().unwrap()));
        let watcher = move |step: StateStep| {
            if format!("{step:?}") == name && left.fetch_sub(1, Ordering::Relaxed) == 1 {
                // Like a kill: nothing is unwound or written.
                std::process::abort();
            }
            Ok(())
        };
        Arc::new(watcher) as StateWatcher
    });
    let store = StateStore::start(StateOptions { watcher, ..options() }, folder).unwrap();
    let index = open(&store);
    println!("opened");
    for (n, changes) in topic().iter().enumerate().skip(index.position().unwrap_or(0) as usize) {
        index.apply(changes, Some(n as i64 + 1)).unwrap();
        if n % 20 == 0 {
            index.flush().unwrap();
            println!("at {n}");
        }
    }
}

/// Runs the test of this name again, as the child of itself.
fn run(test: &str, folder: &Path, step: Option<String>) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--nocapture"]).env(FOLDER, folder).stdout(Stdio::piped()).stderr(Stdio::null());
    command.envs(step.map(|step| (STEP, step)));
    command.spawn().unwrap()
}

/// Opens a copy of what a killed child left and holds it against the topic. The checkpoint.
fn judge(folder: &Folder, topic: &[Vec<Change>], why: &str) -> usize {
    let copy = Folder::new("copy");
    std::fs::create_dir_all(&copy.0).unwrap();
    for file in folder.files() {
        std::fs::copy(&file, copy.0.join(file.file_name().unwrap())).unwrap();
    }
    let store = start(&copy.0);
    let index = open(&store);
    let position = index.position().unwrap_or(0) as usize;
    let mut model = Model::default();
    topic.iter().take(position).for_each(|changes| model.apply(changes, None));
    // A key that changes later may be ahead, but what it has is of the topic.
    let later: HashSet<_> = topic.iter().skip(position).flatten().map(|c| Arc::clone(&c.key)).collect();
    for n in 0..3_000 {
        let key = format!("key {n}");
        let found = index.get(key.as_bytes()).unwrap();
        if found.as_ref() != model.entries.get(key.as_bytes()) {
            let mut of_it = topic.iter().skip(position).flatten().filter(|c| &*c.key == key.as_bytes());
            assert!(later.contains(key.as_bytes()) && of_it.any(|c| c.entry == found), "{why}, at {position}: {key}");
        }
    }
    // Whoever was ahead is right when all is read again.
    for (n, changes) in topic.iter().enumerate().skip(position) {
        index.apply(changes, Some(n as i64 + 1)).unwrap();
        model.apply(changes, None);
    }
    model.check(&index, &format!("{why}, read on from {position}"));
    position
}

#[test]
fn a_kill_at_any_step_loses_nothing_below_the_checkpoint() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        return child(Path::new(&folder));
    }
    let topic = topic();
    for step in [StateStep::Task, StateStep::Slice, StateStep::Checkpoint, StateStep::Position, StateStep::Collect] {
        let folder = Folder::new("step");
        let mut farthest = 0;
        for pass in if step == StateStep::Task || step == StateStep::Collect { vec![1] } else { vec![1, 2, 5, 9] } {
            let armed = format!("{step:?}@{pass}");
            let name = "kills::a_kill_at_any_step_loses_nothing_below_the_checkpoint";
            let ended = run(name, &folder.0, Some(armed.clone())).wait().unwrap();
            assert!(!ended.success(), "{armed}: the child did not come by");
            farthest = farthest.max(judge(&folder, &topic, &armed));
        }
        assert!(
            farthest > 0 || matches!(step, StateStep::Task | StateStep::Collect),
            "{step:?}: nothing was ever kept"
        );
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
        let mut child = run(name, &folder.0, None);
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut lines = lines.map(|line| line.unwrap()).skip_while(|line| !line.contains("opened"));
        assert!(lines.next().is_some(), "round {round}: the child did not start");
        let seen = lines.take(chance.below(8) as usize).count();
        std::thread::sleep(Duration::from_micros(chance.below(20_000) * (seen as u64 % 3)));
        child.kill().unwrap();
        child.wait().unwrap();
        let position = judge(&folder, &topic, &format!("round {round}"));
        kept += i64::from(position > 0);
        if position > RECORDS / 2 {
            folder = Folder::new("moment");
        }
    }
    assert!(kept > 5, "of 25 kills only {kept} left anything");
}
