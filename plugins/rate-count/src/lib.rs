//! Counts messages by key, header or field over windows of time: see README.md.

mod windows;

use std::collections::{HashSet, VecDeque};
use std::error::Error;

use keyrail_sdk::prelude::*;
use keyrail_sdk::{BatchHandler, Delivery, Metric, Source, Verdict};
use plugin_common::config::{Config, Wrong, wrong};
use plugin_common::json::quote;
use plugin_common::{Doc, Kind, Path};
use windows::{Counted, Group, Summary, Windows};

const KEYS: [&str; 7] = ["by", "window", "grace", "ahead", "groups", "output", "invalid"];
const DAY_MS: u64 = 86_400_000;
/// Summaries that one message may carry out, within `limits.outputs`; what is left waits for the next.
const CARRIED: usize = 200;
/// Summaries that one batch may carry out: a call may ask the host only so often.
const CARRIED_BY_BATCH: usize = 2000;

enum By {
    Key,
    Header(String),
    Field(Path),
    All,
}

struct RateCount {
    by: By,
    windows: Windows,
    output: String,
    drop_invalid: bool,
    /// Closed and not sent yet.
    closed: VecDeque<Summary>,
    recounted: Recounted,
    metrics: Metrics,
    tally: Tally,
}

/// What one batch adds to the metrics.
#[derive(Default)]
struct Tally {
    messages: u32,
    late: u32,
    ahead: u32,
    no_room: u32,
    summaries: u32,
}

struct Metrics {
    messages: Metric,
    late: Metric,
    ahead: Metric,
    no_room: Metric,
    summaries: Metric,
    groups: Metric,
}

impl BatchHandler for RateCount {
    fn open(setup: &Setup) -> Result<Self, Box<dyn Error>> {
        let config = Config::new(setup, &KEYS)?;
        let window_ms = config.duration_ms("window", 1..=366 * DAY_MS, 60_000)?;
        let grace_ms = config.duration_ms("grace", 0..=366 * DAY_MS, 0)?;
        let ahead_ms = config.duration_ms("ahead", 0..=366 * DAY_MS, 3_600_000)?;
        let groups = config.number("groups", 1..=100_000, 10_000)?;
        Ok(RateCount {
            by: by(config.text("by")?.unwrap_or("key"))?,
            windows: Windows::new(window_ms, grace_ms, ahead_ms, usize::try_from(groups)?),
            output: config.output("output", "counts")?,
            drop_invalid: config.choice("invalid", &[("dead-letter", false), ("drop", true)], false)?,
            closed: VecDeque::new(),
            recounted: Recounted::new(setup.max_batch()),
            tally: Tally::default(),
            metrics: Metrics {
                messages: setup.counter("rate_count_messages", &[]),
                late: setup.counter("rate_count_late", &[]),
                ahead: setup.counter("rate_count_ahead", &[]),
                no_room: setup.counter("rate_count_no_room", &[]),
                summaries: setup.counter("rate_count_summaries", &[]),
                groups: setup.gauge("rate_count_groups", &[]),
            },
        })
    }

    fn process(&mut self, batch: &[Delivery<'_>]) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(batch.len());
        let mut failed = false;
        for delivery in batch {
            let outcome = match self.by.group(delivery) {
                Ok(group) => Ok(self.count(delivery, group, failed)),
                Err(_) if self.drop_invalid => Ok(Skip),
                Err(problem) => Err(problem),
            };
            failed |= outcome.is_err();
            outcomes.push(outcome);
        }
        self.send_closed(batch, &outcomes);
        self.observe(batch);
        outcomes
    }
}

impl RateCount {
    /// `failed`: an earlier message of the batch failed, so this one may be undone and come again.
    fn count(&mut self, delivery: &Delivery<'_>, group: Group, failed: bool) -> Verdict {
        let (message, ctx) = (delivery.message, &delivery.ctx);
        let Source::Topic(index) = *message.source() else { return Skip };
        let source = (index, message.partition());
        if !self.recounted.is_first((source, message.offset()), failed) {
            return Done;
        }
        let topic = ctx.topic().unwrap_or_default();
        *match self.windows.count(source, topic, message.timestamp_ms(), ctx.now_ms(), group) {
            Counted::Yes => &mut self.tally.messages,
            Counted::Late => &mut self.tally.late,
            Counted::Ahead => &mut self.tally.ahead,
            Counted::NoRoom => &mut self.tally.no_room,
        } += 1;
        self.windows.close(source, &mut self.closed);
        Done
    }

    /// Sends what is closed with the first messages of the batch: they stand, since no failure stands before them.
    fn send_closed(&mut self, batch: &[Delivery<'_>], outcomes: &[Outcome]) {
        let mut left = CARRIED_BY_BATCH;
        for (delivery, outcome) in batch.iter().zip(outcomes) {
            if outcome.is_err() {
                break;
            }
            for _ in 0..CARRIED.min(left) {
                let Some(summary) = self.closed.front() else { return };
                if let Err(refused) = send(&self.output, summary, delivery) {
                    // The next batch tries again: the message itself is counted and must not be counted twice.
                    warn!(code = refused.code(); "a summary was refused and waits: {refused}");
                    return;
                }
                self.closed.pop_front();
                self.tally.summaries += 1;
                left -= 1;
            }
        }
    }

    /// Once a batch, not once a message: each is a call of the host.
    fn observe(&mut self, batch: &[Delivery<'_>]) {
        let Some(delivery) = batch.first() else { return };
        let tally = std::mem::take(&mut self.tally);
        for (metric, number) in [
            (self.metrics.messages, tally.messages),
            (self.metrics.late, tally.late),
            (self.metrics.ahead, tally.ahead),
            (self.metrics.no_room, tally.no_room),
            (self.metrics.summaries, tally.summaries),
        ] {
            if number > 0 {
                delivery.ctx.observe(metric, f64::from(number));
            }
        }
        delivery.ctx.observe(self.metrics.groups, self.windows.groups() as f64);
    }
}

fn send(output: &str, summary: &Summary, delivery: &Delivery<'_>) -> Result<(), keyrail_sdk::Error> {
    let mut json = String::from("{\"group\":");
    match &summary.group {
        Group::Named(bytes) => quote(&String::from_utf8_lossy(bytes), &mut json),
        Group::None | Group::Others => json.push_str("null"),
    }
    if summary.group == Group::Others {
        json.push_str(",\"others\":true");
    }
    json.push_str(&format!(
        ",\"from\":{},\"to\":{},\"count\":{},\"topic\":",
        summary.from_ms, summary.to_ms, summary.count
    ));
    quote(&summary.topic, &mut json);
    json.push_str(&format!(",\"partition\":{}}}", summary.partition));
    let record = delivery.ctx.send(output, json).timestamp_ms(summary.to_ms);
    match &summary.group {
        Group::Named(bytes) => record.key(bytes).dispatch(),
        Group::None | Group::Others => record.key(Null).dispatch(),
    }
}

impl By {
    fn group(&self, delivery: &Delivery<'_>) -> Result<Group, Problem> {
        let message = delivery.message;
        let bytes = match self {
            By::All => None,
            By::Key => message.key().map(<[u8]>::to_vec),
            By::Header(name) => delivery.ctx.header(name),
            By::Field(path) => match message.value() {
                None => None,
                Some(value) => {
                    let doc = Doc::parse(value).map_err(|fault| fault.problem())?;
                    path.first(doc.root()).and_then(|found| match found.kind() {
                        Kind::String => found.text().map(|text| text.into_owned().into_bytes()),
                        Kind::Number | Kind::True | Kind::False => Some(found.raw().as_bytes().to_vec()),
                        Kind::Null | Kind::Array | Kind::Object => None,
                    })
                }
            },
        };
        Ok(bytes.map_or(Group::None, Group::named))
    }
}

fn by(text: &str) -> Result<By, Wrong> {
    match text.split_once(':') {
        None if text == "key" => Ok(By::Key),
        None if text == "all" => Ok(By::All),
        Some(("header", name)) if !name.is_empty() => Ok(By::Header(name.to_owned())),
        Some(("field", path)) => Path::parse(path).map(By::Field).map_err(|why| wrong("by", text, &why)),
        _ => Err(wrong("by", text, "it must be key, header:NAME, field:PATH or all")),
    }
}

/// Messages that were counted behind a failed one. The host undoes those of its key and brings them again at once,
/// behind it; the count is not undone, so they are known here and not counted again.
struct Recounted {
    known: HashSet<(windows::Source, u64)>,
    order: VecDeque<(windows::Source, u64)>,
    most: usize,
}

impl Recounted {
    fn new(max_batch: u32) -> Self {
        let most = (max_batch as usize).saturating_mul(4).clamp(1024, 65_536);
        Recounted { known: HashSet::new(), order: VecDeque::new(), most }
    }

    /// `place` is the message's partition and offset.
    fn is_first(&mut self, place: (windows::Source, u64), failed: bool) -> bool {
        if self.known.contains(&place) {
            return false;
        }
        if failed {
            if self.order.len() >= self.most
                && let Some(oldest) = self.order.pop_front()
            {
                self.known.remove(&oldest);
            }
            self.known.insert(place);
            self.order.push_back(place);
        }
        true
    }
}

keyrail_sdk::handler!(batch type RateCount);

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests;
