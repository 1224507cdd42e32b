//! examples/tutorial/README.md, followed to the letter: its files are written, its commands run, its outputs compared.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod page;
mod terminal;

use page::{Step, steps};
use std::path::{Path, PathBuf};
use std::time::Instant;
use terminal::{Place, Screen, shadow};

const PAGE: &str = "examples/tutorial/README.md";
/// As the page tells it: the café beside the checkout.
const CHECKOUT: &str = "keyrail";
const CAFE: &str = "cafe";

#[test]
fn the_tutorial_does_what_it_says() {
    let Some(building) = std::env::var_os("KEYRAIL_WASM_ENV") else {
        return skip("the_tutorial_does_what_it_says", "KEYRAIL_WASM_ENV is not set; cargo xtask test sets it");
    };
    let building = std::fs::read_to_string(building).unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap();
    let place = place(&root, &building);
    let page = std::fs::read_to_string(root.join(PAGE)).unwrap();
    let began = Instant::now();
    let mut first: Option<Screen> = None;
    let mut written = Vec::new();
    for (at, step) in steps(&page) {
        println!("line {at}, {:.1} s", began.elapsed().as_secs_f64());
        match step {
            Step::File { path, text } => {
                let path = place.folder.join(path);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(&path, text).unwrap();
                if path.ends_with("Cargo.toml") {
                    // The versions that the workspace has fetched: the handler is built without a network.
                    std::fs::copy(root.join("Cargo.lock"), path.with_file_name("Cargo.lock")).unwrap();
                }
                written.push(path);
            }
            Step::Run { script, prints } => place.run(at, &script, &prints),
            Step::Start { script } => {
                if let Some(before) = first.replace(Screen::start(&place, &script)) {
                    before.end();
                }
            }
            Step::See { lines } => first.as_mut().unwrap().see(at, &lines),
            Step::Interrupt => first.as_mut().unwrap().interrupt(at),
        }
    }
    first.unwrap().end();
    let kafka = written.iter().find(|path| path.ends_with("kafka.toml")).unwrap();
    keyrail::config::load_host(kafka, &[], &|_: &str| None).unwrap();
}

/// An empty folder beside the checkout, and a Keyrail in PATH.
fn place(root: &Path, building: &str) -> Place {
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("tutorial");
    if home.exists() {
        std::fs::remove_dir_all(&home).unwrap();
    }
    let folder = home.join(CAFE);
    std::fs::create_dir_all(&folder).unwrap();
    std::os::unix::fs::symlink(root, home.join(CHECKOUT)).unwrap();
    // On a machine that runs tests, the port that is the default may be somebody else's.
    let keyrail = format!(
        "#!/bin/sh\ncase \"$1\" in dev|run|check) set -- \"$@\" --set admin.listen=127.0.0.1:0;; esac\nexec '{}' \"$@\"\n",
        env!("CARGO_BIN_EXE_keyrail")
    );
    shadow(&home.join("bin"), "keyrail", &keyrail);
    let mut path: Vec<PathBuf> = vec![home.join("bin")];
    path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    let path = std::env::join_paths(path).unwrap().into_string().unwrap();
    let mut variables = vec![("PATH".to_owned(), path), ("CARGO_NET_OFFLINE".to_owned(), "true".to_owned())];
    variables.push(("CARGO_TERM_COLOR".to_owned(), "never".to_owned()));
    for line in building.lines() {
        let (name, value) = line.split_once('=').unwrap_or_else(|| panic!("no KEY=VALUE: {line}"));
        variables.push((name.to_owned(), value.to_owned()));
    }
    Place { folder, variables }
}

/// Told on the terminal, and to the runner of all tests, which counts it.
fn skip(test: &str, why: &str) {
    println!("SKIP {test}: {why}");
    if let Some(list) = std::env::var_os("KEYRAIL_SKIPS") {
        use std::io::Write as _;
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(list).unwrap();
        writeln!(file, "{test}: {why}").unwrap();
    }
}
