//! From a manifest to a handler that is ready to be called.

use super::{Probe, limits, setup};
use crate::config;
use crate::signature::Trust;
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
    /// Read at the same time as the handler: both are of one look at the folder.
    probe: Option<Probe>,
}

impl Code {
    /// Reads a manifest's handler, compares it with what the manifest and the host demand, and reads its probe.
    ///
    /// # Errors
    /// It can't be read, is another than the manifest's `sha256` names, or is not signed as `trust` asks for; its probe can't be
    /// read.
    pub fn read(manifest: &config::Pipeline, trust: &Trust) -> Result<Self, Unfit> {
        let probe = Probe::read(manifest)?;
        Ok(Self { probe, ..Self::bare(manifest, trust)? })
    }

    /// As [`Code::read`], without its probe: for commands that serve nobody.
    ///
    /// # Errors
    /// The same.
    pub fn bare(manifest: &config::Pipeline, trust: &Trust) -> Result<Self, Unfit> {
        let file = manifest.manifest.display();
        let bytes = std::fs::read(&manifest.handler).map_err(|e| Unfit {
            problem: format!("can't be read: {e}"),
            cure: format!("put it there, or name another in {file}"),
        })?;
        // IMPORTANT: of these very bytes, and before anything reads what is in them.
        trust.verify(&manifest.handler, &bytes)?;
        let digest = sha256_hex(&bytes);
        if manifest.sha256.is_some_and(|wanted| hex(&wanted) != digest) {
            return Err(Unfit {
                problem: format!("sha256 is {digest}, and {file} demands another"),
                cure: "put the file there that was meant, or correct sha256".to_owned(),
            });
        }
        Ok(Self { bytes, digest, probe: None })
    }

    /// One that was read, compared and verified before, and has lain in a place of this process's since.
    pub(crate) const fn kept(bytes: Vec<u8>, digest: String) -> Self {
        Self { bytes, digest, probe: None }
    }

    /// The SHA-256 of the file, in lower-case hexadecimal.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// What is to be loaded, its probe included: another one may do where this one did not.
    #[must_use]
    pub fn identity(&self) -> String {
        format!("{} {}", self.digest, self.probe.as_ref().map(Probe::digest).unwrap_or_default())
    }

    /// What it must pass, if anything.
    #[must_use]
    pub fn probe(&self) -> Option<&Probe> {
        self.probe.as_ref()
    }

    /// The manifest with what only the handler's file shows: whether it asks for state, or for timers. Where there is state, it may delay what it sends.
    ///
    /// # Errors
    /// Its topics can't have their names.
    pub fn complete(&self, manifest: config::Pipeline) -> Result<config::Pipeline, Unfit> {
        let (state, timers) = (crate::wasm::uses_state(&self.bytes), crate::wasm::uses_timers(&self.bytes));
        completing(manifest, state, timers)
    }

    /// Verifies, compiles and opens the handler, the instance of which is thrown away, and plays its probe.
    ///
    /// # Errors
    /// Says what the file has and what it needs.
    pub fn load(self, host: &Arc<Host>, manifest: &config::Pipeline) -> Result<Handler, Unfit> {
        let told = |problem: String| Unfit { problem, cure: String::new() };
        let handler =
            host.load_known(&manifest.name, &self.bytes, self.digest).map_err(|e| told(e.kind.to_string()))?;
        drop(handler.open(&setup(manifest), &limits(manifest)).map_err(|e| told(e.to_string()))?);
        self.probe.map_or(Ok(()), |probe| probe.play(&handler, manifest))?;
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
    // Who asks only wants to know which topics there are: nothing of it runs.
    let complete = Code::bare(&manifest, &Trust::default()).and_then(|code| code.complete(manifest.clone()));
    complete.unwrap_or(manifest)
}

/// Reads and loads a manifest's handler, and completes the manifest; see [`Code`].
///
/// # Errors
/// Says what the file has and what it needs.
pub fn load(host: &Arc<Host>, manifest: config::Pipeline, trust: &Trust) -> Result<(config::Pipeline, Handler), Unfit> {
    with(host, Code::read(&manifest, trust)?, manifest)
}

/// As [`load`], without its probe and whoever signed it: for commands that serve nobody.
///
/// # Errors
/// The same.
pub fn load_bare(host: &Arc<Host>, manifest: config::Pipeline) -> Result<(config::Pipeline, Handler), Unfit> {
    with(host, Code::bare(&manifest, &Trust::default())?, manifest)
}

fn with(host: &Arc<Host>, code: Code, manifest: config::Pipeline) -> Result<(config::Pipeline, Handler), Unfit> {
    let manifest = code.complete(manifest)?;
    let handler = code.load(host, &manifest)?;
    Ok((manifest, handler))
}
