//! What an index of seen ids is asked, and what it answers.

use crate::Error;

/// 128 bits of a digest over order key and message id. The index counts on ids being spread evenly, as a digest's bits are.
pub type Id = [u8; 16];

/// A window is cut into so many buckets, each of which is dropped whole.
pub const BUCKETS: u64 = 8;

/// What an index is of. Files of anything else are wiped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The consumer group.
    pub group: String,
    /// The input topic.
    pub topic: String,
    /// The partition of the input, and of the seen topic.
    pub partition: i32,
    /// Which log the seen topic's partition is, since a topic can be deleted and made anew; 0 if that is not known.
    pub log: u64,
    /// For how long an id counts.
    pub window_ms: u64,
}

/// Which ids were seen, for one task. Times are wall-clock milliseconds since 1970.
///
/// **Time.** An id counts from the time it was inserted with, or from the latest time that any id was inserted with
/// before, if that is later: a clock that goes back makes ids live longer, never shorter. What is a window older than the
/// latest time is dropped, a bucket at a time, so a clock that jumps ahead by more than the window makes the index forget.
pub trait SeenIndex: Send + Sync {
    /// Whether the id was inserted with a time of at least `oldest_ms`. Never a false answer: filters in memory answer "no",
    /// only an exact look-up answers "yes". For shard threads: waits for no disk but to read one block when the id is
    /// likely there, and for no other thread longer than an insertion into memory takes.
    ///
    /// # Errors
    /// [`Error::Damaged`]; every later call then answers the same.
    fn contains(&self, id: &Id, oldest_ms: i64) -> Result<bool, Error>;

    /// Takes in the ids of one record of the seen topic, written at `time_ms`, and `position`: that of what follows the
    /// record in the topic. All of it or, with an error, nothing. A record may come again. One thread at a time, in the
    /// order of the topic. Syncs nothing to disk; waits, within bounds, while the budget is used up.
    ///
    /// A record without ids moves the position alone.
    ///
    /// # Errors
    /// [`Error::Full`]: offer the same record again later. [`Error::Damaged`].
    fn insert(&self, ids: &[Id], time_ms: i64, position: i64) -> Result<(), Error>;

    /// Where reading the seen topic must go on: all below is in the index. `None` while it holds nothing at all.
    fn position(&self) -> Option<i64>;

    /// Lets go of ids older than `oldest_ms`, a bucket at a time. Inserting does so by itself; this is for a task to which
    /// nothing comes. What is let go of does not come back when the clock does.
    fn expire(&self, oldest_ms: i64);

    /// Lets go of all ids, and goes on with `position`. For whoever inserts.
    ///
    /// # Errors
    /// [`Error::Full`]: they are forgotten, and not on disk; what is on disk asks for the order to forget again.
    /// [`Error::Damaged`].
    fn forget(&self, position: i64) -> Result<(), Error>;

    /// Brings all that was inserted, and its position, to disk, for a clean hand-over. May take seconds.
    ///
    /// # Errors
    /// [`Error::Full`] if it can't be written, [`Error::Damaged`].
    fn flush(&self) -> Result<(), Error>;

    /// Figures for metrics.
    fn stats(&self) -> Stats;
}

/// Figures of an index.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Ids held. One that was inserted twice may count twice, and so does one that is older than the window until its bucket is
    /// dropped.
    pub ids: u64,
    /// Bytes in memory: what waits to be written, filters and the places of blocks.
    pub memory_bytes: u64,
    /// Of these, what waits to be written.
    pub waiting_bytes: u64,
    /// Bytes on disk.
    pub disk_bytes: u64,
    /// Sorted files on disk.
    pub segments: u64,
    /// Calls of [`SeenIndex::contains`]; some may be missed when more than 16 threads call.
    pub lookups: u64,
    /// How often a filter said "perhaps" and the disk said "no".
    pub false_positives: u64,
    /// Why nothing could be written when it was tried last; `None` if all is well.
    pub failing: Option<String>,
}
