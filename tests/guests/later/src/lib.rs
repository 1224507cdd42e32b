//! Sends with a delay what each message says, and imports neither state nor timers.
//!
//! A value is commands with `; ` between them:
//!
//! | command | does |
//! |---|---|
//! | `in MS TEXT` | sends the text to the output `out`, so many milliseconds later; 0: at once |
//! | `to OUTPUT MS TEXT` | the same to another output |
//! | `all MS TEXT` | the same to `out`, without a key, with the message's headers and one of its own, and the time 7 |
//! | `big MS BYTES` | sends so many bytes |
//! | `fail N` | fails on its first N runs |
//! | `dead` | gives the message up |
//!
//! All else is a word that means nothing.

use keyrail_sdk::prelude::*;
use std::time::Duration;

fn handle(message: &Message, ctx: &Context) -> Outcome {
    let value = std::str::from_utf8(message.value().unwrap_or_default()).or_dead_letter("utf-8")?;
    for command in value.split("; ") {
        obey(command, message, ctx)?;
    }
    Ok(Done)
}

fn obey(command: &str, message: &Message, ctx: &Context) -> Result<(), Problem> {
    let (name, rest) = command.split_once(' ').unwrap_or((command, ""));
    match name {
        "in" => send(ctx, "out", rest)?,
        "to" => {
            let (output, rest) = rest.split_once(' ').ok_or("it wants more words").or_dead_letter("words")?;
            send(ctx, output, rest)?;
        }
        "all" => {
            let (wait, text) = wait(rest)?;
            let out = ctx.send("out", text).key(Null).header("own", "1").timestamp_ms(7);
            out.forward_headers().delay(wait).dispatch()?;
        }
        "big" => {
            let (wait, bytes) = wait(rest)?;
            ctx.send("out", vec![b'x'; bytes.parse().or_dead_letter("number")?]).delay(wait).dispatch()?;
        }
        "fail" if message.attempt() <= rest.parse().or_dead_letter("number")? => {
            return Err(retry("asked", "the message asks to fail"));
        }
        "dead" => return Err(dead_letter("asked", "the message asks to be given up")),
        _ => {}
    }
    Ok(())
}

fn send(ctx: &Context, output: &str, rest: &str) -> Result<(), Problem> {
    let (wait, text) = wait(rest)?;
    // What the host refuses no other run mends.
    ctx.send(output, text).delay(wait).dispatch().or_dead_letter("refused")
}

fn wait(rest: &str) -> Result<(Duration, &str), Problem> {
    let (wait, text) = rest.split_once(' ').ok_or("it wants more words").or_dead_letter("words")?;
    Ok((Duration::from_millis(wait.parse().or_dead_letter("number")?), text))
}

keyrail_sdk::handler!(handle);

#[cfg(test)]
mod tests {
    use super::*;
    use keyrail_sdk::testing::{Host, Input};

    #[test]
    fn sends_say_how_long_they_wait() {
        let mut host = Host::new().output("out");
        let run = host.run(handle, Input::new("in 5 word; in 0 now; to other 1 x").key("k"));
        assert_eq!(run.outcome.map_err(|problem| problem.code().to_owned()), Err("refused".to_owned()));
        let run = host.run(handle, Input::new("in 5 two words").key("k"));
        assert_eq!(run.outcome, Ok(Done));
        let sent: Vec<_> = run.sent.iter().map(|sent| (sent.value(), sent.delay)).collect();
        assert_eq!(sent, [(&b"two words"[..], Some(Duration::from_millis(5)))]);
    }
}
