//! What an instance's store holds: the batch of the running call and what the guest staged for it.

use super::effects::{Effects, Room};
use super::http::Reach;
use super::limits::{Limits, Meter};
use super::logging::LogQuota;
use super::long::LongCall;
use super::message::{Delivery, Setup, State};
use super::metrics::Handles;
use super::reads::Reads;
use super::wasi::{Console, World};
use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::sync::Arc;

/// So many bytes that the host looks through or copies for a call into it count as one more: how many they are, others choose.
const BYTES: usize = 16 << 10;

/// The data of an instance's store.
pub(super) struct Ctx {
    pub(super) setup: Arc<Setup>,
    pub(super) limits: Limits,
    pub(super) meter: Meter,
    pub(super) log: LogQuota,
    pub(super) metrics: Handles,
    pub(super) call: Call,
    pub(super) console: Console,
    pub(super) wasi: World,
    pub(super) long: Option<LongCall>,
    pub(super) reach: Reach,
}

/// The running call. Between calls it has no slots, so that a host call with a slot is refused then.
#[derive(Default)]
pub(super) struct Call {
    pub(super) batch: Arc<Vec<Delivery>>,
    pub(super) effects: Effects,
    /// What the last call needed.
    pub(super) room: Room,
    /// What each slot's next random number follows from, once it has asked for one.
    random: Vec<Option<u64>>,
    pub(super) now_ms: i64,
    pub(super) deadline_ms: i64,
    /// What is left of its time when it counts as long, in ticks of the engine's clock.
    pub(super) ticks_left: u64,
    /// It has been told of there.
    is_long: bool,
    host_calls: u64,
    host_calls_left: u64,
    pub(super) staged_bytes: u64,
    /// `None`: handlers of this pipeline have no state, or no call runs.
    pub(super) state: Option<State>,
    /// What each slot read of it; empty where that is not recorded.
    pub(super) reads: Vec<Reads>,
    /// The output that a slot asked for last, of those that the manifest does not name.
    pub(super) unknown_outputs: BTreeMap<usize, String>,
    /// What the guest logged last as an error: its panic, most likely, if the call traps.
    pub(super) last_error: Option<String>,
}

/// A bound that the guest passed; it ends the call.
#[derive(Debug)]
pub(super) enum Quota {
    /// Calls into the host.
    Calls(u64),
    /// Bytes staged by the whole call.
    Staged(u64),
    /// Bytes of answers to the call's requests.
    Answers(u64),
    /// Bytes that its requests by `wasi:http` hold.
    Held(usize),
}

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Calls(limit) => write!(f, "more than {limit} calls into the host"),
            Self::Answers(limit) => {
                write!(f, "the answers to the batch's requests hold more than the {limit} bytes of limits.memory")
            }
            Self::Staged(limit) => write!(f, "the batch staged more than {limit} bytes of output"),
            Self::Held(limit) => write!(f, "requests by wasi:http hold more than {limit} bytes in the host"),
        }
    }
}

impl std::error::Error for Quota {}

impl Ctx {
    /// Sets the stage for a call.
    pub(super) fn begin(&mut self, batch: Arc<Vec<Delivery>>, now_ms: i64, deadline_ms: i64) {
        let call = &mut self.call;
        call.effects = Effects::new(batch.len(), call.room);
        call.random.clear();
        call.host_calls = self.limits.host_calls.saturating_mul(batch.len().max(1) as u64);
        call.host_calls_left = call.host_calls;
        call.staged_bytes = 0;
        call.reads.clear();
        if self.setup.record {
            call.reads.resize_with(batch.len(), Reads::default);
        }
        call.unknown_outputs.clear();
        call.last_error = None;
        call.batch = batch;
        call.now_ms = now_ms;
        call.deadline_ms = deadline_ms;
        self.meter.begin();
        self.console.begin();
        self.wasi.begin(now_ms);
    }

    /// The call has used up what it was given of the engine's clock. Returns what it is given more; 0: its time is over.
    pub(super) fn go_on(&mut self) -> u64 {
        let ticks = std::mem::take(&mut self.call.ticks_left);
        if let Some(long) = self.long.as_ref().filter(|_| ticks > 0) {
            long.set(Some(Arc::clone(&self.call.batch)));
            self.call.is_long = true;
        }
        ticks
    }

    /// The call is over: the batch is let go. What was staged stays until the next call.
    pub(super) fn end(&mut self) {
        if std::mem::take(&mut self.call.is_long)
            && let Some(long) = &self.long
        {
            long.set(None);
        }
        self.call.batch = Arc::default();
        self.wasi.end();
        self.reach.end();
        self.end_lines();
        self.log.end(&self.setup.handler);
    }
}

impl Call {
    /// Counts a call into the host.
    pub(super) fn charge(&mut self) -> wasmtime::Result<()> {
        match self.host_calls_left.checked_sub(1) {
            Some(left) => {
                self.host_calls_left = left;
                Ok(())
            }
            None => Err(wasmtime::Error::new(Quota::Calls(self.host_calls))),
        }
    }

    /// Counts a call into the host once more for each [`BYTES`] that it looks through or copies.
    pub(super) fn charge_bytes(&mut self, bytes: usize) -> wasmtime::Result<()> {
        let left = self.host_calls_left.checked_sub((bytes / BYTES) as u64);
        self.host_calls_left = left.ok_or_else(|| wasmtime::Error::new(Quota::Calls(self.host_calls)))?;
        Ok(())
    }

    /// As [`Call::enter`], for a call that walks over the slot's headers: it counts by their size.
    pub(super) fn walk(&mut self, slot: u32) -> wasmtime::Result<usize> {
        let index = self.enter(slot)?;
        self.charge_bytes(self.batch[index].record.header_bytes())?;
        Ok(index)
    }

    /// Counts a call into the host on behalf of a slot; a slot outside the batch is a trap.
    pub(super) fn enter(&mut self, slot: u32) -> wasmtime::Result<usize> {
        self.charge()?;
        let index = slot as usize;
        if index < self.batch.len() {
            return Ok(index);
        }
        match self.batch.len() {
            0 => Err(wasmtime::format_err!("slot {slot} is outside the batch: there is none in `open`")),
            n => Err(wasmtime::format_err!("slot {slot} is outside the batch of {n}")),
        }
    }

    /// The next number of the slot's sequence: the same when the message is run again.
    pub(super) fn random(&mut self, index: usize, setup: &Setup) -> wasmtime::Result<u64> {
        if self.random.len() <= index {
            self.random.resize(self.batch.len(), None);
        }
        let state = match self.random[index] {
            Some(state) => state,
            None => {
                let mut hash = Fnv::new();
                write_id(&mut hash, &self.batch[index], setup)?;
                seeded(hash.0, self.batch[index].attempt)
            }
        };
        let state = state.wrapping_add(GOLDEN);
        self.random[index] = Some(state);
        Ok(mix(state))
    }
}

/// Writes a delivery's id: `TOPIC/PARTITION/OFFSET`; a timer's goes on with `/timer/NAME/TIME/HOPS`.
pub(super) fn write_id(out: &mut impl Write, delivery: &Delivery, setup: &Setup) -> wasmtime::Result<()> {
    let record = &delivery.record;
    let topic = setup.topics.get(record.at.topic as usize).ok_or_else(|| {
        wasmtime::format_err!("the host delivered topic {} of {}", record.at.topic, setup.topics.len())
    })?;
    write!(out, "{topic}/{}/{}", record.at.partition, record.offset)?;
    if let Some(timer) = &delivery.timer {
        write!(out, "/timer/{}/{}/{}", timer.name, record.timestamp_ms, timer.hops)?;
    }
    Ok(())
}

/// FNV-1a, 64 bits: part of what handlers may rely on, so it never changes.
pub(super) struct Fnv(pub(super) u64);

impl Fnv {
    pub(super) const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Write for Fnv {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        Ok(())
    }
}

/// What random numbers follow from: a message's hash and its attempt.
pub(super) const fn seeded(hash: u64, attempt: u32) -> u64 {
    hash ^ (attempt as u64).wrapping_mul(0xd134_2543_de82_ef95)
}

/// The step of splitmix64.
pub(super) const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The output function of splitmix64.
pub(super) fn mix(state: u64) -> u64 {
    let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test's failure is a panic")]
    use super::*;
    use crate::record::{RecordBuilder, TopicPartition};

    fn call(header_bytes: usize, host_calls: u64) -> Call {
        let mut builder = RecordBuilder::new(None, Some(&[0; 100_000]));
        // Each has two lengths before it.
        builder.header(b"h", Some(&vec![0; header_bytes - 9]));
        let record = builder.build(TopicPartition { topic: 0, partition: 0 }, 0, 0);
        let delivery = Delivery { record, timer: None, attempt: 1, follows_dead_letter: false };
        Call { batch: Arc::new(vec![delivery]), host_calls, host_calls_left: host_calls, ..Call::default() }
    }

    #[test]
    fn a_walk_over_many_headers_counts_as_many_calls() {
        for (bytes, walks) in [(20, 60), (BYTES - 1, 60), (BYTES, 30), (5 * BYTES + 1, 10), (60 * BYTES, 0)] {
            let mut call = call(bytes, 60);
            for walk in 0..walks {
                assert!(call.walk(0).is_ok(), "{bytes} bytes, walk {walk}");
            }
            let refused = call.walk(0).unwrap_err().to_string();
            assert_eq!(refused, "more than 60 calls into the host", "{bytes} bytes");
        }
    }
}
