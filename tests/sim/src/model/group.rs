//! The consumer group: members, generations, cooperative assignment, committed offsets.
//!
//! Commits are taken only from members of the present generation. A partition that moves is first taken from its
//! owner, who answers in its own time, and then given to the next.

use crate::record::SLOTS_PER_TOPIC;
use crate::rng::Rng;
use keyrail_engine::policy::Scope;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

/// A member, named anew each time it joins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MemberId(pub u32);

/// What the group tells a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupEvent {
    /// These partitions are the member's, from when it answers.
    Assigned(Vec<u16>),
    /// These partitions must be given up.
    Revoked(Vec<u16>),
}

/// A committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The next offset to read.
    pub offset: i64,
    /// What was stored beside it.
    pub metadata: Rc<str>,
}

#[derive(Debug)]
struct Member {
    /// The generation that the member knows of.
    known: u32,
    events: VecDeque<GroupEvent>,
    /// A process that does not consume: it only comes and goes.
    bystander: bool,
}

#[derive(Debug, Default, Clone, Copy)]
struct Seat {
    owner: Option<MemberId>,
    /// The owner was asked to give it up.
    revoking: bool,
    /// Who should have it.
    target: Option<MemberId>,
}

/// What is assigned together has the same.
const fn unit(scope: Scope, partition: u16) -> u16 {
    match scope {
        Scope::Topic => partition,
        Scope::Inputs => partition % SLOTS_PER_TOPIC,
    }
}

/// The group and its coordinator.
#[derive(Debug, Default)]
pub struct Group {
    /// What is assigned together.
    scope: Scope,
    generation: u32,
    last_member: u32,
    members: BTreeMap<MemberId, Member>,
    seats: BTreeMap<u16, Seat>,
    committed: BTreeMap<u16, Committed>,
}

impl Group {
    /// A group without partitions. Where inputs share their keys the same number of all of them goes to one member, and each
    /// change of members takes all partitions of all of them first, as the range assignor does.
    #[must_use]
    pub fn of(scope: Scope) -> Self {
        Self { scope, ..Self::default() }
    }

    /// All that is assigned together with these.
    fn whole(&self, partitions: &[u16]) -> Vec<u16> {
        let units: BTreeSet<u16> = partitions.iter().map(|partition| unit(self.scope, *partition)).collect();
        self.partitions().filter(|partition| units.contains(&unit(self.scope, *partition))).collect()
    }

    /// A partition exists from now on.
    pub fn add_partition(&mut self, partition: u16) {
        self.seats.entry(partition).or_default();
    }

    /// The partitions that there are.
    pub fn partitions(&self) -> impl Iterator<Item = u16> + '_ {
        self.seats.keys().copied()
    }

    /// How many partitions a topic has.
    #[must_use]
    pub fn count_of_topic(&self, topic: u16) -> u32 {
        self.seats.keys().filter(|p| *p / SLOTS_PER_TOPIC == topic).count() as u32
    }

    /// The topic's partitions changed: everybody looks anew.
    pub fn refresh(&mut self, rng: &mut Rng) {
        self.rebalance(rng);
    }

    /// A new member.
    pub fn join(&mut self, bystander: bool, rng: &mut Rng) -> MemberId {
        self.last_member += 1;
        let id = MemberId(self.last_member);
        self.members.insert(id, Member { known: self.generation + 1, events: VecDeque::new(), bystander });
        self.rebalance(rng);
        id
    }

    /// A member is gone: in good order, or thrown out. What it still owned is free.
    pub fn leave(&mut self, id: MemberId, rng: &mut Rng) {
        if self.members.remove(&id).is_none() {
            return;
        }
        for seat in self.seats.values_mut().filter(|s| s.owner == Some(id)) {
            *seat = Seat::default();
        }
        self.rebalance(rng);
    }

    /// Whether the member is still of the group.
    #[must_use]
    pub fn has(&self, id: MemberId) -> bool {
        self.members.contains_key(&id)
    }

    /// The partitions that a member owns.
    #[must_use]
    pub fn owned(&self, id: MemberId) -> Vec<u16> {
        self.seats.iter().filter(|(_, s)| s.owner == Some(id)).map(|(p, _)| *p).collect()
    }

    /// The generation that a member may commit with, as far as it knows.
    #[must_use]
    pub fn known_generation(&self, id: MemberId) -> u32 {
        self.members.get(&id).map_or(0, |m| m.known)
    }

    /// A member polls: it hears of the present generation, and of the next event if it is free for one.
    pub fn poll(&mut self, id: MemberId, free: bool) -> Option<GroupEvent> {
        let member = self.members.get_mut(&id)?;
        member.known = self.generation;
        if free { member.events.pop_front() } else { None }
    }

    /// Whether an event waits for this member.
    #[must_use]
    pub fn has_event(&self, id: MemberId) -> bool {
        self.members.get(&id).is_some_and(|m| !m.events.is_empty())
    }

    /// Moves some of a member's partitions to others; to itself when `bounce`.
    pub fn move_from(&mut self, id: MemberId, bounce: bool, rng: &mut Rng) -> bool {
        let mut owned = self.owned(id);
        owned.retain(|p| self.seats.get(p).is_some_and(|s| !s.revoking));
        let others: Vec<MemberId> =
            self.members.iter().filter(|(m, s)| **m != id && !s.bystander).map(|(m, _)| *m).collect();
        if owned.is_empty() || others.is_empty() && !bounce {
            return false;
        }
        let mut units: Vec<u16> = owned.iter().map(|partition| unit(self.scope, *partition)).collect();
        units.sort_unstable();
        units.dedup();
        let some = 1 + rng.index(units.len());
        let mut taken = Vec::new();
        for _ in 0..some {
            let taking = units.swap_remove(rng.index(units.len()));
            let target = if bounce { id } else { *rng.pick(&others) };
            let of_it = owned.iter().copied().filter(|partition| unit(self.scope, *partition) == taking);
            taken.extend(of_it.map(|partition| (partition, target)));
        }
        self.revoke(id, &taken);
        true
    }

    /// Moves these partitions of a member to one other.
    pub fn move_these(&mut self, id: MemberId, partitions: &[u16], rng: &mut Rng) -> bool {
        let others: Vec<MemberId> = self.members.keys().copied().filter(|m| *m != id).collect();
        if others.is_empty() || partitions.iter().any(|p| self.owner(*p) != Some(id)) {
            return false;
        }
        let target = *rng.pick(&others);
        let taken: Vec<(u16, MemberId)> = self.whole(partitions).into_iter().map(|p| (p, target)).collect();
        self.revoke(id, &taken);
        true
    }

    fn revoke(&mut self, id: MemberId, taken: &[(u16, MemberId)]) {
        for (partition, target) in taken {
            if let Some(seat) = self.seats.get_mut(partition) {
                (seat.target, seat.revoking) = (Some(*target), true);
            }
        }
        self.generation += 1;
        self.tell(id, GroupEvent::Revoked(taken.iter().map(|t| t.0).collect()));
    }

    /// A member gave partitions up.
    pub fn unassigned(&mut self, id: MemberId, partitions: &[u16], rng: &mut Rng) {
        for partition in partitions {
            if let Some(seat) = self.seats.get_mut(partition)
                && seat.owner == Some(id)
            {
                (seat.owner, seat.revoking) = (None, false);
            }
        }
        self.seat_the_free(rng);
    }

    fn tell(&mut self, id: MemberId, event: GroupEvent) {
        if let Some(member) = self.members.get_mut(&id) {
            member.events.push_back(event);
        }
    }

    /// Members changed: everybody keeps what is its share, the rest moves.
    fn rebalance(&mut self, rng: &mut Rng) {
        self.generation += 1;
        let mut share: BTreeMap<MemberId, usize> = self.members.keys().map(|id| (*id, 0)).collect();
        if share.is_empty() {
            self.revoke_misplaced();
            return;
        }
        if self.scope == Scope::Inputs {
            return self.assign_anew(rng);
        }
        let most = self.seats.len().div_ceil(share.len());
        for seat in self.seats.values_mut() {
            let keeper = seat.owner.filter(|_| !seat.revoking);
            seat.target = keeper.filter(|o| share.get(o).is_some_and(|n| *n < most));
            if let Some(count) = seat.target.and_then(|t| share.get_mut(&t)) {
                *count += 1;
            }
        }
        for seat in self.seats.values_mut().filter(|s| s.target.is_none()) {
            let least = share.values().copied().min().unwrap_or(0);
            let free: Vec<MemberId> = share.iter().filter(|(_, n)| **n == least).map(|(m, _)| *m).collect();
            let target = *rng.pick(&free);
            seat.target = Some(target);
            *share.entry(target).or_default() += 1;
        }
        self.revoke_misplaced();
        self.seat_the_free(rng);
    }

    /// Everybody gives up all, and gets the same numbers of all inputs.
    fn assign_anew(&mut self, rng: &mut Rng) {
        let members: Vec<MemberId> = self.members.keys().copied().collect();
        let first = rng.index(members.len());
        let scope = self.scope;
        for (partition, seat) in &mut self.seats {
            let unit = unit(scope, *partition);
            seat.target = Some(members[(first + usize::from(unit)) % members.len()]);
        }
        let mut taken: BTreeMap<MemberId, Vec<u16>> = BTreeMap::new();
        for (partition, seat) in &mut self.seats {
            if let Some(owner) = seat.owner.filter(|_| !seat.revoking) {
                seat.revoking = true;
                taken.entry(owner).or_default().push(*partition);
            }
        }
        for (owner, partitions) in taken {
            self.tell(owner, GroupEvent::Revoked(partitions));
        }
        self.seat_the_free(rng);
    }

    fn revoke_misplaced(&mut self) {
        let mut taken: BTreeMap<MemberId, Vec<u16>> = BTreeMap::new();
        for (partition, seat) in &mut self.seats {
            let Some(owner) = seat.owner else { continue };
            if !seat.revoking && seat.target != Some(owner) {
                seat.revoking = true;
                taken.entry(owner).or_default().push(*partition);
            }
        }
        for (owner, partitions) in taken {
            self.tell(owner, GroupEvent::Revoked(partitions));
        }
    }

    /// Gives free partitions to whom they are meant for.
    fn seat_the_free(&mut self, rng: &mut Rng) {
        let able: Vec<MemberId> = self.members.keys().copied().collect();
        if able.is_empty() {
            return;
        }
        let mut given: BTreeMap<MemberId, Vec<u16>> = BTreeMap::new();
        let scope = self.scope;
        let mut chosen: BTreeMap<u16, MemberId> = BTreeMap::new();
        for (partition, seat) in self.seats.iter_mut().filter(|(_, s)| s.owner.is_none()) {
            let unit = unit(scope, *partition);
            let target = seat.target.filter(|t| able.contains(t));
            let target = target.unwrap_or_else(|| *chosen.entry(unit).or_insert_with(|| *rng.pick(&able)));
            *seat = Seat { owner: Some(target), revoking: false, target: Some(target) };
            given.entry(target).or_default().push(*partition);
        }
        if given.is_empty() {
            return;
        }
        self.generation += 1;
        for (member, partitions) in given {
            self.tell(member, GroupEvent::Assigned(partitions));
        }
    }

    /// Stores a commit, if the member is of the present generation.
    pub fn may_commit(&self, id: MemberId, generation: u32) -> bool {
        self.members.contains_key(&id) && generation == self.generation
    }

    /// What stands for a partition.
    #[must_use]
    pub fn committed(&self, partition: u16) -> Option<&Committed> {
        self.committed.get(&partition)
    }

    /// Puts down an offset.
    pub fn store(&mut self, partition: u16, committed: Committed) {
        self.committed.insert(partition, committed);
    }

    /// The owner of a partition.
    #[must_use]
    pub fn owner(&self, partition: u16) -> Option<MemberId> {
        self.seats.get(&partition).and_then(|s| s.owner)
    }

    /// Partitions that bystanders own have nobody who works on them: they answer at once.
    pub fn serve_bystanders(&mut self, rng: &mut Rng) {
        let bystanders: Vec<MemberId> =
            self.members.iter().filter(|(_, m)| m.bystander && !m.events.is_empty()).map(|(id, _)| *id).collect();
        for id in bystanders {
            while let Some(event) = self.poll(id, true) {
                if let GroupEvent::Revoked(partitions) = event {
                    self.unassigned(id, &partitions, rng);
                }
            }
        }
    }
}
