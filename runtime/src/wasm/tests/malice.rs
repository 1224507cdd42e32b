//! One guest for each way to do harm, in a table: what is told of it, and that its neighbour in the same process does not notice.

use super::imports::logged;
use super::*;
use std::time::Instant;

/// A handler by its parts; each way to do harm changes one of them. Outcomes lie at 8192, and memory is given out from 16384 on.
#[derive(Debug, Clone)]
pub(super) struct Guest {
    pub(super) imports: String,
    pub(super) memory: &'static str,
    pub(super) more: String,
    pub(super) realloc: &'static str,
    pub(super) open: &'static str,
    pub(super) process: &'static str,
    pub(super) post: &'static str,
    pub(super) process_type: &'static str,
}

impl Guest {
    pub(super) fn new() -> Self {
        Self {
            imports: String::new(),
            memory: r#"(memory (export "memory") 1)"#,
            more: String::new(),
            realloc: "",
            open: "",
            process: "",
            post: "",
            process_type: "(param $batch i32) (param $n i32) (result i32)",
        }
    }

    pub(super) fn wat(&self) -> String {
        let Self { imports, memory, more, realloc, open, process, post, process_type } = self;
        format!(
            r#"(module {imports} {memory}
            (global $top (mut i32) (i32.const 16384))
            (func $realloc (export "cabi_realloc") (param i32 i32 i32) (param $bytes i32) (result i32) (local $at i32)
              {realloc}
              (local.set $at (global.get $top))
              (global.set $top (i32.and (i32.add (i32.add (local.get $at) (local.get $bytes)) (i32.const 7)) (i32.const -8)))
              (local.get $at))
            (func $open (export "keyrail:handler/guest@0.1.0#open") (param i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)
              {open} (i32.store8 (i32.const 16) (i32.const 0)) (i32.const 16))
            (func $process (export "keyrail:handler/guest@0.1.0#process") {process_type} (local $i i32)
              (i32.store (i32.const 32) (i32.const 8192)) (i32.store (i32.const 36) (local.get $n))
              {process} (i32.const 32))
            (func (export "cabi_post_keyrail:handler/guest@0.1.0#process") (param i32)
              {post} (global.set $top (i32.const 16384)))
            {more})"#
        )
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        wat::parse_str(self.wat()).unwrap()
    }
}

fn open(code: &'static str) -> Guest {
    Guest { open: code, ..Guest::new() }
}

fn process(code: &'static str) -> Guest {
    Guest { process: code, ..Guest::new() }
}

fn with(more: &str, code: &'static str) -> Guest {
    Guest { more: more.to_owned(), process: code, ..Guest::new() }
}

fn asking(imports: &str, code: &'static str) -> Guest {
    Guest { imports: imports.to_owned(), process: code, ..Guest::new() }
}

/// It knows the name of the output.
fn sending(code: &'static str) -> Guest {
    Guest { more: "(data (i32.const 300) \"out\")".to_owned(), ..asking(SEND, code) }
}

/// When it comes to light, and what is told then.
#[derive(Debug)]
enum Told {
    /// It is not loaded.
    Refused(&'static str),
    /// It does not open.
    Shut(&'static str),
    /// Its call fails.
    Failed(&'static str, &'static str),
    /// Its message is done, and nothing of what it tried has come of it.
    Nothing,
}

use Told::{Failed, Nothing, Refused, Shut};

const LOOP: &str = "(loop $ever (br $ever))";
const SEND: &str = r#"(import "keyrail:handler/emit@0.1.0" "send" (func $send
    (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i64 i32 i64 i32)))"#;
const LOG: &str = r#"(import "keyrail:handler/log@0.1.0" "write" (func $write (param i32 i32 i32 i32 i32)))"#;
const GET: &str = r#"(import "keyrail:handler/state@0.1.0" "get" (func $get (param i32 i32 i32 i32)))"#;
const RANDOM: &str = r#"(import "keyrail:handler/context@0.1.0" "random" (func $random (param i32) (result i64)))"#;
const REGISTER: &str =
    r#"(import "keyrail:handler/metrics@0.1.0" "register" (func $register (param i32 i32 i32 i32 i32) (result i32)))"#;

#[rustfmt::skip]
fn loaded() -> Vec<(&'static str, Guest, Told)> {
    let memory = |memory: &'static str| Guest { memory, ..Guest::new() };
    let more = |more: &str| with(more, "");
    let import = |imports: &str| asking(imports, "");
    vec![
        ("shared memory", memory(r#"(memory (export "memory") 1 2 shared)"#), Refused("validate component output: mismatch in the shared flag for memories")),
        ("64-bit memory", more("(memory i64 1)"), Refused("it does not compile: failed to parse WebAssembly module: memory64 must be enabled for 64-bit memories")),
        ("memory in pages of a byte", more("(memory 1 (pagesize 1))"), Refused("it does not compile: failed to parse WebAssembly module: the custom page sizes proposal must be enabled to customize a memory's page size")),
        ("five memories", more("(memory 1) (memory 1) (memory 1) (memory 1)"), Refused("it does not compile: module memory does not fit in pooling allocator requirements: defined memories count of 5 exceeds the per-instance limit of 4")),
        ("seventeen tables", more(&"(table 1 funcref)".repeat(17)), Refused("it does not compile: module table does not fit in pooling allocator requirements: defined tables count of 17 exceeds the per-instance limit of 16")),
        ("a table of ten million", more("(table 10000000 funcref)"), Refused("it does not compile: module table does not fit in pooling allocator requirements: table index 0 has a minimum element size of 10000000 which exceeds the limit of 100000")),
        ("four gigabytes of memory", memory(r#"(memory (export "memory") 65536)"#), Shut("out of memory: memory would grow to 4294967296 bytes, and limits.memory allows 67108864; then: memory minimum size of 65536 pages exceeds memory limits")),
        ("an unknown function of a known import", import(r#"(import "keyrail:handler/emit@0.1.0" "steal" (func))"#), Refused("resolve import `keyrail:handler/emit@0.1.0::steal`: import interface `keyrail:handler/emit@0.1.0` is missing function `steal` that is required by the module")),
        ("an import of another type", import(r#"(import "keyrail:handler/emit@0.1.0" "send" (func (param i64)))"#), Refused("validate import interface `keyrail:handler/emit@0.1.0`: type mismatch for function `send`")),
        ("an import of a memory", import(r#"(import "keyrail:handler/emit@0.1.0" "send" (memory 1))"#), Refused("resolve import `keyrail:handler/emit@0.1.0::send`: module is only allowed to import functions")),
        ("an export of another type", Guest { process_type: "(param $n i32) (result i32)", ..Guest::new() }, Refused("validate export for `keyrail:handler/guest@0.1.0`: type mismatch for function `process`")),
        ("a start function that traps", more("(func $s unreachable) (start $s)"), Shut("wasm `unreachable` instruction executed, in s")),
        ("a start function without end", more(&format!("(func $s {LOOP}) (start $s)")), Shut("it ran past its time limit")),
        ("data outside of memory", more("(data (i32.const 65535) \"outside\")"), Shut("out of bounds memory access")),
        ("elements outside of a table", more("(table 1 funcref) (elem (i32.const 1) $open)"), Shut("undefined element: out of bounds table access")),
        ("open that traps", open("unreachable"), Shut("wasm `unreachable` instruction executed, in open")),
        ("open without end", open(LOOP), Shut("it ran past its time limit")),
        ("open that says nonsense", open("(i32.store8 (i32.const 16) (i32.const 7)) (return (i32.const 16))"), Shut("invalid expected discriminant")),
        ("open that answers outside of memory", open("(return (i32.const 0xfffffff0))"), Shut("pointer out of bounds of memory")),
    ]
}

#[rustfmt::skip]
fn traps() -> Vec<(&'static str, Guest, Told)> {
    vec![
        ("unreachable", process("unreachable"), Failed("trap", "wasm `unreachable` instruction executed, in process")),
        ("division by zero", process("(drop (i32.div_u (i32.const 1) (local.get $i)))"), Failed("trap", "integer divide by zero, in process")),
        ("overflow", process("(drop (i32.div_s (i32.const 0x80000000) (i32.sub (local.get $i) (i32.const 1))))"), Failed("trap", "integer overflow, in process")),
        ("no number", process("(drop (i32.trunc_f32_s (f32.const nan)))"), Failed("trap", "invalid conversion to integer, in process")),
        ("outside of memory", process("(drop (i32.load (i32.const 0x7ffffff0)))"), Failed("trap", "out of bounds memory access, in process")),
        ("memory.fill outside of memory", process("(memory.fill (i32.const 0) (i32.const 1) (i32.const -1))"), Failed("trap", "out of bounds memory access, in process")),
        ("outside of a table", with("(table $t 1 funcref)", "(drop (table.get $t (i32.const 1)))"), Failed("trap", "undefined element: out of bounds table access, in process")),
        ("a call of nothing", with("(table $t 1 funcref)", "(call_indirect $t (i32.const 0))"), Failed("trap", "uninitialized element, in process")),
        ("a call of another type", with("(table $t funcref (elem $open))", "(call_indirect $t (i32.const 0))"), Failed("trap", "indirect call type mismatch, in process")),
        ("an exception", with("(tag $e)", "(throw $e)"), Failed("trap", "thrown Wasm exception, in process")),
        ("a null reference", with("(type $s (struct (field i32)))", "(drop (struct.get $s 0 (ref.null $s)))"), Failed("trap", "null reference, in process")),
        ("a wrong cast", process("(drop (ref.cast (ref null struct) (ref.i31 (i32.const 1))))"), Failed("trap", "cast failure, in process")),
        ("outside of an array", with("(type $a (array i32))", "(drop (array.get $a (array.new_default $a (i32.const 1)) (i32.const 1)))"), Failed("trap", "out of bounds array access, in process")),
        ("an array of four gigabytes", with("(type $a (array i64))", "(drop (array.new_default $a (i32.const 0x1fffffff)))"), Failed("trap", "allocation size too large, in process")),
        ("recursion by way of a table", with("(table $t funcref (elem $again)) (func $again (call_indirect $t (i32.const 0)))", "(call $again)"), Failed("trap", "call stack exhausted, in again < again")),
        ("a frame larger than the stack", with(&wide(), "(drop (call $wide (i64.const 1)))"), Failed("trap", "call stack exhausted, in wide < wide")),
    ]
}

/// A function that calls itself and needs all of its locals afterwards.
fn wide() -> String {
    let locals = 5_000;
    let set: String =
        (0..locals).map(|n| format!("(local.set $l{n} (i64.mul (local.get $p) (i64.const {n})))")).collect();
    let declared: String = (0..locals).map(|n| format!("(local $l{n} i64)")).collect();
    let sum: String =
        (0..locals).map(|n| format!("(local.set $p (i64.xor (local.get $p) (local.get $l{n})))")).collect();
    format!(
        "(func $wide (param $p i64) (result i64) {declared} {set} (local.set $p (call $wide (local.get $p))) {sum} (local.get $p))"
    )
}

#[rustfmt::skip]
fn called() -> Vec<(&'static str, Guest, Told)> {
    let realloc = |realloc: &'static str| Guest { realloc, ..Guest::new() };
    let post = |post: &'static str| Guest { post, ..Guest::new() };
    vec![
        ("process without end", process(LOOP), Failed("timeout", "it ran past its time limit")),
        ("realloc without end", realloc("(if (i32.ge_u (local.get $bytes) (i32.const 64)) (then (loop $ever (br $ever))))"), Failed("timeout", "it ran past its time limit")),
        ("realloc that traps", realloc("(if (i32.ge_u (local.get $bytes) (i32.const 64)) (then unreachable))"), Failed("trap", "wasm `unreachable` instruction executed, in realloc")),
        ("realloc of null", realloc("(if (i32.ge_u (local.get $bytes) (i32.const 64)) (then (return (i32.const 0x10000))))"), Failed("trap", "realloc return: beyond end of memory")),
        ("realloc behind the memory", realloc("(if (i32.ge_u (local.get $bytes) (i32.const 64)) (then (return (i32.const 0xfffffff8))))"), Failed("trap", "realloc return: beyond end of memory")),
        ("realloc that calls out", Guest { imports: RANDOM.to_owned(), ..realloc("(drop (call $random (i32.const 0)))") }, Shut("cannot leave component instance, in realloc")),
        ("an answer's end that traps", post("unreachable"), Failed("trap", "wasm `unreachable` instruction executed, in function 3")),
        ("an answer's end without end", post(LOOP), Failed("timeout", "it ran past its time limit")),
        ("an answer's end that calls out", Guest { imports: RANDOM.to_owned(), ..post("(drop (call $random (i32.const 0)))") }, Failed("trap", "cannot leave component instance, in function 4")),
        ("an answer outside of memory", process("(return (i32.const 0x7ffffff8))"), Failed("trap", "pointer out of bounds of memory")),
        ("an answer that is not aligned", process("(return (i32.const 33))"), Failed("trap", "return pointer not aligned")),
        ("outcomes of 4 GiB", process("(i32.store (i32.const 36) (i32.const 0xffffffff))"), Failed("trap", "list pointer/length out of bounds of memory")),
        ("a detail of 4 GiB", process("(i32.store8 (i32.const 8192) (i32.const 3)) (i32.store (i32.const 8212) (i32.const -1))"), Failed("trap", "string pointer/length out of bounds of memory")),
        ("a delay of no known kind", process("(i32.store8 (i32.const 8192) (i32.const 2)) (i32.store8 (i32.const 8216) (i32.const 2))"), Failed("trap", "invalid option discriminant")),
        ("outcomes that overlap what they came from", process("(i32.store (i32.const 32) (i32.const 32)) (i32.store8 (i32.const 32) (i32.const 0))"), Nothing),
        ("memory.grow until it is refused", process("(loop $more (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable"), Failed("memory", "out of memory: memory would grow to 67174400 bytes, and limits.memory allows 67108864; then: wasm `unreachable` instruction executed, in process")),
        ("table.grow until it is refused", with("(table $t 1 funcref)", "(loop $more (br_if $more (i32.ne (table.grow $t (ref.null func) (i32.const 5000)) (i32.const -1)))) unreachable"), Failed("memory", "out of memory: tables would grow to 100001 elements, and 100000 are allowed; then: wasm `unreachable` instruction executed, in process")),
        ("the last slot there could be", asking(RANDOM, "(drop (call $random (i32.const -1)))"), Failed("trap", "slot 4294967295 is outside the batch of 1, in process")),
        ("chance without end", asking(RANDOM, "(loop $ever (drop (call $random (i32.const 0))) (br $ever))"), Failed("host-calls", "too much asked of the host: more than 10000 calls into the host")),
        ("state without end", asking(GET, "(loop $ever (global.set $top (i32.const 16384)) (call $get (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 256)) (br $ever))"), Failed("host-calls", "more than 10000 calls into the host")),
        ("a state's name outside of memory", asking(GET, "(call $get (i32.const 0) (i32.const -1) (i32.const 9) (i32.const 256))"), Failed("trap", "string pointer/length out of bounds of memory, in function 0 < process")),
        ("a state's answer outside of memory", asking(GET, "(call $get (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0x7ffffff8))"), Failed("trap", "pointer out of bounds, in function 0 < process")),
        ("metrics without end", asking(REGISTER, "(loop $ever (i32.store (i32.const 256) (i32.add (i32.const 0x61616161) (i32.and (local.get $i) (i32.const 0x0f0f0f0f)))) (drop (call $register (i32.const 256) (i32.const 4) (i32.const 0) (i32.const 0) (i32.const 0))) (local.set $i (i32.add (local.get $i) (i32.const 1))) (br $ever))"), Failed("host-calls", "too much asked of the host: more than 10000 calls into the host")),
        ("a metric of no known kind", asking(REGISTER, "(drop (call $register (i32.const 256) (i32.const 0) (i32.const 9) (i32.const 0) (i32.const 0)))"), Failed("trap", "unexpected discriminant: 9, in function 0 < process")),
        ("a log level of no known kind", asking(LOG, "(call $write (i32.const 99) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))"), Failed("trap", "unexpected discriminant: 99, in function 0 < process")),
        ("a log line that is not UTF-8", asking(LOG, "(i32.store8 (i32.const 256) (i32.const 255)) (call $write (i32.const 4) (i32.const 256) (i32.const 1) (i32.const 0) (i32.const 0))"), Failed("trap", "invalid utf-8 sequence of 1 bytes from index 0, in function 0 < process")),
        ("fields of 4 Gi", asking(LOG, "(call $write (i32.const 4) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const -1))"), Failed("trap", "list pointer/length out of bounds of memory, in function 0 < process")),
        ("an output that is not there", asking(SEND, SENDS[0]), Nothing),
        ("headers of 4 Gi", sending(SENDS[1]), Failed("trap", "list pointer/length out of bounds of memory, in function 0 < process")),
        ("a key outside of memory", sending(SENDS[2]), Failed("trap", "list pointer/length out of bounds of memory, in function 0 < process")),
    ]
}

/// Calls of `send`: the slot, the output's name; key, value, headers; whether to forward, timestamp, delay; where the answer goes.
const SENDS: [&str; 3] = [
    "(call $send (i32.const 0) (i32.const 0) (i32.const 9) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) \
     (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i64.const 0) (i32.const 0) (i64.const 0) (i32.const 256))",
    "(call $send (i32.const 0) (i32.const 300) (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) \
     (i32.const 0) (i32.const 0) (i32.const -1) (i32.const 0) (i32.const 0) (i64.const 0) (i32.const 0) (i64.const 0) (i32.const 256))",
    "(call $send (i32.const 0) (i32.const 300) (i32.const 3) (i32.const 1) (i32.const -16) (i32.const 64) (i32.const 0) (i32.const 0) \
     (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i64.const 0) (i32.const 0) (i64.const 0) (i32.const 256))",
];

/// What came to light, in the words of whoever runs it.
fn happened(guest: &Guest) -> (&'static str, String) {
    let limits = Limits { open_timeout: Duration::from_millis(100), ..Limits::default() };
    let handler = match host().load("bad.wasm", &guest.bytes()) {
        Ok(handler) => handler,
        Err(error) => return ("refused", error.to_string()),
    };
    let mut instance = match handler.open(&setup("bad"), &limits) {
        Ok(instance) => instance,
        Err(error) => return ("shut", error.to_string()),
    };
    match instance.process(&mut batch(&["a"]), NOW_MS, Duration::from_millis(100)) {
        Err(failure) => (failure.code(), failure.to_string()),
        Ok(Answer { outcomes, effects }) => {
            assert!(effects.is_empty(), "{outcomes:?}");
            ("nothing", format!("{outcomes:?}"))
        }
    }
}

/// Plays them all, each beside a neighbour that answers right after; gives what was told otherwise.
fn play(table: Vec<(&'static str, Guest, Told)>) -> usize {
    let mut neighbour = super::open("identity");
    let mut otherwise = Vec::new();
    let all = table.len();
    for (name, guest, told) in table {
        let began = Instant::now();
        let (kind, words) = happened(&guest);
        assert!(began.elapsed() < Duration::from_secs(20), "{name}: {:?}", began.elapsed());
        let answer = neighbour.results(&mut batch(&["fine"])).unwrap();
        assert_eq!((answer[0].outcome.clone(), answer[0].sends.len()), (Outcome::Done, 1), "the neighbour of {name}");
        let (expected, part) = match told {
            Refused(part) => ("refused", part),
            Shut(part) => ("shut", part),
            Failed(code, part) => (code, part),
            Nothing => ("nothing", "[Done]"),
        };
        if kind != expected || part.is_empty() || !words.contains(part) {
            otherwise.push(format!("{name}: {kind}: {words}"));
        }
    }
    assert!(otherwise.is_empty(), "{}", otherwise.join("\n"));
    all
}

#[test]
fn what_a_file_or_its_start_does_is_told_and_nobody_else_notices() {
    assert!(play(loaded()) >= 19);
}

#[test]
fn each_kind_of_trap_is_told_and_nobody_else_notices() {
    assert!(play(traps()) >= 16);
}

#[test]
fn what_a_call_does_is_told_and_nobody_else_notices() {
    assert!(play(called()) >= 30);
}

#[test]
fn control_characters_of_a_guest_never_reach_the_log() {
    let code = r#"(call $write (i32.const 4) (i32.const 256) (i32.const 14) (i32.const 0) (i32.const 0))"#;
    let guest =
        Guest { more: r#"(data (i32.const 256) "\1b[31mred\07\0a\00\7f\08a")"#.to_owned(), ..asking(LOG, code) };
    let lines = logged(tracing::Level::INFO, || assert_eq!(happened(&guest).0, "nothing"));
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("red") && !lines[0].chars().any(char::is_control), "{lines:?}");
}
