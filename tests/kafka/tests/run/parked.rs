//! Parked messages under kills, changes of the group and processes that sleep.
//!
//! The handler `tally` counts each key's messages in its state; of five messages one fails, and waits in the retry topic with what
//! comes behind it. What runs out of its order, twice, or not at all shows in the counts.

use crate::client::{Rec, is_there, read_all};
use crate::feed::{Plan, plan};
use crate::kills::{self, SHORT, freeze, kill_at_random_with};
use crate::points::{Load, all_points_under};
use crate::stage::{Setup, Stage};
use crate::storms::storm_for;
use std::collections::BTreeMap;
use std::time::Duration;

const RETRY: &str = "[retry]\nattempts = 3\nin-place = \"0s\"\n\
     backoff = { first = \"400ms\", factor = 1.0, max = \"400ms\", jitter = 0.5 }";

fn setup() -> Setup<'static> {
    Setup { guest: "tally", tables: RETRY, kafka: SHORT, ..Setup::default() }
}

fn counted(keys: usize, rate: u64, least: u64) -> Plan {
    Plan { counted: true, ..plan(keys, rate, least) }
}

/// A message of each of these keys, and so many behind it: of three keys two have one that fails first.
pub(crate) fn heads_and_followers(keys: usize, followers: usize) -> Vec<Rec> {
    let record = |n: usize, key: usize| {
        let (key, bad) = (format!("k{key}"), key % 3 != 2);
        let value = if n == 0 && bad { format!("fail 9 {key}") } else { format!("{key}-{n}") };
        Rec::new(&key, value)
    };
    (0..=followers).flat_map(|n| (0..keys).map(move |key| record(n, key))).collect()
}

/// How many messages are parked.
pub(crate) fn waiting(stage: &Stage<'_>) -> usize {
    let topic = format!("{}.{}.retry", stage.group, stage.input);
    if !is_there(stage.kafka, &topic) {
        return 0;
    }
    let mut last = BTreeMap::new();
    for record in read_all(stage.kafka, &topic) {
        last.insert(record.key, record.value.is_some());
    }
    last.values().filter(|waits| **waits).count()
}

#[test]
fn three_workers_killed_at_random_leave_nothing_parked_out_and_run_nothing_twice() {
    let test = "three_workers_killed_at_random_leave_nothing_parked_out_and_run_nothing_twice";
    let kills = kills::kills(5);
    kill_at_random_with(test, &setup(), 3, kills, counted(300, 400, kills * 1_500));
}

/// No state is counted: what is repeated would count again.
#[test]
fn with_at_least_once_three_workers_killed_at_random_leave_nothing_parked_out_and_keep_order() {
    let test = "with_at_least_once_three_workers_killed_at_random_leave_nothing_parked_out_and_keep_order";
    let kills = kills::kills(5);
    let setup = Setup { guarantee: "at-least-once", tables: RETRY, kafka: SHORT, ..Setup::default() };
    kill_at_random_with(test, &setup, 3, kills, plan(300, 900, kills * 3_000));
}

#[test]
fn a_worker_killed_at_any_named_point_leaves_nothing_parked_out_and_runs_nothing_twice() {
    let test = "a_worker_killed_at_any_named_point_leaves_nothing_parked_out_and_runs_nothing_twice";
    let load = Load { guest: "tally", guarantee: "exactly-once", retry: RETRY, plan: counted(100, 300, 0) };
    all_points_under(test, load, 1);
}

#[test]
fn parked_keys_go_to_members_that_join_and_leave() {
    let test = "parked_keys_go_to_members_that_join_and_leave";
    storm_for(test, &setup(), counted(200, 300, 3_000), Duration::from_secs(12));
}

#[test]
fn a_frozen_worker_that_wakes_runs_nothing_parked_twice() {
    freeze("a_frozen_worker_that_wakes_runs_nothing_parked_twice", &setup(), counted(200, 400, 4_000), 0);
}
