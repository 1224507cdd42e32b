//! How a partition starts: from what the group has committed.

use super::{Consumer, Feed};
use crate::coverage::{Action, Fault};
use crate::env::Env;
use crate::invariants::name;
use crate::model::group::Committed;
use crate::model::outputs::marks_place;
use crate::record::{SLOTS_PER_TOPIC, index_of};
use crate::trace::Who;
use crate::worker::{Mail, ToCommitter, ToShard};
use keyrail_engine::identity::{Change, Present};
use keyrail_engine::intake::{Found, From, Opened};
use keyrail_engine::message::{Epoch, Partition};
use keyrail_engine::planted::Bug;
use keyrail_engine::ranges::Ranges;
use keyrail_engine::shard::NOTHING_SEEN;
use keyrail_engine::state::schema;

/// Where the logs of a partition's seen ids and of its state ended when that was asked.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ends {
    marks: usize,
    state: usize,
    parked: usize,
    /// It must not start before its retry topic is listed.
    unlisted: bool,
}

/// A task that is owned, and gives nothing before its seen ids and its state are read up to here.
#[derive(Debug)]
pub(super) struct Start {
    task: Partition,
    /// Of another one this is no business.
    epoch: Epoch,
    /// Its partitions, each with what is seen below and settled above.
    parts: Vec<(Partition, i64, Ranges)>,
    ends: Ends,
    /// Some of it is read.
    begun: bool,
    /// Within its assignment.
    again: bool,
}

/// Partitions of a task that are to start anew within their assignment.
#[derive(Debug)]
pub(super) struct Restart {
    task: Partition,
    /// Each with where it starts if nothing is committed.
    parts: Vec<(Partition, i64)>,
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
        let parked = env.parked_end(partition, self.planted == Some(Bug::ParkedToStable));
        Ends { marks, state, parked, unlisted: false }
    }

    /// Holds what is committed against the topics that the broker lists. A process that never saw retry topics listed reads none.
    /// `true`: it is not to start.
    fn identify(&mut self, opened: &mut Opened, ends: &mut Ends, at: (u16, bool), env: &mut Env) -> bool {
        let (number, again) = at;
        self.knows_retry_topics |= env.lists_retry_topics();
        let policy = &env.settings.policy;
        let retry = (policy.parks() && self.knows_retry_topics).then_some(0);
        // Which log a topic is of can't be told here.
        let present = Present {
            seen: policy.keeps_ids().then_some(0),
            state: policy.keeps_state().then_some(0),
            retry,
            order: 1,
        };
        let changes = opened.identify(policy, &present, again);
        ends.unlisted = changes.has(Change::NoRetryTopic);
        if retry.is_none() && !ends.unlisted {
            ends.parked = 0;
        }
        let task = env.task_of(number);
        let holds = env.holds_anything(task);
        let refused = changes.has(Change::Moved) && holds;
        if refused != (holds && env.moved.contains(&number)) && !again {
            let what =
                if refused { "is refused, and nobody moved it" } else { "starts where nobody of Keyrail's put it" };
            env.oracle.violated(name::STATE, Some((number, opened.start)), what.into());
        }
        refused
    }

    /// Starts what waits for its ids and its state, once they are read.
    pub(super) fn start_known(&mut self, mail: &mut Mail, env: &mut Env) {
        for mut start in std::mem::take(&mut self.starts) {
            let (task, number) = (start.task, index_of(start.task));
            if start.parts.iter().any(|(partition, _, _)| self.intake.epoch(*partition) != Some(start.epoch)) {
                continue;
            }
            let unlisted = start.ends.unlisted && !env.lists_retry_topics();
            let marks = env.coordinator.internal_log(marks_place(number));
            let undecided = marks.stable_end() < start.ends.marks
                || env.state_end(number, true) < start.ends.state
                || env.parked_end(number, true) < start.ends.parked;
            if env.down_until_ms > env.now_ms || unlisted || undecided || !self.read_state(&mut start, mail, env) {
                self.starts.push(start);
                continue;
            }
            let marks = env.coordinator.internal_log(marks_place(number));
            for record in marks.read(0, start.ends.marks, false) {
                mail.past.insert(task, &env.marks[record]);
            }
            env.note(Who::Worker(mail.worker), "ids read", Some((number, -1)), start.ends.marks as i64);
            self.knows_retry_topics |= start.ends.unlisted;
            self.read_parked(&start, mail, env);
            for (partition, seen_below, settled) in start.parts {
                if let Some(feed) = self.feeds.get_mut(&partition) {
                    feed.waits = false;
                }
                self.tell_shards(partition, start.epoch, seen_below, &settled);
            }
            if env.settings.policy.keeps_state() {
                self.tell(ToCommitter::StateRead(task, start.epoch));
            }
            if env.settings.policy.parks() {
                self.tell(ToCommitter::ParkedRead(task, start.epoch));
            }
            self.flush();
        }
    }

    /// Reads on, from where the local store ends. `true`: all is in.
    fn read_state(&self, start: &mut Start, mail: &Mail, env: &mut Env) -> bool {
        if !env.settings.policy.keeps_state() {
            return true;
        }
        let (task, number, end) = (start.task, index_of(start.task), start.ends.state);
        let behind = self.planted == Some(Bug::StateFromBehind) && !std::mem::replace(&mut start.begun, true);
        let from = mail.state.position(task) + usize::from(behind);
        let to = end.min(from + env.rng.within(1, 400) as usize);
        if from < to {
            let uncommitted = self.planted == Some(Bug::StateUncommitted);
            for change in env.read_state(number, (from, to), uncommitted) {
                mail.state.take(task, &change);
            }
            mail.state.reach(task, to);
        }
        if to < end {
            return false;
        }
        env.note(Who::Worker(mail.worker), "state read", Some((number, -1)), end as i64);
        // One that was thrown out, and does not know it yet, starts nothing that counts.
        if env.group.owner(number) == Some(mail.member) {
            env.oracle.judge_contents("what is read before it starts", number, &mail.state.all(task));
            env.oracle.state_read(mail.run(task, start.epoch), number);
            env.judge_schemas(number, end, &schema::Found::of(&*mail.state, task));
        }
        true
    }

    fn read_parked(&self, start: &Start, mail: &Mail, env: &mut Env) {
        let (partition, number) = (start.task, index_of(start.task));
        if !env.settings.policy.parks() || self.planted == Some(Bug::ParkedOnceOnly) && start.again {
            return;
        }
        mail.parked.forget(partition);
        for record in env.read_parked(number, start.ends.parked, self.planted == Some(Bug::ParkedUncommitted)) {
            mail.parked.take(partition, &record);
        }
        let count = mail.parked.count(partition);
        env.note(Who::Worker(mail.worker), "parked read", Some((number, -1)), count as i64);
        if env.has_transactions() && env.group.owner(number) == Some(mail.member) {
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
            let Some(epoch) = self.intake.epoch(partition) else { continue };
            let task = env.settings.policy.order.task(partition);
            match self.restarts.iter_mut().find(|restart| restart.task == task && restart.epoch == epoch) {
                Some(restart) => restart.parts.push((partition, first)),
                None => {
                    let at_ms = env.now_ms + env.rng.within(0, 40);
                    self.restarts.push(Restart { task, parts: vec![(partition, first)], epoch, at_ms });
                }
            }
        }
    }

    /// Starts anew what the broker has answered for.
    pub(super) fn restart(&mut self, mail: &mut Mail, env: &mut Env) {
        for restart in std::mem::take(&mut self.restarts) {
            if restart.parts.iter().any(|(partition, _)| self.intake.epoch(*partition) != Some(restart.epoch)) {
                continue;
            }
            let hasty = self.planted == Some(Bug::RestartBeforeRenewal);
            let parts: Vec<u16> = restart.parts.iter().map(|(partition, _)| index_of(*partition)).collect();
            if restart.at_ms > env.now_ms || !hasty && !self.is_known(&parts, env) {
                self.restarts.push(restart);
                continue;
            }
            for (partition, first) in restart.parts {
                self.reopen(partition, first, mail, env);
            }
            self.tell_ledger();
        }
    }

    fn reopen(&mut self, partition: Partition, first: i64, mail: &mut Mail, env: &mut Env) {
        let number = index_of(partition);
        let committed = env.group.committed(number).cloned();
        let mut ends = self.ends(env.task_of(number), env);
        match self.planted {
            Some(Bug::MarksOnceOnly) => ends.marks = 0,
            Some(Bug::StateOnceOnly) => ends.state = 0,
            _ => {}
        }
        let found = found(partition, committed.as_ref(), env);
        let mut opened = self.intake.reopen(partition, &found, first);
        self.identify(&mut opened, &mut ends, (number, true), env);
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
        let mut ends = self.ends(env.task_of(number), env);
        let is_task = env.task_of(number) == number;
        if env.settings.policy.keeps_state() && is_task && env.rng.percent(30) {
            mail.state.reopen(partition, &env.disks[usize::from(mail.worker)]);
        }
        let found = found(partition, committed.as_ref(), env);
        let from = env.settings.from;
        let mut opened = self.intake.open(partition, &found, from);
        if self.identify(&mut opened, &mut ends, (number, false), env) {
            // The process ends, and whoever starts it again finds the same until a person has acted.
            env.strike(mail.worker, Action::Open, Fault::Crash);
            return;
        }
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
        let with = mail.run_with(opened.epoch);
        let run = env.oracle.opened(mail.process, number, opened.start, &opened.settled, skips_below, with);
        mail.note_run(partition, opened.epoch, run);
        if !again {
            env.oracle.assigned(mail.process, number, run);
        }
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
            let task = policy.order.task(partition);
            let part = (partition, seen_below, settled);
            match self.starts.iter_mut().find(|start| start.task == task && start.epoch == epoch) {
                Some(start) => start.parts.push(part),
                None => self.starts.push(Start { task, epoch, parts: vec![part], ends, begun: false, again }),
            }
        } else {
            self.tell_shards(partition, epoch, seen_below, &settled);
        }
        self.opened.push((partition, opened));
    }

    /// The ledger hears of all partitions of a task at once: nothing must come in between.
    pub(super) fn tell_ledger(&mut self) {
        let opened = std::mem::take(&mut self.opened);
        if !opened.is_empty() {
            self.tell(ToCommitter::Opened(opened));
            self.flush();
        }
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
