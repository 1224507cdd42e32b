//! Somebody who gives commands: lets what is parked run, or drops it, and sends dead letters back. In the end all that is held
//! goes one way or the other.

use crate::env::{Due, Env, InboxRecord, Way};
use keyrail_engine::inbox::Deed;
use std::rc::Rc;

/// In the end it acts this often, at the least, in milliseconds.
const SWEEP_MS: u64 = 120;
/// So many commands at once are more than an owner has under way.
const BURST: u64 = 70;

/// What somebody does now, and when that one does something again. `over`: all that is to come from outside is there.
pub fn operate(over: bool, env: &mut Env) {
    let Some(every_ms) = env.settings.operator_ms else { return };
    if over {
        sweep(env);
    } else if env.rng.below(150) == 0 {
        for _ in 0..env.rng.within(BURST, BURST * 2) {
            act(env);
        }
    } else {
        act(env);
    }
    let every_ms = if over { every_ms.min(SWEEP_MS) } else { every_ms };
    let wait_ms = env.rng.within(1, every_ms * 2);
    env.after(wait_ms, Due::Operate);
}

/// Something that is held goes on, or goes.
fn sweep(env: &mut Env) {
    let held: Vec<(u16, i64)> = env.oracle.parked().filter(|(_, held, _)| *held).map(|(at, _, _)| at).collect();
    let held: Vec<(u16, i64)> = held.into_iter().filter(|at| !env.oracle.is_commanded(*at)).collect();
    if held.is_empty() {
        return;
    }
    let at = *env.rng.pick(&held);
    let deed = if env.rng.percent(60) { Deed::Drop } else { Deed::Retry };
    let wanted = env.rng.percent(50);
    env.send_command(at, deed, wanted, Way::Alone);
}

fn way(env: &mut Env) -> Way {
    match env.rng.below(20) {
        0 => Way::Aborted,
        1..=5 => Way::Committed,
        _ => Way::Alone,
    }
}

fn act(env: &mut Env) {
    let (way, wanted) = (way(env), env.rng.percent(50));
    match env.rng.below(20) {
        0 => {
            let partitions: Vec<u16> = env.group.partitions().collect();
            let partition = *env.rng.pick(&partitions);
            env.append_to_inbox(partition, InboxRecord::Foreign, way);
        }
        1 => {
            // Of what is not parked, most likely.
            let partitions: Vec<u16> = env.group.partitions().collect();
            let partition = *env.rng.pick(&partitions);
            let end = env.logs[usize::from(partition)].end().max(1) as u64;
            let offset = env.rng.below(end) as i64;
            let deed = if env.rng.percent(50) { Deed::Drop } else { Deed::Retry };
            env.send_command((partition, offset), deed, wanted, way);
        }
        2..=10 => redrive(wanted, way, env),
        _ => parked(wanted, way, env),
    }
}

/// A dead letter goes back, perhaps twice: the last ones more often than those of long ago.
fn redrive(wanted: bool, way: Way, env: &mut Env) {
    let letters = env.oracle.lettered();
    let recent = letters.len().min(12);
    if recent == 0 {
        return;
    }
    let back = if env.rng.percent(70) { env.rng.index(recent) } else { env.rng.index(letters.len()) };
    let at = letters[letters.len() - 1 - back];
    let Some(rec) = env.oracle.look(at.0, at.1).map(|fact| Rc::clone(&fact.rec)) else { return };
    env.send_command(at, Deed::Redrive(Rc::clone(&rec)), wanted, way);
    if env.rng.percent(15) {
        env.send_command(at, Deed::Redrive(rec), wanted, Way::Alone);
    }
}

/// Something that is parked may run, or is dropped.
fn parked(wanted: bool, way: Way, env: &mut Env) {
    let heads_only = env.rng.percent(60);
    let all = env.oracle.parked().filter(|(_, _, first)| *first || !heads_only).map(|(at, _, _)| at);
    let all: Vec<(u16, i64)> = all.collect();
    if all.is_empty() {
        return;
    }
    let at = *env.rng.pick(&all);
    let deed = if env.rng.percent(50) { Deed::Drop } else { Deed::Retry };
    env.send_command(at, deed.clone(), wanted, way);
    if env.rng.percent(10) {
        env.send_command(at, deed, wanted, Way::Alone);
    }
}
