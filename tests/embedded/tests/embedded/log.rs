//! What is written comes out as it went in, where it belongs, and stays.

use crate::support::{Folder, all, at, deliver, produce, send, text, topic};
use keyrail::broker::standing::{Ask, standing};
use keyrail::broker::{Produce, Refusal};
use std::time::Duration;

#[test]
fn records_come_out_byte_for_byte() {
    let folder = Folder::new();
    let broker = folder.open();
    let mut client = broker.client().unwrap();
    topic(client.as_mut(), "t", 1, &[]);
    let headers: [(&[u8], Option<&[u8]>); 4] =
        [(b"a", Some(b"1")), (b"\xff\x00", None), (b"a", Some(b"")), (b"", Some(b"x"))];
    let base = Produce { topic: "t", partition: None, key: None, value: None, headers: &[], timestamp_ms: Some(0) };
    let big = vec![7; 900_000];
    let records = [
        base,
        Produce { key: Some(b""), value: Some(b""), timestamp_ms: Some(-1), ..base },
        Produce { key: Some(b"\x00\xff"), value: Some(&big), timestamp_ms: Some(i64::MAX), headers: &headers, ..base },
        Produce { key: Some(b"k"), headers: &headers[1..2], timestamp_ms: Some(1_700_000_000_123), ..base },
    ];
    assert_eq!(deliver(&broker, &records), vec![Ok(()); 4]);
    drop(client);
    drop(broker);
    let mut client = folder.open().client().unwrap();
    let read = all(client.as_mut(), "t", 1);
    assert_eq!(read.len(), records.len());
    for ((offset, read), sent) in (0..).zip(&read).zip(&records) {
        assert_eq!((read.offset, Some(read.timestamp_ms)), (offset, sent.timestamp_ms));
        assert_eq!((read.key(), read.value()), (sent.key, sent.value));
        assert_eq!(read.headers().collect::<Vec<_>>(), sent.headers);
    }
}

#[test]
fn offsets_are_dense_and_each_key_has_its_partition() {
    let folder = Folder::new();
    let broker = folder.open();
    let mut client = broker.client().unwrap();
    topic(client.as_mut(), "t", 7, &[]);
    let texts: Vec<String> = (0..5000).map(|n| format!("{}", n % 50)).collect();
    let records: Vec<_> = texts.iter().map(|t| produce("t", t, t)).collect();
    send(client.as_mut(), &records);
    let read = all(client.as_mut(), "t", 7);
    assert_eq!(read.len(), 5000);
    for partition in 0..7 {
        let of: Vec<_> = read.iter().filter(|r| r.at.partition == partition).collect();
        assert!(of.iter().zip(0..).all(|(record, offset)| record.offset == offset));
        assert!(of.iter().all(|r| keyrail::broker::partitioner::partition_of(r.key().unwrap(), 7) == partition));
    }
    // Kafka's own values: murmur2("21") = -973932308.
    let expected = (-973_932_308_i32 & 0x7fff_ffff) % 7;
    assert!(read.iter().filter(|r| r.key() == Some(b"21")).all(|r| r.at.partition == expected));
}

#[test]
fn records_without_a_key_go_round_and_none_is_lost() {
    let folder = Folder::new();
    let mut client = folder.open().client().unwrap();
    topic(client.as_mut(), "t", 3, &[]);
    for _ in 0..6 {
        send(client.as_mut(), &[Produce { key: None, ..produce("t", "", "v") }]);
    }
    assert_eq!(all(client.as_mut(), "t", 3).len(), 6);
}

#[test]
fn what_can_never_be_taken_is_undeliverable_and_what_is_missing_blocks() {
    let folder = Folder::new();
    let broker = folder.open();
    let mut client = broker.client().unwrap();
    topic(client.as_mut(), "small", 2, &[("max.message.bytes", "10")]);
    topic(client.as_mut(), "table", 1, &[("cleanup.policy", "compact")]);
    let results = deliver(
        &broker,
        &[
            produce("small", "k", "0123456789"),
            produce("small", "k", "012345678"),
            Produce { partition: Some(2), ..produce("small", "k", "") },
            Produce { key: None, ..produce("table", "", "v") },
            produce("nowhere", "k", "v"),
        ],
    );
    assert!(matches!(&results[0], Err(Refusal::Undeliverable(why)) if why.contains("11 bytes")), "{results:?}");
    assert_eq!(results[1], Ok(()));
    assert!(matches!(&results[2], Err(Refusal::Undeliverable(why)) if why.contains("no partition 2")), "{results:?}");
    assert!(matches!(&results[3], Err(Refusal::Undeliverable(why)) if why.contains("compacted")), "{results:?}");
    assert!(matches!(&results[4], Err(Refusal::Blocked(why)) if why.contains("nowhere")), "{results:?}");
}

#[test]
fn topics_are_described_and_bad_ones_refused() {
    let folder = Folder::new();
    let broker = folder.open();
    let mut client = broker.client().unwrap();
    topic(client.as_mut(), "a.b", 2, &[("retention.ms", "1000"), ("cleanup.policy", "compact,delete")]);
    let told: Vec<_> = client.topics().unwrap().into_iter().map(|t| (t.name, t.partitions)).collect();
    assert_eq!(told, [("a.b".to_owned(), 2)]);
    let settings = client.settings("a.b").unwrap();
    assert!(settings.contains(&("retention.ms".to_owned(), "1000".to_owned())));
    assert!(settings.contains(&("cleanup.policy".to_owned(), "compact,delete".to_owned())));
    assert!(settings.is_sorted());
    let mut refused = |name: &str, partitions, setting: Option<(&str, &str)>| {
        let settings = setting.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let new = keyrail::broker::client::NewTopic { name: name.to_owned(), partitions: Some(partitions), settings };
        client.create_topic(&new).unwrap_err().message
    };
    assert!(refused("a b", 1, None).contains("letters"));
    assert!(refused("..", 1, None).contains("letters"));
    assert!(refused("c", 0, None).contains("1 to"));
    assert!(refused("c", 1, Some(("retention.hours", "1"))).contains("retention.ms"));
    assert!(refused("c", 1, Some(("retention.ms", "1h"))).contains("whole number"));
    assert!(refused("c", 1, Some(("cleanup.policy", "none"))).contains("compact"));
    assert!(client.settings("c").unwrap_err().message.contains("no topic"));
    assert!(client.bounds("a.b", &[2]).unwrap_err().message.contains("no partition 2"));
}

#[test]
fn offsets_are_found_by_time() {
    let folder = Folder::new();
    let mut client = folder.open().client().unwrap();
    topic(client.as_mut(), "t", 1, &[]);
    for time in [100, 200, 150, 300] {
        send(client.as_mut(), &[Produce { timestamp_ms: Some(time), ..produce("t", "k", "v") }]);
    }
    let mut found = |time| client.offsets_at("t", &[0], time).unwrap()[0];
    assert_eq!([0, 100, 101, 200, 201, 300, 301].map(&mut found), [0, 0, 1, 1, 3, 3, 4]);
}

#[test]
fn a_reader_waits_for_what_comes_and_no_longer() {
    let folder = Folder::new();
    let broker = folder.open();
    let mut client = broker.client().unwrap();
    topic(client.as_mut(), "t", 2, &[]);
    let mut reader = client.read(&["t".to_owned()], &[(at(0, 0), 0), (at(0, 1), 0)]).unwrap();
    let began = std::time::Instant::now();
    let mut records = Vec::new();
    reader.next(Duration::from_millis(100), &mut records).unwrap();
    assert!(records.is_empty() && began.elapsed() >= Duration::from_millis(100));
    let writer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(200));
        deliver(&broker, &[produce("t", "k", "v")])
    });
    let began = std::time::Instant::now();
    reader.next(Duration::from_secs(20), &mut records).unwrap();
    assert!(began.elapsed() < Duration::from_secs(10));
    assert_eq!(writer.join().unwrap(), [Ok(())]);
    assert_eq!(records.iter().map(|r| text(r.value())).collect::<Vec<_>>(), ["v"]);
}

#[test]
fn what_stands_in_a_topic_is_counted_by_its_keys_and_what_is_deleted_is_not() {
    let folder = Folder::new();
    let broker = folder.open();
    let mut client = broker.client().unwrap();
    topic(client.as_mut(), "t", 3, &[]);
    let put = |partition, key| Produce { partition: Some(partition), ..produce("t", key, "v") };
    let gone = |partition, key| Produce { value: None, ..put(partition, key) };
    // In partition 0 two stand, in 1 none any more, and in 2 there never was any.
    send(client.as_mut(), &[put(0, "a"), put(0, "b"), put(0, "a"), put(0, "c"), gone(0, "b"), gone(0, "x")]);
    send(client.as_mut(), &[put(1, "a"), gone(1, "a")]);
    let mut ask = |name: &str, ask| {
        let found = standing(client.as_mut(), name, &[0, 1, 2, 3], ask, &mut || true).unwrap();
        found.into_values().collect::<Vec<_>>()
    };
    assert_eq!(ask("t", Ask::Keys), [2, 0, 0, 0], "there is no partition 3");
    assert_eq!(ask("nothing", Ask::Keys), [0; 4]);
    let some = ask("t", Ask::Some);
    assert!(some[0] > 0 && some[2..] == [0, 0], "{some:?}");
    let ended = standing(client.as_mut(), "t", &[0], Ask::Keys, &mut || false).unwrap_err();
    assert!(ended.message.contains("could not be read to its end in time"), "{ended}");
}
