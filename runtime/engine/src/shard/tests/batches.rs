//! How a batch is filled, and when.

use super::*;

fn with(batch: Batch) -> Policy {
    Policy { batch, ..policy() }
}

#[test]
fn a_message_waits_for_company_no_longer_than_max_wait() {
    let lingering = || with(Batch { max_wait_ms: 5, ..policy().batch });
    check(
        lingering(),
        "at 100
         put a1 =>
         next => wait 105
         at 103
         put b2 =>
         next => wait 105
         at 105
         next => run a1 b2 in 2000
         end done done => a1 done/0 b2 done/1
         at 200
         put c3 =>
         next => wait 205",
    );
}

#[test]
fn a_full_batch_does_not_wait() {
    let lingering = || with(Batch { max_wait_ms: 5, max_messages: 3, max_bytes: 100, ..policy().batch });
    check(lingering(), "put a1 b2 => \n next => wait 5\n put c3 =>\n next => run a1 b2 c3 in 3000");
    check(lingering(), "put a1*50 b2*49 => \n next => wait 5\n put c3*1 =>\n next => run a1 b2 c3 in 3000");
    // Counted anew after each batch.
    check(
        lingering(),
        "put a1*50 b2*50 =>
         next => run a1 b2 in 2000
         end done done => a1 done/0 b2 done/1
         put a3*50 b4 =>
         next => wait 5",
    );
}

#[test]
fn what_is_left_over_has_waited_already() {
    let lingering = || with(Batch { max_wait_ms: 5, max_messages: 2, ..policy().batch });
    check(
        lingering(),
        "at 100
         put a1 b2 c3 =>
         next => run a1 b2 in 2000
         end done done => a1 done/0 b2 done/1
         next => run c3 in 1000
         put a4 =>
         end done => c3 done/0
         next => wait 105",
    );
    // So has what was put back, what came during the call behind it, and what a retry was due for.
    check(
        lingering(),
        "at 100
         put a1 a2 =>
         next => run a1 a2 in 2000
         put a3 =>
         end retry done => retried 1 undone 1
         next => wait 200
         at 199
         next => wait 200
         at 200
         next => run a1x2 in 1000
         end done => a1 done/0 x2
         next => run a2 a3 in 2000",
    );
}

#[test]
fn the_next_wake_is_the_earlier_of_company_and_retry() {
    let lingering = || with(Batch { max_wait_ms: 50, max_messages: 2, ..policy().batch });
    check(
        lingering(),
        "at 1000
         put a1 b2 =>
         next => run a1 b2 in 2000
         end retry20 retry90 => retried 2
         next => wait 1020
         at 1010
         put c3 =>
         next => wait 1020
         at 1020
         next => run c3 a1x2 in 2000
         end done done => c3 done/0 a1 done/1 x2
         put d4 =>
         next => wait 1070
         at 1060
         next => wait 1070",
    );
}

#[test]
fn bytes_are_limited_and_one_larger_message_runs_alone() {
    let small = || with(Batch { max_bytes: 100, ..policy().batch });
    check(
        small(),
        "put a1*40 b2*60 c3*1 =>
         next => run a1 b2 in 2000
         end done done => a1 done/0 b2 done/1
         next => run c3 in 1000",
    );
    check(
        small(),
        "put a1*40 b2*5000 c3*1 =>
         next => run a1 in 1000
         end done => a1 done/0
         next => run b2 in 1000
         end done => b2 done/0
         next => run c3 in 1000",
    );
    // Within one lane too.
    check(
        small(),
        "put a1*60 a2*60 =>
         next => run a1 in 1000
         end done => a1 done/0
         next => run a2 in 1000",
    );
}

#[test]
fn a_lane_cut_by_the_byte_limit_keeps_its_place() {
    let small = with(Batch { max_bytes: 100, ..policy().batch });
    check(
        small,
        "put a1*90 b2*20 c3*20 =>
         next => run a1 in 1000
         put a4 =>
         end done => a1 done/0
         next => run b2 c3 a4 in 3000",
    );
}

#[test]
fn a_limit_of_no_messages_is_one() {
    check(with(Batch { max_messages: 0, ..policy().batch }), "put a1 b2 =>\n next => run a1 in 1000");
}

#[test]
fn a_calls_deadline_is_timeout_times_messages_up_to_max_time() {
    let short = || with(Batch { max_time_ms: 2_500, ..policy().batch });
    check(short(), "put a1 b2 =>\n next => run a1 b2 in 2000");
    check(short(), "put a1 b2 c3 =>\n next => run a1 b2 c3 in 2500");
}

#[test]
fn batches_adapt_to_10_ms_a_call() {
    check(
        policy(),
        "took 8000
         put a1 b2 =>
         next => run a1 b2 in 2000
         end done done => a1 done/0 b2 done/1
         put a3 b4 c5 d6 =>
         next => run a3 b4 in 2000
         took 400
         end done done => a3 done/0 b4 done/1
         put e7 =>
         next => run c5 d6 e7 in 3000",
    );
    // 4 ms a message, then 3/4 of that and 1/4 of 0.2 ms: 3.05 ms, three messages in 10 ms.
    check(
        policy(),
        "took 4000
         put a1 =>
         next => run a1 in 1000
         end done => a1 done/0
         put a2 =>
         next => run a2 in 1000
         took 200
         end done => a2 done/0
         put a3 a4 a5 a6 =>
         next => run a3 a4 a5 in 3000",
    );
}

#[test]
fn a_slow_handler_still_gets_one_message_a_call() {
    check(
        policy(),
        "took 60000000
         put a1 =>
         next => run a1 in 1000
         end done => a1 done/0
         put a2 b3 =>
         next => run a2 in 1000",
    );
}

#[test]
fn a_handler_too_fast_to_measure_gets_full_batches() {
    check(
        policy(),
        "took 1
         put a1 b2 =>
         next => run a1 b2 in 2000
         end done done => a1 done/0 b2 done/1
         put a3 b4 c5 =>
         next => run a3 b4 c5 in 3000",
    );
}

#[test]
fn a_batch_that_is_full_for_its_cost_does_not_wait() {
    let lingering = || with(Batch { max_wait_ms: 5, ..policy().batch });
    check(
        lingering(),
        "took 5000
         put a1 =>
         at 5
         next => run a1 in 1000
         end done => a1 done/0
         put a2 =>
         next => wait 10
         put b3 =>
         next => run a2 b3 in 2000",
    );
}

#[test]
fn a_message_that_may_have_brought_a_process_down_shares_its_call_with_nobody() {
    check(
        policy(),
        "put a1^ b2^ a3 c4 =>
         next => run a1 in 1000
         end done => a1 done/0
         next => run b2 in 1000
         end retry10 => retried 1
         next => run c4 a3 in 2000
         end done done => c4 done/0 a3 done/1
         at 10
         put d5 =>
         at 20
         next => run d5 b2x2 in 2000",
    );
}

#[test]
fn where_calls_act_outside_no_two_of_a_key_share_one() {
    let apart = || with(Batch { apart: true, ..policy().batch });
    check(
        apart(),
        "put a1 a2 b3 a4 =>
         next => run a1 b3 in 2000
         end done done => a1 done/0 b3 done/1
         next => run a2 in 1000
         end retry => retried 1
         put b5 =>
         next => run b5 in 1000",
    );
}

#[test]
fn calls_that_act_outside_grow_with_what_went_well() {
    let apart = || with(Batch { apart: true, max_messages: 100, ..policy().batch });
    let mut shard = Shard::new(apart(), 1);
    let mut settled = Vec::new();
    shard.open(P0, Epoch(1), NOTHING_SEEN, &Ranges::new());
    let now = Now { steady_ms: 10, wall_ms: 10 };
    for offset in 0..1_000 {
        let ticket = Ticket { lane: offset, offset: offset as i64, ..ticket("a1") };
        assert!(shard.accept(ticket, (), now));
    }
    let mut run = |end: Option<u64>| {
        let Next::Run(plan) = shard.next(now, &NoPast, &NothingParked, &mut settled) else { return 0 };
        match end {
            Some(took_us) => {
                shard.complete(alloc::vec![Outcome::Done; plan.messages as usize], took_us, now, &mut settled);
            }
            None => {
                let failure = Failure { code: "timeout".into(), detail: String::new() };
                shard.fail(CallFailure { timeout: true, failure }, now, &mut settled);
            }
        }
        plan.messages
    };
    assert_eq!([run(Some(1)), run(Some(1)), run(Some(1)), run(None)], [8, 16, 32, 64]);
    let replayed: Vec<u32> = (0..64).map(|_| run(Some(1))).collect();
    assert!(replayed.iter().all(|messages| *messages == 1), "{replayed:?}");
    assert_eq!([run(Some(1)), run(Some(1)), run(Some(32_000)), run(Some(1))], [18, 20, 22, 6]);
}
