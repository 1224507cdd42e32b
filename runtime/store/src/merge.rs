//! Makes one segment of several of a bucket, so that a look-up asks few.

use crate::memtable::Entry;
use crate::segment::{BLOCK, Segment, decode};
use crate::steps::{Step, Steps};
use crate::view::View;
use crate::write::Writer;
use std::io;
use std::sync::Arc;

/// Segments of like size in the newest bucket become one when there are so many.
const ALIKE: usize = 4;
/// No segment gets larger by merging.
const MOST_IDS: u64 = 1 << 30;
/// Blocks that a cursor reads at once.
const BATCH: usize = 16;

/// Why a merge did not come to its end.
#[derive(Debug)]
pub(crate) enum Stopped {
    /// The index is being closed.
    Closed,
    /// It can't be written now.
    Disk(io::Error),
    /// A segment is not what was written.
    Damaged(String),
}

impl From<io::Error> for Stopped {
    fn from(e: io::Error) -> Self {
        Self::Disk(e)
    }
}

/// The next segments to merge: all of a bucket that nothing is inserted into any more, or some of like size.
pub(crate) fn plan(view: &View) -> Option<Vec<Arc<Segment>>> {
    let newest = view.newest_bucket()?;
    let mut buckets: Vec<i64> = view.segments.iter().map(|s| s.meta.bucket_ms).collect();
    buckets.sort_unstable();
    buckets.dedup();
    buckets.into_iter().find_map(|bucket| {
        let of_bucket = || view.segments.iter().filter(|s| s.meta.bucket_ms == bucket);
        let still_filled = bucket == newest || view.memtables.iter().any(|m| m.bucket_ms == bucket);
        if !still_filled {
            return worth(of_bucket().cloned().collect(), 2);
        }
        // Four times as many ids make the next size.
        let size = |s: &Segment| s.meta.ids.ilog2() / 2;
        (0..32).find_map(|n| worth(of_bucket().filter(|s| size(s) == n).cloned().collect(), ALIKE))
    })
}

fn worth(segments: Vec<Arc<Segment>>, from: usize) -> Option<Vec<Arc<Segment>>> {
    let ids: u64 = segments.iter().map(|s| s.meta.ids).sum();
    (segments.len() >= from && ids <= MOST_IDS).then_some(segments)
}

/// Writes all entries of `inputs` in order; of an id that comes twice the later time.
pub(crate) fn merge(
    inputs: &[Arc<Segment>],
    steps: &Steps,
    mut writer: Writer<'_>,
    is_closed: impl Fn() -> bool,
) -> Result<Segment, Stopped> {
    let mut cursors = Vec::with_capacity(inputs.len());
    for segment in inputs {
        cursors.push(Cursor::new(segment, steps)?);
    }
    let mut held: Option<(u128, Entry)> = None;
    loop {
        // A handful: looking at each is quicker than a heap.
        let least = cursors.iter().enumerate().filter_map(|(n, c)| Some((c.key?, n))).min();
        let Some((key, n)) = least else { break };
        let Some(cursor) = cursors.get_mut(n) else { break };
        let Some(entry) = cursor.take(steps, &is_closed)? else { break };
        match &mut held {
            Some((same, kept)) if *same == key => kept.after_ms = kept.after_ms.max(entry.after_ms),
            _ => {
                if let Some((_, before)) = held.replace((key, entry)) {
                    writer.push(&before)?;
                }
            }
        }
    }
    if let Some((_, last)) = held {
        writer.push(&last)?;
    }
    Ok(writer.finish()?)
}

/// Goes through a segment's entries.
struct Cursor<'a> {
    segment: &'a Segment,
    /// The block to read next.
    next: u64,
    blocks: Vec<[u8; BLOCK]>,
    entries: Vec<Entry>,
    at: usize,
    /// The id of the entry to take next, as a number; `None` at the end.
    key: Option<u128>,
}

impl<'a> Cursor<'a> {
    fn new(segment: &'a Segment, steps: &Steps) -> Result<Self, Stopped> {
        let blocks = vec![[0; BLOCK]; BATCH];
        let mut cursor = Self { segment, next: 0, blocks, entries: Vec::new(), at: 0, key: None };
        cursor.load(steps)?;
        Ok(cursor)
    }

    fn take(&mut self, steps: &Steps, is_closed: impl Fn() -> bool) -> Result<Option<Entry>, Stopped> {
        let taken = self.entries.get(self.at).copied();
        self.at += 1;
        if self.at < self.entries.len() {
            self.key = self.entries.get(self.at).map(|e| u128::from_be_bytes(e.id));
        } else {
            if is_closed() {
                return Err(Stopped::Closed);
            }
            self.load(steps)?;
        }
        Ok(taken)
    }

    fn load(&mut self, steps: &Steps) -> Result<(), Stopped> {
        let segment = self.segment;
        steps.pass(Step::ReadMerge).map_err(|e| Stopped::Damaged(format!("{}: {e}", segment.path.display())))?;
        let count = segment.read(self.next, &mut self.blocks).map_err(Stopped::Damaged)?;
        self.entries.clear();
        self.at = 0;
        for (number, block) in (self.next..).zip(self.blocks.iter().take(count)) {
            self.entries.extend(segment.check(number, block).map_err(Stopped::Damaged)?.iter().map(decode));
        }
        self.next += count as u64;
        self.key = self.entries.first().map(|e| u128::from_be_bytes(e.id));
        Ok(())
    }
}
