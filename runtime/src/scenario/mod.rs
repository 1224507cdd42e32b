//! Messages played through a handler by its manifest, with a clock that nothing moves but the player: what `keyrail test` does
//! with a file of messages, and what a handler must pass before it serves ([`file`]).
//!
//! The engine's own [`Intake`] and [`Shard`] decide here as they do in a running pipeline: which message waits for which, what
//! shares a call, what runs again and when, when a timer comes. The handler runs in the same instances. What differs: there is
//! one shard, waits have no jitter, batches don't wait for more messages, all that waits does so in memory and none of it is
//! lost, what is settled is committed at once, and there is no breaker. So the same
//! scenario gives the same events each time.

mod event;
pub mod file;
mod halted;
mod kept;
mod once;
mod servers;
pub mod told;

pub use event::{Answered, End, Event, Input, Pending, Place, Told, What};
pub use halted::Halted;
pub use kept::Alarm;
pub use once::Took;

use crate::config::Pipeline;
use crate::http::{Allowed, Fetch, Request};
use crate::pipeline::{Source, engine_failure, engine_outcome, limits, output_headers, setup};
use crate::record::{Record, RecordBuilder, TopicPartition};
use crate::replay::{Change, Sent, Verdict, change, sent};
use crate::wasm::{Answer, CallFailure, Delivery, Effects, Handler, Instance, Limits, Setup, State};
use halted::MOST_EVENTS;
use kept::{Payload, Store};
use keyrail_engine::intake::{Found, From, Intake, Take};
use keyrail_engine::message::{Fate, Now, Partition, Reason, Ticket};
use keyrail_engine::parking::NothingParked;
use keyrail_engine::policy::{Policy, Spent};
use keyrail_engine::ranges::Ranges;
use keyrail_engine::shard::{self, NOTHING_SEEN, Next, Plan, Settled, Shard};
use keyrail_engine::timers::bare;
use servers::Servers;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What lanes are hashed with: always the same.
const SEED: u64 = 0;
/// What a call is said to have taken, in microseconds: how many messages share one must not depend on the machine.
const TOOK_US: u64 = 1;

/// See [`Player::settle`].
const SETTLING_MS: u64 = 3_600_000;

/// The messages of a batch by place: their slots, and on which attempt they ran.
type Ran = BTreeMap<(Partition, i64), (usize, Payload, u32)>;

/// What a run asked for and said.
#[derive(Default)]
struct Heard {
    requests: Vec<Request>,
    said: Option<Verdict>,
}

/// See the module.
pub struct Player {
    handler: Handler,
    setup: Setup,
    limits: Limits,
    policy: Policy,
    /// `retry.then`: the engine is not told of what needs parking.
    then: Spent,
    intake: Intake,
    shard: Shard<Payload>,
    store: Arc<Store>,
    instance: Option<Instance>,
    /// `None`: the manifest grants no HTTP.
    servers: Option<Arc<Servers>>,
    /// What the last call asked of them, by slot.
    asked: BTreeMap<u32, Vec<Request>>,
    /// What the last call came to, by slot.
    said: Vec<Verdict>,
    /// See [`Player::once`].
    once: bool,
    took: Took,
    start_ms: i64,
    now_ms: u64,
    /// By partition: the next offset.
    ends: BTreeMap<Partition, i64>,
    /// What waits for its retry, and until when.
    retries: BTreeMap<(Partition, i64), u64>,
    /// Messages that have been taken in and are not settled, and what is held, with their keys; timers by name.
    unsettled: BTreeMap<(Place, Option<String>), Option<Vec<u8>>>,
    /// Delayed sends: when, and in which order.
    later: BTreeMap<(u64, u64), Sent>,
    count: u64,
    events: Vec<Event>,
    /// How many events there were in all.
    told: usize,
    /// The last message that took its key along.
    leads: Option<Place>,
    /// By the real clock it is over then; and how long that was from the start.
    end: Option<(Instant, Duration)>,
}

impl Player {
    /// Of a handler that was loaded with this manifest. Its clock stands at `start_ms`, milliseconds since the Unix epoch.
    #[must_use]
    pub fn new(handler: Handler, manifest: &Pipeline, start_ms: i64) -> Self {
        let mut policy = manifest.policy.clone();
        let then = policy.retry.then;
        (policy.retry.in_place_ms, policy.retry.jitter) = (None, 0.0);
        policy.retry.in_place_most = usize::MAX;
        if matches!(then, Spent::Hold | Spent::DeadLetterKey) {
            policy.retry.then = Spent::DeadLetter;
        }
        policy.batch.max_wait_ms = 0;
        policy.breaker = None;
        let window_ms = policy.dedup.as_ref().map_or(0, |dedup| dedup.window_ms);
        let mut shard = Shard::new(policy.clone(), SEED);
        shard.tell_retries();
        Self {
            handler,
            setup: Setup { record: false, ..setup(manifest) },
            limits: limits(manifest),
            then,
            intake: Intake::new(policy.clone(), 1, SEED),
            shard,
            store: Arc::new(Store::new(&policy.order, SEED, window_ms)),
            policy,
            instance: None,
            servers: manifest.http.as_ref().map(|http| {
                let largest = usize::try_from(http.response_bytes).unwrap_or(usize::MAX);
                Arc::new(Servers::new(Allowed(http.hosts.clone()), largest))
            }),
            asked: BTreeMap::new(),
            said: Vec::new(),
            once: false,
            took: Took::default(),
            start_ms,
            now_ms: 0,
            ends: BTreeMap::new(),
            retries: BTreeMap::new(),
            unsettled: BTreeMap::new(),
            later: BTreeMap::new(),
            count: 0,
            events: Vec::new(),
            told: 0,
            leads: None,
            end: None,
        }
    }

    /// From now on it may take so long by the real clock, and the time to open an instance.
    pub fn end_after(&mut self, limit: Duration) {
        self.end = Some((Instant::now() + limit, limit));
    }

    /// A message arrives. It runs when the clock is next moved, or at [`Player::settle`].
    pub fn give(&mut self, input: &Input) {
        let partition = Partition { topic: input.topic, number: input.partition };
        self.open(partition);
        let now = self.now();
        let end = self.ends.entry(partition).or_default();
        let offset = std::mem::replace(end, *end + 1);
        let mut builder = RecordBuilder::new(input.key.as_deref(), input.value.as_deref());
        input.headers.iter().for_each(|(name, value)| builder.header(name, value.as_deref()));
        let at = TopicPartition { topic: input.topic, partition: input.partition };
        let record = builder.build(at, offset, input.timestamp_ms.unwrap_or(now.wall_ms));
        let message = Payload { record, timer: None };
        self.accept(partition, message);
    }

    fn accept(&mut self, partition: Partition, message: Payload) {
        // Nothing was settled before, and each offset comes once.
        let taken = self.intake.take(partition, message.record.offset, &message.record);
        let Take::Route { ticket, .. } = taken else { return };
        let key = message.record.key().map(<[u8]>::to_vec);
        self.unsettled.insert((place(&ticket, &message.record), None), key);
        let _taken = self.shard.accept(ticket, message, self.now());
    }

    /// From now on such requests are answered so: each answer once, in their order, and the last one for ever.
    ///
    /// # Errors
    /// The manifest grants no HTTP.
    pub fn answer(&mut self, answer: &Answered) -> Result<(), &'static str> {
        let servers = self.servers.as_ref().ok_or("the manifest grants no HTTP: add the host to capabilities.http")?;
        servers.answer(answer);
        Ok(())
    }

    /// Plays until all messages are settled that do not wait for somebody's hands, and for an hour of the clock at most: an outage
    /// may be retried for days.
    ///
    /// # Errors
    /// See [`Halted`].
    pub fn settle(&mut self) -> Result<(), Halted> {
        self.play()?;
        let end_ms = self.now_ms.saturating_add(SETTLING_MS);
        while let Some(due_ms) = self.retries.values().min().copied().filter(|due_ms| *due_ms <= end_ms) {
            self.move_to(due_ms)?;
            // A timer that was cancelled while it waited never comes.
            self.retries.retain(|_, due_ms| *due_ms > self.now_ms);
        }
        Ok(())
    }

    /// Moves the clock on, over all that is due meanwhile.
    ///
    /// # Errors
    /// See [`Halted`].
    pub fn advance(&mut self, ms: u64) -> Result<(), Halted> {
        self.play()?;
        self.move_to(self.now_ms.saturating_add(ms))
    }

    /// What came since this was last asked, in order.
    pub fn events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// What is left undone.
    #[must_use]
    pub fn pending(&self) -> Vec<Pending> {
        let alarms = self.store.alarms().into_iter();
        let timers = alarms.map(|alarm| Pending::Timer(alarm.clone(), alarm.at_ms.saturating_sub(self.start_ms)));
        let later = self.later.iter().map(|((at_ms, _), sent)| Pending::Later(*at_ms, sent.clone()));
        let message = |((place, timer), key): (&(Place, Option<String>), &Option<Vec<u8>>)| Pending::Message {
            place: *place,
            timer: timer.clone(),
            key: key.clone(),
        };
        let messages = self.unsettled.iter().map(message);
        timers.chain(later).chain(messages).collect()
    }

    fn now(&self) -> Now {
        Now { steady_ms: self.now_ms, wall_ms: self.start_ms.saturating_add_unsigned(self.now_ms) }
    }

    /// All partitions of its task, if they are not open.
    fn open(&mut self, partition: Partition) {
        if self.intake.epoch(partition).is_some() {
            return;
        }
        let task = self.policy.order.task(partition);
        let inputs = u32::try_from(self.setup.topics.len()).unwrap_or(u32::MAX);
        let all = (0..inputs).map(|topic| Partition { topic, number: partition.number });
        for one in all.filter(|one| self.policy.order.task(*one) == task) {
            let found = Found {
                committed: None,
                metadata: "",
                log_start: 0,
                log_end: 0,
                known_partitions: None,
                partitions: 1,
                log: 0,
            };
            let opened = self.intake.open(one, &found, From::Earliest);
            self.shard.open(one, opened.epoch, NOTHING_SEEN, &Ranges::new());
        }
    }

    fn move_to(&mut self, end_ms: u64) -> Result<(), Halted> {
        loop {
            let wake_ms = self.next_due_ms().filter(|due_ms| *due_ms <= end_ms);
            self.now_ms = wake_ms.unwrap_or(end_ms).max(self.now_ms);
            self.play()?;
            if wake_ms.is_none() {
                return Ok(());
            }
        }
    }

    /// When something is due next, later than now.
    fn next_due_ms(&self) -> Option<u64> {
        let now = self.now();
        let retry = self.retries.values().copied().filter(|due_ms| *due_ms > self.now_ms).min();
        let later = self.later.keys().next().map(|(at_ms, _)| *at_ms);
        let timer = self.store.next_timer_ms(now.wall_ms);
        let timer = timer.map(|at_ms| at_ms.saturating_sub(self.start_ms).cast_unsigned());
        [retry, later, timer].into_iter().flatten().min()
    }

    /// All that can run now.
    fn play(&mut self) -> Result<(), Halted> {
        loop {
            if self.told > MOST_EVENTS {
                return Err(Halted::TooMuch);
            }
            if let Some((_, limit)) = self.end.filter(|(end, _)| Instant::now() > *end) {
                return Err(Halted::TooLong(limit));
            }
            self.go();
            let before = self.told;
            let mut settled = Vec::new();
            let (now, store) = (self.now(), Arc::clone(&self.store));
            self.shard.look_for_timers_again();
            self.shard.wake_timers(now, &*store, &NothingParked);
            let next = self.shard.next(now, &*store, &NothingParked, &mut settled);
            self.end(settled, &Effects::default(), &Ran::new());
            match next {
                Next::Run(plan) => self.call(plan)?,
                // What was settled unrun may have let something go on.
                Next::Wait(_) if self.told > before => {}
                Next::Wait(_) => return Ok(()),
            }
        }
    }

    /// Delayed sends that are due go out.
    fn go(&mut self) {
        while let Some(entry) = self.later.first_entry().filter(|entry| entry.key().0 <= self.now_ms) {
            let sent = entry.remove();
            self.tell(What::Goes(sent));
        }
    }

    fn tell(&mut self, what: What) {
        self.told += 1;
        self.events.push(Event { at_ms: self.now_ms, what });
    }

    fn call(&mut self, plan: Plan) -> Result<(), Halted> {
        let mut instance = match self.instance.take() {
            Some(instance) => instance,
            None => self.handler.open(&self.setup, &self.limits)?,
        };
        instance.end_calls_after(self.end.map(|(end, _)| end.saturating_duration_since(Instant::now())));
        if let Some(servers) = &self.servers {
            instance.reach(Arc::clone(servers) as Arc<dyn Fetch>);
        }
        let mut ran = Ran::new();
        let mut batch = Vec::with_capacity(plan.messages as usize);
        for delivery in self.shard.batch() {
            let Payload { record, timer } = delivery.message;
            let run = (batch.len(), delivery.message.clone(), delivery.attempt);
            ran.insert((delivery.ticket.partition, delivery.ticket.offset), run);
            let (attempt, follows_dead_letter) = (delivery.attempt, delivery.follows_dead_letter);
            batch.push(Delivery { record: record.clone(), timer: timer.clone(), attempt, follows_dead_letter });
        }
        let lent = self.shard.lend_state();
        let mut state = lent.map(|call| State { call, kept: self.store.clone() });
        let now = self.now();
        let deadline = Duration::from_millis(plan.deadline_ms);
        let began = Instant::now();
        let result = instance.process_with(&mut batch, &mut state, now.wall_ms, deadline);
        self.took.add(began.elapsed());
        if let Some(State { call, .. }) = state {
            self.shard.return_state(call);
        }
        self.asked = self.servers.as_ref().map(|servers| servers.asked()).unwrap_or_default();
        let mut settled = Vec::new();
        match result {
            Ok(Answer { outcomes, effects }) => {
                self.instance = Some(instance).filter(|instance| !instance.worn());
                self.said = outcomes.iter().map(Verdict::of).collect();
                let once = self.once;
                let outcomes = outcomes.into_iter().map(engine_outcome);
                let outcomes = outcomes.map(|outcome| if once { once::counted(outcome) } else { outcome }).collect();
                self.shard.complete(outcomes, TOOK_US, now, &mut settled);
                self.end(settled, &effects, &ran);
            }
            Err(failure) => {
                self.said = vec![Verdict::of_failure(&failure); ran.len()];
                let timeout = matches!(failure, CallFailure::Timeout);
                let call = shard::CallFailure { timeout, failure: engine_failure(&failure) };
                self.shard.fail(call, now, &mut settled);
                self.end(settled, &Effects::default(), &ran);
            }
        }
        Ok(())
    }

    /// What a call, or none, came to; told in the order of the batch.
    fn end(&mut self, settled: Vec<Settled<Payload>>, effects: &Effects, ran: &Ran) {
        let mut retried = Vec::new();
        for run_again in self.shard.retried() {
            let at = (run_again.ticket.partition, run_again.ticket.offset);
            let Some((slot, message, attempt)) = ran.get(&at) else { continue };
            self.retries.insert(at, run_again.due_ms);
            let wait_ms = run_again.due_ms.saturating_sub(self.now_ms);
            let end = End::Retry { failure: run_again.failure, wait_ms };
            let Heard { requests, said } = self.heard(*slot);
            retried.push((*slot, Told { requests, said, ..told(&run_again.ticket, message, *attempt, end) }));
        }
        let mut retried = retried.into_iter().peekable();
        for settled in settled {
            let slot = ran.get(&(settled.ticket.partition, settled.ticket.offset)).map_or(0, |(slot, ..)| *slot);
            while let Some((_, told)) = retried.next_if(|(before, _)| *before < slot) {
                self.tell(What::Message(told));
            }
            let run = ran.get(&(settled.ticket.partition, settled.ticket.offset));
            let heard = run.map(|(slot, ..)| self.heard(*slot)).unwrap_or_default();
            self.settled(settled, effects, heard);
        }
        retried.for_each(|(_, told)| self.tell(What::Message(told)));
    }

    /// What a slot of the last call asked for and said.
    fn heard(&self, slot: usize) -> Heard {
        let asked = u32::try_from(slot).ok().and_then(|slot| self.asked.get(&slot));
        Heard { requests: asked.cloned().unwrap_or_default(), said: self.said.get(slot).cloned() }
    }

    fn settled(&mut self, settled: Settled<Payload>, effects: &Effects, heard: Heard) {
        let Settled { ticket, message, fate, slot, attempts, changes } = settled;
        self.retries.remove(&(ticket.partition, ticket.offset));
        let here = place(&ticket, &message.record);
        let timer = message.timer.as_ref().map(|timer| timer.name.clone());
        self.unsettled.remove(&(here, timer.clone()));
        if let (Some(id), false) = (ticket.id, matches!(fate, Fate::Duplicate { .. })) {
            self.store.see(ticket.task(), id, self.now().wall_ms);
            self.shard.marked(ticket.task(), &[id]);
        }
        let later = self.store.apply(ticket.task(), &changes);
        let kept: Vec<_> = changes.iter().map(bare).collect();
        self.shard.kept(ticket.task(), &kept);
        let end = match fate {
            Fate::Done | Fate::Skipped => {
                let sends = slot.map(|slot| effects.of(slot).map(|send| self.sent(&send, &message)).collect());
                let own = |change: &Change| match (change, &message.timer) {
                    (Change::Timer(name, None), Some(timer)) => *name == timer.name,
                    _ => false,
                };
                let changed = changes.iter().filter_map(|c| change(&c.key, c.entry.as_ref()));
                let changed = changed.filter(|change| !own(change)).collect();
                for (delay_ms, sent) in later.iter().filter(|_| !self.once) {
                    self.count += 1;
                    self.later.insert((self.now_ms.saturating_add(*delay_ms), self.count), sent.clone());
                }
                let (skipped, sends) = (fate == Fate::Skipped, sends.unwrap_or_default());
                End::Stands { skipped, sends, later, changes: changed }
            }
            Fate::Discarded(epitaph) => End::GivenUp(Spent::Discard, epitaph),
            Fate::DeadLetter(epitaph) if epitaph.reason == Reason::Follows => End::Follows(self.leads.unwrap_or(here)),
            Fate::DeadLetter(epitaph) => {
                let then = if epitaph.reason.is_of_retries() { self.then } else { Spent::DeadLetter };
                End::GivenUp(then, epitaph)
            }
            // Without parking, and without what is kept, there is no other.
            _ => End::Duplicate,
        };
        let then = if let End::GivenUp(then, _) = &end { Some(*then) } else { None };
        let Heard { requests, said } = heard;
        self.tell(What::Message(Told { requests, said, ..told(&ticket, &message, attempts, end) }));
        if then == Some(Spent::Hold) {
            let key = message.record.key().map(<[u8]>::to_vec);
            self.unsettled.insert((here, timer), key);
            return;
        }
        let (at, epoch) = ((ticket.partition, ticket.offset), ticket.epoch);
        if then == Some(Spent::DeadLetterKey) {
            let (mut behind, store) = (Vec::new(), Arc::clone(&self.store));
            self.leads = Some(here);
            self.shard.give_up_behind(at, self.now(), &*store, &mut behind);
            behind.into_iter().for_each(|follows| self.settled(follows, &Effects::default(), Heard::default()));
        }
        self.shard.letter_acknowledged(at.0, epoch, at.1);
    }

    /// A send with all headers that its record will have.
    fn sent(&self, send: &crate::wasm::Send<'_>, message: &Payload) -> Sent {
        let mut whole = sent(send, &self.setup);
        let source = Source::of(&message.record);
        let headers = output_headers(send, &source).into_iter();
        whole.headers = headers.map(|(name, value)| (name.to_vec(), value.map(<[u8]>::to_vec))).collect();
        whole.forward_headers = false;
        whole
    }
}

impl std::fmt::Debug for Player {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Player").field("handler", &self.handler).field("now_ms", &self.now_ms).finish_non_exhaustive()
    }
}

fn place(ticket: &Ticket, record: &Record) -> Place {
    Place { topic: ticket.partition.topic, partition: ticket.partition.number, offset: record.offset }
}

fn told(ticket: &Ticket, message: &Payload, attempt: u32, end: End) -> Told {
    let Payload { record, timer } = message;
    Told {
        place: place(ticket, record),
        timer: timer.as_ref().map(|timer| timer.name.clone()),
        key: record.key().map(<[u8]>::to_vec),
        attempt,
        requests: Vec::new(),
        said: None,
        end,
    }
}
