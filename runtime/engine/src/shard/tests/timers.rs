//! Timers: they join their lane when they are due, run once, and are gone with what they did.

use super::*;
use crate::order::OrderKey;
use crate::parking::{First, Loaded as LoadedParked, Parked};
use crate::state::{Owner, Write};
use crate::timers::{self, Due, Loaded, Timer, Timers};
use alloc::sync::Arc;

/// What is committed: when each timer is due, by the key of its record, and its value. All of lane `a`.
#[derive(Debug, Default)]
struct Table(BTreeMap<Arc<[u8]>, Vec<u8>>);

impl Table {
    fn at_ms(&self, key: &[u8]) -> i64 {
        Timer::decode(&self.0[key]).unwrap().at_ms
    }

    fn all(&self) -> Vec<Due> {
        let mut all: Vec<Due> = self.0.keys().map(|key| (self.at_ms(key), key.clone())).collect();
        all.sort();
        all
    }
}

impl Timers<String> for Table {
    fn due(&self, task: Partition, after: Option<&Due>, until_ms: i64, most: usize) -> Vec<Due> {
        let wanted = |due: &Due| task == P0 && due.0 <= until_ms && after.is_none_or(|after| due > after);
        self.all().into_iter().filter(wanted).take(most).collect()
    }

    fn next_due(&self, task: Partition, after_ms: i64) -> Option<i64> {
        self.all().into_iter().map(|due| due.0).find(|at| task == P0 && *at > after_ms)
    }

    fn lane(&self, _: Partition, _: &[u8]) -> u64 {
        u64::from(b'a')
    }

    fn load(&self, _: Partition, key: &[u8]) -> Option<Loaded<String>> {
        let (number, (_, name)) = (timers::number(key, self.0.get(key)?), Owner::split(key)?);
        // Of one that is called so much memory is held.
        let size = if name.starts_with("large") { 9 << 20 } else { 10 };
        Some(Loaded { number, lane: self.lane(P0, key), size, at_ms: self.at_ms(key), message: name.into() })
    }
}

/// Whether anything of lane `a` is parked.
#[derive(Debug)]
struct Wall(bool);

impl Parked<String> for Wall {
    fn first(&self, _: Partition, _: u64, _: u64) -> Option<First> {
        self.0.then_some(First { number: 1, offset: 0, due_ms: i64::MAX, until: 0 })
    }
    fn last(&self, _: Partition, _: u64) -> Option<u64> {
        self.0.then_some(1)
    }
    fn stands(&self, _: Partition, _: i64) -> Option<(u64, u64)> {
        None
    }
    fn due(&self, _: Partition, _: Option<crate::parking::Due>, _: i64, _: usize) -> Vec<crate::parking::Due> {
        Vec::new()
    }
    fn next_due(&self, _: Partition, _: i64) -> Option<i64> {
        None
    }
    fn read(&self, _: Partition, _: u64, _: u64, _: usize, _: u64) -> Vec<LoadedParked<String>> {
        Vec::new()
    }
}

struct Clock {
    rig: Rig,
    table: Table,
    wall: Wall,
    /// Settled and not committed.
    open: Vec<Change>,
}

fn owner() -> Owner {
    timers::owner(&Owner::of(OrderKey::Key(b"a")).unwrap())
}

/// A timer's value, due so long after the clocks' beginning.
fn value(at_ms: i64) -> Vec<u8> {
    let (headers, payload) = (Vec::new(), &b""[..]);
    Timer { at_ms: WALL_MS + at_ms, offset: 1, hops: 0, key: None, headers, payload }.encode()
}

impl Clock {
    fn new() -> Self {
        Self::waiting_in_place(50)
    }

    /// So long a retry waits in memory at most.
    fn waiting_in_place(ms: u64) -> Self {
        let retry = Retry { in_place_ms: Some(ms), ..policy().retry };
        let rig = Rig::new(Policy { state: true, timers: true, retry, ..policy() });
        Self { rig, table: Table::default(), wall: Wall(false), open: Vec::new() }
    }

    fn set(&mut self, name: &str, at_ms: i64) {
        self.table.0.insert(owner().key(name).into(), value(at_ms));
    }

    fn at(&mut self, ms: u64) {
        self.rig.set_clock(ms);
    }

    /// What runs now: messages and timers, by name.
    fn next(&mut self) -> String {
        let mut settled = Vec::new();
        self.rig.shard.wake_timers(self.rig.now, &self.table, &self.wall);
        let next = self.rig.shard.next(self.rig.now, &NoPast, &self.wall, &mut settled);
        let mut said: Vec<String> = settled.iter().map(|s| format!("{}:{:?}", s.message, s.fate)).collect();
        self.keep(settled);
        match next {
            Next::Run(_) => said.extend(self.rig.shard.batch().map(|delivery| delivery.message.clone())),
            Next::Wait(until) => said.push(format!("wait {}", until.unwrap())),
        }
        said.join(" ")
    }

    /// The call ends so; its first slot wishes this of timers.
    fn end(&mut self, outcomes: &str, wishes: &[(&str, Option<i64>)]) -> String {
        let mut call = self.rig.shard.lend_state().unwrap();
        for (name, at_ms) in wishes {
            let value = at_ms.map(value);
            let write = value.as_ref().map_or(Write::Delete, |value| Write::Put(value, None));
            call.write(0, (P0, owner()), name, write).unwrap();
        }
        self.rig.shard.return_state(call);
        let mut settled = Vec::new();
        let outcomes = outcomes.split(' ').map(outcome).collect();
        self.rig.shard.complete(outcomes, 0, self.rig.now, &mut settled);
        let fate = |s: &Settled<String>| match &s.fate {
            Fate::DeadLetter(epitaph) => format!("dead:{}", epitaph.reason.as_str()),
            other => format!("{other:?}").to_lowercase(),
        };
        let said: Vec<String> = settled.iter().map(|s| format!("{} {}", s.message, fate(s))).collect();
        self.keep(settled);
        said.join(" ")
    }

    fn keep(&mut self, settled: Vec<Settled<String>>) {
        self.open.extend(settled.into_iter().flat_map(|settled| settled.changes));
    }

    /// What is settled is committed; gives what it changed.
    fn commit(&mut self) -> String {
        let changes = core::mem::take(&mut self.open);
        let mut said = Vec::new();
        for change in &changes {
            let (_, name) = Owner::split(&change.key).unwrap();
            match &change.entry {
                Some(entry) => drop(self.table.0.insert(change.key.clone(), entry.value.to_vec())),
                None => drop(self.table.0.remove(&change.key)),
            }
            said.push(format!("{}{name}", if change.entry.is_some() { '+' } else { '-' }));
        }
        self.rig.shard.kept(P0, &changes);
        said.join(" ")
    }
}

#[test]
fn a_timer_runs_when_it_is_due_behind_what_is_there_and_once() {
    let mut clock = Clock::new();
    clock.set("t", 100);
    assert_eq!(clock.next(), "wait 100");
    clock.rig.obey("put a1");
    assert_eq!(clock.next(), "a1");
    clock.at(100);
    clock.rig.obey("put a2");
    assert_eq!(clock.end("done", &[]), "a1 done");
    // It joins behind what came before, and shares its call with nothing that runs before it.
    assert_eq!(clock.next(), "a2");
    clock.rig.obey("put a3");
    assert_eq!(clock.end("done", &[]), "a2 done");
    assert_eq!(clock.next(), "t a3");
    assert_eq!(clock.end("done done", &[]), "t done a3 done");
    for ms in [101, 700] {
        clock.at(ms);
        assert!(clock.next().starts_with("wait"), "it is gone, though no commit is known");
    }
    assert_eq!(clock.commit(), "-t");
    clock.at(2_000);
    assert!(clock.next().starts_with("wait"));
    assert_eq!(clock.rig.obey("load"), "lanes 0 waiting 0 letters 0 ids 0");
}

#[test]
fn what_ran_before_a_timer_may_cancel_or_replace_it() {
    let mut clock = Clock::new();
    clock.set("t", 100);
    clock.set("u", 100);
    clock.at(100);
    clock.rig.obey("put a1");
    assert_eq!(clock.next(), "a1");
    assert_eq!(clock.end("done", &[("t", None), ("u", Some(500))]), "a1 done");
    assert!(clock.next().starts_with("wait"));
    assert_eq!(clock.commit(), "-t +u");
    assert_eq!(clock.next(), "wait 500");
    clock.at(500);
    assert_eq!(clock.next(), "u");
}

#[test]
fn what_failed_has_set_and_cancelled_nothing() {
    let mut clock = Clock::new();
    clock.set("t", 100);
    clock.rig.obey("put a1");
    assert_eq!(clock.next(), "a1");
    clock.at(100);
    assert_eq!(clock.end("dead", &[("t", None), ("v", Some(0))]), "a1 dead:rejected");
    assert!(clock.next().starts_with("wait"), "its lane waits for the letter");
    clock.rig.obey("ack a1");
    assert_eq!(clock.next(), "t");
    assert_eq!(clock.commit(), "");
}

#[test]
fn a_timer_that_sets_itself_runs_again_at_its_new_time_once_that_is_committed() {
    let mut clock = Clock::new();
    clock.set("t", 100);
    clock.at(100);
    assert_eq!(clock.next(), "t");
    assert_eq!(clock.end("done", &[("t", Some(90))]), "t done");
    assert!(clock.next().starts_with("wait"));
    assert_eq!(clock.commit(), "+t");
    assert_eq!(clock.next(), "t");
}

#[test]
fn a_timer_that_fails_waits_in_its_lane_and_is_gone_with_its_dead_letter() {
    let mut clock = Clock::waiting_in_place(500);
    clock.set("t", 0);
    assert_eq!(clock.next(), "t");
    clock.rig.obey("put a1");
    assert_eq!(clock.end("retry", &[("t", Some(7)), ("v", Some(0))]), "");
    assert_eq!(clock.next(), "wait 100");
    clock.at(100);
    assert_eq!(clock.next(), "t");
    assert_eq!(clock.end("retry", &[]), "");
    clock.at(300);
    assert_eq!(clock.next(), "t");
    assert_eq!(clock.end("retry", &[("v", Some(0))]), "t dead:attempts");
    assert_eq!(clock.commit(), "-t");
    assert!(clock.next().starts_with("wait"));
    let number = timers::number(&owner().key("t"), &value(0));
    clock.rig.shard.letter_acknowledged(P0, Epoch(1), number);
    assert_eq!(clock.next(), "a1");
}

#[test]
fn a_timer_whose_retry_is_due_later_is_parked_set_no_more_and_what_comes_is_parked_behind_it() {
    let mut clock = Clock::new();
    clock.set("t", 0);
    assert_eq!(clock.next(), "t");
    let said = clock.end("retry", &[("t", Some(7)), ("v", Some(0))]);
    assert!(said.starts_with("t parked(waiting { number: 1, "), "{said}");
    clock.rig.obey("put a1");
    let said = clock.next();
    assert!(said.starts_with("a1:Parked(Waiting { number: 2, "), "{said}");
    assert_eq!(clock.commit(), "-t");
    clock.at(5_000);
    assert!(clock.next().starts_with("wait"), "it comes from the retry topic");
}

#[test]
fn timers_that_wait_for_a_retry_take_no_room_from_others_and_those_that_may_run_do() {
    let mut clock = Clock::waiting_in_place(500);
    for n in 0..600 {
        clock.set(&format!("{n:03}"), n);
    }
    clock.at(1_000);
    // All of one lane: the first fails, the others wait behind it.
    assert_eq!(clock.next(), "000");
    assert_eq!(clock.end("retry", &[]), "");
    assert!(clock.next().starts_with("wait"));
    let loaded = |clock: &Clock| clock.rig.shard.timing.as_ref().map_or(0, |timing| timing.loaded());
    assert!(loaded(&clock) > 256, "{}", loaded(&clock));
    let mut clock = Clock::new();
    for n in 0..600 {
        clock.set(&format!("{n:03}"), n);
    }
    clock.at(1_000);
    assert_eq!(clock.next(), "000");
    assert_eq!(loaded(&clock), 256);
}

#[test]
fn large_timers_are_loaded_a_few_at_a_time_and_all_come() {
    let mut clock = Clock::new();
    for n in 0..20 {
        clock.set(&format!("large{n:02}"), n);
    }
    clock.at(1_000);
    let mut ran = 0;
    while ran < 20 {
        let said = clock.next();
        if let Some(until) = said.strip_prefix("wait ") {
            clock.at(until.parse().unwrap());
            continue;
        }
        assert!(clock.rig.shard.timing.as_ref().is_some_and(|timing| timing.loaded() <= 4));
        assert_eq!(said, format!("large{ran:02}"));
        clock.end("done", &[]);
        clock.commit();
        ran += 1;
    }
    assert_eq!(clock.rig.shard.timing.as_ref().map(|timing| timing.loaded()), Some(0));
}

#[test]
fn a_look_goes_on_behind_what_was_seen_and_comes_back_for_what_is_set_before_it() {
    let mut clock = Clock::new();
    clock.set("a", 100);
    clock.set("b", 200);
    clock.at(200);
    for name in ["a", "b"] {
        assert_eq!(clock.next(), name);
        assert_eq!(clock.end("done", &[]), format!("{name} done"));
    }
    // Behind what runs now: nothing tells of it, so it is not looked for.
    clock.set("unheard", 150);
    assert_eq!(clock.commit(), "-a -b");
    clock.at(300);
    clock.rig.obey("put a1");
    assert_eq!(clock.next(), "a1");
    assert_eq!(clock.end("done", &[("late", Some(120)), ("later", Some(400))]), "a1 done");
    assert_eq!(clock.commit(), "+late +later");
    // What was not heard of stands behind it, and is found with it.
    for name in ["late", "unheard"] {
        assert_eq!(clock.next(), name);
        assert_eq!(clock.end("done", &[]), format!("{name} done"));
    }
    assert_eq!(clock.next(), "wait 400");
    clock.at(400);
    assert_eq!(clock.next(), "later");
}

#[test]
fn a_timer_waits_until_nothing_of_its_lane_is_parked() {
    let mut clock = Clock::new();
    clock.set("t", 0);
    clock.wall.0 = true;
    assert_eq!(clock.next(), "wait 20");
    clock.at(20);
    assert_eq!(clock.next(), "wait 40");
    clock.wall.0 = false;
    clock.at(40);
    assert_eq!(clock.next(), "t");
}

#[test]
fn a_partition_that_starts_anew_runs_what_is_committed_again() {
    let mut clock = Clock::new();
    clock.set("t", 0);
    assert_eq!(clock.next(), "t");
    assert_eq!(clock.end("done", &[]), "t done");
    clock.open.clear();
    clock.rig.obey("open 0 2 0");
    assert_eq!(clock.next(), "t");
    clock.rig.obey("close 0 2");
    assert_eq!(clock.end("done", &[]), "t done");
    assert!(clock.next().starts_with("wait"));
    assert_eq!(clock.open.len(), 1, "what ran when it was taken away is still committed");
}

#[test]
fn a_timer_whose_outputs_are_never_taken_becomes_its_dead_letter_unrun() {
    let mut clock = Clock::new();
    clock.set("t", 0);
    let number = timers::number(&owner().key("t"), &value(0));
    clock.rig.shard.condemn(P0, alloc::vec![number]);
    clock.rig.obey("open 0 2 0");
    assert!(clock.next().starts_with("t:DeadLetter(Epitaph { reason: Undeliverable"));
    assert_eq!(clock.commit(), "-t");
}

#[test]
fn many_that_are_due_come_in_their_order() {
    let mut clock = Clock::new();
    for n in 0..1_000 {
        clock.set(&format!("{n:04}"), 999 - n);
    }
    clock.at(1_000);
    let mut ran = Vec::new();
    while ran.len() < 1_000 {
        let said = clock.next();
        if let Some(until) = said.strip_prefix("wait ") {
            assert!(clock.rig.shard.load().lanes == 0);
            clock.at(until.parse().unwrap());
            continue;
        }
        ran.push(said);
        clock.end("done", &[]);
        clock.commit();
    }
    assert!(ran.iter().rev().enumerate().all(|(n, name)| *name == format!("{n:04}")));
}
