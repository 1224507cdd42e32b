//! The SDK for Zig: it is formatted, and its tests and those of its example pass.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop at the first surprise")]

use keyrail_sdks_tests::root;
use std::path::{Path, PathBuf};
use std::process::Command;

const SDK: &str = "-Mkeyrail=sdk/zig/src/keyrail.zig";

/// Runs the compiler, the one that set-up has fetched if it did, and returns what it says.
fn zig(args: &[&str]) -> String {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let fetched = target.join("tools/zig/ziglang/zig");
    let program = if fetched.is_file() { fetched } else { PathBuf::from("zig") };
    let cache = target.join("zig/cache");
    let mut command = Command::new(&program);
    command.current_dir(root()).args(args).env("ZIG_GLOBAL_CACHE_DIR", &cache).env("ZIG_LOCAL_CACHE_DIR", &cache);
    let ran = command.output().unwrap_or_else(|e| panic!("{}: {e}", program.display()));
    let said = format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "zig {}\n{said}", args.join(" "));
    said
}

#[test]
fn what_the_sdk_does_without_a_host_is_what_its_tests_say() {
    let said = zig(&["test", "sdk/zig/src/keyrail.zig"]);
    assert!(said.contains("All 16 tests passed."), "{said}");
}

#[test]
fn the_example_is_tested_without_a_host() {
    let said = zig(&["test", "--dep", "keyrail", "-Mroot=sdk/zig/example/totals.zig", SDK]);
    assert!(said.contains("All 2 tests passed."), "{said}");
}

#[test]
fn the_sources_are_formatted() {
    assert_eq!(zig(&["fmt", "--check", "sdk/zig", "tests/conformance/zig"]), "");
}

/// Of the page's handlers that ask for a score.
const SCORED: &str = r#"
test "a score is sent" {
    const std = @import("std");
    var host: keyrail.testing.Host = .init(std.testing.allocator, .{ .outputs = &.{"scores"} });
    defer host.deinit();
    try host.answer("POST", "https://api.example.com/score", .{ .response = .{ .status = 200, .body = "7" } });
    const run = try host.say(@This(), "k1", "red");
    try std.testing.expectEqual(.done, run.outcome);
    try std.testing.expectEqualStrings("7", run.sent[0].value.?);
}
"#;

/// The blocks of Zig on the SDK's page: a handler, its `build.zig`, how it opens, two that ask over HTTP, and a test of the first. `zig build` compiles its own part of the
/// standard library first, which takes minutes, so the second is only looked at.
#[test]
fn what_the_page_shows_works() {
    let page = std::fs::read_to_string(root().join("sdk/zig/README.md")).unwrap();
    let blocks: Vec<_> = page.split("```zig\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    let [handler, build, open, fetch, steps, test] = &*blocks else { panic!("{} blocks of Zig", blocks.len()) };
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("page.zig");
    let looked_at = file.with_file_name("build.zig");
    std::fs::write(&looked_at, build).unwrap();
    assert_eq!(zig(&["ast-check", looked_at.to_str().unwrap()]), "");
    // Its test sets the configuration that `open` asks for.
    let outputs = ".outputs = &.{\"changes\"}";
    assert!(test.contains(outputs));
    let config = ".config = &.{.{ .name = \"currency\", .value = \"EUR\" }}";
    let test = test.replace(outputs, &format!("{outputs}, {config}"));
    std::fs::write(&file, format!("{handler}{open}{test}")).unwrap();
    let module = format!("-Mroot={}", file.display());
    let said = zig(&["test", "--dep", "keyrail", &module, SDK]);
    assert!(said.contains("All 1 tests passed."), "{said}");

    for (name, asking) in [("fetch", fetch), ("steps", steps)] {
        let file = file.with_file_name(format!("page-{name}.zig"));
        std::fs::write(&file, format!("const keyrail = @import(\"keyrail\");\n{asking}{SCORED}")).unwrap();
        let said = zig(&["test", "--dep", "keyrail", &format!("-Mroot={}", file.display()), SDK]);
        assert!(said.contains("All 1 tests passed."), "{said}");
    }

    let command = page.split("```sh\n").nth(1).unwrap().split("```").next().unwrap().replace("\\\n", " ");
    let built = file.with_extension("wasm");
    let emit = format!("-femit-bin={}", built.display());
    let args = command.split_whitespace().skip(1).map(|word| match word {
        "-Mroot=handler.zig" => module.as_str(),
        "-Mkeyrail=src/keyrail.zig" => SDK,
        "-femit-bin=handler.wasm" => emit.as_str(),
        word => word,
    });
    zig(&args.collect::<Vec<_>>());
    assert!(std::fs::read(&built).unwrap().starts_with(b"\0asm"));
}
