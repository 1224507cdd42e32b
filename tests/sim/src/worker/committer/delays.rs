//! The committer's share of delayed sends: those that are due go out.

use super::Committer;
use crate::env::Env;
use crate::invariants::name;
use crate::record::{Outputs, Payload, Plan, Rec, index_of};
use crate::touch::{Act, Use};
use crate::worker::{Mail, Store};
use keyrail_engine::delays::{Delayed, Delays, Loaded, is_delayed};
use keyrail_engine::message::{Epoch, Partition};
use keyrail_engine::pipeline::Action;
use keyrail_engine::timers::{Due, number};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// So many go out before others have their turn.
const TURN: usize = 3;

/// What a process knows to be committed of them stands in its store of state.
#[derive(Debug)]
struct Postponed<'a> {
    store: &'a Store,
    /// Partitions of which all is known.
    known: &'a BTreeMap<Partition, Epoch>,
    held: &'a Rc<Cell<u64>>,
}

impl Postponed<'_> {
    fn all(&self, task: Partition) -> Vec<Due> {
        if !self.known.contains_key(&task) {
            return Vec::new();
        }
        let delayed = self.store.all(task).into_iter().filter(|(key, _)| is_delayed(key));
        let mut all: Vec<Due> =
            delayed.filter_map(|(key, entry)| Some((Delayed::due_ms(&entry.value)?, key))).collect();
        all.sort();
        all
    }
}

impl Delays<Payload> for Postponed<'_> {
    fn due(&self, task: Partition, after: Option<&Due>, until_ms: i64, most: usize) -> Vec<Due> {
        let wanted = |due: &Due| due.0 <= until_ms && after.is_none_or(|after| due > after);
        self.all(task).into_iter().filter(wanted).take(most).collect()
    }

    fn next_due(&self, task: Partition, after_ms: i64) -> Option<i64> {
        self.all(task).into_iter().map(|due| due.0).find(|at_ms| *at_ms > after_ms)
    }

    fn load(&self, task: Partition, key: &[u8]) -> Option<Loaded<Payload>> {
        let entry = self.store.all(task).remove(key)?;
        let delayed = Delayed::decode(&entry.value).ok()?;
        let (number, place) = (number(key, &entry.value), delayed.output.parse().ok()?);
        let rec = Rec {
            partition: index_of(task),
            offset: number,
            timestamp_ms: delayed.at_ms,
            plan: Plan::Done,
            outputs: Outputs::to(&[place]),
            state: Use { act: Act::Look, ..Use::COUNT },
            ..Rec::new(index_of(task), None, 0)
        };
        let (size, at_ms) = (rec.size, delayed.at_ms);
        // One in fifty has an output that is gone from the manifest.
        let refused = (number % 50 == 0).then(|| "there is no such output".into());
        Some(Loaded { number, size, at_ms, message: Payload::new(Rc::new(rec), self.held), refused })
    }
}

impl Committer {
    /// `false`: the process died of it.
    pub(super) fn send_delayed(&mut self, actions: &mut Vec<Action>, mail: &mut Mail, env: &mut Env) -> bool {
        for _ in 0..TURN {
            let (store, held) = (Rc::clone(&mail.state), Rc::clone(&self.delayed));
            let postponed = Postponed { store: &store, known: self.known.partitions(), held: &held };
            let Some(settled) = self.ledger.next_delayed(env.now(), &postponed) else { break };
            let (at, due_ms) = ((settled.message.rec.partition, settled.ticket.offset), settled.ticket.timestamp_ms);
            // The clock may have gone back since.
            if env.latest_wall() < due_ms {
                let what = format!("is sent {} ms before its time", due_ms - env.latest_wall());
                env.oracle.violated(name::DELAYS, Some(at), what);
            }
            if !self.publish(settled, 0, actions, mail, env) {
                return false;
            }
        }
        true
    }
}
