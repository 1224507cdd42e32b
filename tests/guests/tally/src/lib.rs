//! Counts the messages of each key: sends each to the output `out` as `COUNT VALUE`, with the count in the key's state under
//! `count`. What is counted twice, or not at all, shows in what it sends.
//!
//! A value that begins with `forget` deletes the count behind it, one with `fail N` fails on its first N runs, after it has
//! counted: nothing of that may stay. `briefly` counts in a value that ends after half a second.

use keyrail_sdk::prelude::*;
use std::time::Duration;

const COUNT: &str = "count";

fn handle(message: &Message, ctx: &Context) -> Outcome {
    let value = std::str::from_utf8(message.value().unwrap_or_default()).or_dead_letter("utf-8")?;
    let state = ctx.state();
    let before = match state.get(COUNT)? {
        None => 0,
        Some(bytes) => match std::str::from_utf8(&bytes).ok().and_then(|text| text.parse::<u64>().ok()) {
            Some(count) => count,
            None => return Err(dead_letter("count", "the state is no number")),
        },
    };
    let count = before + 1;
    if value.starts_with("briefly") {
        state.put_for(COUNT, count.to_string(), Duration::from_millis(500))?;
    } else {
        state.put(COUNT, count.to_string())?;
    }
    if let Some(times) = value.strip_prefix("fail ").and_then(|times| times.split(' ').next()?.parse::<u32>().ok())
        && message.attempt() <= times
    {
        return Err(retry("asked", "the message asks to fail"));
    }
    ctx.send("out", format!("{count} {value}")).dispatch()?;
    if value.starts_with("forget") {
        state.delete(COUNT)?;
    }
    Ok(Done)
}

keyrail_sdk::handler!(handle);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail by panic")]

    use super::*;
    use keyrail_sdk::testing::{Host, Input};

    #[test]
    fn each_key_is_counted_for_itself() {
        let mut host = Host::new().output("out");
        let mut told = Vec::new();
        for (key, value) in [("a", "x"), ("a", "y"), ("b", "x"), ("a", "forget"), ("a", "z")] {
            let run = host.run(handle, Input::new(value).key(key));
            assert_eq!(run.outcome, Ok(Done));
            told.push(String::from_utf8(run.sent[0].value.clone().unwrap()).unwrap());
        }
        assert_eq!(told, ["1 x", "2 y", "1 x", "3 forget", "1 z"]);
    }

    #[test]
    fn a_message_without_a_key_has_no_state() {
        let mut host = Host::new().output("out");
        let run = host.run(handle, Input::new("x"));
        assert_eq!(run.outcome.unwrap_err().code(), "no-key");
    }
}
