//! The test programs that a build made, out of Cargo's messages.

use crate::place::{Member, Place};
use std::path::{Path, PathBuf};

/// One test program: a library's unit tests, or one file of `tests/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Program {
    /// The crate's name, and the target's where it differs.
    pub(crate) name: String,
    /// The crate's folder, relative to the repository.
    pub(crate) folder: String,
    pub(crate) path: PathBuf,
}

impl Program {
    /// The quick and fundamental first, the real Kafka last.
    pub(crate) fn rank(&self) -> (usize, String) {
        const ORDER: [&str; 6] = ["tests/xtask", "runtime/engine", "tests/sim", "sdk", "examples", "runtime"];
        const LAST: [&str; 2] = ["tests/kafka", "tests/faults"];
        let within =
            |top: &str| self.folder == top || (top != "runtime" && self.folder.starts_with(&format!("{top}/")));
        let late = LAST.iter().position(|top| within(top)).map(|at| ORDER.len() + 1 + at);
        let rank = late.or_else(|| ORDER.iter().position(|top| within(top))).unwrap_or(ORDER.len());
        (rank, self.name.clone())
    }
}

/// The program of one line of `--message-format=json`, if it speaks of a test program of ours.
pub(crate) fn of_message(line: &str, place: &Place, members: &[Member]) -> Option<Program> {
    if !line.contains("\"reason\":\"compiler-artifact\"") {
        return None;
    }
    let profile = line.split("\"profile\":{").nth(1)?.split('}').next()?;
    let target = line.split("\"target\":{").nth(1)?;
    if !profile.contains("\"test\":true") || target.contains("\"kind\":[\"bench\"]") {
        return None;
    }
    let path = string(line, "\"executable\":\"")?;
    let manifest = string(line, "\"manifest_path\":\"")?;
    let folder = Path::new(&manifest).parent()?.strip_prefix(&place.root).ok()?.to_str()?.to_owned();
    let member = members.iter().find(|m| m.folder == folder)?;
    let target_name = string(target, "\"name\":\"")?;
    let name = if target.contains("\"kind\":[\"bin\"]") {
        format!("{} (program)", member.name)
    } else if target_name == member.name.replace('-', "_") {
        member.name.clone()
    } else {
        format!("{} {target_name}", member.name)
    };
    Some(Program { name, folder, path: PathBuf::from(path) })
}

/// The JSON string that begins after `start`.
fn string(text: &str, start: &str) -> Option<String> {
    let mut found = String::new();
    let mut escaped = false;
    for c in text.split_once(start)?.1.chars() {
        match c {
            '"' if !escaped => return Some(found),
            '\\' if !escaped => escaped = true,
            c => {
                escaped = false;
                found.push(c);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{Program, of_message};
    use crate::place::{Member, Place};
    use std::path::PathBuf;

    fn check(message: &str) -> Option<Program> {
        let place = Place { root: PathBuf::from("/repo"), target: PathBuf::from("/repo/target") };
        let member = Member { name: "keyrail-engine".to_owned(), folder: "runtime/engine".to_owned(), guest: false };
        of_message(message, &place, &[member])
    }

    fn message(kind: &str, name: &str, test: bool, executable: &str) -> String {
        format!(
            r#"{{"reason":"compiler-artifact","package_id":"x","manifest_path":"/repo/runtime/engine/Cargo.toml","target":{{"kind":["{kind}"],"crate_types":["{kind}"],"name":"{name}","src_path":"/repo/x.rs","edition":"2024","doc":true,"doctest":true,"test":true}},"profile":{{"opt_level":"1","test":{test}}},"features":[],"filenames":["/x"],"executable":{executable},"fresh":true}}"#
        )
    }

    #[test]
    fn test_programs_are_told_from_libraries_and_from_other_messages() {
        let found = check(&message("lib", "keyrail_engine", true, r#""/t/engine-1""#));
        let expected = Program {
            name: "keyrail-engine".to_owned(),
            folder: "runtime/engine".to_owned(),
            path: PathBuf::from("/t/engine-1"),
        };
        assert_eq!(found, Some(expected));
        let named = check(&message("test", "golden", true, r#""/t/g \"1\"""#)).map(|p| (p.name, p.path));
        assert_eq!(named, Some(("keyrail-engine golden".to_owned(), PathBuf::from("/t/g \"1\""))));
        assert_eq!(check(&message("lib", "keyrail_engine", false, "null")), None);
        assert_eq!(check(&message("bench", "b", true, r#""/t/b""#)), None);
        assert_eq!(check(r#"{"reason":"build-finished","success":true}"#), None);
    }

    #[test]
    fn the_real_kafka_comes_last() {
        let rank =
            |folder: &str| Program { name: String::new(), folder: folder.to_owned(), path: PathBuf::new() }.rank().0;
        assert!(rank("tests/xtask") < rank("runtime/engine"));
        assert!(rank("runtime/engine") < rank("runtime"));
        assert!(rank("runtime") < rank("tests/bench"));
        assert!(rank("tests/bench") < rank("tests/kafka"));
    }
}
