//! A loaded handler: compiled, checked against the contract and linked.

use super::call::Ctx;
use super::contract::{CONTRACT_VERSION, EXPORT, GuestIndices, Message, WireOutcome, WireSetup, fits, interface};
use super::error::{LoadErrorKind, OpenError};
use super::format::{self, Shape};
use super::host::Host;
use super::instance::Instance;
use super::limits::Limits;
use super::message::Setup;
use super::metrics::HandlerMetrics;
use super::wasi::{self, preview1};
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::sync::Arc;
use wasmtime::Engine;
use wasmtime::component::types::{self, ComponentItem};
use wasmtime::component::{Component, InstancePre};

/// A handler that is ready to be opened. Clones share the code and the metrics.
#[derive(Clone)]
pub struct Handler {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    // IMPORTANT: keeps the engine's clock ticking for as long as an instance may run.
    pub(super) host: Arc<Host>,
    pub(super) pre: InstancePre<Ctx>,
    pub(super) guest: GuestIndices,
    pub(super) metrics: Arc<HandlerMetrics>,
    digest: String,
    facts: Facts,
}

/// What a handler's file shows about it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    imports: Vec<String>,
}

impl Facts {
    /// The contract's interfaces that it imports, by their short names. Some toolchains import all of them always.
    #[must_use]
    pub fn imports(&self) -> &[String] {
        &self.imports
    }

    /// It may use state.
    #[must_use]
    pub fn uses_state(&self) -> bool {
        self.imports.iter().any(|name| name == "state")
    }

    /// It may set timers.
    #[must_use]
    pub fn uses_timers(&self) -> bool {
        self.imports.iter().any(|name| name == "timers")
    }
}

impl Handler {
    /// The SHA-256 of the file, in lower-case hexadecimal.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.inner.digest
    }

    /// The same as bytes.
    #[must_use]
    pub fn digest_bytes(&self) -> [u8; 32] {
        let digit = |byte: u8| char::from(byte).to_digit(16).unwrap_or(0) as u8;
        let mut all = [0; 32];
        for (byte, pair) in all.iter_mut().zip(self.digest().as_bytes().chunks_exact(2)) {
            *byte = digit(pair[0]) << 4 | digit(pair[1]);
        }
        all
    }

    /// What its file shows about it.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.inner.facts
    }

    /// Its own metrics, over all instances.
    #[must_use]
    pub fn metrics(&self) -> &Arc<HandlerMetrics> {
        &self.inner.metrics
    }

    /// The same code, with metrics of its own: for runs that are not to count.
    #[must_use]
    pub fn apart(&self) -> Self {
        let Inner { host, pre, guest, digest, facts, .. } = &*self.inner;
        let (host, pre, guest) = (Arc::clone(host), pre.clone(), guest.clone());
        let (digest, facts) = (digest.clone(), facts.clone());
        Self { inner: Arc::new(Inner { host, pre, guest, metrics: Arc::default(), digest, facts }) }
    }

    /// Makes an instance and calls the handler's `open`.
    ///
    /// # Errors
    /// The handler refuses, traps or runs too long, or the host has no room.
    pub fn open(&self, setup: &Setup, limits: &Limits) -> Result<Instance, OpenError> {
        Instance::open(self, setup, limits).map_err(|kind| OpenError { handler: setup.handler.clone(), kind })
    }

    pub(super) fn load(host: &Arc<Host>, bytes: &[u8], digest: String) -> Result<Self, LoadErrorKind> {
        let shape = format::look(bytes)?;
        let kept = host.cache.as_ref().and_then(|cache| cache.get(&host.engine, &digest));
        let (component, new) = match kept {
            Some(component) => (component, false),
            None => (compile(host, &digest, bytes, &shape)?, true),
        };
        let handler = Self::linked(host, &component, digest)?;
        if let (true, Some(cache)) = (new, &host.cache) {
            cache.put(handler.digest(), &component);
        }
        Ok(handler)
    }

    /// The one whose file has this digest, if its compiled code is kept.
    pub(super) fn kept(host: &Arc<Host>, digest: &str) -> Result<Option<Self>, LoadErrorKind> {
        let kept = host.cache.as_ref().and_then(|cache| cache.get(&host.engine, digest));
        kept.map(|component| Self::linked(host, &component, digest.to_owned())).transpose()
    }

    fn linked(host: &Arc<Host>, component: &Component, digest: String) -> Result<Self, LoadErrorKind> {
        let ty = component.component_type();
        let facts = inspect(&host.engine, &ty)?;
        let differs = |e: wasmtime::Error| LoadErrorKind::WrongContract {
            missing: format!("{e:#}"),
            found: facts.imports.iter().map(|name| format!("import {name}")).collect(),
        };
        let mut linker = Cow::Borrowed(&host.linker);
        if ty.imports(&host.engine).any(|(name, _)| wasi::interface(name).is_some()) {
            wasi::link(linker.to_mut(), &host.engine, &ty).map_err(differs)?;
        }
        let pre = linker.instantiate_pre(component).map_err(differs)?;
        let guest = GuestIndices::new(&pre).map_err(differs)?;
        let host = Arc::clone(host);
        let metrics = Arc::default();
        Ok(Self { inner: Arc::new(Inner { host, pre, guest, metrics, digest, facts }) })
    }
}

impl std::fmt::Debug for Handler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handler")
            .field("digest", &self.inner.digest)
            .field("facts", &self.inner.facts)
            .finish_non_exhaustive()
    }
}

fn compile(host: &Host, digest: &str, bytes: &[u8], shape: &Shape) -> Result<Component, LoadErrorKind> {
    let component = match shape {
        Shape::Component => bytes.to_vec(),
        Shape::Module(module) => format::to_component(bytes, module)?,
    };
    host.compiler.compile(&host.engine, digest, component)
}

/// Checks imports and exports by name and by type, so that no later step has anything to say about them.
fn inspect(engine: &Engine, component: &types::Component) -> Result<Facts, LoadErrorKind> {
    let mut facts = Facts::default();
    for (name, _) in component.imports(engine) {
        match interface(name) {
            Some((_, version)) if !fits(version) => {
                return Err(LoadErrorKind::WrongVersion { has: name.to_owned(), needs: CONTRACT_VERSION });
            }
            Some(("types", _)) => {}
            Some((interface, _)) => facts.imports.push(interface.to_owned()),
            None if name == preview1::HOST || wasi::interface(name).is_some() => {}
            None => return Err(LoadErrorKind::ForbiddenImport { name: name.to_owned() }),
        }
    }
    let mut found = Vec::new();
    let mut other_version = None;
    for (name, item) in component.exports(engine) {
        found.push(name.to_owned());
        match (interface(name), item.ty) {
            (Some(("guest", version)), _) if !fits(version) => other_version = Some(name.to_owned()),
            (Some(("guest", _)), ComponentItem::ComponentInstance(guest)) => {
                check_guest(engine, component, &guest)?;
                return Ok(facts);
            }
            _ => {}
        }
    }
    if let Some(has) = other_version {
        return Err(LoadErrorKind::WrongVersion { has, needs: CONTRACT_VERSION });
    }
    Err(LoadErrorKind::WrongContract { missing: format!("the export {EXPORT} is missing"), found })
}

fn check_guest(
    engine: &Engine,
    component: &types::Component,
    guest: &types::ComponentInstance,
) -> Result<(), LoadErrorKind> {
    type Opened = Result<(), String>;
    let types = component.instance_type();
    for function in ["open", "process"] {
        let wrong = |missing: String| LoadErrorKind::WrongContract {
            missing,
            found: guest.exports(engine).map(|(name, _)| name.to_owned()).collect(),
        };
        let item = guest.get_export(engine, function).map(|item| item.ty);
        let Some(ComponentItem::ComponentFunc(f)) = item else {
            return Err(wrong(format!("{EXPORT}#{function} is missing")));
        };
        let checked = if function == "open" {
            f.typecheck::<(WireSetup<'_>,), (Opened,)>(&types)
        } else {
            f.typecheck::<(&[Message<'_>],), (Vec<WireOutcome>,)>(&types)
        };
        checked.map_err(|e| wrong(format!("{EXPORT}#{function} has other types: {e:#}")))?;
    }
    Ok(())
}

/// SHA-256 in lower-case hexadecimal.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}
