//! Positions, commits and the ends of logs.

use crate::support::*;
use keyrail::broker::kafka::{Assignor, ConsumerOptions, Kafka};
use keyrail::broker::{BrokerErrorKind, Committed, LogBounds, OffsetCommit, Polled, Produce};
use keyrail_kafka_tests::{Security, shared, unique};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use std::time::{Duration, Instant};

fn filled(rig: &keyrail_kafka_tests::Kafka, kafka: &Kafka, partitions: i32, each: usize) -> String {
    let topic = unique("offsets");
    rig.create_topic(&topic, partitions, &[]).unwrap();
    let values: Vec<_> = (0..each).map(|i| i.to_string()).collect();
    let records: Vec<_> = (0..partitions)
        .flat_map(|p| values.iter().map(move |v| (p, v)))
        .map(|(p, v)| Produce { partition: Some(p), ..produce(&topic, v.as_bytes()) })
        .collect();
    send_ok(kafka, &records);
    topic
}

#[test]
fn pause_holds_back_and_resume_and_seek_go_on_exactly() {
    let Some(rig) = shared("pause_holds_back_and_resume_and_seek_go_on_exactly") else { return };
    let kafka = plain(rig);
    let topic = filled(rig, &kafka, 2, 2000);
    let mut consumer = join(&kafka, &unique("g"), &topic);
    take_assignment(consumer.as_mut(), 0);
    // At once after the assignment: its fetcher may not have started.
    consumer.seek(at(1), 100).unwrap();
    let mut next = [0, 100];
    let step = |consumer: &mut dyn keyrail::broker::Consumer, count: usize, next: &mut [i64; 2]| {
        for r in read(consumer, count) {
            let expected = &mut next[r.at.partition as usize];
            assert_eq!(r.offset, *expected, "partition {}", r.at.partition);
            *expected += 1;
        }
    };
    step(consumer.as_mut(), 50, &mut next);
    for _ in 0..5 {
        consumer.pause(&[at(0), at(1)]).unwrap();
        let until = Instant::now() + Duration::from_millis(300);
        while Instant::now() < until {
            let polled = consumer.poll(Duration::from_millis(50));
            assert!(matches!(polled, Polled::Idle), "{polled:?} while paused");
        }
        consumer.resume(&[at(0), at(1)]).unwrap();
        step(consumer.as_mut(), 50, &mut next);
    }
    consumer.seek(at(0), 1500).unwrap();
    next[0] = 1500;
    step(consumer.as_mut(), 100, &mut next);
    consumer.pause(&[at(0)]).unwrap();
    consumer.seek(at(0), 7).unwrap();
    consumer.pause(&[at(1)]).unwrap();
    let polled = consumer.poll(Duration::from_millis(300));
    assert!(matches!(polled, Polled::Idle), "{polled:?} while paused");
    consumer.resume(&[at(0)]).unwrap();
    next[0] = 7;
    step(consumer.as_mut(), 10, &mut next);
    let gone = consumer.seek(at(9), 0).unwrap_err();
    assert_eq!(gone.kind, BrokerErrorKind::Superseded);
}

#[test]
fn a_partition_paused_when_it_went_delivers_when_it_comes_back() {
    let Some(rig) = shared("a_partition_paused_when_it_went_delivers_when_it_comes_back") else { return };
    // A member that goes in the middle of joining is waited for until its session ends.
    let kafka = connect(&rig.properties(Security::Plain), &[("session.timeout.ms", "6000")]);
    let topic = filled(rig, &kafka, 2, 10);
    let group = unique("g");
    let mut a = join(&kafka, &group, &topic);
    take_assignment(a.as_mut(), 0);
    assert_eq!(read(a.as_mut(), 20).len(), 20);
    a.pause(&[at(0), at(1)]).unwrap();
    let mut b = join(&kafka, &group, &topic);
    let mut revoked = None;
    let until = Instant::now() + LIMIT;
    while revoked.is_none() {
        assert!(Instant::now() < until);
        drop(b.poll(Duration::from_millis(10)));
        if let Polled::Revoked(taken) = a.poll(Duration::from_millis(10)) {
            a.unassign(&taken).unwrap();
            revoked = Some(taken);
        }
    }
    drop(b);
    let back = take_assignment(a.as_mut(), 5);
    assert_eq!(Some(&back), revoked.as_ref());
    let records = read(a.as_mut(), 5);
    assert!(records.iter().all(|r| r.at == back[0]), "the other one is still paused");
    assert_eq!(records[0].offset, 5);
}

#[test]
fn commits_carry_metadata_and_what_was_never_committed_is_none() {
    let Some(rig) = shared("commits_carry_metadata_and_what_was_never_committed_is_none") else { return };
    let kafka = plain(rig);
    let topic = filled(rig, &kafka, 3, 1);
    let group = unique("g");
    let mut consumer = join(&kafka, &group, &topic);
    take_assignment(consumer.as_mut(), 0);
    let mut commits = consumer.commits();
    assert_eq!(commits.finished(), None);
    let long = "m".repeat(4096);
    let all = [
        OffsetCommit { at: at(0), offset: 1, metadata: long.clone() },
        OffsetCommit { at: at(2), offset: 0, metadata: String::new() },
    ];
    commits.start(&all).unwrap();
    let until = Instant::now() + LIMIT;
    let result = loop {
        // Nobody polls the consumer: the answer must come all the same.
        if let Some(result) = commits.finished() {
            break result;
        }
        assert!(Instant::now() < until);
    };
    assert_eq!(result, Ok(()));
    assert_eq!(commits.finished(), None, "one result for one commit");
    let found = consumer.committed(&[at(2), at(1), at(0)], LIMIT).unwrap();
    let of = |offset, metadata: &str| Committed { offset, metadata: metadata.to_owned() };
    assert_eq!(found, [of(Some(0), ""), of(None, ""), of(Some(1), &long)]);

    let too_long = OffsetCommit { at: at(1), offset: 1, metadata: "m".repeat(4097) };
    let fine = OffsetCommit { at: at(0), offset: 0, metadata: String::new() };
    let refused = commits.now(&[fine, too_long], ANSWER).unwrap_err();
    assert_eq!(refused.kind, BrokerErrorKind::Operator, "{refused}");
    assert!(refused.message.contains(&topic) && refused.message.contains("offset.metadata.max.bytes"), "{refused}");
    assert_eq!(consumer.committed(&[at(1)], LIMIT).unwrap(), [of(None, "")]);
}

fn out_of_range(test: &str, assignor: Assignor) {
    let Some(rig) = shared(test) else { return };
    let kafka = plain(rig);
    let topic = filled(rig, &kafka, 2, 10);
    let mut consumer =
        kafka.consumer(&unique("g"), std::slice::from_ref(&topic), ConsumerOptions { assignor }).unwrap();
    poll_until(consumer.as_mut(), "an assignment", |c, p| {
        matches!(p, Polled::Assigned(_)).then(|| c.assign(&[(at(0), 2), (at(1), 1000)]).unwrap())
    });
    let mut seen = Vec::new();
    let lost = poll_until(consumer.as_mut(), "the news", |_, p| match p {
        Polled::OutOfRange(at) => Some(at),
        Polled::Record(r) => {
            seen.push((r.at.partition, r.offset));
            None
        }
        Polled::Idle | Polled::Joined => None,
        other => panic!("{other:?}"),
    });
    assert_eq!(lost, at(1));
    assert_eq!(consumer.bounds(at(1), LIMIT).unwrap(), LogBounds { start: 0, end: 10 });
    consumer.seek(at(1), 7).unwrap();
    while seen.len() < 8 + 3 {
        seen.extend(read(consumer.as_mut(), 1).iter().map(|r| (r.at.partition, r.offset)));
    }
    seen.sort_unstable();
    let expected: Vec<_> = (2..10).map(|o| (0, o)).chain((7..10).map(|o| (1, o))).collect();
    assert_eq!(seen, expected, "nothing twice, nothing left out");
}

#[test]
fn out_of_range_is_told_and_a_seek_goes_on() {
    out_of_range("out_of_range_is_told_and_a_seek_goes_on", Assignor::CooperativeSticky);
}

#[test]
fn out_of_range_is_told_and_a_seek_goes_on_in_an_eager_group() {
    out_of_range("out_of_range_is_told_and_a_seek_goes_on_in_an_eager_group", Assignor::Range);
}

#[test]
fn partitions_are_counted_and_a_missing_topic_is_named() {
    let Some(rig) = shared("partitions_are_counted_and_a_missing_topic_is_named") else { return };
    let kafka = plain(rig);
    let topic = filled(rig, &kafka, 3, 1);
    let names = [topic.clone(), "no-such-topic".to_owned()];
    let mut consumer = kafka.consumer(&unique("g"), &names, ConsumerOptions::default()).unwrap();
    assert_eq!(consumer.partition_count(0, LIMIT), Ok(3));
    let missing = consumer.partition_count(1, LIMIT).unwrap_err();
    assert_eq!(missing.kind, BrokerErrorKind::Operator);
    assert!(missing.message.contains("no-such-topic") && missing.message.contains("create it"), "{missing}");
    assert_eq!(consumer.partition_count(2, LIMIT).unwrap_err().kind, BrokerErrorKind::Fatal);
    let told = poll_until(consumer.as_mut(), "a word about the missing topic", |c, p| match p {
        Polled::Trouble(e) => Some(e),
        Polled::Assigned(given) => {
            c.assign(&given.iter().map(|at| (*at, 0)).collect::<Vec<_>>()).unwrap();
            None
        }
        _ => None,
    });
    assert_eq!(told.kind, BrokerErrorKind::Operator);
    assert!(told.message.contains("no-such-topic"), "{told}");
}

#[test]
fn aborted_records_are_not_read_and_an_open_transaction_does_not_hide_the_end() {
    let Some(rig) = shared("aborted_records_are_not_read_and_an_open_transaction_does_not_hide_the_end") else {
        return;
    };
    let kafka = plain(rig);
    let topic = filled(rig, &kafka, 1, 1);
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", rig.bootstrap(Security::Plain))
        .set("transactional.id", unique("txn"))
        .create()
        .unwrap();
    producer.init_transactions(LIMIT).unwrap();
    let send = |value: &str| {
        producer.send(BaseRecord::<(), str>::to(&topic).partition(0).payload(value)).unwrap();
        producer.flush(LIMIT).unwrap();
    };
    producer.begin_transaction().unwrap();
    send("aborted");
    producer.abort_transaction(LIMIT).unwrap();
    producer.begin_transaction().unwrap();
    send("committed");
    producer.commit_transaction(LIMIT).unwrap();
    producer.begin_transaction().unwrap();
    send("open");

    let mut consumer = join(&kafka, &unique("g"), &topic);
    take_assignment(consumer.as_mut(), 0);
    let values: Vec<_> = read(consumer.as_mut(), 2).iter().map(|r| (r.offset, r.value().unwrap().to_vec())).collect();
    assert_eq!(values, [(0, b"0".to_vec()), (3, b"committed".to_vec())]);
    let polled = consumer.poll(Duration::from_millis(500));
    assert!(matches!(polled, Polled::Idle), "{polled:?} of an open transaction");
    assert_eq!(consumer.bounds(at(0), LIMIT).unwrap(), LogBounds { start: 0, end: 6 });
}

#[test]
fn a_group_is_moved_from_outside_only_while_it_has_no_member() {
    let Some(rig) = shared("a_group_is_moved_from_outside_only_while_it_has_no_member") else { return };
    let kafka = plain(rig);
    let topic = filled(rig, &kafka, 2, 20);
    let (group, topics) = (unique("moved"), vec![topic.clone()]);
    let mut client = kafka.commands().unwrap();
    let offset = |offset: i64| OffsetCommit { at: at(1), offset, metadata: "from outside".to_owned() };
    let mut consumer = join(&kafka, &group, &topic);
    take_assignment(consumer.as_mut(), 0);
    let error = client.commit(&group, &topics, &[offset(7)]).unwrap_err();
    assert_eq!(error.kind, BrokerErrorKind::Superseded, "{error}");
    assert!(error.message.contains("has members: stop every process"), "{error}");
    consumer.leave();
    poll_until(consumer.as_mut(), "the end", |_, polled| matches!(polled, Polled::Revoked(_)).then_some(()));
    consumer.unassign(&[at(0), at(1)]).unwrap();
    drop(consumer);
    let until = Instant::now() + Duration::from_secs(20);
    while let Err(error) = client.commit(&group, &topics, &[offset(7)]) {
        assert!(error.kind == BrokerErrorKind::Superseded && Instant::now() < until, "{error}");
        std::thread::sleep(Duration::from_millis(100));
    }
    let told = client.committed(&group, &topics, &[at(0), at(1)]).unwrap();
    assert_eq!(told[1], Committed { offset: Some(7), metadata: "from outside".to_owned() });
    assert_eq!(told[0].offset, None);
    assert_ne!(client.log_of(&topic).unwrap(), 0);
    assert_eq!(client.log_of("nothing-of-that-name").unwrap(), 0);
}
