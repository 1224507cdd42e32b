//! What is written down of a task: of what it is, and up to which position all is there.

use super::StateIdentity;
use crate::manifest::{perhaps, take, text};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) identity: StateIdentity,
    pub(super) position: Option<i64>,
    /// When all below the position was last known to be here, or when the first change was yet to come.
    pub(super) reached_ms: i64,
}

/// A task is found by its name, whatever log it is of.
pub(super) fn name(identity: &StateIdentity) -> Vec<u8> {
    let mut name = Vec::new();
    for text in [&identity.group, &identity.topic] {
        name.extend_from_slice(&(text.len() as u32).to_le_bytes());
        name.extend_from_slice(text.as_bytes());
    }
    name.extend_from_slice(&identity.partition.to_le_bytes());
    name
}

impl Record {
    pub(super) fn encode(&self, id: i64) -> Vec<u8> {
        let mut bytes = id.to_le_bytes().to_vec();
        bytes.extend(name(&self.identity));
        bytes.extend_from_slice(&self.identity.log.to_le_bytes());
        bytes.push(u8::from(self.position.is_some()));
        bytes.extend_from_slice(&self.position.unwrap_or(0).to_le_bytes());
        bytes.extend_from_slice(&self.reached_ms.to_le_bytes());
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        bytes
    }

    /// `None`: damaged, or of another task.
    pub(super) fn decode(bytes: &[u8], id: i64) -> Option<Self> {
        let (body, crc) = bytes.split_last_chunk::<4>()?;
        if crc32fast::hash(body).to_le_bytes() != *crc {
            return None;
        }
        let rest = &mut &*body;
        if i64::from_le_bytes(take(rest)?) != id {
            return None;
        }
        let identity = StateIdentity {
            group: text(rest)?,
            topic: text(rest)?,
            partition: i32::from_le_bytes(take(rest)?),
            log: u64::from_le_bytes(take(rest)?),
        };
        let position = perhaps(rest)?;
        let reached_ms = i64::from_le_bytes(take(rest)?);
        rest.is_empty().then_some(Self { identity, position, reached_ms })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_as_it_was_written_and_not_at_all_with_a_bit_flipped() {
        let identity = StateIdentity { group: "g".into(), topic: "\u{e4}".into(), partition: 7, log: u64::MAX };
        for position in [None, Some(-3)] {
            let record = Record { identity: identity.clone(), position, reached_ms: i64::MIN };
            let bytes = record.encode(9);
            assert_eq!(Record::decode(&bytes, 9), Some(record));
            assert_eq!(Record::decode(&bytes, 8), None);
            for at in 0..bytes.len() * 8 {
                let mut flipped = bytes.clone();
                flipped[at / 8] ^= 1 << (at % 8);
                assert_eq!(Record::decode(&flipped, 9), None, "bit {at}");
            }
        }
    }
}
