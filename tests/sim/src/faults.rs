//! What each fault does to the world.

use crate::coverage::Fault;
use crate::env::{CommitLot, Due, Env, Strike};
use crate::model::group::Committed;
use crate::model::outputs::Lot;
use crate::model::outputs::{INBOX_TOPICS, LETTER_TOPICS, MARK_TOPICS, PARK_TOPICS, STATE_TOPICS};
use crate::record::{INPUTS, Rec, SLOTS_PER_TOPIC};
use crate::trace::Who;
use crate::worker::{State, Worker};
use keyrail_engine::metadata::{Kept, Metadata};
use keyrail_engine::policy::Scope;
use keyrail_engine::ranges::Ranges;
use std::rc::Rc;

/// Most partitions that a topic grows to.
const MOST_PARTITIONS: u32 = 5;

/// Carries out what has struck.
pub fn carry_out(strike: Strike, worker: &mut Worker, env: &mut Env) {
    let lasts_ms = match strike.fault {
        Fault::Crash | Fault::Stop | Fault::Zombie | Fault::Frozen | Fault::HiddenTopics => {
            process(strike.fault, worker, env)
        }
        Fault::Revoke | Fault::Lost | Fault::Bounce | Fault::Storm | Fault::PartitionAdded => {
            membership(strike.fault, worker, env)
        }
        Fault::SlowHandler
        | Fault::FailingHandler
        | Fault::TrappingHandler
        | Fault::Outage
        | Fault::LateAck
        | Fault::SmallBudget => window(strike, env),
        Fault::Undeliverable
        | Fault::DoubtfulProduce
        | Fault::FailedCommit
        | Fault::DoubtfulCommit
        | Fault::LateCommit
        | Fault::SilentStall => once(strike, env),
        Fault::LateProduce
        | Fault::SlowEnd
        | Fault::ResentEnd
        | Fault::RefusedOffsets
        | Fault::FailedRenewal
        | Fault::LateRenewal
        | Fault::SlowMarkers
        | Fault::StolenId => transaction(strike, env),
        Fault::BlockedOutput | Fault::BlockedLetters | Fault::BrokerDown => broker(strike.fault, env),
        Fault::Duplicates | Fault::Compaction | Fault::Markers | Fault::Retention => input(strike.fault, worker, env),
        Fault::Reset | Fault::HostileMetadata => operator(strike.fault, worker, env),
        Fault::ClockJump => {
            // What is parked is due by this clock: back by an hour is an hour more.
            let most_back_ms = if env.settings.policy.parks() { 2_000 } else { 3_600_000 };
            env.wall_ms += if env.rng.percent(70) { 3_600_000 } else { -(env.rng.within(1_000, most_back_ms) as i64) };
            0
        }
    };
    env.harm_until_ms = env.harm_until_ms.max(env.now_ms + lasts_ms);
}

fn process(fault: Fault, worker: &mut Worker, env: &mut Env) -> u64 {
    let session_ms = env.settings.session_ms;
    match fault {
        Fault::Crash => {
            let wait_ms = env.rng.within(20, 3_000);
            kill(worker, wait_ms, env);
            wait_ms.max(session_ms)
        }
        Fault::HiddenTopics => {
            let (wait_ms, hidden_ms) = (env.rng.within(20, 500), env.rng.within(500, 5_000));
            kill(worker, wait_ms, env);
            env.hide_retry_topics(hidden_ms);
            hidden_ms.max(session_ms)
        }
        Fault::Stop => {
            worker.ask_to_stop();
            env.settings.timing.revoke_ms
        }
        Fault::Frozen => {
            let transaction_ms = env.settings.timing.transaction_ms;
            let wait_ms = env.rng.within(transaction_ms / 2, (session_ms - 200).min(transaction_ms * 2));
            worker.state = State::Paused;
            env.after(wait_ms, Due::Wake(worker.mail.worker, worker.process()));
            wait_ms
        }
        _ => {
            let wait_ms = session_ms + env.rng.within(200, 3_000);
            worker.state = State::Paused;
            env.after(session_ms, Due::Expire(worker.member()));
            env.after(wait_ms, Due::Wake(worker.mail.worker, worker.process()));
            wait_ms
        }
    }
}

/// The process dies; what it had handed to the network may still arrive.
pub fn kill(worker: &mut Worker, restart_ms: u64, env: &mut Env) {
    env.note(Who::Worker(worker.mail.worker), "dies", None, 0);
    worker.state = State::Down;
    env.oracle.all_unclean(worker.process());
    let rng = &mut env.rng;
    env.outputs.died(worker.process(), |len| rng.index(len + 1));
    env.hang_up(worker.mail.worker);
    env.after(env.settings.session_ms, Due::Expire(worker.member()));
    env.after(restart_ms, Due::Restart(worker.mail.worker));
    if env.settings.policy.keeps_state() && env.rng.percent(15) {
        env.delete_store(worker.mail.worker);
    }
}

fn membership(fault: Fault, worker: &mut Worker, env: &mut Env) -> u64 {
    let member = worker.member();
    match fault {
        Fault::Revoke | Fault::Bounce => {
            env.group.move_from(member, fault == Fault::Bounce, &mut env.rng);
        }
        Fault::Lost => env.throw_out(member),
        Fault::PartitionAdded => {
            let topic = env.rng.below(2) as u16;
            let count = env.group.count_of_topic(topic);
            if count < MOST_PARTITIONS {
                // Inputs that share keys get it together.
                let together = env.settings.policy.order.scope == Scope::Inputs;
                let inputs = env.settings.partitions.len() as u16;
                for topic in if together { 0..inputs } else { topic..topic + 1 } {
                    env.group.add_partition(topic * SLOTS_PER_TOPIC + count as u16);
                }
                env.group.refresh(&mut env.rng);
            }
        }
        _ => {
            for turn in 0..4 {
                env.after(turn * 300, Due::Bystander(None));
            }
        }
    }
    env.settings.timing.revoke_ms
}

fn window(strike: Strike, env: &mut Env) -> u64 {
    let lasts_ms = env.rng.within(200, 2_500);
    let until_ms = env.now_ms + lasts_ms;
    let slow_ms = env.rng.within(100, 6_000);
    let ills = &mut env.afflictions[usize::from(strike.worker)];
    match strike.fault {
        Fault::SlowHandler => {
            ills.slow_call_ms = Some(slow_ms);
            return slow_ms;
        }
        Fault::FailingHandler => ills.failing_until_ms = until_ms,
        Fault::TrappingHandler => ills.trapping_until_ms = until_ms,
        Fault::Outage => ills.outage_until_ms = until_ms,
        Fault::LateAck => ills.late_acks_until_ms = until_ms,
        _ => ills.small_budget_until_ms = until_ms,
    }
    lasts_ms
}

fn once(strike: Strike, env: &mut Env) -> u64 {
    let mut late_ms = env.rng.within(100, 7_000);
    if env.has_transactions() && env.rng.percent(40) {
        // About when it is given up.
        late_ms = env.settings.timing.transaction_ms + env.rng.below(45);
    }
    let ills = &mut env.afflictions[usize::from(strike.worker)];
    match strike.fault {
        Fault::Undeliverable => ills.produce = Some(Lot::Undeliverable),
        Fault::DoubtfulProduce => ills.produce = Some(Lot::Doubtful),
        Fault::FailedCommit => ills.commit = Some(CommitLot::Failed),
        Fault::DoubtfulCommit => ills.commit = Some(CommitLot::Doubtful),
        Fault::LateCommit => ills.commit = Some(CommitLot::Late(late_ms)),
        _ => {
            ills.stall_next = true;
            return env.settings.timing.stall_ms;
        }
    }
    late_ms
}

/// What goes wrong with transactions; without them it is nothing.
fn transaction(strike: Strike, env: &mut Env) -> u64 {
    let late_ms = env.rng.within(100, 7_000);
    let ills = &mut env.afflictions[usize::from(strike.worker)];
    match strike.fault {
        Fault::LateProduce => ills.produce = Some(Lot::Late(late_ms)),
        Fault::SlowEnd => ills.commit = Some(CommitLot::Slow(late_ms)),
        Fault::ResentEnd => ills.commit = Some(CommitLot::Twice(late_ms)),
        Fault::RefusedOffsets => ills.refused_offsets = true,
        Fault::FailedRenewal => ills.renewal = Some(None),
        Fault::LateRenewal => ills.renewal = Some(Some(late_ms)),
        Fault::SlowMarkers => env.marker_ms = Some(late_ms / 2),
        _ => env.steal_id(strike.worker),
    }
    late_ms
}

fn broker(fault: Fault, env: &mut Env) -> u64 {
    let lasts_ms = env.rng.within(100, 4_000);
    let until_ms = env.now_ms + lasts_ms;
    match fault {
        Fault::BlockedOutput => {
            // Or the topics of seen ids, of state, of what is parked, or of commands, where there are any.
            let policy = &env.settings.policy;
            let (ids, state) =
                (policy.keeps_ids().then_some(MARK_TOPICS), policy.keeps_state().then_some(STATE_TOPICS));
            let parked = policy.parks().then_some(PARK_TOPICS);
            let inboxes = env.settings.operator_ms.map(|_| INBOX_TOPICS);
            let internal: Vec<[usize; INPUTS]> = ids.into_iter().chain(state).chain(parked).chain(inboxes).collect();
            match env.rng.index(2 + internal.len()) {
                topic @ 0..2 => env.outputs.block(topic, until_ms),
                more => internal[more - 2].into_iter().for_each(|topic| env.outputs.block(topic, until_ms)),
            }
        }
        Fault::BlockedLetters => {
            LETTER_TOPICS.into_iter().for_each(|topic| env.outputs.block(topic, until_ms));
        }
        _ => env.down_until_ms = env.down_until_ms.max(until_ms),
    }
    lasts_ms
}

/// One of the worker's partitions, or any.
fn some_partition(worker: &Worker, env: &mut Env) -> u16 {
    let mut choice = env.group.owned(worker.member());
    if choice.is_empty() {
        choice = env.group.partitions().collect();
    }
    *env.rng.pick(&choice)
}

fn input(fault: Fault, worker: &Worker, env: &mut Env) -> u64 {
    let partition = some_partition(worker, env);
    let log = &env.logs[usize::from(partition)];
    let (start, end) = (log.start(), log.end());
    let recent = (end - start).min(60) as u64;
    match fault {
        Fault::Markers => {
            for number in env.group.partitions().collect::<Vec<u16>>() {
                env.logs[usize::from(number)].append_marker();
            }
        }
        _ if recent == 0 => {}
        Fault::Duplicates => {
            for _ in 0..env.rng.within(3, 15) {
                let offset = end - 1 - env.rng.below(recent) as i64;
                if let Some(rec) = env.logs[usize::from(partition)].get(offset).cloned() {
                    let partition = another_input(partition, env);
                    env.append(Rec { partition, ..(*rec).clone() });
                }
            }
        }
        Fault::Compaction => {
            if env.settings.policy.keeps_state() {
                env.compact_state(env.task_of(partition));
            }
            if env.settings.policy.parks() {
                env.compact_parked(partition);
            }
            for _ in 0..env.rng.within(3, 15) {
                let offset = end - 1 - env.rng.below(recent) as i64;
                if env.logs[usize::from(partition)].compact(offset).is_some() {
                    env.note(Who::Broker, "compacted", Some((partition, offset)), 0);
                    env.oracle.compacted(partition, offset);
                }
            }
        }
        _ => {
            let new_start = end - env.rng.below(recent) as i64;
            env.logs[usize::from(partition)].retain_from(new_start);
            env.note(Who::Broker, "retention", Some((partition, -1)), new_start);
            env.oracle.retained(partition, start, new_start);
        }
    }
    0
}

/// Where a duplicate is written: where inputs share their ids, to the same number of any of them.
pub fn another_input(partition: u16, env: &mut Env) -> u16 {
    match env.settings.policy.order.scope {
        Scope::Topic => partition,
        Scope::Inputs => {
            let topic = env.rng.index(env.settings.partitions.len()) as u16;
            topic * SLOTS_PER_TOPIC + partition % SLOTS_PER_TOPIC
        }
    }
}

/// Somebody's hands on the group. Its owner is thrown out first, as the tools demand an idle group.
fn operator(fault: Fault, worker: &Worker, env: &mut Env) -> u64 {
    if env.settings.policy.parks() {
        // What is parked would come twice.
        return 0;
    }
    let partition = some_partition(worker, env);
    let Some(committed) = env.group.committed(partition).cloned() else { return 0 };
    // The tools wait until nothing is under way.
    if env.coordinator.is_pending(partition) {
        return 0;
    }
    env.coordinator.forget_order(partition);
    if let Some(owner) = env.group.owner(partition) {
        env.throw_out(owner);
    }
    let log = &env.logs[usize::from(partition)];
    let (start, end) = (log.start(), log.end());
    if fault == Fault::Reset {
        let offset = start + env.rng.below((end - start + 1) as u64) as i64;
        env.note(Who::Broker, "reset", Some((partition, -1)), offset);
        env.group.store(partition, Committed { offset, metadata: Rc::from("") });
        env.oracle.reset(partition, offset);
    } else {
        let metadata = hostile(committed.offset, &committed.metadata, env);
        env.note(Who::Broker, "hostile metadata", Some((partition, -1)), committed.offset);
        env.group.store(partition, Committed { offset: committed.offset, metadata: Rc::from(metadata) });
        env.oracle.partition_unclean(partition);
    }
    let policy = &env.settings.policy;
    if !policy.keeps_ids() && !policy.keeps_state() {
        return 0;
    }
    env.moved.insert(partition);
    let wait_ms = env.rng.within(200, 4_000);
    env.after(wait_ms, Due::Rewound(partition));
    wait_ms + env.settings.session_ms
}

/// Whoever runs the pipeline is told that a group was moved, and says that it is right where it is.
pub fn rewound(partition: u16, env: &mut Env) {
    if !env.moved.remove(&partition) {
        return;
    }
    if let Some(owner) = env.group.owner(partition) {
        env.throw_out(owner);
    }
    let Some(Committed { offset, metadata }) = env.group.committed(partition).cloned() else { return };
    let before = Metadata::decode(&metadata, offset, env.logs[usize::from(partition)].end()).unwrap_or_default();
    let metadata = Metadata { sequence: before.sequence.saturating_add(1), ..before }.encode(offset);
    env.note(Who::Broker, "rewound", Some((partition, -1)), offset);
    env.group.store(partition, Committed { offset, metadata: Rc::from(metadata) });
}

fn hostile(offset: i64, present: &str, env: &mut Env) -> String {
    let mut settled = Ranges::new();
    settled.push(offset + 1, offset + 1 + (1 << 31));
    match env.rng.below(5) {
        0 => String::new(),
        1 => "not ours".to_string(),
        2 => format!("{present}A"),
        3 => "kr4.".to_string(),
        _ => Metadata { sequence: u64::MAX, partitions: u32::MAX, held: None, log: 0, kept: Kept::default(), settled }
            .encode(offset),
    }
}
