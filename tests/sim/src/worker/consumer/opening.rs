//! How a partition starts: from what the group has committed.

use super::{Consumer, Feed};
use crate::coverage::Action;
use crate::env::Env;
use crate::model::group::Committed;
use crate::model::outputs::marks_place;
use crate::record::{SLOTS_PER_TOPIC, index_of};
use crate::trace::Who;
use crate::worker::{Mail, ToCommitter, ToShard};
use keyrail_engine::intake::{Found, From, Opened};
use keyrail_engine::message::{Epoch, Partition};
use keyrail_engine::planted::Bug;
use keyrail_engine::ranges::Ranges;
use keyrail_engine::shard::NOTHING_SEEN;

/// Where the logs of a partition's seen ids and of its state ended when that was asked.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ends {
    marks: usize,
    state: usize,
    parked: usize,
}

/// A partition that is owned, and gives nothing before its seen ids and its state are read up to here.
#[derive(Debug)]
pub(super) struct Start {
    partition: Partition,
    /// Of another one this is no business.
    epoch: Epoch,
    seen_below: i64,
    settled: Ranges,
    ends: Ends,
    /// Some of it is read.
    begun: bool,
    /// Within its assignment.
    again: bool,
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
}

impl Consumer {
    /// Where its logs end: asked after what is committed.
    pub(super) fn ends(&self, partition: u16, env: &mut Env) -> Ends {
        let marks = env.coordinator.internal_log(marks_place(partition));
        let to_stable = self.planted == Some(Bug::MarksToStable);
        let marks = if to_stable { marks.stable_end() } else { marks.end() };
        let state = env.state_end(partition, self.planted == Some(Bug::StateToStable));
        Ends { marks, state, parked: env.parked_end(partition, self.planted == Some(Bug::ParkedToStable)) }
    }

    /// Starts what waits for its ids and its state, once they are read.
    pub(super) fn start_known(&mut self, mail: &mut Mail, env: &mut Env) {
        for mut start in std::mem::take(&mut self.starts) {
            let (partition, number) = (start.partition, index_of(start.partition));
            if self.intake.epoch(partition) != Some(start.epoch) {
                continue;
            }
            let marks = env.coordinator.internal_log(marks_place(number));
            let undecided = marks.stable_end() < start.ends.marks
                || env.state_end(number, true) < start.ends.state
                || env.parked_end(number, true) < start.ends.parked;
            if env.down_until_ms > env.now_ms || undecided || !self.read_state(&mut start, mail, env) {
                self.starts.push(start);
                continue;
            }
            let marks = env.coordinator.internal_log(marks_place(number));
            for record in marks.read(0, start.ends.marks, false) {
                mail.past.insert(partition, &env.marks[record]);
            }
            env.note(Who::Worker(mail.worker), "ids read", Some((number, -1)), start.ends.marks as i64);
            self.read_parked(&start, mail, env);
            if let Some(feed) = self.feeds.get_mut(&partition) {
                feed.waits = false;
            }
            self.tell_shards(partition, start.epoch, start.seen_below, &start.settled);
            if env.settings.policy.keeps_state() {
                self.tell(ToCommitter::StateRead(partition, start.epoch));
            }
            self.flush();
        }
    }

    /// Reads on, from where the local store ends. `true`: all is in.
    fn read_state(&self, start: &mut Start, mail: &Mail, env: &mut Env) -> bool {
        if !env.settings.policy.keeps_state() {
            return true;
        }
        let (partition, number, end) = (start.partition, index_of(start.partition), start.ends.state);
        let behind = self.planted == Some(Bug::StateFromBehind) && !std::mem::replace(&mut start.begun, true);
        let from = mail.state.position(partition) + usize::from(behind);
        let to = end.min(from + env.rng.within(1, 400) as usize);
        if from < to {
            let uncommitted = self.planted == Some(Bug::StateUncommitted);
            for change in env.read_state(number, (from, to), uncommitted) {
                mail.state.take(partition, &change);
            }
            mail.state.reach(partition, to);
        }
        if to < end {
            return false;
        }
        env.note(Who::Worker(mail.worker), "state read", Some((number, -1)), end as i64);
        // One that was thrown out, and does not know it yet, starts nothing that counts.
        if env.group.owner(number) == Some(mail.member) {
            env.oracle.judge_contents("what is read before it starts", number, &mail.state.all(partition));
            env.oracle.state_read(mail.run(start.epoch), number);
        }
        true
    }

    fn read_parked(&self, start: &Start, mail: &Mail, env: &mut Env) {
        let (partition, number) = (start.partition, index_of(start.partition));
        if !env.settings.policy.parks() || self.planted == Some(Bug::ParkedOnceOnly) && start.again {
            return;
        }
        mail.parked.forget(partition);
        for record in env.read_parked(number, start.ends.parked, self.planted == Some(Bug::ParkedUncommitted)) {
            mail.parked.take(partition, &record);
        }
        let count = mail.parked.count(partition);
        env.note(Who::Worker(mail.worker), "parked read", Some((number, -1)), count as i64);
        if env.group.owner(number) == Some(mail.member) {
            env.oracle.judge_parked_count(number, count);
        }
    }

    fn tell_shards(&mut self, partition: Partition, epoch: Epoch, seen_below: i64, settled: &Ranges) {
        let condemned = self.intake.condemned(partition).to_vec();
        for shard in 0..self.out.shards() {
            self.out.give(
                shard,
                ToShard::Open { partition, epoch, seen_below, settled: settled.clone(), condemned: condemned.clone() },
            );
        }
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
                self.restarts.push(Restart { partition, first, epoch, at_ms });
            }
        }
    }

    /// Starts anew what the broker has answered for.
    pub(super) fn restart(&mut self, mail: &mut Mail, env: &mut Env) {
        for restart in std::mem::take(&mut self.restarts) {
            if self.intake.epoch(restart.partition) != Some(restart.epoch) {
                continue;
            }
            let hasty = self.planted == Some(Bug::RestartBeforeRenewal);
            if restart.at_ms > env.now_ms || !hasty && !self.is_known(&[index_of(restart.partition)], env) {
                self.restarts.push(restart);
            } else {
                self.reopen(restart.partition, restart.first, mail, env);
            }
        }
    }

    fn reopen(&mut self, partition: Partition, first: i64, mail: &mut Mail, env: &mut Env) {
        let number = index_of(partition);
        let committed = env.group.committed(number).cloned();
        let mut ends = self.ends(number, env);
        match self.planted {
            Some(Bug::MarksOnceOnly) => ends.marks = 0,
            Some(Bug::StateOnceOnly) => ends.state = 0,
            _ => {}
        }
        let found = found(partition, committed.as_ref(), env);
        let opened = self.intake.reopen(partition, &found, first);
        self.tell_loss(partition, &opened, mail, env);
        if let Some(feed) = self.feeds.get_mut(&partition) {
            *feed = Feed { position: opened.start, paused: feed.paused, stuck: false, waits: feed.waits };
        }
        let skips_below = env.oracle.skipped_by(mail.process, number);
        let seen_below = opened.seen_below();
        self.tell_opened(partition, opened, (skips_below, seen_below), (ends, true), mail, env);
    }

    fn tell_loss(&self, partition: Partition, opened: &Opened, mail: &Mail, env: &mut Env) {
        let number = index_of(partition);
        if let Some((lost_from, lost_to)) = opened.loss {
            env.note(Who::Worker(mail.worker), "loss reported", Some((number, -1)), lost_to);
            env.oracle.loss_reported(number, lost_from, lost_to);
        }
    }

    pub(super) fn open(&mut self, partition: Partition, mail: &mut Mail, env: &mut Env) {
        let number = index_of(partition);
        if env.reach(mail.worker, Action::Open) {
            return;
        }
        let committed = env.group.committed(number).cloned();
        let ends = self.ends(number, env);
        if env.settings.policy.keeps_state() && env.rng.percent(30) {
            mail.state.reopen(partition, &env.disks[usize::from(mail.worker)]);
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
        self.feeds.insert(partition, Feed { position: opened.start, paused: false, stuck: false, waits: false });
        let skips_below = skips.then_some(found.log_end);
        self.tell_opened(partition, opened, (skips_below, NOTHING_SEEN), (ends, false), mail, env);
    }

    /// Each of the others must know the epoch before it sees anything of it. Where ids or state are kept the shards hear of it when
    /// these are known, and records come only then; the ledger commits what the start changes at once.
    pub(super) fn tell_opened(
        &mut self,
        partition: Partition,
        opened: Opened,
        (skips_below, seen_below): (Option<i64>, i64),
        (ends, again): (Ends, bool),
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
        let (epoch, settled) = (opened.epoch, opened.settled.clone());
        let policy = &env.settings.policy;
        if policy.keeps_ids() || policy.keeps_state() || policy.parks() {
            if let Some(feed) = self.feeds.get_mut(&partition) {
                feed.waits = true;
            }
            self.starts.push(Start { partition, epoch, seen_below, settled, ends, begun: false, again });
        } else {
            self.tell_shards(partition, epoch, seen_below, &settled);
        }
        self.tell(ToCommitter::Opened(partition, opened));
        self.flush();
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
