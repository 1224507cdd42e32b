//! Parked messages as tables and blocks for people, and as JSON for programs.

use super::lanes::{Key, Lane, Lanes};
use super::live::Found;
use crate::cli::decode::Decode;
use crate::cli::table::{Column, Table, Tone};
use crate::cli::terminal::{self, Clean, counted, grouped, say};
use crate::cli::{line, place};
use keyrail::config::Pipeline;
use keyrail::record::{Record, TopicPartition};
use keyrail_engine::parking::{self, AT_ONCE, Envelope, HELD};
use std::collections::BTreeMap;
use std::io::Write as _;

/// So many records that can't be read are told by name.
const TOLD: usize = 10;

/// Records that are no parked messages of this pipeline.
#[derive(Debug, Default)]
pub(super) struct Odd {
    strangers: u64,
    unreadable: u64,
    told: Vec<String>,
}

impl Odd {
    pub(super) fn take(&mut self, topic: &str, record: &Record, found: &Found<'_>) {
        let place = format!("{topic}/{}@{}", record.at.partition, record.offset);
        let told = match found {
            Found::Stranger => {
                self.strangers += 1;
                format!("{place}: it is none of this pipeline's messages: passed over")
            }
            Found::Message(offset, Err(why)) => {
                self.unreadable += 1;
                format!("{place}: the message that was read at {offset} can't be read: {why}")
            }
            Found::Message(_, Ok(_)) => return,
        };
        if self.told.len() < TOLD {
            self.told.push(told);
        }
    }

    /// All that waits can be read.
    pub(super) fn is_empty(&self) -> bool {
        self.unreadable == 0
    }

    pub(super) fn tell(&self) {
        self.told.iter().for_each(|told| say(&format!("keyrail: {told}")));
        let more = self.strangers + self.unreadable - self.told.len() as u64;
        if more > 0 {
            say(&format!("keyrail: {} like these", counted(more, "more record")));
        }
    }
}

/// The first messages of a lane.
#[derive(Debug)]
pub(super) struct Messages {
    limit: usize,
    /// By input and partition, then by their place: where each was read, and its record.
    held: BTreeMap<(TopicPartition, u64), (i64, Record)>,
    pub(super) count: usize,
}

impl Messages {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, held: BTreeMap::new(), count: 0 }
    }

    pub(super) fn take(&mut self, at: TopicPartition, offset: i64, record: &Record) {
        let Some(envelope) = envelope(record) else { return };
        self.count += 1;
        self.held.insert((at, envelope.waiting.number), (offset, record.clone()));
        if self.held.len() > self.limit {
            self.held.pop_last();
        }
    }
}

fn envelope(record: &Record) -> Option<Envelope<'_>> {
    parking::decode(record.value()?).ok()
}

/// When, for people.
fn due(due_ms: i64, given_up: bool) -> (String, Tone) {
    match due_ms {
        _ if given_up => ("given up".to_owned(), Tone::Bad),
        AT_ONCE => ("behind the first".to_owned(), Tone::Plain),
        HELD => ("held".to_owned(), Tone::Bad),
        ms if ms <= place::now_ms() => (format!("{} (due)", place::utc(ms)), Tone::Warning),
        ms => (place::utc(ms), Tone::Plain),
    }
}

/// See the module.
pub(super) struct Shown<'a> {
    pub(super) pipeline: &'a Pipeline,
    pub(super) odd: &'a Odd,
}

impl Shown<'_> {
    fn input(&self, at: TopicPartition) -> &str {
        self.pipeline.input.get(at.topic as usize).map_or("?", String::as_str)
    }

    pub(super) fn table(&self, all: &[(&Key, TopicPartition, &Lane)]) -> Vec<u8> {
        let mut table = Table::new(&[
            Column("key", false),
            Column("first", false),
            Column("due", false),
            Column("attempts", true),
            Column("code", false),
            Column("since", false),
            Column("waiting", true),
        ]);
        let plain = |text: String| (text, Tone::Plain);
        for (key, at, lane) in all {
            let key = match key {
                Key::Of(key) => line::told(key).replace('\n', "\\n"),
                Key::Partition => "(the whole partition)".to_owned(),
                Key::Alone(offset) => format!("(at {offset})"),
            };
            table.row([
                plain(key),
                plain(format!("{}:{}:{}", self.input(*at), at.partition, lane.offset)),
                due(lane.due_ms, lane.given_up),
                plain(lane.attempts.to_string()),
                plain(lane.code.replace('\n', " ")),
                plain(place::utc(lane.since_ms)),
                plain(grouped(i64::try_from(lane.waiting).unwrap_or(i64::MAX))),
            ]);
        }
        table.render(terminal::width(), terminal::colours()).into_bytes()
    }

    pub(super) fn json(&self, all: &[(&Key, TopicPartition, &Lane)], lanes: &Lanes, more: bool) -> Vec<u8> {
        let mut out = b"{\"pipeline\":".to_vec();
        line::text(&self.pipeline.name, &mut out);
        // Writing to memory does not fail, here and below.
        drop(write!(out, ",\"waiting\":{},\"unreadable\":{},\"keys\":[", lanes.waiting, self.odd.unreadable));
        for (n, (key, at, lane)) in all.iter().enumerate() {
            out.extend_from_slice(if n == 0 { b"{\"topic\":" } else { b",{\"topic\":" });
            line::text(self.input(*at), &mut out);
            drop(write!(out, ",\"partition\":{},\"key\":", at.partition));
            let key = if let Key::Of(key) = key { Some(key.as_slice()) } else { None };
            line::blob(key, &mut out);
            drop(write!(out, ",\"offset\":{}", lane.offset));
            drop(write!(out, ",\"due_ms\":{},\"held\":{}", due_json(lane.due_ms), lane.due_ms == HELD));
            drop(write!(out, ",\"given_up\":{}", lane.given_up));
            drop(write!(out, ",\"attempts\":{},\"code\":", lane.attempts));
            line::text(&lane.code, &mut out);
            drop(write!(out, ",\"since_ms\":{},\"waiting\":{}}}", lane.since_ms, lane.waiting));
        }
        drop(writeln!(out, "],\"more\":{more}}}"));
        out
    }

    pub(super) fn messages(&self, messages: &Messages, decode: Decode) -> Vec<u8> {
        let mut out = String::new();
        for (n, ((at, _), (offset, record))) in messages.held.iter().enumerate() {
            let Some(envelope) = envelope(record) else { continue };
            let waiting = &envelope.waiting;
            // As `parked retry` and `drop` take it.
            out += &format!("{}:{}:{offset}\n", Clean(self.input(*at)), at.partition);
            let mut add = |name: &str, text: &str| {
                for (n, line) in text.lines().enumerate() {
                    let name = if n == 0 { name } else { "" };
                    out += format!("  {name:<9} {}", Clean(line)).trim_end();
                    out.push('\n');
                }
            };
            add("place", &format!("{} of those that wait", n + 1));
            if let Some(timer) = envelope.timer {
                add("timer", &format!("{}, set by offset {}", line::told(timer.name.as_bytes()), timer.offset));
            }
            add("due", &due(waiting.due_ms, waiting.given_up.is_some()).0);
            if waiting.history.failures > 0 || waiting.history.attempts > 0 {
                add("attempts", &waiting.history.attempts.to_string());
                add("code", &waiting.failure.code);
                add("detail", &waiting.failure.detail);
                add(
                    "failed",
                    &waiting.history.first_failed_ms.map_or_else(String::new, |ms| format!("first {}", place::utc(ms))),
                );
            }
            add("of", &place::utc(envelope.timestamp_ms));
            for (n, (name, value)) in envelope.headers.iter().enumerate() {
                let value = value.map_or_else(|| "null".to_owned(), line::told);
                let shown = format!("{}: {value}", line::told(name)).replace('\n', "\\n");
                add(if n == 0 { "headers" } else { "" }, &shown);
            }
            add("key", &decode.lines(envelope.key));
            add("value", &decode.lines(envelope.value));
        }
        out.into_bytes()
    }

    /// A line for each.
    pub(super) fn messages_json(&self, messages: &Messages) -> Vec<u8> {
        let mut out = Vec::new();
        for ((at, number), (offset, record)) in &messages.held {
            let Some(envelope) = envelope(record) else { continue };
            let waiting = &envelope.waiting;
            out.extend_from_slice(b"{\"topic\":");
            line::text(self.input(*at), &mut out);
            drop(write!(out, ",\"partition\":{},\"offset\":{offset},\"number\":{number}", at.partition));
            if let Some(timer) = envelope.timer {
                out.extend_from_slice(b",\"timer\":");
                line::text(timer.name, &mut out);
            }
            drop(write!(out, ",\"timestamp\":{},\"key\":", envelope.timestamp_ms));
            line::blob(envelope.key, &mut out);
            out.extend_from_slice(b",\"value\":");
            line::blob(envelope.value, &mut out);
            out.extend_from_slice(b",\"headers\":[");
            for (n, (name, value)) in envelope.headers.iter().enumerate() {
                out.extend_from_slice(if n == 0 { b"[" } else { b",[" });
                line::blob(Some(name), &mut out);
                out.push(b',');
                line::blob(*value, &mut out);
                out.push(b']');
            }
            drop(write!(out, "],\"due_ms\":{},\"held\":{}", due_json(waiting.due_ms), waiting.due_ms == HELD));
            drop(write!(out, ",\"given_up\":{}", waiting.given_up.is_some()));
            drop(write!(out, ",\"attempts\":{},\"code\":", waiting.history.attempts));
            line::text(&waiting.failure.code, &mut out);
            out.extend_from_slice(b",\"detail\":");
            line::text(&waiting.failure.detail, &mut out);
            let first = waiting.history.first_failed_ms.map_or_else(|| "null".to_owned(), |ms| ms.to_string());
            drop(writeln!(out, ",\"first_failed_ms\":{first}}}"));
        }
        out
    }
}

/// `null`: it waits behind another, or until somebody acts.
fn due_json(due_ms: i64) -> String {
    if matches!(due_ms, AT_ONCE | HELD) { "null".to_owned() } else { due_ms.to_string() }
}
