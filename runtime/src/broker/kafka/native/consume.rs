//! A group consumer's calls.

use super::{Client, Failure, PartitionList, Queue, c, millis, text};
use std::ffi::CStr;
use std::ptr::null;
use std::sync::Arc;
use std::time::Duration;

/// Which offset of a partition's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum OffsetEdge {
    Start,
    End,
    /// The first whose timestamp, in milliseconds since the epoch, is this or later; -1 where there is none.
    Time(i64),
}

impl Client {
    pub(in super::super) fn subscribe(&self, topics: &PartitionList) -> Result<(), Failure> {
        // SAFETY: both are live; the list is copied. So in every call below.
        Failure::check(unsafe { c::rd_kafka_subscribe(self.rk(), topics.ptr()) })
    }

    pub(in super::super) fn unsubscribe(&self) -> Result<(), Failure> {
        // SAFETY: see `subscribe`.
        Failure::check(unsafe { c::rd_kafka_unsubscribe(self.rk()) })
    }

    /// Whether the group's protocol is the cooperative one; decides between `assign` and `incremental_*`.
    pub(in super::super) fn is_cooperative(&self) -> bool {
        // SAFETY: see `subscribe`; gives a static string.
        text(unsafe { c::rd_kafka_rebalance_protocol(self.rk()) }) == "COOPERATIVE"
    }

    /// Whether the partitions just revoked are somebody else's already.
    pub(in super::super) fn assignment_lost(&self) -> bool {
        // SAFETY: see `subscribe`.
        unsafe { c::rd_kafka_assignment_lost(self.rk()) != 0 }
    }

    pub(in super::super) fn assign(&self, list: Option<&PartitionList>) -> Result<(), Failure> {
        // SAFETY: see `subscribe`; null takes all away.
        Failure::check(unsafe { c::rd_kafka_assign(self.rk(), list.map_or(null(), |l| l.ptr().cast_const())) })
    }

    pub(in super::super) fn incremental_assign(&self, list: &PartitionList) -> Result<(), Failure> {
        // SAFETY: see `subscribe`.
        Failure::take(unsafe { c::rd_kafka_incremental_assign(self.rk(), list.ptr()) })
    }

    pub(in super::super) fn incremental_unassign(&self, list: &PartitionList) -> Result<(), Failure> {
        // SAFETY: see `subscribe`.
        Failure::take(unsafe { c::rd_kafka_incremental_unassign(self.rk(), list.ptr()) })
    }

    /// Each entry's own result is written into the list.
    pub(in super::super) fn pause(&self, list: &PartitionList) -> Result<(), Failure> {
        // SAFETY: see `subscribe`.
        Failure::check(unsafe { c::rd_kafka_pause_partitions(self.rk(), list.ptr()) })
    }

    /// Each entry's own result is written into the list.
    pub(in super::super) fn resume(&self, list: &PartitionList) -> Result<(), Failure> {
        // SAFETY: see `subscribe`.
        Failure::check(unsafe { c::rd_kafka_resume_partitions(self.rk(), list.ptr()) })
    }

    /// Each entry's own result is written into the list.
    pub(in super::super) fn seek(&self, list: &PartitionList, wait: Duration) -> Result<(), Failure> {
        // SAFETY: see `subscribe`.
        Failure::take(unsafe { c::rd_kafka_seek_partitions(self.rk(), list.ptr(), millis(wait)) })
    }

    /// Writes the offset after the last record polled into each entry.
    pub(in super::super) fn position(&self, list: &PartitionList) -> Result<(), Failure> {
        // SAFETY: see `subscribe`.
        Failure::check(unsafe { c::rd_kafka_position(self.rk(), list.ptr()) })
    }

    /// Writes the group's offset and metadata, and each entry's own result, into the list.
    pub(in super::super) fn committed(&self, list: &PartitionList, wait: Duration) -> Result<(), Failure> {
        // SAFETY: see `subscribe`.
        Failure::check(unsafe { c::rd_kafka_committed(self.rk(), list.ptr(), millis(wait)) })
    }

    /// Sends a commit; its answer comes out of `answers`.
    pub(in super::super) fn commit(&self, list: &PartitionList, answers: &Queue) -> Result<(), Failure> {
        // SAFETY: see `subscribe`; without a callback the answer is an event of the queue.
        Failure::check(unsafe {
            c::rd_kafka_commit_queue(self.rk(), list.ptr(), answers.ptr(), None, std::ptr::null_mut())
        })
    }

    /// The high watermark that the last fetch told, -1001 when none did.
    pub(in super::super) fn cached_end(&self, topic: &CStr, partition: i32) -> Option<i64> {
        let (mut low, mut high) = (-1, -1);
        // SAFETY: see `subscribe`; asks memory only.
        let err =
            unsafe { c::rd_kafka_get_watermark_offsets(self.rk(), topic.as_ptr(), partition, &mut low, &mut high) };
        (Failure::check(err).is_ok() && high >= 0).then_some(high)
    }

    /// Begins to leave the group; what is left to do comes out of `events`.
    pub(in super::super) fn close(self: &Arc<Self>, events: &Queue) -> Result<(), Failure> {
        // SAFETY: see `subscribe`.
        Failure::take(unsafe { c::rd_kafka_consumer_close_queue(self.rk(), events.ptr()) })
    }

    pub(in super::super) fn is_closed(&self) -> bool {
        // SAFETY: see `subscribe`.
        unsafe { c::rd_kafka_consumer_closed(self.rk()) != 0 }
    }
}
