//! The yardstick: what librdkafka costs by itself.
//!
//! A copy loop written for speed straight on the C interface: messages are consumed by the thousand, produced with key,
//! value, timestamp and headers, and offsets are committed every 100 ms once the delivery reports of all that came
//! before them are in. One thread beside librdkafka's own. No order of its own, no retry, no dead letter, no limit on
//! memory but the queue's: what Keyrail adds costs what it costs beside this.

use anyhow::{Context as _, Result, bail};
use keyrail::broker::kafka::{ConsumerOptions, Kafka};
use rdkafka::bindings as c;
use std::collections::{BTreeMap, VecDeque};
use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr::{null_mut, with_exposed_provenance_mut};
use std::time::{Duration, Instant};

const COMMIT_EVERY: Duration = Duration::from_millis(100);
const BATCH: usize = 1000;

type Positions = BTreeMap<i32, i64>;

/// What was produced between two commits.
struct Lap {
    unreported: u64,
    /// The next offset of each partition at its end.
    positions: Positions,
}

/// Written by the delivery callback, which runs inside `rd_kafka_poll` on the loop's own thread.
struct Laps {
    /// The number of the first one in the list; a message carries its lap's number.
    first: u64,
    open: VecDeque<Lap>,
    failed: u64,
}

/// Copies until the process is killed.
pub(crate) fn run(bootstrap: &str, more: &[(String, String)], group: &str, from: &str, to: &str) -> Result<()> {
    let mut properties: BTreeMap<_, _> = more.iter().cloned().collect();
    properties.insert("bootstrap.servers".to_owned(), bootstrap.to_owned());
    let kafka = Kafka::new(&properties).map_err(|all| anyhow::anyhow!("{all:?}"))?;
    let laps: *mut Laps = Box::leak(Box::new(Laps { first: 0, open: VecDeque::new(), failed: 0 }));
    // SAFETY: the clients and `laps` live as long as the process, and only this thread polls.
    unsafe {
        let consumer = consumer(&kafka, group, from)?;
        let producer = producer(&kafka, laps)?;
        copy(consumer, producer, &CString::new(from)?, &CString::new(to)?, laps)
    }
}

unsafe fn copy(
    consumer: *mut c::rd_kafka_t,
    producer: *mut c::rd_kafka_t,
    from: &CStr,
    to: &CStr,
    laps: *mut Laps,
) -> Result<()> {
    let mut batch = [null_mut::<c::rd_kafka_message_t>(); BATCH];
    let mut positions = Positions::new();
    let mut number = 0_u64;
    let mut next_commit = Instant::now() + COMMIT_EVERY;
    // SAFETY: see `run`; messages are destroyed once, after their last use; no reference into `laps` is held over a
    // poll, in which the callback writes to it.
    unsafe {
        let queue = c::rd_kafka_queue_get_consumer(consumer);
        let topic = c::rd_kafka_topic_new(producer, to.as_ptr(), null_mut());
        (*laps).open.push_back(Lap { unreported: 0, positions: Positions::new() });
        loop {
            let mut count = c::rd_kafka_consume_batch_queue(queue, 0, batch.as_mut_ptr(), BATCH);
            if count == 0 {
                // Asked for many, the call would wait until it has them all.
                let wait = if c::rd_kafka_outq_len(producer) > 0 { 1 } else { 20 };
                count = c::rd_kafka_consume_batch_queue(queue, wait, batch.as_mut_ptr(), 1);
            }
            for message in batch.iter().take(usize::try_from(count).unwrap_or(0)) {
                let m = &**message;
                if m.err == c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                    if let Some(lap) = (*laps).open.back_mut() {
                        lap.unreported += 1;
                    }
                    produce(producer, topic, m, number)?;
                    positions.insert(m.partition, m.offset + 1);
                }
                c::rd_kafka_message_destroy(*message);
            }
            c::rd_kafka_poll(producer, 0);
            if (*laps).failed > 0 {
                bail!("the broker refused {} records", (*laps).failed);
            }
            if Instant::now() >= next_commit {
                next_commit = Instant::now() + COMMIT_EVERY;
                number = turn(&mut *laps, &positions, consumer, from);
            }
        }
    }
}

/// Commits what is reported, and begins a new lap; gives its number.
unsafe fn turn(laps: &mut Laps, positions: &Positions, consumer: *mut c::rd_kafka_t, from: &CStr) -> u64 {
    if let Some(lap) = laps.open.back_mut() {
        lap.positions.clone_from(positions);
    }
    laps.open.push_back(Lap { unreported: 0, positions: Positions::new() });
    let mut done = None;
    while laps.open.len() > 1 && laps.open.front().is_some_and(|l| l.unreported == 0) {
        done = laps.open.pop_front();
        laps.first += 1;
    }
    if let Some(lap) = done.filter(|l| !l.positions.is_empty()) {
        // SAFETY: the list is ours, copied by the call, and destroyed once.
        unsafe {
            let list = c::rd_kafka_topic_partition_list_new(16);
            for (partition, offset) in &lap.positions {
                (*c::rd_kafka_topic_partition_list_add(list, from.as_ptr(), *partition)).offset = *offset;
            }
            c::rd_kafka_commit(consumer, list, 1);
            c::rd_kafka_topic_partition_list_destroy(list);
        }
    }
    laps.first + laps.open.len() as u64 - 1
}

unsafe fn produce(
    producer: *mut c::rd_kafka_t,
    topic: *mut c::rd_kafka_topic_t,
    m: &c::rd_kafka_message_t,
    lap: u64,
) -> Result<()> {
    use c::rd_kafka_vtype_t as v;
    // SAFETY: all pointers live for the call, which copies what they point to.
    unsafe {
        let mut headers = null_mut();
        let has_headers =
            c::rd_kafka_message_headers(m, &mut headers) == c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
        loop {
            let opaque = with_exposed_provenance_mut::<c_void>(lap as usize);
            let timestamp = c::rd_kafka_message_timestamp(m, null_mut());
            let err = if has_headers {
                let headers = c::rd_kafka_headers_copy(headers);
                let err = c::rd_kafka_producev(
                    producer,
                    v::RD_KAFKA_VTYPE_RKT,
                    topic,
                    v::RD_KAFKA_VTYPE_MSGFLAGS,
                    c::RD_KAFKA_MSG_F_COPY,
                    v::RD_KAFKA_VTYPE_VALUE,
                    m.payload,
                    m.len,
                    v::RD_KAFKA_VTYPE_KEY,
                    m.key,
                    m.key_len,
                    v::RD_KAFKA_VTYPE_TIMESTAMP,
                    timestamp,
                    v::RD_KAFKA_VTYPE_OPAQUE,
                    opaque,
                    v::RD_KAFKA_VTYPE_HEADERS,
                    headers,
                    v::RD_KAFKA_VTYPE_END,
                );
                if err != c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                    c::rd_kafka_headers_destroy(headers);
                }
                err
            } else {
                c::rd_kafka_producev(
                    producer,
                    v::RD_KAFKA_VTYPE_RKT,
                    topic,
                    v::RD_KAFKA_VTYPE_MSGFLAGS,
                    c::RD_KAFKA_MSG_F_COPY,
                    v::RD_KAFKA_VTYPE_VALUE,
                    m.payload,
                    m.len,
                    v::RD_KAFKA_VTYPE_KEY,
                    m.key,
                    m.key_len,
                    v::RD_KAFKA_VTYPE_TIMESTAMP,
                    timestamp,
                    v::RD_KAFKA_VTYPE_OPAQUE,
                    opaque,
                    v::RD_KAFKA_VTYPE_END,
                )
            };
            match err {
                c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => return Ok(()),
                c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__QUEUE_FULL => {
                    c::rd_kafka_poll(producer, 5);
                }
                other => bail!("producing failed: {}", text(c::rd_kafka_err2str(other))),
            }
        }
    }
}

unsafe extern "C" fn reported(_: *mut c::rd_kafka_t, message: *const c::rd_kafka_message_t, opaque: *mut c_void) {
    // SAFETY: librdkafka gives a live message and the opaque of `producer`, which nobody else holds during a poll.
    let (message, laps) = unsafe { (&*message, &mut *opaque.cast::<Laps>()) };
    if message.err != c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
        laps.failed += 1;
    }
    let number = message._private.expose_provenance() as u64;
    if let Some(lap) = laps.open.get_mut((number - laps.first) as usize) {
        lap.unreported -= 1;
    }
}

unsafe fn consumer(kafka: &Kafka, group: &str, topic: &str) -> Result<*mut c::rd_kafka_t> {
    let mut properties = kafka.consumer_properties(group, ConsumerOptions::default());
    properties.push(("auto.offset.reset".to_owned(), "earliest".to_owned()));
    // SAFETY: the configuration is taken over by the client; the list is ours and copied.
    unsafe {
        let client = client(c::rd_kafka_type_t::RD_KAFKA_CONSUMER, configuration(&properties)?)?;
        c::rd_kafka_poll_set_consumer(client);
        let list = c::rd_kafka_topic_partition_list_new(1);
        c::rd_kafka_topic_partition_list_add(list, CString::new(topic)?.as_ptr(), -1);
        c::rd_kafka_subscribe(client, list);
        c::rd_kafka_topic_partition_list_destroy(list);
        Ok(client)
    }
}

unsafe fn producer(kafka: &Kafka, laps: *mut Laps) -> Result<*mut c::rd_kafka_t> {
    // SAFETY: the configuration is live until the client takes it over; `laps` outlives the client, see `run`.
    unsafe {
        let conf = configuration(&kafka.producer_properties())?;
        c::rd_kafka_conf_set_dr_msg_cb(conf, Some(reported));
        c::rd_kafka_conf_set_opaque(conf, laps.cast());
        client(c::rd_kafka_type_t::RD_KAFKA_PRODUCER, conf)
    }
}

fn configuration(properties: &[(String, String)]) -> Result<*mut c::rd_kafka_conf_t> {
    // SAFETY: all pointers are live for the calls.
    unsafe {
        let conf = c::rd_kafka_conf_new();
        for (name, value) in properties {
            let (key, val) = (CString::new(name.as_str())?, CString::new(value.as_str())?);
            let set = c::rd_kafka_conf_set(conf, key.as_ptr(), val.as_ptr(), null_mut(), 0);
            if set != c::rd_kafka_conf_res_t::RD_KAFKA_CONF_OK {
                bail!("librdkafka takes no {name} = {value}");
            }
        }
        Ok(conf)
    }
}

unsafe fn client(kind: c::rd_kafka_type_t, conf: *mut c::rd_kafka_conf_t) -> Result<*mut c::rd_kafka_t> {
    let mut why = [0 as c_char; 512];
    // SAFETY: `conf` is live and taken over; `why` is as long as told.
    let client = unsafe { c::rd_kafka_new(kind, conf, why.as_mut_ptr(), why.len()) };
    if client.is_null() { Err(anyhow::anyhow!(text(why.as_ptr()))).context("making a client") } else { Ok(client) }
}

fn text(s: *const c_char) -> String {
    // SAFETY: librdkafka's strings and our buffers end in NUL.
    unsafe { CStr::from_ptr(s) }.to_string_lossy().into_owned()
}
