//! Disks that are full or fail: nothing is lost, nothing is answered wrongly, and it goes on when it can.

use crate::support::*;
use keyrail_store::{Change, Entry, Error, StateIndex, StateOptions, StateStep, StateStore, StateWatcher};
use std::io;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const FOLDER: &str = "KEYRAIL_STATE_LIMITED_IN";

fn impatient(watcher: Option<StateWatcher>) -> StateOptions {
    StateOptions { patience: Duration::from_millis(200), watcher, ..options() }
}

fn batch(n: u64) -> Vec<Change> {
    let change = |i: u64| {
        let value: Arc<[u8]> = (n * 100 + i).to_le_bytes().repeat(20).into();
        Change { key: (n * 100 + i).to_be_bytes().as_slice().into(), entry: Some(Entry { value, expires_ms: None }) }
    };
    (0..100).map(change).collect()
}

/// Applies until there is no room; how the last was refused.
fn fill(index: &dyn StateIndex, model: &mut Model) -> Error {
    loop {
        let n = model.position.unwrap_or(0) + 1;
        let changes = batch(n as u64);
        match index.apply(&changes, Some(n)) {
            Ok(()) => model.apply(&changes, Some(n)),
            Err(e) => return e,
        }
        assert!(n < 1_000, "the budget has no bound");
    }
}

#[test]
fn a_full_disk_stops_applying_at_the_budget_and_goes_on_when_there_is_room() {
    for step in [StateStep::Slice, StateStep::Checkpoint, StateStep::Position] {
        let is_full = Arc::new(AtomicBool::new(true));
        let watched = Arc::clone(&is_full);
        let watcher: StateWatcher = Arc::new(move |at| match at == step && watched.load(Relaxed) {
            true => Err(io::Error::from(io::ErrorKind::StorageFull)),
            false => Ok(()),
        });
        let (folder, mut model) = (Folder::new("full"), Model::default());
        let store = StateStore::start(impatient(Some(watcher)), &folder.0).unwrap();
        let index = open(&store);
        let refused = fill(&index, &mut model);
        assert!(model.entries.len() > 1_000, "{step:?}: {} found room in 1 MiB", model.entries.len());
        let told = refused.to_string();
        assert!(matches!(refused, Error::Full { .. }), "{step:?}: {told}");
        assert!(told.contains("no storage space") && told.contains("Make room"), "{step:?}: {told}");
        assert!(index.stats().failing.is_some_and(|why| why.contains("no storage space")), "{step:?}");
        assert!(index.stats().longest_wait_us == 0 || index.stats().memory_bytes <= 1 << 20, "{step:?}");
        assert!(matches!(index.flush(), Err(Error::Full { .. })), "{step:?}");
        assert_eq!((index.position(), index.checkpoint()), (model.position, None), "{step:?}");
        model.check(&index, "while it is full");
        is_full.store(false, Relaxed);
        wait_until("it tells that all is well", || index.stats().failing.is_none());
        let n = model.position.unwrap() + 1;
        index.apply(&batch(n as u64), Some(n)).unwrap();
        model.apply(&batch(n as u64), Some(n));
        index.flush().unwrap();
        model.check(&index, "when there is room");
        drop((index, store));
        let store = start(&folder.0);
        let index = open(&store);
        assert_eq!(index.position(), model.position, "{step:?}");
        model.check(&index, "opened again");
    }
}

#[test]
fn steps_that_fail_now_and_then_change_no_answer() {
    for seed in 0..4 {
        let (chance, failed) = (Mutex::new(Chance(seed)), Arc::new(AtomicU64::new(0)));
        let counted = Arc::clone(&failed);
        let watcher: StateWatcher = Arc::new(move |step| {
            if step == StateStep::Task || chance.lock().unwrap().below(3) > 0 {
                return Ok(());
            }
            counted.fetch_add(1, Relaxed);
            Err(io::Error::other("injected"))
        });
        let (folder, mut model, mut chance) = (Folder::new("flaky"), Model::default(), Chance(seed + 100));
        let store = StateStore::start(StateOptions { watcher: Some(watcher), ..options() }, &folder.0).unwrap();
        let index = open(&store);
        let mut known = Vec::new();
        for n in 1..=80 {
            let changes: Vec<_> = (0..40).map(|_| chance.change()).collect();
            index.apply(&changes, Some(n)).unwrap();
            model.apply(&changes, Some(n));
            known.push(changes);
            // May fail; what it could not write stays in memory.
            drop(index.flush());
        }
        model.check(&index, &format!("seed {seed}"));
        drop((index, store));
        let store = start(&folder.0);
        let index = open(&store);
        let position = index.position().unwrap_or(0);
        for (n, changes) in known.iter().enumerate().skip(position as usize) {
            index.apply(changes, Some(n as i64 + 1)).unwrap();
        }
        model.check(&index, &format!("seed {seed}, read on from {position}"));
        assert!(position > 0 && failed.load(Relaxed) > 10, "seed {seed}: {position}, {failed:?}");
    }
}

/// The system's own refusal, not one that was made up: the child may write no file beyond a size.
#[test]
fn a_limit_of_the_system_is_told_and_survived() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        let mut model = Model::default();
        let store = StateStore::start(impatient(None), folder.as_ref()).unwrap();
        let index = open(&store);
        let refused = fill(&index, &mut model).to_string();
        assert!(refused.contains("nothing can be written"), "{refused}");
        assert!(index.stats().failing.is_some());
        model.check(&index, "with the disk full");
        println!("refused: {refused}");
        return;
    }
    let folder = Folder::new("limited");
    let script = "trap '' XFSZ; ulimit -f 600; exec \"$0\" failing::a_limit_of_the_system_is_told_and_survived --exact --nocapture";
    let exe = std::env::current_exe().unwrap();
    let mut command = Command::new("sh");
    let run = command.args(["-c", script]).arg(exe).env(FOLDER, &folder.0).stdout(Stdio::piped()).output().unwrap();
    let told = String::from_utf8_lossy(&run.stdout);
    let also = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success() && told.contains("1 passed") && told.contains("refused:"), "{told}{also}");
    // The folder can be used, and what the checkpoint says is there.
    let store = start(&folder.0);
    let index = open(&store);
    let mut model = Model::default();
    for n in 1..=index.position().unwrap_or(0) {
        model.apply(&batch(n as u64), Some(n));
    }
    for (key, entry) in &model.entries {
        assert_eq!(index.get(key).unwrap().as_ref(), Some(entry));
    }
}
