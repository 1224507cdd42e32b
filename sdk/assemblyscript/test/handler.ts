// What sdk.test.js runs: the message's value says what to do.
import {
  bytes, Context, Counter, deadLetter, done, Gauge, Histogram, isText, Level, log, Message, Outcome, Output, retry, Setup, skip, text,
} from "@keyrail/assemblyscript";

// Objects that are made before the first message.
const seen = new Counter("seen");
const refunds = new Counter("seen", new Map<string, string>().set("kind", "refund"));
const level = new Gauge("level");
const sizes = new Histogram("sizes");
const marks = new Map<string, i32>();

export function open(setup: Setup): string | null {
  const refuse = setup.config("refuse");
  if (refuse !== null) return refuse;
  return setup.handler == "test" && setup.topics.length > 0 && setup.maxBatch == 1 ? null : "the setup is not as told";
}

export function handle(message: Message, ctx: Context): Outcome {
  const value = message.value;
  if (value === null) return skip();
  const what = text(value);
  if (what.startsWith("end ")) return ends(what.substring(4), ctx);
  if (what.startsWith("fail ")) return fails(what.substring(5), message);
  if (what.startsWith("state ")) return state(what.substring(6), ctx);
  if (what == "known") return known(message, ctx);
  if (what == "sends") return sends(ctx);
  if (what == "metrics") return metrics();
  if (what == "log") return logs();
  if (what.startsWith("timers ")) return timers(what.substring(7), ctx);
  if (what == "garbage") return garbage(ctx);
  return ctx.sendText("out", what) ? done() : deadLetter("unseen", "its error is told instead");
}

function ends(what: string, ctx: Context): Outcome {
  ctx.state.putText("a", "staged");
  if (what == "retry") return retry("busy", "come back");
  if (what == "after") return retry("busy").after(250).outage();
  if (what == "dead") return deadLetter("bad", "no customer\ud800");
  if (what == "refused") ctx.send("nowhere", null);
  if (what == "first") {
    ctx.state.putText("a".repeat(1025), "b");
    ctx.send("nowhere", null);
    return retry("mine", "it comes of what was refused");
  }
  if (what == "over") ctx.send("out", new Uint8Array(5 << 20));
  if (what == "other") ctx.sendOutput(new Output("out", null).withDelay(u64.MAX_VALUE));
  if (what == "taken") {
    ctx.send("nowhere", null);
    const error = ctx.takeError();
    ctx.sendText("out", error === null ? "nothing" : `${error.code}: ${error.words}`);
    if (ctx.hasError || ctx.takeError() !== null) return deadLetter("kept", "");
  }
  return done();
}

function fails(what: string, message: Message): Outcome {
  if (what == "throw") throw new Error("no such rate: 😀");
  if (what == "assert") assert(message.attempt > 1);
  if (what == "index") return retry("never", [1][<i32>message.attempt].toString());
  if (what == "depth") return retry("never", depth(1).toString());
  return done();
}

function depth(at: i32): i32 {
  return at == 0 ? 0 : 1 + depth(at + 1);
}

function state(what: string, ctx: Context): Outcome {
  const words = what.split(" ");
  if (words[0] == "put") ctx.state.putText(words[1], words[2]);
  if (words[0] == "for") ctx.state.putFor(words[1], bytes(words[2]), 100);
  if (words[0] == "delete") ctx.state.delete(words[1]);
  if (words[0] == "get") {
    const found = ctx.state.getText(words[1]);
    ctx.sendText("out", found === null ? "null" : found);
  }
  if (words[0] == "scan") {
    const after: string | null = words.length > 3 ? words[3] : null;
    const found = ctx.state.scan(words[1], <u32>U32.parseInt(words[2]), after);
    ctx.sendText("out", found.map<string>((entry) => `${entry.name}=${text(entry.value)}`).join(" "));
  }
  return done();
}

function known(message: Message, ctx: Context): Outcome {
  const timer = message.timer;
  const topic = message.topic;
  const config = ctx.config("currency");
  const b = ctx.header("b");
  const lines = [
    topic === null ? "no topic" : topic,
    timer === null ? "no timer" : timer,
    `${message.partition}/${message.offset} ${message.timestampMs} ${message.attempt}`,
    message.key === null ? "no key" : isText(message.key, "k") ? "k" : "another key",
    ctx.id,
    ctx.headers.map<string>((header) => `${header.name}=${header.value === null ? "null" : text(header.value as Uint8Array)}`).join(" "),
    b === null ? "null" : text(b),
    ctx.header("none") === null ? "null" : "some",
    `${ctx.followsDeadLetter} ${ctx.nowMs} ${ctx.deadlineMs - ctx.nowMs}`,
    `${ctx.random()}`,
    `${ctx.random()}`,
    config === null ? "null" : config,
    ctx.setup.outputs.join(" "),
  ];
  ctx.sendText("out", lines.join("\n"));
  return done();
}

function sends(ctx: Context): Outcome {
  ctx.send("out", new Uint8Array(0));
  ctx.send("out", null);
  ctx.sendOutput(new Output("out", bytes("a\ud800")).withKey(null).withHeader("x", bytes("1")).withHeader("x", null));
  ctx.sendOutput(new Output("out", null).withKey(bytes("k2")).withForwardedHeaders().withTimestamp(-1).withDelay(50));
  return done();
}

function metrics(): Outcome {
  seen.add();
  seen.add(2);
  refunds.add(5);
  level.set(-1);
  sizes.observe(0.5);
  return done();
}

function logs(): Outcome {
  log.info("plain");
  log.write(Level.Warn, "odd", new Map<string, string>().set("n", "1"));
  trace("traced", 2, 1.5, 2);
  return done();
}

function timers(what: string, ctx: Context): Outcome {
  if (what == "far") return ctx.timers.setAfter("far", u64.MAX_VALUE) ? done() : skip();
  ctx.timers.setAfter("late", 200, bytes("known"));
  ctx.timers.set("soon", ctx.nowMs + 100, bytes("known"));
  ctx.timers.setAfter("never", 50);
  ctx.timers.cancel("never");
  return done();
}

/** Far more than the memory holds at once, while objects of all ages are alive. */
function garbage(ctx: Context): Outcome {
  let size = 0;
  for (let i = 0; i < 500_000; i++) {
    const name = "mark " + (i % 100).toString();
    marks.set(name, i);
    size += name.length;
    if (i % 1000 == 0) ctx.state.putText(name, `${i}`);
  }
  ctx.sendText("out", `${size} ${marks.size} ${ctx.id}`);
  return done();
}
