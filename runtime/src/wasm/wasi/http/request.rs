//! What goes out: `outgoing-request`, `outgoing-body` and `request-options`.

use super::exchange::Exchange;
use super::fields::{Fields, FieldsHandle, keep};
use super::table::Held;
use super::wire::{ErrorCode, Method, Scheme};
use super::{Store, call, room};
use crate::wasm::call::Ctx;
use crate::wasm::wasi::streams::{OutputHandle, OutputStream};
use std::time::Duration;
use wasmtime::Result;
use wasmtime::component::{LinkerInstance, Resource};

pub(super) type RequestHandle = Resource<Outgoing>;
pub(super) type OptionsHandle = Resource<Options>;
type BodyHandle = Resource<Body>;
/// Of a setter: nothing is said beside that it can't be.
type Set = std::result::Result<(), ()>;

pub(super) const CONTENT_LENGTH: &str = "content-length";

#[derive(Debug)]
pub(in crate::wasm::wasi) struct Outgoing {
    pub(super) method: Method,
    pub(super) scheme: Option<Scheme>,
    pub(super) authority: Option<String>,
    pub(super) path: Option<String>,
    pub(super) headers: Fields,
    pub(super) content: Content,
}

/// The body of a request that was not begun yet.
#[derive(Debug)]
pub(super) enum Content {
    /// Nobody asked for it, so there is none.
    None,
    /// It is being written: its number.
    Open(u32),
    Whole(Vec<u8>),
    /// It was dropped unfinished, or its finish failed.
    Broken,
}

impl Held for Outgoing {
    fn bytes(&self) -> usize {
        let content = if let Content::Whole(bytes) = &self.content { bytes.len() } else { 0 };
        let scheme = self.scheme.as_ref().map_or(0, |scheme| scheme.as_str().len());
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let line = self.method.as_str().len() + scheme + text(&self.authority) + text(&self.path);
        line + self.headers.bytes() + content
    }
}

impl Outgoing {
    fn new(headers: Fields) -> Self {
        Self { method: Method::Get, scheme: None, authority: None, path: None, headers, content: Content::None }
    }

    /// The whole of it; `None`: it names no host.
    pub(super) fn url(&self) -> Option<String> {
        let scheme = self.scheme.as_ref().map_or("https", Scheme::as_str);
        let path = self.path.as_deref().unwrap_or("");
        let root = if path.starts_with('/') { "" } else { "/" };
        Some(format!("{scheme}://{}{root}{path}", self.authority.as_deref()?))
    }

    /// What the guest said that its body's length is, in bytes.
    pub(super) fn length(&self) -> std::result::Result<Option<u64>, ErrorCode> {
        let mut all = self.headers.get(CONTENT_LENGTH).into_iter();
        let (first, more) = (all.next(), all.next());
        let Some(first) = first else { return Ok(None) };
        let length = std::str::from_utf8(&first).ok().and_then(|text| text.parse().ok());
        let wrong = || ErrorCode::internal("the header content-length is not one number");
        length.filter(|_| more.is_none()).map(Some).ok_or_else(wrong)
    }
}

fn is_token(text: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(legal)
}

/// Not more than that it can't end a part of the URL before its end. Whether it is one, who sends it looks.
fn is_part(text: &str, ends: &[u8]) -> bool {
    text.bytes().all(|byte| byte > b' ' && byte != 0x7f && !ends.contains(&byte))
}

/// How long its parts may take, in nanoseconds.
#[derive(Debug, Default)]
pub(in crate::wasm::wasi) struct Options {
    connect_ns: Option<u64>,
    first_byte_ns: Option<u64>,
    between_bytes_ns: Option<u64>,
}

impl Held for Options {
    fn bytes(&self) -> usize {
        size_of::<Self>()
    }
}

impl Options {
    /// All of it: the host knows of one time only. Without one for the first byte there is no end to it.
    pub(super) fn timeout(&self) -> Option<Duration> {
        let first = self.first_byte_ns?;
        let more = self.connect_ns.unwrap_or(0).saturating_add(self.between_bytes_ns.unwrap_or(0));
        Some(Duration::from_nanos(first.saturating_add(more)))
    }

    fn part(&mut self, name: &str) -> Option<&mut Option<u64>> {
        match name.strip_suffix("-timeout")? {
            "connect" => Some(&mut self.connect_ns),
            "first-byte" => Some(&mut self.first_byte_ns),
            "between-bytes" => Some(&mut self.between_bytes_ns),
            _ => None,
        }
    }
}

/// A body that is being written.
#[derive(Debug)]
pub(in crate::wasm::wasi) struct Body {
    bytes: Vec<u8>,
    /// Its stream was given.
    given: bool,
    length: Option<u64>,
    /// Not all that the guest wrote is in it.
    cut: Option<ErrorCode>,
    pub(super) of: Of,
}

/// Whose body it is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Of {
    Request(u32),
    Exchange(u32),
}

impl Held for Body {
    fn bytes(&self) -> usize {
        self.bytes.len()
    }
}

impl Body {
    pub(super) fn write(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// It has no room for what the guest writes.
    pub(super) fn cut(&mut self, code: ErrorCode) {
        self.cut = Some(code);
    }
}

/// Hands over what was written: to the request, or to the server if the request was begun. `None`: it was dropped, or is wrong.
pub(super) fn complete(ctx: &mut Ctx, of: Of, bytes: Option<Vec<u8>>) -> Result<()> {
    match of {
        // If the request is gone, nobody misses its body.
        Of::Request(request) => {
            let content = bytes.map_or(Content::Broken, Content::Whole);
            let _was_there = ctx.wasi.http.requests.change(request, |request| request.content = content);
            Ok(())
        }
        Of::Exchange(exchange) => Exchange::send(ctx, exchange, bytes),
    }
}

/// The guest drops a body that it has not finished.
pub(super) fn drop_body(ctx: &mut Ctx, number: u32) -> Result<()> {
    match ctx.wasi.http.bodies.remove(number) {
        Some(body) => complete(ctx, body.of, None),
        None => Ok(()),
    }
}

fn finish(ctx: &mut Ctx, number: u32, trailers: Option<Fields>) -> Result<std::result::Result<(), ErrorCode>> {
    let body = ctx.wasi.http.bodies.take(number)?;
    let written = body.bytes.len() as u64;
    let fault = if body.cut.is_some() {
        body.cut
    } else if body.length.is_some_and(|length| length != written) {
        Some(ErrorCode::HttpRequestBodySize(Some(written)))
    } else {
        let trailing = trailers.is_some_and(|trailers| !trailers.list().is_empty());
        trailing.then(|| ErrorCode::internal("trailers of a request are not sent"))
    };
    let whole = if fault.is_none() { Some(body.bytes) } else { None };
    complete(ctx, body.of, whole)?;
    Ok(fault.map_or(Ok(()), Err))
}

pub(super) fn link(linker: &mut LinkerInstance<'_, Ctx>, name: &str) -> Result<bool> {
    match name {
        "[constructor]outgoing-request" => linker.func_wrap(name, |store: Store<'_>, (headers,): (FieldsHandle,)| {
            call(store, |ctx| {
                let headers = Fields::frozen(ctx.wasi.http.fields.take(headers.rep())?.into_list());
                Ok(RequestHandle::new_own(ctx.wasi.http.requests.insert(Outgoing::new(headers))?))
            })
        }),
        "[method]outgoing-request.headers" => linker.func_wrap(name, |store: Store<'_>, (this,): (RequestHandle,)| {
            call(store, |ctx| {
                let headers = ctx.wasi.http.requests.get(this.rep())?.headers.clone();
                keep(ctx, headers)
            })
        }),
        "[method]outgoing-request.body" => linker.func_wrap(name, |store: Store<'_>, (this,): (RequestHandle,)| {
            call(store, |ctx| open_body(ctx, this.rep()))
        }),
        "[method]outgoing-body.write" => linker.func_wrap(name, |store: Store<'_>, (this,): (BodyHandle,)| {
            type Given = std::result::Result<OutputHandle, ()>;
            call(store, |ctx| {
                let given = ctx.wasi.http.bodies.edit(this.rep(), |body| std::mem::replace(&mut body.given, true))?;
                Ok(if given { Given::Err(()) } else { Ok(Resource::<OutputStream>::new_own(this.rep())) })
            })
        }),
        "[static]outgoing-body.finish" => {
            type Finish = (BodyHandle, Option<FieldsHandle>);
            linker.func_wrap(name, |store: Store<'_>, (this, trailers): Finish| {
                call(store, |ctx| {
                    let trailers = trailers.map(|fields| ctx.wasi.http.fields.take(fields.rep())).transpose()?;
                    finish(ctx, this.rep(), trailers)
                })
            })
        }
        _ => return Ok(link_line(linker, name)? || link_options(linker, name)?),
    }?;
    Ok(true)
}

fn open_body(ctx: &mut Ctx, number: u32) -> Result<std::result::Result<BodyHandle, ()>> {
    let http = &mut ctx.wasi.http;
    let request = http.requests.get(number)?;
    if !matches!(request.content, Content::None) {
        return Ok(Err(()));
    }
    // One that is no number is told of once the request is begun.
    let length = request.length().ok().flatten();
    let body =
        http.bodies.insert(Body { bytes: Vec::new(), given: false, length, cut: None, of: Of::Request(number) })?;
    http.requests.edit(number, |request| request.content = Content::Open(body))?;
    Ok(Ok(BodyHandle::new_own(body)))
}

/// The request's first line: method, path, scheme, authority.
fn link_line(linker: &mut LinkerInstance<'_, Ctx>, name: &str) -> Result<bool> {
    type This = (RequestHandle,);
    type Text = (RequestHandle, Option<String>);
    match name {
        "[method]outgoing-request.method" => linker.func_wrap(name, |store: Store<'_>, (this,): This| {
            call(store, |ctx| Ok(ctx.wasi.http.requests.get(this.rep())?.method.clone()))
        }),
        "[method]outgoing-request.set-method" => {
            linker.func_wrap(name, |store: Store<'_>, (this, method): (RequestHandle, Method)| {
                let legal = is_token(method.as_str());
                call(store, |ctx| change(ctx, this.rep(), legal, method.as_str().len(), |line| line.method = method))
            })
        }
        "[method]outgoing-request.path-with-query" => linker.func_wrap(name, |store: Store<'_>, (this,): This| {
            call(store, |ctx| Ok(ctx.wasi.http.requests.get(this.rep())?.path.clone()))
        }),
        "[method]outgoing-request.set-path-with-query" => {
            linker.func_wrap(name, |store: Store<'_>, (this, path): Text| {
                let is_path = |path: &str| path.is_empty() || path.starts_with(['/', '?']) && is_part(path, b"#");
                let (legal, len) = path.as_deref().map_or((true, 0), |path| (is_path(path), path.len()));
                call(store, |ctx| change(ctx, this.rep(), legal, len, |line| line.path = path))
            })
        }
        "[method]outgoing-request.scheme" => linker.func_wrap(name, |store: Store<'_>, (this,): This| {
            call(store, |ctx| Ok(ctx.wasi.http.requests.get(this.rep())?.scheme.clone()))
        }),
        "[method]outgoing-request.set-scheme" => {
            linker.func_wrap(name, |store: Store<'_>, (this, scheme): (RequestHandle, Option<Scheme>)| {
                let scheme_or = scheme.as_ref().map_or("https", Scheme::as_str);
                let (legal, len) = (is_token(scheme_or), scheme_or.len());
                call(store, |ctx| change(ctx, this.rep(), legal, len, |line| line.scheme = scheme))
            })
        }
        "[method]outgoing-request.authority" => linker.func_wrap(name, |store: Store<'_>, (this,): This| {
            call(store, |ctx| Ok(ctx.wasi.http.requests.get(this.rep())?.authority.clone()))
        }),
        "[method]outgoing-request.set-authority" => {
            linker.func_wrap(name, |store: Store<'_>, (this, authority): Text| {
                let is_authority = |text: &str| !text.is_empty() && is_part(text, b"/?#\\");
                let (legal, len) = authority.as_deref().map_or((true, 0), |text| (is_authority(text), text.len()));
                call(store, |ctx| change(ctx, this.rep(), legal, len, |line| line.authority = authority))
            })
        }
        _ => return Ok(false),
    }?;
    Ok(true)
}

fn change(ctx: &mut Ctx, number: u32, legal: bool, len: usize, set: impl FnOnce(&mut Outgoing)) -> Result<Set> {
    if !legal {
        return Ok(Err(()));
    }
    room(ctx, len)?;
    ctx.wasi.http.requests.edit(number, set)?;
    Ok(Ok(()))
}

fn link_options(linker: &mut LinkerInstance<'_, Ctx>, name: &str) -> Result<bool> {
    if name == "[constructor]request-options" {
        linker.func_wrap(name, |store: Store<'_>, (): ()| {
            call(store, |ctx| {
                room(ctx, size_of::<Options>())?;
                Ok(OptionsHandle::new_own(ctx.wasi.http.options.insert(Options::default())?))
            })
        })?;
        return Ok(true);
    }
    let Some(method) = name.strip_prefix("[method]request-options.") else { return Ok(false) };
    let (sets, part) = method.strip_prefix("set-").map_or((false, method), |part| (true, part));
    if Options::default().part(part).is_none() {
        return Ok(false);
    }
    let part = part.to_owned();
    if sets {
        linker.func_wrap(name, move |store: Store<'_>, (this, span): (OptionsHandle, Option<u64>)| {
            call(store, |ctx| {
                let set = |options: &mut Options| options.part(&part).map(|part| *part = span).ok_or(());
                ctx.wasi.http.options.edit(this.rep(), set)
            })
        })?;
    } else {
        linker.func_wrap(name, move |store: Store<'_>, (this,): (OptionsHandle,)| {
            call(store, |ctx| {
                ctx.wasi.http.options.edit(this.rep(), |options| options.part(&part).and_then(|part| *part))
            })
        })?;
    }
    Ok(true)
}
