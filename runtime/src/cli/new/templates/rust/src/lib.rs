//! Sums up the amounts of each customer, the order key: sends the new total to the output `totals`, and keeps it in the
//! key's state. An amount that is no number is a dead letter.

use keyrail_sdk::prelude::*;

const TOTAL: &str = "total";

fn handle(message: &Message, ctx: &Context) -> Outcome {
    let amount = number(message.value().unwrap_or_default())?;
    let before = ctx.state().get(TOTAL)?.map_or(Ok(0), |kept| number(&kept))?;
    let total = before.checked_add(amount).ok_or_else(|| dead_letter("overflow", format!("{before} + {amount}")))?;
    ctx.state().put(TOTAL, total.to_string())?;
    ctx.send("totals", total.to_string()).dispatch()?;
    Ok(Done)
}

fn number(bytes: &[u8]) -> Result<i64, Problem> {
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    text.parse().map_err(|_| dead_letter("no-number", format!("{text:?} is no number")))
}

keyrail_sdk::handler!(handle);

#[cfg(test)]
mod tests {
    use super::*;
    use keyrail_sdk::testing::{Host, Input};

    #[test]
    fn amounts_add_up_by_key() {
        let mut host = Host::new().output("totals");
        let mut total = |key: &str, amount: &str| {
            let run = host.run(handle, Input::new(amount).key(key));
            run.sent.first().map(|sent| String::from_utf8_lossy(sent.value.as_deref().unwrap_or_default()).into_owned())
        };
        assert_eq!(total("ann", "5").as_deref(), Some("5"));
        assert_eq!(total("bob", "7").as_deref(), Some("7"));
        assert_eq!(total("ann", "3").as_deref(), Some("8"));
        assert_eq!(total("ann", "a few"), None);
    }
}
