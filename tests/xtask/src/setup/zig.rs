//! The handlers in Zig: `target/guests/NAME.wasm` by the compiler that is there, or by one fetched as a wheel.

use super::guests::place_file;
use super::system;
use crate::place::{Place, make, read, remove, write};
use crate::run::{ask, quiet};
use crate::say::say;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Zig changes with each version, so another one may not compile them.
const VERSION: &str = "0.17.0";
const FETCH_LIMIT: Duration = Duration::from_secs(600);
const BUILD_LIMIT: Duration = Duration::from_secs(300);
/// What the SDK's README tells users.
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
const GUESTS: [(&str, &str); 2] =
    [("conform-zig", "tests/conformance/zig/conform.zig"), ("totals-zig", "sdk/zig/example/totals.zig")];

/// Builds every handler in Zig into that folder.
pub(crate) fn build(place: &Place, folder: &Path) -> Result<(), String> {
    let zig = zig(place)?;
    let own = place.target.join("zig");
    make(&own)?;
    say(&format!("building {} handlers in Zig by {}", GUESTS.len(), zig.display()));
    for (name, source) in GUESTS {
        let built = own.join(format!("{name}.wasm"));
        let mut command = Command::new(&zig);
        command.current_dir(&place.root).args(FLAGS);
        // What it keeps stays below the target folder.
        command.env("ZIG_GLOBAL_CACHE_DIR", own.join("cache")).env("ZIG_LOCAL_CACHE_DIR", own.join("cache"));
        command.arg(format!("-Mroot={source}")).arg("-Mkeyrail=sdk/zig/src/keyrail.zig");
        quiet("zig", command.arg(format!("-femit-bin={}", built.display())), BUILD_LIMIT)?;
        place_file(&built, folder, name)?;
    }
    Ok(())
}

/// The compiler's path. The wheel takes 100 MB to fetch, and 410 MB unpacked.
fn zig(place: &Place) -> Result<PathBuf, String> {
    if ask("zig", &["version"]).is_some_and(|version| version == VERSION) {
        return Ok(PathBuf::from("zig"));
    }
    let folder = place.target.join("tools/zig");
    let (marker, program) = (folder.join("complete"), folder.join("ziglang/zig"));
    if read(&marker).is_ok_and(|there| there == VERSION) {
        return Ok(program);
    }
    system::pip()?;
    say(&format!("fetching Zig {VERSION} as a wheel"));
    remove(&folder)?;
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check", "--target"]).arg(&folder);
    quiet("pip", pip.arg(format!("ziglang=={VERSION}")), FETCH_LIMIT)
        .map_err(|e| format!("{e}\nor get Zig {VERSION} from ziglang.org/download and put it in PATH"))?;
    // IMPORTANT: last, because it says that all the rest is there.
    write(&marker, VERSION)?;
    Ok(program)
}
