//! Configuration as anybody may write it.

use super::fault::{Fault, Faults};
use super::{Host, check_set, files, host as hosts};
use std::fs;
use std::path::{Path, PathBuf};

/// Stands between the parts of an input: no text of a file or an argument has it.
const BETWEEN: char = '\0';

fn variables(name: &str) -> Option<String> {
    match name {
        "A" | "MASK_SALT" => Some("a value of 16 \"bytes\"".to_owned()),
        "EMPTY" => Some(String::new()),
        "NESTED" => Some("${A} $${".to_owned()),
        _ => None,
    }
}

/// A keyrail.toml and arguments of `--set`.
pub(crate) fn host(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else { return };
    let mut parts = text.split(BETWEEN);
    let text = parts.next().unwrap_or_default();
    let sets: Vec<String> = parts.map(str::to_owned).collect();
    match read(text, &sets) {
        Ok(host) => {
            assert!(sets.iter().all(|set| check_set(set).is_ok()), "{sets:?}");
            let told = host.resolved();
            match read(&told, &[]) {
                Ok(again) => assert_eq!(again.resolved(), told),
                Err(faults) => unreachable!("{faults}\nin what it was read as:\n{told}"),
            }
        }
        Err(faults) => told_well(&faults, text),
    }
}

fn read(text: &str, sets: &[String]) -> Result<Host, Faults> {
    hosts::resolve("keyrail.toml", text, Path::new(""), sets, &variables).result()
}

/// One or two manifests of a folder.
pub(crate) fn manifests(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else { return };
    let texts: Vec<&str> = text.splitn(2, BETWEEN).collect();
    let resolve = |texts: &[&str]| {
        let file = |(name, text): (&str, &&str)| (format!("{name}.toml"), name.to_owned(), (*text).to_owned());
        let files: Vec<_> = ["one", "two"].into_iter().zip(texts).map(file).collect();
        let mut faults: Vec<Fault> = Vec::new();
        let pipelines = files::resolve(&files, Path::new(""), &[], &|_| true, &variables, &mut faults);
        Faults::unless(pipelines, faults)
    };
    match resolve(&texts) {
        Ok(pipelines) => {
            let told: Vec<String> = pipelines.iter().map(|pipeline| pipeline.resolved()).collect();
            let again = match resolve(&told.iter().map(String::as_str).collect::<Vec<_>>()) {
                Ok(again) => again,
                Err(faults) => unreachable!("{faults}\nin what they were read as:\n{}", told.join("\n")),
            };
            for (mut again, pipeline) in again.into_iter().zip(&pipelines) {
                assert_eq!(again.resolved(), pipeline.resolved());
                if pipeline.patterns.is_empty() && pipeline.input.len() == 1 {
                    // The default of one input is told as if it were given.
                    again.dead_letter.given.clone_from(&pipeline.dead_letter.given);
                }
                assert!(!pipeline.config_hidden.is_empty() || again == *pipeline, "{again:?} is not {pipeline:?}");
            }
        }
        Err(faults) => texts.iter().for_each(|text| told_well(&faults, text)),
    }
}

/// There is a fault, it is in the file, and what is told of it can't harm a terminal.
fn told_well(faults: &Faults, text: &str) {
    assert!(faults.iter().next().is_some(), "refused for no fault");
    let told = faults.to_string();
    assert!(!told.contains(|c: char| c.is_control() && c != '\n'), "{told:?}");
    let lines = text.split('\n').count();
    // With two files the other one may be the longer.
    let within = |fault: &Fault| fault.file.starts_with("two") || fault.line as usize <= lines;
    assert!(faults.iter().filter(|fault| fault.file == "keyrail.toml").all(within), "{told}");
}

/// The texts of all files below these folders of the repository that are fit.
fn texts(folders: &[&str], fit: &dyn Fn(&str) -> bool) -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut found = Vec::new();
    for folder in folders {
        let below = fs::read_dir(root.join(folder)).into_iter().flatten().flatten();
        for file in below.flat_map(|entry| fs::read_dir(entry.path()).into_iter().flatten().flatten()) {
            if fit(&file.file_name().to_string_lossy())
                && let Ok(text) = fs::read_to_string(file.path())
            {
                found.push((file.path(), text));
            }
        }
    }
    found.sort();
    found
}

pub(crate) fn host_seeds() -> Vec<Vec<u8>> {
    let with_sets = |(path, text): (PathBuf, String)| {
        let sets = fs::read_to_string(path.with_file_name("set.txt")).unwrap_or_default();
        std::iter::once(text.as_str()).chain(sets.lines()).collect::<Vec<_>>().join("\0").into_bytes()
    };
    texts(&["tests/cases/config", "examples"], &|name| name == "keyrail.toml").into_iter().map(with_sets).collect()
}

pub(crate) fn manifest_seeds() -> Vec<Vec<u8>> {
    let folders = ["tests/cases/config", "examples", "plugins"];
    let texts = texts(&folders, &|name| files::is_manifest(name) && name != "Cargo.toml");
    // Those of one folder belong together.
    let mut seeds: Vec<Vec<u8>> = texts.iter().map(|(_, text)| text.clone().into_bytes()).collect();
    for pair in texts.windows(2).filter(|pair| pair[0].0.parent() == pair[1].0.parent()) {
        seeds.push([pair[0].1.as_bytes(), b"\0", pair[1].1.as_bytes()].concat());
    }
    seeds
}
