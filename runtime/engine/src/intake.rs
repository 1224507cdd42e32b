//! The consumer thread's decisions: where a partition starts, which records it skips, and where the others go.

use crate::message::{Epoch, Message, Partition, Reason, Ticket};
use crate::metadata::{Kept, Metadata, Unusable};
use crate::order::{self, Papers, Router};
use crate::planted::Bug;
use crate::policy::Policy;
use crate::ranges::Ranges;
use crate::shard::NOTHING_SEEN;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// After an unclean stop so many unsettled messages of a partition run alone: more than ran at the same time.
const CAREFUL_FIRST: u32 = 1_000;
/// And at most so many, when it happens over and over.
const CAREFUL_MOST: u32 = 128_000;

/// Where a group without a commit starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// At the first record there is.
    Earliest,
    /// At the end; partitions that come later start at their beginning.
    Latest,
}

/// What the broker says of a partition that is about to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found<'a> {
    /// The group's committed offset; `None` is not offset 0.
    pub committed: Option<i64>,
    /// The metadata of that commit.
    pub metadata: &'a str,
    /// First offset in the log.
    pub log_start: i64,
    /// One past the last offset in the log.
    pub log_end: i64,
    /// How many partitions the topic had when the group first started, if any commit of the group tells.
    pub known_partitions: Option<u32>,
    /// How many partitions the topic has.
    pub partitions: u32,
    /// Which log it is; see [`Metadata::log`].
    pub log: u64,
}

/// How a partition starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// The assignment's epoch.
    pub epoch: Epoch,
    /// First offset to read.
    pub start: i64,
    /// One past the last offset in the log then; of no meaning for a rewind.
    pub log_end: i64,
    /// Settled already, above `start`.
    pub settled: Ranges,
    /// The sequence number of the commit it goes on from.
    pub sequence: u64,
    /// Goes into the metadata of its commits.
    pub partitions: u32,
    /// And this; see [`Metadata::log`].
    pub log: u64,
    /// And this.
    pub kept: Kept,
    /// What was committed is of an earlier topic of this name: it says nothing of this one, which starts at its beginning.
    /// What the group had not read of that one is lost, and nobody knows how much that is.
    pub anew: bool,
    /// Nothing was committed before, or what was is gone from the log: the start itself must be, so that it stays, and no
    /// loss is told twice.
    pub fresh: bool,
    /// Offsets `.0..1` that the group had not read and that are gone, or that it had read and that came anew.
    pub loss: Option<(i64, i64)>,
    /// The metadata could not be used, and why.
    pub unusable: Option<Unusable>,
    /// What runs alone first.
    pub careful: Careful,
    /// The last commit does not say that the partition is held, and how: it must be said before something runs.
    pub unmarked: bool,
}

/// After an unclean stop: what may have been running then runs one by one, so that a message that brings the process
/// down does not take others along for ever. The default is nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Careful {
    /// How many messages at most.
    pub messages: u32,
    /// Messages below this offset run alone.
    pub below: i64,
}

impl Careful {
    /// `held` is what the last commit says. A process that died before it had come through what was to run alone makes
    /// that twice as much: the message that killed it came later, and no commit told how far it was.
    fn after(held: Option<u32>, start: i64, settled: &Ranges, log_end: i64) -> Self {
        let messages = match held {
            None => return Self::default(),
            Some(0) => CAREFUL_FIRST,
            Some(before) => before.saturating_mul(2).min(CAREFUL_MOST),
        };
        let mut below = start.saturating_add(i64::from(messages));
        for (from, to) in settled.iter().take_while(|(from, _)| *from < log_end) {
            if from >= below {
                break;
            }
            below = below.saturating_add(to - from);
        }
        // What came later was not running.
        let below = below.min(log_end);
        if below > start { Self { messages, below } } else { Self::default() }
    }
}

impl Opened {
    /// For [`Shard::open`](crate::shard::Shard::open), when the partition starts anew within its ownership: what was seen
    /// below this offset is done. What was lost before it could be read again is not, though the start lies above it.
    #[must_use]
    pub fn seen_below(&self) -> i64 {
        if self.anew {
            return NOTHING_SEEN;
        }
        self.loss.map_or(self.start, |(from, _)| from.min(self.start))
    }
}

/// What becomes of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Take {
    /// Not of a present assignment, or below its position: drop it, tell nobody.
    Stale,
    /// Settled in an earlier assignment: it counts as received and goes nowhere.
    Settled,
    /// To this shard.
    Route {
        /// Which shard.
        shard: u32,
        /// Its papers.
        ticket: Ticket,
    },
}

#[derive(Debug)]
struct Feed {
    epoch: Epoch,
    next: i64,
    skip: Ranges,
    alone_below: i64,
}

/// Routes records of the partitions that this process is assigned.
#[derive(Debug)]
pub struct Intake {
    policy: Policy,
    shards: u32,
    router: Router,
    feeds: BTreeMap<Partition, Feed>,
    /// The present epoch of each task.
    tasks: BTreeMap<Partition, Epoch>,
    /// See [`Intake::condemn`].
    condemned: BTreeMap<Partition, Vec<i64>>,
    last_epoch: u64,
}

impl Intake {
    /// Routes to `shards` shards (at least one); `seed` makes lanes unforeseeable for those who choose keys.
    #[must_use]
    pub fn new(policy: Policy, shards: u32, seed: u64) -> Self {
        let (shards, router) = (shards.max(1), Router::new(policy.clone(), seed));
        let (feeds, tasks, condemned) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { policy, shards, router, feeds, tasks, condemned, last_epoch: 0 }
    }

    /// Starts a partition that the group assigned. Where tasks span inputs, all partitions of its task are started with it.
    pub fn open(&mut self, partition: Partition, found: &Found<'_>, from: From) -> Opened {
        // Also where it claims more than this log holds.
        let before =
            found.committed.and_then(|at| Metadata::decode(found.metadata, at, i64::MAX).ok()).unwrap_or_default();
        let anew = before.log != 0 && found.log != 0 && before.log != found.log;
        if anew {
            self.condemned.remove(&partition);
            let bare = Found { committed: None, metadata: "", known_partitions: None, ..*found };
            // Its internal topics are those of before.
            return Opened { anew, kept: before.kept, ..self.open(partition, &bare, From::Earliest) };
        }
        let (metadata, unusable) = match found.committed {
            Some(offset) => match Metadata::decode(found.metadata, offset, found.log_end) {
                Ok(metadata) => (metadata, None),
                Err(why) => (Metadata::default(), Some(why)),
            },
            None => (Metadata::default(), None),
        };
        let (start, loss) = self.start(partition, found, from);
        // What lies below the start is out of reach; where the log begins anew, the map is of another log.
        let mut settled = if loss.is_some_and(|l| l.1 != start) { Ranges::new() } else { metadata.settled };
        settled.forget_below(start);
        let known = found.known_partitions.unwrap_or(found.partitions);
        let partitions = if metadata.partitions == 0 { known } else { metadata.partitions };
        let careful = Careful::after(metadata.held, start, &settled, found.log_end);
        let epoch = self.begin(partition, start, settled.clone(), careful.below);
        let fresh = found.committed.is_none() || loss.is_some();
        let unmarked = metadata.held != Some(careful.messages);
        Opened {
            epoch,
            start,
            log_end: found.log_end,
            settled,
            sequence: metadata.sequence,
            partitions,
            log: found.log,
            kept: metadata.kept,
            anew: false,
            fresh,
            loss,
            unusable,
            careful,
            unmarked,
        }
    }

    fn start(&self, partition: Partition, found: &Found<'_>, from: From) -> (i64, Option<(i64, i64)>) {
        match found.committed {
            // Retention or deletion took what had not been read.
            Some(offset) if offset < found.log_start => (found.log_start, Some((offset, found.log_start))),
            // The log was cut or made anew. Which of both can't be told, so nothing may be passed over.
            Some(offset) if offset > found.log_end => (found.log_start, Some((found.log_end, offset))),
            Some(offset) => (offset, None),
            None if self.policy.has(Bug::StartOneLate) => (found.log_end.min(found.log_start + 1), None),
            None => {
                let number = u32::try_from(partition.number).unwrap_or(0);
                let later = found.known_partitions.is_some_and(|known| number >= known);
                let at_end = from == From::Latest && !later;
                (if at_end { found.log_end } else { found.log_start }, None)
            }
        }
    }

    /// Starts a partition anew from `start`, within the same ownership: what is under way belongs to the past. What it
    /// gives tells where it starts and nothing of a commit: the ledger goes on with what it knows.
    pub fn rewind(&mut self, partition: Partition, start: i64, settled: Ranges) -> Opened {
        let alone_below = self.feeds.get(&partition).map_or(0, |feed| feed.alone_below);
        let epoch = self.begin(partition, start, settled.clone(), alone_below);
        Opened {
            epoch,
            start,
            log_end: start,
            settled,
            sequence: 0,
            partitions: 0,
            log: 0,
            kept: Kept::default(),
            anew: false,
            fresh: false,
            loss: None,
            unusable: None,
            careful: Careful::default(),
            unmarked: false,
        }
    }

    /// Starts a partition anew, within the same ownership, from what is committed now, whoever knows what came of the
    /// last transaction. Where nothing is, it starts from `first`, where it started before.
    pub fn reopen(&mut self, partition: Partition, found: &Found<'_>, first: i64) -> Opened {
        let before = self.feeds.get(&partition).map(|feed| feed.alone_below);
        let known = if self.policy.has(Bug::ReopenFromMemory) { None } else { found.committed };
        let mut opened = self.open(partition, &Found { committed: known.or(Some(first)), ..*found }, From::Earliest);
        opened.fresh |= known.is_none();
        // The last commit may say that nobody holds it: the one that would have said otherwise was given up.
        opened.unmarked &= opened.careful.messages == 0;
        // This process has been there all the time: what ran did not bring it down.
        opened.careful = Careful::default();
        if let Some(feed) = self.feeds.get_mut(&partition) {
            feed.alone_below = before.unwrap_or(0);
        }
        opened
    }

    /// The partitions of a task start one after the other, all of them each time: the first one begins a new epoch, the others
    /// join it.
    fn begin(&mut self, partition: Partition, start: i64, skip: Ranges, alone_below: i64) -> Epoch {
        let before = self.feeds.get(&partition).map(|feed| feed.epoch);
        let last_epoch = &mut self.last_epoch;
        let mut next = || {
            *last_epoch += 1;
            Epoch(*last_epoch)
        };
        let present = self.tasks.entry(self.policy.order.task(partition)).or_insert_with(&mut next);
        if before == Some(*present) {
            *present = next();
        }
        let epoch = *present;
        self.feeds.insert(partition, Feed { epoch, next: start, skip, alone_below });
        epoch
    }

    /// What the messages at these offsets send will never be taken: when they come again they don't run, since what they
    /// would change of their key's state must not be seen by those behind them. In ascending order; replaces what was condemned
    /// before.
    pub fn condemn(&mut self, partition: Partition, offsets: Vec<i64>) {
        if self.feeds.contains_key(&partition) {
            self.condemned.insert(partition, offsets);
        }
    }

    /// What was condemned of a partition.
    #[must_use]
    pub fn condemned(&self, partition: Partition) -> &[i64] {
        self.condemned.get(&partition).map_or(&[], Vec::as_slice)
    }

    /// Forgets a partition: it was revoked or lost.
    pub fn close(&mut self, partition: Partition) {
        self.tasks.remove(&self.policy.order.task(partition));
        self.condemned.remove(&partition);
        self.feeds.remove(&partition);
    }

    /// The partitions that are open, with their epochs.
    #[must_use]
    pub fn open_partitions(&self) -> Vec<(Partition, Epoch)> {
        self.feeds.iter().map(|(p, f)| (*p, f.epoch)).collect()
    }

    /// The present epoch of a partition.
    #[must_use]
    pub fn epoch(&self, partition: Partition) -> Option<Epoch> {
        self.feeds.get(&partition).map(|f| f.epoch)
    }

    /// The next offset that is expected of a partition.
    #[must_use]
    pub fn position(&self, partition: Partition) -> Option<i64> {
        self.feeds.get(&partition).map(|f| f.next)
    }

    /// Decides what becomes of a record.
    pub fn take<M: Message>(&mut self, partition: Partition, offset: i64, message: &M) -> Take {
        let Some(feed) = self.feeds.get_mut(&partition) else { return Take::Stale };
        if offset < feed.next {
            return Take::Stale;
        }
        feed.next = offset + 1;
        let settled = feed.skip.contains(offset)
            || self.policy.has(Bug::SkipOneTooMany) && offset > 0 && feed.skip.contains(offset - 1);
        if settled {
            return Take::Settled;
        }
        let (epoch, alone) = (feed.epoch, offset < feed.alone_below);
        let Papers { lane, id, refused } = self.router.papers(partition, offset, message);
        let condemned = self.condemned.get(&partition).is_some_and(|all| all.binary_search(&offset).is_ok());
        let refused = if condemned { Some(Reason::Undeliverable) } else { refused };
        let shared = self.policy.order.task(partition) != partition;
        let size = u32::try_from(message.size()).unwrap_or(u32::MAX);
        let timestamp_ms = message.timestamp_ms();
        let ticket =
            Ticket { partition, offset, shared, epoch, lane, id, refused, alone, parked: 0, size, timestamp_ms };
        Take::Route { shard: order::shard_of(lane, self.shards), ticket }
    }
}

#[cfg(test)]
mod tests;
