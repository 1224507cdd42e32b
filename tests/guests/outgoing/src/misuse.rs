//! What nobody should do, and what then becomes of it.

use super::bindings::wasi::http::outgoing_handler::handle;
use super::bindings::wasi::http::types::{
    Fields, FutureIncomingResponse, Method, OutgoingBody, OutgoingRequest, RequestOptions, Scheme, http_error_code,
};
use super::bindings::wasi::io::poll::{Pollable, poll};
use super::bindings::wasi::io::streams::{InputStream, OutputStream, StreamError};
use super::{Told, begin, body, request, taken, wait, words};
use std::cell::RefCell;

/// What is kept from one call to the next.
enum Kept {
    Answer(FutureIncomingResponse),
    Body(OutgoingBody, OutputStream),
    Stream(InputStream),
    Pollable(Pollable),
    Fields(Fields),
}

thread_local! {
    static KEPT: RefCell<Vec<Kept>> = const { RefCell::new(Vec::new()) };
}

fn keep(kept: Kept) {
    KEPT.with_borrow_mut(|all| all.push(kept));
}

pub(super) fn run(what: &str, rest: &[&str]) -> Told<String> {
    match (what, rest) {
        ("headers", []) => headers(),
        ("line", []) => line(),
        ("options", []) => options(),
        ("twice", [authority]) => twice(authority),
        ("poll-nothing", []) => Ok(format!("{:?}", poll(&[]))),
        ("unfinished", [authority]) => unfinished(authority),
        ("dropped", [authority]) => dropped(authority),
        ("length", [authority]) => length(authority),
        ("no-host", []) => refused(OutgoingRequest::new(Fields::new())),
        ("fill", [bytes]) => fill(bytes.parse().map_err(|_| "a number of bytes")?),
        ("fill-fields", []) => fill_fields(),
        ("flood", [authority]) => flood(authority),
        ("after", [authority]) => after(authority),
        ("keep", [what, authority]) => keep_one(what, authority),
        ("use", []) => use_kept(),
        ("forget", []) => Ok(KEPT.with_borrow_mut(std::mem::take).len().to_string()),
        _ => Err(format!("no command {what:?}")),
    }
}

fn headers() -> Told<String> {
    let fields = Fields::new();
    let mut told = Vec::new();
    let mut tell = |name: &str, result: Result<(), super::bindings::wasi::http::types::HeaderError>| {
        told.push(format!("{name}: {result:?}"));
    };
    tell("append", fields.append("A", b"1"));
    tell("again", fields.append("a", b"2"));
    tell("space", fields.append("a b", b"1"));
    tell("newline", fields.append("a", b"1\r\nb: 2"));
    tell("host", fields.set("Host", &[b"x".to_vec()]));
    tell("list", Fields::from_list(&[("te".to_owned(), Vec::new())]).map(drop));
    tell("set", fields.set("b", &[b"3".to_vec(), b"4".to_vec()]));
    tell("delete", fields.delete("b"));
    tell("delete none", fields.delete("c"));
    tell("delete bad", fields.delete(""));
    let copy = fields.clone();
    tell("copy", copy.append("d", b""));
    let frozen = OutgoingRequest::new(copy).headers();
    tell("frozen append", frozen.append("a", b"3"));
    tell("frozen set", frozen.set("a", &[]));
    tell("frozen delete", frozen.delete("a"));
    tell("thawed", frozen.clone().delete("a"));
    let (values, has, hasnt) = (fields.get("a"), fields.has("A"), fields.has("d"));
    told.push(format!("{values:?} {has} {hasnt} {:?} {:?}", fields.entries(), frozen.entries()));
    Ok(told.join("; "))
}

fn line() -> Told<String> {
    let request = OutgoingRequest::new(Fields::new());
    let set = [
        request.set_method(&Method::Other("A B".to_owned())),
        request.set_method(&Method::Other("PURGE".to_owned())),
        request.set_path_with_query(Some("no-slash")),
        request.set_path_with_query(Some("/a b")),
        request.set_path_with_query(Some("/a#b")),
        request.set_path_with_query(Some("/a\r\nX: y")),
        request.set_path_with_query(Some("?a")),
        request.set_authority(Some("a/b")),
        request.set_authority(Some("")),
        request.set_authority(Some("a.test:1")),
        request.set_scheme(Some(&Scheme::Other("a:".to_owned()))),
        request.set_scheme(None),
    ];
    let set: String = set.iter().map(|set| if set.is_ok() { 'y' } else { 'n' }).collect();
    let (method, path) = (request.method(), request.path_with_query());
    Ok(format!("{set} {method:?} {path:?} {:?} {:?}", request.authority(), request.scheme()))
}

fn options() -> Told<String> {
    let options = RequestOptions::new();
    let before = options.connect_timeout();
    let set = (options.set_connect_timeout(Some(1)), options.set_between_bytes_timeout(Some(3)));
    let after = (options.connect_timeout(), options.first_byte_timeout(), options.between_bytes_timeout());
    Ok(format!("{before:?} {set:?} {after:?}"))
}

/// All that is given once is asked for twice.
fn twice(authority: &str) -> Told<String> {
    let request = request(Method::Put, authority, "/", Fields::new())?;
    let out = request.body().map_err(|()| "body")?;
    let stream = out.write().map_err(|()| "write")?;
    let again = (request.body().is_err(), out.write().is_err());
    OutgoingBody::finish(out, None).map_err(|error| words(&error))?;
    let closed = (stream.check_write(), stream.blocking_write_and_flush(b"late"), stream.blocking_flush());
    let answer = handle(request, None).map_err(|error| words(&error))?;
    let response = wait(&answer)?;
    let more = answer.get().map(|told| told.is_err());
    let incoming = response.consume().map_err(|()| "consume")?;
    let read = incoming.stream().map_err(|()| "stream")?;
    let last = (response.consume().is_err(), incoming.stream().is_err());
    let (skipped, rest, none) = (read.skip(1), read.read(u64::MAX), read.read(1));
    Ok(format!("{again:?} {closed:?} {more:?} {last:?} {skipped:?} {rest:?} {none:?}"))
}

/// Waits for the answer to a request whose body is still open.
fn unfinished(authority: &str) -> Told<String> {
    let request = request(Method::Post, authority, "/", Fields::new())?;
    let body = request.body().map_err(|()| "body")?;
    let answer = handle(request, None).map_err(|error| words(&error))?;
    let told = wait(&answer).map(drop);
    // It is over, so nothing is sent now.
    let finished = OutgoingBody::finish(body, None);
    Ok(format!("{told:?} {finished:?}"))
}

fn dropped(authority: &str) -> Told<String> {
    let after = request(Method::Post, authority, "/", Fields::new())?;
    drop(after.body().map_err(|()| "body")?);
    let before = request(Method::Post, authority, "/", Fields::new())?;
    let body = before.body().map_err(|()| "body")?;
    let answer = handle(before, None).map_err(|error| words(&error))?;
    drop(body);
    Ok(format!("{}; {:?}", refused(after)?, taken(&answer).map(drop)))
}

/// Bodies of other lengths than the header says.
fn length(authority: &str) -> Told<String> {
    let with = |length: &str| Fields::from_list(&[("Content-Length".to_owned(), length.as_bytes().to_vec())]);
    let mut told = Vec::new();
    for length in ["3", "x"] {
        let fields = with(length).map_err(|error| format!("{error:?}"))?;
        let request = request(Method::Post, authority, "/", fields)?;
        let body = request.body().map_err(|()| "body")?;
        told.push(format!("{:?}", OutgoingBody::finish(body, None)));
        told.push(refused(request)?);
    }
    let fields = with("1").map_err(|error| format!("{error:?}"))?;
    told.push(refused(request(Method::Post, authority, "/", fields)?)?);
    Ok(told.join("; "))
}

fn refused(request: OutgoingRequest) -> Told<String> {
    match handle(request, None) {
        Ok(_) => Err("begun".to_owned()),
        Err(error) => Ok(words(&error)),
    }
}

/// Writes to a body until it takes no more.
fn fill(piece: usize) -> Told<String> {
    let request = request(Method::Post, "a.test:80", "/", Fields::new())?;
    let body = request.body().map_err(|()| "body")?;
    let stream = body.write().map_err(|()| "write")?;
    let bytes = vec![b'x'; piece];
    let mut written = 0;
    let error = loop {
        match stream.write(&bytes) {
            Ok(()) => written += bytes.len(),
            Err(StreamError::LastOperationFailed(error)) => break error,
            Err(StreamError::Closed) => return Err("closed".to_owned()),
        }
    };
    let code = http_error_code(&error);
    let finished = OutgoingBody::finish(body, None);
    Ok(format!("{written}: {code:?}, {}; {finished:?}; {}", error.to_debug_string(), refused(request)?))
}

fn fill_fields() -> Told<String> {
    let fields = Fields::new();
    let value = vec![b'x'; 1 << 16];
    loop {
        fields.append("a", &value).map_err(|error| format!("{error:?}"))?;
    }
}

/// Begins requests until no more are taken.
fn flood(authority: &str) -> Told<String> {
    let mut all = Vec::new();
    loop {
        match handle(request(Method::Get, authority, "/", Fields::new())?, None) {
            Ok(answer) => all.push(answer),
            Err(error) => return Ok(format!("{} {error:?}", all.len())),
        }
    }
}

/// Reads a body after all that it came from is dropped.
fn after(authority: &str) -> Told<String> {
    let answer = begin(authority, "/")?;
    let pollable = answer.subscribe();
    pollable.block();
    let response = taken(&answer)?;
    drop(answer);
    let incoming = response.consume().map_err(|()| "consume")?;
    drop(response);
    let stream = incoming.stream().map_err(|()| "stream")?;
    drop(incoming);
    Ok(format!("{} {:?}", pollable.ready(), stream.blocking_read(100)))
}

fn keep_one(what: &str, authority: &str) -> Told<String> {
    match what {
        "answer" => keep(Kept::Answer(begin(authority, "/")?)),
        "pollable" => keep(Kept::Pollable(begin(authority, "/")?.subscribe())),
        "body" => {
            let request = request(Method::Post, authority, "/", Fields::new())?;
            let body = request.body().map_err(|()| "body")?;
            let stream = body.write().map_err(|()| "write")?;
            keep(Kept::Body(body, stream));
        }
        "stream" => {
            let response = wait(&begin(authority, "/")?)?;
            let incoming = response.consume().map_err(|()| "consume")?;
            keep(Kept::Stream(incoming.stream().map_err(|()| "stream")?));
        }
        "fields" => {
            keep(Kept::Fields(Fields::from_list(&[("a".to_owned(), b"b".to_vec())]).map_err(|e| format!("{e:?}"))?))
        }
        _ => return Err(format!("nothing called {what:?}")),
    }
    Ok("kept".to_owned())
}

fn use_kept() -> Told<String> {
    let kept = KEPT.with_borrow_mut(Vec::pop).ok_or("nothing is kept")?;
    match kept {
        Kept::Answer(answer) => body(&taken(&answer)?).map(|body| format!("{body:?}")),
        Kept::Pollable(pollable) => {
            pollable.block();
            Ok(pollable.ready().to_string())
        }
        Kept::Body(body, stream) => {
            let told = (stream.check_write(), stream.write(b"x"), stream.write_zeroes(1));
            Ok(format!("{told:?} {:?}", OutgoingBody::finish(body, None)))
        }
        Kept::Stream(stream) => Ok(format!("{:?} {:?}", stream.read(1), stream.blocking_skip(1))),
        Kept::Fields(fields) => Ok(format!("{:?}", fields.entries())),
    }
}
