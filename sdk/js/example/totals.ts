// Sums up the amounts of each customer, the order key: sends the new total to the output `totals`, and keeps it in the key's state.
// An amount that is no number is a dead letter.
import { DeadLetter, handler, text } from "@keyrail/sdk";

function cents(value: string | null): number {
  if (value === null || !/^-?\d+$/.test(value)) throw new DeadLetter("no-number", "the amount is no number");
  return Number(value);
}

export default handler((message, ctx) => {
  const before = text(ctx.state.get("total")) ?? "0";
  const total = Number(before) + cents(text(message.value));
  if (!Number.isSafeInteger(total)) throw new DeadLetter("overflow", "the total is too large");
  ctx.state.put("total", `${total}`);
  ctx.send("totals", `${total}`);
});
