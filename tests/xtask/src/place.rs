//! Where the repository and its build output are, and which crates the workspace has.

use crate::manifest;
use std::path::{Path, PathBuf};

/// The two folders that everything else is found from.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// The repository's top folder.
    pub(crate) root: PathBuf,
    /// Cargo's target folder: all that set-up fetches and builds goes in there, nothing elsewhere.
    pub(crate) target: PathBuf,
}

/// One crate of the workspace.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) name: String,
    /// Relative to the repository, with `/` between its parts.
    pub(crate) folder: String,
    /// Built to WebAssembly as well: `[package.metadata.keyrail] guest = true`.
    pub(crate) guest: bool,
}

impl Place {
    pub(crate) fn find() -> Result<Self, String> {
        let own = std::env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = own.ancestors().nth(2).map(Path::to_path_buf).filter(|r| r.join("Cargo.toml").is_file());
        let root = root.ok_or_else(|| format!("{} is not tests/xtask of a Keyrail checkout", own.display()))?;
        // The running program is TARGET/debug/xtask, or a test in TARGET/debug/deps: true for every way to set the
        // target folder.
        let exe = std::env::current_exe().map_err(|e| format!("cannot find the path of this program: {e}"))?;
        let profile = exe.parent().filter(|p| !p.ends_with("deps")).or_else(|| exe.parent().and_then(Path::parent));
        let target = profile.and_then(Path::parent).map_or_else(|| root.join("target"), Path::to_path_buf);
        Ok(Self { root, target })
    }

    /// Every crate of the workspace, in the order of `members`.
    pub(crate) fn members(&self) -> Result<Vec<Member>, String> {
        let text = read(&self.root.join("Cargo.toml"))?;
        let mut found = Vec::new();
        for pattern in manifest::members(&text) {
            for folder in self.expand(&pattern)? {
                let path = self.root.join(&folder).join("Cargo.toml");
                let text = read(&path)?;
                let name = manifest::value(&text, "package", "name")
                    .ok_or_else(|| format!("{}: no `name` under [package]", path.display()))?;
                let guest = manifest::value(&text, "package.metadata.keyrail", "guest").as_deref() == Some("true");
                found.push(Member { name, folder, guest });
            }
        }
        Ok(found)
    }

    /// The crate in `folder`, if the workspace has it.
    pub(crate) fn member(&self, folder: &str) -> Result<Option<Member>, String> {
        Ok(self.members()?.into_iter().find(|m| m.folder == folder))
    }

    fn expand(&self, pattern: &str) -> Result<Vec<String>, String> {
        let Some(parent) = pattern.strip_suffix("/*") else { return Ok(vec![pattern.to_owned()]) };
        let folder = self.root.join(parent);
        let mut found = Vec::new();
        let Ok(entries) = std::fs::read_dir(&folder) else { return Ok(found) };
        for entry in entries {
            let entry = entry.map_err(|e| format!("{}: {e}", folder.display()))?;
            if entry.path().join("Cargo.toml").is_file() {
                found.push(format!("{parent}/{}", entry.file_name().to_string_lossy()));
            }
        }
        found.sort();
        Ok(found)
    }
}

/// A file's text, or an error that names it.
pub(crate) fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|e| format!("cannot read {}: {e}", path.display()))
}

/// Writes a file and the folders above it.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), String> {
    if let Some(parent) = path.parent() {
        make(parent)?;
    }
    std::fs::write(path, text).map_err(|e| format!("cannot write {}: {e}", path.display()))
}

/// Makes a folder and those above it.
pub(crate) fn make(folder: &Path) -> Result<(), String> {
    std::fs::create_dir_all(folder).map_err(|e| format!("cannot make the folder {}: {e}", folder.display()))
}

/// Removes a folder with all that is in it; one that is not there is fine.
pub(crate) fn remove(folder: &Path) -> Result<(), String> {
    match std::fs::remove_dir_all(folder) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(format!("cannot remove {}: {e}", folder.display())),
        _ => Ok(()),
    }
}

/// Removes a file; one that is not there is fine.
pub(crate) fn remove_file(path: &Path) -> Result<(), String> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(format!("cannot remove {}: {e}", path.display())),
        _ => Ok(()),
    }
}
