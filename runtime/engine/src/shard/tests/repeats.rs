//! Dedup: once within the window, never a false "seen".

use super::*;

#[test]
fn a_second_delivery_has_no_effect() {
    check(
        deduped(),
        "put a1#x =>
         next => run a1 in 1000
         end done => a1 done/0
         load => lanes 0 waiting 0 letters 0 ids 1
         put a2#x a3#y a4 =>
         next => a2 duplicate x0 run a3 a4 in 2000
         end skip done => a3 skipped/0 a4 done/1
         put a5#y =>
         next => a5 duplicate x0 wait
         load => lanes 0 waiting 0 letters 0 ids 2",
    );
}

#[test]
fn a_message_without_id_is_never_a_duplicate() {
    check(deduped(), "put a1 =>\n next => run a1 in 1000\n end done => a1 done/0\n put a2 =>\n next => run a2 in 1000");
}

#[test]
fn a_duplicate_while_in_flight_waits_behind_the_first() {
    check(
        deduped(),
        "put a1#x a2#x a3 =>
         next => run a1 in 1000
         end done => a1 done/0
         next => a2 duplicate x0 run a3 in 1000",
    );
    // The first did not succeed: the second is its retry's duplicate, not its replacement.
    check(
        deduped(),
        "put a1#x a2#x =>
         next => run a1 in 1000
         put b3#x =>
         end retry => retried 1
         next => run b3 in 1000
         end done => b3 done/0
         at 100
         next => run a1x2 in 1000
         end done => a1 done/0 x2
         next => a2 duplicate x0 wait",
    );
    // It waits for its twin only: another id of the lane shares the call.
    check(deduped(), "put a1#x a2#y a3#x =>\n next => run a1 a2 in 2000");
}

#[test]
fn a_retry_is_no_duplicate_of_itself() {
    check(
        deduped(),
        "put a1#x =>
         next => run a1 in 1000
         load => lanes 1 waiting 0 letters 0 ids 0
         end retry => retried 1
         load => lanes 1 waiting 1 letters 0 ids 0
         at 100
         next => run a1x2 in 1000
         end done => a1 done/0 x2",
    );
}

#[test]
fn an_undone_slot_was_not_seen() {
    check(
        deduped(),
        "put a1#x a2#y =>
         next => run a1 a2 in 2000
         end retry done => retried 1 undone 1
         load => lanes 1 waiting 1 letters 0 ids 0
         at 100
         next => run a1x2 in 1000
         end done => a1 done/0 x2
         next => run a2 in 1000",
    );
}

#[test]
fn dead_letters_and_discards_are_seen() {
    check(
        deduped(),
        "put a1#x a2#x =>
         next => run a1 in 1000
         end dead => a1 dead:rejected
         ack a1 =>
         next => a2 duplicate x0 wait",
    );
    let once = Policy { retry: Retry { attempts: 1, ..discarding().retry }, ..deduped() };
    check(
        once,
        "put a1#x a2#x =>
         next => run a1 in 1000
         end retry => a1 discarded:attempts
         next => a2 duplicate x0 wait",
    );
}

#[test]
fn the_window_ends() {
    check(
        deduped(),
        "put a1#x =>
         next => run a1 in 1000
         end done => a1 done/0
         at 9999
         put a2#x =>
         next => a2 duplicate x0 wait
         at 11250
         put a3#x =>
         next => run a3 in 1000",
    );
}

#[test]
fn a_duplicate_does_not_overtake_what_runs_in_front_of_it() {
    check(
        deduped(),
        "put a1#x =>
         next => run a1 in 1000
         end done => a1 done/0
         put a2 a3#x a4 =>
         next => run a2 in 1000
         end retry => retried 1
         at 100
         next => run a2x2 in 1000
         end done => a2 done/0 x2
         next => a3 duplicate x0 run a4 in 1000",
    );
}

#[test]
fn a_flood_of_duplicates_ends_within_one_batch_and_closes_its_lane() {
    check(
        deduped(),
        "put a0#x =>
         next => run a0 in 1000
         end done => a0 done/0
         put a1#x a2#x a3#x a4#x a5#x a6#x a7#x a8#x b9 =>
         next => a1 duplicate x0 a2 duplicate x0 a3 duplicate x0 a4 duplicate x0 a5 duplicate x0 a6 duplicate x0 a7 duplicate x0 a8 duplicate x0 run b9 in 1000
         load => lanes 1 waiting 0 letters 0 ids 1",
    );
}

#[test]
fn a_lane_that_gave_only_duplicates_keeps_its_place_when_the_batch_is_full() {
    let one = Policy { batch: Batch { max_messages: 1, ..policy().batch }, ..deduped() };
    check(
        one,
        "put a0#x =>
         next => run a0 in 1000
         end done => a0 done/0
         put a1#x a2#x a3#x a4#x a5#x a6#x a7#x a8#x a9 b10 c11 =>
         next => a1 duplicate x0 a2 duplicate x0 a3 duplicate x0 a4 duplicate x0 a5 duplicate x0 a6 duplicate x0 a7 duplicate x0 a8 duplicate x0 run b10 in 1000
         end done => b10 done/0
         next => run c11 in 1000
         end done => c11 done/0
         next => run a9 in 1000",
    );
}

#[test]
fn a_partition_that_starts_anew_forgets_ids_that_were_not_committed() {
    check(
        deduped(),
        "put a1#x a2#y a3#z =>
         next => run a1 a2 a3 in 3000
         end done done done => a1 done/0 a2 done/1 a3 done/2
         open 0 2 2 3..4 =>
         load => lanes 0 waiting 0 letters 0 ids 2
         put a2#y~2 a4#x~2 a5#z~2 a6#y~2 =>
         next => run a2 in 1000
         end done => a2 done/0
         next => a4 duplicate x0 a5 duplicate x0 a6 duplicate x0 wait",
    );
}

#[test]
fn ids_are_apart_by_partition() {
    check(
        deduped(),
        "put a1#x =>
         next => run a1 in 1000
         end done => a1 done/0
         put A2#x =>
         next => run A2 in 1000",
    );
}

#[test]
fn a_new_assignment_remembers_nothing_of_an_earlier_one_whatever_its_map_covers() {
    // Found as seed 10355: the map covered the gap where compaction had taken what was seen and never committed.
    for (seen_below, ids) in [(NOTHING_SEEN, 0), (1, 1)] {
        let mut shard = Shard::new(deduped(), 1);
        shard.open(P0, Epoch(1), NOTHING_SEEN, &Ranges::new());
        shard.accept(ticket("a2#x"), (), Now::default());
        shard.next(Now::default(), &NoPast, &NothingParked, &mut Vec::new());
        shard.complete(alloc::vec![Outcome::Done], 0, Now::default(), &mut Vec::new());
        assert_eq!(shard.load().ids, 1);
        shard.open(P0, Epoch(2), seen_below, &crate::testing::ranges(&[(2, 3)]));
        assert_eq!(shard.load().ids, ids);
    }
}

#[test]
fn ids_forgotten_for_want_of_room_are_counted() {
    let dedup = Dedup { id: IdFrom::Key, window_ms: 10_000, absent: Absent::Process, kept: false, capacity: 1 };
    let mut shard = Shard::new(Policy { dedup: Some(dedup), ..deduped() }, 1);
    shard.open(P0, Epoch(1), 0, &Ranges::new());
    let mut settled = Vec::new();
    shard.accept(ticket("a1#x"), (), Now::default());
    shard.accept(ticket("b2#y"), (), Now::default());
    shard.next(Now::default(), &NoPast, &NothingParked, &mut settled);
    shard.complete(alloc::vec![Outcome::Done, Outcome::Done], 0, Now::default(), &mut settled);
    assert_eq!(shard.load(), Load { ids: 1, ids_forgotten_early: 1, ..Load::default() });
}

#[test]
fn what_is_committed_is_asked_for_and_held_no_more() {
    check(
        kept(),
        "put a1#x b2#y =>
         next => run a1 b2 in 2000
         end done done => a1 done/0 b2 done/1
         load => lanes 0 waiting 0 letters 0 ids 2
         marked a1#x =>
         load => lanes 0 waiting 0 letters 0 ids 1
         put a3#x b4#y a5#z =>
         next => a3 duplicate x0 b4 duplicate x0 run a5 in 1000
         end done => a5 done/0",
    );
}

#[test]
fn a_message_whose_own_mark_is_committed_is_not_run_again() {
    check(kept(), "marked a1#x =>\n put a1#x A1#x =>\n next => a1 duplicate x0 run A1 in 1000");
}

#[test]
fn a_partition_that_starts_anew_forgets_what_is_not_committed() {
    check(
        kept(),
        "put a1#x a2#y A1#z =>
         next => run a1 a2 A1 in 3000
         end done done done => a1 done/0 a2 done/1 A1 done/2
         marked a1#x =>
         open 0 2 1 =>
         load => lanes 0 waiting 0 letters 0 ids 1
         put a1#x~2 a2#y~2 A2#z =>
         next => a1 duplicate x0 A2 duplicate x0 run a2 in 1000",
    );
}
