//! Versions of handlers, ready to be run.

use anyhow::Context as _;
use keyrail::backtest;
use keyrail::config::{Host, Pipeline};
use keyrail::pipeline::{self, limits, setup};
use keyrail::replay::{self, Case, Played};
use keyrail::scenario::file::Scenario;
use keyrail::wasm::{self, Handler, HostOptions, Limits, Setup};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

/// As much of a digest as is shown.
const SHORT: usize = 12;

/// A handler with all that it is opened with.
#[derive(Debug)]
pub(in crate::cli) struct Version {
    handler: Handler,
    setup: Setup,
    limits: Limits,
    manifest: Pipeline,
}

impl Version {
    fn new(manifest: &Pipeline, handler: Handler) -> Self {
        Self { handler, setup: setup(manifest), limits: limits(manifest), manifest: manifest.clone() }
    }

    /// The SHA-256 of its file.
    pub(in crate::cli) fn digest(&self) -> &str {
        self.handler.digest()
    }

    /// See [`replay::digest`].
    pub(in crate::cli) fn setup(&self) -> u64 {
        replay::digest(&self.setup, &self.limits)
    }

    pub(in crate::cli) fn run(&self, case: &Case) -> anyhow::Result<Played> {
        let keeps_state = self.manifest.policy.keeps_state();
        Ok(replay::run(&self.handler, &self.setup, &self.limits, keeps_state, case)?)
    }

    /// For a back-test.
    pub(in crate::cli) fn parts(&self) -> backtest::Version<'_> {
        (self.handler.clone(), &self.manifest)
    }

    /// What comes of a scenario, a line each.
    pub(in crate::cli) fn play(&self, scenario: &Scenario<'_>) -> Result<Vec<String>, String> {
        scenario.play(self.handler.clone(), &self.manifest, None)
    }
}

/// A version, or why there is none.
pub(in crate::cli) type Found = Result<Rc<Version>, String>;

/// See the module.
pub(in crate::cli) struct Bench {
    host: Arc<wasm::Host>,
    manifests: Vec<Pipeline>,
    with: Option<PathBuf>,
    /// By pipeline: those of the manifests, and those of `with`.
    present: BTreeMap<String, Found>,
    others: BTreeMap<String, Found>,
    /// By pipeline and digest: those of before whose code is kept. `None`: it is not.
    before: BTreeMap<(String, String), Option<Rc<Version>>>,
}

impl Bench {
    /// Changes nothing on the disk but for code compiled anew, where that is kept; with `keep` it is from now on.
    pub(in crate::cli) fn new(
        host: &Host,
        manifests: Vec<Pipeline>,
        with: Option<&Path>,
        keep: bool,
    ) -> anyhow::Result<Self> {
        let kept = host.store_dir.join("code");
        let options = HostOptions { cache_dir: (keep || kept.is_dir()).then_some(kept) };
        let host = wasm::Host::new(options).context("can't run handlers")?;
        let with = with.map(Path::to_owned);
        Ok(Self { host, manifests, with, present: BTreeMap::new(), others: BTreeMap::new(), before: BTreeMap::new() })
    }

    /// Whether another handler was given.
    pub(in crate::cli) fn has_other(&self) -> bool {
        self.with.is_some()
    }

    /// How long a message of this pipeline may run.
    pub(in crate::cli) fn timeout_ms(&self, pipeline: &str) -> u64 {
        self.manifest(pipeline).map_or(5_000, |manifest| manifest.policy.timeout_ms)
    }

    /// The names of the pipelines that are here.
    pub(in crate::cli) fn pipelines(&self) -> impl Iterator<Item = &str> {
        self.manifests.iter().map(|manifest| manifest.name.as_str())
    }

    fn manifest(&self, pipeline: &str) -> Result<&Pipeline, String> {
        let found = self.manifests.iter().find(|manifest| manifest.name == pipeline);
        found.ok_or_else(|| format!("there is no pipeline {pipeline:?} here, or its manifest has faults"))
    }

    /// The handler in the folder of pipelines.
    pub(in crate::cli) fn present(&mut self, pipeline: &str) -> Found {
        if let Some(found) = self.present.get(pipeline) {
            return found.clone();
        }
        let found = self.manifest(pipeline).cloned().and_then(|manifest| self.load(manifest));
        self.present.insert(pipeline.to_owned(), found.clone());
        found
    }

    /// The handler that was given, or else the one in the folder.
    pub(in crate::cli) fn chosen(&mut self, pipeline: &str) -> Found {
        if self.has_other() { self.other(pipeline) } else { self.present(pipeline) }
    }

    /// The handler that was given instead, with this pipeline's manifest.
    pub(in crate::cli) fn other(&mut self, pipeline: &str) -> Found {
        if let Some(found) = self.others.get(pipeline) {
            return found.clone();
        }
        let found = self.file(pipeline, &self.with.clone().unwrap_or_default());
        self.others.insert(pipeline.to_owned(), found.clone());
        found
    }

    /// The handler of a file, with this pipeline's manifest.
    pub(in crate::cli) fn file(&self, pipeline: &str, file: &Path) -> Found {
        let given = |manifest: &Pipeline| Pipeline { handler: file.to_owned(), sha256: None, ..manifest.clone() };
        self.manifest(pipeline).map(given).and_then(|manifest| self.load(manifest))
    }

    /// The version with this digest: the one in the folder, or one of before, if this machine has kept its code.
    pub(in crate::cli) fn version(&mut self, pipeline: &str, digest: &[u8; 32]) -> Option<Rc<Version>> {
        let digest = hex(digest);
        if let Ok(present) = self.present(pipeline)
            && present.digest() == digest
        {
            return Some(present);
        }
        let id = (pipeline.to_owned(), digest);
        if let Some(known) = self.before.get(&id) {
            return known.clone();
        }
        let kept = self.host.load_kept(pipeline, &id.1).ok().flatten().and_then(|handler| {
            let manifest = self.manifest(pipeline).cloned().ok()?;
            let manifest = pipeline::complete(manifest, &handler).ok()?;
            Some(Rc::new(Version::new(&manifest, handler)))
        });
        self.before.insert(id, kept.clone());
        kept
    }

    fn load(&self, manifest: Pipeline) -> Found {
        let file = manifest.handler.display().to_string();
        let (manifest, handler) =
            pipeline::load_bare(&self.host, manifest).map_err(|unfit| format!("{file}: {unfit}"))?;
        Ok(Rc::new(Version::new(&manifest, handler)))
    }
}

pub(in crate::cli) fn hex(digest: &[u8]) -> String {
    let digits = digest.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
}

/// The beginning of a digest.
pub(in crate::cli) fn short(digest: &str) -> &str {
    digest.get(..SHORT).unwrap_or(digest)
}
