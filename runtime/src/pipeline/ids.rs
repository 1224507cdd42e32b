//! The seen ids of partitions: read before a partition runs, asked by shards, added to by the committer once they are
//! committed.

use super::clock::wall_ms;
use super::kept::Shelf;
use super::link::to_broker;
use super::restore::{Failed, Fill};
use super::{SeenIds, Trouble};
use crate::admin::metrics::PipelineMetrics;
use crate::record::{Record, TopicPartition};
use keyrail_engine::message::{MessageId, Now, Partition};
use keyrail_engine::seen;
use keyrail_store::{DiskSeen, Error, Id, Identity, Opened, SeenIndex as _, Stats};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Whoever had an index open lets go of it within this time, or is in a call that takes long.
pub(super) const LETTING_GO: Duration = Duration::from_secs(2);
pub(super) const PAUSE: Duration = Duration::from_millis(20);

/// Where the ids of a pipeline's partitions lie.
pub(super) struct Place {
    pub(super) disk: SeenIds,
    pub(super) group: String,
    /// The input topics.
    pub(super) inputs: Vec<String>,
    /// The topic of seen ids of each.
    pub(super) topics: Vec<String>,
    /// For how long an id counts.
    pub(super) window_ms: u64,
}

impl Place {
    /// The topic of seen ids.
    fn topic(&self, at: TopicPartition) -> &str {
        self.topics.get(at.topic as usize).map_or("?", String::as_str)
    }

    /// A folder for each partition. Neither a group nor a topic holds a `/`, and the letter before it keeps `..` out.
    fn folder(&self, at: TopicPartition, log: u64) -> (PathBuf, Identity) {
        let topic = self.inputs.get(at.topic as usize).cloned().unwrap_or_default();
        let folder = self.disk.dir.join(format!("g-{}", self.group)).join(format!("t-{topic}"));
        let (group, partition, window_ms) = (self.group.clone(), at.partition, self.window_ms);
        (folder.join(partition.to_string()), Identity { group, topic, partition, log, window_ms })
    }
}

/// The ids of one partition. One thread at a time adds to it: whoever restores it, and then the committer.
pub(super) struct Known {
    place: Arc<Place>,
    at: TopicPartition,
    /// Opened by who restores it: it takes a while.
    index: OnceLock<DiskSeen>,
    /// Why nothing may be concluded from it any more.
    broken: OnceLock<String>,
    /// What was last told of it.
    shown: Mutex<Stats>,
}

impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Known").field("at", &self.at).finish_non_exhaustive()
    }
}

impl Known {
    fn new(place: Arc<Place>, at: TopicPartition) -> Self {
        Self { place, at, index: OnceLock::new(), broken: OnceLock::new(), shown: Mutex::default() }
    }

    /// Ids are committed now.
    pub(super) fn add(&self, ids: &[MessageId], time_ms: i64) -> Result<(), Trouble> {
        let index = self.index()?;
        let ids: Vec<Id> = ids.iter().map(|id| id.0).collect();
        // Where they stand in the topic is not known here; what is said of the position stays true.
        let position = index.position().unwrap_or(0);
        Ok(index.insert(&ids, past(time_ms), position).map_err(failed)?)
    }

    fn index(&self) -> Result<&DiskSeen, Failed> {
        self.index.get().ok_or_else(|| Failed::Again("the index of seen ids is not open".to_owned()))
    }

    /// Why nothing may be concluded from it any more.
    pub(super) fn broken(&self) -> Option<&String> {
        self.broken.get()
    }

    pub(super) fn contains(&self, id: MessageId, now: Now) -> bool {
        let oldest_ms = now.wall_ms.saturating_sub_unsigned(self.place.window_ms);
        let found = self.index().map(|index| index.contains(&id.0, oldest_ms).map_err(failed));
        found.and_then(|found| found).unwrap_or_else(|error| {
            // Nothing of what follows from it is acted upon.
            let (Failed::Again(why) | Failed::Operator(why)) = error;
            let _told = self.broken.set(why);
            false
        })
    }

    /// Opens the folder. One of before may be about to let go of it.
    fn opened(&self, folder: &Path, identity: &Identity) -> Result<Opened, Failed> {
        let until = Instant::now() + LETTING_GO;
        loop {
            match self.place.disk.store.open(folder, identity, wall_ms()) {
                Err(Error::Unusable { .. }) if Instant::now() < until => std::thread::sleep(PAUSE),
                other => return other.map_err(failed),
            }
        }
    }

    /// Opens the index, which is empty where `end` says that it is of another log.
    fn open(&self, log: u64, end: i64) -> Result<DiskSeen, Failed> {
        let (folder, identity) = self.place.folder(self.at, log);
        let opened = self.opened(&folder, &identity)?;
        if let Some(why) = opened.rebuilt {
            let folder = folder.display();
            tracing::warn!(%folder, why, "an index of seen ids can't be used, and is read anew from its topic");
        }
        match opened.index.position() {
            Some(position) if position > end => {
                let (topic, partition) = (self.place.topic(self.at), identity.partition);
                tracing::warn!(
                    topic,
                    partition,
                    position,
                    end,
                    "the topic of seen ids is another one: all of it is read"
                );
                drop(opened.index);
                self.place.disk.store.wipe(&folder).map_err(failed)?;
                Ok(self.opened(&folder, &identity)?.index)
            }
            _ => Ok(opened.index),
        }
    }

    /// Tells of itself anew.
    fn show(&self, metrics: &PipelineMetrics, all: &mut Stats) {
        let Some(index) = self.index.get() else { return };
        let now = index.stats();
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        metrics.seen_lookups.add(now.lookups.saturating_sub(shown.lookups));
        metrics.seen_false_positives.add(now.false_positives.saturating_sub(shown.false_positives));
        all.ids += now.ids;
        all.memory_bytes += now.memory_bytes;
        all.disk_bytes += now.disk_bytes;
        if let (Some(why), None) = (&now.failing, &shown.failing) {
            tracing::warn!(why, "seen ids can't be written to the disk of this machine; they are in memory for now");
        }
        *shown = now;
    }
}

/// A clock that ran ahead must not make ids count for longer than their window.
fn past(time_ms: i64) -> i64 {
    time_ms.min(wall_ms())
}

/// When the broker wrote a record: its clock judges that of who made it. Where it does not say, nobody does.
fn written_ms(record: &Record) -> i64 {
    if record.timestamp_ms > 0 { record.timestamp_ms } else { i64::MAX }
}

/// What an index's failure comes to.
fn failed(error: Error) -> Failed {
    // A disk that is full, was read wrong, or gives no rights may be mended: it is tried again until it is.
    Failed::Again(format!("seen ids: {error}"))
}

impl Fill for Known {
    fn position(&self, log: u64, end: i64) -> Result<Option<i64>, Failed> {
        if self.index.get().is_none() {
            // Nobody else opens it.
            let _ours = self.index.set(self.open(log, end)?);
        }
        // Where a broker can't tell, it says nothing against what is known.
        let known = self.index()?.identity().log;
        if known != log && known != 0 && log != 0 {
            return Err(Failed::Again("a topic of seen ids was deleted and made anew".to_owned()));
        }
        match self.index()?.position() {
            Some(position) if position > end => {
                let (topic, partition) = (self.place.topic(self.at), self.at.partition);
                Err(Failed::Again(format!(
                    "{topic}/{partition} ends at {end}, before what was read of it ({position})"
                )))
            }
            position => Ok(position),
        }
    }

    fn take(&self, record: &Record) -> Result<u64, Failed> {
        let (partition, offset) = (record.at.partition, record.offset);
        let unusable = |why: String| {
            let topic = self.place.topic(self.at);
            Failed::Operator(format!(
                "{topic}/{partition}, a topic of seen ids, holds at offset {offset} what Keyrail did not write ({why}): delete \
                 the topic to forget its ids, and the next start makes it anew and names the command that accepts that; nobody else \
                 may write to it"
            ))
        };
        let value = record.value().ok_or_else(|| unusable("a record without a value".to_owned()))?;
        match seen::Entry::decode(value).map_err(|why| unusable(why.to_string()))? {
            seen::Entry::Seen(seen) => {
                let ids: Vec<Id> = seen.ids().map(|id| id.0).collect();
                self.index()?.insert(&ids, seen.time_ms.min(written_ms(record)), offset + 1).map_err(failed)?;
                Ok(ids.len() as u64)
            }
            seen::Entry::Forget { .. } => {
                self.index()?.forget(offset + 1).map_err(failed)?;
                Ok(0)
            }
        }
    }

    fn reach(&self, position: i64) -> Result<(), Failed> {
        self.index()?.insert(&[], 0, position).map_err(failed)
    }
}

impl From<Failed> for Trouble {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Again(why) => Self::Again(why),
            Failed::Operator(why) => Self::Operator(why),
        }
    }
}

/// The ids of all partitions that the consumer thread has.
pub(super) struct Ids {
    place: Arc<Place>,
    pub(super) shelf: Shelf<Known>,
    metrics: Arc<PipelineMetrics>,
}

impl Ids {
    pub(super) fn new(place: Place, metrics: Arc<PipelineMetrics>) -> Self {
        Self { place: Arc::new(place), shelf: Shelf::new(), metrics }
    }

    pub(super) fn take(&mut self, partition: Partition) -> Arc<Known> {
        self.shelf.take(partition, || Known::new(self.place.clone(), to_broker(partition)))
    }

    pub(super) fn show(&self) {
        let mut all = Stats::default();
        self.shelf.all().for_each(|(_, known)| known.show(&self.metrics, &mut all));
        self.metrics.seen_ids.set(all.ids);
        self.metrics.seen_memory_bytes.set(all.memory_bytes);
        self.metrics.seen_disk_bytes.set(all.disk_bytes);
    }
}

impl Drop for Ids {
    fn drop(&mut self) {
        // What is on disk need not be read again at the next start. It is little, or was written before.
        for (partition, known) in self.shelf.all() {
            let Some(index) = known.index.get() else { continue };
            if let Err(error) = index.flush() {
                tracing::warn!(topic = partition.topic, partition = partition.number, %error, "seen ids are not on disk");
            }
        }
        self.show();
    }
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail by panicking")]

    use super::*;
    use crate::pipeline::kept::{Kept, Memory};
    use crate::record::RecordBuilder;
    use keyrail_engine::dedup::Past as _;
    use keyrail_engine::message::Epoch;
    use keyrail_store::{Options, Store};

    const AT: TopicPartition = TopicPartition { topic: 0, partition: 3 };
    const PARTITION: Partition = Partition { topic: 0, number: 3 };

    /// A folder for indexes, which is removed in the end.
    pub(in crate::pipeline) struct Disk(PathBuf);

    impl Disk {
        pub(in crate::pipeline) fn new(name: &str) -> Self {
            Self(std::env::temp_dir().join(format!("keyrail-ids-{}-{name}", std::process::id())))
        }

        pub(in crate::pipeline) fn place(&self) -> Place {
            let store = Arc::new(Store::start(Options::default()).unwrap());
            let disk = SeenIds { store, dir: self.0.clone() };
            Place {
                disk,
                group: "..".to_owned(),
                inputs: vec!["in".to_owned()],
                topics: vec!["g.in.seen".to_owned()],
                window_ms: 1_000,
            }
        }
    }

    impl Drop for Disk {
        fn drop(&mut self) {
            drop(std::fs::remove_dir_all(&self.0));
        }
    }

    fn record(value: Option<&[u8]>, offset: i64) -> Record {
        RecordBuilder::new(None, value).build(AT, offset, 0)
    }

    fn known(disk: &Disk) -> Arc<Known> {
        let known = Known::new(Arc::new(disk.place()), AT);
        known.position(7, 100).unwrap();
        Arc::new(known)
    }

    #[test]
    fn what_is_read_and_what_is_committed_is_known_for_the_window() {
        let disk = Disk::new("known");
        let (known, mut memory) = (known(&disk), Memory::default());
        let kept = Kept { ids: Some(known.clone()), ..Kept::default() };
        memory.open(PARTITION, Epoch(1), kept.clone());
        let (first, second) = (MessageId([1; 16]), MessageId([2; 16]));
        assert_eq!(known.take(&record(Some(&seen::encode(5_000, &[first])), 7)), Ok(1));
        assert_eq!(known.position(7, 100), Ok(Some(8)));
        let at = |wall_ms| Now { wall_ms, steady_ms: 0 };
        known.add(&[second], 5_500).unwrap();
        assert_eq!(known.position(7, 100), Ok(Some(8)), "nobody said where it stands");
        known.reach(12).unwrap();
        assert_eq!(known.position(7, 100), Ok(Some(12)));
        assert!(memory.contains(PARTITION, first, at(6_000)) && memory.contains(PARTITION, second, at(6_500)));
        assert!(!memory.contains(PARTITION, first, at(6_001)), "its window is over");
        memory.open(PARTITION, Epoch(3), kept.clone());
        memory.close(PARTITION, Epoch(2));
        assert!(memory.contains(PARTITION, second, at(5_500)), "of an earlier epoch");
        memory.close(PARTITION, Epoch(4));
        memory.open(PARTITION, Epoch(4), kept);
        assert!(!memory.contains(PARTITION, second, at(5_500)));
    }

    #[test]
    fn an_order_to_forget_is_obeyed() {
        let disk = Disk::new("forget");
        let (known, now) = (known(&disk), Now { wall_ms: 5_000, steady_ms: 0 });
        let (first, second) = (MessageId([1; 16]), MessageId([2; 16]));
        known.take(&record(Some(&seen::encode(5_000, &[first])), 7)).unwrap();
        assert_eq!(known.take(&record(Some(&seen::forget(5_001)), 8)), Ok(0));
        known.take(&record(Some(&seen::encode(5_000, &[second])), 9)).unwrap();
        assert!(!known.contains(first, now) && known.contains(second, now));
        assert_eq!(known.position(7, 100), Ok(Some(10)));
    }

    #[test]
    fn what_nobody_but_keyrail_may_write_is_a_person_s() {
        let disk = Disk::new("foreign");
        let known = known(&disk);
        for value in [None, Some(b"KRS2".as_slice()), Some(b"KRS1\0\0\0\0\0\0\0\0short")] {
            let Err(Failed::Operator(why)) = known.take(&record(value, 7)) else { panic!("{value:?}") };
            assert!(why.contains("g.in.seen/3") && why.contains("offset 7"), "{why}");
        }
    }

    #[test]
    fn an_index_of_another_topic_of_the_same_name_counts_for_nothing() {
        let disk = Disk::new("another");
        let now = Now { wall_ms: wall_ms(), steady_ms: 0 };
        let id = MessageId([1; 16]);
        let first = Known::new(Arc::new(disk.place()), AT);
        assert_eq!(first.position(7, 9), Ok(None));
        first.take(&record(Some(&seen::encode(now.wall_ms, &[id])), 7)).unwrap();
        first.index().unwrap().flush().unwrap();
        let Err(Failed::Again(why)) = first.position(8, 9) else { panic!("it is another one") };
        assert!(why.contains("made anew"), "{why}");
        drop(first);
        let again = Known::new(Arc::new(disk.place()), AT);
        assert_eq!(again.position(8, 20), Ok(None), "longer than what was read of the other");
        assert!(!again.contains(id, now));
    }

    #[test]
    fn an_index_that_is_further_than_its_topic_begins_anew() {
        let disk = Disk::new("further");
        let now = Now { wall_ms: wall_ms(), steady_ms: 0 };
        let first = Known::new(Arc::new(disk.place()), AT);
        assert_eq!(first.position(7, 9), Ok(None));
        let id = MessageId([1; 16]);
        first.take(&record(Some(&seen::encode(now.wall_ms, &[id])), 7)).unwrap();
        assert!(first.contains(id, now));
        let Err(Failed::Again(why)) = first.position(7, 7) else { panic!("it is of another log") };
        assert!(why.contains("ends at 7"), "{why}");
        first.index().unwrap().flush().unwrap();
        drop(first);
        let again = Known::new(Arc::new(disk.place()), AT);
        assert_eq!(again.position(7, 8), Ok(Some(8)), "what is on the disk is known");
        assert!(again.contains(id, now));
        drop(again);
        let other = Known::new(Arc::new(disk.place()), AT);
        assert_eq!(other.position(7, 7), Ok(None));
        assert!(!other.contains(id, now) && other.broken.get().is_none());
    }
}
