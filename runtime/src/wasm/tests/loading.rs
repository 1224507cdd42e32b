//! Files that load, files that are refused, and compiled code that is kept.

use super::imports::logged;
use super::*;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

fn refusal(bytes: &[u8]) -> String {
    host().load("h.wasm", bytes).unwrap_err().to_string()
}

/// A guest with the contract's types embedded, as toolchains do it.
fn embedded(guest: &str) -> Vec<u8> {
    let mut module = bytes(guest);
    format::embed(&mut module, CONTRACT_VERSION, wit_component::StringEncoding::UTF8).unwrap();
    module
}

fn refusal_of(wat: &str) -> String {
    refusal(&wat::parse_str(wat).unwrap())
}

#[test]
fn what_is_no_wasm_is_named() {
    let cases: [(&[u8], &str); 9] = [
        (b"", "the file is empty (0 bytes)"),
        (b"\0as", "the file ends after 3 bytes"),
        (b"#!/bin/sh\necho hi\n", r##"text that starts with "#!/bin/sh\necho hi\n""##),
        (b" (module)", "WebAssembly text: assemble it first (wasm-tools parse)"),
        (b"(component)", "WebAssembly text: assemble it first (wasm-tools parse)"),
        (b"\x7fELF\x02\x01", "an ELF file, that is native or already compiled code, which is never loaded"),
        (b"\x1f\x8b\x08", "a compressed file: unpack it"),
        (b"\xca\xfe\xba\xbe\0", "bytes that start with ca fe ba be"),
        (b"\xff", "bytes that start with ff"),
    ];
    for (bytes, found) in cases {
        let expected = format!(
            "h.wasm: this is no WebAssembly: {found}; needed is a component or a core module in the binary format"
        );
        assert_eq!(refusal(bytes), expected);
    }
}

#[test]
fn a_file_cut_off_anywhere_is_refused() {
    let whole = bytes("identity");
    for cut in [4, 7, 8, 20, whole.len() / 2, whole.len() - 1] {
        let LoadErrorKind::Damaged { detail } = host().load("cut", &whole[..cut]).unwrap_err().kind else {
            // Eight bytes are a whole module with nothing in it.
            assert_eq!(cut, 8);
            continue;
        };
        assert!(detail.contains("unexpected end"), "{cut}: {detail}");
    }
    assert_eq!(
        refusal(b"\0asm\x01\0\0\0\x7f\x01\0"),
        "h.wasm: the WebAssembly is damaged or cut off: section 127 at byte 10 is of no known kind; copy or build the \
         file anew"
    );
}

#[test]
fn a_huge_file_is_refused_before_it_is_read() {
    let huge = vec![0; (64 << 20) + 1];
    assert_eq!(refusal(&huge), "h.wasm: it has 67108865 bytes, and at most 67108864 are accepted");
}

#[test]
fn a_component_without_the_export_is_refused() {
    let expected = "h.wasm: it does not implement keyrail:handler@0.1.0: the export keyrail:handler/guest@0.1.0 is \
                    missing; it has none; build it against handler.wit, whose export is keyrail:handler/guest@0.1.0";
    assert_eq!(refusal_of("(component)"), expected);
    let other = r#"(component (instance $i) (export "demo:app/run" (instance $i)))"#;
    assert_eq!(refusal_of(other), expected.replace("none", "demo:app/run"));
    let half = r#"(component (instance $i) (export "keyrail:handler/guest@0.1.0" (instance $i)))"#;
    let missing = "keyrail:handler/guest@0.1.0#open is missing; it has none";
    assert!(refusal_of(half).contains(missing), "{}", refusal_of(half));
}

#[test]
fn an_export_of_other_types_is_refused() {
    let wat = r#"(component
        (core module $m (func (export "f") (param i32) (result i32) local.get 0))
        (core instance $m (instantiate $m))
        (func $open (param "setup" u32) (result u32) (canon lift (core func $m "f")))
        (instance $guest (export "open" (func $open)) (export "process" (func $open)))
        (export "keyrail:handler/guest@0.1.0" (instance $guest)))"#;
    let refusal = refusal_of(wat);
    let expected = "h.wasm: it does not implement keyrail:handler@0.1.0: keyrail:handler/guest@0.1.0#open has other \
                    types: ";
    assert!(refusal.starts_with(expected), "{refusal}");
    assert!(refusal.contains("expected `record` found `u32`"), "{refusal}");
}

#[test]
fn another_version_is_refused_in_every_form() {
    let expected = |has: &str| {
        format!(
            "h.wasm: it was built against {has}, and this host speaks keyrail:handler@0.1.0; build it against that \
             version, or use a host that speaks the other"
        )
    };
    let import = r#"(component (import "keyrail:handler/emit@0.2.0" (instance)))"#;
    assert_eq!(refusal_of(import), expected("keyrail:handler/emit@0.2.0"));
    let export = r#"(component (instance $i) (export "keyrail:handler/guest@0.2.0" (instance $i)))"#;
    assert_eq!(refusal_of(export), expected("keyrail:handler/guest@0.2.0"));
    let module = r#"(module (func (export "keyrail:handler/guest@1.0.0#open")))"#;
    assert_eq!(refusal_of(module), expected("keyrail:handler/guest@1.0.0"));
    let module = r#"(module (import "keyrail:handler/emit@0.2.0" "send" (func)))"#;
    assert_eq!(refusal_of(module), expected("keyrail:handler/emit@0.2.0"));
}

#[test]
fn an_import_that_a_handler_may_not_have_is_named() {
    let foreign = |name: &str| {
        format!(
            "h.wasm: it imports {name}, which a handler may not: it may import keyrail:handler and WASI; remove the import"
        )
    };
    assert_eq!(refusal_of(r#"(component (import "foo:bar/baz" (instance)))"#), foreign("foo:bar/baz"));
    assert_eq!(refusal_of(r#"(module (import "env" "abort" (func)))"#), foreign("env"));
    let wasi = |name: &str| {
        format!(
            "h.wasm: it imports {name}, and of WASI this host gives wasi_snapshot_preview1 and the interfaces of 0.2; build \
             it for one of these, or for a target without WASI, such as wasm32-unknown-unknown"
        )
    };
    assert_eq!(refusal_of(r#"(component (import "wasi:io/poll@0.3.0" (instance)))"#), wasi("wasi:io/poll@0.3.0"));
    assert_eq!(refusal_of(r#"(component (import "wasi:nn/graph@0.2.0" (instance)))"#), wasi("wasi:nn/graph@0.2.0"));
    assert_eq!(refusal_of(r#"(module (import "wasi_unstable" "fd_write" (func)))"#), wasi("wasi_unstable"));
    let expected = "h.wasm: it imports wasi:io/poll@0.2.9 as a core module, which does not say with which types; make a \
                    component of it first (wasm-tools component new)";
    assert_eq!(refusal_of(r#"(module (import "wasi:io/poll@0.2.9" "poll" (func)))"#), expected);
}

#[test]
fn a_function_that_the_contract_does_not_have_is_refused() {
    let wat = r#"(component (import "keyrail:handler/emit@0.1.0" (instance (export "flush" (func)))))"#;
    let refusal = refusal_of(wat);
    assert!(refusal.contains("keyrail:handler@0.1.0"), "{refusal}");
}

#[test]
fn a_core_module_without_the_exports_is_refused() {
    let expected = "h.wasm: it does not implement keyrail:handler@0.1.0: a core module must export \
                    keyrail:handler/guest@0.1.0#open and keyrail:handler/guest@0.1.0#process; it has run; build \
                    it against handler.wit, whose export is keyrail:handler/guest@0.1.0";
    assert_eq!(refusal_of(r#"(module (func (export "run")))"#), expected);
    let module = r#"(module (memory (export "memory") 1)
        (func (export "keyrail:handler/guest@0.1.0#open"))
        (func (export "keyrail:handler/guest@0.1.0#process") (param i32 i32) (result i32) i32.const 0))"#;
    let refusal = refusal_of(module);
    assert!(refusal.contains("no component can be made of this core module"), "{refusal}");
}

#[test]
fn what_the_engine_has_switched_off_does_not_load() {
    let memory64 = r#"(component (core module (memory i64 1)))"#;
    let threads = r#"(component (core module (memory 1 1 shared)))"#;
    for wat in [memory64, threads] {
        let error = host().load("h.wasm", &wat::parse_str(wat).unwrap()).unwrap_err();
        assert!(matches!(error.kind, LoadErrorKind::Compile { .. }), "{error}");
    }
}

#[test]
fn a_module_with_a_type_and_a_component_load_as_well() {
    let Ok(format::Shape::Module(module)) = format::look(&bytes("identity")) else { panic!("no module") };
    let component = format::to_component(&bytes("identity"), &module).unwrap();
    assert!(matches!(format::look(&component), Ok(format::Shape::Component)));
    let newer = wat::parse_str(text("identity").replace("@0.1.0", "@0.1.7")).unwrap();
    for (name, bytes) in [("embedded", embedded("identity")), ("component", component), ("newer", newer)] {
        let handler = host().load(name, &bytes).unwrap();
        let mut instance = handler.open(&setup(name), &Limits::default()).unwrap();
        let results = instance.results(&mut batch(&["a"])).unwrap();
        assert_eq!(results[0].sends, [send(Some(b"key"), Some(b"a"))]);
    }
}

#[test]
fn exports_that_nobody_asked_for_do_no_harm() {
    let more = r#"(func (export "init") (result i32) i32.const 0)
        (func (export "asyncify_stop_unwind")) (global (export "__heap_base") i32 (i32.const 1)))"#;
    let text = text("identity");
    let wat = text.trim_end().strip_suffix(')').map(|all| format!("{all}{more}")).unwrap();
    works(&host().load("more", &wat::parse_str(wat).unwrap()).unwrap());
}

#[test]
fn a_program_is_told_to_become_a_library() {
    let refusal = refusal_of(r#"(module (memory (export "memory") 1) (func (export "_start")))"#);
    let expected =
        "keyrail:handler/guest@0.1.0#process, and it is a program with a main: build a library (a reactor); it has";
    assert!(refusal.contains(expected), "{refusal}");
}

/// A type section was once decoded, and two packages that need each other exhausted the stack.
#[test]
fn a_forged_type_section_is_put_aside() {
    let mut module = bytes("identity");
    let (name, content) = (b"component-type:forged", b"\0asm\x0d\0\x01\0 and then nonsense");
    module.extend([0, (1 + name.len() + content.len()) as u8, name.len() as u8]);
    module.extend(name);
    module.extend(content);
    works(&host().load("forged", &module).unwrap());
}

/// A folder of its own that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("keyrail-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        Self(path)
    }

    fn host(&self) -> Arc<Host> {
        Host::new(HostOptions { cache_dir: Some(self.0.clone()) }).unwrap()
    }

    fn files(&self) -> Vec<PathBuf> {
        let mut files: Vec<_> = fs::read_dir(self.0.join("compiled")).unwrap().map(|e| e.unwrap().path()).collect();
        files.sort();
        files
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn works(handler: &Handler) {
    let mut instance = handler.open(&setup("cached"), &Limits::default()).unwrap();
    let results = instance.results(&mut batch(&["a"])).unwrap();
    assert_eq!(results[0].sends, [send(Some(b"key"), Some(b"a"))]);
}

#[test]
fn compiled_code_is_kept_and_a_damaged_entry_is_rebuilt() {
    let folder = Folder::new("cache");
    let wasm = bytes("identity");
    works(&folder.host().load("first", &wasm).unwrap());
    let files = folder.files();
    let [code, sum] = &*files else { panic!("{files:?}") };
    assert_eq!(fs::metadata(code).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(folder.0.join("compiled")).unwrap().permissions().mode() & 0o777, 0o700);

    // Kept: the file is not written again.
    let written = fs::metadata(code).unwrap().modified().unwrap();
    works(&folder.host().load("second", &wasm).unwrap());
    assert_eq!(fs::metadata(code).unwrap().modified().unwrap(), written);

    let whole = fs::read(code).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    let damages: [(&str, &dyn Fn()); 4] = [
        ("a bit", &|| fs::write(code, &flipped).unwrap()),
        ("half of it", &|| fs::write(code, &whole[..whole.len() / 2]).unwrap()),
        ("the code", &|| fs::remove_file(code).unwrap()),
        ("the digest", &|| fs::write(sum, "").unwrap()),
    ];
    for (what, damage) in damages {
        damage();
        let lines = logged(tracing::Level::WARN, || works(&folder.host().load("again", &wasm).unwrap()));
        assert!(lines.len() == 1 && lines[0].contains("can't be used"), "{what}: {lines:?}");
        assert_eq!(fs::read(code).unwrap().len(), whole.len(), "{what} is rebuilt");
    }
    // Code with a right digest that is none: wasmtime's own check.
    fs::write(code, b"nonsense").unwrap();
    fs::write(sum, handler::sha256_hex(b"nonsense")).unwrap();
    let lines = logged(tracing::Level::WARN, || works(&folder.host().load("again", &wasm).unwrap()));
    assert!(lines.len() == 1 && lines[0].contains("can't be used"), "{lines:?}");
}

#[test]
fn a_cache_that_others_can_write_to_is_not_used() {
    let folder = Folder::new("open-cache");
    works(&folder.host().load("first", &bytes("identity")).unwrap());
    let compiled = folder.0.join("compiled");
    let mode = |path: &PathBuf, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    for (path, loose, tight, cure) in [(&compiled, 0o755, 0o700, "chmod 700"), (&folder.0, 0o777, 0o700, "chmod go-w")]
    {
        mode(path, loose);
        let lines = logged(tracing::Level::WARN, || works(&folder.host().load("again", &bytes("identity")).unwrap()));
        assert!(lines.len() == 1 && lines[0].contains(cure), "{lines:?}");
        mode(path, tight);
    }
    let lines = logged(tracing::Level::WARN, || works(&folder.host().load("again", &bytes("identity")).unwrap()));
    assert_eq!(lines, Vec::<String>::new());
}

#[test]
fn a_digest_is_the_file_s_sha256() {
    let handler = load("identity");
    assert_eq!(handler.digest(), handler::sha256_hex(&bytes("identity")));
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_eq!(handler::sha256_hex(b""), empty);
}

/// Bytes changed at random in the three forms of a file: whatever comes of it, it is an answer and no panic.
#[test]
fn a_corrupted_file_is_refused_or_runs_and_never_panics() {
    let module = bytes("identity");
    let embedded = embedded("identity");
    let Ok(format::Shape::Module(shape)) = format::look(&module) else { panic!("no module") };
    let component = format::to_component(&module, &shape).unwrap();
    let mut seed = 0x5eed_u64;
    let mut random = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % below
    };
    let (mut loaded, mut refused) = (0, 0);
    for _ in 0..150 {
        for whole in [&module, &embedded, &component] {
            let mut bytes = whole.clone();
            for _ in 0..=random(3) {
                let at = 8 + random(bytes.len() - 8);
                bytes[at] = random(256) as u8;
            }
            match host().load("corrupted", &bytes) {
                Ok(_) => loaded += 1,
                Err(e) => {
                    assert!(!matches!(e.kind, LoadErrorKind::Host { .. }), "{e}");
                    refused += 1;
                }
            }
        }
    }
    assert!(loaded > 0 && refused > 0, "{loaded} loaded, {refused} refused");
}
