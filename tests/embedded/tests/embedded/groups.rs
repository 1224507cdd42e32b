//! Groups: who holds the partitions, where they left off, what is noticed.

use crate::support::{Folder, WAIT, at, deliver, join, next, produce, send, take, text, topic};
use keyrail::broker::embedded::{Embedded, Options};
use keyrail::broker::topics::{NeededTopic, TopicRole};
use keyrail::broker::{Broker as _, BrokerErrorKind, OffsetCommit, Polled};
use std::time::{Duration, Instant};

fn commit(partition: i32, offset: i64, metadata: &str) -> OffsetCommit {
    OffsetCommit { at: at(0, partition), offset, metadata: metadata.to_owned() }
}

#[test]
fn a_group_goes_on_where_it_left_off_with_its_metadata() {
    let folder = Folder::new();
    {
        let broker = folder.open();
        let mut client = broker.client().unwrap();
        topic(client.as_mut(), "t", 2, &[]);
        let values: Vec<String> = (0..10).map(|n| n.to_string()).collect();
        let records: Vec<_> = values.iter().map(|v| produce("t", "k", v)).collect();
        send(client.as_mut(), &records);
        let mut consumer = broker.consumer("g", &["t".to_owned()]).unwrap();
        assert_eq!(join(consumer.as_mut()), [at(0, 0), at(0, 1)]);
        let four = take(consumer.as_mut(), 4);
        let partition = four[0].at.partition;
        let mut commits = consumer.commits();
        commits.start(&[commit(partition, 4, "m4")]).unwrap();
        let result = loop {
            match commits.finished() {
                Some(result) => break result,
                None => std::thread::sleep(Duration::from_millis(1)),
            }
        };
        assert_eq!((result, commits.finished()), (Ok(()), None));
        commits.now(&[commit(partition, 5, "m5")], WAIT).unwrap();
        assert_eq!(client.groups().unwrap(), ["g"]);
        let of = [at(0, partition), at(0, 1 - partition)];
        let told = client.committed("g", &["t".to_owned()], &of).unwrap();
        assert_eq!((told[0].offset, told[0].metadata.as_str(), told[1].offset), (Some(5), "m5", None));
    }
    let broker = folder.open();
    let mut consumer = broker.consumer("g", &["t".to_owned()]).unwrap();
    join(consumer.as_mut());
    let rest: Vec<String> = take(consumer.as_mut(), 5).iter().map(|r| text(r.value()).to_owned()).collect();
    assert_eq!(rest, ["5", "6", "7", "8", "9"]);
    assert!(matches!(consumer.poll(Duration::ZERO), Polled::Idle));
}

#[test]
fn a_second_member_stands_by_until_the_first_has_left() {
    let folder = Folder::new();
    let broker = folder.open();
    topic(broker.client().unwrap().as_mut(), "t", 1, &[]);
    let mut first = broker.consumer("g", &["t".to_owned()]).unwrap();
    join(first.as_mut());
    let mut second = broker.consumer("g", &["t".to_owned()]).unwrap();
    assert!(matches!(second.poll(WAIT), Polled::Joined));
    assert!(matches!(second.poll(Duration::from_millis(20)), Polled::Idle));
    let mut late = first.commits();
    first.leave();
    let Polled::Revoked(gone) = next(first.as_mut()) else { panic!("no revocation") };
    assert_eq!(gone, [at(0, 0)]);
    late.now(&[commit(0, 0, "last")], WAIT).unwrap();
    first.unassign(&gone).unwrap();
    assert_eq!(join(second.as_mut()), [at(0, 0)]);
    let refused = late.now(&[commit(0, 0, "too late")], WAIT).unwrap_err();
    assert_eq!(refused.kind, BrokerErrorKind::Superseded);
    assert_eq!(second.committed(&[at(0, 0)], WAIT).unwrap()[0].metadata, "last");
    drop(first);
    assert_eq!(late.now(&[commit(0, 0, "")], WAIT).unwrap_err().kind, BrokerErrorKind::Superseded);
}

#[test]
fn topics_and_partitions_that_come_later_are_noticed() {
    let folder = Folder::new();
    let broker = folder.open();
    let mut consumer = broker.consumer("g", &["later".to_owned()]).unwrap();
    assert!(matches!(consumer.poll(WAIT), Polled::Joined));
    topic(broker.client().unwrap().as_mut(), "later", 1, &[]);
    assert_eq!(join(consumer.as_mut()), [at(0, 0)]);
    broker.add_partitions("later", 3).unwrap();
    assert_eq!(join(consumer.as_mut()), [at(0, 1), at(0, 2)]);
    assert_eq!(consumer.partition_count(0, WAIT).unwrap(), 3);
    let values: Vec<String> = (0..30).map(|n| n.to_string()).collect();
    let records: Vec<_> = values.iter().map(|v| produce("later", v, v)).collect();
    assert_eq!(deliver(&broker, &records), vec![Ok(()); 30]);
    let partitions: std::collections::BTreeSet<i32> =
        take(consumer.as_mut(), 30).iter().map(|r| r.at.partition).collect();
    assert_eq!(partitions.len(), 3);
    assert!(broker.add_partitions("later", 3).unwrap_err().message.contains("3 partitions already"));
}

#[test]
fn pause_and_seek_drop_what_was_fetched() {
    let folder = Folder::new();
    let broker = folder.open();
    topic(broker.client().unwrap().as_mut(), "t", 1, &[]);
    let values: Vec<String> = (0..100).map(|n| n.to_string()).collect();
    let records: Vec<_> = values.iter().map(|v| produce("t", "k", v)).collect();
    deliver(&broker, &records);
    let mut consumer = broker.consumer("g", &["t".to_owned()]).unwrap();
    join(consumer.as_mut());
    assert_eq!(take(consumer.as_mut(), 10).last().unwrap().offset, 9);
    consumer.pause(&[at(0, 0)]).unwrap();
    assert!(matches!(consumer.poll(Duration::from_millis(20)), Polled::Idle));
    consumer.resume(&[at(0, 0)]).unwrap();
    assert_eq!(take(consumer.as_mut(), 1)[0].offset, 10);
    consumer.seek(at(0, 0), 3).unwrap();
    assert_eq!(take(consumer.as_mut(), 1)[0].offset, 3);
    consumer.seek(at(0, 0), 101).unwrap();
    assert!(matches!(next(consumer.as_mut()), Polled::OutOfRange(found) if found == at(0, 0)));
    assert!(matches!(consumer.poll(Duration::from_millis(20)), Polled::Idle));
    consumer.seek(at(0, 0), 99).unwrap();
    assert_eq!(take(consumer.as_mut(), 1)[0].offset, 99);
    assert_eq!(consumer.watermarks(), [(at(0, 0), 100)]);
    assert_eq!(consumer.seek(at(0, 5), 0).unwrap_err().kind, BrokerErrorKind::Superseded);
}

#[test]
fn missing_topics_are_made_and_unfit_ones_told() {
    let folder = Folder::new();
    let broker = folder.open();
    topic(broker.client().unwrap().as_mut(), "narrow.dlq", 1, &[]);
    let needed = |name: &str, role| NeededTopic { name: name.to_owned(), role };
    let letters = |input: &str| TopicRole::DeadLetter { input: input.to_owned() };
    let all = [
        needed("in.dlq", letters("in")),
        needed("in", TopicRole::Input),
        needed("out", TopicRole::Output),
        needed("narrow.dlq", letters("in")),
    ];
    let problems = broker.ensure(&all, WAIT).unwrap();
    assert_eq!(problems.len(), 1);
    assert!(problems[0].message.contains("has 1 partitions, its input 3"), "{problems:?}");
    let mut client = broker.client().unwrap();
    let told: Vec<_> = client.topics().unwrap().into_iter().map(|t| (t.name, t.partitions)).collect();
    let expected = [("in", 3), ("in.dlq", 3), ("narrow.dlq", 1), ("out", 3)].map(|(n, p)| (n.to_owned(), p));
    assert_eq!(told, expected);
    let settings = client.settings("in.dlq").unwrap();
    assert!(settings.contains(&("max.message.bytes".to_owned(), (1_048_588 + 65_536).to_string())));
}

#[test]
fn topics_of_seen_ids_are_made_and_unfit_ones_told() {
    let folder = Folder::new();
    let broker = folder.open();
    let settings = [("cleanup.policy", "compact"), ("retention.ms", "1000")];
    topic(broker.client().unwrap().as_mut(), "g.bad.seen", 2, &settings);
    let window = Duration::from_hours(1);
    let seen =
        |name: &str| NeededTopic { name: name.to_owned(), role: TopicRole::Seen { input: "in".to_owned(), window } };
    let input = NeededTopic { name: "in".to_owned(), role: TopicRole::Input };
    let problems = broker.ensure(&[input, seen("g.in.seen"), seen("g.bad.seen")], WAIT).unwrap();
    let told: Vec<&str> = problems.iter().map(|problem| problem.message.as_str()).collect();
    assert_eq!(told.len(), 3, "{told:#?}");
    assert!(told[0].contains("has 2 partitions, its input 3"), "{told:#?}");
    assert!(told[1].contains("has cleanup.policy=compact, and needs delete"), "{told:#?}");
    assert!(told[2].contains("has retention.ms=1000, and needs 7200000"), "{told:#?}");
    assert!(told.iter().all(|why| why.contains("Give the pipeline another group")), "{told:#?}");
    let mut client = broker.client().unwrap();
    let made = client.topics().unwrap().into_iter().find(|topic| topic.name == "g.in.seen").unwrap();
    assert_eq!(made.partitions, 3);
    assert!(client.settings("g.in.seen").unwrap().contains(&("retention.ms".to_owned(), "7200000".to_owned())));
    assert_eq!(broker.ensure(&[seen("g.in.seen")], WAIT).unwrap(), []);
}

/// What is written stands in the database a moment before its end is told. A reader as quick as this one sees that moment
/// some times in a thousand writes.
#[test]
fn a_reader_that_is_quicker_than_the_writer_never_leaves_the_log() {
    const WRITES: i64 = 3_000;
    let folder = Folder::new();
    let broker = Embedded::open(&Options { durable: false, ..folder.options() }).unwrap();
    topic(broker.client().unwrap().as_mut(), "t", 1, &[]);
    let mut consumer = broker.consumer("g", &["t".to_owned()]).unwrap();
    join(consumer.as_mut());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..WRITES {
                deliver(&broker, &[produce("t", "k", "v")]);
            }
        });
        let until = Instant::now() + Duration::from_secs(60);
        let mut expected = 0;
        while expected < WRITES {
            assert!(Instant::now() < until, "{expected} came");
            match consumer.poll(Duration::ZERO) {
                Polled::Record(record) => {
                    assert_eq!(record.offset, expected);
                    expected += 1;
                    let end = consumer.bounds(at(0, 0), WAIT).unwrap().end;
                    assert!(expected <= end, "{expected} lies past the end {end}");
                }
                Polled::Idle => {}
                other => panic!("at {expected}: {other:?}"),
            }
        }
    });
}
