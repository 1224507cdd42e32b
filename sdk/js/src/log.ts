import { currentHost, currentMessage, type Level, type Pairs } from "./host.js";

const LEVELS: readonly Level[] = ["trace", "debug", "info", "warn", "error", "critical"];
/** Lines that modules may log while they are loaded, when nobody takes them yet. */
const MAX_EARLY = 100;
const early: [Level, string, Pairs][] = [];

/** What a line may say beside its words. */
export type Fields = Readonly<Record<string, unknown>>;

function write(level: Level, message: string, fields: Fields): void {
  const host = currentHost();
  if (host !== null && LEVELS.indexOf(level) < LEVELS.indexOf(host.log.threshold())) return;
  const running = currentMessage();
  const place: Pairs = running === null ? [] : [["partition", `${running.partition}`], ["offset", `${running.offset}`]];
  const own = Object.entries(fields).map(([name, value]): [string, string] => [name.toWellFormed(), shown(value)]);
  const line: [Level, string, Pairs] = [level, message.toWellFormed(), [...place, ...own]];
  if (host !== null) host.log.write(...line);
  else if (early.length < MAX_EARLY) early.push(line);
}

/** Hands on what was logged before there was a host. */
export function writeEarly(): void {
  const host = currentHost();
  if (host !== null) for (const line of early.splice(0)) host.log.write(...line);
}

function at(level: Level): (message: string, fields?: Fields) => void {
  return (message, fields = {}) => write(level, message, fields);
}

/** Lines of the log, with the partition and the offset of the message that is run. Not undone if it fails. */
export const log = {
  trace: at("trace"),
  debug: at("debug"),
  info: at("info"),
  warn: at("warn"),
  error: at("error"),
  critical: at("critical"),
};

/** A value for people: text as it is, errors with their stack, all else as JSON. */
export function shown(value: unknown): string {
  if (typeof value === "string") return value.toWellFormed();
  if (value instanceof Error) return `${value.name}: ${value.message}${value.stack ? `\n${value.stack}` : ""}`.toWellFormed();
  if (typeof value !== "object" || value === null) return String(value);
  if (value instanceof Uint8Array) return `Uint8Array(${value.length})`;
  try {
    const json = JSON.stringify(value, (_, part: unknown) => (typeof part === "bigint" ? `${part}` : part));
    return json ?? Object.prototype.toString.call(value);
  } catch {
    // It holds itself, or has a `toJSON` that fails.
    return Object.prototype.toString.call(value);
  }
}

/** What the handler's own code and its libraries print. */
export const console = {
  trace: lines("trace"),
  debug: lines("debug"),
  log: lines("info"),
  info: lines("info"),
  warn: lines("warn"),
  error: lines("error"),
};

function lines(level: Level): (...values: unknown[]) => void {
  return (...values) => write(level, values.map(shown).join(" "), {});
}
