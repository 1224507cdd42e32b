//! The real host: the contract's imports and exports, and where log lines and panics go.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::panic::PanicHookInfo;

use log::kv::{self, VisitSource};

use crate::contract;
use crate::error::Error;
use crate::handler::Program;
use crate::host::{Entries, Host, Output};
use crate::http::{Reason, Request, Response};
use crate::message::{Header, Message};
use crate::metric::Kind;
use crate::outcome::chain;
use crate::setup::Setup;
use bindings::keyrail::handler::{context, emit, http, log as host_log, metrics, state, timers, types};

#[allow(unsafe_code, reason = "the canonical ABI is raw memory; the generator vouches for it")]
#[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated")]
pub mod bindings {
    wit_bindgen::generate!({
        path: "wit",
        world: "handler",
        // Borrowed parameters: a record goes out without a copy.
        ownership: Borrowing { duplicate_if_necessary: true },
        with: {
            "keyrail:handler/types@0.1.0/source": crate::message::Source,
            "keyrail:handler/types@0.1.0/message": crate::message::Message,
            "keyrail:handler/types@0.1.0/failure": crate::contract::Failure,
            "keyrail:handler/types@0.1.0/retry": crate::contract::Retry,
            "keyrail:handler/types@0.1.0/outcome": crate::contract::Outcome,
            "keyrail:handler/types@0.1.0/setup": crate::contract::Setup,
            "keyrail:handler/types@0.1.0/error": crate::error::Error,
            "keyrail:handler/http@0.1.0/error": crate::http::Reason,
        },
        generate_all,
        pub_export_macro: true,
    });
}

/// The imports of the contract.
#[derive(Clone, Copy)]
pub(crate) struct Imports;

impl Host for Imports {
    fn running(&self, message: Option<&Message>) {
        RUNNING.set(message.map(|message| (message.partition, message.offset)));
    }

    fn id(&self, slot: u32) -> String {
        context::id(slot)
    }

    fn headers(&self, slot: u32) -> Vec<Header> {
        context::headers(slot).into_iter().map(|header| Header { name: header.name, value: header.value }).collect()
    }

    fn header_value(&self, slot: u32, name: &str) -> Option<Vec<u8>> {
        context::header_value(slot, name)
    }

    fn follows_dead_letter(&self, slot: u32) -> bool {
        context::follows_dead_letter(slot)
    }

    fn now_ms(&self) -> i64 {
        context::now_ms()
    }

    fn random(&self, slot: u32) -> u64 {
        context::random(slot)
    }

    fn deadline_ms(&self) -> i64 {
        context::deadline_ms()
    }

    fn send(&self, slot: u32, output: &Output<'_>) -> Result<(), Error> {
        let headers: Vec<_> =
            output.headers.iter().map(|(name, value)| types::HeaderParam { name, value: value.as_deref() }).collect();
        let output = emit::Output {
            to: output.to,
            key: output.key.as_deref(),
            value: output.value.as_deref(),
            headers: &headers,
            forward_headers: output.forward_headers,
            timestamp_ms: output.timestamp_ms,
            delay_ms: output.delay_ms,
        };
        emit::send(slot, output)
    }

    fn state_get(&self, slot: u32, name: &str) -> Result<Option<Vec<u8>>, Error> {
        state::get(slot, name)
    }

    fn state_put(&self, slot: u32, name: &str, value: &[u8], ttl_ms: Option<u64>) -> Result<(), Error> {
        state::put(slot, name, value, ttl_ms)
    }

    fn state_delete(&self, slot: u32, name: &str) -> Result<(), Error> {
        state::delete(slot, name)
    }

    fn state_scan(&self, slot: u32, prefix: &str, after: Option<&str>, limit: u32) -> Result<Entries, Error> {
        state::scan(slot, prefix, after, limit)
    }

    fn timer_set(&self, slot: u32, name: &str, at_ms: i64, payload: &[u8]) -> Result<(), Error> {
        timers::set(slot, name, at_ms, payload)
    }

    fn timer_cancel(&self, slot: u32, name: &str) -> Result<(), Error> {
        timers::cancel(slot, name)
    }

    fn fetch_all(&self, requests: Vec<(u32, Request)>) -> Vec<Result<Response, Reason>> {
        let headers: Vec<Vec<_>> = requests
            .iter()
            .map(|(_, request)| request.headers().iter().map(|(name, value)| (&**name, &**value)).collect())
            .collect();
        let asked: Vec<_> = requests
            .iter()
            .zip(&headers)
            .map(|((slot, request), headers)| http::Request {
                slot: *slot,
                method: request.method(),
                url: request.url(),
                headers,
                body: request.body_bytes(),
                timeout_ms: request.timeout_set().map(crate::millis),
            })
            .collect();
        let response = |r: http::Response| Response::of(r.status, r.headers, r.body);
        http::fetch_all(&asked).into_iter().map(|fetched| fetched.map(response)).collect()
    }

    fn metric_register(&self, name: &str, kind: Kind, labels: &[(&str, &str)]) -> u32 {
        let kind = match kind {
            Kind::Counter => metrics::Kind::Counter,
            Kind::Gauge => metrics::Kind::Gauge,
            Kind::Histogram => metrics::Kind::Histogram,
        };
        metrics::register(name, kind, labels)
    }

    fn metric_observe(&self, metric: u32, value: f64) {
        metrics::observe(metric, value);
    }
}

/// A handler's one instance in this linear memory.
pub struct Instance<P>(RefCell<Option<(Setup, P)>>);

impl<P: Program> Instance<P> {
    /// Not opened yet.
    #[expect(clippy::new_without_default, reason = "a default can't be const")]
    pub const fn new() -> Self {
        Instance(RefCell::new(None))
    }

    /// The contract's `open`.
    pub fn open(&self, data: contract::Setup) -> Result<(), String> {
        std::panic::set_hook(Box::new(report_panic));
        log_to_host();
        let setup = Setup { host: Imports, data };
        let program = P::open(&setup).map_err(|error| chain(&*error))?;
        self.0.replace(Some((setup, program)));
        Ok(())
    }

    /// The contract's `process`.
    pub fn process(&self, batch: Vec<Message>) -> Vec<contract::Outcome> {
        let mut instance = self.0.borrow_mut();
        #[expect(clippy::expect_used, reason = "the contract has `open` first; without it there is nothing to run")]
        let (setup, program) = instance.as_mut().expect("the host called `process` before `open` succeeded");
        program.process(setup, &batch)
    }
}

thread_local! {
    /// Partition and offset of the message being handled.
    static RUNNING: Cell<Option<(u32, u64)>> = const { Cell::new(None) };
}

/// A panic aborts, which the host sees as a trap without a word: what it says must be told first.
fn report_panic(panic: &PanicHookInfo<'_>) {
    let what = panic.payload_as_str().unwrap_or("(no text)");
    let place = panic.location().map(ToString::to_string);
    let mut fields = running();
    fields.extend(place.map(|place| (Cow::Borrowed("location"), place)));
    write(host_log::Level::Error, &format!("panic: {what}"), &fields);
}

type Field = (Cow<'static, str>, String);

fn running() -> Vec<Field> {
    match RUNNING.get() {
        Some((partition, offset)) => {
            vec![("partition".into(), partition.to_string()), ("offset".into(), offset.to_string())]
        }
        None => Vec::new(),
    }
}

fn write(level: host_log::Level, message: &str, fields: &[Field]) {
    let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (&**name, &**value)).collect();
    host_log::write(level, message, &fields);
}

fn log_to_host() {
    // Fails if the handler brought a logger of its own, which then stands.
    if log::set_logger(&HostLog).is_ok() {
        log::set_max_level(match host_log::threshold() {
            host_log::Level::Trace => log::LevelFilter::Trace,
            host_log::Level::Debug => log::LevelFilter::Debug,
            host_log::Level::Info => log::LevelFilter::Info,
            host_log::Level::Warn => log::LevelFilter::Warn,
            host_log::Level::Error => log::LevelFilter::Error,
            host_log::Level::Critical => log::LevelFilter::Off,
        });
    }
}

struct HostLog;

impl log::Log for HostLog {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &log::Record<'_>) {
        let level = match record.level() {
            log::Level::Trace => host_log::Level::Trace,
            log::Level::Debug => host_log::Level::Debug,
            log::Level::Info => host_log::Level::Info,
            log::Level::Warn => host_log::Level::Warn,
            log::Level::Error => host_log::Level::Error,
        };
        let mut fields = Fields(running());
        fields.0.push(("target".into(), record.target().to_owned()));
        // `Fields` never fails, so neither does this.
        let _infallible = record.key_values().visit(&mut fields);
        write(level, &record.args().to_string(), &fields.0);
    }

    fn flush(&self) {}
}

struct Fields(Vec<Field>);

impl<'kvs> VisitSource<'kvs> for Fields {
    fn visit_pair(&mut self, key: kv::Key<'kvs>, value: kv::Value<'kvs>) -> Result<(), kv::Error> {
        self.0.push((Cow::Owned(key.to_string()), value.to_string()));
        Ok(())
    }
}
