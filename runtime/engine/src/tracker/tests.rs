//! What is settled, against a naive model.

use super::*;
use crate::metadata::{Kept, Metadata};
use crate::testing::{Dice, ranges};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

fn progress(point: i64, settled: &[(i64, i64)]) -> Progress {
    Progress { point, settled: ranges(settled) }
}

/// A tracker that started at 10, received `received` and settled `settled`.
fn check(before: &[(i64, i64)], received: &[(i64, i64)], settled: &[i64], expected: Progress) {
    let mut tracker = Tracker::new(10, ranges(before));
    for (first, last) in received {
        tracker.receive(*first, *last);
    }
    for offset in settled {
        assert!(tracker.settle(*offset), "{offset}");
    }
    assert_eq!(tracker.progress(), expected, "{before:?} {received:?} {settled:?}");
    assert_eq!(tracker.point(), expected.point);
}

#[test]
fn the_point_is_the_lowest_unsettled_offset_and_the_rest_is_mapped() {
    check(&[], &[], &[], progress(10, &[]));
    check(&[], &[(10, 14)], &[], progress(10, &[]));
    check(&[], &[(10, 14)], &[10, 11], progress(12, &[]));
    check(&[], &[(10, 14)], &[14, 13], progress(10, &[(13, 15)]));
    check(&[], &[(10, 14)], &[12, 14], progress(10, &[(12, 13), (14, 15)]));
    check(&[], &[(10, 14)], &[12, 10, 14, 11, 13], progress(15, &[]));
}

#[test]
fn gaps_that_the_log_leaves_are_not_waited_for() {
    // Compaction and transaction markers: 10, 13 and 20 are all there is.
    check(&[], &[(10, 10), (13, 13), (20, 20)], &[10], progress(13, &[(14, 20)]));
    check(&[], &[(10, 10), (13, 13), (20, 20)], &[13], progress(10, &[(11, 20)]));
    check(&[], &[(10, 10), (13, 13), (20, 20)], &[13, 20], progress(10, &[(11, 21)]));
    check(&[], &[(10, 10), (13, 13), (20, 20)], &[20, 13, 10], progress(21, &[]));
    check(&[], &[(15, 15)], &[], progress(15, &[]));
}

#[test]
fn what_an_earlier_assignment_settled_counts_at_once_and_stays_in_the_map() {
    check(&[(12, 14), (16, 17)], &[], &[], progress(10, &[(12, 14), (16, 17)]));
    check(&[(12, 14), (16, 17)], &[(10, 12)], &[], progress(10, &[(12, 14), (16, 17)]));
    check(&[(12, 14), (16, 17)], &[(10, 16)], &[10, 11], progress(14, &[(16, 17)]));
    check(&[(12, 14), (16, 17)], &[(10, 14)], &[10, 11, 14], progress(15, &[(16, 17)]));
    check(&[(12, 14), (16, 17)], &[(10, 16)], &[10, 11, 14, 15], progress(17, &[]));
}

/// The map began at the point itself: its first gap had length 0, and the next owner threw the map away as damaged.
#[test]
fn regression_a_map_never_begins_at_the_commit_point() {
    check(&[(11, 15), (18, 19)], &[(10, 10)], &[10], progress(15, &[(18, 19)]));
    check(&[(11, 15), (18, 19)], &[(10, 12)], &[10], progress(15, &[(18, 19)]));
    // Retention took 5..10, and 8..12 was settled.
    check(&[(8, 12)], &[], &[], progress(12, &[]));
    check(&[(11, 15)], &[(10, 10)], &[], progress(10, &[(11, 15)]));
}

#[test]
fn what_was_received_before_is_ignored() {
    let mut tracker = Tracker::new(10, Ranges::new());
    tracker.receive(3, 9);
    assert_eq!((tracker.next(), tracker.unsettled(), tracker.held()), (10, 0, 0));
    tracker.receive(8, 11);
    assert_eq!((tracker.next(), tracker.unsettled(), tracker.held()), (12, 2, 2));
    tracker.receive(10, 11);
    assert_eq!((tracker.next(), tracker.unsettled(), tracker.held()), (12, 2, 2));
    tracker.receive(12, 11);
    assert_eq!((tracker.next(), tracker.unsettled(), tracker.held()), (12, 2, 2));
}

#[test]
fn unknown_and_settled_offsets_do_not_settle() {
    let mut tracker = Tracker::new(10, ranges(&[(12, 13)]));
    assert!(!tracker.settle(10));
    tracker.receive(10, 13);
    tracker.receive(16, 17);
    for offset in [i64::MIN, -1, 9, 12, 14, 15, 18, i64::MAX] {
        assert!(!tracker.settle(offset), "{offset}");
    }
    assert!(tracker.settle(16));
    assert!(!tracker.settle(16));
    assert_eq!(tracker.unsettled(), 4);
    assert!(tracker.settle(10));
    assert!(!tracker.settle(10));
    assert_eq!((tracker.point(), tracker.unsettled()), (11, 3));
}

#[test]
fn memory_follows_what_is_unsettled_not_how_far_the_rest_has_run() {
    let mut tracker = Tracker::new(0, Ranges::new());
    tracker.receive(0, 0);
    for offset in 1..100_000 {
        tracker.receive(offset, offset);
        tracker.settle(offset);
        assert!(tracker.held() <= 1_026 + 1, "{}", tracker.held());
    }
    assert_eq!(tracker.progress(), progress(0, &[(1, 100_000)]));
    assert!(tracker.settle(0));
    assert_eq!((tracker.held(), tracker.point()), (0, 100_000));
}

#[test]
fn a_burst_leaves_no_memory_behind() {
    let mut tracker = Tracker::new(0, Ranges::new());
    tracker.receive(0, 50_000);
    assert!(tracker.entries.capacity() > 50_000);
    (0..=50_000).for_each(|offset| assert!(tracker.settle(offset)));
    assert_eq!(tracker.entries.capacity(), 0);
    // A usual one keeps its room.
    let mut tracker = Tracker::new(0, Ranges::new());
    tracker.receive(0, 4_095);
    assert_eq!(tracker.entries.capacity(), 4_096);
    (0..=4_095).for_each(|offset| assert!(tracker.settle(offset)));
    assert_eq!(tracker.entries.capacity(), 4_096);
}

#[test]
fn entries_are_thinned_only_once_they_outnumber_what_is_unsettled() {
    let mut tracker = Tracker::new(0, Ranges::new());
    tracker.receive(0, 5_001);
    // From behind, so that nothing can leave at the front. At 1988 unsettled, 5002 are more than 2 * 1988 + 1024.
    for offset in (1_989..=5_001).rev() {
        tracker.settle(offset);
        assert_eq!((tracker.unsettled(), tracker.held()), (offset as usize, 5_002));
    }
    tracker.settle(1_988);
    assert_eq!((tracker.unsettled(), tracker.held()), (1_988, 1_988));
    assert_eq!(tracker.progress(), progress(0, &[(1_988, 5_002)]));
}

/// Everything that the tracker does, done slowly.
#[derive(Default)]
struct Model {
    received: BTreeMap<i64, bool>,
    before: BTreeSet<i64>,
    next: i64,
}

impl Model {
    fn receive(&mut self, offset: i64) {
        if offset >= self.next {
            self.received.insert(offset, self.before.contains(&offset));
            self.next = offset + 1;
        }
    }

    fn settle(&mut self, offset: i64) -> bool {
        self.received.get_mut(&offset).is_some_and(|settled| !core::mem::replace(settled, true))
    }

    fn is_settled(&self, offset: i64) -> bool {
        if offset < self.next { self.received.get(&offset) != Some(&false) } else { self.before.contains(&offset) }
    }

    fn progress(&self, end: i64) -> Progress {
        let lowest = self.received.iter().find(|(_, settled)| !**settled).map_or(self.next, |(offset, _)| *offset);
        let point = (lowest..=end).find(|o| !self.is_settled(*o)).unwrap_or(end);
        let mut settled = Ranges::new();
        (point..end).filter(|o| self.is_settled(*o)).for_each(|o| settled.push(o, o + 1));
        Progress { point, settled }
    }
}

#[test]
fn agrees_with_a_naive_model_and_what_it_commits_can_be_read_back() {
    for seed in 0..30 {
        let mut dice = Dice(seed);
        let start = dice.roll(50) as i64;
        let count = dice.roll(6);
        let before = dice.ranges(start, count, 8);
        let mut model = Model { next: start, ..Model::default() };
        before.iter().for_each(|(from, to)| model.before.extend(from..to));
        let mut tracker = Tracker::new(start, before);
        for _ in 0..120 {
            if dice.roll(3) == 0 {
                let first = (tracker.next() + dice.roll(4) as i64 - 1).max(0);
                let last = first + dice.roll(6) as i64;
                tracker.receive(first, last);
                (first..=last).for_each(|o| model.receive(o));
            } else {
                let offset = start + dice.roll((tracker.next() - start) as u64 + 3) as i64;
                assert_eq!(tracker.settle(offset), model.settle(offset), "seed {seed} offset {offset}");
            }
            let progress = tracker.progress();
            assert_eq!(progress, model.progress(start + 600), "seed {seed}");
            let unsettled: Vec<i64> = model.received.iter().filter(|e| !e.1).map(|e| *e.0).collect();
            assert_eq!((tracker.unsettled(), tracker.next()), (unsettled.len(), model.next));
            let metadata = Metadata {
                sequence: 1,
                partitions: 1,
                held: None,
                log: 0,
                kept: Kept::default(),
                settled: progress.settled,
            };
            assert_eq!(Metadata::decode(&metadata.encode(progress.point), progress.point, i64::MAX), Ok(metadata));
        }
    }
}

/// Claims and settles by chance; before each commit all that is claimed is settled, as a ledger does it.
#[test]
fn what_is_claimed_makes_no_more_runs_than_are_counted() {
    for seed in 0..300 {
        let mut dice = Dice(seed);
        let mut tracker = Tracker::new(10, ranges(&[(30, 34), (40, 41), (60, 70)]));
        let (mut next, mut open, mut claimed) = (10, Vec::new(), Vec::new());
        for _ in 0..120 {
            match dice.roll(6) {
                0 | 1 => {
                    let first = next + dice.roll(3) as i64;
                    let last = first + dice.roll(6) as i64;
                    tracker.receive(first, last);
                    open.extend((first..=last).filter(|offset| tracker.is_unsettled(*offset)));
                    next = last + 1;
                }
                2..=4 if !open.is_empty() => {
                    let offset = open.swap_remove(dice.roll(open.len() as u64) as usize);
                    assert!(tracker.claim(offset) && tracker.claim(offset), "so few always have room");
                    claimed.push(offset);
                }
                5 => {
                    for offset in claimed.drain(..) {
                        assert!(tracker.settle(offset));
                    }
                    let (map, counted) = (tracker.progress().settled, tracker.runs + tracker.before.len() + 1);
                    assert!(map.len() <= counted, "seed {seed}: {map:?} has more than {counted} runs");
                    assert!(map.len() + 3 >= counted, "seed {seed}: {map:?} was counted as {counted} runs");
                    assert!(map.iter().last().is_none_or(|(_, end)| end <= next.max(70)));
                }
                _ => {}
            }
        }
    }
}

#[test]
fn a_full_map_lets_in_only_what_makes_it_no_larger() {
    let mut tracker = Tracker::new(0, Ranges::new());
    tracker.receive(0, 59_999);
    let taken = (1..60_000).step_by(2).take_while(|offset| tracker.claim(*offset)).count() as i64;
    assert!((11_000..13_000).contains(&taken), "{taken}");
    assert!(!tracker.claim(50_001) && !tracker.reserve(50_001) && !tracker.has_much_room());
    // Between two runs, and the lowest of all.
    assert!(tracker.claim(2) && tracker.claim(0));
    for offset in (0..2 * taken).filter(|o| o % 2 == 1 || *o == 2 || *o == 0) {
        assert!(tracker.settle(offset));
    }
    let progress = tracker.progress();
    let text = Metadata { settled: progress.settled.clone(), ..Metadata::default() }.encode(progress.point);
    let read = Metadata::decode(&text, progress.point, 60_000).map(|m| m.settled);
    assert_eq!(read, Ok(progress.settled), "nothing of it is left out");
    for offset in (4..13_000).step_by(2) {
        assert!(tracker.claim(offset) && tracker.settle(offset));
    }
    assert!(tracker.claim(5_001) && tracker.has_much_room());
}
