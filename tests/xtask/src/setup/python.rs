//! The handlers in Python: what builds and checks them, below the target folder, and `target/guests/NAME.wasm` by it.

use super::guests::place_file;
use super::packages::{Package, install};
use super::system;
use crate::place::{Place, make, read, remove, write};
use crate::run::{ask, quiet};
use crate::say::say;
use std::ffi::OsString;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const PIP_LIMIT: Duration = Duration::from_secs(300);
const BUILD_LIMIT: Duration = Duration::from_secs(180);
const SDK: &str = "sdk/python/src";
const PINS: &str = "sdk/python/requirements-dev.txt";
const GUESTS: [(&str, &str); 2] =
    [("conform-python", "tests/conformance/python/conform.py"), ("totals-python", "sdk/python/example/totals.py")];

const PYTHON: Package = Package {
    what: "Python 3.10 or later with pip",
    debian: "python3 python3-pip",
    fedora: "python3 python3-pip",
    macos: "brew install python",
};

/// Builds every handler in Python into that folder, and returns the folder of the packages that did it, for `PYTHONPATH`.
pub(crate) fn build(place: &Place, folder: &Path) -> Result<PathBuf, String> {
    let tools = tools(place)?;
    let own = place.target.join("python");
    make(&own)?;
    // A build takes seconds on one core, and there are not many.
    std::thread::scope(|scope| {
        let all = GUESTS.map(|(name, module)| {
            let (tools, own) = (&tools, &own);
            scope.spawn(move || build_one(place, tools, own, folder, name, module))
        });
        all.into_iter()
            .try_for_each(|one| one.join().map_err(|_| "a build of a handler in Python panicked".to_owned())?)
    })?;
    Ok(tools)
}

fn build_one(place: &Place, tools: &Path, own: &Path, to: &Path, name: &str, module: &str) -> Result<(), String> {
    let (built, marker) = (own.join(format!("{name}.wasm")), own.join(format!("{name}.inputs")));
    let inputs = inputs(place, module)?;
    if !built.is_file() || read(&marker).map_or(true, |there| there != inputs) {
        say(&format!("building {name}, a handler in Python"));
        let mut python = Command::new("python3");
        python.current_dir(&place.root).args(["-m", "keyrail", "build", module, "--output"]).arg(&built);
        python.env("PYTHONPATH", path(&[tools, &place.root.join(SDK)])?).env("PYTHONDONTWRITEBYTECODE", "1");
        quiet("python3 -m keyrail build", &mut python, BUILD_LIMIT)?;
        // IMPORTANT: last, because it says that the rest is done.
        write(&marker, &inputs)?;
    }
    place_file(&built, to, name)
}

/// What stands for all that a build reads: the SDK with the contract, the handler, and the builder's version.
fn inputs(place: &Place, module: &str) -> Result<String, String> {
    let package = place.root.join(SDK).join("keyrail");
    let mut files = vec![place.root.join(module), place.root.join(PINS), package.join("wit/handler.wit")];
    let entries = std::fs::read_dir(&package).map_err(|e| format!("{}: {e}", package.display()))?;
    for entry in entries {
        files.push(entry.map_err(|e| format!("{}: {e}", package.display()))?.path());
    }
    files.retain(|file| file.is_file());
    files.sort();
    let mut hasher = DefaultHasher::new();
    for file in files {
        std::fs::read(&file).map_err(|e| format!("{}: {e}", file.display()))?.hash(&mut hasher);
    }
    Ok(format!("{:016x}", hasher.finish()))
}

/// The folder with the packages that the repository pins.
fn tools(place: &Place) -> Result<PathBuf, String> {
    let folder = place.target.join("tools/python");
    let pins = place.root.join(PINS);
    let (marker, wanted) = (folder.join("complete"), read(&pins)?);
    python()?;
    if read(&marker).is_ok_and(|there| there == wanted) {
        return Ok(folder);
    }
    system::pip()?;
    say(&format!("fetching what builds handlers in Python ({PINS})"));
    remove(&folder)?;
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target"]).arg(&folder);
    quiet("pip", pip.arg("--requirement").arg(&pins), PIP_LIMIT)?;
    // IMPORTANT: last, because it says that all the rest is there.
    write(&marker, &wanted)?;
    Ok(folder)
}

/// A Python that the SDK runs on.
fn python() -> Result<(), String> {
    let new_enough = || ask("python3", &["-c", "import sys; sys.exit(sys.version_info < (3, 10))"]).is_some();
    if new_enough() {
        return Ok(());
    }
    install(&[PYTHON])?;
    if new_enough() { Ok(()) } else { Err(format!("`python3` is not {}", PYTHON.what)) }
}

fn path(folders: &[&Path]) -> Result<OsString, String> {
    std::env::join_paths(folders).map_err(|e| format!("a folder that cannot stand in PYTHONPATH: {e}"))
}
