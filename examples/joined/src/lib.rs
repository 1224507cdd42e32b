//! Orders joined with their payments by the order's id, which is the key of both: whichever comes first waits in the key's
//! state for the other.

use keyrail_sdk::prelude::*;
use std::time::Duration;

const ORDER: &str = "order";
const PAYMENT: &str = "payment";
/// What has waited for so long is forgotten.
const PATIENCE: Duration = Duration::from_hours(7 * 24);

fn handle(message: &Message, ctx: &Context) -> Outcome {
    let (own, other) = match ctx.topic() {
        Some("orders") => (ORDER, PAYMENT),
        Some("payments") => (PAYMENT, ORDER),
        topic => return Err(dead_letter("no-input", format!("{topic:?} is neither orders nor payments"))),
    };
    let value = message.value().ok_or_else(|| dead_letter("no-value", "there is nothing to join"))?;
    let state = ctx.state();
    let Some(before) = state.get(other)? else {
        state.put_for(own, value, PATIENCE)?;
        return Ok(Done);
    };
    let (order, payment) = if own == ORDER { (value, &before[..]) } else { (&before[..], value) };
    let paid = [br#"{"order":"#, order, br#","payment":"#, payment, b"}"].concat();
    state.delete(other)?;
    ctx.send("paid", paid).dispatch()?;
    Ok(Done)
}

keyrail_sdk::handler!(handle);

#[cfg(test)]
mod tests;
