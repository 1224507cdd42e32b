//! What the tests of several modules share.

use crate::message::{EachHeader, Message, Partition};
use crate::ranges::Ranges;
use crate::retry::split_mix;
use alloc::vec::Vec;

/// Partition 0 of topic 0.
pub(crate) const P0: Partition = Partition { topic: 0, number: 0 };
/// Partition 1 of topic 0.
pub(crate) const P1: Partition = Partition { topic: 0, number: 1 };

/// A record of static parts.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Msg {
    pub(crate) key: Option<&'static [u8]>,
    pub(crate) value: Option<&'static [u8]>,
    pub(crate) headers: &'static [(&'static [u8], Option<&'static [u8]>)],
    pub(crate) timestamp_ms: i64,
    pub(crate) size: usize,
}

impl Msg {
    /// A record with this key and nothing else.
    pub(crate) fn keyed(key: &'static str) -> Self {
        Self { key: Some(key.as_bytes()), ..Self::default() }
    }
}

impl Message for Msg {
    fn key(&self) -> Option<&[u8]> {
        self.key
    }

    fn value(&self) -> Option<&[u8]> {
        self.value
    }

    fn header(&self, name: &[u8]) -> Option<Option<&[u8]>> {
        self.headers.iter().rev().find(|h| h.0 == name).map(|h| h.1)
    }

    fn for_each_header(&self, each: EachHeader<'_>) {
        for (name, value) in self.headers {
            each(name, *value);
        }
    }

    fn timestamp_ms(&self) -> i64 {
        self.timestamp_ms
    }

    fn size(&self) -> usize {
        self.size
    }
}

/// These half-open ranges.
pub(crate) fn ranges(list: &[(i64, i64)]) -> Ranges {
    let mut all = Ranges::new();
    for &(start, end) in list {
        all.push(start, end);
    }
    all
}

/// Repeatable chance: numbers below `below`.
#[derive(Debug)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, below: u64) -> u64 {
        split_mix(&mut self.0) % below
    }

    /// Random disjoint ranges above `from`, `count` of them, with runs up to `longest`.
    pub(crate) fn ranges(&mut self, from: i64, count: u64, longest: u64) -> Ranges {
        let mut list = Vec::new();
        let mut at = from;
        for _ in 0..count {
            let start = at + 1 + self.roll(longest) as i64;
            let end = start + 1 + self.roll(longest) as i64;
            list.push((start, end));
            at = end;
        }
        ranges(&list)
    }
}
