//! Compiles, and waits for that only so long: what serves pipelines must not stand still for a file that keeps a compiler busy.
//!
//! A compilation can't be ended. One that is not waited for any more goes on on its own thread, until the limits on what a file
//! may hold end it; meanwhile the same file is not begun a second time.

use super::error::LoadErrorKind;
use crossbeam_channel::{RecvTimeoutError, bounded};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use wasmtime::Engine;
use wasmtime::component::Component;

/// Python's interpreter with its libraries, 18 MB, takes some ten seconds on a slow machine.
pub(super) const LIMIT: Duration = Duration::from_secs(120);
/// The compiler goes into what is nested.
const STACK_BYTES: usize = 8 << 20;

/// See the module.
#[derive(Debug)]
pub(super) struct Compiler {
    limit: Duration,
    /// Digests of files that are compiled now.
    busy: Arc<Mutex<BTreeSet<String>>>,
}

/// A file is compiled as long as this is there.
struct Busy {
    digest: String,
    all: Arc<Mutex<BTreeSet<String>>>,
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.digest);
    }
}

impl Compiler {
    pub(super) fn new(limit: Duration) -> Self {
        Self { limit, busy: Arc::default() }
    }

    /// `digest` is that of the file; `bytes` are a component.
    pub(super) fn compile(&self, engine: &Engine, digest: &str, bytes: Vec<u8>) -> Result<Component, LoadErrorKind> {
        let slow = || LoadErrorKind::TooSlow { limit: self.limit };
        let is_new = self.busy.lock().unwrap_or_else(PoisonError::into_inner).insert(digest.to_owned());
        if !is_new {
            return Err(slow());
        }
        let busy = Busy { digest: digest.to_owned(), all: self.busy.clone() };
        let ((to, from), engine) = (bounded(1), engine.clone());
        let run = move || {
            let result = Component::new(&engine, &bytes);
            drop(busy);
            // Where nobody waits any more the next look begins anew, and finds what is kept or compiles again.
            drop(to.send(result));
        };
        let failed = |detail: String| LoadErrorKind::Compile { detail };
        std::thread::Builder::new()
            .name("wasm-compile".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(run)
            .map_err(|e| LoadErrorKind::Host { detail: format!("no thread to compile: {e}") })?;
        match from.recv_timeout(self.limit) {
            Ok(result) => result.map_err(|e| failed(format!("{e:#}"))),
            Err(RecvTimeoutError::Timeout) => Err(slow()),
            Err(RecvTimeoutError::Disconnected) => Err(failed("the compiler panicked".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test's failure is a panic")]
    use super::super::format::{Shape, look, to_component};
    use super::super::tests::{bytes, host};
    use super::*;
    use std::time::Instant;

    #[test]
    fn what_takes_too_long_is_not_waited_for_and_not_begun_twice() {
        let module = bytes("hostile");
        let Shape::Module(shape) = look(&module).unwrap() else { unreachable!() };
        let component = to_component(&module, &shape).unwrap();
        let engine = &host().engine;
        let patient = Compiler::new(LIMIT);
        patient.compile(engine, "a", component.clone()).unwrap();
        assert!(patient.busy.lock().unwrap().is_empty());
        let hasty = Compiler::new(Duration::ZERO);
        let told = hasty.compile(engine, "a", component.clone()).unwrap_err().to_string();
        assert!(told.starts_with("it takes more than 0 s to compile"), "{told}");
        // It goes on until it is through; then it is begun anew.
        let until = Instant::now() + Duration::from_secs(60);
        while !hasty.busy.lock().unwrap().is_empty() {
            assert!(Instant::now() < until && hasty.compile(engine, "a", Vec::new()).is_err());
        }
        let broken = patient.compile(engine, "b", b"no component".to_vec()).unwrap_err();
        assert!(matches!(broken, LoadErrorKind::Compile { .. }), "{broken}");
    }
}
