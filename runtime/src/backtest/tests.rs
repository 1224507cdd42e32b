#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
use super::*;
use crate::http::Request;
use crate::replay::{Change, Sent, Verdict};
use crate::scenario::{End, Place};
use crate::wasm::{CallFailure, Failure, Outcome};
use keyrail_engine::message::{Company, Epitaph, Reason};
use keyrail_engine::policy::Spent;

fn stands(sends: Vec<Sent>, later: Vec<(u64, Sent)>, changes: Vec<Change>) -> End {
    End::Stands { skipped: false, sends, later, changes }
}

fn given_up(reason: Reason, code: &str) -> End {
    let failure = keyrail_engine::message::Failure { code: code.to_owned(), detail: String::new() };
    let company = Company::Alone;
    let epitaph = Epitaph { reason, failure, attempts: 1, first_failed_ms: 0, version: None, company };
    End::GivenUp(Spent::DeadLetter, Box::new(epitaph))
}

fn ran(said: Option<Verdict>, end: End) -> Told {
    let place = Place { topic: 0, partition: 0, offset: 7 };
    Told { place, timer: None, key: Some(b"k".to_vec()), attempt: 1, requests: Vec::new(), said, end }
}

fn done(end: End) -> Told {
    ran(Some(Verdict::of(&Outcome::Done)), end)
}

fn words(code: &str, detail: &str) -> Failure {
    Failure { code: code.to_owned(), detail: detail.to_owned() }
}

fn retried(code: &str, detail: &str, delay_ms: Option<u64>, outage: bool) -> Told {
    let outcome = Outcome::Retry { failure: words(code, detail), delay_ms, outage };
    ran(Some(Verdict::of(&outcome)), given_up(Reason::Attempts, code))
}

fn rejected(code: &str) -> Told {
    ran(Some(Verdict::of(&Outcome::DeadLetter(words(code, "")))), given_up(Reason::Rejected, code))
}

fn failed(failure: &CallFailure) -> Told {
    ran(Some(Verdict::of_failure(failure)), given_up(Reason::Trap, failure.code()))
}

fn sent(value: &str) -> Sent {
    let value = Some(value.as_bytes().to_vec());
    Sent { to: "out".to_owned(), key: None, value, headers: Vec::new(), forward_headers: false, timestamp_ms: None }
}

fn none() -> End {
    stands(Vec::new(), Vec::new(), Vec::new())
}

/// In words; the same is nothing.
fn told(old: &Told, new: &Told, state: bool) -> String {
    match compare(Some(old), Some(new), state) {
        Compared::Same => String::new(),
        Compared::Differs(difference) => difference.to_string(),
        Compared::NotComparable => "not comparable".to_owned(),
    }
}

#[test]
fn outcomes_and_codes_count_and_words_do_not() {
    let skip = ran(Some(Verdict::of(&Outcome::Skip)), none());
    for (old, new, expected) in [
        (done(none()), done(none()), ""),
        (done(none()), skip, "done -> skip"),
        (done(none()), rejected("bad"), "done -> dead-letter bad"),
        (rejected("bad"), rejected("worse"), "dead-letter bad -> dead-letter worse"),
        (retried("down", "at 7", None, false), retried("down", "at 8", None, false), ""),
        (retried("down", "", None, false), retried("down", "", None, true), "retry down -> outage down"),
        (retried("down", "", None, false), retried("down", "", Some(5), false), "retry down, other delay"),
        (done(none()), failed(&CallFailure::Timeout), "done -> timeout"),
        (ran(None, End::Duplicate), done(none()), "duplicate -> done"),
        (ran(None, given_up(Reason::Expired, "")), ran(None, End::Duplicate), "expired -> duplicate"),
    ] {
        assert_eq!(told(&old, &new, true), expected, "{old:?} {new:?}");
    }
}

#[test]
fn what_a_run_leaves_counts_and_its_order() {
    let state = |value: &str| Change::State("s".to_owned(), Some((value.as_bytes().to_vec(), None)));
    let timer = |at_ms: i64| Change::Timer("t".to_owned(), Some((at_ms, Vec::new())));
    let left = |sends: Vec<Sent>, later: Vec<(u64, Sent)>, changes: Vec<Change>| done(stands(sends, later, changes));
    let (a, b) = (sent("a"), sent("b"));
    let other = |old: &Told, new: &Told| told(old, new, false);
    let both = left(vec![a.clone(), b.clone()], Vec::new(), Vec::new());
    assert_eq!(other(&both, &both), "");
    assert_eq!(other(&both, &left(vec![b.clone(), a.clone()], Vec::new(), Vec::new())), "done, other sends");
    let later = |ms: u64| left(Vec::new(), vec![(ms, a.clone())], Vec::new());
    assert_eq!(other(&later(5), &later(6)), "done, other sends");
    let headed = Sent { headers: vec![(b"h".to_vec(), None)], ..a.clone() };
    assert_eq!(other(&left(vec![a], vec![], vec![]), &left(vec![headed], vec![], vec![])), "done, other sends");
    let changed = |of_state: &str, at_ms: i64| left(Vec::new(), Vec::new(), vec![state(of_state), timer(at_ms)]);
    assert_eq!(other(&changed("x", 1), &changed("y", 1)), "");
    assert_eq!(told(&changed("x", 1), &changed("y", 1), true), "done, other state");
    assert_eq!(told(&changed("x", 1), &changed("y", 2), true), "done, other timers and state");
    assert_eq!(other(&changed("x", 1), &changed("y", 2)), "done, other timers");
}

#[test]
fn what_asked_a_server_is_not_compared() {
    let request = Request {
        slot: Some(0),
        method: "GET".to_owned(),
        url: "http://a/".to_owned(),
        headers: Vec::new(),
        body: None,
        timeout: None,
    };
    let asked = Told { requests: vec![request], ..rejected("denied") };
    assert_eq!(told(&asked, &asked, false), "not comparable");
    assert_eq!(told(&done(none()), &asked, false), "not comparable");
}

#[test]
fn timers_are_matched_by_key_and_name() {
    let timer = |key: &str, name: &str, end: End| Told {
        timer: Some(name.to_owned()),
        key: Some(key.as_bytes().to_vec()),
        ..done(end)
    };
    let end = || stands(vec![sent("a")], Vec::new(), Vec::new());
    let old = vec![timer("a", "t", none()), timer("b", "t", none()), timer("b", "t", none())];
    let new = vec![timer("b", "t", end()), timer("c", "t", none()), timer("a", "t", none()), timer("b", "u", none())];
    let words: Vec<String> = matched(old, new)
        .iter()
        .map(|(old, new)| match compare(old.as_ref(), new.as_ref(), false) {
            Compared::Differs(difference) => difference.to_string(),
            other => format!("{other:?}"),
        })
        .collect();
    let gone = "timer: done -> none";
    let came = "timer: none -> done";
    assert_eq!(words, ["Same", "timer: done, other sends", gone, came, came]);
}
