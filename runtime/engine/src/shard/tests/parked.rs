//! Lanes whose messages wait in the retry topic.

use super::*;
use crate::parking::{self, Change, Due, First, Loaded, Parked};

/// What is committed, and what is not yet. Numbers stand in for the lanes' order only.
#[derive(Debug, Default)]
pub(super) struct Store {
    committed: BTreeMap<(Partition, u64, u64), Loaded<String>>,
    staged: Vec<(Partition, Change, Option<Loaded<String>>)>,
}

impl Store {
    pub(super) fn stage(&mut self, settled: &[Settled<String>]) {
        for Settled { ticket, message, fate, .. } in settled {
            let (written, number, loaded) = match parking::written(fate) {
                Some(waiting) => {
                    let loaded = Loaded {
                        offset: ticket.offset,
                        id: ticket.id,
                        refused: None,
                        size: ticket.size,
                        timestamp_ms: ticket.timestamp_ms,
                        waiting: waiting.clone(),
                        message: message.clone(),
                    };
                    (Some(crate::pipeline::Token(1)), waiting.number, Some(loaded))
                }
                _ if ticket.parked > 0 => (None, ticket.parked, None),
                _ => continue,
            };
            let change = Change { lane: ticket.lane, offset: ticket.offset, number, written };
            self.staged.push((ticket.partition, change, loaded));
        }
    }

    /// What is staged is not committed.
    pub(super) fn give_up(&mut self) {
        self.staged.clear();
    }

    fn lane(&self, partition: Partition, lane: u64, from: u64) -> impl Iterator<Item = &Loaded<String>> {
        self.committed.range((partition, lane, from)..=(partition, lane, u64::MAX)).map(|(_, loaded)| loaded)
    }

    fn firsts(&self, partition: Partition) -> BTreeSet<Due> {
        let mut lanes: Vec<u64> = self.committed.keys().filter(|k| k.0 == partition).map(|k| k.1).collect();
        lanes.dedup();
        lanes.into_iter().map(|lane| (self.lane(partition, lane, 0).next().unwrap().waiting.due_ms, lane)).collect()
    }
}

impl Parked<String> for Store {
    fn first(&self, partition: Partition, lane: u64, from: u64) -> Option<First> {
        let first = self.lane(partition, lane, from).next()?;
        Some(First {
            number: first.waiting.number,
            offset: first.offset,
            due_ms: first.waiting.due_ms,
            until: first.waiting.given_up.map_or(0, |given_up| given_up.until),
        })
    }

    fn last(&self, partition: Partition, lane: u64) -> Option<u64> {
        self.lane(partition, lane, 0).last().map(|last| last.waiting.number)
    }

    fn stands(&self, partition: Partition, offset: i64) -> Option<(u64, u64)> {
        let found = self.committed.iter().find(|((p, ..), loaded)| *p == partition && loaded.offset == offset);
        found.map(|((_, lane, number), _)| (*lane, *number))
    }

    fn due(&self, partition: Partition, after: Option<Due>, until_ms: i64, most: usize) -> Vec<Due> {
        let firsts = self.firsts(partition);
        let due = firsts.into_iter().filter(|due| due.0 <= until_ms && after.is_none_or(|after| *due > after));
        due.take(most).collect()
    }

    fn next_due(&self, partition: Partition, after_ms: i64) -> Option<i64> {
        self.firsts(partition).into_iter().map(|due| due.0).find(|due| *due > after_ms)
    }

    fn read(&self, partition: Partition, lane: u64, from: u64, most: usize, _: u64) -> Vec<Loaded<String>> {
        self.lane(partition, lane, from).take(most.min(3)).cloned().collect()
    }
}

impl Rig {
    /// `covered PARTITION EPOCH POINT`, or `all`.
    pub(super) fn covered(&mut self, words: &[&str]) {
        let [number, epoch, point] = words else { panic!("covered what? {words:?}") };
        let point = point.parse().ok();
        let progress = point.map(|point| crate::tracker::Progress { point, settled: Ranges::new() });
        let partition = Partition { topic: 0, number: number.parse().unwrap() };
        self.shard.covered(partition, Epoch(epoch.parse().unwrap()), progress);
    }

    /// What was staged is committed.
    pub(super) fn commit(&mut self) -> String {
        let mut text = String::new();
        for (partition, change, loaded) in core::mem::take(&mut self.parked.staged) {
            let resolved = if change.written.is_none() { "-" } else { "" };
            write!(text, " {}:{}{resolved}", char::from(change.lane as u8), change.number).unwrap();
            let key = (partition, change.lane, change.number);
            match loaded {
                Some(loaded) => drop(self.parked.committed.insert(key, loaded)),
                None => drop(self.parked.committed.remove(&key).unwrap()),
            }
            let epoch = self.shard.epochs[&partition];
            self.shard.parked(partition, epoch, &[change]);
        }
        text.trim().into()
    }
}

/// What is due within 150 ms waits in memory; back-off 100, 200, 400 ms.
fn parking() -> Policy {
    let policy = policy();
    let retry = Retry { attempts: 4, in_place_ms: Some(150), ..policy.retry.clone() };
    Policy { guarantee: Guarantee::ExactlyOnce, retry, ..policy }
}

#[test]
fn what_is_due_soon_waits_in_memory_and_what_is_due_later_is_parked() {
    check(
        parking(),
        "put a1
         next => run a1 in 1000
         end retry => retried 1
         next => wait 100
         at 100
         next => run a1x2 in 1000
         end retry => a1 parked x2 retried 1
         load => lanes 0 waiting 0 letters 0 ids 0
         commit => a:1
         next => wait 300
         at 299
         next => wait 300
         at 300
         next => run a1x3 in 1000
         end done => a1 done/0 x3
         commit => a:1-
         next => wait 800
         load => lanes 0 waiting 0 letters 0 ids 0",
    );
}

#[test]
fn what_arrives_for_a_lane_whose_head_is_parked_is_parked_behind_it() {
    check(
        parking(),
        "put a1 a2
         next => run a1 a2 in 2000
         end retry500 done => a1 parked retried 1 undone 1
         next => a2 parked x0 wait 500
         put a3 b4
         next => a3 parked x0 run b4 in 1000
         end done => b4 done/0
         commit => a:1 a:2 a:3
         put a5
         next => a5 parked x0 wait 500
         commit => a:4
         at 500
         next => run a1x2 in 1000
         end done => a1 done/0 x2
         next => run a2 a3 a5 in 3000
         end done done done => a2 done/0 a3 done/1 a5 done/2
         next => wait 1000
         put a6
         next => run a6 in 1000
         end done => a6 done/0
         commit => a:1- a:2- a:3- a:4-
         put a7
         next => run a7 in 1000
         end done => a7 done/0",
    );
}

#[test]
fn a_lane_with_too_many_behind_one_that_waits_in_memory_is_parked() {
    let crowded = Policy { retry: Retry { in_place_most: 2, ..parking().retry }, ..parking() };
    check(
        crowded,
        "put a1
         next => run a1 in 1000
         end retry => retried 1
         put a2
         next => wait 100
         put a3 b9
         next => a1 parked a2 parked x0 a3 parked x0 run b9 in 1000
         end done => b9 done/0
         commit => a:1 a:2 a:3
         next => wait 100
         at 100
         next => run a1x2 in 1000
         end done => a1 done/0 x2
         next => run a2 a3 in 2000
         end done done => a2 done/0 a3 done/1
         next => wait 600
         commit => a:1- a:2- a:3-
         load => lanes 0 waiting 0 letters 0 ids 0",
    );
}

#[test]
fn a_head_that_is_parked_again_takes_nothing_along_that_is_parked_behind_it() {
    check(
        parking(),
        "put a1 a2
         next => run a1 a2 in 2000
         end retry500 done => a1 parked retried 1 undone 1
         next => a2 parked x0 wait 500
         commit => a:1 a:2
         at 500
         next => run a1x2 in 1000
         put a3
         end retry300 => a1 parked x2 retried 1
         next => a3 parked x0 wait 1000
         at 900
         next => wait 1000
         commit => a:1 a:3
         next => run a1x3 in 1000
         end dead => a1 dead:rejected x3
         next => wait 1400
         ack a1
         next => run a2+ a3+ in 2000
         end done done => a2 done/0 a3 done/1
         commit => a:1- a:2- a:3-",
    );
}

#[test]
fn what_starts_anew_forgets_what_was_not_committed() {
    check(
        parking(),
        "put a1
         next => run a1 in 1000
         end retry500 => a1 parked retried 1
         open 0 2 1
         put a1~2
         next => run a1 in 1000
         end done => a1 done/0
         load => lanes 0 waiting 0 letters 0 ids 0",
    );
}

/// It is known by its offset; what comes before it runs first, and what failed before the crash keeps its attempts.
#[test]
fn without_transactions_what_no_commit_covers_waits_until_it_has_come_again() {
    let policy = Policy { guarantee: Guarantee::AtLeastOnce, ..parking() };
    check(
        policy,
        "covered 0 1 all
         put a2 a4
         next => run a2 a4 in 2000
         end retry500 done => a2 parked retried 1 undone 1
         next => a4 parked x0 wait 500
         commit => a:3 a:5
         open 0 2 1
         covered 0 2 1
         at 500
         next => wait 1000
         put a1~2
         next => run a1 in 1000
         end done => a1 done/0
         put a2~2
         next => a2 known x0 wait 1000
         put a3~2
         next => a3 parked x0 wait 1000
         covered 0 2 3
         next => run a2x2 in 1000
         end done => a2 done/0 x2
         next => wait 1000
         commit => a:4 a:3-
         put a4~2
         next => a4 known x0 wait 520
         covered 0 2 all
         next => run a3 a4 in 2000",
    );
}
