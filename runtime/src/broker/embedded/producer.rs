//! Hands records to the writer in batches.
//!
//! While a batch is on its way, what comes in is packed into the next: the slower the disk, the larger the batches.

use super::errors::{fatal, refusal};
use super::staging::Staging;
use super::store::Store;
use super::writer::{Request, Write};
use crate::broker::{BrokerError, Produce, Producer, Refusal};
use crossbeam_channel::{Receiver, Sender, bounded};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// Batches handed over and not answered yet.
const BATCHES: usize = 4;
/// A batch of this size does not wait for the one before it.
const BATCH_BYTES: usize = 1 << 20;
/// Bytes packed and not answered yet; beyond it [`Producer::send`] takes nothing.
const BYTES: usize = 32 << 20;
/// Records packed and not answered yet, for the same.
const RECORDS: usize = 200_000;

type Reports = Vec<(u64, Result<(), Refusal>)>;

/// A batch's number, and what became of it.
type Report = (u64, Result<(), BrokerError>);

/// A batch that was handed over.
#[derive(Debug)]
struct Batch {
    number: u64,
    tokens: Vec<u64>,
    bytes: usize,
}

/// Tells what became of a batch, also when the writer ends before it says so.
struct Told {
    to: Sender<Report>,
    number: u64,
    told: bool,
}

impl Told {
    fn tell(&mut self, result: Result<(), BrokerError>) {
        if !std::mem::replace(&mut self.told, true) {
            // There is room for the report of each batch; without a producer nobody wants it.
            drop(self.to.try_send((self.number, result)));
        }
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        self.tell(Err(fatal("the broker was closed; whether the record was written is not known")));
    }
}

/// See [`super::Embedded::producer`].
#[derive(Debug)]
pub(super) struct EmbeddedProducer {
    staging: Staging,
    tokens: Vec<u64>,
    batches: VecDeque<Batch>,
    number: u64,
    in_flight: usize,
    in_flight_bytes: usize,
    told: Sender<Report>,
    heard: Receiver<Report>,
    /// Reports of what was never handed over.
    failed: Reports,
}

impl EmbeddedProducer {
    pub(super) fn new(store: Arc<Store>) -> Self {
        // A batch that could not be handed over may report as well.
        let (told, heard) = bounded(2 * BATCHES);
        Self {
            staging: Staging::new(store),
            tokens: Vec::new(),
            batches: VecDeque::new(),
            number: 0,
            in_flight: 0,
            in_flight_bytes: 0,
            told,
            heard,
            failed: Vec::new(),
        }
    }

    /// Hands over what is staged.
    fn ship(&mut self) {
        let bytes = self.staging.bytes();
        let write = Write { appends: self.staging.take(), ..Write::default() };
        let tokens = std::mem::take(&mut self.tokens);
        self.number += 1;
        let mut told = Told { to: self.told.clone(), number: self.number, told: false };
        match self.staging.store().submit(Request::Write(write, Box::new(move |result| told.tell(result)))) {
            Ok(()) => self.batches.push_back(Batch { number: self.number, tokens, bytes }),
            Err(error) => {
                let refusal = refusal(&error);
                self.failed.extend(tokens.into_iter().map(|token| (token, Err(refusal.clone()))));
                self.in_flight_bytes -= bytes;
            }
        }
    }

    fn ship_if_due(&mut self) {
        let due = self.batches.is_empty() || self.staging.bytes() >= BATCH_BYTES && self.batches.len() < BATCHES;
        if !self.tokens.is_empty() && due {
            self.ship();
        }
    }

    fn take(&mut self, (number, result): Report, reports: &mut Reports) {
        // One that is not known could not be handed over, and was reported then.
        let Some(place) = self.batches.iter().position(|b| b.number == number) else { return };
        let Some(batch) = self.batches.remove(place) else { return };
        self.in_flight -= batch.tokens.len();
        self.in_flight_bytes -= batch.bytes;
        let result = result.map_err(|e| refusal(&e));
        reports.extend(batch.tokens.into_iter().map(|token| (token, result.clone())));
    }
}

impl Producer for EmbeddedProducer {
    fn send(&mut self, record: &Produce<'_>, token: u64) -> Result<bool, Refusal> {
        if self.in_flight_bytes >= BYTES || self.in_flight >= RECORDS {
            return Ok(false);
        }
        let bytes = self.staging.stage(record)?;
        self.tokens.push(token);
        self.in_flight += 1;
        self.in_flight_bytes += bytes;
        if self.staging.bytes() >= BATCH_BYTES {
            self.ship_if_due();
        }
        Ok(true)
    }

    fn poll(&mut self, wait: Duration, reports: &mut Reports) {
        self.ship_if_due();
        self.in_flight -= self.failed.len();
        let before = reports.len();
        reports.append(&mut self.failed);
        if reports.len() == before
            && !self.batches.is_empty()
            && !wait.is_zero()
            && let Ok(report) = self.heard.recv_timeout(wait)
        {
            self.take(report, reports);
        }
        while let Ok(report) = self.heard.try_recv() {
            self.take(report, reports);
        }
        self.ship_if_due();
    }

    fn in_flight(&self) -> usize {
        self.in_flight
    }
}
