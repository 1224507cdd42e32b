//! Look-ups beside inserting, writing, merging and expiry.

use crate::support::*;
use keyrail_store::SeenIndex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

#[test]
fn look_ups_are_right_while_all_else_goes_on() {
    const RECORDS: u64 = 1_200;
    const EACH: u64 = 400;
    let (folder, store) = (Folder::new("readers"), store());
    let index = open(&store, &folder.0, 0);
    let (inserted, over) = (AtomicU64::new(0), AtomicBool::new(false));
    // Two windows pass: time is that of the record.
    let time_ms = |record: u64| 1_000_000 + (record * 2 * WINDOW_MS / RECORDS) as i64;
    let asked: u64 = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..3)
            .map(|n| {
                let (index, inserted, over) = (&index, &inserted, &over);
                scope.spawn(move || {
                    let (mut chance, mut asked) = (Chance(n), 0);
                    while !over.load(Ordering::Relaxed) {
                        let until = inserted.load(Ordering::Acquire);
                        assert!(!index.contains(&id(u64::MAX - chance.below(1 << 40)), i64::MIN).unwrap());
                        if until == 0 {
                            continue;
                        }
                        let of = chance.below(until * EACH);
                        let at = time_ms(of / EACH);
                        // The window may have passed meanwhile.
                        if !index.contains(&id(of), at).unwrap() {
                            let now = time_ms(inserted.load(Ordering::Acquire) + 1);
                            assert!(at < now - WINDOW_MS as i64, "{of}, inserted at {at}, is denied at {now}");
                        }
                        assert!(!index.contains(&id(of), at + 1).unwrap());
                        asked += 1;
                    }
                    asked
                })
            })
            .collect();
        for record in 0..RECORDS {
            let ids: Vec<_> = (record * EACH..(record + 1) * EACH).map(id).collect();
            index.insert(&ids, time_ms(record), record as i64 + 1).unwrap();
            inserted.store(record + 1, Ordering::Release);
            if record % 40 == 0 {
                index.flush().unwrap();
            }
        }
        over.store(true, Ordering::Relaxed);
        readers.into_iter().map(|reader| reader.join().unwrap()).sum()
    });
    let stats = index.stats();
    assert!(asked > 1_000 && stats.lookups >= asked, "{asked} asked, {stats:?}");
    assert!(stats.segments > 0 && stats.ids < RECORDS * EACH * 3 / 4, "nothing expired: {stats:?}");
}
