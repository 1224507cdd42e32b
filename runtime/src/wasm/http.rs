//! The import `http`.

use super::call::{Ctx, Quota, write_id};
use super::timers::TRACE;
use crate::http::{Error, Fetch, Fetched, Request, Response, Scope, fetch_all};
use std::sync::Arc;
use std::time::{Duration, Instant};
use wasmtime::component::{ComponentType, Lift, Linker, Lower};
use wasmtime::{Result, StoreContextMut};

type Store<'a> = StoreContextMut<'a, Ctx>;
type WireHeaders = Vec<(String, Vec<u8>)>;

const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Methods that change nothing, as RFC 9110 calls them: safe.
const SAFE: [&str; 4] = ["GET", "HEAD", "OPTIONS", "TRACE"];
/// A wait that follows another counts this part of it as work.
const WAIT_SHARE: u32 = 100;
/// What is left of a call's time once its last request has run out of it: the handler can still say what becomes of its messages.
const LEFT: u32 = 10;

#[derive(ComponentType, Lift)]
#[component(record)]
struct WireRequest {
    slot: u32,
    method: String,
    url: String,
    headers: WireHeaders,
    body: Option<Vec<u8>>,
    #[component(name = "timeout-ms")]
    timeout_ms: Option<u64>,
}

#[derive(ComponentType, Lower)]
#[component(record)]
struct WireResponse {
    status: u16,
    headers: WireHeaders,
    body: Vec<u8>,
}

#[derive(ComponentType, Lower)]
#[component(variant)]
enum WireFault {
    #[component(name = "denied")]
    Denied(String),
    #[component(name = "invalid")]
    Invalid(String),
    #[component(name = "timeout")]
    Timeout,
    #[component(name = "unreachable")]
    Unreachable(String),
    #[component(name = "too-large")]
    TooLarge,
}

/// An instance's way to the servers that its manifest allows.
#[derive(Default)]
pub(super) struct Reach {
    /// `None`: the manifest allows none.
    pub(super) outside: Option<Arc<dyn Fetch>>,
    /// The call's requests; `None`: there is none, or it may make none.
    pub(super) scope: Option<Arc<Scope>>,
    /// How long the call has waited for answers, and the longest of these waits.
    pub(super) waited: Duration,
    pub(super) longest: Duration,
    /// How many requests that may change something each slot has made.
    changing: Vec<u32>,
}

impl Reach {
    /// A call begins that may take so long, and whose answers may hold so many bytes.
    pub(super) fn begin(&mut self, deadline: Duration, room: u64) {
        let until = self.outside.as_ref().and_then(|_| Instant::now().checked_add(deadline - deadline / LEFT));
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        self.scope = until.map(|until| Arc::new(Scope::new(until, room)));
        (self.waited, self.longest) = (Duration::ZERO, Duration::ZERO);
        self.changing.clear();
    }

    /// The call is over, and so is what it asked for and did not wait for.
    pub(super) fn end(&mut self) {
        if let Some(scope) = self.scope.take() {
            scope.end();
        }
    }

    /// Ends a call whose answers are too much for its instance.
    pub(super) fn check_room(&self, limit: u64) -> Result<()> {
        match &self.scope {
            Some(scope) if scope.is_full() => Err(wasmtime::Error::new(Quota::Answers(limit))),
            _ => Ok(()),
        }
    }

    /// It has waited so long at once.
    pub(super) fn wait(&mut self, took: Duration) {
        self.waited += took;
        self.longest = self.longest.max(took);
    }

    /// How much of the call's time is none that it costs: all of its longest wait, and nearly all of the others, so that a call which waits for
    /// one answer after the other has as many messages as it waits for in a second, not in 10 ms.
    pub(super) fn spared(&self) -> Duration {
        self.waited - (self.waited - self.longest) / WAIT_SHARE
    }

    /// The slot's next request is its so-manieth that may change something.
    fn count(&mut self, slot: usize) -> u32 {
        if self.changing.len() <= slot {
            self.changing.resize(slot + 1, 0);
        }
        self.changing[slot] += 1;
        self.changing[slot]
    }
}

pub(super) fn link(linker: &mut Linker<Ctx>) -> Result<()> {
    let mut http = linker.instance("keyrail:handler/http@0.1.0")?;
    http.func_wrap("fetch-all", |mut store: Store<'_>, (requests,): (Vec<WireRequest>,)| {
        let ctx = store.data_mut();
        let mut all = Vec::with_capacity(requests.len());
        ctx.call.charge()?;
        for request in requests {
            let slot = ctx.call.enter(request.slot)?;
            let mut headers = request.headers;
            add_own(ctx, slot, &request.method, &mut headers)?;
            let timeout = request.timeout_ms.map(Duration::from_millis);
            let (method, url, body) = (request.method, request.url, request.body);
            all.push(Request { method, url, headers, body, slot: Some(request.slot), timeout });
        }
        let fetched = ask(&mut ctx.reach, all);
        ctx.reach.check_room(ctx.limits.memory_bytes)?;
        let mut answers = Vec::with_capacity(fetched.len());
        for fetched in fetched {
            ctx.call.charge_bytes(fetched.as_ref().map_or(0, |r| r.body.len()))?;
            answers.push(fetched.map(response).map_err(fault));
        }
        Ok((answers,))
    })
}

fn ask(reach: &mut Reach, requests: Vec<Request>) -> Vec<Fetched> {
    let (Some(outside), Some(scope)) = (&reach.outside, &reach.scope) else {
        return requests.iter().map(|_| Err(not_granted())).collect();
    };
    let started = Instant::now();
    let answers = fetch_all(outside.as_ref(), requests, scope);
    reach.wait(started.elapsed());
    answers
}

/// Of any request, where the manifest allows none.
pub(super) fn not_granted() -> Error {
    let why = "the manifest grants no HTTP: add the host to capabilities.http, as in http = [\"api.example.com:443\"]";
    Error::Denied(why.to_owned())
}

/// Adds the headers that a handler leaves to the host.
pub(super) fn add_own(ctx: &mut Ctx, slot: usize, method: &str, headers: &mut WireHeaders) -> Result<()> {
    let delivery = &ctx.call.batch[slot];
    let is_set = |wanted: &[u8], headers: &WireHeaders| {
        headers.iter().any(|(name, _)| name.as_bytes().eq_ignore_ascii_case(wanted))
    };
    let number = if SAFE.contains(&method) { 1 } else { ctx.reach.count(slot) };
    if !is_set(IDEMPOTENCY_KEY.as_bytes(), headers) {
        let mut id = String::new();
        write_id(&mut id, delivery, &ctx.setup)?;
        if number > 1 {
            id = format!("{id}-{number}");
        }
        headers.push((IDEMPOTENCY_KEY.to_owned(), sendable(&id)));
    }
    if !TRACE.iter().any(|name| is_set(name, headers)) {
        for name in TRACE {
            // Whoever sent the record may have written anything there.
            let value =
                delivery.record.header(name).flatten().filter(|value| value.iter().all(|b| (b' '..=b'~').contains(b)));
            if let Some(value) = value {
                headers.push((String::from_utf8_lossy(name).into_owned(), value.to_vec()));
            }
        }
    }
    Ok(())
}

/// As a header's value: a timer may be called anything.
fn sendable(id: &str) -> Vec<u8> {
    let mut value = Vec::with_capacity(id.len());
    for byte in id.bytes() {
        if byte.is_ascii_control() || byte == b'%' {
            value.extend_from_slice(format!("%{byte:02X}").as_bytes());
        } else {
            value.push(byte);
        }
    }
    value
}

fn response(Response { status, headers, body }: Response) -> WireResponse {
    WireResponse { status, headers, body }
}

fn fault(error: Error) -> WireFault {
    match error {
        Error::Denied(why) => WireFault::Denied(why),
        Error::Invalid(why) => WireFault::Invalid(why),
        Error::Timeout => WireFault::Timeout,
        Error::Unreachable(why) => WireFault::Unreachable(why),
        Error::TooLarge => WireFault::TooLarge,
    }
}
