//! What `keyrail plugins` shows.

use crate::cli::place::utc;
use crate::cli::table::{Column, Table, Tone};
use crate::cli::terminal::{self, grouped};
use serde::Deserialize;

/// Of a digest so much is shown, as in logs and dead letters.
const DIGITS: usize = 12;

/// A pipeline, as the process tells it. What is not known here is passed over: the process may be newer.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Entry {
    pub(super) pipeline: String,
    pub(super) state: String,
    detail: Option<String>,
    manifest: Option<String>,
    handler: Option<String>,
    digest: Option<String>,
    since_ms: Option<i64>,
    messages: Option<Counts>,
    restarts: u64,
    paused: Option<Paused>,
    loading: Option<String>,
    refused: Option<Refused>,
    trial: Option<Trial>,
    rolled_back: Option<Refused>,
}

/// A version on trial.
#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Trial {
    digest: String,
    share: f64,
    since_ms: i64,
    shown: String,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Counts {
    settled: u64,
    failed_runs: u64,
    dead_letters: u64,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Paused {
    by: String,
    since_ms: i64,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Refused {
    digest: Option<String>,
    at_ms: i64,
    why: String,
}

/// Whether what was asked for is so, or can't be.
pub(super) fn is_so(entry: &Entry, action: &str) -> bool {
    match action {
        "pause" => entry.state == "paused",
        "resume" => matches!(entry.state.as_str(), "active" | "canary" | "failed" | "rejected" | "gone"),
        _ => true,
    }
}

/// Whether it is as it was meant.
pub(super) fn is_well(entry: &Entry, action: &str) -> bool {
    action != "resume" || matches!(entry.state.as_str(), "active" | "canary" | "waiting" | "gone")
}

/// What came of it.
pub(super) fn after(entry: &Entry, action: &str) -> String {
    let name = &entry.pipeline;
    match (action, entry.state.as_str()) {
        ("pause", _) => format!("{name} is paused: it stays so until `keyrail plugins resume {name}`"),
        (_, "gone") => format!("nothing is left of {name}: its manifest is not in the folder"),
        ("promote", _) => format!("{name} runs on version {} with all its keys", short(entry.digest.as_deref())),
        ("rollback", _) => {
            format!("{name} runs on version {} again, with all its keys", short(entry.digest.as_deref()))
        }
        ("resume", "active" | "canary") => format!("{name} runs, version {}", short(entry.digest.as_deref())),
        _ => format!("{name} is {}{}", entry.state, because(entry)),
    }
}

fn because(entry: &Entry) -> String {
    entry.detail.as_ref().map(|why| format!(": {why}")).unwrap_or_default()
}

pub(super) fn table(all: &[Entry]) -> String {
    let mut table = Table::new(&[
        Column("pipeline", false),
        Column("state", false),
        Column("version", false),
        Column("since", false),
        Column("settled", true),
        Column("failed runs", true),
        Column("dead letters", true),
        Column("restarts", true),
    ]);
    for entry in all {
        let plain = |text: String| (text, Tone::Plain);
        let count =
            |of: fn(&Counts) -> u64| plain(entry.messages.as_ref().map_or_else(|| "-".to_owned(), |m| number(of(m))));
        table.row([
            plain(entry.pipeline.clone()),
            (entry.state.clone(), tone(entry)),
            plain(short(entry.digest.as_deref())),
            plain(since(entry).map_or_else(|| "-".to_owned(), utc)),
            count(|messages| messages.settled),
            count(|messages| messages.failed_runs),
            count(|messages| messages.dead_letters),
            plain(number(entry.restarts)),
        ]);
    }
    table.render(terminal::width(), terminal::colours())
}

/// What a person should know beside the table.
pub(super) fn remarks(entry: &Entry) -> Vec<String> {
    let name = &entry.pipeline;
    let mut all = Vec::new();
    if let Some(why) = &entry.detail {
        all.push(format!("keyrail: {name} is {}: {}", entry.state, brief(why)));
    }
    if let Some(Trial { digest, share, shown, .. }) = &entry.trial {
        let digest = short(Some(digest));
        all.push(format!("keyrail: {name}: version {digest} is on trial on {} of the keys: {shown}", part(*share)));
    }
    if let Some(Refused { digest, why, .. }) = &entry.rolled_back {
        let digest = short(digest.as_deref());
        all.push(format!("keyrail: {name}: the folder's version {digest} is rolled back: {}", brief(why)));
    }
    if let Some(Refused { digest, why, .. }) = &entry.refused {
        let version = digest.as_deref().map(|digest| format!(" (version {})", short(Some(digest)))).unwrap_or_default();
        all.push(format!("keyrail: {name}: the last change{version} is refused: {}", brief(why)));
    }
    all
}

/// The first of several things; `show` has all.
fn brief(why: &str) -> &str {
    why.lines().next().unwrap_or_default()
}

pub(super) fn one(entry: &Entry) -> String {
    let mut out = String::new();
    let mut line = |what: &str, text: String| {
        let text = terminal::Clean(&text).to_string();
        out.push_str(&format!("{what:<13} {}\n", text.replace('\n', &format!("\n{:14}", ""))));
    };
    line("pipeline", entry.pipeline.clone());
    line("state", entry.state.clone());
    let optional =
        [("", &entry.detail), ("manifest", &entry.manifest), ("handler", &entry.handler), ("version", &entry.digest)];
    for (what, text) in optional {
        text.iter().for_each(|text| line(what, text.clone()));
    }
    since(entry).into_iter().for_each(|ms| line("since", utc(ms)));
    if let Some(Counts { settled, failed_runs, dead_letters }) = &entry.messages {
        line("settled", number(*settled));
        line("failed runs", number(*failed_runs));
        line("dead letters", number(*dead_letters));
        line("restarts", number(entry.restarts));
    }
    entry.paused.iter().for_each(|paused| line("paused by", paused.by.clone()));
    entry.loading.iter().for_each(|digest| line("loading", digest.clone()));
    if let Some(Trial { digest, share, since_ms, shown }) = &entry.trial {
        line("on trial", digest.clone());
        line("of the keys", part(*share));
        line("since", utc(*since_ms));
        line("so far", shown.clone());
    }
    if let Some(Refused { digest, at_ms, why }) = &entry.rolled_back {
        line("rolled back", digest.clone().unwrap_or_else(|| "-".to_owned()));
        line("at", utc(*at_ms));
        line("why", why.clone());
    }
    if let Some(Refused { digest, at_ms, why }) = &entry.refused {
        line("refused", digest.clone().unwrap_or_else(|| "-".to_owned()));
        line("at", utc(*at_ms));
        line("why", why.clone());
    }
    out
}

/// Of what it does now.
fn since(entry: &Entry) -> Option<i64> {
    let paused = entry.paused.as_ref().filter(|_| entry.state == "paused").map(|paused| paused.since_ms);
    paused.or(entry.since_ms)
}

fn tone(entry: &Entry) -> Tone {
    match entry.state.as_str() {
        "active" if entry.refused.is_none() && entry.rolled_back.is_none() => Tone::Good,
        "failed" | "rejected" => Tone::Bad,
        "paused" if entry.paused.as_ref().is_some_and(|paused| paused.by == "policy") => Tone::Bad,
        _ => Tone::Warning,
    }
}

fn short(digest: Option<&str>) -> String {
    digest.map_or_else(|| "-".to_owned(), |digest| digest.get(..DIGITS).unwrap_or(digest).to_owned())
}

/// As in 5 %.
fn part(share: f64) -> String {
    format!("{} %", (share * 1e4).round() / 1e2)
}

fn number(number: u64) -> String {
    grouped(i64::try_from(number).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn entry(more: &str) -> Entry {
        let text = format!("{{\"pipeline\":\"totals\",\"restarts\":0,{more}}}");
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn what_serves_and_what_was_refused_are_told_apart() {
        let refused = entry(
            "\"state\":\"active\",\"digest\":\"59455efe4a6100\",\"since_ms\":0,\"new\":1,\
             \"messages\":{\"settled\":12345,\"failed_runs\":2,\"dead_letters\":1},\
             \"refused\":{\"digest\":\"6ca84aeacd9e00\",\"at_ms\":1000,\"why\":\"totals.wasm: no probe\\nmend it\"}",
        );
        let table = table(std::slice::from_ref(&refused));
        assert!(table.contains("totals    active  59455efe4a61  1970-01-01T00:00:00Z   12,345"), "{table}");
        let told = "keyrail: totals: the last change (version 6ca84aeacd9e) is refused: totals.wasm: no probe";
        assert_eq!(remarks(&refused), [told]);
        let shown = one(&refused);
        assert!(shown.contains("refused       6ca84aeacd9e00\n"), "{shown}");
        assert!(shown.contains("why           totals.wasm: no probe\n              mend it\n"), "{shown}");
    }

    #[test]
    fn an_action_is_over_when_it_is_so_or_can_not_be() {
        let state = |state: &str| entry(&format!("\"state\":{state:?},\"detail\":\"why\""));
        assert!(!is_so(&state("draining"), "pause") && is_so(&state("paused"), "pause"));
        assert!(!is_so(&state("waiting"), "resume") && !is_so(&state("paused"), "resume"));
        for (word, well) in [("active", true), ("rejected", false), ("failed", false)] {
            assert!(is_so(&state(word), "resume"));
            assert_eq!(is_well(&state(word), "resume"), well);
        }
        assert_eq!(after(&state("rejected"), "resume"), "totals is rejected: why");
    }
}
