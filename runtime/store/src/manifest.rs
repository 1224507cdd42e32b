//! The manifest: which segments count, of what they are, and up to which position of the seen topic all is in them.
//!
//! A new one is written beside the old one, synced, and takes its place by a rename, so segments and position change
//! together or not at all.

use crate::Identity;
use crate::segment::{Meta, fits};
use crate::steps::{Step, Steps};
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

pub(crate) const NAME: &str = "manifest";
pub(crate) const NEW: &str = "manifest.new";
/// Of the format of all files: one that is not known is wiped.
const MAGIC: &[u8; 8] = b"KRSEEN\x00\x01";
/// More than any manifest has: eight buckets of a few segments each.
const MOST_BYTES: u64 = 16 << 20;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) identity: Identity,
    pub(crate) position: Option<i64>,
    /// The latest time that anything was inserted with, as far as `position`.
    pub(crate) latest_ms: Option<i64>,
    /// The number of the next segment.
    pub(crate) next: u64,
    pub(crate) segments: Vec<Meta>,
}

impl Manifest {
    pub(crate) fn new(identity: Identity) -> Self {
        Self { identity, position: None, latest_ms: None, next: 1, segments: Vec::new() }
    }

    /// Reads the folder's. `Ok(None)`: there is none. `Err`: what is wrong with it.
    pub(crate) fn read(folder: &Path) -> io::Result<Option<Result<Self, String>>> {
        let path = folder.join(NAME);
        let bytes = match std::fs::metadata(&path) {
            Ok(found) if found.len() > MOST_BYTES => Vec::new(),
            Ok(_) => std::fs::read(&path)?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        Ok(Some(Self::decode(&bytes).ok_or_else(|| "the manifest is damaged or of another version".to_owned())))
    }

    /// Takes the place of the folder's, which is durable once the folder is synced.
    pub(crate) fn replace(&self, steps: &Steps, folder: &Path) -> io::Result<()> {
        let new = folder.join(NEW);
        steps.pass(Step::WriteManifest)?;
        let mut file = File::create(&new)?;
        file.write_all(&self.encode())?;
        steps.pass(Step::SyncManifest)?;
        file.sync_all()?;
        steps.pass(Step::Rename)?;
        std::fs::rename(&new, folder.join(NAME))
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        for text in [&self.identity.group, &self.identity.topic] {
            bytes.extend_from_slice(&(text.len() as u32).to_le_bytes());
            bytes.extend_from_slice(text.as_bytes());
        }
        bytes.extend_from_slice(&self.identity.partition.to_le_bytes());
        bytes.extend_from_slice(&self.identity.log.to_le_bytes());
        bytes.extend_from_slice(&self.identity.window_ms.to_le_bytes());
        for number in [self.position, self.latest_ms] {
            bytes.push(u8::from(number.is_some()));
            bytes.extend_from_slice(&number.unwrap_or(0).to_le_bytes());
        }
        bytes.extend_from_slice(&self.next.to_le_bytes());
        bytes.extend_from_slice(&(self.segments.len() as u32).to_le_bytes());
        for meta in &self.segments {
            bytes.extend_from_slice(&meta.number.to_le_bytes());
            bytes.extend_from_slice(&meta.bucket_ms.to_le_bytes());
            bytes.extend_from_slice(&meta.latest_ms.to_le_bytes());
            bytes.extend_from_slice(&meta.ids.to_le_bytes());
            bytes.extend_from_slice(&meta.rows.to_le_bytes());
            bytes.extend_from_slice(&meta.rows_bytes.to_le_bytes());
            bytes.extend_from_slice(&meta.index_crc.to_le_bytes());
        }
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        bytes
    }

    /// `None`: damaged, or of another version.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let (body, crc) = bytes.split_last_chunk::<4>()?;
        if crc32fast::hash(body).to_le_bytes() != *crc {
            return None;
        }
        let mut rest = body.strip_prefix(MAGIC)?;
        let rest = &mut rest;
        let identity = Identity {
            group: text(rest)?,
            topic: text(rest)?,
            partition: i32::from_le_bytes(take(rest)?),
            log: u64::from_le_bytes(take(rest)?),
            window_ms: u64::from_le_bytes(take(rest)?),
        };
        let (position, latest_ms) = (perhaps(rest)?, perhaps(rest)?);
        let next = u64::from_le_bytes(take(rest)?);
        let count = u32::from_le_bytes(take(rest)?);
        let mut segments = Vec::new();
        for _ in 0..count {
            let meta = Meta {
                number: u64::from_le_bytes(take(rest)?),
                bucket_ms: i64::from_le_bytes(take(rest)?),
                latest_ms: i64::from_le_bytes(take(rest)?),
                ids: u64::from_le_bytes(take(rest)?),
                rows: u64::from_le_bytes(take(rest)?),
                rows_bytes: u64::from_le_bytes(take(rest)?),
                index_crc: u32::from_le_bytes(take(rest)?),
            };
            if !fits(&meta) || meta.number >= next {
                return None;
            }
            segments.push(meta);
        }
        rest.is_empty().then_some(Self { identity, position, latest_ms, next, segments })
    }
}

pub(crate) fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, left) = rest.split_first_chunk::<N>()?;
    *rest = left;
    Some(*taken)
}

pub(crate) fn text(rest: &mut &[u8]) -> Option<String> {
    let bytes = u32::from_le_bytes(take(rest)?) as usize;
    let (text, left) = rest.split_at_checked(bytes)?;
    *rest = left;
    String::from_utf8(text.to_vec()).ok()
}

pub(crate) fn perhaps(rest: &mut &[u8]) -> Option<Option<i64>> {
    let [is_some] = take(rest)?;
    let number = i64::from_le_bytes(take(rest)?);
    Some((is_some == 1).then_some(number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chance::Chance;

    fn manifest() -> Manifest {
        let identity = Identity {
            group: "g\u{e4}".into(),
            topic: "t".into(),
            partition: -1,
            log: u64::MAX,
            window_ms: 86_400_000,
        };
        let meta = |number| Meta {
            number,
            bucket_ms: -5,
            latest_ms: i64::MAX,
            ids: 1_000 * number,
            rows: 3,
            rows_bytes: 700,
            index_crc: 0xdead_beef,
        };
        Manifest { identity, position: Some(7), latest_ms: None, next: 9, segments: vec![meta(1), meta(8)] }
    }

    #[test]
    fn it_is_read_as_it_was_written_and_not_at_all_with_a_bit_flipped_or_cut() {
        let bytes = manifest().encode();
        assert_eq!(Manifest::decode(&bytes), Some(manifest()));
        for at in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[at / 8] ^= 1 << (at % 8);
            assert_eq!(Manifest::decode(&flipped), None, "bit {at}");
        }
        assert!((0..bytes.len()).all(|len| Manifest::decode(&bytes[..len]).is_none()));
    }

    #[test]
    fn what_has_a_checksum_and_no_sense_is_refused() {
        let mut chance = Chance::new(2);
        let whole = manifest().encode();
        for _ in 0..20_000 {
            let mut bytes = whole[..whole.len() - 4].to_vec();
            bytes.truncate(8 + chance.below(bytes.len() as u64 - 8) as usize);
            bytes.extend((0..chance.below(40)).map(|_| chance.next() as u8));
            bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
            if let Some(read) = Manifest::decode(&bytes) {
                assert_eq!(read.encode(), bytes, "read as something else than it is");
            }
        }
        let numbered_past_next = Manifest { next: 8, ..manifest() };
        assert_eq!(Manifest::decode(&numbered_past_next.encode()), None);
    }
}
