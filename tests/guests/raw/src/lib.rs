//! A handler by `wit-bindgen` from handler.wit alone: see sdk/CONTRACT.md. It calls every function of the contract once for each
//! message and sends what they gave to the output `out`. Its build of 0.1.0 lies in tests/guests/frozen and runs for ever.
#![cfg(target_arch = "wasm32")]
#![allow(unsafe_code, reason = "the canonical ABI is raw memory; the generator vouches for it")]

use bindings::exports::keyrail::handler::guest::Guest;
use bindings::keyrail::handler::emit::Output;
use bindings::keyrail::handler::types::{Error, Failure, Header, Message, Outcome, Retry, Setup, Source};
use bindings::keyrail::handler::{context, emit, log, metrics, state, timers};

#[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated")]
mod bindings {
    wit_bindgen::generate!({ path: "../../../sdk/wit", world: "handler", generate_all });
}

struct Raw;

/// What a call was refused with.
fn failed(error: Error) -> Outcome {
    let code = match error {
        Error::NoKey => "no-key",
        Error::UnknownOutput => "unknown-output",
        Error::TooLarge => "too-large",
        Error::OverQuota => "over-quota",
        Error::Other(detail) => {
            let failure = Failure { code: "other".to_owned(), detail };
            return Outcome::Retry(Retry { failure, delay_ms: Some(5_000), outage: false });
        }
    };
    Outcome::DeadLetter(Failure { code: code.to_owned(), detail: "refused".to_owned() })
}

fn text(bytes: Option<&[u8]>) -> String {
    bytes.map_or_else(|| "null".to_owned(), |bytes| String::from_utf8_lossy(bytes).into_owned())
}

fn handle(slot: u32, message: &Message) -> Result<Outcome, Error> {
    let value = text(message.value.as_deref());
    let from = match &message.source {
        Source::Topic(index) => format!("topic {index}"),
        Source::Timer(name) => format!("timer {name}"),
    };
    if value == "skip" {
        return Ok(Outcome::Skip);
    }
    if value == "outage" && context::now_ms() < message.timestamp_ms + 1_000 {
        let failure = Failure { code: "down".to_owned(), detail: from };
        return Ok(Outcome::Retry(Retry { failure, delay_ms: None, outage: true }));
    }
    state::put(slot, "last", value.as_bytes(), None)?;
    state::put(slot, "short", b"x", Some(1_000))?;
    state::delete(slot, "none")?;
    let last = state::get(slot, "last")?;
    let page = state::scan(slot, "", None, 10)?;
    if matches!(message.source, Source::Topic(_)) {
        timers::set(slot, "again", context::now_ms() + 1_000, value.as_bytes())?;
        timers::set(slot, "never", context::now_ms() + 1_000, b"")?;
        timers::cancel(slot, "never")?;
    }
    if log::threshold() <= log::Level::Info {
        log::write(log::Level::Info, &value, &[("from".to_owned(), from.clone())]);
    }
    let seen = metrics::register("seen", metrics::Kind::Counter, &[("from".to_owned(), from.clone())]);
    metrics::observe(seen, 1.0);
    let headers: Vec<String> = context::headers(slot).iter().map(|Header { name, .. }| name.clone()).collect();
    let said = format!(
        "{from} {}/{} {} attempt {} id {} last {} names {} headers {} h {} follows {} time left {} chance {}",
        message.partition,
        message.offset,
        message.timestamp_ms,
        message.attempt,
        context::id(slot),
        text(last.as_deref()),
        page.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(","),
        headers.join(","),
        text(context::header_value(slot, "h").as_deref()),
        context::follows_dead_letter(slot),
        context::deadline_ms() - context::now_ms(),
        context::random(slot),
    );
    emit::send(
        slot,
        &Output {
            to: "out".to_owned(),
            key: message.key.clone(),
            value: Some(said.into_bytes()),
            headers: vec![Header { name: "own".to_owned(), value: None }],
            forward_headers: true,
            timestamp_ms: Some(7),
            delay_ms: None,
        },
    )?;
    Ok(Outcome::Done)
}

impl Guest for Raw {
    fn open(setup: Setup) -> Result<(), String> {
        let Setup { handler, topics, outputs, config, max_batch } = setup;
        let known = !handler.is_empty() && !topics.is_empty() && !outputs.is_empty() && max_batch > 0;
        if known && config.is_empty() { Ok(()) } else { Err("this handler takes no configuration".to_owned()) }
    }

    fn process(batch: Vec<Message>) -> Vec<Outcome> {
        (0..).zip(&batch).map(|(slot, message)| handle(slot, message).unwrap_or_else(failed)).collect()
    }
}

bindings::export!(Raw with_types_in bindings);
