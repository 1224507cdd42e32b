//! The handlers in C: a clang that builds WebAssembly with a C library, and `target/guests/NAME.wasm` by it.

use super::guests::place_file;
use super::packages::{Package, install};
use crate::place::{Place, make, write};
use crate::run::{ask, quiet};
use crate::say::say;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(120);
/// What the SDK's README tells users; warnings are faults here.
const FLAGS: [&str; 8] = [
    "--target=wasm32-wasi",
    "-mexec-model=reactor",
    "-std=c11",
    "-O2",
    "-Wall",
    "-Wextra",
    "-Werror",
    // Names stay, for traps.
    "-Wl,--strip-debug",
];
/// Besides the handler's own source.
pub(super) const SDK: [&str; 2] = ["sdk/c/src/keyrail.c", "sdk/c/src/generated/contract.c"];
const GUESTS: [(&str, &str); 3] = [
    ("conform-c", "tests/conformance/c/conform.c"),
    ("tally-c", "tests/guests/tally-c/tally.c"),
    ("totals-c", "sdk/c/example/totals.c"),
];
/// It links the C library and calls the adapter, so it shows whether all parts are there.
const PROBE: &str = "#include <stdio.h>\n__attribute__((export_name(\"f\"))) int f(void) { return puts(\"x\"); }\n";

const CLANG: Package = Package {
    what: "clang with WebAssembly's linker and C library",
    debian: "clang-19 lld-19 libclang-rt-19-dev-wasm32 wasi-libc",
    fedora: "clang lld compiler-rt wasi-libc-devel wasi-libc-static",
    macos: "get github.com/WebAssembly/wasi-sdk and set WASI_SDK_PATH",
};

/// Builds every handler in C into that folder.
pub(crate) fn build(place: &Place, folder: &Path) -> Result<(), String> {
    let own = place.target.join("c");
    make(&own)?;
    let clang = clang(&own)?;
    say(&format!("building {} handlers in C by {}", GUESTS.len(), clang.display()));
    for (name, source) in GUESTS {
        let built = own.join(format!("{name}.wasm"));
        let mut command = Command::new(&clang);
        command.current_dir(&place.root).args(FLAGS).args(["-I", "sdk/c/include"]).args(SDK).arg(source);
        quiet("clang", command.arg("-o").arg(&built), LIMIT)?;
        place_file(&built, folder, name)?;
    }
    Ok(())
}

/// A clang that can: wasi-sdk's where that is named, or the system's.
pub(super) fn clang(own: &Path) -> Result<PathBuf, String> {
    if let Some(found) = find(own)? {
        return Ok(found);
    }
    install(&[CLANG])?;
    find(own)?.ok_or_else(|| format!("no clang builds WebAssembly after installing {}", CLANG.debian))
}

fn find(own: &Path) -> Result<Option<PathBuf>, String> {
    let source = own.join("probe.c");
    write(&source, PROBE)?;
    let sdk = std::env::var_os("WASI_SDK_PATH").map(|sdk| PathBuf::from(sdk).join("bin/clang"));
    let system = ["clang-19", "clang-20", "clang-21", "clang"].map(PathBuf::from);
    Ok(sdk.into_iter().chain(system).find(|clang| {
        let there = clang.to_str().is_some_and(|clang| ask(clang, &["--version"]).is_some());
        let mut probe = Command::new(clang);
        probe.args(&FLAGS[..2]).arg(&source).arg("-o").arg(own.join("probe.wasm"));
        there && quiet("clang", &mut probe, LIMIT).is_ok()
    }))
}
