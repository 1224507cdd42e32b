//! Commands from outside to messages of this shard's lanes.
//!
//! Nothing runs here: a command changes what is parked, as a message that fails does, and what follows from that follows once it
//! is committed.

use super::lanes::LaneId;
use super::parked::ticket;
use super::{Settled, Shard};
use crate::inbox::{Deed, Refused, Returned, returned};
use crate::message::{Company, Epitaph, Epoch, Fate, Now, Partition, Reason, Ticket};
use crate::order::Papers;
use crate::parking::{Loaded, Parked};
use crate::planted::Bug;
use alloc::boxed::Box;

/// A command to one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order<M> {
    /// The input partition where the message was first read.
    pub partition: Partition,
    /// The assignment in which the command was read.
    pub epoch: Epoch,
    /// Where the message was first read.
    pub offset: i64,
    /// What is to be done.
    pub deed: Deed<Returned<M>>,
}

impl<M> Shard<M> {
    /// Whether this assignment is still to be opened here: two threads write to a shard's inbox, and a command may overtake the
    /// opening. Whoever holds such a command keeps it until [`Shard::open`] has come, and hands it to [`Shard::obey`] then.
    #[must_use]
    pub fn awaits(&self, partition: Partition, epoch: Epoch) -> bool {
        let past = |known: &Epoch| *known >= epoch;
        !self.epochs.get(&partition).is_some_and(past) && !self.closed.get(&partition).is_some_and(past)
    }

    /// Obeys a command, to the shard of the message's lane. Not while its assignment [is to be opened](Shard::awaits). `None`: it
    /// is of no present assignment; whoever has the partition reads it.
    ///
    /// # Errors
    /// Why it is not obeyed.
    pub fn obey(&mut self, order: Order<M>, now: Now, parked: &dyn Parked<M>) -> Option<Result<Settled<M>, Refused>> {
        let Order { partition, epoch, offset, deed } = order;
        if self.epochs.get(&partition) != Some(&epoch) {
            return None;
        }
        if self.parking.is_none() {
            return Some(Err(Refused::NoParking));
        }
        let result = match deed {
            Deed::Retry => self.release((partition, offset), epoch, now, parked),
            Deed::Drop => self.drop_parked(partition, offset, epoch, now, parked),
            Deed::Redrive(message) => self.take_back((partition, offset), epoch, now, message, parked),
        };
        if let Some(condemned) = self.condemned.get_mut(&partition)
            && (result.is_ok() || self.policy.has(Bug::RefusalPardons))
        {
            // Who sends it again has made room for what it sends.
            condemned.retain(|at| *at != offset);
        }
        Some(result)
    }

    /// Lane and number of a message that is parked, and does not run.
    fn waiting(&mut self, partition: Partition, offset: i64, parked: &dyn Parked<M>) -> Result<(LaneId, u64), Refused> {
        let (lane, number) = parked.stands(partition, offset).ok_or(Refused::NotParked)?;
        let id = LaneId { task: partition, hash: lane };
        let drained = self.drained(id).unwrap_or(0);
        if let Some(first) = parked.first(partition, lane, 0)
            && number <= first.until
        {
            return Err(Refused::GivenUp(first.offset));
        }
        let parking = self.parking.as_ref().ok_or(Refused::NoParking)?;
        let pending = parking.pending(id);
        if number <= pending.resolved || parking.dropped.contains(&(id, number)) {
            return Err(Refused::NotParked);
        }
        if number <= drained || pending.stale == number || !pending.knows(number) {
            return Err(Refused::Runs);
        }
        Ok((id, number))
    }

    fn read_parked(&self, id: LaneId, number: u64, parked: &dyn Parked<M>) -> Result<Loaded<M>, Refused> {
        let found = parked.read(id.task, id.hash, number, 1, u64::MAX).into_iter().next();
        found.filter(|loaded| loaded.waiting.number == number).ok_or(Refused::NotParked)
    }

    /// The first of a lane may run now.
    fn release(
        &mut self,
        (partition, offset): (Partition, i64),
        epoch: Epoch,
        now: Now,
        parked: &dyn Parked<M>,
    ) -> Result<Settled<M>, Refused> {
        let (id, number) = self.waiting(partition, offset, parked)?;
        let parking = self.parking.as_mut().ok_or(Refused::NoParking)?;
        let first = parked.first(partition, id.hash, parking.pending(id).resolved + 1);
        match first {
            Some(first) if first.number == number => {}
            Some(first) if parking.dropped.contains(&(id, first.number)) => return Err(Refused::Runs),
            // What is given up with that one is gone soon.
            Some(first) if first.until > 0 => return Err(Refused::Runs),
            Some(first) => return Err(Refused::Behind(first.offset)),
            None => return Err(Refused::NotParked),
        }
        let loaded = self.read_parked(id, number, parked)?;
        let ticket = ticket(id, epoch, &loaded);
        if let Some(parking) = &mut self.parking {
            let pending = parking.change(id);
            pending.stale = number;
            pending.open += 1;
        }
        let never_failed = loaded.waiting.history.first_failed_ms.is_none();
        let mut waiting = returned(number, loaded.waiting.failure, now.wall_ms);
        if never_failed && !self.policy.has(Bug::RetryIsNoDuplicate) {
            // It has only waited for others, and may be a duplicate, or too old.
            waiting.history.first_failed_ms = None;
        }
        if self.policy.has(Bug::RetryKeepsAttempts) {
            waiting.history = loaded.waiting.history;
        }
        Ok(Settled::bare(ticket, loaded.message, Fate::Parked(Box::new(waiting)), 0))
    }

    fn drop_parked(
        &mut self,
        partition: Partition,
        offset: i64,
        epoch: Epoch,
        now: Now,
        parked: &dyn Parked<M>,
    ) -> Result<Settled<M>, Refused> {
        let (id, number) = self.waiting(partition, offset, parked)?;
        let loaded = self.read_parked(id, number, parked)?;
        let ticket = ticket(id, epoch, &loaded);
        if !self.policy.has(Bug::DropUnmarked) {
            self.mark_seen(&ticket, now);
        }
        if let Some(parking) = &mut self.parking {
            parking.dropped.insert((id, number));
            parking.change(id).open += 1;
        }
        let history = loaded.waiting.history;
        let epitaph = Epitaph {
            reason: Reason::Dropped,
            failure: loaded.waiting.failure,
            attempts: history.attempts,
            first_failed_ms: history.first_failed_ms.unwrap_or(now.wall_ms),
            version: None,
            company: Company::Alone,
        };
        let fate = Fate::Discarded(Box::new(epitaph));
        Ok(Settled::bare(ticket, loaded.message, fate, history.attempts))
    }

    /// A dead letter is parked behind all that is parked of its key, and may run once it is the first.
    fn take_back(
        &mut self,
        (partition, offset): (Partition, i64),
        epoch: Epoch,
        now: Now,
        message: Returned<M>,
        parked: &dyn Parked<M>,
    ) -> Result<Settled<M>, Refused> {
        let Returned { papers: Papers { lane, id: message_id, refused }, size, timestamp_ms, failure, message } =
            message;
        let id = LaneId { task: partition, hash: lane };
        let is_parked = parked.stands(partition, offset).is_some();
        let mut number = self.next_number(id, parked);
        if self.policy.has(Bug::ReturnFirst) {
            let resolved = self.parking.as_ref().map_or(0, |parking| parking.pending(id).resolved);
            number = number.min(parked.first(partition, lane, resolved + 1).map_or(number, |first| first.number));
        }
        let parking = self.parking.as_mut().ok_or(Refused::NoParking)?;
        if is_parked || !parking.returned.insert((partition, offset)) {
            return Err(Refused::IsParked);
        }
        let pending = parking.change(id);
        pending.give(number);
        pending.open += 1;
        if let Some(place) = self.lanes.find(id).filter(|_| !self.policy.has(Bug::ForgetReturned)) {
            parking.behind.insert(place, number);
        }
        let (shared, alone, parked) = (false, false, number);
        let ticket = Ticket {
            partition,
            offset,
            shared,
            epoch,
            lane,
            id: message_id,
            refused,
            alone,
            parked,
            size,
            timestamp_ms,
        };
        let mut waiting = returned(number, failure, now.wall_ms);
        if self.policy.has(Bug::ReturnIsDuplicate) {
            waiting.history.first_failed_ms = None;
        }
        Ok(Settled::bare(ticket, message, Fate::Parked(Box::new(waiting)), 0))
    }
}
