//! The SDK for Go: it is formatted and vetted, for both of its platforms, and its tests and those of its example pass.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop at the first surprise")]

use keyrail_sdks_tests::root;
use std::path::{Path, PathBuf};
use std::process::Command;

const WASM: [(&str, &str); 2] = [("GOOS", "wasip1"), ("GOARCH", "wasm")];
const OWN: [(&str, &str); 0] = [];

/// Runs a program, and returns what it says on its standard output; the network is out of bounds.
fn says(program: &Path, folder: &Path, args: &[&str], env: &[(&str, &str)]) -> String {
    // What set-up has compiled is used again.
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("go");
    let mut command = Command::new(program);
    command.current_dir(folder).args(args).envs(env.iter().copied());
    command.env("GOCACHE", cache.join("cache")).env("GOPATH", cache.join("path")).env("GOPROXY", "off");
    command.env("GOWORK", "off").env("GOFLAGS", "-trimpath -buildvcs=false -modcacherw");
    let ran = command.output().unwrap_or_else(|e| panic!("{}: {e}", program.display()));
    let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{} {}\n{out}{err}", program.display(), args.join(" "));
    out.into_owned()
}

fn go(folder: &Path, args: &[&str], env: &[(&str, &str)]) -> String {
    says(Path::new("go"), folder, args, env)
}

#[test]
fn what_the_sdk_does_without_a_host_is_what_its_tests_say() {
    let said = go(&root().join("sdk/go"), &["test", "-count=1", "./..."], &OWN);
    let passed = |package: &str| {
        let package = format!("ok  \tgithub.com/keyrail/keyrail/sdk/go{package}\t");
        said.lines().any(|line| line.starts_with(&package))
    };
    assert!(passed("") && passed("/internal/guest") && passed("/example/totals"), "{said}");
}

#[test]
fn the_sources_are_formatted_and_vetted() {
    let gofmt = PathBuf::from(go(&root(), &["env", "GOROOT"], &OWN).trim()).join("bin/gofmt");
    assert_eq!(says(&gofmt, &root(), &["-l", "sdk/go", "tests/conformance/go"], &OWN), "");
    for folder in ["sdk/go", "tests/conformance/go"] {
        let folder = root().join(folder);
        assert_eq!(go(&folder, &["vet", "./..."], &OWN) + &go(&folder, &["vet", "./..."], &WASM), "");
    }
}

/// The blocks of Go on the SDK's page: a handler, another one that opens, one that asks, and a test of the first.
#[test]
fn what_the_page_shows_works() {
    let page = std::fs::read_to_string(root().join("sdk/go/README.md")).unwrap();
    let blocks: Vec<_> = page.split("```go\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    let [handler, opener, asker, test] = &*blocks else { panic!("{} blocks of Go", blocks.len()) };
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("go-page");
    let write = |name: &str, text: String| {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    const SDK: &str = "github.com/keyrail/keyrail/sdk/go";
    let at = root().join("sdk/go");
    write("go.mod", format!("module page\ngo 1.24\nrequire {SDK} v0.0.0\nreplace {SDK} => {}\n", at.display()));
    write("main.go", (*handler).to_owned());
    let imports = format!("import (\n\"testing\"\nkeyrail \"{SDK}\"\n\"{SDK}/keyrailtest\"\n)\n");
    write("main_test.go", format!("package main\n{imports}{test}"));
    let imports = format!("import (\n\"fmt\"\n\"strconv\"\nkeyrail \"{SDK}\"\n)\n");
    write("opener/main.go", format!("package main\n{imports}func main() {{}}\n{opener}"));
    let imports = format!("import keyrail \"{SDK}\"\n");
    write("asker/main.go", format!("package main\n{imports}func main() {{}}\n{asker}"));
    let said = go(&folder, &["test", "-count=1", "./..."], &OWN);
    assert!(said.starts_with("ok  \tpage\t"), "{said}");
    for package in [".", "./opener", "./asker"] {
        go(&folder, &["build", "-buildmode=c-shared", "-o", "handler.wasm", package], &WASM);
        let built = std::fs::read(folder.join("handler.wasm")).unwrap();
        assert!(built.starts_with(b"\0asm"), "{package}");
    }
}
