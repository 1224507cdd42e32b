//! `send`, `tail`, `lag` and `topics` on a folder at rest and beside the process that holds it.

use crate::support::{Folder, WAIT, ended};
use keyrail::broker::embedded::Embedded;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The binary under test: `KEYRAIL_BIN`, or that of this build.
pub(crate) fn binary() -> PathBuf {
    let path = std::env::var_os("KEYRAIL_BIN")
        .map_or_else(|| std::env::current_exe().unwrap().parent().unwrap().with_file_name("keyrail"), PathBuf::from);
    assert!(path.is_file(), "{} is not there: cargo build -p keyrail", path.display());
    path
}

/// A folder with a pipeline whose topics are not there yet.
pub(crate) fn stage() -> Folder {
    let folder = Folder::new();
    let plugins = folder.path().join("plugins");
    fs::create_dir(&plugins).unwrap();
    // None of these commands looks into it.
    fs::write(plugins.join("copy.wasm"), "").unwrap();
    fs::write(plugins.join("copy.toml"), "handler = \"copy.wasm\"\ninput = [\"orders\"]\n[output]\nout = \"done\"\n")
        .unwrap();
    fs::write(folder.path().join("keyrail.toml"), "broker = \"embedded\"\n[embedded]\npartitions = 3\n").unwrap();
    folder
}

pub(crate) fn command(folder: &Folder, args: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(args).current_dir(folder.path());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Exit code, standard output, standard error.
pub(crate) fn run(folder: &Folder, args: &[&str], input: &str) -> (i32, String, String) {
    let mut child = command(folder, args).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let done = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (done.status.code().unwrap(), text(done.stdout), text(done.stderr))
}

/// What all four do, whoever holds the folder.
fn all_four(folder: &Folder, before: usize) {
    let lines = "{\"key\":\"a\",\"value\":{\"base64\":\"/w==\"},\"headers\":{\"h\":[\"1\",null]},\"timestamp\":5,\"partition\":2}\n{\"key\":\"b\",\"value\":null}\n";
    let (code, out, err) = run(folder, &["send", "orders"], lines);
    assert_eq!((code, out.as_str(), err.as_str()), (0, "", "sent 2 records to orders\n"));
    let (code, out, err) = run(folder, &["tail", "orders", "--from", "earliest"], "");
    assert_eq!((code, out.lines().count(), err.as_str()), (0, before + 2, ""), "{out}");
    let first = "\"timestamp\":5,\"key\":\"a\",\"value\":{\"base64\":\"/w==\"},\"headers\":{\"h\":[\"1\",null]}}";
    assert!(out.lines().any(|line| line.ends_with(first)), "{out}");
    let (code, out, _) = run(folder, &["lag", "--json"], "");
    assert!(code == 0 && out.contains(&format!("\"group\":\"copy\",\"lag\":{},", before + 2)), "{out}");
    let (code, out, err) = run(folder, &["send", "order"], "");
    assert!(code == 2 && out.is_empty() && err.contains("did you mean \"orders\"?"), "{err}");
    let (code, out, _) = run(folder, &["topics"], "");
    assert!(code == 0 && out.matches("  exists  ").count() == 3, "{out}");
}

#[test]
fn a_folder_is_made_filled_and_read_at_rest_and_beside_its_process() {
    let folder = stage();
    let (code, _, err) = run(&folder, &["tail", "orders"], "");
    assert_eq!(code, 1, "{err}");
    let (code, out, err) = run(&folder, &["topics", "--create"], "");
    assert!(code == 0 && out.matches("  created  ").count() == 3, "{out}{err}");
    all_four(&folder, 0);
    let held = Embedded::open(&folder.options()).unwrap();
    all_four(&folder, 2);
    let (code, out, _) = run(&folder, &["topics", "--print"], "");
    assert_eq!((code, out.as_str()), (0, ""));
    // A retry topic is needed when something is parked; until then it is of no concern.
    let (code, out, _) = run(&folder, &["topics", "--all"], "");
    assert!(code == 0 && out.matches("  unused  ").count() == 1 && out.contains("copy.orders.retry"), "{out}");
    let (code, out, _) = run(&folder, &["topics", "--all", "--create"], "");
    assert!(code == 0 && out.matches("  created  ").count() == 1, "{out}");
    drop(held);
}

#[test]
fn a_tail_that_follows_sees_what_comes_and_ends_with_the_process() {
    let folder = stage();
    let (code, ..) = run(&folder, &["topics", "--create"], "");
    assert_eq!(code, 0);
    let held = Embedded::open(&folder.options()).unwrap();
    let mut tail = command(&folder, &["tail", "orders", "--from", "earliest", "--follow", "--raw"]).spawn().unwrap();
    let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines();
    for value in ["one", "two"] {
        let (code, _, err) = run(&folder, &["send", "orders", "--raw"], value);
        assert_eq!(code, 0, "{err}");
        assert_eq!(lines.next().unwrap().unwrap(), value);
    }
    drop(held);
    ended(&mut tail, WAIT, &"tail");
    let done = tail.wait_with_output().unwrap();
    assert_eq!(done.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&done.stderr).contains("holds the folder"), "{done:?}");
}
