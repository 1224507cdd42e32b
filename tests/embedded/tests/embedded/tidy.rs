//! Retention and compaction.

use crate::support::{Folder, all, at, drain, join, next, produce, send, text, topic};
use keyrail::broker::client::Client;
use keyrail::broker::{Broker as _, Polled, Produce};
use keyrail::record::Record;
use std::collections::BTreeMap;
use std::time::Duration;

fn old<'a>(key: &'a str, value: &'a str) -> Produce<'a> {
    Produce { timestamp_ms: Some(1_000), ..produce("t", key, value) }
}

fn start_and_end(client: &mut dyn Client) -> (i64, i64) {
    let bounds = client.bounds("t", &[0]).unwrap()[0];
    (bounds.start, bounds.end)
}

#[test]
fn what_is_too_old_goes_and_the_log_goes_on_where_it_was() {
    let folder = Folder::new();
    {
        let broker = folder.open();
        let mut client = broker.client().unwrap();
        topic(client.as_mut(), "t", 1, &[("retention.ms", "60000")]);
        send(client.as_mut(), &[old("a", "1"), old("b", "2")]);
        let mut consumer = broker.consumer("g", &["t".to_owned()]).unwrap();
        join(consumer.as_mut());
        send(client.as_mut(), &[produce("t", "c", "3")]);
        send(client.as_mut(), &[old("d", "4")]);
        broker.tidy().unwrap();
        // Only what stands at the start of the log goes.
        assert_eq!(start_and_end(client.as_mut()), (2, 4));
        assert!(matches!(next(consumer.as_mut()), Polled::OutOfRange(found) if found == at(0, 0)));
        consumer.seek(at(0, 0), 2).unwrap();
        assert!(matches!(next(consumer.as_mut()), Polled::Record(record) if record.offset == 2));
        // A reader that stands before the start goes on with what is there.
        let mut reader = client.read(&["t".to_owned()], &[(at(0, 0), 0)]).unwrap();
        assert_eq!(drain(reader.as_mut()).iter().map(|r| r.offset).collect::<Vec<_>>(), [2, 3]);
    }
    let broker = folder.open();
    let mut client = broker.client().unwrap();
    assert_eq!(start_and_end(client.as_mut()), (2, 4));
    topic(client.as_mut(), "gone", 1, &[("retention.ms", "0")]);
    send(client.as_mut(), &[Produce { timestamp_ms: Some(1), ..produce("gone", "k", "v") }]);
    broker.tidy().unwrap();
    send(client.as_mut(), &[produce("gone", "k", "v")]);
    // All of it was deleted, and no offset was given twice.
    assert_eq!(client.bounds("gone", &[0]).unwrap()[0].start, 1);
    assert_eq!(all(client.as_mut(), "gone", 1)[0].offset, 1);
}

#[test]
fn what_is_too_much_goes() {
    let folder = Folder::new();
    let broker = folder.open();
    let mut client = broker.client().unwrap();
    topic(client.as_mut(), "t", 1, &[("retention.bytes", "100000"), ("retention.ms", "-1")]);
    let value = "x".repeat(10_000);
    for _ in 0..50 {
        send(client.as_mut(), &[produce("t", "k", &value)]);
    }
    broker.tidy().unwrap();
    let kept = all(client.as_mut(), "t", 1);
    let bytes: usize = kept.iter().map(Record::content_bytes).sum();
    assert!((100_000..120_000).contains(&bytes), "{bytes}");
    assert_eq!(kept.last().unwrap().offset, 49);
}

fn table(client: &mut dyn Client) -> Vec<(i64, String, String)> {
    let records = all(client, "t", 1);
    records.iter().map(|r| (r.offset, text(r.key()).to_owned(), text(r.value()).to_owned())).collect()
}

#[test]
fn compaction_keeps_the_last_of_each_key_and_tombstones_for_a_while() {
    let folder = Folder::new();
    let broker = folder.open();
    let mut client = broker.client().unwrap();
    let settings = [("cleanup.policy", "compact"), ("delete.retention.ms", "300"), ("min.cleanable.dirty.ratio", "0")];
    topic(client.as_mut(), "t", 1, &settings);
    let headers: [(&[u8], Option<&[u8]>); 1] = [(b"h", Some(b"1"))];
    for (key, value) in [("a", "1"), ("b", "1"), ("a", "2"), ("c", "1"), ("b", "2")] {
        send(client.as_mut(), &[Produce { headers: &headers, ..produce("t", key, value) }]);
    }
    send(client.as_mut(), &[Produce { value: None, ..produce("t", "c", "") }]);
    broker.tidy().unwrap();
    let row = |offset: i64, key: &str, value: &str| (offset, key.to_owned(), value.to_owned());
    let expected = [row(2, "a", "2"), row(4, "b", "2"), row(5, "c", "<null>")];
    assert_eq!(table(client.as_mut()), expected);
    assert_eq!(all(client.as_mut(), "t", 1)[0].header(b"h"), Some(Some(&b"1"[..])));
    assert_eq!(start_and_end(client.as_mut()), (0, 6));
    // A reader that stands where nothing is left goes on behind it.
    let mut reader = client.read(&["t".to_owned()], &[(at(0, 0), 3)]).unwrap();
    assert_eq!(drain(reader.as_mut()).iter().map(|r| r.offset).collect::<Vec<_>>(), [4, 5]);
    std::thread::sleep(Duration::from_millis(400));
    broker.tidy().unwrap();
    assert_eq!(table(client.as_mut()), [row(2, "a", "2"), row(4, "b", "2")]);
    // The last record of the log is gone; who waits behind it gets what comes next.
    let mut reader = client.read(&["t".to_owned()], &[(at(0, 0), 5)]).unwrap();
    assert!(drain(reader.as_mut()).is_empty());
    send(client.as_mut(), &[produce("t", "c", "3")]);
    assert_eq!(drain(reader.as_mut())[0].offset, 6);
    assert_eq!(table(client.as_mut()), [row(2, "a", "2"), row(4, "b", "2"), row(6, "c", "3")]);
}

/// Many keys, many rounds, against the same done in memory.
#[test]
fn compaction_agrees_with_a_map() {
    let folder = Folder::new();
    let broker = folder.open();
    let mut client = broker.client().unwrap();
    topic(client.as_mut(), "t", 1, &[("cleanup.policy", "compact"), ("min.cleanable.dirty.ratio", "0.3")]);
    let mut expected: BTreeMap<String, (i64, String)> = BTreeMap::new();
    let mut state = 7_u64;
    let mut offset = 0;
    for round in 0..12 {
        let count = if round % 3 == 0 { 3000 } else { 40 };
        let mut texts = Vec::new();
        for _ in 0..count {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            texts.push((format!("k{}", (state >> 33) % 700), format!("{state:0>300}")));
        }
        for (key, value) in &texts {
            expected.insert(key.clone(), (offset, value.clone()));
            offset += 1;
        }
        let records: Vec<_> = texts.iter().map(|(key, value)| produce("t", key, value)).collect();
        send(client.as_mut(), &records);
        broker.tidy().unwrap();
        let mut found: BTreeMap<String, (i64, String)> = BTreeMap::new();
        for (offset, key, value) in table(client.as_mut()) {
            found.insert(key, (offset, value));
        }
        assert_eq!(found, expected, "round {round}");
    }
    let left = table(client.as_mut()).len();
    assert!((700..1500).contains(&left), "{left} of {offset} records are left");
}
