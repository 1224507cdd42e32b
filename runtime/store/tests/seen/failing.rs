//! Disks that are full or fail: nothing is lost, nothing is answered wrongly, and it goes on when it can.

use crate::support::*;
use keyrail_store::{Error, Options, SeenIndex, Step, Store, Watcher};
use std::io;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const FOLDER: &str = "KEYRAIL_STORE_LIMITED_IN";

fn full() -> io::Error {
    io::Error::from(io::ErrorKind::StorageFull)
}

fn impatient(watcher: Watcher) -> Store {
    Store::start(Options { patience: Duration::from_millis(100), ..options(Some(watcher)) }).unwrap()
}

/// Inserts until there is no room; how the last was refused.
fn fill(index: &dyn SeenIndex, topic: &mut Topic) -> Error {
    loop {
        let from = topic.times.len() as u64;
        let ids: Vec<_> = (from..from + 500).map(id).collect();
        let position = topic.records.len() as i64 + 1;
        match index.insert(&ids, 1_000_000, position) {
            Ok(()) => drop(topic.add(ids, 1_000_000)),
            Err(e) => return e,
        }
        assert!(topic.times.len() < 500_000, "the budget has no bound");
    }
}

#[test]
fn a_full_disk_stops_inserting_at_the_budget_and_goes_on_when_there_is_room() {
    let is_full = Arc::new(AtomicBool::new(true));
    let watched = Arc::clone(&is_full);
    let store = impatient(Arc::new(move |step| match step {
        Step::Write | Step::WriteManifest if watched.load(Relaxed) => Err(full()),
        _ => Ok(()),
    }));
    let (folder, mut topic) = (Folder::new("full"), Topic::default());
    let index = open(&store, &folder.0, 0);
    let refused = fill(&index, &mut topic);
    assert!(topic.times.len() > 20_000, "{} ids found room in 2 MiB", topic.times.len());
    let told = refused.to_string();
    assert!(matches!(refused, Error::Full { .. }), "{told}");
    assert!(told.contains("no storage space") && told.contains("Make room"), "{told}");
    assert!(index.stats().failing.is_some_and(|why| why.contains("no storage space")));
    assert!(matches!(index.flush(), Err(Error::Full { .. })));
    assert_eq!((index.position(), index.checkpoint()), (Some(topic.records.len() as i64), None));
    topic.check(&index, "while it is full");
    is_full.store(false, Relaxed);
    let next = topic.add((900_000..900_500).map(id).collect(), 1_000_000);
    insert(&index, &next);
    wait_until("it tells that all is well", || index.stats().failing.is_none());
    index.flush().unwrap();
    topic.check(&index, "when there is room");
    drop(index);
    let index = open(&store, &folder.0, 0);
    assert_eq!(index.position(), Some(next.position));
    topic.check(&index, "opened again");
}

#[test]
fn steps_that_fail_now_and_then_change_no_answer() {
    for seed in 0..4 {
        let (chance, failed) = (Mutex::new(Chance(seed)), Arc::new(AtomicU64::new(0)));
        let counted = Arc::clone(&failed);
        let store = Store::start(options(Some(Arc::new(move |step| {
            let reads = matches!(step, Step::ReadBlock | Step::ReadMerge);
            if reads || chance.lock().unwrap().below(12) > 0 {
                return Ok(());
            }
            counted.fetch_add(1, Relaxed);
            Err(io::Error::other("injected"))
        }))))
        .unwrap();
        let (folder, mut topic) = (Folder::new("flaky"), Topic::default());
        let index = open(&store, &folder.0, 0);
        for n in 0..150u64 {
            let ids = (n * 300..(n + 1) * 300).map(id).collect();
            insert(&index, &topic.add(ids, 1_000_000 + n as i64 * 700));
            if n % 10 == 0 {
                // May fail; what it could not write stays in memory.
                drop(index.flush());
            }
        }
        topic.check(&index, &format!("seed {seed}"));
        drop(index);
        // The clock has gone on: what was deleted as too old without a new manifest is not asked for.
        let index = open(&self::store(), &folder.0, topic.latest_ms);
        let position = index.position().unwrap_or(0);
        // What was too old at the end was let go of.
        let why = format!("seed {seed}, opened at {position}");
        topic.until(position).check_since(&index, topic.oldest_ms(), &why);
        assert!(position > 0 && failed.load(Relaxed) > 10, "seed {seed}: {position}, {failed:?}");
    }
}

#[test]
fn a_block_that_cannot_be_read_is_no_answer() {
    for step in [Step::ReadBlock, Step::ReadMerge] {
        let store =
            Store::start(options(Some(Arc::new(
                move |at| {
                    if at == step { Err(io::Error::other("injected")) } else { Ok(()) }
                },
            ))))
            .unwrap();
        let folder = Folder::new("unread");
        let index = open(&store, &folder.0, 0);
        for n in 0..4 {
            // What was inserted last is answered from memory until it is written.
            if index.insert(&[id(n)], 1_000_000, n as i64 + 1).is_ok() {
                drop(index.flush());
            }
        }
        wait_until("the damage is noticed", || index.contains(&id(0), 0).is_err());
        let told = index.contains(&id(7), 0).unwrap_err().to_string();
        assert!(told.contains("injected") && told.contains("built anew"), "{told}");
        drop(index);
        assert_eq!(open(&self::store(), &folder.0, 0).position(), None);
    }
}

/// The system's own refusal, not one that was made up: the child may write no file beyond a size.
#[test]
fn a_limit_of_the_system_is_told_and_survived() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        let store = impatient(Arc::new(|_| Ok(())));
        let mut topic = Topic::default();
        let index = open(&store, folder.as_ref(), 0);
        let refused = fill(&index, &mut topic).to_string();
        assert!(refused.contains("File too large"), "{refused}");
        topic.check(&index, "with nothing written");
        return;
    }
    let folder = Folder::new("limited");
    let script = "trap '' XFSZ; ulimit -f 100; exec \"$0\" failing::a_limit_of_the_system_is_told_and_survived --exact";
    let exe = std::env::current_exe().unwrap();
    let mut command = Command::new("sh");
    let run = command.args(["-c", script]).arg(exe).env(FOLDER, &folder.0).stdout(Stdio::piped()).output().unwrap();
    let told = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success() && told.contains("1 passed"), "{told}");
    // Nothing of what could not be written is left, and the folder can be used.
    let index = open(&store(), &folder.0, 0);
    assert_eq!((index.position(), index.stats().segments), (None, 0));
}
