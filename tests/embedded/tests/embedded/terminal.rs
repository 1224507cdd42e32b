//! What a terminal changes, and what is left without one: width, colours, progress.

use crate::commands::{binary, command, run, stage};
use crate::support::{Folder, skip};
use std::io::Write as _;
use std::process::Command;
use std::time::Duration;

const COLUMNS: usize = 40;

/// What `line`, a shell's, shows on a terminal, standard error included. `None`: there is no `script` to make one.
fn on_terminal(test: &str, folder: &Folder, line: &str) -> Option<String> {
    let line = format!("stty cols {COLUMNS}; {}", line.replace("keyrail", &binary().display().to_string()));
    let mut script = Command::new("script");
    script.args(["-qec", &line, "/dev/null"]).current_dir(folder.path());
    let Ok(done) = script.env("TERM", "xterm").env_remove("NO_COLOR").output() else {
        skip(test, "no terminal without script(1)");
        return None;
    };
    Some(String::from_utf8(done.stdout).unwrap())
}

fn bare(text: &str) -> String {
    ["\x1b[1m", "\x1b[0m", "\x1b[31m", "\x1b[32m", "\x1b[33m"]
        .iter()
        .fold(text.to_owned(), |t, code| t.replace(code, ""))
}

#[test]
fn tables_fit_a_terminal_of_40_columns() {
    let test = "tables_fit_a_terminal_of_40_columns";
    let folder = stage();
    let (code, ..) = run(&folder, &["send", "else", "--create"], "");
    assert_eq!(code, 0);
    let mut shown = String::new();
    for line in ["keyrail topics", "keyrail topics --create", "keyrail lag", "keyrail check", "keyrail topics"] {
        let Some(text) = on_terminal(test, &folder, line) else { return };
        shown += &text;
    }
    let shown = bare(&shown);
    for line in shown.lines() {
        // A digest or a path is never cut: it is there to be copied.
        let is_whole = line.split_whitespace().any(|word| word.chars().count() + 2 > COLUMNS);
        assert!(is_whole || line.trim_end().chars().count() <= COLUMNS, "{line:?} in\n{shown}");
    }
    for part in
        ["orders\r\n- state", "- topic     total", "FAULT handler plugins/copy.wasm\r\n  ", "ok topic orders\r\n"]
    {
        assert!(shown.contains(part), "{part:?} not in\n{shown}");
    }
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    let test = "colours_are_for_terminals_that_want_them";
    let folder = stage();
    let (code, ..) = run(&folder, &["topics", "--create"], "");
    assert_eq!(code, 0);
    for line in ["keyrail lag", "keyrail topics"] {
        let shown = |line: &str| on_terminal(test, &folder, line);
        let Some(coloured) = shown(line) else { return };
        assert!(coloured.contains("\x1b[32m"), "{coloured:?}");
        for refused in ["NO_COLOR=1", "TERM=dumb"] {
            assert_eq!(shown(&format!("{refused} {line}")), Some(bare(&coloured)), "{refused}");
        }
        assert_eq!(shown(&format!("{line} | cat")).map(|text| text.contains('\x1b')), Some(false), "{line}");
    }
    for args in [&["lag"][..], &["topics"], &["check"]] {
        let (_, out, err) = run(&folder, args, "");
        assert!(!out.is_empty() && !out.contains('\x1b') && !err.contains('\x1b'), "{args:?}: {out:?}");
    }
}

#[test]
fn progress_is_for_terminals() {
    let test = "progress_is_for_terminals";
    let folder = stage();
    let (code, ..) = run(&folder, &["topics", "--create"], "");
    assert_eq!(code, 0);
    let slow = "(echo a; sleep 1; echo b; sleep 1; echo c) | keyrail send orders --raw";
    let Some(shown) = on_terminal(test, &folder, slow) else { return };
    assert!(shown.contains("\r2 records sent\x1b[K"), "{shown:?}");
    assert!(shown.ends_with("\r\x1b[Ksent 3 records to orders\r\n"), "{shown:?}");

    let mut child = command(&folder, &["send", "orders", "--raw"]).spawn().unwrap();
    let mut lines = child.stdin.take().unwrap();
    for line in ["a\n", "b\n", "c\n"] {
        lines.write_all(line.as_bytes()).unwrap();
        std::thread::sleep(Duration::from_millis(700));
    }
    drop(lines);
    let done = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&done.stderr), "sent 3 records to orders\n");
}
