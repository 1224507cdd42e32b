//! What comes back: `incoming-response`, `incoming-body` and `future-trailers`.
//!
//! The whole answer is there before a guest sees any of it.

use super::fields::{Fields, FieldsHandle, keep};
use super::table::Held;
use super::wire::ErrorCode;
use super::{Store, call};
use crate::http::Response;
use crate::wasm::call::Ctx;
use crate::wasm::wasi::streams::InputHandle;
use crate::wasm::wasi::wait::{PollableHandle, Wait};
use wasmtime::Result;
use wasmtime::component::{LinkerInstance, Resource};

pub(super) type AnswerHandle = Resource<Answer>;
type BodyHandle = Resource<IncomingBody>;
type TrailersHandle = Resource<Trailers>;
/// What is given once.
type Once<T> = std::result::Result<T, ()>;

/// An answer.
#[derive(Debug)]
pub(in crate::wasm::wasi) struct Answer {
    status: u16,
    headers: Fields,
    body: Option<Vec<u8>>,
}

/// An answer's body; `None` within: its stream was given.
#[derive(Debug)]
pub(in crate::wasm::wasi) struct IncomingBody(Option<Vec<u8>>);

/// What is left of a body to read.
#[derive(Debug)]
pub(in crate::wasm::wasi) struct Contents {
    bytes: Vec<u8>,
    read: usize,
}

/// There are none; whether that was told.
#[derive(Debug)]
pub(in crate::wasm::wasi) struct Trailers {
    told: bool,
}

/// What came from outside is bounded by `limits.response-bytes` for each, and by how many may be open.
macro_rules! holds_nothing_of_the_guest {
    ($($name:ty),*) => { $(impl Held for $name { fn bytes(&self) -> usize { 0 } })* };
}
holds_nothing_of_the_guest!(Answer, IncomingBody, Contents, Trailers);

impl Answer {
    pub(super) fn new(Response { status, headers, body }: Response) -> Self {
        Self { status, headers: Fields::frozen(headers), body: Some(body) }
    }

    pub(super) fn has_body(&self) -> bool {
        self.body.is_some()
    }
}

impl IncomingBody {
    pub(super) fn has_contents(&self) -> bool {
        self.0.is_some()
    }
}

impl Contents {
    /// The next bytes, at most so many; `None`: that was all.
    pub(super) fn next(&mut self, most: usize) -> Option<&[u8]> {
        let rest = self.bytes.get(self.read..).filter(|rest| !rest.is_empty())?;
        let taken = &rest[..rest.len().min(most)];
        self.read += taken.len();
        Some(taken)
    }
}

pub(super) fn link(linker: &mut LinkerInstance<'_, Ctx>, name: &str) -> Result<bool> {
    match name {
        "[method]incoming-response.status" => linker.func_wrap(name, |store: Store<'_>, (this,): (AnswerHandle,)| {
            call(store, |ctx| Ok(ctx.wasi.http.answers.get(this.rep())?.status))
        }),
        "[method]incoming-response.headers" => linker.func_wrap(name, |store: Store<'_>, (this,): (AnswerHandle,)| {
            call(store, |ctx| {
                let headers = ctx.wasi.http.answers.get(this.rep())?.headers.clone();
                keep(ctx, headers)
            })
        }),
        "[method]incoming-response.consume" => linker.func_wrap(name, |store: Store<'_>, (this,): (AnswerHandle,)| {
            call(store, |ctx| {
                let http = &mut ctx.wasi.http;
                let Some(body) = http.answers.edit(this.rep(), |answer| answer.body.take())? else {
                    return Ok(Err(()));
                };
                Ok(Once::Ok(BodyHandle::new_own(http.incoming.insert(IncomingBody(Some(body)))?)))
            })
        }),
        "[method]incoming-body.stream" => linker.func_wrap(name, |store: Store<'_>, (this,): (BodyHandle,)| {
            call(store, |ctx| {
                let http = &mut ctx.wasi.http;
                let Some(bytes) = http.incoming.edit(this.rep(), |body| body.0.take())? else { return Ok(Err(())) };
                Ok(Once::Ok(InputHandle::new_own(http.contents.insert(Contents { bytes, read: 0 })?)))
            })
        }),
        "[static]incoming-body.finish" => linker.func_wrap(name, |store: Store<'_>, (this,): (BodyHandle,)| {
            call(store, |ctx| {
                ctx.wasi.http.incoming.take(this.rep())?;
                Ok(TrailersHandle::new_own(ctx.wasi.http.trailers.insert(Trailers { told: false })?))
            })
        }),
        "[method]future-trailers.subscribe" => linker.func_wrap(name, |store: Store<'_>, (_,): (TrailersHandle,)| {
            call(store, |ctx| Ok(PollableHandle::new_own(ctx.wasi.subscribe(Wait::Over))))
        }),
        "[method]future-trailers.get" => linker.func_wrap(name, |store: Store<'_>, (this,): (TrailersHandle,)| {
            type None = std::result::Result<Option<FieldsHandle>, ErrorCode>;
            call(store, |ctx| {
                let told = ctx.wasi.http.trailers.edit(this.rep(), |one| std::mem::replace(&mut one.told, true))?;
                Ok(Some(if told { Once::<None>::Err(()) } else { Ok(Ok(Option::None)) }))
            })
        }),
        _ => return Ok(false),
    }?;
    Ok(true)
}
