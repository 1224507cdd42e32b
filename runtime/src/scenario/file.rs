//! A scenario as two files: `NAME.jsonl`, what a handler is given, and `NAME.expected.jsonl`, what is to come of it.
//!
//! What is given is a record a line, as `keyrail send` takes it, with its `topic` where the pipeline has several inputs; or
//! `{"advance":"1h"}`, which moves the clock. The first line may be `{"pipeline":"NAME","start":MS}`. What comes is told in a
//! line for each run of a message, for each delayed send that goes out, and for what is left undone at the end.

mod http;

use super::told::{Data, Output, StateChange, TimerChange, changes};
use super::{Answered, End, Event, Input, Pending, Place, Player, Told, What};
use crate::config::{Pipeline, duration_ms};
use crate::line::{self, Wrong};
use crate::wasm::Handler;
use http::{Answer, Asked, answered, asked};
use keyrail_engine::message::{Epitaph, Failure};
use keyrail_engine::policy::Spent;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How the names of scenarios end.
pub const ENDING: &str = ".jsonl";
/// And those of what is to come of them.
pub const EXPECTED: &str = ".expected.jsonl";
/// The clock's time at the start, where the file names none: 2023-11-14T22:13:20Z.
const START_MS: i64 = 1_700_000_000_000;
/// So many lines that differ are shown.
const SHOWN: usize = 5;
/// So many characters of a line that is told alone.
const TOLD: usize = 400;
/// For a line that was written before so many are looked through.
const LOOKED_THROUGH: usize = 1_000;
/// An expected text may be `{"contains":"part"}` instead.
const CONTAINS: &str = "contains";

/// The first line.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Head {
    pipeline: Option<String>,
    /// Milliseconds since the Unix epoch.
    start: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Advance {
    advance: String,
}

/// What a line asks for.
#[derive(Debug)]
enum Step {
    Give(Input),
    Advance(u64),
    Answer(Answered),
}

/// What came, as a line.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Came {
    /// Milliseconds after the start.
    #[serde(skip_serializing_if = "is_zero")]
    at: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pending: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<Data>,
    #[serde(skip_serializing_if = "is_first")]
    attempt: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    /// It runs again after so many milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    again: Option<u64>,
    /// The message that it is given up with.
    #[serde(skip_serializing_if = "Option::is_none")]
    with: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    requests: Vec<Asked>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    sends: Vec<Output>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    later: Vec<Later>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    state: Vec<StateChange>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    timers: Vec<TimerChange>,
    /// A delayed send that goes out.
    #[serde(skip_serializing_if = "Option::is_none")]
    sent: Option<Output>,
}

/// A delayed send.
#[derive(Debug, Serialize)]
struct Later {
    /// Milliseconds after its message is settled.
    after: u64,
    #[serde(flatten)]
    send: Output,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it so")]
fn is_first(attempt: &Option<u32>) -> bool {
    attempt.is_none_or(|attempt| attempt <= 1)
}

/// The file with what is to come of this one.
#[must_use]
pub fn expected(file: &Path) -> PathBuf {
    let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    file.with_file_name(format!("{}{EXPECTED}", name.strip_suffix(ENDING).unwrap_or(&name)))
}

/// A file's lines, as they were read.
#[derive(Debug)]
pub struct Scenario<'t> {
    file: String,
    head: Head,
    /// With their numbers, from 0.
    lines: Vec<(usize, &'t str)>,
}

impl<'t> Scenario<'t> {
    /// Reads one. `file` stands in errors.
    ///
    /// # Errors
    /// Its first line is wrong, with file and line.
    pub fn read(file: &Path, text: &'t str) -> Result<Self, String> {
        let file = file.display().to_string();
        let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).peekable();
        let is_head = |line: &str| line.trim_start().starts_with('{') && serde_json::from_str::<Head>(line).is_ok();
        let head = match lines.next_if(|(_, line)| is_head(line)) {
            Some((number, line)) => {
                serde_json::from_str::<Head>(line).map_err(|why| format!("{file}:{}: {why}", number + 1))?
            }
            None => Head::default(),
        };
        Ok(Self { file, head, lines: lines.collect() })
    }

    /// The pipeline that it names, if it names one.
    #[must_use]
    pub fn pipeline(&self) -> Option<&str> {
        self.head.pipeline.as_deref()
    }

    /// Patterns stand for the topics that its messages name, whatever there is at a broker now: it comes to the same anywhere.
    fn expanded(&self, manifest: &Pipeline) -> Pipeline {
        #[derive(Deserialize)]
        struct Named {
            topic: String,
        }
        let mut manifest = manifest.clone();
        if manifest.patterns.is_empty() {
            return manifest;
        }
        // What is wrong with a line is told when it is played.
        let named = self.lines.iter().filter_map(|(_, line)| serde_json::from_str::<Named>(line).ok());
        let named: BTreeSet<String> = named.map(|named| named.topic).collect();
        let is_meant = |topic: &String| manifest.patterns.iter().any(|pattern| pattern.matches(topic));
        let mut input: Vec<String> = manifest.input.iter().filter(|topic| !is_meant(topic)).cloned().collect();
        input.extend(named.into_iter().filter(is_meant));
        manifest.input = input;
        manifest
    }

    /// Plays it with a handler by this manifest: what came, a line each. `limit`: it takes no longer than that by the
    /// real clock.
    ///
    /// # Errors
    /// A line is wrong, with file and line, or the scenario can't go on.
    pub fn play(&self, handler: Handler, manifest: &Pipeline, limit: Option<Duration>) -> Result<Vec<String>, String> {
        let manifest = self.expanded(manifest);
        let topics = &*manifest.input;
        let mut player = Player::new(handler, &manifest, self.head.start.unwrap_or(START_MS));
        limit.into_iter().for_each(|limit| player.end_after(limit));
        let at = |number: usize| format!("{}:{}", self.file, number + 1);
        let (mut told, mut given) = (Vec::new(), false);
        for (number, line) in &self.lines {
            match step(line, topics).map_err(|why| format!("{}{why}", at(*number)))? {
                Step::Give(input) => {
                    player.give(&input);
                    given = true;
                }
                Step::Advance(ms) => player.advance(ms).map_err(|why| format!("{}: {why}", at(*number)))?,
                Step::Answer(answer) => player.answer(&answer).map_err(|why| format!("{}: {why}", at(*number)))?,
            }
            told.extend(player.events().iter().map(|event| came(event, topics)));
        }
        if !given {
            let cure = "a line each, as {\"key\":\"k1\",\"value\":\"v\"}";
            return Err(format!("{} has no message: {cure}", self.file));
        }
        player.settle().map_err(|why| why.to_string())?;
        told.extend(player.events().iter().map(|event| came(event, topics)));
        told.extend(player.pending().iter().map(|pending| left(pending, topics)));
        told.iter().map(|came| serde_json::to_string(came).map_err(|why| why.to_string())).collect()
    }
}

/// Reads a line; the error begins with its column, if that is known.
fn step(line: &str, topics: &[String]) -> Result<Step, String> {
    let whole = |why: String| format!(": {why}");
    let wrong = |wrong: Wrong| match wrong.column {
        0 => whole(wrong.why),
        column => format!(":{column}: {}", wrong.why),
    };
    let value: Value = serde_json::from_str(line).map_err(|error| wrong(Wrong::of(&error)))?;
    if value.get("advance").is_some() {
        let Advance { advance } = serde_json::from_value(value).map_err(|why| whole(why.to_string()))?;
        return duration_ms(&advance).map(Step::Advance).map_err(whole);
    }
    if value.get("answer").is_some() {
        let answer: Answer = serde_json::from_value(value).map_err(|why| whole(why.to_string()))?;
        return answered(answer).map(Step::Answer).map_err(whole);
    }
    if value.get("value").is_none() {
        let kinds = "a message has a \"value\", {\"advance\":\"1h\"} moves the clock, {\"answer\":\"GET URL\"} is what a server says, and the first line may be \
                     {\"pipeline\":\"NAME\",\"start\":MS}";
        return Err(whole(format!("\"value\" is missing: {kinds}")));
    }
    let topic = match (value.get("topic").map(|topic| topic.as_str().ok_or("\"topic\" must be text")), topics) {
        (Some(Err(why)), _) => return Err(whole(why.to_owned())),
        (Some(Ok(named)), _) => topics.iter().position(|topic| topic == named).ok_or_else(|| {
            whole(format!("{named:?} is no input of the pipeline, which reads {}", topics.join(", ")))
        })?,
        (None, [_]) => 0,
        (None, _) => return Err(whole(format!("\"topic\" is missing: one of {}", topics.join(", ")))),
    };
    let line = line::parse(line.as_bytes()).map_err(wrong)?;
    Ok(Step::Give(Input {
        topic: u32::try_from(topic).unwrap_or(u32::MAX),
        partition: line.partition.unwrap_or(0),
        key: line.key,
        value: line.value,
        headers: line.headers,
        timestamp_ms: line.timestamp_ms,
    }))
}

fn name(place: Place, topics: &[String]) -> String {
    let topic = topics.get(place.topic as usize).map_or("?", String::as_str);
    format!("{topic}/{}@{}", place.partition, place.offset)
}

fn came(event: &Event, topics: &[String]) -> Came {
    let at = event.at_ms;
    let Told { place, timer, key, attempt, requests, said: _, end } = match &event.what {
        What::Goes(sent) => return Came { at, sent: Some(Output::of(sent)), ..Came::default() },
        What::Message(told) => told,
    };
    let (message, timer) = (Some(name(*place, topics)), timer.clone());
    let mut line =
        Came { at, message, timer, key: Some(Data(key.clone())), attempt: Some(*attempt), ..Came::default() };
    line.requests = requests.iter().map(asked).collect();
    match end {
        End::Stands { skipped, sends, later, changes: all } => {
            line.outcome = Some(if *skipped { "skip" } else { "done" });
            line.sends = sends.iter().map(Output::of).collect();
            line.later = later.iter().map(|(after, sent)| Later { after: *after, send: Output::of(sent) }).collect();
            (line.state, line.timers) = changes(all);
        }
        End::Retry { failure, wait_ms } => {
            line.outcome = Some("retry");
            line.again = Some(*wait_ms);
            say(&mut line, failure);
        }
        End::GivenUp(then, epitaph) => {
            let Epitaph { reason, failure, .. } = &**epitaph;
            line.outcome = Some(match then {
                Spent::DeadLetter | Spent::DeadLetterKey => "dead-letter",
                Spent::Hold => "held",
                Spent::Discard => "discarded",
            });
            line.reason = Some(reason.as_str());
            say(&mut line, failure);
        }
        End::Follows(first) => {
            (line.outcome, line.reason) = (Some("dead-letter"), Some("follows"));
            line.with = Some(name(*first, topics));
        }
        End::Duplicate => line.outcome = Some("duplicate"),
    }
    line
}

fn say(line: &mut Came, failure: &Failure) {
    line.code = Some(failure.code.clone());
    line.detail = Some(failure.detail.clone()).filter(|detail| !detail.is_empty());
}

fn left(pending: &Pending, topics: &[String]) -> Came {
    match pending {
        Pending::Timer(alarm, at_ms) => Came {
            at: u64::try_from(*at_ms).unwrap_or(0),
            pending: Some("timer"),
            timer: Some(alarm.name.clone()),
            key: Some(Data(alarm.key.clone())),
            ..Came::default()
        },
        Pending::Later(at, sent) => {
            Came { at: *at, pending: Some("send"), sent: Some(Output::of(sent)), ..Came::default() }
        }
        Pending::Message { place, timer, key } => Came {
            pending: Some("message"),
            message: Some(name(*place, topics)),
            timer: timer.clone(),
            key: Some(Data(key.clone())),
            ..Came::default()
        },
    }
}

/// What is wrong with what came, in lines; none if nothing is. Where both begin and end alike is left out.
#[must_use]
pub fn against(expected: &str, came: &[String]) -> Vec<String> {
    let expected: Vec<&str> = lines(expected);
    if let Some(why) = no_json(&expected) {
        return vec![why];
    }
    let (begin, mine, others) = apart(&expected, came);
    if mine.is_empty() && others.is_empty() {
        return Vec::new();
    }
    let mut wrong = vec![format!("from line {}: expected -, came +", begin + 1)];
    let missing = mine.iter().map(|line| format!("- {line}"));
    let more = others.iter().map(|line| format!("+ {line}"));
    for (count, told) in
        [(mine.len(), &mut missing.into_iter() as &mut dyn Iterator<Item = _>), (others.len(), &mut more.into_iter())]
    {
        wrong.extend(told.take(SHOWN));
        if count > SHOWN {
            wrong.push(format!("  and {} lines more", count - SHOWN));
        }
    }
    wrong
}

/// The first thing that is wrong, in one line, if anything is.
#[must_use]
pub fn first_against(file: &Path, expected: &str, came: &[String]) -> Option<String> {
    let lines: Vec<&str> = lines(expected);
    let file = file.display();
    if let Some(why) = no_json(&lines) {
        return Some(format!("{file}: {why}"));
    }
    let (begin, mine, others) = apart(&lines, came);
    if mine.is_empty() && others.is_empty() {
        return None;
    }
    let number = expected.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).nth(begin);
    let number = number.map_or_else(|| expected.lines().count(), |(number, _)| number) + 1;
    let cut = |line: &str| {
        let short: String = line.chars().take(TOLD).collect();
        if short.len() < line.len() { short + "..." } else { short }
    };
    let (mine, others) = (mine.first().copied(), others.first().map(String::as_str));
    let [mine, others] = [mine, others].map(|line| line.map_or_else(|| "no further line".to_owned(), cut));
    Some(format!("{file}:{number}: expected {mine}, came {others}"))
}

fn no_json(expected: &[&str]) -> Option<String> {
    let is_json = |line: &str| serde_json::from_str::<serde::de::IgnoredAny>(line);
    let (number, why) = (1..).zip(expected).find_map(|(number, line)| Some((number, is_json(line).err()?)))?;
    Some(format!("line {number} of what is expected is no JSON: {why}"))
}

/// Where both are not alike: from which line on, and what stands there in each.
fn apart<'e, 'c>(expected: &'e [&'e str], came: &'c [String]) -> (usize, &'e [&'e str], &'c [String]) {
    let meets = |(one, other): &(&&str, &String)| is_met(one, other);
    let begin = expected.iter().zip(came).take_while(meets).count();
    let (mine, others) = (&expected[begin..], &came[begin..]);
    let end = mine.iter().rev().zip(others.iter().rev()).take_while(meets).count();
    (begin, &mine[..mine.len() - end], &others[..others.len() - end])
}

/// Those that say something.
fn lines(text: &str) -> Vec<&str> {
    text.lines().filter(|line| !line.trim().is_empty()).collect()
}

fn is_met(expected: &str, came: &str) -> bool {
    let read = serde_json::from_str::<Value>;
    match (read(expected), read(came)) {
        (Ok(expected), Ok(came)) => meets(&expected, &came),
        _ => false,
    }
}

/// The same, but for texts of which a part is named.
fn meets(expected: &Value, came: &Value) -> bool {
    match (expected, came) {
        (Value::Object(expected), Value::String(text)) => match (expected.get(CONTAINS), expected.len()) {
            (Some(Value::String(part)), 1) => text.contains(part),
            _ => false,
        },
        (Value::Object(expected), Value::Object(came)) => {
            expected.len() == came.len()
                && expected.iter().all(|(name, value)| came.get(name).is_some_and(|found| meets(value, found)))
        }
        (Value::Array(expected), Value::Array(came)) => {
            expected.len() == came.len() && expected.iter().zip(came).all(|(one, other)| meets(one, other))
        }
        (expected, came) => expected == came,
    }
}

/// What is to be written: what was written before stays where it is met, since somebody may have loosened it. Lines keep their order.
#[must_use]
pub fn kept(before: &str, came: &[String]) -> Vec<String> {
    let before = lines(before);
    let mut next = 0;
    let line = |came: &String| {
        let found = before[next..].iter().take(LOOKED_THROUGH).position(|line| is_met(line, came))?;
        next += found + 1;
        Some(before[next - 1].to_owned())
    };
    let mut line = line;
    came.iter().map(|came| line(came).unwrap_or_else(|| came.clone())).collect()
}

#[cfg(test)]
mod tests;
