//! The state of handlers under kills, changes of the group and processes that sleep.
//!
//! The handler `tally` counts each key's messages in its state and sends `COUNT VALUE`. Of five messages one fails. A count
//! that is missing, or there twice, is state that was lost, or kept of a run of which nothing else stands.

use crate::client::{Rec, add_partitions, read_all, send_all, set_topic};
use crate::feed::{Counts, Plan, plan};
use crate::kills::{self, DEDUP, SHORT, freeze, kill_at_random_with};
use crate::points::{Load, all_points_under};
use crate::stage::{Setup, Stage, broker};
use crate::storms::storm_for;
use crate::worker::Worker;
use std::collections::BTreeMap;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(40);
const RETRY: &str = "[retry]\nattempts = 3\nbackoff = { first = \"20ms\", factor = 1.0, max = \"20ms\", jitter = 0.0 }";

fn setup() -> Setup<'static> {
    Setup { guest: "tally", tables: RETRY, kafka: SHORT, ..Setup::default() }
}

fn counted(keys: usize, rate: u64, least: u64) -> Plan {
    Plan { counted: true, ..plan(keys, rate, least) }
}

fn topic(stage: &Stage<'_>) -> String {
    format!("{}.{}.state", stage.group, stage.input)
}

/// Whether a record of state marks a schema, and is nobody's value.
pub(crate) fn is_mark(key: &[u8]) -> bool {
    key.first() == Some(&0)
}

/// What the topic of state holds in the end is what was counted, each key's where its messages are.
pub(crate) fn judge(stage: &Stage<'_>, counts: &Counts) {
    let topic = topic(stage);
    let partitions: BTreeMap<Vec<u8>, i32> =
        read_all(stage.kafka, &stage.input).into_iter().map(|r| (r.key.unwrap_or_default(), r.partition)).collect();
    let (mut held, mut records) = (BTreeMap::new(), 0);
    for record in read_all(stage.kafka, &topic) {
        records += 1;
        let key = record.key.unwrap();
        if is_mark(&key) {
            continue;
        }
        // An order key's: its length, itself, and the name.
        let (owner, name) = key[3..].split_at(usize::from(u16::from_be_bytes([key[1], key[2]])));
        assert_eq!((key[0], name), (1, &b"count"[..]));
        assert_eq!(partitions.get(owner), Some(&record.partition), "state of {owner:?} in another partition");
        match record.value {
            None => drop(held.remove(owner)),
            Some(value) => {
                assert_eq!(value[0], 1, "a value without an end");
                let count = String::from_utf8_lossy(&value[1..]).parse::<u64>().unwrap();
                held.insert(owner.to_vec(), count);
            }
        }
    }
    stage.say(&format!("state: {} keys, as counted, {records} records", held.len()));
    assert_eq!(&held, counts, "what the topic of state holds is not what was counted");
}

#[test]
fn three_workers_killed_at_random_leave_no_count_out_and_none_twice() {
    let test = "three_workers_killed_at_random_leave_no_count_out_and_none_twice";
    let kills = kills::kills(5);
    kill_at_random_with(test, &setup(), 3, kills, counted(300, 900, kills * 2_000));
}

/// What is sent twice is neither done nor counted: ids and state are of the same transactions.
#[test]
fn two_workers_killed_at_random_count_nothing_that_is_sent_twice() {
    let test = "two_workers_killed_at_random_count_nothing_that_is_sent_twice";
    let tables = &format!("{RETRY}\n{DEDUP}");
    let plan = Plan { twice: 200, ..counted(300, 600, 5_000) };
    kill_at_random_with(test, &Setup { tables, ..setup() }, 2, kills::kills(4), plan);
}

#[test]
fn a_worker_killed_at_any_named_point_leaves_no_count_out_and_none_twice() {
    let test = "a_worker_killed_at_any_named_point_leaves_no_count_out_and_none_twice";
    let load = Load { guest: "tally", guarantee: "exactly-once", retry: RETRY, plan: counted(100, 300, 0) };
    all_points_under(test, load, 1);
}

#[test]
fn counts_go_with_their_keys_to_members_that_join_and_leave() {
    let test = "counts_go_with_their_keys_to_members_that_join_and_leave";
    storm_for(test, &setup(), counted(200, 500, 5_000), Duration::from_secs(12));
}

#[test]
fn counts_go_with_their_keys_to_members_that_join_and_leave_with_at_least_once_too() {
    let test = "counts_go_with_their_keys_to_members_that_join_and_leave_with_at_least_once_too";
    let setup = Setup { guarantee: "at-least-once", ..setup() };
    storm_for(test, &setup, counted(200, 500, 5_000), Duration::from_secs(12));
}

#[test]
fn a_frozen_worker_that_wakes_counts_nothing_twice() {
    freeze("a_frozen_worker_that_wakes_counts_nothing_twice", &setup(), counted(200, 600, 5_000), 0);
}

#[test]
fn a_topic_of_state_that_would_lose_some_is_refused_with_the_commands_that_mend_it() {
    let test = "a_topic_of_state_that_would_lose_some_is_refused_with_the_commands_that_mend_it";
    let Some(kafka) = broker(test) else { return };
    let stage = Stage::new(test, kafka, &setup());
    let topic = topic(&stage);
    kafka.create_topic(&topic, 5, &[("cleanup.policy", "delete"), ("delete.retention.ms", "1000")]).unwrap();
    send_all(kafka, &stage.input, &[Rec::new("k", "a")]);
    let refused = |words: &[&str]| {
        let mut worker = Worker::start(&stage, 0);
        assert_eq!(worker.wait(LIMIT).code(), Some(1), "{}", worker.tail());
        for word in words {
            assert!(worker.log().contains(word), "nothing of {word:?}\n{}", worker.tail());
        }
    };
    let more = format!("--alter --topic {topic} --partitions 6");
    refused(&["has 5 partitions, its input 6", "keys have moved to other partitions, and their state has not", &more]);
    add_partitions(kafka, &topic, 6);
    let set = |setting: &str| format!("--entity-name {topic} --add-config {setting}");
    let (policy, tombstones) = (set("cleanup.policy=compact"), set("delete.retention.ms=604800000"));
    refused(&["retention takes state away that nobody changed for a while", &policy, &tombstones]);
    set_topic(kafka, &topic, &[("cleanup.policy", "compact"), ("delete.retention.ms", "604800000")]);
    let mut worker = Worker::start(&stage, 0);
    stage.wait_settled(&[&worker], 0, LIMIT);
    worker.stop(Duration::from_secs(20));
    judge(&stage, &Counts::from([(b"k".to_vec(), 1)]));
}
