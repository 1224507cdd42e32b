//! A warm instance: opened once, called with batch after batch, dropped after its first failure.

use super::call::{Call, Ctx, Quota};
use super::contract::{Guest, Message, Source, WireFailure, WireOutcome, WireSetup};
use super::effects::Effects;
use super::error::{CallFailure, OpenErrorKind};
use super::handler::Handler;
use super::host::ticks;
use super::http::Reach;
use super::limits::{Limits, Meter};
use super::logging::LogQuota;
use super::long::{LONG, LongCall};
use super::message::{Answer, Delivery, Failure, Outcome, Setup, State};
use super::metrics::Handles;
use super::reads::Reads;
use super::text::{self, DETAIL_BYTES, clean};
use super::wasi::preview1::Adapter;
use super::wasi::{Console, World};
use crate::http::Fetch;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use wasmtime::{FrameInfo, PoolConcurrencyLimitError, Store, Trap, UpdateDeadline, WasmBacktrace};

/// Component-model handles that a guest may hold: the contract has no resources; of WASI, requests need the most, some four each.
const HANDLES: usize = 1000;
/// The handler's innermost functions that stand in a trap's detail, and those that are looked at for them.
const FRAMES: usize = 8;
const DEEPEST: usize = 64;
/// What functions of Rust's own libraries and of the SDK begin with.
const NOT_ITS_OWN: [&str; 7] = ["std::", "core::", "alloc::", "keyrail_sdk::", "__rust", "rust_", "cabi_"];
/// The code of a failure for a send to an output that the manifest does not name.
const UNKNOWN_OUTPUT: &str = "unknown-output";
/// How wasmtime tells of a panic.
const UNREACHABLE: &str = "wasm `unreachable` instruction executed";
const FRAME_BYTES: usize = 120;

/// An opened handler. It belongs to one thread at a time and to one pipeline.
pub struct Instance {
    store: Store<Ctx>,
    guest: Guest,
    adapter: Adapter,
    messages: Vec<Message<'static>>,
    dead: bool,
    /// No call takes longer, whatever its deadline.
    longest: Option<Duration>,
    // IMPORTANT: last, and kept as long as the store: it holds the code and the clock.
    handler: Handler,
}

impl Instance {
    /// Runs a batch: one outcome for each message, in order.
    ///
    /// `batch` is lent: whatever comes of the call, it holds the same deliveries afterwards. The caller keeps it
    /// within [`Setup::max_batch`]. `now_ms` is what the guest is told as the time; `deadline` is kept to
    /// within 20 ms.
    ///
    /// # Errors
    /// The instance is dead then and must be dropped; no message of the batch is to blame before it fails alone.
    pub fn process(
        &mut self,
        batch: &mut Vec<Delivery>,
        now_ms: i64,
        deadline: Duration,
    ) -> Result<Answer, CallFailure> {
        self.process_with(batch, &mut None, now_ms, deadline)
    }

    /// As [`Instance::process`], with the state of the messages' keys.
    ///
    /// # Errors
    /// As there; `state` holds then what the call left, of which nothing is meant to stand.
    pub fn process_with(
        &mut self,
        batch: &mut Vec<Delivery>,
        state: &mut Option<State>,
        now_ms: i64,
        deadline: Duration,
    ) -> Result<Answer, CallFailure> {
        if self.dead {
            return Err(CallFailure::Trap { detail: "the instance is dead after an earlier failure".to_owned() });
        }
        if batch.is_empty() {
            return Ok(Answer { outcomes: Vec::new(), effects: Effects::default() });
        }
        // The messages are read in place while the store lends them to host calls: hence one shared batch.
        let shared = Arc::new(std::mem::take(batch));
        self.store.data_mut().call.state = state.take();
        let result = self.run(&shared, now_ms, deadline);
        self.dead = result.is_err();
        *state = self.store.data_mut().call.state.take();
        self.store.data_mut().end();
        *batch = Arc::try_unwrap(shared).unwrap_or_else(|shared| shared.to_vec());
        result
    }

    /// What a slot of the last call read of state, also if that call failed. `None`: it is not recorded, see [`Setup::record`].
    pub fn take_reads(&mut self, slot: usize) -> Option<Reads> {
        self.store.data_mut().call.reads.get_mut(slot).map(std::mem::take)
    }

    /// Its memory has grown so far that a new instance should take its place, between batches: it has used three
    /// quarters of what `limits.memory` left it after `open`.
    #[must_use]
    pub fn worn(&self) -> bool {
        self.store.data().meter.worn()
    }

    /// From now on a call that takes long can be looked at there while it does.
    pub fn show_long(&mut self, long: LongCall) {
        self.store.data_mut().long = Some(long);
    }

    /// From now on its requests are answered there; without it each is denied.
    pub fn reach(&mut self, outside: Arc<dyn Fetch>) {
        self.store.data_mut().reach.outside = Some(outside);
    }

    /// How much of the last call's time it has waited for answers, at no cost to others: all that it waited, but for a hundredth of
    /// what follows one wait after the other.
    #[must_use]
    pub fn waited(&self) -> Duration {
        self.store.data().reach.spared()
    }

    /// The handler it was opened from.
    #[must_use]
    pub fn handler(&self) -> &Handler {
        &self.handler
    }

    pub(super) fn open(handler: &Handler, setup: &Setup, limits: &Limits) -> Result<Self, OpenErrorKind> {
        let inner = &handler.inner;
        let ctx = Ctx {
            setup: Arc::new(setup.clone()),
            limits: limits.clone(),
            meter: Meter::new(limits),
            log: LogQuota::default(),
            metrics: Handles::new(Arc::clone(&inner.metrics)),
            call: Call::default(),
            console: Console::default(),
            wasi: World::default(),
            long: None,
            reach: Reach::default(),
        };
        let mut store = Store::new(&inner.host.engine, ctx);
        store.limiter(|ctx| &mut ctx.meter);
        store.set_hostcall_fuel(limits.effective_host_call_bytes());
        store.set_max_component_handles(HANDLES);
        store.epoch_deadline_callback(|mut store| match store.data_mut().go_on() {
            0 => Err(Trap::Interrupt.into()),
            ticks => Ok(UpdateDeadline::Continue(ticks)),
        });
        store.set_epoch_deadline(ticks(limits.open_timeout));
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64);
        store.data_mut().begin(Arc::default(), now_ms, end_ms(now_ms, limits.open_timeout));
        let opened = inner.pre.instantiate(&mut store).and_then(|instance| {
            let guest = inner.guest.load(&mut store, &instance)?;
            let adapter = Adapter::of(&instance, &mut store)?;
            adapter.begin(&mut store)?;
            let answer = open_guest(&guest, &mut store, setup)?;
            Ok((guest, adapter, answer))
        });
        store.data_mut().end();
        match opened {
            Ok((guest, adapter, Ok(()))) => {
                store.data_mut().meter.opened();
                let (messages, longest) = (Vec::new(), None);
                Ok(Self { store, guest, adapter, messages, dead: false, longest, handler: handler.clone() })
            }
            Ok((.., Err(words))) => Err(OpenErrorKind::Refused(clean(&words, DETAIL_BYTES).into_owned())),
            Err(e) if e.downcast_ref::<PoolConcurrencyLimitError>().is_some() => {
                Err(OpenErrorKind::NoRoom(format!("{e:#}")))
            }
            Err(e) => Err(OpenErrorKind::Failed(failure(&e, store.data_mut()))),
        }
    }

    /// From now on a call is ended after this time if its deadline is later. The handler is told of its deadline alone.
    pub fn end_calls_after(&mut self, longest: Option<Duration>) {
        self.longest = longest;
    }

    fn run(&mut self, batch: &Arc<Vec<Delivery>>, now_ms: i64, deadline: Duration) -> Result<Answer, CallFailure> {
        let mut messages = relend(std::mem::take(&mut self.messages));
        messages.extend(batch.iter().map(message));
        let (all, first) = (ticks(self.longest.map_or(deadline, |longest| deadline.min(longest))), ticks(LONG));
        self.store.set_epoch_deadline(all.min(first));
        self.store.data_mut().call.ticks_left = all.saturating_sub(first);
        self.store.data_mut().begin(Arc::clone(batch), now_ms, end_ms(now_ms, deadline));
        let room = self.store.data().limits.memory_bytes;
        self.store.data_mut().reach.begin(deadline, room);
        let begun = self.adapter.begin(&mut self.store);
        let outcomes = begun.and_then(|()| self.guest.call_process(&mut self.store, &messages));
        self.messages = relend(messages);
        let outcomes = outcomes.map_err(|e| failure(&e, self.store.data_mut()))?;
        if outcomes.len() != batch.len() {
            return Err(CallFailure::WrongCount { expected: batch.len(), got: outcomes.len() });
        }
        let call = &mut self.store.data_mut().call;
        let effects = std::mem::take(&mut call.effects);
        call.room = effects.room();
        let unknown = std::mem::take(&mut call.unknown_outputs);
        let outputs = &self.store.data().setup.outputs;
        let decided = outcomes.into_iter().enumerate().map(|(slot, outcome)| match decide(outcome) {
            // It gave up on a message whose sends passed the limits: that is why.
            Outcome::DeadLetter(failure) if effects.was_over_quota(slot) => Outcome::Oversized(failure),
            Outcome::DeadLetter(failure) if failure.code == UNKNOWN_OUTPUT => {
                Outcome::DeadLetter(with_output(failure, unknown.get(&slot), outputs))
            }
            other => other,
        });
        Ok(Answer { outcomes: decided.collect(), effects })
    }
}

impl std::fmt::Debug for Instance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Instance").field("handler", &self.handler).field("dead", &self.dead).finish_non_exhaustive()
    }
}

/// The contract's error does not carry the name that was asked for; who reads the failure needs it.
fn with_output(failure: Failure, asked: Option<&String>, outputs: &[String]) -> Failure {
    let Some(asked) = asked else { return failure };
    let there = if outputs.is_empty() { "none".to_owned() } else { outputs.join(", ") };
    let told = format!("{}; asked for {asked:?}, the manifest names {there}", failure.detail);
    let told = told.strip_prefix("; ").unwrap_or(&told);
    Failure { detail: clean(told, DETAIL_BYTES).into_owned(), ..failure }
}

/// Empties the list and gives its memory to messages of another batch.
#[expect(clippy::unnecessary_filter_map, reason = "a filter can't change the lifetime")]
fn relend<'a>(mut messages: Vec<Message<'_>>) -> Vec<Message<'a>> {
    messages.clear();
    messages.into_iter().filter_map(|_| None).collect()
}

fn message(delivery: &Delivery) -> Message<'_> {
    let record = &delivery.record;
    Message {
        source: match &delivery.timer {
            Some(timer) => Source::Timer(&timer.name),
            None => Source::Topic(record.at.topic),
        },
        partition: record.at.partition.cast_unsigned(),
        offset: record.offset.cast_unsigned(),
        timestamp_ms: record.timestamp_ms,
        key: record.key(),
        value: record.value(),
        attempt: delivery.attempt,
    }
}

fn open_guest(guest: &Guest, store: &mut Store<Ctx>, setup: &Setup) -> wasmtime::Result<Result<(), String>> {
    let topics: Vec<&str> = setup.topics.iter().map(String::as_str).collect();
    let outputs: Vec<&str> = setup.outputs.iter().map(String::as_str).collect();
    let config: Vec<(&str, &str)> = setup.config.iter().map(|(k, v)| (&**k, &**v)).collect();
    let setup = WireSetup {
        handler: &setup.handler,
        topics: &topics,
        outputs: &outputs,
        config: &config,
        max_batch: setup.max_batch,
    };
    guest.call_open(store, setup)
}

fn end_ms(now_ms: i64, span: Duration) -> i64 {
    now_ms.saturating_add(i64::try_from(span.as_millis()).unwrap_or(i64::MAX))
}

fn decide(outcome: WireOutcome) -> Outcome {
    match outcome {
        WireOutcome::Done => Outcome::Done,
        WireOutcome::Skip => Outcome::Skip,
        WireOutcome::DeadLetter(failure) => Outcome::DeadLetter(tidy(failure)),
        WireOutcome::Retry(retry) => {
            Outcome::Retry { failure: tidy(retry.failure), delay_ms: retry.delay_ms, outage: retry.outage }
        }
    }
}

fn tidy(failure: WireFailure) -> Failure {
    Failure { code: text::code(&failure.code), detail: clean(&failure.detail, DETAIL_BYTES).into_owned() }
}

/// Names the failure of a call, with what the guest said before it.
fn failure(error: &wasmtime::Error, ctx: &mut Ctx) -> CallFailure {
    let failure = classify(error, &ctx.meter, &ctx.setup.handler);
    let said = ctx.console.said();
    with_last_words(failure, ctx.call.last_error.as_deref(), said.as_deref())
}

fn classify(error: &wasmtime::Error, meter: &Meter, handler: &str) -> CallFailure {
    if let Some(quota) = error.downcast_ref::<Quota>() {
        return CallFailure::HostCalls { detail: quota.to_string() };
    }
    if error.downcast_ref::<Trap>() == Some(&Trap::Interrupt) {
        return CallFailure::Timeout;
    }
    let cause = error.root_cause().to_string();
    // wasmtime keeps this error's type to itself.
    if cause.contains("fuel allocated for hostcalls has been exhausted") {
        return CallFailure::HostCalls { detail: "too much data in one call between handler and host".to_owned() };
    }
    let detail = detail(&cause, error.downcast_ref::<WasmBacktrace>(), handler);
    match meter.refused() {
        Some(refused) => CallFailure::Memory { detail: format!("{refused}; then: {detail}") },
        None => CallFailure::Trap { detail },
    }
}

/// A panic or an exception is a bare trap, but the SDKs log its words before it, and languages write them to the standard
/// error; other handlers may have logged what went wrong, too.
fn with_last_words(failure: CallFailure, logged: Option<&str>, said: Option<&str>) -> CallFailure {
    let CallFailure::Trap { detail } = failure else { return failure };
    let panic = logged.filter(|words| words.starts_with("panic: "));
    let detail = match (panic.or(said), logged) {
        (Some(words), _) => match detail.strip_prefix(UNREACHABLE) {
            Some(place) => format!("{words}{place}"),
            None => format!("{words}; {detail}"),
        },
        (None, Some(words)) => format!("{detail}; it last logged as an error: {words}"),
        (None, None) => detail,
    };
    CallFailure::Trap { detail: clean(&detail, DETAIL_BYTES).into_owned() }
}

/// The cause, then the handler's own functions from the innermost outwards. All of them are in the log at debug level.
fn detail(cause: &str, backtrace: Option<&WasmBacktrace>, handler: &str) -> String {
    let cause = clean(cause.strip_prefix("wasm trap: ").unwrap_or(cause), 1024);
    let frames: Vec<String> = backtrace.iter().flat_map(|b| b.frames()).take(DEEPEST).map(name).collect();
    if !frames.is_empty() {
        tracing::debug!(pipeline = handler, frames = frames.join(" < "), "{cause}");
    }
    format!("{cause}{}", place(&frames))
}

fn name(frame: &FrameInfo) -> String {
    match frame.func_name() {
        // Names of other languages, and those that are no mangled ones, come out as they are.
        Some(name) => clean(&format!("{:#}", rustc_demangle::demangle(name)), FRAME_BYTES).into_owned(),
        None => format!("function {}", frame.func_index()),
    }
}

/// Leaves out how Rust panics and how the SDK calls the handler, unless nothing else is there.
fn place(frames: &[String]) -> String {
    let is_own = |frame: &&String| {
        let path = frame.trim_start_matches('<');
        !frame.contains('#') && !NOT_ITS_OWN.iter().any(|start| path.starts_with(start))
    };
    let mut shown: Vec<&str> = frames.iter().filter(is_own).map(String::as_str).take(FRAMES).collect();
    if shown.is_empty() {
        shown = frames.iter().map(String::as_str).take(FRAMES).collect();
    }
    if shown.is_empty() { String::new() } else { format!(", in {}", shown.join(" < ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trap_carries_what_the_guest_said_last() {
        let trap = |detail: &str| CallFailure::Trap { detail: detail.to_owned() };
        let told = |words| with_last_words(trap("unreachable"), words, None);
        assert_eq!(told(Some("panic: no such order")), trap("panic: no such order; unreachable"));
        assert_eq!(told(Some("no rows")), trap("unreachable; it last logged as an error: no rows"));
        assert_eq!(told(None), trap("unreachable"));
        let panicked = trap("wasm `unreachable` instruction executed, in barista::serve");
        assert_eq!(
            with_last_words(panicked.clone(), Some("panic: no such cup"), Some("thread panicked")),
            trap("panic: no such cup, in barista::serve")
        );
        assert_eq!(
            with_last_words(panicked, Some("no rows"), Some("Traceback:\nKeyError: 'cup'")),
            trap("Traceback: KeyError: 'cup', in barista::serve")
        );
        assert_eq!(with_last_words(trap("exit"), None, Some("fatal")), trap("fatal; exit"));
        assert_eq!(with_last_words(CallFailure::Timeout, Some("panic: x"), Some("x")), CallFailure::Timeout);
    }

    #[test]
    fn a_trap_names_the_handler_s_own_functions() {
        let told = |frames: &[&str]| place(&frames.iter().map(|f| (*f).to_owned()).collect::<Vec<_>>());
        let panicked = [
            "__rustc::rust_panic",
            "std::panicking::panic_with_hook",
            "std::panicking::panic_handler::{closure#0}",
            "core::panicking::panic_fmt",
            "<alloc::vec::Vec<u8> as core::ops::index::Index<usize>>::index",
            "<barista::Order as core::fmt::Display>::fmt",
            "barista::serve",
            "keyrail_sdk::wasm::bindings::exports::keyrail::handler::guest::_export_process_cabi",
            "keyrail:handler/guest@0.1.0#process",
        ];
        assert_eq!(told(&panicked), ", in <barista::Order as core::fmt::Display>::fmt < barista::serve");
        assert_eq!(told(&["crash", "one"]), ", in crash < one", "other languages");
        assert_eq!(told(&panicked[..2]), ", in __rustc::rust_panic < std::panicking::panic_with_hook");
        assert_eq!(told(&[]), "");
        assert_eq!(told(&["descend"; 9]).matches("descend").count(), FRAMES);
    }
}
