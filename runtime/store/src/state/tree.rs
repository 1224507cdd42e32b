//! Writing sorted changes into a tree of blocks.

use super::block::{Block, LEAST_BYTES, Row, Written};
use super::sqlite::{Failure, Writing};

/// So many neighbours at most are taken in at once.
const MOST_TAKEN_IN: usize = 64;

/// What a key has from now on. `None`: nothing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Put<'a> {
    pub(super) key: &'a [u8],
    pub(super) row: Option<Row<'a>>,
}

/// What was written.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Done {
    /// So many of the changes, the first ones.
    pub(super) changes: usize,
    pub(super) bytes: usize,
}

/// Is told of each change what the key had before: `Some` if it was there, and when it was to expire.
pub(super) type Was<'w> = &'w mut dyn FnMut(&Put<'_>, Option<Option<i64>>);

/// Writes changes, sorted and each key once, until so many bytes of blocks are written or all is.
pub(super) fn write(
    to: &Writing<'_>,
    tree: i64,
    changes: &[Put<'_>],
    most_bytes: usize,
    was: Was<'_>,
) -> Result<Done, Failure> {
    let mut done = Done::default();
    while done.bytes < most_bytes
        && let Some(first) = changes.get(done.changes)
    {
        let (id, bytes) = to.block(tree, first.key)?;
        let block = Block::open(&bytes, tree, first.key).map_err(Failure::Damaged)?;
        let mut merge = Merge { changes, at: done.changes, out: Written::default(), changed: false };
        merge.take_in(&block, was)?;
        let mut high = block.high.map(<[u8]>::to_vec);
        for _ in 0..MOST_TAKEN_IN {
            let Some(end) = high.as_ref().filter(|_| merge.changed && merge.out.len() < LEAST_BYTES) else { break };
            let (id, bytes) = to.block(tree, end)?;
            let next = Block::open(&bytes, tree, end).map_err(Failure::Damaged)?;
            if next.low != end.as_slice() {
                return Err(Failure::Damaged("blocks overlap".to_owned()));
            }
            merge.take_in(&next, was)?;
            to.delete(tree, end, id)?;
            high = next.high.map(<[u8]>::to_vec);
        }
        if merge.changed {
            let mut blocks = merge.out.blocks(tree, block.low, high.as_deref()).into_iter();
            if let Some((_, bytes)) = blocks.next() {
                done.bytes += bytes.len();
                to.replace(id, &bytes)?;
            }
            for (low, bytes) in blocks {
                done.bytes += bytes.len();
                to.insert(tree, &low, &bytes)?;
            }
        }
        if merge.at == done.changes {
            return Err(Failure::Damaged("a block does not hold the key that it was found by".to_owned()));
        }
        done.changes = merge.at;
    }
    Ok(done)
}

struct Merge<'a> {
    changes: &'a [Put<'a>],
    at: usize,
    out: Written,
    changed: bool,
}

impl Merge<'_> {
    /// Takes in a block and the changes that belong there.
    fn take_in(&mut self, block: &Block<'_>, was: Was<'_>) -> Result<(), Failure> {
        let mut rows = block.rows();
        while let Some((row, as_read)) = rows.next().map_err(Failure::Damaged)? {
            self.put_before(Some(row.key), block.high, was);
            match self.changes.get(self.at).filter(|put| put.key == row.key) {
                Some(put) => {
                    self.at += 1;
                    was(put, Some(row.expires_ms));
                    self.changed |= put.row != Some(row);
                    put.row.iter().for_each(|new| self.out.push(new));
                }
                None => self.out.push_as_read(as_read),
            }
        }
        self.put_before(None, block.high, was);
        Ok(())
    }

    /// Puts what is new and comes before `key`, or before the block's end.
    fn put_before(&mut self, key: Option<&[u8]>, high: Option<&[u8]>, was: Was<'_>) {
        while let Some(put) = self.changes.get(self.at)
            && key.or(high).is_none_or(|end| put.key < end)
        {
            self.at += 1;
            was(put, None);
            self.changed |= put.row.is_some();
            put.row.iter().for_each(|new| self.out.push(new));
        }
    }
}
