//! What one thread hands to another waits in an order that is a decision: here it is made.
//!
//! An inbox is bounded, and who writes to it never blocks: what finds no room waits in the writer's own [`Line`]. The
//! consumer's lines are one [`Handover`], since the ledger must hear of a record before a shard does.

use crate::planted::{Bug, Switch};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::fmt;

/// A bounded inbox of another thread, as those who write to it see it.
pub trait Inbox {
    /// What it takes.
    type Message;

    /// Takes the message, if there is room.
    ///
    /// # Errors
    /// There is no room, or nobody reads it any more.
    fn offer(&self, message: Self::Message) -> Result<(), Refused<Self::Message>>;
}

/// Why an [`Inbox`] did not take a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused<T> {
    /// There is no room; the message comes back.
    Full(T),
    /// Nobody reads it any more.
    Gone,
}

/// The other thread is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone;

/// A writer that never blocks. What finds no room waits here, in order.
pub struct Line<I: Inbox> {
    inbox: I,
    waiting: VecDeque<I::Message>,
    sent: u64,
}

impl<I: Inbox> Line<I> {
    /// A line to this inbox, with nothing in it.
    #[must_use]
    pub const fn new(inbox: I) -> Self {
        Self { inbox, waiting: VecDeque::new(), sent: 0 }
    }

    /// Sends, now or later.
    ///
    /// # Errors
    /// The other thread is gone.
    pub fn push(&mut self, message: I::Message) -> Result<(), Gone> {
        self.put(message);
        self.flush()
    }

    /// Puts a message in line, to be sent by the next [`Line::flush`].
    pub fn put(&mut self, message: I::Message) {
        self.waiting.push_back(message);
    }

    /// Sends what waits, as far as there is room.
    ///
    /// # Errors
    /// The other thread is gone.
    pub fn flush(&mut self) -> Result<(), Gone> {
        while let Some(message) = self.waiting.pop_front() {
            match self.inbox.offer(message) {
                Ok(()) => self.sent += 1,
                Err(Refused::Full(message)) => {
                    self.waiting.push_front(message);
                    break;
                }
                Err(Refused::Gone) => return Err(Gone),
            }
        }
        Ok(())
    }

    /// Whether something waits.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }
}

/// How much waits, not what: messages need not be fit to be shown.
impl<I: Inbox> fmt::Debug for Line<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").field("waiting", &self.waiting.len()).finish_non_exhaustive()
    }
}

/// The consumer's lines, to the ledger and to the shards.
///
/// The shards get nothing while something waits for the ledger: a message that is settled before the ledger has heard of
/// it would never count as settled.
pub struct Handover<L: Inbox, S: Inbox> {
    ledger: Line<L>,
    shards: Vec<Line<S>>,
    planted: Switch,
}

impl<L: Inbox, S: Inbox> Handover<L, S> {
    /// Lines to these inboxes; the place of a shard's tells its number.
    #[must_use]
    pub fn new(ledger: L, shards: impl IntoIterator<Item = S>) -> Self {
        let shards = shards.into_iter().map(Line::new).collect();
        Self { ledger: Line::new(ledger), shards, planted: Switch::default() }
    }

    /// The same with a bug that the simulator must find.
    #[cfg(feature = "planted")]
    #[must_use]
    pub fn with_planted(mut self, bug: Option<Bug>) -> Self {
        self.planted = Switch { bug };
        self
    }

    /// How many shards there are.
    #[must_use]
    pub const fn shards(&self) -> usize {
        self.shards.len()
    }

    /// Tells the ledger, now or later.
    ///
    /// # Errors
    /// The ledger's thread is gone.
    pub fn tell(&mut self, message: L::Message) -> Result<(), Gone> {
        self.ledger.push(message)
    }

    /// Puts a message in a shard's line, behind all that the ledger was told before; to be sent by the next
    /// [`Handover::flush`]. There must be a shard of this number.
    pub fn give(&mut self, shard: usize, message: S::Message) {
        self.shards[shard].put(message);
    }

    /// Sends what waits, as far as there is room; tells whether something still waits.
    ///
    /// # Errors
    /// Another thread is gone.
    pub fn flush(&mut self) -> Result<bool, Gone> {
        self.ledger.flush()?;
        if self.ledger.is_waiting() && !self.planted.has(Bug::ShardsFirst) {
            return Ok(true);
        }
        let mut waiting = false;
        for line in &mut self.shards {
            line.flush()?;
            waiting |= line.is_waiting();
        }
        Ok(waiting)
    }

    /// Whether something waits for the ledger: then the shards wait, too.
    #[must_use]
    pub fn waits_for_ledger(&self) -> bool {
        self.ledger.is_waiting()
    }

    /// Whether something waits for this shard.
    #[must_use]
    pub fn waits_for_shard(&self, shard: usize) -> bool {
        self.shards.get(shard).is_some_and(Line::is_waiting)
    }

    /// How many messages this shard has taken.
    #[must_use]
    pub fn sent_to_shard(&self, shard: usize) -> u64 {
        self.shards.get(shard).map_or(0, |line| line.sent)
    }
}

impl<L: Inbox, S: Inbox> fmt::Debug for Handover<L, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handover").field("ledger", &self.ledger).field("shards", &self.shards).finish()
    }
}

#[cfg(test)]
mod tests;
