//! Does what each message says: the handler that tests drive.
//!
//! A value is `{"do": "COMMAND", "id": "ID"}`. Whatever the command, a record goes to the output `out` first: the
//! message's key, ID as value, and the headers `id`, `partition`, `offset` and `attempt` (decimal). So a record of a
//! run that failed shows that its effects were not undone.
//!
//! | command | then |
//! |---|---|
//! | `done`, `skip` | that outcome |
//! | `retry` | a retry, each time; code `scripted` |
//! | `fail-times:N` | a retry while the attempt is at most N, then done |
//! | `retry-until:MS` | a retry until the clock shows MS since the epoch, then done |
//! | `delay:MS` | a retry after MS on the first attempt, then done |
//! | `outage` | a retry that blames an outage, each time; code `scripted` |
//! | `outage-until:MS` | the same until the clock shows MS since the epoch, then done |
//! | `dead-letter` | a dead letter; code `scripted` |
//! | `trap` | panics with the text `scripted: ID` |
//! | `trap-times:N` | panics while the attempt is at most N, then done |
//! | `loop` | runs for ever |
//! | `oom` | allocates until it is refused |
//! | `spin:N` | counts to N, then done |
//! | `sends:N` | sends N more records, then done |
//! | `bytes:N` | sends a record of N bytes more, then done |
//! | `unknown-output` | sends to the output `nowhere` |
//! | `log:TEXT` | logs TEXT at each level with the field `id`, then done |
//!
//! Anything else is dead-lettered with the code `bad-script`, and sends nothing.
//!
//! A version that does badly is made by replacing the mark in its binary, [`MARK`], by another of the same length: see [`Vice`].

use std::hint::black_box;
use std::time::Duration;

use keyrail_sdk::prelude::*;
use serde::Deserialize;

/// What this version does with every message, whatever its command.
const MARK: &str = "scripted version: does well";

/// So many turns take some ten milliseconds.
const SLOW: u64 = 20_000_000;

/// By the last word of the mark.
enum Vice {
    /// `well`
    None,
    /// `trap`: panics
    Traps,
    /// `fail`: a dead letter, with the code `vice`
    Fails,
    /// `some`: panics at one offset of 29
    TrapsSometimes,
    /// `slow`: takes some ten milliseconds more
    Slow,
}

impl Vice {
    fn of_mark() -> Self {
        // Read as bytes that nobody knows at compile time: they may be others by now.
        match black_box(MARK).split_whitespace().next_back() {
            Some("trap") => Self::Traps,
            Some("fail") => Self::Fails,
            Some("some") => Self::TrapsSometimes,
            Some("slow") => Self::Slow,
            _ => Self::None,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Script {
    r#do: String,
    id: String,
}

enum Command {
    Done,
    Skip,
    Retry,
    FailTimes(u32),
    Delay(u64),
    Outage,
    OutageUntil(i64),
    RetryUntil(i64),
    DeadLetter,
    Trap,
    TrapTimes(u32),
    Loop,
    Oom,
    Spin(u64),
    Sends(u32),
    Bytes(usize),
    UnknownOutput,
    Log(String),
}

impl Command {
    fn parse(text: &str) -> Option<Self> {
        let (name, argument) = text.split_once(':').map_or((text, None), |(name, argument)| (name, Some(argument)));
        Some(match (name, argument) {
            ("done", None) => Command::Done,
            ("skip", None) => Command::Skip,
            ("retry", None) => Command::Retry,
            ("fail-times", Some(times)) => Command::FailTimes(times.parse().ok()?),
            ("delay", Some(ms)) => Command::Delay(ms.parse().ok()?),
            ("outage", None) => Command::Outage,
            ("outage-until", Some(ms)) => Command::OutageUntil(ms.parse().ok()?),
            ("retry-until", Some(ms)) => Command::RetryUntil(ms.parse().ok()?),
            ("dead-letter", None) => Command::DeadLetter,
            ("trap", None) => Command::Trap,
            ("trap-times", Some(times)) => Command::TrapTimes(times.parse().ok()?),
            ("loop", None) => Command::Loop,
            ("oom", None) => Command::Oom,
            ("spin", Some(count)) => Command::Spin(count.parse().ok()?),
            ("sends", Some(count)) => Command::Sends(count.parse().ok()?),
            ("bytes", Some(count)) => Command::Bytes(count.parse().ok()?),
            ("unknown-output", None) => Command::UnknownOutput,
            ("log", Some(text)) => Command::Log(text.to_owned()),
            _ => return None,
        })
    }
}

fn handle(message: &Message, ctx: &Context) -> Outcome {
    let script: Script = serde_json::from_slice(message.value().unwrap_or_default()).or_dead_letter("bad-script")?;
    let command = Command::parse(&script.r#do)
        .ok_or_else(|| dead_letter("bad-script", format_args!("no command {:?}", script.r#do)))?;
    ctx.send("out", &script.id)
        .header("id", &script.id)
        .header("partition", message.partition().to_string())
        .header("offset", message.offset().to_string())
        .header("attempt", message.attempt().to_string())
        .dispatch()?;
    match Vice::of_mark() {
        Vice::None => {}
        Vice::Traps => trap(&script.id),
        Vice::Fails => return Err(dead_letter("vice", &script.id)),
        Vice::TrapsSometimes if message.offset().is_multiple_of(29) => trap(&script.id),
        Vice::TrapsSometimes => {}
        Vice::Slow => spin(SLOW),
    }
    run(command, &script.id, message.attempt(), ctx)
}

fn spin(turns: u64) {
    for turn in 0..turns {
        black_box(turn);
    }
}

fn run(command: Command, id: &str, attempt: u32, ctx: &Context) -> Outcome {
    let failed = || retry("scripted", format_args!("{id}, attempt {attempt}"));
    match command {
        Command::Done => {}
        Command::Skip => return Ok(Skip),
        Command::Retry => return Err(failed()),
        Command::FailTimes(times) if attempt <= times => return Err(failed()),
        Command::Delay(ms) if attempt == 1 => return Err(failed().after(Duration::from_millis(ms))),
        Command::Outage => return Err(failed().outage()),
        Command::OutageUntil(ms) if ctx.now_ms() < ms => return Err(failed().outage()),
        Command::RetryUntil(ms) if ctx.now_ms() < ms => return Err(failed()),
        Command::DeadLetter => return Err(dead_letter("scripted", format_args!("{id}, attempt {attempt}"))),
        Command::Trap => trap(id),
        Command::TrapTimes(times) if attempt <= times => trap(id),
        Command::FailTimes(_)
        | Command::Delay(_)
        | Command::OutageUntil(_)
        | Command::RetryUntil(_)
        | Command::TrapTimes(_) => {}
        Command::Loop => loop {
            black_box(());
        },
        Command::Oom => {
            let mut hoard = Vec::new();
            loop {
                hoard.push(black_box(vec![1_u8; 1 << 20]));
            }
        }
        Command::Spin(count) => spin(count),
        Command::Sends(count) => {
            for _ in 0..count {
                ctx.send("out", id).dispatch()?;
            }
        }
        Command::Bytes(count) => ctx.send("out", vec![b'x'; count]).dispatch()?,
        Command::UnknownOutput => ctx.send("nowhere", id).dispatch()?,
        Command::Log(text) => {
            trace!(id; "{text}");
            debug!(id; "{text}");
            info!(id; "{text}");
            warn!(id; "{text}");
            error!(id; "{text}");
        }
    }
    Ok(Done)
}

#[expect(clippy::panic, reason = "the host must survive it")]
fn trap(id: &str) -> ! {
    panic!("scripted: {id}")
}

keyrail_sdk::handler!(handle);

#[cfg(test)]
#[allow(clippy::expect_used, clippy::panic, reason = "a test")]
mod tests;
