#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::pipeline::budget::Pool;
use crate::pipeline::kept::Kept;
use crate::pipeline::link::to_engine;
use keyrail_engine::message::{Epoch, Failure};
use keyrail_engine::parking::{AT_ONCE, HELD};
use keyrail_engine::policy::Policy;
use keyrail_engine::retry::{History, split_mix};
use keyrail_store::{MemoryState, StateOptions};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const AT: TopicPartition = TopicPartition { topic: 0, partition: 3 };
const LOG: u64 = 7;
const SEED: u64 = 11;

fn policy() -> Policy {
    let mut policy = Policy::default();
    policy.retry.in_place_ms = Some(0);
    policy
}

/// What is parked of a partition, in a folder that is removed when the test is over.
struct Open {
    memory: Memory,
    dir: PathBuf,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.memory = Memory::default();
        drop(std::fs::remove_dir_all(&self.dir));
    }
}

impl Open {
    fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let dir = format!("keyrail-parked-{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed));
        Self { memory: Memory::default(), dir: std::env::temp_dir().join(dir) }.again(SEED, 0)
    }

    /// As a start does it.
    fn again(mut self, seed: u64, end: i64) -> Self {
        if let Some(lanes) = self.memory.lanes(to_engine(AT)) {
            lanes.index().unwrap().store().flush().unwrap();
        }
        self.memory = Memory::default();
        let place = Place {
            store: StateStore::start(StateOptions::default(), &self.dir).unwrap(),
            group: "g".to_owned(),
            inputs: vec!["in".to_owned()],
            topics: vec!["g.in.retry".to_owned()],
            router: Router::new(policy(), seed),
            seed,
            budget: Pool::new(1 << 20).join(),
        };
        let lanes = Lanes::new(Arc::new(place), AT);
        lanes.position(LOG, end).unwrap();
        self.memory.open(to_engine(AT), Epoch(1), Kept { parked: Some(Arc::new(lanes)), ..Kept::default() });
        self
    }

    fn lanes(&self) -> &Lanes {
        self.memory.lanes(to_engine(AT)).unwrap()
    }

    fn take(&self, at: i64, record: (Vec<u8>, Option<Vec<u8>>)) -> u64 {
        let (key, value) = record;
        self.lanes().take(&RecordBuilder::new(Some(&key), value.as_deref()).build(AT, at, 0)).unwrap()
    }

    fn read(&self, lane: u64, from: u64) -> Vec<(u64, i64)> {
        let read = self.memory.read(to_engine(AT), lane, from, 64, 1 << 20);
        read.iter().map(|loaded| (loaded.waiting.number, loaded.offset)).collect()
    }

    fn position(&self) -> Option<i64> {
        self.lanes().index().unwrap().store().position()
    }
}

fn message(key: &str, offset: i64) -> Record {
    let mut builder = RecordBuilder::new(Some(key.as_bytes()), None);
    builder.header(b"trace", Some(b"t"));
    builder.header(b"null", None);
    builder.build(AT, offset, 1_234)
}

fn waiting(number: u64, due_ms: i64, attempts: u32) -> Waiting {
    let first_failed_ms = (attempts > 0).then_some(900);
    let history = History { attempts, failures: attempts, first_failed_ms };
    Waiting {
        number,
        due_ms,
        history,
        failure: Failure { code: "busy".to_owned(), detail: "later".to_owned() },
        given_up: None,
    }
}

fn origin(offset: i64) -> Vec<u8> {
    Origin { topic: "in", partition: AT.partition, offset }.encode()
}

fn written(key: &str, offset: i64, waiting: &Waiting) -> (Vec<u8>, Option<Vec<u8>>) {
    (origin(offset), Some(parking::encode(waiting, None, &message(key, offset))))
}

fn lane(key: &str) -> u64 {
    Router::new(policy(), SEED).papers(to_engine(AT), 0, &message(key, 0)).lane
}

#[test]
fn what_is_read_is_loaded_as_it_was_and_a_tombstone_resolves_it() {
    let open = Open::new();
    let (memory, partition, lane) = (&open.memory, to_engine(AT), lane("k"));
    assert_eq!((memory.first(partition, lane, 1), memory.next_due(partition, 0)), (None, None));
    assert_eq!(open.take(10, written("k", 5, &waiting(1, 2_000, 2))), 1);
    assert_eq!(open.take(11, written("k", 8, &waiting(2, AT_ONCE, 0))), 1);
    let first = First { number: 1, offset: 5, due_ms: 2_000, until: 0 };
    assert_eq!(memory.first(partition, lane, 1), Some(first));
    assert_eq!(memory.first(partition, lane, 2), Some(First { number: 2, offset: 8, due_ms: AT_ONCE, until: 0 }));
    assert_eq!((memory.first(partition, lane, 3), memory.last(partition, lane)), (None, Some(2)));
    assert!([5, 8].iter().all(|at| memory.stands(partition, *at).is_some()) && memory.stands(partition, 6).is_none());
    assert_eq!(memory.due(partition, None, 1_999, 9), []);
    assert_eq!(memory.due(partition, None, 2_000, 9), [(2_000, lane)]);
    assert_eq!(memory.due(partition, Some((2_000, lane)), 9_000, 9), []);
    assert_eq!((memory.next_due(partition, 1_999), memory.next_due(partition, 2_000)), (Some(2_000), None));
    let loaded = memory.read(partition, lane, 1, 64, 1 << 20);
    assert_eq!(loaded[0].message.record, message("k", 5));
    assert_eq!((loaded[0].timestamp_ms, &loaded[0].waiting), (1_234, &waiting(1, 2_000, 2)));
    assert_eq!(memory.read(partition, lane, 1, 64, 1).len(), 1, "the first in any case");
    assert_eq!(open.take(12, (origin(5), None)), 1);
    assert_eq!(memory.first(partition, lane, 1), Some(First { number: 2, offset: 8, due_ms: AT_ONCE, until: 0 }));
    assert_eq!(memory.due(partition, None, 0, 9), [(AT_ONCE, lane)]);
    assert_eq!(open.take(13, (origin(8), None)), 1);
    assert_eq!((memory.first(partition, lane, 1), memory.last(partition, lane)), (None, None));
    assert_eq!((open.position(), open.read(lane, 1)), (Some(14), vec![]));
}

fn payload(record: Record, timer: Option<wasm::Fired>) -> Payload {
    let _charge = Pool::new(1 << 20).join().lot().charge(1);
    Payload { record, timer: timer.map(Arc::new), recording: None, delayed: None, _charge }
}

#[test]
fn a_timer_is_loaded_as_it_was_in_the_lane_of_its_key_and_is_no_duplicate() {
    let open = Open::new();
    let (memory, partition, lane, at) = (&open.memory, to_engine(AT), lane("k"), -7_000);
    let timer = wasm::Fired { name: "due".to_owned(), hops: 2 };
    let mut produced = Produced::default();
    let value = produced.add(Token(1), lane, &waiting(1, 2_000, 3), &payload(message("k", 5), Some(timer.clone())));
    assert_eq!(open.take(10, (origin(at), Some(value))), 1);
    assert_eq!(memory.first(partition, lane, 1), Some(First { number: 1, offset: at, due_ms: 2_000, until: 0 }));
    let loaded = memory.read(partition, lane, 1, 64, 1 << 20);
    assert_eq!((loaded[0].offset, loaded[0].id, loaded[0].refused), (at, None, None));
    assert_eq!((&loaded[0].message.record, &loaded[0].waiting), (&message("k", 5), &waiting(1, 2_000, 3)));
    assert_eq!(loaded[0].message.timer.as_deref(), Some(&timer));
    assert_eq!(open.take(11, (origin(at), None)), 1);
    assert_eq!(memory.first(partition, lane, 1), None);
}

#[test]
fn what_is_committed_is_there_at_once_and_what_was_not_produced_here_is_an_error() {
    let open = Open::new();
    let (memory, partition, lane) = (&open.memory, to_engine(AT), lane("k"));
    let mut produced = Produced::default();
    let token = Token(4);
    let value = produced.add(token, lane, &waiting(1, 2_000, 1), &payload(message("k", 5), None));
    assert_eq!(written("k", 5, &waiting(1, 2_000, 1)).1, Some(value));
    let change = Change { lane, offset: 5, number: 1, written: Some(token) };
    open.lanes().add(&[change], &mut produced).unwrap();
    assert_eq!(memory.first(partition, lane, 1), Some(First { number: 1, offset: 5, due_ms: 2_000, until: 0 }));
    assert!(open.lanes().add(&[change], &mut produced).is_err());
    // Written anew and resolved in one transaction: the last word counts.
    produced.add(token, lane, &waiting(1, 9_000, 2), &payload(message("k", 5), None));
    open.lanes().add(&[change, Change { written: None, ..change }], &mut produced).unwrap();
    assert_eq!((memory.first(partition, lane, 1), open.position()), (None, None));
    // What nobody takes is held for one more transaction.
    produced.add(token, lane, &waiting(1, 9_000, 2), &payload(message("k", 5), None));
    produced.committed();
    assert_eq!(produced.all.len(), 1);
    produced.committed();
    assert!(produced.all.is_empty());
}

#[test]
fn a_start_finds_what_was_parked_and_another_seed_begins_anew() {
    let open = Open::new();
    let (partition, lane) = (to_engine(AT), lane("k"));
    open.take(0, written("k", 5, &waiting(3, 2_000, 1)));
    open.take(1, written("k", 6, &waiting(4, AT_ONCE, 0)));
    open.take(2, written("held", 7, &waiting(1, HELD, 1)));
    let open = open.again(SEED, 3);
    assert_eq!((open.position(), open.read(lane, 1)), (Some(3), vec![(3, 5), (4, 6)]));
    assert_eq!(open.memory.last(partition, lane), Some(4));
    assert_eq!(open.memory.due(partition, None, i64::MAX, 9), [(2_000, lane)], "what is held is never due");
    let index = open.lanes().index().unwrap();
    assert_eq!((index.figures(), index.oldest_ms()), ((3, 2), Some(900)));
    let open = open.again(SEED + 1, 3);
    assert_eq!((open.position(), open.memory.first(partition, lane, 1)), (None, None));
    let open = open.again(SEED + 1, 0);
    open.take(0, written("k", 5, &waiting(3, 2_000, 1)));
    let open = open.again(SEED + 1, 0);
    assert_eq!(open.position(), None, "the topic ends before: it is another one");
}

#[test]
fn what_is_none_of_ours_is_passed_over() {
    let open = Open::new();
    let good = written("k", 5, &waiting(1, 2_000, 1));
    let elsewhere = Origin { topic: "other", partition: AT.partition, offset: 5 }.encode();
    let moved = Origin { topic: "in", partition: 0, offset: 5 }.encode();
    for (at, record) in
        (0..).zip([(b"mine".to_vec(), good.1.clone()), (elsewhere, good.1.clone()), (moved, good.1.clone())])
    {
        assert_eq!(open.take(at, record), 0);
    }
    assert_eq!((open.position(), open.read(lane("k"), 1)), (Some(3), vec![]));
    assert_eq!(open.lanes().broken(), None);
    assert_eq!(open.take(5, good), 1);
    assert_eq!(open.read(lane("k"), 1), [(1, 5)]);
}

#[test]
fn what_was_written_over_a_parked_message_is_refused_in_a_lane_of_its_own() {
    let open = Open::new();
    let (memory, partition) = (&open.memory, to_engine(AT));
    let good = written("k", 5, &waiting(1, 2_000, 1));
    let cut = good.1.as_ref().map(|value| value[..value.len() - 1].to_vec()).unwrap();
    assert_eq!(open.take(0, good), 1);
    for (at, offset, over) in [(1, 5, cut), (2, 6, Vec::new()), (3, 7, b"garbage".to_vec())] {
        assert_eq!(open.take(at, (origin(offset), Some(over.clone()))), 1);
        let (lane, number) = memory.stands(partition, offset).unwrap();
        let [loaded] = memory.read(partition, lane, number, 9, 1 << 20).try_into().unwrap();
        assert_eq!((loaded.offset, loaded.refused, loaded.id), (offset, Some(Reason::Undecodable), None));
        assert_eq!((loaded.message.record.value(), loaded.message.record.key()), (Some(over.as_slice()), None));
        assert_eq!(memory.due(partition, None, 0, 9).len(), at as usize, "each is due at once");
    }
    assert_eq!(memory.first(partition, lane("k"), 1), None, "what was there before does not run");
    assert_eq!(open.take(4, (origin(5), None)), 1);
    assert_eq!(memory.stands(partition, 5), None);
}

/// What an index must answer: by lane and number, the offset and the stand.
#[derive(Default)]
struct Model(BTreeMap<(u64, u64), (i64, Stand)>);

impl Model {
    fn stand(&self, offset: i64) -> Option<Stand> {
        self.0.values().find(|(of, _)| *of == offset).map(|(_, stand)| *stand)
    }

    fn apply(&mut self, item: &Item) {
        let (Item::Put { offset, .. } | Item::Gone { offset }) = item;
        self.0.retain(|_, (of, _)| of != offset);
        if let Item::Put { offset, stand, .. } = item {
            self.0.insert((stand.lane, stand.number), (*offset, *stand));
        }
    }

    fn check<I: StateIndex>(&self, index: &Index<I>, chance: &mut u64) {
        for lane in 0..5 {
            let from = split_mix(chance) % 40 + 1;
            let lines: Vec<_> = self.0.range((lane, from)..=(lane, u64::MAX)).collect();
            let first = lines.first().map(|((_, number), (offset, stand))| First {
                number: *number,
                offset: *offset,
                due_ms: stand.due_ms,
                until: stand.given_up.unwrap_or(0),
            });
            assert_eq!(index.first(lane, from).unwrap(), first);
            let last = self.0.range((lane, 0)..=(lane, u64::MAX)).next_back().map(|((_, number), _)| *number);
            assert_eq!(index.last(lane).is_some(), last.is_some());
            assert!(index.last(lane) >= last, "a number would be given twice");
            let most = 1 + split_mix(chance) as usize % 30;
            let read = index.read(lane, from, most, u64::MAX).unwrap();
            let read: Vec<_> = read.iter().map(|read| (read.number, read.offset, read.envelope().to_vec())).collect();
            let wanted =
                lines.iter().take(most).map(|((_, n), (offset, _))| (*n, *offset, offset.to_be_bytes().to_vec()));
            assert_eq!(read, wanted.collect::<Vec<_>>());
        }
        let mut due: Vec<Due> = Vec::new();
        for lane in 0..5 {
            let first = self.0.range((lane, 0)..=(lane, u64::MAX)).next();
            due.extend(first.map(|((lane, _), (_, stand))| (stand.due_ms, *lane)).filter(|(due, _)| *due != HELD));
        }
        due.sort_unstable();
        assert_eq!(index.due(None, i64::MAX, 99), due);
        let after_ms = (split_mix(chance) % 50) as i64;
        assert_eq!(index.next_due(after_ms), due.iter().map(|(due, _)| *due).find(|due| *due > after_ms));
        let offset = (split_mix(chance) % 60) as i64;
        assert_eq!(index.stands(offset).unwrap().is_some(), self.stand(offset).is_some());
        assert_eq!(index.figures().0, self.0.len() as u64);
    }
}

fn any_item(model: &Model, chance: &mut u64) -> Item {
    let offset = (split_mix(chance) % 60) as i64;
    if split_mix(chance).is_multiple_of(3) {
        return Item::Gone { offset };
    }
    let due_ms = [AT_ONCE, HELD, (split_mix(chance) % 50) as i64][(split_mix(chance) % 3) as usize];
    let free = |stand: &Stand| !model.0.contains_key(&(stand.lane, stand.number));
    let stand = loop {
        let (lane, number) = (split_mix(chance) % 5, split_mix(chance) % 40 + 1);
        let given_up = split_mix(chance).is_multiple_of(4).then(|| split_mix(chance) % 40);
        let stand = Stand { lane, number, due_ms, since_ms: i64::MAX, given_up };
        if free(&stand) {
            break stand;
        }
    };
    // Most that are there are written anew in their place.
    let stand = match model.stand(offset).filter(|_| !split_mix(chance).is_multiple_of(4)) {
        Some(old) => Stand { due_ms, ..old },
        None => stand,
    };
    Item::Put { offset, stand, envelope: offset.to_be_bytes().to_vec() }
}

#[test]
fn any_changes_in_any_batches_leave_what_a_simple_model_holds() {
    let identity = StateIdentity { group: "g".to_owned(), topic: "parked/in".to_owned(), partition: 0, log: 0 };
    for seed in 1..=40 {
        let mut chance = seed;
        let mut index = Index::open(MemoryState::new(identity.clone()), SEED).unwrap().unwrap();
        let mut model = Model::default();
        for step in 0..150 {
            let mut batch = Vec::new();
            for _ in 0..split_mix(&mut chance) % 6 {
                let item = any_item(&model, &mut chance);
                model.apply(&item);
                batch.push(item);
            }
            index.apply(batch, Some(step)).unwrap();
            model.check(&index, &mut chance);
            if step % 50 == 49 {
                index = Index::open(index.into_store(), SEED).unwrap().unwrap();
                model.check(&index, &mut chance);
            }
        }
    }
}
