//! What a folder of pipelines looks like: cheap looks that tell whether anything changed, and a whole reading.

use crate::config::{Faults, Found, Pipeline, find_pipelines, is_probe};
use crate::pipeline::{Code, Unfit};
use crate::signature::{self, Trust};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// One look at the files: equal looks mean that nothing was written in between.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Look {
    /// `None`: it can't be looked at.
    dir: Option<Stamp>,
    files: BTreeMap<PathBuf, Option<Stamp>>,
}

impl Look {
    /// Whether it is another folder that the path names.
    pub(super) fn moved(&self, before: &Self) -> bool {
        let place = |look: &Self| look.dir.as_ref().map(|stamp| stamp.place);
        place(self) != place(before)
    }
}

/// What changes when a file is written or replaced. Taken of what a link leads to: Kubernetes swaps a link.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    bytes: u64,
    modified: Option<SystemTime>,
    changed: (i64, i64),
    place: (u64, u64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        let (changed, place) = unix(metadata);
        Self { bytes: metadata.len(), modified: metadata.modified().ok(), changed, place }
    }
}

/// Change time, which nobody can set back, and device and inode.
#[cfg(unix)]
fn unix(metadata: &Metadata) -> ((i64, i64), (u64, u64)) {
    use std::os::unix::fs::MetadataExt as _;
    ((metadata.ctime(), metadata.ctime_nsec()), (metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn unix(_: &Metadata) -> ((i64, i64), (u64, u64)) {
    ((0, 0), (0, 0))
}

/// A pipeline that is fit, with its handler's bytes.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) manifest: Pipeline,
    pub(super) code: Code,
}

/// All that the folder holds.
#[derive(Debug, Default)]
pub(super) struct Content {
    pub(super) fit: BTreeMap<String, Candidate>,
    /// What is wrong with the others, a fault a line.
    pub(super) unfit: BTreeMap<String, String>,
}

/// The folder, and which files beyond its own listing belong to it.
#[derive(Debug)]
pub(super) struct Folder {
    dir: PathBuf,
    variables: fn(&str) -> Option<String>,
    trust: Trust,
    /// Handlers and their signatures: they may lie elsewhere.
    handlers: BTreeSet<PathBuf>,
}

impl Folder {
    pub(super) fn new(dir: &Path, variables: fn(&str) -> Option<String>, trust: Trust) -> Self {
        Self { dir: dir.to_owned(), variables, trust, handlers: BTreeSet::new() }
    }

    /// Looks at every file that may matter, without reading any.
    pub(super) fn look(&self) -> Look {
        let stamp = |path: &Path| std::fs::metadata(path).ok().map(|metadata| Stamp::of(&metadata));
        let mut files: BTreeMap<PathBuf, Option<Stamp>> =
            self.handlers.iter().map(|path| (path.clone(), stamp(path))).collect();
        let entries = std::fs::read_dir(&self.dir).into_iter().flatten();
        // An entry that can't be told now is there or not in the next look.
        for entry in entries.filter_map(Result::ok).filter(|entry| matters(&entry.file_name().to_string_lossy())) {
            files.insert(entry.path(), stamp(&entry.path()));
        }
        // Of the folder only which one it is: its times change with every temporary file in it.
        let dir = stamp(&self.dir).map(|dir| Stamp { bytes: 0, modified: None, changed: (0, 0), ..dir });
        Look { dir, files }
    }

    /// Reads it: every manifest and every handler that one names.
    ///
    /// # Errors
    /// The folder itself can't be read.
    pub(super) fn read(&mut self) -> Result<Content, Faults> {
        let Found { fit, unfit } = find_pipelines(&self.dir, &self.variables)?;
        let files = |manifest: &Pipeline| [manifest.handler.clone(), signature::beside(&manifest.handler)];
        self.handlers = fit.iter().flat_map(files).collect();
        let unfit = unfit.into_iter().map(|(name, faults)| (name, format!("{faults:#}"))).collect();
        let mut content = Content { fit: BTreeMap::new(), unfit };
        for manifest in fit {
            let (name, handler) = (manifest.name.clone(), manifest.handler.clone());
            let candidate = Code::read(&manifest, &self.trust).and_then(|code| {
                let manifest = code.complete(manifest)?;
                Ok(Candidate { manifest, code })
            });
            match candidate {
                Ok(candidate) => drop(content.fit.insert(name, candidate)),
                Err(why) => drop(content.unfit.insert(name, told(&handler, &why))),
            }
        }
        Ok(content)
    }
}

/// What is wrong with a handler's file.
pub(super) fn told(handler: &Path, why: &Unfit) -> String {
    format!("{}: {why}", handler.display())
}

/// Manifests and probes, and handlers with their signatures. What is hidden, or what editors leave for a moment, is neither.
pub(super) fn matters(name: &str) -> bool {
    let handler = name.strip_suffix(signature::ENDING).unwrap_or(name);
    let is_meant = is_probe(name) || name.ends_with(".toml") || handler.ends_with(".wasm");
    is_meant && !name.starts_with('.')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test's failure is a panic")]
    use super::*;
    use std::fs;

    fn folder(name: &str) -> (PathBuf, Folder) {
        let dir = std::env::temp_dir().join(format!("keyrail-folder-{name}-{}", std::process::id()));
        if dir.exists() {
            fs::remove_dir_all(&dir).unwrap();
        }
        fs::create_dir_all(&dir).unwrap();
        (dir.clone(), Folder::new(&dir, |_| None, Trust::default()))
    }

    #[test]
    fn a_look_sees_what_is_written_replaced_and_linked_and_nothing_else() {
        let (dir, folder) = folder("look");
        let mut last = folder.look();
        let mut changed = |folder: &Folder| {
            let now = folder.look();
            let changed = now != last;
            last = now;
            changed
        };
        assert!(!changed(&folder));
        fs::write(dir.join("p.toml"), "a").unwrap();
        assert!(changed(&folder), "added");
        for own in ["p.fixtures.jsonl", "p.fixtures.expected.jsonl", "p.wasm.minisig"] {
            fs::write(dir.join(own), "x").unwrap();
            assert!(changed(&folder), "{own}");
        }
        for passing in
            ["other.jsonl", ".p.fixtures.jsonl", ".p.toml.swp", "4913", "p.toml~", "p.wasm.part", ".hidden.wasm"]
        {
            fs::write(dir.join(passing), "x").unwrap();
            assert!(!changed(&folder), "{passing}");
        }
        fs::write(dir.join("p.toml"), "b").unwrap();
        assert!(changed(&folder), "written over, the same length");
        fs::write(dir.join("new"), "b").unwrap();
        fs::rename(dir.join("new"), dir.join("p.toml")).unwrap();
        assert!(changed(&folder), "replaced");
        // As Kubernetes does it: the file is a link into a folder behind a link that is swapped.
        for version in ["..v1", "..v2"] {
            fs::create_dir(dir.join(version)).unwrap();
            fs::write(dir.join(version).join("q.toml"), "same").unwrap();
        }
        std::os::unix::fs::symlink("..v1", dir.join("..data")).unwrap();
        std::os::unix::fs::symlink("..data/q.toml", dir.join("q.toml")).unwrap();
        assert!(changed(&folder) && !changed(&folder));
        std::os::unix::fs::symlink("..v2", dir.join("..new")).unwrap();
        fs::rename(dir.join("..new"), dir.join("..data")).unwrap();
        assert!(changed(&folder), "the link was swapped");
        fs::remove_file(dir.join("p.toml")).unwrap();
        assert!(changed(&folder), "removed");
        fs::rename(&dir, dir.with_extension("away")).unwrap();
        let before = folder.look();
        fs::create_dir(&dir).unwrap();
        assert!(folder.look().moved(&before), "another folder");
        fs::remove_dir_all(dir.with_extension("away")).unwrap();
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_fault_of_one_does_not_touch_the_others() {
        let (dir, mut folder) = folder("read");
        let manifest = "handler = \"h.wasm\"\ninput = [\"in\"]\n";
        for (name, text) in [("fine", manifest), ("wrong", "handel = \"h.wasm\"\n"), ("no-toml", "[[")] {
            fs::write(dir.join(format!("{name}.toml")), text).unwrap();
        }
        let pinned = format!("sha256 = \"{}\"\n{}", "0".repeat(64), manifest.replace("[\"in\"]", "[\"other\"]"));
        fs::write(dir.join("pinned.toml"), pinned).unwrap();
        fs::write(dir.join("h.wasm"), "bytes").unwrap();
        fs::write(dir.join("gone.fixtures.jsonl"), "{}").unwrap();
        fs::write(dir.join("half.toml"), manifest.replace("[\"in\"]", "[\"third\"]")).unwrap();
        fs::write(dir.join("half.fixtures.jsonl"), "{}").unwrap();
        let content = folder.read().unwrap();
        assert_eq!(content.fit.keys().collect::<Vec<_>>(), ["fine"]);
        let unfit: Vec<&String> = content.unfit.keys().collect();
        assert_eq!(unfit, ["gone.fixtures.jsonl", "half", "no-toml", "pinned", "wrong"]);
        assert!(content.unfit["gone.fixtures.jsonl"].contains("there is no gone.toml beside it"), "{content:?}");
        assert!(content.unfit["half"].contains("does not say what is to come of it"), "{content:?}");
        assert!(content.unfit["wrong"].contains("did you mean `handler`?"), "{}", content.unfit["wrong"]);
        assert!(content.unfit["pinned"].contains("demands another"), "{}", content.unfit["pinned"]);
        fs::remove_file(dir.join("h.wasm")).unwrap();
        let content = folder.read().unwrap();
        assert!(content.fit.is_empty() && content.unfit["fine"].contains("there is no file"), "{content:?}");
        fs::remove_dir_all(&dir).unwrap();
        assert!(folder.read().is_err());
    }
}
