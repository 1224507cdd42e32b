//! Records and offsets that are written together: all of them or none, and by whom.

use crate::support::{Folder, WAIT, all, at, ended, join, next, produce, skip, text, topic};
use keyrail::broker::client::Client;
use keyrail::broker::embedded::Embedded;
use keyrail::broker::{
    Broker as _, BrokerError, BrokerErrorKind, Consumer, Finished, OffsetCommit, Polled, Produce, Refusal, Transactions,
};
use keyrail::fail::{Point, VARIABLE};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const COMMITTED: Finished = Finished::Committed { resent: false };
const PARTITIONS: i32 = 4;
const SIGKILL: i32 = 9;

fn open(folder: &Folder) -> Embedded {
    let broker = folder.open();
    let mut client = broker.client().unwrap();
    for name in ["in", "out"] {
        topic(client.as_mut(), name, PARTITIONS, &[]);
    }
    broker
}

fn member(broker: &Embedded) -> Box<dyn Consumer> {
    let mut consumer = broker.consumer("g", &["in".to_owned()]).unwrap();
    assert_eq!(join(consumer.as_mut()).len(), PARTITIONS as usize);
    consumer
}

fn end(transactions: &mut dyn Transactions) -> Result<Finished, BrokerError> {
    let until = Instant::now() + WAIT;
    while Instant::now() < until {
        transactions.poll(Duration::from_millis(5), &mut Vec::new());
        if let Some(result) = transactions.finished() {
            return result;
        }
    }
    panic!("what was begun does not end");
}

fn renewed(consumer: &dyn Consumer, id: &str) -> Box<dyn Transactions> {
    let mut transactions = consumer.transactions(id, &["out"]).unwrap();
    renew(transactions.as_mut());
    transactions
}

fn renew(transactions: &mut dyn Transactions) {
    transactions.renew();
    assert_eq!(end(transactions), Ok(Finished::Renewed));
}

/// Sends records with these keys, and sees them reported.
fn send(transactions: &mut dyn Transactions, keys: &[&str]) {
    for (token, key) in (0..).zip(keys) {
        assert_eq!(transactions.send(&produce("out", key, "v"), token), Ok(true));
    }
    assert_eq!(transactions.in_flight(), keys.len());
    let mut reports = Vec::new();
    transactions.poll(Duration::ZERO, &mut reports);
    assert_eq!(reports, (0..keys.len() as u64).map(|token| (token, Ok(()))).collect::<Vec<_>>());
    assert_eq!(transactions.in_flight(), 0);
}

fn offset(partition: i32, offset: i64) -> OffsetCommit {
    OffsetCommit { at: at(0, partition), offset, metadata: format!("m{offset}") }
}

fn commit(transactions: &mut dyn Transactions, offsets: Vec<OffsetCommit>) -> Result<Finished, BrokerError> {
    transactions.commit(offsets);
    end(transactions)
}

fn written(client: &mut dyn Client) -> BTreeSet<String> {
    all(client, "out", PARTITIONS).iter().map(|r| text(r.key()).to_owned()).collect()
}

fn committed(consumer: &mut dyn Consumer, partition: i32) -> Option<i64> {
    let told = consumer.committed(&[at(0, partition)], WAIT).unwrap().remove(0);
    assert_eq!(told.metadata, told.offset.map_or_else(String::new, |offset| format!("m{offset}")));
    told.offset
}

fn set(keys: &[&str]) -> BTreeSet<String> {
    keys.iter().map(|key| (*key).to_owned()).collect()
}

#[test]
fn records_and_offsets_are_there_together_and_not_before_the_commit() {
    let folder = Folder::new();
    {
        let broker = open(&folder);
        let mut client = broker.client().unwrap();
        let mut consumer = member(&broker);
        let mut transactions = renewed(consumer.as_ref(), "g-0");
        send(transactions.as_mut(), &["a", "b", "c", "d"]);
        assert_eq!(written(client.as_mut()), set(&[]));
        assert_eq!(committed(consumer.as_mut(), 0), None);
        assert_eq!(commit(transactions.as_mut(), vec![offset(0, 3), offset(2, 5)]), Ok(COMMITTED));
        assert_eq!(transactions.finished(), None);
        assert_eq!(written(client.as_mut()), set(&["a", "b", "c", "d"]));
        // The next begins without another word, and one may hold no record at all.
        send(transactions.as_mut(), &["e"]);
        assert_eq!(commit(transactions.as_mut(), vec![offset(0, 4)]), Ok(COMMITTED));
        assert_eq!(commit(transactions.as_mut(), vec![offset(1, 1)]), Ok(COMMITTED));
        send(transactions.as_mut(), &["lost"]);
    }
    let broker = folder.open();
    let mut consumer = member(&broker);
    let at_rest: Vec<_> = (0..PARTITIONS).map(|n| committed(consumer.as_mut(), n)).collect();
    assert_eq!(at_rest, [Some(4), Some(1), Some(5), None]);
    assert_eq!(written(broker.client().unwrap().as_mut()), set(&["a", "b", "c", "d", "e"]));
}

#[test]
fn a_transaction_of_many_blocks_is_one_too() {
    let folder = Folder::new();
    let broker = open(&folder);
    let mut client = broker.client().unwrap();
    let consumer = member(&broker);
    let mut transactions = renewed(consumer.as_ref(), "g-0");
    let big = "x".repeat(200_000);
    for n in 0..100_u64 {
        let key = n.to_string();
        assert_eq!(transactions.send(&produce("out", &key, &big), n), Ok(true));
    }
    let small: Vec<String> = (100..30_000).map(|n| n.to_string()).collect();
    for key in &small {
        assert_eq!(transactions.send(&produce("out", key, ""), 0), Ok(true));
    }
    let bounds = |client: &mut dyn Client| client.bounds("out", &[0, 1, 2, 3]).unwrap().iter().map(|b| b.end).sum();
    let before: i64 = bounds(client.as_mut());
    assert_eq!(commit(transactions.as_mut(), vec![offset(0, 1)]), Ok(COMMITTED));
    let after: i64 = bounds(client.as_mut());
    assert_eq!((before, after), (0, 30_000));
    assert_eq!(written(client.as_mut()).len(), 30_000);
}

#[test]
fn what_can_not_be_taken_is_refused_at_once_and_is_no_part_of_it() {
    let folder = Folder::new();
    let broker = open(&folder);
    topic(broker.client().unwrap().as_mut(), "small", 1, &[("max.message.bytes", "3")]);
    let consumer = member(&broker);
    let mut transactions = consumer.transactions("g-0", &[]).unwrap();
    let refused = transactions.send(&produce("out", "k", "v"), 0).unwrap_err();
    assert!(matches!(&refused, Refusal::Blocked(why) if why.contains("not renewed")), "{refused:?}");
    renew(transactions.as_mut());
    let mut refused = |record: Produce<'_>| transactions.send(&record, 0).unwrap_err();
    let told = refused(produce("small", "k", "vvv"));
    assert!(matches!(&told, Refusal::Undeliverable(why) if why.contains("4 bytes")), "{told:?}");
    let told = refused(Produce { partition: Some(PARTITIONS), ..produce("out", "k", "v") });
    assert!(matches!(&told, Refusal::Undeliverable(why) if why.contains("no partition 4")), "{told:?}");
    let told = refused(produce("nowhere", "k", "v"));
    assert!(matches!(&told, Refusal::Blocked(why) if why.contains("nowhere")), "{told:?}");
    assert_eq!(transactions.in_flight(), 0);
    send(transactions.as_mut(), &["good"]);
    assert_eq!(commit(transactions.as_mut(), vec![offset(0, 1)]), Ok(COMMITTED));
    assert_eq!(written(broker.client().unwrap().as_mut()), set(&["good"]));
}

#[test]
fn renewing_drops_what_is_staged_and_its_reports() {
    let folder = Folder::new();
    let broker = open(&folder);
    let mut consumer = member(&broker);
    let mut transactions = renewed(consumer.as_ref(), "g-0");
    send(transactions.as_mut(), &["reported"]);
    assert_eq!(transactions.send(&produce("out", "not reported", "v"), 7), Ok(true));
    transactions.renew();
    assert!(transactions.send(&produce("out", "too early", "v"), 8).is_err());
    let mut reports = Vec::new();
    transactions.poll(Duration::ZERO, &mut reports);
    assert_eq!((end(transactions.as_mut()), reports, transactions.in_flight()), (Ok(Finished::Renewed), vec![], 0));
    send(transactions.as_mut(), &["after"]);
    assert_eq!(commit(transactions.as_mut(), vec![offset(0, 1)]), Ok(COMMITTED));
    assert_eq!(written(broker.client().unwrap().as_mut()), set(&["after"]));
    assert_eq!(committed(consumer.as_mut(), 0), Some(1));
}

/// The answer is dropped, and whether it was written is settled by the time that the producer is renewed.
#[test]
fn a_commit_that_is_under_way_when_renewed_is_decided_then() {
    const ROUNDS: i64 = 60;
    let folder = Folder::new();
    let broker = open(&folder);
    let mut client = broker.client().unwrap();
    let mut consumer = member(&broker);
    let mut transactions = renewed(consumer.as_ref(), "g-0");
    let mut stood = 0;
    for round in 1..=ROUNDS {
        send(transactions.as_mut(), &["k"]);
        transactions.commit(vec![offset(0, round)]);
        if round % 2 == 0 {
            std::thread::sleep(Duration::from_millis(round.unsigned_abs() % 8));
        }
        renew(transactions.as_mut());
        let before = stood;
        if committed(consumer.as_mut(), 0) == Some(round) {
            stood += 1;
        }
        let ends: i64 = client.bounds("out", &[0, 1, 2, 3]).unwrap().iter().map(|b| b.end).sum();
        assert_eq!(ends, stood, "round {round}: the records say something else than the offset");
        assert_eq!(transactions.finished(), None, "after {before} the end of a commit that was given up");
    }
    assert!(stood > 0, "none was written: nothing was tested");
}

#[test]
fn who_takes_the_id_over_fences_who_had_it() {
    let folder = Folder::new();
    let broker = open(&folder);
    let mut consumer = member(&broker);
    let mut old = renewed(consumer.as_ref(), "g-0");
    let mut other = renewed(consumer.as_ref(), "g-1");
    send(old.as_mut(), &["old"]);
    send(other.as_mut(), &["other"]);
    let mut new = renewed(consumer.as_ref(), "g-0");
    let fenced = commit(old.as_mut(), vec![offset(0, 1)]).unwrap_err();
    assert_eq!(fenced.kind, BrokerErrorKind::Fatal);
    assert!(fenced.message.contains("\"g-0\" was taken over"), "{fenced}");
    assert!(old.send(&produce("out", "old", "v"), 0).is_err());
    drop(old);
    send(new.as_mut(), &["new"]);
    assert_eq!(commit(new.as_mut(), vec![offset(1, 2)]), Ok(COMMITTED));
    assert_eq!(commit(other.as_mut(), vec![offset(2, 3)]), Ok(COMMITTED));
    assert_eq!(written(broker.client().unwrap().as_mut()), set(&["new", "other"]));
    assert_eq!([0, 1, 2].map(|n| committed(consumer.as_mut(), n)), [None, Some(2), Some(3)]);
}

#[test]
fn a_member_that_lost_its_group_writes_nothing() {
    let folder = Folder::new();
    let broker = open(&folder);
    let mut first = member(&broker);
    let mut transactions = renewed(first.as_ref(), "g-0");
    send(transactions.as_mut(), &["late"]);
    first.leave();
    let Polled::Revoked(gone) = next(first.as_mut()) else { panic!("no revocation") };
    first.unassign(&gone).unwrap();
    let mut second = member(&broker);
    let refused = commit(transactions.as_mut(), vec![offset(0, 1)]).unwrap_err();
    assert_eq!(refused.kind, BrokerErrorKind::Superseded);
    assert!(refused.message.contains("another member"), "{refused}");
    // It failed, so it has to be renewed; and that helps nobody who has no group.
    assert_eq!(commit(transactions.as_mut(), vec![offset(0, 1)]).unwrap_err().kind, BrokerErrorKind::Retry);
    renew(transactions.as_mut());
    drop(first);
    let refused = commit(transactions.as_mut(), vec![offset(0, 1)]).unwrap_err();
    assert_eq!(refused.kind, BrokerErrorKind::Superseded);
    assert_eq!(written(broker.client().unwrap().as_mut()), set(&[]));
    assert_eq!(committed(second.as_mut(), 0), None);
}

/// A member goes while its commit is under way. Its successor must not be told an offset that is about to change.
#[test]
fn what_the_next_member_is_told_is_decided() {
    let folder = Folder::new();
    let broker = open(&folder);
    let mut client = broker.client().unwrap();
    let mut records = 0;
    for round in 1..=30 {
        let mut first = member(&broker);
        let mut transactions = renewed(first.as_ref(), "g-0");
        send(transactions.as_mut(), &["k"]);
        first.leave();
        let Polled::Revoked(gone) = next(first.as_mut()) else { panic!("no revocation") };
        transactions.commit(vec![offset(0, round)]);
        if round % 3 != 0 {
            std::thread::sleep(Duration::from_micros(150 * round.unsigned_abs()));
        }
        first.unassign(&gone).unwrap();
        let mut second = member(&broker);
        let told = committed(second.as_mut(), 0);
        let ends: i64 = client.bounds("out", &[0, 1, 2, 3]).unwrap().iter().map(|b| b.end).sum();
        records += i64::from(told == Some(round));
        assert_eq!(ends, records, "round {round}");
        drop(transactions);
        assert_eq!(committed(second.as_mut(), 0), told);
    }
}

#[test]
fn a_transaction_without_an_offset_or_with_a_bad_one_is_refused_and_leaves_nothing() {
    let folder = Folder::new();
    let broker = open(&folder);
    let consumer = member(&broker);
    let mut transactions = renewed(consumer.as_ref(), "g-0");
    for bad in [vec![], vec![offset(0, 1), offset(PARTITIONS, 1)], vec![offset(0, -1)]] {
        send(transactions.as_mut(), &["bad"]);
        let refused = commit(transactions.as_mut(), bad).unwrap_err();
        assert_eq!(refused.kind, BrokerErrorKind::Operator, "{refused}");
        renew(transactions.as_mut());
    }
    assert_eq!(commit(transactions.as_mut(), vec![offset(0, 1)]), Ok(COMMITTED));
    assert_eq!(written(broker.client().unwrap().as_mut()), set(&[]));
}

#[test]
fn a_closed_broker_is_told() {
    let folder = Folder::new();
    let broker = open(&folder);
    let consumer = member(&broker);
    let mut transactions = renewed(consumer.as_ref(), "g-0");
    send(transactions.as_mut(), &["k"]);
    drop(broker);
    let refused = commit(transactions.as_mut(), vec![offset(0, 1)]).unwrap_err();
    // Not fatal: nobody took the id.
    assert_eq!(refused.kind, BrokerErrorKind::Operator);
    assert!(refused.message.contains("closed"), "{refused}");
}

fn start(folder: &Folder, special: impl FnOnce(&mut Command)) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_embedded-rig"));
    command.arg("transact").arg(folder.data()).stdout(Stdio::piped());
    special(&mut command);
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n", "it did not start again");
    child
}

/// What was read is written twice, once each, exactly as far as the offsets say. How far that is.
fn judge(folder: &Folder) -> i64 {
    let broker = folder.open();
    let mut client = broker.client().unwrap();
    let mut expected = BTreeMap::new();
    let mut sum = 0;
    let partitions: Vec<_> = (0..PARTITIONS).map(|n| at(0, n)).collect();
    for (n, told) in (0..).zip(client.committed("g", &["in".to_owned()], &partitions).unwrap()) {
        let end = told.offset.unwrap_or(0);
        assert!(told.offset.is_none() || told.metadata == format!("m{end}"), "{told:?}");
        expected.extend((0..end).flat_map(|offset| ["a", "b"].map(|copy| (format!("{copy}-{n}-{offset}"), 1))));
        sum += end;
    }
    let mut found: BTreeMap<String, u32> = BTreeMap::new();
    for record in all(client.as_mut(), "out", PARTITIONS) {
        *found.entry(text(record.key()).to_owned()).or_default() += 1;
    }
    assert!(found == expected, "outputs and offsets differ: {} records, {} expected", found.len(), expected.len());
    sum
}

#[test]
fn a_process_killed_at_any_moment_leaves_whole_transactions() {
    const KILLS: u64 = 12;
    let folder = Folder::new();
    for kill in 0..KILLS {
        let mut child = start(&folder, |_| {});
        std::thread::sleep(Duration::from_millis(kill * 41 % 200));
        child.kill().unwrap();
        child.wait().unwrap();
        let done = judge(&folder);
        assert!(kill < KILLS - 1 || done > 0, "no transaction was written: nothing was tested");
    }
}

#[test]
fn a_process_killed_at_the_writers_points_leaves_whole_transactions() {
    if !keyrail::fail::ENABLED {
        let test = "a_process_killed_at_the_writers_points_leaves_whole_transactions";
        return skip(test, "built without --features keyrail/fail-points; cargo xtask test sets it");
    }
    let folder = Folder::new();
    let mut before = 0;
    for pass in [4, 6, 9, 13] {
        for point in [Point::WriteBegun, Point::WriteDone] {
            let mut child = start(&folder, |command| {
                command.env(VARIABLE, format!("{}@{pass}", point.name())).stderr(Stdio::null());
            });
            let status = ended(&mut child, WAIT, &(point, pass));
            assert_eq!(status.signal(), Some(SIGKILL), "{point:?}@{pass}: {status}");
            let done = judge(&folder);
            assert!(done >= before, "{point:?}@{pass}: what was committed is gone");
            before = done;
        }
    }
    assert!(before > 0, "no transaction was written: nothing was tested");
}
