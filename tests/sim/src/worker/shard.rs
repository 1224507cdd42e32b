//! A shard thread's shell around [`Shard`], with the model's handler in place of Wasm.

use super::trial::Trying;
use super::{Inbox, Mail, Obeyed, Order, ToCommitter, ToShard, Work};
use crate::coverage::Action;
use crate::env::Env;
use crate::handler::{self, Answer, Call};
use crate::invariants::{Whence, name};
use crate::record::{Payload, Rec, index_of};
use crate::settings::Settings;
use crate::trace::Who;
use keyrail_engine::breaker::{self, News};
use keyrail_engine::handover::Line;
use keyrail_engine::inbox::Deed;
use keyrail_engine::message::{Epoch, Fate, Now, Partition, Ticket};
use keyrail_engine::planted::Bug;
use keyrail_engine::policy;
use keyrail_engine::ranges::Ranges;
use keyrail_engine::shard::{CallFailure, NOTHING_SEEN, Next, Plan, Settled, Shard};
use keyrail_engine::state::Change;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;

/// An id that this shard must remember.
#[derive(Debug, Clone, Copy)]
struct Mark {
    partition: u16,
    offset: i64,
    wall_ms: i64,
}

#[derive(Debug)]
pub(super) struct ShardActor {
    number: usize,
    shard: Shard<Payload>,
    call: Option<Call>,
    wake_ms: Option<u64>,
    /// To the committer. While something waits in it the shard stands still, as the thread does.
    out: Line<Inbox<ToCommitter>>,
    /// Something came in since the shard was last asked.
    fresh: bool,
    epochs: BTreeMap<Partition, Epoch>,
    /// The last epoch of a partition that was closed: the ledger's word may come before the consumer's.
    closed: BTreeMap<Partition, Epoch>,
    /// By the oracle's number of twins.
    marks: HashMap<u32, Mark>,
    /// Closed while the call ran.
    drained: Vec<(Partition, Epoch)>,
    inbox_during_call: bool,
    /// Commands that came in before their assignment was opened here.
    early: Vec<Order>,
    planted: Option<Bug>,
    /// Committed while state was lent.
    kept: Vec<(Partition, Arc<[Change]>)>,
    /// It was told that the breaker is open.
    open: bool,
    /// It may run a probe.
    granted: bool,
    /// The call under way is one.
    probing: bool,
    /// By lane and assignment: what has run and is not settled, but for what was parked.
    unsettled: HashMap<(Partition, Epoch, u64), BTreeSet<i64>>,
    trying: Trying,
    order: policy::Order,
}

impl ShardActor {
    pub(super) fn new(settings: &Settings, number: u32, seed: u64, mail: &Mail) -> Self {
        let mut shard = Shard::new(settings.policy.clone(), seed ^ u64::from(number));
        shard.stands_at(number, settings.shards);
        Self {
            number: number as usize,
            shard,
            call: None,
            wake_ms: None,
            out: Line::new(mail.committer.clone()),
            fresh: false,
            epochs: BTreeMap::new(),
            closed: BTreeMap::new(),
            marks: HashMap::new(),
            drained: Vec::new(),
            inbox_during_call: settings.inbox_during_call,
            early: Vec::new(),
            planted: settings.policy.planted,
            kept: Vec::new(),
            open: false,
            granted: false,
            probing: false,
            unsettled: HashMap::new(),
            trying: Trying::default(),
            order: settings.policy.order.clone(),
        }
    }

    pub(super) fn is_runnable(&self, mail: &Mail, env: &Env) -> bool {
        if self.out.is_waiting() {
            return mail.committer.has_room();
        }
        let has_mail = !mail.shards[self.number].is_empty();
        match &self.call {
            Some(call) => env.now_ms >= call.ends_ms || self.inbox_during_call && has_mail,
            None => has_mail || self.fresh || self.wake_ms.is_some_and(|at| env.now_ms >= at),
        }
    }

    pub(super) fn next_wake_ms(&self, mail: &Mail) -> Option<u64> {
        match &self.call {
            _ if self.out.is_waiting() && !mail.committer.has_room() => None,
            Some(call) => Some(call.ends_ms),
            None => self.wake_ms,
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.call.is_none() && !self.out.is_waiting() && self.lanes() == 0
    }

    /// Tells the committer, or waits until it can.
    fn tell(&mut self, message: ToCommitter) {
        let _never_gone = self.out.push(message);
    }

    pub(super) fn changes(&self) -> usize {
        self.shard.changes_held()
    }

    pub(super) fn lanes(&self) -> usize {
        self.shard.load().lanes
    }

    pub(super) fn step(&mut self, mail: &mut Mail, env: &mut Env) {
        let _never_gone = self.out.flush();
        if self.out.is_waiting() {
            return;
        }
        let has_mail = !mail.shards[self.number].is_empty();
        let call_over = self.call.as_ref().is_some_and(|c| env.now_ms >= c.ends_ms);
        if call_over && !(self.inbox_during_call && has_mail && env.rng.percent(50)) {
            self.end_call(mail, env);
        } else if has_mail && (self.call.is_some() || env.rng.percent(80)) {
            self.take_mail(mail, env);
        } else if self.call.is_none() {
            self.ask(mail, env);
        }
    }

    fn take_mail(&mut self, mail: &mut Mail, env: &mut Env) {
        let Some(message) = mail.shards[self.number].take() else { return };
        self.fresh = true;
        match message {
            ToShard::Open { partition, epoch, seen_below, settled, condemned } => {
                self.shard.condemn(partition, condemned);
                // Where ids are kept a shard remembers only what is not committed, and that is over. An earlier start of this
                // assignment may have come to nothing before the shard heard of it.
                let seen_below = if env.settings.policy.keeps_ids() { NOTHING_SEEN } else { seen_below };
                self.open(partition, epoch, seen_below, &settled);
                for order in std::mem::take(&mut self.early) {
                    self.obey(order, mail, env);
                }
            }
            ToShard::Close { partition, epoch } => self.close(partition, epoch, mail, env),
            ToShard::Messages(messages) => {
                for (ticket, payload) in messages {
                    self.shard.accept(ticket, payload, env.now());
                }
            }
            ToShard::Marked(partition, ids) => self.shard.marked(partition, &ids),
            ToShard::Kept(partition, changes) if self.call.is_some() => self.kept.push((partition, changes)),
            ToShard::Kept(partition, changes) => self.shard.kept(partition, &changes),
            ToShard::Parked(partition, epoch, changes) => self.shard.parked(partition, epoch, &changes),
            ToShard::Covered(partition, epoch, progress) => self.shard.covered(partition, epoch, progress),
            ToShard::Order(order) => self.obey(*order, mail, env),
            ToShard::Breaker(order) => self.heed(order),
            ToShard::LetterAcknowledged { partition, epoch, offset } => {
                self.shard.letter_acknowledged(partition, epoch, offset);
                if let Some(fact) = env.oracle.look(index_of(partition), offset) {
                    let scope = fact.scope;
                    env.oracle.lane_goes_on(mail.run(partition, epoch), scope);
                }
            }
        }
    }

    fn heed(&mut self, order: breaker::Order) {
        match order {
            breaker::Order::Close { .. } => (self.open, self.granted) = (false, false),
            breaker::Order::Open => (self.open, self.granted) = (true, false),
            breaker::Order::Probe { .. } => self.granted = true,
        }
        self.shard.heed(order);
    }

    /// Tells the breaker what it is to hear.
    fn tell_breaker(&mut self, env: &Env) {
        while let Some(news) = self.shard.news(env.now()) {
            // It had nothing to try.
            self.granted &= !matches!(news, News::Probed { .. });
            self.tell(ToCommitter::Breaker(self.number, news, env.now_ms));
        }
    }

    /// While the breaker is open nothing but single probes run.
    fn check_breaker(&mut self, messages: usize, mail: &Mail, env: &mut Env) {
        self.probing = self.open;
        if !self.open {
            return;
        }
        if !std::mem::take(&mut self.granted) {
            env.oracle.violated(name::BREAKER, None, "messages run though the breaker is open".into());
        }
        if messages != 1 {
            env.oracle.violated(name::BREAKER, None, format!("a probe is of {messages} messages"));
        }
        env.oracle.probe_begins(mail.process);
    }

    fn open(&mut self, partition: Partition, epoch: Epoch, seen_below: i64, settled: &Ranges) {
        self.shard.open(partition, epoch, seen_below, settled);
        if self.closed.get(&partition).is_some_and(|closed| *closed >= epoch) {
            return;
        }
        self.trying.opened(&self.order, partition, epoch);
        self.epochs.insert(partition, epoch);
        let number = index_of(partition);
        let anew = seen_below == NOTHING_SEEN;
        let stays = |at: i64| !anew && (at < seen_below || settled.contains(at));
        self.marks.retain(|_, m| m.partition != number || stays(m.offset));
    }

    fn close(&mut self, partition: Partition, epoch: Epoch, mail: &mut Mail, env: &mut Env) {
        if env.reach(mail.worker, Action::Drained) {
            return;
        }
        env.note(Who::Worker(mail.worker), "drained", Some((index_of(partition), -1)), epoch.0 as i64);
        self.shard.close(partition, epoch);
        self.trying.closed(&self.order, partition, epoch);
        self.closed.insert(partition, epoch);
        if self.epochs.get(&partition).is_some_and(|present| *present <= epoch) {
            self.epochs.remove(&partition);
        }
        if self.call.is_some() {
            self.drained.push((partition, epoch));
        } else {
            self.tell(ToCommitter::Drained(partition, epoch));
        }
    }

    /// Somebody wants something of a message.
    fn obey(&mut self, order: Order, mail: &Mail, env: &mut Env) {
        let Order { order, at, named } = order;
        let (partition, epoch, offset) = (order.partition, order.epoch, order.offset);
        let message = (index_of(partition), offset);
        if env.reach(mail.worker, Action::Obey) {
            return;
        }
        if self.shard.awaits(partition, epoch) && self.planted != Some(Bug::ObeyUnopened) {
            self.early.push(Order { order, at, named });
            return;
        }
        let drops = matches!(order.deed, Deed::Drop);
        let Some(result) = self.shard.obey(order, env.now(), &*mail.parked) else {
            return env.note(Who::Worker(mail.worker), "command gone", Some(message), at);
        };
        let what = if result.is_ok() { "obeyed" } else { "refused" };
        env.note(Who::Worker(mail.worker), what, Some(message), at);
        let told = result.as_ref().map_err(|refused| *refused);
        let owned = env.group.owner(message.0) == Some(mail.member);
        env.oracle.obeyed(mail.run(partition, epoch), (named.0, message), told, (owned, env.now()));
        if drops
            && result.is_ok()
            && let Some(twin) = env.oracle.twin(message)
        {
            let wall_ms = env.now().wall_ms;
            self.marks.insert(twin, Mark { partition: message.0, offset, wall_ms });
        }
        self.tell(ToCommitter::Obeyed(Box::new(Obeyed { partition, epoch, at, named, result })));
    }

    /// Asks the engine what runs next, and starts it.
    fn ask(&mut self, mail: &mut Mail, env: &mut Env) {
        self.fresh = false;
        let mut settled = Vec::new();
        self.trying.follow(&mut self.shard, env);
        self.shard.wake_timers(env.now(), &mail.timers, &*mail.parked);
        let next = self.shard.next(env.now(), &*mail.past, &*mail.parked, &mut settled);
        self.hand_on(settled, Vec::new(), mail, env);
        match next {
            Next::Wait(at) => self.wake_ms = at,
            Next::Run(plan) => self.start_call(plan, mail, env),
        }
        self.tell_breaker(env);
    }

    fn start_call(&mut self, plan: Plan, mail: &mut Mail, env: &mut Env) {
        let mut slots = Vec::with_capacity(plan.messages as usize);
        for delivery in self.shard.batch() {
            slots.push((*delivery.ticket, Rc::clone(&delivery.message.rec), delivery.attempt));
        }
        if env.reach(mail.worker, Action::Call) {
            return;
        }
        if env.settings.policy.keeps_state() && env.rng.below(200) == 0 {
            // No instance of the handler can be had now.
            if let Some(lent) = self.shard.lend_state() {
                self.shard.return_state(lent);
            }
            self.shard.put_off();
            self.fresh = true;
            return;
        }
        self.check_twins(&slots, env);
        self.check_timers(&slots, env);
        check_apart(&slots, env);
        self.check_breaker(slots.len(), mail, env);
        let on_trial = self.trying.begin(plan, &slots, self.probing, env);
        let mut calls_before = Vec::with_capacity(slots.len());
        for (ticket, rec, attempt) in &slots {
            let at = (rec.partition, rec.offset);
            env.note(Who::Worker(mail.worker), "called", Some(at), i64::from(*attempt));
            if self.epochs.get(&ticket.partition) != Some(&ticket.epoch) {
                env.oracle.violated(name::TWICE, Some(at), "runs though its assignment is over".into());
            }
            // The clock may have gone back since it was found to be due.
            let due_by = Now { wall_ms: env.latest_wall(), ..env.now() };
            let run = mail.run(ticket.partition, ticket.epoch);
            let calls = env.oracle.called(run, rec, whence(ticket, mail, env), *attempt, due_by);
            if calls == 0 {
                let latest_wall_ms = env.latest_wall();
                env.oracle.runs_first(mail.run(ticket.partition, ticket.epoch), ticket, latest_wall_ms);
                self.check_marks(ticket, mail, env);
            }
            calls_before.push(calls);
        }
        let mut call = handler::call(slots, &calls_before, plan, mail.worker, on_trial, env);
        call.probes = self.probing;
        if let Some(lent) = self.shard.lend_state() {
            call.begin(lent, &mail.state, env);
        }
        self.call = Some(call);
    }

    /// A timer does not run before its time, nor before what ran before it is settled.
    fn check_timers(&mut self, slots: &[(Ticket, Rc<Rec>, u32)], env: &mut Env) {
        for (ticket, rec, _) in slots {
            let at = (rec.partition, rec.offset);
            let unsettled = self.unsettled.entry((ticket.partition, ticket.epoch, ticket.lane)).or_default();
            // What stood behind it in an earlier call of its own comes again behind it.
            let first = !unsettled.contains(&ticket.offset);
            if ticket.is_set() && first && !unsettled.is_empty() {
                let what = "runs before what ran before it is settled".into();
                env.oracle.violated(name::TIMERS, Some(at), what);
            }
            // The clock may have gone back since it was found to be due.
            if ticket.is_timer() && env.latest_wall() < rec.timestamp_ms {
                let early_ms = rec.timestamp_ms - env.latest_wall();
                env.oracle.violated(name::TIMERS, Some(at), format!("runs {early_ms} ms before its time"));
            }
            // What was parked may be taken back by hand.
            if ticket.parked == 0 {
                unsettled.insert(ticket.offset);
            }
        }
    }

    /// A message and its duplicate must not run at the same time.
    fn check_twins(&self, slots: &[(Ticket, Rc<Rec>, u32)], env: &mut Env) {
        let mut twins = BTreeSet::new();
        for (_, rec, _) in slots {
            let at = (rec.partition, rec.offset);
            if env.oracle.twin(at).is_some_and(|twin| !twins.insert(twin)) {
                env.oracle.violated(name::DEDUP, Some(at), "runs together with a message that is the same".into());
            }
        }
    }

    /// A message that runs must not be one that this shard remembers.
    fn check_marks(&self, ticket: &Ticket, mail: &Mail, env: &mut Env) {
        let at = (index_of(ticket.partition), ticket.offset);
        let Some(dedup) = &env.settings.policy.dedup else { return };
        let Some(mark) = env.oracle.twin(at).and_then(|twin| self.marks.get(&twin)) else { return };
        let roomy = dedup.kept || dedup.capacity > 10_000;
        // The ledger marks later, and a clock may go back between the two.
        let marked_ms = ticket.id.and_then(|id| mail.past.time_of(ticket.task(), id)).unwrap_or(mark.wall_ms);
        // What has failed was no duplicate, though somebody has dropped another one since.
        let failed = env.oracle.has_failed(at, mail.run(ticket.partition, ticket.epoch));
        let within = !failed && env.latest_wall() - mark.wall_ms.min(marked_ms) < dedup.window_ms as i64;
        if roomy && within && (mark.partition, mark.offset) != at {
            let what =
                format!("runs though offset {} of partition {} was the same message", mark.offset, mark.partition);
            env.oracle.violated(name::DEDUP, Some(at), what);
        }
    }

    fn end_call(&mut self, mail: &mut Mail, env: &mut Env) {
        let Some(mut call) = self.call.take() else { return };
        let action = if matches!(call.answer, Answer::Outcomes(_)) { Action::Complete } else { Action::CallFailed };
        if env.reach(mail.worker, action) {
            return;
        }
        let said = call.end(&mail.state, env).map_or_else(Vec::new, |(lent, said)| {
            self.shard.return_state(lent);
            said
        });
        for (partition, changes) in self.kept.drain(..) {
            self.shard.kept(partition, &changes);
        }
        handler::tell_oracle(&call, mail, env);
        self.trying.end(&call);
        if std::mem::take(&mut self.probing) {
            env.oracle.probe_ends(mail.process);
        }
        let (mut settled, now) = (Vec::new(), env.now());
        let report = match call.answer {
            Answer::Outcomes(outcomes) => self.shard.complete(outcomes, call.took_us, now, &mut settled),
            Answer::Failed { timeout } => {
                let failure = handler::words(if timeout { "timeout" } else { "trap" });
                self.shard.fail(CallFailure { timeout, failure }, now, &mut settled)
            }
        };
        self.fresh = true;
        self.trying.check(&mut self.shard, mail, env);
        self.hand_on(settled, said, mail, env);
        self.tell_breaker(env);
        if report.retried > 0 && env.reach(mail.worker, Action::RetryWait) {
            return;
        }
        for (partition, epoch) in std::mem::take(&mut self.drained) {
            self.tell(ToCommitter::Drained(partition, epoch));
        }
    }

    fn hand_on(&mut self, all: Vec<Settled<Payload>>, said: Vec<u64>, mail: &Mail, env: &mut Env) {
        for settled in &all {
            let ticket = settled.ticket;
            if let Some(own) = self.unsettled.get_mut(&(ticket.partition, ticket.epoch, ticket.lane)) {
                own.remove(&ticket.offset);
            }
            let at = (index_of(ticket.partition), ticket.offset);
            let (what, duplicate) = match &settled.fate {
                Fate::Done => ("done", false),
                Fate::Skipped => ("skipped", false),
                Fate::Duplicate { .. } => ("duplicate", true),
                Fate::DeadLetter(_) => ("dead letter", false),
                Fate::Discarded(_) => ("discarded", false),
                Fate::Parked(_) => ("parked", false),
                Fate::ParkedBefore => ("parked before", false),
                Fate::Buried => ("buried", false),
            };
            env.note(Who::Worker(mail.worker), what, Some(at), ticket.epoch.0 as i64);
            env.letters += u64::from(matches!(settled.fate, Fate::DeadLetter(_)));
            let now = env.now();
            let whence = whence(&ticket, mail, env);
            env.oracle.settled(mail.run(ticket.partition, ticket.epoch), &ticket, whence, &settled.fate, now);
            if duplicate {
                if env.reach(mail.worker, Action::Duplicate) {
                    return;
                }
            } else if !matches!(settled.fate, Fate::Parked(_) | Fate::ParkedBefore | Fate::Buried)
                && self.epochs.get(&ticket.partition) == Some(&ticket.epoch)
                && let Some(twin) = env.oracle.twin(at)
            {
                let wall_ms = env.now().wall_ms;
                self.marks.insert(twin, Mark { partition: at.0, offset: at.1, wall_ms });
            }
        }
        if !all.is_empty() {
            self.tell(ToCommitter::Settled(Work { settled: all.into(), said }));
        }
    }
}

fn whence(ticket: &Ticket, mail: &Mail, env: &Env) -> Whence {
    let partition = index_of(ticket.partition);
    let owned = env.group.owner(partition) == Some(mail.member);
    match ticket.parked {
        0 => Whence::Input,
        _ if owned && env.oracle.is_latest(mail.run(ticket.partition, ticket.epoch), partition) => Whence::Parked,
        _ => Whence::Stale,
    }
}

/// What a call does outside at once has no order.
fn check_apart(slots: &[(Ticket, Rc<Rec>, u32)], env: &mut Env) {
    if !env.settings.policy.batch.apart {
        return;
    }
    let mut lanes = BTreeSet::new();
    for (ticket, rec, _) in slots {
        if !lanes.insert((ticket.task(), ticket.lane)) {
            let what = "runs in one call with an earlier one of its lane".into();
            env.oracle.violated(name::ORDER, Some((rec.partition, rec.offset)), what);
        }
    }
}
