//! What must hold for any bytes that come from outside, as functions of bytes. `tests/fuzz` hands them what libFuzzer makes
//! up; a plain test hands them what a seed makes of the same first inputs.

use crate::delays::{self, Delayed};
use crate::message::MessageId;
use crate::metadata::{Kept, MAX_TEXT_BYTES, Metadata, fits, seal};
use crate::order::OrderKey;
use crate::ranges::Ranges;
use crate::seen::{self, Seen};
use crate::state::schema::is_mark;
use crate::state::{self, Entry, Key, Kind, MAX_OWNER, Owner};
use crate::timers::{self, Timer};
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Its name, as `cargo xtask fuzz NAME` takes it; what panics where something does not hold; and inputs to begin with.
pub type Target = (&'static str, fn(&[u8]), fn() -> Vec<Vec<u8>>);

/// All of this crate.
pub const TARGETS: [Target; 6] = [
    ("gap-map", gap_map, gap_map_seeds),
    ("gap-map-write", gap_map_write, gap_map_write_seeds),
    ("seen", seen_record, seen_seeds),
    ("seen-write", seen_write, seen_seeds),
    ("state", state_record, state_seeds),
    ("state-write", state_write, state_write_seeds),
];

/// Takes numbers off the front of an input; what is not there is 0.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn number(&mut self, bytes: usize) -> u64 {
        let (taken, rest) = self.0.split_at(bytes.min(self.0.len()));
        self.0 = rest;
        taken.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }
}

/// The text of a commit, which any tool may have written: one byte that says whether the rest is the text, or what stands in
/// a text whose check sum is right; the committed offset; how far the log goes on from there; the rest.
fn gap_map(input: &[u8]) {
    let mut input = Input(input);
    let sealed = input.number(1) & 1 == 1;
    // No broker has an offset below 0.
    let offset = (input.number(8) >> 1) as i64;
    let end = offset.saturating_add((input.number(8) >> 1) as i64);
    let text = match core::str::from_utf8(input.0) {
        _ if sealed => seal(input.0.to_vec()),
        Ok(text) => text.to_string(),
        Err(_) => return,
    };
    let Ok(read) = Metadata::decode(&text, offset, end) else { return };
    let mut at = offset;
    for (start, stop) in read.settled.iter() {
        assert!(at < start && start < stop && stop <= end, "{at} {start} {stop} {end}");
        assert!(read.settled.contains(start) && read.settled.contains(stop - 1) && !read.settled.contains(start - 1));
        at = stop;
    }
    survives(&read, offset);
}

/// A map that the ledger could hold: 58 bytes of what stands before it, then gaps and runs in turn, each as its width and
/// as many bytes.
fn gap_map_write(input: &[u8]) {
    let mut input = Input(input);
    let offset = (input.number(8) >> 1) as i64;
    let sequence = input.number(8);
    let partitions = input.number(4) as u32;
    let log = input.number(8);
    let held = (input.number(1) & 1 == 1).then(|| input.number(4) as u32);
    let (flags, inbox_at) = (input.number(1), (input.number(8) >> 1) as i64);
    let (parked, breaker) = (flags & 1 == 1, flags & 2 == 2);
    let inbox_done = input.number(8);
    let [seen, state, retry, order, inbox] = core::array::from_fn(|_| input.number(4) as u32);
    let kept = Kept { parked, breaker, seen, state, retry, order, inbox, inbox_at, inbox_done };
    let mut settled = Ranges::new();
    let mut at = offset;
    while !input.0.is_empty() {
        let [gap, run] = core::array::from_fn(|_| {
            let width = 1 + input.number(1) as usize % 8;
            (input.number(width) >> 1).max(1) as i64
        });
        let Some((start, end)) = at.checked_add(gap).and_then(|start| Some((start, start.checked_add(run)?))) else {
            break;
        };
        settled.push(start, end);
        at = end;
    }
    survives(&Metadata { sequence, partitions, held, log, kept, settled }, offset);
}

/// What is written is read: all of it where it fits, else the lower part of the map.
fn survives(metadata: &Metadata, offset: i64) {
    let text = metadata.encode(offset);
    assert!(text.len() <= MAX_TEXT_BYTES, "{} bytes", text.len());
    let read = Metadata::decode(&text, offset, i64::MAX);
    let last = metadata.settled.iter().last().map_or(offset, |(_, end)| end);
    match read {
        Ok(read) if fits(metadata.settled.len(), last.abs_diff(offset)) => assert_eq!(read, *metadata),
        Ok(read) => {
            assert!(read.settled.iter().eq(metadata.settled.iter().take(read.settled.len())), "not the lower part");
            let whole = Metadata { settled: metadata.settled.clone(), ..read };
            assert_eq!(whole, *metadata);
        }
        Err(why) => unreachable!("{why:?}: {text}"),
    }
}

fn gap_map_seeds() -> Vec<Vec<u8>> {
    let maps: [&[(i64, i64)]; 4] = [&[], &[(8, 9)], &[(8, 9), (10, 12), (500, 501)], &[(40_000, 5_000_000_000)]];
    let mut seeds = Vec::new();
    for (n, map) in maps.into_iter().enumerate() {
        let mut settled = Ranges::new();
        map.iter().for_each(|(start, end)| settled.push(*start, *end));
        let held = (n > 1).then_some(1_000);
        let text = Metadata { sequence: 300, partitions: 12, held, log: u64::MAX - 7, kept: Kept::default(), settled }
            .encode(7);
        let head = |sealed: u8| [&[sealed][..], &14_u64.to_le_bytes(), &u64::MAX.to_le_bytes()].concat();
        seeds.push([&head(0), text.as_bytes()].concat());
        seeds.push([&head(1)[..], &[1, 12, 0, 5, 1, 2, 3, 0x80, 1][..5 + n]].concat());
    }
    seeds
}

fn gap_map_write_seeds() -> Vec<Vec<u8>> {
    let head = [[5_u8; 16], [1; 16]].concat();
    let short: Vec<u8> = (0..400_u16).flat_map(|n| [0, n as u8, 1, 9, 0]).collect();
    let wide: Vec<u8> = (0..300_u16).flat_map(|n| [4, n as u8, 7, 7, 7, 1, 0, 5, 2, 9, 9, 9]).collect();
    [&[][..], &[0, 2, 0, 4], &[7, 0, 0, 0, 0, 0, 0, 0, 0xff], &short, &wide].map(|map| [&head, map].concat()).into()
}

/// A record of a topic of seen ids, which anybody may have written: it is refused, or means exactly its bytes.
fn seen_record(input: &[u8]) {
    if let Ok(seen) = Seen::decode(input) {
        let ids: Vec<MessageId> = seen.ids().collect();
        assert_eq!(seen::encode(seen.time_ms, &ids), input);
    }
}

/// Any ids.
fn seen_write(input: &[u8]) {
    let mut rest = Input(input);
    let time_ms = rest.number(8) as i64;
    let ids: Vec<MessageId> = rest.0.as_chunks::<16>().0.iter().map(|id| MessageId(*id)).collect();
    let value = seen::encode(time_ms, &ids);
    let read = Seen::decode(&value).map(|seen| (seen.time_ms, seen.ids().collect()));
    assert_eq!(read, Ok((time_ms, ids)));
}

fn seen_seeds() -> Vec<Vec<u8>> {
    let ids = |count: u8| (0..count).map(|n| MessageId([n; 16])).collect::<Vec<_>>();
    [(0, 0), (1_700_000_000_000, 1), (-1, 3), (i64::MAX, 40)]
        .map(|(time, count)| seen::encode(time, &ids(count)))
        .into()
}

/// Key and value of a record of a topic of state, which anybody may have written: each is refused, or means exactly its
/// bytes. Two bytes tell how long the key is.
fn state_record(input: &[u8]) {
    let mut input = Input(input);
    let length = input.number(2) as usize;
    let (key, value) = input.0.split_at(length.min(input.0.len()));
    if let Ok(read) = Key::decode(key) {
        // No order key that is written is as long as the longest that can be read.
        if read.owner.is_none_or(|owner| owner.len() <= MAX_OWNER) {
            let owner = owner(read.owner);
            let owner = match read.kind {
                Kind::State => owner,
                Kind::Timer => timers::owner(&owner),
                Kind::Delayed => delays::owner(),
                Kind::Schema => {
                    assert!(is_mark(key) && read.name.as_bytes() == &key[1..]);
                    return state_value(value);
                }
            };
            assert_eq!(owner.key(read.name), key);
        }
    }
    state_value(value);
}

fn state_value(value: &[u8]) {
    if let Ok(timer) = Timer::decode(value) {
        assert_eq!(timer.encode(), value);
    }
    if let Ok(delayed) = Delayed::decode(value) {
        assert_eq!(delayed.encode(), value);
    }
    if let Ok(entry) = state::decode(value) {
        assert_eq!(state::encode(&entry), value);
        assert_eq!(entry.lives(i64::MIN), entry.expires_ms != Some(i64::MIN));
    }
}

/// Any owner, any name, any value: a bit each for whether there is an order key and an end, the end, the lengths of order key
/// and name, and what is in them. What is written is read, and stands where all of its owner's stands.
fn state_write(input: &[u8]) {
    let mut input = Input(input);
    let kinds = input.number(1);
    let expires_ms = Some(input.number(8) as i64).filter(|_| kinds & 1 == 1);
    let lengths = [input.number(2) as usize, input.number(2) as usize];
    let (order_key, rest) = input.0.split_at(lengths[0].min(MAX_OWNER).min(input.0.len()));
    let (name, value) = rest.split_at(lengths[1].min(rest.len()));
    let Ok(name) = core::str::from_utf8(name) else { return };
    let order_key = (kinds & 2 == 2).then_some(order_key);
    let owner = owner(order_key);
    let key = owner.key(name);
    assert_eq!(Key::decode(&key), Ok(Key { owner: order_key, name, kind: Kind::State }));
    assert!(key.starts_with(owner.prefix()));
    let entry = Entry { value: Arc::from(value), expires_ms };
    assert_eq!(state::decode(&state::encode(&entry)), Ok(entry));
}

fn owner(order_key: Option<&[u8]>) -> Owner {
    let key = order_key.map_or(OrderKey::Partition, OrderKey::Key);
    Owner::of(key).unwrap_or_else(|why| unreachable!("{why:?}"))
}

fn state_seeds() -> Vec<Vec<u8>> {
    let entry = |value: &[u8], expires_ms| state::encode(&Entry { value: Arc::from(value), expires_ms });
    [
        (owner(Some(b"anna")).key("total"), entry(b"12", None)),
        (owner(Some(b"")).key(""), entry(b"", Some(1_700_000_000_000))),
        (owner(None).key("all"), Vec::new()),
        (owner(Some(&[7; 300])).key("\u{e4}"), entry(&[0; 40], Some(-1))),
    ]
    .map(|(key, value)| [&(key.len() as u16).to_le_bytes()[..], &key, &value].concat())
    .into()
}

fn state_write_seeds() -> Vec<Vec<u8>> {
    let head = |kinds: u8, key: u16, name: u16| {
        [&[kinds][..], &9_u64.to_le_bytes(), &key.to_le_bytes(), &name.to_le_bytes()].concat()
    };
    [(0, 0, 0), (3, 4, 5), (2, 0, 3), (1, 2, 1)]
        .map(|(kinds, key, name)| [&head(kinds, key, name)[..], b"annatotal and what it is"].concat())
        .into()
}

#[cfg(test)]
mod tests;
