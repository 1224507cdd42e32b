// What http.test.js runs in two steps: what a message asks for is there when it is handled.
import { Answer, Context, deadLetter, done, Message, Outcome, Request, text } from "@keyrail/assemblyscript";

const URL = "https://api.example.com/v1";

export function prepare(message: Message, ctx: Context): Request[] {
  const value = message.value;
  if (value === null) return [];
  const what = text(value);
  ctx.state.putText("prepared", what);
  if (what == "fail") ctx.fail(deadLetter("unasked", "no request"));
  if (what == "refused") ctx.send("nowhere", null);
  const key = message.key;
  const to = `${URL}/${key === null ? "" : text(key)}`;
  return [new Request(`${to}/0`).withText(what), new Request(`${to}/1`).withText(what)];
}

export function handle(message: Message, ctx: Context, answers: Answer[]): Outcome {
  for (let i = 0; i < answers.length; i++) {
    const response = answers[i].orRetry();
    if (response === null) return done();
    ctx.send("out", response.body);
  }
  ctx.sendText("out", `${message.offset} ${answers.length}`);
  return done();
}
