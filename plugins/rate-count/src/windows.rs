//! Counts in windows that follow each other without gap or overlap, by the messages' own time.

use std::collections::{BTreeMap, HashMap, VecDeque};

/// Bytes of a group's name that are told apart.
const NAME_BYTES: usize = 256;

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Group {
    Named(Vec<u8>),
    /// Messages without such a key, header or field.
    None,
    /// All groups that found no room.
    Others,
}

impl Group {
    pub(crate) fn named(mut bytes: Vec<u8>) -> Self {
        bytes.truncate(NAME_BYTES);
        Group::Named(bytes)
    }
}

/// What a closed window counted of one group, in one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) group: Group,
    pub(crate) topic: String,
    pub(crate) partition: u32,
    pub(crate) from_ms: i64,
    pub(crate) to_ms: i64,
    pub(crate) count: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counted {
    Yes,
    /// Its window is closed.
    Late,
    /// Its time lies too far in the future to be true.
    Ahead,
    /// There are too many windows and groups already.
    NoRoom,
}

pub(crate) struct Windows {
    window_ms: i64,
    grace_ms: i64,
    ahead_ms: i64,
    most_groups: usize,
    groups: usize,
    /// Partitions run apart from each other in time, so each has a clock of its own.
    partitions: HashMap<Source, Partition>,
}

/// A topic's index and a partition's number.
pub(crate) type Source = (u32, u32);

struct Partition {
    topic: String,
    /// The latest time of a message.
    latest_ms: i64,
    /// Windows that end by then are closed.
    closed_to_ms: i64,
    open: BTreeMap<i64, BTreeMap<Group, u64>>,
}

impl Windows {
    pub(crate) fn new(window_ms: u64, grace_ms: u64, ahead_ms: u64, most_groups: usize) -> Self {
        let signed = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
        Windows {
            window_ms: signed(window_ms).max(1),
            grace_ms: signed(grace_ms),
            ahead_ms: signed(ahead_ms),
            most_groups,
            groups: 0,
            partitions: HashMap::new(),
        }
    }

    /// Counts a message of this time.
    pub(crate) fn count(&mut self, source: Source, topic: &str, time_ms: i64, now_ms: i64, group: Group) -> Counted {
        if time_ms > now_ms.saturating_add(self.ahead_ms) {
            return Counted::Ahead;
        }
        let from_ms = time_ms.div_euclid(self.window_ms).saturating_mul(self.window_ms);
        let partition = self.partitions.entry(source).or_insert_with(|| Partition {
            topic: topic.to_owned(),
            latest_ms: i64::MIN,
            closed_to_ms: i64::MIN,
            open: BTreeMap::new(),
        });
        if from_ms.saturating_add(self.window_ms) <= partition.closed_to_ms {
            return Counted::Late;
        }
        partition.latest_ms = partition.latest_ms.max(time_ms);
        let window = partition.open.get(&from_ms);
        let has = |group: &Group| window.is_some_and(|window| window.contains_key(group));
        let group = if self.groups < self.most_groups || has(&group) { group } else { Group::Others };
        let is_new = !has(&group);
        if is_new && self.groups >= self.most_groups * 2 {
            return Counted::NoRoom;
        }
        self.groups += usize::from(is_new);
        *partition.open.entry(from_ms).or_default().entry(group).or_insert(0) += 1;
        Counted::Yes
    }

    /// Takes out the windows of this partition that no message can fall into any more, unless too much waits already.
    pub(crate) fn close(&mut self, source: Source, closed: &mut VecDeque<Summary>) {
        let Some(partition) = self.partitions.get_mut(&source) else { return };
        let until_ms = partition.latest_ms.saturating_sub(self.grace_ms);
        while closed.len() < self.most_groups
            && let Some(window) = partition.open.first_entry()
        {
            let (from_ms, to_ms) = (*window.key(), window.key().saturating_add(self.window_ms));
            if to_ms > until_ms {
                break;
            }
            partition.closed_to_ms = to_ms;
            for (group, count) in window.remove() {
                self.groups = self.groups.saturating_sub(1);
                let topic = partition.topic.clone();
                closed.push_back(Summary { group, topic, partition: source.1, from_ms, to_ms, count });
            }
        }
    }

    /// Counts that are kept now.
    pub(crate) fn groups(&self) -> usize {
        self.groups
    }
}
