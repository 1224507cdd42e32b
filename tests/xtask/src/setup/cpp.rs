//! The handlers in C++: by the clang that builds those in C, with a C++ library beside its C library.

use super::c;
use super::guests::place_file;
use super::packages::{Package, install};
use crate::place::{Place, make, write};
use crate::run::quiet;
use crate::say::say;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(120);
const TARGET: [&str; 2] = ["--target=wasm32-wasi", "-O2"];
/// What the SDK's README tells users; warnings are faults here.
const FLAGS: [&str; 9] = [
    "-mexec-model=reactor",
    "-std=c++23",
    "-fno-exceptions",
    "-Wall",
    "-Wextra",
    "-Wpedantic",
    "-Wshadow",
    "-Werror",
    // Names stay, for traps.
    "-Wl,--strip-debug",
];
const INCLUDE: [&str; 4] = ["-I", "sdk/c/include", "-I", "sdk/cpp/include"];
const GUESTS: [(&str, &str); 2] =
    [("conform-cpp", "tests/conformance/cpp/conform.cpp"), ("totals-cpp", "sdk/cpp/example/totals.cpp")];
/// It needs headers and objects of the C++ library.
const PROBE: &str = "#include <expected>\n#include <string>\n__attribute__((export_name(\"f\"))) int f(int n) { return *std::expected<int, \
     std::string>(std::to_string(n).size()); }\n";

const LIBRARY: Package = Package {
    what: "a C++ library for WebAssembly",
    debian: "libc++-19-dev-wasm32 libc++abi-19-dev-wasm32",
    fedora: "(get github.com/WebAssembly/wasi-sdk and set WASI_SDK_PATH)",
    macos: "get github.com/WebAssembly/wasi-sdk and set WASI_SDK_PATH",
};

/// Builds every handler in C++ into that folder.
pub(crate) fn build(place: &Place, folder: &Path) -> Result<(), String> {
    let own = place.target.join("cpp");
    make(&own)?;
    let (clang, clangxx) = compilers(&own)?;
    say(&format!("building {} handlers in C++ by {}", GUESTS.len(), clangxx.display()));
    let objects = c::SDK.map(|source| own.join(Path::new(source).with_extension("o").file_name().unwrap_or_default()));
    for (source, object) in c::SDK.iter().zip(&objects) {
        let mut command = Command::new(&clang);
        command.current_dir(&place.root).args(TARGET).args(INCLUDE).args(["-c", source, "-o"]).arg(object);
        quiet("clang", &mut command, LIMIT)?;
    }
    // Each takes more than a second.
    std::thread::scope(|scope| {
        let all = GUESTS.map(|(name, source)| {
            let built = own.join(format!("{name}.wasm"));
            let mut command = Command::new(&clangxx);
            command.current_dir(&place.root).args(TARGET).args(FLAGS).args(INCLUDE).arg(source).args(&objects);
            command.arg("-o").arg(&built);
            scope.spawn(move || quiet("clang++", &mut command, LIMIT).and_then(|_| place_file(&built, folder, name)))
        });
        all.into_iter().try_for_each(|one| one.join().map_err(|_| "a build of a handler in C++ panicked".to_owned())?)
    })
}

/// For C, and for C++.
fn compilers(own: &Path) -> Result<(PathBuf, PathBuf), String> {
    let clang = c::clang(own)?;
    let name = clang.file_name().unwrap_or_default().to_string_lossy().replace("clang", "clang++");
    let clangxx = clang.with_file_name(name);
    let source = own.join("probe.cpp");
    write(&source, PROBE)?;
    let probe = || {
        let mut probe = Command::new(&clangxx);
        probe.args(TARGET).args(&FLAGS[..3]).arg(&source).arg("-o").arg(own.join("probe.wasm"));
        quiet("clang++", &mut probe, LIMIT).map(drop)
    };
    if probe().is_err() {
        install(&[LIBRARY])?;
        probe().map_err(|e| format!("{} builds no C++ after installing {}: {e}", clangxx.display(), LIBRARY.debian))?;
    }
    Ok((clang, clangxx))
}
