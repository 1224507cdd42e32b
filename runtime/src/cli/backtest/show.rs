//! What a back-test found, for people and for programs.

use super::Came;
use super::tally::Count;
use crate::cli::place::utc;
use crate::cli::replay::bench::short;
use crate::cli::runs::{bytes, change, clean, difference, painted_difference, sent};
use crate::cli::table::{Column, Table, Tone, painted};
use crate::cli::terminal::{self, counted, grouped};
use keyrail::backtest::{Seen, ending};
use keyrail::record::Record;
use keyrail::scenario::told::{Data, Output, changes};
use keyrail::scenario::{End, Place, Told, Took};
use serde_json::{Map, Value, json};
use std::path::Path;

/// So large a run is not kept for programs.
const MOST_EXAMPLE_BYTES: usize = 1 << 20;
/// Of fewer calls the first ones, which find nothing in the processor's caches, say too much.
const FEW_CALLS: u64 = 1_000;

/// The first message of a key that differs.
#[derive(Debug)]
pub(super) struct Example {
    place: String,
    timer: Option<String>,
    /// For people.
    lines: Vec<(char, String)>,
    /// For programs: both runs.
    runs: Option<(Value, Value)>,
}

impl Example {
    pub(super) fn of(seen: &Seen<'_>, topics: &[String], json: bool) -> Self {
        let told = seen.old.or(seen.new);
        let runs = json.then(|| (run_json(seen.old), run_json(seen.new)));
        let size = |(old, new): &(Value, Value)| old.to_string().len() + new.to_string().len();
        let all = if json { Vec::new() } else { difference(&lines(seen.old), &lines(seen.new)) };
        Self {
            place: told.map_or_else(String::new, |told| name(told.place, topics)),
            timer: told.and_then(|told| told.timer.clone()),
            lines: all.iter().map(|(sign, line)| (*sign, clean(line))).collect(),
            runs: runs.filter(|runs| size(runs) <= MOST_EXAMPLE_BYTES),
        }
    }
}

impl Example {
    /// It in a line.
    pub(super) fn line(&self, seen: &Seen<'_>) -> String {
        let key = seen.old.or(seen.new).and_then(|told| told.key.as_deref());
        let timer = self.timer.as_ref().map_or_else(String::new, |timer| format!(", timer {timer}"));
        let (old, new) = (ending(seen.old), ending(seen.new));
        clean(&format!("key {}, {}{timer}: {old} -> {new}", bytes(key), self.place))
    }
}

fn name(place: Place, topics: &[String]) -> String {
    let topic = topics.get(place.topic as usize).map_or("?", String::as_str);
    format!("{topic}/{}@{}", place.partition, place.offset)
}

/// Where a record stands.
pub(super) fn place(record: &Record, topics: &[String]) -> String {
    name(Place { topic: record.at.topic, partition: record.at.partition, offset: record.offset }, topics)
}

/// How a run ended and what it leaves, a line each.
fn lines(told: Option<&Told>) -> Vec<String> {
    let how = ending(told).to_string();
    let Some(told) = told else { return vec!["no such timer".to_owned()] };
    let said = told.said.as_ref();
    let detail = said.map(|said| said.failure.detail.as_str()).filter(|detail| !detail.is_empty());
    let detail = detail.map_or_else(String::new, |detail| format!(": {detail}"));
    let wait = said.and_then(|said| said.delay_ms).map_or_else(String::new, |ms| format!(" (again after {ms} ms)"));
    let mut all = vec![format!("{how}{detail}{wait}")];
    if let End::Stands { sends, later, changes, .. } = &told.end {
        all.extend(sends.iter().map(sent));
        all.extend(later.iter().map(|(ms, one)| format!("{}, {ms} ms later", sent(one))));
        all.extend(changes.iter().map(change));
    }
    all
}

/// A run for programs.
fn run_json(told: Option<&Told>) -> Value {
    let Some(told) = told else { return Value::Null };
    let how = ending(Some(told));
    let mut all = Map::new();
    let mut add = |name: &str, value: Value| drop(all.insert(name.to_owned(), value));
    add("outcome", json!(how.outcome));
    if !how.code.is_empty() {
        add("code", json!(how.code));
    }
    if let Some(said) = &told.said {
        if !said.failure.detail.is_empty() {
            add("detail", json!(said.failure.detail));
        }
        if let Some(ms) = said.delay_ms {
            add("delay", json!(ms));
        }
    }
    if let End::Stands { sends, later, changes: all, .. } = &told.end {
        let (state, timers) = changes(all);
        let after = |(ms, one): &(u64, _)| json!({ "after": ms, "send": Output::of(one) });
        add("sends", json!(sends.iter().map(Output::of).collect::<Vec<_>>()));
        add("later", json!(later.iter().map(after).collect::<Vec<_>>()));
        add("state", json!(state));
        add("timers", json!(timers));
    }
    Value::Object(all)
}

/// Microseconds of a call.
fn each_us(took: &Took) -> Option<f64> {
    (took.calls > 0).then(|| took.time.as_secs_f64() * 1e6 / took.calls as f64)
}

/// A back-test that is over.
pub(super) struct Report<'a> {
    pub(super) pipeline: &'a str,
    /// Digest and file.
    pub(super) old: (&'a str, &'a Path),
    pub(super) new: (&'a str, &'a Path),
    pub(super) came: &'a Came,
    pub(super) begins_empty: bool,
    pub(super) with_state: bool,
}

impl Report<'_> {
    pub(super) fn text(&self) -> String {
        let colours = terminal::colours();
        let mut out = self.head(colours);
        let tally = &self.came.tally;
        if tally.differing() == 0 {
            return out;
        }
        let number = |number: u64| (grouped(i64::try_from(number).unwrap_or(i64::MAX)), Tone::Plain);
        let mut table = Table::new(&[Column("what differs", false), Column("times", true)]);
        for (kind, count) in tally.by_frequency() {
            table.row([(kind.to_string(), Tone::Plain), number(count)]);
        }
        if tally.other_kinds > 0 {
            table.row([("other codes".to_owned(), Tone::Plain), number(tally.other_kinds)]);
        }
        out += &format!("\n{}", table.render(terminal::width(), colours));
        for of_key in &tally.keys {
            let Example { place, timer, lines, .. } = &of_key.first;
            let timer = timer.as_ref().map_or_else(String::new, |timer| format!(", timer {timer}"));
            let first = if of_key.differing > 1 { "differ, first" } else { "differs," };
            let differing = grouped(i64::try_from(of_key.differing).unwrap_or(i64::MAX));
            let key = painted(&clean(&bytes(of_key.key.as_deref())), "\x1b[1m", colours);
            out += &format!("\n{key}  {differing} {first} {}\n", clean(&format!("{place}{timer}")));
            out += &painted_difference(lines, colours);
        }
        let (keys, more) = tally.differing_keys();
        let hidden = keys - tally.keys.len() as u64;
        if hidden > 0 {
            let least = if more { "at least " } else { "" };
            out += &format!("\nand {least}{} more: --limit-keys shows them\n", counted(hidden, "key"));
        }
        out
    }

    fn head(&self, colours: bool) -> String {
        let Came { tally, took, times, .. } = self.came;
        let mut out = painted(self.pipeline, "\x1b[1m", colours) + "\n";
        let mut add = |name: &str, text: String| out += &format!("  {name:<12}  {}\n", clean(&text));
        let file = |(digest, file): (&str, &Path)| format!("{}  {}", short(digest), file.display());
        add("old", file(self.old));
        add("new", file(self.new));
        let number = |number: u64| grouped(i64::try_from(number).unwrap_or(i64::MAX));
        let span = times.map_or_else(String::new, |(first, last)| format!(", {} to {}", utc(first), utc(last)));
        add("messages", format!("{}{span}", number(tally.messages.all)));
        add("the same", number(tally.messages.same()));
        let of_keys = |keys: (u64, bool)| {
            let least = if keys.1 { "at least " } else { "" };
            format!(" of {least}{}", counted(keys.0, "key"))
        };
        let keys = if tally.differing() > 0 { of_keys(tally.differing_keys()) } else { String::new() };
        add("different", format!("{}{keys}", number(tally.messages.differing)));
        if tally.timers.all > 0 {
            let Count { all, differing, .. } = tally.timers;
            add("timers", format!("{} ran, {} different", number(all), number(differing)));
        }
        let refused = tally.messages.not_comparable + tally.timers.not_comparable;
        if refused > 0 {
            add("not compared", format!("{}: they make HTTP requests, which are not sent", number(refused)));
        }
        if let (Some(old), Some(new)) = (each_us(&took.0), each_us(&took.1)) {
            let times = match took.0.calls.min(took.1.calls) {
                0..FEW_CALLS => format!("{new:.1} us, the old one's {old:.1} us: too few calls to compare"),
                _ => format!("{new:.1} us, {:.2} times the old one's {old:.1} us", new / old.max(f64::EPSILON)),
            };
            add("a call", times);
        }
        let state = if self.with_state { "" } else { ", and its changes are not compared" };
        let began = if self.begins_empty { "empty" } else { "as it is now" };
        add("note", format!("state began {began}{state}; each message ran once, whatever came of it"));
        out
    }

    pub(super) fn json(&self) -> String {
        let Came { tally, took, times, interrupted, .. } = self.came;
        let kind = |(kind, count): (&keyrail::backtest::Difference, u64)| {
            let end = |ending: &keyrail::backtest::Ending| json!({ "outcome": ending.outcome, "code": ending.code });
            let parts: Vec<&str> = kind.parts.iter().map(|part| part.as_str()).collect();
            json!({ "timer": kind.timer, "old": end(&kind.old), "new": end(&kind.new), "parts": parts, "count": count })
        };
        let keys = tally.keys.iter().map(|of_key| {
            let Example { place, timer, runs, .. } = &of_key.first;
            json!({
                "key": Data(of_key.key.clone()),
                "differing": of_key.differing,
                "first": {
                    "message": place,
                    "timer": timer,
                    "old": runs.as_ref().map(|(old, _)| old),
                    "new": runs.as_ref().map(|(_, new)| new),
                },
            })
        });
        let count = |count: &Count| {
            let Count { all, differing, not_comparable } = count;
            json!({ "ran": all, "same": count.same(), "differing": differing, "not_comparable": not_comparable })
        };
        let version = |(digest, file): (&str, &Path), took: &Took| json!({ "file": file.display().to_string(), "sha256": digest, "call_us": each_us(took) });
        let (differing, more) = tally.differing_keys();
        let told = json!({
            "pipeline": self.pipeline,
            "old": version(self.old, &took.0),
            "new": version(self.new, &took.1),
            "from": times.map(|(first, _)| first),
            "until": times.map(|(_, last)| last),
            "complete": !interrupted,
            "messages": count(&tally.messages),
            "timers": count(&tally.timers),
            "differences": tally.by_frequency().into_iter().map(kind).collect::<Vec<_>>(),
            "other_differences": tally.other_kinds,
            "differing_keys": differing,
            "differing_keys_at_least": more,
            "keys": keys.collect::<Vec<_>>(),
        });
        told.to_string() + "\n"
    }
}
