//! Log lines of handlers under test. The `log` crate knows one logger a process, tests run in many threads: each thread
//! has its own host while it runs a handler.

use std::cell::RefCell;
use std::sync::Once;

use log::kv::{self, VisitSource};

use super::World;

/// A line that a handler logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// Its level.
    pub level: log::Level,
    /// Its text.
    pub message: String,
    /// Its key-value pairs in order.
    pub fields: Vec<(String, String)>,
}

thread_local! {
    static CURRENT: RefCell<Option<World>> = const { RefCell::new(None) };
}

/// Runs `body`; what it logs goes to `world`.
pub(super) fn scope<T>(world: &World, body: impl FnOnce() -> T) -> T {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        // Fails if the test has a logger of its own, which then gets the lines.
        if log::set_logger(&Capture).is_ok() {
            log::set_max_level(log::LevelFilter::Trace);
        }
    });
    struct Restore(Option<World>);
    impl Drop for Restore {
        fn drop(&mut self) {
            CURRENT.set(self.0.take());
        }
    }
    let _restore = Restore(CURRENT.replace(Some(world.clone())));
    body()
}

struct Capture;

impl log::Log for Capture {
    fn enabled(&self, _metadata: &log::Metadata<'_>) -> bool {
        CURRENT.with_borrow(Option::is_some)
    }

    fn log(&self, record: &log::Record<'_>) {
        CURRENT.with_borrow(|world| {
            let Some(world) = world else { return };
            let mut fields = Fields(Vec::new());
            // `Fields` never fails, so neither does this.
            let _infallible = record.key_values().visit(&mut fields);
            let line = LogLine { level: record.level(), message: record.args().to_string(), fields: fields.0 };
            world.edit(|inner| inner.logs.push(line));
        });
    }

    fn flush(&self) {}
}

struct Fields(Vec<(String, String)>);

impl<'kvs> VisitSource<'kvs> for Fields {
    fn visit_pair(&mut self, key: kv::Key<'kvs>, value: kv::Value<'kvs>) -> Result<(), kv::Error> {
        self.0.push((key.to_string(), value.to_string()));
        Ok(())
    }
}
