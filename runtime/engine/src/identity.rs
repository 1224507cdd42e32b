//! What a partition's last commit says of its internal topics and of its order, held against what they are now: decided
//! before its first record, so that nothing runs on what is missing, or on what is of another log.

use crate::intake::Opened;
use crate::metadata::Kept;
use crate::planted::Bug;
use crate::policy::{NullKey, Order, OrderBy, Policy, Scope};
use sha2::{Digest, Sha256};

/// A topic's id as marks have it: 0 is none, or unknown.
#[must_use]
pub const fn mark(id: u64) -> u32 {
    match (id ^ id >> 32) as u32 {
        0 if id != 0 => 1,
        mark => mark,
    }
}

/// The mark of what decides to which lane and to which task a message belongs; never 0.
#[must_use]
pub fn order_mark(order: &Order, inputs: &[&str]) -> u32 {
    let mut hash = Sha256::new();
    // Each word with a byte behind it that is in none.
    let mut add = |word: &str| {
        hash.update(word.as_bytes());
        hash.update([0xff]);
    };
    match &order.by {
        OrderBy::Key => add("key"),
        OrderBy::Header(name) => {
            add("header");
            add(name);
        }
        OrderBy::Partition => add("partition"),
        OrderBy::None => add("none"),
    }
    let by_key = matches!(order.by, OrderBy::Key | OrderBy::Header(_));
    if by_key && order.null_key == NullKey::Partition {
        add("null-key");
    }
    if order.scope == Scope::Inputs && inputs.len() > 1 {
        add("inputs");
        inputs.iter().for_each(|input| add(input));
    }
    let digest = hash.finalize();
    u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]).max(1)
}

/// The internal topics of a partition's task as they are now. `None`: it is not there, or the manifest has no use for it; otherwise
/// its mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Present {
    /// The topic of seen ids.
    pub seen: Option<u32>,
    /// The topic of state.
    pub state: Option<u32>,
    /// The retry topic.
    pub retry: Option<u32>,
    /// See [`order_mark`].
    pub order: u32,
}

/// Why a partition must not start as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Messages of it are parked, and its retry topic is not there. What is there may not be seen at once: ask again for a while.
    NoRetryTopic,
    /// The topic of seen ids was deleted and made anew.
    Seen,
    /// The topic of state was.
    State,
    /// The retry topic was.
    Retry,
    /// Messages of it are parked, and the manifest does not park any more: what comes now would overtake them.
    ParksNoMore,
    /// No commit of Keyrail's tells where the group is: its offset is gone, or was put down by somebody else.
    Moved,
    /// Messages belong to other lanes, or to another task, than before.
    Order,
}

impl Change {
    /// It matters only where an internal topic of the partition holds something.
    #[must_use]
    pub const fn matters_where_filled(self) -> bool {
        matches!(self, Self::ParksNoMore | Self::Moved | Self::Order)
    }
}

impl Opened {
    /// Holds what the last commit says against what is there now: what the next ones say of it follows from both. `again`: the
    /// partition starts anew within its ownership. Gives why it must not start.
    pub fn identify(&mut self, policy: &Policy, present: &Present, again: bool) -> Changes {
        let before = self.kept;
        let told = self.sequence > 0 || self.anew;
        let moved = !told && !again && !policy.has(Bug::BelieveMoved);
        let parks = policy.parks();
        let other = |was: u32, is: Option<u32>| was != 0 && is.is_some_and(|is| is != 0 && is != was);
        let keeps = present.seen.is_some() || present.state.is_some();
        let all = [
            (
                Change::NoRetryTopic,
                before.parked && parks && present.retry.is_none() && !policy.has(Bug::BelieveListing),
            ),
            (Change::Seen, other(before.seen, present.seen)),
            (Change::State, other(before.state, present.state)),
            (Change::Retry, before.parked && other(before.retry, present.retry)),
            (Change::ParksNoMore, before.parked && !parks),
            (Change::Moved, moved && (keeps || present.retry.is_some())),
            (Change::Order, before.order != 0 && before.order != present.order && (keeps || before.parked)),
        ];
        let known = |is: Option<u32>, was: u32| is.filter(|mark| *mark != 0).unwrap_or(was);
        // A commit of a version without marks does not tell whether something is parked: it may be, if there is a topic for it.
        let parked = before.parked || told && before.order == 0 && present.retry.is_some();
        self.kept = Kept {
            parked,
            seen: known(present.seen, before.seen),
            state: known(present.state, before.state),
            retry: known(present.retry, before.retry),
            order: present.order,
            ..before
        };
        Changes(all)
    }
}

/// See [`Opened::identify`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Changes([(Change, bool); 7]);

impl Changes {
    /// Those that there are.
    pub fn iter(&self) -> impl Iterator<Item = Change> {
        self.0.into_iter().filter_map(|(change, is)| is.then_some(change))
    }

    /// Whether this is one of them.
    #[must_use]
    pub fn has(&self, change: Change) -> bool {
        self.iter().any(|own| own == change)
    }
}

#[cfg(test)]
mod tests;
