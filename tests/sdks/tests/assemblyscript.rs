//! The SDK for AssemblyScript: its own tests, over modules that run in Node with a host in memory, and what its page shows.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop at the first surprise")]

use keyrail_sdks_tests::root;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The SDK with its compiler; without it the test says so, and is skipped.
fn built(test: &str) -> Option<PathBuf> {
    let sdk = std::env::var_os("KEYRAIL_ASSEMBLYSCRIPT").map(PathBuf::from);
    if sdk.is_none() {
        let reason = "KEYRAIL_ASSEMBLYSCRIPT is not set; cargo xtask test sets it where the set-up succeeds";
        println!("SKIP {test}: {reason}");
        if let Some(list) = std::env::var_os("KEYRAIL_SKIPS") {
            let mut list = std::fs::File::options().append(true).create(true).open(list).unwrap();
            writeln!(list, "{test}: {reason}").unwrap();
        }
    }
    sdk
}

/// Runs test files of a folder, of which there are some.
fn tests(folder: &Path) {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files: Vec<_> = entries.filter(|path| path.to_string_lossy().ends_with(".test.js")).collect();
    let ran = Command::new("node").args(["--test", "--test-reporter=tap"]).args(&files).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    let passed = out.lines().find_map(|line| line.strip_prefix("# pass ")).map(|count| count.parse().unwrap());
    assert!(ran.status.success() && passed >= Some(files.len()) && !files.is_empty(), "{out}{err}");
}

#[test]
fn what_the_sdk_does_is_what_its_tests_say() {
    let Some(sdk) = built("what_the_sdk_does_is_what_its_tests_say") else { return };
    tests(&sdk.join("test"));
}

#[test]
fn the_example_is_tested_without_keyrail() {
    let Some(sdk) = built("the_example_is_tested_without_keyrail") else { return };
    tests(&sdk.join("example"));
}

/// Of the page's handlers that ask for a score.
const SCORED: &str = r#"
import assert from "node:assert/strict";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { TestHost, text } from "@keyrail/assemblyscript/testing";

for (const name of ["fetch.ts", "steps.ts"]) {
  test(`a score is sent by ${name}`, async () => {
    const host = await TestHost.load(fileURLToPath(new URL(name, import.meta.url)), { outputs: ["scores"] });
    host.answer("POST", "https://api.example.com/score", { body: "7" });
    const run = host.run({ key: "k1", value: "red" });
    assert.deepEqual([run.outcome, run.sent.map((sent) => text(sent.value))], ["done", ["7"]]);
  });
}
"#;

/// The blocks of AssemblyScript on the SDK's page: a handler, how it opens, and two that ask over HTTP; and the first one's test, in
/// JavaScript.
#[test]
fn what_the_page_shows_works() {
    let Some(sdk) = built("what_the_page_shows_works") else { return };
    let page = std::fs::read_to_string(root().join("sdk/assemblyscript/README.md")).unwrap();
    let blocks = |kind: &str| -> Vec<String> {
        let fence = format!("```{kind}\n");
        page.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
    };
    let (source, test) = (blocks("ts"), blocks("js"));
    let ([handler, open, fetch, steps], [test]) = (&*source, &*test) else {
        panic!("{} and {} blocks", source.len(), test.len())
    };
    let folder = sdk.join("dist/page");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("handler.ts"), format!("{handler}{open}")).unwrap();
    // Its test sets the configuration that `open` asks for.
    let outputs = "{ outputs: [\"changes\"] }";
    assert!(test.contains(outputs));
    let configured = test.replace(outputs, "{ outputs: [\"changes\"], config: { currency: \"EUR\" } }");
    std::fs::write(folder.join("page.test.js"), configured).unwrap();
    std::fs::write(folder.join("fetch.ts"), fetch).unwrap();
    std::fs::write(folder.join("steps.ts"), steps).unwrap();
    std::fs::write(folder.join("http.test.js"), SCORED).unwrap();
    tests(&folder);
}
