import assert from "node:assert/strict";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { build } from "@keyrail/assemblyscript/build";
import { TestHost, text } from "@keyrail/assemblyscript/testing";

const bytes = (text) => new TextEncoder().encode(text);
const handler = await build(fileURLToPath(new URL("handler.ts", import.meta.url)));
const load = (options) => TestHost.load(handler, { outputs: ["out"], ...options });
const said = (run) => run.sent.map((sent) => text(sent.value));

test("what is returned becomes of the message, and what failed is undone", async () => {
  const host = await load();
  const run = (value) => {
    const { outcome, code, detail, delayMs, outage, sent } = host.run({ key: "k", value });
    assert.deepEqual(sent, []);
    return [outcome, code, detail, delayMs, outage];
  };
  assert.deepEqual(run(null), ["skip", "", "", null, false]);
  assert.deepEqual(run("end retry"), ["retry", "busy", "come back", null, false]);
  assert.deepEqual(run("end after"), ["retry", "busy", "", 250, true]);
  assert.deepEqual(run("end dead"), ["dead-letter", "bad", "no customer\ufffd", null, false]);
  assert.equal(host.state("k", "a"), null);
  assert.deepEqual(run("end well"), ["done", "", "", null, false]);
  assert.equal(text(host.state("k", "a")), "staged");
});

test("the first refusal that nobody took is what becomes of the message", async () => {
  const host = await load();
  const run = (value, key = "k") => {
    const { outcome, code, sent } = host.run({ key, value });
    assert.deepEqual(sent, []);
    return `${outcome} ${code}`;
  };
  assert.equal(run("end refused"), "dead-letter unknown-output");
  assert.equal(run("end first"), "dead-letter too-large");
  assert.equal(run("end over"), "dead-letter over-quota");
  assert.equal(run("end well", null), "dead-letter no-key");
  assert.equal(run("end other"), "retry error");
  assert.match(host.run({ key: "k", value: "end other" }).detail, /^\d+ ms are the most/);
  assert.equal(host.state("k", "a"), null);
  const taken = host.run({ key: "k", value: "end taken" });
  assert.deepEqual(said(taken), ["unknown-output: no such output: name it under [output] in the manifest"]);
});

test("a throw is a trap with its words, and the next message finds a new instance", async () => {
  const host = await load();
  const trap = (value) => {
    const run = host.run({ key: "k", value });
    assert.deepEqual([run.outcome, run.sent], ["trap", []]);
    return run.detail;
  };
  assert.match(trap("fail throw"), /^panic: no such rate: 😀, at handler\.ts:\d+:\d+; /);
  assert.match(trap("fail assert"), /^panic: aborted, at handler\.ts:\d+:\d+; /);
  assert.match(trap("fail index"), /^panic: Index out of range, at ~lib\/array\.ts/);
  assert.match(trap("fail depth"), /call stack/);
  assert.equal(host.run({ value: "fail not" }).outcome, "done");
});

test("what is known of a message", async () => {
  const host = await load({ topics: ["in", "more"], config: { currency: "EUR" } });
  const headers = [["a", "1"], ["b", null], ["b", "2"]];
  const input = { key: "k", value: "known", headers, partition: 3, offset: 41, timestampMs: 7, attempt: 1, followsDeadLetter: true };
  const expected = [
    "in", "no timer", "3/41 7 1", "k", "in/3/41", "a=1 b=null b=2", "2", "null", "true 1700000000000 5000", "15469380675999191878",
    "1379100627341518130", "EUR", "out",
  ];
  assert.deepEqual(said(host.run(input)), [expected.join("\n")]);
  const second = said(host.run({ value: "known", topic: "more" }))[0].split("\n");
  assert.deepEqual(second.slice(0, 6), ["more", "no timer", "0/42 1700000000000 1", "no key", "more/0/42", ""]);
  assert.equal(second[8], "false 1700000000000 5000");
});

test("a record has the message's key and timestamp unless told otherwise", async () => {
  const host = await load();
  const run = host.run({ key: "k", value: "sends", headers: [["h", "1"], ["traceparent", "t"]], timestampMs: 5 });
  const own = { to: "out", key: bytes("k"), headers: [["traceparent", bytes("t")]], timestampMs: 5, delayMs: null };
  assert.deepEqual(run.sent, [
    { ...own, value: bytes("") },
    { ...own, value: null },
    { ...own, key: null, value: bytes("a\ufffd"), headers: [...own.headers, ["x", bytes("1")], ["x", null]] },
    { to: "out", key: bytes("k2"), value: null, headers: [["h", bytes("1")], ...own.headers], timestampMs: -1, delayMs: 50 },
  ]);
});

test("text goes through whole, and what is none becomes the replacement character", async () => {
  const host = await load();
  for (const value of ["", "äöü€😀\u0000z", "\ufeffbom", "x".repeat(100_000), "😀".repeat(20_000)]) {
    assert.deepEqual(said(host.run({ value })), [value]);
  }
  const pieces = [[0x61], [0xc3, 0xa4], [0xe2, 0x82, 0xac], [0xf0, 0x9f, 0x98, 0x80], [0xed, 0xa0, 0x80], [0xc0], [0xf4, 0x90], [0xe2, 0x82], [0xff]];
  for (let first = 0; first < pieces.length ** 3; first++) {
    const odd = [first, first / 9, first / 81].flatMap((index) => pieces[Math.floor(index) % 9]);
    assert.deepEqual(said(host.run({ value: Uint8Array.from(odd) })), [new TextDecoder("utf-8", { ignoreBOM: true }).decode(Uint8Array.from(odd))]);
  }
});

test("state belongs to the key, ends where it should, and is paged in the order of its bytes", async () => {
  const host = await load();
  const run = (value, key = "k") => said(host.run({ key, value: `state ${value}` }))[0];
  for (const name of ["b", "a2", "a10", "a😀", "a\uff5e", "a1"]) run(`put ${name} ${name}!`);
  assert.equal(run("get a2"), "a2!");
  assert.equal(run("get a2", "other"), "null");
  assert.equal(run("scan a 9"), "a1=a1! a10=a10! a2=a2! a\uff5e=a\uff5e! a😀=a😀!");
  assert.equal(run("scan a 2 a10"), "a2=a2! a\uff5e=a\uff5e!");
  run("delete a2");
  assert.equal(run("get a2"), "null");
  run("for c 1");
  host.nowMs += 99;
  assert.equal(run("get c"), "1");
  host.nowMs += 1;
  assert.equal(run("get c"), "null");
  assert.equal(host.run({ key: "k", value: "state scan a 1001" }).code, "too-large");
});

test("timers come back as messages of their key, the earliest first", async () => {
  const host = await load();
  host.run({ key: "k", value: "timers some", offset: 7 });
  assert.equal(host.timer("k", "never"), null);
  assert.equal(host.timer("k", "soon").atMs, host.nowMs + 100);
  host.nowMs += 200;
  const told = host.runTimers().map((run) => said(run)[0].split("\n").slice(0, 5));
  assert.deepEqual(told[0], ["no topic", "soon", `0/7 ${host.nowMs - 100} 1`, "k", "timer soon/0/7"]);
  assert.equal(told[1][1], "late");
  assert.equal(host.run({ key: "k", value: "timers far" }).outcome, "done");
  assert.ok(host.timer("k", "far").atMs >= Number.MAX_SAFE_INTEGER);
});

test("metrics and lines of the log reach the host, with the message they are of", async () => {
  const host = await load();
  host.run({ value: "metrics" });
  assert.deepEqual(host.observed("seen"), [1, 2, 5]);
  assert.deepEqual([host.observed("level"), host.observed("sizes")], [[-1], [0.5]]);
  host.run({ value: "log", partition: 2, offset: 5 });
  const place = { partition: "2", offset: "5" };
  assert.deepEqual(host.logged, [
    { level: "info", message: "plain", fields: place },
    { level: "warn", message: "odd", fields: { ...place, n: "1" } },
    { level: "trace", message: "traced 1.5 2.0", fields: {} },
  ]);
});

test("a handler may refuse to open", async () => {
  const host = await load({ config: { refuse: "not today" } });
  assert.equal(host.open(), "not today");
  assert.throws(() => host.run(), /refuses to open: not today/);
});

test("memory stays flat over many messages, and the collector finds what is alive", async () => {
  const host = await load();
  const value = "x".repeat(1000);
  const some = (count) => {
    for (let at = 0; at < count; at++) assert.equal(host.run({ key: "k", value }).outcome, "done");
  };
  some(2000);
  const before = host.memoryBytes;
  some(20_000);
  assert.equal(host.memoryBytes, before);
  for (let at = 0; at < 3; at++) assert.match(said(host.run({ key: "k", value: "garbage" }))[0], /^3450000 100 in\/0\/\d+$/);
  assert.ok(host.memoryBytes < 4 << 20, `${host.memoryBytes}`);
});
