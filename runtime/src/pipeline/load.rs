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

/// A handler's file as it was read: what is hashed is what is compiled.
#[derive(Clone, PartialEq, Eq)]
pub struct Code {
    bytes: Vec<u8>,
    digest: String,
}

impl Code {
    /// Reads a manifest's handler and compares it with what the manifest demands.
    ///
    /// # Errors
    /// It can't be read, or is another than the manifest's `sha256` names.
    pub fn read(manifest: &config::Pipeline) -> Result<Self, Unfit> {
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
        Ok(Self { bytes, digest })
    }

    /// The SHA-256 of the file, in lower-case hexadecimal.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The manifest with what only the handler's file shows: whether it asks for state, or for timers. Where there is state, it may delay what it sends.
    ///
    /// # Errors
    /// Its topics can't have their names.
    pub fn complete(&self, manifest: config::Pipeline) -> Result<config::Pipeline, Unfit> {
        let (state, timers) = (crate::wasm::uses_state(&self.bytes), crate::wasm::uses_timers(&self.bytes));
        completing(manifest, state, timers)
    }

    /// Verifies, compiles and opens the handler; the instance opened as a probe is thrown away.
    ///
    /// # Errors
    /// Says what the file has and what it needs.
    pub fn load(self, host: &Arc<Host>, manifest: &config::Pipeline) -> Result<Handler, Unfit> {
        let told = |problem: String| Unfit { problem, cure: String::new() };
        let handler =
            host.load_known(&manifest.name, &self.bytes, self.digest).map_err(|e| told(e.kind.to_string()))?;
        drop(handler.open(&setup(manifest), &limits(manifest)).map_err(|e| told(e.to_string()))?);
        Ok(handler)
    }
}

impl std::fmt::Debug for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Code").field("digest", &self.digest).field("bytes", &self.bytes.len()).finish()
    }
}

/// A manifest with what a handler shows that is loaded; see [`Code::complete`].
///
/// # Errors
/// Its topics can't have their names.
pub fn complete(manifest: config::Pipeline, handler: &Handler) -> Result<config::Pipeline, Unfit> {
    let facts = handler.facts();
    completing(manifest, facts.uses_state(), facts.uses_timers())
}

fn completing(manifest: config::Pipeline, state: bool, timers: bool) -> Result<config::Pipeline, Unfit> {
    let unfit = |problem| Unfit { problem, cure: String::new() };
    let manifest = if state { manifest.with_state().map_err(unfit)? } else { manifest };
    let manifest = if timers { manifest.with_timers().map_err(unfit)? } else { manifest };
    manifest.with_delays().map_err(unfit)
}

/// A manifest with what its handler's file shows, as far as that can be read.
#[must_use]
pub fn completed(manifest: config::Pipeline) -> config::Pipeline {
    let complete = Code::read(&manifest).and_then(|code| code.complete(manifest.clone()));
    complete.unwrap_or(manifest)
}

/// Reads and loads a manifest's handler, and completes the manifest; see [`Code`].
///
/// # Errors
/// Says what the file has and what it needs.
pub fn load(host: &Arc<Host>, manifest: config::Pipeline) -> Result<(config::Pipeline, Handler), Unfit> {
    let code = Code::read(&manifest)?;
    let manifest = code.complete(manifest)?;
    let handler = code.load(host, &manifest)?;
    Ok((manifest, handler))
}
