#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use super::*;

const TIMING: Timing = Timing { group_wait_ms: 10_000, group_interval_ms: 300_000, repeat_interval_ms: 3_600_000 };
/// Wall time of the first steady millisecond.
const EPOCH: i64 = 1_700_000_000_000;

fn at(steady_ms: u64) -> Now {
    Now { steady_ms, wall_ms: EPOCH + steady_ms as i64 }
}

fn desk() -> Desk {
    Desk::new(TIMING)
}

fn event(pipeline: &str, kind: Kind, what: What) -> Event {
    Event { pipeline: pipeline.to_owned(), kind, what }
}

fn letters(pipeline: &str, count: u64, partition: i32) -> Event {
    let place = Place { topic: "orders".to_owned(), partition: Some(partition) };
    let example = Example { offset: Some(i64::from(partition)), ..Example::default() };
    event(pipeline, Kind::DeadLetters, What::Happened { count, places: vec![(place, count)], example })
}

fn open(pipeline: &str) -> Event {
    event(pipeline, Kind::Breaker, What::Stands { count: 12, since_ms: None, example: Example::default() })
}

fn closed(pipeline: &str) -> Event {
    event(pipeline, Kind::Breaker, What::Over)
}

/// What is told at this time, delivered.
fn told(desk: &mut Desk, now_ms: u64) -> Vec<Told> {
    let parcel = desk.take(at(now_ms));
    if parcel.is_some() {
        desk.delivered(at(now_ms));
    }
    parcel.map(|parcel| parcel.groups).unwrap_or_default()
}

/// Pipeline, whether it is over, count and what of it is new.
fn short(all: &[Told]) -> Vec<(&str, bool, u64, u64)> {
    all.iter().map(|told| (told.pipeline.as_str(), told.over, told.count, told.new)).collect()
}

#[test]
fn what_comes_together_is_one_message() {
    let mut desk = desk();
    assert_eq!(desk.next_ms(), None);
    desk.hear(letters("a", 1, 0), at(0));
    desk.hear(letters("a", 2, 1), at(4_000));
    desk.hear(open("b"), at(9_000));
    assert_eq!((desk.next_ms(), desk.waiting()), (Some(10_000), 2));
    assert_eq!(told(&mut desk, 9_999), []);
    let all = told(&mut desk, 10_000);
    // The second has not waited for as long, and goes along.
    assert_eq!(short(&all), [("a", false, 3, 3), ("b", false, 12, 0)]);
    assert_eq!(
        all[0].places.iter().map(|(place, n)| (place.partition, *n)).collect::<Vec<_>>(),
        [(Some(0), 1), (Some(1), 2)]
    );
    assert_eq!((all[0].since_ms, all[0].last_ms, all[0].example.offset), (EPOCH, EPOCH + 4_000, Some(1)));
    assert_eq!(desk.waiting(), 0);
}

#[test]
fn a_flood_is_a_message_an_interval_and_each_is_counted_once() {
    let mut desk = desk();
    let mut messages = Vec::new();
    for second in 0..3_600 {
        desk.hear(letters("a", 100, 0), at(second * 1_000));
        messages.extend(told(&mut desk, second * 1_000).into_iter().map(|told| (second, told.count, told.new)));
    }
    assert_eq!(messages.first(), Some(&(10, 1_100, 1_100)));
    assert_eq!(messages.len(), 12);
    assert!(
        messages.windows(2).all(|pair| pair[1].0 - pair[0].0 == 300 && pair[1].2 == pair[1].1 - pair[0].1),
        "{messages:?}"
    );
    // What came after the last message is told when its interval is over, though nothing more comes.
    let last = messages[11];
    let due = desk.next_ms().unwrap();
    assert_eq!(due, (last.0 + 300) * 1_000);
    assert_eq!(short(&told(&mut desk, due)), [("a", false, 360_000, 360_000 - last.1)]);
    // Then it is quiet, and what comes is another matter.
    assert_eq!(desk.next_ms(), None);
    desk.hear(letters("a", 1, 0), at(due + 300_000));
    assert_eq!(short(&told(&mut desk, due + 310_000)), [("a", false, 1, 1)]);
}

#[test]
fn what_stands_is_told_again_and_when_it_is_over() {
    let mut desk = desk();
    for second in 0..20 {
        desk.hear(open("a"), at(second * 1_000));
    }
    assert_eq!(short(&told(&mut desk, 19_000)), [("a", false, 12, 0)]);
    for second in 20..7_200 {
        desk.hear(open("a"), at(second * 1_000));
        let again = told(&mut desk, second * 1_000);
        assert_eq!(again.len(), usize::from(second == 19 + 3_600), "{second}");
    }
    desk.hear(closed("a"), at(7_200_000));
    desk.hear(closed("a"), at(7_201_000));
    let over = told(&mut desk, 7_210_000);
    assert_eq!(short(&over), [("a", true, 12, 0)]);
    assert_eq!((over[0].since_ms, over[0].last_ms, over[0].times), (EPOCH, EPOCH + 7_200_000, 1));
    assert_eq!(desk.next_ms(), None);
}

#[test]
fn what_was_over_before_it_was_told_is_told_once_and_nothing_else_is() {
    let mut desk = desk();
    desk.hear(closed("a"), at(0));
    assert_eq!(desk.next_ms(), None, "it never stood");
    desk.hear(open("a"), at(1_000));
    desk.hear(closed("a"), at(2_000));
    assert_eq!(short(&told(&mut desk, 11_000)), [("a", true, 12, 0)]);
    // One that opens and closes all the time is a message an interval, which says how often.
    for second in (20..320).step_by(2) {
        desk.hear(open("a"), at(second * 1_000));
        desk.hear(closed("a"), at(second * 1_000 + 1_000));
        let before = told(&mut desk, second * 1_000 + 1_000);
        if !before.is_empty() {
            assert_eq!((second * 1_000 + 1_000, before[0].times, before[0].over), (311_000, 147, true));
        }
    }
}

#[test]
fn messages_of_many_groups_keep_their_distance() {
    let mut desk = desk();
    let mut times = Vec::new();
    let mut heard = 0;
    for tenth in 0..3_000_u64 {
        // A new pipeline each half second, for a minute.
        if tenth % 5 == 0 && heard < 120 {
            desk.hear(letters(&format!("p{heard}"), 1, 0), at(tenth * 100));
            heard += 1;
        }
        let all = told(&mut desk, tenth * 100);
        if !all.is_empty() {
            times.push((tenth * 100, all.len()));
        }
    }
    assert_eq!(times.iter().map(|(_, n)| n).sum::<usize>(), 120, "each is told once: {times:?}");
    assert!(times.windows(2).all(|pair| pair[1].0 - pair[0].0 >= TIMING.group_wait_ms), "{times:?}");
    assert!(times.len() <= 8, "{times:?}");
}

#[test]
fn a_message_has_so_much_room_and_the_rest_follows() {
    let mut desk = desk();
    for n in 0..120 {
        desk.hear(letters(&format!("p{n:03}"), 1, 0), at(n));
    }
    let mut names = Vec::new();
    let mut sizes = Vec::new();
    let mut now_ms = 10_000;
    while let Some(due) = desk.next_ms() {
        now_ms = due.max(now_ms);
        let all = told(&mut desk, now_ms);
        sizes.push(all.len());
        names.extend(all.into_iter().map(|told| told.pipeline));
    }
    assert_eq!(sizes, [50, 50, 20]);
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 120);
}

#[test]
fn a_receiver_that_is_away_is_tried_less_and_less_and_loses_nothing() {
    let mut desk = desk();
    desk.hear(letters("a", 5, 0), at(0));
    let (mut now_ms, mut waits) = (10_000, Vec::new());
    for _ in 0..12 {
        assert!(desk.take(at(now_ms)).is_some());
        desk.hear(letters("a", 1, 0), at(now_ms));
        desk.failed(at(now_ms), None);
        assert!(desk.take(at(now_ms)).is_none(), "not at once");
        let due = desk.next_ms().unwrap();
        waits.push((due - now_ms) / 1_000);
        now_ms = due;
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
    let all = told(&mut desk, now_ms);
    assert_eq!(short(&all), [("a", false, 17, 17)]);
    assert_eq!(all[0].since_ms, EPOCH);
    // The next failure begins with a short wait again.
    desk.hear(letters("a", 1, 0), at(now_ms));
    now_ms = desk.next_ms().unwrap();
    assert!(desk.take(at(now_ms)).is_some());
    desk.failed(at(now_ms), Some(30_000));
    assert_eq!(desk.next_ms(), Some(now_ms + 30_000), "it wants to be left alone for longer");
    assert!(desk.take(at(now_ms + 30_000)).is_some());
    desk.failed(at(now_ms + 30_000), Some(u64::MAX));
    assert_eq!(desk.next_ms(), Some(now_ms + 30_000 + 3_600_000), "and is obeyed within reason");
}

#[test]
fn what_happens_while_a_message_is_under_way_is_of_the_next() {
    let mut desk = desk();
    desk.hear(letters("a", 1, 0), at(0));
    desk.hear(open("b"), at(0));
    assert_eq!(desk.take(at(10_000)).unwrap().groups.len(), 2);
    assert_eq!((desk.next_ms(), desk.take_all()), (None, None), "one at a time");
    desk.hear(letters("a", 7, 0), at(11_000));
    desk.hear(closed("b"), at(11_000));
    desk.delivered(at(12_000));
    assert_eq!(desk.next_ms(), Some(312_000));
    assert_eq!(short(&told(&mut desk, 312_000)), [("a", false, 8, 7), ("b", true, 12, 0)]);
}

#[test]
fn at_the_end_all_is_told_at_once() {
    let mut desk = desk();
    assert_eq!(desk.take_all(), None);
    desk.hear(letters("a", 1, 0), at(0));
    assert_eq!(told(&mut desk, 10_000).len(), 1);
    desk.hear(letters("a", 1, 0), at(10_001));
    desk.hear(open("b"), at(10_002));
    let all = desk.take_all().unwrap();
    assert_eq!(short(&all.groups), [("a", false, 2, 1), ("b", false, 12, 0)]);
}

#[test]
fn events_that_found_no_room_are_told_with_the_next_message() {
    let mut desk = desk();
    desk.miss(3);
    assert_eq!(desk.next_ms(), None, "there is nothing else to tell");
    desk.hear(letters("a", 1, 0), at(0));
    assert_eq!(desk.take(at(10_000)).unwrap().missed, 3);
    desk.failed(at(10_000), None);
    desk.miss(2);
    assert_eq!(desk.take(at(20_000)).unwrap().missed, 5);
    desk.miss(1);
    desk.delivered(at(20_000));
    desk.hear(letters("b", 1, 0), at(20_000));
    assert_eq!(desk.take(at(40_000)).unwrap().missed, 1);
}

#[test]
fn what_is_remembered_is_bounded() {
    let mut desk = desk();
    for n in 0..GROUPS + 10 {
        desk.hear(letters(&n.to_string(), 1, 0), at(0));
    }
    assert_eq!((desk.groups.len(), desk.missed), (GROUPS, 10));
    let mut desk = super::Desk::new(TIMING);
    for partition in 0..1_000 {
        desk.hear(letters("a", 2, partition), at(0));
    }
    let all = told(&mut desk, 10_000);
    assert_eq!((all[0].places.len(), all[0].elsewhere, all[0].count), (PLACES, 2 * (1_000 - PLACES as u64), 2_000));
    // What is told and quiet goes.
    desk.hear(closed("other"), at(10_000 + TIMING.group_interval_ms));
    assert!(desk.groups.is_empty());
}

/// Whatever comes, in whatever order, with receivers that fail: no count is lost or told twice, and rates hold.
#[test]
fn nothing_is_lost_or_told_twice_whatever_comes() {
    let mut seed = 7_u64;
    let mut chance = move |of: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % of
    };
    for round in 0..200 {
        let mut desk = desk();
        let (mut happened, mut heard) = (BTreeMap::<String, u64>::new(), BTreeMap::<String, u64>::new());
        let mut last_told = BTreeMap::<(String, Kind), u64>::new();
        let mut now_ms = 0;
        let mut deliver = |desk: &mut Desk, now_ms: u64, good: bool, end: bool| {
            let Some(parcel) = (if end { desk.take_all() } else { desk.take(at(now_ms)) }) else { return };
            if !good {
                return desk.failed(at(now_ms), None);
            }
            for told in parcel.groups {
                let before = last_told.insert((told.pipeline.clone(), told.kind), now_ms);
                assert!(end || before.is_none_or(|before| now_ms - before >= TIMING.group_interval_ms), "{round}");
                *heard.entry(told.pipeline).or_insert(0) += told.new;
            }
            desk.delivered(at(now_ms));
        };
        for _ in 0..500 {
            now_ms += chance(20_000);
            let pipeline = format!("p{}", chance(4));
            match chance(4) {
                0 => desk.hear(open(&pipeline), at(now_ms)),
                1 => desk.hear(closed(&pipeline), at(now_ms)),
                _ => {
                    let count = 1 + chance(9);
                    *happened.entry(pipeline.clone()).or_insert(0) += count;
                    desk.hear(letters(&pipeline, count, 0), at(now_ms));
                }
            }
            deliver(&mut desk, now_ms, chance(3) > 0, false);
        }
        deliver(&mut desk, now_ms, true, true);
        assert_eq!((heard, desk.waiting()), (happened, 0), "{round}");
    }
}
