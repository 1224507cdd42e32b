//! `wasi:http`, the part that sends requests: for programs and libraries that use it. The contract's own import, which says for
//! which message a request is made, is beside WASI.
//!
//! A request is begun once its body is finished, whole, and so is an answer when a guest hears of it; between the two, others are
//! under way at the same time. What belongs to requests ends with the call: it is cleared from the [`Table`], and a handle that
//! the guest kept finds nothing there.

mod exchange;
mod fields;
mod request;
mod response;
mod table;
mod wire;

pub(super) use table::{Failed, Table};

use super::{Store, call};
use crate::wasm::call::{Ctx, Quota};
use wasmtime::Result;
use wasmtime::component::{LinkerInstance, Resource, ResourceType};
use wire::ErrorCode;

/// How much the guest may still have the host keep, in bytes.
fn room_bytes(ctx: &Ctx) -> usize {
    ctx.limits.effective_host_call_bytes().saturating_sub(ctx.wasi.http.held_bytes())
}

/// Ends the call where the guest would have the host keep more.
fn room(ctx: &Ctx, bytes: usize) -> Result<()> {
    if bytes <= room_bytes(ctx) {
        return Ok(());
    }
    Err(wasmtime::Error::new(Quota::Held(ctx.limits.effective_host_call_bytes())))
}

/// The functions of `wasi:http`.
pub(super) fn link(linker: &mut LinkerInstance<'_, Ctx>, interface: &str, name: &str) -> Result<bool> {
    match (interface, name) {
        ("http/outgoing-handler", _) => exchange::link(linker, name),
        ("http/types", "http-error-code") => {
            linker.func_wrap(name, |store: Store<'_>, (error,): (Resource<Failed>,)| {
                call(store, |ctx| Ok(ctx.wasi.http.failed.find(error.rep()).map(|failed| failed.code.clone())))
            })?;
            Ok(true)
        }
        ("http/types", _) => Ok(fields::link(linker, name)?
            || request::link(linker, name)?
            || exchange::link(linker, name)?
            || response::link(linker, name)?),
        _ => Ok(false),
    }
}

/// Its resources, and what becomes of them when the guest drops them.
pub(super) fn resource(linker: &mut LinkerInstance<'_, Ctx>, name: &str) -> Result<bool> {
    macro_rules! dropped {
        ($kind:ty, $things:ident) => {
            linker.resource(name, ResourceType::host::<$kind>(), |mut store, number| {
                let _was_there = store.data_mut().wasi.http.$things.remove(number);
                Ok(())
            })
        };
    }
    match name {
        "fields" | "headers" | "trailers" => dropped!(fields::Fields, fields),
        "request-options" => dropped!(request::Options, options),
        "outgoing-request" => dropped!(request::Outgoing, requests),
        "outgoing-body" => linker.resource(name, ResourceType::host::<request::Body>(), |mut store, number| {
            request::drop_body(store.data_mut(), number)
        }),
        "future-incoming-response" => dropped!(exchange::Exchange, exchanges),
        "incoming-response" => dropped!(response::Answer, answers),
        "incoming-body" => dropped!(response::IncomingBody, incoming),
        "future-trailers" => dropped!(response::Trailers, trailers),
        "error" | "io-error" => dropped!(Failed, failed),
        _ => return Ok(false),
    }?;
    Ok(true)
}

/// What a stream's operation on a body comes to.
type Done<T> = std::result::Result<T, Stopped>;

/// Why it does not go on.
pub(super) enum Stopped {
    /// At the end, or there is no such body any more.
    Closed,
    Failed(Resource<Failed>),
}

/// How much a body takes: never nothing.
pub(super) fn takes_bytes(ctx: &mut Ctx, body: u32, most: usize) -> Result<Done<usize>> {
    if ctx.wasi.http.bodies.find(body).is_none() {
        return Ok(Err(Stopped::Closed));
    }
    match room_bytes(ctx).min(most) {
        0 => Ok(Err(full(ctx, body)?)),
        room => Ok(Ok(room)),
    }
}

/// Writes to a body: all of it or nothing.
pub(super) fn write(ctx: &mut Ctx, body: u32, bytes: &[u8]) -> Result<Done<()>> {
    if bytes.len() > room_bytes(ctx) {
        return Ok(Err(full(ctx, body)?));
    }
    Ok(ctx.wasi.http.bodies.change(body, |body| body.write(bytes)).ok_or(Stopped::Closed))
}

/// Reads of an answer's body, at most so many bytes.
pub(super) fn read(ctx: &mut Ctx, contents: u32, most: usize) -> Result<Done<Vec<u8>>> {
    let read = ctx.wasi.http.contents.change(contents, |contents| contents.next(most).map(<[u8]>::to_vec)).flatten();
    ctx.call.charge_bytes(read.as_ref().map_or(0, Vec::len))?;
    Ok(read.ok_or(Stopped::Closed))
}

pub(super) fn close(ctx: &mut Ctx, contents: u32) {
    let _was_there = ctx.wasi.http.contents.remove(contents);
}

fn full(ctx: &mut Ctx, body: u32) -> Result<Stopped> {
    let limit = ctx.limits.effective_host_call_bytes();
    let code = ErrorCode::HttpRequestBodySize(Some(limit as u64));
    if ctx.wasi.http.bodies.change(body, |body| body.cut(code.clone())).is_none() {
        return Ok(Stopped::Closed);
    }
    let words = Quota::Held(limit).to_string();
    Ok(Stopped::Failed(Resource::new_own(ctx.wasi.http.failed.insert(Failed { code, words })?)))
}

/// An error's words.
pub(super) fn words(ctx: &Ctx, error: u32) -> String {
    ctx.wasi.http.failed.find(error).map_or_else(String::new, |failed| failed.words.clone())
}
