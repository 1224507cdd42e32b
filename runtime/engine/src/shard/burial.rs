//! What is given up with all that waits behind it: `retry.then = "dead-letter-key"`.
//!
//! A message that is spent stays the first of its lane, and does not run. When its lane has its turn,
//!
//! 1. what came from the input is parked, and so is what waits behind it; likewise where it was parked, and something waits
//!    behind it in memory. Where nothing waits, it becomes a dead letter like any other;
//! 2. its dead letter and, in the same transaction, its record in the retry topic written anew: its *mark*, with the number
//!    of the last that is parked of its lane. From that commit on it is decided who goes with it, whoever has the partition;
//! 3. when the lane drains, all up to that number become dead letters, in their order, as many at a time as are loaded at a
//!    time; each leaves the retry topic with its own. The lane stays shut until the last of these is acknowledged;
//! 4. the mark leaves the retry topic, and what is behind it runs.
//!
//! What is parked meanwhile gets higher numbers ([`First::until`](crate::parking::First::until)).

use super::batch::{Ask, Turn, Unrun};
use super::lanes::{Item, LaneId, Phase, Place, Trouble};
use super::{Settled, Shard};
use crate::dedup::Past;
use crate::message::{Company, Failure, Fate, Now, Partition, Reason, Ticket};
use crate::parking::{AT_ONCE, GivenUp, NothingParked, Waiting};
use crate::planted::Bug;
use crate::policy::Spent;
use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;

/// What can't be loaded just now is looked for again after this.
const AGAIN_MS: u64 = 20;

impl<M> Shard<M> {
    /// Whether what is spent for this reason takes what waits behind it along.
    pub(super) fn takes_key_along(&self, reason: Reason) -> bool {
        self.policy.retry.then == Spent::DeadLetterKey && self.policy.takes_commands() && reason.is_of_retries()
    }

    /// What waits in memory behind the message of this dead letter, which is not acknowledged, is given up with it, unrun, as
    /// [`Spent::DeadLetterKey`] has it. For where nothing is parked; with parking the lane's next turn does it.
    pub fn give_up_behind(
        &mut self,
        (partition, offset): (Partition, i64),
        now: Now,
        past: &dyn Past,
        settled: &mut Vec<Settled<M>>,
    ) {
        let Some(place) = self.letters.get(&(partition, offset)).copied() else { return };
        while let Some(ticket) = self.lanes.get(place).and_then(|lane| Some(lane.queue.front()?.ticket)) {
            let cause = match self.decide_unrun(place, &ticket, false, now, (past, &NothingParked)) {
                Unrun::Duplicate(of) => {
                    self.settle_head(place, Fate::Duplicate { of }, settled);
                    continue;
                }
                Unrun::Bury(reason, failure) => Some((reason, failure)),
                Unrun::Run | Unrun::Park(_) | Unrun::Known => None,
            };
            let Some(item) = self.lanes.get(place).and_then(|lane| lane.queue.pop_front()) else { return };
            let mut follows = self.given_up_with(offset, "spent", item, cause, now);
            self.unset_timer(&mut follows);
            settled.push(follows);
        }
    }

    /// The next step of a lane whose first message is given up, or that has a mark. `None`: it has neither.
    pub(super) fn bury_key(
        &mut self,
        place: Place,
        now: Now,
        ask: Ask<'_, M>,
        settled: &mut Vec<Settled<M>>,
    ) -> Option<Turn> {
        if self.lanes.mark(place).is_some() {
            return Some(self.bury_followers(place, now, ask, settled));
        }
        let lane = self.lanes.get(place)?;
        let head = lane.queue.front()?;
        let given_up = head.trouble.as_ref()?.given_up?;
        if lane.phase == Phase::Running {
            // Settling now would overtake what of its lane runs in this batch.
            return Some(Turn::Over);
        }
        if given_up.until > 0 && !self.policy.has(Bug::LetterAgain) {
            lane.follows_dead_letter = true;
            self.lanes.set_mark(place);
            return Some(Turn::More);
        }
        // What can't be written of it is the cause of its dead letter, which goes alone.
        (head.ticket.refused.is_none()).then(|| self.give_up_head(place, given_up.reason, now, ask, settled))
    }

    /// The first message of a lane is given up, and no dead letter of it is written.
    fn give_up_head(
        &mut self,
        place: Place,
        reason: Reason,
        now: Now,
        (_, parked): Ask<'_, M>,
        settled: &mut Vec<Settled<M>>,
    ) -> Turn {
        let Some(lane) = self.lanes.get(place) else { return Turn::Over };
        let id = lane.id();
        let last = self.next_number(id, parked) - 1;
        let Some(lane) = self.lanes.get(place) else { return Turn::Over };
        let Some(mut item) = lane.queue.pop_front() else { return Turn::Over };
        let waits = lane.queue.iter().any(|behind| behind.ticket.parked == 0);
        let anew = item.trouble.as_mut().is_some_and(|trouble| core::mem::take(&mut trouble.spent));
        // Before what is parked there is no place for it, and nobody but it is given up.
        if waits && anew && !item.stays {
            settled.push(self.park(place, item, AT_ONCE));
            return Turn::More;
        }
        // Without a transaction its dead letter and its mark would be two steps. It was given up under another guarantee.
        let alone = !self.policy.takes_commands() || self.policy.has(Bug::LoseMark);
        if item.ticket.parked == 0 || last <= item.ticket.parked || alone {
            settled.push(self.bury(place, item, reason, now));
            return Turn::Over;
        }
        let known = parked.last(id.task, id.hash).unwrap_or(0);
        let until = if self.policy.has(Bug::GiveUpKnown) { known } else { last };
        settled.push(self.lead(place, item, GivenUp { reason, until }, now));
        Turn::More
    }

    /// It becomes a dead letter, and its record the mark of those that go with it.
    fn lead(&mut self, place: Place, item: Item<M>, given_up: GivenUp, now: Now) -> Settled<M> {
        let Item { ticket, message, trouble, .. } = item;
        let trouble = trouble.map(|t| *t).unwrap_or_default();
        let history = trouble.history;
        // Its words are those of its dead letter.
        let (number, due_ms, failure) = (ticket.parked, AT_ONCE, Failure::default());
        let mark = Waiting { number, due_ms, history, failure, given_up: Some(given_up) };
        if let Some(lane) = self.lanes.get(place) {
            lane.drained = None;
            lane.queue.retain(|item| item.ticket.parked == 0);
            lane.follows_dead_letter = true;
        }
        if let Some(parking) = &mut self.parking {
            let pending = parking.change(LaneId { task: ticket.task(), hash: ticket.lane });
            pending.stale = number;
            pending.open += 1;
        }
        self.mark_seen(&ticket, now);
        let mut epitaph = self.epitaph(given_up.reason, trouble, now);
        epitaph.company = Company::Leads(Box::new(mark));
        Settled::bare(ticket, message, Fate::DeadLetter(epitaph), history.attempts)
    }

    /// What is loaded and goes with the mark of its lane becomes dead letters; when there is no more of that, the mark goes.
    fn bury_followers(&mut self, place: Place, now: Now, ask: Ask<'_, M>, settled: &mut Vec<Settled<M>>) -> Turn {
        let (mut shut, mut found) = (None, false);
        if self.policy.has(Bug::BuryBackwards)
            && let Some(lane) = self.lanes.get(place)
        {
            let loaded = lane.queue.iter().take_while(|item| item.ticket.parked > 0).count();
            lane.queue.make_contiguous()[..loaded].reverse();
        }
        while let Some((ticket, failed)) = self.next_follower(place) {
            found = true;
            let unrun = if failed && ticket.refused.is_none() {
                Unrun::Run
            } else {
                self.decide_unrun(place, &ticket, failed, now, ask)
            };
            let cause = match unrun {
                Unrun::Duplicate(of) => {
                    self.settle_head(place, Fate::Duplicate { of }, settled);
                    continue;
                }
                Unrun::Bury(reason, failure) => Some((reason, failure)),
                Unrun::Run | Unrun::Park(_) | Unrun::Known => None,
            };
            settled.extend(self.follow(place, cause, now));
            shut = Some((ticket.partition, ticket.offset));
        }
        let until = until_of(self.lanes.mark(place));
        let Some(lane) = self.lanes.get(place) else { return Turn::Over };
        if let Some(at) = shut {
            lane.phase = Phase::Letter;
            self.letters.insert(at, place);
            return Turn::Over;
        }
        if found {
            return Turn::More;
        }
        let (id, from) = (lane.id(), lane.drained.unwrap_or(0) + 1);
        let (_, parked) = ask;
        if parked.first(id.task, id.hash, from).is_some_and(|first| first.number <= until)
            && !self.policy.has(Bug::RunFollowers)
        {
            let due_ms = now.steady_ms.saturating_add(AGAIN_MS);
            lane.phase = Phase::Waiting(due_ms);
            self.due.insert((due_ms, place));
            return Turn::Over;
        }
        if let Some(Item { ticket, message, .. }) = self.lanes.take_mark(place) {
            // IMPORTANT: none of these numbers is given again before its end is committed.
            self.resolve(&Ticket { parked: until.max(ticket.parked), ..ticket });
            settled.push(Settled::bare(ticket, message, Fate::Buried, 0));
        }
        Turn::More
    }

    /// The first message of a lane, if it goes with its mark; and whether it has failed.
    fn next_follower(&mut self, place: Place) -> Option<(Ticket, bool)> {
        let (newer, none) = (self.policy.has(Bug::BuryNewer), self.policy.has(Bug::RunFollowers));
        let until = until_of(self.lanes.mark(place));
        let head = self.lanes.get(place)?.queue.front()?;
        let goes = head.ticket.parked > 0 && (head.ticket.parked <= until || newer) && !none;
        goes.then(|| (head.ticket, head.trouble.is_some()))
    }

    /// The first message of a lane becomes a dead letter with that of its mark, for a cause of its own or for none.
    fn follow(&mut self, place: Place, cause: Option<(Reason, Failure)>, now: Now) -> Option<Settled<M>> {
        let mark = self.lanes.mark(place)?;
        let head = mark.ticket.offset;
        let why = mark.trouble.as_ref()?.given_up?.reason.as_str();
        let item = self.lanes.get(place)?.queue.pop_front()?;
        Some(self.given_up_with(head, why, item, cause, now))
    }

    /// A message becomes a dead letter with the one of this offset, for a cause of its own or for none.
    fn given_up_with(
        &mut self,
        head: i64,
        why: &str,
        item: Item<M>,
        cause: Option<(Reason, Failure)>,
        now: Now,
    ) -> Settled<M> {
        let (reason, failure) = cause.unwrap_or_else(|| {
            let detail = format!("the message of offset {head} of the same order key was given up ({why})");
            (Reason::Follows, Failure { code: "follows".into(), detail })
        });
        let Item { ticket, message, trouble, .. } = item;
        let history = trouble.map(|trouble| trouble.history).unwrap_or_default();
        self.mark_seen(&ticket, now);
        self.resolve(&ticket);
        let mut epitaph = self.epitaph(reason, Trouble { history, failure, ..Trouble::default() }, now);
        (epitaph.company, epitaph.version) = (Company::Follows(head), None);
        Settled::bare(ticket, message, Fate::DeadLetter(epitaph), history.attempts)
    }
}

/// Up to which number a lane goes with its mark.
fn until_of<M>(mark: Option<&Item<M>>) -> u64 {
    mark.and_then(|mark| mark.trouble.as_ref()?.given_up).map_or(0, |given_up| given_up.until)
}
