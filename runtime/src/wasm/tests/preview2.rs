//! WASI 0.2, with a guest written by hand.

use super::imports::{ask, asked, logged};
use super::preview1::{NOW_NS, numbers};
use super::*;
use tracing::Level;
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// The guest as a component, whose imports are of several versions of WASI 0.2.
fn component() -> Vec<u8> {
    let folder = format!("{}/../tests/guests/wat", env!("CARGO_MANIFEST_DIR"));
    let wit = std::fs::read_to_string(format!("{folder}/preview2.wit")).unwrap();
    let mut resolve = Resolve::default();
    resolve.push_str("handler.wit", contract::CONTRACT_WIT).unwrap();
    let package = resolve.push_str("preview2.wit", &wit).unwrap();
    let world = resolve.select_world(&[package], Some("guest")).unwrap();
    let mut module = bytes("preview2");
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    let encoder = ComponentEncoder::default().validate(true).merge_imports_based_on_semver(false);
    encoder.module(&module).unwrap().encode().unwrap()
}

fn preview2() -> Instance {
    static HANDLER: OnceLock<Handler> = OnceLock::new();
    let handler = HANDLER.get_or_init(|| host().load("preview2", &component()).unwrap());
    handler.open(&setup("preview2"), &Limits::default()).unwrap()
}

#[test]
fn versions_may_be_mixed_and_only_the_contract_s_interfaces_are_told() {
    let handler = preview2().handler().clone();
    assert_eq!(handler.facts().imports(), ["emit"]);
    assert!(!handler.facts().uses_state());
}

#[test]
fn what_a_component_prints_becomes_lines_of_the_log() {
    let lines = logged(Level::INFO, || {
        preview2().results(&mut batch(&["oone ", "otwo\nthr", "eoops\n"])).unwrap();
    });
    let line = |level: &str, words: &str| format!("{level} keyrail::handler: {words} pipeline=\"preview2\"");
    assert_eq!(lines, [line(" INFO", "one two"), line(" WARN", "oops"), line(" INFO", "thr")]);
}

#[test]
fn an_uncaught_exception_s_traceback_is_the_failure_s_detail() {
    let fails = |values: &[&str]| preview2().process(&mut batch(values), NOW_MS, DEADLINE).unwrap_err();
    let traceback = "uTraceback (most recent call last):\nKeyError: 'total'\n";
    let expected = "Traceback (most recent call last): KeyError: 'total', in crash < one < process";
    assert_eq!(fails(&[traceback]), CallFailure::Trap { detail: expected.to_owned() });
    let exit = fails(&["x"]);
    let CallFailure::Trap { detail } = &exit else { panic!("{exit:?}") };
    assert!(detail.starts_with("the handler ended itself with exit code 7, in "), "{detail}");
    let nothing = fails(&["z"]);
    let CallFailure::Trap { detail } = &nothing else { panic!("{nothing:?}") };
    let expected = "wasi:clocks/timezone#utc-offset was called, and there is nothing behind it for a handler, in ";
    assert!(detail.starts_with(expected), "{detail}");
}

#[test]
fn the_clock_of_a_component_is_the_call_s_and_a_sleep_moves_it_on() {
    let mut guest = preview2();
    let before = numbers(&ask(&mut guest, asked("t"))[0]);
    assert_eq!(before[0], NOW_NS);
    let slept = numbers(&ask(&mut guest, asked("s"))[0]);
    assert_eq!(slept, [NOW_NS + 1_000_000_000, before[1] + 1_000_000_000]);
    assert_eq!(numbers(&ask(&mut guest, asked("t"))[0]), [NOW_NS, slept[1]]);
}

#[test]
fn chance_of_a_component_is_that_of_a_module() {
    let mut guest = preview2();
    let first = ask(&mut guest, asked("r"));
    assert_eq!(ask(&mut guest, asked("r")), first, "run again");
    assert_eq!(ask(&mut open("preview1"), asked("r")), first);
    assert_ne!(ask(&mut guest, delivery(8, None, Some(b"r"))), first);
}

#[test]
fn a_component_has_no_files_no_environment_and_no_network() {
    // No folder, no variable; error-code.access-denied; stream-error.closed.
    assert_eq!(ask(&mut preview2(), asked("f")), [[0, 0, 1, 1, 1, 1]]);
}

#[test]
fn a_function_of_other_types_than_wasi_s_is_refused() {
    let wat =
        r#"(component (import "wasi:clocks/monotonic-clock@0.2.0" (instance (export "now" (func (result string))))))"#;
    let refusal = host().load("h.wasm", &wat::parse_str(wat).unwrap()).unwrap_err().to_string();
    assert!(refusal.contains("the export keyrail:handler/guest@0.1.0 is missing"), "{refusal}");
}
