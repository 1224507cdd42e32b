//! Queues, and the events that come out of them.

use super::{Client, Code, Failure, Item, c, code_text, list, millis, text};
use std::ffi::{CStr, c_char, c_int};
use std::ptr::{NonNull, null, null_mut};
use std::sync::Arc;
use std::time::Duration;

/// A queue of a client; it keeps the client alive.
#[derive(Debug)]
pub(in super::super) struct Queue {
    queue: NonNull<c::rd_kafka_queue_t>,
    _client: Arc<Client>,
}

// SAFETY: librdkafka's queues are thread-safe.
unsafe impl Send for Queue {}
// SAFETY: as above.
unsafe impl Sync for Queue {}

impl Queue {
    /// A new queue, for the answers to one caller's requests.
    pub(in super::super) fn new(client: &Arc<Client>) -> Self {
        // SAFETY: the client is live, and the call never gives null: librdkafka aborts when out of memory.
        let queue = unsafe { NonNull::new_unchecked(c::rd_kafka_queue_new(client.rk())) };
        Self { queue, _client: Arc::clone(client) }
    }

    /// The client's main queue: logs, errors, delivery reports.
    pub(in super::super) fn main(client: &Arc<Client>) -> Self {
        // SAFETY: as above; the reference counted by this call is freed on drop.
        let queue = unsafe { NonNull::new_unchecked(c::rd_kafka_queue_get_main(client.rk())) };
        Self { queue, _client: Arc::clone(client) }
    }

    /// A group consumer's queue, with the main queue led into it. `None` without a group.
    pub(in super::super) fn consumer(client: &Arc<Client>) -> Option<Self> {
        // SAFETY: the client is live.
        let queue = unsafe {
            c::rd_kafka_poll_set_consumer(client.rk());
            NonNull::new(c::rd_kafka_queue_get_consumer(client.rk()))?
        };
        Some(Self { queue, _client: Arc::clone(client) })
    }

    pub(super) fn ptr(&self) -> *mut c::rd_kafka_queue_t {
        self.queue.as_ptr()
    }

    /// The next event, waited for at most that long.
    pub(in super::super) fn poll(&self, wait: Duration) -> Option<Event<'_>> {
        // SAFETY: the queue is live.
        let event = NonNull::new(unsafe { c::rd_kafka_queue_poll(self.ptr(), millis(wait)) })?;
        Some(Event { event, _queue: self })
    }
}

impl Queue {
    /// Ends the wait of the poll that is going on, or of the next one.
    pub(in super::super) fn wake(&self) {
        // SAFETY: the queue is live.
        unsafe { c::rd_kafka_queue_yield(self.ptr()) };
    }
}

/// Messages that [`Queue::take`] asks for at once.
const AT_ONCE: usize = 1024;

impl Queue {
    /// Hands out messages read into this queue by [`super::Topic::start`], waiting at most `wait` for the first. Among
    /// them are errors, and ends of partitions as [`Code::PartitionEOF`]. Gives how many there were, 0 to 1024.
    pub(in super::super) fn take(&self, wait: Duration, mut each: impl FnMut(&Message<'_>)) -> usize {
        let mut taken = 0;
        let mut room = [null_mut(); AT_ONCE];
        // IMPORTANT: one first and then what is there, because the call waits until it has as many as it may give.
        for (some, wait) in [(1, wait), (AT_ONCE - 1, Duration::ZERO)] {
            // SAFETY: the queue is live, and there is room for as many pointers as told.
            let count = unsafe { c::rd_kafka_consume_batch_queue(self.ptr(), millis(wait), room.as_mut_ptr(), some) };
            let count = usize::try_from(count).unwrap_or(0).min(some);
            for message in &room[..count] {
                // SAFETY: librdkafka gave it; it is ours until it is freed here, and not lent any longer.
                unsafe {
                    if let Some(message) = message.as_ref() {
                        each(&Message(message));
                    }
                    c::rd_kafka_message_destroy(*message);
                }
            }
            taken += count;
            if count == 0 {
                break;
            }
        }
        taken
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: owned, and the client is alive until after this.
        unsafe { c::rd_kafka_queue_destroy(self.ptr()) };
    }
}

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum EventKind {
    Fetch,
    Rebalance,
    Error,
    Log,
    Delivery,
    Other,
}

/// One event; all that it lends dies with it.
pub(in super::super) struct Event<'q> {
    event: NonNull<c::rd_kafka_event_t>,
    _queue: &'q Queue,
}

impl Event<'_> {
    pub(super) fn ptr(&self) -> *mut c::rd_kafka_event_t {
        self.event.as_ptr()
    }

    pub(in super::super) fn kind(&self) -> EventKind {
        // SAFETY: the event is live, here and in every call below.
        match unsafe { c::rd_kafka_event_type(self.ptr()) } {
            c::RD_KAFKA_EVENT_FETCH => EventKind::Fetch,
            c::RD_KAFKA_EVENT_REBALANCE => EventKind::Rebalance,
            c::RD_KAFKA_EVENT_ERROR => EventKind::Error,
            c::RD_KAFKA_EVENT_LOG => EventKind::Log,
            c::RD_KAFKA_EVENT_DR => EventKind::Delivery,
            _ => EventKind::Other,
        }
    }

    pub(in super::super) fn code(&self) -> Code {
        // SAFETY: see `kind`.
        unsafe { c::rd_kafka_event_error(self.ptr()) }.into()
    }

    /// The event's error, `Ok` when it tells of none.
    pub(in super::super) fn result(&self) -> Result<(), Failure> {
        match self.code() {
            Code::NoError => Ok(()),
            // SAFETY: see `kind`; the text is copied.
            code => Err(Failure {
                code,
                reason: text(unsafe { c::rd_kafka_event_error_string(self.ptr()) }),
                fatal: self.kind() == EventKind::Error && unsafe { c::rd_kafka_event_error_is_fatal(self.ptr()) } != 0,
            }),
        }
    }

    /// The partition that an error is about: topic and number.
    pub(in super::super) fn partition(&self) -> Option<(Vec<u8>, i32)> {
        // SAFETY: see `kind`; the object given is ours, read and freed here.
        unsafe {
            let at = NonNull::new(c::rd_kafka_event_topic_partition(self.ptr()))?;
            let topic = CStr::from_ptr(at.as_ref().topic).to_bytes().to_vec();
            let partition = at.as_ref().partition;
            c::rd_kafka_topic_partition_destroy(at.as_ptr());
            Some((topic, partition))
        }
    }

    /// The partitions of a rebalance or of a commit's answer.
    pub(in super::super) fn partitions(&self) -> impl Iterator<Item = Item<'_>> {
        // SAFETY: see `kind`; the list lives as long as the event.
        unsafe { list::items(c::rd_kafka_event_topic_partition_list(self.ptr())) }
    }

    /// A log line: syslog level, facility, text.
    pub(in super::super) fn log(&self) -> Option<(i32, String, String)> {
        let (mut facility, mut line, mut level) = (null::<c_char>(), null::<c_char>(), 0 as c_int);
        // SAFETY: see `kind`; the strings live as long as the event and are copied.
        let res = unsafe { c::rd_kafka_event_log(self.ptr(), &mut facility, &mut line, &mut level) };
        (res == 0).then(|| (level, text(facility), text(line)))
    }

    /// How many messages a delivery report still holds.
    pub(in super::super) fn message_count(&self) -> usize {
        // SAFETY: see `kind`.
        unsafe { c::rd_kafka_event_message_count(self.ptr()) }
    }

    /// The next message of a fetch (there is one) or of a delivery report (there are many).
    pub(in super::super) fn next_message(&mut self) -> Option<Message<'_>> {
        // SAFETY: see `kind`; the message belongs to the event.
        unsafe { c::rd_kafka_event_message_next(self.ptr()).as_ref() }.map(Message)
    }
}

impl Drop for Event<'_> {
    fn drop(&mut self) {
        // SAFETY: owned; whatever it lent was bound to its lifetime.
        unsafe { c::rd_kafka_event_destroy(self.ptr()) };
    }
}

/// A message read, or one reported on.
pub(in super::super) struct Message<'e>(&'e c::rd_kafka_message_t);

impl<'e> Message<'e> {
    pub(in super::super) fn code(&self) -> Code {
        self.0.err.into()
    }

    /// The message's error. Its words are those of the code alone: librdkafka 2.12.1 has freed the broker's own by the
    /// time of the report, and takes the payload for words elsewhere.
    pub(in super::super) fn failure(&self) -> Failure {
        Failure::new(self.code(), code_text(self.0.err))
    }

    pub(in super::super) fn topic(&self) -> &'e [u8] {
        if self.0.rkt.is_null() {
            return &[];
        }
        // SAFETY: the message holds its topic object, whose name ends in NUL.
        unsafe { CStr::from_ptr(c::rd_kafka_topic_name(self.0.rkt)) }.to_bytes()
    }

    pub(in super::super) fn partition(&self) -> i32 {
        self.0.partition
    }

    pub(in super::super) fn offset(&self) -> i64 {
        self.0.offset
    }

    /// What the producer gave along.
    pub(in super::super) fn token(&self) -> u64 {
        self.0._private as usize as u64
    }

    pub(in super::super) fn key(&self) -> Option<&'e [u8]> {
        // SAFETY: librdkafka's pointer and length, alive as long as the event.
        unsafe { bytes(self.0.key, self.0.key_len) }
    }

    pub(in super::super) fn value(&self) -> Option<&'e [u8]> {
        // SAFETY: as above.
        unsafe { bytes(self.0.payload, self.0.len) }
    }

    /// Milliseconds since the epoch, -1 where there is none.
    pub(in super::super) fn timestamp_ms(&self) -> i64 {
        // SAFETY: the message is live; the type of timestamp may be left out.
        unsafe { c::rd_kafka_message_timestamp(self.0, null_mut()) }
    }

    /// The headers in order: name and value. (A NUL byte inside a name ends it: librdkafka gives names as C strings.)
    pub(in super::super) fn headers(&self) -> impl Iterator<Item = (&'e [u8], Option<&'e [u8]>)> + use<'e> {
        let mut headers = null_mut();
        // SAFETY: the message is live; the headers stay its own. An error means that there are none.
        let err = unsafe { c::rd_kafka_message_headers(self.0, &mut headers) };
        let headers = if Code::from(err) == Code::NoError { headers } else { null_mut() };
        let mut index = 0;
        std::iter::from_fn(move || {
            if headers.is_null() {
                return None;
            }
            let (mut name, mut value, mut size) = (null(), null(), 0);
            // SAFETY: the headers live as long as the message; past the last one the call gives an error.
            unsafe {
                let err = c::rd_kafka_header_get_all(headers, index, &mut name, &mut value, &mut size);
                index += 1;
                (Code::from(err) == Code::NoError).then(|| (CStr::from_ptr(name).to_bytes(), bytes(value, size)))
            }
        })
    }
}

/// # Safety
/// `data` is null or points to `len` bytes that live for `'a`.
unsafe fn bytes<'a>(data: *const std::ffi::c_void, len: usize) -> Option<&'a [u8]> {
    // SAFETY: the caller vouches for it.
    (!data.is_null()).then(|| unsafe { std::slice::from_raw_parts(data.cast::<u8>(), len) })
}
