//! What came of a run, in lines, and what differs between two.

use super::once::{Once, short};
use crate::cli::line;
use crate::cli::place::utc;
use crate::cli::table::painted;
use crate::cli::terminal::{self, Clean};
use keyrail::replay::{Change, Played, Sent, Verdict};
use serde_json::{Map, Value, json};

/// So much of a line is shown; compared is all of it.
const SHOWN_CHARS: usize = 400;
/// So many of the names that were read are shown.
const SHOWN_NAMES: usize = 20;

/// How a run ended, in a line.
pub(in crate::cli) fn verdict(verdict: &Verdict) -> String {
    let failure = &verdict.failure;
    let code = if failure.code.is_empty() { String::new() } else { format!(" {}", failure.code) };
    let detail = if failure.detail.is_empty() { String::new() } else { format!(": {}", failure.detail) };
    let wait = verdict.delay_ms.map_or_else(String::new, |ms| format!(" (again after {ms} ms)"));
    format!("{}{code}{detail}{wait}", verdict.kind.as_str())
}

/// How it ended, and what it staged: of a run that failed as what is undone.
fn lines(played: &Played) -> Vec<String> {
    let undone = if played.verdict.kind.stands() { "" } else { "(undone) " };
    let staged = played.sent.iter().map(sent).chain(played.changes.iter().map(change));
    std::iter::once(verdict(&played.verdict)).chain(staged.map(|line| format!("{undone}{line}"))).collect()
}

fn bytes(bytes: Option<&[u8]>) -> String {
    bytes.map_or_else(|| "null".to_owned(), line::told)
}

/// To the millisecond: times that differ must not look the same.
fn time(ms: i64) -> String {
    let told = utc(ms);
    told.strip_suffix('Z').map_or_else(|| told.clone(), |seconds| format!("{seconds}.{:03}Z", ms % 1_000))
}

/// One line of text for a terminal.
fn clean(text: &str) -> String {
    let text = Clean(&text.replace('\n', "\\n")).to_string();
    let cut: String = text.chars().take(SHOWN_CHARS).collect();
    if cut.len() < text.len() { format!("{cut}... ({} more bytes)", text.len() - cut.len()) } else { cut }
}

fn sent(sent: &Sent) -> String {
    let mut out = format!("send {} key {} value {}", sent.to, bytes(sent.key.as_deref()), bytes(sent.value.as_deref()));
    for (name, value) in &sent.headers {
        out += &format!(" header {}: {}", line::told(name), bytes(value.as_deref()));
    }
    if sent.forward_headers {
        out += " with the message's headers";
    }
    out + &sent.timestamp_ms.map_or_else(String::new, |ms| format!(" at {}", time(ms)))
}

fn change(change: &Change) -> String {
    match change {
        Change::State(name, None) => format!("state {name} deleted"),
        Change::State(name, Some((value, end))) => {
            let until = end.map_or_else(String::new, |ms| format!(" until {}", time(ms)));
            format!("state {name} = {}{until}", bytes(Some(value)))
        }
        Change::Timer(name, None) => format!("timer {name} cancelled"),
        Change::Timer(name, Some((at_ms, payload))) => {
            format!("timer {name} at {}: {}", time(*at_ms), bytes(Some(payload)))
        }
    }
}

/// What is only in `old` with `-`, what is only in `new` with `+`: what both begin and end with is the same.
fn difference(old: &[String], new: &[String]) -> Vec<(char, String)> {
    let same = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let (rest, other) = (&old[same..], &new[same..]);
    let end = rest.iter().rev().zip(other.iter().rev()).take_while(|(a, b)| a == b).count();
    let of = |sign: char, lines: &[String]| lines.iter().map(|line| (sign, line.clone())).collect::<Vec<_>>();
    [
        of(' ', &old[..same]),
        of('-', &rest[..rest.len() - end]),
        of('+', &other[..other.len() - end]),
        of(' ', &other[other.len() - end..]),
    ]
    .concat()
}

/// A letter, for people.
pub(super) fn block(once: &Once) -> String {
    let colours = terminal::colours();
    let mut out = painted(&Clean(&once.id).to_string(), "\x1b[1m", colours) + "\n";
    let mut add = |name: &str, text: &str| out += &format!("  {name:<9} {}\n", clean(text));
    if let Some(problem) = &once.problem {
        add("not run", problem);
        return out;
    }
    let case = &once.case;
    let timer = case.timer.as_ref().map_or_else(String::new, |timer| format!(", timer {}", timer.name));
    add("message", &format!("{}/{}@{}{timer}, attempt {}", case.topic, case.partition, case.offset, case.attempt));
    add("handler", &format!("{}@{}", once.pipeline, short(&once.handler)));
    add("at", &time(case.now_ms));
    for (name, value) in case.reads.names.iter().take(SHOWN_NAMES) {
        add("read", &format!("{name} = {}", value.as_ref().map_or_else(|| "nothing".to_owned(), |v| bytes(Some(v)))));
    }
    if case.reads.names.len() > SHOWN_NAMES {
        add("", &format!("and {} more names", case.reads.names.len() - SHOWN_NAMES));
    }
    add("then", &verdict(&once.then));
    if let Some(old) = &once.old {
        add("again", &verdict(&old.verdict));
        add("verdict", if once.is_as_then(old) { "identical" } else { "different" });
    }
    if let Some((digest, new)) = &once.new {
        add("with", short(digest));
        let old = once.old.as_ref().map_or_else(|| vec![verdict(&once.then)], lines);
        for (sign, line) in difference(&old, &lines(new)) {
            let colour = if sign == '-' { "\x1b[31m" } else { "\x1b[32m" };
            let line = format!("  {sign} {}", clean(&line));
            out += &(if sign == ' ' { line } else { painted(&line, colour, colours) } + "\n");
        }
    } else if let Some(old) = &once.old {
        for line in lines(old).into_iter().skip(1) {
            add("staged", &line);
        }
    }
    let missing = once.now().map_or(&[][..], |now| &now.missing);
    let inexact = missing.iter().map(|what| format!("inexact: it reads {what}, which the record does not hold"));
    for note in once.notes.iter().cloned().chain(inexact) {
        out += &format!("  {:<9} {}\n", "note", clean(&note));
    }
    out
}

/// The same in a line.
pub(super) fn line(once: &Once) -> String {
    let told = match (&once.problem, once.now()) {
        (Some(problem), _) => format!("not run: {problem}"),
        (None, Some(now)) if once.is_as_then(now) => format!("as then: {}", verdict(&now.verdict)),
        (None, Some(now)) => format!("{}  ->  {}", verdict(&once.then), verdict(&now.verdict)),
        (None, None) => "not run".to_owned(),
    };
    clean(&format!("{}  {told}", once.id)) + "\n"
}

/// A verdict for programs.
fn verdict_json(verdict: &Verdict) -> Map<String, Value> {
    let mut all = Map::new();
    all.insert("outcome".to_owned(), json!(verdict.kind.as_str()));
    if !verdict.kind.stands() {
        all.insert("code".to_owned(), json!(verdict.failure.code));
        all.insert("detail".to_owned(), json!(verdict.failure.detail));
    }
    if let Some(ms) = verdict.delay_ms {
        all.insert("delay".to_owned(), json!(ms));
    }
    all
}

fn played_json(played: &Played) -> Value {
    let mut all = verdict_json(&played.verdict);
    let expected = super::fixture::Expected::of(played);
    for (name, value) in expected.effects() {
        all.insert(name.to_owned(), value);
    }
    if !played.missing.is_empty() {
        all.insert("missing".to_owned(), json!(played.missing));
    }
    Value::Object(all)
}

/// A letter, for programs, in a line.
pub(super) fn json(once: &Once) -> Vec<u8> {
    let told = match (&once.problem, once.now()) {
        (None, Some(_)) => json!({
            "letter": once.id,
            "pipeline": once.pipeline,
            "handler": once.handler,
            "attempt": once.case.attempt,
            "then": verdict_json(&once.then),
            "again": once.old.as_ref().map(played_json),
            "with": once.new.as_ref().map(|(digest, played)| {
                let mut told = played_json(played);
                told["handler"] = json!(digest);
                told
            }),
            "identical": once.is_identical(),
            "exact": once.now().is_some_and(|now| now.missing.is_empty()) && once.is_recorded,
            "notes": once.notes,
        }),
        (problem, _) => json!({ "letter": once.id, "pipeline": once.pipeline, "problem": problem }),
    };
    // No part of it can't be JSON.
    (told.to_string() + "\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_told_and_what_both_begin_and_end_with_is_not() {
        let of = |text: &str| text.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect::<Vec<_>>();
        let told = |old: &str, new: &str| {
            let all = difference(&of(old), &of(new));
            all.iter().map(|(sign, line)| format!("{sign}{line}")).collect::<Vec<_>>().join("")
        };
        assert_eq!(told("a b c", "a x c"), " a-b+x c");
        assert_eq!(told("a", "a b"), " a+b");
        assert_eq!(told("a b b", "a b"), " a b-b");
        assert_eq!(told("", "a"), "+a");
        assert_eq!(told("a", "a"), " a");
    }
}
