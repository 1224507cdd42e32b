//! The committer thread's shell around [`Pipeline`]: produces, commits, releases.

use super::{Inbox, Mail, ToCommitter, ToConsumer, ToShard};
use crate::coverage::Action as Point;
use crate::env::{CommitLot, CommitName, CommitRequest, Due, Env};
use crate::invariants::name as invariant;
use crate::model::outputs::{Effect, Report};
use crate::record::{Payload, index_of};
use crate::settings::Settings;
use crate::trace::Who;
use keyrail_engine::answers::Answers;
use keyrail_engine::handover::Line;
use keyrail_engine::message::{Epoch, Fate, Partition, Ticket};
use keyrail_engine::order::shard_of;
use keyrail_engine::pipeline::{Action, CommitOffset, Pipeline, Refusal, Token};
use keyrail_engine::shard::Settled;
use std::collections::{BTreeMap, BTreeSet};

/// Longest time between two looks at the clock.
const TICK_MS: u64 = 40;

/// The last commit of revoked partitions, while the thread waits for its answer.
#[derive(Debug)]
struct Releasing {
    count: u64,
    partitions: Vec<Partition>,
    answered: Option<bool>,
    give_up_ms: u64,
}

#[derive(Debug)]
pub(super) struct Committer {
    ledger: Pipeline<Payload>,
    shards: Vec<Line<Inbox<ToShard>>>,
    consumer: Line<Inbox<ToConsumer>>,
    /// The place of a commit's answer is its number.
    answers: Answers<u64>,
    revoke_ms: u64,
    commit_ms: u64,
    next_tick_ms: u64,
    releasing: Option<Releasing>,
    releases: u64,
    revoke_since_ms: u64,
    /// Commits reach the broker in the order they were sent.
    last_arrival_ms: u64,
    /// Partitions whose rewind is decided and not carried out.
    rewinding: BTreeSet<Partition>,
    /// The assignments that the ledger knows of.
    present: BTreeMap<Partition, Epoch>,
}

impl Committer {
    pub(super) fn new(settings: &Settings, mail: &Mail) -> Self {
        Self {
            ledger: Pipeline::new(settings.policy.clone(), settings.shards, settings.timing),
            shards: mail.shards.iter().cloned().map(Line::new).collect(),
            consumer: Line::new(mail.consumer.clone()),
            answers: Answers::new().with_planted(settings.policy.planted),
            revoke_ms: settings.timing.revoke_ms,
            commit_ms: settings.timing.commit_ms,
            next_tick_ms: 0,
            releasing: None,
            releases: 0,
            revoke_since_ms: 0,
            last_arrival_ms: 0,
            rewinding: BTreeSet::new(),
            present: BTreeMap::new(),
        }
    }

    pub(super) fn is_runnable(&self, mail: &Mail, env: &Env) -> bool {
        match &self.releasing {
            Some(release) => release.answered.is_some() || env.now_ms >= release.give_up_ms,
            None => {
                !mail.committer.is_empty()
                    || !mail.reports.is_empty()
                    || env.now_ms >= self.next_tick_ms
                    || self.consumer.is_waiting() && mail.consumer.has_room()
                    || self.shards.iter().zip(&mail.shards).any(|(line, inbox)| line.is_waiting() && inbox.has_room())
            }
        }
    }

    pub(super) fn next_wake_ms(&self) -> Option<u64> {
        Some(self.releasing.as_ref().map_or(self.next_tick_ms, |r| r.give_up_ms))
    }

    /// A partition with messages in flight that has no reason to wait, while nothing is under way here.
    pub(super) fn idles(&self) -> Option<Partition> {
        let waiting = self.consumer.is_waiting() || self.shards.iter().any(Line::is_waiting);
        if waiting || self.releasing.is_some() || self.ledger.publications() > 0 {
            return None;
        }
        let stuck = self.ledger.status().find(|(_, s)| s.unsettled > 0 && !s.paused && s.blocked.is_none());
        stuck.map(|(partition, _)| partition)
    }

    pub(super) fn publications(&self) -> usize {
        self.ledger.publications()
    }

    /// An answer to an earlier release that was given up is nobody's.
    pub(super) fn release_answered(&mut self, count: u64, ok: bool) {
        if let Some(release) = self.releasing.as_mut().filter(|r| r.count == count) {
            release.answered = Some(ok);
        }
    }

    pub(super) fn step(&mut self, mail: &mut Mail, env: &mut Env) {
        if self.releasing.is_some() {
            return self.end_release(mail, env);
        }
        let mut actions = Vec::new();
        if env.now_ms >= self.next_tick_ms {
            self.next_tick_ms = env.now_ms + env.rng.within(1, TICK_MS);
            self.hear_answer(mail, env);
            self.ledger.tick(env.now(), &mut actions);
        } else {
            let reports_first = env.rng.percent(50);
            let did = reports_first && self.take_report(&mut actions, mail, env);
            if !did && !self.take_mail(&mut actions, mail, env) {
                self.take_report(&mut actions, mail, env);
            }
        }
        for action in actions {
            if !self.act(action, mail, env) {
                return;
            }
        }
        let _never_gone = self.consumer.flush();
        for line in &mut self.shards {
            let _never_gone = line.flush();
        }
    }

    fn take_mail(&mut self, actions: &mut Vec<Action>, mail: &mut Mail, env: &mut Env) -> bool {
        let message = mail.committer.take();
        message.map(|message| self.take(message, actions, mail, env)).is_some()
    }

    fn take_report(&mut self, actions: &mut Vec<Action>, mail: &mut Mail, env: &mut Env) -> bool {
        let report = mail.reports.pop_front();
        report.map(|(token, report)| self.reported(Token(token), report, actions, mail, env)).is_some()
    }

    /// The answer to the commit that was sent last, if it is there.
    fn hear_answer(&mut self, mail: &Mail, env: &mut Env) {
        let Some((number, ok)) = self.answers.take(|place| mail.answers.get(place).copied()) else { return };
        if env.reach(mail.worker, Point::CommitAnswer) {
            return;
        }
        env.note(Who::Worker(mail.worker), "commit answered", None, i64::from(ok));
        if ok && !env.is_stored(mail.process, number) {
            let what = format!("commit {number} is taken for stored, and the broker has not stored it");
            env.oracle.violated(invariant::OFFSETS, None, what);
        }
        self.ledger.commit_finished(number, ok);
    }

    fn take(&mut self, message: ToCommitter, actions: &mut Vec<Action>, mail: &mut Mail, env: &mut Env) {
        let now = env.now();
        match message {
            ToCommitter::Opened(partition, opened) => {
                self.present.insert(partition, opened.epoch);
                self.rewinding.remove(&partition);
                self.ledger.opened(partition, &opened, now, actions);
            }
            ToCommitter::Received { partition, epoch, runs } => {
                runs.iter().for_each(|(first, last)| self.ledger.received(partition, epoch, *first, *last, now));
            }
            ToCommitter::Watermarks(ends) => ends.iter().for_each(|(at, end)| self.ledger.watermark(*at, *end)),
            ToCommitter::Gate(closed) => self.ledger.gate(closed, now),
            ToCommitter::Revoke(partitions) => {
                self.revoke_since_ms = env.now_ms;
                self.ledger.revoke(partitions, now, actions);
            }
            ToCommitter::Lost(partitions) => {
                for partition in &partitions {
                    if let Some(epoch) = self.present.remove(partition) {
                        env.oracle.unclean(mail.run(epoch));
                    }
                }
                self.ledger.lost(&partitions, actions);
                self.tell_consumer(ToConsumer::Forgotten);
            }
            ToCommitter::Settled(all) => {
                for settled in all {
                    if !self.publish(settled, actions, mail, env) {
                        return;
                    }
                }
            }
            ToCommitter::Drained(partition, epoch) => self.ledger.drained(partition, epoch, now, actions),
        }
    }

    /// `false`: the process died of it.
    fn publish(&mut self, settled: Settled<Payload>, actions: &mut Vec<Action>, mail: &Mail, env: &mut Env) -> bool {
        let (ticket, rec) = (settled.ticket, std::rc::Rc::clone(&settled.message.rec));
        let outputs = if settled.fate == Fate::Done { rec.outputs } else { crate::record::Outputs::default() };
        let records = outputs.places().len() as u32;
        let before = actions.len();
        let token = self.ledger.publish(settled, records, env.now(), actions);
        let letter = |a: &Action| matches!(a, Action::DeadLetter { .. });
        let goes_out = token.is_some() || actions.iter().skip(before).any(letter);
        if goes_out && self.present.get(&ticket.partition) != Some(&ticket.epoch) {
            let what = "has effects published though its assignment is over";
            env.oracle.violated(invariant::TWICE, Some((rec.partition, rec.offset)), what.into());
        }
        let Some(token) = token else { return true };
        let run = mail.run(ticket.epoch).0;
        for (index, place) in outputs.places().iter().enumerate() {
            if env.reach(mail.worker, Point::Publish) {
                return false;
            }
            let effect =
                Effect { run, partition: rec.partition, offset: rec.offset, index: index as u8, letter: false };
            env.produce(mail.worker, mail.process, *place, token.0, effect);
        }
        true
    }

    fn tell_consumer(&mut self, message: ToConsumer) {
        let _never_gone = self.consumer.push(message);
    }

    fn tell_shard(&mut self, shard: usize, message: ToShard) {
        let _never_gone = self.shards[shard].push(message);
    }

    fn reported(&mut self, token: Token, report: Report, actions: &mut Vec<Action>, mail: &mut Mail, env: &mut Env) {
        let (letter, ticket) = match self.ledger.publication(token) {
            Some(settled) => (matches!(settled.fate, Fate::DeadLetter(_)), Some(settled.ticket)),
            None => (false, None),
        };
        let point = match (report, letter) {
            (Report::Ok, true) => Point::LetterAck,
            (Report::Ok, false) => Point::Ack,
            _ => Point::Refusal,
        };
        if env.reach(mail.worker, point) {
            return;
        }
        let now = env.now();
        match report {
            Report::Ok => {
                self.ledger.acknowledged(token, now, actions);
            }
            Report::Undeliverable => {
                self.ledger.refused(token, Refusal::Undeliverable("too large".into()), now, actions);
            }
            Report::Blocked => {
                // One that was thrown out decides nothing any more; a rewind that was decided stays as it is.
                let member = !letter && env.group.has(mail.member);
                let decides = |t: &Ticket| {
                    !self.rewinding.contains(&t.partition) && self.present.get(&t.partition) == Some(&t.epoch)
                };
                if let Some(ticket) = ticket.filter(|t| member && decides(t)) {
                    let at = (index_of(ticket.partition), ticket.offset);
                    env.oracle.refusal_heard(mail.run(ticket.epoch), at, env.now_ms);
                }
                self.ledger.refused(token, Refusal::Blocked("no broker".into()), now, actions);
            }
        }
    }

    /// Does what the ledger asks for. `false`: the process died of it.
    fn act(&mut self, action: Action, mail: &mut Mail, env: &mut Env) -> bool {
        match action {
            Action::DeadLetter { token, short } => return self.send_letter(token, short, mail, env),
            Action::Commit { number, offsets } => {
                if env.reach(mail.worker, Point::Commit) {
                    return false;
                }
                self.answers.sent(number, number);
                self.send_commit(CommitName::Regular(number), offsets, mail, env);
            }
            Action::CommitAndRelease { offsets, partitions } => return self.release(offsets, partitions, mail, env),
            Action::Close { partition, epoch } => {
                for shard in 0..self.shards.len() {
                    self.tell_shard(shard, ToShard::Close { partition, epoch });
                }
            }
            Action::LetterAcknowledged { partition, epoch, offset, lane } => {
                let shard = shard_of(lane, self.shards.len() as u32) as usize;
                self.tell_shard(shard, ToShard::LetterAcknowledged { partition, epoch, offset });
            }
            Action::Pause(partition) => self.tell_consumer(ToConsumer::Pause(partition)),
            Action::Resume(partition) => self.tell_consumer(ToConsumer::Resume(partition)),
            Action::Rewind { partition, start, settled } => {
                self.rewinding.insert(partition);
                self.tell_consumer(ToConsumer::Rewind(partition, start, settled));
            }
            Action::Stalled { partition, .. } => self.tell_consumer(ToConsumer::Stalled(partition)),
            Action::Stray { partition, offset } => {
                let what = "settles twice, or before the ledger has heard that it was received";
                env.oracle.violated(invariant::FATE, Some((index_of(partition), offset)), what.into());
            }
            Action::Blocked { partition, .. } => {
                env.note(Who::Worker(mail.worker), "blocked", Some((index_of(partition), -1)), 0);
            }
            Action::Unblocked(partition) => {
                env.note(Who::Worker(mail.worker), "unblocked", Some((index_of(partition), -1)), 0);
            }
        }
        true
    }

    fn send_letter(&mut self, token: Token, short: bool, mail: &mut Mail, env: &mut Env) -> bool {
        let Some(settled) = self.ledger.publication(token) else { return true };
        let ticket = settled.ticket;
        if env.reach(mail.worker, Point::Letter) {
            return false;
        }
        let original = env.original(ticket.partition, ticket.offset);
        env.oracle.letter_made(settled, original.as_deref());
        let (run, partition) = (mail.run(ticket.epoch).0, index_of(ticket.partition));
        let effect = Effect { run, partition, offset: ticket.offset, index: 0, letter: true };
        env.produce_letter(mail.worker, mail.process, token.0, effect, short);
        true
    }

    fn send_commit(&mut self, name: CommitName, offsets: Vec<CommitOffset>, mail: &Mail, env: &mut Env) {
        let mut with_runs = Vec::with_capacity(offsets.len());
        for offset in offsets {
            match self.present.get(&offset.partition) {
                Some(epoch) => with_runs.push((offset, mail.run(*epoch))),
                None => {
                    let at = (index_of(offset.partition), offset.offset);
                    env.oracle.violated(invariant::OFFSETS, Some(at), "a partition that was lost is committed".into());
                }
            }
        }
        let lot = env.afflictions[usize::from(mail.worker)].commit.take().unwrap_or(CommitLot::Stored);
        let arrival_ms = self.last_arrival_ms.max(env.now_ms + env.rng.below(6));
        self.last_arrival_ms = arrival_ms;
        let request = CommitRequest {
            process: mail.process,
            member: mail.member,
            generation: env.group.known_generation(mail.member),
            name,
            offsets: with_runs,
            planned_ms: env.now_ms,
            lot,
        };
        env.after(arrival_ms - env.now_ms, Due::Commit(Box::new(request)));
    }

    fn release(
        &mut self,
        offsets: Vec<CommitOffset>,
        partitions: Vec<Partition>,
        mail: &mut Mail,
        env: &mut Env,
    ) -> bool {
        if env.reach(mail.worker, Point::Release) {
            return false;
        }
        let hasty = env.now_ms >= self.revoke_since_ms + self.revoke_ms;
        for partition in &partitions {
            env.note(Who::Worker(mail.worker), "release", Some((index_of(*partition), -1)), i64::from(hasty));
            if let Some(epoch) = self.present.get(partition).filter(|_| hasty) {
                env.oracle.unclean(mail.run(*epoch));
            }
        }
        self.answers.forget();
        self.releases += 1;
        let answered = offsets.is_empty().then_some(true);
        if answered.is_none() {
            self.send_commit(CommitName::Release(self.releases), offsets, mail, env);
        }
        let count = self.releases;
        self.releasing = Some(Releasing { count, partitions, answered, give_up_ms: env.now_ms + self.commit_ms });
        true
    }

    /// The last commit is answered, or waited for long enough.
    fn end_release(&mut self, mail: &mut Mail, env: &mut Env) {
        let Some(release) = self.releasing.take() else { return };
        for partition in &release.partitions {
            if let Some(epoch) = self.present.remove(partition)
                && release.answered != Some(true)
            {
                env.oracle.unclean(mail.run(epoch));
            }
        }
        self.ledger.released();
        self.tell_consumer(ToConsumer::Unassign(release.partitions));
    }
}
