//! A handler by `wit-bindgen` that sends requests as programs for WASI do: by `wasi:http`, and not by the contract. A message's value
//! is what to do and with what, in words; what came of it is sent to the output `out`, in words.
#![cfg(target_arch = "wasm32")]
#![allow(unsafe_code, reason = "the canonical ABI is raw memory; the generator vouches for it")]

mod misuse;

use bindings::exports::keyrail::handler::guest::Guest;
use bindings::keyrail::handler::emit::{self, Output};
use bindings::keyrail::handler::types::{Failure, Message, Outcome, Setup};
use bindings::wasi::clocks::monotonic_clock;
use bindings::wasi::http::outgoing_handler::handle;
use bindings::wasi::http::types::{
    ErrorCode, Fields, FutureIncomingResponse, IncomingResponse, Method, OutgoingBody, OutgoingRequest, RequestOptions,
    Scheme,
};
use bindings::wasi::io::poll::poll;
use bindings::wasi::io::streams::StreamError;

#[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated")]
mod bindings {
    wit_bindgen::generate!({ path: ["../../../sdk/wit", "wit"], world: "keyrail:outgoing/guest", generate_all });
}

/// What a program says that something went wrong.
type Told<T> = Result<T, String>;

fn words(error: &ErrorCode) -> String {
    format!("{error:?}")
}

fn request(method: Method, authority: &str, path: &str, headers: Fields) -> Told<OutgoingRequest> {
    let request = OutgoingRequest::new(headers);
    request.set_method(&method).map_err(|()| "set-method")?;
    request.set_scheme(Some(&Scheme::Http)).map_err(|()| "set-scheme")?;
    request.set_authority(Some(authority)).map_err(|()| "set-authority")?;
    request.set_path_with_query(Some(path)).map_err(|()| "set-path-with-query")?;
    Ok(request)
}

fn begin(authority: &str, path: &str) -> Told<FutureIncomingResponse> {
    handle(request(Method::Get, authority, path, Fields::new())?, None).map_err(|error| words(&error))
}

/// Waits for it alone.
fn wait(answer: &FutureIncomingResponse) -> Told<IncomingResponse> {
    answer.subscribe().block();
    taken(answer)
}

fn taken(answer: &FutureIncomingResponse) -> Told<IncomingResponse> {
    let told = answer.get().ok_or("no answer after waiting")?;
    told.map_err(|()| "taken before")?.map_err(|error| words(&error))
}

/// Reads all of it, and closes it.
fn body(response: &IncomingResponse) -> Told<Vec<u8>> {
    let body = response.consume().map_err(|()| "consume")?;
    let stream = body.stream().map_err(|()| "stream")?;
    let mut all = Vec::new();
    loop {
        match stream.blocking_read(7) {
            Ok(bytes) => all.extend(bytes),
            Err(StreamError::Closed) => break,
            Err(StreamError::LastOperationFailed(error)) => return Err(error.to_debug_string()),
        }
    }
    drop(stream);
    let trailers = bindings::wasi::http::types::IncomingBody::finish(body);
    trailers.subscribe().block();
    match (trailers.get(), trailers.get()) {
        (Some(Ok(Ok(None))), Some(Err(()))) => Ok(all),
        told => Err(format!("trailers: {told:?}")),
    }
}

fn shown(response: &IncomingResponse) -> Told<String> {
    let headers: Vec<_> = response.headers().entries();
    let headers = headers.iter().map(|(name, value)| format!("{name}={}", String::from_utf8_lossy(value)));
    let headers = headers.collect::<Vec<_>>().join(",");
    Ok(format!("{} [{headers}] {}", response.status(), String::from_utf8_lossy(&body(response)?)))
}

fn get(authority: &str, path: &str) -> Told<String> {
    shown(&wait(&begin(authority, path)?)?)
}

fn write(body: OutgoingBody, bytes: &[u8]) -> Told<()> {
    let stream = body.write().map_err(|()| "write")?;
    let half = bytes.len() / 2;
    stream.subscribe().block();
    let room = stream.check_write().map_err(|error| format!("{error:?}"))?;
    if (room as usize) < half {
        return Err(format!("room for {room}"));
    }
    stream.write(&bytes[..half]).map_err(|error| format!("{error:?}"))?;
    stream.flush().map_err(|error| format!("{error:?}"))?;
    stream.blocking_write_and_flush(&bytes[half..]).map_err(|error| format!("{error:?}"))?;
    stream.write_zeroes(1).map_err(|error| format!("{error:?}"))?;
    drop(stream);
    OutgoingBody::finish(body, None).map_err(|error| words(&error))
}

/// The body is written `first`, or once the request was handed over.
fn post(authority: &str, text: &str, first: bool) -> Told<String> {
    let headers = [
        ("Content-Type".to_owned(), b"text/plain".to_vec()),
        ("content-length".to_owned(), (text.len() + 1).to_string().into_bytes()),
    ];
    let headers = Fields::from_list(&headers).map_err(|error| format!("{error:?}"))?;
    let request = request(Method::Post, authority, "/post?a=b", headers)?;
    let body = request.body().map_err(|()| "body")?;
    let options = RequestOptions::new();
    options.set_connect_timeout(Some(1_000_000_000)).map_err(|()| "connect")?;
    options.set_first_byte_timeout(Some(2_000_000_000)).map_err(|()| "first byte")?;
    let answer = if first {
        write(body, text.as_bytes())?;
        handle(request, Some(options)).map_err(|error| words(&error))?
    } else {
        let answer = handle(request, Some(options)).map_err(|error| words(&error))?;
        write(body, text.as_bytes())?;
        answer
    };
    shown(&wait(&answer)?)
}

/// Begins one request for each path, then takes the answers as they come.
fn several(authority: &str, paths: &[&str]) -> Told<String> {
    let answers = paths.iter().map(|path| begin(authority, path)).collect::<Told<Vec<_>>>()?;
    let mut waiting: Vec<_> = answers.iter().map(|answer| (answer, answer.subscribe())).collect();
    let mut all = Vec::new();
    while !waiting.is_empty() {
        let ready = poll(&waiting.iter().map(|(_, pollable)| pollable).collect::<Vec<_>>());
        for place in ready.into_iter().rev() {
            let (answer, pollable) = waiting.remove(place as usize);
            if !pollable.ready() {
                return Err("ready, and then not".to_owned());
            }
            all.push(String::from_utf8_lossy(&body(&taken(answer)?)?).into_owned());
        }
    }
    Ok(all.join(" "))
}

/// Waits for an answer, but no longer than that.
fn race(authority: &str, path: &str, most_ms: u64) -> Told<String> {
    let before = monotonic_clock::now();
    let answer = begin(authority, path)?;
    let pollables = [answer.subscribe(), monotonic_clock::subscribe_duration(most_ms * 1_000_000)];
    let ready = poll(&pollables.iter().collect::<Vec<_>>());
    let moved_ms = (monotonic_clock::now() - before) / 1_000_000;
    Ok(format!("{ready:?} after {moved_ms} ms"))
}

fn run(command: &str) -> Told<String> {
    let words: Vec<&str> = command.split(' ').collect();
    match words.as_slice() {
        ["get", authority, path] => get(authority, path),
        ["post", authority, text] => post(authority, text, false),
        ["write-first", authority, text] => post(authority, text, true),
        ["several", authority, paths @ ..] => several(authority, paths),
        ["race", authority, path, most_ms] => {
            race(authority, path, most_ms.parse().map_err(|_| "a number of milliseconds")?)
        }
        [what, rest @ ..] => misuse::run(what, rest),
        [] => Err("no command".to_owned()),
    }
}

struct Outgoing;

fn one(slot: u32, message: &Message) -> Outcome {
    let command = String::from_utf8_lossy(message.value.as_deref().unwrap_or_default()).into_owned();
    let said = run(&command).unwrap_or_else(|error| format!("failed: {error}"));
    let output = Output {
        to: "out".to_owned(),
        key: None,
        value: Some(said.into_bytes()),
        headers: Vec::new(),
        forward_headers: false,
        timestamp_ms: None,
        delay_ms: None,
    };
    match emit::send(slot, &output) {
        Ok(()) => Outcome::Done,
        Err(error) => Outcome::DeadLetter(Failure { code: "emit".to_owned(), detail: format!("{error:?}") }),
    }
}

impl Guest for Outgoing {
    fn open(_: Setup) -> Result<(), String> {
        // There is no message for which a request could be made, so none can be.
        match begin("a.test:80", "/").map(drop) {
            Err(refused) if refused == "ErrorCode::HttpRequestDenied" => Ok(()),
            other => Err(format!("a request in open: {other:?}")),
        }
    }

    fn process(batch: Vec<Message>) -> Vec<Outcome> {
        (0..).zip(&batch).map(|(slot, message)| one(slot, message)).collect()
    }
}

bindings::export!(Outgoing with_types_in bindings);
