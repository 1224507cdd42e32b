//! The container: built by the `Containerfile`, run as its deployments run it, and the deployments themselves.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop at what it did not expect")]

mod deployments;
mod image;
mod sandbox;
mod seccomp;
mod stage;
mod works;

use std::io::Write as _;
use std::path::{Path, PathBuf};

/// A folder that the set-up made. `None`: it did not, and the skip is told.
fn given(test: &str, variable: &str) -> Option<PathBuf> {
    let found = std::env::var_os(variable).map(PathBuf::from);
    if found.is_none() {
        let reason = format!("{variable} is not set; cargo xtask test sets it where the set-up succeeds");
        println!("SKIP {test}: {reason}");
        if let Some(list) = std::env::var_os("KEYRAIL_SKIPS") {
            let mut list = std::fs::File::options().append(true).create(true).open(list).unwrap();
            writeln!(list, "{test}: {reason}").unwrap();
        }
    }
    found
}

/// A file or folder of the repository.
fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().join(path)
}
