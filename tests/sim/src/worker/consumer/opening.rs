//! How a partition starts: from what the group has committed.

use super::{Busy, Consumer, Feed};
use crate::coverage::Action;
use crate::env::Env;
use crate::model::group::Committed;
use crate::record::{SLOTS_PER_TOPIC, index_of, partition_of};
use crate::trace::Who;
use crate::worker::{Mail, ToCommitter, ToShard};
use keyrail_engine::intake::{Found, From, Opened};
use keyrail_engine::message::{Epoch, Partition};
use keyrail_engine::planted::Bug;
use keyrail_engine::shard::NOTHING_SEEN;

/// Partitions that the group gives.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Opening {
    partitions: Vec<u16>,
    /// When the broker has answered, at the earliest.
    at_ms: u64,
    /// What it said, for each.
    told: Vec<Told>,
}

impl Opening {
    pub(super) const fn new(partitions: Vec<u16>, at_ms: u64) -> Self {
        Self { partitions, at_ms, told: Vec::new() }
    }
}

/// What the broker says of a partition: what is committed first, and then where its seen ids end.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    committed: Option<Committed>,
    marks_end: usize,
}

/// A partition that is to start anew within its assignment.
#[derive(Debug)]
pub(super) struct Restart {
    partition: Partition,
    /// Where it starts if nothing is committed.
    first: i64,
    /// What it is to end; anything else is no business of this.
    epoch: Epoch,
    /// When the broker has answered, at the earliest.
    at_ms: u64,
    told: Option<Told>,
}

impl Consumer {
    /// Asks for what is committed, then for the ends of the seen ids; reads those, and starts the partitions.
    pub(super) fn go_on_opening(&mut self, mut opening: Opening, mail: &mut Mail, env: &mut Env) -> bool {
        let asked = !opening.told.is_empty();
        let known = env.now_ms >= opening.at_ms && (asked || self.is_known(&opening.partitions, env));
        if known && !asked {
            opening.told = opening.partitions.iter().map(|p| self.ask(*p, env)).collect();
        }
        let read = |(p, t): (&u16, &Told)| env.coordinator.marks_stable_end(*p) >= t.marks_end;
        if !known || env.down_until_ms > env.now_ms || !opening.partitions.iter().zip(&opening.told).all(read) {
            self.busy = Busy::Opening(opening);
            return false;
        }
        for (partition, told) in opening.partitions.into_iter().zip(opening.told) {
            read_marks(partition, told.marks_end, mail, env);
            self.open(partition_of(partition), told.committed, mail, env);
        }
        true
    }

    fn ask(&self, partition: u16, env: &mut Env) -> Told {
        let stable = self.planted == Some(Bug::MarksToStable);
        let coordinator = &mut env.coordinator;
        let marks_end = if stable { coordinator.marks_stable_end(partition) } else { coordinator.marks_end(partition) };
        Told { committed: env.group.committed(partition).cloned(), marks_end }
    }

    /// Whether the broker tells what is committed for these partitions: it does not while that is under way.
    pub(super) fn is_known(&self, partitions: &[u16], env: &Env) -> bool {
        let stable = |p: &u16| !env.coordinator.is_pending(*p) || self.planted == Some(Bug::UnstableOffsets);
        env.down_until_ms <= env.now_ms && partitions.iter().all(stable)
    }

    /// The committer asks for a new start; the broker is asked what is committed.
    pub(super) fn plan_restarts(&mut self, partitions: Vec<(Partition, i64)>, mail: &mut Mail, env: &mut Env) {
        if env.reach(mail.worker, Action::Restart) {
            return;
        }
        for (partition, first) in partitions {
            if let Some(epoch) = self.intake.epoch(partition) {
                let at_ms = env.now_ms + env.rng.within(0, 40);
                self.restarts.push(Restart { partition, first, epoch, at_ms, told: None });
            }
        }
    }

    /// Starts anew what the broker has answered for.
    pub(super) fn restart(&mut self, mail: &mut Mail, env: &mut Env) {
        for mut restart in std::mem::take(&mut self.restarts) {
            if self.intake.epoch(restart.partition) != Some(restart.epoch) {
                continue;
            }
            let number = index_of(restart.partition);
            let hasty = self.planted == Some(Bug::RestartBeforeRenewal);
            if restart.told.is_none() && restart.at_ms <= env.now_ms && (hasty || self.is_known(&[number], env)) {
                restart.told = Some(self.ask(number, env));
            }
            let once = self.planted == Some(Bug::MarksOnceOnly);
            let ends = |t: &mut Told| once || env.coordinator.marks_stable_end(number) >= t.marks_end;
            match restart.told.take_if(ends) {
                None => self.restarts.push(restart),
                Some(told) => {
                    if !once {
                        read_marks(number, told.marks_end, mail, env);
                    }
                    self.reopen(restart.partition, restart.first, told.committed, mail, env);
                }
            }
        }
    }

    fn reopen(
        &mut self,
        partition: Partition,
        first: i64,
        committed: Option<Committed>,
        mail: &mut Mail,
        env: &mut Env,
    ) {
        let found = found(partition, committed.as_ref(), env);
        let opened = self.intake.reopen(partition, &found, first);
        self.tell_loss(partition, &opened, mail, env);
        if let Some(feed) = self.feeds.get_mut(&partition) {
            *feed = Feed { position: opened.start, paused: feed.paused, stuck: false };
        }
        let skips_below = env.oracle.skipped_by(mail.process, index_of(partition));
        let seen_below = opened.seen_below();
        self.tell_opened(partition, opened, (skips_below, seen_below), mail, env);
    }

    fn tell_loss(&self, partition: Partition, opened: &Opened, mail: &Mail, env: &mut Env) {
        let number = index_of(partition);
        if let Some((lost_from, lost_to)) = opened.loss {
            env.note(Who::Worker(mail.worker), "loss reported", Some((number, -1)), lost_to);
            env.oracle.loss_reported(number, lost_from, lost_to);
        }
    }

    fn open(&mut self, partition: Partition, committed: Option<Committed>, mail: &mut Mail, env: &mut Env) {
        let number = index_of(partition);
        if env.reach(mail.worker, Action::Open) {
            return;
        }
        let found = found(partition, committed.as_ref(), env);
        let from = env.settings.from;
        let opened = self.intake.open(partition, &found, from);
        self.tell_loss(partition, &opened, mail, env);
        if committed.is_none() {
            env.oracle.started_without_commit(number, found.log_start);
        }
        let later = found.known_partitions.is_some_and(|known| partition.number >= known as i32);
        let skips = opened.fresh && from == From::Latest && !later;
        self.feeds.insert(partition, Feed { position: opened.start, paused: false, stuck: false });
        let skips_below = skips.then_some(found.log_end);
        self.tell_opened(partition, opened, (skips_below, NOTHING_SEEN), mail, env);
    }

    /// Shards first, then the ledger, then records: each must know the epoch before it sees anything of it.
    pub(super) fn tell_opened(
        &mut self,
        partition: Partition,
        opened: Opened,
        (skips_below, seen_below): (Option<i64>, i64),
        mail: &mut Mail,
        env: &mut Env,
    ) {
        let number = index_of(partition);
        env.note(Who::Worker(mail.worker), "opened", Some((number, -1)), opened.start);
        let run = env.oracle.opened(mail.process, number, opened.start, &opened.settled, skips_below);
        mail.note_run(opened.epoch, run);
        if !env.group.has(mail.member) {
            // Thrown out, and does not know it yet.
            env.oracle.unclean(run);
        }
        for shard in 0..self.out.shards() {
            let settled = opened.settled.clone();
            let epoch = opened.epoch;
            self.out.give(shard, ToShard::Open { partition, epoch, seen_below, settled });
        }
        self.tell(ToCommitter::Opened(partition, opened));
        self.flush();
    }
}

/// Reads the committed records of seen ids up to here.
fn read_marks(partition: u16, end: usize, mail: &Mail, env: &mut Env) {
    for record in env.coordinator.marks_below(partition, end) {
        mail.past.insert(partition_of(partition), &env.marks[record]);
    }
}

/// What the broker says of a partition.
fn found<'a>(partition: Partition, committed: Option<&'a Committed>, env: &Env) -> Found<'a> {
    let number = index_of(partition);
    let log = &env.logs[usize::from(number)];
    Found {
        committed: committed.map(|c| c.offset),
        metadata: committed.map_or("", |c| &c.metadata),
        log_start: log.start(),
        log_end: log.end(),
        known_partitions: env.known_partitions(partition),
        partitions: env.group.count_of_topic(number / SLOTS_PER_TOPIC),
        log: 0,
    }
}
