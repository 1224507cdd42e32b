//! Handlers in C, by clang.

use super::{Built, own, ran};
use anyhow::{Context as _, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What the SDK's page says.
const FLAGS: [&str; 6] =
    ["--target=wasm32-wasi", "-mexec-model=reactor", "-O2", "-Wall", "-Wextra", "-Wl,--strip-debug"];
/// It links the C library, so it shows whether all parts are there.
const PROBE: Probe = Probe {
    compiler: "clang",
    file: "probe.c",
    text: "#include <stdio.h>\n__attribute__((export_name(\"f\"))) int f(void) { return puts(\"x\"); }\n",
    flags: &["--target=wasm32-wasi", "-mexec-model=reactor"],
    cure: "get clang with WebAssembly's linker, runtime and C library. Debian: `apt-get install clang-19 lld-19 \
        libclang-rt-19-dev-wasm32 wasi-libc`; Fedora: `dnf install clang lld compiler-rt wasi-libc-devel wasi-libc-static`; \
        elsewhere github.com/WebAssembly/wasi-sdk, with WASI_SDK_PATH set to its folder",
};

/// What a compiler is to build, to show that it can.
pub(super) struct Probe {
    /// `clang`, or `clang++`.
    pub(super) compiler: &'static str,
    pub(super) file: &'static str,
    pub(super) text: &'static str,
    pub(super) flags: &'static [&'static str],
    /// Said where none can.
    pub(super) cure: &'static str,
}

/// The sources of a handler by the end of their names, sorted; their tests are none.
pub(super) fn sources(dir: &Path, end: &str) -> anyhow::Result<Vec<PathBuf>> {
    let failed = || format!("can't read the folder {}", dir.display());
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(failed)? {
        let path = entry.with_context(failed)?.path();
        let is_test = path.file_stem().is_some_and(|stem| stem.to_string_lossy().ends_with("_test"));
        if path.extension().is_some_and(|its| its == end) && !is_test {
            all.push(path);
        }
    }
    all.sort();
    Ok(all)
}

pub(super) fn build(dir: &Path, sources: &[PathBuf]) -> anyhow::Result<Built> {
    let sdk = dir.join("sdk");
    if !sdk.join("src/keyrail.c").is_file() {
        bail!("{} is not there: it is the SDK for C, which `keyrail new --lang c` puts into a project", sdk.display());
    }
    let own = own(dir)?;
    let clang = find(&own, &PROBE)?;
    let file = own.join("handler.wasm");
    let mut command = Command::new(&clang);
    command.args(FLAGS).arg("-I").arg(sdk.join("include"));
    command.args(["src/keyrail.c", "src/generated/contract.c"].map(|source| sdk.join(source)));
    command.args(sources).arg("-o").arg(&file);
    if !ran(&mut command, PROBE.cure)? {
        bail!("the handler can't be built: {} says why", clang.display());
    }
    Ok(Built { file, name: None })
}

/// A compiler that can: wasi-sdk's where that is named, or the system's.
pub(super) fn find(own: &Path, probe: &Probe) -> anyhow::Result<PathBuf> {
    let source = own.join(probe.file);
    std::fs::write(&source, probe.text).with_context(|| format!("can't write {}", source.display()))?;
    let name = probe.compiler;
    let sdk = std::env::var_os("WASI_SDK_PATH").map(|sdk| PathBuf::from(sdk).join("bin").join(name));
    let system = ["-19", "-20", "-21", ""].map(|version| PathBuf::from(format!("{name}{version}")));
    let can = |clang: &PathBuf| {
        let mut command = Command::new(clang);
        command.args(probe.flags).arg(&source).arg("-o").arg(own.join("probe.wasm"));
        command.stdin(Stdio::null()).output().is_ok_and(|done| done.status.success())
    };
    let found = sdk.into_iter().chain(system).find(can);
    found.with_context(|| format!("no {name} here builds WebAssembly: {}", probe.cure))
}
