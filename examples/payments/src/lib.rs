//! Orders in, receipts out.

use keyrail_sdk::{ConfigError, prelude::*};
use serde::{Deserialize, Serialize};

#[derive(Deserialize, Serialize)]
struct Order {
    id: String,
    cents: u64,
    currency: String,
}

fn handle(message: &Message, ctx: &Context) -> Outcome {
    let order: Order = serde_json::from_slice(message.value().unwrap_or_default()).or_dead_letter("bad-json")?;
    if order.cents == 0 {
        return Ok(Skip);
    }
    if ctx.setup().config("currency") != Some(&order.currency) {
        return Err(dead_letter("wrong-currency", order.currency));
    }
    match ctx.header("bank").as_deref() {
        Some(b"down") => return Err(retry("bank-down", "the bank does not answer").outage()),
        Some(b"busy") if message.attempt() < 3 => return Err(retry("bank-busy", "the bank asks to come back")),
        _ => {}
    }
    info!(order = order.id.as_str(), cents = order.cents; "paid");
    ctx.send("receipts", serde_json::to_vec(&order)?).header("payment-id", ctx.id()).dispatch()?;
    Ok(Done)
}

fn open(setup: &Setup) -> Result<(), ConfigError> {
    setup.require::<String>("currency").map(drop)
}

keyrail_sdk::handler!(handle, open = open);

#[cfg(test)]
#[allow(clippy::expect_used, reason = "a test")]
mod tests;
