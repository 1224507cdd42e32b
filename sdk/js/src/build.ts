#!/usr/bin/env node
// keyrail-build: bundles a handler with esbuild and makes a component of it on QuickJS.
import { componentize } from "componentize-qjs";
import { build } from "esbuild";
import { realpathSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { dirname, resolve, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { placesOf } from "./places.js";

const USAGE = "usage: keyrail-build HANDLER [-o FILE.wasm]";
const own = dirname(fileURLToPath(import.meta.url));
const wit = resolve(own, "../../wit");

/** One file of JavaScript, with a table of the lines that its own come from. */
async function bundle(handler: string): Promise<string> {
  const result = await build({
    stdin: {
      contents: `import { start } from ${JSON.stringify(resolve(own, "guest.js"))};
import handler from ${JSON.stringify(resolve(handler))};
export const guest = start(handler, () => places);`,
      resolveDir: process.cwd(),
    },
    // One copy of the SDK, or its classes are not those of the handler.
    alias: { "@keyrail/sdk": resolve(own, "index.js") },
    bundle: true,
    external: ["keyrail:*"],
    format: "esm",
    platform: "neutral",
    mainFields: ["module", "main"],
    conditions: ["import", "default"],
    target: "es2023",
    charset: "utf8",
    sourcemap: "external",
    sourcesContent: false,
    outfile: "handler.js",
    write: false,
    logLevel: "silent",
  });
  const file = (end: string): string => result.outputFiles.find((file) => file.path.endsWith(end))?.text ?? "";
  const map = JSON.parse(file(".map")) as { sources: string[]; mappings: string };
  const isOwn = (source: string): boolean => {
    const path = resolve(source);
    return source !== "<stdin>" && !path.startsWith(own + sep);
  };
  const places = placesOf(map, isOwn);
  return `${file("handler.js")}\nconst places = ${JSON.stringify(places)};\n`;
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      output: { type: "string", short: "o", default: "handler.wasm" },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  if (values.help) {
    console.log(USAGE);
    return;
  }
  const [handler, ...more] = positionals;
  if (handler === undefined || more.length > 0) throw new Error(USAGE);
  const source = await bundle(realpathSync(handler));
  const { component } = await componentize({ witPath: wit, jsSource: source, sync: true });
  await writeFile(values.output, component);
  console.log(`${values.output}: ${Math.round(component.length / 1000)} KB`);
}

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
});
