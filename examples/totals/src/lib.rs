//! A running total for each key: what the amounts of its messages come to.

use keyrail_sdk::prelude::*;

const TOTAL: &str = "total";

fn handle(message: &Message, ctx: &Context) -> Outcome {
    let amount: u64 = text(message.value().unwrap_or_default())?.parse().or_dead_letter("no-amount")?;
    let before: u64 = match ctx.state().get(TOTAL)? {
        Some(kept) => text(&kept)?.parse().or_dead_letter("no-total")?,
        None => 0,
    };
    let total = before.checked_add(amount).ok_or_else(|| dead_letter("too-much", format!("{before} + {amount}")))?;
    ctx.state().put(TOTAL, total.to_string())?;
    ctx.send("totals", total.to_string()).dispatch()?;
    Ok(Done)
}

fn text(bytes: &[u8]) -> Result<&str, Problem> {
    std::str::from_utf8(bytes).or_dead_letter("not-utf-8")
}

keyrail_sdk::handler!(handle);

#[cfg(test)]
mod tests;
