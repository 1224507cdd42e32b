//! Sends each message to the output `out` as it came: key, value, headers and timestamp. The bench measures Keyrail
//! with it, so it does nothing else.

use keyrail_sdk::prelude::*;

fn handle(message: &Message, ctx: &Context) -> Outcome {
    ctx.send("out", message.value()).forward_headers().dispatch()?;
    Ok(Done)
}

keyrail_sdk::handler!(handle);

#[cfg(test)]
mod tests {
    use super::*;
    use keyrail_sdk::testing::{Host, Input};

    #[test]
    fn a_message_goes_out_as_it_came() {
        let mut host = Host::new().output("out");
        for (key, value) in [(Some(&b"k"[..]), Some(&b"\xff\x00"[..])), (None, Some(b"")), (Some(b""), None)] {
            let input = Input::new(value).key(key).header("h", "1").header("h", Null).timestamp_ms(42);
            let run = host.run(handle, input);
            assert_eq!(run.outcome, Ok(Done));
            assert_eq!(run.sent.len(), 1);
            let sent = &run.sent[0];
            assert_eq!((sent.key.as_deref(), sent.value.as_deref()), (key, value));
            assert_eq!(sent.timestamp_ms, 42);
            let headers: Vec<_> = sent.headers.iter().map(|h| (h.name.as_str(), h.value.as_deref())).collect();
            assert_eq!(headers, [("h", Some(&b"1"[..])), ("h", None)]);
        }
    }
}
