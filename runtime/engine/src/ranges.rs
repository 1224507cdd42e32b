//! A set of offsets as sorted, disjoint, half-open ranges.

use alloc::vec::Vec;

/// Sorted, disjoint, non-empty, half-open ranges of offsets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ranges(Vec<(i64, i64)>);

impl Ranges {
    /// The empty set.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds `start..end`, which must not begin before the last range's end; touching ranges become one.
    pub fn push(&mut self, start: i64, end: i64) {
        if start >= end {
            return;
        }
        match self.0.last_mut() {
            Some(last) if start <= last.1 => last.1 = last.1.max(end),
            _ => self.0.push((start, end)),
        }
    }

    /// Whether the offset is in the set.
    #[must_use]
    pub fn contains(&self, offset: i64) -> bool {
        let after = self.0.partition_point(|r| r.0 <= offset);
        after > 0 && offset < self.0[after - 1].1
    }

    /// The ranges in order.
    pub fn iter(&self) -> impl Iterator<Item = (i64, i64)> + '_ {
        self.0.iter().copied()
    }

    /// How many ranges there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Forgets everything below `offset`: it can't be asked for any more.
    pub fn forget_below(&mut self, offset: i64) {
        let gone = self.0.partition_point(|r| r.1 <= offset);
        self.0.drain(..gone);
    }

    /// Removes everything from `offset` on.
    pub fn truncate(&mut self, offset: i64) {
        let keep = self.0.partition_point(|r| r.0 < offset);
        self.0.truncate(keep);
        if let Some(last) = self.0.last_mut() {
            last.1 = last.1.min(offset);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(list: &[(i64, i64)]) -> Ranges {
        let mut r = Ranges::new();
        for &(a, b) in list {
            r.push(a, b);
        }
        r
    }

    #[test]
    fn contains_is_half_open() {
        let r = of(&[(2, 4), (7, 8)]);
        let inside: Vec<i64> = (0..10).filter(|o| r.contains(*o)).collect();
        assert_eq!(inside, [2, 3, 7]);
        assert!(!Ranges::new().contains(0));
    }

    #[test]
    fn touching_ranges_merge_and_empty_ones_vanish() {
        assert_eq!(of(&[(2, 4), (4, 6), (6, 6), (9, 9)]).iter().collect::<Vec<_>>(), [(2, 6)]);
        assert_eq!(of(&[(2, 6), (3, 4)]).iter().collect::<Vec<_>>(), [(2, 6)]);
        assert_eq!(of(&[(2, 4), (5, 6)]).len(), 2);
        assert!(of(&[(5, 5), (6, 3)]).is_empty());
        assert!(!of(&[(5, 6)]).is_empty());
    }

    #[test]
    fn forget_and_truncate_cut_at_the_offset() {
        let mut r = of(&[(2, 4), (7, 10), (12, 13)]);
        r.forget_below(4);
        assert_eq!(r.iter().collect::<Vec<_>>(), [(7, 10), (12, 13)]);
        r.truncate(12);
        assert_eq!(r.iter().collect::<Vec<_>>(), [(7, 10)]);
        r.truncate(8);
        assert_eq!(r.iter().collect::<Vec<_>>(), [(7, 8)]);
        r.truncate(7);
        assert!(r.is_empty());
    }
}
