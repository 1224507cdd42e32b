#![allow(clippy::unwrap_used, reason = "a test may fail by panic")]

use super::*;
use crate::order::OrderKey;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec;
use core::cell::RefCell;

const AT: Partition = Partition { topic: 0, number: 3 };

#[derive(Debug, Default)]
struct Map(RefCell<BTreeMap<(Partition, Vec<u8>), Entry>>);

impl Map {
    fn take(&self, partition: Partition, changes: &[Change]) {
        for change in changes {
            match &change.entry {
                Some(entry) => self.0.borrow_mut().insert((partition, change.key.to_vec()), entry.clone()),
                None => self.0.borrow_mut().remove(&(partition, change.key.to_vec())),
            };
        }
    }
}

impl Kept for Map {
    fn get(&self, partition: Partition, key: &[u8]) -> Option<Entry> {
        self.0.borrow().get(&(partition, key.to_vec())).cloned()
    }

    fn scan(
        &self,
        partition: Partition,
        prefix: &[u8],
        after: &[u8],
        limit: usize,
        now_ms: i64,
    ) -> Vec<(Arc<[u8]>, Entry)> {
        let asked = |key: &[u8]| key.starts_with(prefix) && key > after;
        let all = self.0.borrow();
        let found = all.iter().filter(|((p, key), entry)| *p == partition && asked(key) && entry.lives(now_ms));
        found.take(limit).map(|((_, key), entry)| (Arc::from(&key[..]), entry.clone())).collect()
    }
}

fn owner(key: &[u8]) -> Owner {
    Owner::of(OrderKey::Key(key)).unwrap()
}

fn entry(value: &[u8], expires_ms: Option<i64>) -> Entry {
    Entry { value: Arc::from(value), expires_ms }
}

fn get(call: &Call, slot: u32, key: &[u8], name: &str, kept: &Map) -> Option<Vec<u8>> {
    call.get(slot, (AT, &owner(key)), name, 10, kept).unwrap().map(|value| value.to_vec())
}

fn put(call: &mut Call, slot: u32, key: &[u8], name: &str, value: &[u8]) {
    call.write(slot, (AT, owner(key)), name, Write::Put(value, None)).unwrap();
}

fn stand(call: Call, slots: &[u32]) -> (Overlay, Vec<Change>) {
    let (mut overlay, mut staged) = call.end();
    let changes = slots.iter().flat_map(|slot| staged.stand(*slot, &mut overlay)).collect();
    (overlay, changes)
}

fn names(call: &Call, slot: u32, (prefix, after, limit): (&str, Option<&str>, u32), kept: &Map) -> Vec<String> {
    let found = call.scan(slot, (AT, &owner(b"k")), (prefix, after, limit), 10, kept).unwrap();
    found
        .into_iter()
        .map(|(name, value)| alloc::format!("{name}={}", String::from_utf8(value.to_vec()).unwrap()))
        .collect()
}

#[test]
fn keys_are_read_as_they_are_written() {
    let long = vec![7; MAX_OWNER];
    for (key, name) in [(&b"k"[..], "n"), (b"", ""), (b"\0\x01", "a/b"), (&long, "\u{e9}")] {
        let written = owner(key).key(name);
        assert_eq!(Key::decode(&written), Ok(Key { owner: Some(key), name, kind: Kind::State }));
    }
    let task = Owner::of(OrderKey::Partition).unwrap().key("n");
    assert_eq!(task, b"\x02n");
    assert_eq!(Key::decode(&task), Ok(Key { owner: None, name: "n", kind: Kind::State }));
    assert_eq!(owner(b"key").key("n"), b"\x01\0\x03keyn", "frozen");
    assert_eq!(Owner::of(OrderKey::Free), Err(Refused::NoKey));
    assert_eq!(Owner::of(OrderKey::Key(&vec![7; MAX_OWNER + 1])), Err(Refused::TooLarge));
}

#[test]
fn what_is_no_key_is_refused() {
    assert_eq!(Key::decode(b""), Err(Unusable::Foreign));
    assert_eq!(Key::decode(b"\x09n"), Err(Unusable::Foreign));
    assert_eq!(Key::decode(b"\x01\0"), Err(Unusable::Torn));
    assert_eq!(Key::decode(b"\x01\0\x03ke"), Err(Unusable::Torn));
    assert_eq!(Key::decode(b"\x02\xff"), Err(Unusable::Name));
}

#[test]
fn values_are_read_as_they_are_written() {
    for entry in [entry(b"", None), entry(b"v", None), entry(b"v", Some(-1)), entry(&[1, 2], Some(i64::MAX))] {
        assert_eq!(decode(&encode(&entry)), Ok(entry));
    }
    assert_eq!(encode(&entry(b"v", None)), b"\x01v", "frozen");
    assert_eq!(encode(&entry(b"v", Some(258))), b"\x02\x02\x01\0\0\0\0\0\0v", "frozen");
    assert_eq!(decode(b""), Err(Unusable::Foreign));
    assert_eq!(decode(b"\x03v"), Err(Unusable::Foreign));
    assert_eq!(decode(b"\x02\0\0\0\0\0\0\0"), Err(Unusable::Torn));
}

#[test]
fn a_later_slot_sees_what_an_earlier_one_staged_and_never_the_other_way_round() {
    let kept = Map::default();
    let mut call = Call::new(Overlay::new(1));
    put(&mut call, 2, b"k", "n", b"two");
    put(&mut call, 0, b"k", "n", b"zero");
    put(&mut call, 0, b"k", "n", b"null");
    assert_eq!(get(&call, 0, b"k", "n", &kept), Some(b"null".to_vec()));
    assert_eq!(get(&call, 1, b"k", "n", &kept), Some(b"null".to_vec()));
    assert_eq!(get(&call, 3, b"k", "n", &kept), Some(b"two".to_vec()));
    assert_eq!(get(&call, 3, b"other", "n", &kept), None);
    call.write(3, (AT, owner(b"k")), "n", Write::Delete).unwrap();
    assert_eq!(get(&call, 3, b"k", "n", &kept), None);
    assert_eq!(get(&call, 2, b"k", "n", &kept), Some(b"two".to_vec()));
}

#[test]
fn only_what_stands_counts_and_the_last_slot_has_the_last_word() {
    let kept = Map::default();
    let mut call = Call::new(Overlay::new(1));
    put(&mut call, 2, b"k", "n", b"two");
    put(&mut call, 0, b"k", "n", b"zero");
    put(&mut call, 1, b"l", "n", b"undone");
    let (overlay, changes) = stand(call, &[0, 2]);
    assert_eq!(changes.iter().map(|c| c.number).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(overlay.len(), 1);
    let call = Call::new(overlay);
    assert_eq!(get(&call, 0, b"k", "n", &kept), Some(b"two".to_vec()));
    assert_eq!(get(&call, 0, b"l", "n", &kept), None);
}

#[test]
fn what_is_kept_is_passed_on_unless_it_has_changed_since() {
    let kept = Map::default();
    let mut call = Call::new(Overlay::new(1));
    put(&mut call, 0, b"k", "a", b"1");
    put(&mut call, 0, b"k", "b", b"1");
    let (overlay, first) = stand(call, &[0]);
    let mut call = Call::new(overlay);
    put(&mut call, 0, b"k", "b", b"2");
    let (mut overlay, second) = stand(call, &[0]);
    kept.take(AT, &first);
    overlay.pass_on(AT, &first);
    assert_eq!(overlay.len(), 1, "b is another one by now");
    let call = Call::new(overlay);
    assert_eq!(
        (get(&call, 0, b"k", "a", &kept), get(&call, 0, b"k", "b", &kept)),
        (Some(b"1".to_vec()), Some(b"2".to_vec()))
    );
    let mut overlay = call.overlay;
    overlay.pass_on(AT, &second);
    assert!(overlay.is_empty());
}

#[test]
fn a_deletion_hides_what_is_kept() {
    let kept = Map::default();
    kept.take(AT, &[Change { key: owner(b"k").key("n").into(), entry: Some(entry(b"v", None)), number: 0 }]);
    let mut call = Call::new(Overlay::new(1));
    assert_eq!(get(&call, 0, b"k", "n", &kept), Some(b"v".to_vec()));
    call.write(0, (AT, owner(b"k")), "n", Write::Delete).unwrap();
    let (overlay, changes) = stand(call, &[0]);
    assert_eq!(changes[0].entry, None);
    let mut call = Call::new(overlay);
    assert_eq!(get(&call, 0, b"k", "n", &kept), None);
    call.overlay.drop_task(AT);
    assert_eq!(get(&call, 0, b"k", "n", &kept), Some(b"v".to_vec()), "it never was");
}

#[test]
fn what_has_ended_is_not_there() {
    let kept = Map::default();
    let change =
        |name: &str, end| Change { key: owner(b"k").key(name).into(), entry: Some(entry(b"v", Some(end))), number: 0 };
    kept.take(AT, &[change("over", 10), change("lives", 11)]);
    let mut call = Call::new(Overlay::new(1));
    assert_eq!((get(&call, 0, b"k", "over", &kept), get(&call, 0, b"k", "lives", &kept)), (None, Some(b"v".to_vec())));
    call.write(0, (AT, owner(b"k")), "staged", Write::Put(b"v", Some(10))).unwrap();
    assert_eq!(get(&call, 0, b"k", "staged", &kept), None);
    assert_eq!(names(&call, 0, ("", None, 9), &kept), ["lives=v"]);
}

#[test]
fn a_scan_merges_what_is_staged_settled_and_kept() {
    let kept = Map::default();
    let change =
        |key: &[u8], name: &str| Change { key: owner(key).key(name).into(), entry: Some(entry(b"0", None)), number: 0 };
    for name in ["a/1", "a/2", "a/3", "a/4", "b"] {
        kept.take(AT, &[change(b"k", name), change(b"kk", name), change(b"j", name)]);
    }
    let mut call = Call::new(Overlay::new(1));
    call.write(0, (AT, owner(b"k")), "a/2", Write::Delete).unwrap();
    put(&mut call, 0, b"k", "a/5", b"1");
    let (overlay, _) = stand(call, &[0]);
    let mut call = Call::new(overlay);
    put(&mut call, 1, b"k", "a/3", b"2");
    put(&mut call, 1, b"k", "a/0", b"2");
    put(&mut call, 9, b"k", "a/9", b"later");
    assert_eq!(names(&call, 1, ("a/", None, 9), &kept), ["a/0=2", "a/1=0", "a/3=2", "a/4=0", "a/5=1"]);
    assert_eq!(names(&call, 1, ("a/", None, 2), &kept), ["a/0=2", "a/1=0"]);
    assert_eq!(names(&call, 1, ("a/", Some("a/1"), 2), &kept), ["a/3=2", "a/4=0"]);
    assert_eq!(names(&call, 0, ("", Some("a/4"), 9), &kept), ["a/5=1", "b=0"]);
    assert_eq!(names(&call, 0, ("", None, 0), &kept), [""; 0]);
}

#[test]
fn what_is_too_large_is_refused_and_changes_nothing() {
    let kept = Map::default();
    let mut call = Call::new(Overlay::new(1));
    let long = "n".repeat(MAX_NAME + 1);
    let values = [vec![0; MAX_VALUE], vec![0; MAX_VALUE + 1]];
    let mut refused = |name: &str, write| call.write(0, (AT, owner(b"k")), name, write);
    assert_eq!(refused(&long, Write::Delete), Err(Refused::TooLarge));
    assert_eq!(refused("n", Write::Put(&values[1], None)), Err(Refused::TooLarge));
    assert_eq!(refused("n", Write::Put(&values[0], None)), Ok(()));
    assert_eq!(call.get(0, (AT, &owner(b"k")), &long, 0, &kept), Err(Refused::TooLarge));
    let scan = |call: &Call, limit| call.scan(0, (AT, &owner(b"k")), ("", None, limit), 0, &kept).map(|all| all.len());
    assert_eq!(scan(&call, MAX_SCAN + 1), Err(Refused::TooLarge));
    assert_eq!(scan(&call, MAX_SCAN), Ok(1));
    for n in 0..8 {
        put(&mut call, 0, b"k", &n.to_string(), &vec![0; MAX_VALUE]);
    }
    assert_eq!(scan(&call, MAX_SCAN), Err(Refused::TooLarge));
    assert_eq!(scan(&call, 7), Ok(7));
}

#[test]
fn any_order_of_changes_ends_as_a_map_would() {
    let kept = Map::default();
    let mut model: BTreeMap<(u8, String), Vec<u8>> = BTreeMap::new();
    let (mut random, mut overlay, mut open): (u64, _, Vec<Box<[Change]>>) = (7, Overlay::new(3), Vec::new());
    for round in 0..400 {
        let mut next = |most: u64| crate::retry::split_mix(&mut random) % most;
        let mut call = Call::new(overlay);
        let (key, name) = (next(3) as u8, alloc::format!("{}", next(4)));
        let found = get(&call, 5, &[key], &name, &kept);
        assert_eq!(found.as_ref(), model.get(&(key, name.clone())), "round {round}");
        if next(4) == 0 {
            call.write(5, (AT, owner(&[key])), &name, Write::Delete).unwrap();
        } else {
            put(&mut call, 5, &[key], &name, &[round as u8]);
        }
        let stands = next(5) > 0;
        let wish = get(&call, 5, &[key], &name, &kept);
        let (after, changes) = stand(call, if stands { &[5] } else { &[] });
        overlay = after;
        if stands {
            match wish {
                Some(value) => model.insert((key, name), value),
                None => model.remove(&(key, name)),
            };
            open.push(changes.into());
        }
        // A commit holds some of them, in order.
        if next(6) == 0 {
            let count = next(open.len() as u64 + 1) as usize;
            for changes in open.drain(..count) {
                kept.take(AT, &changes);
                overlay.pass_on(AT, &changes);
            }
        }
    }
    assert!(!overlay.is_empty() || open.is_empty());
}

#[test]
fn what_was_there_before_a_slot_is_told_apart_from_what_it_staged() {
    let kept = Map::default();
    let of = |name: &str| Change { key: owner(b"k").key(name).into(), entry: Some(entry(b"0", None)), number: 0 };
    kept.take(AT, &["a", "b", "c", "d"].map(of));
    let mut call = Call::alone();
    let at = || (AT, owner(b"k"));
    put(&mut call, 0, b"k", "b", b"1");
    put(&mut call, 1, b"k", "c", b"2");
    call.write(1, at(), "a", Write::Delete).unwrap();
    put(&mut call, 1, b"k", "n", b"new");
    put(&mut call, 2, b"k", "d", b"3");
    let before =
        |slot, name| call.get_before(slot, (AT, &owner(b"k")), name, 10, &kept).unwrap().map(|value| value.to_vec());
    assert_eq!([before(1, "a"), before(1, "b"), before(1, "c")], [b"0", b"1", b"0"].map(|v| Some(v.to_vec())));
    assert_eq!((before(0, "b"), before(1, "n"), before(2, "n")), (Some(b"0".to_vec()), None, Some(b"new".to_vec())));
    let changed = ["a", "b", "c", "n"].map(|name| call.has_changed(1, (AT, &owner(b"k")), name));
    assert_eq!(changed, [true, false, true, true]);
    let page = |slot, after, limit| {
        let (page, limit) = call.scan_before(slot, (AT, &owner(b"k")), ("", after, limit), 10, &kept).unwrap();
        (page.into_iter().map(|(name, value)| alloc::format!("{name}{}", value[0] - b'0')).collect::<Vec<_>>(), limit)
    };
    // Three names that the slot has changed may stand among the first: so many more are looked at.
    assert_eq!(page(1, None, 1), (vec!["a0".into(), "b1".into(), "c0".into(), "d0".into()], 4));
    assert_eq!(page(1, Some("a"), 1), (vec!["b1".into(), "c0".into(), "d0".into()], 3));
    assert_eq!(page(0, Some("b"), 1), (vec!["c0".into()], 1));
    let staged = call.staged(1);
    let told: Vec<_> = staged.iter().map(|(key, entry)| (Key::decode(key).unwrap().name, entry.is_some())).collect();
    assert_eq!(told, [("a", false), ("c", true), ("n", true)]);
}
