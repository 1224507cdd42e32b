//! What scenarios are played on: a quiet world, and hands to disturb it.

use keyrail_engine::inbox::{Answer, CommandId, Deed};
use keyrail_engine::order::OrderKey;
use keyrail_engine::policy::{Absent, Dedup, Guarantee, IdFrom};
use keyrail_sim::coverage::Fault;
use keyrail_sim::env::{CommitLot, Due, Way};
use keyrail_sim::model::group::Committed;
use keyrail_sim::model::outputs::LETTER_TOPICS;
use keyrail_sim::record::{ID_HEADER, Rec, partition_of};
use keyrail_sim::settings::Settings;
use keyrail_sim::worker::State;
use keyrail_sim::world::World;
use std::rc::Rc;

/// Longest that a scenario waits for something, in virtual milliseconds.
const PATIENCE_MS: u64 = 120_000;

/// The same settings with dedup by the header `id`.
pub(crate) fn with_dedup(mut settings: Settings, absent: Absent) -> Settings {
    let kept = settings.policy.guarantee == Guarantee::ExactlyOnce;
    let id = IdFrom::Header(ID_HEADER.to_string());
    settings.policy.dedup = Some(Dedup { id, window_ms: 3_600_000, absent, kept, capacity: 100_000 });
    settings
}

pub(crate) struct Stage(World);

impl Stage {
    pub(crate) fn new(settings: Settings) -> Self {
        Self(World::new(settings, true))
    }

    pub(crate) fn write(&mut self, rec: Rec) {
        self.0.write(rec);
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.0.env.now_ms
    }

    fn step(&mut self) {
        self.0.step();
        if let Some(violation) = self.0.env.oracle.take_violation() {
            self.tell();
            panic!("{violation}");
        }
    }

    fn tell(&self) {
        for event in self.0.env.trace.events() {
            println!("{event}");
        }
    }

    /// Goes on until something happens in a partition once more.
    pub(crate) fn until(&mut self, what: &str, partition: u16) {
        let (before, limit) = (self.count(what, partition), self.now_ms() + PATIENCE_MS);
        while self.count(what, partition) == before {
            self.step();
            if self.now_ms() > limit {
                self.tell();
                panic!("{what} never came in partition {partition}");
            }
        }
    }

    /// Goes on until something that is of no partition happens once more.
    pub(crate) fn until_any(&mut self, what: &str) {
        let (before, limit) = (self.count_all(what), self.now_ms() + PATIENCE_MS);
        while self.count_all(what) == before {
            self.step();
            assert!(self.now_ms() <= limit, "{what} never came");
        }
    }

    pub(crate) fn run_ms(&mut self, ms: u64) {
        let end = self.now_ms() + ms;
        while self.now_ms() < end {
            self.step();
        }
    }

    /// Goes on until all is done, and checks that nothing is left.
    pub(crate) fn finish(&mut self) {
        let limit = self.now_ms() + PATIENCE_MS;
        while !self.0.is_over() {
            self.step();
            if self.now_ms() > limit {
                self.tell();
                panic!("it never ends");
            }
        }
        self.0.end();
        if let Some(violation) = self.0.env.oracle.take_violation() {
            self.tell();
            panic!("{violation}");
        }
    }

    /// Goes on until the group has offered something to a worker that this has not answered.
    pub(crate) fn until_offered(&mut self, worker: u8) {
        let limit = self.now_ms() + PATIENCE_MS;
        while !self.0.worker(worker).is_offered(&self.0.env) {
            self.step();
            assert!(self.now_ms() <= limit, "nothing was offered to worker {worker}");
        }
    }

    /// Goes on until a process has left, or ended by itself.
    pub(crate) fn until_left(&mut self, worker: u8) {
        let limit = self.now_ms() + PATIENCE_MS;
        while self.0.worker(worker).state == State::Up {
            self.step();
            assert!(self.now_ms() <= limit, "worker {worker} never ended");
        }
    }

    /// How often something happened that is of no partition.
    pub(crate) fn count_all(&self, what: &str) -> usize {
        self.0.env.trace.events().iter().filter(|e| e.what == what).count()
    }

    /// When something happened in a partition, in virtual milliseconds.
    pub(crate) fn times(&self, what: &str, partition: u16) -> Vec<u64> {
        let events = self.0.env.trace.events().iter();
        events.filter(|e| e.what == what && e.partition == Some(partition)).map(|e| e.at_ms).collect()
    }

    pub(crate) fn strike(&mut self, worker: u8, fault: Fault) {
        self.0.strike(worker, fault);
    }

    /// What will come of the next commit of a worker.
    pub(crate) fn next_commit(&mut self, worker: u8, lot: CommitLot) {
        self.0.env.afflictions[usize::from(worker)].commit = Some(lot);
    }

    /// The next renewal of a worker's producer takes so many milliseconds to arrive.
    pub(crate) fn next_renewal_takes(&mut self, worker: u8, ms: u64) {
        self.0.env.afflictions[usize::from(worker)].renewal = Some(Some(ms));
    }

    /// For so long the producer of a worker hears late of what it has written.
    pub(crate) fn late_acknowledgements(&mut self, worker: u8, ms: u64) {
        self.0.env.afflictions[usize::from(worker)].late_acks_until_ms = self.now_ms() + ms;
    }

    /// The markers of the next transaction that ends are written within so many milliseconds.
    pub(crate) fn next_markers_take(&mut self, ms: u64) {
        self.0.env.marker_ms = Some(ms);
    }

    /// How often each message of a partition, from offset 0 on, had an output that readers of committed records see.
    pub(crate) fn visible(&self, partition: u16, messages: i64) -> Vec<usize> {
        (0..messages).map(|offset| self.count_at("output visible", partition, offset)).collect()
    }

    /// The group moves this one partition of a worker elsewhere.
    pub(crate) fn revoke(&mut self, worker: u8, partition: u16) {
        let member = self.0.worker(worker).member();
        let env = &mut self.0.env;
        assert!(env.group.move_these(member, &[partition], &mut env.rng), "worker {worker} can't give it to anybody");
    }

    /// Goes on until a worker makes its last commit for a partition, which is stored, and never answered in time.
    pub(crate) fn until_released_without_answer(&mut self, worker: u8, partition: u16) {
        let (limit, before) = (self.now_ms() + PATIENCE_MS, self.count("release", partition));
        while self.count("release", partition) == before {
            self.0.env.afflictions[usize::from(worker)].commit = Some(CommitLot::Late(60_000));
            self.step();
            assert!(self.now_ms() <= limit, "partition {partition} is never released");
        }
    }

    /// The worker that owns a partition.
    pub(crate) fn owner(&self, partition: u16) -> u8 {
        let owner = self.0.env.group.owner(partition);
        (0..self.0.env.settings.workers)
            .find(|n| Some(self.0.worker(*n).member()) == owner)
            .unwrap_or_else(|| panic!("nobody owns partition {partition}"))
    }

    pub(crate) fn committed(&self, partition: u16) -> Option<i64> {
        self.0.env.group.committed(partition).map(|c| c.offset)
    }

    pub(crate) fn count(&self, what: &str, partition: u16) -> usize {
        self.0.env.trace.events().iter().filter(|e| e.what == what && e.partition == Some(partition)).count()
    }

    pub(crate) fn count_at(&self, what: &str, partition: u16, offset: i64) -> usize {
        let events = self.0.env.trace.events().iter();
        events.filter(|e| e.what == what && e.partition == Some(partition) && e.offset == Some(offset)).count()
    }

    /// When something happened to a message, in virtual milliseconds.
    pub(crate) fn times_at(&self, what: &str, partition: u16, offset: i64) -> Vec<u64> {
        let events = self.0.env.trace.events().iter();
        let own = events.filter(|e| e.what == what && e.partition == Some(partition) && e.offset == Some(offset));
        own.map(|e| e.at_ms).collect()
    }

    /// Somebody wants something of a message, and an answer.
    pub(crate) fn command(&mut self, partition: u16, offset: i64, deed: Deed<Rc<Rec>>) -> CommandId {
        self.0.env.send_command((partition, offset), deed, true, Way::Alone)
    }

    /// Somebody sends a dead letter back.
    pub(crate) fn redrive(&mut self, partition: u16, offset: i64) -> CommandId {
        let rec = self.0.env.oracle.look(partition, offset).map(|fact| Rc::clone(&fact.rec));
        let rec = rec.unwrap_or_else(|| panic!("offset {offset} is not there"));
        self.command(partition, offset, Deed::Redrive(rec))
    }

    /// What was answered to a command: an empty text where it was obeyed, and else the reason.
    pub(crate) fn answers(&mut self, partition: u16, id: CommandId) -> Vec<String> {
        let all = self.0.env.answers_to(partition, id).into_iter();
        all.map(|answer| if let Answer::Refused(why) = answer { why } else { String::new() }).collect()
    }

    /// For so long the handler fails in all workers.
    pub(crate) fn handlers_fail(&mut self, ms: u64) {
        let until_ms = self.now_ms() + ms;
        self.0.env.afflictions.iter_mut().for_each(|ills| ills.failing_until_ms = until_ms);
    }

    /// The next call of a worker lasts so long.
    pub(crate) fn next_call_takes(&mut self, worker: u8, ms: u64) {
        self.0.env.afflictions[usize::from(worker)].slow_call_ms = Some(ms);
    }

    /// How many messages each call of the partition had, in order.
    pub(crate) fn batches(&self, partition: u16) -> Vec<usize> {
        let events = self.0.env.trace.events();
        let calls: Vec<u64> =
            events.iter().filter(|e| e.what == "called" && e.partition == Some(partition)).map(|e| e.at_ms).collect();
        calls.chunk_by(|a, b| a == b).map(<[u64]>::len).collect()
    }

    /// Puts a commit down as another program would.
    pub(crate) fn commit(&mut self, partition: u16, offset: i64, metadata: &str) {
        self.0.env.group.store(partition, Committed { offset, metadata: Rc::from(metadata) });
    }

    /// An operator moves the group while it is idle.
    pub(crate) fn reset(&mut self, partition: u16, offset: i64) {
        let owner = self.0.env.group.owner(partition);
        self.commit(partition, offset, "");
        self.0.env.coordinator.forget_order(partition);
        self.0.env.oracle.reset(partition, offset);
        let policy = &self.0.env.settings.policy;
        if policy.keeps_ids() || policy.keeps_state() {
            // And then says that the group is right there, with what is kept.
            self.0.env.moved.insert(partition);
            self.0.env.after(300, Due::Rewound(partition));
        }
        if let Some(owner) = owner {
            self.0.env.throw_out(owner);
        }
        self.until("opened", partition);
        self.run_ms(3_000);
    }

    pub(crate) fn block_letters(&mut self, ms: u64) {
        for topic in LETTER_TOPICS {
            self.0.env.outputs.block(topic, self.0.env.now_ms + ms);
        }
    }

    pub(crate) fn block_outputs(&mut self, ms: u64) {
        for topic in 0..2 {
            self.block_output_topic(topic, ms);
        }
    }

    pub(crate) fn block_output_topic(&mut self, topic: usize, ms: u64) {
        self.0.env.outputs.block(topic, self.0.env.now_ms + ms);
    }

    pub(crate) fn add_partition(&mut self, partition: u16) {
        self.0.env.group.add_partition(partition);
        self.0.env.group.refresh(&mut self.0.env.rng);
    }

    pub(crate) fn retain_from(&mut self, partition: u16, start: i64) {
        let log = &mut self.0.env.logs[usize::from(partition)];
        let before = log.start();
        log.retain_from(start);
        self.0.env.oracle.retained(partition, before, start);
    }

    pub(crate) fn marker(&mut self, partition: u16) {
        self.0.env.logs[usize::from(partition)].append_marker();
    }

    /// How many messages the value counts that a key of a partition has under a name, as far as it is committed.
    pub(crate) fn state(&self, partition: u16, key: u32, name: &str) -> Option<u64> {
        let key = key.to_be_bytes();
        self.0.env.oracle.state_of(partition_of(partition), OrderKey::Key(&key), name)
    }

    /// How many records a partition has.
    pub(crate) fn written(&self, partition: u16) -> i64 {
        self.0.env.logs[usize::from(partition)].end()
    }

    pub(crate) fn compact_state(&mut self, partition: u16) {
        self.0.env.compact_state(partition);
    }

    /// The local store of a worker is gone; its process must be, too.
    pub(crate) fn compact_parked(&mut self, partition: u16) {
        self.0.env.compact_parked(partition);
    }

    pub(crate) fn delete_store(&mut self, worker: u8) {
        assert_eq!(self.0.worker(worker).state, State::Down, "worker {worker} has it");
        self.0.env.delete_store(worker);
    }

    pub(crate) fn compact(&mut self, partition: u16, offset: i64) {
        if self.0.env.logs[usize::from(partition)].compact(offset).is_some() {
            self.0.env.oracle.compacted(partition, offset);
        }
    }
}
