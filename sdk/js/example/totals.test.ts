import assert from "node:assert/strict";
import { test } from "node:test";
import { text } from "@keyrail/sdk";
import { TestHost } from "@keyrail/sdk/testing";
import totals from "./totals.js";

test("each customer has a total of their own", () => {
  const host = new TestHost(totals, { outputs: ["totals"] });
  const run = host.run({ key: "ann", value: "7" });
  assert.equal(run.outcome, "done");
  assert.deepEqual(run.sent.map((sent) => [sent.to, text(sent.key), text(sent.value)]), [["totals", "ann", "7"]]);
  assert.equal(host.run({ key: "bob", value: "1" }).outcome, "done");
  assert.equal(text(host.run({ key: "ann", value: "-2" }).sent[0]?.value ?? null), "5");
});

test("an amount that is no number changes nothing", () => {
  const host = new TestHost(totals, { outputs: ["totals"] });
  host.run({ key: "ann", value: "5" });
  for (const value of ["many", "", null, "1.5"]) {
    const run = host.run({ key: "ann", value });
    assert.equal(run.outcome, "dead-letter");
    assert.equal(run.code, "no-number");
    assert.deepEqual(run.sent, []);
  }
  assert.equal(text(host.state("ann", "total")), "5");
});

test("a total that a number does not hold is a dead letter", () => {
  const host = new TestHost(totals, { outputs: ["totals"] });
  host.run({ key: "ann", value: "5" });
  assert.equal(host.run({ key: "ann", value: `${Number.MAX_SAFE_INTEGER}` }).code, "overflow");
});
