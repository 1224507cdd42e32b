//! Topics looked up once: a producer's calls, and a reader's that has no group.

use super::{Client, Code, Failure, Queue, c};
use std::ffi::{CString, c_void};
use std::ptr::{NonNull, null, null_mut};
use std::sync::Arc;

/// A topic to write or read, looked up once.
#[derive(Debug)]
pub(in super::super) struct Topic {
    topic: NonNull<c::rd_kafka_topic_t>,
    client: Arc<Client>,
}

// SAFETY: librdkafka's topic objects are thread-safe.
unsafe impl Send for Topic {}

/// What is sent, beside the topic.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Fields<'a> {
    pub(in super::super) partition: Option<i32>,
    pub(in super::super) key: Option<&'a [u8]>,
    pub(in super::super) value: Option<&'a [u8]>,
    pub(in super::super) headers: &'a [(&'a [u8], Option<&'a [u8]>)],
    pub(in super::super) timestamp_ms: Option<i64>,
    pub(in super::super) token: u64,
}

/// Headers on their way: librdkafka owns them once the message is taken.
struct Headers(*mut c::rd_kafka_headers_t);

impl Headers {
    fn new(all: &[(&[u8], Option<&[u8]>)]) -> Result<Self, Failure> {
        if all.is_empty() {
            return Ok(Self(null_mut()));
        }
        // SAFETY: no precondition.
        let headers = Self(unsafe { c::rd_kafka_headers_new(all.len()) });
        for (name, value) in all {
            let (data, size) = slice(*value);
            // SAFETY: names and values are copied; lengths are those of the slices; null stands for a null value.
            Failure::check(unsafe {
                c::rd_kafka_header_add(
                    headers.0,
                    name.as_ptr().cast(),
                    name.len().cast_signed(),
                    data,
                    size.cast_signed(),
                )
            })?;
        }
        Ok(headers)
    }
}

impl Drop for Headers {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: owned: `send` forgets headers that librdkafka took.
            unsafe { c::rd_kafka_headers_destroy(self.0) };
        }
    }
}

fn slice(bytes: Option<&[u8]>) -> (*const c_void, usize) {
    bytes.map_or((null(), 0), |b| (b.as_ptr().cast(), b.len()))
}

impl Topic {
    pub(in super::super) fn new(client: &Arc<Client>, name: &str) -> Result<Self, Failure> {
        let bad = || Failure::new(Code::InvalidTopic, format!("{name:?} is no topic name"));
        let c_name = CString::new(name).map_err(|_| bad())?;
        // SAFETY: the client is live and the name is copied; null says that the name is refused.
        let topic = unsafe { c::rd_kafka_topic_new(client.rk(), c_name.as_ptr(), null_mut()) };
        Ok(Self { topic: NonNull::new(topic).ok_or_else(bad)?, client: Arc::clone(client) })
    }

    /// Begins to read a partition into a queue, without a group.
    pub(in super::super) fn start(&self, partition: i32, offset: i64, into: &Queue) -> Result<(), Failure> {
        // SAFETY: topic and queue are live, and the queue is this client's.
        match unsafe { c::rd_kafka_consume_start_queue(self.topic.as_ptr(), partition, offset, into.ptr()) } {
            0 => Ok(()),
            // SAFETY: reads this thread's last error.
            _ => Failure::check(unsafe { c::rd_kafka_last_error() }),
        }
    }

    /// Ends what [`Topic::start`] began; what was fetched is thrown away.
    pub(in super::super) fn stop(&self, partition: i32) -> Result<(), Failure> {
        // SAFETY: as in `start`.
        match unsafe { c::rd_kafka_consume_stop(self.topic.as_ptr(), partition) } {
            0 => Ok(()),
            // SAFETY: as in `start`.
            _ => Failure::check(unsafe { c::rd_kafka_last_error() }),
        }
    }

    /// Queues a message; all bytes are copied.
    pub(in super::super) fn send(&self, fields: &Fields<'_>) -> Result<(), Failure> {
        use c::rd_kafka_vtype_t as v;
        let headers = Headers::new(fields.headers)?;
        let (value, value_size) = slice(fields.value);
        let (key, key_size) = slice(fields.key);
        let token = fields.token as usize as *mut c_void;
        // SAFETY: types and number of the arguments are those that each tag asks for (`rd_kafka_vtype_t`), and the
        // list ends in END. The topic is this client's.
        let err = unsafe {
            c::rd_kafka_producev(
                self.client.rk(),
                v::RD_KAFKA_VTYPE_RKT,
                self.topic.as_ptr(),
                v::RD_KAFKA_VTYPE_PARTITION,
                fields.partition.unwrap_or(-1),
                v::RD_KAFKA_VTYPE_MSGFLAGS,
                c::RD_KAFKA_MSG_F_COPY,
                v::RD_KAFKA_VTYPE_VALUE,
                value,
                value_size,
                v::RD_KAFKA_VTYPE_KEY,
                key,
                key_size,
                v::RD_KAFKA_VTYPE_OPAQUE,
                token,
                v::RD_KAFKA_VTYPE_TIMESTAMP,
                fields.timestamp_ms.unwrap_or(0),
                v::RD_KAFKA_VTYPE_HEADERS,
                headers.0,
                v::RD_KAFKA_VTYPE_END,
            )
        };
        Failure::check(err)?;
        std::mem::forget(headers);
        Ok(())
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        // SAFETY: owned, and the client is alive until after this.
        unsafe { c::rd_kafka_topic_destroy(self.topic.as_ptr()) };
    }
}

impl Client {
    /// Gives up all that is queued or in flight; each comes back with a delivery report.
    pub(in super::super) fn purge(&self) -> Result<(), Failure> {
        let flags = c::RD_KAFKA_PURGE_F_QUEUE | c::RD_KAFKA_PURGE_F_INFLIGHT | c::RD_KAFKA_PURGE_F_NON_BLOCKING;
        // SAFETY: the client is live.
        Failure::check(unsafe { c::rd_kafka_purge(self.rk(), flags) })
    }
}
