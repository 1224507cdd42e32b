//! A filter over ids that come sorted: 16 bits of each, and 4 bits for each third of one. It says "no" or "perhaps".
//!
//! Ids are spread evenly, so the leading bits of an id say which of `rows` it falls into, and the next bits which of a row's
//! 112 cells, three ids to a cell. The filter keeps the next 16 bits of each id (its print), cell after cell. A row begins
//! with 64 bytes that count, then come the prints, filled up to 64 bytes. So a look-up reads one cache line to find where
//! its prints are and one or two near it, and to build the filter is to append. For an id that is not there "perhaps" has a
//! chance of 3 / 65536.
//!
//! The line that counts: seven words with 4 bits for each of 16 cells, and before them one with 9 bits for each of the seven: how
//! many prints lie before the first of its cells.

/// Cells of a row.
const CELLS: u64 = WORDS as u64 * CELLS_A_WORD;
const CELLS_A_WORD: u64 = 16;
const WORDS: usize = 7;
/// More prints before a word can't be told.
const MOST_BEFORE: u64 = (1 << 9) - 1;
/// Bytes of a cache line, in which the places of rows are counted.
const LINE: usize = 64;
/// Ids to a row, about: three to a cell. More than 15 in one, which 4 bits can't tell, are then one in ten million.
const IDS_A_ROW: u64 = 3 * CELLS;
/// As the place of a row: there is more than can be told, so all of it answers "perhaps".
const FULL: u32 = u32::MAX;
/// Prints that are compared at once. So many follow the last one, so that there always are as many.
const AT_ONCE: usize = 8;
/// One in each 16 bits.
const EACH: u64 = 0x0001_0001_0001_0001;

/// See the module.
#[derive(Debug)]
pub(crate) struct Filter {
    /// Where each row begins, in lines.
    places: Vec<u32>,
    /// The rows. IMPORTANT: never moves once the first row is in, or rows would not lie on cache lines any more.
    bytes: Vec<u8>,
    /// Bytes in front of the first row.
    skip: usize,
    rows: u64,
}

/// Where the prints of an id's cell are, and the id's own.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sought {
    first: usize,
    count: u32,
    print: u16,
}

/// How many rows a filter of so many ids has.
pub(crate) fn rows(ids: u64) -> u64 {
    ids.div_ceil(IDS_A_ROW).max(1)
}

/// The leading half of an id, by which all is ordered.
pub(crate) fn head(id: &crate::Id) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *id;
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// `head` as a fraction of `n`: the whole part, and what is behind the point.
pub(crate) fn share(head: u64, n: u64) -> (u64, u64) {
    let wide = u128::from(head) * u128::from(n);
    ((wide >> 64) as u64, wide as u64)
}

impl Filter {
    /// An empty one for at most `ids`, which [`Self::push`] must get in order.
    pub(crate) fn with_room(ids: u64) -> Self {
        let rows = rows(ids);
        // A line for each row's counts, one to fill it up, one at the end.
        Self::empty(rows, ids * 2 + (2 * rows + 1) * LINE as u64)
    }

    fn empty(rows: u64, bytes: u64) -> Self {
        let mut bytes: Vec<u8> = Vec::with_capacity(bytes as usize + LINE);
        // A hint may be anything; without it a look-up reads a line more.
        let skip = bytes.as_ptr().align_offset(LINE).min(LINE - 1);
        bytes.resize(skip, 0);
        Self { places: Vec::with_capacity(rows as usize), bytes, skip, rows }
    }

    /// As [`Self::parts`] gave them; `size` is that of the rows. `read` fills what it is given, in order.
    pub(crate) fn read<E>(
        places: Vec<u32>,
        size: u64,
        mut read: impl FnMut(&mut [u8]) -> Result<(), E>,
    ) -> Result<Self, E> {
        let mut filter = Self::empty(places.len() as u64, size);
        let end = filter.skip + size as usize;
        filter.bytes.resize(end, 0);
        filter.places = places;
        read(filter.bytes.get_mut(filter.skip..).unwrap_or_default())?;
        Ok(filter)
    }

    /// The places of the rows, and the rows.
    pub(crate) fn parts(&self) -> (&[u32], &[u8]) {
        (&self.places, self.bytes.get(self.skip..).unwrap_or_default())
    }

    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// Takes in the next id.
    pub(crate) fn push(&mut self, head: u64) {
        let (row, rest) = share(head, self.rows);
        let (cell, rest) = share(rest, CELLS);
        self.pad(row + 1);
        self.bytes.extend_from_slice(&((rest >> 48) as u16).to_le_bytes());
        let Some(place) = self.places.get_mut(row as usize).filter(|place| **place != FULL) else { return };
        let at = self.skip + *place as usize * LINE;
        let Some(line) = self.bytes.get_mut(at..).and_then(|b| b.first_chunk_mut::<LINE>()) else { return };
        if !count_up(line, cell) {
            *place = FULL;
        }
    }

    /// After the last id.
    pub(crate) fn finish(&mut self) {
        self.pad(self.rows);
        self.bytes.extend([0; AT_ONCE * 2]);
    }

    fn pad(&mut self, rows: u64) {
        while (self.places.len() as u64) < rows {
            let place = (self.bytes.len() - self.skip).div_ceil(LINE);
            self.places.push(place as u32);
            self.bytes.resize(self.skip + (place + 1) * LINE, 0);
        }
    }

    /// The first of a look-up's three steps: where the row begins, and what is left of the head. Steps are apart so that a
    /// look-up in several filters waits for all their rows at once, and then for all their prints; nothing in a step is
    /// decided by what was read. The byte is one of what the next step reads, for [`fetch`].
    #[inline]
    pub(crate) fn row(&self, head: u64) -> ((usize, u64), u8) {
        let (row, rest) = share(head, self.rows);
        let place = self.places.get(row as usize).copied().unwrap_or(FULL);
        let at = (place as usize).wrapping_mul(LINE).wrapping_add(self.skip);
        ((at, rest), self.bytes.get(at).copied().unwrap_or(0))
    }

    /// The second: reads the counts of the row.
    #[inline]
    pub(crate) fn seek(&self, (at, rest): (usize, u64)) -> (Sought, u8) {
        let Some(line) = self.bytes.get(at..).and_then(|b| b.first_chunk::<LINE>()) else {
            return (Sought { first: usize::MAX, ..Sought::default() }, 0);
        };
        let (cell, rest) = share(rest, CELLS);
        let (before, count) = count(line, cell);
        let first = at + LINE + before * 2;
        (Sought { first, count, print: (rest >> 48) as u16 }, self.bytes.get(first).copied().unwrap_or(0))
    }

    /// The third: compares with the prints of the cell.
    #[inline]
    pub(crate) fn holds(&self, sought: Sought) -> bool {
        let Some(prints) = self.bytes.get(sought.first..).and_then(|b| b.first_chunk::<{ AT_ONCE * 2 }>()) else {
            // A row that answers "perhaps", or counts that were damaged in memory.
            return true;
        };
        let (words, _) = prints.as_chunks::<8>();
        let same = words.iter().zip([0, 4]).fold(false, |same, (word, from)| {
            // Four prints, each 0 where it is the same; those of the next cells made different.
            let mine = sought.count.saturating_sub(from).min(4);
            let others = u64::MAX.checked_shl(16 * mine).unwrap_or(0);
            let differ = (u64::from_le_bytes(*word) ^ (u64::from(sought.print) * EACH)) | others;
            same | (differ.wrapping_sub(EACH) & !differ & (EACH << 15) != 0)
        });
        // More prints than are compared at once: one cell in 250.
        same || (sought.count > AT_ONCE as u32 && self.holds_more(sought))
    }

    #[cold]
    fn holds_more(&self, sought: Sought) -> bool {
        let prints = self.bytes.get(sought.first..sought.first + sought.count as usize * 2);
        prints.is_none_or(|prints| prints.as_chunks::<2>().0.contains(&sought.print.to_le_bytes()))
    }

    /// Whether an id with this head may be there.
    #[cfg(test)]
    fn perhaps(&self, head: u64) -> bool {
        self.holds(self.seek(self.row(head).0).0)
    }

    /// Bytes in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.places.len() * 4 + self.bytes.len()
    }
}

/// Has bytes read, so that what lies around them is on its way while others are asked for.
#[inline]
pub(crate) fn fetch(bytes: u8) {
    std::hint::black_box(bytes);
}

/// Adds one to a cell's count. `false`: it can't be told.
fn count_up(line: &mut [u8; LINE], cell: u64) -> bool {
    let (word, shift) = ((cell / CELLS_A_WORD) as usize, cell % CELLS_A_WORD * 4);
    let (words, _) = line.as_chunks_mut::<8>();
    let [sums, counts @ ..] = words else { return false };
    let mut before = u64::from_le_bytes(*sums);
    for at in word + 1..WORDS {
        if (before >> (9 * at)) & MOST_BEFORE == MOST_BEFORE {
            return false;
        }
        before += 1 << (9 * at);
    }
    *sums = before.to_le_bytes();
    let Some(own) = counts.get_mut(word) else { return false };
    let more = u64::from_le_bytes(*own);
    *own = more.wrapping_add(1 << shift).to_le_bytes();
    (more >> shift) & 15 != 15
}

/// How many prints lie before a cell's, and how many are its own.
#[inline]
fn count(line: &[u8; LINE], cell: u64) -> (usize, u32) {
    const LOW: u64 = 0x0f0f_0f0f_0f0f_0f0f;
    let (word, shift) = ((cell / CELLS_A_WORD) as usize, cell % CELLS_A_WORD * 4);
    let (words, _) = line.as_chunks::<8>();
    let sums = words.first().map_or(0, |sums| u64::from_le_bytes(*sums));
    let counts = words.get(word + 1).map_or(0, |counts| u64::from_le_bytes(*counts));
    let lower = counts & ((1 << shift) - 1);
    // At most 15 * 16, which a byte can hold.
    let in_word = ((lower & LOW) + ((lower >> 4) & LOW)).wrapping_mul(0x0101_0101_0101_0101) >> 56;
    let before = (sums >> (9 * word)) & MOST_BEFORE;
    ((before + in_word) as usize, ((counts >> shift) & 15) as u32)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]
    use super::*;
    use crate::chance::Chance;

    fn of(heads: &[u64]) -> Filter {
        let mut filter = Filter::with_room(heads.len() as u64);
        heads.iter().for_each(|head| filter.push(*head));
        filter.finish();
        filter
    }

    #[test]
    fn what_is_there_is_never_denied_and_what_is_not_mostly_is() {
        let mut chance = Chance::new(1);
        for ids in [1, 2, 3, 112, 336, 337, 5_000, 200_000] {
            let mut heads: Vec<u64> = (0..ids).map(|_| chance.next()).collect();
            heads.sort_unstable();
            let filter = of(&heads);
            assert!(heads.iter().all(|head| filter.perhaps(*head)), "{ids}");
            let wrong = (0..200_000).filter(|_| filter.perhaps(chance.next())).count();
            assert!(wrong <= 30, "{wrong} of 200,000 wrong at {ids} ids; 9 are expected");
            assert!(ids < 5_000 || filter.bytes() as f64 / (ids as f64) < 2.35, "{}", filter.bytes());
            let (places, rows) = filter.parts();
            let mut rest = rows;
            let read = |to: &mut [u8]| rest.split_off(..to.len()).map(|part| to.copy_from_slice(part)).ok_or(());
            let again = Filter::read(places.to_vec(), rows.len() as u64, read).unwrap();
            assert!(heads.iter().all(|head| again.perhaps(*head)), "{ids}");
        }
    }

    #[test]
    fn it_never_moves_while_it_grows() {
        let mut chance = Chance::new(9);
        for ids in [1u64, 10, 1_000, 77_777] {
            let mut heads: Vec<u64> = (0..ids).map(|_| chance.next() >> chance.below(3)).collect();
            heads.sort_unstable();
            let before = Filter::with_room(ids);
            let (room, mut filter) = (before.bytes.capacity(), before);
            heads.iter().for_each(|head| filter.push(*head));
            filter.finish();
            assert_eq!(filter.bytes.capacity(), room, "{ids}");
            assert_eq!(filter.parts().1.as_ptr().align_offset(LINE), 0);
        }
    }

    #[test]
    fn ids_that_are_not_spread_evenly_cost_precision_and_nothing_else() {
        for step in [0, 1, 1 << 20, 1 << 50] {
            let heads: Vec<u64> = (0..1_000).map(|n| (1 << 62) + n * step).collect();
            let filter = of(&heads);
            assert!(heads.iter().all(|head| filter.perhaps(*head)), "{step}");
            assert!(!filter.perhaps(u64::MAX), "{step}");
        }
    }

    #[test]
    fn counts_that_lie_make_it_say_perhaps() {
        let mut filter = of(&[1 << 40, 1 << 50, 1 << 60]);
        filter.bytes.truncate(filter.skip + LINE);
        assert!(filter.perhaps(1 << 40));
    }

    #[test]
    fn what_lies_before_a_cell_is_exact_or_not_told() {
        let mut chance = Chance::new(7);
        for round in 0..200 {
            let (mut line, mut each) = ([0; LINE], [0usize; CELLS as usize]);
            let told = (0..336 + round).all(|_| {
                let cell = chance.below(CELLS);
                each[cell as usize] += 1;
                count_up(&mut line, cell)
            });
            assert!(told, "{round}");
            for cell in 0..CELLS as usize {
                let before = each[..cell].iter().sum();
                assert_eq!(count(&line, cell as u64), (before, each[cell] as u32));
            }
        }
        let mut line = [0; LINE];
        assert_eq!((0..16).filter(|_| count_up(&mut line, 5)).count(), 15, "a cell's");
        let mut line = [0; LINE];
        assert_eq!((0..600).filter(|n| count_up(&mut line, n % 48)).count(), 511, "those before a word");
    }
}
