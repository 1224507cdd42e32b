import assert from "node:assert/strict";
import { test } from "node:test";
import { bytes, counter, handler, histogram, log, text, type Handle, type Message } from "@keyrail/sdk";
import { TestHost, type Input, type Run, type TestOptions } from "@keyrail/sdk/testing";

/** A host whose handler is given anew for each message. */
class Bench {
  readonly host: TestHost;
  #handle: Handle = () => {};

  constructor(options: TestOptions = {}) {
    this.host = new TestHost(handler((message, ctx) => this.#handle(message, ctx)), { outputs: ["out"], ...options });
  }

  run(handle: Handle, input: Input = { key: "k" }): Run {
    this.#handle = handle;
    const run = this.host.run(input);
    // An assertion that fails inside is a retry: it is to fail the test.
    if (run.error instanceof assert.AssertionError) throw run.error;
    return run;
  }
}

test("a message is what it was read as", () => {
  const bench = new Bench({ topics: ["in", "more"] });
  let seen: Message | null = null;
  const handle: Handle = (message) => void (seen = message);
  bench.run(handle, { key: "k", value: "", topic: "more", partition: 3, offset: 41, timestampMs: 7, attempt: 2 });
  const more = { topic: "more", timer: null, partition: 3, offset: 41, timestampMs: 7, key: bytes("k"), value: bytes(""), attempt: 2 };
  assert.deepEqual(seen, more);
  bench.run(handle, {});
  const next = { topic: "in", timer: null, partition: 0, offset: 42, timestampMs: 1_700_000_000_000, key: null, value: null, attempt: 1 };
  assert.deepEqual(seen, next);
});

test("what else is known of a message", () => {
  const bench = new Bench();
  const headers = [["a", "1"], ["b", null], ["a", "2"]] as const;
  bench.run((_, ctx) => {
    assert.equal(ctx.id, "in/0/41");
    assert.deepEqual(ctx.headers, [["a", bytes("1")], ["b", null], ["a", bytes("2")]]);
    assert.equal(text(ctx.header("a")), "2");
    assert.equal(ctx.header("b"), null);
    assert.equal(ctx.header("c"), null);
    assert.equal(ctx.followsDeadLetter, true);
    assert.equal(ctx.nowMs, 1_700_000_000_000);
    assert.equal(ctx.deadlineMs - ctx.nowMs, 5000);
    assert.deepEqual([ctx.setup.handler, ctx.setup.outputs, ctx.config["x"]], ["test", ["out"], undefined]);
  }, { headers, offset: 41, followsDeadLetter: true });
});

test("chance is the real host's, and the same for the same run", () => {
  const draw = (input: Input): bigint[] => {
    const drawn: bigint[] = [];
    new Bench().run((_, ctx) => void drawn.push(ctx.random(), ctx.random()), input);
    return drawn;
  };
  const numbers = [15469380675999191878n, 1379100627341518130n];
  assert.deepEqual(draw({ partition: 3, offset: 41 }), numbers);
  assert.deepEqual(draw({ partition: 3, offset: 41, key: "other" }), numbers);
  assert.notDeepEqual(draw({ partition: 3, offset: 41, attempt: 2 }), numbers);
});

test("a record has the message's key and timestamp unless told otherwise", () => {
  const bench = new Bench();
  const headers = [["h", "1"], ["traceparent", "t"]] as const;
  const run = bench.run((_, ctx) => {
    ctx.send("out", "a");
    ctx.send("out", null, { key: null, headers: { x: "y", z: null }, forwardHeaders: true, timestampMs: 9, delayMs: 50 });
  }, { key: "k", headers, timestampMs: 5 });
  const trace = ["traceparent", bytes("t")];
  assert.deepEqual(run.sent, [
    { to: "out", key: bytes("k"), value: bytes("a"), headers: [trace], timestampMs: 5, delayMs: null },
    {
      to: "out",
      key: null,
      value: null,
      headers: [["h", bytes("1")], trace, ["x", bytes("y")], ["z", null]],
      timestampMs: 9,
      delayMs: 50,
    },
  ]);
});

test("state belongs to the key, and a failed message leaves none", () => {
  const bench = new Bench();
  bench.run((_, ctx) => {
    ctx.state.put("a", "1");
    assert.equal(text(ctx.state.get("a")), "1");
  });
  bench.run((_, ctx) => assert.equal(ctx.state.get("a"), null), { key: "other" });
  const failed = bench.run((_, ctx) => {
    ctx.state.put("a", "2");
    ctx.state.put("b", "2");
    ctx.timers.setAfter("t", 5);
    ctx.send("out", "x");
    throw new Error("no");
  });
  assert.deepEqual(failed.sent, []);
  assert.equal(bench.host.timer("k", "t"), null);
  bench.run((_, ctx) => assert.deepEqual(ctx.state.scan(), [["a", bytes("1")]]));
  bench.run((_, ctx) => ctx.state.delete("a"));
  assert.equal(bench.host.state("k", "a"), null);
});

test("a value that ends by itself is there until then", () => {
  const bench = new Bench();
  bench.run((_, ctx) => ctx.state.putFor("a", "1", 100));
  bench.host.nowMs += 99;
  assert.equal(text(bench.host.state("k", "a")), "1");
  bench.host.nowMs += 1;
  bench.run((_, ctx) => assert.deepEqual([ctx.state.get("a"), ctx.state.scan()], [null, []]));
});

test("a scan pages through names in the order of their bytes", () => {
  const bench = new Bench();
  const names = ["b", "a2", "a10", "a\u{1f600}", "a\uff5e", "a1"];
  bench.run((_, ctx) => {
    for (const name of names) ctx.state.put(name, name);
  });
  bench.run((_, ctx) => {
    const page = (options?: { after?: string; limit?: number }) => ctx.state.scan("a", options).map(([name]) => name);
    assert.deepEqual(page(), ["a1", "a10", "a2", "a\uff5e", "a\u{1f600}"]);
    assert.deepEqual(page({ after: "a10", limit: 2 }), ["a2", "a\uff5e"]);
    assert.deepEqual(page({ limit: 0 }), []);
    assert.throws(() => page({ limit: 1001 }), { code: "too-large" });
  });
});

test("what is kept is a copy", () => {
  const bench = new Bench();
  const value = bytes("1");
  const run = bench.run((_, ctx) => {
    ctx.state.put("a", value);
    ctx.send("out", value);
    value[0] = 0x39;
    (ctx.state.get("a") as Uint8Array)[0] = 0x39;
  });
  assert.equal(text(bench.host.state("k", "a")), "1");
  assert.equal(text(run.sent[0]?.value ?? null), "1");
});

test("timers come back as messages of their key, the earliest first", () => {
  const bench = new Bench();
  bench.run((_, ctx) => {
    ctx.timers.setAfter("late", 200, "b");
    ctx.timers.set("soon", ctx.nowMs + 100, "a");
    ctx.timers.setAfter("never", 50);
    ctx.timers.cancel("never");
  }, { key: "k", offset: 7 });
  assert.equal(bench.host.timer("k", "soon")?.atMs, bench.host.nowMs + 100);
  bench.host.nowMs += 150;
  const due = bench.host.nowMs - 50;
  const seen: unknown[] = [];
  bench.run(() => {});
  const early = new Bench();
  assert.deepEqual(early.host.runTimers(), []);
  const handle: Handle = (message, ctx) => void seen.push([message.timer, message.topic, text(message.value), message.timestampMs, message.offset, ctx.id]);
  bench.run(handle, { key: "other", value: "before" });
  assert.equal(bench.host.runTimers().length, 1);
  assert.deepEqual(seen[1], ["soon", null, "a", due, 7, "timer soon/0/7"]);
  bench.host.nowMs += 50;
  assert.deepEqual(bench.host.runTimers().map((run) => run.outcome), ["done"]);
  assert.equal(bench.host.timer("k", "late"), null);
});

test("sends and changes of state count against the quota", () => {
  const bench = new Bench({ limits: { outputs: 2, outputBytes: 200 } });
  const many = bench.run((_, ctx) => [1, 2, 3].forEach(() => ctx.send("out", "x")));
  assert.equal(many.code, "over-quota");
  assert.equal(bench.run((_, ctx) => ctx.send("out", "x".repeat(201))).code, "over-quota");
  assert.equal(bench.run((_, ctx) => ctx.state.put("a", "x".repeat(150))).code, "over-quota");
  assert.equal(bench.run((_, ctx) => ctx.state.put("a", "x".repeat(100))).outcome, "done");
});

test("a line of the log says which message it is of", () => {
  const bench = new Bench();
  bench.run(() => log.warn("odd", { n: 1, why: { a: [1n] }, u: undefined }), { partition: 2, offset: 5 });
  const fields = { partition: "2", offset: "5", n: "1", why: '{"a":["1"]}', u: "undefined" };
  assert.deepEqual(bench.host.logged, [{ level: "warn", message: "odd", fields }]);
});

test("a metric is made anywhere, and observed where messages are run", () => {
  const paid = counter("paid");
  const refunds = counter("paid", { kind: "refund" });
  const sizes = histogram("sizes");
  const [first, second] = [new Bench(), new Bench()];
  first.run(() => {
    paid.add();
    paid.add(2);
    refunds.add(5);
    sizes.observe(0.5);
  });
  second.run(() => paid.add(7));
  assert.deepEqual(first.host.observed("paid"), [1, 2, 5]);
  assert.deepEqual(second.host.observed("paid"), [7]);
  assert.deepEqual(first.host.observed("sizes"), [0.5]);
});

test("a context does not outlive its message", () => {
  const bench = new Bench();
  let kept: (() => void) | null = null;
  bench.run((_, ctx) => void (kept = () => ctx.state.put("a", "b")));
  assert.throws(() => kept?.(), /no message is being run/);
});
