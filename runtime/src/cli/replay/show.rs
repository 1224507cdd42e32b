//! What came of a run, in lines, and what differs between two.

use super::bench::short;
use super::once::Once;
use crate::cli::runs::{bytes, change, clean, difference, painted_difference, sent, time, verdict};
use crate::cli::table::painted;
use crate::cli::terminal::{self, Clean};
use keyrail::replay::{Played, Verdict};
use serde_json::{Map, Value, json};

/// So many of the names that were read are shown.
const SHOWN_NAMES: usize = 20;

/// How it ended, and what it staged: of a run that failed as what is undone.
fn lines(played: &Played) -> Vec<String> {
    let undone = if played.verdict.kind.stands() { "" } else { "(undone) " };
    let staged = played.sent.iter().map(sent).chain(played.changes.iter().map(change));
    std::iter::once(verdict(&played.verdict)).chain(staged.map(|line| format!("{undone}{line}"))).collect()
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
        let difference = difference(&old, &lines(new));
        let difference: Vec<_> = difference.iter().map(|(sign, line)| (*sign, clean(line))).collect();
        out += &painted_difference(&difference, colours);
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
