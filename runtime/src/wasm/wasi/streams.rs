//! `wasi:io/streams`: the standard ones, and the bodies of requests and answers.

use super::http::{self, Failed, Stopped};
use super::wait::{PollableHandle, Wait};
use super::{Store, Stream, call, write as print};
use crate::wasm::call::Ctx;
use wasmtime::Result;
use wasmtime::component::{ComponentType, Lift, LinkerInstance, Lower, Resource, ResourceType, WasmList};

/// Bytes that a stream takes or gives at once. They are only copied.
const AT_ONCE_BYTES: usize = 64 << 10;
/// The standard streams, by their numbers; from the next one on they are bodies.
pub(super) const STDIN: u32 = 0;
pub(super) const STDOUT: u32 = 1;
pub(super) const STDERR: u32 = 2;

pub(super) struct OutputStream;
pub(super) struct InputStream;
pub(super) type OutputHandle = Resource<OutputStream>;
pub(super) type InputHandle = Resource<InputStream>;
/// What an operation comes to.
type Done<T> = std::result::Result<T, StreamError>;

#[derive(ComponentType, Lift, Lower)]
#[component(variant)]
enum StreamError {
    #[component(name = "last-operation-failed")]
    LastOperationFailed(Resource<Failed>),
    #[component(name = "closed")]
    Closed,
}

impl From<Stopped> for StreamError {
    fn from(stopped: Stopped) -> Self {
        match stopped {
            Stopped::Closed => Self::Closed,
            Stopped::Failed(error) => Self::LastOperationFailed(error),
        }
    }
}

pub(super) fn resource(linker: &mut LinkerInstance<'_, Ctx>, name: &str) -> Result<bool> {
    match name {
        // A body is its own resource, which its stream does not keep.
        "output-stream" => linker.resource(name, ResourceType::host::<OutputStream>(), |_, _| Ok(())),
        "input-stream" => linker.resource(name, ResourceType::host::<InputStream>(), |mut store, number| {
            http::close(store.data_mut(), number);
            Ok(())
        }),
        _ => return Ok(false),
    }?;
    Ok(true)
}

pub(super) fn link(linker: &mut LinkerInstance<'_, Ctx>, name: &str) -> Result<bool> {
    if name == "[method]error.to-debug-string" {
        linker.func_wrap(name, |store: Store<'_>, (error,): (Resource<Failed>,)| {
            call(store, |ctx| Ok(http::words(ctx, error.rep())))
        })?;
        return Ok(true);
    }
    Ok(output(linker, name)? || input(linker, name)?)
}

fn output(linker: &mut LinkerInstance<'_, Ctx>, name: &str) -> Result<bool> {
    match name {
        "[method]output-stream.check-write" => linker
            .func_wrap(name, |store: Store<'_>, (to,): (OutputHandle,)| call(store, |ctx| takes_bytes(ctx, to.rep()))),
        "[method]output-stream.write" | "[method]output-stream.blocking-write-and-flush" => {
            linker.func_wrap(name, |mut store: Store<'_>, (to, bytes): (OutputHandle, WasmList<u8>)| {
                Ok((write(&mut store, to.rep(), &bytes)?,))
            })
        }
        "[method]output-stream.write-zeroes" | "[method]output-stream.blocking-write-zeroes-and-flush" => linker
            .func_wrap(name, |store: Store<'_>, (to, len): (OutputHandle, u64)| {
                call(store, |ctx| write_zeroes(ctx, to.rep(), len))
            }),
        "[method]output-stream.flush" | "[method]output-stream.blocking-flush" => linker
            .func_wrap(name, |store: Store<'_>, (to,): (OutputHandle,)| {
                call(store, |ctx| Ok(takes_bytes(ctx, to.rep())?.map(drop)))
            }),
        "[method]output-stream.subscribe" => linker.func_wrap(name, |store: Store<'_>, (_,): (OutputHandle,)| {
            call(store, |ctx| Ok(PollableHandle::new_own(ctx.wasi.subscribe(Wait::Over))))
        }),
        "[method]output-stream.splice" | "[method]output-stream.blocking-splice" => {
            type Splice = (OutputHandle, InputHandle, u64);
            linker.func_wrap(name, |store: Store<'_>, (to, from, len): Splice| {
                call(store, |ctx| splice(ctx, to.rep(), from.rep(), len))
            })
        }
        _ => return Ok(false),
    }?;
    Ok(true)
}

/// How much it takes at once.
fn takes_bytes(ctx: &mut Ctx, to: u32) -> Result<Done<u64>> {
    if to <= STDERR {
        return Ok(Ok(AT_ONCE_BYTES as u64));
    }
    Ok(http::takes_bytes(ctx, to, AT_ONCE_BYTES)?.map(|room| room as u64).map_err(StreamError::from))
}

fn write(store: &mut Store<'_>, to: u32, bytes: &WasmList<u8>) -> Result<Done<()>> {
    if to <= STDERR {
        let stream = if to == STDERR { Stream::Error } else { Stream::Output };
        return print(store, stream, bytes).map(Ok);
    }
    let call = &mut store.data_mut().call;
    call.charge()?;
    call.charge_bytes(bytes.len())?;
    // Copied: the store lends the guest's bytes, and the body belongs to it as well.
    let bytes = bytes.as_le_slice(&*store).to_vec();
    Ok(http::write(store.data_mut(), to, &bytes)?.map_err(StreamError::from))
}

fn write_zeroes(ctx: &mut Ctx, to: u32, len: u64) -> Result<Done<()>> {
    if len > AT_ONCE_BYTES as u64 {
        return Err(wasmtime::format_err!("{len} zeroes at once: a stream takes {AT_ONCE_BYTES}"));
    }
    ctx.call.charge_bytes(len as usize)?;
    let zeroes = vec![0; len as usize];
    if to <= STDERR {
        ctx.print(if to == STDERR { Stream::Error } else { Stream::Output }, &zeroes);
        return Ok(Ok(()));
    }
    Ok(http::write(ctx, to, &zeroes)?.map_err(StreamError::from))
}

/// From one stream to the other: what was taken out of the first is in the second.
fn splice(ctx: &mut Ctx, to: u32, from: u32, len: u64) -> Result<Done<u64>> {
    let room = match takes_bytes(ctx, to)? {
        Ok(room) => room,
        Err(error) => return Ok(Err(error)),
    };
    let bytes = match read(ctx, from, len.min(room))? {
        Ok(bytes) => bytes,
        Err(error) => return Ok(Err(error)),
    };
    if to <= STDERR {
        ctx.print(if to == STDERR { Stream::Error } else { Stream::Output }, &bytes);
        return Ok(Ok(bytes.len() as u64));
    }
    Ok(http::write(ctx, to, &bytes)?.map(|()| bytes.len() as u64).map_err(StreamError::from))
}

fn input(linker: &mut LinkerInstance<'_, Ctx>, name: &str) -> Result<bool> {
    match name {
        "[method]input-stream.read" | "[method]input-stream.blocking-read" => linker
            .func_wrap(name, |store: Store<'_>, (from, len): (InputHandle, u64)| {
                call(store, |ctx| read(ctx, from.rep(), len))
            }),
        "[method]input-stream.skip" | "[method]input-stream.blocking-skip" => {
            linker.func_wrap(name, |store: Store<'_>, (from, len): (InputHandle, u64)| {
                call(store, |ctx| Ok(read(ctx, from.rep(), len)?.map(|bytes| bytes.len() as u64)))
            })
        }
        "[method]input-stream.subscribe" => linker.func_wrap(name, |store: Store<'_>, (_,): (InputHandle,)| {
            call(store, |ctx| Ok(PollableHandle::new_own(ctx.wasi.subscribe(Wait::Over))))
        }),
        _ => return Ok(false),
    }?;
    Ok(true)
}

/// The standard input is at its end, and so is a body that is gone.
fn read(ctx: &mut Ctx, from: u32, len: u64) -> Result<Done<Vec<u8>>> {
    if from <= STDERR {
        return Ok(Err(StreamError::Closed));
    }
    let most = usize::try_from(len).unwrap_or(usize::MAX).min(AT_ONCE_BYTES);
    Ok(http::read(ctx, from, most)?.map_err(StreamError::from))
}
