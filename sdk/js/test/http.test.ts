import assert from "node:assert/strict";
import { test } from "node:test";
import { bytes, DeadLetter, handler, HttpError, text, type Answer, type Context, type Handle, type HttpRequest } from "@keyrail/sdk";
import { TestHost, type Run, type TestAnswer } from "@keyrail/sdk/testing";
import { Guest } from "../src/handler.js";
import type { Host, WireMessage, WireOutcome, WireRequest } from "../src/host.js";

const URL = "https://api.example.com/pay?token=secret#top";
const NAMED = "https://api.example.com/pay";
const wrong = <T>(value: unknown): T => value as T;

function host(handle: Handle): TestHost {
  return new TestHost(handler(handle), { outputs: ["out"] });
}

function ran(handle: Handle, answer?: TestAnswer): Run {
  const one = host(handle);
  if (answer !== undefined) one.answerWith(() => answer);
  const run = one.run({ key: "k" });
  if (run.error instanceof assert.AssertionError) throw run.error;
  return run;
}

const required: Handle = (_, ctx) => void ctx.fetch(URL).orRetry();

test("a status says what becomes of the message", () => {
  for (const status of [200, 204, 299]) assert.equal(ran(required, { status }).outcome, "done");
  const told = (status: number): unknown[] => {
    const { outcome, code, detail, delayMs, outage } = ran(required, { status });
    return [outcome, code, detail, delayMs, outage];
  };
  for (const status of [408, 425, 429, 500, 503, 599]) {
    assert.deepEqual(told(status), ["retry", `http-${status}`, `GET ${NAMED}: ${status}`, null, false]);
  }
  for (const status of [199, 300, 301, 400, 404, 499, 600]) {
    assert.deepEqual(told(status), ["dead-letter", `http-${status}`, `GET ${NAMED}: ${status}`, null, false]);
  }
});

test("a retry-after of 429 and 503 is the wait", () => {
  const wait = (status: number, after: string): number | null => ran(required, { status, headers: { "Retry-After": after } }).delayMs;
  assert.equal(wait(429, "7"), 7000);
  assert.equal(wait(503, " 3600 "), 3_600_000);
  for (const long of ["3601", "9".repeat(400)]) assert.equal(wait(503, long), 3_600_000);
  for (const odd of ["0", "", "-1", "1.5", "Wed, 21 Oct 2026 07:28:00 GMT"]) assert.equal(wait(503, odd), null, odd);
  assert.equal(wait(500, "7"), null);
});

test("the detail has the first 200 bytes of a text", () => {
  const detail = (body: Uint8Array | string): string => ran(required, { status: 500, body }).detail.replace(`GET ${NAMED}: 500`, "");
  assert.equal(detail(""), "");
  assert.equal(detail("no room"), " no room");
  const full = "x".repeat(200);
  assert.equal(detail(`${full}x`), ` ${full}`);
  for (const cut of ["\u00e9", "\u20ac", "\u{1f600}"]) assert.equal(detail(full.slice(1) + cut), ` ${full.slice(1)}`, cut);
  assert.equal(detail(`${full.slice(2)}\u00e9`), ` ${full.slice(2)}\u00e9`);
  assert.equal(detail(Uint8Array.of(0x78, 0xff)), "");
  assert.equal(detail(Uint8Array.of(...bytes(full), 0xff)), ` ${full}`);
});

test("an error that is not caught becomes an outcome", () => {
  const cases: [TestAnswer, string, string][] = [
    ["denied", "dead-letter http-denied", "the test says denied"],
    ["invalid", "dead-letter http-invalid", "the test says invalid"],
    ["too-large", "dead-letter http-too-large", "the answer is larger than limits.response-bytes allows"],
    ["timeout", "retry http-timeout", "no answer in time"],
    ["unreachable", "retry http-unreachable", "the test says unreachable"],
  ];
  for (const [answer, expected, words] of cases) {
    const run = ran(required, answer);
    assert.deepEqual([`${run.outcome} ${run.code}`, run.detail, run.outage], [expected, `GET ${NAMED}: ${words}`, false]);
    assert.ok(run.error instanceof HttpError);
  }
});

test("an error can be caught, and an answer that is one throws itself", () => {
  const run = ran((_, ctx) => {
    assert.throws(() => ctx.fetch(URL), (error) => error instanceof HttpError && error.code === "timeout");
    const [answer] = ctx.fetchAll([URL]) as [Answer];
    assert.equal(answer.ok, false);
    ctx.send("out", answer instanceof HttpError ? answer.code : "answered");
    answer.orRetry();
  }, "timeout");
  assert.deepEqual([run.outcome, run.code], ["retry", "http-timeout"]);
});

test("a response tells its parts", () => {
  ran((_, ctx) => {
    const response = ctx.fetch({ url: URL });
    assert.deepEqual([response.status, response.ok, response.text()], [201, true, '{"a":[1]}']);
    assert.deepEqual(response.json(), { a: [1] });
    assert.deepEqual(response.body, bytes('{"a":[1]}'));
    assert.deepEqual([response.header("X-a"), response.header("x-b")], ["1", null]);
    assert.deepEqual(response.headers, [["x-a", "1"]]);
  }, { status: 201, headers: { "X-A": "1" }, json: { a: [1] } });
  const broken = ran((_, ctx) => void ctx.fetch(URL).json(), { body: "{" });
  assert.deepEqual([broken.outcome, broken.code], ["retry", "error"]);
  assert.match(broken.detail, /^SyntaxError: /);
});

test("a request is sent as it was told", () => {
  const asked = (request: HttpRequest | string): unknown => {
    const one = host((_, ctx) => void ctx.fetch(request));
    one.answerWith(() => ({}));
    assert.equal(one.run({ key: "k", offset: 7 }).outcome, "done");
    const [{ id, method, url, headers, body, timeoutMs }] = one.requests as [(typeof one.requests)[number]];
    assert.deepEqual([id, url], ["in/0/7", URL]);
    const told = headers.map(([name, value]) => `${name}: ${text(value)}`);
    assert.equal(told.pop(), "idempotency-key: in/0/7");
    return [method, told, text(body), timeoutMs];
  };
  assert.deepEqual(asked(URL), ["GET", [], null, null]);
  assert.deepEqual(asked({ url: URL, body: "" }), ["POST", [], "", null]);
  assert.deepEqual(asked({ url: URL, body: null }), ["GET", [], null, null]);
  assert.deepEqual(asked({ url: URL, json: { a: 1 }, timeoutMs: 5 }), ["POST", ["content-type: application/json"], '{"a":1}', 5]);
  const own = { method: "PUT", headers: [["Content-Type", "text/x"], ["a", bytes("1")], ["a", "2"]] as const, json: null };
  assert.deepEqual(asked({ url: URL, ...own }), ["PUT", ["Content-Type: text/x", "a: 1", "a: 2"], "null", null]);
});

test("arguments of another type are an error, not a trap", () => {
  const requests = [
    wrong(null),
    wrong({}),
    { url: URL, body: wrong<string>(5) },
    { url: URL, body: "x", json: 1 },
    { url: URL, json: () => {} },
    { url: URL, method: wrong<string>(1) },
    { url: URL, headers: { a: wrong<string>(null) } },
    { url: URL, timeoutMs: -1 },
  ] as HttpRequest[];
  for (const request of requests) {
    const run = ran((_, ctx) => void ctx.fetch(request), {});
    assert.deepEqual([run.outcome, run.code], ["retry", "error"], JSON.stringify(request));
    assert.match(run.detail, /^(TypeError|RangeError): /);
  }
});

test("requests of one call are answered in their order, and a second that may change something has a key of its own", () => {
  const one = host((_, ctx) => {
    const own = { method: "POST", headers: { "Idempotency-Key": "mine" } };
    const requests = ["https://a/1", { url: "https://a/2", ...own }, { url: "https://a/3", body: "x" }, "https://a/4"];
    const answers = ctx.fetchAll(requests);
    ctx.send("out", answers.map((answer) => (answer instanceof HttpError ? answer.code : answer.text())).join(" "));
    assert.deepEqual(ctx.fetchAll([]), []);
  });
  one.answer("POST", "https://a/3", "unreachable");
  one.answerWith(({ url }) => ({ body: url.slice(-1) }));
  assert.equal(text(one.run().sent[0]?.value ?? null), "1 2 unreachable 4");
  const keys = one.requests.map(({ headers }) => text(headers.find(([name]) => name.toLowerCase() === "idempotency-key")?.[1] ?? null));
  assert.deepEqual(keys, ["in/0/0", "mine", "in/0/0-2", "in/0/0"]);
});

test("a request without an answer says how to give one", () => {
  const run = ran(required);
  assert.equal(run.code, "http-denied");
  assert.match(run.detail, /host\.answer/);
});

test("what is prepared is asked, and handled with its answers", () => {
  const steps = handler({
    prepare(message, ctx) {
      ctx.send("out", "prepared");
      if (message.value === null) return;
      if (text(message.value) === "-") throw new DeadLetter("not-this-one");
      return [`https://a/${text(message.value)}`, { url: "https://a/", json: 1 }];
    },
    handle: (_, ctx, answers) => ctx.send("out", answers.map((answer) => answer.orRetry().text()).join(" ")),
  });
  const one = new TestHost(steps, { outputs: ["out"] });
  one.answerWith(({ method, url }) => ({ body: `${method} ${url}` }));
  const sent = (run: Run): (string | null)[] => run.sent.map(({ value }) => text(value));
  assert.deepEqual(sent(one.run({ value: "b" })), ["prepared", "GET https://a/b POST https://a/"]);
  assert.deepEqual(sent(one.run({})), ["prepared", ""]);
  const refused = one.run({ value: "-" });
  assert.deepEqual([refused.outcome, refused.code, refused.sent], ["dead-letter", "not-this-one", []]);
  assert.equal(one.requests.length, 2);
  one.answer("POST", "https://a/", "timeout");
  assert.equal(one.run({ value: "c" }).code, "http-timeout");
});

test("what prepare returns is looked at", () => {
  for (const returned of [Promise.resolve([]), "https://a/", [5], {}]) {
    const run = new TestHost(handler({ prepare: () => wrong(returned), handle: () => {} })).run();
    assert.deepEqual([run.outcome, run.code], ["retry", "error"]);
    assert.match(run.detail, /^TypeError: /);
  }
});

test("the requests of a batch are made in one call, with the slots of their messages", () => {
  const calls: WireRequest[][] = [];
  const slots: number[] = [];
  const fetchAll: Host["http"]["fetchAll"] = (requests) => {
    calls.push(requests);
    return requests.map(({ url }) => ({ tag: "ok", val: { status: 200, headers: [], body: bytes(url) } }));
  };
  const chance = new Map<number, bigint[]>();
  const real = { http: { fetchAll }, emit: { send: (slot: number) => void slots.push(slot) }, context: { id: (slot: number) => `m/${slot}` } };
  const drawn = (message: { offset: number }, ctx: Context): void => void chance.set(message.offset, [...(chance.get(message.offset) ?? []), ctx.random()]);
  const steps = handler({
    prepare(message, ctx) {
      drawn(message, ctx);
      if (message.offset === 1) throw new DeadLetter("one");
      return Array.from({ length: message.offset }, (_, at) => `https://${message.offset}/${at}`);
    },
    handle(message, ctx, answers) {
      drawn(message, ctx);
      assert.deepEqual(answers.map((answer) => answer.orRetry().text()), Array.from({ length: message.offset }, (_, at) => `https://${message.offset}/${at}`));
      ctx.send("out", "x");
    },
  });
  const guest = new Guest(steps, real as unknown as Host, () => null);
  guest.open({ handler: "h", topics: ["in"], outputs: ["out"], config: [], maxBatch: 9 });
  const message = (offset: number): WireMessage => {
    return { source: { tag: "topic", val: 0 }, partition: 0, offset, timestampMs: 0, key: null, value: null, attempt: 1 };
  };
  const outcomes: WireOutcome[] = guest.process([2, 1, 0, 3].map(message));
  assert.deepEqual(outcomes.map(({ tag }) => tag), ["done", "dead-letter", "done", "done"]);
  assert.deepEqual(calls.map((requests) => requests.map(({ slot }) => slot)), [[0, 0, 3, 3, 3]]);
  assert.deepEqual(slots, [0, 2, 3]);
  const [first, second] = chance.get(2) as [bigint, bigint];
  assert.notEqual(first, second, "one sequence over both steps");
  guest.process([0].map(message));
  assert.equal(calls.length, 1, "no request, no call");
});
