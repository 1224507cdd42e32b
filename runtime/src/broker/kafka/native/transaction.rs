//! A transactional producer's calls, and a look at the requests that it sends.

use super::{Client, Conf, Failure, PartitionList, c, millis, text};
use rdkafka::types::RDKafkaRespErr;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI16, Ordering::SeqCst};
use std::time::Duration;

/// Under this name librdkafka keeps the callbacks.
const NAME: &CStr = c"keyrail";
/// TxnOffsetCommit.
const OFFSETS: i16 = 28;
/// What a producer asks the coordinators for: AddPartitionsToTxn, AddOffsetsToTxn, EndTxn, TxnOffsetCommit.
const WATCHED: [i16; 4] = [24, 25, 26, OFFSETS];

/// What a transactional client sent of the requests that make and end a transaction.
///
/// librdkafka has one of a kind under way at a time. It sends one again by itself, without limit, when its connection
/// breaks or no answer comes in time (`rd_kafka_txn_handle_EndTxn` and its siblings, on `_TRANSPORT` and `_TIMED_OUT`),
/// and when the broker answers that it is to come later (`CONCURRENT_TRANSACTIONS`, another coordinator). The second is
/// harmless: what was answered is not under way any more. So a request counts as resent when one of its kind leaves
/// while the last one was never answered. Both is told per copy that is written to the socket in whole, or read from it:
/// what was queued for a connection that never came does not count, nor does looking for the coordinator.
#[derive(Debug, Default)]
pub(in super::super) struct Requests {
    watching: AtomicBool,
    /// By the place in [`WATCHED`]: sent, and not answered.
    open: [AtomicBool; WATCHED.len()],
    resent: AtomicBool,
    /// The version of the last TxnOffsetCommit, plus one; 0 before the first.
    offsets_version: AtomicI16,
}

impl Requests {
    /// Whether one was sent again of which the first copy may still be on its way. Stays so.
    pub(in super::super) fn resent(&self) -> bool {
        self.resent.load(SeqCst)
    }

    /// In which version of the protocol offsets were sent; `None` when they were not yet.
    pub(in super::super) fn offsets_version(&self) -> Option<i16> {
        self.offsets_version.load(SeqCst).checked_sub(1).filter(|v| *v >= 0)
    }

    /// Whether librdkafka took the callbacks.
    pub(super) fn is_watching(&self) -> bool {
        self.watching.load(SeqCst)
    }

    fn sent(&self, key: i16, version: i16) {
        let Some(open) = self.open(key) else { return };
        if open.swap(true, SeqCst) {
            self.resent.store(true, SeqCst);
        }
        if key == OFFSETS {
            self.offsets_version.store(version.saturating_add(1), SeqCst);
        }
    }

    /// Told twice for each answer, where it is read and where it is handled; what follows is sent after both.
    fn answered(&self, key: i16) {
        if let Some(open) = self.open(key) {
            open.store(false, SeqCst);
        }
    }

    fn open(&self, key: i16) -> Option<&AtomicBool> {
        let place = WATCHED.iter().position(|k| *k == key)?;
        self.open.get(place)
    }
}

impl Conf {
    /// The client to be made of this tells `requests` what it sends, which must outlive it.
    pub(super) fn watch(&self, requests: &Arc<Requests>) -> Result<(), String> {
        let opaque = Arc::as_ptr(requests).cast_mut().cast::<c_void>();
        // SAFETY: the conf is live, the name static; the callback takes the pointer for what it is.
        let err = unsafe { c::rd_kafka_conf_interceptor_add_on_new(self.0, NAME.as_ptr(), Some(on_new), opaque) };
        Failure::check(err).map_err(|f| f.reason)
    }
}

const DONE: RDKafkaRespErr = RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR;

/// # Safety
/// Called by librdkafka while it makes a client; `opaque` is what [`Conf::watch`] gave it.
unsafe extern "C" fn on_new(
    rk: *mut c::rd_kafka_t,
    _conf: *const c::rd_kafka_conf_t,
    opaque: *mut c_void,
    _why: *mut c_char,
    _why_size: usize,
) -> RDKafkaRespErr {
    // SAFETY: the client is live for the calls, the name static. The callbacks run on the client's threads, which are
    // gone once it is destroyed; `Client` holds what `opaque` points to until then.
    unsafe {
        let sent = c::rd_kafka_interceptor_add_on_request_sent(rk, NAME.as_ptr(), Some(on_request), opaque);
        let answered = c::rd_kafka_interceptor_add_on_response_received(rk, NAME.as_ptr(), Some(on_response), opaque);
        let taken = Failure::check(sent).is_ok() && Failure::check(answered).is_ok();
        requests(opaque, |r| r.watching.store(taken, SeqCst));
    }
    DONE
}

/// # Safety
/// As for [`on_new`].
unsafe extern "C" fn on_request(
    _rk: *mut c::rd_kafka_t,
    _socket: c_int,
    _broker: *const c_char,
    _broker_id: i32,
    key: i16,
    version: i16,
    _correlation: i32,
    _size: usize,
    opaque: *mut c_void,
) -> RDKafkaRespErr {
    // SAFETY: see `on_new`.
    unsafe { requests(opaque, |r| r.sent(key, version)) };
    DONE
}

/// # Safety
/// As for [`on_new`].
unsafe extern "C" fn on_response(
    _rk: *mut c::rd_kafka_t,
    _socket: c_int,
    _broker: *const c_char,
    _broker_id: i32,
    key: i16,
    _version: i16,
    _correlation: i32,
    _size: usize,
    _took: i64,
    err: RDKafkaRespErr,
    opaque: *mut c_void,
) -> RDKafkaRespErr {
    // An error here is the connection's, not the broker's: there was no answer.
    if matches!(err, RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR) {
        // SAFETY: see `on_new`.
        unsafe { requests(opaque, |r| r.answered(key)) };
    }
    DONE
}

/// # Safety
/// `opaque` is null, or points to `Requests` that live for the call.
unsafe fn requests(opaque: *mut c_void, act: impl FnOnce(&Requests)) {
    // SAFETY: the caller vouches for it; they are shared, and changed through atomics only.
    if let Some(requests) = unsafe { opaque.cast_const().cast::<Requests>().as_ref() } {
        act(requests);
    }
}

/// Which member a consumer is in its group.
#[derive(Debug)]
pub(in super::super) struct GroupMetadata(NonNull<c::rd_kafka_consumer_group_metadata_t>);

impl GroupMetadata {
    /// For a group without members: no generation, and no member. A broker takes such offsets while the group has none.
    pub(in super::super) fn of_nobody(group: &CStr) -> Option<Self> {
        // SAFETY: the string is live for the call, which copies it; what is given is ours.
        NonNull::new(unsafe { c::rd_kafka_consumer_group_metadata_new(group.as_ptr()) }).map(Self)
    }

    /// Whether this is a member of a generation: what is sent without is checked by no broker.
    pub(in super::super) fn is_member(&self) -> bool {
        // SAFETY: owned and live; the string is copied.
        unsafe {
            c::rd_kafka_consumer_group_metadata_generation_id(self.0.as_ptr()) >= 0
                && !text(c::rd_kafka_consumer_group_metadata_member_id(self.0.as_ptr())).is_empty()
        }
    }
}

impl Drop for GroupMetadata {
    fn drop(&mut self) {
        // SAFETY: owned.
        unsafe { c::rd_kafka_consumer_group_metadata_destroy(self.0.as_ptr()) };
    }
}

impl Client {
    /// A consumer's place in its group, now. `None` when it has none. Waits for librdkafka's main thread; of a consumer
    /// that is just being closed, for ever in the worst case (`rd_kafka_cgrp_op_serve` answers nothing then).
    pub(in super::super) fn group_metadata(&self) -> Option<GroupMetadata> {
        // SAFETY: the client is live; what is given is ours.
        NonNull::new(unsafe { c::rd_kafka_consumer_group_metadata(self.rk()) }).map(GroupMetadata)
    }

    /// Waits until a broker answers, at most `wait`. To be done before a broker is asked as an administrator does: while the
    /// controller is away librdkafka 2.12.1 to 2.15.0 tries to connect to it without a pause for as long as such a question is open,
    /// some thousand times a second (`rd_kafka_broker_find_by_nodeid0_fl` schedules each, which ends the back-off).
    pub(in super::super) fn reach(&self, wait: Duration) -> Result<(), Failure> {
        let mut found = std::ptr::null();
        // SAFETY: the client is live; without a topic only the brokers are asked for. What is given is ours and freed.
        unsafe {
            let err = c::rd_kafka_metadata(self.rk(), 0, std::ptr::null_mut(), &mut found, millis(wait));
            if !found.is_null() {
                c::rd_kafka_metadata_destroy(found);
            }
            Failure::check(err)
        }
    }

    /// Takes the transactional id over. Blocks up to `wait`.
    pub(in super::super) fn init_transactions(&self, wait: Duration) -> Result<(), Failure> {
        // SAFETY: the client is live, here and below.
        Failure::take(unsafe { c::rd_kafka_init_transactions(self.rk(), millis(wait)) })
    }

    /// Begins a transaction; no broker is asked.
    pub(in super::super) fn begin_transaction(&self) -> Result<(), Failure> {
        // SAFETY: see `init_transactions`.
        Failure::take(unsafe { c::rd_kafka_begin_transaction(self.rk()) })
    }

    /// Adds a group's offsets, each with its metadata, to the transaction. `wait` bounds what is sent again; while the
    /// group's coordinator can't be found or reached, librdkafka waits longer, for ever in the worst case
    /// (`rd_kafka_coord_req_fsm` never looks at its time).
    pub(in super::super) fn send_offsets(
        &self,
        offsets: &PartitionList,
        group: &GroupMetadata,
        wait: Duration,
    ) -> Result<(), Failure> {
        // SAFETY: all are live for the call, which copies what it sends.
        Failure::take(unsafe {
            c::rd_kafka_send_offsets_to_transaction(self.rk(), offsets.ptr(), group.0.as_ptr(), millis(wait))
        })
    }

    /// Commits the transaction. Blocks up to `wait`. Waits until each message's report was taken from the main queue and
    /// freed: with reports as events librdkafka takes none itself, and where all were, it waits for nothing.
    pub(in super::super) fn commit_transaction(&self, wait: Duration) -> Result<(), Failure> {
        // SAFETY: see `init_transactions`.
        Failure::take(unsafe { c::rd_kafka_commit_transaction(self.rk(), millis(wait)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_can_not_be_made_is_told_and_freed_once() {
        let of = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let bad = [of("transactional.id", "t"), of("security.protocol", "ssl"), of("ssl.ca.location", "/none.pem")];
        for _ in 0..100 {
            let made = Client::new(super::super::ClientKind::Producer, &bad, Some(Arc::default()));
            assert!(made.is_err_and(|why| why.contains("ssl.ca.location")));
        }
    }

    #[test]
    fn a_request_is_resent_when_the_last_one_was_never_answered() {
        let requests = Requests::default();
        assert_eq!(requests.offsets_version(), None);
        for _ in 0..2 {
            for key in WATCHED {
                requests.sent(key, 3);
                requests.answered(key);
                requests.answered(key);
            }
            // Told to come later: answered, and sent again.
            requests.sent(25, 3);
            requests.answered(25);
        }
        // Others are not looked at.
        requests.sent(0, 9);
        requests.sent(0, 9);
        assert_eq!((requests.resent(), requests.offsets_version()), (false, Some(3)));
        requests.sent(26, 1);
        requests.sent(25, 1);
        assert!(!requests.resent());
        requests.sent(26, 1);
        requests.answered(26);
        assert!(requests.resent(), "and stays so");
    }
}
