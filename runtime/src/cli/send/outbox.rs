//! A batch of lines on its way to the broker.

use super::lines::At;
use crate::cli::line::Line;
use keyrail::admin::stop::Stop;
use keyrail::broker::client::{ANSWER_WAIT, Client};
use keyrail::broker::{Produce, Refusal};
use std::time::{Duration, Instant};

/// A record that the broker does not take now is sent again after this time, for as long as an answer is waited for.
const AGAIN: Duration = Duration::from_millis(200);

/// See the module.
pub(super) struct Outbox<'a> {
    client: Box<dyn Client>,
    topic: &'a str,
    batch: Vec<(At, Line)>,
    bytes: usize,
}

/// What became of a batch.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) sent: u64,
    /// Will never be taken: place and reason of each.
    pub(super) refused: Vec<String>,
    /// Neither acknowledged nor refused.
    pub(super) unknown: u64,
    /// Why nothing more can be sent.
    pub(super) failed: Option<String>,
}

impl<'a> Outbox<'a> {
    pub(super) fn new(client: Box<dyn Client>, topic: &'a str) -> Self {
        Self { client, topic, batch: Vec::new(), bytes: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.batch.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn push(&mut self, at: At, line: Line) {
        self.bytes += line.content_bytes();
        self.batch.push((at, line));
    }

    /// Sends the batch, and waits until each of its records is acknowledged or refused.
    pub(super) fn deliver(&mut self, stop: &Stop) -> Told {
        self.bytes = 0;
        let mut left = std::mem::take(&mut self.batch);
        let mut told = Told::default();
        let until = Instant::now() + ANSWER_WAIT;
        while !left.is_empty() {
            let results = match produce(self.client.as_mut(), self.topic, &left) {
                Ok(results) => results,
                Err(why) => {
                    told.unknown = left.len() as u64;
                    let (first, last) = (&left[0].0, &left[left.len() - 1].0);
                    told.failed = Some(format!("{why}; it is not known what became of {first} to {last}"));
                    return told;
                }
            };
            let mut blocked = None;
            let mut kept = Vec::new();
            for ((at, line), result) in left.drain(..).zip(results) {
                match result {
                    Ok(()) => told.sent += 1,
                    Err(Refusal::Undeliverable(why)) => told.refused.push(format!("{at}: refused: {why}")),
                    Err(Refusal::Blocked(why) | Refusal::Fenced(why)) => {
                        blocked.get_or_insert(why);
                        kept.push((at, line));
                    }
                }
            }
            left = kept;
            if let (Some(why), Some((first, _))) = (blocked, left.first())
                && (Instant::now() >= until || stop.wait(AGAIN))
            {
                let count = left.len();
                told.failed = Some(format!("{first}: not taken, and {count} lines from there on were not sent: {why}"));
                return told;
            }
        }
        told
    }
}

/// Name and value.
type Header<'a> = (&'a [u8], Option<&'a [u8]>);

fn produce(
    client: &mut dyn Client,
    topic: &str,
    lines: &[(At, Line)],
) -> Result<Vec<Result<(), Refusal>>, keyrail::broker::BrokerError> {
    let headers: Vec<Vec<Header<'_>>> = lines
        .iter()
        .map(|(_, line)| line.headers.iter().map(|(name, value)| (name.as_slice(), value.as_deref())).collect())
        .collect();
    let records: Vec<Produce<'_>> = lines
        .iter()
        .zip(&headers)
        .map(|((_, line), headers)| Produce {
            topic,
            partition: line.partition,
            key: line.key.as_deref(),
            value: line.value.as_deref(),
            headers,
            timestamp_ms: line.timestamp_ms,
        })
        .collect();
    client.produce(&records)
}
