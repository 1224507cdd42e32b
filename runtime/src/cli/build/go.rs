//! Handlers in Go, by the go command.

use super::{Built, asked, own, ran, version};
use anyhow::bail;
use std::path::Path;
use std::process::Command;

/// The first that exports functions.
const OLDEST: (u32, u32) = (1, 24);
const CURE: &str = "get Go 1.24 or later: https://go.dev/dl, or Debian: `apt-get install golang-go`, Fedora: `dnf install golang`, \
    macOS: `brew install go`";

pub(super) fn build(dir: &Path) -> anyhow::Result<Built> {
    let file = own(dir)?.join("handler.wasm");
    let said = asked(go(dir).arg("version"), CURE)?;
    if let Some((major, minor)) = said.split(' ').nth(2).and_then(|said| version(said.trim_start_matches("go")))
        && (major, minor) < OLDEST
    {
        bail!("go here is {major}.{minor}: {CURE}");
    }
    let mut build = go(dir);
    build.env("GOOS", "wasip1").env("GOARCH", "wasm");
    build.args(["build", "-buildmode=c-shared", "-trimpath", "-o", "target/handler.wasm", "."]);
    if !ran(&mut build, CURE)? {
        bail!("the handler can't be built: go says why");
    }
    Ok(Built { file, name: None })
}

fn go(dir: &Path) -> Command {
    let mut go = Command::new("go");
    go.current_dir(dir);
    // It would fetch another Go where go.mod wants a later one.
    if std::env::var_os("GOTOOLCHAIN").is_none() {
        go.env("GOTOOLCHAIN", "local");
    }
    go
}
