//! The C SDK: its bindings are those of the contract, and what it does is what its own tests say.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop at the first surprise")]

use keyrail_sdks_tests::root;
use std::path::PathBuf;
use std::process::Command;
use wit_bindgen_core::Files;
use wit_bindgen_core::wit_parser::Resolve;

const GENERATED: &str = "sdk/c/src/generated";

fn generate() -> Files {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_dir(root().join("sdk/wit")).unwrap();
    let world = resolve.select_world(&[package], Some("handler")).unwrap();
    let mut files = Files::default();
    // The host gives a module its types: no object file with them is needed.
    let options = wit_bindgen_c::Opts {
        no_object_file: true,
        rename_world: Some("contract".to_owned()),
        ..wit_bindgen_c::Opts::default()
    };
    options.build().generate(&mut resolve, world, &mut files).unwrap();
    files
}

/// They lie in the repository, so that nobody needs the generator who uses them. With `UPDATE=1` they are written.
#[test]
fn the_bindings_are_those_of_the_contract() {
    let folder = root().join(GENERATED);
    let files = generate();
    let names: Vec<_> = files.iter().map(|(name, _)| name.to_owned()).collect();
    assert_eq!(names, ["contract.c", "contract.h"]);
    for (name, bytes) in files.iter() {
        let path = folder.join(name);
        if std::env::var_os("UPDATE").is_some() {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(&path, bytes).unwrap();
        }
        let there = std::fs::read(&path).unwrap_or_default();
        let command = "UPDATE=1 cargo test -p keyrail-sdks-tests bindings";
        assert!(there == bytes, "{GENERATED}/{name} is of another contract: run {command}");
    }
}

/// Compiles a test of the SDK for this machine, with the host in memory, and runs it.
fn runs(name: &str, sources: &[PathBuf]) -> String {
    let sdk = root().join("sdk/c");
    let program = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let mut cc = Command::new("cc");
    cc.args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-g", "-I"]).arg(sdk.join("include"));
    cc.args(["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]);
    cc.arg(sdk.join("src/keyrail.c")).arg(sdk.join("src/testing.c"));
    cc.args(sources).arg("-o").arg(&program);
    let compiled = cc.output().unwrap();
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    let ran = Command::new(&program).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{out}{err}");
    out.into_owned()
}

#[test]
fn what_the_sdk_does_without_a_host_is_what_its_tests_say() {
    let said = runs("keyrail-c-sdk", &[root().join("sdk/c/tests/sdk.c")]);
    assert_eq!(said, "all passed\n");
}

#[test]
fn requests_over_http_come_to_what_their_tests_say() {
    assert_eq!(runs("keyrail-c-http", &[root().join("sdk/c/tests/http.c")]), "all passed\n");
}

#[test]
fn the_example_is_tested_without_a_host() {
    let sources = ["sdk/c/example/totals.c", "sdk/c/example/totals_test.c"];
    assert_eq!(runs("keyrail-c-example", &sources.map(|source| root().join(source))), "all passed\n");
}

/// Of the page's handlers that ask for a score.
const SCORED: &str = r#"
#undef NDEBUG
#include <assert.h>
#include "keyrail_test.h"

int main(void) {
  keyrail_test_begin();
  keyrail_test_output("scores");
  keyrail_test_answer("POST", "https://api.example.com/score", (keyrail_response){.status = 200, .body = keyrail_text("7")});
  keyrail_run run = keyrail_test_say("k1", "red");
  assert(run.fate == KEYRAIL_DONE && run.sent_count == 1 && keyrail_is_text(run.sent[0].value, "7"));
  keyrail_test_begin();
}
"#;

/// The blocks of C on the SDK's page: a handler, how it opens, two that ask over HTTP, and a test of the first, whose assertions end it if
/// they fail.
#[test]
fn what_the_page_shows_works() {
    let page = std::fs::read_to_string(root().join("sdk/c/README.md")).unwrap();
    let blocks: Vec<_> = page.split("```c\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    let [handler, open, fetch, steps, test] = &*blocks else { panic!("{} blocks of C", blocks.len()) };
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let write = |name: &str, text: String| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    // Its test sets the configuration that `keyrail_open` asks for.
    let handler = write("page.c", format!("{handler}{open}"));
    let begin = "keyrail_test_begin();";
    assert!(test.contains(begin));
    let configured = test.replace(begin, &format!("{begin} keyrail_test_config(\"currency\", \"EUR\");"));
    runs("keyrail-c-page", &[handler, write("page_test.c", configured)]);
    for (name, handler) in [("fetch", fetch), ("steps", steps)] {
        let handler = write(&format!("page_{name}.c"), format!("#include \"keyrail.h\"\n{handler}"));
        let test = write(&format!("page_{name}_test.c"), SCORED.to_owned());
        runs(&format!("keyrail-c-page-{name}"), &[handler, test]);
    }
}
