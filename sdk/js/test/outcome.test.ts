import assert from "node:assert/strict";
import { test } from "node:test";
import { DeadLetter, handler, HostError, Retry, type Context, type Handle } from "@keyrail/sdk";
import { TestHost, type Run } from "@keyrail/sdk/testing";

function ran(handle: Handle, key: string | null = "k"): Run {
  return new TestHost(handler(handle), { outputs: ["out"] }).run({ key });
}

/** As plain JavaScript may pass what the types forbid. */
const wrong = <T>(value: unknown): T => value as T;

class NoRate extends Error {
  override name = "NoRate";
}

test("what is returned settles the message", () => {
  assert.equal(ran(() => {}).outcome, "done");
  assert.equal(ran(() => "done").outcome, "done");
  assert.equal(ran(() => "skip").outcome, "skip");
});

test("a retry and a dead letter are thrown, from however deep", () => {
  const deep = (): never => {
    throw new Retry("rate-limited", "come back", { afterMs: 250, outage: true });
  };
  const retried = ran(() => deep());
  const { outcome, code, detail, delayMs, outage } = retried;
  assert.deepEqual([outcome, code, detail, delayMs, outage], ["retry", "rate-limited", "come back", 250, true]);
  const plain = ran(() => {
    throw new Retry("busy");
  });
  assert.deepEqual([plain.code, plain.detail, plain.delayMs, plain.outage], ["busy", "", null, false]);
  const dead = ran(() => {
    throw new DeadLetter("bad-order", "no customer", { cause: new NoRate("CHF") });
  });
  assert.deepEqual([dead.outcome, dead.code, dead.detail], ["dead-letter", "bad-order", "no customer; caused by NoRate: CHF"]);
  assert.ok(dead.error instanceof DeadLetter);
});

test("an error is a retry with class, message, causes and place", () => {
  const run = ran(function convert() {
    throw new NoRate("of CHF", { cause: new Error("no table") });
  });
  assert.deepEqual([run.outcome, run.code], ["retry", "error"]);
  assert.match(run.detail, /^NoRate: of CHF; caused by Error: no table, in .*convert.* \(outcome\.test\.js:\d+\)$/);
  assert.ok(run.error instanceof NoRate);
});

test("what is thrown need not be an error", () => {
  const thrower = (value: unknown) => () => {
    throw value;
  };
  assert.equal(ran(thrower("words")).detail, "thrown: words");
  assert.equal(ran(thrower({ a: 1n })).detail, 'thrown: {"a":"1"}');
  assert.equal(ran(thrower(undefined)).detail, "thrown: undefined");
});

test("a handler that returns a promise is told so, and so is one that returns something else", () => {
  const run = ran(wrong<Handle>(async (_: unknown, ctx: Context) => ctx.send("out", "x")));
  assert.deepEqual([run.outcome, run.code, run.sent], ["retry", "error", []]);
  assert.match(run.detail, /^TypeError: handle returned a promise: a handler is synchronous/);
  assert.match(ran(wrong<Handle>(() => false)).detail, /^TypeError: the handler returned false: return nothing, "done" or "skip"/);
});

test("what the host refuses alike each time is a dead letter, all else a retry", () => {
  const codes = [
    ran((_, ctx) => ctx.send("nowhere", "x")),
    ran((_, ctx) => ctx.state.put("a", "b"), null),
    ran((_, ctx) => ctx.state.put("a".repeat(1025), "b")),
    ran((_, ctx) => ctx.send("out", new Uint8Array(5 << 20))),
  ].map(({ outcome, code }) => `${outcome} ${code}`);
  const letters = ["unknown-output", "no-key", "too-large", "over-quota"].map((code) => `dead-letter ${code}`);
  assert.deepEqual(codes, letters);
  const other = ran((_, ctx) => ctx.send("out", "x", { delayMs: 367 * 86_400_000 }));
  assert.deepEqual([other.outcome, other.code], ["retry", "error"]);
  assert.match(other.detail, /^\d+ ms are the most/);
});

test("a refusal can be caught, and has a code", () => {
  const run = ran((_, ctx) => {
    assert.throws(() => ctx.send("nowhere", "x"), (error) => error instanceof HostError && error.code === "unknown-output");
    assert.throws(() => ctx.timers.cancel("a"), (error) => error instanceof HostError && error.code === "no-key");
    ctx.send("out", "caught");
  }, null);
  assert.equal(run.detail, "");
  assert.equal(run.sent.length, 1);
});

test("arguments of another type are an error, not a trap", () => {
  const calls: ((ctx: Context) => void)[] = [
    (ctx) => ctx.send("out", wrong(5)),
    (ctx) => ctx.send(wrong(undefined), "x"),
    (ctx) => ctx.send("out", "x", { key: wrong({}) }),
    (ctx) => ctx.send("out", "x", { headers: wrong([["a"]]) }),
    (ctx) => ctx.send("out", "x", { delayMs: -1 }),
    (ctx) => ctx.send("out", "x", { timestampMs: 0.5 }),
    (ctx) => ctx.state.put("a", wrong(null)),
    (ctx) => ctx.state.putFor("a", "b", NaN),
    (ctx) => ctx.state.get(wrong(7)),
    (ctx) => ctx.state.scan("", { limit: 2 ** 32 }),
    (ctx) => ctx.timers.setAfter("a", 1.5),
    () => {
      throw new Retry("a", "b", { afterMs: Infinity });
    },
  ];
  for (const call of calls) {
    const run = ran((_, ctx) => call(ctx));
    assert.deepEqual([run.outcome, run.code], ["retry", "error"], call.toString());
    assert.match(run.detail, /^(TypeError|RangeError): /, call.toString());
  }
});

test("halves of surrogate pairs do not reach the host", () => {
  const run = ran(() => {
    throw new DeadLetter("code\ud800", "detail\udc00");
  });
  assert.deepEqual([run.code, run.detail], ["code\ufffd", "detail\ufffd"]);
});

test("a handler that refuses to open says why", () => {
  const strict = handler({
    open({ config }) {
      if (config["currency"] === undefined) throw new Error("config.currency is not set");
    },
    handle: (_, ctx) => ctx.send("out", ctx.config["currency"] ?? null),
  });
  assert.equal(new TestHost(strict).open(), "config.currency is not set");
  assert.throws(() => new TestHost(strict).run(), /refuses to open: config.currency is not set/);
  const host = new TestHost(strict, { outputs: ["out"], config: { currency: "EUR" } });
  assert.equal(host.open(), null);
  assert.equal(host.run().sent.length, 1);
  const broken = handler({ open: () => wrong<{ a: { b(): void } }>({}).a.b(), handle: () => {} });
  assert.match(new TestHost(broken).open() ?? "", /^TypeError: .* \(outcome\.test\.js:\d+\)$/);
  const late = handler({ open: wrong(async () => {}), handle: () => {} });
  assert.match(new TestHost(late).open() ?? "", /^open returned a promise/);
  assert.throws(() => handler(wrong({})), TypeError);
});
