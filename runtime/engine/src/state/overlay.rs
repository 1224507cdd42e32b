//! State that is settled and of which no commit is known yet.

use super::{Change, Entry};
use crate::delays;
use crate::message::Partition;
use crate::planted::{Bug, Switch};
use crate::timers;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use foldhash::fast::FixedState;
use hashbrown::HashMap;

/// So many delayed sends have ranks of their own in one millisecond, before those of the next are used.
const RANKS: u64 = 4_096;

/// The latest change of a name.
#[derive(Debug, Clone)]
pub(super) struct Pending {
    pub(super) entry: Option<Entry>,
    number: u64,
}

/// By name, in order.
pub(super) type Names = BTreeMap<Box<str>, Pending>;

/// Changes of the tasks that a shard works for, until they are [`Kept`](super::Kept).
#[derive(Debug)]
pub struct Overlay {
    tasks: BTreeMap<Partition, HashMap<Vec<u8>, Names, FixedState>>,
    seed: u64,
    /// Of the last change.
    number: u64,
    /// Of the last delayed send.
    rank: u64,
    planted: Switch,
}

impl Overlay {
    /// Without changes; `seed` is for its tables.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { tasks: BTreeMap::new(), seed, number: 0, rank: 0, planted: Switch::default() }
    }

    /// The bug that the simulator must find in this run.
    #[cfg(feature = "planted")]
    #[must_use]
    pub const fn with_planted(mut self, bug: Option<Bug>) -> Self {
        self.planted = Switch { bug };
        self
    }

    /// Whether this bug is on; always `false` outside the simulator's own tests.
    pub(super) fn has(&self, bug: Bug) -> bool {
        self.planted.has(bug)
    }

    pub(super) const fn seed(&self) -> u64 {
        self.seed
    }

    /// A number higher than all before it, and than those of an earlier time, by the clock.
    pub(super) fn next_rank(&mut self, now_ms: i64) -> u64 {
        let of_time = u64::try_from(now_ms).unwrap_or(0).saturating_mul(RANKS);
        self.rank = of_time.max(self.rank.saturating_add(1));
        self.rank
    }

    /// The changes of an owner, by name.
    pub(super) fn names(&self, task: Partition, owner: &[u8]) -> Option<&Names> {
        self.tasks.get(&task)?.get(owner)
    }

    /// The latest change of a name, if there is one; the inner `None`: it is deleted.
    pub(super) fn get(&self, task: Partition, owner: &[u8], name: &str) -> Option<Option<&Entry>> {
        self.names(task, owner)?.get(name).map(|pending| pending.entry.as_ref())
    }

    /// Whether there is a change of what has this record's key.
    pub(crate) fn changes(&self, task: Partition, key: &[u8]) -> bool {
        let found = split(key).and_then(|(owner, name)| self.names(task, owner)?.get(core::str::from_utf8(name).ok()?));
        found.is_some()
    }

    /// Deletes what has this record's key.
    pub(crate) fn delete(&mut self, task: Partition, key: &[u8]) -> Option<Change> {
        let (owner, name) = split(key)?;
        Some(self.change(task, owner, core::str::from_utf8(name).ok()?, None))
    }

    /// Puts a change over all earlier ones of its name.
    pub(super) fn change(&mut self, task: Partition, owner: &[u8], name: &str, entry: Option<Entry>) -> Change {
        self.number += 1;
        let (number, seed) = (self.number, self.seed);
        let owners = self.tasks.entry(task).or_insert_with(|| HashMap::with_hasher(FixedState::with_seed(seed)));
        let names = owners.entry_ref(owner).or_default();
        let pending = Pending { entry: entry.clone(), number };
        match names.get_mut(name) {
            Some(earlier) => *earlier = pending,
            None => drop(names.insert(Box::from(name), pending)),
        }
        let key: Arc<[u8]> = [owner, name.as_bytes()].concat().into();
        Change { key, entry, number }
    }

    /// These are kept now; what was changed since stays.
    pub(crate) fn pass_on(&mut self, task: Partition, changes: &[Change]) {
        let Some(owners) = self.tasks.get_mut(&task) else { return };
        for change in changes {
            let Some((owner, name)) = split(&change.key) else { continue };
            let Ok(name) = core::str::from_utf8(name) else { continue };
            let Some(names) = owners.get_mut(owner) else { continue };
            if names.get(name).is_some_and(|pending| pending.number <= change.number) {
                names.remove(name);
            }
            if names.is_empty() {
                owners.remove(owner);
            }
        }
    }

    /// Nothing of the task will be committed any more.
    pub(crate) fn drop_task(&mut self, task: Partition) {
        self.tasks.remove(&task);
    }

    /// How many names have a change that is not known to be kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tasks.values().flat_map(HashMap::values).map(BTreeMap::len).sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tasks.values().all(HashMap::is_empty)
    }
}

/// What a record's key says of its owner, and the name.
pub(super) fn split(key: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = match *key.first()? {
        super::OF_TASK | timers::OF_TASK | delays::DELAYED | super::schema::SCHEMA => 1,
        super::OF_KEY | timers::OF_KEY => 3 + usize::from(u16::from_be_bytes(*key.get(1..)?.first_chunk::<2>()?)),
        _ => return None,
    };
    key.split_at_checked(at)
}

/// The name in a record's key, which follows its owner.
pub(super) fn name_of(key: &[u8], owner: &[u8]) -> Option<String> {
    String::from_utf8(key.strip_prefix(owner)?.to_vec()).ok()
}
