//! Orders that nobody pays in time are cancelled. Messages are `placed` and `paid`, their key is the order.

use keyrail_sdk::prelude::*;
use std::time::Duration;

const UNPAID: &str = "unpaid";
const TIME_TO_PAY: Duration = Duration::from_secs(30 * 60);

fn handle(message: &Message, ctx: &Context) -> Outcome {
    if message.timer() == Some(UNPAID) {
        ctx.send("cancelled", "not paid in time").dispatch()?;
        return Ok(Done);
    }
    match message.value() {
        Some(b"placed") => ctx.timers().set_after(UNPAID, TIME_TO_PAY, "")?,
        // If the timer has fallen due meanwhile it runs behind this message, and finds that it is cancelled.
        Some(b"paid") => ctx.timers().cancel(UNPAID)?,
        _ => return Err(dead_letter("unknown", "neither placed nor paid")),
    }
    Ok(Done)
}

keyrail_sdk::handler!(handle);

#[cfg(test)]
mod tests;
