//! Changes an input a little, by a seed: what the plain tests have in the place of libFuzzer. The modules under test take
//! this file in by its path, so it stands on nothing but `alloc`.

extern crate alloc;

use alloc::vec::Vec;

/// Numbers at which codecs change their mind.
const EDGES: [u64; 8] = [0, 0x7f, 0x80, 0xffff, 0x7fff_ffff, 0xffff_ffff, 0x7fff_ffff_ffff_ffff, 0xffff_ffff_ffff_ffff];

/// Numbers by a seed.
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    /// A number below `end`, 0 where that is 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % end.max(1)
    }
}

/// Changes `input` in one to four places; `other` is what a piece may be taken from.
pub(crate) fn mutate(input: &mut Vec<u8>, other: &[u8], chance: &mut Chance) {
    for _ in 0..=chance.below(4) {
        let at = chance.below(input.len() + 1);
        let length = chance.below(input.len() - at + 1).min(1 << chance.below(9));
        match chance.below(8) {
            0 => {
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= 1 << chance.below(8);
                }
            }
            1 => {
                if let Some(byte) = input.get_mut(at) {
                    *byte = chance.below(256) as u8;
                }
            }
            2 => drop(input.drain(at..at + length)),
            3 => input.truncate(at),
            4 => {
                let again = input[at..at + length].to_vec();
                input.splice(at..at, again);
            }
            5 => {
                let from = chance.below(other.len() + 1);
                let piece = &other[from..other.len().min(from + 1 + chance.below(32))];
                input.splice(at..at + length.min(piece.len()), piece.iter().copied());
            }
            6 => {
                let number = EDGES[chance.below(EDGES.len())].wrapping_add(chance.below(3) as u64).wrapping_sub(1);
                let width = 1 << chance.below(4);
                input.splice(at..at + length.min(width), number.to_le_bytes().into_iter().take(width));
            }
            _ => input.insert(at, chance.below(256) as u8),
        }
    }
}
