// What the types promise is checked once more: plain JavaScript can pass anything, and the engine ends on what is no value of its
// type, which would be told as a trap.
import { bytes } from "./text.js";

export function named(name: string, what: string): string {
  if (typeof name !== "string") throw new TypeError(`${what} is a string, not ${kindOf(name)}`);
  return name.toWellFormed();
}

export function content(value: Uint8Array | string, what: string): Uint8Array {
  if (typeof value === "string") return bytes(value);
  if (value instanceof Uint8Array) return value;
  throw new TypeError(`${what} is a string or a Uint8Array, not ${kindOf(value)}`);
}

/** Pairs, or the entries of an object. */
export function pairsOf<T>(from: Iterable<readonly [string, T]> | Readonly<Record<string, T>>): (readonly [string, T])[] {
  return Symbol.iterator in from ? Array.from(from as Iterable<readonly [string, T]>) : Object.entries(from);
}

export function kindOf(value: unknown): string {
  return value === null ? "null" : Array.isArray(value) ? "an array" : typeof value;
}
