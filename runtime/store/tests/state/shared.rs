//! Several tasks, threads and one budget.

use crate::support::*;
use keyrail_store::{Change, Entry, StateIdentity, StateIndex, StateOptions, StateStore};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

fn of(partition: i32) -> StateIdentity {
    StateIdentity { partition, ..identity() }
}

fn numbered(key: u64, number: u64) -> Change {
    let value: Vec<u8> = number.to_le_bytes().repeat(4);
    Change { key: key.to_le_bytes().as_slice().into(), entry: Some(Entry { value: value.into(), expires_ms: None }) }
}

/// A batch is seen whole by the next call of any thread, whatever is being written, and no number goes back.
#[test]
fn readers_see_what_was_applied_while_it_is_written() {
    let folder = Folder::new("readers");
    let store = start(&folder.0);
    let index = open(&store);
    let (applied, over) = (AtomicU64::new(0), AtomicBool::new(false));
    const KEYS: u64 = 3_000;
    std::thread::scope(|scope| {
        let reader = |seed| {
            let (mut chance, mut read) = (Chance(seed), 0);
            while !over.load(Relaxed) {
                let at_least = applied.load(std::sync::atomic::Ordering::Acquire);
                let key = chance.below(KEYS);
                let found = index.get(&key.to_le_bytes()).unwrap().map_or(0, |e| {
                    assert!(e.value.chunks(8).all(|c| c == &e.value[..8]), "torn");
                    u64::from_le_bytes(*e.value.first_chunk().unwrap())
                });
                assert!(found >= at_least, "key {key}: {found}, and {at_least} was applied before");
                read += 1;
                if read % 500 == 0 {
                    let found = index.scan(&[], None, 100).unwrap();
                    assert!(at_least == 0 || found.len() == 100);
                }
            }
            read
        };
        let readers: Vec<_> = (0..3).map(|seed| scope.spawn(move || reader(seed))).collect();
        for number in 1..=150 {
            let changes: Vec<_> = (0..KEYS).map(|key| numbered(key, number)).collect();
            index.apply(&changes, Some(number as i64)).unwrap();
            applied.store(number, std::sync::atomic::Ordering::Release);
            if number % 40 == 0 {
                index.flush().unwrap();
            }
        }
        over.store(true, Relaxed);
        let read: u64 = readers.into_iter().map(|r| r.join().unwrap()).sum();
        assert!(read > 1_000, "{read}");
    });
    assert!(index.stats().read_from_disk > 0 || index.stats().reads > 0);
    assert_eq!(index.position(), Some(150));
}

#[test]
fn all_tasks_share_one_budget() {
    let folder = Folder::new("budget");
    const BUDGET: u64 = 2 << 20;
    let options = StateOptions { budget_bytes: BUDGET as usize, ..options() };
    let store = StateStore::start(options, &folder.0).unwrap();
    let tasks: Vec<_> = (0..5).map(|n| store.open(&of(n), 0).unwrap().index).collect();
    let mut most = 0;
    for n in 0..400u64 {
        for (task, index) in tasks.iter().enumerate() {
            let changes: Vec<_> = (0..50).map(|i| numbered(n * 50 + i, task as u64)).collect();
            index.apply(&changes, Some(n as i64)).unwrap();
        }
        most = most.max(tasks.iter().map(|t| t.stats().memory_bytes).sum());
    }
    // A batch may come on top while what is kept is let go of.
    assert!(most <= BUDGET + (1 << 16), "{most} of {BUDGET}");
    for (task, index) in tasks.iter().enumerate() {
        index.flush().unwrap();
        let stats = index.stats();
        assert_eq!((stats.entries, stats.waiting_bytes), (20_000, 0));
        for key in (0..20_000u64).step_by(7) {
            let expected = numbered(key, task as u64).entry;
            assert_eq!(index.get(&key.to_le_bytes()).unwrap(), expected, "task {task}, key {key}");
        }
    }
    drop((tasks, store));
    let store = start(&folder.0);
    assert_eq!(store.open(&of(4), 0).unwrap().position(), Some(399));
}

/// What was not flushed is read again from the checkpoint, and gives the same.
#[test]
fn what_was_dropped_is_read_again_and_converges() {
    let (folder, mut model, mut chance) = (Folder::new("dropped"), Model::default(), Chance(4));
    let topic: Vec<Vec<Change>> = (0..60).map(|_| (0..100).map(|_| chance.change()).collect()).collect();
    let (mut opened, mut at) = (0, 0usize);
    while at < topic.len() {
        let store = start(&folder.0);
        let index = open(&store);
        at = index.position().unwrap_or(0) as usize;
        opened += 1;
        for (n, changes) in topic.iter().enumerate().skip(at).take(20) {
            index.apply(changes, Some(n as i64 + 1)).unwrap();
            if n % 7 == 6 || n + 1 == topic.len() {
                index.flush().unwrap();
            }
        }
        at = index.checkpoint().unwrap_or(0) as usize;
    }
    topic.iter().enumerate().for_each(|(n, changes)| model.apply(changes, Some(n as i64 + 1)));
    assert!(opened > 2, "{opened}");
    model.check(&open(&start(&folder.0)), "read to the end");
}

#[test]
fn what_waits_is_written_after_a_while() {
    let folder = Folder::new("age");
    let options = StateOptions { age: Duration::from_millis(50), ..options() };
    let store = StateStore::start(options, &folder.0).unwrap();
    let index = open(&store);
    index.apply(&[numbered(1, 1)], Some(7)).unwrap();
    wait_until("changes are written by their age", || index.checkpoint() == Some(7));
    index.reach(9, 0).unwrap();
    wait_until("so is a position alone", || index.checkpoint() == Some(9));
    assert_eq!(index.stats().entries, 1);
}

#[test]
fn a_task_that_is_wiped_begins_anew_and_its_room_is_used_again() {
    let folder = Folder::new("wiped");
    let store = start(&folder.0);
    let fill = |partition, number| {
        let index = store.open(&of(partition), 0).unwrap().index;
        for n in 0..20u64 {
            let changes: Vec<_> = (0..1_000).map(|i| numbered(n * 1_000 + i, number)).collect();
            index.apply(&changes, Some(1)).unwrap();
        }
        index.flush().unwrap();
        index.stats().disk_bytes
    };
    fill(1, 1);
    let once = fill(2, 2);
    for round in 0..8 {
        store.wipe(&of(2)).unwrap();
        let opened = store.open(&of(2), 0).unwrap();
        assert_eq!((opened.position(), opened.rebuilt), (None, None), "round {round}");
        assert_eq!(opened.index.scan(&[], None, 1).unwrap(), []);
        drop(opened.index);
        // Its blocks are deleted a few at a time.
        std::thread::sleep(Duration::from_millis(300));
        let now = fill(2, 3 + round);
        // The log beside it has a slice at most.
        assert!(now < 2 * once + (24 << 20), "round {round}: {now} bytes, {once} at first");
    }
    let kept = store.open(&of(1), 0).unwrap().index;
    assert_eq!(kept.get(&77u64.to_le_bytes()).unwrap(), numbered(77, 1).entry);
    assert_eq!(kept.scan(&[], None, usize::MAX).unwrap().len(), 20_000);
}

#[test]
fn the_store_ends_with_the_last_that_has_it() {
    let folder = Folder::new("last");
    let store = start(&folder.0);
    let index = Arc::new(open(&store));
    let clone = store.clone();
    drop((store, clone));
    index.apply(&[numbered(1, 1)], Some(1)).unwrap();
    index.flush().unwrap();
    assert!(StateStore::start(options(), &folder.0).is_err());
    drop(index);
    assert_eq!(open(&start(&folder.0)).position(), Some(1));
}

/// Larger than the budget, and while something waits that is not yet worth to be written.
#[test]
fn a_batch_larger_than_the_budget_is_taken_when_the_rest_is_written() {
    let folder = Folder::new("larger");
    let store = start(&folder.0);
    let index = open(&store);
    let large = |byte: u8, bytes: usize| {
        let entry = Entry { value: vec![byte; bytes].into(), expires_ms: None };
        Change { key: [byte].as_slice().into(), entry: Some(entry) }
    };
    for (n, bytes) in [200_000, 3 << 20, 200_000, 3 << 20].into_iter().enumerate() {
        index.apply(&[large(n as u8, bytes)], Some(n as i64)).unwrap();
    }
    for (n, bytes) in [200_000, 3 << 20, 200_000, 3 << 20].into_iter().enumerate() {
        assert_eq!(index.get(&[n as u8]).unwrap(), large(n as u8, bytes).entry);
    }
    index.flush().unwrap();
    assert_eq!(index.scan(&[], None, 9).unwrap().len(), 4);
}
