//! Does with timers what each message says, and what each timer's payload says. Sends a record to the output `out` for each: its
//! value, behind `message` or `timer NAME OFFSET`, the offset being that of the message that set it; `early NAME` for a timer
//! that comes before its time.
//!
//! A value is commands with `; ` between them:
//!
//! | command | does |
//! |---|---|
//! | `set NAME MS COMMANDS` | sets a timer for this time since the Unix epoch; the rest, with `, ` for `; `, is its payload |
//! | `again NAME MS TIMES` | sets one that comes so many milliseconds later, so often |
//! | `cancel NAME` | |
//! | `fail N` | fails on its first N runs |
//! | `dead` | gives the message up |
//!
//! All else is a word that means nothing.

use keyrail_sdk::prelude::*;
use std::time::Duration;

fn handle(message: &Message, ctx: &Context) -> Outcome {
    let value = std::str::from_utf8(message.value().unwrap_or_default()).or_dead_letter("utf-8")?;
    let said = match message.timer() {
        None => format!("message {value}"),
        Some(name) if ctx.now_ms() < message.timestamp_ms() => format!("early {name}"),
        Some(name) => format!("timer {name} {} {value}", message.offset()),
    };
    ctx.send("out", said).dispatch()?;
    for command in value.split("; ") {
        obey(command, message, ctx)?;
    }
    Ok(Done)
}

fn obey(command: &str, message: &Message, ctx: &Context) -> Result<(), Problem> {
    let words: Vec<&str> = command.splitn(4, ' ').collect();
    match words[..] {
        ["set", name, at_ms, payload] => {
            ctx.timers().set(name, number(at_ms)?, payload.replace(", ", "; "))?;
        }
        ["again", _, _, "0"] => {}
        ["again", name, wait_ms, times] => {
            let left = number(times)? - 1;
            let wait = Duration::from_millis(number(wait_ms)?.unsigned_abs());
            ctx.timers().set_after(name, wait, format!("again {name} {wait_ms} {left}"))?;
        }
        ["cancel", name] => ctx.timers().cancel(name)?,
        ["fail", times] if i64::from(message.attempt()) <= number(times)? => {
            return Err(retry("asked", "the message asks to fail"));
        }
        ["dead"] => return Err(dead_letter("asked", "the message asks to be given up")),
        _ => {}
    }
    Ok(())
}

fn number(text: &str) -> Result<i64, Problem> {
    text.parse().map_err(|_| dead_letter("number", format!("{text} is no number")))
}

keyrail_sdk::handler!(handle);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail by panic")]

    use super::*;
    use keyrail_sdk::testing::{Host, Input};

    #[test]
    fn timers_do_what_their_payloads_say() {
        let mut host = Host::new().output("out");
        let run = host.run(handle, Input::new("set a 5 word, cancel b; set b 6 x").key("k"));
        assert_eq!(run.outcome, Ok(Done));
        assert_eq!(host.timers().len(), 2);
        let due = host.due_timers();
        assert_eq!(due.len(), 2);
        let run = host.run(handle, due[0].clone());
        assert_eq!(run.outcome, Ok(Done));
        assert_eq!(run.sent[0].value.as_deref(), Some(&b"timer a 0 word; cancel b"[..]));
    }
}
