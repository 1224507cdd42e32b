//! Rebalances: passed on as values, answered late, lost, abandoned.

use crate::support::*;
use keyrail::broker::kafka::{Assignor, ConsumerOptions, Kafka};
use keyrail::broker::{BrokerErrorKind, Consumer, OffsetCommit, Polled};
use keyrail::record::TopicPartition;
use keyrail_kafka_tests::{Security, shared, unique};
use std::time::{Duration, Instant};

/// A session so short that a member which misses heartbeats is out before the test goes on.
const SESSION: Duration = Duration::from_secs(3);
const SHORT_SESSION: &[(&str, &str)] = &[("session.timeout.ms", "3000"), ("heartbeat.interval.ms", "300")];

/// A topic of four partitions with `each` records in every one.
fn filled(rig: &keyrail_kafka_tests::Kafka, kafka: &Kafka, each: usize) -> String {
    let topic = unique("groups");
    rig.create_topic(&topic, 4, &[]).unwrap();
    let values: Vec<_> = (0..each * 4).map(|i| i.to_string()).collect();
    let mut records: Vec<_> = values.iter().map(|v| produce(&topic, v.as_bytes())).collect();
    for (i, record) in records.iter_mut().enumerate() {
        record.partition = Some((i % 4) as i32);
    }
    send_ok(kafka, &records);
    topic
}

/// Polls both until `pick` takes something from the second; the first must have nothing to say but what is told.
fn poll_both<T>(
    a: &mut dyn Consumer,
    b: &mut dyn Consumer,
    mut on_a: impl FnMut(&mut dyn Consumer, Polled),
    mut pick: impl FnMut(&mut dyn Consumer, Polled) -> Option<T>,
) -> T {
    poll_until(b, "the second member's turn", |b, p| {
        let polled = a.poll(Duration::from_millis(10));
        on_a(a, polled);
        pick(b, p)
    })
}

#[test]
fn an_assignment_waits_for_its_answer_past_the_session() {
    let Some(rig) = shared("an_assignment_waits_for_its_answer_past_the_session") else { return };
    let kafka = connect(&rig.properties(Security::Plain), SHORT_SESSION);
    let topic = filled(rig, &kafka, 5);
    let mut consumer = join(&kafka, &unique("g"), &topic);
    let given = poll_until(consumer.as_mut(), "an assignment", |_, p| match p {
        Polled::Assigned(given) => Some(given),
        _ => None,
    });
    assert_eq!(given.len(), 4);
    let until = Instant::now() + SESSION + Duration::from_secs(2);
    while Instant::now() < until {
        let polled = consumer.poll(Duration::from_millis(100));
        assert!(matches!(polled, Polled::Idle), "{polled:?} while the assignment is not answered");
    }
    let starts: Vec<_> = given.iter().map(|at| (*at, 3)).collect();
    consumer.assign(&starts).unwrap();
    let mut offsets: Vec<_> = read(consumer.as_mut(), 8).iter().map(|r| (r.at.partition, r.offset)).collect();
    offsets.sort_unstable();
    assert_eq!(offsets, [(0, 3), (0, 4), (1, 3), (1, 4), (2, 3), (2, 4), (3, 3), (3, 4)]);
    assert_eq!(consumer.watermarks().len(), 4);
    assert!(consumer.watermarks().iter().all(|(_, end)| *end == 5));
}

/// The heart of the seam: a revocation held back past the session, with records drained and offsets committed meanwhile.
fn revocation_waits(test: &str, assignor: Assignor) {
    let Some(rig) = shared(test) else { return };
    let kafka = connect(&rig.properties(Security::Plain), SHORT_SESSION);
    let topic = filled(rig, &kafka, 5);
    let group = unique("g");
    let member = || kafka.consumer(&group, std::slice::from_ref(&topic), ConsumerOptions { assignor }).unwrap();
    let mut a = member();
    assert_eq!(take_assignment(a.as_mut(), 0).len(), 4);
    assert_eq!(read(a.as_mut(), 20).len(), 20);
    let mut commits = a.commits();

    let mut b = member();
    let mut revoked: Vec<TopicPartition> = Vec::new();
    while revoked.is_empty() {
        assert!(!matches!(b.poll(Duration::from_millis(10)), Polled::Assigned(_)), "given before it was taken away");
        if let Polled::Revoked(taken) = a.poll(Duration::from_millis(10)) {
            revoked = taken;
        }
    }
    assert_eq!(revoked.len(), if assignor == Assignor::Range { 4 } else { 2 });

    let until = Instant::now() + SESSION + Duration::from_secs(2);
    let all: Vec<_> =
        (0..4).map(|p| OffsetCommit { at: at(p), offset: 3 + i64::from(p % 2), metadata: format!("of {p}") }).collect();
    commits.start(&all).unwrap();
    let mut committed = None;
    while Instant::now() < until || committed.is_none() {
        let polled = a.poll(Duration::from_millis(20));
        assert!(matches!(polled, Polled::Idle), "{polled:?} while the revocation is not answered");
        let polled = b.poll(Duration::from_millis(20));
        assert!(matches!(polled, Polled::Idle | Polled::Joined), "{polled:?} before the revocation is answered");
        committed = committed.or_else(|| commits.finished());
    }
    assert_eq!(committed, Some(Ok(())));
    assert_eq!(commits.now(&all, ANSWER), Ok(()));
    a.unassign(&revoked).unwrap();

    let (mut kept, mut got) = (4 - revoked.len(), Vec::new());
    poll_both(
        a.as_mut(),
        b.as_mut(),
        |a, p| {
            if let Polled::Assigned(given) = p {
                kept += given.len();
                let starts: Vec<_> = given.iter().map(|at| (*at, 5)).collect();
                a.assign(&starts).unwrap();
            }
        },
        |b, p| {
            if let Polled::Assigned(given) = p {
                let found = b.committed(&given, LIMIT).unwrap();
                for (at, found) in given.iter().zip(&found) {
                    assert_eq!(found.offset, Some(3 + i64::from(at.partition % 2)));
                    assert_eq!(found.metadata, format!("of {}", at.partition));
                }
                let starts: Vec<_> = given.iter().zip(found).map(|(at, c)| (*at, c.offset.unwrap())).collect();
                b.assign(&starts).unwrap();
                got = given;
            }
            (got.len() == 2).then_some(())
        },
    );
    assert!(kept >= 2 || assignor == Assignor::Range, "{kept}");
    let records: i64 = got.iter().map(|at| 2 - i64::from(at.partition % 2)).sum();
    assert_eq!(read(b.as_mut(), records as usize).len(), records as usize);
}

#[test]
fn a_cooperative_revocation_waits_for_its_answer_past_the_session() {
    revocation_waits("a_cooperative_revocation_waits_for_its_answer_past_the_session", Assignor::CooperativeSticky);
}

#[test]
fn an_eager_revocation_waits_for_its_answer_past_the_session() {
    revocation_waits("an_eager_revocation_waits_for_its_answer_past_the_session", Assignor::Range);
}

#[test]
fn what_is_lost_is_told_as_lost_and_refuses_commits() {
    let Some(rig) = shared("what_is_lost_is_told_as_lost_and_refuses_commits") else { return };
    let more = [("max.poll.interval.ms", "3000"), ("session.timeout.ms", "3000")];
    let kafka = connect(&rig.properties(Security::Plain), &more);
    let topic = filled(rig, &kafka, 1);
    let mut consumer = join(&kafka, &unique("g"), &topic);
    let given = take_assignment(consumer.as_mut(), 0);
    let mut commits = consumer.commits();
    std::thread::sleep(Duration::from_secs(6));
    let mut warned = false;
    let lost = poll_until(consumer.as_mut(), "the loss", |_, p| match p {
        Polled::Lost(lost) => Some(lost),
        Polled::Trouble(e) => {
            warned |= e.message.contains("max.poll.interval.ms");
            None
        }
        Polled::Revoked(_) | Polled::Assigned(_) => panic!("{p:?} instead of a loss"),
        _ => None,
    });
    assert_eq!(lost.len(), given.len());
    if !warned {
        poll_until(consumer.as_mut(), "the reason", |_, p| {
            matches!(p, Polled::Trouble(e) if e.message.contains("max.poll.interval.ms")).then_some(())
        });
    }
    let commit = OffsetCommit { at: at(0), offset: 1, metadata: String::new() };
    let refused = commits.now(&[commit], ANSWER).unwrap_err();
    assert_eq!(refused.kind, BrokerErrorKind::Superseded, "{refused}");
    consumer.unassign(&lost).unwrap();
    assert_eq!(take_assignment(consumer.as_mut(), 0).len(), 4, "it joins again");
}

#[test]
fn a_member_dropped_with_an_unanswered_rebalance_leaves_at_once() {
    let Some(rig) = shared("a_member_dropped_with_an_unanswered_rebalance_leaves_at_once") else { return };
    let kafka = plain(rig);
    let topic = filled(rig, &kafka, 1);
    let group = unique("g");
    let mut a = join(&kafka, &group, &topic);
    take_assignment(a.as_mut(), 0);
    let mut b = join(&kafka, &group, &topic);
    poll_both(b.as_mut(), a.as_mut(), |_, _| {}, |_, p| matches!(p, Polled::Revoked(_)).then_some(()));
    let start = Instant::now();
    drop(a);
    assert!(start.elapsed() < Duration::from_secs(5), "closing took {:?}", start.elapsed());
    // Sessions are 45 s by default: only a member that left makes room before.
    let mut given = 0;
    while given < 4 {
        given += take_assignment(b.as_mut(), 0).len();
    }
    assert!(start.elapsed() < Duration::from_secs(20), "the group noticed after {:?}", start.elapsed());

    let mut c = join(&kafka, &unique("g"), &topic);
    poll_until(c.as_mut(), "an assignment", |_, p| matches!(p, Polled::Assigned(_)).then_some(()));
    let start = Instant::now();
    drop(c);
    assert!(start.elapsed() < Duration::from_secs(5), "closing took {:?}", start.elapsed());
}

#[test]
fn leaving_revokes_what_is_assigned_and_says_so_when_nothing_is() {
    let Some(rig) = shared("leaving_revokes_what_is_assigned_and_says_so_when_nothing_is") else { return };
    let kafka = plain(rig);
    let topic = filled(rig, &kafka, 1);
    let group = unique("g");
    let mut consumer = join(&kafka, &group, &topic);
    let given = take_assignment(consumer.as_mut(), 0);
    let mut commits = consumer.commits();
    consumer.leave();
    let revoked = poll_until(consumer.as_mut(), "the revocation", |_, p| match p {
        Polled::Revoked(r) => Some(r),
        _ => None,
    });
    assert_eq!(revoked.len(), given.len());
    let commit = OffsetCommit { at: at(2), offset: 1, metadata: "last".to_owned() };
    assert_eq!(commits.now(&[commit], ANSWER), Ok(()), "the last commit, before leaving");
    consumer.unassign(&revoked).unwrap();
    drop(consumer);
    assert_eq!(commits.now(&[], ANSWER), Ok(()));
    let late = OffsetCommit { at: at(2), offset: 9, metadata: String::new() };
    assert_eq!(commits.now(&[late], ANSWER).unwrap_err().kind, BrokerErrorKind::Superseded);

    let mut empty = join(&kafka, &group, &topic);
    empty.leave();
    let polled = empty.poll(Duration::from_secs(5));
    assert!(matches!(&polled, Polled::Revoked(none) if none.is_empty()), "{polled:?}");
    assert_eq!(empty.committed(&[at(2)], LIMIT).unwrap()[0].offset, Some(1));
}

#[test]
fn an_answer_without_its_rebalance_is_refused() {
    let Some(rig) = shared("an_answer_without_its_rebalance_is_refused") else { return };
    let kafka = plain(rig);
    let topic = filled(rig, &kafka, 1);
    let mut consumer = join(&kafka, &unique("g"), &topic);
    assert_eq!(consumer.assign(&[(at(0), 0)]).unwrap_err().kind, BrokerErrorKind::Superseded);
    take_assignment(consumer.as_mut(), 0);
    assert_eq!(consumer.unassign(&[at(0)]).unwrap_err().kind, BrokerErrorKind::Superseded);
    assert_eq!(read(consumer.as_mut(), 4).len(), 4);
}
