//! Commands from outside to messages that are parked, or were dead-lettered; and what is held until one comes.

use super::*;
use crate::inbox::{Deed, Refused, Returned};
use crate::order::Papers;

impl Rig {
    /// Somebody wants something of a message.
    pub(super) fn command(&mut self, verb: &str, word: &str) -> String {
        let ticket = ticket(word);
        let Ticket { partition, epoch, offset, lane, id, refused, size, timestamp_ms, .. } = ticket;
        let (papers, failure) = (Papers { lane, id, refused }, Failure::default());
        let deed = match verb {
            "release" => Deed::Retry,
            "drop" => Deed::Drop,
            _ => Deed::Redrive(Returned { papers, size, timestamp_ms, failure, message: name(&ticket) }),
        };
        let order = Order { partition, epoch, offset, deed };
        match self.shard.obey(order, self.now, &self.parked) {
            None => "gone".into(),
            Some(Err(Refused::NotParked)) => "not parked".into(),
            Some(Err(Refused::IsParked)) => "is parked".into(),
            Some(Err(Refused::Runs)) => "runs".into(),
            Some(Err(Refused::Behind(offset))) => format!("behind {offset}"),
            Some(Err(Refused::GivenUp(offset))) => format!("given up with {offset}"),
            Some(Err(Refused::NoParking)) => "no parking".into(),
            Some(Ok(settled)) => {
                let all = [settled];
                self.parked.stage(&all);
                fates(&all).trim().into()
            }
        }
    }
}

/// What is due within 150 ms waits in memory; back-off 100, 200, 400 ms; two attempts, and what is spent is held.
fn holding() -> Policy {
    let policy = kept();
    let retry = Retry { attempts: 2, in_place_ms: Some(150), then: Spent::Hold, ..policy.retry.clone() };
    Policy { retry, ..policy }
}

/// The same, and a first back-off of a second.
fn parking() -> Policy {
    let policy = holding();
    Policy { retry: Retry { first_ms: 1_000, then: Spent::DeadLetter, ..policy.retry.clone() }, ..policy }
}

#[test]
fn what_is_spent_is_held_with_what_is_behind_it_until_it_is_released_and_has_all_its_attempts_anew() {
    check(
        holding(),
        "put a1
         next => run a1 in 1000
         end retry => retried 1
         at 100
         next => run a1x2 in 1000
         end retry => a1 parked x2 retried 1
         commit => a:1
         put a2
         next => a2 parked x0 wait 600
         commit => a:2
         at 9000000
         next => wait 9000500
         release a1 => a1 parked x0
         next => wait 9000500
         commit => a:1
         next => run a1 in 1000
         end retry => retried 1
         next => wait 9000100
         at 9000100
         next => run a1x2 in 1000
         end retry => a1 parked x2 retried 1
         commit => a:1
         release a1 => a1 parked x0
         commit => a:1
         next => run a1 in 1000
         end done => a1 done/0
         next => run a2 in 1000
         end done => a2 done/0
         commit => a:1- a:2-
         next => wait 9000600",
    );
}

#[test]
fn what_is_dropped_is_marked_as_seen_and_what_is_behind_it_goes_on() {
    check(
        parking(),
        "put a1#x a2#x a3
         next => run a1 in 1000
         end retry => a1 parked retried 1
         next => a2 parked x0 a3 parked x0 wait 500
         commit => a:1 a:2 a:3
         drop a1 => a1 discarded:dropped
         drop a1 => not parked
         put a4
         next => a4 parked x0 wait 500
         commit => a:1- a:4
         next => a2 duplicate x0 run a3 a4 in 2000
         end done done => a3 done/0 a4 done/1
         commit => a:2- a:3- a:4-
         next => wait 500",
    );
}

#[test]
fn one_that_waits_behind_another_may_be_dropped_and_not_released() {
    check(
        parking(),
        "put a1
         next => run a1 in 1000
         end retry => a1 parked retried 1
         put a2 a3
         next => a2 parked x0 a3 parked x0 wait 500
         release a1 => not parked
         commit => a:1 a:2 a:3
         release a2 => behind 1
         drop a2 => a2 discarded:dropped x0
         release a2 => not parked
         at 1000
         next => run a1x2 in 1000
         release a1 => runs
         drop a1 => runs
         end done => a1 done/0 x2
         release a1 => not parked
         next => run a3 in 1000
         end done => a3 done/0
         commit => a:2- a:1- a:3-
         next => wait 1500",
    );
}

#[test]
fn a_dead_letter_runs_again_behind_all_that_is_parked_of_its_key_and_is_no_duplicate_of_itself() {
    check(
        parking(),
        "put a1#x
         next => run a1 in 1000
         end dead => a1 dead:rejected
         ack a1
         marked a1#x
         put a2 b3
         next => run a2 b3 in 2000
         end retry done => a2 parked b3 done/1 retried 1
         redrive a1#x => a1 parked x0
         redrive a1#x => is parked
         put a4
         next => a4 parked x0 wait 500
         commit => a:1 a:2 a:3
         redrive a1#x => is parked
         release a1 => behind 2
         at 1000
         next => run a2x2 in 1000
         end done => a2 done/0 x2
         next => run a1 in 1000
         end done => a1 done/0
         next => run a4 in 1000
         end done => a4 done/0
         commit => a:1- a:2- a:3-
         redrive b3 => b3 parked x0
         commit => b:1
         next => run b3 in 1000
         end done => b3 done/0
         commit => b:1-",
    );
}

#[test]
fn what_comes_back_while_its_key_runs_waits_until_that_is_through() {
    check(
        parking(),
        "put a5 a6
         next => run a5 a6 in 2000
         redrive a1 => a1 parked x0
         commit => a:1
         next => wait
         end done done => a5 done/0 a6 done/1
         put a7
         next => a7 parked x0 wait 20
         at 20
         next => run a1 in 1000
         end done => a1 done/0
         commit => a:2 a:1-
         next => run a7 in 1000
         end done => a7 done/0
         commit => a:2-",
    );
}

#[test]
fn what_will_never_be_taken_runs_again_when_somebody_sends_it_back() {
    let mut rig = Rig::new(parking());
    rig.shard.condemn(P0, [1, 2].into());
    for (command, expected) in [
        ("redrive a1", "a1 parked x0"),
        ("redrive b2~9", "gone"),
        ("commit", "a:1"),
        ("next", "run a1 in 1000"),
        ("end done", "a1 done/0"),
    ] {
        assert_eq!(rig.obey(command), expected, "{command}");
    }
    assert_eq!(rig.shard.condemned[&P0], [2]);
}

#[test]
fn commands_of_another_assignment_and_to_pipelines_that_park_nothing_are_not_obeyed() {
    check(
        parking(),
        "release a1~2 => gone
         drop a1~2 => gone
         redrive a1~2 => gone
         release a1 => not parked
         drop a1 => not parked",
    );
    check(policy(), "redrive a1 => no parking");
}

#[test]
fn what_fails_while_one_of_its_key_comes_back_is_parked_behind_that() {
    check(
        parking(),
        "put a5 a6
         next => run a5 a6 in 2000
         redrive a1 => a1 parked x0
         commit => a:1
         end retry done => a5 parked retried 1 undone 1
         next => a6 parked x0 wait 20
         commit => a:2 a:3",
    );
}

#[test]
fn what_is_released_while_its_lane_drains_runs_once_and_only_when_that_is_committed() {
    check(
        parking(),
        "put a1
         next => run a1 in 1000
         end retry => a1 parked retried 1
         commit => a:1
         at 1000
         next => run a1x2 in 1000
         redrive a2 => a2 parked x0
         commit => a:2
         end done => a1 done/0 x2
         release a2 => a2 parked x0
         next => wait 1500
         commit => a:1- a:2
         next => run a2 in 1000",
    );
}

#[test]
fn what_only_waited_for_others_may_still_be_a_duplicate_when_it_is_released() {
    check(
        parking(),
        "put a1#x
         next => run a1 in 1000
         end retry => a1 parked retried 1
         put a2#x
         next => a2 parked x0 wait 500
         commit => a:1 a:2
         drop a1 => a1 discarded:dropped
         commit => a:1-
         marked a1#x
         release a2 => a2 parked x0
         commit => a:2
         next => a2 duplicate x0 wait 500",
    );
}

#[test]
fn what_will_never_be_taken_stays_so_when_a_command_to_it_is_refused_and_is_no_duplicate_of_itself() {
    let mut rig = Rig::new(parking());
    for command in ["redrive a1#x", "commit", "marked a1#x"] {
        rig.obey(command);
    }
    rig.shard.condemn(P0, [1].into());
    for (command, expected) in [("redrive a1#x", "is parked"), ("next", "a1 dead:undeliverable x0 wait 500")] {
        assert_eq!(rig.obey(command), expected, "{command}");
    }
}

#[test]
fn a_command_that_overtakes_the_opening_of_its_assignment_is_to_be_kept() {
    let mut rig = Rig::new(parking());
    assert!(rig.shard.awaits(P0, Epoch(2)) && !rig.shard.awaits(P0, Epoch(1)));
    rig.obey("close 0 2");
    assert!(!rig.shard.awaits(P0, Epoch(2)) && rig.shard.awaits(P0, Epoch(3)));
    rig.obey("open 0 3 0");
    assert!(!rig.shard.awaits(P0, Epoch(3)));
}

#[test]
fn commands_that_come_to_nothing_are_forgotten_with_the_assignment() {
    let mut rig = Rig::new(parking());
    for command in ["put a1", "next", "end retry", "commit", "drop a1", "redrive b2", "open 0 2 0"] {
        rig.obey(command);
    }
    rig.parked.give_up();
    assert_eq!(rig.obey("drop a1~2"), "a1 discarded:dropped");
    assert_eq!(rig.obey("redrive b2~2"), "b2 parked x0");
    assert_eq!(rig.obey("commit"), "a:1- b:1");
}
