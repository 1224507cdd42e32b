//! Delayed sends: each is committed with its message, or not at all, and sent once, with its deletion, not before its time, and
//! in the order in which a key's messages sent those that are due at the same time.

use super::state::Key;
use super::{Oracle, name};
use crate::model::outputs::Effect;
use crate::touch::Later;
use keyrail_engine::delays::{Delayed, is_delayed};
use keyrail_engine::state::{Change, Owner};
use keyrail_engine::timers::number;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A delayed send is late by so much, once there is nothing else to do.
const LATE_MS: i64 = 8_000;

/// One that is committed and not sent.
#[derive(Debug, Clone)]
struct Pending {
    key: Arc<[u8]>,
    at_ms: i64,
    place: u8,
    /// Whose it is: those of one order key go to one place in order.
    owner: Option<Owner>,
    /// How many were committed before it.
    place_in_order: u64,
}

/// All that were committed.
#[derive(Debug, Default)]
pub(super) struct Postponed {
    pending: BTreeMap<(u16, i64), Pending>,
    gone: BTreeSet<(u16, i64)>,
    /// When their messages were told to a ledger.
    published_ms: BTreeMap<Key, i64>,
    counted: u64,
    /// The last one of an owner that was sent to a place, of those due at a time.
    lines: BTreeMap<(u16, Owner, u8, i64), u64>,
}

/// What a message of a transaction delays.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) at: (u16, i64),
    pub(super) key: Key,
    pub(super) owner: Option<Owner>,
    pub(super) later: Later,
}

impl Oracle {
    /// Whether there was ever such a delayed send.
    pub(super) fn knows_delayed(&self, at: (u16, i64)) -> bool {
        self.postponed.pending.contains_key(&at) || self.postponed.gone.contains(&at)
    }

    /// A ledger is told of a message with these changes, at this wall time.
    pub fn published(&mut self, partition: u16, changes: &[Change], wall_ms: i64) {
        let delayed = changes.iter().filter(|change| is_delayed(&change.key) && change.entry.is_some());
        self.postponed.published_ms.extend(delayed.map(|change| ((partition, Arc::clone(&change.key)), wall_ms)));
    }

    /// Delayed sends that a transaction holds, in order; each is one output or one dead letter.
    pub(super) fn judge_sent(&mut self, records: &[(u8, Effect, u32)]) -> Vec<(u16, i64)> {
        let mut sent = Vec::new();
        for (place, effect, _) in records.iter().filter(|(_, effect, _)| !effect.is_internal()) {
            let at = (effect.partition, effect.offset);
            if !self.knows_delayed(at) {
                continue;
            }
            let Some(pending) = self.postponed.pending.get(&at).cloned() else {
                self.violated(name::DELAYS, Some(at), "is sent again".into());
                continue;
            };
            sent.push(at);
            if effect.letter {
                continue;
            }
            if *place != pending.place {
                let what = format!("is sent to {place}, and was for {}", pending.place);
                self.violated(name::DELAYS, Some(at), what);
            }
            let Some(owner) = pending.owner else { continue };
            let line = (at.0, owner, pending.place, pending.at_ms);
            let last = self.postponed.lines.insert(line, pending.place_in_order);
            if last.is_some_and(|last| last > pending.place_in_order) {
                let what = "is sent after one of its key that is due at the same time and was sent after it".into();
                self.violated(name::DELAYS, Some(at), what);
            }
        }
        sent
    }

    /// What a transaction's messages delay is committed with it; what it sends of that is deleted with it.
    pub(super) fn judge_delayed(
        &mut self,
        wanted: Vec<Wanted>,
        sent: &[(u16, i64)],
        written: &mut BTreeMap<Key, &Change>,
    ) {
        for at in sent {
            let Some(pending) = self.postponed.pending.remove(at) else {
                self.violated(name::DELAYS, Some(*at), "is sent twice in one transaction".into());
                continue;
            };
            let key: Key = (at.0, pending.key);
            if written.remove(&key).is_none_or(|change| change.entry.is_some()) {
                self.violated(name::DELAYS, Some(*at), "is sent, and not deleted with that".into());
            }
            self.states.values.put(key, None);
            self.postponed.gone.insert(*at);
        }
        for Wanted { at, key, owner, later } in wanted {
            let entry = written.remove(&key).and_then(|change| change.entry.clone());
            let value = entry.as_ref().and_then(|entry| Delayed::decode(&entry.value).ok());
            let Some((entry, value)) = entry.as_ref().zip(value.as_ref()) else {
                self.violated(name::DELAYS, Some(at), "is committed, and what it delays is not".into());
                continue;
            };
            let place = value.output.parse().unwrap_or(u8::MAX);
            let due_ms = self.postponed.published_ms.remove(&key).map(|at_ms| at_ms + i64::from(later.in_ms));
            if Some(value.at_ms) != due_ms || place != later.place {
                self.violated(name::DELAYS, Some(at), "what it delays is committed as something else".into());
            }
            self.postponed.counted += 1;
            let place_in_order = self.postponed.counted;
            let pending = Pending { key: Arc::clone(&key.1), at_ms: value.at_ms, place, owner, place_in_order };
            self.postponed.pending.insert((key.0, number(&key.1, &entry.value)), pending);
            self.states.values.put(key, Some(entry.clone()));
        }
        if let Some(key) = written.keys().find(|key| is_delayed(&key.1)) {
            let what = "a delayed send is committed, or deleted, that no message of the transaction sent".into();
            self.violated(name::DELAYS, Some((key.0, -1)), what);
        }
    }

    /// All work is done, and has been for a while: nothing is left that is due.
    pub(super) fn delays_at_the_end(&mut self, wall_ms: i64) {
        let late = self.postponed.pending.iter().find(|(_, pending)| pending.at_ms < wall_ms - LATE_MS);
        if let Some(at) = late.map(|(at, _)| *at) {
            self.violated(name::DELAYS, Some(at), "a delayed send was due, and never went out".into());
        }
    }
}
