//! Questions about topics, and their creation. Each sends a request whose answer comes out of a queue.

use super::{Client, Code, Event, Failure, OffsetEdge, PartitionList, Queue, c, millis, text};
use std::ffi::{CStr, CString, c_char};
use std::ptr::{NonNull, null, null_mut};
use std::time::Duration;

/// A topic to be made.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct NewTopic<'a> {
    pub(in super::super) name: &'a str,
    pub(in super::super) partitions: i32,
    /// -1: as the broker decides.
    pub(in super::super) replication: i32,
    pub(in super::super) settings: &'a [(String, String)],
}

/// What the broker says of one topic.
#[derive(Debug)]
pub(in super::super) struct TopicDescription {
    pub(in super::super) name: String,
    /// Never used twice in a cluster; `None` where there is none (the topic is not there, or the broker knows no ids).
    pub(in super::super) id: Option<(i64, i64)>,
    pub(in super::super) partitions: Result<i32, Failure>,
    /// Copies of that of its partitions that has fewest.
    pub(in super::super) replicas: i32,
}

/// A topic's name, and its settings by name.
pub(in super::super) type TopicSettings = (String, Result<Vec<(String, String)>, Failure>);

/// Topic, partition, and its offset or why it is not told.
pub(in super::super) type PartitionOffset = (String, i32, Result<i64, Failure>);

/// Options of one request; freed on drop.
pub(super) struct Options(*mut c::rd_kafka_AdminOptions_t);

impl Options {
    pub(super) fn ptr(&self) -> *mut c::rd_kafka_AdminOptions_t {
        self.0
    }

    pub(super) fn new(client: &Client, op: c::rd_kafka_admin_op_t, wait: Duration) -> Result<Self, Failure> {
        let mut why = [0 as c_char; 256];
        // SAFETY: the client and `why` are live for the calls.
        let options = Self(unsafe { c::rd_kafka_AdminOptions_new(client.rk(), op) });
        let ms = millis(wait).clamp(1, 300_000);
        // SAFETY: as above; the options are live.
        Failure::check(unsafe {
            c::rd_kafka_AdminOptions_set_request_timeout(options.0, ms, why.as_mut_ptr(), why.len())
        })?;
        Ok(options)
    }
}

impl Drop for Options {
    fn drop(&mut self) {
        // SAFETY: owned.
        unsafe { c::rd_kafka_AdminOptions_destroy(self.0) };
    }
}

fn c_name(name: &str) -> Result<CString, Failure> {
    CString::new(name).map_err(|_| Failure::new(Code::InvalidTopic, format!("{name:?} is no topic name")))
}

/// Reads one of librdkafka's arrays of pointers.
///
/// # Safety
/// `all` is null or points to `count` pointers to live objects.
pub(super) unsafe fn array<'a, T>(all: *mut *const T, count: usize) -> &'a [*const T] {
    // SAFETY: the caller vouches for it.
    if all.is_null() { &[] } else { unsafe { std::slice::from_raw_parts(all.cast_const(), count) } }
}

impl Client {
    /// Asks to make a topic; read the answer with [`Event::created`].
    pub(in super::super) fn create_topic(
        &self,
        new: &NewTopic<'_>,
        answers: &Queue,
        wait: Duration,
    ) -> Result<(), Failure> {
        let options = Options::new(self, c::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_CREATETOPICS, wait)?;
        let mut why = [0 as c_char; 256];
        let name = c_name(new.name)?;
        // SAFETY: all is live for the call; null says that an argument is refused.
        let topic = unsafe {
            c::rd_kafka_NewTopic_new(name.as_ptr(), new.partitions, new.replication, why.as_mut_ptr(), why.len())
        };
        let topic = NonNull::new(topic).ok_or_else(|| Failure::new(Code::InvalidArgument, text(why.as_ptr())))?;
        let mut result = Ok(());
        for (key, value) in new.settings {
            let (Ok(key), Ok(value)) = (CString::new(key.as_str()), CString::new(value.as_str())) else {
                result = Err(Failure::new(Code::InvalidConfig, format!("the setting {key:?} holds a NUL byte")));
                continue;
            };
            // SAFETY: all is live for the call and copied.
            let err = unsafe { c::rd_kafka_NewTopic_set_config(topic.as_ptr(), key.as_ptr(), value.as_ptr()) };
            result = result.and(Failure::check(err));
        }
        let mut topics = [topic.as_ptr()];
        // SAFETY: one live topic, copied by the call and freed here.
        unsafe {
            if result.is_ok() {
                c::rd_kafka_CreateTopics(self.rk(), topics.as_mut_ptr(), 1, options.0, answers.ptr());
            }
            c::rd_kafka_NewTopic_destroy(topic.as_ptr());
        }
        result
    }

    /// Asks about topics, without creating them; read the answer with [`Event::described`].
    pub(in super::super) fn describe_topics(
        &self,
        names: &[&str],
        answers: &Queue,
        wait: Duration,
    ) -> Result<(), Failure> {
        let options = Options::new(self, c::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS, wait)?;
        let names = names.iter().map(|n| c_name(n)).collect::<Result<Vec<_>, _>>()?;
        let mut pointers: Vec<_> = names.iter().map(|n| n.as_ptr()).collect();
        // SAFETY: as many live names as told; the collection copies them and is freed after the request copied it.
        unsafe {
            let topics = c::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
            c::rd_kafka_DescribeTopics(self.rk(), topics, options.0, answers.ptr());
            c::rd_kafka_TopicCollection_destroy(topics);
        }
        Ok(())
    }

    /// Asks for one offset of each partition, open transactions included; read the answer with [`Event::offsets`].
    pub(in super::super) fn list_offsets(
        &self,
        partitions: &[(&CStr, i32)],
        edge: OffsetEdge,
        answers: &Queue,
        wait: Duration,
    ) -> Result<(), Failure> {
        let options = Options::new(self, c::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTOFFSETS, wait)?;
        // `read_committed` would give the last stable offset for the end, which an open transaction holds back.
        let level = c::rd_kafka_IsolationLevel_t::RD_KAFKA_ISOLATION_LEVEL_READ_UNCOMMITTED;
        // SAFETY: the options are live.
        Failure::take(unsafe { c::rd_kafka_AdminOptions_set_isolation_level(options.0, level) })?;
        let spec = match edge {
            OffsetEdge::Start => c::rd_kafka_OffsetSpec_t::RD_KAFKA_OFFSET_SPEC_EARLIEST as i64,
            OffsetEdge::End => c::rd_kafka_OffsetSpec_t::RD_KAFKA_OFFSET_SPEC_LATEST as i64,
            // Negative ones are names of other edges.
            OffsetEdge::Time(ms) => ms.max(0),
        };
        let mut list = PartitionList::with_capacity(partitions.len());
        for (topic, partition) in partitions {
            list.push(topic, *partition, spec);
        }
        // SAFETY: all is live for the call, which copies the list.
        unsafe { c::rd_kafka_ListOffsets(self.rk(), list.ptr(), options.0, answers.ptr()) };
        Ok(())
    }

    /// Asks for topics' settings; read the answer with [`Event::settings`].
    pub(in super::super) fn describe_settings(
        &self,
        topics: &[&str],
        answers: &Queue,
        wait: Duration,
    ) -> Result<(), Failure> {
        let options = Options::new(self, c::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS, wait)?;
        let names = topics.iter().map(|n| c_name(n)).collect::<Result<Vec<_>, _>>()?;
        let kind = c::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TOPIC;
        // SAFETY: all is live for the calls; the request copies the resources, which are freed here.
        unsafe {
            let mut resources: Vec<_> =
                names.iter().map(|name| c::rd_kafka_ConfigResource_new(kind, name.as_ptr())).collect();
            c::rd_kafka_DescribeConfigs(self.rk(), resources.as_mut_ptr(), resources.len(), options.0, answers.ptr());
            for resource in resources {
                c::rd_kafka_ConfigResource_destroy(resource);
            }
        }
        Ok(())
    }

    /// The names of all topics that this user may see, and how many partitions each has. Blocks up to `wait`.
    pub(in super::super) fn all_topics(&self, wait: Duration) -> Result<Vec<(String, i32)>, Failure> {
        let mut metadata = null();
        // SAFETY: the client is live; on success the metadata is ours, read and freed here.
        unsafe {
            Failure::check(c::rd_kafka_metadata(self.rk(), 1, null_mut(), &mut metadata, millis(wait)))?;
            let count = usize::try_from((*metadata).topic_cnt).unwrap_or(0);
            let topics =
                if count == 0 { &[] } else { std::slice::from_raw_parts((*metadata).topics.cast_const(), count) };
            let known = topics.iter().filter(|t| Code::from(t.err) == Code::NoError && t.partition_cnt > 0);
            let all = known.map(|t| (text(t.topic), t.partition_cnt)).collect();
            c::rd_kafka_metadata_destroy(metadata);
            Ok(all)
        }
    }
}

impl Event<'_> {
    /// The result of [`Client::create_topic`].
    pub(in super::super) fn created(&self) -> Result<(), Failure> {
        self.result()?;
        let mut count = 0;
        // SAFETY: the event is live; null means that it is of another kind; all that is read lives as long as it.
        unsafe {
            let result = c::rd_kafka_event_CreateTopics_result(self.ptr());
            if result.is_null() {
                return Err(Failure::new(Code::InvalidType, "an answer of another kind"));
            }
            for topic in array(c::rd_kafka_CreateTopics_result_topics(result, &mut count), count) {
                match Code::from(c::rd_kafka_topic_result_error(*topic)) {
                    Code::NoError => {}
                    code => return Err(Failure::new(code, text(c::rd_kafka_topic_result_error_string(*topic)))),
                }
            }
        }
        Ok(())
    }

    /// The result of [`Client::describe_topics`].
    pub(in super::super) fn described(&self) -> Result<Vec<TopicDescription>, Failure> {
        self.result()?;
        let mut count = 0;
        // SAFETY: as in `created`.
        unsafe {
            let result = c::rd_kafka_event_DescribeTopics_result(self.ptr());
            if result.is_null() {
                return Err(Failure::new(Code::InvalidType, "an answer of another kind"));
            }
            let topics = array(c::rd_kafka_DescribeTopics_result_topics(result, &mut count), count);
            Ok(topics
                .iter()
                .map(|topic| {
                    let (mut partitions, mut copies) = (0, 0);
                    let each = c::rd_kafka_TopicDescription_partitions(*topic, &mut partitions);
                    let replicas = array(each, partitions).iter().map(|partition| {
                        c::rd_kafka_TopicPartitionInfo_replicas(*partition, &mut copies);
                        i32::try_from(copies).unwrap_or(i32::MAX)
                    });
                    let replicas = replicas.min().unwrap_or(0);
                    let error = c::rd_kafka_TopicDescription_error(*topic);
                    let failure =
                        (!error.is_null()).then(|| Failure::borrow(error)).filter(|f| f.code != Code::NoError);
                    let id = c::rd_kafka_TopicDescription_topic_id(*topic);
                    let id = (!id.is_null()).then(|| {
                        (c::rd_kafka_Uuid_most_significant_bits(id), c::rd_kafka_Uuid_least_significant_bits(id))
                    });
                    TopicDescription {
                        id: id.filter(|id| *id != (0, 0)),
                        name: text(c::rd_kafka_TopicDescription_name(*topic)),
                        replicas,
                        partitions: failure.map_or(Ok(i32::try_from(partitions).unwrap_or(i32::MAX)), Err),
                    }
                })
                .collect())
        }
    }

    /// The result of [`Client::list_offsets`].
    pub(in super::super) fn offsets(&self) -> Result<Vec<PartitionOffset>, Failure> {
        self.result()?;
        let mut count = 0;
        // SAFETY: as in `created`.
        unsafe {
            let result = c::rd_kafka_event_ListOffsets_result(self.ptr());
            if result.is_null() {
                return Err(Failure::new(Code::InvalidType, "an answer of another kind"));
            }
            let infos = array(c::rd_kafka_ListOffsets_result_infos(result, &mut count), count);
            let told = infos.iter().map(|info| {
                let at = &*c::rd_kafka_ListOffsetsResultInfo_topic_partition(*info);
                (text(at.topic), at.partition, Failure::check(at.err).and_then(|()| told_offset(at.offset)))
            });
            Ok(told.collect())
        }
    }

    /// The result of [`Client::describe_settings`]: for each topic its settings by name, or why they are not told.
    pub(in super::super) fn settings(&self) -> Result<Vec<TopicSettings>, Failure> {
        self.result()?;
        let (mut count, mut entries) = (0, 0);
        // SAFETY: as in `created`.
        unsafe {
            let result = c::rd_kafka_event_DescribeConfigs_result(self.ptr());
            if result.is_null() {
                return Err(Failure::new(Code::InvalidType, "an answer of another kind"));
            }
            let resources = array(c::rd_kafka_DescribeConfigs_result_resources(result, &mut count), count);
            let all = resources.iter().map(|resource| {
                let settings = match Code::from(c::rd_kafka_ConfigResource_error(*resource)) {
                    Code::NoError => Ok(array(c::rd_kafka_ConfigResource_configs(*resource, &mut entries), entries)
                        .iter()
                        .map(|e| (text(c::rd_kafka_ConfigEntry_name(*e)), text(c::rd_kafka_ConfigEntry_value(*e))))
                        .collect()),
                    code => Err(Failure::new(code, text(c::rd_kafka_ConfigResource_error_string(*resource)))),
                };
                (text(c::rd_kafka_ConfigResource_name(*resource)), settings)
            });
            Ok(all.collect())
        }
    }
}

/// An offset of an answer: from 0 on, or -1 where no record is that late. Anything else is librdkafka's mark for an offset that
/// was never told (`RD_KAFKA_OFFSET_INVALID`, -1001), which comes without an error when a broker dies between question and
/// answer. Taken for an offset, it would look as if the log had lost everything.
fn told_offset(offset: i64) -> Result<i64, Failure> {
    if offset < -1 { Err(Failure::new(Code::Underflow, "an answer without an offset")) } else { Ok(offset) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_no_offset() {
        let told = |offset| told_offset(offset).ok();
        assert_eq!([told(0), told(7), told(-1)], [Some(0), Some(7), Some(-1)]);
        assert_eq!([told(-1001), told(-2), told(i64::MIN)], [None, None, None]);
        assert_eq!(told_offset(-1001).err().map(|failure| failure.code), Some(Code::Underflow));
    }
}
