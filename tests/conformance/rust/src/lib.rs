//! The conformance handler by the SDK for Rust: see README.md beside this folder.

use keyrail_sdk::http::{Answer, Reason, Request};
use keyrail_sdk::prelude::*;
use keyrail_sdk::{Source, Verdict, log};
use std::fmt::Write as _;
use std::time::Duration;

const OUT: &str = "out";
/// So many headers are described.
const DESCRIBED: usize = 3;

fn open(setup: &Setup) -> Result<(), String> {
    setup.config("refuse").map_or(Ok(()), |words| Err(words.to_owned()))
}

/// The requests of the header `ask`.
fn prepare(_message: &Message, ctx: &Context) -> Result<Vec<Request>, Problem> {
    let script = String::from_utf8(ctx.header("ask").unwrap_or_default())?;
    let request = |line: &str| match split(line) {
        ("dead", rest) => {
            let (code, text) = split(rest);
            Err(dead_letter(code.to_owned(), text))
        }
        _ => Ok(request(line)),
    };
    script.lines().filter(|line| !line.is_empty()).map(request).collect()
}

fn handle(message: &Message, ctx: &Context, answers: Vec<Answer>) -> Outcome {
    let Some(script) = ctx.header("do") else { return describe(message, ctx).map(|()| Done) };
    let mut outside = Outside { asked: Vec::new(), answers };
    for line in String::from_utf8(script)?.lines().filter(|line| !line.is_empty()) {
        if outside.run(line, ctx)? {
            continue;
        }
        if let Some(end) = run(line, message, ctx)? {
            return Ok(end);
        }
    }
    Ok(Done)
}

/// What a message asks by HTTP.
struct Outside {
    asked: Vec<Request>,
    answers: Vec<Answer>,
}

impl Outside {
    /// Runs a line; whether it was one of these.
    fn run(&mut self, line: &str, ctx: &Context) -> Result<bool, Problem> {
        let (verb, rest) = split(line);
        match verb {
            "ask" => self.asked.push(request(rest)),
            "ask-header" => {
                let (name, text) = split(rest);
                self.change(|request| request.header(name, text));
            }
            "ask-timeout" => {
                let timeout = Duration::from_millis(number(rest)?.0);
                self.change(|request| request.timeout(timeout));
            }
            "fetch" => told(&ctx.fetch_all(std::mem::take(&mut self.asked)), ctx)?,
            "answers" => told(&self.answers, ctx)?,
            "ok" => told(&[Ok(ctx.fetch(request(rest))?.ok_or_retry()?)], ctx)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn change(&mut self, change: impl FnOnce(Request) -> Request) {
        let last = self.asked.pop().map(change);
        self.asked.extend(last);
    }
}

/// `METHOD URL [TEXT]`.
fn request(line: &str) -> Request {
    let (method, rest) = split(line);
    let (url, text) = split(rest);
    let request = Request::new(url);
    let request = if method == "-" { request } else { request.with_method(method) };
    if text.is_empty() { request } else { request.body(text) }
}

fn told(answers: &[Answer], ctx: &Context) -> Result<(), Problem> {
    let line = |answer: &Answer| match answer {
        Ok(response) => [response.status().to_string().as_bytes(), b" ", response.body()].concat(),
        Err(error) => format!("error {}", code(error.reason())).into_bytes(),
    };
    let lines: Vec<Vec<u8>> = answers.iter().map(line).collect();
    Ok(ctx.send(OUT, lines.join(&b'\n')).dispatch()?)
}

fn code(reason: &Reason) -> &'static str {
    match reason {
        Reason::Denied(_) => "denied",
        Reason::Invalid(_) => "invalid",
        Reason::Timeout => "timeout",
        Reason::Unreachable(_) => "unreachable",
        Reason::TooLarge => "too-large",
    }
}

/// Runs a line; how the message ends, if it ends with it.
fn run(line: &str, message: &Message, ctx: &Context) -> Result<Option<Verdict>, Problem> {
    let (verb, rest) = split(line);
    match verb {
        "describe" => describe(message, ctx)?,
        "send" => {
            let (to, text) = split(rest);
            ctx.send(to, text).dispatch()?;
        }
        "caught" => {
            let code = ctx.send(rest, "x").dispatch().err().map_or("nothing", |error| error.code());
            say(ctx, &format!("caught {code}"))?;
        }
        "record" => ctx
            .send(OUT, "v2")
            .key("k2")
            .header("a", "1")
            .header("b", Null)
            .header("a", "2")
            .forward_headers()
            .timestamp_ms(1_234_567_890_123)
            .dispatch()?,
        "tombstone" => ctx.send(OUT, Null).dispatch()?,
        "keyless" => ctx.send(OUT, "").key(Null).dispatch()?,
        "later" => {
            let (ms, text) = number(rest)?;
            ctx.send(OUT, text).delay(Duration::from_millis(ms)).dispatch()?;
        }
        "put" | "put-for" | "delete" | "get" | "scan" => state(verb, rest, ctx)?,
        "timer" => {
            let (name, rest) = split(rest);
            let (ms, text) = number(rest)?;
            ctx.timers().set_after(name, Duration::from_millis(ms), text)?;
        }
        "cancel" => ctx.timers().cancel(rest)?,
        "header" => say(ctx, &format!("header {rest} {}", shown(ctx.header(rest).as_deref())))?,
        "now" => say(ctx, &format!("now {}", ctx.now_ms()))?,
        "deadline" => say(ctx, &format!("deadline {}", ctx.deadline_ms() - ctx.now_ms()))?,
        "random" => say(ctx, &format!("random {} {}", ctx.random(), ctx.random()))?,
        "config" => {
            let found = ctx.setup().config(rest).map(str::as_bytes);
            say(ctx, &format!("config {rest} {}", shown(found)))?;
        }
        "log" => {
            let (level, text) = split(rest);
            log::log!(level.parse::<log::Level>().or_dead_letter("level")?, "{text}");
        }
        "count" => ctx.observe(ctx.setup().counter(rest, &[]), 1.0),
        "skip" => return Ok(Some(Skip)),
        _ => return ends(verb, line, rest, message),
    }
    Ok(None)
}

fn state(verb: &str, rest: &str, ctx: &Context) -> Result<(), Problem> {
    let state = ctx.state();
    let (name, text) = split(rest);
    match verb {
        "put" => state.put(name, text)?,
        "put-for" => {
            let (ms, rest) = number(rest)?;
            let (name, text) = split(rest);
            state.put_for(name, text, Duration::from_millis(ms))?;
        }
        "delete" => state.delete(name)?,
        "get" => say(ctx, &format!("get {name} {}", shown(state.get(name)?.as_deref())))?,
        _ => {
            let (limit, after) = number(text)?;
            let prefix = if name == "-" { "" } else { name };
            let found = state.scan(prefix, Some(after).filter(|after| !after.is_empty()), u32::try_from(limit)?)?;
            let told: Vec<_> = found.iter().map(|(name, value)| format!("{name}={}", shown(Some(value)))).collect();
            say(ctx, &format!("scan {}", told.join(",")))?;
        }
    }
    Ok(())
}

/// What ends a message otherwise than well.
fn ends(verb: &str, line: &str, rest: &str, message: &Message) -> Result<Option<Verdict>, Problem> {
    let (code, text) = split(rest);
    let code = code.to_owned();
    Err(match verb {
        "until" => {
            let (times, code) = number(rest)?;
            if u64::from(message.attempt()) > times {
                return Ok(None);
            }
            retry(code.to_owned(), format!("attempt {}", message.attempt()))
        }
        "retry" => retry(code, text),
        "after" => {
            let (ms, rest) = number(rest)?;
            let (code, text) = split(rest);
            retry(code.to_owned(), text).after(Duration::from_millis(ms))
        }
        "outage" => retry(code, text).outage(),
        "dead" => dead_letter(code, text),
        "raise" => std::io::Error::other(rest.to_owned()).into(),
        _ => dead_letter("unknown-command", line),
    })
}

/// The first word, and what follows its space.
fn split(text: &str) -> (&str, &str) {
    text.split_once(' ').unwrap_or((text, ""))
}

fn number(text: &str) -> Result<(u64, &str), Problem> {
    let (number, rest) = split(text);
    Ok((number.parse()?, rest))
}

fn say(ctx: &Context, text: &str) -> Result<(), Problem> {
    Ok(ctx.send(OUT, text).dispatch()?)
}

fn shown(bytes: Option<&[u8]>) -> String {
    bytes.map_or_else(|| "null".to_owned(), |bytes| String::from_utf8_lossy(bytes).into_owned())
}

fn hashed(bytes: Option<&[u8]>) -> String {
    let hash = |bytes: &[u8]| {
        bytes.iter().fold(2_166_136_261_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(16_777_619))
    };
    bytes.map_or_else(|| "null".to_owned(), |bytes| format!("{} {:08x}", bytes.len(), hash(bytes)))
}

fn describe(message: &Message, ctx: &Context) -> Result<(), Problem> {
    let mut told = match message.source() {
        Source::Topic(_) => format!("from topic {}", ctx.topic().unwrap_or("?")),
        Source::Timer(name) => format!("from timer {name}"),
    };
    write!(
        told,
        "\nat {}/{} {}\nattempt {}\nid {}\nfollows {}\nkey {}\nvalue {}",
        message.partition(),
        message.offset(),
        message.timestamp_ms(),
        message.attempt(),
        ctx.id(),
        if ctx.follows_dead_letter() { "yes" } else { "no" },
        hashed(message.key()),
        hashed(message.value()),
    )?;
    let headers = ctx.headers();
    write!(told, "\nheaders {}", headers.len())?;
    for header in headers.iter().take(DESCRIBED) {
        write!(told, "\nheader {} {}", header.name, hashed(header.value.as_deref()))?;
    }
    say(ctx, &told)
}

keyrail_sdk::http_handler!(prepare, handle, open = open);
