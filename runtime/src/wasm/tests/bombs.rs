//! Files that are made to keep a compiler busy: what is too large is refused before it compiles, and what is not compiles in time.

use super::malice::Guest;
use super::*;
use std::time::Instant;

/// All of them are far below it, alone: 6 s at most on two cores.
const MOST: Duration = Duration::from_secs(60);

/// How it ends, and that it does in time.
fn compiled(name: &str, bytes: &[u8]) -> Result<Handler, String> {
    let began = Instant::now();
    let result = host().load("bomb.wasm", bytes).map_err(|error| error.to_string());
    let took = began.elapsed();
    println!("{name}: {} bytes, {took:?}, {:?}", bytes.len(), result.as_ref().map(|_| ()));
    assert!(took < MOST, "{name}: {took:?}");
    let answer = super::open("identity").results(&mut batch(&["fine"])).unwrap();
    assert_eq!(answer[0].outcome, Outcome::Done, "the neighbour of {name}");
    result
}

fn with(more: String) -> Vec<u8> {
    Guest { more, ..Guest::new() }.bytes()
}

/// A function whose body is this, over and over.
fn large(locals: usize, times: usize, body: impl Fn(usize) -> String) -> Vec<u8> {
    let locals = "i64 ".repeat(locals);
    let body: String = (0..times).map(body).collect();
    with(format!("(func (param i64) (result i64) (local {locals}) {body} (local.get 0))"))
}

fn nested(depth: usize) -> Vec<u8> {
    // From within: the header, and a section (4: a component) around each.
    let mut inner = b"\0asm\x0d\0\x01\0".to_vec();
    for _ in 1..depth {
        let mut outer = b"\0asm\x0d\0\x01\0\x04".to_vec();
        let mut length = inner.len();
        while length >= 0x80 {
            outer.push(length as u8 | 0x80);
            length >>= 7;
        }
        outer.push(length as u8);
        outer.append(&mut inner);
        inner = outer;
    }
    inner
}

#[test]
fn what_is_too_large_is_refused_before_it_compiles() {
    let refused = |name: &str, bytes: &[u8]| {
        let began = Instant::now();
        let words = compiled(name, bytes).unwrap_err();
        assert!(began.elapsed() < Duration::from_secs(10), "{name}: {:?}", began.elapsed());
        words.strip_prefix("bomb.wasm: ").unwrap().to_owned()
    };
    let functions = with("(func)".repeat(200_000));
    assert_eq!(refused("functions", &functions), "it has 200004 functions, and at most 200000 are accepted");
    let told = refused("one function", &large(0, 200_000, |n| format!("(local.set 0 (i64.const {n}))")));
    assert!(told.ends_with("bytes in one function, and at most 1048576 are accepted"), "{told}");
    let told = "it has 33 components and modules within each other, and at most 32 are accepted";
    assert_eq!(refused("nested", &nested(10_000)), told);
    assert!(!refused("nested little", &nested(32)).contains("within each other"));
    let told = refused("locals", &large(60_000, 1, |_| String::new()));
    assert!(told.contains("locals"), "{told}");
}

#[test]
fn what_is_within_the_limits_compiles_in_time() {
    let fine = |name: &str, bytes: &[u8]| drop(compiled(name, bytes).unwrap());
    fine("many functions", &with("(func (result i32) (i32.const 1))".repeat(100_000)));
    fine(
        "straight code",
        &large(0, 110_000, |n| format!("(local.set 0 (i64.add (local.get 0) (i64.const {})))", n % 60)),
    );
    fine(
        "many locals",
        &large(5_000, 5_000, |n| {
            format!("(local.set {} (i64.mul (local.get {}) (local.get 0)))", n % 5_000, (n * 7 + 1) % 5_000)
        }),
    );
    let (open, close) = ("(block ".repeat(20_000), ")".repeat(20_000));
    fine("deep blocks", &with(format!("(func {open} {close})")));
    let targets: String = (0..1_000).map(|n| format!("{n} ")).collect();
    let (open, close) = ("(block ".repeat(1_000), ")".repeat(1_000));
    let tables = format!("(br_table {targets} (local.get 0))").repeat(50);
    fine("jump tables", &with(format!("(func (param i32) {open} {tables} {close})")));
    fine("types", &with((0..50_000).map(|n| format!("(type (func {}))", "(param i64)".repeat(n % 16))).collect()));
    fine(
        "data",
        &Guest {
            memory: r#"(memory (export "memory") 400)"#,
            more: format!("(data (i32.const 100000) \"{}\")", "x".repeat(20 << 20)),
            ..Guest::new()
        }
        .bytes(),
    );
    fine(
        "loops with branches",
        &large(16, 8_000, |n| {
            format!(
                "(block (loop (br_if 1 (i64.eqz (local.get {}))) (local.set {} (i64.sub (local.get 0) (i64.const 1))) (br_if 0 (i64.eqz (local.get 0)))))",
                n % 16,
                (n + 1) % 16
            )
        }),
    );
}
