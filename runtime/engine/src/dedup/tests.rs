//! Which ids are remembered, for how long, and how many.

use super::*;
use crate::testing::{P0, P1, ranges};

const ONE: MessageId = MessageId([1; 16]);
const TWO: MessageId = MessageId([2; 16]);

/// An id of its own for each number.
fn id(number: u64) -> MessageId {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    MessageId(bytes)
}

/// How many buckets there are.
fn buckets(seen: &Seen) -> usize {
    seen.buckets.len()
}

/// A memory of 800 ms (eight buckets of 100) and 80 ids.
fn seen() -> Seen {
    Seen::new(800, 80, 1)
}

#[test]
fn an_id_is_seen_at_another_offset_of_its_partition_only() {
    let mut seen = seen();
    assert!(seen.is_empty());
    seen.mark(P0, ONE, (P0, 5), 1_000);
    assert!(seen.other(P0, ONE, (P0, 6), 1_000).is_some());
    assert!(seen.other(P0, ONE, (P0, 4), 1_000).is_some());
    assert!(seen.other(P0, ONE, (P0, 5), 1_000).is_none(), "a message is not its own duplicate");
    assert!(seen.other(P1, ONE, (P1, 6), 1_000).is_none());
    assert!(seen.other(P0, TWO, (P0, 6), 1_000).is_none());
    assert_eq!(seen.len(), 1);
    assert!(!seen.is_empty());
}

#[test]
fn an_id_is_remembered_for_the_window_and_at_most_a_bucket_more() {
    for marked in [1_000, 1_050, 1_099] {
        let mut seen = seen();
        // Opens the bucket 1000..1100.
        seen.mark(P0, TWO, (P0, 1), 1_000);
        seen.mark(P0, ONE, (P0, 5), marked);
        assert!(seen.other(P0, ONE, (P0, 6), marked + 799).is_some());
        assert!(seen.other(P0, ONE, (P0, 6), 1_899).is_some());
        assert!(seen.other(P0, ONE, (P0, 6), 1_900).is_none());
        // The table itself drops it at the same moment.
        seen.mark(P1, ONE, (P1, 1), 1_899);
        assert_eq!(seen.len(), 3);
        seen.mark(P1, ONE, (P1, 1), 1_900);
        assert_eq!(seen.len(), 1);
    }
}

#[test]
fn buckets_are_dropped_whole_and_in_order() {
    let mut seen = seen();
    for n in 0..8 {
        seen.mark(P0, id(n), (P0, n as i64), 1_000 + 100 * n as i64);
    }
    assert_eq!(seen.len(), 8);
    seen.mark(P0, id(8), (P0, 8), 2_050);
    let left: alloc::vec::Vec<u64> = (0..9).filter(|n| seen.other(P0, id(*n), (P0, -1), 2_050).is_some()).collect();
    assert_eq!(left, [2, 3, 4, 5, 6, 7, 8]);
    assert_eq!((seen.len(), seen.forgotten_early(), buckets(&seen)), (7, 0, 7));
    // A bucket ends where the next begins.
    seen.mark(P0, id(9), (P0, 9), 2_149);
    assert_eq!(buckets(&seen), 6);
    seen.mark(P0, id(10), (P0, 10), 2_150);
    assert_eq!(buckets(&seen), 7);
}

#[test]
fn a_clock_that_jumps_back_forgets_nothing() {
    let mut seen = seen();
    seen.mark(P0, ONE, (P0, 5), 10_000);
    seen.mark(P0, TWO, (P0, 6), 2_000);
    assert!(seen.other(P0, ONE, (P0, 9), 2_000).is_some());
    assert!(seen.other(P0, TWO, (P0, 9), 2_000).is_some());
    // What was marked on the clock set back lives as long as its bucket.
    assert!(seen.other(P0, TWO, (P0, 9), 10_800).is_some());
    assert_eq!(seen.len(), 2);
    assert_eq!(buckets(&seen), 1);
}

#[test]
fn a_bucket_opened_on_a_clock_set_back_starts_no_earlier_than_the_last() {
    let mut seen = Seen::new(800, 8, 1);
    seen.mark(P0, ONE, (P0, 5), 10_000);
    // The bucket is full (a share is one id), so that a new one opens.
    seen.mark(P0, TWO, (P0, 6), 2_000);
    assert_eq!(buckets(&seen), 2);
    assert!(seen.other(P0, TWO, (P0, 9), 10_800).is_some());
    assert!(seen.other(P0, TWO, (P0, 9), 10_900).is_none());
}

#[test]
fn a_clock_that_jumps_ahead_forgets_the_past() {
    let mut seen = seen();
    seen.mark(P0, ONE, (P0, 5), 1_000);
    seen.mark(P0, TWO, (P0, 6), 3_600_000);
    assert!(seen.other(P0, ONE, (P0, 9), 3_600_000).is_none());
    assert_eq!(seen.len(), 1);
}

#[test]
fn the_capacity_holds_and_the_oldest_go_first() {
    let mut seen = seen();
    for n in 0..1_000 {
        seen.mark(P0, id(n), (P0, n as i64), 1_000);
        assert!(seen.len() <= 80, "{}", seen.len());
        let kept = if n < 80 { n + 1 } else { 71 + n % 10 };
        assert_eq!((seen.len() as u64, seen.forgotten_early()), (kept, n + 1 - kept), "{n}");
    }
    assert!(seen.other(P0, id(999), (P0, -1), 1_000).is_some() && seen.other(P0, id(930), (P0, -1), 1_000).is_some());
    assert!(seen.other(P0, id(900), (P0, -1), 1_000).is_none());
}

#[test]
fn a_tiny_capacity_works_and_none_remembers_nothing() {
    let mut one = Seen::new(800, 1, 1);
    one.mark(P0, ONE, (P0, 1), 1_000);
    assert!(one.other(P0, ONE, (P0, 2), 1_000).is_some());
    one.mark(P0, TWO, (P0, 2), 1_000);
    assert!(one.other(P0, TWO, (P0, 3), 1_000).is_some() && one.other(P0, ONE, (P0, 3), 1_000).is_none());
    assert_eq!((one.len(), one.forgotten_early()), (1, 1));
    let mut none = Seen::new(800, 0, 1);
    none.mark(P0, ONE, (P0, 1), 1_000);
    assert!(none.is_empty() && none.other(P0, ONE, (P0, 2), 1_000).is_none());
}

#[test]
fn a_second_mark_in_the_same_bucket_counts_once() {
    let mut seen = seen();
    seen.mark(P0, ONE, (P0, 5), 1_000);
    seen.mark(P0, ONE, (P0, 9), 1_001);
    assert_eq!(seen.len(), 1);
    assert!(seen.other(P0, ONE, (P0, 9), 1_001).is_none() && seen.other(P0, ONE, (P0, 5), 1_001).is_some());
}

#[test]
fn a_window_shorter_than_its_buckets_still_remembers() {
    let mut seen = Seen::new(0, 80, 1);
    seen.mark(P0, ONE, (P0, 5), 1_000);
    assert!(seen.other(P0, ONE, (P0, 6), 1_000).is_some());
    assert!(seen.other(P0, ONE, (P0, 6), 1_001).is_none());
}

#[test]
fn a_restart_forgets_what_will_come_again_and_nothing_else() {
    let mut seen = seen();
    for offset in 0..10 {
        seen.mark(P0, id(offset), (P0, offset as i64), 1_000);
        seen.mark(P1, id(offset), (P1, offset as i64), 1_100);
    }
    seen.restart(P0, 4, &ranges(&[(6, 8)]));
    let left: alloc::vec::Vec<u64> = (0..10).filter(|n| seen.other(P0, id(*n), (P0, -1), 1_100).is_some()).collect();
    assert_eq!(left, [0, 1, 2, 3, 6, 7]);
    assert!((0..10).all(|n| seen.other(P1, id(n), (P1, -1), 1_100).is_some()));
    assert_eq!(seen.len(), 16);
}

#[test]
fn the_ends_of_time_do_not_overflow() {
    let mut seen = Seen::new(u64::MAX, 80, 1);
    seen.mark(P0, ONE, (P0, 5), i64::MIN);
    seen.mark(P0, TWO, (P0, 6), i64::MAX);
    assert!(seen.other(P0, TWO, (P0, 7), i64::MAX).is_some());
}
