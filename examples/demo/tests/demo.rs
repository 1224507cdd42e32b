//! The demo as `cargo xtask demo` starts it, with fewer orders.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail by panicking")]

use std::io::Write as _;
use std::process::Command;

/// Told on the terminal, and to the runner of all tests, which counts it.
fn skip(reason: &str) {
    println!("SKIP the demo: {reason}");
    if let Some(list) = std::env::var_os("KEYRAIL_SKIPS") {
        let mut list = std::fs::File::options().append(true).create(true).open(list).unwrap();
        writeln!(list, "the demo: {reason}").unwrap();
    }
}

#[test]
fn the_demo_keeps_its_promise_through_three_kills() {
    let (Some(keyrail), Some(guests)) = (std::env::var_os("KEYRAIL_BIN"), std::env::var_os("KEYRAIL_GUESTS")) else {
        return skip("KEYRAIL_BIN and KEYRAIL_GUESTS are not set (cargo xtask test sets them)");
    };
    let folder = std::env::temp_dir().join(format!("keyrail-demo-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let out = Command::new(env!("CARGO_BIN_EXE_keyrail-demo"))
        .args(["--orders", "3000"])
        .env("KEYRAIL_BIN", keyrail)
        .env("KEYRAIL_GUESTS", guests)
        .env("KEYRAIL_DEMO", &folder)
        .output()
        .unwrap();
    let (text, errors) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    let log = std::fs::read_to_string(folder.join("worker.log")).unwrap_or_default();
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(out.status.success(), "{text}\n{errors}\n{log}");
    assert_eq!(text.matches("killed the worker with SIGKILL").count(), 3, "{text}");
    assert!(text.contains("The promise was kept: 3 kills, 0 lost, 0 out of order, 0 twice"), "{text}");
    assert!(text.contains("What the workers said is in ") && text.contains("worker.log"), "{text}");
    assert!(!text.contains('\x1b'), "no colours and no cursor where there is no terminal: {text}");
}

#[test]
fn wrong_use_is_told() {
    for (args, word) in [(&["--orders", "many"][..], "a number from 1000"), (&["--kill"], "nothing else")] {
        let out = Command::new(env!("CARGO_BIN_EXE_keyrail-demo")).args(args).output().unwrap();
        let errors = String::from_utf8_lossy(&out.stderr);
        assert!(!out.status.success() && errors.contains(word), "{errors}");
    }
}
