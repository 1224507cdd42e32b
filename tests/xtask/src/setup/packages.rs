//! The system's package manager: Debian's, when we are root; otherwise the exact names to install.

use crate::run::{ask, quiet};
use crate::say::say;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(600);

/// A need in the words of three package managers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Package {
    /// What is missing, for a person.
    pub(crate) what: &'static str,
    pub(crate) debian: &'static str,
    pub(crate) fedora: &'static str,
    pub(crate) macos: &'static str,
}

/// Installs what is missing, or says what to install.
pub(crate) fn install(missing: &[Package]) -> Result<(), String> {
    if missing.is_empty() {
        return Ok(());
    }
    let words = |name: fn(&Package) -> &'static str| missing.iter().map(name).collect::<Vec<_>>().join(" ");
    let what = missing.iter().map(|p| p.what).collect::<Vec<_>>().join(", ");
    let by_hand = format!(
        "not found: {what}. Install it and run this again.\n  Debian: apt-get install {}\n  Fedora: dnf install {}\n  macOS:  {}",
        words(|p| p.debian),
        words(|p| p.fedora),
        words(|p| p.macos),
    );
    if !is_root() || !has_apt() {
        return Err(by_hand);
    }
    update()?;
    let names = words(|p| p.debian);
    say(&format!("installing {what} (apt-get install {names})"));
    let mut apt = Command::new("apt-get");
    apt.env("DEBIAN_FRONTEND", "noninteractive").args(["install", "-y", "--no-install-recommends"]);
    quiet("apt-get install", apt.args(names.split(' ')), LIMIT).map(drop).map_err(|e| format!("{e}\n{by_hand}"))
}

/// Reads the package lists anew, once a run. Without root they are taken as they are.
pub(crate) fn update() -> Result<(), String> {
    static DONE: OnceLock<()> = OnceLock::new();
    if DONE.get().is_none() && is_root() {
        say("reading Debian's package lists (apt-get update)");
        quiet("apt-get update", Command::new("apt-get").arg("update"), LIMIT)?;
        DONE.get_or_init(|| ());
    }
    Ok(())
}

pub(crate) fn is_root() -> bool {
    ask("id", &["-u"]).as_deref() == Some("0")
}

pub(crate) fn has_apt() -> bool {
    ask("apt-get", &["--version"]).is_some()
}
