// The conformance handler: ../README.md says what each command does.
import { bytes, counter, DeadLetter, handler, HostError, HttpError, log, Retry, text } from "@keyrail/sdk";
import type { Answer, Context, HttpRequest, Message, Outcome } from "@keyrail/sdk";

/** The first words of a line, and the rest as it is. */
function words(line: string, count: number): string[] {
  const found: string[] = [];
  let rest = line;
  for (let at = 1; at < count; at++) {
    const space = rest.indexOf(" ");
    found.push(space < 0 ? rest : rest.slice(0, space));
    rest = space < 0 ? "" : rest.slice(space + 1);
  }
  return [...found, rest];
}

function sized(bytes: Uint8Array | null): string {
  if (bytes === null) return "null";
  let hash = 2166136261;
  for (const byte of bytes) hash = Math.imul(hash ^ byte, 16777619) >>> 0;
  return `${bytes.length} ${hash.toString(16).padStart(8, "0")}`;
}

function describe(message: Message, ctx: Context): string {
  const headers = ctx.headers;
  return [
    message.timer === null ? `from topic ${message.topic}` : `from timer ${message.timer}`,
    `at ${message.partition}/${message.offset} ${message.timestampMs}`,
    `attempt ${message.attempt}`,
    `id ${ctx.id}`,
    `follows ${ctx.followsDeadLetter ? "yes" : "no"}`,
    `key ${sized(message.key)}`,
    `value ${sized(message.value)}`,
    `headers ${headers.length}`,
    ...headers.slice(0, 3).map(([name, value]) => `header ${name} ${sized(value)}`),
  ].join("\n");
}

function caught(ctx: Context, to: string): string {
  try {
    ctx.send(to, "x");
    return "nothing";
  } catch (error) {
    if (error instanceof HostError) return error.code;
    throw error;
  }
}

type Command = (rest: string, ctx: Context, message: Message) => Outcome;

const say = (ctx: Context, value: string): void => ctx.send("out", value);

const commands: Record<string, Command> = {
  describe: (_, ctx, message) => say(ctx, describe(message, ctx)),
  ...sends(),
  ...keeps(),
  ...knows(),
  ...asks(),
  ...ends(),
};

function sends(): Record<string, Command> {
  return {
    send(rest, ctx) {
      const [to = "", value = ""] = words(rest, 2);
      ctx.send(to, value);
    },
    caught: (to, ctx) => say(ctx, `caught ${caught(ctx, to)}`),
    record: (_, ctx) =>
      ctx.send("out", "v2", {
        key: "k2",
        headers: [["a", "1"], ["b", null], ["a", "2"]],
        forwardHeaders: true,
        timestampMs: 1234567890123,
      }),
    tombstone: (_, ctx) => ctx.send("out", null),
    keyless: (_, ctx) => ctx.send("out", "", { key: null }),
    later(rest, ctx) {
      const [ms, value = ""] = words(rest, 2);
      ctx.send("out", value, { delayMs: Number(ms) });
    },
  };
}

function keeps(): Record<string, Command> {
  return {
    put(rest, ctx) {
      const [name = "", value = ""] = words(rest, 2);
      ctx.state.put(name, value);
    },
    "put-for"(rest, ctx) {
      const [ms, name = "", value = ""] = words(rest, 3);
      ctx.state.putFor(name, value, Number(ms));
    },
    delete: (name, ctx) => ctx.state.delete(name),
    get: (name, ctx) => say(ctx, `get ${name} ${text(ctx.state.get(name)) ?? "null"}`),
    scan(rest, ctx) {
      const [prefix = "", limit, after = ""] = words(rest, 3);
      const options = after === "" ? { limit: Number(limit) } : { limit: Number(limit), after };
      const entries = ctx.state.scan(prefix === "-" ? "" : prefix, options);
      say(ctx, `scan ${entries.map(([name, value]) => `${name}=${text(value)}`).join(",")}`);
    },
    timer(rest, ctx) {
      const [name = "", ms, payload = ""] = words(rest, 3);
      ctx.timers.setAfter(name, Number(ms), payload);
    },
    cancel: (name, ctx) => ctx.timers.cancel(name),
  };
}

function knows(): Record<string, Command> {
  return {
    header: (name, ctx) => say(ctx, `header ${name} ${text(ctx.header(name)) ?? "null"}`),
    now: (_, ctx) => say(ctx, `now ${ctx.nowMs}`),
    deadline: (_, ctx) => say(ctx, `deadline ${ctx.deadlineMs - ctx.nowMs}`),
    random: (_, ctx) => say(ctx, `random ${ctx.random()} ${ctx.random()}`),
    config: (name, ctx) => say(ctx, `config ${name} ${ctx.config[name] ?? "null"}`),
    log(rest) {
      const [level, line = ""] = words(rest, 2);
      log[level as keyof typeof log](line);
    },
    count: (name) => counter(name).add(),
  };
}

/** What the message asks by `ask`, and what its first step has asked. */
let asked: HttpRequest[] = [];
let answered: readonly Answer[] = [];

/** `METHOD URL [TEXT]`. */
function request(line: string): HttpRequest {
  const [method = "", url = "", body = ""] = words(line, 3);
  return { url, ...(method === "-" ? {} : { method }), ...(body === "" ? {} : { body }) };
}

function told(answers: readonly Answer[]): Uint8Array {
  const lines = answers.map((answer) => {
    return answer instanceof HttpError ? [...bytes(`error ${answer.code}`)] : [...bytes(`${answer.status} `), ...answer.body];
  });
  return Uint8Array.from(lines.flatMap((line, at) => (at === 0 ? line : [10, ...line])));
}

function asks(): Record<string, Command> {
  const last = (): HttpRequest => asked.at(-1) ?? request("");
  return {
    ask: (rest) => void asked.push(request(rest)),
    "ask-header"(rest) {
      const [name = "", value = ""] = words(rest, 2);
      last().headers = [...((last().headers ?? []) as [string, string][]), [name, value]];
    },
    "ask-timeout": (ms) => void (last().timeoutMs = Number(ms)),
    fetch(_, ctx) {
      ctx.send("out", told(ctx.fetchAll(asked)));
      asked = [];
    },
    ok: (rest, ctx) => ctx.send("out", told([ctx.fetch(request(rest)).orRetry()])),
    answers: (_, ctx) => ctx.send("out", told(answered)),
  };
}

function ends(): Record<string, Command> {
  return {
    until(rest, _, message) {
      const [most, code = ""] = words(rest, 2);
      if (message.attempt <= Number(most)) throw new Retry(code, `attempt ${message.attempt}`);
    },
    skip: () => "skip",
    retry(rest) {
      const [code = "", detail] = words(rest, 2);
      throw new Retry(code, detail);
    },
    after(rest) {
      const [ms, code = "", detail] = words(rest, 3);
      throw new Retry(code, detail, { afterMs: Number(ms) });
    },
    outage(rest) {
      const [code = "", detail] = words(rest, 2);
      throw new Retry(code, detail, { outage: true });
    },
    dead(rest) {
      const [code = "", detail] = words(rest, 2);
      throw new DeadLetter(code, detail);
    },
    raise(words) {
      throw new Error(words);
    },
  };
}

export default handler({
  open({ config }) {
    if (config["refuse"] !== undefined) throw new Error(config["refuse"]);
  },
  prepare(_, ctx) {
    const lines = (text(ctx.header("ask")) ?? "").split("\n").filter((line) => line !== "");
    return lines.map((line) => {
      const [verb, code = "", detail] = words(line, 3);
      if (verb === "dead") throw new DeadLetter(code, detail);
      return request(line);
    });
  },
  handle(message, ctx, answers) {
    asked = [];
    answered = answers;
    const all = text(ctx.header("do")) ?? "describe";
    for (const line of all.split("\n").filter((line) => line !== "")) {
      const [name = "", rest = ""] = words(line, 2);
      const command = Object.hasOwn(commands, name) ? commands[name] : undefined;
      if (command === undefined) throw new DeadLetter("unknown-command", line);
      if (command(rest, ctx, message) === "skip") return "skip";
    }
  },
});
