//! The engine, and the thread that makes its clock tick.

use super::cache::Cache;
use super::call::Ctx;
use super::compiler::{Compiler, LIMIT};
use super::contract;
use super::error::{LoadError, LoadErrorKind};
use super::handler::{Handler, sha256_hex};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use wasmtime::component::Linker;
use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Strategy, WasmBacktraceDetails};

/// How long one tick of the engine's clock is: a call's deadline is kept to within one.
const TICK: Duration = Duration::from_millis(10);
/// A guest's stack. The thread that calls it needs this much and its own.
const STACK_BYTES: usize = 512 << 10;
/// The most linear memory that one instance can be given.
const MEMORY_BYTES: usize = 4 << 30;

/// How to set up a [`Host`].
#[derive(Debug, Clone, Default)]
pub struct HostOptions {
    /// Where compiled code is kept between starts; `None`: nowhere. The host makes a private folder in it.
    pub cache_dir: Option<PathBuf>,
}

/// The engine: one per process. Handlers and instances keep it alive; with the last of them its clock stops.
pub struct Host {
    pub(super) engine: Engine,
    pub(super) linker: Linker<Ctx>,
    pub(super) cache: Option<Cache>,
    pub(super) compiler: Compiler,
    _ticker: Ticker,
}

impl Host {
    /// Sets up the engine and starts its clock.
    ///
    /// A cache folder that can't be used is no error: the host warns and compiles at each start.
    ///
    /// # Errors
    /// [`LoadErrorKind::Host`] when the engine or its thread can't be made.
    pub fn new(options: HostOptions) -> Result<Arc<Self>, LoadError> {
        Self::with(engine(), options)
    }

    fn with(engine: wasmtime::Result<Engine>, options: HostOptions) -> Result<Arc<Self>, LoadError> {
        let failed = |detail: String| LoadError { handler: String::new(), kind: LoadErrorKind::Host { detail } };
        let engine = engine.map_err(|e| failed(format!("{e:#}")))?;
        let linker = contract::linker(&engine).map_err(|e| failed(format!("{e:#}")))?;
        let cache = options.cache_dir.and_then(|dir| match Cache::open(&dir, &engine) {
            Ok(cache) => Some(cache),
            Err(reason) => {
                let dir = dir.display();
                tracing::warn!("compiled handlers are not kept in {dir}: {reason}; each start compiles anew");
                None
            }
        });
        let ticker = Ticker::start(engine.clone()).map_err(|e| failed(format!("no thread for its clock: {e}")))?;
        Ok(Arc::new(Self { engine, linker, cache, compiler: Compiler::new(LIMIT), _ticker: ticker }))
    }

    /// Loads a handler: a component, or a core module that implements the contract. `name` stands in errors.
    ///
    /// Compiles on threads of its own, seconds for a large file, unless the cache has it. What takes more than two minutes is not
    /// waited for.
    ///
    /// # Errors
    /// Says what the file has and what it needs.
    pub fn load(self: &Arc<Self>, name: &str, bytes: &[u8]) -> Result<Handler, LoadError> {
        self.load_known(name, bytes, sha256_hex(bytes))
    }

    /// A handler of which nothing is known but the digest of its file, if this host has kept its compiled code.
    ///
    /// # Errors
    /// What is kept does not fit to this host.
    pub fn load_kept(self: &Arc<Self>, name: &str, digest: &str) -> Result<Option<Handler>, LoadError> {
        Handler::kept(self, digest).map_err(|kind| LoadError { handler: name.to_owned(), kind })
    }

    /// As [`Host::load`], of bytes whose digest is known: [`Handler::digest`].
    pub(crate) fn load_known(self: &Arc<Self>, name: &str, bytes: &[u8], digest: String) -> Result<Handler, LoadError> {
        Handler::load(self, bytes, digest).map_err(|kind| LoadError { handler: name.to_owned(), kind })
    }
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").field("cache", &self.cache).finish_non_exhaustive()
    }
}

/// A time span in ticks, rounded up, and one more since the current tick has partly passed.
pub(super) fn ticks(span: Duration) -> u64 {
    let ticks = span.as_nanos().div_ceil(TICK.as_nanos());
    u64::try_from(ticks).unwrap_or(u64::MAX / 2).min(u64::MAX / 2) + 1
}

/// Pooled instances where the address space allows it, else instances on demand.
fn engine() -> wasmtime::Result<Engine> {
    let mut pooled = config();
    pooled.allocation_strategy(InstanceAllocationStrategy::Pooling(pool()));
    let reason = match Engine::new(&pooled) {
        Ok(engine) => return Ok(engine),
        Err(reason) => reason,
    };
    tracing::warn!(
        "address space is limited, so handlers start and run slower: {reason:#}; lift the limit (ulimit -v) to avoid it"
    );
    on_demand()
}

/// Needs little address space: memories start small and move when they grow.
fn on_demand() -> wasmtime::Result<Engine> {
    let mut config = config();
    config.memory_reservation(0).memory_guard_size(64 << 10).memory_reservation_for_growth(1 << 20);
    config.gc_heap_reservation(0).gc_heap_guard_size(64 << 10).gc_heap_reservation_for_growth(1 << 20);
    Engine::new(&config)
}

fn config() -> Config {
    let mut config = Config::new();
    config.strategy(Strategy::Cranelift).parallel_compilation(true);
    config.epoch_interruption(true).consume_fuel(false).concurrency_support(false);
    config.max_wasm_stack(STACK_BYTES);
    config.wasm_backtrace_details(WasmBacktraceDetails::Disable).wasm_backtrace_max_frames(NonZeroUsize::new(20));
    config.native_unwind_info(false);
    // What languages need, and no more.
    config.wasm_gc(true).wasm_function_references(true).wasm_exceptions(true);
    config.wasm_memory64(false).wasm_custom_page_sizes(false).shared_memory(false);
    config.wasm_component_model_map(true).wasm_component_model_implements(true);
    // A run can be repeated to the letter on any machine.
    config.relaxed_simd_deterministic(true);
    config
}

fn pool() -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    // Core instances count, and a Python component has 14 of them.
    pool.total_component_instances(1000).total_core_instances(10_000);
    pool.total_memories(1000).total_tables(4000).total_gc_heaps(1000);
    pool.max_memory_size(MEMORY_BYTES).table_elements(100_000);
    pool.max_core_instance_size(8 << 20).max_component_instance_size(8 << 20);
    pool.max_memories_per_component(16).max_tables_per_component(64).max_core_instances_per_component(100);
    pool.max_memories_per_module(4).max_tables_per_module(16);
    pool
}

/// Advances the engine's epoch until it is dropped.
struct Ticker {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    fn start(engine: Engine) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let run = move || {
            let mut next = Instant::now() + TICK;
            while !seen.load(Ordering::Relaxed) {
                // Parking may end for no reason; a tick that comes early would cut a call short.
                let now = Instant::now();
                if now < next {
                    std::thread::park_timeout(next - now);
                    continue;
                }
                engine.increment_epoch();
                next = now + TICK;
            }
        };
        let thread = std::thread::Builder::new().name("wasm-clock".to_owned()).stack_size(64 << 10).spawn(run)?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let Some(thread) = self.thread.take() else { return };
        thread.thread().unpark();
        if thread.join().is_err() {
            tracing::error!("the WebAssembly host's clock panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test's failure is a panic")]
    use super::*;

    #[test]
    fn a_span_in_ticks_never_ends_early() {
        assert_eq!(ticks(Duration::ZERO), 1);
        assert_eq!(ticks(Duration::from_millis(1)), 2);
        assert_eq!(ticks(Duration::from_millis(100)), 11);
        assert_eq!(ticks(Duration::MAX), u64::MAX / 2 + 1);
    }

    #[test]
    fn instances_on_demand_run_the_same() {
        use crate::wasm::tests::{DEADLINE, NOW_MS, batch, bytes, setup};
        use crate::wasm::{CallFailure, Limits, Outcome};
        let host = Host::with(on_demand(), HostOptions::default()).unwrap();
        let handler = host.load("hostile", &bytes("hostile")).unwrap();
        let open = || handler.open(&setup("hostile"), &Limits::default()).unwrap();
        let answer = open().process(&mut batch(&["fine"]), NOW_MS, DEADLINE).unwrap();
        assert_eq!(answer.outcomes, [Outcome::Done]);
        let failure = open().process(&mut batch(&["m"]), NOW_MS, DEADLINE).unwrap_err();
        assert!(matches!(failure, CallFailure::Memory { .. }), "{failure}");
        let failure = open().process(&mut batch(&["l"]), NOW_MS, Duration::from_millis(50)).unwrap_err();
        assert_eq!(failure, CallFailure::Timeout);
    }

    #[test]
    fn the_clock_stops_with_the_host() {
        let host = Host::new(HostOptions::default()).unwrap();
        let engine = host.engine.weak();
        drop(host);
        assert!(engine.upgrade().is_none(), "its thread, which holds the engine, is gone");
    }
}
