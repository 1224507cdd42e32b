//! All that a build or a test needs and Cargo does not bring: system packages, Apache Kafka, the WebAssembly target,
//! the guests. Idempotent: what is there is kept. Everything fetched goes below the target folder.

mod assemblyscript;
mod c;
mod container;
mod cpp;
mod go;
mod guests;
mod js;
mod kafka;
mod maven;
mod npm;
mod packages;
mod python;
mod streams;
mod system;
mod tools;
mod wasm;
mod zig;

use crate::place::{Place, make};
use crate::say::say;
use std::fs::{File, TryLockError};
use std::path::PathBuf;

pub(crate) use tools::{deny, mutants};

/// A part of the set-up that is not there, and why. The tests that need it are skipped with this reason.
#[derive(Clone, Debug)]
pub(crate) struct Missing {
    pub(crate) part: &'static str,
    pub(crate) reason: String,
}

/// What set-up found or made.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ready {
    /// A Java runtime, 17 or later.
    pub(crate) java: Option<PathBuf>,
    /// The folder with Kafka's `libs` and `config`.
    pub(crate) kafka_home: Option<PathBuf>,
    /// The folder with a `NAME.wasm` for each guest.
    pub(crate) guests: Option<PathBuf>,
    /// A folder of Python's packages that build and check handlers in Python.
    pub(crate) python: Option<PathBuf>,
    /// The folder with the SDK for JavaScript as npm has it, and what it needs.
    pub(crate) js: Option<PathBuf>,
    /// The same of the SDK for AssemblyScript.
    pub(crate) assemblyscript: Option<PathBuf>,
    /// The folder of Buildah's storage, with a base for the container.
    pub(crate) containers: Option<PathBuf>,
    /// A folder of Python's packages that know the schemas of Compose and Kubernetes.
    pub(crate) schemas: Option<PathBuf>,
    /// The folder with Kafka Streams and the bench's program on it; nobody but the bench asks for it.
    pub(crate) streams: Option<PathBuf>,
    pub(crate) missing: Vec<Missing>,
}

impl Ready {
    /// The environment that the tests are given.
    pub(crate) fn env(&self, place: &Place) -> Vec<(&'static str, PathBuf)> {
        let found = [
            ("KEYRAIL_JAVA", self.java.clone()),
            ("KEYRAIL_KAFKA_HOME", self.kafka_home.clone()),
            ("KEYRAIL_GUESTS", self.guests.clone()),
            ("KEYRAIL_PYTHON", self.python.clone()),
            ("KEYRAIL_JS", self.js.clone()),
            ("KEYRAIL_ASSEMBLYSCRIPT", self.assemblyscript.clone()),
            ("KEYRAIL_CONTAINERS", self.containers.clone()),
            ("KEYRAIL_SCHEMAS", self.schemas.clone()),
            ("KEYRAIL_STREAMS", self.streams.clone()),
            ("KEYRAIL_WASM_ENV", self.guests.is_some().then(|| guests::environment(place))),
            ("KEYRAIL_BIN", Some(place.target.join("debug").join("keyrail"))),
        ];
        found.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }

    /// Kafka Streams as well, which takes 93 MB.
    pub(crate) fn with_streams(&mut self, place: &Place) -> Result<(), String> {
        let Some(java) = self.java.clone() else { return Ok(()) };
        let _lock = lock(place)?;
        say("set-up: Kafka Streams");
        self.streams = self.keep("streams", streams::home(place, &java));
        Ok(())
    }

    fn keep<T>(&mut self, part: &'static str, result: Result<T, String>) -> Option<T> {
        result
            .map_err(|reason| {
                say(&format!("{part}: MISSING: {reason}"));
                self.missing.push(Missing { part, reason });
            })
            .ok()
    }
}

/// Does all of the set-up. Fails only where nothing could be built; a part that cannot be had is in `missing`.
pub(crate) fn all(place: &Place) -> Result<Ready, String> {
    let _lock = lock(place)?;
    let mut ready = Ready::default();
    say("set-up: system packages");
    system::build_tools()?;
    say("set-up: Java and Apache Kafka");
    ready.java = ready.keep("java", system::java());
    if let Some(java) = ready.java.clone() {
        ready.kafka_home = ready.keep("kafka", kafka::home(place, &java));
    }
    say("set-up: WebAssembly guests");
    ready.guests = ready.keep("guests", guests::build(place, None));
    if let Some(folder) = ready.guests.clone() {
        say("set-up: handlers in C");
        ready.keep("c", c::build(place, &folder));
        say("set-up: handlers in Go");
        ready.keep("go", go::build(place, &folder));
        say("set-up: handlers in C++");
        ready.keep("c++", cpp::build(place, &folder));
        say("set-up: handlers in Python");
        ready.python = ready.keep("python", python::build(place, &folder));
        say("set-up: handlers in TypeScript");
        ready.js = ready.keep("js", js::build(place, &folder));
        say("set-up: handlers in Zig");
        ready.keep("zig", zig::build(place, &folder));
        say("set-up: handlers in AssemblyScript");
        ready.assemblyscript = ready.keep("assemblyscript", assemblyscript::build(place, &folder));
    }
    say("set-up: a base for the container, and schemas for what deploys it");
    ready.containers = ready.keep("containers", container::storage(place));
    ready.schemas = ready.keep("schemas", tools::schemas(place));
    Ok(ready)
}

/// What the demo needs: a C compiler and its handler.
pub(crate) fn demo(place: &Place) -> Result<PathBuf, String> {
    let _lock = lock(place)?;
    say("set-up: a C compiler");
    system::compiler()?;
    say("set-up: the handler, as WebAssembly");
    guests::build(place, Some("payments"))
}

/// The guests alone.
pub(crate) fn guests(place: &Place) -> Result<PathBuf, String> {
    let _lock = lock(place)?;
    let folder = guests::build(place, None)?;
    c::build(place, &folder)?;
    go::build(place, &folder)?;
    cpp::build(place, &folder)?;
    python::build(place, &folder)?;
    js::build(place, &folder)?;
    zig::build(place, &folder)?;
    assemblyscript::build(place, &folder)?;
    Ok(folder)
}

/// Java and Kafka alone, for a broker by hand.
pub(crate) fn broker(place: &Place) -> Result<(PathBuf, PathBuf), String> {
    let _lock = lock(place)?;
    let java = system::java()?;
    let home = kafka::home(place, &java)?;
    Ok((java, home))
}

/// Two set-ups at once would write the same files.
fn lock(place: &Place) -> Result<File, String> {
    make(&place.target)?;
    let path = place.target.join("setup.lock");
    let file = File::create(&path).map_err(|e| format!("cannot write {}: {e}", path.display()))?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => say("waiting for another set-up in this target folder"),
        Err(TryLockError::Error(e)) => return Err(format!("cannot lock {}: {e}", path.display())),
    }
    file.lock().map_err(|e| format!("cannot lock {}: {e}", path.display()))?;
    Ok(file)
}
