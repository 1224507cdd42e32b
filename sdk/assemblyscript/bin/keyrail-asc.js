#!/usr/bin/env node
import { writeFile } from "node:fs/promises";
import { parseArgs } from "node:util";
import { build } from "../lib/build.js";

const USAGE = "usage: keyrail-asc HANDLER.ts [-o FILE.wasm] [-- OPTIONS OF asc]";

async function main() {
  const own = process.argv.slice(2);
  const rest = own.includes("--") ? own.splice(own.indexOf("--")).slice(1) : [];
  const { values, positionals } = parseArgs({
    args: own,
    allowPositionals: true,
    options: { output: { type: "string", short: "o", default: "handler.wasm" }, help: { type: "boolean", short: "h", default: false } },
  });
  if (values.help) {
    console.log(USAGE);
    return;
  }
  if (positionals.length !== 1) throw new Error(USAGE);
  const module = await build(positionals[0], rest);
  await writeFile(values.output, module);
  console.log(`${values.output}: ${Math.ceil(module.length / 1000)} KB`);
}

main().catch((error) => {
  console.error(error.message);
  process.exitCode = 1;
});
