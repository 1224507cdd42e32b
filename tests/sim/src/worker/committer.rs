//! The committer thread's shell around [`Pipeline`]: produces, commits, releases.

mod breaker;
mod delays;
mod inbox;
mod offsets;
mod parked;
mod state;
mod transaction;

use super::{Inbox, Mail, ToCommitter, ToConsumer, ToShard};
use crate::coverage::Action as Point;
use crate::env::{CommitName, Env};
use crate::invariants::name as invariant;
use crate::model::outputs::{Effect, Report};
use crate::record::{Payload, index_of};
use crate::settings::Settings;
use crate::trace::Who;
use inbox::Inboxes;
use keyrail_engine::answers::Answers;
use keyrail_engine::breaker::Breaker;
use keyrail_engine::handover::Line;
use keyrail_engine::message::{Epoch, Fate, Partition, Ticket};
use keyrail_engine::order::shard_of;
use keyrail_engine::pipeline::{Action, Pipeline, Refusal, Token, Trouble};
use keyrail_engine::planted::Bug;
use keyrail_engine::shard::Settled;
use keyrail_engine::state::schema::{Found, Schemas};
use state::Known;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use transaction::Client;

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
    /// What shards have told and the ledger does not take yet, in order.
    hold: VecDeque<ToCommitter>,
    client: Client,
    known: Known,
    /// Bytes of delayed sends that go out.
    delayed: Rc<Cell<u64>>,
    inboxes: Inboxes,
    /// Records that were sent to be parked, by token.
    parking: BTreeMap<u64, usize>,
    /// When each shard counted last for the breaker.
    tallied_ms: Vec<u64>,
    breaker: Option<Breaker>,
    /// Since when the breaker is open, and what had become a dead letter before.
    opened: Option<(u64, u64)>,
    /// The transactional id is another process's: this one ends.
    fenced: bool,
    planted: Option<Bug>,
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
            hold: VecDeque::new(),
            client: Client::default(),
            known: Known::default(),
            delayed: Rc::default(),
            inboxes: Inboxes::default(),
            parking: BTreeMap::new(),
            tallied_ms: vec![0; settings.shards as usize],
            breaker: Breaker::new(&settings.policy, settings.shards),
            opened: None,
            fenced: false,
            planted: settings.policy.planted,
        }
    }

    pub(super) fn is_runnable(&self, mail: &Mail, env: &Env) -> bool {
        match &self.releasing {
            Some(release) => release.answered.is_some() || env.now_ms >= release.give_up_ms,
            None => {
                !mail.committer.is_empty()
                    || !mail.reports.is_empty()
                    || !mail.told.is_empty()
                    || !self.hold.is_empty() && self.ledger.takes_settled()
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
        let ending = !self.hold.is_empty() || !self.ledger.takes_settled();
        if waiting || ending || self.releasing.is_some() || self.ledger.publications() > 0 {
            return None;
        }
        let stuck = self.ledger.status().find(|(_, s)| s.unsettled > 0 && !s.paused && s.blocked.is_none());
        stuck.map(|(partition, _)| partition)
    }

    /// Messages that are on their way, or wait to be.
    pub(super) fn publications(&self) -> usize {
        self.ledger.publications() + self.hold.len()
    }

    pub(super) const fn is_fenced(&self) -> bool {
        self.fenced
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
            if env.settings.policy.keeps_state() {
                self.tend_state(mail, env);
            }
            self.read_inboxes(mail, env);
            if !self.send_delayed(&mut actions, mail, env) {
                return;
            }
            self.ledger.tick(env.now(), &mut actions);
            self.tick_breaker(mail, env);
        } else {
            // What a thread waits for comes in any order, but for what is in one line.
            let first = env.rng.below(3);
            let did = first == 0 && self.take_report(&mut actions, mail, env)
                || first != 1 && self.take_told(&mut actions, mail, env)
                || self.take_held(&mut actions, mail, env);
            if !did && !self.take_mail(&mut actions, mail, env) && !self.take_report(&mut actions, mail, env) {
                self.take_told(&mut actions, mail, env);
            }
        }
        self.act_all(actions, mail, env);
        let _never_gone = self.consumer.flush();
        for line in &mut self.shards {
            let _never_gone = line.flush();
        }
    }

    /// Does what the ledger asks for, and what it asks for then.
    fn act_all(&mut self, mut actions: Vec<Action>, mail: &mut Mail, env: &mut Env) {
        while !actions.is_empty() {
            let mut more = Vec::new();
            for action in actions {
                if self.fenced || !self.act(action, &mut more, mail, env) {
                    return;
                }
            }
            actions = more;
        }
    }

    fn take_mail(&mut self, actions: &mut Vec<Action>, mail: &mut Mail, env: &mut Env) -> bool {
        let Some(message) = mail.committer.take() else { return false };
        let is_held = matches!(message, ToCommitter::Settled(_) | ToCommitter::Obeyed(_) | ToCommitter::Drained(..));
        if is_held && (!self.hold.is_empty() || !self.ledger.takes_settled()) {
            self.hold.push_back(message);
        } else {
            self.take(message, actions, mail, env);
        }
        true
    }

    /// What waits for the ledger goes on, in order.
    fn take_held(&mut self, actions: &mut Vec<Action>, mail: &mut Mail, env: &mut Env) -> bool {
        if !self.ledger.takes_settled() {
            return false;
        }
        let out_of_order = self.planted == Some(Bug::HoldReversed);
        let message = if out_of_order { self.hold.pop_back() } else { self.hold.pop_front() };
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
        if ok {
            self.reach_ends(number, mail);
        }
        // One that was thrown out does not know what was done to the group since.
        for (partition, status) in self.ledger.status().filter(|_| env.group.has(mail.member)) {
            let stands = env.group.committed(index_of(partition)).map(|c| c.offset);
            if status.committed > stands {
                let what = format!("the ledger takes {:?} for committed, and {stands:?} is", status.committed);
                env.oracle.violated(invariant::OFFSETS, Some((index_of(partition), -1)), what);
            }
        }
    }

    fn take(&mut self, message: ToCommitter, actions: &mut Vec<Action>, mail: &mut Mail, env: &mut Env) {
        let now = env.now();
        match message {
            ToCommitter::Opened(all) => {
                for (partition, opened) in all {
                    self.present.insert(partition, opened.epoch);
                    self.rewinding.remove(&partition);
                    self.ledger.opened(partition, &opened, now, actions);
                }
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
                        env.oracle.unclean(mail.run(*partition, epoch));
                    }
                }
                self.ledger.lost(&partitions, now, actions);
                self.tell_consumer(ToConsumer::Forgotten);
            }
            ToCommitter::StateRead(task, epoch) => {
                if self.present.get(&task) == Some(&epoch) {
                    self.known.read(task, epoch);
                    let found = Found::of(&*mail.state, task);
                    let schemas = Schemas::new(env.schema_of(mail.process), []);
                    self.ledger.must_mark(task, epoch, schemas.to_mark(&found));
                    self.ledger.awaited(task, epoch, now);
                }
            }
            ToCommitter::ParkedRead(partition, epoch) => {
                if self.present.get(&partition) == Some(&epoch) && env.settings.policy.takes_commands() {
                    self.open_inbox(partition, epoch, env);
                }
            }
            ToCommitter::Obeyed(obeyed) => self.obeyed(*obeyed, actions, mail, env),
            ToCommitter::StateEnds(ends) => self.hear_ends(ends, mail),
            ToCommitter::Settled(mut work) => {
                while let Some(settled) = work.settled.pop_front() {
                    let said = work.said_of(settled.slot);
                    if !self.publish(settled, said, actions, mail, env) {
                        return;
                    }
                    // What was published can end the transaction in the middle: the rest waits, before all others.
                    if !self.ledger.takes_settled() {
                        break;
                    }
                }
                if !work.settled.is_empty() {
                    self.hold.push_front(ToCommitter::Settled(work));
                }
            }
            ToCommitter::Drained(partition, epoch) => self.ledger.drained(partition, epoch, now, actions),
            ToCommitter::Breaker(shard, news, at_ms) => self.hear_shard(shard, news, at_ms, mail, env),
        }
    }

    /// `false`: the process died of it.
    fn publish(
        &mut self,
        settled: Settled<Payload>,
        said: u64,
        actions: &mut Vec<Action>,
        mail: &mut Mail,
        env: &mut Env,
    ) -> bool {
        let (ticket, rec) = (settled.ticket, std::rc::Rc::clone(&settled.message.rec));
        let outputs = if settled.fate == Fate::Done { rec.outputs } else { crate::record::Outputs::default() };
        let records = outputs.places().len() as u32;
        let before = actions.len();
        env.oracle.published(rec.partition, &settled.changes, env.now().wall_ms);
        let token = self.ledger.publish(settled, records, env.now(), actions);
        let letter = |a: &Action| matches!(a, Action::DeadLetter { .. } | Action::Park { .. });
        let goes_out = token.is_some() || actions.iter().skip(before).any(letter);
        if goes_out && self.present.get(&ticket.partition) != Some(&ticket.epoch) {
            let what = "has effects published though its assignment is over";
            env.oracle.violated(invariant::TWICE, Some((rec.partition, rec.offset)), what.into());
        }
        let Some(token) = token else { return true };
        let run = mail.run(ticket.partition, ticket.epoch).0;
        for (index, place) in outputs.places().iter().enumerate() {
            if env.reach(mail.worker, Point::Publish) {
                return false;
            }
            let effect =
                Effect { run, partition: rec.partition, offset: rec.offset, index: index as u8, letter: false, said };
            self.ledger.staged(u64::from(rec.size));
            if let Some(report) = env.produce(self.client.sender(mail), *place, token.0, effect) {
                self.reported(token, report, actions, mail, env);
            }
            if !self.ledger.takes_settled() {
                break;
            }
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
                if let Some(ticket) = ticket.filter(|t| member && !env.has_transactions() && decides(t)) {
                    let at = (index_of(ticket.partition), ticket.offset);
                    env.oracle.refusal_heard(mail.run(ticket.partition, ticket.epoch), at, env.now_ms);
                }
                self.ledger.refused(token, Refusal::Blocked("no broker".into()), now, actions);
            }
            Report::Fenced => self.ledger.producer_failed(Trouble::Fenced("a record was fenced".into()), now, actions),
        }
    }

    /// Does what the ledger asks for. `false`: the process died of it.
    fn act(&mut self, action: Action, more: &mut Vec<Action>, mail: &mut Mail, env: &mut Env) -> bool {
        match action {
            Action::DeadLetter { token, short } => return self.send_letter(token, short, more, mail, env),
            Action::Commit { number, offsets } => {
                if env.reach(mail.worker, Point::Commit) {
                    return false;
                }
                let ledger = &self.ledger;
                self.known.ends_sent(number, |partition| ledger.is_writing(partition));
                if env.has_transactions() {
                    self.send_offsets(number, offsets, mail, env);
                    return true;
                }
                self.answers.sent(number, number);
                self.send_commit(CommitName::Regular(number), offsets, mail, env);
            }
            Action::CommitAndRelease { offsets, partitions } => return self.release(offsets, partitions, mail, env),
            Action::Mark { .. }
            | Action::Marked { .. }
            | Action::Keep { .. }
            | Action::Kept { .. }
            | Action::Condemn { .. }
            | Action::Release { .. }
            | Action::Renew
            | Action::GivenUp { .. }
            | Action::Restart(_)
            | Action::Fenced(_) => return self.act_in_transaction(action, more, mail, env),
            Action::Park { .. }
            | Action::Unpark { .. }
            | Action::Parked { .. }
            | Action::Covered { .. }
            | Action::Answer { .. } => return self.act_on_parked(action, more, mail, env),
            Action::Close { partition, epoch } => {
                self.known.close(env.settings.policy.order.task(partition), epoch);
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
            Action::Rewind(all) => {
                for (partition, _, _) in &all {
                    self.rewinding.insert(*partition);
                    self.known.suspend(*partition);
                }
                self.tell_consumer(ToConsumer::Rewind(all));
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

    fn send_letter(
        &mut self,
        token: Token,
        short: bool,
        more: &mut Vec<Action>,
        mail: &mut Mail,
        env: &mut Env,
    ) -> bool {
        let Some(settled) = self.ledger.publication(token) else { return true };
        let ticket = settled.ticket;
        if env.reach(mail.worker, Point::Letter) {
            return false;
        }
        let original = env.original(ticket.partition, ticket.offset).filter(|_| !ticket.is_timer());
        env.oracle.letter_made(settled, original.as_deref());
        let (run, partition) = (mail.run(ticket.partition, ticket.epoch).0, index_of(ticket.partition));
        let effect = Effect { run, partition, offset: ticket.offset, index: 0, letter: true, said: 0 };
        self.ledger.staged(100);
        if let Some(report) = env.produce_letter(self.client.sender(mail), token.0, effect, short) {
            self.reported(token, report, more, mail, env);
        }
        true
    }
}
