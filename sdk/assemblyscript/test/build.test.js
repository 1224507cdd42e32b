import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { build } from "@keyrail/assemblyscript/build";

/** Builds a handler whose function does that. */
async function built(body) {
  const folder = await mkdtemp(join(tmpdir(), "keyrail-"));
  try {
    const head = 'import { Context, done, Message, Outcome } from "@keyrail/assemblyscript";\n';
    const path = join(folder, "handler.ts");
    await writeFile(path, `${head}export function handle(message: Message, ctx: Context): Outcome { ${body} return done(); }\n`);
    return await WebAssembly.compile(await build(path, ["--optimizeLevel", "0"]));
  } finally {
    await rm(folder, { recursive: true });
  }
}

test("a handler imports what it uses of the contract, and exports the contract", async () => {
  const module = await built('ctx.state.putText("n", message.offset.toString());');
  const imports = WebAssembly.Module.imports(module).map(({ module, name }) => `${module} ${name}`);
  assert.ok(imports.includes("keyrail:handler/state@0.1.0 put"));
  assert.ok(imports.every((name) => name.startsWith("keyrail:handler/")), imports.join());
  assert.ok(!imports.some((name) => name.includes("/http@")), imports.join());
  const exports = WebAssembly.Module.exports(module).map(({ name }) => name);
  for (const name of ["open", "process"]) {
    assert.ok(exports.includes(`keyrail:handler/guest@0.1.0#${name}`), exports.join());
    assert.ok(exports.includes(`cabi_post_keyrail:handler/guest@0.1.0#${name}`), exports.join());
  }
});

test("what is not there is told when it is built, with what to take instead", async () => {
  await assert.rejects(built("Math.random();"), /Math\.random: use ctx\.random\(\)/);
  await assert.rejects(built("Date.now();"), /Date\.now: use ctx\.nowMs/);
  await assert.rejects(built('console.log("x");'), /console: use log/);
});

test("faults of types are told with their place", async () => {
  await assert.rejects(built("const n: i32 = message.value;"), /ERROR TS2322[^]*handler\.ts\(2,/);
});
