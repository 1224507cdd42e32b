#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;

/// `FAULT`s and warnings, each with the setting that puts it right.
fn judged(copies: i32, in_sync: Option<i32>, unclean: Option<bool>) -> Vec<String> {
    let all = weaknesses(copies, in_sync, unclean).into_iter();
    let told = all.map(|weakness| {
        assert!(!weakness.what.is_empty());
        let verdict = if weakness.verdict == Verdict::Fault { "fault" } else { "warning" };
        match weakness.cure {
            Cure::Set(name, value) => format!("{verdict}: {name}={value}"),
            Cure::Copies => format!("{verdict}: copies"),
        }
    });
    told.collect()
}

#[test]
fn three_copies_two_in_sync_and_no_unclean_election_are_right() {
    assert_eq!(judged(3, Some(2), Some(false)), [""; 0]);
    assert_eq!(judged(5, Some(3), Some(false)), [""; 0]);
    // What may not be asked is not called wrong.
    assert_eq!(judged(3, None, None), [""; 0]);
}

#[test]
fn each_weakness_is_told_with_what_puts_it_right() {
    let in_sync = |n: i32| format!("fault: min.insync.replicas={n}");
    assert_eq!(judged(3, Some(1), Some(false)), [in_sync(2)]);
    assert_eq!(judged(3, Some(3), Some(false)), [in_sync(2)]);
    assert_eq!(judged(4, Some(4), None), [in_sync(3)]);
    assert_eq!(judged(3, Some(4), None), [in_sync(2)]);
    assert_eq!(judged(3, Some(2), Some(true)), ["fault: unclean.leader.election.enable=false"]);
    assert_eq!(judged(2, Some(2), Some(false)), ["warning: copies"], "a softer word");
    assert_eq!(judged(2, Some(1), Some(false)), ["warning: copies".to_owned(), in_sync(2)]);
    // With one copy, two in sync would take no writes: more copies come first.
    assert_eq!(judged(1, Some(1), Some(false)), ["fault: copies"]);
    assert_eq!(judged(1, Some(2), None), ["fault: copies".to_owned(), in_sync(1)]);
    assert_eq!(judged(1, Some(1), Some(true)).len(), 2);
}

#[test]
fn no_cure_makes_another_fault() {
    for copies in 1..=6 {
        for least in 1..=7 {
            for weakness in weaknesses(copies, Some(least), Some(true)) {
                let Cure::Set(name, value) = weakness.cure else { continue };
                let after = if name == IN_SYNC { Some(value.parse().unwrap()) } else { Some(least) };
                let left = weaknesses(copies, after, Some(name != UNCLEAN));
                assert!(
                    left.iter().all(|other| other.cure != Cure::Set(name, value.clone())),
                    "{copies} {least} {name}"
                );
                assert!(left.len() < weaknesses(copies, Some(least), Some(true)).len(), "{copies} {least} {name}");
            }
        }
    }
}
