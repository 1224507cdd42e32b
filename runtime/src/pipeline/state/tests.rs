#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use super::*;
use crate::admin::metrics::Metrics;
use crate::pipeline::budget::Pool;
use crate::record::RecordBuilder;
use keyrail_engine::delays::{self, Delayed};
use keyrail_engine::order::OrderKey;
use keyrail_engine::state::schema::mark;
use keyrail_engine::state::{Owner, encode};
use keyrail_engine::timers::{self, Timer};
use keyrail_store::StateOptions;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const AT: TopicPartition = TopicPartition { topic: 0, partition: 3 };
const LOG: u64 = 7;

/// The state of a partition in a folder that is removed when the test is over.
struct Open {
    held: Option<Held>,
    dir: PathBuf,
}

impl Deref for Open {
    type Target = Held;

    fn deref(&self) -> &Held {
        self.held.as_ref().unwrap()
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.held = None;
        drop(std::fs::remove_dir_all(&self.dir));
    }
}

impl Open {
    /// As a start does it.
    fn again(mut self, end: i64) -> Self {
        if let Some(index) = self.held.as_ref().and_then(|held| held.index.get()) {
            index.flush().unwrap();
        }
        self.held = None;
        let store = StateStore::start(StateOptions::default(), &self.dir).unwrap();
        let (inputs, topics) = (vec!["in".to_owned()], vec!["g.in.state".to_owned()]);
        let (group, timers, schemas, found) = ("g".to_owned(), makings(), Schemas::new(3, [2]), Arc::default());
        let held = Held::new(Arc::new(Place { store, group, inputs, topics, timers, schemas, found }), AT);
        held.position(LOG, end).unwrap();
        self.held = Some(held);
        self
    }
}

fn held() -> Open {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let dir = format!("keyrail-held-{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed));
    Open { held: None, dir: std::env::temp_dir().join(dir) }.again(0)
}

fn makings() -> Makings {
    let order = keyrail_engine::policy::Order::default();
    Makings::new(&order, 1, Pool::new(1 << 20).join())
}

fn key(name: &str) -> Vec<u8> {
    [b"\x01\x00\x01k", name.as_bytes()].concat()
}

fn take(held: &Held, offset: i64, key: &[u8], value: Option<&[u8]>) -> u64 {
    held.take(&RecordBuilder::new(Some(key), value).build(AT, offset, 0)).unwrap()
}

fn value(held: &Held, name: &str) -> Option<Vec<u8>> {
    held.get(&key(name)).map(|entry| entry.value.to_vec())
}

fn position(held: &Held) -> Option<i64> {
    held.index().unwrap().position()
}

#[test]
fn what_is_read_is_there_and_a_tombstone_deletes_it() {
    let held = held();
    assert_eq!(take(&held, 4, &key("a"), Some(b"\x01one")), 1);
    assert_eq!(take(&held, 5, &key("b"), Some(b"\x01two")), 1);
    assert_eq!(take(&held, 6, &key("a"), None), 1);
    assert_eq!((value(&held, "a"), value(&held, "b")), (None, Some(b"two".to_vec())));
    assert_eq!(position(&held), Some(7));
    held.reach(9).unwrap();
    assert_eq!(position(&held), Some(9));
}

#[test]
fn what_is_nobody_s_is_passed_over() {
    let held = held();
    assert_eq!(take(&held, 4, b"foreign", Some(b"\x01one")), 0);
    assert_eq!(position(&held), Some(5));
    assert_eq!(held.reach(5), Ok(()));
}

/// The next start reads on from the index's position: it must come across what could not be read again.
#[test]
fn reading_does_not_go_on_behind_a_value_that_nobody_can_read_until_its_key_is_written_anew() {
    let held = held();
    take(&held, 4, &key("a"), Some(b"\x01one"));
    assert_eq!(take(&held, 5, &key("a"), Some(b"what?")), 0);
    take(&held, 6, &key("b"), Some(b"\x01two"));
    take(&held, 7, b"foreign", None);
    let held = held.again(8);
    assert_eq!(position(&held), Some(5), "the next start would not see it");
    assert_eq!(take(&held, 5, &key("a"), Some(b"what?")), 0);
    take(&held, 6, &key("b"), Some(b"\x01two"));
    let told = |failed: Result<(), Failed>| match failed {
        Err(Failed::Operator(why)) => why,
        other => format!("{other:?}"),
    };
    let why = told(held.reach(8));
    assert!(why.starts_with("g.in.state/3 holds at offset 5 what Keyrail did not write"), "{why}");
    take(&held, 8, &key("a"), Some(b"\x01three"));
    assert_eq!((position(&held), value(&held, "a")), (Some(9), Some(b"three".to_vec())));
    assert_eq!(held.reach(9), Ok(()));
}

#[test]
fn a_page_is_full_whatever_of_it_has_ended() {
    let held = held();
    for n in 0..9 {
        let expires_ms = (n % 3 > 0).then_some(100);
        let entry = encode(&Entry { value: Arc::from(*b"v"), expires_ms });
        take(&held, n, &key(&n.to_string()), Some(&entry));
    }
    let names = |after: &[u8], limit, now_ms| {
        let page = held.scan(&key(""), after, limit, now_ms);
        page.iter().map(|(key, _)| key[4..][0] - b'0').collect::<Vec<_>>()
    };
    assert_eq!(names(b"", 2, 99), [0, 1]);
    assert_eq!(names(b"", 2, 100), [0, 3]);
    assert_eq!(names(&key("3"), 2, 100), [6]);
    assert_eq!(held.expired(100, 4).unwrap().len(), 4);
    assert!(held.expired(99, 4).unwrap().is_empty());
}

#[test]
fn what_is_pending_is_counted_in_parts_and_told_when_all_of_it_is() {
    let mut open = held();
    let timers = timers::owner(&Owner::of(OrderKey::Key(b"k")).unwrap());
    let headers = Vec::new();
    let timer = Timer { at_ms: 5, offset: 1, hops: 0, key: None, headers: headers.clone(), payload: b"" }.encode();
    let (value, timestamp_ms) = (Some(&b"v"[..]), None);
    let later = Delayed { at_ms: 9, offset: 1, output: "out", key: None, value, headers, timestamp_ms }.encode();
    let written = |value: &[u8]| encode(&Entry { value: Arc::from(value), expires_ms: None });
    for n in 0..25_000 {
        take(&open, n, &timers.key(&n.to_string()), Some(&written(&timer)));
    }
    for n in 0..3 {
        take(&open, 25_000 + n, &delays::owner().key(&delays::name(1, n.cast_unsigned())), Some(&written(&later)));
    }
    take(&open, 25_003, &key("total"), Some(&written(b"1")));
    let all = [(Partition { topic: 0, number: 3 }, Arc::new(open.held.take().unwrap()))];
    let metrics = Metrics::new().pipeline("p");
    metrics.timers_pending.set(7);
    let mut census = census::Census::default();
    census.step(&all, &metrics);
    assert_eq!((metrics.timers_pending.get(), metrics.delayed_pending.get()), (7, 0));
    census.step(&all, &metrics);
    assert_eq!((metrics.timers_pending.get(), metrics.delayed_pending.get()), (25_000, 3));
    census.step(&[], &metrics);
    census.step(&[], &metrics);
    assert_eq!((metrics.timers_pending.get(), metrics.delayed_pending.get()), (0, 0));
}

#[test]
fn a_handler_that_can_t_read_what_is_there_is_refused_with_the_cure() {
    let task = Partition { topic: 0, number: AT.partition };
    let open = held();
    let held = open.held.as_ref().unwrap();
    let marked = |offset, schema| take(held, offset, &mark(schema).key, Some(b"\x01"));
    assert_eq!(held.schemas(task).unwrap(), [3], "nothing is there: its first change comes with its mark");
    assert_eq!(marked(0, 2), 1);
    assert_eq!(held.schemas(task).unwrap(), [3]);
    assert_eq!(marked(1, 3), 1);
    assert_eq!(held.schemas(task).unwrap(), [0_u16; 0]);
    assert_eq!(held.place.found.all(), [2, 3].into());
    held.add(&[]).unwrap();
    assert_eq!(marked(2, 4), 1);
    let Err(Trouble::Operator(why)) = held.schemas(task) else { panic!("schema 4 is not accepted") };
    assert_eq!(
        why,
        "g.in.state/3 holds state of schema 4, and the manifest's is 3 and accepts 2: if the handler reads 4, add it to [state] \
         accepts; else put the version back that does, or `keyrail rewind` with --state forget"
    );
}

#[test]
fn state_without_a_mark_is_of_the_first_schema() {
    let task = Partition { topic: 0, number: AT.partition };
    let open = held();
    let held = open.held.as_ref().unwrap();
    take(held, 0, &key("n"), Some(b"\x01v"));
    let Err(Trouble::Operator(why)) = held.schemas(task) else { panic!("schema 1 is not accepted") };
    assert!(why.contains("holds state of schema 1, and the manifest's is 3"), "{why}");
}
