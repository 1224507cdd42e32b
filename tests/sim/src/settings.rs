//! What a run is made of. Everything is drawn from the seed; scenarios set what they need by hand.

use crate::coverage::{Action, Fault};
use crate::record::{ID_HEADER, ORDER_HEADER};
use crate::rng::Rng;
use keyrail_engine::intake::From;
use keyrail_engine::pipeline::Timing;
use keyrail_engine::planted::Bug;
use keyrail_engine::policy::{
    Absent, Batch, Breaker, Commit, Dedup, Guarantee, IdFrom, NullKey, Order, OrderBy, Policy, Retry, Scope, Spent,
};

/// Pairs of action and fault of one seed that come from the walk through all of them.
const WALKED_PAIRS: u64 = 20;
/// Pairs that are drawn freely. Together with those that each seed has, more than the twenty faults it needs.
const DRAWN_PAIRS: u64 = 6;
/// And of those that some seeds have alone.
const PARKING_PAIRS: u64 = 6;

/// What a run is made of.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Seed of all chance.
    pub seed: u64,
    /// Processes of the group.
    pub workers: u8,
    /// Shards of each.
    pub shards: u32,
    /// Partitions of each input topic at the start.
    pub partitions: Vec<u16>,
    /// Messages that the producers outside write, duplicates apart.
    pub messages: u32,
    /// How long that takes, in virtual milliseconds.
    pub arrival_ms: u64,
    /// Different keys.
    pub keys: u32,
    /// What the manifest would say.
    pub policy: Policy,
    /// The ledger's times.
    pub timing: Timing,
    /// Where the group starts.
    pub from: From,
    /// Byte budget of one worker.
    pub budget_bytes: u64,
    /// Records of one fetch, at most.
    pub fetch_max: usize,
    /// The group's session timeout.
    pub session_ms: u64,
    /// How long the producer tries before it reports a record as refused.
    pub delivery_ms: u64,
    /// Places in the threads' inboxes.
    pub inboxes: Inboxes,
    /// A thread may stand still this long while the others go on, in milliseconds; 0: none does.
    pub lag_ms: u64,
    /// How many seen ids their topics take in one record.
    pub marks_max: usize,
    /// Shards take their inbox in while a call is under way, as an asynchronous engine would.
    pub inbox_during_call: bool,
    /// Somebody gives a command to what is parked, or was dead-lettered, about every so many milliseconds.
    pub operator_ms: Option<u64>,
    /// Each process runs a version whose state is of a schema of its own; all of them read all.
    pub schemas: bool,
    /// Versions on trial, one after the other.
    pub trials: Vec<Phase>,
    /// Where faults strike: each waits for its action.
    pub faults: Vec<(Action, Fault)>,
}

/// A time with a version on trial, or with none.
#[derive(Debug, Clone, Copy)]
pub struct Phase {
    /// When it begins.
    pub at_ms: u64,
    /// The version that serves.
    pub serving: u32,
    /// The one on trial.
    pub version: u32,
    /// Its share of the lanes; `None`: none is on trial.
    pub share: Option<f64>,
    /// So many of a hundred messages fail on it though they would not on the other.
    pub bad_percent: u64,
}

/// Places in the inboxes of a worker's threads. What finds no room waits with its writer.
#[derive(Debug, Clone, Copy)]
pub struct Inboxes {
    /// Of the consumer.
    pub consumer: usize,
    /// Of each shard.
    pub shard: usize,
    /// Of the committer.
    pub committer: usize,
}

impl Settings {
    /// A group of three workers without messages and faults: what scenarios start from.
    #[must_use]
    pub fn quiet() -> Self {
        Self {
            seed: 1,
            workers: 3,
            shards: 2,
            partitions: vec![3, 3],
            messages: 0,
            arrival_ms: 0,
            keys: 8,
            policy: Policy {
                guarantee: Guarantee::AtLeastOnce,
                retry: retry(4, 100, Spent::DeadLetter),
                ..Policy::default()
            },
            timing: timing(),
            from: From::Earliest,
            budget_bytes: 1 << 20,
            fetch_max: 32,
            session_ms: 6_000,
            delivery_ms: 1_500,
            inboxes: Inboxes { consumer: 256, shard: 4, committer: 4 },
            lag_ms: 0,
            marks_max: usize::MAX,
            inbox_during_call: false,
            operator_ms: None,
            schemas: false,
            trials: Vec::new(),
            faults: Vec::new(),
        }
    }

    /// The same with transactions.
    #[must_use]
    pub fn quiet_exactly_once() -> Self {
        let quiet = Self::quiet();
        Self { policy: Policy { guarantee: Guarantee::ExactlyOnce, ..quiet.policy.clone() }, ..quiet }
    }

    /// Even seeds are at-least-once, odd ones exactly-once.
    #[must_use]
    pub const fn guarantee_of(seed: u64) -> Guarantee {
        if seed.is_multiple_of(2) { Guarantee::AtLeastOnce } else { Guarantee::ExactlyOnce }
    }

    /// The run of this seed.
    #[must_use]
    pub fn of_seed(seed: u64, planted: Option<Bug>) -> Self {
        let mut rng = Rng::new(seed ^ 0x006b_6579_7261_696c);
        let guarantee = Self::guarantee_of(seed);
        let mut policy = Policy { guarantee, ..draw_policy(&mut rng) };
        policy.planted = planted;
        // Most of those that can.
        let shared = seed / 2 % 4 == 3;
        let keeps = guarantee == Guarantee::ExactlyOnce || !shared && !(seed / 2).is_multiple_of(3);
        policy.state = keeps && seed / 2 % 5 != 4;
        // So do two thirds park; without transactions half do, none of which shares keys.
        let parks = if guarantee == Guarantee::ExactlyOnce { seed / 2 % 3 != 2 } else { (seed / 2).is_multiple_of(2) };
        if parks {
            policy.retry.in_place_ms = Some([0, 20, 100, 300][(seed / 6 % 4) as usize]);
            policy.retry.in_place_most = [1, 4, 1_000][(seed / 14 % 3) as usize];
        }
        if seed / 2 % 7 < 3 {
            policy.breaker = Some(Breaker {
                failures: [0.4, 0.6][(seed / 28 % 2) as usize],
                window_ms: 600,
                pause_ms: [50, 100, 200][(seed / 42 % 3) as usize],
                least_lanes: [3, 5][(seed / 14 % 2) as usize],
            });
            // Where all that is left never succeeds, this is what ends it.
            policy.retry.max_age_ms = policy.retry.max_age_ms.min(3_000);
        }
        // Of those that can, three of five have timers.
        policy.timers = policy.state && guarantee == Guarantee::ExactlyOnce && !shared && seed / 2 % 5 < 3;
        if policy.timers && policy.retry.then == Spent::Discard {
            // Of what is discarded nothing would tell.
            policy.retry.then = Spent::DeadLetter;
        }
        // And of seven others four delay what they send.
        policy.delays = policy.state && guarantee == Guarantee::ExactlyOnce && !shared && seed / 2 % 7 < 4;
        // A quarter has keys that several inputs share.
        let mut partitions = Self::quiet().partitions;
        if shared {
            policy.order.scope = Scope::Inputs;
            partitions = if (seed / 8).is_multiple_of(3) { vec![2, 2, 2] } else { vec![3, 3] };
        }
        // A fifth acts outside.
        policy.batch.apart = seed / 2 % 5 == 3;
        // Most of those that park have an operator, and of these some hold what is spent until that one acts.
        let operated = policy.takes_commands() && seed / 2 % 11 < 9;
        if operated && seed / 2 % 7 < 3 {
            policy.retry.then = Spent::Hold;
        } else if policy.takes_commands() && seed / 2 % 7 < 5 {
            policy.retry.then = Spent::DeadLetterKey;
        }
        if let Some(dedup) = &mut policy.dedup {
            dedup.kept = keeps;
        }
        let (messages, arrival_ms) = (2_000 + rng.below(300) as u32, rng.within(12_000, 24_000));
        Self {
            seed,
            workers: 3,
            partitions,
            messages,
            arrival_ms,
            operator_ms: operated.then_some(arrival_ms / [30, 60, 120, 60][(seed / 2 % 4) as usize]),
            schemas: policy.state && seed / 2 % 4 == 1,
            trials: if seed / 2 % 5 == 2 { trials(seed, arrival_ms) } else { Vec::new() },
            keys: *rng.pick(&[3, 12, 40, 40]),
            policy,
            from: if rng.percent(15) { From::Latest } else { From::Earliest },
            budget_bytes: *rng.pick(&[6_000, 40_000, 1 << 20, 1 << 20]),
            fetch_max: *rng.pick(&[3, 16, 64]),
            inboxes: Inboxes {
                consumer: *rng.pick(&[1, 2, 256]),
                shard: *rng.pick(&[1, 2, 4, 16]),
                committer: *rng.pick(&[1, 1, 2, 4]),
            },
            lag_ms: *rng.pick(&[0, 5, 40]),
            inbox_during_call: rng.percent(20),
            marks_max: if (seed / 2).is_multiple_of(8) { 20 } else { usize::MAX },
            faults: draw_faults(seed, guarantee, (parks, operated), &mut rng),
            ..Self::quiet()
        }
    }
}

/// Eight versions, each on trial for a while: some good, some bad; some become the one that serves.
fn trials(seed: u64, arrival_ms: u64) -> Vec<Phase> {
    let mut serving = 0;
    let phases = (1..=8).flat_map(|version: u32| {
        let turn = seed / 10 + u64::from(version);
        let at_ms = arrival_ms * u64::from(version) / 9;
        let share = [0.05, 0.3, 0.5, 1.0][(turn % 4) as usize];
        let bad_percent = [0, 5, 30, 100, 2][(turn % 5) as usize];
        let begins = Phase { at_ms, serving, version, share: Some(share), bad_percent };
        if bad_percent == 0 {
            serving = version;
        }
        [begins, Phase { at_ms: at_ms + arrival_ms / 12, serving, share: None, ..begins }]
    });
    phases.collect()
}

/// Shorter than the defaults, in the same proportions, so that a seed lives through many of them.
fn timing() -> Timing {
    Timing {
        revoke_ms: 4_000,
        release_ms: 6_000,
        stall_ms: 8_000,
        commit_ms: 5_000,
        refusal_first_ms: 100,
        refusal_max_ms: 3_000,
        transaction_ms: 3_000,
    }
}

fn retry(attempts: u32, first_ms: u64, then: Spent) -> Retry {
    Retry { attempts, first_ms, max_ms: 1_000, then, ..Policy::default().retry }
}

fn draw_policy(rng: &mut Rng) -> Policy {
    let by = match rng.below(20) {
        0..=12 => OrderBy::Key,
        13..=15 => OrderBy::Header(ORDER_HEADER.to_string()),
        16..=17 => OrderBy::Partition,
        _ => OrderBy::None,
    };
    let null_key = if rng.percent(50) { NullKey::None } else { NullKey::Partition };
    let id = match rng.below(10) {
        0..=5 => Some(IdFrom::Header(ID_HEADER.to_string())),
        6 => Some(IdFrom::Key),
        7 => Some(IdFrom::Digest),
        _ => None,
    };
    let absent = *rng.pick(&[Absent::Process, Absent::Process, Absent::Digest, Absent::DeadLetter]);
    let capacity = if rng.percent(15) { 24 } else { 100_000 };
    let window_ms = *rng.pick(&[5_000, 60_000, 3_600_000]);
    let mut retry = retry(
        rng.within(2, 5) as u32,
        rng.within(10, 200),
        if rng.percent(30) { Spent::Discard } else { Spent::DeadLetter },
    );
    if rng.percent(15) {
        retry.max_age_ms = 2_000;
    }
    Policy {
        order: Order { by, null_key, ..Order::default() },
        batch: Batch {
            max_messages: *rng.pick(&[1, 4, 16, 256]),
            max_bytes: *rng.pick(&[500, 5_000, 1 << 20]),
            max_wait_ms: rng.below(4),
            max_time_ms: 3_000,
            apart: false,
        },
        retry,
        dedup: id.map(|id| Dedup { id, window_ms, absent, kept: false, capacity }),
        expires_after_ms: rng.percent(15).then_some(30_000),
        commit: Commit { interval_ms: rng.within(20, 300) },
        timeout_ms: 500,
        ..Policy::default()
    }
}

/// Goes through all pairs of action and fault in turn, so that a thousand seeds meet each of them many times, in
/// ever new company. Pairs with an action that only a fault brings about wait from the start; each seed has one such
/// fault of each kind.
fn draw_faults(
    seed: u64,
    guarantee: Guarantee,
    (parks, operated): (bool, bool),
    rng: &mut Rng,
) -> Vec<(Action, Fault)> {
    let actions: Vec<Action> = Action::ALL.iter().copied().filter(|a| a.is_of(guarantee)).collect();
    let kinds: Vec<Fault> = Fault::ALL.iter().copied().filter(|f| f.is_of(guarantee)).collect();
    let faults = kinds.len() as u64;
    let pairs = actions.len() as u64 * faults;
    // Coprime to the number of pairs, so that the walk visits all of them.
    let stride = 331;
    let pair = |n: u64| (actions[(n / faults) as usize], kinds[(n % faults) as usize]);
    // Every other seed has this guarantee.
    let turn = seed / 2;
    let mut chosen: Vec<(Action, Fault)> = (0..WALKED_PAIRS)
        .map(|n| pair(turn.wrapping_mul(WALKED_PAIRS).wrapping_add(n).wrapping_mul(stride) % pairs))
        .chain((0..DRAWN_PAIRS).map(|_| pair(rng.below(pairs))))
        .collect();
    for i in (1..chosen.len()).rev() {
        chosen.swap(i, rng.index(i + 1));
    }
    chosen.sort_by_key(|(action, _)| !is_rare(*action));
    let mut causes = vec![Fault::Lost, Fault::BlockedOutput, Fault::Revoke, Fault::Stop];
    if guarantee == Guarantee::ExactlyOnce {
        causes.extend([Fault::DoubtfulCommit, Fault::LateCommit]);
    }
    chosen.extend(causes.into_iter().map(|fault| (Action::Route, fault)));
    // Of what only some seeds do, each fault is to meet enough in those.
    let of_parking = [Action::Park, Action::Unpark, Action::Obey, Action::Answer];
    let of_parking = if operated { &of_parking[..] } else { &of_parking[..2] };
    let more = if operated || parks && guarantee == Guarantee::AtLeastOnce { PARKING_PAIRS } else { 0 };
    chosen.extend((0..more).map(|_| (*rng.pick(of_parking), *rng.pick(&kinds))));
    chosen
}

const fn is_rare(action: Action) -> bool {
    matches!(
        action,
        Action::Stop
            | Action::Rewind
            | Action::Lost
            | Action::Release
            | Action::Unassign
            | Action::GiveUp
            | Action::Restart
    )
}
