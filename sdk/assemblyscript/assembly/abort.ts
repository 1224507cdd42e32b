// What the compiler calls by itself.
// IMPORTANT: nothing here, nor in what is imported here, has variables that are objects. The compiler reaches this file while it
// compiles the collector, whose own variables would be set later than they.
import { mark, OUT, putText, release } from "./abi";
import { logWrite } from "./contract";

/** Levels of the contract. */
const TRACE: i32 = 0;
const ERROR: i32 = 4;
/** The words of an abort, without an allocation: there may be no room for one. */
const LAST_WORDS: usize = memory.data(4096);
const MESSAGE_UNITS: i32 = 1000;
const FILE_UNITS: i32 = 300;

/** What `throw` and a failed assertion end in: a trap, whose words the host finds in the log. */
export function abort(message: string | null, file: string | null, line: u32, column: u32): void {
  let at = words(LAST_WORDS, "panic: ", MESSAGE_UNITS);
  at = words(at, message === null ? "aborted" : message, MESSAGE_UNITS);
  at = words(at, ", at ", MESSAGE_UNITS);
  at = words(at, file === null ? "a place unknown" : file, FILE_UNITS);
  at = number(words(at, ":", 1), line);
  at = number(words(at, ":", 1), column);
  logWrite(ERROR, LAST_WORDS, at - LAST_WORDS, 0, 0);
  unreachable();
}

/** Three bytes a unit at most, so that all of them fit. */
function words(at: usize, text: string, most: i32): usize {
  const units = min(text.length, most);
  return at + String.UTF8.encodeUnsafe(changetype<usize>(text), units, at, false, String.UTF8.ErrorMode.REPLACE);
}

function number(at: usize, value: u32): usize {
  if (value >= 10) at = number(at, value / 10);
  store<u8>(at, <u8>(48 + (value % 10)));
  return at + 1;
}

/** What `trace` of the language's library ends in: a line of the log. */
export function trace(message: string, count: i32 = 0, a: f64 = 0, b: f64 = 0, c: f64 = 0, d: f64 = 0, e: f64 = 0): void {
  const all: f64[] = [a, b, c, d, e];
  const since = mark();
  let line = message;
  for (let i = 0; i < count; i++) line += " " + all[i].toString();
  putText(OUT, line);
  logWrite(TRACE, load<u32>(OUT), load<u32>(OUT, 4), 0, 0);
  release(since);
}
