//! SDKs that are npm packages: copied below the target folder, and there given what their lock file names, so that nothing is
//! fetched or built into the repository.

use super::packages::{Package, install};
use crate::place::{make, read, remove, write};
use crate::run::{ask, quiet};
use crate::say::say;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// `node --test`, and all of the language that the SDKs use.
const NODE_AT_LEAST: u32 = 20;
const FETCH_LIMIT: Duration = Duration::from_secs(300);
/// What npm and the compilers put beside the sources.
const MADE: [&str; 2] = ["node_modules", "dist"];

const NODE: Package = Package {
    what: "Node.js 20 or later with npm",
    debian: "nodejs npm",
    fedora: "nodejs npm",
    macos: "brew install node",
};

/// Copies a package of the repository to a folder, with all that it needs, and builds it and what is made with it by `build`, unless
/// that has been done for the same `sources`, of which the first is the package.
pub(super) fn have(
    root: &Path,
    sources: &[&str],
    to: &Path,
    build: impl Fn(&Path) -> Result<(), String>,
) -> Result<(), String> {
    let wanted = fingerprint(root, sources)?;
    let marker = to.with_extension("complete");
    if read(&marker).is_ok_and(|there| there == wanted) {
        return Ok(());
    }
    node()?;
    let from = root.join(sources.first().ok_or("no package to build")?);
    copy(&from, to)?;
    packages(to)?;
    build(to)?;
    // IMPORTANT: last, because it says that all the rest is there.
    write(&marker, &wanted)
}

/// What the lock file names, without programs of theirs that run at the installation.
fn packages(folder: &Path) -> Result<(), String> {
    let (marker, wanted) = (folder.join("node_modules/complete"), read(&folder.join("package-lock.json"))?);
    if read(&marker).is_ok_and(|there| there == wanted) {
        return Ok(());
    }
    say("fetching what the package's lock file names through npm");
    let mut npm = Command::new("npm");
    npm.current_dir(folder).args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]);
    quiet("npm", &mut npm, FETCH_LIMIT)?;
    write(&marker, &wanted)
}

fn node() -> Result<(), String> {
    let new_enough = || {
        let version = ask("node", &["--version"])?;
        let major: u32 = version.strip_prefix('v')?.split('.').next()?.parse().ok()?;
        (major >= NODE_AT_LEAST && ask("npm", &["--version"]).is_some()).then_some(())
    };
    if new_enough().is_some() {
        return Ok(());
    }
    install(&[NODE])?;
    new_enough().ok_or_else(|| format!("`node` is not {}: nodejs.org has it", NODE.what))
}

/// Makes the folder what the other is, but for what was made in it.
fn copy(from: &Path, to: &Path) -> Result<(), String> {
    make(to)?;
    for old in entries(to)? {
        let is_made = MADE.iter().any(|made| old.file_name().is_some_and(|name| name == *made));
        if old.is_dir() && !is_made {
            remove(&old)?;
        }
    }
    for file in files(from)? {
        let target = to.join(file.strip_prefix(from).map_err(|e| e.to_string())?);
        target.parent().map_or(Ok(()), make)?;
        std::fs::copy(&file, &target).map_err(|e| format!("cannot copy {}: {e}", file.display()))?;
    }
    Ok(())
}

/// What stands for the text of all files below these folders.
fn fingerprint(root: &Path, folders: &[&str]) -> Result<String, String> {
    let mut hasher = DefaultHasher::new();
    for folder in folders {
        for file in files(&root.join(folder))? {
            file.hash(&mut hasher);
            std::fs::read(&file).map_err(|e| format!("{}: {e}", file.display()))?.hash(&mut hasher);
        }
    }
    Ok(format!("{:016x}", hasher.finish()))
}

/// Every file of a package, in an order that is always the same.
fn files(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    for path in entries(folder)? {
        if !path.is_dir() {
            found.push(path);
        } else if !MADE.iter().any(|made| path.ends_with(made)) {
            found.extend(files(&path)?);
        }
    }
    Ok(found)
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let failed = |e| format!("{}: {e}", folder.display());
    let entries = std::fs::read_dir(folder).map_err(failed)?;
    let mut found = entries.map(|entry| Ok(entry.map_err(failed)?.path())).collect::<Result<Vec<_>, String>>()?;
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]
    use super::*;

    #[test]
    fn a_copy_follows_the_package_and_keeps_what_was_made() {
        let top = std::env::temp_dir().join(format!("keyrail-xtask-npm-{}", std::process::id()));
        let (from, to) = (top.join("from"), top.join("to"));
        write(&from.join("package.json"), "{}").unwrap();
        write(&from.join("src/a.ts"), "a").unwrap();
        write(&from.join("node_modules/x/y.js"), "not the package's").unwrap();
        let before = fingerprint(&top, &["from"]).unwrap();
        copy(&from, &to).unwrap();
        write(&to.join("dist/a.js"), "made").unwrap();
        std::fs::rename(from.join("src/a.ts"), from.join("src/b.ts")).unwrap();
        copy(&from, &to).unwrap();
        let left: Vec<_> = files(&to).unwrap();
        assert_eq!(left, [to.join("package.json"), to.join("src/b.ts")]);
        assert!(to.join("dist/a.js").is_file() && !to.join("node_modules").exists());
        assert_ne!(fingerprint(&top, &["from"]).unwrap(), before);
        remove(&top).unwrap();
    }
}
