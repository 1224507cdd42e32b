//! The handlers of plugins/, as `cargo xtask guests` built them, in the real host and with the manifests that they ship.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use keyrail::config::{Pipeline, load_pipelines};
use keyrail::record::{RecordBuilder, TopicPartition};
use keyrail::wasm::{Delivery, Host, HostOptions, Instance, Limits, Outcome, Setup};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const PLUGINS: [&str; 5] = ["filter", "mask", "rate-count", "route", "validate"];
const NOW_MS: i64 = 1_700_000_000_000;
/// Long enough for any machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// A folder with the manifests of plugins/ beside their handlers; `None`, noted, where those are not built.
fn folder(test: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let guests = std::env::var_os("KEYRAIL_GUESTS").map_or_else(|| root.join("target/guests"), PathBuf::from);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("plugins").join(test);
    if folder.exists() {
        std::fs::remove_dir_all(&folder).unwrap();
    }
    std::fs::create_dir_all(folder.join("plugins")).unwrap();
    for name in PLUGINS {
        let wasm = guests.join(format!("{name}.wasm"));
        if !wasm.is_file() {
            skip(test, &format!("no {}; cargo xtask test builds it", wasm.display()));
            return None;
        }
        std::fs::copy(&wasm, folder.join(format!("plugins/{name}.wasm"))).unwrap();
        let manifest = root.join(format!("plugins/{name}/{name}.toml"));
        std::fs::copy(manifest, folder.join(format!("plugins/{name}.toml"))).unwrap();
    }
    Some(folder)
}

fn skip(test: &str, why: &str) {
    println!("SKIP {test}: {why}");
    if let Some(list) = std::env::var_os("KEYRAIL_SKIPS") {
        use std::io::Write as _;
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(list).unwrap();
        writeln!(file, "{test}: {why}").unwrap();
    }
}

fn variable(name: &str) -> Option<String> {
    (name == "MASK_SALT").then(|| "0123456789abcdef0123456789abcdef".to_owned())
}

fn setup(pipeline: &Pipeline) -> Setup {
    Setup {
        handler: pipeline.name.clone(),
        topics: pipeline.input.clone(),
        group: pipeline.group.clone(),
        outputs: pipeline.outputs.iter().map(|(name, _)| name.clone()).collect(),
        config: pipeline.config.clone(),
        max_batch: 256,
        order: keyrail_engine::policy::Order::default(),
        timers: false,
        record: false,
        longest_delay_ms: None,
    }
}

fn open(test: &str, name: &str, edit: impl FnOnce(&mut Setup)) -> Option<Result<Instance, String>> {
    let pipelines = load_pipelines(&folder(test)?.join("plugins"), &variable).unwrap();
    let pipeline = pipelines.iter().find(|p| p.name == name).unwrap();
    let host = Host::new(HostOptions::default()).unwrap();
    let handler = host.load(name, &std::fs::read(&pipeline.handler).unwrap()).unwrap();
    assert!(!handler.facts().uses_timers());
    let mut setup = setup(pipeline);
    edit(&mut setup);
    Some(handler.open(&setup, &Limits::default()).map_err(|e| e.to_string()))
}

/// Of each message what was sent (`output:value`), or the dead letter's `code: detail`.
fn run(instance: &mut Instance, values: &[&str], header: Option<&str>, timestamp_ms: i64) -> Vec<String> {
    let mut batch = Vec::new();
    for (offset, value) in (0..).zip(values) {
        let mut builder = RecordBuilder::new(Some(b"k"), Some(value.as_bytes()));
        if let Some(header) = header {
            builder.header(b"type", Some(header.as_bytes()));
        }
        let record = builder.build(TopicPartition { topic: 0, partition: 0 }, offset, timestamp_ms);
        batch.push(Delivery { record, timer: None, attempt: 1, follows_dead_letter: false });
    }
    let answer = instance.process(&mut batch, NOW_MS, DEADLINE).unwrap();
    let fate = |(slot, outcome): (u32, &Outcome)| match outcome {
        Outcome::Done | Outcome::Skip => answer
            .effects
            .of(slot)
            .map(|send| format!("{}:{}", send.output, String::from_utf8_lossy(send.value.unwrap_or_default())))
            .collect(),
        Outcome::DeadLetter(failure) => format!("{}: {}", failure.code, failure.detail),
        other => format!("{other:?}"),
    };
    (0..).zip(&answer.outcomes).map(fate).collect()
}

#[test]
fn check_passes_every_plugin_with_the_manifest_that_it_ships() {
    let Some(folder) = folder("check") else { return };
    // Nobody listens on port 1, so the broker is the one fault.
    let host = "[kafka]\n\"bootstrap.servers\" = \"127.0.0.1:1\"\n[admin]\nlisten = \"127.0.0.1:0\"\n";
    std::fs::write(folder.join("keyrail.toml"), host).unwrap();
    let check = |salt: &str| {
        let mut keyrail = Command::new(env!("CARGO_BIN_EXE_keyrail"));
        let output = keyrail.args(["check", "--json"]).current_dir(&folder).env("MASK_SALT", salt).output().unwrap();
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        report["findings"].as_array().unwrap().clone()
    };
    let findings = check("0123456789abcdef");
    for name in PLUGINS {
        let file = format!("{name}.wasm");
        let found = findings.iter().find(|f| f["subject"] == "handler" && f["name"].as_str().unwrap().ends_with(&file));
        assert_eq!(found.unwrap()["verdict"], "ok", "{found:?}");
    }
    assert!(findings.iter().all(|f| f["verdict"] == "ok" || f["subject"] == "broker"), "{findings:?}");
    let short = check("short");
    let said = short.iter().find(|f| f["subject"] == "handler" && f["verdict"] == "fault").unwrap();
    assert!(said["message"].as_str().unwrap().contains("[config] salt is too short"), "{said}");
}

#[test]
fn each_plugin_does_in_the_host_what_its_page_says() {
    let good = r#"{"id":"o-1","total":120.10,"customer":{"country":"DE","name":"Ann","card":"4111111111111111"},"address":{"zip":"12345"}}"#;
    let bad = r#"{"id":"x"}"#;
    let Some(filter) = open("host-filter", "filter", |_| {}) else { return };
    let fates = run(&mut filter.unwrap(), &[good, bad, "{"], None, NOW_MS);
    assert_eq!((&*fates[0], &*fates[1]), (&*format!("0:{good}"), ""));
    assert!(fates[2].starts_with("bad-json: "), "{fates:?}");
    let mut route = open("host-route", "route", |_| {}).unwrap().unwrap();
    for (header, output) in [("order-created", 0), ("payment-x", 1), ("else", 2)] {
        assert_eq!(run(&mut route, &["v"], Some(header), NOW_MS)[0], format!("{output}:v"));
    }
    let mut validate = open("host-validate", "validate", |_| {}).unwrap().unwrap();
    let fates = run(&mut validate, &[good, bad], None, NOW_MS);
    assert_eq!(fates[0], format!("0:{good}"));
    assert!(fates[1].starts_with("schema: ") && fates[1].contains("/id must match ^o-[0-9]+$"), "{fates:?}");
    let mut mask = open("host-mask", "mask", |_| {}).unwrap().unwrap();
    let hidden = good.replace("\"Ann\"", "\"***\"").replace("\"411111111111", "\"************");
    assert_eq!(run(&mut mask, &[good], None, NOW_MS)[0], format!("0:{hidden}"));
    let mut count = open("host-count", "rate-count", |_| {}).unwrap().unwrap();
    assert_eq!(run(&mut count, &[good, bad], None, NOW_MS)[0], "");
    let told = &run(&mut count, &["later"], None, NOW_MS + 120_000)[0];
    assert!(told.starts_with("0:{\"group\":\"k\"") && told.contains("\"count\":2"), "{told}");
}

#[test]
fn hostile_messages_are_dead_letters_and_no_traps() {
    let deep = "[".repeat(1 << 20);
    let nested = format!("{}{}", "[".repeat(120), "]".repeat(120));
    let wide = format!("[{}1]", "1,".repeat(1_100_000));
    let full = format!("[{}1]", "1,".repeat(900_000));
    for name in ["filter", "mask", "validate"] {
        let Some(instance) = open(&format!("hostile-{name}"), name, |_| {}) else { return };
        let mut instance = instance.unwrap();
        for (value, code) in [(&deep, "too-deep"), (&wide, "too-large")] {
            assert!(run(&mut instance, &[value], None, NOW_MS)[0].starts_with(code), "{name} {code}");
        }
        run(&mut instance, &[&full], None, NOW_MS);
        run(&mut instance, &[&nested], None, NOW_MS);
    }
    // The deepest recursion that checking allows fits into a guest's stack, and so does what comparing takes.
    let chain = r##"{"$ref":"#/$defs/a","$defs":{"a":{"oneOf":[{"$ref":"#/$defs/b"}]},"b":{"not":{"not":{"items":{"$ref":"#"}}}}}}"##;
    let unique = r#"{"uniqueItems":true,"items":{"uniqueItems":true}}"#;
    for (schema, code) in [(chain, "too-deep"), (unique, "0:")] {
        let edit = |setup: &mut Setup| setup.config = vec![("schema".to_owned(), schema.to_owned())];
        let mut validate = open("hostile-schema", "validate", edit).unwrap().unwrap();
        assert!(run(&mut validate, &[&nested], None, NOW_MS)[0].starts_with(code), "{schema}");
    }
    let expression = format!("{}a == 1{}", "(".repeat(31), ")".repeat(31));
    let edit = |setup: &mut Setup| setup.config = vec![("keep".to_owned(), expression)];
    assert!(open("hostile-expression", "filter", edit).unwrap().is_ok());
    let edit = |setup: &mut Setup| setup.config = vec![("keep".to_owned(), "(".repeat(100_000))];
    let refused = open("hostile-expression", "filter", edit).unwrap().err().unwrap();
    assert!(refused.contains("nested deeper than 32"), "{refused}");
    // A schema as deep as it may be is compiled.
    let deepest = format!("{}true{}", "{\"not\":".repeat(127), "}".repeat(127));
    let edit = |setup: &mut Setup| setup.config = vec![("schema".to_owned(), deepest)];
    assert!(open("hostile-deepest", "validate", edit).unwrap().is_ok());
}
