//! Which messages wait for each other, and which are the same.

use crate::message::{Message, MessageId, Partition, Reason};
use crate::planted::Bug;
use crate::policy::{Absent, IdFrom, NullKey, Order, OrderBy, Policy};
use alloc::vec::Vec;
use core::hash::{BuildHasher, Hasher};
use foldhash::quality::FixedState;
use sha2::{Digest, Sha256};

/// What `order.by` says of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrderKey<'a> {
    /// Waits for messages of the same key.
    Key(&'a [u8]),
    /// Waits for all of its kind in the task.
    Partition,
    /// Waits for nothing (but a duplicate for its first delivery).
    Free,
}

/// The order key of a message.
pub fn order_key<'a, M: Message>(order: &Order, message: &'a M) -> OrderKey<'a> {
    let key = match &order.by {
        OrderBy::Key => message.key(),
        OrderBy::Header(name) => message.header(name.as_bytes()).flatten(),
        OrderBy::Partition => return OrderKey::Partition,
        OrderBy::None => return OrderKey::Free,
    };
    match (key, order.null_key) {
        (Some(key), _) => OrderKey::Key(key),
        (None, NullKey::Partition) => OrderKey::Partition,
        (None, NullKey::None) => OrderKey::Free,
    }
}

/// The bytes of a message's id, or why it has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdBytes {
    /// The id.
    Is(Vec<u8>),
    /// No id: run as if dedup were off.
    None,
    /// No id, and the manifest refuses such messages.
    Refused,
}

/// Where the manifest finds the id of a message.
pub fn id_bytes<M: Message>(from: &IdFrom, absent: Absent, message: &M) -> IdBytes {
    let found = match from {
        IdFrom::Header(name) => message.header(name.as_bytes()).flatten(),
        IdFrom::Key => message.key(),
        IdFrom::Digest => return IdBytes::Is(digest(message)),
    };
    match (found, absent) {
        (Some(id), _) => IdBytes::Is(id.to_vec()),
        (None, Absent::Process) => IdBytes::None,
        (None, Absent::Digest) => IdBytes::Is(digest(message)),
        (None, Absent::DeadLetter) => IdBytes::Refused,
    }
}

/// SHA-256 over key, value and headers, each with its length, null apart from empty.
fn digest<M: Message>(message: &M) -> Vec<u8> {
    let mut hash = Sha256::new();
    let mut field = |bytes: Option<&[u8]>| match bytes {
        Some(bytes) => {
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        }
        None => hash.update(u64::MAX.to_le_bytes()),
    };
    field(message.key());
    field(message.value());
    message.for_each_header(&mut |name, value| {
        field(Some(name));
        field(value);
    });
    hash.finalize().to_vec()
}

/// The id as it is remembered: it counts within its order key only.
#[must_use]
pub fn message_id(key: OrderKey<'_>, id: &[u8]) -> MessageId {
    let mut hash = Sha256::new();
    match key {
        OrderKey::Key(key) => {
            hash.update([1]);
            hash.update((key.len() as u64).to_le_bytes());
            hash.update(key);
        }
        OrderKey::Partition => hash.update([2]),
        OrderKey::Free => hash.update([3]),
    }
    hash.update(id);
    let mut short = [0; 16];
    short.copy_from_slice(&hash.finalize()[..16]);
    MessageId(short)
}

/// Turns order keys into lanes. The seed keeps outsiders from choosing keys that share a lane.
#[derive(Debug, Clone)]
pub struct LaneHash(FixedState);

impl LaneHash {
    /// A hash with its own seed; equal seeds give equal lanes.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(FixedState::with_seed(seed))
    }

    /// The lane of a message that was read at `offset` of `partition`. One without order gets a lane of its own, or its id's,
    /// so that a duplicate waits behind the first delivery.
    #[must_use]
    pub fn lane(
        &self,
        key: OrderKey<'_>,
        id: Option<MessageId>,
        task: Partition,
        (partition, offset): (Partition, i64),
    ) -> u64 {
        let mut hasher = self.0.build_hasher();
        match (key, id) {
            (OrderKey::Key(key), _) => {
                hasher.write_u8(1);
                hasher.write(key);
            }
            (OrderKey::Partition, _) => {
                hasher.write_u8(2);
                hasher.write_u32(task.topic);
                hasher.write_i32(task.number);
            }
            (OrderKey::Free, Some(id)) => {
                hasher.write_u8(3);
                hasher.write(&id.0);
            }
            (OrderKey::Free, None) => {
                hasher.write_u8(4);
                hasher.write_u32(partition.topic);
                hasher.write_i32(partition.number);
                hasher.write_i64(offset);
            }
        }
        hasher.finish()
    }
}

/// What follows from a message alone, wherever it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Papers {
    /// See [`Ticket::lane`](crate::message::Ticket::lane).
    pub lane: u64,
    /// Its id, with dedup on.
    pub id: Option<MessageId>,
    /// Set when it must not run at all.
    pub refused: Option<Reason>,
}

/// Makes out the papers of messages.
#[derive(Debug, Clone)]
pub struct Router {
    policy: Policy,
    hash: LaneHash,
}

impl Router {
    /// Routers of one policy and equal seeds agree on all lanes.
    #[must_use]
    pub fn new(policy: Policy, seed: u64) -> Self {
        Self { policy, hash: LaneHash::new(seed) }
    }

    /// The papers of a message that was read there.
    #[must_use]
    pub fn papers<M: Message>(&self, partition: Partition, offset: i64, message: &M) -> Papers {
        let key = order_key(&self.policy.order, message);
        let (id, refused) = match &self.policy.dedup {
            None => (None, None),
            Some(dedup) => match id_bytes(&dedup.id, dedup.absent, message) {
                IdBytes::Is(bytes) if self.policy.has(Bug::IdIgnoresKey) => {
                    (Some(message_id(OrderKey::Free, &bytes)), None)
                }
                IdBytes::Is(bytes) => (Some(message_id(key, &bytes)), None),
                IdBytes::None => (None, None),
                IdBytes::Refused => (None, Some(Reason::Rejected)),
            },
        };
        let task = self.policy.order.task(partition);
        let mut lane = self.hash.lane(key, id, task, (partition, offset));
        if self.policy.has(Bug::LaneOfInput) && partition != task {
            lane = self.hash.lane(OrderKey::Free, None, task, (partition, lane as i64));
        }
        Papers { lane, id, refused }
    }
}

/// The shard that a lane belongs to, among `shards`. Uses the upper bits: tables inside a shard use the lower.
#[must_use]
pub fn shard_of(lane: u64, shards: u32) -> u32 {
    ((u128::from(lane) * u128::from(shards)) >> 64) as u32
}

#[cfg(test)]
mod tests;
