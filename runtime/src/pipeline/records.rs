//! The records that a settled message becomes: outputs and dead letters.

use crate::broker::Produce;
use crate::config::HeaderStyle;
use crate::record::Record;
use crate::replay::{self, Lost};
use crate::wasm::{Send, inherited};
use keyrail_engine::message::{Company, Epitaph};

/// The header that tells a timer's name.
const TIMER: &str = "keyrail-timer";
/// The header that tells the output of a delayed send.
const DELAYED: &str = "keyrail-delayed";

/// A header as the broker takes it.
pub(crate) type Header<'a> = (&'a [u8], Option<&'a [u8]>);

/// A header of a dead letter's own.
pub(super) type OwnHeader = (&'static str, Vec<u8>);

/// Of a dead letter that was given up with another message: where that one was read, TOPIC:PARTITION:OFFSET.
const FOLLOWS: &str = "keyrail-follows";

/// Of a dead letter: the run that it died of, for `keyrail replay`.
const RECORD: &str = replay::HEADER;

/// What an output takes from the message it is made of.
#[derive(Debug)]
pub(crate) struct Source {
    timestamp_ms: i64,
    /// Only with headers: those without, which are most, are not held for it.
    record: Option<Record>,
}

impl Source {
    pub(crate) fn of(record: &Record) -> Self {
        Self { timestamp_ms: record.timestamp_ms, record: (record.header_count() > 0).then(|| record.clone()) }
    }
}

/// The headers of an output: the handler's own, then the message's, all or only those of its trace.
pub(crate) fn output_headers<'a>(send: &Send<'a>, source: &'a Source) -> Vec<Header<'a>> {
    let Some(record) = &source.record else { return send.headers.clone().collect() };
    let set = |name: &[u8]| send.headers.clone().any(|(own, _)| own == name);
    send.headers.clone().chain(inherited(record, send.forward_headers, set)).collect()
}

/// The record of an output.
pub(super) fn output<'a>(topic: &'a str, send: &Send<'a>, source: &Source, headers: &'a [Header<'a>]) -> Produce<'a> {
    let own = (source.timestamp_ms >= 0).then_some(source.timestamp_ms);
    Produce {
        topic,
        partition: None,
        key: send.key,
        value: send.value,
        headers,
        timestamp_ms: send.timestamp_ms.or(own),
    }
}

/// The record of a delayed send that is due.
pub(super) fn delayed<'a>(topic: &'a str, record: &'a Record, headers: &'a [Header<'a>]) -> Produce<'a> {
    let timestamp_ms = (record.timestamp_ms >= 0).then_some(record.timestamp_ms);
    Produce { topic, partition: None, key: record.key(), value: record.value(), headers, timestamp_ms }
}

/// What a dead letter tells of its pipeline.
#[derive(Debug, Clone)]
pub(super) struct Origin<'a> {
    pub(super) topic: &'a str,
    pub(super) group: &'a str,
    /// Name and digest.
    pub(super) handler: &'a str,
    pub(super) style: HeaderStyle,
    /// The message was this timer, which the one at the place that the letter tells has set.
    pub(super) timer: Option<&'a str>,
    /// It was to be sent to this output, later, by the message at that place.
    pub(super) delayed: Option<&'a str>,
    /// Only what tells origin and reason: the full set was too large.
    pub(super) short: bool,
}

/// The headers that a dead letter gets beside the message's own. Where the message was a dead letter before, its first
/// origin is kept.
pub(super) fn letter_headers(origin: &Origin<'_>, record: &Record, epitaph: &Epitaph) -> Vec<OwnHeader> {
    let mut headers = match origin.style {
        HeaderStyle::Keyrail => keyrail_headers(origin, record, epitaph),
        HeaderStyle::Spring => spring_headers(origin, record, epitaph),
    };
    headers.extend(origin.timer.map(|name| (TIMER, name.as_bytes().to_vec())));
    headers.extend(origin.delayed.map(|output| (DELAYED, output.as_bytes().to_vec())));
    headers
}

fn keyrail_headers(origin: &Origin<'_>, record: &Record, epitaph: &Epitaph) -> Vec<OwnHeader> {
    let mut headers = Vec::with_capacity(11);
    if record.header(b"keyrail-topic").is_none() {
        headers.push(("keyrail-topic", origin.topic.as_bytes().to_vec()));
        headers.push(("keyrail-partition", text(record.at.partition)));
        headers.push(("keyrail-offset", text(record.offset)));
        headers.push(("keyrail-timestamp", text(record.timestamp_ms)));
    }
    headers.push(("keyrail-reason", epitaph.reason.as_str().into()));
    if let Company::Follows(offset) = epitaph.company {
        headers.push((FOLLOWS, format!("{}:{}:{offset}", origin.topic, record.at.partition).into_bytes()));
    }
    if !origin.short {
        headers.push(("keyrail-group", origin.group.as_bytes().to_vec()));
        headers.push(("keyrail-handler", origin.handler.as_bytes().to_vec()));
        headers.push(("keyrail-attempts", text(epitaph.attempts)));
        headers.push(("keyrail-first-failed", text(epitaph.first_failed_ms)));
        headers.push(("keyrail-code", epitaph.failure.code.as_bytes().to_vec()));
        headers.push(("keyrail-detail", epitaph.failure.detail.as_bytes().to_vec()));
    }
    headers
}

/// Spring for Apache Kafka's names (`KafkaHeaders`); its numbers are big-endian.
fn spring_headers(origin: &Origin<'_>, record: &Record, epitaph: &Epitaph) -> Vec<OwnHeader> {
    let mut headers = Vec::with_capacity(8);
    if record.header(b"kafka_dlt-original-topic").is_none() {
        headers.push(("kafka_dlt-original-topic", origin.topic.as_bytes().to_vec()));
        headers.push(("kafka_dlt-original-partition", record.at.partition.to_be_bytes().to_vec()));
        headers.push(("kafka_dlt-original-offset", record.offset.to_be_bytes().to_vec()));
        headers.push(("kafka_dlt-original-timestamp", record.timestamp_ms.to_be_bytes().to_vec()));
        headers.push(("kafka_dlt-original-consumer-group", origin.group.as_bytes().to_vec()));
    }
    headers.push(("kafka_dlt-exception-fqcn", epitaph.reason.as_str().into()));
    if !origin.short {
        let message = format!("{}: {}", epitaph.failure.code, epitaph.failure.detail);
        headers.push(("kafka_dlt-exception-message", message.into_bytes()));
    }
    headers
}

fn text(number: impl ToString) -> Vec<u8> {
    number.to_string().into_bytes()
}

/// The header with the run that a letter died of, beside those in `ours`.
pub(super) fn record_header(record: &Record, ours: &[OwnHeader], run: &[u8]) -> OwnHeader {
    let lost = record.headers().enumerate().filter(|(_, (name, _))| is_replaced(name, ours));
    let lost: Vec<Lost> = lost.map(|(n, (name, value))| (n, name.to_vec(), value.map(<[u8]>::to_vec))).collect();
    (RECORD, replay::seal(run, record.header_count() - lost.len(), &lost))
}

/// Whether a header of the message is left out of its letter.
fn is_replaced(name: &[u8], ours: &[OwnHeader]) -> bool {
    [FOLLOWS, RECORD].iter().any(|own| own.as_bytes() == name) || ours.iter().any(|(own, _)| own.as_bytes() == name)
}

/// All headers of a dead letter: the message's own, without what an earlier dead-lettering wrote and this one writes
/// anew, then ours.
pub(super) fn all_letter_headers<'a>(record: &'a Record, ours: &'a [OwnHeader]) -> Vec<Header<'a>> {
    let kept = record.headers().filter(|(name, _)| !is_replaced(name, ours));
    kept.chain(ours.iter().map(|(name, value)| (name.as_bytes(), Some(value.as_slice())))).collect()
}

/// The record of a dead letter: key and value byte for byte, and the time of dead-lettering, since retention would
/// delete an old one at once.
pub(super) fn letter<'a>(topic: &'a str, record: &'a Record, headers: &'a [Header<'a>]) -> Produce<'a> {
    Produce { topic, partition: None, key: record.key(), value: record.value(), headers, timestamp_ms: None }
}

/// A record of an internal topic. Its partition is that of the input which it is of.
pub(super) fn internal<'a>(
    topic: &'a str,
    partition: i32,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
) -> Produce<'a> {
    Produce { topic, partition: Some(partition), key, value, headers: &[], timestamp_ms: None }
}

#[cfg(test)]
mod tests;
