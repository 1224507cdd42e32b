//! What a handler must pass before it serves: a scenario beside the manifest.
//!
//! `NAME.fixtures.jsonl` is played in memory, by the same code as `keyrail test` plays scenarios, and what comes is compared with
//! `NAME.fixtures.expected.jsonl`.

use super::Unfit;
use crate::config::{NoText, PROBE, Pipeline, read_text};
use crate::scenario::file::{Scenario, expected, first_against};
use crate::wasm::{Handler, sha256_hex};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A probe takes no longer. The fleet waits for it, as it does for a compilation.
const LIMIT: Duration = Duration::from_secs(10);
/// Larger files are no probes: they are tests, and have time before a handler is shipped.
const LARGEST: u64 = 4 << 20;

/// A pipeline's probe, as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    file: PathBuf,
    text: String,
    expected: String,
}

/// The file of a pipeline's probe, there or not.
#[must_use]
pub fn probe_file(manifest: &Pipeline) -> PathBuf {
    manifest.manifest.with_file_name(format!("{}{PROBE}", manifest.name))
}

impl Probe {
    /// The probe of a pipeline, if it has one.
    ///
    /// # Errors
    /// It can't be read, or half of it is missing.
    pub fn read(manifest: &Pipeline) -> Result<Option<Self>, Unfit> {
        let file = probe_file(manifest);
        let beside = expected(&file);
        let (text, expected) = (read(&file)?, read(&beside)?);
        let (shown, beside) = (file.display(), beside.display());
        let unfit = |problem: String, cure: String| Err(Unfit { problem, cure });
        match (text, expected) {
            (None, None) => Ok(None),
            (Some(text), Some(expected)) => Ok(Some(Self { file, text, expected })),
            (Some(_), None) => unfit(
                format!("its probe {shown} does not say what is to come of it: there is no {beside}"),
                format!("run `keyrail test {shown} --update`, and read what it wrote"),
            ),
            (None, Some(_)) => unfit(
                format!("there is {beside}, and no {shown}, which it belongs to"),
                "put the probe back, or remove what is left of it".to_owned(),
            ),
        }
    }

    /// What it is, so that another is told from it.
    #[must_use]
    pub fn digest(&self) -> String {
        sha256_hex(format!("{}:{}{}", self.text.len(), self.text, self.expected).as_bytes())
    }

    /// Plays it. It takes as long as its calls, and 10 s at most; nothing of it is seen outside.
    ///
    /// # Errors
    /// Says what came otherwise, and where that stands.
    pub fn play(&self, handler: &Handler, manifest: &Pipeline) -> Result<(), Unfit> {
        let began = Instant::now();
        let shown = self.file.display();
        let fails = |why: String| Unfit {
            problem: format!("does not pass its probe: {why}"),
            cure: format!(
                "mend it, or the probe if this is meant: `keyrail test {shown}` shows all of it, and with --update writes down \
                 what comes"
            ),
        };
        let scenario = Scenario::read(&self.file, &self.text).map_err(fails)?;
        if let Some(other) = scenario.pipeline().filter(|named| *named != manifest.name) {
            return Err(fails(format!(
                "{shown}:1: it names the pipeline {other:?}, and is that of {:?}",
                manifest.name
            )));
        }
        // What a handler logs and counts of messages that nobody sent is of no use to whoever looks at a log or a graph.
        let quiet = tracing::subscriber::NoSubscriber::default();
        let play = || scenario.play(handler.apart(), manifest, Some(LIMIT));
        let came = tracing::subscriber::with_default(quiet, play).map_err(|why| fails(self.at(why)))?;
        if let Some(why) = first_against(&expected(&self.file), &self.expected, &came) {
            return Err(fails(why));
        }
        let took_ms = began.elapsed().as_millis() as u64;
        tracing::info!(pipeline = manifest.name, took_ms, "the handler passes its probe");
        Ok(())
    }

    /// A reason that names the file.
    fn at(&self, why: String) -> String {
        let file = self.file.display().to_string();
        if why.starts_with(&file) { why } else { format!("{file}: {why}") }
    }
}

/// `None`: there is none.
fn read(file: &Path) -> Result<Option<String>, Unfit> {
    let shown = file.display();
    let (problem, cure) = match read_text(file, LARGEST) {
        Ok(text) => return Ok(Some(text)),
        Err(NoText::Unread(why)) if why.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(NoText::Unread(why)) => (format!("its probe {shown} can't be read: {why}"), "put it there anew"),
        Err(NoText::TooLarge) => (
            format!("its probe {shown} is larger than {} MiB", LARGEST >> 20),
            "keep what matters most, and leave the rest to `keyrail test`",
        ),
        Err(NoText::Utf8 { line }) => (
            format!("its probe {shown} is no UTF-8 in line {line}"),
            "save it as UTF-8; bytes are {\"base64\":\"...\"}",
        ),
    };
    Err(Unfit { problem, cure: cure.to_owned() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::config::for_tests;
    use std::fs;

    /// What is said of a pipeline's folder with these files; the probe itself where nothing is.
    fn found(files: &[(&str, &[u8])]) -> Result<Option<Probe>, String> {
        let folder = std::env::temp_dir().join(format!("keyrail-probe-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let manifest = for_tests("p", "handler = \"p.wasm\"\ninput = [\"in\"]\n");
        let manifest = Pipeline { manifest: folder.join("p.toml"), ..manifest };
        files.iter().for_each(|(name, bytes)| fs::write(folder.join(name), bytes).unwrap());
        let found = Probe::read(&manifest);
        fs::remove_dir_all(&folder).unwrap();
        found.map_err(|why| why.to_string().replace(&format!("{}/", folder.display()), ""))
    }

    #[test]
    fn a_probe_is_two_files_and_what_is_no_probe_is_told_with_its_cure() {
        const GIVEN: &str = "p.fixtures.jsonl";
        const EXPECTED: &str = "p.fixtures.expected.jsonl";
        assert_eq!(found(&[]), Ok(None));
        let probe = found(&[(GIVEN, b"{\"value\":\"v\"}\n"), (EXPECTED, b"")]).unwrap().unwrap();
        assert_eq!((&*probe.text, &*probe.expected), ("{\"value\":\"v\"}\n", ""));
        let told = |files: &[(&str, &[u8])]| found(files).unwrap_err();
        assert_eq!(
            told(&[(GIVEN, b"{}")]),
            "its probe p.fixtures.jsonl does not say what is to come of it: there is no p.fixtures.expected.jsonl: run \
             `keyrail test p.fixtures.jsonl --update`, and read what it wrote"
        );
        assert!(told(&[(EXPECTED, b"{}")]).starts_with("there is p.fixtures.expected.jsonl, and no p.fixtures.jsonl"));
        assert!(
            told(&[(GIVEN, b"{}\n{}\n\xff"), (EXPECTED, b"")]).contains("p.fixtures.jsonl is no UTF-8 in line 3: ")
        );
        let large = vec![b'\n'; usize::try_from(LARGEST).unwrap() + 1];
        assert!(told(&[(GIVEN, &large), (EXPECTED, b"")]).contains("p.fixtures.jsonl is larger than 4 MiB: keep what"));
        assert!(told(&[(GIVEN, b"{}"), (EXPECTED, &large)]).contains("p.fixtures.expected.jsonl is larger than 4 MiB"));
        assert!(found(&[(GIVEN, &large[1..]), (EXPECTED, &large[1..])]).is_ok());
    }

    #[test]
    fn each_part_of_a_probe_makes_it_another() {
        let probe = |text: &str, expected: &str| {
            Probe { file: PathBuf::new(), text: text.to_owned(), expected: expected.to_owned() }.digest()
        };
        let all = [probe("ab", "c"), probe("a", "bc"), probe("abc", ""), probe("ab", "d")];
        assert!((0..4).all(|one| (0..one).all(|other| all[one] != all[other])));
        assert_eq!(probe("ab", "c"), all[0]);
    }
}
