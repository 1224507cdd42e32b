//! What the catalogue says is what the loader does, and what the JSON Schemas say.

use super::super::catalogue::{Absent, Amount, Catalogue, HOST, Key, Kind, PIPELINE};
use super::super::units::{show_duration, show_size};
use super::super::{document::quote, host_schema, pipeline_schema};
use super::{Case, cases};
use keyrail_engine::policy::{Breaker, Policy};
use plugin_common::Doc;
use plugin_schema::{Verdict, check, compile};
use std::fs;
use std::path::Path;

/// A file that says no more than it must, and a line more.
fn file(catalogue: &'static Catalogue, key: &Key, value: &str) -> String {
    let mut text = match std::ptr::eq(catalogue, HOST) {
        true => "kafka.\"bootstrap.servers\" = \"a:1\"\n".to_owned(),
        false => "handler = \"payments.wasm\"\ninput = [\"payments\"]\n".to_owned(),
    };
    if key.path.starts_with("dedup.") {
        text += "dedup.id = \"key\"\n";
    }
    if key.path.starts_with("rollout.") {
        text += if key.path == "rollout.share" { "rollout.for = \"10m\"\n" } else { "rollout.share = 0.05\n" };
    }
    if key.path.starts_with("alerts.webhook.") {
        text += "alerts.webhook.url = \"https://a/b\"\n";
    }
    if key.path.starts_with("alerts.mail.") {
        text += "alerts.mail.server = \"a\"\nalerts.mail.from = \"a@b.c\"\nalerts.mail.to = [\"d@e.f\"]\n";
    }
    if ["batch.concurrency", "limits.requests", "limits.response-bytes"].contains(&key.path) {
        text += "capabilities.http = [\"a:1\"]\n";
    }
    if value.is_empty() { text } else { text + &format!("{} = {value}\n", key.path) }
}

fn told(catalogue: &'static Catalogue, text: &str) -> String {
    let (host, manifest) = if std::ptr::eq(catalogue, HOST) { (Some(text), None) } else { (None, Some(text)) };
    let manifest = manifest.map(|text| ("payments.toml".to_owned(), "payments".to_owned(), text.to_owned()));
    let case = Case {
        host: host.map(str::to_owned),
        manifests: manifest.into_iter().collect(),
        sets: Vec::new(),
        variables: Vec::new(),
    };
    case.told()
}

/// What the file's JSON Schema has against it; `None` if it is no TOML.
fn violations(catalogue: &'static Catalogue, text: &str) -> Option<Vec<String>> {
    let json: serde_json::Value = toml::from_str(text).ok()?;
    let schema = if std::ptr::eq(catalogue, HOST) { host_schema() } else { pipeline_schema() };
    let schemas = compile(&[("schema", Doc::parse(schema.as_bytes()).unwrap())]).unwrap();
    match check(&schemas, Doc::parse(json.to_string().as_bytes()).unwrap().root()) {
        Verdict::Fits => Some(Vec::new()),
        Verdict::Violates(found) => Some(found),
        Verdict::Stopped(limit) => panic!("{limit:?}"),
    }
}

fn all() -> impl Iterator<Item = (&'static Catalogue, &'static Key)> {
    [HOST, PIPELINE].into_iter().flat_map(|catalogue| catalogue.iter().map(move |key| (catalogue, key)))
}

/// The default as TOML, of keys that have one.
fn default(key: &Key) -> Option<String> {
    match key.kind {
        Kind::Duration(Amount { default, .. }) => default.map(|ms| quote(&show_duration(ms))),
        Kind::Size(Amount { default, .. }) => default.map(|bytes| quote(&show_size(bytes))),
        Kind::Whole { default, .. } => Some(default.to_string()),
        Kind::Number { default, .. } => Some(format!("{default:?}")),
        Kind::Switch { default } => Some(default.to_string()),
        Kind::Choice { default, .. } => Some(quote(default)),
        Kind::Origin { default: Absent::Is(value), .. } | Kind::Text { default: Absent::Is(value), .. } => {
            Some(quote(value))
        }
        _ => None,
    }
}

#[test]
fn a_default_that_is_written_out_changes_nothing() {
    let mut seen = 0;
    for (catalogue, key) in all() {
        let Some(value) = default(key) else { continue };
        let text = file(catalogue, key, &value);
        assert_eq!(told(catalogue, &text), told(catalogue, &file(catalogue, key, "")), "{}", key.path);
        assert_eq!(violations(catalogue, &text), Some(Vec::new()), "{text}");
        seen += 1;
    }
    assert!(seen > 30, "only {seen} keys have a default");
}

/// The engine has defaults of its own, for the simulator: it must not simulate what nobody runs.
#[test]
fn the_engine_s_defaults_are_the_catalogue_s() {
    let text = file(PIPELINE, PIPELINE.first().unwrap(), "");
    let manifests = vec![("payments.toml".to_owned(), "payments".to_owned(), text)];
    let case = Case { host: None, manifests, sets: Vec::new(), variables: Vec::new() };
    // The engine alone parks nothing.
    let mut expected = Policy::default();
    expected.retry.in_place_ms = Some(2_000);
    // Nor does it break.
    expected.breaker = Some(Breaker { failures: 0.5, window_ms: 15_000, pause_ms: 30_000, least_lanes: 10 });
    assert_eq!(case.pipelines().unwrap().first().unwrap().policy, expected);
}

#[test]
fn limits_are_where_the_catalogue_says() {
    let mut seen = 0;
    for (catalogue, key) in all() {
        let amount = |Amount { least, most, .. }: Amount, show: fn(u64) -> String| {
            let outside = [least.checked_sub(1), most.checked_add(1)];
            (
                [least, most].map(|n| quote(&show(n))).to_vec(),
                outside.iter().flatten().map(|n| quote(&show(*n))).collect(),
            )
        };
        let (inside, outside): (Vec<String>, Vec<String>) = match key.kind {
            Kind::Duration(limits) => amount(limits, show_duration),
            Kind::Size(limits) => amount(limits, show_size),
            Kind::Whole { least, most, .. } => {
                let outside = [i64::from(least) - 1, i64::from(most) + 1];
                ([least, most].map(|n| n.to_string()).to_vec(), outside.map(|n| n.to_string()).to_vec())
            }
            Kind::Number { least, most, .. } => (
                [least, most].map(|n| format!("{n:?}")).to_vec(),
                [least - 0.5, most + 0.5].map(|n| format!("{n:?}")).to_vec(),
            ),
            _ => continue,
        };
        for value in &inside {
            let text = file(catalogue, key, value);
            assert!(!told(catalogue, &text).contains("out of range"), "{text}");
            assert_eq!(violations(catalogue, &text), Some(Vec::new()), "{text}");
        }
        for value in &outside {
            let text = file(catalogue, key, value);
            assert!(told(catalogue, &text).contains(&format!("{}: out of range", key.path)), "{text}");
            let bare = matches!(key.kind, Kind::Whole { .. } | Kind::Number { .. });
            assert_eq!(violations(catalogue, &text).unwrap().is_empty(), !bare, "{text}");
        }
        seen += 1;
    }
    assert!(seen > 15, "only {seen} keys have limits");
}

#[test]
fn every_word_is_taken_and_shown() {
    let mut seen = 0;
    for (catalogue, key) in all() {
        let words: Vec<&str> = match key.kind {
            Kind::Choice { words, .. } => words.to_vec(),
            Kind::Origin { words, .. } => words.iter().copied().chain(["header:h"]).collect(),
            _ => continue,
        };
        for word in words {
            let base = file(catalogue, key, "");
            let base = if key.path == "dedup.id" { base.replace("dedup.id = \"key\"\n", "") } else { base };
            let text = format!("{base}{} = {word:?}\n", key.path);
            let told = told(catalogue, &text);
            let line = format!("{} = {word:?}\n", key.apart().1);
            assert!(told.contains(&line), "{text}\n{told}");
            assert!(violations(catalogue, &text).unwrap().is_empty(), "{text}");
            seen += 1;
        }
    }
    assert!(seen > 25, "{seen}");
}

#[test]
fn what_is_not_there_yet_is_refused_by_name() {
    let later: Vec<_> = all().filter(|(_, key)| key.is_later()).collect();
    assert!(!later.is_empty());
    for (catalogue, key) in later {
        let text = file(catalogue, key, "\"x\"");
        assert!(told(catalogue, &text).contains(&format!("{}: not there yet", key.path)), "{text}");
        assert!(!violations(catalogue, &text).unwrap().is_empty(), "{text}");
    }
}

/// Cases whose faults a JSON Schema can't see: what holds between keys or files, what is not on the disk or not in the
/// environment, and what `--set` may still bring.
const UNSEEN: [&str; 27] = [
    "host-admin-both",
    "host-empty",
    "host-group-protocol",
    "host-no-broker-named",
    "host-property-twice",
    "host-security-incomplete",
    "host-security-no-mechanism",
    "host-security-without-effect",
    "host-trusted-missing",
    "host-variables-missing",
    "pipeline-at-odds",
    "pipeline-default-dead-letter-too-long",
    "pipeline-delay-at-odds",
    "pipeline-handler-missing",
    "pipeline-held-at-odds",
    "pipeline-http-not-granted",
    "pipeline-inputs-share-keys-at-least-once",
    "pipeline-inputs-share-keys-at-odds",
    "pipeline-name",
    "pipeline-seen-ids-too-long",
    "pipeline-timeout-at-odds",
    "pipeline-variables-missing",
    "pipelines-dead-letters-are-input",
    "pipelines-internal-topics",
    "pipelines-share-a-group",
    "pipelines-share-seen-ids",
    "pipelines-share-state",
];

#[test]
fn the_json_schemas_take_what_the_loader_takes_and_refuse_what_they_can() {
    let mut unseen = Vec::new();
    let mut seen = (0, 0);
    for folder in cases() {
        let case = Case::read(&folder);
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let is_fine = |case: &Case| !case.told().contains(".toml:");
        let host = case.host.clone().map(|text| (HOST, text));
        let files = host.into_iter().chain(case.manifests.iter().map(|(_, _, text)| (PIPELINE, text.clone())));
        let (fine, mut refused, mut is_toml) = (is_fine(&case), false, true);
        for (catalogue, text) in files {
            match violations(catalogue, &text) {
                None => is_toml = false,
                Some(found) => {
                    assert!(!fine || found.is_empty(), "{name}: {found:?}");
                    refused |= !found.is_empty();
                }
            }
        }
        if !fine && is_toml && !refused {
            unseen.push(name);
        }
        seen = if fine { (seen.0 + 1, seen.1) } else { (seen.0, seen.1 + 1) };
    }
    assert!(seen.0 > 10 && seen.1 > 20, "{seen:?}");
    assert_eq!(unseen, UNSEEN);
}

#[test]
fn every_file_that_is_shipped_fits_its_schema() {
    let mut seen = 0;
    for folder in ["plugins", "examples"] {
        for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder)).unwrap() {
            let Ok(files) = fs::read_dir(entry.unwrap().path()) else { continue };
            for path in files.map(|file| file.unwrap().path()) {
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                if !name.ends_with(".toml") || name == "Cargo.toml" {
                    continue;
                }
                let catalogue = if name == "keyrail.toml" { HOST } else { PIPELINE };
                let text = fs::read_to_string(&path).unwrap();
                assert_eq!(violations(catalogue, &text), Some(Vec::new()), "{}", path.display());
                seen += 1;
            }
        }
    }
    assert!(seen >= 7, "only {seen} files were found");
}
