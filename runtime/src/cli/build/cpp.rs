//! Handlers in C++, by clang++.

use super::c::{Probe, find};
use super::{Built, own, ran};
use anyhow::bail;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the SDK's page says, of all sources.
const FLAGS: [&str; 4] = ["--target=wasm32-wasi", "-O2", "-Wall", "-Wextra"];
/// And of those in C++, with the linker.
const CPP_FLAGS: [&str; 4] = ["-mexec-model=reactor", "-std=c++23", "-fno-exceptions", "-Wl,--strip-debug"];
const PROBE: Probe = Probe {
    compiler: "clang++",
    file: "probe.cpp",
    text: "#include <expected>\n#include <string>\n__attribute__((export_name(\"f\"))) int f(int n) { \
        return *std::expected<int, std::string>(std::to_string(n).size()); }\n",
    flags: &["--target=wasm32-wasi", "-mexec-model=reactor", "-std=c++23", "-fno-exceptions"],
    cure: "get clang++ 19 or later with WebAssembly's linker, runtime, C and C++ library. Debian: `apt-get install clang-19 lld-19 \
        libclang-rt-19-dev-wasm32 wasi-libc libc++-19-dev-wasm32 libc++abi-19-dev-wasm32`; elsewhere \
        github.com/WebAssembly/wasi-sdk, with WASI_SDK_PATH set to its folder",
};

/// Of sources in C++ and, beside them, in C.
pub(super) fn build(dir: &Path, sources: &[PathBuf], in_c: &[PathBuf]) -> anyhow::Result<Built> {
    let sdk = dir.join("sdk");
    if !sdk.join("cpp/include/keyrail.hpp").is_file() || !sdk.join("c/src/keyrail.c").is_file() {
        bail!("{} has no SDK for C++, which `keyrail new --lang cpp` puts into a project", sdk.display());
    }
    let own = own(dir)?;
    let clang = find(&own, &PROBE)?;
    let compiler = || {
        let mut compiler = Command::new(&clang);
        compiler.args(FLAGS);
        for include in ["c/include", "cpp/include"] {
            compiler.arg("-I").arg(sdk.join(include));
        }
        compiler
    };
    let mut objects = Vec::new();
    let of_sdk = ["c/src/keyrail.c", "c/src/generated/contract.c"].map(|source| sdk.join(source));
    for (n, source) in of_sdk.iter().chain(in_c).enumerate() {
        let object = own.join(format!("{n}.o"));
        let mut command = compiler();
        told(command.args(["-x", "c", "-c"]).arg(source).arg("-o").arg(&object), &clang)?;
        objects.push(object);
    }
    let file = own.join("handler.wasm");
    let mut command = compiler();
    told(command.args(CPP_FLAGS).args(sources).args(&objects).arg("-o").arg(&file), &clang)?;
    Ok(Built { file, name: None })
}

fn told(command: &mut Command, clang: &Path) -> anyhow::Result<()> {
    if !ran(command, PROBE.cure)? {
        bail!("the handler can't be built: {} says why", clang.display());
    }
    Ok(())
}
