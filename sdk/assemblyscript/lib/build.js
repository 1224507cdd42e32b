import asc from "assemblyscript/asc";
import { readFile } from "node:fs/promises";
import { basename, dirname, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { stripVTControlCharacters } from "node:util";
import { imports, withExports } from "./module.js";

const PACKAGE = "@keyrail/assemblyscript";
const root = resolve(dirname(fileURLToPath(import.meta.url)), "..");
const ENTRY = "keyrail.ts";

const GUEST = "keyrail:handler/guest@0.1.0";
/** The contract's names are none that a module of the language can export. */
const EXPORTS = {
  open: `${GUEST}#open`,
  process: `${GUEST}#process`,
  openOver: `cabi_post_${GUEST}#open`,
  processOver: `cabi_post_${GUEST}#process`,
};

/** What a handler can't import, and what it takes instead. */
const INSTEAD = [
  ["env.seed", "Math.random: use ctx.random()"],
  ["env.Date.", "Date.now: use ctx.nowMs"],
  ["env.console.", "console: use log"],
];

/** The module around a handler: the contract's exports. */
function entry(handler) {
  return `import * as handler from "./${handler.replace(/\.ts$/, "")}";
import "${PACKAGE}/assembly/abort";
import * as guest from "${PACKAGE}/assembly/guest";
export { cabi_realloc } from "${PACKAGE}/assembly/guest";

export function open(
  handlerName: usize, size: usize, topics: usize, topicCount: usize, outputs: usize, outputCount: usize, config: usize, configCount: usize,
  maxBatch: u32,
): usize {
  const setup = guest.setUp(handlerName, size, topics, topicCount, outputs, outputCount, config, configCount, maxBatch);
  if (isDefined(handler.open)) return guest.opened(handler.open(setup));
  return guest.opened(null);
}

export function process(batch: usize, count: usize): usize {
  if (isDefined(handler.prepare)) return guest.runSteps(batch, count, handler.prepare, handler.handle);
  return guest.run(batch, count, handler.handle);
}

export function openOver(answer: usize): void {
  guest.over();
}

export function processOver(answer: usize): void {
  guest.over();
}
`;
}

export async function build(handler, options = []) {
  const folder = dirname(resolve(handler));
  const said = [];
  const say = { write: (text) => (said.push(String(text)), true) };
  let module = null;
  const read = async (name) => {
    if (name === ENTRY) return entry(basename(handler));
    const own = name.split(`node_modules/${PACKAGE}/`)[1];
    const path = own === undefined ? resolve(folder, name) : resolve(root, own);
    return await readFile(path, "utf8").catch(() => null);
  };
  const names = ["abort", "trace"].flatMap((name) => ["--use", `${name}=~lib/${PACKAGE}/assembly/abort/${name}`]);
  const { error } = await asc.main(
    // Names stay, for traps.
    [ENTRY, "--baseDir", folder, "--outFile", "handler.wasm", "-O3", "--debug", "--runtime", "incremental", ...names, ...options],
    {
      stdout: say,
      stderr: say,
      readFile: read,
      writeFile: (name, contents) => void (name === "handler.wasm" && (module = contents)),
      listFiles: () => [],
    },
  );
  if (error !== null || module === null) {
    // asc colours what it says wherever `CI` is set, whatever it is written to.
    throw new Error(stripVTControlCharacters(said.join("")).trim() || String(error));
  }
  const foreign = imports(module).filter((name) => !name.startsWith("keyrail:handler/"));
  if (foreign.length > 0) {
    const told = foreign.map((name) => INSTEAD.find(([start]) => name.startsWith(start))?.[1] ?? name).join(", ");
    throw new Error(`${relative(process.cwd(), handler)}: what it uses is not there: ${told}`);
  }
  return withExports(module, EXPORTS);
}
