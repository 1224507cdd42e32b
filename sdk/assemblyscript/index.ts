// Keyrail handlers in AssemblyScript.
export { Context, Entry, Header, Message, Output, Setup, State, Timers } from "./assembly/context";
export { Answer, HttpHeader, Request, Response } from "./assembly/http";
export { Level, log } from "./assembly/log";
export { Counter, Gauge, Histogram } from "./assembly/metrics";
export { deadLetter, done, Fate, HostError, Outcome, retry, skip } from "./assembly/outcome";
export { bytes, isText, text } from "./assembly/text";
