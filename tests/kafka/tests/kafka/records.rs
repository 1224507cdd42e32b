//! Records there and back.

use crate::support::*;
use keyrail::broker::{Produce, Refusal};
use keyrail_kafka_tests::{Security, shared, unique};

type Header<'a> = (&'a [u8], Option<&'a [u8]>);
/// Key, value, headers, timestamp.
type Case<'a> = (Option<&'a [u8]>, Option<&'a [u8]>, &'a [Header<'a>], Option<i64>);

#[test]
fn records_come_back_byte_for_byte() {
    let Some(rig) = shared("records_come_back_byte_for_byte") else { return };
    let topic = unique("round");
    rig.create_topic(&topic, 1, &[("max.message.bytes", "20000000")]).unwrap();
    let kafka = plain(rig);
    let binary: Vec<u8> = (0..=255).collect();
    let large = vec![0x5a; 10 * 1024 * 1024];
    let many: Vec<(String, Vec<u8>)> = (0..1000).map(|i| (format!("h{}", i % 700), vec![i as u8; i % 5])).collect();
    let many: Vec<Header<'_>> = many.iter().map(|(n, v)| (n.as_bytes(), Some(v.as_slice()))).collect();
    let odd: [Header<'_>; 4] = [(b"\xff\xfe", None), (b"", Some(b"")), (b"a", Some(&binary)), (b"a", Some(b"2"))];
    let cases: [Case<'_>; 7] = [
        (None, None, &[], Some(1_600_000_000_123)),
        (Some(b""), Some(b""), &[], None),
        (Some(b"k"), None, &[], None),
        (None, Some(&binary), &[], None),
        (Some(&binary), Some(b"\0"), &odd, None),
        (Some(b"many"), Some(b"v"), &many, None),
        (Some(b"large"), Some(&large), &[], None),
    ];
    let records: Vec<_> = cases
        .iter()
        .map(|(key, value, headers, timestamp_ms)| Produce {
            topic: &topic,
            partition: Some(0),
            key: *key,
            value: *value,
            headers,
            timestamp_ms: *timestamp_ms,
        })
        .collect();
    send_ok(&kafka, &records);

    let mut consumer = join(&kafka, &unique("g"), &topic);
    assert_eq!(take_assignment(consumer.as_mut(), 0), [at(0)]);
    for (i, record) in read(consumer.as_mut(), cases.len()).iter().enumerate() {
        let (key, value, headers, timestamp_ms) = &cases[i];
        assert_eq!((record.at, record.offset), (at(0), i as i64));
        assert_eq!(record.key(), *key, "key of {i}");
        assert_eq!(record.value(), *value, "value of {i}");
        assert_eq!(record.headers().collect::<Vec<_>>(), *headers, "headers of {i}");
        match timestamp_ms {
            Some(ms) => assert_eq!(record.timestamp_ms, *ms),
            None => assert!(record.timestamp_ms > 1_700_000_000_000),
        }
    }
}

/// Values of `org.apache.kafka.common.utils.Utils.murmur2`, as Kafka's own tests state them.
const MURMUR2: [(&str, i32); 6] = [
    ("21", -973_932_308),
    ("foobar", -790_332_482),
    ("a-little-bit-long-string", -985_981_536),
    ("a-little-bit-longer-string", -1_486_304_829),
    ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
    ("abc", 479_470_107),
];

#[test]
fn keys_land_where_java_clients_put_them() {
    let Some(rig) = shared("keys_land_where_java_clients_put_them") else { return };
    let topic = unique("murmur");
    rig.create_topic(&topic, 7, &[]).unwrap();
    let kafka = plain(rig);
    let records =
        MURMUR2.map(|(key, _)| Produce { partition: None, key: Some(key.as_bytes()), ..produce(&topic, b"") });
    send_ok(&kafka, &records);
    let mut consumer = join(&kafka, &unique("g"), &topic);
    take_assignment(consumer.as_mut(), 0);
    for record in read(consumer.as_mut(), MURMUR2.len()) {
        let (key, hash) = MURMUR2.into_iter().find(|(k, _)| Some(k.as_bytes()) == record.key()).unwrap();
        assert_eq!(record.at.partition, (hash & 0x7fff_ffff) % 7, "{key}");
    }
}

fn undeliverable(result: &Result<(), Refusal>) -> bool {
    matches!(result, Err(Refusal::Undeliverable(_)))
}

fn blocked(result: &Result<(), Refusal>) -> bool {
    matches!(result, Err(Refusal::Blocked(_)))
}

#[test]
fn a_batch_refused_for_one_record_blocks_all_and_then_each_gets_its_own_verdict() {
    let test = "a_batch_refused_for_one_record_blocks_all_and_then_each_gets_its_own_verdict";
    let Some(rig) = shared(test) else { return };
    let topic = unique("small");
    rig.create_topic(&topic, 1, &[("max.message.bytes", "2000")]).unwrap();
    let kafka = plain(rig);
    let (small, large) = ([1; 300], [2; 5000]);
    let values: Vec<&[u8]> = (0..30).map(|i| if i == 13 { &large[..] } else { &small[..] }).collect();
    let records: Vec<_> = values.iter().map(|v| produce(&topic, v)).collect();
    // Nobody told it the topic's limit.
    let mut producer = kafka.producer(&[], LIMIT).unwrap();
    let first = send_all(producer.as_mut(), &records);
    assert!(first.iter().all(blocked), "nobody is condemned, and none overtakes another: {first:?}");
    for (i, result) in send_all(producer.as_mut(), &records).iter().enumerate() {
        if i == 13 {
            assert!(undeliverable(result), "{result:?}");
        } else {
            assert_eq!(*result, Ok(()), "record {i} fits");
        }
    }
    let beyond_client = vec![0; 40 * 1024 * 1024];
    let refused = producer.send(&produce(&topic, &beyond_client), 0).map(|_| ());
    assert!(undeliverable(&refused), "{refused:?}");
    let mut consumer = join(&kafka, &unique("g"), &topic);
    take_assignment(consumer.as_mut(), 0);
    assert_eq!(read(consumer.as_mut(), 29).len(), 29);
}

#[test]
fn batches_keep_within_the_limit_of_each_topic_that_is_named() {
    let Some(rig) = shared("batches_keep_within_the_limit_of_each_topic_that_is_named") else { return };
    let (wide, small) = (unique("wide"), unique("small"));
    rig.create_topic(&wide, 1, &[]).unwrap();
    rig.create_topic(&small, 1, &[("max.message.bytes", "2000")]).unwrap();
    let value = [1; 300];
    let records = vec![produce(&small, &value); 100];
    let mut producer = plain(rig).producer(&[&wide, &small], LIMIT).unwrap();
    for result in send_all(producer.as_mut(), &records) {
        assert_eq!(result, Ok(()), "30 KB in one batch would be refused");
    }
    let large = [2; 5000];
    let results = send_all(producer.as_mut(), &[produce(&small, &value), produce(&small, &large), records[0]]);
    assert!(undeliverable(&results[1]), "{:?}", results[1]);
    assert_eq!((&results[0], &results[2]), (&Ok(()), &Ok(())), "it was in no batch with others");
}

#[test]
fn a_record_without_key_on_a_compacted_topic_is_undeliverable() {
    let Some(rig) = shared("a_record_without_key_on_a_compacted_topic_is_undeliverable") else { return };
    let topic = unique("compacted");
    rig.create_topic(&topic, 1, &[("cleanup.policy", "compact")]).unwrap();
    let kafka = plain(rig);
    let keyed = Produce { key: Some(b"k"), ..produce(&topic, b"v") };
    let mut producer = kafka.producer(&[&topic], LIMIT).unwrap();
    let first = send_all(producer.as_mut(), &[keyed, produce(&topic, b"v"), keyed]);
    assert!(first.iter().all(blocked), "refused as one batch: {first:?}");
    let results = send_all(producer.as_mut(), &[keyed, produce(&topic, b"v"), keyed]);
    assert!(undeliverable(&results[1]), "{:?}", results[1]);
    assert_eq!((&results[0], &results[2]), (&Ok(()), &Ok(())), "each by itself");
}

#[test]
fn a_timestamp_that_the_topic_refuses_is_undeliverable() {
    let Some(rig) = shared("a_timestamp_that_the_topic_refuses_is_undeliverable") else { return };
    let topic = unique("times");
    rig.create_topic(&topic, 1, &[("message.timestamp.after.max.ms", "60000")]).unwrap();
    let mut producer = plain(rig).producer(&[], LIMIT).unwrap();
    let future = Produce { timestamp_ms: Some(33_000_000_000_000), ..produce(&topic, b"v") };
    let results = send_all(producer.as_mut(), &[future]);
    assert!(undeliverable(&results[0]), "{:?}", results[0]);
}

#[test]
fn a_missing_topic_or_partition_blocks_and_names_the_cure() {
    let Some(rig) = shared("a_missing_topic_or_partition_blocks_and_names_the_cure") else { return };
    let topic = unique("one");
    rig.create_topic(&topic, 1, &[]).unwrap();
    let kafka = connect(&rig.properties(Security::Plain), &[("topic.metadata.propagation.max.ms", "1000")]);
    let mut producer = kafka.producer(&[], LIMIT).unwrap();
    let missing = unique("missing");
    let beyond = Produce { partition: Some(7), ..produce(&topic, b"v") };
    for (record, named) in [(produce(&missing, b"v"), &missing), (beyond, &topic)] {
        let results = send_all(producer.as_mut(), &[record]);
        let Err(Refusal::Blocked(why)) = &results[0] else { panic!("{:?}", results[0]) };
        assert!(why.contains(named.as_str()) && why.contains("create it"), "{why}");
    }
    let refused = producer.send(&produce("no/name", b"v"), 0);
    assert!(matches!(refused, Ok(true) | Err(Refusal::Blocked(_))), "{refused:?}");
}
