//! A request and what comes of it: `outgoing-handler` and `future-incoming-response`.

use super::request::{CONTENT_LENGTH, Content, Of, Options, OptionsHandle, Outgoing, RequestHandle};
use super::response::{Answer, AnswerHandle};
use super::table::Held;
use super::wire::ErrorCode;
use super::{Store, call};
use crate::http::{Error, Fetched, Pending, Request};
use crate::wasm::call::Ctx;
use crate::wasm::contract::WireLevel;
use crate::wasm::http::{Reach, add_own, not_granted};
use crate::wasm::logging;
use crate::wasm::wasi::wait::{PollableHandle, Wait};
use wasmtime::Result;
use wasmtime::component::{LinkerInstance, Resource};

type ExchangeHandle = Resource<Exchange>;
type Told<T> = std::result::Result<T, ErrorCode>;

/// Requests of one instance that are under way or whose answers can still be read: each of them holds one in the host.
const REQUESTS: usize = 256;

/// A request that was begun.
#[derive(Debug)]
pub(in crate::wasm::wasi) struct Exchange {
    progress: Progress,
    /// What it keeps of the request.
    bytes: usize,
}

#[derive(Debug)]
enum Progress {
    /// Its body is being written.
    Unsent(Box<Request>),
    UnderWay(Pending),
    Over(Fetched),
    /// The guest has what came of it.
    Taken,
}

impl Held for Exchange {
    fn bytes(&self) -> usize {
        self.bytes
    }
}

fn weight(request: &Request) -> usize {
    let headers: usize = request.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    request.url.len() + headers + request.body.as_ref().map_or(0, Vec::len)
}

impl Exchange {
    fn unsent(request: Request) -> Self {
        let bytes = weight(&request);
        Self { progress: Progress::Unsent(Box::new(request)), bytes }
    }

    /// Why nothing was sent, if that is known already.
    fn refused(&mut self) -> Option<Error> {
        if !self.is_over() {
            return None;
        }
        match &self.progress {
            Progress::Over(Err(error @ (Error::Denied(_) | Error::Invalid(_)))) => Some(error.clone()),
            _ => None,
        }
    }

    pub(super) fn is_taken(&self) -> bool {
        matches!(self.progress, Progress::Taken)
    }

    pub(super) fn is_over(&mut self) -> bool {
        if let Progress::UnderWay(pending) = &self.progress
            && let Some(fetched) = pending.poll()
        {
            self.end(fetched);
        }
        matches!(self.progress, Progress::Over(_) | Progress::Taken)
    }

    fn end(&mut self, fetched: Fetched) {
        self.progress = Progress::Over(fetched);
        self.bytes = 0;
    }

    pub(super) fn pending(&self) -> Option<&Pending> {
        if let Progress::UnderWay(pending) = &self.progress { Some(pending) } else { None }
    }

    /// Nothing can come of it any more that the guest could wait for.
    pub(super) fn give_up(&mut self) {
        match &self.progress {
            Progress::Unsent(_) => {
                self.end(Err(Error::Invalid("its body must be finished before its answer is waited for".to_owned())));
            }
            Progress::UnderWay(_) => self.end(Err(Error::Timeout)),
            Progress::Over(_) | Progress::Taken => {}
        }
    }

    /// Its body is there, or will never be.
    pub(super) fn send(ctx: &mut Ctx, number: u32, body: Option<Vec<u8>>) -> Result<()> {
        let reach = &ctx.reach;
        // If it is gone, nobody waits for it.
        let _was_there = ctx.wasi.http.exchanges.change(number, |exchange| {
            let Progress::Unsent(request) = &mut exchange.progress else { return };
            match body {
                Some(body) => {
                    request.body = Some(body);
                    let request = std::mem::take(request.as_mut());
                    *exchange = start(reach, request);
                }
                None => exchange.end(Err(broken())),
            }
        });
        Ok(())
    }

    /// What came of it, once.
    fn take(&mut self) -> Option<std::result::Result<Fetched, ()>> {
        if !self.is_over() {
            return None;
        }
        match std::mem::replace(&mut self.progress, Progress::Taken) {
            Progress::Over(fetched) => Some(Ok(fetched)),
            _ => Some(Err(())),
        }
    }
}

fn broken() -> Error {
    Error::Invalid("its body was dropped before it was finished, or finished wrongly".to_owned())
}

fn start(reach: &Reach, request: Request) -> Exchange {
    let bytes = weight(&request);
    let progress = match (&reach.outside, &reach.scope) {
        (Some(outside), Some(scope)) => Progress::UnderWay(Pending::begin(outside.as_ref(), request, scope)),
        _ => Progress::Over(Err(not_granted())),
    };
    Exchange { progress, bytes }
}

fn handle(ctx: &mut Ctx, request: u32, options: Option<OptionsHandle>) -> Result<Told<ExchangeHandle>> {
    let mut outgoing = ctx.wasi.http.requests.take(request)?;
    let options = options.map(|options| ctx.wasi.http.options.take(options.rep())).transpose()?;
    if ctx.reach.outside.is_none() {
        return Ok(Err(told(ctx, not_granted())));
    }
    if ctx.wasi.http.open_requests() >= REQUESTS {
        return Ok(Err(ErrorCode::ConnectionLimitReached));
    }
    let content = std::mem::replace(&mut outgoing.content, Content::None);
    let mut request = match request_of(outgoing, &content, options.as_ref()) {
        Ok(request) => request,
        Err(error) => return Ok(Err(error)),
    };
    // Whose request it is can be known only where there is one message.
    if ctx.call.batch.len() == 1 {
        request.slot = Some(0);
        let method = request.method.clone();
        add_own(ctx, 0, &method, &mut request.headers)?;
    }
    let (mut exchange, body) = match content {
        Content::None => (start(&ctx.reach, request), None),
        Content::Whole(body) => (start(&ctx.reach, Request { body: Some(body), ..request }), None),
        Content::Open(body) => (Exchange::unsent(request), Some(body)),
        Content::Broken => return Ok(Err(broken().into())),
    };
    // What is refused at once was not sent: the guest need not wait to hear of it.
    if let Some(refused) = exchange.refused() {
        return Ok(Err(told(ctx, refused)));
    }
    let number = ctx.wasi.http.exchanges.insert(exchange)?;
    if let Some(body) = body {
        ctx.wasi.http.bodies.edit(body, |body| body.of = Of::Exchange(number))?;
    }
    Ok(Ok(ExchangeHandle::new_own(number)))
}

fn request_of(mut outgoing: Outgoing, content: &Content, options: Option<&Options>) -> Told<Request> {
    let length = outgoing.length()?;
    if matches!(content, Content::None) && length.is_some_and(|length| length > 0) {
        return Err(ErrorCode::HttpRequestBodySize(Some(0)));
    }
    // The client sets it.
    outgoing.headers.take_out(CONTENT_LENGTH);
    Ok(Request {
        method: outgoing.method.as_str().to_owned(),
        url: outgoing.url().ok_or(ErrorCode::HttpRequestUriInvalid)?,
        headers: outgoing.headers.into_list(),
        body: None,
        slot: None,
        timeout: options.and_then(Options::timeout),
    })
}

fn get(ctx: &mut Ctx, number: u32) -> Result<Option<std::result::Result<Told<AnswerHandle>, ()>>> {
    let Some(taken) = ctx.wasi.http.exchanges.edit(number, Exchange::take)? else { return Ok(None) };
    ctx.reach.check_room(ctx.limits.memory_bytes)?;
    let Ok(fetched) = taken else { return Ok(Some(Err(()))) };
    Ok(Some(Ok(match fetched {
        Ok(response) => Ok(AnswerHandle::new_own(ctx.wasi.http.answers.insert(Answer::new(response))?)),
        Err(error) => Err(told(ctx, error)),
    })))
}

/// As the guest hears of it. Where it hears no words, they go to its log: they say what to do about it.
fn told(ctx: &mut Ctx, error: Error) -> ErrorCode {
    if let Error::Denied(_) | Error::TooLarge = &error {
        logging::line(ctx, WireLevel::Warn, &error.to_string());
    }
    error.into()
}

pub(super) fn link(linker: &mut LinkerInstance<'_, Ctx>, name: &str) -> Result<bool> {
    match name {
        "handle" => {
            type Handle = (RequestHandle, Option<OptionsHandle>);
            linker.func_wrap(name, |store: Store<'_>, (request, options): Handle| {
                call(store, |ctx| handle(ctx, request.rep(), options))
            })
        }
        "[method]future-incoming-response.subscribe" => {
            linker.func_wrap(name, |store: Store<'_>, (this,): (ExchangeHandle,)| {
                call(store, |ctx| Ok(PollableHandle::new_own(ctx.wasi.subscribe(Wait::Answer(this.rep())))))
            })
        }
        "[method]future-incoming-response.get" => linker
            .func_wrap(name, |store: Store<'_>, (this,): (ExchangeHandle,)| call(store, |ctx| get(ctx, this.rep()))),
        _ => return Ok(false),
    }?;
    Ok(true)
}
