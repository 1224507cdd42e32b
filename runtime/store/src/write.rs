//! Writes a segment, entry by entry, in order.

use crate::filter::{Filter, head};
use crate::memtable::Entry;
use crate::segment::{BLOCK, ENTRIES_A_BLOCK, ENTRY, Meta, Segment, encode, index_bytes, path, seal};
use crate::steps::{Step, Steps};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Blocks that are written at once.
const BATCH: usize = 64;
/// What is written is synced so often that a sync never has much to do: look-ups share the disk.
const UNSYNCED_BYTES: usize = 16 << 20;

pub(crate) struct Writer<'a> {
    steps: &'a Steps,
    meta: Meta,
    path: PathBuf,
    file: File,
    filter: Filter,
    fences: Vec<u64>,
    /// Whole blocks, and the one being filled.
    batch: Vec<[u8; BLOCK]>,
    block: [u8; BLOCK],
    filled: usize,
    unsynced: usize,
    kept: bool,
}

impl<'a> Writer<'a> {
    /// For at most `ids` entries, at least one.
    pub(crate) fn new(steps: &'a Steps, folder: &Path, number: u64, bucket_ms: i64, ids: u64) -> io::Result<Self> {
        steps.pass(Step::Create)?;
        let path = path(folder, number);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path)?;
        let filter = Filter::with_room(ids);
        Ok(Self {
            meta: Meta {
                number,
                bucket_ms,
                latest_ms: bucket_ms,
                ids: 0,
                rows: filter.rows(),
                rows_bytes: 0,
                index_crc: 0,
            },
            fences: Vec::with_capacity(ids.div_ceil(ENTRIES_A_BLOCK as u64) as usize),
            batch: Vec::with_capacity(BATCH),
            block: [0; BLOCK],
            filled: 0,
            unsynced: 0,
            kept: false,
            steps,
            path,
            file,
            filter,
        })
    }

    pub(crate) fn push(&mut self, entry: &Entry) -> io::Result<()> {
        let head = head(&entry.id);
        if self.filled == ENTRIES_A_BLOCK {
            self.end_block()?;
        }
        if self.filled == 0 {
            self.fences.push(head);
        }
        self.block[self.filled * ENTRY..][..ENTRY].copy_from_slice(&encode(entry));
        self.filled += 1;
        self.filter.push(head);
        self.meta.ids += 1;
        self.meta.latest_ms = self.meta.latest_ms.max(self.meta.bucket_ms.saturating_add(i64::from(entry.after_ms)));
        Ok(())
    }

    fn end_block(&mut self) -> io::Result<()> {
        seal(&mut self.block, self.filled, self.fences.len() as u64 - 1, self.meta.number);
        self.batch.push(self.block);
        self.filled = 0;
        if self.batch.len() == BATCH { self.write_batch() } else { Ok(()) }
    }

    fn write_batch(&mut self) -> io::Result<()> {
        self.steps.pass(Step::Write)?;
        let bytes = self.batch.as_flattened();
        self.file.write_all(bytes)?;
        self.unsynced += bytes.len();
        self.batch.clear();
        if self.unsynced >= UNSYNCED_BYTES {
            self.file.sync_data()?;
            self.unsynced = 0;
        }
        Ok(())
    }

    /// Makes it durable. It counts only once the manifest names it.
    pub(crate) fn finish(mut self) -> io::Result<Segment> {
        if self.filled > 0 {
            self.end_block()?;
        }
        self.write_batch()?;
        self.filter.finish();
        self.meta.rows_bytes = self.filter.parts().1.len() as u64;
        let mut crc = crc32fast::Hasher::new();
        index_bytes(&self.filter, &self.fences, |bytes| {
            crc.update(bytes);
            self.file.write_all(bytes)
        })?;
        self.meta.index_crc = crc.finalize();
        self.steps.pass(Step::SyncSegment)?;
        self.file.sync_all()?;
        let file = File::open(&self.path)?;
        self.kept = true;
        let filter = std::mem::replace(&mut self.filter, Filter::with_room(0));
        Ok(Segment::new(self.meta.clone(), self.path.clone(), file, filter, std::mem::take(&mut self.fences)))
    }
}

impl Drop for Writer<'_> {
    /// What did not become a segment is deleted; if that fails too, the next one to open the folder does it.
    fn drop(&mut self) {
        if !self.kept {
            drop(std::fs::remove_file(&self.path));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]
    use super::*;

    #[test]
    fn ids_that_begin_alike_are_found_across_blocks() {
        let folder = std::env::temp_dir().join(format!("keyrail-store-write-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let steps = Steps::default();
        let id = |n: u32| {
            let mut id = [0x55; 16];
            // 300 of each head: more than a block has, and ends of blocks everywhere.
            id[7] = (n / 300) as u8;
            id[12..].copy_from_slice(&(n * 2).to_be_bytes());
            id
        };
        let mut writer = Writer::new(&steps, &folder, 1, 1_000, 3_000).unwrap();
        (0..3_000).for_each(|n| writer.push(&Entry { id: id(n), after_ms: n }).unwrap());
        let segment = writer.finish().unwrap();
        let again = Segment::open(&folder, &segment.meta).unwrap();
        for segment in [&segment, &again] {
            for n in 0..3_000 {
                assert_eq!(segment.find(&id(n)), Ok(Some(1_000 + i64::from(n))), "{n}");
                let mut other = id(n);
                other[15] += 1;
                assert_eq!(segment.find(&other), Ok(None), "{n}");
            }
            assert_eq!(segment.find(&[0; 16]), Ok(None));
            assert_eq!(segment.find(&[0xff; 16]), Ok(None));
        }
        drop(Writer::new(&steps, &folder, 2, 0, 5).unwrap());
        assert!(!path(&folder, 2).exists(), "what did not become a segment is deleted");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
