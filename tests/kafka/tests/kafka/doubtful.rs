//! Transactions whose requests or answers are lost on the way.

use crate::support::*;
use crate::transactions::{Scene, commit, end, offset, renew, until_seen, values};
use keyrail::broker::kafka::Kafka;
use keyrail::broker::{BrokerErrorKind, Finished, Polled};
use keyrail_kafka_tests::{Direction, Fault, Kafka as Rig, Options, Proxy, Security, api, start, unique};
use std::io::Write as _;
use std::time::{Duration, Instant};

/// Every third of these meets no fault.
const LEAST_TURNS: usize = 60;

/// A broker behind a proxy.
fn proxied(test: &str) -> Option<Rig> {
    start(test, &Options { proxied: true, ..Options::default() })
}

fn connected(rig: &Rig, more: &[(&str, &str)]) -> Kafka {
    connect(&rig.properties(Security::Proxied), more)
}

fn resent(rig: &Rig, proxy: &Proxy, api_key: i16) {
    let mut scene = Scene::new(rig, &connected(rig, &[]));
    let mut transactions = scene.transactions(&unique("id"));
    renew(transactions.as_mut());
    commit(transactions.as_mut(), &[offset(0, 1, "")]);
    proxy.fault(api_key, Fault::Cut, 1);
    let met = proxy.met(api_key);
    scene.write(transactions.as_mut(), &["v"]);
    transactions.commit(vec![offset(0, 2, "")]);
    assert_eq!(end(transactions.as_mut()), Ok(Finished::Committed { resent: true }), "ApiKey {api_key}");
    assert_eq!(proxy.met(api_key), met + 1);
    assert_eq!(until_seen(rig, &scene.output, 1), ["v"], "once");
    assert_eq!(scene.committed(), Some(2));
    renew(transactions.as_mut());
    commit(transactions.as_mut(), &[offset(0, 3, "")]);
    assert_eq!(scene.committed(), Some(3));
}

#[test]
fn a_request_sent_again_after_a_broken_connection_is_told() {
    let Some(rig) = proxied("a_request_sent_again_after_a_broken_connection_is_told") else { return };
    let proxy = rig.proxy(1).unwrap();
    for api_key in [api::END_TXN, api::TXN_OFFSET_COMMIT, api::ADD_OFFSETS_TO_TXN, api::ADD_PARTITIONS_TO_TXN] {
        resent(&rig, proxy, api_key);
    }
    // Taking the id over is asked for again as well, and that is all there is to it.
    let scene = Scene::new(&rig, &connected(&rig, &[]));
    let mut transactions = scene.transactions(&unique("id"));
    proxy.fault(api::INIT_PRODUCER_ID, Fault::Cut, 2);
    renew(transactions.as_mut());
    assert!(proxy.met(api::INIT_PRODUCER_ID) >= 2);
    commit(transactions.as_mut(), &[offset(0, 1, "")]);
}

#[test]
fn an_end_without_an_answer_is_given_up_and_decided_by_taking_over() {
    let Some(rig) = proxied("an_end_without_an_answer_is_given_up_and_decided_by_taking_over") else { return };
    let proxy = rig.proxy(1).unwrap();
    let mut scene = Scene::new(&rig, &connected(&rig, &[]));
    let mut transactions = scene.transactions(&unique("id"));
    renew(transactions.as_mut());
    scene.write(transactions.as_mut(), &["in doubt"]);
    proxy.fault(api::END_TXN, Fault::Mute, 1);
    let began = Instant::now();
    transactions.commit(vec![offset(0, 1, "one")]);
    let doubt = end(transactions.as_mut()).unwrap_err();
    assert_eq!(doubt.kind, BrokerErrorKind::Retry, "{doubt}");
    assert!((8..=11).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    renew(transactions.as_mut());
    assert_eq!(scene.committed(), Some(1), "it went through");
    assert_eq!(until_seen(&rig, &scene.output, 1), ["in doubt"]);

    // The end that never came is waited for no longer than the caller wants to.
    scene.write(transactions.as_mut(), &["in doubt"]);
    proxy.fault(api::TXN_OFFSET_COMMIT, Fault::Mute, 1);
    transactions.commit(vec![offset(0, 2, "two")]);
    let mut reports = Vec::new();
    transactions.poll(Duration::from_millis(500), &mut reports);
    assert_eq!(transactions.finished(), None);
    let began = Instant::now();
    renew(transactions.as_mut());
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(scene.committed(), Some(1), "it was aborted");
    scene.write(transactions.as_mut(), &["for sure"]);
    commit(transactions.as_mut(), &[offset(0, 2, "three")]);
    assert_eq!(until_seen(&rig, &scene.output, 2), ["in doubt", "for sure"]);
}

#[test]
fn an_end_that_was_stuck_on_its_way_does_not_end_the_next_transaction() {
    let Some(rig) = proxied("an_end_that_was_stuck_on_its_way_does_not_end_the_next_transaction") else { return };
    let proxy = rig.proxy(1).unwrap();
    let mut scene = Scene::new(&rig, &connected(&rig, &[]));
    let mut transactions = scene.transactions(&unique("id"));
    renew(transactions.as_mut());
    scene.write(transactions.as_mut(), &["first"]);
    let late = Duration::from_secs(3);
    proxy.fault(api::END_TXN, Fault::Late(late), 1);
    let began = Instant::now();
    transactions.commit(vec![offset(0, 1, "")]);
    assert_eq!(end(transactions.as_mut()), Ok(Finished::Committed { resent: true }));
    renew(transactions.as_mut());
    scene.write(transactions.as_mut(), &["second"]);
    assert!(began.elapsed() < late, "the machine is too slow for this test: {:?}", began.elapsed());
    std::thread::sleep(late + Duration::from_secs(1) - began.elapsed());
    assert_eq!(until_seen(&rig, &scene.output, 1), ["first"]);
    assert_eq!(values(&rig, &scene.output, "read_uncommitted"), ["first", "second"]);
    commit(transactions.as_mut(), &[offset(0, 2, "")]);
    assert_eq!(until_seen(&rig, &scene.output, 2), ["first", "second"]);
    assert_eq!(scene.committed(), Some(2));
}

/// `KEYRAIL_DOUBTS=1000 cargo xtask test whatever` for a longer run.
fn doubts() -> usize {
    std::env::var("KEYRAIL_DOUBTS").ok().map_or(20, |n| n.parse().expect("KEYRAIL_DOUBTS is a number"))
}

#[test]
fn whatever_is_lost_on_the_way_each_value_is_there_once() {
    let Some(rig) = proxied("whatever_is_lost_on_the_way_each_value_is_there_once") else { return };
    let proxy = rig.proxy(1).unwrap();
    let mut scene = Scene::new(&rig, &connected(&rig, &[]));
    let mut transactions = scene.transactions(&unique("id"));
    let ends = [
        api::END_TXN,
        api::TXN_OFFSET_COMMIT,
        api::ADD_OFFSETS_TO_TXN,
        api::ADD_PARTITIONS_TO_TXN,
        api::PRODUCE,
        api::INIT_PRODUCER_ID,
    ];
    let late = Fault::Late(Duration::from_millis(300));
    let (wanted, mut renewed, mut in_doubt, mut turns) = (doubts(), false, 0, 0_usize);
    while turns < LEAST_TURNS || in_doubt < wanted {
        let turn = turns;
        turns += 1;
        assert!(turn < LEAST_TURNS * (1 + wanted), "only {in_doubt} in doubt: the faults were not met");
        let at_turn = turn as i64;
        if turn % 3 > 0 {
            let fault = if turn % 2 == 0 { Fault::Cut } else { late };
            proxy.fault(ends[turn / 3 % ends.len()], fault, 1 + (turn / 7 % 2) as u32);
        }
        // Until the group's offset says that this turn's value is in.
        while scene.committed().unwrap_or(0) <= at_turn {
            if !renewed {
                transactions.renew();
                renewed = end(transactions.as_mut()).is_ok();
                continue;
            }
            let value = turn.to_string();
            let written = send_all(transactions.as_mut(), &[produce(&scene.output, value.as_bytes())]);
            transactions.commit(vec![offset(0, at_turn + 1, &value)]);
            let ended = end(transactions.as_mut());
            renewed = ended == Ok(Finished::Committed { resent: false });
            in_doubt += usize::from(!renewed);
            assert!(written[0].is_ok() || ended.is_err(), "{written:?}, and yet {ended:?}");
            if !renewed {
                transactions.renew();
                renewed = end(transactions.as_mut()).is_ok();
            }
        }
    }
    let seen = until_seen(&rig, &scene.output, turns);
    assert_eq!(seen, (0..turns).map(|n| n.to_string()).collect::<Vec<_>>());
    // Past the harness's capture; a closed stderr loses nothing but the line.
    drop(writeln!(std::io::stderr(), "    {in_doubt} ends in doubt, {turns} values"));
}

#[test]
fn calls_that_hang_are_left_behind_up_to_a_bound_until_they_end() {
    let Some(rig) = proxied("calls_that_hang_are_left_behind_up_to_a_bound_until_they_end") else { return };
    let proxy = rig.proxy(1).unwrap();
    let mut scene = Scene::new(&rig, &connected(&rig, &[]));
    let mut transactions = scene.transactions(&unique("id"));
    // Each commit looks for the group's coordinator, and nobody answers.
    let (mut hung, mut refused) = (0, None);
    while refused.is_none() && hung < 20 {
        transactions.renew();
        match end(transactions.as_mut()) {
            Ok(_) => {
                let before = proxy.met(api::FIND_COORDINATOR);
                proxy.fault(api::FIND_COORDINATOR, Fault::Mute, 1000);
                transactions.commit(vec![offset(0, 1, "")]);
                let until = Instant::now() + LIMIT;
                while proxy.met(api::FIND_COORDINATOR) == before {
                    assert!(Instant::now() < until, "nobody looks for the coordinator");
                    std::thread::sleep(Duration::from_millis(5));
                }
                proxy.heal();
                hung += 1;
            }
            Err(error) => refused = Some(error),
        }
    }
    let refused = refused.expect("a bound");
    assert_eq!(refused.kind, BrokerErrorKind::Retry);
    assert!(refused.message.contains("8 earlier producers"), "{refused}, after {hung}");
    let until = Instant::now() + LIMIT;
    loop {
        transactions.renew();
        match end(transactions.as_mut()) {
            Ok(_) => break,
            Err(error) => assert!(Instant::now() < until, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    commit(transactions.as_mut(), &[offset(0, 2, "")]);
    assert_eq!(scene.committed(), Some(2), "none of the calls left behind came through");
}

#[test]
fn a_member_that_the_group_went_on_without_commits_nothing() {
    let Some(rig) = proxied("a_member_that_the_group_went_on_without_commits_nothing") else { return };
    let proxy = rig.proxy(1).unwrap();
    let (input, output, group) = (unique("txn-in"), unique("txn-out"), unique("txn"));
    rig.create_topic(&input, 2, &[]).unwrap();
    rig.create_topic(&output, 1, &[]).unwrap();
    let short = [("session.timeout.ms", "2000"), ("heartbeat.interval.ms", "500")];
    let mut frozen = join(&connected(&rig, &short), &group, &input);
    take_assignment(frozen.as_mut(), 0);
    let mut transactions = frozen.transactions(&unique("id"), &[&output]).unwrap();
    renew(transactions.as_mut());
    assert_eq!(send_all(transactions.as_mut(), &[produce(&output, b"late")]), [Ok(())]);
    for direction in [Direction::ToBroker, Direction::ToClients] {
        proxy.stall(direction, true);
    }
    let mut other = join(&plain(&rig), &group, &input);
    let mut taken = 0;
    while taken < 2 {
        taken += poll_until(other.as_mut(), "the other's partitions", |c, p| match p {
            Polled::Assigned(given) => {
                c.assign(&given.iter().map(|at| (*at, 0)).collect::<Vec<_>>()).unwrap();
                Some(given.len())
            }
            _ => None,
        });
    }
    transactions.commit(vec![offset(0, 5, "")]);
    for direction in [Direction::ToBroker, Direction::ToClients] {
        proxy.stall(direction, false);
    }
    let late = end(transactions.as_mut()).unwrap_err();
    assert_eq!(late.kind, BrokerErrorKind::Superseded, "{late}");
    renew(transactions.as_mut());
    assert_eq!(other.committed(&[at(0)], ANSWER).unwrap()[0].offset, None);
    assert_eq!(values(&rig, &output, "read_committed"), [""; 0]);
}
