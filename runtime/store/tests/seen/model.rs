//! Whatever is done to it, it answers as a map does.

use crate::support::*;
use keyrail_store::{DiskSeen, MemorySeen, SeenIndex};

/// Records with ids new and old, times that go on, stand and go back.
fn record(topic: &mut Topic, chance: &mut Chance, fresh: &mut u64) -> Record {
    let count = if chance.below(20) == 0 { 0 } else { chance.below(2_000) };
    let ids = (0..count)
        .map(|_| {
            *fresh += 1;
            id(if chance.below(8) == 0 { chance.below(*fresh) } else { *fresh })
        })
        .collect();
    let time_ms = match chance.below(40) {
        0 => topic.latest_ms - chance.below(2 * WINDOW_MS) as i64,
        1 => topic.latest_ms + chance.below(WINDOW_MS / 4) as i64,
        _ => topic.latest_ms + chance.below(300) as i64,
    };
    topic.add(ids, time_ms)
}

/// Lets go of the index and takes it again; what was not on disk is read again from the topic.
fn reopen(index: DiskSeen, folder: &Folder, topic: &Topic, flush: bool) -> DiskSeen {
    if flush {
        index.flush().unwrap();
    }
    let end = topic.records.last().map(|r| r.position);
    assert_eq!(index.position(), end);
    drop(index);
    let index = open(&store(), &folder.0, topic.latest_ms);
    let position = index.position().unwrap_or(0);
    assert!(!flush || index.position() == end, "flushed, but at {position}");
    topic.until(position).check_some(&index, topic.oldest_ms());
    for record in topic.records.iter().filter(|r| r.position > position) {
        insert(&index, record);
    }
    index
}

impl Topic {
    /// Every seventh id.
    fn check_some(&self, index: &dyn SeenIndex, oldest_ms: i64) {
        for id in self.times.keys().step_by(7) {
            assert_eq!(index.contains(id, oldest_ms).unwrap(), self.expects(id, oldest_ms), "{id:?}");
        }
    }
}

#[test]
fn it_answers_as_a_map_does_through_writing_merging_expiry_and_reopening() {
    for seed in 0..6 {
        let (mut chance, mut fresh) = (Chance(seed), 0);
        let (folder, mut topic) = (Folder::new("model"), Topic::default());
        topic.latest_ms = 1_000_000;
        let mut index = open(&store(), &folder.0, 0);
        let memory = MemorySeen::new(WINDOW_MS);
        for round in 0..400 {
            let record = record(&mut topic, &mut chance, &mut fresh);
            insert(&index, &record);
            insert(&memory, &record);
            for _ in 0..20 {
                let (id, at) = (id(chance.below(fresh + 100)), topic.oldest_ms() + chance.below(WINDOW_MS) as i64);
                assert_eq!(index.contains(&id, at).unwrap(), topic.expects(&id, at), "seed {seed}, round {round}");
            }
            if chance.below(60) == 0 {
                index = reopen(index, &folder, &topic, chance.below(2) == 0);
            }
        }
        topic.check(&index, &format!("seed {seed}"));
        topic.check(&memory, &format!("seed {seed}, in memory"));
        assert!(index.stats().segments > 0 && index.stats().failing.is_none(), "{:?}", index.stats());
    }
}

#[test]
fn what_is_too_old_is_gone_from_memory_and_disk() {
    let (folder, mut topic, store) = (Folder::new("expiry"), Topic::default(), store());
    let index = open(&store, &folder.0, 0);
    for n in 0..10u64 {
        let ids = (n * 1_000..(n + 1) * 1_000).map(id).collect();
        insert(&index, &topic.add(ids, 1_000_000 + n as i64 * 10_000));
        index.flush().unwrap();
    }
    wait_until("the first bucket goes", || index.stats().ids == 9_000);
    assert!(!index.contains(&id(5), i64::MIN).unwrap());
    topic.check(&index, "the first is gone");
    index.expire(1_045_000);
    wait_until("five buckets go", || index.stats().ids == 5_000);
    // Also what was never written.
    insert(&index, &topic.add(vec![id(99_999)], 1_090_001));
    index.expire(1_090_002);
    wait_until("all goes", || index.stats().ids == 0);
    let files = || std::fs::read_dir(&folder.0).unwrap().count();
    wait_until("its files go: lock and manifest stay", || files() == 2);
    assert_eq!(index.position(), Some(11));
    index.flush().unwrap();
    drop(index);
    assert_eq!(open(&store, &folder.0, 0).position(), Some(11));
}

#[test]
fn what_became_too_old_while_it_was_closed_is_not_asked_for() {
    let (folder, store) = (Folder::new("away"), store());
    let index = open(&store, &folder.0, 0);
    for n in 0..3 {
        index.insert(&[id(n as u64)], 1_000_000 + n * 15_000, n + 1).unwrap();
        index.flush().unwrap();
    }
    drop(index);
    // Deleted, as by one that could not write a manifest any more.
    std::fs::remove_file(folder.0.join("000000000001.seen")).unwrap();
    let index = open(&store, &folder.0, 1_000_001 + WINDOW_MS as i64);
    assert_eq!((index.stats().ids, index.position()), (2, Some(3)));
    assert!(index.contains(&id(2), i64::MIN).unwrap() && !index.contains(&id(0), i64::MIN).unwrap());
}

#[test]
fn few_segments_are_asked_however_many_were_written() {
    let (folder, store) = (Folder::new("few"), store());
    let index = open(&store, &folder.0, 0);
    let mut topic = Topic::default();
    for n in 0..80u64 {
        let ids = (n * 100..(n + 1) * 100).map(id).collect();
        insert(&index, &topic.add(ids, 1_000_000 + n as i64 * 800));
        index.flush().unwrap();
    }
    // Seven buckets that are whole, and up to three of each size in the one being filled.
    wait_until("merging", || index.stats().segments <= 7 + 6);
    assert_eq!(index.stats().ids, 8_000);
    topic.check(&index, "merged");
}
