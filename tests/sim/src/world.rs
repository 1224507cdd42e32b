//! The whole: workers, broker, producers outside, and the scheduler that picks who has the next step.

mod breakers;

use crate::coverage::{Action, Coverage, Fault};
use crate::env::{Armed, Due, Env};
use crate::faults;
use crate::invariants::{Violation, name};
use crate::operator;
use crate::record::{INPUTS, Later, Rec, SLOTS_PER_TOPIC, Wish, draw_outputs, draw_plan, index_of, partition_of};
use crate::settings::Settings;
use crate::touch::Use;
use crate::trace::Who;
use crate::worker::{Actor, State, Step, Worker};
use keyrail_engine::policy::Scope;
use std::collections::BTreeSet;

/// A partition that can move does so within this time once no fault harms it: the session, ten seconds, and the
/// longest that one message of the model may take with all its attempts, or a silent partition until it is found.
const PROGRESS_MS: u64 = 6_000 + 10_000 + 20_000;
/// Messages in flight that nobody works on for so long are forgotten.
const IDLE_MS: u64 = 30_000;
/// How long the world goes on after all is done, so that what is late arrives.
const AFTERGLOW_MS: u64 = 12_000;
/// No seed needs more steps.
const MAX_STEPS: u64 = 20_000_000;

/// What a run came to.
#[derive(Debug, Clone)]
pub struct Summary {
    /// Steps taken.
    pub steps: u64,
    /// Messages written by the producers outside, duplicates included.
    pub messages: u32,
    /// Virtual time in milliseconds.
    pub virtual_ms: u64,
    /// Hash of all that happened.
    pub hash: u64,
    /// Which action met which fault.
    pub coverage: Coverage,
    /// Calls of versions on trial.
    pub trial_calls: u64,
    /// Messages that failed on them alone.
    pub overruled: u64,
}

/// The whole world.
#[derive(Debug)]
pub struct World {
    /// All but the workers.
    pub env: Env,
    workers: Vec<Worker>,
    /// Which worker a process is of.
    processes: Vec<u8>,
    steps: u64,
    written: u32,
    planned: u32,
    bystanders: u32,
    /// Faults that are still to be armed.
    unarmed: usize,
    /// How far each partition had come, and when.
    marks: Vec<(u32, u64)>,
    next_watch_ms: u64,
    done_since_ms: Option<u64>,
    runnable: Vec<(usize, Actor)>,
    /// For each worker, a thread that stands still until then.
    lagging: Vec<(Actor, u64)>,
    /// Since when each worker has messages in flight that nobody works on.
    idle_since_ms: Vec<Option<u64>>,
}

impl World {
    /// A world of these settings; `keep_trace` makes it remember everything that happens.
    #[must_use]
    pub fn new(settings: Settings, keep_trace: bool) -> Self {
        let mut env = Env::new(settings, keep_trace);
        let mut processes = Vec::new();
        let mut workers = Vec::new();
        for number in 0..env.settings.workers {
            processes.push(number);
            workers.push(Worker::start(number, u16::from(number), &mut env));
        }
        let faults = env.settings.faults.clone();
        let (arrival_ms, unarmed) = (env.settings.arrival_ms, faults.len());
        for (n, (action, fault)) in faults.into_iter().enumerate() {
            // In the order of the list, the last ones in the middle of the run.
            let wait_ms = (n as u64 * arrival_ms / 55 + env.rng.below(arrival_ms / 20)).min(arrival_ms * 6 / 10);
            let patience_ms = env.now_ms + arrival_ms * 7 / 10 + n as u64 * arrival_ms / 120;
            env.after(wait_ms, Due::Arm(Armed { action, fault, patience_ms }));
        }
        if env.settings.messages > 0 {
            env.after(1, Due::Arrive);
        }
        if let Some(every_ms) = env.settings.operator_ms {
            env.after(every_ms, Due::Operate);
        }
        let partitions = INPUTS * usize::from(SLOTS_PER_TOPIC);
        let lagging = workers.iter().map(|_| (Actor::Consumer, 0)).collect();
        let idle_since_ms = vec![None; workers.len()];
        Self {
            env,
            workers,
            processes,
            steps: 0,
            written: 0,
            planned: 0,
            bystanders: 0,
            unarmed,
            marks: vec![(0, 0); partitions],
            next_watch_ms: 0,
            done_since_ms: None,
            runnable: Vec::new(),
            lagging,
            idle_since_ms,
        }
    }

    /// Runs until all is done, or something does not hold.
    ///
    /// # Errors
    /// The first violation.
    pub fn run(mut self) -> Result<Summary, (Violation, Box<Self>)> {
        while !self.is_over() {
            self.step();
            if let Some(violation) = self.env.oracle.take_violation() {
                return Err((violation, Box::new(self)));
            }
        }
        self.end();
        match self.env.oracle.take_violation() {
            Some(violation) => Err((violation, Box::new(self))),
            None => Ok(self.summary()),
        }
    }

    fn summary(&self) -> Summary {
        Summary {
            steps: self.steps,
            messages: self.written,
            virtual_ms: self.env.now_ms,
            hash: self.env.trace.hash(),
            coverage: self.env.coverage.clone(),
            trial_calls: self.env.trial_calls,
            overruled: self.env.overruled,
        }
    }

    /// One step of whoever has the turn; time passes when nobody has.
    pub fn step(&mut self) {
        self.steps += 1;
        while let Some(due) = self.env.pop_due() {
            self.happen(due);
        }
        if self.bystanders > 0 {
            self.env.group.serve_bystanders(&mut self.env.rng);
        }
        self.runnable.clear();
        for (n, worker) in self.workers.iter().enumerate().filter(|(_, w)| w.state == State::Up) {
            let shards = (0..self.env.settings.shards as usize).map(Actor::Shard);
            let actors = [Actor::Consumer, Actor::Committer].into_iter().chain(shards);
            let (lags, until_ms) = self.lagging[n];
            let stands = |a: &Actor| *a == lags && self.env.now_ms < until_ms;
            self.runnable.extend(actors.filter(|a| !stands(a) && worker.is_runnable(*a, &self.env)).map(|a| (n, a)));
        }
        if self.runnable.is_empty() {
            self.let_time_pass();
        } else {
            let (n, actor) = *self.env.rng.pick(&self.runnable);
            match self.workers[n].step(actor, &mut self.env) {
                Step::GoesOn => self.let_lag(n, actor),
                Step::Left => self.left(n, "has left"),
                ended @ (Step::GaveUp | Step::Fenced) => {
                    self.env.throw_out(self.workers[n].member());
                    self.left(n, if ended == Step::Fenced { "ends" } else { "gave up" });
                }
            }
            self.carry_out_strikes();
            if self.env.rng.percent(15) {
                self.env.now_ms += 1;
            }
        }
        self.watch();
    }

    fn let_time_pass(&mut self) {
        let wakes = self.workers.iter().filter_map(Worker::next_wake_ms).min();
        let next = [wakes, self.env.next_due_ms()].into_iter().flatten().min();
        self.env.now_ms = next.unwrap_or(0).max(self.env.now_ms + 1);
        self.env.latest_wall_ms = self.env.latest_wall();
    }

    fn carry_out_strikes(&mut self) {
        while let Some(strike) = self.env.strikes.pop() {
            // It may set the clock back.
            self.env.latest_wall_ms = self.env.latest_wall();
            let worker = &mut self.workers[usize::from(strike.worker)];
            if worker.state == State::Up || !is_of_process(strike.fault) {
                faults::carry_out(strike, worker, &mut self.env);
            }
            self.env.latest_wall_ms = self.env.latest_wall();
        }
    }

    /// Now and then a thread stands still while the others go on.
    fn let_lag(&mut self, number: usize, actor: Actor) {
        let lag_ms = self.env.settings.lag_ms;
        if lag_ms > 0 && self.env.rng.below(200) == 0 {
            self.lagging[number] = (actor, self.env.now_ms + self.env.rng.within(1, lag_ms));
        }
    }

    /// A process ends: it has left in good order, or gives up and starts anew.
    fn left(&mut self, number: usize, how: &'static str) {
        let restart_ms = self.env.rng.within(50, 1_500);
        let worker = &mut self.workers[number];
        self.env.note(Who::Worker(number as u8), how, None, 0);
        worker.state = State::Down;
        let rng = &mut self.env.rng;
        self.env.outputs.died(worker.process(), |len| rng.index(len + 1));
        self.env.hang_up(number as u8);
        self.env.after(restart_ms, Due::Restart(number as u8));
    }

    fn process(&mut self, process: u16) -> Option<&mut Worker> {
        let worker = &mut self.workers[usize::from(self.processes[usize::from(process)])];
        (worker.process() == process && worker.state != State::Down).then_some(worker)
    }

    fn happen(&mut self, due: Due) {
        match due {
            Due::Pump(process, place) => {
                let worker = self.processes[usize::from(process)];
                self.env.pump(worker, process, place);
            }
            Due::Reported(process, instance, token, report) => {
                if let Some(worker) = self.process(process) {
                    worker.reported(instance, token, report);
                }
            }
            Due::LateRecord(place, pending) => self.env.late_record_arrives(place, &pending),
            Due::Renewal(renewal) => self.env.renewal_arrives(renewal),
            Due::End(request) => self.env.end_arrives(*request),
            Due::Told(number, process, told) => {
                let worker = &mut self.workers[usize::from(number)];
                if worker.process() == process && worker.state != State::Down {
                    worker.told(told);
                }
            }
            Due::Marker(transaction, place) => self.env.marker_arrives(transaction, place),
            Due::TransactionTimeout(transaction) => self.env.transaction_times_out(transaction),
            Due::Commit(request) => self.env.commit_arrives(&request),
            Due::CommitAnswer(process, number, ok) => {
                if let Some(worker) = self.process(process) {
                    worker.commit_answered(number, ok);
                }
            }
            Due::Restart(number) => {
                let process = self.processes.len() as u16;
                self.processes.push(number);
                self.env.note(Who::Worker(number), "starts", None, i64::from(process));
                self.workers[usize::from(number)] = Worker::start(number, process, &mut self.env);
            }
            Due::Wake(number, process) => {
                let worker = &mut self.workers[usize::from(number)];
                if worker.process() == process && worker.state == State::Paused {
                    self.env.note(Who::Worker(number), "wakes", None, 0);
                    worker.state = State::Up;
                }
            }
            Due::Expire(member) => {
                let alive = self.workers.iter().any(|w| w.member() == member && w.state == State::Up);
                if !alive {
                    self.env.throw_out(member);
                }
            }
            Due::Bystander(None) => {
                self.bystanders += 1;
                let member = self.env.group.join(true, &mut self.env.rng);
                let stays_ms = self.env.rng.within(20, 400);
                self.env.after(stays_ms, Due::Bystander(Some(member)));
            }
            Due::Bystander(Some(member)) => {
                self.bystanders -= 1;
                self.env.group.leave(member, &mut self.env.rng);
            }
            Due::Rewound(partition) => faults::rewound(partition, &mut self.env),
            Due::Arrive => self.arrive(),
            Due::Operate => operator::operate(self.planned >= self.env.settings.messages, &mut self.env),
            Due::Arm(armed) => {
                self.unarmed -= 1;
                self.env.armed.push(armed);
            }
        }
    }

    /// The producers outside write a few records.
    fn arrive(&mut self) {
        let settings = &self.env.settings;
        let (messages, arrival_ms) = (settings.messages, settings.arrival_ms);
        for _ in 0..self.env.rng.within(1, 8) {
            if self.planned >= messages {
                return;
            }
            self.planned += 1;
            let rec = self.draw();
            self.write(rec.clone());
            if rec.too_large && self.env.settings.policy.keeps_state() {
                // Another one behind it, which reads what it leaves.
                self.write(Rec { id: None, ..rec.clone() });
            }
            if self.env.rng.percent(6) {
                let partition = faults::another_input(rec.partition, &mut self.env);
                self.write(Rec { partition, ..rec });
            }
        }
        let wait_ms = arrival_ms * 9 / 2 / u64::from(messages);
        let wait_ms = self.env.rng.within(0, wait_ms * 2);
        self.env.after(wait_ms, Due::Arrive);
    }

    /// Writes a record to its input partition.
    pub fn write(&mut self, rec: Rec) -> i64 {
        self.written += 1;
        self.env.append(rec)
    }

    fn draw(&mut self) -> Rec {
        let (keys, attempts) = (self.env.settings.keys, self.env.settings.policy.retry.attempts);
        let partitions: Vec<u16> = self.env.group.partitions().collect();
        let rng = &mut self.env.rng;
        let partition = *rng.pick(&partitions);
        let key = (!rng.percent(5)).then(|| rng.below(u64::from(keys)) as u32);
        let mut rec = Rec::new(partition, key, self.planned);
        rec.plan = draw_plan(rng, attempts);
        rec.outputs = draw_outputs(rng, key);
        rec.size = if rng.percent(1) { 2_500 } else { rng.within(40, 400) as u32 };
        rec.too_large = rng.below(400) == 0;
        // Some have no id; some share one with messages of other keys.
        rec.id = match rng.below(50) {
            0..=1 => None,
            2..=4 => Some((rng.below(20) as u32 | 1 << 31).to_be_bytes()),
            _ => Some(self.planned.to_be_bytes()),
        };
        if self.env.settings.policy.keeps_state() {
            rec.state = Use::draw(rng);
        }
        if self.env.settings.policy.has_timers() && rng.percent(25) {
            rec.timer = Some(Wish::draw(rng));
        }
        if self.env.settings.policy.has_delays() && rng.percent(25) {
            rec.later = Some(Later::draw(rng));
        }
        rec.order = (!rng.percent(10)).then(|| (rng.below(u64::from(keys)) as u32).to_be_bytes());
        rec
    }

    /// Watches that partitions move.
    fn watch(&mut self) {
        if self.env.now_ms < self.next_watch_ms {
            return;
        }
        self.next_watch_ms = self.env.now_ms + 500;
        self.watch_idle();
        self.watch_breakers();
        let calm_since = self.calm_since_ms();
        // With hardly any room, partitions wait for each other's slow messages.
        let limit_ms = if self.env.settings.budget_bytes < 100_000 { 4 * PROGRESS_MS } else { PROGRESS_MS };
        // Where inputs share lanes, those of one wait for the slow messages of the others.
        let limit_ms = if self.env.settings.policy.order.scope == Scope::Inputs { 2 * limit_ms } else { limit_ms };
        for partition in self.env.group.partitions().collect::<Vec<u16>>() {
            let (closed, open) = (self.env.oracle.closed_messages(partition), self.env.oracle.open_messages(partition));
            let mark = &mut self.marks[usize::from(partition)];
            let waits_since = match calm_since {
                Some(since) if open > 0 && mark.0 == closed => mark.1.max(since),
                _ => {
                    *mark = (closed, self.env.now_ms);
                    continue;
                }
            };
            if self.env.now_ms - waits_since > limit_ms {
                let what =
                    format!("{open} messages have waited for {} ms without a fault", self.env.now_ms - waits_since);
                self.env.oracle.violated(name::PROGRESS, Some((partition, -1)), what);
            }
        }
    }

    /// Nobody may have messages in flight and do nothing about them.
    fn watch_idle(&mut self) {
        let now_ms = self.env.now_ms;
        for (worker, since) in self.workers.iter().zip(&mut self.idle_since_ms) {
            let Some(partition) = worker.idles() else {
                *since = None;
                continue;
            };
            let idle_ms = now_ms - *since.get_or_insert(now_ms);
            if idle_ms > IDLE_MS {
                let what = format!("messages are in flight, and nobody has worked on them for {idle_ms} ms");
                self.env.oracle.violated(name::PROGRESS, Some((index_of(partition), -1)), what);
            }
        }
    }

    /// Since when nothing harms the group.
    fn calm_since_ms(&self) -> Option<u64> {
        let faulty = self.unarmed > 0 || !self.env.armed.is_empty() || self.bystanders > 0;
        let all_up = self.workers.iter().all(|w| w.state == State::Up);
        (!faulty && all_up && self.env.now_ms >= self.env.harm_until_ms).then_some(self.env.harm_until_ms)
    }

    /// Whether all is done. Gives up on a run without end.
    pub fn is_over(&mut self) -> bool {
        if self.steps >= MAX_STEPS {
            self.env.oracle.violated(name::PROGRESS, None, format!("no end after {MAX_STEPS} steps"));
        }
        let all_written = self.planned >= self.env.settings.messages;
        let faults_left = self.unarmed > 0 || !self.env.armed.is_empty();
        if !self.steps.is_multiple_of(64) || !all_written || faults_left {
            return false;
        }
        let open = self.env.group.partitions().any(|p| self.env.oracle.open_messages(p) > 0);
        let open = open || self.env.oracle.waits();
        if open || self.calm_since_ms().is_none() {
            self.done_since_ms = None;
            return false;
        }
        let since = *self.done_since_ms.get_or_insert(self.env.now_ms);
        self.env.now_ms - since > AFTERGLOW_MS
    }

    /// All is done: nothing may be left over.
    pub fn end(&mut self) {
        for (number, worker) in self.workers.iter().enumerate() {
            if worker.breaker_opened().is_some() {
                self.env.oracle.violated(name::BREAKER, None, format!("worker {number}: it is open at the end"));
            }
            if let Some(what) = worker.leftovers() {
                self.env.oracle.violated(name::BOUNDS, None, format!("worker {number}: {what}"));
            }
        }
        self.breaker_at_the_end();
        let (records, transactions) = self.env.coordinator.unresolved();
        if records + transactions > 0 {
            let what = format!("{transactions} transactions are never done, and {records} records never visible");
            self.env.oracle.violated(name::PROGRESS, None, what);
        }
        self.env.oracle.ended();
        self.env.oracle.parked_at_the_end();
        if self.env.settings.policy.keeps_state() {
            self.state_at_the_end();
        }
    }

    /// The logs of state, and what their owners know of them, are what was committed.
    fn state_at_the_end(&mut self) {
        let tasks: BTreeSet<u16> = self.env.group.partitions().map(|number| self.env.task_of(number)).collect();
        for number in tasks {
            let contents = self.env.state_contents(number);
            self.env.oracle.judge_contents("the log of its state", number, &contents);
            let owner = self.env.group.owner(number);
            if let Some(worker) = self.workers.iter().find(|worker| Some(worker.member()) == owner) {
                let contents = worker.state(partition_of(number));
                self.env.oracle.judge_contents("what its owner knows of it", number, &contents);
            }
        }
        let now_ms = self.env.now().wall_ms;
        self.env.oracle.state_at_the_end(now_ms);
    }

    /// The worker of this number.
    #[must_use]
    pub fn worker(&self, number: u8) -> &Worker {
        &self.workers[usize::from(number)]
    }

    /// A fault strikes a worker here and now.
    pub fn strike(&mut self, worker: u8, fault: Fault) {
        self.env.strike(worker, Action::Fetch, fault);
        self.carry_out_strikes();
    }
}

const fn is_of_process(fault: Fault) -> bool {
    matches!(fault, Fault::Crash | Fault::Stop | Fault::Zombie | Fault::HiddenTopics)
}
