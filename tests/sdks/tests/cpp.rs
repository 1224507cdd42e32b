//! The SDK for C++: what it does is what its own tests say, which need no host.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop at the first surprise")]

use keyrail_sdks_tests::root;
use std::path::{Path, PathBuf};
use std::process::Command;

const SANITIZED: [&str; 3] = ["-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"];
const FLAGS: [&str; 7] = ["-std=c++23", "-fno-exceptions", "-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Werror"];

fn succeeds(command: &mut Command) -> String {
    let ran = command.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{out}{err}");
    out.into_owned()
}

/// Compiles a test of the SDK for this machine, with the host in memory, and runs it.
fn runs(name: &str, sources: &[PathBuf]) -> String {
    let (c, cpp) = (root().join("sdk/c"), root().join("sdk/cpp"));
    // A folder for each: tests run beside each other.
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&folder).unwrap();
    let mut cc = Command::new("cc");
    cc.current_dir(&folder).args(SANITIZED).arg("-I").arg(c.join("include")).arg("-c");
    succeeds(cc.arg(c.join("src/keyrail.c")).arg(c.join("src/testing.c")));
    let mut cxx = Command::new("c++");
    cxx.current_dir(&folder).args(FLAGS).args(SANITIZED);
    cxx.arg("-I").arg(c.join("include")).arg("-I").arg(cpp.join("include")).args(sources);
    succeeds(cxx.args(["keyrail.o", "testing.o", "-o", "test"]));
    succeeds(&mut Command::new(folder.join("test")))
}

#[test]
fn what_the_sdk_does_without_a_host_is_what_its_tests_say() {
    assert_eq!(runs("keyrail-cpp-sdk", &[root().join("sdk/cpp/tests/sdk.cpp")]), "all passed\n");
}

#[test]
fn requests_over_http_come_to_what_their_tests_say() {
    assert_eq!(runs("keyrail-cpp-http", &[root().join("sdk/cpp/tests/http.cpp")]), "all passed\n");
}

#[test]
fn the_example_is_tested_without_a_host() {
    let sources = ["sdk/cpp/example/totals.cpp", "sdk/cpp/example/totals_test.cpp"];
    assert_eq!(runs("keyrail-cpp-example", &sources.map(|source| root().join(source))), "all passed\n");
}

/// Of the page's handlers that ask for a score.
const SCORED: &str = r#"
#undef NDEBUG
#include <cassert>
#include <keyrail_test.hpp>

int main() {
  keyrail::testing::host host;
  host.output("scores").answer("POST", "https://api.example.com/score", {.body = "7"});
  auto ran = host.say("k1", "red");
  assert(ran.outcome == keyrail::done && ran.sent.size() == 1 && ran.sent[0].value == "7");
}
"#;

/// The blocks of C++ on the SDK's page: a handler, how it opens, two that ask over HTTP, and a test of the first, whose assertions end it
/// if they fail.
#[test]
fn what_the_page_shows_works() {
    let page = std::fs::read_to_string(root().join("sdk/cpp/README.md")).unwrap();
    let blocks: Vec<_> = page.split("```cpp\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    let [handler, open, fetch, steps, test] = &*blocks else { panic!("{} blocks of C++", blocks.len()) };
    let plain = "KEYRAIL_HANDLER(handle)\n";
    let begin = "host.output(\"changes\");";
    assert!(handler.ends_with(plain) && test.contains(begin));
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let write = |name: &str, text: String| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    // Its test sets the configuration that the second block asks for.
    let handler = write("page.cpp", format!("{}{open}", handler.replace(plain, "")));
    let configured = test.replace(begin, &format!("{begin} host.config(\"currency\", \"EUR\");"));
    assert_eq!(runs("keyrail-cpp-page", &[handler, write("page_test.cpp", configured)]), "");
    for (name, handler) in [("fetch", format!("{fetch}KEYRAIL_HANDLER(handle)\n")), ("steps", (*steps).to_owned())] {
        let handler = write(&format!("page_{name}.cpp"), format!("#include <keyrail.hpp>\n{handler}"));
        let test = write(&format!("page_{name}_test.cpp"), SCORED.to_owned());
        assert_eq!(runs(&format!("keyrail-cpp-page-{name}"), &[handler, test]), "");
    }
}
