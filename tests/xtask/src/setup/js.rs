//! The handlers in TypeScript: the SDK as npm publishes it, in `target/js/sdk`, and `target/guests/NAME.wasm` by it.

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
const SOURCES: [&str; 2] = ["sdk/js", "tests/conformance/js"];
const GUESTS: [(&str, &str); 2] =
    [("conform-js", "tests/conformance/js/handler.ts"), ("totals-js", "sdk/js/example/totals.ts")];

/// Builds every handler in TypeScript into that folder, and returns the SDK's.
pub(crate) fn build(place: &Place, folder: &Path) -> Result<PathBuf, String> {
    let own = place.target.join("js");
    let sdk = own.join("sdk");
    npm::have(&place.root, &SOURCES, &sdk, |sdk| {
        say(&format!("building the SDK for JavaScript, and {} handlers by it", GUESTS.len()));
        let mut compiler = Command::new("node");
        compiler.current_dir(sdk).arg("node_modules/typescript/bin/tsc");
        quiet("tsc", &mut compiler, LIMIT)?;
        for (name, source) in GUESTS {
            let mut builder = Command::new("node");
            builder.arg(sdk.join("dist/src/build.js")).arg(place.root.join(source));
            quiet("keyrail-build", builder.arg("-o").arg(own.join(format!("{name}.wasm"))), LIMIT)?;
        }
        Ok(())
    })?;
    for (name, _) in GUESTS {
        place_file(&own.join(format!("{name}.wasm")), folder, name)?;
    }
    Ok(sdk)
}
