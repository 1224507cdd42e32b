//! The crates that are handlers, built to WebAssembly: `target/guests/NAME.wasm`, NAME being the crate's.
//!
//! They are ordinary members of the workspace, so that one lock file, one set of lints and one licence check hold for
//! them too. Their own target folder keeps them apart from native builds.

use super::wasm::{Compiler, TARGET};
use crate::place::{Member, Place, make, write};
use crate::run::quiet;
use crate::say::say;
use std::path::{Path, PathBuf};
use std::time::Duration;

const BUILD_LIMIT: Duration = Duration::from_secs(1200);
/// One guest is one small file: optimise it whole, and leave debug information out; names stay, for traps. All that the
/// workspace's own profile says is said here too, or a handler outside it would share nothing with the guests.
const PROFILE: [(&str, &str); 6] = [
    ("CARGO_PROFILE_RELEASE_DEBUG", "line-tables-only"),
    ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "3"),
    ("CARGO_PROFILE_RELEASE_STRIP", "debuginfo"),
    ("CARGO_PROFILE_RELEASE_LTO", "fat"),
    ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1"),
    ("CARGO_PROFILE_RELEASE_PANIC", "abort"),
];

/// Builds every guest, or the one of that name, and returns the folder with their modules.
pub(crate) fn build(place: &Place, only: Option<&str>) -> Result<PathBuf, String> {
    let folder = place.target.join("guests");
    make(&folder)?;
    let guests: Vec<_> =
        place.members()?.into_iter().filter(|m| m.guest && only.is_none_or(|name| m.name == name)).collect();
    if guests.is_empty() {
        say("no crate of the workspace is marked as a guest ([package.metadata.keyrail] guest = true)");
        return Ok(folder);
    }
    let compiler = Compiler::find(place)?;
    let names: Vec<_> = guests.iter().map(|g| g.name.as_str()).collect();
    say(&format!("building {} guests for WebAssembly: {}", guests.len(), names.join(", ")));
    let own_target = place.target.join("wasm");
    let mut cargo = compiler.cargo_build();
    cargo.current_dir(&place.root).arg("--release").arg("--target-dir").arg(&own_target);
    for name in names {
        cargo.args(["--package", name]);
    }
    cargo.envs(PROFILE).env_remove("CARGO_TARGET_DIR");
    quiet("guests", &mut cargo, BUILD_LIMIT)?;
    for guest in &guests {
        place_module(&own_target, &folder, guest)?;
    }
    write(&environment(place), &variables(&compiler, &own_target))?;
    Ok(folder)
}

/// The file that [`variables`] are written to.
pub(crate) fn environment(place: &Place) -> PathBuf {
    place.target.join("wasm.env")
}

/// `KEY=VALUE` lines with which a plain `cargo build` of a handler outside the workspace works here, and takes what it
/// shares with the guests from their build.
fn variables(compiler: &Compiler, own_target: &Path) -> String {
    let profile = PROFILE.map(|(name, value)| (name, value.to_owned()));
    let shared = ("CARGO_BUILD_BUILD_DIR", own_target.display().to_string());
    let all = compiler.variables().into_iter().chain(profile).chain([shared]);
    all.map(|(name, value)| format!("{name}={value}\n")).collect()
}

/// Copies a module only if it changed, so that what is derived from it stays valid.
fn place_module(own_target: &Path, folder: &Path, guest: &Member) -> Result<(), String> {
    let file = format!("{}.wasm", guest.name.replace('-', "_"));
    let from = own_target.join(TARGET).join("release").join(file);
    place_file(&from, folder, &guest.name)
        .map_err(|e| format!("{e}. Does {}/Cargo.toml say [lib] crate-type = [\"cdylib\"]?", guest.folder))
}

/// The same for a file by its path.
pub(super) fn place_file(from: &Path, folder: &Path, name: &str) -> Result<(), String> {
    let to = folder.join(format!("{name}.wasm"));
    let bytes = std::fs::read(from).map_err(|e| format!("{}: {e}", from.display()))?;
    if std::fs::read(&to).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    say(&format!("  {} ({} KB)", to.display(), bytes.len() / 1000));
    // Renamed into place: a test that reads it meanwhile sees the old file or the new one.
    let part = folder.join(format!("{name}.wasm.part"));
    std::fs::write(&part, bytes)
        .and_then(|()| std::fs::rename(&part, &to))
        .map_err(|e| format!("{}: {e}", to.display()))
}
