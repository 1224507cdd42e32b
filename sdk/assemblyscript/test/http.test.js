import assert from "node:assert/strict";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { build } from "@keyrail/assemblyscript/build";
import { TestHost, text } from "@keyrail/assemblyscript/testing";

const URL_ = "https://api.example.com/v1";
const compile = (name) => build(fileURLToPath(new URL(name, import.meta.url)));
const [handler, steps] = [await compile("http.ts"), await compile("steps.ts")];
const load = (module = handler) => TestHost.load(module, { outputs: ["out"] });
const said = (run) => run.sent.map((sent) => text(sent.value));

test("requests are made at the same time and answered in order", async () => {
  const host = await load();
  host.answer("GET", `${URL_}/a`, { status: 500 });
  host.answer("GET", `${URL_}/a`, { status: 201, headers: { "X-Twice": "1", "x-twice": "2" }, body: "ä" });
  host.answer("POST", `${URL_}/b`, { status: 404 });
  host.answer("PUT", `${URL_}/c`, "timeout");
  const lines = said(host.run({ key: "k", value: "many" }))[0].split("\n");
  assert.deepEqual(lines, [
    "201 true 2 ä x-twice,x-twice 2",
    "404 false 0   null",
    `http-timeout PUT ${URL_}/c: no answer in time`,
    `http-denied DELETE ${URL_}/none: the test gives it no answer: say host.answer(method, url, answer), or host.answerWith(server) for all`,
    "0 false",
  ]);
  const [a, b, c, d] = host.requests;
  assert.equal(host.requests.length, 4);
  assert.deepEqual([a.method, a.url, a.body, a.timeoutMs], ["GET", `${URL_}/a`, null, null]);
  assert.deepEqual([b.method, text(b.body), b.timeoutMs, c.body.length, c.timeoutMs], ["POST", "x", 250, 0, 0]);
  assert.deepEqual(b.headers.slice(0, 2).map(([name, value]) => [name, text(value)]), [["Content-Type", "text/plain"], ["n", "ä"]]);
  assert.deepEqual([a, b, c, d].map(({ headers }) => text(headers.at(-1)[1])), ["in/0/0", "in/0/0", "in/0/0-2", "in/0/0-3"]);
  assert.ok([a, b, c, d].every(({ id, call, headers }) => id === "in/0/0" && call === 0 && headers.at(-1)[0] === "idempotency-key"));
});

test("an error that nobody took is the message's outcome", async () => {
  const host = await load();
  const cases = {
    denied: ["dead-letter", "http-denied", "the test says denied"],
    invalid: ["dead-letter", "http-invalid", "the test says invalid"],
    timeout: ["retry", "http-timeout", "no answer in time"],
    unreachable: ["retry", "http-unreachable", "the test says unreachable"],
    "too-large": ["dead-letter", "http-too-large", "the answer is larger than limits.response-bytes allows"],
  };
  for (const [error, [outcome, code, why]] of Object.entries(cases)) {
    host.answer("GET", `${URL_}?token=t`, error);
    const run = host.run({ key: "k", value: "one" });
    assert.deepEqual([run.outcome, run.code, run.detail, run.delayMs, run.outage], [outcome, code, `GET ${URL_}: ${why}`, null, false]);
    assert.equal(host.state("k", "staged"), null);
  }
  assert.deepEqual(said(host.run({ key: "k", value: "taken" })), ["true http-denied"]);
});

test("an outcome from deep within is the message's, whatever is returned", async () => {
  const host = await load();
  const run = host.run({ key: "k", value: "ended" });
  assert.deepEqual([run.outcome, run.code, run.detail, run.delayMs, run.outage], ["retry", "later", "from deep within", 5, true]);
  assert.equal(host.state("k", "staged"), null);
});

test("a status that is no success is retried or given up", async () => {
  const host = await load();
  const run = (answer) => {
    host.answer("GET", `${URL_}?token=t`, answer);
    return host.run({ key: "k", value: "one" });
  };
  for (const status of [408, 425, 429, 500, 503, 599]) assert.equal(run({ status }).outcome, "retry");
  for (const status of [199, 300, 304, 400, 404, 428, 600]) {
    const given = run({ status, headers: { "retry-after": "5" } });
    assert.deepEqual([given.outcome, given.code, given.delayMs], ["dead-letter", `http-${status}`, null]);
  }
  assert.equal(run({ status: 404, body: "no such thing" }).detail, `GET ${URL_}: 404 no such thing`);
  assert.deepEqual(said(run({ status: 299, body: "well" })), ["well"]);
  const waits = [
    [429, "2", 2000], [503, " 30 ", 30_000], [503, "9".repeat(40), 3_600_000], [500, "2", null], [503, "0", null], [429, "", null],
    [429, "-1", null], [429, "1.5", null], [429, "Fri, 13", null],
  ];
  for (const [status, after, delayMs] of waits) assert.equal(run({ status, headers: { "Retry-After": after } }).delayMs, delayMs, after);
});

test("a detail has the first 200 bytes of text", async () => {
  const host = await load();
  const bodies = [
    ["ä".repeat(151), ` ${"ä".repeat(100)}`],
    [`a${"ä".repeat(150)}`, ` a${"ä".repeat(99)}`],
    [[0xf0, 0x9f, 0x98, 0x80, 0x20, 0xf0, 0x9f, 0x98], " 😀 "],
    [[0xef, 0xbf, 0xbd, 0xf4, 0x8f, 0xbf], " \ufffd"],
    [[0x61, 0xe0], " a"],
    ...[[0x61, 0xff], [0xc0, 0x80], [0xed, 0xa0, 0x80], [0x61, 0xed, 0xa0], [0xf4, 0x90], [0xe0, 0x80], [0x61, 0x80], [0xc3, 0x61]].map((body) => [body, ""]),
  ];
  for (const [body, told] of bodies) {
    host.answer("GET", `${URL_}?token=t`, { status: 500, body: typeof body === "string" ? body : Uint8Array.from(body) });
    assert.equal(host.run({ key: "k", value: "one" }).detail, `GET ${URL_}: 500${told}`);
  }
});

test("what a batch asks for is asked in one call, but for messages that are decided, and is there when each is handled", async () => {
  const host = await load(steps);
  host.answerWith(({ url, body }) => (url.includes("/down/") ? "unreachable" : { body: `${text(body)} ${url}` }));
  const runs = host.runBatch([
    { key: "a", value: "ask" },
    { key: "b", value: "fail" },
    { key: "c" },
    { key: "down", value: "ask" },
    { key: "d", value: "refused" },
    { key: "e", value: "more" },
  ]);
  assert.deepEqual(runs.map(({ outcome, code }) => `${outcome} ${code}`), [
    "done ", "dead-letter unasked", "done ", "retry http-unreachable", "dead-letter unknown-output", "done ",
  ]);
  assert.deepEqual(said(runs[0]), [`ask ${URL_}/a/0`, `ask ${URL_}/a/1`, "0 2"]);
  assert.deepEqual([said(runs[2]), said(runs[5])], [["2 0"], [`more ${URL_}/e/0`, `more ${URL_}/e/1`, "5 2"]]);
  assert.deepEqual(host.requests.map(({ id, call }) => `${id} ${call}`), [
    "in/0/0 0", "in/0/0 0", "in/0/3 0", "in/0/3 0", "in/0/5 0", "in/0/5 0",
  ]);
  assert.equal(text(host.state("a", "prepared")), "ask");
  for (const key of ["b", "down", "d"]) assert.equal(host.state(key, "prepared"), null);
  assert.throws(() => host.runBatch([{ key: "a" }, { key: "a" }]), /one message of a key/);
});

test("memory stays flat over many answers", async () => {
  const host = await load(steps);
  const body = "x".repeat(10_000);
  host.answerWith(() => ({ body, headers: { "content-type": "text/plain" } }));
  const some = (count) => {
    for (let at = 0; at < count; at++) assert.equal(host.run({ key: "k", value: "ask" }).outcome, "done");
    host.requests.length = 0;
  };
  some(500);
  const before = host.memoryBytes;
  some(5000);
  assert.equal(host.memoryBytes, before);
});
