//! The handlers in Go: `target/guests/NAME.wasm` by the go command, which needs no network for them.

use super::guests::place_file;
use super::packages::{Package, install};
use crate::place::{Place, make};
use crate::run::{ask, quiet};
use crate::say::say;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// The first build compiles the standard library, 20 s on two cores.
const LIMIT: Duration = Duration::from_secs(300);
/// The first Go that exports functions, and that `sdk/go/go.mod` asks for.
const MINOR: u32 = 24;
/// Name, module and package in it.
const GUESTS: [(&str, &str, &str); 2] =
    [("conform-go", "tests/conformance/go", "."), ("totals-go", "sdk/go", "./example/totals")];

const GO: Package =
    Package { what: "Go 1.24 or later", debian: "golang-go", fedora: "golang", macos: "brew install go" };

/// Builds every handler in Go into that folder.
pub(crate) fn build(place: &Place, folder: &Path) -> Result<(), String> {
    go()?;
    let own = place.target.join("go");
    make(&own)?;
    say(&format!("building {} handlers in Go", GUESTS.len()));
    for (name, module, package) in GUESTS {
        let built = own.join(format!("{name}.wasm"));
        let mut command = Command::new("go");
        command.current_dir(place.root.join(module)).env("GOOS", "wasip1").env("GOARCH", "wasm");
        // What it keeps stays below the target folder, where it can be deleted.
        command.env("GOCACHE", own.join("cache")).env("GOPATH", own.join("path")).env("GOWORK", "off");
        command.env("GOFLAGS", "-trimpath -buildvcs=false -modcacherw");
        command.args(["build", "-buildmode=c-shared", "-o"]).arg(&built).arg(package);
        quiet("go", &mut command, LIMIT)?;
        place_file(&built, folder, name)?;
    }
    Ok(())
}

fn go() -> Result<(), String> {
    if is_new_enough() {
        return Ok(());
    }
    install(&[GO])?;
    if is_new_enough() {
        return Ok(());
    }
    Err(format!("the system's Go is older than 1.{MINOR}: get one from go.dev/dl and put it first in PATH"))
}

fn is_new_enough() -> bool {
    ask("go", &["version"]).is_some_and(|said| minor(&said).is_some_and(|minor| minor >= MINOR))
}

/// Of `go version go1.26.8 linux/amd64` the 26.
fn minor(said: &str) -> Option<u32> {
    let version = said.split(' ').nth(2)?.strip_prefix("go1.")?;
    version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_go_are_read() {
        assert_eq!(minor("go version go1.26.8 linux/amd64"), Some(26));
        assert_eq!(minor("go version go1.24rc1 darwin/arm64"), Some(24));
        assert_eq!(minor("go version devel go1.25-abc linux/amd64"), None);
        assert_eq!(minor("command not found"), None);
    }
}
