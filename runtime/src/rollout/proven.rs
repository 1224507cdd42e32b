//! Where versions are tried before they serve: what has served all keys of a pipeline on this machine, with its bytes, and what was
//! rolled back. So a restart in the middle of a trial does not promote, and what was rolled back does not come again by itself.
//!
//! Below `[store] dir`, in `rollouts/PIPELINE`: `serving.json`, and the handler that it names as `DIGEST.wasm`.

use super::board::RolledBack;
use crate::config::{NoText, read_text};
use crate::durable;
use crate::wasm::sha256_hex;
use keyrail_engine::state::schema::FIRST;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Below `[store] dir`.
const FOLDER: &str = "rollouts";
const FILE: &str = "serving.json";
/// More of them are not remembered: the first ones go.
const REJECTED: usize = 16;
/// A longer file was not written here.
const LARGEST_BYTES: u64 = 1 << 20;
/// What is told of a version that was rolled back is cut there.
const WHY_CHARS: usize = 2_000;

/// What is known of a pipeline's versions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Known {
    /// Digest of the version that served all keys last.
    pub(super) serving: String,
    /// The schema of its state.
    #[serde(default = "first")]
    pub(super) schema: u16,
    /// Those that were rolled back, the last one last.
    #[serde(default)]
    pub(super) rejected: Vec<Rejected>,
}

const fn first() -> u16 {
    FIRST
}

/// A version that was rolled back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Rejected {
    pub(super) digest: String,
    pub(super) why: String,
    /// Since the Unix epoch.
    pub(super) at_ms: i64,
}

impl Rejected {
    /// As it is shown.
    pub(super) fn shown(&self) -> RolledBack {
        RolledBack { digest: self.digest.clone(), at_ms: self.at_ms, why: self.why.clone() }
    }
}

impl Known {
    /// Why this version was rolled back, if it was.
    pub(super) fn rejected(&self, digest: &str) -> Option<&Rejected> {
        self.rejected.iter().rfind(|rejected| rejected.digest == digest)
    }

    /// It serves all keys now, whatever was said of it before.
    pub(super) fn serve(&mut self, digest: &str, schema: u16) {
        digest.clone_into(&mut self.serving);
        self.schema = schema;
        self.rejected.retain(|rejected| rejected.digest != digest);
    }

    /// It was rolled back.
    pub(super) fn reject(&mut self, digest: &str, why: &str, at_ms: i64) {
        self.rejected.retain(|rejected| rejected.digest != digest);
        let why = why.chars().take(WHY_CHARS).collect();
        self.rejected.push(Rejected { digest: digest.to_owned(), why, at_ms });
        let over = self.rejected.len().saturating_sub(REJECTED);
        self.rejected.drain(..over);
    }
}

/// The place of one pipeline's.
#[derive(Debug)]
pub(super) struct Proven {
    dir: PathBuf,
}

impl Proven {
    pub(super) fn new(store_dir: &Path, pipeline: &str) -> Self {
        Self { dir: store_dir.join(FOLDER).join(pipeline) }
    }

    /// What is known; `None`: nothing.
    ///
    /// # Errors
    /// It can't be read, or is damaged; where, why and the cure.
    pub(super) fn read(&self) -> Result<Option<Known>, String> {
        let path = self.dir.join(FILE);
        let damaged = |why: &str| format!("{} is damaged: {why}; delete it", path.display());
        let text = match read_text(&path, LARGEST_BYTES) {
            Ok(text) => text,
            Err(NoText::Unread(e)) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(NoText::Unread(e)) => return Err(format!("{}: {e}", path.display())),
            Err(NoText::TooLarge) => return Err(damaged("it is too large")),
            Err(NoText::Utf8 { .. }) => return Err(damaged("it is no text")),
        };
        serde_json::from_str(&text).map(Some).map_err(|e| damaged(&e.to_string()))
    }

    /// Keeps what is known, with the version that serves: `code` has its bytes if they are not kept yet.
    ///
    /// # Errors
    /// It can't be written; what was known before is still.
    pub(super) fn write(&self, known: &Known, code: Option<&[u8]>) -> Result<(), String> {
        let at = |e: io::Error| format!("{}: {e}", self.dir.display());
        durable::folder(&self.dir).map_err(at)?;
        if let Some(code) = code {
            durable::replace(&self.code(&known.serving), code).map_err(at)?;
        }
        let text = serde_json::to_vec_pretty(known).map_err(|e| at(e.into()))?;
        durable::replace(&self.dir.join(FILE), &text).map_err(at)?;
        durable::sync(&self.dir).map_err(at)?;
        self.tidy(known).map_err(at)
    }

    /// Keeps the bytes of a version that is about to be tried: it may serve one day, when its file is another.
    ///
    /// # Errors
    /// They can't be written.
    pub(super) fn keep(&self, digest: &str, code: &[u8]) -> Result<(), String> {
        let at = |e: io::Error| format!("{}: {e}", self.dir.display());
        durable::folder(&self.dir).map_err(at)?;
        durable::replace(&self.code(digest), code).map_err(at)
    }

    /// Nothing is known of it from now on.
    ///
    /// # Errors
    /// It can't be deleted.
    pub(super) fn forget(&self) -> Result<(), String> {
        match fs::remove_dir_all(&self.dir) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(format!("{}: {e}", self.dir.display())),
            _ => Ok(()),
        }
    }

    /// The bytes of a version.
    ///
    /// # Errors
    /// They can't be read, or are not those of its digest.
    pub(super) fn bytes(&self, digest: &str) -> Result<Vec<u8>, String> {
        let path = self.code(digest);
        let bytes = fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        if sha256_hex(&bytes) == digest { Ok(bytes) } else { Err(format!("{} is damaged", path.display())) }
    }

    fn code(&self, digest: &str) -> PathBuf {
        self.dir.join(format!("{digest}.wasm"))
    }

    /// Bytes of other versions go, and what a crash has left.
    fn tidy(&self, known: &Known) -> io::Result<()> {
        let serving = self.code(&known.serving);
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            let ending = path.extension().and_then(|ending| ending.to_str());
            if path != serving && matches!(ending, Some("wasm" | durable::TEMPORARY)) {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test's failure is a panic")]
    use super::*;

    fn place(name: &str) -> Proven {
        let dir = std::env::temp_dir().join(format!("keyrail-proven-{name}-{}", std::process::id()));
        if dir.exists() {
            fs::remove_dir_all(&dir).unwrap();
        }
        Proven::new(&dir, "p")
    }

    #[test]
    fn what_serves_is_kept_with_its_bytes_and_the_rest_goes() {
        let proven = place("kept");
        assert_eq!(proven.read(), Ok(None));
        let (one, two) = (sha256_hex(b"one"), sha256_hex(b"two"));
        let mut known = Known::default();
        known.serve(&one, 1);
        proven.write(&known, Some(b"one")).unwrap();
        proven.keep(&two, b"two").unwrap();
        assert_eq!(proven.bytes(&one).unwrap(), b"one");
        known.reject(&two, "it traps", 7);
        proven.write(&known, None).unwrap();
        let read = proven.read().unwrap().unwrap();
        assert_eq!(read, known);
        assert_eq!(read.rejected(&two).unwrap().why, "it traps");
        assert!(proven.bytes(&two).is_err(), "what was rolled back takes no room");
        proven.keep(&two, b"two").unwrap();
        known.serve(&two, 2);
        proven.write(&known, None).unwrap();
        assert_eq!(proven.read().unwrap().unwrap(), Known { serving: two.clone(), schema: 2, rejected: vec![] });
        assert!(proven.bytes(&one).is_err());
        fs::write(proven.code(&two), "three").unwrap();
        assert!(proven.bytes(&two).unwrap_err().ends_with("is damaged"));
        fs::write(proven.dir.join(FILE), "{").unwrap();
        assert!(proven.read().unwrap_err().contains("is damaged"));
        proven.forget().unwrap();
        assert_eq!((proven.read(), proven.forget()), (Ok(None), Ok(())));
        fs::remove_dir_all(proven.dir.ancestors().nth(2).unwrap()).unwrap();
    }

    #[test]
    fn only_the_last_rejected_are_remembered() {
        let mut known = Known::default();
        (0..100).for_each(|n| known.reject(&n.to_string(), &"x".repeat(9_000), n));
        assert_eq!(known.rejected.len(), REJECTED);
        assert!(known.rejected("83").is_none() && known.rejected("84").is_some());
        assert_eq!(known.rejected("99").unwrap().why.len(), WHY_CHARS);
        known.serve("99", 1);
        assert!(known.rejected("99").is_none());
    }
}
