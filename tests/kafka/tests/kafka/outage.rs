//! Brokers that are not there, and brokers that come back.

use crate::support::*;
use keyrail::broker::{BrokerErrorKind, OffsetCommit, Polled, Refusal};
use keyrail_kafka_tests::{Options, Security, start, unique};
use std::collections::BTreeMap;
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

#[test]
fn no_broker_at_the_address_is_told_with_the_address() {
    let nowhere = BTreeMap::from([("bootstrap.servers".to_owned(), "127.0.0.1:9".to_owned())]);
    let kafka = connect(&nowhere, &[]);
    let wait = Duration::from_secs(3);
    let start = Instant::now();
    let told = kafka.topics().unwrap().describe(&["t"], wait).unwrap_err();
    assert!(start.elapsed() < wait + Duration::from_secs(2));
    assert_eq!(told.kind, BrokerErrorKind::Retry, "a broker may come");
    assert!(told.message.contains("127.0.0.1:9") && told.message.contains("bootstrap.servers"), "{told}");
    assert!(kafka.topics().unwrap().names(wait).unwrap_err().message.contains("127.0.0.1:9"));

    let mut consumer = join(&kafka, "g", "t");
    let told = poll_until(consumer.as_mut(), "a complaint", |_, p| match p {
        Polled::Trouble(e) => Some(e),
        _ => None,
    });
    assert!(told.message.contains("127.0.0.1:9"), "{told}");
    let mut producer = kafka.producer(&[], LIMIT).unwrap();
    assert_eq!(producer.send(&produce("t", b"v"), 1), Ok(true));
    let mut reports = Vec::new();
    producer.poll(Duration::from_secs(1), &mut reports);
    assert_eq!(reports, [], "an outage is waited for");
    assert!(producer.trouble().unwrap().message.contains("127.0.0.1:9"));
    let start = Instant::now();
    drop(consumer);
    drop(producer);
    assert!(start.elapsed() < Duration::from_secs(6), "closing took {:?}", start.elapsed());

    let unknown = BTreeMap::from([("bootstrap.servers".to_owned(), "no-such-host.invalid:9092".to_owned())]);
    let told = connect(&unknown, &[]).topics().unwrap().describe(&["t"], wait).unwrap_err();
    assert_eq!(told.kind, BrokerErrorKind::Retry, "a name may come, too: {told}");
    assert!(told.message.contains("no-such-host.invalid:9092") && told.message.contains("correct"), "{told}");
}

#[test]
fn what_was_sent_before_a_kill_arrives_after_the_restart_in_order() {
    let test = "what_was_sent_before_a_kill_arrives_after_the_restart_in_order";
    let Some(rig) = start(test, &Options::default()) else { return };
    let topic = unique("restart");
    rig.create_topic(&topic, 1, &[]).unwrap();
    let kafka = plain(&rig);
    let mut consumer = join(&kafka, "g", &topic);
    take_assignment(consumer.as_mut(), 0);
    let mut commits = consumer.commits();
    let mut producer = kafka.producer(&[], LIMIT).unwrap();
    let mut reports: Vec<(u64, Result<(), Refusal>)> = Vec::new();
    let mut sent = 0;
    let mut send = |producer: &mut dyn keyrail::broker::Producer, reports: &mut Vec<_>, until: Duration| {
        let start = Instant::now();
        while start.elapsed() < until {
            assert_eq!(producer.send(&produce(&topic, format!("{sent}").as_bytes()), sent), Ok(true));
            sent += 1;
            producer.poll(Duration::from_millis(2), reports);
        }
        sent
    };
    send(producer.as_mut(), &mut reports, Duration::from_millis(500));
    assert!(!read(consumer.as_mut(), 10).is_empty());
    rig.kill(1).unwrap();
    send(producer.as_mut(), &mut reports, Duration::from_secs(2));
    let mut told = None;
    let until = Instant::now() + Duration::from_secs(5);
    while told.is_none() && Instant::now() < until {
        if let Polled::Trouble(e) = consumer.poll(Duration::from_millis(50)) {
            told = Some(e);
        }
    }
    let told = told.expect("a word about the outage");
    assert_eq!(told.kind, BrokerErrorKind::Retry, "{told}");
    assert!(producer.trouble().is_some());
    let refused = commits.now(&[OffsetCommit { at: at(0), offset: 5, metadata: String::new() }], ANSWER).unwrap_err();
    assert_eq!(refused.kind, BrokerErrorKind::Retry, "{refused}");
    rig.restart(1).unwrap();
    let sent = send(producer.as_mut(), &mut reports, Duration::from_millis(500));
    let until = Instant::now() + LIMIT;
    while producer.in_flight() > 0 {
        producer.poll(Duration::from_millis(100), &mut reports);
        assert!(Instant::now() < until, "{} in flight\n{}", producer.in_flight(), rig.story(1).unwrap());
    }
    assert_eq!(reports.len() as u64, sent);
    assert!(reports.iter().all(|(_, r)| r.is_ok()));

    consumer.seek(at(0), 0).unwrap();
    let mut values = Vec::new();
    while (values.len() as u64) < sent {
        let value = poll_until(consumer.as_mut(), "a record after the restart", |c, p| match p {
            Polled::Record(r) => Some(String::from_utf8(r.value().unwrap().to_vec()).unwrap()),
            Polled::Lost(l) | Polled::Revoked(l) => {
                c.unassign(&l).unwrap();
                None
            }
            Polled::Assigned(a) => {
                c.assign(&a.iter().map(|at| (*at, values.len() as i64)).collect::<Vec<_>>()).unwrap();
                None
            }
            _ => None,
        });
        values.push(value);
    }
    let expected: Vec<_> = (0..sent).map(|i| i.to_string()).collect();
    assert_eq!(values, expected, "each once, in order");
}

#[test]
fn closing_while_the_broker_is_frozen_or_gone_does_not_hang() {
    let test = "closing_while_the_broker_is_frozen_or_gone_does_not_hang";
    let Some(rig) = start(test, &Options::default()) else { return };
    let topic = unique("frozen");
    rig.create_topic(&topic, 1, &[]).unwrap();
    let kafka = plain(&rig);
    let mut members: Vec<_> = ["g1", "g2"].iter().map(|g| join(&kafka, g, &topic)).collect();
    for member in &mut members {
        take_assignment(member.as_mut(), 0);
    }
    let mut producer = kafka.producer(&[], LIMIT).unwrap();
    rig.freeze(1).unwrap();
    assert_eq!(producer.send(&produce(&topic, b"v"), 1), Ok(true));
    let limit = Duration::from_secs(15);
    let start = Instant::now();
    drop(members.pop());
    drop(producer);
    assert!(start.elapsed() < limit, "closing beside a frozen broker took {:?}", start.elapsed());
    rig.thaw(1).unwrap();
    rig.kill(1).unwrap();
    let start = Instant::now();
    drop(members.pop());
    assert!(start.elapsed() < limit, "closing without a broker took {:?}", start.elapsed());
}

#[test]
fn a_broker_that_is_away_is_not_stormed_with_connections() {
    let Some(rig) = start("a_broker_that_is_away_is_not_stormed_with_connections", &Options::default()) else { return };
    let topic = unique("away");
    rig.create_topic(&topic, 1, &[]).unwrap();
    let kafka = plain(&rig);
    let topics = kafka.topics().unwrap();
    assert_eq!(topics.describe(&[&topic], LIMIT).unwrap()[0].partitions, Some(1));
    let mut consumer = join(&kafka, "g", &topic);
    take_assignment(consumer.as_mut(), 0);
    consumer.watermarks();
    rig.kill(1).unwrap();
    let door = TcpListener::bind(rig.bootstrap(Security::Plain)).unwrap();
    let (seen, asking) = (AtomicUsize::new(0), AtomicBool::new(true));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while asking.load(SeqCst) {
                drop(door.accept().unwrap());
                seen.fetch_add(1, SeqCst);
            }
        });
        // What a pipeline asks for while nobody answers.
        let until = Instant::now() + Duration::from_secs(12);
        while Instant::now() < until {
            drop(consumer.poll(Duration::from_millis(500)));
            consumer.watermarks();
            consumer.partition_count(0, Duration::from_millis(100)).unwrap_err();
            topics.describe(&[&topic], Duration::from_millis(500)).unwrap_err();
        }
        asking.store(false, SeqCst);
        // It waits for one more.
        drop(TcpStream::connect(door.local_addr().unwrap()));
    });
    // Two clients, each with an address to start with and a broker, and a back-off that grows to 2 s.
    let seen = seen.load(SeqCst);
    assert!((1..=120).contains(&seen), "{seen} connections in 12 s");
}
