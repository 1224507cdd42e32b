// What stands in for parts that the engine lacks.
import assert from "node:assert/strict";
import { test } from "node:test";
import * as codec from "../src/codec.js";
import { console as lines, shown } from "../src/log.js";
import { locate, placesOf } from "../src/places.js";
import { Sequence } from "../src/random.js";
import { useHost, type Host } from "../src/host.js";
import { decode, encoder } from "../src/text.js";

const encode = encoder((base64) => new Uint8Array(Buffer.from(base64, "base64")));

/** Bytes that are often, but not always, UTF-8. */
function oddBytes(chance: Sequence): Uint8Array {
  const pieces = [[0x61], [0xc3, 0xa4], [0xe2, 0x82, 0xac], [0xf0, 0x9f, 0x98, 0x80], [0xed, 0xa0, 0x80], [0xc0], [0xf4, 0x90], [0xe2, 0x82]];
  const found: number[] = [];
  for (let at = 0; at < 12; at++) {
    const piece = pieces[Math.floor(chance.fraction() * pieces.length)] ?? [];
    found.push(...piece, ...(chance.fraction() < 0.1 ? [Math.floor(chance.fraction() * 256)] : []));
  }
  return Uint8Array.from(found);
}

test("UTF-8 is read as the Encoding Standard says", () => {
  const chance = new Sequence("utf-8", 1);
  const [ours, theirs] = [new codec.TextDecoder("utf-8", { fatal: true }), new TextDecoder("utf-8", { fatal: true })];
  for (let round = 0; round < 5000; round++) {
    const bytes = oddBytes(chance);
    assert.equal(new codec.TextDecoder().decode(bytes), new TextDecoder().decode(bytes), bytes.toString());
    let expected: string | null = null;
    try {
      expected = theirs.decode(bytes);
    } catch {
      assert.throws(() => ours.decode(bytes), TypeError, bytes.toString());
    }
    if (expected !== null) assert.equal(ours.decode(bytes), expected);
  }
});

test("UTF-8 is written as the Encoding Standard says", () => {
  const chance = new Sequence("utf-16", 1);
  const units = [0x61, 0xe4, 0x20ac, 0xd83d, 0xde00, 0xfeff, 0];
  for (let round = 0; round < 5000; round++) {
    const length = Math.floor(chance.fraction() * 8);
    const text = String.fromCharCode(...Array.from({ length }, () => units[Math.floor(chance.fraction() * units.length)] ?? 0));
    assert.deepEqual(encode(text), new Uint8Array(new TextEncoder().encode(text)), JSON.stringify(text));
  }
});

test("long text comes through whole", () => {
  for (const text of ["x".repeat(100_000), "ä😀".repeat(30_000)]) assert.equal(decode(encode(text)), text);
});

test("a decoder takes what its standard's takes, and refuses what it can't do", () => {
  const decoder = new codec.TextDecoder();
  const bytes = Uint8Array.of(0xef, 0xbb, 0xbf, 0x61);
  assert.equal(decoder.decode(bytes), "a");
  assert.equal(decoder.decode(bytes.buffer), "a");
  assert.equal(decoder.decode(new DataView(bytes.buffer, 3)), "a");
  assert.equal(new codec.TextDecoder("UTF8", { ignoreBOM: true }).decode(bytes), "\ufeffa");
  assert.equal(decoder.decode(), "");
  assert.throws(() => new codec.TextDecoder("latin1"), RangeError);
  assert.throws(() => decoder.decode(bytes, { stream: true }), TypeError);
  const target = new Uint8Array(4);
  assert.deepEqual(new codec.TextEncoder().encodeInto("aäö", target), { read: 2, written: 3 });
  assert.deepEqual(target, Uint8Array.of(0x61, 0xc3, 0xa4, 0));
});

test("what is printed becomes lines of the log", () => {
  const written: unknown[] = [];
  const log: Host["log"] = { threshold: () => "info", write: (...line) => void written.push(line) };
  useHost({ log } as Host);
  lines.log("a", 1, { b: [2n] });
  lines.debug("below the threshold");
  lines.error(new Error("odd"));
  useHost(null);
  assert.deepEqual(written[0], ["info", 'a 1 {"b":["2"]}', []]);
  const [level, words] = written[1] as [string, string];
  assert.equal(level, "error");
  assert.match(words, /^Error: odd\n/);
  assert.equal(written.length, 2);
});

test("anything can be shown", () => {
  const round: { self?: unknown } = {};
  round.self = round;
  const all = [undefined, null, 1n, Symbol("s"), Uint8Array.of(1, 2), round, "\ud800"].map(shown);
  assert.deepEqual(all, ["undefined", "null", "1", "Symbol(s)", "Uint8Array(2)", "[object Object]", "\ufffd"]);
});

test("a line of the bundle is told as one of the sources", () => {
  // Three lines: none, the first source's 2nd line, the second source's 1st line.
  const map = { sources: ["../a/totals.ts", "lib.ts"], mappings: ";AACA,IAAI;ACDJ" };
  const places = placesOf(map, (source) => source !== "lib.ts");
  assert.deepEqual([1, 2, 3, 4].map((line) => locate(places, line)), [null, "totals.ts:2", null, null]);
  assert.equal(locate(placesOf(map, () => true), 3), "lib.ts:1");
});
