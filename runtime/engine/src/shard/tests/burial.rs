//! Lanes whose first message is given up with all that waits behind it.

use super::*;

/// What is due within 150 ms waits in memory; back-off 100, 200 ms; two attempts.
fn burying() -> Policy {
    let policy = kept();
    let retry = Retry { attempts: 2, in_place_ms: Some(150), then: Spent::DeadLetterKey, ..policy.retry.clone() };
    Policy { retry, ..policy }
}

/// The same, and a first back-off of a second.
fn parking() -> Policy {
    let policy = burying();
    Policy { retry: Retry { first_ms: 1_000, ..policy.retry.clone() }, ..policy }
}

#[test]
fn what_is_spent_with_nothing_behind_it_is_a_dead_letter_like_any_other() {
    check(
        burying(),
        "put a1 b2
         next => run a1 b2 in 2000
         end retry done => b2 done/1 retried 1
         at 100
         next => run a1x2 in 1000
         end retry
         next => a1 dead:attempts x2 wait 500
         load => lanes 1 waiting 0 letters 1 ids 0
         ack a1
         load => lanes 0 waiting 0 letters 0 ids 0",
    );
}

#[test]
fn what_is_spent_takes_what_waits_behind_it_along_in_order_and_nothing_that_comes_later() {
    check(
        parking(),
        "put a1 a2 a3
         next => run a1 a2 a3 in 3000
         end retry done done => a1 parked retried 1 undone 2
         next => a2 parked x0 a3 parked x0 wait 500
         commit => a:1 a:2 a:3
         put a4
         next => a4 parked x0 wait 500
         commit => a:4
         at 1000
         next => run a1x2 in 1000
         put a5
         end retry
         next => a1 given up x2 a5 parked x0 wait 1500
         put a6
         next => a6 parked x0 wait 1500
         commit => a:1 a:5 a:6
         next => a1 dead:attempts up to 6 x2 wait 1500
         put a7
         next => a7 parked x0 wait 1500
         commit => a:1 a:7
         next => a2 dead:follows with 1 x0 a3 dead:follows with 1 x0 wait 1500
         put a8
         ack a2
         next => wait 1500
         ack a3
         next => a4 dead:follows with 1 x0 a5 dead:follows with 1 x0 a6 dead:follows with 1 x0 wait 1500
         ack a4
         ack a6
         next => a1 buried x0 run a7+ a8+ in 2000
         end done done => a7 done/0 a8 done/1
         commit => a:2- a:3- a:4- a:5- a:6- a:1- a:7-
         next => wait 1500
         load => lanes 0 waiting 0 letters 0 ids 0
         put a9
         next => run a9 in 1000
         end done => a9 done/0",
    );
}

#[test]
fn a_mark_that_is_found_is_gone_on_with_and_its_dead_letter_is_not_written_again() {
    check(
        parking(),
        "put a1 a2 a3 a4 a5
         next => run a1 a2 a3 a4 a5 in 5000
         end retry done done done done => a1 parked retried 1 undone 4
         next => a2 parked x0 a3 parked x0 a4 parked x0 a5 parked x0 wait 500
         commit => a:1 a:2 a:3 a:4 a:5
         at 1000
         next => run a1x2 in 1000
         end retry
         next => a1 dead:attempts up to 5 x2 wait 1500
         commit => a:1
         next => a2 dead:follows with 1 x0 a3 dead:follows with 1 x0 wait 1500
         open 0 2 6
         put a6~2
         next => a6 parked x0 wait 1500",
    );
}

#[test]
fn what_goes_with_a_message_and_was_seen_is_a_duplicate_and_what_is_refused_says_why() {
    check(
        parking(),
        "put a1#x a2#x a3 a4
         next => run a1 in 1000
         end retry => a1 parked retried 1
         next => a2 parked x0 a3 parked x0 a4 parked x0 wait 500
         commit => a:1 a:2 a:3 a:4
         at 1000
         next => run a1x2 in 1000
         end retry
         next => a1 dead:attempts up to 4 x2 wait 1500
         commit => a:1
         next => a2 duplicate x0 a3 dead:follows with 1 x0 wait 1500
         ack a3
         next => a4 dead:follows with 1 x0 wait 1500
         ack a4
         next => a1 buried x0 wait 1500
         commit => a:2- a:3- a:4- a:1-
         load => lanes 0 waiting 0 letters 0 ids 1",
    );
}

#[test]
fn commands_to_what_goes_with_a_message_are_refused_and_what_comes_back_stands_behind_it() {
    check(
        parking(),
        "put a1 a2
         next => run a1 a2 in 2000
         end retry done => a1 parked retried 1 undone 1
         next => a2 parked x0 wait 500
         commit => a:1 a:2
         at 1000
         next => run a1x2 in 1000
         end retry
         next => a1 dead:attempts up to 2 x2 wait 1500
         release a1 => runs
         drop a1 => runs
         commit => a:1
         drop a1 => given up with 1
         release a1 => given up with 1
         drop a2 => given up with 1
         release a2 => given up with 1
         redrive a1 => is parked
         put a3
         next => a3 parked x0 wait 1020
         at 1020
         next => a2 dead:follows with 1 x0 wait 1520
         redrive a2 => is parked
         commit => a:3 a:2-
         redrive a2 => a2 parked x0
         ack a2
         next => a1 buried x0 run a3+ in 1000
         end done => a3 done/0
         commit => a:4 a:1- a:3-
         next => run a2+ in 1000
         end done => a2 done/0
         commit => a:4-
         redrive a1 => a1 parked x0
         commit => a:5
         next => run a1+ in 1000
         end done => a1 done/0
         commit => a:5-",
    );
}

#[test]
fn who_is_spent_and_written_as_such_may_still_be_let_run_or_dropped() {
    check(
        burying(),
        "put a1 a2
         next => run a1 a2 in 2000
         end retry done => retried 1 undone 1
         at 100
         next => run a1x2 in 1000
         end retry
         next => a1 given up x2 a2 parked x0 wait 500
         commit => a:1 a:2
         release a1 => a1 parked x0
         next => wait 600
         commit => a:1
         next => run a1 in 1000
         end done => a1 done/0
         next => run a2 in 1000
         end done => a2 done/0
         commit => a:1- a:2-",
    );
}

#[test]
fn a_number_that_was_given_up_is_not_given_again_while_the_mark_is_there() {
    check(
        parking(),
        "put a1 a2 a3
         next => run a1 a2 a3 in 3000
         end retry done done => a1 parked retried 1 undone 2
         next => a2 parked x0 a3 parked x0 wait 500
         commit => a:1 a:2 a:3
         at 1000
         next => run a1x2 in 1000
         end retry
         next => a1 dead:attempts up to 3 x2 wait 1500
         commit => a:1
         next => a2 dead:follows with 1 x0 a3 dead:follows with 1 x0 wait 1500
         commit => a:2- a:3-
         open 0 2 4
         put a4~2
         next => a4 parked x0 wait 1020
         commit => a:4
         next => a1 buried x0 run a4+ in 1000",
    );
}

#[test]
fn without_parking_what_waits_in_memory_is_given_up_with_its_head_and_the_lane_goes_on() {
    let policy = Policy { retry: Retry { attempts: 1, in_place_ms: None, ..policy().retry }, ..kept() };
    let policy = Policy { expires_after_ms: Some(500), ..policy };
    check(
        policy,
        "wall 1000000 =>
         put a1#x a2#x a3#y a4@999000 b5 A1 =>
         next => run a1 b5 A1 in 3000
         end retry done done => a1 dead:attempts b5 done/1 A1 done/2
         behind a1 => a2 duplicate x0 a3 dead:follows with 1 x0 a4 dead:expired with 1 x0
         behind b5 =>
         put a6#y a7 =>
         next => wait
         ack a1 =>
         next => a6 duplicate x0 run a7+ in 1000
         end done => a7 done/0",
    );
}
