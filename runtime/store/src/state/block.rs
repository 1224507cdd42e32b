//! A block: the entries of a task within a range of keys, in order, with a checksum over all of it.
//!
//! The ranges of a tree's blocks follow each other without a gap, and each block names its own. So whoever finds nothing in
//! the block that a key belongs to knows that there is nothing: a damaged index above leads to a block that does not fit, and
//! never to a wrong answer.

use std::ops::Range;

/// A block of small entries takes no more, so that it fits into a page of the database with what the database adds to it.
const MOST_BYTES: usize = 4_040;
/// What a block holds beside its rows and its ends.
const OTHER_BYTES: usize = 20;
/// One with fewer takes in its neighbour.
pub(super) const LEAST_BYTES: usize = 1_000;
/// How full blocks are made when there are many at once.
const FILLED_BYTES: usize = MOST_BYTES - MOST_BYTES / 10;

/// An entry as it lies in a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row<'a> {
    pub(super) key: &'a [u8],
    pub(super) value: &'a [u8],
    pub(super) expires_ms: Option<i64>,
}

/// A block that is what it should be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Block<'a> {
    pub(super) low: &'a [u8],
    /// The low end of the next one. `None`: there is none.
    pub(super) high: Option<&'a [u8]>,
    rows: &'a [u8],
}

impl<'a> Block<'a> {
    /// Reads the block of `tree` that `key` belongs to, or says what is wrong with it.
    pub(super) fn open(bytes: &'a [u8], tree: i64, key: &[u8]) -> Result<Self, String> {
        let block = bytes.split_first_chunk::<4>().filter(|(crc, body)| crc32fast::hash(body).to_le_bytes() == **crc);
        let block = block.and_then(|(_, body)| Self::decode(body)).ok_or("a block's checksum does not fit")?;
        let (of, block) = block;
        if of != tree || key < block.low || block.high.is_some_and(|high| key >= high) {
            return Err("a block is not where its checksum says that it belongs".to_owned());
        }
        Ok(block)
    }

    fn decode(mut body: &'a [u8]) -> Option<(i64, Self)> {
        let rest = &mut body;
        let (tree, left) = rest.split_first_chunk::<8>()?;
        *rest = left;
        let low = bytes(rest)?;
        let (is_last, left) = rest.split_first()?;
        *rest = left;
        let high = if *is_last == 0 { Some(bytes(rest)?) } else { None };
        Some((i64::from_le_bytes(*tree), Self { low, high, rows: body }))
    }

    pub(super) fn rows(&self) -> Rows<'a> {
        Rows { rest: self.rows }
    }

    pub(super) fn find(&self, key: &[u8]) -> Result<Option<Row<'a>>, String> {
        let mut rows = self.rows();
        while let Some((row, _)) = rows.next()? {
            if row.key >= key {
                return Ok((row.key == key).then_some(row));
            }
        }
        Ok(None)
    }
}

/// The rows of a block, in order.
pub(super) struct Rows<'a> {
    rest: &'a [u8],
}

impl<'a> Rows<'a> {
    /// The next row and the bytes that it is.
    pub(super) fn next(&mut self) -> Result<Option<(Row<'a>, &'a [u8])>, String> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let before = self.rest;
        let row = row(&mut self.rest).ok_or("a block has a checksum that fits and rows that do not")?;
        let taken = before.len() - self.rest.len();
        Ok(Some((row, before.get(..taken).unwrap_or_default())))
    }
}

fn row<'a>(rest: &mut &'a [u8]) -> Option<Row<'a>> {
    let key = bytes(rest)?;
    let head = number(rest)?;
    let expires_ms = if head & 1 == 1 {
        let (at, left) = rest.split_first_chunk::<8>()?;
        *rest = left;
        Some(i64::from_le_bytes(*at))
    } else {
        None
    };
    let (value, left) = rest.split_at_checked(usize::try_from(head >> 1).ok()?)?;
    *rest = left;
    Some(Row { key, value, expires_ms })
}

fn bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = usize::try_from(number(rest)?).ok()?;
    let (bytes, left) = rest.split_at_checked(len)?;
    *rest = left;
    Some(bytes)
}

/// Seven bits a byte, the lowest first.
fn number(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, left) = rest.split_first()?;
        *rest = left;
        number |= u64::from(byte & 0x7f) << shift;
        if *byte < 0x80 {
            return Some(number);
        }
    }
    None
}

fn push_number(to: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        to.push(number as u8 | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
}

fn push_bytes(to: &mut Vec<u8>, bytes: &[u8]) {
    push_number(to, bytes.len() as u64);
    to.extend_from_slice(bytes);
}

/// Rows to be written, in order.
#[derive(Debug, Default)]
pub(super) struct Written {
    bytes: Vec<u8>,
    starts: Vec<usize>,
}

impl Written {
    pub(super) fn push(&mut self, row: &Row<'_>) {
        self.starts.push(self.bytes.len());
        push_bytes(&mut self.bytes, row.key);
        push_number(&mut self.bytes, (row.value.len() as u64) << 1 | u64::from(row.expires_ms.is_some()));
        self.bytes.extend(row.expires_ms.iter().flat_map(|at| at.to_le_bytes()));
        self.bytes.extend_from_slice(row.value);
    }

    /// A row as it was read.
    pub(super) fn push_as_read(&mut self, row: &[u8]) {
        self.starts.push(self.bytes.len());
        self.bytes.extend_from_slice(row);
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The blocks that these rows are from now on, each with its low end.
    pub(super) fn blocks(&self, tree: i64, low: &[u8], high: Option<&[u8]>) -> Vec<(Vec<u8>, Vec<u8>)> {
        // Its own ends and numbers beside the rows.
        let ends = low.len() + high.map_or(0, <[u8]>::len);
        let parts = self.parts(MOST_BYTES.saturating_sub(OTHER_BYTES + ends));
        let mut lows = vec![low.to_vec()];
        for pair in parts.windows(2) {
            let [before, after] = pair else { continue };
            let last = self.key(before.end.saturating_sub(1));
            lows.push(between(last, self.key(after.start)).to_vec());
        }
        let highs = lows.iter().skip(1).map(|next| Some(next.as_slice())).chain([high]);
        let encoded = parts.iter().zip(&lows).zip(highs).map(|((part, low), high)| self.encode(tree, low, high, part));
        let encoded: Vec<_> = encoded.collect();
        lows.into_iter().zip(encoded).collect()
    }

    /// Which rows go together: at least one part, none without rows but of none at all.
    fn parts(&self, most_bytes: usize) -> Vec<Range<usize>> {
        let all = self.bytes.len();
        let most = match all.div_ceil(most_bytes.max(1)) {
            0 | 1 => all,
            // Halves, so that both have room.
            2 => all.div_ceil(2) + 1,
            _ => FILLED_BYTES,
        };
        let (mut parts, mut first, mut from) = (Vec::new(), 0, 0);
        for (n, start) in self.starts.iter().enumerate() {
            let end = self.starts.get(n + 1).copied().unwrap_or(all);
            if end - from > most && n > first {
                parts.push(first..n);
                (first, from) = (n, *start);
            }
        }
        parts.push(first..self.starts.len());
        parts
    }

    fn key(&self, n: usize) -> &[u8] {
        let rest = self.starts.get(n).and_then(|start| self.bytes.get(*start..));
        rest.and_then(|mut rest| bytes(&mut rest)).unwrap_or_default()
    }

    fn encode(&self, tree: i64, low: &[u8], high: Option<&[u8]>, part: &Range<usize>) -> Vec<u8> {
        let at = |n: usize| self.starts.get(n).copied().unwrap_or(self.bytes.len());
        let rows = self.bytes.get(at(part.start)..at(part.end)).unwrap_or_default();
        let mut block = vec![0; 4];
        block.extend_from_slice(&tree.to_le_bytes());
        push_bytes(&mut block, low);
        block.push(u8::from(high.is_none()));
        if let Some(high) = high {
            push_bytes(&mut block, high);
        }
        block.extend_from_slice(rows);
        let crc = block.get(4..).map_or(0, crc32fast::hash);
        block.splice(..4, crc.to_le_bytes());
        block
    }
}

/// The shortest key that is greater than `a` and not greater than `b`, which is greater than `a`.
fn between<'b>(a: &[u8], b: &'b [u8]) -> &'b [u8] {
    let same = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    b.get(..=same).unwrap_or(b)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]
    use super::*;
    use crate::chance::Chance;

    #[test]
    fn the_key_between_is_greater_than_the_one_and_not_than_the_other() {
        for (a, b, is) in
            [("a", "b", "b"), ("abc", "abde", "abd"), ("a", "ab", "ab"), ("", "xyz", "x"), ("ab", "abc", "abc")]
        {
            assert_eq!(between(a.as_bytes(), b.as_bytes()), is.as_bytes());
        }
    }

    #[test]
    fn blocks_hold_their_rows_and_follow_each_other_without_a_gap() {
        let mut chance = Chance::new(8);
        for round in 0..200 {
            let (mut written, mut all) = (Written::default(), std::collections::BTreeMap::new());
            for _ in 0..chance.below(400) {
                let bytes = if chance.below(50) == 0 { 9_000 } else { chance.below(40) };
                let key = vec![chance.below(4) as u8; chance.below(300) as usize];
                let expires_ms = (chance.below(2) == 0).then(|| chance.next() as i64);
                all.insert(key, (vec![chance.next() as u8; bytes as usize], expires_ms));
            }
            let row = |(key, (value, expires_ms)): (&'_ Vec<u8>, &'_ (Vec<u8>, Option<i64>))| {
                (key.clone(), value.clone(), *expires_ms)
            };
            for (key, (value, expires_ms)) in &all {
                written.push(&Row { key, value, expires_ms: *expires_ms });
            }
            let blocks = written.blocks(7, b"", None);
            let (mut next, mut found) = (Some(vec![]), Vec::new());
            for (low, bytes) in &blocks {
                assert_eq!(next.as_ref(), Some(low), "round {round}");
                let block = Block::open(bytes, 7, low).unwrap();
                assert_eq!(block.low, low);
                next = block.high.map(<[u8]>::to_vec);
                let mut rows = block.rows();
                let before = found.len();
                while let Some((row, _)) = rows.next().unwrap() {
                    assert!(row.key >= low && next.as_ref().is_none_or(|next| row.key < next), "round {round}");
                    assert_eq!(block.find(row.key).unwrap(), Some(row));
                    found.push((row.key.to_vec(), row.value.to_vec(), row.expires_ms));
                }
                assert!(
                    bytes.len() <= MOST_BYTES + 600 || found.len() - before <= 20,
                    "round {round}: {}",
                    bytes.len()
                );
                assert!(
                    Block::open(bytes, 8, low).is_err() && Block::open(bytes, 7, &[4; 400]).is_ok() == next.is_none()
                );
            }
            assert_eq!(next, None);
            assert_eq!(found, all.iter().map(row).collect::<Vec<_>>(), "round {round}");
        }
    }

    #[test]
    fn a_block_with_a_bit_flipped_or_cut_is_refused() {
        let mut written = Written::default();
        (0..20u8).for_each(|n| written.push(&Row { key: &[n], value: &[n; 9], expires_ms: Some(3) }));
        let (_, block) = written.blocks(7, b"", Some(&[40])).pop().unwrap();
        assert!(Block::open(&block, 7, &[39]).is_ok() && Block::open(&block, 7, &[40]).is_err());
        for at in 0..block.len() * 8 {
            let mut flipped = block.clone();
            flipped[at / 8] ^= 1 << (at % 8);
            assert!(Block::open(&flipped, 7, &[3]).is_err(), "bit {at}");
        }
        assert!((0..block.len()).all(|len| Block::open(&block[..len], 7, &[3]).is_err()));
    }
}
