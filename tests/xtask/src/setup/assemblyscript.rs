//! The handlers in AssemblyScript: the SDK with its compiler, in `target/assemblyscript/sdk`, and `target/guests/NAME.wasm` by it.

use super::guests::place_file;
use super::npm;
use crate::place::Place;
use crate::run::quiet;
use crate::say::say;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(120);
/// The package, and what else is built with it.
const SOURCES: [&str; 2] = ["sdk/assemblyscript", "tests/conformance/assemblyscript"];
const GUESTS: [(&str, &str); 2] = [
    ("conform-assemblyscript", "tests/conformance/assemblyscript/handler.ts"),
    ("totals-assemblyscript", "sdk/assemblyscript/example/totals.ts"),
];

/// Builds every handler in AssemblyScript into that folder, and returns the SDK's.
pub(crate) fn build(place: &Place, folder: &Path) -> Result<PathBuf, String> {
    let own = place.target.join("assemblyscript");
    let sdk = own.join("sdk");
    npm::have(&place.root, &SOURCES, &sdk, |sdk| {
        say(&format!("building {} handlers in AssemblyScript", GUESTS.len()));
        for (name, source) in GUESTS {
            let mut builder = Command::new("node");
            builder.arg(sdk.join("bin/keyrail-asc.js")).arg(place.root.join(source));
            quiet("keyrail-asc", builder.arg("-o").arg(own.join(format!("{name}.wasm"))), LIMIT)?;
        }
        Ok(())
    })?;
    for (name, _) in GUESTS {
        place_file(&own.join(format!("{name}.wasm")), folder, name)?;
    }
    Ok(sdk)
}
