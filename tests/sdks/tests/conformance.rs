//! One handler in every language, one corpus, the same from all: see tests/conformance/README.md.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop at the first surprise")]

use keyrail_sdks_tests::root;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

/// The scenario's clock at the start, as `keyrail test` sets it.
const START_MS: u64 = 1_700_000_000_000;

/// The languages, and the folder with their handlers. `None`, noted: they are not built.
fn languages(test: &str) -> Option<(Vec<String>, PathBuf)> {
    let Some(guests) = std::env::var_os("KEYRAIL_GUESTS").map(PathBuf::from) else {
        // Past the harness's capture of output, for the summary.
        drop(writeln!(std::io::stdout(), "\nSKIP {test}: KEYRAIL_GUESTS is not set; cargo xtask test sets it"));
        return None;
    };
    let folders = std::fs::read_dir(root().join("tests/conformance")).unwrap().map(|entry| entry.unwrap());
    let folders = folders.filter(|entry| entry.file_type().unwrap().is_dir());
    let mut names: Vec<String> = folders.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.retain(|name| !["corpus", "corpus-http", "plugins"].contains(&name.as_str()));
    names.sort();
    assert!(names.contains(&"rust".to_owned()), "{names:?}");
    Some((names, guests))
}

/// A folder for a language's handler, with the manifest.
fn stage(test: &str, language: &str, guests: &Path) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{test}-{language}"));
    let plugins = folder.join("plugins");
    std::fs::create_dir_all(&plugins).unwrap();
    let from = root().join("tests/conformance");
    std::fs::copy(from.join("keyrail.toml"), folder.join("keyrail.toml")).unwrap();
    std::fs::copy(from.join("plugins/conform.toml"), plugins.join("conform.toml")).unwrap();
    let handler = guests.join(format!("conform-{language}.wasm"));
    std::fs::copy(&handler, plugins.join("conform.wasm"))
        .unwrap_or_else(|why| panic!("{}: {why}: cargo xtask guests builds it", handler.display()));
    warm(language, &folder);
    folder
}

/// Handlers are compiled once, for all tests: one in Python takes seconds.
fn warm(language: &str, folder: &Path) {
    static COMPILED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let mut compiled = COMPILED.lock().unwrap();
    std::fs::create_dir_all(store().join("code")).unwrap();
    if compiled.insert(language.to_owned()) {
        // What is wrong with it the tests say.
        drop(tried(folder, &root().join("tests/conformance/corpus/known.jsonl")));
    }
}

/// Where compiled handlers are kept.
fn store() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("conformance-store")
}

/// Runs `keyrail test` there on these scenarios.
fn tried(folder: &Path, scenarios: &Path) -> Result<(), String> {
    let keyrail = std::env::var_os("KEYRAIL_BIN").unwrap();
    let mut command = Command::new(keyrail);
    command.current_dir(folder).arg("test").arg(scenarios).arg("--set").arg(format!("store.dir={}", store().display()));
    let done = command.output().unwrap();
    let told = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if done.status.success() { Ok(()) } else { Err(format!("{}{}", told(&done.stdout), told(&done.stderr))) }
}

/// Runs it for each language; all that failed are told.
fn each(test: &str, run: impl Fn(&str, &Path) -> Result<(), String>) {
    let Some((languages, guests)) = languages(test) else { return };
    let failed: Vec<String> = languages
        .iter()
        .filter_map(|language| Some(format!("{language}:\n{}", run(language, &guests).err()?)))
        .collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn the_corpus_comes_to_the_same_in_every_language() {
    let test = "the_corpus_comes_to_the_same_in_every_language";
    each(test, |language, guests| tried(&stage(test, language, guests), &root().join("tests/conformance/corpus")));
}

/// A corpus of its own, since a pipeline that may send requests runs one message of a key in a call.
#[test]
fn requests_come_to_the_same_in_every_language() {
    let test = "requests_come_to_the_same_in_every_language";
    each(test, |language, guests| {
        let folder = stage(test, language, guests);
        let manifest = folder.join("plugins/conform.toml");
        let text = std::fs::read_to_string(&manifest).unwrap();
        let granted = "[capabilities]\nhttp = [\"api.example.com:443\"]\n";
        std::fs::write(&manifest, format!("{text}\n{granted}")).unwrap();
        tried(&folder, &root().join("tests/conformance/corpus-http"))
    });
}

#[test]
fn open_refuses_in_the_handler_s_own_words() {
    let test = "open_refuses_in_the_handler_s_own_words";
    each(test, |language, guests| {
        let folder = stage(test, language, guests);
        let manifest = folder.join("plugins/conform.toml");
        let text = std::fs::read_to_string(&manifest).unwrap();
        std::fs::write(&manifest, format!("{text}refuse = \"no handler for Ödön 😀\"\n")).unwrap();
        let said = tried(&folder, &root().join("tests/conformance/corpus/known.jsonl")).unwrap_err();
        if said.contains("no handler for Ödön 😀") { Ok(()) } else { Err(said) }
    });
}

fn hash(bytes: &[u8]) -> String {
    let hash = bytes.iter().fold(2_166_136_261_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(16_777_619));
    format!("{} {hash:08x}", bytes.len())
}

/// What `describe` sends of a message of partition 0 with text alone.
fn described(offset: usize, key: &str, value: &str, headers: &[(String, String)]) -> String {
    let (key, value) = (hash(key.as_bytes()), hash(value.as_bytes()));
    let mut told = format!(
        "from topic in\nat 0/{offset} {START_MS}\nattempt 1\nid in/0/{offset}\nfollows no\nkey {key}\nvalue {value}"
    );
    write!(told, "\nheaders {}", headers.len()).unwrap();
    for (name, value) in headers.iter().take(3) {
        write!(told, "\nheader {name} {}", hash(value.as_bytes())).unwrap();
    }
    told
}

/// Messages that no file needs to hold: each with a key of its own, so that what comes stands in their order.
fn generated(messages: &[(String, Vec<(String, String)>)]) -> (String, String) {
    let (mut given, mut expected) = (String::new(), String::new());
    for (offset, (value, headers)) in messages.iter().enumerate() {
        let key = format!("k{offset}");
        let mut line = json!({ "key": key, "value": value });
        if !headers.is_empty() {
            line["headers"] = json!(headers);
        }
        writeln!(given, "{line}").unwrap();
        let send = json!({ "to": "out", "key": key, "value": described(offset, &key, value, headers) });
        let come = json!({ "message": format!("in/0@{offset}"), "key": key, "outcome": "done", "sends": [send] });
        writeln!(expected, "{come}").unwrap();
    }
    (given, expected)
}

fn comes_to(test: &str, messages: &[(String, Vec<(String, String)>)]) {
    let (given, expected) = generated(messages);
    each(test, |language, guests| {
        let folder = stage(test, language, guests);
        std::fs::write(folder.join("large.jsonl"), &given).unwrap();
        std::fs::write(folder.join("large.expected.jsonl"), &expected).unwrap();
        tried(&folder, Path::new("large.jsonl"))
    });
}

#[test]
fn large_messages_and_a_thousand_headers_are_taken_whole() {
    let long: String = (0..1_000_000).map(|n| char::from(b'a' + (n % 23) as u8)).collect();
    let many = (0..1_000).map(|n| (format!("name-{}", n % 10), format!("value {n}"))).collect();
    let large = vec![("large".to_owned(), long[..200_000].to_owned())];
    let messages =
        [(long, Vec::new()), ("many".to_owned(), many), ("header".to_owned(), large), (String::new(), Vec::new())];
    comes_to("large_messages_and_a_thousand_headers_are_taken_whole", &messages);
}

#[test]
fn ten_thousand_messages_in_a_call_have_ten_thousand_outcomes_in_order() {
    let messages: Vec<_> = (0..10_000).map(|n| (format!("value {n}"), Vec::new())).collect();
    comes_to("ten_thousand_messages_in_a_call_have_ten_thousand_outcomes_in_order", &messages);
}

/// By wit-bindgen from handler.wit alone: as it is built now, and as it was built from 0.1.0. The second stays as it is, and its
/// fixture with it.
#[test]
fn a_handler_of_the_first_contract_runs_for_ever() {
    let test = "a_handler_of_the_first_contract_runs_for_ever";
    let Some((_, guests)) = languages(test) else { return };
    let frozen = root().join("tests/guests/frozen");
    for (name, handler) in [("now", guests.join("raw.wasm")), ("then", frozen.join("handler-0.1.0.wasm"))] {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{test}-{name}"));
        std::fs::create_dir_all(folder.join("plugins")).unwrap();
        std::fs::write(folder.join("keyrail.toml"), "broker = \"embedded\"\n").unwrap();
        let manifest = "handler = \"raw.wasm\"\ninput = [\"in\"]\noutput.out = \"out\"\n";
        std::fs::write(folder.join("plugins/raw.toml"), manifest).unwrap();
        std::fs::copy(&handler, folder.join("plugins/raw.wasm"))
            .unwrap_or_else(|why| panic!("{}: {why}", handler.display()));
        if let Err(said) = tried(&folder, &frozen.join("contract.jsonl")) {
            panic!("{}: {said}", handler.display());
        }
    }
}

/// Each message of the corpus has an outcome of its own in what is expected.
#[test]
fn the_corpus_expects_something_of_every_message() {
    let folders = ["tests/conformance/corpus", "tests/conformance/corpus-http"];
    for entry in folders.iter().flat_map(|folder| std::fs::read_dir(root().join(folder)).unwrap()) {
        let file = entry.unwrap().path();
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        let Some(name) = name.strip_suffix(".jsonl").filter(|name| !name.ends_with(".expected")) else { continue };
        let read =
            |file: &Path| std::fs::read_to_string(file).unwrap_or_else(|why| panic!("{}: {why}", file.display()));
        let is_message = |line: &&str| !line.contains("\"advance\"") && !line.starts_with("{\"answer\"");
        let given = read(&file).lines().filter(is_message).count();
        let expected = read(&file.with_file_name(format!("{name}.expected.jsonl")));
        let expected: Vec<Value> = expected.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let mut messages: Vec<&str> = expected
            .iter()
            .filter(|line| line["timer"].is_null())
            .filter_map(|line| line["message"].as_str())
            .collect();
        messages.sort_unstable();
        messages.dedup();
        assert_eq!(messages.len(), given, "{name}");
        assert!(expected.iter().all(|line| !line["outcome"].is_object()), "{name}");
    }
}
