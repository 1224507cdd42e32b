//! A shard under a breaker.

use super::*;
use crate::breaker::{News, Order};
use crate::policy::Breaker;
use crate::policy::Policy;

impl Rig {
    pub(super) fn order(&mut self, words: &[&str]) -> String {
        let number = words.get(1).map_or(0, |word| word.parse().unwrap());
        self.shard.heed(match words[0] {
            "open" => Order::Open,
            "close" => Order::Close { number },
            _ => Order::Probe { number, fresh: words.get(2) == Some(&"fresh") },
        });
        String::new()
    }

    pub(super) fn news(&mut self) -> String {
        let mut text = String::new();
        while let Some(news) = self.shard.news(self.now) {
            match news {
                News::Tally(tally) => {
                    let code = tally.failure.map_or_else(String::new, |failure| format!(" {}", failure.code));
                    write!(text, " tally {} {}/{}{code}", tally.since, tally.failed, tally.tried).unwrap();
                    self.runs = (tally.failed_runs, tally.runs);
                }
                News::Probed { number, probed, lanes } => {
                    write!(text, " probe {number} {probed:?} of {lanes}").unwrap()
                }
            }
        }
        text.trim().into()
    }
}

/// Lately is 1.5 s: a tally each 100 ms. Time-outs count 3 s.
fn watched(policy: Policy) -> Policy {
    Policy { breaker: Some(Breaker { failures: 0.5, window_ms: 1_500, pause_ms: 400, least_lanes: 3 }), ..policy }
}

#[test]
fn lanes_are_counted_by_how_their_last_run_ended() {
    check(
        watched(policy()),
        "put a1 b2 c3 a4 =>
         next => run a1 a4 b2 c3 in 4000
         news =>
         end done done retry retry => a1 done/0 a4 done/1 retried 2
         news => tally 0 2/3 retry
         news =>
         next => wait 100
         at 100
         next => run b2x2 c3x2 in 2000
         end retry done => c3 done/1 x2 retried 1
         news => tally 0 1/3 retry
         at 300
         next => run b2x3 in 1000
         end dead => b2 dead:rejected x3
         news => tally 0 0/3
         at 1800
         news => tally 0 0/0
         at 5000
         next => wait
         news =>",
    );
}

#[test]
fn one_message_that_fails_again_and_again_is_one_lane() {
    let retrying = policy();
    let retry = Retry { attempts: 100, factor: 1.0, ..retrying.retry.clone() };
    let mut script =
        String::from("put a1 =>\nnext => run a1 in 1000\nend retry => retried 1\nnews => tally 0 1/1 retry\n");
    for run in 2..60 {
        let at = (run - 1) * 100;
        write!(script, "at {at}\nnext => run a1x{run} in 1000\nend retry => retried 1\nnews => tally 0 1/1 retry\n")
            .unwrap();
    }
    check(watched(Policy { retry, ..retrying }), &script);
}

#[test]
fn a_call_that_fails_as_a_whole_says_something_of_a_lane_only_when_it_was_alone() {
    check(
        watched(policy()),
        "put a1 b2 =>
         next => run a1 b2 in 2000
         timeout => replayed 2
         news =>
         next => run a1 in 1000
         timeout => retried 1
         next => run b2 in 1000
         end done => b2 done/0
         news => tally 0 1/2 timeout
         at 1600
         next => run a1x2 in 1000
         put_off =>
         news => tally 0 1/1
         at 3100
         news => tally 0 0/0",
    );
}

#[test]
fn while_it_is_open_neither_new_nor_due_messages_run_and_all_do_in_order_when_it_closes() {
    check(
        watched(policy()),
        "put a1 b2 =>
         next => run a1 b2 in 2000
         order open =>
         end retry done => b2 done/1 retried 1
         news =>
         put c3 a4 =>
         next => wait
         at 50000
         next => wait
         put d5 =>
         next => wait
         news =>
         load => lanes 3 waiting 1 letters 0 ids 0
         order close 7 =>
         next => run c3 d5 a1x2 in 3000
         end done done done => c3 done/0 d5 done/1 a1 done/2 x2
         news => tally 7 0/3
         next => run a4 in 1000",
    );
}

#[test]
fn a_probe_is_one_message_costs_no_attempt_and_waits_again_in_its_lane() {
    check(
        watched(policy()),
        "put a1 a2 b3 =>
         next => run a1 a2 b3 in 3000
         end retry done retry => retried 2 undone 1
         order open =>
         at 1000
         order probe 4 =>
         next => run a1x2 in 1000
         news =>
         next => wait
         end retry => retried 1
         news => probe 4 Failed of 2
         next => wait
         at 2000
         order probe 5 =>
         next => run b3x2 in 1000
         timeout => retried 1
         news => probe 5 Failed of 2
         at 3000
         order probe 6 =>
         next => run a1x2 in 1000
         end done => a1 done/0 x2
         news => probe 6 Stood of 2
         order probe 7 =>
         next => run b3x2 in 1000
         put_off =>
         news => probe 7 Nothing of 2
         order close 8 =>
         next => run b3x2 in 1000
         end retry => retried 1
         news => tally 8 1/1 retry
         next => run a2 in 1000",
    );
}

#[test]
fn the_wait_behind_a_failed_probe_does_not_grow_with_the_outage() {
    let mut script = String::from("put a1 =>\norder open =>\n");
    for number in 1..50 {
        let at = number * 1_000;
        let due = at + 99;
        write!(
            script,
            "at {at}\norder probe {number} =>\nnext => run a1 in 1000\nend retry => retried 1\nnews => probe {number} Failed of 1\n
             at {due}\norder probe {number} =>\nnext => wait\nnews => probe {number} Nothing of 1\n"
        )
        .unwrap();
    }
    check(watched(policy()), &script);
}

#[test]
fn a_probe_that_must_be_fresh_takes_none_that_failed_before() {
    check(
        watched(policy()),
        "put a1 =>
         next => run a1 in 1000
         end retry => retried 1
         order open =>
         at 500
         order probe 1 fresh =>
         next => wait
         news => probe 1 Nothing of 1
         put b2 c3 =>
         order probe 2 fresh =>
         next => run b2 in 1000
         end skip => b2 skipped/0
         news => probe 2 Stood of 2
         order probe 3 =>
         next => run a1x2 in 1000
         end retry => retried 1
         news => probe 3 Failed of 2
         order probe 4 fresh =>
         next => run c3 in 1000
         end dead => c3 dead:rejected
         news => probe 4 Stood of 2",
    );
}

#[test]
fn the_answer_of_a_probe_comes_though_its_partition_has_gone() {
    check(
        watched(policy()),
        "put a1 A2 =>
         order open =>
         order probe 1 =>
         next => run a1 in 1000
         close 0 1 =>
         end retry => retried 1
         news => probe 1 Failed of 1
         order probe 2 =>
         next => run A2 in 1000
         open 1 2 0 =>
         trap => retried 1
         news => probe 2 Failed of 0
         order probe 3 =>
         next => wait
         news => probe 3 Nothing of 0",
    );
}

#[test]
fn a_probe_that_is_too_old_is_given_up() {
    // Its age counts as ever, and what has run and failed is judged by it.
    let base = policy();
    let retry = Retry { max_age_ms: 1_000, ..base.retry.clone() };
    check(
        watched(Policy { retry, ..base }),
        "put a1 b2 =>
         order open =>
         at 10
         order probe 1 =>
         next => run a1 in 1000
         end retry => retried 1
         news => probe 1 Failed of 2
         at 5000
         order probe 2 fresh =>
         next => run b2 in 1000
         end done => b2 done/0
         news => probe 2 Stood of 1
         order probe 3 =>
         next => run a1 in 1000
         end retry => a1 dead:age x0
         news => probe 3 Failed of 1",
    );
}

#[test]
fn parked_messages_stay_where_they_are_while_it_is_open_and_are_probed_one_by_one() {
    let base = policy();
    let retry = Retry { attempts: 4, in_place_ms: Some(50), ..base.retry.clone() };
    let policy = Policy { guarantee: Guarantee::ExactlyOnce, retry, ..base };
    check(
        watched(policy),
        "put a1 b2 =>
         next => run a1 b2 in 2000
         end retry retry => a1 parked b2 parked retried 2
         commit => a:1 b:1
         order open =>
         at 5000
         next => wait
         order probe 1 =>
         next => run a1x2 in 1000
         end retry => a1 parked retried 1
         news => probe 1 Failed of 1
         commit => a:1
         next => wait
         order close 2 =>
         next => run b2x2 in 1000
         end done => b2 done/0 x2
         at 6000
         next => run a1x2 in 1000",
    );
}

#[test]
fn runs_are_counted_for_a_third_of_the_window() {
    let mut rig = Rig::new(watched(policy()));
    let mut told = Vec::new();
    for tenth in 0..8 {
        rig.obey(&format!("at {}", tenth * 100));
        if tenth < 2 {
            rig.obey("put a1 b2");
            rig.obey("next");
            rig.obey(if tenth == 0 { "end done retry" } else { "end done done" });
        }
        rig.obey("news");
        told.push(rig.runs);
    }
    // Two, one of which failed, then two more (and one of them is that one again); five tallies hold what ran.
    assert_eq!(told[0], (1, 2));
    assert!(told[1].0 == 1 && told[1].1 >= 4, "{told:?}");
    assert!(told[4].1 >= 4 && told[5].0 == 0, "{told:?}");
    assert_eq!(told[7], (0, 0), "{told:?}");
}
