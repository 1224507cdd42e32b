//! What is shown of versions that were tried before they served.

use serde::Serialize;

/// A version on trial.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Trial {
    /// Its digest.
    pub digest: String,
    /// The part of the keys that it runs.
    pub share: f64,
    /// When that began, in milliseconds since 1970.
    pub since_ms: i64,
    /// Messages that it has run.
    pub messages: u64,
    /// Of them, those that failed on it alone.
    pub overruled: u64,
    /// And those that failed on both versions.
    pub upheld: u64,
    /// All of it in words, with the last message that failed on it alone.
    pub shown: String,
}

/// A version that was rolled back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RolledBack {
    /// Its digest.
    pub digest: String,
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// Why, with what it has shown.
    pub why: String,
}
