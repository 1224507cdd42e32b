//! Order within a lane, fairness between lanes, memory.

use super::*;
use crate::testing::Dice;

#[test]
fn an_idle_shard_waits_for_a_message() {
    check(policy(), "next => wait\n load => lanes 0 waiting 0 letters 0 ids 0");
}

#[test]
fn messages_run_once_in_order_and_the_lane_closes() {
    check(
        policy(),
        "put a1 b2 a3 =>
         load => lanes 2 waiting 0 letters 0 ids 0
         next => run a1 a3 b2 in 3000
         next => wait
         end done skip done => a1 done/0 a3 skipped/1 b2 done/2
         load => lanes 0 waiting 0 letters 0 ids 0
         next => wait",
    );
}

#[test]
fn what_arrives_during_a_call_waits_for_its_end() {
    check(
        policy(),
        "put a1 b2 =>
         next => run a1 b2 in 2000
         put a3 c4 =>
         next => wait
         load => lanes 3 waiting 0 letters 0 ids 0
         end done done => a1 done/0 b2 done/1
         next => run c4 a3 in 2000
         end done done => c4 done/0 a3 done/1",
    );
}

#[test]
fn lanes_of_one_key_in_two_partitions_are_apart() {
    check(
        policy(),
        "put a1 A1 =>
         next => run a1 A1 in 2000
         end retry done => A1 done/1 retried 1
         put A2 =>
         next => run A2 in 1000",
    );
}

#[test]
fn a_hot_key_does_not_starve_others_and_they_not_it() {
    check(
        policy(),
        "put a1 a2 a3 a4 a5 a6 a7 a8 a9 a10 a11 a12 b20 c21 =>
         next => run a1 a2 a3 a4 a5 a6 a7 a8 b20 c21 a9 a10 a11 a12 in 14000",
    );
    // A full batch: whoever was served last comes last.
    let narrow = || Policy { batch: Batch { max_messages: 10, ..policy().batch }, ..policy() };
    check(
        narrow(),
        "put a1 a2 a3 a4 a5 a6 a7 a8 a9 a10 a11 a12 b20 c21 d22 =>
         next => run a1 a2 a3 a4 a5 a6 a7 a8 b20 c21 in 10000
         end done done done done done done done done done done => a1 done/0 a2 done/1 a3 done/2 a4 done/3 a5 done/4 a6 done/5 a7 done/6 a8 done/7 b20 done/8 c21 done/9
         next => run d22 a9 a10 a11 a12 in 5000",
    );
}

#[test]
fn the_lane_that_filled_the_batch_is_served_first_next_time() {
    let narrow = Policy { batch: Batch { max_messages: 2, ..policy().batch }, ..policy() };
    check(
        narrow,
        "put a1 b2 c3 d4 e5 =>
         next => run a1 b2 in 2000
         put b6 =>
         end done done => a1 done/0 b2 done/1
         next => run c3 d4 in 2000
         end done done => c3 done/0 d4 done/1
         next => run e5 b6 in 2000",
    );
}

#[test]
fn a_million_lanes_opened_and_closed_leave_no_memory_behind() {
    let policy = Policy { batch: Batch { max_messages: 65_536, max_bytes: u64::MAX, ..policy().batch }, ..policy() };
    let mut shard = Shard::new(policy, 1);
    shard.open(P0, Epoch(1), 0, &Ranges::new());
    let (now, mut settled) = (Now::default(), Vec::new());
    let (wave, papers) = (125_000, ticket("a0"));
    for first in (0..8).map(|n| n * wave) {
        for offset in first..first + wave {
            shard.accept(Ticket { lane: offset, offset: offset as i64, ..papers }, (), now);
        }
        assert_eq!((shard.load().lanes as u64, shard.ready.len() as u64), (wave, wave));
        while let Next::Run(plan) = shard.next(now, &NoPast, &NothingParked, &mut settled) {
            shard.complete(alloc::vec![Outcome::Done; plan.messages as usize], 0, now, &mut settled);
            assert_eq!(settled.len() as u32, plan.messages);
            settled.clear();
        }
        assert_eq!(shard.load(), Load::default());
        let left = (shard.lanes.table_bytes(), shard.ready.capacity(), shard.running.capacity());
        assert!(left.0 <= 1 << 20 && left.1 <= 8_192 && left.2 <= 65_536, "{left:?}");
        assert!(shard.lanes.places() <= 4096, "{} places", shard.lanes.places());
    }
}

#[test]
fn a_revoked_burst_leaves_no_memory_behind_either() {
    let mut shard = Shard::new(policy(), 1);
    shard.open(P0, Epoch(1), 0, &Ranges::new());
    for offset in 0..50_000 {
        shard.accept(Ticket { lane: offset, offset: offset as i64, ..ticket("a0") }, (), Now::default());
    }
    assert!(shard.lanes.places() >= 50_000 && shard.ready.capacity() >= 50_000);
    shard.close(P0, Epoch(1));
    assert_eq!(shard.next(Now::default(), &NoPast, &NothingParked, &mut Vec::new()), Next::Wait(None));
    let left = (shard.lanes.table_bytes(), shard.ready.capacity(), shard.lanes.places());
    assert!(left.0 <= 1 << 20 && left.1 == 0 && left.2 <= 4096, "{left:?}");
}

#[test]
fn the_queue_of_ready_lanes_keeps_its_usual_room_and_all_that_is_in_it() {
    for (lanes, room) in [(4_096, 4_096), (4_097, 0)] {
        let mut shard = Shard::new(policy(), 1);
        shard.open(P0, Epoch(1), 0, &Ranges::new());
        for offset in 0..lanes {
            shard.accept(Ticket { lane: offset, offset: offset as i64, ..ticket("a0") }, (), Now::default());
        }
        let (mut settled, mut ended) = (Vec::new(), 0);
        while let Next::Run(plan) = shard.next(Now::default(), &NoPast, &NothingParked, &mut settled) {
            shard.complete(alloc::vec![Outcome::Done; plan.messages as usize], 0, Now::default(), &mut settled);
            ended += core::mem::take(&mut settled).len() as u64;
        }
        assert_eq!((ended, shard.ready.capacity()), (lanes, room));
    }
}

#[test]
fn a_waiting_message_costs_little_beside_its_bytes() {
    let bytes =
        size_of::<Item<[usize; 2]>>() + size_of::<super::super::lanes::Lane<[usize; 2]>>() + 2 * size_of::<u32>();
    assert!(bytes <= 200, "{bytes} bytes for a lane with one message");
}

#[test]
fn tables_in_use_are_not_shrunk_below_their_need() {
    let mut lanes: Lanes<()> = Lanes::new();
    let lane = |hash| LaneId { task: P0, hash };
    let places: Vec<Place> = (0..40_000).map(|hash| lanes.open(lane(hash)).0).collect();
    let (full, room) = (lanes.table_bytes(), lanes.places());
    places[..30_000].iter().for_each(|place| lanes.close(*place));
    assert_eq!((lanes.table_bytes(), lanes.places()), (full, room), "a quarter is in use");
    places[30_000..39_000].iter().for_each(|place| lanes.close(*place));
    assert!(lanes.table_bytes() <= full / 8, "{} of {full}", lanes.table_bytes());
    assert!(places[39_000..].iter().all(|place| lanes.get(*place).is_some()));
    assert!(lanes.get(places[38_999]).is_none());
    assert_eq!(lanes.len(), 1_000);
    places[39_000..].iter().for_each(|place| lanes.close(*place));
    assert!(lanes.places() <= 4096, "{} places for no lane", lanes.places());
}

#[test]
fn of_the_slab_stays_what_lies_before_the_last_open_lane() {
    let mut lanes: Lanes<()> = Lanes::new();
    let lane = |hash| LaneId { task: P0, hash };
    let places: Vec<Place> = (0..20_000).map(|hash| lanes.open(lane(hash)).0).collect();
    places.iter().filter(|place| **place != places[99]).for_each(|place| lanes.close(*place));
    assert!(lanes.places() <= 4096, "{} places for the hundredth lane", lanes.places());
    let again: Vec<Place> = (0..200).map(|hash| lanes.open(lane(hash)).0).collect();
    assert_eq!((again[99], lanes.len()), (places[99], 200), "the open one is where it was, the others are new");
    assert!(places[..99].iter().chain(&places[100..]).all(|place| lanes.get(*place).is_none()));
    assert!(again.iter().all(|place| lanes.get(*place).is_some()));
}

#[test]
fn a_lane_in_the_place_of_a_closed_one_is_another() {
    let mut lanes: Lanes<()> = Lanes::new();
    let other = crate::message::Partition { topic: 0, number: 9 };
    let (old, _) = lanes.open(LaneId { task: P0, hash: 1 });
    lanes.close(old);
    let (new, _) = lanes.open(LaneId { task: other, hash: 1 });
    assert!(lanes.get(old).is_none() && lanes.get(new).is_some());
    assert!(lanes.is_of(new, other) && !lanes.is_of(new, P0) && !lanes.is_of(old, other));
    lanes.close(old);
    assert_eq!(lanes.len(), 1, "closing it once more leaves the new one alone");
    lanes.remove_task(other);
    assert_eq!((lanes.len(), lanes.get(new).is_none()), (0, true));
}

#[test]
fn queues_of_closed_lanes_are_reused_within_limits() {
    let mut lanes: Lanes<()> = Lanes::new();
    let lane = |hash| LaneId { task: P0, hash };
    // A long queue is not kept.
    let (long, first) = lanes.open(lane(0));
    first.queue.reserve_exact(17);
    lanes.close(long);
    let (place, second) = lanes.open(lane(1));
    assert_eq!(second.queue.capacity(), 1);
    // A short one is, empty and idle.
    second.queue.reserve_exact(16);
    second.queue.push_back(Item { ticket: ticket("a0"), message: (), trouble: None, alone: false, stays: false });
    (second.phase, second.follows_dead_letter) = (Phase::Running, true);
    lanes.close(place);
    let (_, third) = lanes.open(lane(2));
    assert_eq!((third.queue.capacity(), third.queue.len()), (16, 0));
    assert_eq!((third.phase, third.follows_dead_letter), (Phase::Idle, false));
    // And no more than so many.
    let places: Vec<Place> = (10..2_010)
        .map(|hash| {
            let (place, lane) = lanes.open(lane(hash));
            lane.queue.reserve_exact(2);
            place
        })
        .collect();
    places.into_iter().for_each(|place| lanes.close(place));
    let reused = (10..2_010).filter(|hash| lanes.open(lane(*hash)).1.queue.capacity() > 1).count();
    assert_eq!(reused, 1_024);
}

/// Random arrivals, outcomes, traps and letters: each lane's effects come in order, and each message ends once.
#[test]
fn any_sequence_of_events_keeps_every_lane_in_order() {
    for seed in 0..60 {
        let mut dice = Dice(seed);
        let batch = Batch {
            max_messages: 1 + dice.roll(12) as u32,
            max_bytes: 60,
            max_wait_ms: dice.roll(3),
            ..policy().batch
        };
        let mut shard = Shard::new(Policy { batch, ..policy() }, seed);
        shard.open(P0, Epoch(1), 0, &Ranges::new());
        let (mut now, mut settled, mut letters) = (Now::default(), Vec::new(), Vec::new());
        let mut last: BTreeMap<u64, i64> = BTreeMap::new();
        let mut ended = 0;
        let count = 250;
        let (mut offset, mut steps) = (0, 0);
        while ended < count {
            steps += 1;
            assert!(steps < 20_000, "seed {seed}: only {ended} messages ended");
            now = Now { steady_ms: now.steady_ms + dice.roll(40), wall_ms: now.wall_ms + 1 };
            for _ in 0..dice.roll(6).min((count - offset) as u64) {
                let lane = dice.roll(5);
                shard.accept(Ticket { lane, offset, size: 1 + dice.roll(40) as u32, ..ticket("a0") }, (), now);
                offset += 1;
            }
            if let Next::Run(plan) = shard.next(now, &NoPast, &NothingParked, &mut settled) {
                let lanes: Vec<u64> = shard.batch().map(|d| d.ticket.lane).collect();
                assert!(
                    !lanes.iter().any(|l| letters.iter().any(|(lane, _)| lane == l)),
                    "runs before its letter's ack"
                );
                if dice.roll(10) == 0 {
                    let call = CallFailure { timeout: false, failure: Failure::default() };
                    shard.fail(call, now, &mut settled);
                } else {
                    let answers = ["done", "done", "done", "skip", "retry", "outage", "dead"];
                    let outcomes = (0..plan.messages).map(|_| outcome(answers[dice.roll(7) as usize])).collect();
                    shard.complete(outcomes, dice.roll(30_000), now, &mut settled);
                }
            }
            for s in settled.drain(..) {
                let before = last.insert(s.ticket.lane, s.ticket.offset);
                assert!(before.is_none_or(|b| b < s.ticket.offset), "seed {seed}: {before:?} then {}", s.ticket.offset);
                ended += 1;
                if matches!(s.fate, Fate::DeadLetter(_)) {
                    letters.push((s.ticket.lane, s.ticket.offset));
                }
            }
            if dice.roll(2) == 0 && !letters.is_empty() {
                let (_, acked) = letters.swap_remove(dice.roll(letters.len() as u64) as usize);
                shard.letter_acknowledged(P0, Epoch(1), acked);
            }
        }
        letters.iter().for_each(|(_, acked)| shard.letter_acknowledged(P0, Epoch(1), *acked));
        assert_eq!(
            (shard.load(), shard.next(now, &NoPast, &NothingParked, &mut settled)),
            (Load::default(), Next::Wait(None)),
            "seed {seed}"
        );
    }
}

#[test]
fn only_what_may_run_counts_as_work() {
    let mut rig = Rig::new(policy());
    assert!(!rig.shard.has_work(1));
    rig.obey("put a1 a2 b3");
    assert!(rig.shard.has_work(3) && !rig.shard.has_work(4));
    assert_eq!(rig.obey("next"), "run a1 a2 b3 in 3000");
    assert!(!rig.shard.has_work(1), "it runs");
    rig.obey("end retry done done");
    rig.obey("put a4 c5");
    assert!(rig.shard.has_work(1) && !rig.shard.has_work(2), "a waits for its retry, with all behind it");
}
