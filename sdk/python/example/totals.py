"""Sums up the amounts of each customer, the order key: sends the new total to the output `totals`,
and keeps it in the key's state. An amount that is no number is a dead letter."""

import keyrail


@keyrail.handler
def handle(message: keyrail.Message, ctx: keyrail.Context) -> None:
    try:
        amount = int(message.value or b"")
    except ValueError:
        raise keyrail.DeadLetter("no-number", "the amount is no number") from None
    total = int(ctx.state.get("total") or b"0") + amount
    ctx.state.put("total", str(total))
    ctx.send("totals", str(total))
