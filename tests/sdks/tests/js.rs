//! The SDK for JavaScript: its copy of the contract, its own tests, which need no host, and what its page shows.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop at the first surprise")]

use keyrail_sdks_tests::root;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;

const SDK: &str = "sdk/js";

/// The SDK as npm has it, with what it needs; without it the test says so, and is skipped.
fn built(test: &str) -> Option<PathBuf> {
    let sdk = std::env::var_os("KEYRAIL_JS").map(PathBuf::from);
    if sdk.is_none() {
        let reason = "KEYRAIL_JS is not set; cargo xtask test sets it where the set-up succeeds";
        println!("SKIP {test}: {reason}");
        if let Some(list) = std::env::var_os("KEYRAIL_SKIPS") {
            let mut list = std::fs::File::options().append(true).create(true).open(list).unwrap();
            writeln!(list, "{test}: {reason}").unwrap();
        }
    }
    sdk
}

fn runs(command: &mut Command) -> String {
    let ran = command.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{out}{err}");
    out.into_owned()
}

/// Runs test files of a folder, of which there are some.
fn tests(folder: PathBuf) {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files: Vec<_> = entries.filter(|path| path.to_string_lossy().ends_with(".test.js")).collect();
    let said = runs(Command::new("node").args(["--test", "--test-reporter=tap"]).args(&files));
    let passed = said.lines().find_map(|line| line.strip_prefix("# pass ")).map(|count| count.parse().unwrap());
    assert!(passed >= Some(files.len()) && !files.is_empty(), "{said}");
}

#[test]
fn what_the_sdk_does_without_a_host_is_what_its_tests_say() {
    let Some(sdk) = built("what_the_sdk_does_without_a_host_is_what_its_tests_say") else { return };
    tests(sdk.join("dist/test"));
}

#[test]
fn the_example_is_tested_without_a_host() {
    let Some(sdk) = built("the_example_is_tested_without_a_host") else { return };
    tests(sdk.join("dist/example"));
}

/// The package carries its own copy, so that it can be published alone.
#[test]
fn the_copy_of_the_contract_is_the_contract() {
    let contract = std::fs::read(root().join("sdk/wit/handler.wit")).unwrap();
    let copy = std::fs::read(root().join(SDK).join("wit/handler.wit")).unwrap();
    assert!(contract == copy, "run: cp sdk/wit/handler.wit {SDK}/wit/handler.wit");
}

/// The blocks of TypeScript on the SDK's page, and the conformance handler: strictly typed; the page's test passes.
#[test]
fn what_the_page_shows_works() {
    let Some(sdk) = built("what_the_page_shows_works") else { return };
    let page = std::fs::read_to_string(root().join(SDK).join("README.md")).unwrap();
    let blocks: Vec<_> = page.split("```ts\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    let [handler, failures, open, asks, test] = &*blocks else { panic!("{} blocks of TypeScript", blocks.len()) };
    let folder = sdk.join("dist/page");
    std::fs::create_dir_all(&folder).unwrap();
    let conform = std::fs::read_to_string(root().join("tests/conformance/js/handler.ts")).unwrap();
    let files = [
        ("handler", *handler),
        ("failures", failures),
        ("open", open),
        ("asks", asks),
        ("page.test", test),
        ("conform", &conform),
    ];
    for (name, text) in files {
        std::fs::write(folder.join(format!("{name}.ts")), text).unwrap();
    }
    let own =
        r#"{"extends": "../../tsconfig.json", "compilerOptions": {"rootDir": ".", "outDir": "out"}, "include": ["."]}"#;
    std::fs::write(folder.join("tsconfig.json"), own).unwrap();
    runs(Command::new("node").arg(sdk.join("node_modules/typescript/bin/tsc")).arg("-p").arg(&folder));
    tests(folder.join("out"));
}

#[test]
fn a_module_that_is_no_handler_is_not_built() {
    let Some(sdk) = built("a_module_that_is_no_handler_is_not_built") else { return };
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let source = folder.join("no_handler.ts");
    std::fs::write(&source, "export default (): string => \"done\";\n").unwrap();
    let mut build = Command::new("node");
    let ran =
        build.arg(sdk.join("dist/src/build.js")).arg(&source).arg("-o").arg(folder.join("no_handler.wasm")).output();
    let ran = ran.unwrap();
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(!ran.status.success() && said.contains("the module's default export is no handler"), "{said}");
}
