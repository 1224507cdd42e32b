//! Which pipelines are paused. It outlives the process: below `[store] dir` lies `pauses`, and in it a file for each.
//!
//! A file each, since processes may share the folder: one that pauses must not write over what another wrote.

use crate::config::{NoText, read_text};
use crate::durable;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Below `[store] dir`.
const FOLDER: &str = "pauses";
/// Behind a pipeline's name.
const ENDING: &str = ".json";
/// A file that is longer is none of these.
const LARGEST: u64 = 64 << 10;
/// So much of a reason is kept, in characters.
const REASON: usize = 2_000;

/// Who paused it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum By {
    Hand,
    /// It broke again and again.
    Policy,
}

/// A pause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pause {
    pub(super) by: By,
    pub(super) since_ms: i64,
    /// Why, if it was not by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) why: Option<String>,
}

impl Pause {
    pub(super) fn by_policy(since_ms: i64, why: &str) -> Self {
        Self { by: By::Policy, since_ms, why: Some(why.chars().take(REASON).collect()) }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Pauses {
    dir: PathBuf,
    all: BTreeMap<String, Pause>,
}

impl Pauses {
    /// Reads what is remembered.
    ///
    /// # Errors
    /// It can't be read, in words with the cure: what was paused must not start for that.
    pub fn read(store_dir: &Path) -> Result<Self, String> {
        let dir = store_dir.join(FOLDER);
        let told = |path: &Path, why: String| {
            let cure = "mend it, or remove it and nothing of it is paused any more";
            format!("which pipelines are paused can't be told: {}: {why}; {cure}", path.display())
        };
        let mut all = BTreeMap::new();
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self { dir, all }),
            Err(error) => return Err(told(&dir, error.to_string())),
        };
        for entry in entries {
            let path = entry.map_err(|error| told(&dir, error.to_string()))?.path();
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            let Some(name) = file.strip_suffix(ENDING) else { continue };
            let text = read_text(&path, LARGEST).map_err(|why| match why {
                NoText::Unread(error) => told(&path, error.to_string()),
                NoText::TooLarge | NoText::Utf8 { .. } => told(&path, "it is damaged".to_owned()),
            })?;
            let pause = serde_json::from_str(&text).map_err(|why| told(&path, format!("it is damaged: {why}")))?;
            all.insert(name.to_owned(), pause);
        }
        Ok(Self { dir, all })
    }

    /// The pause of this pipeline, if it has one.
    pub(super) fn of(&self, name: &str) -> Option<&Pause> {
        self.all.get(name)
    }

    /// Whether this pipeline is paused.
    #[must_use]
    pub fn holds(&self, name: &str) -> bool {
        self.all.contains_key(name)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&String, &Pause)> {
        self.all.iter()
    }

    /// Pauses a pipeline.
    ///
    /// # Errors
    /// It can't be remembered, in words with the cure.
    pub(super) fn add(&mut self, name: &str, pause: Pause) -> Result<(), String> {
        let path = self.path(name);
        self.write(&path, &pause).map_err(|error| unwritten(&path, &error))?;
        self.all.insert(name.to_owned(), pause);
        Ok(())
    }

    /// Pauses a pipeline for as long as the process lives, where that can't be remembered.
    pub(super) fn keep(&mut self, name: &str, pause: Pause) {
        self.all.insert(name.to_owned(), pause);
    }

    /// Ends a pause.
    ///
    /// # Errors
    /// It would be remembered all the same.
    pub(super) fn remove(&mut self, name: &str) -> Result<(), String> {
        let path = self.path(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(unwritten(&path, &error)),
            Err(_) => {}
            Ok(()) => durable::sync(&self.dir).map_err(|error| unwritten(&path, &error))?,
        }
        self.all.remove(name);
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}{ENDING}"))
    }

    /// Whole or not at all, also after a crash.
    fn write(&self, path: &Path, pause: &Pause) -> io::Result<()> {
        durable::folder(&self.dir)?;
        durable::replace(path, format!("{}\n", serde_json::to_string(pause)?).as_bytes())?;
        durable::sync(&self.dir)
    }
}

fn unwritten(path: &Path, error: &io::Error) -> String {
    format!(
        "it can't be remembered: {}: {error}; make room there, or give this user the right to write",
        path.display()
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test's failure is a panic")]
    use super::*;

    #[test]
    fn pauses_are_remembered_each_by_itself_and_damage_is_told() {
        let dir = std::env::temp_dir().join(format!("keyrail-pauses-{}", std::process::id()));
        let mut pauses = Pauses::read(&dir).unwrap();
        assert_eq!(pauses.iter().count(), 0, "there is no folder yet");
        let hand = Pause { by: By::Hand, since_ms: 5, why: None };
        pauses.add("a.b", hand.clone()).unwrap();
        let mut other = Pauses::read(&dir).unwrap();
        let policy = Pause::by_policy(7, &"x".repeat(3_000));
        other.add("b", policy.clone()).unwrap();
        pauses.add("c", hand.clone()).unwrap();
        pauses.remove("c").unwrap();
        pauses.remove("c").unwrap();
        let found = Pauses::read(&dir).unwrap();
        assert_eq!((found.of("a.b"), found.of("b"), found.of("c")), (Some(&hand), Some(&policy), None));
        assert_eq!(policy.why.unwrap().len(), REASON);
        fs::write(dir.join(FOLDER).join("8-0.tmp"), "half").unwrap();
        assert!(Pauses::read(&dir).is_ok(), "what a crash left is none");
        fs::write(dir.join(FOLDER).join("d.json"), "{\"by\":\"ha").unwrap();
        let why = Pauses::read(&dir).unwrap_err();
        assert!(why.contains("d.json: it is damaged: ") && why.contains("remove it"), "{why}");
        fs::remove_dir_all(&dir).unwrap();
        fs::write(&dir, "").unwrap();
        let why = pauses.add("d", hand).unwrap_err();
        assert!(why.starts_with("it can't be remembered: ") && !pauses.holds("d"), "{why}");
        fs::remove_file(&dir).unwrap();
    }
}
