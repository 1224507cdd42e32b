//! The ledger against chance: refusals, letters, failed commits, revokes and losses in any order.

use super::*;
use crate::testing::Dice;
use alloc::collections::{BTreeMap, BTreeSet};

const END: i64 = 60;

/// One partition, its broker, and a worker that gives it up and takes it back.
struct World {
    rig: Rig,
    dice: Dice,
    epoch: u64,
    /// Next offset to deliver in this epoch, and what is delivered and has no fate yet.
    next: i64,
    skip: Ranges,
    waiting: BTreeSet<i64>,
    /// Publications under way: offset, epoch, records without a report, one refused.
    sent: BTreeMap<Token, (i64, u64, u32, bool)>,
    /// All that it sends is written.
    written: BTreeSet<i64>,
    /// What stands at the broker.
    committed: (i64, Ranges),
    commits: Vec<(u64, Vec<CommitOffset>)>,
    /// The shards still to answer a revoke.
    draining: u32,
    given_up: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut world = Self {
            rig: rig(),
            dice: Dice(seed),
            epoch: 0,
            next: 0,
            skip: Ranges::new(),
            waiting: BTreeSet::new(),
            sent: BTreeMap::new(),
            written: BTreeSet::new(),
            committed: (0, Ranges::new()),
            commits: Vec::new(),
            draining: 0,
            given_up: false,
        };
        world.start(0, Ranges::new());
        world
    }

    fn start(&mut self, start: i64, settled: Ranges) {
        self.epoch += 1;
        (self.next, self.skip, self.given_up, self.draining) = (start, settled.clone(), false, 0);
        self.waiting.clear();
        let opened = Opened { settled, ..opened(self.epoch, start, &[]) };
        self.rig.pipeline.opened(P0, &opened, self.rig.now, &mut self.rig.actions);
    }

    fn step(&mut self) {
        self.rig.now.steady_ms += self.dice.roll(8);
        let now = self.rig.now;
        match self.dice.roll(12) {
            0..3 if self.next < END && !self.given_up => {
                self.rig.pipeline.received(P0, Epoch(self.epoch), self.next, self.next, now);
                if !self.skip.contains(self.next) {
                    self.waiting.insert(self.next);
                }
                self.next += 1;
            }
            3..6 => self.decide(),
            6..10 => self.report(),
            10 => self.end_commit(),
            _ => self.move_ownership(),
        }
        self.rig.pipeline.tick(now, &mut self.rig.actions);
        self.act();
    }

    fn any<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        (!from.is_empty()).then(|| from[self.dice.roll(from.len() as u64) as usize])
    }

    /// A shard decides a fate: done with some records, or a dead letter.
    fn decide(&mut self) {
        let waiting: Vec<i64> = self.waiting.iter().copied().collect();
        let Some(offset) = self.any(&waiting) else { return };
        self.waiting.remove(&offset);
        let records = self.dice.roll(3) as u32;
        let fate = if self.dice.roll(8) == 0 { Fate::DeadLetter(epitaph()) } else { Fate::Done };
        let epoch = format!("e={}", self.epoch);
        let settled = settled(&format!("{offset}"), &[&epoch], fate.clone());
        let unsent = matches!(fate, Fate::Done) && records == 0;
        match self.rig.pipeline.publish(settled, records, self.rig.now, &mut self.rig.actions) {
            Some(token) => {
                self.sent.insert(token, (offset, self.epoch, records, false));
            }
            // What it answers does not tell whether it counted: it may have been thrown away.
            None if unsent => {
                self.written.insert(offset);
            }
            None => {}
        }
    }

    /// The broker reports on one record.
    fn report(&mut self) {
        let tokens: Vec<Token> = self.sent.keys().copied().collect();
        let Some(token) = self.any(&tokens) else { return };
        let entry = self.sent.get_mut(&token).unwrap();
        entry.2 -= 1;
        let (now, actions) = (self.rig.now, &mut self.rig.actions);
        match self.dice.roll(8) {
            0 => {
                entry.3 = true;
                self.rig.pipeline.refused(token, Refusal::Blocked("no".into()), now, actions);
            }
            1 => {
                entry.3 = true;
                self.rig.pipeline.refused(token, Refusal::Undeliverable("no".into()), now, actions);
            }
            _ => {
                if entry.2 == 0 && !entry.3 {
                    self.written.insert(entry.0);
                }
                self.rig.pipeline.acknowledged(token, now, actions);
            }
        }
        if self.sent[&token].2 == 0 {
            self.sent.remove(&token);
        }
    }

    fn end_commit(&mut self) {
        let Some((number, offsets)) = self.commits.pop() else { return };
        let reached = self.dice.roll(3) > 0;
        if reached && !self.given_up {
            self.write_down(&offsets);
        }
        // It may have reached the broker and be answered as failed, not the other way round.
        self.rig.pipeline.commit_finished(number, reached && self.dice.roll(4) > 0);
    }

    /// What a commit claims must be written, all of it.
    fn write_down(&mut self, offsets: &[CommitOffset]) {
        for o in offsets {
            let settled = Metadata::decode(&o.metadata, o.offset, END).unwrap().settled;
            let claimed = (0..o.offset).chain(settled.iter().flat_map(|(from, to)| from..to));
            claimed.for_each(|c| assert!(self.written.contains(&c), "{c} is committed and was never written"));
            self.committed = (o.offset, settled);
        }
    }

    fn move_ownership(&mut self) {
        let (now, actions) = (self.rig.now, &mut self.rig.actions);
        if self.given_up {
            if self.draining > 0 {
                self.draining -= 1;
                self.rig.pipeline.drained(P0, Epoch(self.epoch), now, actions);
            }
        } else if self.dice.roll(4) == 0 {
            self.given_up = true;
            self.draining = 2;
            self.rig.pipeline.revoke([P0].into(), now, actions);
        } else if self.dice.roll(4) == 0 {
            self.rig.pipeline.lost(&[P0], now, actions);
            self.commits.clear();
            let (start, settled) = self.committed.clone();
            self.start(start, settled);
        }
    }

    fn act(&mut self) {
        while !self.rig.actions.is_empty() {
            for action in core::mem::take(&mut self.rig.actions) {
                match action {
                    Action::DeadLetter { token, .. } => {
                        let ticket = self.rig.pipeline.publication(token).unwrap().ticket;
                        self.sent.insert(token, (ticket.offset, ticket.epoch.0, 1, false));
                    }
                    Action::Commit { number, offsets } => {
                        // Those before it were given up.
                        self.commits = [(number, offsets)].into();
                    }
                    Action::CommitAndRelease { offsets, .. } => {
                        self.commits.clear();
                        self.write_down(&offsets);
                        self.rig.pipeline.released();
                        let (start, settled) = self.committed.clone();
                        self.start(start, settled);
                    }
                    Action::Rewind(all) => {
                        assert!(!self.given_up);
                        all.into_iter().for_each(|(_, start, settled)| self.start(start, settled));
                    }
                    _ => {}
                }
            }
        }
    }
}

#[test]
fn whatever_happens_only_what_is_written_is_committed_and_all_is_in_the_end() {
    for seed in 0..80 {
        let mut world = World::new(seed);
        let mut steps = 0;
        while world.committed.0 < END {
            world.step();
            steps += 1;
            assert!(steps < 50_000, "seed {seed}: stuck at {:?}", world.committed);
        }
        assert_eq!(world.written.len() as i64, END);
    }
}
