//! Which messages wait for each other, and which are the same.

use super::*;
use crate::testing::{Msg, P0, P1};
use alloc::collections::BTreeSet;

type Headers = &'static [(&'static [u8], Option<&'static [u8]>)];

fn order(by: OrderBy, null_key: NullKey) -> Order {
    Order { by, null_key, ..Order::default() }
}

fn header(name: &str) -> OrderBy {
    OrderBy::Header(name.into())
}

#[test]
fn the_order_key_is_what_the_manifest_says() {
    use NullKey::{None as Free, Partition as Part};
    let keyed = Msg { headers: &[(b"h", Some(b"first")), (b"h", Some(b"last"))], ..Msg::keyed("k") };
    let bare = Msg { headers: &[(b"h", None)], ..Msg::default() };
    let empty = Msg::keyed("");
    let cases: &[(OrderBy, NullKey, Msg, OrderKey<'_>)] = &[
        (OrderBy::Key, Free, keyed, OrderKey::Key(b"k")),
        (OrderBy::Key, Part, keyed, OrderKey::Key(b"k")),
        (OrderBy::Key, Free, bare, OrderKey::Free),
        (OrderBy::Key, Part, bare, OrderKey::Partition),
        // Empty is a key; null is none.
        (OrderBy::Key, Free, empty, OrderKey::Key(b"")),
        (header("h"), Free, keyed, OrderKey::Key(b"last")),
        (header("h"), Free, bare, OrderKey::Free),
        (header("h"), Part, bare, OrderKey::Partition),
        (header("other"), Part, keyed, OrderKey::Partition),
        (OrderBy::Partition, Free, keyed, OrderKey::Partition),
        (OrderBy::None, Part, keyed, OrderKey::Free),
    ];
    for (by, null_key, message, expected) in cases {
        assert_eq!(order_key(&order(by.clone(), *null_key), message), *expected, "{by:?} {null_key:?} {message:?}");
    }
}

#[test]
fn the_id_is_where_the_manifest_says_and_absent_decides_the_rest() {
    let from_header = IdFrom::Header("id".into());
    let with = Msg { headers: &[(b"id", Some(b"1")), (b"id", Some(b"2"))], ..Msg::keyed("k") };
    let without = Msg { value: Some(b"v"), ..Msg::default() };
    let null = Msg { headers: &[(b"id", None)], ..Msg::default() };
    let is = |bytes: &[u8]| IdBytes::Is(bytes.to_vec());
    let cases: &[(&IdFrom, Absent, Msg, IdBytes)] = &[
        (&from_header, Absent::Process, with, is(b"2")),
        (&from_header, Absent::DeadLetter, with, is(b"2")),
        (&from_header, Absent::Process, without, IdBytes::None),
        (&from_header, Absent::Process, null, IdBytes::None),
        (&from_header, Absent::DeadLetter, without, IdBytes::Refused),
        (&from_header, Absent::Digest, without, is(&digest(&without))),
        (&IdFrom::Key, Absent::Process, with, is(b"k")),
        (&IdFrom::Key, Absent::Process, Msg::keyed(""), is(b"")),
        (&IdFrom::Key, Absent::DeadLetter, without, IdBytes::Refused),
        (&IdFrom::Digest, Absent::DeadLetter, without, is(&digest(&without))),
    ];
    for (from, absent, message, expected) in cases {
        assert_eq!(id_bytes(from, *absent, message), *expected, "{from:?} {absent:?} {message:?}");
    }
}

#[test]
fn digests_of_different_messages_differ() {
    const HEADERS: &[Headers] = &[
        &[],
        &[(b"a", None)],
        &[(b"a", Some(b""))],
        &[(b"a", Some(b"b"))],
        &[(b"ab", Some(b""))],
        &[(b"a", None), (b"b", None)],
        &[(b"b", None), (b"a", None)],
    ];
    let fields: [Option<&'static [u8]>; 4] = [None, Some(b""), Some(b"a"), Some(b"ab")];
    let mut digests = BTreeSet::new();
    let mut count = 0;
    for key in fields {
        for value in fields {
            for headers in HEADERS {
                let message = Msg { key, value, headers, ..Msg::default() };
                digests.insert(digest(&message));
                count += 1;
                // What the broker adds is no part of it.
                let elsewhere = Msg { timestamp_ms: 7, size: 9, ..message };
                assert_eq!(digest(&elsewhere), digest(&message));
            }
        }
    }
    assert_eq!(digests.len(), count);
    // Two nulls, each a length that no bytes have.
    let nothing = digest(&Msg::default());
    assert_eq!(nothing.len(), 32);
    assert_eq!(nothing, Sha256::digest([0xff; 16]).to_vec());
}

#[test]
fn an_id_counts_within_its_order_key_only() {
    let keys = [
        OrderKey::Key(b"k1"),
        OrderKey::Key(b"k2"),
        OrderKey::Key(b""),
        OrderKey::Key(b"k"),
        OrderKey::Partition,
        OrderKey::Free,
    ];
    let mut ids = BTreeSet::new();
    for key in keys {
        for id in [&b""[..], b"1", b"11", b"k"] {
            assert!(ids.insert(message_id(key, id)), "{key:?} {id:?}");
            assert_eq!(message_id(key, id), message_id(key, id));
        }
    }
}

#[test]
fn equal_order_keys_share_a_lane_and_others_do_not() {
    let hash = LaneHash::new(1);
    let id = |n: u8| Some(MessageId([n; 16]));
    // The same lane, whatever else differs.
    let key = OrderKey::Key(b"k");
    assert_eq!(hash.lane(key, None, P0, (P0, 1)), hash.lane(key, id(1), P1, (P1, 2)));
    assert_eq!(hash.lane(OrderKey::Partition, None, P0, (P0, 1)), hash.lane(OrderKey::Partition, id(1), P0, (P0, 2)));
    assert_eq!(hash.lane(OrderKey::Free, id(1), P0, (P0, 1)), hash.lane(OrderKey::Free, id(1), P0, (P0, 2)));
    // Lanes of their own.
    let other_topic = Partition { topic: 1, number: 0 };
    let lanes = [
        hash.lane(key, None, P0, (P0, 1)),
        hash.lane(OrderKey::Key(b"k2"), None, P0, (P0, 1)),
        hash.lane(OrderKey::Key(b""), None, P0, (P0, 1)),
        hash.lane(OrderKey::Partition, None, P0, (P0, 1)),
        hash.lane(OrderKey::Partition, None, P1, (P1, 1)),
        hash.lane(OrderKey::Partition, None, other_topic, (other_topic, 1)),
        hash.lane(OrderKey::Free, id(1), P0, (P0, 1)),
        hash.lane(OrderKey::Free, id(2), P0, (P0, 1)),
        hash.lane(OrderKey::Free, None, P0, (P0, 1)),
        hash.lane(OrderKey::Free, None, P0, (P0, 2)),
        hash.lane(OrderKey::Free, None, P1, (P1, 1)),
        hash.lane(OrderKey::Free, None, other_topic, (other_topic, 1)),
    ];
    assert_eq!(lanes.iter().collect::<BTreeSet<_>>().len(), lanes.len(), "{lanes:?}");
}

#[test]
fn the_seed_decides_the_lanes() {
    let lane = |seed| LaneHash::new(seed).lane(OrderKey::Key(b"k"), None, P0, (P0, 0));
    assert_eq!(lane(1), lane(1));
    assert_ne!(lane(1), lane(2));
}

#[test]
fn every_shard_gets_its_share_and_none_is_out_of_range() {
    for (lane, shards, expected) in
        [(0, 1, 0), (u64::MAX, 1, 0), (0, 4, 0), (u64::MAX, 4, 3), (1 << 62, 4, 1), ((1 << 62) - 1, 4, 0)]
    {
        assert_eq!(shard_of(lane, shards), expected, "{lane} {shards}");
    }
    let hash = LaneHash::new(3);
    let mut counts = [0; 5];
    for offset in 0..5_000 {
        counts[shard_of(hash.lane(OrderKey::Free, None, P0, (P0, offset)), 5) as usize] += 1;
    }
    assert!(counts.iter().all(|n| (800..1_200).contains(n)), "{counts:?}");
}
