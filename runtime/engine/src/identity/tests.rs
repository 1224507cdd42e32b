use super::*;
use crate::intake::{Found, From, Intake};
use crate::message::Partition;
use crate::metadata::Metadata;
use crate::policy::Guarantee;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

const P0: Partition = Partition { topic: 0, number: 0 };

fn policy() -> Policy {
    let mut policy = Policy { guarantee: Guarantee::ExactlyOnce, state: true, ..Policy::default() };
    policy.retry.in_place_ms = Some(0);
    policy
}

const ALL: Present = Present { seen: Some(1), state: Some(2), retry: Some(3), order: 4 };

fn all() -> Kept {
    Kept { parked: true, seen: 1, state: 2, retry: 3, order: 4, ..Kept::default() }
}

fn open(committed: Option<(i64, &str)>, log: u64) -> Opened {
    let found = Found {
        committed: committed.map(|(offset, _)| offset),
        metadata: committed.map_or("", |(_, metadata)| metadata),
        log_start: 0,
        log_end: 100,
        known_partitions: None,
        partitions: 1,
        log,
    };
    Intake::new(policy(), 1, 0).open(P0, &found, From::Earliest)
}

fn text(kept: Kept) -> String {
    Metadata { sequence: 7, log: 9, kept, ..Metadata::default() }.encode(50)
}

/// Why a partition that was committed with `kept` does not start where `present` is, and what it says from then on.
fn checked(kept: Kept, present: Present, policy: &Policy) -> (Vec<Change>, Kept) {
    let mut opened = open(Some((50, &text(kept))), 9);
    let changes = opened.identify(policy, &present, false);
    (changes.iter().collect(), opened.kept)
}

#[test]
fn what_is_as_it_was_starts() {
    let kept = Kept { inbox: 5, inbox_at: 6, inbox_done: 7, ..all() };
    assert_eq!(checked(kept, ALL, &policy()), ([].into(), kept));
}

#[test]
fn a_topic_made_anew_is_told_where_it_kept_something() {
    let other = |present: Present| checked(all(), present, &policy());
    assert_eq!(other(Present { seen: Some(9), ..ALL }).0, [Change::Seen]);
    assert_eq!(other(Present { state: Some(9), ..ALL }).0, [Change::State]);
    assert_eq!(other(Present { retry: Some(9), ..ALL }).0, [Change::Retry]);
    let (changes, kept) = checked(Kept { parked: false, ..all() }, Present { retry: Some(9), ..ALL }, &policy());
    assert_eq!((changes, kept.retry, kept.parked), ([].into(), 9, false), "nothing was parked in the other one");
    let unknown = Present { seen: Some(0), state: Some(0), retry: Some(0), ..ALL };
    assert_eq!(other(unknown), ([].into(), all()), "a broker that can't tell says nothing against it");
}

#[test]
fn what_is_parked_is_never_taken_for_gone() {
    let absent = Present { retry: None, ..ALL };
    assert_eq!(checked(all(), absent, &policy()).0, [Change::NoRetryTopic]);
    assert_eq!(checked(Kept { parked: false, ..all() }, absent, &policy()).0, [], "nothing is parked");
    let mut parks_no_more = policy();
    parks_no_more.retry.in_place_ms = None;
    assert_eq!(checked(all(), absent, &parks_no_more), ([Change::ParksNoMore].into(), all()));
}

#[test]
fn a_use_that_pauses_keeps_its_mark() {
    let (changes, kept) = checked(all(), Present { seen: None, state: None, ..ALL }, &policy());
    assert_eq!((changes, kept), ([].into(), all()));
}

#[test]
fn another_order_matters_where_something_is_kept() {
    let other = Present { order: 9, ..ALL };
    assert_eq!(checked(all(), other, &policy()).0, [Change::Order]);
    let bare = Present { seen: None, state: None, ..other };
    assert_eq!(checked(all(), bare, &policy()).0, [Change::Order], "it is parked");
    let (changes, kept) = checked(Kept { parked: false, ..all() }, bare, &policy());
    assert_eq!((changes, kept.order), ([].into(), 9));
}

#[test]
fn a_commit_without_marks_gets_them_and_may_have_parked() {
    assert_eq!(checked(Kept::default(), ALL, &policy()), ([].into(), all()));
    let (changes, kept) = checked(Kept::default(), Present { retry: None, ..ALL }, &policy());
    assert_eq!((changes, kept.parked, kept.retry), ([].into(), false, 0));
}

#[test]
fn a_group_that_no_commit_of_ours_tells_of_is_moved() {
    let of = |committed, again: bool, present: Present| {
        let mut opened = open(committed, 9);
        let changes = opened.identify(&policy(), &present, again);
        (changes.iter().collect::<Vec<_>>(), opened.kept)
    };
    let damaged = format!("{}A", text(all()));
    let past_end = {
        let mut settled = crate::ranges::Ranges::new();
        settled.push(60, 101);
        Metadata { sequence: 7, settled, ..Metadata::default() }.encode(50)
    };
    for committed in [None, Some((50, "")), Some((50, "by hand")), Some((50, &*damaged)), Some((50, &*past_end))] {
        let (changes, kept) = of(committed, false, ALL);
        assert_eq!((changes, kept.parked), ([Change::Moved].into(), false), "{committed:?}");
        assert_eq!(of(committed, true, ALL).0, [], "it is this process's, and nothing was committed yet");
        let none = Present { seen: None, state: None, retry: None, ..ALL };
        assert_eq!(of(committed, false, none).0, [], "nothing is kept that could be out of step");
    }
    assert!([Change::Moved, Change::Order, Change::ParksNoMore].iter().all(|change| change.matters_where_filled()));
    assert!(
        ![Change::Seen, Change::State, Change::Retry, Change::NoRetryTopic].iter().any(|c| c.matters_where_filled())
    );
}

#[test]
fn an_input_made_anew_keeps_what_its_commits_say_of_internal_topics() {
    let mut opened = open(Some((50, &text(all()))), 10);
    assert!(opened.anew);
    let changes = opened.identify(&policy(), &Present { state: Some(8), ..ALL }, false);
    assert!(changes.has(Change::State) && !changes.has(Change::Moved), "{changes:?}");
}

#[test]
fn a_mark_tells_topics_and_orders_apart_and_is_none_only_for_none() {
    assert_eq!((mark(0), mark(1), mark(1 << 32), mark((1 << 32) + 1)), (0, 1, 1, 1));
    let header = |name: &str| OrderBy::Header(name.to_string());
    let order = |by, null_key, scope| Order { by, null_key, scope };
    let (none, partition) = (NullKey::None, NullKey::Partition);
    let marks = [
        order_mark(&order(OrderBy::Key, none, Scope::Topic), &["a"]),
        order_mark(&order(OrderBy::Key, partition, Scope::Topic), &["a"]),
        order_mark(&order(header("h"), none, Scope::Topic), &["a"]),
        order_mark(&order(header("i"), none, Scope::Topic), &["a"]),
        order_mark(&order(OrderBy::Partition, none, Scope::Topic), &["a"]),
        order_mark(&order(OrderBy::None, none, Scope::Topic), &["a"]),
        order_mark(&order(OrderBy::Key, none, Scope::Inputs), &["a", "b"]),
        order_mark(&order(OrderBy::Key, none, Scope::Inputs), &["b", "a"]),
        order_mark(&order(OrderBy::Key, none, Scope::Inputs), &["ab", ""]),
        order_mark(&order(OrderBy::Key, none, Scope::Inputs), &["a", "b", "c"]),
    ];
    for (n, mark) in marks.iter().enumerate() {
        assert!(*mark != 0 && !marks[..n].contains(mark), "{n}");
    }
    let topic = |inputs: &[&str]| order_mark(&order(OrderBy::Key, none, Scope::Topic), inputs);
    assert_eq!(topic(&["a"]), topic(&["a", "b"]), "each input has its own");
    let alone = order_mark(&order(OrderBy::Key, none, Scope::Inputs), &["a"]);
    assert_eq!(alone, topic(&["a"]), "what spans one input spans none");
    let keyless = |null_key| order_mark(&order(OrderBy::Partition, null_key, Scope::Topic), &["a"]);
    assert_eq!(keyless(none), keyless(partition), "there all are of one lane");
}
