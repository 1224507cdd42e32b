//! Lists of topic partitions.

use super::{Code, c};
use std::ffi::{CStr, c_void};
use std::ptr::null_mut;

/// One entry as librdkafka gives it.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Item<'a> {
    pub(in super::super) topic: &'a [u8],
    pub(in super::super) partition: i32,
    pub(in super::super) offset: i64,
    pub(in super::super) metadata: &'a [u8],
    pub(in super::super) code: Code,
}

/// A list of our own, to give to librdkafka.
#[derive(Debug)]
pub(in super::super) struct PartitionList(*mut c::rd_kafka_topic_partition_list_t);

// SAFETY: plain memory without thread affinity.
unsafe impl Send for PartitionList {}

impl PartitionList {
    pub(in super::super) fn with_capacity(n: usize) -> Self {
        // SAFETY: no precondition; librdkafka aborts by itself when out of memory.
        Self(unsafe { c::rd_kafka_topic_partition_list_new(i32::try_from(n).unwrap_or(i32::MAX)) })
    }

    pub(super) fn ptr(&self) -> *mut c::rd_kafka_topic_partition_list_t {
        self.0
    }

    pub(in super::super) fn push(&mut self, topic: &CStr, partition: i32, offset: i64) {
        // SAFETY: the list is live; the name is copied; the entry given is inside the list.
        unsafe { (*c::rd_kafka_topic_partition_list_add(self.0, topic.as_ptr(), partition)).offset = offset };
    }

    pub(in super::super) fn push_with_metadata(&mut self, topic: &CStr, partition: i32, offset: i64, metadata: &[u8]) {
        // SAFETY: as in `push`; the list frees the metadata with librdkafka's own allocator, so it comes from there.
        unsafe {
            let entry = c::rd_kafka_topic_partition_list_add(self.0, topic.as_ptr(), partition);
            (*entry).offset = offset;
            if metadata.is_empty() {
                return;
            }
            let copy = c::rd_kafka_mem_malloc(null_mut(), metadata.len());
            std::ptr::copy_nonoverlapping(metadata.as_ptr(), copy.cast::<u8>(), metadata.len());
            (*entry).metadata = copy;
            (*entry).metadata_size = metadata.len();
        }
    }

    pub(in super::super) fn items(&self) -> impl Iterator<Item = Item<'_>> {
        // SAFETY: the list is live and lent for as long as the iterator.
        unsafe { items(self.0) }
    }
}

impl Drop for PartitionList {
    fn drop(&mut self) {
        // SAFETY: owned.
        unsafe { c::rd_kafka_topic_partition_list_destroy(self.0) };
    }
}

/// The entries of a list; null gives none.
///
/// # Safety
/// `list` is null, or a list that lives for `'a`.
pub(super) unsafe fn items<'a>(list: *const c::rd_kafka_topic_partition_list_t) -> impl Iterator<Item = Item<'a>> {
    // SAFETY: the caller vouches for it.
    let (first, count) = unsafe { list.as_ref() }.map_or((null_mut(), 0), |l| (l.elems, l.cnt));
    (0..usize::try_from(count).unwrap_or(0)).map(move |i| {
        // SAFETY: `i` is below the list's count; names end in NUL; metadata is as long as told.
        unsafe {
            let e = &*first.add(i);
            Item {
                topic: CStr::from_ptr(e.topic).to_bytes(),
                partition: e.partition,
                offset: e.offset,
                metadata: metadata(e.metadata, e.metadata_size),
                code: e.err.into(),
            }
        }
    })
}

/// # Safety
/// `data` is null or points to `len` bytes that live for `'a`.
unsafe fn metadata<'a>(data: *const c_void, len: usize) -> &'a [u8] {
    if data.is_null() {
        return &[];
    }
    // SAFETY: the caller vouches for it.
    unsafe { std::slice::from_raw_parts(data.cast::<u8>(), len) }
}
