// What http.test.js runs: the message's value says what to ask.
import { Answer, bytes, Context, deadLetter, done, Message, Outcome, Request, retry, text } from "@keyrail/assemblyscript";

const URL = "https://api.example.com/v1";

export function handle(message: Message, ctx: Context): Outcome {
  const value = message.value;
  const what = value === null ? "" : text(value);
  ctx.state.putText("staged", "x");
  if (what == "many") return many(ctx);
  if (what == "taken") {
    const answer = ctx.fetch(new Request(URL + "/none"));
    const error = ctx.takeError();
    ctx.sendText("out", `${answer.response === null} ${error === null ? "no error" : error.code}`);
    return done();
  }
  if (what == "ended") {
    ctx.fail(retry("later", "from deep within").after(5).outage());
    ctx.fail(deadLetter("second"));
    return done();
  }
  const well = ctx.fetch(new Request(URL + "?token=t")).orRetry();
  if (well !== null) ctx.sendText("out", well.text());
  return done();
}

function many(ctx: Context): Outcome {
  const answers = ctx.fetchAll([
    new Request(URL + "/a"),
    new Request(URL + "/b").withHeader("Content-Type", "text/plain").withHeader("n", "ä").withText("x").withTimeout(250),
    new Request(URL + "/c").withMethod("PUT").withBody(new Uint8Array(0)).withTimeout(0),
    new Request(URL + "/none#secret").withMethod("DELETE"),
  ]);
  const lines: string[] = [];
  for (let i = 0; i < answers.length; i++) lines.push(told(answers[i]));
  lines.push(`${ctx.fetchAll([]).length} ${ctx.hasError}`);
  ctx.send("out", bytes(lines.join("\n")));
  return done();
}

function told(answer: Answer): string {
  const error = answer.error;
  if (error !== null) return `${error.code} ${error.words}`;
  const response = answer.get();
  if (response === null) return "neither";
  const twice = response.header("X-Twice");
  const names = response.headers.map<string>((header) => header.name).join(",");
  return `${response.status} ${response.ok} ${response.body.length} ${response.text()} ${names} ${twice === null ? "null" : text(twice)}`;
}
