//! Handlers in Zig, by the zig command.

use super::{Built, asked, own, ran, version};
use anyhow::bail;
use std::path::Path;
use std::process::Command;

/// Zig changes with each version, so another one may not compile the SDK.
const VERSION: (u32, u32) = (0, 17);
const CURE: &str =
    "get Zig 0.17: https://ziglang.org/download, or `pip install ziglang==0.17.0`, whose folder `ziglang` has it";
/// What the SDK's page says.
const FLAGS: [&str; 12] = [
    "build-exe",
    "-target",
    "wasm32-wasi",
    "-O",
    "ReleaseSafe",
    "-fno-entry",
    "-rdynamic",
    "-mexec-model=reactor",
    "--stack",
    "1048576",
    "--dep",
    "keyrail",
];

pub(super) fn build(dir: &Path) -> anyhow::Result<Built> {
    if !dir.join("sdk/src/keyrail.zig").is_file() {
        let sdk = dir.join("sdk");
        bail!(
            "{} is not there: it is the SDK for Zig, which `keyrail new --lang zig` puts into a project",
            sdk.display()
        );
    }
    let file = own(dir)?.join("handler.wasm");
    let zig = || {
        let mut zig = Command::new("zig");
        zig.current_dir(dir);
        zig
    };
    let said = asked(zig().arg("version"), CURE)?;
    match version(&said) {
        Some(VERSION) => {}
        Some((major, minor)) => bail!("zig here is {major}.{minor}: {CURE}"),
        None => bail!("zig doesn't say which version it is: {CURE}"),
    }
    let mut build = zig();
    build.args(FLAGS).args(["-Mroot=handler.zig", "-Mkeyrail=sdk/src/keyrail.zig"]);
    build.args(["--cache-dir", "target/zig", "-femit-bin=target/handler.wasm"]);
    if !ran(&mut build, CURE)? {
        bail!("the handler can't be built: zig says why");
    }
    Ok(Built { file, name: None })
}
