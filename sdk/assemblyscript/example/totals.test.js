import assert from "node:assert/strict";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { build } from "@keyrail/assemblyscript/build";
import { TestHost, text } from "@keyrail/assemblyscript/testing";

const totals = await build(fileURLToPath(new URL("totals.ts", import.meta.url)));
const load = () => TestHost.load(totals, { outputs: ["totals"] });

test("each customer has a total of their own", async () => {
  const host = await load();
  const run = host.run({ key: "ann", value: "7" });
  assert.equal(run.outcome, "done");
  assert.deepEqual(run.sent.map((sent) => [sent.to, text(sent.key), text(sent.value)]), [["totals", "ann", "7"]]);
  assert.equal(host.run({ key: "bob", value: "1" }).outcome, "done");
  assert.equal(text(host.run({ key: "ann", value: "-2" }).sent[0].value), "5");
});

test("an amount that is no number changes nothing", async () => {
  const host = await load();
  host.run({ key: "ann", value: "5" });
  for (const value of ["many", "", null, "1.5", "-"]) {
    const run = host.run({ key: "ann", value });
    assert.deepEqual([run.outcome, run.code, run.sent], ["dead-letter", "no-number", []], value);
  }
  assert.equal(text(host.state("ann", "total")), "5");
});

test("a total of more than 18 digits is a dead letter", async () => {
  const host = await load();
  const most = "9".repeat(18);
  assert.equal(host.run({ key: "ann", value: most }).outcome, "done");
  assert.equal(host.run({ key: "ann", value: "1" }).code, "overflow");
  assert.equal(text(host.state("ann", "total")), most);
});
