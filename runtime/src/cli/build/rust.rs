//! Handlers in Rust, by Cargo.

use super::{Built, not_run};
use anyhow::{Context as _, bail};
use serde::Deserialize;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const TARGET: &str = "wasm32-unknown-unknown";
const CURE: &str = "install Rust from https://rustup.rs, then `rustup target add wasm32-unknown-unknown`";

/// A line of Cargo's: what it has made.
#[derive(Deserialize)]
struct Artifact {
    #[serde(default)]
    filenames: Vec<PathBuf>,
    target: Target,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

pub(super) fn build(dir: &Path) -> anyhow::Result<Built> {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(dir).args(["build", "--release", "--target", TARGET]);
    cargo.arg("--message-format=json-render-diagnostics").stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = cargo.spawn().map_err(|error| not_run(&cargo, error, CURE))?;
    let mut made = Vec::new();
    if let Some(out) = child.stdout.take() {
        for line in BufReader::new(out).lines() {
            let line = line.context("can't read what cargo says")?;
            // Other lines tell of other things.
            let Ok(artifact) = serde_json::from_str::<Artifact>(&line) else { continue };
            let is_handler = |file: &PathBuf| file.extension().is_some_and(|end| end == "wasm");
            if let Some(file) = artifact.filenames.into_iter().find(is_handler) {
                made.push(Built { file, name: Some(artifact.target.name) });
            }
        }
    }
    if !child.wait().context("cargo was lost")?.success() {
        if !has_target(dir) {
            bail!("Rust here can't build WebAssembly: `rustup target add {TARGET}`");
        }
        bail!("the handler can't be built: cargo says why");
    }
    match made.len() {
        0 => bail!("cargo built no WebAssembly: Cargo.toml needs `crate-type = [\"cdylib\", \"rlib\"]` under [lib]"),
        1 => Ok(made.remove(0)),
        _ => {
            let names: Vec<_> = made.iter().filter_map(|one| one.name.clone()).collect();
            bail!("cargo built several handlers ({}): build each in its own folder", names.join(", "))
        }
    }
}

/// Whether the target's libraries are there, as far as the compiler tells.
fn has_target(dir: &Path) -> bool {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let asked = Command::new(rustc).current_dir(dir).args(["--print", "target-libdir", "--target", TARGET]).output();
    asked.is_ok_and(|answer| Path::new(String::from_utf8_lossy(&answer.stdout).trim()).is_dir())
}
