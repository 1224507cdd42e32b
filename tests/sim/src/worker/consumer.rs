//! The consumer thread's shell around [`Intake`]: polls, opens, routes, gives up.

mod opening;

use super::{Inbox, Mail, Step, ToCommitter, ToConsumer, ToShard};
use crate::coverage::Action;
use crate::env::Env;
use crate::model::group::GroupEvent;
use crate::record::{Payload, Rec, index_of, partition_of};
use crate::settings::Settings;
use crate::trace::Who;
use keyrail_engine::budget::{Gate, Held, Share, Turn};
use keyrail_engine::handover::Handover;
use keyrail_engine::intake::{Intake, Opened, Take};
use keyrail_engine::message::{Epoch, Partition, Ticket};
use keyrail_engine::planted::Bug;
use keyrail_engine::ranges::Ranges;
use opening::{Restart, Start};
use std::collections::BTreeMap;
use std::rc::Rc;

/// How often watermarks are passed on.
const BEAT_MS: u64 = 250;
/// Beside the ledger's own bound on a revoke: how long its answer may take more.
const REVOKE_SLACK_MS: u64 = 2_000;

/// How long a revoke may take in all: with transactions its last one may be closing and ending in addition.
fn revoke_bound_ms(env: &Env) -> u64 {
    let timing = &env.settings.timing;
    let transaction_ms = if env.has_transactions() { 3 * timing.transaction_ms } else { 0 };
    timing.revoke_ms + REVOKE_SLACK_MS + transaction_ms
}

#[derive(Debug)]
struct Feed {
    position: i64,
    paused: bool,
    /// The client delivers nothing before it seeks.
    stuck: bool,
    /// Its seen ids and its state are not read yet.
    waits: bool,
}

/// What the group waits for.
#[derive(Debug, PartialEq, Eq)]
enum Busy {
    No,
    /// Asks for the committed offsets of these partitions until then.
    Opening(Vec<u16>, u64),
    /// The committer drains and commits, and that must be done by then.
    Revoking(u64),
    /// The same, of all there is: then it leaves the group.
    Leaving(u64),
    /// The committer forgets what was lost. Joining again before that would let it commit in the new generation.
    Losing,
    /// It has left.
    Left,
}

#[derive(Debug)]
pub(super) struct Consumer {
    intake: Intake,
    out: Handover<Inbox<ToCommitter>, Inbox<ToShard>>,
    gate: Gate,
    limit_bytes: u64,
    feeds: BTreeMap<Partition, Feed>,
    busy: Busy,
    next_look_ms: u64,
    next_beat_ms: u64,
    leaving: bool,
    last_fetched: Option<Partition>,
    batch: Vec<Rc<Rec>>,
    /// To be started anew once the broker has said what is committed.
    restarts: Vec<Restart>,
    /// To be started once it is known what was seen before, and what its state is.
    starts: Vec<Start>,
    /// Opened, and not told to the ledger.
    opened: Vec<(Partition, Opened)>,
    /// The broker has listed retry topics since this process started.
    knows_retry_topics: bool,
    planted: Option<Bug>,
}

impl Consumer {
    pub(super) fn new(settings: &Settings, seed: u64, mail: &Mail) -> Self {
        let out = Handover::new(mail.committer.clone(), mail.shards.iter().cloned());
        Self {
            intake: Intake::new(settings.policy.clone(), settings.shards, seed),
            out: out.with_planted(settings.policy.planted),
            gate: Gate::new(Share::new(settings.budget_bytes, 1)),
            limit_bytes: settings.budget_bytes,
            feeds: BTreeMap::new(),
            busy: Busy::No,
            next_look_ms: 0,
            next_beat_ms: 0,
            leaving: false,
            last_fetched: None,
            batch: Vec::new(),
            restarts: Vec::new(),
            starts: Vec::new(),
            opened: Vec::new(),
            knows_retry_topics: false,
            planted: settings.policy.planted,
        }
    }

    pub(super) fn is_runnable(&self, mail: &Mail, env: &Env) -> bool {
        let event = self.busy == Busy::No && env.group.has_event(mail.member);
        !mail.consumer.is_empty() || event || env.now_ms >= self.next_look_ms || self.can_hand_over(mail)
    }

    fn can_hand_over(&self, mail: &Mail) -> bool {
        if self.out.waits_for_ledger() {
            return mail.committer.has_room();
        }
        mail.shards.iter().enumerate().any(|(n, inbox)| self.out.waits_for_shard(n) && inbox.has_room())
    }

    /// Whether something waits for another thread.
    pub(super) fn is_handing_over(&self) -> bool {
        self.out.waits_for_ledger() || (0..self.out.shards()).any(|n| self.out.waits_for_shard(n))
    }

    /// Tells the ledger, now or when it has room.
    fn tell(&mut self, message: ToCommitter) {
        let _never_gone = self.out.tell(message);
    }

    fn flush(&mut self) {
        let _never_gone = self.out.flush();
    }

    pub(super) const fn next_wake_ms(&self) -> u64 {
        self.next_look_ms
    }

    pub(super) const fn is_leaving(&self) -> bool {
        self.leaving
    }

    pub(super) const fn is_opening(&self) -> bool {
        matches!(self.busy, Busy::Opening(..))
    }

    pub(super) const fn ask_to_stop(&mut self) {
        self.leaving = true;
    }

    pub(super) fn step(&mut self, mail: &mut Mail, env: &mut Env) -> Step {
        self.flush();
        if let Busy::Revoking(until_ms) | Busy::Leaving(until_ms) = self.busy
            && env.now_ms >= until_ms
        {
            return Step::GaveUp;
        }
        // What the group offers in this moment is of no interest any more, and remains unanswered.
        if self.leaving && matches!(self.busy, Busy::No | Busy::Opening(..)) {
            return self.leave(mail, env);
        }
        let did = match env.rng.below(4) {
            0 | 1 => self.take_mail(mail, env) || self.hear_group(mail, env) || self.fetch(mail, env),
            2 => self.hear_group(mail, env) || self.take_mail(mail, env) || self.fetch(mail, env),
            _ => self.fetch(mail, env) || self.hear_group(mail, env) || self.take_mail(mail, env),
        };
        self.beat(mail, env);
        self.restart(mail, env);
        self.start_known(mail, env);
        if !did {
            self.next_look_ms = env.now_ms + env.rng.within(3, 25);
        }
        if self.busy == Busy::Left { Step::Left } else { Step::GoesOn }
    }

    /// The ledger lets go of everything first; then the consumer leaves the group.
    fn leave(&mut self, mail: &mut Mail, env: &mut Env) -> Step {
        if env.reach(mail.worker, Action::Stop) {
            return Step::GoesOn;
        }
        let open: Vec<Partition> = self.feeds.keys().copied().collect();
        self.busy = Busy::Leaving(u64::MAX);
        self.revoked(open, mail, env);
        Step::GoesOn
    }

    fn take_mail(&mut self, mail: &mut Mail, env: &mut Env) -> bool {
        let Some(message) = mail.consumer.take() else { return false };
        match message {
            ToConsumer::Rewind(all) => {
                for (partition, start, settled) in all {
                    self.rewind(partition, start, settled, mail, env);
                }
                self.tell_ledger();
            }
            ToConsumer::Condemn(partition, offsets) => self.intake.condemn(partition, offsets),
            ToConsumer::Restart(partitions) => self.plan_restarts(partitions, mail, env),
            ToConsumer::Pause(partition) => {
                if let Some(feed) = self.feeds.get_mut(&partition) {
                    env.note(Who::Worker(mail.worker), "pause", Some((index_of(partition), -1)), 0);
                    feed.paused = !env.reach(mail.worker, Action::Pause);
                }
            }
            ToConsumer::Resume(partition) => {
                if let Some(feed) = self.feeds.get_mut(&partition) {
                    env.note(Who::Worker(mail.worker), "resume", Some((index_of(partition), -1)), 0);
                    feed.paused = env.reach(mail.worker, Action::Resume);
                }
            }
            ToConsumer::Stalled(partition) => {
                if let Some(feed) = self.feeds.get_mut(&partition) {
                    env.note(Who::Worker(mail.worker), "stalled", Some((index_of(partition), -1)), feed.position);
                    feed.stuck = false;
                }
            }
            ToConsumer::Forgotten => self.forgotten(mail, env),
            ToConsumer::Unassign(partitions) => self.unassign(&partitions, mail, env),
        }
        true
    }

    fn rewind(&mut self, partition: Partition, start: i64, settled: Ranges, mail: &mut Mail, env: &mut Env) {
        let Some(feed) = self.feeds.get_mut(&partition) else { return };
        env.note(Who::Worker(mail.worker), "rewind", Some((index_of(partition), -1)), start);
        if env.reach(mail.worker, Action::Rewind) {
            return;
        }
        *feed = Feed { position: start, paused: feed.paused, stuck: false, waits: feed.waits };
        let opened = self.intake.rewind(partition, start, settled);
        let skips_below = env.oracle.skipped_by(mail.process, index_of(partition));
        let ends = self.ends(index_of(partition), env);
        self.tell_opened(partition, opened, (skips_below, start), (ends, true), mail, env);
    }

    fn unassign(&mut self, partitions: &[Partition], mail: &mut Mail, env: &mut Env) {
        if env.reach(mail.worker, Action::Unassign) {
            return;
        }
        let numbers: Vec<u16> = partitions.iter().map(|p| index_of(*p)).collect();
        for number in &numbers {
            env.note(Who::Worker(mail.worker), "unassign", Some((*number, -1)), 0);
        }
        if matches!(self.busy, Busy::Leaving(_)) {
            env.group.leave(mail.member, &mut env.rng);
            self.busy = Busy::Left;
        } else {
            env.group.unassigned(mail.member, &numbers, &mut env.rng);
            self.busy = Busy::No;
        }
    }

    /// Hears what the group wants. Also opens what it gave, once the broker has answered.
    fn hear_group(&mut self, mail: &mut Mail, env: &mut Env) -> bool {
        if let Busy::Opening(partitions, at_ms) = &self.busy {
            if env.now_ms < *at_ms || !self.is_known(partitions, env) {
                return false;
            }
            if let Busy::Opening(partitions, _) = std::mem::replace(&mut self.busy, Busy::No) {
                for partition in partitions {
                    self.open(partition_of(partition), mail, env);
                }
                self.tell_ledger();
            }
            return true;
        }
        if !env.group.has(mail.member) {
            return self.busy == Busy::No && self.lose_all(mail, env);
        }
        match env.group.poll(mail.member, self.busy == Busy::No) {
            None => false,
            Some(GroupEvent::Assigned(partitions)) => {
                self.busy = Busy::Opening(partitions, env.now_ms + env.rng.within(0, 40));
                true
            }
            Some(GroupEvent::Revoked(partitions)) => {
                self.revoked(partitions.into_iter().map(partition_of).collect(), mail, env);
                true
            }
        }
    }

    fn revoked(&mut self, partitions: Vec<Partition>, mail: &mut Mail, env: &mut Env) {
        for partition in &partitions {
            env.note(Who::Worker(mail.worker), "revoked", Some((index_of(*partition), -1)), 0);
            self.intake.close(*partition);
            self.feeds.remove(partition);
        }
        if env.reach(mail.worker, Action::Revoke) {
            return;
        }
        self.tell(ToCommitter::Revoke(partitions));
        let until_ms = env.now_ms + revoke_bound_ms(env);
        let leaving = matches!(self.busy, Busy::Leaving(_));
        self.busy = if leaving { Busy::Leaving(until_ms) } else { Busy::Revoking(until_ms) };
    }

    /// The group threw this member out: its partitions are somebody else's already.
    fn lose_all(&mut self, mail: &mut Mail, env: &mut Env) -> bool {
        let lost: Vec<Partition> = std::mem::take(&mut self.feeds).into_keys().collect();
        for partition in &lost {
            env.note(Who::Worker(mail.worker), "lost", Some((index_of(*partition), -1)), 0);
            self.intake.close(*partition);
        }
        if env.reach(mail.worker, Action::Lost) {
            return true;
        }
        self.tell(ToCommitter::Lost(lost));
        self.busy = Busy::Losing;
        true
    }

    fn forgotten(&mut self, mail: &mut Mail, env: &mut Env) {
        self.busy = Busy::No;
        mail.member = env.join(mail.process);
    }

    fn beat(&mut self, mail: &mut Mail, env: &mut Env) {
        let small = env.afflictions[usize::from(mail.worker)].small_budget_until_ms > env.now_ms;
        let limit = if small { 1_500 } else { env.settings.budget_bytes };
        if limit != self.limit_bytes {
            let was_closed = self.gate.is_closed();
            (self.gate, self.limit_bytes) = (Gate::new(Share::new(limit, 1)), limit);
            if was_closed {
                self.turn(Turn::Open, mail, env);
            }
        }
        let own = mail.held.get();
        let beyond = Share::new(limit, 1).beyond(own);
        if let Some(turn) = self.gate.check(&Held { own, all: own, beyond }) {
            self.turn(turn, mail, env);
        }
        if env.now_ms >= self.next_beat_ms {
            self.next_beat_ms = env.now_ms + BEAT_MS;
            let ends = self.feeds.keys().map(|p| (*p, env.logs[usize::from(index_of(*p))].end())).collect();
            self.tell(ToCommitter::Watermarks(ends));
        }
        if env.settings.policy.keeps_state() && env.rng.below(60) == 0 {
            let runs = self.feeds.iter().filter(|(_, feed)| !feed.waits).map(|(partition, _)| *partition);
            let order = &env.settings.policy.order;
            let runs: Vec<Partition> = runs.filter(|partition| order.task(*partition) == *partition).collect();
            let ends = runs.into_iter().map(|p| (p, env.state_end(index_of(p), false))).collect();
            self.tell(ToCommitter::StateEnds(ends));
        }
    }

    fn turn(&mut self, turn: Turn, mail: &Mail, env: &mut Env) {
        let (action, name) = match turn {
            Turn::Close => (Action::Pause, "gate closes"),
            Turn::Open => (Action::Resume, "gate opens"),
        };
        env.note(Who::Worker(mail.worker), name, None, mail.held.get() as i64);
        if !env.reach(mail.worker, action) {
            self.tell(ToCommitter::Gate(turn == Turn::Close));
        }
    }

    /// Fetches from one of the partitions that deliver, and routes what comes.
    fn fetch(&mut self, mail: &mut Mail, env: &mut Env) -> bool {
        if self.gate.is_closed() || self.leaving || env.down_until_ms > env.now_ms {
            return false;
        }
        // While something waits for the other threads, only now and then: a rebalance comes behind the records.
        if self.is_handing_over() && !env.rng.percent(20) {
            return false;
        }
        // In turn, so that no partition waits for ever while the budget is small.
        let ready = |p: &Partition, f: &Feed| {
            !f.paused && !f.stuck && !f.waits && f.position < env.logs[usize::from(index_of(*p))].end()
        };
        let all = || self.feeds.iter().filter(|(p, f)| ready(p, f)).map(|(p, _)| *p);
        let after_last = all().find(|p| Some(*p) > self.last_fetched);
        let Some(partition) = after_last.or_else(|| all().next()) else { return false };
        self.last_fetched = Some(partition);
        let Some(feed) = self.feeds.get_mut(&partition) else { return false };
        let number = index_of(partition);
        let log_start = env.logs[usize::from(number)].start();
        if feed.position < log_start {
            // Out of range: what lies between is gone.
            env.oracle.loss_reported(number, feed.position, log_start);
            env.note(Who::Worker(mail.worker), "out of range", Some((number, -1)), log_start);
            feed.position = log_start;
        }
        if env.reach(mail.worker, Action::Fetch) {
            return true;
        }
        if std::mem::take(&mut env.afflictions[usize::from(mail.worker)].stall_next) {
            feed.stuck = true;
            return true;
        }
        let most = 1 + env.rng.index(env.settings.fetch_max);
        self.batch.clear();
        let mut batch = std::mem::take(&mut self.batch);
        feed.position = env.logs[usize::from(number)].read(feed.position, most, &mut batch);
        self.route(partition, &batch, mail, env);
        self.batch = batch;
        true
    }

    fn route(&mut self, partition: Partition, batch: &[Rc<Rec>], mail: &mut Mail, env: &mut Env) {
        let Some(epoch) = self.intake.epoch(partition) else { return };
        let mut routed = Vec::with_capacity(batch.len());
        let mut received: Vec<(i64, i64)> = Vec::new();
        for rec in batch {
            let action = match self.intake.take(partition, rec.offset, &**rec) {
                Take::Stale => continue,
                Take::Settled => {
                    env.oracle.passed_over(rec.partition, rec.offset);
                    Action::PassOver
                }
                Take::Route { shard, ticket } => {
                    routed.push((shard, ticket, Rc::clone(rec)));
                    Action::Route
                }
            };
            env.note(Who::Worker(mail.worker), action.name(), Some((rec.partition, rec.offset)), epoch.0 as i64);
            if env.reach(mail.worker, action) {
                return;
            }
            match received.last_mut() {
                Some(run) if run.1 + 1 == rec.offset => run.1 = rec.offset,
                _ => received.push((rec.offset, rec.offset)),
            }
        }
        self.hand_over(partition, epoch, received, routed, mail, env);
    }

    /// The ledger hears of records before the shards have them: a settlement must find its offset.
    fn hand_over(
        &mut self,
        partition: Partition,
        epoch: Epoch,
        runs: Vec<(i64, i64)>,
        routed: Vec<(u32, Ticket, Rc<Rec>)>,
        mail: &Mail,
        env: &mut Env,
    ) {
        if runs.is_empty() {
            return;
        }
        self.tell(ToCommitter::Received { partition, epoch, runs });
        let mut fetched = 0;
        let mut batches: Vec<Vec<(Ticket, Payload)>> = (0..self.out.shards()).map(|_| Vec::new()).collect();
        for (shard, ticket, rec) in routed {
            fetched += u64::from(rec.size);
            batches[shard as usize].push((ticket, Payload::new(rec, &mail.held)));
        }
        for (shard, messages) in batches.into_iter().enumerate().filter(|(_, m)| !m.is_empty()) {
            self.out.give(shard, ToShard::Messages(messages));
        }
        self.flush();
        if mail.held.get() >= self.limit_bytes + fetched && fetched > 0 && !self.gate.is_closed() {
            env.out_of_bounds(format!("{} bytes are held, and the budget is {}", mail.held.get(), self.limit_bytes));
        }
    }
}
