//! Questions about consumer groups, from outside of them. Each sends a request whose answer comes out of a queue.

use super::admin::{Options, array};
use super::{Client, Code, Event, Failure, PartitionList, Queue, c, list, text};
use std::ffi::CString;
use std::ptr::NonNull;
use std::time::Duration;

/// What a group has committed for a partition.
#[derive(Debug)]
pub(in super::super) struct GroupOffset {
    pub(in super::super) topic: Vec<u8>,
    pub(in super::super) partition: i32,
    /// `None`: nothing.
    pub(in super::super) offset: Option<i64>,
    pub(in super::super) metadata: String,
}

impl Client {
    /// Asks for the names of all groups; read the answer with [`Event::groups`].
    pub(in super::super) fn list_groups(&self, answers: &Queue, wait: Duration) -> Result<(), Failure> {
        let options = Options::new(self, c::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPS, wait)?;
        // SAFETY: all is live for the call.
        unsafe { c::rd_kafka_ListConsumerGroups(self.rk(), options.ptr(), answers.ptr()) };
        Ok(())
    }

    /// Asks what a group has committed for these partitions; read the answer with [`Event::group_offsets`].
    pub(in super::super) fn group_offsets(
        &self,
        group: &str,
        partitions: &PartitionList,
        answers: &Queue,
        wait: Duration,
    ) -> Result<(), Failure> {
        let options = Options::new(self, c::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPOFFSETS, wait)?;
        let bad = || Failure::new(Code::InvalidArgument, format!("{group:?} is no group name"));
        let name = CString::new(group).map_err(|_| bad())?;
        // SAFETY: all is live for the calls; the request copies what it asks for, which is freed here.
        unsafe {
            let asked = c::rd_kafka_ListConsumerGroupOffsets_new(name.as_ptr(), partitions.ptr());
            let asked = NonNull::new(asked).ok_or_else(bad)?;
            let mut all = [asked.as_ptr()];
            c::rd_kafka_ListConsumerGroupOffsets(self.rk(), all.as_mut_ptr(), 1, options.ptr(), answers.ptr());
            c::rd_kafka_ListConsumerGroupOffsets_destroy(asked.as_ptr());
        }
        Ok(())
    }

    /// Puts offsets of a group down that has no member; read the answer with [`Event::altered_offsets`].
    pub(in super::super) fn alter_group_offsets(
        &self,
        group: &str,
        offsets: &PartitionList,
        answers: &Queue,
        wait: Duration,
    ) -> Result<(), Failure> {
        let options = Options::new(self, c::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_ALTERCONSUMERGROUPOFFSETS, wait)?;
        let bad = || Failure::new(Code::InvalidArgument, format!("{group:?} is no group name"));
        let name = CString::new(group).map_err(|_| bad())?;
        // SAFETY: all is live for the calls; the request copies what it is told, which is freed here.
        unsafe {
            let told = c::rd_kafka_AlterConsumerGroupOffsets_new(name.as_ptr(), offsets.ptr());
            let told = NonNull::new(told).ok_or_else(bad)?;
            let mut all = [told.as_ptr()];
            c::rd_kafka_AlterConsumerGroupOffsets(self.rk(), all.as_mut_ptr(), 1, options.ptr(), answers.ptr());
            c::rd_kafka_AlterConsumerGroupOffsets_destroy(told.as_ptr());
        }
        Ok(())
    }
}

impl Event<'_> {
    /// The result of [`Client::alter_group_offsets`]: an error if that of any partition is.
    pub(in super::super) fn altered_offsets(&self) -> Result<(), Failure> {
        self.result()?;
        let mut count = 0;
        // SAFETY: as in `groups`.
        unsafe {
            let result = c::rd_kafka_event_AlterConsumerGroupOffsets_result(self.ptr());
            if result.is_null() {
                return Err(Failure::new(Code::InvalidType, "an answer of another kind"));
            }
            let groups = array(c::rd_kafka_AlterConsumerGroupOffsets_result_groups(result, &mut count), count);
            let group = groups.first().ok_or_else(|| Failure::new(Code::Underflow, "an answer without a group"))?;
            let error = c::rd_kafka_group_result_error(*group);
            if !error.is_null() {
                let failure = Failure::borrow(error);
                if failure.code != Code::NoError {
                    return Err(failure);
                }
            }
            let mut items = list::items(c::rd_kafka_group_result_partitions(*group));
            let failed = items.find(|item| item.code != Code::NoError);
            failed.map_or(Ok(()), |item| Err(Failure::new(item.code, item.code.to_string())))
        }
    }

    /// The result of [`Client::list_groups`]. A broker that did not answer is an error: its groups would be missing.
    pub(in super::super) fn groups(&self) -> Result<Vec<String>, Failure> {
        self.result()?;
        let mut count = 0;
        // SAFETY: the event is live; null means that it is of another kind; all that is read lives as long as it.
        unsafe {
            let result = c::rd_kafka_event_ListConsumerGroups_result(self.ptr());
            if result.is_null() {
                return Err(Failure::new(Code::InvalidType, "an answer of another kind"));
            }
            let errors = array(c::rd_kafka_ListConsumerGroups_result_errors(result, &mut count), count);
            if let Some(error) = errors.first() {
                return Err(Failure::borrow(*error));
            }
            let groups = array(c::rd_kafka_ListConsumerGroups_result_valid(result, &mut count), count);
            Ok(groups.iter().map(|g| text(c::rd_kafka_ConsumerGroupListing_group_id(*g))).collect())
        }
    }

    /// The result of [`Client::group_offsets`].
    pub(in super::super) fn group_offsets(&self) -> Result<Vec<GroupOffset>, Failure> {
        self.result()?;
        let mut count = 0;
        // SAFETY: as in `groups`.
        unsafe {
            let result = c::rd_kafka_event_ListConsumerGroupOffsets_result(self.ptr());
            if result.is_null() {
                return Err(Failure::new(Code::InvalidType, "an answer of another kind"));
            }
            let groups = array(c::rd_kafka_ListConsumerGroupOffsets_result_groups(result, &mut count), count);
            let group = groups.first().ok_or_else(|| Failure::new(Code::Underflow, "an answer without a group"))?;
            let error = c::rd_kafka_group_result_error(*group);
            if !error.is_null() {
                let failure = Failure::borrow(error);
                if failure.code != Code::NoError {
                    return Err(failure);
                }
            }
            let told = list::items(c::rd_kafka_group_result_partitions(*group)).map(|item| match item.code {
                Code::NoError => Ok(GroupOffset {
                    topic: item.topic.to_vec(),
                    partition: item.partition,
                    offset: (item.offset >= 0).then_some(item.offset),
                    metadata: String::from_utf8_lossy(item.metadata).into_owned(),
                }),
                code => Err(Failure::new(code, code.to_string())),
            });
            told.collect()
        }
    }
}
