//! What the model's handler does with its key's state: each message reads a name, and leaves a value that follows from
//! what it read and from itself. What it saw goes into its outputs, so that a wrong value is visible.

pub use crate::record::Later;
use crate::record::{ORDER_HEADER, Rec, Wish, index_of};
use crate::rng::Rng;
use keyrail_engine::delays::{self, Delayed};
use keyrail_engine::message::{Partition, Ticket};
use keyrail_engine::order::order_key;
use keyrail_engine::policy::Order;
use keyrail_engine::state::{Call, Entry, Kept, Owner, Write};
use keyrail_engine::timers::{self, Timer};
use std::rc::Rc;
use std::sync::Arc;

/// The names that handlers use; one begins as another.
pub const NAMES: [&str; 3] = ["a", "ab", "b"];
/// And those of their timers, which are counted on from there.
pub const TIMERS: [&str; 2] = ["t", "u"];

/// What a message does with the state of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Use {
    /// Which of [`NAMES`].
    pub name: u8,
    /// What becomes of the name.
    pub act: Act,
    /// It looks at several names, too: from which of two places, and how many.
    pub scan: Option<(bool, u32)>,
    /// It looks again when all of its batch have changed what they change.
    pub late: bool,
}

/// What becomes of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Nothing.
    Look,
    /// The message is counted in.
    Count,
    /// The same, for so many milliseconds.
    CountFor(u64),
    /// It is deleted.
    Delete,
}

impl Use {
    /// Counts the message under the first name, and no more.
    pub const COUNT: Self = Self { name: 0, act: Act::Count, scan: None, late: false };

    /// Most messages count.
    pub fn draw(rng: &mut Rng) -> Self {
        let act = match rng.below(20) {
            0 => Act::Look,
            1 => Act::Delete,
            2..=4 => Act::CountFor(rng.within(20, 6_000)),
            _ => Act::Count,
        };
        let scan = rng.percent(15).then(|| (rng.percent(50), rng.within(1, 3) as u32));
        Self { name: rng.index(NAMES.len()) as u8, act, scan, late: rng.percent(20) }
    }
}

/// One thing that a message did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// It read a name, at this wall time.
    Get(u8, i64, Option<Arc<[u8]>>),
    /// It read names after the first one (or all), at most so many, at this wall time.
    Scan((bool, u32), i64, Vec<(String, Arc<[u8]>)>),
    /// It changed a name.
    Write(u8, Option<Entry>),
    /// It sent something with a delay, under this key of state.
    Delay(Arc<[u8]>, Later),
}

/// All that one run of a message did, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Touch {
    /// Whose state.
    pub owner: Owner,
    /// What.
    pub ops: Vec<Op>,
}

impl Touch {
    /// What its outputs tell of it.
    #[must_use]
    pub fn told(&self) -> u64 {
        let mut sum = 1;
        for op in &self.ops {
            match op {
                Op::Get(name, _, found) => {
                    mix(&mut sum, &[*name]);
                    mix(&mut sum, found.as_deref().unwrap_or(b"none"));
                }
                Op::Scan(_, _, found) => {
                    for (name, value) in found {
                        mix(&mut sum, name.as_bytes());
                        mix(&mut sum, value);
                    }
                }
                Op::Write(name, entry) => {
                    mix(&mut sum, &[*name]);
                    mix(&mut sum, entry.as_ref().map_or(b"none", |e| &*e.value));
                }
                Op::Delay(key, ..) => mix(&mut sum, key),
            }
        }
        sum
    }
}

fn mix(sum: &mut u64, bytes: &[u8]) {
    for byte in bytes {
        *sum = (*sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
}

/// The key of the record that has this name.
#[must_use]
pub fn key_of(owner: &Owner, name: u8) -> Vec<u8> {
    match usize::from(name).checked_sub(NAMES.len()) {
        None => owner.key(NAMES[usize::from(name)]),
        Some(timer) => timers::owner(owner).key(TIMERS[timer]),
    }
}

/// How many messages a value counts.
#[must_use]
pub fn count_of(value: &[u8]) -> u64 {
    value.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// The value after this message: how many there were, and a sum over all of them in their order.
fn count_in(before: Option<&[u8]>, rec: &Rec) -> Arc<[u8]> {
    let mut sum = u64::from(rec.partition) << 48 | rec.offset as u64;
    mix(&mut sum, before.unwrap_or_default());
    let count = before.map_or(0, count_of) + 1;
    [count.to_le_bytes(), sum.to_le_bytes()].concat().into()
}

/// The state of a call under way.
#[derive(Debug)]
pub(crate) struct Running {
    lent: Call,
    /// What each slot did so far; `None`: it has no order key.
    touches: Vec<Option<Touch>>,
    begun: usize,
}

impl Running {
    /// A call with these messages begins.
    pub(crate) fn begin(lent: Call, slots: &[(Ticket, Rc<Rec>)], order: &Order) -> Self {
        let owner = |rec: &Rec| Owner::of(order_key(order, rec)).ok();
        let touch = |rec: &Rec| owner(rec).map(|owner| Touch { owner, ops: Vec::new() });
        Self { lent, touches: slots.iter().map(|(_, rec)| touch(rec)).collect(), begun: 0 }
    }

    /// Its slots run, up to this one.
    pub(crate) fn run(&mut self, until: usize, slots: &[(Ticket, Rc<Rec>)], wall_ms: i64, kept: &dyn Kept) {
        while self.begun < until.min(slots.len()) {
            let (slot, rec) = (self.begun, &slots[self.begun].1);
            let at = slots[slot].0.task();
            let before = self.get(slot, at, rec.state.name, wall_ms, kept);
            let entry = match rec.state.act {
                Act::Look => None,
                Act::Count => Some(Some((before, None))),
                Act::CountFor(ms) => Some(Some((before, Some(wall_ms + ms as i64)))),
                Act::Delete => Some(None),
            };
            if let Some(wish) = entry {
                let value = |(before, expires_ms): (Option<Arc<[u8]>>, _)| Entry {
                    value: count_in(before.as_deref(), rec),
                    expires_ms,
                };
                self.write(slot, at, rec.state.name, wish.map(value));
            }
            let fired = rec.fired.filter(|_| slots[slot].0.is_set());
            if let (Some(name), Some(touch)) = (fired, self.touches[slot].as_mut()) {
                // That is staged for it.
                touch.ops.insert(0, Op::Write(NAMES.len() as u8 + name, None));
            }
            if let Some(wish) = rec.timer {
                self.wish(slot, at, rec, wish, wall_ms);
            }
            if let Some(scan) = rec.state.scan {
                self.scan(slot, at, scan, wall_ms, kept);
            }
            if let Some(later) = rec.later {
                self.delay(slot, at, rec, later, wall_ms);
            }
            self.begun += 1;
        }
    }

    fn wish(&mut self, slot: usize, at: Partition, rec: &Rec, wish: Wish, wall_ms: i64) {
        let Some(touch) = self.touches[slot].as_mut() else { return };
        let (name, entry) = match wish {
            Wish::Cancel(name) => (name, None),
            Wish::Set(name, in_ms) => {
                let (at_ms, key) = (wall_ms + i64::from(in_ms), rec.key.as_ref().map(<[u8; 4]>::as_slice));
                let headers = rec.order.as_ref().map(|order| (ORDER_HEADER.as_bytes(), Some(order.as_slice())));
                let headers = headers.into_iter().collect();
                let timer = Timer { at_ms, offset: rec.offset, hops: 0, key, headers, payload: &rec.content };
                (name, Some(Entry { value: timer.encode().into(), expires_ms: None }))
            }
        };
        let write = entry.as_ref().map_or(Write::Delete, |entry| Write::Put(&entry.value, None));
        let owner = timers::owner(&touch.owner);
        let done = self.lent.write(slot as u32, (at, owner), TIMERS[usize::from(name)], write);
        debug_assert!(done.is_ok(), "{}", TIMERS[usize::from(name)]);
        touch.ops.push(Op::Write(NAMES.len() as u8 + name, entry));
    }

    /// What it delays needs no order key.
    fn delay(&mut self, slot: usize, at: Partition, rec: &Rec, later: Later, wall_ms: i64) {
        let touch = self.touches[slot].get_or_insert_with(|| Touch { owner: delays::owner(), ops: Vec::new() });
        let output = later.place.to_string();
        let delayed = Delayed {
            at_ms: i64::from(later.in_ms),
            offset: rec.offset,
            output: &output,
            key: None,
            value: Some(&rec.content),
            headers: Vec::new(),
            timestamp_ms: None,
        };
        let name = delays::name(self.lent.next_rank(wall_ms), rec.offset.cast_unsigned());
        let value = delayed.encode();
        let done = self.lent.write(slot as u32, (at, delays::owner()), &name, Write::Put(&value, None));
        debug_assert!(done.is_ok(), "{name}");
        touch.ops.push(Op::Delay(delays::owner().key(&name).into(), later));
    }

    /// The call ends: the rest of its slots run, and some look again.
    pub(crate) fn end(
        mut self,
        slots: &[(Ticket, Rc<Rec>)],
        wall_ms: i64,
        kept: &dyn Kept,
    ) -> (Call, Vec<Option<Rc<Touch>>>) {
        self.run(slots.len(), slots, wall_ms, kept);
        for (slot, (ticket, rec)) in slots.iter().enumerate().filter(|(_, (_, rec))| rec.state.late) {
            self.get(slot, ticket.task(), rec.state.name, wall_ms, kept);
        }
        (self.lent, self.touches.into_iter().map(|touch| touch.map(Rc::new)).collect())
    }

    fn get(&mut self, slot: usize, at: Partition, name: u8, wall_ms: i64, kept: &dyn Kept) -> Option<Arc<[u8]>> {
        let touch = self.touches[slot].as_mut()?;
        let text = NAMES[usize::from(name)];
        let found = self.lent.get(slot as u32, (at, &touch.owner), text, wall_ms, kept).ok()?;
        touch.ops.push(Op::Get(name, wall_ms, found.clone()));
        found
    }

    fn scan(&mut self, slot: usize, at: Partition, what: (bool, u32), wall_ms: i64, kept: &dyn Kept) {
        let Some(touch) = self.touches[slot].as_mut() else { return };
        let after = what.0.then_some(NAMES[0]);
        let found = self.lent.scan(slot as u32, (at, &touch.owner), ("", after, what.1), wall_ms, kept);
        touch.ops.push(Op::Scan(what, wall_ms, found.unwrap_or_default()));
    }

    fn write(&mut self, slot: usize, at: Partition, name: u8, entry: Option<Entry>) {
        let Some(touch) = self.touches[slot].as_mut() else { return };
        let write = entry.as_ref().map_or(Write::Delete, |e| Write::Put(&e.value, e.expires_ms));
        let done = self.lent.write(slot as u32, (at, touch.owner.clone()), NAMES[usize::from(name)], write);
        debug_assert!(done.is_ok(), "{} of {}", NAMES[usize::from(name)], index_of(at));
        touch.ops.push(Op::Write(name, entry));
    }
}
