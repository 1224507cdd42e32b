//! Kafka's frames, as far as a proxy must know them to meddle with one kind of request.
//!
//! A request is its length (i32), ApiKey (i16), version (i16), correlation id (i32) and a body; an answer is its length,
//! the correlation id and a body. Only connections without TLS can be looked into.

use std::collections::BTreeMap;
use std::time::Duration;

/// The kinds of request that a test may want to meddle with.
pub mod api {
    /// Records.
    pub const PRODUCE: i16 = 0;
    /// What a group has committed.
    pub const OFFSET_FETCH: i16 = 9;
    /// Who coordinates a group or a transactional id is looked up.
    pub const FIND_COORDINATOR: i16 = 10;
    /// A transactional id is taken over.
    pub const INIT_PRODUCER_ID: i16 = 22;
    /// A partition becomes part of a transaction.
    pub const ADD_PARTITIONS_TO_TXN: i16 = 24;
    /// A group becomes part of a transaction.
    pub const ADD_OFFSETS_TO_TXN: i16 = 25;
    /// A transaction is committed or aborted.
    pub const END_TXN: i16 = 26;
    /// Offsets of a transaction.
    pub const TXN_OFFSET_COMMIT: i16 = 28;
}

/// What becomes of a request. But for the last, the broker gets it at once and acts on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Its answer never comes; the connection stays.
    Mute,
    /// In place of its answer the connection breaks.
    Cut,
    /// Its answer comes this much later, and so does all behind it.
    Slow(Duration),
    /// Its connection breaks at once, and the broker gets it this much later all the same: it was stuck on its way.
    Late(Duration),
}

/// Longer frames are none: the stream is not Kafka's.
const MOST: usize = 256 << 20;
const LENGTH: usize = 4;
/// Up to the end of the correlation id.
const REQUEST_HEAD: usize = 12;
const ANSWER_HEAD: usize = 8;

/// A stream cut into frames. Bytes that can't be Kafka's go through as they come.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    bytes: Vec<u8>,
    foreign: bool,
}

impl Frames {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole frame, with its length before it.
    pub(crate) fn next(&mut self) -> Option<Vec<u8>> {
        if !self.foreign {
            let length = number(&self.bytes, 0)?;
            match usize::try_from(length) {
                Ok(length @ LENGTH..=MOST) => {
                    let end = LENGTH + length;
                    return (self.bytes.len() >= end).then(|| self.bytes.drain(..end).collect());
                }
                _ => self.foreign = true,
            }
        }
        (!self.bytes.is_empty()).then(|| std::mem::take(&mut self.bytes))
    }
}

fn number(bytes: &[u8], at: usize) -> Option<i32> {
    Some(i32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// ApiKey and correlation id of a request.
pub(crate) fn request(frame: &[u8]) -> Option<(i16, i32)> {
    let head = frame.get(..REQUEST_HEAD)?;
    Some((i16::from_be_bytes([head[4], head[5]]), number(head, 8)?))
}

/// The correlation id of an answer.
pub(crate) fn answer(frame: &[u8]) -> Option<i32> {
    number(frame.get(..ANSWER_HEAD)?, 4)
}

/// Which requests are meddled with, and how many there were.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    rules: BTreeMap<i16, (Fault, u32)>,
    seen: BTreeMap<i16, u64>,
    met: BTreeMap<i16, u64>,
}

impl Rules {
    /// The next `times` requests of this kind meet this fault; of earlier calls for the kind nothing is left.
    pub(crate) fn set(&mut self, key: i16, fault: Fault, times: u32) {
        self.rules.insert(key, (fault, times));
    }

    pub(crate) fn clear(&mut self) {
        self.rules.clear();
    }

    /// A request comes by.
    pub(crate) fn meet(&mut self, key: i16) -> Option<Fault> {
        *self.seen.entry(key).or_default() += 1;
        let (fault, times) = self.rules.get_mut(&key).filter(|(_, times)| *times > 0)?;
        *times -= 1;
        *self.met.entry(key).or_default() += 1;
        Some(*fault)
    }

    pub(crate) fn seen(&self, key: i16) -> u64 {
        self.seen.get(&key).copied().unwrap_or(0)
    }

    pub(crate) fn met(&self, key: i16) -> u64 {
        self.met.get(&key).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(body: &[u8]) -> Vec<u8> {
        [&(body.len() as u32).to_be_bytes()[..], body].concat()
    }

    #[test]
    fn a_stream_is_cut_into_frames_however_it_comes() {
        let all = [frame(b"first of all"), frame(b"2nd one"), frame(&[7; 1000])];
        for piece in [1, 3, 17, 5000] {
            let (mut frames, mut found) = (Frames::default(), Vec::new());
            for bytes in all.concat().chunks(piece) {
                frames.push(bytes);
                found.extend(std::iter::from_fn(|| frames.next()));
            }
            assert_eq!(found, all, "{piece}");
        }
    }

    #[test]
    fn what_is_not_kafkas_goes_through() {
        let mut frames = Frames::default();
        frames.push(b"GET / HTTP");
        assert_eq!(frames.next().as_deref(), Some(&b"GET / HTTP"[..]));
        frames.push(b"\0");
        assert_eq!((frames.next().as_deref(), frames.next()), (Some(&b"\0"[..]), None));
    }

    #[test]
    fn heads_are_read_and_rules_are_used_up() {
        let request_frame = frame(&[0, 26, 0, 1, 0, 0, 1, 2, 0, 0]);
        assert_eq!(request(&request_frame), Some((26, 258)));
        assert_eq!(answer(&frame(&[0, 0, 1, 2])), Some(258));
        assert_eq!((request(&frame(&[0, 26])), answer(&[0, 0])), (None, None));
        let mut rules = Rules::default();
        rules.set(26, Fault::Cut, 2);
        let met: Vec<_> = [26, 25, 26, 26].map(|key| rules.meet(key)).into();
        assert_eq!(met, [Some(Fault::Cut), None, Some(Fault::Cut), None]);
        assert_eq!((rules.seen(26), rules.met(26), rules.seen(25), rules.met(25)), (3, 2, 1, 0));
        rules.set(26, Fault::Mute, 1);
        rules.clear();
        assert_eq!(rules.meet(26), None);
    }
}
