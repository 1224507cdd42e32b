//! What commands say of a folder that they can't use, of a full disk, and when they are told to end at once: place, cause,
//! cure, and an exit code.

use crate::commands::{binary, command, run, stage};
use crate::folder::scribble;
use crate::support::{Folder, WAIT, ended, in_own_namespace};
use std::io::{Read as _, Write as _};
use std::process::{Child, Command};
use std::time::Duration;

/// Each command on the folder: all of them fail, and all of them say `parts`.
fn every_command_says(folder: &Folder, parts: &[&str]) {
    for args in [&["check"][..], &["topics"], &["lag"], &["tail", "orders", "--from", "earliest"], &["send", "orders"]]
    {
        let (code, out, err) = run(folder, args, "");
        // `check` reports what it finds; the others end with it.
        let told = if args == ["check"] { &out } else { &err };
        assert_eq!(code, 1, "{args:?}: {told}");
        for part in parts.iter().chain(&["data"]) {
            assert!(told.contains(part), "{args:?}: {part} not in\n{told}");
        }
        assert!(!told.contains("panicked"), "{args:?}: {told}");
    }
}

#[test]
fn a_folder_of_another_version_and_a_damaged_one_are_told_by_every_command() {
    let folder = stage();
    let (code, ..) = run(&folder, &["topics", "--create"], "");
    assert_eq!(code, 0);
    scribble(&folder, 60, &7_u32.to_be_bytes());
    every_command_says(&folder, &["format 7", "writes format 1", "use the keyrail that made it, or another folder"]);
    scribble(&folder, 0, b"no database at all, no database at all");
    every_command_says(&folder, &["keyrail.db is damaged", "put a copy of the folder back"]);
}

#[test]
fn run_does_not_start_on_such_a_folder() {
    let Some(folder) = crate::run::stage("run_does_not_start_on_such_a_folder") else { return };
    drop(folder.open());
    scribble(&folder, 60, &7_u32.to_be_bytes());
    let (code, _, err) = run(&folder, &["run"], "");
    assert!(code == 1 && err.contains("keyrail: nothing was started:"), "{err}");
    assert!(err.contains("data: the folder has format 7, and this keyrail writes format 1: use the keyrail"), "{err}");
}

/// On a disk of 6 MB: what was not written is told as not sent, with the line from which on, and the disk as the reason.
#[test]
fn a_full_disk_is_told_by_send_with_the_line() {
    let folder = stage();
    let disk = folder.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let manifest = std::fs::read_to_string(folder.path().join("keyrail.toml")).unwrap();
    std::fs::write(folder.path().join("keyrail.toml"), manifest + "dir = \"disk/data\"\n").unwrap();
    // Text that does not pack well. Interrupted, a send no longer waits for room.
    let script = format!(
        "cd {0} && mount -t tmpfs -o size=6m none disk && {1} topics --create >&2 &&
         head -c 12000000 /dev/urandom | base64 -w 6000 | timeout -s INT 4 {1} send orders --raw; echo code $?
         {1} tail orders --from earliest --raw | wc -l",
        folder.path().display(),
        binary().display(),
    );
    let Some(output) = in_own_namespace("a_full_disk_is_told_by_send_with_the_line", &script) else { return };
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let told = err.lines().find(|line| line.contains("not taken")).unwrap_or_default();
    assert!(told.starts_with("keyrail: stdin:") && told.contains("the disk is full: nothing was written"), "{err}");
    let sent =
        err.lines().find_map(|line| line.strip_prefix("sent ")?.split_once(" record")).unwrap().0.replace(',', "");
    // What it counted as sent is there, and nothing else.
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.last().map(|line| line.trim()), Some(sent.as_str()), "{out}\n{err}");
    assert!(sent.parse::<u32>().unwrap() > 0, "{err}");
}

fn interrupt(child: &Child) {
    let sent = Command::new("kill").arg("-INT").arg(child.id().to_string()).status().unwrap();
    assert!(sent.success());
}

/// Its reader does not read: the first Ctrl-C is not noticed, and the second one ends it.
#[test]
fn ctrl_c_twice_ends_a_tail_that_is_stuck() {
    let folder = stage();
    let lines = "0123456789012345678901234567890123456789\n".repeat(10_000);
    let (code, _, err) = run(&folder, &["send", "orders", "--create", "--raw"], &lines);
    assert_eq!(code, 0, "{err}");
    let mut tail = command(&folder, &["tail", "orders", "--from", "earliest"]).spawn().unwrap();
    let mut first = [0];
    tail.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    interrupt(&tail);
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(tail.try_wait().unwrap(), None, "it was not stuck");
    interrupt(&tail);
    let status = ended(&mut tail, WAIT, &"tail");
    let mut told = String::new();
    tail.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    assert_eq!(status.code(), Some(1), "{told}");
    assert_eq!(told, "keyrail: a second signal: ending at once; what was under way may be done or not\n");
}

/// Both flags of `send`: the line's number, and whether what follows is sent.
#[test]
fn a_line_with_an_error_is_told_with_its_number_and_the_rest_is_sent_or_not() {
    let folder = stage();
    let (code, ..) = run(&folder, &["topics", "--create"], "");
    assert_eq!(code, 0);
    let lines = "{\"value\":\"a\"}\n{\"value\":tru}\n{\"valeu\":\"b\"}\n{\"value\":\"c\"}\n";
    let (code, _, err) = run(&folder, &["send", "orders"], lines);
    assert!(code == 1 && err.starts_with("stdin:2:13: expected"), "{err}");
    assert!(
        err.contains("sent 1 record to orders; 1 line with an error; stopped there; --on-error skip goes on"),
        "{err}"
    );
    let (code, _, err) = run(&folder, &["send", "orders", "--on-error", "skip"], lines);
    assert!(code == 1 && err.contains("stdin:2:13: ") && err.contains("stdin:3:"), "{err}");
    assert!(err.contains("sent 2 records to orders; 2 lines with an error\n"), "{err}");
    let (_, out, _) = run(&folder, &["tail", "orders", "--from", "earliest", "--raw"], "");
    assert_eq!(out.lines().filter(|line| *line == "a").count(), 2);
    assert_eq!(out.lines().filter(|line| *line == "c").count(), 1);
    let mut odd = command(&folder, &["send", "orders"]).spawn().unwrap();
    odd.stdin.take().unwrap().write_all(b"{\"value\":\"\xff\"}\n").unwrap();
    let odd = odd.wait_with_output().unwrap();
    assert!(odd.status.code() == Some(1) && odd.stderr.starts_with(b"stdin:1:"), "{odd:?}");
}

/// What writes in transactions needs a name, which is kept in `store.dir`.
#[test]
fn a_store_that_can_not_be_written_is_a_fault_where_a_pipeline_needs_it() {
    let folder = stage();
    std::fs::create_dir(folder.path().join("state")).unwrap();
    let check = || {
        let script = format!(
            "cd {} && mount -t tmpfs -o ro none state && {} check; echo code $?",
            folder.path().display(),
            binary().display()
        );
        let test = "a_store_that_can_not_be_written_is_a_fault_where_a_pipeline_needs_it";
        Some(String::from_utf8(in_own_namespace(test, &script)?.stdout).unwrap())
    };
    let Some(told) = check() else { return };
    let fault = told.lines().find(|line| line.starts_with("FAULT    store ")).unwrap_or_default();
    assert!(fault.contains("  state: no name for this process: Read-only file system"), "{told}");
    assert!(fault.contains("set store.dir to a folder that this user can write"), "{told}");
    let manifest = folder.path().join("plugins/copy.toml");
    let text = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, format!("guarantee = \"at-least-once\"\n{text}")).unwrap();
    assert!(check().is_some_and(|told| !told.contains("store")));
}
