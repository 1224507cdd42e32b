//! Safe wrappers over librdkafka's C interface: the one place with `unsafe`.
//!
//! rdkafka's own consumer and producer are not used: its rebalance callback can't be answered later, its errors lose
//! their code, its producer's poll waits out its whole time, its drop may hang, and it allocates for each message.
//! Each type here owns its C object, frees it on drop, and holds the client that the object belongs to.

mod admin;
mod consume;
mod event;
mod groups;
mod list;
mod produce;
mod transaction;

pub(super) use admin::{NewTopic, TopicDescription};
pub(super) use consume::OffsetEdge;
pub(super) use event::{Event, EventKind, Message, Queue};
pub(super) use list::{Item, PartitionList};
pub(super) use produce::{Fields, Topic};
pub(super) use transaction::{GroupMetadata, Requests};

use rdkafka::bindings as c;
use rdkafka::types::{RDKafkaErrorCode, RDKafkaRespErr};
use std::collections::BTreeSet;
use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

/// librdkafka's or the broker's error code.
pub(super) type Code = RDKafkaErrorCode;

/// An error as librdkafka tells it.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub(super) code: Code,
    pub(super) reason: String,
    pub(super) fatal: bool,
}

impl Failure {
    pub(super) fn new(code: Code, reason: impl Into<String>) -> Self {
        Self { code, reason: reason.into(), fatal: false }
    }

    /// `Ok` for no error.
    fn check(err: RDKafkaRespErr) -> Result<(), Self> {
        match Code::from(err) {
            Code::NoError => Ok(()),
            code => Err(Self::new(code, code_text(err))),
        }
    }

    /// Takes over an error object; null is no error.
    fn take(error: *mut c::rd_kafka_error_t) -> Result<(), Self> {
        if error.is_null() {
            return Ok(());
        }
        // SAFETY: not null, and ours to free; its text is copied before that.
        let failure = unsafe { Self::borrow(error) };
        // SAFETY: as above, and not used after this.
        unsafe { c::rd_kafka_error_destroy(error) };
        Err(failure)
    }

    /// Reads an error object that stays its owner's.
    ///
    /// # Safety
    /// `error` must point to a live error object.
    unsafe fn borrow(error: *const c::rd_kafka_error_t) -> Self {
        // SAFETY: the caller vouches for the pointer.
        unsafe {
            Self {
                code: c::rd_kafka_error_code(error).into(),
                reason: text(c::rd_kafka_error_string(error)),
                fatal: c::rd_kafka_error_is_fatal(error) != 0,
            }
        }
    }
}

/// Copies a C string; null gives an empty one.
fn text(s: *const c_char) -> String {
    if s.is_null() {
        return String::new();
    }
    // SAFETY: librdkafka's strings end in NUL and live at least as long as the object just asked.
    unsafe { CStr::from_ptr(s) }.to_string_lossy().into_owned()
}

fn code_text(err: RDKafkaRespErr) -> String {
    // SAFETY: gives a static string for any value.
    text(unsafe { c::rd_kafka_err2str(err) })
}

/// Milliseconds for C: rounded up, so that a short wait is no busy loop.
fn millis(wait: Duration) -> c_int {
    c_int::try_from(wait.as_micros().div_ceil(1000)).unwrap_or(c_int::MAX)
}

/// librdkafka's version, as linked.
pub(super) fn version() -> String {
    // SAFETY: gives a static string.
    text(unsafe { c::rd_kafka_version_str() })
}

/// What a client is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClientKind {
    Consumer,
    Producer,
}

/// Properties of a client to be.
struct Conf(*mut c::rd_kafka_conf_t);

impl Conf {
    fn new() -> Self {
        // SAFETY: no precondition; librdkafka aborts by itself when out of memory.
        Self(unsafe { c::rd_kafka_conf_new() })
    }

    fn set(&self, name: &str, value: &str) -> Result<(), String> {
        let c_name = CString::new(name).map_err(|_| format!("the property name {name:?} holds a NUL byte"))?;
        let c_value = CString::new(value).map_err(|_| format!("the value of {name:?} holds a NUL byte"))?;
        let mut why = [0 as c_char; 512];
        // SAFETY: all pointers are live for the call, and `why` is as long as told.
        let res =
            unsafe { c::rd_kafka_conf_set(self.0, c_name.as_ptr(), c_value.as_ptr(), why.as_mut_ptr(), why.len()) };
        match res {
            c::rd_kafka_conf_res_t::RD_KAFKA_CONF_OK => Ok(()),
            _ => Err(text(why.as_ptr())),
        }
    }
}

impl Drop for Conf {
    fn drop(&mut self) {
        // SAFETY: owned; `Client::new` forgets it when librdkafka took it over.
        unsafe { c::rd_kafka_conf_destroy(self.0) };
    }
}

/// What `Conf` says of one property: `Ok`, or librdkafka's reason.
pub(super) fn try_property(name: &str, value: &str) -> Result<(), String> {
    Conf::new().set(name, value)
}

/// The names of all properties that have a default, for suggestions.
pub(super) fn property_names() -> BTreeSet<String> {
    let conf = Conf::new();
    let mut count = 0;
    // SAFETY: gives an array of `count` strings, names and values in turn, ours until freed below.
    unsafe {
        let all = c::rd_kafka_conf_dump(conf.0, &mut count);
        let names = (0..count).step_by(2).map(|i| text(*all.add(i))).collect();
        c::rd_kafka_conf_dump_free(all, count);
        names
    }
}

/// A librdkafka client with its threads. Dropped, it stops without leaving its group: see `consume::Closing`.
#[derive(Debug)]
pub(super) struct Client {
    rk: NonNull<c::rd_kafka_t>,
    /// Its callbacks run until the client is destroyed, which is before this is dropped.
    requests: Option<Arc<Requests>>,
}

// SAFETY: librdkafka documents its client as fully thread-safe.
unsafe impl Send for Client {}
// SAFETY: as above.
unsafe impl Sync for Client {}

impl Client {
    /// `requests` is told of what the client sends.
    pub(super) fn new(
        kind: ClientKind,
        properties: &[(String, String)],
        requests: Option<Arc<Requests>>,
    ) -> Result<Arc<Self>, String> {
        let conf = Conf::new();
        for (name, value) in properties {
            conf.set(name, value)?;
        }
        if let Some(requests) = &requests {
            conf.watch(requests)?;
        }
        // Logs become events, so that they appear on the thread that polls and not on librdkafka's own.
        conf.set("log.queue", "true")?;
        // OAUTHBEARER_TOKEN_REFRESH is not among these: librdkafka's own refresh would be switched off.
        let events = c::RD_KAFKA_EVENT_DR
            | c::RD_KAFKA_EVENT_REBALANCE
            | c::RD_KAFKA_EVENT_ERROR
            | c::RD_KAFKA_EVENT_OFFSET_COMMIT;
        // SAFETY: `conf` is live.
        unsafe { c::rd_kafka_conf_set_events(conf.0, events) };
        let kind = match kind {
            ClientKind::Consumer => c::rd_kafka_type_t::RD_KAFKA_CONSUMER,
            ClientKind::Producer => c::rd_kafka_type_t::RD_KAFKA_PRODUCER,
        };
        let mut why = [0 as c_char; 512];
        // SAFETY: all pointers are live; on success librdkafka owns the conf.
        let rk = unsafe { c::rd_kafka_new(kind, conf.0, why.as_mut_ptr(), why.len()) };
        let Some(rk) = NonNull::new(rk) else {
            if requests.is_some() {
                // librdkafka 2.12.1 has freed the callbacks of the conf and would free them again (its issue 4142).
                std::mem::forget(conf);
            }
            return Err(text(why.as_ptr()));
        };
        std::mem::forget(conf);
        let client = Arc::new(Self { rk, requests });
        if client.requests.as_ref().is_some_and(|r| !r.is_watching()) {
            return Err("librdkafka does not tell of the requests that it sends".to_owned());
        }
        // SAFETY: the client is live; a null queue is not passed.
        Failure::check(unsafe { c::rd_kafka_set_log_queue(rk.as_ptr(), Queue::main(&client).ptr()) })
            .map_err(|f| f.reason)?;
        Ok(client)
    }

    fn rk(&self) -> *mut c::rd_kafka_t {
        self.rk.as_ptr()
    }

    /// The error that made this client useless, if one did.
    pub(super) fn fatal(&self) -> Option<Failure> {
        let mut why = [0 as c_char; 512];
        // SAFETY: the client is live and `why` is as long as told.
        let err = unsafe { c::rd_kafka_fatal_error(self.rk(), why.as_mut_ptr(), why.len()) };
        match Code::from(err) {
            Code::NoError => None,
            code => Some(Failure { code, reason: text(why.as_ptr()), fatal: true }),
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // SAFETY: the last owner; every queue, topic and event of this client held it alive and is gone.
        // Without the flag this call would leave the group by itself and may wait for ever for a rebalance's answer.
        unsafe { c::rd_kafka_destroy_flags(self.rk(), c::RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE) };
    }
}
