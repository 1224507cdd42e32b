//! A segment: entries of one bucket of time in the order of their ids, in a file that never changes.
//!
//! ```text
//! blocks, 4096 bytes each: 204 entries (id, milliseconds after the bucket's start), how many of them count (u16), the
//!                          block's number (u32), the segment's (low 48 bits), a CRC-32 of all that
//! the filter:              the places of its rows, the rows
//! fences:                  the head of each block's first id
//! ```
//! Numbers are little-endian. All else about the file stands in the manifest, with a checksum over what follows the blocks.

use crate::Id;
use crate::filter::{self, Filter, head};
use crate::memtable::Entry;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

pub(crate) const BLOCK: usize = 4096;
pub(crate) const ENTRY: usize = 20;
pub(crate) const ENTRIES_A_BLOCK: usize = (BLOCK - TAIL) / ENTRY;
const TAIL: usize = 16;
const CRC_AT: usize = BLOCK - 4;
const READ: usize = 1 << 20;

/// What the manifest knows of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) number: u64,
    pub(crate) bucket_ms: i64,
    /// The time of its newest id.
    pub(crate) latest_ms: i64,
    pub(crate) ids: u64,
    /// Rows of the filter.
    pub(crate) rows: u64,
    /// Bytes of these.
    pub(crate) rows_bytes: u64,
    /// CRC-32 of filter and fences.
    pub(crate) index_crc: u32,
}

impl Meta {
    pub(crate) fn blocks(&self) -> u64 {
        self.ids.div_ceil(ENTRIES_A_BLOCK as u64)
    }

    /// The file's length.
    pub(crate) fn bytes(&self) -> u64 {
        [(self.blocks(), BLOCK as u64 + 8), (self.rows, 4), (self.rows_bytes, 1)]
            .iter()
            .fold(0u64, |sum, (count, each)| sum.saturating_add(count.saturating_mul(*each)))
    }

    pub(crate) fn path(&self, folder: &Path) -> PathBuf {
        path(folder, self.number)
    }
}

/// The file of the segment with this number.
pub(crate) fn path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:012}.seen"))
}

#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) meta: Meta,
    pub(crate) path: PathBuf,
    file: File,
    pub(crate) filter: Filter,
    fences: Vec<u64>,
}

impl Segment {
    /// One that was just written.
    pub(crate) fn new(meta: Meta, path: PathBuf, file: File, filter: Filter, fences: Vec<u64>) -> Self {
        Self { meta, path, file, filter, fences }
    }

    /// Opens its file and reads filter and fences. The error says what is wrong with the file.
    pub(crate) fn open(folder: &Path, meta: &Meta) -> Result<Self, String> {
        let path = meta.path(folder);
        let said = |e: io::Error| format!("{}: {e}", path.display());
        let file = File::open(&path).map_err(said)?;
        let bytes = file.metadata().map_err(said)?.len();
        if bytes != meta.bytes() {
            return Err(format!("{}: has {bytes} bytes, not {}", path.display(), meta.bytes()));
        }
        let mut index = Index { file: &file, at: meta.blocks() * BLOCK as u64, crc: crc32fast::Hasher::new() };
        let places = index.numbers(meta.rows, |bytes| u32::from_le_bytes(*bytes)).map_err(said)?;
        let filter = Filter::read(places, meta.rows_bytes, |part| index.fill(part)).map_err(said)?;
        let fences = index.numbers(meta.blocks(), |bytes| u64::from_le_bytes(*bytes)).map_err(said)?;
        if index.crc.finalize() != meta.index_crc {
            return Err(format!("{}: its filter fails its checksum", path.display()));
        }
        Ok(Self { meta: meta.clone(), path, file, filter, fences })
    }

    /// When the id was inserted: the answer of the disk. The error says what is wrong with the file.
    pub(crate) fn find(&self, id: &Id) -> Result<Option<i64>, String> {
        let head = head(id);
        // The last block that begins below the head, and those that begin with it: heads may be equal.
        let mut at = self.fences.partition_point(|fence| *fence < head).saturating_sub(1);
        let mut buffer = [0; BLOCK];
        while self.fences.get(at).is_some_and(|fence| *fence <= head) {
            self.file
                .read_exact_at(&mut buffer, at as u64 * BLOCK as u64)
                .map_err(|e| format!("{}: block {at}: {e}", self.path.display()))?;
            let entries = self.check(at as u64, &buffer)?;
            if let Ok(found) = entries.binary_search_by(|entry| entry[..16].cmp(id)) {
                let after = entries.get(found).map_or(0, |entry| decode(entry).after_ms);
                return Ok(Some(self.meta.bucket_ms.saturating_add(i64::from(after))));
            }
            at += 1;
        }
        Ok(None)
    }

    /// The entries of a block, if it is what was written there.
    pub(crate) fn check<'a>(&self, number: u64, block: &'a [u8; BLOCK]) -> Result<&'a [[u8; ENTRY]], String> {
        let damaged = || format!("{}: block {number} fails its checksum", self.path.display());
        let (body, crc) = block.split_at(CRC_AT);
        let mut ours = [0; TAIL - 6];
        tail(&mut ours, number, self.meta.number);
        let named = body.get(CRC_AT - ours.len()..) == Some(&ours[..]);
        if !named || crc32fast::hash(body).to_le_bytes() != *crc {
            return Err(damaged());
        }
        let count = body.get(CRC_AT - 12..CRC_AT - 10).and_then(|b| Some(u16::from_le_bytes(b.try_into().ok()?)));
        let (entries, _) = body.as_chunks::<ENTRY>();
        entries.get(..usize::from(count.unwrap_or(0))).filter(|e| !e.is_empty()).ok_or_else(damaged)
    }

    /// Reads whole blocks from `at` on into the buffer, as many as there are. How many were read.
    pub(crate) fn read(&self, at: u64, blocks: &mut [[u8; BLOCK]]) -> Result<usize, String> {
        let count = usize::try_from(self.meta.blocks().saturating_sub(at)).unwrap_or(usize::MAX).min(blocks.len());
        let bytes = blocks.get_mut(..count).unwrap_or_default().as_flattened_mut();
        self.file
            .read_exact_at(bytes, at * BLOCK as u64)
            .map_err(|e| format!("{}: block {at}: {e}", self.path.display()))?;
        Ok(count)
    }

    /// Bytes in memory.
    pub(crate) fn bytes(&self) -> u64 {
        (self.filter.bytes() + self.fences.capacity() * 8) as u64
    }
}

/// What names a block, in front of its checksum.
fn tail(bytes: &mut [u8; TAIL - 6], block: u64, segment: u64) {
    bytes[..4].copy_from_slice(&(block as u32).to_le_bytes());
    bytes[4..].copy_from_slice(&segment.to_le_bytes()[..6]);
}

/// Fills in what follows the entries of a block, of which there are `count`.
pub(crate) fn seal(block: &mut [u8; BLOCK], count: usize, number: u64, segment: u64) {
    block[count * ENTRY..CRC_AT - 12].fill(0);
    block[CRC_AT - 12..CRC_AT - 10].copy_from_slice(&(count as u16).to_le_bytes());
    let mut name = [0; TAIL - 6];
    tail(&mut name, number, segment);
    block[CRC_AT - 10..CRC_AT].copy_from_slice(&name);
    let crc = crc32fast::hash(&block[..CRC_AT]);
    block[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
}

pub(crate) fn encode(entry: &Entry) -> [u8; ENTRY] {
    let mut bytes = [0; ENTRY];
    bytes[..16].copy_from_slice(&entry.id);
    bytes[16..].copy_from_slice(&entry.after_ms.to_le_bytes());
    bytes
}

pub(crate) fn decode(bytes: &[u8; ENTRY]) -> Entry {
    let mut id = [0; 16];
    id.copy_from_slice(&bytes[..16]);
    Entry { id, after_ms: u32::from_le_bytes([bytes[16], bytes[17], bytes[18], bytes[19]]) }
}

/// Reads what follows the blocks.
struct Index<'a> {
    file: &'a File,
    at: u64,
    crc: crc32fast::Hasher,
}

impl Index<'_> {
    fn fill(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        for part in buffer.chunks_mut(READ) {
            self.file.read_exact_at(part, self.at)?;
            self.crc.update(part);
            self.at += part.len() as u64;
        }
        Ok(())
    }

    fn numbers<const N: usize, T>(&mut self, count: u64, make: impl Fn(&[u8; N]) -> T) -> io::Result<Vec<T>> {
        // The file's length was held against the count, so this is no more than there is.
        let mut bytes = vec![0; count as usize * N];
        self.fill(&mut bytes)?;
        Ok(bytes.as_chunks::<N>().0.iter().map(make).collect())
    }
}

/// Bytes of filter and fences as they are written.
pub(crate) fn index_bytes(
    filter: &Filter,
    fences: &[u64],
    mut write: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let (places, rows) = filter.parts();
    let mut buffer = Vec::with_capacity(READ + 64);
    for place in places {
        buffer.extend_from_slice(&place.to_le_bytes());
        drain(&mut buffer, READ, &mut write)?;
    }
    drain(&mut buffer, 1, &mut write)?;
    rows.chunks(READ).try_for_each(&mut write)?;
    for fence in fences {
        buffer.extend_from_slice(&fence.to_le_bytes());
        drain(&mut buffer, READ, &mut write)?;
    }
    drain(&mut buffer, 1, &mut write)
}

fn drain(buffer: &mut Vec<u8>, from: usize, write: &mut impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    if buffer.len() >= from {
        write(buffer)?;
        buffer.clear();
    }
    Ok(())
}

/// Whether a segment can be so: a manifest that says otherwise is damaged.
pub(crate) fn fits(meta: &Meta) -> bool {
    // Duplicates that a merge leaves out make the rows more than the ids need.
    meta.ids > 0
        && meta.ids <= u64::from(u32::MAX / 2)
        && (1..=filter::rows(u64::from(u32::MAX / 2))).contains(&meta.rows)
}
