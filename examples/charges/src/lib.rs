//! Charges each order by a payment service, once: what it answers goes to `charged` or `declined`.

use keyrail_sdk::http::{Answer, Request};
use keyrail_sdk::prelude::*;

const DECLINED: u16 = 402;

/// The requests of all orders of a batch are made at the same time.
fn prepare(message: &Message, ctx: &Context) -> Result<Vec<Request>, Problem> {
    let order = text(message.key().unwrap_or_default())?;
    let amount: u64 = text(message.value().unwrap_or_default())?.parse().or_dead_letter("no-amount")?;
    let service: String = ctx.setup().require("service").or_dead_letter("no-service")?;
    let body = format!("{{\"order\":\"{order}\",\"cents\":{amount}}}");
    Ok(vec![Request::post(format!("{service}/charges")).header("content-type", "application/json").body(body)])
}

fn handle(_message: &Message, ctx: &Context, answers: Vec<Answer>) -> Outcome {
    for answer in answers {
        let answer = answer?;
        if answer.status() == DECLINED {
            ctx.send("declined", answer.into_body()).dispatch()?;
        } else {
            // What may pass is tried again, with the order's next messages behind it; the rest is a dead letter.
            ctx.send("charged", answer.ok_or_retry()?.into_body()).dispatch()?;
        }
    }
    Ok(Done)
}

/// An order's name goes into JSON as it is.
fn text(bytes: &[u8]) -> Result<&str, Problem> {
    let text = std::str::from_utf8(bytes).or_dead_letter("not-utf-8")?;
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if plain { Ok(text) } else { Err(dead_letter("no-name", format!("{text:?}"))) }
}

keyrail_sdk::http_handler!(prepare, handle);

#[cfg(test)]
mod tests;
