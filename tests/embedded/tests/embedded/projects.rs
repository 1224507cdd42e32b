//! From nothing to a tested handler: `keyrail new`, `keyrail build`, `keyrail test`.

use crate::support::{Folder, skip};
use std::collections::BTreeMap;
use std::fs::Permissions;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

const KEYRAIL: &str = "KEYRAIL_BIN";
const LIMIT: Duration = Duration::from_secs(60);

/// What a build of handlers needs here. `None`, noted: nothing can be built.
fn building(test: &str) -> Option<BTreeMap<String, String>> {
    let Some(file) = std::env::var_os("KEYRAIL_WASM_ENV") else {
        skip(test, "KEYRAIL_WASM_ENV is not set; cargo xtask test sets it");
        return None;
    };
    let text = std::fs::read_to_string(file).unwrap();
    let pairs = text.lines().map(|line| line.split_once('=').unwrap());
    let mut all: BTreeMap<_, _> = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    // The versions that the workspace has fetched: a project is built without a network.
    all.insert("CARGO_NET_OFFLINE".to_owned(), "true".to_owned());
    Some(all)
}

fn keyrail(folder: &Path, env: &BTreeMap<String, String>, args: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(std::env::var_os(KEYRAIL).unwrap());
    command.current_dir(folder).args(args).envs(env).env_remove("CARGO_TARGET_DIR");
    let done = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (done.status.code().unwrap(), text(done.stdout), text(done.stderr))
}

/// A new project, as it is made.
fn project(folder: &Folder, env: &BTreeMap<String, String>, language: &str) -> PathBuf {
    let (code, _, err) = keyrail(folder.path(), env, &["new", "--lang", language, "order-totals"]);
    assert!(code == 0 && err.contains("cd order-totals"), "{err}");
    let project = folder.path().join("order-totals");
    if language == "rust" {
        let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.lock");
        std::fs::copy(lock, project.join("Cargo.lock")).unwrap();
    }
    project
}

fn edit(file: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(file).unwrap();
    assert!(text.contains(from), "{text}");
    std::fs::write(file, text.replace(from, to)).unwrap();
}

/// A new project, built, that passes its own test.
fn passing(folder: &Folder, env: &BTreeMap<String, String>, language: &str) -> PathBuf {
    let project = project(folder, env, language);
    match language {
        "typescript" => {
            installed(&project, env, "KEYRAIL_JS", "@keyrail/sdk");
            runs(&project, env, "npm", &["run", "prepare"]);
        }
        "assemblyscript" => installed(&project, env, "KEYRAIL_ASSEMBLYSCRIPT", "@keyrail/assemblyscript"),
        _ => {}
    }
    let (code, out, err) = keyrail(&project, env, &["test"]);
    assert!(code == 1 && out.contains("order-totals"), "it is not built: {out}{err}");
    let (code, _, err) = keyrail(&project, env, &["build"]);
    assert!(code == 0 && err.contains("keyrail: built ./plugins/order-totals.wasm"), "{err}");
    let (code, out, err) = keyrail(&project, env, &["test"]);
    assert_eq!((code, err.as_str()), (0, "keyrail: 1 fixture, all as expected\n"), "{out}");
    project
}

/// Fails when the handler is changed, and passes again once that is what is expected.
fn follows(folder: &Folder, env: &BTreeMap<String, String>, project: &Path, source: &str, change: (&str, &str)) {
    edit(&project.join(source), change.0, change.1);
    // From elsewhere.
    let (code, _, err) = keyrail(folder.path(), env, &["build", "order-totals"]);
    assert_eq!(code, 0, "{err}");
    let (code, out, _) = keyrail(folder.path(), env, &["test", "-c", "order-totals/keyrail.toml"]);
    assert!(code == 1 && out.contains("line 1: expected -, came +"), "{out}");
    assert_eq!(keyrail(project, env, &["test", "--update"]).0, 0);
    assert_eq!(keyrail(project, env, &["test"]).0, 0);
}

/// What can't be built is told in the tool's words, and leaves the handler that was there.
fn stays(env: &BTreeMap<String, String>, project: &Path, source: &str, broken: (&str, &str), words: &str) {
    let handler = project.join("plugins/order-totals.wasm");
    let before = std::fs::read(&handler).unwrap();
    edit(&project.join(source), broken.0, broken.1);
    let (code, out, err) = keyrail(project, env, &["build"]);
    assert!(code == 1 && format!("{out}{err}").contains(words) && err.contains("says why"), "{out}{err}");
    assert_eq!(std::fs::read(&handler).unwrap(), before);
}

/// What `npm install` makes, from what the set-up has fetched for that package.
fn installed(project: &Path, env: &BTreeMap<String, String>, variable: &str, package: &str) {
    let (code, _, err) = keyrail(project, env, &["build"]);
    assert!(code == 1 && err.contains("`npm install` in . fetches what package.json names"), "{err}");
    let modules = project.join("node_modules");
    std::fs::create_dir_all(modules.join("@keyrail")).unwrap();
    symlink(project.join("sdk"), modules.join(package)).unwrap();
    for entry in std::fs::read_dir(Path::new(&env[variable]).join("node_modules")).unwrap() {
        let entry = entry.unwrap();
        symlink(entry.path(), modules.join(entry.file_name())).unwrap();
    }
}

/// A tool of the language.
fn runs(project: &Path, env: &BTreeMap<String, String>, tool: &str, args: &[&str]) {
    let done = Command::new(tool).current_dir(project).args(args).envs(env).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(done.status.success(), "{tool} {args:?}: {}{}", text(&done.stdout), text(&done.stderr));
}

#[test]
fn a_project_in_rust_is_built_and_tested() {
    let Some(env) = building("a_project_in_rust_is_built_and_tested") else { return };
    let folder = Folder::new();
    let project = passing(&folder, &env, "rust");
    follows(&folder, &env, &project, "src/lib.rs", ("unwrap_or_default())?;", "unwrap_or_default())? + 1;"));
    stays(&env, &project, "src/lib.rs", ("Ok(Done)", "Ok(Dne)"), "error[E0425]");
}

#[test]
fn a_project_in_c_is_built_and_tested() {
    let Some(env) = building("a_project_in_c_is_built_and_tested") else { return };
    let folder = Folder::new();
    let project = passing(&folder, &env, "c");
    follows(&folder, &env, &project, "handler.c", ("int64_t amount, total = 0;", "int64_t amount, total = 1;"));
    stays(&env, &project, "handler.c", ("return keyrail_done();", "return keyrail_dne();"), "error: ");
}

#[test]
fn a_project_in_go_is_built_and_tested() {
    let Some(mut env) = building("a_project_in_go_is_built_and_tested") else { return };
    // With the standard library as the set-up has built it.
    let guests = std::env::var_os("KEYRAIL_GUESTS").unwrap();
    let cache = Path::new(&guests).parent().unwrap().join("go/cache");
    env.insert("GOCACHE".to_owned(), cache.display().to_string());
    env.insert("GOPROXY".to_owned(), "off".to_owned());
    let folder = Folder::new();
    let project = passing(&folder, &env, "go");
    runs(&project, &env, "go", &["vet", "."]);
    follows(&folder, &env, &project, "main.go", ("return amount, err", "return amount + 1, err"));
    stays(&env, &project, "main.go", ("ctx.Send(", "ctx.Sned("), "main.go:29:13: ctx.Sned undefined");
}

#[test]
fn a_project_in_cpp_is_built_and_tested() {
    let Some(env) = building("a_project_in_cpp_is_built_and_tested") else { return };
    let folder = Folder::new();
    let project = passing(&folder, &env, "cpp");
    // Sources in C may stand beside it.
    std::fs::write(project.join("one.c"), "int one(void) { return 1; }\n").unwrap();
    edit(&project.join("handler.cpp"), "namespace {", "extern \"C\" int one(void);\n\nnamespace {");
    follows(&folder, &env, &project, "handler.cpp", ("*before, *amount,", "*before + one(), *amount,"));
    stays(&env, &project, "handler.cpp", ("keyrail::done;", "keyrail::dne;"), "error: no member named 'dne'");
}

/// A build takes seconds: fewer of them.
#[test]
fn a_project_in_python_is_built_and_tested() {
    let test = "a_project_in_python_is_built_and_tested";
    let Some(mut env) = building(test) else { return };
    let Ok(tools) = std::env::var("KEYRAIL_PYTHON") else {
        return skip(test, "KEYRAIL_PYTHON is not set; cargo xtask test sets it where the set-up succeeds");
    };
    env.insert("PYTHONPATH".to_owned(), tools);
    let folder = Folder::new();
    let project = passing(&folder, &env, "python");
    env.insert("PYTHONPATH".to_owned(), project.join("sdk/src").display().to_string());
    runs(&project, &env, "python3", &["-m", "unittest"]);
    let (code, _, err) = keyrail(&project, &env, &["build"]);
    assert!(code == 1 && err.contains("componentize-py is not here: `pip install componentize-py==0.25.1`"), "{err}");
    // The project's own Python has it.
    std::fs::create_dir_all(project.join(".venv/bin")).unwrap();
    let own =
        format!("#!/bin/sh\nPYTHONPATH=$PYTHONPATH:{} exec python3 \"$@\"\n", std::env::var("KEYRAIL_PYTHON").unwrap());
    std::fs::write(project.join(".venv/bin/python"), own).unwrap();
    std::fs::set_permissions(project.join(".venv/bin/python"), Permissions::from_mode(0o755)).unwrap();
    stays(&env, &project, "handler.py", ("@keyrail.handler", "@keyrail.handlre"), "AttributeError: module 'keyrail'");
}

#[test]
fn a_project_in_typescript_is_built_and_tested() {
    let test = "a_project_in_typescript_is_built_and_tested";
    let Some(mut env) = building(test) else { return };
    let Ok(sdk) = std::env::var("KEYRAIL_JS") else {
        return skip(test, "KEYRAIL_JS is not set; cargo xtask test sets it where the set-up succeeds");
    };
    env.insert("KEYRAIL_JS".to_owned(), sdk);
    let folder = Folder::new();
    let project = passing(&folder, &env, "typescript");
    runs(&project, &env, "npm", &["test"]);
    follows(&folder, &env, &project, "handler.ts", ("?? \"0\"", "?? \"1\""));
    stays(&env, &project, "handler.ts", ("ctx.send(", "ctx.sned("), "error TS2339");
}

#[test]
fn a_project_in_assemblyscript_is_built_and_tested() {
    let test = "a_project_in_assemblyscript_is_built_and_tested";
    let Some(mut env) = building(test) else { return };
    let Ok(sdk) = std::env::var("KEYRAIL_ASSEMBLYSCRIPT") else {
        return skip(test, "KEYRAIL_ASSEMBLYSCRIPT is not set; cargo xtask test sets it where the set-up succeeds");
    };
    env.insert("KEYRAIL_ASSEMBLYSCRIPT".to_owned(), sdk);
    let folder = Folder::new();
    let project = passing(&folder, &env, "assemblyscript");
    runs(&project, &env, "npm", &["test"]);
    follows(&folder, &env, &project, "handler.ts", ("=== null ? 0 :", "=== null ? 1 :"));
    stays(&env, &project, "handler.ts", ("ctx.sendText(", "ctx.sned("), "ERROR TS2339");
}

#[test]
fn a_project_in_zig_is_built_and_tested() {
    let Some(mut env) = building("a_project_in_zig_is_built_and_tested") else { return };
    // The compiler that the set-up has fetched, if it did, with what it has compiled.
    let guests = PathBuf::from(std::env::var_os("KEYRAIL_GUESTS").unwrap());
    let target = guests.parent().unwrap();
    let path = format!("{}:{}", target.join("tools/zig/ziglang").display(), std::env::var("PATH").unwrap());
    env.insert("PATH".to_owned(), path);
    env.insert("ZIG_GLOBAL_CACHE_DIR".to_owned(), target.join("zig/cache").display().to_string());
    let folder = Folder::new();
    let project = passing(&folder, &env, "zig");
    runs(&project, &env, "zig", &["test", "--dep", "keyrail", "-Mroot=handler.zig", "-Mkeyrail=sdk/src/keyrail.zig"]);
    follows(&folder, &env, &project, "handler.zig", ("orelse \"0\"", "orelse \"1\""));
    stays(&env, &project, "handler.zig", ("ctx.send(", "ctx.sned("), "no field or member function named 'sned'");
}

#[test]
fn tools_that_are_not_there_are_named_with_their_cure() {
    let test = "tools_that_are_not_there_are_named_with_their_cure";
    let Some(mut env) = building(test) else { return };
    let folder = Folder::new();
    let tools = folder.path().join("tools");
    std::fs::create_dir(&tools).unwrap();
    env.insert("PATH".to_owned(), tools.display().to_string());
    let cures = [
        ("rust", "cargo is not here: install Rust from https://rustup.rs"),
        ("c", "no clang here builds WebAssembly: get clang with"),
        ("go", "go is not here: get Go 1.24 or later: https://go.dev/dl"),
        ("cpp", "no clang++ here builds WebAssembly: get clang++ 19 or later with"),
        ("python", "python3 is not here: get Python 3.10 or later"),
        ("typescript", "node is not here: get Node.js 20 or later with npm: https://nodejs.org"),
        ("assemblyscript", "node is not here: get Node.js 20 or later with npm: https://nodejs.org"),
        ("zig", "zig is not here: get Zig 0.17: https://ziglang.org/download"),
    ];
    for (language, cure) in cures {
        let project = folder.path().join(language);
        let (code, _, err) = keyrail(folder.path(), &env, &["new", "--lang", language, project.to_str().unwrap()]);
        assert_eq!(code, 0, "{err}");
        let (code, _, err) = keyrail(&project, &env, &["build"]);
        assert!(code == 1 && err.contains(cure), "{err}");
    }
    let old = [
        ("go", "go version go1.22.1 linux/amd64", "go here is 1.22: get Go"),
        ("node", "v18.20.1", "node here is 18: get"),
        ("zig", "0.16.0", "zig here is 0.16: get Zig 0.17"),
    ];
    for ((tool, says, told), language) in old.into_iter().zip(["go", "typescript", "zig"]) {
        std::fs::write(tools.join(tool), format!("#!/bin/sh\necho {says}\n")).unwrap();
        std::fs::set_permissions(tools.join(tool), Permissions::from_mode(0o755)).unwrap();
        let (code, _, err) = keyrail(&folder.path().join(language), &env, &["build"]);
        assert!(code == 1 && err.contains(told), "{err}");
    }
}

#[test]
fn what_can_t_be_made_or_built_is_refused_and_nothing_is_changed() {
    let folder = Folder::new();
    let run = |args: &[&str]| keyrail(folder.path(), &BTreeMap::new(), args);
    let (code, _, err) = run(&["new", "--lang", "rust", "Orders"]);
    assert!(code == 2 && err.contains("\"Orders\" is no name for a handler: take lower-case letters"), "{err}");
    let (code, _, err) = run(&["new", "--lang", "cobol", "orders"]);
    assert!(
        code == 2 && err.contains("possible values: rust, c, go, cpp, python, typescript, zig, assemblyscript"),
        "{err}"
    );
    std::fs::create_dir(folder.path().join("taken")).unwrap();
    std::fs::write(folder.path().join("taken/mine"), "mine").unwrap();
    let (code, _, err) = run(&["new", "--lang", "c", "taken"]);
    assert!(code == 2 && err.contains("taken is there already"), "{err}");
    assert_eq!(std::fs::read_dir(folder.path().join("taken")).unwrap().count(), 1);
    let (code, _, err) = run(&["build", "taken"]);
    assert!(code == 2 && err.contains("taken has no handler: no Cargo.toml, go.mod, handler.zig, *.cpp"), "{err}");
    std::fs::write(folder.path().join("taken/Cargo.toml"), "").unwrap();
    let (code, _, err) = run(&["build", "taken"]);
    assert!(code == 2 && err.contains("keyrail.toml"), "{err}");
    let (code, _, err) = run(&["build", "nowhere"]);
    assert!(code == 2 && err.contains("there is no folder nowhere"), "{err}");
}

#[test]
fn what_changes_is_tested_again() {
    let test = "what_changes_is_tested_again";
    let Some(env) = building(test) else { return };
    let folder = Folder::new();
    let project = project(&folder, &env, "c");
    assert_eq!(keyrail(&project, &env, &["build"]).0, 0);
    let mut command = Command::new(std::env::var_os(KEYRAIL).unwrap());
    command.current_dir(&project).args(["test", "--watch"]).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let (send, lines) = mpsc::sync_channel(100);
    let err = BufReader::new(child.stderr.take().unwrap());
    let reader = std::thread::spawn(move || {
        for line in err.lines() {
            if send.send(line.unwrap()).is_err() {
                return;
            }
        }
    });
    let next = || lines.recv_timeout(LIMIT).unwrap();
    assert_eq!(next(), "keyrail: 1 fixture, all as expected");
    edit(&project.join("fixtures/first.jsonl"), "\"5\"", "\"6\"");
    assert_eq!((next(), next()), ("keyrail: something has changed".into(), "keyrail: 1 fixture, 1 failed".into()));
    // A fault of a manifest is told, and does not end it.
    let manifest = project.join("plugins/order-totals.toml");
    edit(&manifest, "input", "inputt");
    assert_eq!(next(), "keyrail: something has changed");
    while !next().contains("failed") {}
    edit(&manifest, "inputt", "input");
    edit(&project.join("fixtures/first.jsonl"), "\"6\"", "\"5\"");
    while next() != "keyrail: 1 fixture, all as expected" {}
    child.kill().unwrap();
    child.wait().unwrap();
    reader.join().unwrap();
}
