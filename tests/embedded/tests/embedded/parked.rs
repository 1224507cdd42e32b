//! Parked messages: what failed waits in the retry topic with what came behind it, the offset moves on, and each key goes on
//! in its order, whatever ends the process meanwhile.
//!
//! The handler `tally` sends `COUNT VALUE`: what runs out of its order, twice, or not at all shows in the counts behind it.

use crate::play::{self, Play};
use crate::points::{armed, die_everywhere};
use crate::run::{PARTITIONS, beside};
use crate::state::{Counting, Counts, count, mixed};
use crate::support::{all, text};
use keyrail::broker::client::Client;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const TOPIC: &str = "p.in.retry";
const KEYS: usize = 100;
const KILLS: usize = 12;
/// Messages that each life finds.
const EACH: usize = 1_000;
const LIMIT: Duration = Duration::from_secs(60);
const SOON: &str = "commit.interval = \"20ms\"\n\
     retry = { attempts = 3, in-place = \"0s\", backoff = { first = \"150ms\", factor = 1.0, max = \"150ms\" } }\n";
const LATE: &str = "commit.interval = \"20ms\"\n\
     retry = { attempts = 3, in-place = \"100ms\", backoff = { first = \"6s\", factor = 1.0, max = \"6s\", jitter = 0.0 } }\n";

/// How many messages wait there, by what their partitions hold in the end.
pub(crate) fn parked(client: &mut dyn Client) -> usize {
    // It is made when the first message is parked.
    if client.topics().unwrap().iter().all(|topic| topic.name != TOPIC) {
        return 0;
    }
    let mut last = BTreeMap::new();
    for record in all(client, TOPIC, PARTITIONS) {
        last.insert(record.key().unwrap().to_vec(), record.value().is_some());
    }
    last.values().filter(|waits| **waits).count()
}

/// Waits until nothing is parked, and ends the process in good order.
fn settle(counting: &Counting) {
    let child = counting.play.start();
    let mut client = beside(&counting.play.folder, &child);
    counting.wait(client.as_mut());
    let until = Instant::now() + LIMIT;
    while parked(client.as_mut()) > 0 {
        assert!(Instant::now() < until, "{} messages are parked still", parked(client.as_mut()));
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(client);
    counting.play.settle(child);
}

pub(crate) fn of_key(client: &mut dyn Client, key: &str) -> Vec<String> {
    let records = all(client, "out", PARTITIONS);
    records.iter().filter(|r| text(r.key()) == key).map(|r| text(r.value()).to_owned()).collect()
}

fn pairs(all: &[(&str, &str)]) -> Vec<(String, String)> {
    all.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn a_key_that_fails_is_parked_with_what_follows_and_goes_on_in_order_after_a_restart() {
    let test = "a_key_that_fails_is_parked_with_what_follows_and_goes_on_in_order_after_a_restart";
    let Some(mut counting) = Counting::new_with(test, LATE) else { return };
    let began = Instant::now();
    let mut child = counting.play.start();
    let mut client = beside(&counting.play.folder, &child);
    counting.send(client.as_mut(), &pairs(&[("bad", "fail 2 a"), ("bad", "b"), ("good", "x"), ("bad", "c")]));
    // All of it is committed long before anything is due.
    counting.wait(client.as_mut());
    assert_eq!(parked(client.as_mut()), 3, "after {:?}", began.elapsed());
    assert_eq!((of_key(client.as_mut(), "good").len(), of_key(client.as_mut(), "bad").len()), (1, 0));
    drop(client);
    child.kill().unwrap();
    child.wait().unwrap();
    // The next life begins with nothing but the topic.
    std::fs::remove_dir_all(counting.play.folder.path().join("state")).unwrap();
    let mut child = counting.play.start();
    let mut client = beside(&counting.play.folder, &child);
    counting.send(client.as_mut(), &pairs(&[("bad", "d"), ("good", "y")]));
    counting.wait(client.as_mut());
    let until = Instant::now() + LIMIT;
    while of_key(client.as_mut(), "bad").len() < 4 {
        assert!(Instant::now() < until, "{:?}", of_key(client.as_mut(), "bad"));
        std::thread::sleep(Duration::from_millis(20));
    }
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(12), "two waits of 6 s took {took:?}: it ran early");
    drop(client);
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    settle(&counting);
    counting.judge();
}

#[test]
fn a_process_killed_at_any_moment_loses_nothing_parked_and_runs_nothing_twice() {
    let test = "a_process_killed_at_any_moment_loses_nothing_parked_and_runs_nothing_twice";
    let Some(mut counting) = Counting::new_with(test, SOON) else { return };
    let (mut killed_with, mut most) = (0, 0);
    for kill in 0..KILLS {
        let mut child = counting.play.start();
        let mut client = beside(&counting.play.folder, &child);
        counting.send(client.as_mut(), &mixed(kill * EACH, (kill + 1) * EACH, KEYS));
        let left = if kill % 4 == 3 { counting.play.uncommitted(client.as_mut()) } else { EACH * (kill % 4) / 4 };
        let until = Instant::now() + LIMIT;
        while counting.play.uncommitted(client.as_mut()) > left {
            assert!(Instant::now() < until, "it does not get on");
        }
        std::thread::sleep(Duration::from_millis(kill as u64 * 37 % 200));
        drop(client);
        child.kill().unwrap();
        child.wait().unwrap();
        let mut client = counting.play.client();
        killed_with += counting.play.uncommitted(client.as_mut());
        most = most.max(parked(client.as_mut()));
        drop(client);
        if kill % 3 == 2 {
            std::fs::remove_dir_all(counting.play.folder.path().join("state")).unwrap();
        }
    }
    assert!(killed_with > 0 && most > 10, "{killed_with} uncommitted and {most} parked: nothing was tested");
    settle(&counting);
    counting.judge();
}

#[test]
fn a_process_killed_at_any_named_point_loses_nothing_parked_and_runs_nothing_twice() {
    let test = "a_process_killed_at_any_named_point_loses_nothing_parked_and_runs_nothing_twice";
    if !armed(test) {
        return;
    }
    let Some(Counting { mut play, mut counts }) = Counting::new_with(test, SOON) else { return };
    let window = die_everywhere(&mut play, true, &mut |play, life| {
        let mut client = play.client();
        count(play, &mut counts, client.as_mut(), &mixed(life * EACH, (life + 1) * EACH, KEYS));
    });
    assert!(window > 0, "no death left anything uncommitted: nothing was tested");
    let counting = Counting { play, counts };
    settle(&counting);
    counting.judge();
}

#[test]
fn with_at_least_once_a_process_killed_at_any_named_point_loses_nothing_parked_and_keeps_order() {
    let test = "with_at_least_once_a_process_killed_at_any_named_point_loses_nothing_parked_and_keeps_order";
    if !armed(test) {
        return;
    }
    let tables = format!("guarantee = \"at-least-once\"\n{SOON}");
    let Some(mut play) = Play::new(test, &tables) else { return };
    let mut most = 0;
    let window = die_everywhere(&mut play, false, &mut |play, life| {
        let mut client = play.client();
        most = most.max(parked(client.as_mut()));
        play.send(client.as_mut(), &play::mixed(life * EACH, (life + 1) * EACH, 20));
        drop(client);
        let store = play.folder.path().join("state");
        if life % 3 == 2 && store.exists() {
            std::fs::remove_dir_all(store).unwrap();
        }
    });
    assert!(window > 0 && most > 10, "{window} uncommitted and {most} parked: nothing was tested");
    let child = play.start();
    let mut client = beside(&play.folder, &child);
    let until = Instant::now() + LIMIT;
    while play.uncommitted(client.as_mut()) + parked(client.as_mut()) > 0 {
        assert!(Instant::now() < until, "{} messages are parked still", parked(client.as_mut()));
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(client);
    play.settle(child);
    let (outputs, letters) = play.judge(play.client().as_mut());
    // What was parked and released, and not yet gone from its topic, is repeated too: of each of the 40 deaths at most that.
    assert!(outputs + letters <= window + 40 * most, "{outputs} and {letters} repeats, {window} were uncommitted");
}

/// What is parked belongs to the topic, which a wrong one would lose.
#[test]
fn a_foreign_record_in_the_retry_topic_is_passed_over_and_stays() {
    let test = "a_foreign_record_in_the_retry_topic_is_passed_over_and_stays";
    let Some(mut counting) = Counting::new_with(test, SOON) else { return };
    // What makes the topic.
    let mut client = counting.play.client();
    counting.send(client.as_mut(), &pairs(&[("k", "fail 1 a"), ("k", "b")]));
    drop(client);
    settle(&counting);
    let mut client = counting.play.client();
    let foreign = crate::support::produce(TOPIC, "mine", "whatever");
    crate::support::send(client.as_mut(), &[foreign]);
    counting.send(client.as_mut(), &pairs(&[("k", "fail 1 c"), ("k", "d")]));
    drop(client);
    let mut child = counting.play.start();
    let mut client = beside(&counting.play.folder, &child);
    counting.wait(client.as_mut());
    let until = Instant::now() + LIMIT;
    while parked(client.as_mut()) > 1 || of_key(client.as_mut(), "k").len() < 4 {
        assert!(Instant::now() < until, "it does not get on");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(all(client.as_mut(), TOPIC, PARTITIONS).iter().any(|r| r.key() == Some(b"mine")));
    drop(client);
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    assert_eq!(counting.counts, Counts::from([("k".to_owned(), 4)]));
    counting.judge();
}
