//! Makes the HTTP requests that its messages ask for, those of a whole batch at the same time.
//!
//! A message's value has a line for each: `METHOD URL [BODY]`; behind a `~MS ` it has so long. Each answer goes to the output `out` as
//! `STATUS BODY`, or `error NAME WORDS`. Any answer but 2xx, and none, makes the message fail: `dead-letter` with 4xx, and where nothing
//! was sent, else `retry`.
#![cfg(target_arch = "wasm32")]
#![allow(unsafe_code, reason = "the canonical ABI is raw memory; the generator vouches for it")]

use bindings::exports::keyrail::handler::guest::Guest;
use bindings::keyrail::handler::emit::{self, Output};
use bindings::keyrail::handler::http::{Error, Request, Response, fetch_all};
use bindings::keyrail::handler::types::{Failure, Message, Outcome, Retry, Setup};

#[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated")]
mod bindings {
    wit_bindgen::generate!({ path: "../../../sdk/wit", world: "handler", generate_all });
}

struct Caller;

fn request(slot: u32, line: &str) -> Request {
    let (timeout_ms, line) = match line.strip_prefix('~').and_then(|line| line.split_once(' ')) {
        Some((ms, line)) => (ms.parse().ok(), line),
        None => (None, line),
    };
    let mut words = line.splitn(3, ' ');
    let mut word = || words.next().unwrap_or_default().to_owned();
    let (method, url, body) = (word(), word(), word());
    let body = Some(body.into_bytes()).filter(|body| !body.is_empty());
    Request { slot, method, url, headers: vec![("X-Slot".to_owned(), slot.to_string().into_bytes())], body, timeout_ms }
}

fn failure(code: &str, detail: &str) -> Failure {
    Failure { code: code.to_owned(), detail: detail.to_owned() }
}

fn retry(code: &str, detail: &str) -> Outcome {
    Outcome::Retry(Retry { failure: failure(code, detail), delay_ms: None, outage: false })
}

/// What is said of an answer, and what follows for its message if that is a failure.
fn judge(answer: &Result<Response, Error>) -> (String, Option<Outcome>) {
    match answer {
        Ok(response) => {
            let (status, body) = (response.status, String::from_utf8_lossy(&response.body));
            let failed = match status {
                200..300 => None,
                400..500 => Some(Outcome::DeadLetter(failure("refused", &status.to_string()))),
                _ => Some(retry("failing", &status.to_string())),
            };
            (format!("{status} {body}"), failed)
        }
        Err(Error::Denied(why)) => (format!("error denied {why}"), Some(Outcome::DeadLetter(failure("denied", why)))),
        Err(Error::Invalid(why)) => {
            (format!("error invalid {why}"), Some(Outcome::DeadLetter(failure("invalid", why))))
        }
        Err(Error::TooLarge) => ("error too-large".to_owned(), Some(Outcome::DeadLetter(failure("too-large", "")))),
        Err(Error::Timeout) => ("error timeout".to_owned(), Some(retry("timeout", ""))),
        Err(Error::Unreachable(why)) => (format!("error unreachable {why}"), Some(retry("unreachable", why))),
    }
}

impl Guest for Caller {
    fn open(_: Setup) -> Result<(), String> {
        Ok(())
    }

    fn process(batch: Vec<Message>) -> Vec<Outcome> {
        let texts: Vec<_> =
            batch.iter().map(|m| String::from_utf8_lossy(m.value.as_deref().unwrap_or_default())).collect();
        let asked: Vec<Request> =
            (0..).zip(&texts).flat_map(|(slot, text)| text.lines().map(move |line| request(slot, line))).collect();
        let mut answers = fetch_all(&asked).into_iter();
        let mut outcomes = Vec::new();
        for (slot, (message, text)) in (0..).zip(batch.iter().zip(&texts)) {
            let mut outcome = Outcome::Done;
            for answer in answers.by_ref().take(text.lines().count()) {
                let (said, failed) = judge(&answer);
                outcome = failed.unwrap_or(outcome);
                let output = Output {
                    to: "out".to_owned(),
                    key: message.key.clone(),
                    value: Some(said.into_bytes()),
                    headers: Vec::new(),
                    forward_headers: false,
                    timestamp_ms: None,
                    delay_ms: None,
                };
                if emit::send(slot, &output).is_err() {
                    outcome = Outcome::DeadLetter(failure("send", "refused"));
                }
            }
            outcomes.push(outcome);
        }
        outcomes
    }
}

bindings::export!(Caller with_types_in bindings);
