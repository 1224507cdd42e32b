//! Compiled code kept between starts.
//!
//! Compiled code is run as it is, so whoever can write it owns the process. It is therefore kept in a folder that
//! belongs to this user alone, and read only when its digest is right; a damaged entry is compiled anew.

use super::contract::CONTRACT_WIT;
use super::handler::{hex, sha256_hex};
use super::wasi::preview1;
use crate::durable;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::hash::{Hash, Hasher};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use wasmtime::Engine;
use wasmtime::component::Component;

/// Most entries kept; the ones unused for longest go.
const ENTRIES: usize = 64;

/// A private folder of compiled components.
#[derive(Debug)]
pub(super) struct Cache {
    dir: PathBuf,
    /// What else than the file decides the compiled code: wasmtime's version and settings, contract, adapter, Keyrail.
    settings: String,
}

impl Cache {
    /// Makes or checks the folder `compiled` in `root`; `Err` is the reason why it can't be used.
    pub(super) fn open(root: &Path, engine: &Engine) -> Result<Self, String> {
        let dir = root.join("compiled");
        let made = durable::folder(&dir);
        made.map_err(|e| format!("{}: {e}", dir.display()))?;
        check_private(root, &dir)?;
        let mut settings = Settings(Sha256::new());
        engine.precompile_compatibility_hash().hash(&mut settings);
        settings.0.update(CONTRACT_WIT);
        settings.0.update(preview1::CODE);
        settings.0.update(env!("CARGO_PKG_VERSION"));
        Ok(Self { dir, settings: hex(&settings.0.finalize()[..8]) })
    }

    /// The compiled code of the file with this digest, if it is there and whole.
    pub(super) fn get(&self, engine: &Engine, digest: &str) -> Option<Component> {
        let (code, sum) = self.paths(digest);
        let expected = match fs::read_to_string(&sum) {
            Ok(expected) => expected,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return None,
            Err(e) => return self.rebuild(&sum, &e.to_string()),
        };
        match fs::read(&code) {
            Ok(bytes) if sha256_hex(&bytes) == expected => {}
            Ok(_) => return self.rebuild(&code, "its digest is wrong"),
            Err(e) => return self.rebuild(&code, &e.to_string()),
        }
        // SAFETY: the file holds what `Component::serialize` gave, bit for bit: its digest says so, and the folder is
        // writable for this user alone. It never changes while it is mapped, since `put` renames a new file over it
        // and nothing writes into an old one.
        #[allow(unsafe_code, reason = "wasmtime can't prove that compiled code is its own; the digest does")]
        let component = unsafe { Component::deserialize_file(engine, &code) };
        match component {
            Ok(component) => {
                // Only for the order in which entries go; without it this one goes earlier.
                drop(File::open(&sum).and_then(|file| file.set_modified(SystemTime::now())));
                Some(component)
            }
            Err(e) => self.rebuild(&code, &format!("{e:#}")),
        }
    }

    /// Keeps compiled code. A failure is logged: the handler runs without.
    pub(super) fn put(&self, digest: &str, component: &Component) {
        let (code, sum) = self.paths(digest);
        let kept = component.serialize().map_err(io::Error::other).and_then(|bytes| {
            durable::replace(&code, &bytes)?;
            durable::replace(&sum, sha256_hex(&bytes).as_bytes())?;
            durable::sync(&self.dir)?;
            self.prune()
        });
        if let Err(e) = kept {
            let dir = self.dir.display();
            tracing::warn!("the compiled handler is not kept in {dir}: {e}; the next start compiles anew");
        }
    }

    fn paths(&self, digest: &str) -> (PathBuf, PathBuf) {
        let name = format!("{digest}-{}", self.settings);
        (self.dir.join(format!("{name}.cwasm")), self.dir.join(format!("{name}.sha256")))
    }

    fn rebuild(&self, path: &Path, reason: &str) -> Option<Component> {
        tracing::warn!("compiled handler {} can't be used: {reason}; compiling anew", path.display());
        None
    }

    /// Drops the entries unused for longest, and what a crash left half written.
    fn prune(&self) -> io::Result<()> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let (path, modified) = (entry.path(), entry.metadata()?.modified()?);
            match path.extension().and_then(|e| e.to_str()) {
                Some("sha256") => entries.push((modified, path)),
                Some(durable::TEMPORARY) if modified.elapsed().is_ok_and(|age| age.as_secs() > 3600) => {
                    fs::remove_file(path)?
                }
                _ => {}
            }
        }
        entries.sort_unstable_by(|a, b| b.cmp(a));
        for (_, sum) in entries.iter().skip(ENTRIES) {
            fs::remove_file(sum)?;
            fs::remove_file(sum.with_extension("cwasm"))?;
        }
        Ok(())
    }
}

/// Nobody else may write into the folder or put another in its place.
fn check_private(root: &Path, dir: &Path) -> Result<(), String> {
    let at = |path: &Path, e: io::Error| format!("{}: {e}", path.display());
    // A new file belongs to this process's user: that tells who it is.
    let probe = dir.join(format!("{}.probe", std::process::id()));
    let user = durable::create(&probe).and_then(|file| Ok(file.metadata()?.uid())).map_err(|e| at(&probe, e))?;
    fs::remove_file(&probe).map_err(|e| at(&probe, e))?;
    let found = fs::symlink_metadata(dir).map_err(|e| at(dir, e))?;
    if !found.is_dir() || found.uid() != user || found.mode() & 0o077 != 0 {
        let mode = found.mode() & 0o7777;
        let dir = dir.display();
        return Err(format!("{dir} must be a folder of this user alone and has mode {mode:o}; run chmod 700 {dir}"));
    }
    let parent = fs::metadata(root).map_err(|e| at(root, e))?;
    let sticky = parent.mode() & 0o1000 != 0;
    if (parent.uid() != user && parent.uid() != 0) || (parent.mode() & 0o022 != 0 && !sticky) {
        let root = root.display();
        return Err(format!("{root} is writable for others, who could replace what is in it; run chmod go-w {root}"));
    }
    Ok(())
}

/// Collects what is hashed into a digest that stays the same from build to build.
struct Settings(Sha256);

impl Hasher for Settings {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        0
    }
}
