//! The consumer thread's turns over a broker that says what the test wrote down.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail by panicking")]

use super::*;
use crate::admin::health::Health;
use crate::admin::metrics::Metrics;
use crate::broker::{BrokerError, Commits, Committed, LogBounds};
use crate::pipeline::Pool;
use crate::pipeline::clock::wall_ms;
use crate::pipeline::ids::Ids;
use crate::pipeline::ids::tests::Disk;
use crate::pipeline::kept::Memory;
use crate::pipeline::link::{Outlet, Over};
use crate::pipeline::restore::tests::Scene;
use crate::record::RecordBuilder;
use crossbeam_channel::{Sender, bounded};
use keyrail_engine::dedup::Past as _;
use keyrail_engine::message::{Epoch, MessageId, Now};
use keyrail_engine::policy::Policy;
use keyrail_engine::seen;
use std::sync::atomic::Ordering::SeqCst;

const AT: TopicPartition = TopicPartition { topic: 0, partition: 0 };

/// Polls what is left of its script, then nothing; notes what it is told.
struct Scripted {
    polls: VecDeque<Polled>,
    told: Arc<Mutex<Vec<String>>>,
}

impl Scripted {
    fn note(&self, what: String) -> Result<(), BrokerError> {
        self.told.lock().unwrap().push(what);
        Ok(())
    }
}

impl Consumer for Scripted {
    fn poll(&mut self, _: Duration) -> Polled {
        self.polls.pop_front().unwrap_or(Polled::Idle)
    }
    fn assign(&mut self, starts: &[(TopicPartition, i64)]) -> Result<(), BrokerError> {
        self.note(format!("assign {}", starts.len()))
    }
    fn unassign(&mut self, partitions: &[TopicPartition]) -> Result<(), BrokerError> {
        self.note(format!("unassign {}", partitions.len()))
    }
    fn pause(&mut self, partitions: &[TopicPartition]) -> Result<(), BrokerError> {
        self.note(format!("pause {}", partitions.len()))
    }
    fn resume(&mut self, partitions: &[TopicPartition]) -> Result<(), BrokerError> {
        self.note(format!("resume {}", partitions.len()))
    }
    fn seek(&mut self, _: TopicPartition, offset: i64) -> Result<(), BrokerError> {
        self.note(format!("seek {offset}"))
    }
    fn committed(&mut self, partitions: &[TopicPartition], _: Duration) -> Result<Vec<Committed>, BrokerError> {
        Ok(partitions.iter().map(|_| Committed { offset: None, metadata: String::new() }).collect())
    }
    fn bounds(&mut self, _: TopicPartition, _: Duration) -> Result<LogBounds, BrokerError> {
        Ok(LogBounds { start: 0, end: 100 })
    }
    fn partition_count(&mut self, _: u32, _: Duration) -> Result<i32, BrokerError> {
        Ok(1)
    }
    fn commits(&self) -> Box<dyn Commits> {
        unreachable!("the consumer thread commits nothing")
    }
    fn watermarks(&mut self) -> Vec<(TopicPartition, i64)> {
        Vec::new()
    }
    fn transactions(&self, _id: &str, _topics: &[&str]) -> Result<Box<dyn crate::broker::Transactions>, BrokerError> {
        Err(crate::broker::operator("no transactions yet"))
    }

    fn leave(&mut self) {}
}

struct Bench {
    worker: Worker,
    shards: Vec<Receiver<ToShard>>,
    committer: Receiver<ToCommitter>,
    commands: Sender<ToConsumer>,
    told: Arc<Mutex<Vec<String>>>,
}

/// A worker with one shard. The committer's inbox has room for one message, the shard's for many.
fn bench(polls: Vec<Polled>, limit_bytes: u64) -> Bench {
    bench_with(1, polls, limit_bytes)
}

fn bench_with(shards: u32, polls: Vec<Polled>, limit_bytes: u64) -> Bench {
    let (to_shards, shard_inboxes): (Vec<_>, Vec<_>) = (0..shards).map(|_| bounded(64)).unzip();
    let (to_committer, committer) = bounded(1);
    let (commands, inbox) = bounded(64);
    let told: Arc<Mutex<Vec<String>>> = Arc::default();
    let health = Health::new().pipeline("t");
    let budget = Pool::new(limit_bytes).join();
    let feed = Feed {
        consumer: Box::new(Scripted { polls: polls.into(), told: told.clone() }),
        intake: Intake::new(Policy::default(), shards, 0),
        gate: Gate::new(budget.share()),
        budget,
        topics: vec!["in".to_owned()],
        order: Policy::default().order,
        from: From::Earliest,
        anew: Arc::default(),
        on_loss: OnLoss::Stop,
        keeper: None,
        not_parking: None,
        internals: None,
        attention: Vec::new(),
        out: Handover::new(Outlet(to_committer), to_shards.into_iter().map(Outlet)),
        over: RaiseOver(Over::default()),
        inbox,
        metrics: Metrics::new().pipeline("t"),
        alerts: Default::default(),
        heartbeat: health.heartbeat("consumer", Duration::from_secs(600)),
        health,
        stop: Stop::new(),
        bounds: Bounds::within(Duration::from_secs(2)),
        pipeline: "t".to_owned(),
    };
    Bench { worker: Worker::new(feed), shards: shard_inboxes, committer, commands, told }
}

fn record(offset: i64) -> Polled {
    Polled::Record(RecordBuilder::new(Some(b"k"), Some(b"v")).build(AT, offset, 0))
}

#[test]
fn a_shard_that_stands_still_does_not_slow_the_others() {
    const RECORDS: i64 = 100_000;
    let mut polls = vec![Polled::Assigned(vec![AT])];
    polls.extend((0..RECORDS).map(|offset| {
        Polled::Record(RecordBuilder::new(Some(&offset.to_le_bytes()), Some(b"v")).build(AT, offset, 0))
    }));
    let mut bench = bench_with(2, polls, 1 << 30);
    let started = Instant::now();
    let mut taken = 0;
    // Half of the messages are the other shard's, which takes none.
    while taken < RECORDS * 2 / 5 && started.elapsed() < Duration::from_secs(60) {
        bench.worker.turn().unwrap();
        bench.committer.try_iter().for_each(drop);
        for message in bench.shards[1].try_iter() {
            if let ToShard::Messages(messages) = message {
                taken += messages.len() as i64;
            }
        }
    }
    let took = started.elapsed();
    assert!(taken >= RECORDS * 2 / 5 && took < Duration::from_secs(4), "{taken} messages in {took:?}");
    assert!(bench.shards[0].is_full());
}

#[test]
fn a_shard_gets_no_message_that_the_ledger_has_not_heard_of() {
    let mut polls = vec![Polled::Assigned(vec![AT])];
    polls.extend((0..5).flat_map(|offset| [record(offset), Polled::Idle]));
    let mut bench = bench(polls, 1 << 20);
    let (mut heard, mut got) = (-1, -1);
    for _ in 0..200 {
        bench.worker.turn().unwrap();
        let mut hear = |event: ToCommitter| {
            if let ToCommitter::Received(runs) = event {
                heard = runs.iter().map(|r| r.last).fold(heard, i64::max);
            }
        };
        // One at a time, as a committer that is busy does.
        if let Ok(event) = bench.committer.try_recv() {
            hear(event);
        }
        let mut seen = Vec::new();
        while let Ok(message) = bench.shards[0].try_recv() {
            if let ToShard::Messages(messages) = message {
                seen.extend(messages.iter().map(|(ticket, _)| ticket.offset));
            }
        }
        if let Some(last) = seen.last() {
            // What is still in the inbox counts as heard: it comes before whatever the shard will say.
            bench.committer.try_iter().for_each(&mut hear);
            got = *last;
            assert!(got <= heard, "the shard has {got}, the ledger knows up to {heard}");
        }
    }
    assert_eq!((heard, got), (4, 4));
}

#[test]
fn what_the_ledger_asked_for_does_not_meet_a_later_assignment() {
    let polls = vec![Polled::Assigned(vec![AT]), Polled::Idle, Polled::Revoked(vec![AT])];
    let mut bench = bench(polls, 1 << 20);
    let drain = bench.committer.clone();
    let commands = bench.commands.clone();
    let ledger = std::thread::spawn(move || {
        // As the real one: what it asked for before it lets go comes first.
        while let Ok(event) = drain.recv() {
            if matches!(event, ToCommitter::Revoke(_)) {
                commands.send(ToConsumer::Pause(to_engine(AT))).unwrap();
                commands.send(ToConsumer::Released { unfinished: None }).unwrap();
            }
        }
    });
    for _ in 0..20 {
        bench.worker.turn().unwrap();
    }
    assert!(bench.worker.held.is_empty() && bench.worker.deferred.is_empty());
    assert_eq!(*bench.told.lock().unwrap(), ["assign 1", "unassign 1"]);
    drop(bench);
    ledger.join().unwrap();
}

#[test]
fn a_full_budget_pauses_what_is_open_and_half_of_it_resumes() {
    let mut polls = vec![Polled::Assigned(vec![AT])];
    polls.extend((0..10).map(record));
    let mut bench = bench(polls, 2_000);
    let mut held = Vec::new();
    for _ in 0..20 {
        bench.worker.turn().unwrap();
        bench.committer.try_iter().for_each(drop);
        held.extend(bench.shards[0].try_iter());
    }
    assert_eq!(*bench.told.lock().unwrap(), ["assign 1", "pause 1"]);
    held.clear();
    bench.worker.turn().unwrap();
    assert_eq!(*bench.told.lock().unwrap(), ["assign 1", "pause 1", "resume 1"]);
}

/// What the consumer thread says at a stop, when its ledger answers so, or not at all.
fn stop(answer: Option<ToConsumer>) -> Result<Stopped, Trouble> {
    let mut bench = bench(vec![Polled::Assigned(vec![AT])], 1 << 20);
    bench.worker.turn().unwrap();
    let (inbox, commands) = (bench.committer, bench.commands);
    let ledger = std::thread::spawn(move || {
        while let Ok(event) = inbox.recv() {
            if let (ToCommitter::Revoke(_), Some(answer)) = (event, &answer) {
                let ToConsumer::Released { unfinished } = answer else { unreachable!() };
                commands.send(ToConsumer::Released { unfinished: unfinished.clone() }).unwrap();
            }
        }
    });
    let end = bench.worker.leave();
    ledger.join().unwrap();
    end
}

#[test]
fn a_stop_that_was_not_in_good_order_is_no_success() {
    assert!(stop(Some(ToConsumer::Released { unfinished: None })).is_ok());
    let why = |end| match end {
        Err(Trouble::Again(why)) => why,
        other => format!("{other:?}"),
    };
    assert_eq!(why(stop(Some(ToConsumer::Released { unfinished: Some("no commit".to_owned()) }))), "no commit");
    let began = Instant::now();
    assert!(why(stop(None)).contains("in time"));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

/// A worker that must read ids first, from a broker that does not answer yet.
fn bench_with_ids(name: &str, polls: Vec<Polled>) -> (Bench, Scene, Disk) {
    let scene = Scene::new(name);
    scene.broker.fails.store(usize::MAX, SeqCst);
    let mut bench = bench(polls, 1 << 20);
    let disk = Disk::new(name);
    let (source, ids) = (scene.source(), Ids::new(disk.place(), bench.worker.feed.metrics.clone()));
    bench.worker.feed.keeper = Some(Keeper::new(source, 1, Some(ids), None, None).unwrap());
    (bench, scene, disk)
}

impl Bench {
    /// Turns until this has happened.
    fn until(&mut self, what: &str, mut happened: impl FnMut(&mut Self) -> bool) {
        let until = Instant::now() + Duration::from_secs(30);
        while !happened(self) {
            assert!(Instant::now() < until, "{what} did not happen");
            self.worker.turn().unwrap();
        }
    }

    fn told(&self) -> Vec<String> {
        self.told.lock().unwrap().clone()
    }
}

#[test]
fn a_partition_gives_nothing_to_anybody_before_its_ids_are_known() {
    let (mut bench, scene, _disk) = bench_with_ids("consumer-waits", vec![Polled::Assigned(vec![AT]), Polled::Joined]);
    scene.write(0, &[&seen::encode(wall_ms(), &[MessageId([7; 16])])]);
    let mut events = Vec::new();
    for _ in 0..20 {
        bench.worker.turn().unwrap();
        events.extend(bench.committer.try_iter());
    }
    assert_eq!(bench.told(), ["assign 1", "pause 1"]);
    // The ledger commits what its start changes, whatever it waits for.
    let starts = |event: &ToCommitter| matches!(event, ToCommitter::Opened { .. });
    assert_eq!(events.iter().filter(|event| starts(event)).count(), 1);
    assert!(events.iter().all(|event| starts(event) || matches!(event, ToCommitter::Watermarks(_))), "{events:?}");
    assert!(bench.shards[0].is_empty());
    assert!(matches!(bench.worker.feed.health.state(), State::NotReady(_)), "not before it is known");
    // Nor does the budget make it run, nor the ledger's word for an earlier epoch.
    bench.commands.send(ToConsumer::Pause(to_engine(AT))).unwrap();
    bench.commands.send(ToConsumer::Resume(to_engine(AT))).unwrap();
    bench.worker.turn().unwrap();
    assert_eq!(bench.told(), ["assign 1", "pause 1"]);
    scene.broker.fails.store(0, SeqCst);
    bench.until("its start", |bench| {
        bench.committer.try_iter().for_each(drop);
        bench.told().len() == 3 && !bench.shards[0].is_empty()
    });
    assert_eq!(bench.told(), ["assign 1", "pause 1", "resume 1"]);
    let Ok(ToShard::Open { kept, .. }) = bench.shards[0].try_recv() else { panic!("no start") };
    let mut memory = Memory::default();
    memory.open(to_engine(AT), Epoch(1), kept);
    let now = Now { wall_ms: wall_ms(), steady_ms: 0 };
    assert!(memory.contains(to_engine(AT), MessageId([7; 16]), now));
    assert!(!memory.contains(to_engine(AT), MessageId([8; 16]), now));
    assert_eq!(bench.worker.feed.health.state(), State::Ready);
}

#[test]
fn a_partition_that_goes_before_its_ids_are_known_never_starts() {
    let polls = vec![Polled::Assigned(vec![AT]), Polled::Idle, Polled::Lost(vec![AT])];
    let (mut bench, scene, _disk) = bench_with_ids("consumer-goes", polls);
    let (drain, commands) = (bench.committer.clone(), bench.commands.clone());
    let ledger = std::thread::spawn(move || {
        while let Ok(event) = drain.recv() {
            match event {
                ToCommitter::Lost(_) => commands.send(ToConsumer::Released { unfinished: None }).unwrap(),
                ToCommitter::Known { .. } => panic!("it started"),
                _ => {}
            }
        }
    });
    bench.until("its end", |bench| bench.told().last().is_some_and(|last| last == "unassign 1"));
    scene.broker.fails.store(0, SeqCst);
    let until = Instant::now() + Duration::from_millis(800);
    while Instant::now() < until {
        bench.worker.turn().unwrap();
    }
    assert_eq!(bench.told(), ["assign 1", "pause 1", "unassign 1"]);
    assert!(bench.shards[0].is_empty());
    drop(bench);
    ledger.join().unwrap();
}

#[test]
fn what_starts_anew_reads_what_came_since() {
    let (mut bench, scene, _disk) = bench_with_ids("consumer-anew", vec![Polled::Assigned(vec![AT])]);
    scene.broker.fails.store(0, SeqCst);
    bench.until("its start", |bench| bench.told().len() == 3);
    bench.shards[0].try_iter().for_each(drop);
    bench.committer.try_iter().for_each(drop);
    scene.write(0, &[&seen::encode(wall_ms(), &[MessageId([7; 16])])]);
    bench.commands.send(ToConsumer::Restart(vec![(to_engine(AT), 0)])).unwrap();
    bench.until("its new start", |bench| {
        bench.committer.try_iter().for_each(drop);
        bench.told().len() == 6 && !bench.shards[0].is_empty()
    });
    assert_eq!(bench.told()[3..], ["seek 0", "pause 1", "resume 1"]);
    let Ok(ToShard::Open { kept, epoch, .. }) = bench.shards[0].try_recv() else { panic!("no start") };
    let mut memory = Memory::default();
    memory.open(to_engine(AT), epoch, kept);
    assert!(memory.contains(to_engine(AT), MessageId([7; 16]), Now { wall_ms: wall_ms(), steady_ms: 0 }));
}

#[test]
fn a_part_of_a_task_is_not_begun() {
    let mut bench = bench(vec![Polled::Assigned(vec![AT])], 1 << 20);
    bench.worker.feed.topics = vec!["orders".to_owned(), "payments".to_owned()];
    bench.worker.feed.order.scope = keyrail_engine::policy::Scope::Inputs;
    let Err(Trouble::Again(why)) = bench.worker.turn() else { panic!("it is begun") };
    assert!(why.contains("gave partition 0 of orders and not of payments"), "{why}");
    assert!(bench.told.lock().unwrap().is_empty(), "nothing is taken over");
}
