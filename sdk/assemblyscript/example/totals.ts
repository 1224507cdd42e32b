// Sums up the amounts of each customer, the order key: sends the new total to the output `totals`, and keeps it in the key's state.
// An amount that is no number is a dead letter.
import { Context, deadLetter, done, Message, Outcome, text } from "@keyrail/assemblyscript";

/** The digits of a whole number of at most 18 digits: of two such the sum fits. */
function isAmount(value: string): bool {
  const start = value.startsWith("-") ? 1 : 0;
  if (value.length == start || value.length > start + 18) return false;
  for (let at = start; at < value.length; at++) {
    const unit = value.charCodeAt(at);
    if (unit < 0x30 || unit > 0x39) return false;
  }
  return true;
}

export function handle(message: Message, ctx: Context): Outcome {
  const value = message.value;
  const amount = value === null ? "" : text(value);
  if (!isAmount(amount)) return deadLetter("no-number", "the amount is no number");
  const before = ctx.state.getText("total");
  const total = (before === null ? 0 : I64.parseInt(before)) + I64.parseInt(amount);
  if (!isAmount(total.toString())) return deadLetter("overflow", "the total is too large");
  ctx.state.putText("total", total.toString());
  ctx.sendText("totals", total.toString());
  return done();
}
