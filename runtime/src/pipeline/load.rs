//! From a manifest to a handler that is ready to be called.

use super::{limits, setup};
use crate::config;
use crate::wasm::{Handler, Host, hex, sha256_hex};
use std::sync::Arc;

/// Why a handler can't be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit {
    /// What is wrong.
    pub problem: String,
    /// What to do; empty where `problem` says it.
    pub cure: String,
}

impl std::fmt::Display for Unfit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.problem)?;
        if self.cure.is_empty() { Ok(()) } else { write!(f, ": {}", self.cure) }
    }
}

impl std::error::Error for Unfit {}

/// Reads, verifies, compiles and opens a manifest's handler; the instance opened as a probe is thrown away.
///
/// # Errors
/// Says what the file has and what it needs.
pub fn load(host: &Arc<Host>, manifest: &config::Pipeline) -> Result<Handler, Unfit> {
    let told = |problem: String| Unfit { problem, cure: String::new() };
    let file = manifest.manifest.display();
    let bytes = std::fs::read(&manifest.handler).map_err(|e| Unfit {
        problem: format!("can't be read: {e}"),
        cure: format!("put it there, or name another in {file}"),
    })?;
    let digest = sha256_hex(&bytes);
    if manifest.sha256.is_some_and(|wanted| hex(&wanted) != digest) {
        return Err(Unfit {
            problem: format!("sha256 is {digest}, and {file} demands another"),
            cure: "put the file there that was meant, or correct sha256".to_owned(),
        });
    }
    let handler = host.load_known(&manifest.name, &bytes, digest).map_err(|e| told(e.kind.to_string()))?;
    drop(handler.open(&setup(manifest), &limits(manifest)).map_err(|e| told(e.to_string()))?);
    Ok(handler)
}
