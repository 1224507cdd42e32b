//! The Python SDK: its copy of the contract, its types, and its own tests, which need no host.
#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use keyrail_sdks_tests::root;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;

const SDK: &str = "sdk/python";

fn runs(python: &mut Command) -> String {
    let ran = python.current_dir(root().join(SDK)).env("PYTHONDONTWRITEBYTECODE", "1").output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{out}{err}");
    format!("{out}{err}")
}

/// Runs the tests of a folder of the SDK, warnings being faults.
fn tests(folder: &str) {
    let mut python = Command::new("python3");
    python.args(["-W", "error", "-m", "unittest", "discover", "--start-directory", folder]).env("PYTHONPATH", "src");
    let said = runs(&mut python);
    assert!(said.contains("\nOK\n") && !said.contains("Ran 0 tests"), "{said}");
}

#[test]
fn what_the_sdk_does_without_a_host_is_what_its_tests_say() {
    tests("tests");
}

#[test]
fn the_example_is_tested_without_a_host() {
    tests("example");
}

/// The package carries its own copy, so that it can be published alone.
#[test]
fn the_copy_of_the_contract_is_the_contract() {
    let contract = std::fs::read(root().join("sdk/wit/handler.wit")).unwrap();
    let copy = std::fs::read(root().join(SDK).join("src/keyrail/wit/handler.wit")).unwrap();
    assert!(contract == copy, "run: cp sdk/wit/handler.wit {SDK}/src/keyrail/wit/handler.wit");
}

#[test]
fn users_build_with_what_the_tests_build_with() {
    let text = |name: &str| std::fs::read_to_string(root().join(SDK).join(name)).unwrap();
    let pinned = text("requirements-dev.txt");
    let builder = pinned.lines().find(|line| line.starts_with("componentize-py==")).unwrap();
    let told = builder.replace("==", " == ");
    assert!(text("pyproject.toml").contains(&format!("\"{told}\"")), "{builder}");
}

#[test]
fn types_hold_as_strict_as_can_be() {
    let name = "types_hold_as_strict_as_can_be";
    let Some(tools) = std::env::var_os("KEYRAIL_PYTHON") else {
        let reason = "KEYRAIL_PYTHON is not set; cargo xtask test sets it where the set-up succeeds";
        println!("SKIP {name}: {reason}");
        if let Some(list) = std::env::var_os("KEYRAIL_SKIPS") {
            let mut list = std::fs::File::options().append(true).create(true).open(list).unwrap();
            writeln!(list, "{name}: {reason}").unwrap();
        }
        return;
    };
    let mut python = Command::new("python3");
    python.args(["-m", "mypy", "--cache-dir"]).arg(PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("mypy"));
    python.args(["src", "tests", "example", "../../tests/conformance/python"]);
    python.env("PYTHONPATH", tools).env("MYPYPATH", "src:example");
    assert!(runs(&mut python).contains("Success: no issues found"));
}
