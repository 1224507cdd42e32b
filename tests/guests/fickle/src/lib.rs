//! Fails as its messages say, with words that hold all that a run follows from: what is kept of the key, time, chance, headers,
//! id and attempt. A run that is repeated must say the same to the letter.
//!
//! A value's first word is what it does at the end: `retry`, `outage`, `wait` (a retry that names its time), `dead`, `panic`,
//! `loop`, `flood` (sends more than it may), `lucky` (a retry in seven cases of eight, by chance), `old` (a dead letter if it is
//! older than that many milliseconds, the next word), `skip`; all else is done. Each message counts in the key's state under
//! `count` and leaves its offset under `at/OFFSET`, of which the last few are looked at.

use keyrail_sdk::prelude::*;
use std::time::Duration;

const COUNT: &str = "count";
/// So many values are looked at, at most.
const LOOK: u32 = 3;

fn handle(message: &Message, ctx: &Context) -> Outcome {
    let value = std::str::from_utf8(message.value().unwrap_or_default()).or_dead_letter("utf-8")?;
    let state = ctx.state();
    let before = state.get(COUNT)?.map_or(0, |bytes| bytes.len());
    state.put(COUNT, vec![b'x'; before + 1])?;
    let own = format!("at/{:0>9}", message.offset());
    state.put(&own, value)?;
    // What was just changed and what was there stand among each other.
    let first = state.scan("at/", None, LOOK)?;
    let rest = state.scan("at/", first.last().map(|(name, _)| name.as_str()), LOOK)?;
    if let Some((name, _)) = first.iter().find(|(name, _)| *name != own) {
        state.delete(name)?;
    }
    let counted = state.get(COUNT)?.map_or(0, |bytes| bytes.len());
    let headers: Vec<String> = ctx.headers().iter().map(|header| header.name.clone()).collect();
    let chance = ctx.random();
    let told = format!(
        "{value}: {before} {counted} {first:?} {rest:?} {} {chance} {} {} {} {headers:?} {}",
        ctx.now_ms(),
        ctx.deadline_ms() - ctx.now_ms(),
        ctx.id(),
        message.attempt(),
        ctx.follows_dead_letter(),
    );
    ctx.send("out", &told).dispatch()?;
    let mut words = value.split(' ');
    match words.next().unwrap_or_default() {
        "retry" => Err(retry("asked", told)),
        "outage" => Err(retry("asked", told).outage()),
        "wait" => Err(retry("asked", told).after(Duration::from_millis(chance % 20))),
        "dead" => Err(dead_letter("asked", told)),
        "panic" => give_up(&told),
        "loop" => loop {
            std::hint::black_box(());
        },
        "flood" => {
            for _ in 0..2_000 {
                ctx.send("out", "more").dispatch()?;
            }
            Ok(Done)
        }
        "lucky" if !chance.is_multiple_of(8) => Err(retry("unlucky", told)),
        "old" => match words.next().and_then(|ms| ms.parse().ok()) {
            Some(ms) if ctx.now_ms() - message.timestamp_ms() > ms => Err(dead_letter("old", told)),
            _ => Ok(Done),
        },
        "skip" => Ok(Skip),
        _ => Ok(Done),
    }
}

#[expect(clippy::panic, reason = "the host must survive it")]
fn give_up(told: &str) -> ! {
    panic!("{told}")
}

keyrail_sdk::handler!(handle);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail by panic")]

    use super::*;
    use keyrail_sdk::testing::{Host, Input};

    #[test]
    fn what_it_says_follows_from_what_is_kept() {
        let mut host = Host::new().output("out");
        let first = host.run(handle, Input::new("done").key("k")).sent[0].value.clone().unwrap();
        let second = host.run(handle, Input::new("done").key("k")).sent[0].value.clone().unwrap();
        assert!(first.starts_with(b"done: 0 1 "));
        assert!(second.starts_with(b"done: 1 2 "));
        assert_eq!(host.run(handle, Input::new("dead").key("k")).outcome.unwrap_err().code(), "asked");
    }
}
