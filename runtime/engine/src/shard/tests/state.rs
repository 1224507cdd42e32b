//! State: each message counts itself in the state of its lane.

use super::*;
use crate::order::OrderKey;
use crate::state::{Entry, Kept, Owner, Write};
use alloc::sync::Arc;
use core::cell::RefCell;

/// What is committed.
#[derive(Debug, Default)]
struct Log(RefCell<BTreeMap<Vec<u8>, Entry>>);

impl Kept for Log {
    fn get(&self, _: Partition, key: &[u8]) -> Option<Entry> {
        self.0.borrow().get(key).cloned()
    }

    fn scan(&self, _: Partition, _: &[u8], _: &[u8], _: usize, _: i64) -> Vec<(Arc<[u8]>, Entry)> {
        Vec::new()
    }
}

struct Counter {
    rig: Rig,
    log: Log,
    /// Of messages that are settled, in order, and not committed.
    open: Vec<(Partition, Vec<Change>)>,
}

impl Counter {
    fn new() -> Self {
        let rig = Rig::new(Policy { state: true, ..policy() });
        Self { rig, log: Log::default(), open: Vec::new() }
    }

    fn obey(&mut self, command: &str) -> String {
        self.rig.obey(command)
    }

    /// Runs the next batch; the answer is what each message counted, and what became of it.
    fn run(&mut self, outcomes: &str) -> String {
        let mut settled = Vec::new();
        let Next::Run(_) = self.rig.shard.next(self.rig.now, &NoPast, &NothingParked, &mut settled) else {
            return "nothing".into();
        };
        let mut call = self.rig.shard.lend_state().unwrap();
        assert!(self.rig.shard.lend_state().is_none());
        let mut told = String::new();
        for (slot, delivery) in self.rig.shard.batch().enumerate() {
            let owner = Owner::of(OrderKey::Key(&delivery.message.as_bytes()[..1])).unwrap();
            let at = (if delivery.message.as_bytes()[0].is_ascii_lowercase() { P0 } else { P1 }, &owner);
            let before = call.get(slot as u32, at, "n", 0, &self.log).unwrap().map_or(0, |value| value[0]);
            call.write(slot as u32, (at.0, owner.clone()), "n", Write::Put(&[before + 1], None)).unwrap();
            write!(told, "{}={} ", delivery.message, before + 1).unwrap();
        }
        self.rig.shard.return_state(call);
        match outcomes {
            "trap" => {
                let call = CallFailure { timeout: false, failure: Failure::default() };
                self.rig.shard.fail(call, self.rig.now, &mut settled);
            }
            "put_off" => self.rig.shard.put_off(),
            _ => {
                let all = outcomes.split(' ').map(outcome).collect();
                self.rig.shard.complete(all, 10, self.rig.now, &mut settled);
            }
        }
        let fates = fates(&settled);
        for one in settled {
            self.open.push((one.ticket.partition, one.changes));
        }
        format!("{told}:{fates}")
    }

    /// What is settled is committed.
    fn commit(&mut self) {
        for (partition, changes) in core::mem::take(&mut self.open) {
            for change in &changes {
                self.log.0.borrow_mut().insert(change.key.to_vec(), change.entry.clone().unwrap());
            }
            self.rig.shard.kept(partition, &changes);
        }
    }
}

#[test]
fn messages_see_what_those_before_them_left_committed_or_not() {
    let mut counter = Counter::new();
    counter.obey("put a1 b2 a3");
    assert_eq!(counter.run("done skip done"), "a1=1 a3=2 b2=1 : a1 done/0 a3 skipped/1 b2 done/2");
    counter.obey("put a4");
    assert_eq!(counter.run("done"), "a4=3 : a4 done/0");
    counter.commit();
    counter.obey("put a5 b6");
    assert_eq!(counter.run("done done"), "a5=4 b6=2 : a5 done/0 b6 done/1");
}

#[test]
fn what_fails_and_what_is_undone_behind_it_leave_nothing() {
    let mut counter = Counter::new();
    counter.obey("put a1 a2 b3");
    assert_eq!(counter.run("retry done done"), "a1=1 a2=2 b3=1 : b3 done/2");
    counter.obey("at 100");
    assert_eq!(counter.run("dead"), "a1=1 : a1 dead:rejected x2");
    counter.obey("ack a1");
    assert_eq!(counter.run("done"), "a2=1 : a2 done/0");
    counter.obey("put b4");
    assert_eq!(counter.run("done"), "b4=2 : b4 done/0");
}

#[test]
fn a_call_that_traps_or_is_put_off_leaves_nothing() {
    let mut counter = Counter::new();
    counter.obey("put a1 a2");
    assert_eq!(counter.run("put_off"), "a1=1 a2=2 :");
    assert_eq!(counter.run("trap"), "a1=1 a2=2 :");
    assert_eq!(counter.run("done"), "a1=1 : a1 done/0");
    assert_eq!(counter.run("done"), "a2=2 : a2 done/0");
}

#[test]
fn what_was_not_committed_is_forgotten_when_its_partition_starts_anew() {
    let mut counter = Counter::new();
    counter.obey("put a1 A1");
    assert_eq!(counter.run("done done"), "a1=1 A1=1 : a1 done/0 A1 done/1");
    counter.obey("open 0 2 0");
    counter.obey("put a1~2 A2");
    assert_eq!(counter.run("done done"), "a1=1 A2=2 : a1 done/0 A2 done/1");
    counter.obey("close 0 2");
    counter.obey("open 0 3 0");
    counter.obey("put a1~3");
    assert_eq!(counter.run("done"), "a1=1 : a1 done/0");
}

#[test]
fn a_message_whose_assignment_is_over_changes_nothing() {
    let mut counter = Counter::new();
    counter.obey("put a1");
    let mut settled = Vec::new();
    assert!(matches!(counter.rig.shard.next(counter.rig.now, &NoPast, &NothingParked, &mut settled), Next::Run(_)));
    let mut call = counter.rig.shard.lend_state().unwrap();
    let owner = Owner::of(OrderKey::Key(b"a")).unwrap();
    call.write(0, (P0, owner), "n", Write::Put(b"1", None)).unwrap();
    // It is closed, and comes back, while the call runs.
    counter.obey("open 0 2 0");
    counter.rig.shard.return_state(call);
    counter.rig.shard.complete([Outcome::Done].into(), 10, counter.rig.now, &mut settled);
    assert_eq!(settled[0].changes, []);
    counter.obey("put a1~2");
    assert_eq!(counter.run("done"), "a1=1 : a1 done/0");
}

#[test]
fn a_message_that_ends_after_its_partition_was_closed_is_committed_with_what_it_changes() {
    let mut counter = Counter::new();
    counter.obey("put a1 a2");
    let mut settled = Vec::new();
    assert!(matches!(counter.rig.shard.next(counter.rig.now, &NoPast, &NothingParked, &mut settled), Next::Run(_)));
    let mut call = counter.rig.shard.lend_state().unwrap();
    let owner = Owner::of(OrderKey::Key(b"a")).unwrap();
    for slot in 0..2 {
        call.write(slot, (P0, owner.clone()), "n", Write::Put(&[slot as u8 + 1], None)).unwrap();
    }
    counter.obey("close 0 1");
    counter.rig.shard.return_state(call);
    counter.rig.shard.complete([Outcome::Done, Outcome::Done].into(), 10, counter.rig.now, &mut settled);
    let values = settled.iter().map(|one| one.changes[0].entry.clone().unwrap().value[0]);
    assert_eq!(values.collect::<Vec<u8>>(), [1, 2]);
    assert_eq!(counter.rig.shard.changes_held(), 0);
}

#[test]
fn handlers_without_state_are_lent_none() {
    assert!(Rig::new(policy()).shard.lend_state().is_none());
    for guarantee in [Guarantee::AtLeastOnce, Guarantee::ExactlyOnce] {
        assert!(Rig::new(Policy { state: true, guarantee, ..policy() }).shard.lend_state().is_some());
    }
}
