// The conformance handler: ../README.md says what each command does.
import {
  Answer, bytes, Context, Counter, deadLetter, done, Fate, Level, log, Message, Outcome, Output, Request, Response, retry, Setup, skip, text,
} from "@keyrail/assemblyscript";

/** The first words of a line, one after the other, and the rest as it is. */
class Words {
  constructor(public rest: string) {}

  next(): string {
    const space = this.rest.indexOf(" ");
    const word = space < 0 ? this.rest : this.rest.substring(0, space);
    this.rest = space < 0 ? "" : this.rest.substring(space + 1);
    return word;
  }

  number(): u64 {
    return U64.parseInt(this.next());
  }
}

function sized(bytes: Uint8Array | null): string {
  if (bytes === null) return "null";
  let hash: u32 = 2166136261;
  for (let i = 0; i < bytes.length; i++) hash = (hash ^ bytes[i]) * 16777619;
  return `${bytes.length} ${hash.toString(16).padStart(8, "0")}`;
}

function shown(bytes: Uint8Array | null): string {
  return bytes === null ? "null" : text(bytes);
}

function describe(message: Message, ctx: Context): string {
  const topic = message.topic;
  const timer = message.timer;
  const headers = ctx.headers;
  const lines = [
    topic === null ? `from timer ${timer === null ? "" : timer}` : `from topic ${topic}`,
    `at ${message.partition}/${message.offset} ${message.timestampMs}`,
    `attempt ${message.attempt}`,
    `id ${ctx.id}`,
    `follows ${ctx.followsDeadLetter ? "yes" : "no"}`,
    `key ${sized(message.key)}`,
    `value ${sized(message.value)}`,
    `headers ${headers.length}`,
  ];
  for (let i = 0; i < min(headers.length, 3); i++) lines.push(`header ${headers[i].name} ${sized(headers[i].value)}`);
  return lines.join("\n");
}

function say(ctx: Context, line: string): Outcome {
  ctx.sendText("out", line);
  return done();
}

function sends(verb: string, words: Words, ctx: Context): Outcome | null {
  if (verb == "send") {
    ctx.sendText(words.next(), words.rest);
  } else if (verb == "caught") {
    ctx.sendText(words.rest, "x");
    const error = ctx.takeError();
    return say(ctx, `caught ${error === null ? "nothing" : error.code}`);
  } else if (verb == "record") {
    const output = new Output("out", bytes("v2")).withKey(bytes("k2")).withForwardedHeaders().withTimestamp(1234567890123);
    ctx.sendOutput(output.withHeader("a", bytes("1")).withHeader("b", null).withHeader("a", bytes("2")));
  } else if (verb == "tombstone") {
    ctx.send("out", null);
  } else if (verb == "keyless") {
    ctx.sendOutput(new Output("out", bytes("")).withKey(null));
  } else if (verb == "later") {
    const delayMs = words.number();
    ctx.sendOutput(new Output("out", bytes(words.rest)).withDelay(delayMs));
  } else {
    return null;
  }
  return done();
}

function keeps(verb: string, words: Words, ctx: Context): Outcome | null {
  if (verb == "put") {
    ctx.state.putText(words.next(), words.rest);
  } else if (verb == "put-for") {
    const ttlMs = words.number();
    ctx.state.putFor(words.next(), bytes(words.rest), ttlMs);
  } else if (verb == "delete") {
    ctx.state.delete(words.rest);
  } else if (verb == "get") {
    return say(ctx, `get ${words.rest} ${shown(ctx.state.get(words.rest))}`);
  } else if (verb == "scan") {
    const prefix = words.next();
    const limit = <u32>words.number();
    const entries = ctx.state.scan(prefix == "-" ? "" : prefix, limit, words.rest == "" ? null : words.rest);
    return say(ctx, `scan ${entries.map<string>((entry) => `${entry.name}=${text(entry.value)}`).join(",")}`);
  } else if (verb == "timer") {
    const name = words.next();
    const waitMs = words.number();
    ctx.timers.setAfter(name, waitMs, bytes(words.rest));
  } else if (verb == "cancel") {
    ctx.timers.cancel(words.rest);
  } else {
    return null;
  }
  return done();
}

function level(name: string): Level {
  if (name == "trace") return Level.Trace;
  if (name == "debug") return Level.Debug;
  if (name == "warn") return Level.Warn;
  return name == "error" ? Level.Error : Level.Info;
}

function knows(verb: string, words: Words, ctx: Context): Outcome | null {
  if (verb == "header") return say(ctx, `header ${words.rest} ${shown(ctx.header(words.rest))}`);
  if (verb == "now") return say(ctx, `now ${ctx.nowMs}`);
  if (verb == "deadline") return say(ctx, `deadline ${ctx.deadlineMs - ctx.nowMs}`);
  if (verb == "random") {
    const first = ctx.random();
    return say(ctx, `random ${first} ${ctx.random()}`);
  }
  if (verb == "config") {
    const value = ctx.config(words.rest);
    return say(ctx, `config ${words.rest} ${value === null ? "null" : value}`);
  }
  if (verb == "log") {
    const at = level(words.next());
    log.write(at, words.rest);
    return done();
  }
  if (verb != "count") return null;
  new Counter(words.rest).add();
  return done();
}

function ends(verb: string, words: Words, message: Message): Outcome | null {
  if (verb == "skip") return skip();
  if (verb == "retry") return retry(words.next(), words.rest);
  if (verb == "dead") return deadLetter(words.next(), words.rest);
  if (verb == "outage") return retry(words.next(), words.rest).outage();
  if (verb == "raise") return retry("error", words.rest);
  if (verb == "after") {
    const delayMs = words.number();
    return retry(words.next(), words.rest).after(delayMs);
  }
  if (verb != "until") return null;
  return words.number() < message.attempt ? done() : retry(words.rest, `attempt ${message.attempt}`);
}

/** The requests that `ask` named, and the answers to those of the first step. */
class Outside {
  asked: Request[] = [];

  constructor(public readonly answers: Answer[]) {}
}

/** `METHOD URL [TEXT]`. */
function request(words: Words): Request {
  const method = words.next();
  const asked = new Request(words.next());
  if (method != "-") asked.withMethod(method);
  return words.rest == "" ? asked : asked.withText(words.rest);
}

function joined(first: Uint8Array, second: Uint8Array): Uint8Array {
  const both = new Uint8Array(first.length + second.length);
  both.set(first);
  both.set(second, first.length);
  return both;
}

function well(response: Response): Uint8Array {
  return joined(bytes(`${response.status} `), response.body);
}

/** Sends what came of requests, a line each. */
function sayAnswers(ctx: Context, answers: Answer[]): Outcome {
  let told = new Uint8Array(0);
  for (let i = 0; i < answers.length; i++) {
    const error = answers[i].error;
    const response = answers[i].response;
    if (i > 0) told = joined(told, bytes("\n"));
    if (error !== null) told = joined(told, bytes(`error ${error.code.substring("http-".length)}`));
    if (response !== null) told = joined(told, well(response));
  }
  ctx.send("out", told);
  return done();
}

function asks(verb: string, words: Words, outside: Outside, ctx: Context): Outcome | null {
  const asked = outside.asked;
  if (verb == "ask") {
    asked.push(request(words));
  } else if (verb == "ask-header") {
    if (asked.length > 0) asked[asked.length - 1].withHeader(words.next(), words.rest);
  } else if (verb == "ask-timeout") {
    if (asked.length > 0) asked[asked.length - 1].withTimeout(words.number());
  } else if (verb == "fetch") {
    outside.asked = [];
    return sayAnswers(ctx, ctx.fetchAll(asked));
  } else if (verb == "answers") {
    return sayAnswers(ctx, outside.answers);
  } else if (verb == "ok") {
    const response = ctx.fetch(request(words)).orRetry();
    if (response !== null) ctx.send("out", well(response));
    return done();
  } else {
    return null;
  }
  return done();
}

function command(line: string, ctx: Context, message: Message, outside: Outside): Outcome {
  const words = new Words(line);
  const verb = words.next();
  if (verb == "describe") return say(ctx, describe(message, ctx));
  let outcome = sends(verb, words, ctx);
  if (outcome === null) outcome = keeps(verb, words, ctx);
  if (outcome === null) outcome = knows(verb, words, ctx);
  if (outcome === null) outcome = asks(verb, words, outside, ctx);
  if (outcome === null) outcome = ends(verb, words, message);
  return outcome === null ? deadLetter("unknown-command", line) : outcome;
}

export function open(setup: Setup): string | null {
  return setup.config("refuse");
}

function linesOf(header: Uint8Array | null, otherwise: string): string[] {
  const all = header === null ? otherwise : text(header);
  return all.split("\n").filter((line) => line != "");
}

/** The requests of the header `ask`. */
export function prepare(message: Message, ctx: Context): Request[] {
  const lines = linesOf(ctx.header("ask"), "");
  const requests: Request[] = [];
  for (let i = 0; i < lines.length && !ctx.hasError; i++) {
    const words = new Words(lines[i]);
    if (lines[i].startsWith("dead ")) {
      words.next();
      const code = words.next();
      ctx.fail(deadLetter(code, words.rest));
    } else {
      requests.push(request(words));
    }
  }
  return requests;
}

export function handle(message: Message, ctx: Context, answers: Answer[]): Outcome {
  const lines = linesOf(ctx.header("do"), "describe");
  const outside = new Outside(answers);
  for (let i = 0; i < lines.length; i++) {
    const outcome = command(lines[i], ctx, message, outside);
    if (outcome.fate != Fate.Done || ctx.hasError) return outcome;
  }
  return done();
}
