//! One program for all targets of a crate: linking one for each would take longer than building what it stands on.

use std::env::var_os;
use std::path::PathBuf;
use std::sync::OnceLock;

/// Name, what panics where something does not hold, and inputs to begin with.
type Target = (&'static str, fn(&[u8]), fn() -> Vec<Vec<u8>>);

static CHECK: OnceLock<fn(&[u8])> = OnceLock::new();

/// Takes the target that `KEYRAIL_FUZZ_TARGET` names, and writes its first inputs into the folder `KEYRAIL_FUZZ_SEEDS`.
///
/// # Panics
/// There is no such target or folder: `cargo xtask fuzz` gives both.
pub(crate) fn make(targets: &[Target]) {
    let name = var_os("KEYRAIL_FUZZ_TARGET").expect("KEYRAIL_FUZZ_TARGET is not set: start me by cargo xtask fuzz");
    let (_, check, seeds) =
        targets.iter().find(|target| name == target.0).unwrap_or_else(|| panic!("there is no target {name:?}"));
    CHECK.get_or_init(|| *check);
    let Some(folder) = var_os("KEYRAIL_FUZZ_SEEDS").map(PathBuf::from) else { return };
    for (n, seed) in seeds().into_iter().enumerate() {
        let path = folder.join(format!("seed-{n}"));
        std::fs::write(&path, seed).unwrap_or_else(|e| panic!("cannot write {}: {e}", path.display()));
    }
}

pub(crate) fn check(input: &[u8]) {
    let check = CHECK.get().expect("make comes first");
    check(input);
}
