//! A message of the model: what the engine reads of it, and what the handler will do with it.

use crate::rng::Rng;
use crate::touch::{TIMERS, Use};
use keyrail_engine::message::{EachHeader, Message, Partition};
use std::cell::Cell;
use std::rc::Rc;

/// Input topics that the model has room for.
pub const INPUTS: usize = 3;
/// Partitions of one topic that the model has room for.
pub const SLOTS_PER_TOPIC: u16 = 8;
/// Name of the header that carries the id.
pub const ID_HEADER: &str = "id";
/// Name of the header that carries the order key, where `order.by` names one.
pub const ORDER_HEADER: &str = "order";

/// The engine's name of a dense partition number.
#[must_use]
pub fn partition_of(index: u16) -> Partition {
    Partition { topic: u32::from(index / SLOTS_PER_TOPIC), number: i32::from(index % SLOTS_PER_TOPIC) }
}

/// The dense number of a partition.
#[must_use]
pub fn index_of(partition: Partition) -> u16 {
    partition.topic as u16 * SLOTS_PER_TOPIC + partition.number as u16
}

/// How the handler treats a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// Done at once.
    Done,
    /// Filtered out.
    Skip,
    /// Fails this many times, then done; with a delay of its own if there is one.
    Retry {
        /// How many times.
        times: u32,
        /// The handler's own delay in milliseconds.
        delay_ms: Option<u64>,
    },
    /// Reports an outage this many times, then done.
    Outage(u32),
    /// Answers `dead-letter`.
    DeadLetter,
    /// Fails for ever.
    Fails,
    /// Traps in its first runs (`u32::MAX`: always).
    Trap(u32),
    /// Never returns.
    Hangs,
    /// Makes the handler answer with a wrong number of outcomes in its first runs.
    WrongCount(u32),
    /// Stages more than the limits allow.
    Oversized,
    /// Done, but the call takes this many milliseconds.
    Slow(u64),
}

/// A record of an input partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rec {
    /// Dense number of its partition.
    pub partition: u16,
    /// Its offset there.
    pub offset: i64,
    /// `None` is null.
    pub key: Option<[u8; 4]>,
    /// Value of the header `id`.
    pub id: Option<[u8; 4]>,
    /// Value of the header `order`.
    pub order: Option<[u8; 4]>,
    /// The value: what the producer meant, equal for its duplicates.
    pub content: [u8; 4],
    /// Milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// Bytes it holds.
    pub size: u32,
    /// What the handler will do.
    pub plan: Plan,
    /// To which output partitions it sends, in order.
    pub outputs: Outputs,
    /// The broker never takes what it sends, nor its dead letter with all headers.
    pub too_large: bool,
    /// What it does with its key's state, where handlers have any.
    pub state: Use,
    /// What it does with timers, the same.
    pub timer: Option<Wish>,
    /// What it sends later, the same.
    pub later: Option<Later>,
    /// It is the timer of this name itself; its offset is then its number.
    pub fired: Option<u8>,
}

/// A record that a message sends with a delay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Later {
    /// To which output partition.
    pub place: u8,
    /// The delay.
    pub in_ms: u32,
}

impl Later {
    /// Most are due soon, and many at the same time.
    pub fn draw(rng: &mut Rng) -> Self {
        let in_ms = if rng.percent(70) { rng.within(1, 300) } else { rng.within(300, 4_000) };
        Self { place: rng.below(4) as u8, in_ms: in_ms as u32 / 20 * 20 + 1 }
    }
}

/// What a message wants of a timer of its key; names are those of [`TIMERS`](crate::touch::TIMERS).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// It comes so many milliseconds later.
    Set(u8, u32),
    /// It does not come.
    Cancel(u8),
}

impl Wish {
    /// Most set one.
    pub fn draw(rng: &mut Rng) -> Self {
        let name = rng.index(TIMERS.len()) as u8;
        match rng.below(10) {
            0..=1 => Self::Cancel(name),
            2..=3 => Self::Set(name, 0),
            4..=7 => Self::Set(name, rng.within(1, 400) as u32),
            _ => Self::Set(name, rng.within(400, 4_000) as u32),
        }
    }
}

/// At most three output partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Outputs {
    places: [u8; 3],
    len: u8,
}

impl Outputs {
    /// These places; what is past the third is left out.
    #[must_use]
    pub fn to(places: &[u8]) -> Self {
        let mut outputs = Self::default();
        for place in places.iter().take(3) {
            outputs.places[usize::from(outputs.len)] = *place;
            outputs.len += 1;
        }
        outputs
    }

    /// The places in order.
    #[must_use]
    pub fn places(&self) -> &[u8] {
        &self.places[..usize::from(self.len)]
    }
}

impl Rec {
    /// A message that is done at once and sends one output.
    #[must_use]
    pub fn new(partition: u16, key: Option<u32>, content: u32) -> Self {
        Self {
            partition,
            offset: -1,
            key: key.map(u32::to_be_bytes),
            id: None,
            order: None,
            content: content.to_be_bytes(),
            timestamp_ms: 0,
            size: 100,
            plan: Plan::Done,
            outputs: Outputs::to(&[(key.unwrap_or(content) % 2) as u8]),
            too_large: false,
            state: Use::COUNT,
            timer: None,
            later: None,
            fired: None,
        }
    }

    /// The same message with an id.
    #[must_use]
    pub fn with_id(mut self, id: u32) -> Self {
        self.id = Some(id.to_be_bytes());
        self
    }

    /// The same message with another plan.
    #[must_use]
    pub fn with_plan(mut self, plan: Plan) -> Self {
        self.plan = plan;
        self
    }

    /// The same message with another use of its key's state.
    #[must_use]
    pub fn with_state(mut self, state: Use) -> Self {
        self.state = state;
        self
    }

    /// The same message with a wish for a timer.
    #[must_use]
    pub fn with_timer(mut self, wish: Wish) -> Self {
        self.timer = Some(wish);
        self
    }

    /// The same message with something that it sends later.
    #[must_use]
    pub fn with_later(mut self, later: Later) -> Self {
        self.later = Some(later);
        self
    }

    /// The same message with other outputs.
    #[must_use]
    pub fn with_outputs(mut self, places: &[u8]) -> Self {
        self.outputs = Outputs::to(places);
        self
    }
}

/// Draws what the handler does with a message; most are harmless.
#[must_use]
pub fn draw_plan(rng: &mut Rng, attempts: u32) -> Plan {
    match rng.below(200) {
        0..=9 => Plan::Skip,
        10..=21 => Plan::Retry { times: 1 + rng.below(u64::from(attempts.max(2) - 1)) as u32, delay_ms: None },
        22..=25 => Plan::Retry { times: 1, delay_ms: Some(rng.within(0, 1_500)) },
        26..=29 => Plan::Outage(1 + rng.below(5) as u32),
        30..=33 => Plan::DeadLetter,
        34..=36 => Plan::Fails,
        37 => Plan::Trap(u32::MAX),
        38..=39 => Plan::Trap(1 + rng.below(3) as u32),
        40 => Plan::Hangs,
        41..=42 => Plan::WrongCount(1 + rng.below(2) as u32),
        43 => Plan::Oversized,
        44..=45 => Plan::Slow(rng.within(50, 1_000)),
        _ => Plan::Done,
    }
}

/// The order of a draw matters little, so one byte decides how many outputs there are and where they go.
#[must_use]
pub fn draw_outputs(rng: &mut Rng, key: Option<u32>) -> Outputs {
    let own = |topic: u8, rng: &mut Rng| topic * 2 + key.map_or_else(|| rng.below(2) as u8, |k| (k % 2) as u8);
    match rng.below(20) {
        0..=1 => Outputs::default(),
        2..=4 => Outputs::to(&[own(0, rng), own(1, rng)]),
        5 => Outputs::to(&[own(1, rng), own(0, rng), own(1, rng)]),
        6..=8 => Outputs::to(&[own(1, rng)]),
        _ => Outputs::to(&[own(0, rng)]),
    }
}

/// What travels through the engine: the record, and the memory it holds until it is dropped.
#[derive(Debug)]
pub struct Payload {
    /// The record.
    pub rec: Rc<Rec>,
    held: Rc<Cell<u64>>,
}

impl Payload {
    /// Takes the record's bytes from the worker's budget until it is dropped.
    #[must_use]
    pub fn new(rec: Rc<Rec>, held: &Rc<Cell<u64>>) -> Self {
        held.set(held.get() + u64::from(rec.size));
        Self { rec, held: Rc::clone(held) }
    }
}

impl Drop for Payload {
    fn drop(&mut self) {
        self.held.set(self.held.get() - u64::from(self.rec.size));
    }
}

impl Message for Rec {
    fn key(&self) -> Option<&[u8]> {
        self.key.as_ref().map(<[u8; 4]>::as_slice)
    }

    fn value(&self) -> Option<&[u8]> {
        Some(&self.content)
    }

    fn header(&self, name: &[u8]) -> Option<Option<&[u8]>> {
        let value = if name == ID_HEADER.as_bytes() {
            &self.id
        } else if name == ORDER_HEADER.as_bytes() {
            &self.order
        } else {
            return None;
        };
        value.as_ref().map(|bytes| Some(bytes.as_slice()))
    }

    fn for_each_header(&self, each: EachHeader<'_>) {
        for (name, value) in [(ID_HEADER, &self.id), (ORDER_HEADER, &self.order)] {
            if let Some(bytes) = value {
                each(name.as_bytes(), Some(bytes));
            }
        }
    }

    fn timestamp_ms(&self) -> i64 {
        self.timestamp_ms
    }

    fn size(&self) -> usize {
        self.size as usize
    }
}
