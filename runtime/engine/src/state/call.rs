//! What a call reads and stages.

use super::overlay::{Overlay, name_of};
use super::{Change, Entry, Kept, MAX_NAME, MAX_SCAN, MAX_SCAN_BYTES, MAX_VALUE, Owner};
use crate::message::Partition;
use crate::planted::Bug;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Bound;
use foldhash::fast::FixedState;
use hashbrown::HashMap;

/// Why a handler's wish is refused. Nothing else comes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The message has no order key, and state belongs to one.
    NoKey,
    /// The order key, the name or the value is larger than state may be, or the page of a scan.
    TooLarge,
}

/// What becomes of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Write<'a> {
    /// It has this value, until then (milliseconds since the Unix epoch) or until it is changed.
    Put(&'a [u8], Option<i64>),
    /// It has none.
    Delete,
}

/// Names and values, in byte order of the names.
pub type Page = Vec<(String, Arc<[u8]>)>;

/// What the slots of a call want of one name, by slot.
type Wishes = Vec<(u32, Option<Entry>)>;

/// What is wanted of an owner's names.
type Names = BTreeMap<Box<str>, Wishes>;

/// State as the slots of one call see it: a later slot sees what an earlier one of its owner staged, never the other way
/// round. [`Shard::lend_state`](crate::shard::Shard::lend_state) makes it, and takes it back when the call has ended.
#[derive(Debug)]
pub struct Call {
    pub(crate) overlay: Overlay,
    stages: BTreeMap<Partition, HashMap<Owner, Names, FixedState>>,
}

impl Call {
    pub(crate) const fn new(overlay: Overlay) -> Self {
        Self { overlay, stages: BTreeMap::new() }
    }

    /// A call of its own, outside of a shard: nothing is settled before it but what is kept.
    #[must_use]
    pub fn alone() -> Self {
        Self::new(Overlay::new(0))
    }

    /// What a slot's earlier messages, or earlier commits, left under this name.
    ///
    /// # Errors
    /// When the name is too long.
    pub fn get(
        &self,
        slot: u32,
        (task, owner): (Partition, &Owner),
        name: &str,
        now_ms: i64,
        kept: &dyn Kept,
    ) -> Result<Option<Arc<[u8]>>, Refused> {
        self.read(Some(self.sees(slot)), (task, owner), name, now_ms, kept)
    }

    /// `last`: the last slot whose wishes count.
    fn read(
        &self,
        last: Option<u32>,
        (task, owner): (Partition, &Owner),
        name: &str,
        now_ms: i64,
        kept: &dyn Kept,
    ) -> Result<Option<Arc<[u8]>>, Refused> {
        check_name(name)?;
        let staged = self.stage(task, owner).and_then(|names| seen(names.get(name)?, last?));
        let entry = match staged.or_else(|| self.overlay.get(task, owner.prefix(), name)) {
            Some(entry) => entry.cloned(),
            None => kept.get(task, &owner.key(name)),
        };
        let lives = |entry: &Entry| entry.lives(now_ms) || self.overlay.has(Bug::ReadEnded);
        Ok(entry.filter(lives).map(|entry| entry.value))
    }

    /// As [`Call::get`], as if the slot had staged nothing itself: what was there before it.
    ///
    /// # Errors
    /// As there.
    pub fn get_before(
        &self,
        slot: u32,
        (task, owner): (Partition, &Owner),
        name: &str,
        now_ms: i64,
        kept: &dyn Kept,
    ) -> Result<Option<Arc<[u8]>>, Refused> {
        self.read(slot.checked_sub(1), (task, owner), name, now_ms, kept)
    }

    /// Whether the slot itself has staged a change of this name.
    #[must_use]
    pub fn has_changed(&self, slot: u32, (task, owner): (Partition, &Owner), name: &str) -> bool {
        self.stage(task, owner).and_then(|names| names.get(name)).is_some_and(|wishes| own(wishes, slot).is_some())
    }

    /// What a slot has staged so far: record keys and what is to stand there, in the order of the keys.
    #[must_use]
    pub fn staged(&self, slot: u32) -> BTreeMap<Vec<u8>, Option<Entry>> {
        let owners = self.stages.values().flatten();
        let names = owners.flat_map(|(owner, names)| names.iter().map(move |(name, wishes)| (owner, name, wishes)));
        names.filter_map(|(owner, name, wishes)| Some((owner.key(name), own(wishes, slot)?.cloned()))).collect()
    }

    /// Stages a change of the slot's.
    ///
    /// # Errors
    /// When the name or the value is too long.
    pub fn write(
        &mut self,
        slot: u32,
        (task, owner): (Partition, Owner),
        name: &str,
        write: Write<'_>,
    ) -> Result<(), Refused> {
        check_name(name)?;
        let entry = match write {
            Write::Put(value, _) if value.len() > MAX_VALUE => return Err(Refused::TooLarge),
            Write::Put(value, expires_ms) => Some(Entry { value: Arc::from(value), expires_ms }),
            Write::Delete => None,
        };
        let seed = self.overlay.seed();
        let owners = self.stages.entry(task).or_insert_with(|| HashMap::with_hasher(FixedState::with_seed(seed)));
        let names = owners.entry(owner).or_default();
        let wishes = match names.get_mut(name) {
            Some(wishes) => wishes,
            None => names.entry(Box::from(name)).or_default(),
        };
        match wishes.binary_search_by_key(&slot, |(own, _)| *own) {
            Ok(at) => wishes[at].1 = entry,
            Err(at) => wishes.insert(at, (slot, entry)),
        }
        Ok(())
    }

    /// The rank of the next delayed send: of one key's, later ones have higher ranks. `now_ms` is the wall time of the call.
    pub fn next_rank(&mut self, now_ms: i64) -> u64 {
        self.overlay.next_rank(now_ms)
    }

    /// Names that begin with `prefix` and come after `after`, in byte order, with their values; `limit` at most.
    ///
    /// # Errors
    /// When a name is too long, `limit` more than [`MAX_SCAN`], or what is found has more than [`MAX_SCAN_BYTES`].
    pub fn scan(
        &self,
        slot: u32,
        (task, owner): (Partition, &Owner),
        (prefix, after, limit): (&str, Option<&str>, u32),
        now_ms: i64,
        kept: &dyn Kept,
    ) -> Result<Page, Refused> {
        check_name(prefix)?;
        check_name(after.unwrap_or(""))?;
        if limit > MAX_SCAN {
            return Err(Refused::TooLarge);
        }
        self.page(Some(self.sees(slot)), (task, owner), (prefix, after, limit as usize), now_ms, kept)
    }

    /// As [`Call::scan`], as if the slot had staged nothing itself, and more: what [`Call::scan`] follows from and what the slot
    /// has staged. Also tells how much was asked for: where less is found, there is no more.
    ///
    /// # Errors
    /// As there.
    pub fn scan_before(
        &self,
        slot: u32,
        (task, owner): (Partition, &Owner),
        (prefix, after, limit): (&str, Option<&str>, u32),
        now_ms: i64,
        kept: &dyn Kept,
    ) -> Result<(Page, usize), Refused> {
        let names = self.stage(task, owner).into_iter().flatten();
        let asked = |name: &str| name.starts_with(prefix) && after.is_none_or(|after| name > after);
        let changed = names.filter(|(name, wishes)| asked(name) && own(wishes, slot).is_some()).count();
        let limit = limit as usize + changed;
        let page = self.page(slot.checked_sub(1), (task, owner), (prefix, after, limit), now_ms, kept)?;
        Ok((page, limit))
    }

    fn page(
        &self,
        last: Option<u32>,
        (task, owner): (Partition, &Owner),
        (prefix, after, limit): (&str, Option<&str>, usize),
        now_ms: i64,
        kept: &dyn Kept,
    ) -> Result<Page, Refused> {
        let mut all = self.changed(last, (task, owner), prefix, after);
        // So many that enough are left, whatever of it has changed.
        let (from, above) = (owner.key(prefix), owner.key(after.unwrap_or("")));
        for (key, entry) in kept.scan(task, &from, after.map_or(&[], |_| &above), limit + all.len(), now_ms) {
            if let Some(name) = name_of(&key, owner.prefix()) {
                all.entry(name).or_insert(Some(entry));
            }
        }
        let mut bytes = 0;
        let living = all.into_iter().filter_map(|(name, entry)| Some((name, entry.filter(|e| e.lives(now_ms))?.value)));
        let found: Page = living.take(limit).inspect(|(name, value)| bytes += name.len() + value.len()).collect();
        if bytes > MAX_SCAN_BYTES { Err(Refused::TooLarge) } else { Ok(found) }
    }

    /// What has changed of these names, as of this slot.
    fn changed(
        &self,
        last: Option<u32>,
        (task, owner): (Partition, &Owner),
        prefix: &str,
        after: Option<&str>,
    ) -> BTreeMap<String, Option<Entry>> {
        let asked = |name: &str| name.starts_with(prefix) && after.is_none_or(|after| name > after);
        let mut all = BTreeMap::new();
        let from = after.map_or(prefix, |after| after.max(prefix));
        let range = (Bound::Included(from), Bound::Unbounded);
        let settled =
            self.overlay.names(task, owner.prefix()).into_iter().flat_map(|names| names.range::<str, _>(range));
        for (name, pending) in settled.take_while(|(name, _)| name.starts_with(prefix)) {
            if asked(name) {
                all.insert(name.to_string(), pending.entry.clone());
            }
        }
        let Some(names) = self.stage(task, owner) else { return all };
        for (name, wishes) in names.range::<str, _>(range).take_while(|(name, _)| name.starts_with(prefix)) {
            if let Some(entry) = last.and_then(|last| seen(wishes, last)).filter(|_| asked(name)) {
                all.insert(name.to_string(), entry.cloned());
            }
        }
        all
    }

    /// The last slot whose wishes this one sees.
    fn sees(&self, slot: u32) -> u32 {
        if self.overlay.has(Bug::SeeLaterSlots) { u32::MAX } else { slot }
    }

    fn stage(&self, task: Partition, owner: &Owner) -> Option<&Names> {
        self.stages.get(&task)?.get(owner)
    }

    /// The call has ended: what each slot staged.
    pub(crate) fn end(self) -> (Overlay, Staged) {
        let mut slots: BTreeMap<u32, Vec<Wish>> = BTreeMap::new();
        for (task, owners) in self.stages {
            for (owner, names) in owners {
                for (name, wishes) in names {
                    for (slot, entry) in wishes {
                        slots.entry(slot).or_default().push((task, owner.clone(), name.clone(), entry));
                    }
                }
            }
        }
        (self.overlay, Staged { slots })
    }
}

/// What this slot itself wants of one name; the inner `None`: it is to be deleted.
fn own(wishes: &Wishes, slot: u32) -> Option<Option<&Entry>> {
    let at = wishes.binary_search_by_key(&slot, |(own, _)| *own).ok()?;
    wishes.get(at).map(|(_, entry)| entry.as_ref())
}

/// What a slot sees among wishes for one name.
fn seen(wishes: &Wishes, slot: u32) -> Option<Option<&Entry>> {
    let at = wishes.partition_point(|(own, _)| *own <= slot);
    wishes.get(at.checked_sub(1)?).map(|(_, entry)| entry.as_ref())
}

fn check_name(name: &str) -> Result<(), Refused> {
    if name.len() > MAX_NAME { Err(Refused::TooLarge) } else { Ok(()) }
}

type Wish = (Partition, Owner, Box<str>, Option<Entry>);

/// What the slots of a call staged, until it is known which of them stand.
#[derive(Debug, Default)]
pub(crate) struct Staged {
    slots: BTreeMap<u32, Vec<Wish>>,
}

impl Staged {
    /// The slot stands: its changes count from now on.
    pub(crate) fn stand(&mut self, slot: u32, overlay: &mut Overlay) -> Vec<Change> {
        let Some(wishes) = self.slots.remove(&slot) else { return Vec::new() };
        let change = |(task, owner, name, entry): Wish| overlay.change(task, owner.prefix(), &name, entry);
        wishes.into_iter().map(change).collect()
    }
}
