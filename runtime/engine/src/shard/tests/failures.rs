//! What a failure costs, whom it holds up, and where it ends.

use super::*;

#[test]
fn a_failed_message_waits_at_the_head_of_its_lane() {
    // A lane released early would run a2.
    check(
        policy(),
        "put a1 =>
         next => run a1 in 1000
         put a2 b3 =>
         end retry => retried 1
         load => lanes 2 waiting 1 letters 0 ids 0
         next => run b3 in 1000
         end done => b3 done/0
         next => wait 100
         at 99
         next => wait 100
         at 100
         next => run a1x2 in 1000
         load => lanes 1 waiting 0 letters 0 ids 0
         end done => a1 done/0 x2
         next => run a2 in 1000",
    );
}

#[test]
fn slots_behind_a_failed_slot_are_undone_and_come_back_in_order_while_other_lanes_stand() {
    check(
        policy(),
        "put a1 b2 a3 a4 b5 =>
         next => run a1 a3 a4 b2 b5 in 5000
         put a6 =>
         end done retry done done skip => a1 done/0 b2 done/3 b5 skipped/4 retried 1 undone 1
         at 100
         next => run a3x2 in 1000
         end done => a3 done/0 x2
         next => run a4 a6 in 2000",
    );
    // Two lanes at once, and dead letters hold back like retries.
    check(
        policy(),
        "put a1 a2 a3 b4 b5 c6 =>
         next => run a1 a2 a3 b4 b5 c6 in 6000
         end dead done done retry done done => a1 dead:rejected c6 done/5 retried 1 undone 3
         ack a1 =>
         at 100
         next => run a2+ a3+ b4x2 in 3000",
    );
}

#[test]
fn an_undone_slot_has_not_run() {
    check(
        policy(),
        "put a1 a2 =>
         next => run a1 a2 in 2000
         end retry retry => retried 1 undone 1
         at 100
         next => run a1x2 in 1000
         end done => a1 done/0 x2
         next => run a2 in 1000
         end done => a2 done/0",
    );
}

#[test]
fn what_failed_before_runs_without_its_followers() {
    // They would run again and again only to be undone.
    check(
        policy(),
        "put a1 a2 a3 b4 =>
         next => run a1 a2 a3 b4 in 4000
         end retry done done retry => retried 2 undone 2
         at 100
         next => run a1x2 b4x2 in 2000
         end retry done => b4 done/1 x2 retried 1
         at 300
         next => run a1x3 in 1000
         end done => a1 done/0 x3
         next => run a2 a3 in 2000",
    );
}

#[test]
fn backoff_grows_and_the_last_attempt_ends_as_a_dead_letter() {
    check(
        policy(),
        "put a1 =>
         next => run a1 in 1000
         end retry => retried 1
         at 100
         next => run a1x2 in 1000
         end retry => retried 1
         next => wait 300
         at 300
         next => run a1x3 in 1000
         end retry => a1 dead:attempts x3
         load => lanes 1 waiting 0 letters 1 ids 0",
    );
}

#[test]
fn the_handlers_own_delay_replaces_the_backoff() {
    check(policy(), "put a1 =>\n next => run a1 in 1000\n end retry7 => retried 1\n next => wait 7");
    check(policy(), "put a1 =>\n next => run a1 in 1000\n end retry0 => retried 1\n next => run a1x2 in 1000");
}

#[test]
fn an_outage_costs_no_attempt_but_backs_off() {
    check(
        policy(),
        "put a1 =>
         next => run a1 in 1000
         end outage => retried 1
         at 100
         next => run a1 in 1000
         end outage => retried 1
         next => wait 300
         at 300
         next => run a1 in 1000
         end outage => retried 1
         next => wait 700
         at 700
         next => run a1 in 1000
         end retry => retried 1
         next => wait 1500
         at 1500
         next => run a1x2 in 1000
         end done => a1 done/0 x2",
    );
}

#[test]
fn age_ends_it_even_in_an_outage() {
    let young = || Policy { retry: Retry { max_age_ms: 250, ..policy().retry }, ..policy() };
    check(
        young(),
        "put a1 =>
         next => run a1 in 1000
         end outage => retried 1
         at 100
         next => run a1 in 1000
         end outage => a1 dead:age x0",
    );
}

#[test]
fn a_followers_wait_for_the_letter_to_be_acknowledged() {
    check(
        policy(),
        "put a1 =>
         next => run a1 in 1000
         put a2 b3 =>
         end dead => a1 dead:rejected
         next => run b3 in 1000
         end done => b3 done/0
         put a4 =>
         next => wait
         ack a9 =>
         ack A1 =>
         ack a1~2 =>
         next => wait
         load => lanes 1 waiting 0 letters 1 ids 0
         ack a1 =>
         load => lanes 1 waiting 0 letters 0 ids 0
         next => run a2+ a4+ in 2000
         ack a1 =>
         end done done => a2 done/0 a4 done/1
         load => lanes 0 waiting 0 letters 0 ids 0",
    );
}

#[test]
fn a_letter_without_followers_closes_its_lane_when_acknowledged() {
    check(
        policy(),
        "put a1 =>
         next => run a1 in 1000
         end dead => a1 dead:rejected
         load => lanes 1 waiting 0 letters 1 ids 0
         ack a1 =>
         load => lanes 0 waiting 0 letters 0 ids 0
         put a2 =>
         next => run a2 in 1000",
    );
}

#[test]
fn released_followers_do_not_wait_for_company() {
    let lingering = Policy { batch: Batch { max_wait_ms: 50, ..policy().batch }, ..policy() };
    check(
        lingering,
        "put a1 =>
         at 50
         next => run a1 in 1000
         put a2 =>
         end dead => a1 dead:rejected
         ack a1 =>
         next => run a2+ in 1000",
    );
}

#[test]
fn what_a_handler_may_not_send_is_oversized() {
    check(policy(), "put a1 =>\n next => run a1 in 1000\n end big => a1 dead:oversized");
}

#[test]
fn a_trap_replays_one_by_one_and_only_the_culprit_fails() {
    check(
        policy(),
        "put a1 b2 a3 =>
         next => run a1 a3 b2 in 3000
         put a4 c5 =>
         trap => replayed 3
         next => run a1 in 1000
         end done => a1 done/0
         next => run b2 in 1000
         trap => retried 1
         next => run c5 in 1000
         end done => c5 done/0
         next => run a3 in 1000
         end done => a3 done/0
         next => run a4 in 1000
         end done => a4 done/0
         next => wait 100
         at 100
         next => run b2x2 in 1000
         put c6 =>
         end retry => retried 1
         next => run c6 in 1000
         end done => c6 done/0
         put c7 =>
         at 300
         next => run c7 b2x3 in 2000
         trap => replayed 2
         next => run c7 in 1000
         end done => c7 done/0
         next => run b2x3 in 1000
         trap => b2 dead:trap x3",
    );
}

#[test]
fn a_replayed_message_shares_its_call_with_nobody() {
    // Even with room and others ready: the culprit would take them along.
    check(
        policy(),
        "put a1 b2 =>
         next => run a1 b2 in 2000
         put c3 =>
         trap => replayed 2
         next => run a1 in 1000
         put a4 =>
         trap => retried 1
         next => run b2 in 1000
         end done => b2 done/0
         next => run c3 in 1000
         end done => c3 done/0
         put d5 =>
         at 100
         next => run d5 in 1000
         end done => d5 done/0
         next => run a1x2 in 1000
         end done => a1 done/0 x2
         next => run a4 in 1000",
    );
}

#[test]
fn what_is_replayed_does_not_wait_for_company() {
    let lingering = Policy { batch: Batch { max_wait_ms: 50, ..policy().batch }, ..policy() };
    check(
        lingering,
        "put a1 b2 =>
         at 50
         next => run a1 b2 in 2000
         trap => replayed 2
         next => run a1 in 1000",
    );
}

#[test]
fn a_timeout_counts_apart_from_a_trap() {
    let once = || Policy { retry: Retry { attempts: 1, ..policy().retry }, ..policy() };
    check(once(), "put a1 =>\n next => run a1 in 1000\n timeout => a1 dead:timeout");
    check(once(), "put a1 =>\n next => run a1 in 1000\n trap => a1 dead:trap");
    check(once(), "put a1 b2 =>\n next => run a1 b2 in 2000\n timeout => replayed 2\n next => run a1 in 1000");
}

#[test]
fn a_wrong_number_of_outcomes_is_a_failed_call() {
    let once = || Policy { retry: Retry { attempts: 1, ..policy().retry }, ..policy() };
    check(once(), "put a1 b2 =>\n next => run a1 b2 in 2000\n end done => replayed 2\n next => run a1 in 1000");
    check(once(), "put a1 =>\n next => run a1 in 1000\n end done done => a1 dead:trap");
    check(once(), "put a1 =>\n next => run a1 in 1000\n end => a1 dead:trap");
    check(once(), "end => \n trap =>\n load => lanes 0 waiting 0 letters 0 ids 0");
}

#[test]
fn discard_drops_the_spent_and_goes_on_at_once() {
    let once = || Policy { retry: Retry { attempts: 1, ..discarding().retry }, ..discarding() };
    check(
        once(),
        "put a1 =>
         next => run a1 in 1000
         put a2 =>
         end retry => a1 discarded:attempts
         load => lanes 1 waiting 0 letters 0 ids 0
         next => run a2+ in 1000
         trap => a2 discarded:trap
         load => lanes 0 waiting 0 letters 0 ids 0
         put a3 =>
         next => run a3 in 1000
         timeout => a3 discarded:timeout
         put a4 =>
         next => run a4 in 1000
         end big => a4 discarded:oversized",
    );
    let old = Policy { retry: Retry { max_age_ms: 50, ..discarding().retry }, ..discarding() };
    check(old, "put a1 =>\n next => run a1 in 1000\n end retry => a1 discarded:age");
}

#[test]
fn discard_does_not_touch_what_the_handler_or_the_manifest_refuses() {
    check(discarding(), "put a1 =>\n next => run a1 in 1000\n end dead => a1 dead:rejected");
    check(discarding(), "put a1! =>\n next => a1 dead:rejected x0 wait");
    let expiring = Policy { expires_after_ms: Some(5), ..discarding() };
    check(expiring, "put a1@999994 =>\n next => a1 dead:expired x0 wait");
}

/// The lane was closed with the discarded head, and what had been undone behind it was dropped, never to settle.
#[test]
fn regression_a_discarded_head_keeps_what_was_undone_behind_it() {
    let once = || Policy { retry: Retry { attempts: 1, ..discarding().retry }, ..discarding() };
    check(
        once(),
        "put a1 a2 a3 =>
         next => run a1 a2 a3 in 3000
         end retry done done => a1 discarded:attempts undone 2
         load => lanes 1 waiting 0 letters 0 ids 0
         next => run a2+ a3+ in 2000
         end done done => a2 done/0 a3 done/1
         load => lanes 0 waiting 0 letters 0 ids 0",
    );
    check(
        once(),
        "put a1 a2 =>
         next => run a1 a2 in 2000
         put a3 =>
         end big done => a1 discarded:oversized undone 1
         next => run a2+ a3+ in 2000",
    );
}

#[test]
fn too_old_messages_go_to_the_dead_letters_unrun() {
    let expiring = || Policy { expires_after_ms: Some(500), ..policy() };
    check(expiring(), "put a1@999500 b2@999499 =>\n next => b2 dead:expired x0 run a1 in 1000");
    // No timestamp, none to judge by; a clock that was set back makes nothing old.
    check(expiring(), "put a1 b2@0 c3@2000000 =>\n next => b2 dead:expired x0 run a1 c3 in 2000");
    check(
        expiring(),
        "put a1@999400 a2@999999 =>
         next => a1 dead:expired x0 wait
         load => lanes 1 waiting 0 letters 1 ids 0
         ack a1 =>
         next => run a2+ in 1000",
    );
}

#[test]
fn expiry_asks_when_it_would_run_and_only_before_the_first_run() {
    let expiring = || Policy { expires_after_ms: Some(500), ..policy() };
    check(expiring(), "put a1@999999 =>\n at 498\n next => run a1 in 1000");
    check(expiring(), "put a1@999999 =>\n at 500\n next => a1 dead:expired x0 wait");
    check(
        expiring(),
        "put a1@999999 =>
         next => run a1 in 1000
         end retry => retried 1
         at 600
         next => run a1x2 in 1000",
    );
    // An outage is a run too.
    check(
        expiring(),
        "put a1@999999 =>
         next => run a1 in 1000
         end outage => retried 1
         at 600
         next => run a1 in 1000",
    );
}

#[test]
fn an_unrun_refusal_does_not_overtake_what_runs_in_front_of_it() {
    check(
        policy(),
        "put a1 a2! a3 =>
         next => run a1 in 1000
         end done => a1 done/0
         next => a2 dead:rejected x0 wait
         ack a2 =>
         next => run a3+ in 1000",
    );
}

#[test]
fn the_epitaph_tells_first_failure_last_words_and_attempts() {
    let mut shard = Shard::new(policy(), 1);
    shard.open(P0, Epoch(1), 0, &Ranges::new());
    let mut settled = Vec::new();
    shard.accept(ticket("a1"), (), Now::default());
    for (steady_ms, code) in [(0, "first"), (1_000, "second"), (2_000, "third")] {
        let now = Now { steady_ms, wall_ms: 7_000 + steady_ms as i64 };
        assert!(matches!(shard.next(now, &NoPast, &NothingParked, &mut settled), Next::Run(_)));
        let failure = Failure { code: code.into(), detail: "why".into() };
        shard.complete(alloc::vec![Outcome::Retry { failure, delay_ms: None, outage: false }], 0, now, &mut settled);
    }
    let failure = Failure { code: "third".into(), detail: "why".into() };
    let (reason, company) = (Reason::Attempts, Company::Alone);
    let epitaph = Epitaph { reason, failure, attempts: 3, first_failed_ms: 7_000, version: Some(0), company }.into();
    assert_eq!(settled.pop().map(|s| (s.fate, s.attempts)), Some((Fate::DeadLetter(epitaph), 3)));
}

#[test]
fn what_never_ran_says_why_in_its_epitaph() {
    let expiring = Policy { expires_after_ms: Some(500), ..policy() };
    let mut shard = Shard::new(expiring, 1);
    shard.open(P0, Epoch(1), 0, &Ranges::new());
    let mut settled = Vec::new();
    let now = Now { steady_ms: 0, wall_ms: 1_000 };
    shard.accept(ticket("a1!"), (), now);
    shard.accept(ticket("b2@0"), (), now);
    assert_eq!(shard.next(now, &NoPast, &NothingParked, &mut settled), Next::Wait(None));
    let words: Vec<(String, i64)> = settled
        .iter()
        .map(|s| match &s.fate {
            Fate::DeadLetter(e) => (format!("{}: {}", e.failure.code, e.failure.detail), e.first_failed_ms),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(words[0], ("no-id: it has no id, and dedup.absent is \"dead-letter\"".into(), 1_000));
    assert_eq!(words[1], ("expired: 1000 ms old, and expires-after is 500 ms".into(), 1_000));
}

#[test]
fn a_wrong_count_says_both_counts() {
    let mut shard = Shard::new(Policy { retry: Retry { attempts: 1, ..policy().retry }, ..policy() }, 1);
    shard.open(P0, Epoch(1), 0, &Ranges::new());
    let mut settled = Vec::new();
    shard.accept(ticket("a1"), (), Now::default());
    shard.next(Now::default(), &NoPast, &NothingParked, &mut settled);
    shard.complete(alloc::vec![Outcome::Done; 3], 0, Now::default(), &mut settled);
    let Some(Fate::DeadLetter(epitaph)) = settled.pop().map(|s| s.fate) else { panic!("no letter") };
    assert_eq!(epitaph.failure.code, "wrong-count");
    assert_eq!(epitaph.failure.detail, "3 outcomes for 1 messages");
}

#[test]
fn jitter_spreads_retries_and_the_seed_repeats_them() {
    let due = |seed: u64| {
        let jittery = Policy { retry: Retry { jitter: 0.5, ..policy().retry }, ..policy() };
        let mut shard = Shard::new(jittery, seed);
        shard.open(P0, Epoch(1), 0, &Ranges::new());
        for lane in ["a1", "b2", "c3"] {
            shard.accept(ticket(lane), (), Now::default());
        }
        let mut settled = Vec::new();
        shard.next(Now::default(), &NoPast, &NothingParked, &mut settled);
        shard.complete((0..3).map(|_| outcome("retry")).collect(), 0, Now::default(), &mut settled);
        shard.due.iter().map(|(due, _)| *due).collect::<Vec<u64>>()
    };
    assert_eq!(due(1), due(1));
    assert_ne!(due(1), due(2));
    let one = due(1);
    assert!(one[0] < one[1] && one[1] < one[2] && one[0] >= 50 && one[2] < 150, "{one:?}");
}

#[test]
fn a_call_that_could_not_be_made_costs_nothing() {
    check(
        policy(),
        "put a1 b2 a3 =>
         next => run a1 a3 b2 in 3000
         put a4 c5 =>
         put_off =>
         next => run a1 a3 a4 b2 c5 in 5000
         close 0 1 =>
         put_off =>
         load => lanes 0 waiting 0 letters 0 ids 0
         next => wait",
    );
    let lingering = Policy { batch: Batch { max_wait_ms: 50, ..policy().batch }, ..policy() };
    check(lingering, "put a1 =>\n at 50\n next => run a1 in 1000\n put_off =>\n next => run a1 in 1000");
}
