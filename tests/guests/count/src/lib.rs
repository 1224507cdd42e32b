//! Counts the messages of each key in its state, and sends the count to the output `out`: 8 bytes, little-endian, in both. The
//! bench measures state with it, so it does nothing else.

use keyrail_sdk::prelude::*;

const COUNT: &str = "n";

fn handle(_: &Message, ctx: &Context) -> Outcome {
    let state = ctx.state();
    let before = match state.get(COUNT)?.as_deref() {
        None => 0,
        Some(bytes) => match bytes.try_into() {
            Ok(bytes) => u64::from_le_bytes(bytes),
            Err(_) => return Err(dead_letter("count", "the state is no number")),
        },
    };
    let count = (before + 1).to_le_bytes();
    state.put(COUNT, count)?;
    ctx.send("out", &count[..]).dispatch()?;
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
        for key in ["a", "a", "b", "a"] {
            let run = host.run(handle, Input::new("x").key(key));
            assert_eq!(run.outcome, Ok(Done));
            told.push(run.sent[0].value.clone().unwrap());
        }
        assert_eq!(told, [1_u64, 2, 1, 3].map(|count| count.to_le_bytes().to_vec()));
    }
}
