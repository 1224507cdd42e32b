//! A good and a bad example of every rule.

use super::*;

const ENGINE: &str = "runtime/engine/src/lanes.rs";
const HOST: &str = "runtime/src/pipeline/mod.rs";

fn faults(rule: Rule, path: &str, text: &str) -> Vec<usize> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    rule(&Source::new(path, text), &root).into_iter().map(|(line, _)| line).collect()
}

#[test]
fn only_the_module_of_a_dependency_imports_it() {
    assert_eq!(faults(imports, "runtime/src/broker/kafka.rs", "use rdkafka::config::ClientConfig;"), []);
    assert_eq!(faults(imports, "runtime/src/broker/kafka/consumer.rs", "use rdkafka::config::ClientConfig;"), []);
    assert_eq!(
        faults(imports, HOST, "// rdkafka::x\nlet a = \"rdkafka::x\"; self::toml::f(); mod toml; my_toml::f()"),
        []
    );
    assert_eq!(faults(imports, HOST, "\nuse rdkafka::config::ClientConfig;"), [2]);
    assert_eq!(faults(imports, HOST, "fn f(e: &wasmtime::Engine) {}"), [1]);
    assert_eq!(faults(imports, "runtime/src/wasm/mod.rs", "use toml;"), [1]);
}

#[test]
fn the_engine_has_no_std() {
    assert_eq!(faults(engine_is_pure, ENGINE, "use core::mem;\n#[cfg(test)]\nmod tests { use std::fmt; }"), []);
    assert_eq!(faults(engine_is_pure, "runtime/engine/src/lanes/tests.rs", "use std::fmt;"), []);
    assert_eq!(faults(engine_is_pure, HOST, "use std::fmt;"), []);
    assert_eq!(faults(engine_is_pure, ENGINE, "\nuse std::time::Instant;"), [2]);
    assert_eq!(faults(engine_is_pure, "runtime/engine/src/lib.rs", "extern crate alloc;"), [1]);
    assert_eq!(faults(engine_is_pure, "runtime/engine/src/lib.rs", "#![no_std]\nextern crate alloc;"), []);
}

#[test]
fn a_file_has_at_most_500_lines() {
    assert_eq!(faults(file_length, HOST, &"\n".repeat(500)), []);
    assert_eq!(faults(file_length, HOST, &"\n".repeat(501)), [501]);
    assert_eq!(faults(file_length, "Cargo.lock", &"\n".repeat(5000)), []);
}

#[test]
fn a_function_has_at_most_70_lines() {
    let function = |lines: usize| format!("// f\nfn f() {{\n{}    // why\n\n}}\n", "    g();\n".repeat(lines));
    assert_eq!(faults(function_length, HOST, &function(70)), []);
    assert_eq!(faults(function_length, HOST, &function(71)), [2]);
}

#[test]
fn no_test_is_ignored() {
    assert_eq!(faults(no_ignore, HOST, "// #[ignore]\n#[test]\nfn f() {}"), []);
    assert_eq!(faults(no_ignore, HOST, "#[test]\n#[ignore]\nfn f() {}"), [2]);
    assert_eq!(faults(no_ignore, HOST, "#[test]\n#[ignore = \"slow\"]\nfn f() {}"), [2]);
}

#[test]
fn nothing_is_left_unfinished() {
    assert_eq!(faults(unfinished, HOST, "fn f() { warn!(\"todo!\") } // todo!()"), []);
    assert_eq!(faults(unfinished, HOST, "fn f() { todo!() }\nfn g() { unimplemented!(\"x\") }"), [1, 2]);
}

#[test]
fn every_queue_is_bounded() {
    assert_eq!(faults(bounded, HOST, "let (a, b) = bounded(8); let c = sync_channel(8);"), []);
    assert_eq!(faults(bounded, HOST, "let c = tokio::sync::mpsc::channel(8);"), []);
    assert_eq!(
        faults(bounded, HOST, "crossbeam_channel::unbounded();\nmpsc::channel();\nunbounded_channel::<u8>();"),
        [1, 3, 2]
    );
}

#[test]
fn no_path_of_one_machine_is_written_down() {
    assert_eq!(faults(machine_paths, "README.md", concat!("see target/wo", "rk/x and http://a/wo", "rk")), []);
    assert_eq!(faults(machine_paths, "README.md", concat!("\ncd /wo", "rk/main\nls /ro", "ot/.cargo")), [2, 3]);
}

#[test]
fn every_crate_has_the_lints_of_the_workspace() {
    let package = "[package]\nname = \"a\"\n";
    assert_eq!(faults(lints_inherited, "a/Cargo.toml", &format!("{package}[lints]\nworkspace = true\n")), []);
    assert_eq!(faults(lints_inherited, "Cargo.toml", "[workspace]\nmembers = []\n"), []);
    assert_eq!(faults(lints_inherited, "a/Cargo.toml", package), [1]);
}

#[test]
fn a_link_to_a_file_leads_somewhere() {
    let good = "[lock](Cargo.lock#top) [web](https://example.com) [here](#x)\n```\n[no](nowhere)\n```\n";
    assert_eq!(faults(links, "README.md", good), []);
    assert_eq!(faults(links, "README.md", "[a](Cargo.toml)\n[b](nowhere.md)"), [2]);
}
