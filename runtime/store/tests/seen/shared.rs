//! Many tasks, one budget.

use crate::support::*;
use keyrail_store::{Options, SeenIndex, Store};

#[test]
fn tasks_share_one_budget() {
    let folder = Folder::new("shared");
    let store = Store::start(Options { budget_bytes: 4 << 20, ..options(None) }).unwrap();
    let tasks: Vec<_> = (0..20)
        .map(|n| {
            let identity = keyrail_store::Identity { partition: n, ..identity() };
            store.open(&folder.0.join(n.to_string()), &identity, 0).unwrap().index
        })
        .collect();
    let mut most = 0;
    for record in 0..600u64 {
        // The first gets half of all.
        let task = if record % 2 == 0 { 0 } else { record as usize % tasks.len() };
        let ids: Vec<_> = (record * 500..(record + 1) * 500).map(id).collect();
        tasks[task].insert(&ids, 1_000_000, record as i64 + 1).unwrap();
        most = most.max(tasks.iter().map(|t| t.stats().waiting_bytes).sum());
    }
    assert!(most > 1 << 20 && most <= (4 << 20) + (100 << 10), "{most} bytes waited");
    for n in 0..300_000u64 {
        let record = n / 500;
        let task = if record % 2 == 0 { 0 } else { record as usize % tasks.len() };
        assert!(tasks[task].contains(&id(n), 0).unwrap(), "{n}");
        assert!(!tasks[(task + 1) % tasks.len()].contains(&id(n), 0).unwrap(), "{n} is another task's");
    }
}

#[test]
fn an_index_outlives_the_store_it_came_from() {
    let folder = Folder::new("outlives");
    let index = open(&store(), &folder.0, 0);
    for n in 0..300u64 {
        let ids: Vec<_> = (n * 500..(n + 1) * 500).map(id).collect();
        index.insert(&ids, 1_000_000, n as i64 + 1).unwrap();
    }
    assert!(index.stats().segments > 0 && index.contains(&id(7), 0).unwrap());
    assert!(index.checkpoint() < index.position());
}

#[test]
fn what_is_forgotten_is_gone_from_memory_and_disk_and_what_comes_later_counts() {
    let folder = Folder::new("forgotten");
    let store = store();
    let index = open(&store, &folder.0, 0);
    for n in 0..300u64 {
        let ids: Vec<_> = (n * 500..(n + 1) * 500).map(id).collect();
        index.insert(&ids, 1_000_000, n as i64 + 1).unwrap();
    }
    assert!(index.stats().segments > 0, "nothing is on disk: nothing is tested");
    index.forget(400).unwrap();
    let all = |index: &dyn SeenIndex| (0..150_000u64).filter(|n| index.contains(&id(*n), 0).unwrap()).count();
    assert_eq!((all(&index), index.position(), index.checkpoint()), (0, Some(400), Some(400)));
    assert_eq!((index.stats().ids, index.stats().disk_bytes), (0, 0));
    index.insert(&[id(7)], 1_000_001, 401).unwrap();
    assert!(index.contains(&id(7), 0).unwrap());
    index.flush().unwrap();
    drop(index);
    let index = open(&store, &folder.0, 1_000_001);
    assert_eq!((all(&index), index.position()), (1, Some(401)));
}

#[test]
fn folders_whose_window_is_over_are_swept_and_others_stay() {
    let root = Folder::new("sweep");
    let store = store();
    let place = |name: &str| root.0.join("group").join(name);
    let fill = |name: &str, time_ms: i64| {
        let index = open(&store, &place(name), 0);
        index.insert(&[id(1)], time_ms, 1).unwrap();
        index.flush().unwrap();
        index
    };
    drop(fill("old", 1_000_000));
    drop(fill("young", 1_000_001));
    let _kept_open = fill("open", 1_000_000);
    std::fs::create_dir_all(place("foreign")).unwrap();
    std::fs::write(place("foreign").join("manifest"), "no manifest").unwrap();
    std::fs::write(root.0.join("file"), "").unwrap();
    let end = 1_000_000 + WINDOW_MS as i64;
    assert_eq!(store.sweep(&root.0, 2, end).unwrap(), 0, "its window is not over");
    assert_eq!(store.sweep(&root.0, 1, end + 1).unwrap(), 0, "it lies deeper");
    assert_eq!(store.sweep(&root.0, 2, end + 1).unwrap(), 1);
    let left = ["old", "young", "open", "foreign"].map(|name| place(name).exists());
    assert_eq!(left, [false, true, true, true]);
    assert_eq!(store.sweep(&root.0.join("nothing"), 2, end).unwrap(), 0);
    assert!(open(&store, &place("young"), 0).contains(&id(1), 0).unwrap());
}
