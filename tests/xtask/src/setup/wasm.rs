//! A compiler for `wasm32-unknown-unknown`: the toolchain's own if it has the target or can fetch it; otherwise, on
//! Debian, the compiler that Debian ships for building browsers, unpacked beside it and building `std` from source.

use super::packages;
use crate::place::{Place, make, remove, write};
use crate::run::{ask, quiet};
use crate::say::say;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

pub(crate) const TARGET: &str = "wasm32-unknown-unknown";
/// Long enough for 30 MB on a slow line; where the servers cannot be reached rustup may try for very long.
const RUSTUP_LIMIT: Duration = Duration::from_secs(120);
const FETCH_LIMIT: Duration = Duration::from_secs(900);
/// The workspace's `rust-version`.
const RUST_AT_LEAST: (u32, u32) = (1, 95);
/// `debian` takes Debian's compiler even where the target is installed: for trying out this way.
const CHOICE: &str = "KEYRAIL_WASM_TOOLCHAIN";

/// How to compile for WebAssembly.
#[derive(Clone, Debug)]
pub(crate) enum Compiler {
    /// Ordinary Cargo.
    Installed,
    /// Debian's, unpacked in `root`; `linker` is one that can link WebAssembly.
    Debian { root: PathBuf, linker: PathBuf },
}

impl Compiler {
    /// Finds one or makes one.
    pub(crate) fn find(place: &Place) -> Result<Self, String> {
        let choice = std::env::var(CHOICE).unwrap_or_default();
        match choice.as_str() {
            "debian" => return debian(place),
            "" | "rustup" => {}
            other => return Err(format!("{CHOICE}={other}: use rustup or debian, or leave it out")),
        }
        if has_target() {
            return Ok(Self::Installed);
        }
        let unpacked = place.target.join("wasm-toolchain/complete").is_file() && choice.is_empty();
        if unpacked {
            return debian(place);
        }
        say(&format!("the Rust target {TARGET} is not installed, asking rustup for it"));
        let mut rustup = Command::new("rustup");
        match quiet("rustup", rustup.args(["target", "add", TARGET]), RUSTUP_LIMIT) {
            Ok(_) if has_target() => return Ok(Self::Installed),
            Ok(_) => return Err(format!("rustup added {TARGET} to another toolchain than the one in use")),
            Err(e) if choice == "rustup" => return Err(e),
            Err(e) => say(&format!("rustup cannot: {}", cause(&e))),
        }
        debian(place).map_err(|e| format!("{e}\nOr install the target by hand: rustup target add {TARGET}"))
    }

    /// `cargo build` for WebAssembly; the caller adds packages and profile.
    pub(crate) fn cargo_build(&self) -> Command {
        let mut cargo = Command::new("cargo");
        cargo.args(["build", "--target", TARGET]).envs(self.variables());
        cargo
    }

    /// What makes a plain `cargo build --target wasm32-unknown-unknown` work here.
    pub(crate) fn variables(&self) -> Vec<(&'static str, String)> {
        let Self::Debian { root, linker } = self else { return Vec::new() };
        vec![
            // Permits unstable settings on a stable release; the compiler that std's sources belong to.
            ("RUSTC_BOOTSTRAP", "1".to_owned()),
            ("CARGO_UNSTABLE_BUILD_STD", "std,panic_abort".to_owned()),
            ("RUSTC", root.join("usr/bin/rustc").display().to_string()),
            ("LD_LIBRARY_PATH", libraries(root)),
            ("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker.display().to_string()),
        ]
    }
}

/// The line of a failed program's output that says why.
fn cause(error: &str) -> &str {
    let telling = error.lines().find(|l| l.contains("error:")).or_else(|| error.lines().last());
    telling.unwrap_or_default().trim_matches([' ', '|'])
}

fn has_target() -> bool {
    let Some(folder) = ask("rustc", &["--print", "target-libdir", "--target", TARGET]) else { return false };
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.into_iter().any(|e| e.file_name().to_string_lossy().starts_with("libstd-"))
}

fn debian(place: &Place) -> Result<Compiler, String> {
    let linker = linker()?;
    let root = place.target.join("wasm-toolchain");
    let marker = root.join("complete");
    if !marker.is_file() {
        unpack(&root)?;
    }
    let rustc = Command::new(root.join("usr/bin/rustc")).env("LD_LIBRARY_PATH", libraries(&root)).arg("-V").output();
    let rustc = rustc.map_err(|e| format!("Debian's Rust compiler in {} does not start: {e}", root.display()))?;
    if !rustc.status.success() {
        let why = String::from_utf8_lossy(&rustc.stderr).trim().to_owned();
        return Err(format!(
            "Debian's Rust compiler in {} does not run: {why}. Delete the folder to fetch it anew.",
            root.display()
        ));
    }
    say(&format!("compiling for {TARGET} with Debian's {}", String::from_utf8_lossy(&rustc.stdout).trim()));
    Ok(Compiler::Debian { root, linker })
}

/// The linker that rustup's toolchains bring, or one that is installed.
fn linker() -> Result<PathBuf, String> {
    let sysroot = ask("rustc", &["--print", "sysroot"]).ok_or("`rustc --print sysroot` fails: is Rust installed?")?;
    let about = ask("rustc", &["-vV"]).unwrap_or_default();
    let host = about.lines().find_map(|l| l.strip_prefix("host: ")).unwrap_or_default();
    let own = Path::new(&sysroot).join("lib/rustlib").join(host).join("bin/rust-lld");
    if own.is_file() {
        return Ok(own);
    }
    if ask("wasm-ld", &["--version"]).is_some() {
        return Ok(PathBuf::from("wasm-ld"));
    }
    Err(format!("no linker for WebAssembly: {} is not there, nor wasm-ld (Debian: apt-get install lld)", own.display()))
}

fn libraries(root: &Path) -> String {
    let mut folders = Vec::new();
    for lib in ["usr/lib", "lib"] {
        for entry in std::fs::read_dir(root.join(lib)).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().ends_with("-linux-gnu") {
                folders.push(entry.path().display().to_string());
            }
        }
    }
    folders.extend(std::env::var("LD_LIBRARY_PATH"));
    folders.join(":")
}

fn unpack(root: &Path) -> Result<(), String> {
    if !packages::has_apt() {
        return Err(format!(
            "the Rust target {TARGET} cannot be had here: rustup does not give it, and this is no Debian"
        ));
    }
    packages::update()?;
    let names = packages_to_fetch()?;
    say(&format!("fetching Debian's Rust compiler and std's sources, 190 MB: {}", names.join(" ")));
    remove(root)?;
    let debs = root.join("debs");
    make(&debs)?;
    quiet("apt-get download", Command::new("apt-get").arg("download").args(&names).current_dir(&debs), FETCH_LIMIT)?;
    say("unpacking it beside rustup's toolchain (nothing is installed)");
    for entry in std::fs::read_dir(&debs).map_err(|e| format!("{}: {e}", debs.display()))?.flatten() {
        quiet("dpkg", Command::new("dpkg").arg("-x").arg(entry.path()).arg(root), FETCH_LIMIT)?;
    }
    remove(&debs)?;
    // IMPORTANT: last, because it says that all the rest is there.
    write(&root.join("complete"), &names.join("\n"))
}

/// `NAME=VERSION` of all that the compiler needs and the system does not have.
fn packages_to_fetch() -> Result<Vec<String>, String> {
    let version = candidate("rustc-web")?;
    if !is_new_enough(&version) {
        let (major, minor) = RUST_AT_LEAST;
        return Err(format!("Debian offers rustc-web {version}, but Rust {major}.{minor} or later is needed"));
    }
    let mut names = Vec::new();
    for name in ["rustc-web", "libstd-rust-web-dev", "rust-web-src"] {
        let offered = candidate(name)?;
        if offered != version {
            return Err(format!(
                "Debian offers {name} {offered} beside rustc-web {version}: its archive is being updated, try later"
            ));
        }
        names.push(format!("{name}={version}"));
    }
    let std = only(depends(&names[1])?, "libstd-rust-web-", &names[1])?;
    let llvm_wanted = depends(&std)?;
    let llvm = only(llvm_wanted, "libllvm", &std)?;
    let below = depends(&llvm)?;
    let missing = below.into_iter().filter(|name| !is_installed(name));
    names.extend(missing.collect::<Vec<_>>());
    names.extend([std, llvm]);
    Ok(names)
}

fn candidate(name: &str) -> Result<String, String> {
    let text = ask("apt-cache", &["policy", name]).unwrap_or_default();
    let found = text.lines().find_map(|l| l.trim().strip_prefix("Candidate: ")).filter(|v| *v != "(none)");
    found.map(str::to_owned).ok_or_else(|| {
        format!("Debian's package lists have no {name}: run apt-get update as root, or use Debian 12 or later with its security archive")
    })
}

/// The names that a package depends on, without versions and alternatives.
fn depends(package: &str) -> Result<Vec<String>, String> {
    let text = ask("apt-cache", &["show", "--no-all-versions", package]).unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix("Depends: "));
    let line = line.ok_or_else(|| format!("apt-cache does not say what {package} depends on"))?;
    Ok(line.split(',').filter_map(|d| d.trim().split([' ', '|', ':']).next()).map(str::to_owned).collect())
}

fn only(names: Vec<String>, prefix: &str, of: &str) -> Result<String, String> {
    names
        .into_iter()
        .find(|n| n.starts_with(prefix))
        .ok_or_else(|| format!("{of} no longer depends on a package {prefix}*"))
}

fn is_installed(package: &str) -> bool {
    ask("dpkg-query", &["-W", "-f=${Status}", package]).is_some_and(|s| s.ends_with(" installed"))
}

fn is_new_enough(version: &str) -> bool {
    let mut parts = version.split('.').map(|p| p.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) >= RUST_AT_LEAST
}

#[cfg(test)]
mod tests {
    use super::{cause, is_new_enough};

    #[test]
    fn of_a_failure_the_telling_line_is_shown() {
        let output = "rustup failed (exit status: 1): rustup target add\n    | info: trying\n    | error: no route\n    | 15: <unknown>";
        assert_eq!(cause(output), "error: no route");
        assert_eq!(cause("rustup took more than 120 s"), "rustup took more than 120 s");
    }

    #[test]
    fn a_compiler_older_than_the_workspace_is_refused() {
        assert!(is_new_enough("1.96.0+dfsg1-1~deb12u2"));
        assert!(is_new_enough("1.95.0"));
        assert!(!is_new_enough("1.85.0+dfsg3-1~deb12u3"));
        assert!(!is_new_enough("nonsense"));
    }
}
