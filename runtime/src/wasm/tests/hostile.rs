//! Guests that do what they must not.

use super::imports::logged;
use super::*;
use std::time::Instant;

/// Runs one message that misbehaves, then a good one in a fresh instance of the same handler.
fn fails(value: &str, deadline: Duration) -> CallFailure {
    let handler = load("hostile");
    let open = || handler.open(&setup("hostile"), &Limits::default()).unwrap();
    let mut instance = open();
    let mut bad = batch(&["fine", value, "fine"]);
    let failure = instance.process(&mut bad, NOW_MS, deadline).unwrap_err();
    assert_eq!(bad.len(), 3, "the batch comes back for the replay");
    let again = instance.process(&mut bad, NOW_MS, deadline).unwrap_err();
    assert_eq!(again, CallFailure::Trap { detail: "the instance is dead after an earlier failure".to_owned() });
    drop(instance);
    let results = open().results(&mut batch(&["fine", "fine"])).unwrap();
    assert!(results.iter().all(|r| r.outcome == Outcome::Done && r.sends.is_empty()), "nothing is left over");
    failure
}

fn trap(detail: &str) -> CallFailure {
    CallFailure::Trap { detail: detail.to_owned() }
}

#[test]
fn a_trap_names_its_reason_and_the_functions() {
    let expected = "wasm `unreachable` instruction executed, in crash < one < process";
    assert_eq!(fails("t", DEADLINE), trap(expected));
}

#[test]
fn an_endless_loop_ends_at_its_deadline() {
    let started = Instant::now();
    assert_eq!(fails("l", Duration::from_millis(100)), CallFailure::Timeout);
    assert!(started.elapsed() >= Duration::from_millis(100));
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[test]
fn endless_recursion_ends_with_the_stack() {
    let expected = format!("call stack exhausted, in {}", ["descend"; 8].join(" < "));
    assert_eq!(fails("r", DEADLINE), trap(&expected));
}

#[test]
fn memory_ends_at_its_limit() {
    let expected = "memory would grow to 67174400 bytes, and limits.memory allows 67108864; then: wasm `unreachable` \
                    instruction executed, in crash < one < process";
    let CallFailure::Memory { detail } = fails("m", DEADLINE) else { panic!("no memory failure") };
    assert_eq!(detail, expected);
}

#[test]
fn tables_end_at_their_limit() {
    let CallFailure::Memory { detail } = fails("b", DEADLINE) else { panic!("no memory failure") };
    assert!(detail.starts_with("tables would grow to "), "{detail}");
}

#[test]
fn the_count_of_outcomes_must_be_the_batch_s() {
    assert_eq!(fails("0", DEADLINE), CallFailure::WrongCount { expected: 3, got: 0 });
    assert_eq!(fails("+", DEADLINE), CallFailure::WrongCount { expected: 3, got: 4 });
    assert_eq!(fails("x", DEADLINE), trap("list pointer/length out of bounds of memory"));
}

#[test]
fn outcomes_that_break_the_binary_form_are_traps() {
    assert_eq!(fails("p", DEADLINE), trap("list pointer/length out of bounds of memory"));
    assert_eq!(fails("P", DEADLINE), trap("list pointer is not aligned"));
    assert_eq!(fails("v", DEADLINE), trap("unexpected discriminant: 9"));
    assert_eq!(fails("u", DEADLINE), trap("invalid utf-8 sequence of 1 bytes from index 3"));
    assert_eq!(fails("q", DEADLINE), trap("string pointer/length out of bounds of memory"));
}

#[test]
fn a_slot_outside_the_batch_is_a_trap() {
    let expected = "slot 1000000 is outside the batch of 3, in function 1 < one < process";
    assert_eq!(fails("o", DEADLINE), trap(expected));
}

#[test]
fn calls_into_the_host_are_counted() {
    let expected = CallFailure::HostCalls { detail: "more than 30000 calls into the host".to_owned() };
    assert_eq!(fails("c", DEADLINE), expected);
}

#[test]
fn what_one_call_hands_over_is_bounded() {
    let expected = CallFailure::HostCalls { detail: "too much data in one call between handler and host".to_owned() };
    assert_eq!(fails("D", DEADLINE), expected, "a detail of 60 MiB");
    assert_eq!(fails("V", DEADLINE), expected, "a send of 60 MiB");
}

#[test]
fn a_gigabyte_of_sends_stages_four_megabytes() {
    let mut instance = open("hostile");
    let results = instance.results(&mut batch(&["s", "S"])).unwrap();
    assert_eq!((results[0].sends.len(), results[0].staged_bytes), (4, 4 << 20), "error.over-quota by bytes");
    assert_eq!((results[1].sends.len(), results[1].staged_bytes), (1000, 1000), "error.over-quota by count");
}

#[test]
fn a_batch_that_stages_too_much_fails_and_each_of_its_messages_alone_does_not() {
    let mut many = batch(&["s"; 9]);
    let failure = open("hostile").results(&mut many).unwrap_err();
    let expected = "the batch staged more than 33554432 bytes of output";
    assert_eq!(failure, CallFailure::HostCalls { detail: expected.to_owned() });
    let mut instance = open("hostile");
    for one in many {
        let results = instance.results(&mut vec![one]).unwrap();
        assert_eq!(results[0].staged_bytes, 4 << 20);
    }
}

#[test]
fn a_long_code_and_detail_are_cut() {
    let results = open("hostile").results(&mut batch(&["d"])).unwrap();
    let failure = Failure { code: "a".repeat(64), detail: "a".repeat(4096) };
    assert_eq!(results[0].outcome, Outcome::DeadLetter(failure));
}

#[test]
fn a_flood_of_log_lines_is_cut_and_counted() {
    let lines = logged(tracing::Level::INFO, || {
        let mut instance = open("hostile");
        instance.results(&mut batch(&["g"])).unwrap();
        instance.results(&mut batch(&["fine"])).unwrap();
    });
    assert_eq!(lines.len(), 1001);
    assert_eq!(lines[999], r#"ERROR keyrail::handler: out pipeline="hostile""#);
    let dropped = " WARN keyrail::handler: 4000 more lines of the handler's log were dropped: a call may log 1000";
    assert_eq!(lines[1000], format!("{dropped} pipeline=\"hostile\""));
}

#[test]
fn an_instance_that_grew_is_worn_before_it_fails() {
    let mut instance = open("hostile");
    let mut calls = 0;
    while !instance.worn() {
        instance.results(&mut batch(&["M"])).unwrap();
        calls += 1;
    }
    assert_eq!(calls, 48, "three quarters of 64 MiB, a megabyte a call");
    assert!(!open("hostile").worn());
}

#[test]
fn open_may_refuse_trap_or_run_too_long() {
    let handler = load("opens");
    let limits = Limits { open_timeout: Duration::from_millis(100), ..Limits::default() };
    let fails = |name: &str| handler.open(&setup(name), &limits).unwrap_err();
    let open_error = |name: &str, kind| OpenError { handler: name.to_owned(), kind };
    let refused = open_error("refuses", OpenErrorKind::Refused("no currency set".to_owned()));
    assert_eq!(fails("refuses"), refused);
    assert_eq!(refused.to_string(), "refuses: the handler refuses to open: no currency set");
    let detail = "wasm `unreachable` instruction executed, in crash < open";
    assert_eq!(fails("traps"), open_error("traps", OpenErrorKind::Failed(trap(detail))));
    assert_eq!(fails("loops"), open_error("loops", OpenErrorKind::Failed(CallFailure::Timeout)));
    let detail = "slot 0 is outside the batch: there is none in `open`, in open";
    assert_eq!(fails("slot"), open_error("slot", OpenErrorKind::Failed(trap(detail))));
    let OpenErrorKind::Failed(CallFailure::Memory { .. }) = fails("memory").kind else { panic!("no memory failure") };
    handler.open(&setup("fine"), &limits).unwrap().results(&mut batch(&["x"])).unwrap();
}

#[test]
fn a_guest_that_gives_the_host_bad_memory_fails() {
    let handler = load("opens");
    let fails = |name: &str| {
        let mut instance = handler.open(&setup(name), &Limits::default()).unwrap();
        instance.process(&mut batch(&["x"]), NOW_MS, Duration::from_millis(100)).unwrap_err()
    };
    assert_eq!(fails("wild"), trap("realloc return: beyond end of memory"));
    assert_eq!(fails("unaligned"), trap("realloc return: result not aligned"));
    assert_eq!(fails("endless"), CallFailure::Timeout);
    handler.open(&setup("fine"), &Limits::default()).unwrap().results(&mut batch(&["x"])).unwrap();
}

#[test]
fn a_collected_heap_counts_as_memory_and_what_is_dropped_is_free() {
    let handler = load("collected");
    let open = || handler.open(&setup("collected"), &Limits::default()).unwrap();
    let results = open().results(&mut batch(&["fine", "exception"])).unwrap();
    assert!(results.iter().all(|r| r.outcome == Outcome::Done));
    let CallFailure::Memory { detail } = open().results(&mut batch(&["keep"])).unwrap_err() else {
        panic!("no memory failure");
    };
    assert!(detail.contains("GC heap out of memory"), "{detail}");
    let results = open().results(&mut batch(&["drop"])).unwrap();
    assert_eq!(results[0].outcome, Outcome::Done, "a gigabyte in all, a megabyte at a time");
}
