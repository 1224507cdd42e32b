//! `cargo xtask tidy`: style as a test. CONTRIBUTING.md gives each rule with an example and the reason.

mod rules;
mod source;

use crate::place::Place;
use crate::run::quiet;
use rules::{Fault, RULES};
use source::Source;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// What may break a rule, and why: rule, path, reason. One that is no longer needed is a fault.
const EXCEPTIONS: [(&str, &str, &str); 0] = [];

/// Every fault of the tree, in the order of the files.
pub(crate) fn faults(place: &Place) -> Result<Vec<Fault>, String> {
    let mut found = Vec::new();
    for path in files(&place.root)? {
        // Deleted but not yet committed, or no text.
        let Ok(text) = std::fs::read_to_string(place.root.join(&path)) else { continue };
        let source = Source::new(&path, &text);
        for (name, rule) in RULES {
            found.extend(rule(&source, &place.root).into_iter().map(|(line, what)| Fault {
                rule: name,
                path: path.clone(),
                line,
                what,
            }));
        }
    }
    Ok(judge(found, &EXCEPTIONS))
}

/// Takes out what is excepted and adds exceptions that nothing needs.
fn judge(found: Vec<Fault>, exceptions: &[(&'static str, &str, &str)]) -> Vec<Fault> {
    let excepts = |fault: &Fault, (rule, path, _): &(&str, &str, &str)| fault.rule == *rule && fault.path == *path;
    let idle = exceptions.iter().filter(|e| !found.iter().any(|f| excepts(f, e)));
    let idle = idle.map(|(rule, path, _)| Fault {
        rule,
        path: (*path).to_owned(),
        line: 1,
        what: "has an exception in tests/xtask/src/tidy/mod.rs that it does not need: take it out".to_owned(),
    });
    let idle: Vec<_> = idle.collect();
    let standing = found.into_iter().filter(|f| !exceptions.iter().any(|e| excepts(f, e)));
    standing.chain(idle).collect()
}

/// Every file that is tracked or could be: relative paths. Without Git, all that is not build output.
fn files(root: &Path) -> Result<Vec<String>, String> {
    let mut git = Command::new("git");
    git.current_dir(root).args(["ls-files", "--cached", "--others", "--exclude-standard"]);
    let mut found: Vec<String> = match quiet("git", &mut git, Duration::from_secs(60)) {
        Ok(list) => list.lines().map(str::to_owned).collect(),
        Err(_) => {
            let mut found = Vec::new();
            walk(root, root, &mut found)?;
            found
        }
    };
    found.sort();
    found.dedup();
    Ok(found)
}

fn walk(root: &Path, folder: &Path, found: &mut Vec<String>) -> Result<(), String> {
    let entries = std::fs::read_dir(folder).map_err(|e| format!("cannot read {}: {e}", folder.display()))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
    paths.sort();
    for path in paths {
        let hidden = path.file_name().is_some_and(|n| n == "target" || n == ".git");
        if path.is_dir() && !hidden {
            walk(root, &path, found)?;
        } else if let Some(relative) = path.strip_prefix(root).ok().and_then(Path::to_str).filter(|_| path.is_file()) {
            found.push(relative.to_owned());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]
    use super::*;

    #[test]
    fn the_tree_is_tidy() {
        let place = Place::find().unwrap();
        assert!(place.root.join("Cargo.toml").is_file(), "looking at the wrong folder: {}", place.root.display());
        let faults = faults(&place).unwrap();
        let list: Vec<_> = faults.iter().map(ToString::to_string).collect();
        assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), list.join("\n"));
    }

    #[test]
    fn an_exception_covers_its_file_and_an_idle_one_is_a_fault() {
        let fault =
            |path: &str| Fault { rule: "file-length", path: path.to_owned(), line: 501, what: "long".to_owned() };
        let left = judge(vec![fault("a.rs"), fault("b.rs")], &[("file-length", "a.rs", "generated")]);
        assert_eq!(left.iter().map(|f| f.path.as_str()).collect::<Vec<_>>(), ["b.rs"]);
        let left = judge(vec![], &[("file-length", "a.rs", "generated")]);
        assert!(left.len() == 1 && left[0].what.contains("does not need"));
    }
}
