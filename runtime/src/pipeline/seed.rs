//! What hashes and chance begin with.

use super::{Naming, NoInstance};
use crate::config;
use sha2::{Digest as _, Sha256};
use std::hash::{BuildHasher as _, RandomState};

/// Chance from the operating system, as the standard library gets it for its hash tables.
pub(super) fn seed() -> u64 {
    RandomState::new().hash_one(0)
}

/// What a pipeline's lanes are hashed with.
///
/// # Errors
/// See [`Naming::lanes`].
pub(super) fn of_lanes(manifest: &config::Pipeline, naming: &Naming) -> Result<u64, NoInstance> {
    match &manifest.rollout {
        // All processes of a group are to try a new version on the same keys, at each start.
        Some(_) => Ok(u64::from_be_bytes(Sha256::digest(&manifest.group).first_chunk().copied().unwrap_or_default())),
        // What lies on disk of parked messages stands by their lanes.
        None if manifest.parked.is_some() => naming.lanes(),
        None => Ok(seed()),
    }
}
